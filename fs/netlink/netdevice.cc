// The ioctls of netdevice(7), arp(7) and the routing table, which every kind of socket answers
// (net/core/dev_ioctl.c, net/ipv4/devinet.c, net/ipv6/addrconf.c, net/ethtool/ioctl.c).
#include "fs/netlink/netdevice.h"

#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/sockios.h>
#include <net/route.h>
#include <netinet/in.h>

#include <algorithm>

#include "fs/netlink/route.h"
#include "fs/socket/net_namespace.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall::netlink {
namespace {

// struct ifreq.
struct IfReq {
  char name[16];
  uint8_t data[24];
};
static_assert(sizeof(IfReq) == 40);

struct SockaddrIn {
  uint16_t family, port;
  uint8_t addr[4];
  uint8_t zero[8];
};
static_assert(sizeof(SockaddrIn) == 16);

std::string NameOf(const IfReq& r) { return std::string(r.name, strnlen(r.name, sizeof(r.name) - 1)); }

template <typename T>
T Get(const IfReq& r) {
  static_assert(sizeof(T) <= sizeof(r.data));
  T v;
  memcpy(&v, r.data, sizeof(v));
  return v;
}

template <typename T>
void Set(IfReq& r, const T& v) {
  static_assert(sizeof(T) <= sizeof(r.data));
  memcpy(r.data, &v, sizeof(v));
}

SockaddrIn InetOf(const net::IpAddr& a) {
  SockaddrIn s = {};
  s.family = AF_INET;
  if (a.is_v4()) memcpy(s.addr, a.data(), 4);
  return s;
}

net::IpAddr MaskOf(uint8_t len) { return net::IpAddr::V4(len == 0 ? 0 : ~0u << (32 - len)); }

Result<void> NeedAdmin(Task& t) {
  if (!t.creds().HasIn(t.net().user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
  return {};
}

uint16_t HardwareType(const net::InterfaceInfo& i) {
  if (i.kind == net::LinkKind::kLoopback) return ARPHRD_LOOPBACK;
  return i.kind == net::LinkKind::kEthernet ? ARPHRD_ETHER : ARPHRD_NONE;
}

// SIOCGIFCONF: the IPv4 addresses, by label.
Result<int64_t> IfConf(Task& t, net::Stack& stack, uint64_t arg) {
  struct IfConfAbi {
    int32_t length;
    uint32_t pad;
    uint64_t buffer;
  };
  IfConfAbi conf = TRY(UserIn<IfConfAbi>(GuestAddr(arg)).CopyIn(t));
  std::vector<IfReq> all;
  for (const net::InterfaceInfo& i : stack.Interfaces()) {
    for (const net::InterfaceAddress& a : i.addresses) {
      if (!a.prefix.addr.is_v4()) continue;
      IfReq r = {};
      const std::string& name = a.label.empty() ? i.name : a.label;
      memcpy(r.name, name.data(), std::min<size_t>(name.size(), sizeof(r.name) - 1));
      Set(r, InetOf(a.prefix.addr));
      all.push_back(r);
    }
  }
  if (conf.buffer == 0) {
    conf.length = static_cast<int32_t>(all.size() * sizeof(IfReq));
  } else {
    const size_t room = conf.length < 0 ? 0 : static_cast<size_t>(conf.length) / sizeof(IfReq);
    const size_t n = std::min(room, all.size());
    if (n != 0) {
      TRY(t.CopyOut(GuestAddr(conf.buffer), std::as_bytes(std::span(all).first(n))));
    }
    conf.length = static_cast<int32_t>(n * sizeof(IfReq));
  }
  TRY(t.CopyOut(GuestAddr(arg), std::as_bytes(std::span(&conf, 1))));
  return 0;
}

// ---- IPv4 addresses of an interface (devinet_ioctl()) ----

const net::InterfaceAddress* FindV4(const net::InterfaceInfo& i, const std::string& label) {
  for (const net::InterfaceAddress& a : i.addresses) {
    if (!a.prefix.addr.is_v4()) continue;
    if (label == (a.label.empty() ? i.name : a.label)) return &a;
  }
  return nullptr;
}

Result<int64_t> InetIoctl(Task& t, net::Stack& stack, uint32_t cmd, uint64_t arg) {
  IfReq r;
  TRY(t.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&r, 1))));
  const std::string label = NameOf(r);
  const std::string name = label.substr(0, label.find(':'));
  const bool get = cmd == SIOCGIFADDR || cmd == SIOCGIFBRDADDR || cmd == SIOCGIFDSTADDR ||
                   cmd == SIOCGIFNETMASK;
  SockaddrIn sin = Get<SockaddrIn>(r);
  if (!get) {
    TRY(NeedAdmin(t));
    if (sin.family != AF_INET && cmd != SIOCSIFFLAGS) return Errno(EINVAL);
  }
  const std::optional<net::InterfaceInfo> i = stack.FindInterfaceInfo(std::string_view(name));
  if (!i) return Errno(ENODEV);
  const net::InterfaceAddress* have = FindV4(*i, label);
  if (cmd == SIOCSIFFLAGS) {  // of an alias, which goes when it is taken down
    if (have == nullptr) return Errno(EADDRNOTAVAIL);
    if ((Get<uint16_t>(r) & IFF_UP) == 0) TRY(FromNet(stack.RemoveAddress(i->index, have->prefix)));
    return 0;
  }
  if (have == nullptr && cmd != SIOCSIFADDR) return Errno(EADDRNOTAVAIL);
  if (get) {
    switch (cmd) {
      case SIOCGIFADDR: sin = InetOf(have->prefix.addr); break;
      case SIOCGIFBRDADDR: sin = InetOf(have->broadcast); break;
      case SIOCGIFDSTADDR: sin = InetOf(have->peer.IsNone() ? have->prefix.addr : have->peer); break;
      default: sin = InetOf(MaskOf(have->prefix.len)); break;
    }
    Set(r, sin);
    TRY(t.CopyOut(GuestAddr(arg), std::as_bytes(std::span(&r, 1))));
    return 0;
  }
  const net::IpAddr given = net::IpAddr::V4(sin.addr);
  net::InterfaceAddress a = have != nullptr ? *have : net::InterfaceAddress();
  if (label != name) a.label = label;
  switch (cmd) {
    case SIOCSIFADDR: {
      // inet_abc_len(): the class's own mask.
      if (given.IsLimitedBroadcast() || given.IsMulticast()) return Errno(EINVAL);
      const uint32_t v = given.v4();
      a = {};
      if (label != name) a.label = label;
      const uint8_t len = given.IsAny() ? 0 : v >> 31 == 0 ? 8 : v >> 30 == 2 ? 16 : 24;
      if (v >> 28 >= 0xe) return Errno(EINVAL);
      a.prefix = {given, len};
      if (i->kind == net::LinkKind::kIp) a.prefix.len = 32;
      if (i->kind == net::LinkKind::kEthernet) {
        if (std::optional<net::IpAddr> b = a.prefix.Broadcast()) a.broadcast = *b;
      }
      if (i->kind == net::LinkKind::kLoopback) a.scope = 254;
      if (have != nullptr && have->prefix.addr == given) return 0;
      break;
    }
    case SIOCSIFBRDADDR: a.broadcast = given; break;
    case SIOCSIFDSTADDR:
      if (given.IsAny()) return Errno(EINVAL);
      a.peer = given;
      break;
    default: {
      const uint32_t m = given.v4();
      const uint32_t host = ~m;
      if ((host & (host + 1)) != 0) return Errno(EINVAL);
      const std::optional<net::IpAddr> old = have->prefix.Broadcast();
      a.prefix.len = static_cast<uint8_t>(m == 0 ? 0 : 32 - __builtin_popcount(host));
      // A broadcast address that followed from the mask follows again.
      if (old && have->broadcast == *old) {
        if (std::optional<net::IpAddr> b = a.prefix.Broadcast()) a.broadcast = *b;
      }
      break;
    }
  }
  if (have != nullptr) {
    TRY(FromNet(stack.RemoveAddress(i->index, have->prefix)));
  }
  if (cmd == SIOCSIFADDR && given.IsAny()) return 0;
  Result<void> put = FromNet(stack.PutAddress(i->index, a, false));
  if (!put.ok() && cmd == SIOCSIFADDR) return put.error();  // inet_insert_ifa()'s answer is lost for the rest
  return 0;
}

// struct in6_ifreq.
Result<int64_t> Inet6Ioctl(Task& t, net::Stack& stack, uint32_t cmd, uint64_t arg) {
  struct In6IfReq {
    uint8_t addr[16];
    uint32_t prefix_length;
    int32_t index;
  };
  TRY(NeedAdmin(t));
  const In6IfReq r = TRY(UserIn<In6IfReq>(GuestAddr(arg)).CopyIn(t));
  if (!stack.FindInterfaceInfo(static_cast<net::IfIndex>(r.index))) return Errno(ENODEV);
  if (r.prefix_length > 128) return Errno(EINVAL);
  net::InterfaceAddress a;
  a.prefix = {net::IpAddr::V6(r.addr), static_cast<uint8_t>(r.prefix_length)};
  const net::IfIndex index = static_cast<net::IfIndex>(r.index);
  if (cmd == SIOCSIFADDR) {
    TRY(FromNet(stack.PutAddress(index, a, false)));
  } else {
    TRY(FromNet(stack.RemoveAddress(index, a.prefix)));
  }
  return 0;
}

// ---- Links (dev_ifsioc()) ----

Result<void> GetLink(IfReq& r, const net::InterfaceInfo& i, uint32_t cmd) {
  switch (cmd) {
    case SIOCGIFFLAGS:
      memset(r.data, 0, sizeof(r.data));
      Set(r, static_cast<uint16_t>(i.flags & 0xffff));
      return {};
    case SIOCGIFMETRIC: Set(r, int32_t{0}); return {};
    case SIOCGIFMTU: Set(r, static_cast<int32_t>(i.mtu)); return {};
    case SIOCGIFHWADDR: {
      uint8_t a[16] = {};
      const uint16_t type = HardwareType(i);
      memcpy(a, &type, 2);
      memcpy(a + 2, i.mac.b.data(), 6);
      memcpy(r.data, a, sizeof(a));
      return {};
    }
    case SIOCGIFMAP: memset(r.data, 0, sizeof(r.data)); return {};
    case SIOCGIFINDEX: Set(r, static_cast<int32_t>(i.index)); return {};
    case SIOCGIFTXQLEN: Set(r, static_cast<int32_t>(i.config.tx_queue_len)); return {};
    case SIOCGIFSLAVE: return Errno(EINVAL);
    default: return Errno(ENOTTY);
  }
}

Result<void> SetLink(net::Stack& stack, const IfReq& r, const net::InterfaceInfo& i,
                     uint32_t cmd) {
  net::LinkChange c;
  switch (cmd) {
    case SIOCSIFFLAGS:
      c.flags = Get<uint16_t>(r);
      c.flags_mask = 0xffff;
      break;
    case SIOCSIFMETRIC: return Errno(EOPNOTSUPP);
    case SIOCSIFMTU: {
      const int32_t mtu = Get<int32_t>(r);
      if (mtu < 0) return Errno(EINVAL);
      c.mtu = static_cast<uint32_t>(mtu);
      break;
    }
    case SIOCSIFHWADDR: {
      if (Get<uint16_t>(r) != HardwareType(i)) return Errno(EINVAL);
      c.mac = net::MacAddr::From(r.data + 2);
      break;
    }
    case SIOCSIFHWBROADCAST:
      if (Get<uint16_t>(r) != HardwareType(i)) return Errno(EINVAL);
      c.broadcast = net::MacAddr::From(r.data + 2);
      break;
    case SIOCSIFMAP: return Errno(EOPNOTSUPP);
    case SIOCADDMULTI:
    case SIOCDELMULTI:
      if (Get<uint16_t>(r) != AF_UNSPEC || i.kind == net::LinkKind::kLoopback) return Errno(EINVAL);
      return {};
    case SIOCSIFSLAVE: return Errno(EINVAL);
    case SIOCSIFTXQLEN: {
      const int32_t n = Get<int32_t>(r);
      if (n < 0) return Errno(EINVAL);
      c.tx_queue_len = static_cast<uint32_t>(n);
      break;
    }
    case SIOCSIFNAME:
      c.name = std::string(reinterpret_cast<const char*>(r.data), strnlen(
          reinterpret_cast<const char*>(r.data), 15));
      if (c.name.empty()) return Errno(EINVAL);
      break;
    default: return Errno(ENOTTY);
  }
  return FromNet(stack.ChangeLink(i.index, c));
}

Result<int64_t> LinkIoctl(Task& t, net::Stack& stack, uint32_t cmd, uint64_t arg, bool set) {
  IfReq r;
  TRY(t.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&r, 1))));
  r.name[sizeof(r.name) - 1] = 0;
  std::string name = NameOf(r);
  const bool alias = name.find(':') != std::string::npos;
  if (alias && cmd == SIOCSIFFLAGS) return InetIoctl(t, stack, cmd, arg);
  name = name.substr(0, name.find(':'));
  if (set) {
    TRY(NeedAdmin(t));
  }
  const std::optional<net::InterfaceInfo> i = stack.FindInterfaceInfo(std::string_view(name));
  if (!i) return Errno(ENODEV);
  if (set) {
    TRY(SetLink(stack, r, *i, cmd));
    return 0;
  }
  TRY(GetLink(r, *i, cmd));
  TRY(t.CopyOut(GuestAddr(arg), std::as_bytes(std::span(&r, 1))));
  return 0;
}

Result<int64_t> IfName(Task& t, net::Stack& stack, uint64_t arg) {
  IfReq r;
  TRY(t.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&r, 1))));
  const std::string name = stack.NameOf(static_cast<net::IfIndex>(Get<int32_t>(r)));
  if (name.empty()) return Errno(ENODEV);
  memset(r.name, 0, sizeof(r.name));
  memcpy(r.name, name.data(), std::min(name.size(), sizeof(r.name) - 1));
  TRY(t.CopyOut(GuestAddr(arg), std::as_bytes(std::span(&r, 1))));
  return 0;
}

// ---- Routes (ip_rt_ioctl()) ----

Result<int64_t> RouteIoctl(Task& t, net::Stack& stack, uint32_t cmd, uint64_t arg) {
  TRY(NeedAdmin(t));
  rtentry rt;
  TRY(t.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&rt, 1))));
  const auto inet = [](const sockaddr& a) {
    SockaddrIn s;
    memcpy(&s, &a, sizeof(s));
    return s;
  };
  const SockaddrIn dst = inet(rt.rt_dst), gateway = inet(rt.rt_gateway), mask = inet(rt.rt_genmask);
  if (dst.family != AF_INET) return Errno(EAFNOSUPPORT);
  net::RouteEntry r;
  uint8_t len = 32;
  if ((rt.rt_flags & RTF_HOST) == 0) {
    const uint32_t m = ntohl(ReadAs<uint32_t>(mask.addr));
    if (mask.family != AF_INET && (m != 0 || mask.family != 0)) return Errno(EAFNOSUPPORT);
    const uint32_t host = ~m;
    if ((host & (host + 1)) != 0) return Errno(EINVAL);
    len = static_cast<uint8_t>(m == 0 ? 0 : 32 - __builtin_popcount(host));
  }
  r.dst = {net::IpAddr::V4(dst.addr), len};
  if (r.dst.Network() != r.dst.addr) return Errno(EINVAL);
  if (rt.rt_metric > 0) r.metric = static_cast<uint32_t>(rt.rt_metric - 1);
  if ((rt.rt_flags & RTF_REJECT) != 0) r.type = net::RouteType::kUnreachable;
  if (rt.rt_dev != nullptr && r.type == net::RouteType::kUnicast) {
    std::string name = TRY(t.CopyInString(GuestAddr(reinterpret_cast<uint64_t>(rt.rt_dev)), 16));
    name = name.substr(0, name.find(':'));
    r.oif = stack.IndexOf(name);
    if (r.oif == 0) return Errno(ENODEV);
    r.scope = RT_SCOPE_LINK;
  }
  if ((rt.rt_flags & RTF_GATEWAY) != 0 && gateway.family == AF_INET) {
    r.gateway = net::IpAddr::V4(gateway.addr);
    if (r.gateway.IsAny()) r.gateway = {};
    r.scope = 0;
  }
  if (cmd == SIOCDELRT) return Result<int64_t>([&]() -> Result<int64_t> {
    TRY(FromNet(stack.RemoveRoute(r)));
    return 0;
  }());
  if ((rt.rt_flags & RTF_GATEWAY) != 0 && r.gateway.IsNone()) return Errno(EINVAL);
  if ((rt.rt_flags & RTF_MTU) != 0) r.advmss = static_cast<uint32_t>(rt.rt_mtu) - 40;
  TRY(FromNet(stack.AddRoute(r, net::RouteAdd{})));
  return 0;
}

// ---- Neighbours (arp_ioctl()) ----

Result<int64_t> ArpIoctl(Task& t, net::Stack& stack, uint32_t cmd, uint64_t arg) {
  struct ArpReq {
    SockaddrIn pa;
    uint8_t ha[16];
    int32_t flags;
    SockaddrIn netmask;
    char dev[16];
  };
  static_assert(sizeof(ArpReq) == 68);
  if (cmd != SIOCGARP) {
    TRY(NeedAdmin(t));
  }
  ArpReq r = TRY(UserIn<ArpReq>(GuestAddr(arg)).CopyIn(t));
  if (r.pa.family != AF_INET) return Errno(EPFNOSUPPORT);
  const net::IpAddr addr = net::IpAddr::V4(r.pa.addr);
  const std::string dev(r.dev, strnlen(r.dev, sizeof(r.dev) - 1));
  net::IfIndex index = 0;
  if (!dev.empty()) {
    index = stack.IndexOf(dev);
    if (index == 0) return Errno(ENODEV);
  } else if (cmd == SIOCGARP) {
    return Errno(ENODEV);
  } else {
    net::NetResult<net::Route> route = stack.LookupRoute({.dst = addr});
    if (!route.ok()) return net::ToErrno(route.error());
    index = route->oif;
  }
  switch (cmd) {
    case SIOCGARP:
      for (const net::NeighbourInfo& n : stack.Neighbours(index)) {
        if (n.addr != addr || n.state == net::Nud::kNoArp) continue;
        const uint16_t type = ARPHRD_ETHER;
        memset(r.ha, 0, sizeof(r.ha));
        memcpy(r.ha, &type, 2);
        memcpy(r.ha + 2, n.mac.b.data(), 6);
        r.flags = n.state == net::Nud::kPermanent                                        ? 6
                  : n.state == net::Nud::kIncomplete || n.state == net::Nud::kFailed ? 0 : 2;
        TRY(t.CopyOut(GuestAddr(arg), std::as_bytes(std::span(&r, 1))));
        return 0;
      }
      return Errno(ENXIO);
    case SIOCSARP: {
      net::NeighbourInfo n;
      n.addr = addr;
      n.mac = net::MacAddr::From(r.ha + 2);
      n.state = (r.flags & ATF_PERM) != 0 ? net::Nud::kPermanent : net::Nud::kStale;
      TRY(FromNet(stack.SetNeighbour(index, n, net::RouteAdd{.exclusive = false, .replace = true})));
      return 0;
    }
    default:
      if (!stack.RemoveNeighbour(index, addr).ok()) return Errno(ENXIO);
      return 0;
  }
}

// ---- Ethtool ----

Result<int64_t> Ethtool(Task& t, net::Stack& stack, uint64_t arg) {
  IfReq r;
  TRY(t.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&r, 1))));
  const GuestAddr data(Get<uint64_t>(r));
  const uint32_t cmd = TRY(UserIn<uint32_t>(data).CopyIn(t));
  const std::string name = NameOf(r);
  const std::optional<net::InterfaceInfo> i =
      stack.FindInterfaceInfo(std::string_view(name).substr(0, name.find(':')));
  if (!i) return Errno(ENODEV);
  const auto value = [&](uint32_t v) -> Result<int64_t> {
    const uint32_t out[2] = {cmd, v};
    TRY(t.CopyOut(data, std::as_bytes(std::span(out))));
    return 0;
  };
  switch (cmd) {
    case ETHTOOL_GDRVINFO: {
      ethtool_drvinfo info = {};
      info.cmd = cmd;
      const std::string driver = i->config.type.empty() ? "ringwall" : i->config.type;
      if (i->kind == net::LinkKind::kLoopback) return Errno(EOPNOTSUPP);
      memcpy(info.driver, driver.data(), std::min(driver.size(), sizeof(info.driver) - 1));
      memcpy(info.version, "1.0", 3);
      TRY(t.CopyOut(data, std::as_bytes(std::span(&info, 1))));
      return 0;
    }
    case ETHTOOL_GLINK: return value(i->config.carrier && i->up);
    case ETHTOOL_GTSO: return value(i->config.tx_tso || i->kind == net::LinkKind::kLoopback);
    case ETHTOOL_GGSO: return value(1);
    case ETHTOOL_GGRO: return value(0);
    case ETHTOOL_GSG: return value(1);
    case ETHTOOL_GTXCSUM: return value(i->config.tx_checksum || i->kind == net::LinkKind::kLoopback);
    case ETHTOOL_GRXCSUM: return value(i->config.rx_checksum || i->kind == net::LinkKind::kLoopback);
    case ETHTOOL_GUFO: return value(0);
    case ETHTOOL_GFLAGS: return value(0);
    case ETHTOOL_GPERMADDR: {
      struct {
        uint32_t cmd, size;
        uint8_t mac[6];
      } out = {cmd, 6, {}};
      memcpy(out.mac, i->mac.b.data(), 6);
      TRY(t.CopyOut(data, std::as_bytes(std::span(&out, 1)).first(14)));
      return 0;
    }
    case ETHTOOL_GET_TS_INFO: {
      ethtool_ts_info info = {};
      info.cmd = cmd;
      info.so_timestamping = 0x18;  // software receive stamps
      info.phc_index = -1;
      TRY(t.CopyOut(data, std::as_bytes(std::span(&info, 1))));
      return 0;
    }
    case ETHTOOL_GSET:
    case ETHTOOL_GLINKSETTINGS: return Errno(EOPNOTSUPP);
    default:
      TRY(NeedAdmin(t));
      return Errno(EOPNOTSUPP);
  }
}

Result<IfReq> CopyInRequest(Task& t, uint64_t arg) {
  IfReq r;
  TRY(t.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&r, 1))));
  return r;
}

// What only a driver could answer, and no device here has one that does.
bool OfDriver(uint32_t cmd) {
  if (cmd >= SIOCDEVPRIVATE && cmd < SIOCDEVPRIVATE + 16) return true;
  if (cmd >= SIOCBONDENSLAVE && cmd <= SIOCBONDCHANGEACTIVE) return true;
  return cmd == SIOCGMIIPHY || cmd == SIOCGMIIREG || cmd == SIOCWANDEV || cmd == SIOCGHWTSTAMP;
}

// sock_do_ioctl(): who asks for what nobody knows has to bring a request all the same.
Result<int64_t> Unknown(Task& t, uint32_t cmd, uint64_t arg) {
  if ((cmd >> 8 & 0xff) == 0x89) TRY(CopyInRequest(t, arg));
  return Errno(ENOTTY);
}

}  // namespace

Result<int64_t> DeviceIoctl(Task& t, Socket& s, uint32_t cmd, uint64_t arg) {
  net::Stack& stack = s.net().stack();
  switch (cmd) {
    case SIOCGIFCONF: return IfConf(t, stack, arg);
    case SIOCGIFNAME: return IfName(t, stack, arg);
    case SIOCGIFFLAGS:
    case SIOCGIFMETRIC:
    case SIOCGIFMTU:
    case SIOCGIFHWADDR:
    case SIOCGIFSLAVE:
    case SIOCGIFMAP:
    case SIOCGIFINDEX:
    case SIOCGIFTXQLEN:
      return LinkIoctl(t, stack, cmd, arg, false);
    case SIOCSIFFLAGS:
    case SIOCSIFMETRIC:
    case SIOCSIFMTU:
    case SIOCSIFHWADDR:
    case SIOCSIFHWBROADCAST:
    case SIOCSIFMAP:
    case SIOCSIFTXQLEN:
    case SIOCSIFNAME:
    case SIOCADDMULTI:
    case SIOCDELMULTI:
    case SIOCSIFSLAVE:
      return LinkIoctl(t, stack, cmd, arg, true);
    case SIOCETHTOOL: return Ethtool(t, stack, arg);
    default: break;
  }
  if (OfDriver(cmd)) {
    const IfReq r = TRY(CopyInRequest(t, arg));
    if (cmd == SIOCGMIIPHY || cmd == SIOCGMIIREG) TRY(NeedAdmin(t));
    const std::string name = NameOf(r);
    if (stack.IndexOf(name.substr(0, name.find(':'))) == 0) return Errno(ENODEV);
    return Errno(EOPNOTSUPP);
  }
  // The rest is the address family's.
  if (s.family() == AF_INET6) {
    if (cmd == SIOCSIFADDR || cmd == SIOCDIFADDR) return Inet6Ioctl(t, stack, cmd, arg);
    return Unknown(t, cmd, arg);
  }
  if (s.family() != AF_INET && s.family() != AF_PACKET) return Unknown(t, cmd, arg);
  switch (cmd) {
    case SIOCGIFPFLAGS:
    case SIOCSIFPFLAGS:
      if (s.family() != AF_INET) return Unknown(t, cmd, arg);
      TRY(CopyInRequest(t, arg));
      return Errno(EINVAL);
    case SIOCGIFADDR:
    case SIOCSIFADDR:
    case SIOCGIFBRDADDR:
    case SIOCSIFBRDADDR:
    case SIOCGIFNETMASK:
    case SIOCSIFNETMASK:
    case SIOCGIFDSTADDR:
    case SIOCSIFDSTADDR:
      return InetIoctl(t, stack, cmd, arg);
    case SIOCADDRT:
    case SIOCDELRT: return RouteIoctl(t, stack, cmd, arg);
    case SIOCGARP:
    case SIOCSARP:
    case SIOCDARP: return ArpIoctl(t, stack, cmd, arg);
    default: return Unknown(t, cmd, arg);
  }
}

}  // namespace ringwall::netlink
