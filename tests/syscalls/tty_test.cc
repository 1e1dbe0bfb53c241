// Terminals: the line discipline and ioctl_tty(2), on a pseudo-terminal pair.
#include <asm/ioctls.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

struct KernelTermios2 {
  uint32_t iflag, oflag, cflag, lflag;
  uint8_t line, cc[19];
  uint32_t ispeed, ospeed;
};
constexpr unsigned long kGets2 = 0x802c542a, kSets2 = 0x402c542b, kSig = 0x40045436;

class TtyTest : public ::testing::Test {
 protected:
  TtyTest() : master_(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK)) {
    EXPECT_OK(unlockpt(master_.get()));
    slave_.Reset(open(ptsname(master_.get()), O_RDWR | O_NOCTTY | O_NONBLOCK));
    EXPECT_OK(tcgetattr(slave_.get(), &t_));
  }
  void Apply() { EXPECT_OK(tcsetattr(slave_.get(), TCSANOW, &t_)); }
  void Raw() {
    cfmakeraw(&t_);
    Apply();
  }
  void Type(const std::string& s) {
    EXPECT_EQ(write(master_.get(), s.data(), s.size()), static_cast<ssize_t>(s.size()));
  }
  // Waits for as many bytes as are expected: the host passes them on by and by.
  static std::string Take(int fd, const std::string& expected) {
    std::string got;
    do {
      pollfd p = {fd, POLLIN, 0};
      if (poll(&p, 1, 2000) != 1) break;
      char b[4096];
      const ssize_t n = read(fd, b, sizeof(b));
      if (n <= 0) break;
      got.append(b, static_cast<size_t>(n));
    } while (got.size() < expected.size());
    return got;
  }
  // Reads once, at once.
  static std::string Look(int fd) {
    char b[4096];
    const ssize_t n = read(fd, b, sizeof(b));
    if (n < 0) return "!" + ErrnoName(errno);
    return std::string(b, static_cast<size_t>(n));
  }
  void Screen(const std::string& expected) {
    EXPECT_EQ(Take(master_.get(), expected), expected);
  }
  void Line(const std::string& expected) {
    EXPECT_EQ(Take(slave_.get(), expected), expected);
  }
  Fd master_, slave_;
  termios t_;
};

TEST_F(TtyTest, StartsWithLinuxDefaults) {
  EXPECT_EQ(t_.c_iflag, static_cast<tcflag_t>(ICRNL | IXON));
  EXPECT_EQ(t_.c_oflag, static_cast<tcflag_t>(OPOST | ONLCR));
  EXPECT_EQ(t_.c_cflag, static_cast<tcflag_t>(B38400 | CS8 | CREAD));
  EXPECT_EQ(t_.c_lflag, static_cast<tcflag_t>(ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL |
                                              ECHOKE | IEXTEN));
  EXPECT_EQ(t_.c_cc[VINTR], 3);
  EXPECT_EQ(t_.c_cc[VERASE], 0177);
  EXPECT_EQ(t_.c_cc[VMIN], 1);
}

TEST_F(TtyTest, EditingAndEcho) {
  Type("helo\177lo\n");
  Screen("helo\b \blo\r\n");
  Line("hello\n");
  Type("one two\027three\n");
  Screen("one two\b \b\b \b\b \bthree\r\n");
  Line("one three\n");
  Type("gone\025kept\n");
  Screen("gone\b \b\b \b\b \b\b \bkept\r\n");
  Line("kept\n");
  Type("a\026\003b\n");
  Screen("a^\b^Cb\r\n");
  Line("a\003b\n");
  Type("ab\022c\n");
  Screen("ab^R\r\nabc\r\n");
  Line("abc\n");
  Type("\t\177x\n");
  Screen("\t\b\b\b\b\b\b\b\bx\r\n");
  Line("x\n");
  Type("\001\177y\n");
  Screen("^A\b \b\b \by\r\n");
  Line("y\n");
}

TEST_F(TtyTest, EndOfFileAndLineCharacters) {
  Type("abc\004");
  Line("abc");
  Type("\004");
  pollfd p = {slave_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 2000), 1);
  EXPECT_EQ(Look(slave_.get()), "");
  EXPECT_EQ(Look(slave_.get()), "!EAGAIN");
  t_.c_cc[VEOL] = ';';
  Apply();
  Type("x;y\n");
  Line("x;");
  Line("y\n");
}

TEST_F(TtyTest, InputFlags) {
  t_.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  t_.c_iflag = IGNCR;
  Apply();
  Type("a\rb\n");
  Line("ab\n");
  t_.c_iflag = INLCR;
  Apply();
  Type("c\n\004");
  Line("c\r");
  t_.c_iflag = ISTRIP;
  Apply();
  Type("\xe1\n");
  Line("a\n");
  t_.c_iflag = IUCLC;
  Apply();
  Type("ABc\n");
  Line("abc\n");
  t_.c_iflag = PARMRK;
  Apply();
  Type("\xff\n");
  Line("\xff\xff\n");
}

TEST_F(TtyTest, OutputFlags) {
  const auto shown = [&](tcflag_t flags, const std::string& text) {
    t_.c_oflag = flags;
    Apply();
    EXPECT_EQ(write(slave_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    std::string all;
    pollfd p = {master_.get(), POLLIN, 0};
    while (poll(&p, 1, all.empty() ? 2000 : 20) == 1) all += Look(master_.get());
    return all;
  };
  EXPECT_EQ(shown(OPOST | ONLCR, "a\nb\n"), "a\r\nb\r\n");
  EXPECT_EQ(shown(OPOST, "a\nb\r"), "a\nb\r");
  EXPECT_EQ(shown(OPOST | OCRNL, "a\r"), "a\n");
  EXPECT_EQ(shown(OPOST | ONOCR, "\r\rx\r"), "\rx\r");
  EXPECT_EQ(shown(OPOST | OLCUC, "aBc"), "ABC");
  EXPECT_EQ(shown(ONLCR, "a\n"), "a\n");
  EXPECT_EQ(shown(OPOST | XTABS, "\r\tb"), "\r        b");
}

TEST_F(TtyTest, EchoFlags) {
  t_.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  t_.c_lflag |= ECHONL;
  Apply();
  Type("quiet\n");
  Screen("\r\n");
  Line("quiet\n");
  t_.c_lflag |= ECHO;
  t_.c_lflag &= ~static_cast<tcflag_t>(ECHOCTL | ECHOE);
  Apply();
  Type("ab\177c\n");
  Screen("ab\177c\r\n");
  Line("ac\n");
}

TEST_F(TtyTest, RawModeAndMinimum) {
  Raw();
  Type("\003\r\177");
  Line("\003\r\177");
  EXPECT_EQ(Look(master_.get()), "!EAGAIN");
  t_.c_cc[VMIN] = 3;
  Apply();
  Type("ab");
  pollfd p = {slave_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 5), 0);
  Type("c");
  Line("abc");
  fcntl(slave_.get(), F_SETFL, O_RDWR);
  t_.c_cc[VMIN] = 0;
  Apply();
  EXPECT_EQ(Look(slave_.get()), "");
  t_.c_cc[VTIME] = 1;
  Apply();
  EXPECT_EQ(Look(slave_.get()), "");
  fcntl(slave_.get(), F_SETFL, O_RDWR | O_NONBLOCK);
  Type("z");
  Line("z");
}

// VTIME counts from each byte on: a read has either all of VMIN or what came before a pause.
TEST_F(TtyTest, MinimumWithTimeWaitsBetweenBytes) {
  Raw();
  fcntl(slave_.get(), F_SETFL, O_RDWR);
  const auto set = [&](cc_t tenths) {
    t_.c_cc[VMIN] = 3;
    t_.c_cc[VTIME] = tenths;
    Apply();
  };
  const auto feed = [&](std::string_view bytes) {
    const pid_t child = fork();
    if (child != 0) return child;
    for (const char c : bytes) {
      usleep(2000);
      if (write(master_.get(), &c, 1) != 1) _exit(1);
    }
    _exit(0);
  };
  char got[10];
  set(1);
  Type("ab");
  EXPECT_EQ(read(slave_.get(), got, sizeof(got)), 2);  // after a pause
  set(255);
  const pid_t all = feed("abc");
  EXPECT_EQ(read(slave_.get(), got, sizeof(got)), 3);
  EXPECT_EQ(waitpid(all, nullptr, 0), all);
  const pid_t few = feed("ab");
  EXPECT_EQ(read(slave_.get(), got, 2), 2);
  EXPECT_EQ(waitpid(few, nullptr, 0), few);
}

TEST_F(TtyTest, SwitchingModesKeepsInput) {
  Type("half");
  Screen("half");
  EXPECT_EQ(Look(slave_.get()), "!EAGAIN");
  Raw();
  Line("half");
}

TEST_F(TtyTest, FlowControl) {
  Type("a");
  Screen("a");
  Type("\023");
  pollfd out = {slave_.get(), POLLOUT, 0};
  while (poll(&out, 1, 0) == 1) sched_yield();
  EXPECT_FAILS(write(slave_.get(), "x", 1), EAGAIN);
  EXPECT_EQ(Look(master_.get()), "!EAGAIN");
  Type("\021");
  pollfd p = {slave_.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 2000), 1);
  EXPECT_EQ(write(slave_.get(), "x", 1), 1);
  Screen("x");
  EXPECT_OK(tcflow(slave_.get(), TCOOFF));
  EXPECT_FAILS(write(slave_.get(), "y", 1), EAGAIN);
  EXPECT_OK(tcflow(slave_.get(), TCOON));
  EXPECT_EQ(write(slave_.get(), "y", 1), 1);
  EXPECT_FAILS(ioctl(slave_.get(), TCXONC, 9), EINVAL);
}

TEST_F(TtyTest, FlushAndCounts) {
  Type("abc\nde");
  Screen("abc\r\nde");
  int n = 0;
  EXPECT_OK(ioctl(slave_.get(), FIONREAD, &n));
  EXPECT_EQ(n, 4);
  EXPECT_OK(tcflush(slave_.get(), TCIFLUSH));
  EXPECT_OK(ioctl(slave_.get(), FIONREAD, &n));
  EXPECT_EQ(n, 0);
  EXPECT_EQ(Look(slave_.get()), "!EAGAIN");
  EXPECT_FAILS(ioctl(slave_.get(), TCFLSH, 9), EINVAL);
  EXPECT_OK(ioctl(slave_.get(), TIOCOUTQ, &n));
  EXPECT_EQ(n, 0);
  EXPECT_OK(tcdrain(slave_.get()));
  EXPECT_OK(tcsendbreak(slave_.get(), 0));
}

TEST_F(TtyTest, ThreeFormsOfTermios) {
  KernelTermios2 t2 = {};
  EXPECT_OK(ioctl(slave_.get(), kGets2, &t2));
  EXPECT_EQ(t2.ispeed, 38400u);
  EXPECT_EQ(t2.ospeed, 38400u);
  t2.cflag = (t2.cflag & ~010017u) | 010000;  // BOTHER
  t2.ospeed = 12345;
  EXPECT_OK(ioctl(slave_.get(), kSets2, &t2));
  KernelTermios2 again = {};
  EXPECT_OK(ioctl(master_.get(), kGets2, &again));
  EXPECT_EQ(again.ospeed, 12345u);
  struct {
    uint16_t iflag, oflag, cflag, lflag;
    uint8_t line, cc[8], pad;
  } old = {};
  EXPECT_OK(ioctl(slave_.get(), TCGETA, &old));
  EXPECT_EQ(old.iflag, ICRNL | IXON);
  old.iflag = 0;
  EXPECT_OK(ioctl(slave_.get(), TCSETA, &old));
  EXPECT_OK(tcgetattr(slave_.get(), &t_));
  EXPECT_EQ(t_.c_iflag, 0u);
  EXPECT_FAILS(ioctl(slave_.get(), TCGETS, BadAddress()), EFAULT);
  EXPECT_FAILS(ioctl(slave_.get(), TCSETS, BadAddress()), EFAULT);
}

TEST_F(TtyTest, PacketMode) {
  int on = 1, got = 0;
  EXPECT_FAILS(ioctl(slave_.get(), TIOCPKT, &on), ENOTTY);
  EXPECT_OK(ioctl(master_.get(), TIOCPKT, &on));
  EXPECT_OK(ioctl(master_.get(), TIOCGPKT, &got));
  EXPECT_EQ(got, 1);
  EXPECT_EQ(write(slave_.get(), "hi", 2), 2);
  Screen(std::string("\0hi", 3));
  EXPECT_OK(tcflush(slave_.get(), TCIFLUSH));
  pollfd p = {master_.get(), POLLIN | POLLPRI, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN | POLLPRI);
  Screen("\001");  // TIOCPKT_FLUSHREAD
  EXPECT_OK(tcflow(slave_.get(), TCOOFF));
  Screen("\004");  // STOP
  EXPECT_OK(tcflow(slave_.get(), TCOON));
  Screen("\010");  // START
  t_.c_iflag &= ~static_cast<tcflag_t>(IXON);
  Apply();
  Screen("\020");  // NOSTOP
  t_.c_iflag |= IXON;
  Apply();
  Screen("\040");  // DOSTOP
  EXPECT_EQ(Look(master_.get()), "!EAGAIN");
}

TEST_F(TtyTest, TiocstiIsForAdministrators) {
  char c = 'x';
  if (geteuid() == 0) {
    EXPECT_OK(ioctl(slave_.get(), TIOCSTI, &c));
    Screen("x");
    Type("\n");
    Line("x\n");
  }
}

TEST_F(TtyTest, TiocstiOfOrdinaryUsersIsAsTheSysctlSays) {
  const char* const path = "/proc/sys/dev/tty/legacy_tiocsti";
  const auto as_nobody = [&](bool legacy) {
    return InChildAsNobody([&] {
      signal(SIGHUP, SIG_IGN);  // of its own master, closed at the end
      CHECK_CHILD(setsid() > 0);
      Fd master(posix_openpt(O_RDWR | O_NOCTTY));
      CHECK_CHILD(unlockpt(master.get()) == 0);
      Fd own(open(ptsname(master.get()), O_RDWR));
      char c = 'x';
      const int other = ioctl(slave_.get(), TIOCSTI, &c);
      CHECK_CHILD(other == -1 && errno == (legacy ? EPERM : EIO));
      CHECK_CHILD(ioctl(own.get(), TIOCSTI, &c) == (legacy ? 0 : -1));
      return 0;
    });
  };
  EXPECT_TRUE(Exited(as_nobody(ReadFile(path) == "1\n")));
  // A host's is left as it is.
  if (ReadFile("/proc/version").find("Ringwall") == std::string::npos || geteuid() != 0) return;
  for (const char* value : {"1", "0"}) {
    Fd f(open(path, O_WRONLY));
    EXPECT_EQ(write(f.get(), value, 1), 1);
    EXPECT_TRUE(Exited(as_nobody(*value == '1')));
  }
}

TEST_F(TtyTest, NumberIsTakenUntilBothSidesAreClosed) {
  const std::string name = ptsname(master_.get());
  master_.Reset();
  EXPECT_FAILS(access(name.c_str(), F_OK), ENOENT);
  Fd other(posix_openpt(O_RDWR | O_NOCTTY));
  EXPECT_NE(ptsname(other.get()), name);
}

TEST_F(TtyTest, CountOfAllTerminals) {
  EXPECT_GE(atoi(ReadFile("/proc/sys/kernel/pty/nr").c_str()), 1);
  EXPECT_GT(atoi(ReadFile("/proc/sys/kernel/pty/max").c_str()), atoi(ReadFile("/proc/sys/kernel/pty/reserve").c_str()));
}

TEST_F(TtyTest, ExclusiveUse) {
  int on = 0;
  EXPECT_OK(ioctl(slave_.get(), TIOCEXCL));
  EXPECT_OK(ioctl(slave_.get(), TIOCGEXCL, &on));
  EXPECT_EQ(on, 1);
  if (geteuid() == 0) {
    ASSERT_OK(fchmod(slave_.get(), 0666));
    EXPECT_TRUE(Exited(InChildAsNobody([&] {
      CHECK_CHILD(open(ptsname(master_.get()), O_RDWR | O_NOCTTY) == -1 && errno == EBUSY);
      return 0;
    })));
  }
  EXPECT_OK(ioctl(slave_.get(), TIOCNXCL));
  Fd again(open(ptsname(master_.get()), O_RDWR | O_NOCTTY));
  EXPECT_TRUE(again.ok());
}

TEST_F(TtyTest, RareIoctls) {
  int n = -1;
  EXPECT_OK(ioctl(slave_.get(), TIOCGETD, &n));
  EXPECT_EQ(n, 0);
  EXPECT_OK(ioctl(slave_.get(), TIOCSETD, &n));
  n = 99;
  EXPECT_FAILS(ioctl(slave_.get(), TIOCSETD, &n), EINVAL);
  unsigned dev = 0;
  EXPECT_OK(ioctl(slave_.get(), TIOCGDEV, &dev));
  struct stat st;
  EXPECT_OK(fstat(slave_.get(), &st));
  EXPECT_EQ(dev, st.st_rdev);
  EXPECT_FAILS(ioctl(slave_.get(), TIOCMGET, &n), ENOTTY);
  EXPECT_FAILS(ioctl(slave_.get(), 0x5499, &n), ENOTTY);
  EXPECT_OK(ioctl(slave_.get(), TIOCSBRK, 0));
  EXPECT_OK(ioctl(slave_.get(), TIOCGSOFTCAR, &n));
  EXPECT_EQ(n, 0);
  EXPECT_FAILS(ioctl(slave_.get(), TIOCGPTN, &n), ENOTTY);
  EXPECT_OK(ioctl(master_.get(), kSig, SIGINT));
  EXPECT_FAILS(ioctl(master_.get(), kSig, 99), EINVAL);
  EXPECT_FAILS(ioctl(slave_.get(), kSig, SIGINT), ENOTTY);
}

TEST_F(TtyTest, PeerOfTheMaster) {
  Fd peer(ioctl(master_.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY));
  ASSERT_TRUE(peer.ok());
  EXPECT_EQ(isatty(peer.get()), 1);
  EXPECT_EQ(write(peer.get(), "p", 1), 1);
  Screen("p");
  EXPECT_FAILS(ioctl(slave_.get(), TIOCGPTPEER, O_RDWR), EIO);
}

TEST_F(TtyTest, WithoutASession) {
  int n = -1;
  EXPECT_FAILS(ioctl(slave_.get(), TIOCGPGRP, &n), ENOTTY);
  EXPECT_OK(ioctl(master_.get(), TIOCGPGRP, &n));
  EXPECT_EQ(n, 0);
  EXPECT_FAILS(ioctl(slave_.get(), TIOCGSID, &n), ENOTTY);
  EXPECT_FAILS(ioctl(master_.get(), TIOCGSID, &n), ENOTTY);
  n = getpgrp();
  EXPECT_FAILS(ioctl(slave_.get(), TIOCSPGRP, &n), ENOTTY);
  EXPECT_FAILS(ioctl(slave_.get(), TIOCNOTTY), ENOTTY);
  EXPECT_FAILS(ioctl(master_.get(), TIOCNOTTY), ENOTTY);
}

TEST_F(TtyTest, Vhangup) {
  if (geteuid() != 0) GTEST_SKIP() << "needs CAP_SYS_ADMIN";
  EXPECT_OK(ioctl(slave_.get(), TIOCVHANGUP));
  EXPECT_EQ(Look(slave_.get()), "");
  EXPECT_FAILS(write(slave_.get(), "x", 1), EIO);
  termios t;
  EXPECT_FAILS(tcgetattr(slave_.get(), &t), EIO);
  int n = 0;
  EXPECT_FAILS(ioctl(slave_.get(), TIOCSPGRP, &n), ENOTTY);
  pollfd p = {slave_.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN | POLLOUT | POLLERR | POLLHUP);
  EXPECT_EQ(Look(master_.get()), "!EAGAIN");
  Fd fresh(open(ptsname(master_.get()), O_RDWR | O_NOCTTY));
  EXPECT_TRUE(fresh.ok());
  EXPECT_EQ(write(fresh.get(), "n", 1), 1);
  Screen("n");
}

}  // namespace
}  // namespace ringwall::test
