// The ioctls of netdevice(7), on sockets of every family.
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>

#include "tests/util/netlink.h"

namespace ringwall::test {
namespace {

class NetdeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterOwnNet()) GTEST_SKIP() << "no right to make a network namespace";
    s_.Reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!s_.ok()) s_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(s_.ok());
  }
  static ifreq Named(const char* name) {
    ifreq r = {};
    strncpy(r.ifr_name, name, IFNAMSIZ - 1);
    return r;
  }
  static sockaddr Inet(const char* text) {
    sockaddr_in a = {};
    a.sin_family = AF_INET;
    EXPECT_EQ(inet_pton(AF_INET, text, &a.sin_addr), 1);
    sockaddr s;
    memcpy(&s, &a, sizeof(s));
    return s;
  }
  static std::string Text(const sockaddr& s) {
    sockaddr_in a;
    memcpy(&a, &s, sizeof(a));
    char b[32];
    return inet_ntop(AF_INET, &a.sin_addr, b, sizeof(b));
  }
  Fd s_;
};

TEST_F(NetdeviceTest, LoopbackIsDescribed) {
  ifreq r = Named("lo");
  ASSERT_OK(ioctl(s_.get(), SIOCGIFFLAGS, &r));
  EXPECT_EQ(r.ifr_flags, IFF_UP | IFF_LOOPBACK | IFF_RUNNING);
  ASSERT_OK(ioctl(s_.get(), SIOCGIFADDR, &r));
  EXPECT_EQ(Text(r.ifr_addr), "127.0.0.1");
  EXPECT_EQ(r.ifr_addr.sa_family, AF_INET);
  ASSERT_OK(ioctl(s_.get(), SIOCGIFNETMASK, &r));
  EXPECT_EQ(Text(r.ifr_netmask), "255.0.0.0");
  ASSERT_OK(ioctl(s_.get(), SIOCGIFBRDADDR, &r));
  EXPECT_EQ(Text(r.ifr_broadaddr), "0.0.0.0");
  ASSERT_OK(ioctl(s_.get(), SIOCGIFDSTADDR, &r));
  EXPECT_EQ(Text(r.ifr_dstaddr), "127.0.0.1");
  ASSERT_OK(ioctl(s_.get(), SIOCGIFMTU, &r));
  EXPECT_EQ(r.ifr_mtu, 65536);
  ASSERT_OK(ioctl(s_.get(), SIOCGIFMETRIC, &r));
  EXPECT_EQ(r.ifr_metric, 0);
  ASSERT_OK(ioctl(s_.get(), SIOCGIFTXQLEN, &r));
  EXPECT_EQ(r.ifr_qlen, 1000);
  ASSERT_OK(ioctl(s_.get(), SIOCGIFHWADDR, &r));
  EXPECT_EQ(r.ifr_hwaddr.sa_family, ARPHRD_LOOPBACK);
  EXPECT_EQ(std::string(r.ifr_hwaddr.sa_data, 6), std::string(6, '\0'));
  ASSERT_OK(ioctl(s_.get(), SIOCGIFMAP, &r));
  ASSERT_OK(ioctl(s_.get(), SIOCGIFINDEX, &r));
  const int index = r.ifr_ifindex;
  ifreq back = {};
  back.ifr_ifindex = index;
  ASSERT_OK(ioctl(s_.get(), SIOCGIFNAME, &back));
  EXPECT_STREQ(back.ifr_name, "lo");
}

TEST_F(NetdeviceTest, AbsentInterfacesAreNoDevice) {
  for (unsigned long cmd : {SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFBRDADDR, SIOCGIFMTU,
                            SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFTXQLEN, SIOCGIFMAP, SIOCSIFMTU}) {
    ifreq r = Named("nosuch0");
    EXPECT_FAILS(ioctl(s_.get(), cmd, &r), ENODEV) << cmd;
    EXPECT_FAILS(ioctl(s_.get(), cmd, BadAddress()), EFAULT) << cmd;
  }
  ifreq r = {};
  r.ifr_ifindex = 99999;
  EXPECT_FAILS(ioctl(s_.get(), SIOCGIFNAME, &r), ENODEV);
  EXPECT_FAILS(ioctl(s_.get(), SIOCGIFNAME, BadAddress()), EFAULT);
}

TEST_F(NetdeviceTest, ConfListsAddresses) {
  ifconf c = {};
  ASSERT_OK(ioctl(s_.get(), SIOCGIFCONF, &c));  // only the size
  EXPECT_GE(c.ifc_len, static_cast<int>(sizeof(ifreq)));
  std::vector<ifreq> all(16);
  c.ifc_len = static_cast<int>(all.size() * sizeof(ifreq));
  c.ifc_req = all.data();
  ASSERT_OK(ioctl(s_.get(), SIOCGIFCONF, &c));
  bool lo = false;
  for (size_t i = 0; i < c.ifc_len / sizeof(ifreq); i++) {
    if (std::string(all[i].ifr_name) != "lo") continue;
    lo = true;
    EXPECT_EQ(Text(all[i].ifr_addr), "127.0.0.1");
  }
  EXPECT_TRUE(lo);
  c.ifc_len = static_cast<int>(sizeof(ifreq)) - 1;
  ASSERT_OK(ioctl(s_.get(), SIOCGIFCONF, &c));
  EXPECT_EQ(c.ifc_len, 0);
  EXPECT_FAILS(ioctl(s_.get(), SIOCGIFCONF, BadAddress()), EFAULT);
}

TEST_F(NetdeviceTest, EveryFamilyAnswersForLinks) {
  for (int family : {AF_UNIX, AF_INET, AF_NETLINK}) {
    Fd s(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!s.ok()) continue;
    ifreq r = Named("lo");
    EXPECT_OK(ioctl(s.get(), SIOCGIFFLAGS, &r)) << family;
    EXPECT_OK(ioctl(s.get(), SIOCGIFINDEX, &r)) << family;
  }
  Fd u(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq r = Named("lo");
  EXPECT_FAILS(ioctl(u.get(), SIOCGIFADDR, &r), ENOTTY);
  rtentry rt = {};
  EXPECT_FAILS(ioctl(u.get(), SIOCADDRT, &rt), ENOTTY);
}

TEST_F(NetdeviceTest, LinksChange) {
  Veth v;
  ifreq r = Named("rwa");
  r.ifr_mtu = 1300;
  EXPECT_OK(ioctl(s_.get(), SIOCSIFMTU, &r));
  ASSERT_OK(ioctl(s_.get(), SIOCGIFMTU, &r));
  EXPECT_EQ(r.ifr_mtu, 1300);
  r.ifr_mtu = 1;
  EXPECT_FAILS(ioctl(s_.get(), SIOCSIFMTU, &r), EINVAL);
  r.ifr_mtu = 100000;
  EXPECT_FAILS(ioctl(s_.get(), SIOCSIFMTU, &r), EINVAL);
  r.ifr_qlen = 77;
  EXPECT_OK(ioctl(s_.get(), SIOCSIFTXQLEN, &r));
  ASSERT_OK(ioctl(s_.get(), SIOCGIFTXQLEN, &r));
  EXPECT_EQ(r.ifr_qlen, 77);
  r.ifr_qlen = -1;
  EXPECT_FAILS(ioctl(s_.get(), SIOCSIFTXQLEN, &r), EINVAL);
  memset(&r.ifr_hwaddr, 0, sizeof(r.ifr_hwaddr));
  r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  memcpy(r.ifr_hwaddr.sa_data, "\2\0\0\0\0\7", 6);
  EXPECT_OK(ioctl(s_.get(), SIOCSIFHWADDR, &r));
  ASSERT_OK(ioctl(s_.get(), SIOCGIFHWADDR, &r));
  EXPECT_EQ(std::string(r.ifr_hwaddr.sa_data, 6), std::string("\2\0\0\0\0\7", 6));
  r.ifr_hwaddr.sa_family = ARPHRD_LOOPBACK;
  EXPECT_FAILS(ioctl(s_.get(), SIOCSIFHWADDR, &r), EINVAL);
  r.ifr_flags = IFF_UP | IFF_PROMISC;
  EXPECT_OK(ioctl(s_.get(), SIOCSIFFLAGS, &r));
  ASSERT_OK(ioctl(s_.get(), SIOCGIFFLAGS, &r));
  EXPECT_EQ(r.ifr_flags & (IFF_UP | IFF_PROMISC), IFF_UP | IFF_PROMISC);
  strcpy(r.ifr_newname, "rwq");
  EXPECT_OK(ioctl(s_.get(), SIOCSIFNAME, &r));
  EXPECT_EQ(static_cast<int>(if_nametoindex("rwq")), v.index);
  r = Named("rwq");
  r.ifr_metric = 1;
  EXPECT_FAILS(ioctl(s_.get(), SIOCSIFMETRIC, &r), EOPNOTSUPP);
}

TEST_F(NetdeviceTest, AddressesChange) {
  Veth v;
  ifreq r = Named("rwa");
  EXPECT_FAILS(ioctl(s_.get(), SIOCGIFADDR, &r), EADDRNOTAVAIL);
  r.ifr_addr = Inet("10.66.0.1");
  ASSERT_OK(ioctl(s_.get(), SIOCSIFADDR, &r));
  ASSERT_OK(ioctl(s_.get(), SIOCGIFNETMASK, &r));
  EXPECT_EQ(Text(r.ifr_netmask), "255.0.0.0");  // of its class
  ASSERT_OK(ioctl(s_.get(), SIOCGIFBRDADDR, &r));
  EXPECT_EQ(Text(r.ifr_broadaddr), "10.255.255.255");
  ASSERT_OK(ioctl(s_.get(), SIOCGIFFLAGS, &r));
  EXPECT_EQ(r.ifr_flags & IFF_UP, 0);  // an address does not take the link up
  r.ifr_netmask = Inet("255.255.255.0");
  ASSERT_OK(ioctl(s_.get(), SIOCSIFNETMASK, &r));
  ASSERT_OK(ioctl(s_.get(), SIOCGIFNETMASK, &r));
  EXPECT_EQ(Text(r.ifr_netmask), "255.255.255.0");
  ASSERT_OK(ioctl(s_.get(), SIOCGIFBRDADDR, &r));
  EXPECT_EQ(Text(r.ifr_broadaddr), "10.66.0.255");
  r.ifr_netmask = Inet("255.0.255.0");
  EXPECT_FAILS(ioctl(s_.get(), SIOCSIFNETMASK, &r), EINVAL);
  r.ifr_addr = Inet("10.66.0.1");
  r.ifr_addr.sa_family = AF_UNIX;
  EXPECT_FAILS(ioctl(s_.get(), SIOCSIFADDR, &r), EINVAL);
  ifreq alias = Named("rwa:1");
  alias.ifr_addr = Inet("10.67.0.1");
  ASSERT_OK(ioctl(s_.get(), SIOCSIFADDR, &alias));
  ASSERT_OK(ioctl(s_.get(), SIOCGIFADDR, &alias));
  EXPECT_EQ(Text(alias.ifr_addr), "10.67.0.1");
  r.ifr_addr = Inet("0.0.0.0");
  ASSERT_OK(ioctl(s_.get(), SIOCSIFADDR, &r));
  EXPECT_FAILS(ioctl(s_.get(), SIOCGIFADDR, &r), EADDRNOTAVAIL);
}

TEST_F(NetdeviceTest, RoutesComeAndGo) {
  Veth v;
  v.Up();
  ifreq r = Named("rwa");
  r.ifr_addr = Inet("10.66.0.1");
  ASSERT_OK(ioctl(s_.get(), SIOCSIFADDR, &r));
  char dev[] = "rwa";
  rtentry rt = {};
  rt.rt_dst = Inet("172.20.0.0");
  rt.rt_genmask = Inet("255.255.0.0");
  rt.rt_flags = RTF_UP;
  rt.rt_dev = dev;
  EXPECT_OK(ioctl(s_.get(), SIOCADDRT, &rt));
  EXPECT_FAILS(ioctl(s_.get(), SIOCADDRT, &rt), EEXIST);
  EXPECT_OK(ioctl(s_.get(), SIOCDELRT, &rt));
  EXPECT_FAILS(ioctl(s_.get(), SIOCDELRT, &rt), ESRCH);
  rt.rt_dst = Inet("172.20.0.1");
  EXPECT_FAILS(ioctl(s_.get(), SIOCADDRT, &rt), EINVAL);  // host bits under the mask
  rt.rt_dst = Inet("172.20.0.0");
  rt.rt_flags = RTF_UP | RTF_GATEWAY;
  rt.rt_dev = nullptr;
  rt.rt_gateway = Inet("10.66.0.9");
  EXPECT_OK(ioctl(s_.get(), SIOCADDRT, &rt));
  EXPECT_OK(ioctl(s_.get(), SIOCDELRT, &rt));
  rt.rt_gateway = Inet("192.0.2.1");
  EXPECT_FAILS(ioctl(s_.get(), SIOCADDRT, &rt), ENETUNREACH);
  rt.rt_dst.sa_family = AF_UNIX;
  EXPECT_FAILS(ioctl(s_.get(), SIOCADDRT, &rt), EAFNOSUPPORT);
}

TEST_F(NetdeviceTest, NeighboursComeAndGo) {
  Veth v;
  ifreq r = Named("rwa");
  r.ifr_addr = Inet("10.66.0.1");
  ASSERT_OK(ioctl(s_.get(), SIOCSIFADDR, &r));
  arpreq a = {};
  a.arp_pa = Inet("10.66.0.7");
  a.arp_ha.sa_family = ARPHRD_ETHER;
  memcpy(a.arp_ha.sa_data, "\2\0\0\0\0\7", 6);
  a.arp_flags = ATF_PERM | ATF_COM;
  strcpy(a.arp_dev, "rwa");
  ASSERT_OK(ioctl(s_.get(), SIOCSARP, &a));
  arpreq g = {};
  g.arp_pa = a.arp_pa;
  strcpy(g.arp_dev, "rwa");
  ASSERT_OK(ioctl(s_.get(), SIOCGARP, &g));
  EXPECT_EQ(g.arp_flags, ATF_PERM | ATF_COM);
  EXPECT_EQ(std::string(g.arp_ha.sa_data, 6), std::string("\2\0\0\0\0\7", 6));
  EXPECT_OK(ioctl(s_.get(), SIOCDARP, &a));
  g.arp_pa = Inet("10.66.0.8");
  EXPECT_FAILS(ioctl(s_.get(), SIOCGARP, &g), ENXIO);
  strcpy(g.arp_dev, "nosuch0");
  EXPECT_FAILS(ioctl(s_.get(), SIOCGARP, &g), ENODEV);
}

TEST_F(NetdeviceTest, OrdinaryUsersMayOnlyLook) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    Fd s(socket(AF_INET, SOCK_STREAM, 0));
    ifreq r = Named("lo");
    CHECK_CHILD(ioctl(s.get(), SIOCGIFFLAGS, &r) == 0);
    CHECK_CHILD(ioctl(s.get(), SIOCSIFFLAGS, &r) == -1 && errno == EPERM);
    CHECK_CHILD(ioctl(s.get(), SIOCSIFADDR, &r) == -1 && errno == EPERM);
    CHECK_CHILD(ioctl(s.get(), SIOCSIFMTU, &r) == -1 && errno == EPERM);
    rtentry rt = {};
    CHECK_CHILD(ioctl(s.get(), SIOCADDRT, &rt) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST_F(NetdeviceTest, EthtoolTellsOfTheLink) {
  Veth v;
  v.Up();
  ifreq r = Named("rwa");
  ethtool_value value = {ETHTOOL_GLINK, 99};
  r.ifr_data = reinterpret_cast<char*>(&value);
  ASSERT_OK(ioctl(s_.get(), SIOCETHTOOL, &r));
  EXPECT_EQ(value.data, 1u);
  ethtool_drvinfo info = {};
  info.cmd = ETHTOOL_GDRVINFO;
  r.ifr_data = reinterpret_cast<char*>(&info);
  ASSERT_OK(ioctl(s_.get(), SIOCETHTOOL, &r));
  EXPECT_STREQ(info.driver, "veth");
  uint32_t unknown = 0xffff;
  r.ifr_data = reinterpret_cast<char*>(&unknown);
  EXPECT_FAILS(ioctl(s_.get(), SIOCETHTOOL, &r), EOPNOTSUPP);
  r.ifr_data = static_cast<char*>(BadAddress());
  EXPECT_FAILS(ioctl(s_.get(), SIOCETHTOOL, &r), EFAULT);
}

}  // namespace
}  // namespace ringwall::test
