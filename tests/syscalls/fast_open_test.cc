// TCP Fast Open over the loopback (RFC 7413; tcp(7), ip-sysctl.rst): TCP_FASTOPEN and its kin,
// MSG_FASTOPEN, and net.ipv4.tcp_fastopen. Also what came along: TCP_CONGESTION "bbr" and the stamps of
// acknowledgements (SO_TIMESTAMPING).
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

class FastOpenTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    // One for each case: cookies are remembered by address.
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no right to make a network namespace";
    Fd s(socket(AF_INET, SOCK_DGRAM, 0));
    ifreq lo = {};
    strcpy(lo.ifr_name, "lo");
    lo.ifr_flags = IFF_UP;
    ASSERT_OK(ioctl(s.get(), SIOCSIFFLAGS, &lo));
    Sysctl("1");
  }
  int family() const { return GetParam(); }
  static void Sysctl(const char* value) {
    Fd f(open("/proc/sys/net/ipv4/tcp_fastopen", O_WRONLY));
    ASSERT_TRUE(f.ok());
    ASSERT_EQ(write(f.get(), value, strlen(value)), static_cast<ssize_t>(strlen(value)));
  }
  Fd FastListener(int most = 5) {
    Fd l = Listener(family());
    EXPECT_OK(SetInt(l.get(), IPPROTO_TCP, TCP_FASTOPEN, most));
    return l;
  }
  // Connects once, so that a cookie is known.
  void TakeCookie(const Fd& listener) {
    Fd c(socket(family(), SOCK_STREAM, 0));
    const Addr to = LocalOf(listener.get());
    ASSERT_EQ(sendto(c.get(), "first", 5, MSG_FASTOPEN, to.ptr(), to.size), 5);
    Fd s(accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(s.ok());
    char b[16];
    ASSERT_EQ(recv(s.get(), b, 5, MSG_WAITALL), 5);
  }
  static bool SynData(int fd) {
    tcp_info info = {};
    socklen_t size = sizeof(info);
    EXPECT_OK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size));
    return (info.tcpi_options & 32) != 0;  // TCPI_OPT_SYN_DATA
  }
};
INSTANTIATE_TEST_SUITE_P(Families, FastOpenTest, ::testing::Values(AF_INET, AF_INET6));

TEST_P(FastOpenTest, TheSecondConnectionsDataRidesOnItsSyn) {
  Sysctl("3");
  Fd listener = FastListener();
  TakeCookie(listener);
  Fd c(socket(family(), SOCK_STREAM, 0));
  const Addr to = LocalOf(listener.get());
  ASSERT_EQ(sendto(c.get(), "second", 6, MSG_FASTOPEN, to.ptr(), to.size), 6);
  Fd s(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(s.ok());
  char b[16];
  ASSERT_EQ(recv(s.get(), b, sizeof(b), 0), 6);
  EXPECT_EQ(memcmp(b, "second", 6), 0);
  EXPECT_TRUE(SynData(c.get()));
  ASSERT_EQ(send(s.get(), "answer", 6, 0), 6);
  ASSERT_EQ(recv(c.get(), b, sizeof(b), 0), 6);
}

TEST_P(FastOpenTest, WithoutACookieANonblockingCallSendsNothing) {
  Sysctl("3");
  Fd listener = FastListener();
  Fd c(socket(family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
  const Addr to = LocalOf(listener.get());
  EXPECT_FAILS(sendto(c.get(), "first", 5, MSG_FASTOPEN, to.ptr(), to.size), EINPROGRESS);
  ASSERT_EQ(PollFor(c.get(), POLLOUT), POLLOUT);
  EXPECT_FALSE(SynData(c.get()));
}

TEST_P(FastOpenTest, WithACookieANonblockingCallSendsWhatFits) {
  Sysctl("3");
  Fd listener = FastListener();
  TakeCookie(listener);
  Fd c(socket(family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
  const Addr to = LocalOf(listener.get());
  ASSERT_EQ(sendto(c.get(), "second", 6, MSG_FASTOPEN, to.ptr(), to.size), 6);
  Fd s(accept(listener.get(), nullptr, nullptr));
  char b[16];
  ASSERT_EQ(recv(s.get(), b, sizeof(b), 0), 6);
}

TEST_P(FastOpenTest, ConnectWaitsForTheFirstWrite) {
  Sysctl("3");
  Fd listener = FastListener();
  TakeCookie(listener);
  Fd c(socket(family(), SOCK_STREAM, 0));
  ASSERT_OK(SetInt(c.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1));
  EXPECT_EQ(GetInt(c.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT), 1);
  const Addr to = LocalOf(listener.get());
  ASSERT_OK(connect(c.get(), to.ptr(), to.size));
  EXPECT_EQ(PollFor(listener.get(), POLLIN, 50), 0);  // nobody has knocked yet
  EXPECT_EQ(PollFor(c.get(), POLLOUT), POLLOUT);
  ASSERT_EQ(write(c.get(), "late", 4), 4);
  Fd s(accept(listener.get(), nullptr, nullptr));
  char b[16];
  ASSERT_EQ(recv(s.get(), b, sizeof(b), 0), 4);
  EXPECT_TRUE(SynData(c.get()));
}

TEST_P(FastOpenTest, ClientsAreOffByTheSysctl) {
  Sysctl("0");
  Fd listener = Listener(family());
  Fd c(socket(family(), SOCK_STREAM, 0));
  const Addr to = LocalOf(listener.get());
  EXPECT_FAILS(sendto(c.get(), "x", 1, MSG_FASTOPEN, to.ptr(), to.size), EOPNOTSUPP);
  EXPECT_FAILS(SetInt(c.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1), EOPNOTSUPP);
}

TEST_P(FastOpenTest, ServersAreOffByDefault) {
  Fd listener = FastListener();
  TakeCookie(listener);
  Fd c(socket(family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
  const Addr to = LocalOf(listener.get());
  EXPECT_FAILS(sendto(c.get(), "second", 6, MSG_FASTOPEN, to.ptr(), to.size), EINPROGRESS);
}

TEST_P(FastOpenTest, WithoutCookiesWhereBothAgree) {
  Sysctl("519");  // client, server, neither of them wants a cookie
  Fd listener = FastListener();
  Fd c(socket(family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
  const Addr to = LocalOf(listener.get());
  ASSERT_EQ(sendto(c.get(), "first", 5, MSG_FASTOPEN, to.ptr(), to.size), 5);
  Fd s(accept(listener.get(), nullptr, nullptr));
  char b[16];
  ASSERT_EQ(recv(s.get(), b, sizeof(b), 0), 5);
}

TEST_P(FastOpenTest, RefusalComesFromTheSameCall) {
  Sysctl("3");
  Addr to;
  {
    Fd listener = FastListener();
    TakeCookie(listener);
    to = LocalOf(listener.get());
  }
  Fd c(socket(family(), SOCK_STREAM, 0));
  EXPECT_FAILS(sendto(c.get(), "x", 1, MSG_FASTOPEN, to.ptr(), to.size), ECONNREFUSED);
}

TEST_P(FastOpenTest, AKeyIsReadBackAndWrongSizesAreRefused) {
  Fd listener = FastListener();
  char key[32], back[64];
  for (size_t i = 0; i < sizeof(key); i++) key[i] = static_cast<char>(i);
  for (socklen_t n : {16u, 32u}) {
    ASSERT_OK(setsockopt(listener.get(), IPPROTO_TCP, TCP_FASTOPEN_KEY, key, n));
    socklen_t size = sizeof(back);
    ASSERT_OK(getsockopt(listener.get(), IPPROTO_TCP, TCP_FASTOPEN_KEY, back, &size));
    EXPECT_EQ(size, n);
    EXPECT_EQ(memcmp(key, back, n), 0);
  }
  for (socklen_t n : {0u, 4u, 15u, 17u, 31u, 33u, 64u}) {
    EXPECT_FAILS(setsockopt(listener.get(), IPPROTO_TCP, TCP_FASTOPEN_KEY, back, n), EINVAL) << n;
  }
}

TEST_P(FastOpenTest, SettingsByState) {
  Fd s(socket(family(), SOCK_STREAM, 0));
  EXPECT_FAILS(SetInt(s.get(), IPPROTO_TCP, TCP_FASTOPEN, -1), EINVAL);
  EXPECT_FAILS(SetInt(s.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 2), EINVAL);
  EXPECT_FAILS(SetInt(s.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, -1), EINVAL);
  EXPECT_FAILS(SetInt(s.get(), IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 2), EINVAL);
  ASSERT_OK(SetInt(s.get(), IPPROTO_TCP, TCP_FASTOPEN, 7));
  EXPECT_EQ(GetInt(s.get(), IPPROTO_TCP, TCP_FASTOPEN), 7);
  TcpPair p(family());
  EXPECT_FAILS(SetInt(p.client.get(), IPPROTO_TCP, TCP_FASTOPEN, 7), EINVAL);
  EXPECT_FAILS(SetInt(p.client.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1), EINVAL);
  const Addr to = PeerOf(p.client.get());
  EXPECT_FAILS(sendto(p.client.get(), "x", 1, MSG_FASTOPEN, to.ptr(), to.size), EISCONN);
}

TEST(AckStampTest, ComesWhenThePeerHasIt) {
  TcpPair p;
  const int flags = SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID |
                    SOF_TIMESTAMPING_OPT_TSONLY;
  ASSERT_OK(SetInt(p.client.get(), SOL_SOCKET, SO_TIMESTAMPING, flags));
  ASSERT_EQ(send(p.client.get(), "ten bytes!", 10, 0), 10);
  ASSERT_EQ(PollFor(p.client.get(), 0) & POLLERR, POLLERR);
  char control[512];
  msghdr m = {};
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  ASSERT_EQ(recvmsg(p.client.get(), &m, MSG_ERRQUEUE), 0);
  bool stamped = false, told = false;
  for (cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING) {
      scm_timestamping t;
      memcpy(&t, CMSG_DATA(c), sizeof(t));
      stamped = t.ts[0].tv_sec != 0;
    }
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) {
      sock_extended_err e;
      memcpy(&e, CMSG_DATA(c), sizeof(e));
      EXPECT_EQ(e.ee_errno, static_cast<uint32_t>(ENOMSG));
      EXPECT_EQ(e.ee_origin, SO_EE_ORIGIN_TIMESTAMPING);
      EXPECT_EQ(e.ee_info, static_cast<uint32_t>(SCM_TSTAMP_ACK));
      EXPECT_EQ(e.ee_data, 9u);
      told = true;
    }
  }
  EXPECT_TRUE(stamped && told);
}

}  // namespace
}  // namespace ringwall::test
