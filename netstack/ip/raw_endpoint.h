// Raw IP endpoints (SOCK_RAW) and ICMP echo endpoints (ping sockets). Read raw(7) and icmp(7).
#ifndef RINGWALL_NETSTACK_IP_RAW_ENDPOINT_H_
#define RINGWALL_NETSTACK_IP_RAW_ENDPOINT_H_

#include <array>

#include "netstack/endpoint.h"
#include "netstack/udp/endpoint.h"

namespace ringwall::net {

class IcmpView;

class RawEndpoint final : public Endpoint {
 public:
  RawEndpoint(Ref<Stack> stack, Family family, uint8_t protocol, bool ping);

  // IPv4 with kHeaderIncluded: data starts with the IP header. A ping endpoint takes an echo
  // request whose identifier is replaced by the endpoint's own.
  NetResult<size_t> Send(Chain data, const SendParams& params);
  // IPv4 raw data starts with the IP header; IPv6 and ping do not.
  NetResult<Datagram> Receive(bool peek = false);
  size_t NextSize();
  // What counts against SO_RCVBUF.
  size_t QueuedBytes();
  // ICMP_FILTER / ICMP6_FILTER: bit t of word t / 32 set: type t is not heard.
  void SetIcmpFilter(const std::array<uint32_t, 8>& blocked);
  std::array<uint32_t, 8> IcmpFilter();

  // ---- Internal ----
  uint8_t protocol() const { return protocol_; }
  bool deaf() const { return deaf_; }
  bool ping() const { return ping_; }
  uint16_t ident() const { return ident_; }
  NetResult<SockAddr> RemoteLocked() { return DoRemote(); }
  bool Hears(const IpReceived& rx, const Slice& transport) const;
  void Enqueue(const IpReceived& rx, Slice data);
  void OnIcmp(const IcmpError& e);

 private:
  NetError TooLong(const SockAddr& to, uint32_t mtu);
  bool deaf_ = false;          // __udp_disconnect() takes a raw socket out of its table for good
  bool local_chosen_ = false;  // by connect
  uint32_t DoPoll() override;
  void DoDescribe(SocketInfo& info) override;
  NetResult<void> DoBind(const SockAddr& addr) override;
  NetResult<void> DoConnect(const SockAddr& addr) override;
  NetResult<void> DoShutdown(bool read, bool write) override;
  void DoClose() override;
  bool DoReadShut() const override { return read_shut_; }
  NetResult<SockAddr> DoLocal() override { return ToUser(local_); }
  NetResult<SockAddr> DoRemote() override;
  NetResult<void> TakeIdent(uint16_t wanted);

  const uint8_t protocol_;
  const bool ping_;
  uint16_t ident_ = 0;
  SockAddr local_;
  std::optional<SockAddr> remote_;
  bool read_shut_ = false;
  bool write_shut_ = false;
  std::array<uint32_t, 8> blocked_ = {};
  std::deque<Datagram> queue_;
  size_t queued_bytes_ = 0;
};

class RawProtocol {
 public:
  void Add(RawEndpoint* e) { endpoints_.push_back(e); }
  void Remove(RawEndpoint* e) { std::erase(endpoints_, e); }
  // Copies the packet to all that hear it; true when there was one.
  bool PacketIn(const IpReceived& rx, const Slice& transport);
  void PingIn(const IpReceived& rx, const IcmpView& view, const Slice& message);
  void ErrorIn(const IcmpError& e);
  void Describe(std::vector<SocketInfo>& out);
  bool IdentTaken(Family family, uint16_t ident) const;
  // Someone listens to whole TCP or UDP packets, so they must be made.
  bool HearsTransports() const;

 private:
  std::vector<RawEndpoint*> endpoints_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_IP_RAW_ENDPOINT_H_
