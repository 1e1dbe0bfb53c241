// What the files of the stub's systrap code share. Freestanding: no libc, no writable data, general
// registers only, and it may run on a guest thread's signal stack.
#ifndef RINGWALL_PLATFORM_SYSTRAP_STUB_SYSTRAP_H_
#define RINGWALL_PLATFORM_SYSTRAP_STUB_SYSTRAP_H_

#include "platform/stub/stub_abi.h"
#include "platform/systrap/region.h"

// Extern declarations would go through a GOT otherwise, which the blob does not have.
#pragma GCC visibility push(hidden)

// The kernel's struct ucontext of x86-64 up to the signal mask.
struct KernelUcontext {
  uint64_t flags, link;
  uint64_t stack[3];
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t error, trap_no, old_mask, cr2;
  uint8_t* fpstate;
  uint64_t reserved[8];
  uint64_t mask;
};

// struct _fpx_sw_bytes: the kernel's notes in the xstate of a frame, in a part that the processor leaves
// free; and a word behind the xstate.
struct XStateNotes {
  uint32_t magic1, extended_size;
  uint64_t features;
  uint32_t size, padding[7];
};
#define XSTATE_MAGIC1 0x46505853
#define XSTATE_MAGIC2 0x46505845
#define XSTATE_NOTES 464
#define XSTATE_LEGACY 512
#define XSTATE_HEADER_SIZE 64
#define XSTATE_MXCSR 24

// The selectors of 64-bit programs.
#define USER_CS 0x33
#define USER_SS 0x2b

#define EFAULT 14

// stub_systrap.S
extern const char stub_systrap_trapped[], stub_systrap_return[], stub_systrap_return_end[];
extern const char stub_systrap_gadget[], stub_systrap_patched[];
extern const char stub_copy_insn[], stub_copy_string_end[];
extern const char stub_copy_string_fault[], stub_vdso_abort[];
extern const char stub_futex_look[], stub_futex_done[], stub_futex_abort[];
extern const char stub_xsave_insn[], stub_xrstor_insn[], stub_xstate_fault[];
long stub_copy(void* to, const void* from, size_t n);
long stub_copy_string(void* to, const void* from, size_t n);
long stub_vdso_call(uint64_t function, uint64_t a, uint64_t b, struct Region* region);
long stub_futex(struct Region* region, const uint64_t args[6]);
// The same, noted for who counts the thread's time.
long stub_futex_noted(struct Region* region, const uint64_t args[6]);
// xsave64 and xrstor64 of guest memory: -1 for a fault.
long stub_xsave(void* area, uint64_t mask);
long stub_xrstor(const void* area, uint64_t mask);
long stub_call(long nr, long a, long b, long c, long d);
extern const char stub_systrap_started[];
void stub_unblock(const struct KernelUcontext* context);

// stub_local.c: answers the call whose registers are in the region, if the stub may and can; its
// result is then in region->rax. *flags gets RW_FLAG_INTERRUPTED for a futex call that was.
int stub_answer_locally(struct Region* region, uint32_t* flags);
// Whether it might.
int stub_is_local(const struct Region* region);

// stub_window.c: copies the call's short input into the window; how many pieces.
uint32_t stub_fill_window(struct Region* region);
// Copies what the Sentry queued to guest memory; 0 or -EFAULT.
long stub_copy_output(struct Region* region);

// Copies from a view to guest memory; 0 or -EFAULT, with some of it copied perhaps.
long stub_copy_view(struct Region* region);

// stub_signal.c: writes the signal frame that the region has the head of. `frame` is the host's, which
// holds the guest's xstate, or null when the processor does. 0 or -EFAULT.
long stub_write_frame(struct Region* region, struct KernelUcontext* frame);
// Loads the xstate at `at` in guest memory when it is as stub_write_frame lays it out; -EFAULT.
long stub_load_frame_xstate(const struct Region* region, uint64_t at);
// Answers rt_sigreturn, if its frame changes nothing that the Sentry must know of.
int stub_sigreturn(struct Region* region);

// A guest address, or the range up to it, that system calls refuse.
static inline int stub_is_user(uint64_t addr, uint64_t size) {
  return addr < RW_STUB_START && size <= RW_STUB_START - addr;
}

#pragma GCC visibility pop

#endif  // RINGWALL_PLATFORM_SYSTRAP_STUB_SYSTRAP_H_
