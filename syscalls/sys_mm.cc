// Memory calls (mm/mmap.c, mm/mremap.c, mm/madvise.c, mm/mlock.c). The work is MemoryManager's.
#include <fcntl.h>
#include <sys/mman.h>

#include "syscalls/handlers.h"

namespace ringwall {

namespace {

// READ_IMPLIES_EXEC of personality(2).
int WithPersonality(const Task& t, int prot) {
  constexpr uint32_t kReadImpliesExec = 0x0400000;
  if ((prot & PROT_READ) == 0 || (t.personality.load() & kReadImpliesExec) == 0) return prot;
  return prot | PROT_EXEC;
}

SysResult AddrOf(Result<GuestAddr> a) {
  if (!a.ok()) return a.error();
  return static_cast<int64_t>(a->value());
}

}  // namespace

MemoryLimits LimitsOf(Task& t) {
  MemoryLimits l;
  l.address_space = t.tg().limit(RLIMIT_AS);
  l.data = t.tg().limit(RLIMIT_DATA);
  // No limit at all but for brk, as long as it could be raised (may_expand_vm's way with valgrind).
  if (l.data == 0) {
    l.data = t.tg().rlimits.With([](const Rlimits& r) { return r.limits[RLIMIT_DATA].hard; });
  }
  l.stack = t.tg().limit(RLIMIT_STACK);
  l.locked = t.creds().Has(Capability::kIpcLock) ? ~uint64_t{0} : t.tg().limit(RLIMIT_MEMLOCK);
  return l;
}

SysResult SysMmap(Task& t, GuestAddr addr, uint64_t length, int prot, int flags, int fd,
                  uint64_t offset) {
  if ((offset & kPageMask) != 0) return Errno(EINVAL);
  MmapRequest request;
  request.hint = addr;
  request.length = length;
  request.prot = WithPersonality(t, prot);
  request.flags = flags;
  request.offset = offset;
  if ((flags & MAP_ANONYMOUS) == 0) {
    request.file = TRY(t.GetFile(fd));
    if ((request.file->flags() & O_PATH) != 0) return Errno(EBADF);
  }
  return AddrOf(t.mm().Mmap(request, LimitsOf(t)));
}

SysResult SysMunmap(Task& t, GuestAddr addr, uint64_t length) {
  return Zero(t.mm().Munmap(addr, length));
}

SysResult SysMprotect(Task& t, GuestAddr addr, uint64_t length, int prot) {
  return Zero(t.mm().Mprotect(addr, length, WithPersonality(t, prot), LimitsOf(t)));
}

SysResult SysMremap(Task& t, GuestAddr old, uint64_t old_size, uint64_t new_size, int flags,
                    GuestAddr new_addr) {
  return AddrOf(t.mm().Mremap(old, old_size, new_size, flags, new_addr, LimitsOf(t)));
}

SysResult SysBrk(Task& t, GuestAddr addr) {
  MemoryLimits limits = LimitsOf(t);
  limits.data = t.tg().limit(RLIMIT_DATA);
  return static_cast<int64_t>(t.mm().Brk(addr, limits).value());
}

SysResult SysMadvise(Task& t, GuestAddr addr, uint64_t length, int advice) {
  return Zero(t.mm().Madvise(addr, length, advice));
}

SysResult SysMsync(Task& t, GuestAddr addr, uint64_t length, int flags) {
  return Zero(t.mm().Msync(addr, length, flags));
}

SysResult SysMincore(Task& t, GuestAddr addr, uint64_t length, GuestAddr vec) {
  return Zero(t.mm().Mincore(addr, length, vec));
}

SysResult SysMlock(Task& t, GuestAddr addr, uint64_t length) {
  return Zero(t.mm().Mlock(addr, length, false, LimitsOf(t)));
}

SysResult SysMlock2(Task& t, GuestAddr addr, uint64_t length, int flags) {
  constexpr int kOnFault = 1;
  if ((flags & ~kOnFault) != 0) return Errno(EINVAL);
  return Zero(t.mm().Mlock(addr, length, flags != 0, LimitsOf(t)));
}

SysResult SysMunlock(Task& t, GuestAddr addr, uint64_t length) {
  return Zero(t.mm().Munlock(addr, length));
}

SysResult SysMlockall(Task& t, int flags) { return Zero(t.mm().Mlockall(flags, LimitsOf(t))); }

SysResult SysMunlockall(Task& t) { return Zero(t.mm().Munlockall()); }

SysResult SysMseal(Task& t, GuestAddr addr, uint64_t length, uint64_t flags) {
  return Zero(t.mm().Mseal(addr, length, flags));
}

SysResult SysRemapFilePages(Task& t, GuestAddr addr, uint64_t length, uint64_t prot,
                            uint64_t pgoff, uint64_t flags) {
  return Zero(t.mm().RemapFilePages(addr, length, static_cast<int>(prot), pgoff,
                                    static_cast<int>(flags), LimitsOf(t)));
}

}  // namespace ringwall
