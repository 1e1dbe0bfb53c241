// The seccomp filters of stub threads. The memory thread's is inherited by every thread of every
// stub; guest threads put theirs on top. What is refused raises SIGSYS: a guest thread's goes to
// its platform, the memory thread has it blocked, which the kernel answers with death. (Kill as the
// outer filter's answer would win over the inner one's trap and end the guest process.)
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "platform/stub/stub_abi.h"

#define LOAD_NR BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define LOAD_ARCH BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch))
// The halves of argument n.
#define LOAD_LOW(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n]))
#define LOAD_HIGH(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n]) + 4)
#define IF(value, then_skip, else_skip) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (then_skip), (else_skip))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
// Allows one call with any arguments.
#define ALLOW_CALL(nr) IF((nr), 0, 1), ALLOW
// Allows one call when argument n is one of two values.
#define ALLOW_CALL_ARG2(nr, n, a, b)                                                   \
  IF((nr), 0, 7), LOAD_HIGH(n), IF(0, 0, 4), LOAD_LOW(n), IF((a), 1, 0), IF((b), 0, 1), \
      ALLOW, REFUSE

static const struct sock_filter memory_rules[] = {
    LOAD_ARCH,
    IF(AUDIT_ARCH_X86_64, 1, 0),
    REFUSE,
    LOAD_NR,
    // Hand-over, of both thread kinds; the systrap regions are shared, hence not private only.
    ALLOW_CALL(SYS_futex),
    ALLOW_CALL(SYS_rt_sigreturn),
    // systrap's guest threads, which answer it in the stub.
    ALLOW_CALL(SYS_sched_yield),
    // Guest threads, for the guest's area of restartable sequences; the memory thread has none.
    ALLOW_CALL(SYS_rseq),
    // The guest's memory map, at the Sentry's order.
    ALLOW_CALL(SYS_mmap),
    ALLOW_CALL(SYS_munmap),
    ALLOW_CALL(SYS_mprotect),
    ALLOW_CALL(SYS_mremap),
    ALLOW_CALL(SYS_madvise),
    ALLOW_CALL(SYS_mincore),
    ALLOW_CALL(SYS_msync),
    ALLOW_CALL(SYS_mlock2),
    ALLOW_CALL(SYS_munlock),
    // Copies from and to guest memory where the host refuses process_vm_readv.
    ALLOW_CALL(SYS_pread64),
    ALLOW_CALL(SYS_pwrite64),
    ALLOW_CALL(SYS_membarrier),
    // What the stub has used, for the guest's getrusage.
    ALLOW_CALL(SYS_getrusage),
    // The reply (see README.md).
    ALLOW_CALL(SYS_set_robust_list),
    // New stubs and guest threads, and nothing else: no new namespaces, no vfork.
    ALLOW_CALL_ARG2(SYS_clone, 0, RW_CLONE_THREAD, RW_CLONE_FORK),
    // A guest thread before its own filter: signal mask and stack, its region in GS, the filter.
    ALLOW_CALL(SYS_rt_sigprocmask),
    ALLOW_CALL(SYS_sigaltstack),
    ALLOW_CALL_ARG2(SYS_arch_prctl, 0, 0x1001 /* ARCH_SET_GS */, 0x1002 /* ARCH_SET_FS */),
    ALLOW_CALL_ARG2(SYS_seccomp, 0, SECCOMP_SET_MODE_FILTER, SECCOMP_SET_MODE_FILTER),
    // A fresh stub: dies with the Sentry.
    ALLOW_CALL_ARG2(SYS_prctl, 0, 1 /* PR_SET_PDEATHSIG */, 1),
    ALLOW_CALL(SYS_getppid),
    ALLOW_CALL(SYS_exit_group),
    REFUSE,
};

static const struct sock_filter guest_rules[] = {
    LOAD_ARCH,
    IF(AUDIT_ARCH_X86_64, 1, 0),
    REFUSE,
    LOAD_NR,
    ALLOW_CALL(SYS_rt_sigreturn),
    // At the tracer's order: no guest call gets here.
    ALLOW_CALL(SYS_rseq),
    ALLOW_CALL_ARG2(SYS_futex, 1, FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE),
    REFUSE,
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
const struct sock_fprog stub_memory_filter = {COUNT(memory_rules),
                                              (struct sock_filter*)memory_rules};
const struct sock_fprog stub_guest_filter = {COUNT(guest_rules), (struct sock_filter*)guest_rules};
