#include "runsc/sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "platform/stub/vdso.h"
#include "runsc/boot/control.h"
#include "runsc/filter/sentry_filter.h"
#include "runsc/net/host_network.h"
#include "runsc/sandbox/cgroup_entry.h"
#include "runsc/sandbox/namespaces.h"
#include "runsc/sandbox/privileges.h"
#include "runsc/sandbox/sandbox_main.h"
#include "runsc/sandbox/terminal_keeper.h"
#include "sentry/base/log.h"
#include "sentry/base/resident.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

HostResult<Channels> MakeChannels() {
  Channels c;
  int pair[2];
  if (pipe2(pair, O_CLOEXEC) != 0) return HostError::Last("make a pipe");
  c.go_read.reset(pair[0]);
  c.go_write.reset(pair[1]);
  if (pipe2(pair, O_CLOEXEC) != 0) return HostError::Last("make a pipe");
  c.status_read.reset(pair[0]);
  c.status_write.reset(pair[1]);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return HostError::Last("make a socket pair");
  }
  c.control_cli.reset(pair[0]);
  c.control_sentry.reset(pair[1]);
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return HostError::Last("make a socket pair");
  }
  c.gofer_client.reset(pair[0]);
  c.gofer_server.reset(pair[1]);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return HostError::Last("make a socket pair");
  }
  c.terminal_sentry.reset(pair[0]);
  c.terminal_keeper.reset(pair[1]);
  c.null.reset(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!c.null) return HostError::Last("open", "/dev/null");
  return c;
}

std::vector<int> DescriptorsOf(const BootArgs& boot) {
  std::vector<int> fds = {boot.gofer.get(), boot.control_listen.get(),
                          boot.control_connection.get(), boot.status_pipe.get(),
                          boot.terminal_connection.get(),
                          boot.user_log.get(), boot.network.ports.get(), GetLogConfig().fd};
  for (const UniqueFd& fd : boot.process.stdio) fds.push_back(fd.get());
  for (const UniqueFd& fd : boot.process.extra_fds) fds.push_back(fd.get());
  for (const LinkConfig& link : boot.network.config.links) {
    fds.push_back(link.fd.get());
    fds.push_back(link.wake.get());
  }
  return fds;
}

}  // namespace

namespace {

// All signals to their defaults, none blocked, SIGPIPE ignored.
void ResetSignals() {
  for (int signal = 1; signal < SIGRTMIN; signal++) {
    if (signal == SIGKILL || signal == SIGSTOP) continue;
    struct sigaction action = {};
    action.sa_handler = signal == SIGPIPE ? SIG_IGN : SIG_DFL;
    sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

void DieWithCaller(int status) {
  DieWithParent();
  pollfd reader = {status, 0, 0};
  if (poll(&reader, 1, 0) == 1 && (reader.revents & POLLERR) != 0) _exit(128);
}

void BeginMain(const char* name, const SandboxOptions& options, const Granted& granted, Channels& channels,
               Layers& layers) {
  channels.go_write.reset();
  channels.status_read.reset();
  if (options.die_with_caller) DieWithCaller(channels.status_write.get());
  setsid();  // the terminal's signals go to the CLI alone, which forwards them
  ResetSignals();
  prctl(PR_SET_NAME, (std::string("runsc-") + name).c_str(), 0, 0, 0);
  LogConfig logging = GetLogConfig();
  logging.process = name;
  SetLogConfig(logging);
  layers.Note(granted.user, Layer::kUserNamespace, granted.user_error);
  layers.Note(granted.pid, Layer::kPidNamespace, granted.pid_error);
  UnshareWorld(!granted.net, layers);
  char go = 0;
  if (RetryEintr([&] { return ::read(channels.go_read.get(), &go, 1); }) != 1) _exit(128);
  channels.go_read.reset();
}

pid_t StartOwnGofer(const SandboxOptions& options, const Granted& granted, Channels& channels, Layers& layers) {
  GoferProcessOptions gofer;
  gofer.roots = options.gofer_roots;
  gofer.strict = options.strict;
  gofer.own_namespaces = granted.pid;
  gofer.null_fd = channels.null.get();
  gofer.max_files = options.max_files;
  const int status = channels.status_write.get();
  HostResult<pid_t> pid = StartGofer(gofer, std::move(channels.gofer_server), status, layers);
  if (pid.ok()) return *pid;
  StatusPipe(status).Fail(128, pid.error().message().c_str());
  _exit(128);
}

namespace {

// libc asks for the size of the host's memory when it first sorts more than a kilobyte, as capstone
// has it do. Afterwards it remembers.
void PrepareQsort() {
  static char items[2][1024];
  qsort(items, 2, sizeof(items[0]), [](const void*, const void*) { return 0; });
}

[[noreturn]] void RunSentry(const SandboxOptions& options, const IdMaps& maps,
                            const Granted& granted, Channels channels, BootArgs boot) {
  channels.control_cli.reset();
  StatusPipe status(channels.status_write.get());
  Layers layers;
  BeginMain("sentry", options, granted, channels, layers);

  pid_t gofer_pid = -1;
  UniqueFd gofer_pidfd;
  if (!options.gofer_roots.empty()) {
    gofer_pid = StartOwnGofer(options, granted, channels, layers);
    boot.gofer = std::move(channels.gofer_client);
    gofer_pidfd.reset(static_cast<int>(syscall(SYS_pidfd_open, gofer_pid, 0)));
  }
  channels.gofer_server.reset();
  boot.control_connection = std::move(channels.control_sentry);
  boot.status_pipe = std::move(channels.status_write);

  if (boot.process.terminal && boot.process.stdio[0]) {
    StartTerminalKeeper(boot.process.stdio[0].get(), std::move(channels.terminal_keeper),
                        channels.null.get(), maps);
    boot.terminal_connection = std::move(channels.terminal_sentry);
  }

  RememberVdso();  // before /proc is out of reach
  UnshareMounts(layers);
  EnterEmptyRoot(layers);
  LimitResources(layers, options.max_files);
  GiveUpPrivileges(0, true, maps, layers);
  // A change of user clears both; the Sentry must be able to read its stubs.
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (options.die_with_caller) DieWithCaller(boot.status_pipe.get());
  std::vector<int> keep = DescriptorsOf(boot);
  keep.push_back(gofer_pidfd.get());
  CloseAllBut(channels.null.get(), std::move(keep));

  const HostResult<void> prepared =
      options.skip_platform ? HostResult<void>() : PrepareBoot(boot);
  if (!prepared.ok()) {
    status.Fail(128, prepared.error().message().c_str());
    _exit(128);
  }
  PrepareQsort();
  ForgetCode();
  HostResult<void> filter = InstallSentryFilter();
  layers.Note(filter.ok(), Layer::kSeccomp, filter.ok() ? 0 : filter.error().error());
  layers.Log("sentry");
  if (!layers.all_held() && options.strict) {
    status.Fail(128, ("--strict: the Sentry lacks: " + layers.Missing()).c_str());
    _exit(128);
  }
  if (options.only_report_layers) {
    status.Fail(0, layers.ToText().c_str());
    _exit(0);
  }
  if (gofer_pidfd) {
    ControlServer::WatchGofer(std::move(gofer_pidfd), gofer_pid, boot.status_pipe.get());
  }
  _exit(Boot(std::move(boot)));
}

void Abandon(pid_t child) {
  kill(child, SIGKILL);
  RetryEintr([&] { return waitpid(child, nullptr, 0); });
}

}  // namespace

HostResult<SandboxProcess> CloneSandbox(const SandboxOptions& options, BootArgs& boot,
                                        SandboxMain* run, Channels* left) {
  RaiseLimits();
  // Without /proc no map can be written, and a user namespace without one would be of no use.
  const HostResult<IdMaps> identity = IdMaps::Identity(options.privileged);
  const IdMaps maps = identity.ok() ? HostResult<IdMaps>(identity).TakeValue() : IdMaps();
  // From the most isolation to the least; what a host or container does not grant is left out.
  static constexpr std::array<uint64_t, 4> kLadder = {CLONE_NEWUSER | CLONE_NEWPID, CLONE_NEWPID,
                                                      CLONE_NEWUSER, 0};
  Granted granted;
  for (const uint64_t flags : kLadder) {
    if ((flags & CLONE_NEWUSER) != 0 && !identity.ok()) {
      granted.user_error = identity.error().error();
      continue;
    }
    granted.user = (flags & CLONE_NEWUSER) != 0;
    granted.pid = (flags & CLONE_NEWPID) != 0;
    Channels channels = TRY(MakeChannels());
    std::optional<NetNamespaceScope> net;
    if (options.container_net && options.container_net->empty()) {
      // Where the host grants none here, the Sentry tries in its own user namespace.
      HostResult<NetNamespaceScope> fresh = NetNamespaceScope::Fresh();
      if (fresh.ok()) net = fresh.TakeValue();
    } else if (options.container_net) {
      net = TRY(NetNamespaceScope::Enter(*options.container_net));
    }
    granted.net = net.has_value();
    CgroupEntry cgroups(options.cgroups);
    const pid_t pid = cgroups.Clone(flags);
    if (pid == 0) run(options, maps, granted, std::move(channels), std::move(boot));
    const int clone_error = errno;
    net.reset();
    errno = clone_error;
    if (pid < 0) {
      if (flags == 0) return HostError::Last("start the Sentry");
      (granted.user ? granted.user_error : granted.pid_error) = errno;
      continue;
    }
    if (granted.user) {
      if (HostResult<void> mapped = WriteIdMaps(pid, maps); !mapped.ok()) {
        granted.user_error = mapped.error().error();
        Abandon(pid);
        continue;
      }
    }
    if (HostResult<void> joined = cgroups.Finish(pid); !joined.ok()) {
      Abandon(pid);
      return joined.error();
    }
    if (options.before_boot) {
      if (HostResult<void> done = options.before_boot(pid); !done.ok()) {
        Abandon(pid);
        return done.error();
      }
    }
    if (::write(channels.go_write.get(), "g", 1) != 1) {
      Abandon(pid);
      return HostError::Last("wake the Sentry");
    }
    SandboxProcess made;
    made.pid = pid;
    *left = std::move(channels);
    return made;
  }
  return HostError::Message("start the Sentry: the host grants no process");
}

HostResult<SandboxProcess> StartSandbox(const SandboxOptions& options, BootArgs&& boot) {
  Channels channels;
  SandboxProcess made = TRY(CloneSandbox(options, boot, RunSentry, &channels));
  made.status = std::move(channels.status_read);
  made.control = std::move(channels.control_cli);
  made.net_helper = boot.network.helper;
  boot.network.ports.reset();
  boot.network.config.links.clear();  // so that the network helper sees the Sentry's end
  return made;
}

int ExitCodeOf(int wait_status, std::string* message) {
  if (WIFEXITED(wait_status)) return WEXITSTATUS(wait_status);
  const int signal = WTERMSIG(wait_status);
  const char* name = sigabbrev_np(signal);
  *message = "the Sentry was killed by signal " + std::to_string(signal) + " (SIG" +
             (name != nullptr ? name : "?") + "); the sandbox and all in it are gone";
  if (signal == SIGSYS) *message += "; it made a host call that its filter refuses";
  return 128 + signal;
}

}  // namespace ringwall
