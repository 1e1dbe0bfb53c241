// Helpers of the tests of ptrace: raw requests, tracees that stop themselves, what waits report.
#ifndef RINGWALL_TESTS_UTIL_PTRACE_UTIL_H_
#define RINGWALL_TESTS_UTIL_PTRACE_UTIL_H_

#include <elf.h>
#include <linux/audit.h>
#include <linux/ptrace.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/user.h>

#include <functional>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {

// glibc's ptrace() gives peeked words back as its result.
inline long Ptrace(int request, pid_t pid, uint64_t addr = 0, uint64_t data = 0) {
  return syscall(SYS_ptrace, request, pid, addr, data);
}
template <typename T>
uint64_t Ptr(T* p) {
  return reinterpret_cast<uint64_t>(p);
}

// Waits for one report of `pid`.
inline int Wait(pid_t pid) {
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, __WALL), pid) << ErrnoName(errno);
  return status;
}

inline int StopStatus(int signo, int event = 0) { return event << 16 | signo << 8 | 0x7f; }

// A child that calls TRACEME, stops, runs `body` and exits with its result.
inline pid_t Tracee(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (Ptrace(PTRACE_TRACEME, 0) != 0) _exit(99);
    raise(SIGSTOP);
    _exit(body());
  }
  EXPECT_EQ(Wait(pid), StopStatus(SIGSTOP));
  return pid;
}

// A child that runs `body` and exits with its result.
inline pid_t Child(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  return pid;
}

inline int PauseForever() {
  for (;;) pause();
}

inline void Kill(pid_t pid) {
  kill(pid, SIGKILL);
  int status;
  while (waitpid(pid, &status, __WALL) == pid && !WIFSIGNALED(status) && !WIFEXITED(status)) {
    Ptrace(PTRACE_CONT, pid);
  }
}

inline user_regs_struct Regs(pid_t pid) {
  user_regs_struct r = {};
  EXPECT_OK(Ptrace(PTRACE_GETREGS, pid, 0, Ptr(&r)));
  return r;
}

inline char State(pid_t pid) {
  char path[64], line[512] = {};
  snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  const int fd = open(path, O_RDONLY);
  if (fd == -1) return '?';
  const ssize_t n = read(fd, line, sizeof(line) - 1);
  close(fd);
  const char* end = n > 0 ? strrchr(line, ')') : nullptr;
  return end != nullptr ? end[2] : '?';
}

inline void AwaitState(pid_t pid, char state) {
  for (int i = 0; i < 20000 && State(pid) != state; i++) usleep(500);
  EXPECT_EQ(State(pid), state);
}

}  // namespace ringwall::test

#endif  // RINGWALL_TESTS_UTIL_PTRACE_UTIL_H_
