// The x86-64 general registers of a guest task, laid out as Linux's struct user_regs_struct
// (arch/x86/include/asm/user_64.h), so that PTRACE_GETREGS and core files need no translation.
#ifndef RINGWALL_SENTRY_ABI_REGISTERS_H_
#define RINGWALL_SENTRY_ABI_REGISTERS_H_

#include <cstdint>

namespace ringwall::abi {

struct Registers {
  uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
  uint64_t orig_rax, rip, cs, eflags, rsp, ss;
  uint64_t fs_base, gs_base, ds, es, fs, gs;
};
static_assert(sizeof(Registers) == 27 * 8);

inline constexpr uint64_t kUserCs = 0x33;
inline constexpr uint64_t kUserSs = 0x2b;

}  // namespace ringwall::abi

#endif  // RINGWALL_SENTRY_ABI_REGISTERS_H_
