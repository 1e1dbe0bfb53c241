// DatagramSocket: SOCK_DGRAM and SOCK_RAW of AF_INET and AF_INET6: UDP, ICMP echo, raw IP (udp(7),
// icmp(7), raw(7)).
#ifndef RINGWALL_FS_INET_DATAGRAM_SOCKET_H_
#define RINGWALL_FS_INET_DATAGRAM_SOCKET_H_

#include "fs/inet/inet_socket.h"
#include "netstack/ip/raw_endpoint.h"
#include "netstack/udp/endpoint.h"

namespace ringwall {

class DatagramSocket final : public InetSocket {
 public:
  static Ref<DatagramSocket> CreateUdp(Task& t, int family, uint32_t flags);
  // type SOCK_DGRAM: ping.
  static Ref<DatagramSocket> CreateRaw(Task& t, int family, int type, int protocol,
                                       uint32_t flags);

  Result<void> Connect(Task& t, const SocketAddress& address, bool wait) override;
  Result<SocketAddress> LocalName() override;
  Result<size_t> SendMsg(Task& t, SendArgs& args) override;
  Result<size_t> RecvMsg(Task& t, ReceiveArgs& args) override;

  DatagramSocket(NetNamespace& net, int family, int type, int protocol, Path path, uint32_t flags,
                 RefPtr<net::UdpEndpoint> udp, RefPtr<net::RawEndpoint> raw);

 private:
  // Datagrams that MSG_MORE or UDP_CORK hold back, to be one.
  struct Corked {
    net::SendParams params;
    net::Chain data;
  };
  Result<std::optional<net::SockAddr>> ParseDestination(const SocketAddress* to);
  Result<size_t> SendNow(net::Chain data, const net::SendParams& params);
  Result<void> Uncork();
  // Whether MSG_MORE holds back what is sent: not of ping sockets, nor where the header comes from the user.
  bool MayCork();
  bool AddsToCorked(const SocketAddress* to);
  Result<net::Datagram> Take(bool peek, bool wait, size_t* skip);

  Result<void> SetOption(int level, int name, OptionIn& in) override;
  Result<void> GetOption(int level, int name, OptionOut& out) override;
  MemoryUse MemoryInUse() override;
  Result<int64_t> DoIoctl(Task& t, uint32_t cmd, uint64_t arg) override;

  const RefPtr<net::UdpEndpoint> udp_;
  const RefPtr<net::RawEndpoint> raw_;
  std::atomic<int32_t> cork_{0}, gso_size_{0}, gro_{0}, encap_{0}, no_check6_tx_{0},
      no_check6_rx_{0};
  Mutex<LockClass::kSocket> mu_;
  std::optional<Corked> corked_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_DATAGRAM_SOCKET_H_
