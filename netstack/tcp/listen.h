// TcpListener: the half-open connections and the accept queue of a listening endpoint, and SYN
// cookies (RFC 4987 3.6) when the former overflow.
#ifndef RINGWALL_NETSTACK_TCP_LISTEN_H_
#define RINGWALL_NETSTACK_TCP_LISTEN_H_

#include <deque>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "netstack/tcp/endpoint.h"

namespace ringwall::net {

class TcpListener {
 public:
  explicit TcpListener(TcpEndpoint& endpoint) : endpoint_(endpoint) {}
  ~TcpListener();

  void Segment(const FourTuple& tuple, const IpReceived& rx, const TcpSegment& segment,
               Chain payload);
  bool HasWaiting() const { return !accepted_.empty(); }
  RefPtr<TcpEndpoint> TakeWaiting();
  bool HasRequest(const FourTuple& tuple) const { return requests_.contains(tuple); }
  size_t half_open() const { return requests_.size(); }
  void Describe(std::vector<SocketInfo>& out);
  size_t waiting() const { return accepted_.size(); }

 private:
  // A connection in SYN-RECEIVED: small, since a flood makes many.
  struct Request {
    Request(TcpListener& l, const FourTuple& t)
        : listener(l), tuple(t), timer([](void* r, TimePoint) {
            static_cast<Request*>(r)->listener.OnTimer(*static_cast<Request*>(r));
          }, this) {}
    TcpListener& listener;
    FourTuple tuple;
    TcpAgreed agreed;
    TcpFastOpen fast;
    uint16_t peer_window = 0;
    IfIndex iface = 0;
    int retries = 0;
    bool acked = false;  // TCP_DEFER_ACCEPT waits for data
    TimePoint sent;
    Timer timer;
  };
  void Syn(const FourTuple& tuple, const IpReceived& rx, const TcpSegment& s, Chain payload);
  // RFC 7413 4.2.2. True: the SYN's cookie was good and made a connection. Else `answer` says what
  // the SYN-ACK carries of it.
  bool FastSyn(const FourTuple& tuple, const IpReceived& rx, const TcpSegment& s, Chain payload,
               const TcpAgreed& agreed, TcpFastOpen* answer);
  // RFC 5961 3.2 and 4.2, for a half-open connection.
  void Challenge(const Request& r, uint32_t now_ts);
  void RequestSegment(Request& r, const IpReceived& rx, const TcpSegment& s, Chain payload);
  void CookieAck(const FourTuple& tuple, const IpReceived& rx, const TcpSegment& s, Chain payload);
  void SendSynAck(const FourTuple& tuple, IfIndex iface, const TcpAgreed& agreed,
                  uint32_t ts_value, const TcpFastOpen& fast = {});
  bool Complete(const FourTuple& tuple, IfIndex iface, const TcpAgreed& agreed,
                std::optional<Duration> rtt, const IpReceived& rx, const TcpSegment& s,
                Chain payload);
  void OnTimer(Request& r);
  bool AcceptFull() const;
  uint32_t Cookie(const FourTuple& tuple, uint32_t irs, uint32_t count, uint32_t mss_index) const;
  Stack& stack() const { return endpoint_.stack(); }

  TcpEndpoint& endpoint_;
  absl::flat_hash_map<FourTuple, std::unique_ptr<Request>> requests_;
  std::deque<RefPtr<TcpEndpoint>> accepted_;
  TimePoint last_overflow_;
  bool overflowed_ = false;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_LISTEN_H_
