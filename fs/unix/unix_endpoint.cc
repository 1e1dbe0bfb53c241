#include "fs/unix/unix_endpoint.h"

#include <sys/epoll.h>

#include <algorithm>
#include <bit>

namespace ringwall {

namespace {

// What an sk_buff and the memory for its bytes take. The bytes lie in one block of a power of two, and beyond
// what fits into a page (of a stream) or into four (of a message) in up to 17 pages.
size_t TrueSize(size_t bytes, bool stream) {
  constexpr size_t kBuffer = 256, kShared = 320, kPage = 4096, kPages = 17;
  const size_t head = (stream ? kPage : 4 * kPage) - kShared;
  size_t pages = 0;
  if (bytes > head) {
    pages = (std::min(bytes - head, kPages * kPage) + kPage - 1) / kPage * kPage;
  }
  return kBuffer + std::bit_ceil(bytes - std::min(bytes, pages) + kShared) + pages;
}

}  // namespace

SendCharge::SendCharge(Ref<UnixEndpoint> sender, size_t bytes)
    : sender_(std::move(sender)), bytes_(TrueSize(bytes, sender_->stream())) {
  sender_->unread.fetch_add(bytes_);
}

SendCharge::SendCharge(SendCharge&& o) noexcept
    : sender_(std::move(o.sender_)), bytes_(std::exchange(o.bytes_, 0)) {}

SendCharge& SendCharge::operator=(SendCharge&& o) noexcept {
  std::swap(sender_, o.sender_);
  std::swap(bytes_, o.bytes_);
  return *this;
}

SendCharge::~SendCharge() {
  if (!sender_) return;
  sender_->unread.fetch_sub(bytes_);
  sender_->queue.Notify(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
}

size_t UnixEndpoint::UrgentIndex() const {
  return static_cast<size_t>(std::find_if(messages.begin(), messages.end(),
                                          [](const UnixMessage& m) { return m.urgent; }) -
                             messages.begin());
}

bool UnixEndpoint::AtMark() const {
  if (messages.empty()) return false;
  if (messages.front().urgent) return true;
  if (messages.front().left() != 0) return false;
  return UrgentIndex() == messages.size() || (messages.size() > 1 && messages[1].urgent);
}

bool UnixEndpoint::HasUnread() const {
  return messages.size() > 1 ||
         (messages.size() == 1 && messages.front().left() != 0);
}

AbstractNames& AbstractNames::Get() {
  static AbstractNames* names = new AbstractNames;
  return *names;
}

Result<void> AbstractNames::Bind(uint64_t net, const std::string& name,
                                 Ref<UnixEndpoint> endpoint) {
  MutexLock lock(mu_);
  for (const Entry& e : names_) {
    if (e.net == net && e.owner->type == endpoint->type && e.name == name) {
      return Errno(EADDRINUSE);
    }
  }
  names_.push_back({net, name, endpoint.get()});
  return {};
}

RefPtr<UnixEndpoint> AbstractNames::Find(uint64_t net, int type, const std::string& name) {
  MutexLock lock(mu_);
  for (const Entry& e : names_) {
    if (e.net != net || e.owner->type != type || e.name != name) continue;
    if (e.owner->TryAddRef()) return RefPtr<UnixEndpoint>::Adopt(e.owner);
  }
  return nullptr;
}

void AbstractNames::Remove(const UnixEndpoint& endpoint) {
  MutexLock lock(mu_);
  std::erase_if(names_, [&](const Entry& e) { return e.owner == &endpoint; });
}

}  // namespace ringwall
