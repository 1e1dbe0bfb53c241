// Reassembly of fragments, IPv4 (RFC 791 3.2, RFC 815) and IPv6 (RFC 8200 4.5, RFC 5722), in
// bounded memory. Sans I/O: the caller gives datagram parts and the time, and asks for what has
// expired.
#ifndef RINGWALL_NETSTACK_IP_REASSEMBLY_H_
#define RINGWALL_NETSTACK_IP_REASSEMBLY_H_

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "netstack/buffer.h"
#include "netstack/time.h"
#include "netstack/wire/address.h"

namespace ringwall::net {

struct FragmentKey {
  IpAddr src;
  IpAddr dst;
  uint32_t id = 0;
  uint8_t protocol = 0;  // IPv4 only
  uint32_t iface = 0;

  friend bool operator==(const FragmentKey&, const FragmentKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const FragmentKey& k) {
    return H::combine(std::move(h), k.src, k.dst, k.id, k.protocol, k.iface);
  }
};

class Reassembly {
 public:
  static constexpr size_t kMaxMemory = 4 << 20;        // ipfrag_high_thresh
  static constexpr size_t kMaxFragments = 128;          // of one datagram
  static constexpr size_t kMaxPerSource = 64;           // datagrams (ipfrag_max_dist)
  static constexpr Duration kTimeout = Duration::Seconds(30);  // IPv4; IPv6 says 60, Linux uses 60
  static constexpr Duration kTimeout6 = Duration::Seconds(60);

  enum class Verdict : uint8_t {
    kHeld,       // waits for more
    kComplete,   // result.header and result.payload are the datagram
    kOverlap,    // the whole datagram was thrown away
    kTooLong,    // ends beyond 65535
    kNoMemory,   // over a limit: dropped
    kDuplicate,  // exactly what is here already
  };
  struct Result {
    Verdict verdict = Verdict::kHeld;
    Slice header;         // of the first fragment: up to the fragmentable part
    Slice payload;
    uint8_t next_header = 0;  // IPv6: of the first fragment
    uint8_t ecn = 0;
    uint32_t largest = 0;     // bytes of the longest part
  };
  struct Part {
    uint32_t offset = 0;
    bool more = false;
    Slice header;
    Slice data;
    uint8_t next_header = 0;
    uint8_t ecn = 0;
  };
  struct Expired {
    FragmentKey key;
    Slice header;       // empty when the first fragment never came
    Slice first_data;
  };

  Result Add(const FragmentKey& key, Part part, TimePoint now);
  // Takes out one datagram whose time is over.
  std::optional<Expired> TakeExpired(TimePoint now);
  TimePoint NextDeadline() const;
  size_t memory() const { return memory_; }
  size_t datagrams() const { return table_.size(); }

 private:
  struct Queue {
    std::map<uint32_t, Slice> parts;  // by offset; they do not overlap
    std::optional<uint32_t> total;
    uint32_t received = 0;
    size_t cost = 0;
    TimePoint deadline;
    Slice header;
    uint8_t next_header = 0;
    uint8_t ecn_bits = 0;  // bit n: a fragment came with ECN field n
    std::list<FragmentKey>::iterator order;
  };
  void Drop(const FragmentKey& key);
  Result Finish(const FragmentKey& key, Queue& q);
  static constexpr size_t kPartCost = 256;

  absl::flat_hash_map<FragmentKey, std::unique_ptr<Queue>> table_;
  absl::flat_hash_map<IpAddr, uint32_t> per_source_;
  std::list<FragmentKey> order_;  // oldest first
  size_t memory_ = 0;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_IP_REASSEMBLY_H_
