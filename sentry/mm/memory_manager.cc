// Making a map, fork, the heap, stacks and the places of exec. mmap and munmap are in mmap.cc, the
// other calls in a file each.
#include "sentry/mm/memory_manager.h"

#include <sys/random.h>
#include <sys/syscall.h>

#include <algorithm>
#include <map>
#include <utility>

#include "sentry/base/check.h"
#include "sentry/mm/map_limits.h"

namespace ringwall {

namespace {

// arch/x86: mmap and PIE bases move by 2^28 pages or more (vm.mmap_rnd_bits), the stack by 2^22, the heap
// by 1 GiB.
constexpr int kStackRandomBits = 22;
constexpr int kBrkRandomBits = 18;
// How much of the stack counts as used before anyone looked: what exec and the first calls touch.
constexpr uint64_t kStackInitial = 33 * kPageSize;
// A stack without a limit gets this much address space.
constexpr uint64_t kStackMax = uint64_t{1} << 30;
// More than arguments and environment may take (6 MiB).
constexpr uint64_t kStackMostUsed = 8 << 20;
constexpr uint64_t kMmapGapMin = 128 << 20;
// How much a stack grows at a time beyond what a fault asked for.
constexpr uint64_t kStackStep = 16 * kPageSize;

uint64_t RandomPages(int bits) {
  uint64_t value = 0;
  RW_CHECK(::getrandom(&value, sizeof(value), 0) == sizeof(value));
  return (value & ((uint64_t{1} << bits) - 1)) * kPageSize;
}

// The address space of a stack of which `used` bytes are in use from the start.
uint64_t StackRoom(const MemoryLimits& limits, uint64_t used) {
  return std::clamp(limits.stack & ~kPageMask, used, std::max(used, kStackMax));
}

GuestAddr MmapBase(uint64_t stack_limit, bool randomize) {
  const uint64_t pad = kStackGuardGap + (randomize ? (kPageSize << kStackRandomBits) : 0);
  uint64_t gap = stack_limit;
  if (gap + pad > gap) gap += pad;
  gap = std::clamp(gap, kMmapGapMin, kTaskSize.value() / 6 * 5);
  const uint64_t random = randomize ? RandomPages(mmap_random_bits.load()) : 0;
  return GuestAddr(kTaskSize.value() - gap - random).PageDown();
}

}  // namespace

MemoryManager::MemoryManager(Platform& platform, Ref<AddressSpace> as, bool randomize)
    : platform_(platform), as_(std::move(as)), randomize_(randomize) {}

Result<Ref<MemoryManager>> MemoryManager::Create(Platform& platform, const MemoryLimits& limits,
                                                 bool randomize) {
  Ref<AddressSpace> as = TRY(platform.NewAddressSpace());
  auto mm = Ref<MemoryManager>::Adopt(new MemoryManager(platform, std::move(as), randomize));
  mm->Begin(limits);
  return mm;
}

Ref<MemoryManager> MemoryManager::CreateInPlace(MemoryManager& old, const MemoryLimits& limits,
                                                bool randomize) {
  auto mm = Ref<MemoryManager>::Adopt(new MemoryManager(old.platform_, old.as_, randomize));
  mm->in_place_ = true;
  mm->DeferMappings();
  mm->Begin(limits);
  return mm;
}

void MemoryManager::Begin(const MemoryLimits& limits) {
  MutexLock lock(mu_);
  mmap_base_ = MmapBase(limits.stack, randomize_);
  vmas_.SetTop(mmap_base_);
  stack_limit_ = limits.stack;
  const GuestRange vvar = as_->vvar(), vdso = as_->vdso();
  if (!vvar.empty()) {
    vmas_.Insert(Vma{.range = vvar, .prot = PROT_READ, .max_prot = PROT_READ, .name = "[vvar]"});
  }
  if (!vdso.empty()) {
    vmas_.Insert(Vma{.range = vdso, .prot = PROT_READ | PROT_EXEC, .name = "[vdso]"});
  }
}

Result<Ref<MemoryManager>> MemoryManager::Fork() {
  MutexLock lock(mu_);
  Ref<AddressSpace> as = TRY(as_->Fork());
  auto child = Ref<MemoryManager>::Adopt(new MemoryManager(platform_, std::move(as), randomize_));
  VmaTree::Dropped dropped;
  // Nobody else knows the child yet, so its lock is not needed.
  [&]() NO_THREAD_SAFETY_ANALYSIS {
    child->vmas_ = vmas_;
    std::vector<GuestRange> skipped;
    bool any_locked = false;
    for (const auto& [end, vma] : child->vmas_) {
      if (vma.dont_fork) skipped.push_back(vma.range);
      any_locked |= vma.locked;
    }
    for (const GuestRange range : skipped) child->vmas_.Remove(range, &dropped);
    for (auto& [end, vma] : child->vmas_) vma.BecomeAnother();
    if (any_locked) {
      child->vmas_.Change({GuestAddr(0), GuestAddr(~kPageMask)},
                          [](Vma& vma) { vma.locked = vma.lock_on_fault = false; });
    }
    child->layout_ = layout_;
    child->executable_ = executable_;
    child->auxv_ = auxv_;
    child->mmap_base_ = mmap_base_;
    child->stack_limit_ = stack_limit_;
    child->peak_size_ = child->vmas_.total();
  }();
  child->set_dumpable(dumpable());
  child->InheritFlags(*this);
  return child;
}

void MemoryManager::LetGo() {
  VmaTree::Dropped dropped;  // outside the lock
  RefPtr<File> executable;
  MutexLock lock(mu_);
  vmas_.Remove({GuestAddr(0), GuestAddr(~kPageMask)}, &dropped);
  std::swap(executable, executable_);
}

GuestAddr MemoryManager::Brk(GuestAddr addr, const MemoryLimits& limits) {
  VmaTree::Dropped dropped;
  MutexLock lock(mu_);
  const GuestAddr current = layout_.brk;
  if (addr < layout_.start_brk || addr > kTaskSize) return current;
  if (limits.data != ~uint64_t{0} &&
      (addr - layout_.start_brk) + (layout_.end_data - layout_.start_data) > limits.data) {
    return current;
  }
  const GuestAddr old_end(*PageUp(current.value())), new_end(*PageUp(addr.value()));
  if (new_end < old_end) {
    const GuestRange range{new_end, old_end};
    if (SealedLocked(range) || !UnmapLocked(range, &dropped).ok()) return current;
  } else if (new_end > old_end) {
    const GuestRange range{old_end, new_end};
    if (new_end > kTaskSize) return current;
    // A page stays free before whatever comes next.
    const auto next = vmas_.FindFrom(old_end);
    if (next != vmas_.end() && new_end + kPageSize > next->second.start_gap()) return current;
    Vma vma{.range = range, .prot = PROT_READ | PROT_WRITE};
    vma.locked = lock_future_;
    vma.lock_on_fault = lock_future_on_fault_;
    if (vma.locked && vmas_.locked() + range.size() > limits.locked) return current;
    if (!CheckRoomLocked(vma, 0, limits).ok()) return current;
    if (!InstallLocked(vma, 0, false, &dropped).ok()) return current;
    if (vma.locked) LockOnHost(range, vma.lock_on_fault, vma.prot);
  }
  layout_.brk = addr;
  return addr;
}

Result<GuestAddr> MemoryManager::FindFree(uint64_t size, uint64_t alignment) {
  const std::optional<uint64_t> rounded = PageUp(size);
  if (!rounded || *rounded == 0 || *rounded > kTaskSize.value()) return Errno(ENOMEM);
  if (alignment > kTaskSize.value()) return Errno(ENOMEM);
  MutexLock lock(mu_);
  const uint64_t padding = alignment > kPageSize ? alignment - kPageSize : 0;
  const GuestAddr at = TRY(GetUnmappedAreaLocked(GuestAddr(), *rounded + padding, 0, false));
  return padding == 0 ? at : GuestAddr((at.value() + padding) & ~(alignment - 1));
}

Result<GuestRange> MemoryManager::MapStack(GuestAddr top, int prot, uint64_t used,
                                           const MemoryLimits& limits) {
  used = std::max(used & ~kPageMask, kStackInitial);
  const uint64_t limit = StackRoom(limits, used);
  VmaTree::Dropped dropped;
  MutexLock lock(mu_);
  if (!top.IsPageAligned() || top > kTaskSize || top.value() < limit) return Errno(EINVAL);
  const GuestRange range{top - limit, top};
  if (vmas_.Intersects(range)) return Errno(ENOMEM);
  Vma vma{.range = range, .prot = prot, .grows_down = true};
  // MAP_STACK keeps huge pages away (Linux 6.7 and later): a stack is mostly untouched.
  TRY(InstallLocked(std::move(vma), MAP_NORESERVE | MAP_STACK, false, &dropped));
  if (used < limit) vmas_.SetStackReserve({range.start, top - used});
  stack_limit_ = limits.stack;
  return range;
}

void MemoryManager::LimitStack(const MemoryLimits& limits) {
  VmaTree::Dropped dropped;
  MutexLock lock(mu_);
  const GuestRange reserve = vmas_.stack_reserve();
  if (reserve.empty()) return;
  const Vma* found = vmas_.Find(reserve.start);
  if (found == nullptr || limits.stack >= found->range.size()) return;
  const Vma stack = *found;
  const uint64_t keep = std::min(limits.stack & ~kPageMask, stack.range.size());
  const GuestAddr bound = std::min(stack.range.end - keep, LowestUsedStackLocked(stack));
  if (bound <= stack.range.start) return;
  if (!UnmapLocked({stack.range.start, bound}, &dropped).ok()) return;
  stack_limit_ = limits.stack;
  if (bound < reserve.end) vmas_.SetStackReserve({bound, reserve.end});
}

void MemoryManager::SettleStackLocked(GuestRange place, VmaTree::Dropped* dropped) {
  const GuestRange reserve = vmas_.stack_reserve();
  if (!reserve.Overlaps(place) || deferring_) return;
  const Vma* stack = vmas_.Find(reserve.start);
  if (stack == nullptr) return;
  const GuestRange room{reserve.start, LowestUsedStackLocked(*stack)};
  if (!room.empty() && room.Overlaps(place)) static_cast<void>(UnmapLocked(room, dropped).ok());
}

Result<void> MemoryManager::SetPolicy(GuestRange range, int mode, uint64_t nodes) {
  MutexLock lock(mu_);
  if (!vmas_.Covers(range)) return Errno(EFAULT);
  vmas_.Change(range, [&](Vma& vma) {
    vma.policy_mode = static_cast<uint16_t>(mode);
    vma.policy_nodes = nodes;
  });
  return {};
}

void MemoryManager::DeferMappings() {
  MutexLock lock(mu_);
  deferring_ = true;
}

Result<void> MemoryManager::FinishMappings() {
  MutexLock lock(mu_);
  if (std::exchange(in_place_, false)) {
    TRY(as_->Replace(std::exchange(deferred_, {})));
  } else {
    TRY(FlushLocked());
  }
  deferring_ = false;
  peak_size_ = vmas_.total();
  return {};
}

Result<void> MemoryManager::FlushLocked() {
  if (in_place_) return Errno(EBUSY);  // the old memory is still wanted
  if (deferred_.empty()) return {};
  const std::vector<AddressSpace::Mapping> mappings = std::exchange(deferred_, {});
  return as_->MapAll(mappings);
}

bool MemoryManager::GrowStack(GuestAddr addr, const MemoryLimits& limits) {
  VmaTree::Dropped dropped;
  MutexLock lock(mu_);
  if (addr >= kTaskSize || addr.value() < kGuestMinAddr) return false;
  const auto it = vmas_.FindFrom(addr);
  if (it == vmas_.end() || !it->second.grows_down || it->second.name != nullptr) return false;
  Vma grown = it->second;
  if (addr >= grown.range.start) return false;  // mapped: the fault has another reason
  const GuestAddr page = addr.PageDown();
  if (grown.range.end - page > limits.stack) return false;
  GuestAddr lowest(kGuestMinAddr);
  if (it != vmas_.begin()) {
    const Vma& below = std::prev(it)->second;
    lowest = below.range.end;
    if (!below.grows_down && below.prot != PROT_NONE) lowest = lowest + kStackGuardGap;
  }
  if (page < lowest) return false;
  // The main stack by a few pages more than asked for, since each step costs a fault and a call to
  // the stub: its mapping is shown as far as it is used. Others grow to the page, as /proc shows.
  GuestAddr start = page;
  const bool main_stack = grown.range.Contains(layout_.start_stack);
  if (main_stack && start.value() > kStackStep) start = start - kStackStep;
  start = std::max(start, lowest);
  if (grown.range.end - start > limits.stack) start = page;
  grown.range = {start, grown.range.start};
  if (!CheckRoomLocked(grown, 0, limits).ok()) return false;
  stack_limit_ = limits.stack;
  const GuestRange range = grown.range;
  const bool locked = grown.locked, on_fault = grown.lock_on_fault;
  const int prot = grown.prot;
  if (locked && vmas_.locked() + range.size() > limits.locked) return false;
  if (!InstallLocked(std::move(grown), MAP_STACK | MAP_NORESERVE, false, &dropped).ok()) {
    return false;
  }
  if (locked) LockOnHost(range, on_fault, prot);
  return true;
}

bool MemoryManager::ServeFault(GuestAddr addr, int access) {
  RefPtr<File> file;
  HostMapping byte;
  {
    ReaderLock lock(mu_);
    const Vma* vma = vmas_.Find(addr);
    if (vma == nullptr || !vma->file || (vma->prot & access) != access) return false;
    file = vma->file;
    byte = vma->host;
    byte.offset += addr - vma->range.start;
  }
  return file->Fault(byte);
}

void MemoryManager::ServeFaults(GuestRange range, int access) {
  for (GuestAddr at = range.start; at < range.end;) {
    GuestAddr end;
    {
      // The host serves the others itself.
      ReaderLock lock(mu_);
      auto it = vmas_.FindFrom(at);
      while (it != vmas_.end() && !(it->second.file && it->second.file->LacksMemory())) ++it;
      if (it == vmas_.end() || it->second.range.start >= range.end) return;
      at = std::max(at, it->second.range.start);
      end = it->second.range.end;
    }
    // Where no more of a mapping is to be had the next one may have some.
    at = ServeFault(at, access) ? at + kPageSize : end;
  }
}

MemoryManager::Layout MemoryManager::layout() const {
  ReaderLock lock(mu_);
  return layout_;
}

void MemoryManager::set_layout(const Layout& layout) {
  MutexLock lock(mu_);
  layout_ = layout;
}

GuestAddr MemoryManager::ChooseStackTop(const MemoryLimits& limits) {
  const uint64_t room = StackRoom(limits, kStackMostUsed);
  MutexLock lock(mu_);
  // The vDSO lies where the host has put it, which may be where a stack is wanted.
  for (int tries = 0; tries < 16; ++tries) {
    const GuestAddr top = kTaskSize - (randomize_ ? RandomPages(kStackRandomBits) : 0);
    if (!vmas_.Intersects({top - room, top})) return top;
  }
  const std::optional<GuestAddr> free =
      vmas_.FindTopDown(room, GuestAddr(kGuestMinAddr), kTaskSize);
  return free ? *free + room : kTaskSize;
}

GuestAddr MemoryManager::ChoosePieBase(uint64_t size, uint64_t alignment) {
  const uint64_t base = kElfDynBase.value() + (randomize_ ? RandomPages(mmap_random_bits.load()) : 0);
  (void)size;
  return GuestAddr(alignment > kPageSize ? base & ~(alignment - 1) : base);
}

void MemoryManager::SetBrkStart(GuestAddr start) {
  const uint64_t up = PageUp(start.value()).value_or(start.value());
  const GuestAddr at(up + (randomize_ ? RandomPages(kBrkRandomBits) : 0));
  MutexLock lock(mu_);
  layout_.start_brk = layout_.brk = at;
}

RefPtr<File> MemoryManager::executable() const {
  ReaderLock lock(mu_);
  return executable_;
}

void MemoryManager::set_executable(RefPtr<File> file) {
  MutexLock lock(mu_);
  std::swap(executable_, file);
  lock.Unlock();  // the old one is dropped outside
}

std::vector<uint64_t> MemoryManager::auxv() const {
  ReaderLock lock(mu_);
  return auxv_;
}

void MemoryManager::set_auxv(std::vector<uint64_t> auxv) {
  MutexLock lock(mu_);
  auxv_ = std::move(auxv);
}

}  // namespace ringwall
