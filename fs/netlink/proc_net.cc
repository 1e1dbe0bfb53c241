// /proc/net: links, addresses, routes and neighbours (net/core/net-procfs.c, net/ipv4/fib_trie.c,
// arp.c, igmp.c, net/ipv6/addrconf.c, route.c).
#include "fs/netlink/proc_net.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/ipv6_route.h>
#include <linux/route.h>

#include <algorithm>

namespace ringwall::netlink {
namespace {

std::string Hex16(const net::IpAddr& a) {
  std::string out;
  for (size_t i = 0; i < 16; i++) AppendFormat(&out, "%02x", a.byte(i));
  return out;
}

uint32_t Raw4(const net::IpAddr& a) { return a.IsNone() ? 0 : htonl(a.v4()); }

// seq_setwidth() and seq_pad().
std::string Padded(std::string line, size_t width) {
  if (line.size() < width) line.append(width - line.size(), ' ');
  return line + "\n";
}

uint32_t Mask(uint8_t len) { return len == 0 ? 0 : htonl(~0u << (32 - len)); }

}  // namespace

std::string DevText(net::Stack& s) {
  std::string out =
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop "
      "fifo colls carrier compressed\n";
  for (const net::InterfaceInfo& i : s.Interfaces()) {
    const net::LinkCounters& c = i.counters;
    const auto u = [](uint64_t v) { return static_cast<unsigned long long>(v); };
    AppendFormat(&out,
                 "%6s: %7llu %7llu %4llu %4llu %4u %5u %10u %9llu %8llu %7llu %4llu %4llu %4u %5u "
                 "%7u %10u\n",
                 i.name.c_str(), u(c.rx_bytes), u(c.rx_packets), u(c.rx_errors), u(c.rx_dropped), 0,
                 0, 0, u(c.multicast), u(c.tx_bytes), u(c.tx_packets), u(c.tx_errors),
                 u(c.tx_dropped), 0, 0, 0, 0);
  }
  return out;
}

std::string RouteText(net::Stack& s) {
  std::string out = Padded(
      "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT", 127);
  std::vector<net::RouteEntry> routes = s.Routes();
  std::stable_sort(routes.begin(), routes.end(), [](const auto& a, const auto& b) {
    return a.dst.addr < b.dst.addr || (a.dst.addr == b.dst.addr && a.dst.len > b.dst.len);
  });
  for (const net::RouteEntry& r : routes) {
    if (!r.dst.addr.is_v4() || r.table != net::kTableMain) continue;
    uint32_t flags = RTF_UP;
    if (!r.gateway.IsNone()) flags |= RTF_GATEWAY;
    if (r.dst.len == 32) flags |= RTF_HOST;
    const bool reject = r.type != net::RouteType::kUnicast && r.type != net::RouteType::kLocal;
    if (reject) flags |= RTF_REJECT;
    const std::string name = reject ? "*" : s.NameOf(r.oif);
    out += Padded(Format("%s\t%08X\t%08X\t%04X\t%d\t%u\t%u\t%08X\t%u\t%u\t%u", name.c_str(),
                         Raw4(r.dst.addr), r.gateway.is_v4() ? Raw4(r.gateway) : 0, flags, 0, 0,
                         r.metric, Mask(r.dst.len), r.advmss != 0 ? r.advmss + 40 : 0, 0, 0),
                  127);
  }
  return out;
}

std::string Ipv6RouteText(net::Stack& s) {
  std::string out;
  const net::IpAddr any = net::IpAddr::Any(net::Family::kV6);
  const auto line = [&](const net::RouteEntry& r) {
    uint32_t flags = RTF_UP;
    if (r.gateway.IsNone()) flags |= RTF_NONEXTHOP; else flags |= RTF_GATEWAY;
    if (r.type == net::RouteType::kLocal) flags |= RTF_LOCAL;
    if (r.type == net::RouteType::kAnycast) flags |= RTF_ANYCAST;
    if (r.type == net::RouteType::kUnreachable || r.type == net::RouteType::kBlackhole ||
        r.type == net::RouteType::kProhibit) {
      flags |= RTF_REJECT;
    }
    if (r.type == net::RouteType::kMulticast || (r.protocol == 2 && r.gateway.IsNone())) {
      flags &= ~static_cast<uint32_t>(RTF_NONEXTHOP);
    }
    if (r.type == net::RouteType::kLocal) flags |= RTF_NONEXTHOP;
    AppendFormat(&out, "%s %02x %s 00 %s %08x %08x %08x %08x %8s\n", Hex16(r.dst.addr).c_str(),
                 r.dst.len, Hex16(any).c_str(),
                 Hex16(r.gateway.IsNone() ? any : r.gateway).c_str(), r.metric, 1, 0, flags,
                 s.NameOf(r.oif).c_str());
  };
  for (const net::RouteEntry& r : s.Routes()) {
    if (r.dst.addr.is_v6()) line(r);
  }
  for (const net::RouteEntry& r : s.LocalRoutes()) {
    if (r.dst.addr.is_v6()) line(r);
  }
  // ip6_null_entry.
  AppendFormat(&out, "%s 00 %s 00 %s ffffffff 00000001 00000000 00200200       lo\n",
               Hex16(any).c_str(), Hex16(any).c_str(), Hex16(any).c_str());
  return out;
}

std::string IfInet6Text(net::Stack& s) {
  std::string out;
  for (const net::InterfaceInfo& i : s.Interfaces()) {
    for (const net::InterfaceAddress& a : i.addresses) {
      if (!a.prefix.addr.is_v6()) continue;
      const net::IpAddr& addr = a.prefix.addr;
      const uint32_t scope = addr.IsLoopback() ? 0x10 : addr.IsLinkLocal() ? 0x20 : 0;
      uint32_t flags = a.valid_until.IsNever() && !a.autoconf ? 0x80 : 0;  // IFA_F_PERMANENT
      if (a.state == net::AddressState::kTentative) flags |= 0x40;
      if (a.state == net::AddressState::kDeprecated) flags |= 0x20;
      if (a.state == net::AddressState::kDuplicate) flags |= 0x48;
      if (a.no_dad) flags |= 0x02;
      AppendFormat(&out, "%s %02x %02x %02x %02x %8s\n", Hex16(addr).c_str(), i.index,
                   a.prefix.len, scope, flags & 0xff, i.name.c_str());
    }
  }
  return out;
}

std::string ArpText(net::Stack& s) {
  std::string out =
      "IP address       HW type     Flags       HW address            Mask     Device\n";
  for (const net::InterfaceInfo& i : s.Interfaces()) {
    for (const net::NeighbourInfo& n : s.Neighbours(i.index)) {
      if (!n.addr.is_v4() || n.state == net::Nud::kNoArp || n.state == net::Nud::kNone) continue;
      unsigned flags = 2;  // ATF_COM
      if (n.state == net::Nud::kPermanent) flags = 6;
      if (n.state == net::Nud::kIncomplete || n.state == net::Nud::kFailed) flags = 0;
      const auto& m = n.mac.b;
      AppendFormat(&out, "%-16s 0x%-10x0x%-10x%-17s     *        %s\n", n.addr.ToString().c_str(),
                   1, flags,
                   Format("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]).c_str(),
                   i.name.c_str());
    }
  }
  return out;
}

std::string IgmpText(net::Stack& s) {
  std::string out = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n";
  for (const net::InterfaceInfo& i : s.Interfaces()) {
    std::vector<net::GroupInfo> groups;
    for (const net::GroupInfo& g : i.groups) {
      if (g.group.is_v4()) groups.push_back(g);
    }
    if (groups.empty()) continue;
    AppendFormat(&out, "%u\t%-10s: %5zu %7s\n", i.index, i.name.c_str(), groups.size(), "V3");
    for (const net::GroupInfo& g : groups) {
      AppendFormat(&out, "\t\t\t\t%08X %5u 0:00000000\t\t0\n", Raw4(g.group), g.users);
    }
  }
  return out;
}

std::string Igmp6Text(net::Stack& s) {
  std::string out;
  for (const net::InterfaceInfo& i : s.Interfaces()) {
    bool any = false;
    for (const net::GroupInfo& g : i.groups) {
      if (!g.group.is_v6()) continue;
      const bool all_nodes = g.group == *net::IpAddr::Parse("ff02::1");  // MAF_NOREPORT
      AppendFormat(&out, "%-4u %-15s %s %5u %08X 0\n", i.index, i.name.c_str(),
                   Hex16(g.group).c_str(), g.users, all_nodes ? 0xcu : 4u);
      any = true;
    }
    // Those of the interface alone, which nothing is ever sent to.
    if (any) AppendFormat(&out, "%-4u %-15s ff010000000000000000000000000001     1 00000008 0\n", i.index, i.name.c_str());
  }
  return out;
}

std::string DevMcastText(net::Stack& s) {
  std::string out;
  for (const net::InterfaceInfo& i : s.Interfaces()) {
    if (i.kind != net::LinkKind::kEthernet) continue;
    for (const net::GroupInfo& g : i.groups) {
      const auto m = net::MulticastMac(g.group).b;
      AppendFormat(&out, "%-4u %-15s %-5u %-5d %02x%02x%02x%02x%02x%02x\n", i.index,
                   i.name.c_str(), g.users, 0, m[0], m[1], m[2], m[3], m[4], m[5]);
    }
  }
  return out;
}

// The leaves as Linux prints them; the tree above them is one level here.
std::string FibTrieText(net::Stack& s) {
  std::string out;
  std::vector<net::RouteEntry> all = s.LocalRoutes();
  for (net::RouteEntry& r : s.Routes()) all.push_back(std::move(r));
  std::erase_if(all, [](const net::RouteEntry& r) { return !r.dst.addr.is_v4(); });
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.dst.addr < b.dst.addr; });
  for (const char* table : {"Main", "Local"}) {
    AppendFormat(&out, "%s:\n  +-- 0.0.0.0/0 3 0 5\n", table);
    net::IpAddr last;
    for (const net::RouteEntry& r : all) {
      if (r.table != net::kTableMain && r.table != net::kTableLocal) continue;
      if (r.dst.addr != last) AppendFormat(&out, "     |-- %s\n", r.dst.addr.ToString().c_str());
      last = r.dst.addr;
      const char* scope = r.scope == 254 ? "host" : r.scope == 253 ? "link" : "universe";
      const char* type = r.type == net::RouteType::kLocal       ? "LOCAL"
                         : r.type == net::RouteType::kBroadcast ? "BROADCAST"
                                                                : "UNICAST";
      AppendFormat(&out, "        /%u %s %s\n", r.dst.len, scope, type);
    }
  }
  return out;
}

// ct_seq_show(): the tracked connections.
std::string ConntrackText(net::Stack& s) {
  static constexpr const char* kStates[] = {"NONE",       "SYN_SENT", "SYN_RECV",  "ESTABLISHED",
                                            "FIN_WAIT",   "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT",
                                            "CLOSE",       "SYN_SENT2"};
  std::string out;
  const net::TimePoint now = s.Now();
  for (const Ref<net::Connection>& c : s.Connections()) {
    const net::CtTuple& first = c->tuples[0];
    const bool v4 = first.src.is_v4();
    const char* name = first.protocol == 6    ? "tcp"
                       : first.protocol == 17 ? "udp"
                       : first.icmp != 0      ? (v4 ? "icmp" : "icmpv6")
                                              : "unknown";
    AppendFormat(&out, "%-8s %u %-8s %u %lld ", v4 ? "ipv4" : "ipv6", v4 ? 2u : 10u, name,
                 first.protocol, static_cast<long long>((c->expires - now).seconds()));
    if (first.protocol == 6) AppendFormat(&out, "%s ", kStates[std::min<size_t>(c->tcp_state, 9)]);
    for (size_t d = 0; d < 2; d++) {
      const net::CtTuple& t = c->tuples[d];
      AppendFormat(&out, "src=%s dst=%s ", t.src.ToString().c_str(), t.dst.ToString().c_str());
      if (t.icmp != 0) {
        const unsigned type = v4 ? (t.icmp == 1 ? 8 : 0) : t.icmp == 1 ? 128 : 129;
        AppendFormat(&out, "type=%u code=0 id=%u ", type, t.sport);
      } else if (first.protocol == 6 || first.protocol == 17) {
        AppendFormat(&out, "sport=%u dport=%u ", t.sport, t.dport);
      }
      if (d == 0 && (c->status & net::kCtSeenReply) == 0) out += "[UNREPLIED] ";
    }
    if ((c->status & net::kCtAssured) != 0) out += "[ASSURED] ";
    AppendFormat(&out, "mark=%u use=2\n", c->mark);
  }
  return out;
}

// ---- The directory ----

namespace {

// dev_snmp6: a file for each interface.
class DevSnmp6 final : public SyntheticDirectory {
 public:
  DevSnmp6(FileSystem& fs, uint64_t ino, NetSource source)
      : SyntheticDirectory(fs, S_IFDIR | 0555, ino), source_(std::move(source)) {}
  Caching caching() const override { return Caching::kRevalidate; }
  Result<Ref<Inode>> Lookup(std::string_view name) override {
    Ref<NetNamespace> net = TRY(source_());
    if (net->stack().IndexOf(name) == 0) return Errno(ENOENT);
    TextOps ops;
    ops.read = [source = source_, name = std::string(name)]() -> Result<std::string> {
      Ref<NetNamespace> n = TRY(source());
      const net::IfIndex index = n->stack().IndexOf(name);
      return Format("%-32s\t%u\n", "ifIndex", index) + Snmp6Text(n->stack());
    };
    return Ref<Inode>(MakeRef<TextInode>(fs(), InoOf(ino(), name), 0444u, std::move(ops)));
  }
  Result<std::vector<DirEntry>> Entries() override {
    Ref<NetNamespace> net = TRY(source_());
    std::vector<DirEntry> out;
    for (const net::InterfaceInfo& i : net->stack().Interfaces()) {
      out.push_back({i.name, InoOf(ino(), i.name), DT_REG});
    }
    return out;
  }

 private:
  const NetSource source_;
};

}  // namespace

Result<Ref<NetNamespace>> CurrentNet() {
  Task* t = Task::Current();
  if (t == nullptr) return Errno(ESRCH);
  return Ref<NetNamespace>(NetNamespace::Of(*t));
}

void AddProcNet(StaticDirectory& net, const NetSource& source) {
  const auto add = [&](const char* name, std::function<std::string(NetNamespace&)> text,
                       uint32_t mode = 0444) {
    net.AddFile(name, [source, text = std::move(text)]() -> Result<std::string> {
      Ref<NetNamespace> n = TRY(source());
      return text(*n);
    }, mode);
  };
  using N = NetNamespace;
  using Kind = net::SocketInfo::Kind;
  constexpr net::Family k4 = net::Family::kV4, k6 = net::Family::kV6;
  add("dev", [](N& n) { return DevText(n.stack()); });
  add("route", [](N& n) { return RouteText(n.stack()); });
  add("ipv6_route", [](N& n) { return Ipv6RouteText(n.stack()); });
  add("if_inet6", [](N& n) { return IfInet6Text(n.stack()); });
  add("arp", [](N& n) { return ArpText(n.stack()); });
  add("igmp", [](N& n) { return IgmpText(n.stack()); });
  add("igmp6", [](N& n) { return Igmp6Text(n.stack()); });
  add("dev_mcast", [](N& n) { return DevMcastText(n.stack()); });
  add("fib_trie", [](N& n) { return FibTrieText(n.stack()); });
  add("tcp", [](N& n) { return TcpText(n.stack(), k4); });
  add("tcp6", [](N& n) { return TcpText(n.stack(), k6); });
  add("udp", [](N& n) { return UdpText(n.stack(), k4, Kind::kUdp); });
  add("udp6", [](N& n) { return UdpText(n.stack(), k6, Kind::kUdp); });
  add("icmp", [](N& n) { return UdpText(n.stack(), k4, Kind::kPing); });
  add("icmp6", [](N& n) { return UdpText(n.stack(), k6, Kind::kPing); });
  add("raw", [](N& n) { return RawText(n.stack(), k4); });
  add("raw6", [](N& n) { return RawText(n.stack(), k6); });
  add("packet", [](N& n) { return PacketText(n.stack()); });
  add("netlink", [](N& n) { return NetlinkText(n); });
  add("unix", [](N& n) { return UnixText(n); });
  add("protocols", [](N& n) { return ProtocolsText(n); });
  add("ptype", [](N& n) {
    std::string out = "Type Device      Function\n";
    for (const net::SocketInfo& p : n.stack().Sockets(Kind::kPacket)) {
      const std::string type = p.ethertype == 3 ? "ALL " : Format("%04x", p.ethertype);
      out += Format("%s %-8s packet_rcv\n", type.c_str(),
                    p.device != 0 ? n.stack().NameOf(p.device).c_str() : "");
    }
    return out + "0800          ip_rcv\n0806          arp_rcv\n86dd          ipv6_rcv\n";
  });
  add("mcfilter", [](N&) { return std::string("Idx Device        MCA        SRC    INC    EXC\n"); });
  add("mcfilter6", [](N&) {
    return std::string(
        "Idx Device                Multicast Address                   Source Address    INC    "
        "EXC\n");
  });
  add("nf_conntrack", [](N& n) { return ConntrackText(n.stack()); }, 0440);
  for (const auto& [name, family] : {std::pair{"ip_tables_names", k4}, {"ip6_tables_names", k6}}) {
    add(name, [family = family](N& n) {
      std::string out;
      for (const std::string& table : n.stack().FilterTablesInUse(family)) out += table + "\n";
      return out;
    }, 0440);
  }
  add("anycast6", [](N&) { return std::string(); });
  add("ip6_flowlabel", [](N&) {
    return std::string(
        "Label S Owner  Users  Linger Expires  Dst                              Opt\n");
  });
  // Those of one piece open for writing and refuse each write (proc_create_net_single()), those that belong
  // to no namespace as the ones at the top of /proc.
  net.set_style({.write_error = EACCES});
  add("snmp", [](N& n) { return SnmpText(n.stack()); });
  add("snmp6", [](N& n) { return Snmp6Text(n.stack()); });
  add("netstat", [](N& n) { return NetstatText(n.stack()); });
  add("sockstat", [](N& n) { return SockstatText(n); });
  add("sockstat6", [](N& n) { return Sockstat6Text(n.stack()); });
  add("rt6_stats", [](N& n) {
    size_t routes = 0;
    for (const net::RouteEntry& r : n.stack().Routes()) routes += r.dst.addr.is_v6();
    return Format("%04zx %04zx 0000 %04zx 0000 0000 0000\n", routes + 1, routes + 1, routes + 1);
  });
  net.set_style({});
  add("psched", [](N&) { return std::string("000003e8 00000040 000f4240 3b9aca00\n"); });
  add("rt_cache", [](N&) {
    return Padded("Iface\tDestination\tGateway \tFlags\t\tRefCnt\tUse\tMetric\tSource\t\tMTU\tWindow\t"
                  "IRTT\tTOS\tHHRef\tHHUptod\tSpecDst", 127);
  });
  add("softnet_stat", [](N& n) {
    std::string out;
    for (int cpu = 0; cpu < CPU_COUNT(&n.kernel().cpus()); cpu++) {
      out += "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 "
             "00000000 00000000 00000000 ";
      out += Format("%08x 00000000 00000000\n", cpu);
    }
    return out;
  });
  net.Add("dev_snmp6", MakeRef<DevSnmp6>(net.fs(), InoOf(net.ino(), "dev_snmp6"), source));
  Ref<StaticDirectory> stat = net.AddDirectory("stat");
  stat->AddFile("rt_cache", []() -> Result<std::string> {
    return std::string(
        "entries  in_hit   in_slow_tot in_slow_mc in_no_route in_brd   in_martian_dst "
        "in_martian_src out_hit  out_slow_tot out_slow_mc gc_total gc_ignored gc_goal_miss "
        "gc_dst_overflow in_hlist_search out_hlist_search\n");
  });
  net.AddDirectory("netfilter");
}

}  // namespace ringwall::netlink
