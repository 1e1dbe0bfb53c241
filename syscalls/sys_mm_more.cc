// Memory calls of newer kernels: protection keys on a processor without them, advice to other
// processes, what the page cache holds; and pidfd_getfd.
#include <linux/mman.h>
#include <sys/mman.h>

#include "sentry/kernel/guest_io.h"
#include "sentry/kernel/pidfd.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

// A process that a pidfd names, for one who might trace it. EBADF, ESRCH, EPERM.
Result<Ref<Task>> TracableOf(Task& t, int pidfd) {
  Ref<File> file = TRY(t.GetFile(pidfd));
  const RefPtr<ThreadGroup> tg = ThreadGroupOfPidFd(*file);
  if (!tg) return Errno(EBADF);
  MutexLock lock(t.kernel().tasks().mu);
  if (tg->zombie || tg->leader == nullptr) return Errno(ESRCH);
  Task& target = *tg->leader;
  if (&target.tg() != &t.tg()) {
    Ref<const Credentials> c = target.creds_ref();
    const Credentials& own = t.creds();
    const bool same = own.fsuid == c->euid && own.fsuid == c->suid && own.fsuid == c->ruid &&
                      own.fsgid == c->egid && own.fsgid == c->sgid && own.fsgid == c->rgid;
    if (!same && !own.Has(Capability::kSysPtrace)) return Errno(EPERM);
  }
  return Ref<Task>(target);
}

}  // namespace

// The processors that guests see have no protection keys (AT_HWCAP2 and cpuid say nothing of what the
// Sentry keeps from them): key -1 is a plain mprotect, and there is none to allocate.
SysResult SysPkeyMprotect(Task& t, GuestAddr addr, uint64_t length, int prot, int pkey) {
  if (pkey != -1) {
    // What is said of the rest comes first (do_mprotect_pkey).
    constexpr int kGrows = PROT_GROWSDOWN | PROT_GROWSUP;
    if ((prot & kGrows) == kGrows || !addr.IsPageAligned()) return Errno(EINVAL);
    if (length == 0) return 0;
    const std::optional<uint64_t> size = PageUp(length);
    if (!size || *size == 0 || addr.value() + *size <= addr.value()) return Errno(ENOMEM);
    return Errno(EINVAL);
  }
  return SysMprotect(t, addr, length, prot);
}

SysResult SysPkeyAlloc(Task&, uint64_t flags, uint64_t rights) {
  constexpr uint64_t kRights = 3;  // PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE
  if (flags != 0 || (rights & ~kRights) != 0) return Errno(EINVAL);
  return Errno(EINVAL);  // as without the processor's part of it
}

SysResult SysPkeyFree(Task&, int) { return Errno(EINVAL); }

SysResult SysProcessMadvise(Task& t, int pidfd, GuestAddr iov, uint64_t count, int advice,
                            uint32_t flags) {
  if (flags != 0) return Errno(EINVAL);
  struct Piece {
    uint64_t base, length;
  };
  if (count > 1024) return Errno(EINVAL);
  const std::vector<Piece> pieces = TRY(UserIn<Piece>(iov).CopyInArray(t, count));
  for (const Piece& p : pieces) {
    if (static_cast<int64_t>(p.length) < 0) return Errno(EINVAL);
    if (p.length > kTaskSize.value() || p.base > kTaskSize.value() - p.length) return Errno(EFAULT);
  }
  Ref<Task> target = TRY(TracableOf(t, pidfd));
  const RefPtr<MemoryManager> mm = target->mm_ref();
  if (!mm) return Errno(ESRCH);
  constexpr int kCold = 20, kPageout = 21, kCollapse = 25;
  if (advice != kCold && advice != kPageout && advice != MADV_WILLNEED && advice != kCollapse) {
    return Errno(EINVAL);
  }
  if (mm.get() != &t.mm() && !t.creds().Has(Capability::kSysNice)) return Errno(EPERM);
  int64_t done = 0;
  for (const Piece& p : pieces) {
    const Result<void> advised = mm->Madvise(GuestAddr(p.base), p.length, advice);
    if (!advised.ok()) {
      if (done > 0) break;
      return advised.error();
    }
    done += static_cast<int64_t>(p.length);
  }
  return done;
}

// A dying process gives its memory back at once here: nothing is left to hurry.
SysResult SysProcessMrelease(Task& t, int pidfd, uint32_t flags) {
  if (flags != 0) return Errno(EINVAL);
  Ref<File> file = TRY(t.GetFile(pidfd));
  const RefPtr<ThreadGroup> tg = ThreadGroupOfPidFd(*file);
  if (!tg) return Errno(EBADF);
  MutexLock lock(t.kernel().tasks().mu);
  if (tg->zombie || tg->leader == nullptr) return Errno(ESRCH);
  MutexLock siglock(tg->siglock);
  return tg->group_exit ? SysResult(0) : Errno(EINVAL);
}

// Counts every page of a file within the range as cached: where the host keeps them is its own affair.
SysResult SysCachestat(Task& t, int fd, GuestAddr range_addr, GuestAddr out, uint32_t flags) {
  struct Range {
    uint64_t offset, length;
  };
  struct Answer {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
  };
  Ref<File> file = TRY(t.GetFile(fd));
  const Range range = TRY(UserIn<Range>(range_addr).CopyIn(t));
  if (flags != 0) return Errno(EINVAL);
  // Devices and folders have pages, too, but none are ever there.
  if (!file->inode().is_regular()) return Zero(UserOut<Answer>(out).CopyOut(t, Answer{}));
  const Attr attr = TRY(file->inode().GetAttr());
  const uint64_t end = range.length == 0 || range.offset + range.length < range.offset
                           ? ~uint64_t{0}
                           : range.offset + range.length;
  const uint64_t last = std::min(end, attr.size);
  Answer answer = {};
  if (range.offset < last) {
    answer.cached = (last + kPageSize - 1) / kPageSize - range.offset / kPageSize;
  }
  return Zero(UserOut<Answer>(out).CopyOut(t, answer));
}

}  // namespace ringwall
