#include "sentry/kernel/oom.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

#include <vector>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/kernel_log.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {


void LogKill(const Kernel& kernel, const Task& task) {
  char text[120];
  snprintf(text, sizeof(text), "Out of memory: Killed process %d (%s), files and shared memory are full",
           task.tgid(), task.comm().c_str());
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  const uint64_t ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
                      static_cast<uint64_t>(now.tv_nsec) - kernel.start_boottime_ns();
  KernelLog::Get().Append(KernelLog::kError, ns, text);
}

// Ends all that map one of the files so that they can write to it.
void KillWriters(Kernel& kernel, const std::vector<int>& files) {
  struct Candidate {
    Ref<Task> task;
    Ref<MemoryManager> mm;
  };
  std::vector<Candidate> candidates;
  TaskSet& set = kernel.tasks();
  {
    MutexLock lock(set.mu);
    for (const auto& [tid, task] : set.tasks) {
      if (task->tgid() != tid) continue;
      RefPtr<MemoryManager> mm = task->mm_ref();
      if (mm) candidates.push_back({Ref<Task>(*task), Ref<MemoryManager>(*mm)});
    }
  }
  for (const Candidate& candidate : candidates) {
    if (!candidate.mm->WritesTo(files)) continue;
    LogKill(kernel, *candidate.task);
    MutexLock lock(set.mu);
    static_cast<void>(
        SendSignalToGroup(candidate.task->tg(), MakeSigInfo(SIGKILL, kFromOutside)).ok());
  }
}

}  // namespace

void FileMemoryWatch::Start() {
  kernel_.timers().Arm(*this, TimerClock::kMonotonic, TimerClockNow(TimerClock::kMonotonic));
}

std::optional<int64_t> FileMemoryWatch::OnExpire(int64_t now_ns) {
  const FileMemory::Outcome outcome = FileMemory::Look();
  if (!outcome.grown.empty()) KillWriters(kernel_, outcome.grown);
  if (!outcome.again_ns) return std::nullopt;
  return now_ns + static_cast<int64_t>(*outcome.again_ns);
}

}  // namespace ringwall
