// Sessions and controlling terminals: two terminals, two sessions of three processes each, which one after the
// other call what their turn has in store. After each call every process tells of its signals. None of them
// stops, since all catch, block or ignore what would stop them.
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>

#include <string>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

constexpr int kActors = 6, kTerminals = 2;
constexpr int kSignals[] = {SIGHUP, SIGINT, SIGQUIT, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH};
constexpr unsigned kTiocsig = 0x40045436;

// What a process is asked to do, and its answer.
enum Order : int {
  kTell, kTake, kIoctl, kIoctlGroup, kRead, kWrite, kSetPgid, kSetSid, kOpen, kDevTty, kDisposition, kUser, kExit, kTcsets, kClose, kHangup
};
struct Request {
  Order order;
  int terminal = -1;  // -1: /dev/tty, opened for the call
  bool master = false;
  unsigned long number = 0;
  long argument = 0;
  pid_t pids[kActors] = {};
};
struct Answer {
  long result;
  int error;
  long value;
  uint32_t caught, pending;  // bits of kSignals
};

int masters[kTerminals] = {-1, -1}, slaves[kTerminals] = {-1, -1};
char names[kTerminals][64];
volatile sig_atomic_t caught[std::size(kSignals)];
void Count(int signo) {
  for (size_t i = 0; i < std::size(kSignals); i++) {
    if (kSignals[i] == signo) caught[i] = 1;
  }
}

// --- A process of a session.

struct Actor {
  pid_t pid;
  int channel;
};
Actor actors[kActors] = {{0, -1}, {0, -1}, {0, -1}, {0, -1}, {0, -1}, {0, -1}};
int channel;

void SendAll(int fd, const void* data, size_t n, const int* fds, size_t count) {
  iovec iov = {const_cast<void*>(data), n};
  msghdr msg = {};
  msg.msg_iov = &iov, msg.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 2)] = {};
  if (count != 0) {
    msg.msg_control = control, msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* const c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
  }
  while (sendmsg(fd, &msg, 0) < 0 && errno == EINTR) {}
}
// False: the other end is gone.
bool ReceiveAll(int fd, void* data, size_t n, int* fds) {
  iovec iov = {data, n};
  msghdr msg = {};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 2)] = {};
  msg.msg_iov = &iov, msg.msg_iovlen = 1, msg.msg_control = control, msg.msg_controllen = sizeof(control);
  ssize_t r;
  do {
    r = recvmsg(fd, &msg, 0);
  } while (r < 0 && errno == EINTR);
  if (r != static_cast<ssize_t>(n)) return false;
  if (cmsghdr* const c = CMSG_FIRSTHDR(&msg); c != nullptr && fds != nullptr) memcpy(fds, CMSG_DATA(c), sizeof(int) * 2);
  return true;
}

long DoIoctl(const Request& q, int fd, Answer* a) {
  switch (q.number) {
    case TIOCGPGRP:
    case TIOCGSID: {
      pid_t id = -1;
      const int r = ioctl(fd, q.number, &id);
      a->value = r == 0 && id == 0 ? 0 : -1;
      for (int i = 0; i < kActors; i++) {
        if (r == 0 && id == q.pids[i]) a->value = i + 1;
      }
      return r;
    }
    case TIOCSPGRP: {
      const pid_t id = static_cast<pid_t>(q.argument);
      return ioctl(fd, q.number, &id);
    }
    case TIOCSWINSZ: {
      const winsize size = {static_cast<uint16_t>(q.argument), 80, 0, 0};
      return ioctl(fd, q.number, &size);
    }
    case TIOCGEXCL: {
      int on = -1;
      const int r = ioctl(fd, q.number, &on);
      a->value = on;
      return r;
    }
    default:
      return ioctl(fd, q.number, q.argument);
  }
}

long SetTermios(int fd, long argument) {
  termios t;
  if (tcgetattr(fd, &t) != 0) return -1;
  t.c_lflag = (t.c_lflag & ~static_cast<tcflag_t>(TOSTOP)) | ((argument & 1) != 0 ? TOSTOP : 0);
  return ioctl(fd, (argument & 2) != 0 ? TCSETSF : TCSETS, &t);
}

long Perform(const Request& q, Answer* a) {
  int fd = q.terminal < 0 ? -1 : q.master ? masters[q.terminal] : slaves[q.terminal];
  bool opened = false;
  if (q.terminal < 0 && q.order != kTell && q.order != kSetPgid && q.order != kSetSid && q.order != kDisposition &&
      q.order != kUser && q.order != kExit && q.order != kHangup) {
    fd = open("/dev/tty", O_RDWR | O_NONBLOCK | O_CLOEXEC | static_cast<int>(q.order == kDevTty ? q.argument : 0));
    if (fd < 0) return -2;
    opened = true;
  }
  long r = 0;
  char room[64];
  switch (q.order) {
    case kIoctl: r = DoIoctl(q, fd, a); break;
    case kRead: r = read(fd, room, sizeof(room)); break;
    case kWrite: r = write(fd, "o", 1); break;
    case kSetPgid: r = setpgid(static_cast<pid_t>(q.number), static_cast<pid_t>(q.argument)); break;
    case kSetSid: r = setsid() < 0 ? -1 : 0; break;
    case kOpen:
      r = open(names[q.terminal], O_RDWR | O_NONBLOCK | O_CLOEXEC | static_cast<int>(q.argument));
      if (r >= 0) close(static_cast<int>(r)), r = 0;
      break;
    case kTcsets: r = SetTermios(fd, q.argument); break;
    case kDisposition: {
      struct sigaction act = {};
      act.sa_handler = q.argument == 1 ? SIG_IGN : Count;
      sigaction(static_cast<int>(q.number), &act, nullptr);
      sigset_t set;
      sigemptyset(&set), sigaddset(&set, static_cast<int>(q.number));
      sigprocmask(q.argument == 2 ? SIG_BLOCK : SIG_UNBLOCK, &set, nullptr);
      break;
    }
    case kUser: r = syscall(SYS_setresuid, -1, q.argument, -1); break;
    case kHangup: r = syscall(SYS_vhangup); break;
    default: break;
  }
  const int error = errno;
  if (opened) close(fd);
  errno = error;
  return r;
}

[[noreturn]] void Act() {
  for (const int signo : kSignals) {
    struct sigaction act = {};
    act.sa_handler = Count;
    sigaction(signo, &act, nullptr);
  }
  Request q;
  int fds[2];
  while (ReceiveAll(channel, &q, sizeof(q), fds)) {
    Answer a = {};
    if (q.order == kTake) {
      masters[q.terminal] = fds[0], slaves[q.terminal] = fds[1];
      strcpy(names[q.terminal], ptsname(fds[0]));
    } else if (q.order == kClose) {
      if (q.master) close(masters[q.terminal]), masters[q.terminal] = -1;
      if (!q.master) close(slaves[q.terminal]), slaves[q.terminal] = -1;
    } else if (q.order == kExit) {
      _exit(0);
    } else if (q.order == kTell) {
      sigset_t set;
      sigpending(&set);
      for (size_t i = 0; i < std::size(kSignals); i++) {
        if (caught[i] != 0) a.caught |= 1u << i;
        if (sigismember(&set, kSignals[i])) a.pending |= 1u << i;
        caught[i] = 0;
      }
    } else {
      errno = 0;
      a.result = Perform(q, &a);
      a.error = errno;
    }
    SendAll(channel, &a, sizeof(a), nullptr, 0);
  }
  _exit(0);
}

// --- Who gives the orders.

Answer Ask(int actor, Request q, const int* fds = nullptr) {
  Answer a = {};
  for (int i = 0; i < kActors; i++) q.pids[i] = actors[i].pid;
  if (actors[actor].channel < 0) return a;
  SendAll(actors[actor].channel, &q, sizeof(q), fds, fds == nullptr ? 0 : 2);
  ReceiveAll(actors[actor].channel, &a, sizeof(a), nullptr);
  return a;
}
void Tell() {
  for (int i = 0; i < kActors; i++) {
    const Answer a = Ask(i, {.order = kTell, .terminal = -1});
    static uint32_t last[kActors];
    if (a.caught == 0 && a.pending == last[i]) continue;
    last[i] = a.pending;
    printf(" %c:", 'A' + i);
    for (size_t s = 0; s < std::size(kSignals); s++) {
      if ((a.caught & 1u << s) != 0) printf(" %s", sigabbrev_np(kSignals[s]));
    }
    for (size_t s = 0; s < std::size(kSignals); s++) {
      if ((a.pending & 1u << s) != 0) printf(" (%s)", sigabbrev_np(kSignals[s]));
    }
  }
  printf("\n");
}
void Show(const Answer& a) {
  if (a.result == -2) printf(" no /dev/tty: %s", strerrorname_np(a.error));
  else if (a.result < 0) printf(" %s", strerrorname_np(a.error));
  else printf(" %ld %ld", a.result, a.value);
  Tell();
}

void NewTerminal(int which) {
  openpty(&masters[which], &slaves[which], nullptr, nullptr, nullptr);
  fcntl(masters[which], F_SETFL, O_RDWR | O_NONBLOCK), fcntl(slaves[which], F_SETFL, O_RDWR | O_NONBLOCK);
  const int both[2] = {masters[which], slaves[which]};
  for (int i = 0; i < kActors; i++) Ask(i, {.order = kTake, .terminal = which}, both);
}

// A and D lead sessions; B, C and E, F are their children.
void Begin() {
  int ends[kActors][2];
  for (auto& pair : ends) (void)!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
  int pids[2];
  (void)!pipe(pids);
  for (int leader = 0; leader < kActors; leader += 3) {
    if (fork() == 0) {
      setsid();
      int me = leader;
      for (int child = leader + 1; child < leader + 3; child++) {
        if (fork() == 0) {
          me = child;
          break;
        }
      }
      const pid_t told[2] = {me, getpid()};
      (void)!write(pids[1], told, sizeof(told));
      channel = ends[me][1];
      for (int i = 0; i < kActors; i++) close(ends[i][0]);
      for (int i = 0; i < kActors; i++) {
        if (i != me) close(ends[i][1]);
      }
      close(pids[0]), close(pids[1]);
      Act();
    }
  }
  for (int i = 0; i < kActors; i++) {
    pid_t told[2];
    (void)!read(pids[0], told, sizeof(told));
    actors[told[0]] = {told[1], ends[told[0]][0]};
  }
  for (auto& pair : ends) close(pair[1]);
  close(pids[0]), close(pids[1]);
  for (int i = 0; i < kTerminals; i++) {
    NewTerminal(i);
    if (!OneIn(3)) Ask(3 * i, {.order = kIoctl, .terminal = i, .number = TIOCSCTTY});
  }
}
void Leave(int actor) {
  if (actors[actor].channel < 0) return;
  Request q = {.order = kExit, .terminal = -1};
  SendAll(actors[actor].channel, &q, sizeof(q), nullptr, 0);
  Answer a;
  ReceiveAll(actors[actor].channel, &a, sizeof(a), nullptr);  // closed when it ends ...
  close(actors[actor].channel), actors[actor].channel = -1;
  // ... and whoever collects it sees it gone: a child of a living leader is not ours.
  const bool own = actor % 3 == 0 || actors[actor / 3 * 3].channel < 0;
  while (own && waitpid(actors[actor].pid, nullptr, 0) < 0 && errno == EINTR) {}
}
void End() {
  for (const int i : {0, 3, 1, 2, 4, 5}) Leave(i);
  for (int i = 0; i < kTerminals; i++) close(masters[i]), close(slaves[i]);
  while (waitpid(-1, nullptr, WNOHANG) > 0) {}
}

int Someone() {
  int who = static_cast<int>(Below(kActors));
  while (actors[who].channel < 0) who = (who + 1) % kActors;
  return who;
}
struct Where {
  int terminal;
  bool master;
};
Where Somewhere() {
  const bool master = OneIn(6);
  return {OneIn(5) && !master ? -1 : static_cast<int>(Below(kTerminals)), master};
}
void Announce(int who, const char* what, Where where) {
  Say("%c: %s", 'A' + who, what);
  if (where.terminal < 0) printf(" on /dev/tty");
  else printf(" on %s %d", where.master ? "master" : "slave", where.terminal);
}

void Control() {
  const int who = Someone();
  const Where where = Somewhere();
  const long steal = Pick(0, 0, 1);
  const bool leave = OneIn(4);
  Announce(who, leave ? "TIOCNOTTY" : steal ? "TIOCSCTTY 1" : "TIOCSCTTY", where);
  Show(Ask(who, {.order = kIoctl, .terminal = where.terminal, .master = where.master, .number = leave ? TIOCNOTTY + 0ul : TIOCSCTTY, .argument = steal}));
}
void Foreground() {
  const int who = Someone(), whose = static_cast<int>(Below(kActors));
  const Where where = Somewhere();
  const bool odd = OneIn(6);
  const long id = odd ? Pick(0, -1, 1 << 22) : actors[whose].pid;
  Announce(who, "TIOCSPGRP", where);
  odd ? printf(" %ld", id) : printf(" %c", 'A' + whose);
  Show(Ask(who, {.order = kIoctl, .terminal = where.terminal, .master = where.master, .number = TIOCSPGRP, .argument = id}));
}
void AskJobs() {
  const int who = Someone();
  const Where where = Somewhere();
  const bool session = OneIn(2);
  Announce(who, session ? "TIOCGSID" : "TIOCGPGRP", where);
  Show(Ask(who, {.order = kIoctl, .terminal = where.terminal, .master = where.master, .number = session ? TIOCGSID + 0ul : TIOCGPGRP}));
}
void OtherIoctl() {
  static const struct {
    const char* name;
    unsigned long number;
    long argument;
  } all[] = {{"TCFLSH", TCFLSH, TCIFLUSH}, {"TCFLSH", TCFLSH, 9}, {"TCSBRK", TCSBRK, 1}, {"TCSBRKP", TCSBRKP, 0}, {"TCXONC", TCXONC, TCOON}, {"TCXONC", TCXONC, 9},
             {"TIOCSWINSZ", TIOCSWINSZ, 1}, {"TIOCSWINSZ", TIOCSWINSZ, 2}, {"TIOCSIG", kTiocsig, SIGINT}, {"TIOCSIG", kTiocsig, SIGTERM},
             {"TIOCEXCL", TIOCEXCL, 0}, {"TIOCNXCL", TIOCNXCL, 0}, {"TIOCGEXCL", TIOCGEXCL, 0}, {"TIOCSBRK", TIOCSBRK, 0}, {"TIOCVHANGUP", TIOCVHANGUP, 0}};
  const int who = Someone();
  const Where where = Somewhere();
  const auto& one = all[Below(static_cast<uint32_t>(std::size(all)))];
  if (one.number == TIOCVHANGUP && !OneIn(3)) return;
  Announce(who, one.name, where);
  printf(" %ld", one.argument);
  Show(Ask(who, {.order = kIoctl, .terminal = where.terminal, .master = where.master, .number = one.number, .argument = one.argument}));
}
void Settings() {
  const int who = Someone();
  const Where where = Somewhere();
  const long how = static_cast<long>(Below(4));
  Announce(who, "termios", where);
  printf(" %ld", how);
  Show(Ask(who, {.order = kTcsets, .terminal = where.terminal, .master = where.master, .argument = how}));
}
void ReadOrWrite() {
  const int who = Someone();
  Where where = Somewhere();
  where.master = false;
  const bool reads = OneIn(2);
  Announce(who, reads ? "read" : "write", where);
  Show(Ask(who, {.order = reads ? kRead : kWrite, .terminal = where.terminal}));
  char room[256];
  for (const int master : masters) {
    while (read(master, room, sizeof(room)) > 0) {}
  }
}
void Renew(int terminal) {
  for (int i = 0; i < kActors; i++) Ask(i, {.order = kClose, .terminal = terminal, .master = true}), Ask(i, {.order = kClose, .terminal = terminal});
  close(masters[terminal]), close(slaves[terminal]);
  NewTerminal(terminal);
}
void Type() {
  const int terminal = static_cast<int>(Below(kTerminals));
  // Of a terminal that hung up one cannot wait for what was typed.
  pollfd ends[2] = {{slaves[terminal], 0, 0}, {masters[terminal], 0, 0}};
  poll(ends, 2, 0);
  if (((ends[0].revents | ends[1].revents) & POLLHUP) != 0) {
    Say("%d hung up: %#x %#x\n", terminal, ends[0].revents, ends[1].revents);
    return Renew(terminal);
  }
  const char c = static_cast<char>(Pick(3, 28, 26, '\n'));
  Say("type %d on %d", c, terminal);
  // Polling waits for what is on its way only while there is nothing else.
  char room[64];
  while (read(slaves[terminal], room, sizeof(room)) > 0) {}
  (void)!write(masters[terminal], &c, 1);
  pollfd p = {slaves[terminal], POLLIN, 0};
  poll(&p, 1, 0);
  Tell();
}
void Groups() {
  const int who = Someone(), whom = static_cast<int>(Below(kActors)), group = static_cast<int>(Below(kActors));
  if (OneIn(12)) {
    Say("%c: setsid", 'A' + who);
    Show(Ask(who, {.order = kSetSid, .terminal = -1}));
    return;
  }
  const bool own = OneIn(2);
  Say("%c: setpgid %c %c", 'A' + who, 'A' + whom, own ? '0' : 'A' + group);
  Show(Ask(who, {.order = kSetPgid, .terminal = -1, .number = static_cast<unsigned long>(actors[whom].pid), .argument = own ? 0 : actors[group].pid}));
}
void Open() {
  const int who = Someone(), terminal = static_cast<int>(Below(kTerminals));
  const long flags = OneIn(3) ? O_NOCTTY : 0;
  Say("%c: open %d %s", 'A' + who, terminal, flags ? "O_NOCTTY" : "");
  Show(Ask(who, {.order = kOpen, .terminal = terminal, .argument = flags}));
}
void OpenDevTty() {
  const int who = Someone();
  Say("%c: open /dev/tty", 'A' + who);
  Show(Ask(who, {.order = kDevTty, .terminal = -1, .argument = Pick(0, O_NOCTTY)}));
}
void Disposition() {
  const int who = Someone(), signo = Pick(SIGTTIN, SIGTTOU), how = Pick(0, 0, 1, 2);
  Say("%c: %s is %s", 'A' + who, sigabbrev_np(signo), how == 0 ? "caught" : how == 1 ? "ignored" : "blocked");
  Show(Ask(who, {.order = kDisposition, .terminal = -1, .number = static_cast<unsigned long>(signo), .argument = how}));
}
void User() {
  const int who = Someone();
  const long id = Pick(0, 0, 65534);
  Say("%c: user %ld", 'A' + who, id);
  Show(Ask(who, {.order = kUser, .terminal = -1, .argument = id}));
}
void Hangup() {
  if (!OneIn(4)) return;
  const int who = Someone();
  Say("%c: vhangup", 'A' + who);
  Show(Ask(who, {.order = kHangup, .terminal = -1}));
}
// The emulator goes: all close the master.
void CloseMaster() {
  if (!OneIn(3)) return;
  const int terminal = static_cast<int>(Below(kTerminals));
  Say("the master %d is closed", terminal);
  for (int i = 0; i < kActors; i++) Ask(i, {.order = kClose, .terminal = terminal, .master = true});
  close(masters[terminal]);
  Tell();
  const int who = Someone();
  Say("%c: read on its slave", 'A' + who);
  Show(Ask(who, {.order = kRead, .terminal = terminal}));
  Say("%c: TIOCSPGRP on its slave", 'A' + who);
  Show(Ask(who, {.order = kIoctl, .terminal = terminal, .number = TIOCSPGRP}));
  Say("%c: TIOCGSID on its slave", 'A' + who);
  Show(Ask(who, {.order = kIoctl, .terminal = terminal, .number = TIOCGSID}));
  Say("%c: TCXONC on its slave", 'A' + who);
  Show(Ask(who, {.order = kIoctl, .terminal = terminal, .number = TCXONC, .argument = TCOON}));
  for (int i = 0; i < kActors; i++) Ask(i, {.order = kClose, .terminal = terminal});
  close(slaves[terminal]);
  NewTerminal(terminal);
}
void LeaderLeaves() {
  if (!OneIn(3)) return;
  const int leader = Pick(0, 3);
  Say("%c ends", 'A' + leader);
  Leave(leader);
  Tell();
}
void Again() {
  if (!OneIn(3)) return;
  Say("all end\n");
  End();
  Begin();
}

constexpr Step kSteps[] = {Control, Control, Control, Control, Foreground, Foreground, Foreground, AskJobs, AskJobs, OtherIoctl, OtherIoctl, Settings, ReadOrWrite, ReadOrWrite, ReadOrWrite, Type, Type, Groups, Groups, Open, OpenDevTty, Disposition, User, Hangup, CloseMaster, LeaderLeaves, Again};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  setvbuf(stdout, nullptr, _IOFBF, 1 << 16);
  if (fork() != 0) {
    int status = 0;
    wait(&status);
    return status != 0;
  }
  setsid();
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  Begin();
  const int result = RunSteps(argc, argv, kSteps);
  End();
  return result;
}
