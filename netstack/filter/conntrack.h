// Connection tracking and address translation (net/netfilter/nf_conntrack_core.c, nf_nat_core.c).
//
// A connection has two tuples: what its first packet looked like, and what an answer looks like.
// Translation is a change of the second before the connection is confirmed; every later packet of
// either direction is made to look like the inverse of the other tuple.
#ifndef RINGWALL_NETSTACK_FILTER_CONNTRACK_H_
#define RINGWALL_NETSTACK_FILTER_CONNTRACK_H_

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "netstack/filter/packet.h"
#include "netstack/net_error.h"
#include "netstack/time.h"

namespace ringwall::net {

struct CtTuple {
  IpAddr src, dst;
  uint16_t sport = 0, dport = 0;  // echo messages: their identifier in both
  uint8_t protocol = 0;
  // Of messages with answers: 1 and 2 an echo and its answer, 3 and 4 timestamps, 5 and 6 information,
  // 7 and 8 address masks, 9 and 10 node information. Others 0.
  uint8_t icmp = 0;

  CtTuple Inverse() const {
    CtTuple t = *this;
    std::swap(t.src, t.dst);
    std::swap(t.sport, t.dport);
    if (icmp != 0) t.icmp = static_cast<uint8_t>((icmp - 1u) ^ 1u) + 1;
    return t;
  }
  friend bool operator==(const CtTuple&, const CtTuple&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const CtTuple& t) {
    return H::combine(std::move(h), t.src, t.dst, t.sport, t.dport, t.protocol, t.icmp);
  }
};

// IPS_*.
inline constexpr uint32_t kCtSeenReply = 1 << 1, kCtAssured = 1 << 2, kCtConfirmed = 1 << 3,
                          kCtSrcNat = 1 << 4, kCtDstNat = 1 << 5, kCtSrcNatDone = 1 << 7,
                          kCtDstNatDone = 1 << 8;

// TCP_CONNTRACK_*.
enum CtTcpState : uint8_t {
  kCtTcpNone, kCtTcpSynSent, kCtTcpSynRecv, kCtTcpEstablished, kCtTcpFinWait, kCtTcpCloseWait,
  kCtTcpLastAck, kCtTcpTimeWait, kCtTcpClose, kCtTcpSynSent2, kCtTcpStates
};

// What a TCP connection's two directions have shown (struct ip_ct_tcp). Sequence numbers in the
// sender's space.
struct CtTcp {
  struct Side {
    uint32_t end = 0;      // the highest that was sent
    uint32_t max_end = 0;  // the highest that may be
    uint32_t max_win = 0;  // the largest window announced; 0: nothing seen yet
    uint32_t max_ack = 0;
    uint8_t scale = 0;
    bool has_scale = false, closed_first = false, unacked = false, ack_seen = false;
  };
  std::array<Side, 2> side;
  // The last segment, to count repeats.
  uint32_t last_seq = 0, last_ack = 0, last_end = 0;
  uint16_t last_win = 0;
  uint8_t last_kind = 0, retrans = 0;
  bool last_reply = false;
  bool liberal = false;
};

// The sysctls net.netfilter.nf_conntrack_*; times in seconds.
struct CtSettings {
  std::array<int64_t, kCtTcpStates> tcp = {10, 120, 60, 432000, 120, 60, 30, 120, 10, 120};
  int64_t tcp_retrans = 300, tcp_unacknowledged = 300;
  int64_t udp = 30, udp_stream = 120, icmp = 30, icmp6 = 30, generic = 600;
  uint32_t max = 65536;  // Conntrack::kMax bounds it
  uint8_t tcp_max_retrans = 3;
  bool tcp_loose = true, tcp_be_liberal = false, checksum = true;
};

enum class CtVerdict : uint8_t { kOk, kInvalid, kAgain, kGone };

class Connection : public RefCounted<Connection> {
 public:
  std::array<CtTuple, 2> tuples;  // original, reply
  uint32_t status = 0;
  uint32_t mark = 0;
  uint8_t tcp_state = 0;  // TCP_CONNTRACK_*
  CtTcp tcp;
  TimePoint expires;
  TimePoint stream_from;  // UDP: what is still answered then is a stream
  IfIndex masquerade = 0;  // the interface whose address it borrows
  struct Counter {
    uint64_t packets = 0, bytes = 0;
  };
  std::array<Counter, 2> counters;
  uint32_t id = 0;
};

// What a NAT target asks for (struct nf_nat_range2). Ports 0: any.
struct NatRange {
  IpAddr min, max;  // none: the address stays
  uint16_t min_port = 0, max_port = 0;
  bool has_ports = false;
  bool random = false;
  IfIndex masquerade = 0;  // the interface whose address this is
};

class Conntrack {
 public:
  static constexpr size_t kMax = 65536;  // nf_conntrack_max
  // `settings` outlives this and may change at any time.
  explicit Conntrack(const CtSettings& settings) : settings_(settings) {}
  // Hears of connections that are new, have another state, or are gone.
  enum class Event : uint8_t { kNew, kUpdate, kDestroy };
  using Observer = void (*)(void* context, const Connection& c, Event event);
  void SetObserver(Observer observer, void* context) {
    observer_ = observer;
    context_ = context;
  }

  // Finds or makes the packet's connection and says how it stands (nf_conntrack_in()).
  void In(FilterPacket& p, TimePoint now, uint64_t random);
  // The first packet got through: the connection is real. False when another took its place.
  bool Confirm(FilterPacket& p, TimePoint now);

  // Decides on the translation of a new connection. source: of its source address.
  // False when no free tuple was found.
  bool SetUp(Connection& c, const NatRange& range, bool source, uint64_t random);
  // Rewrites the packet as its connection says.
  void Translate(FilterPacket& p, bool source) const;

  // Where the first packet of the connection with this tuple, in either direction, was to go.
  std::optional<CtTuple> Original(const CtTuple& t, TimePoint now);
  // Whether another line may go to the log: so many a second.
  bool MayLog(TimePoint now, size_t most) {
    if (now - log_since_ >= Duration::Seconds(1)) {
      log_since_ = now;
      logged_ = 0;
    }
    return logged_++ < most;
  }
  std::vector<Ref<Connection>> List(TimePoint now);
  size_t size() const { return table_.size() / 2; }
  // By a tuple of either direction.
  bool Forget(const CtTuple& tuple, TimePoint now);
  bool Change(const CtTuple& tuple, TimePoint now, const std::function<void(Connection&)>& change);
  // A connection that no packet made, with both tuples and its end set. kExists: one of them is another's;
  // kNoMemory: there are too many.
  NetResult<void> Insert(Ref<Connection> c, TimePoint now);
  void Flush(TimePoint now);
  // The interface went down or lost its address: what borrowed that one ends (nf_nat_masquerade.c).
  void ForgetMasqueraded(IfIndex iface);

 private:
  static std::optional<CtTuple> TupleOf(const FilterPacket& p);
  static std::optional<CtTuple> QuotedTuple(const FilterPacket& p, size_t at,
                                            size_t* transport_at);
  bool Sound(const FilterPacket& p) const;
  void InError(FilterPacket& p, size_t quoted, TimePoint now);
  CtVerdict Update(Connection& c, const FilterPacket& p, bool reply, TimePoint now);
  Connection* Find(const CtTuple& t, TimePoint now, bool* reply);
  bool Taken(const CtTuple& t, const Connection& self) const;
  void Drop(const Connection& c);
  template <typename F>
  void DropIf(F which);
  void MakeRoom(TimePoint now);
  void TranslateQuoted(FilterPacket& p, size_t at, const CtTuple& wanted, bool source) const;

  absl::flat_hash_map<CtTuple, std::pair<RefPtr<Connection>, bool>> table_;
  void Tell(const Connection& c, Event event) const {
    if (observer_ != nullptr && (c.status & kCtConfirmed) != 0) observer_(context_, c, event);
  }

  size_t Most() const { return std::min<size_t>(settings_.max, kMax); }

  const CtSettings& settings_;
  Observer observer_ = nullptr;
  void* context_ = nullptr;
  TimePoint log_since_;
  size_t logged_ = 0;
  uint32_t next_id_ = 1;
  TimePoint now_;  // of the packet under way
};

// conntrack_tcp.cc: a whole segment of a connection, new while its state is kCtTcpNone. kInvalid: it
// fits nowhere, the connection stays as it was. kAgain: a fresh connection begins with it.
// kGone: it ends a connection that nobody answered. Sets the time at which the connection ends.
CtVerdict CtTcpUpdate(Connection& c, const FilterPacket& p, bool reply, TimePoint now,
                      const CtSettings& settings);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_FILTER_CONNTRACK_H_
