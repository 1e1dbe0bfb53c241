#include "sentry/kernel/kernel.h"

#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include <algorithm>

#include "sentry/base/log.h"
#include "sentry/kernel/futex.h"
#include "sentry/kernel/syscall_table.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/timer_queue.h"

namespace ringwall {

SyscallTable::SyscallTable(std::span<const SyscallRow> rows) : rows_(rows) {
  for (const SyscallRow& row : rows) {
    RW_CHECK(row.nr < kSize && by_nr_[row.nr] == nullptr);
    by_nr_[row.nr] = &row;
  }
}

Result<int> TaskSet::AllocatePid() {
  if (live >= max_tasks) return Errno(EAGAIN);
  for (int tries = 0; tries < kPidMax; tries++) {
    // Numbers below 300 are used once only, as Linux does after the first wrap.
    last_pid = last_pid + 1 < kPidMax ? last_pid + 1 : 300;
    if (!tasks.contains(last_pid) && !groups.contains(last_pid)) return last_pid;
  }
  return Errno(EAGAIN);
}

Task* TaskSet::FindTask(int tid) {
  const auto it = tasks.find(tid);
  return it == tasks.end() ? nullptr : it->second;
}

ThreadGroup* TaskSet::FindThreadGroup(int tgid) {
  Task* t = FindTask(tgid);
  return t != nullptr && t->tgid() == tgid ? &t->tg() : nullptr;
}

void TaskSet::EraseGroupLocked(int pgid) { groups.erase(pgid); }
void TaskSet::EraseTaskLocked(int tid) { tasks.erase(tid); }

size_t TaskSet::TasksOfUserLocked(Uid uid) {
  size_t n = 0;
  for (const auto& [tid, task] : tasks) n += task->creds_ref()->ruid == uid ? 1 : 0;
  return n;
}

Kernel::Kernel(KernelOptions options)
    : options_(std::move(options)),
      futexes_(std::make_unique<FutexTable>()),
      timers_(*new TimerQueue),
      strace_(options_.strace) {
  strace_only_.With([&](std::vector<std::string>& names) { names = options_.strace_syscalls; });
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  start_boottime_ns_ =
      static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

Kernel::~Kernel() = default;

void Kernel::SetFirstPid(int pid) {
  MutexLock lock(tasks_.mu);
  tasks_.last_pid = pid - 1;
}

void Kernel::Start(ThreadGroup& tg) {
  Task* leader;
  {
    MutexLock lock(tasks_.mu);
    leader = tg.leader;
  }
  leader->StartThread();
}

int Kernel::WaitForExit(ThreadGroup& tg) {
  MutexLock lock(tasks_.mu);
  while (!tg.zombie) group_exited_.Wait(tasks_.mu);
  return tg.exit_status;
}

void Kernel::InitExitedLocked() {
  // The pid namespace ends with its init.
  for (const auto& [tid, task] : tasks_.tasks) {
    if (&task->tg() == init_.get()) continue;
    Result<void> ignored = SendSignalToGroup(task->tg(), MakeSigInfo(SIGKILL, SI_KERNEL));
    static_cast<void>(ignored);
  }
}

Result<void> Kernel::SendSignal(int tgid, int signo) {
  MutexLock lock(tasks_.mu);
  ThreadGroup* tg = tasks_.FindThreadGroup(tgid);
  if (tg == nullptr || tg->zombie) return Errno(ESRCH);
  return SendSignalToGroup(*tg, MakeSigInfo(signo, kFromOutside));
}

void Kernel::Pause() {
  paused_.store(true);
  for (bool running = true; running;) {
    {
      MutexLock lock(tasks_.mu);
      running = false;
      for (const auto& [tid, task] : tasks_.tasks) {
        if (!task->in_guest_.load()) continue;
        running = true;
        task->Kick();
      }
    }
    if (running) {
      const timespec moment = {0, 500'000};
      ppoll(nullptr, 0, &moment, nullptr);
    }
  }
}

void Kernel::Resume() {
  paused_.store(false);
  MutexLock lock(tasks_.mu);
  for (const auto& [tid, task] : tasks_.tasks) task->Wake();
}

void Kernel::SetStrace(bool on, const std::vector<std::string>& only) {
  strace_only_.With([&](std::vector<std::string>& names) { names = only; });
  strace_.store(on);
  // What stubs answered alone comes to the Sentry from now on, or the reverse.
  MutexLock lock(tasks_.mu);
  for (const auto& [tid, task] : tasks_.tasks) task->ParentChanged();
}

bool Kernel::StraceWanted(std::string_view name) const {
  return strace_only_.With([&](const std::vector<std::string>& names) {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
  });
}

void Kernel::KillAll() {
  MutexLock lock(tasks_.mu);
  for (const auto& [tid, task] : tasks_.tasks) {
    Result<void> ignored = SendSignalToGroup(task->tg(), MakeSigInfo(SIGKILL, kFromOutside));
    static_cast<void>(ignored);
  }
}

void Kernel::WaitForAll() {
  MutexLock lock(tasks_.mu);
  while (tasks_.live != 0) group_exited_.Wait(tasks_.mu);
}

}  // namespace ringwall
