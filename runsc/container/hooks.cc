#include "runsc/container/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

// Preconditions: in a fresh child.
[[noreturn]] void ExecHook(const oci::Hook& hook, int input, int output) {
  dup2(input, 0);
  dup2(output, 1);
  dup2(output, 2);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::vector<char*> argv, envp;
  if (hook.args_size() == 0) argv.push_back(const_cast<char*>(hook.path().c_str()));
  for (const std::string& arg : hook.args()) argv.push_back(const_cast<char*>(arg.c_str()));
  for (const std::string& variable : hook.env()) {
    envp.push_back(const_cast<char*>(variable.c_str()));
  }
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  execve(hook.path().c_str(), argv.data(), envp.data());
  _exit(127);
}

// The first text that the hook printed, for the error.
std::string Drain(int fd) {
  char text[512];
  const ssize_t n = RetryEintr([&] { return ::read(fd, text, sizeof(text)); });
  std::string out(text, n > 0 ? static_cast<size_t>(n) : 0);
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out.empty() ? "" : ": " + out;
}

HostResult<void> RunHook(const oci::Hook& hook, const std::string& what,
                         const std::string& state_json) {
  UniqueFd input(memfd_create("state", MFD_CLOEXEC)), output(memfd_create("output", MFD_CLOEXEC));
  if (!input || !output ||
      ::write(input.get(), state_json.data(), state_json.size()) !=
          static_cast<ssize_t>(state_json.size()) ||
      lseek(input.get(), 0, SEEK_SET) != 0) {
    return HostError::Last("hand the state to the hook");
  }
  const pid_t pid = fork();
  if (pid < 0) return HostError::Last("start the hook", hook.path());
  if (pid == 0) ExecHook(hook, input.get(), output.get());
  UniqueFd handle(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (handle && hook.has_timeout()) {
    pollfd wait = {handle.get(), POLLIN, 0};
    if (RetryEintr([&] { return poll(&wait, 1, hook.timeout() * 1000); }) == 0) {
      kill(pid, SIGKILL);
      RetryEintr([&] { return waitpid(pid, nullptr, 0); });
      return HostError::Message(what + " took longer than " + std::to_string(hook.timeout()) +
                                " seconds");
    }
  }
  int status = 0;
  RetryEintr([&] { return waitpid(pid, &status, 0); });
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  lseek(output.get(), 0, SEEK_SET);
  return HostError::Message(what + " failed with " +
                            (WIFEXITED(status) ? "exit code " + std::to_string(WEXITSTATUS(status))
                                               : "signal " + std::to_string(WTERMSIG(status))) +
                            Drain(output.get()));
}

}  // namespace

HostResult<void> RunHooks(const google::protobuf::RepeatedPtrField<oci::Hook>& hooks,
                          const char* kind, const std::string& state_json) {
  for (const oci::Hook& hook : hooks) {
    TRY(RunHook(hook, std::string("the ") + kind + " hook " + hook.path(), state_json));
  }
  return {};
}

}  // namespace ringwall
