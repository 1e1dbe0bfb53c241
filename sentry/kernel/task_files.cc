// What a task does with files and terminals beyond the VFS.
#include <sys/epoll.h>

#include <algorithm>

#include "fs/vfs/dnotify.h"
#include "fs/vfs/locks.h"
#include "sentry/ipc/ipc_namespace.h"
#include "sentry/kernel/task.h"

namespace ringwall {

void DropPosixLocks(File& file, const FdTable& table) {
  if (FileLocks* locks = file.inode().locks_if_any()) locks->DropOwner(&table, false);
}

void CloseFile(Task&, Ref<File> file, FdTable& table) {
  Result<void> ignored = file->Flush();
  static_cast<void>(ignored);
  DropPosixLocks(*file, table);
  UnwatchDirectory(table, *file);
}

bool HasTerminalLocked(const ThreadGroup& tg) {
  return tg.pgrp && tg.pgrp->session->tty && tg.terminal == tg.pgrp->session->terminal;
}

void TakeTerminalLocked(ThreadGroup& leader, RefPtr<RefCountedBase> tty, uint64_t rdev) {
  static std::atomic<uint64_t> last{0};
  Session& session = *leader.pgrp->session;
  session.tty = std::move(tty);
  session.tty_rdev = rdev;
  session.foreground_pgid = leader.pgrp->pgid;
  session.left_foreground = 0;
  session.terminal = leader.terminal = ++last;
}

namespace {

void SignalGroupLocked(Kernel& kernel, int pgid, std::initializer_list<int> signals) NO_THREAD_SAFETY_ANALYSIS {
  TaskSet& set = kernel.tasks();
  const auto it = set.groups.find(pgid);
  if (it == set.groups.end()) return;
  for (const int signo : signals) SendSignalToProcessGroupLocked(*it->second, MakeSigInfo(signo, SI_KERNEL));
}

}  // namespace

void LoseTerminalLocked(Kernel& kernel, Session& session, std::initializer_list<int> signals) {
  session.tty.reset();
  SignalGroupLocked(kernel, std::exchange(session.foreground_pgid, 0), signals);
}

void HangUpSessionLocked(Session& session) {
  session.tty.reset();
  session.left_foreground = std::exchange(session.foreground_pgid, 0);
  if (session.leader == nullptr) return;
  for (const int signo : {SIGHUP, SIGCONT}) {
    Result<void> ignored = SendSignalToGroup(*session.leader, MakeSigInfo(signo, SI_KERNEL));
    static_cast<void>(ignored);
  }
}

// disassociate_ctty()
void EndSessionLocked(Kernel& kernel, Session& session) {
  session.leader = nullptr;
  if (session.tty) {
    LoseTerminalLocked(kernel, session, {SIGHUP});
  } else {
    SignalGroupLocked(kernel, std::exchange(session.left_foreground, 0), {SIGHUP, SIGCONT});
  }
}

int ForegroundGroupLocked(const Session& session, const PidNamespace& ns) {
  if (ns.level() == 0) return session.foreground_pgid;
  const PidNamespace* first = &ns;
  while (first->parent() != nullptr) first = first->parent();
  const ProcessGroup* pg = first->FindGroup(session.foreground_pgid);
  return pg == nullptr ? 0 : pg->pid->In(ns);
}

IpcNamespace& Task::ipc() const { return static_cast<IpcNamespace&>(*ns_.ipc); }

const void* Task::sem_undo_id() const {
  MutexLock lock(mu_);
  return sem_undo_.get();
}

SemUndoList& Task::SemUndo() {
  if (!sem_undo_) {
    MutexLock lock(mu_);
    sem_undo_ = MakeRef<SemUndoList>();
  }
  return static_cast<SemUndoList&>(*sem_undo_);
}

void Task::AnswersChanged() {
  answers_stale_.store(true);
  Kick();
}

cpu_set_t Task::affinity() const {
  MutexLock lock(mu_);
  return affinity_;
}

Result<void> Task::SetAffinity(const cpu_set_t& set) {
  MutexLock lock(mu_);
  if (context_ == nullptr) return Errno(ESRCH);
  TRY(context_->SetAffinity(set));
  CPU_AND(&affinity_, &set, &kernel_.cpus());
  wake_place_.set_bound(CPU_EQUAL(&affinity_, &kernel_.cpus()) == 0);
  return {};
}

void Task::ApplyScheduling() {
  {
    MutexLock lock(mu_);
    // A host that has taken processors away meanwhile is obeyed.
    const bool all = CPU_EQUAL(&affinity_, &kernel_.cpus()) != 0;
    if (!all && context_ != nullptr) static_cast<void>(context_->SetAffinity(affinity_).ok());
  }
  if (!rescheduled.load()) return;
  constexpr uint32_t kSchedDeadline = 6;
  SchedPolicy p = sched.With([](const SchedPolicy& s) { return s; });
  // The host's own threads have no deadlines.
  if (p.policy == kSchedDeadline) p = SchedPolicy{};
  MutexLock lock(mu_);
  // What the host refuses is remembered only.
  if (context_ != nullptr) context_->SetScheduling(p.policy, nice.load(), p.priority);
}

void Task::InheritSettings(const Task& parent) {
  const cpu_set_t processors = parent.affinity();
  wake_place_.set_bound(CPU_EQUAL(&processors, &kernel_.cpus()) == 0);
  {
    MutexLock lock(mu_);
    affinity_ = processors;
  }
  timer_slack_ns = default_timer_slack_ns = parent.timer_slack_ns.load();
  personality = parent.personality.load();
  io_priority = parent.io_priority.load();
  mce_kill_policy = parent.mce_kill_policy.load();
  io_flusher = parent.io_flusher.load();
  const MemoryPolicy memory = parent.memory_policy.With([](const MemoryPolicy& p) { return p; });
  memory_policy.With([&](MemoryPolicy& p) { p = memory; });
  SchedPolicy policy = parent.sched.With([](const SchedPolicy& p) { return p; });
  int inherited_nice = parent.nice.load();
  if (policy.reset_on_fork) {
    // kernel/sched/core.c:sched_fork(): real-time becomes normal, a raised priority goes.
    if (policy.policy == SCHED_FIFO || policy.policy == SCHED_RR) {
      policy = SchedPolicy{};
      inherited_nice = 0;
    } else {
      inherited_nice = std::max(inherited_nice, 0);
    }
    policy.reset_on_fork = false;
  }
  nice = inherited_nice;
  rescheduled = parent.rescheduled.load();
  sched.With([&](SchedPolicy& p) { p = policy; });
}

Rusage Task::MemoryRusage() const {
  Rusage r;
  RefPtr<MemoryManager> mm = mm_ref();
  if (!mm) return r;
  std::optional<AddressSpace::HostUsage> used;
  if (context_ != nullptr) used = context_->BroughtUsage();
  if (!used) {
    const Result<AddressSpace::HostUsage> asked = mm->address_space().Usage();
    if (!asked.ok()) return r;
    used = *asked;
  }
  r.minor_faults = used->minor_faults;
  r.major_faults = used->major_faults;
  r.voluntary = used->voluntary;
  r.involuntary = used->involuntary;
  r.maxrss_kib = used->maxrss_kib;
  return r;
}

void Task::DropPending(abi::SigSet set) {
  MutexLock lock(tg_->siglock);
  tg_->pending.Remove(set);
  for (Task* t : tg_->threads) t->pending_.Remove(set);
}

Task::SignalSets Task::signal_sets() const {
  SignalSets s;
  {
    MutexLock lock(tg_->siglock);
    s.own = pending_.mask();
    s.shared = tg_->pending.mask();
    s.queued = pending_.queued() + tg_->pending.queued();
  }
  MutexLock lock(mu_);
  if (context_ != nullptr) s.blocked = context_->signal_mask();
  return s;
}

void Task::UnshareFds() {
  if (fds_->ref_count_for_test() == 1) return;
  RefPtr<FdTable> own = fds_->Fork();
  MutexLock lock(mu_);
  std::swap(fds_, own);
}

void Task::UnshareFs() {
  if (fs_->ref_count_for_test() == 1) return;
  RefPtr<FsContext> own = fs_->Copy();
  MutexLock lock(mu_);
  std::swap(fs_, own);
}

void Task::set_fs(Ref<FsContext> fs) {
  RefPtr<FsContext> own(std::move(fs));
  MutexLock lock(mu_);
  std::swap(fs_, own);
  lock.Unlock();
}

bool MayTrace(const Task& from, Task& target, uint32_t access) {
  if (&from.tg() == &target.tg()) return true;
  const Credentials& mine = from.creds();
  const bool real = (access & TraceAccess::kRealCreds) != 0;
  const Uid uid = real ? mine.ruid : mine.fsuid;
  const Gid gid = real ? mine.rgid : mine.fsgid;
  Ref<const Credentials> theirs = target.creds_ref();
  const bool same = uid == theirs->euid && uid == theirs->suid && uid == theirs->ruid &&
                    gid == theirs->egid && gid == theirs->sgid && gid == theirs->rgid;
  if (!same && !mine.HasIn(theirs->user_ns(), Capability::kSysPtrace)) return false;
  RefPtr<MemoryManager> mm = target.mm_ref();
  if (mm && mm->dumpable() != 1 && !mine.HasIn(theirs->user_ns(), Capability::kSysPtrace)) {
    return false;
  }
  // cap_ptrace_access_check.
  const uint64_t caps = real ? mine.cap_permitted : mine.cap_effective;
  if (&mine.user_ns() == &theirs->user_ns() && (theirs->cap_permitted & ~caps) == 0) return true;
  return mine.HasIn(theirs->user_ns(), Capability::kSysPtrace);
}

}  // namespace ringwall
