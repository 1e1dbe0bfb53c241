// The contract between the Sentry and the two ways of running guest code (systrap, ptrace).
//
// An AddressSpace is the memory of one guest process: a stub process of the host. A Context is one
// guest task: a stub thread. Guest anonymous memory is private anonymous memory of the stub, file
// mappings are mappings of host descriptors of the Sentry (the stubs share the Sentry's descriptor
// table, see ARCHITECTURE.md); so faults, copy-on-write and madvise are the host kernel's own.
//
// Lock order: AddressSpace::mu_ (kAddressSpace) is taken inside kMm. A Context belongs to the one
// Sentry thread that runs its task; only its Interrupt calls may be made from elsewhere.
#ifndef RINGWALL_PLATFORM_PLATFORM_H_
#define RINGWALL_PLATFORM_PLATFORM_H_

#include <sched.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "sentry/abi/registers.h"
#include "sentry/base/guest_addr.h"
#include "sentry/base/host_error.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"

namespace ringwall {

class ViewedFile;

// Guest code may map below this; [kStubStart, kStubEnd) belongs to the stub in every address space
// and every request that touches it fails with ENOMEM (EINVAL for a fixed address), as it would
// above TASK_SIZE.
inline constexpr uint64_t kStubStart = 0x7ffe'0000'0000;
inline constexpr uint64_t kStubEnd = 0x7fff'ffff'f000;
inline constexpr uint64_t kGuestMinAddr = 0x10000;  // vm.mmap_min_addr

// Memory of one guest process. Thread-safe.
class AddressSpace : public RefCounted<AddressSpace> {
 public:
  // Each changes the host mappings exactly as the system call of that name with a fixed address
  // would, and blocks until it is done. Ranges are page-aligned, not empty and outside the stub's
  // (checked again here: EINVAL). Errors are the host's: ENOMEM, EACCES, EAGAIN.
  //
  // `flags` are Linux's MAP_*; MAP_FIXED is implied. host_fd is a descriptor of the Sentry, or -1
  // with MAP_ANONYMOUS.
  virtual Result<void> Map(GuestRange range, int prot, int flags, int host_fd, uint64_t offset) = 0;
  // Many of these, in order; stops at the first that fails. Cheaper than one by one.
  struct Mapping {
    GuestRange range;
    int prot = 0;
    int flags = 0;
    int host_fd = -1;
    uint64_t offset = 0;
  };
  virtual Result<void> MapAll(std::span<const Mapping> mappings) {
    for (const Mapping& m : mappings) TRY(Map(m.range, m.prot, m.flags, m.host_fd, m.offset));
    return {};
  }
  virtual Result<void> Unmap(GuestRange range) = 0;
  virtual Result<void> Protect(GuestRange range, int prot) = 0;
  // mremap(old, size, new_size, flags, new). With MREMAP_MAYMOVE|MREMAP_FIXED `to` is the target;
  // without, `to` equals `from.start`.
  virtual Result<void> Remap(GuestRange from, uint64_t new_size, int flags, GuestAddr to) = 0;
  // madvise, msync, mlock2, munlock; `what` is the system call's number, arg its third argument.
  virtual Result<void> Advise(int what, GuestRange range, int arg) = 0;
  // mincore into `out`, one byte a page.
  virtual Result<void> Mincore(GuestRange range, std::span<uint8_t> out) = 0;
  // How many pages of each range mincore says are in memory; none of a range that is not all mapped.
  // Preconditions: as many counts as ranges.
  virtual Result<void> CountResident(std::span<const GuestRange> ranges, std::span<uint64_t> pages);

  // Whether Replace() may be called: but for its memory nothing of the old program would be left in
  // the stub (no second guest thread, nothing that the host keeps by address space).
  virtual bool MayReplace() { return false; }
  // Unmaps everything, as a fresh address space is, and makes these mappings (exec in place). The
  // only context must have let go of the guest and does not come back to it. After an error the
  // address space is of no more use.
  virtual Result<void> Replace(std::span<const Mapping> mappings) {
    static_cast<void>(mappings);
    return Errno(ENOSYS);
  }

  // A copy of this address space, as fork makes it. EAGAIN, ENOMEM.
  virtual Result<Ref<AddressSpace>> Fork() = 0;

  // Copies between the Sentry and guest memory with process_vm_readv/writev: honours the guest's
  // own protections. Returns the bytes copied before the first fault; EFAULT when none were.
  // A range outside user memory or inside the stub's is EFAULT. May be called without locks only.
  virtual Result<size_t> Read(GuestAddr from, std::span<std::byte> to) = 0;
  virtual Result<size_t> Write(GuestAddr to, std::span<const std::byte> from) = 0;
  // Atomic on a naturally aligned guest word, done by the memory thread: if *addr == expected,
  // store desired; returns the old value. EFAULT; EINVAL when not aligned.
  virtual Result<uint32_t> CompareExchange(GuestAddr addr, uint32_t expected, uint32_t desired) = 0;

  // membarrier(2) by the memory thread, which shares the guest's memory and so reaches its threads
  // and its registrations. The host's result.
  virtual Result<uint32_t> Membarrier(int cmd, uint32_t flags, int cpu) {
    static_cast<void>(cmd), static_cast<void>(flags), static_cast<void>(cpu);
    return Errno(ENOSYS);
  }
  // Maps the part of the file around pos into the stub's own range, read-only, for QueueFromView: a view.
  // Neither fork nor exec passes it on. The oldest of too many goes. EAGAIN: not now; other errors: the
  // file cannot be viewed.
  virtual Result<void> MakeView(ViewedFile& file, uint64_t pos) {
    static_cast<void>(file), static_cast<void>(pos);
    return Errno(ENOSYS);
  }
  // Ends the views of the file, of all files when it is null.
  virtual void DropViews(const ViewedFile* file) { static_cast<void>(file); }
  // Ends all views, and no others are made.
  virtual void ForbidViews() {}

  // What the stub process has used up so far (getrusage); guest code can forge it.
  struct HostUsage {
    uint64_t maxrss_kib = 0, minor_faults = 0, major_faults = 0;
    uint64_t voluntary = 0, involuntary = 0;
  };
  virtual Result<HostUsage> Usage() { return Errno(ENOSYS); }

  // The host vDSO and vvar mappings of this stub, kept for the guest; empty when there is none.
  virtual GuestRange vdso() const = 0;
  virtual GuestRange vvar() const = 0;
  // The lowest memory that the platform has for itself within `range`, null without any. A mapping
  // may be made over it, at the cost of what it is there for: one that may lie anywhere had better
  // end below.
  virtual GuestAddr OwnMemoryIn(GuestRange range) const {
    static_cast<void>(range);
    return {};
  }

  // The stub process on the host, for rusage, affinity and the tests. Never given to a guest.
  virtual pid_t host_pid() const = 0;
  // Whether the stub still lives; a lost one ends its guest process with SIGKILL.
  virtual bool alive() const = 0;

 protected:
  AddressSpace() = default;
};

// Answers that a stub may give by itself, without a hand-over. Written by the Sentry into memory
// that the guest can only read; one per Context.
struct LocalAnswers {
  int32_t pid = 0, tid = 0, ppid = 0;
  uint32_t uid = 0, euid = 0, gid = 0, egid = 0;
  // Off while the task is traced, has a seccomp filter of its own, or --strace is on: then every
  // call reaches the Sentry.
  bool enabled = false;
  // Whether private futex calls are among them; see Context::HostFutex().
  bool futex = false;
  // ... and set_robust_list and rseq; see Context::robust_list() and TakeLocalRseq().
  bool setup = false;
};

enum class EventKind : uint8_t {
  kSyscall,      // a system call: regs().orig_rax and the six argument registers
  kFault,        // a host signal for guest code: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP
  kInterrupted,  // Interrupt() was called (before or during Switch)
  kStubLost,     // the stub thread or process is gone; the Context is of no more use
};

// A private futex call (not PI) to be made on the host. `op` has no FUTEX_PRIVATE_FLAG; a wait has an
// absolute time limit or none.
struct HostFutexCall {
  uint64_t uaddr = 0;
  uint32_t op = 0;
  uint32_t val = 0;
  bool has_deadline = false;  // of FUTEX_WAIT_BITSET; with FUTEX_CLOCK_REALTIME in op or monotonic
  int64_t deadline_sec = 0;
  int64_t deadline_nsec = 0;
  uint64_t val2 = 0;
  uint64_t uaddr2 = 0;
  uint32_t val3 = 0;
};

// What ended a Switch.
struct Event {
  EventKind kind = EventKind::kInterrupted;
  // kFault: the host's siginfo, for the guest's. kStubLost: what the stub died of, when that tells of
  // the guest; else 0.
  int signo = 0;
  int code = 0;
  uint64_t addr = 0;
  uint64_t trap_no = 0;
  uint64_t error_code = 0;
  // kSyscall that came from a foreign entry (int $0x80, a compat segment, the vsyscall page).
  bool compat_entry = false;
  bool vsyscall = false;
  // kSyscall: a private futex call that the stub had begun on the host and that Interrupt() ended
  // before it did anything. To be restarted or failed with EINTR, as futex(2) is by signals.
  bool futex_interrupted = false;
};

// A system call's number and arguments.
struct SyscallRequest {
  uint64_t nr = 0;
  uint64_t args[6] = {};
};

// One guest task's processor state and its stub thread. Not thread-safe but for the Interrupt calls.
class Context {
 public:
  virtual ~Context() = default;

  // Runs guest code in `as` until an event. Before a return with kSyscall the platform may have
  // had the stub copy some of the call's input into the data window (see ReadWindow). The Sentry
  // stores the result with regs().rax before the next Switch.
  virtual Event Switch() = 0;

  // General registers after an event. The reference stays valid; changing it changes what the next
  // Switch resumes with, and RegsChanged() must be called when anything but rax was changed.
  virtual abi::Registers& regs() = 0;
  virtual void RegsChanged() = 0;

  // After kSyscall: the same as regs() has, and setting regs().rax, but without the cost of fetching
  // registers that most calls do not look at.
  virtual SyscallRequest syscall_request() {
    const abi::Registers& r = regs();
    return {r.orig_rax, {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}};
  }
  virtual void set_result(uint64_t rax) { regs().rax = rax; }

  // The xsave area in the standard (not compacted) format of the signal frame, XCR0's features.
  virtual size_t xstate_size() const = 0;
  virtual Result<void> GetXState(std::span<std::byte> out) = 0;
  // EINVAL when the area is malformed (as rt_sigreturn and PTRACE_SETREGSET judge it).
  virtual Result<void> SetXState(std::span<const std::byte> in) = 0;

  // Input bytes of the current system call that the stub has already copied, if the window holds
  // all of [addr, addr+size): copies them out and returns true. Copy-once: the window is frozen for
  // the Sentry by copying from it at most once per byte.
  virtual bool ReadWindow(GuestAddr addr, std::span<std::byte> out) = 0;
  // The same for a NUL-terminated string at addr, of at most `limit` bytes with its NUL: the string
  // without it, when the window holds all of it.
  virtual std::optional<std::string> ReadWindowString(GuestAddr addr, size_t limit) {
    static_cast<void>(addr), static_cast<void>(limit);
    return std::nullopt;
  }
  // Queues output for the stub to copy to guest memory on the way back. False when there is no room
  // or the call did not come through a patched site: use AddressSpace::Write. A fault during the
  // copy makes the call return EFAULT to the guest, so use it only for a call's last output.
  virtual bool WriteWindow(GuestAddr addr, std::span<const std::byte> in) = 0;
  // The same without a copy here: room for `size` bytes of output, to be filled in place, or empty.
  // QueueReserved(n) queues its first n bytes for `addr`. The guest can write there meanwhile, so
  // never read it back.
  virtual std::span<std::byte> ReserveWindow(size_t size) {
    static_cast<void>(size);
    return {};
  }
  virtual void QueueReserved(GuestAddr addr, size_t n) { static_cast<void>(addr), static_cast<void>(n); }

  // Has the stub copy [pos, pos+n) of the file, all of which is there, to guest memory on the way back, from
  // a view of its address space. False when there is none, or nothing can be queued. n must be what the
  // system call returns: when the copy fails, since the file has become shorter or the view is gone, the
  // bytes are read and written by the Sentry, and the call returns what came of that.
  virtual bool QueueFromView(GuestAddr to, ViewedFile& file, uint64_t pos, size_t n) {
    static_cast<void>(to), static_cast<void>(file), static_cast<void>(pos), static_cast<void>(n);
    return false;
  }

  // Brings guest memory and this call's arguments up to date for somebody who looks at them and
  // changes them before the next Switch (a debugger): forgets the window's input, and copies queued
  // output now.
  virtual void SettleWindow() {}

  // The processor's debug registers DR0 to DR3, DR6 and DR7 as PTRACE_PEEKUSER and POKEUSER of
  // u_debugreg see them. The host's errors; EIO where there is none. A hit comes as a fault with
  // SIGTRAP and TRAP_HWBKPT. Preconditions: not in Switch.
  virtual Result<uint64_t> GetDebugRegister(int n) {
    static_cast<void>(n);
    return Errno(EIO);
  }
  virtual Result<void> SetDebugRegister(int n, uint64_t value) {
    static_cast<void>(n), static_cast<void>(value);
    return Errno(EIO);
  }

  // Lets the guest code of a new context run before the thread that is to call Switch(), which then only
  // waits for the event. False: nothing has happened. Called once, by the thread that made the context;
  // from then on only Interrupt calls and Switch may be made. Does not block.
  virtual bool RunAhead() { return false; }

  // Makes a running or the next Switch return kInterrupted soon. Async, any thread.
  virtual void Interrupt() = 0;
  // The same by one who ends the task: a stub thread that does not answer within seconds is given up,
  // and all of its process with it (kStubLost).
  virtual void InterruptToEnd() { Interrupt(); }

  // The guest's area of restartable sequences (struct rseq) and its signature, which the host keeps up
  // to date for the guest thread from its next run on. Null: no more, and from now on. The area is
  // guest memory, checked by the caller; whatever the guest makes of it is its own harm. EFAULT of the
  // latter: the area cannot be written, and all stays as it is. Preconditions: not in Switch.
  virtual Result<void> SetRseq(GuestAddr area, uint32_t signature) {
    static_cast<void>(area), static_cast<void>(signature);
    return Errno(ENOSYS);
  }
  // An area and its signature that the stub has registered by itself since it was asked last, with the
  // original length of 32 bytes; guest code can forge both.
  virtual std::optional<std::pair<GuestAddr, uint32_t>> TakeLocalRseq() { return std::nullopt; }
  // Whether an event has already ended the critical section that it came in, as a signal does. If not,
  // the Sentry does before it builds a signal frame.
  virtual bool events_abort_rseq() const { return true; }

  // The guest thread's scheduling (SCHED_*), as far as the host lets it: whether it did. Any thread.
  virtual bool SetScheduling(uint32_t policy, int nice, uint32_t priority);
  // The guest thread's processors. Any thread.
  virtual Result<void> SetAffinity(const cpu_set_t& set);
  // The calling thread, which is the context's own, will sleep for reasons other than the guest, or
  // make a thread: what the platform did to its scheduling is undone.
  virtual void BeforeSleep() {}
  // The same thread begins or ends a sleep, which is no processor time of the guest's.
  virtual void NoteAsleep(bool asleep) { static_cast<void>(asleep); }

  // Publishes what the stub may answer alone.
  virtual void SetLocalAnswers(const LocalAnswers& answers) = 0;
  // The task's blocked-signal mask as the stub keeps it (rt_sigprocmask is answered in the stub).
  virtual uint64_t signal_mask() const = 0;
  virtual void set_signal_mask(uint64_t mask) = 0;

  // Any thread. While true, a mask change that the stub answers alone must come to the Sentry
  // instead, since it may unblock a signal that waits. The Sentry sets it after queueing a signal and
  // then reads signal_mask(); the stub stores the mask and then reads the flag (both sequentially
  // consistent), so one of the two sees the other.
  virtual void set_signals_pending(bool pending) { static_cast<void>(pending); }

  // Whether the platform makes private futex calls on the host, where all threads of the process
  // meet: then LocalAnswers::futex may be set, and the Sentry must queue no private futex call of any
  // task itself. Those that reach it (with a relative time limit, of a task whose local answers are
  // off, interrupted ones) it makes with HostFutex. Where false, the Sentry queues them all.
  virtual bool has_host_futex() const { return false; }
  // Makes the call in the guest thread, after kSyscall and before the next Switch, and blocks until
  // it returns: the call's result. EINTR when Interrupt() was called, which the next Switch then
  // still reports. Restartable: nothing has happened on EINTR. ENOSYS without host futexes.
  virtual Result<int64_t> HostFutex(const HostFutexCall& call) {
    static_cast<void>(call);
    return Errno(ENOSYS);
  }

  // The head of the task's robust list (set_robust_list), which the stub may note by itself: guest code
  // can forge it. Null when there is none.
  virtual GuestAddr robust_list() const { return robust_list_; }
  virtual void set_robust_list(GuestAddr head) { robust_list_ = head; }

  // What the guest's process has used (AddressSpace::Usage), when the stub brought it along with the
  // getrusage or exit_group that the last event is; guest code can forge it.
  virtual std::optional<AddressSpace::HostUsage> BroughtUsage() { return std::nullopt; }

  // CPU time of the guest thread, and of the Sentry's for its calls and faults, in nanoseconds. Never
  // goes back. Any thread.
  virtual void CpuTime(uint64_t* user_ns, uint64_t* system_ns) = 0;
  // Host thread id of the stub thread, for affinity and priority.
  virtual pid_t host_tid() const = 0;

 protected:
  Context() = default;

 private:
  GuestAddr robust_list_;
};

struct PlatformStats {
  // By system call number: answered in the stub, through a patched site, trapped.
  static constexpr size_t kSyscalls = 512;
  uint64_t local[kSyscalls] = {};
  uint64_t patched[kSyscalls] = {};
  uint64_t trapped[kSyscalls] = {};
  // Of views of files: how many were made, how many copies the stubs made from them, and how many of
  // those failed and were made by the Sentry.
  uint64_t views = 0, view_copies = 0, view_faults = 0;
};

class Platform {
 public:
  virtual ~Platform() = default;
  virtual std::string_view name() const = 0;

  // A fresh, empty address space (exec): only the stub's own range and the vDSO are mapped.
  virtual Result<Ref<AddressSpace>> NewAddressSpace() = 0;
  // A stub thread in `as` for a new task. `parent`, when given, is the context of the task that
  // forked or cloned: the new one starts with a copy of its registers and xstate. Called on the
  // Sentry thread that runs `parent`; Switch() is then called on the new task's own thread.
  virtual Result<std::unique_ptr<Context>> NewContext(AddressSpace& as, Context* parent) = 0;

  // Which signal numbers stubs use for themselves on the host; for the filters' lists and tests.
  virtual PlatformStats Stats() const = 0;

  // How many bytes of struct rseq the host fills (AT_RSEQ_FEATURE_SIZE), 20 before it said so; 0 when
  // SetRseq has no effect.
  virtual uint32_t rseq_feature_size() const { return 0; }
};

struct PlatformOptions {
  std::string_view name = "systrap";  // systrap, ptrace or auto
};

// Starts the zygote and its memory thread. Must run before the Sentry's own filter goes up, on the
// main thread (stubs die with their parent thread). Logs which platform `auto` chose and why.
HostResult<std::unique_ptr<Platform>> CreatePlatform(const PlatformOptions& options);

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_PLATFORM_H_
