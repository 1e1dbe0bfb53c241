// RTM_*RULE (net/core/fib_rules.c).
#include <linux/fib_rules.h>

#include "fs/netlink/route.h"

namespace ringwall::netlink {
namespace {

constexpr Policy<FRA_DPORT_RANGE> kRuleRules = {
    {FRA_IIFNAME, {AttrKind::kString, 15}},
    {FRA_GOTO, {AttrKind::kU32}},
    {FRA_PRIORITY, {AttrKind::kU32}},
    {FRA_FWMARK, {AttrKind::kU32}},
    {FRA_FLOW, {AttrKind::kU32}},
    {FRA_TUN_ID, {AttrKind::kU64}},
    {FRA_SUPPRESS_IFGROUP, {AttrKind::kU32}},
    {FRA_SUPPRESS_PREFIXLEN, {AttrKind::kU32}},
    {FRA_TABLE, {AttrKind::kU32}},
    {FRA_FWMASK, {AttrKind::kU32}},
    {FRA_OIFNAME, {AttrKind::kString, 15}},
    {FRA_L3MDEV, {AttrKind::kU8}},
    {FRA_UID_RANGE, {AttrKind::kAny, 8}},
    {FRA_PROTOCOL, {AttrKind::kU8}},
    {FRA_IP_PROTO, {AttrKind::kU8}},
    {FRA_SPORT_RANGE, {AttrKind::kAny, 4}},
    {FRA_DPORT_RANGE, {AttrKind::kAny, 4}},
};
using RuleAttrs = Attrs<FRA_DPORT_RANGE>;

}  // namespace

void FillRule(Builder& b, const net::RuleEntry& r) {
  fib_rule_hdr head = {};
  head.family = AfOf(r.family);
  head.dst_len = r.dst.len;
  head.src_len = r.src.len;
  head.tos = r.tos;
  head.table = r.table < 256 ? static_cast<uint8_t>(r.table) : uint8_t{RT_TABLE_COMPAT};
  head.action = static_cast<uint8_t>(r.action);
  if (r.action != net::RuleAction::kTable) head.table = 0;
  if (r.invert) head.flags |= FIB_RULE_INVERT;
  // Of interfaces that are not there.
  if (!r.iif_name.empty() && r.iif == 0) head.flags |= FIB_RULE_IIF_DETACHED;
  if (!r.oif_name.empty() && r.oif == 0) head.flags |= FIB_RULE_OIF_DETACHED;
  b.Put(head);
  if (r.action == net::RuleAction::kTable) b.U32(FRA_TABLE, r.table);
  b.U32(FRA_SUPPRESS_PREFIXLEN, static_cast<uint32_t>(r.suppress_prefix_len));
  b.U8(FRA_PROTOCOL, r.protocol);
  if (!r.iif_name.empty()) b.Text(FRA_IIFNAME, r.iif_name);
  if (!r.oif_name.empty()) b.Text(FRA_OIFNAME, r.oif_name);
  if (r.priority != 0) b.U32(FRA_PRIORITY, r.priority);
  if (r.mark != 0) b.U32(FRA_FWMARK, r.mark);
  if (r.mark != 0 || r.mark_mask != 0) b.U32(FRA_FWMASK, r.mark_mask);
  if (r.action == net::RuleAction::kGoto) b.U32(FRA_GOTO, r.target);
  if (r.uids) b.Value(FRA_UID_RANGE, std::array<uint32_t, 2>{r.uids->first, r.uids->second});
  if (r.ip_proto != 0) b.U8(FRA_IP_PROTO, r.ip_proto);
  const auto ports = [&](uint16_t type, const auto& p) {
    if (p) b.Value(type, std::array<uint16_t, 2>{p->first, p->second});
  };
  ports(FRA_SPORT_RANGE, r.source_ports);
  ports(FRA_DPORT_RANGE, r.dest_ports);
  if (r.suppress_group != -1) b.U32(FRA_SUPPRESS_IFGROUP, static_cast<uint32_t>(r.suppress_group));
  if (r.dst.len != 0) PutAddress(b, FRA_DST, r.dst.addr);
  if (r.src.len != 0) PutAddress(b, FRA_SRC, r.src.addr);
}

Result<void> DumpRules(Context& c) {
  const uint8_t af = c.message.payload[0];
  TRY(CheckHead(c, {sizeof(fib_rule_hdr), ByteRange(1, 11),
                    "Invalid header for fib rule dump request",
                    "Invalid values in header for fib rule dump request",
                    "Invalid data after header in fib rule dump request"}));
  if (af != AF_UNSPEC && af != AF_INET && af != AF_INET6) return Errno(EAFNOSUPPORT);
  Builder b;
  for (net::Family f : {net::Family::kV4, net::Family::kV6}) {
    if (af != AF_UNSPEC && FamilyOf(af) != f) continue;
    for (const net::RuleEntry& r : c.stack().Rules()) {
      if (r.family != f) continue;
      c.BeginPart(b, RTM_NEWRULE);
      FillRule(b, r);
      b.End();
    }
  }
  return c.Dump(b.Take());
}

namespace {

struct Asked {
  net::RuleEntry rule;
  RuleAttrs attrs;
  fib_rule_hdr head;
};

Result<Asked> ReadRule(Context& c) {
  Asked q;
  if (c.message.payload.size() < sizeof(fib_rule_hdr)) {
    return c.ack.Fail(EINVAL, "Invalid msg length");
  }
  q.head = TRY(Head<fib_rule_hdr>(c));
  const net::Family family = FamilyOf(q.head.family);
  if (family == net::Family::kNone) return c.ack.Fail(EAFNOSUPPORT, "Rule family not supported");
  Result<RuleAttrs> attrs =
      ParseAttrs<FRA_DPORT_RANGE>(Tail(c, sizeof(fib_rule_hdr)), kRuleRules, &c.ack);
  if (!attrs.ok()) {
    c.ack.message = "Error parsing msg";  // the attribute stays named
    return attrs.error();
  }
  q.attrs = *attrs;
  const RuleAttrs& a = q.attrs;
  net::RuleEntry& r = q.rule;
  r.family = family;
  const uint8_t bits = family == net::Family::kV4 ? 32 : 128;
  if (q.head.src_len > bits || (q.head.src_len != 0 && !a.Has(FRA_SRC))) {
    return c.ack.Fail(EINVAL, "Invalid source address");
  }
  if (q.head.dst_len > bits || (q.head.dst_len != 0 && !a.Has(FRA_DST))) {
    return c.ack.Fail(EINVAL, "Invalid destination address");
  }
  if (q.head.src_len != 0) {
    const net::IpAddr x = TRY(AddressOf(*a.Get(FRA_SRC), family, c.ack));
    r.src = {x, q.head.src_len};
  }
  if (q.head.dst_len != 0) {
    const net::IpAddr x = TRY(AddressOf(*a.Get(FRA_DST), family, c.ack));
    r.dst = {x, q.head.dst_len};
  }
  r.tos = q.head.tos;
  r.invert = (q.head.flags & FIB_RULE_INVERT) != 0;
  r.priority = a.U32(FRA_PRIORITY);
  r.table = a.U32(FRA_TABLE, q.head.table);
  r.mark = a.U32(FRA_FWMARK);
  r.mark_mask = a.U32(FRA_FWMASK, a.Has(FRA_FWMARK) && r.mark != 0 ? ~0u : 0);
  if (const Attr* x = a.Get(FRA_IIFNAME)) r.iif_name = std::string(x->Text());
  if (const Attr* x = a.Get(FRA_OIFNAME)) r.oif_name = std::string(x->Text());
  r.suppress_prefix_len = static_cast<int32_t>(a.U32(FRA_SUPPRESS_PREFIXLEN, ~0u));
  r.suppress_group = static_cast<int32_t>(a.U32(FRA_SUPPRESS_IFGROUP, ~0u));
  if (const Attr* x = a.Get(FRA_PROTOCOL)) r.protocol = x->U8();
  if (const Attr* x = a.Get(FRA_IP_PROTO)) r.ip_proto = x->U8();
  if (const Attr* x = a.Get(FRA_UID_RANGE)) {
    const std::array<uint32_t, 2> u = x->As<std::array<uint32_t, 2>>();
    if (u[0] > u[1]) return c.ack.Fail(EINVAL, "Invalid uid range");
    r.uids = {u[0], u[1]};
  }
  const auto ports = [&](size_t type) -> Result<std::optional<std::pair<uint16_t, uint16_t>>> {
    const Attr* x = a.Get(type);
    if (x == nullptr) return std::optional<std::pair<uint16_t, uint16_t>>();
    const std::array<uint16_t, 2> p = x->As<std::array<uint16_t, 2>>();
    if (p[0] == 0 || p[1] < p[0]) {
      return c.ack.Fail(EINVAL, type == FRA_SPORT_RANGE ? "Invalid sport range" : "Invalid dport range");
    }
    return std::optional(std::pair(p[0], p[1]));
  };
  r.source_ports = TRY(ports(FRA_SPORT_RANGE));
  r.dest_ports = TRY(ports(FRA_DPORT_RANGE));
  if (a.Has(FRA_GOTO) && q.head.action != FR_ACT_GOTO) return c.ack.Fail(EINVAL, "Unexpected goto");
  if (const Attr* x = a.Get(FRA_L3MDEV); x != nullptr && x->U8() != 1) {
    return c.ack.Fail(EINVAL, "Invalid l3mdev attribute");
  }
  switch (q.head.action) {
    case 0:
    case FR_ACT_TO_TBL: r.action = net::RuleAction::kTable; break;
    case FR_ACT_GOTO:
      r.action = net::RuleAction::kGoto;
      r.target = a.U32(FRA_GOTO);
      break;
    case FR_ACT_NOP: r.action = net::RuleAction::kNop; break;
    case FR_ACT_BLACKHOLE: r.action = net::RuleAction::kBlackhole; break;
    case FR_ACT_UNREACHABLE: r.action = net::RuleAction::kUnreachable; break;
    case FR_ACT_PROHIBIT: r.action = net::RuleAction::kProhibit; break;
    default: return c.ack.Fail(EINVAL, "Invalid action");
  }
  return q;
}

}  // namespace

Result<void> NewRule(Context& c) {
  Asked q = TRY(ReadRule(c));
  net::RuleEntry& r = q.rule;
  if (r.action == net::RuleAction::kGoto) {
    if (!q.attrs.Has(FRA_GOTO)) return c.ack.Fail(EINVAL, "Invalid goto rule");
    if (r.target <= r.priority) return c.ack.Fail(EINVAL, "Backward goto not supported");
  }
  if (r.action == net::RuleAction::kTable && r.table == 0) {
    // Linux gives such a rule a table of its own; nothing could ever fill it here.
    if (r.family == net::Family::kV4) r.table = 1;
    else return c.ack.Fail(EINVAL, "Invalid table");
  }
  const std::vector<net::RuleEntry> all = c.stack().Rules();
  if (!q.attrs.Has(FRA_PRIORITY)) {
    // fib_default_rule_pref(): one before the second of the list.
    size_t seen = 0;
    for (const net::RuleEntry& have : all) {
      if (have.family == r.family && seen++ == 1) {
        r.priority = have.priority == 0 ? 0 : have.priority - 1;
        break;
      }
    }
  }
  if ((c.message.header.flags & NLM_F_EXCL) != 0) {
    for (net::RuleEntry have : all) {
      have.iif = have.oif = 0;
      if (have == r) return Errno(EEXIST);
    }
  }
  c.stack().AddRule(r);
  return {};
}

Result<void> DelRule(Context& c) {
  const Asked q = TRY(ReadRule(c));
  const net::RuleEntry& r = q.rule;
  const RuleAttrs& a = q.attrs;
  for (const net::RuleEntry& have : c.stack().Rules()) {
    if (have.family != r.family) continue;
    if (q.head.action != 0 && have.action != r.action) continue;
    if (r.table != 0 && have.table != r.table) continue;
    if (a.Has(FRA_PRIORITY) && r.priority != 0 && have.priority != r.priority) continue;
    if (!r.iif_name.empty() && have.iif_name != r.iif_name) continue;
    if (!r.oif_name.empty() && have.oif_name != r.oif_name) continue;
    if (r.mark != 0 && have.mark != r.mark) continue;
    if (r.mark_mask != 0 && have.mark_mask != r.mark_mask) continue;
    if (q.head.src_len != 0 && have.src != r.src) continue;
    if (q.head.dst_len != 0 && have.dst != r.dst) continue;
    if (r.tos != 0 && have.tos != r.tos) continue;
    if (r.ip_proto != 0 && have.ip_proto != r.ip_proto) continue;
    if (r.uids && have.uids != r.uids) continue;
    if (r.source_ports && have.source_ports != r.source_ports) continue;
    if (r.dest_ports && have.dest_ports != r.dest_ports) continue;
    return FromNet(c.stack().RemoveRule(have));
  }
  return Errno(ENOENT);
}

}  // namespace ringwall::netlink
