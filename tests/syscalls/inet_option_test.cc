// Socket options of SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP and IPPROTO_UDP: defaults,
// ranges, sizes and errors.
#include <linux/in6.h>
#include <netinet/udp.h>
#include <sys/time.h>

#include <array>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

struct Kind {
  const char* name;
  int family, type, protocol;
};
constexpr Kind kTcp4 = {"tcp4", AF_INET, SOCK_STREAM, 0};
constexpr Kind kTcp6 = {"tcp6", AF_INET6, SOCK_STREAM, 0};
constexpr Kind kUdp4 = {"udp4", AF_INET, SOCK_DGRAM, 0};
constexpr Kind kUdp6 = {"udp6", AF_INET6, SOCK_DGRAM, 0};
constexpr Kind kUnix = {"unix", AF_UNIX, SOCK_STREAM, 0};

Fd Make(const Kind& k) { return Fd(socket(k.family, k.type, k.protocol)); }

struct Default {
  Kind kind;
  int level, name, value;
};

TEST(OptionTest, Defaults) {
  const Default rows[] = {
      {kTcp4, SOL_SOCKET, SO_TYPE, SOCK_STREAM},
      {kUdp6, SOL_SOCKET, SO_TYPE, SOCK_DGRAM},
      {kTcp4, SOL_SOCKET, SO_DOMAIN, AF_INET},
      {kUdp6, SOL_SOCKET, SO_DOMAIN, AF_INET6},
      {kTcp4, SOL_SOCKET, SO_PROTOCOL, IPPROTO_TCP},
      {kUdp4, SOL_SOCKET, SO_PROTOCOL, IPPROTO_UDP},
      {kUnix, SOL_SOCKET, SO_PROTOCOL, 0},
      {kTcp4, SOL_SOCKET, SO_ERROR, 0},
      {kTcp4, SOL_SOCKET, SO_ACCEPTCONN, 0},
      {kTcp4, SOL_SOCKET, SO_REUSEADDR, 0},
      {kTcp4, SOL_SOCKET, SO_KEEPALIVE, 0},
      {kTcp4, SOL_SOCKET, SO_RCVLOWAT, 1},
      {kTcp4, SOL_SOCKET, SO_SNDLOWAT, 1},
      {kTcp4, SOL_SOCKET, SO_RCVBUF, 131072},
      {kTcp4, SOL_SOCKET, SO_SNDBUF, 16384},
      {kUdp4, SOL_SOCKET, SO_RCVBUF, 212992},
      {kUnix, SOL_SOCKET, SO_SNDBUF, 212992},
      {kTcp4, SOL_SOCKET, SO_PEEK_OFF, -1},
      {kUdp4, SOL_SOCKET, SO_INCOMING_CPU, -1},
      {kTcp4, IPPROTO_IP, IP_TTL, 64},
      {kTcp4, IPPROTO_IP, IP_TOS, 0},
      {kUdp4, IPPROTO_IP, IP_MULTICAST_TTL, 1},
      {kUdp4, IPPROTO_IP, IP_MULTICAST_LOOP, 1},
      {kUdp4, IPPROTO_IP, IP_MULTICAST_ALL, 1},
      {kUdp4, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_WANT},
      {kUdp4, IPPROTO_IP, IP_HDRINCL, 0},
      {kTcp6, IPPROTO_IPV6, IPV6_V6ONLY, 0},
      {kTcp6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64},
      {kUdp6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 1},
      {kUdp6, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1},
      {kUdp6, IPPROTO_IPV6, IPV6_TCLASS, 0},
      {kUdp6, IPPROTO_IPV6, 70 /* IPV6_AUTOFLOWLABEL */, 1},
      {kTcp4, IPPROTO_TCP, TCP_NODELAY, 0},
      {kTcp4, IPPROTO_TCP, TCP_CORK, 0},
      {kTcp4, IPPROTO_TCP, TCP_MAXSEG, 536},
      {kTcp4, IPPROTO_TCP, TCP_KEEPIDLE, 7200},
      {kTcp4, IPPROTO_TCP, TCP_KEEPINTVL, 75},
      {kTcp4, IPPROTO_TCP, TCP_KEEPCNT, 9},
      {kTcp4, IPPROTO_TCP, TCP_SYNCNT, 6},
      {kTcp4, IPPROTO_TCP, TCP_LINGER2, 60},
      {kTcp4, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0},
      {kTcp4, IPPROTO_TCP, TCP_WINDOW_CLAMP, 0},
      {kTcp4, IPPROTO_TCP, TCP_QUICKACK, 1},
      {kTcp4, IPPROTO_TCP, TCP_USER_TIMEOUT, 0},
      {kTcp4, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0},
      {kUdp4, IPPROTO_UDP, UDP_CORK, 0},
      {kUdp4, IPPROTO_UDP, UDP_SEGMENT, 0},
  };
  for (const Default& r : rows) {
    Fd s = Make(r.kind);
    EXPECT_EQ(GetInt(s.get(), r.level, r.name), r.value) << r.kind.name << ' ' << r.level << ' '
                                                         << r.name;
  }
}

struct Change {
  Kind kind;
  int level, name, value;
  int error;     // 0: taken
  int becomes;   // what getsockopt says then
};

TEST(OptionTest, ValuesAreTakenCheckedAndRounded) {
  const Change rows[] = {
      {kTcp4, SOL_SOCKET, SO_REUSEADDR, 5, 0, 1},
      {kTcp4, SOL_SOCKET, SO_RCVBUF, 1, 0, 2304},
      {kTcp4, SOL_SOCKET, SO_SNDBUF, 1, 0, 4608},
      {kTcp4, SOL_SOCKET, SO_RCVBUF, 10000, 0, 20000},
      {kUnix, SOL_SOCKET, SO_SNDBUF, 10000, 0, 20000},
      {kTcp4, SOL_SOCKET, SO_RCVLOWAT, 0, 0, 1},
      {kUnix, SOL_SOCKET, SO_RCVLOWAT, -1, 0, INT32_MAX},
      {kTcp4, SOL_SOCKET, SO_PRIORITY, 6, 0, 6},
      {kTcp4, SOL_SOCKET, SO_TYPE, 1, ENOPROTOOPT, SOCK_STREAM},
      {kTcp4, SOL_SOCKET, SO_ERROR, 1, ENOPROTOOPT, 0},
      {kTcp4, SOL_SOCKET, SO_DOMAIN, 1, ENOPROTOOPT, AF_INET},
      {kUnix, SOL_SOCKET, SO_REUSEPORT, 1, EOPNOTSUPP, 0},
      {kTcp4, SOL_SOCKET, SO_PASSCRED, 1, EOPNOTSUPP, -1},
      {kTcp4, SOL_SOCKET, SO_ZEROCOPY, 2, EINVAL, 0},
      {kUnix, SOL_SOCKET, SO_ZEROCOPY, 1, EOPNOTSUPP, 0},
      {kTcp4, SOL_SOCKET, SO_BUSY_POLL, -1, EINVAL, 0},
      {kTcp4, IPPROTO_IP, IP_TTL, 0, EINVAL, 64},
      {kTcp4, IPPROTO_IP, IP_TTL, 256, EINVAL, 64},
      {kTcp4, IPPROTO_IP, IP_TTL, 255, 0, 255},
      {kTcp4, IPPROTO_IP, IP_TTL, -1, 0, 64},
      {kUdp4, IPPROTO_IP, IP_TOS, 0x1c, 0, 0x1c},
      {kUdp4, IPPROTO_IP, IP_TOS, 0x11c, 0, 0x1c},
      {kTcp4, IPPROTO_IP, IP_TOS, 0x1f, 0, 0x1c},  // the ECN bits are TCP's
      {kTcp4, IPPROTO_IP, IP_MULTICAST_TTL, 3, EINVAL, 1},
      {kUdp4, IPPROTO_IP, IP_MULTICAST_TTL, 256, EINVAL, 1},
      {kUdp4, IPPROTO_IP, IP_MULTICAST_TTL, -1, 0, 1},
      {kUdp4, IPPROTO_IP, IP_MULTICAST_ALL, 2, EINVAL, 1},
      {kUdp4, IPPROTO_IP, IP_MTU_DISCOVER, 6, EINVAL, IP_PMTUDISC_WANT},
      {kUdp4, IPPROTO_IP, IP_HDRINCL, 1, ENOPROTOOPT, 0},
      {kUdp4, IPPROTO_IP, IP_MINTTL, 256, EINVAL, 0},
      {kUdp6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256, EINVAL, 64},
      {kUdp6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -2, EINVAL, 64},
      {kUdp6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 0, 0, 0},
      {kTcp6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 3, ENOPROTOOPT, 1},
      {kUdp6, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 2, EINVAL, 1},
      {kUdp6, IPPROTO_IPV6, IPV6_TCLASS, 256, EINVAL, 0},
      {kUdp6, IPPROTO_IPV6, IPV6_TCLASS, -1, 0, 0},
      {kUdp6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, 6, EINVAL, IPV6_PMTUDISC_WANT},
      {kUdp6, IPPROTO_IPV6, IPV6_RECVPKTINFO, 7, 0, 1},
      {kTcp4, IPPROTO_TCP, TCP_MAXSEG, 87, EINVAL, 536},
      {kTcp4, IPPROTO_TCP, TCP_MAXSEG, 32768, EINVAL, 536},
      {kTcp4, IPPROTO_TCP, TCP_MAXSEG, 1000, 0, 1000},
      {kTcp4, IPPROTO_TCP, TCP_KEEPIDLE, 0, EINVAL, 7200},
      {kTcp4, IPPROTO_TCP, TCP_KEEPIDLE, 32768, EINVAL, 7200},
      {kTcp4, IPPROTO_TCP, TCP_KEEPCNT, 128, EINVAL, 9},
      {kTcp4, IPPROTO_TCP, TCP_SYNCNT, 0, EINVAL, 6},
      {kTcp4, IPPROTO_TCP, TCP_SYNCNT, 127, 0, 127},
      {kTcp4, IPPROTO_TCP, TCP_LINGER2, -5, 0, -1},
      {kTcp4, IPPROTO_TCP, TCP_LINGER2, 500, 0, 120},
      {kTcp4, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5, 0, 7},
      {kTcp4, IPPROTO_TCP, TCP_DEFER_ACCEPT, -1, 0, 0},
      {kTcp4, IPPROTO_TCP, TCP_WINDOW_CLAMP, 10, 0, 1152},
      {kTcp4, IPPROTO_TCP, TCP_USER_TIMEOUT, -1, EINVAL, 0},
      {kTcp4, IPPROTO_TCP, TCP_USER_TIMEOUT, 1234, 0, 1234},
      {kTcp4, IPPROTO_TCP, TCP_FASTOPEN, -1, EINVAL, 0},
      {kTcp4, IPPROTO_TCP, TCP_FASTOPEN, 5, 0, 5},
      {kTcp4, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 77, 0, 77},
      {kUdp4, IPPROTO_UDP, UDP_SEGMENT, 65536, EINVAL, 0},
  };
  for (const Change& r : rows) {
    Fd s = Make(r.kind);
    SCOPED_TRACE(std::string(r.kind.name) + ' ' + std::to_string(r.level) + ' ' +
                 std::to_string(r.name) + " = " + std::to_string(r.value));
    if (r.error != 0) {
      EXPECT_FAILS(SetInt(s.get(), r.level, r.name, r.value), r.error);
    } else {
      EXPECT_OK(SetInt(s.get(), r.level, r.name, r.value));
    }
    if (r.becomes != -1 || r.error == 0) {
      EXPECT_EQ(GetInt(s.get(), r.level, r.name), r.becomes);
    }
  }
}

TEST(OptionTest, SizesAndAddresses) {
  Fd s = Make(kTcp4);
  int v = 1;
  const auto set = [&](int level, int name, socklen_t size) {
    return setsockopt(s.get(), level, name, &v, size);
  };
  EXPECT_FAILS(set(SOL_SOCKET, SO_REUSEADDR, 3), EINVAL);
  EXPECT_FAILS(set(SOL_SOCKET, SO_REUSEADDR, static_cast<socklen_t>(-1)), EINVAL);
  EXPECT_FAILS(set(IPPROTO_TCP, TCP_NODELAY, 3), EINVAL);
  EXPECT_OK(set(IPPROTO_IP, IP_TOS, 1));
  EXPECT_FAILS(set(IPPROTO_IP, IP_TTL, 0), EINVAL);
  EXPECT_FAILS(set(SOL_SOCKET, 9999, 4), ENOPROTOOPT);
  EXPECT_FAILS(set(IPPROTO_TCP, 9999, 4), ENOPROTOOPT);
  EXPECT_FAILS(set(IPPROTO_IP, 9999, 4), ENOPROTOOPT);
  EXPECT_FAILS(set(9999, 1, 4), ENOPROTOOPT);
  EXPECT_FAILS(setsockopt(s.get(), SOL_SOCKET, SO_REUSEADDR, reinterpret_cast<void*>(8), 4), EFAULT);
  EXPECT_FAILS(setsockopt(s.get(), SOL_SOCKET, SO_LINGER, &v, 4), EINVAL);
  char out[4] = {0x55, 0x55, 0x55, 0x55};
  socklen_t size = 2;
  ASSERT_OK(getsockopt(s.get(), SOL_SOCKET, SO_TYPE, out, &size));
  EXPECT_EQ(size, 2u);
  EXPECT_EQ(out[0], SOCK_STREAM);
  EXPECT_EQ(out[2], 0x55);
  size = static_cast<socklen_t>(-1);
  EXPECT_FAILS(getsockopt(s.get(), SOL_SOCKET, SO_TYPE, out, &size), EINVAL);
  size = 4;
  EXPECT_FAILS(getsockopt(s.get(), SOL_SOCKET, 9999, out, &size), ENOPROTOOPT);
  EXPECT_FAILS(getsockopt(s.get(), 9999, 1, out, &size), EOPNOTSUPP);
  EXPECT_FAILS(getsockopt(s.get(), SOL_SOCKET, SO_TYPE, out, reinterpret_cast<socklen_t*>(8)),
               EFAULT);
  Fd u = Make(kUnix);
  EXPECT_FAILS(setsockopt(u.get(), IPPROTO_IP, IP_TTL, &v, 4), EOPNOTSUPP);
  EXPECT_FAILS(getsockopt(u.get(), IPPROTO_IP, IP_TTL, out, &size), EOPNOTSUPP);
  // A value of IPPROTO_IP goes out as one byte where there is room for no more.
  size = 1;
  ASSERT_OK(getsockopt(s.get(), IPPROTO_IP, IP_TTL, out, &size));
  EXPECT_EQ(size, 1u);
  EXPECT_EQ(out[0], 64);
}

TEST(OptionTest, Timeouts) {
  for (int name : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    Fd s = Make(kTcp4);
    timeval tv = {2, 500000}, back = {};
    ASSERT_OK(setsockopt(s.get(), SOL_SOCKET, name, &tv, sizeof(tv)));
    socklen_t size = sizeof(back);
    ASSERT_OK(getsockopt(s.get(), SOL_SOCKET, name, &back, &size));
    EXPECT_EQ(back.tv_sec, 2);
    EXPECT_EQ(back.tv_usec, 500000);
    tv = {0, 1000000};
    EXPECT_FAILS(setsockopt(s.get(), SOL_SOCKET, name, &tv, sizeof(tv)), EDOM);
    tv = {0, -1};
    EXPECT_FAILS(setsockopt(s.get(), SOL_SOCKET, name, &tv, sizeof(tv)), EDOM);
    EXPECT_FAILS(setsockopt(s.get(), SOL_SOCKET, name, &tv, 8), EINVAL);
    tv = {-1, 0};  // does not wait at all
    ASSERT_OK(setsockopt(s.get(), SOL_SOCKET, name, &tv, sizeof(tv)));
    ASSERT_OK(getsockopt(s.get(), SOL_SOCKET, name, &back, &size));
    EXPECT_EQ(back.tv_sec, 0);
  }
}

TEST(OptionTest, LingerAndCookie) {
  Fd s = Make(kTcp4), t = Make(kTcp4);
  linger l = {7, 33};
  ASSERT_OK(setsockopt(s.get(), SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
  socklen_t size = sizeof(l);
  ASSERT_OK(getsockopt(s.get(), SOL_SOCKET, SO_LINGER, &l, &size));
  EXPECT_EQ(l.l_onoff, 1);
  EXPECT_EQ(l.l_linger, 33);
  uint64_t a = 0, b = 0, again = 0;
  size = 8;
  ASSERT_OK(getsockopt(s.get(), SOL_SOCKET, SO_COOKIE, &a, &size));
  ASSERT_OK(getsockopt(t.get(), SOL_SOCKET, SO_COOKIE, &b, &size));
  ASSERT_OK(getsockopt(s.get(), SOL_SOCKET, SO_COOKIE, &again, &size));
  EXPECT_NE(a, 0u);
  EXPECT_NE(a, b);
  EXPECT_EQ(a, again);
  size = 4;
  EXPECT_FAILS(getsockopt(s.get(), SOL_SOCKET, SO_COOKIE, &a, &size), EINVAL);
}

TEST(OptionTest, BoundDevice) {
  Fd s = Make(kUdp4);
  char name[16] = {};
  socklen_t size = sizeof(name);
  ASSERT_OK(getsockopt(s.get(), SOL_SOCKET, SO_BINDTODEVICE, name, &size));
  EXPECT_EQ(size, 0u);
  EXPECT_FAILS(setsockopt(s.get(), SOL_SOCKET, SO_BINDTODEVICE, "nosuch0", 8), ENODEV);
  ASSERT_OK(setsockopt(s.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
  size = sizeof(name);
  ASSERT_OK(getsockopt(s.get(), SOL_SOCKET, SO_BINDTODEVICE, name, &size));
  EXPECT_EQ(size, 3u);
  EXPECT_STREQ(name, "lo");
  size = 4;
  EXPECT_FAILS(getsockopt(s.get(), SOL_SOCKET, SO_BINDTODEVICE, name, &size), EINVAL);
}

TEST(TcpOptionTest, CongestionControl) {
  Fd s = Make(kTcp4);
  char name[16] = {};
  ASSERT_OK(setsockopt(s.get(), IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
  socklen_t size = sizeof(name);
  ASSERT_OK(getsockopt(s.get(), IPPROTO_TCP, TCP_CONGESTION, name, &size));
  EXPECT_EQ(size, 16u);
  EXPECT_STREQ(name, "reno");
  EXPECT_FAILS(setsockopt(s.get(), IPPROTO_TCP, TCP_CONGESTION, "nosuch", 6), ENOENT);
  EXPECT_FAILS(setsockopt(s.get(), IPPROTO_TCP, TCP_CONGESTION, "", 0), EINVAL);
  EXPECT_FAILS(setsockopt(s.get(), IPPROTO_TCP, TCP_ULP, "nosuch", 6), ENOENT);
}

TEST(TcpOptionTest, Info) {
  TcpPair p;
  ASSERT_EQ(send(p.client.get(), "abc", 3, 0), 3);
  EXPECT_EQ(PollFor(p.server.get(), POLLIN), POLLIN);
  tcp_info info = {};
  socklen_t size = sizeof(info);
  ASSERT_OK(getsockopt(p.client.get(), IPPROTO_TCP, TCP_INFO, &info, &size));
  EXPECT_EQ(info.tcpi_state, TCP_ESTABLISHED);
  EXPECT_GT(info.tcpi_snd_mss, 536u);
  EXPECT_GT(info.tcpi_snd_cwnd, 0u);
  EXPECT_GT(info.tcpi_rto, 0u);
  EXPECT_TRUE(info.tcpi_options & TCPI_OPT_WSCALE);
  Fd listener = Listener(AF_INET, 7);
  ASSERT_OK(getsockopt(listener.get(), IPPROTO_TCP, TCP_INFO, &info, &size));
  EXPECT_EQ(info.tcpi_state, TCP_LISTEN);
  EXPECT_EQ(info.tcpi_sacked, 7u);
  // Cut to the room.
  size = 1;
  ASSERT_OK(getsockopt(listener.get(), IPPROTO_TCP, TCP_INFO, &info, &size));
  EXPECT_EQ(size, 1u);
}

TEST(TcpOptionTest, ConnectionsInherit) {
  Fd listener = Listener(AF_INET);
  ASSERT_OK(SetInt(listener.get(), SOL_SOCKET, SO_KEEPALIVE, 1));
  ASSERT_OK(SetInt(listener.get(), IPPROTO_TCP, TCP_NODELAY, 1));
  ASSERT_OK(SetInt(listener.get(), IPPROTO_TCP, TCP_KEEPIDLE, 99));
  ASSERT_OK(SetInt(listener.get(), IPPROTO_IP, IP_TTL, 9));
  Fd c(socket(AF_INET, SOCK_STREAM, 0));
  const Addr to = LocalOf(listener.get());
  ASSERT_OK(connect(c.get(), to.ptr(), to.size));
  Fd s(accept(listener.get(), nullptr, nullptr));
  EXPECT_EQ(GetInt(s.get(), SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(GetInt(s.get(), IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(GetInt(s.get(), IPPROTO_TCP, TCP_KEEPIDLE), 99);
  EXPECT_EQ(GetInt(s.get(), IPPROTO_IP, IP_TTL), 9);
}

// IPV6_ADDRFORM: an IPv6 socket whose peer is of IPv4 becomes one of IPv4.
TEST(IpOptionTest, AddressForm) {
  for (const Kind& kind : {kTcp6, kUdp6}) {
    SCOPED_TRACE(kind.name);
    const bool stream = kind.type == SOCK_STREAM;
    Fd server = stream ? Listener(AF_INET) : Fd(socket(AF_INET, SOCK_DGRAM, 0));
    if (!stream) {
      const Addr any = Addr::Loopback(AF_INET, 0);
      ASSERT_OK(bind(server.get(), any.ptr(), any.size));
    }
    const uint16_t port = LocalOf(server.get()).port();
    Fd s = Make(kind);
    EXPECT_FAILS(SetInt(s.get(), IPPROTO_IPV6, IPV6_ADDRFORM, AF_UNIX), EINVAL);
    EXPECT_FAILS(SetInt(s.get(), IPPROTO_IPV6, IPV6_ADDRFORM, AF_INET), ENOTCONN);
    sockaddr_in6 to = {};
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(port);
    ASSERT_EQ(inet_pton(AF_INET6, "::ffff:127.0.0.1", &to.sin6_addr), 1);
    ASSERT_OK(connect(s.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)));
    EXPECT_EQ(GetInt(s.get(), IPPROTO_IPV6, IPV6_ADDRFORM), AF_INET6);
    ASSERT_OK(SetInt(s.get(), IPPROTO_IPV6, IPV6_ADDRFORM, AF_INET));
    EXPECT_EQ(GetInt(s.get(), SOL_SOCKET, SO_DOMAIN), AF_INET);
    EXPECT_FAILS(SetInt(s.get(), IPPROTO_IPV6, IPV6_ADDRFORM, AF_INET), ENOPROTOOPT);
    const Addr local = LocalOf(s.get());
    EXPECT_EQ(local.ptr()->sa_family, AF_INET);
    EXPECT_EQ(local.size, sizeof(sockaddr_in));
    ASSERT_EQ(send(s.get(), "x", 1, 0), 1);
    Fd peer = stream ? Fd(accept(server.get(), nullptr, nullptr)) : std::move(server);
    char b = 0;
    Addr from = {};
    from.size = sizeof(from.storage);
    ASSERT_EQ(recvfrom(peer.get(), &b, 1, 0, from.ptr(), &from.size), 1);
    EXPECT_EQ(b, 'x');
    if (stream) {
      ASSERT_EQ(send(peer.get(), "y", 1, 0), 1);
    } else {
      ASSERT_EQ(sendto(peer.get(), "y", 1, 0, from.ptr(), from.size), 1);
    }
    ASSERT_EQ(recv(s.get(), &b, 1, 0), 1);
    EXPECT_EQ(b, 'y');
  }
}

TEST(IpOptionTest, MtuNeedsAPeer) {
  Fd s = Make(kUdp4);
  int mtu = 0;
  socklen_t size = sizeof(mtu);
  EXPECT_FAILS(getsockopt(s.get(), IPPROTO_IP, IP_MTU, &mtu, &size), ENOTCONN);
  const Addr to = Addr::Loopback(AF_INET, 9);
  ASSERT_OK(connect(s.get(), to.ptr(), to.size));
  ASSERT_OK(getsockopt(s.get(), IPPROTO_IP, IP_MTU, &mtu, &size));
  EXPECT_EQ(mtu, 65535);
}

}  // namespace
}  // namespace ringwall::test
