// PacketSocket: AF_PACKET (packet(7)): frames as they pass an interface, one by one or through rings.
#ifndef RINGWALL_FS_INET_PACKET_SOCKET_H_
#define RINGWALL_FS_INET_PACKET_SOCKET_H_

#include "fs/inet/inet_socket.h"
#include "fs/inet/packet_ring.h"
#include "fs/socket/net_namespace.h"
#include "fs/socket/socket.h"
#include "netstack/link/packet_endpoint.h"

namespace ringwall {

class PacketSocket final : public Socket {
 public:
  static Ref<PacketSocket> Create(Task& t, int type, int protocol, uint32_t flags);

  Result<void> Bind(Task& t, const SocketAddress& address) override;
  Result<SocketAddress> LocalName() override;
  Result<size_t> SendMsg(Task& t, SendArgs& args) override;
  Result<size_t> RecvMsg(Task& t, ReceiveArgs& args) override;
  EventMask Poll(EventMask wanted) override;
  WaitQueue* queue() override { return &events_->queue; }
  Result<HostMapping> Map(uint64_t offset, uint64_t length, int prot, bool shared) override;

  PacketSocket(NetNamespace& net, int type, int protocol, Path path, uint32_t flags,
               Ref<net::PacketEndpoint> endpoint);
  ~PacketSocket() override;

 private:
  bool KnowsLevel(int level, int) const override { return level == SOL_SOCKET || level == 263 /* SOL_PACKET */; }
  Result<void> SetOption(int level, int name, OptionIn& in) override;
  Result<void> GetOption(int level, int name, OptionOut& out) override;
  Result<void> OnSocketOption(int name, int64_t value) override;
  void OnFilter(RefPtr<net::EndpointFilter> filter) override {
    endpoint_->SetFilter(std::move(filter));
  }
  int TakeSocketError() override;
  Result<int64_t> DoIoctl(Task& t, uint32_t cmd, uint64_t arg) override;

  // The rings and their memory: receive first, then transmit. Once mapped they stay as they are.
  struct Rings {
    RefPtr<PacketRing> receive, transmit;
    RingMemory memory;
    bool mapped = false;
  };
  // A membership of an interface's groups or of its promiscuous mode (PACKET_ADD_MEMBERSHIP).
  struct Membership {
    int32_t index = 0;
    uint16_t type = 0, length = 0;
    std::array<uint8_t, 32> address = {};
    uint32_t users = 0;
  };
  Result<void> SetRing(OptionIn& in, bool transmit);
  Result<void> ChangeMembership(OptionIn& in, bool add);
  Result<void> SetFanout(OptionIn& in);
  Result<size_t> SendRing(PacketRing& ring, net::IfIndex device, const net::MacAddr& to,
                          uint16_t type);
  RefPtr<PacketRing> ring(bool transmit) {
    MutexLock lock(rings_mu_);
    return transmit ? rings_.transmit : rings_.receive;
  }
  bool HasRings() {
    MutexLock lock(rings_mu_);
    return rings_.receive || rings_.transmit;
  }

  const Ref<SocketEvents> events_ = MakeRef<SocketEvents>();
  const Ref<net::PacketEndpoint> endpoint_;
  std::atomic<int32_t> auxdata_{0}, origdev_{0}, version_{0}, reserve_{0}, loss_{0},
      copy_thresh_{0}, timestamp_{0}, qdisc_bypass_{0}, ignore_outgoing_{0}, vnet_header_{0},
      tx_has_off_{0};
  Mutex<LockClass::kSocket> rings_mu_;
  Rings rings_ GUARDED_BY(rings_mu_);
  Guarded<std::vector<Membership>, LockClass::kLeaf> memberships_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_PACKET_SOCKET_H_
