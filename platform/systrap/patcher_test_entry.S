// What trampolines jump to in patcher_test.cc: the system call, then on behind it.
        .text
        .globl TestPatchedEntry
TestPatchedEntry:
        mov     %r11, %gs:0
        syscall
        jmp     *%gs:0
        .section .note.GNU-stack, "", @progbits
