// One guest thread's region: memory that it shares with the Sentry, at
// RW_STUB_REGIONS + n * RW_REGION_SIZE in the stub. Read by assembly, the stub's C and the Sentry.
//
// Everything here is hostile to the Sentry: any thread of the guest process can write it at any
// time. To the stub it is no more trusted than any memory of the guest: a guest that changes it
// breaks itself only.
#ifndef RINGWALL_PLATFORM_SYSTRAP_REGION_H_
#define RINGWALL_PLATFORM_SYSTRAP_REGION_H_

#define RW_REGION_SIZE 0x20000
#define RW_REGIONS_HIGH 0x7fff  // the upper half of every region's address

// Parts of a region.
#define RW_REGION_STACK_TOP 0x3000  // stack of the stub's code, from 0x1000
#define RW_REGION_XSTATE 0x3000
#define RW_REGION_XSTATE_SIZE 0x3000
#define RW_REGION_WINDOW 0x6000
#define RW_REGION_WINDOW_SIZE 0x10000
#define RW_REGION_ALTSTACK 0x16000
#define RW_REGION_ALTSTACK_SIZE 0xa000

// Region::state. While guest code runs it is the thread's id, so that the kernel's robust-futex
// list marks it when the thread dies; with WAITERS when the Sentry sleeps on it.
#define RW_STATE_WAITERS 0x80000000
#define RW_STATE_DIED 0x40000000
#define RW_STATE_SENTRY 0x20000000
#define RW_STATE_STUB_SLEEPS 1  // with SENTRY: the stub sleeps on it
// Values of `spin`, and how often each side yields before it sleeps; nearly always once is enough.
#define RW_SPIN_YIELD 0xffffffffU
#define RW_YIELDS 2
#define RW_NO_CPU 0xffffffffU
#define RW_STATE_STARTING 0x10000000  // the Sentry may give the first command before the thread is up

// Region::message from the stub: what happened ...
#define RW_EVENT_READY 1  // the thread has started; not written, since a command may be there already
#define RW_EVENT_SYSCALL 2
#define RW_EVENT_FAULT 3
#define RW_EVENT_INTERRUPTED 4
#define RW_EVENT_DONE 5  // a command has been carried out
#define RW_EVENT_MASK 0xff
// ... and how.
#define RW_FLAG_IN_HANDLER 0x100   // the guest's registers are in a signal frame
#define RW_FLAG_TRAPPED 0x200      // a system call that came by SIGSYS
#define RW_FLAG_COMPAT 0x400       // ... from int $0x80 or sysenter
#define RW_FLAG_INTERRUPTED 0x800  // a host futex call that was interrupted before it did anything
#define RW_FLAG_VSYSCALL 0x1000    // emulated by the host, for the vsyscall page
#define RW_FLAG_LOCAL 0x2000       // a report of a call that the stub goes on with by itself
#define RW_FLAG_FRAME_FAILED 0x4000  // with EVENT_DONE: a signal frame could not be written or read
#define RW_FLAG_SAVED 0x8000         // the xstate is in the region, since the call will want it
#define RW_FLAG_VIEW_FAILED 0x10000  // with EVENT_DONE: nothing of the command is done, the view failed

// How many inputs the window holds.
#define RW_INPUTS_SHIFT 24

// Region::message from the Sentry; 0 is: go on.
#define RW_CMD_SAVE 1   // xstate and segment bases into the region, then EVENT_DONE
#define RW_CMD_FUTEX 2  // make the call in call[], its result into call[0], then EVENT_DONE
#define RW_CMD_LOAD_XSTATE 4
#define RW_CMD_LOAD_BASES 8
#define RW_CMD_LOCAL 32   // to FLAG_LOCAL: answer the call
#define RW_CMD_OUTPUT 16  // copy the queued output to guest memory; a fault makes rax -EFAULT
#define RW_CMD_FRAME 64   // write the signal frame; when it fails EVENT_DONE and no more
#define RW_CMD_FRAME_XSTATE 128  // load the xstate of the frame at frame_xstate, then EVENT_DONE
#define RW_CMD_STAY 256          // EVENT_DONE when all is carried out
#define RW_CMD_LOAD_RSEQ 512    // register the area of rseq()
#define RW_CMD_CLEAR_RSEQ 1024  // unregister it, then EVENT_DONE
#define RW_CMD_VIEW 4096  // first copy from a view of a file to guest memory
#define RW_CMD_ORDER 2048 // alone: wake the memory thread, leave it the processor, then EVENT_DONE

// Offsets that assembly needs.
#define RW_R_STATE 0x00
#define RW_R_MESSAGE 0x04
#define RW_R_RAX 0x08
#define RW_R_RDI 0x10
#define RW_R_RSI 0x18
#define RW_R_RDX 0x20
#define RW_R_R10 0x28
#define RW_R_R8 0x30
#define RW_R_R9 0x38
#define RW_R_RIP 0x40
#define RW_R_RESUME 0x48
#define RW_R_RSP 0x50
#define RW_R_EFLAGS 0x58
#define RW_R_RBX 0x60
#define RW_R_RBP 0x68
#define RW_R_R12 0x70
#define RW_R_R13 0x78
#define RW_R_R14 0x80
#define RW_R_R15 0x88
#define RW_R_RCX 0x90
#define RW_R_R11 0x98
#define RW_R_KICK 0x100
#define RW_R_ABORT_RSP 0x180
#define RW_R_ROBUST_HEAD 0x240

#define RW_TRAP_FLAG 0x100

#define RW_REGION_INPUTS 3
#define RW_REGION_OUTPUTS 8
#define RW_REGION_LOCAL_CALLS 24
#define RW_REGION_FRAME_HEAD 440  // struct rt_sigframe without its xstate
#define RW_REGION_EPOLL_CALLS 16
#define RW_REGION_EPOLL_FDS 1024
// Values of Region::epoll_known.
#define RW_EPOLL_UNKNOWN 0
#define RW_EPOLL_APART 1    // may be added
#define RW_EPOLL_WATCHED 2  // may be modified and deleted

#ifndef __ASSEMBLER__

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
namespace ringwall::systrap {
#endif

// The address of a piece of input that is no guest memory: the host's rusage of the guest's process.
#define RW_USAGE_ADDR (~0UL)

struct RegionCopy {
  uint64_t addr;
  uint32_t size;
  uint32_t offset;  // in the window
};

// A call of epoll_ctl that the stub has answered.
struct RegionEpollCall {
  int32_t op, fd;
  uint32_t events, pad;
  uint64_t data;
};

struct Region {
  // Line 0: all that a plain system call needs, in one cache line.
  uint32_t state;
  uint32_t message;
  uint64_t rax, rdi, rsi, rdx, r10, r8, r9;
  // Lines 1 and 2: the other registers. `rip` is what the guest sees; `resume` is where it goes on,
  // which differs in a patched site.
  uint64_t rip, resume, rsp, eflags, rbx, rbp, r12, r13;
  uint64_t r14, r15, rcx, r11;
  uint64_t fs_base, gs_base;
  uint32_t own_gs;  // not 0: GS is the guest's, with gs_base; else it is the region's address
  uint32_t fault_signo;
  uint64_t fault_addr;
  // Line 3: the rest of a fault.
  uint64_t fault_error, fault_trap;
  int32_t fault_code;
  uint32_t frame_cs;  // with FLAG_IN_HANDLER
  struct RegionCopy input[1];
  uint64_t pad3[3];
  // Line 4: the Sentry's, changed seldom.
  uint32_t kick;           // not 0: hand over before any guest code runs
  uint32_t spin;           // how long the stub looks for the answer before it sleeps, in TSC cycles;
                           // 0: not at all, since the Sentry wants the same processor; or RW_SPIN_YIELD
  uint32_t local_enabled;  // not 0: the stub may answer calls by itself
  uint32_t signals_pending;
  int32_t pid, tid, ppid;
  uint32_t uid, euid, gid, egid;
  uint32_t local_futex;  // not 0: private futex calls too
  uint64_t vdso_clock_gettime, vdso_gettimeofday;
  // Line 5.
  uint64_t vdso_time, xstate_mask;
  uint64_t guest_robust;  // the guest's robust list
  uint32_t local_setup;   // not 0: set_robust_list and rseq too
  uint32_t sentry_cpu;    // where the Sentry waits for the stub; RW_NO_CPU: not to be asked for; a hint
  uint64_t given_at;      // TSC: when the stub last handed over without a spin, or with one beside the Sentry
  uint64_t pad5[3];
  // Line 6: the stub's own.
  uint64_t abort_rsp;  // the stack of a call into the vDSO, not 0 during it
  uint64_t signal_mask;
  uint64_t vdso_buffer[4];
  uint32_t waiting;      // not 0: in a host futex call
  uint32_t local_traps;  // trapped calls that could be answered in the stub
  uint32_t cpu;          // where the stub was when it had waited for a while; a hint
  uint32_t pad6;
  // How many calls the stub answered alone, by the order of kLocalCalls.
  uint32_t local_count[RW_REGION_LOCAL_CALLS];
  uint64_t wait_from, waited;  // TSC: of the host futex call now, and all before
  uint32_t pad7[4];
  // Robust list of one word: `state`.
  uint64_t robust_head, robust_offset, robust_pending, robust_entry;
  // The guest's restartable sequences; 0 when none is registered with the host.
  uint64_t rseq_area;
  uint32_t rseq_signature, pad8[5];
  // A host futex call by command.
  uint64_t call[6];
  uint64_t call_timeout[2];
  // The window's contents.
  uint32_t output_count, pad9;
  struct RegionCopy more_input[RW_REGION_INPUTS - 1];
  struct RegionCopy output[RW_REGION_OUTPUTS];
  // A signal frame for the stub to write.
  uint64_t frame_at, frame_xstate, xstate_size;
  uint64_t frame_resume;  // where the code that it interrupts goes on; 0: the Sentry must be asked
  uint8_t frame_head[RW_REGION_FRAME_HEAD];
  // What a frame must have for the stub to answer rt_sigreturn: return_rip is then where the guest
  // is to go on, by way of return_resume. 0: none has.
  uint64_t return_rip, return_resume;
  uint64_t return_stack[3];
  // A copy from a view.
  uint64_t view_to, view_from, view_size;
  // epoll_ctl ahead of the Sentry: of one epoll, for descriptors of which it has said how they stand.
  uint32_t epoll_fd;     // the epoll's number and 1; 0: none
  uint32_t epoll_count;  // calls that the Sentry has still to make
  struct RegionEpollCall epoll_calls[RW_REGION_EPOLL_CALLS];
  uint8_t epoll_known[RW_REGION_EPOLL_FDS];
};

#ifdef __cplusplus
static_assert(offsetof(Region, rax) == RW_R_RAX && offsetof(Region, r9) == RW_R_R9);
static_assert(offsetof(Region, rip) == RW_R_RIP && offsetof(Region, resume) == RW_R_RESUME);
static_assert(offsetof(Region, rsp) == RW_R_RSP && offsetof(Region, r13) == RW_R_R13);
static_assert(offsetof(Region, r14) == RW_R_R14 && offsetof(Region, r11) == RW_R_R11);
static_assert(offsetof(Region, robust_head) == RW_R_ROBUST_HEAD);
static_assert(offsetof(Region, kick) == RW_R_KICK && offsetof(Region, abort_rsp) == RW_R_ABORT_RSP);
static_assert(sizeof(Region) <= 0x1000);

// The calls that the stub may answer alone, in the order of Region::local_count.
inline constexpr uint16_t kLocalCalls[] = {
    39 /*getpid*/,         186 /*gettid*/, 110 /*getppid*/,    102 /*getuid*/,
    107 /*geteuid*/,       104 /*getgid*/, 108 /*getegid*/,    228 /*clock_gettime*/,
    96 /*gettimeofday*/,   201 /*time*/,   24 /*sched_yield*/, 309 /*getcpu*/,
    14 /*rt_sigprocmask*/, 202 /*futex*/,  15 /*rt_sigreturn*/, 273 /*set_robust_list*/,
    334 /*rseq*/,          233 /*epoll_ctl*/,
};
}  // namespace ringwall::systrap
#endif

#endif  // !__ASSEMBLER__

#endif  // RINGWALL_PLATFORM_SYSTRAP_REGION_H_
