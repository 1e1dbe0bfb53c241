// runsc exec: one more process in a running container.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runsc/cli/report.h"
#include "runsc/cmd/command.h"
#include "runsc/container/console.h"
#include "runsc/container/container.h"
#include "runsc/container/convert.h"
#include "runsc/container/files.h"
#include "runsc/sandbox/attached.h"
#include "runsc/sandbox/caller.h"
#include "runsc/sandbox/privileges.h"
#include "sentry/base/resident.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class Exec final : public Command {
 public:
  const char* name() const override { return "exec"; }
  const char* summary() const override { return "run one more program in a container"; }
  const char* arguments() const override { return "[flags] ID PROGRAM [ARGUMENT...]"; }
  bool stops_at_first_argument() const override { return true; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return SIZE_MAX; }
  void AddFlags(FlagSet& flags) override {
    flags.String("process,p", &process_file_, "FILE", "process.json of the specification");
    flags.String("cwd", &cwd_, "DIR", "directory to start in");
    flags.List("env,e", &env_, "NAME=VALUE", "set a variable");
    flags.String("user,u", &user_, "UID[:GID]", "ids to run as");
    flags.List("additional-gids,g", &groups_, "GID", "a further group");
    flags.List("cap,c", &caps_, "NAME", "a further capability");
    flags.Bool("tty,t", &tty_, "give it a terminal");
    flags.Bool("detach,d", &detach_, "do not wait for its end");
    flags.String("pid-file", &pid_file_, "FILE",
                 "where to write the pid of a host process that ends as it does");
    flags.String("internal-pid-file", &internal_pid_file_, "FILE",
                 "where to write its pid in the container");
    flags.String("console-socket", &console_socket_, "SOCKET",
                 "unix socket that is to get the terminal's master");
    flags.Int("preserve-fds", &preserve_fds_, "N", "pass on descriptors 3 to 2+N");
    flags.List("pass-fd", &passed_fds_, "N:M", "pass on descriptor N as M, the next after those");
    flags.Bool("no-new-privs", &no_new_privs_, "no set-user-id programs");
    for (const char* ignored : {"apparmor", "process-label", "cgroup", "clear-status"}) {
      flags.Ignored(ignored, true);
    }
    flags.Ignored("ignore-paused", false);
    flags.String("exec-fd", &exec_fd_, "N", "");
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  HostResult<BootProcess> MakeProcess(const Container& container,
                                      const std::vector<std::string>& args, bool* terminal);
  HostResult<void> ApplyUser(BootProcess* process) const;

  std::string process_file_, cwd_, user_, pid_file_, internal_pid_file_, console_socket_, exec_fd_;
  std::vector<std::string> env_, groups_, caps_;
  bool tty_ = false, detach_ = false, no_new_privs_ = false;
  int64_t preserve_fds_ = 0;
  std::vector<std::string> passed_fds_;
};

bool ParseId(const std::string& text, uint32_t* out) {
  char* end = nullptr;
  errno = 0;
  const unsigned long value = strtoul(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || value >= UINT32_MAX || text[0] == '-') {
    return false;
  }
  *out = static_cast<uint32_t>(value);
  return true;
}

HostResult<void> Exec::ApplyUser(BootProcess* process) const {
  if (!user_.empty()) {
    const std::vector<std::string> ids = Split(user_, ':');
    if (ids.size() > 2 || !ParseId(ids[0], &process->uid) ||
        (ids.size() == 2 && !ParseId(ids[1], &process->gid))) {
      return HostError::Message("--user: \"" + user_ + "\" is not UID[:GID] in numbers");
    }
    // As after a set-user-id call: only root keeps what it has.
    if (process->uid != 0) process->caps.effective = process->caps.permitted = process->caps.ambient;
  }
  for (const std::string& group : groups_) {
    uint32_t id = 0;
    if (!ParseId(group, &id)) {
      return HostError::Message("--additional-gids: \"" + group + "\" is not a number");
    }
    process->groups.push_back(id);
  }
  for (const std::string& name : caps_) {
    const int cap = CapabilityByName(name);
    if (cap < 0) return HostError::Message("--cap: \"" + name + "\" is not a capability");
    const uint64_t bit = uint64_t{1} << cap;
    process->caps.bounding |= bit;
    process->caps.effective |= bit;
    process->caps.permitted |= bit;
  }
  return {};
}

HostResult<BootProcess> Exec::MakeProcess(const Container& container,
                                          const std::vector<std::string>& args, bool* terminal) {
  std::vector<std::string> warnings;
  oci::Process wanted;
  if (!process_file_.empty()) {
    const std::string text = TRY(ReadFileText(process_file_));
    wanted = TRY(ParseProcess(text, process_file_, &warnings));
  } else {
    wanted = container.Spec().process();
    wanted.clear_args();
    wanted.set_terminal(tty_);
    for (size_t i = 1; i < args.size(); i++) wanted.add_args(args[i]);
    if (wanted.args_size() == 0) {
      return HostError::Message("usage: runsc exec " + std::string(arguments()));
    }
  }
  if (!cwd_.empty()) wanted.set_cwd(cwd_);
  TRY(ValidateProcess(wanted, "process."));
  BootProcess process = TRY(ToBootProcess(wanted, &warnings));
  if (container.Spec().linux().has_seccomp()) {
    TRY(CompileSeccomp(container.Spec().linux().seccomp(), &process, &warnings));
  }
  for (const std::string& variable : env_) SetVariable(process.envp, variable);
  process.no_new_privs |= no_new_privs_;
  TRY(ApplyUser(&process));
  for (const std::string& warning : warnings) fprintf(stderr, "runsc: warning: %s\n", warning.c_str());
  *terminal = wanted.terminal() || tty_;
  return process;
}

// Waits for the process while signals go to it. Preconditions: they are blocked.
HostResult<int> WaitAttached(ControlClient& waiter, ControlClient& signals, int32_t pid) {
  control::Request request;
  request.mutable_wait()->set_pid(pid);
  TRY(waiter.Send(request));
  sigset_t set;
  sigprocmask(SIG_SETMASK, nullptr, &set);
  UniqueFd incoming(signalfd(-1, &set, SFD_CLOEXEC));
  if (!incoming) return HostError::Last("watch for signals");
  ForgetCode();
  malloc_trim(0);
  while (true) {
    pollfd wait[2] = {{waiter.fd(), POLLIN, 0}, {incoming.get(), POLLIN, 0}};
    if (poll(wait, 2, -1) < 0) continue;
    if (wait[1].revents != 0) {
      signalfd_siginfo info;
      if (::read(incoming.get(), &info, sizeof(info)) == sizeof(info) &&
          info.ssi_signo != SIGCHLD) {
        SendForwardedSignal(signals.fd(), static_cast<int>(info.ssi_signo), pid);
      }
    }
    if (wait[0].revents == 0) continue;
    HostResult<control::Response> response = waiter.Receive();
    if (!response.ok()) {
      return HostError::Message("the sandbox ended while the program ran");
    }
    if (response->error() != 0) {
      return HostError::WithErrno(response->error(), "wait for the program");
    }
    return ShellExitCode(response->wait_status());
  }
}

// A host process that stands for the one inside: an engine reaps it and takes its exit status.
// With a `terminal` it leads that one's session, so that what is typed reaches the program.
HostResult<pid_t> ForkProxy(ControlClient& waiter, ControlClient& signals, int32_t pid,
                            const UniqueFd& terminal) {
  const pid_t proxy = fork();
  if (proxy < 0) return HostError::Last("start a process");
  if (proxy > 0) return proxy;
  setsid();
  if (terminal) ioctl(terminal.get(), TIOCSCTTY, 0);
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  CloseAllBut(null.get(), {waiter.fd(), signals.fd()});
  HostResult<int> code = WaitAttached(waiter, signals, pid);
  _exit(code.ok() ? *code : kExitSandboxDied);
}

HostResult<int> Exec::Run(Config& config, const std::vector<std::string>& args) {
  Container container = TRY(Container::Load(config, args[0]));
  if (container.Status() != ContainerStatus::kRunning) {
    return HostError::Message("container " + args[0] + " is " +
                              ContainerStatusName(container.Status()) + ", not running");
  }
  bool terminal = false;
  BootProcess process = TRY(MakeProcess(container, args, &terminal));
  if (terminal && !console_socket_.empty()) {
    TRY(SetUpConsole(console_socket_, &process));
  } else {
    if (terminal && detach_) {
      return HostError::Message("--tty with --detach needs --console-socket");
    }
    TRY(PassStdio(preserve_fds_, passed_fds_, &process));
  }
  if (!exec_fd_.empty()) return HostError::Message("--exec-fd is not supported");
  BlockForwardedSignals();
  ControlClient waiter = TRY(container.Connect());
  ControlClient signals = TRY(container.Connect());
  control::Request request;
  std::vector<int> fds;
  ToProto(process, request.mutable_exec()->mutable_process(), &fds);
  control::Response response = TRY(waiter.Call(request, fds));
  if (response.error() != 0) {
    const HostError error =
        response.text().empty() ? HostError::WithErrno(response.error(), "run", process.argv[0])
                                : HostError::Message(response.text());
    ReportError(config, error.message());
    return response.exit_code() != 0 ? response.exit_code() : kExitUsage;
  }
  UniqueFd terminal_fd;
  if (process.terminal) terminal_fd = std::move(process.stdio[0]);
  process = BootProcess();  // our copies of its descriptors
  const int32_t pid = response.pid();
  container.Unlock();
  if (!internal_pid_file_.empty()) {
    TRY(WriteFileAtomically(internal_pid_file_, std::to_string(pid)));
  }
  if (!detach_) {
    if (!pid_file_.empty()) TRY(WriteFileAtomically(pid_file_, std::to_string(getpid())));
    return WaitAttached(waiter, signals, pid);
  }
  if (!pid_file_.empty()) {
    const pid_t proxy = TRY(ForkProxy(waiter, signals, pid, terminal_fd));
    TRY(WriteFileAtomically(pid_file_, std::to_string(proxy)));
  }
  return 0;
}

}  // namespace

std::unique_ptr<Command> NewExecCommand() { return std::make_unique<Exec>(); }

}  // namespace ringwall
