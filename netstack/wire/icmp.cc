#include "netstack/wire/icmp.h"

#include "netstack/wire/checksum.h"
#include "netstack/wire/ip.h"

namespace ringwall::net {
namespace {

constexpr uint8_t kNdpOptSourceMac = 1;
constexpr uint8_t kNdpOptTargetMac = 2;
constexpr uint8_t kNdpOptPrefix = 3;
constexpr uint8_t kNdpOptMtu = 5;

// RFC 3376 4.1.1, RFC 3810 5.1.3: codes of 128 and more are a float of 4 or 12 bits mantissa.
uint32_t DecodeMaxResponse8(uint8_t code) {
  if (code < 128) return code;
  return ((code & 0xfu) | 0x10u) << (((code >> 4) & 7u) + 3);
}
uint32_t DecodeMaxResponse16(uint16_t code) {
  if (code < 32768) return code;
  return ((code & 0xfffu) | 0x1000u) << (((code >> 12) & 7u) + 3);
}

}  // namespace

bool IcmpView::ChecksumOkV4() const { return SumBytes(b_.data(), b_.size()) == 0xffff; }

bool IcmpView::ChecksumOkV6(const IpAddr& src, const IpAddr& dst) const {
  Checksum c;
  c.AddPseudo(src, dst, kProtoIcmpv6, static_cast<uint32_t>(b_.size()));
  c.Add(b_);
  return c.Valid();
}

std::optional<NdpOptions> NdpOptions::Parse(ByteSpan b) {
  NdpOptions o;
  size_t i = 0;
  while (i < b.size()) {
    if (i + 2 > b.size()) return std::nullopt;
    const size_t len = b[i + 1] * 8u;
    if (len == 0 || i + len > b.size()) return std::nullopt;
    const uint8_t* p = b.data() + i;
    switch (p[0]) {
      case kNdpOptSourceMac:
        o.source_mac = MacAddr::From(p + 2);
        break;
      case kNdpOptTargetMac:
        o.target_mac = MacAddr::From(p + 2);
        break;
      case kNdpOptMtu:
        o.mtu = Load32(p + 4);
        break;
      case kNdpOptPrefix:
        if (len == 32 && p[2] <= 128 && o.prefix_count < o.prefixes.size()) {
          Prefix& x = o.prefixes[o.prefix_count++];
          x.prefix = {IpAddr::V6(p + 16), p[2]};
          x.on_link = (p[3] & 0x80) != 0;
          x.autonomous = (p[3] & 0x40) != 0;
          x.valid_seconds = Load32(p + 4);
          x.preferred_seconds = Load32(p + 8);
        }
        break;
      default:
        break;
    }
    i += len;
  }
  return o;
}

std::optional<NeighbourSolicit> NeighbourSolicit::Parse(const IcmpView& v) {
  if (v.body().size() < 16) return std::nullopt;
  std::optional<NdpOptions> options = NdpOptions::Parse(v.body().subspan(16));
  if (!options) return std::nullopt;
  NeighbourSolicit s{IpAddr::V6(v.body().data()), *options};
  if (s.target.IsMulticast()) return std::nullopt;  // RFC 4861 7.1.1
  return s;
}

std::optional<NeighbourAdvert> NeighbourAdvert::Parse(const IcmpView& v) {
  if (v.body().size() < 16) return std::nullopt;
  std::optional<NdpOptions> options = NdpOptions::Parse(v.body().subspan(16));
  if (!options) return std::nullopt;
  const uint32_t flags = v.rest();
  NeighbourAdvert a{(flags & 0x80000000u) != 0, (flags & 0x40000000u) != 0,
                    (flags & 0x20000000u) != 0, IpAddr::V6(v.body().data()), *options};
  if (a.target.IsMulticast()) return std::nullopt;  // RFC 4861 7.1.2
  return a;
}

std::optional<RouterAdvert> RouterAdvert::Parse(const IcmpView& v) {
  if (v.body().size() < 8) return std::nullopt;
  std::optional<NdpOptions> options = NdpOptions::Parse(v.body().subspan(8));
  if (!options) return std::nullopt;
  RouterAdvert r;
  const uint32_t rest = v.rest();
  r.hop_limit = static_cast<uint8_t>(rest >> 24);
  r.managed = (rest & 0x00800000u) != 0;
  r.other = (rest & 0x00400000u) != 0;
  r.lifetime_seconds = static_cast<uint16_t>(rest);
  r.reachable_ms = Load32(v.body().data());
  r.retrans_ms = Load32(v.body().data() + 4);
  r.options = *options;
  return r;
}

std::optional<GroupQuery> GroupQuery::ParseIgmp(ByteSpan b) {
  if (b.size() < 8 || b[0] != 0x11 || SumBytes(b.data(), b.size()) != 0xffff) return std::nullopt;
  GroupQuery q;
  q.group = IpAddr::V4(&b[4]);
  if (b.size() >= 12) {
    q.version = 3;
    q.max_response_ms = DecodeMaxResponse8(b[1]) * 100;
  } else {
    // RFC 2236 2.2, RFC 3376 7.2: version 1 queries have code 0 and mean 10 s.
    q.version = b[1] == 0 ? 1 : 2;
    q.max_response_ms = b[1] == 0 ? 10000 : b[1] * 100u;
  }
  return q;
}

std::optional<GroupQuery> GroupQuery::ParseMld(const IcmpView& v) {
  if (v.body().size() < 16) return std::nullopt;
  GroupQuery q;
  q.group = IpAddr::V6(v.body().data());
  const uint16_t code = static_cast<uint16_t>(v.rest() >> 16);
  q.version = v.body().size() >= 20 ? 2 : 1;
  q.max_response_ms = q.version == 2 ? DecodeMaxResponse16(code) : code;
  return q;
}

}  // namespace ringwall::net
