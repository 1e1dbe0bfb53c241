// Random calls on processes: clone's arguments, waits, groups and sessions, priorities and schedulers, limits,
// others' memory and descriptors, and tracers. The children are told what to do and answer.
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

constexpr int kKids = 4;
struct Kid {
  pid_t pid = 0;  // 0: none
  int channel = -1, pidfd = -1;
  bool traced = false;
} kids[kKids];
pid_t self, lent;  // and the last child that only ended
char room[8192];   // at the same place in every child
char own[1024];
char* program;

// A call of clone3 whose child ends at once and touches no memory.
extern "C" long CloneAndExit(const void* args, size_t size);
asm(".text\nCloneAndExit:\n mov $435, %eax\n syscall\n test %rax, %rax\n jnz 1f\n mov $3, %edi\n mov $60, %eax\n syscall\n1: ret\n");
extern "C" long OldCloneAndExit(uint64_t flags, void* stack, int* parent, int* child, uint64_t tls);
asm(".text\nOldCloneAndExit:\n mov %rcx, %r10\n mov $56, %eax\n syscall\n test %rax, %rax\n jnz 1f\n mov $3, %edi\n mov $60, %eax\n syscall\n1: ret\n");
long Raw(long result) {  // as syscall() gives it
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}

const char* Name(pid_t pid) {
  static const char* const names[] = {"k0", "k1", "k2", "k3"};
  for (int i = 0; i < kKids; i++)
    if (pid != 0 && pid == kids[i].pid) return names[i];
  if (pid == 0 || pid == -1) return pid == 0 ? "0" : "-1";
  return pid == self ? "self" : pid == getppid() ? "parent" : pid == lent ? "lent" : "other";
}
// A number that is a process identifier when it is positive.
void PidResult(long r) {
  if (r <= 0) return Result(r);
  printf(" = %s\n", Name(static_cast<pid_t>(r)));
}
constexpr pid_t kNobody = 1 << 24;
pid_t AnyPid() {
  const pid_t kid = kids[Below(kKids)].pid;
  return OneIn(12) ? Pick(0, -1, kNobody, -5) : OneIn(8) ? self : kid != 0 ? kid : kNobody;
}
const char* NameOfArgument(pid_t pid) { return pid == kNobody ? "nobody" : pid == -5 ? "-5" : Name(pid); }

// What the children do when they are told.
struct Order {
  char call;
  long a, b, c;
};
struct Answer {
  long result;
  int error;
};
long Obey(const Order& order) {
  switch (order.call) {
    case 'e': syscall(SYS_exit_group, order.a); return 0;
    case 's': return setsid();
    case 'g': return setpgid(static_cast<pid_t>(order.a), static_cast<pid_t>(order.b));
    case 'G': return getpgid(static_cast<pid_t>(order.a));
    case 'S': return getsid(static_cast<pid_t>(order.a));
    case 'P': return getppid();
    case 'k': return kill(getpid(), static_cast<int>(order.a));
    case 'd': return prctl(PR_SET_DUMPABLE, order.a);
    case 'u': return syscall(SYS_setresuid, order.a, order.a, order.a);
    case 't': return ptrace(PTRACE_TRACEME, 0, 0, 0);
    case 'p': {
      int value = 0;
      prctl(PR_SET_PDEATHSIG, order.a);
      prctl(PR_GET_PDEATHSIG, &value);
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      return value;
    }
    case 'r': return prctl(PR_SET_CHILD_SUBREAPER, order.a);
    case 'f': {  // a grandchild that ends, and maybe nobody waits
      const pid_t pid = fork();
      if (pid == 0) _exit(static_cast<int>(order.a));
      int status = 0;
      if (order.b != 0) return wait4(pid, &status, 0, nullptr) == pid ? status : -1;
      siginfo_t info;
      return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) == 0 ? info.si_status : -1;
    }
    case 'w': return waitpid(-1, nullptr, WNOHANG) > 0 ? 1 : waitpid(-1, nullptr, WNOHANG);
    case 'c': {
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, static_cast<int>(order.a));
      return sigprocmask(order.b != 0 ? SIG_BLOCK : SIG_UNBLOCK, &set, nullptr);
    }
    default: return -1;
  }
}
[[noreturn]] void Serve(int channel) {
  for (;;) {
    Order order;
    if (read(channel, &order, sizeof(order)) != sizeof(order)) _exit(0);
    if (order.call == 'x') {
      char number[16];
      snprintf(number, sizeof(number), "%d", channel);
      fcntl(channel, F_SETFD, 0);
      execl(program, program, "kid", number, nullptr);
    }
    Answer answer = {Obey(order), 0};
    if (answer.result == -1) answer.error = errno;
    if (write(channel, &answer, sizeof(answer)) != sizeof(answer)) _exit(0);
  }
}

// What is known of a child without changing it: Z, T, t, or S for anything that lives; - when it is gone.
char StateOf(pid_t pid) {
  char path[40], text[600];
  snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return '-';
  const ssize_t n = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (n <= 0) return '-';
  text[n] = 0;
  const char* after = strrchr(text, ')');
  const char state = after != nullptr ? after[2] : '?';
  return state == 'R' || state == 'D' ? 'S' : state;
}
// Zombies that a child leaves to a parent who ignores SIGCHLD are buried a moment after the child itself, and count
// in their group until then. Those of a time when it was not ignored stay, so the wait is bounded.
void WaitForBurials() {
  struct sigaction act;
  if (sigaction(SIGCHLD, nullptr, &act) != 0) return;
  if (act.sa_handler != SIG_IGN && (act.sa_flags & SA_NOCLDWAIT) == 0) return;
  char path[60], text[600];
  snprintf(path, sizeof(path), "/proc/self/task/%d/children", self);
  for (int look = 0; look < 50; look++) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    const ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n < 0) return;
    text[n] = 0;
    bool waits = false;
    char* end = nullptr;
    for (const char* at = text; const long pid = strtol(at, &end, 10); at = end)
      waits |= strcmp(Name(static_cast<pid_t>(pid)), "other") == 0 && StateOf(static_cast<pid_t>(pid)) != 'S';
    if (!waits) return;
    usleep(1000);
  }
}
// Waits until a signal that was sent has done its work.
void Settle(const Kid& kid) {
  siginfo_t info;
  const long r = waitid(P_PID, static_cast<id_t>(kid.pid), &info, WEXITED | WNOWAIT | __WALL);
  // Only what is gone is no child; anything else is told.
  if (r != 0 && errno != ECHILD) printf(" (wait: %s)", strerrorname_np(errno));
  const char state = StateOf(kid.pid);
  if (state != 'Z' && state != '-') printf(" (ended and is %c)", state);
  if (state == '-') WaitForBurials();
}
void Forget(Kid& kid) {
  if (kid.channel >= 0) close(kid.channel);
  if (kid.pidfd >= 0) close(kid.pidfd);
  kid = Kid();
}
void ForgetGone() {
  for (Kid& kid : kids)
    if (kid.pid != 0 && StateOf(kid.pid) == '-') Forget(kid);
}

void WaitWhileRunning(pid_t pid) {
  for (int i = 0; StateOf(pid) == 'S'; i++) {
    sched_yield();
    if (i == 20000) return (void)printf(" (never stopped)");
  }
}

void Make() {
  Kid& kid = kids[Below(kKids)];
  if (kid.pid != 0) return;
  int channels[2], pidfd = -1, parent_tid = 0, child_tid = 0;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channels) != 0) return;
  clone_args args = {};
  args.exit_signal = static_cast<uint64_t>(Pick(SIGCHLD, SIGCHLD, SIGCHLD, 0, SIGUSR1, SIGWINCH));
  args.pidfd = reinterpret_cast<uintptr_t>(&pidfd);
  args.parent_tid = reinterpret_cast<uintptr_t>(&parent_tid);
  args.child_tid = reinterpret_cast<uintptr_t>(&child_tid);
  for (const uint64_t bit : {uint64_t{CLONE_PIDFD}, uint64_t{CLONE_FS}, uint64_t{CLONE_PARENT_SETTID}, uint64_t{CLONE_CHILD_SETTID}, uint64_t{CLONE_CHILD_CLEARTID}, uint64_t{CLONE_SYSVSEM}, uint64_t{CLONE_CLEAR_SIGHAND}, uint64_t{CLONE_IO}, uint64_t{CLONE_PTRACE}, uint64_t{CLONE_UNTRACED}})
    if (OneIn(3)) args.flags |= bit;
  fflush(stdout);
  const long pid = syscall(SYS_clone3, &args, sizeof(args));
  if (pid == 0) {
    for (const Kid& other : kids)
      if (other.channel >= 0) close(other.channel);
    close(channels[0]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if ((args.flags & CLONE_CLEAR_SIGHAND) != 0) signal(SIGUSR1, SIG_IGN);
    Serve(channels[1]);
  }
  close(channels[1]);
  if (pid > 0) kid = {static_cast<pid_t>(pid), channels[0], pidfd, false};
  Say("clone3(%#llx, %llu)", args.flags, args.exit_signal);
  printf(" tid %s here %d pidfd %d", Name(parent_tid), child_tid, pidfd >= 0);
  PidResult(pid);
}
void Tell() {
  Kid& kid = kids[Below(kKids)];
  if (kid.pid == 0 || kid.traced || StateOf(kid.pid) != 'S') return;
  Order order = {Pick('e', 's', 's', 'g', 'g', 'g', 'G', 'S', 'P', 'k', 'k', 'd', 'u', 't', 'p', 'r', 'f', 'f', 'w', 'c', 'x', 'x'), 0, 0, 0};
  switch (order.call) {
    case 'e': order.a = Pick(0, 1, 255, 256, -1, 77); break;
    case 'g':
    case 'G':
    case 'S':
      order.a = OneIn(2) ? 0 : AnyPid();
      order.b = OneIn(2) ? 0 : AnyPid();
      break;
    case 'k': order.a = Pick(SIGTERM, SIGSEGV, SIGSTOP, SIGTSTP, SIGTTIN, SIGUSR1, SIGKILL, SIGXFSZ, SIGSYS, SIGRTMIN, SIGCHLD, SIGURG, SIGCONT, SIGQUIT, SIGPWR, SIGIO, SIGSTKFLT, SIGVTALRM); break;
    case 'd':
    case 'r': order.a = Below(3); break;
    case 'u': order.a = OneIn(3) ? 1000 : 0; break;
    case 'p': order.a = Pick(0, SIGUSR1, 64, 65, -1); break;
    case 'f': order.a = Below(10), order.b = OneIn(2); break;
    case 'c': order.a = Pick(SIGUSR1, SIGCHLD), order.b = OneIn(2); break;
    default: break;
  }
  Say("%s does %c(%s %s)", Name(kid.pid), order.call, order.call == 'g' || order.call == 'G' || order.call == 'S' ? NameOfArgument(static_cast<pid_t>(order.a)) : "", order.call == 'g' ? NameOfArgument(static_cast<pid_t>(order.b)) : "");
  if (order.call != 'g' && order.call != 'G' && order.call != 'S') printf(" %ld %ld", order.a, order.b);
  if (write(kid.channel, &order, sizeof(order)) != sizeof(order)) return Result(-1);
  for (;;) {
    pollfd p = {kid.channel, POLLIN, 0};
    // It answers, ends or stops; a stop that was told is none of the call's.
    if (poll(&p, 1, 1) > 0) {
      Answer answer;
      const ssize_t n = read(kid.channel, &answer, sizeof(answer));
      if (n == sizeof(answer)) {
        if (order.call == 't' && answer.result == 0) kid.traced = true;
        errno = answer.error;
        if (strchr("sgGSP", order.call) != nullptr) return PidResult(answer.result);
        return Result(answer.result);
      }
      WaitWhileRunning(kid.pid);
      break;
    }
    siginfo_t info;
    info.si_pid = 0;
    if (waitid(P_PID, static_cast<id_t>(kid.pid), &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) != 0) break;
    if (StateOf(kid.pid) != 'S') break;
  }
  printf(" is %c\n", StateOf(kid.pid));
  if (StateOf(kid.pid) != 'S' || order.call == 'k') {
    // Its answer would come later: it is not talked to again.
    kill(kid.pid, SIGKILL);
    Settle(kid);
  }
}
void Signal() {
  Kid& kid = kids[Below(kKids)];
  const pid_t pid = kid.pid != 0 && !OneIn(10) ? kid.pid : Pick(kNobody, -kNobody);
  const int signal = Pick(0, SIGSTOP, SIGSTOP, SIGCONT, SIGCONT, SIGKILL, SIGUSR1, 65, -1, SIGTERM, SIGCHLD, SIGWINCH);
  const char before = kid.pid == pid ? StateOf(pid) : '-';
  if (signal == SIGTERM && before != 'S') return;
  siginfo_t info = {};
  info.si_signo = signal;
  info.si_code = Pick(SI_QUEUE, SI_USER, SI_TKILL, 3);
  const uint32_t kind = Below(7);
  const int flags = kind == 4 && OneIn(2) ? Pick(1, 2, 4, 8, 3) : 0;
  if (flags == 4) return;
  long r;
  switch (kind) {
    case 0: r = kill(pid, signal); break;
    case 1: r = kill(-pid, signal); break;
    case 2: r = syscall(SYS_tkill, pid, signal); break;
    case 3: r = syscall(SYS_tgkill, OneIn(3) ? self : pid, pid, signal); break;
    case 4: r = syscall(SYS_pidfd_send_signal, kid.pidfd, signal, OneIn(2) ? &info : nullptr, flags); break;
    case 5: r = syscall(SYS_rt_sigqueueinfo, pid, signal, &info); break;
    default: r = syscall(SYS_rt_tgsigqueueinfo, pid, OneIn(3) ? self : pid, signal, &info); break;
  }
  if (r == 0 && before != '-' && before != 'Z' && kind != 1) {
    if (signal == SIGTERM && kid.traced) kill(pid, SIGKILL);
    if (signal == SIGKILL || signal == SIGTERM) Settle(kid);
    if (before == 'S' && (signal == SIGSTOP || (kid.traced && signal != 0))) WaitWhileRunning(pid);
  }
  Say("send %u (%s, %d, code %d, %d) was %c", kind, kid.pid == pid ? Name(pid) : "none", signal, info.si_code, flags, before);
  Result(r);
  // Whole groups are not waited for: who may have been hit ends.
  if (kind == 1 && r == 0)
    for (Kid& other : kids)
      if (other.pid != 0 && signal != 0) {
        kill(other.pid, SIGKILL);
        Settle(other);
      }
}
void Wait() {
  const int type = OneIn(10) ? Pick(-1, 4, 100) : Pick(P_ALL, P_PID, P_PID, P_PID, P_PGID, P_PIDFD);
  const Kid& kid = kids[Below(kKids)];
  const id_t id = type == P_PIDFD ? static_cast<id_t>(OneIn(6) ? 99 : kid.pidfd) : OneIn(8) ? Pick(0u, static_cast<id_t>(-1), static_cast<id_t>(kNobody)) : static_cast<id_t>(kid.pid);
  int options = WNOHANG;
  for (const int bit : {WEXITED, WSTOPPED, WCONTINUED})
    if (OneIn(2)) options |= bit;
  if (OneIn(3)) options |= WNOWAIT;
  if (OneIn(5)) options |= Pick(static_cast<int>(0x80000000), 0x40000000, 0x20000000, 0x40000000, 0x10000000, 0x20);
  siginfo_t info;
  memset(&info, 0, sizeof(info));
  rusage usage;
  memset(&usage, 77, sizeof(usage));
  const bool told = !OneIn(6);
  if (OneIn(2)) {
    Say("waitid(%d, %s, %#x)", type, type == P_PIDFD ? "its" : id == static_cast<id_t>(kNobody) ? "nobody" : Name(static_cast<pid_t>(id)), options);
    const long r = syscall(SYS_waitid, type, id, told ? &info : nullptr, options, OneIn(2) ? &usage : nullptr);
    if (r == 0 && told) printf(" %s signal %d code %d status %d uid %d errno %d", Name(info.si_pid), info.si_signo, info.si_code, info.si_status, info.si_uid, info.si_errno);
    if (usage.ru_nsignals != 0x4d4d4d4d4d4d4d4d) printf(" usage %ld", usage.ru_nsignals);
    Result(r);
  } else {
    options &= ~(WEXITED | (OneIn(10) ? 0 : WNOWAIT));
    const pid_t pid = type == P_ALL || type == 4 ? -1 : type == P_PGID ? -kid.pid : OneIn(20) ? static_cast<pid_t>(0x80000000) : kid.pid;
    int status = 0x77777;
    Say("wait4(%s%s, %#x)", pid < -1 ? "-" : "", Name(pid < -1 ? -pid : pid), options);
    const long r = syscall(SYS_wait4, pid, told ? &status : nullptr, options, OneIn(2) ? &usage : nullptr);
    if (told) printf(" %x", status);
    if (usage.ru_nsignals != 0x4d4d4d4d4d4d4d4d) printf(" usage %ld", usage.ru_nsignals);
    PidResult(r);
  }
  ForgetGone();
}
void WaitBadPointer() {
  siginfo_t info;
  auto* bad = reinterpret_cast<siginfo_t*>(16);
  const Kid& kid = kids[Below(kKids)];
  if (kid.pid == 0) return;
  const int kind = static_cast<int>(Below(3));
  Say("bad pointers %d to wait for %s", kind, Name(kid.pid));
  Result(kind == 0   ? syscall(SYS_waitid, P_PID, kid.pid, bad, WEXITED | WNOHANG | WNOWAIT, nullptr)
         : kind == 1 ? syscall(SYS_waitid, P_PID, kid.pid, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT, bad)
                     : (syscall(SYS_wait4, kid.pid, bad, WNOHANG | WUNTRACED, nullptr) > 0 ? 1 : -1));
  ForgetGone();
}
void Groups() {
  const pid_t a = AnyPid(), b = AnyPid();
  switch (Below(4)) {
    case 0:
      Say("getpgid(%s)", NameOfArgument(a));
      return PidResult(getpgid(a));
    case 1:
      Say("getsid(%s)", NameOfArgument(a));
      return PidResult(getsid(a));
    default:
      Say("setpgid(%s, %s)", NameOfArgument(a), NameOfArgument(b));
      return Result(setpgid(a, b));
  }
}
void Clone() {
  clone_args args = {};
  int pidfd = -1, tid = -1;
  struct {
    clone_args args;
    char more[64];
  } sent = {};
  pid_t wanted[40];
  for (pid_t& w : wanted) w = Pick(0, 1, -1, 0, 1 << 23);
  const uint64_t bits[] = {CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_PIDFD, CLONE_PTRACE, CLONE_VFORK, CLONE_PARENT, CLONE_THREAD, CLONE_NEWNS, CLONE_SYSVSEM, CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID, CLONE_DETACHED, CLONE_UNTRACED, CLONE_CHILD_SETTID, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_IO, CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, 1ull << 34, 1ull << 63, 1, 0x40};
  for (uint32_t n = Below(5); n > 0; n--) args.flags |= bits[Below(std::size(bits) - (OneIn(3) ? 0 : 5))];
  if (OneIn(6)) args.flags |= CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
  // Siblings of ours would be nobody's, and a child that shares memory needs its own stack or a parent that waits.
  if ((args.flags & CLONE_PARENT) != 0 && (args.flags & CLONE_SIGHAND) == 0) args.flags &= ~uint64_t{CLONE_PARENT};
  args.exit_signal = static_cast<uint64_t>(OneIn(4) ? Pick(0, 64, 65, SIGUSR1, 256, 17 | 0x100) : SIGCHLD);
  if ((args.flags & (CLONE_THREAD | CLONE_PARENT)) != 0 && OneIn(2)) args.exit_signal = 0;
  args.pidfd = OneIn(12) ? 16 : reinterpret_cast<uintptr_t>(&pidfd);
  args.parent_tid = args.child_tid = OneIn(12) ? 16 : reinterpret_cast<uintptr_t>(&tid);
  if (OneIn(3)) args.stack = OneIn(8) ? ~uint64_t{0} << 12 : reinterpret_cast<uintptr_t>(room), args.stack_size = static_cast<uint64_t>(Pick(0L, 4096L, 4096L, 5000L, -1L));
  if (OneIn(20)) args.stack_size = 4096;
  if (OneIn(6)) args.set_tid = OneIn(4) ? 0 : reinterpret_cast<uintptr_t>(wanted), args.set_tid_size = Pick(0u, 1u, 1u, 2u, 5u, 32u, 33u);
  args.cgroup = OneIn(4) ? 1ull << 32 : 99;
  sent.args = args;
  size_t size = sizeof(args);
  if (OneIn(6)) size = Pick(0u, 63u, 64u, 72u, 80u, 88u, 96u, 100u, 120u, 4097u, 65u);
  if (OneIn(3)) sent.more[4] = 1;
  Say("clone3(%#llx, %llu, stack %d %lld, set_tid %d %llu of %d, %zu)", args.flags, args.exit_signal, args.stack != 0, args.stack_size, args.set_tid != 0, args.set_tid_size, wanted[0], size);
  fflush(stdout);
  const bool old = OneIn(4) && args.flags < (1ull << 32) && args.exit_signal < 256;
  const long r = old ? Raw(OldCloneAndExit(args.flags | args.exit_signal, nullptr, reinterpret_cast<int*>(args.parent_tid), reinterpret_cast<int*>(args.child_tid), 0))
                     : Raw(CloneAndExit(&sent, size));
  if (r > 0) {
    lent = static_cast<pid_t>(r);
    const bool thread = (args.flags & CLONE_THREAD) != 0 && size >= 64;
    if (!thread) {
      siginfo_t info = {};
      const int waited = waitid(P_PID, static_cast<id_t>(r), &info, WEXITED | __WALL);
      printf(" ended %d signal %d code %d status %d", waited, info.si_signo, info.si_code, info.si_status);
    } else {
      while (syscall(SYS_tgkill, self, lent, 0) == 0) sched_yield();
    }
  }
  printf(" old %d pidfd %d tid %d", old, pidfd >= 0, tid == -1 ? -1 : tid == 0 ? 0 : 1);
  Outcome(r);
  if (pidfd > 2 && r > 0) close(pidfd);
  if (old && (args.flags & CLONE_PIDFD) != 0 && tid > 2 && r > 0) close(tid);
}
void Priority() {
  const int which = OneIn(10) ? Pick(-1, 3) : Pick(PRIO_PROCESS, PRIO_PGRP);
  const pid_t who = AnyPid();
  errno = 0;
  if (OneIn(2)) {
    Say("getpriority(%d, %s)", which, NameOfArgument(who));
    return Result(syscall(SYS_getpriority, which, who));
  }
  const int nice = Pick(0, 5, 19, 100, 10, 3);
  Say("setpriority(%d, %s, %d)", which, NameOfArgument(who), nice);
  Result(syscall(SYS_setpriority, which, who, nice));
}
struct SchedAttributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
  uint32_t util_min, util_max;
  uint64_t more[2];
};
void Scheduler() {
  const pid_t who = OneIn(15) ? -1 : AnyPid();
  sched_param param = {Pick(0, 0, 0, 1, -1, 100)};
  SchedAttributes attributes = {};
  switch (Below(8)) {
    case 0:
      Say("sched_getscheduler(%s)", NameOfArgument(who));
      return Result(syscall(SYS_sched_getscheduler, who));
    case 1: {
      const long r = syscall(SYS_sched_getparam, who, OneIn(10) ? nullptr : &param);
      Say("sched_getparam(%s) %d", NameOfArgument(who), param.sched_priority);
      return Result(r);
    }
    case 2: {
      const int policy = Pick(SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, 4, 8, -1, SCHED_OTHER | 0x40000000);
      Say("sched_setscheduler(%s, %d, %d)", NameOfArgument(who), policy, param.sched_priority);
      return Result(syscall(SYS_sched_setscheduler, who, policy, OneIn(15) ? nullptr : &param));
    }
    case 3:
      Say("sched_setparam(%s, %d)", NameOfArgument(who), param.sched_priority);
      return Result(syscall(SYS_sched_setparam, who, &param));
    case 4: {
      const unsigned size = Pick(48u, 56u, 64u, 47u, 0u, 4096u, 4097u, 72u), flags = OneIn(10);
      char out[4200];
      const long r = syscall(SYS_sched_getattr, who, out, size, flags);
      memcpy(&attributes, out, sizeof(attributes));
      Say("sched_getattr(%s, %u, %u)", NameOfArgument(who), size, flags);
      if (r == 0) printf(" size %u policy %u flags %lx nice %d priority %u", attributes.size, attributes.policy, attributes.flags, attributes.nice, attributes.priority);
      return Result(r);
    }
    case 5: {
      attributes.size = Pick(48u, 56u, 64u, 47u, 0u, 72u, 5000u);
      attributes.policy = Pick(0u, 3u, 5u, 4u, 8u, 0x80000000u, 0u, 0u);
      attributes.flags = Pick(0u, 0u, 1u, 8u, 0x10u, 0x20u, 0x40u, 0x80u, 0x100u, 0u);
      attributes.nice = Pick(0, 5, 19, 20, 100);
      attributes.priority = Pick(0u, 0u, 0u, 1u);
      if (OneIn(6)) attributes.more[0] = 1;
      // Clamping of use depends on how the kernel was built.
      if ((attributes.flags & 0x60) != 0) attributes.flags = 0;
      Say("sched_setattr(%s, %u %u %lx %d %u)", NameOfArgument(who), attributes.size, attributes.policy, attributes.flags, attributes.nice, attributes.priority);
      const long r = syscall(SYS_sched_setattr, who, &attributes, OneIn(15));
      printf(" size %u", attributes.size);
      return Result(r);
    }
    case 6: {
      cpu_set_t set;
      const unsigned size = Pick(8u, 128u, 4u, 12u, 0u, 1u, 16u);
      Say("sched_getaffinity(%s, %u)", NameOfArgument(who), size);
      return Outcome(syscall(SYS_sched_getaffinity, who, size, &set));
    }
    default: {
      const int policy = Pick(0, 1, 2, 3, 5, 6, 7, -1, 8);
      timespec interval;
      Say("limits of %d: %ld", policy, syscall(SYS_sched_get_priority_max, policy));
      Result(syscall(SYS_sched_get_priority_min, policy));
      Say("sched_rr_get_interval(%s)", NameOfArgument(who));
      return Outcome(syscall(SYS_sched_rr_get_interval, who, &interval));
    }
  }
}
void Limits() {
  const pid_t who = AnyPid();
  if (who == self || who == 0) return;
  const int which = Pick(RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_MSGQUEUE, RLIMIT_SIGPENDING, 15, 16, -1);
  rlimit limit = {1000 + Below(5), 1000 + Below(5)}, before = {};
  const bool set = OneIn(2), get = OneIn(2);
  Say("prlimit(%s, %d, %s %lu %lu)", NameOfArgument(who), which, set ? "set" : "no", limit.rlim_cur, limit.rlim_max);
  const long r = syscall(SYS_prlimit64, who, which, set ? &limit : nullptr, get ? &before : nullptr);
  if (r == 0 && get && before.rlim_cur < 2000) printf(" was %lu %lu", before.rlim_cur, before.rlim_max);
  Result(r);
}
void OthersMemory() {
  const pid_t who = AnyPid();
  memset(room, 'a' + static_cast<int>(Below(26)), 64);
  memset(own, 0, sizeof(own));
  auto part = [](char* from) { return iovec{OneIn(8) ? reinterpret_cast<void*>(16) : from + 100 * Below(8), Pick(0u, 10u, 64u, 100u)}; };
  const iovec local[3] = {part(own), part(own), part(own)}, remote[3] = {part(room), part(room), part(room)};
  const unsigned long n = Pick(0u, 1u, 2u, 3u), m = Pick(0u, 1u, 2u, 3u);
  const unsigned long flags = OneIn(15), many = OneIn(20) ? 1025 : n;
  const bool writes = OneIn(2);
  if (writes && (who == self || who == 0)) return;
  Say("process_vm_%s(%s, %lu, %lu, %lu)", writes ? "writev" : "readv", NameOfArgument(who), many, m, flags);
  const long r = syscall(writes ? SYS_process_vm_writev : SYS_process_vm_readv, who, local, many, remote, m, flags);
  printf(" %x", Checksum(own));
  Result(r);
}
void Compare() {
  const pid_t a = AnyPid(), b = AnyPid();
  const int type = Pick(0, 1, 2, 3, 4, 5, 6, 7, 8, -1);
  const int one = Pick(0, 1, 2, 99), two = Pick(0, 1, 2, 99);
  Say("kcmp(%s, %s, %d, %d, %d)", NameOfArgument(a), NameOfArgument(b), type, one, two);
  const long r = syscall(SYS_kcmp, a, b, type, one, two);
  if (type == 7) return Outcome(r);
  if (r > 0) printf(" differ");
  Outcome(r);
}
void PidFds() {
  Kid& kid = kids[Below(kKids)];
  switch (Below(3)) {
    case 0: {
      const pid_t who = AnyPid();
      const unsigned flags = Pick(0u, 0u, static_cast<unsigned>(O_NONBLOCK), static_cast<unsigned>(O_EXCL), 1u, 4u);
      const long fd = syscall(SYS_pidfd_open, who, flags);
      Say("pidfd_open(%s, %#x)", NameOfArgument(who), flags);
      if (fd >= 0) printf(" flags %x %x", fcntl(static_cast<int>(fd), F_GETFL), fcntl(static_cast<int>(fd), F_GETFD));
      Outcome(fd);
      if (fd >= 0 && who == kid.pid && kid.pidfd < 0 && flags == 0) {
        kid.pidfd = static_cast<int>(fd);
      } else if (fd >= 0) {
        close(static_cast<int>(fd));
      }
      return;
    }
    case 1: {
      const int fd = Pick(0, 1, 2, 999, -1);
      const unsigned flags = OneIn(10);
      Say("pidfd_getfd(%s, %d, %u)", Name(kid.pid), fd, flags);
      const long r = syscall(SYS_pidfd_getfd, kid.pidfd, fd, flags);
      Outcome(r);
      if (r >= 0) close(static_cast<int>(r));
      return;
    }
    default: {
      pollfd p = {kid.pidfd, POLLIN | POLLOUT | POLLHUP, 0};
      char c;
      const int n = poll(&p, 1, 0);
      Say("poll of %s: %d %x", Name(kid.pid), n, p.revents);
      Result(read(kid.pidfd, &c, 1));
      return;
    }
  }
}
void Trace() {
  Kid& kid = kids[Below(kKids)];
  if (kid.pid == 0) return;
  const char before = StateOf(kid.pid);
  const int request = kid.traced ? Pick(PTRACE_CONT, PTRACE_DETACH, PTRACE_INTERRUPT, PTRACE_LISTEN, PTRACE_GETSIGINFO, PTRACE_GETEVENTMSG, PTRACE_SETOPTIONS, PTRACE_PEEKDATA, PTRACE_POKEDATA, PTRACE_SEIZE, PTRACE_ATTACH, PTRACE_SYSCALL, PTRACE_GETSIGMASK, PTRACE_KILL, 77)
                                 : Pick(PTRACE_SEIZE, PTRACE_SEIZE, PTRACE_ATTACH, PTRACE_CONT, PTRACE_DETACH, PTRACE_INTERRUPT, PTRACE_LISTEN, PTRACE_GETSIGINFO, PTRACE_PEEKDATA, PTRACE_SETOPTIONS, PTRACE_KILL, 77, -1);
  uintptr_t addr = 0, data = 0;
  uint64_t value[32] = {};
  switch (request) {
    case PTRACE_CONT:
    case PTRACE_SYSCALL:
    case PTRACE_DETACH: data = static_cast<uintptr_t>(Pick(0, 0, SIGCONT, SIGUSR1, 65, -1)); break;
    case PTRACE_SETOPTIONS:
    case PTRACE_SEIZE:
      addr = OneIn(15);
      data = OneIn(3) ? uintptr_t{1} << Below(32) : 0;
      if ((data & 0x7e) != 0 || data == (1u << 21)) data = 1;
      break;
    case PTRACE_GETSIGMASK: addr = Pick(8u, 8u, 4u), data = reinterpret_cast<uintptr_t>(value); break;
    case PTRACE_PEEKDATA:
    case PTRACE_POKEDATA: addr = OneIn(6) ? 16 : reinterpret_cast<uintptr_t>(room + 4096), data = reinterpret_cast<uintptr_t>(value); break;
    default: data = reinterpret_cast<uintptr_t>(value); break;
  }
  if (request == PTRACE_POKEDATA) data = 7;
  const long r = syscall(SYS_ptrace, request, kid.pid, addr, data);
  Say("ptrace(%#x, %s, %d, %#lx) was %c", request, Name(kid.pid), addr != 0, request == PTRACE_SEIZE || request == PTRACE_SETOPTIONS || request == PTRACE_CONT ? data : 0, before);
  if (r == 0 && request == PTRACE_GETSIGINFO) printf(" signal %d code %d", static_cast<int>(value[0]), reinterpret_cast<siginfo_t*>(value)->si_code);
  if (r == 0 && (request == PTRACE_PEEKDATA || request == PTRACE_GETSIGMASK)) printf(" %lx", value[0]);
  Result(r);
  if (r != 0) return;
  if (request == PTRACE_SEIZE || request == PTRACE_ATTACH) kid.traced = true;
  if (request == PTRACE_DETACH) kid.traced = false;
  // What stops it is waited for; after it goes on, it waits for orders or stops again at once.
  if (request == PTRACE_ATTACH || request == PTRACE_INTERRUPT)
    WaitWhileRunning(kid.pid);
  if (request == PTRACE_CONT || request == PTRACE_SYSCALL || request == PTRACE_DETACH || request == PTRACE_KILL || request == PTRACE_LISTEN) {
    kill(kid.pid, SIGKILL);
    Settle(kid);
    kid.traced = false;
  }
}
void Reap() {
  Kid& kid = kids[Below(kKids)];
  if (kid.pid == 0) return;
  kill(kid.pid, SIGKILL);
  int status = 0;
  pid_t r;
  do r = waitpid(kid.pid, &status, __WALL);
  while (r > 0 && WIFSTOPPED(status));
  Say("reap %s %x", Name(kid.pid), status);
  PidResult(r);
  Forget(kid);
}
void ChildSignal() {
  struct sigaction act = {};
  act.sa_handler = OneIn(3) ? SIG_IGN : SIG_DFL;
  act.sa_flags = OneIn(6) ? SA_NOCLDWAIT : 0;
  Say("SIGCHLD %s %x", act.sa_handler == SIG_IGN ? "ignored" : "default", act.sa_flags);
  Result(sigaction(SIGCHLD, &act, nullptr));
}
void Names() {
  const pid_t who = kids[Below(kKids)].pid;
  if (who == 0) return;
  char path[40], text[600] = {};
  snprintf(path, sizeof(path), "/proc/%d/stat", who);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t n = read(fd, text, sizeof(text) - 1);
  close(fd);
  char state = 0;
  int parent = 0, group = 0, session = 0, tty = 0, terminal = 0;
  if (n > 0) sscanf(strrchr(text, ')') + 2, "%c %d %d %d %d %d", &state, &parent, &group, &session, &tty, &terminal);
  Say("stat of %s: parent %s group %s session %s %d", Name(who), Name(parent), Name(group), Name(session), terminal);
  Result(0);
}

constexpr Step kSteps[] = {Make, Make, Make, Make, Make, Tell, Tell, Tell, Tell, Tell, Signal, Signal, Signal, Wait, Wait, Wait, Wait, WaitBadPointer, Groups, Groups, Clone, Clone, Clone, Priority, Scheduler, Scheduler, Limits, OthersMemory, Compare, PidFds, PidFds, Trace, Trace, Trace, Reap, ChildSignal, Names, Names};

int Main(int argc, char** argv) {
  program = argv[0];
  if (argc == 3 && strcmp(argv[1], "kid") == 0) {  // its answer to the order to execute this
    const Answer answer = {0, 0};
    if (write(atoi(argv[2]), &answer, sizeof(answer)) == sizeof(answer)) Serve(atoi(argv[2]));
    return 1;
  }
  // In a session of its own, whoever started it.
  const pid_t pid = fork();
  if (pid != 0) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
  }
  setsid();
  self = getpid();
  DropRightToLimits();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // what children leave behind is ours, not the machine's
  signal(SIGUSR1, SIG_IGN);
  signal(SIGRTMAX, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  if (getenv("LINES_NOW") != nullptr) setvbuf(stdout, nullptr, _IOLBF, 4096);
  const int r = RunSteps(argc, argv, kSteps);
  for (Kid& kid : kids)
    if (kid.pid != 0) kill(kid.pid, SIGKILL);
  fflush(stdout);
  _exit(r);
}

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) { return ringwall::test::Main(argc, argv); }
