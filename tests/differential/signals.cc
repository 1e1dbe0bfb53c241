// Random calls on signals: actions, masks, queues, stacks, timers, and what parents are told of children.
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <ucontext.h>

#include <string>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

constexpr uint64_t kForever = 100000;
pid_t self, child;  // the child that was waited for last
char* stack_pages;  // of alternate stacks

// struct sigaction of the kernel: the C library keeps some numbers and flags to itself.
struct KernelAction {
  uintptr_t handler;
  uint64_t flags;
  uintptr_t restorer;
  uint64_t mask;
};
constexpr uint64_t kRestorer = 0x04000000;
extern "C" void WalkRestorer();
asm(".text\nWalkRestorer:\n mov $15, %eax\n syscall\n");

long RawAction(int signal, const KernelAction* act, KernelAction* old, size_t size = 8) {
  KernelAction with = {};
  if (act != nullptr) with = *act, with.restorer = reinterpret_cast<uintptr_t>(&WalkRestorer);
  return syscall(SYS_rt_sigaction, signal, act != nullptr ? &with : nullptr, old, size);
}
long RawMask(int how, const uint64_t* set, uint64_t* old, size_t size = 8) {
  return syscall(SYS_rt_sigprocmask, how, set, old, size);
}
uint64_t Bit(int signal) { return uint64_t{1} << (signal - 1); }

std::string log_text;  // of handlers, told after the call that ran them
void Log(const char* format, ...) __attribute__((format(printf, 1, 2)));
void Log(const char* format, ...) {
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  log_text += text;
}
void TellLog() {
  if (!log_text.empty()) printf("%d   ran:%s\n", step_number, log_text.c_str());
  log_text.clear();
}
const char* Who(pid_t pid) { return pid == 0 ? "0" : pid == self ? "self" : pid == child ? "child" : pid == getppid() ? "parent" : "other"; }
std::string InfoText(const siginfo_t& info) {
  char text[200];
  switch (info.si_code) {
    case SI_TIMER:
      snprintf(text, sizeof(text), "%d code %d errno %d overrun %d value %#lx", info.si_signo, info.si_code, info.si_errno, info.si_overrun, reinterpret_cast<unsigned long>(info.si_value.sival_ptr) & ~0xfffful);  // small: the timer's own number
      return text;
    default: break;
  }
  if (info.si_signo == SIGCHLD && info.si_code > 0) {
    snprintf(text, sizeof(text), "%d code %d errno %d %s uid %d status %d", info.si_signo, info.si_code, info.si_errno, Who(info.si_pid), info.si_uid, info.si_status);
  } else if (info.si_code > 0 && info.si_code < 128) {
    snprintf(text, sizeof(text), "%d code %d errno %d", info.si_signo, info.si_code, info.si_errno);
  } else {
    snprintf(text, sizeof(text), "%d code %d errno %d %s uid %d value %#lx", info.si_signo, info.si_code, info.si_errno, Who(info.si_pid), info.si_uid,
             info.si_code == SI_USER || info.si_code == SI_TKILL ? 0 : reinterpret_cast<unsigned long>(info.si_value.sival_ptr));
  }
  return text;
}

int depth, again;  // how deep handlers are, and what the next one sends
void Handler(int signal, siginfo_t* info, void* context) {
  depth++;
  uint64_t mask = 0;
  RawMask(SIG_BLOCK, nullptr, &mask);
  stack_t stack = {};
  sigaltstack(nullptr, &stack);
  const auto* uc = static_cast<const ucontext_t*>(context);
  uint64_t before;
  memcpy(&before, &uc->uc_sigmask, 8);
  char here;
  const bool on = &here >= stack_pages && &here < stack_pages + 65536;
  Log(" [%s depth %d mask %lx before %lx stack %x %zu%s]", InfoText(*info).c_str(), depth, mask, before, stack.ss_flags, stack.ss_size, on ? " alternate" : "");
  if (again != 0 && depth < 4 && signal != again) {
    const int next = again;
    again = 0;
    syscall(SYS_tgkill, self, self, next);
  }
  depth--;
}
void Plain(int signal) {
  depth++;
  uint64_t mask = 0;
  RawMask(SIG_BLOCK, nullptr, &mask);
  Log(" [%d plain depth %d mask %lx]", signal, depth, mask);
  depth--;
}

// Mostly good numbers.
int AnySignal() {
  if (OneIn(25)) return Pick(0, 65, -1, 100, 33, 32);
  return OneIn(2) ? Pick(SIGUSR1, SIGUSR2, SIGCHLD, SIGRTMIN, SIGALRM, SIGHUP, SIGWINCH, SIGCONT) : 1 + static_cast<int>(Below(64));
}
uint64_t AnySet() {
  uint64_t set = 0;
  for (uint32_t n = Below(5); n > 0; n--) set |= Bit(1 + static_cast<int>(Below(64)));
  if (OneIn(4)) set |= Bit(SIGUSR1) | Bit(SIGUSR2) | Bit(SIGCHLD) | Bit(SIGRTMIN) | Bit(SIGALRM);
  return OneIn(20) ? ~uint64_t{0} : set;
}
// Whether sending it to ourselves would end or stop the run.
bool WouldEnd(int signal) {
  if (signal < 1 || signal > 64) return false;
  if (signal == SIGKILL || signal == SIGSTOP) return true;
  KernelAction now;
  RawAction(signal, nullptr, &now);
  return now.handler == 0 && signal != SIGCHLD && signal != SIGURG && signal != SIGWINCH && signal != SIGCONT;
}
void Action() {
  const int signal = AnySignal();
  KernelAction act = {}, old = {};
  const uint32_t kind = Below(8);
  // Nothing that is pending may end the run when its action changes.
  act.handler = kind == 0 && (signal == SIGCHLD || signal == SIGURG || signal == SIGWINCH || signal == SIGCONT) ? 0
                : kind < 3 ? 1 : kind == 3 ? reinterpret_cast<uintptr_t>(&Plain) : reinterpret_cast<uintptr_t>(&Handler);
  act.flags = kRestorer;
  if (act.handler == reinterpret_cast<uintptr_t>(&Handler)) act.flags |= SA_SIGINFO;
  for (const uint64_t bit : {uint64_t{SA_NOCLDSTOP}, uint64_t{SA_NOCLDWAIT}, uint64_t{SA_ONSTACK}, uint64_t{SA_RESTART}, uint64_t{SA_NODEFER}, uint64_t{SA_RESETHAND}, uint64_t{0x400}, uint64_t{0x800}, uint64_t{0x10000}, uint64_t{1} << 40})
    if (OneIn(7)) act.flags |= bit;
  if ((act.flags & SA_RESETHAND) != 0) act.flags &= ~uint64_t{SA_RESETHAND} | (signal == SIGWINCH ? ~uint64_t{0} : 0);
  act.mask = AnySet();
  const size_t size = OneIn(30) ? 4 : 8;
  Say("sigaction(%d, %ld, %#lx, %#lx, %zu)", signal, static_cast<long>(act.handler > 1 ? 2 : act.handler), act.flags, act.mask, size);
  const long r = RawAction(signal, &act, &old, size);
  if (r == 0) printf(" was %ld %#lx %#lx", static_cast<long>(old.handler > 1 ? 2 : old.handler), old.flags, old.mask);
  Result(r);
}
void Mask() {
  const int how = OneIn(15) ? Pick(3, -1, 100) : static_cast<int>(Below(3));
  const uint64_t set = AnySet();
  uint64_t old = 0;
  Say("sigprocmask(%d, %#lx)", how, set);
  const long r = RawMask(how, OneIn(20) ? nullptr : &set, &old, OneIn(30) ? 16 : 8);
  if (r == 0) printf(" was %#lx", old);
  Result(r);
}
void Pending() {
  uint64_t set = 0;
  const size_t size = Pick(8, 8, 8, 4, 0, 16);
  Say("sigpending(%zu)", size);
  const long r = syscall(SYS_rt_sigpending, &set, size);
  if (r == 0) printf(" %#lx", set);
  Result(r);
}
void Send() {
  const int signal = AnySignal();
  if (WouldEnd(signal)) return;
  switch (Below(5)) {
    case 0:
      Say("kill(self, %d)", signal);
      return Result(kill(self, signal));
    case 1: {
      const pid_t group = OneIn(4) ? Pick(0, -1, -5) : self, thread = OneIn(4) ? Pick(0, -1) : self;
      Say("tgkill(%s, %s, %d)", Who(group), Who(thread), signal);
      return Result(syscall(SYS_tgkill, group, thread, signal));
    }
    case 2:
      Say("tkill(%d)", signal);
      return Result(syscall(SYS_tkill, self, signal));
    case 3: {
      const int fd = static_cast<int>(syscall(SYS_pidfd_open, self, 0));
      siginfo_t info = {};
      info.si_signo = OneIn(5) ? 12 : signal;
      info.si_code = Pick(SI_QUEUE, SI_USER, SI_TKILL, SI_MESGQ, 0x80, -60, 5);
      info.si_value.sival_int = static_cast<int>(Below(100));
      const bool with = OneIn(2);
      const int flags = OneIn(3) ? Pick(1, 2, 4, 8, 3) : 0;
      Say("pidfd_send_signal(self, %d, %s %d, %d)", signal, with ? "info" : "none", info.si_code, flags);
      Result(syscall(SYS_pidfd_send_signal, fd, signal, with ? &info : nullptr, flags));
      close(fd);
      return;
    }
    default: {
      siginfo_t info = {};
      info.si_signo = OneIn(5) ? 12 : signal;
      info.si_errno = static_cast<int>(Below(3));
      info.si_code = Pick(SI_QUEUE, SI_QUEUE, SI_USER, SI_TKILL, SI_MESGQ, SI_TIMER, SI_KERNEL, -60, 5, SI_ASYNCIO, -2000000000);
      info.si_pid = OneIn(2) ? self : 77;
      info.si_uid = Below(3);
      info.si_value.sival_ptr = reinterpret_cast<void*>(uintptr_t{Below(1000)} << 33);
      const bool thread = OneIn(2);
      Say("%s(%d, code %d)", thread ? "rt_tgsigqueueinfo" : "rt_sigqueueinfo", signal, info.si_code);
      return Result(thread ? syscall(SYS_rt_tgsigqueueinfo, self, self, signal, &info) : syscall(SYS_rt_sigqueueinfo, self, signal, &info));
    }
  }
}
void TimedWait() {
  const uint64_t set = AnySet() | AnySet();
  const timespec none = {OneIn(20) ? -1 : 0, OneIn(20) ? 1000000000 : 0};
  siginfo_t info = {};
  const bool tell = !OneIn(5);
  Say("sigtimedwait(%#lx, %ld.%ld)", set, none.tv_sec, none.tv_nsec);
  const long r = syscall(SYS_rt_sigtimedwait, &set, tell ? &info : nullptr, &none, OneIn(30) ? 4 : 8);
  if (r > 0 && tell) printf(" %s", InfoText(info).c_str());
  Result(r);
}
int signal_fd = -1;
void SignalFd() {
  if (signal_fd < 0 || OneIn(3)) {
    const uint64_t set = AnySet();
    const int flags = OneIn(8) ? Pick(1, 0x1000) : SFD_NONBLOCK;
    const int on = OneIn(3) ? signal_fd : -1;
    Say("signalfd(%s, %#lx, %#x)", on < 0 ? "new" : "old", set, flags);
    const int fd = static_cast<int>(syscall(SYS_signalfd4, on, &set, OneIn(20) ? 4 : 8, flags));
    Outcome(fd);
    if (fd >= 0 && fd != signal_fd) {
      if (signal_fd >= 0) close(signal_fd);
      signal_fd = fd;
      fcntl(fd, F_SETFL, O_NONBLOCK);
    }
    return;
  }
  signalfd_siginfo infos[3] = {};
  const size_t size = Pick(sizeof(infos), sizeof(infos[0]), size_t{100}, size_t{0}, 2 * sizeof(infos[0]) + 5);
  pollfd p = {signal_fd, POLLIN, 0};
  poll(&p, 1, 0);
  Say("read(signalfd, %zu) poll %d", size, p.revents);
  const ssize_t n = read(signal_fd, infos, size);
  for (ssize_t i = 0; i < n / 128; i++) {
    const signalfd_siginfo& s = infos[i];
    printf(" {%u code %d errno %d %s uid %u value %x %lx status %d overrun %u addr %d}", s.ssi_signo, s.ssi_code, s.ssi_errno,
           s.ssi_code == SI_TIMER ? "timer" : Who(static_cast<pid_t>(s.ssi_pid)), s.ssi_uid, static_cast<unsigned>(s.ssi_int), s.ssi_ptr, s.ssi_status, s.ssi_overrun, s.ssi_addr != 0);
  }
  Result(n);
}
void AlternateStack() {
  stack_t stack = {}, old = {};
  stack.ss_sp = stack_pages + 4096 * Below(4);
  stack.ss_size = Pick(16384, 20480, 32768, 2047, 2048, 0, 1);
  stack.ss_flags = Pick(0, 0, 0, SS_DISABLE, SS_ONSTACK, static_cast<int>(1u << 31), static_cast<int>(1u << 31) | SS_DISABLE, 3, 8);
  // Small ones are refused by what the processor's state needs, and a handler must fit.
  if (stack.ss_size < 8192 && stack.ss_size > 1) stack.ss_size = 1;
  const bool set = !OneIn(5);
  Say("sigaltstack(%s %#x %zu)", set ? "set" : "get", stack.ss_flags, stack.ss_size);
  const int r = sigaltstack(set ? &stack : nullptr, &old);
  if (r == 0) printf(" was %#x %zu", old.ss_flags, old.ss_size);
  Result(r);
}
void Suspend() {
  const int signal = AnySignal();
  if (signal < 1 || signal > 64 || WouldEnd(signal)) return;
  KernelAction now;
  RawAction(signal, nullptr, &now);
  if (now.handler < 2) return;
  uint64_t old, all = ~uint64_t{0}, set = ~Bit(signal);
  RawMask(SIG_SETMASK, &all, &old);
  again = OneIn(3) ? Pick(SIGUSR1, SIGUSR2, SIGRTMIN) : 0;
  if (again != 0 && WouldEnd(again)) again = 0;
  syscall(SYS_tgkill, self, self, signal);
  Say("sigsuspend(%d) then %d", signal, again);
  Result(syscall(SYS_rt_sigsuspend, &set, 8));
  again = 0;
  RawMask(SIG_SETMASK, &old, nullptr);
}
void Nested() {
  const int signal = AnySignal();
  if (WouldEnd(signal)) return;
  again = Pick(SIGUSR1, SIGUSR2, SIGRTMIN, SIGHUP);
  if (WouldEnd(again)) again = 0;
  Say("raise(%d) then %d", signal, again);
  Result(syscall(SYS_tgkill, self, self, signal));
  again = 0;
}
// Timers that have expired when they are set. Their signal is blocked and waited for.
void Timer() {
  const clockid_t clock = Pick(CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_TAI, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, 20, -1);
  sigevent event = {};
  event.sigev_notify = Pick(SIGEV_SIGNAL, SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID, SIGEV_THREAD, 3, 9);
  event.sigev_signo = AnySignal();
  if (event.sigev_signo == SIGKILL || event.sigev_signo == SIGSTOP) return;
  event.sigev_value.sival_ptr = reinterpret_cast<void*>(uintptr_t{Below(1000)} << 30);
  event._sigev_un._tid = OneIn(4) ? Pick(0, 1, -1) : self;
  const bool plain = OneIn(6);
  const int signal = plain ? SIGALRM : event.sigev_signo;
  int id = -1;
  Say("timer_create(%d, %d %d %s)", clock, plain ? -1 : event.sigev_notify, event.sigev_signo, Who(event._sigev_un._tid));
  const long r = syscall(SYS_timer_create, clock, plain ? nullptr : &event, &id);
  Outcome(r);
  if (r != 0) return;
  const bool silent = !plain && event.sigev_notify == SIGEV_NONE;
  const bool cpu = clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
  uint64_t old, all = ~uint64_t{0};
  RawMask(SIG_SETMASK, &all, &old);
  const uint64_t own = Bit(signal);
  const timespec zero = {0, 0};
  if (!silent)
    while (syscall(SYS_rt_sigtimedwait, &own, nullptr, &zero, 8) > 0) {}
  itimerspec past = {}, now = {};
  past.it_value.tv_nsec = OneIn(10) ? Pick(0L, -1L, 1000000000L) : 1;
  past.it_interval.tv_sec = OneIn(3) ? static_cast<time_t>(kForever * 1000) : 0;
  const int flags = OneIn(15) ? 8 : TIMER_ABSTIME;
  Say("timer_settime(%#x, %ld, %ld)", flags, past.it_value.tv_nsec, past.it_interval.tv_sec);
  const long s = syscall(SYS_timer_settime, id, flags, &past, &now);
  if (s == 0) printf(" was %ld.%ld", now.it_value.tv_sec, now.it_value.tv_nsec);
  Result(s);
  if (s == 0 && !silent && past.it_value.tv_nsec == 1 && flags == TIMER_ABSTIME && !cpu) {
    // Ignored ones are dropped, whatever the mask.
    siginfo_t info = {};
    const uint64_t one = Bit(signal);
    KernelAction act;
    RawAction(signal, nullptr, &act);
    const bool waits = act.handler > 1;
    const timespec limit = {waits ? 2 : 0, 0};
    Say("its signal");
    const long got = syscall(SYS_rt_sigtimedwait, &one, &info, &limit, 8);
    if (got > 0 && waits) printf(" %s", InfoText(info).c_str());
    Result(waits ? got : 0);
    if (waits) {
      Say("timer_getoverrun");
      Result(syscall(SYS_timer_getoverrun, id));
    }
  }
  KernelAction ignored;
  RawAction(signal, nullptr, &ignored);
  // What nobody waited for may or may not have expired.
  if (s == 0 && !cpu && flags == TIMER_ABSTIME && (silent || ignored.handler > 1)) {
    const long g = syscall(SYS_timer_gettime, id, &now);
    Say("timer_gettime %s, every %ld", now.it_value.tv_sec != 0 ? "later" : now.it_value.tv_nsec == 0 ? "off" : "soon", now.it_interval.tv_sec);
    Result(g);
  }
  Say("timer_delete");
  Result(syscall(SYS_timer_delete, id));
  Say("timer_delete again");
  Result(syscall(SYS_timer_delete, id));
  // Newer kernels drop what is queued of a timer that is gone.
  if (signal >= 1 && signal <= 64)
    while (syscall(SYS_rt_sigtimedwait, &own, nullptr, &zero, 8) > 0) {}
  RawMask(SIG_SETMASK, &old, nullptr);
}
void Interval() {
  const int which = Pick(ITIMER_REAL, ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF, 3);
  itimerval set = {}, old = {};
  set.it_value.tv_sec = OneIn(2) ? 0 : static_cast<time_t>(kForever);
  set.it_value.tv_usec = OneIn(10) ? Pick(-1, 1000000) : 0;
  set.it_interval.tv_sec = OneIn(2) ? 0 : 7;
  Say("setitimer(%d, %ld.%ld, %ld)", which, set.it_value.tv_sec, set.it_value.tv_usec, set.it_interval.tv_sec);
  const int r = setitimer(static_cast<__itimer_which>(which), &set, &old);
  if (r == 0) printf(" was %s every %ld", old.it_value.tv_sec != 0 ? "later" : "off", old.it_interval.tv_sec);
  Result(r);
  if (OneIn(3)) {
    const unsigned seconds = Pick(0u, 100000u);
    Say("alarm(%u)", seconds);
    Result(alarm(seconds) != 0);
  }
}
void TimerFd() {
  const int clock = Pick(CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, 8, 9, 2, 11, 5), flags = OneIn(6) ? 1 : TFD_NONBLOCK;
  Say("timerfd_create(%d, %#x)", clock, flags);
  const int fd = timerfd_create(clock, flags);
  Outcome(fd);
  if (fd < 0) return;
  itimerspec set = {}, old = {};
  set.it_value.tv_nsec = Pick(1L, 1L, 0L, -1L, 1000000000L);
  set.it_interval.tv_sec = OneIn(3) ? static_cast<time_t>(kForever * 10000) : OneIn(8) ? -1 : 0;
  const int how = Pick(1, 1, 3, 2, 5, 1);
  Say("timerfd_settime(%#x, %ld, %ld)", how, set.it_value.tv_nsec, set.it_interval.tv_sec);
  const int r = timerfd_settime(fd, how, &set, &old);
  Result(r);
  if (r == 0 && set.it_value.tv_nsec == 1 && (how & 1) != 0) {
    pollfd p = {fd, POLLIN, 0};
    poll(&p, 1, 2000);
    uint64_t ticks = 0;
    const size_t size = Pick(8u, 8u, 7u, 100u);
    char room[100];
    Say("read(timerfd, %zu) poll %d", size, p.revents);
    const ssize_t n = read(fd, room, size);
    if (n == 8) memcpy(&ticks, room, 8), printf(" %lu", ticks);
    Result(n);
    Say("read again");
    Result(read(fd, room, 8));
  }
  uint64_t ticks = Pick(0ul, 5ul, ~0ul);
  Say("TFD_IOC_SET_TICKS %lu", ticks);
  Result(ioctl(fd, _IOW(0x54, 0, uint64_t), &ticks));
  Say("timerfd_gettime");
  const int g = timerfd_gettime(fd, &old);
  printf(" %s every %ld", old.it_value.tv_sec != 0 ? "later" : "off", old.it_interval.tv_sec);
  Result(g);
  close(fd);
}

std::string StatusText(int status) {
  char text[60];
  snprintf(text, sizeof(text), "%#x", status);
  return text;
}
void WaitOnce() {
  siginfo_t info;
  memset(&info, 0x55, sizeof(info));
  int status = 0x5555;
  const int bits[] = {WNOHANG, WUNTRACED, WCONTINUED, WNOWAIT, WEXITED, __WALL, static_cast<int>(__WCLONE), __WNOTHREAD};
  int options = WNOHANG;
  for (const int bit : bits) options |= OneIn(4) ? bit : 0;
  if (OneIn(12)) options |= Pick(0x10, 0x100, 0x8000000);
  if (OneIn(2)) {
    const int type = OneIn(8) ? Pick(4, -1, 3) : Pick(P_PID, P_ALL, P_PGID);
    const int id = OneIn(9) ? Pick(0, -1, -5) : type == P_PGID ? static_cast<int>(getpgrp()) : child;
    Say("waitid(%d, %s, %#x)", type, id > 0 ? "it" : id == 0 ? "0" : "minus", options);
    const long r = syscall(SYS_waitid, type, id, &info, options, nullptr);
    if (r == 0) printf(" signo %d code %d %s uid %d status %d", info.si_signo, info.si_code, info.si_signo == 0 ? (info.si_pid == 0 ? "0" : "?") : Who(info.si_pid), info.si_signo == 0 ? 0 : info.si_uid, info.si_status);
    Result(r);
  } else {
    const int id = Pick(child, child, child, -1, 0, -getpgrp(), -1);
    if (OneIn(2)) options &= ~(WNOWAIT | WEXITED);
    Say("wait4(%s, %#x)", id > 0 ? "it" : id == -1 ? "any" : "group", options);
    const long r = syscall(SYS_wait4, id, &status, options, nullptr);
    if (r > 0) printf(" %s %s", Who(static_cast<pid_t>(r)), StatusText(status).c_str());
    Result(r > 0 ? 1 : r);
  }
}
void Child() {
  fflush(stdout);
  const int how = static_cast<int>(Below(6)), signal = 1 + static_cast<int>(Below(64)), code = Pick(0, 1, 255, 256, -1, 77);
  const bool blocked = OneIn(4), ignored = OneIn(4);
  const uint64_t all = ~uint64_t{0}, none = 0;
  uint64_t old;
  RawMask(SIG_SETMASK, &all, &old);
  KernelAction chld;
  RawAction(SIGCHLD, nullptr, &chld);
  const bool gone = chld.handler == 1 || (chld.flags & SA_NOCLDWAIT) != 0;
  const pid_t now = fork();
  if (now == 0) {
    for (int s = 1; s <= 64; s++) {
      KernelAction act = {};
      act.handler = s == signal && ignored ? 1 : 0, act.flags = kRestorer;
      RawAction(s, &act, nullptr);
    }
    const uint64_t set = blocked ? Bit(signal) : 0;
    RawMask(SIG_SETMASK, &set, nullptr);
    prctl(PR_SET_DUMPABLE, 0);
    switch (how) {
      case 0: _exit(code);
      case 1: syscall(SYS_tgkill, getpid(), getpid(), signal); _exit(3);
      case 2: raise(Pick(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)); _exit(4);
      case 3: raise(SIGSTOP); raise(SIGSTOP); _exit(5);
      case 4: {
        switch (signal % 5) {
          case 0: *reinterpret_cast<volatile char*>(16) = 1; break;
          case 1: asm volatile("ud2"); break;
          case 2: asm volatile("int3"); break;
          case 3: asm volatile("xor %%edx, %%edx; xor %%ecx, %%ecx; mov $1, %%eax; div %%ecx" ::: "eax", "ecx", "edx"); break;
          default: asm volatile("hlt"); break;
        }
        _exit(6);
      }
      default: abort();
    }
  }
  child = now;
  Say("child %d: signal %d%s%s code %d%s\n", how, signal, blocked ? " blocked" : "", ignored ? " ignored" : "", code, gone ? " not waited for" : "");
  // Orphaned or not, the group of this run decides what terminal stops do; they are told as they are.
  siginfo_t info;
  while (waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WSTOPPED | WNOWAIT) == -1 && errno == EINTR) {}
  if (!gone || info.si_code == CLD_STOPPED) {
    for (uint32_t n = 1 + Below(3); n > 0; n--) WaitOnce();
  }
  for (int rounds = 0; rounds < 3; rounds++) {
    memset(&info, 0, sizeof(info));
    if (waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WSTOPPED | WNOWAIT | WNOHANG) != 0) break;
    const bool stopped = waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == 0;
    if (!stopped) break;
    Say("continued");
    Result(kill(child, SIGCONT));
    while (waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WSTOPPED | WNOWAIT) == -1 && errno == EINTR) {}
    WaitOnce();
  }
  kill(child, SIGKILL);
  int status = 0x5555;
  Say("the last");
  const pid_t last = waitpid(child, &status, 0);
  if (last > 0) printf(" %s", StatusText(status).c_str());
  Result(last > 0 ? 0 : last);
  // What the parent was sent.
  const timespec zero = {0, 0};
  const uint64_t one = Bit(SIGCHLD);
  siginfo_t sent = {};
  const long got = syscall(SYS_rt_sigtimedwait, &one, &sent, &zero, 8);
  Say("SIGCHLD");
  if (got > 0) printf(" %s", InfoText(sent).c_str());
  Result(got);
  RawMask(SIG_SETMASK, &old, nullptr);
  (void)none;
}
// A grandchild is told when its parent ends.
void ParentDeath() {
  fflush(stdout);
  const int signal = AnySignal();
  int ends[2];
  if (signal == SIGSTOP || pipe(ends) != 0) return;
  const uint64_t all = ~uint64_t{0};
  uint64_t old;
  RawMask(SIG_SETMASK, &all, &old);
  const pid_t middle = fork();
  if (middle == 0) {
    for (int s = 1; s <= 64; s++) {
      KernelAction act = {};
      act.handler = reinterpret_cast<uintptr_t>(&Plain), act.flags = kRestorer;
      RawAction(s, &act, nullptr);
    }
    int ready[2];
    (void)!pipe(ready);
    if (fork() == 0) {
      char text[200];
      const int r = prctl(PR_SET_PDEATHSIG, signal), e = errno;
      int now = -1;
      prctl(PR_GET_PDEATHSIG, &now);
      close(ready[0]);
      close(ready[1]);
      int n = snprintf(text, sizeof(text), "set %d %s now %d", r, r == 0 ? "" : strerrorname_np(e), now);
      if (now > 0 && now != SIGKILL && now != SIGSTOP) {
        siginfo_t info = {};
        const uint64_t one = Bit(now);
        const timespec limit = {5, 0};
        const long got = syscall(SYS_rt_sigtimedwait, &one, &info, &limit, 8);
        n += snprintf(text + n, sizeof(text) - static_cast<size_t>(n), " got %ld code %d uid %d", got, info.si_code, info.si_uid);
      }
      (void)!write(ends[1], text, static_cast<size_t>(n));
      if (now == SIGSTOP) _exit(0);
      _exit(0);
    }
    close(ready[1]);
    char byte;
    (void)!read(ready[0], &byte, 1);
    _exit(0);
  }
  close(ends[1]);
  child = middle;
  waitpid(middle, nullptr, 0);
  char text[200] = "";
  size_t got = 0;
  // SIGKILL ends it whenever it comes.
  for (ssize_t n; (n = read(ends[0], text + got, sizeof(text) - 1 - got)) > 0;) got += static_cast<size_t>(n);
  close(ends[0]);
  if (signal != SIGKILL && signal != SIGSTOP) Say("PDEATHSIG %d: %s\n", signal, text);
  while (waitpid(-1, nullptr, 0) > 0) {}
  const timespec zero = {0, 0};
  const uint64_t one = Bit(SIGCHLD);
  syscall(SYS_rt_sigtimedwait, &one, nullptr, &zero, 8);
  RawMask(SIG_SETMASK, &old, nullptr);
}
void OddPointers() {
  switch (Below(6)) {
    case 0: Say("sigaction(EFAULT)"); return Result(syscall(SYS_rt_sigaction, AnySignal(), 8, nullptr, 8));
    case 1: Say("sigprocmask(EFAULT)"); return Result(syscall(SYS_rt_sigprocmask, Below(4), 8, nullptr, 8));
    case 2: Say("sigtimedwait(EFAULT)"); return Result(syscall(SYS_rt_sigtimedwait, 8, nullptr, nullptr, 8));
    case 3: Say("sigaltstack(EFAULT)"); return Result(syscall(SYS_sigaltstack, 8, nullptr));
    case 4: Say("rt_sigqueueinfo(EFAULT)"); return Result(syscall(SYS_rt_sigqueueinfo, self, 0, 8));
    default: Say("timer_create(EFAULT)"); return Result(syscall(SYS_timer_create, Below(3), 8, nullptr));
  }
}

template <Step step>
void AndLog() {
  step();
  TellLog();
}
constexpr Step kSteps[] = {
    AndLog<Action>, AndLog<Action>, AndLog<Action>, AndLog<Mask>, AndLog<Mask>, AndLog<Pending>, AndLog<Send>, AndLog<Send>, AndLog<Send>, AndLog<Send>,
    AndLog<TimedWait>, AndLog<TimedWait>, AndLog<SignalFd>, AndLog<SignalFd>, AndLog<AlternateStack>, AndLog<Suspend>, AndLog<Nested>, AndLog<Timer>,
    AndLog<Interval>, AndLog<TimerFd>, AndLog<Child>, AndLog<Child>, AndLog<ParentDeath>, AndLog<OddPointers>,
};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  self = getpid();
  // Children stop and go on in a group of their own, whose parent lives outside it.
  setpgid(0, 0);
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // grandchildren are reaped here
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  stack_pages = static_cast<char*>(mmap(nullptr, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const uint64_t nothing = 0;
  RawMask(SIG_SETMASK, &nothing, nullptr);
  for (int s = 1; s <= 64; s++) {
    KernelAction act = {};
    act.handler = s == SIGCHLD ? 0 : reinterpret_cast<uintptr_t>(&Handler), act.flags = kRestorer | SA_SIGINFO;
    RawAction(s, &act, nullptr);
  }
  return RunSteps(argc, argv, kSteps);
}
