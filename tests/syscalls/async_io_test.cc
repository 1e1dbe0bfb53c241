// O_ASYNC, F_SETOWN, F_SETSIG.
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

struct OwnerEx {
  int type;
  pid_t pid;
};
constexpr int kOwnerTid = 0, kOwnerPgrp = 2;

// The signal that waits, taken; 0 when none does.
int TakePending(int signo, siginfo_t* info = nullptr) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signo);
  const timespec none = {0, 0};
  siginfo_t own;
  const int got = sigtimedwait(&set, info != nullptr ? info : &own, &none);
  return got > 0 ? got : 0;
}

// Events of host files come from another thread of the kernel under test.
int WaitPending(int signo, siginfo_t* info = nullptr) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signo);
  const timespec limit = {10, 0};
  siginfo_t own;
  return sigtimedwait(&set, info != nullptr ? info : &own, &limit);
}

class AsyncTest : public ::testing::Test {
 protected:
  AsyncTest() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, &old_);
  }
  ~AsyncTest() override {
    while (TakePending(SIGIO) != 0 || TakePending(SIGRTMIN + 3) != 0) {
    }
    sigprocmask(SIG_SETMASK, &old_, nullptr);
  }
  sigset_t old_;
};

TEST_F(AsyncTest, OwnerIsRemembered) {
  Pipe p;
  EXPECT_EQ(fcntl(p.reader.get(), F_GETOWN), 0);
  EXPECT_OK(fcntl(p.reader.get(), F_SETOWN, getpid()));
  EXPECT_EQ(fcntl(p.reader.get(), F_GETOWN), getpid());
  EXPECT_OK(fcntl(p.reader.get(), F_SETOWN, -getpgrp()));
  const long raw = syscall(SYS_fcntl, p.reader.get(), F_GETOWN, 0);
  EXPECT_EQ(raw == -1 ? -errno : raw, -getpgrp());
  OwnerEx owner = {9, 9};
  EXPECT_OK(fcntl(p.reader.get(), F_GETOWN_EX, &owner));
  EXPECT_EQ(owner.type, kOwnerPgrp);
  EXPECT_EQ(owner.pid, getpgrp());
  owner = {kOwnerTid, static_cast<pid_t>(syscall(SYS_gettid))};
  EXPECT_OK(fcntl(p.reader.get(), F_SETOWN_EX, &owner));
  EXPECT_EQ(fcntl(p.reader.get(), F_GETOWN), getpid());
  owner = {3, getpid()};
  EXPECT_FAILS(fcntl(p.reader.get(), F_SETOWN_EX, &owner), EINVAL);
  EXPECT_FAILS(fcntl(p.reader.get(), F_SETOWN, 0x3fffffff), ESRCH);
  EXPECT_FAILS(fcntl(p.reader.get(), F_SETOWN, INT32_MIN), EINVAL);
  EXPECT_FAILS(syscall(SYS_fcntl, p.reader.get(), F_SETOWN_EX, BadAddress()), EFAULT);
  EXPECT_OK(fcntl(p.reader.get(), F_SETOWN, 0));
  EXPECT_EQ(fcntl(p.reader.get(), F_GETOWN), 0);
  EXPECT_EQ(fcntl(p.writer.get(), F_GETOWN), 0);
}

TEST_F(AsyncTest, SignalNumber) {
  Pipe p;
  EXPECT_EQ(fcntl(p.reader.get(), F_GETSIG), 0);
  EXPECT_OK(fcntl(p.reader.get(), F_SETSIG, SIGRTMIN + 3));
  EXPECT_EQ(fcntl(p.reader.get(), F_GETSIG), SIGRTMIN + 3);
  EXPECT_FAILS(fcntl(p.reader.get(), F_SETSIG, 65), EINVAL);
  EXPECT_FAILS(fcntl(p.reader.get(), F_SETSIG, -1), EINVAL);
}

TEST_F(AsyncTest, PipeSendsSigio) {
  Pipe p;
  EXPECT_OK(fcntl(p.reader.get(), F_SETOWN, getpid()));
  EXPECT_EQ(write(p.writer.get(), "a", 1), 1);
  EXPECT_EQ(TakePending(SIGIO), 0);
  EXPECT_OK(fcntl(p.reader.get(), F_SETFL, O_ASYNC));
  EXPECT_EQ(fcntl(p.reader.get(), F_GETFL) & O_ASYNC, O_ASYNC);
  EXPECT_EQ(write(p.writer.get(), "b", 1), 1);
  siginfo_t info = {};
  EXPECT_EQ(TakePending(SIGIO, &info), SIGIO);
  EXPECT_EQ(info.si_code, SI_KERNEL);
  EXPECT_OK(fcntl(p.reader.get(), F_SETFL, 0));
  EXPECT_EQ(write(p.writer.get(), "c", 1), 1);
  EXPECT_EQ(TakePending(SIGIO), 0);
}

TEST_F(AsyncTest, ChosenSignalSaysWhich) {
  Pipe p;
  const int signo = SIGRTMIN + 3;
  EXPECT_OK(fcntl(p.reader.get(), F_SETOWN, getpid()));
  EXPECT_OK(fcntl(p.reader.get(), F_SETSIG, signo));
  EXPECT_OK(fcntl(p.reader.get(), F_SETFL, O_ASYNC));
  EXPECT_EQ(write(p.writer.get(), "b", 1), 1);
  siginfo_t info = {};
  EXPECT_EQ(TakePending(signo, &info), signo);
  EXPECT_EQ(info.si_code, POLL_IN);
  EXPECT_EQ(info.si_fd, p.reader.get());
  EXPECT_NE(info.si_band & 1, 0);
}

TEST_F(AsyncTest, SocketSendsSigio) {
  int fds[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
  Fd a(fds[0]), b(fds[1]);
  EXPECT_OK(fcntl(a.get(), F_SETOWN, getpid()));
  int on = 1;
  EXPECT_OK(ioctl(a.get(), FIOASYNC, &on));
  EXPECT_EQ(fcntl(a.get(), F_GETFL) & O_ASYNC, O_ASYNC);
  EXPECT_EQ(write(b.get(), "x", 1), 1);
  EXPECT_EQ(WaitPending(SIGIO), SIGIO);
  on = 0;
  EXPECT_OK(ioctl(a.get(), FIOASYNC, &on));
  EXPECT_EQ(fcntl(a.get(), F_GETFL) & O_ASYNC, 0);
}

TEST_F(AsyncTest, TerminalSendsSigio) {
  Fd master(posix_openpt(O_RDWR | O_NOCTTY));
  ASSERT_OK(grantpt(master.get()));
  ASSERT_OK(unlockpt(master.get()));
  Fd slave(open(ptsname(master.get()), O_RDWR | O_NOCTTY));
  EXPECT_OK(fcntl(slave.get(), F_SETOWN, getpid()));
  EXPECT_OK(fcntl(slave.get(), F_SETFL, O_ASYNC));
  EXPECT_EQ(write(master.get(), "line\n", 5), 5);
  EXPECT_EQ(WaitPending(SIGIO), SIGIO);
}

TEST_F(AsyncTest, FilesWithout) {
  TempDir dir;
  Fd file(open(dir.File("f", "x").c_str(), O_RDWR));
  EXPECT_OK(fcntl(file.get(), F_SETFL, O_ASYNC));
  EXPECT_EQ(fcntl(file.get(), F_GETFL) & O_ASYNC, 0);
  int on = 1;
  EXPECT_FAILS(ioctl(file.get(), FIOASYNC, &on), ENOTTY);
  Fd event(eventfd(0, 0));
  EXPECT_FAILS(ioctl(event.get(), FIOASYNC, &on), ENOTTY);
  on = 0;
  EXPECT_OK(ioctl(event.get(), FIOASYNC, &on));
}

TEST_F(AsyncTest, OwnerOfAnotherProcess) {
  Pipe p, ready;
  const pid_t child = fork();
  if (child == 0) {
    CHECK_CHILD(write(ready.writer.get(), "x", 1) == 1);
    _exit(WaitPending(SIGIO) == SIGIO ? 0 : 1);
  }
  char c;
  EXPECT_EQ(read(ready.reader.get(), &c, 1), 1);
  EXPECT_OK(fcntl(p.reader.get(), F_SETOWN, child));
  EXPECT_OK(fcntl(p.reader.get(), F_SETFL, O_ASYNC));
  EXPECT_EQ(write(p.writer.get(), "b", 1), 1);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(Exited(status));
  EXPECT_EQ(fcntl(p.reader.get(), F_GETOWN), 0);
}

}  // namespace
}  // namespace ringwall::test
