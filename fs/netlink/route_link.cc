// RTM_*LINK (net/core/rtnetlink.c).
#include <linux/if_arp.h>
#include <linux/if_link.h>

#include <algorithm>

#include "fs/netlink/route.h"
#include "netstack/device/dummy.h"
#include "netstack/device/veth.h"

namespace ringwall::netlink {

rtnl_link_stats64 Stats64(const net::LinkCounters& c) {
  rtnl_link_stats64 s = {};
  s.rx_packets = c.rx_packets;
  s.tx_packets = c.tx_packets;
  s.rx_bytes = c.rx_bytes;
  s.tx_bytes = c.tx_bytes;
  s.rx_errors = c.rx_errors;
  s.tx_errors = c.tx_errors;
  s.rx_dropped = c.rx_dropped;
  s.tx_dropped = c.tx_dropped;
  s.multicast = c.multicast;
  return s;
}

namespace {

constexpr Policy<IFLA_MAX> kLinkRules = {
    {IFLA_ADDRESS, {AttrKind::kBinary, 32}},
    {IFLA_BROADCAST, {AttrKind::kBinary, 32}},
    {IFLA_IFNAME, {AttrKind::kString, 15}},
    {IFLA_MTU, {AttrKind::kU32}},
    {IFLA_LINK, {AttrKind::kU32}},
    {IFLA_MASTER, {AttrKind::kU32}},
    {IFLA_TXQLEN, {AttrKind::kU32}},
    {IFLA_MAP, {AttrKind::kAny, 32}},
    {IFLA_WEIGHT, {AttrKind::kU32}},
    {IFLA_OPERSTATE, {AttrKind::kU8}},
    {IFLA_LINKMODE, {AttrKind::kU8}},
    {IFLA_LINKINFO, {AttrKind::kNested}},
    {IFLA_NET_NS_PID, {AttrKind::kU32}},
    {IFLA_IFALIAS, {AttrKind::kBinary, 255}},
    {IFLA_VFINFO_LIST, {AttrKind::kNested}},
    {IFLA_VF_PORTS, {AttrKind::kNested}},
    {IFLA_PORT_SELF, {AttrKind::kNested}},
    {IFLA_AF_SPEC, {AttrKind::kNested}},
    {IFLA_GROUP, {AttrKind::kU32}},
    {IFLA_NET_NS_FD, {AttrKind::kU32}},
    {IFLA_EXT_MASK, {AttrKind::kU32}},
    {IFLA_PROMISCUITY, {AttrKind::kU32}},
    {IFLA_NUM_TX_QUEUES, {AttrKind::kU32}},
    {IFLA_NUM_RX_QUEUES, {AttrKind::kU32}},
    {IFLA_CARRIER, {AttrKind::kU8}},
    {IFLA_PHYS_PORT_ID, {AttrKind::kBinary, 32}},
    {IFLA_CARRIER_CHANGES, {AttrKind::kU32}},
    {IFLA_PHYS_SWITCH_ID, {AttrKind::kBinary, 32}},
    {IFLA_LINK_NETNSID, {AttrKind::kU32}},
    {IFLA_PROTO_DOWN, {AttrKind::kU8}},
    {IFLA_GSO_MAX_SEGS, {AttrKind::kU32}},
    {IFLA_XDP, {AttrKind::kNested}},
};
using LinkAttrs = Attrs<IFLA_MAX>;

constexpr uint8_t kOperUnknown = 0, kOperDown = 2, kOperLowerLayerDown = 3, kOperUp = 6;

uint16_t HardwareType(const net::InterfaceInfo& i) {
  switch (i.kind) {
    case net::LinkKind::kLoopback: return ARPHRD_LOOPBACK;
    case net::LinkKind::kEthernet: return ARPHRD_ETHER;
    case net::LinkKind::kIp: return ARPHRD_NONE;
  }
  return ARPHRD_VOID;
}

uint8_t OperState(const net::InterfaceInfo& i) {
  if (!i.up) return kOperDown;
  const bool known = i.config.type == "veth" || i.config.type == "bridge" ||
                     i.config.type == "vlan" || i.config.type.empty();
  if (i.config.carrier) return known && i.kind != net::LinkKind::kLoopback ? kOperUp : kOperUnknown;
  return i.config.type == "veth" || i.config.type == "vlan" ? kOperLowerLayerDown : kOperDown;
}

void PutStats(Builder& b, const net::LinkCounters& c) {
  const rtnl_link_stats64 wide = Stats64(c);
  rtnl_link_stats narrow = {};
  uint64_t s[9];
  memcpy(s, &wide, sizeof(s));
  uint32_t low[9];
  for (size_t i = 0; i < 9; i++) low[i] = static_cast<uint32_t>(s[i]);
  memcpy(&narrow, low, sizeof(low));
  b.Value(IFLA_STATS64, wide);
  b.Value(IFLA_STATS, narrow);
}

void PutLinkInfo(Builder& b, const net::InterfaceInfo& i) {
  if (i.config.type.empty() && i.master == 0) return;
  const size_t info = b.Nest(IFLA_LINKINFO);
  if (!i.config.type.empty()) b.Text(IFLA_INFO_KIND, i.config.type);
  if (i.config.type == "vlan") {
    const size_t data = b.Nest(IFLA_INFO_DATA);
    b.U16(IFLA_VLAN_PROTOCOL, __builtin_bswap16(0x8100));
    b.U16(IFLA_VLAN_ID, i.config.vlan_id);
    const ifla_vlan_flags flags = {1, ~0u};  // REORDER_HDR
    b.Value(IFLA_VLAN_FLAGS, flags);
    b.Unnest(data);
  } else if (i.config.type == "bridge") {
    const size_t data = b.Nest(IFLA_INFO_DATA);
    b.U32(IFLA_BR_FORWARD_DELAY, 1500);
    b.U32(IFLA_BR_HELLO_TIME, 200);
    b.U32(IFLA_BR_MAX_AGE, 2000);
    b.U32(IFLA_BR_AGEING_TIME, 30000);
    b.U32(IFLA_BR_STP_STATE, 0);
    b.U16(IFLA_BR_PRIORITY, 32768);
    b.U8(IFLA_BR_VLAN_FILTERING, 0);
    b.Unnest(data);
  } else if (i.config.type == "tun") {
    const size_t data = b.Nest(IFLA_INFO_DATA);
    b.U8(IFLA_TUN_TYPE, i.kind == net::LinkKind::kIp ? 1 : 2);
    b.Unnest(data);
  }
  if (i.master != 0) {
    b.Text(IFLA_INFO_SLAVE_KIND, "bridge");
    const size_t data = b.Nest(IFLA_INFO_SLAVE_DATA);
    b.U8(IFLA_BRPORT_STATE, i.up ? 3 : 0);  // BR_STATE_FORWARDING
    b.Unnest(data);
  }
  b.Unnest(info);
}

void PutAfSpec(Builder& b, const net::InterfaceInfo& i) {
  const size_t spec = b.Nest(IFLA_AF_SPEC);
  const size_t v4 = b.Nest(AF_INET);
  // IPV4_DEVCONF_* in order, from 1 on.
  const uint32_t lo = i.kind == net::LinkKind::kLoopback ? 1 : 0;
  const uint32_t conf4[] = {0, 0, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, lo, lo, 0,
                            0, 0, 0, 0, 0, 0, 0, 0, 0, 10000, 1000, 0, 0, 0, 0, 1};
  b.Value(IFLA_INET_CONF, conf4);
  b.Unnest(v4);
  if (!i.ipv6_disabled) {
    const size_t v6 = b.Nest(AF_INET6);
    b.U32(IFLA_INET6_FLAGS, i.up && i.config.carrier ? 0x80000000u : 0);  // IF_READY
    const ifla_cacheinfo cache = {65535, 0, 30000, 1000};
    b.Value(IFLA_INET6_CACHEINFO, cache);
    const uint8_t token[16] = {};
    b.Value(IFLA_INET6_TOKEN, token);
    b.U8(IFLA_INET6_ADDR_GEN_MODE, 0);
    b.Unnest(v6);
  }
  b.Unnest(spec);
}

}  // namespace

void FillLink(Builder& b, const net::InterfaceInfo& i, uint32_t change, uint32_t filter) {
  ifinfomsg head = {};
  head.ifi_family = AF_UNSPEC;
  head.ifi_type = HardwareType(i);
  head.ifi_index = static_cast<int>(i.index);
  head.ifi_flags = i.flags;
  head.ifi_change = change;
  b.Put(head);
  b.Text(IFLA_IFNAME, i.name);
  b.U32(IFLA_TXQLEN, i.config.tx_queue_len);
  b.U8(IFLA_OPERSTATE, OperState(i));
  b.U8(IFLA_LINKMODE, 0);
  b.U32(IFLA_MTU, i.mtu);
  const bool loopback = i.kind == net::LinkKind::kLoopback;
  b.U32(IFLA_MIN_MTU, loopback ? 0 : i.config.min_mtu);
  b.U32(IFLA_MAX_MTU, loopback ? 0 : i.config.max_mtu);
  b.U32(IFLA_GROUP, i.group);
  b.U32(IFLA_PROMISCUITY, (i.flags & net::kIffPromisc) != 0);
  b.U32(61 /* IFLA_ALLMULTI */, (i.flags & net::kIffAllMulti) != 0);
  b.U32(IFLA_NUM_TX_QUEUES, 1);
  b.U32(IFLA_GSO_MAX_SEGS, 65535);
  b.U32(IFLA_GSO_MAX_SIZE, 65536);
  b.U32(IFLA_GRO_MAX_SIZE, 65536);
  b.U32(59 /* IFLA_TSO_MAX_SIZE */, loopback || i.config.type == "veth" ? 524280 : 65536);
  b.U32(60 /* IFLA_TSO_MAX_SEGS */, 65535);
  b.U32(IFLA_NUM_RX_QUEUES, 1);
  if (i.config.lower != 0) {
    b.U32(IFLA_LINK, i.config.lower);
  } else if (i.config.type == "veth" && i.sink) {
    net::VethEnd* end = static_cast<net::VethEnd*>(i.sink.get());
    const net::VethPair::Where peer = end->pair().Find(1 - end->side());
    const net::VethPair::Where own = end->pair().Find(end->side());
    if (peer.stack) {
      b.U32(IFLA_LINK, peer.iface);
      if (peer.stack != own.stack) b.Value(IFLA_LINK_NETNSID, IdOfPeer(*own.stack, *peer.stack));
    }
  }
  if (i.master != 0) b.U32(IFLA_MASTER, i.master);
  b.U8(IFLA_CARRIER, i.config.carrier);
  b.Text(IFLA_QDISC, i.up ? (i.config.type.empty() && i.kind == net::LinkKind::kEthernet
                                 ? "pfifo_fast" : "noqueue")
                          : "noop");
  if (!i.alias.empty()) b.Text(IFLA_IFALIAS, i.alias);
  b.U32(IFLA_CARRIER_CHANGES, static_cast<uint32_t>(i.carrier_changes));
  b.U32(IFLA_CARRIER_UP_COUNT, static_cast<uint32_t>((i.carrier_changes + 1) / 2));
  b.U32(IFLA_CARRIER_DOWN_COUNT, static_cast<uint32_t>(i.carrier_changes / 2));
  b.U8(IFLA_PROTO_DOWN, 0);
  const rtnl_link_ifmap map = {};
  b.Value(IFLA_MAP, map);
  if (i.kind != net::LinkKind::kIp) {
    b.Value(IFLA_ADDRESS, i.mac);
    b.Value(IFLA_BROADCAST,
            i.kind == net::LinkKind::kLoopback ? net::MacAddr{} : i.config.broadcast);
  }
  if ((filter & RTEXT_FILTER_SKIP_STATS) == 0) PutStats(b, i.counters);
  const size_t xdp = b.Nest(IFLA_XDP);
  b.U8(IFLA_XDP_ATTACHED, 0);
  b.Unnest(xdp);
  PutLinkInfo(b, i);
  PutAfSpec(b, i);
}

// ---- Finding ----

namespace {

Result<LinkAttrs> ParseLink(Context& c) {
  return ParseAttrs<IFLA_MAX>(Tail(c, sizeof(ifinfomsg)), kLinkRules, &c.ack);
}

std::string NameIn(const LinkAttrs& a) {
  if (const Attr* n = a.Get(IFLA_IFNAME)) return std::string(n->Text());
  if (const Attr* n = a.Get(IFLA_ALT_IFNAME)) return std::string(n->Text());
  return {};
}

// The interface that a request names; nullopt when it names one that is not there.
std::optional<net::InterfaceInfo> Named(Context& c, const ifinfomsg& head, const LinkAttrs& a) {
  if (head.ifi_index > 0) {
    return c.stack().FindInterfaceInfo(static_cast<net::IfIndex>(head.ifi_index));
  }
  return c.stack().FindInterfaceInfo(std::string_view(NameIn(a)));
}

bool NamesOne(const ifinfomsg& head, const LinkAttrs& a) {
  return head.ifi_index > 0 || a.Has(IFLA_IFNAME) || a.Has(IFLA_ALT_IFNAME);
}

// Where only IFLA_TARGET_NETNSID may name a namespace (rtnl_ensure_unique_netns()).
Result<void> RefuseNamespaces(Context& c, const LinkAttrs& a) {
  if (!a.Has(IFLA_NET_NS_PID) && !a.Has(IFLA_NET_NS_FD)) return {};
  return c.ack.Fail(EOPNOTSUPP, "specified netns attribute not supported");
}

Result<RefPtr<NetNamespace>> TargetNamespace(Context& c, const LinkAttrs& a) {
  if (const Attr* fd = a.Get(IFLA_NET_NS_FD)) {
    Ref<NetNamespace> n = TRY(NamespaceOfFd(c.task, static_cast<int>(fd->U32())));
    return RefPtr<NetNamespace>(std::move(n));
  }
  if (const Attr* pid = a.Get(IFLA_NET_NS_PID)) {
    Ref<NetNamespace> n = TRY(NamespaceOfPid(c.task, static_cast<int>(pid->U32())));
    return RefPtr<NetNamespace>(std::move(n));
  }
  return RefPtr<NetNamespace>();
}

}  // namespace

Result<void> GetLink(Context& c) {
  const ifinfomsg head = TRY(Head<ifinfomsg>(c, "Invalid header for get link"));
  TRY(CheckHead(c, {sizeof(ifinfomsg), ByteRange(1, 3) | ByteRange(8, 15), "",
                    "Invalid values in header for get link request"}));
  const LinkAttrs a = TRY(ParseAsked<IFLA_MAX>(
      c, sizeof(ifinfomsg), kLinkRules,
      {IFLA_IFNAME, IFLA_ALT_IFNAME, IFLA_EXT_MASK, IFLA_TARGET_NETNSID},
      "Unsupported attribute in get link request"));
  TRY(RefuseNamespaces(c, a));
  if (a.Has(IFLA_TARGET_NETNSID)) return c.ack.Fail(EINVAL, "Invalid target network namespace id");
  if (!NamesOne(head, a)) return Errno(EINVAL);
  const std::optional<net::InterfaceInfo> i = Named(c, head, a);
  if (!i) return Errno(ENODEV);
  const uint32_t filter = a.U32(IFLA_EXT_MASK);
  c.Answer(RTM_NEWLINK, 0, [&](Builder& b) { FillLink(b, *i, 0, filter); });
  return {};
}

Result<void> DumpLinks(Context& c) {
  uint32_t filter = 0, master = 0;
  std::string kind;
  const bool v6 = c.message.payload[0] == AF_INET6;
  if (v6) {
    TRY(CheckHead(c, {sizeof(ifinfomsg), ByteRange(1, 15),
                      "ipv6: Invalid header for link dump request",
                      "ipv6: Invalid values in header for dump request",
                      "ipv6: Invalid data after header"}));
  } else {
    TRY(CheckHead(c, {sizeof(ifinfomsg), ByteRange(1, 3) | ByteRange(8, 15),
                      "Invalid header for link dump",
                      "Invalid values in header for link dump request"}));
  }
  if (!v6 && c.message.payload.size() >= sizeof(ifinfomsg)) {
    const ifinfomsg head = TRY(Head<ifinfomsg>(c));
    if (c.socket.strict() && head.ifi_index != 0) {
      return c.ack.Fail(EINVAL, "Filter by device index not supported for link dumps");
    }
    const LinkAttrs a = TRY(ParseAsked<IFLA_MAX>(
        c, sizeof(ifinfomsg), kLinkRules,
        {IFLA_TARGET_NETNSID, IFLA_EXT_MASK, IFLA_MASTER, IFLA_LINKINFO},
        "Unsupported attribute in link dump request"));
    filter = a.U32(IFLA_EXT_MASK);
    master = a.U32(IFLA_MASTER);
    if (const Attr* info = a.Get(IFLA_LINKINFO)) {
      const Attrs<IFLA_INFO_MAX> in = TRY(ParseAttrs<IFLA_INFO_MAX>(info->data, {}, &c.ack));
      if (const Attr* k = in.Get(IFLA_INFO_KIND)) kind = std::string(k->Text());
    }
  }
  const uint16_t flags = master != 0 || !kind.empty() ? NLM_F_DUMP_FILTERED : 0;
  Builder b;
  for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
    if (master != 0 && i.master != master) continue;
    if (!kind.empty() && i.config.type != kind) continue;
    c.BeginPart(b, RTM_NEWLINK, flags);
    FillLink(b, i, 0, filter);
    b.End();
  }
  return c.Dump(b.Take());
}

// PF_BRIDGE: the ports of bridges (bridge link).
Result<void> DumpBridgeLinks(Context& c) {
  TRY(CheckHead(c, {sizeof(ifinfomsg), ByteRange(1, 15), "Invalid header for bridge link dump",
                    "Invalid values in header for bridge link dump request"}));
  Result<LinkAttrs> known = ParseAsked<IFLA_MAX>(c, sizeof(ifinfomsg), kLinkRules, {IFLA_EXT_MASK},
                                                 "Unsupported attribute in bridge link dump request");
  if (!known.ok()) return known.error();
  Builder b;
  for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
    if (i.master == 0) continue;
    c.BeginPart(b, RTM_NEWLINK);
    ifinfomsg head = {};
    head.ifi_family = AF_BRIDGE;
    head.ifi_type = HardwareType(i);
    head.ifi_index = static_cast<int>(i.index);
    head.ifi_flags = i.flags;
    b.Put(head);
    b.Text(IFLA_IFNAME, i.name);
    b.U32(IFLA_MASTER, i.master);
    b.U32(IFLA_MTU, i.mtu);
    b.U8(IFLA_OPERSTATE, OperState(i));
    b.Value(IFLA_ADDRESS, i.mac);
    const size_t info = b.Nest(IFLA_PROTINFO | NLA_F_NESTED);
    b.U8(IFLA_BRPORT_STATE, i.up ? 3 : 0);
    b.U16(IFLA_BRPORT_PRIORITY, 32);
    b.U32(IFLA_BRPORT_COST, 2);
    b.Unnest(info);
    b.End();
  }
  return c.Dump(b.Take());
}

// ---- Changing ----

namespace {

// PF_BRIDGE's own handlers (rtnl_bridge_setlink()) look for the interface before the attributes.
Result<void> CheckPort(Context& c) {
  if (c.message.payload[0] != AF_BRIDGE) return {};
  if (c.message.payload.size() < sizeof(ifinfomsg)) return Errno(EINVAL);
  const ifinfomsg head = ReadAs<ifinfomsg>(c.message.payload);
  if (c.stack().FindInterfaceInfo(static_cast<net::IfIndex>(head.ifi_index))) return {};
  return c.ack.Fail(ENODEV, "unknown ifindex");
}

Result<net::MacAddr> MacIn(const Attr& a, ExtAck& ack) {
  if (a.size() < 6) return ack.FailAt(EINVAL, "Invalid hardware address length", &a);
  return net::MacAddr::From(a.data.data());
}

// do_setlink(): everything that the attributes ask of an interface that is there.
Result<void> Change(Context& c, NetNamespace& net, const net::InterfaceInfo& i,
                    const ifinfomsg& head, const LinkAttrs& a) {
  RefPtr<NetNamespace> target = TRY(TargetNamespace(c, a));
  net::LinkChange change;
  if (const Attr* x = a.Get(IFLA_ADDRESS)) {
    change.mac = TRY(MacIn(*x, c.ack));
  }
  if (const Attr* x = a.Get(IFLA_BROADCAST)) {
    change.broadcast = TRY(MacIn(*x, c.ack));
  }
  if (a.Has(IFLA_MTU)) change.mtu = a.U32(IFLA_MTU);
  if (a.Has(IFLA_TXQLEN)) change.tx_queue_len = a.U32(IFLA_TXQLEN);
  if (a.Has(IFLA_GROUP)) change.group = a.U32(IFLA_GROUP);
  if (const Attr* x = a.Get(IFLA_IFALIAS)) change.alias = std::string(x->Text());
  if (a.Has(IFLA_MASTER)) change.master = a.U32(IFLA_MASTER);
  // With an index the name is a new one.
  if (const Attr* x = a.Get(IFLA_IFNAME); x != nullptr && head.ifi_index > 0) {
    change.name = std::string(x->Text());
  }
  if (head.ifi_flags != 0 || head.ifi_change != 0) {
    change.flags = head.ifi_flags;
    change.flags_mask = head.ifi_change != 0 ? head.ifi_change : ~0u;
  }
  if (change.mtu && i.config.max_mtu != 0 && *change.mtu > i.config.max_mtu) {
    return c.ack.Fail(EINVAL, "mtu greater than device maximum");
  }
  if (change.mtu && *change.mtu < i.config.min_mtu) {
    return c.ack.Fail(EINVAL, "mtu less than device minimum");
  }
  if (change.master && *change.master != 0) {
    const std::optional<net::InterfaceInfo> m = net.stack().FindInterfaceInfo(*change.master);
    if (m && m->is_bridge && i.kind == net::LinkKind::kLoopback) {
      return c.ack.Fail(EINVAL, "Can not enslave a non-ethernet device to a bridge");
    }
    if (m && m->is_bridge && i.is_bridge) {
      return c.ack.Fail(ELOOP, "Can not enslave a bridge to a bridge");
    }
  }
  if (target && target.get() != &net) {
    const std::string name = change.name.empty() ? i.name : change.name;
    TRY(MoveLink(net, i.index, *target, name));
    change.name.clear();
    const net::IfIndex now = target->stack().IndexOf(name);
    return FromNet(target->stack().ChangeLink(now, change));
  }
  return FromNet(net.stack().ChangeLink(i.index, change));
}

struct NewLinkArgs {
  std::string kind;
  const Attr* data = nullptr;
  std::string name;
  net::IfIndex index = 0;
};

net::InterfaceConfig Basic(const LinkAttrs& a, const NewLinkArgs& n) {
  net::InterfaceConfig config;
  config.name = n.name;
  config.type = n.kind;
  config.wanted_index = n.index;
  config.mac = RandomMac();
  if (const Attr* x = a.Get(IFLA_ADDRESS); x != nullptr && x->size() >= 6) {
    config.mac = net::MacAddr::From(x->data.data());
  }
  config.mtu = a.U32(IFLA_MTU, 1500);
  config.tx_queue_len = a.U32(IFLA_TXQLEN, 1000);
  return config;
}

Result<void> MakeVeth(Context& c, const LinkAttrs& a, const NewLinkArgs& n, NetNamespace& net) {
  LinkAttrs peer_attrs;
  ifinfomsg peer_head = {};
  if (n.data != nullptr) {
    const Attrs<1> data = TRY(ParseAttrs<1>(n.data->data, {}, &c.ack));
    if (const Attr* peer = data.Get(1 /* VETH_INFO_PEER */)) {
      if (peer->size() < sizeof(ifinfomsg)) return Errno(EINVAL);
      peer_head = ReadAs<ifinfomsg>(peer->data);
      peer_attrs = TRY(ParseAttrs<IFLA_MAX>(peer->data.subspan(sizeof(ifinfomsg)), kLinkRules,
                                            &c.ack));
    }
  }
  RefPtr<NetNamespace> peer_net = TRY(TargetNamespace(c, peer_attrs));
  if (!peer_net) peer_net = RefPtr<NetNamespace>(&net);
  NewLinkArgs p;
  p.kind = "veth";
  p.name = NameIn(peer_attrs);
  if (p.name.empty()) p.name = "veth%d";
  p.name = FreeName(peer_net->stack(), p.name);
  p.index = peer_head.ifi_index > 0 ? static_cast<net::IfIndex>(peer_head.ifi_index) : 0;
  auto [own_end, peer_end] = net::VethPair::Create();
  net::InterfaceConfig config = Basic(peer_attrs, p);
  config.carrier = false;
  net::NetResult<net::IfIndex> peer = peer_net->stack().AddInterface(config, peer_end);
  if (!peer.ok()) return net::ToErrno(peer.error());
  NewLinkArgs own = n;
  if (a.Get(IFLA_IFNAME) == nullptr) own.name = FreeName(net.stack(), "veth%d");
  config = Basic(a, own);
  config.carrier = false;
  net::NetResult<net::IfIndex> mine = net.stack().AddInterface(config, own_end);
  if (!mine.ok()) {
    (void)peer_net->stack().RemoveInterface(*peer);
    return net::ToErrno(mine.error());
  }
  own_end->pair().Place(0, RefPtr<net::Stack>(&net.stack()), *mine);
  own_end->pair().Place(1, RefPtr<net::Stack>(&peer_net->stack()), *peer);
  if ((peer_head.ifi_flags & net::kIffUp) != 0) (void)peer_net->stack().SetUp(*peer, true);
  return {};
}

Result<void> Make(Context& c, const ifinfomsg& head, const LinkAttrs& a, NewLinkArgs n) {
  RefPtr<NetNamespace> target = TRY(TargetNamespace(c, a));
  NetNamespace& net = target ? *target : c.net;
  if (n.name.empty()) n.name = FreeName(net.stack(), n.kind + "%d");
  if (n.name.find('%') != std::string::npos) n.name = FreeName(net.stack(), n.name);
  if (n.kind == "veth") {
    TRY(MakeVeth(c, a, n, net));
  } else {
    net::InterfaceConfig config = Basic(a, n);
    RefPtr<net::LinkSink> sink;
    if (n.kind == "dummy") {
      config.no_arp = true;
      config.multicast = false;
      config.min_mtu = config.max_mtu = 0;
      sink = MakeRef<net::DummySink>();
    } else if (n.kind == "vlan") {
      if (n.data == nullptr) return c.ack.Fail(EINVAL, "VLAN properties not specified");
      const Attrs<IFLA_VLAN_MAX> data = TRY(ParseAttrs<IFLA_VLAN_MAX>(n.data->data, {}, &c.ack));
      if (!data.Has(IFLA_VLAN_ID)) return c.ack.Fail(EINVAL, "VLAN id not specified");
      if (!a.Has(IFLA_LINK)) return c.ack.Fail(EINVAL, "link not specified");
      const std::optional<net::InterfaceInfo> lower =
          c.stack().FindInterfaceInfo(a.U32(IFLA_LINK));
      if (!lower) return c.ack.Fail(ENODEV, "link does not exist");
      if (lower->kind != net::LinkKind::kEthernet) {
        return c.ack.Fail(EOPNOTSUPP, "VLANs not supported on device");
      }
      config.vlan_id = data.Get(IFLA_VLAN_ID)->U16();
      if (config.vlan_id >= 4095) return c.ack.Fail(ERANGE, "Invalid VLAN id");
      config.lower = lower->index;
      if (!a.Has(IFLA_ADDRESS)) config.mac = lower->mac;
      if (!a.Has(IFLA_MTU)) config.mtu = lower->mtu;
    } else if (n.kind != "bridge") {
      return c.ack.Fail(EOPNOTSUPP, "Unknown device type");
    }
    net::NetResult<net::IfIndex> made = net.stack().AddInterface(config, std::move(sink));
    if (!made.ok()) return net::ToErrno(made.error());
  }
  const net::IfIndex index = net.stack().IndexOf(n.name);
  net::LinkChange change;
  if (a.Has(IFLA_MASTER)) change.master = a.U32(IFLA_MASTER);
  if (const Attr* x = a.Get(IFLA_IFALIAS)) change.alias = std::string(x->Text());
  if (a.Has(IFLA_GROUP)) change.group = a.U32(IFLA_GROUP);
  if (head.ifi_flags != 0 || head.ifi_change != 0) {
    change.flags = head.ifi_flags;
    change.flags_mask = head.ifi_change != 0 ? head.ifi_change : head.ifi_flags;
  }
  Result<void> set = FromNet(net.stack().ChangeLink(index, change));
  if (!set.ok()) (void)net.stack().RemoveInterface(index);
  return set;
}

}  // namespace

Result<void> NewLink(Context& c) {
  const ifinfomsg head = TRY(Head<ifinfomsg>(c));
  const LinkAttrs a = TRY(ParseLink(c));
  if (head.ifi_index < 0) return c.ack.Fail(EINVAL, "ifindex can't be negative");
  if (a.Has(IFLA_NET_NS_PID) + a.Has(IFLA_NET_NS_FD) + a.Has(IFLA_TARGET_NETNSID) > 1) {
    return c.ack.Fail(EINVAL, "multiple netns identifying attributes specified");
  }
  NewLinkArgs n;
  Attrs<IFLA_INFO_MAX> in;  // n.data is one of them
  if (const Attr* info = a.Get(IFLA_LINKINFO)) {
    in = TRY(ParseAttrs<IFLA_INFO_MAX>(info->data, {}, &c.ack));
    if (const Attr* k = in.Get(IFLA_INFO_KIND)) n.kind = std::string(k->Text());
    n.data = in.Get(IFLA_INFO_DATA);
  }
  std::optional<net::InterfaceInfo> have;
  if (NamesOne(head, a)) have = Named(c, head, a);
  const uint16_t flags = c.message.header.flags;
  if (have) {
    if ((flags & NLM_F_EXCL) != 0) return Errno(EEXIST);
    if ((flags & NLM_F_REPLACE) != 0) return Errno(EOPNOTSUPP);
    if (!n.kind.empty() && n.data != nullptr && n.kind != have->config.type) {
      return Errno(EOPNOTSUPP);
    }
    return Change(c, c.net, *have, head, a);
  }
  if ((flags & NLM_F_CREATE) == 0) return Errno(ENODEV);
  if (a.Has(IFLA_MAP) || a.Has(IFLA_PROTINFO)) return Errno(EOPNOTSUPP);
  if (n.kind.empty()) return c.ack.Fail(EOPNOTSUPP, "Unknown device type");
  if (n.kind == "tun") {
    return c.ack.Fail(EOPNOTSUPP, "tun/tap creation via rtnetlink is not supported.");
  }
  n.name = NameIn(a);
  n.index = static_cast<net::IfIndex>(head.ifi_index);
  return Make(c, head, a, std::move(n));
}

Result<void> SetLink(Context& c) {
  TRY(CheckPort(c));
  const ifinfomsg head = TRY(Head<ifinfomsg>(c));
  const LinkAttrs a = TRY(ParseLink(c));
  if (!NamesOne(head, a)) return Errno(EINVAL);
  const std::optional<net::InterfaceInfo> i = Named(c, head, a);
  if (!i) return Errno(ENODEV);
  return Change(c, c.net, *i, head, a);
}

Result<void> DelLink(Context& c) {
  TRY(CheckPort(c));
  const ifinfomsg head = TRY(Head<ifinfomsg>(c));
  const LinkAttrs a = TRY(ParseLink(c));
  TRY(RefuseNamespaces(c, a));
  if (!NamesOne(head, a)) {
    if (!a.Has(IFLA_GROUP)) return Errno(EINVAL);
    bool any = false;
    for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
      if (i.group != a.U32(IFLA_GROUP)) continue;
      any = true;
      if (i.config.type.empty()) return Errno(EOPNOTSUPP);
    }
    if (!any) return Errno(ENODEV);
    for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
      if (i.group == a.U32(IFLA_GROUP)) (void)c.stack().RemoveInterface(i.index);
    }
    return {};
  }
  const std::optional<net::InterfaceInfo> i = Named(c, head, a);
  if (!i) return Errno(ENODEV);
  // Without rtnl_link_ops: the loopback and what the runtime made.
  if (i->config.type.empty()) return Errno(EOPNOTSUPP);
  return FromNet(c.stack().RemoveInterface(i->index));
}

Result<void> MoveLink(NetNamespace& from, net::IfIndex iface, NetNamespace& to,
                      const std::string& name) {
  const std::optional<net::InterfaceInfo> i = from.stack().FindInterfaceInfo(iface);
  if (!i) return Errno(ENODEV);
  if (i->kind == net::LinkKind::kLoopback || i->is_bridge || i->config.lower != 0) {
    return Errno(EINVAL);
  }
  if (to.stack().IndexOf(name) != 0) return Errno(EEXIST);
  net::VethEnd* veth = i->config.type == "veth" && i->sink
                           ? static_cast<net::VethEnd*>(i->sink.get()) : nullptr;
  if (veth != nullptr) veth->pair().SetMoving(veth->side(), true);
  net::NetResult<net::DetachedInterface> d = from.stack().DetachInterface(iface);
  if (!d.ok()) {
    if (veth != nullptr) veth->pair().SetMoving(veth->side(), false);
    return net::ToErrno(d.error());
  }
  d->config.name = name;
  if (veth != nullptr) d->config.carrier = false;
  RefPtr<net::LinkSink> sink = d->sink;
  // The old index when it is free.
  d->config.wanted_index = iface;
  net::NetResult<net::IfIndex> made = to.stack().AddInterface(d->config, sink);
  if (!made.ok()) {
    d->config.wanted_index = 0;
    made = to.stack().AddInterface(d->config, sink);
  }
  if (!made.ok()) return net::ToErrno(made.error());
  if (veth != nullptr) {
    veth->pair().Place(veth->side(), RefPtr<net::Stack>(&to.stack()), *made);
  }
  return {};
}

}  // namespace ringwall::netlink
