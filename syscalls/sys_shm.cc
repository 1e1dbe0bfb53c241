// System V shared memory (ipc/shm.c).
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "sentry/ipc/ipc_namespace.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

constexpr int kShmStatAny = 15;
constexpr int kShmExec = 0100000;
constexpr int kIpc64 = 0x100;

// struct shmid64_ds.
struct ShmidAbi {
  IpcPermAbi perm;
  uint64_t segsz;
  int64_t atime, dtime, ctime;
  int32_t cpid, lpid;
  uint64_t nattch, unused4, unused5;
};
static_assert(sizeof(ShmidAbi) == 112);

// struct shminfo64.
struct ShmLimitsAbi {
  uint64_t shmmax, shmmin, shmmni, shmseg, shmall, unused[4];
};

// struct shm_info.
struct ShmInfoAbi {
  int32_t used_ids, pad;
  uint64_t total, rss, swapped, swap_attempts, swap_successes;
};

SysResult Limits(Task& t, GuestAddr out) {
  IpcNamespace& ns = t.ipc();
  ShmLimitsAbi info = {};
  info.shmmax = ns.shm_max;
  info.shmmin = 1;
  info.shmmni = info.shmseg = static_cast<uint64_t>(ns.shm_segments.load());
  info.shmall = ns.shm_all;
  TRY(UserOut<ShmLimitsAbi>(out).CopyOut(t, info));
  return ns.segments.max_index();
}

SysResult Info(Task& t, GuestAddr out) {
  IpcNamespace& ns = t.ipc();
  ShmInfoAbi info = {};
  for (const Ref<ShmSegment>& s : ns.segments.List()) {
    info.used_ids++;
    info.total += s->pages();
    info.rss += s->resident() / kPageSize;
  }
  TRY(UserOut<ShmInfoAbi>(out).CopyOut(t, info));
  return ns.segments.max_index();
}

SysResult Stat(Task& t, int id, int cmd, GuestAddr out) {
  IpcNamespace& ns = t.ipc();
  Ref<ShmSegment> s = TRY(cmd == IPC_STAT ? ns.segments.Find(id) : ns.segments.FindIndex(id));
  ShmidAbi abi = {};
  int found = 0;
  {
    MutexLock lock(s->mu);
    if (cmd != kShmStatAny) TRY(CheckIpcAccess(t.creds(), s->perm, kIpcRead));
    if (s->removed) return Errno(EIDRM);
    const ShmSegment::Figures f = s->FiguresLocked();
    abi.perm = ToAbi(s->perm, t.creds().user_ns());
    abi.segsz = s->size();
    abi.atime = f.atime;
    abi.dtime = f.dtime;
    abi.ctime = f.ctime;
    abi.cpid = NumberOf(t, f.creator);
    abi.lpid = NumberOf(t, f.last);
    abi.nattch = f.attaches;
    found = s->perm.id;
  }
  TRY(UserOut<ShmidAbi>(out).CopyOut(t, abi));
  return cmd == IPC_STAT ? 0 : found;
}

SysResult Set(Task& t, int id, GuestAddr in) {
  const ShmidAbi abi = TRY(UserIn<ShmidAbi>(in).CopyIn(t));
  Ref<ShmSegment> s = TRY(t.ipc().segments.Find(id));
  MutexLock lock(s->mu);
  TRY(CheckIpcOwner(t.creds(), s->perm));
  if (s->removed) return Errno(EIDRM);
  TRY(SetIpcOwner(&s->perm, abi.perm, t.creds().user_ns()));
  s->TouchLocked();
  return 0;
}

SysResult Remove(Task& t, int id) {
  Ref<ShmSegment> s = TRY(t.ipc().segments.Find(id));
  {
    MutexLock lock(s->mu);
    TRY(CheckIpcOwner(t.creds(), s->perm));
  }
  s->Remove();
  return 0;
}

// The memory stays where it is: the host decides what it swaps.
SysResult Lock(Task& t, int id, bool on) {
  Ref<ShmSegment> s = TRY(t.ipc().segments.Find(id));
  // What the namespace's other segments have locked (user_shm_lock counts for each user).
  uint64_t locked = on ? s->pages() * kPageSize : 0;
  for (const Ref<ShmSegment>& other : t.ipc().segments.List()) {
    if (!on || other.get() == s.get()) continue;
    MutexLock other_lock(other->mu);
    if ((other->perm.mode & kShmLocked) != 0) locked += other->pages() * kPageSize;
  }
  MutexLock lock(s->mu);
  if (!t.creds().HasIn(t.ipc().user_ns(), Capability::kIpcLock)) {
    if (t.creds().euid != s->perm.uid && t.creds().euid != s->perm.cuid) return Errno(EPERM);
    if (on && t.tg().limit(RLIMIT_MEMLOCK) == 0) return Errno(EPERM);
  }
  if (s->removed) return Errno(EIDRM);
  if (on && (s->perm.mode & kShmLocked) == 0 && !t.creds().Has(Capability::kIpcLock) &&
      locked > t.tg().limit(RLIMIT_MEMLOCK)) {
    return Errno(ENOMEM);
  }
  s->perm.mode = on ? s->perm.mode | kShmLocked : s->perm.mode & ~kShmLocked;
  return 0;
}

Result<Ref<ShmSegment>> NewSegment(Task& t, int key, uint64_t size, int flags) {
  IpcNamespace& ns = t.ipc();
  if (size < 1 || size > ns.shm_max.load()) return Errno(EINVAL);
  const uint64_t pages = size / kPageSize + ((size & kPageMask) != 0 ? 1 : 0);
  if (pages > ~uint64_t{0} / kPageSize) return Errno(ENOSPC);
  const uint64_t used = ns.usage->shm_pages.load();
  if (used + pages < used || used + pages > ns.shm_all.load()) return Errno(ENOSPC);
  if ((flags & SHM_HUGETLB) != 0) {
    // There is no huge page in the pool.
    constexpr int kSizeShift = 26, kSizeMask = 0x3f, k2Mib = 21, k1Gib = 30;
    const int log = (flags >> kSizeShift) & kSizeMask;
    return Errno(log == 0 || log == k2Mib || log == k1Gib ? ENOMEM : EINVAL);
  }
  const uint64_t memory = t.kernel().options().memory_limit;
  if ((flags & SHM_NORESERVE) == 0 && memory != 0 && size > memory) return Errno(ENOMEM);
  return ShmSegment::Create(ns, key, size, *t.tg().pid);
}

// The start of what one shmat made, if `vma` is a part of it that begins there.
bool IsAttachedAt(const Vma& vma, GuestAddr addr) {
  return vma.file && ShmFile::From(*vma.file) != nullptr &&
         vma.range.start - vma.offset == addr;
}

}  // namespace

SysResult SysShmget(Task& t, int key, uint64_t size, int flags) {
  const int id = TRY(t.ipc().segments.Get(
      t.ipc().user_ns(), t.creds(), key, flags, t.ipc().shm_segments,
      [&] { return NewSegment(t, key, size, flags); },
      [&](ShmSegment& there) -> Result<void> {
        if (there.size() < size) return Errno(EINVAL);
        return {};
      }));
  return id;
}

SysResult SysShmat(Task& t, int id, GuestAddr addr, int flags) {
  if (id < 0) return Errno(EINVAL);
  MmapRequest request;
  request.flags = MAP_SHARED;
  if (!addr.IsNull()) {
    if (!addr.IsPageAligned()) {
      if ((flags & SHM_RND) == 0) return Errno(EINVAL);
      addr = addr.PageDown();
      if (addr.IsNull() && (flags & SHM_REMAP) != 0) return Errno(EINVAL);
    }
    // What is rounded down to null is meant, too.
    request.flags |= (flags & SHM_REMAP) != 0 ? MAP_FIXED : MAP_FIXED_NOREPLACE;
  } else if ((flags & SHM_REMAP) != 0) {
    return Errno(EINVAL);
  }
  const bool read_only = (flags & SHM_RDONLY) != 0;
  const bool exec = (flags & kShmExec) != 0;
  Ref<ShmSegment> s = TRY(t.ipc().segments.Find(id));
  {
    MutexLock lock(s->mu);
    const uint32_t wanted = kIpcRead | (read_only ? 0 : kIpcWrite) | (exec ? 0111 : 0);
    TRY(CheckIpcAccess(t.creds(), s->perm, wanted));
  }
  request.hint = addr;
  request.length = s->pages() * kPageSize;
  request.prot = PROT_READ | (read_only ? 0 : PROT_WRITE) | (exec ? PROT_EXEC : 0);
  if ((flags & SHM_REMAP) == 0 && addr + s->size() < addr) return Errno(EINVAL);
  request.file = TRY(s->Attach(read_only ? O_RDONLY : O_RDWR, *t.tg().pid));
  const Result<GuestAddr> at = t.mm().Mmap(request, LimitsOf(t));
  if (!at.ok()) return Errno(at.error().Is(EEXIST) ? EINVAL : at.error_value());
  return static_cast<int64_t>(at->value());
}

SysResult SysShmdt(Task& t, GuestAddr addr) {
  if (!addr.IsPageAligned()) return Errno(EINVAL);
  RefPtr<File> file;
  std::vector<GuestRange> ranges;
  for (const Vma& vma : t.mm().List()) {
    if (vma.range.start < addr || !IsAttachedAt(vma, addr)) continue;
    // The first one says which segment; later parts of another one stay.
    if (!file) file = vma.file;
    if (ShmFile::From(*vma.file)->IsOfAttachOf(*ShmFile::From(*file))) ranges.push_back(vma.range);
  }
  if (!file) return Errno(EINVAL);
  for (const GuestRange range : ranges) TRY(t.mm().Munmap(range.start, range.size()));
  return 0;
}

SysResult SysShmctl(Task& t, int id, int cmd, GuestAddr buf) {
  cmd &= ~kIpc64;
  if (id < 0 || cmd < 0) return Errno(EINVAL);
  switch (cmd) {
    case IPC_INFO:
      return Limits(t, buf);
    case SHM_INFO:
      return Info(t, buf);
    case IPC_STAT:
    case SHM_STAT:
    case kShmStatAny:
      return Stat(t, id, cmd, buf);
    case IPC_SET:
      return Set(t, id, buf);
    case IPC_RMID:
      return Remove(t, id);
    case SHM_LOCK:
    case SHM_UNLOCK:
      return Lock(t, id, cmd == SHM_LOCK);
    default:
      return Errno(EINVAL);
  }
}

}  // namespace ringwall
