#include "netstack/filter/nft.h"

#include <algorithm>

#include "netstack/stack.h"

namespace ringwall::net {
namespace {

constexpr size_t kMostDepth = 16;  // NFT_JUMP_STACK_SIZE
// Rules that one packet may pass: chains that jump to each other in a row reach any number of them.
constexpr size_t kMostSteps = 1 << 18;

}  // namespace

std::optional<uint8_t> NftRegister(uint32_t number, size_t n) {
  size_t at;
  if (number >= 1 && number <= 4) {
    at = (number - 1) * 16;
  } else if (number >= 8 && number <= 23) {
    at = (number - 8) * 4;
  } else {
    return std::nullopt;
  }
  if (n == 0 || at + n > kNftRegBytes) return std::nullopt;
  return static_cast<uint8_t>(at);
}

// ---- Sets ----

void NftSet::Expire(TimePoint now) {
  std::erase_if(elements, [&](const auto& kv) { return kv.second.expires <= now; });
}

NftElement* NftSet::Find(ByteSpan key, TimePoint now) {
  const auto alive = [&](NftElement& e) { return e.expires > now; };
  std::vector<uint8_t> k(key.begin(), key.end());
  if ((flags & kNftSetInterval) != 0 && fields.size() > 1) {
    // A concatenation of intervals: each field between its ends.
    for (auto& [at, e] : elements) {
      const std::vector<uint8_t>& high = e.key_end.empty() ? e.key : e.key_end;
      size_t from = 0;
      bool inside = alive(e);
      for (size_t i = 0; inside && i < fields.size(); i++) {
        const size_t n = fields[i];
        inside = from + n <= k.size() && from + n <= high.size() &&
                 std::memcmp(&k[from], &e.key[from], n) >= 0 &&
                 std::memcmp(&k[from], &high[from], n) <= 0;
        from += (n + 3) & ~size_t{3};
      }
      if (inside) return &e;
    }
  } else if ((flags & kNftSetInterval) != 0) {
    auto it = elements.upper_bound({k, true});
    while (it != elements.begin()) {
      --it;
      if (!alive(it->second)) continue;
      if ((it->second.flags & kNftElemIntervalEnd) == 0) return &it->second;
      break;
    }
  } else {
    auto it = elements.find({k, true});
    if (it != elements.end() && alive(it->second)) return &it->second;
  }
  return catchall && alive(*catchall) ? &*catchall : nullptr;
}

const NftElement* NftSet::FindEnd(ByteSpan key) const {
  const auto it = elements.lower_bound({{key.begin(), key.end()}, false});
  const bool ends = it != elements.end() && (it->second.flags & kNftElemIntervalEnd) != 0;
  return ends ? &it->second : nullptr;
}

// ---- The ruleset ----

NftTable* NftRuleset::Find(NftFamily family, std::string_view name) {
  for (NftTable& t : tables) {
    if (t.family == family && t.name == name) return &t;
  }
  return nullptr;
}

size_t NftTable::ChainUses(const NftChain& c) const {
  size_t n = c.rules.size();
  const auto count = [&](const NftVerdict& v) { n += v.chain == c.name; };
  for (const auto& [name, chain] : chains) {
    for (const Ref<NftRule>& r : chain.rules) {
      for (const Ref<NftExpr>& e : r->exprs) {
        std::vector<const NftVerdict*> to;
        e->Chains(&to);
        for (const NftVerdict* v : to) count(*v);
      }
    }
  }
  for (const auto& [name, s] : sets) {
    for (const auto& [key, e] : s.elements) count(e.verdict);
    if (s.catchall) count(s.catchall->verdict);
  }
  return n;
}

size_t NftTable::SetUses(std::string_view set) const {
  size_t n = 0;
  for (const auto& [name, chain] : chains) {
    for (const Ref<NftRule>& r : chain.rules) {
      for (const Ref<NftExpr>& e : r->exprs) n += e->SetName() == set;
    }
  }
  return n;
}

size_t NftTable::ObjectUses(std::string_view object) const {
  size_t n = 0;
  for (const auto& [name, chain] : chains) {
    for (const Ref<NftRule>& r : chain.rules) {
      for (const Ref<NftExpr>& e : r->exprs) n += e->ObjectName() == object;
    }
  }
  for (const auto& [name, s] : sets) {
    for (const auto& [key, e] : s.elements) n += e.object == object;
  }
  return n;
}

NetResult<void> NftRuleset::Validate() {
  for (NftTable& t : tables) {
    // Depth first; a chain is done with the longest way below it.
    std::map<std::string, size_t, std::less<>> depth;
    std::set<std::string, std::less<>> open;
    struct Visit {
      NftChain* chain;
      std::vector<std::string> next;
      size_t at = 0, below = 0;
    };
    const auto targets = [&](NftChain& c, std::vector<std::string>* out) {
      const auto add = [&](const NftVerdict& v) {
        if (v.code == kNftJump || v.code == kNftGoto) out->push_back(v.chain);
      };
      for (const Ref<NftRule>& r : c.rules) {
        for (const Ref<NftExpr>& e : r->exprs) {
          std::vector<const NftVerdict*> to;
          e->Chains(&to);
          for (const NftVerdict* v : to) add(*v);
          NftSet* s = e->SetName().empty() ? nullptr : t.FindSet(e->SetName());
          if (s == nullptr || !s->verdicts()) continue;
          for (const auto& [key, element] : s->elements) add(element.verdict);
          if (s->catchall) add(s->catchall->verdict);
        }
      }
    };
    for (auto& [name, start] : t.chains) {
      // As Linux: what no packet comes to is not looked at.
      if (!start.base || depth.contains(name)) continue;
      std::vector<Visit> work;
      work.push_back({&start, {}});
      targets(start, &work.back().next);
      open.insert(name);
      while (!work.empty()) {
        Visit& v = work.back();
        if (v.at == v.next.size()) {
          const size_t below = v.below;
          depth[v.chain->name] = below;
          open.erase(v.chain->name);
          work.pop_back();
          if (!work.empty()) work.back().below = std::max(work.back().below, below + 1);
          continue;
        }
        const std::string& to = v.next[v.at++];
        NftChain* c = t.FindChain(to);
        if (c == nullptr) return NetError::kNotFound;
        if (c->base) return NetError::kOpNotSupp;
        if (open.contains(to)) return NetError::kLoop;
        if (auto done = depth.find(to); done != depth.end()) {
          v.below = std::max(v.below, done->second + 1);
          continue;
        }
        if (work.size() >= kMostDepth) return NetError::kLoop;
        open.insert(to);
        work.push_back({c, {}});
        targets(*c, &work.back().next);
      }
      if (depth[name] >= kMostDepth) return NetError::kLoop;
    }
  }
  return {};
}

// ---- The walk ----

void Nft::Commit(NftRuleset fresh) {
  ruleset_ = std::move(fresh);
  ruleset_.generation++;
  Collect();
}

void Nft::Collect() {
  base_chains_.clear();
  layers_ = {};
  for (size_t i = 0; i < ruleset_.tables.size(); i++) {
    NftTable& t = ruleset_.tables[i];
    if ((t.flags & 1) != 0) continue;  // dormant
    for (const std::string& name : t.chain_order) {
      NftChain* c = t.FindChain(name);
      if (c == nullptr || !c->base) continue;
      NftFamily layer = t.family;
      if (layer == NftFamily::kIp || layer == NftFamily::kIp6) layer = NftFamily::kInet;
      if (layer == NftFamily::kInet && c->base->number == kNftInetIngress) layer = NftFamily::kNetdev;
      layers_[static_cast<size_t>(layer)] = true;
      base_chains_.push_back({i, name, *c->base, c->type == "nat", layer});
    }
  }
  std::stable_sort(base_chains_.begin(), base_chains_.end(), [](const Base& a, const Base& b) {
    return a.hook.priority < b.hook.priority;
  });
}

bool Nft::SeesDevice(std::string_view name) const {
  return std::any_of(base_chains_.begin(), base_chains_.end(), [&](const Base& b) {
    return std::find(b.hook.devices.begin(), b.hook.devices.end(), name) != b.hook.devices.end();
  });
}

bool Nft::RunLink(NftPacket& p, uint32_t number) {
  for (const Base& b : base_chains_) {
    if (b.layer != p.layer) continue;
    if (p.layer == NftFamily::kNetdev) {
      const bool inet = ruleset_.tables[b.table].family == NftFamily::kInet;
      // inet's ingress has IP packets only (nft_do_chain_inet_ingress()).
      if (inet && (number != kNftIngress || !p.packet.is_ip())) continue;
      if (!inet && b.hook.number != number) continue;
      const std::vector<std::string>& d = b.hook.devices;
      if (std::find(d.begin(), d.end(), p.device) == d.end()) continue;
    } else if (b.hook.number != number) {
      continue;
    }
    if (!RunBase(b, p)) return false;
  }
  return true;
}

bool Nft::Run(NftPacket& p, int32_t from, int32_t to) {
  for (const Base& b : base_chains_) {
    if (b.nat || b.hook.hook != p.hook || b.layer != p.layer) continue;
    if ((b.hook.priority <= from && from != kFirst) || b.hook.priority > to) continue;
    if (!RunBase(b, p)) return false;
  }
  return true;
}

bool Nft::RunNat(NftPacket& p) {
  p.nat = true;
  for (const Base& b : base_chains_) {
    if (!b.nat || b.hook.hook != p.hook || b.layer != p.layer) continue;
    if (!RunBase(b, p)) return false;
    if (p.translated) break;
  }
  return true;
}

// nft_do_chain().
bool Nft::RunBase(const Base& b, NftPacket& given) {
  NftTable& table = ruleset_.tables[b.table];
  if (b.layer == NftFamily::kInet && !table.Sees(given.packet.is_v4())) return true;
  NftPacket p{given.packet, given.stack, given.conntrack, given.hook, table, given.time, b.nat, false,
              given.layer, given.device};
  struct Place {
    NftChain* chain;
    size_t rule;
  };
  std::array<Place, kMostDepth> stack;
  size_t depth = 0;
  NftChain* base = table.FindChain(b.chain);
  if (base == nullptr) return true;
  Place at{base, 0};
  NftRegs regs;
  size_t steps = 0;
  const auto end = [&](bool accept) {
    given.translated |= p.translated;
    return accept;
  };
  for (;;) {
    if (at.rule >= at.chain->rules.size()) {
      if (depth != 0) {
        at = stack[--depth];
        continue;
      }
      base->packets++;
      base->bytes += p.packet.counted();
      return end(base->policy != kNftDrop);
    }
    // Kept: an expression may change sets, never rules; the rules change between packets only.
    if (++steps > kMostSteps) return end(false);
    const NftRule& rule = *at.chain->rules[at.rule++];
    regs.verdict = nullptr;
    bool match = true;
    for (const Ref<NftExpr>& e : rule.exprs) {
      match = e->Eval(regs, p);
      if (!match || regs.verdict != nullptr) break;
    }
    if (!match || regs.verdict == nullptr) continue;
    switch (regs.verdict->code) {
      case kNftAccept: return end(true);
      case kNftContinue:
      case kNftBreak: continue;
      case kNftReturn:
        if (depth != 0) {
          at = stack[--depth];
        } else {
          at.rule = at.chain->rules.size();
        }
        continue;
      case kNftJump:
      case kNftGoto: {
        NftChain* to = table.FindChain(regs.verdict->chain);
        if (to == nullptr) return end(false);
        if (regs.verdict->code == kNftJump) {
          if (depth == kMostDepth) return end(false);
          stack[depth++] = at;
        }
        at = {to, 0};
        continue;
      }
      default:
        return end(false);  // drop, and a queue that nobody reads
    }
  }
}

}  // namespace ringwall::net
