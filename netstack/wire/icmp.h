// ICMP (RFC 792) and ICMPv6 (RFC 4443), with neighbour discovery (RFC 4861), and the group
// messages of IGMP (RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810).
#ifndef RINGWALL_NETSTACK_WIRE_ICMP_H_
#define RINGWALL_NETSTACK_WIRE_ICMP_H_

#include <optional>

#include "netstack/wire/address.h"
#include "netstack/wire/bytes.h"

namespace ringwall::net {

inline constexpr size_t kIcmpHeader = 8;

inline constexpr uint8_t kIcmpEchoReply = 0;
inline constexpr uint8_t kIcmpUnreachable = 3;
inline constexpr uint8_t kIcmpRedirect = 5;
inline constexpr uint8_t kIcmpEcho = 8;
inline constexpr uint8_t kIcmpTimeExceeded = 11;
inline constexpr uint8_t kIcmpParamProblem = 12;
inline constexpr uint8_t kIcmpTimestamp = 13;
inline constexpr uint8_t kIcmpTimestampReply = 14;

inline constexpr uint8_t kIcmpNetUnreach = 0;
inline constexpr uint8_t kIcmpHostUnreach = 1;
inline constexpr uint8_t kIcmpProtoUnreach = 2;
inline constexpr uint8_t kIcmpPortUnreach = 3;
inline constexpr uint8_t kIcmpFragNeeded = 4;
inline constexpr uint8_t kIcmpAdminProhibited = 13;

inline constexpr uint8_t kIcmp6Unreachable = 1;
inline constexpr uint8_t kIcmp6PacketTooBig = 2;
inline constexpr uint8_t kIcmp6TimeExceeded = 3;
inline constexpr uint8_t kIcmp6ParamProblem = 4;
inline constexpr uint8_t kIcmp6Echo = 128;
inline constexpr uint8_t kIcmp6EchoReply = 129;
inline constexpr uint8_t kMldQuery = 130;
inline constexpr uint8_t kNdpRouterSolicit = 133;
inline constexpr uint8_t kNdpRouterAdvert = 134;
inline constexpr uint8_t kNdpNeighbourSolicit = 135;
inline constexpr uint8_t kNdpNeighbourAdvert = 136;
inline constexpr uint8_t kNdpRedirect = 137;
inline constexpr uint8_t kMldV2Report = 143;

inline constexpr uint8_t kIcmp6NoRoute = 0;
inline constexpr uint8_t kIcmp6AdminProhibited = 1;
inline constexpr uint8_t kIcmp6AddrUnreach = 3;
inline constexpr uint8_t kIcmp6PortUnreach = 4;

// Both versions share the first eight bytes: type, code, checksum, and 32 bits by type.
class IcmpView {
 public:
  static std::optional<IcmpView> Parse(ByteSpan b) {
    if (b.size() < kIcmpHeader) return std::nullopt;
    return IcmpView(b);
  }
  uint8_t type() const { return b_[0]; }
  uint8_t code() const { return b_[1]; }
  uint32_t rest() const { return Load32(&b_[4]); }
  uint16_t echo_id() const { return Load16(&b_[4]); }
  uint16_t echo_seq() const { return Load16(&b_[6]); }
  ByteSpan body() const { return b_.subspan(kIcmpHeader); }
  ByteSpan message() const { return b_; }
  bool ChecksumOkV4() const;
  bool ChecksumOkV6(const IpAddr& src, const IpAddr& dst) const;

 private:
  explicit IcmpView(ByteSpan b) : b_(b) {}
  ByteSpan b_;
};

inline void WriteIcmp(uint8_t* out, uint8_t type, uint8_t code, uint32_t rest) {
  out[0] = type;
  out[1] = code;
  Store16(out + 2, 0);
  Store32(out + 4, rest);
}

// What a neighbour discovery message may carry, decoded together: RFC 4861 4.6.
struct NdpOptions {
  struct Prefix {
    IpPrefix prefix;
    bool on_link = false;
    bool autonomous = false;
    uint32_t valid_seconds = 0;
    uint32_t preferred_seconds = 0;
  };
  std::optional<MacAddr> source_mac;
  std::optional<MacAddr> target_mac;
  std::optional<uint32_t> mtu;
  std::array<Prefix, 8> prefixes = {};
  uint8_t prefix_count = 0;

  // nullopt when an option has length 0 or runs past the end: RFC 4861 7.1.
  static std::optional<NdpOptions> Parse(ByteSpan b);
};

struct NeighbourSolicit {
  IpAddr target;
  NdpOptions options;
  // Preconditions: the message's type is kNdpNeighbourSolicit.
  static std::optional<NeighbourSolicit> Parse(const IcmpView& v);
};

struct NeighbourAdvert {
  bool router = false;
  bool solicited = false;
  bool override_ = false;
  IpAddr target;
  NdpOptions options;
  static std::optional<NeighbourAdvert> Parse(const IcmpView& v);
};

struct RouterAdvert {
  uint8_t hop_limit = 0;
  bool managed = false;
  bool other = false;
  uint16_t lifetime_seconds = 0;
  uint32_t reachable_ms = 0;
  uint32_t retrans_ms = 0;
  NdpOptions options;
  static std::optional<RouterAdvert> Parse(const IcmpView& v);
};

// Membership queries, all versions in one form.
struct GroupQuery {
  IpAddr group;  // any: a general query
  uint32_t max_response_ms = 0;
  int version = 0;  // IGMP 1-3, MLD 1-2
  static std::optional<GroupQuery> ParseIgmp(ByteSpan b);
  static std::optional<GroupQuery> ParseMld(const IcmpView& v);
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_WIRE_ICMP_H_
