// What the Sentry and the stub's freestanding code agree on: addresses inside the stub's own range,
// the order and reply pages, the header at the start of the blob. Preprocessor constants, because
// assembly reads this file too. See README.md in this folder.
#ifndef RINGWALL_PLATFORM_STUB_STUB_ABI_H_
#define RINGWALL_PLATFORM_STUB_STUB_ABI_H_

// The layout of [kStubStart, kStubEnd), the same in every stub.
#define RW_STUB_START 0x7ffe00000000
#define RW_STUB_END 0x7ffffffff000
// Text and read-only tables: the blob. At most 1 MiB.
#define RW_STUB_TEXT 0x7ffe00000000
#define RW_STUB_TEXT_MAX 0x100000
#define RW_STUB_MAGIC 0x31625453676e6952
// The slot of this stub: one page of orders (r--), then the reply pages (rw-).
#define RW_STUB_COMMAND 0x7ffe00100000
#define RW_STUB_REPLY 0x7ffe00101000
#define RW_STUB_SLOT_SIZE 0x8000
#define RW_STUB_REPLY_SIZE 0x7000
// The memory thread's signal stack: the reply pages after the first.
#define RW_STUB_ALTSTACK 0x7ffe00102000
#define RW_STUB_ALTSTACK_SIZE 0x6000
// Read-only tables that a platform adds (the Sentry writes them through its own mapping).
#define RW_STUB_TABLES 0x7ffe01000000
#define RW_STUB_TABLES_END 0x7ffe20000000
// Views of files: read-only mappings, each at a place of its own. The child of a fork has none.
#define RW_STUB_VIEWS 0x7ffe20000000
#define RW_STUB_VIEWS_END 0x7ffe40000000
// Trampolines of patched sites.
#define RW_STUB_TRAMPOLINES 0x7ffe40000000
#define RW_STUB_TRAMPOLINES_END 0x7fff00000000
// Regions of guest threads. The child of a fork starts with this area unmapped.
#define RW_STUB_REGIONS 0x7fff00000000
#define RW_STUB_REGIONS_END 0x7ffffffff000

// Offsets in the order page (struct StubCommand).
#define RW_CMD_SEQ 0
#define RW_CMD_COUNT 4
#define RW_CMD_WAITER 12
#define RW_CMD_SENTRY_PID 16
#define RW_CMD_CALLS 64
#define RW_CMD_CALL_SIZE 64
#define RW_CMD_MAX_CALLS 63

// Offsets in the reply page (struct StubReply).
#define RW_REPLY_DONE 0
#define RW_REPLY_SLEEPING 4
#define RW_REPLY_BELL 8
#define RW_REPLY_BYTES 64
#define RW_REPLY_BYTES_SIZE 4032

// StubCall::nr: a system call's number, or one of these.
#define RW_OP_FIRST 0x10000
#define RW_OP_THREAD 0x10000  // a0 entry number, a1..a4 its arguments, a5 stack pointer
#define RW_OP_FORK 0x10001    // a0 descriptor, a1 offset of the child's slot; the last call only
#define RW_OP_CMPXCHG 0x10002 // a0 address, a1 expected, a2 desired

// Entry numbers of guest threads (the table is in stub_memory.S).
#define RW_ENTRY_PTRACE 0
#define RW_ENTRY_SYSTRAP 1
#define RW_ENTRY_COUNT 2

// The reply that the kernel keeps (see README.md): bit 63 set, bits 40-62 the order's number, bits
// 32-39 the index of the call that failed or this, bits 0-31 the result or the negative errno.
#define RW_REPLY_ALL_DONE 0xff

// The order that a new stub replies to without having got it, unless it has got the next.
#define RW_FIRST_ORDER 1

// Flags of the clones; the memory thread's filter allows these values only.
#define RW_CLONE_THREAD 0x50f00  // VM|FS|FILES|SIGHAND|THREAD|SYSVSEM
#define RW_CLONE_FORK 0x8400     // FILES|PARENT, no exit signal

// The signal by which the Sentry interrupts a guest thread: SIGURG, whose default is to be ignored.
#define RW_KICK_SIGNAL 23

#ifndef __ASSEMBLER__

#include <stdint.h>

#ifdef __cplusplus
namespace ringwall {
#endif

// One thing for the memory thread to do.
struct StubCall {
  uint64_t nr;
  uint64_t arg[6];
  uint64_t pad;
};

// The page of orders: written by the Sentry, read-only in the stub. An order is a list of calls
// made one after the other until one fails.
struct StubCommand {
  uint32_t seq;         // number of the newest order; written last
  uint32_t count;       // of calls
  uint32_t pad0;
  uint32_t waiter;      // not 0: the Sentry sleeps on StubReply::done
  uint32_t sentry_pid;  // whose death is the stub's
  uint32_t pad1[11];
  struct StubCall calls[RW_CMD_MAX_CALLS];
};

// Hints only: guest code can write this page.
struct StubReply {
  uint32_t done;      // number of the last order carried out
  uint32_t sleeping;  // not 0: the memory thread sleeps on `bell`
  uint32_t bell;      // number of the newest order, written by the Sentry after StubCommand::seq
  uint32_t pad[13];
  uint8_t bytes[RW_REPLY_BYTES_SIZE];  // mincore's answer
};

// At the start of the blob; addresses are final ones (the blob is linked at RW_STUB_TEXT).
struct StubHeader {
  uint64_t magic;
  uint64_t boot;              // position-independent: runs where the zygote first maps the blob
  uint64_t start;             // the memory thread's start at its final address
  uint64_t signal_entry;      // handler of every signal
  uint64_t signal_restorer;
  uint64_t ptrace_park;       // where an idle guest thread of the ptrace platform waits
  uint64_t systrap_signal;    // 0 when systrap is not in the blob
  uint64_t systrap_patched;   // where the trampolines of patched sites lead
  uint64_t end;
  uint64_t ptrace_park_end;
  uint64_t ptrace_call;  // a system-call instruction for the tracer's own use
};

// How the zygote comes to be; written by the Sentry before the clone, results by the zygote.
struct StubBootPlan {
  uint64_t temp_start, temp_end;  // where this plan, the first copy of the blob and a stack are
  uint64_t text_size;
  int32_t text_fd;
  int32_t slot_fd;
  uint64_t slot_offset;
  uint32_t sentry_pid;
  uint32_t kept;  // of keep[]
  struct {
    uint64_t start, end;
    uint64_t move_to;  // 0: stays
  } keep[6];           // vdso and vvar, ascending
  uint64_t rseq;       // of the Sentry's main thread, or 0
  uint32_t rseq_size;
  uint32_t guest_handlers;  // not 0: install the platform's signal handlers too
  int32_t failed_step;  // result: 0, or which step failed ...
  int32_t failed_errno;  // ... and how
};

#ifdef __cplusplus
static_assert(sizeof(StubCall) == RW_CMD_CALL_SIZE);
static_assert(sizeof(StubCommand) == 4096);
static_assert(sizeof(StubReply) == 4096);
static_assert(__builtin_offsetof(StubCommand, calls) == RW_CMD_CALLS);
static_assert(__builtin_offsetof(StubCommand, waiter) == RW_CMD_WAITER);
static_assert(__builtin_offsetof(StubCommand, sentry_pid) == RW_CMD_SENTRY_PID);
static_assert(__builtin_offsetof(StubReply, bell) == RW_REPLY_BELL);
static_assert(__builtin_offsetof(StubReply, bytes) == RW_REPLY_BYTES);
}  // namespace ringwall
#endif

#endif  // !__ASSEMBLER__

#endif  // RINGWALL_PLATFORM_STUB_STUB_ABI_H_
