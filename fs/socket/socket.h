// Socket: what all address families have in common (struct socket, struct sock): the calls of
// net/socket.c as methods, the options of SOL_SOCKET, and the rules of waiting. A family derives its
// own and registers how to make one (SocketFamily).
//
// Thread-safe. The methods that take a Task are for its own thread: they block by the rules of
// socket(7) and copy from and to its memory.
#ifndef RINGWALL_FS_SOCKET_SOCKET_H_
#define RINGWALL_FS_SOCKET_SOCKET_H_

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "fs/socket/control.h"
#include "fs/vfs/file.h"
#include "netstack/endpoint.h"
#include "sentry/base/ref.h"
#include "sentry/kernel/task.h"

namespace ringwall {

class NetNamespace;

// A sockaddr as a guest gave it or gets it: at most a sockaddr_storage, copied once.
struct SocketAddress {
  static constexpr size_t kMax = 128;
  std::array<std::byte, kMax> bytes = {};
  uint32_t size = 0;

  template <typename T>
  static SocketAddress Of(const T& v) {
    static_assert(sizeof(T) <= kMax && std::is_trivially_copyable_v<T>);
    SocketAddress a;
    memcpy(a.bytes.data(), &v, sizeof(v));
    a.size = sizeof(v);
    return a;
  }
  // The first bytes as a T; what `size` does not cover reads as zero.
  template <typename T>
  T As() const {
    static_assert(sizeof(T) <= kMax && std::is_trivially_copyable_v<T>);
    T v;
    memcpy(&v, bytes.data(), sizeof(v));
    return v;
  }
  // sa_family; AF_UNSPEC when there is not even room for one.
  uint16_t family() const { return size < sizeof(uint16_t) ? 0 : As<uint16_t>(); }
};

// What sendmsg was given. `flags`: MSG_*, with MSG_DONTWAIT for O_NONBLOCK.
struct SendArgs {
  IoSrc& src;
  uint32_t flags = 0;
  const SocketAddress* to = nullptr;  // null: msg_name was
  std::span<const std::byte> control = {};
};

// What recvmsg is given and gives back.
struct ReceiveArgs {
  IoDst& dst;
  uint32_t flags = 0;
  ControlOut* control = nullptr;     // null: read, recvfrom
  SocketAddress from = {};           // out; size 0: no name
  uint32_t out_flags = 0;            // msg_flags
  std::vector<Ref<File>> files = {};  // SCM_RIGHTS, to be installed by the caller
  RefPtr<File> pidfd = nullptr;       // SCM_PIDFD, likewise
};

// An option's value on its way in: the guest's buffer, read on demand.
class OptionIn {
 public:
  OptionIn(Task& t, GuestAddr addr, uint32_t length) : task_(t), addr_(addr), length_(length) {}
  Task& task() const { return task_; }
  uint32_t length() const { return length_; }
  GuestAddr addr() const { return addr_; }
  // EINVAL when shorter than an int, EFAULT.
  Result<int32_t> Int() const;
  template <typename T>
  Result<T> Value() const {
    if (length_ < sizeof(T)) return Errno(EINVAL);
    T v;
    TRY(task_.CopyIn(addr_, std::as_writable_bytes(std::span(&v, 1))));
    return v;
  }
  // At most `most` bytes of it.
  Result<std::vector<std::byte>> Bytes(size_t most) const;

 private:
  Task& task_;
  GuestAddr addr_;
  uint32_t length_;
};

// An option's value on its way out, and how much room the guest has for it.
class OptionOut {
 public:
  OptionOut(Task& t, GuestAddr addr, uint32_t room) : task_(t), addr_(addr), room_(room) {}
  Task& task() const { return task_; }
  GuestAddr addr() const { return addr_; }  // some options are also read from there
  uint32_t room() const { return room_; }
  // Cut to the room, as most options are.
  void Set(std::span<const std::byte> v) {
    value_.assign(v.begin(), v.begin() + static_cast<ptrdiff_t>(std::min<size_t>(v.size(), room_)));
  }
  template <typename T>
  void Put(const T& v) {
    Set(std::as_bytes(std::span(&v, 1)));
  }
  void Int(int64_t v) { Put(static_cast<int32_t>(v)); }
  // An int that goes out as one byte when there is no room for more (IPPROTO_IP).
  void IntOrByte(int64_t v);
  // Without the cut, for an option whose length counts something else.
  void SetWhole(std::span<const std::byte> v) { value_.assign(v.begin(), v.end()); }
  void SetLength(uint32_t length) { length_ = length; }
  const std::vector<std::byte>& value() const { return value_; }
  uint32_t length() const { return length_.value_or(static_cast<uint32_t>(value_.size())); }
  // Goes out even with an error.
  bool has_length() const { return length_.has_value(); }

 private:
  Task& task_;
  GuestAddr addr_;
  uint32_t room_;
  std::vector<std::byte> value_;
  std::optional<uint32_t> length_;
};

// The options of SOL_SOCKET that are only kept, or whose effect reads them from here.
struct SocketOptions {
  std::atomic<int32_t> reuse_addr{0}, reuse_port{0}, keepalive{0}, broadcast{0}, dont_route{0},
      oob_inline{0}, no_check{0}, priority{0}, mark{0}, receive_lowat{1}, timestamp{0},
      timestamping{0}, timestamping_new{0}, pass_cred{0}, pass_sec{0}, pass_pidfd{0}, pass_rights{1}, rxq_overflow{0},
      wifi_status{0}, no_fcs{0}, lock_filter{0}, select_error_queue{0}, busy_poll{0},
      prefer_busy_poll{0}, incoming_cpu{-1}, zerocopy{0}, txtime_clock{0}, txtime_flags{0}, receive_mark{0},
      buffer_lock{0},
      reserve_memory{0}, tx_rehash{1}, peek_off{-1}, bound_device{0}, debug{0}, bsd_compat{0};
  std::atomic<uint64_t> max_pacing_rate{~uint64_t{0}};
  std::atomic<int32_t> send_buffer{212992}, receive_buffer{212992};
  std::atomic<int32_t> linger_on{0}, linger_seconds{0};
  // How long a call waits; INT64_MAX for ever, 0 not at all.
  std::atomic<int64_t> receive_timeout_ns{INT64_MAX}, send_timeout_ns{INT64_MAX};

  // What a connection has of its listener.
  void InheritFrom(const SocketOptions& o);
};

// Values of SocketOptions::timestamp.
inline constexpr int32_t kTimestampMicros = 1, kTimestampNanos = 2, kTimestampNew = 4;

class Socket : public File {
 public:
  Socket* AsSocket() override { return this; }

  int family() const { return family_; }
  int type() const { return type_; }
  // Whether getsockopt at `level` looks at the room before it looks at the option.
  virtual bool KnowsLevel(int level, int) const { return level == SOL_SOCKET; }
  int protocol() const { return protocol_; }
  NetNamespace& net() const { return *net_; }
  // SO_COOKIE, by which sock_diag names it too: the number of its inode.
  uint64_t cookie();
  SocketOptions& options() { return options_; }

  // The defaults refuse as Linux's sock_no_*() do: EOPNOTSUPP.
  virtual Result<void> Bind(Task& t, const SocketAddress& address);
  virtual Result<void> Connect(Task& t, const SocketAddress& address, bool wait);
  virtual Result<void> Listen(Task& t, int backlog);
  virtual Result<Ref<Socket>> Accept(Task& t, bool wait);
  virtual Result<void> Shutdown(Task& t, int how);
  virtual Result<SocketAddress> LocalName();
  virtual Result<SocketAddress> PeerName();
  // The same for accept, which tells of a connection that is over meanwhile, too.
  virtual Result<SocketAddress> AcceptedName() { return PeerName(); }
  // SIGPIPE is sent by these where Linux does.
  virtual Result<size_t> SendMsg(Task& t, SendArgs& args) = 0;
  virtual Result<size_t> RecvMsg(Task& t, ReceiveArgs& args) = 0;

  // setsockopt and getsockopt of every level. SOL_SOCKET is answered here; the others go to
  // SetOption and GetOption.
  Result<void> SetSockOpt(int level, int name, OptionIn& in);
  Result<void> GetSockOpt(int level, int name, OptionOut& out);

  // The pending error of SO_ERROR, or 0; clears it.
  int TakePendingError() { return TakeSocketError(); }

  // read and write on the descriptor, blocking (sys_read_write.cc).
  Result<size_t> ReadBlocking(Task& t, IoDst& dst, bool wait);
  Result<size_t> WriteBlocking(Task& t, IoSrc& src, bool wait);

  // File. Read and Write never block: they are for splice and sendfile.
  Result<size_t> Read(IoDst& dst, uint64_t pos, int rw_flags) override;
  Result<size_t> Write(IoSrc& src, uint64_t* pos, int rw_flags) override;
  int64_t read_deadline() override;
  int64_t write_deadline() override;
  // What all sockets have: SIOCGSTAMP, FIOSETOWN ...; the interface ioctls by a hook (see below);
  // then DoIoctl.
  Result<int64_t> Ioctl(Task& t, uint32_t cmd, uint64_t arg) override;

  // SIOCGIFCONF and the others of netdevice(7), answered for every family. ENOTTY: not one of them.
  using DeviceIoctl = Result<int64_t> (*)(Task& t, Socket& s, uint32_t cmd, uint64_t arg);
  static void SetDeviceIoctl(DeviceIoctl handler);
  // The options of packet filters, at the levels of IP. Nothing: not one of them.
  struct FilterOptions {
    std::optional<Result<void>> (*set)(Socket& s, int level, int name, OptionIn& in);
    std::optional<Result<void>> (*get)(Socket& s, int level, int name, OptionOut& out);
  };
  static void SetFilterOptions(const FilterOptions* options);

 protected:
  Socket(NetNamespace& net, int family, int type, int protocol, Path path, uint32_t flags);
  ~Socket() override;

  // The path and the inode of a fresh socket that belongs to the caller.
  static Path NewPath(Task& t);
  static uint32_t OpenFlags(uint32_t flags) { return O_RDWR | (flags & O_NONBLOCK); }

  // Levels other than SOL_SOCKET. ENOPROTOOPT, EOPNOTSUPP (the default).
  virtual Result<void> SetOption(int level, int name, OptionIn& in);
  virtual Result<void> GetOption(int level, int name, OptionOut& out);
  // A value of SOL_SOCKET that the family wants to see or refuse: called with the new value before
  // it is kept. For SO_SNDBUF and SO_RCVBUF the value is doubled and bounded already.
  virtual Result<void> OnSocketOption(int name, int64_t value);
  // SOL_SOCKET options that only a family knows; nullopt: not one of its own.
  virtual std::optional<Result<void>> SetSocketLevel(int name, OptionIn& in);
  virtual std::optional<Result<void>> GetSocketLevel(int name, OptionOut& out);
  // SO_SNDBUF or SO_RCVBUF as they count now.
  virtual Result<uint32_t> BufferSize(int name);
  // What counts against them: SO_MEMINFO's rmem, wmem and wmem_queued.
  struct MemoryUse {
    uint32_t receive = 0, send = 0, queued = 0, drops = 0;
  };
  virtual MemoryUse MemoryInUse() { return {}; }
  virtual int TakeSocketError() { return 0; }
  // A program was attached or (null) taken away. SO_ATTACH_REUSEPORT_CBPF: EINVAL where there are no
  // groups.
  virtual void OnFilter(RefPtr<net::EndpointFilter>) {}
  virtual Result<void> OnReusePortFilter(RefPtr<net::EndpointFilter>) { return Errno(EINVAL); }
  virtual bool IsListening() { return false; }
  virtual Result<int64_t> DoIoctl(Task& t, uint32_t cmd, uint64_t arg);  // ENOTTY

  // Tries `attempt` until it says something else than EAGAIN. EAGAIN when the timeout is over;
  // a signal restarts the call only when there is no timeout (sock_intr_errno()).
  template <typename F>
  auto Wait(Task& t, bool wait, EventMask events, int64_t timeout_ns, F attempt)
      -> decltype(attempt());
  Errno BrokenPipe(Task& t, uint32_t flags);
  void BecomeFamily(int family) { family_ = family; }

  SocketOptions options_;
  std::atomic<int64_t> last_stamp_ns_{-1};  // of the last packet received; -1: none yet

 private:
  friend class NetNamespace;
  Result<void> SetSocketOption(int name, OptionIn& in);
  Result<void> GetSocketOption(int name, OptionOut& out);
  Result<void> SetBuffer(int name, int32_t value, bool force);
  Result<void> SetTimeout(std::atomic<int64_t>& to, OptionIn& in);
  Result<void> SetFlag(int name, std::atomic<int32_t>& to, OptionIn& in);
  // socket_filter.cc; nullopt: not one of them.
  std::optional<Result<void>> SetFilterOption(int name, OptionIn& in);
  Result<void> GetFilterOption(OptionOut& out);

  std::atomic<int> family_;  // changed by IPV6_ADDRFORM alone
  const int type_, protocol_;
  const Ref<NetNamespace> net_;
  Guarded<RefPtr<net::EndpointFilter>, LockClass::kLeaf> filter_;
};

// How sockets of one family are made.
class SocketFamily {
 public:
  virtual ~SocketFamily() = default;
  // type: without the flags. flags: O_NONBLOCK. ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM.
  virtual Result<Ref<Socket>> Create(Task& t, int type, int protocol, uint32_t flags) = 0;
  // socketpair. Both were made by Create. EOPNOTSUPP.
  virtual Result<void> Pair(Socket& a, Socket& b);
};

// Registered once, at start-up; `family` lives for ever. Others are EAFNOSUPPORT.
void RegisterSocketFamily(int number, SocketFamily& family);
SocketFamily* FindSocketFamily(int number);

template <typename F>
auto Socket::Wait(Task& t, bool wait, EventMask events, int64_t timeout_ns, F attempt)
    -> decltype(attempt()) {
  auto result = attempt();
  if (result.ok() || !result.error().Is(EAGAIN) || !wait || timeout_ns == 0) return result;
  const int64_t deadline =
      timeout_ns == INT64_MAX ? kNoDeadline : MonotonicNow() + timeout_ns;
  TaskWaiter waiter(t);
  WaitQueue& q = *queue();
  q.Add(waiter, events);
  for (;;) {
    result = attempt();
    if (result.ok() || !result.error().Is(EAGAIN)) break;
    Result<void> slept = t.Block(deadline);
    if (!slept.ok()) {
      Errno why = slept.error();
      if (why.Is(ETIMEDOUT)) why = Errno(EAGAIN);
      if (why.Is(kErestartSys) && deadline != kNoDeadline) why = Errno(EINTR);
      result = decltype(attempt())(why);
      break;
    }
  }
  q.Remove(waiter);
  return result;
}

}  // namespace ringwall

#endif  // RINGWALL_FS_SOCKET_SOCKET_H_
