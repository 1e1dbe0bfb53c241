// Raw system-call instructions from every page that a guest can reach, and jumps into the stub.
#include <signal.h>
#include <sys/auxv.h>

#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

// Where an unlisted mapping would appear if a host mmap got through.
constexpr uint64_t kWitness = 0x133700000000;

char* CodePage(size_t pages = 1) {
  return static_cast<char*>(mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

struct Evil {
  const char* name;
  long nr;
  uint64_t a[6];
};

// Calls whose success on the host would show: a mapping that the Sentry does not know of, or
// changed protection of the stub's pages.
const Evil kEvils[] = {
    {"mmap", SYS_mmap, {kWitness, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~0ull, 0}},
    {"mprotect text", SYS_mprotect, {RW_STUB_TEXT, 4096, 7, 0, 0, 0}},
    {"mprotect orders", SYS_mprotect, {RW_STUB_COMMAND, 4096, 3, 0, 0, 0}},
    {"mremap", SYS_mremap, {RW_STUB_COMMAND, 0, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, kWitness, 0}},
    {"clone", SYS_clone, {RW_CLONE_FORK, 0, 0, 0, 0, 0}},
    {"set_robust_list", SYS_set_robust_list, {0x8000000000000000ull, 24, 0, 0, 0, 0}},
};

// Jumps to `target` with a system call's registers; a timer ends what hangs.
void JumpWith(uint64_t target, const Evil& e, uint64_t rbx) {
  if (sigsetjmp(g_escape, 1) != 0) return;
  register uint64_t r10 asm("r10") = e.a[3];
  register uint64_t r8 asm("r8") = e.a[4];
  register uint64_t r9 asm("r9") = e.a[5];
  asm volatile(
      "push %[back]\n push %[back]\n push %[back]\n push %[back]\n"
      "jmp *%[target]\n"
      :
      : [target] "r"(target), [back] "c"(rbx), "a"(e.nr), "D"(e.a[0]), "S"(e.a[1]), "d"(e.a[2]),
        "r"(r10), "r"(r8), "r"(r9), "b"(rbx)
      : "memory", "r11", "r12");
}

void ArmTimer() {
  timer_t timer;
  sigevent ev = {};
  ev.sigev_notify = SIGEV_SIGNAL;
  ev.sigev_signo = SIGALRM;
  timer_create(CLOCK_MONOTONIC, &ev, &timer);
  const itimerspec soon = {{0, 5000000}, {0, 20000000}};
  timer_settime(timer, 0, &soon, nullptr);
}

bool WitnessSeen() {
  if (Readable(kWitness) && !Listed(kWitness)) return true;
  if (!Inside()) return false;
  return Writable(RW_STUB_TEXT) || Writable(RW_STUB_COMMAND);
}

int Attack(uint64_t target, const Evil& e) {
  CatchFaults();
  ArmTimer();
  JumpWith(target, e, 0);
  signal(SIGALRM, SIG_IGN);  // its handler would jump into the middle of the look
  return WitnessSeen() ? kReached : kFailed;
}

// The places of system-call instructions in readable memory, those inside other instructions too.
std::vector<uint64_t> FindCalls(uint64_t from, uint64_t to) {
  CatchFaults();
  std::vector<uint64_t> places;
  for (uint64_t page = from; page < to; page += 4096) {
    if (!Readable(page)) continue;
    const auto* p = reinterpret_cast<const unsigned char*>(page);
    for (int i = 0; i < 4095; ++i) {
      if ((p[i] == 0x0f && (p[i + 1] == 0x05 || p[i + 1] == 0x34)) || (p[i] == 0xcd && p[i + 1] == 0x80)) {
        places.push_back(page + i);
      }
    }
  }
  for (int sig : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS, SIGALRM}) signal(sig, SIG_DFL);
  return places;
}

TEST(JumpTest, ToSystemCallsInTheStub) {
  const auto places = FindCalls(RW_STUB_TEXT, RW_STUB_TEXT + 0x20000);
  if (Inside()) {
    EXPECT_FALSE(places.empty()) << "the stub's text should be found";
  }
  for (uint64_t place : places) {
    for (const Evil& e : kEvils) {
      EXPECT_TRUE(NeverReached(RunHostile([&] { return Attack(place, e); }, 3000)))
          << e.name << " at " << std::hex << place;
    }
  }
  ExpectWell();
}

TEST(JumpTest, ToSystemCallsInTheVdso) {
  const uint64_t vdso = getauxval(AT_SYSINFO_EHDR);
  ASSERT_NE(vdso, 0u);
  for (uint64_t place : FindCalls(vdso, vdso + 0x2000)) {
    for (const Evil& e : kEvils) {
      if (!Inside() && e.nr != SYS_mmap) continue;
      EXPECT_TRUE(NeverReached(RunHostile([&] { return Attack(place, e); }, 3000)))
          << e.name << " at " << std::hex << place;
    }
  }
  ExpectWell();
}

TEST(JumpTest, ToTheStartsOfTheStubsPagesAndLines) {
  for (uint64_t place = RW_STUB_TEXT; place < RW_STUB_TEXT + 0x4000; place += 64) {
    if (!Inside() && place > RW_STUB_TEXT + 0x200) break;
    EXPECT_TRUE(NeverReached(RunHostile([&] { return Attack(place, kEvils[0]); }, 3000)))
        << std::hex << place;
  }
  for (uint64_t place : SafePlaces()) {
    EXPECT_TRUE(NeverReached(RunHostile([&] { return Attack(place, kEvils[0]); }, 3000)))
        << std::hex << place;
  }
  ExpectWell();
}

using Function = long (*)();

TEST(RawCallTest, AnywhereGivesTheGuestsAnswer) {
  char* page = CodePage(2);
  // mov $39,%eax; syscall; ret, at every distance to a page's end that splits it.
  const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
  for (int before = 0; before <= 8; ++before) {
    char* at = page + 4096 - before;
    memcpy(at, code, sizeof(code));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(reinterpret_cast<Function>(at)(), getpid()) << before;
  }
  // The same at the very end, with nothing behind it.
  ASSERT_EQ(munmap(page + 4096, 4096), 0);
  memcpy(page + 4096 - 8, code, 8);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(reinterpret_cast<Function>(page + 4096 - 8)(), getpid());
  munmap(page, 4096);
}

TEST(RawCallTest, HiddenInsideAnotherInstruction) {
  char* page = CodePage();
  // mov $0xc3050fb8..., entered in its middle: b8 27 00 00 00 | 0f 05 c3 as an immediate.
  const unsigned char code[] = {0x48, 0xb8, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3, 0xc3};
  memcpy(page, code, sizeof(code));
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(reinterpret_cast<Function>(page + 2)(), getpid());
    // The whole instruction still loads its immediate, whatever was patched.
    EXPECT_EQ(static_cast<uint64_t>(reinterpret_cast<Function>(page)()) & 0xffffffffff, 0x00000027b8ull);
  }
  munmap(page, 4096);
}

TEST(RawCallTest, JumpIntoTheMiddleOfASite) {
  // Two ways into one system call: from its own mov, and straight to the instruction.
  char* page = CodePage();
  const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3,           // 0: getpid
                                0xb8, 110, 0, 0, 0, 0xeb, 0xf6};               // 8: getppid, jmp 5
  memcpy(page, code, sizeof(code));
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(reinterpret_cast<Function>(page)(), getpid());
    EXPECT_EQ(reinterpret_cast<Function>(page + 8)(), getppid());
  }
  munmap(page, 4096);
}

TEST(RawCallTest, CompatEntriesReachNothing) {
  // int $0x80 and sysenter: a 64-bit-only Linux answers with a signal. The call is a 32-bit getpid.
  for (unsigned short entry : {0x80cd, 0x340f}) {
    const int status = RunHostile([=] {
      char* page = CodePage();
      const unsigned char code[] = {0xb8, 20, 0, 0, 0, static_cast<unsigned char>(entry),
                                    static_cast<unsigned char>(entry >> 8), 0xc3};
      memcpy(page, code, sizeof(code));
      const long got = reinterpret_cast<Function>(page)();
      return Inside() && got != -ENOSYS ? kReached : kFailed;
    });
    EXPECT_TRUE(AimFailed(status)) << std::hex << entry;
    if (Inside()) {
      EXPECT_TRUE(WIFSIGNALED(status));
    }
  }
  ExpectWell();
}

TEST(RawCallTest, CompatCodeSegmentReachesNothing) {
  const int status = RunHostile([] {
    auto* low = static_cast<unsigned char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
                                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
    if (low == MAP_FAILED) return kFailed;
    // 32-bit: mov $20,%eax; int $0x80; then ljmp 0x33:back
    unsigned char code[] = {0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xea, 0, 0, 0, 0, 0x33, 0};
    const uint32_t back = static_cast<uint32_t>(reinterpret_cast<uint64_t>(low) + 64);
    memcpy(code + 8, &back, 4);
    memcpy(low, code, sizeof(code));
    low[64] = 0xc3;  // 64-bit again: ret
    struct { uint32_t offset; uint16_t segment; } __attribute__((packed)) far = {
        static_cast<uint32_t>(reinterpret_cast<uint64_t>(low)), 0x23};
    memcpy(low + 128, &far, sizeof(far));
    long result;
    asm volatile(
        "mov %%rsp,%%rbx\n mov %[stack],%%rsp\n lea 1f(%%rip),%%rcx\n push %%rcx\n"
        "ljmp *(%[far])\n1: mov %%rbx,%%rsp\n"
        : "=a"(result)
        : [far] "r"(low + 128), [stack] "r"(low + 8192)
        : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory");
    return Inside() && result != -ENOSYS ? kReached : kFailed;
  });
  EXPECT_TRUE(AimFailed(status));
  ExpectWell();
}

TEST(RawCallTest, X32NumbersAreUnknown) {
  EXPECT_FAILS(syscall(0x40000000 | SYS_getpid), ENOSYS);
  EXPECT_FAILS(syscall(0x40000000 | 512), ENOSYS);
  EXPECT_FAILS(syscall(0x40000000 | 520 /* execve */, nullptr, nullptr, nullptr), ENOSYS);
}

TEST(RawCallTest, PrivilegedInstructionsFault) {
  const std::vector<std::vector<unsigned char>> codes = {
      {0xf4, 0xc3},              // hlt
      {0xfa, 0xc3},              // cli
      {0x0f, 0x32, 0xc3},        // rdmsr
      {0x0f, 0x30, 0xc3},        // wrmsr
      {0x0f, 0x20, 0xc0, 0xc3},  // mov %cr0,%rax
      {0xe4, 0x80, 0xc3},        // in $0x80,%al
      {0xe6, 0x80, 0xc3},        // out %al,$0x80
      {0x0f, 0x01, 0xf8, 0xc3},  // swapgs
      {0x48, 0x0f, 0x07, 0xc3},  // sysretq
      {0x48, 0xcf, 0xc3},        // iretq
  };
  for (const auto& code : codes) {
    const int status = RunHostile([&] {
      char* page = CodePage();
      memcpy(page, code.data(), code.size());
      reinterpret_cast<Function>(page)();
      return kReached;
    });
    EXPECT_TRUE(WIFSIGNALED(status)) << static_cast<int>(code[0]) << " " << static_cast<int>(code[1]);
  }
  ExpectWell();
}

TEST(RawCallTest, PortPermissionsAreRefused) {
  EXPECT_TRUE(AimFailed(RunHostile([] {
    const bool got = syscall(SYS_iopl, 3) == 0 || syscall(SYS_ioperm, 0x80, 1, 1) == 0;
    return got && Inside() ? kReached : kFailed;
  })));
}

}  // namespace
}  // namespace ringwall::test
