#include "netstack/ip/ports.h"

#include <algorithm>

#include "sentry/base/check.h"

namespace ringwall::net {

bool AddressesOverlap(const PortBinding& a, const PortBinding& b) {
  if (a.dual || b.dual) return true;
  if (a.addr.family() != b.addr.family()) return false;
  return a.addr.IsAny() || b.addr.IsAny() || a.addr == b.addr;
}

bool PortTable::Conflicts(uint16_t port, const PortBinding& b) const {
  auto it = table_.find(port);
  if (it == table_.end()) return false;
  for (const Counted& c : it->second) {
    const PortBinding& have = c.binding;
    if (have.by_connect && b.by_connect) continue;
    if (have.device != 0 && b.device != 0 && have.device != b.device) continue;
    if (!AddressesOverlap(have, b)) continue;
    if (have.reuse_port && b.reuse_port) continue;
    if (have.reuse_addr && b.reuse_addr && (!tcp_ || !have.listening)) continue;
    return true;
  }
  return false;
}

void PortTable::Add(uint16_t port, const PortBinding& b) {
  std::vector<Counted>& v = table_[port];
  for (Counted& c : v) {
    if (c.binding == b) {
      c.users++;
      return;
    }
  }
  v.push_back({b, 1});
}

void PortTable::Remove(uint16_t port, const PortBinding& b) {
  auto it = table_.find(port);
  RW_CHECK(it != table_.end());
  auto c = std::find_if(it->second.begin(), it->second.end(),
                        [&](const Counted& x) { return x.binding == b; });
  RW_CHECK(c != it->second.end());
  if (--c->users != 0) return;
  it->second.erase(c);
  if (it->second.empty()) table_.erase(it);
}

bool PortTable::OnlyConnects(uint16_t port) const {
  auto it = table_.find(port);
  if (it == table_.end()) return true;
  return std::all_of(it->second.begin(), it->second.end(),
                     [](const Counted& c) { return c.binding.by_connect; });
}

}  // namespace ringwall::net
