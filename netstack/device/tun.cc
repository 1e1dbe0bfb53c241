#include "netstack/device/tun.h"

namespace ringwall::net {

void TunLink::Transmit(Packet frame) {
  Frame flat{VnetHeader::Of(frame), frame.Flatten()};
  MutexLock lock(mu_);
  if (observer_ == nullptr || queue_.size() >= limit_) return;
  queue_.push_back(std::move(flat));
}

void TunLink::Flush() {
  MutexLock lock(mu_);
  if (observer_ != nullptr && (!queue_.empty() || removed_)) observer_->OnTun();
}

void TunLink::OnRemoved() {
  MutexLock lock(mu_);
  removed_ = true;
}

bool TunLink::Attach(Observer* observer) {
  MutexLock lock(mu_);
  if (observer_ != nullptr || removed_) return false;
  observer_ = observer;
  return true;
}

void TunLink::Detach(Observer* observer) {
  MutexLock lock(mu_);
  if (observer_ != observer) return;
  observer_ = nullptr;
  queue_.clear();
}

bool TunLink::attached() const {
  MutexLock lock(mu_);
  return observer_ != nullptr;
}

std::optional<TunLink::Frame> TunLink::Read() {
  MutexLock lock(mu_);
  if (queue_.empty()) return std::nullopt;
  Frame f = std::move(queue_.front());
  queue_.pop_front();
  return f;
}

bool TunLink::HasFrames() const {
  MutexLock lock(mu_);
  return !queue_.empty();
}

bool TunLink::removed() const {
  MutexLock lock(mu_);
  return removed_;
}

void TunLink::set_queue_length(size_t n) {
  MutexLock lock(mu_);
  limit_ = n;
}

}  // namespace ringwall::net
