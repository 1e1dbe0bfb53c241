// epoll, eventfd, signalfd, timerfd, poll and select: the edges.
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>

#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

int Add(int ep, int fd, uint32_t events, uint64_t data = 0) {
  epoll_event e = {events, {.u64 = data}};
  return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}
int Wait(int ep, epoll_event* e, int timeout = 0) { return epoll_wait(ep, e, 1, timeout); }

TEST(EpollEdgeTest, DepthAndRings) {
  std::vector<Fd> e;
  Fd leaf(eventfd(0, 0));
  for (int i = 0; i < 7; ++i) e.emplace_back(epoll_create1(0));
  EXPECT_OK(Add(e[0].get(), leaf.get(), EPOLLIN));
  for (int i = 1; i < 5; ++i) EXPECT_OK(Add(e[i].get(), e[i - 1].get(), EPOLLIN));
  EXPECT_FAILS(Add(e[5].get(), e[4].get(), EPOLLIN), ELOOP);
  EXPECT_FAILS(Add(e[0].get(), e[4].get(), EPOLLIN), ELOOP);
  EXPECT_FAILS(Add(e[0].get(), e[0].get(), EPOLLIN), EINVAL);
  // An event at the bottom is seen at the top.
  const uint64_t one = 1;
  EXPECT_EQ(write(leaf.get(), &one, 8), 8);
  epoll_event got;
  EXPECT_EQ(Wait(e[4].get(), &got), 1);
  std::vector<Fd> down;
  for (int i = 0; i < 6; ++i) down.emplace_back(epoll_create1(0));
  for (int i = 0; i < 4; ++i) EXPECT_OK(Add(down[i].get(), down[i + 1].get(), EPOLLIN));
  EXPECT_FAILS(Add(down[4].get(), down[5].get(), EPOLLIN), ELOOP);
}

TEST(EpollEdgeTest, SameFileTwiceByTwoNumbers) {
  Fd ep(epoll_create1(0)), event(eventfd(1, 0));
  Fd copy(dup(event.get()));
  EXPECT_OK(Add(ep.get(), event.get(), EPOLLIN, 1));
  EXPECT_FAILS(Add(ep.get(), event.get(), EPOLLIN, 1), EEXIST);
  EXPECT_OK(Add(ep.get(), copy.get(), EPOLLIN, 2));
  epoll_event e[4];
  EXPECT_EQ(epoll_wait(ep.get(), e, 4, 0), 2);
  // A closed number stays as long as the file is open.
  event.Reset();
  EXPECT_EQ(epoll_wait(ep.get(), e, 4, 0), 2);
  copy.Reset();
  EXPECT_EQ(epoll_wait(ep.get(), e, 4, 0), 0);
}

TEST(EpollEdgeTest, AllThatAreReadyComeAtOnce) {
  constexpr int kFiles = 5000;
  rlimit limit;
  ASSERT_OK(getrlimit(RLIMIT_NOFILE, &limit));
  if (limit.rlim_max < kFiles + 100) GTEST_SKIP() << "too few descriptors";
  EXPECT_TRUE(Exited(InChild([&] {
    limit.rlim_cur = limit.rlim_max;
    CHECK_CHILD(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    Fd epoll(epoll_create1(EPOLL_CLOEXEC)), ready(eventfd(1, EFD_CLOEXEC));
    for (int i = 0; i < kFiles; ++i) {
      const int fd = dup(ready.get());
      epoll_event event = {};
      event.events = EPOLLIN;
      event.data.fd = fd;
      CHECK_CHILD(fd >= 0 && epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0);
    }
    std::vector<epoll_event> events(kFiles + 10);
    CHECK_CHILD(epoll_wait(epoll.get(), events.data(), kFiles + 10, -1) == kFiles);
    CHECK_CHILD(epoll_wait(epoll.get(), events.data(), kFiles - 1, -1) == kFiles - 1);
    return 0;
  })));
}

TEST(EpollEdgeTest, ModifyRearmsEdgesAndShots) {
  Fd ep(epoll_create1(0));
  Pipe p;
  EXPECT_OK(Add(ep.get(), p.reader.get(), EPOLLIN | EPOLLET | EPOLLONESHOT, 5));
  EXPECT_EQ(write(p.writer.get(), "x", 1), 1);
  epoll_event e;
  EXPECT_EQ(Wait(ep.get(), &e), 1);
  EXPECT_EQ(e.data.u64, 5u);
  EXPECT_EQ(Wait(ep.get(), &e), 0);
  EXPECT_EQ(write(p.writer.get(), "x", 1), 1);
  EXPECT_EQ(Wait(ep.get(), &e), 0);
  epoll_event again = {EPOLLIN | EPOLLET, {.u64 = 6}};
  EXPECT_OK(epoll_ctl(ep.get(), EPOLL_CTL_MOD, p.reader.get(), &again));
  EXPECT_EQ(Wait(ep.get(), &e), 1);
  EXPECT_EQ(e.data.u64, 6u);
  EXPECT_EQ(Wait(ep.get(), &e), 0);
  again.events = EPOLLIN | EPOLLEXCLUSIVE;
  EXPECT_FAILS(epoll_ctl(ep.get(), EPOLL_CTL_MOD, p.reader.get(), &again), EINVAL);
  EXPECT_FAILS(epoll_ctl(ep.get(), EPOLL_CTL_MOD, p.writer.get(), &again), EINVAL);
  again.events = EPOLLIN;
  EXPECT_FAILS(epoll_ctl(ep.get(), EPOLL_CTL_MOD, p.writer.get(), &again), ENOENT);
  EXPECT_OK(epoll_ctl(ep.get(), EPOLL_CTL_DEL, p.reader.get(), nullptr));
  EXPECT_FAILS(epoll_ctl(ep.get(), EPOLL_CTL_DEL, p.reader.get(), nullptr), ENOENT);
}

TEST(EpollEdgeTest, FilesThatCannotBeWaitedFor) {
  TempDir dir;
  Fd ep(epoll_create1(0)), file(open(dir.File("f").c_str(), O_RDWR));
  Fd folder(open("/", O_RDONLY | O_DIRECTORY));
  EXPECT_FAILS(Add(ep.get(), file.get(), EPOLLIN), EPERM);
  EXPECT_FAILS(Add(ep.get(), folder.get(), EPOLLIN), EPERM);
  EXPECT_FAILS(Add(file.get(), ep.get(), EPOLLIN), EINVAL);
  EXPECT_FAILS(Add(ep.get(), -1, EPOLLIN), EBADF);
  EXPECT_FAILS(Add(-1, ep.get(), EPOLLIN), EBADF);
  epoll_event e;
  EXPECT_FAILS(epoll_wait(file.get(), &e, 1, 0), EINVAL);
  EXPECT_FAILS(epoll_wait(ep.get(), &e, 0, 0), EINVAL);
  EXPECT_FAILS(epoll_wait(ep.get(), &e, -1, 0), EINVAL);
  Pipe p;
  EXPECT_FAILS(syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_ADD, p.reader.get(), BadAddress()),
               EFAULT);
  EXPECT_FAILS(epoll_ctl(ep.get(), 9, p.reader.get(), &e), EINVAL);
  EXPECT_FAILS(epoll_create(0), EINVAL);
  EXPECT_FAILS(epoll_create1(1), EINVAL);
}

TEST(EpollEdgeTest, AnInstanceIsReadableWhenSomethingIs) {
  Fd ep(epoll_create1(0)), event(eventfd(0, 0));
  EXPECT_OK(Add(ep.get(), event.get(), EPOLLIN));
  pollfd p = {ep.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  const uint64_t one = 1;
  EXPECT_EQ(write(event.get(), &one, 8), 8);
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN);
  char c;
  EXPECT_FAILS(read(ep.get(), &c, 1), EINVAL);
}

TEST(EpollEdgeTest, ConcurrentChangesAndWaits) {
  Fd ep(epoll_create1(0));
  std::vector<Pipe> pipes(16);
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    for (int round = 0; round < 300; ++round) {
      for (Pipe& p : pipes) Add(ep.get(), p.reader.get(), EPOLLIN | (round % 2 ? EPOLLET : 0u));
      for (Pipe& p : pipes) epoll_ctl(ep.get(), EPOLL_CTL_DEL, p.reader.get(), nullptr);
    }
    stop = true;
  });
  std::thread writer([&] {
    while (!stop) {
      for (Pipe& p : pipes) {
        char c;
        if (write(p.writer.get(), "x", 1) == 1 && read(p.reader.get(), &c, 1) != 1) abort();
      }
    }
  });
  epoll_event e[8];
  while (!stop) EXPECT_GE(epoll_wait(ep.get(), e, 8, 0), 0);
  changer.join();
  writer.join();
}

TEST(EpollEdgeTest, PwaitMaskAndErrors) {
  Fd ep(epoll_create1(0));
  epoll_event e;
  sigset_t none;
  sigemptyset(&none);
  EXPECT_FAILS(syscall(SYS_epoll_pwait, ep.get(), &e, 1, 0, &none, 4), EINVAL);
  EXPECT_FAILS(syscall(SYS_epoll_pwait, ep.get(), &e, 1, 0, BadAddress(), 8), EFAULT);
  timespec bad = {0, -1};
  EXPECT_FAILS(syscall(SYS_epoll_pwait2, ep.get(), &e, 1, &bad, nullptr, 8), EINVAL);
  EXPECT_FAILS(syscall(SYS_epoll_pwait2, ep.get(), &e, 1, BadAddress(), nullptr, 8), EFAULT);
}

TEST(EventfdEdgeTest, SizesAndLimits) {
  Fd fd(eventfd(0, EFD_NONBLOCK));
  uint64_t v[2] = {1, 2};
  EXPECT_FAILS(write(fd.get(), v, 7), EINVAL);
  EXPECT_FAILS(read(fd.get(), v, 7), EINVAL);
  EXPECT_FAILS(read(fd.get(), v, 8), EAGAIN);
  v[0] = UINT64_MAX;
  EXPECT_FAILS(write(fd.get(), v, 8), EINVAL);
  v[0] = UINT64_MAX - 1;
  EXPECT_EQ(write(fd.get(), v, 8), 8);
  v[0] = 1;
  EXPECT_FAILS(write(fd.get(), v, 8), EAGAIN);
  pollfd p = {fd.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN);
  EXPECT_EQ(read(fd.get(), v, 16), 8);
  EXPECT_EQ(v[0], UINT64_MAX - 1);
  EXPECT_FAILS(eventfd(0, 0x10), EINVAL);
  EXPECT_FAILS(pread(fd.get(), v, 8, 0), ESPIPE);
  EXPECT_FAILS(syscall(SYS_write, fd.get(), BadAddress(), 8), EFAULT);
}

TEST(EventfdEdgeTest, BlockedWriterGoesOn) {
  Fd fd(eventfd(0, 0));
  uint64_t v = UINT64_MAX - 1;
  EXPECT_EQ(write(fd.get(), &v, 8), 8);
  std::thread writer([&] {
    const uint64_t five = 5;
    EXPECT_EQ(write(fd.get(), &five, 8), 8);
  });
  EXPECT_EQ(read(fd.get(), &v, 8), 8);
  EXPECT_EQ(v, UINT64_MAX - 1);
  EXPECT_EQ(read(fd.get(), &v, 8), 8);
  EXPECT_EQ(v, 5u);
  writer.join();
}

TEST(SignalfdTest, ReadsWhatIsBlocked) {
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGRTMIN + 1);
  sigprocmask(SIG_BLOCK, &set, &old);
  Fd fd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  signalfd_siginfo info[3];
  EXPECT_FAILS(read(fd.get(), info, sizeof(info)), EAGAIN);
  EXPECT_FAILS(read(fd.get(), info, 10), EINVAL);
  EXPECT_OK(raise(SIGUSR1));
  EXPECT_OK(sigqueue(getpid(), SIGRTMIN + 1, {.sival_int = 44}));
  pollfd p = {fd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(read(fd.get(), info, sizeof(info)), static_cast<ssize_t>(2 * sizeof(info[0])));
  EXPECT_EQ(info[0].ssi_signo, static_cast<uint32_t>(SIGUSR1));
  EXPECT_EQ(info[0].ssi_pid, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(info[1].ssi_signo, static_cast<uint32_t>(SIGRTMIN + 1));
  EXPECT_EQ(info[1].ssi_int, 44);
  EXPECT_EQ(info[1].ssi_code, SI_QUEUE);
  sigset_t other;
  sigemptyset(&other);
  EXPECT_EQ(signalfd(fd.get(), &other, 0), fd.get());
  EXPECT_OK(raise(SIGUSR1));
  EXPECT_FAILS(read(fd.get(), info, sizeof(info)), EAGAIN);
  EXPECT_EQ(signalfd(fd.get(), &set, 0), fd.get());
  EXPECT_EQ(read(fd.get(), info, sizeof(info)), static_cast<ssize_t>(sizeof(info[0])));
  Pipe pipe;
  EXPECT_FAILS(signalfd(pipe.reader.get(), &set, 0), EINVAL);
  EXPECT_FAILS(signalfd(-1, &set, 1), EINVAL);
  EXPECT_FAILS(syscall(SYS_signalfd4, -1, &set, 4, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_signalfd4, -1, BadAddress(), 8, 0), EFAULT);
  EXPECT_FAILS(signalfd(1000, &set, 0), EBADF);
  sigprocmask(SIG_SETMASK, &old, nullptr);
}

TEST(TimerfdEdgeTest, SettingsAndErrors) {
  Fd fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  uint64_t n;
  EXPECT_FAILS(read(fd.get(), &n, 8), EAGAIN);
  EXPECT_FAILS(read(fd.get(), &n, 7), EINVAL);
  EXPECT_FAILS(write(fd.get(), &n, 8), EINVAL);
  itimerspec t = {{5, 0}, {1000, 0}}, old = {};
  EXPECT_OK(timerfd_settime(fd.get(), 0, &t, &old));
  EXPECT_EQ(old.it_value.tv_sec, 0);
  EXPECT_OK(timerfd_gettime(fd.get(), &old));
  EXPECT_GT(old.it_value.tv_sec, 900);
  EXPECT_EQ(old.it_interval.tv_sec, 5);
  t = {{0, 0}, {0, 0}};
  EXPECT_OK(timerfd_settime(fd.get(), 0, &t, &old));
  EXPECT_EQ(old.it_interval.tv_sec, 5);
  EXPECT_OK(timerfd_gettime(fd.get(), &old));
  EXPECT_EQ(old.it_value.tv_sec, 0);
  t = {{0, 0}, {0, 1000000000}};
  EXPECT_FAILS(timerfd_settime(fd.get(), 0, &t, nullptr), EINVAL);
  t = {{0, 0}, {-1, 0}};
  EXPECT_FAILS(timerfd_settime(fd.get(), 0, &t, nullptr), EINVAL);
  t = {{0, 0}, {1, 0}};
  EXPECT_FAILS(timerfd_settime(fd.get(), 0x10, &t, nullptr), EINVAL);
  EXPECT_FAILS(timerfd_create(99, 0), EINVAL);
  EXPECT_FAILS(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
  EXPECT_FAILS(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
  Pipe p;
  EXPECT_FAILS(timerfd_gettime(p.reader.get(), &old), EINVAL);
  EXPECT_FAILS(timerfd_gettime(-1, &old), EBADF);
  // Long ago: at once.
  t = {{0, 0}, {0, 1}};
  EXPECT_OK(timerfd_settime(fd.get(), TFD_TIMER_ABSTIME, &t, nullptr));
  pollfd w = {fd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&w, 1, 5000), 1);
  EXPECT_EQ(read(fd.get(), &n, 8), 8);
  EXPECT_EQ(n, 1u);
  // Another descriptor of the same inode that is no timer.
  Fd path(open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_PATH));
  ASSERT_TRUE(path.ok());
  EXPECT_FAILS(timerfd_gettime(path.get(), &old), EBADF);
}

TEST(SpecialDescriptorTest, PathOnlyCopiesAreNotTheThing) {
  const auto path_of = [](int fd) {
    return Fd(open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_PATH));
  };
  Fd ep(epoll_create1(0));
  Fd ep_path = path_of(ep.get());
  ASSERT_TRUE(ep_path.ok());
  epoll_event e = {EPOLLIN, {}};
  EXPECT_FAILS(epoll_ctl(ep_path.get(), EPOLL_CTL_ADD, 0, &e), EBADF);
  EXPECT_FAILS(epoll_wait(ep_path.get(), &e, 1, 0), EBADF);
  sigset_t set;
  sigemptyset(&set);
  Fd sig(signalfd(-1, &set, 0));
  Fd sig_path = path_of(sig.get());
  EXPECT_FAILS(signalfd(sig_path.get(), &set, 0), EBADF);
}

TEST(PollEdgeTest, ManyAndNone) {
  EXPECT_EQ(poll(nullptr, 0, 0), 0);
  pollfd ignored = {-5, POLLIN, 77};
  EXPECT_EQ(poll(&ignored, 1, 0), 0);
  EXPECT_EQ(ignored.revents, 0);
  pollfd closed = {1000, 0, 0};
  EXPECT_EQ(poll(&closed, 1, -1), 1);
  EXPECT_EQ(closed.revents, POLLNVAL);
  EXPECT_FAILS(syscall(SYS_poll, BadAddress(), 1, 0), EFAULT);
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_FAILS(syscall(SYS_poll, nullptr, limit.rlim_cur + 1, 0), EINVAL);
  timespec t = {0, 1000000};
  EXPECT_EQ(syscall(SYS_ppoll, nullptr, 0, &t, nullptr, 0), 0);
  EXPECT_EQ(t.tv_nsec, 0);
  t = {0, -1};
  EXPECT_FAILS(syscall(SYS_ppoll, nullptr, 0, &t, nullptr, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_ppoll, nullptr, 0, BadAddress(), nullptr, 0), EFAULT);
  sigset_t set;
  sigemptyset(&set);
  EXPECT_FAILS(syscall(SYS_ppoll, nullptr, 0, nullptr, &set, 4), EINVAL);
}

TEST(PollEdgeTest, TimeLeftIsWrittenWhenSomethingIsReady) {
  Fd event(eventfd(1, 0));
  pollfd p = {event.get(), POLLIN, 0};
  timespec t = {100, 0};
  EXPECT_EQ(syscall(SYS_ppoll, &p, 1, &t, nullptr, 0), 1);
  EXPECT_GT(t.tv_sec, 90);
  EXPECT_TRUE(t.tv_sec < 100 || t.tv_nsec == 0);
  fd_set in;
  FD_ZERO(&in);
  FD_SET(event.get(), &in);
  timeval v = {100, 0};
  EXPECT_EQ(select(event.get() + 1, &in, nullptr, nullptr, &v), 1);
  EXPECT_GT(v.tv_sec, 90);
  v = {0, 0};
  EXPECT_EQ(select(0, nullptr, nullptr, nullptr, &v), 0);
  v = {-1, 0};
  EXPECT_FAILS(syscall(SYS_select, 0, nullptr, nullptr, nullptr, &v), EINVAL);
  EXPECT_FAILS(syscall(SYS_select, -1, nullptr, nullptr, nullptr, nullptr), EINVAL);
  EXPECT_FAILS(syscall(SYS_select, 8, BadAddress(), nullptr, nullptr, nullptr), EFAULT);
  FD_ZERO(&in);
  FD_SET(60, &in);
  v = {0, 0};
  EXPECT_FAILS(select(61, &in, nullptr, nullptr, &v), EBADF);
}

TEST(PollEdgeTest, SelectOfExceptionalsAndHangup) {
  Pipe p;
  p.writer.Reset();
  fd_set in, out, except;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_ZERO(&except);
  FD_SET(p.reader.get(), &in);
  FD_SET(p.reader.get(), &except);
  timeval none = {0, 0};
  EXPECT_EQ(select(p.reader.get() + 1, &in, &out, &except, &none), 1);
  EXPECT_TRUE(FD_ISSET(p.reader.get(), &in));
  EXPECT_FALSE(FD_ISSET(p.reader.get(), &except));
  Pipe q;
  q.reader.Reset();
  FD_ZERO(&out);
  FD_SET(q.writer.get(), &out);
  EXPECT_EQ(select(q.writer.get() + 1, nullptr, &out, nullptr, &none), 1);
}

struct Waitv {
  uint64_t val, uaddr;
  uint32_t flags, reserved;
};
constexpr uint32_t kU32 = 2, kPrivate = 128;

TEST(Futex2Test, WakeWaitRequeue) {
  if (syscall(454, nullptr, 0, 0, 0) == -1 && errno == ENOSYS) GTEST_SKIP() << "no futex2";
  static uint32_t a, b;
  a = b = 0;
  EXPECT_FAILS(syscall(455, &a, 1ul, ~0u, kU32 | kPrivate, nullptr, 0), EAGAIN);
  EXPECT_FAILS(syscall(455, &a, 0ul, 0ul, kU32 | kPrivate, nullptr, 0), EINVAL);
  EXPECT_FAILS(syscall(455, &a, 0ul, 1ul, 0, nullptr, 0), EINVAL);
  EXPECT_FAILS(syscall(455, &a, 0ul, 1ul << 32, kU32, nullptr, 0), EINVAL);
  timespec past = {0, 1};
  EXPECT_FAILS(syscall(455, &a, 0ul, 1ul, kU32, &past, CLOCK_MONOTONIC), ETIMEDOUT);
  EXPECT_FAILS(syscall(455, &a, 0ul, 1ul, kU32, &past, 77), EINVAL);
  EXPECT_EQ(syscall(454, &a, 1ul, 1, kU32 | kPrivate), 0);
  EXPECT_FAILS(syscall(454, &a, 0ul, 1, kU32 | kPrivate), EINVAL);
  EXPECT_FAILS(syscall(454, &a, 1ul, 1, 0x40), EINVAL);
  std::thread sleeper([&] {
    while (syscall(455, &a, 0ul, 1ul, kU32 | kPrivate, nullptr, 0) == -1 && errno == EINTR) {
    }
  });
  while (syscall(454, &a, 1ul, 0, kU32 | kPrivate) != 0) {
  }
  Waitv two[2] = {{0, reinterpret_cast<uint64_t>(&a), kU32 | kPrivate, 0},
                  {0, reinterpret_cast<uint64_t>(&b), kU32 | kPrivate, 0}};
  while (syscall(456, two, 0, 0, 1) != 1) sched_yield();
  EXPECT_EQ(syscall(454, &a, 1ul, 1, kU32 | kPrivate), 0);
  EXPECT_EQ(syscall(454, &b, 1ul, 1, kU32 | kPrivate), 1);
  sleeper.join();
  EXPECT_FAILS(syscall(456, two, 1, 0, 1), EINVAL);
  EXPECT_FAILS(syscall(456, nullptr, 0, 0, 1), EINVAL);
  two[0].val = 9;
  EXPECT_FAILS(syscall(456, two, 0, 0, 1), EAGAIN);
}

}  // namespace
}  // namespace ringwall::test
