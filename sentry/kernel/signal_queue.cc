#include "sentry/kernel/signal_queue.h"

#include <algorithm>

namespace ringwall {

namespace {

bool IsOfTimer(const abi::SigInfo& i, int signo, int timer_id) {
  return i.signo == signo && i.code == SI_TIMER && i.At<int32_t>(0) == timer_id;
}

}  // namespace

bool PendingSignals::Add(const abi::SigInfo& info) {
  if (info.signo < abi::kSigRtMin && Has(info.signo)) return false;
  mask_ |= abi::SigBit(info.signo);
  queue_.push_back(info);
  return true;
}

std::optional<abi::SigInfo> PendingSignals::Take(abi::SigSet blocked) {
  abi::SigSet ready = mask_ & ~blocked;
  if (ready == 0) return std::nullopt;
  if ((ready & abi::kSynchronous) != 0) ready &= abi::kSynchronous;
  const int signo = __builtin_ctzll(ready) + 1;
  auto it = std::find_if(queue_.begin(), queue_.end(),
                         [&](const abi::SigInfo& i) { return i.signo == signo; });
  const abi::SigInfo info = *it;
  queue_.erase(it);
  ForgetIfLast(signo);
  return info;
}

void PendingSignals::ForgetIfLast(int signo) {
  const bool more = std::any_of(queue_.begin(), queue_.end(),
                                [&](const abi::SigInfo& i) { return i.signo == signo; });
  if (!more) mask_ &= ~abi::SigBit(signo);
}

void PendingSignals::RemoveTimer(int signo, int timer_id) {
  if (!Has(signo)) return;
  std::erase_if(queue_, [&](const abi::SigInfo& i) { return IsOfTimer(i, signo, timer_id); });
  ForgetIfLast(signo);
}

abi::SigInfo* PendingSignals::FindTimer(int signo, int timer_id) {
  if (!Has(signo)) return nullptr;
  for (abi::SigInfo& i : queue_) {
    if (IsOfTimer(i, signo, timer_id)) return &i;
  }
  return nullptr;
}

std::vector<abi::SigInfo> PendingSignals::Slice(uint64_t offset, size_t count) const {
  std::vector<abi::SigInfo> slice;
  for (uint64_t i = offset; i < queue_.size() && slice.size() < count; i++) {
    slice.push_back(queue_[i]);
  }
  return slice;
}

void PendingSignals::Remove(abi::SigSet signals) {
  if ((mask_ & signals) == 0) return;
  std::erase_if(queue_, [&](const abi::SigInfo& i) { return (abi::SigBit(i.signo) & signals) != 0; });
  mask_ &= ~signals;
}

}  // namespace ringwall
