// poll, ppoll, select, pselect and epoll; eventfd as something to wait for.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <time.h>

#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

int64_t NowMs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

TEST(PollTest, ReadinessOfAPipe) {
  Pipe p;
  pollfd fds[2] = {{p.reader.get(), POLLIN, 0}, {p.writer.get(), POLLOUT, 0}};
  EXPECT_EQ(poll(fds, 2, 0), 1);
  EXPECT_EQ(fds[0].revents, 0);
  EXPECT_EQ(fds[1].revents, POLLOUT);
  ASSERT_EQ(write(p.writer.get(), "x", 1), 1);
  EXPECT_EQ(poll(fds, 2, -1), 2);
  EXPECT_EQ(fds[0].revents, POLLIN);
}

TEST(PollTest, HangupErrorAndInvalid) {
  Pipe p, q;
  p.writer.Reset();
  q.reader.Reset();
  pollfd fds[4] = {{p.reader.get(), POLLIN, 0}, {q.writer.get(), POLLOUT, 0}, {999, POLLIN, 0},
                   {-5, POLLIN, 77}};
  EXPECT_EQ(poll(fds, 4, -1), 3);
  EXPECT_EQ(fds[0].revents, POLLHUP);
  EXPECT_EQ(fds[1].revents, POLLOUT | POLLERR);
  EXPECT_EQ(fds[2].revents, POLLNVAL);
  EXPECT_EQ(fds[3].revents, 0);
}

TEST(PollTest, RegularFilesAreAlwaysReady) {
  TempDir dir;
  Fd fd(open(dir.File("f").c_str(), O_RDWR));
  pollfd f = {fd.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&f, 1, -1), 1);
  EXPECT_EQ(f.revents, POLLIN | POLLOUT);
}

TEST(PollTest, TimeoutIsNotEarly) {
  Pipe p;
  pollfd f = {p.reader.get(), POLLIN, 0};
  const int64_t start = NowMs();
  EXPECT_EQ(poll(&f, 1, 30), 0);
  EXPECT_GE(NowMs() - start, 29);
  EXPECT_EQ(poll(nullptr, 0, 5), 0);
}

TEST(PollTest, WakesWhenAnotherThreadWrites) {
  Pipe p;
  std::thread t([&] {
    usleep(10000);
    EXPECT_EQ(write(p.writer.get(), "x", 1), 1);
  });
  pollfd f = {p.reader.get(), POLLIN, 0};
  EXPECT_EQ(poll(&f, 1, -1), 1);
  t.join();
}

TEST(PollTest, Errors) {
  EXPECT_FAILS(syscall(SYS_poll, BadAddress(), 1, 0), EFAULT);
  EXPECT_FAILS(syscall(SYS_poll, nullptr, 1u << 30, 0), EINVAL);
  const timespec bad = {0, 1000000000};
  EXPECT_FAILS(ppoll(nullptr, 0, &bad, nullptr), EINVAL);
}

void OnSignal(int) {}

TEST(PollTest, PpollUnblocksItsMaskOnlyWhileWaiting) {
  struct sigaction sa = {};
  sa.sa_handler = OnSignal;
  ASSERT_OK(sigaction(SIGUSR1, &sa, nullptr));
  sigset_t block, open, now;
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  sigemptyset(&open);
  ASSERT_OK(sigprocmask(SIG_BLOCK, &block, nullptr));
  raise(SIGUSR1);
  EXPECT_FAILS(ppoll(nullptr, 0, nullptr, &open), EINTR);
  ASSERT_OK(sigprocmask(SIG_SETMASK, nullptr, &now));
  EXPECT_TRUE(sigismember(&now, SIGUSR1));
  ASSERT_OK(sigprocmask(SIG_UNBLOCK, &block, nullptr));
  signal(SIGUSR1, SIG_DFL);
}

TEST(SelectTest, SetsAreReplacedByWhatIsReady) {
  Pipe p;
  fd_set r, w;
  FD_ZERO(&r);
  FD_ZERO(&w);
  FD_SET(p.reader.get(), &r);
  FD_SET(p.writer.get(), &w);
  const int n = std::max(p.reader.get(), p.writer.get()) + 1;
  timeval zero = {};
  EXPECT_EQ(select(n, &r, &w, nullptr, &zero), 1);
  EXPECT_FALSE(FD_ISSET(p.reader.get(), &r));
  EXPECT_TRUE(FD_ISSET(p.writer.get(), &w));
  p.writer.Reset();
  FD_SET(p.reader.get(), &r);
  EXPECT_EQ(select(n, &r, nullptr, nullptr, nullptr), 1);
}

TEST(SelectTest, RemainingTimeIsWrittenBack) {
  Pipe p;
  ASSERT_EQ(write(p.writer.get(), "x", 1), 1);
  fd_set r;
  FD_ZERO(&r);
  FD_SET(p.reader.get(), &r);
  timeval t = {5, 0};
  EXPECT_EQ(select(p.reader.get() + 1, &r, nullptr, nullptr, &t), 1);
  EXPECT_LE(t.tv_sec, 5);
  EXPECT_GT(t.tv_sec * 1000000 + t.tv_usec, 0);
  t = {0, 1000};
  EXPECT_EQ(select(0, nullptr, nullptr, nullptr, &t), 0);
  EXPECT_EQ(t.tv_sec, 0);
  EXPECT_EQ(t.tv_usec, 0);
}

TEST(SelectTest, Errors) {
  timeval zero = {};
  fd_set r;
  FD_ZERO(&r);
  FD_SET(60, &r);
  EXPECT_FAILS(select(61, &r, nullptr, nullptr, &zero), EBADF);
  EXPECT_FAILS(select(-1, nullptr, nullptr, nullptr, &zero), EINVAL);
  timeval bad = {-1, 0};
  EXPECT_FAILS(select(0, nullptr, nullptr, nullptr, &bad), EINVAL);
  EXPECT_FAILS(syscall(SYS_select, 1, BadAddress(), nullptr, nullptr, &zero), EFAULT);
}

class EpollTest : public ::testing::Test {
 protected:
  int Add(int fd, uint32_t events, uint64_t data = 7) {
    epoll_event e = {events, {.u64 = data}};
    return epoll_ctl(ep_.get(), EPOLL_CTL_ADD, fd, &e);
  }
  int Wait(int timeout = 0) { return epoll_wait(ep_.get(), got_, 8, timeout); }
  Fd ep_{epoll_create1(EPOLL_CLOEXEC)};
  epoll_event got_[8] = {};
  Pipe p_;
};

TEST_F(EpollTest, LevelTriggeredRepeats) {
  ASSERT_OK(Add(p_.reader.get(), EPOLLIN, 42));
  EXPECT_EQ(Wait(), 0);
  ASSERT_EQ(write(p_.writer.get(), "x", 1), 1);
  EXPECT_EQ(Wait(), 1);
  EXPECT_EQ(got_[0].data.u64, 42u);
  EXPECT_EQ(got_[0].events, static_cast<uint32_t>(EPOLLIN));
  EXPECT_EQ(Wait(), 1);
}

TEST_F(EpollTest, EdgeTriggeredSpeaksOncePerWrite) {
  ASSERT_OK(Add(p_.reader.get(), EPOLLIN | EPOLLET));
  ASSERT_EQ(write(p_.writer.get(), "x", 1), 1);
  EXPECT_EQ(Wait(), 1);
  EXPECT_EQ(Wait(), 0);
  ASSERT_EQ(write(p_.writer.get(), "y", 1), 1);
  EXPECT_EQ(Wait(), 1);
}

TEST_F(EpollTest, OneshotNeedsRearming) {
  ASSERT_OK(Add(p_.reader.get(), EPOLLIN | EPOLLONESHOT));
  ASSERT_EQ(write(p_.writer.get(), "x", 1), 1);
  EXPECT_EQ(Wait(), 1);
  EXPECT_EQ(Wait(), 0);
  epoll_event e = {EPOLLIN | EPOLLONESHOT, {}};
  ASSERT_OK(epoll_ctl(ep_.get(), EPOLL_CTL_MOD, p_.reader.get(), &e));
  EXPECT_EQ(Wait(), 1);
}

TEST_F(EpollTest, CtlErrors) {
  ASSERT_OK(Add(p_.reader.get(), EPOLLIN));
  EXPECT_FAILS(Add(p_.reader.get(), EPOLLIN), EEXIST);
  EXPECT_FAILS(Add(999, EPOLLIN), EBADF);
  EXPECT_FAILS(Add(ep_.get(), EPOLLIN), EINVAL);
  epoll_event e = {};
  EXPECT_FAILS(epoll_ctl(ep_.get(), EPOLL_CTL_MOD, p_.writer.get(), &e), ENOENT);
  EXPECT_FAILS(epoll_ctl(ep_.get(), EPOLL_CTL_DEL, p_.writer.get(), &e), ENOENT);
  EXPECT_FAILS(epoll_ctl(ep_.get(), 9, p_.writer.get(), &e), EINVAL);
  EXPECT_FAILS(epoll_ctl(p_.reader.get(), EPOLL_CTL_ADD, p_.writer.get(), &e), EINVAL);
  EXPECT_FAILS(syscall(SYS_epoll_ctl, ep_.get(), EPOLL_CTL_ADD, p_.writer.get(), BadAddress()),
               EFAULT);
  TempDir dir;
  Fd file(open(dir.File("f").c_str(), O_RDONLY));
  EXPECT_FAILS(Add(file.get(), EPOLLIN), EPERM);
}

TEST_F(EpollTest, WaitErrors) {
  EXPECT_FAILS(epoll_wait(ep_.get(), got_, 0, 0), EINVAL);
  EXPECT_FAILS(epoll_wait(p_.reader.get(), got_, 1, 0), EINVAL);
  EXPECT_FAILS(epoll_wait(999, got_, 1, 0), EBADF);
  ASSERT_OK(Add(p_.writer.get(), EPOLLOUT));
  EXPECT_FAILS(syscall(SYS_epoll_wait, ep_.get(), BadAddress(), 1, 0), EFAULT);
  EXPECT_FAILS(epoll_create1(0x1), EINVAL);
  EXPECT_FAILS(syscall(SYS_epoll_create, 0), EINVAL);
}

TEST_F(EpollTest, ClosingTheLastDescriptorForgetsIt) {
  ASSERT_OK(Add(p_.writer.get(), EPOLLOUT));
  Fd other(dup(p_.writer.get()));
  p_.writer.Reset();
  EXPECT_EQ(Wait(), 1);  // the open file still lives through the duplicate
  other.Reset();
  EXPECT_EQ(Wait(), 0);
}

TEST_F(EpollTest, HangupIsReportedUnasked) {
  ASSERT_OK(Add(p_.reader.get(), 0));
  p_.writer.Reset();
  EXPECT_EQ(Wait(), 1);
  EXPECT_EQ(got_[0].events, static_cast<uint32_t>(EPOLLHUP));
}

TEST_F(EpollTest, NestsAndRefusesLoops) {
  Fd outer(epoll_create1(0));
  epoll_event e = {EPOLLIN, {}};
  ASSERT_OK(epoll_ctl(outer.get(), EPOLL_CTL_ADD, ep_.get(), &e));
  EXPECT_FAILS(epoll_ctl(ep_.get(), EPOLL_CTL_ADD, outer.get(), &e), ELOOP);
  ASSERT_OK(Add(p_.reader.get(), EPOLLIN));
  EXPECT_EQ(epoll_wait(outer.get(), got_, 8, 0), 0);
  ASSERT_EQ(write(p_.writer.get(), "x", 1), 1);
  EXPECT_EQ(epoll_wait(outer.get(), got_, 8, 0), 1);
}

TEST_F(EpollTest, BlockedWaiterWakes) {
  ASSERT_OK(Add(p_.reader.get(), EPOLLIN));
  std::thread t([&] {
    usleep(5000);
    EXPECT_EQ(write(p_.writer.get(), "x", 1), 1);
  });
  EXPECT_EQ(Wait(-1), 1);
  t.join();
}

TEST_F(EpollTest, ManyReadyComeInTurns) {
  Pipe more[5];
  for (int i = 0; i < 5; ++i) ASSERT_OK(Add(more[i].writer.get(), EPOLLOUT, i));
  unsigned seen = 0;
  for (int i = 0; i < 10 && seen != 31; ++i) {
    ASSERT_EQ(epoll_wait(ep_.get(), got_, 2, 0), 2);
    seen |= 1u << got_[0].data.u64 | 1u << got_[1].data.u64;
  }
  EXPECT_EQ(seen, 31u);
}

TEST_F(EpollTest, ExclusiveRules) {
  ASSERT_OK(Add(p_.reader.get(), EPOLLIN | EPOLLEXCLUSIVE));
  epoll_event e = {EPOLLIN, {}};
  EXPECT_FAILS(epoll_ctl(ep_.get(), EPOLL_CTL_MOD, p_.reader.get(), &e), EINVAL);
  EXPECT_FAILS(Add(p_.writer.get(), EPOLLOUT | EPOLLEXCLUSIVE | EPOLLONESHOT), EINVAL);
}

TEST_F(EpollTest, Pwait2TakesNanoseconds) {
  const timespec t = {0, 2000000};
  EXPECT_EQ(syscall(SYS_epoll_pwait2, ep_.get(), got_, 8, &t, nullptr, 0), 0);
  const timespec bad = {0, -1};
  EXPECT_FAILS(syscall(SYS_epoll_pwait2, ep_.get(), got_, 8, &bad, nullptr, 0), EINVAL);
}

TEST(EventfdTest, CountsAndClears) {
  Fd e(eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
  uint64_t v = 0;
  EXPECT_EQ(read(e.get(), &v, 8), 8);
  EXPECT_EQ(v, 3u);
  EXPECT_FAILS(read(e.get(), &v, 8), EAGAIN);
  v = 5;
  EXPECT_EQ(write(e.get(), &v, 8), 8);
  EXPECT_EQ(write(e.get(), &v, 8), 8);
  EXPECT_EQ(read(e.get(), &v, 8), 8);
  EXPECT_EQ(v, 10u);
}

TEST(EventfdTest, SemaphoreGivesOneByOne) {
  Fd e(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
  uint64_t v = 0;
  EXPECT_EQ(read(e.get(), &v, 8), 8);
  EXPECT_EQ(v, 1u);
  EXPECT_EQ(read(e.get(), &v, 8), 8);
  EXPECT_FAILS(read(e.get(), &v, 8), EAGAIN);
}

TEST(EventfdTest, Limits) {
  Fd e(eventfd(0, EFD_NONBLOCK));
  uint64_t v = ~0ull;
  EXPECT_FAILS(write(e.get(), &v, 8), EINVAL);
  v = ~0ull - 1;
  EXPECT_EQ(write(e.get(), &v, 8), 8);
  pollfd f = {e.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&f, 1, 0), 1);
  EXPECT_EQ(f.revents, POLLIN);
  v = 1;
  EXPECT_FAILS(write(e.get(), &v, 8), EAGAIN);
  EXPECT_FAILS(write(e.get(), &v, 4), EINVAL);
  EXPECT_FAILS(read(e.get(), &v, 4), EINVAL);
  EXPECT_FAILS(eventfd(0, 0x10), EINVAL);
}

}  // namespace
}  // namespace ringwall::test
