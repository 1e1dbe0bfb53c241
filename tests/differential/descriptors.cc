// Random calls on descriptors of every kind, on terminals and on System V objects.
#include <linux/fs.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <termios.h>

#include <algorithm>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

char buffer[70000];
int semaphores, messages;  // made before the steps, removed after them

void Make() {
  int two[2] = {-1, -1};
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  switch (Below(13)) {
    case 0: return KeepBoth("pipe2", pipe2(two, O_NONBLOCK | Pick(0, O_DIRECT)), two);
    case 1: return MakeOne("eventfd", eventfd(Below(3), EFD_NONBLOCK | Pick(0, EFD_SEMAPHORE, 4)));
    case 2: return MakeOne("timerfd", timerfd_create(Pick(0, 1, 7, 3), TFD_NONBLOCK));
    case 3: return MakeOne("signalfd", signalfd(-1, &signals, SFD_NONBLOCK));
    case 4: return MakeOne("inotify", inotify_init1(IN_NONBLOCK));
    case 5: return MakeOne("epoll", epoll_create1(0));
    case 6: return KeepBoth("socketpair", socketpair(AF_UNIX, Pick(1, 2, 5) | SOCK_NONBLOCK, 0, two), two);
    case 7: return MakeOne("memfd", memfd_create("m", MFD_ALLOW_SEALING));
    case 8: return MakeOne("pidfd", static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
    case 9: {
      const char* const name = Pick("/dev/null", "/dev/zero", "/dev/full", "/proc/self/stat", "/proc", ".");
      return MakeOne(name, open(name, Pick(O_RDONLY, O_RDWR, O_PATH) | O_NONBLOCK));
    }
    case 10: return MakeOne("file", open("f", Pick(O_RDWR, O_RDONLY, O_PATH) | O_CREAT, 0644));
    case 11: return MakeOne("socket", socket(Pick(AF_UNIX, AF_INET, AF_NETLINK), Pick(1, 2, 3) | SOCK_NONBLOCK, 0));
    default: break;
  }
  const int r = openpty(&two[0], &two[1], nullptr, nullptr, nullptr);
  if (r == 0) fcntl(two[0], F_SETFL, O_RDWR | O_NONBLOCK), fcntl(two[1], F_SETFL, O_RDWR | O_NONBLOCK);
  KeepBoth("openpty", r, two);
}
void Read() {
  const int fd = AnyFd();
  const size_t size = Pick(0u, 1u, 7u, 8u, 100u, 4096u);
  if (TypeOf(fd) == S_IFREG || isatty(fd)) return;  // the times of /proc; terminals have their own step
  Say("read(%d, %zu)", fd, size);
  Result(read(fd, buffer, size));
}
void Write() {
  const int fd = AnyFd();
  const size_t size = Pick(0u, 1u, 7u, 8u, 100u, 4096u);
  if (isatty(fd)) return;
  memset(buffer, OneIn(9) ? 255 : 0, sizeof(buffer));
  buffer[0] = static_cast<char>(Below(3));
  Say("write(%d, %zu)", fd, size);
  Result(write(fd, buffer, TypeOf(fd) == S_IFREG ? 1 : size));
}
void Position() {
  const int fd = AnyFd(), whence = static_cast<int>(Below(3));
  const off_t at = Pick(0, 1, 100, -1);
  if (TypeOf(fd) == S_IFDIR) return;
  Say("lseek(%d, %ld, %d)", fd, at, whence);
  Result(lseek(fd, at, whence));
  Say("pread(%d, %ld)", fd, at);
  Outcome(pread(fd, buffer, 8, at));
}
void Ioctl() {
  const int fd = AnyFd();
  const unsigned long what = Pick<unsigned long>(FIONREAD, FIONBIO, FIOASYNC, FIOCLEX, FIOQSIZE, TCGETS, TIOCGWINSZ,
                                                 TIOCGPGRP, FICLONE, 0xc020660bul /* FS_IOC_FIEMAP */, 0x12345ul);
  const uint32_t type = TypeOf(fd);
  const bool differs = type == S_IFREG || type == S_IFDIR || type == S_IFCHR;  // by file system, by what was typed
  if (differs && what != FIONBIO && what != FIOCLEX) return;
  int value[100] = {what == FIONBIO || what == FIOASYNC};
  Say("ioctl(%d, %#lx)", fd, what);
  Result(ioctl(fd, what, value));
  if (what == FIOASYNC) value[0] = 0, ioctl(fd, what, value);
}
void Fcntl() {
  const int fd = AnyFd();
  for (const int what : {F_GETFL, F_GETFD, F_GETSIG, F_GETPIPE_SZ, F_GET_SEALS}) {
    Say("fcntl(%d, %d)", fd, what);
    const int flags = fcntl(fd, what);
    // O_LARGEFILE tells how a terminal was opened.
    Result(flags == -1 || what != F_GETFL ? flags : flags & ~0100000);
  }
  const int size = Pick(0, 1, 4096, 5000, 1 << 20, -1), seals = 1 << Below(5);
  Say("fcntl(%d, F_SETPIPE_SZ, %d)", fd, size);
  Result(fcntl(fd, F_SETPIPE_SZ, size));
  Say("fcntl(%d, F_ADD_SEALS, %d)", fd, seals);
  Result(fcntl(fd, F_ADD_SEALS, seals));
}
void Poll() {
  pollfd all[3];
  Say("poll(");
  for (pollfd& p : all) {
    p = {AnyFd(), static_cast<short>(OneIn(2) ? POLLIN | POLLOUT : static_cast<int>(Below(0x4000))), 0};
    if (isatty(p.fd)) p.fd = -1;
    printf(" %d:%x", p.fd, static_cast<unsigned>(p.events));
  }
  const int r = poll(all, std::size(all), 0);
  for (const pollfd& p : all) printf(" %x", static_cast<unsigned>(p.revents));
  Result(r);
}
void Epoll() {
  const int epoll = AnyFd(), fd = AnyFd(), what = static_cast<int>(Below(5));
  if (isatty(fd)) return;
  epoll_event event = {OneIn(2) ? uint32_t{EPOLLIN | EPOLLOUT} : 1u << Below(32), {.u64 = static_cast<uint64_t>(fd)}};
  Say("epoll_ctl(%d, %d, %d, %x)", epoll, what, fd, event.events);
  Result(epoll_ctl(epoll, what, fd, &event));
  epoll_event got[8];
  Say("epoll_wait(%d)", epoll);
  const int n = epoll_wait(epoll, got, std::size(got), 0);
  if (n > 1) std::sort(got, got + n, [](const auto& a, const auto& b) { return a.data.u64 < b.data.u64; });
  for (int i = 0; i < n; i++) printf(" %lu:%x", static_cast<unsigned long>(got[i].data.u64), got[i].events);
  Result(n);
}
void Timer() {
  const int fd = AnyFd(), flags = static_cast<int>(Below(5));
  const itimerspec to = {{0, Pick(0, 1000000000, 500)}, {Pick(0, 1000, -1), 0}};
  if ((flags & TFD_TIMER_ABSTIME) != 0) return;
  Say("timerfd_settime(%d, %d, %ld %ld)", fd, flags, to.it_value.tv_sec, to.it_interval.tv_nsec);
  Result(timerfd_settime(fd, flags, &to, nullptr));
}
void Watch() {
  const int fd = AnyFd();
  const char* const name = Pick(".", "f", "nope", "");
  const uint32_t mask = Pick<uint32_t>(IN_ALL_EVENTS, IN_CREATE | IN_DELETE, IN_ONLYDIR | IN_OPEN, 0u,
                                       IN_MASK_CREATE | IN_OPEN, IN_ONESHOT | IN_OPEN, 0x10000000u);
  Say("inotify_add_watch(%d, %s, %x)", fd, name, mask);
  Result(inotify_add_watch(fd, name, mask));
  const int which = static_cast<int>(Below(4));
  Say("inotify_rm_watch(%d, %d)", fd, which);
  Result(inotify_rm_watch(fd, which));
  Say("touch");
  Outcome(open("g", O_CREAT | O_WRONLY | O_CLOEXEC, 0600) >= 0 ? close(3) | unlink("g") : -1);
}
void Terminal() {
  const int fd = AnyFd();
  if (!isatty(fd)) return;
  termios t;
  if (OneIn(3) && tcgetattr(fd, &t) == 0) {
    t.c_lflag ^= Pick(ICANON, ECHO, ECHOE, ECHOK, ECHONL, ECHOCTL, NOFLSH, IEXTEN);
    t.c_iflag ^= OneIn(2) ? Pick(ICRNL, INLCR, IGNCR, ISTRIP, IXON, IUCLC, IUTF8) : 0;
    t.c_oflag ^= OneIn(2) ? Pick(OPOST, ONLCR, OCRNL, ONOCR, ONLRET, XTABS, OLCUC) : 0;
    Say("tcsetattr(%d, %x %x %x)", fd, t.c_iflag, t.c_oflag, t.c_lflag);
    Result(tcsetattr(fd, TCSANOW, &t));
    return;
  }
  const char* const text = Pick("abc\n", "abc", "a\x7f" "b\n", "one two\x17three\n", "line\x15" "other\n", "x\x04",
                                "\x16\x03z\n", "tab\there\n", "\r", "UPPER lower\n", "\x01\x02\n", "\b\b");
  Say("terminal write(%d, %zu, %x)", fd, strlen(text), static_cast<unsigned char>(text[0]));
  Result(write(fd, text, strlen(text)));
  usleep(500);  // the host hands it on later
  Say("terminal ioctl(%d)", fd);
  Result(ioctl(fd, Pick<unsigned long>(TIOCGPGRP, TIOCGETD, TIOCGEXCL, TCXONC, TIOCMGET), buffer));
}
void Semaphores() {
  sembuf all[3];
  const size_t n = Below(4);
  Say("semop(");
  for (sembuf& s : all) {
    s = {static_cast<unsigned short>(Below(4)), static_cast<short>(Pick(-2, -1, 0, 1, 2)), IPC_NOWAIT};
    printf(" %d:%d", s.sem_num, s.sem_op);
  }
  Result(semop(semaphores, all, n));
  const int what = Pick(GETVAL, GETNCNT, GETZCNT, SETVAL, 99), index = static_cast<int>(Below(5)) - 1;
  const int value = Pick(0, 1, 32767, 32768, -1);
  Say("semctl(%d, %d, %d)", index, what, value);
  Result(semctl(semaphores, index, what, value));
  if (step_number % 100 == 0) Result(semctl(semget(IPC_PRIVATE, Pick(0, 1, 32001, -1), 0600), 0, IPC_RMID));
}
void Messages() {
  static char message[9000];
  const long type = Pick(1, 2, 3, 0, -1), wanted = Pick(0, 1, 2, -2, 5);
  const size_t size = Pick<size_t>(0, 1, 100, 8193, -1ul), room = Pick<size_t>(0, 1, 100, 8000);
  memcpy(message, &type, sizeof(type));
  Say("msgsnd(%ld, %zd)", type, static_cast<ssize_t>(size));
  Result(msgsnd(messages, message, size, IPC_NOWAIT));
  const int flags = Pick(0, MSG_NOERROR, MSG_EXCEPT, MSG_COPY);
  Say("msgrcv(%ld, %zu, %x)", wanted, room, flags);
  Result(msgrcv(messages, message, room, wanted, flags | IPC_NOWAIT));
}

constexpr Step kSteps[] = {
    Make, Make, Make, Make, Make, Make, Close, Read, Read, Write, Write, Position, Ioctl, Ioctl, Ioctl, Fcntl,
    Poll, Poll, Epoll, Epoll, Epoll, Timer, Watch, Terminal, Terminal, Terminal, Semaphores, Messages,
};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  for (const int ignored : {SIGPIPE, SIGTTOU, SIGTTIN, SIGHUP, SIGINT, SIGIO}) signal(ignored, SIG_IGN);
  semaphores = semget(IPC_PRIVATE, 3, 0600);
  messages = msgget(IPC_PRIVATE, 0600);
  // In a session of its own, without a terminal.
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    return RunSteps(argc, argv, kSteps);
  }
  int status = 0;
  waitpid(child, &status, 0);
  printf("ended with %x\n", static_cast<unsigned>(status));
  semctl(semaphores, 0, IPC_RMID);
  msgctl(messages, IPC_RMID, nullptr);
  return 0;
}
