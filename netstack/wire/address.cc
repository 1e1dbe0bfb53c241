#include "netstack/wire/address.h"

#include <arpa/inet.h>

namespace ringwall::net {

std::optional<IpAddr> IpAddr::Parse(std::string_view text) {
  char copy[64];
  if (text.size() >= sizeof(copy)) return std::nullopt;
  std::memcpy(copy, text.data(), text.size());
  copy[text.size()] = 0;
  uint8_t out[16];
  if (::inet_pton(AF_INET, copy, out) == 1) return V4(out);
  if (::inet_pton(AF_INET6, copy, out) == 1) return V6(out);
  return std::nullopt;
}

std::string IpAddr::ToString() const {
  char out[64] = "none";
  if (!IsNone()) ::inet_ntop(is_v4() ? AF_INET : AF_INET6, b_.data(), out, sizeof(out));
  return out;
}

bool IpAddr::IsV4Mapped() const {
  static constexpr uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return is_v6() && std::memcmp(b_.data(), kPrefix, 12) == 0;
}

IpAddr IpAddr::Unmapped() const { return IsV4Mapped() ? V4(b_.data() + 12) : *this; }

IpAddr IpAddr::Mapped() const {
  if (!is_v4()) return *this;
  IpAddr a = Any(Family::kV6);
  a.b_[10] = a.b_[11] = 0xff;
  std::memcpy(a.b_.data() + 12, b_.data(), 4);
  return a;
}

IpAddr IpAddr::SolicitedNode() const {
  IpAddr a = Any(Family::kV6);
  a.b_[0] = 0xff;
  a.b_[1] = 0x02;
  a.b_[11] = 0x01;
  a.b_[12] = 0xff;
  for (int i = 13; i < 16; i++) a.b_[i] = b_[i];
  return a;
}

MacAddr MulticastMac(const IpAddr& group) {
  if (group.is_v4()) {
    return {{0x01, 0x00, 0x5e, static_cast<uint8_t>(group.byte(1) & 0x7f), group.byte(2),
             group.byte(3)}};
  }
  return {{0x33, 0x33, group.byte(12), group.byte(13), group.byte(14), group.byte(15)}};
}

bool IpPrefix::Contains(const IpAddr& a) const {
  if (a.family() != addr.family()) return false;
  const size_t whole = len / 8;
  if (whole > a.size() || std::memcmp(a.data(), addr.data(), whole) != 0) return false;
  const int rest = len % 8;
  if (rest == 0) return true;
  const uint8_t mask = static_cast<uint8_t>(0xff << (8 - rest));
  return (a.byte(whole) & mask) == (addr.byte(whole) & mask);
}

IpAddr IpPrefix::Network() const {
  std::array<uint8_t, 16> b = addr.bytes();
  for (size_t bit = len; bit < addr.size() * 8; bit++) {
    b[bit / 8] = static_cast<uint8_t>(b[bit / 8] & ~(0x80 >> (bit % 8)));
  }
  return addr.is_v4() ? IpAddr::V4(b.data()) : IpAddr::V6(b);
}

std::optional<IpAddr> IpPrefix::Broadcast() const {
  if (!addr.is_v4() || len >= 31) return std::nullopt;
  return IpAddr::V4(addr.v4() | (0xffffffffu >> len));
}

}  // namespace ringwall::net
