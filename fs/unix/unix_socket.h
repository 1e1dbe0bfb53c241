// AF_UNIX sockets (net/unix/af_unix.c, unix(7)): stream, datagram and seqpacket, by path, abstract
// name or pair, with descriptors and credentials passed along.
#ifndef RINGWALL_FS_UNIX_UNIX_SOCKET_H_
#define RINGWALL_FS_UNIX_UNIX_SOCKET_H_

#include "fs/socket/one_reader.h"
#include "fs/socket/socket.h"
#include "fs/unix/unix_endpoint.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

class UnixSocket final : public Socket {
 public:
  static Ref<UnixSocket> Create(Task& t, int type, uint32_t flags);
  static void Pair(UnixSocket& a, UnixSocket& b);

  Result<void> Bind(Task& t, const SocketAddress& address) override;
  Result<void> Connect(Task& t, const SocketAddress& address, bool wait) override;
  Result<void> Listen(Task& t, int backlog) override;
  Result<Ref<Socket>> Accept(Task& t, bool wait) override;
  Result<void> Shutdown(Task& t, int how) override;
  Result<SocketAddress> LocalName() override;
  Result<SocketAddress> PeerName() override;
  Result<size_t> SendMsg(Task& t, SendArgs& args) override;
  Result<size_t> RecvMsg(Task& t, ReceiveArgs& args) override;

  EventMask Poll(EventMask wanted) override;
  WaitQueue* queue() override { return &endpoint_->queue; }
  UnixEndpoint& endpoint() const { return *endpoint_; }

  UnixSocket(NetNamespace& net, Path path, uint32_t flags, Ref<UnixEndpoint> endpoint);
  ~UnixSocket() override;

 private:
  // What goes along with the bytes of one sendmsg.
  struct Outgoing {
    std::vector<Ref<File>> files;
    std::optional<UnixCred> cred;
    Uid uid = 0;  // whose files these are
  };
  // What came along with the bytes of one recvmsg.
  struct Incoming {
    bool any = false;  // there was a message: cred and from are of the first one
    std::optional<UnixCred> cred;
    RefPtr<UnixEndpoint> from;
    std::vector<Ref<File>> files;
    int64_t when_ns = 0;
  };

  Result<void> Autobind();
  Result<void> AutobindIfNeeded();
  Result<void> Disconnect(RefPtr<UnixEndpoint> to);
  Result<Ref<UnixEndpoint>> TakePending(bool wait);
  Result<void> ConnectTo(Task& t, Ref<UnixEndpoint> target);
  // The node of a socket that is bound to a path: what may be connected to.
  Result<Ref<Inode>> FindNode(Task& t, const std::string& address);
  Result<Ref<UnixEndpoint>> FindTarget(Task& t, const std::string& address);
  Result<void> ReadControl(Task& t, std::span<const std::byte> control, Outgoing& out);

  Result<size_t> SendStream(Task& t, SendArgs& args, Outgoing& out);
  Result<size_t> SendDatagram(Task& t, SendArgs& args, Outgoing& out);
  Result<void> QueueDatagram(UnixEndpoint& to, UnixMessage& message);
  void FillIn(UnixMessage& message, Task& t, Outgoing& out, UnixEndpoint& to);
  Result<size_t> ReceiveStream(Task& t, ReceiveArgs& args);
  Result<size_t> TakeStream(IoDst& dst, uint32_t flags, size_t want, size_t skip, Incoming& in,
                            bool* stop);
  Result<void> QueueUrgent(Task& t, SendArgs& args, Outgoing& out, UnixEndpoint& to);
  // `e`: its own endpoint.
  bool PastMark(UnixEndpoint& e, bool peek, bool some, size_t* index, std::vector<UnixMessage>* passed)
      REQUIRES(e.mu);
  Result<size_t> ReceiveUrgent(ReceiveArgs& args);
  Result<size_t> ReceiveDatagram(Task& t, ReceiveArgs& args);
  void Deliver(Task& t, ReceiveArgs& args, Incoming& in);

  // unix_host.cc. Null: not on the host.
  RefPtr<HostLink> HostEnd();     // what it receives from
  RefPtr<HostLink> HostTarget();  // what it sends to
  void BindOnHost(UniqueFd socket);
  // nullopt, false: `target` is no socket of the host's.
  std::optional<Result<Ref<HostLink>>> OpenOnHost(Task& t, Inode& target, bool wait);
  Result<bool> ConnectOnHost(Task& t, const std::string& address, Inode& target, bool wait);
  Result<void> ListenOnHost(Task& t, int backlog);
  Result<Ref<Socket>> AcceptFromHost(Task& t, HostLink& link, bool wait);
  Result<size_t> SendToHost(Task& t, SendArgs& args, const Outgoing& out, HostLink& link);
  Result<size_t> ReceiveFromHost(Task& t, ReceiveArgs& args, HostLink& link);
  EventMask PollOnHost(EventMask wanted);

  std::optional<Result<void>> GetSocketLevel(int name, OptionOut& out) override;
  Result<void> OnSocketOption(int name, int64_t value) override;
  MemoryUse MemoryInUse() override {
    return {.send = static_cast<uint32_t>(endpoint_->unread.load())};
  }
  void OnFilter(RefPtr<net::EndpointFilter> filter) override;
  int TakeSocketError() override;
  bool IsListening() override;
  Result<int64_t> DoIoctl(Task& t, uint32_t cmd, uint64_t arg) override;

  const Ref<UnixEndpoint> endpoint_;
  RefPtr<Inode> bound_inode_;
  OneReader reader_;
};

void RegisterUnixSockets();

}  // namespace ringwall

#endif  // RINGWALL_FS_UNIX_UNIX_SOCKET_H_
