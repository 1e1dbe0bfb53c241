// SO_REUSEPORT groups: balance, attached programs; which ports are chosen.
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

constexpr int kAttach = 51, kDetach = 68;  // SO_ATTACH_REUSEPORT_CBPF, SO_DETACH_REUSEPORT_BPF
constexpr int kPortRange = 51, kNoPort = 24;

class ReusePortTest : public ::testing::TestWithParam<int> {
 protected:
  int family() const { return GetParam(); }
  std::vector<Fd> Group(int type, size_t n) {
    std::vector<Fd> all;
    Addr at = Addr::Loopback(family());
    for (size_t i = 0; i < n; i++) {
      Fd s(socket(family(), type | SOCK_NONBLOCK, 0));
      EXPECT_OK(SetInt(s.get(), SOL_SOCKET, SO_REUSEPORT, 1));
      EXPECT_OK(bind(s.get(), at.ptr(), at.size));
      if (type == SOCK_STREAM) {
        EXPECT_OK(listen(s.get(), 128));
      }
      at.set_port(LocalOf(s.get()).port());
      all.push_back(std::move(s));
    }
    return all;
  }
  static int Attach(int fd, std::vector<sock_filter> code) {
    sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
    return setsockopt(fd, SOL_SOCKET, kAttach, &program, sizeof(program));
  }
};
INSTANTIATE_TEST_SUITE_P(Families, ReusePortTest, ::testing::Values(AF_INET, AF_INET6));

TEST_P(ReusePortTest, AProgramChoosesByThePayload) {
  std::vector<Fd> all = Group(SOCK_DGRAM, 4);
  // The first word, modulo 4.
  ASSERT_OK(Attach(all[1].get(), {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                                  BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 4),
                                  BPF_STMT(BPF_RET | BPF_A, 0)}));
  const Addr to = LocalOf(all[0].get());
  for (uint32_t i = 0; i < 8; i++) {
    Fd c(socket(family(), SOCK_DGRAM, 0));
    const uint32_t word = htonl(i);
    ASSERT_EQ(sendto(c.get(), &word, sizeof(word), 0, to.ptr(), to.size), 4);
    uint32_t got = 0;
    ASSERT_EQ(recv(all[i % 4].get(), &got, sizeof(got), 0), 4) << i;
    EXPECT_EQ(got, word);
  }
  ASSERT_OK(SetInt(all[2].get(), SOL_SOCKET, kDetach, 0));
  EXPECT_FAILS(SetInt(all[2].get(), SOL_SOCKET, kDetach, 0), ENOENT);
}

TEST_P(ReusePortTest, AProgramChoosesTheListener) {
  std::vector<Fd> all = Group(SOCK_STREAM, 3);
  ASSERT_OK(Attach(all[0].get(), {BPF_STMT(BPF_RET | BPF_K, 2)}));
  const Addr to = LocalOf(all[0].get());
  for (int i = 0; i < 5; i++) {
    Fd c(socket(family(), SOCK_STREAM, 0));
    ASSERT_OK(connect(c.get(), to.ptr(), to.size));
    Fd got(accept(all[2].get(), nullptr, nullptr));
    EXPECT_TRUE(got.ok());
  }
  EXPECT_FAILS(accept(all[0].get(), nullptr, nullptr), EAGAIN);
}

TEST_P(ReusePortTest, ConnectionsSpread) {
  std::vector<Fd> all = Group(SOCK_STREAM, 3);
  const Addr to = LocalOf(all[0].get());
  std::vector<Fd> clients;
  for (int i = 0; i < 90; i++) {
    Fd c(socket(family(), SOCK_STREAM, 0));
    ASSERT_OK(connect(c.get(), to.ptr(), to.size));
    clients.push_back(std::move(c));
  }
  for (const Fd& l : all) {
    int n = 0;
    while (true) {
      Fd got(accept(l.get(), nullptr, nullptr));
      if (!got.ok()) break;
      n++;
    }
    EXPECT_GT(n, 5);
  }
}

TEST_P(ReusePortTest, AFlowStaysWithItsSocket) {
  std::vector<Fd> all = Group(SOCK_DGRAM, 4);
  const Addr to = LocalOf(all[0].get());
  Fd c(socket(family(), SOCK_DGRAM, 0));
  for (int i = 0; i < 10; i++) ASSERT_EQ(sendto(c.get(), "x", 1, 0, to.ptr(), to.size), 1);
  int heard = 0;
  for (const Fd& s : all) {
    char b;
    if (recv(s.get(), &b, 1, 0) == 1) heard++;
  }
  EXPECT_EQ(heard, 1);
}

TEST_P(ReusePortTest, NeedsTheOption) {
  Fd s(socket(family(), SOCK_DGRAM, 0));
  EXPECT_FAILS(Attach(s.get(), {BPF_STMT(BPF_RET | BPF_K, 0)}), EINVAL);
  const Addr at = Addr::Loopback(family());
  ASSERT_OK(bind(s.get(), at.ptr(), at.size));
  EXPECT_FAILS(Attach(s.get(), {BPF_STMT(BPF_RET | BPF_K, 0)}), EINVAL);
  EXPECT_FAILS(SetInt(s.get(), SOL_SOCKET, kDetach, 0), EINVAL);
}

TEST_P(ReusePortTest, APortRangeBoundsTheChoice) {
  for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
    std::vector<Fd> all;
    for (int i = 0; i < 5; i++) {
      Fd s(socket(family(), type, 0));
      if (SetInt(s.get(), IPPROTO_IP, kPortRange, 41000 | 41003 << 16) != 0) {
        GTEST_SKIP() << "Linux before 6.3";
      }
      const Addr at = Addr::Loopback(family());
      if (bind(s.get(), at.ptr(), at.size) != 0) {
        EXPECT_EQ(errno, EADDRINUSE);
        EXPECT_GE(i, 1);
        break;
      }
      EXPECT_LT(i, 4);
      EXPECT_GE(LocalOf(s.get()).port(), 41000);
      EXPECT_LE(LocalOf(s.get()).port(), 41003);
      all.push_back(std::move(s));
    }
  }
}

TEST_P(ReusePortTest, BindWithoutAPortLeavesItToConnect) {
  Fd l = Listener(family());
  Fd s(socket(family(), SOCK_STREAM, 0));
  ASSERT_OK(SetInt(s.get(), IPPROTO_IP, kNoPort, 1));
  const Addr at = Addr::Loopback(family());
  ASSERT_OK(bind(s.get(), at.ptr(), at.size));
  EXPECT_EQ(LocalOf(s.get()).port(), 0);
  const Addr to = LocalOf(l.get());
  ASSERT_OK(connect(s.get(), to.ptr(), to.size));
  EXPECT_NE(LocalOf(s.get()).port(), 0);
  Fd u(socket(family(), SOCK_DGRAM, 0));
  ASSERT_OK(SetInt(u.get(), IPPROTO_IP, kNoPort, 1));
  ASSERT_OK(bind(u.get(), at.ptr(), at.size));
  EXPECT_EQ(LocalOf(u.get()).port(), 0);
  ASSERT_EQ(sendto(u.get(), "x", 1, 0, to.ptr(), to.size), 1);
  EXPECT_NE(LocalOf(u.get()).port(), 0);
}

}  // namespace
}  // namespace ringwall::test
