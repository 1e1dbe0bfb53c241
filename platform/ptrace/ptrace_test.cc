// What is behind the tracer: a guest thread that got loose would still have its filter.
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/ptrace/ptrace_platform.h"
#include "sentry/abi/registers.h"

namespace ringwall {
namespace {

constexpr GuestAddr kText(0x400000);

class LooseThreadTest : public testing::Test {
 protected:
  void SetUp() override {
    HostResult<std::unique_ptr<Platform>> platform = PtracePlatform::Create();
    ASSERT_TRUE(platform.ok()) << platform.error().message();
    platform_ = platform.TakeValue();
    as_ = *platform_->NewAddressSpace();
    constexpr int kProt = PROT_READ | PROT_WRITE | PROT_EXEC;
    ASSERT_TRUE(as_->Map({kText, kText + kPageSize}, kProt, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).ok());
    const unsigned char code[] = {0x0f, 0x05, 0xcc};  // syscall; int3
    ASSERT_TRUE(as_->Write(kText, std::as_bytes(std::span(code))).ok());
    auto context = platform_->NewContext(*as_, nullptr);
    ASSERT_TRUE(context.ok());
    tid_ = (*context)->host_tid();
    // The thread goes back to its pool, parked; now it is ours.
    context->reset();
    Restart();
  }
  void TearDown() override {
    kill(as_->host_pid(), SIGKILL);
    int status = 0;
    while (waitpid(tid_, &status, __WALL) == tid_ && WIFSTOPPED(status)) continue;
  }

  // Seizes the thread once it is parked.
  void Restart() {
    ASSERT_EQ(syscall(SYS_ptrace, PTRACE_SEIZE, tid_, 0, 0), 0);
    auto& space = static_cast<PtraceAddressSpace&>(*as_);
    for (;;) {
      int status;
      ASSERT_EQ(syscall(SYS_ptrace, PTRACE_INTERRUPT, tid_, 0, 0), 0);
      ASSERT_EQ(waitpid(tid_, &status, __WALL), tid_);
      ASSERT_EQ(syscall(SYS_ptrace, PTRACE_GETREGS, tid_, 0, &regs_), 0);
      if (regs_.rip >= space.park_start() && regs_.rip < space.park_end()) return;
      syscall(SYS_ptrace, PTRACE_CONT, tid_, 0, 0);
      usleep(100);
    }
  }
  // Lets the thread make the call without PTRACE_SYSEMU; returns the signal that ended it (SIGTRAP
  // of the int3 when the host let it pass).
  int Call(uint64_t nr, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    regs_.rip = kText.value();
    regs_.rax = nr;
    regs_.orig_rax = ~uint64_t{0};
    regs_.rdi = a;
    regs_.rsi = b;
    regs_.rdx = c;
    regs_.r10 = regs_.r8 = regs_.r9 = 0;
    EXPECT_EQ(syscall(SYS_ptrace, PTRACE_SETREGS, tid_, 0, &regs_), 0);
    EXPECT_EQ(syscall(SYS_ptrace, PTRACE_CONT, tid_, 0, 0), 0);
    int status = 0;
    if (waitpid(tid_, &status, __WALL) != tid_ || !WIFSTOPPED(status)) return -1;
    return WSTOPSIG(status);
  }

  std::unique_ptr<Platform> platform_;
  RefPtr<AddressSpace> as_;
  pid_t tid_ = 0;
  abi::Registers regs_;
};

TEST_F(LooseThreadTest, EveryCallButSigreturnRseqAndPrivateFutexTraps) {
  for (uint64_t nr = 0; nr < 480; ++nr) {
    if (nr == SYS_rt_sigreturn || nr == SYS_rseq) continue;
    if (nr == 335 || nr == 336) continue;  // uretprobe, uprobe: the host lets them past any filter
    ASSERT_EQ(Call(nr), SIGSYS) << nr;  // futex too: its operation 0 is a shared wait
  }
  for (const uint64_t nr : {0x40000000ul | SYS_getpid, 0xfffffffful, ~0ul}) {
    ASSERT_EQ(Call(nr), SIGSYS) << nr;
  }
}

TEST_F(LooseThreadTest, PrivateFutexPasses) {
  EXPECT_EQ(Call(SYS_futex, kText.value(), FUTEX_WAKE_PRIVATE, 1), SIGTRAP);
  EXPECT_EQ(Call(SYS_futex, kText.value(), FUTEX_WAIT_PRIVATE, 12345), SIGTRAP);
  EXPECT_EQ(Call(SYS_futex, kText.value(), FUTEX_WAKE, 1), SIGSYS);
  EXPECT_EQ(Call(SYS_futex, kText.value(), FUTEX_REQUEUE_PRIVATE, 1), SIGSYS);
  EXPECT_EQ(Call(SYS_futex, kText.value(), 1ull << 32 | FUTEX_WAKE_PRIVATE, 1), SIGSYS);
}

TEST_F(LooseThreadTest, ForgedFrameLeavesTheFilterInPlace) {
  // rt_sigreturn of a frame of zeroes: the thread dies of it or goes on, under the same filter.
  regs_.rsp = kText.value() + 64;
  const int signal = Call(SYS_rt_sigreturn);
  EXPECT_TRUE(signal == SIGSEGV || signal == SIGTRAP || signal == -1) << signal;
  if (signal != -1) {
    EXPECT_EQ(Call(SYS_getpid), SIGSYS);
  }
}

}  // namespace
}  // namespace ringwall
