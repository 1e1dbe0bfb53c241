#include "fs/dev/mem_devices.h"

#include <linux/random.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "fs/vfs/special_files.h"
#include "sentry/base/unique_fd.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr uint32_t kMemMajor = 1;
enum Minor : uint32_t { kNull = 3, kZero = 5, kFull = 7, kRandom = 8, kUrandom = 9 };

class MemDevice final : public File {
 public:
  MemDevice(const Path& path, uint32_t flags, uint32_t minor)
      : File(path, flags), minor_(minor) {}

  // lseek succeeds and changes nothing.
  bool seekable() const override { return true; }
  Result<int64_t> Seek(int64_t, int) override { return int64_t{0}; }

  Result<size_t> Read(IoDst& dst, uint64_t, int) override {
    if (minor_ == kNull) return size_t{0};
    size_t done = 0;
    while (dst.remaining() > 0) {
      const std::span<std::byte> room = dst.Reserve(dst.remaining());
      if (minor_ == kZero || minor_ == kFull) {
        std::fill(room.begin(), room.end(), std::byte{0});
      } else if (!FillRandom(room)) {
        return Errno(EIO);
      }
      Result<size_t> n = dst.Commit(room.size());
      if (!n.ok()) {
        if (done > 0) break;
        return n.error();
      }
      done += *n;
      if (*n < room.size()) break;
      // As much as fits would take long; a signal ends it with what there is.
      if (const Task* t = Task::Current(); t != nullptr && t->Interrupted()) break;
    }
    return done;
  }

  Result<size_t> Write(IoSrc& src, uint64_t*, int) override {
    if (minor_ == kFull) return Errno(ENOSPC);
    // The bytes are not even looked at: Linux says nothing of a bad address here.
    return src.remaining();
  }

  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override {
    if (minor_ != kRandom && minor_ != kUrandom) return File::Ioctl(task, cmd, arg);
    switch (cmd) {
      case RNDGETENTCNT: {
        constexpr int32_t kPoolBits = 256;  // as /proc/sys/kernel/random/entropy_avail
        TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOut(task, kPoolBits));
        return 0;
      }
      case RNDADDTOENTCNT:
      case RNDADDENTROPY:
      case RNDZAPENTCNT:
      case RNDCLEARPOOL:
      case RNDRESEEDCRNG:
        // The pool is the host's.
        return Errno(task.creds().Has(Capability::kSysAdmin) ? EINVAL : EPERM);
      default:
        return Errno(EINVAL);
    }
  }

  // random_poll(): the pool is always full. The others cannot be waited for.
  WaitQueue* queue() override { return minor_ == kRandom ? &never_ : nullptr; }
  EventMask Poll(EventMask wanted) override {
    return minor_ == kRandom ? wanted & (EPOLLIN | EPOLLRDNORM) : File::Poll(wanted);
  }

  Result<HostMapping> Map(uint64_t, uint64_t, int, bool) override { return Errno(ENODEV); }
  bool maps_as_anonymous() const override { return minor_ == kZero; }

 private:
  static bool FillRandom(std::span<std::byte> room) {
    size_t at = 0;
    while (at < room.size()) {
      const ssize_t n = RetryEintr([&] { return getrandom(room.data() + at, room.size() - at, 0); });
      if (n <= 0) return false;
      at += static_cast<size_t>(n);
    }
    return true;
  }

  const uint32_t minor_;
  WaitQueue never_;
};

Result<Ref<File>> OpenMem(Inode&, const Path& path, uint32_t flags, const Credentials&,
                          uint64_t rdev) {
  switch (minor(rdev)) {
    case kNull:
    case kZero:
    case kFull:
    case kRandom:
    case kUrandom:
      return Ref<File>(MakeRef<MemDevice>(path, flags, minor(rdev)));
    default:
      return Errno(ENXIO);
  }
}

}  // namespace

void RegisterMemDevices() { RegisterDevice(S_IFCHR, kMemMajor, 0, 16, OpenMem); }

}  // namespace ringwall
