#include "netstack/filter/nft_expr.h"

#include <algorithm>

#include "netstack/filter/nft_fields.h"
#include "netstack/filter/tproxy.h"
#include "netstack/filter/xt_actions.h"
#include "netstack/stack.h"
#include "netstack/wire/checksum.h"

namespace ringwall::net {
namespace {

enum CmpOp : uint32_t { kEq, kNeq, kLt, kLte, kGt, kGte };

class Base : public NftExpr {
 public:
  explicit Base(NftSpec spec) : s(std::move(spec)) {}
  uint8_t* At(NftRegs& r, uint8_t place) const { return r.bytes.data() + place; }
  const NftSpec s;
};

class Immediate final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket&) override {
    if (s.has_verdict) {
      r.verdict = &s.verdict;
    } else {
      std::copy(s.data.begin(), s.data.end(), At(r, s.dreg));
    }
    return true;
  }
  void Chains(std::vector<const NftVerdict*>* out) const override {
    if (s.has_verdict) out->push_back(&s.verdict);
  }
};

class Compare final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket&) override {
    const int d = std::memcmp(At(r, s.sreg), s.data.data(), s.data.size());
    switch (s.op) {
      case kEq: return d == 0;
      case kNeq: return d != 0;
      case kLt: return d < 0;
      case kLte: return d <= 0;
      case kGt: return d > 0;
      default: return d >= 0;
    }
  }
};

class Range final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket&) override {
    const uint8_t* v = At(r, s.sreg);
    const bool inside = std::memcmp(v, s.data.data(), s.data.size()) >= 0 &&
                        std::memcmp(v, s.data2.data(), s.data2.size()) <= 0;
    return inside == (s.op == 0);
  }
};

class Bitwise final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket&) override {
    const uint8_t* from = At(r, s.sreg);
    uint8_t* to = At(r, s.dreg);
    if (s.op == 0) {
      for (size_t i = 0; i < s.length; i++) to[i] = static_cast<uint8_t>((from[i] & s.data[i]) ^ s.data2[i]);
      return true;
    }
    // Shifts go over the words of the register, in the machine's order (nft_bitwise_eval_lshift()).
    uint32_t by = 0;
    std::memcpy(&by, s.data.data(), 4);
    std::array<uint32_t, 16> w = {};
    const size_t n = (s.length + 3) / 4;
    std::memcpy(w.data(), from, s.length);
    uint32_t carry = 0;
    for (size_t i = 0; i < n; i++) {
      const size_t at = s.op == 1 ? n - 1 - i : i;
      const uint32_t v = w[at];
      if (s.op == 1) {
        w[at] = (v << by) | carry;
        carry = by == 0 ? 0 : v >> (32 - by);
      } else {
        w[at] = carry | (v >> by);
        carry = by == 0 ? 0 : v << (32 - by);
      }
    }
    std::memcpy(to, w.data(), s.length);
    return true;
  }
};

class ByteOrder final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket&) override {
    uint8_t* to = At(r, s.dreg);
    std::memmove(to, At(r, s.sreg), s.length);
    for (size_t at = 0; at + s.size <= s.length; at += s.size) std::reverse(to + at, to + at + s.size);
    return true;
  }
};

class Payload final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    if (s.base == 0) return Link(r, p);
    size_t from;
    switch (s.base) {
      case 1: from = 0; break;
      case 2:
        if (p.packet.later_fragment()) return false;
        from = p.packet.transport();
        break;
      default: return false;
    }
    from += s.offset;
    if (from + s.length > p.packet.size()) return false;
    if (!s.has_sreg) {
      uint8_t* to = At(r, s.dreg);
      std::memset(to, 0, (s.length + 3) & ~3u);
      std::memcpy(to, &p.packet.bytes()[from], s.length);
      return true;
    }
    std::memcpy(p.packet.mutable_bytes() + from, At(r, s.sreg), s.length);
    p.packet.changed = true;
    if (!p.packet.is_ip()) return true;
    // The checksums are made anew: the IP header's when it was in there, the transport's always.
    uint8_t* b = p.packet.mutable_bytes();
    if (p.packet.is_v4()) {
      const size_t header = (b[0] & 0xfu) * 4;
      Store16(b + 10, 0);
      Store16(b + 10, ChecksumOf({b, header}));
    }
    if (p.packet.ReadAgain()) {
      if (p.packet.sum() == FilterPacket::Sum::kFull) p.packet.CompleteChecksum();
      return true;
    }
    r.Decide(kNftDrop);  // no longer a packet
    return true;
  }

 private:
  // The link's header, which is gone where IP's hooks are.
  bool Link(NftRegs& r, NftPacket& p) const {
    const ByteSpan h = p.packet.link();
    const size_t end = s.offset + s.length;
    if (h.empty() || end > h.size() + p.packet.size()) return false;
    if (s.has_sreg) {
      if (end > h.size()) return false;
      std::memcpy(p.packet.mutable_link() + s.offset, At(r, s.sreg), s.length);
      p.packet.changed = true;
      return true;
    }
    uint8_t* to = At(r, s.dreg);
    std::memset(to, 0, (s.length + 3) & ~3u);
    for (size_t i = 0; i < s.length; i++) {
      const size_t at = s.offset + i;
      to[i] = at < h.size() ? h[at] : p.packet.bytes()[at - h.size()];
    }
    return true;
  }
};

class Meta final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    if (s.has_sreg) return NftSetMeta(s.key, At(r, s.sreg), p);
    return NftGetMeta(s.key, At(r, s.dreg), p);
  }
};

class Ct final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    if (!s.has_sreg) return NftGetCt(s.key, s.has_direction ? s.direction : uint8_t{2}, At(r, s.dreg), p);
    Connection* c = p.packet.meta.connection.get();
    if (c == nullptr) return true;
    if (s.key == 3) std::memcpy(&c->mark, At(r, s.sreg), 4);
    return true;
  }
};

class Lookup final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    NftSet* set = p.table.FindSet(s.set);
    if (set == nullptr) return false;
    NftElement* e = set->Find({At(r, s.sreg), set->key_size}, p.stack.now());
    if ((e != nullptr) == s.invert) return false;
    if (e == nullptr) return true;
    for (const Ref<NftExpr>& x : e->exprs) {
      if (!x->Eval(r, p) || r.verdict != nullptr) return r.verdict != nullptr;
    }
    if (!s.has_dreg && !s.has_verdict) return true;
    if (set->verdicts()) {
      r.verdict = &e->verdict;
    } else {
      std::copy(e->data.begin(), e->data.end(), At(r, s.dreg));
    }
    return true;
  }
  std::string SetName() const override { return s.set; }
};

// nft_dynset_eval().
class DynSet final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    NftSet* set = p.table.FindSet(s.set);
    if (set == nullptr) return false;
    const TimePoint now = p.stack.now();
    const uint8_t* k = At(r, s.sreg);
    const NftSet::Key key{{k, k + set->key_size}, true};
    auto it = set->elements.find(key);
    if (it != set->elements.end() && it->second.expires <= now) {
      set->elements.erase(it);
      it = set->elements.end();
    }
    if (s.op == 2) {
      if (it == set->elements.end()) return s.invert;
      set->elements.erase(it);
      return !s.invert;
    }
    const uint64_t ms = s.timeout_ms != 0 ? s.timeout_ms : set->timeout_ms;
    if (it == set->elements.end()) {
      if (set->limit != 0 && set->size() >= set->limit) {
        set->Expire(now);
        if (set->size() >= set->limit) return s.invert;
      }
      NftElement e;
      e.key = key.first;
      if (s.has_sreg2) {
        const uint8_t* d = At(r, s.sreg2);
        e.data.assign(d, d + set->data_size);
      }
      e.timeout = Duration::Millis(static_cast<int64_t>(ms));
      for (const Ref<NftExpr>& x : s.exprs) {
        if (RefPtr<NftExpr> copy = x->Clone()) e.exprs.push_back(Ref<NftExpr>(*copy));
      }
      it = set->elements.emplace(key, std::move(e)).first;
      if (ms != 0) it->second.expires = now + it->second.timeout;
    } else if (s.op == 1 && ms != 0) {
      it->second.expires = now + Duration::Millis(static_cast<int64_t>(ms));
    }
    for (const Ref<NftExpr>& x : it->second.exprs) {
      if (!x->Eval(r, p) || r.verdict != nullptr) return r.verdict != nullptr;
    }
    return !s.invert;
  }
  std::string SetName() const override { return s.set; }
};

class Counter final : public Base {
 public:
  explicit Counter(NftSpec spec) : Base(std::move(spec)), packets_(s.packets), bytes_(s.bytes) {}
  bool Eval(NftRegs&, NftPacket& p) override {
    packets_++;
    bytes_ += p.packet.counted();
    return true;
  }
  std::vector<uint8_t> Attributes() const override {
    std::vector<uint8_t> out;
    NftPutBe64(out, 1, bytes_);
    NftPutBe64(out, 2, packets_);
    return out;
  }
  RefPtr<NftExpr> Clone() const override {
    NftSpec fresh = s;
    fresh.packets = fresh.bytes = 0;
    RefPtr<NftExpr> c = MakeRef<Counter>(std::move(fresh));
    c->name = name;
    return c;
  }

 private:
  uint64_t packets_, bytes_;
};

// A bucket in nanoseconds (nft_limit_eval()).
class Limit final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs&, NftPacket& p) override {
    const bool by_bytes = s.type == 1;
    const double unit_ns = static_cast<double>(s.unit) * 1e9;
    const double cost = (by_bytes ? static_cast<double>(p.packet.counted()) : 1.0) * unit_ns / static_cast<double>(s.rate);
    const double cap = by_bytes ? unit_ns * (static_cast<double>(s.rate) + s.burst) / static_cast<double>(s.rate)
                                : unit_ns / static_cast<double>(s.rate) * std::max<uint32_t>(s.burst, 1);
    const TimePoint now = p.stack.now();
    if (!started_) {
      tokens_ = cap;
    } else {
      tokens_ = std::min(cap, tokens_ + static_cast<double>((now - last_).nanos()));
    }
    started_ = true;
    last_ = now;
    if (tokens_ < cost) return s.invert;
    tokens_ -= cost;
    return !s.invert;
  }
  RefPtr<NftExpr> Clone() const override {
    RefPtr<NftExpr> c = MakeRef<Limit>(s);
    c->name = name;
    c->raw = raw;
    return c;
  }

 private:
  bool started_ = false;
  double tokens_ = 0;
  TimePoint last_;
};

class Quota final : public Base {
 public:
  explicit Quota(NftSpec spec) : Base(std::move(spec)), used_(s.packets) {}
  bool Eval(NftRegs&, NftPacket& p) override {
    used_ += p.packet.counted();
    return (used_ > s.bytes) == s.invert;
  }
  std::vector<uint8_t> Attributes() const override {
    std::vector<uint8_t> out;
    NftPutBe64(out, 1, s.bytes);
    NftPutBe64(out, 4, used_);
    NftPutBe32(out, 2, s.invert ? 1 : 0);
    return out;
  }
  RefPtr<NftExpr> Clone() const override {
    NftSpec fresh = s;
    fresh.packets = 0;
    RefPtr<NftExpr> c = MakeRef<Quota>(std::move(fresh));
    c->name = name;
    return c;
  }

 private:
  uint64_t used_;
};

class ObjectRef final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    std::string object = s.object;
    if (!s.set.empty()) {
      NftSet* set = p.table.FindSet(s.set);
      NftElement* e = set == nullptr ? nullptr : set->Find({At(r, s.sreg), set->key_size}, p.stack.now());
      if (e == nullptr) return false;
      object = e->object;
    }
    NftObject* o = p.table.FindObject(object);
    return o != nullptr && o->expr && o->expr->Eval(r, p);
  }
  std::string SetName() const override { return s.set; }
  std::string ObjectName() const override { return s.object; }
};

class Log final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs&, NftPacket& p) override {
    XtPacket x{p.packet, p.stack, p.conntrack, p.hook};
    // To a group (nflog) nobody listens here.
    if (s.has_sreg) return true;
    FilterLog(x, static_cast<uint8_t>(s.type), static_cast<uint8_t>(s.flags), s.name);
    return true;
  }
};

class Nothing final : public Base {  // comments
 public:
  using Base::Base;
  bool Eval(NftRegs&, NftPacket&) override { return true; }
};

class NoTrack final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs&, NftPacket& p) override {
    if (p.packet.meta.info == CtInfo::kNone) p.packet.meta.info = CtInfo::kUntracked;
    return true;
  }
};

class Queue final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket&) override {
    r.Decide((s.flags & 1) != 0 ? kNftAccept : kNftDrop);  // bypass: nobody listens
    return true;
  }
};

class Numgen final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    const uint64_t v = s.type == 0 ? next_++ % s.size : p.stack.Random64() % s.size;
    const uint32_t out = static_cast<uint32_t>(v) + s.offset;
    std::memcpy(At(r, s.dreg), &out, 4);
    return true;
  }

 private:
  uint64_t next_ = 0;
};

class Hash final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    const uint32_t h = static_cast<uint32_t>(SipHash(p.stack.key(), {At(r, s.sreg), s.length}));
    const uint32_t out = h % s.size + s.offset;
    std::memcpy(At(r, s.dreg), &out, 4);
    return true;
  }
};

// A TCP option (nft_exthdr_tcp_eval()) or an IPv6 extension header's presence.
class ExtHdr final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    uint8_t* to = At(r, s.dreg);
    if (s.op != 1 || p.packet.protocol() != kProtoTcp || !p.packet.has_ports()) {
      if ((s.flags & 1) == 0) return false;
      *to = 0;
      return true;
    }
    const ByteSpan h = p.packet.bytes().subspan(p.packet.transport());
    const size_t size = std::min<size_t>((h[12] >> 4) * 4u, h.size());
    for (size_t i = 20; i < size;) {
      const size_t length = h[i] < 2 ? 1 : i + 1 < size ? std::max<size_t>(h[i + 1], 1) : 1;
      if (h[i] == s.type) {
        if ((s.flags & 1) != 0) {
          *to = 1;
          return true;
        }
        if (i + s.offset + s.length > size || s.offset + s.length > length) return false;
        std::memset(to, 0, (s.length + 3) & ~3u);
        std::memcpy(to, &h[i + s.offset], s.length);
        return true;
      }
      i += length;
    }
    if ((s.flags & 1) == 0) return false;
    *to = 0;
    return true;
  }
};

class Fib final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override { return NftGetFib(s.flags, s.key, At(r, s.dreg), p); }
};

class Rt final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override { return NftGetRt(s.key, At(r, s.dreg), p); }
};

class Reject final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    NftReject(s.type, s.code, p);
    r.Decide(kNftDrop);
    return true;
  }
};

// nft_fwd_netdev_eval(), nft_dup_netdev_eval(): out by another device, instead of on or besides.
class Forward final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    uint32_t oif = 0;
    std::memcpy(&oif, At(r, s.sreg), 4);
    p.stack.SendFrameCopy(oif, p.packet);
    if (s.kind == "fwd") r.Decide(kNftDrop);
    return true;
  }
};

class Nat final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    NatRange range;
    const bool v4 = p.packet.is_v4();
    range.random = (s.flags & (4 | 16)) != 0;
    if (s.has_addr) {
      const uint8_t* low = At(r, s.reg_addr);
      const uint8_t* high = At(r, s.has_max_addr ? s.reg_max_addr : s.reg_addr);
      range.min = v4 ? IpAddr::V4(low) : IpAddr::V6(low);
      range.max = v4 ? IpAddr::V4(high) : IpAddr::V6(high);
    }
    if (s.has_port) {
      range.has_ports = true;
      range.min_port = Load16(At(r, s.reg_port));
      range.max_port = Load16(At(r, s.has_max_port ? s.reg_max_port : s.reg_port));
    }
    bool source = s.type == 0;
    if (s.kind != "nat") {
      source = s.kind == "masq";
      range.min = range.max = NftNatAddress(source, p);
      if (source) range.masquerade = p.packet.out;
      if (range.min.IsNone()) {
        r.Decide(kNftDrop);
        return true;
      }
    }
    Connection* c = p.packet.meta.connection.get();
    if (c == nullptr || !p.nat) {
      r.Decide(kNftDrop);
      return true;
    }
    p.translated = true;
    r.Decide(p.conntrack.SetUp(*c, range, source, p.stack.Random64()) ? kNftAccept : kNftDrop);
    return true;
  }
};

// nft_tproxy_eval(): without a socket the rule does not match.
class Tproxy final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    const bool v4 = p.packet.is_v4();
    if ((s.family == 2 && !v4) || (s.family == 10 && v4)) return false;
    const IpAddr addr = !s.has_addr ? IpAddr()
                        : v4        ? IpAddr::V4(At(r, s.reg_addr))
                                    : IpAddr::V6(At(r, s.reg_addr));
    return GiveToSocket(p.stack, p.packet, addr, s.has_port ? Load16(At(r, s.reg_port)) : uint16_t{0});
  }
};

// nft_socket_eval(): NFT_SOCKET_TRANSPARENT, _MARK, _WILDCARD.
class Socket final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    const std::optional<FoundSocket> found = FindSocketOf(p.stack, p.packet);
    if (!found || (s.key != 0 && !found->whole)) return false;
    uint8_t* to = At(r, s.dreg);
    std::memset(to, 0, 4);
    if (s.key == 1) {
      std::memcpy(to, &found->mark, 4);
    } else {
      *to = s.key == 0 ? found->transparent : found->any_address;
    }
    return true;
  }
};

// xt_* extensions under iptables-nft (nft_compat.c).
class XtMatch final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs&, NftPacket& p) override {
    XtPacket x{p.packet, p.stack, p.conntrack, p.hook, p.nat};
    x.state = &state_;
    return XtMatches(s.name, s.revision, s.data, x);
  }

 private:
  uint64_t state_ = 0;
};

class XtTargetExpr final : public Base {
 public:
  using Base::Base;
  bool Eval(NftRegs& r, NftPacket& p) override {
    XtPacket x{p.packet, p.stack, p.conntrack, p.hook, p.nat};
    const Verdict v = XtTarget(s.name, s.revision, s.data, x);
    p.translated |= x.translated;
    switch (v) {
      case Verdict::kContinue: break;
      case Verdict::kAccept: r.Decide(kNftAccept); break;
      case Verdict::kReturn: r.Decide(kNftReturn); break;
      case Verdict::kDrop: r.Decide(kNftDrop); break;
    }
    return true;
  }
};

template <typename T>
Ref<NftExpr> Make(NftSpec spec, std::vector<uint8_t> raw) {
  const std::string kind = spec.kind;
  Ref<NftExpr> e = MakeRef<T>(std::move(spec));
  e->name = kind;
  e->raw = std::move(raw);
  return e;
}

void PutAttribute(std::vector<uint8_t>& out, uint16_t type, const uint8_t* bytes, size_t n) {
  const uint16_t length = static_cast<uint16_t>(4 + n);
  const size_t at = out.size();
  out.resize(at + ((4 + n + 3) & ~size_t{3}));
  std::memcpy(&out[at], &length, 2);
  std::memcpy(&out[at + 2], &type, 2);
  std::memcpy(&out[at + 4], bytes, n);
}

}  // namespace

void NftPutBe64(std::vector<uint8_t>& out, uint16_t type, uint64_t v) {
  const uint64_t be = __builtin_bswap64(v);
  PutAttribute(out, type, reinterpret_cast<const uint8_t*>(&be), 8);
}

void NftPutBe32(std::vector<uint8_t>& out, uint16_t type, uint32_t v) {
  const uint32_t be = __builtin_bswap32(v);
  PutAttribute(out, type, reinterpret_cast<const uint8_t*>(&be), 4);
}

NetResult<Ref<NftExpr>> MakeNftExpr(NftSpec s, std::vector<uint8_t> raw) {
  const std::string& k = s.kind;
  const auto fits = [](uint8_t place, size_t n) { return n != 0 && place + n <= kNftRegBytes; };
  if (k == "immediate") return Make<Immediate>(std::move(s), std::move(raw));
  if (k == "cmp") {
    if (s.op > kGte || !fits(s.sreg, s.data.size())) return NetError::kInvalid;
    return Make<Compare>(std::move(s), std::move(raw));
  }
  if (k == "range") {
    if (s.op > 1 || s.data.size() != s.data2.size() || !fits(s.sreg, s.data.size())) return NetError::kInvalid;
    return Make<Range>(std::move(s), std::move(raw));
  }
  if (k == "bitwise") {
    if (!fits(s.sreg, s.length) || !fits(s.dreg, s.length)) return NetError::kInvalid;
    if (s.op == 0 && (s.data.size() != s.length || s.data2.size() != s.length)) return NetError::kInvalid;
    if (s.op > 2) return NetError::kOpNotSupp;
    if (s.op != 0 && s.data.size() < 4) return NetError::kInvalid;
    if (s.op != 0) {
      uint32_t by = 0;
      std::memcpy(&by, s.data.data(), 4);
      if (by >= 32) return NetError::kInvalid;
    }
    return Make<Bitwise>(std::move(s), std::move(raw));
  }
  if (k == "byteorder") {
    if ((s.size != 2 && s.size != 4 && s.size != 8) || s.op > 1) return NetError::kInvalid;
    if (!fits(s.sreg, s.length) || !fits(s.dreg, s.length)) return NetError::kInvalid;
    return Make<ByteOrder>(std::move(s), std::move(raw));
  }
  if (k == "payload") {
    if (s.base > 3) return NetError::kOpNotSupp;
    if (s.offset > 65535 || !fits(s.has_sreg ? s.sreg : s.dreg, s.length)) return NetError::kInvalid;
    return Make<Payload>(std::move(s), std::move(raw));
  }
  if (k == "meta") {
    const std::optional<size_t> n = NftMetaSize(s.key);
    if (!n) return NetError::kOpNotSupp;
    if (s.has_sreg && s.key != 2 && s.key != 3 && s.key != 12 && s.key != 19) return NetError::kOpNotSupp;
    if (!fits(s.has_sreg ? s.sreg : s.dreg, *n)) return NetError::kRange;
    return Make<Meta>(std::move(s), std::move(raw));
  }
  if (k == "ct") {
    const std::optional<size_t> n = NftCtSize(s.key);
    if (!n) return NetError::kOpNotSupp;
    if (s.has_sreg && s.key != 3 && s.key != 18) return NetError::kOpNotSupp;
    if (s.has_direction && s.direction > 1) return NetError::kInvalid;
    if (!fits(s.has_sreg ? s.sreg : s.dreg, *n)) return NetError::kRange;
    return Make<Ct>(std::move(s), std::move(raw));
  }
  if (k == "lookup") return Make<Lookup>(std::move(s), std::move(raw));
  if (k == "dynset") {
    if (s.op > 2) return NetError::kOpNotSupp;
    return Make<DynSet>(std::move(s), std::move(raw));
  }
  if (k == "counter") return Make<Counter>(std::move(s), std::move(raw));
  if (k == "limit") {
    if (s.rate == 0 || s.unit == 0 || s.type > 1) return NetError::kInvalid;
    return Make<Limit>(std::move(s), std::move(raw));
  }
  if (k == "quota") return Make<Quota>(std::move(s), std::move(raw));
  if (k == "objref") return Make<ObjectRef>(std::move(s), std::move(raw));
  if (k == "log") {
    if (s.type > 7 || s.flags > 0x3f) return NetError::kInvalid;
    return Make<Log>(std::move(s), std::move(raw));
  }
  if (k == "last") return Make<Nothing>(std::move(s), std::move(raw));
  if (k == "notrack") return Make<NoTrack>(std::move(s), std::move(raw));
  if (k == "queue") return Make<Queue>(std::move(s), std::move(raw));
  if (k == "numgen") {
    if (s.size == 0 || s.type > 1 || s.offset > UINT32_MAX - s.size) return NetError::kInvalid;
    return Make<Numgen>(std::move(s), std::move(raw));
  }
  if (k == "hash") {
    if (s.size == 0 || !fits(s.sreg, s.length)) return NetError::kInvalid;
    return Make<Hash>(std::move(s), std::move(raw));
  }
  if (k == "exthdr") {
    if (s.has_sreg) return NetError::kOpNotSupp;
    if (!fits(s.dreg, std::max<uint32_t>(s.length, 1))) return NetError::kInvalid;
    return Make<ExtHdr>(std::move(s), std::move(raw));
  }
  if (k == "fib") {
    if (s.key < 1 || s.key > 3) return NetError::kInvalid;
    if (!fits(s.dreg, s.key == 2 ? 16 : 4)) return NetError::kRange;
    return Make<Fib>(std::move(s), std::move(raw));
  }
  if (k == "rt") {
    const size_t n = s.key == 2 ? 16 : s.key == 3 ? 2 : 4;
    if (s.key > 3) return NetError::kOpNotSupp;
    if (!fits(s.dreg, n)) return NetError::kRange;
    return Make<Rt>(std::move(s), std::move(raw));
  }
  if (k == "reject") {
    if (s.type > 2) return NetError::kInvalid;
    if (s.type == 2 && s.code > 3) return NetError::kInvalid;
    return Make<Reject>(std::move(s), std::move(raw));
  }
  if (k == "nat" || k == "masq" || k == "redir") {
    if (s.type > 1) return NetError::kOpNotSupp;
    return Make<Nat>(std::move(s), std::move(raw));
  }
  if (k == "fwd" || k == "dup") return Make<Forward>(std::move(s), std::move(raw));
  if (k == "tproxy") return Make<Tproxy>(std::move(s), std::move(raw));
  if (k == "socket") {
    if (s.key > 2) return NetError::kOpNotSupp;  // control groups
    if (!fits(s.dreg, 4)) return NetError::kRange;
    return Make<Socket>(std::move(s), std::move(raw));
  }
  if (k == "match") return Make<XtMatch>(std::move(s), std::move(raw));
  if (k == "target") return Make<XtTargetExpr>(std::move(s), std::move(raw));
  return NetError::kNotFound;
}

}  // namespace ringwall::net
