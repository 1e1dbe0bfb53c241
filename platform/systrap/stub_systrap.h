// What the files of the stub's systrap code share. Freestanding: no libc, no writable data, general
// registers only, and it may run on a guest thread's signal stack.
#ifndef RINGWALL_PLATFORM_SYSTRAP_STUB_SYSTRAP_H_
#define RINGWALL_PLATFORM_SYSTRAP_STUB_SYSTRAP_H_

#include "platform/stub/stub_abi.h"
#include "platform/systrap/region.h"

// Extern declarations would go through a GOT otherwise, which the blob does not have.
#pragma GCC visibility push(hidden)

// stub_systrap.S
extern const char stub_systrap_trapped[], stub_systrap_return[], stub_systrap_return_end[];
extern const char stub_systrap_gadget[], stub_systrap_patched[];
extern const char stub_copy_insn[], stub_copy_string_end[];
extern const char stub_copy_string_fault[], stub_vdso_abort[];
extern const char stub_futex_look[], stub_futex_done[], stub_futex_abort[];
long stub_copy(void* to, const void* from, size_t n);
long stub_copy_string(void* to, const void* from, size_t n);
long stub_vdso_call(uint64_t function, uint64_t a, uint64_t b, struct Region* region);
long stub_futex(struct Region* region, const uint64_t args[6]);
long stub_call(long nr, long a, long b, long c, long d);

// stub_local.c: answers the call whose registers are in the region, if the stub may and can; its
// result is then in region->rax. *flags gets RW_FLAG_INTERRUPTED for a futex call that was.
int stub_answer_locally(struct Region* region, uint32_t* flags);
// Whether it might.
int stub_is_local(uint64_t nr);

// stub_window.c: copies the call's short input into the window; how many pieces.
uint32_t stub_fill_window(struct Region* region);
// Copies what the Sentry queued to guest memory; 0 or -EFAULT.
long stub_copy_output(struct Region* region);

#pragma GCC visibility pop

#endif  // RINGWALL_PLATFORM_SYSTRAP_STUB_SYSTRAP_H_
