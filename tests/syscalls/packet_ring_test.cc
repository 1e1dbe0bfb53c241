// AF_PACKET's rings in the three layouts, and fanout, on the loopback. Privileged.
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

constexpr int kLo = 1;

class RingTest : public ::testing::TestWithParam<int> {
 protected:
  RingTest() : packet_(socket(AF_PACKET, SOCK_RAW, 0)) {}
  void SetUp() override {
    if (!packet_.ok()) GTEST_SKIP() << "not privileged";
    ASSERT_OK(SetInt(packet_.get(), SOL_PACKET, PACKET_VERSION, GetParam()));
  }
  void TearDown() override {
    if (map_ != MAP_FAILED) munmap(map_, kSize);
  }
  bool v3() const { return GetParam() == TPACKET_V3; }
  int SetRing(uint32_t block, uint32_t blocks, uint32_t frame, uint32_t frames,
              int name = PACKET_RX_RING) {
    tpacket_req3 r = {};
    r.tp_block_size = block, r.tp_block_nr = blocks;
    r.tp_frame_size = frame, r.tp_frame_nr = frames;
    if (name == PACKET_RX_RING) r.tp_retire_blk_tov = 5;
    return setsockopt(packet_.get(), SOL_PACKET, name, &r,
                      v3() ? sizeof(r) : sizeof(tpacket_req));
  }
  void MapAndBind() {
    map_ = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, packet_.get(), 0);
    ASSERT_NE(map_, MAP_FAILED);
    sockaddr_ll a = {};
    a.sll_family = AF_PACKET;
    a.sll_protocol = htons(ETH_P_IP);
    a.sll_ifindex = kLo;
    ASSERT_OK(bind(packet_.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
  }
  char* at() const { return static_cast<char*>(map_); }

  static constexpr uint32_t kBlock = 1 << 16, kBlocks = 4, kFrame = 2048;
  static constexpr size_t kSize = size_t{kBlock} * kBlocks;
  Fd packet_;
  void* map_ = MAP_FAILED;
};
INSTANTIATE_TEST_SUITE_P(Versions, RingTest,
                         ::testing::Values(TPACKET_V1, TPACKET_V2, TPACKET_V3));

TEST_P(RingTest, BadSizesAreRefused) {
  EXPECT_FAILS(SetRing(4095, 1, 2048, 1), EINVAL);
  EXPECT_FAILS(SetRing(4096, 1, 2048, 1), EINVAL);  // two frames fit
  EXPECT_FAILS(SetRing(4096, 1, 100, 40), EINVAL);  // not aligned
  EXPECT_FAILS(SetRing(4096, 1, 48, 85), EINVAL);   // no room for the header
  EXPECT_FAILS(SetRing(0, 1, 0, 0), EINVAL);
  EXPECT_FAILS(SetRing(0, 0, 0, 1), EINVAL);
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, packet_.get(), 0), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
  ASSERT_OK(SetRing(4096, 2, 2048, 4));
  EXPECT_FAILS(SetRing(4096, 2, 2048, 4), EBUSY);
  EXPECT_FAILS(SetInt(packet_.get(), SOL_PACKET, PACKET_VERSION, TPACKET_V1), EBUSY);
  EXPECT_FAILS(SetInt(packet_.get(), SOL_PACKET, PACKET_RESERVE, 16), EBUSY);
  ASSERT_OK(SetRing(0, 0, 0, 0));
  ASSERT_OK(SetRing(4096, 4, 4096, 4));
}

// The address and the payload of a UDP datagram to `port` at `frame`, or nothing.
template <typename Header>
std::string PayloadAt(const char* frame, uint16_t port) {
  Header h;
  memcpy(&h, frame, sizeof(h));
  const char* ip = frame + h.tp_net;
  uint16_t to;
  memcpy(&to, ip + 22, sizeof(to));
  if (ip[9] != 17 || ntohs(to) != port) return "";
  EXPECT_EQ(h.tp_net - h.tp_mac, 14);
  EXPECT_EQ(h.tp_len, h.tp_snaplen);
  sockaddr_ll a;
  memcpy(&a, frame + ((sizeof(Header) + 15) & ~15), sizeof(a));
  EXPECT_EQ(a.sll_ifindex, kLo);
  EXPECT_EQ(a.sll_protocol, htons(ETH_P_IP));
  return std::string(ip + 28, h.tp_len - 14 - 28);
}

TEST_P(RingTest, FramesComeThroughMemory) {
  ASSERT_OK(SetRing(kBlock, kBlocks, kFrame, kBlock / kFrame * kBlocks));
  MapAndBind();
  UdpPair p;
  const uint16_t port = LocalOf(p.b.get()).port();
  ASSERT_EQ(send(p.a.get(), "through the ring", 16, 0), 16);
  std::string got;
  uint32_t frame = 0, block = 0;
  for (int turns = 0; got.empty() && turns < 1000; turns++) {
    ASSERT_TRUE(PollFor(packet_.get(), POLLIN) & POLLIN);
    if (v3()) {
      auto* desc = reinterpret_cast<tpacket_block_desc*>(at() + size_t{block} * kBlock);
      if (!(__atomic_load_n(&desc->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
        continue;
      }
      const char* f = at() + size_t{block} * kBlock + desc->hdr.bh1.offset_to_first_pkt;
      for (uint32_t i = 0; i < desc->hdr.bh1.num_pkts; i++) {
        if (got.empty()) got = PayloadAt<tpacket3_hdr>(f, port);
        f += reinterpret_cast<const tpacket3_hdr*>(f)->tp_next_offset;
      }
      __atomic_store_n(&desc->hdr.bh1.block_status, uint32_t{TP_STATUS_KERNEL}, __ATOMIC_RELEASE);
      block = (block + 1) % kBlocks;
      continue;
    }
    char* f = at() + size_t{frame} * kFrame;
    uint32_t status = __atomic_load_n(reinterpret_cast<uint32_t*>(f), __ATOMIC_ACQUIRE);
    if (!(status & TP_STATUS_USER)) continue;
    got = GetParam() == TPACKET_V1 ? PayloadAt<tpacket_hdr>(f, port)
                                   : PayloadAt<tpacket2_hdr>(f, port);
    __atomic_store_n(reinterpret_cast<uint32_t*>(f), uint32_t{TP_STATUS_KERNEL}, __ATOMIC_RELEASE);
    frame = (frame + 1) % (kBlock / kFrame * kBlocks);
  }
  EXPECT_EQ(got, "through the ring");
  tpacket_stats_v3 stats = {};
  socklen_t size = sizeof(stats);
  ASSERT_OK(getsockopt(packet_.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &size));
  EXPECT_EQ(size, v3() ? sizeof(stats) : sizeof(tpacket_stats));
  EXPECT_GE(stats.tp_packets, 1u);
  EXPECT_FAILS(SetRing(0, 0, 0, 0), EBUSY);  // mapped
}

TEST_P(RingTest, AFullRingDropsAndSaysSo) {
  ASSERT_OK(SetRing(kBlock, kBlocks, kFrame, kBlock / kFrame * kBlocks));
  MapAndBind();
  UdpPair p;
  const std::string large(1400, 'x');
  char sink[2048];
  for (int i = 0; i < 500; i++) {
    ASSERT_EQ(send(p.a.get(), large.data(), large.size(), 0), 1400);
    ASSERT_EQ(recv(p.b.get(), sink, sizeof(sink), 0), 1400);
  }
  tpacket_stats_v3 stats = {};
  socklen_t size = sizeof(stats);
  ASSERT_OK(getsockopt(packet_.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &size));
  EXPECT_GE(stats.tp_packets, 500u);
  EXPECT_GT(stats.tp_drops, 0u);
  EXPECT_TRUE(PollFor(packet_.get(), POLLIN, 0) & POLLIN);
}

// Only blocks of version 3 have a private part.
class BlockRingTest : public RingTest {};
INSTANTIATE_TEST_SUITE_P(Blocks, BlockRingTest, ::testing::Values(TPACKET_V3));

// A block whose private part leaves less room than a frame's header takes: nothing may go beyond it.
TEST_P(BlockRingTest, FramesStayInTheirBlock) {
  constexpr uint32_t kSmall = 4096, kPrivate = 3960, kTiny = 80;
  tpacket_req3 r = {};
  r.tp_block_size = kSmall, r.tp_block_nr = 2;
  r.tp_frame_size = kTiny, r.tp_frame_nr = kSmall / kTiny * 2;
  r.tp_sizeof_priv = kPrivate;
  ASSERT_OK(setsockopt(packet_.get(), SOL_PACKET, PACKET_RX_RING, &r, sizeof(r)));
  map_ = mmap(nullptr, 2 * kSmall, PROT_READ | PROT_WRITE, MAP_SHARED, packet_.get(), 0);
  ASSERT_NE(map_, MAP_FAILED);
  sockaddr_ll a = {};
  a.sll_family = AF_PACKET;
  a.sll_protocol = htons(ETH_P_IP);
  a.sll_ifindex = kLo;
  ASSERT_OK(bind(packet_.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
  UdpPair p;
  const std::string large(20000, 'x');
  std::string sink(large.size(), 0);
  for (int i = 0; i < 4; i++) {
    ASSERT_EQ(send(p.a.get(), large.data(), large.size(), 0), 20000);
    ASSERT_EQ(recv(p.b.get(), sink.data(), sink.size(), 0), 20000);
  }
  EXPECT_LE(std::count(at(), at() + 2 * kSmall, 'x'), 2 * (kSmall - 48 - kPrivate));
  munmap(map_, 2 * kSmall);
  map_ = MAP_FAILED;
}

uint16_t Sum(const uint8_t* at, size_t n) {
  uint32_t sum = 0;
  for (size_t i = 0; i < n; i += 2) sum += static_cast<uint32_t>(at[i] << 8 | (i + 1 < n ? at[i + 1] : 0));
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// PACKET_VNET_HDR: frames have struct virtio_net_hdr in front, which may leave the checksum to be done.
TEST(VnetHeaderTest, GoesInFrontBothWays) {
  constexpr size_t kHeader = 10, kEth = 14, kIp = 20, kUdp = 8, kBody = 5;
  constexpr size_t kWhole = kHeader + kEth + kIp + kUdp + kBody;
  Fd s(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
  if (!s.ok()) GTEST_SKIP() << "not privileged";
  EXPECT_EQ(GetInt(s.get(), SOL_PACKET, PACKET_VNET_HDR), 0);
  ASSERT_OK(SetInt(s.get(), SOL_PACKET, PACKET_VNET_HDR, 7));
  EXPECT_EQ(GetInt(s.get(), SOL_PACKET, PACKET_VNET_HDR), 1);
  sockaddr_ll a = {};
  a.sll_family = AF_PACKET;
  a.sll_protocol = htons(ETH_P_IP);
  a.sll_ifindex = kLo;
  ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
  // A UDP datagram of a port that no other test has, its checksum left to be done.
  uint8_t f[kWhole] = {1 /* NEEDS_CSUM */, 0, 0, 0, 0, 0, kEth + kIp, 0, 6, 0};
  uint8_t* eth = f + kHeader;
  eth[12] = 8;
  uint8_t* ip = eth + kEth;
  ip[0] = 0x45, ip[3] = kIp + kUdp + kBody, ip[8] = 64, ip[9] = 17;
  ip[12] = ip[16] = 10, ip[15] = 1, ip[19] = 2;
  const uint16_t head = static_cast<uint16_t>(~Sum(ip, kIp));
  ip[10] = static_cast<uint8_t>(head >> 8), ip[11] = static_cast<uint8_t>(head);
  uint8_t* udp = ip + kIp;
  udp[0] = 0x77, udp[1] = 0x31, udp[3] = 9, udp[5] = kUdp + kBody;
  memcpy(udp + kUdp, "vnet!", kBody);
  uint8_t pseudo[12] = {10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, kUdp + kBody};
  const uint16_t part = Sum(pseudo, sizeof(pseudo));
  udp[6] = static_cast<uint8_t>(part >> 8), udp[7] = static_cast<uint8_t>(part);
  EXPECT_FAILS(send(s.get(), f, kHeader - 1, 0), EINVAL);
  ASSERT_EQ(send(s.get(), f, sizeof(f), 0), ssize_t{kWhole});
  uint8_t got[200];
  for (;;) {
    const ssize_t n = recv(s.get(), got, sizeof(got), 0);
    ASSERT_GT(n, 0);
    if (n == ssize_t{kWhole} && memcmp(got + kHeader + kEth + kIp, udp, 2) == 0) break;
  }
  uint8_t* u = got + kHeader + kEth + kIp;
  if ((got[0] & 1) != 0) {
    const uint16_t done = static_cast<uint16_t>(~Sum(u, kUdp + kBody));
    u[6] = static_cast<uint8_t>(done >> 8), u[7] = static_cast<uint8_t>(done);
  }
  uint8_t all[sizeof(pseudo) + kUdp + kBody];
  memcpy(all, pseudo, sizeof(pseudo));
  memcpy(all + sizeof(pseudo), u, kUdp + kBody);
  EXPECT_EQ(Sum(all, sizeof(all)), 0xffff);
}

// Nobody answers a datagram whose header has a wrong checksum.
TEST(PacketTest, ABadHeaderIsDroppedOnTheLoopbackToo) {
  constexpr size_t kEth = 14, kIp = 20, kUdp = 8;
  Fd s(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
  if (!s.ok()) GTEST_SKIP() << "not privileged";
  sockaddr_ll a = {};
  a.sll_family = AF_PACKET;
  a.sll_protocol = htons(ETH_P_IP);
  a.sll_ifindex = kLo;
  ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
  uint8_t f[kEth + kIp + kUdp] = {};
  f[12] = 8;
  uint8_t* ip = f + kEth;
  ip[0] = 0x45, ip[3] = kIp + kUdp, ip[8] = 64, ip[9] = IPPROTO_UDP;
  const uint8_t from[4] = {127, 9, 17, 1}, to[4] = {127, 9, 17, 2};
  memcpy(ip + 12, from, 4);
  memcpy(ip + 16, to, 4);
  ip[kIp + 5] = kUdp;  // from port 0 to port 0, where nobody is
  for (uint8_t i = 1; i <= 2; i++) {
    ip[5] = i;  // the identification
    ASSERT_EQ(send(s.get(), f, sizeof(f), 0), ssize_t{sizeof(f)});
  }
  for (int seen = 0; seen < 2;) {
    uint8_t got[200] = {};
    sockaddr_ll where = {};
    socklen_t size = sizeof(where);
    ASSERT_GT(recvfrom(s.get(), got, sizeof(got), 0, reinterpret_cast<sockaddr*>(&where), &size), 0);
    if (where.sll_pkttype == PACKET_OUTGOING) continue;
    EXPECT_FALSE(memcmp(got + kEth + 16, from, 4) == 0) << "an answer";
    if (memcmp(got + kEth + 12, from, 4) == 0) seen = got[kEth + 5];
  }
}

TEST(FanoutTest, EachFrameGoesToOne) {
  Fd all[2] = {Fd(socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0)),
               Fd(socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0))};
  if (!all[0].ok()) GTEST_SKIP() << "not privileged";
  const int group = 4711 | PACKET_FANOUT_LB << 16;
  EXPECT_FAILS(SetInt(all[0].get(), SOL_PACKET, PACKET_FANOUT, group), EINVAL);  // not bound
  for (Fd& s : all) {
    sockaddr_ll a = {};
    a.sll_family = AF_PACKET;
    a.sll_protocol = htons(ETH_P_IP);
    a.sll_ifindex = kLo;
    ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
    EXPECT_EQ(GetInt(s.get(), SOL_PACKET, PACKET_FANOUT), 0);
    ASSERT_OK(SetInt(s.get(), SOL_PACKET, PACKET_FANOUT, group));
    EXPECT_EQ(GetInt(s.get(), SOL_PACKET, PACKET_FANOUT), group);
    EXPECT_FAILS(SetInt(s.get(), SOL_PACKET, PACKET_FANOUT, group), EALREADY);
    EXPECT_FAILS(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)), EINVAL);
  }
  UdpPair p;
  const uint16_t port = htons(LocalOf(p.b.get()).port());
  char b[64];
  for (int i = 0; i < 20; i++) {
    ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
    ASSERT_EQ(recv(p.b.get(), b, sizeof(b), 0), 1);
  }
  int heard[2] = {};
  for (int i = 0; i < 2; i++) {
    ssize_t n;
    while ((n = recv(all[i].get(), b, sizeof(b), 0)) > 0) {
      if (n >= 28 && b[9] == 17 && memcmp(b + 22, &port, 2) == 0) heard[i]++;
    }
  }
  EXPECT_EQ(heard[0] + heard[1], 20);
  EXPECT_GT(heard[0], 0);
  EXPECT_GT(heard[1], 0);
  Fd other(socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)));
  EXPECT_FAILS(SetInt(other.get(), SOL_PACKET, PACKET_FANOUT, 4711 | PACKET_FANOUT_HASH << 16),
               EINVAL);
  // With struct fanout_args the group has a size, of all its members alike.
  const auto join = [](uint32_t most) {
    const uint64_t args = 4713 | PACKET_FANOUT_HASH << 16 | uint64_t{most} << 32;
    Fd s(socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)));
    const int error = setsockopt(s.get(), SOL_PACKET, PACKET_FANOUT, &args, sizeof(args)) != 0 ? errno : 0;
    return std::pair(error, std::move(s));
  };
  EXPECT_EQ(join((1 << 16) + 1).first, EINVAL);
  const auto first = join(2);
  EXPECT_EQ(first.first, 0);
  EXPECT_EQ(join(3).first, EINVAL);
  const auto second = join(0);
  EXPECT_EQ(second.first, 0);
  EXPECT_EQ(join(2).first, ENOSPC);
  const int twice = 4712 | (PACKET_FANOUT_ROLLOVER | PACKET_FANOUT_FLAG_ROLLOVER) << 16;
  EXPECT_FAILS(SetInt(other.get(), SOL_PACKET, PACKET_FANOUT, twice), EINVAL);
  EXPECT_OK(SetInt(other.get(), SOL_PACKET, PACKET_FANOUT, 4712 | PACKET_FANOUT_ROLLOVER << 16));
}

}  // namespace
}  // namespace ringwall::test
