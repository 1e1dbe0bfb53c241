#include "netstack/link/neighbour.h"

#include <utility>

namespace ringwall::net {

NeighbourTable::Entry* NeighbourTable::FindOrCreate(const IpAddr& addr, TimePoint now) {
  auto it = table_.find(addr);
  if (it != table_.end()) return it->second.get();
  if (table_.size() >= kMaxEntries && !MakeRoom(now)) return nullptr;
  return table_.emplace(addr, std::make_unique<Entry>(*this, addr)).first->second.get();
}

// A scan of addresses must not push out neighbours that talk: failed and unresolved entries go
// first, then the stale one unused for longest.
bool NeighbourTable::MakeRoom(TimePoint now) {
  Entry* victim = nullptr;
  for (auto& [addr, e] : table_) {
    if (e->state == Nud::kFailed || e->state == Nud::kNone) {
      victim = e.get();
      break;
    }
    if (e->state != Nud::kStale && e->state != Nud::kIncomplete) continue;
    if (victim == nullptr || e->used < victim->used) victim = e.get();
  }
  if (victim == nullptr) return false;
  (void)now;
  table_.erase(IpAddr(victim->addr));
  return true;
}

void NeighbourTable::Send(const IpAddr& addr, Packet packet, TimePoint now) {
  Entry* e = FindOrCreate(addr, now);
  if (e == nullptr) return owner_.OnUnreachable(addr, std::move(packet));
  e->used = now;
  switch (e->state) {
    case Nud::kStale:
      SetState(*e, Nud::kDelay, now);  // RFC 4861 7.3.3
      [[fallthrough]];
    case Nud::kReachable:
    case Nud::kDelay:
    case Nud::kProbe:
    case Nud::kPermanent:
    case Nud::kNoArp:
      return owner_.SendResolved(std::move(packet), addr, e->mac);
    case Nud::kNone:
    case Nud::kFailed:
      SetState(*e, Nud::kIncomplete, now);
      [[fallthrough]];
    case Nud::kIncomplete:
      // RFC 4861 7.2.2: keep the newest.
      while (!e->pending.empty() && (e->pending.size() >= kMaxPending ||
                                     e->pending_bytes + packet.size() > kMaxPendingBytes)) {
        e->pending_bytes -= e->pending.front().size();
        e->pending.erase(e->pending.begin());
      }
      e->pending_bytes += packet.size();
      e->pending.push_back(std::move(packet));
      return;
  }
}

void NeighbourTable::SetState(Entry& e, Nud state, TimePoint now) {
  e.state = state;
  switch (state) {
    case Nud::kIncomplete:
      e.probes = 1;
      e.timer.Set(timers_, now + kRetrans);
      owner_.SendSolicit(e.addr, std::nullopt);
      break;
    case Nud::kProbe:
      e.probes = 1;
      e.timer.Set(timers_, now + kRetrans);
      owner_.SendSolicit(e.addr, e.mac);
      break;
    case Nud::kReachable:
      e.timer.Set(timers_, now + kReachable);
      break;
    case Nud::kDelay:
      e.timer.Set(timers_, now + kDelayFirstProbe);
      break;
    default:
      e.timer.Cancel();
      break;
  }
  owner_.OnNeighbourChange(InfoOf(e), false);
}

void NeighbourTable::SetMac(Entry& e, const MacAddr& mac, Nud state, TimePoint now) {
  e.mac = mac;
  SetState(e, state, now);
  e.pending_bytes = 0;
  for (Packet& p : std::exchange(e.pending, {})) {
    owner_.SendResolved(std::move(p), e.addr, e.mac);
  }
}

void NeighbourTable::Learn(const IpAddr& addr, const MacAddr& mac, TimePoint now, bool create) {
  auto it = table_.find(addr);
  Entry* e = it == table_.end() ? nullptr : it->second.get();
  if (e == nullptr) {
    if (!create) return;
    e = FindOrCreate(addr, now);
    if (e == nullptr) return;
    e->used = now;
  }
  if (e->state == Nud::kPermanent || e->state == Nud::kNoArp) return;
  const bool known = e->state == Nud::kReachable || e->state == Nud::kStale ||
                     e->state == Nud::kDelay || e->state == Nud::kProbe;
  if (known && e->mac == mac) return;
  SetMac(*e, mac, Nud::kStale, now);
}

void NeighbourTable::OnAdvert(const IpAddr& addr, std::optional<MacAddr> mac, bool solicited,
                              bool override_, bool router, TimePoint now) {
  auto it = table_.find(addr);
  if (it == table_.end()) return;
  Entry& e = *it->second;
  if (e.state == Nud::kPermanent || e.state == Nud::kNoArp || e.state == Nud::kNone || e.state == Nud::kFailed) return;
  if (e.state == Nud::kIncomplete) {
    if (!mac) return;
    e.router = router;
    SetMac(e, *mac, solicited ? Nud::kReachable : Nud::kStale, now);
    return;
  }
  const bool different = mac && *mac != e.mac;
  if (different && !override_) {
    if (e.state == Nud::kReachable) SetState(e, Nud::kStale, now);
    return;
  }
  e.router = router;
  if (different) e.mac = *mac;
  if (solicited) {
    SetState(e, Nud::kReachable, now);
  } else if (different) {
    SetState(e, Nud::kStale, now);
  }
}

void NeighbourTable::Confirm(const IpAddr& addr, TimePoint now) {
  auto it = table_.find(addr);
  if (it == table_.end()) return;
  Entry& e = *it->second;
  if (e.state == Nud::kStale || e.state == Nud::kDelay || e.state == Nud::kProbe) {
    SetState(e, Nud::kReachable, now);
  } else if (e.state == Nud::kReachable) {
    e.timer.Set(timers_, now + kReachable);
  }
}

void NeighbourTable::OnTimer(Entry& e, TimePoint now) {
  switch (e.state) {
    case Nud::kIncomplete:
    case Nud::kProbe:
      if (e.probes >= kProbes) return Fail(e);
      e.probes++;
      e.timer.Set(timers_, now + kRetrans);
      owner_.SendSolicit(e.addr, e.state == Nud::kProbe ? std::optional(e.mac) : std::nullopt);
      return;
    case Nud::kReachable:
      return SetState(e, Nud::kStale, now);
    case Nud::kDelay:
      return SetState(e, Nud::kProbe, now);
    default:
      return;
  }
}

void NeighbourTable::Fail(Entry& e) {
  e.state = Nud::kFailed;
  e.timer.Cancel();
  e.pending_bytes = 0;
  const IpAddr addr = e.addr;
  std::vector<Packet> pending = std::exchange(e.pending, {});
  owner_.OnNeighbourChange(InfoOf(e), false);
  for (Packet& p : pending) owner_.OnUnreachable(addr, std::move(p));
}

void NeighbourTable::SetPermanent(const IpAddr& addr, const MacAddr& mac) {
  Entry* e = FindOrCreate(addr, TimePoint());
  if (e != nullptr) SetMac(*e, mac, Nud::kPermanent, TimePoint());
}

bool NeighbourTable::Set(const NeighbourInfo& info, TimePoint now) {
  Entry* e = FindOrCreate(info.addr, now);
  if (e == nullptr) return false;
  e->used = now;
  e->router = info.router;
  e->protocol = info.protocol;
  switch (info.state) {
    case Nud::kNone:
    case Nud::kIncomplete:
    case Nud::kFailed:
    case Nud::kDelay:
    case Nud::kProbe:
      e->mac = info.mac;
      SetState(*e, info.state, now);
      break;
    default:
      SetMac(*e, info.mac, info.state, now);
      break;
  }
  return true;
}

bool NeighbourTable::Remove(const IpAddr& addr) {
  auto it = table_.find(addr);
  if (it == table_.end()) return false;
  NeighbourInfo info = InfoOf(*it->second);
  info.state = Nud::kFailed;
  table_.erase(it);
  owner_.OnNeighbourChange(info, true);
  return true;
}

void NeighbourTable::Flush(bool permanent_too) {
  absl::erase_if(table_, [&](const auto& kv) {
    return permanent_too ||
           (kv.second->state != Nud::kPermanent && kv.second->state != Nud::kNoArp);
  });
}

std::vector<NeighbourInfo> NeighbourTable::List() const {
  std::vector<NeighbourInfo> out;
  for (const auto& [addr, e] : table_) out.push_back(InfoOf(*e));
  return out;
}

std::optional<NeighbourInfo> NeighbourTable::Find(const IpAddr& addr) const {
  auto it = table_.find(addr);
  if (it == table_.end()) return std::nullopt;
  return InfoOf(*it->second);
}

}  // namespace ringwall::net
