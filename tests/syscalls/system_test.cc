// What a process learns of the machine and of itself: uname, limits, prctl, scheduling.
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <string>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

TEST(UnameTest, IsLinuxOnThisMachine) {
  utsname u;
  ASSERT_OK(uname(&u));
  EXPECT_STREQ(u.sysname, "Linux");
  EXPECT_STREQ(u.machine, "x86_64");
  EXPECT_GE(atoi(u.release), 5);
  char name[65] = {};
  ASSERT_OK(gethostname(name, sizeof(name)));
  EXPECT_STREQ(name, u.nodename);
  EXPECT_FAILS(syscall(SYS_uname, BadAddress()), EFAULT);
}

TEST(UnameTest, SettingNamesNeedsRoot) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    CHECK_CHILD(sethostname("x", 1) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST(SysinfoTest, IsPlausible) {
  struct sysinfo s;
  ASSERT_OK(sysinfo(&s));
  EXPECT_GT(s.uptime, 0);
  EXPECT_GT(s.totalram, 0u);
  EXPECT_LE(s.freeram, s.totalram);
  EXPECT_GT(s.procs, 0);
  EXPECT_GT(s.mem_unit, 0u);
  EXPECT_FAILS(syscall(SYS_sysinfo, BadAddress()), EFAULT);
}

TEST(RlimitTest, GetSetAndHardLimit) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    rlimit lim;
    CHECK_CHILD(getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur <= lim.rlim_max);
    const rlimit lower = {10, 20};
    CHECK_CHILD(setrlimit(RLIMIT_NOFILE, &lower) == 0);
    CHECK_CHILD(getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur == 10 && lim.rlim_max == 20);
    const rlimit higher = {10, 21}, crossed = {15, 12};
    CHECK_CHILD(setrlimit(RLIMIT_NOFILE, &higher) == -1 && errno == EPERM);
    CHECK_CHILD(setrlimit(RLIMIT_NOFILE, &crossed) == -1 && errno == EINVAL);
    return 0;
  })));
  rlimit lim;
  EXPECT_FAILS(syscall(SYS_getrlimit, 99, &lim), EINVAL);
  EXPECT_FAILS(syscall(SYS_getrlimit, RLIMIT_NOFILE, BadAddress()), EFAULT);
}

TEST(RlimitTest, PrlimitOfAnother) {
  Pipe p;
  const pid_t pid = fork();
  if (pid == 0) {
    char c;
    p.writer.Reset();
    if (read(p.reader.get(), &c, 1) != 0) _exit(2);
    rlimit lim;
    _exit(getrlimit(RLIMIT_CORE, &lim) == 0 && lim.rlim_cur == 0 ? 0 : 1);
  }
  const rlimit none = {0, 0};
  rlimit old;
  EXPECT_OK(prlimit(pid, RLIMIT_CORE, &none, &old));
  EXPECT_FAILS(prlimit(1 << 22, RLIMIT_CORE, nullptr, &old), ESRCH);
  p.writer.Reset();
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

TEST(RlimitTest, ChildrenInherit) {
  EXPECT_TRUE(Exited(InChild([] {
    const rlimit lim = {33, 44};
    CHECK_CHILD(setrlimit(RLIMIT_NOFILE, &lim) == 0);
    const int status = InChild([] {
      rlimit now;
      getrlimit(RLIMIT_NOFILE, &now);
      return now.rlim_cur == 33 && now.rlim_max == 44 ? 0 : 1;
    });
    return status;
  })));
}

TEST(PrctlTest, NameOfTheThread) {
  char name[32] = {};
  ASSERT_OK(prctl(PR_SET_NAME, "a-name-that-is-too-long"));
  ASSERT_OK(prctl(PR_GET_NAME, name));
  EXPECT_STREQ(name, "a-name-that-is-");
  EXPECT_EQ(ReadFile("/proc/self/comm"), "a-name-that-is-\n");
  std::thread([] {
    char mine[32] = {};
    prctl(PR_SET_NAME, "other");
    prctl(PR_GET_NAME, mine);
    EXPECT_STREQ(mine, "other");
  }).join();
  ASSERT_OK(prctl(PR_GET_NAME, name));
  EXPECT_STREQ(name, "a-name-that-is-");
  EXPECT_FAILS(prctl(PR_GET_NAME, BadAddress()), EFAULT);
}

TEST(PrctlTest, ParentDeathSignal) {
  EXPECT_FAILS(prctl(PR_SET_PDEATHSIG, 65), EINVAL);
  Pipe p;
  const pid_t middle = fork();
  if (middle == 0) {
    Pipe ready;
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (write(ready.writer.get(), "x", 1) != 1) _exit(1);
      for (;;) pause();  // holds p.writer open until it dies
    }
    char c;
    _exit(read(ready.reader.get(), &c, 1) == 1 ? 0 : 1);
  }
  p.writer.Reset();
  int status;
  ASSERT_EQ(waitpid(middle, &status, 0), middle);
  EXPECT_TRUE(Exited(status));
  char c;
  EXPECT_EQ(read(p.reader.get(), &c, 1), 0);
}

TEST(PrctlTest, DumpableKeepcapsNoNewPrivs) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_GET_DUMPABLE) == 0);
    CHECK_CHILD(prctl(PR_SET_DUMPABLE, 1) == 0 && prctl(PR_GET_DUMPABLE) == 1);
    CHECK_CHILD(prctl(PR_SET_DUMPABLE, 3) == -1 && errno == EINVAL);
    CHECK_CHILD(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHECK_CHILD(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHECK_CHILD(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK_CHILD(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK_CHILD(prctl(PR_SET_KEEPCAPS, 2) == -1 && errno == EINVAL);
    CHECK_CHILD(prctl(999, 0, 0, 0, 0) == -1 && errno == EINVAL);
    return 0;
  })));
}

TEST(CapabilityTest, HeaderVersionsAndLoss) {
  __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct d[2] = {};
  ASSERT_OK(syscall(SYS_capget, &h, d));
  h.version = 0;
  EXPECT_FAILS(syscall(SYS_capget, &h, d), EINVAL);
  EXPECT_EQ(h.version, static_cast<unsigned>(_LINUX_CAPABILITY_VERSION_3));
  h.pid = 1 << 22;
  EXPECT_FAILS(syscall(SYS_capget, &h, d), ESRCH);
  EXPECT_FAILS(syscall(SYS_capget, BadAddress(), d), EFAULT);
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    CHECK_CHILD(syscall(SYS_capget, &header, data) == 0 && data[0].effective == 0);
    data[0].permitted = 1;
    CHECK_CHILD(syscall(SYS_capset, &header, data) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST(SchedTest, AffinityNamesAtLeastOneCpuAndCanBeNarrowed) {
  EXPECT_TRUE(Exited(InChild([] {
    cpu_set_t all, now;
    CHECK_CHILD(sched_getaffinity(0, sizeof(all), &all) == 0 && CPU_COUNT(&all) >= 1);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all)) ++cpu;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_CHILD(sched_setaffinity(0, sizeof(one), &one) == 0);
    CHECK_CHILD(sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_EQUAL(&now, &one));
    CHECK_CHILD(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    CPU_ZERO(&one);
    CHECK_CHILD(sched_setaffinity(0, sizeof(one), &one) == -1 && errno == EINVAL);
    CHECK_CHILD(sched_getcpu() == cpu);
    return 0;
  })));
  char small;
  EXPECT_FAILS(syscall(SYS_sched_getaffinity, 0, 0, &small), EINVAL);
  EXPECT_FAILS(syscall(SYS_sched_getaffinity, 1 << 22, 128, &small), ESRCH);
}

// Whether the caller's processors are these.
bool HasProcessors(const cpu_set_t& set) {
  cpu_set_t now;
  return sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_EQUAL(&now, &set);
}

TEST(SchedTest, AffinityIsInheritedByChildrenThreadsAndPrograms) {
  EXPECT_TRUE(Exited(InChild([] {
    cpu_set_t all;
    CHECK_CHILD(sched_getaffinity(0, sizeof(all), &all) == 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all)) ++cpu;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_CHILD(sched_setaffinity(0, sizeof(one), &one) == 0);
    bool thread_has = false;
    std::thread([&] { thread_has = HasProcessors(one) && sched_getcpu() == cpu; }).join();
    CHECK_CHILD(thread_has);
    CHECK_CHILD(Exited(InChild([&] { return HasProcessors(one) && sched_getcpu() == cpu ? 0 : 1; })));
    // A thread that took all back leaves nothing behind for the next one.
    std::thread([&] { sched_setaffinity(0, sizeof(all), &all); }).join();
    std::thread([&] { thread_has = HasProcessors(one) && sched_getcpu() == cpu; }).join();
    CHECK_CHILD(thread_has);
    const std::string wanted = "Cpus_allowed_list:\t" + std::to_string(cpu);
    const std::string script = "grep -qx '" + wanted + "' /proc/self/status";
    execl("/bin/sh", "sh", "-c", script.c_str(), nullptr);
    return 1;
  })));
}

TEST(SchedTest, PolicyAndPriorities) {
  EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
  EXPECT_EQ(sched_get_priority_max(SCHED_FIFO), 99);
  EXPECT_EQ(sched_get_priority_min(SCHED_FIFO), 1);
  EXPECT_EQ(sched_get_priority_max(SCHED_OTHER), 0);
  EXPECT_FAILS(sched_get_priority_max(99), EINVAL);
  sched_param p;
  ASSERT_OK(sched_getparam(0, &p));
  EXPECT_EQ(p.sched_priority, 0);
  p.sched_priority = 5;
  EXPECT_FAILS(sched_setscheduler(0, SCHED_OTHER, &p), EINVAL);
  EXPECT_FAILS(sched_getscheduler(-1), EINVAL);
  EXPECT_FAILS(sched_getscheduler(1 << 22), ESRCH);
  EXPECT_OK(sched_yield());
}

TEST(SchedTest, NiceRisesAndFallsOnlyForRoot) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    errno = 0;
    const int start = getpriority(PRIO_PROCESS, 0);
    CHECK_CHILD(errno == 0);
    CHECK_CHILD(setpriority(PRIO_PROCESS, 0, start + 5) == 0);
    CHECK_CHILD(getpriority(PRIO_PROCESS, 0) == start + 5);
    CHECK_CHILD(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 20 - (start + 5));
    CHECK_CHILD(setpriority(PRIO_PROCESS, 0, start) == -1 && errno == EACCES);
    CHECK_CHILD(setpriority(9, 0, 0) == -1 && errno == EINVAL);
    return 0;
  })));
}

TEST(ArchPrctlTest, SegmentBases) {
  EXPECT_TRUE(Exited(InChild([] {
    unsigned long fs = 0, gs = 1;
    CHECK_CHILD(syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &fs) == 0 && fs != 0);
    CHECK_CHILD(syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, 0x123456000) == 0);
    CHECK_CHILD(syscall(SYS_arch_prctl, 0x1004 /* ARCH_GET_GS */, &gs) == 0 && gs == 0x123456000);
    for (int i = 0; i < 100; ++i) syscall(SYS_getppid);
    CHECK_CHILD(syscall(SYS_arch_prctl, 0x1004, &gs) == 0 && gs == 0x123456000);
    CHECK_CHILD(syscall(SYS_arch_prctl, 0x1001, ~0ul) == -1 && errno == EPERM);
    CHECK_CHILD(syscall(SYS_arch_prctl, 0x9999, 0) == -1 && errno == EINVAL);
    return 0;
  })));
}

TEST(ArchPrctlTest, GsHoldsThroughCallsAndForks) {
  // A program's own GS base is its own: values read through it survive calls, signals and fork.
  EXPECT_TRUE(Exited(InChild([] {
    static unsigned long cell = 0x77665544;
    CHECK_CHILD(syscall(SYS_arch_prctl, 0x1001, &cell) == 0);
    const auto through_gs = [] {
      unsigned long v;
      asm volatile("mov %%gs:0,%0" : "=r"(v));
      return v;
    };
    CHECK_CHILD(through_gs() == 0x77665544);
    signal(SIGUSR1, [](int) {});
    raise(SIGUSR1);
    CHECK_CHILD(through_gs() == 0x77665544);
    return InChild([&] { return through_gs() == 0x77665544 ? 0 : 1; });
  })));
}

TEST(UnknownCallTest, IsEnosys) {
  EXPECT_FAILS(syscall(999), ENOSYS);
  EXPECT_FAILS(syscall(-1), ENOSYS);
  EXPECT_FAILS(syscall(100000), ENOSYS);
  // x32 numbers: a kernel without x32 does not know them.
  EXPECT_FAILS(syscall(0x40000000 | SYS_getpid), ENOSYS);
  EXPECT_FAILS(syscall(SYS_create_module), ENOSYS);
}

// rax as it is, which syscall() would let the compiler widen.
long CallWithNumber(uint64_t rax, long arg) {
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(rax), "D"(arg) : "rcx", "r11", "memory");
  return result;
}

TEST(SystemTest, NumberIsTheLowerHalfOfTheRegister) {
  const uint64_t halves[] = {1, 0x40000000, 0x7fffffff, 0x80000000, 0xffffffff};
  for (const uint64_t upper : halves) {
    for (int turn = 0; turn < 20; turn++) {  // trapped first, patched later
      EXPECT_EQ(CallWithNumber(upper << 32 | SYS_close, -1), -EBADF) << upper;
      EXPECT_EQ(CallWithNumber(upper << 32 | SYS_getpid, 0), getpid()) << upper;
      EXPECT_EQ(CallWithNumber(upper << 32 | 999, 0), -ENOSYS) << upper;
    }
  }
}

// With the flag that makes loads off their alignment a fault, the kernel's work must not become the program's fault.
TEST(SystemTest, AlignmentCheckHoldsOnlyForTheProgram) {
  EXPECT_TRUE(Exited(InChild([] {
    for (int turn = 0; turn < 50; turn++) {
      uint64_t after = 0;
      long pid = 0, bad = 0;
      asm volatile(
          "lea -128(%%rsp), %%rsp\n"
          "pushfq\n orq $0x40000, (%%rsp)\n popfq\n"
          "mov $39, %%eax\n syscall\n mov %%rax, %1\n"
          "mov $3, %%eax\n mov $-1, %%rdi\n syscall\n mov %%rax, %2\n"
          "pushfq\n mov (%%rsp), %0\n andq $~0x40000, (%%rsp)\n popfq\n"
          "lea 128(%%rsp), %%rsp\n"
          : "=&r"(after), "=&r"(pid), "=&r"(bad)
          :
          : "rax", "rcx", "r11", "rdi", "memory", "cc");
      if ((after & 0x40000) == 0) return 1;
      if (pid != getpid()) return 2;
      if (bad != -EBADF) return 3;
    }
    return 0;
  })));
}

struct CachestatRange {
  uint64_t offset, length;
};
TEST(CachestatTest, DevicesAndFoldersHaveNothingCached) {
  constexpr int kCachestat = 451;
  for (const char* name : {"/dev/zero", "/dev/null", "/proc"}) {
    Fd fd(open(name, O_RDONLY));
    const CachestatRange all = {0, 0};
    uint64_t answer[5] = {9, 9, 9, 9, 9};
    ASSERT_OK(syscall(kCachestat, fd.get(), &all, answer, 0)) << name;
    for (const uint64_t n : answer) EXPECT_EQ(n, 0u) << name;
    EXPECT_FAILS(syscall(kCachestat, fd.get(), &all, answer, 1), EINVAL);
  }
  EXPECT_FAILS(syscall(kCachestat, -1, nullptr, nullptr, 0), EBADF);
}

TEST(GetcpuTest, Answers) {
  unsigned cpu = ~0u, node = ~0u;
  ASSERT_OK(syscall(SYS_getcpu, &cpu, &node, nullptr));
  EXPECT_LT(cpu, 4096u);
  EXPECT_LT(node, 64u);
}

TEST(PersonalityTest, IsPlainLinux) {
  EXPECT_EQ(syscall(SYS_personality, 0xffffffff), 0);
}

TEST(MembarrierTest, QueryAndPrivate) {
  const long mask = syscall(SYS_membarrier, 0, 0, 0);
  ASSERT_OK(mask);
  EXPECT_TRUE(mask & 8);
  EXPECT_OK(syscall(SYS_membarrier, 16 /* REGISTER_PRIVATE_EXPEDITED */, 0, 0));
  EXPECT_OK(syscall(SYS_membarrier, 8 /* PRIVATE_EXPEDITED */, 0, 0));
  EXPECT_FAILS(syscall(SYS_membarrier, 1 << 20, 0, 0), EINVAL);
}

}  // namespace
}  // namespace ringwall::test
