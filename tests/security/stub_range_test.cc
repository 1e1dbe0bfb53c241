// Attacks on the stub's range of addresses through the guest's own memory calls and pointers.
#include <sched.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

// A call on the range that must not succeed inside; natively its success is undone by the end of
// the child it runs in.
template <typename F>
void ExpectRefused(const char* what, F call) {
  for (uint64_t place : SafePlaces()) {
    EXPECT_TRUE(AimFailed(RunHostile([&] {
      const int64_t r = call(place);
      return r == -1 || !Inside() ? kFailed : kReached;
    }))) << what << " at " << std::hex << place;
  }
  ExpectWell();
}

void* At(uint64_t place) { return reinterpret_cast<void*>(place); }

TEST(StubRangeTest, FixedMappingIsRefused) {
  for (int share : {MAP_PRIVATE, MAP_SHARED}) {
    ExpectRefused("mmap", [=](uint64_t p) {
      return reinterpret_cast<int64_t>(
          mmap(At(p), 4096, PROT_READ | PROT_WRITE, share | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    });
    ExpectRefused("mmap across", [=](uint64_t p) {
      return reinterpret_cast<int64_t>(mmap(At(p - 4096), 3 * 4096, PROT_READ | PROT_WRITE,
                                            share | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    });
  }
}

TEST(StubRangeTest, LongMappingFromBelowIsRefused) {
  if (!Inside()) GTEST_SKIP() << "natively this would cover the stack";
  EXPECT_TRUE(AimFailed(RunHostile([] {
    return mmap(At(RW_STUB_START - (1 << 20)), 1ul << 33, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED
               ? kFailed
               : kReached;
  })));
  ExpectWell();
}

TEST(StubRangeTest, ProtectUnmapMoveAdviseLockAreRefused) {
  ExpectRefused("mprotect", [](uint64_t p) { return mprotect(At(p), 4096, PROT_READ | PROT_WRITE | PROT_EXEC); });
  ExpectRefused("mremap", [](uint64_t p) {
    return reinterpret_cast<int64_t>(mremap(At(p), 4096, 8192, MREMAP_MAYMOVE));
  });
  ExpectRefused("mremap onto", [](uint64_t p) {
    void* mine = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return reinterpret_cast<int64_t>(mremap(mine, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, At(p)));
  });
  ExpectRefused("mremap copy", [](uint64_t p) {
    return reinterpret_cast<int64_t>(mremap(At(p), 0, 4096, MREMAP_MAYMOVE));
  });
  for (int advice : {MADV_DONTNEED, MADV_REMOVE, MADV_FREE, MADV_DONTFORK, MADV_WIPEONFORK, MADV_PAGEOUT}) {
    ExpectRefused("madvise", [=](uint64_t p) { return madvise(At(p), 4096, advice); });
  }
  ExpectRefused("mlock", [](uint64_t p) { return mlock(At(p), 4096); });
  ExpectRefused("msync", [](uint64_t p) { return msync(At(p), 4096, MS_SYNC); });
  ExpectRefused("mincore", [](uint64_t p) {
    unsigned char v;
    return mincore(At(p), 4096, &v);
  });
}

TEST(StubRangeTest, UnmapDoesNothingThere) {
  if (!Inside()) GTEST_SKIP() << "natively this would unmap the stack";
  // Success or refusal, the process goes on making calls: nothing was unmapped.
  struct Range {
    uint64_t from, size;
  };
  for (const Range range : std::vector<Range>{
           {RW_STUB_TEXT, 4096}, {RW_STUB_START, RW_STUB_END - RW_STUB_START},
           {RW_STUB_START - 4096, 8192}, {RW_STUB_REGIONS, RW_REGION_SIZE}}) {
    EXPECT_TRUE(Exited(RunHostile([=] {
      munmap(At(range.from), range.size);
      CHECK_CHILD(getppid() > 0);
      void* m = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      CHECK_CHILD(m != MAP_FAILED);
      memset(m, 1, 4096);
      return InChild([] { return 0; });
    }))) << std::hex << range.from;
  }
  ExpectWell();
}

TEST(StubRangeTest, HintsLeadElsewhere) {
  for (uint64_t place : SafePlaces()) {
    void* m = mmap(At(place), 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(m, MAP_FAILED);
    const auto at = reinterpret_cast<uint64_t>(m);
    EXPECT_TRUE(!Inside() || at < RW_STUB_START);
    munmap(m, 4096);
  }
}

TEST(StubRangeTest, IsNotListed) {
  if (!Inside()) GTEST_SKIP() << "natively the stack is there";
  const std::string maps = ReadFile("/proc/self/maps");
  for (size_t line = 0; line < maps.size(); line = maps.find('\n', line) + 1) {
    unsigned long from, to;
    ASSERT_EQ(sscanf(maps.c_str() + line, "%lx-%lx", &from, &to), 2);
    EXPECT_TRUE(to <= RW_STUB_START || from >= RW_STUB_END);
  }
}

TEST(StubRangeTest, PointersIntoItAreBadAddresses) {
  Pipe p;
  ASSERT_EQ(fcntl(p.writer.get(), F_SETFL, O_NONBLOCK), 0);
  TempDir dir;
  Fd file(open(dir.File("f", std::string(8192, 'x')).c_str(), O_RDWR));
  char c = 'c';
  for (uint64_t place : SafePlaces()) {
    EXPECT_FAILS(write(p.writer.get(), At(place), 8), EFAULT);
    EXPECT_FAILS(pwrite(file.get(), At(place), 4096, 0), EFAULT);
    EXPECT_FAILS(read(file.get(), At(place), 8), EFAULT);
    EXPECT_FAILS(pread(file.get(), At(place), 8192, 0), EFAULT);
    iovec one[2] = {{At(place), 64}, {&c, 1}};
    EXPECT_FAILS(preadv(file.get(), one, 2, 0), EFAULT);
    EXPECT_FAILS(pwritev(file.get(), one, 2, 0), EFAULT);
    EXPECT_FAILS(readv(file.get(), static_cast<iovec*>(At(place)), 1), EFAULT);
    EXPECT_FAILS(open(static_cast<char*>(At(place)), O_RDONLY), EFAULT);
    EXPECT_FAILS(syscall(SYS_getcwd, At(place), 4096), EFAULT);
    EXPECT_FAILS(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, At(place)), EFAULT);
    EXPECT_FAILS(syscall(SYS_rt_sigprocmask, SIG_SETMASK, At(place), nullptr, 8), EFAULT);
    EXPECT_FAILS(syscall(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, At(place), 8), EFAULT);
    EXPECT_FAILS(syscall(SYS_uname, At(place)), EFAULT);
    EXPECT_FAILS(syscall(SYS_futex, At(place), 0 /* WAIT */, 0, nullptr), EFAULT);
    EXPECT_FAILS(syscall(SYS_futex, At(place), 128 /* WAIT_PRIVATE */, 0, nullptr), EFAULT);
    iovec local = {&c, 1}, remote = {At(place), 1};
    EXPECT_FAILS(syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0), EFAULT);
    EXPECT_FAILS(syscall(SYS_process_vm_writev, getpid(), &local, 1, &remote, 1, 0), EFAULT);
    Fd mem(open("/proc/self/mem", O_RDWR));
    EXPECT_FAILS(pread(mem.get(), &c, 1, static_cast<off_t>(place)), EIO);
    EXPECT_FAILS(pwrite(mem.get(), &c, 1, static_cast<off_t>(place)), EIO);
  }
  EXPECT_FAILS(read(p.reader.get(), &c, 0) == 0 ? (fcntl(p.reader.get(), F_SETFL, O_NONBLOCK),
                                                     read(p.reader.get(), &c, 1)) : 0,
               EAGAIN);
  EXPECT_EQ(ReadFile(dir / "f"), std::string(8192, 'x'));
  ExpectWell();
}

TEST(StubRangeTest, BufferThatRunsIntoItStopsAtItsBorder) {
  if (!Inside()) GTEST_SKIP() << "the border is the sandbox's";
  const uint64_t last = RW_STUB_START - 4096;
  void* m = mmap(At(last), 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (m == MAP_FAILED) GTEST_SKIP() << "the last page is not the guest's";
  memset(m, 'g', 4096);
  Pipe p;
  const ssize_t n = write(p.writer.get(), At(RW_STUB_START - 10), 4096);
  EXPECT_TRUE(n == 10 || (n == -1 && errno == EFAULT)) << n;
  munmap(m, 4096);
}

TEST(StubRangeTest, TextAndOrdersAreNotWritable) {
  for (uint64_t place : {uint64_t{RW_STUB_TEXT}, uint64_t{RW_STUB_TEXT} + 64, uint64_t{RW_STUB_COMMAND},
                         uint64_t{RW_STUB_COMMAND} + RW_CMD_CALLS, uint64_t{RW_STUB_TABLES},
                         uint64_t{RW_STUB_TRAMPOLINES}}) {
    if (!Inside() && Listed(place)) continue;
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      CatchFaults();
      return Writable(place) ? kReached : kFailed;
    }))) << std::hex << place;
  }
}

TEST(StubRangeTest, SignalStackInsideItKillsOnlyItsOwner) {
  for (uint64_t place : SafePlaces()) {
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      stack_t alt = {At(place), 0, 65536};
      sigaltstack(&alt, nullptr);
      struct sigaction sa = {};
      sa.sa_handler = [](int) { _exit(kReached); };
      sa.sa_flags = SA_ONSTACK;
      sigaction(SIGUSR1, &sa, nullptr);
      raise(SIGUSR1);
      return kFailed;
    }))) << std::hex << place;
  }
  ExpectWell();
}

TEST(StubRangeTest, KernelWrittenPointersAtThreadEnd) {
  // clear_child_tid, the robust list and rseq are words the kernel writes by itself.
  for (uint64_t place : SafePlaces()) {
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      syscall(SYS_set_tid_address, At(place));
      syscall(SYS_set_robust_list, At(place), 24);
      syscall(SYS_exit, kFailed);
      return kFailed;
    }))) << std::hex << place;
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      static uint64_t head[3];
      head[0] = place;  // the first entry lies in the stub
      head[1] = 0;
      head[2] = place;
      syscall(SYS_set_robust_list, head, 24);
      return kFailed;
    })));
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      const long r = syscall(334 /* rseq */, At(place), 32, 0, 0x53053053);
      for (int i = 0; i < 100; ++i) sched_yield();
      return r == 0 && Inside() ? kReached : kFailed;
    })));
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      int status;
      const long pid = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, nullptr,
                               At(place), At(place), 0);
      if (pid == 0) _exit(kFailed);
      if (pid > 0) waitpid(static_cast<pid_t>(pid), &status, 0);
      return kFailed;
    })));
  }
  ExpectWell();
}

TEST(StubRangeTest, ThreadsWithStacksAndTlsInsideIt) {
  for (uint64_t place : SafePlaces()) {
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      const long pid = syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, At(place + 0x800), nullptr,
                               nullptr, 0);
      if (pid == 0) {
        asm volatile("mov $60,%%eax\n xor %%edi,%%edi\n syscall" ::: "memory");
      }
      return kFailed;
    }))) << std::hex << place;
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      alignas(16) static char stack[4096];
      const long tid = syscall(SYS_clone, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS,
                               stack + sizeof(stack), nullptr, nullptr, At(place));
      if (tid == 0) {
        asm volatile("mov $60,%%eax\n xor %%edi,%%edi\n syscall" ::: "memory");
      }
      usleep(1000);
      return kFailed;
    })));
  }
  ExpectWell();
}

}  // namespace
}  // namespace ringwall::test
