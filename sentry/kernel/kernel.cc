#include "sentry/kernel/kernel.h"
#include "sentry/kernel/kernel_log.h"

#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include <algorithm>

#include "sentry/base/log.h"
#include "sentry/ipc/ipc_namespace.h"
#include "sentry/kernel/futex.h"
#include "sentry/kernel/load_average.h"
#include "sentry/kernel/syscall_table.h"
#include "sentry/kernel/sysctl_limits.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/task_life.h"
#include "sentry/kernel/timer_queue.h"

namespace ringwall {

SyscallTable::SyscallTable(std::span<const SyscallRow> rows) : rows_(rows) {
  for (const SyscallRow& row : rows) {
    RW_CHECK(row.nr < kSize && by_nr_[row.nr] == nullptr);
    by_nr_[row.nr] = &row;
  }
}

std::atomic<int>& PidMax() {
  static std::atomic<int> value{TaskSet::kPidMax};
  return value;
}

std::atomic<int>& NrOpen() {
  static std::atomic<int> value{1 << 20};
  return value;
}

std::atomic<int>& RandomizeVaSpace() {
  static std::atomic<int> value{2};
  return value;
}

TaskSet::TaskSet()
    : first(MakeRef<PidNamespace>(nullptr, RefPtr<UserNamespace>(&UserNamespace::Initial()))),
      apart(MakeRef<PidNamespace>(nullptr, RefPtr<UserNamespace>(&UserNamespace::Initial()), kPidMax)) {}

namespace {

// 0 when there is none.
int NextNumber(PidNamespace& ns) {
  const int limit = PidMax().load();
  for (int tries = 0; tries < limit; tries++) {
    // Numbers below 300 are used once only, as Linux does after the first wrap.
    const bool wraps = ns.last_pid + 1 >= ns.base() + limit;
    ns.last_pid = wraps ? ns.base() + 300 : ns.last_pid + 1;
    if (!ns.tasks.contains(ns.last_pid) && !ns.groups.contains(ns.last_pid)) return ns.last_pid;
  }
  return 0;
}

}  // namespace

Result<Ref<const Pid>> TaskSet::AllocatePid(PidNamespace& ns, std::span<const int> wanted) {
  if (live >= max_tasks) return Errno(EAGAIN);
  std::vector<int> numbers(static_cast<size_t>(ns.level()) + 1);
  size_t i = 0;
  for (PidNamespace* at = &ns; at != nullptr; at = at->parent(), i++) {
    if (at->dead) return Errno(ENOMEM);
    int& number = numbers[static_cast<size_t>(at->level())];
    if (i >= wanted.size()) {
      number = NextNumber(*at);
      if (number == 0) return Errno(EAGAIN);
      continue;
    }
    if (at == apart.get()) return Errno(EINVAL);  // as above the outermost that Linux would know
    number = wanted[i];
    if (number < 1 || number >= PidMax().load()) return Errno(EINVAL);
    // The first in a namespace is its init.
    if (number != 1 && at->level() != 0 && !at->had_init) return Errno(EINVAL);
    if (at->tasks.contains(number) || at->groups.contains(number)) return Errno(EEXIST);
  }
  return Ref<const Pid>(MakeRef<Pid>(Ref<PidNamespace>(ns), std::move(numbers)));
}

Task* TaskSet::FindTask(int tid) {
  const auto it = tasks.find(tid);
  return it == tasks.end() ? nullptr : it->second;
}

ThreadGroup* TaskSet::FindThreadGroup(int tgid) {
  Task* t = FindTask(tgid);
  return t != nullptr && t->tid() == t->tgid() ? &t->tg() : nullptr;
}

void TaskSet::AddTaskLocked(const Pid& pid, Task& task) {
  tasks[pid.first()] = &task;
  pid.ForEach([&](PidNamespace& ns, int number) { ns.tasks[number] = &task; });
}
void TaskSet::EraseTaskLocked(const Pid& pid) {
  tasks.erase(pid.first());
  pid.ForEach([](PidNamespace& ns, int number) { ns.tasks.erase(number); });
}
void TaskSet::AddGroupLocked(RefPtr<ProcessGroup> pg) {
  groups[pg->pid->first()] = pg;
  pg->pid->ForEach([&](PidNamespace& ns, int number) { ns.groups[number] = pg; });
}
void TaskSet::EraseGroupLocked(ProcessGroup& pg) {
  RefPtr<ProcessGroup> keep(&pg);
  groups.erase(pg.pid->first());
  pg.pid->ForEach([](PidNamespace& ns, int number) { ns.groups.erase(number); });
}

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
  // A twenty-fifth of the memory at 184 bytes each (eventpoll_init()).
  max_epoll_watches.store(static_cast<int64_t>(options_.memory_limit / kPageSize / 25 * kPageSize / 184));
  SetNamespaceMaker(NamespaceKind::kIpc, &IpcNamespace::Make);
  KernelLog& log = KernelLog::Get();
  log.Append(KernelLog::kNotice, 0, "Linux version 6.12.0 (ringwall@ringwall) #1 SMP PREEMPT_DYNAMIC Ringwall");
  log.Append(KernelLog::kInfo, 0, "Memory: " + std::to_string(options_.memory_limit / 1024) + "K");
  log.Append(KernelLog::kInfo, 0,
             "smp: Brought up 1 node, " + std::to_string(CPU_COUNT(&options_.cpus)) + " CPUs");
}

Kernel::~Kernel() = default;

void Kernel::SetNamespaceMaker(NamespaceKind kind, NamespaceMaker maker) {
  MutexLock lock(namespaces_mu_);
  makers_[static_cast<size_t>(kind)] = maker;
}

Result<Ref<Namespace>> Kernel::NewNamespace(NamespaceKind kind, const Ref<UserNamespace>& owner) {
  NamespaceMaker maker = nullptr;
  {
    MutexLock lock(namespaces_mu_);
    maker = makers_[static_cast<size_t>(kind)];
  }
  TRY(owner->Charge(kind));
  if (maker == nullptr) return Ref<Namespace>(MakeRef<PlainNamespace>(kind, owner, false));
  Result<Ref<Namespace>> made = maker(*this, owner, false);
  if (!made.ok()) owner->Uncharge(kind);
  return made;
}

Ref<Namespace> Kernel::FirstNamespace(NamespaceKind kind) {
  const size_t i = static_cast<size_t>(kind);
  NamespaceMaker maker = nullptr;
  {
    MutexLock lock(namespaces_mu_);
    if (first_namespaces_[i]) return Ref<Namespace>(first_namespaces_[i]);
    maker = makers_[i];
  }
  const Ref<UserNamespace> owner(UserNamespace::Initial());
  RefPtr<Namespace> made;
  if (maker != nullptr) {
    Result<Ref<Namespace>> result = maker(*this, owner, true);
    RW_CHECK(result.ok());
    made = std::move(*result);
  } else {
    made = MakeRef<PlainNamespace>(kind, owner, true);
  }
  MutexLock lock(namespaces_mu_);
  if (!first_namespaces_[i]) first_namespaces_[i] = std::move(made);
  return Ref<Namespace>(first_namespaces_[i]);
}

LoadAverage::Values LoadAverages(Kernel& kernel) {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  const int64_t since = int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec -
                        static_cast<int64_t>(kernel.start_boottime_ns());
  Rusage used;
  int runnable = 0;
  static auto& average = *new LoadAverage;  // with the lock
  TaskSet& set = kernel.tasks();
  MutexLock lock(set.mu);
  if (!average.Due(since)) return average.values();
  for (const auto& [tid, task] : set.tasks) {
    if (task != Task::Current() && task->state() == 'R') runnable++;
    used.Add(task->OwnRusage());
    if (task->tgid() != tid) continue;
    used.Add(task->tg().exited_threads);
    used.Add(task->tg().waited_children);
  }
  average.Look(since, static_cast<int64_t>(used.utime_ns + used.stime_ns), runnable, CPU_COUNT(&kernel.cpus()));
  return average.values();
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
  TaskLife::AwaitFromOutside(tg, true);
  while (!tg.zombie) group_exited_.Wait(tasks_.mu);
  TaskLife::AwaitFromOutside(tg, false);
  return tg.exit_status;
}

void Kernel::InitExitedLocked() {
  // The pid namespace ends with its init, and the sandbox with it.
  for (const auto& [tid, task] : tasks().tasks) {
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

bool Kernel::Pauses(const Task& task) const {
  return paused() && task.pid_ns().container().paused.load();
}

void Kernel::Pause(PidNamespace& container) {
  if (!container.paused.exchange(true)) paused_.fetch_add(1);
  for (bool running = true; running;) {
    {
      MutexLock lock(tasks_.mu);
      running = false;
      for (const auto& [tid, task] : tasks_.tasks) {
        if (!task->in_guest_.load() || &task->pid_ns().container() != &container) continue;
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

void Kernel::Resume(PidNamespace& container) {
  if (container.paused.exchange(false)) paused_.fetch_sub(1);
  MutexLock lock(tasks_.mu);
  for (const auto& [tid, task] : tasks_.tasks) task->Wake();
}

void Kernel::SetStrace(bool on, const std::vector<std::string>& only) {
  strace_only_.With([&](std::vector<std::string>& names) { names = only; });
  strace_.store(on);
  // What stubs answered alone comes to the Sentry from now on, or the reverse.
  MutexLock lock(tasks_.mu);
  for (const auto& [tid, task] : tasks_.tasks) task->AnswersChanged();
}

bool Kernel::StraceWanted(std::string_view name) const {
  return strace_only_.With([&](const std::vector<std::string>& names) {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
  });
}

void Kernel::KillAll() {
  MutexLock lock(tasks_.mu);
  for (const auto& [tid, task] : tasks_.tasks) {
    if (IsBareInit(task->tg())) continue;
    Result<void> ignored = SendSignalToGroup(task->tg(), MakeSigInfo(SIGKILL, kFromOutside));
    static_cast<void>(ignored);
  }
}

void Kernel::TellStubLoss(ThreadGroup& tg) {
  std::string process;
  {
    MutexLock lock(tasks_.mu);
    if (tg.leader == nullptr || !tg.TakeStubLoss()) return;
    process = std::to_string(tg.tgid()) + " (" + tg.leader->comm() + ")";
  }
  if (stub_loss_listener_) stub_loss_listener_(process);
}

void Kernel::WaitForAll() {
  MutexLock lock(tasks_.mu);
  while (tasks_.live != 0) group_exited_.Wait(tasks_.mu);
}

}  // namespace ringwall
