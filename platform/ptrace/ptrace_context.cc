#include "platform/ptrace/ptrace_context.h"

#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/ptrace.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "platform/ptrace/access_kind.h"

namespace ringwall {
namespace {

constexpr int kSyscallStop = SIGTRAP | 0x80;
constexpr uint64_t kInitialFlags = 0x202;  // IF, and the bit that is always set

// glibc's ptrace() takes an enum of its own, and its header does not go with the kernel's.
long Ptrace(int request, pid_t tid, uint64_t addr, void* data) {
  return syscall(SYS_ptrace, request, tid, addr, data);
}

uint64_t DebugOffset(int n) {
  return offsetof(struct user, u_debugreg) + static_cast<uint64_t>(n) * sizeof(uint64_t);
}

// The trap number of a fault, which the host tells only to signal handlers.
uint64_t TrapNumber(int signo, int code) {
  switch (signo) {
    case SIGFPE:
      return code == FPE_INTDIV ? 0 : code == FPE_INTOVF ? 4 : 19;
    case SIGTRAP:
      return code == SI_KERNEL ? 3 : 1;  // int3, or a debug exception
    case SIGILL:
      return 6;
    case SIGBUS:
      return code == BUS_ADRALN ? 17 : code == SI_KERNEL ? 12 : 14;  // 12: through RSP or RBP, no address
    default:
      return code == SI_KERNEL ? 13 : 14;
  }
}

}  // namespace

PtraceContext::PtraceContext(Ref<PtraceAddressSpace> as, pid_t tid,
                             std::shared_ptr<PtraceCounters> counters)
    : as_(std::move(as)), tid_(tid), counters_(std::move(counters)), xstate_(HostXStateSize()), meter_(CyclesPerUs()) {
  regs_.cs = abi::kUserCs;
  regs_.ss = abi::kUserSs;
  regs_.eflags = kInitialFlags;
  InitXState(std::span(xstate_).first(XStateSize()));
  as_->AddMeter(meter_);
}

PtraceContext::~PtraceContext() {
  as_->RemoveMeter(meter_);
  if (state_ == State::kLost) return;
  if (state_ == State::kStopped) {
    // The host would go on writing to an area that is still registered: not for the next task.
    if (rseq_area_ != 0 && !rseq_due_) return;
    if (debug_used_) static_cast<void>(SetDebugRegister(7, 0).ok());
    regs_ = {};
    regs_.cs = abi::kUserCs;
    regs_.ss = abi::kUserSs;
    regs_.eflags = kInitialFlags;
    regs_.orig_rax = ~uint64_t{0};
    regs_.rip = as_->park_start();
    if (Ptrace(PTRACE_SETREGS, tid_, 0, &regs_) != 0) return;
    if (Ptrace(PTRACE_DETACH, tid_, 0, nullptr) != 0) return;
  }
  as_->GiveBackThread(tid_);
}

Result<void> PtraceContext::CopyFrom(PtraceContext& parent) {
  regs_ = parent.regs_;
  TRY(parent.GetXState(std::span(xstate_).first(XStateSize())));
  xstate_dirty_ = true;
  signal_mask_ = parent.signal_mask_.load();
  return {};
}

Event PtraceContext::Lost() {
  if (state_ != State::kLost) {
    as_->stub().Kill();
    // The host keeps a dead thread, and its process with it, until the tracer has looked.
    int status;
    while (traced_) Wait(&status);
    state_ = State::kLost;
  }
  return {.kind = EventKind::kStubLost};
}

bool PtraceContext::Wait(int* status) {
  const pid_t r = RetryEintr([&] { return ::wait4(tid_, status, __WALL, nullptr); });
  traced_ = r == tid_ && WIFSTOPPED(*status);
  return traced_;
}

bool PtraceContext::Attach() {
  const uint64_t options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
  if (Ptrace(PTRACE_SEIZE, tid_, 0, reinterpret_cast<void*>(options)) != 0) return false;
  traced_ = true;
  for (;;) {
    int status;
    if (Ptrace(PTRACE_INTERRUPT, tid_, 0, nullptr) != 0 || !Wait(&status)) return false;
    abi::Registers now;
    if (Ptrace(PTRACE_GETREGS, tid_, 0, &now) != 0) return false;
    // Not parked yet means that its filter may not be up.
    if (now.rip >= as_->park_start() && now.rip < as_->park_end()) return true;
    if (Ptrace(PTRACE_CONT, tid_, 0, nullptr) != 0) return false;
    const timespec pause = {0, 20'000};
    ppoll(nullptr, 0, &pause, nullptr);  // the filter has no sleep
  }
}

bool PtraceContext::Flush() {
  if (xstate_dirty_) {
    iovec area = {xstate_.data(), xstate_.size()};
    if (Ptrace(PTRACE_SETREGSET, tid_, NT_X86_XSTATE, &area) != 0) return false;
    xstate_dirty_ = false;
  }
  // No restart by the host: the system call is over.
  regs_.orig_rax = ~uint64_t{0};
  return Ptrace(PTRACE_SETREGS, tid_, 0, &regs_) == 0;
}

Event PtraceContext::Switch() {
  if (state_ == State::kLost) return Lost();
  if ((kick_.fetch_or(kRunning) & kKicked) != 0) {
    kick_.store(0);
    return {.kind = EventKind::kInterrupted};
  }
  if (!meter_.bound()) meter_.Bind();
  meter_.Enter(CpuMeter::In::kGuest, __builtin_ia32_rdtsc());
  const Event event = Run();
  meter_.Enter(CpuMeter::In::kSentry, __builtin_ia32_rdtsc());
  kick_.fetch_and(~kRunning);
  return event;
}

Event PtraceContext::Run() {
  if (state_ == State::kParked) {
    if (!Attach()) return Lost();
    state_ = State::kStopped;
  }
  if (std::exchange(rseq_due_, false)) {
    HostRseq(0);
    if ((kick_.fetch_and(~kKicked) & kKicked) != 0) return {.kind = EventKind::kInterrupted};
  }
  if (!Flush()) {
    if (errno == ESRCH) return Lost();
    // Registers that no program can have; the processor would answer the same.
    return {.kind = EventKind::kFault, .signo = SIGSEGV, .code = SI_KERNEL, .trap_no = 13};
  }
  for (;;) {
    int status;
    if (Ptrace(PTRACE_SYSEMU, tid_, 0, nullptr) != 0 || !Wait(&status)) return Lost();
    if (status >> 16 != 0) continue;  // a stop of the whole stub, from outside
    const int stop = WSTOPSIG(status);
    if (Ptrace(PTRACE_GETREGS, tid_, 0, &regs_) != 0) return Lost();
    if (stop == kSyscallStop) return OnSyscallStop();
    if (stop == RW_KICK_SIGNAL) {
      if ((kick_.fetch_and(~kKicked) & kKicked) == 0) continue;  // of an earlier run
      return {.kind = EventKind::kInterrupted};
    }
    Event event;
    if (OnSignalStop(stop, &event)) return event;
  }
}

Event PtraceContext::OnSyscallStop() {
  Event event = {.kind = EventKind::kSyscall};
  // The syscall instruction leaves these two alike; when they are not, the host knows the entry.
  if (regs_.rcx != regs_.rip || regs_.r11 != regs_.eflags || regs_.cs != abi::kUserCs) {
    struct ptrace_syscall_info info = {};
    if (Ptrace(PTRACE_GET_SYSCALL_INFO, tid_, sizeof(info), &info) <= 0) return Lost();
    event.compat_entry = info.arch != AUDIT_ARCH_X86_64;
  }
  counters_->Count(regs_.orig_rax);
  return event;
}

bool PtraceContext::OnSignalStop(int signo, Event* event) {
  siginfo_t info;
  if (Ptrace(PTRACE_GETSIGINFO, tid_, 0, &info) != 0) {
    *event = Lost();
    return true;
  }
  if (info.si_code <= 0) return false;  // sent by someone on the host
  if (signo == SIGSYS) {
    // Only the host's emulation of the vsyscall page gets as far as the filter.
    event->kind = EventKind::kSyscall;
    event->vsyscall = true;
    regs_.orig_rax = static_cast<uint32_t>(info.si_syscall);
    counters_->Count(regs_.orig_rax);
    return true;
  }
  if (signo != SIGSEGV && signo != SIGBUS && signo != SIGFPE && signo != SIGILL &&
      signo != SIGTRAP) {
    return false;
  }
  event->kind = EventKind::kFault;
  event->signo = signo;
  event->code = info.si_code;
  event->addr = reinterpret_cast<uint64_t>(info.si_addr);
  event->trap_no = TrapNumber(signo, info.si_code);
  constexpr uint64_t kX87 = 16, kVectors = 19;
  std::array<uint8_t, kLongestInsn> room;
  if (event->trap_no == kVectors && IsX87(CodeAtRip(room))) event->trap_no = kX87;
  if (event->trap_no == 14) event->error_code = PageFaultCode(info.si_code == SEGV_ACCERR, event->addr);
  return true;
}

// The processor's error code, which the host keeps from a tracer.
uint64_t PtraceContext::PageFaultCode(bool present, uint64_t addr) {
  constexpr uint64_t kPresent = 1, kWrite = 2, kUser = 4, kFetch = 0x10;
  // What Linux tells of the kernel's half never differs.
  uint64_t code = kUser | (present || addr >> 47 != 0 ? kPresent : 0);
  if (addr == regs_.rip) return code | kFetch;
  std::array<uint8_t, kLongestInsn> room;
  return WritesAt(CodeAtRip(room), regs_, addr) ? code | kWrite : code;
}

std::span<const uint8_t> PtraceContext::CodeAtRip(std::array<uint8_t, kLongestInsn>& room) {
  const Result<size_t> got = as_->Read(GuestAddr(regs_.rip), std::as_writable_bytes(std::span(room)));
  return std::span(room).first(got.ok() ? *got : 0);
}

long PtraceContext::HostRseq(int flags) {
  constexpr uint64_t kKnownToTheHost = 32;
  abi::Registers r = {};
  r.cs = abi::kUserCs;
  r.ss = abi::kUserSs;
  r.eflags = kInitialFlags;
  r.rip = as_->call_site();
  r.orig_rax = ~uint64_t{0};
  r.rax = SYS_rseq;
  r.rdi = rseq_area_;
  r.rsi = kKnownToTheHost;
  r.rdx = static_cast<uint64_t>(flags);
  r.r10 = rseq_signature_;
  if (Ptrace(PTRACE_SETREGS, tid_, 0, &r) != 0) return -ESRCH;
  // The first step may be the end of the emulated call that the thread stopped for. A kick may come in
  // between, too; who is kicked looks at the flag.
  constexpr int kMaxSteps = 16;
  for (int step = 0; step < kMaxSteps && r.rip == as_->call_site(); ++step) {
    int status;
    if (Ptrace(PTRACE_SINGLESTEP, tid_, 0, nullptr) != 0 || !Wait(&status)) return -ESRCH;
    if (Ptrace(PTRACE_GETREGS, tid_, 0, &r) != 0) return -ESRCH;
  }
  return r.rip == as_->call_site() ? -EINTR : static_cast<long>(r.rax);
}

Result<void> PtraceContext::SetRseq(GuestAddr area, uint32_t signature) {
  if (!area.IsNull()) {
    rseq_area_ = area.value();
    rseq_signature_ = signature;
    rseq_due_ = true;
    return {};
  }
  if (!std::exchange(rseq_due_, false) && rseq_area_ != 0 && state_ == State::kStopped &&
      HostRseq(1 /* RSEQ_FLAG_UNREGISTER */) != 0) {
    return Errno(EFAULT);
  }
  rseq_area_ = 0;
  return {};
}

Result<void> PtraceContext::GetXState(std::span<std::byte> out) {
  if (out.size() != XStateSize()) return Errno(EINVAL);
  if (!xstate_dirty_) {
    iovec area = {xstate_.data(), xstate_.size()};
    if (Ptrace(PTRACE_GETREGSET, tid_, NT_X86_XSTATE, &area) != 0) return Errno(ESRCH);
  }
  memcpy(out.data(), xstate_.data(), out.size());
  return {};
}

Result<void> PtraceContext::SetXState(std::span<const std::byte> in) {
  TRY(CheckXState(in));
  memcpy(xstate_.data(), in.data(), in.size());
  xstate_dirty_ = true;
  return {};
}

Result<uint64_t> PtraceContext::GetDebugRegister(int n) {
  if (state_ != State::kStopped) return uint64_t{0};
  uint64_t value = 0;
  if (Ptrace(PTRACE_PEEKUSR, tid_, DebugOffset(n), &value) != 0) return Errno(EIO);
  return value;
}

Result<void> PtraceContext::SetDebugRegister(int n, uint64_t value) {
  if (n < 4 && value >= kStubStart) return Errno(EINVAL);
  if (state_ == State::kParked) {
    if (!Attach()) return Errno(ESRCH);
    state_ = State::kStopped;
  }
  if (state_ != State::kStopped) return Errno(ESRCH);
  debug_used_ = true;
  if (Ptrace(PTRACE_POKEUSR, tid_, DebugOffset(n), reinterpret_cast<void*>(value)) != 0) {
    return Errno(errno);
  }
  return {};
}

void PtraceContext::Interrupt() {
  if ((kick_.fetch_or(kKicked) & (kRunning | kKicked)) != kRunning) return;
  syscall(SYS_tgkill, as_->host_pid(), tid_, RW_KICK_SIGNAL);
}

void PtraceContext::CpuTime(uint64_t* user_ns, uint64_t* system_ns) {
  const CpuTimes times = as_->ReadMeter(meter_);
  *user_ns = times.user_ns;
  *system_ns = times.system_ns;
}

void PtraceContext::NoteAsleep(bool asleep) {
  meter_.Enter(asleep ? CpuMeter::In::kAsleep : CpuMeter::In::kSentry, __builtin_ia32_rdtsc());
}

}  // namespace ringwall
