#include "runsc/sandbox/terminal_keeper.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runsc/boot/control.h"
#include "runsc/filter/filter.h"
#include "runsc/sandbox/layers.h"
#include "runsc/sandbox/privileges.h"
#include "sentry/base/log.h"

namespace ringwall {
namespace {

constexpr FilterRule kRules[] = {
    Allow(SYS_read, "which signals came"),
    Allow(SYS_poll, "waiting for them, and for the Sentry's end"),
    Allow(SYS_ppoll, "the same"),
    Allow(SYS_sendmmsg, "telling the Sentry"),
    Allow(SYS_brk, "the message's memory"),
    Allow(SYS_mmap, ArgWithin(2, PROT_READ | PROT_WRITE), "the same"),
    Allow(SYS_munmap, "the same"),
    Allow(SYS_exit_group, "its end"),
#if defined(__SANITIZE_ADDRESS__) || defined(RINGWALL_TSAN)
    Allow(SYS_pipe2, "the sanitizer asks whether memory may be read"),
    Allow(SYS_write, "the same"),
    Allow(SYS_close, "the same"),
    Allow(SYS_getpid, "the number before each line of its reports"),
    Allow(SYS_madvise, "TSan says so of each piece of its shadow"),
#endif
};

sigset_t TerminalSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGWINCH, SIGCONT}) {
    sigaddset(&set, signal);
  }
  return set;
}

}  // namespace

std::span<const FilterRule> TerminalKeeperFilterRules() { return kRules; }

void KeepTerminal(int terminal, int socket) {
  const sigset_t set = TerminalSignals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  UniqueFd incoming(signalfd(-1, &set, SFD_CLOEXEC));
  setsid();
  if (!incoming || ioctl(terminal, TIOCSCTTY, 0) != 0) _exit(1);
  // Opened, it would keep the terminal's other end from seeing the last user go.
  close(terminal);
  if (!InstallFilter(kRules, false).ok()) _exit(1);
  while (true) {
    pollfd wait[2] = {{incoming.get(), POLLIN, 0}, {socket, 0, 0}};
    if (poll(wait, 2, -1) < 0) continue;
    if (wait[1].revents != 0) _exit(0);
    signalfd_siginfo info;
    if (::read(incoming.get(), &info, sizeof(info)) != sizeof(info)) continue;
    // SIGCONT comes beside SIGHUP only; nobody typed it.
    if (info.ssi_signo != SIGCONT) SendForwardedSignal(socket, static_cast<int>(info.ssi_signo));
  }
}

void StartTerminalKeeper(int terminal, UniqueFd socket, int null, const IdMaps& maps) {
  if (CloneProcess(0) == 0) {
    DieWithParent();
    prctl(PR_SET_NAME, "runsc-terminal", 0, 0, 0);
    Layers layers;
    UnshareMounts(layers);
    EnterEmptyRoot(layers);
    LimitResources(layers);
    GiveUpPrivileges(0, true, maps, layers);
    DieWithParent();  // a change of user undid the first
    CloseAllBut(null, {terminal, socket.get()});
    KeepTerminal(terminal, socket.get());
  }
}

}  // namespace ringwall
