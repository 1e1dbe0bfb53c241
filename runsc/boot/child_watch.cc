#include "runsc/boot/child_watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/stub/zygote_pid.h"
#include "runsc/boot/control.h"
#include "sentry/base/log.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr char kKilledFromOutside[] = "was killed from outside (SIGKILL)";

std::string HowItEnded(int wait_status) {
  if (!WIFSIGNALED(wait_status)) {
    return "ended with exit code " + std::to_string(WEXITSTATUS(wait_status));
  }
  const int signal = WTERMSIG(wait_status);
  const char* name = sigabbrev_np(signal);
  std::string text = "was killed by signal " + std::to_string(signal) + " (SIG" +
                     (name != nullptr ? name : "?") + ")";
  if (signal == SIGKILL) text += " from outside, perhaps since the host is out of memory";
  if (signal == SIGSYS) text += "; it made a host call that its filter refuses";
  return text;
}

void TellStubLoss(StatusPipe& status, const std::string& processes, const std::string& how) {
  status.Fail(128 + SIGKILL,
              ("the stub of process " + processes + " " + how + "; that process is gone").c_str());
}

// Ends the guest processes whose memory was in a stub that `is_lost`. Usually there are none: it ended
// with them.
template <typename IsLost>
void EndProcesses(Kernel& kernel, StatusPipe& status, const std::string& how, IsLost is_lost) {
  std::string lost;
  TaskSet& set = kernel.tasks();
  MutexLock lock(set.mu);
  for (const auto& [tid, task] : set.tasks) {
    if (task->tgid() != tid || task->tg().zombie) continue;
    RefPtr<MemoryManager> mm = task->mm_ref();
    if (!mm || !is_lost(mm->address_space())) continue;
    const bool tell = task->tg().TakeStubLoss();
    const Result<void> killed = SendSignalToGroup(task->tg(), MakeSigInfo(SIGKILL, kFromOutside));
    static_cast<void>(killed);
    if (!tell) continue;
    lost += (lost.empty() ? "" : ", ") + std::to_string(tid) + " (" + task->comm() + ")";
  }
  // Under the lock: no process can end before it is told, and the sandbox ends with its last one.
  if (!lost.empty()) TellStubLoss(status, lost, how);
}

// A killed stub whose thread is traced cannot be reaped before its tracer has seen that thread's end, and
// the tracer may sleep. So look once a second.
void LookForLostStubs(Kernel& kernel, StatusPipe& status) {
  const timespec second = {1, 0};
  ppoll(nullptr, 0, &second, nullptr);
  EndProcesses(kernel, status, kKilledFromOutside,
               [](const AddressSpace& space) { return !space.alive(); });
}

}  // namespace

void ListenForLostStubs(Kernel& kernel, StatusPipe status) {
  kernel.set_stub_loss_listener([status](const std::string& process) mutable {
    TellStubLoss(status, process, kKilledFromOutside);
  });
}

void WatchChildren(Kernel& kernel, StatusPipe status) {
  const bool traced = kernel.platform().name() == "ptrace";
  while (true) {
    int wait_status = 0;
    // Only our own children: the stops of traced threads belong to the threads that trace them.
    const pid_t pid = wait4(-1, &wait_status, __WALL | __WNOTHREAD | (traced ? WNOHANG : 0), nullptr);
    if (pid < 0 && errno == EINTR) continue;
    if (pid == 0) LookForLostStubs(kernel, status);
    if (pid < 0) ppoll(nullptr, 0, nullptr, nullptr);  // no children: nothing to watch
    if (pid <= 0 || WIFSTOPPED(wait_status)) continue;
    if (WIFSIGNALED(wait_status)) NoteStubDeath(pid, WTERMSIG(wait_status));
    ControlServer::ChildEnded(pid, wait_status);
    if (pid == ZygotePid()) {
      status.Fail(128 + SIGKILL, ("the zygote of the stubs " + HowItEnded(wait_status) +
                                  "; no program can be started without it and the sandbox ends").c_str());
      _exit(128 + SIGKILL);
    }
    // The host does that to a program whose restartable sequences make no sense; its task takes note.
    if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSEGV) continue;
    EndProcesses(kernel, status, HowItEnded(wait_status),
                 [pid](const AddressSpace& space) { return space.host_pid() == pid; });
  }
}

}  // namespace ringwall
