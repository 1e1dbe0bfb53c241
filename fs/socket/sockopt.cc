// The options of SOL_SOCKET (net/core/sock.c: sk_setsockopt, sk_getsockopt).
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/epoll.h>

#include "fs/socket/net_namespace.h"
#include "fs/socket/socket.h"

namespace ringwall {

namespace {

// asm-generic/socket.h, in part too new for the C library's header.
constexpr int kSoPreferBusyPoll = 69, kSoBusyPollBudget = 70, kSoNetnsCookie = 71, kSoBufLock = 72,
              kSoReserveMem = 73, kSoTxRehash = 74, kSoRcvMark = 75, kSoPassPidfd = 76,
              kSoPeerPidfd = 77, kSoPassRights = 83;
constexpr int kSoTimestampNew = 63, kSoTimestampNsNew = 64, kSoTimestampingNew = 65,
              kSoRcvTimeoNew = 66, kSoSndTimeoNew = 67, kSoBindToIfIndex = 62;

constexpr int32_t kMinSendBuffer = 4608;     // SOCK_MIN_SNDBUF
constexpr int32_t kMinReceiveBuffer = 2304;  // SOCK_MIN_RCVBUF
constexpr int64_t kNsPerSec = 1'000'000'000;

struct TimevalAbi {
  int64_t sec, usec;
};
struct TxtimeAbi {
  int32_t clock;
  uint32_t flags;
};
struct LingerAbi {
  int32_t on, seconds;
};

bool MayAdmin(Task& t) { return t.creds().Has(Capability::kNetAdmin); }
// Over the namespace of the socket, whose owner may be somebody inside.
bool MayIn(Task& t, NetNamespace& net, Capability c) { return t.creds().HasIn(net.user_ns(), c); }
bool MayRaw(Task& t, NetNamespace& net) {
  return MayIn(t, net, Capability::kNetRaw) || MayIn(t, net, Capability::kNetAdmin);
}

bool TakesCredentials(const Socket& s) {
  return s.family() == AF_UNIX || s.family() == AF_NETLINK;
}

}  // namespace

namespace {
std::atomic<const Socket::FilterOptions*> filter_options{nullptr};
}  // namespace

void Socket::SetFilterOptions(const FilterOptions* options) { filter_options.store(options); }

Result<void> Socket::SetSockOpt(int level, int name, OptionIn& in) {
  if (level != SOL_SOCKET) {
    if (const FilterOptions* filter = filter_options.load(std::memory_order_acquire)) {
      std::optional<Result<void>> done = filter->set(*this, level, name, in);
      if (done) return std::move(*done);
    }
    return SetOption(level, name, in);
  }
  std::optional<Result<void>> own = SetSocketLevel(name, in);
  if (own) return std::move(*own);
  own = SetFilterOption(name, in);
  if (own) return std::move(*own);
  return SetSocketOption(name, in);
}

Result<void> Socket::GetSockOpt(int level, int name, OptionOut& out) {
  if (level != SOL_SOCKET) {
    if (const FilterOptions* filter = filter_options.load(std::memory_order_acquire)) {
      std::optional<Result<void>> done = filter->get(*this, level, name, out);
      if (done) return std::move(*done);
    }
    return GetOption(level, name, out);
  }
  std::optional<Result<void>> own = GetSocketLevel(name, out);
  if (own) return std::move(*own);
  return GetSocketOption(name, out);
}

Result<void> Socket::SetFlag(int name, std::atomic<int32_t>& to, OptionIn& in) {
  const int32_t v = TRY(in.Int());
  TRY(OnSocketOption(name, v != 0));
  to = v != 0;
  return {};
}

Result<void> Socket::SetTimeout(std::atomic<int64_t>& to, OptionIn& in) {
  const TimevalAbi tv = TRY(in.Value<TimevalAbi>());
  if (tv.usec < 0 || tv.usec >= 1'000'000) return Errno(EDOM);
  if (tv.sec < 0) {
    to = 0;
  } else if ((tv.sec == 0 && tv.usec == 0) || tv.sec >= INT64_MAX / kNsPerSec - 1) {
    to = INT64_MAX;
  } else {
    to = tv.sec * kNsPerSec + tv.usec * 1000;
  }
  return {};
}

Result<void> Socket::SetBuffer(int name, int32_t value, bool force) {
  const bool send = name == SO_SNDBUF;
  if (force) {
    value = std::max(value, 0);
  } else {
    // A negative value is a large one.
    const net::StackConfig c = net_->stack().Config();
    const uint32_t most = static_cast<uint32_t>(send ? c.wmem_max : c.rmem_max);
    value = static_cast<int32_t>(std::min(static_cast<uint32_t>(value), most));
  }
  value = std::min(value, INT32_MAX / 2) * 2;
  value = std::max(value, send ? kMinSendBuffer : kMinReceiveBuffer);
  TRY(OnSocketOption(name, value));
  (send ? options_.send_buffer : options_.receive_buffer) = value;
  options_.buffer_lock.fetch_or(send ? 1 : 2);
  if (send && queue() != nullptr) queue()->Notify(EPOLLOUT);
  return {};
}

Result<void> Socket::SetSocketOption(int name, OptionIn& in) {
  Task& t = in.task();
  SocketOptions& o = options_;
  if (name == SO_BINDTODEVICE) {
    std::vector<std::byte> bytes = TRY(in.Bytes(15));
    std::string device(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    device.resize(strnlen(device.data(), device.size()));
    int32_t index = 0;
    if (!device.empty()) {
      for (const net::InterfaceInfo& i : net_->stack().Interfaces()) {
        if (i.name == device) index = static_cast<int32_t>(i.index);
      }
      if (index == 0) return Errno(ENODEV);
    }
    if (o.bound_device != 0 && !MayIn(t, *net_, Capability::kNetRaw)) return Errno(EPERM);
    TRY(OnSocketOption(SO_BINDTODEVICE, index));
    o.bound_device = index;
    return {};
  }
  const int32_t value = TRY(in.Int());
  const bool on = value != 0;
  switch (name) {
    case SO_PRIORITY:
      if ((value < 0 || value > 6) && !MayRaw(t, *net_)) return Errno(EPERM);
      TRY(OnSocketOption(name, value));
      o.priority = value;
      return {};
    case SO_TYPE:
    case SO_PROTOCOL:
    case SO_DOMAIN:
    case SO_ERROR:
      return Errno(ENOPROTOOPT);
    case SO_BUSY_POLL:
      if (value < 0) return Errno(EINVAL);
      o.busy_poll = value;
      return {};
    case kSoPreferBusyPoll:
      if (on && !MayAdmin(t)) return Errno(EPERM);
      o.prefer_busy_poll = on;
      return {};
    case kSoBusyPollBudget:
      if (value > 0 && !MayAdmin(t)) return Errno(EPERM);
      return value < 0 || value > UINT16_MAX ? Result<void>(Errno(EINVAL)) : Result<void>();
    case SO_MAX_PACING_RATE:
      if (in.length() >= sizeof(uint64_t)) {
        o.max_pacing_rate = TRY(in.Value<uint64_t>());
      } else {
        o.max_pacing_rate = value == -1 ? ~uint64_t{0} : static_cast<uint32_t>(value);
      }
      return {};
    case kSoTxRehash:
      if (family_ != AF_INET && family_ != AF_INET6) return Errno(EOPNOTSUPP);
      if (type_ != SOCK_STREAM) return Errno(EOPNOTSUPP);
      if (value < -1 || value > 1) return Errno(EINVAL);
      o.tx_rehash = value == -1 ? 1 : value;
      return {};
    case SO_PEEK_OFF:
      TRY(OnSocketOption(name, value));
      o.peek_off = value;
      return {};
    case SO_DEBUG:
      if (on && !MayAdmin(t)) return Errno(EACCES);
      o.debug = on;
      return {};
    case SO_REUSEADDR:
      return SetFlag(name, o.reuse_addr, in);
    case SO_REUSEPORT:
      if (on && family_ != AF_INET && family_ != AF_INET6) return Errno(EOPNOTSUPP);
      return SetFlag(name, o.reuse_port, in);
    case SO_DONTROUTE:
      return SetFlag(name, o.dont_route, in);
    case SO_BROADCAST:
      return SetFlag(name, o.broadcast, in);
    case SO_SNDBUF:
    case SO_RCVBUF:
      return SetBuffer(name, value, false);
    case SO_SNDBUFFORCE:
    case SO_RCVBUFFORCE:
      if (!MayAdmin(t)) return Errno(EPERM);
      return SetBuffer(name == SO_SNDBUFFORCE ? SO_SNDBUF : SO_RCVBUF, value, true);
    case SO_KEEPALIVE:
      return SetFlag(name, o.keepalive, in);
    case SO_OOBINLINE:
      return SetFlag(name, o.oob_inline, in);
    case SO_NO_CHECK:
      return SetFlag(name, o.no_check, in);
    case SO_LINGER: {
      const LingerAbi l = TRY(in.Value<LingerAbi>());
      TRY(OnSocketOption(SO_LINGER, l.on == 0 ? -1 : static_cast<uint32_t>(l.seconds)));
      o.linger_on = l.on != 0;
      if (l.on != 0) o.linger_seconds = l.seconds;
      return {};
    }
    case SO_BSDCOMPAT:
      return {};
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
    case kSoTimestampNew:
    case kSoTimestampNsNew: {
      int32_t mode = name == SO_TIMESTAMP || name == kSoTimestampNew ? kTimestampMicros
                                                                     : kTimestampNanos;
      if (name >= kSoTimestampNew) mode |= kTimestampNew;
      TRY(OnSocketOption(SO_TIMESTAMP, on));
      o.timestamp = on ? mode : 0;
      return {};
    }
    case SO_TIMESTAMPING:
    case kSoTimestampingNew:
      if ((value & ~0x7ffff) != 0) return Errno(EINVAL);
      // OPT_ID_TCP is for OPT_ID, which a stream takes when connected; no clock can be chosen.
      if ((value & (1 << 16 | 1 << 7)) == 1 << 16) return Errno(EINVAL);
      if ((value & 1 << 7) != 0 && type_ == SOCK_STREAM && family_ != AF_UNIX &&
          !PeerName().ok()) {
        return Errno(EINVAL);
      }
      if ((value & 1 << 15) != 0) return Errno(EOPNOTSUPP);
      TRY(OnSocketOption(SO_TIMESTAMPING, value));
      o.timestamping = value;
      o.timestamping_new = name == kSoTimestampingNew;
      return {};
    case SO_RCVLOWAT: {
      const int32_t low = value < 0 ? INT32_MAX : value == 0 ? 1 : value;
      TRY(OnSocketOption(name, low));
      o.receive_lowat = low;
      if (type_ == SOCK_STREAM && (family_ == AF_INET || family_ == AF_INET6)) {
        // More than half of the buffer would never come together: tcp_set_rcvlowat().
        const size_t most = (o.buffer_lock & 2) != 0 ? static_cast<size_t>(o.receive_buffer)
                                                     : net_->stack().Config().tcp_rmem_max;
        o.receive_lowat = std::min<int32_t>(low, static_cast<int32_t>(most / 2));
      }
      return {};
    }
    case SO_RCVTIMEO:
    case kSoRcvTimeoNew:
      return SetTimeout(o.receive_timeout_ns, in);
    case SO_SNDTIMEO:
    case kSoSndTimeoNew:
      return SetTimeout(o.send_timeout_ns, in);
    case SO_LOCK_FILTER:
      if (o.lock_filter != 0 && !on) return Errno(EPERM);
      o.lock_filter = on;
      return {};
    case SO_MARK:
      if (!MayRaw(t, *net_)) return Errno(EPERM);
      TRY(OnSocketOption(name, static_cast<uint32_t>(value)));
      o.mark = value;
      return {};
    case kSoRcvMark:
      return SetFlag(name, o.receive_mark, in);
    case SO_TXTIME: {
      // struct sock_txtime: the clock, and flags.
      if (in.length() != 8) return Errno(EINVAL);
      const auto v = TRY(in.Value<TxtimeAbi>());
      if ((v.flags & ~3u) != 0) return Errno(EINVAL);
      if (v.clock != 1 && !MayIn(t, *net_, Capability::kNetAdmin)) return Errno(EPERM);
      if (v.clock < 0 || v.clock > 11 || (v.clock > 1 && v.clock != 7 && v.clock != 11)) {
        return Errno(EINVAL);
      }
      o.txtime_clock = v.clock;
      o.txtime_flags = static_cast<int32_t>(v.flags);
      return {};
    }
    case SO_RXQ_OVFL:
      return SetFlag(name, o.rxq_overflow, in);
    case SO_WIFI_STATUS:
      return SetFlag(name, o.wifi_status, in);
    case SO_NOFCS:
      return SetFlag(name, o.no_fcs, in);
    case SO_SELECT_ERR_QUEUE:
      return SetFlag(name, o.select_error_queue, in);
    case SO_PASSCRED:
      if (!TakesCredentials(*this)) return Errno(EOPNOTSUPP);
      return SetFlag(name, o.pass_cred, in);
    case SO_PASSSEC:
      if (!TakesCredentials(*this)) return Errno(EOPNOTSUPP);
      return SetFlag(name, o.pass_sec, in);
    case kSoPassPidfd:
      if (family_ != AF_UNIX) return Errno(EOPNOTSUPP);
      return SetFlag(name, o.pass_pidfd, in);
    case kSoPassRights:
      if (family_ != AF_UNIX) return Errno(EOPNOTSUPP);
      return SetFlag(name, o.pass_rights, in);
    case SO_INCOMING_CPU:
      o.incoming_cpu = value;
      return {};
    case SO_CNX_ADVICE:
      return {};
    case SO_ZEROCOPY: {
      const bool inet = family_ == AF_INET || family_ == AF_INET6;
      if (!inet || (type_ != SOCK_STREAM && protocol_ != IPPROTO_UDP)) return Errno(EOPNOTSUPP);
      if (value < 0 || value > 1) return Errno(EINVAL);
      o.zerocopy = value;
      return {};
    }
    case kSoBindToIfIndex:
      if (o.bound_device != 0 && !MayIn(t, *net_, Capability::kNetRaw)) return Errno(EPERM);
      if (value < 0) return Errno(EINVAL);
      // Linux takes the number of an interface that is not there.
      if (Result<void> r = OnSocketOption(SO_BINDTODEVICE, value);
          !r.ok() && !r.error().Is(ENODEV)) {
        return r;
      }
      o.bound_device = value;
      return {};
    case kSoBufLock:
      if ((value & ~3) != 0) return Errno(EINVAL);
      o.buffer_lock = value;
      return {};
    case kSoReserveMem:
      if (value < 0) return Errno(EINVAL);
      return Errno(EOPNOTSUPP);  // as without memory accounting by cgroup
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<uint32_t> Socket::BufferSize(int name) {
  return static_cast<uint32_t>(
      (name == SO_SNDBUF ? options_.send_buffer : options_.receive_buffer).load());
}

Result<void> Socket::GetSocketOption(int name, OptionOut& out) {
  const SocketOptions& o = options_;
  const auto timeout = [&](int64_t ns) {
    if (ns == INT64_MAX) ns = 0;
    out.Put(TimevalAbi{ns / kNsPerSec, ns % kNsPerSec / 1000});
  };
  const auto stamp = [&](int32_t mode) { out.Int(o.timestamp == mode); };
  switch (name) {
    case SO_DEBUG: out.Int(o.debug); break;
    case SO_DONTROUTE: out.Int(o.dont_route); break;
    case SO_BROADCAST: out.Int(o.broadcast); break;
    case SO_SNDBUF: out.Int(o.send_buffer); break;
    case SO_RCVBUF: out.Int(o.receive_buffer); break;
    case SO_REUSEADDR: out.Int(o.reuse_addr); break;
    case SO_REUSEPORT: out.Int(o.reuse_port); break;
    case SO_KEEPALIVE: out.Int(o.keepalive); break;
    case SO_TYPE: out.Int(type_); break;
    case SO_PROTOCOL: out.Int(family_ == AF_PACKET ? 0 : protocol_); break;  // packet_create() keeps it apart
    case SO_DOMAIN: out.Int(family_); break;
    case SO_ERROR: out.Int(TakeSocketError()); break;
    case SO_OOBINLINE: out.Int(o.oob_inline); break;
    case SO_NO_CHECK: out.Int(o.no_check); break;
    case SO_PRIORITY: out.Int(o.priority); break;
    case SO_LINGER: out.Put(LingerAbi{o.linger_on, o.linger_seconds}); break;
    case SO_BSDCOMPAT: out.Int(0); break;
    case SO_TIMESTAMP: stamp(kTimestampMicros); break;
    case SO_TIMESTAMPNS: stamp(kTimestampNanos); break;
    case kSoTimestampNew: stamp(kTimestampMicros | kTimestampNew); break;
    case kSoTimestampNsNew: stamp(kTimestampNanos | kTimestampNew); break;
    case SO_TIMESTAMPING:
    case kSoTimestampingNew: out.Put(std::array<int32_t, 2>{o.timestamping, 0}); break;
    case SO_RCVTIMEO:
    case kSoRcvTimeoNew: timeout(o.receive_timeout_ns); break;
    case SO_SNDTIMEO:
    case kSoSndTimeoNew: timeout(o.send_timeout_ns); break;
    case SO_RCVLOWAT: out.Int(o.receive_lowat); break;
    case SO_SNDLOWAT: out.Int(1); break;
    case SO_PASSCRED:
      if (!TakesCredentials(*this)) return Errno(EOPNOTSUPP);
      out.Int(o.pass_cred);
      break;
    case SO_PASSSEC:
      if (!TakesCredentials(*this)) return Errno(EOPNOTSUPP);
      out.Int(o.pass_sec);
      break;
    case kSoPassPidfd:
      if (family_ != AF_UNIX) return Errno(EOPNOTSUPP);
      out.Int(o.pass_pidfd);
      break;
    case kSoPassRights:
      if (family_ != AF_UNIX) return Errno(EOPNOTSUPP);
      out.Int(o.pass_rights);
      break;
    case SO_PEERCRED:
      out.Put(std::array<int32_t, 3>{0, -1, -1});
      break;
    case SO_PEERGROUPS:
    case kSoPeerPidfd:
      return Errno(ENODATA);
    case SO_PEERNAME: {
      Result<SocketAddress> peer = PeerName();
      if (!peer.ok()) return Errno(ENOTCONN);
      if (peer->size < out.room()) return Errno(EINVAL);
      out.Set(std::span(peer->bytes).first(peer->size));
      break;
    }
    case SO_ACCEPTCONN: out.Int(IsListening()); break;
    case SO_MARK: out.Int(o.mark); break;
    case kSoRcvMark: out.Int(o.receive_mark); break;
    case SO_RXQ_OVFL: out.Int(o.rxq_overflow); break;
    case SO_WIFI_STATUS: out.Int(o.wifi_status); break;
    case SO_PEEK_OFF:
      TRY(OnSocketOption(SO_PEEK_OFF, o.peek_off));
      out.Int(o.peek_off);
      break;
    case SO_NOFCS: out.Int(o.no_fcs); break;
    case SO_BINDTODEVICE: {
      if (o.bound_device == 0) break;  // a length of 0
      if (out.room() < 16) return Errno(EINVAL);
      for (const net::InterfaceInfo& i : net_->stack().Interfaces()) {
        if (static_cast<int32_t>(i.index) != o.bound_device) continue;
        out.Set(std::as_bytes(std::span(i.name.c_str(), i.name.size() + 1)));
        return {};
      }
      return Errno(ENODEV);
    }
    case SO_GET_FILTER: return GetFilterOption(out);
    case SO_LOCK_FILTER: out.Int(o.lock_filter); break;
    case SO_BPF_EXTENSIONS: out.Int(64); break;
    case SO_SELECT_ERR_QUEUE: out.Int(o.select_error_queue); break;
    case SO_BUSY_POLL: out.Int(o.busy_poll); break;
    case kSoPreferBusyPoll: out.Int(o.prefer_busy_poll); break;
    case SO_MAX_PACING_RATE:
      if (out.room() >= sizeof(uint64_t)) {
        out.Put(o.max_pacing_rate.load());
      } else {
        out.Put(static_cast<uint32_t>(std::min<uint64_t>(o.max_pacing_rate, UINT32_MAX)));
      }
      break;
    case SO_INCOMING_CPU: out.Int(o.incoming_cpu); break;
    case SO_INCOMING_NAPI_ID: out.Int(0); break;
    case SO_MEMINFO: {
      const uint32_t receive = TRY(BufferSize(SO_RCVBUF));
      const uint32_t send = TRY(BufferSize(SO_SNDBUF));
      const MemoryUse use = MemoryInUse();
      out.Put(std::array<uint32_t, 9>{use.receive, receive, use.send, send, 0, use.queued, 0, 0, use.drops});
      break;
    }
    case SO_COOKIE:
      if (out.room() < sizeof(uint64_t)) return Errno(EINVAL);
      out.Put(cookie());
      break;
    case kSoNetnsCookie:
      if (out.room() != sizeof(uint64_t)) return Errno(EINVAL);
      out.Put(net_->ino());
      break;
    case SO_ZEROCOPY: out.Int(o.zerocopy); break;
    case SO_TXTIME:
      out.Put(std::array<int32_t, 2>{o.txtime_clock, o.txtime_flags});
      break;
    case kSoBindToIfIndex: out.Int(o.bound_device); break;
    case kSoBufLock: out.Int(o.buffer_lock); break;
    case kSoReserveMem: out.Int(0); break;
    case kSoTxRehash:
      if ((family_ != AF_INET && family_ != AF_INET6) || type_ != SOCK_STREAM) {
        return Errno(EOPNOTSUPP);
      }
      out.Int(o.tx_rehash);
      break;
    default:
      return Errno(ENOPROTOOPT);
  }
  return {};
}

}  // namespace ringwall
