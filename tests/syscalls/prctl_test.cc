// prctl(2)'s options of memory and of system-call dispatch.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>

#include <gtest/gtest.h>

namespace {

constexpr int kSetMdwe = 65, kGetMdwe = 66, kSetMemoryMerge = 67, kGetMemoryMerge = 68;
constexpr int kSetDispatch = 59;
constexpr int kRefuseExecGain = 1, kNoInherit = 2;

int Fails(int option, unsigned long a = 0, unsigned long b = 0, unsigned long c = 0,
          unsigned long d = 0) {
  return prctl(option, a, b, c, d) == -1 ? errno : 0;
}

template <typename F>
int InChild(F f) {
  const pid_t pid = fork();
  if (pid == 0) _exit(f());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(PrctlMdweTest, ArgumentsAreChecked) {
  EXPECT_EQ(Fails(kSetMdwe, 4), EINVAL);
  EXPECT_EQ(Fails(kSetMdwe, kNoInherit), EINVAL);
  EXPECT_EQ(Fails(kSetMdwe, kRefuseExecGain, 1), EINVAL);
  EXPECT_EQ(Fails(kGetMdwe, 1), EINVAL);
  EXPECT_EQ(Fails(kSetMdwe, 0), 0);
  EXPECT_EQ(prctl(kGetMdwe, 0, 0, 0, 0), 0);
}

TEST(PrctlMdweTest, IsForEver) {
  EXPECT_EQ(InChild([] {
    if (Fails(kSetMdwe, kRefuseExecGain) != 0) return 1;
    if (Fails(kSetMdwe, 0) != EPERM) return 2;
    if (Fails(kSetMdwe, kRefuseExecGain | kNoInherit) != EPERM) return 3;
    return Fails(kSetMdwe, kRefuseExecGain) == 0 ? 0 : 4;
  }), 0);
}

TEST(PrctlMdweTest, WhatCanBeWrittenDoesNotBecomeExecutable) {
  EXPECT_EQ(InChild([] {
    if (Fails(kSetMdwe, kRefuseExecGain) != 0) return 1;
    constexpr int kAnon = MAP_PRIVATE | MAP_ANONYMOUS;
    if (mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, kAnon, -1, 0) != MAP_FAILED ||
        errno != EACCES) {
      return 2;
    }
    void* code = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, kAnon, -1, 0);
    if (code == MAP_FAILED) return 3;
    if (mprotect(code, 4096, PROT_READ | PROT_EXEC) != 0) return 4;
    if (mprotect(code, 4096, PROT_EXEC | PROT_WRITE) != -1 || errno != EACCES) return 5;
    if (mprotect(code, 4096, PROT_READ | PROT_WRITE) != 0) return 6;
    if (mprotect(code, 4096, PROT_READ | PROT_EXEC) != -1 || errno != EACCES) return 7;
    void* data = mmap(nullptr, 4096, PROT_READ, kAnon, -1, 0);
    if (mprotect(data, 4096, PROT_READ | PROT_EXEC) != -1 || errno != EACCES) return 8;
    return 0;
  }), 0);
}

TEST(PrctlMdweTest, ForkInheritsUnlessToldOtherwise) {
  const auto after_fork = [](int bits) {
    return InChild([bits] {
      if (Fails(kSetMdwe, static_cast<unsigned long>(bits)) != 0) return 100;
      return InChild([] { return prctl(kGetMdwe, 0, 0, 0, 0); });
    });
  };
  EXPECT_EQ(after_fork(kRefuseExecGain), kRefuseExecGain);
  EXPECT_EQ(after_fork(kRefuseExecGain | kNoInherit), 0);
}

TEST(PrctlMemoryTest, MergingIsRemembered) {
  EXPECT_EQ(Fails(kSetMemoryMerge, 1, 1), EINVAL);
  EXPECT_EQ(Fails(kGetMemoryMerge, 1), EINVAL);
  EXPECT_EQ(InChild([] {
    if (Fails(kSetMemoryMerge, 1) != 0 || prctl(kGetMemoryMerge, 0, 0, 0, 0) != 1) return 1;
    if (InChild([] { return prctl(kGetMemoryMerge, 0, 0, 0, 0); }) != 1) return 2;
    if (Fails(kSetMemoryMerge, 0) != 0 || prctl(kGetMemoryMerge, 0, 0, 0, 0) != 0) return 3;
    return 0;
  }), 0);
}

TEST(PrctlMemoryTest, MapOfAllPlacesIsChecked) {
  struct {
    uint64_t places[11];
    uint64_t auxv;
    uint32_t auxv_size, exe_fd;
  } map = {};
  uint32_t size = 0;
  ASSERT_EQ(prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0), 0);
  EXPECT_EQ(size, sizeof(map));
  const auto arg = reinterpret_cast<unsigned long>(&map);
  EXPECT_EQ(Fails(PR_SET_MM, PR_SET_MM_MAP, arg, sizeof(map) - 1), EINVAL);
  EXPECT_EQ(Fails(PR_SET_MM, PR_SET_MM_MAP, 8, sizeof(map)), EFAULT);
  EXPECT_EQ(Fails(PR_SET_MM, PR_SET_MM_MAP, arg, sizeof(map)), EINVAL);  // places below all memory
  EXPECT_EQ(Fails(PR_SET_MM, PR_SET_MM_MAP_SIZE, 8), EFAULT);
}

// --- System calls that the program itself answers.

char g_selector;
volatile int g_caught_nr, g_caught_code;
volatile uintptr_t g_caught_at;

void OnSys(int, siginfo_t* info, void*) {
  g_selector = 0;
  g_caught_nr = info->si_syscall;
  g_caught_code = info->si_code;
  g_caught_at = reinterpret_cast<uintptr_t>(info->si_call_addr);
}

void CatchSys() {
  struct sigaction action = {};
  action.sa_sigaction = OnSys;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSYS, &action, nullptr);
}

extern "C" long plain_call(long nr);
extern "C" char plain_call_end[];
asm(R"(
        .text
        .globl plain_call, plain_call_end
plain_call:
        mov     %rdi, %rax
        syscall
plain_call_end:
        ret
)");

TEST(PrctlDispatchTest, ArgumentsAreChecked) {
  EXPECT_EQ(Fails(kSetDispatch, 0), 0);
  EXPECT_EQ(Fails(kSetDispatch, 0, 1), EINVAL);
  EXPECT_EQ(Fails(kSetDispatch, 0, 0, 1), EINVAL);
  EXPECT_EQ(Fails(kSetDispatch, 0, 0, 0, 1), EINVAL);
  EXPECT_EQ(Fails(kSetDispatch, 3), EINVAL);
  EXPECT_EQ(Fails(kSetDispatch, 1, 1, 0), EINVAL);
  EXPECT_EQ(Fails(kSetDispatch, 1, ~0UL, 1), EINVAL);
  EXPECT_EQ(Fails(kSetDispatch, 1, 0, 0, ~0UL), EFAULT);
}

TEST(PrctlDispatchTest, TheSelectorDecides) {
  EXPECT_EQ(InChild([] {
    CatchSys();
    const long pid = getpid();
    if (prctl(kSetDispatch, 1, 0, 0, &g_selector) != 0) return 1;
    if (plain_call(SYS_getpid) != pid) return 2;
    for (const long nr : {long{SYS_getpid}, long{SYS_getuid}, long{SYS_umask}, 9999L}) {
      g_caught_nr = -1;
      g_selector = 1;
      const long result = plain_call(nr);
      if (g_caught_nr != nr || result != nr) return 3;  // the registers are as before the call
      if (g_caught_code != 2 /* SYS_USER_DISPATCH */) return 4;
      if (g_caught_at != reinterpret_cast<uintptr_t>(plain_call_end)) return 5;
    }
    if (plain_call(SYS_getpid) != pid) return 6;
    // Nobody inherits it.
    return InChild([] {
      g_selector = 1;
      return plain_call(SYS_getpid) > 0 ? 0 : 7;
    });
  }), 0);
}

TEST(PrctlDispatchTest, ARangeOfCodeIsFree) {
  EXPECT_EQ(InChild([] {
    CatchSys();
    const auto start = reinterpret_cast<uintptr_t>(plain_call);
    const auto length = reinterpret_cast<uintptr_t>(plain_call_end) - start + 1;
    if (prctl(kSetDispatch, 1, start, length, &g_selector) != 0) return 1;
    g_caught_nr = -1;
    g_selector = 1;
    if (plain_call(SYS_getuid) < 0 || g_caught_nr != -1) return 2;
    getppid();  // from elsewhere
    return g_caught_nr == SYS_getppid ? 0 : 3;
  }), 0);
}

TEST(PrctlDispatchTest, ABadSelectorKills) {
  EXPECT_EQ(InChild([] {
    CatchSys();
    prctl(kSetDispatch, 1, 0, 0, &g_selector);
    g_selector = 2;
    plain_call(SYS_getpid);
    return 0;
  }), 1000 + SIGSYS);
  EXPECT_EQ(InChild([] {
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    prctl(kSetDispatch, 1, 0, 0, page);
    munmap(page, 4096);
    plain_call(SYS_getpid);
    return 0;
  }), 1000 + SIGSEGV);
}

TEST(PrctlDispatchTest, ATracerSeesAndSetsIt) {
  const pid_t pid = fork();
  if (pid == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    prctl(kSetDispatch, 1, 0, 0, &g_selector);
    raise(SIGSTOP);
    _exit(0);
  }
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  struct {
    uint64_t mode, selector, offset, length;
  } config = {};
  constexpr auto kSet = static_cast<__ptrace_request>(0x4210);
  constexpr auto kGet = static_cast<__ptrace_request>(0x4211);
  ASSERT_EQ(ptrace(kGet, pid, sizeof(config), &config), 0);
  EXPECT_EQ(config.mode, 1u);
  EXPECT_EQ(config.selector, reinterpret_cast<uintptr_t>(&g_selector));
  EXPECT_EQ(ptrace(kGet, pid, sizeof(config) - 1, &config), -1);
  EXPECT_EQ(errno, EINVAL);
  config.mode = 7;
  EXPECT_EQ(ptrace(kSet, pid, sizeof(config), &config), -1);
  EXPECT_EQ(errno, EINVAL);
  config = {};
  EXPECT_EQ(ptrace(kSet, pid, sizeof(config), &config), 0);
  ASSERT_EQ(ptrace(kGet, pid, sizeof(config), &config), 0);
  EXPECT_EQ(config.mode, 0u);
  EXPECT_EQ(config.selector, 0u);
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
}

}  // namespace
