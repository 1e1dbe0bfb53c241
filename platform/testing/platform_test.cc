// Contexts: running guest code and what ends it.
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "platform/testing/platform_fixture.h"

namespace ringwall {
namespace {

INSTANTIATE_TEST_SUITE_P(All, PlatformTest, RW_ALL_PLATFORMS, PlatformName);

size_t ThreadsOf(pid_t pid) {
  DIR* dir = opendir(("/proc/" + std::to_string(pid) + "/task").c_str());
  if (dir == nullptr) return 0;
  size_t n = 0;
  while (readdir(dir) != nullptr) ++n;
  closedir(dir);
  return n - 2;
}

// Waits until the process is gone or a zombie.
bool Dies(pid_t pid) {
  for (int i = 0; i < 500; ++i) {
    const std::string path = "/proc/" + std::to_string(pid) + "/stat";
    FILE* f = fopen(path.c_str(), "r");
    if (f == nullptr) return true;
    char state = 0;
    const int n = fscanf(f, "%*d (%*[^)]) %c", &state);
    fclose(f);
    if (n != 1 || state == 'Z' || state == 'X') return true;
    usleep(10'000);
  }
  return false;
}

TEST_P(PlatformTest, SystemCallsArriveAndTheirResultsGoBack) {
  auto c = Start(*as_, Code()
                           .Mov(Code::kRdi, 11)
                           .Mov(Code::kRsi, 12)
                           .Mov(Code::kRdx, 13)
                           .Call(SYS_write)
                           .Bytes({0x48, 0x89, 0xc7})  // mov %rax, %rdi
                           .Call(SYS_exit));
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_write));
  EXPECT_EQ(c->regs().rdi, 11u);
  EXPECT_EQ(c->regs().rsi, 12u);
  EXPECT_EQ(c->regs().rdx, 13u);
  c->regs().rax = static_cast<uint64_t>(-EPIPE);
  const Event second = c->Switch();
  ASSERT_EQ(second.kind, EventKind::kSyscall);
  EXPECT_FALSE(second.compat_entry);
  EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_exit));
  EXPECT_EQ(c->regs().rdi, static_cast<uint64_t>(-EPIPE));
}

TEST_P(PlatformTest, ResultsThatLookLikeRestartsAreLeftAlone) {
  auto c = Start(*as_, Code().Call(SYS_pause).Bytes({0x48, 0x89, 0xc7}).Call(SYS_exit));
  for (const int result : {512, 513, 514, 516}) {
    c->regs().rip = kText.value();
    c->RegsChanged();
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    c->regs().rax = static_cast<uint64_t>(-result);
    c->Interrupt();  // a signal, on which the host would restart
    Event event = c->Switch();
    while (event.kind == EventKind::kInterrupted) event = c->Switch();
    ASSERT_EQ(event.kind, EventKind::kSyscall);
    EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_exit));
    EXPECT_EQ(c->regs().rdi, static_cast<uint64_t>(-result));
  }
}

TEST_P(PlatformTest, OnlyRcxAndR11ChangeInASystemCall) {
  auto c = Start(*as_, Code().Syscall().Syscall());
  abi::Registers& r = c->regs();
  for (uint64_t* p : {&r.r15, &r.r14, &r.r13, &r.r12, &r.rbp, &r.rbx, &r.r11, &r.r10, &r.r9, &r.r8,
                      &r.rcx, &r.rdx, &r.rsi, &r.rdi}) {
    *p = 0x1111'2222'3333'4444 + static_cast<uint64_t>(p - &r.r15);
  }
  r.rax = SYS_getppid;
  r.fs_base = kData.value() + 64;
  r.gs_base = kData.value() + 128;
  r.eflags = 0x8d7;  // every arithmetic flag
  c->RegsChanged();
  const abi::Registers before = r;
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  abi::Registers expected = before;
  expected.rip += 2;
  expected.rcx = expected.rip;
  expected.r11 = expected.eflags | 0x200;
  expected.eflags = expected.r11;
  expected.orig_rax = SYS_getppid;
  expected.rax = r.rax = 99;
  EXPECT_EQ(memcmp(&expected, &r, sizeof(r)), 0);
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  expected.rip += 2;
  expected.rcx = expected.rip;
  expected.orig_rax = 99;
  expected.rax = r.rax;
  EXPECT_EQ(memcmp(&expected, &r, sizeof(r)), 0);
}

TEST_P(PlatformTest, NumbersOfX32AndBeyondPassAsGiven) {
  auto c = Start(*as_, Code().Mov(Code::kRax, 0x40000000 | 1).Syscall().Call(0xffff).Call(~0u));
  for (const uint64_t nr : {uint64_t{0x40000001}, uint64_t{0xffff}, uint64_t{0xffffffff}}) {
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    EXPECT_EQ(static_cast<uint32_t>(c->regs().orig_rax), nr);
    c->regs().rax = 0;
  }
}

TEST_P(PlatformTest, Int80IsToldFromSyscall) {
  auto c = Start(*as_, Code().Mov(Code::kRax, 20).Bytes({0xcd, 0x80}));
  const Event event = c->Switch();
  if (event.kind == EventKind::kFault) {
    EXPECT_EQ(event.signo, SIGSEGV);  // a host without 32-bit emulation
  } else {
    ASSERT_EQ(event.kind, EventKind::kSyscall);
    EXPECT_TRUE(event.compat_entry);
    EXPECT_EQ(c->regs().rip, kText.value() + 12);
  }
}

TEST_P(PlatformTest, VsyscallPageCallsArrive) {
  // call *%rax to gettimeofday of the vsyscall page.
  auto c = Start(*as_, Code().Mov(Code::kRax, 0xffffffffff600000).Bytes({0xff, 0xd0}).Call(7));
  const Event event = c->Switch();
  if (event.kind == EventKind::kFault) {
    EXPECT_EQ(event.signo, SIGSEGV);  // a host without the page
    return;
  }
  ASSERT_EQ(event.kind, EventKind::kSyscall);
  EXPECT_TRUE(event.vsyscall);
  EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_gettimeofday));
  EXPECT_EQ(c->regs().rip, kText.value() + 12);
  c->regs().rax = 5;
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(c->regs().orig_rax, 7u);
}

TEST_P(PlatformTest, FaultsCarryTheirSignal) {
  const auto run = [&](std::initializer_list<int> bytes) {
    auto c = Start(*as_, Code().Bytes(bytes));
    c->regs().rdi = 0x7000;
    c->RegsChanged();
    Event event = c->Switch();
    EXPECT_EQ(event.kind, EventKind::kFault);
    return event;
  };
  const Event read = run({0x48, 0x8b, 0x07});  // mov (%rdi), %rax
  EXPECT_EQ(read.signo, SIGSEGV);
  EXPECT_EQ(read.code, SEGV_MAPERR);
  EXPECT_EQ(read.addr, 0x7000u);
  EXPECT_EQ(read.trap_no, 14u);
  const Event illegal = run({0x0f, 0x0b});
  EXPECT_EQ(illegal.signo, SIGILL);
  EXPECT_EQ(illegal.addr, kText.value());
  const Event divide = run({0x31, 0xc0, 0xf7, 0xf0});  // xor %eax, %eax; div %eax
  EXPECT_EQ(divide.signo, SIGFPE);
  EXPECT_EQ(divide.code, FPE_INTDIV);
  EXPECT_EQ(divide.addr, kText.value() + 2);
  const Event breakpoint = run({0xcc});
  EXPECT_EQ(breakpoint.signo, SIGTRAP);
  const Event privileged = run({0xf4});
  EXPECT_EQ(privileged.signo, SIGSEGV);
  EXPECT_EQ(privileged.code, SI_KERNEL);
  EXPECT_EQ(privileged.trap_no, 13u);
}

TEST_P(PlatformTest, GuestGoesOnAfterAFault) {
  auto c = Start(*as_, Code().Bytes({0x0f, 0x0b}).Call(SYS_getpid));
  ASSERT_EQ(c->Switch().kind, EventKind::kFault);
  EXPECT_EQ(c->regs().rip, kText.value());
  c->regs().rip += 2;
  c->RegsChanged();
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_getpid));
}

TEST_P(PlatformTest, WriteToReadOnlyPageIsAnAccessError) {
  auto c = Start(*as_, Code().Bytes({0x48, 0x89, 0x07}));  // mov %rax, (%rdi)
  c->regs().rdi = kData.value();
  c->RegsChanged();
  ASSERT_TRUE(as_->Protect(kDataRange, PROT_READ).ok());
  Event event = c->Switch();
  ASSERT_EQ(event.kind, EventKind::kFault);
  EXPECT_EQ(event.signo, SIGSEGV);
  EXPECT_EQ(event.code, SEGV_ACCERR);
  EXPECT_EQ(event.addr, kData.value());
}

TEST_P(PlatformTest, SingleStepTrapsAfterOneInstruction) {
  auto c = Start(*as_, Code().Bytes({0x90, 0x90}));
  c->regs().eflags |= 0x100;
  c->RegsChanged();
  const Event event = c->Switch();
  ASSERT_EQ(event.kind, EventKind::kFault);
  EXPECT_EQ(event.signo, SIGTRAP);
  EXPECT_EQ(event.code, TRAP_TRACE);
  EXPECT_EQ(c->regs().rip, kText.value() + 1);
}

TEST_P(PlatformTest, ImpossibleRegistersAreAFault) {
  auto c = Start(*as_, Code().Call(1));
  c->regs().rip = 0x8000'0000'0000'0000;
  c->RegsChanged();
  Event event = c->Switch();
  ASSERT_EQ(event.kind, EventKind::kFault);
  EXPECT_EQ(event.signo, SIGSEGV);
}

TEST_P(PlatformTest, InterruptEndsALoop) {
  auto c = Start(*as_, Code().JumpBack(0));
  for (int i = 0; i < 20; ++i) {
    std::thread other([&] {
      usleep(1000);
      c->Interrupt();
    });
    EXPECT_EQ(c->Switch().kind, EventKind::kInterrupted);
    EXPECT_EQ(c->regs().rip, kText.value());
    other.join();
  }
}

TEST_P(PlatformTest, InterruptBeforeSwitchIsKept) {
  auto c = Start(*as_, Code().JumpBack(0));
  c->Interrupt();
  c->Interrupt();
  EXPECT_EQ(c->Switch().kind, EventKind::kInterrupted);
  c->Interrupt();
  EXPECT_EQ(c->Switch().kind, EventKind::kInterrupted);
}

TEST_P(PlatformTest, InterruptsNeverLoseASystemCall) {
  // Counts in rbx; each turn is one call.
  auto c = Start(*as_, Code().Bytes({0x48, 0xff, 0xc3}).Call(SYS_umask).JumpBack(15));
  std::atomic<bool> stop = false;
  std::thread other([&] {
    while (!stop) c->Interrupt();
  });
  uint64_t calls = 0;
  while (calls < 300) {
    const Event event = c->Switch();
    if (event.kind == EventKind::kInterrupted) continue;
    ASSERT_EQ(event.kind, EventKind::kSyscall);
    EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_umask));
    EXPECT_EQ(c->regs().rbx, ++calls);
    c->regs().rax = 18;
  }
  stop = true;
  other.join();
}

TEST_P(PlatformTest, ForkedTaskGoesOnWithItsOwnMemory) {
  // fork; mov %rax, (%rdi); pause
  auto parent = Start(*as_, Code().Call(SYS_fork).Bytes({0x48, 0x89, 0x07}).Call(SYS_pause));
  parent->regs().rdi = kData.value();
  parent->regs().r15 = 4711;
  parent->RegsChanged();
  ASSERT_EQ(parent->Switch().kind, EventKind::kSyscall);
  Result<Ref<AddressSpace>> child_as = as_->Fork();
  ASSERT_EQ(child_as.error_value(), 0);
  Result<std::unique_ptr<Context>> child = platform_->NewContext(**child_as, parent.get());
  ASSERT_EQ(child.error_value(), 0);
  (*child)->regs().rax = 0;
  parent->regs().rax = 1234;
  Event event;
  std::thread on_its_own([&] {
    event = (*child)->Switch();
    EXPECT_EQ((*child)->regs().orig_rax, static_cast<uint64_t>(SYS_pause));
    EXPECT_EQ((*child)->regs().r15, 4711u);
    child->reset();
  });
  on_its_own.join();
  EXPECT_EQ(event.kind, EventKind::kSyscall);
  EXPECT_EQ(parent->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(Get(*as_, kData), 1234u);
  EXPECT_EQ(Get(**child_as, kData), 0u);
}

TEST_P(PlatformTest, ThreadsShareMemory) {
  // lock incq (%rdi); dec %rsi; jnz; call
  const Code code = Code().Bytes({0xf0, 0x48, 0xff, 0x07, 0x48, 0xff, 0xce, 0x75, 0xf7}).Call(60);
  constexpr uint64_t kTurns = 20000;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      auto c = Start(*as_, code);
      c->regs().rdi = kData.value();
      c->regs().rsi = kTurns;
      c->RegsChanged();
      EXPECT_EQ(c->Switch().kind, EventKind::kSyscall);
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(Get(*as_, kData), 4 * kTurns);
}

TEST_P(PlatformTest, VectorRegistersAreReadAndSet) {
  // movq %xmm0, %rax; movq %rdi, %xmm1; getpid
  auto c = Start(*as_, Code()
                           .Bytes({0x66, 0x48, 0x0f, 0x7e, 0xc0, 0x48, 0x89, 0xc6})
                           .Bytes({0x66, 0x48, 0x0f, 0x6e, 0xcf})
                           .Call(SYS_getpid)
                           .JumpBack(0));
  c->regs().rdi = 0xabcdef;
  c->RegsChanged();
  std::vector<std::byte> area(c->xstate_size());
  ASSERT_EQ(c->GetXState(area).error_value(), 0);
  const uint64_t value = 0x1234'5678'9abc'def0, sse = 2;
  memcpy(area.data() + 160, &value, 8);
  uint64_t features;
  memcpy(&features, area.data() + 512, 8);
  features |= sse;
  memcpy(area.data() + 512, &features, 8);
  ASSERT_EQ(c->SetXState(area).error_value(), 0);
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(c->regs().rsi, value);
  ASSERT_EQ(c->GetXState(area).error_value(), 0);
  uint64_t xmm1;
  memcpy(&xmm1, area.data() + 176, 8);
  EXPECT_EQ(xmm1, 0xabcdefu);
  // A new task starts with a copy.
  Result<std::unique_ptr<Context>> child = platform_->NewContext(*as_, c.get());
  ASSERT_EQ(child.error_value(), 0);
  ASSERT_EQ((*child)->GetXState(area).error_value(), 0);
  memcpy(&xmm1, area.data() + 176, 8);
  EXPECT_EQ(xmm1, 0xabcdefu);
}

TEST_P(PlatformTest, MalformedXStateIsRefused) {
  auto c = Start(*as_, Code().Call(1));
  std::vector<std::byte> area(c->xstate_size());
  ASSERT_EQ(c->GetXState(area).error_value(), 0);
  area[519] = std::byte{0x40};
  EXPECT_EQ(c->SetXState(area).error_value(), EINVAL);
  area[519] = std::byte{0};
  area[27] = std::byte{0x80};
  EXPECT_EQ(c->SetXState(area).error_value(), EINVAL);
  EXPECT_EQ(c->Switch().kind, EventKind::kSyscall);
}

TEST_P(PlatformTest, SegmentBasesAreTheGuests) {
  // mov %fs:8, %rsi; mov %gs:8, %rdi; getpid
  auto c = Start(*as_, Code()
                           .Bytes({0x64, 0x48, 0x8b, 0x34, 0x25, 8, 0, 0, 0})
                           .Bytes({0x65, 0x48, 0x8b, 0x3c, 0x25, 8, 0, 0, 0})
                           .Call(SYS_getpid));
  ASSERT_EQ(Put(*as_, kData + 8, uint64_t{51}), 0);
  ASSERT_EQ(Put(*as_, kData + 24, uint64_t{52}), 0);
  c->regs().fs_base = kData.value();
  c->regs().gs_base = kData.value() + 16;
  c->RegsChanged();
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(c->regs().rsi, 51u);
  EXPECT_EQ(c->regs().rdi, 52u);
}

TEST_P(PlatformTest, IdleThreadsAreUsedAgain) {
  size_t most = 0;
  for (int i = 0; i < 50; ++i) {
    auto c = Start(*as_, Code().Call(SYS_getpid));
    // Nothing of the task before is left.
    std::vector<std::byte> area(c->xstate_size());
    ASSERT_EQ(c->GetXState(area).error_value(), 0);
    EXPECT_EQ(area[160], std::byte{0});
    EXPECT_EQ(c->regs().r15, 0u);
    area[160] = std::byte{7};
    ASSERT_EQ(c->SetXState(area).error_value(), 0);
    c->regs().r15 = 9;
    c->RegsChanged();
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    most = std::max(most, ThreadsOf(as_->host_pid()));
  }
  EXPECT_LE(most, 2u);
}

// Those that compute; while calls go to and fro a thread may be bound to its task's processor.
TEST_P(PlatformTest, GuestThreadsMayRunOnEveryCpu) {
  cpu_set_t ours, guests;
  ASSERT_EQ(sched_getaffinity(0, sizeof(ours), &ours), 0);
  Result<Ref<AddressSpace>> child = as_->Fork();
  ASSERT_EQ(child.error_value(), 0);
  for (AddressSpace* as : {as_.get(), child->get()}) {
    auto c = Start(*as, Code().Call(1).JumpBack(0));
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    bool everywhere = false;
    std::thread looker([&] {
      for (int i = 0; i < 1000 && !everywhere; ++i) {
        usleep(1000);
        EXPECT_EQ(sched_getaffinity(c->host_tid(), sizeof(guests), &guests), 0);
        everywhere = CPU_EQUAL(&ours, &guests);
      }
      c->Interrupt();
    });
    EXPECT_EQ(c->Switch().kind, EventKind::kInterrupted);
    looker.join();
    EXPECT_TRUE(everywhere);
  }
}

TEST_P(PlatformTest, KilledStubIsLostWhileItRuns) {
  auto c = Start(*as_, Code().JumpBack(0));
  std::thread killer([&] {
    usleep(20'000);
    kill(as_->host_pid(), SIGKILL);
  });
  EXPECT_EQ(c->Switch().kind, EventKind::kStubLost);
  EXPECT_EQ(c->Switch().kind, EventKind::kStubLost);
  killer.join();
  EXPECT_FALSE(as_->alive());
}

TEST_P(PlatformTest, KilledStubIsLostBetweenRuns) {
  auto c = Start(*as_, Code().Call(1).JumpBack(0));
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  kill(as_->host_pid(), SIGKILL);
  ASSERT_TRUE(Dies(as_->host_pid()));
  EXPECT_EQ(c->Switch().kind, EventKind::kStubLost);
  EXPECT_FALSE(as_->alive());
}

TEST_P(PlatformTest, LastReferenceEndsTheStub) {
  const pid_t pid = as_->host_pid();
  {
    auto c = Start(*as_, Code().Call(1));
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    as_ = nullptr;
    EXPECT_EQ(kill(pid, 0), 0);  // the context still needs it
  }
  EXPECT_TRUE(Dies(pid));
}

TEST_P(PlatformTest, StubsDieWithASentryThatIsKilled) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t sentry = fork();
  if (sentry == 0) {
    auto platform = CreatePlatform({.name = GetParam()}).TakeValue();
    auto as = platform->NewAddressSpace();
    auto child = (*as)->Fork();
    const pid_t pids[2] = {(*as)->host_pid(), (*child)->host_pid()};
    if (write(pipe_fds[1], pids, sizeof(pids)) != sizeof(pids)) _exit(1);
    pause();
    _exit(1);
  }
  pid_t pids[2];
  ASSERT_EQ(read(pipe_fds[0], pids, sizeof(pids)), static_cast<ssize_t>(sizeof(pids)));
  kill(sentry, SIGKILL);
  waitpid(sentry, nullptr, 0);
  EXPECT_TRUE(Dies(pids[0]));
  EXPECT_TRUE(Dies(pids[1]));
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

TEST_P(PlatformTest, CpuTimeIsThatOfTheGuest) {
  // dec %rsi; jnz
  auto c = Start(*as_, Code().Bytes({0x48, 0xff, 0xce, 0x75, 0xfb}).Call(1));
  c->regs().rsi = 30'000'000;
  c->RegsChanged();
  uint64_t user_before, user_after, system;
  c->CpuTime(&user_before, &system);
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  c->CpuTime(&user_after, &system);
  EXPECT_GT(user_after, user_before);
}

}  // namespace
}  // namespace ringwall
