// Vma: one mapping of a guest (struct vm_area_struct), and VmaTree: all of one address space, kept
// in order, merged where Linux merges, with what they add up to and a search for free ranges.
// Pure book-keeping: knows nothing of the host and takes no lock (the MemoryManager's does).
#ifndef RINGWALL_SENTRY_MM_VMA_H_
#define RINGWALL_SENTRY_MM_VMA_H_

#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "fs/vfs/file.h"
#include "sentry/base/guest_addr.h"
#include "sentry/base/ref.h"

namespace ringwall {

// What stays free below a mapping that grows down (stack_guard_gap).
inline constexpr uint64_t kStackGuardGap = 256 * kPageSize;

struct Vma {
  GuestRange range;
  int prot = 0;      // PROT_READ | PROT_WRITE | PROT_EXEC
  int max_prot = 7;  // what mprotect may give (a shared mapping of a read-only descriptor)
  bool shared = false;
  bool grows_down = false;
  bool locked = false;
  bool lock_on_fault = false;
  bool dont_fork = false, wipe_on_fork = false, dont_dump = false;
  bool sealed = false;  // mseal(2)
  RefPtr<File> file;    // null: private anonymous
  uint64_t offset = 0;  // in the file, of range.start
  HostMapping host;     // what backs range.start on the host, when there is a file
  // "[vdso]", "[vvar]"; static. "[heap]" and "[stack]" are added by MemoryManager::List and Find.
  const char* name = nullptr;
  // mbind(2): the mode with its flags (0: none of its own), and the nodes.
  uint16_t policy_mode = 0;
  uint64_t policy_nodes = 0;

  // Private and writable: counted by RLIMIT_DATA.
  bool is_data() const { return (prot & PROT_WRITE) != 0 && !shared && !grows_down; }
  // Where a search for free room must end below this vma.
  GuestAddr start_gap() const {
    if (!grows_down) return range.start;
    return range.start.value() < kStackGuardGap ? GuestAddr(0) : range.start - kStackGuardGap;
  }
  // This is now a mapping beside the one that it was copied from (File::AnotherMapping).
  void BecomeAnother();
  // Whether all but its range and what is there is the same.
  bool IsLike(const Vma& other) const;
  // Whether `next` continues this vma in all but its range.
  bool CanMerge(const Vma& next) const;
};

class VmaTree {
 public:
  using Map = std::map<GuestAddr, Vma>;  // by end address
  using Iterator = Map::iterator;
  using ConstIterator = Map::const_iterator;
  // Files whose vmas went away: dropped by the owner after it gave back its lock, since the last
  // reference may take locks that come before it.
  using Dropped = std::vector<RefPtr<File>>;

  VmaTree() = default;
  VmaTree(const VmaTree&) = default;
  VmaTree& operator=(const VmaTree&) = default;

  bool empty() const { return vmas_.empty(); }
  size_t size() const { return vmas_.size(); }
  Iterator begin() { return vmas_.begin(); }
  Iterator end() { return vmas_.end(); }
  ConstIterator begin() const { return vmas_.begin(); }
  ConstIterator end() const { return vmas_.end(); }
  // The first vma that ends after addr (find_vma), or end().
  Iterator FindFrom(GuestAddr addr) { return vmas_.upper_bound(addr); }
  ConstIterator FindFrom(GuestAddr addr) const { return vmas_.upper_bound(addr); }
  // The vma that holds addr, or null.
  const Vma* Find(GuestAddr addr) const;
  bool Intersects(GuestRange range) const;
  // Whether vmas cover the range without a hole.
  bool Covers(GuestRange range) const;
  // How many more vmas an operation on `range` may leave than there are: its edges are splits.
  size_t SplitsFor(GuestRange range) const;

  // Preconditions: nothing is mapped in vma.range.
  void Insert(Vma vma);
  // Takes everything in `range` out.
  void Remove(GuestRange range, Dropped* dropped);
  // Calls f(Vma&) on every vma in `range`, cut to it where that changes it, and merges what has become
  // alike. f must not change the range, and sets what it sets whatever was there.
  template <typename F>
  void Change(GuestRange range, F&& f) {
    for (const GuestAddr edge : {range.start, range.end}) {
      const Vma* const there = Find(edge);
      if (there == nullptr || there->range.start == edge) continue;
      Vma changed = *there;
      f(changed);
      if (!changed.IsLike(*there)) SplitAt(edge);
    }
    for (auto it = FindFrom(range.start); it != vmas_.end() && it->second.range.start < range.end;
         ++it) {
      Account(it->second, -1);
      f(it->second);
      Account(it->second, 1);
    }
    MergeAround(range);
  }

  // The highest free range of that size in [low, high), or the lowest. size is in whole pages.
  std::optional<GuestAddr> FindTopDown(uint64_t size, GuestAddr low, GuestAddr high);
  std::optional<GuestAddr> FindBottomUp(uint64_t size, GuestAddr low, GuestAddr high) const;
  // The usual `high` of FindTopDown; searches up to here are remembered.
  void SetTop(GuestAddr top);

  // What a mapping of the stack reserves but has not grown to: not counted in any figure.
  void SetStackReserve(GuestRange reserve);
  GuestRange stack_reserve() const { return stack_reserve_; }

  // Bytes: of all, of private writable ones, of locked ones, of stacks, of executable ones.
  uint64_t total() const { return total_; }
  uint64_t data() const { return data_; }
  uint64_t locked() const { return locked_; }
  uint64_t stack() const { return stack_; }
  uint64_t exec() const { return exec_; }
  // The same of the part within `range`.
  uint64_t TotalIn(GuestRange range) const;
  uint64_t DataIn(GuestRange range) const;
  uint64_t LockedIn(GuestRange range) const;

 private:
  void SplitAt(GuestAddr at);
  void MergeAround(GuestRange range);
  void Account(const Vma& vma, int sign);
  void Forget(GuestRange gap);
  // Bytes of `range` that count.
  uint64_t Counted(GuestRange range) const;

  Map vmas_;
  uint64_t total_ = 0, data_ = 0, locked_ = 0, stack_ = 0, exec_ = 0;
  GuestRange stack_reserve_;
  // full_above_[c]: between here and top_ no hole has 2^c pages or more. Makes the search for room
  // short, however many vmas lie on top.
  static constexpr size_t kClasses = 36;
  std::array<GuestAddr, kClasses> full_above_{};
  GuestAddr top_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_MM_VMA_H_
