// The loop of a task's Sentry thread: run guest code, answer what stopped it, act on signals.
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>

#include "platform/signal_frames.h"
#include "sentry/base/log.h"
#include "sentry/kernel/acting_task.h"
#include "sentry/kernel/epoll_ahead.h"
#include "sentry/kernel/file_async.h"
#include "sentry/kernel/guest_io.h"
#include "sentry/kernel/host_threads.h"
#include "sentry/kernel/syscall_table.h"
#include "sentry/kernel/task.h"
#include "sentry/strace/strace.h"

namespace ringwall {

namespace {
thread_local Task* current_task = nullptr;
constexpr uint64_t kX32Bit = 0x40000000;
constexpr uint64_t kTrapFlag = 0x100;
}  // namespace

Task* Task::Current() { return current_task; }

ActingTask::ActingTask(Task& task) : task_(task), own_(task.creds_ref()) {
  RW_CHECK(current_task == nullptr);
  task_.set_creds(Credentials::Root());
  current_task = &task_;
}

ActingTask::~ActingTask() {
  current_task = nullptr;
  task_.set_creds(own_);
}

Task::Task(Kernel& kernel, Ref<ThreadGroup> tg, int tid)
    : kernel_(kernel), tg_(std::move(tg)), tid_(tid), affinity_(kernel.cpus()) {}

RefPtr<MemoryManager> Task::mm_ref() const {
  MutexLock lock(mu_);
  return mm_;
}
RefPtr<FdTable> Task::fds_ref() const {
  MutexLock lock(mu_);
  return fds_;
}
RefPtr<FsContext> Task::fs_ref() const {
  MutexLock lock(mu_);
  return fs_;
}
Ref<const Credentials> Task::creds_ref() const {
  MutexLock lock(mu_);
  return Ref<const Credentials>(*creds_);
}
RefPtr<MountNamespace> Task::mounts_ref() const {
  MutexLock lock(mu_);
  return ns_.mounts;
}
NsProxy Task::nsproxy_ref() const {
  MutexLock lock(mu_);
  return ns_;
}
void Task::set_nsproxy(NsProxy ns) {
  MutexLock lock(mu_);
  std::swap(ns_, ns);
  lock.Unlock();
}

RefPtr<NetNamespaceBase> Task::net_ref() const {
  MutexLock lock(mu_);
  return RefPtr<NetNamespaceBase>(static_cast<NetNamespaceBase*>(ns_.net.get()));
}

void Task::set_net(Ref<NetNamespaceBase> net) {
  RefPtr<Namespace> old(std::move(net));
  MutexLock lock(mu_);
  std::swap(ns_.net, old);
  lock.Unlock();
}

void Task::set_creds(Ref<const Credentials> c) {
  RefPtr<const Credentials> fresh(std::move(c));
  {
    MutexLock lock(mu_);
    std::swap(creds_, fresh);
  }
  UpdateLocalAnswers();
}

std::string Task::comm() const {
  MutexLock lock(mu_);
  return comm_;
}

void Task::set_comm(std::string_view name) {
  MutexLock lock(mu_);
  comm_ = std::string(name.substr(0, 15));
}

Rusage Task::OwnRusage() const {
  MutexLock lock(mu_);
  Rusage r = final_rusage_;
  if (context_ != nullptr) {
    uint64_t user = 0, system = 0;
    context_->CpuTime(&user, &system);
    r.utime_ns += user;
    r.stime_ns += system;
  }
  return r;
}

GuestAddr Task::RobustList() const {
  MutexLock lock(mu_);
  return context_ != nullptr ? context_->robust_list() : GuestAddr();
}

Result<void> Task::CopyIn(GuestAddr from, std::span<std::byte> to) {
  if (context_->ReadWindow(from, to)) return {};
  return mm_->CopyIn(from, to);
}

Result<void> Task::CopyOut(GuestAddr to, std::span<const std::byte> from) {
  return mm_->CopyOut(to, from);
}

Result<void> Task::CopyOutLast(GuestAddr to, std::span<const std::byte> from) {
  // The stub cannot let a stack grow, nor can a call that was done be told of a fault there.
  const std::optional<GuestRange> range = GuestRange::Make(to, from.size());
  const bool mapped = range && std::as_const(*mm_).MayWrite(*range);
  if (mapped && context_->WriteWindow(to, from)) return {};
  return mm_->CopyOut(to, from);
}

Result<std::string> Task::CopyInString(GuestAddr from, size_t limit) {
  if (std::optional<std::string> s = context_->ReadWindowString(from, limit)) return std::move(*s);
  return mm_->CopyInString(from, limit);
}

Result<std::string> Task::CopyInPath(GuestAddr from, bool allow_empty) {
  std::string path = TRY(CopyInString(from, kPathMax));
  if (path.empty() && !allow_empty) return Errno(ENOENT);
  return path;
}

void Task::ThreadMain(void* self) {
  Ref<Task> task = Ref<Task>::Adopt(static_cast<Task*>(self));
  current_task = task.get();
  task->Run();
  current_task = nullptr;
}

void Task::RunAhead() {
  UpdateLocalAnswers();
  ApplyScheduling();
  if (trace.step || restart_errno_ != 0 || saved_mask_) return;
  // The same looks, in the same order, as in Run().
  in_guest_.store(true);
  if (answers_stale_.exchange(false)) UpdateLocalAnswers();
  ran_ahead_ = !Interrupted() && !kernel_.paused() && context_->RunAhead();
  if (!ran_ahead_) in_guest_.store(false);
}

void Task::StartThread() {
  AddRef();
  RunAhead();
  if (RunOnIdleThread(&Task::ThreadMain, this)) return;
  if (current_task != nullptr && current_task->context_ != nullptr) current_task->context_->BeforeSleep();
  const int error = RunOnNewThread(&Task::ThreadMain, this);
  if (error != 0) {
    RW_LOG(kError, "no host thread for task %d: %d", tid_, error);
    Release();
    exiting_ = true;
    exit_status_ = SIGKILL;
    DoExit();
  }
}

void Task::Run() {
  if (std::exchange(ran_ahead_, false)) {
    const Event e = context_->Switch();
    in_guest_.store(false, std::memory_order_relaxed);
    HandleEvent(e);
  }
  while (!exiting_) {
    if (Interrupted() || restart_errno_ != 0 || saved_mask_) {
      if (!PrepareToReturn()) break;
      if (std::exchange(redo_, false)) {
        restart_errno_ = 0;
        DoSyscall(false, false, true);
        continue;
      }
    }
    in_guest_.store(true);
    if (answers_stale_.exchange(false)) UpdateLocalAnswers();
    if (Interrupted()) {
      in_guest_.store(false);
      continue;
    }
    if (kernel_.Pauses(*this)) {
      in_guest_.store(false);
      SleepWhilePaused();
      continue;
    }
    const bool step = trace.step && SetStep();
    const Event e = context_->Switch();
    in_guest_.store(false, std::memory_order_relaxed);
    if (step) ClearStep();
    HandleEvent(e);
  }
  DoExit();
}

// PTRACE_SINGLESTEP by the processor's own trap flag, which the tracer does not see. False when the
// program has set it already.
bool Task::SetStep() {
  abi::Registers& r = regs();
  if ((r.eflags & kTrapFlag) != 0) return false;
  r.eflags |= kTrapFlag;
  context_->RegsChanged();
  return true;
}

void Task::ClearStep() {
  if (context_ == nullptr) return;
  regs().eflags &= ~kTrapFlag;
  context_->RegsChanged();
}

// A step over a system call ends behind it.
void Task::ReportStep() {
  abi::SigInfo info = MakeSigInfo(SIGTRAP, TRAP_BRKPT);
  info.SetAddr(regs().rip);
  ForceSignal(info);
}

void Task::HandleEvent(const Event& e) {
  if (EpollCalls* const ahead = EpollCalls::Current(); ahead != nullptr && ahead->epfd() >= 0) {
    SettleEpollCalls(*this, *ahead, e.kind, context_->syscall_request());
  }
  switch (e.kind) {
    case EventKind::kSyscall:
      DoSyscall(e.compat_entry, e.vsyscall, false);
      break;
    case EventKind::kFault:
      HandleFault(e);
      break;
    case EventKind::kInterrupted: {
      // Perhaps the stub has unblocked a signal that QueueLocked found blocked.
      MutexLock lock(tg_->siglock);
      RecalcInterruptedLocked();
      // A frame that the stub could not write is for PrepareToReturn.
      const SignalFrames* const frames = SignalFrames::Current();
      if (frames != nullptr && frames->failed()) interrupted_.store(true);
      break;
    }
    case EventKind::kStubLost: {
      RW_LOG(kWarning, "task %d lost its stub", tid_);
      // One that died of the guest's own doing needs no word: the guest sees that signal.
      if (e.signo != SIGSEGV) kernel_.TellStubLoss(*tg_);
      // Without a core: its memory is gone.
      MutexLock lock(tg_->siglock);
      KillGroupLocked(e.signo == SIGSEGV ? SIGSEGV : SIGKILL);
      break;
    }
  }
}

void Task::DoSyscall(bool compat, bool vsyscall, bool redo) {
  if (compat) {
    // A kernel without IA32 emulation has no gate 0x80: a general protection fault.
    fault_error_code_ = 0x402;
    fault_trap_no_ = 13;
    ForceSignal(MakeSigInfo(SIGSEGV, SI_KERNEL));
    return;
  }
  // Not regs(): most calls need nothing else of them, and fetching the rest costs.
  SyscallRequest request = context_->syscall_request();
  keep_registers_ = false;
  // A tracer and filters come first; they may change the call or forbid it.
  const bool work = HasSyscallWork() && !redo;
  if (work && !EnterSyscall(&request)) {
    if (!exiting_) LeaveSyscall();
    return;
  }
  // An int (do_syscall_64), whatever stands above it in the register.
  const uint64_t nr = static_cast<uint64_t>(int64_t{static_cast<int32_t>(request.nr)});
  syscall_nr_.store(static_cast<int64_t>(nr), std::memory_order_relaxed);
  RawArgs args;
  std::copy(std::begin(request.args), std::end(request.args), args.v.begin());
  const SyscallRow* row = (nr & kX32Bit) != 0 ? nullptr : kernel_.syscalls().Find(nr);
  const bool shown = kernel_.strace() && StraceWanted(kernel_, nr);
  if (shown) StraceEnter(*this, row, args);
  Result<int64_t> result = Errno(ENOSYS);
  if (row != nullptr && row->fn != nullptr) {
    in_syscall_.store(true, std::memory_order_relaxed);
    if (redo && restart_) {
      result = RestartSyscall();
    } else {
      result = row->fn(*this, args);
    }
    in_syscall_.store(false, std::memory_order_relaxed);
    SendPendingAsync();
  } else {
    if (row != nullptr) result = Errno(row->error);
    LogUnsupported(*this, row, nr, args);
  }
  if (shown) StraceExit(*this, row, args, result);
  if (vsyscall && !result.ok() && result.error() == Errno(EFAULT)) {
    FailVsyscall(nr);
  } else {
    FinishSyscall(std::move(result));
  }
  if (traced() && !exiting_) LeaveSyscall();
}

// A pointer that a call through the vsyscall page could not write to is a fault there: the host has returned
// from the page already.
void Task::FailVsyscall(uint64_t nr) {
  constexpr uint64_t kPage = 0xffff'ffff'ff60'0000, kTime = kPage + 0x400, kGetcpu = kPage + 0x800;
  abi::Registers& r = regs();
  r.rip = nr == SYS_time ? kTime : nr == SYS_getcpu ? kGetcpu : kPage;
  r.rsp -= sizeof(uint64_t);
  r.rax = static_cast<uint64_t>(-int64_t{ENOSYS});
  context_->RegsChanged();
  fault_error_code_ = fault_trap_no_ = 0;
  ForceSignal(MakeSigInfo(SIGSEGV, SI_KERNEL));
}

Result<int64_t> Task::RestartSyscall() {
  if (!restart_) return Errno(EINTR);
  std::function<Result<int64_t>(Task&)> again = std::move(restart_);
  restart_ = nullptr;
  return again(*this);
}

void Task::FinishSyscall(Result<int64_t> result) {
  if (keep_registers_) return;
  if (result.ok()) {
    context_->set_result(static_cast<uint64_t>(*result));
    return;
  }
  const int error = result.error().value();
  if (error >= kErestartSys) restart_errno_ = error;
  context_->set_result(static_cast<uint64_t>(-static_cast<int64_t>(error)));
}

void Task::HandleFault(const Event& e) {
  abi::SigInfo info = MakeSigInfo(e.signo, e.code);
  info.SetAddr(e.addr);
  fault_error_code_ = e.error_code;
  fault_trap_no_ = e.trap_no;
  // CR2 stays what the last page fault left.
  constexpr uint64_t kPageFault = 14;
  if (e.trap_no == kPageFault) fault_addr_ = e.addr;
  if (e.signo == SIGSEGV && (e.code == SEGV_MAPERR || e.code == SEGV_ACCERR)) {
    // Below a stack: it grows and the access is made again.
    const MemoryLimits limits{.address_space = tg_->limit(RLIMIT_AS),
                              .data = tg_->limit(RLIMIT_DATA),
                              .stack = tg_->limit(RLIMIT_STACK),
                              .locked = tg_->limit(RLIMIT_MEMLOCK)};
    if (mm_->GrowStack(GuestAddr(e.addr), limits)) return;
    info.code = mm_->SegvCode(GuestAddr(e.addr));
  }
  if (e.signo == SIGBUS && e.code == BUS_ADRERR && mm_->ServeFault(GuestAddr(e.addr), 0)) return;
  ForceSignal(info);
}

void Task::UpdateLocalAnswers() {
  if (context_ == nullptr) return;
  if (no_new_privs_due_.exchange(false) && !creds().no_new_privs) {
    Ref<Credentials> c = creds().Copy();
    c->no_new_privs = true;
    set_creds(Ref<const Credentials>(std::move(c)));
    return;  // which calls this
  }
  LocalAnswers a;
  a.pid = vtgid();
  a.tid = vtid();
  {
    MutexLock lock(kernel_.tasks().mu);
    a.ppid = ParentPidLocked(*tg_, pid_ns());
  }
  const UserNamespace& user = creds_->user_ns();
  a.uid = user.ShowUid(creds_->ruid), a.euid = user.ShowUid(creds_->euid);
  a.gid = user.ShowGid(creds_->rgid), a.egid = user.ShowGid(creds_->egid);
  a.enabled = !kernel_.strace() && !traced() && !SeccompSeesLocalCalls() && !dispatch.on.load();
  a.setup = a.enabled && !SeccompSeesSetupCalls();
  context_->SetLocalAnswers(a);
}

}  // namespace ringwall
