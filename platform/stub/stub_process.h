// The Sentry's side of stub processes: starting the zygote, giving orders to memory threads, copying
// guest memory, killing and reaping. platform/stub/README.md describes the protocol.
//
// Lock order: StubProcess::mu_ (kAddressSpace), then StubHost::mu_ (kPlatform).
#ifndef RINGWALL_PLATFORM_STUB_STUB_PROCESS_H_
#define RINGWALL_PLATFORM_STUB_STUB_PROCESS_H_

#include <sched.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "platform/stub/stub_abi.h"
#include "sentry/base/guest_addr.h"
#include "sentry/base/host_error.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

class StubHost;

// Stub processes of one sandbox at a time.
inline constexpr uint32_t kMaxStubs = 32768;
inline constexpr size_t kCopyAreaSize = 32 << 10;  // of each stub, where copies need one
inline constexpr uint64_t kMemoryThreadSliceNs = 100'000;

// The pages by which the Sentry talks to one memory thread, as the Sentry sees them.
struct StubSlot {
  uint32_t index = 0;
  StubCommand* command = nullptr;
  StubReply* reply = nullptr;  // hostile: guest code can write it
};

// A guest thread that waits for the Sentry in the stub's code, running, and can wake the memory thread:
// that then runs on the processor where the guest ran, whose TLB is the one to be flushed. Flushing
// another processor's can cost more than the whole order.
class OrderHelper {
 public:
  // The processor where the guest thread is, as it says; -1 when it cannot help.
  virtual int HelperCpu() = 0;
  // Has it wake the memory thread and leave it the processor. Does not wait for it.
  virtual void WakeMemoryThread() = 0;

 protected:
  ~OrderHelper() = default;
};

// One stub process. Thread-safe. Destroying it kills the process.
class StubProcess {
 public:
  // Who helps with the orders that the calling thread gives to `stub`; null: nobody.
  static void SetHelper(const StubProcess* stub, OrderHelper* helper);

  StubProcess(StubHost& host, StubSlot slot);
  ~StubProcess();
  StubProcess(const StubProcess&) = delete;
  StubProcess& operator=(const StubProcess&) = delete;

  // Has the memory thread make the calls one after the other, and blocks until they are done: the
  // result of the last one (0 for a system call, the tid for RW_OP_THREAD, the old value for
  // RW_OP_CMPXCHG), or the errno of the first that failed; *failed is then its index. ESRCH when
  // the stub is gone.
  // Preconditions: 1 to RW_CMD_MAX_CALLS calls; none is RW_OP_FORK, only the last RW_OP_THREAD.
  Result<uint32_t> Order(std::span<const StubCall> calls, size_t* failed = nullptr)
      EXCLUDES(mu_);
  Result<void> Syscall(int nr, std::array<uint64_t, 6> args) EXCLUDES(mu_);
  Result<void> Mincore(GuestRange range, std::span<uint8_t> out) EXCLUDES(mu_);
  // Many ranges in few orders; as AddressSpace's.
  Result<void> CountResident(std::span<const GuestRange> ranges, std::span<uint64_t> pages)
      EXCLUDES(mu_);
  // getrusage of the stub process; guest code can forge it.
  Result<rusage> Usage() EXCLUDES(mu_);

  // A guest thread that begins at the entry (RW_ENTRY_*), with `args` as its first four arguments
  // and the stack pointer `sp`. Returns its thread id, which is certain to be a guest thread's.
  Result<pid_t> StartThread(uint64_t entry, std::array<uint64_t, 4> args, uint64_t sp)
      EXCLUDES(mu_);

  // A stub with a copy of this one's memory and no guest thread. ESRCH when this stub is gone, and a
  // child then perhaps not quite yet; no child after any other error. When there are calls in `first`,
  // they are its first order, whose result goes to *first_result: cheaper than an order afterwards.
  Result<std::unique_ptr<StubProcess>> Fork(std::span<const StubCall> first = {},
                                            Result<uint32_t>* first_result = nullptr)
      EXCLUDES(mu_);

  // The same in two steps, between which the caller does something else. One at a time.
  Result<std::unique_ptr<StubProcess>> BeginFork(std::span<const StubCall> first) EXCLUDES(mu_);
  Result<std::unique_ptr<StubProcess>> FinishFork(std::unique_ptr<StubProcess> child,
                                                  Result<uint32_t>* first_result) EXCLUDES(mu_);

  // process_vm_readv and writev, or the memory thread where the host refuses those: the bytes up to
  // the first fault, EFAULT when there are none. Does not look at the stub's own range: the caller has.
  Result<size_t> Read(GuestAddr from, std::span<std::byte> to) EXCLUDES(mu_);
  Result<size_t> Write(GuestAddr to, std::span<const std::byte> from) EXCLUDES(mu_);

  pid_t pid() const { return pid_.load(std::memory_order_relaxed); }
  StubHost& host() const { return host_; }
  // Asks the host, unless the stub is known to be lost.
  bool alive() const;
  // Ends the process; for one that has lost a thread.
  void Kill();
  // The signal that a stub which is dying dies of; 0 when it takes long. Reaps it: from then on its
  // number, which may become another's, is known no more.
  int DeathSignal();

 private:
  friend class StubHost;
  Result<uint32_t> OrderLocked(std::span<const StubCall> calls, size_t* failed) REQUIRES(mu_);
  // Writes the order, which the memory thread sees once it looks.
  void Fill(std::span<const StubCall> calls) REQUIRES(mu_);
  // Wakes the memory thread, which then looks for an order.
  void Ring();
  // Gives the order and returns its number.
  uint32_t Post(std::span<const StubCall> calls) REQUIRES(mu_);
  // Reads the reply to a fork that was begun: the next order's would take its place.
  void CollectFork() REQUIRES(mu_);
  StubCall PrepareChild(StubProcess& child, std::span<const StubCall> first);
  // Blocks until the child is up.
  Result<std::unique_ptr<StubProcess>> AwaitChild(std::unique_ptr<StubProcess> child,
                                                  const Result<uint32_t>& pid, int cpu, bool ordered,
                                                  Result<uint32_t>* first_result);
  static Result<uint32_t> ResultOf(uint64_t reply, size_t* failed);
  // Has the memory thread write from guest memory to the copy area (SYS_pwrite64) or read from there
  // into guest memory (SYS_pread64), page by page. How many bytes; EFAULT when none.
  Result<size_t> CopyLocked(int nr, GuestAddr at, size_t size) REQUIRES(mu_);
  std::byte* copy_area() const;
  // Of a child whose parent died while it forked: whether there is one, and its pid, cannot be known.
  // If there is, it ends; its slot is never used again.
  void Disown() EXCLUDES(mu_);
  void AfterOrder(std::span<const StubCall> calls, const Result<uint32_t>& result);
  // Blocks until order `seq` is done and returns the word that the kernel keeps for the memory
  // thread; 0 when the stub is lost.
  uint64_t AwaitReply(uint32_t seq) REQUIRES(mu_);
  uint64_t KernelReply() const;
  // Whether a stub that has not replied yet has died; it is reaped then.
  bool ReapAtStart();
  // Moves the sleeping memory thread to the CPU of the calling thread, which is about to sleep.
  void ComeToThisCpu() REQUIRES(mu_);
  // Lets it run anywhere again.
  void LeaveCpu() REQUIRES(mu_);
  void ComeToCpu(int cpu) REQUIRES(mu_);
  // Post by way of a helper, if there is one.
  uint32_t PostWithHelp(std::span<const StubCall> calls) REQUIRES(mu_);

  StubHost& host_;
  // Above every number that the host gives.
  static constexpr pid_t kReaped = INT32_MAX;
  // Set before anyone else knows of this object; 0 when there is none.
  std::atomic<pid_t> pid_{0};
  std::atomic<int> death_signal_{0};
  const StubSlot slot_;
  bool disowned_ = false;
  mutable std::atomic<bool> lost_{false};
  std::atomic<bool> killed_{false};
  mutable Mutex<LockClass::kAddressSpace> mu_;
  uint32_t seq_ GUARDED_BY(mu_) = RW_FIRST_ORDER;
  bool started_ GUARDED_BY(mu_) = false;  // has replied once
  int cpu_ GUARDED_BY(mu_) = -1;          // where the memory thread is bound to
  uint32_t begun_fork_ GUARDED_BY(mu_) = 0;  // the order whose reply nobody has read; 0: none
  Result<uint32_t> begun_pid_ GUARDED_BY(mu_) = Errno(ESRCH);
};

// Who answers the signals of guest threads.
enum class GuestSignals {
  kTracer,  // the default action stays: a stray one does no harm to a parked thread
  kStub,    // stub_systrap_signal
};

// The zygote, the slots and the dying stubs of one platform. Thread-safe.
class StubHost : public RefCounted<StubHost> {
 public:
  // Forks the zygote. Preconditions: no filter is up; the calling thread lives as long as the
  // Sentry does, since stubs die with it.
  static HostResult<Ref<StubHost>> Create(GuestSignals signals);

  // A stub with nothing mapped but its own range and the vDSO. `first` as in StubProcess::Fork.
  Result<std::unique_ptr<StubProcess>> NewStub(std::span<const StubCall> first = {},
                                               Result<uint32_t>* first_result = nullptr) {
    return zygote_->Fork(first, first_result);
  }

  // A stub made ahead of its use, with `first` as its first order, while the caller goes on; `tag` is
  // for the caller. At most one waits: further ones are not begun (false). It is as empty as a new one,
  // since nothing runs in it.
  bool BeginSpare(std::span<const StubCall> first, uint32_t tag) EXCLUDES(spare_mu_);
  // The spare stub, or null: none has been begun, or it has died.
  std::unique_ptr<StubProcess> TakeSpare(Result<uint32_t>* first_result, uint32_t* tag)
      EXCLUDES(spare_mu_);

  // The vDSO and its data in every stub; empty when the host has none.
  GuestRange vdso() const { return vdso_; }
  GuestRange vvar() const { return vvar_; }

  const StubHeader& header() const { return header_; }
  // What all stubs and their threads begin with.
  int nice() const { return nice_; }
  // Platform::rseq_feature_size().
  uint32_t rseq_feature_size() const { return rseq_feature_size_; }

 protected:
  ~StubHost() override;
  StubHost() = default;

 private:
  friend class StubProcess;
  template <typename T, typename... Args>
  friend Ref<T> MakeRef(Args&&...);
  struct Dying {
    pid_t pid;
    StubSlot slot;
  };

  HostResult<void> MapSlots();
  // Whether the host lets the Sentry copy from and to stubs; if not, makes the file that memory
  // threads copy through.
  HostResult<void> PrepareCopies();
  HostResult<void> StartZygote(GuestSignals signals);
  Result<StubSlot> TakeSlot() EXCLUDES(mu_);
  void GiveBackSlot(StubSlot slot) EXCLUDES(mu_);
  // Lets a new guest thread, which starts as a copy of its memory thread, run like any other.
  void FreeThread(pid_t tid) const;
  // The time slice of a thread that should run at once when it is woken; 0 for the default.
  void SetSlice(pid_t tid, uint64_t ns) const;
  // Takes over a killed stub: it is reaped when a later call finds it dead.
  void Retire(pid_t pid, StubSlot slot) EXCLUDES(mu_);
  static bool Reap(pid_t pid, bool block);
  StubSlot SlotAt(uint32_t index) const;

  UniqueFd slot_fd_;
  std::byte* slots_ = nullptr;
  // Invalid and null where process_vm_readv works. No stub maps it: guest code cannot reach it.
  UniqueFd copy_fd_;
  std::byte* copies_ = nullptr;
  std::unique_ptr<StubProcess> zygote_;
  GuestRange vdso_, vvar_;
  StubHeader header_ = {};
  uint32_t rseq_feature_size_ = 0;
  pid_t sentry_pid_ = 0;
  int policy_ = 0, nice_ = 0;  // of the Sentry, and so of all stubs
  bool pin_ = false;
  cpu_set_t all_cpus_ = {};

  struct Spare {
    std::unique_ptr<StubProcess> stub;  // begun
    uint32_t tag = 0;
  };
  enum class SpareState { kNone, kBusy, kThere };
  Mutex<LockClass::kPlatform> spare_mu_;
  SpareState spare_state_ GUARDED_BY(spare_mu_) = SpareState::kNone;
  Spare spare_ GUARDED_BY(spare_mu_);

  Mutex<LockClass::kPlatform> mu_;
  uint32_t next_slot_ GUARDED_BY(mu_) = 0;
  std::vector<uint32_t> free_slots_ GUARDED_BY(mu_);
  std::vector<Dying> dying_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_STUB_STUB_PROCESS_H_
