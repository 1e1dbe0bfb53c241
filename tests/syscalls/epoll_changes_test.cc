// Many changes of one epoll in a row: what each says, and that whoever looks next sees all of them.
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

// With an end that is readable, and an epoll whose changes have been seen to work.
struct Watch {
  Fd epoll{epoll_create1(EPOLL_CLOEXEC)};
  Pipe pipe;

  explicit Watch(char byte = 'x') {
    EXPECT_EQ(write(pipe.writer.get(), &byte, 1), 1);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Add(EPOLLIN, 1), 0);
      EXPECT_EQ(Modify(0, 2), 0);
      EXPECT_EQ(Delete(), 0);
    }
  }
  int Control(int op, int fd, uint32_t events, uint64_t data) {
    epoll_event event = {};
    event.events = events;
    event.data.u64 = data;
    return epoll_ctl(epoll.get(), op, fd, &event) == 0 ? 0 : errno;
  }
  int Add(uint32_t events, uint64_t data) {
    return Control(EPOLL_CTL_ADD, pipe.reader.get(), events, data);
  }
  int Modify(uint32_t events, uint64_t data) {
    return Control(EPOLL_CTL_MOD, pipe.reader.get(), events, data);
  }
  int Delete() { return Control(EPOLL_CTL_DEL, pipe.reader.get(), 0, 0); }
  // The data of what is ready; 0: nothing is.
  uint64_t Ready(int timeout_ms = 0) {
    epoll_event event = {};
    return epoll_wait(epoll.get(), &event, 1, timeout_ms) == 1 ? event.data.u64 : 0;
  }
};

TEST(EpollChangesTest, EachSaysHowTheLastOneLeftIt) {
  Watch w;
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(w.Modify(EPOLLIN, 1), ENOENT) << i;
    ASSERT_EQ(w.Delete(), ENOENT);
    ASSERT_EQ(w.Add(EPOLLIN, 1), 0);
    ASSERT_EQ(w.Add(EPOLLIN, 1), EEXIST);
    ASSERT_EQ(w.Delete(), 0);
  }
}

TEST(EpollChangesTest, TheLastOfManyHolds) {
  Watch w;
  for (uint64_t i = 1; i <= 100; ++i) {
    ASSERT_EQ(w.Add(EPOLLIN, i), 0);
    for (uint64_t k = 0; k < i; ++k) ASSERT_EQ(w.Modify(k % 2 == 0 ? EPOLLIN : EPOLLPRI, i * 1000 + k), 0);
    ASSERT_EQ(w.Ready(), i % 2 == 1 ? i * 1000 + i - 1 : 0);
    ASSERT_EQ(w.Delete(), 0);
    if (i % 3 == 0) {
      ASSERT_EQ(w.Ready(), 0u);
    }
  }
}

TEST(EpollChangesTest, OneShotIsArmedAnew) {
  Watch w;
  ASSERT_EQ(w.Add(EPOLLIN | EPOLLONESHOT, 1), 0);
  for (uint64_t i = 1; i < 20; ++i) {
    EXPECT_EQ(w.Ready(), i);
    EXPECT_EQ(w.Ready(), 0u);
    EXPECT_EQ(w.Modify(EPOLLIN | EPOLLONESHOT, i + 1), 0);
  }
}

TEST(EpollChangesTest, BadEventsAndDescriptors) {
  Watch w;
  ASSERT_EQ(w.Add(EPOLLIN, 5), 0);
  const int fd = w.pipe.reader.get();
  EXPECT_EQ(epoll_ctl(w.epoll.get(), EPOLL_CTL_MOD, fd, static_cast<epoll_event*>(BadAddress())), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(w.Modify(EPOLLIN | EPOLLEXCLUSIVE, 6), EINVAL);
  EXPECT_EQ(w.Control(77, fd, EPOLLIN, 6), EINVAL);
  EXPECT_EQ(w.Control(EPOLL_CTL_MOD, w.epoll.get(), EPOLLIN, 6), EINVAL);
  EXPECT_EQ(w.Control(EPOLL_CTL_MOD, -1, EPOLLIN, 6), EBADF);
  EXPECT_EQ(w.Ready(), 5u);
  ASSERT_EQ(w.Delete(), 0);
  EXPECT_EQ(epoll_ctl(w.epoll.get(), EPOLL_CTL_ADD, fd, static_cast<epoll_event*>(BadAddress())), -1);
  EXPECT_EQ(errno, EFAULT);
  ASSERT_EQ(w.Add(EPOLLIN | EPOLLEXCLUSIVE, 7), 0);
  EXPECT_EQ(w.Modify(EPOLLIN, 8), EINVAL);
  EXPECT_EQ(w.Ready(), 7u);
}

TEST(EpollChangesTest, ANumberThatNamesAnotherFile) {
  Watch w;
  Pipe other;
  const int fd = w.pipe.reader.get();
  ASSERT_EQ(w.Add(EPOLLIN, 1), 0);
  ASSERT_EQ(w.Modify(EPOLLIN, 2), 0);
  ASSERT_EQ(dup2(other.reader.get(), fd), fd);
  EXPECT_EQ(w.Modify(EPOLLIN, 3), ENOENT);
  EXPECT_EQ(w.Delete(), ENOENT);
  EXPECT_EQ(w.Ready(), 0u);
  EXPECT_EQ(w.Add(EPOLLIN, 4), 0);
  EXPECT_EQ(w.Modify(EPOLLIN, 5), 0);
  ASSERT_EQ(close(fd), 0);
  EXPECT_EQ(w.Modify(EPOLLIN, 6), EBADF);
  ASSERT_EQ(fcntl(other.reader.get(), F_DUPFD, fd), fd);
  EXPECT_EQ(w.Delete(), 0);  // the file is still open elsewhere, and the key is the same
  EXPECT_EQ(w.Delete(), ENOENT);
}

TEST(EpollChangesTest, AnotherEpollAtTheSameNumber) {
  Watch w;
  ASSERT_EQ(w.Add(EPOLLIN, 1), 0);
  ASSERT_EQ(w.Modify(EPOLLIN, 2), 0);
  Fd fresh(epoll_create1(0));
  ASSERT_EQ(dup2(fresh.get(), w.epoll.get()), w.epoll.get());
  EXPECT_EQ(w.Modify(EPOLLIN, 3), ENOENT);
  EXPECT_EQ(w.Add(EPOLLIN, 4), 0);
  // By its other number too.
  epoll_event event = {};
  ASSERT_EQ(epoll_wait(fresh.get(), &event, 1, 0), 1);
  EXPECT_EQ(event.data.u64, 4u);
  ASSERT_EQ(epoll_ctl(fresh.get(), EPOLL_CTL_DEL, w.pipe.reader.get(), nullptr), 0);
  EXPECT_EQ(w.Delete(), ENOENT);
}

TEST(EpollChangesTest, OneThatAnotherEpollWatches) {
  Watch w;
  Fd outer(epoll_create1(0));
  epoll_event event = {};
  event.events = EPOLLIN;
  ASSERT_EQ(epoll_ctl(outer.get(), EPOLL_CTL_ADD, w.epoll.get(), &event), 0);
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(w.Add(EPOLLIN, 1), 0);
    EXPECT_EQ(epoll_wait(outer.get(), &event, 1, 0), 1);
    ASSERT_EQ(w.Modify(0, 1), 0);
    EXPECT_EQ(epoll_wait(outer.get(), &event, 1, 0), 0);
    ASSERT_EQ(w.Delete(), 0);
  }
}

// What another process or thread sees, after a sign that is no call.
struct Shared {
  std::atomic<int> step{0};
  static Shared* Make() {
    void* at = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? nullptr : new (at) Shared;
  }
  void Await(int wanted, bool yields) {
    while (step.load() != wanted) {
      if (yields) sched_yield();
    }
  }
};

constexpr int kLongMs = 20'000;

TEST(EpollChangesTest, AChildSeesThoseBeforeAndAfterFork) {
  Shared* const shared = Shared::Make();
  ASSERT_NE(shared, nullptr);
  Watch w;
  ASSERT_EQ(w.Add(EPOLLIN, 7), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (w.Ready() != 7) _exit(1);
    shared->step = 1;
    shared->Await(2, true);
    _exit(w.Ready() == 8 ? 0 : 2);
  }
  ASSERT_GT(child, 0);
  shared->Await(1, true);
  EXPECT_EQ(w.Modify(EPOLLIN, 9), 0);
  EXPECT_EQ(w.Modify(EPOLLIN, 8), 0);
  shared->step = 2;
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(EpollChangesTest, AThreadThatWaitsIsWoken) {
  Watch w;
  std::atomic<uint64_t> seen{0};
  std::thread other([&] { seen = w.Ready(kLongMs); });
  ASSERT_EQ(w.Add(0, 1), 0);
  ASSERT_EQ(w.Modify(EPOLLIN, 2), 0);
  while (seen == 0) {
  }
  other.join();
  EXPECT_EQ(seen, 2u);
}

TEST(EpollChangesTest, WhoFetchedTheDescriptorIsWoken) {
  Shared* const shared = Shared::Make();
  ASSERT_NE(shared, nullptr);
  int number[2];
  ASSERT_EQ(pipe(number), 0);
  const pid_t child = fork();
  if (child == 0) {
    Watch w;
    const int fd = w.epoll.get();
    if (write(number[1], &fd, sizeof fd) != sizeof fd) _exit(1);
    // Known again after the write.
    if (w.Add(0, 1) != 0 || w.Delete() != 0 || w.Add(0, 1) != 0) _exit(2);
    shared->step = 1;
    shared->Await(2, false);
    if (w.Modify(EPOLLIN, 5) != 0) _exit(3);
    shared->Await(3, false);
    _exit(0);
  }
  ASSERT_GT(child, 0);
  int fd = -1;
  ASSERT_EQ(read(number[0], &fd, sizeof fd), static_cast<ssize_t>(sizeof fd));
  shared->Await(1, true);
  const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  const Fd mine(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), fd, 0)));
  ASSERT_GE(mine.get(), 0);
  shared->step = 2;
  epoll_event event = {};
  EXPECT_EQ(epoll_wait(mine.get(), &event, 1, kLongMs), 1);
  EXPECT_EQ(event.data.u64, 5u);
  shared->step = 3;
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  close(number[0]);
  close(number[1]);
}

TEST(EpollChangesTest, ThoseOfAChildThatSharesTheDescriptors) {
  Watch w;
  struct Arg {
    Watch* watch;
    int result;
  } arg = {&w, -1};
  alignas(16) static char stack[256 << 10];
  const pid_t child = clone(
      [](void* at) {
        auto* a = static_cast<Arg*>(at);
        a->result = a->watch->Add(EPOLLIN, 3);
        return 0;
      },
      stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &arg);
  ASSERT_GT(child, 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_EQ(arg.result, 0);
  EXPECT_EQ(w.Add(EPOLLIN, 4), EEXIST);
  EXPECT_EQ(w.Ready(), 3u);
}

}  // namespace
}  // namespace ringwall::test
