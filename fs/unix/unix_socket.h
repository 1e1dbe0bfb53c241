// AF_UNIX sockets (net/unix/af_unix.c, unix(7)): stream, datagram and seqpacket, by path, abstract
// name or pair, with descriptors and credentials passed along.
//
// Every socket has a receive queue of messages under its own lock (kSocket); a sender locks the
// receiver's. Two sockets are never locked together.
#ifndef RINGWALL_FS_UNIX_UNIX_SOCKET_H_
#define RINGWALL_FS_UNIX_UNIX_SOCKET_H_

#include <sys/socket.h>

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "fs/socket/socket.h"
#include "fs/vfs/vfs.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

struct UnixCred {
  int32_t pid = 0;
  uint32_t uid = 0, gid = 0;
};

// One send: bytes, and what came with them.
struct UnixMessage {
  std::vector<std::byte> data;
  size_t taken = 0;  // of a stream's message
  std::vector<Ref<File>> files;
  UnixCred cred;
  std::string from;  // the sender's address without the family, empty when it has none
};

class UnixSocket;

// What connects, queues and names: outlives the descriptors while a peer or a message refers to it.
class UnixEndpoint : public RefCounted<UnixEndpoint> {
 public:
  UnixEndpoint(int type, UnixCred cred) : type(type), cred(cred) {}
  const int type;  // SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
  WaitQueue queue;
  std::atomic<uint64_t> inode{0};  // of the socket's descriptor; 0 before accept

  mutable Mutex<LockClass::kSocket> mu;
  UnixCred cred GUARDED_BY(mu);
  std::string address GUARDED_BY(mu);  // sun_path as bound: a path, or abstract with a leading NUL
  RefPtr<UnixEndpoint> peer GUARDED_BY(mu);
  UnixCred peer_cred GUARDED_BY(mu);
  bool listening GUARDED_BY(mu) = false;
  size_t backlog GUARDED_BY(mu) = 0;
  std::deque<Ref<UnixEndpoint>> pending GUARDED_BY(mu);  // to be accepted
  std::deque<UnixMessage> messages GUARDED_BY(mu);
  size_t queued GUARDED_BY(mu) = 0;  // bytes in messages
  bool receive_shut GUARDED_BY(mu) = false;
  bool send_shut GUARDED_BY(mu) = false;
  bool closed GUARDED_BY(mu) = false;
  bool connected GUARDED_BY(mu) = false;
  bool reset GUARDED_BY(mu) = false;  // the peer went away with unread data

  static constexpr size_t kBuffer = 212992;  // net.core.wmem_default
  bool stream() const { return type == SOCK_STREAM; }
};

// The abstract names of the sandbox.
class AbstractNames {
 public:
  static AbstractNames& Get();
  // EADDRINUSE.
  Result<void> Bind(const std::string& name, Ref<UnixEndpoint> endpoint);
  RefPtr<UnixEndpoint> Find(const std::string& name);
  void Remove(const std::string& name, const UnixEndpoint& endpoint);

 private:
  Mutex<LockClass::kLeaf> mu_;
  std::vector<std::pair<std::string, UnixEndpoint*>> names_ GUARDED_BY(mu_);
};

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
  UnixEndpoint& endpoint() { return *endpoint_; }

  UnixSocket(NetNamespace& net, Path path, uint32_t flags, Ref<UnixEndpoint> endpoint);
  ~UnixSocket() override;

 private:
  // What goes along with the bytes of one sendmsg.
  struct Outgoing {
    std::vector<Ref<File>> files;
    UnixCred cred;
    RefPtr<UnixEndpoint> to;  // sendto's, or null: the peer
  };
  struct Received {
    size_t size = 0;
    size_t full_size = 0;  // of a datagram that was cut
    bool truncated = false;
    std::vector<Ref<File>> files;
    UnixCred cred;
    bool has_cred = false;
    std::string from;
  };
  Result<void> Autobind();
  Result<void> Disconnect();
  Result<Ref<UnixEndpoint>> TakePending();
  Result<void> ConnectTo(RefPtr<UnixEndpoint> target, UnixCred cred);
  Result<size_t> Send(IoSrc& src, Outgoing& out);
  Result<Received> Receive(IoDst& dst, bool peek);
  Result<void> ReadControl(Task& t, std::span<const std::byte> control, Outgoing& out);
  Result<RefPtr<UnixEndpoint>> FindTarget(Task& t, const std::string& address);

  std::optional<Result<void>> GetSocketLevel(int name, OptionOut& out) override;
  Result<void> OnSocketOption(int name, int64_t value) override;
  bool IsListening() override;
  Result<int64_t> DoIoctl(Task& t, uint32_t cmd, uint64_t arg) override;

  const Ref<UnixEndpoint> endpoint_;
  RefPtr<Inode> bound_inode_;
};

void RegisterUnixSockets();

}  // namespace ringwall

#endif  // RINGWALL_FS_UNIX_UNIX_SOCKET_H_
