// SystrapContext's calls of epoll_ctl that the stub answers.
#include <string.h>

#include <algorithm>
#include <utility>

#include "platform/systrap/region_access.h"
#include "platform/systrap/systrap_context.h"

namespace ringwall {

static_assert(EpollCalls::kMost == RW_REGION_EPOLL_CALLS);

size_t SystrapContext::TakeEpollCalls(std::span<EpollCall, kMost> out) {
  const size_t count = std::min<size_t>(Load(region_->epoll_count), kMost);
  if (count == 0) return 0;
  for (size_t i = 0; i < count; ++i) {
    const systrap::RegionEpollCall& call = region_->epoll_calls[i];
    out[i] = {Load(call.op), Load(call.fd), Load(call.events), Load(call.data)};
  }
  Store(region_->epoll_count, 0U);
  return count;
}

void SystrapContext::TellEpoll(int epfd, int fd, bool watched) {
  if (!local_answers_ || epfd < 0 || fd < 0 || fd >= RW_REGION_EPOLL_FDS) return;
  if (std::exchange(epfd_, epfd) != epfd) {
    memset(region_->epoll_known, RW_EPOLL_UNKNOWN, sizeof region_->epoll_known);
    Store(region_->epoll_count, 0U);
    Store(region_->epoll_fd, static_cast<uint32_t>(epfd) + 1);
  }
  Store(region_->epoll_known[fd], static_cast<uint8_t>(watched ? RW_EPOLL_WATCHED : RW_EPOLL_APART));
}

void SystrapContext::ForgetEpollFd(int fd) {
  if (epfd_ == fd) return ForgetEpoll();
  if (fd < 0 || fd >= RW_REGION_EPOLL_FDS) return;
  Store(region_->epoll_known[fd], static_cast<uint8_t>(RW_EPOLL_UNKNOWN));
}

void SystrapContext::ForgetEpoll() {
  epfd_ = -1;
  Store(region_->epoll_fd, 0U);
}

}  // namespace ringwall
