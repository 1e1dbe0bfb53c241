#include "sentry/kernel/thread_group.h"

#include <utility>

#include "sentry/kernel/kernel.h"

namespace ringwall {

abi::SigAction SignalActions::Get(int signo) const {
  MutexLock lock(mu_);
  return actions_[static_cast<size_t>(signo - 1)];
}

abi::SigAction SignalActions::Exchange(int signo, const abi::SigAction& action) {
  MutexLock lock(mu_);
  return std::exchange(actions_[static_cast<size_t>(signo - 1)], action);
}

Ref<SignalActions> SignalActions::Copy() const {
  Ref<SignalActions> copy = MakeRef<SignalActions>();
  std::array<abi::SigAction, abi::kSigMax> actions;
  {
    MutexLock lock(mu_);
    actions = actions_;
  }
  MutexLock lock(copy->mu_);
  copy->actions_ = actions;
  return copy;
}

void SignalActions::Reset(bool all) {
  MutexLock lock(mu_);
  for (abi::SigAction& a : actions_) {
    const bool ignored = a.handler == reinterpret_cast<uint64_t>(SIG_IGN);
    a = abi::SigAction{};
    if (ignored && !all) a.handler = reinterpret_cast<uint64_t>(SIG_IGN);
  }
}

void Rusage::Add(const Rusage& o) {
  utime_ns += o.utime_ns;
  stime_ns += o.stime_ns;
  minor_faults += o.minor_faults;
  major_faults += o.major_faults;
  voluntary += o.voluntary;
  involuntary += o.involuntary;
  in_blocks += o.in_blocks;
  out_blocks += o.out_blocks;
  if (o.maxrss_kib > maxrss_kib) maxrss_kib = o.maxrss_kib;
}

ThreadGroup::ThreadGroup(Kernel& kernel, Ref<SignalActions> actions)
    : kernel_(kernel), actions_(std::move(actions)) {}

uint64_t ThreadGroup::limit(int resource) const {
  return rlimits.With([&](const Rlimits& r) { return r.limits[static_cast<size_t>(resource)].soft; });
}

bool ThreadGroup::TakeStubLoss() {
  MutexLock lock(siglock);
  return !group_exit && !std::exchange(stub_loss_told, true);
}

}  // namespace ringwall
