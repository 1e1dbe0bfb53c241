// TcpEndpoint: a TCP socket's endpoint: fresh, listening, or around one TcpConnection.
#ifndef RINGWALL_NETSTACK_TCP_ENDPOINT_H_
#define RINGWALL_NETSTACK_TCP_ENDPOINT_H_

#include <memory>

#include "netstack/endpoint.h"
#include "netstack/ip/ports.h"
#include "netstack/ring.h"
#include "netstack/siphash.h"
#include "netstack/tcp/connection.h"

namespace ringwall::net {

struct FourTuple {
  IpAddr local;
  IpAddr remote;
  uint16_t local_port = 0;
  uint16_t remote_port = 0;

  friend bool operator==(const FourTuple&, const FourTuple&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const FourTuple& t) {
    return H::combine(std::move(h), t.local, t.remote, t.local_port, t.remote_port);
  }
};

class TcpListener;

class TcpEndpoint final : public Endpoint, public TcpUser {
 public:
  TcpEndpoint(Ref<Stack> stack, Family family);

  NetResult<void> Listen(int backlog);
  // kWouldBlock when nothing waits; kInvalid when not listening.
  NetResult<Ref<TcpEndpoint>> Accept();
  // Whom a child of a listener was made for, also when the connection is over.
  SockAddr Accepted();

  // Takes as much of data as the send buffer has room for; returns how much. The slices are kept,
  // not copied (small ones are gathered). `more`: MSG_MORE.
  NetResult<size_t> Send(const Chain& data, bool more = false);
  // The same from plain bytes, copied.
  NetResult<size_t> Send(ByteSpan data, bool more = false);
  // Sends what Nagle or MSG_MORE hold back: the writer has to wait for room.
  void Push();
  // MSG_FASTOPEN: connects, and what fits of `data` rides on the SYN when the server gave a cookie
  // before. *taken: how much. Errors as Connect; kOpNotSupp where clients may not.
  NetResult<void> ConnectFast(const SockAddr& to, const Chain& data, size_t* taken);
  // TCP_FASTOPEN_CONNECT: connect waits for the first write where there is a cookie.
  void SetFastOpenConnect(bool on);
  void SetFastOpenNoCookie(bool on);
  // TCP_FASTOPEN_KEY of a listener; empty: the stack's.
  void SetFastOpenKeys(std::vector<SipKey> keys);
  std::vector<SipKey> OwnFastOpenKeys();
  // Shares readable bytes, up to n, from `skip` on; an empty chain is the end of the stream. They
  // stay until Consume: copy them out without the lock, then say how many were used. One reader
  // at a time: the socket's own lock. `some`: the caller has read something, so an error is the end for now
  // and is kept. `keep`: not even the urgent byte is passed (MSG_PEEK). For n == 0 an empty chain means bytes, too.
  NetResult<Chain> Peek(size_t n, size_t skip = 0, bool some = false, bool keep = false);
  void Consume(size_t n);
  NetResult<void> SendUrgent(uint8_t byte);
  // MSG_OOB. Nothing: the mark is known, but its byte will not come.
  NetResult<std::optional<uint8_t>> ReceiveUrgent(bool peek);
  // Whether the byte `ahead` of the next one is where the urgent mark is.
  bool AtMark(size_t ahead = 0);
  // What a write would say of the connection: kWouldBlock while it opens, kPipe, its error.
  NetResult<void> MaySend();
  // Neither connected, nor on the way there, nor listening: connect looks at its address.
  bool IsFresh();
  size_t Readable();  // SIOCINQ
  size_t Unacked();   // SIOCOUTQ
  size_t Unsent();    // SIOCOUTQNSD
  // What counts against SO_RCVBUF and SO_SNDBUF.
  std::pair<size_t, size_t> Charged();

  // A stamp to be queued once all that was written until now has been acknowledged. At most 1,000
  // wait.
  void NoteAcked(QueuedError note);

  // SO_LINGER. Waiting is the caller's: after Shutdown(write) until Unacked() is 0 or the time is
  // over, then Close. Zero makes Close a reset.
  void SetLinger(std::optional<Duration> linger);
  std::optional<Duration> Linger();
  // Whether a close that lingers has something to wait for: data or the FIN is on its way.
  bool Lingers();
  TcpInfo Info();
  TcpState State();

  // ---- Internal ----
  TcpConnection* connection() { return connection_.get(); }
  TcpListener* listener() { return listener_.get(); }
  const FourTuple& tuple() const { return tuple_; }
  const SockAddr& local() const { return local_; }
  const std::optional<PortBinding>& binding() const { return bound_; }
  void Segment(const IpReceived& rx, const TcpSegment& s, Chain payload);
  void OnIcmp(const IcmpError& e);
  TcpSettings MakeSettings() const;
  // A child of a listener, made by the last segment of a handshake.
  static Ref<TcpEndpoint> MakeChild(TcpEndpoint& parent, const FourTuple& tuple, IfIndex iface,
                                    const Route& route, const TcpAgreed& agreed,
                                    uint32_t send_window, std::optional<Duration> rtt);
  // Likewise by a SYN whose cookie was good; AcceptFast once it is registered.
  static Ref<TcpEndpoint> MakeFastChild(TcpEndpoint& parent, const FourTuple& tuple, IfIndex iface,
                                        const Route& route, const TcpAgreed& agreed);
  void AcceptFast(const TcpAgreed& agreed, const TcpSegment& syn, Chain data,
                  const TcpFastOpen& answer);
  bool fast_open_no_cookie() const { return fast_no_cookie_; }
  const std::vector<SipKey>& fast_open_keys() const;
  void Abort();
  // The table has no entry for it: its end must not remove another's.
  void MarkUnregistered() { registered_ = false; }
  // The MSS of a route before TCP options.
  static uint32_t MssOf(Stack& stack, const Route& route);
  void NotifyReadable() { Notify(kReadable); }
  int backlog_limit() const { return backlog_; }

  // TcpUser
  void Emit(TcpSegment& segment, Chain payload, uint32_t mss, bool ecn_capable) override;
  void OnReadiness(uint32_t bits) override { Notify(bits); }
  void OnEstablished() override;
  void OnClosed(std::optional<NetError> error) override;
  void OnTimeWait() override;
  bool AllowChallengeAck() override;
  TcpCounters& counters() override { return stack_->counters().tcp; }
  void OnProgress() override;
  void OnTrouble() override;
  void OnFastOpen(const TcpOptions& answer, bool lost) override;
  void OnAcked(uint64_t bytes) override;

 private:
  friend class TcpProtocol;
  uint32_t DoPoll() override;
  void DoDescribe(SocketInfo& info) override;
  NetResult<void> DoBind(const SockAddr& addr) override;
  NetResult<void> DoConnect(const SockAddr& addr) override;
  NetResult<void> DoShutdown(bool read, bool write) override;
  void DoClose() override;
  NetResult<SockAddr> DoLocal() override;
  NetResult<SockAddr> DoRemote() override;
  NetResult<void> OnOption(Option o, int64_t value) override;
  NetResult<int64_t> OnGetOption(Option o) override;
  bool is_tcp() const override { return true; }
  bool HasPort() const override { return listener_ != nullptr || registered_; }

  PortBinding Binding() const;
  NetResult<void> Disconnect();
  TcpFastOpen FastOpenFor(const IpAddr& src, const IpAddr& dst);
  void Rearm();
  void Unbind();
  Route* FreshRoute();
  NetResult<size_t> SendChecks(size_t want);

  SockAddr local_;
  bool bound_by_user_ = false;  // bind gave an address, if only "any"
  bool addr_by_user_ = false;   // one that is not "any"
  bool port_by_user_ = false;   // and a port
  std::optional<PortBinding> bound_;
  std::optional<SockAddr> remote_;
  FourTuple tuple_;
  bool registered_ = false;
  Route route_;
  IfIndex device_ = 0;  // scope of a link-local connection
  std::unique_ptr<TcpConnection> connection_;
  std::unique_ptr<TcpListener> listener_;
  int backlog_ = 0;
  bool connecting_ = false;   // connect() has not told the result
  bool was_connected_ = false;
  bool shut_read_ = false, shut_write_ = false;  // while not connected
  std::optional<Duration> linger_;
  const Chain* fast_data_ = nullptr;  // while ConnectFast is under way
  size_t fast_taken_ = 0;
  bool fast_connect_ = false, fast_no_cookie_ = false, fast_free_ = false;
  bool dead_end_ = false;  // shut after its connection failed: connect refuses
  std::optional<SockAddr> deferred_;  // connect was called, its SYN waits for the first write
  std::vector<SipKey> fast_keys_;
  Ring<std::pair<uint64_t, QueuedError>> ack_notes_;
  bool send_buffer_locked_ = false;
  bool receive_buffer_locked_ = false;
  TimePoint last_challenge_;
  bool challenged_ = false;
  Timer timer_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_ENDPOINT_H_
