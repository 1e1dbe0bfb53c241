#include "fs/netlink/ctnetlink.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include <algorithm>

#include "fs/netlink/nftables_parse.h"
#include "netstack/stack.h"

namespace ringwall::netlink {
namespace {

using net::CtTuple;
using net::IpAddr;

// The group of events, NFNLGRP_CONNTRACK_*.
constexpr uint32_t kGroupNew = 1, kGroupUpdate = 2, kGroupDestroy = 3;

uint16_t Type(int m) { return static_cast<uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | m); }

// The message's type and its answer's, by CtTuple::icmp.
constexpr uint8_t kIcmpTypes[] = {0, 8, 0, 13, 14, 15, 16, 17, 18, 139, 140};
constexpr uint8_t kIcmp6Types[] = {0, 128, 129, 0, 0, 0, 0, 0, 0, 139, 140};

void PutTuple(Builder& b, uint16_t attr, const CtTuple& t) {
  const size_t tuple = b.Nest(attr);
  const size_t ip = b.Nest(CTA_TUPLE_IP);
  const bool v4 = t.src.is_v4();
  b.Attribute(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, {t.src.data(), t.src.size()});
  b.Attribute(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, {t.dst.data(), t.dst.size()});
  b.Unnest(ip);
  const size_t proto = b.Nest(CTA_TUPLE_PROTO);
  b.U8(CTA_PROTO_NUM, t.protocol);
  if (t.protocol == IPPROTO_TCP || t.protocol == IPPROTO_UDP) {
    b.Be16(CTA_PROTO_SRC_PORT, t.sport);
    b.Be16(CTA_PROTO_DST_PORT, t.dport);
  } else if (t.protocol == IPPROTO_ICMP || t.protocol == IPPROTO_ICMPV6) {
    b.Be16(v4 ? CTA_PROTO_ICMP_ID : CTA_PROTO_ICMPV6_ID, t.sport);
    b.U8(v4 ? CTA_PROTO_ICMP_TYPE : CTA_PROTO_ICMPV6_TYPE, (v4 ? kIcmpTypes : kIcmp6Types)[t.icmp]);
    b.U8(v4 ? CTA_PROTO_ICMP_CODE : CTA_PROTO_ICMPV6_CODE, 0);
  }
  b.Unnest(proto);
  b.Unnest(tuple);
}

void Fill(Builder& b, const net::Connection& c, net::TimePoint now, bool event = false,
          bool gone = false) {
  b.Put(nfgenmsg{static_cast<uint8_t>(c.tuples[0].src.is_v4() ? AF_INET : AF_INET6), NFNETLINK_V0, 0});
  PutTuple(b, CTA_TUPLE_ORIG, c.tuples[0]);
  PutTuple(b, CTA_TUPLE_REPLY, c.tuples[1]);
  b.Be32(CTA_STATUS, c.status | (gone ? 1u << 9 : 0));
  if (!gone) {
    b.Be32(CTA_TIMEOUT, static_cast<uint32_t>(std::max<int64_t>((c.expires - now).seconds(), 0)));
    if (c.tuples[0].protocol == IPPROTO_TCP) {
      const size_t info = b.Nest(CTA_PROTOINFO);
      const size_t tcp = b.Nest(CTA_PROTOINFO_TCP);
      b.U8(CTA_PROTOINFO_TCP_STATE, c.tcp_state);
      b.U8(CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, c.tcp.side[0].scale);
      b.U8(CTA_PROTOINFO_TCP_WSCALE_REPLY, c.tcp.side[1].scale);
      for (size_t d = 0; d < 2; d++) {
        const uint8_t flags = static_cast<uint8_t>((c.tcp.side[d].has_scale ? 1 : 0) |
                                                   (c.tcp.side[d].closed_first ? 4 : 0));
        const uint8_t value[2] = {flags, 0};
        b.Value(static_cast<uint16_t>(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL + d), value);
      }
      b.Unnest(tcp);
      b.Unnest(info);
    }
  }
  if (!event || c.mark != 0) b.Be32(CTA_MARK, c.mark);
  b.Be32(CTA_ID, c.id);
  if (!event) b.Be32(CTA_USE, 1);
}

// ctnetlink_parse_tuple().
Result<CtTuple> ParseTuple(const Attr& given, uint8_t family) {
  const NfAttrs a(given.data);
  const Attr* ip = a.Get(CTA_TUPLE_IP);
  const Attr* proto = a.Get(CTA_TUPLE_PROTO);
  if (ip == nullptr || proto == nullptr) return Errno(EINVAL);
  const bool v4 = family == AF_INET;
  if (!v4 && family != AF_INET6) return Errno(EOPNOTSUPP);
  const NfAttrs ips(ip->data), protos(proto->data);
  const Attr* src = ips.Get(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC);
  const Attr* dst = ips.Get(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST);
  const size_t size = v4 ? 4 : 16;
  if (src == nullptr || dst == nullptr || src->size() < size || dst->size() < size) return Errno(EINVAL);
  CtTuple t;
  t.src = v4 ? IpAddr::V4(src->data.data()) : IpAddr::V6(src->data.data());
  t.dst = v4 ? IpAddr::V4(dst->data.data()) : IpAddr::V6(dst->data.data());
  const Attr* number = protos.Get(CTA_PROTO_NUM);
  if (number == nullptr || number->size() < 1) return Errno(EINVAL);
  t.protocol = number->U8();
  const auto port = [&](int attr) -> Result<uint16_t> {
    const Attr* p = protos.Get(static_cast<size_t>(attr));
    if (p == nullptr || p->size() < 2) return Errno(EINVAL);
    return p->Be16();
  };
  if (t.protocol == IPPROTO_TCP || t.protocol == IPPROTO_UDP) {
    t.sport = TRY(port(CTA_PROTO_SRC_PORT));
    t.dport = TRY(port(CTA_PROTO_DST_PORT));
  } else if (t.protocol == IPPROTO_ICMP || t.protocol == IPPROTO_ICMPV6) {
    t.sport = TRY(port(v4 ? CTA_PROTO_ICMP_ID : CTA_PROTO_ICMPV6_ID));
    t.dport = t.sport;
    const Attr* type = protos.Get(v4 ? CTA_PROTO_ICMP_TYPE : CTA_PROTO_ICMPV6_TYPE);
    if (type == nullptr || type->size() < 1) return Errno(EINVAL);
    const auto& types = v4 ? kIcmpTypes : kIcmp6Types;
    for (uint8_t i = 1; i < std::size(types); i++) {
      if (types[i] == type->U8() && (type->U8() != 0 || i == 2)) t.icmp = i;
    }
    if (t.icmp == 0) return Errno(EINVAL);
  }
  return t;
}

// What a dump or a flush is limited to (ctnetlink_filter).
struct Filter {
  uint8_t family = 0;
  bool by_mark = false;
  uint32_t mark = 0, mark_mask = ~0u, status = 0, status_mask = 0;
  bool Takes(const net::Connection& c) const {
    if (family != 0 && c.tuples[0].src.is_v4() != (family == AF_INET)) return false;
    if (by_mark && (c.mark & mark_mask) != mark) return false;
    return (c.status & status_mask) == (status & status_mask);
  }
};

Filter FilterOf(uint8_t family, const NfAttrs& a) {
  Filter f;
  f.family = family;
  f.by_mark = a.Get(CTA_MARK) != nullptr && a.Get(CTA_MARK_MASK) != nullptr;
  f.mark = a.Be32(CTA_MARK);
  f.mark_mask = a.Be32(CTA_MARK_MASK, ~0u);
  if (a.Get(CTA_STATUS) != nullptr) {
    f.status = a.Be32(CTA_STATUS);
    f.status_mask = a.Be32(CTA_STATUS_MASK, f.status);
  }
  return f;
}

Result<void> List(Context& c, const Filter& filter, bool zero) {
  const net::TimePoint now = c.stack().Now();
  Builder b;
  for (const Ref<net::Connection>& found : c.stack().Connections()) {
    if (!filter.Takes(*found)) continue;
    c.BeginPart(b, Type(IPCTNL_MSG_CT_NEW));
    Fill(b, *found, now);
    b.End();
  }
  static_cast<void>(zero);  // accounting is off, as it is by default: there is nothing to set to 0
  return c.Dump(b.Take());
}

Result<CtTuple> TupleOf(const NfAttrs& a, uint8_t family) {
  const Attr* orig = a.Get(CTA_TUPLE_ORIG);
  const Attr* reply = a.Get(CTA_TUPLE_REPLY);
  if (orig == nullptr && reply == nullptr) return Errno(EINVAL);
  return ParseTuple(orig != nullptr ? *orig : *reply, family);
}

RefPtr<net::Connection> Find(net::Stack& stack, const CtTuple& t) {
  for (const Ref<net::Connection>& found : stack.Connections()) {
    if (found->tuples[0] == t || found->tuples[1] == t) return RefPtr<net::Connection>(found);
  }
  return nullptr;
}

Result<void> Get(Context& c, uint8_t family, const NfAttrs& a, bool zero) {
  if ((c.message.header.flags & NLM_F_DUMP) == NLM_F_DUMP) return List(c, FilterOf(family, a), zero);
  const CtTuple t = TRY(TupleOf(a, family));
  RefPtr<net::Connection> found = Find(c.stack(), t);
  if (!found) return Errno(ENOENT);
  const net::TimePoint now = c.stack().Now();
  c.Answer(Type(IPCTNL_MSG_CT_NEW), 0, [&](Builder& b) { Fill(b, *found, now); });
  return {};
}

// ctnetlink_del_conntrack(): one, or all that a filter takes.
Result<void> Delete(Context& c, uint8_t family, const NfAttrs& a) {
  if (a.Get(CTA_TUPLE_ORIG) == nullptr && a.Get(CTA_TUPLE_REPLY) == nullptr) {
    const Filter filter = FilterOf(family, a);
    for (const Ref<net::Connection>& found : c.stack().Connections()) {
      if (filter.Takes(*found)) c.stack().ForgetConnection(found->tuples[0]);
    }
    return {};
  }
  const CtTuple t = TRY(TupleOf(a, family));
  if (const Attr* id = a.Get(CTA_ID)) {
    RefPtr<net::Connection> found = Find(c.stack(), t);
    if (!found || id->size() < 4 || id->Be32() != found->id) return Errno(ENOENT);
  }
  return c.stack().ForgetConnection(t) ? Result<void>() : Result<void>(Errno(ENOENT));
}

// nlattr_to_tcp(): the state and the flags of both directions.
void ApplyTcp(const NfAttrs& a, net::Connection& to) {
  const Attr* info = a.Get(CTA_PROTOINFO);
  if (info == nullptr || to.tuples[0].protocol != IPPROTO_TCP) return;
  const NfAttrs outer(info->data);
  const Attr* tcp = outer.Get(CTA_PROTOINFO_TCP);
  if (tcp == nullptr) return;
  const NfAttrs inner(tcp->data);
  if (const Attr* state = inner.Get(CTA_PROTOINFO_TCP_STATE); state != nullptr && state->size() >= 1) {
    if (state->U8() < net::kCtTcpStates) to.tcp_state = state->U8();
  }
  for (size_t d = 0; d < 2; d++) {
    net::CtTcp::Side& side = to.tcp.side[d];
    const Attr* flags = inner.Get(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL + d);
    if (flags == nullptr || flags->size() < 2) continue;
    const uint8_t value = flags->data[0], mask = flags->data[1];
    if ((mask & 1) != 0) side.has_scale = (value & 1) != 0;
    if ((mask & 4) != 0) side.closed_first = (value & 4) != 0;
    const Attr* scale = inner.Get(CTA_PROTOINFO_TCP_WSCALE_ORIGINAL + d);
    if (scale != nullptr && scale->size() >= 1 && side.has_scale) side.scale = std::min<uint8_t>(scale->U8(), 14);
  }
}

void Apply(const NfAttrs& a, net::TimePoint now, net::Connection& to) {
  if (a.Get(CTA_MARK) != nullptr) {
    const uint32_t mask = a.Be32(CTA_MARK_MASK, ~0u);
    to.mark = (to.mark & ~mask) | (a.Be32(CTA_MARK) & mask);
  }
  if (a.Get(CTA_TIMEOUT) != nullptr) {
    to.expires = now + net::Duration::Seconds(std::min<uint32_t>(a.Be32(CTA_TIMEOUT), INT32_MAX));
  }
  if (a.Get(CTA_STATUS) != nullptr) {
    to.status |= a.Be32(CTA_STATUS) & (net::kCtAssured | net::kCtSeenReply);
  }
  ApplyTcp(a, to);
}

// nfnetlink_parse_nat()
Result<net::NatRange> ParseNat(const Attr& given, bool v4) {
  const NfAttrs a(given.data);
  net::NatRange range;
  const auto address = [&](size_t attr) -> Result<IpAddr> {
    const Attr* ip = a.Get(attr);
    if (ip == nullptr) return IpAddr();
    if (ip->size() < (v4 ? 4u : 16u)) return Errno(EINVAL);
    return v4 ? IpAddr::V4(ip->data.data()) : IpAddr::V6(ip->data.data());
  };
  range.min = TRY(address(v4 ? CTA_NAT_V4_MINIP : CTA_NAT_V6_MINIP));
  range.max = TRY(address(v4 ? CTA_NAT_V4_MAXIP : CTA_NAT_V6_MAXIP));
  if (range.max.IsNone()) range.max = range.min;
  const Attr* proto = a.Get(CTA_NAT_PROTO);
  if (proto == nullptr) return range;
  const NfAttrs ports(proto->data);
  const Attr* low = ports.Get(CTA_PROTONAT_PORT_MIN);
  const Attr* high = ports.Get(CTA_PROTONAT_PORT_MAX);
  if ((low != nullptr && low->size() < 2) || (high != nullptr && high->size() < 2)) return Errno(EINVAL);
  if (low == nullptr) return range;
  range.has_ports = true;
  range.min_port = low->Be16();
  range.max_port = high != nullptr ? high->Be16() : range.min_port;
  return range;
}

// ctnetlink_create_conntrack().
Result<void> Create(Context& c, uint8_t family, const NfAttrs& a) {
  const Attr* orig = a.Get(CTA_TUPLE_ORIG);
  const Attr* reply = a.Get(CTA_TUPLE_REPLY);
  if (orig == nullptr || reply == nullptr) return Errno(EINVAL);
  const CtTuple first = TRY(ParseTuple(*orig, family));
  const CtTuple second = TRY(ParseTuple(*reply, family));
  Ref<net::Connection> made = MakeRef<net::Connection>();
  made->tuples = {first, second};
  if (made->tuples[0].protocol != made->tuples[1].protocol) return Errno(EINVAL);
  if (a.Get(CTA_TIMEOUT) == nullptr) return Errno(EINVAL);
  std::optional<net::NatRange> dst, src;
  if (const Attr* nat = a.Get(CTA_NAT_DST)) dst = TRY(ParseNat(*nat, first.src.is_v4()));
  if (const Attr* nat = a.Get(CTA_NAT_SRC)) src = TRY(ParseNat(*nat, first.src.is_v4()));
  Apply(a, c.stack().Now(), *made);
  net::NetResult<void> added = c.stack().AddConnection(std::move(made), dst, src);
  if (!added.ok()) return net::ToErrno(added.error());
  return {};
}

// ctnetlink_change_conntrack().
Result<void> Change(Context& c, uint8_t family, const NfAttrs& a) {
  const CtTuple t = TRY(TupleOf(a, family));
  if (!Find(c.stack(), t)) {
    if ((c.message.header.flags & NLM_F_CREATE) == 0) return Errno(ENOENT);
    return Create(c, family, a);
  }
  if ((c.message.header.flags & NLM_F_EXCL) != 0) return Errno(EEXIST);
  if (a.Get(CTA_NAT_SRC) != nullptr || a.Get(CTA_NAT_DST) != nullptr) return Errno(EOPNOTSUPP);
  const net::TimePoint now = c.stack().Now();
  const bool known = c.stack().ChangeConnection(t, [&](net::Connection& found) {
    Apply(a, now, found);
  });
  return known ? Result<void>() : Result<void>(Errno(ENOENT));
}

}  // namespace

Result<void> Conntrack(Context& c) {
  const nfgenmsg g = ReadAs<nfgenmsg>(c.message.payload);
  const NfAttrs a(c.message.payload.subspan(sizeof(nfgenmsg)));
  switch (c.message.header.type & 0xff) {
    case IPCTNL_MSG_CT_NEW: return Change(c, g.nfgen_family, a);
    case IPCTNL_MSG_CT_GET: return Get(c, g.nfgen_family, a, false);
    case IPCTNL_MSG_CT_GET_CTRZERO: return Get(c, g.nfgen_family, a, true);
    case IPCTNL_MSG_CT_DELETE: return Delete(c, g.nfgen_family, a);
    case IPCTNL_MSG_CT_GET_STATS: {
      const uint32_t count = static_cast<uint32_t>(c.stack().Connections().size());
      c.Answer(Type(IPCTNL_MSG_CT_GET_STATS), 0, [&](Builder& b) {
        b.Put(nfgenmsg{AF_UNSPEC, NFNETLINK_V0, 0});
        b.Be32(CTA_STATS_GLOBAL_ENTRIES, count);
        b.Be32(CTA_STATS_GLOBAL_MAX_ENTRIES, static_cast<uint32_t>(net::Conntrack::kMax));
      });
      return {};
    }
    case IPCTNL_MSG_CT_GET_STATS_CPU:
    case IPCTNL_MSG_CT_GET_DYING:
    case IPCTNL_MSG_CT_GET_UNCONFIRMED:
      if ((c.message.header.flags & NLM_F_DUMP) != NLM_F_DUMP) return Errno(EINVAL);
      return c.Dump({});
    default: return Errno(EINVAL);
  }
}

void NotifyConnection(NetNamespace& net, const net::StackHost::Change& change) {
  if (change.connection == nullptr) return;
  const uint32_t group = change.removed ? kGroupDestroy : change.fresh ? kGroupNew : kGroupUpdate;
  if (!HasListeners(&net, NETLINK_NETFILTER, group)) return;
  Builder b;
  b.Begin(Type(change.removed ? IPCTNL_MSG_CT_DELETE : IPCTNL_MSG_CT_NEW),
          change.fresh ? NLM_F_CREATE | NLM_F_EXCL : 0, 0, 0);
  Fill(b, *change.connection, net.stack().now(), true, change.removed);
  b.End();
  Multicast(&net, NETLINK_NETFILTER, group, b.Take());
}

}  // namespace ringwall::netlink
