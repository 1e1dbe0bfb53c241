// MemoryManager: the memory map of a guest process (struct mm_struct): its vmas, how they are
// chosen and limited, and what the stub is told to map. The bytes themselves are the host's
// (platform/platform.h), so a fault never comes here unless it is the guest's own error.
//
// Lock order: mu_ (kMm) before the address space's. Copying (CopyIn, CopyOut) takes no lock.
#ifndef RINGWALL_SENTRY_MM_MEMORY_MANAGER_H_
#define RINGWALL_SENTRY_MM_MEMORY_MANAGER_H_

#include <atomic>
#include <cstdint>
#include <map>
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

namespace ringwall {

// struct vm_area_struct.
struct Vma {
  GuestRange range;
  int prot = 0;          // PROT_READ | PROT_WRITE | PROT_EXEC
  int max_prot = 7;      // what mprotect may give (a shared mapping of a read-only descriptor)
  bool shared = false;
  bool grows_down = false;
  bool locked = false;
  bool dont_fork = false, wipe_on_fork = false, dont_dump = false;
  RefPtr<File> file;     // null: private anonymous
  uint64_t offset = 0;   // in the file, of range.start
  const char* name = nullptr;  // "[heap]", "[stack]", "[vdso]", "[vvar]"; static
};

// What limits a change of the map; from the task's rlimits.
struct MemoryLimits {
  uint64_t address_space = ~uint64_t{0};  // RLIMIT_AS
  uint64_t data = ~uint64_t{0};           // RLIMIT_DATA
  uint64_t stack = 8 << 20;               // RLIMIT_STACK
  uint64_t locked = 64 << 10;             // RLIMIT_MEMLOCK
};

struct MmapRequest {
  GuestAddr hint;
  uint64_t length = 0;
  int prot = 0;
  int flags = 0;  // MAP_*
  RefPtr<File> file;
  uint64_t offset = 0;
  const char* name = nullptr;
};

class MemoryManager : public RefCounted<MemoryManager> {
 public:
  // An empty map over a fresh address space (exec).
  static Result<Ref<MemoryManager>> Create(Platform& platform);
  // fork: vmas and contents, honouring MADV_DONTFORK and WIPEONFORK.
  Result<Ref<MemoryManager>> Fork();

  AddressSpace& address_space() { return *as_; }

  // --- System calls, with Linux's checks, address choice (top-down below the stack, ASLR) and
  // errnos. Lengths and addresses come unchecked from the guest.
  Result<GuestAddr> Mmap(const MmapRequest& request, const MemoryLimits& limits);
  Result<void> Munmap(GuestAddr addr, uint64_t length);
  Result<void> Mprotect(GuestAddr addr, uint64_t length, int prot);
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

  // --- Copies. EFAULT. Partial copies return how much arrived first.
  Result<void> CopyIn(GuestAddr from, std::span<std::byte> to);
  Result<void> CopyOut(GuestAddr to, std::span<const std::byte> from);
  Result<size_t> CopyInPartial(GuestAddr from, std::span<std::byte> to);
  Result<size_t> CopyOutPartial(GuestAddr to, std::span<const std::byte> from);
  // A NUL-terminated string of at most `limit` bytes with the NUL; ENAMETOOLONG when longer.
  Result<std::string> CopyInString(GuestAddr from, size_t limit);

  // --- For the loader: places of /proc/PID/stat and PR_SET_MM.
  struct Layout {
    GuestAddr start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
    GuestAddr arg_start, arg_end, env_start, env_end;
  };
  Layout layout() const;
  void set_layout(const Layout& layout);
  // Where exec puts things: random within Linux's ranges.
  GuestAddr ChooseStackTop();
  GuestAddr ChoosePieBase(uint64_t size);
  void SetBrkStart(GuestAddr start);

  // The executable, for /proc/PID/exe, and the auxiliary vector.
  RefPtr<File> executable() const;
  void set_executable(RefPtr<File> file);
  std::vector<uint64_t> auxv() const;
  void set_auxv(std::vector<uint64_t> auxv);

  // --- Looking.
  std::optional<Vma> Find(GuestAddr addr) const;  // the vma that holds addr
  std::vector<Vma> List() const;
  struct Usage {
    uint64_t size = 0, rss = 0, data = 0, stack = 0, exe = 0, lib = 0, locked = 0, peak = 0;
    uint64_t rss_anon = 0, rss_file = 0, rss_shmem = 0;
  };
  Usage usage() const;

  // Whether a host fault at addr is the guest's SIGSEGV: SEGV_MAPERR or SEGV_ACCERR by the vmas.
  int SegvCode(GuestAddr addr) const;

  int dumpable() const { return dumpable_.load(std::memory_order_relaxed); }
  void set_dumpable(int d) { dumpable_.store(d, std::memory_order_relaxed); }

 private:
  explicit MemoryManager(Platform& platform, Ref<AddressSpace> as);

  Platform& platform_;
  const Ref<AddressSpace> as_;
  std::atomic<int> dumpable_{1};
  mutable Mutex<LockClass::kMm> mu_;
  std::map<GuestAddr, Vma> vmas_ GUARDED_BY(mu_);  // by end address
  Layout layout_ GUARDED_BY(mu_);
  RefPtr<File> executable_ GUARDED_BY(mu_);
  std::vector<uint64_t> auxv_ GUARDED_BY(mu_);
  uint64_t total_ GUARDED_BY(mu_) = 0, data_ GUARDED_BY(mu_) = 0, locked_ GUARDED_BY(mu_) = 0;
  GuestAddr mmap_base_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_MM_MEMORY_MANAGER_H_
