#include "runsc/sandbox/attached.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "runsc/boot/control.h"
#include "runsc/sandbox/net_helper.h"
#include "sentry/base/resident.h"

namespace ringwall {
namespace {

// All but those that cannot be caught and those that say our own code is broken.
sigset_t ForwardedSignals() {
  sigset_t set;
  sigfillset(&set);
  for (const int signal : {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP,
                           SIGSYS, SIGTTIN, SIGTTOU, SIGCONT}) {
    sigdelset(&set, signal);
  }
  return set;
}

// Puts the terminal back as it was when the program could not do so itself.
class TerminalKeeper {
 public:
  TerminalKeeper() {
    for (int fd = 0; fd <= 2 && fd_ < 0; fd++) {
      if (tcgetattr(fd, &saved_) == 0) fd_ = fd;
    }
  }
  void Restore() {
    if (fd_ >= 0) tcsetattr(fd_, TCSANOW, &saved_);
  }

 private:
  int fd_ = -1;
  termios saved_ = {};
};

}  // namespace

void BlockForwardedSignals() {
  const sigset_t set = ForwardedSignals();
  sigprocmask(SIG_SETMASK, &set, nullptr);
}

int RunAttached(SandboxProcess& sandbox, std::string* error) {
  TerminalKeeper terminal;
  const sigset_t set = ForwardedSignals();
  int wait_status = 0;
  ForgetCode();
  malloc_trim(0);
  while (true) {
    siginfo_t info;
    const int signal = sigwaitinfo(&set, &info);
    if (signal < 0) continue;  // EINTR: stopped and continued
    if (signal == SIGCHLD) {
      if (waitpid(sandbox.pid, &wait_status, WNOHANG) == sandbox.pid) break;
      continue;
    }
    SendForwardedSignal(sandbox.control.get(), signal);
  }
  AwaitNetHelper(sandbox.net_helper);
  std::string death;
  int code = ExitCodeOf(wait_status, &death);
  if (!death.empty()) terminal.Restore();
  // What the Sentry or the gofer said before the end explains it better than the signal does.
  const int flags = fcntl(sandbox.status.get(), F_GETFL);
  fcntl(sandbox.status.get(), F_SETFL, flags | O_NONBLOCK);
  while (std::optional<StatusPipe::Message> message = StatusPipe::Read(sandbox.status.get())) {
    if (message->kind != StatusPipe::Message::Kind::kFail) continue;
    *error += (error->empty() ? "" : "; ") + message->text;
    if (WIFSIGNALED(wait_status)) code = message->exit_code;
  }
  if (error->empty()) *error = death;
  return code;
}

}  // namespace ringwall
