// Calls of epoll_ctl that a guest thread's stub has answered ahead of the Sentry.
#ifndef RINGWALL_PLATFORM_EPOLL_CALLS_H_
#define RINGWALL_PLATFORM_EPOLL_CALLS_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace ringwall {

struct EpollCall {
  int op = 0, fd = 0;
  uint32_t events = 0;
  uint64_t data = 0;
};

// Part of a Context, on platforms that can. Not thread-safe.
class EpollCalls {
 public:
  static constexpr size_t kMost = 16;

  // Of the context that the calling thread ran last; null: every call comes to the Sentry.
  static EpollCalls* Current() { return current_; }

  // The epoll whose calls the stub may answer; -1 when there is none.
  int epfd() const { return epfd_; }
  // The calls that it has answered since the last look, in their order, of epfd(): how many. Guest code
  // can forge them. For each event that Switch returns, before anything else is done about it.
  virtual size_t TakeEpollCalls(std::span<EpollCall, kMost> out) = 0;
  // Lets the stub answer for `fd`: that it is watched, or is not and may be. Another epfd than the last
  // makes it forget all others. Most descriptors of high numbers are not noted.
  virtual void TellEpoll(int epfd, int fd, bool watched) = 0;
  virtual void ForgetEpollFd(int fd) = 0;
  virtual void ForgetEpoll() = 0;

 protected:
  ~EpollCalls() {
    if (current_ == this) current_ = nullptr;
  }
  void MakeCurrent() { current_ = this; }
  int epfd_ = -1;

 private:
  inline static thread_local EpollCalls* current_ = nullptr;
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_EPOLL_CALLS_H_
