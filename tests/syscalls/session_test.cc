// Process groups, sessions, controlling terminals and job control over a pty.
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <termios.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

TEST(GroupTest, ChildIsInOurGroupAndCanLeadItsOwn) {
  EXPECT_TRUE(Exited(InChild([] {
    const pid_t inherited = getpgrp();
    CHECK_CHILD(getpgid(0) == inherited);
    CHECK_CHILD(setpgid(0, 0) == 0);
    CHECK_CHILD(getpgrp() == getpid());
    return 0;
  })));
}

TEST(GroupTest, Errors) {
  EXPECT_FAILS(getpgid(1 << 22), ESRCH);
  EXPECT_FAILS(setpgid(1 << 22, 0), ESRCH);
  EXPECT_FAILS(setpgid(0, -1), EINVAL);
  EXPECT_FAILS(getsid(1 << 22), ESRCH);
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(setpgid(0, 1 << 22) == -1 && errno == EPERM);
    CHECK_CHILD(setsid() == getpid());
    CHECK_CHILD(setsid() == -1 && errno == EPERM);
    CHECK_CHILD(setpgid(0, 0) == -1 && errno == EPERM);  // a session leader stays
    return 0;
  })));
}

TEST(GroupTest, KillOfAGroupReachesItsMembersOnly) {
  Pipe p;
  pid_t group = 0, members[3];
  for (auto& m : members) {
    m = fork();
    if (m == 0) {
      setpgid(0, group);
      if (write(p.writer.get(), "x", 1) != 1) _exit(1);
      for (;;) pause();
    }
    setpgid(m, group);
    if (group == 0) group = m;
  }
  char c;
  for (int i = 0; i < 3; ++i) ASSERT_EQ(read(p.reader.get(), &c, 1), 1);
  EXPECT_OK(kill(-group, SIGTERM));
  int status;
  for (int i = 0; i < 3; ++i) {
    ASSERT_GT(waitpid(-group, &status, 0), 0);
    EXPECT_TRUE(KilledBy(status, SIGTERM));
  }
  EXPECT_FAILS(kill(-group, 0), ESRCH);
}

class PtyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int master = -1, slave = -1;
    ASSERT_OK(openpty(&master, &slave, nullptr, nullptr, nullptr));
    master_.Reset(master);
    slave_.Reset(slave);
  }
  std::string ReadSome(int fd) {
    char b[256];
    const ssize_t n = read(fd, b, sizeof(b));
    return n > 0 ? std::string(b, n) : std::string();
  }
  void Raw() {
    termios t;
    ASSERT_OK(tcgetattr(slave_.get(), &t));
    cfmakeraw(&t);
    ASSERT_OK(tcsetattr(slave_.get(), TCSANOW, &t));
  }
  Fd master_, slave_;
};

TEST_F(PtyTest, IsATerminalWithAName) {
  EXPECT_TRUE(isatty(slave_.get()));
  EXPECT_TRUE(isatty(master_.get()));
  char name[64];
  ASSERT_EQ(ptsname_r(master_.get(), name, sizeof(name)), 0);
  struct stat st;
  ASSERT_OK(stat(name, &st));
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  Pipe p;
  EXPECT_FAILS(ioctl(p.reader.get(), TIOCGWINSZ, BadAddress()), ENOTTY);
}

TEST_F(PtyTest, LineModeEditsAndEchoes) {
  ASSERT_EQ(write(master_.get(), "ax\177b\n", 5), 5);
  EXPECT_EQ(ReadSome(slave_.get()), "ab\n");
  EXPECT_EQ(ReadSome(master_.get()), "ax\b \bb\r\n");
}

TEST_F(PtyTest, OutputTranslatesNewlines) {
  ASSERT_EQ(write(slave_.get(), "a\nb", 3), 3);
  EXPECT_EQ(ReadSome(master_.get()), "a\r\nb");
}

TEST_F(PtyTest, EofCharacterEndsTheLine) {
  ASSERT_EQ(write(master_.get(), "abc\004", 4), 4);
  EXPECT_EQ(ReadSome(slave_.get()), "abc");
  ASSERT_EQ(write(master_.get(), "\004", 1), 1);
  char c;
  EXPECT_EQ(read(slave_.get(), &c, 1), 0);
}

TEST_F(PtyTest, LineIsReadInParts) {
  ASSERT_EQ(write(master_.get(), "hello\nworld\n", 12), 12);
  char b[3];
  EXPECT_EQ(read(slave_.get(), b, 3), 3);
  EXPECT_EQ(ReadSome(slave_.get()), "lo\n");
  EXPECT_EQ(ReadSome(slave_.get()), "world\n");
}

TEST_F(PtyTest, RawModePassesBytes) {
  Raw();
  ASSERT_EQ(write(master_.get(), "\003\004\r", 3), 3);
  EXPECT_EQ(ReadSome(slave_.get()), "\003\004\r");
  ASSERT_EQ(write(slave_.get(), "\n", 1), 1);
  EXPECT_EQ(ReadSome(master_.get()), "\n");
}

TEST_F(PtyTest, WindowSizeIsShared) {
  const winsize set = {25, 81, 0, 0};
  ASSERT_OK(ioctl(master_.get(), TIOCSWINSZ, &set));
  winsize got = {};
  ASSERT_OK(ioctl(slave_.get(), TIOCGWINSZ, &got));
  EXPECT_EQ(got.ws_row, 25);
  EXPECT_EQ(got.ws_col, 81);
}

TEST_F(PtyTest, NonblockingReadIsEagain) {
  ASSERT_OK(fcntl(slave_.get(), F_SETFL, O_RDWR | O_NONBLOCK));
  char c;
  EXPECT_FAILS(read(slave_.get(), &c, 1), EAGAIN);
  ASSERT_EQ(write(master_.get(), "no newline", 10), 10);
  EXPECT_FAILS(read(slave_.get(), &c, 1), EAGAIN);
  pollfd p = {slave_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  ASSERT_EQ(write(master_.get(), "\n", 1), 1);
  EXPECT_EQ(poll(&p, 1, 0), 1);
}

TEST_F(PtyTest, MasterReadsEioOnceTheSlaveIsGone) {
  slave_.Reset();
  char c;
  EXPECT_FAILS(read(master_.get(), &c, 1), EIO);
  pollfd p = {master_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_TRUE(p.revents & POLLHUP);
}

// Runs body as the leader of a session whose terminal is the slave.
template <typename F>
pid_t OnTerminal(Fd& slave, F body) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  setsid();
  CHECK_CHILD(ioctl(slave.get(), TIOCSCTTY, 0) == 0);
  _exit(body());
}

TEST_F(PtyTest, ControllingTerminalAndForegroundGroup) {
  const pid_t pid = OnTerminal(slave_, [&] {
    CHECK_CHILD(tcgetpgrp(slave_.get()) == getpid());
    CHECK_CHILD(tcgetsid(slave_.get()) == getpid());
    const int tty = open("/dev/tty", O_RDWR);
    CHECK_CHILD(tty >= 0 && isatty(tty));
    CHECK_CHILD(tcsetpgrp(slave_.get(), 1 << 22) == -1 && errno == ESRCH);
    return 0;
  });
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

// The numbers of /proc/PID/stat from the process group on: pgrp, session, tty_nr, tpgid.
std::array<int, 4> StatOf(pid_t pid) {
  std::array<int, 4> n = {};
  FILE* const f = fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "r");
  if (f == nullptr || fscanf(f, "%*d %*s %*c %*d %d %d %d %d", &n[0], &n[1], &n[2], &n[3]) != 4) n = {};
  if (f != nullptr) fclose(f);
  return n;
}

TEST_F(PtyTest, ControllingTerminalIsInheritedNotShared) {
  struct stat st;
  ASSERT_OK(fstat(slave_.get(), &st));
  const int device = static_cast<int>(st.st_rdev);
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(setsid() == getpid());
    Pipe go;
    const pid_t before = fork();
    if (before == 0) {
      char c;
      (void)!read(go.reader.get(), &c, 1);
      _exit(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO && tcgetpgrp(slave_.get()) == -1 && errno == ENOTTY ? 0 : 1);
    }
    CHECK_CHILD(ioctl(slave_.get(), TIOCSCTTY, 0) == 0);
    CHECK_CHILD((StatOf(getpid()) == std::array{getpid(), getpid(), device, getpid()}));
    CHECK_CHILD((StatOf(before) == std::array{getpid(), getpid(), 0, -1}));
    CHECK_CHILD(write(go.writer.get(), "x", 1) == 1);
    int status;
    CHECK_CHILD(waitpid(before, &status, 0) == before && status == 0);
    // Who is forked now has it, and may give it away for itself alone.
    const pid_t after = fork();
    if (after == 0) _exit(ioctl(slave_.get(), TIOCNOTTY) == 0 && open("/dev/tty", O_RDWR) == -1 && errno == ENXIO ? 0 : 1);
    CHECK_CHILD(waitpid(after, &status, 0) == after && status == 0);
    CHECK_CHILD(tcgetpgrp(slave_.get()) == getpid());
    return 0;
  })));
}

TEST_F(PtyTest, InterruptCharacterSignalsTheForegroundGroup) {
  Pipe ready;
  const pid_t pid = OnTerminal(slave_, [&] {
    if (write(ready.writer.get(), "x", 1) != 1) return 1;
    for (;;) pause();
    return 1;
  });
  char c;
  ASSERT_EQ(read(ready.reader.get(), &c, 1), 1);
  ASSERT_EQ(write(master_.get(), "\003", 1), 1);
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(KilledBy(status, SIGINT));
  EXPECT_EQ(ReadSome(master_.get()), "^C");
}

TEST_F(PtyTest, BackgroundReaderIsStopped) {
  const pid_t pid = OnTerminal(slave_, [&] {
    const pid_t child = fork();
    if (child == 0) {
      setpgid(0, 0);
      char b;
      _exit(static_cast<int>(read(slave_.get(), &b, 1)));
    }
    setpgid(child, child);
    int status;
    CHECK_CHILD(waitpid(child, &status, WUNTRACED) == child);
    CHECK_CHILD(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
    CHECK_CHILD(tcsetpgrp(slave_.get(), child) == 0);
    CHECK_CHILD(kill(-child, SIGCONT) == 0);
    CHECK_CHILD(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 1 ? 0 : 1;
  });
  ASSERT_EQ(write(master_.get(), "k\n", 2), 2);
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

TEST_F(PtyTest, OrphanedGroupReadsEio) {
  const pid_t pid = OnTerminal(slave_, [&] {
    Pipe result;
    const pid_t middle = fork();
    if (middle == 0) {
      setpgid(0, 0);
      const pid_t parent = getpid();
      if (fork() == 0) {
        while (getppid() == parent) usleep(500);
        char b;
        signal(SIGTTIN, SIG_DFL);
        const char eio = read(slave_.get(), &b, 1) == -1 && errno == EIO ? 'y' : 'n';
        _exit(write(result.writer.get(), &eio, 1) == 1 ? 0 : 1);
      }
      _exit(0);
    }
    int status;
    CHECK_CHILD(waitpid(middle, &status, 0) == middle);
    result.writer.Reset();
    char eio = '?';
    CHECK_CHILD(read(result.reader.get(), &eio, 1) == 1);
    return eio == 'y' ? 0 : 1;
  });
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

// In a session of its own, so that what the tests run in plays no part.
template <typename Body>
bool InNewSession(Body body) {
  return Exited(InChild([&] {
    CHECK_CHILD(setsid() == getpid());
    return body();
  }));
}

bool IsStopped(pid_t pid) {
  int status = 0;
  return waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status);
}

TEST(OrphanedGroupTest, StoppedMemberIsNotHungUpByTheEndOfAnother) {
  EXPECT_TRUE(InNewSession([] {
    const pid_t stopped = fork();
    if (stopped == 0) {
      raise(SIGSTOP);
      _exit(0);
    }
    CHECK_CHILD(IsStopped(stopped));
    int status = 0;
    const pid_t other = fork();
    if (other == 0) _exit(3);
    CHECK_CHILD(waitpid(other, &status, 0) == other && Exited(status, 3));
    CHECK_CHILD(waitpid(stopped, &status, WNOHANG | WCONTINUED) == 0);
    CHECK_CHILD(kill(stopped, SIGCONT) == 0);
    CHECK_CHILD(waitpid(stopped, &status, 0) == stopped && Exited(status));
    return 0;
  }));
}

TEST(OrphanedGroupTest, StoppedGroupStaysAsItIsWhileTheNewParentCanContinueIt) {
  EXPECT_TRUE(InNewSession([] {
    CHECK_CHILD(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    Pipe told;
    const pid_t middle = fork();
    if (middle == 0) {
      const pid_t job = fork();
      if (job == 0) {
        setpgid(0, 0);
        raise(SIGSTOP);
        for (;;) pause();
      }
      if (!IsStopped(job) || write(told.writer.get(), &job, sizeof(job)) != sizeof(job)) _exit(1);
      _exit(0);
    }
    int status = 0;
    pid_t job = 0;
    CHECK_CHILD(read(told.reader.get(), &job, sizeof(job)) == sizeof(job));
    CHECK_CHILD(waitpid(middle, &status, 0) == middle && Exited(status));
    // The new parent is of another group of this session, too: not an orphan, so it stays stopped.
    CHECK_CHILD(waitpid(job, &status, WNOHANG | WCONTINUED) == 0);
    kill(job, SIGKILL);
    CHECK_CHILD(waitpid(job, &status, 0) == job && KilledBy(status, SIGKILL));
    return 0;
  }));
}

TEST(OrphanedGroupTest, StoppedJobIsHungUpWhenItsShellEnds) {
  EXPECT_TRUE(Exited(InChild([] {
    // The reaper is of another session, so nobody is left who could continue the job.
    CHECK_CHILD(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    Pipe told;
    const pid_t shell = fork();
    if (shell == 0) {
      setsid();
      const pid_t job = fork();
      if (job == 0) {
        setpgid(0, 0);
        raise(SIGSTOP);
        for (;;) pause();
      }
      _exit(IsStopped(job) && write(told.writer.get(), &job, sizeof(job)) == sizeof(job) ? 0 : 1);
    }
    pid_t job = 0;
    int status = 0;
    CHECK_CHILD(read(told.reader.get(), &job, sizeof(job)) == sizeof(job));
    CHECK_CHILD(waitpid(shell, &status, 0) == shell && Exited(status));
    CHECK_CHILD(waitpid(job, &status, 0) == job && KilledBy(status, SIGHUP));
    return 0;
  })));
}

TEST_F(PtyTest, HangupReachesTheSession) {
  Pipe ready;
  const pid_t pid = OnTerminal(slave_, [&] {
    master_.Reset();
    if (write(ready.writer.get(), "x", 1) != 1) return 1;
    for (;;) pause();
    return 1;
  });
  char c;
  ASSERT_EQ(read(ready.reader.get(), &c, 1), 1);
  slave_.Reset();
  master_.Reset();
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(KilledBy(status, SIGHUP));
}

TEST_F(PtyTest, WindowChangeSignals) {
  Pipe ready;
  const pid_t pid = OnTerminal(slave_, [&] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    if (write(ready.writer.get(), "x", 1) != 1) return 1;
    return sigwaitinfo(&set, nullptr) == SIGWINCH ? 0 : 1;
  });
  char c;
  ASSERT_EQ(read(ready.reader.get(), &c, 1), 1);
  const winsize set = {50, 132, 0, 0};
  ASSERT_OK(ioctl(master_.get(), TIOCSWINSZ, &set));
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

TEST(NoTerminalTest, DevTtyIsEnxio) {
  EXPECT_TRUE(Exited(InChild([] {
    setsid();
    return open("/dev/tty", O_RDWR) == -1 && errno == ENXIO ? 0 : 1;
  })));
}

}  // namespace
}  // namespace ringwall::test
