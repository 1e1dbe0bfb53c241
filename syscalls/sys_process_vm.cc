// Looking into other processes: their memory, their descriptors, what they share (mm/process_vm_access.c,
// kernel/kcmp.c, kernel/pid.c).
#include <linux/kcmp.h>
#include <sys/mman.h>

#include "sentry/kernel/guest_io.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/ptrace.h"
#include "fs/epoll/epoll.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr uint64_t kMaxIov = 1024;
constexpr size_t kChunk = 64 << 10;

struct IovecAbi {
  uint64_t base, len;
};

Result<RefPtr<Task>> TaskOf(Task& t, int tid) {
  MutexLock lock(t.kernel().tasks().mu);
  RefPtr<Task> found(t.pid_ns().FindTask(tid));
  if (!found) return Errno(ESRCH);
  return found;
}

struct Remote {
  RefPtr<MemoryManager> mm;
  std::vector<IovecAbi> pieces;
};

// The other side: its memory, which the caller may reach, and which pieces of it. With no pieces to
// speak of, `mm` is null: nothing is looked at.
Result<Remote> RemoteSide(Task& t, int pid, GuestAddr iov, uint64_t count) {
  if (count > kMaxIov) return Errno(EINVAL);
  Remote remote;
  remote.pieces = TRY(UserIn<IovecAbi>(iov).CopyInArray(t, count));
  bool any = false;
  for (const IovecAbi& piece : remote.pieces) {
    if (static_cast<int64_t>(piece.len) < 0) return Errno(EINVAL);
    any |= piece.len != 0;
  }
  if (!any) return remote;
  const RefPtr<Task> target = TRY(TaskOf(t, pid));
  TRY(Ptrace::MayAccess(t, *target, PtraceAccess::kAttachReal));
  remote.mm = target->mm_ref();
  if (!remote.mm) return Errno(ESRCH);
  return remote;
}

// How much of a piece can be asked for: unlike the process's own calls these grow no stack, and go by
// the protection where the processor would let more be read.
size_t Mapped(const MemoryManager& mm, GuestAddr at, size_t want, int prot) {
  size_t have = 0;
  while (have < want) {
    const std::optional<Vma> vma = mm.Find(at + have);
    if (!vma || (vma->prot & prot) == 0) break;
    have = vma->range.end - at;
  }
  return std::min(have, want);
}

// Calls copy(address, size) for pieces of at most a chunk until one is cut short: how many bytes
// were copied, or its error when none was.
template <typename Copy>
SysResult ForEachChunk(const Remote& remote, size_t limit, int prot, Copy&& copy) {
  size_t total = 0;
  for (const IovecAbi& piece : remote.pieces) {
    uint64_t at = piece.base, left = piece.len;
    while (left > 0 && total < limit) {
      const size_t want = std::min<uint64_t>({left, limit - total, kChunk});
      const size_t mapped = Mapped(*remote.mm, GuestAddr(at), want, prot);
      Result<size_t> n = mapped == 0 ? Result<size_t>(Errno(EFAULT)) : copy(GuestAddr(at), mapped);
      if (!n.ok() && total == 0) return n.error();
      if (!n.ok()) return static_cast<int64_t>(total);
      total += *n;
      if (*n < want) return static_cast<int64_t>(total);
      at += *n;
      left -= *n;
    }
  }
  return static_cast<int64_t>(total);
}

}  // namespace

SysResult SysProcessVmReadv(Task& t, int pid, GuestAddr local, uint64_t local_count,
                            GuestAddr remote_iov, uint64_t remote_count, uint64_t flags) {
  if (flags != 0) return Errno(EINVAL);
  GuestBuffers buffers = TRY(GuestBuffers::Iovec(t, local, local_count));
  if (buffers.total() == 0) return 0;
  const Remote remote = TRY(RemoteSide(t, pid, remote_iov, remote_count));
  if (!remote.mm) return 0;
  const size_t limit = buffers.total();
  GuestDst dst(t, std::move(buffers));
  std::vector<std::byte> chunk(std::min(limit, kChunk));
  return ForEachChunk(remote, limit, PROT_READ, [&](GuestAddr at, size_t want) -> Result<size_t> {
    const size_t got = TRY(remote.mm->CopyInPartial(at, std::span(chunk).first(want)));
    return dst.Put(std::span(chunk).first(got));
  });
}

SysResult SysProcessVmWritev(Task& t, int pid, GuestAddr local, uint64_t local_count,
                             GuestAddr remote_iov, uint64_t remote_count, uint64_t flags) {
  if (flags != 0) return Errno(EINVAL);
  GuestBuffers buffers = TRY(GuestBuffers::Iovec(t, local, local_count));
  if (buffers.total() == 0) return 0;
  const Remote remote = TRY(RemoteSide(t, pid, remote_iov, remote_count));
  if (!remote.mm) return 0;
  const size_t limit = buffers.total();
  GuestSrc src(t, std::move(buffers));
  std::vector<std::byte> chunk(std::min(limit, kChunk));
  return ForEachChunk(remote, limit, PROT_WRITE, [&](GuestAddr at, size_t want) -> Result<size_t> {
    const size_t got = TRY(src.Get(std::span(chunk).first(want)));
    return remote.mm->CopyOutPartial(at, std::span(chunk).first(got));
  });
}

namespace {

// struct kcmp_epoll_slot.
struct EpollSlot {
  uint32_t efd, tfd, toff;
};

}  // namespace

SysResult SysKcmp(Task& t, int pid1, int pid2, int type, uint64_t index1, uint64_t index2) {
  const RefPtr<Task> a = TRY(TaskOf(t, pid1));
  const RefPtr<Task> b = TRY(TaskOf(t, pid2));
  TRY(Ptrace::MayAccess(t, *a, PtraceAccess::kReadReal));
  TRY(Ptrace::MayAccess(t, *b, PtraceAccess::kReadReal));
  const auto order = [](const void* x, const void* y) -> int64_t {
    return x == y ? 0 : std::less<>()(x, y) ? 1 : 2;
  };
  switch (type) {
    case KCMP_FILE: {
      const RefPtr<FdTable> fds1 = a->fds_ref(), fds2 = b->fds_ref();
      if (!fds1 || !fds2 || index1 > INT_MAX || index2 > INT_MAX) return Errno(EBADF);
      Ref<File> file1 = TRY(fds1->Get(static_cast<int>(index1)));
      Ref<File> file2 = TRY(fds2->Get(static_cast<int>(index2)));
      return order(&*file1, &*file2);
    }
    case KCMP_VM:
      return order(a->mm_ref().get(), b->mm_ref().get());
    case KCMP_FILES:
      return order(a->fds_ref().get(), b->fds_ref().get());
    case KCMP_FS:
      return order(a->fs_ref().get(), b->fs_ref().get());
    case KCMP_SIGHAND:
      return order(&a->tg().actions(), &b->tg().actions());
    case KCMP_IO:
      return 0;  // nobody has an I/O context
    case KCMP_SYSVSEM:
      return order(a->sem_undo_id(), b->sem_undo_id());
    case KCMP_EPOLL_TFD: {
      const auto slot = TRY(UserIn<EpollSlot>(GuestAddr(index2)).CopyIn(t));
      const RefPtr<FdTable> fds1 = a->fds_ref(), fds2 = b->fds_ref();
      if (!fds1 || !fds2 || index1 > INT_MAX || slot.efd > INT_MAX) return Errno(EBADF);
      Ref<File> file = TRY(fds1->Get(static_cast<int>(index1)));
      Ref<File> other = TRY(fds2->Get(static_cast<int>(slot.efd)));
      const EpollFile* epoll = EpollFile::From(*other);
      if (epoll == nullptr) return Errno(EINVAL);
      const File* watched = epoll->Watched(static_cast<int>(slot.tfd), slot.toff);
      if (watched == nullptr) return Errno(ENOENT);
      return order(&*file, watched);
    }
    default:
      return Errno(EINVAL);
  }
}

SysResult SysPidfdGetfd(Task& t, int pidfd, int fd, uint32_t flags) {
  if (flags != 0) return Errno(EINVAL);
  Ref<File> file = TRY(t.GetFile(pidfd));
  RefPtr<ThreadGroup> tg = ThreadGroupOfPidFd(*file);
  if (!tg) return Errno(EBADF);
  RefPtr<Task> target;
  {
    MutexLock lock(t.kernel().tasks().mu);
    target = RefPtr<Task>(tg->leader);
  }
  if (!target) return Errno(ESRCH);
  TRY(Ptrace::MayAccess(t, *target, PtraceAccess::kAttachReal));
  const RefPtr<FdTable> fds = target->fds_ref();
  if (!fds) return Errno(ESRCH);
  Ref<File> found = TRY(fds->Get(fd));
  const int installed = TRY(t.fds().Install(std::move(found), true, t.tg().limit(RLIMIT_NOFILE)));
  // What it would have done to an epoll ahead of the Sentry somebody else can see from now on.
  target->AnswersChanged();
  return installed;
}

}  // namespace ringwall
