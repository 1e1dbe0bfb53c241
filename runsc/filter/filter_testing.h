// What the tests of the processes' filters share.
#ifndef RINGWALL_RUNSC_FILTER_FILTER_TESTING_H_
#define RINGWALL_RUNSC_FILTER_FILTER_TESTING_H_

#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "runsc/filter/filter.h"

namespace ringwall {

inline constexpr int kLastSyscall = 470;

// Runs `f` under the filter that `install` sets, in a process of its own; returns its wait status.
template <typename I, typename F>
int UnderFilterOf(I install, F&& f) {
  const pid_t pid = fork();
  if (pid == 0) {
    const rlimit no_core = {};
    setrlimit(RLIMIT_CORE, &no_core);
    if (!install().ok()) _exit(99);
    f();
    syscall(SYS_exit_group, 0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

inline bool DiedOfFilter(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS; }

template <typename Rules>
std::set<int> NumbersOf(const Rules& rules) {
  std::set<int> numbers;
  for (const FilterRule& rule : rules) numbers.insert(rule.number);
  return numbers;
}

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_FILTER_FILTER_TESTING_H_
