// Making processes and threads.
#include <limits.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "benchmarks/micro/bench.h"

namespace ringwall::bench {
namespace {

void Reap(pid_t pid) {
  int status = -1;
  Need(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "child");
}

BENCH(fork_wait) {
  while (n--) {
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    Reap(pid);
  }
}

char g_self[PATH_MAX];

__attribute__((noinline)) pid_t SpawnSelf() {
  const pid_t pid = vfork();
  if (pid == 0) {
    execl(g_self, "micro", "--true", nullptr);
    _exit(127);
  }
  return pid;
}

BENCH(vfork_exec) {
  if (g_self[0] == 0) Need(readlink("/proc/self/exe", g_self, PATH_MAX - 1) > 0, "readlink");
  while (n--) Reap(SpawnSelf());
}

BENCH(thread_create_join) {
  while (n--) {
    pthread_t thread;
    Need(pthread_create(&thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr) == 0,
         "pthread_create");
    pthread_join(thread, nullptr);
  }
}

}  // namespace
}  // namespace ringwall::bench
