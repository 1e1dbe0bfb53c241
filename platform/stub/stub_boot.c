// The zygote's first steps, in a fork of the Sentry: gives up everything that belonged to the
// Sentry and takes the shape of a stub. Runs in a temporary copy of the blob on a temporary stack,
// both outside the stub's range and unmapped at the end; so this file is position-independent, must
// not use absolute addresses of the blob, and may not call into libc. No guest code exists yet.
#include <linux/mman.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "platform/stub/stub_abi.h"

static long Call(long nr, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static void Must(struct StubBootPlan* plan, int step, long result) {
  if (result >= 0 || result < -4095) return;
  plan->failed_step = step;
  plan->failed_errno = (int)-result;
  Call(SYS_exit_group, 1, 0, 0, 0, 0, 0);
}

// The kernel's struct sigaction.
struct KernelSigaction {
  uint64_t handler, flags, restorer, mask;
};

static void UnmapAllBut(struct StubBootPlan* plan) {
  // The gaps between what is kept, in address order; the temporary memory is one of the kept.
  uint64_t from = 0;
  for (;;) {
    uint64_t next_start = RW_STUB_END, next_end = RW_STUB_END;
    if (plan->temp_start >= from && plan->temp_start < next_start) {
      next_start = plan->temp_start;
      next_end = plan->temp_end;
    }
    for (uint32_t i = 0; i < plan->kept; ++i) {
      if (plan->keep[i].start >= from && plan->keep[i].start < next_start) {
        next_start = plan->keep[i].start;
        next_end = plan->keep[i].end;
      }
    }
    if (next_start > from) {
      Must(plan, 5, Call(SYS_munmap, (long)from, (long)(next_start - from), 0, 0, 0, 0));
    }
    if (next_start >= RW_STUB_END) return;
    from = next_end;
  }
}

__attribute__((noreturn)) void stub_boot(struct StubBootPlan* plan,
                                         const struct StubHeader* header) {
  const uint64_t all_signals = ~0UL, faults = ~(1UL << (SIGSEGV - 1) | 1UL << (SIGBUS - 1));
  Must(plan, 1, Call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all_signals, 0, 8, 0, 0));
  Must(plan, 2, Call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0));
  if (Call(SYS_getppid, 0, 0, 0, 0, 0, 0) != (long)plan->sentry_pid) {
    Call(SYS_exit_group, 1, 0, 0, 0, 0, 0);
  }
  if (plan->rseq != 0) {
    Must(plan, 3, Call(SYS_rseq, (long)plan->rseq, plan->rseq_size, 1, 0x53053053, 0, 0));
  }
  // A stub that dies leaves no core: one byte, since 0 does not stop a core_pattern pipe. A caller's own
  // hard limit may be 0 and stays.
  const struct rlimit no_core = {1, 1}, none = {0, 0};
  if (Call(SYS_setrlimit, RLIMIT_CORE, (long)&no_core, 0, 0, 0, 0) != 0) {
    Must(plan, 4, Call(SYS_setrlimit, RLIMIT_CORE, (long)&none, 0, 0, 0, 0));
  }

  UnmapAllBut(plan);
  for (uint32_t i = 0; i < plan->kept; ++i) {
    if (plan->keep[i].move_to == 0) continue;
    const long size = (long)(plan->keep[i].end - plan->keep[i].start);
    Must(plan, 6, Call(SYS_mremap, (long)plan->keep[i].start, size, size,
                       MREMAP_MAYMOVE | MREMAP_FIXED, (long)plan->keep[i].move_to, 0));
  }
  Must(plan, 7, Call(SYS_mmap, RW_STUB_TEXT, (long)plan->text_size, PROT_READ | PROT_EXEC,
                     MAP_PRIVATE | MAP_FIXED, plan->text_fd, 0));
  Must(plan, 8, Call(SYS_mmap, RW_STUB_COMMAND, 4096, PROT_READ, MAP_SHARED | MAP_FIXED,
                     plan->slot_fd, (long)plan->slot_offset));
  Must(plan, 9, Call(SYS_mmap, RW_STUB_REPLY, RW_STUB_REPLY_SIZE, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_FIXED, plan->slot_fd, (long)plan->slot_offset + 4096));

  const stack_t altstack = {(void*)RW_STUB_ALTSTACK, 0, RW_STUB_ALTSTACK_SIZE};
  Must(plan, 10, Call(SYS_sigaltstack, (long)&altstack, 0, 0, 0, 0, 0));
  // Guest handlers are the Sentry's affair; these are the host's, for all stubs to come.
  const uint32_t platform_signals = 1U << SIGSYS | 1U << SIGILL | 1U << SIGFPE | 1U << SIGTRAP |
                                    1U << RW_KICK_SIGNAL;
  for (int signo = 1; signo <= 64; ++signo) {
    if (signo == SIGKILL || signo == SIGSTOP) continue;
    struct KernelSigaction action = {0, 0, 0, 0};
    if (signo == SIGSEGV || signo == SIGBUS ||
        (plan->guest_handlers != 0 && signo < 32 && (platform_signals >> signo & 1) != 0)) {
      action.handler = header->signal_entry;
      action.restorer = header->signal_restorer;
      action.flags = 0x4000000 /* SA_RESTORER */ | SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
      // The kick waits until a handler is through.
      action.mask = 1UL << (RW_KICK_SIGNAL - 1);
    }
    Must(plan, 11, Call(SYS_rt_sigaction, signo, (long)&action, 0, 8, 0, 0));
  }
  Must(plan, 12, Call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&faults, 0, 8, 0, 0));
  Must(plan, 13, Call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0));
  // process_vm_readv and ptrace ask for it.
  Must(plan, 14, Call(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0, 0));
  static const char name[16] = "ringwall-stub";
  Must(plan, 15, Call(SYS_prctl, PR_SET_NAME, (long)name, 0, 0, 0, 0));

  const uint64_t temp_start = plan->temp_start, temp_size = plan->temp_end - plan->temp_start;
  __asm__ volatile("jmp *%0" : : "r"(header->start), "D"(temp_start), "S"(temp_size) : "memory");
  __builtin_unreachable();
}
