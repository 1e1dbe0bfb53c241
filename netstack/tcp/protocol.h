// TcpProtocol: finds the connection, listener or TIME-WAIT entry that a segment is for; owns the
// ports and the secrets.
#ifndef RINGWALL_NETSTACK_TCP_PROTOCOL_H_
#define RINGWALL_NETSTACK_TCP_PROTOCOL_H_

#include <deque>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "netstack/icmp/rate_limit.h"
#include "netstack/ip/ports.h"
#include "netstack/stack.h"
#include "netstack/tcp/endpoint.h"
#include "netstack/tcp/fast_open.h"

namespace ringwall::net {

// What is left of a connection in TIME-WAIT: RFC 9293 3.6.1.
struct TimeWait {
  uint32_t snd_nxt = 0;
  uint32_t rcv_nxt = 0;
  uint32_t window = 0;
  uint8_t receive_scale = 0;
  bool timestamps = false;
  uint32_t ts_recent = 0;
  uint32_t ts_offset = 0;
  TimePoint since;
  TimePoint expires;
  PortBinding binding;
};

class TcpProtocol {
 public:
  explicit TcpProtocol(Stack& stack);
  ~TcpProtocol();

  void SegmentIn(const IpReceived& rx, const TcpSegment& segment, Chain payload);
  void ErrorIn(const IcmpError& e);
  void AbortAll();
  void Describe(std::vector<SocketInfo>& out);

  // ---- For endpoints ----
  // port 0: chooses one.
  NetResult<uint16_t> Bind(const TcpEndpoint& e, uint16_t port, const PortBinding& b);
  void Unbind(uint16_t port, const PortBinding& b) { ports_.Remove(port, b); }
  void Rebind(uint16_t port, const PortBinding& from, const PortBinding& to);
  bool Conflicts(uint16_t port, const PortBinding& b) const { return ports_.Conflicts(port, b); }
  void Share(uint16_t port, const PortBinding& b) { ports_.Add(port, b); }
  // A local port such that the four-tuple is free.
  NetResult<uint16_t> ChoosePort(const TcpEndpoint& e, FourTuple tuple, bool loopback);
  // False when the tuple is taken. Ends a TIME-WAIT entry that may be reused: RFC 6191.
  bool Register(TcpEndpoint* e, const FourTuple& tuple, bool loopback);
  void Unregister(const FourTuple& tuple);
  void AddListener(TcpEndpoint* e, uint16_t port);
  void RemoveListener(TcpEndpoint* e, uint16_t port);
  void EnterTimeWait(TcpEndpoint& e);
  // RFC 6528 3: unpredictable, and later than an old incarnation's.
  uint32_t InitialSequence(const FourTuple& tuple) const;
  uint32_t TimestampOffset(const FourTuple& tuple) const;
  bool AllowChallengeAck() { return challenge_.Take(stack_.now()); }
  // A segment without a connection.
  void SendLone(const FourTuple& tuple, IfIndex iface, TcpSegment segment);
  void SendReset(const FourTuple& tuple, IfIndex iface, const TcpSegment& about, size_t length);
  FastOpenCache& fast_open() { return fast_open_; }
  // The keys of cookies; made when they are first asked for.
  const std::vector<SipKey>& FastOpenKeys();
  void SetFastOpenKeys(std::vector<SipKey> keys) { fast_open_keys_ = std::move(keys); }
  size_t connections() const { return connections_.size(); }
  size_t time_waits() const { return time_wait_.size(); }
  size_t orphans = 0;

  // Null when there is none. Of a listening group the one whose turn it is; payload: for its program.
  TcpEndpoint* FindListener(const FourTuple& tuple, IfIndex iface, const Chain& payload);
  TcpEndpoint* FindConnection(const FourTuple& tuple);
  // The listener with a half-open connection of these addresses.
  TcpEndpoint* FindRequest(const FourTuple& tuple);

 private:
  bool TimeWaitIn(const FourTuple& tuple, TimeWait& tw, const IpReceived& rx,
                  const TcpSegment& segment, size_t length);
  bool MayReuse(const TimeWait& tw, bool loopback) const;
  void DropTimeWait(const FourTuple& tuple);
  void OnTimer();
  void Arm();

  Stack& stack_;
  FastOpenCache fast_open_;
  std::vector<SipKey> fast_open_keys_;
  PortTable ports_{true};
  absl::flat_hash_map<FourTuple, RefPtr<TcpEndpoint>> connections_;
  absl::flat_hash_map<uint16_t, std::vector<TcpEndpoint*>> listeners_;
  absl::flat_hash_map<FourTuple, std::unique_ptr<TimeWait>> time_wait_;
  std::deque<std::pair<TimePoint, FourTuple>> time_wait_order_;
  Timer timer_;
  TokenBucket challenge_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_PROTOCOL_H_
