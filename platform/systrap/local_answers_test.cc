// What the stub does by itself on systrap: answers, private futexes, the signal mask, the data
// window.
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "platform/epoll_calls.h"
#include "platform/testing/platform_fixture.h"

namespace ringwall {
namespace {

class LocalAnswersTest : public PlatformTest {
 protected:
  std::unique_ptr<Context> StartText(const Code& code, bool local = true) {
    EXPECT_TRUE(as_->Protect(kTextRange, PROT_READ | PROT_WRITE).ok());
    std::unique_ptr<Context> context = Start(*as_, code);
    EXPECT_TRUE(as_->Protect(kTextRange, PROT_READ | PROT_EXEC).ok());
    LocalAnswers answers;
    answers.pid = 11, answers.tid = 12, answers.ppid = 13;
    answers.uid = 14, answers.euid = 15, answers.gid = 16, answers.egid = 17;
    answers.enabled = answers.futex = local;
    context->SetLocalAnswers(answers);
    return context;
  }
  // mov $nr, %eax; syscall
  static Code Call(uint32_t nr) {
    return Code()
        .Bytes({0xb8, static_cast<int>(nr & 0xff), static_cast<int>(nr >> 8), 0, 0})
        .Syscall();
  }
  // A call with arguments, then umask with its result in rdi.
  static Code CallThenUmask(uint32_t nr, std::initializer_list<uint64_t> args) {
    Code code;
    int i = 0;
    for (const uint64_t arg : args) {
      switch (i++) {
        case 0:
          code.Mov(Code::kRdi, arg);
          break;
        case 1:
          code.Mov(Code::kRsi, arg);
          break;
        case 2:
          code.Mov(Code::kRdx, arg);
          break;
        default:
          code.Mov(Code::kRax, arg).Bytes({0x49, 0x89, 0xc2});
          break;  // mov %rax, %r10
      }
    }
    return code.Mov(Code::kRax, nr).Syscall().Bytes({0x48, 0x89, 0xc7}).Call(SYS_umask);
  }
  uint64_t ResultOf(Context& c) {
    EXPECT_EQ(c.Switch().kind, EventKind::kSyscall);
    EXPECT_EQ(c.regs().orig_rax, static_cast<uint64_t>(SYS_umask));
    return c.regs().rdi;
  }
};

INSTANTIATE_TEST_SUITE_P(Systrap, LocalAnswersTest, testing::Values("systrap"), PlatformName);

TEST_P(LocalAnswersTest, IdentityIsAnswered) {
  const std::pair<uint32_t, uint64_t> calls[] = {
      {SYS_getpid, 11},  {SYS_gettid, 12}, {SYS_getppid, 13}, {SYS_getuid, 14},
      {SYS_geteuid, 15}, {SYS_getgid, 16}, {SYS_getegid, 17}, {SYS_sched_yield, 0},
  };
  for (const auto& [nr, expected] : calls) {
    auto c = StartText(CallThenUmask(nr, {}));
    EXPECT_EQ(ResultOf(*c), expected);
  }
}

TEST_P(LocalAnswersTest, NothingIsAnsweredWhenTurnedOff) {
  auto c = StartText(CallThenUmask(SYS_getpid, {}), false);
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_getpid));
}

TEST_P(LocalAnswersTest, ClockIsTheHosts) {
  auto c = StartText(CallThenUmask(SYS_clock_gettime, {CLOCK_MONOTONIC, kData.value()}));
  timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  const Event event = c->Switch();
  clock_gettime(CLOCK_MONOTONIC, &after);
  ASSERT_EQ(event.kind, EventKind::kSyscall);
  if (c->regs().orig_rax == SYS_clock_gettime) return;  // a host without a vDSO clock
  EXPECT_EQ(c->regs().rdi, 0u);
  const auto now = Get<timespec>(*as_, kData);
  EXPECT_GE(now.tv_sec * 1'000'000'000 + now.tv_nsec,
            before.tv_sec * 1'000'000'000 + before.tv_nsec);
  EXPECT_LE(now.tv_sec * 1'000'000'000 + now.tv_nsec, after.tv_sec * 1'000'000'000 + after.tv_nsec);
}

TEST_P(LocalAnswersTest, BadAddressLeavesTheCallToTheSentry) {
  const uint64_t bad = 0x1000;
  const std::pair<uint32_t, std::array<uint64_t, 4>> calls[] = {
      {SYS_clock_gettime, {CLOCK_MONOTONIC, bad}},
      {SYS_gettimeofday, {bad, 0}},
      {SYS_time, {bad}},
      {SYS_getcpu, {bad, 0}},
      {SYS_getcpu, {kStubStart + 0x100000}},  // the stub's own memory is no better
      {SYS_rt_sigprocmask, {SIG_BLOCK, bad, 0, 8}},
      {SYS_rt_sigprocmask, {SIG_BLOCK, 0, bad, 8}},
  };
  for (const auto& [nr, args] : calls) {
    auto c = StartText(CallThenUmask(nr, {args[0], args[1], args[2], args[3]}));
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    EXPECT_EQ(c->regs().orig_rax, nr);
  }
}

TEST_P(LocalAnswersTest, MaskStaysWhenTheOldOneCannotBeWritten) {
  const uint64_t set = 1UL << 9;
  ASSERT_TRUE(as_->Write(kData, std::as_bytes(std::span(&set, 1))).ok());
  auto c = StartText(CallThenUmask(SYS_rt_sigprocmask, {SIG_BLOCK, kData.value(), 0x1000, 8}));
  const uint64_t before = c->signal_mask();
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_rt_sigprocmask));
  EXPECT_EQ(c->signal_mask(), before);
}

TEST_P(LocalAnswersTest, UnmappedVdsoLeavesTheCallToTheSentry) {
  auto c = StartText(CallThenUmask(SYS_clock_gettime, {CLOCK_MONOTONIC, kData.value()}));
  if (as_->vdso().empty()) GTEST_SKIP() << "no vDSO";
  ASSERT_TRUE(as_->Unmap(as_->vdso()).ok());
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_clock_gettime));
}

TEST_P(LocalAnswersTest, SignalMaskChangesInTheStub) {
  ASSERT_EQ(Put(*as_, kData, ~uint64_t{0}), 0);
  const Code code =
      CallThenUmask(SYS_rt_sigprocmask, {SIG_BLOCK, kData.value(), kData.value() + 8, 8});
  auto c = StartText(code);
  c->set_signal_mask(0x10);
  EXPECT_EQ(ResultOf(*c), 0u);
  EXPECT_EQ(Get(*as_, kData + 8), 0x10u);
  const uint64_t unblockable = 1UL << (SIGKILL - 1) | 1UL << (SIGSTOP - 1);
  EXPECT_EQ(c->signal_mask(), ~unblockable);
  // With a signal waiting, every change is the Sentry's.
  auto d = StartText(code);
  d->set_signals_pending(true);
  ASSERT_EQ(d->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(d->regs().orig_rax, static_cast<uint64_t>(SYS_rt_sigprocmask));
}

TEST_P(LocalAnswersTest, PrivateFutexesMeetOnTheHost) {
  // One by the Sentry's own hand, as for a task whose answers are off.
  auto waker = StartText(Call(SYS_getpid), false);
  ASSERT_EQ(waker->Switch().kind, EventKind::kSyscall);
  EXPECT_TRUE(waker->has_host_futex());
  // The other waits while *rdi == 0.
  auto waiter =
      StartText(CallThenUmask(SYS_futex, {kData.value(), FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, 0}));
  Event event;
  std::thread other([&] { event = waiter->Switch(); });
  int64_t woken = 0;
  for (int i = 0; i < 2000 && woken == 0; ++i) {
    Result<int64_t> r = waker->HostFutex({.uaddr = kData.value(), .op = FUTEX_WAKE, .val = 1});
    ASSERT_EQ(r.error_value(), 0);
    woken = *r;
    usleep(1000);
  }
  EXPECT_EQ(woken, 1);
  other.join();
  EXPECT_EQ(event.kind, EventKind::kSyscall);
  EXPECT_EQ(waiter->regs().orig_rax, static_cast<uint64_t>(SYS_umask));
  EXPECT_EQ(waiter->regs().rdi, 0u);
  EXPECT_EQ(platform_->Stats().local[SYS_futex], 1u);
}

TEST_P(LocalAnswersTest, InterruptedFutexWaitComesToTheSentry) {
  auto c =
      StartText(CallThenUmask(SYS_futex, {kData.value(), FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, 0}));
  std::thread other([&] {
    usleep(20'000);
    c->Interrupt();
  });
  const Event event = c->Switch();
  other.join();
  if (event.kind == EventKind::kInterrupted) return;  // it had not begun to wait
  ASSERT_EQ(event.kind, EventKind::kSyscall);
  EXPECT_TRUE(event.futex_interrupted);
  EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_futex));
}

TEST_P(LocalAnswersTest, HostFutexWaitsUntilItsDeadline) {
  auto c = StartText(Call(SYS_getpid), false);
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const HostFutexCall past = {.uaddr = kData.value(),
                              .op = FUTEX_WAIT,
                              .has_deadline = true,
                              .deadline_sec = now.tv_sec,
                              .deadline_nsec = now.tv_nsec};
  EXPECT_EQ(c->HostFutex(past).error_value(), ETIMEDOUT);
  HostFutexCall differs = past;
  differs.val = 1;
  EXPECT_EQ(c->HostFutex(differs).error_value(), EAGAIN);
  HostFutexCall bad = past;
  bad.uaddr = 0x1000;
  EXPECT_EQ(c->HostFutex(bad).error_value(), EFAULT);
  std::thread other([&] {
    usleep(20'000);
    c->Interrupt();
  });
  EXPECT_EQ(c->HostFutex({.uaddr = kData.value(), .op = FUTEX_WAIT}).error_value(), EINTR);
  other.join();
  EXPECT_EQ(c->Switch().kind, EventKind::kInterrupted);
}

TEST_P(LocalAnswersTest, ShortInputComesWithTheCall) {
  const std::string text = "some bytes";
  ASSERT_TRUE(as_->Write(kData, std::as_bytes(std::span(text))).ok());
  auto c = StartText(CallThenUmask(SYS_write, {1, kData.value(), text.size()}));
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  std::string copy(text.size(), '\0');
  ASSERT_TRUE(c->ReadWindow(kData, std::as_writable_bytes(std::span(copy))));
  EXPECT_EQ(copy, text);
  std::string part(4, '\0');
  ASSERT_TRUE(c->ReadWindow(kData + 5, std::as_writable_bytes(std::span(part))));
  EXPECT_EQ(part, "byte");
  EXPECT_FALSE(c->ReadWindow(kData + 1, std::as_writable_bytes(std::span(copy))));
}

TEST_P(LocalAnswersTest, PathsComeWithTheCall) {
  const std::string path = "/a/somewhat/longer/path";
  // Also right at the end of the memory, where no word beyond may be read.
  for (const GuestAddr at : {kData + 3, kDataRange.end - (path.size() + 1)}) {
    ASSERT_TRUE(as_->Write(at, std::as_bytes(std::span(path.c_str(), path.size() + 1))).ok());
    auto c = StartText(CallThenUmask(SYS_chdir, {at.value()}));
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    const std::optional<std::string> found = c->ReadWindowString(at, 4096);
    ASSERT_TRUE(found);
    EXPECT_EQ(*found, path);
    EXPECT_FALSE(c->ReadWindowString(at, 5));
  }
  // Without its end, or nowhere.
  const std::string open_end(16, 'x');
  ASSERT_TRUE(as_->Write(kDataRange.end - 16, std::as_bytes(std::span(open_end))).ok());
  for (const uint64_t at :
       {(kDataRange.end - 16).value(), uint64_t{0}, uint64_t{0x1000}, kStubStart, ~uint64_t{0}}) {
    auto c = StartText(CallThenUmask(SYS_chdir, {at}));
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    EXPECT_FALSE(c->ReadWindowString(GuestAddr(at), 4096));
  }
}

TEST_P(LocalAnswersTest, OutputIsCopiedOnTheWayBack) {
  auto c = StartText(CallThenUmask(SYS_read, {0, kData.value(), 100}));
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  const uint64_t value = 0x1122334455667788;
  ASSERT_TRUE(c->WriteWindow(kData + 8, std::as_bytes(std::span(&value, 1))));
  ASSERT_TRUE(c->WriteWindow(kData + 32, std::as_bytes(std::span(&value, 1))));
  c->regs().rax = 16;
  EXPECT_EQ(ResultOf(*c), 16u);
  EXPECT_EQ(Get(*as_, kData + 8), value);
  EXPECT_EQ(Get(*as_, kData + 32), value);
  // Only after a system call.
  auto d = StartText(CallThenUmask(SYS_read, {0, 0x1000, 100}));
  ASSERT_EQ(d->Switch().kind, EventKind::kSyscall);
  ASSERT_TRUE(d->WriteWindow(GuestAddr(0x1000), std::as_bytes(std::span(&value, 1))));
  d->regs().rax = 8;
  EXPECT_EQ(ResultOf(*d), static_cast<uint64_t>(-EFAULT));
}

TEST_P(LocalAnswersTest, EpollCtlIsLeftToBeDone) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 77;
  ASSERT_TRUE(as_->Write(kData, std::as_bytes(std::span(&event, 1))).ok());
  struct Row {
    int epfd, op, fd;
    uint64_t at;
    bool watched, answered;
  };
  const Row rows[] = {
      {5, EPOLL_CTL_MOD, 6, kData.value(), true, true},   {5, EPOLL_CTL_MOD, 6, kData.value(), false, false},
      {5, EPOLL_CTL_ADD, 6, kData.value(), false, true},  {5, EPOLL_CTL_ADD, 6, kData.value(), true, false},
      {5, EPOLL_CTL_DEL, 6, 0, true, true},               {5, EPOLL_CTL_DEL, 6, 0, false, false},
      {5, EPOLL_CTL_MOD, 7, kData.value(), true, false},  {4, EPOLL_CTL_MOD, 6, kData.value(), true, false},
      {5, EPOLL_CTL_MOD, 6, 0x1000, true, false},         {5, 9, 6, kData.value(), true, false},
      {5, EPOLL_CTL_DEL, 100'000, 0, true, false},        {5, EPOLL_CTL_DEL, -1, 0, true, false},
  };
  for (const Row& row : rows) {
    auto c = StartText(Call(SYS_umask)
                           .Mov(Code::kRdi, static_cast<uint32_t>(row.epfd))
                           .Mov(Code::kRsi, static_cast<uint32_t>(row.op))
                           .Mov(Code::kRdx, static_cast<uint32_t>(row.fd))
                           .Mov(Code::kRax, row.at)
                           .Bytes({0x49, 0x89, 0xc2})
                           .Mov(Code::kRax, SYS_epoll_ctl)
                           .Syscall()
                           .Bytes({0x48, 0x89, 0xc7})
                           .Call(SYS_umask));
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    EpollCalls* const ahead = EpollCalls::Current();
    ASSERT_NE(ahead, nullptr);
    ahead->TellEpoll(5, 6, row.watched);
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(row.answered ? SYS_umask : SYS_epoll_ctl));
    std::array<EpollCall, EpollCalls::kMost> calls;
    ASSERT_EQ(ahead->TakeEpollCalls(calls), row.answered ? 1u : 0u);
    if (!row.answered) continue;
    EXPECT_EQ(c->regs().rdi, 0u);
    EXPECT_EQ(calls[0].op, row.op);
    EXPECT_EQ(calls[0].fd, 6);
    if (row.op == EPOLL_CTL_DEL) continue;
    EXPECT_EQ(calls[0].events, static_cast<uint32_t>(EPOLLIN));
    EXPECT_EQ(calls[0].data, 77u);
  }
}

}  // namespace
}  // namespace ringwall
