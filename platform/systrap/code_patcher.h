// The patches of one address space: which sites are hot, the jumps that replace them, and the way
// back when the guest changes, reads or moves its code. patcher.h plans, this carries out.
//
// Lock order: mu_ (kCodePatches), then the stub's orders (kAddressSpace), then table_mu_ (kLeaf).
#ifndef RINGWALL_PLATFORM_SYSTRAP_CODE_PATCHER_H_
#define RINGWALL_PLATFORM_SYSTRAP_CODE_PATCHER_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "platform/platform.h"
#include "platform/stub/stub_process.h"
#include "platform/systrap/code_map.h"
#include "platform/systrap/patcher.h"
#include "platform/systrap/trampoline_pool.h"
#include "sentry/base/mutex.h"

namespace ringwall::systrap {

// Stops and starts all guest threads of the address space, so that none runs while code changes.
class World {
 public:
  // How long it may take: for something that may as well not be done, or for what a call of the
  // guest needs, which would fail for no reason that the guest could know.
  enum class Patience { kBrief, kLong };
  // False when not all could be stopped; they all run again then.
  virtual bool Stop(Patience patience) = 0;
  virtual void Start() = 0;

 protected:
  ~World() = default;
};

// Thread-safe.
class CodePatcher {
  struct Patch {
    uint64_t start = 0, site = 0, trampoline = 0;
    uint8_t length = 0;
    uint8_t trampoline_size = 0;
    std::array<uint8_t, kMaxReplaced> original = {}, jump = {};
    std::shared_ptr<const std::vector<TrampolinePoint>> points;

    bool Covers(uint64_t addr) const { return addr >= start && addr < start + length; }
  };
  struct Area {
    GuestRange range;
    std::shared_ptr<TrampolineChunk> chunk;
  };
  using Patches = std::map<uint64_t, Patch>;  // by start

 public:
  struct State {
    CodeMap map;
    Patches patches;
    std::vector<Area> areas;
    std::unordered_map<uint64_t, uint16_t> hits;
  };

  // All outlive it.
  CodePatcher(StubProcess& stub, TrampolinePool& pool, World& world)
      : stub_(stub), pool_(pool), world_(world) {}

  // A system call was trapped that came from the instruction ahead of `rip`, with the number
  // `rax`. Patches the site when that has happened often enough.
  // Preconditions: the caller's guest thread is stopped.
  void Trapped(uint64_t rip, uint64_t rax) EXCLUDES(mu_);

  // Changes whenever code does; a thread that was stopped before must ask ToResume again.
  uint64_t generation() const { return generation_.load(); }
  // Where the first area of trampolines within `range` begins, null without any.
  GuestAddr LowestAreaIn(GuestRange range) const EXCLUDES(mu_);
  // No site has been patched yet.
  bool empty() const { return generation() == 0; }
  // The address that the guest is to see for a thread at `rip`, which may be in a trampoline.
  uint64_t ToOriginal(uint64_t rip) const EXCLUDES(table_mu_);
  // Where a thread goes on that is to run at `rip`.
  uint64_t ToResume(uint64_t rip) const EXCLUDES(table_mu_);
  // A step that ended in a trampoline without having brought the original code on.
  bool IsStepInside(uint64_t rip) const EXCLUDES(table_mu_);

  // Each makes the change by `change` and does what it means for the patches in the range.
  using Change = std::function<Result<void>()>;
  Result<void> Map(GuestRange range, int prot, bool shared, const Change& change) EXCLUDES(mu_);
  // When `change` fails some may be mapped; none of their code is patched then.
  Result<void> MapAll(std::span<const AddressSpace::Mapping> mappings, const Change& change)
      EXCLUDES(mu_);
  // For AddressSpace::Replace: `change` is told which ranges outside the guest's are to be unmapped,
  // too. Nothing is patched then.
  Result<void> Replace(
      std::span<const AddressSpace::Mapping> mappings,
      const std::function<Result<void>(std::span<const GuestRange>)>& change) EXCLUDES(mu_);
  Result<void> Unmap(GuestRange range, const Change& change) EXCLUDES(mu_);
  Result<void> Protect(GuestRange range, int prot, const Change& change) EXCLUDES(mu_);
  Result<void> Remap(GuestRange from, GuestRange to, bool keep, const Change& change) EXCLUDES(mu_);
  // The pages may be dropped: what then comes back is the original.
  Result<void> Discard(GuestRange range, const Change& change) EXCLUDES(mu_);

  // Puts the original bytes over those of patches in a copy of guest memory.
  void Hide(GuestAddr from, std::span<std::byte> copy) const EXCLUDES(mu_);
  // Before the Sentry writes to guest memory.
  void BeforeWrite(GuestRange range) EXCLUDES(mu_);
  // Takes the patch at `rip` away, if there is one: a debugger is about to step over it.
  void BeforeStep(uint64_t rip) EXCLUDES(mu_);

  // Forks the stub; `state` is what the child's memory has, for its Adopt.
  // `first` and its result as in StubProcess::Fork.
  Result<std::unique_ptr<StubProcess>> Fork(State* state, std::span<const StubCall> first,
                                            Result<uint32_t>* first_result) EXCLUDES(mu_);
  void Adopt(State state) EXCLUDES(mu_);

 private:
  void PatchLocked(uint64_t site, uint64_t rax) REQUIRES(mu_);
  bool PlaceLocked(const SitePlan& plan, Patch* patch) REQUIRES(mu_);
  bool NewAreaLocked(uint64_t near) REQUIRES(mu_);
  // Replaces bytes of code; all threads are stopped.
  bool WriteCodeLocked(uint64_t at, std::span<const uint8_t> from, std::span<const uint8_t> to,
                       int prot) REQUIRES(mu_);
  bool RestoreLocked(GuestRange range) REQUIRES(mu_);
  void ForgetLocked(GuestRange range) REQUIRES(mu_);
  bool EvictAreasLocked(GuestRange range) REQUIRES(mu_);
  bool HasPatchLocked(GuestRange range) const REQUIRES(mu_);
  bool IsCoveredLocked(uint64_t addr) const REQUIRES(mu_);
  // Makes the patches as they are now known to those who translate.
  void PublishLocked() REQUIRES(mu_) EXCLUDES(table_mu_);
  const Patch* InTrampoline(uint64_t addr) const REQUIRES(table_mu_);
  void HideLocked(uint64_t from, std::span<uint8_t> copy) const REQUIRES(mu_);

  StubProcess& stub_;
  TrampolinePool& pool_;
  World& world_;
  std::atomic<uint64_t> generation_{0};

  mutable Mutex<LockClass::kCodePatches> mu_;
  CodeMap map_ GUARDED_BY(mu_);
  Patches patches_ GUARDED_BY(mu_);
  std::vector<Area> areas_ GUARDED_BY(mu_);
  // How often a site was trapped; kNever: not to be patched.
  std::unordered_map<uint64_t, uint16_t> hits_ GUARDED_BY(mu_);
  int failed_stops_ GUARDED_BY(mu_) = 0;

  // Copies of the patches for translation, which must be possible while a holder of mu_ waits for
  // the threads that translate.
  mutable Mutex<LockClass::kLeaf> table_mu_;
  std::map<uint64_t, Patch> by_start_ GUARDED_BY(table_mu_);
  std::map<uint64_t, const Patch*> by_trampoline_ GUARDED_BY(table_mu_);
};

}  // namespace ringwall::systrap

#endif  // RINGWALL_PLATFORM_SYSTRAP_CODE_PATCHER_H_
