#include "fs/socket/net_namespace.h"

#include <sys/random.h>
#include <time.h>

#include "fs/socket/net_ids.h"
#include "sentry/kernel/kernel_log.h"

namespace ringwall {

namespace {
std::atomic<NetNamespace::ChangeListener*> change_listener{nullptr};
}  // namespace

void NetNamespace::SetChangeListener(ChangeListener* listener) { change_listener.store(listener); }

NetNamespace::NetNamespace(Kernel& kernel, Ref<UserNamespace> owner, bool first)
    : NetNamespaceBase(std::move(owner), first), kernel_(kernel), first_(first) {}

Ref<NetNamespace> NetNamespace::Create(Kernel& kernel, bool loopback_up) {
  return Create(kernel, loopback_up, Ref<UserNamespace>(UserNamespace::Initial()), true);
}

Ref<NetNamespace> NetNamespace::Create(Kernel& kernel, bool loopback_up, Ref<UserNamespace> owner,
                                       bool first) {
  Ref<NetNamespace> ns = MakeRef<NetNamespace>(kernel, std::move(owner), first);
  ns->stack_ = MakeRef<net::Stack>(static_cast<net::StackHost&>(*ns));
  net_ids::Add(*ns);
  if (first) {
    // As systemd and Docker set it: ping without a privilege.
    net::StackConfig config = ns->stack_->Config();
    config.ping_group_min = 0;
    config.ping_group_max = INT32_MAX;
    ns->stack_->SetConfig(config);
  }
  const net::NetResult<net::IfIndex> lo = ns->stack_->AddInterface(
      {.name = "lo", .kind = net::LinkKind::kLoopback, .mtu = 65536}, nullptr);
  RW_CHECK(lo.ok());
  if (loopback_up) {
    net::NetResult<net::IfIndex> index = lo;
    RW_CHECK(ns->stack_->SetUp(*index, true).ok());
  }
  return ns;
}

NetNamespace::~NetNamespace() {
  // First of all: nobody finds it any more, and no device of it gets a number anew.
  const auto knew = net_ids::Remove(*this);
  if (ChangeListener* listener = change_listener.load(std::memory_order_acquire)) {
    for (const auto& [stack, id] : knew) listener->OnPeerGone(*stack, id);
  }
  // Connections that linger end without a word, as when Linux takes a namespace down.
  stack_->Shutdown();
  kernel_.timers().Cancel(*this);
}

Ref<NetNamespaceBase> NetNamespace::NewNamespace(Ref<UserNamespace> owner) {
  return Create(kernel_, false, std::move(owner), false);
}

net::TimePoint NetNamespace::Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return net::TimePoint::FromNanos(int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec);
}

void NetNamespace::FillRandom(net::MutableByteSpan out) {
  RW_CHECK(::getrandom(out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));
}

void NetNamespace::DeadlineChanged(net::TimePoint next) {
  kernel_.timers().Arm(*this, TimerClock::kMonotonic, next.nanos());
}

void NetNamespace::OnChange(const Change& change) {
  if (ChangeListener* listener = change_listener.load(std::memory_order_acquire)) {
    listener->OnNetChange(*this, change);
  }
}

// nf_log_syslog.c: of other namespaces than the first only by nf_log_all_netns, which is off.
void NetNamespace::OnLog(uint8_t level, std::string_view text) {
  if (!first_) return;
  KernelLog::Get().Append(static_cast<KernelLog::Level>(level & 7), static_cast<uint64_t>(Now().nanos()),
                          text);
}

std::optional<int64_t> NetNamespace::OnExpire(int64_t) {
  stack_->OnDeadline();  // arms anew by DeadlineChanged
  return std::nullopt;
}

}  // namespace ringwall
