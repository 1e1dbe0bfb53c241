// ringwall_micro [NAME...]: prints "NAME ns" per subject, or "NAME failed: why".
// ringwall_micro --time N CMD...: runs CMD N times, prints the wall times in ns, best first.
// ringwall_micro --true: returns at once; what the exec subject runs.
// ringwall_micro --hold N: makes N connections over the loopback, says "held" and sleeps.
// ringwall_micro --list: the subjects' names.
#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "benchmarks/micro/bench.h"

namespace ringwall::bench {
namespace {

constexpr int64_t kRoundNs = 20'000'000;
constexpr int kRounds = 7;
constexpr unsigned kLimitSeconds = 25;

std::vector<Subject>& Subjects() {
  static std::vector<Subject> subjects;
  return subjects;
}

int g_result_fd = -1;
std::string g_dir;

double Measure(const Subject& subject) {
  subject.body(1);  // set-up, first touches, patching of call sites
  int64_t n = 1;
  for (;;) {
    const int64_t start = NowNs();
    subject.body(n);
    const int64_t took = NowNs() - start;
    if (took >= kRoundNs / 4 || n > (1LL << 40)) {
      n = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(n) * kRoundNs / took));
      break;
    }
    n *= took < kRoundNs / 100 ? 10 : 3;
  }
  // The best round: whatever else runs on the machine only ever adds.
  double best = 0;
  for (int i = 0; i < kRounds; ++i) {
    const int64_t start = NowNs();
    subject.body(n);
    const double took = static_cast<double>(NowNs() - start) / static_cast<double>(n);
    best = i == 0 ? took : std::min(best, took);
  }
  return best / subject.per;
}

void RunApart(const Subject& subject) {
  int fds[2];
  Need(pipe(fds) == 0, "pipe");
  const pid_t pid = fork();
  Need(pid >= 0, "fork");
  if (pid == 0) {
    setpgid(0, 0);
    g_result_fd = fds[1];
    alarm(kLimitSeconds);
    dprintf(fds[1], "%.1f", Measure(subject));
    _exit(0);
  }
  close(fds[1]);
  int status = 0;
  waitpid(pid, &status, 0);
  kill(-pid, SIGKILL);  // the subject's helpers, which hold the pipe's end too
  char text[200] = {};
  const ssize_t got = read(fds[0], text, sizeof(text) - 1);
  close(fds[0]);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && got > 0) {
    printf("%s %s\n", subject.name, text);
  } else if (WIFSIGNALED(status)) {
    printf("%s failed: signal %d\n", subject.name, WTERMSIG(status));
  } else {
    printf("%s failed: %s\n", subject.name, text);
  }
  fflush(stdout);
}

int TimeCommand(int times, char** argv) {
  std::vector<int64_t> took;
  for (int i = 0; i < times; ++i) {
    const int64_t start = NowNs();
    const pid_t pid = fork();
    if (pid == 0) {
      execvp(argv[0], argv);
      _exit(127);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    took.push_back(NowNs() - start);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      fprintf(stderr, "timed command: status %d\n", status);
      return 1;
    }
  }
  std::sort(took.begin(), took.end());
  fprintf(stderr, "timed");
  for (int64_t t : took) fprintf(stderr, " %lld", static_cast<long long>(t));
  fprintf(stderr, "\n");
  return 0;
}

}  // namespace

void Register(const Subject& subject) { Subjects().push_back(subject); }

void Fail(const char* what) {
  dprintf(g_result_fd >= 0 ? g_result_fd : 2, "%s: %s", what, strerror(errno));
  _exit(1);
}

int64_t NowNs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

const std::string& Dir() {
  Need(!g_dir.empty(), "no writable folder");
  return g_dir;
}

void PinTo(int which) {
  static cpu_set_t all;
  static bool known = sched_getaffinity(0, sizeof(all), &all) == 0;
  if (!known) return;
  for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &all) && seen++ == which) {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      sched_setaffinity(0, sizeof(one), &one);
      return;
    }
  }
}

}  // namespace ringwall::bench

int main(int argc, char** argv) {
  using namespace ringwall::bench;
  if (argc == 2 && strcmp(argv[1], "--true") == 0) return 0;
  if (argc == 3 && strcmp(argv[1], "--hold") == 0) HoldConnections(atoi(argv[2]));
  if (argc == 2 && strcmp(argv[1], "--list") == 0) {
    for (const Subject& subject : Subjects()) puts(subject.name);
    return 0;
  }
  if (argc > 3 && strcmp(argv[1], "--time") == 0) return TimeCommand(atoi(argv[2]), argv + 3);
  const char* base = getenv("TMPDIR");
  g_dir = std::string(base != nullptr ? base : "/tmp") + "/ringwall-micro-XXXXXX";
  if (mkdtemp(g_dir.data()) == nullptr) g_dir.clear();  // subjects that need it will say so
  for (const Subject& subject : Subjects()) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; ++i) wanted |= strstr(subject.name, argv[i]) != nullptr;
    if (wanted) RunApart(subject);
  }
  if (!g_dir.empty()) nftw(
      g_dir.c_str(), [](const char* p, const struct stat*, int, struct FTW*) { return remove(p); },
      16, FTW_DEPTH | FTW_PHYS);
  return 0;
}
