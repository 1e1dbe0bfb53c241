// The ioctls of every file (fs/ioctl.c:do_vfs_ioctl) that share blocks or ask for them. No file system here
// does either, so what is left is the order of the errors.
#include <linux/fs.h>

#include "syscalls/handlers.h"

namespace ringwall {

namespace {

struct CloneRangeAbi {
  int64_t from;
  uint64_t offset, length, to_offset;
};
static_assert(sizeof(CloneRangeAbi) == 32 && FICLONERANGE == 0x4020940d);

struct DedupeRangeAbi {
  uint64_t offset, length;
  uint16_t count, reserved1;
  uint32_t reserved2;
};
static_assert(sizeof(DedupeRangeAbi) == 24 && FIDEDUPERANGE == 0xc0189436);
constexpr uint64_t kDedupeInfoSize = 32;

// ioctl_file_clone.
Result<void> CheckClone(Task& t, int from, File& to) {
  const Ref<File> source = TRY(t.GetFile(from));
  if ((source->flags() & O_PATH) != 0) return Errno(EBADF);
  if (&source->inode().fs() != &to.inode().fs()) return Errno(EXDEV);
  if (source->inode().is_directory() || to.inode().is_directory()) return Errno(EISDIR);
  if (!source->inode().is_regular() || !to.inode().is_regular()) return Errno(EINVAL);
  if (!source->readable() || !to.writable() || (to.flags() & O_APPEND) != 0) return Errno(EBADF);
  return Errno(EOPNOTSUPP);
}

// ioctl_file_dedupe_range.
Result<void> CheckDedupe(Task& t, File& file, GuestAddr addr) {
  const auto count = TRY(UserIn<uint16_t>(addr + offsetof(DedupeRangeAbi, count)).CopyIn(t));
  const uint64_t size = sizeof(DedupeRangeAbi) + count * kDedupeInfoSize;
  if (size > kPageSize) return Errno(ENOMEM);
  std::vector<std::byte> all(size);
  TRY(t.CopyIn(addr, all));
  DedupeRangeAbi range;
  memcpy(&range, all.data(), sizeof(range));
  if (!file.readable() || range.reserved1 != 0 || range.reserved2 != 0) return Errno(EINVAL);
  if (file.inode().is_directory()) return Errno(EISDIR);
  if (!file.inode().is_regular()) return Errno(EINVAL);
  return Errno(EOPNOTSUPP);
}

// ioctl_fibmap.
Result<void> CheckBmap(Task& t, GuestAddr addr) {
  if (!t.creds().Has(Capability::kSysRawio)) return Errno(EPERM);
  TRY(UserIn<int32_t>(addr).CopyIn(t));
  return Errno(EINVAL);
}

}  // namespace

std::optional<SysResult> FileBlocksIoctl(Task& t, File& file, uint32_t cmd, uint64_t arg) {
  const GuestAddr addr(arg);
  switch (cmd) {
    case FICLONE:
      return Zero(CheckClone(t, static_cast<int>(arg), file));
    case FICLONERANGE: {
      const Result<CloneRangeAbi> range = UserIn<CloneRangeAbi>(addr).CopyIn(t);
      if (!range.ok()) return SysResult(range.error());
      return Zero(CheckClone(t, static_cast<int>(range->from), file));
    }
    case FIDEDUPERANGE:
      return Zero(CheckDedupe(t, file, addr));
    case FIBMAP:
      if (!file.inode().is_regular()) return std::nullopt;
      return Zero(CheckBmap(t, addr));
    default:
      return std::nullopt;
  }
}

}  // namespace ringwall
