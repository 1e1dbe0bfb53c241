// Multicast groups with source filters, over the loopback: ip_mreq_source, RFC 3678's calls, whole
// filters.
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

constexpr uint32_t kGroup = 0xe1010203, kOther = 0x0a000001;  // 225.1.2.3, 10.0.0.1

class GroupTest : public ::testing::Test {
 protected:
  GroupTest() : receiver_(socket(AF_INET, SOCK_DGRAM, 0)), sender_(socket(AF_INET, SOCK_DGRAM, 0)) {
    const Addr any = Addr::Any(AF_INET);
    EXPECT_OK(bind(receiver_.get(), any.ptr(), any.size));
    to_ = Addr::V4(kGroup, LocalOf(receiver_.get()).port());
    const in_addr lo = {htonl(INADDR_LOOPBACK)};
    EXPECT_OK(setsockopt(sender_.get(), IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof(lo)));
    EXPECT_OK(SetInt(receiver_.get(), IPPROTO_IP, IP_MULTICAST_ALL, 0));
  }
  // Whether a datagram to the group reaches the receiver.
  bool Hears() {
    EXPECT_EQ(sendto(sender_.get(), "m", 1, 0, to_.ptr(), to_.size), 1);
    char b;
    return recv(receiver_.get(), &b, 1, MSG_DONTWAIT) == 1;
  }
  int Group(int name, uint32_t group = kGroup) {
    const ip_mreq m = {{htonl(group)}, {htonl(INADDR_LOOPBACK)}};
    return setsockopt(receiver_.get(), IPPROTO_IP, name, &m, sizeof(m));
  }
  int Source(int name, uint32_t source) {
    const ip_mreq_source m = {{htonl(kGroup)}, {htonl(INADDR_LOOPBACK)}, {htonl(source)}};
    return setsockopt(receiver_.get(), IPPROTO_IP, name, &m, sizeof(m));
  }
  int SetFilter(uint32_t mode, std::vector<uint32_t> sources) {
    std::vector<uint32_t> f = {htonl(kGroup), htonl(INADDR_LOOPBACK), mode,
                               static_cast<uint32_t>(sources.size())};
    for (uint32_t s : sources) f.push_back(htonl(s));
    return setsockopt(receiver_.get(), IPPROTO_IP, IP_MSFILTER, f.data(),
                      static_cast<socklen_t>(f.size() * 4));
  }
  // Mode, count, and the sources that fitted.
  std::vector<uint32_t> Filter(uint32_t room) {
    std::vector<uint32_t> f(4 + room);
    f[0] = htonl(kGroup);
    f[1] = htonl(INADDR_LOOPBACK);
    f[3] = room;
    socklen_t size = static_cast<socklen_t>(f.size() * 4);
    if (getsockopt(receiver_.get(), IPPROTO_IP, IP_MSFILTER, f.data(), &size) != 0) return {};
    f.resize(size / 4);
    return {f.begin() + 2, f.end()};
  }

  Fd receiver_, sender_;
  Addr to_;
};

TEST_F(GroupTest, OnlyMembersHear) {
  EXPECT_FALSE(Hears());
  ASSERT_OK(Group(IP_ADD_MEMBERSHIP));
  EXPECT_TRUE(Hears());
  EXPECT_FAILS(Group(IP_ADD_MEMBERSHIP), EADDRINUSE);
  EXPECT_FAILS(Group(IP_DROP_MEMBERSHIP, 0xe1090909), EADDRNOTAVAIL);
  ASSERT_OK(Group(IP_DROP_MEMBERSHIP));
  EXPECT_FALSE(Hears());
  EXPECT_FAILS(Group(IP_DROP_MEMBERSHIP), EADDRNOTAVAIL);
}

TEST_F(GroupTest, ASourceMembershipHearsItsSources) {
  ASSERT_OK(Source(IP_ADD_SOURCE_MEMBERSHIP, kOther));
  EXPECT_FALSE(Hears());
  ASSERT_OK(Source(IP_ADD_SOURCE_MEMBERSHIP, INADDR_LOOPBACK));
  EXPECT_TRUE(Hears());
  EXPECT_FAILS(Source(IP_ADD_SOURCE_MEMBERSHIP, INADDR_LOOPBACK), EADDRNOTAVAIL);
  EXPECT_FAILS(Group(IP_ADD_MEMBERSHIP), EADDRINUSE);
  EXPECT_FAILS(Source(IP_BLOCK_SOURCE, kOther), EINVAL);
  ASSERT_OK(Source(IP_DROP_SOURCE_MEMBERSHIP, INADDR_LOOPBACK));
  EXPECT_FALSE(Hears());
  EXPECT_FAILS(Source(IP_DROP_SOURCE_MEMBERSHIP, INADDR_LOOPBACK), EADDRNOTAVAIL);
  // The last source takes the membership with it.
  ASSERT_OK(Source(IP_DROP_SOURCE_MEMBERSHIP, kOther));
  EXPECT_FAILS(Source(IP_DROP_SOURCE_MEMBERSHIP, kOther), EINVAL);
}

TEST_F(GroupTest, ABlockedSourceIsNotHeard) {
  EXPECT_FAILS(Source(IP_BLOCK_SOURCE, kOther), EINVAL);  // no member yet
  ASSERT_OK(Group(IP_ADD_MEMBERSHIP));
  ASSERT_OK(Source(IP_BLOCK_SOURCE, INADDR_LOOPBACK));
  EXPECT_FALSE(Hears());
  EXPECT_FAILS(Source(IP_BLOCK_SOURCE, INADDR_LOOPBACK), EADDRNOTAVAIL);
  ASSERT_OK(Source(IP_UNBLOCK_SOURCE, INADDR_LOOPBACK));
  EXPECT_TRUE(Hears());
  EXPECT_FAILS(Source(IP_UNBLOCK_SOURCE, INADDR_LOOPBACK), EADDRNOTAVAIL);
  EXPECT_FAILS(Source(IP_ADD_SOURCE_MEMBERSHIP, kOther), EINVAL);
}

TEST_F(GroupTest, WholeFilters) {
  EXPECT_FAILS(SetFilter(MCAST_INCLUDE, {kOther}), EINVAL);
  EXPECT_TRUE(Filter(4).empty());
  EXPECT_EQ(errno, EADDRNOTAVAIL);
  ASSERT_OK(Group(IP_ADD_MEMBERSHIP));
  EXPECT_EQ(Filter(4), (std::vector<uint32_t>{MCAST_EXCLUDE, 0}));
  ASSERT_OK(SetFilter(MCAST_INCLUDE, {INADDR_LOOPBACK, kOther}));
  EXPECT_TRUE(Hears());
  EXPECT_EQ(Filter(4), (std::vector<uint32_t>{MCAST_INCLUDE, 2, htonl(INADDR_LOOPBACK),
                                              htonl(kOther)}));
  EXPECT_EQ(Filter(1), (std::vector<uint32_t>{MCAST_INCLUDE, 2, htonl(INADDR_LOOPBACK)}));
  ASSERT_OK(SetFilter(MCAST_EXCLUDE, {INADDR_LOOPBACK}));
  EXPECT_FALSE(Hears());
  EXPECT_FAILS(SetFilter(5, {}), EINVAL);
  EXPECT_FAILS(SetFilter(MCAST_EXCLUDE, std::vector<uint32_t>(11, kOther)), ENOBUFS);
  ASSERT_OK(SetFilter(MCAST_INCLUDE, {}));  // is to leave
  EXPECT_FAILS(Group(IP_DROP_MEMBERSHIP), EADDRNOTAVAIL);
}

TEST_F(GroupTest, ByInterfaceAndStorage) {
  group_source_req r = {};
  r.gsr_interface = 1;
  const Addr group = Addr::V4(kGroup, 0), own = Addr::V4(INADDR_LOOPBACK, 0);
  memcpy(&r.gsr_group, group.ptr(), group.size);
  memcpy(&r.gsr_source, own.ptr(), own.size);
  const auto set = [&](int name, socklen_t size) {
    return setsockopt(receiver_.get(), IPPROTO_IP, name, &r, size);
  };
  ASSERT_OK(set(MCAST_JOIN_SOURCE_GROUP, sizeof(r)));
  EXPECT_TRUE(Hears());
  ASSERT_OK(set(MCAST_LEAVE_SOURCE_GROUP, sizeof(r)));
  EXPECT_FALSE(Hears());
  ASSERT_OK(set(MCAST_JOIN_GROUP, sizeof(group_req)));
  EXPECT_TRUE(Hears());
  ASSERT_OK(set(MCAST_BLOCK_SOURCE, sizeof(r)));
  EXPECT_FALSE(Hears());
  EXPECT_FAILS(set(MCAST_UNBLOCK_SOURCE, sizeof(r) - 1), EINVAL);
  alignas(group_filter) char room[GROUP_FILTER_SIZE(2)] = {};
  auto* f = reinterpret_cast<group_filter*>(room);
  f->gf_interface = 1;
  memcpy(&f->gf_group, group.ptr(), group.size);
  f->gf_numsrc = 2;
  socklen_t size = sizeof(room);
  ASSERT_OK(getsockopt(receiver_.get(), IPPROTO_IP, MCAST_MSFILTER, room, &size));
  EXPECT_EQ(size, GROUP_FILTER_SIZE(1));
  EXPECT_EQ(f->gf_fmode, static_cast<uint32_t>(MCAST_EXCLUDE));
  EXPECT_EQ(f->gf_numsrc, 1u);
  f->gf_fmode = MCAST_EXCLUDE;
  f->gf_numsrc = 0;
  ASSERT_OK(setsockopt(receiver_.get(), IPPROTO_IP, MCAST_MSFILTER, room, GROUP_FILTER_SIZE(0)));
  EXPECT_TRUE(Hears());
}

TEST(Group6Test, SourcesOfIpv6) {
  Fd s(socket(AF_INET6, SOCK_DGRAM, 0));
  group_source_req r = {};
  r.gsr_interface = 1;
  in6_addr group = {}, source = in6addr_loopback;
  ASSERT_EQ(inet_pton(AF_INET6, "ff12::77", &group), 1);
  const Addr g = Addr::V6(group, 0), from = Addr::V6(source, 0);
  memcpy(&r.gsr_group, g.ptr(), g.size);
  memcpy(&r.gsr_source, from.ptr(), from.size);
  const auto set = [&](int name) {
    return setsockopt(s.get(), IPPROTO_IPV6, name, &r, sizeof(r));
  };
  EXPECT_FAILS(set(MCAST_BLOCK_SOURCE), EINVAL);
  ASSERT_OK(set(MCAST_JOIN_SOURCE_GROUP));
  EXPECT_FAILS(set(MCAST_JOIN_SOURCE_GROUP), EADDRNOTAVAIL);
  ASSERT_OK(set(MCAST_LEAVE_SOURCE_GROUP));
  EXPECT_FAILS(set(MCAST_LEAVE_SOURCE_GROUP), EINVAL);
  r.gsr_interface = 9999;
  EXPECT_FAILS(set(MCAST_JOIN_SOURCE_GROUP), ENODEV);
}

}  // namespace
}  // namespace ringwall::test
