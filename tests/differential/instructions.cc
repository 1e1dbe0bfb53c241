// Random instructions: what faults, with which siginfo, registers and memory it leaves. And handlers that return
// by frames changed at random. Each runs in a child of its own under a filter of system calls, since random bytes
// may find one. Of a bad selector in a frame the fault is told, not that the handler of the fault sees it.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

// Above any heap, which begins at random up to 1 GiB behind the program.
constexpr uintptr_t kPage = 4096, kCode = 0x50000000, kData = 0x60000000, kStack = 0x70000000, kStackSize = 65536;
constexpr uintptr_t kReadOnly = kData + 2 * kPage, kNothing = kData + 3 * kPage;
constexpr size_t kBytes = 24;

char* const code = reinterpret_cast<char*>(kCode);
char* const data = reinterpret_cast<char*>(kData);
char handler_stack[65536];

void Map(uintptr_t at, size_t size, int prot) {
  mmap(reinterpret_cast<void*>(at), size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

// The lower half of the vector registers and the x87 stack, but for the address of the last instruction.
uint32_t VectorSum(const ucontext_t* context) {
  const auto* const fp = context->uc_mcontext.fpregs;
  if (fp == nullptr) return 0;
  return Checksum({reinterpret_cast<const char*>(&fp->_st), sizeof(fp->_st) + sizeof(fp->_xmm)});
}

void OnSignal(int signal, siginfo_t* info, void* room) {
  const auto* const context = static_cast<const ucontext_t*>(room);
  const greg_t* const r = context->uc_mcontext.gregs;
  if (signal == SIGVTALRM) {
    printf("%d   goes on for ever\n", step_number);
  } else {
    constexpr greg_t kPageFault = 14, kPresent = 1;
    constexpr greg_t kToldFlags = 0x240cd5;  // without AF and the like that some instructions leave undefined
    const bool has_address = signal == SIGSEGV || signal == SIGBUS;
    printf("%d   signal %d code %d addr %p trap %lld err %llx\n", step_number, signal, info->si_code,
           has_address || info->si_code > 0 ? info->si_addr : nullptr, r[REG_TRAPNO],
           r[REG_TRAPNO] == kPageFault ? r[REG_ERR] & ~kPresent : 0);
    printf("%d   rip %llx rsp %llx rax %llx rbx %llx rcx %llx rdx %llx rsi %llx rdi %llx rbp %llx r8 %llx r9 %llx "
           "r10 %llx r11 %llx r12 %llx r13 %llx r14 %llx r15 %llx flags %llx\n",
           step_number, r[REG_RIP], r[REG_RSP], r[REG_RAX], r[REG_RBX], r[REG_RCX], r[REG_RDX], r[REG_RSI],
           r[REG_RDI], r[REG_RBP], r[REG_R8], r[REG_R9], r[REG_R10], r[REG_R11], r[REG_R12], r[REG_R13], r[REG_R14],
           r[REG_R15], r[REG_EFL] & kToldFlags);
    printf("%d   data %x stack %x vectors %x\n", step_number, Checksum({data, 2 * kPage}),
           Checksum({reinterpret_cast<char*>(kStack), kStackSize}), VectorSum(context));
  }
  fflush(stdout);
  _exit(0);
}

void Handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(signal, &action, nullptr);
}

// All that may end the bytes is told, on a stack of its own.
void HandleSignals() {
  const stack_t stack = {handler_stack, 0, sizeof(handler_stack)};
  sigaltstack(&stack, nullptr);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGVTALRM}) Handle(signal, OnSignal);
}

void TellEnd(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  printf("%d   status %#x\n", step_number, status);
}

// Whatever the bytes call ends them; what tells of them may write, return and exit.
void AllowTelling() {
  const auto allow = [](uint32_t nr, uint8_t skip) { return sock_filter{BPF_JMP | BPF_JEQ | BPF_K, skip, 0, nr}; };
  const sock_filter program[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      allow(SYS_write, 5), allow(SYS_exit_group, 4), allow(SYS_rt_sigreturn, 3), allow(SYS_newfstatat, 2),
      allow(SYS_setitimer, 1),
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog filter = {std::size(program), const_cast<sock_filter*>(program)};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) _exit(1);
}

// What differs from run to run, from processor to processor or is documented to differ inside: time stamps, random
// numbers, cpuid, system registers, the bases of FS and GS and what lies there, system calls; and jumps, which
// mostly find nothing or themselves.
bool Unwanted(const uint8_t* b, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (b[i] == 0x64 || b[i] == 0x65 || b[i] == 0x62 || b[i] == 0xc4 || b[i] == 0xc5) return true;
    if ((b[i] >= 0x70 && b[i] < 0x80) || (b[i] >= 0xe0 && b[i] < 0xf0) || b[i] == 0xcd) return true;
    if (i + 1 == n || b[i] != 0x0f) continue;
    switch (b[i + 1]) {
      case 0x00: case 0x01: case 0x05: case 0x31: case 0x33: case 0x34: case 0xa2: case 0xae: case 0xc7: return true;
      default: break;
    }
    if (b[i + 1] >= 0x80 && b[i + 1] < 0x90) return true;
  }
  return false;
}

// Instructions by their usual shapes: random bytes alone hardly ever get beyond the first.
size_t Draw(uint8_t* out) {
  size_t n = 0;
  const auto put = [&](uint32_t byte) { out[n++] = static_cast<uint8_t>(byte); };
  const uint32_t prefix = Pick(0u, 0u, 0u, 0u, 0x66u, 0xf2u, 0xf3u, 0xf0u);
  if (prefix != 0) put(prefix);
  if (OneIn(2)) put(0x40 + Below(16));
  if (OneIn(2)) put(0x0f);
  put(Below(256));
  put(Pick(0x00u, 0x40u, 0x80u, 0xc0u) + Below(64));
  const uint32_t rest = Below(6);
  for (uint32_t i = 0; i < rest; i++) put(OneIn(2) ? Below(16) : Below(256));
  return n;
}

// Registers: pointers to each kind of memory, small numbers, and what is no address at all.
const uint64_t kValues[16] = {kData + 64, 3, 7, kReadOnly + 128, kData + 512, kData + 1024, kStack + kStackSize / 2,
                              kNothing + 32, 0, 0x8000000000000000, kData + kPage - 3, 0x123456789abcdef,
                              ~uint64_t{0}, kCode + 2048, kReadOnly + kPage - 8, 1};
extern "C" {
const uint64_t* walk_values = kValues;
[[noreturn]] void WalkEnter(uintptr_t at);
}
// rdi: where to go on, kept on the stack that the code begins with.
asm(R"(
        .text
WalkEnter:
        mov     walk_values(%rip), %r15
        mov     48(%r15), %rsp
        push    %rdi
        xor     %eax, %eax
        mov     (%r15), %rax
        mov     8(%r15), %rcx
        mov     16(%r15), %rdx
        mov     24(%r15), %rbx
        mov     32(%r15), %rsi
        mov     40(%r15), %rdi
        mov     56(%r15), %rbp
        mov     64(%r15), %r8
        mov     72(%r15), %r9
        mov     80(%r15), %r10
        mov     88(%r15), %r11
        mov     96(%r15), %r12
        mov     104(%r15), %r13
        mov     112(%r15), %r14
        cmp     %rax, %rax
        mov     120(%r15), %r15
        ret
)");

void RunBytes() {
  uint8_t bytes[kBytes];
  memset(bytes, 0x90, sizeof(bytes));
  size_t used = 0;
  const uint32_t pieces = 1 + Below(3);
  for (uint32_t i = 0; i < pieces; i++) {
    uint8_t piece[kBytes];
    const size_t n = Draw(piece);
    if (used + n > kBytes || Unwanted(piece, n)) continue;
    memcpy(bytes + used, piece, n);
    used += n;
  }
  Say("run");
  for (size_t i = 0; i < used; i++) printf(" %02x", bytes[i]);
  printf("\n");
  if (Unwanted(bytes, used)) return;  // joined at a seam
  const bool read_only = OneIn(2);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    memset(code, 0x90, 2 * kPage);
    memcpy(code + 16, bytes, sizeof(bytes));
    code[16 + kBytes] = 0x0f, code[17 + kBytes] = 0x0b;  // ud2
    if (read_only) mprotect(code, 2 * kPage, PROT_READ | PROT_EXEC);
    HandleSignals();
    const itimerval limit = {{0, 0}, {0, 300'000}};
    setitimer(ITIMER_VIRTUAL, &limit, nullptr);
    AllowTelling();
    WalkEnter(kCode + 16);
  }
  TellEnd(child);
}

// A handler that returns by a frame which it has changed at random, and what is there then.
struct Change {
  int what;
  uint64_t value;
};
Change changes[3];
int change_count;

void ApplyChange(ucontext_t* context, const Change& change) {
  greg_t* const r = context->uc_mcontext.gregs;
  auto* const fp = reinterpret_cast<char*>(context->uc_mcontext.fpregs);
  const auto store = [fp](size_t at, uint64_t value, size_t size) { memcpy(fp + at, &value, size); };
  constexpr size_t kMxcsr = 24, kFrameNotes = 464, kHeader = 512;
  const greg_t value = static_cast<greg_t>(change.value);
  switch (change.what) {
    case 0: r[REG_EFL] = value & ~greg_t{0x100}; break;  // no single steps: ud2 comes first
    case 1: r[REG_RIP] = value; break;
    case 2: r[REG_RSP] = value; break;
    case 3: r[REG_RAX] = r[REG_R8] = value; break;
    case 4: r[REG_CSGSFS] = (r[REG_CSGSFS] & ~greg_t{0xffff}) | static_cast<greg_t>(change.value & 0xffff); break;
    case 5:  // SS, which the C library has no name for
      r[REG_CSGSFS] = (r[REG_CSGSFS] & 0xffffffffffff) | static_cast<greg_t>(change.value << 48);
      break;
    case 6: store(kMxcsr, change.value, 4); break;
    case 7: store(kHeader, change.value, 8); break;            // which parts are there
    case 8: store(kHeader + 8, change.value, 8); break;        // compacted
    case 9: store(kHeader + 16, change.value, 8); break;       // reserved
    case 10: store(kFrameNotes, change.value, 4); break;       // magic1
    case 11: store(kFrameNotes + 4, change.value, 4); break;   // extended_size
    case 12: store(kFrameNotes + 8, change.value, 8); break;   // xfeatures
    case 13: store(kFrameNotes + 16, change.value, 4); break;  // xstate_size
    case 14: context->uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(change.value); break;
    case 15: context->uc_flags = change.value; break;
    case 16: store(160, change.value, 8); break;  // XMM0
    case 17: store(0, change.value, 4); break;    // control and status words
    default: store(576, change.value, 8); break;  // the upper half of YMM0
  }
}

void ChangeFrame(int signal, siginfo_t* info, void* room) {
  static bool changed;
  if (changed) OnSignal(signal, info, room);
  changed = true;
  for (int i = 0; i < change_count; i++) ApplyChange(static_cast<ucontext_t*>(room), changes[i]);
}

void ReturnByFrame() {
  change_count = 1 + static_cast<int>(Below(3));
  Say("frame");
  for (int i = 0; i < change_count; i++) {
    Change& change = changes[i];
    change.what = static_cast<int>(Below(19));
    const uint64_t random = static_cast<uint64_t>(Below(1u << 31)) << 40 ^ static_cast<uint64_t>(Below(1u << 31)) << 16 ^ Below(1u << 31);
    change.value = OneIn(3) ? random : OneIn(2) ? uint64_t{1} << Below(64) : Pick<uint64_t>(0, 1, 2, 3, 7, 0x1f80, 0x202, kData, kData + 64, kReadOnly, kNothing, kStack + 1024, kCode + 64, ~uint64_t{0}, uint64_t{1} << 47, (uint64_t{1} << 47) - 4096, 512, 832, 0x46505853);
    // Compatibility mode is not there inside; other selectors are data or none.
    if (change.what == 4) change.value = Pick<uint64_t>(0x33, 0x2b, 0, 3, 0x30, 0x10, 0xffff);
    if (change.what == 5) change.value = Pick<uint64_t>(0x2b, 0x33, 0, 3, 0x28, 0x18, 0xffff, 0x2b);
    printf(" %d:%lx", change.what, change.value);
  }
  printf("\n");
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    memset(code, 0x0f, 2 * kPage);
    for (size_t i = 1; i < 2 * kPage; i += 2) code[i] = 0x0b;  // ud2 all over
    HandleSignals();
    Handle(SIGILL, ChangeFrame);
    AllowTelling();
    WalkEnter(kCode + 16);
  }
  TellEnd(child);
}
constexpr Step kSteps[] = {RunBytes, RunBytes, ReturnByFrame};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  // Small numbers hit nothing: the trampolines of patched sites lie there otherwise.
  Map(0x10000, 0x3f0000, PROT_NONE);
  Map(kCode, 2 * kPage, PROT_READ | PROT_WRITE | PROT_EXEC);
  Map(kData, 4 * kPage, PROT_READ | PROT_WRITE);
  for (size_t i = 0; i < 3 * kPage; i++) data[i] = static_cast<char>(i * 7 + i / 256);
  mprotect(reinterpret_cast<void*>(kReadOnly), kPage, PROT_READ);
  mprotect(reinterpret_cast<void*>(kNothing), kPage, PROT_NONE);
  Map(kStack, kStackSize, PROT_READ | PROT_WRITE);
  return RunSteps(argc, argv, kSteps);
}
