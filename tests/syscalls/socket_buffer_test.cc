// What SO_SNDBUF and SO_RCVBUF hold: what a message is charged, how much a peer that does not read lets through,
// and what SO_MEMINFO says of it.
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include <string>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

struct UnixPair {
  explicit UnixPair(int type) {
    int fds[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, fds), 0);
    a = Fd(fds[0]);
    b = Fd(fds[1]);
  }
  int Queued() const {
    int n = -1;
    EXPECT_EQ(ioctl(a.get(), TIOCOUTQ, &n), 0);
    return n;
  }
  Fd a, b;
};

std::array<uint32_t, SK_MEMINFO_VARS> Memory(int fd) {
  std::array<uint32_t, SK_MEMINFO_VARS> m = {};
  socklen_t size = sizeof(m);
  EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, m.data(), &size), 0);
  return m;
}

// A page for the head of a stream's message, four for others', then whole pages.
TEST(UnixBufferTest, AMessageIsChargedByItsMemory) {
  const struct {
    size_t size;
    int stream, message;
  } rows[] = {{1, 768, 768},         {193, 1280, 1280},     {1729, 4352, 4352},    {3776, 4352, 4352},
              {3777, 4864, 8448},    {5000, 6400, 8448},    {8192, 8960, 16640},   {16065, 17152, 20736},
              {20000, 20736, 20736}, {36544, 37120, 37120}, {70000, 71168, 73984}, {100000, 103168, 102656}};
  const std::string bytes(100000, 'x');
  for (const auto& row : rows) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
      UnixPair p(type);
      EXPECT_EQ(write(p.a.get(), bytes.data(), row.size), static_cast<ssize_t>(row.size));
      EXPECT_EQ(p.Queued(), type == SOCK_STREAM ? row.stream : row.message) << row.size << " type " << type;
      EXPECT_EQ(Memory(p.a.get())[SK_MEMINFO_WMEM_ALLOC], static_cast<uint32_t>(p.Queued()));
    }
  }
}

TEST(UnixBufferTest, AStreamTakesWholePieces) {
  UnixPair p(SOCK_STREAM);
  const std::string bytes(500000, 'x');
  EXPECT_EQ(write(p.a.get(), bytes.data(), bytes.size()), 6 * 36544);
  EXPECT_FAILS(write(p.a.get(), bytes.data(), 1), EAGAIN);
}

class TcpBufferTest : public ::testing::TestWithParam<int> {
 protected:
  // Of an algorithm that every machine has: the buffer's size depends on it.
  void Open(int send_buffer = 0) {
    const Fd listener = Listener(GetParam());
    const Addr to = LocalOf(listener.get());
    client_ = Fd(socket(GetParam(), SOCK_STREAM, 0));
    for (const int fd : {listener.get(), client_.get()}) {
      ASSERT_OK(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    }
    if (send_buffer != 0) {
      ASSERT_OK(setsockopt(client_.get(), SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof(send_buffer)));
    }
    ASSERT_OK(connect(client_.get(), to.ptr(), to.size));
    server_ = Fd(accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(server_.ok());
  }
  size_t Fill(size_t piece) {
    const std::string bytes(piece, 'x');
    size_t total = 0;
    for (ssize_t n; (n = send(client_.get(), bytes.data(), piece, MSG_DONTWAIT)) > 0;) total += static_cast<size_t>(n);
    EXPECT_EQ(errno, EAGAIN);
    return total;
  }
  Fd client_, server_;
};
INSTANTIATE_TEST_SUITE_P(Families, TcpBufferTest, ::testing::Values(AF_INET, AF_INET6));

TEST_P(TcpBufferTest, TenLargeSegmentsTwice) {
  Open();
  EXPECT_EQ(GetInt(client_.get(), SOL_SOCKET, SO_SNDBUF), 2626560);
  EXPECT_EQ(GetInt(server_.get(), SOL_SOCKET, SO_SNDBUF), 2626560);
}

TEST_P(TcpBufferTest, SmallMessagesAreGathered) {
  Open();
  const size_t total = Fill(100);
  EXPECT_GT(total, 2500000u);
  EXPECT_LT(total, 2900000u);
  const auto sender = Memory(client_.get()), receiver = Memory(server_.get());
  int unread = 0, unsent = 0;
  ASSERT_OK(ioctl(server_.get(), SIOCINQ, &unread));
  ASSERT_OK(ioctl(client_.get(), SIOCOUTQNSD, &unsent));
  EXPECT_EQ(sender[SK_MEMINFO_SNDBUF], 2626560u);
  EXPECT_GT(sender[SK_MEMINFO_WMEM_QUEUED], static_cast<uint32_t>(unsent));
  EXPECT_GE(sender[SK_MEMINFO_WMEM_QUEUED], 2626560u);
  EXPECT_GE(receiver[SK_MEMINFO_RMEM_ALLOC], static_cast<uint32_t>(unread));
  EXPECT_EQ(receiver[SK_MEMINFO_RCVBUF], 131072u);
  // Nobody is told of room until a third of the buffer is free.
  pollfd out = {client_.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&out, 1, 0), 0);
}

TEST_P(TcpBufferTest, AWindowOpensThoughNobodyReads) {
  Open(4096);
  const timeval limit = {2, 0};
  ASSERT_OK(setsockopt(client_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)));
  const std::string bytes(70000, 'x');
  EXPECT_EQ(write(client_.get(), bytes.data(), bytes.size()), 70000);
  EXPECT_EQ(GetInt(server_.get(), SOL_SOCKET, SO_RCVBUF), 131072);
}

TEST_P(TcpBufferTest, AFixedBufferIsNotTuned) {
  Open(30000);
  EXPECT_EQ(GetInt(client_.get(), SOL_SOCKET, SO_SNDBUF), 60000);
  const size_t total = Fill(16384);
  EXPECT_GT(total, 60000u);
  EXPECT_LT(total, 300000u);
  EXPECT_EQ(GetInt(client_.get(), SOL_SOCKET, SO_SNDBUF), 60000);
}

// What is in the queue of a datagram socket counts with its memory.
class UdpBufferTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Families, UdpBufferTest, ::testing::Values(AF_INET, AF_INET6));

TEST_P(UdpBufferTest, DatagramsAreChargedByTheirMemory) {
  const std::string bytes(30000, 'x');
  for (const auto& [size, each] : {std::pair{0, 832}, {1, 832}, {100, 832}, {500, 1280}, {1000, 2304},
                                   {1472, 2304}, {2000, 4352}, {9000, 16640}, {30000, 30832}}) {
    Fd to(socket(GetParam(), SOCK_DGRAM, 0)), from(socket(GetParam(), SOCK_DGRAM, 0));
    const Addr any = Addr::Loopback(GetParam());
    ASSERT_OK(bind(to.get(), any.ptr(), any.size));
    const Addr a = LocalOf(to.get());
    ASSERT_OK(connect(from.get(), a.ptr(), a.size));
    for (int i = 0; i < 300; i++) {
      ASSERT_EQ(send(from.get(), bytes.data(), static_cast<size_t>(size), 0), size);
    }
    int taken = 0;
    const uint32_t charged = Memory(to.get())[SK_MEMINFO_RMEM_ALLOC];
    char b;
    while (recv(to.get(), &b, 1, MSG_DONTWAIT) >= 0) taken++;
    EXPECT_EQ(taken, 212992 / each) << size;
    EXPECT_EQ(charged, static_cast<uint32_t>(taken * each)) << size;
    EXPECT_EQ(Memory(to.get())[SK_MEMINFO_RMEM_ALLOC], 0u);
  }
}

}  // namespace
}  // namespace ringwall::test
