#include "netstack/filter/packet.h"

#include "netstack/filter/conntrack.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/ethernet.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/ip.h"

namespace ringwall::net {

std::optional<FilterPacket> FilterPacket::Parse(ByteSpan b, Sum sum) {
  if (b.empty()) return std::nullopt;
  FilterPacket p;
  p.sum_ = sum;
  if (b[0] >> 4 == 4) {
    std::optional<Ipv4View> v = Ipv4View::Parse(b);
    if (!v) return std::nullopt;
    p.src_ = v->src();
    p.dst_ = v->dst();
    p.protocol_ = v->protocol();
    p.transport_ = v->header_size();
    p.later_fragment_ = v->fragment_offset() != 0;
    p.first_fragment_ = !p.later_fragment_ && v->more_fragments();
    b = b.first(v->total_length());
  } else {
    std::optional<Ipv6View> v = Ipv6View::Parse(b);
    if (!v) return std::nullopt;
    p.src_ = v->src();
    p.dst_ = v->dst();
    b = v->datagram();
    const Ipv6Walk walk = WalkIpv6(b, v->next_header(), kIpv6Header, 6);
    p.protocol_ = walk.protocol;
    p.transport_ = walk.offset;
    if (walk.stop != Ipv6Walk::Stop::kUpper) {
      p.later_fragment_ = true;
      p.transport_ = b.size();
    }
  }
  p.data_ = Slice::Copy(b);
  const size_t left = b.size() - std::min(p.transport_, b.size());
  const bool ports = p.protocol_ == kProtoTcp || p.protocol_ == kProtoUdp;
  p.has_ports_ = ports && !p.later_fragment_ && left >= (p.protocol_ == kProtoTcp ? 20u : 8u);
  return p;
}

FilterPacket FilterPacket::ParseFrame(ByteSpan frame, size_t link, uint16_t ethertype, Sum sum) {
  const ByteSpan inner = frame.subspan(link);
  const uint8_t version = inner.empty() ? 0 : inner[0] >> 4;
  FilterPacket p;
  if ((ethertype == kEthIpv4 && version == 4) || (ethertype == kEthIpv6 && version == 6)) {
    if (std::optional<FilterPacket> ip = Parse(inner, sum)) p = std::move(*ip);
  }
  if (!p.is_ip()) {
    p.data_ = Slice::Copy(inner);
    p.transport_ = inner.size();
    p.later_fragment_ = true;  // no transport header to be found
  }
  std::memcpy(p.link_.data(), frame.data(), link);
  p.link_size_ = static_cast<uint8_t>(link);
  p.ethertype_ = ethertype;
  return p;
}

bool FilterPacket::ReadAgain() {
  std::optional<FilterPacket> again = Parse(bytes(), sum_);
  if (!again) return false;
  again->link_ = link_;
  again->link_size_ = link_size_;
  again->ethertype_ = ethertype_;
  again->in = in;
  again->out = out;
  again->in_name = std::move(in_name);
  again->out_name = std::move(out_name);
  again->meta = std::move(meta);
  again->link_counts = link_counts;
  again->changed = changed;
  *this = std::move(*again);
  return true;
}

Slice FilterPacket::Frame() const {
  Packet p{Chain(data_)};
  if (link_size_ != 0) std::memcpy(p.Prepend(link_size_), link_.data(), link_size_);
  return p.Flatten();
}

uint16_t FilterPacket::src_port() const {
  if (has_ports_) return Load16(&data_.span()[transport_]);
  return echo_id().value_or(0);
}

uint16_t FilterPacket::dst_port() const {
  if (has_ports_) return Load16(&data_.span()[transport_ + 2]);
  return echo_id().value_or(0);
}

uint8_t FilterPacket::tos() const {
  const ByteSpan b = bytes();
  return is_v4() ? b[1] : static_cast<uint8_t>(b[0] << 4 | b[1] >> 4);
}

uint8_t FilterPacket::ttl() const { return bytes()[is_v4() ? 8 : 7]; }

bool FilterPacket::IsIcmp() const {
  return !later_fragment_ && protocol_ == (is_v4() ? kProtoIcmp : kProtoIcmpv6) &&
         size() >= transport_ + kIcmpHeader;
}

std::optional<uint16_t> FilterPacket::echo_id() const {
  if (!IsIcmp()) return std::nullopt;
  const uint8_t type = bytes()[transport_];
  const bool echo = is_v4() ? type == 0 || type == 8 : type == 128 || type == 129;
  if (!echo) return std::nullopt;
  return Load16(&data_.span()[transport_ + 4]);
}

std::optional<size_t> FilterPacket::quoted() const {
  if (!IsIcmp()) return std::nullopt;
  const uint8_t type = bytes()[transport_];
  const bool error = is_v4() ? type == 3 || type == 4 || type == 5 || type == 11 || type == 12
                             : type >= 1 && type <= 4;
  if (!error) return std::nullopt;
  return transport_ + kIcmpHeader;
}

size_t FilterPacket::ChecksumField() const {
  if (later_fragment_) return 0;
  switch (protocol_) {
    case kProtoTcp: return has_ports_ ? transport_ + 16 : 0;
    case kProtoUdp: return has_ports_ ? transport_ + 6 : 0;
    case kProtoIcmp:
    case kProtoIcmpv6: return IsIcmp() ? transport_ + 2 : 0;
    default: return 0;
  }
}

// RFC 1624 3, for the finished checksum and for the bare sum of the pseudo header.
void FilterPacket::Adjust(const uint8_t* from, const uint8_t* to, size_t n, bool pseudo) {
  const size_t field = ChecksumField();
  if (field == 0 || sum_ == Sum::kNone) return;
  if (pseudo && protocol_ == kProtoIcmp) return;
  if (!pseudo && sum_ == Sum::kPartial) return;
  uint8_t* at = mutable_bytes() + field;
  uint16_t check = Load16(at);
  if (protocol_ == kProtoUdp && check == 0 && sum_ == Sum::kFull) return;  // RFC 768: none
  if (sum_ == Sum::kPartial) check = static_cast<uint16_t>(~check);
  for (size_t i = 0; i + 1 < n + 1; i += 2) {
    check = ChecksumUpdate16(check, Load16(from + i), Load16(to + i));
  }
  if (sum_ == Sum::kPartial) check = static_cast<uint16_t>(~check);
  if (check == 0 && protocol_ == kProtoUdp && sum_ == Sum::kFull) check = 0xffff;
  Store16(at, check);
}

void FilterPacket::SetAddr(const IpAddr& a, bool source) {
  IpAddr& mine = source ? src_ : dst_;
  if (a.family() != mine.family() || a == mine) return;
  uint8_t* b = mutable_bytes();
  const size_t n = a.size();
  uint8_t* at = b + (is_v4() ? (source ? 12 : 16) : (source ? 8 : 24));
  Adjust(mine.data(), a.data(), n, true);
  if (a.is_v4()) {
    uint16_t check = Load16(b + 10);
    for (size_t i = 0; i < 4; i += 2) {
      check = ChecksumUpdate16(check, Load16(mine.data() + i), Load16(a.data() + i));
    }
    Store16(b + 10, check);
  }
  std::memcpy(at, a.data(), n);
  mine = a;
}

void FilterPacket::SetPort(bool source, uint16_t port) {
  if (!has_ports_) return;
  uint8_t* at = mutable_bytes() + transport_ + (source ? 0 : 2);
  uint8_t fresh[2];
  Store16(fresh, port);
  Adjust(at, fresh, 2, false);
  std::memcpy(at, fresh, 2);
}

void FilterPacket::SetEchoId(uint16_t id) {
  if (!echo_id()) return;
  uint8_t* at = mutable_bytes() + transport_ + 4;
  uint8_t fresh[2];
  Store16(fresh, id);
  Adjust(at, fresh, 2, false);
  std::memcpy(at, fresh, 2);
}

void FilterPacket::SetTransport16(size_t at, uint16_t v) {
  uint8_t* field = mutable_bytes() + transport_ + at;
  if (at % 2 == 0) {
    uint8_t fresh[2];
    Store16(fresh, v);
    Adjust(field, fresh, 2, false);
    std::memcpy(field, fresh, 2);
    return;
  }
  // Across two words of the sum.
  uint8_t before[4], fresh[4];
  std::memcpy(before, field - 1, 4);
  std::memcpy(fresh, before, 4);
  Store16(fresh + 1, v);
  Adjust(before, fresh, 4, false);
  std::memcpy(field - 1, fresh, 4);
}

void FilterPacket::SetTtl(uint8_t ttl) {
  uint8_t* b = mutable_bytes();
  if (!is_v4()) {
    b[7] = ttl;
    return;
  }
  const uint16_t before = Load16(b + 8);
  b[8] = ttl;
  Store16(b + 10, ChecksumUpdate16(Load16(b + 10), before, Load16(b + 8)));
}

void FilterPacket::CompleteChecksum() {
  const size_t field = ChecksumField();
  sum_ = Sum::kFull;
  if (field == 0) return;
  uint8_t* b = mutable_bytes();
  Store16(b + field, 0);
  Checksum c;
  const ByteSpan segment = bytes().subspan(transport_);
  if (protocol_ != kProtoIcmp) {
    c.AddPseudo(src_, dst_, protocol_, static_cast<uint32_t>(segment.size()));
  }
  c.Add(segment);
  uint16_t sum = c.Finish();
  if (sum == 0 && protocol_ == kProtoUdp) sum = 0xffff;
  Store16(b + field, sum);
}

}  // namespace ringwall::net
