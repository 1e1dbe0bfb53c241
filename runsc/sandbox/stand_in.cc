#include "runsc/sandbox/stand_in.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runsc/boot/control.h"
#include "runsc/filter/filter.h"
#include "runsc/sandbox/privileges.h"
#include "runsc/sandbox/sandbox_main.h"
#include "runsc/sandbox/terminal_keeper.h"
#include "sentry/base/log.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

constexpr int kKilled = 128 + SIGKILL;

constexpr FilterRule kRules[] = {
    Allow(SYS_poll, "waiting for the container's end, and the gofer's"),
    Allow(SYS_ppoll, "the same"),
    Allow(SYS_recvmmsg, "how the container ended"),
    Allow(SYS_wait4, "how the gofer ended"),
    Allow(SYS_write, "saying so, and the log"),
    Allow(SYS_brk, "the message's memory"),
    Allow(SYS_mmap, ArgWithin(2, PROT_READ | PROT_WRITE), "the same"),
    Allow(SYS_munmap, "the same"),
    Allow(SYS_exit_group, "its end"),
#if defined(__SANITIZE_ADDRESS__) || defined(RINGWALL_TSAN)
    Allow(SYS_pipe2, "the sanitizer asks whether memory may be read"),
    Allow(SYS_close, "the same"),
    Allow(SYS_sigaltstack, "the sanitizer at the end of a thread"),
    Allow(SYS_madvise, "the sanitizer gives memory back"),
    Allow(SYS_gettid, "the sanitizer's locks"),
    Allow(SYS_getpid, "the number before each line of its reports"),
#endif
};

// What the stand-in ends with.
int CodeOf(const control::Response& ended) {
  if (ended.error() != 0) return kKilled;
  const int status = ended.wait_status();
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int GoferEnded(pid_t pid, StatusPipe& status) {
  int how = 0;
  if (wait4(pid, &how, 0, nullptr) != pid) return kKilled;
  const bool killed = WIFSIGNALED(how);
  const int number = killed ? WTERMSIG(how) : WEXITSTATUS(how);
  const std::string text = std::string("the gofer ") + (killed ? "was killed by signal " : "ended with exit code ") +
                           std::to_string(number) + "; without the container's files it ends";
  status.Fail(killed ? 128 + number : 128, text.c_str());
  return killed ? 128 + number : 128;
}

int AwaitEnd(ControlClient& life, int gofer_pidfd, pid_t gofer, StatusPipe& status) {
  while (true) {
    pollfd wait[2] = {{life.fd(), POLLIN, 0}, {gofer_pidfd, POLLIN, 0}};
    if (poll(wait, 2, -1) < 0) continue;  // EINTR
    if (wait[0].revents != 0) {
      // Without an answer the Sentry is gone.
      HostResult<control::Response> ended = life.Receive();
      return ended.ok() ? CodeOf(*ended) : kKilled;
    }
    if (wait[1].revents != 0) return GoferEnded(gofer, status);
  }
}

void RunStandIn(const SandboxOptions& options, const IdMaps& maps, const Granted& granted,
                Channels channels, BootArgs boot) {
  StatusPipe status(channels.status_write.get());
  Layers layers;
  BeginMain("joined", options, granted, channels, layers);
  const pid_t gofer = StartOwnGofer(options, granted, channels, layers);
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, gofer, 0)));
  if (boot.process.terminal && boot.process.stdio[0]) {
    StartTerminalKeeper(boot.process.stdio[0].get(), std::move(channels.terminal_keeper),
                        channels.null.get(), maps);
  }

  UnshareMounts(layers);
  EnterEmptyRoot(layers);
  LimitResources(layers, options.max_files);
  GiveUpPrivileges(0, true, maps, layers);
  // A change of user clears both; engines look at the namespaces of the container's pid.
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (options.die_with_caller) DieWithCaller(channels.status_write.get());
  ControlClient life(std::move(channels.control_cli));
  CloseAllBut(channels.null.get(),
              {life.fd(), channels.status_write.get(), pidfd.get(), GetLogConfig().fd});
  // Answered once the container is there and has ended.
  control::Request request;
  request.mutable_wait();
  if (!life.Send(request).ok()) _exit(128);
  const HostResult<void> filter = InstallFilter(kRules, false);
  layers.Note(filter.ok(), Layer::kSeccomp, filter.ok() ? 0 : filter.error().error());
  layers.Log("joined");
  if (!layers.all_held() && options.strict) {
    status.Fail(128, ("--strict: the stand-in lacks: " + layers.Missing()).c_str());
    _exit(128);
  }
  status.Ready();
  _exit(AwaitEnd(life, pidfd.get(), gofer, status));
}

}  // namespace

std::span<const FilterRule> StandInFilterRules() { return kRules; }

HostResult<SandboxProcess> StartStandIn(const SandboxOptions& options, BootArgs* boot) {
  Channels channels;
  SandboxProcess made = TRY(CloneSandbox(options, *boot, RunStandIn, &channels));
  made.status = std::move(channels.status_read);
  boot->gofer = std::move(channels.gofer_client);
  boot->control_connection = std::move(channels.control_sentry);
  if (boot->process.terminal) boot->terminal_connection = std::move(channels.terminal_sentry);
  return made;
}

}  // namespace ringwall
