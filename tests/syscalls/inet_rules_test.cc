// The order in which sockets look at what they are asked, and what is left of one after an end:
// errors that programs tell apart, compared with Linux by trying every call in every state.
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/un.h>

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sockios.h>

#include "tests/util/inet_util.h"
#include "tests/util/netlink.h"

namespace ringwall::test {
namespace {

class RulesTest : public ::testing::TestWithParam<int> {
 protected:
  int family() const { return GetParam(); }
  bool v6() const { return family() == AF_INET6; }
  // An address that is nobody's here.
  Addr Elsewhere() const {
    in6_addr a = {};
    inet_pton(AF_INET6, "2001:db8::1", &a);
    return v6() ? Addr::V6(a, 9) : Addr::V4(0x08080808, 9);
  }
};
INSTANTIATE_TEST_SUITE_P(Families, RulesTest, ::testing::Values(AF_INET, AF_INET6));

void Reset(Fd& fd) {
  const linger l = {1, 0};
  ASSERT_OK(setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
  fd.Reset();
}

TEST_P(RulesTest, BindOfABoundOne) {
  const Addr other = Elsewhere(), here = Addr::Loopback(family());
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    Fd s(socket(family(), type, 0));
    ASSERT_OK(bind(s.get(), here.ptr(), here.size));
    EXPECT_FAILS(bind(s.get(), other.ptr(), other.size), v6() ? EINVAL : EADDRNOTAVAIL);
    EXPECT_FAILS(bind(s.get(), here.ptr(), here.size), EINVAL);
  }
}

TEST_P(RulesTest, ConnectDoesNotLookAtTheAddressOfAConnectedOne) {
  TcpPair p(family());
  Fd listener = Listener(family());
  const sockaddr_un unix_name = {AF_UNIX, "x"};
  for (const int fd : {p.client.get(), listener.get()}) {
    EXPECT_FAILS(connect(fd, reinterpret_cast<const sockaddr*>(&unix_name), sizeof(unix_name)),
                 EISCONN);
    EXPECT_FAILS(connect(fd, reinterpret_cast<const sockaddr*>(&unix_name), 2), EISCONN);
    EXPECT_FAILS(connect(fd, reinterpret_cast<const sockaddr*>(&unix_name), 1), EINVAL);
  }
}

TEST_P(RulesTest, ADissolvedConnectionHasNoAddress) {
  TcpPair p(family());
  const sockaddr none = {};
  ASSERT_OK(connect(p.client.get(), &none, sizeof(none)));
  const Addr left = LocalOf(p.client.get()), any = Addr::Any(family(), left.port());
  EXPECT_EQ(memcmp(&left.storage, &any.storage, left.size), 0);
}

TEST_P(RulesTest, AResetConnectionMayBeBoundAgain) {
  TcpPair p(family());
  Reset(p.server);
  EXPECT_NE(PollFor(p.client.get(), POLLIN) & POLLHUP, 0);
  EXPECT_FAILS(recv(p.client.get(), nullptr, 0, 0), ECONNRESET);
  const Addr any = Addr::Any(family());
  EXPECT_OK(bind(p.client.get(), any.ptr(), any.size));
  EXPECT_FAILS(connect(p.client.get(), any.ptr(), any.size), EISCONN);
}

TEST_P(RulesTest, ReadsAfterARefusalEnd) {
  Fd closed = Listener(family());
  const Addr to = LocalOf(closed.get());
  closed.Reset();
  Fd s(socket(family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_FAILS(connect(s.get(), to.ptr(), to.size), EINPROGRESS);
  EXPECT_NE(PollFor(s.get(), POLLOUT) & POLLERR, 0);
  char byte;
  EXPECT_FAILS(recv(s.get(), &byte, 1, 0), ECONNREFUSED);
  EXPECT_EQ(recv(s.get(), &byte, 1, 0), 0);
  EXPECT_FAILS(send(s.get(), &byte, 1, MSG_NOSIGNAL), EPIPE);
}

TEST_P(RulesTest, NoReadRunsAcrossTheMark) {
  TcpPair p(family());
  ASSERT_EQ(send(p.server.get(), "abc", 3, 0), 3);
  ASSERT_EQ(send(p.server.get(), "def", 3, MSG_OOB), 3);
  ASSERT_EQ(send(p.server.get(), "gh", 2, 0), 2);
  EXPECT_NE(PollFor(p.client.get(), POLLPRI) & POLLPRI, 0);
  char buffer[8] = {};
  EXPECT_EQ(recv(p.client.get(), buffer, sizeof(buffer), MSG_WAITALL), 5);
  EXPECT_STREQ(buffer, "abcde");
}

TEST_P(RulesTest, BytesWithoutAPlaceStay) {
  TcpPair p(family());
  std::string sent(150000, 'x');
  for (size_t i = 0; i < sent.size(); i++) sent[i] = static_cast<char>(i * 7 + i / 1000);
  ASSERT_EQ(send(p.server.get(), sent.data(), sent.size(), 0), ssize_t(sent.size()));
  shutdown(p.server.get(), SHUT_WR);
  // Two pages, and nothing behind them.
  char* map = static_cast<char*>(mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(map + 8192, (1 << 20) - 8192);
  EXPECT_FAILS(recv(p.client.get(), map + 8192, 300, 0), EFAULT);
  EXPECT_FAILS(read(p.client.get(), map + 16384, 300), EFAULT);
  const ssize_t part = recv(p.client.get(), map, 100000, 0);
  std::string got;
  if (part > 0) got.assign(map, static_cast<size_t>(part));
  std::string rest(200000, 0);
  for (;;) {
    const ssize_t n = recv(p.client.get(), rest.data(), rest.size(), MSG_WAITALL);
    if (n <= 0) break;
    got.append(rest, 0, static_cast<size_t>(n));
  }
  EXPECT_TRUE(got == sent) << part << ' ' << got.size();
  munmap(map, 8192);
}

TEST(RulesPipeTest, BytesWithoutAPlaceStay) {
  int ends[2];
  ASSERT_OK(pipe(ends));
  ASSERT_EQ(write(ends[1], "kept", 4), 4);
  char* map = static_cast<char*>(mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  EXPECT_FAILS(read(ends[0], map, 4), EFAULT);
  munmap(map, 8192);
  EXPECT_FAILS(read(ends[0], map, 4), EFAULT);
  char got[5] = {};
  EXPECT_EQ(read(ends[0], got, 4), 4);
  EXPECT_STREQ(got, "kept");
  close(ends[0]);
  close(ends[1]);
}

TEST_P(RulesTest, DatagramsLookAtTheWayBeforeTheSocket) {
  UdpPair p(family());
  Fd fresh(socket(family(), SOCK_DGRAM, 0));
  EXPECT_FAILS(send(fresh.get(), "x", 1, MSG_MORE), EDESTADDRREQ);
  Addr zero = Addr::Loopback(family(), 0);
  p.b.Reset();
  ASSERT_OK(shutdown(p.a.get(), SHUT_WR));
  EXPECT_FAILS(sendto(p.a.get(), "x", 1, MSG_NOSIGNAL, zero.ptr(), zero.size), EINVAL);
  EXPECT_EQ(send(p.a.get(), "xy", 2, 0x10 /* MSG_PROBE */), 2);
  EXPECT_FAILS(send(p.a.get(), "x", 1, MSG_MORE | MSG_NOSIGNAL), EPIPE);
  EXPECT_FAILS(send(p.a.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST_P(RulesTest, ConnectTakesAPortBeforeItFails) {
  Fd s(socket(family(), SOCK_DGRAM, 0));
  const sockaddr_un other = {AF_UNIX, "x"};
  EXPECT_NE(connect(s.get(), reinterpret_cast<const sockaddr*>(&other), sizeof(other)), 0);
  EXPECT_NE(LocalOf(s.get()).port(), 0);
  // A port that nobody chose goes with the connection.
  Fd bound(socket(family(), SOCK_DGRAM, 0));
  const Addr here = Addr::Loopback(family());
  ASSERT_OK(bind(bound.get(), here.ptr(), here.size));
  const sockaddr none = {};
  ASSERT_OK(connect(bound.get(), &none, sizeof(none)));
  EXPECT_EQ(LocalOf(bound.get()).port(), 0);
}

TEST(RulesV6Test, ASocketOfOneAddressIsForIpv6Only) {
  Fd s(socket(AF_INET6, SOCK_DGRAM, 0));
  EXPECT_EQ(GetInt(s.get(), IPPROTO_IPV6, IPV6_V6ONLY), 0);
  const Addr here = Addr::Loopback(AF_INET6), v4 = Addr::Loopback(AF_INET, 9);
  ASSERT_OK(bind(s.get(), here.ptr(), here.size));
  EXPECT_EQ(GetInt(s.get(), IPPROTO_IPV6, IPV6_V6ONLY), 1);
  EXPECT_FAILS(connect(s.get(), v4.ptr(), v4.size), EAFNOSUPPORT);
  EXPECT_FAILS(sendto(s.get(), "x", 1, 0, v4.ptr(), v4.size), ENETUNREACH);
}

TEST(RulesV4Test, AGroupIsReachedByTheInterfaceOfTheSource) {
  if (!EnterOwnNet()) GTEST_SKIP() << "no right to make a network namespace";
  Fd s(socket(AF_INET, SOCK_DGRAM, 0));
  const Addr here = Addr::Loopback(AF_INET), group = Addr::V4(0xe0000001, 9),
             all = Addr::V4(INADDR_BROADCAST, 9);
  ASSERT_OK(bind(s.get(), here.ptr(), here.size));
  EXPECT_EQ(sendto(s.get(), "x", 1, 0, group.ptr(), group.size), 1);
  EXPECT_FAILS(sendto(s.get(), "x", 1, 0, all.ptr(), all.size), EACCES);
}

TEST(RulesOptionTest, LengthsAndValues) {
  Fd tcp(socket(AF_INET6, SOCK_STREAM, 0)), udp(socket(AF_INET, SOCK_DGRAM, 0));
  // A negative room is none, but for IPv6's options, where it is plenty.
  int v = 7;
  socklen_t room = static_cast<socklen_t>(-1);
  EXPECT_FAILS(getsockopt(udp.get(), IPPROTO_IP, 46 /* none such */, &v, &room), EINVAL);
  EXPECT_OK(getsockopt(tcp.get(), IPPROTO_IPV6, IPV6_V6ONLY, &v, &room));
  EXPECT_EQ(v, 0);
  EXPECT_EQ(room, sizeof(v));
  // What a choice of source addresses does not say is the default again (RFC 5014).
  constexpr int kPreferences = 72, kTemporary = 1, kCareOf = 4;
  ASSERT_OK(SetInt(tcp.get(), IPPROTO_IPV6, kPreferences, kTemporary));
  EXPECT_EQ(GetInt(tcp.get(), IPPROTO_IPV6, kPreferences), 0x401);
  ASSERT_OK(SetInt(tcp.get(), IPPROTO_IPV6, kPreferences, kCareOf));
  EXPECT_EQ(GetInt(tcp.get(), IPPROTO_IPV6, kPreferences), 0x104);
  // Groups nobody joined are an IPv4 socket's only.
  EXPECT_EQ(GetInt(udp.get(), IPPROTO_IP, IP_MULTICAST_ALL), 1);
  EXPECT_EQ(GetInt(tcp.get(), IPPROTO_IP, IP_MULTICAST_ALL), 0);
  // SO_MEMINFO has the buffers that count.
  uint32_t memory[9] = {};
  socklen_t size = sizeof(memory);
  ASSERT_OK(getsockopt(tcp.get(), SOL_SOCKET, 55 /* SO_MEMINFO */, memory, &size));
  EXPECT_EQ(int(memory[1]), GetInt(tcp.get(), SOL_SOCKET, SO_RCVBUF));
  EXPECT_EQ(int(memory[3]), GetInt(tcp.get(), SOL_SOCKET, SO_SNDBUF));
  tcp_info info = {};
  size = sizeof(info);
  ASSERT_OK(getsockopt(tcp.get(), IPPROTO_TCP, TCP_INFO, &info, &size));
  EXPECT_EQ(info.tcpi_rto, 1000000u);
  EXPECT_EQ(info.tcpi_snd_mss, 536u);
  EXPECT_EQ(info.tcpi_snd_cwnd, 10u);
}

TEST(RulesOptionTest, OriginalDestinationNeedsATranslation) {
  TcpPair p;
  sockaddr_in to;
  socklen_t size = sizeof(to) - 1;
  // EINVAL before the connection is looked for; without tracking Linux may not have the option.
  const int error = getsockopt(p.server.get(), IPPROTO_IP, 80, &to, &size) == 0 ? 0 : errno;
  EXPECT_TRUE(error == EINVAL || error == ENOPROTOOPT) << error;
}

TEST(RulesNetlinkTest, Details) {
  Fd s(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  EXPECT_FAILS(SetInt(s.get(), SOL_SOCKET, SO_PEEK_OFF, 1), EOPNOTSUPP);
  uint32_t words[4];
  socklen_t size = sizeof(words);
  ASSERT_OK(getsockopt(s.get(), SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &size));
  EXPECT_EQ(size, 0u);
  ASSERT_OK(SetInt(s.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 1));
  size = sizeof(words);
  ASSERT_OK(getsockopt(s.get(), SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &size));
  EXPECT_GE(size, 4u);
  EXPECT_EQ(words[0], 1u);
}

TEST(RulesUnixTest, EmptyReadsAndWrites) {
  int s[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
  EXPECT_FAILS(recv(s[0], nullptr, 0, 0), EAGAIN);
  ASSERT_EQ(write(s[1], "x", 1), 1);
  EXPECT_EQ(recv(s[0], nullptr, 0, 0), 0);
  char byte = 0;
  EXPECT_EQ(recv(s[0], &byte, 1, 0), 1);
  close(s[1]);
  EXPECT_EQ(recv(s[0], nullptr, 0, 0), 0);
  EXPECT_FAILS(send(s[0], nullptr, 0, MSG_NOSIGNAL), EPIPE);
  close(s[0]);
}

TEST(RulesUnixTest, WhatAGonePeerSentGoesWithIt) {
  int s[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s));
  ASSERT_EQ(write(s[1], "x", 1), 1);
  close(s[1]);
  EXPECT_FAILS(send(s[0], "y", 1, MSG_NOSIGNAL), ECONNREFUSED);
  char byte;
  EXPECT_FAILS(recv(s[0], &byte, 1, 0), EAGAIN);
  int mark;
  EXPECT_FAILS(ioctl(s[0], SIOCATMARK, &mark), EOPNOTSUPP);
  close(s[0]);
}

TEST(RulesUnixTest, ASeqpacketAsksForAConnectionFirst) {
  Fd s(socket(AF_UNIX, SOCK_SEQPACKET, 0));
  char byte;
  EXPECT_FAILS(recv(s.get(), &byte, 1, MSG_OOB), ENOTCONN);
  EXPECT_FAILS(send(s.get(), "x", 1, MSG_OOB), ENOTCONN);
}

std::string ReadText(const char* path) {
  std::string text(256, 0);
  Fd f(open(path, O_RDONLY));
  const ssize_t n = read(f.get(), text.data(), text.size());
  text.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return text;
}
bool WriteText(const char* path, std::string_view text) {
  Fd f(open(path, O_WRONLY));
  return write(f.get(), text.data(), text.size()) == ssize_t(text.size());
}

TEST(RulesSysctlTest, PingersAndPortsOfTheUnprivileged) {
  if (geteuid() != 0 || !EnterOwnNet()) GTEST_SKIP() << "no right to make a network namespace";
  const char* range = "/proc/sys/net/ipv4/ping_group_range";
  const char* first = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
  const std::string before = ReadText(range);
  ASSERT_TRUE(WriteText(range, "1 0"));
  EXPECT_EQ(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), -1);
  EXPECT_EQ(errno, EACCES);
  ASSERT_TRUE(WriteText(range, "0 0"));
  EXPECT_OK(Fd(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)).get());
  EXPECT_FALSE(WriteText(range, "-1 0"));
  EXPECT_TRUE(WriteText(range, before));
  EXPECT_EQ(ReadText(first), "1024\n");
  EXPECT_FALSE(WriteText(first, "65536"));
  EXPECT_FALSE(WriteText(first, "40000"));  // connections choose from there on
  ASSERT_TRUE(WriteText(first, "80"));
  const pid_t child = fork();
  if (child == 0) {
    CHECK_CHILD(setgid(1234) == 0 && setuid(1234) == 0);
    Fd a(socket(AF_INET, SOCK_STREAM, 0));
    Addr at = Addr::Loopback(AF_INET, 79);
    CHECK_CHILD(bind(a.get(), at.ptr(), at.size) == -1 && errno == EACCES);
    at.set_port(80);
    CHECK_CHILD(bind(a.get(), at.ptr(), at.size) == 0);
    _exit(0);
  }
  int status = -1;
  ASSERT_OK(waitpid(child, &status, 0));
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(WriteText(first, "1024"));
}

TEST(RulesEpollTest, ManyEventsComeAtOnce) {
  constexpr int kMany = 6000;
  rlimit files;
  ASSERT_OK(getrlimit(RLIMIT_NOFILE, &files));
  if (files.rlim_max < kMany + 100) GTEST_SKIP() << "few descriptors allowed";
  const rlimit more = {files.rlim_max, files.rlim_max};
  ASSERT_OK(setrlimit(RLIMIT_NOFILE, &more));
  Fd epoll(epoll_create1(0));
  int ends[2];
  ASSERT_OK(pipe(ends));
  std::vector<Fd> copies;
  for (int i = 0; i < kMany; i++) {
    copies.emplace_back(dup(ends[1]));
    epoll_event e = {.events = EPOLLOUT, .data = {}};
    ASSERT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, copies.back().get(), &e));
  }
  std::vector<epoll_event> events(2 * kMany);
  EXPECT_EQ(epoll_wait(epoll.get(), events.data(), 2 * kMany, 0), kMany);
  close(ends[0]);
  close(ends[1]);
  ASSERT_OK(setrlimit(RLIMIT_NOFILE, &files));
}

}  // namespace
}  // namespace ringwall::test
