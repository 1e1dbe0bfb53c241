// The stub's side of a guest thread on the systrap platform: hand-overs to the Sentry, commands from
// it, and the signal handler. region.h has the protocol; stub_systrap.S the entries.
#include "platform/systrap/stub_systrap.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/syscall.h>

// The head of the kernel's siginfo, and of the parts that are used.
struct KernelSiginfo {
  int32_t signo, error, code, pad;
  uint64_t addr;  // si_addr, si_call_addr
  int32_t syscall_nr;
  uint32_t arch;
};

#define RSEQ_UNREGISTER 1

static uint64_t ReadGs(void) {
  uint64_t base;
  __asm__ volatile("rdgsbase %0" : "=r"(base));
  return base;
}
static void WriteGs(uint64_t base) { __asm__ volatile("wrgsbase %0" : : "r"(base)); }
static uint64_t ReadFs(void) {
  uint64_t base;
  __asm__ volatile("rdfsbase %0" : "=r"(base));
  return base;
}
static void WriteFs(uint64_t base) { __asm__ volatile("wrfsbase %0" : : "r"(base)); }
static uint64_t Tsc(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}
static uint64_t TscAndCpu(uint32_t* cpu) {
  uint32_t low, high, aux;
  __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
  *cpu = aux & 0xfff;
  return (uint64_t)high << 32 | low;
}

long stub_futex_noted(struct Region* region, const uint64_t args[6]) {
  region->wait_from = Tsc();
  region->waiting = 1;
  const long result = stub_futex(region, args);
  region->waiting = 0;
  region->waited += Tsc() - region->wait_from;
  return result;
}

// A canonical user address, which wrfsbase and wrgsbase need.
static int IsUserAddress(uint64_t addr) { return addr >> 47 == 0; }

// Whether the region has come back meanwhile.
static int YieldToSentry(const struct Region* region) {
  const uint32_t spin = __atomic_load_n(&region->spin, __ATOMIC_RELAXED);
  for (int i = 0; i < RW_YIELDS; ++i) {
    stub_call(SYS_sched_yield, 0, 0, 0, 0);
    if ((__atomic_load_n(&region->state, __ATOMIC_ACQUIRE) & RW_STATE_SENTRY) == 0) return 1;
    if (__atomic_load_n(&region->spin, __ATOMIC_RELAXED) != spin) break;
  }
  return 0;
}

// Gives the region to the Sentry and waits until it comes back.
static void HandOver(struct Region* region, uint32_t message) {
  const uint32_t spin = __atomic_load_n(&region->spin, __ATOMIC_RELAXED);
  if (spin <= 1 || spin == RW_SPIN_YIELD) region->given_at = TscAndCpu(&region->cpu);
  uint32_t before;
  if (message == RW_EVENT_READY) {
    before = __atomic_load_n(&region->state, __ATOMIC_ACQUIRE);
    do {
      if ((before & RW_STATE_STARTING) == 0) return;  // the first command is there
    } while (!__atomic_compare_exchange_n(&region->state, &before, RW_STATE_SENTRY, 0,
                                          __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE));
  } else {
    region->message = message;
    before = __atomic_exchange_n(&region->state, RW_STATE_SENTRY, __ATOMIC_SEQ_CST);
  }
  if ((before & RW_STATE_WAITERS) != 0) {
    stub_call(SYS_futex, (long)&region->state, FUTEX_WAKE, 1, 0);
  }
  if (spin == RW_SPIN_YIELD) {
    // The Sentry's thread is the next on this processor: half the cost of a wake and a sleep.
    if (YieldToSentry(region)) return;
  } else if (spin != 0) {
    // The clock is not read for the first looks: an answer that is quick is very quick.
    for (int i = 0; i < 32; ++i) {
      if ((__atomic_load_n(&region->state, __ATOMIC_ACQUIRE) & RW_STATE_SENTRY) == 0) return;
      __builtin_ia32_pause();
    }
    const uint64_t start = TscAndCpu(&region->cpu);
    if (region->cpu == __atomic_load_n(&region->sentry_cpu, __ATOMIC_RELAXED)) {
      // The host has woken the Sentry's thread here, where it waits for this one to go.
      region->given_at = start;
      if (YieldToSentry(region)) return;
    }
    for (;;) {
      if ((__atomic_load_n(&region->state, __ATOMIC_ACQUIRE) & RW_STATE_SENTRY) == 0) return;
      if (Tsc() - start > __atomic_load_n(&region->spin, __ATOMIC_RELAXED)) break;
      __builtin_ia32_pause();
    }
  }
  TscAndCpu(&region->cpu);
  for (;;) {
    uint32_t expected = RW_STATE_SENTRY;
    __atomic_compare_exchange_n(&region->state, &expected, RW_STATE_SENTRY | RW_STATE_STUB_SLEEPS,
                                0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    if ((__atomic_load_n(&region->state, __ATOMIC_ACQUIRE) & RW_STATE_SENTRY) == 0) return;
    stub_call(SYS_futex, (long)&region->state, FUTEX_WAIT, RW_STATE_SENTRY | RW_STATE_STUB_SLEEPS,
              0);
    TscAndCpu(&region->cpu);
  }
}

static uint8_t* XState(struct Region* region) { return (uint8_t*)region + RW_REGION_XSTATE; }

static void XSave(struct Region* region) {
  const uint64_t mask = region->xstate_mask;
  __asm__ volatile("xsave64 (%0)"
                   :
                   : "r"(XState(region)), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
                   : "memory");
}
static void XRestore(struct Region* region) {
  const uint64_t mask = region->xstate_mask;
  __asm__ volatile("xrstor64 (%0)"
                   :
                   : "r"(XState(region)), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
                   : "memory");
}

static void CopyBytes(uint8_t* to, const uint8_t* from, uint64_t n) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

// The size of a frame's xstate as the kernel noted it.
static uint64_t FrameXStateSize(const uint8_t* fpstate) {
  struct XStateNotes notes;
  __builtin_memcpy(&notes, fpstate + XSTATE_NOTES, sizeof notes);
  if (notes.magic1 != XSTATE_MAGIC1) return XSTATE_LEGACY;
  return notes.size < RW_REGION_XSTATE_SIZE ? notes.size : RW_REGION_XSTATE_SIZE;
}

// The memory thread is on this processor and mostly runs at once. If it does not, the Sentry sees to it.
static void WakeMemoryThread(struct Region* region) {
  const uint32_t* const seq = (const uint32_t*)(RW_STUB_COMMAND + RW_CMD_SEQ);
  const uint32_t* const done = (const uint32_t*)(RW_STUB_REPLY + RW_REPLY_DONE);
  const uint32_t order = __atomic_load_n(seq, __ATOMIC_ACQUIRE);
  stub_call(SYS_futex, RW_STUB_REPLY + RW_REPLY_BELL, FUTEX_WAKE, 1, 0);
  for (int i = 0; i < 4 && __atomic_load_n(done, __ATOMIC_ACQUIRE) != order; ++i) {
    stub_call(SYS_sched_yield, 0, 0, 0, 0);
  }
  TscAndCpu(&region->cpu);
}

// What a call returns whose output could not be copied. A frame shows the registers of before the
// handler.
static void SetResult(struct Region* region, uint32_t command, long result) {
  if ((command & RW_CMD_FRAME) == 0) {
    region->rax = (uint64_t)result;
  } else {
    __builtin_memcpy(region->frame_head + 8 + offsetof(struct KernelUcontext, rax), &result, 8);
  }
}

// (Un)registers the guest's area of restartable sequences with the host. The host knows the first
// 32 bytes of it, whatever its size.
static long Rseq(struct Region* region, int flags) {
  const uint64_t area = region->rseq_area;
  if (area == 0) return 0;
  return stub_call(SYS_rseq, (long)area, 32, flags, (long)region->rseq_signature);
}

// Hands over and carries out commands until guest code may go on. `frame` is the signal frame that
// holds the guest's xstate, or null when the processor still does. Returns the last command.
static uint32_t Serve(struct Region* region, uint32_t message, struct KernelUcontext* frame) {
  const uint32_t how = frame != 0 ? RW_FLAG_IN_HANDLER : 0;
  for (;;) {
    HandOver(region, message | how);
    const uint32_t command = region->message;
    if ((command & ~RW_CMD_LOCAL) == 0) return command;
    if ((command & RW_CMD_VIEW) != 0 && stub_copy_view(region) != 0) {
      message = RW_EVENT_DONE | RW_FLAG_VIEW_FAILED;
      continue;
    }
    if ((command & RW_CMD_LOAD_XSTATE) != 0) {
      if (frame == 0) {
        XRestore(region);
      } else if (frame->fpstate != 0) {
        const uint64_t size = FrameXStateSize(frame->fpstate);
        CopyBytes(frame->fpstate, XState(region), XSTATE_NOTES);
        if (size > XSTATE_LEGACY) {
          CopyBytes(frame->fpstate + XSTATE_LEGACY, XState(region) + XSTATE_LEGACY,
                    size - XSTATE_LEGACY);
        }
      }
    }
    if (command == RW_CMD_ORDER) {
      WakeMemoryThread(region);
      message = RW_EVENT_DONE;
      continue;
    }
    if ((command & RW_CMD_OUTPUT) != 0) {
      const long result = stub_copy_output(region);
      if (result != 0) SetResult(region, command, result);
    }
    if (((command & RW_CMD_FRAME) != 0 && stub_write_frame(region, frame) != 0) ||
        ((command & RW_CMD_FRAME_XSTATE) != 0 &&
         (frame != 0 || stub_load_frame_xstate(region, region->frame_xstate) != 0))) {
      message = RW_EVENT_DONE | RW_FLAG_FRAME_FAILED;
      continue;
    }
    if ((command & RW_CMD_LOAD_BASES) != 0) {
      if (IsUserAddress(region->fs_base)) WriteFs(region->fs_base);
      // The quick way back leaves these two as they are.
      const uint64_t flags = (region->eflags & 0x204000) | 0x202;  // ID, nested task
      __asm__ volatile("push %0; popfq" : : "r"(flags) : "memory", "cc");
    }
    if ((command & RW_CMD_LOAD_RSEQ) != 0) Rseq(region, 0);
    if ((command & RW_CMD_CLEAR_RSEQ) != 0) {
      region->call[0] = (uint64_t)Rseq(region, RSEQ_UNREGISTER);
      message = RW_EVENT_DONE;
      continue;
    }
    if ((command & RW_CMD_SAVE) != 0) {
      if (frame == 0) {
        XSave(region);
      } else if (frame->fpstate != 0) {
        CopyBytes(XState(region), frame->fpstate, FrameXStateSize(frame->fpstate));
      }
      region->fs_base = ReadFs();
      message = RW_EVENT_DONE;
      continue;
    }
    if ((command & RW_CMD_FUTEX) != 0) {
      uint64_t args[6];
      for (int i = 0; i < 6; ++i) args[i] = region->call[i];
      region->call[0] = (uint64_t)stub_futex_noted(region, args);
      message = RW_EVENT_DONE;
      continue;
    }
    if ((command & (RW_CMD_STAY | RW_CMD_FRAME_XSTATE)) != 0) {
      message = RW_EVENT_DONE;
      continue;
    }
    return command;
  }
}

// Whether the way back to guest code must be a signal frame: single steps, and a GS of the guest's.
static long NeedsFrame(const struct Region* region) {
  return (region->eflags & RW_TRAP_FLAG) != 0 || region->own_gs != 0;
}

// The Sentry hears of trapped calls also when they could be answered here, so that it patches their
// sites: not of the very first, which a short program does not make often; then always, then now and
// then, for sites that cannot be patched.
static int ReportTrap(struct Region* region, uint32_t flags) {
  if ((flags & RW_FLAG_TRAPPED) == 0) return 0;
  if (!stub_is_local(region)) return 0;
  const uint32_t n = region->local_traps++;
  return n >= 8 && (n < 72 || n % 8 == 0);
}

// A new task begins with its parent's xstate: one hand-over less than when the Sentry has to ask for it.
static uint32_t SaveForClone(struct Region* region) {
  switch (region->rax) {
    case SYS_clone: case SYS_fork: case SYS_vfork: case SYS_clone3:
      XSave(region);
      return RW_FLAG_SAVED;
    default:
      return 0;
  }
}

long stub_systrap_syscall(struct Region* region, uint32_t flags) {
  // A bad pointer given to the vsyscall page is a fault, which the Sentry makes.
  if (region->local_enabled != 0 && (flags & RW_FLAG_VSYSCALL) == 0) {
    if (ReportTrap(region, flags)) {
      region->fs_base = ReadFs();
      const uint32_t command = Serve(region, RW_EVENT_SYSCALL | RW_FLAG_LOCAL | flags, 0);
      if ((command & RW_CMD_LOCAL) == 0) return NeedsFrame(region);
    }
    if (stub_answer_locally(region, &flags)) return NeedsFrame(region);
    // A thread that ends: the area may be somebody else's memory soon. Here that costs no hand-over.
    if (region->rax == SYS_exit && Rseq(region, RSEQ_UNREGISTER) == 0) region->rseq_area = 0;
  }
  const uint32_t inputs = stub_fill_window(region);
  flags |= SaveForClone(region);
  region->fs_base = ReadFs();
  Serve(region, RW_EVENT_SYSCALL | flags | inputs << RW_INPUTS_SHIFT, 0);
  return NeedsFrame(region);
}

long stub_systrap_kicked(struct Region* region) {
  region->fs_base = ReadFs();
  Serve(region, RW_EVENT_INTERRUPTED, 0);
  return NeedsFrame(region);
}

// What clang makes of an initializer, freestanding or not.
void* memset(void* to, int byte, size_t count) {
  void* at = to;
  asm volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(byte) : "memory");
  return to;
}

void stub_systrap_begin(struct Region* region) {
  const uint64_t base = (uint64_t)region;
  region->robust_head = base + offsetof(struct Region, robust_entry);
  region->robust_entry = base + offsetof(struct Region, robust_head);
  region->robust_offset =
      offsetof(struct Region, state) - offsetof(struct Region, robust_entry);
  WriteGs(base);
  // No xstate: that of the guest is loaded with its first command.
  const struct KernelUcontext start = {
      .stack = {base + RW_REGION_ALTSTACK, 0, RW_REGION_ALTSTACK_SIZE},
      .rdi = base, .rsp = base + RW_REGION_STACK_TOP, .rip = (uint64_t)stub_systrap_started,
      .eflags = 0x202, .cs = 0x33, .ss = 0x2b};
  stub_unblock(&start);
}

long stub_systrap_start(struct Region* region) {
  Serve(region, RW_EVENT_READY, 0);
  return NeedsFrame(region);
}

static void RegsFromFrame(struct Region* r, const struct KernelUcontext* f) {
  r->rax = f->rax, r->rdi = f->rdi, r->rsi = f->rsi, r->rdx = f->rdx;
  r->r10 = f->r10, r->r8 = f->r8, r->r9 = f->r9;
  r->rip = f->rip, r->resume = f->rip, r->rsp = f->rsp, r->eflags = f->eflags;
  r->rbx = f->rbx, r->rbp = f->rbp, r->r12 = f->r12, r->r13 = f->r13;
  r->r14 = f->r14, r->r15 = f->r15, r->rcx = f->rcx, r->r11 = f->r11;
}

static void RegsToFrame(const struct Region* r, struct KernelUcontext* f) {
  f->rax = r->rax, f->rdi = r->rdi, f->rsi = r->rsi, f->rdx = r->rdx;
  f->r10 = r->r10, f->r8 = r->r8, f->r9 = r->r9;
  f->rip = r->resume, f->rsp = r->rsp, f->eflags = r->eflags;
  f->rbx = r->rbx, f->rbp = r->rbp, f->r12 = r->r12, f->r13 = r->r13;
  f->r14 = r->r14, f->r15 = r->r15, f->rcx = r->rcx, f->r11 = r->r11;
}

// Before the return of a handler that leads to guest code.
static void SetGs(const struct Region* region) {
  const uint64_t base = region->gs_base;
  WriteGs(region->own_gs != 0 && IsUserAddress(base) ? base : (uint64_t)region);
}

static int InText(uint64_t rip) {
  return rip >= RW_STUB_TEXT && rip < RW_STUB_TEXT + RW_STUB_TEXT_MAX;
}
static int Within(uint64_t rip, const char* start, const char* end) {
  return rip >= (uint64_t)start && rip < (uint64_t)end;
}

// What of the stub's own code a fault may end; 1 when the frame now leads on.
static int FixUp(struct Region* region, struct KernelUcontext* frame) {
  if (frame->rip == (uint64_t)stub_copy_insn) {
    frame->rip += 2;
    return 1;
  }
  if (frame->rip == (uint64_t)stub_xsave_insn || frame->rip == (uint64_t)stub_xrstor_insn) {
    frame->rip = (uint64_t)stub_xstate_fault;
    return 1;
  }
  if (Within(frame->rip, (const char*)stub_copy_string, stub_copy_string_end)) {
    frame->rip = (uint64_t)stub_copy_string_fault;
    return 1;
  }
  if (region->abort_rsp != 0 && !InText(frame->rip)) {
    frame->rsp = region->abort_rsp;
    frame->rip = (uint64_t)stub_vdso_abort;
    return 1;
  }
  return 0;
}

static void Fault(struct Region* region, int signo, const struct KernelSiginfo* info,
                  struct KernelUcontext* frame) {
  region->fault_signo = (uint32_t)signo;
  region->fault_code = info->code;
  region->fault_addr = info->addr;
  region->fault_error = frame->error;
  region->fault_trap = frame->trap_no;
}

// Serves from inside the handler: the frame keeps the guest's state.
static void ServeFrame(struct Region* region, uint32_t message, struct KernelUcontext* frame) {
  region->fs_base = ReadFs();
  region->frame_cs = frame->cs;
  Serve(region, message, frame);
  RegsToFrame(region, frame);
  SetGs(region);
}

void stub_systrap_on_signal(int signo, const struct KernelSiginfo* info,
                            struct KernelUcontext* frame, struct Region* region) {
  const uint64_t rip = frame->rip;
  const uint64_t gs = ReadGs();
  const int in_return = Within(rip, stub_systrap_return, stub_systrap_return_end);
  if (signo == RW_KICK_SIGNAL) {
    if (in_return) {
      // On the way out: the region has the guest's registers, the frame its xstate.
      ServeFrame(region, RW_EVENT_INTERRUPTED, frame);
      return;
    }
    if (Within(rip, stub_futex_look, stub_futex_done)) {
      frame->rip = (uint64_t)stub_futex_abort;
      return;
    }
    // The rest of the stub's code looks at `kick` before it returns; so does what calls the vDSO.
    if (InText(rip) || region->abort_rsp != 0) return;
  } else {
    if (signo == SIGILL && rip == (uint64_t)stub_systrap_gadget) {
      RegsToFrame(region, frame);
      SetGs(region);
      return;
    }
    if (signo == SIGTRAP && InText(rip)) return;  // a guest that steps through its system call
    if ((signo == SIGSEGV || signo == SIGBUS || signo == SIGSYS) && FixUp(region, frame)) return;
    if (in_return) {
      // An address that the processor does not jump to.
      Fault(region, signo, info, frame);
      ServeFrame(region, RW_EVENT_FAULT, frame);
      return;
    }
  }

  RegsFromFrame(region, frame);
  if (gs != (uint64_t)region) {
    // A null GS is what the guest has by nature: it loaded the selector, say.
    region->own_gs = gs != 0;
    region->gs_base = gs;
  }
  if (signo == SIGSYS && info->code == 1 /* SYS_SECCOMP */) {
    if (info->arch != AUDIT_ARCH_X86_64) {
      ServeFrame(region, RW_EVENT_SYSCALL | RW_FLAG_TRAPPED | RW_FLAG_COMPAT, frame);
      return;
    }
    if (region->own_gs != 0 || (frame->eflags & RW_TRAP_FLAG) != 0 || frame->cs != USER_CS) {
      ServeFrame(region, RW_EVENT_SYSCALL | RW_FLAG_TRAPPED, frame);
      return;
    }
    const uint32_t vsyscall = info->addr >> 12 == 0xffffffffff600 ? RW_FLAG_VSYSCALL : 0;
    // Go on as a patched site does, with the xstate back in the processor and the kick open.
    WriteGs((uint64_t)region);
    frame->rip = (uint64_t)stub_systrap_trapped;
    frame->rsp = (uint64_t)region + RW_REGION_STACK_TOP;
    frame->rdi = (uint64_t)region;
    frame->rsi = RW_FLAG_TRAPPED | vsyscall;
    frame->eflags = 0x202;
    return;
  }
  if (signo == RW_KICK_SIGNAL) {
    ServeFrame(region, RW_EVENT_INTERRUPTED, frame);
    return;
  }
  Fault(region, signo, info, frame);
  ServeFrame(region, RW_EVENT_FAULT, frame);
}
