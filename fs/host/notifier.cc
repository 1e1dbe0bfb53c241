#include "fs/host/notifier.h"

#include <pthread.h>
#include <sys/epoll.h>

#include <array>
#include <map>

#include "sentry/base/log.h"

namespace ringwall {

namespace {

struct State {
  int epoll = -1;
  Mutex<LockClass::kTimer> mu;  // like the timers': outside wait queues
  std::map<int, WaitQueue*> queues GUARDED_BY(mu);
  bool running GUARDED_BY(mu) = false;
};

State& state() {
  static State* s = new State;  // lives as long as its thread
  return *s;
}

void* NotifierMain(void*) {
  State& s = state();
  std::array<epoll_event, 16> events;
  for (;;) {
    const int n = epoll_wait(s.epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < n; i++) {
      // Notified under the lock, so that Remove returns only when the queue is free.
      MutexLock lock(s.mu);
      const auto it = s.queues.find(events[static_cast<size_t>(i)].data.fd);
      if (it != s.queues.end()) it->second->Notify(events[static_cast<size_t>(i)].events);
    }
  }
}

}  // namespace

HostResult<void> HostNotifier::Prepare() {
  State& s = state();
  s.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (s.epoll < 0) return HostError::Last("make the notifier of host descriptors");
  return {};
}

bool HostNotifier::Add(int fd, WaitQueue& queue) {
  State& s = state();
  MutexLock lock(s.mu);
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
  event.data.fd = fd;
  if (epoll_ctl(s.epoll, EPOLL_CTL_ADD, fd, &event) != 0) return false;
  s.queues[fd] = &queue;
  if (!s.running) {
    s.running = true;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 64 << 10);
    pthread_t thread;
    if (pthread_create(&thread, &attr, NotifierMain, nullptr) != 0) {
      RW_LOG(kError, "no thread for host descriptors");
    }
    pthread_attr_destroy(&attr);
  }
  return true;
}

void HostNotifier::Remove(int fd, WaitQueue& queue) {
  State& s = state();
  MutexLock lock(s.mu);
  const auto it = s.queues.find(fd);
  if (it == s.queues.end() || it->second != &queue) return;
  s.queues.erase(it);
  epoll_ctl(s.epoll, EPOLL_CTL_DEL, fd, nullptr);
}

}  // namespace ringwall
