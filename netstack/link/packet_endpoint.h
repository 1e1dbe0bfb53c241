// AF_PACKET endpoints: frames as they pass an interface. Read packet(7). Rings and fanout are the
// socket layer's to refuse.
#ifndef RINGWALL_NETSTACK_LINK_PACKET_ENDPOINT_H_
#define RINGWALL_NETSTACK_LINK_PACKET_ENDPOINT_H_

#include "netstack/endpoint.h"

namespace ringwall::net {

// PACKET_HOST ... PACKET_OUTGOING.
enum class PacketType : uint8_t { kHost = 0, kBroadcast, kMulticast, kOtherHost, kOutgoing };

class PacketEndpoint final : public Endpoint {
 public:
  PacketEndpoint(Ref<Stack> stack, bool raw, uint16_t ethertype);

  // Which frames: ethertype 0 none, 3 (ETH_P_ALL) all with the outgoing; iface 0 all interfaces.
  NetResult<void> BindTo(uint16_t ethertype, IfIndex iface);
  // raw: data starts with the link header. Else to `dst` with `ethertype`.
  NetResult<size_t> Send(Chain data, IfIndex iface, const MacAddr& dst, uint16_t ethertype);
  NetResult<Datagram> Receive(bool peek = false);
  size_t NextSize();
  // PACKET_IGNORE_OUTGOING.
  void SetIgnoreOutgoing(bool ignore);
  // PACKET_STATISTICS: seen and dropped since the last call.
  std::pair<uint32_t, uint32_t> TakeStatistics();

  // ---- Internal ----
  void OnFrame(Interface& iface, ByteSpan frame, size_t link_header, bool outgoing);

 private:
  uint32_t DoPoll() override;
  void DoDescribe(SocketInfo& info) override;
  NetResult<void> DoBind(const SockAddr&) override { return NetError::kInvalid; }
  NetResult<void> DoConnect(const SockAddr&) override { return NetError::kOpNotSupp; }
  NetResult<void> DoShutdown(bool, bool) override { return NetError::kOpNotSupp; }
  void DoClose() override;
  NetResult<SockAddr> DoLocal() override { return SockAddr{IpAddr(), ethertype_, iface_}; }
  NetResult<SockAddr> DoRemote() override { return NetError::kOpNotSupp; }

  const bool raw_;
  uint16_t ethertype_;
  IfIndex iface_ = 0;
  std::deque<Datagram> queue_;
  size_t queued_bytes_ = 0;
  bool ignore_outgoing_ = false;
  uint32_t seen_ = 0;
  uint32_t dropped_ = 0;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_LINK_PACKET_ENDPOINT_H_
