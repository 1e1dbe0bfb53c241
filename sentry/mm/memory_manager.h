// MemoryManager: the memory map of a guest process (struct mm_struct): its vmas, how they are
// chosen and limited, and what the stub is told to map. The bytes themselves are the host's
// (platform/platform.h), so a fault never comes here unless it is the guest's own error.
//
// Lock order: mu_ (kMm) before the address space's. Copying (CopyIn, CopyOut) takes no lock.
#ifndef RINGWALL_SENTRY_MM_MEMORY_MANAGER_H_
#define RINGWALL_SENTRY_MM_MEMORY_MANAGER_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fs/vfs/file.h"
#include "platform/platform.h"
#include "sentry/base/guest_addr.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/mm/vma.h"

namespace ringwall {

// What limits a change of the map; from the task's rlimits.
struct MemoryLimits {
  uint64_t address_space = ~uint64_t{0};  // RLIMIT_AS
  uint64_t data = ~uint64_t{0};           // RLIMIT_DATA
  uint64_t stack = 8 << 20;               // RLIMIT_STACK
  uint64_t locked = 8 << 20;              // RLIMIT_MEMLOCK; all ones with CAP_IPC_LOCK
};

// How many vmas a process may have (vm.max_map_count).
inline constexpr size_t kMaxMapCount = 65530;
// The end of user space as guests see it (TASK_SIZE).
inline constexpr GuestAddr kTaskSize{kStubStart};
// MAP_DROPPABLE of Linux 6.11, which Debian 12's headers lack.
inline constexpr int kMapDroppable = 0x08;
inline constexpr int kMapAbove4G = 0x80;
// ELF_ET_DYN_BASE, two thirds of Linux's TASK_SIZE, where gdb's users expect a PIE without ASLR.
inline constexpr GuestAddr kElfDynBase{0x5555'5555'4000};

struct MmapRequest {
  GuestAddr hint;
  uint64_t length = 0;
  int prot = 0;
  int flags = 0;  // MAP_*
  RefPtr<File> file;
  uint64_t offset = 0;
  const char* name = nullptr;  // static; nobody but the loader gives one
  int max_prot = PROT_READ | PROT_WRITE | PROT_EXEC;  // what mprotect may ever give
};

class MemoryManager : public RefCounted<MemoryManager> {
 public:
  // An empty map over a fresh address space (exec). Without `randomize` (ADDR_NO_RANDOMIZE) all
  // places are the same in each run. limits.stack says how far below the stack mmap begins.
  static Result<Ref<MemoryManager>> Create(Platform& platform, const MemoryLimits& limits = {},
                                           bool randomize = true);
  // The same over the address space of `old`, for exec in place: mappings are deferred, and
  // FinishMappings takes away what `old` has there, which is then of no more use.
  // Preconditions: its address space MayReplace(), and nobody but the caller uses `old`.
  static Ref<MemoryManager> CreateInPlace(MemoryManager& old, const MemoryLimits& limits,
                                          bool randomize);
  // fork: vmas and contents, honouring MADV_DONTFORK and WIPEONFORK.
  Result<Ref<MemoryManager>> Fork();

  AddressSpace& address_space() { return *as_; }

  // How many tasks live in it (mm_users); kept by the kernel.
  std::atomic<int> users{0};
  // The last of them is gone (exit_mmap): lets go of what is mapped, whoever still looks at this.
  // Preconditions: nothing runs in it; the caller holds no lock that a file's last close may take.
  void LetGo() EXCLUDES(mu_);

  // --- System calls, with Linux's checks, address choice (top-down below the stack, ASLR) and
  // errnos. Lengths and addresses come unchecked from the guest.
  Result<GuestAddr> Mmap(const MmapRequest& request, const MemoryLimits& limits);
  Result<void> Munmap(GuestAddr addr, uint64_t length);
  Result<void> Mprotect(GuestAddr addr, uint64_t length, int prot,
                        const MemoryLimits& limits = {});
  Result<GuestAddr> Mremap(GuestAddr old, uint64_t old_size, uint64_t new_size, int flags,
                           GuestAddr new_addr, const MemoryLimits& limits);
  Result<void> Madvise(GuestAddr addr, uint64_t length, int advice);
  Result<void> Msync(GuestAddr addr, uint64_t length, int flags);
  Result<void> Mincore(GuestAddr addr, uint64_t length, GuestAddr vec);
  Result<void> Mlock(GuestAddr addr, uint64_t length, bool on_fault, const MemoryLimits& limits);
  Result<void> Munlock(GuestAddr addr, uint64_t length);
  Result<void> Mlockall(int flags, const MemoryLimits& limits);
  Result<void> Munlockall();
  GuestAddr Brk(GuestAddr addr, const MemoryLimits& limits);
  Result<void> Mseal(GuestAddr addr, uint64_t length, uint64_t flags);
  Result<void> RemapFilePages(GuestAddr addr, uint64_t length, int prot, uint64_t pgoff, int flags,
                              const MemoryLimits& limits);

  // mbind: remembers a policy. EFAULT when something in the range is not mapped.
  Result<void> SetPolicy(GuestRange range, int mode, uint64_t nodes);

  // RLIMIT_STACK has changed: the main stack's room that is not in use and beyond the limit goes.
  void LimitStack(const MemoryLimits& limits);

  // A fault at addr where nothing is mapped: grows the stack (a MAP_GROWSDOWN mapping) above it
  // down to addr when Linux would. True: the access can be tried again.
  bool GrowStack(GuestAddr addr, const MemoryLimits& limits);

  // --- Copies. EFAULT. Partial copies return how much arrived first.
  Result<void> CopyIn(GuestAddr from, std::span<std::byte> to);
  Result<void> CopyOut(GuestAddr to, std::span<const std::byte> from);
  Result<size_t> CopyInPartial(GuestAddr from, std::span<std::byte> to);
  Result<size_t> CopyOutPartial(GuestAddr to, std::span<const std::byte> from);
  // A NUL-terminated string of at most `limit` bytes with the NUL; ENAMETOOLONG when longer.
  Result<std::string> CopyInString(GuestAddr from, size_t limit);

  // As a debugger copies: also what the program itself may not read or write now. How much arrived.
  size_t ForceRead(GuestAddr from, std::span<std::byte> to);
  size_t ForceWrite(GuestAddr to, std::span<const std::byte> from);

  // --- For the loader: places of /proc/PID/stat and PR_SET_MM.
  struct Layout {
    GuestAddr start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
    GuestAddr arg_start, arg_end, env_start, env_end;
  };
  Layout layout() const;
  void set_layout(const Layout& layout);
  // Where exec puts things: random within Linux's ranges. The stack's end has room for what MapStack
  // takes with the same limits and up to kStackMostUsed bytes in use.
  GuestAddr ChooseStackTop(const MemoryLimits& limits);
  GuestAddr ChoosePieBase(uint64_t size, uint64_t alignment = kPageSize);
  // Begins the heap at or (randomly) after `start`.
  void SetBrkStart(GuestAddr start);
  // A free place for `size` bytes where mmap would put them; nothing is mapped.
  Result<GuestAddr> FindFree(uint64_t size, uint64_t alignment);
  // Maps the main stack that ends at `top`: as far as limits.stack lets it ever grow, but shown and
  // counted as far as it was used, at the start `used` bytes. Returns the mapping.
  Result<GuestRange> MapStack(GuestAddr top, int prot, uint64_t used, const MemoryLimits& limits);
  // On a map that nobody else knows yet: collects what Mmap, MapStack and the like tell the stub,
  // so that FinishMappings gives it as one order. In between nothing can be copied.
  void DeferMappings();
  bool in_place() const { return in_place_; }
  Result<void> FinishMappings();

  // The executable, for /proc/PID/exe, and the auxiliary vector.
  RefPtr<File> executable() const;
  void set_executable(RefPtr<File> file);
  std::vector<uint64_t> auxv() const;
  void set_auxv(std::vector<uint64_t> auxv);

  // --- Looking.
  // Whether all of the range is mapped for writing, as far as the map says (the stack may yet grow).
  bool MayWrite(GuestRange range) const;
  // How many of `size` bytes from addr on are, one behind the other; the stack grows for it.
  uint64_t WritableFrom(GuestAddr addr, uint64_t size);
  std::optional<Vma> Find(GuestAddr addr) const;  // the vma that holds addr
  // In order of address. The main stack starts at its lowest page in use.
  std::vector<Vma> List() const;
  // Bytes. size, data, stack, exe, lib and locked are exact. The rss figures come from the host's
  // mincore: exact for private anonymous memory, and for files what is in the page cache of the
  // mapped range, so more than this process has touched. They cost a walk of the whole map. peak
  // is the highest rss that usage() has seen. `with_rss` false leaves the rss figures 0.
  struct Usage {
    uint64_t size = 0, rss = 0, data = 0, stack = 0, exe = 0, lib = 0, locked = 0, peak = 0;
    uint64_t peak_size = 0, rss_anon = 0, rss_file = 0, rss_shmem = 0;
    uint64_t map_count = 0;
  };
  Usage usage(bool with_rss = true) const;
  // Resident bytes of one mapping, as above (smaps).
  uint64_t ResidentIn(GuestRange range) const;

  // Whether a shared mapping that may write is of one of these host descriptors.
  bool WritesTo(const std::vector<int>& host_fds) const;

  // The host had no memory for an access (PROT_*) to the mapping of a file at addr: SIGBUS, or EFAULT of
  // a copy. True when there is some now and the access is to be made again. Takes locks of the file.
  bool ServeFault(GuestAddr addr, int access);
  // The same for all pages of a range, for those who want them at once.
  void ServeFaults(GuestRange range, int access);

  // Whether a host fault at addr is the guest's SIGSEGV: SEGV_MAPERR or SEGV_ACCERR by the vmas.
  int SegvCode(GuestAddr addr) const;
  // Whether the guest may write to the first byte of a range (and so to part of it).
  bool MayWrite(GuestAddr addr, uint64_t size);

  int dumpable() const { return dumpable_.load(std::memory_order_relaxed); }
  void set_dumpable(int d) { dumpable_.store(d, std::memory_order_relaxed); }
  // PR_SET_THP_DISABLE, remembered only.
  bool thp_disabled() const { return thp_disabled_.load(std::memory_order_relaxed); }
  void set_thp_disabled(bool d) { thp_disabled_.store(d, std::memory_order_relaxed); }
  // PR_SET_MDWE's bits: memory that can be written may not become executable.
  uint32_t mdwe() const { return mdwe_.load(std::memory_order_relaxed); }
  void set_mdwe(uint32_t bits) { mdwe_.store(bits, std::memory_order_relaxed); }
  // PR_SET_MEMORY_MERGE, remembered only: the host decides what pages it shares.
  bool merges() const { return merges_.load(std::memory_order_relaxed); }
  void set_merges(bool m) { merges_.store(m, std::memory_order_relaxed); }
  // What fork and exec pass on of these.
  void InheritFlags(const MemoryManager& from) {
    constexpr uint32_t kMdweNoInherit = 2;
    set_thp_disabled(from.thp_disabled());
    set_merges(from.merges());
    if ((from.mdwe() & kMdweNoInherit) == 0) set_mdwe(from.mdwe());
  }

 private:
  MemoryManager(Platform& platform, Ref<AddressSpace> as, bool randomize);
  void Begin(const MemoryLimits& limits) EXCLUDES(mu_);

  // A mapping that has passed all checks, at its place.
  struct Placement {
    GuestRange range;
    bool replace = false;  // MAP_FIXED: what is there goes
  };
  Result<Placement> PlaceLocked(const MmapRequest& request, uint64_t length) REQUIRES(mu_);
  // Past what the platform keeps there, while there is another place.
  std::optional<GuestAddr> FindTopDownLocked(uint64_t length, GuestAddr low) REQUIRES(mu_);
  Result<GuestAddr> GetUnmappedAreaLocked(GuestAddr hint, uint64_t length, int flags, bool thp)
      REQUIRES(mu_);
  Result<void> CheckRoomLocked(const Vma& vma, uint64_t replaced, const MemoryLimits& limits)
      REQUIRES(mu_);
  // Maps vma on the host and enters it, in place of what was there.
  Result<void> InstallLocked(Vma vma, int host_flags, bool replace, VmaTree::Dropped* dropped)
      REQUIRES(mu_);
  Result<void> UnmapLocked(GuestRange range, VmaTree::Dropped* dropped) REQUIRES(mu_);
  Result<void> FlushLocked() REQUIRES(mu_);
  bool SealedLocked(GuestRange range) const REQUIRES_SHARED(mu_);
  // mlock on the host as far as it lets us; else makes the pages resident once.
  bool LockOnHost(GuestRange range, bool on_fault, int prot) REQUIRES(mu_);
  Result<void> SetLockedLocked(GuestRange range, bool locked, bool on_fault) REQUIRES(mu_);

  bool OpenPage(GuestAddr addr, int access);
  void ClosePage(GuestAddr addr);
  // GrowStack under the limit that held when a stack last grew.
  bool GrowStackForCopy(GuestAddr addr);

  struct MremapArgs;
  Result<GuestAddr> MremapLocked(const MremapArgs& args, const MemoryLimits& limits,
                                 VmaTree::Dropped* dropped) REQUIRES(mu_);
  Result<void> CheckResizeLocked(const Vma& vma, const MremapArgs& args,
                                 const MemoryLimits& limits) REQUIRES(mu_);
  Result<GuestAddr> MoveVmaLocked(const Vma& vma, const MremapArgs& args, GuestAddr to,
                                  VmaTree::Dropped* dropped) REQUIRES(mu_);
  Result<void> MapTailLocked(const Vma& vma, GuestRange tail, uint64_t delta) REQUIRES(mu_);

  // Fills the name of a copy.
  void DescribeLocked(Vma& vma) const REQUIRES_SHARED(mu_);
  uint64_t ResidentLocked(GuestRange range) const REQUIRES_SHARED(mu_);
  GuestAddr LowestUsedStackLocked(const Vma& stack) const REQUIRES_SHARED(mu_);
  // Before a call that names a place: if the stack has room there that it has not grown to, that room
  // goes, since for the guest nothing is there. From then on it grows at faults, and keeps its gap.
  void SettleStackLocked(GuestRange place, VmaTree::Dropped* dropped) REQUIRES(mu_);

  Platform& platform_;
  const Ref<AddressSpace> as_;
  const bool randomize_;
  bool in_place_ = false;  // the address space has an older map's memory
  std::atomic<int> dumpable_{1};
  std::atomic<bool> thp_disabled_{false};
  std::atomic<uint32_t> mdwe_{0};
  std::atomic<bool> merges_{false};
  mutable std::atomic<uint64_t> peak_rss_{0};
  mutable Mutex<LockClass::kMm> mu_;
  VmaTree vmas_ GUARDED_BY(mu_);
  Layout layout_ GUARDED_BY(mu_);
  RefPtr<File> executable_ GUARDED_BY(mu_);
  std::vector<uint64_t> auxv_ GUARDED_BY(mu_);
  GuestAddr mmap_base_ GUARDED_BY(mu_);
  uint64_t peak_size_ GUARDED_BY(mu_) = 0;
  bool deferring_ GUARDED_BY(mu_) = false;
  std::vector<AddressSpace::Mapping> deferred_ GUARDED_BY(mu_);
  // MCL_FUTURE: how new mappings are locked.
  bool lock_future_ GUARDED_BY(mu_) = false;
  bool lock_future_on_fault_ GUARDED_BY(mu_) = false;
  // The last limit a stack grew under, for copies that must grow it.
  uint64_t stack_limit_ GUARDED_BY(mu_) = 8 << 20;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_MM_MEMORY_MANAGER_H_
