// ptrace(2): requests by number, and the registers as debuggers see them (arch/x86/kernel/ptrace.c,
// regset.c). What the requests mean is in sentry/kernel/ptrace.cc.
#include <elf.h>
#include <linux/audit.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>

#include "platform/xstate.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_rseq.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

// Requests that Debian 12's headers lack, or that are the architecture's.
constexpr int kOldSetOptions = 21, kSysemu = 31, kSysemuSinglestep = 32, kArchPrctl = 30;
constexpr int kGetRseqConfiguration = 0x420f, kSetSyscallDispatch = 0x4210,
              kGetSyscallDispatch = 0x4211, kSingleblock = 33;
constexpr uint32_t kOptions = 0xff | PTRACE_O_EXITKILL | PTRACE_O_SUSPEND_SECCOMP;

// struct user: where its parts lie.
constexpr uint64_t kUserSize = 928, kDebugOffset = 848, kDebugRegisters = 8;
constexpr uint64_t kFlags = 0x54dd5;  // what a debugger may change of them
constexpr size_t kFxsave = 512, kSwBytes = 464;

struct IovecAbi {
  uint64_t base, len;
};

// struct ptrace_sud_config.
struct DispatchConfig {
  uint64_t mode, selector, offset, length;
};

struct PeekSigInfoArgs {
  uint64_t offset;
  uint32_t flags;
  int32_t count;
};

Result<void> SetRegister(abi::Registers& r, size_t index, uint64_t value) {
  auto* words = reinterpret_cast<uint64_t*>(&r);
  const auto is = [&](const uint64_t& field) { return &words[index] == &field; };
  if (is(r.cs) || is(r.ss) || is(r.ds) || is(r.es) || is(r.fs) || is(r.gs)) {
    // A selector of the kernel's is refused. There are no segments but the usual ones: others have
    // no effect.
    const uint16_t selector = static_cast<uint16_t>(value);
    if (selector != 0 && (selector & 3) != 3) return Errno(EIO);
    if ((is(r.cs) || is(r.ss)) && selector == 0) return Errno(EIO);
    return {};
  }
  if (is(r.fs_base) || is(r.gs_base)) {
    if (value >= kTaskSize.value()) return Errno(EIO);
  } else if (is(r.eflags)) {
    value = (r.eflags & ~kFlags) | (value & kFlags);
  }
  words[index] = value;
  return {};
}

Result<void> SetRegisters(Task& tracee, std::span<const uint64_t> values) {
  abi::Registers& r = tracee.regs();
  for (size_t i = 0; i < values.size(); i++) {
    TRY(SetRegister(r, i, values[i]));
  }
  tracee.context().RegsChanged();
  return {};
}

Result<std::vector<std::byte>> GetXState(Task& t, Task& tracee) {
  std::vector<std::byte> x(tracee.context().xstate_size());
  Result<void> got;
  Ptrace::RunOn(t, tracee, [&] { got = tracee.context().GetXState(x); });
  if (!got.ok()) return Errno(EIO);
  return x;
}

Result<void> PutXState(Task& t, Task& tracee, std::span<const std::byte> x) {
  Result<void> put;
  Ptrace::RunOn(t, tracee, [&] { put = tracee.context().SetXState(x); });
  return put;
}

Result<void> SetFpRegisters(Task& t, Task& tracee, std::span<const std::byte> fx) {
  std::vector<std::byte> x = TRY(GetXState(t, tracee));
  memcpy(x.data(), fx.data(), kSwBytes);
  uint64_t features;
  memcpy(&features, x.data() + kFxsave, sizeof(features));
  features |= 3;  // x87 and SSE are there now
  memcpy(x.data() + kFxsave, &features, sizeof(features));
  return PutXState(t, tracee, x);
}

Result<void> CheckOptions(Task& t, uint64_t options) {
  if ((options & ~uint64_t{kOptions}) != 0) return Errno(EINVAL);
  if ((options & PTRACE_O_SUSPEND_SECCOMP) == 0) return {};
  if (!t.creds().Has(Capability::kSysAdmin) || t.seccomp.mode.load() != 0) return Errno(EPERM);
  return {};
}

Result<uint64_t> PeekUser(Task& t, Task& tracee, uint64_t addr) {
  if (addr % 8 != 0 || addr >= kUserSize) return Errno(EIO);
  if (addr < sizeof(abi::Registers)) {
    uint64_t value;
    memcpy(&value, reinterpret_cast<const char*>(&tracee.regs()) + addr, sizeof(value));
    return value;
  }
  if (addr < kDebugOffset || addr >= kDebugOffset + 8 * kDebugRegisters) return uint64_t{0};
  const auto n = static_cast<int>((addr - kDebugOffset) / 8);
  if (!tracee.trace.debug_used || n == 4 || n == 5) return uint64_t{0};
  Result<uint64_t> value = Errno(EIO);
  Ptrace::RunOn(t, tracee, [&] { value = tracee.context().GetDebugRegister(n); });
  return value;
}

Result<void> PokeUser(Task& t, Task& tracee, uint64_t addr, uint64_t value) {
  if (addr % 8 != 0 || addr >= kUserSize) return Errno(EIO);
  if (addr < sizeof(abi::Registers)) {
    TRY(SetRegister(tracee.regs(), addr / 8, value));
    tracee.context().RegsChanged();
    return {};
  }
  if (addr < kDebugOffset || addr >= kDebugOffset + 8 * kDebugRegisters) return Errno(EIO);
  const auto n = static_cast<int>((addr - kDebugOffset) / 8);
  if (n == 4 || n == 5) return Errno(EIO);
  if (n < 4 && value >= kTaskSize.value()) return Errno(EINVAL);
  if (!tracee.trace.debug_used && value == 0) return {};
  tracee.trace.debug_used = true;
  Result<void> set;
  Ptrace::RunOn(t, tracee, [&] { set = tracee.context().SetDebugRegister(n, value); });
  return set;
}

Result<uint64_t> PeekWord(Task& tracee, uint64_t addr) {
  uint64_t word = 0;
  const size_t n = tracee.mm().ForceRead(GuestAddr(addr), std::as_writable_bytes(std::span(&word, 1)));
  if (n != sizeof(word)) return Errno(EIO);
  return word;
}

Result<void> GetRegSet(Task& t, Task& tracee, uint64_t type, IovecAbi& iov) {
  std::vector<std::byte> bytes;
  switch (type) {
    case NT_PRSTATUS: {
      const auto regs = std::as_bytes(std::span(&tracee.regs(), 1));
      bytes.assign(regs.begin(), regs.end());
      break;
    }
    case NT_PRFPREG:
    case NT_X86_XSTATE: {
      std::vector<std::byte> x = TRY(GetXState(t, tracee));
      memset(x.data() + kSwBytes, 0, kFxsave - kSwBytes);
      if (type == NT_PRFPREG) {
        x.resize(kFxsave);
      } else {
        // Where debuggers look for XCR0.
        const uint64_t features = XStateFeatures();
        memcpy(x.data() + kSwBytes, &features, sizeof(features));
      }
      bytes = std::move(x);
      break;
    }
    default:
      return Errno(EINVAL);
  }
  if (iov.len % 8 != 0) return Errno(EINVAL);
  iov.len = std::min<uint64_t>(iov.len, bytes.size());
  return t.CopyOut(GuestAddr(iov.base), std::span(bytes).first(iov.len));
}

Result<void> SetRegSet(Task& t, Task& tracee, uint64_t type, IovecAbi& iov) {
  const size_t size = type == NT_PRSTATUS     ? sizeof(abi::Registers)
                      : type == NT_PRFPREG    ? kFxsave
                      : type == NT_X86_XSTATE ? tracee.context().xstate_size()
                                              : 0;
  if (size == 0 || iov.len % 8 != 0) return Errno(EINVAL);
  iov.len = std::min<uint64_t>(iov.len, size);
  std::vector<std::byte> bytes(iov.len);
  if (type == NT_PRFPREG && iov.len != size) return Errno(EINVAL);
  if (type == NT_X86_XSTATE && iov.len != size) return Errno(EFAULT);
  TRY(t.CopyIn(GuestAddr(iov.base), bytes));
  if (type == NT_PRFPREG) return SetFpRegisters(t, tracee, bytes);
  if (type == NT_X86_XSTATE) {
    memset(bytes.data() + kSwBytes, 0, kFxsave - kSwBytes);
    return PutXState(t, tracee, bytes);
  }
  std::vector<uint64_t> words(iov.len / 8);
  memcpy(words.data(), bytes.data(), iov.len);
  return SetRegisters(tracee, words);
}

Result<void> RegSet(Task& t, Task& tracee, bool set, uint64_t type, GuestAddr data) {
  IovecAbi iov = TRY(UserIn<IovecAbi>(data).CopyIn(t));
  if (set) {
    TRY(SetRegSet(t, tracee, type, iov));
  } else {
    TRY(GetRegSet(t, tracee, type, iov));
  }
  return UserOut<uint64_t>(data + offsetof(IovecAbi, len)).CopyOut(t, iov.len);
}

SysResult PeekSigInfo(Task& t, Task& tracee, GuestAddr addr, GuestAddr data) {
  const PeekSigInfoArgs args = TRY(UserIn<PeekSigInfoArgs>(addr).CopyIn(t));
  if ((args.flags & ~uint32_t{PTRACE_PEEKSIGINFO_SHARED}) != 0 || args.count < 0) return Errno(EINVAL);
  const std::vector<abi::SigInfo> pending = Ptrace::Pending(
      tracee, args.flags != 0, args.offset, static_cast<size_t>(args.count));
  for (size_t i = 0; i < pending.size(); i++) {
    Result<void> put = UserOut<abi::SigInfo>(data + i * sizeof(abi::SigInfo)).CopyOut(t, pending[i]);
    if (put.ok()) continue;
    if (i == 0) return put.error();
    return static_cast<int64_t>(i);
  }
  return static_cast<int64_t>(pending.size());
}

// struct ptrace_syscall_info, by how far it is filled.
SysResult GetSyscallInfo(Task& t, Task& tracee, uint64_t size, GuestAddr data) {
  struct {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t ip, sp;
    uint64_t words[7];
    uint32_t ret_data, pad1;
  } info = {};
  const abi::Registers& r = tracee.regs();
  info.arch = AUDIT_ARCH_X86_64;
  info.ip = r.rip;
  info.sp = r.rsp;
  size_t used = 24;
  const Result<abi::SigInfo> stop = Ptrace::StopInfo(tracee);
  const int code = stop.ok() ? stop->code : 0;
  const uint64_t message = Ptrace::Message(tracee);
  const uint64_t call[7] = {r.orig_rax, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9};
  if (code == (SIGTRAP | 0x80) && message == PTRACE_EVENTMSG_SYSCALL_ENTRY) {
    info.op = PTRACE_SYSCALL_INFO_ENTRY;
    memcpy(info.words, call, sizeof(call));
    used = 80;
  } else if (code == (SIGTRAP | 0x80) && message == PTRACE_EVENTMSG_SYSCALL_EXIT) {
    info.op = PTRACE_SYSCALL_INFO_EXIT;
    constexpr uint64_t kLowestError = static_cast<uint64_t>(-4095);
    info.words[0] = r.rax;
    info.words[1] = r.rax >= kLowestError ? 1 : 0;
    used = 33;
  } else if (code == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
    info.op = PTRACE_SYSCALL_INFO_SECCOMP;
    memcpy(info.words, call, sizeof(call));
    info.ret_data = static_cast<uint32_t>(message);
    used = 84;
  }
  TRY(t.CopyOut(data, std::as_bytes(std::span(&info, 1)).first(std::min<uint64_t>(size, used))));
  return static_cast<int64_t>(used);
}

Result<const SeccompChain*> FilterAt(Task& t, const SeccompChain* chain, uint64_t index) {
  if (!t.creds().Has(Capability::kSysAdmin) || t.seccomp.mode.load() != 0) return Errno(EACCES);
  if (chain == nullptr) return Errno(EINVAL);
  if (index >= static_cast<uint64_t>(chain->depth)) return Errno(ENOENT);
  // The oldest is number 0.
  while (static_cast<uint64_t>(chain->depth) != index + 1) chain = chain->previous.get();
  return chain;
}

SysResult GetSeccompFilter(Task& t, Task& tracee, uint64_t index, GuestAddr data) {
  RefPtr<const SeccompChain> all = tracee.seccomp_chain();
  const SeccompChain* chain = TRY(FilterAt(t, all.get(), index));
  const std::span<const bpf::Insn> program = chain->filter.source();
  if (!data.IsNull()) {
    TRY(t.CopyOut(data, std::as_bytes(program)));
  }
  return static_cast<int64_t>(program.size());
}

SysResult GetSeccompMetadata(Task& t, Task& tracee, uint64_t size, GuestAddr data) {
  uint64_t metadata[2] = {};  // which filter; its flags
  if (!t.creds().Has(Capability::kSysAdmin) || t.seccomp.mode.load() != 0) return Errno(EACCES);
  if (size < sizeof(uint64_t)) return Errno(EINVAL);
  metadata[0] = TRY(UserIn<uint64_t>(data).CopyIn(t));
  RefPtr<const SeccompChain> all = tracee.seccomp_chain();
  const SeccompChain* chain = TRY(FilterAt(t, all.get(), metadata[0]));
  metadata[1] = chain->log ? SECCOMP_FILTER_FLAG_LOG : 0;
  const size_t n = std::min<uint64_t>(size, sizeof(metadata));
  TRY(t.CopyOut(data, std::as_bytes(std::span(metadata)).first(n)));
  return static_cast<int64_t>(n);
}

// Requests that leave the tracee stopped.
SysResult Examine(Task& t, Task& tracee, int request, uint64_t addr, uint64_t raw) {
  const GuestAddr data(raw);
  switch (request) {
    case PTRACE_PEEKTEXT:
    case PTRACE_PEEKDATA: {
      const uint64_t word = TRY(PeekWord(tracee, addr));
      return Zero(UserOut<uint64_t>(data).CopyOut(t, word));
    }
    case PTRACE_POKETEXT:
    case PTRACE_POKEDATA: {
      const size_t n = tracee.mm().ForceWrite(GuestAddr(addr), std::as_bytes(std::span(&raw, 1)));
      if (n != sizeof(raw)) return Errno(EIO);
      return 0;
    }
    case PTRACE_PEEKUSR: {
      const uint64_t word = TRY(PeekUser(t, tracee, addr));
      return Zero(UserOut<uint64_t>(data).CopyOut(t, word));
    }
    case PTRACE_POKEUSR:
      return Zero(PokeUser(t, tracee, addr, raw));
    case PTRACE_GETREGS:
      return Zero(t.CopyOut(data, std::as_bytes(std::span(&tracee.regs(), 1))));
    case PTRACE_SETREGS: {
      std::array<uint64_t, sizeof(abi::Registers) / 8> words;
      TRY(t.CopyIn(data, std::as_writable_bytes(std::span(words))));
      return Zero(SetRegisters(tracee, words));
    }
    case PTRACE_GETFPREGS: {
      IovecAbi iov = {raw, kFxsave};
      return Zero(GetRegSet(t, tracee, NT_PRFPREG, iov));
    }
    case PTRACE_SETFPREGS: {
      IovecAbi iov = {raw, kFxsave};
      return Zero(SetRegSet(t, tracee, NT_PRFPREG, iov));
    }
    case PTRACE_GETREGSET:
    case PTRACE_SETREGSET:
      return Zero(RegSet(t, tracee, request == PTRACE_SETREGSET, addr, data));
    case kArchPrctl: {
      constexpr uint64_t kSetGs = 0x1001, kSetFs = 0x1002, kGetFs = 0x1003, kGetGs = 0x1004;
      abi::Registers& r = tracee.regs();
      if (raw == kGetFs || raw == kGetGs) {
        return Zero(UserOut<uint64_t>(GuestAddr(addr)).CopyOut(t, raw == kGetFs ? r.fs_base : r.gs_base));
      }
      if (raw != kSetFs && raw != kSetGs) return Errno(EINVAL);
      if (addr >= kTaskSize.value()) return Errno(EPERM);
      (raw == kSetFs ? r.fs_base : r.gs_base) = addr;
      tracee.context().RegsChanged();
      return 0;
    }
    case kOldSetOptions:
    case PTRACE_SETOPTIONS:
      TRY(CheckOptions(t, raw));
      tracee.trace.options.store(static_cast<uint32_t>(raw));
      return 0;
    case PTRACE_GETEVENTMSG:
      return Zero(UserOut<uint64_t>(data).CopyOut(t, Ptrace::Message(tracee)));
    case PTRACE_PEEKSIGINFO:
      return PeekSigInfo(t, tracee, GuestAddr(addr), data);
    case PTRACE_GETSIGINFO: {
      const abi::SigInfo info = TRY(Ptrace::StopInfo(tracee));
      return Zero(UserOut<abi::SigInfo>(data).CopyOut(t, info));
    }
    case PTRACE_SETSIGINFO: {
      const abi::SigInfo info = TRY(UserIn<abi::SigInfo>(data).CopyIn(t));
      return Zero(Ptrace::SetStopInfo(tracee, info));
    }
    case PTRACE_GETSIGMASK:
      if (addr != sizeof(abi::SigSet)) return Errno(EINVAL);
      return Zero(UserOut<abi::SigSet>(data).CopyOut(t, Ptrace::SignalMask(tracee)));
    case PTRACE_SETSIGMASK: {
      if (addr != sizeof(abi::SigSet)) return Errno(EINVAL);
      const abi::SigSet mask = TRY(UserIn<abi::SigSet>(data).CopyIn(t));
      Ptrace::SetSignalMask(tracee, mask);
      return 0;
    }
    case PTRACE_LISTEN:
      return Zero(Ptrace::Listen(tracee));
    case PTRACE_GET_SYSCALL_INFO:
      return GetSyscallInfo(t, tracee, addr, data);
    case PTRACE_SECCOMP_GET_FILTER:
      return GetSeccompFilter(t, tracee, addr, data);
    case PTRACE_SECCOMP_GET_METADATA:
      return GetSeccompMetadata(t, tracee, addr, data);
    case kGetRseqConfiguration: {
      NoteLocalRseq(tracee);
      struct {
        uint64_t pointer;
        uint32_t size, signature, flags, pad;
      } conf = {tracee.rseq_area.value(), 0, 0, 0, 0};
      if (!tracee.rseq_area.IsNull()) conf.size = tracee.rseq_length, conf.signature = tracee.rseq_signature;
      TRY(t.CopyOut(data, std::as_bytes(std::span(&conf, 1)).first(std::min<uint64_t>(addr, sizeof(conf)))));
      return static_cast<int64_t>(sizeof(conf));  // whatever fitted
    }
    case kGetSyscallDispatch: {
      if (addr != sizeof(DispatchConfig)) return Errno(EINVAL);
      const SyscallDispatch& d = tracee.dispatch;
      const DispatchConfig config = {d.on.load() ? 1u : 0u, d.selector.value(), d.offset, d.length};
      return Zero(t.CopyOut(data, std::as_bytes(std::span(&config, 1))));
    }
    case kSetSyscallDispatch: {
      if (addr != sizeof(DispatchConfig)) return Errno(EINVAL);
      const DispatchConfig config = TRY(UserIn<DispatchConfig>(GuestAddr(data)).CopyIn(t));
      return Zero(SetSyscallDispatch(tracee, config.mode, config.offset, config.length,
                                     config.selector));
    }
    default:
      return Errno(EIO);
  }
}

std::optional<Ptrace::Go> ResumeRequest(int request) {
  switch (request) {
    case PTRACE_CONT:
      return Ptrace::Go::kCont;
    case PTRACE_SYSCALL:
      return Ptrace::Go::kSyscall;
    case PTRACE_SINGLESTEP:
    case kSingleblock:  // one instruction, as where the processor does not trap on branches only
      return Ptrace::Go::kStep;
    case kSysemu:
      return Ptrace::Go::kSysemu;
    case kSysemuSinglestep:
      return Ptrace::Go::kSysemuStep;
    default:
      return std::nullopt;
  }
}

}  // namespace

SysResult SysPtrace(Task& t, int64_t request64, int64_t pid, uint64_t addr, uint64_t data) {
  const int request = static_cast<int>(request64);
  const int tid = static_cast<int>(pid);
  if (request == PTRACE_TRACEME) {
    TRY(Ptrace::TraceMe(t));
    t.OwnAnswersChanged();
    return 0;
  }
  if (request == PTRACE_ATTACH || request == PTRACE_SEIZE) {
    const bool seize = request == PTRACE_SEIZE;
    if (seize) {
      if (tid <= 0) return Errno(ESRCH);
      if (addr != 0 || (data & ~uint64_t{kOptions}) != 0) return Errno(EIO);
      TRY(CheckOptions(t, data));
    }
    return Zero(Ptrace::Attach(t, tid, seize, seize ? static_cast<uint32_t>(data) : 0));
  }
  const bool any_state = request == PTRACE_KILL || request == PTRACE_INTERRUPT;
  Ref<Task> tracee = TRY(Ptrace::Freeze(t, tid, any_state));
  if (request == PTRACE_KILL) {
    Result<void> ignored = SendSignalToGroup(tracee->tg(), MakeSigInfo(SIGKILL, SI_KERNEL));
    static_cast<void>(ignored);
    return 0;
  }
  if (request == PTRACE_INTERRUPT) return Zero(Ptrace::Interrupt(*tracee));
  const std::optional<Ptrace::Go> go = ResumeRequest(request);
  if (go || request == PTRACE_DETACH) {
    if (data > static_cast<uint64_t>(abi::kSigMax)) {
      Ptrace::Thaw(*tracee);
      return Errno(EIO);
    }
    const auto signo = static_cast<int>(data);
    if (go) {
      Ptrace::Resume(*tracee, *go, signo);
    } else {
      Ptrace::Detach(t, *tracee, signo);
    }
    return 0;
  }
  SysResult result = Examine(t, *tracee, request, addr, data);
  Ptrace::Thaw(*tracee);
  return result;
}

}  // namespace ringwall
