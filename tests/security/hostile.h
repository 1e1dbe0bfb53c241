// The frame of hostile programs: each runs in a child of its own, tries to reach an aim, and says
// whether it did. Natively the same attempts are harmless (there is nothing to attack), so the cases
// run there too and prove that they do what they say.
//
// A hostile body returns kFailed (its aim failed), kReached (an escape), or dies by a signal, which
// also means that its aim failed. After each, whoever is left must be well.
#ifndef RINGWALL_TESTS_SECURITY_HOSTILE_H_
#define RINGWALL_TESTS_SECURITY_HOSTILE_H_

#include <setjmp.h>
#include <sys/prctl.h>
#include <time.h>
#include <ucontext.h>

#include "platform/stub/stub_abi.h"
#include "platform/systrap/region.h"
#include "tests/util/test_util.h"

namespace ringwall::test {

constexpr int kFailed = 0;
constexpr int kReached = 42;

// Whether we run in a sandbox: the test's runner says so.
inline bool Inside() { return getenv("RINGWALL_INSIDE") != nullptr; }

inline int64_t NowMs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Runs body in a child; a child that is still there after the limit is killed, which must work.
template <typename F>
int RunHostile(F body, int limit_ms = 8000) {
  const pid_t pid = fork();
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    _exit(body());
  }
  const int64_t deadline = NowMs() + limit_ms;
  int status = -1;
  pid_t got;
  while ((got = waitpid(pid, &status, WNOHANG)) == 0 && NowMs() < deadline) usleep(500);
  if (got == 0) {
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    const int64_t end = NowMs() + 5000;
    while ((got = waitpid(pid, &status, WNOHANG)) == 0 && NowMs() < end) usleep(500);
    if (got == 0) ADD_FAILURE() << "a hostile child cannot be killed";
  }
  kill(-pid, SIGKILL);
  return status;
}

// For code that runs on somewhere unforeseen: any end will do but the one that says escape.
inline ::testing::AssertionResult NeverReached(int status) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == kReached) {
    return ::testing::AssertionFailure() << "the aim was reached";
  }
  return ::testing::AssertionSuccess();
}

inline ::testing::AssertionResult AimFailed(int status) {
  if (WIFSIGNALED(status)) return ::testing::AssertionSuccess();
  if (WIFEXITED(status) && WEXITSTATUS(status) == kFailed) return ::testing::AssertionSuccess();
  if (WIFEXITED(status) && WEXITSTATUS(status) == kReached) {
    return ::testing::AssertionFailure() << "the aim was reached";
  }
  return ::testing::AssertionFailure() << "wait status " << status;
}

// The kernel still serves others: memory, processes, pipes, files, threads' clocks.
inline void ExpectWell() {
  Pipe p;
  const std::string text(5000, 'w');
  EXPECT_EQ(write(p.writer.get(), text.data(), text.size()), 5000);
  std::string back(5000, 0);
  EXPECT_EQ(read(p.reader.get(), back.data(), back.size()), 5000);
  EXPECT_EQ(text, back);
  void* m = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(m, MAP_FAILED);
  memset(m, 1, 1 << 20);
  EXPECT_OK(munmap(m, 1 << 20));
  EXPECT_TRUE(Exited(InChild([] { return 7; }), 7));
  TempDir dir;
  EXPECT_EQ(ReadFile(dir.File("f", "well")), "well");
}

inline sigjmp_buf g_escape;
inline volatile sig_atomic_t g_signal;
inline void Escape(int sig) {
  g_signal = sig;
  siglongjmp(g_escape, 1);
}

// Every fault jumps to g_escape; on a stack of its own, since the hostile one may be anywhere.
inline void CatchFaults() {
  static char stack[1 << 16];
  stack_t alt = {stack, 0, sizeof(stack)};
  sigaltstack(&alt, nullptr);
  struct sigaction sa = {};
  sa.sa_handler = Escape;
  sa.sa_flags = SA_ONSTACK | SA_NODEFER;
  for (int sig : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS, SIGALRM}) {
    sigaction(sig, &sa, nullptr);
  }
}

// Runs f; true when it came back without a fault.
template <typename F>
bool Survives(F f) {
  if (sigsetjmp(g_escape, 1) != 0) return false;
  f();
  return true;
}

inline bool Readable(uint64_t at) {
  return Survives([=] { (void)*reinterpret_cast<volatile char*>(at); });
}
inline bool Writable(uint64_t at) {
  return Survives([=] {
    auto* p = reinterpret_cast<volatile char*>(at);
    *p = *p;
  });
}

// Whether the kernel's own list of our mappings has this address.
inline bool Listed(uint64_t at) {
  const std::string maps = ReadFile("/proc/self/maps");
  for (size_t line = 0; line < maps.size(); line = maps.find('\n', line) + 1) {
    unsigned long from, to;
    if (sscanf(maps.c_str() + line, "%lx-%lx", &from, &to) == 2 && at >= from && at < to) return true;
  }
  return false;
}

// Places in the stub's range where something is, by its layout.
inline std::vector<uint64_t> StubPlaces() {
  return {RW_STUB_TEXT,      RW_STUB_TEXT + 0x1000, RW_STUB_COMMAND,
          RW_STUB_REPLY,     RW_STUB_ALTSTACK,      RW_STUB_TABLES,
          RW_STUB_VIEWS,     RW_STUB_TRAMPOLINES,    RW_STUB_REGIONS, RW_STUB_REGIONS + RW_REGION_SIZE,
          RW_STUB_REGIONS + RW_REGION_WINDOW, RW_STUB_REGIONS + RW_REGION_ALTSTACK,
          RW_STUB_END - 0x1000};
}

// Those of them that an attack may touch natively, where our own stack may be up there.
inline std::vector<uint64_t> SafePlaces() {
  std::vector<uint64_t> places;
  for (uint64_t place : StubPlaces()) {
    if (Inside() || !(Listed(place) || Listed(place + 0x1000) || Listed(place - 0x1000))) {
      places.push_back(place);
    }
  }
  return places;
}

}  // namespace ringwall::test

#endif  // RINGWALL_TESTS_SECURITY_HOSTILE_H_
