// execve: replaces a process's program (fs/exec.c). Everything that can fail comes first; from the
// death of the other threads on there is no way back.
#include <linux/ptrace.h>
#include <sys/stat.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "sentry/base/log.h"
#include "sentry/ipc/ipc_namespace.h"
#include "sentry/kernel/core_dump.h"
#include "sentry/kernel/rare_settings.h"
#include "sentry/kernel/sysctl_limits.h"
#include "sentry/kernel/exec_creds.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_futex.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/task_rseq.h"
#include "sentry/loader/loader.h"

namespace ringwall {

namespace {

constexpr uint32_t kAddrNoRandomize = 0x0040000;
// What a program with set-id bits starts without: PER_CLEAR_ON_SETID.
constexpr uint32_t kClearOnSetid = 0x0400000 | kAddrNoRandomize | 0x0200000 | 0x0100000;


// The program in memory, and who runs it.
struct Loaded {
  LoadedImage image;
  Ref<Credentials> creds;
  bool secure = false;
};

// Whether a program with `after` may do nothing that one with `before` may not, and the reverse.
bool SameRights(const Credentials& before, const Credentials& after) {
  return before.euid == after.euid && before.egid == after.egid &&
         before.cap_permitted == after.cap_permitted &&
         before.cap_effective == after.cap_effective;
}

// `own`: the caller's memory, when the program may take its place; else null.
Result<Loaded> Load(Kernel& kernel, const Walk& walk, ThreadGroup& tg, ExecArgs& args,
                    bool randomize, MemoryManager* own) {
  LoadArgs load{.platform = kernel.platform(), .walk = walk};
  load.file = std::move(args.file);
  load.filename = args.filename;
  load.argv = std::move(args.argv);
  load.envp = std::move(args.envp);
  load.randomize = randomize;
  // Where the host fills in as much as Linux 6.12 does; rseq(2) itself works without.
  if (kernel.platform().rseq_feature_size() >= kRseqFeatureSize) {
    load.rseq_feature_size = kRseqFeatureSize;
    load.rseq_align = kRseqAlign;
  }
  load.limits.address_space = tg.limit(RLIMIT_AS);
  load.limits.data = tg.limit(RLIMIT_DATA);
  load.limits.stack = tg.limit(RLIMIT_STACK);
  load.limits.locked = tg.limit(RLIMIT_MEMLOCK);
  Result<ExecCredentials> after = Errno(ENOEXEC);
  load.identity = [&](File& program, std::optional<Uid> setuid, std::optional<Gid> setgid) {
    after = CredentialsForExec(walk.creds, program, setuid, setgid);
    if (!after.ok()) return ExecIdentity{};
    const Credentials& c = *after->creds;
    const UserNamespace& ns = c.user_ns();
    return ExecIdentity{ns.ShowUid(c.ruid), ns.ShowUid(c.euid), ns.ShowGid(c.rgid),
                        ns.ShowGid(c.egid), after->secure};
  };
  load.replaces = [&]() -> MemoryManager* {
    return after.ok() && !after->secure && SameRights(walk.creds, *after->creds) ? own : nullptr;
  };
  LoadedImage image = TRY(LoadExecutable(std::move(load)));
  if (!after.ok()) return after.error();
  return Loaded{std::move(image), std::move(after->creds), after->secure};
}

}  // namespace

Result<void> Task::KillOtherThreads() {
  ThreadGroup& tg = *tg_;
  {
    MutexLock lock(tg.siglock);
    if (tg.group_exit || tg.exec_task != nullptr) return Errno(EAGAIN);
    tg.exec_task = this;
    for (Task* t : tg.threads) {
      if (t == this) continue;
      t->dying_ = true;
      t->kill_pending_ = true;
      t->interrupted_.store(true);
      t->Kick();
    }
  }
  // Their tracers must have waited for them, too.
  for (;;) {
    {
      MutexLock lock(kernel_.tasks().mu);
      MutexLock siglock(tg.siglock);
      if (tg.group_exit) {
        tg.exec_task = nullptr;
        return Errno(EAGAIN);
      }
      if (tg.threads.size() == 1 && tg.zombie_threads == 0) break;
    }
    SleepUninterrupted();
  }
  MutexLock lock(kernel_.tasks().mu);
  if (tg.leader != this && tg.leader->trace.tracer != nullptr) {
    // Its tracer sees this thread under the leader's number from now on.
    Task* tracer = tg.leader->trace.tracer;
    Ptrace::UnlinkLocked(*tg.leader);
    tracer->tg().child_queue.Notify(EPOLLIN);
  }
  MutexLock siglock(tg.siglock);
  tg.exec_task = nullptr;
  if (tg.leader != this) {
    // The one that execs becomes the leader and takes its number (de_thread).
    Task* old = tg.leader;
    old->exit_state = ExitState::kDead;
    kernel_.tasks().EraseTaskLocked(*pid_);
    pid_ = tg.pid;
    tid_ = tg.tgid_;
    kernel_.tasks().AddTaskLocked(*pid_, *this);
    AddRef();
    tg.leader = this;
    old->Release();
  }
  return {};
}

// A fork that execs: its memory and its stub are its own, and the new program can have the stub.
MemoryManager* Task::ReplaceableMm() {
  if (mm_->users.load() != 1 || mm_->ref_count() != 1 || vfork_parent_ || mm_->dumpable() != 1) {
    return nullptr;
  }
  MutexLock lock(tg_->siglock);
  if (tg_->threads.size() != 1) return nullptr;
  lock.Unlock();
  return mm_->address_space().MayReplace() ? mm_.get() : nullptr;
}

Result<void> Task::Exec(ExecArgs args) {
  context_->BeforeSleep();  // the guest's thread need not spin for what comes
  const Path root = fs_->root(), cwd = fs_->cwd();
  const Walk walk{creds(), mounts(), root, cwd, this};
  Loaded loaded = TRY(Load(kernel_, walk, *tg_, args, (personality & kAddrNoRandomize) == 0 && RandomizeVaSpace().load() != 0,
                           ReplaceableMm()));
  LoadedImage& image = loaded.image;
  const bool in_place = image.mm->in_place();
  std::unique_ptr<Context> context;
  if (!in_place) context = TRY(kernel_.platform().NewContext(image.mm->address_space(), nullptr));
  const Ref<const Pid> old_pid(pid());
  TRY(KillOtherThreads());

  // ---- No failure below this line. ----
  const auto die = [&] {
    // No event will tell of a stub that is gone.
    if (!image.mm->address_space().alive()) kernel_.TellStubLoss(*tg_);
    ExitGroup(SIGKILL);
    return Result<void>();
  };
  LeaveRseq(*this, in_place);
  ExitFutexes(*this);
  ProcessTimers::ProcessExecs(*tg_);
  const abi::SigSet mask = saved_mask_.value_or(signal_mask());
  saved_mask_.reset();
  image.mm->InheritFlags(*mm_);
  if (in_place && !image.Commit().ok()) return die();
  ReleaseMm(in_place);
  if (in_place) {
    // On the guest thread that has just become free.
    Result<std::unique_ptr<Context>> again =
        kernel_.platform().NewContext(image.mm->address_space(), nullptr);
    if (!again.ok()) return die();
    context = std::move(*again);
  }
  {
    MutexLock lock(mu_);
    mm_ = image.mm;
    mm_->users.fetch_add(1);
    context_ = std::move(context);
  }
  context_->regs() = image.regs;
  context_->regs().rax = 0;
  context_->regs().orig_rax = SYS_execve;
  context_->RegsChanged();
  context_->set_signal_mask(mask);
  ApplyScheduling();
  trace.debug_used = false;
  NoteSignalsPending();
  dispatch.on.store(false);
  clear_child_tid = rseq_area = GuestAddr();
  alt_stack = abi::StackT{};
  set_comm(image.comm);

  Ref<SignalActions> actions = tg_->actions().Copy();
  actions->Reset(false);
  {
    MutexLock lock(tg_->siglock);
    tg_->set_actions(std::move(actions));
  }
  Ref<Credentials> creds = std::move(loaded.creds);
  const bool gained = creds->euid != creds_->euid || creds->egid != creds_->egid ||
                      creds->fsuid != creds_->fsuid || creds->fsgid != creds_->fsgid;
  const bool grew = (creds->cap_permitted & ~creds_->cap_permitted) != 0;
  const bool two_minds = creds_->euid != creds_->ruid || creds_->egid != creds_->rgid;
  const bool trusted = !gained && !grew && !two_minds && !image.unreadable;
  mm_->set_dumpable(trusted ? 1 : CoreSettings::Get().suid_dumpable.load());
  set_creds(Ref<const Credentials>(std::move(creds)));
  if (fds_->ref_count_for_test() > 1) {
    RefPtr<FdTable> own = fds_->Fork();
    MutexLock lock(mu_);
    std::swap(fds_, own);
  }
  for (Ref<File>& f : fds_->RemoveCloexec()) CloseFile(*this, std::move(f), *fds_);
  {
    MutexLock lock(kernel_.tasks().mu);
    tg_->did_exec = true;
    tg_->exit_signal = SIGCHLD;  // whatever clone asked for
    if (gained) parent_death_signal = 0;
    if (gained) personality.fetch_and(~kClearOnSetid);
  }
  {
    // What came while there was no context to ask for the mask counted as blocked: a parent that vfork let go on
    // may have sent it already.
    MutexLock lock(tg_->siglock);
    NoteSignalsPendingLocked();
    RecalcInterruptedLocked();
  }
  KeepRegisters();
  if (traced()) {
    // The event comes before the call's result.
    context_->set_result(static_cast<uint64_t>(-ENOSYS));
    TraceEvent(PTRACE_EVENT_EXEC, TracerView(*old_pid));
    context_->set_result(0);
  }
  return {};
}

Result<Ref<ThreadGroup>> Kernel::CreateProcess(const ProcessArgs& args) {
  Ref<ThreadGroup> tg = MakeRef<ThreadGroup>(*this, MakeRef<SignalActions>());
  tg->rlimits.With([&](Rlimits& r) { r = args.rlimits; });
  const Walk walk{*args.creds, *args.mounts, args.root, args.cwd, nullptr};
  ExecArgs exec;
  Path program = TRY(Vfs::Lookup(walk, args.filename, {}));
  Attr attr = TRY(Vfs::Stat(program));
  if (!S_ISREG(attr.mode)) return Errno(EACCES);
  TRY(Vfs::CheckAccess(*args.creds, program, kMayExec));
  exec.file = TRY(Vfs::OpenPath(walk, program, O_RDONLY | kOpenForExec, nullptr));
  exec.filename = args.filename;
  exec.argv = args.argv;
  exec.envp = args.envp;
  Loaded loaded = TRY(Load(*this, walk, *tg, exec, RandomizeVaSpace().load() != 0, nullptr));
  LoadedImage& image = loaded.image;
  std::unique_ptr<Context> context =
      TRY(platform().NewContext(image.mm->address_space(), nullptr));

  Ref<Task> task = Ref<Task>::Adopt(new Task(*this, tg, 0));
  task->mm_ = image.mm;
  task->mm_->users.fetch_add(1);
  task->context_ = std::move(context);
  task->context_->regs() = image.regs;
  task->context_->RegsChanged();
  task->context_->set_signal_mask(args.blocked_signals & ~abi::kUnblockable);
  for (int signo = 1; signo <= abi::kSigMax; signo++) {
    if ((args.ignored_signals & abi::SigBit(signo)) == 0) continue;
    abi::SigAction ignore;
    ignore.handler = reinterpret_cast<uint64_t>(SIG_IGN);
    tg->actions().Exchange(signo, ignore);
  }
  task->fds_ = args.fds;
  task->fs_ = MakeRef<FsContext>(args.root, args.cwd, args.umask);
  GiveFirstNamespaces(*task, args.mounts, args.uts);
  PidNamespace& pid_ns = args.pid_ns ? *args.pid_ns : *tasks_.first;
  task->ns_.pid_for_children = RefPtr<PidNamespace>(&pid_ns);
  if (args.ipc) task->ns_.ipc = args.ipc;
  if (args.cgroup) task->ns_.cgroup = args.cgroup;
  task->creds_ = Ref<const Credentials>(std::move(loaded.creds));
  task->set_comm(image.comm);
  if (args.from_outside) {
    timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    tg->start_time_ns =
        static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  } else {
    tg->start_time_ns = start_boottime_ns_;
  }
  task->start_time_ns = tg->start_time_ns;

  MutexLock lock(tasks_.mu);
  const bool beside_init = bare_init_ && !args.from_outside;
  TRY(AddProcessLocked(pid_ns, *tg, std::move(task)));
  if (beside_init) {
    tg->parent = init_.get();
    tg->parent_tid = init_->tgid_;
    init_->children.push_back(tg);
  }
  if (args.from_outside) {
    tg->from_outside = true;
    tg->self_owned = true;
    tg->AddRef();  // until it ends
  }
  return tg;
}

void Kernel::GiveFirstNamespaces(Task& task, const Ref<MountNamespace>& mounts,
                                 const RefPtr<UtsNamespace>& uts) {
  task.ns_.mounts = mounts;
  task.ns_.uts = uts ? uts : RefPtr<UtsNamespace>(MakeRef<UtsNamespace>());
  task.ns_.ipc = FirstNamespace(NamespaceKind::kIpc);
  task.ns_.cgroup = FirstNamespace(NamespaceKind::kCgroup);
  task.ns_.net = initial_net_;
  task.ns_.pid_for_children = tasks_.first;
}

Result<void> Kernel::AddProcessLocked(PidNamespace& ns, ThreadGroup& tg, Ref<Task> leader) {
  Ref<const Pid> numbers = TRY(tasks_.AllocatePid(ns));
  const int pid = numbers->first();
  leader->pid_ = numbers;
  ForgetRareSettings(*leader);
  ForgetRareSettings(tg);
  leader->tid_ = pid;
  tg.pid = numbers;
  tg.tgid_ = pid;
  tg.leader = leader.get();
  tg.threads.push_back(leader.get());
  Ref<Session> session = MakeRef<Session>(numbers);
  session->leader = &tg;
  tg.pgrp = MakeRef<ProcessGroup>(numbers, session);
  tg.pgrp->members.push_back(&tg);
  tasks_.AddGroupLocked(tg.pgrp);
  tasks_.AddTaskLocked(*numbers, *leader);
  tasks_.live++;
  if (!ns.had_init) {
    ns.init = &tg;
    ns.had_init = true;
    if (&ns == tasks_.first.get()) init_ = RefPtr<ThreadGroup>(&tg);
  }
  leader.Leak();  // the leader stays until the process is reaped
  return {};
}

}  // namespace ringwall
