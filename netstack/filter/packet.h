// FilterPacket: one IP packet on its way through the filter's hooks, or one frame on its way through a
// link's, in memory of its own, so that it can be rewritten in place. Guarded by the stack's lock.
#ifndef RINGWALL_NETSTACK_FILTER_PACKET_H_
#define RINGWALL_NETSTACK_FILTER_PACKET_H_

#include <array>
#include <optional>
#include <string>

#include "netstack/buffer.h"
#include "netstack/host.h"
#include "netstack/wire/address.h"
#include "sentry/base/ref.h"

namespace ringwall::net {

class Connection;

// NF_INET_*.
enum class Hook : uint8_t { kPreRouting, kLocalIn, kForward, kLocalOut, kPostRouting };
inline constexpr size_t kHooks = 5;

// How a packet stands to its connection (IP_CT_*).
enum class CtInfo : uint8_t { kNone, kNew, kEstablished, kRelated, kInvalid, kUntracked };

// What the filter knows of a packet besides its bytes; goes along on the loopback.
struct PacketMeta {
  uint32_t mark = 0;
  CtInfo info = CtInfo::kNone;
  bool reply = false;  // the connection's second direction
  RefPtr<Connection> connection;
  std::optional<uint32_t> uid;  // of the sending socket
  // TPROXY: where the socket is bound that the packet is given to, and the port that it was sent to. 0: the
  // packet's own addresses count.
  IpAddr socket_addr;
  uint16_t socket_port = 0, first_port = 0;
};

class FilterPacket {
 public:
  // What the transport checksum's field holds.
  enum class Sum : uint8_t { kFull, kPartial, kNone };

  // Copies the datagram. Nothing for what has no whole IP header.
  static std::optional<FilterPacket> Parse(ByteSpan datagram, Sum sum);
  static constexpr size_t kMostLink = 18;  // an Ethernet header with a tag
  // Copies a frame. bytes() is then what follows its header of `link` bytes; where that is no whole IP
  // packet, is_ip() is false and nothing but bytes() and link() says anything.
  // Preconditions: link <= kMostLink, link <= frame.size().
  static FilterPacket ParseFrame(ByteSpan frame, size_t link, uint16_t ethertype, Sum sum);
  bool is_ip() const { return !src_.IsNone(); }
  ByteSpan link() const { return {link_.data(), link_size_}; }
  uint8_t* mutable_link() { return link_.data(); }
  // Of a frame; 0 else.
  uint16_t ethertype() const { return ethertype_; }
  // The header and what follows it.
  Slice Frame() const;
  // After bytes() were written to: the addresses and the rest of what Parse() finds. False: no longer a packet.
  bool ReadAgain();

  IpAddr src() const { return src_; }
  IpAddr dst() const { return dst_; }
  bool is_v4() const { return src_.is_v4(); }
  uint8_t protocol() const { return protocol_; }
  // Of a first or only fragment; others have no ports.
  bool has_ports() const { return has_ports_; }
  bool later_fragment() const { return later_fragment_; }
  bool first_fragment() const { return first_fragment_; }
  uint16_t src_port() const;
  uint16_t dst_port() const;
  size_t size() const { return data_.size(); }
  // What counters count (skb->len): with the link's header where that is in front already.
  size_t counted() const { return data_.size() + (link_counts ? link_size_ : 0); }
  size_t transport() const { return transport_; }
  ByteSpan bytes() const { return data_.span(); }
  uint8_t* mutable_bytes() { return data_.buffer()->data() + data_.offset(); }
  const Slice& slice() const { return data_; }
  uint8_t tos() const;
  uint8_t ttl() const;
  // The identifier of an echo message; its "port".
  std::optional<uint16_t> echo_id() const;
  bool IsIcmp() const;
  // An ICMP error's quoted packet: where it begins.
  std::optional<size_t> quoted() const;

  void SetSrc(const IpAddr& a) { SetAddr(a, true); }
  void SetDst(const IpAddr& a) { SetAddr(a, false); }
  void SetPort(bool source, uint16_t port);
  void SetEchoId(uint16_t id);
  // A field of the transport header; `at` from its start, within the packet.
  void SetTransport16(size_t at, uint16_t v);
  void SetTtl(uint8_t ttl);
  // Computes the transport checksum over the whole, whatever its field held.
  void CompleteChecksum();
  Sum sum() const { return sum_; }

  IfIndex in = 0, out = 0;
  std::string in_name, out_name;
  PacketMeta meta;
  bool link_counts = false;
  bool changed = false;  // a rule wrote into it

 private:
  void SetAddr(const IpAddr& a, bool source);
  // The transport checksum's field, or 0 when there is none.
  size_t ChecksumField() const;
  void Adjust(const uint8_t* from, const uint8_t* to, size_t n, bool pseudo);

  Slice data_;
  std::array<uint8_t, kMostLink> link_ = {};
  uint8_t link_size_ = 0;
  uint16_t ethertype_ = 0;
  IpAddr src_, dst_;
  uint8_t protocol_ = 0;
  size_t transport_ = 0;
  bool has_ports_ = false;
  bool later_fragment_ = false;
  bool first_fragment_ = false;
  Sum sum_ = Sum::kFull;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_FILTER_PACKET_H_
