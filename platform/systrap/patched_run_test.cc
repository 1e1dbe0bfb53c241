// Guest code at patched sites, on systrap: nothing of the patch may show.
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "platform/systrap/region.h"
#include "platform/testing/platform_fixture.h"

namespace ringwall {
namespace {

constexpr int kManyTraps = 40;  // more than it takes to have a site patched

class PatchedTest : public PlatformTest {
 protected:
  // `code` as text that may be patched, which writable text is not.
  std::unique_ptr<Context> StartText(AddressSpace& as, const Code& code,
                                     Context* parent = nullptr) {
    EXPECT_TRUE(as.Protect(kTextRange, PROT_READ | PROT_WRITE).ok());
    std::unique_ptr<Context> context = Start(as, code, kText, parent);
    EXPECT_TRUE(as.Protect(kTextRange, PROT_READ | PROT_EXEC).ok());
    return context;
  }
  uint64_t Patched(uint64_t nr) const { return platform_->Stats().patched[nr]; }
  // Runs a loop of umask until its site is patched.
  void Warm(Context& c) {
    const uint64_t before = Patched(SYS_umask);
    for (int i = 0; i < kManyTraps; ++i) {
      ASSERT_EQ(c.Switch().kind, EventKind::kSyscall);
      c.regs().rax = 18;
    }
    ASSERT_GT(Patched(SYS_umask), before);
  }
  // mov $95, %eax; syscall; jmp back
  static Code UmaskLoop() { return Code().Bytes({0xb8, SYS_umask, 0, 0, 0}).Syscall().JumpBack(7); }
};

INSTANTIATE_TEST_SUITE_P(Systrap, PatchedTest, testing::Values("systrap"), PlatformName);

TEST_P(PatchedTest, RegistersAndFlagsAreKept) {
  auto c = StartText(*as_, UmaskLoop());
  Warm(*c);
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    abi::Registers& r = c->regs();
    for (uint64_t* p : {&r.r15, &r.r14, &r.r13, &r.r12, &r.rbp, &r.rbx, &r.r10, &r.r9, &r.r8,
                        &r.rdx, &r.rsi, &r.rdi, &r.rcx, &r.r11, &r.rsp}) {
      *p = random();
    }
    // All arithmetic flags, direction, alignment check, ID.
    r.eflags = (random() & 0x240cd5) | 0x202;
    c->RegsChanged();
    abi::Registers expected = r;
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    expected.rcx = expected.rip;
    expected.r11 = expected.eflags;
    expected.orig_rax = SYS_umask;
    expected.rax = c->regs().rax;
    ASSERT_EQ(memcmp(&expected, &c->regs(), sizeof expected), 0)
        << std::hex << expected.eflags << " " << c->regs().eflags;
  }
}

// The text of a program that exec started is mapped in one order with its other segments.
TEST_P(PatchedTest, TextMappedWithOthersIsPatched) {
  const Code code = UmaskLoop();
  const int file = memfd_create("text", MFD_CLOEXEC);
  ASSERT_EQ(write(file, code.bytes().data(), code.size()), static_cast<ssize_t>(code.size()));
  ASSERT_EQ(ftruncate(file, static_cast<off_t>(kTextRange.size())), 0);
  auto c = Start(*as_, code);
  const AddressSpace::Mapping mappings[] = {
      {kDataRange, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0},
      {kTextRange, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0}};
  ASSERT_EQ(as_->MapAll(mappings).error_value(), 0);
  close(file);
  Warm(*c);
}

TEST_P(PatchedTest, RedZoneIsKept) {
  auto c = StartText(*as_, UmaskLoop());
  const GuestAddr sp = kData + 8 * kPageSize;
  std::vector<std::byte> zone(kPageSize), now(kPageSize);
  for (size_t i = 0; i < zone.size(); ++i) zone[i] = static_cast<std::byte>(i * 7);
  ASSERT_TRUE(as_->Write(sp - kPageSize, zone).ok());
  Warm(*c);
  ASSERT_TRUE(as_->Read(sp - kPageSize, now).ok());
  EXPECT_EQ(now, zone);
}

TEST_P(PatchedTest, VectorStateIsKept) {
  auto c = StartText(*as_, UmaskLoop());
  Warm(*c);
  std::vector<std::byte> area(c->xstate_size()), now(c->xstate_size());
  ASSERT_TRUE(c->GetXState(area).ok());
  std::mt19937_64 random(5);
  uint64_t features = 7;  // x87, SSE, AVX
  for (size_t i = 160; i < 416; ++i) area[i] = static_cast<std::byte>(random());
  for (size_t i = 576; i < 832; ++i) area[i] = static_cast<std::byte>(random());
  const uint32_t mxcsr = 0x1f80 | 0x6000;
  memcpy(area.data() + 24, &mxcsr, 4);
  memcpy(area.data() + 512, &features, 8);
  ASSERT_EQ(c->SetXState(area).error_value(), 0);
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    c->regs().rax = 0;
  }
  ASSERT_TRUE(c->GetXState(now).ok());
  EXPECT_EQ(memcmp(now.data() + 160, area.data() + 160, 256), 0);
  EXPECT_EQ(memcmp(now.data() + 576, area.data() + 576, 256), 0);
  EXPECT_EQ(memcmp(now.data() + 24, area.data() + 24, 4), 0);
  // And through an interrupt, which takes it by a signal frame.
  c->Interrupt();
  ASSERT_EQ(c->Switch().kind, EventKind::kInterrupted);
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  ASSERT_TRUE(c->GetXState(now).ok());
  EXPECT_EQ(memcmp(now.data() + 160, area.data() + 160, 256), 0);
}

TEST_P(PatchedTest, InterruptsFindOriginalAddressesOnly) {
  // 0: inc %rbx; 3: mov $95, %eax; 8: syscall; 10: cmp; 16: jmp 0
  auto c = StartText(*as_, Code()
                               .Bytes({0x48, 0xff, 0xc3, 0xb8, SYS_umask, 0, 0, 0})
                               .Syscall()
                               .Bytes({0x48, 0x3d, 0, 0xf0, 0xff, 0xff})
                               .JumpBack(16));
  std::atomic<bool> stop = false;
  std::thread other([&] {
    while (!stop) {
      c->Interrupt();
      for (int i = 0; i < 300; ++i) __builtin_ia32_pause();
    }
  });
  uint64_t calls = 0;
  int interrupts = 0;
  // With both processors at work the other thread's turn may come after the first 3,000.
  while (calls < 3000 || (interrupts == 0 && calls < 3'000'000)) {
    const Event event = c->Switch();
    if (event.kind == EventKind::kInterrupted) {
      ++interrupts;
      const uint64_t at = c->regs().rip - kText.value();
      EXPECT_TRUE(at == 0 || at == 3 || at == 8 || at == 10 || at == 16) << std::hex << at;
      const uint64_t rbx = c->regs().rbx;
      EXPECT_TRUE(rbx == calls || (rbx == calls + 1 && (at == 3 || at == 8))) << at;
      continue;
    }
    ASSERT_EQ(event.kind, EventKind::kSyscall);
    ASSERT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_umask));
    ASSERT_EQ(c->regs().rbx, ++calls);
    ASSERT_EQ(c->regs().rip, kText.value() + 10);
    c->regs().rax = 18;
  }
  stop = true;
  other.join();
  EXPECT_GT(interrupts, 0);
  EXPECT_GT(Patched(SYS_umask), 0u);
}

TEST_P(PatchedTest, InterruptsDoNotDisturbLocalAnswers) {
  // 0: mov $39, %eax; 5: syscall; 7: cmp $4711, %eax; 12: je 16; 14: ud2; 16: dec %rsi; jnz 0;
  // then umask
  auto c = StartText(*as_, Code()
                               .Bytes({0xb8, SYS_getpid, 0, 0, 0})
                               .Syscall()
                               .Bytes({0x3d, 0x67, 0x12, 0, 0, 0x74, 2, 0x0f, 0x0b})
                               .Bytes({0x48, 0xff, 0xce, 0x75, 0xeb})
                               .Call(SYS_umask));
  c->regs().rsi = 200'000;
  c->RegsChanged();
  LocalAnswers answers;
  answers.pid = 4711;
  answers.enabled = true;
  c->SetLocalAnswers(answers);
  std::atomic<bool> stop = false;
  std::thread other([&] {
    while (!stop) {
      c->Interrupt();
      usleep(50);
    }
  });
  Event event;
  do {
    event = c->Switch();
    if (event.kind == EventKind::kInterrupted) {
      EXPECT_LT(c->regs().rip - kText.value(), 64u) << std::hex << c->regs().rip;
    }
  } while (event.kind == EventKind::kInterrupted);
  stop = true;
  other.join();
  EXPECT_EQ(event.kind, EventKind::kSyscall) << event.signo << std::hex << " " << c->regs().rip;
  EXPECT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_umask));
  EXPECT_GT(platform_->Stats().local[SYS_getpid], 190'000u);
}

TEST_P(PatchedTest, ThreadsRunThroughASiteWhileItChanges) {
  // A short loop of calls by many threads, begun at once, so that one of them patches while the
  // others run; the instruction that is replaced together with the next counts.
  const Code code = Code()
                        .Bytes({0x31, 0xc0, 0xb0, SYS_umask})  // xor %eax, %eax; mov $95, %al
                        .Syscall()
                        .Bytes({0x48, 0xff, 0xc3, 0x48, 0xff, 0xce})  // inc %rbx; dec %rsi
                        .Bytes({0x75, 0xf2})                          // jnz 0
                        .Call(SYS_exit);
  for (int round = 0; round < 5; ++round) {
    RefPtr<AddressSpace> as = NewSpace();
    std::vector<std::unique_ptr<Context>> contexts;
    for (int i = 0; i < 4; ++i) {
      contexts.push_back(StartText(*as, code));
      contexts.back()->regs().rsi = 500;
      contexts.back()->RegsChanged();
    }
    std::vector<std::thread> threads;
    for (auto& context : contexts) {
      threads.emplace_back([&context] {
        uint64_t calls = 0;
        for (;;) {
          const Event event = context->Switch();
          ASSERT_EQ(event.kind, EventKind::kSyscall) << std::hex << context->regs().rip;
          if (context->regs().orig_rax == SYS_exit) break;
          ASSERT_EQ(context->regs().orig_rax, static_cast<uint64_t>(SYS_umask));
          ASSERT_EQ(context->regs().rbx, calls++);
          context->regs().rax = 0;
        }
        EXPECT_EQ(calls, 500u);
      });
    }
    for (std::thread& t : threads) t.join();
  }
  EXPECT_GT(Patched(SYS_umask), 0u);
}

TEST_P(PatchedTest, ForkedChildGoesOnAtPatchedSites) {
  auto parent = StartText(*as_, UmaskLoop());
  Warm(*parent);
  Result<Ref<AddressSpace>> child_as = as_->Fork();
  ASSERT_TRUE(child_as.ok());
  Result<std::unique_ptr<Context>> child = platform_->NewContext(**child_as, parent.get());
  ASSERT_TRUE(child.ok());
  const uint64_t before = Patched(SYS_umask);
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ((*child)->Switch().kind, EventKind::kSyscall);
    EXPECT_EQ((*child)->regs().rip, kText.value() + 7);
    ASSERT_EQ(parent->Switch().kind, EventKind::kSyscall);
  }
  EXPECT_EQ(Patched(SYS_umask), before + 20);
}

TEST_P(PatchedTest, SentryReadsTheOriginalText) {
  auto c = StartText(*as_, UmaskLoop());
  Warm(*c);
  std::vector<std::byte> text(9);
  ASSERT_TRUE(as_->Read(kText, text).ok());
  const Code code = UmaskLoop();
  EXPECT_TRUE(std::equal(text.begin(), text.end(), code.bytes().begin()));
}

TEST_P(PatchedTest, TextMadeWritableIsTheOriginal) {
  auto c = StartText(*as_, UmaskLoop());
  Warm(*c);
  ASSERT_TRUE(as_->Protect(kTextRange, PROT_READ | PROT_WRITE | PROT_EXEC).ok());
  const uint64_t before = Patched(SYS_umask);
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  EXPECT_EQ(Patched(SYS_umask), before);
  // A debugger's breakpoint, and its removal.
  ASSERT_TRUE(as_->Protect(kTextRange, PROT_READ | PROT_EXEC).ok());
}

TEST_P(PatchedTest, UnmappedAndMappedAnewIsForgotten) {
  auto c = StartText(*as_, UmaskLoop());
  Warm(*c);
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
  ASSERT_TRUE(as_->Unmap(kTextRange).ok());
  ASSERT_TRUE(as_->Map(kTextRange, PROT_READ | PROT_WRITE, kFlags, -1, 0).ok());
  // The same site with another instruction ahead, and code that jumps between the two.
  const Code code = Code().Bytes({0xbb, 1, 2, 3, 4}).Syscall().Bytes({0xeb, 0xf7});
  ASSERT_TRUE(as_->Write(kText, code.bytes()).ok());
  ASSERT_TRUE(as_->Protect(kTextRange, PROT_READ | PROT_EXEC).ok());
  for (int i = 0; i < 2 * kManyTraps; ++i) {
    c->regs().rax = SYS_getuid;
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    EXPECT_EQ(c->regs().rbx, i == 0 ? c->regs().rbx : 0x04030201u);
  }
}

TEST_P(PatchedTest, GuestMayMapWhereTrampolinesAre) {
  auto c = StartText(*as_, UmaskLoop());
  Warm(*c);
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
  const GuestRange low = {GuestAddr(0x10000), GuestAddr(0x200000)};
  ASSERT_TRUE(as_->Map(low, PROT_READ | PROT_WRITE, kFlags, -1, 0).ok());
  const GuestRange high = {GuestAddr(0x1100'0000), GuestAddr(0x8000'0000)};
  ASSERT_TRUE(as_->Map(high, PROT_READ, kFlags | MAP_NORESERVE, -1, 0).ok());
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    EXPECT_EQ(c->regs().rip, kText.value() + 7);
  }
}

TEST_P(PatchedTest, SingleStepsSeeTheOriginalInstructions) {
  auto c = StartText(*as_, UmaskLoop());
  Warm(*c);
  c->regs().rip = kText.value();
  c->regs().eflags |= 0x100;
  c->RegsChanged();
  Event event = c->Switch();
  ASSERT_EQ(event.kind, EventKind::kFault);
  EXPECT_EQ(event.signo, SIGTRAP);
  EXPECT_EQ(c->regs().rip, kText.value() + 5);
  EXPECT_EQ(c->regs().rax, static_cast<uint64_t>(SYS_umask));
  ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
}

TEST_P(PatchedTest, BreakpointInPatchedTextIsHit) {
  auto c = StartText(*as_, UmaskLoop());
  Warm(*c);
  // As the Sentry writes for a debugger: to private memory, whatever its protection.
  ASSERT_TRUE(as_->Protect(kTextRange, PROT_READ | PROT_WRITE).ok());
  ASSERT_EQ(Put<uint8_t>(*as_, kText, 0xcc), 0);
  ASSERT_TRUE(as_->Protect(kTextRange, PROT_READ | PROT_EXEC).ok());
  const Event event = c->Switch();
  ASSERT_EQ(event.kind, EventKind::kFault);
  EXPECT_EQ(event.signo, SIGTRAP);
  EXPECT_EQ(c->regs().rip, kText.value() + 1);
}

TEST_P(PatchedTest, GuestThatSetsGsIsTrapped) {
  // wrgsbase %rdi; 1: mov $95, %eax; syscall; mov %gs:0, %rbx; jmp 1b
  auto c = StartText(*as_, UmaskLoop());
  Warm(*c);
  auto d = StartText(*as_, Code()
                               .Bytes({0xb8, SYS_umask, 0, 0, 0})
                               .Syscall()
                               .Bytes({0xf3, 0x48, 0x0f, 0xae, 0xdf})
                               .Bytes({0x65, 0x48, 0x8b, 0x1c, 0x25, 0, 0, 0, 0})
                               .JumpBack(21));
  ASSERT_EQ(Put(*as_, kData, uint64_t{0x77}), 0);
  d->regs().rdi = kData.value();
  d->RegsChanged();
  for (int i = 0; i < kManyTraps; ++i) {
    const Event event = d->Switch();
    ASSERT_EQ(event.kind, EventKind::kSyscall) << i;
    EXPECT_EQ(d->regs().gs_base, i == 0 ? 0 : kData.value());
    EXPECT_EQ(d->regs().rip, kText.value() + 7);
    if (i > 0) {
      EXPECT_EQ(d->regs().rbx, 0x77u);
    }
    d->regs().rax = 0;
  }
}

TEST_P(PatchedTest, RuinedRegionHarmsItsGuestOnly) {
  // rdgsbase %rdi; fills the region with what rax says; then goes on with calls.
  const Code code = Code()
                        .Bytes({0xf3, 0x48, 0x0f, 0xae, 0xcf})
                        .Bytes({0xfc, 0xf3, 0xaa})
                        .Bytes({0xb8, SYS_umask, 0, 0, 0})
                        .Syscall()
                        .JumpBack(7);
  auto good = StartText(*as_, UmaskLoop());
  for (int fill = 0; fill < 256; fill += 51) {
    RefPtr<AddressSpace> as = NewSpace();
    auto bad = StartText(*as, code);
    bad->regs().rcx = fill % 2 == 0 ? 0x20000 : 0x1000;
    bad->regs().rax = static_cast<uint64_t>(fill);
    bad->RegsChanged();
    std::thread killer([&] {
      usleep(30'000);
      kill(as->host_pid(), SIGKILL);
      usleep(10'000);
      bad->Interrupt();
    });
    for (int i = 0; i < 100; ++i) {
      if (bad->Switch().kind == EventKind::kStubLost) break;
      bad->ReadWindow(kData, std::span<std::byte>());
      bad->regs().rax = 0;
    }
    killer.join();
    bad.reset();
    ASSERT_EQ(good->Switch().kind, EventKind::kSyscall);
  }
}

// Nobody interrupts the task: its thread finds out by itself, however long it has slept.
TEST_P(PatchedTest, DeathBehindARuinedRobustListIsSeen) {
  // movq $0, %gs:robust_head; jmp .
  constexpr int kHead = offsetof(systrap::Region, robust_head);
  auto c = StartText(*as_, Code()
                               .Bytes({0x65, 0x48, 0xc7, 0x04, 0x25, kHead & 0xff, kHead >> 8, 0, 0})
                               .Bytes({0, 0, 0, 0})
                               .JumpBack(0));
  std::thread killer([&] {
    usleep(50'000);
    kill(as_->host_pid(), SIGKILL);
  });
  EXPECT_EQ(c->Switch().kind, EventKind::kStubLost);
  killer.join();
}

// A thread waits for its next task while another one of its process spoils its region. No interrupt
// reaches the task that gets it before its guest code runs: the wait for that must end by itself.
TEST_P(PatchedTest, SpoiltRegionOfAnIdleThreadIsNotWaitedForForEver) {
  // rdgsbase %rdi; syscall
  auto idle = Start(*as_, Code().Bytes({0xf3, 0x48, 0x0f, 0xae, 0xcf}).Call(SYS_umask));
  ASSERT_EQ(idle->Switch().kind, EventKind::kSyscall);
  const uint64_t region = idle->regs().rdi;
  // movl $0, state(%rdi); syscall
  auto spoiler = Start(*as_, Code().Bytes({0xc7, 0x07, 0, 0, 0, 0}).Call(SYS_umask));
  spoiler->regs().rdi = region + offsetof(systrap::Region, state);
  spoiler->RegsChanged();
  idle.reset();
  usleep(20'000);  // it writes the word itself until it sleeps
  ASSERT_EQ(spoiler->Switch().kind, EventKind::kSyscall);
  auto victim = Start(*as_, UmaskLoop());
  EXPECT_FALSE(victim->RunAhead());  // so it is the spoilt one
  const EventKind kind = victim->Switch().kind;
  EXPECT_TRUE(kind == EventKind::kSyscall || kind == EventKind::kStubLost) << static_cast<int>(kind);
}

}  // namespace
}  // namespace ringwall
