// What a task does with files and terminals beyond the VFS.
#include <sys/epoll.h>

#include "fs/vfs/locks.h"
#include "sentry/kernel/task.h"

namespace ringwall {

void DropPosixLocks(File& file, const FdTable& table) {
  if (FileLocks* locks = file.inode().locks_if_any()) locks->DropOwner(&table, false);
}

void CloseFile(Task&, Ref<File> file, FdTable& table) {
  Result<void> ignored = file->Flush();
  static_cast<void>(ignored);
  DropPosixLocks(*file, table);
}

void HangUpSessionLocked(Kernel& kernel, Session& session) {
  session.tty.reset();
  if (session.foreground_pgid == 0) return;
  TaskSet& set = kernel.tasks();
  const auto it = set.groups.find(session.foreground_pgid);
  if (it == set.groups.end()) return;
  SendSignalToProcessGroupLocked(*it->second, MakeSigInfo(SIGHUP, SI_KERNEL));
  SendSignalToProcessGroupLocked(*it->second, MakeSigInfo(SIGCONT, SI_KERNEL));
}

void Task::ParentChanged() {
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
  TRY(FromHost(sched_setaffinity(context_->host_tid(), sizeof(set), &set)));
  CPU_AND(&affinity_, &set, &kernel_.cpus());
  return {};
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

}  // namespace ringwall
