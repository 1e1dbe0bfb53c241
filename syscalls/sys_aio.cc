// io_setup, io_submit, io_getevents and their relatives (fs/aio.c).
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "sentry/kernel/aio.h"
#include "sentry/kernel/guest_io.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

// struct iocb.
struct IocbAbi {
  uint64_t data;
  uint32_t key, rw_flags;
  uint16_t opcode;
  int16_t priority;
  uint32_t fd;
  uint64_t buf, bytes;
  int64_t offset;
  uint64_t reserved2;
  uint32_t flags, resfd;
};
static_assert(sizeof(IocbAbi) == 64);

constexpr uint32_t kRwfSupported =
    RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | 0x20;  // RWF_NOAPPEND

// What one request came to: a result for its event, or an error of io_submit itself.
using Outcome = Result<int64_t>;

bool Vectored(uint16_t opcode) {
  return opcode == IOCB_CMD_PREADV || opcode == IOCB_CMD_PWRITEV;
}

// Errors before the transfer are io_submit's; those of the transfer are the event's.
Outcome Transfer(Task& t, File& file, const IocbAbi& cb, bool write) {
  if ((cb.rw_flags & ~kRwfSupported) != 0) return Errno(EOPNOTSUPP);
  if (write ? !file.writable() : !file.readable()) return Errno(EBADF);
  // What has no read_iter or write_iter: directories and other anonymous inodes.
  if (file.inode().is_directory()) return Errno(EINVAL);
  if (cb.offset < 0) return Errno(EINVAL);
  GuestBuffers buffers = TRY(Vectored(cb.opcode)
                                 ? GuestBuffers::Iovec(t, GuestAddr(cb.buf), cb.bytes)
                                 : GuestBuffers::One(GuestAddr(cb.buf), cb.bytes));
  const bool wait = !file.nonblocking() && (cb.rw_flags & RWF_NOWAIT) == 0;
  WaitQueue* queue = wait ? file.queue() : nullptr;
  const int rwf = static_cast<int>(cb.rw_flags);
  Result<size_t> n = size_t{0};
  if (write) {
    GuestSrc src(t, std::move(buffers));
    if (src.remaining() != 0) TRY(Vfs::DropPrivilegesForWrite(t.creds(), file.inode()));
    uint64_t at = static_cast<uint64_t>(cb.offset);
    n = t.Retry(queue, EPOLLOUT | EPOLLERR | EPOLLHUP, kNoDeadline,
                [&] { return file.Write(src, &at, rwf); });
  } else {
    GuestDst dst(t, std::move(buffers), GuestDst::When::kAtOnce);
    n = t.Retry(queue, EPOLLIN | EPOLLRDHUP | EPOLLHUP, kNoDeadline,
                [&] { return file.Read(dst, static_cast<uint64_t>(cb.offset), rwf); });
  }
  if (n.ok()) return static_cast<int64_t>(*n);
  // Such a request is not restarted.
  if (n.error().value() >= kErestartSys) return -int64_t{EINTR};
  return -int64_t{n.error().value()};
}

Outcome Flush(File& file, const IocbAbi& cb) {
  if (cb.buf != 0 || cb.offset != 0 || cb.bytes != 0 || cb.rw_flags != 0) return Errno(EINVAL);
  const uint32_t type = file.inode().type();
  if (type != S_IFREG && type != S_IFDIR && type != S_IFBLK) return Errno(EINVAL);
  const Result<void> done = file.Fsync(cb.opcode == IOCB_CMD_FDSYNC);
  return done.ok() ? int64_t{0} : -int64_t{done.error_value()};
}

Result<void> SubmitOne(Task& t, AioContext& context, uint64_t address) {
  const UserInOut<IocbAbi> user{GuestAddr(address)};
  const IocbAbi cb = TRY(user.in().CopyIn(t));
  if (cb.reserved2 != 0 || static_cast<int64_t>(cb.bytes) < 0) return Errno(EINVAL);
  Ref<File> file = TRY(t.GetFile(static_cast<int>(cb.fd)));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  RefPtr<File> notify;
  if ((cb.flags & IOCB_FLAG_RESFD) != 0) {
    notify = TRY(t.GetFile(static_cast<int>(cb.resfd)));
    if (!SignalEventFd(*notify, 0)) return Errno(EINVAL);
  }
  constexpr uint64_t kKeyOffset = 8;
  TRY(UserOut<uint32_t>(GuestAddr(address) + kKeyOffset).CopyOut(t, 0));
  AioEvent event;
  event.data = cb.data;
  event.object = address;
  Outcome outcome = Errno(EINVAL);
  switch (cb.opcode) {
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PREADV:
      outcome = Transfer(t, *file, cb, false);
      break;
    case IOCB_CMD_PWRITE:
    case IOCB_CMD_PWRITEV:
      outcome = Transfer(t, *file, cb, true);
      break;
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC:
      outcome = Flush(*file, cb);
      break;
    case IOCB_CMD_POLL: {
      if (cb.buf > UINT16_MAX || cb.offset != 0 || cb.bytes != 0 || cb.rw_flags != 0) break;
      const EventMask mask = static_cast<EventMask>(cb.buf) | EPOLLERR | EPOLLHUP;
      context.StartPoll(std::move(file), mask, event, std::move(notify));
      return {};
    }
    default:
      break;
  }
  if (!outcome.ok()) return outcome.error();
  event.result = *outcome;
  context.Complete(event, notify.get());
  return {};
}

// At least `least` events, at most `most`, into guest memory as they come.
SysResult GetEvents(Task& t, uint64_t id, int64_t least, int64_t most, GuestAddr out,
                    int64_t deadline) {
  Ref<AioContext> context = TRY(FindAioContext(t, id));
  if (least > most || least < 0) return Errno(EINVAL);
  int64_t got = 0;
  const auto collect = [&]() -> Result<void> {
    constexpr int64_t kTurn = 256;
    while (got < most) {
      const std::vector<AioEvent> events =
          context->Take(static_cast<size_t>(std::min(kTurn, most - got)));
      if (events.empty()) break;
      const GuestAddr at = out + static_cast<uint64_t>(got) * sizeof(AioEvent);
      TRY(UserOut<AioEvent>(at).CopyOutArray(t, events));
      got += static_cast<int64_t>(events.size());
    }
    return {};
  };
  TRY(collect());
  if (got >= least || deadline == 0) return got;
  TaskWaiter waiter(t);
  context->queue().Add(waiter, EPOLLIN);
  Result<void> slept;
  while (slept.ok()) {
    const Result<void> copied = collect();
    if (!copied.ok()) slept = copied.error();
    if (!slept.ok() || got >= least || context->dead()) break;
    slept = t.Block(deadline);
  }
  context->queue().Remove(waiter);
  if (got > 0 || slept.ok()) return got;
  if (slept.error().Is(ETIMEDOUT)) return 0;
  return slept.error();
}

Result<int64_t> DeadlineOf(Task& t, GuestAddr timeout) {
  if (timeout.IsNull()) return kNoDeadline;
  struct TimespecAbi {
    int64_t sec, nsec;
  };
  const TimespecAbi v = TRY(UserIn<TimespecAbi>(timeout).CopyIn(t));
  constexpr int64_t kSecond = 1'000'000'000;
  if (v.sec < 0 || (v.sec == 0 && v.nsec <= 0)) return 0;
  if (v.sec > INT64_MAX / kSecond / 2) return kNoDeadline;
  return MonotonicNow() + v.sec * kSecond + std::clamp<int64_t>(v.nsec, 0, kSecond);
}

}  // namespace

SysResult SysIoSetup(Task& t, uint32_t events, GuestAddr out) {
  const uint64_t old = TRY(UserIn<uint64_t>(out).CopyIn(t));
  if (old != 0) return Errno(EINVAL);
  const GuestAddr at = TRY(NewAioContext(t, events, LimitsOf(t)));
  Result<void> copied = UserOut<uint64_t>(out).CopyOut(t, at.value());
  if (!copied.ok()) TRY(DestroyAioContext(t, at.value()));
  return Zero(std::move(copied));
}

SysResult SysIoDestroy(Task& t, uint64_t id) { return Zero(DestroyAioContext(t, id)); }

SysResult SysIoSubmit(Task& t, uint64_t id, int64_t count, GuestAddr list) {
  if (count < 0) return Errno(EINVAL);
  Ref<AioContext> context = TRY(FindAioContext(t, id));
  int64_t done = 0;
  while (done < count) {
    const GuestAddr entry = list + static_cast<uint64_t>(done) * sizeof(uint64_t);
    const Result<uint64_t> address = UserIn<uint64_t>(entry).CopyIn(t);
    Result<void> one;
    if (!address.ok()) {
      one = address.error();
    } else {
      one = context->Reserve();
      if (one.ok()) {
        one = SubmitOne(t, *context, *address);
        if (!one.ok()) context->Unreserve();
      }
    }
    if (!one.ok()) return done > 0 ? SysResult(done) : SysResult(one.error());
    done++;
  }
  return done;
}

SysResult SysIoCancel(Task& t, uint64_t id, GuestAddr iocb, GuestAddr) {
  const IocbAbi cb = TRY(UserIn<IocbAbi>(iocb).CopyIn(t));
  if (cb.key != 0) return Errno(EINVAL);
  Ref<AioContext> context = TRY(FindAioContext(t, id));
  if (!context->Cancel(iocb.value())) return Errno(EINVAL);
  // Its event comes as every other.
  return Errno(EINPROGRESS);
}

SysResult SysIoGetevents(Task& t, uint64_t id, int64_t least, int64_t most, GuestAddr out,
                         GuestAddr timeout) {
  const int64_t deadline = TRY(DeadlineOf(t, timeout));
  SysResult r = GetEvents(t, id, least, most, out, deadline);
  if (!r.ok() && r.error().Is(kErestartSys)) return Errno(EINTR);
  return r;
}

SysResult SysIoPgetevents(Task& t, uint64_t id, int64_t least, int64_t most, GuestAddr out,
                          GuestAddr timeout, GuestAddr mask_arg) {
  const int64_t deadline = TRY(DeadlineOf(t, timeout));
  if (!mask_arg.IsNull()) {
    struct MaskAbi {
      uint64_t mask, size;
    };
    const MaskAbi arg = TRY(UserIn<MaskAbi>(mask_arg).CopyIn(t));
    if (arg.mask != 0) {
      if (arg.size != sizeof(abi::SigSet)) return Errno(EINVAL);
      const abi::SigSet set = TRY(UserIn<abi::SigSet>(GuestAddr(arg.mask)).CopyIn(t));
      t.SetTemporaryMask(set & ~abi::kUnblockable);
    }
  }
  SysResult r = GetEvents(t, id, least, most, out, deadline);
  if (!r.ok() && r.error().Is(kErestartSys)) return Errno(kErestartNoHand);
  return r;
}

}  // namespace ringwall
