// Addresses as values: MacAddr, IpAddr (IPv4 or IPv6), IpPrefix, and an address with a port.
// Read RFC 4291 before editing the IPv6 classes.
#ifndef RINGWALL_NETSTACK_WIRE_ADDRESS_H_
#define RINGWALL_NETSTACK_WIRE_ADDRESS_H_

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "netstack/wire/bytes.h"

namespace ringwall::net {

struct MacAddr {
  std::array<uint8_t, 6> b = {};

  static MacAddr From(const uint8_t* p) {
    MacAddr m;
    std::memcpy(m.b.data(), p, 6);
    return m;
  }
  static constexpr MacAddr Broadcast() { return {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}; }
  constexpr bool IsBroadcast() const { return *this == Broadcast(); }
  constexpr bool IsMulticast() const { return (b[0] & 1) != 0; }
  constexpr bool IsZero() const { return *this == MacAddr{}; }
  friend constexpr bool operator==(const MacAddr&, const MacAddr&) = default;
};

enum class Family : uint8_t { kNone, kV4, kV6 };

class IpAddr {
 public:
  constexpr IpAddr() = default;
  static constexpr IpAddr V4(uint32_t host_order) {
    IpAddr a;
    a.family_ = Family::kV4;
    for (int i = 0; i < 4; i++) a.b_[i] = static_cast<uint8_t>(host_order >> (24 - 8 * i));
    return a;
  }
  static constexpr IpAddr V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    return V4(static_cast<uint32_t>(a) << 24 | static_cast<uint32_t>(b) << 16 |
              static_cast<uint32_t>(c) << 8 | d);
  }
  static IpAddr V4(const uint8_t* p) { return V4(Load32(p)); }
  static IpAddr V6(const uint8_t* p) {
    IpAddr a;
    a.family_ = Family::kV6;
    std::memcpy(a.b_.data(), p, 16);
    return a;
  }
  static constexpr IpAddr V6(const std::array<uint8_t, 16>& b) {
    IpAddr a;
    a.family_ = Family::kV6;
    a.b_ = b;
    return a;
  }
  static constexpr IpAddr Any(Family f) {
    IpAddr a;
    a.family_ = f;
    return a;
  }
  static constexpr IpAddr Loopback(Family f) {
    if (f == Family::kV4) return V4(127, 0, 0, 1);
    IpAddr a = Any(f);
    a.b_[15] = 1;
    return a;
  }
  // Text as inet_pton takes it; nullopt when it is neither form.
  static std::optional<IpAddr> Parse(std::string_view text);
  std::string ToString() const;

  constexpr Family family() const { return family_; }
  constexpr bool is_v4() const { return family_ == Family::kV4; }
  constexpr bool is_v6() const { return family_ == Family::kV6; }
  const uint8_t* data() const { return b_.data(); }
  constexpr size_t size() const { return is_v4() ? 4 : is_v6() ? 16 : 0; }
  constexpr const std::array<uint8_t, 16>& bytes() const { return b_; }
  constexpr uint8_t byte(size_t i) const { return b_[i]; }
  constexpr uint32_t v4() const {
    return static_cast<uint32_t>(b_[0]) << 24 | static_cast<uint32_t>(b_[1]) << 16 |
           static_cast<uint32_t>(b_[2]) << 8 | b_[3];
  }

  constexpr bool IsNone() const { return family_ == Family::kNone; }
  constexpr bool IsAny() const { return b_ == std::array<uint8_t, 16>{}; }
  constexpr bool IsMulticast() const { return is_v4() ? (b_[0] & 0xf0) == 0xe0 : b_[0] == 0xff; }
  // 255.255.255.255; directed broadcasts are the routing table's business.
  constexpr bool IsLimitedBroadcast() const { return is_v4() && v4() == 0xffffffff; }
  constexpr bool IsLoopback() const {
    return is_v4() ? b_[0] == 127 : *this == Loopback(Family::kV6);
  }
  constexpr bool IsLinkLocal() const {
    return is_v4() ? b_[0] == 169 && b_[1] == 254 : b_[0] == 0xfe && (b_[1] & 0xc0) == 0x80;
  }
  constexpr bool IsLinkLocalMulticast() const {
    return is_v4() ? b_[0] == 224 && b_[1] == 0 && b_[2] == 0
                   : b_[0] == 0xff && (b_[1] & 0x0f) <= 2;
  }
  // ::ffff:a.b.c.d
  bool IsV4Mapped() const;
  // The IPv4 address inside a mapped one; otherwise the address itself.
  IpAddr Unmapped() const;
  // ::ffff:a.b.c.d for an IPv4 address; otherwise the address itself.
  IpAddr Mapped() const;
  // The solicited-node group of an IPv6 address, RFC 4291 2.7.1.
  IpAddr SolicitedNode() const;

  friend constexpr bool operator==(const IpAddr&, const IpAddr&) = default;
  friend constexpr auto operator<=>(const IpAddr&, const IpAddr&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const IpAddr& a) {
    uint64_t hi, lo;
    std::memcpy(&hi, a.b_.data(), 8);
    std::memcpy(&lo, a.b_.data() + 8, 8);
    return H::combine(std::move(h), hi, lo, static_cast<uint8_t>(a.family_));
  }

 private:
  std::array<uint8_t, 16> b_ = {};
  Family family_ = Family::kNone;
};

// The Ethernet group that carries an IP multicast group: RFC 1112 6.4, RFC 2464 7.
MacAddr MulticastMac(const IpAddr& group);

struct IpPrefix {
  IpAddr addr;
  uint8_t len = 0;

  bool Contains(const IpAddr& a) const;
  // The address with its host bits cleared.
  IpAddr Network() const;
  // All host bits set; none for IPv6 or for /31 and /32.
  std::optional<IpAddr> Broadcast() const;
  friend bool operator==(const IpPrefix&, const IpPrefix&) = default;
};

// An address with a port, as bind and connect take it. Interface 0 is "any".
struct SockAddr {
  IpAddr addr;
  uint16_t port = 0;
  uint32_t scope = 0;  // the interface of a link-local IPv6 address

  friend bool operator==(const SockAddr&, const SockAddr&) = default;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_WIRE_ADDRESS_H_
