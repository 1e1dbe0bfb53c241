// UnixEndpoint: the part of an AF_UNIX socket that peers and queued messages refer to. It outlives
// the descriptors.
//
// Every endpoint has a receive queue under its own lock (kSocket); a sender locks the receiver's. Two
// endpoints are never locked together, but for one that nobody else knows yet. No lock is held while
// bytes are copied from or to a guest.
#ifndef RINGWALL_FS_UNIX_UNIX_ENDPOINT_H_
#define RINGWALL_FS_UNIX_UNIX_ENDPOINT_H_

#include <sys/socket.h>

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "fs/unix/host_link.h"
#include "fs/vfs/file.h"
#include "netstack/endpoint.h"
#include "sentry/auth/credentials.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

// struct ucred.
struct UnixCred {
  int32_t pid = 0;
  uint32_t uid = ~0u, gid = ~0u;
  friend bool operator==(const UnixCred&, const UnixCred&) = default;
};

class UnixEndpoint;

// Descriptors on their way, counted so that rings of them can be found (unix_gc.h).
class PassedFiles {
 public:
  PassedFiles() = default;
  explicit PassedFiles(std::vector<Ref<File>> files, Uid sender);
  PassedFiles(PassedFiles&& o) noexcept : files_(std::move(o.files_)), sender_(o.sender_) {
    o.files_.clear();
  }
  PassedFiles& operator=(PassedFiles&& o) noexcept;
  ~PassedFiles();
  bool empty() const { return files_.empty(); }
  const std::vector<Ref<File>>& files() const { return files_; }
  // They have arrived.
  std::vector<Ref<File>> Take();

 private:
  std::vector<Ref<File>> files_;
  Uid sender_ = 0;
};

// What a message in a queue costs its sender: given back when it is gone.
class SendCharge {
 public:
  SendCharge() = default;
  SendCharge(Ref<UnixEndpoint> sender, size_t bytes);
  SendCharge(SendCharge&& o) noexcept;
  SendCharge& operator=(SendCharge&& o) noexcept;
  ~SendCharge();
  const RefPtr<UnixEndpoint>& sender() const { return sender_; }

 private:
  RefPtr<UnixEndpoint> sender_;
  size_t bytes_ = 0;
};

// One send: bytes, and what came with them.
struct UnixMessage {
  net::Slice data;
  size_t taken = 0;  // of a stream's message
  // The byte that MSG_OOB finds; at most one of a queue. Once it was read so, it stays as an empty
  // message that ends reads: the mark.
  bool urgent = false;
  int64_t when_ns = 0;  // CLOCK_MONOTONIC, when the receiver asked for stamps
  PassedFiles files;
  std::optional<UnixCred> cred;
  SendCharge charge;  // and who sent it, whose name is the one it has when this is read

  size_t left() const { return data.size() - taken; }
};

class UnixEndpoint : public RefCounted<UnixEndpoint> {
 public:
  UnixEndpoint(int type, UnixCred cred, Ref<const Credentials> owner)
      : type(type), cred(cred), owner(std::move(owner)) {}
  const int type;  // SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
  WaitQueue queue;    // who waits for this socket
  std::atomic<uint64_t> inode{0};  // of the socket's descriptor; 0 before accept
  WaitQueue senders;  // who waits for room in it: connects and datagrams

  mutable Mutex<LockClass::kSocket> mu;
  UnixCred cred GUARDED_BY(mu);
  Ref<const Credentials> owner GUARDED_BY(mu);
  std::string address GUARDED_BY(mu);  // sun_path as bound: a path, or abstract with a leading NUL
  RefPtr<UnixEndpoint> peer GUARDED_BY(mu);
  UnixCred peer_cred GUARDED_BY(mu);
  RefPtr<const Credentials> peer_owner GUARDED_BY(mu);  // with peer_cred, of pairs and connects; both stay when the peer goes
  bool listening GUARDED_BY(mu) = false;
  size_t backlog GUARDED_BY(mu) = 0;
  std::deque<Ref<UnixEndpoint>> pending GUARDED_BY(mu);  // to be accepted
  std::deque<UnixMessage> messages GUARDED_BY(mu);
  size_t queued GUARDED_BY(mu) = 0;  // bytes in messages
  bool receive_shut GUARDED_BY(mu) = false;
  bool send_shut GUARDED_BY(mu) = false;
  bool closed GUARDED_BY(mu) = false;
  bool connected GUARDED_BY(mu) = false;
  int error GUARDED_BY(mu) = 0;  // sk_err
  // Datagram senders that found the queue full, to be told when it is not.
  std::vector<Ref<UnixEndpoint>> blocked GUARDED_BY(mu);
  RefPtr<net::EndpointFilter> filter GUARDED_BY(mu);  // of datagrams that arrive
  // Sockets of the host's behind this one: what it is bound or connected to, and what a datagram
  // socket sends to. on_host: either was ever there.
  RefPtr<HostLink> host GUARDED_BY(mu), host_peer GUARDED_BY(mu);
  std::atomic<bool> on_host{false};

  // Bytes of messages that it sent and that nobody has read, with their overhead; SO_SNDBUF bounds
  // them.
  std::atomic<size_t> unread{0};
  std::atomic<size_t> send_buffer{212992};
  std::atomic<uint32_t> queue_limit{10};  // net.unix.max_dgram_qlen when it was made
  std::atomic<bool> pass_cred{false};  // or SO_PASSPIDFD
  std::atomic<bool> pass_rights{true};
  std::atomic<bool> stamped{false};  // SO_TIMESTAMP or its kin

  bool stream() const { return type == SOCK_STREAM; }
  bool datagram() const { return type == SOCK_DGRAM; }
  bool HasRoom() const { return unread.load() < send_buffer.load(); }
  bool Writable() const { return unread.load() * 4 <= send_buffer.load(); }
  bool QueueFull() const REQUIRES(mu) { return messages.size() > queue_limit.load(); }
  // The message with the urgent byte, or messages.size().
  size_t UrgentIndex() const REQUIRES(mu);
  // Whether the next byte to read is behind the mark (SIOCATMARK).
  bool AtMark() const REQUIRES(mu);
  // Whether somebody has sent what nobody has read; one empty packet does not count.
  bool HasUnread() const REQUIRES(mu);
};

// The abstract names: one table for each network namespace and type.
class AbstractNames {
 public:
  static AbstractNames& Get();
  // EADDRINUSE.
  Result<void> Bind(uint64_t net, const std::string& name, Ref<UnixEndpoint> endpoint);
  RefPtr<UnixEndpoint> Find(uint64_t net, int type, const std::string& name);
  void Remove(const UnixEndpoint& endpoint);

 private:
  struct Entry {
    uint64_t net;
    std::string name;
    UnixEndpoint* owner;
  };
  Mutex<LockClass::kLeaf> mu_;
  std::vector<Entry> names_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_FS_UNIX_UNIX_ENDPOINT_H_
