// TcpSocket: SOCK_STREAM of AF_INET and AF_INET6 (net/ipv4/tcp.c, tcp(7)).
#ifndef RINGWALL_FS_INET_TCP_SOCKET_H_
#define RINGWALL_FS_INET_TCP_SOCKET_H_

#include "fs/inet/inet_socket.h"
#include "fs/socket/one_reader.h"
#include "netstack/tcp/endpoint.h"

namespace ringwall {

class TcpSocket final : public InetSocket {
 public:
  static Ref<TcpSocket> Create(Task& t, int family, uint32_t flags);

  Result<SocketAddress> AcceptedName() override;
  Result<void> Connect(Task& t, const SocketAddress& address, bool wait) override;
  Result<void> Listen(Task& t, int backlog) override;
  Result<Ref<Socket>> Accept(Task& t, bool wait) override;
  Result<size_t> SendMsg(Task& t, SendArgs& args) override;
  Result<size_t> RecvMsg(Task& t, ReceiveArgs& args) override;

  net::TcpEndpoint& tcp() { return *tcp_; }

  TcpSocket(NetNamespace& net, int family, Path path, uint32_t flags, Ref<net::TcpEndpoint> tcp);
  ~TcpSocket() override;

 private:
  Result<size_t> SendUrgent(Task& t, SendArgs& args);
  Result<size_t> ConnectFast(Task& t, const net::SockAddr& to, SendArgs& args, bool wait);
  void NoteWhenAcked(net::QueuedError note) override { tcp_->NoteAcked(std::move(note)); }
  Result<size_t> ReceiveUrgent(ReceiveArgs& args);
  // What is there, up to `want` bytes from `skip` on; EAGAIN, 0 at the end. `some`: as TcpEndpoint::Peek.
  Result<size_t> TakeReadable(IoDst& dst, uint32_t flags, size_t want, size_t skip, bool some);
  Result<int> FinishConnect(Task& t, const net::SockAddr& to, bool wait);

  Result<void> SetOption(int level, int name, OptionIn& in) override;
  Result<void> GetOption(int level, int name, OptionOut& out) override;
  Result<void> SetTcpOption(int name, OptionIn& in);
  Result<void> GetTcpOption(int name, OptionOut& out);
  Result<void> GetOriginalDestination(int level, OptionOut& out);
  Result<void> OnSocketOption(int name, int64_t value) override;
  bool IsListening() override { return tcp_->State() == net::TcpState::kListen; }
  MemoryUse MemoryInUse() override;
  Result<int64_t> DoIoctl(Task& t, uint32_t cmd, uint64_t arg) override;

  const Ref<net::TcpEndpoint> tcp_;
  std::atomic<int32_t> fastopen_connect_{0}, fastopen_no_cookie_{0}, thin_linear_{0}, save_syn_{0},
      inq_{0}, rto_max_ms_{120000}, tx_delay_us_{0}, quickack_{1}, notsent_lowat_{0};
  OneReader reader_;  // bytes stay queued until they are copied
};

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_TCP_SOCKET_H_
