// InetSocket: what the sockets of AF_INET and AF_INET6 share: the endpoint of the stack beneath,
// readiness, addresses, and the options of IPPROTO_IP and IPPROTO_IPV6. TcpSocket, DatagramSocket
// (UDP, raw, ping) derive from it. Errors of the stack become errnos here.
#ifndef RINGWALL_FS_INET_INET_SOCKET_H_
#define RINGWALL_FS_INET_INET_SOCKET_H_

#include "fs/inet/address.h"
#include "fs/socket/net_namespace.h"
#include "fs/socket/socket.h"
#include "netstack/endpoint.h"

namespace ringwall {

inline Result<void> FromNet(net::NetResult<void> r) {
  if (!r.ok()) return net::ToErrno(r.error());
  return {};
}
template <typename T>
Result<T> FromNet(net::NetResult<T> r) {
  if (!r.ok()) return net::ToErrno(r.error());
  return r.TakeValue();
}

class InetSocket : public Socket, protected net::EndpointObserver {
 public:
  Result<void> Bind(Task& t, const SocketAddress& address) override;
  Result<SocketAddress> LocalName() override;
  Result<SocketAddress> PeerName() override;
  Result<void> Shutdown(Task& t, int how) override;

  EventMask Poll(EventMask wanted) override;
  WaitQueue* queue() override { return &queue_; }

 protected:
  InetSocket(NetNamespace& net, int family, int type, int protocol, Path path, uint32_t flags,
             Ref<net::Endpoint> endpoint);
  ~InetSocket() override;

  // The destination of connect, or of a message. Sizes and families as each caller of Linux's
  // checks them.
  Result<net::SockAddr> ParseConnect(const SocketAddress& a) const;
  void OnReadiness(uint32_t bits) override;

  Result<void> SetOption(int level, int name, OptionIn& in) override;
  Result<void> GetOption(int level, int name, OptionOut& out) override;
  Result<void> OnSocketOption(int name, int64_t value) override;
  std::optional<Result<void>> GetSocketLevel(int name, OptionOut& out) override;
  int TakeSocketError() override;

  // MSG_ERRQUEUE.
  Result<size_t> ReceiveError(ReceiveArgs& args);

  // IPPROTO_IP and IPPROTO_IPV6 (inet_options.cc).
  Result<void> SetIpOption(int name, OptionIn& in);
  Result<void> GetIpOption(int name, OptionOut& out);
  Result<void> SetIpv6Option(int name, OptionIn& in);
  Result<void> GetIpv6Option(int name, OptionOut& out);
  // A numeric option of the stack.
  Result<void> SetNumber(net::Option option, int64_t value);
  Result<int64_t> GetNumber(net::Option option);

  bool is_v6() const { return family() == AF_INET6; }
  net::Endpoint& endpoint() { return *endpoint_; }

 private:
  WaitQueue queue_;
  const Ref<net::Endpoint> endpoint_;
};

void RegisterInetSockets();

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_INET_SOCKET_H_
