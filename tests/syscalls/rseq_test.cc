// rseq(2): registration and its errors, what the kernel writes into the area, and when it aborts a
// critical section.
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <gtest/gtest.h>

extern "C" {
extern const ptrdiff_t __rseq_offset;
extern const unsigned __rseq_size;
}

namespace {

constexpr uint32_t kSignature = 0x53053053;
constexpr int kUnregister = 1;

struct alignas(32) Area {
  uint32_t cpu_id_start, cpu_id;
  uint64_t cs;
  uint32_t flags, node_id, mm_cid, end;
};
static_assert(sizeof(Area) == 32);

long Rseq(void* area, uint32_t size, int flags, uint32_t signature) {
  return syscall(SYS_rseq, area, size, flags, signature);
}

Area* OwnArea() {
  return reinterpret_cast<Area*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
}

uint32_t Load(const uint32_t& word) { return __atomic_load_n(&word, __ATOMIC_RELAXED); }

// The C library's registration gives way to the test's, in a process of its own.
template <typename F>
int InChild(F f) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (Rseq(OwnArea(), 32, kUnregister, kSignature) != 0) _exit(100);
    _exit(f());
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int ErrnoOf(long result) { return result == 0 ? 0 : errno; }

void PinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

int FirstCpu() {
  cpu_set_t set;
  sched_getaffinity(0, sizeof set, &set);
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) return i;
  }
  return -1;
}

// Counts n down in a critical section: 0 when it got through, 1 when it was aborted. The signature
// lies ahead of where aborts lead. spin_cs_fault reads address 0 inside.
extern "C" long spin_cs(void* area, long n);
extern "C" long spin_cs_fault(void* area);
extern "C" long bad_signature_cs(void* area, long n);
extern "C" char spin_cs_abort[], spin_cs_start[], spin_cs_end[];
asm(R"(
        .text
        .globl spin_cs, spin_cs_fault, bad_signature_cs, spin_cs_abort, spin_cs_start, spin_cs_end
spin_cs:
        lea     .Lcs(%rip), %rax
        mov     %rax, 8(%rdi)
spin_cs_start:
        dec     %rsi
        jnz     spin_cs_start
        nop
spin_cs_end:
        xor     %eax, %eax
        ret
spin_cs_fault:
        lea     .Lfault_cs(%rip), %rax
        mov     %rax, 8(%rdi)
.Lfault_start:
        xor     %eax, %eax
        mov     (%rax), %eax
.Lfault_end:
        xor     %eax, %eax
        ret
bad_signature_cs:
        lea     .Lbad_cs(%rip), %rax
        mov     %rax, 8(%rdi)
.Lbad_start:
        dec     %rsi
        jnz     .Lbad_start
.Lbad_end:
        xor     %eax, %eax
        ret
        .long   0x12345678
.Lbad_abort:
        mov     $1, %eax
        ret
        .long   0x53053053
spin_cs_abort:
        mov     $1, %eax
        ret
        .data
        .balign 32
.Lcs:
        .long   0, 0
        .quad   spin_cs_start, spin_cs_end - spin_cs_start, spin_cs_abort
        .balign 32
.Lfault_cs:
        .long   0, 0
        .quad   .Lfault_start, .Lfault_end - .Lfault_start, spin_cs_abort
        .balign 32
.Lbad_cs:
        .long   0, 0
        .quad   .Lbad_start, .Lbad_end - .Lbad_start, .Lbad_abort
        .text
)");

TEST(RseqTest, TheCLibraryHasRegisteredTheThread) {
  ASSERT_NE(__rseq_size, 0u);
  EXPECT_EQ(ErrnoOf(Rseq(OwnArea(), 32, 0, kSignature)), EBUSY);
  EXPECT_LT(Load(OwnArea()->cpu_id), static_cast<uint32_t>(CPU_SETSIZE));
}

TEST(RseqTest, TheAuxiliaryVectorTellsSizeAndAlignment) {
  EXPECT_GE(getauxval(27 /* AT_RSEQ_FEATURE_SIZE */), 20u);
  EXPECT_EQ(getauxval(28 /* AT_RSEQ_ALIGN */), 32u);
}

TEST(RseqTest, CpuIdFollowsTheThread) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all)) continue;
    PinTo(cpu);
    EXPECT_EQ(Load(OwnArea()->cpu_id), static_cast<uint32_t>(cpu));
    EXPECT_EQ(Load(OwnArea()->cpu_id_start), static_cast<uint32_t>(cpu));
    EXPECT_EQ(sched_getcpu(), cpu);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
}

TEST(RseqTest, BadArgumentsAreRefused) {
  EXPECT_EQ(InChild([] {
    static Area area[2];
    auto* const inside = reinterpret_cast<char*>(&area[0]);
    if (ErrnoOf(Rseq(&area[0], 31, 0, kSignature)) != EINVAL) return 1;
    if (ErrnoOf(Rseq(&area[0], 0, 0, kSignature)) != EINVAL) return 2;
    if (ErrnoOf(Rseq(inside + 8, 32, 0, kSignature)) != EINVAL) return 3;
    if (ErrnoOf(Rseq(inside + 16, 64, 0, kSignature)) != EINVAL) return 4;
    if (ErrnoOf(Rseq(&area[0], 32, 2, kSignature)) != EINVAL) return 5;
    if (ErrnoOf(Rseq(&area[0], 32, 3, kSignature)) != EINVAL) return 6;
    if (ErrnoOf(Rseq(&area[0], 32, kUnregister, kSignature)) != EINVAL) return 7;
    if (ErrnoOf(Rseq(nullptr, 32, 0, kSignature)) != EFAULT) return 8;
    if (ErrnoOf(Rseq(nullptr, 32, kUnregister, kSignature)) != EINVAL) return 9;
    if (ErrnoOf(Rseq(reinterpret_cast<void*>(0x7ffffffff000), 32, 0, kSignature)) != EFAULT) return 10;
    if (ErrnoOf(Rseq(reinterpret_cast<void*>(0x8000000000000000), 32, 0, 1)) != EFAULT) return 11;
    void* none = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ErrnoOf(Rseq(none, 32, 0, kSignature)) != EFAULT) return 12;
    return 0;
  }), 0);
}

TEST(RseqTest, OneAreaAThread) {
  EXPECT_EQ(InChild([] {
    static Area area, other;
    area.cpu_id = static_cast<uint32_t>(-1);
    if (Rseq(&area, 32, 0, 7) != 0) return 1;
    if (Load(area.cpu_id) >= CPU_SETSIZE) return 2;
    if (Load(area.cpu_id_start) != Load(area.cpu_id)) return 3;
    if (ErrnoOf(Rseq(&area, 32, 0, 7)) != EBUSY) return 4;
    if (ErrnoOf(Rseq(&area, 32, 0, 8)) != EPERM) return 5;
    if (ErrnoOf(Rseq(&other, 32, 0, 7)) != EINVAL) return 6;
    if (ErrnoOf(Rseq(&area, 64, 0, 7)) != EINVAL) return 7;
    if (ErrnoOf(Rseq(&other, 32, kUnregister, 7)) != EINVAL) return 8;
    if (ErrnoOf(Rseq(&area, 64, kUnregister, 7)) != EINVAL) return 9;
    if (ErrnoOf(Rseq(&area, 32, kUnregister, 8)) != EPERM) return 10;
    if (ErrnoOf(Rseq(&area, 32, kUnregister | 2, 7)) != EINVAL) return 11;
    if (Rseq(&area, 32, kUnregister, 7) != 0) return 12;
    if (area.cpu_id != static_cast<uint32_t>(-1) || area.cpu_id_start != 0) return 13;
    if (ErrnoOf(Rseq(&area, 32, kUnregister, 7)) != EINVAL) return 14;
    if (ErrnoOf(Rseq(&area, 32, kUnregister, 8)) != EINVAL) return 19;
    // A larger one is as good.
    static Area large[2];
    if (Rseq(large, 64, 0, 7) != 0) return 15;
    if (Load(large[0].cpu_id) >= CPU_SETSIZE) return 16;
    if (ErrnoOf(Rseq(large, 32, kUnregister, 7)) != EINVAL) return 17;
    return Rseq(large, 64, kUnregister, 7) == 0 ? 0 : 18;
  }), 0);
}

TEST(RseqTest, AThreadMayRegisterAgain) {
  EXPECT_EQ(InChild([] {
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 3; ++i) {
      if (Rseq(page, 32, 0, 7) != 0) return 1;
      if (Load(static_cast<Area*>(page)->cpu_id) >= CPU_SETSIZE) return 2;
      if (Rseq(page, 32, kUnregister, 7) != 0) return 3;
    }
    return 0;
  }), 0);
}

TEST(RseqTest, ForkInherits) {
  EXPECT_EQ(InChild([] {
    static Area area;
    if (Rseq(&area, 32, 0, 7) != 0) return 1;
    const pid_t pid = fork();
    if (pid == 0) {
      if (ErrnoOf(Rseq(&area, 32, 0, 7)) != EBUSY) _exit(1);
      cpu_set_t all;
      sched_getaffinity(0, sizeof all, &all);
      for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &all)) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        if (Load(area.cpu_id) != static_cast<uint32_t>(cpu)) _exit(2);
      }
      _exit(Rseq(&area, 32, kUnregister, 7) == 0 ? 0 : 3);
    }
    int status;
    waitpid(pid, &status, 0);
    return status == 0 ? 0 : 10 + WEXITSTATUS(status);
  }), 0);
}

TEST(RseqTest, AChildThatSharesTheMemoryHasNone) {
  EXPECT_EQ(InChild([] {
    static Area area, childs;
    static char stack[16384] __attribute__((aligned(16)));
    if (Rseq(&area, 32, 0, 7) != 0) return 1;
    const int pid = clone(
        [](void*) -> int {
          if (ErrnoOf(Rseq(&area, 32, kUnregister, 7)) != EINVAL) return 2;
          if (Rseq(&childs, 32, 0, 9) != 0) return 3;
          return Load(childs.cpu_id) < CPU_SETSIZE ? 0 : 4;
        },
        stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr);
    int status;
    waitpid(pid, &status, 0);
    if (status != 0) return 10 + WEXITSTATUS(status);
    return Rseq(&area, 32, kUnregister, 7) == 0 ? 0 : 5;
  }), 0);
}

TEST(RseqTest, ExecBeginsWithoutOne) {
  const pid_t pid = fork();
  if (pid == 0) {
    // The C library of the new program registers again, or it would see no processor.
    execl("/proc/self/exe", "self", "--gtest_filter=RseqTest.TheCLibraryHasRegisteredTheThread", nullptr);
    _exit(1);
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(RseqTest, NothingIsWrittenAfterTheThreadsEnd) {
  for (int round = 0; round < 20; ++round) {
    auto* area = static_cast<Area*>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    pthread_t thread;
    ASSERT_EQ(pthread_create(
                  &thread, nullptr,
                  [](void* arg) -> void* {
                    const bool ok = Rseq(OwnArea(), 32, kUnregister, kSignature) == 0 &&
                                    Rseq(arg, 32, 0, 7) == 0;
                    return reinterpret_cast<void*>(ok ? 0 : 1);
                  },
                  area),
              0);
    void* result;
    pthread_join(thread, &result);
    ASSERT_EQ(result, nullptr);
    memset(area, 0xaa, sizeof *area);
    // The next thread may be the host's same one.
    ASSERT_EQ(pthread_create(&thread, nullptr, [](void*) -> void* { sched_yield(); return nullptr; },
                             nullptr), 0);
    pthread_join(thread, nullptr);
    EXPECT_EQ(area->cpu_id, 0xaaaaaaaau);
    EXPECT_EQ(area->cpu_id_start, 0xaaaaaaaau);
    ASSERT_EQ(munmap(area, 4096), 0);
  }
}

TEST(RseqTest, PreemptionAborts) {
  const int cpu = FirstCpu();
  std::atomic<bool> stop{false};
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  PinTo(cpu);
  pthread_t rival;  // has this thread's processor
  ASSERT_EQ(pthread_create(
                &rival, nullptr,
                [](void* arg) -> void* {
                  while (!static_cast<std::atomic<bool>*>(arg)->load()) {}
                  return nullptr;
                },
                &stop),
            0);
  EXPECT_EQ(spin_cs(OwnArea(), 20'000'000'000), 1);
  EXPECT_EQ(OwnArea()->cs, 0u);
  stop = true;
  pthread_join(rival, nullptr);
  ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
  // Undisturbed, one gets through now and then.
  bool through = false;
  for (int i = 0; i < 1000 && !through; ++i) through = spin_cs(OwnArea(), 100) == 0;
  EXPECT_TRUE(through);
}

uintptr_t g_handler_rip;
uint64_t g_handler_cs;

void Note(int, siginfo_t*, void* context) {
  g_handler_rip = static_cast<uintptr_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
  g_handler_cs = OwnArea()->cs;
}

TEST(RseqTest, ASignalAborts) {
  struct sigaction action = {}, old;
  action.sa_sigaction = Note;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old), 0);
  pthread_t self = pthread_self(), sender;
  ASSERT_EQ(pthread_create(
                &sender, nullptr,
                [](void* arg) -> void* {
                  usleep(20'000);
                  pthread_kill(*static_cast<pthread_t*>(arg), SIGUSR1);
                  return nullptr;
                },
                &self),
            0);
  g_handler_rip = 0;
  // Other aborts come first, perhaps.
  long result = 0;
  for (int i = 0; i < 1'000'000 && g_handler_rip == 0; ++i) result = spin_cs(OwnArea(), 1'000'000'000);
  EXPECT_EQ(result, 1);
  // It came inside the section, or after something else had aborted it.
  EXPECT_FALSE(g_handler_rip >= reinterpret_cast<uintptr_t>(spin_cs_start) &&
               g_handler_rip < reinterpret_cast<uintptr_t>(spin_cs_end));
  EXPECT_EQ(g_handler_cs, 0u);
  pthread_join(sender, nullptr);
  sigaction(SIGUSR1, &old, nullptr);
}

TEST(RseqTest, AFaultAborts) {
  struct sigaction action = {}, old;
  action.sa_sigaction = Note;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(sigaction(SIGSEGV, &action, &old), 0);
  g_handler_rip = 0;
  EXPECT_EQ(spin_cs_fault(OwnArea()), 1);
  EXPECT_EQ(g_handler_rip, reinterpret_cast<uintptr_t>(spin_cs_abort));
  EXPECT_EQ(g_handler_cs, 0u);
  sigaction(SIGSEGV, &old, nullptr);
}

TEST(RseqTest, AWrongSignatureEndsTheProcess) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  const pid_t pid = fork();
  if (pid == 0) {
    sigaction(SIGUSR1, &action, nullptr);
    pthread_t self = pthread_self(), sender;
    pthread_create(
        &sender, nullptr,
        [](void* arg) -> void* {
          usleep(20'000);
          pthread_kill(*static_cast<pthread_t*>(arg), SIGUSR1);
          return nullptr;
        },
        &self);
    bad_signature_cs(OwnArea(), 20'000'000'000);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

}  // namespace
