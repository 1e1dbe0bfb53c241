// UDP, raw and ping sockets, and AF_PACKET, over the loopback.
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <thread>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

constexpr int kLo = 1;  // the loopback is the first interface everywhere

class UdpTest : public ::testing::TestWithParam<int> {
 protected:
  int family() const { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Families, UdpTest, ::testing::Values(AF_INET, AF_INET6));

TEST_P(UdpTest, DatagramsKeepBorders) {
  UdpPair p(family());
  ASSERT_EQ(send(p.a.get(), "one", 3, 0), 3);
  ASSERT_EQ(send(p.a.get(), "", 0, 0), 0);
  ASSERT_EQ(send(p.a.get(), "three", 5, 0), 5);
  int n = -1;
  ASSERT_OK(ioctl(p.b.get(), FIONREAD, &n));
  EXPECT_EQ(n, 3);
  char b[16];
  Addr from;
  EXPECT_EQ(recvfrom(p.b.get(), b, 16, MSG_PEEK, from.ptr(), &from.size), 3);
  EXPECT_EQ(from.port(), LocalOf(p.a.get()).port());
  EXPECT_EQ(recv(p.b.get(), b, 16, 0), 3);
  EXPECT_EQ(recv(p.b.get(), b, 16, 0), 0);
  EXPECT_EQ(recv(p.b.get(), b, 2, MSG_TRUNC), 5);
  EXPECT_FAILS(recv(p.b.get(), b, 16, MSG_DONTWAIT), EAGAIN);
  ASSERT_OK(ioctl(p.b.get(), FIONREAD, &n));
  EXPECT_EQ(n, 0);
}

TEST_P(UdpTest, SendtoAndAnswer) {
  UdpPair p(family());
  Fd c(socket(family(), SOCK_DGRAM, 0));
  const Addr to = LocalOf(p.b.get());
  EXPECT_EQ(LocalOf(c.get()).port(), 0);
  ASSERT_EQ(sendto(c.get(), "q", 1, 0, to.ptr(), to.size), 1);
  EXPECT_NE(LocalOf(c.get()).port(), 0);
  char b[4];
  Addr from;
  ASSERT_EQ(recvfrom(p.b.get(), b, 4, 0, from.ptr(), &from.size), 1);
  ASSERT_EQ(sendto(p.b.get(), "a", 1, 0, from.ptr(), from.size), 1);
  EXPECT_EQ(recv(c.get(), b, 4, 0), 1);
  // A connected socket hears its peer only.
  ASSERT_EQ(sendto(c.get(), "x", 1, 0, LocalOf(p.a.get()).ptr(), to.size), 1);
  EXPECT_FAILS(recv(p.a.get(), b, 4, MSG_DONTWAIT), EAGAIN);
}

TEST_P(UdpTest, AddressErrors) {
  Fd s(socket(family(), SOCK_DGRAM, 0));
  EXPECT_FAILS(send(s.get(), "x", 1, 0), EDESTADDRREQ);
  EXPECT_FAILS(NoPeer(s.get()), ENOTCONN);
  Addr to = Addr::Loopback(family(), 0);
  EXPECT_FAILS(sendto(s.get(), "x", 1, 0, to.ptr(), to.size), EINVAL);  // port 0
  to.set_port(9);
  EXPECT_FAILS(sendto(s.get(), "x", 1, 0, to.ptr(), 3), EINVAL);
  EXPECT_FAILS(sendto(s.get(), "x", 1, 0, to.ptr(), 129), EINVAL);
  EXPECT_FAILS(sendto(s.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(8), to.size), EFAULT);
  // The two families look at things in another order.
  if (family() == AF_INET) {
    EXPECT_FAILS(sendto(s.get(), "x", 1, MSG_OOB, to.ptr(), to.size), EOPNOTSUPP);
    EXPECT_FAILS(send(s.get(), nullptr, 70000, 0), EMSGSIZE);
  } else {
    EXPECT_EQ(sendto(s.get(), "x", 1, MSG_OOB, to.ptr(), to.size), 1);
    EXPECT_FAILS(send(s.get(), nullptr, 70000, 0), EDESTADDRREQ);
  }
  EXPECT_FAILS(sendto(s.get(), nullptr, 70000, 0, to.ptr(), to.size), EMSGSIZE);
  to.storage.ss_family = AF_UNIX;
  EXPECT_FAILS(sendto(s.get(), "x", 1, 0, to.ptr(), to.size),
               family() == AF_INET ? EAFNOSUPPORT : EINVAL);
  EXPECT_FAILS(shutdown(s.get(), SHUT_RD), ENOTCONN);
}

TEST_P(UdpTest, NobodyThereIsToldToTheConnected) {
  UdpPair p(family());
  p.b.Reset();
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  EXPECT_TRUE(PollFor(p.a.get(), POLLIN) & POLLERR);
  char b[4];
  EXPECT_FAILS(recv(p.a.get(), b, 4, 0), ECONNREFUSED);
  EXPECT_FAILS(recv(p.a.get(), b, 4, MSG_DONTWAIT), EAGAIN);
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  EXPECT_FAILS(send(p.a.get(), "x", 1, 0), ECONNREFUSED);
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  EXPECT_EQ(GetInt(p.a.get(), SOL_SOCKET, SO_ERROR), ECONNREFUSED);
}

TEST_P(UdpTest, ErrorQueue) {
  UdpPair p(family());
  const Addr to = LocalOf(p.b.get());
  p.b.Reset();
  const bool v4 = family() == AF_INET;
  ASSERT_OK(SetInt(p.a.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR, 1));
  char b[32], control[256];
  iovec iov = {b, sizeof(b)};
  Addr name;
  msghdr m = {};
  m.msg_name = name.ptr();
  m.msg_namelen = sizeof(name.storage);
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  EXPECT_FAILS(recvmsg(p.a.get(), &m, MSG_ERRQUEUE), EAGAIN);
  ASSERT_EQ(send(p.a.get(), "payload", 7, 0), 7);
  EXPECT_TRUE(PollFor(p.a.get(), 0) & POLLERR);
  m.msg_controllen = sizeof(control);
  m.msg_namelen = sizeof(name.storage);
  ASSERT_EQ(recvmsg(p.a.get(), &m, MSG_ERRQUEUE), 7);
  EXPECT_EQ(m.msg_flags, MSG_ERRQUEUE);
  EXPECT_EQ(name.port(), to.port());
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_level, v4 ? IPPROTO_IP : IPPROTO_IPV6);
  EXPECT_EQ(c->cmsg_type, v4 ? IP_RECVERR : IPV6_RECVERR);
  struct {
    uint32_t error;
    uint8_t origin, type, code, pad;
    uint32_t info, data;
  } e;
  memcpy(&e, CMSG_DATA(c), sizeof(e));
  EXPECT_EQ(e.error, static_cast<uint32_t>(ECONNREFUSED));
  EXPECT_EQ(e.origin, v4 ? 2 : 3);
  EXPECT_EQ(e.type, v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH);
  EXPECT_EQ(e.code, v4 ? ICMP_PORT_UNREACH : ICMP6_DST_UNREACH_NOPORT);
}

TEST_P(UdpTest, UnspecDisconnects) {
  UdpPair p(family());
  sockaddr none = {};
  none.sa_family = AF_UNSPEC;
  ASSERT_OK(connect(p.a.get(), &none, sizeof(none)));
  EXPECT_FAILS(send(p.a.get(), "x", 1, 0), EDESTADDRREQ);
  EXPECT_FAILS(NoPeer(p.a.get()), ENOTCONN);
  EXPECT_NE(LocalOf(p.a.get()).port(), 0);
  // A port that connect chose goes with the connection.
  Fd c(socket(family(), SOCK_DGRAM, 0));
  const Addr to = LocalOf(p.b.get());
  ASSERT_OK(connect(c.get(), to.ptr(), to.size));
  EXPECT_NE(LocalOf(c.get()).port(), 0);
  ASSERT_OK(connect(c.get(), &none, sizeof(none)));
  EXPECT_EQ(LocalOf(c.get()).port(), 0);
}

TEST_P(UdpTest, Shutdown) {
  UdpPair p(family());
  ASSERT_OK(shutdown(p.a.get(), SHUT_WR));
  EXPECT_FAILS(send(p.a.get(), "x", 1, 0), EPIPE);
  char b;
  EXPECT_FAILS(recv(p.a.get(), &b, 1, MSG_DONTWAIT), EAGAIN);
  ASSERT_OK(shutdown(p.a.get(), SHUT_RD));
  EXPECT_EQ(recv(p.a.get(), &b, 1, 0), 0);
  EXPECT_TRUE(PollFor(p.a.get(), POLLIN) & POLLHUP);
  std::thread t([&] { EXPECT_EQ(recv(p.b.get(), &b, 1, 0), 0); });
  usleep(20000);
  EXPECT_FAILS(shutdown(p.b.get(), SHUT_RD), ENOTCONN);  // and yet it wakes
  t.join();
}

TEST_P(UdpTest, MoreMakesOneDatagram) {
  UdpPair p(family());
  ASSERT_EQ(send(p.a.get(), "ab", 2, MSG_MORE), 2);
  char b[8];
  EXPECT_FAILS(recv(p.b.get(), b, 8, MSG_DONTWAIT), EAGAIN);
  ASSERT_EQ(send(p.a.get(), "cd", 2, 0), 2);
  EXPECT_EQ(recv(p.b.get(), b, 8, 0), 4);
  ASSERT_OK(SetInt(p.a.get(), IPPROTO_UDP, UDP_CORK, 1));
  ASSERT_EQ(send(p.a.get(), "ab", 2, 0), 2);
  EXPECT_FAILS(recv(p.b.get(), b, 8, MSG_DONTWAIT), EAGAIN);
  ASSERT_OK(SetInt(p.a.get(), IPPROTO_UDP, UDP_CORK, 0));
  EXPECT_EQ(recv(p.b.get(), b, 8, 0), 2);
}

TEST_P(UdpTest, ManyMessagesWithOneCall) {
  UdpPair p(family());
  char x[] = "one", y[] = "three";
  iovec iov[2] = {{x, 3}, {y, 5}};
  mmsghdr out[2] = {};
  for (int i = 0; i < 2; i++) {
    out[i].msg_hdr.msg_iov = &iov[i];
    out[i].msg_hdr.msg_iovlen = 1;
  }
  ASSERT_EQ(sendmmsg(p.a.get(), out, 2, 0), 2);
  EXPECT_EQ(out[1].msg_len, 5u);
  char b[3][8];
  iovec in[3];
  mmsghdr got[3] = {};
  for (int i = 0; i < 3; i++) {
    in[i] = {b[i], 8};
    got[i].msg_hdr.msg_iov = &in[i];
    got[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(recvmmsg(p.b.get(), got, 3, MSG_WAITFORONE, nullptr), 2);
  EXPECT_EQ(got[0].msg_len, 3u);
  EXPECT_EQ(got[1].msg_len, 5u);
  EXPECT_FAILS(recvmmsg(p.b.get(), got, 3, MSG_DONTWAIT, nullptr), EAGAIN);
  timespec bad = {0, 1000000000};
  EXPECT_FAILS(recvmmsg(p.b.get(), got, 3, 0, &bad), EINVAL);
}

TEST_P(UdpTest, ReceiveBufferBounds) {
  UdpPair p(family());
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_RCVBUF, 4096));
  std::vector<char> block(1000, 'x');
  for (int i = 0; i < 100; i++) {
    ASSERT_EQ(send(p.a.get(), block.data(), block.size(), 0), 1000);
  }
  int got = 0;
  while (recv(p.b.get(), block.data(), block.size(), MSG_DONTWAIT) > 0) got++;
  EXPECT_GT(got, 0);
  EXPECT_LT(got, 20);
}

std::vector<cmsghdr*> Messages(msghdr* m) {
  std::vector<cmsghdr*> all;
  for (cmsghdr* c = CMSG_FIRSTHDR(m); c != nullptr; c = CMSG_NXTHDR(m, c)) all.push_back(c);
  return all;
}

TEST(UdpControlTest, Ipv4TellsAndTakes) {
  UdpPair p(AF_INET);
  for (int o : {IP_PKTINFO, IP_RECVTTL, IP_RECVTOS}) {
    ASSERT_OK(SetInt(p.b.get(), IPPROTO_IP, o, 1));
    EXPECT_EQ(GetInt(p.b.get(), IPPROTO_IP, o), 1);
  }
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_TIMESTAMP, 1));
  // This message with a TTL and TOS of its own.
  char out[CMSG_SPACE(4) * 2] = {}, text[] = "x";
  iovec iov = {text, 1};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = out;
  m.msg_controllen = sizeof(out);
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  *c = {CMSG_LEN(4), IPPROTO_IP, IP_TTL};
  int v = 7;
  memcpy(CMSG_DATA(c), &v, 4);
  c = CMSG_NXTHDR(&m, c);
  *c = {CMSG_LEN(4), IPPROTO_IP, IP_TOS};
  v = 0x10;
  memcpy(CMSG_DATA(c), &v, 4);
  ASSERT_EQ(sendmsg(p.a.get(), &m, 0), 1);
  char in[256], b[4];
  iov = {b, 4};
  m.msg_control = in;
  m.msg_controllen = sizeof(in);
  ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 1);
  std::vector<cmsghdr*> got = Messages(&m);
  ASSERT_EQ(got.size(), 4u);
  EXPECT_EQ(got[0]->cmsg_level, SOL_SOCKET);
  EXPECT_EQ(got[0]->cmsg_type, SO_TIMESTAMP);
  timeval then, now;
  memcpy(&then, CMSG_DATA(got[0]), sizeof(then));
  gettimeofday(&now, nullptr);
  EXPECT_LE(std::abs(now.tv_sec - then.tv_sec), 60);
  EXPECT_EQ(got[1]->cmsg_type, IP_PKTINFO);
  in_pktinfo info;
  memcpy(&info, CMSG_DATA(got[1]), sizeof(info));
  EXPECT_EQ(info.ipi_addr.s_addr, htonl(INADDR_LOOPBACK));
  EXPECT_EQ(info.ipi_spec_dst.s_addr, htonl(INADDR_LOOPBACK));
  EXPECT_EQ(info.ipi_ifindex, kLo);
  EXPECT_EQ(got[2]->cmsg_type, IP_TTL);
  memcpy(&v, CMSG_DATA(got[2]), 4);
  EXPECT_EQ(v, 7);
  EXPECT_EQ(got[3]->cmsg_type, IP_TOS);
  EXPECT_EQ(*CMSG_DATA(got[3]), 0x10);
  // No room: what fits, and MSG_CTRUNC.
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  m.msg_controllen = CMSG_LEN(sizeof(timeval)) - 4;
  ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 1);
  EXPECT_TRUE(m.msg_flags & MSG_CTRUNC);
  EXPECT_EQ(m.msg_controllen, CMSG_LEN(sizeof(timeval)) - 4);
}

TEST(UdpControlTest, BadControlIsRefused) {
  UdpPair p(AF_INET);
  char out[CMSG_SPACE(4)] = {}, text[] = "x";
  iovec iov = {text, 1};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = out;
  m.msg_controllen = sizeof(out);
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  const auto with = [&](size_t length, int level, int type, int value) {
    *c = {length, level, type};
    memcpy(CMSG_DATA(c), &value, 4);
    return sendmsg(p.a.get(), &m, 0);
  };
  EXPECT_FAILS(with(4, IPPROTO_IP, IP_TTL, 1), EINVAL);
  EXPECT_FAILS(with(1000, IPPROTO_IP, IP_TTL, 1), EINVAL);
  EXPECT_FAILS(with(CMSG_LEN(4), IPPROTO_IP, IP_TTL, 0), EINVAL);
  EXPECT_FAILS(with(CMSG_LEN(4), IPPROTO_IP, IP_TTL, 256), EINVAL);
  EXPECT_FAILS(with(CMSG_LEN(4), IPPROTO_IP, IP_TOS, 256), EINVAL);
  EXPECT_FAILS(with(CMSG_LEN(4), IPPROTO_IP, 99, 0), EINVAL);
  EXPECT_FAILS(with(CMSG_LEN(4), SOL_SOCKET, 99, 0), EINVAL);
  EXPECT_EQ(with(CMSG_LEN(4), IPPROTO_IPV6, IPV6_HOPLIMIT, 1), 1);  // another's level
  m.msg_controllen = 0x80000000;
  EXPECT_FAILS(sendmsg(p.a.get(), &m, 0), ENOBUFS);
  m.msg_controllen = 1 << 20;
  EXPECT_FAILS(sendmsg(p.a.get(), &m, 0), ENOBUFS);
}

TEST(UdpControlTest, Ipv6TellsAndTakes) {
  UdpPair p(AF_INET6);
  for (int o : {IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS}) {
    ASSERT_OK(SetInt(p.b.get(), IPPROTO_IPV6, o, 1));
    EXPECT_EQ(GetInt(p.b.get(), IPPROTO_IPV6, o), 1);
  }
  ASSERT_OK(SetInt(p.a.get(), IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9));
  ASSERT_OK(SetInt(p.a.get(), IPPROTO_IPV6, IPV6_TCLASS, 0x20));
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  char in[256], b[4];
  iovec iov = {b, 4};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = in;
  m.msg_controllen = sizeof(in);
  ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 1);
  std::vector<cmsghdr*> got = Messages(&m);
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0]->cmsg_type, IPV6_PKTINFO);
  in6_pktinfo info;
  memcpy(&info, CMSG_DATA(got[0]), sizeof(info));
  EXPECT_TRUE(IN6_IS_ADDR_LOOPBACK(&info.ipi6_addr));
  int v;
  EXPECT_EQ(got[1]->cmsg_type, IPV6_HOPLIMIT);
  memcpy(&v, CMSG_DATA(got[1]), 4);
  EXPECT_EQ(v, 9);
  EXPECT_EQ(got[2]->cmsg_type, IPV6_TCLASS);
  memcpy(&v, CMSG_DATA(got[2]), 4);
  EXPECT_EQ(v, 0x20);
}

TEST(UdpMulticastTest, JoinHearLeave) {
  Fd r(socket(AF_INET, SOCK_DGRAM, 0)), s(socket(AF_INET, SOCK_DGRAM, 0));
  const Addr any = Addr::Any(AF_INET);
  ASSERT_OK(bind(r.get(), any.ptr(), any.size));
  const Addr group = Addr::V4(0xe0010203, LocalOf(r.get()).port());
  ip_mreqn m = {};
  m.imr_multiaddr.s_addr = htonl(0xe0010203);
  m.imr_ifindex = kLo;
  ASSERT_OK(setsockopt(r.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)));
  EXPECT_FAILS(setsockopt(r.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)), EADDRINUSE);
  ASSERT_OK(setsockopt(s.get(), IPPROTO_IP, IP_MULTICAST_IF, &m, sizeof(m)));
  ASSERT_EQ(sendto(s.get(), "m", 1, 0, group.ptr(), group.size), 1);
  char b;
  EXPECT_EQ(recv(r.get(), &b, 1, 0), 1);
  ASSERT_OK(SetInt(s.get(), IPPROTO_IP, IP_MULTICAST_LOOP, 0));
  EXPECT_EQ(GetInt(s.get(), IPPROTO_IP, IP_MULTICAST_LOOP), 0);
  ASSERT_OK(setsockopt(r.get(), IPPROTO_IP, IP_DROP_MEMBERSHIP, &m, sizeof(m)));
  EXPECT_FAILS(setsockopt(r.get(), IPPROTO_IP, IP_DROP_MEMBERSHIP, &m, sizeof(m)),
               EADDRNOTAVAIL);
  m.imr_multiaddr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_FAILS(setsockopt(r.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)), EINVAL);
  m.imr_multiaddr.s_addr = htonl(0xe0010203);
  m.imr_ifindex = 9999;
  EXPECT_FAILS(setsockopt(r.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)), ENODEV);
}

TEST(UdpFilterTest, DropsAndCuts) {
  UdpPair p(AF_INET);
  // Keep ten bytes of what starts with 'k' (behind the UDP header), drop the rest.
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'k', 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 10),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const sock_fprog prog = {4, code};
  EXPECT_FAILS(SetInt(p.b.get(), SOL_SOCKET, SO_DETACH_FILTER, 0), ENOENT);
  ASSERT_OK(setsockopt(p.b.get(), SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
  ASSERT_EQ(send(p.a.get(), "drop", 4, 0), 4);
  ASSERT_EQ(send(p.a.get(), "keep", 4, 0), 4);
  char b[8];
  EXPECT_EQ(recv(p.b.get(), b, 8, 0), 2);
  EXPECT_EQ(b[0], 'k');
  EXPECT_FAILS(recv(p.b.get(), b, 8, MSG_DONTWAIT), EAGAIN);
  sock_filter back[8];
  socklen_t n = 8;
  ASSERT_OK(getsockopt(p.b.get(), SOL_SOCKET, SO_GET_FILTER, back, &n));
  EXPECT_EQ(n, 4u);
  EXPECT_EQ(back[1].k, static_cast<uint32_t>('k'));
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_LOCK_FILTER, 1));
  EXPECT_FAILS(SetInt(p.b.get(), SOL_SOCKET, SO_DETACH_FILTER, 0), EPERM);
  code[1].jt = 200;
  EXPECT_FAILS(setsockopt(p.a.get(), SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)), EINVAL);
}

uint16_t Checksum(const void* data, size_t size) {
  const uint8_t* b = static_cast<const uint8_t*>(data);
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < size; i += 2) sum += static_cast<uint32_t>(b[i] << 8 | b[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons(static_cast<uint16_t>(~sum));
}

TEST(RawTest, PingByHand) {
  Fd s(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
  if (!s.ok() && errno == EPERM) GTEST_SKIP() << "needs CAP_NET_RAW";
  ASSERT_TRUE(s.ok());
  icmphdr echo = {};
  echo.type = ICMP_ECHO;
  echo.un.echo.id = htons(0x4321);
  echo.un.echo.sequence = htons(7);
  echo.checksum = Checksum(&echo, sizeof(echo));
  // Only answers are to be heard.
  const uint32_t block = ~(1u << ICMP_ECHOREPLY);
  ASSERT_OK(setsockopt(s.get(), 255, 1, &block, sizeof(block)));
  const Addr to = Addr::Loopback(AF_INET);
  ASSERT_EQ(sendto(s.get(), &echo, sizeof(echo), 0, to.ptr(), to.size),
            static_cast<ssize_t>(sizeof(echo)));
  struct {
    iphdr ip;
    icmphdr icmp;
  } got = {};
  Addr from;
  ASSERT_EQ(recvfrom(s.get(), &got, sizeof(got), 0, from.ptr(), &from.size),
            static_cast<ssize_t>(sizeof(got)));
  EXPECT_EQ(got.ip.protocol, IPPROTO_ICMP);
  EXPECT_EQ(got.ip.version, 4u);
  EXPECT_EQ(ntohs(got.ip.tot_len), sizeof(got));
  EXPECT_EQ(got.icmp.type, ICMP_ECHOREPLY);
  EXPECT_EQ(ntohs(got.icmp.un.echo.sequence), 7);
  EXPECT_EQ(from.port(), 0);
  EXPECT_EQ(LocalOf(s.get()).port(), IPPROTO_ICMP);
}

TEST(RawTest, Ipv6Ping) {
  Fd s(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
  if (!s.ok() && errno == EPERM) GTEST_SKIP() << "needs CAP_NET_RAW";
  ASSERT_TRUE(s.ok());
  icmp6_filter filter;
  ICMP6_FILTER_SETBLOCKALL(&filter);
  ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
  ASSERT_OK(setsockopt(s.get(), IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter)));
  icmp6_hdr echo = {};
  echo.icmp6_type = ICMP6_ECHO_REQUEST;
  echo.icmp6_seq = htons(3);
  const Addr to = Addr::Loopback(AF_INET6);
  ASSERT_EQ(sendto(s.get(), &echo, sizeof(echo), 0, to.ptr(), to.size), 8);
  icmp6_hdr got = {};
  ASSERT_EQ(recv(s.get(), &got, sizeof(got), 0), 8);
  EXPECT_EQ(got.icmp6_type, ICMP6_ECHO_REPLY);
  EXPECT_EQ(got.icmp6_seq, htons(3));
}

TEST(RawTest, SeesUdpWithItsHeaders) {
  Fd s(socket(AF_INET, SOCK_RAW, IPPROTO_UDP));
  if (!s.ok() && errno == EPERM) GTEST_SKIP() << "needs CAP_NET_RAW";
  ASSERT_TRUE(s.ok());
  UdpPair p(AF_INET);
  const uint16_t port = LocalOf(p.b.get()).port();
  ASSERT_EQ(send(p.a.get(), "hello", 5, 0), 5);
  struct {
    iphdr ip;
    udphdr udp;
    char text[8];
  } got = {};
  do {
    ASSERT_EQ(recv(s.get(), &got, sizeof(got), 0), 33);
  } while (ntohs(got.udp.dest) != port);
  EXPECT_EQ(std::string(got.text, 5), "hello");
  char b[8];
  EXPECT_EQ(recv(p.b.get(), b, 8, 0), 5);
}

TEST(RawTest, AProbeIsNotSentAndFamiliesAreLookedAtFirst) {
  constexpr int kProbe = 0x10;  // MSG_PROBE
  Fd s(socket(AF_INET, SOCK_RAW, IPPROTO_UDP));
  ASSERT_GE(s.get(), 0);
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const auto* const any = reinterpret_cast<const sockaddr*>(&v4);
  ASSERT_OK(connect(s.get(), any, sizeof(v4)));
  char data[40] = {};
  EXPECT_EQ(send(s.get(), data, sizeof(data), kProbe), 40);
  EXPECT_FAILS(recv(s.get(), data, sizeof(data), MSG_DONTWAIT), EAGAIN);
  // IPv6's raw sockets take no other family, however short the address; none is as good as IPv6.
  Fd six(socket(AF_INET6, SOCK_RAW, IPPROTO_UDP));
  ASSERT_GE(six.get(), 0);
  EXPECT_FAILS(connect(six.get(), any, sizeof(v4)), EAFNOSUPPORT);
  EXPECT_FAILS(connect(six.get(), any, 4), EAFNOSUPPORT);
  sockaddr_in6 none = {};
  EXPECT_EQ(sendto(six.get(), data, sizeof(data), 0, reinterpret_cast<sockaddr*>(&none), sizeof(none)), 40);
}

TEST(RawTest, HeaderIncluded) {
  Fd s(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
  if (!s.ok() && errno == EPERM) GTEST_SKIP() << "needs CAP_NET_RAW";
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(GetInt(s.get(), IPPROTO_IP, IP_HDRINCL), 1);
  UdpPair p(AF_INET);
  struct {
    iphdr ip;
    udphdr udp;
    char text[4];
  } out = {};
  out.ip.version = 4;
  out.ip.ihl = 5;
  out.ip.ttl = 3;
  out.ip.protocol = IPPROTO_UDP;
  out.ip.daddr = htonl(INADDR_LOOPBACK);
  out.ip.saddr = htonl(INADDR_LOOPBACK);
  const Addr b = LocalOf(p.b.get());
  out.udp.dest = htons(b.port());
  out.udp.source = htons(777);
  out.udp.len = htons(12);
  memcpy(out.text, "made", 4);
  ASSERT_EQ(sendto(s.get(), &out, sizeof(out), 0, b.ptr(), b.size), 32);
  char got[8];
  Addr from;
  ASSERT_EQ(recvfrom(p.b.get(), got, 8, 0, from.ptr(), &from.size), 4);
  EXPECT_EQ(from.port(), 777);
}

TEST(PacketTest, SeesTheLoopback) {
  Fd s(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
  if (!s.ok() && errno == EPERM) GTEST_SKIP() << "needs CAP_NET_RAW";
  ASSERT_TRUE(s.ok());
  sockaddr_ll lo = {};
  lo.sll_family = AF_PACKET;
  lo.sll_protocol = htons(ETH_P_ALL);
  lo.sll_ifindex = kLo;
  ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&lo), sizeof(lo)));
  EXPECT_FAILS(bind(s.get(), reinterpret_cast<sockaddr*>(&lo), 12), EINVAL);
  UdpPair p(AF_INET);
  const uint16_t port = LocalOf(p.b.get()).port();
  ASSERT_EQ(send(p.a.get(), "seen", 4, 0), 4);
  struct __attribute__((packed)) {
    ethhdr eth;
    iphdr ip;
    udphdr udp;
    char text[64];
  } got = {};
  sockaddr_ll from = {};
  socklen_t size;
  do {
    size = sizeof(from);
    ASSERT_GT(recvfrom(s.get(), &got, sizeof(got), 0, reinterpret_cast<sockaddr*>(&from), &size),
              0);
  } while (got.eth.h_proto != htons(ETH_P_IP) || got.ip.protocol != IPPROTO_UDP ||
           ntohs(got.udp.dest) != port);
  EXPECT_EQ(std::string(got.text, 4), "seen");
  EXPECT_EQ(from.sll_family, AF_PACKET);
  EXPECT_EQ(from.sll_protocol, htons(ETH_P_IP));
  EXPECT_EQ(from.sll_ifindex, lo.sll_ifindex);
  EXPECT_EQ(from.sll_hatype, 772);
}

TEST_P(UdpTest, PortsAndReuse) {
  Fd a(socket(family(), SOCK_DGRAM, 0)), b(socket(family(), SOCK_DGRAM, 0));
  const Addr here = Addr::Loopback(family());
  ASSERT_OK(bind(a.get(), here.ptr(), here.size));
  const Addr at = LocalOf(a.get());
  EXPECT_FAILS(bind(b.get(), at.ptr(), at.size), EADDRINUSE);
  EXPECT_FAILS(bind(a.get(), at.ptr(), at.size), EINVAL);
  ASSERT_OK(SetInt(a.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  ASSERT_OK(SetInt(b.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  EXPECT_OK(bind(b.get(), at.ptr(), at.size));
}

}  // namespace
}  // namespace ringwall::test
