// The stub's entries and exits of the systrap platform: the start of a guest thread, patched sites,
// signals, and the way back to guest code. The rest is stub_systrap.c. GS holds the region.

#include "platform/stub/stub_abi.h"
#include "platform/systrap/region.h"

        .text

// A new guest thread. rdi: its region. No stack and no signals until its filter stands: the region is the
// guest's to write, and a return address on it would be followed with the memory thread's rights.
        .globl stub_systrap_entry
stub_systrap_entry:
        mov     %rdi, %rbx
        lea     RW_R_ROBUST_HEAD(%rbx), %rdi
        mov     $24, %esi
        mov     $273, %eax                      // set_robust_list
        syscall
        test    %rax, %rax
        jnz     1f
        mov     $1, %edi                        // SECCOMP_SET_MODE_FILTER
        mov     $4, %esi                        // SECCOMP_FILTER_FLAG_SPEC_ALLOW
        lea     stub_systrap_filter(%rip), %rdx
        mov     $317, %eax                      // seccomp
        syscall
        test    %rax, %rax
        jnz     1f
        mov     %rbx, %rdi
        lea     RW_REGION_STACK_TOP(%rbx), %rsp
        call    stub_systrap_begin
1:      mov     $1, %edi
        mov     $231, %eax                      // exit_group
        syscall
        hlt

// void stub_unblock(const struct KernelUcontext*): rt_sigreturn, the one way past the filter to receive
// signals. The context leads to stub_systrap_start.
        .globl stub_unblock
stub_unblock:
        mov     %rdi, %rsp
        mov     $15, %eax
        syscall
        hlt

// rdi: the region; with signals.
        .globl stub_systrap_started
stub_systrap_started:
        call    stub_systrap_start
        jmp     stub_systrap_return

// A patched site jumps here by its trampoline, as instead of a system call: rcx is the address
// behind the original instruction, r11 where the trampoline goes on. The guest's stack is not
// touched.
        .balign 64
        .globl stub_systrap_patched
stub_systrap_patched:
        mov     %rax, %gs:RW_R_RAX
        mov     %rdi, %gs:RW_R_RDI
        mov     %rsi, %gs:RW_R_RSI
        mov     %rdx, %gs:RW_R_RDX
        mov     %r10, %gs:RW_R_R10
        mov     %r8, %gs:RW_R_R8
        mov     %r9, %gs:RW_R_R9
        mov     %rcx, %gs:RW_R_RIP
        mov     %r11, %gs:RW_R_RESUME
        mov     %rsp, %gs:RW_R_RSP
        mov     %rbx, %gs:RW_R_RBX
        mov     %rbp, %gs:RW_R_RBP
        mov     %r12, %gs:RW_R_R12
        mov     %r13, %gs:RW_R_R13
        mov     %r14, %gs:RW_R_R14
        mov     %r15, %gs:RW_R_R15
        mov     %rcx, %gs:RW_R_RCX
        rdgsbase %rdi
        lea     RW_REGION_STACK_TOP(%rdi), %rsp
        pushfq
        pop     %r11
        mov     %r11, %gs:RW_R_EFLAGS
        mov     %r11, %gs:RW_R_R11
        test    $0x40400, %r11d                 // direction, alignment check
        jnz     .Lodd_flags
.Lpatched_call:
        xor     %esi, %esi
        call    stub_systrap_syscall
        jmp     stub_systrap_return
.Lodd_flags:
        push    $0x202
        popfq
        jmp     .Lpatched_call

// A trapped system call, after the signal handler has moved its registers to the region and made
// the signal's return lead here. rdi: the region, rsi: flags.
        .globl stub_systrap_trapped
stub_systrap_trapped:
        call    stub_systrap_syscall

// Back to guest code, with all registers from the region. From here to the last instruction the
// signal handler of the kick knows that the region holds the guest's registers.
        .globl stub_systrap_return
        .globl stub_systrap_return_end
stub_systrap_return:
        cmpl    $0, %gs:RW_R_KICK
        jne     .Lkicked
        test    %eax, %eax                      // from the C code: go by a signal frame
        jnz     .Lby_frame
        mov     %gs:RW_R_EFLAGS, %r11
        mov     %gs:RW_R_RBX, %rbx
        mov     %gs:RW_R_RBP, %rbp
        mov     %gs:RW_R_R12, %r12
        mov     %gs:RW_R_R13, %r13
        mov     %gs:RW_R_R14, %r14
        mov     %gs:RW_R_R15, %r15
        mov     %gs:RW_R_RDI, %rdi
        mov     %gs:RW_R_RSI, %rsi
        mov     %gs:RW_R_RDX, %rdx
        mov     %gs:RW_R_R10, %r10
        mov     %gs:RW_R_R8, %r8
        mov     %gs:RW_R_R9, %r9
        mov     %gs:RW_R_RCX, %rcx
        test    $0x244500, %r11d                // popfq is slow: only for what sahf cannot set
        jnz     .Lpopf
        // Overflow is not in sahf's byte: add makes it of bit 11.
        mov     %r11d, %eax
        shr     $4, %eax
        and     $0x80, %eax                     // overflow as bit 7
        add     $-128, %al                      // -128 + -128 overflows, 0 + -128 does not
        mov     %r11d, %eax
        mov     %al, %ah
        sahf
.Lflags_done:
        mov     %gs:RW_R_RAX, %rax
        mov     %gs:RW_R_R11, %r11
        mov     %gs:RW_R_RSP, %rsp
        jmp     *%gs:RW_R_RESUME
.Lpopf:
        push    %r11
        popfq
        jmp     .Lflags_done
// Through a signal frame: ud2's handler fills it from the region.
        .globl stub_systrap_gadget
.Lby_frame:
stub_systrap_gadget:
        ud2
stub_systrap_return_end:

.Lkicked:
        rdgsbase %rdi
        call    stub_systrap_kicked
        jmp     stub_systrap_return

// rdi: signo, rsi: siginfo, rdx: ucontext. The frame is on the signal stack, in the region.
        .globl stub_systrap_signal
stub_systrap_signal:
        pushfq
        pop     %rax
        test    $0x40000, %eax                  // the guest's alignment check, which signals leave on
        jnz     .Lalignment_check
.Laligned_or_not:
        mov     %rsp, %rcx
        and     $-RW_REGION_SIZE, %rcx
        mov     %rcx, %rax
        shr     $32, %rax
        cmp     $RW_REGIONS_HIGH, %eax
        jne     .Lno_region                     // the guest forged its signal stack
        jmp     stub_systrap_on_signal
.Lalignment_check:
        and     $~0x40000, %eax
        push    %rax
        popfq
        jmp     .Laligned_or_not
.Lno_region:
        hlt

// long stub_copy(void* to, const void* from, size_t n): the bytes not copied, because of a fault.
        .globl stub_copy
        .globl stub_copy_insn
stub_copy:
        mov     %rdx, %rcx
stub_copy_insn:
        rep movsb
        mov     %rcx, %rax
        ret

// long stub_copy_string(void* to, const void* from, size_t n): the bytes up to and with the NUL, or
// -1 when there is none within n or a fault comes first.
        .globl stub_copy_string
        .globl stub_copy_string_end
        .globl stub_copy_string_fault
stub_copy_string:
        xor     %ecx, %ecx
        mov     $0x0101010101010101, %r8
        mov     $0x8080808080808080, %r9
.Lbytes:
        cmp     %rdx, %rcx
        jae     stub_copy_string_fault
        lea     (%rsi,%rcx), %eax
        test    $7, %al
        jz      .Lwords
.Lbyte:
        movzbl  (%rsi,%rcx), %eax
        mov     %al, (%rdi,%rcx)
        inc     %rcx
        test    %al, %al
        jnz     .Lbytes
        mov     %rcx, %rax
        ret
.Lwords:
        lea     8(%rcx), %rax
        cmp     %rdx, %rax
        ja      .Lbyte
        mov     (%rsi,%rcx), %rax               // aligned, so within one page
        mov     %rax, (%rdi,%rcx)
        mov     %rax, %r10
        sub     %r8, %rax
        not     %r10
        and     %r10, %rax
        and     %r9, %rax
        jnz     .Lnul
        add     $8, %rcx
        jmp     .Lbytes
.Lnul:
        bsf     %rax, %rax
        shr     $3, %eax
        lea     1(%rcx,%rax), %rax
        ret
stub_copy_string_end:
stub_copy_string_fault:
        mov     $-1, %rax
        ret

// long stub_vdso_call(uint64_t function, uint64_t a, uint64_t b, struct Region*): what the function
// returns, or -4096 when it faulted or made a real system call.
        .globl stub_vdso_call
        .globl stub_vdso_abort
stub_vdso_call:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rcx
        mov     %rsp, RW_R_ABORT_RSP(%rcx)
        mov     %rdi, %rax
        mov     %rsi, %rdi
        mov     %rdx, %rsi
        call    *%rax
.Lvdso_back:
        pop     %rcx
        movq    $0, RW_R_ABORT_RSP(%rcx)
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
// The signal handler comes here with rsp from the region.
stub_vdso_abort:
        mov     $-4096, %rax
        jmp     .Lvdso_back

// long stub_futex(struct Region*, const uint64_t args[6]): a host futex call that the kick
// interrupts for sure, -EINTR then.
        .globl stub_futex
        .globl stub_futex_look
        .globl stub_futex_done
        .globl stub_futex_abort
stub_futex:
        push    %rbx
        mov     %rdi, %rbx
        mov     %rsi, %rax
        mov     (%rax), %rdi
        mov     8(%rax), %rsi
        mov     16(%rax), %rdx
        mov     24(%rax), %r10
        mov     32(%rax), %r8
        mov     40(%rax), %r9
        mov     $202, %eax
stub_futex_look:
        cmpl    $0, RW_R_KICK(%rbx)
        jne     stub_futex_abort
        syscall
stub_futex_done:
        pop     %rbx
        ret
stub_futex_abort:
        mov     $-4, %rax
        jmp     stub_futex_done

// long stub_xsave(void* area, uint64_t mask), long stub_xrstor(const void* area, uint64_t mask)
        .globl stub_xsave
        .globl stub_xsave_insn
stub_xsave:
        mov     %rsi, %rdx
        mov     %esi, %eax
        shr     $32, %rdx
stub_xsave_insn:
        xsave64 (%rdi)
        xor     %eax, %eax
        ret
        .globl stub_xrstor
        .globl stub_xrstor_insn
stub_xrstor:
        mov     %rsi, %rdx
        mov     %esi, %eax
        shr     $32, %rdx
stub_xrstor_insn:
        xrstor64 (%rdi)
        xor     %eax, %eax
        ret
        .globl stub_xstate_fault
stub_xstate_fault:
        mov     $-1, %rax
        ret

// long stub_call(long nr, long a, long b, long c, long d)
        .globl stub_call
stub_call:
        mov     %rdi, %rax
        mov     %rsi, %rdi
        mov     %rdx, %rsi
        mov     %rcx, %rdx
        mov     %r8, %r10
        xor     %r8d, %r8d
        syscall
        ret

        .section .note.GNU-stack, "", @progbits
