#include "platform/systrap/code_patcher.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "platform/platform.h"
#include "platform/stub/stub_abi.h"
#include "platform/systrap/region.h"

namespace ringwall::systrap {
namespace {

// A trapped call costs some 2 us more than a patched one, a patch some 40 us: who ends soon never has it back.
constexpr uint16_t kPatchAfter = 24;
constexpr uint16_t kNever = 0xffff;
constexpr size_t kMaxSites = 16384;
constexpr int kMaxFailedStops = 4;
constexpr uint64_t kLookAround = 16384;
constexpr uint64_t kReach = 0x7fff'0000;  // of a rel32, with room for the ends
constexpr uint64_t kSyscallSize = 2;

GuestRange Range(uint64_t start, uint64_t size) {
  return {GuestAddr(start), GuestAddr(start + size)};
}

// Where a chunk of trampolines for code at `site` might go, nearest use first: in the stub's own
// range when that is near, else well below the code, where programs map nothing by themselves.
std::vector<uint64_t> Candidates(uint64_t site) {
  std::vector<uint64_t> found;
  if (site + kReach > RW_STUB_TABLES) {
    for (int i = 0; i < 32; ++i) found.push_back(RW_STUB_TABLES + i * kChunkSize);
  }
  const uint64_t base = site & ~(kChunkSize - 1);
  for (const uint64_t distance : {0x1000'0000, 0x2000'0000, 0x4000'0000, 0x0800'0000, 0x0400'0000,
                                  0x0100'0000, 0x6000'0000}) {
    for (uint64_t i = 0; i < 8; ++i) {
      if (base > distance + kGuestMinAddr + i * kChunkSize) {
        found.push_back(base - distance - i * kChunkSize);
      }
    }
  }
  // A program at 4 MiB has little below it; above, the heap takes long to get there.
  for (uint64_t at = 0x20000; at < 0x100000 && site < kReach; at += kChunkSize) {
    found.push_back(at);
  }
  for (const uint64_t distance : {0x6000'0000, 0x7000'0000}) {
    if (base + distance < kStubStart) found.push_back(base + distance);
  }
  return found;
}

}  // namespace

void CodePatcher::HideLocked(uint64_t from, std::span<uint8_t> copy) const {
  const uint64_t end = from + copy.size();
  auto it = patches_.lower_bound(from >= kMaxReplaced ? from - kMaxReplaced : 0);
  for (; it != patches_.end() && it->first < end; ++it) {
    const Patch& patch = it->second;
    for (uint64_t i = 0; i < patch.length; ++i) {
      const uint64_t at = patch.start + i;
      if (at >= from && at < end) copy[at - from] = patch.original[i];
    }
  }
}

bool CodePatcher::HasPatchLocked(GuestRange range) const {
  const uint64_t start = range.start.value();
  auto it = patches_.lower_bound(start >= kMaxReplaced ? start - kMaxReplaced : 0);
  for (; it != patches_.end() && it->first < range.end.value(); ++it) {
    if (it->second.start + it->second.length > start) return true;
  }
  return false;
}

bool CodePatcher::IsCoveredLocked(uint64_t addr) const {
  auto it = patches_.upper_bound(addr);
  return it != patches_.begin() && std::prev(it)->second.Covers(addr);
}

void CodePatcher::PublishLocked() {
  MutexLock lock(table_mu_);
  by_start_ = patches_;
  by_trampoline_.clear();
  for (const auto& [start, patch] : by_start_) by_trampoline_.emplace(patch.trampoline, &patch);
  generation_.fetch_add(1);
}

const CodePatcher::Patch* CodePatcher::InTrampoline(uint64_t addr) const {
  auto it = by_trampoline_.upper_bound(addr);
  if (it == by_trampoline_.begin()) return nullptr;
  const Patch* patch = std::prev(it)->second;
  return addr < patch->trampoline + patch->trampoline_size ? patch : nullptr;
}

void CodePatcher::Trapped(uint64_t rip, uint64_t rax) {
  const uint64_t site = rip - kSyscallSize;
  MutexLock lock(mu_);
  if (failed_stops_ >= kMaxFailedStops) return;
  if (hits_.size() >= kMaxSites && !hits_.contains(site)) return;
  uint16_t& hits = hits_[site];
  if (hits == kNever || ++hits < kPatchAfter) return;
  hits = kNever;
  PatchLocked(site, rax);
}

void CodePatcher::PatchLocked(uint64_t site, uint64_t rax) {
  const std::optional<CodeMap::Mapping> mapping = map_.Find(GuestAddr(site));
  if (!mapping || mapping->shared || (mapping->prot & PROT_EXEC) == 0 ||
      (mapping->prot & PROT_WRITE) != 0) {
    return;
  }
  const uint64_t low =
      std::max(mapping->range.start.value(), site > kLookAround ? site - kLookAround : 0);
  const uint64_t high = std::min(mapping->range.end.value(), site + kLookAround);
  std::vector<uint8_t> bytes(high - low);
  Result<size_t> got = stub_.Read(GuestAddr(low), std::as_writable_bytes(std::span(bytes)));
  if (!got.ok() || *got != bytes.size()) return;
  std::vector<uint8_t> now = bytes;
  HideLocked(low, bytes);
  const std::optional<SitePlan> plan = PlanSite({low, bytes}, site, rax);
  if (!plan || HasPatchLocked(Range(plan->start, plan->length))) return;
  Patch patch;
  if (!PlaceLocked(*plan, &patch)) return;
  if (!world_.Stop(World::Patience::kBrief)) {
    // All others run again; another trap tries once more.
    ++failed_stops_;
    hits_[site] = 0;
    return;
  }
  const std::span<const uint8_t> before(&now[patch.start - low], patch.length);
  const std::span<const uint8_t> after(patch.jump.data(), patch.length);
  if (WriteCodeLocked(patch.start, before, after, mapping->prot)) {
    const uint64_t start = patch.start;
    patches_.emplace(start, std::move(patch));
    PublishLocked();
  }
  world_.Start();
}

bool CodePatcher::PlaceLocked(const SitePlan& plan, Patch* patch) {
  for (int round = 0; round < 2; ++round) {
    for (Area& area : areas_) {
      const uint64_t at = area.range.start.value();
      const uint64_t distance = at > plan.site ? at - plan.site : plan.site - at;
      if (distance > kReach) continue;
      const StubGates gates = {RW_REGIONS_HIGH, at};
      // A look at any slot tells whether all is in reach, so that none is wasted.
      if (!BuildTrampoline(plan, at + kTrampolineSlot, gates)) continue;
      const uint32_t slot = area.chunk->TakeSlot();
      if (slot == 0) continue;
      const std::optional<Trampoline> code = BuildTrampoline(plan, at + slot, gates);
      const auto jump = JumpBytes(plan, at + slot);
      if (!code || !jump) continue;
      area.chunk->Write(slot, {code->bytes.data(), code->size});
      patch->start = plan.start;
      patch->site = plan.site;
      patch->length = plan.length;
      patch->original = plan.original;
      patch->jump = *jump;
      patch->trampoline = at + slot;
      patch->trampoline_size = code->size;
      patch->points = std::make_shared<const std::vector<TrampolinePoint>>(code->Points().begin(),
                                                                           code->Points().end());
      return true;
    }
    if (round == 0 && !NewAreaLocked(plan.site)) return false;
  }
  return false;
}

bool CodePatcher::NewAreaLocked(uint64_t near) {
  std::shared_ptr<TrampolineChunk> chunk = pool_.TakeChunk();
  if (chunk == nullptr) return false;
  for (const uint64_t at : Candidates(near)) {
    const GuestRange range = Range(at, kChunkSize);
    const bool used = std::any_of(areas_.begin(), areas_.end(),
                                  [&](const Area& area) { return area.range.Overlaps(range); });
    if (used) continue;
    const Result<void> mapped = stub_.Syscall(
        SYS_mmap, {at, kChunkSize, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE,
                   static_cast<uint64_t>(pool_.fd()), chunk->file_offset()});
    if (mapped.ok()) {
      areas_.push_back({range, std::move(chunk)});
      return true;
    }
    if (!mapped.error().Is(EEXIST)) return false;
  }
  return false;
}

bool CodePatcher::WriteCodeLocked(uint64_t at, std::span<const uint8_t> from,
                                  std::span<const uint8_t> to, int prot) {
  const uint64_t page = at & ~kPageMask;
  const uint64_t size = ((at + to.size() + kPageMask) & ~kPageMask) - page;
  // By aligned words: what lies around in them is read, and must be so still.
  const uint64_t first = at & ~uint64_t{3}, last = (at + to.size() + 3) & ~uint64_t{3};
  std::vector<uint8_t> old_bytes(last - first);
  Result<size_t> got = stub_.Read(GuestAddr(first), std::as_writable_bytes(std::span(old_bytes)));
  if (!got.ok() || *got != old_bytes.size()) return false;
  if (memcmp(&old_bytes[at - first], from.data(), from.size()) != 0) return false;
  std::vector<uint8_t> new_bytes = old_bytes;
  std::copy(to.begin(), to.end(), new_bytes.begin() + static_cast<ptrdiff_t>(at - first));
  std::vector<StubCall> calls;
  calls.push_back({SYS_mprotect, {page, size, PROT_READ | PROT_WRITE, 0, 0, 0}, 0});
  for (uint64_t i = 0; i < new_bytes.size(); i += 4) {
    uint32_t old_word, new_word;
    memcpy(&old_word, &old_bytes[i], 4);
    memcpy(&new_word, &new_bytes[i], 4);
    if (old_word == new_word) continue;
    calls.push_back({RW_OP_CMPXCHG, {first + i, old_word, new_word, 0, 0, 0}, 0});
  }
  const StubCall protect = {SYS_mprotect, {page, size, static_cast<uint64_t>(prot), 0, 0, 0}, 0};
  calls.push_back(protect);
  size_t failed = 0;
  if (stub_.Order(calls, &failed).ok()) return true;
  if (failed > 0) static_cast<void>(stub_.Order({&protect, 1}).ok());
  return false;
}

// Puts the original bytes back for all patches in the range. No thread is left in their
// trampolines: all are stopped, and go on by ToResume.
bool CodePatcher::RestoreLocked(GuestRange range) {
  if (!HasPatchLocked(range)) return true;
  if (!world_.Stop(World::Patience::kLong)) return false;
  for (auto it = patches_.begin(); it != patches_.end();) {
    const Patch& patch = it->second;
    if (!range.Overlaps(Range(patch.start, patch.length))) {
      ++it;
      continue;
    }
    const std::optional<CodeMap::Mapping> mapping = map_.Find(GuestAddr(patch.start));
    const int prot = mapping ? mapping->prot : PROT_READ;
    WriteCodeLocked(patch.start, {patch.jump.data(), patch.length},
                    {patch.original.data(), patch.length}, prot);
    hits_[patch.site] = kNever;
    it = patches_.erase(it);
  }
  PublishLocked();
  world_.Start();
  return true;
}

void CodePatcher::ForgetLocked(GuestRange range) {
  std::erase_if(hits_, [&](const auto& entry) { return range.Contains(GuestAddr(entry.first)); });
  const size_t forgotten = std::erase_if(patches_, [&](const auto& entry) {
    return range.Overlaps(Range(entry.second.start, entry.second.length));
  });
  if (forgotten != 0) PublishLocked();
}

GuestAddr CodePatcher::LowestAreaIn(GuestRange range) const {
  GuestAddr lowest;
  if (empty()) return lowest;
  MutexLock lock(mu_);
  for (const Area& area : areas_) {
    const GuestAddr start = area.range.start;
    if (area.range.Overlaps(range) && (lowest.IsNull() || start < lowest)) lowest = start;
  }
  return lowest;
}

// The guest takes the addresses of trampolines for itself: the patches that use them go.
bool CodePatcher::EvictAreasLocked(GuestRange range) {
  for (auto area = areas_.begin(); area != areas_.end();) {
    if (!area->range.Overlaps(range)) {
      ++area;
      continue;
    }
    std::vector<GuestRange> sites;
    for (const auto& [start, patch] : patches_) {
      if (area->range.Contains(GuestAddr(patch.trampoline))) {
        sites.push_back(Range(patch.start, patch.length));
      }
    }
    for (const GuestRange site : sites) {
      if (!RestoreLocked(site)) return false;
    }
    static_cast<void>(
        stub_.Syscall(SYS_munmap, {area->range.start.value(), area->range.size()}).ok());
    area = areas_.erase(area);
  }
  return true;
}

uint64_t CodePatcher::ToOriginal(uint64_t rip) const {
  MutexLock lock(table_mu_);
  const Patch* patch = InTrampoline(rip);
  return patch == nullptr ? rip : OriginalAt(*patch->points, rip - patch->trampoline);
}

uint64_t CodePatcher::ToResume(uint64_t rip) const {
  MutexLock lock(table_mu_);
  auto it = by_start_.upper_bound(rip);
  if (it == by_start_.begin()) return rip;
  const Patch& patch = std::prev(it)->second;
  if (!patch.Covers(rip) || rip == patch.start) return rip;
  const std::optional<uint8_t> offset = OffsetForOriginal(*patch.points, patch.site, rip);
  return offset ? patch.trampoline + *offset : rip;
}

bool CodePatcher::IsStepInside(uint64_t rip) const {
  MutexLock lock(table_mu_);
  const Patch* patch = InTrampoline(rip);
  if (patch == nullptr) return false;
  const std::vector<TrampolinePoint>& points = *patch->points;
  for (size_t i = 0; i < points.size(); ++i) {
    if (patch->trampoline + points[i].offset != rip) continue;
    // The first point of an address, and not of the one that the jump itself stands for.
    return points[i].original == patch->start ||
           (i > 0 && points[i - 1].original == points[i].original);
  }
  return true;
}

Result<void> CodePatcher::Map(GuestRange range, int prot, bool shared, const Change& change) {
  MutexLock lock(mu_);
  if (!EvictAreasLocked(range)) return Errno(ENOMEM);
  TRY(change());
  if (map_.Overlaps(range)) ForgetLocked(range);
  map_.Mapped(range, prot, shared);
  return {};
}

Result<void> CodePatcher::MapAll(std::span<const AddressSpace::Mapping> mappings,
                                 const Change& change) {
  MutexLock lock(mu_);
  for (const AddressSpace::Mapping& m : mappings) {
    if (!EvictAreasLocked(m.range)) return Errno(ENOMEM);
  }
  Result<void> done = change();
  for (const AddressSpace::Mapping& m : mappings) {
    if (map_.Overlaps(m.range)) ForgetLocked(m.range);
    if (done.ok()) {
      map_.Mapped(m.range, m.prot, (m.flags & MAP_TYPE) != MAP_PRIVATE);
    } else {
      map_.Unmapped(m.range);
    }
  }
  return done;
}

Result<void> CodePatcher::Replace(
    std::span<const AddressSpace::Mapping> mappings,
    const std::function<Result<void>(std::span<const GuestRange>)>& change) {
  MutexLock lock(mu_);
  std::vector<GuestRange> in_stub;
  for (const Area& area : areas_) {
    if (area.range.start.value() >= kStubStart) in_stub.push_back(area.range);
  }
  TRY(change(in_stub));
  areas_.clear();
  patches_.clear();
  hits_.clear();
  failed_stops_ = 0;
  map_ = {};
  for (const AddressSpace::Mapping& m : mappings) {
    map_.Mapped(m.range, m.prot, (m.flags & MAP_TYPE) != MAP_PRIVATE);
  }
  MutexLock table(table_mu_);
  by_start_.clear();
  by_trampoline_.clear();
  generation_.store(0);
  return {};
}

Result<void> CodePatcher::Unmap(GuestRange range, const Change& change) {
  MutexLock lock(mu_);
  if (!EvictAreasLocked(range)) return Errno(ENOMEM);
  TRY(change());
  if (map_.Overlaps(range)) ForgetLocked(range);
  map_.Unmapped(range);
  return {};
}

Result<void> CodePatcher::Protect(GuestRange range, int prot, const Change& change) {
  MutexLock lock(mu_);
  // Code that the guest is about to write must be its own again.
  if ((prot & PROT_WRITE) != 0 && !RestoreLocked(range)) return Errno(ENOMEM);
  TRY(change());
  map_.Protected(range, prot);
  return {};
}

Result<void> CodePatcher::Remap(GuestRange from, GuestRange to, bool keep, const Change& change) {
  MutexLock lock(mu_);
  if (!EvictAreasLocked(from) || !EvictAreasLocked(to) || !RestoreLocked(from)) {
    return Errno(ENOMEM);
  }
  TRY(change());
  if (map_.Overlaps(from) || map_.Overlaps(to)) {
    ForgetLocked(from);
    ForgetLocked(to);
  }
  map_.Moved(from, to, keep);
  return {};
}

Result<void> CodePatcher::Discard(GuestRange range, const Change& change) {
  MutexLock lock(mu_);
  TRY(change());
  if (HasPatchLocked(range)) ForgetLocked(range);
  return {};
}

void CodePatcher::Hide(GuestAddr from, std::span<std::byte> copy) const {
  MutexLock lock(mu_);
  HideLocked(from.value(), {reinterpret_cast<uint8_t*>(copy.data()), copy.size()});
}

void CodePatcher::BeforeWrite(GuestRange range) {
  MutexLock lock(mu_);
  RestoreLocked(range);
}

void CodePatcher::BeforeStep(uint64_t rip) {
  MutexLock lock(mu_);
  if (IsCoveredLocked(rip)) RestoreLocked(Range(rip, 1));
}

Result<std::unique_ptr<StubProcess>> CodePatcher::Fork(State* state,
                                                       std::span<const StubCall> first,
                                                       Result<uint32_t>* first_result) {
  MutexLock lock(mu_);
  std::unique_ptr<StubProcess> child = TRY(stub_.Fork(first, first_result));
  *state = {map_, patches_, areas_, hits_};
  return child;
}

void CodePatcher::Adopt(State state) {
  MutexLock lock(mu_);
  map_ = std::move(state.map);
  patches_ = std::move(state.patches);
  areas_ = std::move(state.areas);
  hits_ = std::move(state.hits);
  PublishLocked();
}

}  // namespace ringwall::systrap
