// Random sequences of epoll, poll and select over every kind of descriptor: level and edge, one shot, exclusive,
// nested, rings, copies of descriptors, which events come, and in which order.
#include <fcntl.h>
#include <linux/fs.h>
#include <mqueue.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

char buffer[8192];
constexpr int kInner = kFirstSlot + kSlots;  // epolls of their own, that come and go seldom
constexpr int kEpolls = 5;
int AnyEpoll() { return OneIn(30) ? AnyFd() : kInner + static_cast<int>(Below(kEpolls)); }
int AnyTarget() { return OneIn(6) ? AnyEpoll() : AnyFd(); }

socklen_t Name(sockaddr_un* address, int n) {
  memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  snprintf(address->sun_path, sizeof(address->sun_path), "s%d", n);
  return sizeof(*address);
}
void Make() {
  int two[2] = {-1, -1};
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, Pick(SIGUSR1, SIGUSR2));
  switch (Below(16)) {
    case 0: case 1: return KeepBoth("pipe2", pipe2(two, O_NONBLOCK | Pick(0, 0, O_DIRECT)), two);
    case 2: return MakeOne("eventfd", eventfd(Below(3), EFD_NONBLOCK | Pick(0, EFD_SEMAPHORE)));
    case 3: return MakeOne("timerfd", timerfd_create(Pick(0, 1, 7), TFD_NONBLOCK));
    case 4: return MakeOne("signalfd", signalfd(-1, &signals, SFD_NONBLOCK));
    case 5: {
      const int fd = inotify_init1(IN_NONBLOCK);
      if (OneIn(2)) inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE);
      return MakeOne("inotify", fd);
    }
    case 6: case 7: {
      const int type = Pick(SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET);
      Say("socketpair %d", type);
      const int r = socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, two);
      printf(":");
      return KeepBoth("", r, two);
    }
    case 8: return MakeOne("memfd", memfd_create("m", 0));
    case 9: {
      const int which = static_cast<int>(Below(2));
      Say("pidfd %d", which);
      pid_t pid = getpid();
      if (which == 1 && (pid = fork()) == 0) _exit(0);
      const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
      if (which == 1) waitpid(pid, nullptr, 0);
      return MakeOne("", fd);
    }
    case 10: {
      const char* const name = Pick("/dev/null", "/dev/zero", "/dev/full", "/proc/self/stat", "/proc/self/mounts", "/proc", ".",
                                    "/dev/urandom", "/proc/sys/kernel/hostname");
      return MakeOne(name, open(name, O_RDONLY | O_NONBLOCK));
    }
    case 11: return MakeOne("file", open("f", Pick(O_RDWR, O_RDONLY, O_PATH) | O_CREAT, 0644));
    case 12: case 13: return MakeOne("socket", socket(AF_UNIX, Pick(SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET) | SOCK_NONBLOCK, 0));
    case 14: {
      mkfifo("p", 0600);
      const int flags = Pick(O_RDONLY, O_RDWR, O_WRONLY);
      Say("fifo %d", flags);
      return MakeOne("", open("p", flags | O_NONBLOCK));
    }
    default: {
      const int fd = epoll_create1(0), slot = kInner + static_cast<int>(Below(kEpolls));
      Say("epoll %d", slot);
      Outcome(dup3(fd, slot, O_CLOEXEC));
      close(fd);
      return;
    }
  }
}
void CloseSlot() {
  const int fd = OneIn(12) ? AnyEpoll() : AnyFd();
  Say("close(%d)", fd);
  Result(close(fd));
}
void Read() {
  const int fd = AnyFd();
  const size_t size = Pick(1u, 8u, 100u, 4096u);
  if (TypeOf(fd) == S_IFREG || TypeOf(fd) == S_IFCHR) return;
  Say("read(%d, %zu)", fd, size);
  Result(read(fd, buffer, size));
}
// Newer kernels find out later that a datagram has no peer.
bool Alone(int fd) { return TypeOf(fd) == S_IFSOCK && getpeername(fd, nullptr, nullptr) == -1 && errno == ENOTCONN; }
void Write() {
  const int fd = AnyFd();
  if (Alone(fd)) return;
  const size_t size = Pick(1u, 8u, 100u, 4096u, 8192u);
  memset(buffer, 0, sizeof(buffer));
  buffer[0] = static_cast<char>(Below(3));
  if (OneIn(20)) memset(buffer, 0xff, 8), buffer[0] = static_cast<char>(0xfe);
  Say("write(%d, %zu)", fd, size);
  const int64_t r = write(fd, buffer, TypeOf(fd) == S_IFREG ? 1 : size);
  Result(r);
}
void Fill() {
  const int fd = AnyFd();
  const uint32_t type = TypeOf(fd);
  if ((type != S_IFIFO && type != S_IFSOCK) || Alone(fd)) return;
  Say("fill(%d)", fd);
  int n = 0;
  while (n < 100 && write(fd, buffer, 4096) > 0) n++;
  Result(type == S_IFIFO ? n : 0);
}
void Empty() {
  const int fd = AnyFd();
  const uint32_t type = TypeOf(fd);
  if (type == S_IFREG || type == S_IFCHR || type == S_IFDIR) return;
  Say("empty(%d)", fd);
  int n = 0;
  while (n < 1000 && read(fd, buffer, sizeof(buffer)) > 0) n++;
  Result(n > 0);
}
void Socket() {
  const int fd = AnyFd(), which = static_cast<int>(Below(9)), n = static_cast<int>(Below(3));
  if (fd >= 0 && TypeOf(fd) != S_IFSOCK) return;
  sockaddr_un address;
  const socklen_t length = Name(&address, n);
  const auto* to = reinterpret_cast<const sockaddr*>(&address);
  switch (which) {
    case 0: case 1:
      if (Alone(fd)) return;
      Say("shutdown(%d, %d)", fd, n);
      return Result(shutdown(fd, n));
    case 2:
      unlink(address.sun_path);
      Say("bind(%d, %d)", fd, n);
      return Result(bind(fd, to, length));
    case 3:
      Say("listen(%d, %d)", fd, n);
      return Result(listen(fd, n));
    case 4: case 5:
      Say("connect(%d, %d)", fd, n);
      return Result(connect(fd, to, length));
    case 6: {
      Say("accept(%d)", fd);
      const int got = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK);
      Outcome(got);
      return Keep(got);
    }
    case 7:
      Say("sendto(%d, %d)", fd, n);
      return Result(sendto(fd, buffer, 10, MSG_NOSIGNAL, to, length));
    default: {
      int error = 0;
      socklen_t size = sizeof(error);
      Say("SO_ERROR(%d)", fd);
      Result(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
      printf(" %d\n", error);
      return;
    }
  }
}
void Trigger() {
  switch (Below(5)) {
    case 0: {
      const int signal = Pick(SIGUSR1, SIGUSR2);
      Say("kill(%d)", signal);
      return Result(kill(getpid(), signal));
    }
    case 1:
      Say("take");
      {
        sigset_t all;
        sigfillset(&all);
        const timespec now = {};
        return Result(sigtimedwait(&all, nullptr, &now));
      }
    case 2: {
      Say("touch");
      const int fd = open("g", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
      return Outcome(fd >= 0 ? close(fd) | unlink("g") : -1);
    }
    default: {
      const int fd = AnyFd();
      const bool expire = OneIn(2);
      const itimerspec to = {{0, expire ? Pick(0, 0, 1) : 0}, {expire ? 0 : Pick(0, 1000), expire ? 1 : 0}};
      Say("timerfd_settime(%d, %ld %ld)", fd, to.it_value.tv_sec, to.it_value.tv_nsec);
      const int r = timerfd_settime(fd, 0, &to, nullptr);
      Result(r);
      // Over for certain afterwards; only once, so that the number read is the same.
      if (r == 0 && expire) {
        pollfd p = {fd, POLLIN, 0};
        poll(&p, 1, 2000);
        const itimerspec once = {{0, 0}, {0, 1}};
        if (to.it_interval.tv_nsec != 0) timerfd_settime(fd, 0, &once, nullptr), p.revents = 0, poll(&p, 1, 2000);
      }
    }
  }
}
uint32_t AnyEvents() {
  uint32_t events = Pick<uint32_t>(EPOLLIN, EPOLLIN | EPOLLOUT, EPOLLOUT, EPOLLIN | EPOLLRDHUP, 0, EPOLLRDHUP, EPOLLPRI, EPOLLIN | EPOLLRDNORM,
                                   EPOLLRDNORM, EPOLLWRNORM | EPOLLWRBAND, EPOLLRDBAND, EPOLLMSG, 0x7ff, EPOLLHUP);
  if (OneIn(3)) events |= EPOLLET;
  if (OneIn(5)) events |= EPOLLONESHOT;
  if (OneIn(8)) events |= EPOLLEXCLUSIVE;
  if (OneIn(20)) events |= 1u << Below(32);
  return events;
}
void Control() {
  const int epoll = AnyEpoll(), fd = AnyTarget();
  const int what = OneIn(2) ? EPOLL_CTL_ADD : OneIn(30) ? Pick(0, 4, -1, 5) : Pick(EPOLL_CTL_MOD, EPOLL_CTL_MOD, EPOLL_CTL_DEL);
  epoll_event event = {AnyEvents(), {.u64 = static_cast<uint64_t>(step_number)}};
  Say("epoll_ctl(%d, %d, %d, %x)", epoll, what, fd, event.events);
  Result(epoll_ctl(epoll, what, fd, OneIn(60) ? nullptr : &event));
}
void Wait() {
  const int epoll = AnyEpoll();
  epoll_event got[40] = {};
  const int most = OneIn(40) ? Pick(0, -1, 1 << 30) : Pick(1, 1, 2, 3, 40, 40);
  const timespec no = {0, 0}, bad = Pick(timespec{0, -1}, timespec{-1, 0}, timespec{0, 1000000000});
  const bool use_bad = OneIn(40);
  epoll_event* const to = OneIn(60) ? reinterpret_cast<epoll_event*>(16) : got;
  if ((most <= 0 || most > 40) && TypeOf(epoll) == 0 && fcntl(epoll, F_GETFL) == -1) return;  // which error is first has changed
  Say("epoll_wait(%d, %d)", epoll, most);
  const int64_t n = OneIn(3) ? syscall(SYS_epoll_pwait2, epoll, to, most, use_bad ? &bad : &no, nullptr, OneIn(40) ? 9 : 8) : epoll_wait(epoll, to, most, 0);
  if (to == got) {
    for (int64_t i = 0; i < n; i++) printf(" %lu:%x", static_cast<unsigned long>(got[i].data.u64), got[i].events);
  }
  Result(n);
}
void Poll() {
  pollfd all[5];
  Say("poll(");
  for (pollfd& p : all) {
    p = {AnyTarget(), static_cast<short>(Pick(POLLIN | POLLOUT, POLLIN, 0, 0x7fff, POLLPRI | POLLRDHUP, POLLRDNORM | POLLWRNORM, static_cast<int>(Below(0x8000)))), 0};
    if (OneIn(4) && &p != all) p.fd = (&p - 1)->fd;
    printf(" %d:%x", p.fd, static_cast<unsigned>(p.events));
  }
  int r;
  const timespec no = {};
  if (OneIn(2)) {
    r = poll(all, std::size(all), 0);
  } else {
    r = ppoll(all, std::size(all), &no, nullptr);
  }
  for (const pollfd& p : all) printf(" %x", static_cast<unsigned>(p.revents));
  Result(r);
}
void Select() {
  fd_set sets[3];
  for (fd_set& s : sets) FD_ZERO(&s);
  Say("select(");
  for (uint32_t n = Below(8); n > 0; n--) {
    const int fd = OneIn(30) ? 99 : kFirstSlot + static_cast<int>(Below(kSlots + kEpolls));
    const uint32_t set = Below(3);
    FD_SET(fd, &sets[set]);
    printf(" %d:%u", fd, set);
  }
  const int most = Pick(kInner + kEpolls, kInner + kEpolls, 1024, 110, kFirstSlot, 0, 2000);
  timeval no = {};
  fd_set* which[3] = {&sets[0], &sets[1], &sets[2]};
  if (OneIn(4)) which[Below(3)] = nullptr;
  printf(" of %d)", most);
  const int r = select(most, which[0], which[1], which[2], &no);
  if (r > 0) {
    for (int i = 0; i < 3; i++) {
      if (which[i] == nullptr) continue;
      for (int fd = 0; fd < most && fd < 1024; fd++) {
        if (FD_ISSET(fd, &sets[i])) printf(" %d:%d", fd, i);
      }
    }
  }
  Result(r);
}
void Info() {
  const int epoll = AnyEpoll();
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epoll);
  FILE* const f = fopen(path, "re");
  if (f == nullptr) return;
  Say("fdinfo(%d)\n", epoll);
  char line[256];
  int fd;
  unsigned events;
  unsigned long data;
  int n = 0;
  // In the order of the entries' files, which is one of addresses.
  unsigned long all = 0;
  while (fgets(line, sizeof(line), f) != nullptr) {
    if (sscanf(line, "tfd: %d events: %x data: %lx", &fd, &events, &data) != 3) continue;
    n++;
    all += static_cast<unsigned long>(fd) * 1000003u + events * 31u + data;
  }
  printf(" %d entries %lu\n", n, all);
  fclose(f);
}

constexpr Step kSteps[] = {Make, Make, Make, Make, Dup, CloseSlot, Read, Read, Write, Write, Write, Fill, Empty, Socket, Socket, Trigger, Trigger,
                           Control, Control, Control, Control, Control, Control, Wait, Wait, Wait, Wait, Wait, Poll, Select, Info};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  for (const int ignored : {SIGPIPE, SIGHUP, SIGIO}) signal(ignored, SIG_IGN);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1), sigaddset(&blocked, SIGUSR2);
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
  for (int i = 0; i < kEpolls; i++) {
    const int fd = epoll_create1(0);
    dup3(fd, kInner + i, O_CLOEXEC);
    close(fd);
  }
  if (argc == 3) random_state = strtoull(argv[1], nullptr, 0) + 77;
  for (int i = 0; i < 24; i++) Make();  // most slots
  return RunSteps(argc, argv, kSteps);
}
