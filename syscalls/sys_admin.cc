// Calls of administration: what a kernel without the feature, or a container whose host keeps it for
// itself, answers (kernel/reboot.c, kernel/printk, kernel/time/ntp.c, fs/filesystems.c, fs/statfs.c).
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <array>

#include "sentry/kernel/cpu_clock.h"
#include "sentry/kernel/kernel_log.h"
#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

// struct __kernel_timex.
struct TimexAbi {
  uint32_t modes, pad0;
  int64_t offset, freq, maxerror, esterror;
  int32_t status, pad1;
  int64_t constant, precision, tolerance, sec, usec, tick, ppsfreq, jitter;
  int32_t shift, pad2;
  int64_t stabil, jitcnt, calcnt, errcnt, stbcnt;
  int32_t tai, pad3[11];
};
static_assert(sizeof(TimexAbi) == 208);

struct TimevalAbi {
  int64_t sec, usec;
};

struct TimezoneAbi {
  int32_t minuteswest, dsttime;
};

struct UstatAbi {
  int32_t tfree, pad;
  uint64_t tinode;
  char fname[6], fpack[6];
  uint8_t pad1[4];
};
static_assert(sizeof(UstatAbi) == 32);

// As /proc/filesystems lists them.
constexpr std::array<const char*, 11> kFileSystems = {"sysfs",  "tmpfs",  "proc",   "devtmpfs",
                                                      "sockfs", "pipefs", "ramfs",  "devpts",
                                                      "mqueue", "overlay", "gofer"};

}  // namespace

SysResult SysPersonality(Task& t, uint32_t persona) {
  const uint32_t old = t.personality.load();
  if (persona != 0xffffffff) t.personality.store(persona);
  return static_cast<int64_t>(old);
}

SysResult SysMembarrier(Task& t, int cmd, uint32_t flags, int cpu) {
  const uint32_t result = TRY(t.mm().address_space().Membarrier(cmd, flags, cpu));
  return static_cast<int64_t>(result);
}

// do_syslog.
SysResult SysSyslog(Task& t, int type, GuestAddr buf, int length) {
  constexpr int kClose = 0, kOpen = 1, kRead = 2, kReadAll = 3, kReadClear = 4, kClear = 5,
                kConsoleOff = 6, kConsoleOn = 7, kConsoleLevel = 8, kSizeUnread = 9,
                kSizeBuffer = 10;
  KernelLog& log = KernelLog::Get();
  const bool open_to_all =
      log.restricted.load() == 0 && (type == kReadAll || type == kSizeBuffer);
  if (!open_to_all && !t.creds().Has(Capability::kSyslog)) return Errno(EPERM);
  const bool reads = type == kRead || type == kReadAll || type == kReadClear;
  if (reads) {
    if (buf.IsNull() || length < 0) return Errno(EINVAL);
    if (length == 0) return 0;
    if (buf >= kTaskSize || kTaskSize - buf < static_cast<uint64_t>(length)) return Errno(EFAULT);
  }
  const auto size = static_cast<size_t>(length);
  switch (type) {
    case kRead: {
      const std::string text =
          TRY(t.Retry(&log.queue(), EPOLLIN, kNoDeadline, [&]() -> Result<std::string> {
            std::string some = log.Take(size);
            if (some.empty()) return Errno(EAGAIN);
            return some;
          }));
      TRY(t.CopyOut(buf, std::as_bytes(std::span(text))));
      return static_cast<int64_t>(text.size());
    }
    case kReadAll:
    case kReadClear: {
      const std::string text = log.Tail(size);
      TRY(t.CopyOut(buf, std::as_bytes(std::span(text))));
      if (type == kReadClear) log.Clear();
      return static_cast<int64_t>(text.size());
    }
    case kClear:
      log.Clear();
      return 0;
    case kConsoleLevel:
      return length >= 1 && length <= 8 ? SysResult(0) : Errno(EINVAL);
    case kClose:
    case kOpen:
    case kConsoleOff:
    case kConsoleOn:
      return 0;
    case kSizeUnread:
      return static_cast<int64_t>(log.Unread());
    case kSizeBuffer:
      return static_cast<int64_t>(KernelLog::kBufferSize);
    default:
      return Errno(EINVAL);
  }
}

// As in a pid namespace of its own (kernel/pid_namespace.c:reboot_pid_ns): init dies.
SysResult SysReboot(Task& t, uint32_t magic1, uint32_t magic2, uint32_t cmd, GuestAddr) {
  if (!t.creds().Has(Capability::kSysBoot)) return Errno(EPERM);
  constexpr uint32_t kMagic1 = 0xfee1dead;
  constexpr std::array<uint32_t, 4> kMagic2 = {672274793, 85072278, 369367448, 537993216};
  if (magic1 != kMagic1 ||
      std::find(kMagic2.begin(), kMagic2.end(), magic2) == kMagic2.end()) {
    return Errno(EINVAL);
  }
  constexpr uint32_t kRestart = 0x01234567, kRestart2 = 0xa1b2c3d4, kHalt = 0xcdef0123,
                     kPowerOff = 0x4321fedc;
  if (cmd != kRestart && cmd != kRestart2 && cmd != kHalt && cmd != kPowerOff) {
    return Errno(EINVAL);
  }
  int init = 0;
  {
    MutexLock lock(t.kernel().tasks().mu);
    if (const ThreadGroup* tg = t.pid_ns().container().init; tg != nullptr) init = tg->tgid();
  }
  if (init == 0) return Errno(EINVAL);
  TRY(t.kernel().SendSignal(init, SIGKILL));
  return 0;
}

SysResult SysSysfs(Task& t, int option, uint64_t arg1, uint64_t arg2) {
  switch (option) {
    case 1: {
      const std::string name = TRY(t.CopyInString(GuestAddr(arg1), kPathMax));
      for (size_t i = 0; i < kFileSystems.size(); i++) {
        if (name == kFileSystems[i]) return static_cast<int64_t>(i);
      }
      return Errno(EINVAL);
    }
    case 2: {
      if (arg1 >= kFileSystems.size()) return Errno(EINVAL);
      const std::string_view name = kFileSystems[arg1];
      return Zero(t.CopyOut(GuestAddr(arg2),
                            std::as_bytes(std::span(name.data(), name.size() + 1))));
    }
    case 3:
      return static_cast<int64_t>(kFileSystems.size());
    default:
      return Errno(EINVAL);
  }
}

SysResult SysUstat(Task& t, uint32_t dev, GuestAddr out) {
  for (const MountNamespace::Info& info : t.mounts().List()) {
    FileSystem& fs = info.mount->fs();
    if (static_cast<uint32_t>(fs.dev()) != dev) continue;
    const StatFs s = TRY(fs.GetStatFs());
    UstatAbi u = {};
    u.tfree = static_cast<int32_t>(std::min<uint64_t>(s.bfree, INT32_MAX));
    u.tinode = s.ffree;
    return Zero(UserOut<UstatAbi>(out).CopyOut(t, u));
  }
  return Errno(EINVAL);
}

SysResult SysSettimeofday(Task& t, GuestAddr tv, GuestAddr tz) {
  if (!tv.IsNull()) {
    const TimevalAbi v = TRY(UserIn<TimevalAbi>(tv).CopyIn(t));
    if (v.sec < 0 || v.usec < 0 || v.usec >= 1'000'000) return Errno(EINVAL);
  }
  if (!tz.IsNull()) {
    TRY(UserIn<TimezoneAbi>(tz).CopyIn(t));
  }
  if (tv.IsNull() && tz.IsNull() && t.creds().Has(Capability::kSysTime)) return 0;
  return Errno(EPERM);  // the clock is the host's, whatever the guest's capabilities
}

// Shows a clock that nobody disciplines; changes are the host's business.
SysResult SysAdjtimex(Task& t, GuestAddr addr) {
  TimexAbi x = TRY(UserIn<TimexAbi>(addr).CopyIn(t));
  constexpr uint32_t kAdjTime = 0x8000, kSingleShot = 1, kReadOnly = 0x2000, kTick = 0x4000,
                     kSetOffset = 0x100, kNano = 0x2000;
  if ((x.modes & kAdjTime) != 0) {
    if ((x.modes & kSingleShot) == 0) return Errno(EINVAL);
    if ((x.modes & kReadOnly) == 0) return Errno(EPERM);
  } else {
    if (x.modes != 0 && !t.creds().Has(Capability::kSysTime)) return Errno(EPERM);
    if ((x.modes & kTick) != 0 && (x.tick < 9000 || x.tick > 11000)) return Errno(EINVAL);
    if ((x.modes & kSetOffset) != 0) {
      const int64_t per_second = (x.modes & kNano) != 0 ? 1'000'000'000 : 1'000'000;
      if (x.usec < 0 || x.usec >= per_second) return Errno(EINVAL);
    }
    if (x.modes != 0) return Errno(EPERM);
  }
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  constexpr int32_t kStaUnsync = 0x40, kTimeError = 5;
  TimexAbi out = {};
  out.modes = x.modes;
  out.maxerror = out.esterror = 16'000'000;
  out.status = kStaUnsync;
  out.constant = 2;
  out.precision = 1;
  out.tolerance = 32'768'000;
  out.sec = now.tv_sec;
  out.usec = now.tv_nsec / 1000;
  out.tick = 10'000;
  TRY(UserOut<TimexAbi>(addr).CopyOut(t, out));
  return kTimeError;
}

SysResult SysClockAdjtime(Task& t, int clock, GuestAddr timex) {
  if (clock == CLOCK_REALTIME) return SysAdjtimex(t, timex);
  if (IsDeviceClock(clock)) return Errno(EINVAL);
  if (clock > CLOCK_TAI || clock == 10 /* CLOCK_SGI_CYCLE */) return Errno(EINVAL);
  return Errno(EOPNOTSUPP);
}

// Only a probe's trampoline may make it, and nobody here sets probes.
SysResult SysUretprobe(Task& t) {
  t.ForceSignal(MakeSigInfo(SIGILL, SI_KERNEL));
  return -1;
}

SysResult SysAcct(Task& t, UserPath path) {
  if (!t.creds().Has(Capability::kSysPacct)) return Errno(EPERM);
  if (path.IsNull()) return 0;
  const std::string name = TRY(path.CopyIn(t));
  const Path p = TRY(LookupAt(t, AT_FDCWD, name, 0));
  const Attr attr = TRY(Vfs::Stat(p));
  if (S_ISDIR(attr.mode)) return Errno(EISDIR);
  if (!S_ISREG(attr.mode)) return Errno(EACCES);
  if (p.mount().read_only()) return Errno(EROFS);
  TRY(Vfs::CheckAccess(t.creds(), p, kMayWrite));
  return Errno(ENOSYS);
}

// No file system here keeps quotas.
SysResult SysQuotactl(Task& t, uint32_t cmd, UserPath special, int, GuestAddr) {
  constexpr uint32_t kSync = 0x800001, kTypes = 3;
  const uint32_t sub = cmd >> 8, type = cmd & 0xff;
  if (type >= kTypes) return Errno(EINVAL);
  if (special.IsNull()) return sub == kSync ? SysResult(0) : Errno(ENODEV);
  const std::string name = TRY(special.CopyIn(t));
  const Path p = TRY(LookupAt(t, AT_FDCWD, name, 0));
  const Attr attr = TRY(Vfs::Stat(p));
  if (!S_ISBLK(attr.mode)) return Errno(ENOTBLK);
  return Errno(ENODEV);
}

}  // namespace ringwall
