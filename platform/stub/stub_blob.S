// The stub's code as bytes of the Sentry.
        .section .rodata
        .balign 4096
        .globl ringwall_stub_blob
        .globl ringwall_stub_blob_end
ringwall_stub_blob:
        .incbin RW_STUB_BLOB
ringwall_stub_blob_end:
        .section .note.GNU-stack, "", @progbits

// long ringwall_clone_zygote(flags, stack, boot, plan, header): clone(), whose child calls
// boot(plan, header) on the new stack.
        .text
        .globl ringwall_clone_zygote
        .type ringwall_clone_zygote, @function
ringwall_clone_zygote:
        mov     %rdx, %r9
        mov     %rcx, %r10
        mov     $56, %eax
        syscall
        test    %rax, %rax
        jz      1f
        ret
1:      mov     %r10, %rdi
        mov     %r8, %rsi
        xor     %ebp, %ebp
        sub     $8, %rsp
        jmp     *%r9
