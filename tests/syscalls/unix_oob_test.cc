// AF_UNIX beyond bytes: urgent data, process descriptors, filters, stamps, limits of descriptors.
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

constexpr int kSoPassPidfd = 76, kSoPeerPidfd = 77, kScmPidfd = 4;

struct Pair {
  Fd a, b;
  explicit Pair(int type = SOCK_STREAM) {
    int fds[2];
    EXPECT_OK(socketpair(AF_UNIX, type, 0, fds));
    a.Reset(fds[0]);
    b.Reset(fds[1]);
  }
};

int Mark(int fd) {
  int n = -1;
  EXPECT_OK(ioctl(fd, SIOCATMARK, &n));
  return n;
}

std::string Read(int fd, int flags = MSG_DONTWAIT) {
  char b[64];
  const ssize_t n = recv(fd, b, sizeof(b), flags);
  return n < 0 ? "errno " + std::to_string(errno) : std::string(b, static_cast<size_t>(n));
}
std::string Failed(int e) { return "errno " + std::to_string(e); }

TEST(UnixOobTest, TheLastByteIsReadApart) {
  Pair p;
  ASSERT_EQ(send(p.a.get(), "hello", 5, MSG_OOB), 5);
  EXPECT_TRUE(PollFor(p.b.get(), POLLPRI, 0) & POLLPRI);
  EXPECT_EQ(Mark(p.b.get()), 0);
  EXPECT_EQ(Read(p.b.get(), MSG_OOB), "o");
  EXPECT_FALSE(PollFor(p.b.get(), POLLPRI, 0) & POLLPRI);
  EXPECT_EQ(Read(p.b.get(), MSG_OOB), Failed(EINVAL));
  EXPECT_EQ(Read(p.b.get()), "hell");
  EXPECT_EQ(Read(p.b.get()), Failed(EAGAIN));
}

TEST(UnixOobTest, ReadsEndAtTheMarkAndPassTheByteBy) {
  Pair p;
  ASSERT_EQ(send(p.a.get(), "ab", 2, 0), 2);
  ASSERT_EQ(send(p.a.get(), "c", 1, MSG_OOB), 1);
  ASSERT_EQ(send(p.a.get(), "de", 2, 0), 2);
  EXPECT_EQ(Read(p.b.get()), "ab");
  EXPECT_EQ(Mark(p.b.get()), 1);
  EXPECT_EQ(Read(p.b.get(), MSG_OOB | MSG_PEEK), "c");
  EXPECT_EQ(Read(p.b.get()), "de");
  EXPECT_EQ(Read(p.b.get(), MSG_OOB), Failed(EINVAL));
}

TEST(UnixOobTest, InlineLeavesItInTheStream) {
  Pair p;
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_OOBINLINE, 1));
  ASSERT_EQ(send(p.a.get(), "xy", 2, 0), 2);
  ASSERT_EQ(send(p.a.get(), "z", 1, MSG_OOB), 1);
  ASSERT_EQ(send(p.a.get(), "w", 1, 0), 1);
  EXPECT_EQ(Read(p.b.get(), MSG_OOB), Failed(EINVAL));
  EXPECT_EQ(Read(p.b.get()), "xy");
  EXPECT_EQ(Mark(p.b.get()), 1);
  EXPECT_EQ(Read(p.b.get()), "zw");
}

TEST(UnixOobTest, ANewUrgentByteMakesTheOldOneOrdinary) {
  Pair p;
  ASSERT_EQ(send(p.a.get(), "1", 1, MSG_OOB), 1);
  ASSERT_EQ(send(p.a.get(), "2", 1, MSG_OOB), 1);
  EXPECT_EQ(Read(p.b.get(), MSG_OOB), "2");
  EXPECT_EQ(Read(p.b.get()), "1");
  EXPECT_EQ(Read(p.b.get()), Failed(EAGAIN));
}

TEST(UnixOobTest, OnlyStreamsHaveIt) {
  for (int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
    Pair p(type);
    EXPECT_FAILS(send(p.a.get(), "x", 1, MSG_OOB), EOPNOTSUPP);
    EXPECT_EQ(Read(p.b.get(), MSG_OOB), Failed(EOPNOTSUPP));
  }
  Pair p;
  EXPECT_FAILS(send(p.a.get(), "", 0, MSG_OOB), EOPNOTSUPP);
}

volatile int urgent_signals = 0;

TEST(UnixOobTest, TheOwnerGetsSigurg) {
  Pair p;
  struct sigaction action = {}, old = {};
  action.sa_handler = [](int) { urgent_signals = urgent_signals + 1; };
  ASSERT_OK(sigaction(SIGURG, &action, &old));
  ASSERT_OK(fcntl(p.b.get(), F_SETOWN, getpid()));
  urgent_signals = 0;
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  EXPECT_EQ(urgent_signals, 0);
  ASSERT_EQ(send(p.a.get(), "x", 1, MSG_OOB), 1);
  EXPECT_EQ(urgent_signals, 1);
  TcpPair tcp;
  ASSERT_OK(fcntl(tcp.server.get(), F_SETOWN, getpid()));
  ASSERT_EQ(send(tcp.client.get(), "x", 1, MSG_OOB), 1);
  EXPECT_TRUE(PollFor(tcp.server.get(), POLLPRI) & POLLPRI);
  EXPECT_GE(urgent_signals, 2);
  ASSERT_OK(sigaction(SIGURG, &old, nullptr));
}

TEST(UnixOwnerTest, Ioctls) {
  Pair p;
  int owner = -1;
  ASSERT_OK(ioctl(p.a.get(), SIOCGPGRP, &owner));
  EXPECT_EQ(owner, 0);
  owner = getpid();
  ASSERT_OK(ioctl(p.a.get(), FIOSETOWN, &owner));
  owner = -1;
  ASSERT_OK(ioctl(p.a.get(), FIOGETOWN, &owner));
  EXPECT_EQ(owner, getpid());
  EXPECT_EQ(fcntl(p.a.get(), F_GETOWN), getpid());
  owner = -getpgrp();
  ASSERT_OK(ioctl(p.a.get(), SIOCSPGRP, &owner));
  EXPECT_EQ(fcntl(p.a.get(), F_GETOWN), -getpgrp());
}

TEST(UnixTruncTest, AStreamKnowsNoTrunc) {
  Pair p;
  ASSERT_EQ(send(p.a.get(), "abc", 3, 0), 3);
  char b[8] = {};
  EXPECT_EQ(recv(p.b.get(), b, sizeof(b), MSG_TRUNC | MSG_PEEK), 3);
  EXPECT_STREQ(b, "abc");
}

// The process of a pidfd, by /proc/self/fdinfo.
int ProcessOf(int pidfd) {
  char path[64], text[512] = {};
  snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
  Fd info(open(path, O_RDONLY));
  EXPECT_GT(read(info.get(), text, sizeof(text) - 1), 0);
  const char* at = strstr(text, "\nPid:");
  return at == nullptr ? -1 : atoi(at + 5);
}

TEST(UnixPidfdTest, OfThePeer) {
  Pair p;
  int fd = -1;
  socklen_t size = sizeof(fd);
  if (getsockopt(p.a.get(), SOL_SOCKET, kSoPeerPidfd, &fd, &size) != 0 && errno == ENOPROTOOPT) {
    GTEST_SKIP() << "Linux before 6.5";
  }
  Fd own(fd);
  EXPECT_EQ(size, sizeof(fd));
  EXPECT_EQ(ProcessOf(fd), getpid());
  EXPECT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  Fd lonely(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_FAILS(getsockopt(lonely.get(), SOL_SOCKET, kSoPeerPidfd, &fd, &size), ENODATA);
}

TEST(UnixPidfdTest, ComesWithAMessage) {
  Pair p;
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, kSoPassPidfd, 1));
  EXPECT_EQ(GetInt(p.b.get(), SOL_SOCKET, kSoPassPidfd), 1);
  for (const size_t room : {size_t{64}, CMSG_LEN(sizeof(int)) - 1}) {
    ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
    char byte;
    alignas(cmsghdr) char control[64];
    iovec iov = {&byte, 1};
    msghdr m = {};
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = room;
    ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 1);
    if (room < 64) {
      EXPECT_EQ(m.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
      EXPECT_EQ(m.msg_controllen, 0u);
      continue;
    }
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    ASSERT_NE(c, nullptr);
    EXPECT_EQ(c->cmsg_level, SOL_SOCKET);
    EXPECT_EQ(c->cmsg_type, kScmPidfd);
    ASSERT_EQ(c->cmsg_len, CMSG_LEN(sizeof(int)));
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    Fd own(fd);
    EXPECT_EQ(ProcessOf(fd), getpid());
  }
  Fd inet(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_FAILS(SetInt(inet.get(), SOL_SOCKET, kSoPassPidfd, 1), EOPNOTSUPP);
}

TEST(UnixPeerGroupsTest, TellsTheRoomItNeeds) {
  gid_t groups[] = {5, 6, 7};
  const pid_t child = fork();
  if (child == 0) {
    // Only root may; others have the groups that they have.
    const bool set = setgroups(3, groups) == 0;
    Pair p;
    gid_t got[64] = {};
    socklen_t size = sizeof(gid_t);
    const int n = getgroups(0, nullptr);
    bool good = true;
    if (n > 1) {
      good = getsockopt(p.a.get(), SOL_SOCKET, SO_PEERGROUPS, got, &size) == -1 &&
             errno == ERANGE && size == static_cast<socklen_t>(n) * sizeof(gid_t);
    }
    size = sizeof(got);
    good = good && getsockopt(p.a.get(), SOL_SOCKET, SO_PEERGROUPS, got, &size) == 0 &&
           size == static_cast<socklen_t>(n) * sizeof(gid_t) && (!set || got[1] == 6);
    _exit(good ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(UnixFilterTest, CutsAndDropsDatagrams) {
  const auto attach = [](int fd, uint32_t keep) {
    sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, keep)};
    sock_fprog program = {1, code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
  };
  for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    Pair p(type);
    EXPECT_FAILS(SetInt(p.b.get(), SOL_SOCKET, SO_DETACH_FILTER, 0), ENOENT);
    ASSERT_OK(attach(p.b.get(), 2));
    ASSERT_EQ(send(p.a.get(), "abcdef", 6, 0), 6);
    EXPECT_EQ(Read(p.b.get()), type == SOCK_STREAM ? "abcdef" : "ab");
    ASSERT_OK(attach(p.b.get(), 0));
    ASSERT_EQ(send(p.a.get(), "abc", 3, 0), 3);
    EXPECT_EQ(Read(p.b.get()), type == SOCK_STREAM ? "abc" : Failed(EAGAIN));
    sock_filter code[4];
    socklen_t count = 4;
    ASSERT_OK(getsockopt(p.b.get(), SOL_SOCKET, SO_GET_FILTER, code, &count));
    EXPECT_EQ(count, 1u);
    EXPECT_EQ(code[0].code, BPF_RET | BPF_K);
    ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_DETACH_FILTER, 0));
    ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_LOCK_FILTER, 1));
    EXPECT_FAILS(attach(p.b.get(), 0), EPERM);
    EXPECT_FAILS(SetInt(p.b.get(), SOL_SOCKET, SO_LOCK_FILTER, 0), EPERM);
  }
}

TEST(UnixStampTest, DatagramsHaveThem) {
  Pair p(SOCK_DGRAM);
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_TIMESTAMPNS, 1));
  timespec before, after;
  clock_gettime(CLOCK_REALTIME, &before);
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  char byte;
  alignas(cmsghdr) char control[128];
  iovec iov = {&byte, 1};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 1);
  clock_gettime(CLOCK_REALTIME, &after);
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_type, SCM_TIMESTAMPNS);
  timespec when;
  memcpy(&when, CMSG_DATA(c), sizeof(when));
  EXPECT_GE(when.tv_sec, before.tv_sec - 1);
  EXPECT_LE(when.tv_sec, after.tv_sec + 1);
}

TEST(UnixRightsTest, TooManyUnderWay) {
  const pid_t child = fork();
  if (child == 0) {
    rlimit few = {16, 16};
    Pair p(SOCK_DGRAM);
    if (setrlimit(RLIMIT_NOFILE, &few) != 0) _exit(2);
    if (getuid() == 0 && setresuid(65534, 65534, 65534) != 0) _exit(3);
    int fds[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    char byte = 'x';
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {};
    iovec iov = {&byte, 1};
    msghdr m = {};
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof(control);
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(c), fds, sizeof(fds));
    for (int i = 0; i < 6; i++) {
      if (sendmsg(p.a.get(), &m, MSG_DONTWAIT) == 1) continue;
      _exit(errno == ETOOMANYREFS && i >= 2 ? 0 : 4);
    }
    _exit(5);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace ringwall::test
