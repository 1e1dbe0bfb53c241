#include "fs/socket/net_ids.h"

#include <cerrno>
#include <map>

#include "fs/socket/net_namespace.h"
#include "sentry/base/mutex.h"

namespace ringwall::net_ids {
namespace {

struct Known {
  NetNamespace* net = nullptr;  // taken out before it ends, so that TryAddRef may be tried
  std::map<int32_t, const net::Stack*> ids;

  int32_t IdOf(const net::Stack& peer) const {
    for (const auto& [id, stack] : ids) {
      if (stack == &peer) return id;
    }
    return kNone;
  }
  int32_t Least() const {
    int32_t least = 0;
    for (const auto& [id, stack] : ids) {
      if (id != least) break;
      least++;
    }
    return least;
  }
};
using Table = std::map<const net::Stack*, Known>;

Guarded<Table, LockClass::kLeaf>& All() {
  static auto* table = new Guarded<Table, LockClass::kLeaf>;  // outlives static destruction
  return *table;
}

// Null unless both live.
Known* Pair(Table& t, const net::Stack& of, const net::Stack& peer) {
  const auto at = t.find(&of);
  return at == t.end() || !t.contains(&peer) ? nullptr : &at->second;
}

}  // namespace

void Add(NetNamespace& net) {
  All().With([&](Table& t) { t[&net.stack()].net = &net; });
}

std::vector<std::pair<const net::Stack*, int32_t>> Remove(NetNamespace& net) {
  return All().With([&](Table& t) {
    t.erase(&net.stack());
    std::vector<std::pair<const net::Stack*, int32_t>> knew;
    for (auto& [stack, known] : t) {
      const int32_t id = known.IdOf(net.stack());
      if (id == kNone) continue;
      known.ids.erase(id);
      knew.emplace_back(stack, id);
    }
    return knew;
  });
}

int32_t Find(const net::Stack& of, const net::Stack& peer) {
  return All().With([&](Table& t) {
    const Known* known = Pair(t, of, peer);
    return known == nullptr ? kNone : known->IdOf(peer);
  });
}

Given FindOrGive(const net::Stack& of, const net::Stack& peer) {
  return All().With([&](Table& t) -> Given {
    Known* known = Pair(t, of, peer);
    if (known == nullptr) return {};
    if (const int32_t id = known->IdOf(peer); id != kNone) return {id, false};
    const int32_t id = known->Least();
    known->ids[id] = &peer;
    return {id, true};
  });
}

Result<int32_t> Give(const net::Stack& of, const net::Stack& peer, int32_t wanted) {
  return All().With([&](Table& t) -> Result<int32_t> {
    Known* known = Pair(t, of, peer);
    if (known == nullptr) return Errno(ENOSPC);
    if (known->IdOf(peer) != kNone) return Errno(EEXIST);
    const int32_t id = wanted < 0 ? known->Least() : wanted;
    if (known->ids.contains(id)) return Errno(ENOSPC);
    known->ids[id] = &peer;
    return id;
  });
}

RefPtr<NetNamespace> Get(const net::Stack& of, int32_t id) {
  return All().With([&](Table& t) -> RefPtr<NetNamespace> {
    const auto at = t.find(&of);
    if (at == t.end()) return nullptr;
    const auto peer = at->second.ids.find(id);
    if (peer == at->second.ids.end()) return nullptr;
    const auto known = t.find(peer->second);
    if (known == t.end() || !known->second.net->TryAddRef()) return nullptr;
    return RefPtr<NetNamespace>::Adopt(known->second.net);
  });
}

std::vector<std::pair<int32_t, int32_t>> List(const net::Stack& of, const net::Stack& seen_by) {
  return All().With([&](Table& t) {
    std::vector<std::pair<int32_t, int32_t>> out;
    const auto at = t.find(&of), other = t.find(&seen_by);
    if (at == t.end()) return out;
    for (const auto& [id, stack] : at->second.ids) {
      out.emplace_back(id, other == t.end() ? kNone : other->second.IdOf(*stack));
    }
    return out;
  });
}

}  // namespace ringwall::net_ids
