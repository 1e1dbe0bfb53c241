#include "netstack/filter/nft_fields.h"

#include <algorithm>

#include "netstack/filter/xt_actions.h"
#include "netstack/stack.h"
#include "netstack/wire/ethernet.h"
#include "netstack/wire/icmp.h"

namespace ringwall::net {
namespace {

enum Key : uint32_t {
  kLen = 0, kProtocol = 1, kPriority = 2, kMark = 3, kIif = 4, kOif = 5, kIifName = 6, kOifName = 7,
  kIifType = 8, kOifType = 9, kSkuid = 10, kSkgid = 11, kNfTrace = 12, kNfProto = 15, kL4Proto = 16,
  kPktType = 19, kCpu = 20, kIifGroup = 21, kOifGroup = 22, kCgroup = 23, kPrandom = 24,
  kTimeNs = 30, kTimeDay = 31, kTimeHour = 32,
};

constexpr uint16_t kArphrdEther = 1, kArphrdLoopback = 772, kArphrdNone = 0xfffe;

void Put32(uint8_t* to, uint32_t v) { std::memcpy(to, &v, 4); }

// One byte or two at the start of a word of zeros, as nft_reg_store8() does.
void Put8(uint8_t* to, uint8_t v) {
  Put32(to, 0);
  *to = v;
}

void Put16(uint8_t* to, uint16_t v) {
  Put32(to, 0);
  std::memcpy(to, &v, 2);
}

void PutName(uint8_t* to, const std::string& name) {
  std::memset(to, 0, 16);
  std::memcpy(to, name.data(), std::min<size_t>(name.size(), 15));
}

uint16_t TypeOf(Stack& stack, IfIndex index) {
  Interface* i = stack.FindInterface(index);
  if (i == nullptr) return 0;
  if (i->is_loopback()) return kArphrdLoopback;
  return i->config.kind == LinkKind::kEthernet ? kArphrdEther : kArphrdNone;
}

uint8_t PacketType(NftPacket& p) {
  if (p.layer != NftFamily::kInet && p.packet.link().size() >= 6) {
    const MacAddr dst = MacAddr::From(p.packet.link().data());
    if (dst.IsBroadcast()) return 1;
    if (dst.IsMulticast()) return 2;
    Interface* in = p.stack.FindInterface(p.packet.in);
    return in == nullptr || in->is_loopback() || dst == in->config.mac ? 0 : 3;  // PACKET_OTHERHOST
  }
  if (p.packet.dst().IsMulticast()) return 2;
  if (p.stack.IsBroadcast(p.packet.dst())) return 1;
  return 0;
}

// RTN_* of an address.
uint32_t AddressType(Stack& stack, const IpAddr& a) {
  if (a.IsMulticast()) return 5;
  if (stack.IsBroadcast(a)) return 3;
  if (stack.IsLocal(a)) return 2;
  return stack.FindRoute({.dst = a}).ok() ? 1 : 7;  // RTN_UNREACHABLE
}

}  // namespace

std::optional<size_t> NftMetaSize(uint32_t key) {
  switch (key) {
    case kLen: case kPriority: case kMark: case kIif: case kOif: case kSkuid: case kSkgid: case kCpu:
    case kIifGroup: case kOifGroup: case kCgroup: case kPrandom: case kTimeHour: return 4;
    case kProtocol: case kIifType: case kOifType: return 2;
    case kIifName: case kOifName: return 16;
    case kNfProto: case kL4Proto: case kPktType: case kNfTrace: case kTimeDay: return 1;
    case kTimeNs: return 8;
    default: return std::nullopt;
  }
}

bool NftGetMeta(uint32_t key, uint8_t* to, NftPacket& p) {
  FilterPacket& k = p.packet;
  switch (key) {
    case kLen: Put32(to, static_cast<uint32_t>(k.counted())); return true;
    case kProtocol: {
      const uint16_t type = p.layer != NftFamily::kInet ? k.ethertype() : k.is_v4() ? kEthIpv4 : kEthIpv6;
      Put16(to, __builtin_bswap16(type));
      return true;
    }
    case kPriority: Put32(to, 0); return true;
    case kMark: Put32(to, k.meta.mark); return true;
    case kIif: Put32(to, k.in); return true;
    case kOif: Put32(to, k.out); return true;
    case kIifName: PutName(to, k.in_name); return true;
    case kOifName: PutName(to, k.out_name); return true;
    case kIifType:
      if (k.in == 0) return false;
      Put16(to, TypeOf(p.stack, k.in));
      return true;
    case kOifType:
      if (k.out == 0) return false;
      Put16(to, TypeOf(p.stack, k.out));
      return true;
    case kSkuid:
      if (!k.meta.uid) return false;
      Put32(to, *k.meta.uid);
      return true;
    case kNfProto:
      if (p.layer == NftFamily::kInet || p.table.family == NftFamily::kInet) {
        Put8(to, k.is_v4() ? 2 : 10);
      } else {
        Put8(to, static_cast<uint8_t>(p.layer));
      }
      return true;
    case kL4Proto:
      if (!k.is_ip()) return false;
      Put8(to, k.protocol());
      return true;
    case kPktType: Put8(to, PacketType(p)); return true;
    case kCpu: case kIifGroup: case kOifGroup: Put32(to, 0); return true;
    case kPrandom: Put32(to, static_cast<uint32_t>(p.stack.Random64())); return true;
    case kTimeHour: Put32(to, static_cast<uint32_t>(p.time % 86400)); return true;
    case kTimeDay: Put8(to, static_cast<uint8_t>((p.time / 86400 + 4) % 7)); return true;
    case kTimeNs: {
      const uint64_t ns = p.time * 1'000'000'000;
      std::memcpy(to, &ns, 8);
      return true;
    }
    default: return false;
  }
}

bool NftSetMeta(uint32_t key, const uint8_t* from, NftPacket& p) {
  // Priority, trace and packet type mean nothing to what comes after.
  if (key == kMark) std::memcpy(&p.packet.meta.mark, from, 4);
  return true;
}

std::optional<size_t> NftCtSize(uint32_t key) {
  switch (key) {
    case 0: case 2: case 3: case 5: case 23: return 4;   // state, status, mark, expiration, id
    case 19: case 20: return 4;                          // src_ip, dst_ip
    case 1: case 7: case 10: return 1;                   // direction, l3proto, protocol
    case 8: case 9: case 21: case 22: return 16;         // src, dst
    case 11: case 12: case 17: return 2;                 // ports, zone
    case 14: case 15: case 16: return 8;                 // packets, bytes, average
    case 18: return 4;                                   // event mask, to be set only
    default: return std::nullopt;
  }
}

bool NftGetCt(uint32_t key, uint8_t direction, uint8_t* to, NftPacket& p) {
  const PacketMeta& m = p.packet.meta;
  const Connection* c = m.connection.get();
  if (key == 0) {
    static constexpr uint32_t kBits[] = {1, 8, 2, 4, 1, 64};  // by CtInfo
    Put32(to, kBits[static_cast<size_t>(m.info)]);
    return true;
  }
  if (c == nullptr) return false;
  const CtTuple& tuple = c->tuples[direction == 1 ? 1 : 0];
  const auto address = [&](const IpAddr& a, std::optional<bool> v4) {
    if (v4 && a.is_v4() != *v4) return false;
    std::memset(to, 0, v4 && *v4 ? 4 : 16);
    std::memcpy(to, a.data(), a.size());
    return true;
  };
  switch (key) {
    case 1: Put8(to, m.reply); return true;
    case 2: Put32(to, c->status); return true;
    case 3: Put32(to, c->mark); return true;
    case 5:
      Put32(to, static_cast<uint32_t>(std::max<int64_t>((c->expires - p.stack.now()).millis(), 0)));
      return true;
    case 7: Put8(to, tuple.src.is_v4() ? 2 : 10); return true;
    case 8: return address(tuple.src, std::nullopt);
    case 9: return address(tuple.dst, std::nullopt);
    case 10: Put8(to, tuple.protocol); return true;
    case 11: Put16(to, __builtin_bswap16(tuple.sport)); return true;
    case 12: Put16(to, __builtin_bswap16(tuple.dport)); return true;
    case 14: case 15: case 16: {
      uint64_t packets = 0, bytes = 0;
      for (uint8_t d = 0; d < 2; d++) {
        if (direction != 2 && direction != d) continue;
        packets += c->counters[d].packets;
        bytes += c->counters[d].bytes;
      }
      const uint64_t v = key == 14 ? packets : key == 15 ? bytes : packets == 0 ? 0 : bytes / packets;
      std::memcpy(to, &v, 8);
      return true;
    }
    case 17: Put16(to, 0); return true;
    case 19: return address(tuple.src, true);
    case 20: return address(tuple.dst, true);
    case 21: return address(tuple.src, false);
    case 22: return address(tuple.dst, false);
    case 23: Put32(to, c->id); return true;
    default: return false;
  }
}

// flags: NFTA_FIB_F_SADDR 1, DADDR 2, MARK 4, IIF 8, OIF 16, PRESENT 32.
bool NftGetFib(uint32_t flags, uint32_t result, uint8_t* to, NftPacket& p) {
  if (!p.packet.is_ip()) return false;
  const IpAddr& a = (flags & 1) != 0 ? p.packet.src() : p.packet.dst();
  IfIndex only = 0;
  if ((flags & 8) != 0) only = p.packet.in;
  if ((flags & 16) != 0) only = p.packet.out;
  if (result == 3) {
    uint32_t type = AddressType(p.stack, a);
    Interface* owner = p.stack.OwnerOf(a);
    if (type == 2 && only != 0 && (owner == nullptr || owner->index != only)) type = 1;
    Put32(to, type);
    return true;
  }
  RouteQuery q{.dst = a, .mark = (flags & 4) != 0 ? p.packet.meta.mark : 0};
  NetResult<Route> route = p.stack.FindRoute(q);
  IfIndex oif = route.ok() ? route->oif : 0;
  if (only != 0 && oif != only) oif = 0;
  if ((flags & 32) != 0) {
    Put8(to, oif != 0);
  } else if (result == 1) {
    Put32(to, oif);
  } else {
    Interface* i = p.stack.FindInterface(oif);
    PutName(to, i == nullptr ? std::string() : i->config.name);
  }
  return true;
}

// NFT_RT_*: classid, next hop, next hop for IPv6, TCP's MSS.
bool NftGetRt(uint32_t key, uint8_t* to, NftPacket& p) {
  if (p.layer != NftFamily::kInet) return false;  // not routed yet
  NetResult<Route> route = p.stack.FindRoute({.dst = p.packet.dst()});
  if (!route.ok()) return false;
  switch (key) {
    case 0: return false;
    case 1:
      if (!p.packet.is_v4()) return false;
      std::memcpy(to, route->next_hop.data(), 4);
      return true;
    case 2:
      if (p.packet.is_v4()) return false;
      std::memcpy(to, route->next_hop.data(), 16);
      return true;
    default: {
      const uint32_t mtu = p.stack.PathMtu(*route), header = p.packet.is_v4() ? 40 : 60;
      Put16(to, static_cast<uint16_t>(mtu > header ? mtu - header : 0));
      return true;
    }
  }
}

void NftReject(uint32_t type, uint32_t code, NftPacket& p) {
  if (!p.packet.is_ip()) return;
  if (p.layer != NftFamily::kInet && PacketType(p) != 0 && PacketType(p) != 3) return;
  XtPacket x{p.packet, p.stack, p.conntrack, p.hook, p.nat};
  if (type == 1) return XtSendTcpReset(x);
  if (type == 2) {
    // NFT_REJECT_ICMPX_*: no route, port, host, administratively.
    static constexpr uint8_t kV4[] = {0, 3, 1, 13}, kV6[] = {0, 4, 3, 1};
    code = p.packet.is_v4() ? kV4[code & 3] : kV6[code & 3];
  }
  XtSendUnreachable(x, static_cast<uint8_t>(code));
}

IpAddr NftNatAddress(bool source, NftPacket& p) {
  XtPacket x{p.packet, p.stack, p.conntrack, p.hook, p.nat};
  return source ? XtMasqueradeAddress(x) : XtRedirectAddress(x);
}

}  // namespace ringwall::net
