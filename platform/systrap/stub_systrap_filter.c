// The filter of guest threads on systrap, on top of the memory thread's. Only the stub's text may
// return from a signal, hand over, run private futexes, yield, ask what the process has used and
// register an area of restartable sequences; the guest's own rt_sigreturn is the Sentry's to answer. A
// guest that jumps there with registers of its choice gains a futex call on its own memory, its own
// usage written to its own memory, an area that the host writes with the guest's own rights, or
// registers that it could set anyway.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "platform/stub/stub_abi.h"

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOAD_HIGH(field) \
  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field) + 4)
#define IF(value, then_skip, else_skip) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (then_skip), (else_skip))
#define IF_AT_LEAST(value, then_skip, else_skip) \
  BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (value), (then_skip), (else_skip))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

static const struct sock_filter rules[] = {
    LOAD(arch),
    IF(AUDIT_ARCH_X86_64, 1, 0),
    REFUSE,
    LOAD(nr),
    IF(SYS_rt_sigreturn, 5, 0),
    IF(SYS_futex, 4, 0),
    IF(SYS_sched_yield, 3, 0),
    IF(SYS_getrusage, 2, 0),
    IF(SYS_rseq, 1, 0),
    REFUSE,
    // From the stub's text only.
    LOAD_HIGH(instruction_pointer),
    IF(RW_STUB_TEXT >> 32, 1, 0),
    REFUSE,
    LOAD(instruction_pointer),
    IF_AT_LEAST(RW_STUB_TEXT_MAX, 0, 1),
    REFUSE,
    LOAD(nr),
    IF(SYS_futex, 1, 0),
    ALLOW,  // rt_sigreturn, sched_yield, getrusage, rseq
    // Not on the stub's own pages below the regions: a requeue of the memory thread, which sleeps on
    // its bell, would leave the Sentry waiting for it. It may be woken: then it looks for an order, and
    // sleeps again when there is none.
    LOAD_HIGH(args[0]),
    IF(RW_STUB_COMMAND >> 32, 0, 6),
    LOAD(args[0]),
    IF((RW_STUB_REPLY + RW_REPLY_BELL) & 0xffffffff, 0, 2),
    LOAD(args[1]),
    IF(FUTEX_WAKE, 1, 0),
    REFUSE,
    ALLOW,
    // The hand-over's shared waits and wakes; of private calls all kinds but PI. A shared requeue could
    // take the Sentry's own threads, which wait for this one, to where nobody wakes them.
    LOAD(args[1]),
    IF(FUTEX_WAIT, 10, 0),
    IF(FUTEX_WAKE, 9, 0),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, FUTEX_PRIVATE_FLAG, 0, 9),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (unsigned)FUTEX_CMD_MASK),
    IF(FUTEX_WAIT, 6, 0),
    IF(FUTEX_WAKE, 5, 0),
    IF(FUTEX_WAIT_BITSET, 4, 0),
    IF(FUTEX_WAKE_BITSET, 3, 0),
    IF(FUTEX_REQUEUE, 2, 0),
    IF(FUTEX_CMP_REQUEUE, 1, 0),
    IF(FUTEX_WAKE_OP, 0, 1),
    ALLOW,
    REFUSE,
};

const struct sock_fprog stub_systrap_filter = {sizeof rules / sizeof rules[0],
                                               (struct sock_filter*)rules};
