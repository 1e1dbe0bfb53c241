// The stub's memory thread: takes orders from the page that the stub can only read and carries them
// out. It keeps all it knows in registers and reads no writable memory, since guest threads of the
// same process can write all of that at any time. It has no stack.
//
//   r14d  number of the last order carried out
//   r13   the call being made, in the order page
//   r12d  its index
//   ebp   number of calls in the order
//   ebx   result

#include "platform/stub/stub_abi.h"

#define SYS_mmap 9
#define SYS_munmap 11
#define SYS_rt_sigreturn 15
#define SYS_clone 56
#define SYS_getppid 110
#define SYS_prctl 157
#define SYS_arch_prctl 158
#define SYS_futex 202
#define SYS_exit_group 231
#define SYS_set_robust_list 273
#define SYS_seccomp 317

#define FUTEX_WAIT 0
#define FUTEX_WAKE 1

// movabs of a constant of stub_abi.h, which gas takes as it is.
#define LOAD(value, reg) movabs $(value), reg

        .section .header, "a"
        .globl stub_header
stub_header:
        .quad RW_STUB_MAGIC
        .quad stub_boot
        .quad stub_start
        .quad stub_signal_entry
        .quad stub_signal_restorer
        .quad stub_ptrace_park
        .quad stub_systrap_signal
        .quad stub_systrap_patched
        .quad stub_end
        .quad stub_ptrace_park_end
        .quad stub_ptrace_call

        .section .rodata
        .balign 8
        .weak stub_systrap_entry
        .weak stub_systrap_signal
        .weak stub_systrap_patched
// Where guest threads begin, by RW_ENTRY_*.
stub_entries:
        .quad stub_ptrace_entry
        .quad stub_systrap_entry

        .text

// The last step of the zygote's boot, at the final address.
// rdi, rsi: the boot's own memory, to be unmapped.
        .globl stub_start
stub_start:
        mov     $SYS_munmap, %eax
        syscall
        test    %rax, %rax
        jnz     stub_exit
        // FS and GS still hold the Sentry's thread pointer.
        mov     $0x1002, %edi           // ARCH_SET_FS
        xor     %esi, %esi
        mov     $SYS_arch_prctl, %eax
        syscall
        mov     $0x1001, %edi           // ARCH_SET_GS
        mov     $SYS_arch_prctl, %eax
        syscall
        mov     $1, %edi                // SECCOMP_SET_MODE_FILTER
        mov     $4, %esi                // SECCOMP_FILTER_FLAG_SPEC_ALLOW
        lea     stub_memory_filter(%rip), %rdx
        mov     $SYS_seccomp, %eax
        syscall
        test    %rax, %rax
        jnz     stub_exit
        mov     $RW_FIRST_ORDER, %r14d
        xor     %ebx, %ebx
        mov     $RW_REPLY_ALL_DONE, %r12d
        jmp     .Lreply

stub_exit:
        mov     $1, %edi
        mov     $SYS_exit_group, %eax
        syscall
        hlt

// Sleeps until there is another order. Does not spin: whoever ordered is waiting on this CPU.
.Lidle:
        LOAD(RW_STUB_COMMAND, %r13)
        mov     RW_CMD_SEQ(%r13), %eax
        cmp     %r14d, %eax
        jne     .Lorder
        LOAD(RW_STUB_REPLY, %rbp)
        mov     $1, %eax
        xchg    %eax, RW_REPLY_SLEEPING(%rbp)   // before futex looks at the bell
        lea     RW_REPLY_BELL(%rbp), %rdi
        mov     $FUTEX_WAIT, %esi
        mov     %r14d, %edx
        xor     %r10d, %r10d
        mov     $SYS_futex, %eax
        syscall
        movl    $0, RW_REPLY_SLEEPING(%rbp)
        jmp     .Lidle

.Lorder:
        mov     %eax, %r14d
        mov     RW_CMD_COUNT(%r13), %ebp
        xor     %r12d, %r12d
        xor     %ebx, %ebx
        add     $RW_CMD_CALLS, %r13
.Lnext:
        cmp     %ebp, %r12d
        jae     .Ldone
        mov     (%r13), %rax
        mov     8(%r13), %rdi
        mov     16(%r13), %rsi
        mov     24(%r13), %rdx
        mov     32(%r13), %r10
        mov     40(%r13), %r8
        mov     48(%r13), %r9
        cmp     $RW_OP_FIRST, %rax
        jae     .Lspecial
        syscall
        mov     %eax, %ebx
        cmp     $-4095, %rax
        jae     .Lfailed
.Lstep:
        inc     %r12d
        add     $RW_CMD_CALL_SIZE, %r13
        jmp     .Lnext
.Lfailed:
        mov     %eax, %ebx
        jmp     .Lreply
.Ldone:
        mov     $RW_REPLY_ALL_DONE, %r12d

// Leaves the result (ebx, index r12d) with the kernel, where guest threads cannot change it, then
// tells the Sentry.
.Lreply:
        mov     %r14d, %edi
        and     $0x7fffff, %edi
        or      $0x800000, %edi
        shl     $8, %rdi
        or      %r12, %rdi
        shl     $32, %rdi
        or      %rbx, %rdi
        mov     $24, %esi
        mov     $SYS_set_robust_list, %eax
        syscall
        // Off the signal stack, after a fault. Not before: a guest thread that forged its signal stack
        // to get here is trapped by the call, again and again until that stack is full, and dies.
        xor     %esp, %esp
        LOAD(RW_STUB_COMMAND, %r13)
        LOAD(RW_STUB_REPLY, %rdi)
        mov     %r14d, %eax
        xchg    %eax, RW_REPLY_DONE(%rdi)       // before the look at waiter
        cmpl    $0, RW_CMD_WAITER(%r13)
        je      .Lidle
        mov     $FUTEX_WAKE, %esi               // rdi: StubReply::done, its first word
        mov     $1, %edx
        mov     $SYS_futex, %eax
        syscall
        jmp     .Lidle

.Lspecial:
        cmp     $RW_OP_CMPXCHG, %rax
        je      .Lcmpxchg
        cmp     $RW_OP_FORK, %rax
        je      .Lfork
        cmp     $RW_OP_THREAD, %rax
        je      .Lthread
        mov     $-38, %eax                      // ENOSYS
        jmp     .Lfailed

// A fault here ends in .Lfault below.
.Lcmpxchg:
        mov     %esi, %eax
        lock cmpxchg %edx, (%rdi)
        mov     %eax, %ebx
        jmp     .Lstep

// clone() looks at rdi and rsi only, with these flags; the rest passes through to the new thread.
.Lthread:
        mov     %rdi, %rbx
        xchg    %rsi, %r9                       // a5, the stack pointer, and a1
        mov     $RW_CLONE_THREAD, %edi
        mov     $SYS_clone, %eax
        syscall
        test    %rax, %rax
        jz      .Lnew_thread
        js      .Lfailed
        mov     %eax, %ebx
        jmp     .Lstep
.Lnew_thread:
        cmp     $RW_ENTRY_COUNT, %rbx
        jae     stub_exit
        mov     %r9, %rdi
        mov     %rdx, %rsi
        mov     %r10, %rdx
        mov     %r8, %rcx
        lea     stub_entries(%rip), %rax
        mov     (%rax,%rbx,8), %rax
        test    %rax, %rax
        jz      stub_exit
        xor     %ebx, %ebx
        xor     %ebp, %ebp
        xor     %r12d, %r12d
        xor     %r13d, %r13d
        xor     %r14d, %r14d
        jmp     *%rax

.Lfork:
        mov     %rdi, %r8                       // untouched by clone and kept in the child
        mov     %rsi, %r9
        mov     $RW_CLONE_FORK, %edi
        xor     %esi, %esi
        xor     %edx, %edx
        xor     %r10d, %r10d
        mov     $SYS_clone, %eax
        syscall
        test    %rax, %rax
        jz      .Lchild
        js      .Lfailed
        mov     %eax, %ebx
        jmp     .Lstep

// A fresh stub: only this thread, still with its parent's pages. Its own slot takes their place.
.Lchild:
        LOAD(RW_STUB_REGIONS, %rdi)
        LOAD(RW_STUB_REGIONS_END - RW_STUB_REGIONS, %rsi)
        mov     $SYS_munmap, %eax
        syscall
        test    %rax, %rax
        jnz     stub_exit
        LOAD(RW_STUB_COMMAND, %rdi)
        mov     $0x1000, %esi
        mov     $1, %edx                        // PROT_READ
        mov     $0x11, %r10d                    // MAP_SHARED|MAP_FIXED
        mov     $SYS_mmap, %eax
        syscall
        cmp     %rdi, %rax
        jne     stub_exit
        add     $0x1000, %r9
        LOAD(RW_STUB_REPLY, %rdi)
        mov     $RW_STUB_REPLY_SIZE, %esi
        mov     $3, %edx                        // PROT_READ|PROT_WRITE
        mov     $SYS_mmap, %eax
        syscall
        cmp     %rdi, %rax
        jne     stub_exit
        mov     $1, %edi                        // PR_SET_PDEATHSIG
        mov     $9, %esi
        xor     %edx, %edx
        xor     %r10d, %r10d
        xor     %r8d, %r8d
        mov     $SYS_prctl, %eax
        syscall
        test    %rax, %rax
        jnz     stub_exit
        // The Sentry may have died before the signal was asked for.
        mov     $SYS_getppid, %eax
        syscall
        LOAD(RW_STUB_COMMAND, %r13)
        cmp     RW_CMD_SENTRY_PID(%r13), %eax
        jne     stub_exit
        mov     $RW_FIRST_ORDER, %r14d
        cmp     %r14d, RW_CMD_SEQ(%r13)         // an order already? Its reply will do.
        jne     .Lidle
        xor     %ebx, %ebx
        mov     $RW_REPLY_ALL_DONE, %r12d
        jmp     .Lreply

// Every signal arrives here. The kernel put the frame on the signal stack of the thread, so the
// stack pointer tells the memory thread from guest threads, and guest code cannot choose it for the
// memory thread. The frame itself is in writable memory and is not looked at: all registers but
// those of the handler's arguments are still those of the fault, which only .Lcmpxchg can cause.
        .globl stub_signal_entry
stub_signal_entry:
        mov     %rsp, %rax
        LOAD(RW_STUB_ALTSTACK, %rcx)
        sub     %rcx, %rax
        cmp     $RW_STUB_ALTSTACK_SIZE, %rax
        jae     .Lguest_signal
        mov     $-14, %eax                      // EFAULT
        jmp     .Lfailed
.Lguest_signal:
        mov     stub_header+48(%rip), %rax
        test    %rax, %rax
        jz      .Lno_handler
        jmp     *%rax
.Lno_handler:
        hlt

        .globl stub_signal_restorer
stub_signal_restorer:
        mov     $SYS_rt_sigreturn, %eax
        syscall
        hlt

        .section .note.GNU-stack, "", @progbits
