// AF_NETLINK: socket, bind, names, options and datagrams, whatever the protocol.
#include <poll.h>

#include "tests/util/netlink.h"

namespace ringwall::test {
namespace {

sockaddr_nl Name(uint32_t pid, uint32_t groups = 0) {
  sockaddr_nl a = {};
  a.nl_family = AF_NETLINK;
  a.nl_pid = pid;
  a.nl_groups = groups;
  return a;
}

int Bind(int fd, uint32_t pid, uint32_t groups = 0) {
  const sockaddr_nl a = Name(pid, groups);
  return bind(fd, reinterpret_cast<const sockaddr*>(&a), sizeof(a));
}

int Connect(int fd, uint32_t pid, uint32_t groups = 0) {
  const sockaddr_nl a = Name(pid, groups);
  return connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof(a));
}

sockaddr_nl LocalName(int fd) {
  sockaddr_nl a = {};
  socklen_t n = sizeof(a);
  EXPECT_OK(getsockname(fd, reinterpret_cast<sockaddr*>(&a), &n));
  EXPECT_EQ(n, sizeof(a));
  return a;
}

Fd Open(int protocol, int type = SOCK_RAW) {
  return Fd(socket(AF_NETLINK, type | SOCK_CLOEXEC, protocol));
}

int SetOption(int fd, int name, int value) {
  return setsockopt(fd, SOL_NETLINK, name, &value, sizeof(value));
}

TEST(NetlinkSocketTest, TypesAndProtocols) {
  for (int protocol : {NETLINK_ROUTE, NETLINK_USERSOCK, NETLINK_SOCK_DIAG, NETLINK_KOBJECT_UEVENT,
                       NETLINK_GENERIC}) {
    EXPECT_TRUE(Open(protocol).ok()) << protocol;
    EXPECT_TRUE(Open(protocol, SOCK_DGRAM).ok()) << protocol;
  }
  EXPECT_FAILS(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE), ESOCKTNOSUPPORT);
  EXPECT_FAILS(socket(AF_NETLINK, SOCK_SEQPACKET, NETLINK_ROUTE), ESOCKTNOSUPPORT);
  EXPECT_FAILS(socket(AF_NETLINK, SOCK_RAW, 32), EPROTONOSUPPORT);
  EXPECT_FAILS(socket(AF_NETLINK, SOCK_RAW, -1), EPROTONOSUPPORT);
  EXPECT_FAILS(socket(AF_NETLINK, SOCK_RAW, 1), EPROTONOSUPPORT);
  int pair[2];
  EXPECT_FAILS(socketpair(AF_NETLINK, SOCK_RAW, 0, pair), EOPNOTSUPP);
}

TEST(NetlinkSocketTest, AutobindGivesThePid) {
  Fd a = Open(NETLINK_USERSOCK), b = Open(NETLINK_USERSOCK);
  EXPECT_EQ(LocalName(a.get()).nl_pid, 0u);
  ASSERT_OK(Bind(a.get(), 0));
  EXPECT_EQ(LocalName(a.get()).nl_pid, static_cast<uint32_t>(getpid()));
  ASSERT_OK(Bind(b.get(), 0));
  const int32_t second = static_cast<int32_t>(LocalName(b.get()).nl_pid);
  EXPECT_LT(second, 0);
}

TEST(NetlinkSocketTest, BindRefusals) {
  Fd a = Open(NETLINK_USERSOCK), b = Open(NETLINK_USERSOCK), c = Open(NETLINK_ROUTE);
  ASSERT_OK(Bind(a.get(), 77777));
  EXPECT_EQ(LocalName(a.get()).nl_pid, 77777u);
  EXPECT_FAILS(Bind(b.get(), 77777), EADDRINUSE);
  EXPECT_OK(Bind(c.get(), 77777));  // another protocol
  EXPECT_FAILS(Bind(a.get(), 88888), EINVAL);
  EXPECT_FAILS(Bind(a.get(), 0), EINVAL);
  EXPECT_OK(Bind(a.get(), 77777));
  sockaddr_nl n = Name(0);
  EXPECT_FAILS(bind(b.get(), reinterpret_cast<sockaddr*>(&n), sizeof(n) - 1), EINVAL);
  n.nl_family = AF_INET;
  EXPECT_FAILS(bind(b.get(), reinterpret_cast<sockaddr*>(&n), sizeof(n)), EINVAL);
  EXPECT_FAILS(bind(b.get(), static_cast<sockaddr*>(BadAddress()), sizeof(n)), EFAULT);
}

TEST(NetlinkSocketTest, ConnectAndPeerName) {
  Fd a = Open(NETLINK_USERSOCK);
  sockaddr_nl n = Name(5);
  EXPECT_FAILS(connect(a.get(), reinterpret_cast<sockaddr*>(&n), 1), EINVAL);
  EXPECT_FAILS(connect(a.get(), reinterpret_cast<sockaddr*>(&n), sizeof(n) - 1), EINVAL);
  n.nl_family = AF_INET;
  EXPECT_FAILS(connect(a.get(), reinterpret_cast<sockaddr*>(&n), sizeof(n)), EINVAL);
  ASSERT_OK(Connect(a.get(), 5, 4));
  socklen_t size = sizeof(n);
  ASSERT_OK(getpeername(a.get(), reinterpret_cast<sockaddr*>(&n), &size));
  EXPECT_EQ(n.nl_pid, 5u);
  EXPECT_EQ(n.nl_groups, 4u);
  EXPECT_NE(LocalName(a.get()).nl_pid, 0u);  // connect binds
  n.nl_family = AF_UNSPEC;
  ASSERT_OK(connect(a.get(), reinterpret_cast<sockaddr*>(&n), sizeof(n)));
  ASSERT_OK(getpeername(a.get(), reinterpret_cast<sockaddr*>(&n), &size));
  EXPECT_EQ(n.nl_pid, 0u);
  EXPECT_FAILS(send(a.get(), "x", 1, 0), ECONNREFUSED);  // nobody is the kernel here
}

TEST(NetlinkSocketTest, CallsOfOtherKindsAreRefused) {
  Fd a = Open(NETLINK_ROUTE);
  EXPECT_FAILS(listen(a.get(), 1), EOPNOTSUPP);
  EXPECT_FAILS(accept(a.get(), nullptr, nullptr), EOPNOTSUPP);
  EXPECT_FAILS(shutdown(a.get(), SHUT_RDWR), EOPNOTSUPP);
  EXPECT_FAILS(send(a.get(), "x", 1, MSG_OOB), EOPNOTSUPP);
  char b;
  EXPECT_FAILS(recv(a.get(), &b, 1, MSG_OOB), EOPNOTSUPP);
  EXPECT_FAILS(recv(a.get(), &b, 1, MSG_DONTWAIT), EAGAIN);
  EXPECT_FAILS(ioctl(a.get(), 0x1234, &b), ENOTTY);
}

TEST(NetlinkSocketTest, SendRefusals) {
  Fd a = Open(NETLINK_USERSOCK);
  sockaddr_nl n = Name(0);
  EXPECT_FAILS(send(a.get(), "", 0, 0), ENODATA);
  EXPECT_FAILS(sendto(a.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&n), sizeof(n) - 1), EINVAL);
  n.nl_family = AF_INET;
  EXPECT_FAILS(sendto(a.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&n), sizeof(n)), EINVAL);
  n = Name(999999);
  EXPECT_FAILS(sendto(a.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&n), sizeof(n)),
               ECONNREFUSED);
  const int small = 1;
  ASSERT_OK(setsockopt(a.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)));
  std::vector<char> large(8192);
  EXPECT_FAILS(send(a.get(), large.data(), large.size(), 0), EMSGSIZE);
  EXPECT_FAILS(send(a.get(), BadAddress(), 16, 0), EFAULT);
}

TEST(NetlinkSocketTest, ProgramsTalkToEachOther) {
  Fd a = Open(NETLINK_USERSOCK), b = Open(NETLINK_USERSOCK);
  ASSERT_OK(Bind(a.get(), 1001));
  ASSERT_OK(Bind(b.get(), 1002));
  sockaddr_nl to = Name(1002), from = {};
  ASSERT_EQ(sendto(a.get(), "hello", 5, 0, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 5);
  pollfd p = {b.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 1000), 1);
  EXPECT_EQ(p.revents, POLLIN | POLLOUT);
  char buf[16] = {};
  EXPECT_EQ(recv(b.get(), buf, 2, MSG_PEEK | MSG_TRUNC), 5);
  EXPECT_EQ(recv(b.get(), buf, 2, MSG_PEEK), 2);
  socklen_t size = sizeof(from);
  EXPECT_EQ(recvfrom(b.get(), buf, 3, MSG_TRUNC, reinterpret_cast<sockaddr*>(&from), &size), 5);
  EXPECT_EQ(std::string(buf, 3), "hel");
  EXPECT_EQ(from.nl_pid, 1001u);
  EXPECT_EQ(from.nl_groups, 0u);
  EXPECT_EQ(size, sizeof(from));
  EXPECT_FAILS(recv(b.get(), buf, 1, MSG_DONTWAIT), EAGAIN);  // the rest is gone
}

TEST(NetlinkSocketTest, TruncationIsTold) {
  Fd a = Open(NETLINK_USERSOCK);
  ASSERT_OK(Bind(a.get(), 2001));
  ASSERT_OK(Connect(a.get(), 2001));
  ASSERT_EQ(send(a.get(), "0123456789", 10, 0), 10);
  char buf[4];
  iovec v = {buf, sizeof(buf)};
  msghdr m = {};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  EXPECT_EQ(recvmsg(a.get(), &m, 0), 4);
  EXPECT_EQ(m.msg_flags, MSG_TRUNC);
}

TEST(NetlinkSocketTest, GroupsHear) {
  Fd a = Open(NETLINK_USERSOCK), b = Open(NETLINK_USERSOCK);
  ASSERT_OK(Bind(a.get(), 3001));
  ASSERT_OK(Bind(b.get(), 3002, 1 << 4));
  EXPECT_EQ(LocalName(b.get()).nl_groups, 1u << 4);
  ASSERT_OK(SetOption(b.get(), NETLINK_PKTINFO, 1));
  sockaddr_nl to = Name(0, 1 << 4), from = {};
  const ssize_t sent =
      sendto(a.get(), "all", 3, 0, reinterpret_cast<sockaddr*>(&to), sizeof(to));
  // The kernel's own end is asked, too, and USERSOCK has none.
  EXPECT_TRUE(sent == 3 || errno == ECONNREFUSED);
  char buf[16], control[128];
  iovec v = {buf, sizeof(buf)};
  msghdr m = {};
  m.msg_name = &from;
  m.msg_namelen = sizeof(from);
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  ASSERT_EQ(recvmsg(b.get(), &m, MSG_DONTWAIT), 3);
  EXPECT_EQ(from.nl_groups, 1u << 4);
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_level, SOL_NETLINK);
  EXPECT_EQ(c->cmsg_type, NETLINK_PKTINFO);
  uint32_t group;
  memcpy(&group, CMSG_DATA(c), sizeof(group));
  EXPECT_EQ(group, 5u);
}

TEST(NetlinkSocketTest, CredentialsOfTheSender) {
  Fd a = Open(NETLINK_USERSOCK);
  ASSERT_OK(Bind(a.get(), 4001));
  ASSERT_OK(Connect(a.get(), 4001));
  const int on = 1;
  ASSERT_OK(setsockopt(a.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
  ASSERT_EQ(send(a.get(), "x", 1, 0), 1);
  char buf[4], control[64];
  iovec v = {buf, sizeof(buf)};
  msghdr m = {};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  ASSERT_EQ(recvmsg(a.get(), &m, 0), 1);
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_type, SCM_CREDENTIALS);
  ucred cred;
  memcpy(&cred, CMSG_DATA(c), sizeof(cred));
  EXPECT_EQ(cred.pid, getpid());
  EXPECT_EQ(cred.uid, getuid());
}

TEST(NetlinkSocketTest, FlagOptions) {
  Fd a = Open(NETLINK_ROUTE);
  for (int name : {NETLINK_PKTINFO, NETLINK_BROADCAST_ERROR, NETLINK_NO_ENOBUFS, NETLINK_CAP_ACK,
                   NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK}) {
    for (int value : {0, 1, 5}) {
      ASSERT_OK(SetOption(a.get(), name, value));
      int got = -1;
      socklen_t size = sizeof(got);
      ASSERT_OK(getsockopt(a.get(), SOL_NETLINK, name, &got, &size)) << name;
      EXPECT_EQ(got, value != 0) << name;
      EXPECT_EQ(size, sizeof(got));
    }
  }
  int got;
  socklen_t small = 2;
  EXPECT_FAILS(getsockopt(a.get(), SOL_NETLINK, NETLINK_CAP_ACK, &got, &small), EINVAL);
  socklen_t size = sizeof(got);
  EXPECT_FAILS(getsockopt(a.get(), SOL_NETLINK, 99, &got, &size), ENOPROTOOPT);
  EXPECT_FAILS(SetOption(a.get(), 99, 1), ENOPROTOOPT);
  EXPECT_FAILS(getsockopt(a.get(), SOL_IP, 1, &got, &size), ENOPROTOOPT);
  EXPECT_FAILS(setsockopt(a.get(), SOL_IP, 1, &got, sizeof(got)), ENOPROTOOPT);
  EXPECT_FAILS(setsockopt(a.get(), SOL_NETLINK, NETLINK_CAP_ACK, BadAddress(), 4), EFAULT);
}

TEST(NetlinkSocketTest, SocketLevelOptions) {
  Fd a = Open(NETLINK_ROUTE, SOCK_DGRAM);
  const auto get = [&](int name) {
    int v = -1;
    socklen_t n = sizeof(v);
    EXPECT_OK(getsockopt(a.get(), SOL_SOCKET, name, &v, &n));
    return v;
  };
  EXPECT_EQ(get(SO_DOMAIN), AF_NETLINK);
  EXPECT_EQ(get(SO_TYPE), SOCK_DGRAM);
  EXPECT_EQ(get(SO_PROTOCOL), NETLINK_ROUTE);
  EXPECT_EQ(get(SO_ERROR), 0);
  EXPECT_EQ(get(SO_ACCEPTCONN), 0);
}

TEST(NetlinkSocketTest, Memberships) {
  Fd a = Open(NETLINK_ROUTE);
  ASSERT_OK(SetOption(a.get(), NETLINK_ADD_MEMBERSHIP, RTNLGRP_LINK));
  ASSERT_OK(SetOption(a.get(), NETLINK_ADD_MEMBERSHIP, RTNLGRP_NSID));
  EXPECT_FAILS(SetOption(a.get(), NETLINK_ADD_MEMBERSHIP, 0), EINVAL);
  EXPECT_FAILS(SetOption(a.get(), NETLINK_ADD_MEMBERSHIP, 5000), EINVAL);
  uint32_t words[8] = {};
  socklen_t size = sizeof(words);
  ASSERT_OK(getsockopt(a.get(), SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &size));
  EXPECT_GE(size, 8u);
  EXPECT_EQ(words[0], 1u << (RTNLGRP_LINK - 1) | 1u << (RTNLGRP_NSID - 1));
  ASSERT_OK(SetOption(a.get(), NETLINK_DROP_MEMBERSHIP, RTNLGRP_NSID));
  size = sizeof(words);
  ASSERT_OK(getsockopt(a.get(), SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &size));
  EXPECT_EQ(words[0], 1u << (RTNLGRP_LINK - 1));
  ASSERT_OK(Bind(a.get(), 0, RTMGRP_NEIGH));
  EXPECT_EQ(LocalName(a.get()).nl_groups, RTMGRP_NEIGH);
}

TEST(NetlinkSocketTest, OverrunIsToldOnce) {
  Fd a = Open(NETLINK_USERSOCK), b = Open(NETLINK_USERSOCK);
  const int small = 4096;
  ASSERT_OK(setsockopt(b.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)));
  ASSERT_OK(Bind(b.get(), 0, 1));
  sockaddr_nl to = Name(0, 1);
  char block[1024] = {};
  for (int i = 0; i < 64; i++) {
    (void)!sendto(a.get(), block, sizeof(block), 0, reinterpret_cast<sockaddr*>(&to), sizeof(to));
  }
  pollfd p = {b.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_NE(p.revents & POLLERR, 0);
  EXPECT_FAILS(recv(b.get(), block, sizeof(block), MSG_DONTWAIT), ENOBUFS);
  EXPECT_EQ(recv(b.get(), block, sizeof(block), MSG_DONTWAIT), 1024);
}

TEST(NetlinkSocketTest, OrdinaryUsersMayListenToRoutesOnly) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    Fd a = Open(NETLINK_ROUTE);
    CHECK_CHILD(Bind(a.get(), 0, RTMGRP_LINK) == 0);
    CHECK_CHILD(Connect(a.get(), 1) == -1 && errno == EPERM);
    sockaddr_nl to = Name(1);
    CHECK_CHILD(sendto(a.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == -1);
    CHECK_CHILD(errno == EPERM);
    Fd b = Open(NETLINK_USERSOCK);
    CHECK_CHILD(Bind(b.get(), 0, 1) == -1 && errno == EPERM);
    CHECK_CHILD(SetOption(b.get(), NETLINK_ADD_MEMBERSHIP, 1) == -1 && errno == EPERM);
    CHECK_CHILD(SetOption(b.get(), NETLINK_LISTEN_ALL_NSID, 1) == -1 && errno == EPERM);
    return 0;
  })));
}

}  // namespace
}  // namespace ringwall::test
