// Life of a stack and its lock. The administration is in link/admin.cc and ip/admin.cc.
#include "netstack/stack.h"

#include <algorithm>

#include "netstack/link/packet_endpoint.h"
#include "netstack/ip/raw_endpoint.h"
#include "netstack/tcp/endpoint.h"
#include "netstack/tcp/protocol.h"
#include "netstack/udp/endpoint.h"

namespace ringwall::net {

StackEntry::StackEntry(Stack& stack) : stack_(stack) {
  lock_.emplace(stack.mu_);
  if (!stack.shut_down_) stack.now_ = stack.host_.Now();
}

StackEntry::~StackEntry() {
  stack_.DrainLoop();
  const TimePoint next = stack_.timers_.Next();
  if (next < stack_.told_deadline_ && !stack_.shut_down_) {
    stack_.told_deadline_ = next;
    stack_.host_.DeadlineChanged(next);
  }
  if (stack_.flush_.empty() && stack_.notices_.empty()) return;
  std::vector<RefPtr<LinkSink>> flush;
  if (!stack_.flush_.empty()) {
    flush.swap(stack_.flush_);
    for (auto& [index, iface] : stack_.interfaces_) iface->flush_wanted = false;
  }
  auto notices = std::move(stack_.notices_);
  stack_.notices_.clear();
  lock_.reset();
  for (Stack::Notice& n : notices) n.observer->OnReadiness(n.bits);
  for (RefPtr<LinkSink>& sink : flush) sink->Flush();
}

Stack::Stack(StackHost& host, const StackConfig& config)
    : host_(host),
      config_(config),
      reassembly_timer_([](void* s, TimePoint) { static_cast<Stack*>(s)->OnReassemblyTimer(); },
                        this) {
  uint8_t seed[32];
  host_.FillRandom(seed);
  std::memcpy(&key_.k0, seed, 8);
  std::memcpy(&key_.k1, seed + 8, 8);
  std::memcpy(&random_state_, seed + 16, 8);
  std::memcpy(&fragment_id_, seed + 24, 4);
  now_ = host_.Now();
  tcp_ = std::make_unique<TcpProtocol>(*this);
  udp_ = std::make_unique<UdpProtocol>(*this);
  raw_ = std::make_unique<RawProtocol>();
  filter_ = std::make_unique<Netfilter>(*this);
}

Stack::~Stack() = default;

void Stack::Shutdown() {
  StackEntry entry(*this);
  tcp_->AbortAll();
  loop_.clear();
  taps_.clear();
  for (auto& [index, i] : interfaces_) {
    if (!i->sink) continue;
    i->sink->OnRemoved();
    flush_.push_back(i->sink);
  }
  interfaces_.clear();
  local_.clear();
  shut_down_ = true;
}

// A keyed generator: unpredictable outside, cheap inside.
uint64_t Stack::Random64() {
  random_state_++;
  uint8_t in[16];
  std::memcpy(in, &random_state_, 8);
  const int64_t t = now_.nanos();
  std::memcpy(in + 8, &t, 8);
  return SipHash(key_, in);
}

void Stack::SetFastOpenKeys(std::vector<SipKey> keys) {
  StackEntry entry(*this);
  tcp_->SetFastOpenKeys(std::move(keys));
}

std::vector<SipKey> Stack::FastOpenKeys() {
  StackEntry entry(*this);
  return tcp_->FastOpenKeys();
}

StackConfig Stack::Config() {
  StackEntry entry(*this);
  return config_;
}

void Stack::SetConfig(const StackConfig& config) {
  StackEntry entry(*this);
  config_ = config;
}

Counters Stack::GetCounters() {
  StackEntry entry(*this);
  return counters_;
}

TimePoint Stack::NextDeadline() {
  MutexLock lock(mu_);
  return timers_.Next();
}

void Stack::OnDeadline() {
  StackEntry entry(*this);
  told_deadline_ = TimePoint::Never();
  timers_.Run(now_);
}

// Endpoints are made under the lock: their constructors read the sysctls.
Ref<TcpEndpoint> Stack::NewTcp(Family family) {
  StackEntry entry(*this);
  return MakeRef<TcpEndpoint>(Ref(*this), family);
}
Ref<UdpEndpoint> Stack::NewUdp(Family family) {
  StackEntry entry(*this);
  return MakeRef<UdpEndpoint>(Ref(*this), family);
}
Ref<RawEndpoint> Stack::NewRaw(Family family, uint8_t protocol, bool ping) {
  StackEntry entry(*this);
  Ref<RawEndpoint> e = MakeRef<RawEndpoint>(Ref(*this), family, protocol, ping);
  raw_->Add(e.get());
  return e;
}
Ref<PacketEndpoint> Stack::NewPacket(bool raw, uint16_t ethertype) {
  StackEntry entry(*this);
  Ref<PacketEndpoint> e = MakeRef<PacketEndpoint>(Ref(*this), raw, ethertype);
  AddTap(e.get());
  return e;
}

void Stack::Notify(const StackHost::Change& change) {
  if (change.kind != StackHost::Change::Kind::kNeighbour) route_generation_++;
  if (!shut_down_) host_.OnChange(change);
}

void Stack::NotifyLink(Interface& i) {
  const InterfaceInfo info = i.Info();
  Notify({.kind = StackHost::Change::Kind::kLink, .iface = i.index, .link = &info});
}

void Stack::NotifyAddress(Interface& i, const InterfaceAddress& a, bool removed) {
  Notify({.kind = StackHost::Change::Kind::kAddress, .removed = removed, .iface = i.index,
          .address = &a});
}

void Stack::NotifyRoute(const RouteEntry& r, bool removed) {
  Notify({.kind = StackHost::Change::Kind::kRoute, .removed = removed, .iface = r.oif,
          .route = &r});
}

}  // namespace ringwall::net
