// kcmp(2): what two processes share.
#include <errno.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>

#include <gtest/gtest.h>

namespace {

long Kcmp(pid_t a, pid_t b, int type, unsigned long x = 0, unsigned long y = 0) {
  return syscall(SYS_kcmp, a, b, type, x, y);
}

// A process that waits until it is killed.
pid_t Sleeper(unsigned long flags) {
  const long pid = syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (pid == 0) {
    for (;;) pause();
  }
  return static_cast<pid_t>(pid);
}

void End(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

TEST(KcmpTest, EqualsAreEqualAndOthersHaveAnOrder) {
  const pid_t self = getpid();
  for (const int type : {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO, KCMP_SYSVSEM}) {
    EXPECT_EQ(Kcmp(self, self, type), 0) << type;
  }
  const pid_t child = Sleeper(0);
  for (const int type : {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND}) {
    const long ahead = Kcmp(self, child, type), behind = Kcmp(child, self, type);
    EXPECT_TRUE((ahead == 1 && behind == 2) || (ahead == 2 && behind == 1)) << type;
  }
  End(child);
}

TEST(KcmpTest, SemaphoreUndo) {
  const int id = semget(IPC_PRIVATE, 1, 0600);
  ASSERT_GE(id, 0);
  sembuf up = {0, 1, SEM_UNDO};
  ASSERT_EQ(semop(id, &up, 1), 0);
  const pid_t self = getpid();
  const pid_t sharing = Sleeper(CLONE_SYSVSEM), alone = Sleeper(0);
  EXPECT_EQ(Kcmp(self, sharing, KCMP_SYSVSEM), 0);
  EXPECT_GT(Kcmp(self, alone, KCMP_SYSVSEM), 0);
  End(sharing);
  End(alone);
  semctl(id, 0, IPC_RMID);
}

TEST(KcmpTest, TargetsOfEpoll) {
  const pid_t self = getpid();
  const int epoll = epoll_create1(0), event = eventfd(0, 0), other = eventfd(0, 0);
  const int copy = dup(event);
  epoll_event e = {EPOLLIN, {}};
  ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &e), 0);
  struct {
    uint32_t efd, tfd, toff;
  } slot = {static_cast<uint32_t>(epoll), static_cast<uint32_t>(event), 0};
  const auto arg = reinterpret_cast<unsigned long>(&slot);
  const auto compare = [&](int fd) {
    return Kcmp(self, self, KCMP_EPOLL_TFD, static_cast<unsigned long>(fd), arg);
  };
  EXPECT_EQ(compare(event), 0);
  EXPECT_EQ(compare(copy), 0);
  EXPECT_GT(compare(other), 0);
  EXPECT_EQ(compare(9999), -1);
  EXPECT_EQ(errno, EBADF);
  slot.tfd = static_cast<uint32_t>(other);
  EXPECT_EQ(compare(event), -1);
  EXPECT_EQ(errno, ENOENT);
  slot = {static_cast<uint32_t>(epoll), static_cast<uint32_t>(event), 1};
  EXPECT_EQ(compare(event), -1);
  EXPECT_EQ(errno, ENOENT);
  slot = {static_cast<uint32_t>(event), static_cast<uint32_t>(event), 0};
  EXPECT_EQ(compare(event), -1);
  EXPECT_EQ(errno, EINVAL);
  slot.efd = 9999;
  EXPECT_EQ(compare(event), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(Kcmp(self, self, KCMP_EPOLL_TFD, static_cast<unsigned long>(event), 8), -1);
  EXPECT_EQ(errno, EFAULT);
  for (const int fd : {epoll, event, other, copy}) close(fd);
}

TEST(KcmpTest, BadOnesAreRefused) {
  const pid_t self = getpid();
  EXPECT_EQ(Kcmp(self, self, 99), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(Kcmp(self, 0, KCMP_VM), -1);
  EXPECT_EQ(errno, ESRCH);
  EXPECT_EQ(Kcmp(self, self, KCMP_FILE, 9999, 0), -1);
  EXPECT_EQ(errno, EBADF);
}

}  // namespace
