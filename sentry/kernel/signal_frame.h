// The x86-64 signal frame (arch/x86/kernel/signal_64.c, struct rt_sigframe) as guest memory has it.
#ifndef RINGWALL_SENTRY_KERNEL_SIGNAL_FRAME_H_
#define RINGWALL_SENTRY_KERNEL_SIGNAL_FRAME_H_

#include <cstdint>

#include "sentry/abi/registers.h"
#include "sentry/abi/signal.h"

namespace ringwall {

// struct sigcontext.
struct SigContext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];

  void From(const abi::Registers& r);
  // Only what rt_sigreturn lets a program set: no system flags, user code segments.
  void To(abi::Registers& r) const;
};
static_assert(sizeof(SigContext) == 256);

struct UContext {
  uint64_t flags;
  uint64_t link;
  abi::StackT stack;
  SigContext mcontext;
  abi::SigSet sigmask;
};
static_assert(sizeof(UContext) == 304);
inline constexpr uint64_t kUcFpXstate = 1, kUcSigcontextSs = 2, kUcStrictRestoreSs = 4;

struct RtSigFrame {
  uint64_t pretcode;
  UContext uc;
  abi::SigInfo info;
};
static_assert(sizeof(RtSigFrame) == 440);

// struct _fpx_sw_bytes, at byte 464 of the legacy area of an xsave image in a frame.
struct FpxSwBytes {
  uint32_t magic1, extended_size;
  uint64_t xfeatures;
  uint32_t xstate_size, padding[7];
};
static_assert(sizeof(FpxSwBytes) == 48);
inline constexpr uint32_t kFpXstateMagic1 = 0x46505853, kFpXstateMagic2 = 0x46505845;
inline constexpr size_t kFpxSwOffset = 464, kFxsaveSize = 512, kXsaveHeaderEnd = 576;

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_SIGNAL_FRAME_H_
