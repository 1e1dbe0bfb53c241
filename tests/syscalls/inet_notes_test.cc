// What sockets tell beside the bytes: completions and stamps in the error queue, marks, drops, merged
// datagrams, peek offsets.
#include <time.h>

#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

struct Note {
  sock_extended_err error = {};
  bool stamped = false;
  std::string data;
};

// The next entry of the error queue; an error with ee_errno 9999 when there is none.
Note NextNote(int fd) {
  Note note;
  char data[256];
  alignas(cmsghdr) char control[512];
  iovec iov = {data, sizeof(data)};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  const ssize_t n = recvmsg(fd, &m, MSG_ERRQUEUE);
  if (n < 0) {
    note.error.ee_errno = 9999;
    return note;
  }
  note.data.assign(data, static_cast<size_t>(n));
  for (cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING) note.stamped = true;
    if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
        (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
      memcpy(&note.error, CMSG_DATA(c), sizeof(note.error));
    }
  }
  return note;
}

class NotesTest : public ::testing::TestWithParam<int> {
 protected:
  int family() const { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Families, NotesTest, ::testing::Values(AF_INET, AF_INET6));

TEST_P(NotesTest, ZeroCopyTellsOfItsEnd) {
  TcpPair p(family());
  ASSERT_OK(SetInt(p.client.get(), SOL_SOCKET, SO_ZEROCOPY, 1));
  char bytes[3];
  for (int i = 0; i < 3; i++) {
    ASSERT_EQ(send(p.client.get(), "z", 1, MSG_ZEROCOPY), 1);
    ASSERT_EQ(recv(p.server.get(), bytes, 1, 0), 1);
    if (i != 1) {
      ASSERT_TRUE(PollFor(p.client.get(), 0) & POLLERR);
    }
    if (i != 0) continue;
    const Note first = NextNote(p.client.get());
    EXPECT_EQ(first.error.ee_errno, 0u);
    EXPECT_EQ(first.error.ee_origin, SO_EE_ORIGIN_ZEROCOPY);
    EXPECT_EQ(first.error.ee_code, SO_EE_CODE_ZEROCOPY_COPIED);
    EXPECT_EQ(first.error.ee_info, 0u);
    EXPECT_EQ(first.error.ee_data, 0u);
  }
  uint32_t next = 1;
  while (next < 3) {
    ASSERT_TRUE(PollFor(p.client.get(), 0) & POLLERR);
    const Note n = NextNote(p.client.get());
    ASSERT_EQ(n.error.ee_info, next);
    next = n.error.ee_data + 1;
  }
  EXPECT_EQ(GetInt(p.client.get(), SOL_SOCKET, SO_ERROR), 0);
  // Without the option the flag means nothing.
  ASSERT_OK(SetInt(p.client.get(), SOL_SOCKET, SO_ZEROCOPY, 0));
  ASSERT_EQ(send(p.client.get(), "z", 1, MSG_ZEROCOPY), 1);
  EXPECT_EQ(NextNote(p.client.get()).error.ee_errno, 9999u);
}

TEST_P(NotesTest, SentDatagramsAreStamped) {
  UdpPair p(family());
  ASSERT_OK(SetInt(p.a.get(), SOL_SOCKET, SO_TIMESTAMPING,
                   SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_SOFTWARE |
                       SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY));
  for (uint32_t i = 0; i < 2; i++) {
    ASSERT_EQ(send(p.a.get(), "stamp", 5, 0), 5);
    ASSERT_TRUE(PollFor(p.a.get(), 0) & POLLERR);
    const Note n = NextNote(p.a.get());
    EXPECT_EQ(n.error.ee_errno, static_cast<uint32_t>(ENOMSG));
    EXPECT_EQ(n.error.ee_origin, SO_EE_ORIGIN_TIMESTAMPING);
    EXPECT_EQ(n.error.ee_info, static_cast<uint32_t>(SCM_TSTAMP_SCHED));
    EXPECT_EQ(n.error.ee_data, i);
    EXPECT_TRUE(n.stamped);
    EXPECT_EQ(n.data, "");
  }
}

TEST_P(NotesTest, AStreamCountsItsBytes) {
  TcpPair p(family());
  ASSERT_OK(SetInt(p.client.get(), SOL_SOCKET, SO_TIMESTAMPING,
                   SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
                       SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY));
  ASSERT_EQ(send(p.client.get(), "hello", 5, 0), 5);
  ASSERT_TRUE(PollFor(p.client.get(), 0) & POLLERR);
  EXPECT_EQ(NextNote(p.client.get()).error.ee_data, 4u);
}

// The first control message of a received byte: its type, or -1.
int TypeOf(int fd, void* value, size_t size) {
  char byte;
  alignas(cmsghdr) char control[256];
  iovec iov = {&byte, 1};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  if (recvmsg(fd, &m, 0) < 0) return -2;
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  if (c == nullptr) return -1;
  memcpy(value, CMSG_DATA(c), size);
  return c->cmsg_type;
}

TEST_P(NotesTest, StreamsTellWhenTheirBytesCame) {
  TcpPair p(family());
  ASSERT_OK(SetInt(p.server.get(), SOL_SOCKET, SO_TIMESTAMPNS, 1));
  timespec when = {}, now;
  // Linux begins to take stamps a moment after the first socket asked for them.
  for (int i = 0; i < 200; i++) {
    ASSERT_EQ(send(p.client.get(), "x", 1, 0), 1);
    const int type = TypeOf(p.server.get(), &when, sizeof(when));
    if (type == SCM_TIMESTAMPNS) break;
    ASSERT_EQ(type, -1);
    usleep(10'000);
  }
  clock_gettime(CLOCK_REALTIME, &now);
  EXPECT_LE(when.tv_sec, now.tv_sec);
  EXPECT_GE(when.tv_sec, now.tv_sec - 60);
}

// SOF_TIMESTAMPING_OPT_RX_FILTER: what came is stamped only for who asked for such stamps.
TEST_P(NotesTest, StampsOfOthersAreFiltered) {
  constexpr int kRxFilter = 1 << 17;
  UdpPair p(family());
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE));
  std::array<timespec, 3> stamps;
  for (int i = 0; i < 200; i++) {
    ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
    if (TypeOf(p.b.get(), &stamps, sizeof(stamps)) == SCM_TIMESTAMPING) break;
    usleep(10'000);
  }
  ASSERT_NE(stamps[0].tv_sec, 0);
  if (SetInt(p.b.get(), SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_SOFTWARE | kRxFilter) != 0) {
    GTEST_SKIP() << "a kernel before 6.12";
  }
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_TIMESTAMPNS, 1));
  timespec when;
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  EXPECT_EQ(TypeOf(p.b.get(), &when, sizeof(when)), SCM_TIMESTAMPNS);
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_TIMESTAMPNS, 0));
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  EXPECT_EQ(TypeOf(p.b.get(), &stamps, sizeof(stamps)), -1);
}

TEST_P(NotesTest, MarksOfTheSender) {
  UdpPair p(family());
  constexpr int kRcvMark = 75;
  if (SetInt(p.b.get(), SOL_SOCKET, kRcvMark, 1) != 0) GTEST_SKIP() << "not privileged, or old";
  ASSERT_OK(SetInt(p.a.get(), SOL_SOCKET, SO_MARK, 7));
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  uint32_t mark = 0;
  EXPECT_EQ(TypeOf(p.b.get(), &mark, sizeof(mark)), SO_MARK);
  EXPECT_EQ(mark, 7u);
}

TEST_P(NotesTest, LostDatagramsAreCounted) {
  UdpPair p(family());
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_RCVBUF, 2048));
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_RXQ_OVFL, 1));
  for (int i = 0; i < 200; i++) ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  char b;
  while (recv(p.b.get(), &b, 1, MSG_DONTWAIT) == 1) {
  }
  ASSERT_EQ(send(p.a.get(), "y", 1, 0), 1);
  uint32_t lost = 0;
  EXPECT_EQ(TypeOf(p.b.get(), &lost, sizeof(lost)), SO_RXQ_OVFL);
  EXPECT_GT(lost, 0u);
  EXPECT_LT(lost, 200u);
}

TEST_P(NotesTest, SegmentsArriveApartOrAsOne) {
  UdpPair p(family());
  char bytes[2500] = {}, got[4096];
  ASSERT_OK(SetInt(p.a.get(), IPPROTO_UDP, UDP_SEGMENT, 1000));
  ASSERT_EQ(send(p.a.get(), bytes, sizeof(bytes), 0), 2500);
  for (const ssize_t n : {1000, 1000, 500}) EXPECT_EQ(recv(p.b.get(), got, sizeof(got), 0), n);
  ASSERT_OK(SetInt(p.b.get(), IPPROTO_UDP, UDP_GRO, 1));
  ASSERT_EQ(send(p.a.get(), bytes, sizeof(bytes), 0), 2500);
  alignas(cmsghdr) char control[128];
  iovec iov = {got, sizeof(got)};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 2500);
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_type, UDP_GRO);
  int size = 0;
  memcpy(&size, CMSG_DATA(c), sizeof(size));
  EXPECT_EQ(size, 1000);
  ASSERT_OK(SetInt(p.a.get(), IPPROTO_UDP, UDP_SEGMENT, 1));
  EXPECT_EQ(send(p.a.get(), bytes, 128, 0), 128);
  EXPECT_FAILS(send(p.a.get(), bytes, 129, 0), EINVAL);
}

TEST_P(NotesTest, PeekOffsetsCrossDatagrams) {
  UdpPair p(family());
  ASSERT_OK(SetInt(p.b.get(), SOL_SOCKET, SO_PEEK_OFF, 0));
  ASSERT_EQ(send(p.a.get(), "abcdef", 6, 0), 6);
  ASSERT_EQ(send(p.a.get(), "ghi", 3, 0), 3);
  char b[9];
  const auto peek = [&](size_t n) {
    const ssize_t got = recv(p.b.get(), b, n, MSG_PEEK);
    return got < 0 ? std::string("-") : std::string(b, static_cast<size_t>(got));
  };
  EXPECT_EQ(peek(2), "ab");
  EXPECT_EQ(peek(2), "cd");
  EXPECT_EQ(peek(9), "ef");
  EXPECT_EQ(peek(9), "ghi");
  EXPECT_EQ(GetInt(p.b.get(), SOL_SOCKET, SO_PEEK_OFF), 9);
  ASSERT_EQ(recv(p.b.get(), b, 9, 0), 6);
  EXPECT_EQ(GetInt(p.b.get(), SOL_SOCKET, SO_PEEK_OFF), 3);
}

TEST_P(NotesTest, TheErrorQueueClearsTheError) {
  UdpPair p(family());
  p.b.Reset();
  const bool v4 = family() == AF_INET;
  const int level = v4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6}, name = v4 ? IP_RECVERR : IPV6_RECVERR;
  ASSERT_OK(SetInt(p.a.get(), level, name, 1));
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  ASSERT_TRUE(PollFor(p.a.get(), 0) & POLLERR);
  EXPECT_EQ(NextNote(p.a.get()).error.ee_errno, static_cast<uint32_t>(ECONNREFUSED));
  EXPECT_EQ(GetInt(p.a.get(), SOL_SOCKET, SO_ERROR), 0);
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  ASSERT_TRUE(PollFor(p.a.get(), 0) & POLLERR);
  ASSERT_OK(SetInt(p.a.get(), level, name, 0));
  EXPECT_EQ(NextNote(p.a.get()).error.ee_errno, 9999u);
  EXPECT_EQ(GetInt(p.a.get(), SOL_SOCKET, SO_ERROR), ECONNREFUSED);
}

TEST_P(NotesTest, NullBuffersLoseNothingOfAStream) {
  TcpPair p(family());
  ASSERT_EQ(send(p.client.get(), "abc", 3, 0), 3);
  ASSERT_TRUE(PollFor(p.server.get(), POLLIN) & POLLIN);
  EXPECT_FAILS(recv(p.server.get(), nullptr, 3, 0), EFAULT);
  char b[4];
  EXPECT_EQ(recv(p.server.get(), b, sizeof(b), MSG_DONTWAIT), 3);
}

TEST_P(NotesTest, StampOfTheLastDatagram) {
  UdpPair p(family());
  timeval tv = {};
  EXPECT_FAILS(ioctl(p.b.get(), SIOCGSTAMP, &tv), ENOENT);
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  char b;
  ASSERT_EQ(recv(p.b.get(), &b, 1, 0), 1);
  ASSERT_OK(ioctl(p.b.get(), SIOCGSTAMP, &tv));
  EXPECT_GT(tv.tv_sec, 1'000'000'000);
}

}  // namespace
}  // namespace ringwall::test
