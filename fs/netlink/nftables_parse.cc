#include "fs/netlink/nftables_parse.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>

namespace ringwall::netlink {
namespace {

using net::NftSpec;

class Reader {
 public:
  Reader(std::string_view kind, Bytes data, net::NftFamily family, NftNames& names)
      : a_(data), data_(data), family_(family), names_(names) {
    s_.kind = kind;
  }
  Result<Ref<net::NftExpr>> Read();

 private:
  Result<void> Register(size_t attr, size_t n, uint8_t* to, bool* has) {
    const Attr* a = a_.Get(attr);
    if (a == nullptr) return {};
    if (a->size() < 4) return Errno(EINVAL);
    const std::optional<uint8_t> place = net::NftRegister(a->Be32(), n);
    if (!place) return Errno(n == 0 ? EINVAL : ERANGE);
    *to = *place;
    *has = true;
    return {};
  }
  Result<void> Source(size_t attr, size_t n) {
    TRY(Register(attr, n, &s_.sreg, &s_.has_sreg));
    return s_.has_sreg ? Result<void>() : Result<void>(Errno(EINVAL));
  }
  Result<void> Destination(size_t attr, size_t n) {
    TRY(Register(attr, n, &s_.dreg, &s_.has_dreg));
    return s_.has_dreg ? Result<void>() : Result<void>(Errno(EINVAL));
  }
  Result<void> Value(size_t attr, std::vector<uint8_t>* to) {
    const Attr* a = a_.Get(attr);
    if (a == nullptr) return Errno(EINVAL);
    const NfAttrs inner(a->data);
    const Attr* v = inner.Get(NFTA_DATA_VALUE);
    if (v == nullptr || v->size() == 0 || v->size() > net::kNftRegBytes) return Errno(EINVAL);
    to->assign(v->data.begin(), v->data.end());
    return {};
  }
  // The settings as they came, but with the set's real name.
  std::vector<uint8_t> WithSetName(size_t name, size_t id, const std::string& set) const {
    Builder b;
    AttrWalk walk(data_);
    while (std::optional<Attr> a = walk.Next()) {
      if (a->type != name && a->type != id) b.Attribute(a->type, a->data);
    }
    b.Text(static_cast<uint16_t>(name), set);
    return b.Take();
  }
  Result<void> CheckLayer() const;
  Result<void> Simple();
  Result<void> Packet();
  Result<void> Translate();
  Result<void> Tproxy();
  Result<void> Sets();
  Result<void> Limits();
  Result<void> Extension();

  const NfAttrs a_;
  const Bytes data_;
  const net::NftFamily family_;
  NftNames& names_;
  NftSpec s_;
  std::optional<std::vector<uint8_t>> raw_;
};

Result<void> Reader::Simple() {
  const std::string& k = s_.kind;
  if (k == "immediate") {
    const Attr* reg = a_.Get(NFTA_IMMEDIATE_DREG);
    const Attr* data = a_.Get(NFTA_IMMEDIATE_DATA);
    if (reg == nullptr || data == nullptr || reg->size() < 4) return Errno(EINVAL);
    if (reg->Be32() == NFT_REG_VERDICT) {
      s_.has_verdict = true;
      TRY(names_.Verdict(*data, &s_.verdict));
      Builder b;
      b.Be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      const size_t nest = b.Nest(NFTA_IMMEDIATE_DATA | NLA_F_NESTED);
      const size_t verdict = b.Nest(NFTA_DATA_VERDICT | NLA_F_NESTED);
      b.Be32(NFTA_VERDICT_CODE, static_cast<uint32_t>(s_.verdict.code));
      if (!s_.verdict.chain.empty()) b.Text(NFTA_VERDICT_CHAIN, s_.verdict.chain);
      b.Unnest(verdict);
      b.Unnest(nest);
      raw_ = b.Take();
      return {};
    }
    TRY(Value(NFTA_IMMEDIATE_DATA, &s_.data));
    return Destination(NFTA_IMMEDIATE_DREG, s_.data.size());
  }
  if (k == "cmp") {
    TRY(Value(NFTA_CMP_DATA, &s_.data));
    s_.op = a_.Be32(NFTA_CMP_OP, 99);
    return Source(NFTA_CMP_SREG, s_.data.size());
  }
  if (k == "range") {
    TRY(Value(NFTA_RANGE_FROM_DATA, &s_.data));
    TRY(Value(NFTA_RANGE_TO_DATA, &s_.data2));
    s_.op = a_.Be32(NFTA_RANGE_OP, 99);
    return Source(NFTA_RANGE_SREG, s_.data.size());
  }
  if (k == "bitwise") {
    s_.length = a_.Be32(NFTA_BITWISE_LEN);
    s_.op = a_.Be32(NFTA_BITWISE_OP);
    TRY(Source(NFTA_BITWISE_SREG, s_.length));
    TRY(Destination(NFTA_BITWISE_DREG, s_.length));
    if (s_.op != NFT_BITWISE_BOOL) return Value(NFTA_BITWISE_DATA, &s_.data);
    TRY(Value(NFTA_BITWISE_MASK, &s_.data));
    return Value(NFTA_BITWISE_XOR, &s_.data2);
  }
  // byteorder
  s_.length = a_.Be32(NFTA_BYTEORDER_LEN);
  s_.size = a_.Be32(NFTA_BYTEORDER_SIZE);
  s_.op = a_.Be32(NFTA_BYTEORDER_OP, 99);
  TRY(Source(NFTA_BYTEORDER_SREG, s_.length));
  return Destination(NFTA_BYTEORDER_DREG, s_.length);
}

Result<void> Reader::Packet() {
  const std::string& k = s_.kind;
  if (k == "payload") {
    s_.base = a_.Be32(NFTA_PAYLOAD_BASE, 99);
    s_.offset = a_.Be32(NFTA_PAYLOAD_OFFSET, UINT32_MAX);
    s_.length = a_.Be32(NFTA_PAYLOAD_LEN);
    if (a_.Get(NFTA_PAYLOAD_SREG) != nullptr) return Source(NFTA_PAYLOAD_SREG, s_.length);
    return Destination(NFTA_PAYLOAD_DREG, s_.length);
  }
  if (k == "meta") {
    s_.key = a_.Be32(NFTA_META_KEY, UINT32_MAX);
    if (a_.Get(NFTA_META_SREG) != nullptr) return Source(NFTA_META_SREG, 1);
    return Destination(NFTA_META_DREG, 1);
  }
  if (k == "ct") {
    s_.key = a_.Be32(NFTA_CT_KEY, UINT32_MAX);
    if (const Attr* d = a_.Get(NFTA_CT_DIRECTION)) {
      s_.has_direction = true;
      s_.direction = d->U8();
    }
    if (a_.Get(NFTA_CT_SREG) != nullptr) return Source(NFTA_CT_SREG, 1);
    return Destination(NFTA_CT_DREG, 1);
  }
  if (k == "rt") {
    s_.key = a_.Be32(NFTA_RT_KEY, UINT32_MAX);
    return Destination(NFTA_RT_DREG, 1);
  }
  if (k == "fib") {
    s_.key = a_.Be32(NFTA_FIB_RESULT);
    s_.flags = a_.Be32(NFTA_FIB_FLAGS);
    return Destination(NFTA_FIB_DREG, 4);
  }
  if (k == "exthdr") {
    const Attr* type = a_.Get(NFTA_EXTHDR_TYPE);
    if (type == nullptr) return Errno(EINVAL);
    s_.type = type->U8();
    s_.offset = a_.Be32(NFTA_EXTHDR_OFFSET);
    s_.length = a_.Be32(NFTA_EXTHDR_LEN);
    s_.flags = a_.Be32(NFTA_EXTHDR_FLAGS);
    s_.op = a_.Be32(NFTA_EXTHDR_OP);
    if (s_.offset > 255 || s_.length > 255) return Errno(ERANGE);
    if (a_.Get(NFTA_EXTHDR_SREG) != nullptr) return Errno(EOPNOTSUPP);
    return Destination(NFTA_EXTHDR_DREG, std::max<uint32_t>(s_.length, 1));
  }
  if (k == "numgen") {
    s_.size = a_.Be32(NFTA_NG_MODULUS);
    s_.type = a_.Be32(NFTA_NG_TYPE, 99);
    s_.offset = a_.Be32(NFTA_NG_OFFSET);
    return Destination(NFTA_NG_DREG, 4);
  }
  // hash
  s_.length = a_.Be32(NFTA_HASH_LEN);
  s_.size = a_.Be32(NFTA_HASH_MODULUS);
  s_.offset = a_.Be32(NFTA_HASH_OFFSET);
  if (a_.Be32(NFTA_HASH_TYPE) != 0) return Errno(EOPNOTSUPP);
  TRY(Source(NFTA_HASH_SREG, s_.length));
  return Destination(NFTA_HASH_DREG, 4);
}

Result<void> Reader::Translate() {
  if (s_.kind == "reject") {
    s_.type = a_.Be32(NFTA_REJECT_TYPE, 99);
    const Attr* code = a_.Get(NFTA_REJECT_ICMP_CODE);
    if (code != nullptr) s_.code = code->U8();
    if (s_.type != NFT_REJECT_TCP_RST && code == nullptr) return Errno(EINVAL);
    return {};
  }
  if (s_.kind == "nat") {
    s_.type = a_.Be32(NFTA_NAT_TYPE, 99);
    s_.family = a_.Be32(NFTA_NAT_FAMILY);
    s_.flags = a_.Be32(NFTA_NAT_FLAGS);
    if (s_.family != NFPROTO_IPV4 && s_.family != NFPROTO_IPV6) return Errno(EAFNOSUPPORT);
    const size_t n = s_.family == NFPROTO_IPV4 ? 4 : 16;
    TRY(Register(NFTA_NAT_REG_ADDR_MIN, n, &s_.reg_addr, &s_.has_addr));
    TRY(Register(NFTA_NAT_REG_ADDR_MAX, n, &s_.reg_max_addr, &s_.has_max_addr));
    TRY(Register(NFTA_NAT_REG_PROTO_MIN, 2, &s_.reg_port, &s_.has_port));
    return Register(NFTA_NAT_REG_PROTO_MAX, 2, &s_.reg_max_port, &s_.has_max_port);
  }
  struct Numbers {
    size_t flags, low, high;
  };
  static constexpr Numbers kMasq = {NFTA_MASQ_FLAGS, NFTA_MASQ_REG_PROTO_MIN, NFTA_MASQ_REG_PROTO_MAX};
  static constexpr Numbers kRedir = {NFTA_REDIR_FLAGS, NFTA_REDIR_REG_PROTO_MIN, NFTA_REDIR_REG_PROTO_MAX};
  const Numbers& n = s_.kind == "masq" ? kMasq : kRedir;
  s_.flags = a_.Be32(n.flags);
  TRY(Register(n.low, 2, &s_.reg_port, &s_.has_port));
  return Register(n.high, 2, &s_.reg_max_port, &s_.has_max_port);
}

// nft_tproxy_init()
Result<void> Reader::Tproxy() {
  const bool addr = a_.Get(NFTA_TPROXY_REG_ADDR) != nullptr;
  if (a_.Get(NFTA_TPROXY_FAMILY) == nullptr || (!addr && a_.Get(NFTA_TPROXY_REG_PORT) == nullptr)) {
    return Errno(EINVAL);
  }
  s_.family = a_.Be32(NFTA_TPROXY_FAMILY);
  switch (family_) {
    case net::NftFamily::kIp:
      if (s_.family != NFPROTO_IPV4) return Errno(EINVAL);
      break;
    case net::NftFamily::kIp6:
      if (s_.family != NFPROTO_IPV6) return Errno(EINVAL);
      break;
    case net::NftFamily::kInet:
      break;
    default:
      return Errno(EOPNOTSUPP);
  }
  if (s_.family == NFPROTO_UNSPEC && addr) return Errno(EINVAL);
  if (s_.family != NFPROTO_UNSPEC && s_.family != NFPROTO_IPV4 && s_.family != NFPROTO_IPV6) {
    return Errno(EOPNOTSUPP);
  }
  TRY(Register(NFTA_TPROXY_REG_ADDR, s_.family == NFPROTO_IPV4 ? 4 : 16, &s_.reg_addr, &s_.has_addr));
  return Register(NFTA_TPROXY_REG_PORT, 2, &s_.reg_port, &s_.has_port);
}

Result<void> Reader::Sets() {
  if (s_.kind == "lookup") {
    const net::NftSet* set = TRY(names_.Set(a_.Get(NFTA_LOOKUP_SET), a_.Get(NFTA_LOOKUP_SET_ID)));
    s_.set = set->name;
    s_.invert = (a_.Be32(NFTA_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV) != 0;
    TRY(Source(NFTA_LOOKUP_SREG, set->key_size));
    if (const Attr* dreg = a_.Get(NFTA_LOOKUP_DREG)) {
      if (s_.invert || (set->flags & net::kNftSetMap) == 0) return Errno(EINVAL);
      if (dreg->Be32() == NFT_REG_VERDICT) {
        if (!set->verdicts()) return Errno(EINVAL);
        s_.has_verdict = true;
      } else {
        if (set->verdicts()) return Errno(EINVAL);
        TRY(Destination(NFTA_LOOKUP_DREG, set->data_size));
      }
    }
    raw_ = WithSetName(NFTA_LOOKUP_SET, NFTA_LOOKUP_SET_ID, set->name);
    return {};
  }
  if (s_.kind == "dynset") {
    const net::NftSet* set = TRY(names_.Set(a_.Get(NFTA_DYNSET_SET_NAME), a_.Get(NFTA_DYNSET_SET_ID)));
    if ((set->flags & net::kNftSetConstant) != 0) return Errno(EBUSY);
    s_.set = set->name;
    s_.op = a_.Be32(NFTA_DYNSET_OP, 99);
    s_.timeout_ms = a_.Be64(NFTA_DYNSET_TIMEOUT);
    s_.invert = (a_.Be32(NFTA_DYNSET_FLAGS) & 1) != 0;
    TRY(Source(NFTA_DYNSET_SREG_KEY, set->key_size));
    if (a_.Get(NFTA_DYNSET_SREG_DATA) != nullptr) {
      if ((set->flags & net::kNftSetMap) == 0 || set->verdicts()) return Errno(EOPNOTSUPP);
      TRY(Register(NFTA_DYNSET_SREG_DATA, set->data_size, &s_.sreg2, &s_.has_sreg2));
    }
    if (const Attr* one = a_.Get(NFTA_DYNSET_EXPR)) {
      Ref<net::NftExpr> e = TRY(names_.Expr(*one));
      s_.exprs.push_back(std::move(e));
    }
    if (const Attr* list = a_.Get(NFTA_DYNSET_EXPRESSIONS)) {
      AttrWalk walk(list->data);
      while (std::optional<Attr> one = walk.Next()) {
        Ref<net::NftExpr> e = TRY(names_.Expr(*one));
        s_.exprs.push_back(std::move(e));
        if (s_.exprs.size() > 2) return Errno(E2BIG);
      }
    }
    raw_ = WithSetName(NFTA_DYNSET_SET_NAME, NFTA_DYNSET_SET_ID, set->name);
    return {};
  }
  // objref
  if (const Attr* name = a_.Get(NFTA_OBJREF_IMM_NAME)) {
    s_.object = name->Text();
    if (!names_.HasObject(s_.object)) return Errno(ENOENT);
    Builder b;
    b.Be32(NFTA_OBJREF_IMM_TYPE, a_.Be32(NFTA_OBJREF_IMM_TYPE));
    b.Text(NFTA_OBJREF_IMM_NAME, s_.object);
    raw_ = b.Take();
    return {};
  }
  const net::NftSet* set = TRY(names_.Set(a_.Get(NFTA_OBJREF_SET_NAME), a_.Get(NFTA_OBJREF_SET_ID)));
  if ((set->flags & net::kNftSetObject) == 0) return Errno(EINVAL);
  s_.set = set->name;
  TRY(Source(NFTA_OBJREF_SET_SREG, set->key_size));
  raw_ = WithSetName(NFTA_OBJREF_SET_NAME, NFTA_OBJREF_SET_ID, set->name);
  return {};
}

Result<void> Reader::Limits() {
  if (s_.kind == "counter") {
    s_.bytes = a_.Be64(NFTA_COUNTER_BYTES);
    s_.packets = a_.Be64(NFTA_COUNTER_PACKETS);
  } else if (s_.kind == "limit") {
    s_.rate = a_.Be64(NFTA_LIMIT_RATE);
    s_.unit = a_.Be64(NFTA_LIMIT_UNIT);
    s_.burst = a_.Be32(NFTA_LIMIT_BURST);
    s_.type = a_.Be32(NFTA_LIMIT_TYPE);
    s_.invert = (a_.Be32(NFTA_LIMIT_FLAGS) & NFT_LIMIT_F_INV) != 0;
    if (s_.rate == 0) return Errno(EINVAL);
    if (s_.unit == 0 || s_.unit > UINT32_MAX) return Errno(EOVERFLOW);
    if (s_.burst == 0 && s_.type == 0) s_.burst = 5;
  } else if (s_.kind == "quota") {
    s_.bytes = a_.Be64(NFTA_QUOTA_BYTES);
    s_.packets = a_.Be64(NFTA_QUOTA_CONSUMED);
    s_.invert = (a_.Be32(NFTA_QUOTA_FLAGS) & NFT_QUOTA_F_INV) != 0;
    if (s_.bytes == 0) return Errno(EINVAL);
  } else if (s_.kind == "queue") {
    if (const Attr* flags = a_.Get(NFTA_QUEUE_FLAGS)) s_.flags = __builtin_bswap16(flags->U16());
  }
  return {};
}

Result<void> Reader::Extension() {
  const bool match = s_.kind == "match";
  // The numbers of NFTA_MATCH_* and NFTA_TARGET_* are the same.
  const Attr* name = a_.Get(NFTA_MATCH_NAME);
  const Attr* rev = a_.Get(NFTA_MATCH_REV);
  const Attr* info = a_.Get(NFTA_MATCH_INFO);
  if (name == nullptr || rev == nullptr || info == nullptr) return Errno(EINVAL);
  if (family_ == net::NftFamily::kInet) return Errno(EOPNOTSUPP);
  s_.name = name->Text();
  s_.revision = static_cast<uint8_t>(rev->Be32());
  s_.data.assign(info->data.begin(), info->data.end());
  s_.data.resize(net::XtAlign(s_.data.size()));
  const net::Family family = family_ == net::NftFamily::kIp ? net::Family::kV4 : net::Family::kV6;
  // What the rule's own header would say of protocol and table is nftables' to check elsewhere.
  static constexpr uint16_t kProtocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6};
  net::NetResult<void> checked = net::NetError::kInvalid;
  if (match) {
    for (uint16_t p : kProtocols) {
      checked = net::XtCheckMatch(s_.name, s_.revision, s_.data, family, p, false);
      if (checked.ok()) break;
    }
  } else {
    for (const char* table : {"filter", "nat", "mangle", "raw"}) {
      checked = net::XtCheckTarget(s_.name, s_.revision, s_.data, family, table, 0);
      if (checked.ok()) break;
    }
  }
  if (!checked.ok()) return net::ToErrno(checked.error());
  return {};
}

// What there is not for frames: their families have no connections, no routes, no sockets.
Result<void> Reader::CheckLayer() const {
  using net::NftFamily;
  const std::string& k = s_.kind;
  const bool netdev = family_ == NftFamily::kNetdev;
  if ((k == "fwd" || k == "dup") && !netdev) return Errno(ENOENT);
  if (family_ != NftFamily::kArp && family_ != NftFamily::kBridge && !netdev) return {};
  if (k == "ct") return Errno(EPROTO);
  if (k == "socket") return Errno(EOPNOTSUPP);
  if (!netdev && (k == "fib" || k == "reject")) return Errno(ENOENT);
  if (k == "queue" || k == "nat" || k == "masq" || k == "redir" || k == "match" || k == "target") return Errno(ENOENT);
  return {};
}

Result<Ref<net::NftExpr>> Reader::Read() {
  const std::string& k = s_.kind;
  TRY(CheckLayer());
  if (k == "immediate" || k == "cmp" || k == "range" || k == "bitwise" || k == "byteorder") {
    TRY(Simple());
  } else if (k == "payload" || k == "meta" || k == "ct" || k == "rt" || k == "fib" || k == "exthdr" ||
             k == "numgen" || k == "hash") {
    TRY(Packet());
  } else if (k == "reject" || k == "nat" || k == "masq" || k == "redir") {
    TRY(Translate());
  } else if (k == "fwd") {
    // By a neighbour's address: not here.
    if (a_.Get(NFTA_FWD_SREG_ADDR) != nullptr) return Errno(EOPNOTSUPP);
    TRY(Source(NFTA_FWD_SREG_DEV, 4));
  } else if (k == "dup") {
    TRY(Source(NFTA_DUP_SREG_DEV, 4));
  } else if (k == "tproxy") {
    TRY(Tproxy());
  } else if (k == "socket") {
    s_.key = a_.Be32(NFTA_SOCKET_KEY, 99);
    TRY(Destination(NFTA_SOCKET_DREG, s_.key == NFT_SOCKET_MARK ? 4 : 1));
  } else if (k == "lookup" || k == "dynset" || k == "objref") {
    TRY(Sets());
  } else if (k == "log") {
    // nft_log_init(): a group excludes the level and its flags.
    const Attr* group = a_.Get(NFTA_LOG_GROUP);
    if (group != nullptr && (a_.Get(NFTA_LOG_LEVEL) != nullptr || a_.Get(NFTA_LOG_FLAGS) != nullptr)) {
      return Errno(EINVAL);
    }
    s_.has_sreg = group != nullptr;
    if (const Attr* prefix = a_.Get(NFTA_LOG_PREFIX)) s_.name = prefix->Text();
    s_.type = a_.Be32(NFTA_LOG_LEVEL, 4);
    s_.flags = a_.Be32(NFTA_LOG_FLAGS);
  } else if (k == "match" || k == "target") {
    TRY(Extension());
  } else {
    TRY(Limits());
  }
  std::vector<uint8_t> raw = raw_ ? std::move(*raw_) : std::vector<uint8_t>(data_.begin(), data_.end());
  net::NetResult<Ref<net::NftExpr>> made = net::MakeNftExpr(std::move(s_), std::move(raw));
  if (!made.ok()) return net::ToErrno(made.error());
  return made.TakeValue();
}

}  // namespace

Result<Ref<net::NftExpr>> ParseNftExpr(std::string_view kind, Bytes data, net::NftFamily family,
                                       NftNames& names) {
  return Reader(kind, data, family, names).Read();
}

}  // namespace ringwall::netlink
