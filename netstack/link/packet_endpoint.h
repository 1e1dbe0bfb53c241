// AF_PACKET endpoints: frames as they pass an interface. Read packet(7). A ring is the socket layer's;
// it takes the frames as they come (PacketSink).
#ifndef RINGWALL_NETSTACK_LINK_PACKET_ENDPOINT_H_
#define RINGWALL_NETSTACK_LINK_PACKET_ENDPOINT_H_

#include "netstack/endpoint.h"

namespace ringwall::net {

// PACKET_HOST ... PACKET_OUTGOING.
enum class PacketType : uint8_t { kHost = 0, kBroadcast, kMulticast, kOtherHost, kOutgoing };

// One frame on its way to an endpoint.
struct TappedFrame {
  ByteSpan data;           // what the endpoint sees of it, cut by its filter
  size_t whole = 0;        // without the cut
  size_t link_header = 0;  // bytes of it in front of data
  uint16_t ethertype = 0;
  uint16_t hardware_type = 0;
  uint8_t packet_type = 0;
  IfIndex iface = 0;
  MacAddr src;
  TimePoint when;
};

// Takes frames instead of the endpoint's queue. Called with the stack's lock held.
class PacketSink : public RefCounted<PacketSink> {
 public:
  // False: there was no room.
  virtual bool Deliver(const TappedFrame& frame) = 0;
};

class PacketEndpoint;

// PACKET_FANOUT: endpoints that share the frames, each of which goes to one.
class FanoutGroup final : public RefCounted<FanoutGroup> {
 public:
  enum class Kind : uint8_t { kHash, kBalance, kCpu, kRollover, kRandom, kQueue, kProgram };
  FanoutGroup(uint16_t id, Kind kind, uint8_t flags) : id(id), kind(kind), flags(flags) {}
  // Whose the frame is; asked by each member in turn for each frame.
  PacketEndpoint* Choose(Stack& stack, uint64_t serial, ByteSpan frame, size_t link_header);

  const uint16_t id;
  const Kind kind;
  const uint8_t flags;  // PACKET_FANOUT_FLAG_* >> 8
  uint16_t ethertype = 0;
  IfIndex iface = 0;
  uint32_t most = 256;
  std::vector<PacketEndpoint*> members;
  RefPtr<EndpointFilter> program;

 private:
  uint64_t serial_ = 0;
  PacketEndpoint* chosen_ = nullptr;
  uint32_t turn_ = 0;
};

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
  // Frames go to it from now on; null: to the queue again.
  void SetSink(RefPtr<PacketSink> sink);
  // PACKET_FANOUT. kAlready, kInvalid (another kind or binding), kNoSpace.
  // most: how many members the group may have, of all alike; 0 is what it has, or 256 where it is new.
  NetResult<void> JoinFanout(uint16_t id, uint8_t kind, uint8_t flags, uint32_t most = 0);
  NetResult<void> SetFanoutProgram(RefPtr<EndpointFilter> program);
  // The value of getsockopt.
  uint32_t Fanout();
  // PACKET_STATISTICS: seen and dropped since the last call.
  std::pair<uint32_t, uint32_t> TakeStatistics();

  // ---- Internal ----
  void OnFrame(Interface& iface, ByteSpan frame, size_t link_header, bool outgoing,
               uint64_t serial);
  FanoutGroup* fanout() const { return fanout_.get(); }
  bool HasRoom() const;

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
  RefPtr<PacketSink> sink_;
  RefPtr<FanoutGroup> fanout_;
  uint32_t seen_ = 0;
  uint32_t dropped_ = 0;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_LINK_PACKET_ENDPOINT_H_
