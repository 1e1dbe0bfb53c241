// PacketSocket: AF_PACKET (packet(7)): frames as they pass an interface. Without rings and fanout.
#ifndef RINGWALL_FS_INET_PACKET_SOCKET_H_
#define RINGWALL_FS_INET_PACKET_SOCKET_H_

#include "fs/inet/inet_socket.h"
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

  PacketSocket(NetNamespace& net, int type, int protocol, Path path, uint32_t flags,
               Ref<net::PacketEndpoint> endpoint);
  ~PacketSocket() override;

 private:
  Result<void> SetOption(int level, int name, OptionIn& in) override;
  Result<void> GetOption(int level, int name, OptionOut& out) override;
  Result<void> OnSocketOption(int name, int64_t value) override;
  std::optional<Result<void>> SetSocketLevel(int name, OptionIn& in) override;
  std::optional<Result<void>> GetSocketLevel(int name, OptionOut& out) override;
  int TakeSocketError() override;
  Result<int64_t> DoIoctl(Task& t, uint32_t cmd, uint64_t arg) override;

  const Ref<SocketEvents> events_ = MakeRef<SocketEvents>();
  const Ref<net::PacketEndpoint> endpoint_;
  std::atomic<int32_t> auxdata_{0}, origdev_{0}, version_{0}, reserve_{0}, loss_{0},
      copy_thresh_{0}, timestamp_{0}, qdisc_bypass_{0}, ignore_outgoing_{0};
};

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_PACKET_SOCKET_H_
