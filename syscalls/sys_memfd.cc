// memfd_create (mm/memfd.c).
#include <sys/mman.h>

#include "fs/tmpfs/memfd.h"
#include "syscalls/handlers.h"

namespace ringwall {

SysResult SysMemfdCreate(Task& t, GuestAddr name_addr, uint32_t flags) {
  constexpr size_t kNameMax = 249;
  constexpr uint32_t kSealExec = 0x20;
  constexpr uint32_t kNoExecSeal = 8, kExec = 0x10;
  constexpr uint32_t kHandled = MFD_CLOEXEC | MFD_ALLOW_SEALING | kNoExecSeal | kExec;
  constexpr uint32_t kHugeSize = 63u << 26;  // MFD_HUGE_MASK at its place
  const uint32_t known = (flags & MFD_HUGETLB) != 0 ? kHandled | MFD_HUGETLB | kHugeSize : kHandled;
  if ((flags & ~known) != 0) return Errno(EINVAL);
  if ((flags & kExec) != 0 && (flags & kNoExecSeal) != 0) return Errno(EINVAL);
  const int rule = t.pid_ns().MemfdNoexec();
  if ((flags & (kExec | kNoExecSeal)) == 0) flags |= rule >= 1 ? kNoExecSeal : kExec;
  if ((flags & kNoExecSeal) == 0 && rule >= 2) return Errno(EACCES);
  Result<std::string> name = t.CopyInString(name_addr, kNameMax + 1);
  if (!name.ok()) return Errno(name.error().Is(ENAMETOOLONG) ? EINVAL : EFAULT);
  if (name->size() > kNameMax) return Errno(EINVAL);
  // /sys/kernel/mm/hugepages lists no size, so there is none to make a file of.
  if ((flags & MFD_HUGETLB) != 0) return Errno(ENODEV);
  const bool noexec = (flags & kNoExecSeal) != 0;
  Ref<File> file = TRY(NewMemfd(*name, noexec || (flags & MFD_ALLOW_SEALING) != 0,
                                noexec ? 0666 : 0777, t.creds(), noexec ? kSealExec : 0));
  const int fd = TRY(t.fds().Install(std::move(file), (flags & MFD_CLOEXEC) != 0,
                                     t.tg().limit(RLIMIT_NOFILE)));
  return fd;
}

}  // namespace ringwall
