// RTM_*NEIGH and RTM_GETNEIGHTBL (net/core/neighbour.c), with the forwarding databases of bridges
// (net/bridge/br_fdb.c) under AF_BRIDGE.
#include <linux/neighbour.h>

#include "fs/netlink/route.h"

namespace ringwall::netlink {
namespace {

constexpr Policy<NDA_MAX> kNeighRules = {
    {NDA_DST, {AttrKind::kBinary, 32}},
    {NDA_LLADDR, {AttrKind::kBinary, 32}},
    {NDA_CACHEINFO, {AttrKind::kAny, sizeof(nda_cacheinfo)}},
    {NDA_PROBES, {AttrKind::kU32}},
    {NDA_VLAN, {AttrKind::kU16}},
    {NDA_PORT, {AttrKind::kU16}},
    {NDA_VNI, {AttrKind::kU32}},
    {NDA_IFINDEX, {AttrKind::kU32}},
    {NDA_MASTER, {AttrKind::kU32}},
    {NDA_PROTOCOL, {AttrKind::kU8}},
};
using NeighAttrs = Attrs<NDA_MAX>;

bool HasMac(net::Nud s) {
  return s != net::Nud::kNone && s != net::Nud::kIncomplete && s != net::Nud::kFailed;
}

}  // namespace

void FillNeigh(Builder& b, net::IfIndex iface, const net::NeighbourInfo& n) {
  ndmsg head = {};
  head.ndm_family = AfOf(n.addr.family());
  head.ndm_ifindex = static_cast<int>(iface);
  head.ndm_state = static_cast<uint16_t>(n.state);
  head.ndm_flags = n.router ? NTF_ROUTER : 0;
  head.ndm_type = RTN_UNICAST;
  b.Put(head);
  PutAddress(b, NDA_DST, n.addr);
  if (HasMac(n.state)) b.Value(NDA_LLADDR, n.mac);
  b.U32(NDA_PROBES, n.probes);
  const nda_cacheinfo ci = {0, 0, 0, 0};
  b.Value(NDA_CACHEINFO, ci);
  if (n.protocol != 0) b.U8(NDA_PROTOCOL, n.protocol);
}

namespace {

void FillFdb(Builder& b, const net::FdbEntry& e, net::IfIndex bridge) {
  ndmsg head = {};
  head.ndm_family = AF_BRIDGE;
  head.ndm_ifindex = static_cast<int>(e.port);
  head.ndm_state = e.permanent ? NUD_PERMANENT : NUD_REACHABLE;
  head.ndm_flags = 0;
  b.Put(head);
  b.Value(NDA_LLADDR, e.mac);
  b.U32(NDA_MASTER, bridge);
  const nda_cacheinfo ci = {0, 0, 0, 0};
  b.Value(NDA_CACHEINFO, ci);
}

Result<void> DumpFdb(Context& c) {
  if (c.socket.strict()) {
    TRY(CheckHead(c, {sizeof(ndmsg), ByteRange(1, 3) | ByteRange(8, 11),
                      "Invalid header for fdb dump request",
                      "Invalid values in header for fdb dump request"}));
    // No rules: the two that are known are looked at here.
    const NeighAttrs a =
        TRY(ParseAsked<NDA_MAX>(c, sizeof(ndmsg), {}, {NDA_IFINDEX, NDA_MASTER},
                                "Unsupported attribute in fdb dump request"));
    if (const Attr* x = a.Get(NDA_IFINDEX); x != nullptr && x->size() != sizeof(uint32_t)) {
      return c.ack.Fail(EINVAL, "Invalid IFINDEX attribute in fdb dump request");
    }
    if (const Attr* x = a.Get(NDA_MASTER); x != nullptr && x->size() != sizeof(uint32_t)) {
      return c.ack.Fail(EINVAL, "Invalid MASTER attribute in fdb dump request");
    }
  }
  Builder b;
  for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
    if (!i.is_bridge) continue;
    for (const net::FdbEntry& e : c.stack().ForwardingDatabase(i.index)) {
      c.BeginPart(b, RTM_NEWNEIGH);
      FillFdb(b, e, i.index);
      b.End();
    }
  }
  return c.Dump(b.Take());
}

}  // namespace

Result<void> DumpNeighs(Context& c) {
  const uint8_t af = c.message.payload[0];
  if (af == AF_BRIDGE) return DumpFdb(c);
  TRY(CheckHead(c, {sizeof(ndmsg), ByteRange(1, 9) | ByteRange(11, 11),
                    "Invalid header for neighbor dump request",
                    "Invalid values in header for neighbor dump request"}));
  uint32_t index = 0, master = 0;
  if (c.message.payload.size() >= sizeof(ndmsg)) {
    const ndmsg head = TRY(Head<ndmsg>(c));
    if (c.socket.strict() && (head.ndm_flags & ~NTF_PROXY) != 0) {
      return c.ack.Fail(EINVAL, "Invalid flags in header for neighbor dump request");
    }
    if (head.ndm_flags == NTF_PROXY) return c.Dump({});  // none is kept
    const NeighAttrs a =
        TRY(ParseAsked<NDA_MAX>(c, sizeof(ndmsg), kNeighRules, {NDA_IFINDEX, NDA_MASTER},
                                "Unsupported attribute in neighbor dump request"));
    index = a.U32(NDA_IFINDEX);
    master = a.U32(NDA_MASTER);
  }
  Builder b;
  for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
    if ((index != 0 && i.index != index) || (master != 0 && i.master != master)) continue;
    for (const net::NeighbourInfo& n : c.stack().Neighbours(i.index)) {
      if (af != AF_UNSPEC && FamilyOf(af) != n.addr.family()) continue;
      c.BeginPart(b, RTM_NEWNEIGH, index != 0 || master != 0 ? NLM_F_DUMP_FILTERED : 0);
      FillNeigh(b, i.index, n);
      b.End();
    }
  }
  return c.Dump(b.Take());
}

namespace {

struct Asked {
  ndmsg head;
  NeighAttrs attrs;
  net::IpAddr dst;
  net::IfIndex iface = 0;
};

Result<Asked> ReadNeigh(Context& c, bool want_dst) {
  Asked q;
  q.head = TRY(Head<ndmsg>(c));
  // Deleting and bridges' databases look at what they need only.
  const bool ruled = c.message.header.type != RTM_DELNEIGH && q.head.ndm_family != AF_BRIDGE;
  q.attrs = TRY(ParseAttrs<NDA_MAX>(Tail(c, sizeof(ndmsg)),
                                    ruled ? std::span<const AttrRule>(kNeighRules)
                                          : std::span<const AttrRule>(),
                                    &c.ack));
  const Attr* dst = q.attrs.Get(NDA_DST);
  if (want_dst && dst == nullptr) return c.ack.Fail(EINVAL, "Network address not specified");
  if (q.head.ndm_ifindex != 0) {
    q.iface = static_cast<net::IfIndex>(q.head.ndm_ifindex);
    if (q.head.ndm_ifindex < 0 || !c.stack().FindInterfaceInfo(q.iface)) {
      if (q.head.ndm_family == AF_BRIDGE && !want_dst) c.ack.message = "unknown ifindex";
      return Errno(ENODEV);
    }
  }
  if (dst != nullptr) {
    const net::Family family = FamilyOf(q.head.ndm_family);
    if (family == net::Family::kNone) return Errno(EAFNOSUPPORT);
    if (dst->size() < (family == net::Family::kV4 ? 4u : 16u)) {
      return c.ack.Fail(EINVAL, "Invalid network address");
    }
    q.dst = TRY(AddressOf(*dst, family, c.ack));
  }
  return q;
}

Result<void> ChangeFdb(Context& c, bool add) {
  const Asked q = TRY(ReadNeigh(c, false));
  if (q.iface == 0) return c.ack.Fail(EINVAL, "invalid ifindex");
  const Attr* mac = q.attrs.Get(NDA_LLADDR);
  if (mac == nullptr || mac->size() != 6) return c.ack.Fail(EINVAL, "invalid address");
  return FromNet(c.stack().SetForwarding(q.iface, net::MacAddr::From(mac->data.data()), add));
}

}  // namespace

Result<void> GetNeigh(Context& c) {
  const Asked q = TRY(ReadNeigh(c, true));
  if (q.iface == 0) return c.ack.Fail(EINVAL, "No device specified");
  for (const net::NeighbourInfo& n : c.stack().Neighbours(q.iface)) {
    if (n.addr != q.dst) continue;
    c.Answer(RTM_NEWNEIGH, 0, [&](Builder& b) { FillNeigh(b, q.iface, n); });
    return {};
  }
  return c.ack.Fail(ENOENT, "Neighbour entry not found");
}

Result<void> NewNeigh(Context& c) {
  if (c.message.payload[0] == AF_BRIDGE) return ChangeFdb(c, true);
  const Asked q = TRY(ReadNeigh(c, true));
  const Attr* mac = q.attrs.Get(NDA_LLADDR);
  if (q.iface != 0 && mac != nullptr && mac->size() < 6) {
    return c.ack.Fail(EINVAL, "Invalid link address");
  }
  if (q.iface == 0) return c.ack.Fail(EINVAL, "Device not specified");
  if ((q.head.ndm_flags & NTF_PROXY) != 0) return Errno(EOPNOTSUPP);
  net::NeighbourInfo n;
  n.addr = q.dst;
  n.router = (q.head.ndm_flags & NTF_ROUTER) != 0;
  n.state = static_cast<net::Nud>(q.head.ndm_state);
  if (mac != nullptr) n.mac = net::MacAddr::From(mac->data.data());
  if (const Attr* p = q.attrs.Get(NDA_PROTOCOL)) n.protocol = p->U8();
  const uint16_t s = q.head.ndm_state;
  if (s > 0xff || (s & (s - 1)) != 0) return Errno(EINVAL);
  if (HasMac(n.state) && mac == nullptr && (s & (NUD_PERMANENT | NUD_NOARP)) != 0) {
    bool known = false;
    for (const net::NeighbourInfo& have : c.stack().Neighbours(q.iface)) {
      known = known || (have.addr == q.dst && HasMac(have.state));
    }
    if (!known) return c.ack.Fail(EINVAL, "No link layer address given");
  }
  return FromNet(c.stack().SetNeighbour(q.iface, n, HowOf(c.message.header.flags)));
}

Result<void> DelNeigh(Context& c) {
  if (c.message.payload.size() < sizeof(ndmsg)) return Errno(EINVAL);
  if (c.message.payload[0] == AF_BRIDGE) return ChangeFdb(c, false);
  const Asked q = TRY(ReadNeigh(c, true));
  if (q.iface == 0) return Errno(EINVAL);
  return FromNet(c.stack().RemoveNeighbour(q.iface, q.dst));
}

Result<void> DumpNeighTables(Context& c) {
  TRY(CheckHead(c, {sizeof(ndtmsg), ByteRange(1, 3),
                    "Invalid header for neighbor table dump request",
                    "Invalid values in header for neighbor table dump request",
                    "Invalid data after header in neighbor table dump request"}));
  Builder b;
  const uint8_t af = c.message.payload[0];
  for (uint8_t f : {static_cast<uint8_t>(AF_INET), static_cast<uint8_t>(AF_INET6)}) {
    if (af != AF_UNSPEC && af != f) continue;
    c.BeginPart(b, RTM_NEWNEIGHTBL);
    b.Put(ndtmsg{f, 0, 0});
    b.Text(NDTA_NAME, f == AF_INET ? "arp_cache" : "ndisc_cache");
    b.U64(NDTA_GC_INTERVAL, 30000);
    b.U32(NDTA_THRESH1, 128);
    b.U32(NDTA_THRESH2, 512);
    b.U32(NDTA_THRESH3, 1024);
    const size_t parms = b.Nest(NDTA_PARMS);
    b.U32(NDTPA_REFCNT, 1);
    b.U32(NDTPA_QUEUE_LEN, 101);
    b.U32(NDTPA_APP_PROBES, 0);
    b.U32(NDTPA_UCAST_PROBES, 3);
    b.U32(NDTPA_MCAST_PROBES, 3);
    b.U64(NDTPA_REACHABLE_TIME, 30000);
    b.U64(NDTPA_BASE_REACHABLE_TIME, 30000);
    b.U64(NDTPA_RETRANS_TIME, 1000);
    b.U64(NDTPA_GC_STALETIME, 60000);
    b.U64(NDTPA_DELAY_PROBE_TIME, 5000);
    b.Unnest(parms);
    b.End();
  }
  return c.Dump(b.Take());
}

}  // namespace ringwall::netlink
