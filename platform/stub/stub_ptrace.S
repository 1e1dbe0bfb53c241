// A guest thread of the ptrace platform: installs the guest filter and parks until the Sentry's
// thread seizes it and gives it registers. Guest code never comes back here.

#include "platform/stub/stub_abi.h"

        .text
        .globl stub_ptrace_entry
stub_ptrace_entry:
        // All signals open: the tracer sees them first.
        mov     $2, %edi                        // SIG_SETMASK
        lea     .Lno_signals(%rip), %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        mov     $14, %eax                       // rt_sigprocmask
        syscall
        test    %rax, %rax
        jnz     .Ldie
        mov     $1, %edi                        // SECCOMP_SET_MODE_FILTER
        mov     $4, %esi                        // SECCOMP_FILTER_FLAG_SPEC_ALLOW
        lea     stub_guest_filter(%rip), %rdx
        mov     $317, %eax                      // seccomp
        syscall
        test    %rax, %rax
        jnz     .Ldie

        .globl stub_ptrace_park
stub_ptrace_park:
        lea     .Lno_signals(%rip), %rdi
        mov     $128, %esi                      // FUTEX_WAIT|FUTEX_PRIVATE_FLAG
        xor     %edx, %edx
        xor     %r10d, %r10d
        mov     $202, %eax                      // futex
        syscall
        jmp     stub_ptrace_park
        .globl stub_ptrace_park_end
stub_ptrace_park_end:
// A host call at the tracer's order, which steps over this instruction.
        .globl stub_ptrace_call
stub_ptrace_call:
        syscall
        hlt
.Ldie:
        mov     $1, %edi
        mov     $231, %eax                      // exit_group
        syscall
        hlt

        .section .rodata
        .balign 8
.Lno_signals:
        .quad 0

        .section .note.GNU-stack, "", @progbits
