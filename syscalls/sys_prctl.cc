// The rarer options of prctl(2) (kernel/sys.c); the usual ones are in sys_misc.cc.
#include <linux/prctl.h>

#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

// Debian 12's headers end before some of these.
constexpr int kGetAuxv = 0x41555856, kSetMdwe = 65, kGetMdwe = 66, kSetMemoryMerge = 67,
              kGetMemoryMerge = 68, kSyscallUserDispatch = 59;

// struct prctl_mm_map.
struct MmMap {
  uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
  uint64_t arg_start, arg_end, env_start, env_end, auxv;
  uint32_t auxv_size, exe_fd;
};
constexpr uint64_t kMapSize = sizeof(MmMap);
static_assert(kMapSize == 104);
constexpr uint64_t kSavedAuxvSize = 64 * 8;

SysResult MceKill(Task& t, uint64_t what, uint64_t policy) {
  if (what == PR_MCE_KILL_CLEAR) {
    if (policy != 0) return Errno(EINVAL);
    t.mce_kill_policy.store(PR_MCE_KILL_DEFAULT);
    return 0;
  }
  if (what != PR_MCE_KILL_SET || policy > PR_MCE_KILL_DEFAULT) return Errno(EINVAL);
  t.mce_kill_policy.store(static_cast<uint8_t>(policy));
  return 0;
}

Result<void> SetExecutable(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if (!file->inode().is_regular()) return Errno(EACCES);
  TRY(Vfs::CheckAccess(t.creds(), file->path(), kMayExec));
  for (const Vma& vma : t.mm().List()) {
    const RefPtr<File> exe = t.mm().executable();
    if (exe && vma.file && &vma.file->inode() == &exe->inode()) return Errno(EBUSY);
  }
  t.mm().set_executable(RefPtr<File>(std::move(file)));
  return {};
}

bool InOrder(const MemoryManager::Layout& l) {
  return l.start_code < l.end_code && l.start_data <= l.end_data && l.start_brk <= l.brk &&
         l.arg_start <= l.arg_end && l.env_start <= l.env_end;
}

// PR_SET_MM_MAP: all at once, for whoever restores a process.
Result<void> SetMmMap(Task& t, GuestAddr addr, uint64_t size) {
  if (size != kMapSize) return Errno(EINVAL);
  const MmMap m = TRY(UserIn<MmMap>(addr).CopyIn(t));
  for (const uint64_t place : {m.start_code, m.end_code, m.start_data, m.end_data, m.start_brk, m.brk,
                               m.start_stack, m.arg_start, m.arg_end, m.env_start, m.env_end}) {
    if (place >= kTaskSize.value() || place < kGuestMinAddr) return Errno(EINVAL);
  }
  MemoryManager::Layout layout;
  layout.start_code = GuestAddr(m.start_code), layout.end_code = GuestAddr(m.end_code);
  layout.start_data = GuestAddr(m.start_data), layout.end_data = GuestAddr(m.end_data);
  layout.start_brk = GuestAddr(m.start_brk), layout.brk = GuestAddr(m.brk);
  layout.start_stack = GuestAddr(m.start_stack);
  layout.arg_start = GuestAddr(m.arg_start), layout.arg_end = GuestAddr(m.arg_end);
  layout.env_start = GuestAddr(m.env_start), layout.env_end = GuestAddr(m.env_end);
  if (!InOrder(layout)) return Errno(EINVAL);
  const uint64_t data = (m.brk - m.start_brk) + (m.end_data - m.start_data);
  if (data > t.tg().limit(RLIMIT_DATA)) return Errno(EINVAL);
  if (m.auxv_size != 0 && (m.auxv == 0 || m.auxv_size > kSavedAuxvSize)) return Errno(EINVAL);
  const bool trusted =
      t.creds().HasOwn(Capability::kCheckpointRestore) || t.creds().HasOwn(Capability::kSysAdmin);
  if (m.exe_fd != ~uint32_t{0} && !trusted) return Errno(EPERM);
  std::vector<uint64_t> auxv;
  if (m.auxv_size != 0) {
    auxv = TRY(UserIn<uint64_t>(GuestAddr(m.auxv)).CopyInArray(t, m.auxv_size / sizeof(uint64_t)));
    if (auxv.size() < 2) auxv.resize(2);
    auxv[auxv.size() - 1] = auxv[auxv.size() - 2] = 0;
  }
  if (m.exe_fd != ~uint32_t{0}) TRY(SetExecutable(t, static_cast<int>(m.exe_fd)));
  t.mm().set_layout(layout);
  if (!auxv.empty()) t.mm().set_auxv(std::move(auxv));
  return {};
}

// PR_SET_MM with the one word options.
SysResult SetMm(Task& t, uint64_t what, uint64_t addr, uint64_t arg4, uint64_t arg5) {
  if (arg5 != 0 || (arg4 != 0 && what != PR_SET_MM_AUXV && what != PR_SET_MM_MAP &&
                    what != PR_SET_MM_MAP_SIZE)) {
    return Errno(EINVAL);
  }
  if (what == PR_SET_MM_MAP_SIZE) {
    return Zero(UserOut<uint32_t>(GuestAddr(addr)).CopyOut(t, static_cast<uint32_t>(kMapSize)));
  }
  if (what == PR_SET_MM_MAP) return Zero(SetMmMap(t, GuestAddr(addr), arg4));
  if (!t.creds().Has(Capability::kSysResource)) return Errno(EPERM);
  if (what == PR_SET_MM_EXE_FILE) return Zero(SetExecutable(t, static_cast<int>(addr)));
  if (what == PR_SET_MM_AUXV) {
    if (arg4 > 64 * 16 || arg4 % 8 != 0) return Errno(EINVAL);
    std::vector<uint64_t> auxv = TRY(UserIn<uint64_t>(GuestAddr(addr)).CopyInArray(t, arg4 / 8));
    if (auxv.size() < 2) auxv.resize(2);
    auxv[auxv.size() - 1] = auxv[auxv.size() - 2] = 0;
    t.mm().set_auxv(std::move(auxv));
    return 0;
  }
  if (addr >= kTaskSize.value() || addr < kGuestMinAddr) return Errno(EINVAL);
  MemoryManager::Layout layout = t.mm().layout();
  const GuestAddr to(addr);
  switch (what) {
    case PR_SET_MM_START_CODE: layout.start_code = to; break;
    case PR_SET_MM_END_CODE: layout.end_code = to; break;
    case PR_SET_MM_START_DATA: layout.start_data = to; break;
    case PR_SET_MM_END_DATA: layout.end_data = to; break;
    case PR_SET_MM_START_STACK: layout.start_stack = to; break;
    case PR_SET_MM_START_BRK: layout.start_brk = to; break;
    case PR_SET_MM_BRK: layout.brk = to; break;
    case PR_SET_MM_ARG_START: layout.arg_start = to; break;
    case PR_SET_MM_ARG_END: layout.arg_end = to; break;
    case PR_SET_MM_ENV_START: layout.env_start = to; break;
    case PR_SET_MM_ENV_END: layout.env_end = to; break;
    default: return Errno(EINVAL);
  }
  if (!InOrder(layout)) return Errno(EINVAL);
  // These name memory that must be there.
  const bool mapped = what == PR_SET_MM_START_STACK || what == PR_SET_MM_ARG_START ||
                      what == PR_SET_MM_ARG_END || what == PR_SET_MM_ENV_START ||
                      what == PR_SET_MM_ENV_END;
  if (mapped && !t.mm().Find(to)) return Errno(EFAULT);
  t.mm().set_layout(layout);
  return 0;
}

// What the processor leaks is the host's to say: nothing here turns a mitigation on or off.
SysResult Speculation(bool set, uint64_t which, uint64_t value) {
  if (which > PR_SPEC_L1D_FLUSH) return Errno(ENODEV);
  static_cast<void>(value);
  return set ? SysResult(Errno(ENXIO)) : PR_SPEC_ENABLE;
}

SysResult SetMdwe(Task& t, uint64_t bits) {
  constexpr uint64_t kRefuseExecGain = 1, kNoInherit = 2;
  if ((bits & ~(kRefuseExecGain | kNoInherit)) != 0 || bits == kNoInherit) return Errno(EINVAL);
  const uint32_t old = t.mm().mdwe();
  if (old != 0 && old != bits) return Errno(EPERM);
  t.mm().set_mdwe(static_cast<uint32_t>(bits));
  return 0;
}

}  // namespace

Result<void> SetSyscallDispatch(Task& target, uint64_t mode, uint64_t offset, uint64_t length,
                                uint64_t selector) {
  constexpr uint64_t kOff = 0, kOn = 1;
  if (mode > kOn) return Errno(EINVAL);
  if (mode == kOff && (offset | length | selector) != 0) return Errno(EINVAL);
  if (mode == kOn) {
    if (offset != 0 && offset + length <= offset) return Errno(EINVAL);
    if (selector >= kTaskSize.value()) return Errno(EFAULT);
  }
  target.dispatch.offset = offset;
  target.dispatch.length = length;
  target.dispatch.selector = GuestAddr(selector);
  target.dispatch.on.store(mode == kOn);
  target.OwnAnswersChanged();
  return {};
}

SysResult PrctlMore(Task& t, int option, uint64_t arg2, uint64_t arg3, uint64_t arg4,
                    uint64_t arg5) {
  const bool none_from_3 = arg3 == 0 && arg4 == 0 && arg5 == 0;
  switch (option) {
    case PR_MCE_KILL:
      if (arg4 != 0 || arg5 != 0) return Errno(EINVAL);
      return MceKill(t, arg2, arg3);
    case PR_MCE_KILL_GET:
      if (arg2 != 0 || !none_from_3) return Errno(EINVAL);
      return t.mce_kill_policy.load();
    case PR_SET_MM:
      return SetMm(t, arg2, arg3, arg4, arg5);
    case PR_TASK_PERF_EVENTS_DISABLE:
    case PR_TASK_PERF_EVENTS_ENABLE:
      return 0;
    case PR_SET_TSC:
      // rdtsc cannot be taken away from the stub.
      return arg2 == PR_TSC_ENABLE ? SysResult(0) : Errno(EINVAL);
    case PR_SET_THP_DISABLE:
      if (!none_from_3) return Errno(EINVAL);
      t.mm().set_thp_disabled(arg2 != 0);
      return 0;
    case PR_GET_THP_DISABLE:
      if (arg2 != 0 || !none_from_3) return Errno(EINVAL);
      return t.mm().thp_disabled() ? 1 : 0;
    case PR_GET_SPECULATION_CTRL:
      if (!none_from_3) return Errno(EINVAL);
      return Speculation(false, arg2, 0);
    case PR_SET_SPECULATION_CTRL:
      if (arg4 != 0 || arg5 != 0) return Errno(EINVAL);
      return Speculation(true, arg2, arg3);
    case PR_SET_IO_FLUSHER:
      if (!t.creds().Has(Capability::kSysResource)) return Errno(EPERM);
      if (!none_from_3 || arg2 > 1) return Errno(EINVAL);
      t.io_flusher.store(arg2 != 0);
      return 0;
    case PR_GET_IO_FLUSHER:
      if (!t.creds().Has(Capability::kSysResource)) return Errno(EPERM);
      if (arg2 != 0 || !none_from_3) return Errno(EINVAL);
      return t.io_flusher.load() ? 1 : 0;
    case kSetMdwe:
      if (!none_from_3) return Errno(EINVAL);
      return SetMdwe(t, arg2);
    case kGetMdwe:
      if (arg2 != 0 || !none_from_3) return Errno(EINVAL);
      return t.mm().mdwe();
    case kSetMemoryMerge:
      if (!none_from_3) return Errno(EINVAL);
      t.mm().set_merges(arg2 != 0);
      return 0;
    case kGetMemoryMerge:
      if (arg2 != 0 || !none_from_3) return Errno(EINVAL);
      return t.mm().merges() ? 1 : 0;
    case kSyscallUserDispatch:
      return Zero(SetSyscallDispatch(t, arg2, arg3, arg4, arg5));
    case kGetAuxv: {
      if (arg4 != 0 || arg5 != 0) return Errno(EINVAL);
      const std::vector<uint64_t> auxv = t.mm().auxv();
      const std::span<const std::byte> bytes = std::as_bytes(std::span(auxv));
      TRY(t.CopyOut(GuestAddr(arg2), bytes.first(std::min<uint64_t>(arg3, bytes.size()))));
      return static_cast<int64_t>(bytes.size());
    }
    default:
      return Errno(EINVAL);
  }
}

}  // namespace ringwall
