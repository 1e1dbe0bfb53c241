// Sending and receiving on sockets (net/socket.c): sendto, recvfrom, and the calls with a msghdr.
#include <fcntl.h>
#include <sys/socket.h>

#include "sentry/kernel/guest_io.h"
#include "syscalls/socket_calls.h"

namespace ringwall {

namespace {

constexpr uint64_t kMaxIov = 1024;
constexpr uint64_t kMaxControl = 128 << 10;  // net.core.optmem_max
constexpr uint32_t kCmsgCompat = 0x80000000;
// MSG_SENDPAGE_NOPOLICY, MSG_SPLICE_PAGES ...: the kernel's own.
constexpr uint32_t kInternalFlags = 0x10000 | 0x8000000 | 0x100000 | 0x80000;

// struct user_msghdr.
struct MsgHdrAbi {
  uint64_t name;
  int32_t name_len;
  uint32_t pad0;
  uint64_t iov, iov_len, control, control_len;
  uint32_t flags, pad1;
};
static_assert(sizeof(MsgHdrAbi) == 56);

struct MmsgHdrAbi {
  MsgHdrAbi header;
  uint32_t length, pad;
};
static_assert(sizeof(MmsgHdrAbi) == 64);

uint32_t Flags(const SocketRef& s, int flags) {
  return static_cast<uint32_t>(flags) | (s.file->nonblocking() ? MSG_DONTWAIT : 0);
}

// copy_msghdr_from_user(), but for the name, which only a sender reads.
Result<MsgHdrAbi> CopyInHeader(Task& t, GuestAddr addr) {
  MsgHdrAbi h = TRY(UserIn<MsgHdrAbi>(addr).CopyIn(t));
  if (h.name == 0) h.name_len = 0;
  if (h.name_len < 0) return Errno(EINVAL);
  h.name_len = std::min<int32_t>(h.name_len, SocketAddress::kMax);
  return h;
}

Result<GuestBuffers> CopyInIovec(Task& t, const MsgHdrAbi& h) {
  if (h.iov_len > kMaxIov) return Errno(EMSGSIZE);
  return GuestBuffers::Iovec(t, GuestAddr(h.iov), h.iov_len);
}

// Returns what was sent; *left: what of the message was not.
SysResult SendOne(Task& t, SocketRef& s, GuestAddr addr, int flags, size_t* left = nullptr) {
  const MsgHdrAbi h = TRY(CopyInHeader(t, addr));
  SocketAddress to;
  if (h.name_len != 0) {
    to = TRY(CopyInAddress(t, GuestAddr(h.name), h.name_len));
  }
  GuestBuffers buffers = TRY(CopyInIovec(t, h));
  if (h.control_len > INT32_MAX) return Errno(ENOBUFS);
  std::vector<std::byte> control;
  if (h.control_len != 0) {
    if (h.control_len >= kMaxControl) return Errno(ENOBUFS);
    control.resize(h.control_len);
    TRY(t.CopyIn(GuestAddr(h.control), control));
  }
  GuestSrc src(t, std::move(buffers));
  SendArgs args{.src = src,
                .flags = Flags(s, flags) & ~kInternalFlags,
                .to = h.name_len != 0 ? &to : nullptr,
                .control = control};
  const size_t n = TRY(s.socket.SendMsg(t, args));
  if (left != nullptr) *left = src.remaining();
  return static_cast<int64_t>(n);
}

// scm_detach_fds().
Result<void> InstallRights(Task& t, ReceiveArgs& args) {
  ControlOut& control = *args.control;
  if (args.files.empty()) return {};
  const size_t left = control.left();
  const size_t fit =
      left > sizeof(CmsgHeader) ? (left - sizeof(CmsgHeader)) / sizeof(int32_t) : 0;
  const size_t n = std::min(fit, args.files.size());
  std::vector<int32_t> numbers;
  for (size_t i = 0; i < n; i++) {
    Result<int> fd = t.fds().Install(args.files[i], (args.flags & MSG_CMSG_CLOEXEC) != 0,
                                     t.tg().limit(RLIMIT_NOFILE));
    if (!fd.ok()) break;
    numbers.push_back(*fd);
  }
  if (!numbers.empty()) {
    control.Put(SOL_SOCKET, SCM_RIGHTS, std::as_bytes(std::span(numbers)));
  }
  if (numbers.size() < args.files.size()) control.set_truncated();
  args.files.clear();
  return {};
}

// scm_pidfd_recv().
void InstallPidFd(Task& t, ReceiveArgs& args) {
  constexpr int kScmPidFd = 4;
  ControlOut& control = *args.control;
  if (control.left() < sizeof(CmsgHeader) + sizeof(int32_t)) return control.set_truncated();
  Result<int> fd = t.fds().Install(Ref<File>(std::move(args.pidfd)), true,
                                   t.tg().limit(RLIMIT_NOFILE));
  control.Put(SOL_SOCKET, kScmPidFd, fd.ok() ? int32_t{*fd} : -fd.error().value());
}

SysResult ReceiveOne(Task& t, SocketRef& s, GuestAddr addr, int flags, uint32_t* out_flags) {
  const MsgHdrAbi h = TRY(CopyInHeader(t, addr));
  GuestBuffers buffers = TRY(CopyInIovec(t, h));
  GuestDst dst(t, std::move(buffers));
  ControlOut control(h.control == 0 ? 0 : std::min(h.control_len, kMaxControl));
  ReceiveArgs args{.dst = dst, .flags = Flags(s, flags), .control = &control};
  const size_t n = TRY(s.socket.RecvMsg(t, args));
  TRY(InstallRights(t, args));
  if (args.pidfd) InstallPidFd(t, args);
  if (h.name != 0) {
    TRY(CopyOutAddress(t, args.from, GuestAddr(h.name), addr + offsetof(MsgHdrAbi, name_len)));
  }
  *out_flags = args.out_flags | (static_cast<uint32_t>(flags) & MSG_CMSG_CLOEXEC) |
               (control.truncated() ? uint32_t{MSG_CTRUNC} : 0u);
  if (!control.bytes().empty()) {
    TRY(t.CopyOutLast(GuestAddr(h.control), control.bytes()));
  }
  TRY(t.CopyOutLast(addr + offsetof(MsgHdrAbi, flags), std::as_bytes(std::span(out_flags, 1))));
  const uint64_t length = control.bytes().size();
  TRY(t.CopyOutLast(addr + offsetof(MsgHdrAbi, control_len), std::as_bytes(std::span(&length, 1))));
  return static_cast<int64_t>(n);
}

struct TimespecAbi {
  int64_t sec, nsec;
};

}  // namespace

SysResult SysSendto(Task& t, int fd, GuestAddr buf, uint64_t size, int flags, GuestAddr addr,
                    int length) {
  GuestBuffers b = TRY(GuestBuffers::One(buf, size));
  SocketRef s = TRY(GetSocket(t, fd));
  SocketAddress to;
  if (!addr.IsNull()) {
    to = TRY(CopyInAddress(t, addr, length));
  }
  GuestSrc src(t, std::move(b));
  SendArgs args{.src = src,
                .flags = Flags(s, flags) & ~kInternalFlags,
                .to = addr.IsNull() ? nullptr : &to};
  const size_t n = TRY(s.socket.SendMsg(t, args));
  return static_cast<int64_t>(n);
}

SysResult SysRecvfrom(Task& t, int fd, GuestAddr buf, uint64_t size, int flags, GuestAddr addr,
                      GuestAddr length) {
  GuestBuffers b = TRY(GuestBuffers::One(buf, size));
  SocketRef s = TRY(GetSocket(t, fd));
  GuestDst dst(t, std::move(b));
  ReceiveArgs args{.dst = dst, .flags = Flags(s, flags)};
  const size_t n = TRY(s.socket.RecvMsg(t, args));
  if (!addr.IsNull()) {
    TRY(CopyOutAddress(t, args.from, addr, length));
  }
  return static_cast<int64_t>(n);
}

SysResult SysSendmsg(Task& t, int fd, GuestAddr message, int flags) {
  if ((static_cast<uint32_t>(flags) & kCmsgCompat) != 0) return Errno(EINVAL);
  SocketRef s = TRY(GetSocket(t, fd));
  return SendOne(t, s, message, flags);
}

SysResult SysRecvmsg(Task& t, int fd, GuestAddr message, int flags) {
  if ((static_cast<uint32_t>(flags) & kCmsgCompat) != 0) return Errno(EINVAL);
  SocketRef s = TRY(GetSocket(t, fd));
  uint32_t out_flags = 0;
  return ReceiveOne(t, s, message, flags, &out_flags);
}

SysResult SysSendmmsg(Task& t, int fd, GuestAddr vector, uint32_t count, int flags) {
  if ((static_cast<uint32_t>(flags) & kCmsgCompat) != 0) return Errno(EINVAL);
  count = std::min<uint32_t>(count, kMaxIov);
  SocketRef s = TRY(GetSocket(t, fd));
  for (uint32_t i = 0; i < count; i++) {
    const GuestAddr at = vector + uint64_t{i} * sizeof(MmsgHdrAbi);
    size_t left = 0;
    SysResult n = SendOne(t, s, at, flags, &left);
    if (!n.ok()) return i > 0 ? SysResult(i) : n.error();
    Result<void> put = UserOut<uint32_t>(at + offsetof(MmsgHdrAbi, length))
                           .CopyOut(t, static_cast<uint32_t>(*n));
    if (!put.ok()) return i > 0 ? SysResult(i) : put.error();
    if (left > 0) return i + 1;
  }
  return count;
}

SysResult SysRecvmmsg(Task& t, int fd, GuestAddr vector, uint32_t count, int flags,
                      GuestAddr timeout) {
  if ((static_cast<uint32_t>(flags) & kCmsgCompat) != 0) return Errno(EINVAL);
  int64_t deadline = kNoDeadline;
  if (!timeout.IsNull()) {
    const TimespecAbi ts = TRY(UserIn<TimespecAbi>(timeout).CopyIn(t));
    if (ts.sec < 0 || ts.nsec < 0 || ts.nsec >= 1'000'000'000) return Errno(EINVAL);
    const int64_t now = MonotonicNow();
    deadline = ts.sec > (INT64_MAX - now) / 1'000'000'000 - 1
                   ? kNoDeadline
                   : now + ts.sec * 1'000'000'000 + ts.nsec;
  }
  SocketRef s = TRY(GetSocket(t, fd));
  if ((flags & MSG_ERRQUEUE) == 0) {
    if (const int error = s.socket.TakePendingError()) return Errno(error);
  }
  uint32_t done = 0;
  int each = flags & ~MSG_WAITFORONE;
  std::optional<Errno> error;
  while (done < count) {
    const GuestAddr at = vector + uint64_t{done} * sizeof(MmsgHdrAbi);
    uint32_t out_flags = 0;
    SysResult n = ReceiveOne(t, s, at, each, &out_flags);
    if (!n.ok()) {
      error = n.error();
      break;
    }
    Result<void> put = UserOut<uint32_t>(at + offsetof(MmsgHdrAbi, length))
                           .CopyOut(t, static_cast<uint32_t>(*n));
    if (!put.ok()) {
      error = put.error();
      break;
    }
    done++;
    // The first one may be waited for; the rest are taken as they are there.
    if ((flags & MSG_WAITFORONE) != 0) each |= MSG_DONTWAIT;
    if (deadline != kNoDeadline && MonotonicNow() >= deadline) break;
    if ((out_flags & MSG_OOB) != 0) break;
  }
  if (!timeout.IsNull() && (done > 0 || !error)) {
    const int64_t left = deadline == kNoDeadline ? 0 : std::max<int64_t>(deadline - MonotonicNow(), 0);
    TRY(UserOut<TimespecAbi>(timeout).CopyOut(
        t, TimespecAbi{left / 1'000'000'000, left % 1'000'000'000}));
  }
  if (done == 0 && error) return *error;
  return done;
}

}  // namespace ringwall
