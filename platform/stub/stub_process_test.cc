// Stub processes by themselves: orders, their failure, and what the memory thread may call.
#include "platform/stub/stub_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <string>
#include <thread>

namespace ringwall {
namespace {

constexpr uint64_t kAddr = 0x10000000;
constexpr uint64_t kAnon = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

StubCall MapCall(uint64_t addr) {
  return {SYS_mmap, {addr, kPageSize, PROT_READ | PROT_WRITE, kAnon, ~uint64_t{0}, 0}, 0};
}

class StubTest : public testing::Test {
 protected:
  void SetUp() override {
    HostResult<Ref<StubHost>> host = StubHost::Create(GuestSignals::kTracer);
    ASSERT_TRUE(host.ok()) << host.error().message();
    host_ = *host;
    stub_ = New();
  }
  std::unique_ptr<StubProcess> New() {
    Result<std::unique_ptr<StubProcess>> stub = host_->NewStub();
    EXPECT_EQ(stub.error_value(), 0);
    return stub.TakeValue();
  }
  bool Mapped(uint64_t addr) {
    std::byte b;
    return stub_->Read(GuestAddr(addr), {&b, 1}).ok();
  }

  RefPtr<StubHost> host_;
  std::unique_ptr<StubProcess> stub_;
};

TEST_F(StubTest, OrdersRunUntilTheFirstFailure) {
  const StubCall calls[] = {MapCall(kAddr), {SYS_mprotect, {kAddr + 1, 1, 0, 0, 0, 0}, 0},
                            MapCall(kAddr + kPageSize)};
  size_t failed = 99;
  EXPECT_EQ(stub_->Order(calls, &failed).error_value(), EINVAL);
  EXPECT_EQ(failed, 1u);
  EXPECT_TRUE(Mapped(kAddr));
  EXPECT_FALSE(Mapped(kAddr + kPageSize));
}

TEST_F(StubTest, LongestOrderIsDone) {
  std::vector<StubCall> calls;
  for (uint64_t i = 0; i < RW_CMD_MAX_CALLS; ++i) calls.push_back(MapCall(kAddr + i * kPageSize));
  EXPECT_EQ(stub_->Order(calls).error_value(), 0);
  EXPECT_TRUE(Mapped(kAddr + (RW_CMD_MAX_CALLS - 1) * kPageSize));
}

TEST_F(StubTest, UnknownOperationIsRefused) {
  const StubCall call = {RW_OP_CMPXCHG + 1, {}, 0};
  EXPECT_EQ(stub_->Order({&call, 1}).error_value(), ENOSYS);
  EXPECT_TRUE(stub_->alive());
}

TEST_F(StubTest, RepliesStayRightOverManyOrders) {
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(stub_->Syscall(SYS_munmap, {kAddr + static_cast<uint64_t>(i % 2), kPageSize})
                  .error_value(),
              i % 2 == 0 ? 0 : EINVAL);
  }
}

TEST_F(StubTest, ThreadOfAnUnknownEntryEndsTheStub) {
  static_cast<void>(stub_->StartThread(RW_ENTRY_COUNT, {}, 0));
  while (stub_->alive()) usleep(1000);
  EXPECT_EQ(stub_->Syscall(SYS_munmap, {kAddr, kPageSize}).error_value(), ESRCH);
}

TEST_F(StubTest, DeadZygoteMakesNoStubs) {
  Result<std::unique_ptr<StubProcess>> again = host_->NewStub();
  ASSERT_TRUE(again.ok());
  // All stubs are children of this process; the zygote is the first.
  pid_t first = stub_->pid();
  for (pid_t pid = stub_->pid(); pid > stub_->pid() - 50; --pid) {
    siginfo_t info;
    if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0) {
      first = pid;
    }
  }
  ASSERT_NE(first, stub_->pid());
  kill(first, SIGKILL);
  EXPECT_EQ(host_->NewStub().error_value(), ESRCH);
  EXPECT_EQ(stub_->Fork().error_value(), 0);
}

TEST_F(StubTest, SlotsOfDeadStubsAreUsedAgain) {
  std::set<uint64_t> offsets;
  for (int i = 0; i < 100; ++i) {
    std::unique_ptr<StubProcess> stub = New();
    // The slot shows in the stub's maps as the offset of its order page.
    FILE* maps = fopen(("/proc/" + std::to_string(stub->pid()) + "/maps").c_str(), "r");
    ASSERT_NE(maps, nullptr);
    char line[512];
    while (fgets(line, sizeof(line), maps) != nullptr) {
      unsigned long start, offset;
      if (sscanf(line, "%lx-%*x %*s %lx", &start, &offset) == 2 && start == RW_STUB_COMMAND) {
        offsets.insert(offset);
      }
    }
    fclose(maps);
  }
  EXPECT_LT(offsets.size(), 50u);
}

TEST_F(StubTest, StubSharesDescriptorsAndOwnsNothingElse) {
  const std::string proc = "/proc/" + std::to_string(stub_->pid());
  FILE* status = fopen((proc + "/status").c_str(), "r");
  ASSERT_NE(status, nullptr);
  std::string text(8192, 0);
  text.resize(fread(text.data(), 1, text.size(), status));
  fclose(status);
  EXPECT_NE(text.find("NoNewPrivs:\t1"), std::string::npos);
  EXPECT_NE(text.find("Seccomp:\t2"), std::string::npos);
  EXPECT_NE(text.find("SigBlk:\tfffffffffffbfabf"), std::string::npos);  // but SEGV and BUS
  EXPECT_NE(text.find("Threads:\t1"), std::string::npos);
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(access((proc + "/fd/" + std::to_string(fd)).c_str(), F_OK), 0);
  close(fd);
}

TEST_F(StubTest, FirstOrderOfAChildIsMade) {
  const StubCall calls[] = {MapCall(kAddr), {SYS_mprotect, {kAddr + 1, 1, 0, 0, 0, 0}, 0}};
  Result<uint32_t> result = 0U;
  Result<std::unique_ptr<StubProcess>> child = stub_->Fork(std::span(calls).first(1), &result);
  ASSERT_EQ(child.error_value(), 0);
  EXPECT_EQ(result.error_value(), 0);
  EXPECT_FALSE(Mapped(kAddr));
  stub_ = child.TakeValue();
  EXPECT_TRUE(Mapped(kAddr));
  child = stub_->Fork(calls, &result);
  ASSERT_EQ(child.error_value(), 0);
  EXPECT_EQ(result.error_value(), EINVAL);
  EXPECT_EQ((*child)->Syscall(SYS_munmap, {kAddr, kPageSize}).error_value(), 0);
}

TEST_F(StubTest, SpareStubIsMadeMeanwhileAndTakenOnce) {
  const StubCall first = MapCall(kAddr);
  Result<uint32_t> result = 0U;
  uint32_t tag = 0;
  EXPECT_EQ(host_->TakeSpare(&result, &tag), nullptr);
  ASSERT_TRUE(host_->BeginSpare({&first, 1}, 7));
  EXPECT_FALSE(host_->BeginSpare({&first, 1}, 8));
  // Others may be made before it is taken.
  for (int i = 0; i < 3; ++i) EXPECT_EQ(New()->Syscall(SYS_munmap, {kAddr, kPageSize}).error_value(), 0);
  std::unique_ptr<StubProcess> spare = host_->TakeSpare(&result, &tag);
  ASSERT_NE(spare, nullptr);
  EXPECT_EQ(tag, 7u);
  EXPECT_EQ(result.error_value(), 0);
  EXPECT_EQ(host_->TakeSpare(&result, &tag), nullptr);
  stub_ = std::move(spare);
  EXPECT_TRUE(Mapped(kAddr));
  EXPECT_EQ(stub_->Syscall(SYS_munmap, {kAddr, kPageSize}).error_value(), 0);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(host_->BeginSpare({}, 0));
    ASSERT_NE(host_->TakeSpare(&result, &tag), nullptr);
  }
}

TEST_F(StubTest, ResidentPagesOfManyRangesAreCounted) {
  const auto range = [](uint64_t page, uint64_t pages) {
    return GuestRange{GuestAddr(kAddr + page * kPageSize), GuestAddr(kAddr + (page + pages) * kPageSize)};
  };
  constexpr uint64_t kPages = 20'000;
  ASSERT_EQ(stub_->Syscall(SYS_mmap, {kAddr, kPages * kPageSize, PROT_READ | PROT_WRITE,
                                      kAnon | MAP_NORESERVE, ~uint64_t{0}, 0})
                .error_value(),
            0);
  ASSERT_EQ(stub_->Syscall(SYS_madvise, {kAddr, kPages * kPageSize, MADV_NOHUGEPAGE}).error_value(), 0);
  for (const uint64_t page : {0, 1, 4031, 4032, 19'999}) {
    const std::byte one{1};
    ASSERT_TRUE(stub_->Write(GuestAddr(kAddr + page * kPageSize), {&one, 1}).ok());
  }
  std::vector<GuestRange> ranges = {range(0, kPages), range(0, 1), range(kPages, 1), range(1, 2),
                                    range(kPages - 1, 2), range(4031, 1)};
  for (uint64_t i = 0; i < 100; ++i) ranges.push_back(range(i, 1));
  std::vector<uint64_t> pages(ranges.size(), 99);
  ASSERT_TRUE(stub_->CountResident(ranges, pages).ok());
  // What is not all mapped counts nothing, and the rest all the same.
  const uint64_t expected[] = {5, 1, 0, 1, 0, 1, 1, 1, 0};
  for (size_t i = 0; i < std::size(expected); ++i) EXPECT_EQ(pages[i], expected[i]) << i;
  EXPECT_EQ(pages.back(), 0u);
}

// Children of this process that run.
int LivingChildren() {
  FILE* f = fopen(("/proc/self/task/" + std::to_string(getpid()) + "/children").c_str(), "r");
  if (f == nullptr) return -1;
  int pid, alive = 0;
  while (fscanf(f, "%d", &pid) == 1) {
    siginfo_t info = {};
    waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT | __WALL);
    if (info.si_pid == 0) ++alive;
  }
  fclose(f);
  return alive;
}

TEST_F(StubTest, ForksOfAStubThatIsKilledLeaveNothingBehind) {
  ASSERT_EQ(LivingChildren(), 2);  // the zygote and one stub
  for (unsigned i = 0; i < 60; ++i) {
    std::unique_ptr<StubProcess> parent = New();
    std::thread killer([&] {
      usleep(i * 7);
      kill(parent->pid(), SIGKILL);
    });
    while (parent->Fork().ok()) continue;
    killer.join();
  }
  int alive = 0;
  for (int i = 0; i < 500; ++i) {
    alive = LivingChildren();
    if (alive == 2) break;
    usleep(10'000);
  }
  EXPECT_EQ(alive, 2);
}

// What a memory thread does for a living; the rest must end it.
bool MayCall(int nr) {
  switch (nr) {
    case SYS_futex:
    case SYS_rt_sigreturn:
    case SYS_pread64:
    case SYS_pwrite64:
    case SYS_mmap:
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_mremap:
    case SYS_madvise:
    case SYS_mincore:
    case SYS_msync:
    case SYS_mlock2:
    case SYS_munlock:
    case SYS_membarrier:
    case SYS_rseq:
    case SYS_getrusage:
    case SYS_set_robust_list:
    case SYS_rt_sigprocmask:
    case SYS_sigaltstack:
    case SYS_getppid:
    case SYS_sched_yield:
    case SYS_exit_group:
      return true;
    default:
      return false;
  }
}

// Linux 6.14 and later let these two past every filter. They refuse whoever is not at a probe.
bool IsUprobe(int nr) { return nr == 335 || nr == 336; }

TEST_F(StubTest, MemoryThreadDiesOfEveryOtherCall) {
  for (int nr = 0; nr < 480; ++nr) {
    if (MayCall(nr) || IsUprobe(nr)) continue;
    EXPECT_EQ(stub_->Syscall(nr, {}).error_value(), ESRCH) << nr;
    EXPECT_FALSE(stub_->alive()) << nr;
    stub_ = New();
  }
}

TEST_F(StubTest, MemoryThreadDiesOfListedCallsWithOtherArguments) {
  const struct {
    int nr;
    std::array<uint64_t, 6> args;
  } calls[] = {
      {SYS_clone, {CLONE_FILES | CLONE_PARENT | SIGCHLD}},
      {SYS_clone, {RW_CLONE_THREAD & ~uint64_t{CLONE_FILES}}},
      {SYS_clone, {RW_CLONE_FORK | CLONE_NEWUSER}},
      {SYS_clone, {RW_CLONE_FORK | 1ULL << 32}},
      {SYS_seccomp, {SECCOMP_SET_MODE_STRICT}},
      {SYS_seccomp, {SECCOMP_GET_ACTION_AVAIL}},
      {SYS_prctl, {PR_SET_DUMPABLE, 0}},
      {SYS_prctl, {PR_SET_SECCOMP, 1}},
      {SYS_arch_prctl, {0x1003 /* ARCH_GET_FS */, RW_STUB_REPLY}},
  };
  for (const auto& call : calls) {
    EXPECT_EQ(stub_->Syscall(call.nr, call.args).error_value(), ESRCH) << call.nr;
    stub_ = New();
  }
}

}  // namespace
}  // namespace ringwall
