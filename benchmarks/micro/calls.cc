// Single system calls that do little: what they cost is the way there and back.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/micro/bench.h"

namespace ringwall::bench {
namespace {

BENCH(getpid) {
  while (n--) syscall(SYS_getpid);
}

BENCH(sigprocmask) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  for (; n > 0; --n) sigprocmask(n & 1 ? SIG_BLOCK : SIG_UNBLOCK, &set, nullptr);
}

BENCH(clock_gettime) {
  timespec t;
  while (n--) clock_gettime(CLOCK_MONOTONIC, &t);
}

BENCH(sched_yield) {
  while (n--) syscall(SYS_sched_yield);
}

BENCH(umask) {
  while (n--) umask(022);
}

BENCH(getrusage) {
  rusage usage;
  while (n--) getrusage(RUSAGE_SELF, &usage);
}

BENCH(write_null_1) {
  static const int fd = open("/dev/null", O_WRONLY);
  while (n--) Need(write(fd, "x", 1) == 1, "write");
}

int ReadyPipe() {
  int fds[2];
  Need(pipe(fds) == 0 && write(fds[1], "x", 1) == 1, "pipe");
  return fds[0];
}

BENCH(epoll_wait_ready) {
  static const int ep = [] {
    const int fd = epoll_create1(0);
    epoll_event e = {EPOLLIN, {}};
    Need(epoll_ctl(fd, EPOLL_CTL_ADD, ReadyPipe(), &e) == 0, "epoll_ctl");
    return fd;
  }();
  epoll_event got[4];
  while (n--) Need(epoll_wait(ep, got, 4, 0) == 1, "epoll_wait");
}

BENCH(poll_1) {
  static const int fd = ReadyPipe();
  pollfd p = {fd, POLLIN, 0};
  while (n--) Need(poll(&p, 1, 0) == 1, "poll");
}

BENCH(fstat) {
  static const int fd = open("/dev/null", O_RDONLY);
  struct stat st;
  while (n--) Need(fstat(fd, &st) == 0, "fstat");
}

BENCH(eventfd_write_read) {
  static const int fd = eventfd(0, 0);
  uint64_t v = 1;
  while (n--) {
    Need(write(fd, &v, 8) == 8 && read(fd, &v, 8) == 8, "eventfd");
    v = 1;
  }
}

BENCH(kill_self_handler) {
  static const pid_t pid = [] {
    signal(SIGUSR1, [](int) {});
    return getpid();
  }();
  while (n--) kill(pid, SIGUSR1);
}

}  // namespace
}  // namespace ringwall::bench
