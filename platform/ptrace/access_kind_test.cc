// The decoder against the processor: each instruction is run on memory that it must not write, and
// the signal frame of the fault says whether it tried.
#include "platform/ptrace/access_kind.h"

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <vector>

namespace ringwall {
namespace {

sigjmp_buf g_jump;
bool g_wrote, g_guess;
int g_signo;

void OnFault(int signo, siginfo_t* info, void* context) {
  const greg_t* g = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  g_signo = signo;
  g_wrote = (g[REG_ERR] & 2) != 0;
  abi::Registers r = {};
  r.rdi = static_cast<uint64_t>(g[REG_RDI]);
  r.rsi = static_cast<uint64_t>(g[REG_RSI]);
  r.rsp = static_cast<uint64_t>(g[REG_RSP]);
  const auto* code = reinterpret_cast<const uint8_t*>(g[REG_RIP]);
  g_guess = WritesAt({code, 15}, r, reinterpret_cast<uint64_t>(info->si_addr));
  siglongjmp(g_jump, 1);
}

// Runs `bytes` with rax and rdi at memory that can be read only (or not at all), rsi elsewhere.
void Try(std::vector<uint8_t> bytes, int prot) {
  static auto* page = static_cast<uint8_t*>(
      mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  static auto* text = static_cast<uint8_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  static uint8_t other[64];
  mprotect(page, 8192, prot);
  // Whatever length it has, a return follows.
  memset(text, 0xc3, 64);
  memcpy(text, bytes.data(), bytes.size());
  g_signo = 0;
  if (sigsetjmp(g_jump, 1) == 0) {
    uint8_t* target = page + 64;
    uint64_t rdi = reinterpret_cast<uint64_t>(target), rsi = reinterpret_cast<uint64_t>(other);
    uint64_t rcx = 1;
    asm volatile("call *%4"
                 : "+a"(target), "+D"(rdi), "+S"(rsi), "+c"(rcx)
                 : "m"(text)
                 : "rbx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
                   "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "memory", "cc");
  }
  if (g_signo != SIGSEGV) return;  // it only reads, or is unknown to this processor
  EXPECT_EQ(g_guess, g_wrote) << ::testing::PrintToString(bytes) << " prot " << prot;
}

TEST(AccessKindTest, AgreesWithTheProcessor) {
  struct sigaction sa = {};
  sa.sa_sigaction = OnFault;
  sa.sa_flags = SA_SIGINFO | SA_NODEFER;
  for (const int signo : {SIGSEGV, SIGILL, SIGFPE, SIGBUS}) sigaction(signo, &sa, nullptr);
  for (const int prot : {PROT_NONE, PROT_READ}) {
    // ModRM 00 reg 000: [rax].
    for (int reg = 0; reg < 8; reg++) {
      const auto modrm = static_cast<uint8_t>(reg << 3);
      // Only groups of opcodes have a meaning for each; others must leave rsp and rbp alone.
      const bool stack = reg == 4 || reg == 5;
      for (int op = 0; op < 0x40; op++) {
        if ((op & 7) > 3 || stack) continue;
        Try({static_cast<uint8_t>(op), modrm}, prot);
        Try({0x48, static_cast<uint8_t>(op), modrm}, prot);
      }
      for (const uint8_t op : {0x80, 0x83, 0xc0, 0xc1}) Try({op, modrm, 1}, prot);
      Try({0x81, modrm, 1, 0, 0, 0}, prot);
      for (const uint8_t op : {0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0xd0, 0xd1, 0xd2, 0xd3}) {
        if (stack && op < 0xd0) continue;
        Try({op, modrm}, prot);
        Try({0x66, 0x44, op, modrm}, prot);
      }
      for (const uint8_t op : {0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf}) Try({op, modrm}, prot);
      Try({0xf6, modrm, 1}, prot), Try({0xf7, modrm, 1, 0, 0, 0}, prot);
      for (const uint8_t op :
           {0x10, 0x11, 0x12, 0x13, 0x14, 0x16, 0x17, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2e, 0x2f,
            0x51, 0x54, 0x58, 0x60, 0x6e, 0x6f, 0x74, 0x7e, 0x7f, 0x90, 0x95, 0x9f, 0xa5, 0xad, 0xaf,
            0xb0, 0xb1, 0xb6, 0xb7, 0xbc, 0xbe, 0xbf, 0xc0, 0xc1, 0xc3, 0xd6, 0xe6, 0xe7, 0xef, 0xf0}) {
        if (stack) continue;
        for (const int prefix : {0, 0x66, 0xf3, 0xf2}) {
          std::vector<uint8_t> code;
          if (prefix != 0) code.push_back(static_cast<uint8_t>(prefix));
          code.insert(code.end(), {0x0f, op, modrm});
          Try(code, prot);
        }
        for (const uint8_t vex : {0xf8, 0xf9, 0xfa, 0xfb}) Try({0xc5, vex, op, modrm}, prot);
      }
    }
    for (const uint8_t reg : {0, 1}) Try({0xfe, static_cast<uint8_t>(reg << 3)}, prot);
    Try({0xc6, 0, 1}, prot), Try({0xc7, 0, 1, 0, 0, 0}, prot), Try({0x48, 0x0f, 0xba, 0x28, 1}, prot);
    Try({0x48, 0x0f, 0xba, 0x20, 1}, prot), Try({0xf0, 0x48, 0x0f, 0xb1, 0x08}, prot);
    Try({0xf0, 0xff, 0x00}, prot), Try({0x0f, 0xae, 0x18}, prot), Try({0x0f, 0xae, 0x10}, prot);
    Try({0xc5, 0xf8, 0x91, 0x08}, prot);
    Try({0xaa}, prot), Try({0xab}, prot), Try({0xa4}, prot), Try({0xa5}, prot);
    Try({0xf3, 0xa4}, prot), Try({0x48, 0xa5}, prot), Try({0xae}, prot), Try({0xa6}, prot);
    Try({0x0f, 0x38, 0xf0, 0x08}, prot), Try({0x0f, 0x38, 0xf1, 0x08}, prot);
    Try({0x66, 0x0f, 0x3a, 0x14, 0x00, 0}, prot), Try({0x66, 0x0f, 0x3a, 0x16, 0x00, 0}, prot);
    Try({0x66, 0x0f, 0x3a, 0x20, 0x00, 0}, prot);
    Try({0xc4, 0xe2, 0x7d, 0x8e, 0x00}, prot), Try({0xc4, 0xe3, 0x7d, 0x19, 0x00, 0}, prot);
  }
}

}  // namespace
}  // namespace ringwall
