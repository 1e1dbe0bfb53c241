// futex in all its forms, robust lists and what pthreads build on them.
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include <atomic>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

long Futex(void* word, int op, uint32_t value, const timespec* timeout = nullptr,
           void* word2 = nullptr, uint32_t value3 = 0) {
  return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}
long Requeue(void* word, int op, uint32_t wake, uint64_t requeue, void* word2, uint32_t value3 = 0) {
  return syscall(SYS_futex, word, op, wake, requeue, word2, value3);
}

TEST(FutexTest, WaitReturnsAtOnceWhenTheValueDiffers) {
  int word = 1;
  EXPECT_FAILS(Futex(&word, FUTEX_WAIT, 0), EAGAIN);
  EXPECT_FAILS(Futex(&word, FUTEX_WAIT_PRIVATE, 0), EAGAIN);
}

TEST(FutexTest, WaitTimesOut) {
  int word = 1;
  const timespec soon = {0, 2000000};
  EXPECT_FAILS(Futex(&word, FUTEX_WAIT_PRIVATE, 1, &soon), ETIMEDOUT);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  EXPECT_FAILS(Futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 1, &now, nullptr, ~0u), ETIMEDOUT);
  clock_gettime(CLOCK_REALTIME, &now);
  EXPECT_FAILS(Futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 1, &now, nullptr, ~0u),
               ETIMEDOUT);
}

TEST(FutexTest, Errors) {
  alignas(8) char words[8] = {};
  const timespec bad = {0, 1000000000}, negative = {-1, 0};
  EXPECT_FAILS(Futex(words + 1, FUTEX_WAIT_PRIVATE, 0), EINVAL);
  EXPECT_FAILS(Futex(words + 1, FUTEX_WAKE_PRIVATE, 1), EINVAL);
  EXPECT_FAILS(Futex(words, FUTEX_WAIT_PRIVATE, 0, &bad), EINVAL);
  EXPECT_FAILS(Futex(words, FUTEX_WAIT_PRIVATE, 0, &negative), EINVAL);
  EXPECT_FAILS(Futex(words, FUTEX_WAIT_BITSET_PRIVATE, 0, nullptr, nullptr, 0), EINVAL);
  EXPECT_FAILS(Futex(words, FUTEX_WAKE_BITSET_PRIVATE, 0, nullptr, nullptr, 0), EINVAL);
  EXPECT_FAILS(Futex(words, 99, 0), ENOSYS);
  EXPECT_FAILS(Futex(NoAccessPage(), FUTEX_WAIT_PRIVATE, 0), EFAULT);
  EXPECT_FAILS(Futex(NoAccessPage(), FUTEX_WAIT, 0), EFAULT);
  EXPECT_FAILS(Futex(words, FUTEX_WAIT_PRIVATE, 0, static_cast<timespec*>(BadAddress())), EFAULT);
  EXPECT_EQ(Futex(words, FUTEX_WAKE_PRIVATE, 1), 0);
}

// Threads that sleep on a word; Count() tells how many came back.
class Sleepers {
 public:
  Sleepers(std::atomic<int>* word, int n, int op, uint32_t bits = ~0u) {
    for (int i = 0; i < n; ++i) {
      threads_.emplace_back([=, this] {
        tids_ += 1;
        while (Futex(word, op, 0, nullptr, nullptr, bits) != 0 && errno == EINTR) {
        }
        woken_ += 1;
      });
    }
  }
  ~Sleepers() {
    for (auto& t : threads_) t.join();
  }
  int Count() const { return woken_; }
  // Wakes with call() until n have been woken in all.
  template <typename F>
  void WakeUntil(int n, F call) {
    int total = 0;
    while (total < n) {
      const long r = call();
      ASSERT_GE(r, 0);
      total += static_cast<int>(r);
      if (r == 0) usleep(200);
    }
    EXPECT_EQ(total, n);
  }

 private:
  std::atomic<int> tids_{0}, woken_{0};
  std::vector<std::thread> threads_;
};

TEST(FutexTest, WakesNoMoreThanAsked) {
  for (int op : {FUTEX_WAIT, FUTEX_WAIT_PRIVATE}) {
    std::atomic<int> word{0};
    Sleepers s(&word, 3, op);
    const int wake = (op & FUTEX_PRIVATE_FLAG) | FUTEX_WAKE;
    s.WakeUntil(1, [&] { return Futex(&word, wake, 1); });
    s.WakeUntil(2, [&] { return Futex(&word, wake, 1); });
  }
}

TEST(FutexTest, BitsChooseWhoWakes) {
  std::atomic<int> word{0};
  Sleepers a(&word, 1, FUTEX_WAIT_BITSET_PRIVATE, 1), b(&word, 1, FUTEX_WAIT_BITSET_PRIVATE, 2);
  b.WakeUntil(1, [&] { return Futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, nullptr, nullptr, 2); });
  EXPECT_EQ(a.Count(), 0);
  a.WakeUntil(1, [&] { return Futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, nullptr, nullptr, 1); });
}

TEST(FutexTest, RequeueMovesSleepers) {
  std::atomic<int> word{0}, second{0};
  Sleepers s(&word, 3, FUTEX_WAIT_PRIVATE);
  // CMP_REQUEUE counts those woken and those moved.
  s.WakeUntil(3, [&] { return Requeue(&word, FUTEX_CMP_REQUEUE_PRIVATE, 0, 3, &second, 0); });
  EXPECT_EQ(s.Count(), 0);
  EXPECT_EQ(Futex(&word, FUTEX_WAKE_PRIVATE, 9), 0);
  EXPECT_EQ(Futex(&second, FUTEX_WAKE_PRIVATE, 9), 3);
  EXPECT_FAILS(Requeue(&word, FUTEX_CMP_REQUEUE_PRIVATE, 0, 1, &second, 77), EAGAIN);
}

TEST(FutexTest, WakeOpChangesTheSecondWord) {
  std::atomic<int> word{0}, second{5};
  const uint32_t op = FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5);
  EXPECT_EQ(Requeue(&word, FUTEX_WAKE_OP_PRIVATE, 1, 1, &second, op), 0);
  EXPECT_EQ(second, 8);
}

TEST(FutexTest, SharedWordWorksBetweenProcesses) {
  auto* word = static_cast<std::atomic<int>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const pid_t pid = fork();
  if (pid == 0) {
    while (word->load() == 0) Futex(word, FUTEX_WAIT, 0);
    _exit(word->load());
  }
  usleep(2000);
  *word = 17;
  EXPECT_GE(Futex(word, FUTEX_WAKE, 1), 0);
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status, 17));
  munmap(word, 4096);
}

TEST(FutexTest, SharedFileWordWorksBetweenMappings) {
  TempDir dir;
  Fd fd(open(dir.File("f", std::string(4096, '\0')).c_str(), O_RDWR));
  auto* a = static_cast<std::atomic<int>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  auto* b = static_cast<std::atomic<int>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  std::thread sleeper([&] {
    while (a->load() == 0) Futex(a, FUTEX_WAIT, 0);
  });
  usleep(1000);
  *b = 1;
  EXPECT_GE(Futex(b, FUTEX_WAKE, 1), 0);
  sleeper.join();
  munmap(a, 4096);
  munmap(b, 4096);
}

TEST(FutexTest, PrivateWordsOfForkedProcessesAreApart) {
  std::atomic<int> word{0};
  const pid_t pid = fork();
  if (pid == 0) {
    const timespec t = {0, 20000000};
    _exit(Futex(&word, FUTEX_WAIT_PRIVATE, 0, &t) == -1 && errno == ETIMEDOUT ? 0 : 1);
  }
  usleep(5000);
  EXPECT_EQ(Futex(&word, FUTEX_WAKE_PRIVATE, 10), 0);
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

TEST(FutexTest, PiLockAndUnlock) {
  std::atomic<int> word{0};
  ASSERT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0));
  EXPECT_EQ(word & FUTEX_TID_MASK, syscall(SYS_gettid));
  EXPECT_FAILS(Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0), EDEADLK);
  std::thread([&] {
    EXPECT_FAILS(Futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0), EAGAIN);
    EXPECT_FAILS(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0), EPERM);
  }).join();
  ASSERT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0));
  EXPECT_EQ(word, 0);
}

TEST(FutexTest, RobustListMarksTheDeadOwner) {
  struct Node {
    robust_list list;
    std::atomic<int> word;
  };
  auto* node = static_cast<Node*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  EXPECT_TRUE(Exited(InChild([=] {
    static robust_list_head head;
    head.list.next = &node->list;
    node->list.next = &head.list;
    head.futex_offset = offsetof(Node, word);
    node->word = static_cast<int>(syscall(SYS_gettid)) | FUTEX_WAITERS;
    return static_cast<int>(syscall(SYS_set_robust_list, &head, sizeof(head)));
  })));
  EXPECT_EQ(node->word & (FUTEX_OWNER_DIED | FUTEX_TID_MASK), FUTEX_OWNER_DIED);
  munmap(node, 4096);
  EXPECT_FAILS(syscall(SYS_set_robust_list, nullptr, 3), EINVAL);
  void* where;
  size_t size;
  EXPECT_OK(syscall(SYS_get_robust_list, 0, &where, &size));
  EXPECT_EQ(size, sizeof(robust_list_head));
  EXPECT_FAILS(syscall(SYS_get_robust_list, 0, BadAddress(), &size), EFAULT);
}

TEST(FutexTest, RobustListsPendingLockIsMarkedToo) {
  struct Node {
    robust_list list;
    std::atomic<int> word;
  };
  auto* node = static_cast<Node*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  // Of an empty list, by the end of the process and by that of a thread.
  for (const bool thread : {false, true}) {
    EXPECT_TRUE(Exited(InChild([=] {
      const auto end = [=] {
        static robust_list_head head;
        head.list.next = &head.list;
        head.futex_offset = offsetof(Node, word);
        head.list_op_pending = &node->list;
        node->word = static_cast<int>(syscall(SYS_gettid));
        return static_cast<int>(syscall(SYS_set_robust_list, &head, sizeof(head)));
      };
      if (!thread) return end();
      int result = 1;
      std::thread([&] { result = end(); }).join();
      return result;
    })));
    EXPECT_EQ(node->word & (FUTEX_OWNER_DIED | FUTEX_TID_MASK), FUTEX_OWNER_DIED) << thread;
  }
  munmap(node, 4096);
}

TEST(FutexTest, RobustListIsEachTasksOwn) {
  robust_list_head head;
  const auto list_of = [](pid_t pid) {
    void* where = nullptr;
    size_t size = 0;
    EXPECT_OK(syscall(SYS_get_robust_list, pid, &where, &size));
    return where;
  };
  void* const own = list_of(0);
  int ready[2], done[2];
  ASSERT_OK(pipe(ready));
  ASSERT_OK(pipe(done));
  // Without the C library, which would give the child one.
  const auto pid = static_cast<pid_t>(syscall(SYS_fork));
  if (pid == 0) {
    char byte = list_of(0) == nullptr;
    if (syscall(SYS_set_robust_list, &head, sizeof(head)) != 0) byte = 0;
    if (write(ready[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1) _exit(1);
    syscall(SYS_set_robust_list, nullptr, sizeof(head));
    _exit(0);
  }
  char byte = 0;
  EXPECT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_EQ(byte, 1);
  EXPECT_EQ(list_of(pid), &head);
  EXPECT_EQ(list_of(0), own);
  EXPECT_EQ(write(done[1], &byte, 1), 1);
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  for (const int fd : {ready[0], ready[1], done[0], done[1]}) close(fd);
}

TEST(FutexTest, ClearChildTidWakesAtThreadEnd) {
  // What pthread_join waits for, done by hand a hundred times.
  for (int i = 0; i < 100; ++i) std::thread([] {}).join();
}

TEST(FutexTest, WhichErrorComesFirst) {
  alignas(8) static uint32_t word[2] = {};
  auto* const fixed = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  void* const bad = reinterpret_cast<void*>(16);
  void* const odd = reinterpret_cast<char*>(word) + 2;
  const timespec negative = {-1, 0}, soon = {0, 1000};
  const auto* const unreadable = reinterpret_cast<const timespec*>(8);
  word[0] = 0;
  // The timeout before the operation.
  for (const int op : {FUTEX_WAIT, FUTEX_LOCK_PI}) {
    EXPECT_FAILS(Futex(bad, op | FUTEX_CLOCK_REALTIME, 0, &negative), EINVAL);
    EXPECT_FAILS(Futex(bad, op | FUTEX_CLOCK_REALTIME, 0, unreadable), EFAULT);
    EXPECT_FAILS(Futex(bad, op | FUTEX_CLOCK_REALTIME, 0, &soon), ENOSYS);
  }
  // A page of one's own that cannot change is no place for a shared futex.
  EXPECT_FAILS(Futex(fixed, FUTEX_WAKE, 1), EFAULT);
  EXPECT_FAILS(Futex(fixed, FUTEX_WAIT, 0, &soon), EFAULT);
  EXPECT_FAILS(Requeue(fixed, FUTEX_REQUEUE, 1, 1, word), EFAULT);
  EXPECT_FAILS(Futex(fixed, FUTEX_WAKE_OP, 1, nullptr, word), EFAULT);
  EXPECT_FAILS(Futex(fixed, FUTEX_WAIT_REQUEUE_PI, 0, &soon, word), EFAULT);
  EXPECT_EQ(Futex(fixed, FUTEX_WAKE_PRIVATE, 1), 0);
  // The counts and the bits before the page.
  EXPECT_FAILS(Requeue(bad, FUTEX_REQUEUE, 1, ~uint64_t{0}, word), EINVAL);
  EXPECT_FAILS(Futex(bad, FUTEX_WAKE_BITSET, 1, nullptr, nullptr, 0), EINVAL);
  EXPECT_FAILS(Futex(fixed, FUTEX_WAIT_BITSET, 0, &soon, nullptr, 0), EINVAL);
  // Whose lock it is before where it is.
  EXPECT_FAILS(Futex(odd, FUTEX_UNLOCK_PI, 0), EPERM);
  munmap(fixed, 4096);
}

// Before it is moved to the lock the wait goes on after a signal; afterwards it ends.
TEST(FutexTest, SignalEndsAWaitThatWasMovedToALock) {
  struct sigaction noted = {}, before;
  noted.sa_handler = [](int) {};
  ASSERT_OK(sigaction(SIGUSR1, &noted, &before));
  static uint32_t word, lock;
  word = 7;
  lock = 0;
  ASSERT_OK(Futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0));
  std::atomic<int> error{-1};
  std::thread waiter([&] {
    timespec limit;
    clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += 10;
    const long got = Futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 7, &limit, &lock);
    error = got == 0 ? 0 : errno;
  });
  long moved = 0;
  while (moved == 0 && error == -1) {
    EXPECT_EQ(pthread_kill(waiter.native_handle(), SIGUSR1), 0);
    usleep(500);
    moved = Requeue(&word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, 0, &lock, 7);
  }
  EXPECT_EQ(moved, 1);
  EXPECT_EQ(error, -1);
  EXPECT_EQ(pthread_kill(waiter.native_handle(), SIGUSR1), 0);
  waiter.join();
  EXPECT_EQ(error, EAGAIN);
  EXPECT_OK(Futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0));
  EXPECT_OK(sigaction(SIGUSR1, &before, nullptr));
}

TEST(FutexTest, WaitvWaitsForAnyOf) {
  std::atomic<uint32_t> a{0}, b{0};
  struct Waiter {
    uint64_t value, address;
    uint32_t flags, reserved;
  } waiters[2] = {{0, reinterpret_cast<uint64_t>(&a), 2 | 128, 0},
                  {0, reinterpret_cast<uint64_t>(&b), 2 | 128, 0}};
  std::atomic<bool> back{false};
  std::thread waker([&] {
    while (!back && Futex(&b, FUTEX_WAKE_PRIVATE, 1) == 0) usleep(200);
  });
  EXPECT_EQ(syscall(449, waiters, 2, 0, nullptr, 0), 1);
  back = true;
  waker.join();
  waiters[1].value = 5;
  EXPECT_FAILS(syscall(449, waiters, 2, 0, nullptr, 0), EAGAIN);
  EXPECT_FAILS(syscall(449, waiters, 0, 0, nullptr, 0), EINVAL);
  EXPECT_FAILS(syscall(449, waiters, 129, 0, nullptr, 0), EINVAL);
}

TEST(PthreadTest, MutexCondvarAndBarrierUnderLoad) {
  pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t c = PTHREAD_COND_INITIALIZER;
  int turn = 0, sum = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        pthread_mutex_lock(&m);
        while (turn % 4 != t) pthread_cond_wait(&c, &m);
        ++turn;
        ++sum;
        pthread_cond_broadcast(&c);
        pthread_mutex_unlock(&m);
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(sum, 400);
}

TEST(PthreadTest, RobustMutexIsInheritedFromTheDead) {
  auto* m = static_cast<pthread_mutex_t*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(m, &attr);
  EXPECT_TRUE(Exited(InChild([=] { return pthread_mutex_lock(m); })));
  EXPECT_EQ(pthread_mutex_lock(m), EOWNERDEAD);
  EXPECT_EQ(pthread_mutex_consistent(m), 0);
  EXPECT_EQ(pthread_mutex_unlock(m), 0);
  munmap(m, 4096);
}

}  // namespace
}  // namespace ringwall::test
