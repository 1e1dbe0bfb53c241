// NETLINK_ROUTE: links, addresses, routes, rules and neighbours, in a namespace of the test's own.
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <net/if_arp.h>

#include "tests/util/netlink.h"

namespace ringwall::test {
namespace {

class RouteTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterOwnNet()) GTEST_SKIP() << "no right to make a network namespace";
    lo_ = static_cast<int>(if_nametoindex("lo"));
  }
  Request GetLink(uint16_t flags, int index = 0) {
    ifinfomsg m = {};
    m.ifi_index = index;
    Request r(RTM_GETLINK, flags);
    r.Put(m);
    return r;
  }
  static Request Addr(uint16_t type, uint16_t flags, int index, const char* ip, uint8_t len) {
    ifaddrmsg m = {};
    m.ifa_family = strchr(ip, ':') != nullptr ? AF_INET6 : AF_INET;
    m.ifa_prefixlen = len;
    m.ifa_index = static_cast<uint32_t>(index);
    Request r(type, flags | NLM_F_ACK);
    r.Put(m).Ip(IFA_LOCAL, ip).Ip(IFA_ADDRESS, ip);
    return r;
  }
  int AddAddr(int index, const char* ip, uint8_t len) {
    return nl_.Ask(Addr(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, ip, len));
  }
  static Request Route(uint16_t type, uint16_t flags, const char* dst, uint8_t len, int oif,
                       const char* gateway = nullptr, uint32_t metric = 0) {
    rtmsg m = {};
    m.rtm_family = strchr(dst, ':') != nullptr ? AF_INET6 : AF_INET;
    m.rtm_dst_len = len;
    m.rtm_table = RT_TABLE_MAIN;
    m.rtm_protocol = RTPROT_BOOT;
    m.rtm_scope = type == RTM_DELROUTE ? RT_SCOPE_NOWHERE
                  : gateway != nullptr ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
    m.rtm_type = type == RTM_DELROUTE ? RTN_UNSPEC : RTN_UNICAST;
    Request r(type, flags | NLM_F_ACK);
    r.Put(m).Ip(RTA_DST, dst);
    if (gateway != nullptr) r.Ip(RTA_GATEWAY, gateway);
    if (oif != 0) r.U32(RTA_OIF, static_cast<uint32_t>(oif));
    if (metric != 0) r.U32(RTA_PRIORITY, metric);
    return r;
  }
  int lo_ = 0;
  Netlink nl_;
};

// ---- The dispatch ----

TEST_F(RouteTest, MessagesThatCannotBeAreRefusedOrIgnored) {
  Request unknown(RTM_MAX + 1, NLM_F_ACK);
  unknown.Put(rtgenmsg{});
  EXPECT_EQ(nl_.Ask(unknown), EOPNOTSUPP);
  Request control(NLMSG_NOOP, NLM_F_ACK);  // below NLMSG_MIN_TYPE
  EXPECT_EQ(nl_.Ask(control), 0);
  Request empty(RTM_GETLINK, NLM_F_ACK);  // not even a family
  EXPECT_EQ(nl_.Ask(empty), 0);
  Request half(RTM_GETLINK, NLM_F_ACK);
  half.Put(rtgenmsg{});
  EXPECT_EQ(nl_.Ask(half), EINVAL);
  // A length that cannot be: nothing is said.
  nlmsghdr h = {};
  h.nlmsg_len = 4000;
  h.nlmsg_type = RTM_GETLINK;
  h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  ASSERT_EQ(send(nl_.fd(), &h, sizeof(h), 0), static_cast<ssize_t>(sizeof(h)));
  char b[8];
  EXPECT_FAILS(recv(nl_.fd(), b, sizeof(b), MSG_DONTWAIT), EAGAIN);
}

TEST_F(RouteTest, ErrorsCarryTheRequest) {
  Request r = GetLink(NLM_F_ACK, 99999);
  ASSERT_TRUE(nl_.Send(r));
  std::vector<Reply> got = nl_.Receive();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].header.nlmsg_type, NLMSG_ERROR);
  EXPECT_EQ(got[0].header.nlmsg_flags, 0);
  EXPECT_EQ(got[0].header.nlmsg_seq, 7u);
  EXPECT_EQ(got[0].header.nlmsg_pid, nl_.port());
  EXPECT_EQ(got[0].As<nlmsgerr>().error, -ENODEV);
  EXPECT_EQ(got[0].As<nlmsgerr>().msg.nlmsg_type, RTM_GETLINK);
  EXPECT_EQ(got[0].payload.size(), 4 + r.bytes().size());
  const int on = 1;
  ASSERT_OK(setsockopt(nl_.fd(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)));
  ASSERT_TRUE(nl_.Send(r));
  got = nl_.Receive();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].payload.size(), sizeof(nlmsgerr));
  EXPECT_EQ(got[0].header.nlmsg_flags, NLM_F_CAPPED);
}

TEST_F(RouteTest, AcknowledgementIsCapped) {
  Request r(NLMSG_NOOP, NLM_F_ACK);
  r.U32(1, 2);
  ASSERT_TRUE(nl_.Send(r));
  std::vector<Reply> got = nl_.Receive();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].header.nlmsg_flags, NLM_F_CAPPED);
  EXPECT_EQ(got[0].payload.size(), sizeof(nlmsgerr));
}

TEST_F(RouteTest, ExtendedAckSaysWhy) {
  const int on = 1;
  ASSERT_OK(setsockopt(nl_.fd(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)));
  Request r(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  r.Put(ifinfomsg{}).Text(IFLA_IFNAME, "rwx").Nest(IFLA_LINKINFO, [](Request& i) {
    i.Text(IFLA_INFO_KIND, "nosuchkind");
  });
  ASSERT_TRUE(nl_.Send(r));
  std::vector<Reply> got = nl_.Receive();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].As<nlmsgerr>().error, -EOPNOTSUPP);
  EXPECT_EQ(got[0].header.nlmsg_flags, NLM_F_ACK_TLVS);
  // The TLVs follow the whole request.
  const size_t head = 4 + got[0].As<nlmsgerr>().msg.nlmsg_len;
  EXPECT_STREQ(got[0].Attr(head, NLMSGERR_ATTR_MSG).c_str(), "Unknown device type");
}

TEST_F(RouteTest, OrdinaryUsersMayOnlyLook) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    Netlink nl;
    Request r = Addr(RTM_NEWADDR, NLM_F_CREATE, 1, "10.0.0.1", 8);
    CHECK_CHILD(nl.Ask(r) == EPERM);
    ifinfomsg m = {};
    Request d(RTM_GETLINK, NLM_F_DUMP);
    d.Put(m);
    CHECK_CHILD(!nl.Dump(d).empty());
    return 0;
  })));
}

TEST_F(RouteTest, SeveralMessagesInOneDatagram) {
  Request a(NLMSG_NOOP, NLM_F_ACK), b = GetLink(NLM_F_ACK, 99999);
  std::vector<char> both = a.bytes();
  both.insert(both.end(), b.bytes().begin(), b.bytes().end());
  ASSERT_EQ(send(nl_.fd(), both.data(), both.size(), 0), static_cast<ssize_t>(both.size()));
  EXPECT_EQ(nl_.Receive().at(0).As<nlmsgerr>().error, 0);
  EXPECT_EQ(nl_.Receive().at(0).As<nlmsgerr>().error, -ENODEV);
}

// ---- Links ----

TEST_F(RouteTest, DumpOfLinksEndsWithDone) {
  Request r = GetLink(NLM_F_DUMP);
  ASSERT_TRUE(nl_.Send(r));
  bool done = false, lo = false;
  while (!done) {
    std::vector<Reply> some = nl_.Receive();
    ASSERT_FALSE(some.empty());
    for (const Reply& x : some) {
      EXPECT_NE(x.header.nlmsg_flags & NLM_F_MULTI, 0);
      EXPECT_EQ(x.header.nlmsg_seq, 7u);
      if (x.header.nlmsg_type == NLMSG_DONE) {
        done = true;
        EXPECT_EQ(x.As<int32_t>(), 0);
        continue;
      }
      ASSERT_EQ(x.header.nlmsg_type, RTM_NEWLINK);
      if (x.As<ifinfomsg>().ifi_index != lo_) continue;
      lo = true;
      EXPECT_EQ(x.As<ifinfomsg>().ifi_type, ARPHRD_LOOPBACK);
      EXPECT_EQ(x.As<ifinfomsg>().ifi_flags & (IFF_UP | IFF_LOOPBACK | IFF_RUNNING),
                unsigned{IFF_UP | IFF_LOOPBACK | IFF_RUNNING});
      EXPECT_STREQ(x.Attr(sizeof(ifinfomsg), IFLA_IFNAME).c_str(), "lo");
      EXPECT_EQ(x.U32(sizeof(ifinfomsg), IFLA_MTU), 65536u);
      EXPECT_EQ(x.Attr(sizeof(ifinfomsg), IFLA_ADDRESS), std::string(6, '\0'));
      EXPECT_EQ(x.Attr(sizeof(ifinfomsg), IFLA_STATS64).size() >= 184, true);
      EXPECT_EQ(x.Attr(sizeof(ifinfomsg), IFLA_OPERSTATE), std::string(1, '\0'));
      EXPECT_STREQ(x.Attr(sizeof(ifinfomsg), IFLA_QDISC).c_str(), "noqueue");
    }
  }
  EXPECT_TRUE(lo);
}

TEST_F(RouteTest, OneLinkByIndexOrName) {
  Request by_index = GetLink(0, lo_);
  ASSERT_TRUE(nl_.Send(by_index));
  std::vector<Reply> got = nl_.Receive();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].header.nlmsg_flags, 0);
  EXPECT_EQ(got[0].As<ifinfomsg>().ifi_index, lo_);
  Request by_name(RTM_GETLINK, 0);
  by_name.Put(ifinfomsg{}).Text(IFLA_IFNAME, "lo");
  ASSERT_TRUE(nl_.Send(by_name));
  got = nl_.Receive();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].As<ifinfomsg>().ifi_index, lo_);
  EXPECT_EQ(nl_.Ask(GetLink(NLM_F_ACK, 0)), EINVAL);
  Request absent(RTM_GETLINK, 0);
  absent.Put(ifinfomsg{}).Text(IFLA_IFNAME, "nosuch0");
  EXPECT_EQ(nl_.Ask(absent), ENODEV);
}

TEST_F(RouteTest, NewLinkRefusals) {
  Request plain(RTM_NEWLINK, NLM_F_ACK);
  plain.Put(ifinfomsg{});
  EXPECT_EQ(nl_.Ask(plain), ENODEV);
  ifinfomsg negative = {};
  negative.ifi_index = -5;
  Request r(RTM_NEWLINK, NLM_F_ACK);
  r.Put(negative);
  EXPECT_EQ(nl_.Ask(r), EINVAL);
  Request exists(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  exists.Put(ifinfomsg{}).Text(IFLA_IFNAME, "lo");
  EXPECT_EQ(nl_.Ask(exists), EEXIST);
  Request long_name(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE);
  long_name.Put(ifinfomsg{}).Text(IFLA_IFNAME, "sixteen_letters_");
  EXPECT_EQ(nl_.Ask(long_name), ERANGE);
  EXPECT_EQ(nl_.Ask(DelLink(lo_)), EOPNOTSUPP);
  EXPECT_EQ(nl_.Ask(DelLink(99999)), ENODEV);
  EXPECT_EQ(nl_.Ask(DelLink(0)), EINVAL);
}

TEST_F(RouteTest, VethIsMadeChangedAndRemoved) {
  {
    Veth v;
    EXPECT_EQ(nl_.Ask(MakeVeth("rwa", "rwc")), EEXIST);
    ASSERT_TRUE(nl_.Send(*std::make_unique<Request>(GetLink(0, v.index))));
    std::vector<Reply> got = nl_.Receive();
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].As<ifinfomsg>().ifi_type, ARPHRD_ETHER);
    EXPECT_EQ(got[0].U32(sizeof(ifinfomsg), IFLA_LINK), static_cast<uint32_t>(v.peer));
    EXPECT_EQ(got[0].Attr(sizeof(ifinfomsg), IFLA_CARRIER), std::string(1, '\0'));
    EXPECT_EQ(got[0].Attr(sizeof(ifinfomsg), IFLA_OPERSTATE), std::string(1, '\2'));
    v.Up();
    ASSERT_TRUE(nl_.Send(*std::make_unique<Request>(GetLink(0, v.index))));
    got = nl_.Receive();
    EXPECT_EQ(got[0].As<ifinfomsg>().ifi_flags,
              unsigned{IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_MULTICAST} | 0x10000);
    // Renamed, with another MTU and address.
    ifinfomsg m = {};
    m.ifi_index = v.index;
    const uint8_t mac[6] = {2, 0, 0, 0, 0, 9};
    Request change(RTM_SETLINK, NLM_F_ACK);
    change.Put(m).U32(IFLA_MTU, 1400).Attr(IFLA_ADDRESS, mac, 6).Text(IFLA_IFNAME, "rwz");
    EXPECT_EQ(nl_.Ask(change), 0);
    EXPECT_EQ(static_cast<int>(if_nametoindex("rwz")), v.index);
    Request too_large(RTM_SETLINK, NLM_F_ACK), too_small(RTM_SETLINK, NLM_F_ACK);
    EXPECT_EQ(nl_.Ask(too_large.Put(m).U32(IFLA_MTU, 70000)), EINVAL);
    EXPECT_EQ(nl_.Ask(too_small.Put(m).U32(IFLA_MTU, 10)), EINVAL);
    const uint8_t group[6] = {1, 0, 0, 0, 0, 9};
    Request bad_mac(RTM_SETLINK, NLM_F_ACK), taken(RTM_SETLINK, NLM_F_ACK);
    EXPECT_EQ(nl_.Ask(bad_mac.Put(m).Attr(IFLA_ADDRESS, group, 6)), EADDRNOTAVAIL);
    EXPECT_EQ(nl_.Ask(taken.Put(m).Text(IFLA_IFNAME, "lo")), EEXIST);
    Request slash(RTM_SETLINK, NLM_F_ACK);
    EXPECT_EQ(nl_.Ask(slash.Put(m).Text(IFLA_IFNAME, "a/b")), EINVAL);
  }
  EXPECT_EQ(if_nametoindex("rwz"), 0u);
  EXPECT_EQ(if_nametoindex("rwb"), 0u);
}

TEST_F(RouteTest, BridgeTakesPorts) {
  Veth v;
  Request make(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  make.Put(ifinfomsg{}).Text(IFLA_IFNAME, "rwbr").Nest(IFLA_LINKINFO, [](Request& i) {
    i.Text(IFLA_INFO_KIND, "bridge");
  });
  ASSERT_EQ(nl_.Ask(make), 0);
  const int bridge = static_cast<int>(if_nametoindex("rwbr"));
  ifinfomsg m = {};
  m.ifi_index = v.index;
  Request join(RTM_SETLINK, NLM_F_ACK);
  EXPECT_EQ(nl_.Ask(join.Put(m).U32(IFLA_MASTER, static_cast<uint32_t>(bridge))), 0);
  ASSERT_TRUE(nl_.Send(*std::make_unique<Request>(GetLink(0, v.index))));
  EXPECT_EQ(nl_.Receive().at(0).U32(sizeof(ifinfomsg), IFLA_MASTER), static_cast<uint32_t>(bridge));
  // A dump of the bridge's ports alone.
  Request ports(RTM_GETLINK, NLM_F_DUMP);
  ports.Put(ifinfomsg{}).U32(IFLA_MASTER, static_cast<uint32_t>(bridge));
  std::vector<Reply> got = nl_.Dump(ports);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].As<ifinfomsg>().ifi_index, v.index);
  m.ifi_index = lo_;
  Request loopback(RTM_SETLINK, NLM_F_ACK);
  EXPECT_EQ(nl_.Ask(loopback.Put(m).U32(IFLA_MASTER, static_cast<uint32_t>(bridge))), EINVAL);
  m.ifi_index = v.index;
  Request leave(RTM_SETLINK, NLM_F_ACK);
  EXPECT_EQ(nl_.Ask(leave.Put(m).U32(IFLA_MASTER, 0)), 0);
  EXPECT_EQ(nl_.Ask(DelLink(bridge)), 0);
}

TEST_F(RouteTest, StrictDumpsCheckTheirHeader) {
  const int on = 1;
  ASSERT_OK(setsockopt(nl_.fd(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on)));
  ifinfomsg m = {};
  m.ifi_flags = 1;
  Request r(RTM_GETLINK, NLM_F_DUMP);
  // A dump's own errors come with its end.
  int done = 0;
  nl_.Dump(r.Put(m), &done);
  EXPECT_EQ(done, EINVAL);
  m.ifi_flags = 0;
  m.ifi_index = 1;
  Request by_index(RTM_GETLINK, NLM_F_DUMP);
  done = 0;
  nl_.Dump(by_index.Put(m), &done);
  EXPECT_EQ(done, EINVAL);
  ifaddrmsg a = {};
  a.ifa_prefixlen = 3;
  a.ifa_family = AF_INET;
  Request addr(RTM_GETADDR, NLM_F_DUMP);
  done = 0;
  nl_.Dump(addr.Put(a), &done);
  EXPECT_EQ(done, EINVAL);
  a = {};
  a.ifa_family = AF_INET;
  a.ifa_index = static_cast<uint32_t>(lo_);
  Request only_lo(RTM_GETADDR, NLM_F_DUMP);
  std::vector<Reply> got = nl_.Dump(only_lo.Put(a));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].header.nlmsg_flags, NLM_F_MULTI | NLM_F_DUMP_FILTERED);
}

// ---- Addresses ----

TEST_F(RouteTest, LoopbackHasItsAddresses) {
  Request r(RTM_GETADDR, NLM_F_DUMP);
  bool v4 = false, v6 = false;
  for (const Reply& x : nl_.Dump(r.Put(ifaddrmsg{}))) {
    const ifaddrmsg m = x.As<ifaddrmsg>();
    if (static_cast<int>(m.ifa_index) != lo_) continue;
    EXPECT_EQ(m.ifa_scope, RT_SCOPE_HOST);
    EXPECT_EQ(m.ifa_flags, IFA_F_PERMANENT);
    if (m.ifa_family == AF_INET && m.ifa_prefixlen == 8) {
      v4 = true;
      EXPECT_EQ(x.U32(sizeof(m), IFA_LOCAL), htonl(INADDR_LOOPBACK));
      EXPECT_STREQ(x.Attr(sizeof(m), IFA_LABEL).c_str(), "lo");
    }
    if (m.ifa_family == AF_INET6) {
      v6 = true;
      EXPECT_EQ(m.ifa_prefixlen, 128);
      EXPECT_EQ(x.Attr(sizeof(m), IFA_ADDRESS).size(), 16u);
    }
    const std::string ci = x.Attr(sizeof(m), IFA_CACHEINFO);
    ASSERT_EQ(ci.size(), sizeof(ifa_cacheinfo));
    ifa_cacheinfo c;
    memcpy(&c, ci.data(), sizeof(c));
    EXPECT_EQ(c.ifa_valid, ~0u);
  }
  EXPECT_TRUE(v4);
  EXPECT_TRUE(v6);
}

TEST_F(RouteTest, AddressesComeAndGo) {
  Veth v;
  v.Up();
  EXPECT_EQ(AddAddr(v.index, "10.77.0.1", 24), 0);
  EXPECT_EQ(AddAddr(v.index, "10.77.0.1", 24), EEXIST);
  EXPECT_EQ(AddAddr(v.index, "10.77.0.1", 16), 0);  // another prefix is another address
  EXPECT_EQ(nl_.Ask(Addr(RTM_DELADDR, 0, v.index, "10.77.0.1", 16)), 0);
  EXPECT_EQ(AddAddr(99999, "10.77.0.2", 24), ENODEV);
  EXPECT_EQ(AddAddr(v.index, "10.77.0.2", 33), EINVAL);
  EXPECT_EQ(AddAddr(v.index, "2001:db8::1", 64), 0);
  EXPECT_EQ(AddAddr(v.index, "2001:db8::1", 64), EEXIST);
  EXPECT_EQ(AddAddr(v.index, "2001:db8::2", 129), EINVAL);
  EXPECT_EQ(nl_.Ask(Addr(RTM_DELADDR, 0, v.index, "10.77.0.9", 24)), EADDRNOTAVAIL);
  EXPECT_EQ(nl_.Ask(Addr(RTM_DELADDR, 0, v.index, "2001:db8::9", 64)), EADDRNOTAVAIL);
  EXPECT_EQ(nl_.Ask(Addr(RTM_DELADDR, 0, 99999, "10.77.0.1", 24)), ENODEV);
  EXPECT_EQ(nl_.Ask(Addr(RTM_DELADDR, 0, v.index, "10.77.0.1", 24)), 0);
  EXPECT_EQ(nl_.Ask(Addr(RTM_DELADDR, 0, v.index, "2001:db8::1", 64)), 0);
  ifaddrmsg m = {};
  m.ifa_family = AF_INET;
  m.ifa_index = static_cast<uint32_t>(v.index);
  m.ifa_prefixlen = 24;
  Request no_local(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE);
  EXPECT_EQ(nl_.Ask(no_local.Put(m).Ip(IFA_ADDRESS, "10.77.0.1")), EINVAL);
  Request short_address(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE);
  const uint8_t two[2] = {};
  EXPECT_NE(nl_.Ask(short_address.Put(m).Attr(IFA_LOCAL, two, 2)), 0);
  m.ifa_family = AF_UNIX;
  Request family(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE);
  EXPECT_EQ(nl_.Ask(family.Put(m)), EOPNOTSUPP);
}

TEST_F(RouteTest, SecondAddressOfASubnetIsSecondary) {
  Veth v;
  ASSERT_EQ(AddAddr(v.index, "10.77.0.1", 24), 0);
  ASSERT_EQ(AddAddr(v.index, "10.77.0.2", 24), 0);
  Request r(RTM_GETADDR, NLM_F_DUMP);
  ifaddrmsg m = {};
  m.ifa_family = AF_INET;
  int secondary = 0;
  for (const Reply& x : nl_.Dump(r.Put(m))) {
    if (static_cast<int>(x.As<ifaddrmsg>().ifa_index) != v.index) continue;
    secondary += (x.As<ifaddrmsg>().ifa_flags & IFA_F_SECONDARY) != 0;
  }
  EXPECT_EQ(secondary, 1);
}

// ---- Routes ----

TEST_F(RouteTest, RoutesComeAndGo) {
  Veth v;
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "10.88.0.0", 16, v.index)),
            ENETDOWN);
  v.Up();
  ASSERT_EQ(AddAddr(v.index, "10.77.0.1", 24), 0);
  const uint16_t add = NLM_F_CREATE | NLM_F_EXCL;
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, add, "10.88.0.0", 16, v.index)), 0);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, add, "10.88.0.0", 16, v.index)), EEXIST);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, add, "10.88.0.0", 16, v.index, nullptr, 5)), 0);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, "10.88.0.0", 16, 0,
                          "10.77.0.2")), 0);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, 0, "10.89.0.0", 16, v.index)), ENOENT);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, NLM_F_REPLACE, "10.89.0.0", 16, v.index)), ENOENT);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, add, "10.88.0.1", 16, v.index)), EINVAL);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, add, "10.90.0.0", 33, v.index)), EINVAL);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, add, "10.90.0.0", 16, 99999)), ENODEV);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, add, "10.90.0.0", 16, 0, "172.31.9.9")), ENETUNREACH);
  EXPECT_EQ(nl_.Ask(Route(RTM_DELROUTE, 0, "10.99.0.0", 16, 0)), ESRCH);
  EXPECT_EQ(nl_.Ask(Route(RTM_DELROUTE, 0, "10.88.0.0", 16, 0, nullptr, 5)), 0);
  EXPECT_EQ(nl_.Ask(Route(RTM_DELROUTE, 0, "10.88.0.0", 16, 0)), 0);
  EXPECT_EQ(nl_.Ask(Route(RTM_DELROUTE, 0, "10.88.0.0", 16, 0)), ESRCH);
}

TEST_F(RouteTest, DumpShowsConnectedAndLocalRoutes) {
  Veth v;
  v.Up();
  ASSERT_EQ(AddAddr(v.index, "10.77.0.1", 24), 0);
  rtmsg m = {};
  m.rtm_family = AF_INET;
  Request r(RTM_GETROUTE, NLM_F_DUMP);
  bool connected = false, local = false, broadcast = false, loopback = false;
  for (const Reply& x : nl_.Dump(r.Put(m))) {
    const rtmsg h = x.As<rtmsg>();
    const uint32_t dst = ntohl(x.U32(sizeof(h), RTA_DST));
    const bool kernel = h.rtm_protocol == RTPROT_KERNEL;
    if (dst == 0x0a4d0000 && h.rtm_dst_len == 24) {
      connected = true;
      EXPECT_TRUE(kernel);
      EXPECT_EQ(h.rtm_table, RT_TABLE_MAIN);
      EXPECT_EQ(h.rtm_scope, RT_SCOPE_LINK);
      EXPECT_EQ(h.rtm_type, RTN_UNICAST);
      EXPECT_EQ(ntohl(x.U32(sizeof(h), RTA_PREFSRC)), 0x0a4d0001u);
      EXPECT_EQ(x.U32(sizeof(h), RTA_OIF), static_cast<uint32_t>(v.index));
    }
    if (dst == 0x0a4d0001 && h.rtm_dst_len == 32) {
      local = true;
      EXPECT_EQ(h.rtm_table, RT_TABLE_LOCAL);
      EXPECT_EQ(h.rtm_scope, RT_SCOPE_HOST);
      EXPECT_EQ(h.rtm_type, RTN_LOCAL);
    }
    if (dst == 0x0a4d00ff && h.rtm_dst_len == 32) {
      broadcast = true;
      EXPECT_EQ(h.rtm_type, RTN_BROADCAST);
      EXPECT_EQ(h.rtm_scope, RT_SCOPE_LINK);
    }
    if (dst == 0x7f000000 && h.rtm_dst_len == 8) {
      loopback = true;
      EXPECT_EQ(h.rtm_table, RT_TABLE_LOCAL);
    }
  }
  EXPECT_TRUE(connected && local && broadcast && loopback);
}

TEST_F(RouteTest, LookupOfOneRoute) {
  Veth v;
  v.Up();
  ASSERT_EQ(AddAddr(v.index, "10.77.0.1", 24), 0);
  const auto ask = [&](const char* dst) {
    rtmsg m = {};
    m.rtm_family = AF_INET;
    m.rtm_dst_len = 32;
    Request r(RTM_GETROUTE, 0);
    r.Put(m).Ip(RTA_DST, dst);
    nl_.Send(r);
    return nl_.Receive();
  };
  std::vector<Reply> got = ask("10.77.0.9");
  ASSERT_EQ(got.size(), 1u);
  ASSERT_EQ(got[0].header.nlmsg_type, RTM_NEWROUTE);
  EXPECT_EQ(got[0].As<rtmsg>().rtm_type, RTN_UNICAST);
  EXPECT_EQ(got[0].As<rtmsg>().rtm_dst_len, 32);
  EXPECT_EQ(got[0].As<rtmsg>().rtm_flags & RTM_F_CLONED, unsigned{RTM_F_CLONED});
  EXPECT_EQ(got[0].U32(sizeof(rtmsg), RTA_OIF), static_cast<uint32_t>(v.index));
  EXPECT_EQ(ntohl(got[0].U32(sizeof(rtmsg), RTA_PREFSRC)), 0x0a4d0001u);
  got = ask("127.0.0.1");
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].As<rtmsg>().rtm_type, RTN_LOCAL);
  EXPECT_EQ(got[0].U32(sizeof(rtmsg), RTA_OIF), static_cast<uint32_t>(lo_));
  got = ask("203.0.113.1");
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].As<nlmsgerr>().error, -ENETUNREACH);
}

TEST_F(RouteTest, Ipv6RoutesComeAndGo) {
  Veth v;
  v.Up();
  const uint16_t add = NLM_F_CREATE | NLM_F_EXCL;
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, add, "2001:db8:9::", 48, v.index)), 0);
  EXPECT_EQ(nl_.Ask(Route(RTM_NEWROUTE, add, "2001:db8:9::", 48, v.index)), EEXIST);
  rtmsg m = {};
  m.rtm_family = AF_INET6;
  Request r(RTM_GETROUTE, NLM_F_DUMP);
  bool found = false;
  for (const Reply& x : nl_.Dump(r.Put(m))) {
    if (x.As<rtmsg>().rtm_dst_len != 48) continue;
    found = true;
    EXPECT_EQ(x.U32(sizeof(rtmsg), RTA_PRIORITY), 1024u);
    EXPECT_EQ(x.U32(sizeof(rtmsg), RTA_TABLE), uint32_t{RT_TABLE_MAIN});
  }
  EXPECT_TRUE(found);
  EXPECT_EQ(nl_.Ask(Route(RTM_DELROUTE, 0, "2001:db8:9::", 48, 0)), 0);
  EXPECT_EQ(nl_.Ask(Route(RTM_DELROUTE, 0, "2001:db8:9::", 48, 0)), ESRCH);
}

TEST_F(RouteTest, BlackholesAnswerLookups) {
  rtmsg m = {};
  m.rtm_family = AF_INET;
  m.rtm_dst_len = 24;
  m.rtm_table = RT_TABLE_MAIN;
  m.rtm_protocol = RTPROT_STATIC;
  const std::pair<uint8_t, int> kinds[] = {
      {RTN_BLACKHOLE, EINVAL}, {RTN_UNREACHABLE, EHOSTUNREACH}, {RTN_PROHIBIT, EACCES}};
  for (const auto& [type, error] : kinds) {
    m.rtm_type = type;
    Request add(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
    ASSERT_EQ(nl_.Ask(add.Put(m).Ip(RTA_DST, "198.18.5.0")), 0);
    rtmsg q = {};
    q.rtm_family = AF_INET;
    q.rtm_dst_len = 32;
    Request get(RTM_GETROUTE, 0);
    EXPECT_EQ(nl_.Ask(get.Put(q).Ip(RTA_DST, "198.18.5.5")), error);
    Request del(RTM_DELROUTE, NLM_F_ACK);
    EXPECT_EQ(nl_.Ask(del.Put(m).Ip(RTA_DST, "198.18.5.0")), 0);
  }
}

// ---- Rules ----

TEST_F(RouteTest, RulesComeAndGo) {
  const auto count = [&](uint8_t family) {
    fib_rule_hdr h = {};
    h.family = family;
    Request r(RTM_GETRULE, NLM_F_DUMP);
    return nl_.Dump(r.Put(h)).size();
  };
  EXPECT_EQ(count(AF_INET), 3u);
  EXPECT_EQ(count(AF_INET6), 2u);
  const auto rule = [&](uint16_t type, uint16_t flags, uint32_t priority) {
    fib_rule_hdr h = {};
    h.family = AF_INET;
    h.action = FR_ACT_TO_TBL;
    h.table = 100;
    h.src_len = 24;
    Request r(type, flags | NLM_F_ACK);
    r.Put(h).Ip(FRA_SRC, "10.5.0.0").U32(FRA_PRIORITY, priority);
    return nl_.Ask(r);
  };
  EXPECT_EQ(rule(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, 500), 0);
  EXPECT_EQ(rule(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, 500), EEXIST);
  EXPECT_EQ(count(AF_INET), 4u);
  EXPECT_EQ(rule(RTM_DELRULE, 0, 600), ENOENT);
  EXPECT_EQ(rule(RTM_DELRULE, 0, 500), 0);
  EXPECT_EQ(count(AF_INET), 3u);
  fib_rule_hdr h = {};
  h.family = AF_INET;
  h.action = FR_ACT_TO_TBL;
  h.src_len = 40;
  Request bad(RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE);
  EXPECT_EQ(nl_.Ask(bad.Put(h).Ip(FRA_SRC, "10.0.0.0")), EINVAL);
  h = {};
  h.family = AF_UNIX;
  Request family(RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE);
  EXPECT_EQ(nl_.Ask(family.Put(h)), EAFNOSUPPORT);
}

TEST_F(RouteTest, RuleWithoutPriorityGoesBeforeMain) {
  fib_rule_hdr h = {};
  h.family = AF_INET;
  h.action = FR_ACT_TO_TBL;
  h.table = 77;
  Request add(RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  ASSERT_EQ(nl_.Ask(add.Put(h)), 0);
  fib_rule_hdr q = {};
  q.family = AF_INET;
  Request r(RTM_GETRULE, NLM_F_DUMP);
  bool found = false;
  for (const Reply& x : nl_.Dump(r.Put(q))) {
    if (x.U32(sizeof(h), FRA_TABLE) != 77) continue;
    found = true;
    EXPECT_EQ(x.U32(sizeof(h), FRA_PRIORITY), 32765u);
    EXPECT_EQ(x.As<fib_rule_hdr>().action, FR_ACT_TO_TBL);
  }
  EXPECT_TRUE(found);
  Request del(RTM_DELRULE, NLM_F_ACK);
  EXPECT_EQ(nl_.Ask(del.Put(h)), 0);
}

// ---- Neighbours ----

TEST_F(RouteTest, NeighboursComeAndGo) {
  Veth v;
  v.Up();
  ASSERT_EQ(AddAddr(v.index, "10.77.0.1", 24), 0);
  const uint8_t mac[6] = {2, 0, 0, 0, 0, 0x42};
  const auto change = [&](uint16_t type, uint16_t flags, int index, const char* ip) {
    ndmsg m = {};
    m.ndm_family = AF_INET;
    m.ndm_ifindex = index;
    m.ndm_state = NUD_PERMANENT;
    Request r(type, flags | NLM_F_ACK);
    r.Put(m).Ip(NDA_DST, ip).Attr(NDA_LLADDR, mac, 6);
    return nl_.Ask(r);
  };
  EXPECT_EQ(change(RTM_NEWNEIGH, 0, v.index, "10.77.0.9"), ENOENT);
  EXPECT_EQ(change(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, v.index, "10.77.0.9"), 0);
  EXPECT_EQ(change(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, v.index, "10.77.0.9"), EEXIST);
  EXPECT_EQ(change(RTM_NEWNEIGH, NLM_F_CREATE, 99999, "10.77.0.9"), ENODEV);
  ndmsg q = {};
  q.ndm_family = AF_INET;
  Request dump(RTM_GETNEIGH, NLM_F_DUMP);
  bool found = false;
  for (const Reply& x : nl_.Dump(dump.Put(q))) {
    if (ntohl(x.U32(sizeof(q), NDA_DST)) != 0x0a4d0009) continue;
    found = true;
    EXPECT_EQ(x.As<ndmsg>().ndm_state, NUD_PERMANENT);
    EXPECT_EQ(x.Attr(sizeof(q), NDA_LLADDR),
              std::string(reinterpret_cast<const char*>(mac), 6));
  }
  EXPECT_TRUE(found);
  EXPECT_EQ(change(RTM_DELNEIGH, 0, v.index, "10.77.0.9"), 0);
  EXPECT_EQ(change(RTM_DELNEIGH, 0, v.index, "10.77.0.8"), ENOENT);
  ndmsg m = {};
  m.ndm_family = AF_INET;
  m.ndm_ifindex = v.index;
  Request no_dst(RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE);
  EXPECT_EQ(nl_.Ask(no_dst.Put(m)), EINVAL);
}

// ---- Notifications ----

TEST_F(RouteTest, ChangesAreTold) {
  Veth v;
  Fd s(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  sockaddr_nl a = {};
  a.nl_family = AF_NETLINK;
  a.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE;
  ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
  v.Up();
  ASSERT_EQ(AddAddr(v.index, "10.77.0.1", 24), 0);
  ASSERT_EQ(nl_.Ask(Addr(RTM_DELADDR, 0, v.index, "10.77.0.1", 24)), 0);
  bool link = false, added = false, removed = false, route = false;
  std::vector<char> buf(65536);
  for (;;) {
    sockaddr_nl from = {};
    socklen_t size = sizeof(from);
    const ssize_t n = recvfrom(s.get(), buf.data(), buf.size(), MSG_DONTWAIT,
                               reinterpret_cast<sockaddr*>(&from), &size);
    if (n < 0) break;
    EXPECT_EQ(from.nl_pid, 0u);
    EXPECT_NE(from.nl_groups, 0u);
    nlmsghdr h;
    memcpy(&h, buf.data(), sizeof(h));
    EXPECT_EQ(h.nlmsg_len, static_cast<uint32_t>(n));
    link = link || h.nlmsg_type == RTM_NEWLINK;
    added = added || h.nlmsg_type == RTM_NEWADDR;
    removed = removed || h.nlmsg_type == RTM_DELADDR;
    route = route || h.nlmsg_type == RTM_NEWROUTE;
  }
  EXPECT_TRUE(link && added && removed && route);
}

TEST_F(RouteTest, SmallBuffersCutNoDump) {
  // Each message is whole even when the reader takes little at a time.
  Request r = GetLink(NLM_F_DUMP);
  ASSERT_TRUE(nl_.Send(r));
  char b[64];
  const ssize_t whole = recv(nl_.fd(), b, sizeof(b), MSG_PEEK | MSG_TRUNC);
  EXPECT_GT(whole, 64);
  std::vector<char> all(static_cast<size_t>(whole));
  EXPECT_EQ(recv(nl_.fd(), all.data(), all.size(), 0), whole);
}

TEST_F(RouteTest, LibraryFunctionsWork) {
  struct if_nameindex* names = if_nameindex();
  ASSERT_NE(names, nullptr);
  bool lo = false;
  for (struct if_nameindex* n = names; n->if_index != 0; n++) lo = lo || n->if_name == std::string("lo");
  if_freenameindex(names);
  EXPECT_TRUE(lo);
  char name[IF_NAMESIZE];
  EXPECT_STREQ(if_indextoname(static_cast<unsigned>(lo_), name), "lo");
}

}  // namespace
}  // namespace ringwall::test
