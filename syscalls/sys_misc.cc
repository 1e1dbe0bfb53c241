// uname, limits, prctl and other small calls (kernel/sys.c, arch/x86/kernel/process_64.c).
#include <asm/prctl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include "platform/xstate.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/load_average.h"
#include "sentry/kernel/sysctl_limits.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

struct UtsAbi {
  char sysname[65], nodename[65], release[65], version[65], machine[65], domainname[65];
};
static_assert(sizeof(UtsAbi) == 390);

struct RlimitAbi {
  uint64_t soft, hard;
};

struct SysinfoAbi {
  int64_t uptime;
  uint64_t loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
  uint16_t procs, pad;
  uint32_t pad0;
  uint64_t totalhigh, freehigh;
  uint32_t mem_unit;
  uint8_t tail[4];
};
static_assert(sizeof(SysinfoAbi) == 112);

void Put(char (&field)[65], const std::string& value) {
  const size_t n = std::min<size_t>(value.size(), 64);
  memcpy(field, value.data(), n);
  field[n] = '\0';
}

Result<std::string> HostName(Task& t, GuestAddr name, int length) {
  if (!t.creds().HasIn(t.uts().user_ns(), Capability::kSysAdmin)) return Errno(EPERM);
  if (length < 0 || length > 64) return Errno(EINVAL);
  std::string value(static_cast<size_t>(length), '\0');
  TRY(t.CopyIn(name, std::as_writable_bytes(std::span(value))));
  return value;
}

Result<void> SetLimit(Task& t, ThreadGroup& tg, int resource, RlimitAbi fresh) {
  if (fresh.soft > fresh.hard) return Errno(EINVAL);
  if (resource == RLIMIT_NOFILE && fresh.hard > static_cast<uint64_t>(NrOpen().load())) return Errno(EPERM);
  const bool may_raise = t.creds().Has(Capability::kSysResource);
  TRY(tg.rlimits.With([&](Rlimits& r) -> Result<void> {
    Rlimits::Limit& limit = r.limits[static_cast<size_t>(resource)];
    if (fresh.hard > limit.hard && !may_raise) return Errno(EPERM);
    limit = {fresh.soft, fresh.hard};
    return {};
  }));
  if (resource == RLIMIT_CPU) ProcessTimers::Of(tg)->LimitCpu();
  if (resource == RLIMIT_STACK && &tg == &t.tg()) t.mm().LimitStack({.stack = fresh.soft});
  return {};
}

RlimitAbi GetLimit(const ThreadGroup& tg, int resource) {
  const Rlimits::Limit l =
      tg.rlimits.With([&](const Rlimits& r) { return r.limits[static_cast<size_t>(resource)]; });
  return {l.soft, l.hard};
}

// PR_SET_PTRACER of the Yama security module.
SysResult SetPtracer(Task& t, int64_t pid) {
  MutexLock lock(t.kernel().tasks().mu);
  if (pid == -1) {
    t.tg().ptracer = -1;
    return 0;
  }
  if (pid != 0) {
    Task* named = pid > 0 && pid <= INT_MAX ? t.pid_ns().FindTask(static_cast<int>(pid)) : nullptr;
    if (named == nullptr) return Errno(EINVAL);
    pid = named->tgid();
  }
  t.tg().ptracer = static_cast<int>(pid);
  return 0;
}

// Securebits come in pairs: a flag, and above it a lock on the flag.
bool MayChangeSecurebits(const Credentials& c, uint64_t to) {
  constexpr uint64_t kFlags = 0x55, kLocks = 0xaa;
  const uint64_t old = c.securebits;
  return (((old & kLocks) >> 1) & (old ^ to)) == 0 && (old & kLocks & ~to) == 0 &&
         (to & ~(kFlags | kLocks)) == 0 && c.HasOwn(Capability::kSetpcap);
}

SysResult PrctlCapabilities(Task& t, int option, uint64_t arg2, uint64_t arg3, uint64_t arg4,
                            uint64_t arg5) {
  const Credentials& old = t.creds();
  if (option == PR_CAPBSET_READ) {
    if (arg2 > 40) return Errno(EINVAL);
    return (old.cap_bounding >> arg2) & 1;
  }
  Ref<Credentials> c = old.Copy();
  switch (option) {
    case PR_CAPBSET_DROP:
      if (!old.HasOwn(Capability::kSetpcap)) return Errno(EPERM);
      if (arg2 > 40) return Errno(EINVAL);
      c->cap_bounding &= ~(uint64_t{1} << arg2);
      break;
    case PR_CAP_AMBIENT:
      if (arg2 == PR_CAP_AMBIENT_CLEAR_ALL) {
        if (arg3 != 0 || arg4 != 0 || arg5 != 0) return Errno(EINVAL);
        c->cap_ambient = 0;
        break;
      }
      if (arg3 > 40 || arg4 != 0 || arg5 != 0) return Errno(EINVAL);
      if (arg2 == PR_CAP_AMBIENT_IS_SET) return (old.cap_ambient >> arg3) & 1;
      if (arg2 == PR_CAP_AMBIENT_RAISE) {
        const uint64_t bit = uint64_t{1} << arg3;
        constexpr uint32_t kNoCapAmbientRaise = 1u << 6;
        if ((old.cap_permitted & old.cap_inheritable & bit) == 0 ||
            (old.securebits & kNoCapAmbientRaise) != 0) {
          return Errno(EPERM);
        }
        c->cap_ambient |= bit;
      } else if (arg2 == PR_CAP_AMBIENT_LOWER) {
        c->cap_ambient &= ~(uint64_t{1} << arg3);
      } else {
        return Errno(EINVAL);
      }
      break;
    case PR_SET_SECUREBITS:
      if (!MayChangeSecurebits(old, arg2)) return Errno(EPERM);
      c->securebits = static_cast<uint32_t>(arg2);
      break;
    case PR_SET_KEEPCAPS:
      if (arg2 > 1) return Errno(EINVAL);
      if ((old.securebits & (1u << 5)) != 0) return Errno(EPERM);  // locked
      c->securebits = (c->securebits & ~(1u << 4)) | static_cast<uint32_t>(arg2 << 4);
      break;
    default:
      return Errno(EINVAL);
  }
  t.set_creds(Ref<const Credentials>(std::move(c)));
  return 0;
}

}  // namespace

Rusage ProcessRusageLocked(const ThreadGroup& tg) {
  Rusage r = tg.exited_threads;
  for (const Task* task : tg.threads) r.Add(task->OwnRusage());
  return r;
}

SysResult SysUname(Task& t, GuestAddr out) {
  UtsAbi u = {};
  Put(u.sysname, "Linux");
  constexpr uint32_t kUname26 = 0x0020000;  // personality(2)
  Put(u.release, (t.personality.load() & kUname26) != 0 ? "2.6.72" : "6.12.0");
  Put(u.version, "#1 SMP PREEMPT_DYNAMIC Ringwall");
  Put(u.machine, "x86_64");
  const UtsName name = t.uts().name.With([](const UtsName& n) { return n; });
  Put(u.nodename, name.hostname);
  Put(u.domainname, name.domainname);
  return Zero(t.CopyOutLast(out, std::as_bytes(std::span(&u, 1))));
}

SysResult SysSethostname(Task& t, GuestAddr name, int length) {
  std::string value = TRY(HostName(t, name, length));
  t.uts().name.With([&](UtsName& n) { n.hostname = std::move(value); });
  return 0;
}

SysResult SysSetdomainname(Task& t, GuestAddr name, int length) {
  std::string value = TRY(HostName(t, name, length));
  t.uts().name.With([&](UtsName& n) { n.domainname = std::move(value); });
  return 0;
}

SysResult SysSysinfo(Task& t, GuestAddr out) {
  timespec up;
  clock_gettime(CLOCK_BOOTTIME, &up);
  SysinfoAbi s = {};
  // Since the sandbox began, as /proc/uptime.
  const uint64_t now = static_cast<uint64_t>(up.tv_sec) * 1'000'000'000 +
                       static_cast<uint64_t>(up.tv_nsec);
  s.uptime = static_cast<int64_t>((now - t.kernel().start_boottime_ns()) / 1'000'000'000) + 1;
  const LoadAverage::Values load = LoadAverages(t.kernel());
  constexpr double kFixed = 1 << 16;  // SI_LOAD_SHIFT
  for (size_t i = 0; i < load.size(); i++) s.loads[i] = static_cast<uint64_t>(load[i] * kFixed);
  s.totalram = t.kernel().options().memory_limit;
  s.mem_unit = 1;
  std::vector<RefPtr<MemoryManager>> maps;  // asked without the lock, which comes after theirs
  {
    TaskSet& set = t.kernel().tasks();
    MutexLock lock(set.mu);
    s.procs = static_cast<uint16_t>(set.live);
    for (const auto& [tid, task] : set.tasks) {
      if (task->tgid() != tid) continue;
      if (RefPtr<MemoryManager> mm = task->mm_ref()) maps.push_back(std::move(mm));
    }
  }
  // The most that each has ever had is one question; what it has now takes one for every 16 MiB of
  // address space, of which some programs reserve a great deal.
  uint64_t used = 0;
  for (const RefPtr<MemoryManager>& mm : maps) {
    const Result<AddressSpace::HostUsage> host = mm->address_space().Usage();
    if (host.ok()) used += host->maxrss_kib << 10;
  }
  constexpr uint64_t kHardlyAny = 64;
  if (used > s.totalram / kHardlyAny) {
    used = 0;
    for (const RefPtr<MemoryManager>& mm : maps) used += mm->usage().rss;
  }
  s.freeram = s.totalram - std::min(used, s.totalram);
  return Zero(UserOut<SysinfoAbi>(out).CopyOutLast(t, s));
}

SysResult SysGetrlimit(Task& t, uint32_t resource, GuestAddr out) {
  if (resource >= RLIM_NLIMITS) return Errno(EINVAL);
  return Zero(UserOut<RlimitAbi>(out).CopyOutLast(t, GetLimit(t.tg(), static_cast<int>(resource))));
}

SysResult SysSetrlimit(Task& t, uint32_t resource, GuestAddr in) {
  const RlimitAbi fresh = TRY(UserIn<RlimitAbi>(in).CopyIn(t));
  if (resource >= RLIM_NLIMITS) return Errno(EINVAL);
  return Zero(SetLimit(t, t.tg(), static_cast<int>(resource), fresh));
}

SysResult SysPrlimit64(Task& t, int pid, uint32_t resource, GuestAddr in, GuestAddr out) {
  std::optional<RlimitAbi> fresh;
  if (!in.IsNull()) {
    fresh = TRY(UserIn<RlimitAbi>(in).CopyIn(t));
  }
  RefPtr<ThreadGroup> tg(&t.tg());
  if (pid != 0 && pid != t.vtid()) {
    MutexLock lock(t.kernel().tasks().mu);
    Task* target = t.pid_ns().FindTask(pid);
    if (target == nullptr) return Errno(ESRCH);
    Ref<const Credentials> c = target->creds_ref();
    const Credentials& own = t.creds();
    const bool same = own.ruid == c->euid && own.ruid == c->suid && own.ruid == c->ruid &&
                      own.rgid == c->egid && own.rgid == c->sgid && own.rgid == c->rgid;
    if (!same && !own.HasIn(c->user_ns(), Capability::kSysResource)) return Errno(EPERM);
    tg = RefPtr<ThreadGroup>(&target->tg());
  }
  if (resource >= RLIM_NLIMITS) return Errno(EINVAL);
  const RlimitAbi old = GetLimit(*tg, static_cast<int>(resource));
  if (fresh) {
    TRY(SetLimit(t, *tg, static_cast<int>(resource), *fresh));
  }
  if (!out.IsNull()) {
    TRY(UserOut<RlimitAbi>(out).CopyOutLast(t, old));
  }
  return 0;
}

SysResult SysGetrandom(Task& t, GuestAddr buf, uint64_t size, uint32_t flags) {
  constexpr uint32_t kKnown = GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE;
  constexpr uint32_t kBoth = GRND_RANDOM | GRND_INSECURE;
  if ((flags & ~kKnown) != 0 || (flags & kBoth) == kBoth) return Errno(EINVAL);
  size = std::min<uint64_t>(size, 0x1ffffff);
  std::vector<std::byte> chunk(std::min<uint64_t>(size, 64 << 10));
  uint64_t done = 0;
  while (done < size) {
    const size_t want = std::min<uint64_t>(size - done, chunk.size());
    const ssize_t n = getrandom(chunk.data(), want, 0);
    if (n < 0) return Errno(EAGAIN);
    const Result<size_t> copied = t.mm().CopyOutPartial(
        buf + done, std::span<const std::byte>(chunk).first(static_cast<size_t>(n)));
    if (!copied.ok()) return done > 0 ? SysResult(static_cast<int64_t>(done)) : copied.error();
    done += *copied;
    if (*copied < static_cast<size_t>(n)) break;
    if (t.Interrupted()) break;
  }
  return static_cast<int64_t>(done);
}

SysResult SysArchPrctl(Task& t, int code, GuestAddr arg) {
  constexpr uint64_t kTaskSize = 0x7fff'ffff'f000;
  abi::Registers& r = t.regs();
  switch (code) {
    case ARCH_SET_FS:
    case ARCH_SET_GS:
      if (arg.value() >= kTaskSize) return Errno(EPERM);
      (code == ARCH_SET_FS ? r.fs_base : r.gs_base) = arg.value();
      t.context().RegsChanged();
      return 0;
    case ARCH_GET_FS:
      return Zero(UserOut<uint64_t>(arg).CopyOut(t, r.fs_base));
    case ARCH_GET_GS:
      return Zero(UserOut<uint64_t>(arg).CopyOut(t, r.gs_base));
    case 0x1012:  // ARCH_SET_CPUID
      return Errno(ENODEV);
    case 0x1011:  // ARCH_GET_CPUID
      return 1;
    case 0x1021:  // ARCH_GET_XCOMP_SUPP
    case 0x1022:  // ARCH_GET_XCOMP_PERM
    case 0x1024:  // ARCH_GET_XCOMP_GUEST_PERM
      return Zero(UserOut<uint64_t>(arg).CopyOut(t, XStateFeatures()));
    case 0x1023: {  // ARCH_REQ_XCOMP_PERM
      // The tiles of AMX are the one feature to be asked for, and the stubs have no room for them.
      constexpr uint64_t kTileData = 18;
      return Errno(arg.value() > kTileData ? EINVAL : EOPNOTSUPP);
    }
    case 0x2002:  // ARCH_MAP_VDSO_32
    case 0x2003:  // ARCH_MAP_VDSO_64: there is one already
      return Errno(EEXIST);
    default:
      return Errno(EINVAL);
  }
}

SysResult SysSetTidAddress(Task& t, GuestAddr addr) {
  t.clear_child_tid = addr;
  return t.vtid();
}

SysResult SysSetRobustList(Task& t, GuestAddr head, uint64_t size) {
  if (size != 24) return Errno(EINVAL);
  t.context().set_robust_list(head);
  return 0;
}

SysResult SysGetRobustList(Task& t, int pid, GuestAddr head, GuestAddr size) {
  GuestAddr list = t.RobustList();
  if (pid != 0 && pid != t.vtid()) {
    MutexLock lock(t.kernel().tasks().mu);
    Task* target = t.pid_ns().FindTask(pid);
    if (target == nullptr) return Errno(ESRCH);
    if (&target->tg() != &t.tg() && !t.creds().Has(Capability::kSysPtrace)) return Errno(EPERM);
    list = target->RobustList();
  }
  TRY(UserOut<uint64_t>(size).CopyOut(t, 24));
  return Zero(UserOut<uint64_t>(head).CopyOut(t, list.value()));
}

SysResult SysPrctl(Task& t, int option, uint64_t arg2, uint64_t arg3, uint64_t arg4,
                   uint64_t arg5) {
  switch (option) {
    case PR_SET_PDEATHSIG: {
      if (arg2 > static_cast<uint64_t>(abi::kSigMax)) return Errno(EINVAL);
      MutexLock lock(t.kernel().tasks().mu);
      t.parent_death_signal = static_cast<int>(arg2);
      return 0;
    }
    case PR_GET_PDEATHSIG: {
      int32_t signo;
      {
        MutexLock lock(t.kernel().tasks().mu);
        signo = t.parent_death_signal;
      }
      return Zero(UserOut<int32_t>(GuestAddr(arg2)).CopyOut(t, signo));
    }
    case PR_GET_DUMPABLE:
      return t.mm().dumpable();
    case PR_SET_DUMPABLE:
      if (arg2 > 1) return Errno(EINVAL);
      t.mm().set_dumpable(static_cast<int>(arg2));
      return 0;
    case PR_SET_NAME: {
      char name[16] = {};
      Result<std::string> s = t.CopyInString(GuestAddr(arg2), sizeof(name));
      if (!s.ok() && s.error().Is(ENAMETOOLONG)) {
        TRY(t.CopyIn(GuestAddr(arg2), std::as_writable_bytes(std::span(name, 15))));
        t.set_comm(name);
        return 0;
      }
      if (!s.ok()) return s.error();
      t.set_comm(*s);
      return 0;
    }
    case PR_GET_NAME: {
      char name[16] = {};
      const std::string comm = t.comm();
      memcpy(name, comm.data(), std::min<size_t>(comm.size(), 15));
      return Zero(t.CopyOut(GuestAddr(arg2), std::as_bytes(std::span(name))));
    }
    case PR_SET_NO_NEW_PRIVS: {
      if (arg2 != 1 || arg3 != 0 || arg4 != 0 || arg5 != 0) return Errno(EINVAL);
      Ref<Credentials> c = t.creds().Copy();
      c->no_new_privs = true;
      t.set_creds(Ref<const Credentials>(std::move(c)));
      return 0;
    }
    case PR_GET_NO_NEW_PRIVS:
      if (arg2 != 0 || arg3 != 0 || arg4 != 0 || arg5 != 0) return Errno(EINVAL);
      return t.creds().no_new_privs ? 1 : 0;
    case PR_SET_SECCOMP:
      return PrctlSetSeccomp(t, arg2, GuestAddr(arg3));
    case PR_GET_SECCOMP:
      return t.seccomp.mode.load();
    case PR_SET_PTRACER:
      return SetPtracer(t, static_cast<int64_t>(arg2));
    case PR_SET_CHILD_SUBREAPER: {
      MutexLock lock(t.kernel().tasks().mu);
      t.tg().is_child_subreaper = arg2 != 0;
      return 0;
    }
    case PR_GET_CHILD_SUBREAPER: {
      int32_t on;
      {
        MutexLock lock(t.kernel().tasks().mu);
        on = t.tg().is_child_subreaper ? 1 : 0;
      }
      return Zero(UserOut<int32_t>(GuestAddr(arg2)).CopyOut(t, on));
    }
    case PR_CAPBSET_READ:
    case PR_CAPBSET_DROP:
    case PR_CAP_AMBIENT:
    case PR_SET_SECUREBITS:
    case PR_SET_KEEPCAPS:
      return PrctlCapabilities(t, option, arg2, arg3, arg4, arg5);
    case PR_GET_SECUREBITS:
      return t.creds().securebits;
    case PR_GET_KEEPCAPS:
      return (t.creds().securebits >> 4) & 1;
    case PR_SET_TIMERSLACK:
      t.timer_slack_ns = arg2 == 0 ? t.default_timer_slack_ns.load() : arg2;
      return 0;
    case PR_GET_TIMERSLACK:
      return static_cast<int64_t>(t.timer_slack_ns.load());
    case PR_GET_TIMING:
      return PR_TIMING_STATISTICAL;
    case PR_SET_TIMING:
      return arg2 == PR_TIMING_STATISTICAL ? SysResult(0) : Errno(EINVAL);
    case PR_GET_TSC:
      return Zero(UserOut<int32_t>(GuestAddr(arg2)).CopyOut(t, PR_TSC_ENABLE));
    case PR_GET_TID_ADDRESS:
      return Zero(UserOut<uint64_t>(GuestAddr(arg2)).CopyOut(t, t.clear_child_tid.value()));
    default:
      return PrctlMore(t, option, arg2, arg3, arg4, arg5);
  }
}

SysResult SysGetcpu(Task& t, GuestAddr cpu, GuestAddr node, GuestAddr) {
  unsigned c = 0, n = 0;
  getcpu(&c, &n);
  // This host thread's CPU; the guest thread's is one of those it may use.
  const cpu_set_t allowed = t.affinity();
  if (!CPU_ISSET(c, &allowed)) {
    c = 0;
    while (c + 1 < CPU_SETSIZE && !CPU_ISSET(c, &allowed)) c++;
  }
  if (!cpu.IsNull()) {
    TRY(UserOut<uint32_t>(cpu).CopyOut(t, c));
  }
  if (!node.IsNull()) {
    TRY(UserOut<uint32_t>(node).CopyOut(t, n));
  }
  return 0;
}

}  // namespace ringwall
