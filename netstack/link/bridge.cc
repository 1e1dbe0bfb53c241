#include "netstack/link/bridge.h"

#include <cstring>

namespace ringwall::net {
namespace {

uint64_t KeyOf(const MacAddr& mac) {
  uint64_t key = 0;
  std::memcpy(&key, mac.b.data(), mac.b.size());
  return key;
}

}  // namespace

void Bridge::Learn(const MacAddr& mac, IfIndex port, TimePoint now) {
  if (mac.IsMulticast() || mac.IsZero()) return;
  auto it = table_.find(KeyOf(mac));
  if (it != table_.end()) {
    if (it->second.permanent) return;
    it->second.port = port;
    it->second.updated = now;
    return;
  }
  if (table_.size() >= kMaxEntries) {
    absl::erase_if(table_, [&](const auto& kv) {
      return !kv.second.permanent && kv.second.updated + kAgeing <= now;
    });
    if (table_.size() >= kMaxEntries) return;  // a flood of addresses must not grow it
  }
  table_[KeyOf(mac)] = {mac, port, false, now};
}

std::optional<IfIndex> Bridge::Find(const MacAddr& mac, TimePoint now) const {
  auto it = table_.find(KeyOf(mac));
  if (it == table_.end()) return std::nullopt;
  if (!it->second.permanent && it->second.updated + kAgeing <= now) return std::nullopt;
  return it->second.port;
}

void Bridge::Set(const MacAddr& mac, IfIndex port, TimePoint now) {
  table_[KeyOf(mac)] = {mac, port, true, now};
}

bool Bridge::Remove(const MacAddr& mac, IfIndex port) {
  auto it = table_.find(KeyOf(mac));
  if (it == table_.end() || it->second.port != port) return false;
  table_.erase(it);
  return true;
}

void Bridge::ForgetPort(IfIndex port) {
  absl::erase_if(table_, [&](const auto& kv) { return kv.second.port == port; });
}

std::vector<FdbEntry> Bridge::List(TimePoint now) const {
  std::vector<FdbEntry> out;
  for (const auto& [key, e] : table_) {
    if (e.permanent || e.updated + kAgeing > now) out.push_back(e);
  }
  return out;
}

}  // namespace ringwall::net
