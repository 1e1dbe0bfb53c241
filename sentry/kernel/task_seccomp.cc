// What stands between a task's system call and its handler: the tracer's stops (kernel/entry) and
// seccomp (kernel/seccomp.c).
#include <linux/audit.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <algorithm>

#include "sentry/base/log.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

// A chain of filters may hold so many instructions (MAX_INSNS_PER_PATH).
constexpr size_t kMaxChain = (1 << 18) / sizeof(bpf::Insn);
constexpr uint32_t kMaxErrno = 4095;
constexpr uint32_t kUserNotif = 0x7fc00000;

// The calls that a stub may answer without the Sentry; see LocalAnswers.
constexpr int kLocalCalls[] = {SYS_getpid,  SYS_gettid,        SYS_getppid,      SYS_getuid,
                               SYS_geteuid, SYS_getgid,        SYS_getegid,      SYS_clock_gettime,
                               SYS_time,    SYS_gettimeofday,  SYS_sched_yield,  SYS_getcpu,
                               SYS_futex,   SYS_rt_sigprocmask, SYS_rt_sigreturn};
// Those with LocalAnswers::setup, which older profiles do not know.
constexpr int kSetupCalls[] = {SYS_set_robust_list, SYS_rseq};

// The action of highest precedence, the newest filter's among equals.
uint32_t RunFilters(const SeccompChain* chain, const bpf::SeccompData& data) {
  const auto rank = [](uint32_t r) { return static_cast<int32_t>(r & SECCOMP_RET_ACTION_FULL); };
  uint32_t result = SECCOMP_RET_ALLOW;
  for (; chain != nullptr; chain = chain->previous.get()) {
    const uint32_t r = chain->filter.Run(data);
    if (rank(r) < rank(result)) result = r;
  }
  return result;
}

bool IsAncestor(const SeccompChain* ancestor, const SeccompChain* chain) {
  if (ancestor == nullptr) return true;
  for (; chain != nullptr; chain = chain->previous.get()) {
    if (chain == ancestor) return true;
  }
  return false;
}

bool StrictAllows(uint64_t nr) {
  return nr == SYS_read || nr == SYS_write || nr == SYS_exit || nr == SYS_rt_sigreturn;
}

}  // namespace

RefPtr<const SeccompChain> Task::seccomp_chain() const {
  MutexLock lock(tg_->siglock);
  return seccomp.chain;
}

bool Task::SeccompSeesLocalCalls() const { return SeccompSees(kLocalCalls); }

bool Task::SeccompSeesSetupCalls() const { return SeccompSees(kSetupCalls); }

bool Task::SeccompSees(std::span<const int> calls) const {
  if (seccomp.mode.load() == SECCOMP_MODE_DISABLED) return false;
  if (seccomp.mode.load() == SECCOMP_MODE_STRICT) return true;
  RefPtr<const SeccompChain> chain = seccomp_chain();
  for (const SeccompChain* c = chain.get(); c != nullptr; c = c->previous.get()) {
    for (const int nr : calls) {
      if (c->filter.ConstantResult(nr, AUDIT_ARCH_X86_64) != SECCOMP_RET_ALLOW) return true;
    }
  }
  return false;
}

// The registers as they were before the call (syscall_rollback).
void Task::Rollback(const SyscallRequest& request) {
  regs().rax = request.nr;
  context_->RegsChanged();
  keep_registers_ = true;
}

bool Task::DispatchToUser(const SyscallRequest& request) {
  constexpr uint8_t kAllow = 0, kBlock = 1;
  constexpr int kSysUserDispatch = 2;
  const uint64_t rip = regs().rip;
  if (rip - dispatch.offset < dispatch.length) return false;
  if (!dispatch.selector.IsNull()) {
    uint8_t state = kAllow;
    if (!mm_->CopyIn(dispatch.selector, std::as_writable_bytes(std::span(&state, 1))).ok()) {
      ForceSignal(MakeSigInfo(SIGSEGV, SI_KERNEL), true);
      KeepRegisters();
      return true;
    }
    if (state == kAllow) return false;
    if (state != kBlock) {
      ForceSignal(MakeSigInfo(SIGSYS, SI_KERNEL), true);
      KeepRegisters();
      return true;
    }
  }
  Rollback(request);
  abi::SigInfo sigsys = MakeSigInfo(SIGSYS, kSysUserDispatch);
  sigsys.SetSyscall(rip, static_cast<int>(request.nr), AUDIT_ARCH_X86_64);
  ForceSignal(sigsys);
  return true;
}

bool Task::EnterSyscall(SyscallRequest* request) {
  if (dispatch.on.load(std::memory_order_relaxed) && DispatchToUser(*request)) return false;
  if (traced() && (trace.syscalls || trace.emulate)) {
    const bool emulate = trace.emulate;
    regs().rax = static_cast<uint64_t>(-ENOSYS);
    context_->RegsChanged();
    if (!TraceSyscall(PTRACE_EVENTMSG_SYSCALL_ENTRY) || emulate) return false;
    *request = context_->syscall_request();
  }
  if (seccomp.mode.load(std::memory_order_relaxed) != SECCOMP_MODE_DISABLED &&
      (!traced() || (trace.options.load() & PTRACE_O_SUSPEND_SECCOMP) == 0) &&
      !CheckSeccomp(request, false)) {
    return false;
  }
  // No call: the result is what the tracer has set.
  return static_cast<int32_t>(request->nr) != -1;
}

void Task::LeaveSyscall() {
  if (!traced()) return;
  if (trace.syscalls) {
    TraceSyscall(PTRACE_EVENTMSG_SYSCALL_EXIT);
  } else if (trace.step && !trace.emulate) {
    ReportStep();
  }
}

// True: the call goes on, perhaps as another one.
bool Task::CheckSeccomp(SyscallRequest* request, bool again) {
  if (seccomp.mode.load() == SECCOMP_MODE_STRICT) {
    if (StrictAllows(static_cast<uint32_t>(request->nr))) return true;
    DieBySignal(SIGKILL);
    return false;
  }
  bpf::SeccompData data = {};
  data.nr = static_cast<int32_t>(request->nr);
  data.arch = AUDIT_ARCH_X86_64;
  data.instruction_pointer = regs().rip;
  std::copy(std::begin(request->args), std::end(request->args), data.args);
  RefPtr<const SeccompChain> chain = seccomp_chain();
  const uint32_t result = RunFilters(chain.get(), data);
  const uint32_t value = result & SECCOMP_RET_DATA;

  abi::SigInfo sigsys = MakeSigInfo(SIGSYS, 1 /* SYS_SECCOMP */);
  sigsys.error = static_cast<int32_t>(value);
  sigsys.SetSyscall(regs().rip, data.nr, AUDIT_ARCH_X86_64);

  switch (result & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
      return true;
    case SECCOMP_RET_LOG:
      RW_LOG(kInfo, "seccomp: %s[%d] makes call %d", comm().c_str(), tid(), data.nr);
      return true;
    case SECCOMP_RET_ERRNO:
      context_->set_result(static_cast<uint64_t>(-int64_t{std::min(value, kMaxErrno)}));
      return false;
    case SECCOMP_RET_TRAP:
      Rollback(*request);
      ForceSignal(sigsys);
      return false;
    case SECCOMP_RET_TRACE: {
      if (again) return true;
      if (!TraceEventEnabled(PTRACE_EVENT_SECCOMP)) break;
      regs().rax = static_cast<uint64_t>(-ENOSYS);
      context_->RegsChanged();
      TraceEvent(PTRACE_EVENT_SECCOMP, value);
      {
        MutexLock lock(tg_->siglock);
        if (kill_pending_) return false;
      }
      *request = context_->syscall_request();
      if (static_cast<int32_t>(request->nr) < 0) return false;
      return CheckSeccomp(request, true);
    }
    case kUserNotif:  // nobody listens: that is not supported
      break;
    case SECCOMP_RET_KILL_THREAD: {
      bool alone;
      {
        MutexLock lock(tg_->siglock);
        alone = tg_->threads.size() == 1;
      }
      if (!alone) {
        DieBySignal(SIGSYS);
        return false;
      }
      [[fallthrough]];
    }
    default:  // SECCOMP_RET_KILL_PROCESS and what is not known
      Rollback(*request);
      ForceSignal(sigsys, true);
      return false;
  }
  context_->set_result(static_cast<uint64_t>(-ENOSYS));
  return false;
}

Result<int64_t> Task::SetSeccompStrict() {
  {
    MutexLock lock(tg_->siglock);
    if (seccomp.mode.load() == SECCOMP_MODE_FILTER) return Errno(EINVAL);
    seccomp.mode.store(SECCOMP_MODE_STRICT);
  }
  mm_->address_space().ForbidViews();
  UpdateLocalAnswers();
  return 0;
}

Result<int64_t> Task::SetSeccompFilter(uint32_t flags, bpf::SeccompFilter filter) {
  const bool log = (flags & SECCOMP_FILTER_FLAG_LOG) != 0;
  {
    MutexLock lock(tg_->siglock);
    if (seccomp.mode.load() == SECCOMP_MODE_STRICT) return Errno(EINVAL);
    Ref<SeccompChain> fresh =
        MakeRef<SeccompChain>(std::move(filter), seccomp.chain, log);
    if (fresh->cost > kMaxChain) return Errno(ENOMEM);
    if ((flags & SECCOMP_FILTER_FLAG_TSYNC) != 0) {
      for (Task* t : tg_->threads) {
        if (t == this || t->exiting_) continue;
        const int mode = t->seccomp.mode.load();
        if (mode == SECCOMP_MODE_DISABLED ||
            (mode == SECCOMP_MODE_FILTER && IsAncestor(t->seccomp.chain.get(), seccomp.chain.get()))) {
          continue;
        }
        if ((flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH) != 0) return Errno(ESRCH);
        return t->pid().In(pid_ns());
      }
    }
    seccomp.chain = RefPtr<const SeccompChain>(std::move(fresh));
    seccomp.mode.store(SECCOMP_MODE_FILTER);
    if ((flags & SECCOMP_FILTER_FLAG_TSYNC) != 0) {
      for (Task* t : tg_->threads) {
        if (t == this) continue;
        t->seccomp.chain = seccomp.chain;
        t->seccomp.mode.store(SECCOMP_MODE_FILTER);
        if (creds().no_new_privs) t->no_new_privs_due_ = true;
        t->answers_stale_.store(true);
        t->Kick();
      }
    }
  }
  // What could be read by a load could not be refused.
  mm_->address_space().ForbidViews();
  UpdateLocalAnswers();
  return 0;
}

}  // namespace ringwall
