// UDP: endpoints and the table that finds them. Read RFC 768, RFC 1122 4.1 and udp(7) first.
#ifndef RINGWALL_NETSTACK_UDP_ENDPOINT_H_
#define RINGWALL_NETSTACK_UDP_ENDPOINT_H_

#include "netstack/endpoint.h"
#include "netstack/ip/ports.h"
#include "netstack/ring.h"

namespace ringwall::net {

// Per-message choices of sendmsg's control data; unset ones come from the options.
struct SendParams {
  std::optional<SockAddr> to;
  IpAddr src;            // IP_PKTINFO, IPV6_PKTINFO
  IfIndex iface = 0;
  std::optional<uint8_t> ttl;
  std::optional<uint8_t> tos;
  uint16_t gso_size = 0;  // UDP_SEGMENT
  bool dont_route = false;
  bool probe = false;  // MSG_PROBE: looks at where it would go
  bool hold = false;   // and at what would stop it; the caller keeps the data (MSG_MORE)
  std::optional<uint32_t> mark;    // SO_MARK
  std::optional<uint32_t> stamps;  // SO_TIMESTAMPING: the socket layer's
};

class UdpEndpoint final : public Endpoint {
 public:
  UdpEndpoint(Ref<Stack> stack, Family family) : Endpoint(std::move(stack), family) {}

  // Returns the bytes sent. kWouldBlock never: what the link cannot take is lost, as on Linux.
  NetResult<size_t> Send(Chain data, const SendParams& params);
  // Takes a port if there is none yet.
  NetResult<void> Autobind();
  // The oldest datagram; with `peek` it stays.
  // *skip (SO_PEEK_OFF): bytes of the queue to leave out; what is left of it is of the datagram.
  NetResult<Datagram> Receive(bool peek = false, size_t* skip = nullptr);
  // UDP_GRO: datagrams that came as one are given as one.
  void SetGro(bool on);
  // Bytes of the next datagram (FIONREAD).
  size_t NextSize();
  // What counts against SO_RCVBUF.
  size_t QueuedBytes();
  // Datagrams lost for want of room.
  uint32_t Drops();

  // ---- Internal ----
  uint16_t port() const { return local_.port; }
  // How well this endpoint fits a datagram; -1: not at all. Compare Linux's compute_score().
  int Score(const IpAddr& src, uint16_t sport, const IpAddr& dst, IfIndex iface) const;
  // Whether it hears a datagram for a group or broadcast address.
  bool HearsGroup(const IpAddr& src, uint16_t sport, const IpAddr& dst, IfIndex iface) const;
  void Enqueue(const IpReceived& rx, uint16_t sport, Chain payload);
  void OnIcmp(const IcmpError& e, uint16_t remote_port);
  bool connected() const { return remote_.has_value(); }
  bool any_address() const { return local_.addr.IsNone() || local_.addr.IsAny(); }
  // Whether a binding is of the same reuse group.
  bool SharesWith(const PortBinding& b) const {
    return bound_ && bound_->addr == b.addr && bound_->dual == b.dual && bound_->device == b.device;
  }
  bool TalksTo(const IpAddr& remote, uint16_t port) const;

 private:
  uint32_t DoPoll() override;
  void DoDescribe(SocketInfo& info) override;
  NetResult<void> DoBind(const SockAddr& addr) override;
  NetResult<void> DoConnect(const SockAddr& addr) override;
  NetResult<void> DoShutdown(bool read, bool write) override;
  void DoClose() override;
  bool DoReadShut() const override { return read_shut_; }
  NetResult<void> OnOption(Option o, int64_t value) override;
  NetResult<SockAddr> DoLocal() override { return ToUser(local_); }
  NetResult<SockAddr> DoRemote() override;
  NetResult<void> BindTo(const SockAddr& addr);
  void Unbind();
  NetResult<void> SendOne(const Route& route, const SockAddr& to, uint8_t ttl, uint8_t tos,
                          uint16_t gso, uint32_t mark, Chain data);
  void EnqueueOne(const IpReceived& rx, uint16_t sport, Chain payload, uint16_t gso_size);
  bool HasPort() const override { return bound_.has_value(); }
  PortBinding Binding() const;
  // Whether the address that bind gave is of the other family than `to`, and the error for it.
  std::optional<NetError> WrongFamily(const IpAddr& to) const;
  bool PassesFilter(const IpReceived& rx, uint16_t sport, Chain* payload) const;

  SockAddr local_;
  bool port_by_user_ = false;  // bind gave or chose it
  bool gro_ = false;
  bool local_chosen_ = false;  // the address came from connect, not from bind
  IpAddr sent_from_;           // chosen by connect where local_ is a group, a broadcast address or of IPv6
  std::optional<SockAddr> remote_;
  std::optional<PortBinding> bound_;
  bool read_shut_ = false;
  bool write_shut_ = false;
  Ring<Datagram> queue_;
  size_t MostBytes(const Route& route, bool cut);
  NetError TooLarge(const Route& route, const SockAddr& to);

  size_t queued_bytes_ = 0;
};

class UdpProtocol {
 public:
  explicit UdpProtocol(Stack& stack) : stack_(stack) {}
  // `datagram`: the packet from its IP header on, for an ICMP answer; null on the short way.
  void DatagramIn(const IpReceived& rx, uint16_t sport, uint16_t dport, Chain payload,
                  const Slice* datagram);
  // True when the error is about an endpoint of ours.
  bool ErrorIn(const IcmpError& e);
  void Describe(std::vector<SocketInfo>& out);

  NetResult<uint16_t> Bind(UdpEndpoint* e, uint16_t port, const PortBinding& b);
  void Unbind(UdpEndpoint* e, uint16_t port, const PortBinding& b);
  void Rebind(uint16_t port, const PortBinding& from, const PortBinding& to) {
    ports_.Remove(port, from);
    ports_.Add(port, to);
  }

  // Who hears a datagram; null: nobody. `payload`: for the programs of groups.
  UdpEndpoint* Find(const IpAddr& src, uint16_t sport, const IpAddr& dst, uint16_t dport,
                    IfIndex iface, const Chain* payload);

 private:
  Stack& stack_;
  PortTable ports_{false};
  absl::flat_hash_map<uint16_t, std::vector<UdpEndpoint*>> by_port_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_UDP_ENDPOINT_H_
