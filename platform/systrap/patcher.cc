#include "platform/systrap/patcher.h"

#include <algorithm>
#include <bitset>
#include <cstring>

#include "platform/systrap/disassembler.h"
#include "sentry/base/check.h"

namespace ringwall::systrap {
namespace {

constexpr uint64_t kSyscallSize = 2;
// x86 code read from a wrong start falls into step within a few instructions. Starts this far ahead
// of a site must agree on a boundary before it is believed.
constexpr uint64_t kFarStart = 72;
constexpr uint64_t kNearStart = 24;
constexpr int kMinWitnesses = 12;

// What decoding from many starts ahead of a site says about the bytes before it.
class Boundaries {
 public:
  Boundaries(Disassembler& decoder, const CodeView& code, uint64_t site) : site_(site) {
    std::array<uint8_t, kFarStart> length = {};
    for (uint64_t back = 1; back <= kFarStart; ++back) {
      if (site >= back) length[back - 1] = decoder.Length(code, site - back);
    }
    agreed_.set();
    for (uint64_t start = kNearStart; start <= kFarStart; ++start) {
      std::bitset<kFarStart + 1> path;
      uint64_t back = start;
      while (back > 0 && length[back - 1] != 0 && length[back - 1] <= back) {
        path.set(back);
        back -= length[back - 1];
      }
      if (back != 0) continue;  // never gets to the site, so this is not how the code runs
      ++witnesses_;
      agreed_ &= path;
    }
  }

  // All ways that lead to the site pass through addr.
  bool Agreed(uint64_t addr) const {
    const uint64_t back = site_ - addr;
    return witnesses_ >= kMinWitnesses && back > 0 && back < kNearStart && agreed_.test(back);
  }

 private:
  const uint64_t site_;
  int witnesses_ = 0;
  std::bitset<kFarStart + 1> agreed_;
};

// Whether any bytes of the view, read as a direct jump or call from any offset, lead to addr. More
// than the real branches, never fewer, so "no" is certain for the view.
bool MayBeTarget(const CodeView& code, uint64_t addr, Disassembler& decoder, uint64_t site) {
  const uint8_t* b = code.bytes.data();
  const uint64_t size = code.bytes.size();
  const uint64_t at = addr - code.base;  // offset of addr; wraps are harmless in the compares below
  for (uint64_t i = 0; i + 2 <= size; ++i) {
    const uint8_t op = b[i];
    const bool short_jump = (op & 0xf0) == 0x70 || op == 0xeb || (op & 0xfc) == 0xe0;
    if (short_jump && i + 2 + static_cast<int64_t>(static_cast<int8_t>(b[i + 1])) == at) {
      // A byte pair looks like a short jump by chance too often to give up at once: behind the
      // site the boundaries are known for sure, so look whether one starts there.
      const uint64_t jump = code.base + i;
      if (jump < site) return true;
      uint64_t walk = site;
      while (walk < jump) {
        const uint8_t length = decoder.Length(code, walk);
        if (length == 0) return true;
        walk += length;
      }
      if (walk == jump) return true;
    }
    const bool near_jump = op == 0xe8 || op == 0xe9;
    const bool near_jcc = op == 0x0f && (b[i + 1] & 0xf0) == 0x80;
    if (!near_jump && !near_jcc) continue;
    const uint64_t disp = i + (near_jump ? 1 : 2);
    if (disp + 4 > size) continue;
    int32_t relative = 0;
    std::memcpy(&relative, b + disp, 4);
    if (disp + 4 + static_cast<int64_t>(relative) == at) return true;
  }
  return false;
}

bool IsSyscall(const CodeView& code, uint64_t addr) {
  if (!code.Contains(addr, kSyscallSize)) return false;
  const uint8_t* b = code.At(addr);
  return b[0] == 0x0f && b[1] == 0x05;
}

void FinishPlan(const CodeView& code, SitePlan& plan) {
  std::copy_n(code.At(plan.start), plan.length, plan.original.begin());
}

// Reads the moved instructions [start, site); false when one cannot be moved.
bool TakeBefore(Disassembler& decoder, const CodeView& code, uint64_t start, SitePlan& plan) {
  plan.before_count = 0;
  uint64_t at = start;
  while (at < plan.site) {
    if (plan.before_count == kMaxMoved) return false;
    const std::optional<MovedInsn> insn = decoder.Movable(code, at);
    if (!insn || !insn->FallsThrough()) return false;
    plan.before[plan.before_count++] = *insn;
    at += insn->size;
  }
  return at == plan.site;
}

std::optional<SitePlan> AheadPlan(Disassembler& decoder, const CodeView& code, uint64_t site,
                                  uint64_t start) {
  SitePlan plan;
  plan.site = site;
  plan.start = start;
  plan.resume = site + kSyscallSize;
  if (!TakeBefore(decoder, code, start, plan)) return std::nullopt;
  plan.length = plan.before[0].size;
  if (plan.length < kJumpSize) return std::nullopt;
  FinishPlan(code, plan);
  return plan;
}

// `mov $nr, %eax; syscall` where the call's number was nr. A byte before it that would be a prefix
// of the mov makes it another instruction (or the end of the one before: then `Boundaries` tells).
std::optional<SitePlan> MovImmediatePlan(Disassembler& decoder, const CodeView& code, uint64_t site,
                                         uint64_t observed_rax) {
  constexpr uint64_t kMov = 5;
  if (site < kMov || !code.Contains(site - kMov, kMov)) return std::nullopt;
  const uint8_t* b = code.At(site - kMov);
  uint32_t immediate = 0;
  std::memcpy(&immediate, b + 1, 4);
  const uint8_t ahead = site - kMov == code.base ? 0 : b[-1];
  const bool prefix = (ahead & 0xf0) == 0x40 || ahead == 0x66 || ahead == 0x0f;
  if (b[0] != 0xb8 || immediate != observed_rax || prefix) return std::nullopt;
  return AheadPlan(decoder, code, site, site - kMov);
}

// One long instruction ahead of the site, as near as there is.
std::optional<SitePlan> LongInsnPlan(Disassembler& decoder, const CodeView& code, uint64_t site,
                                     const Boundaries& boundaries) {
  uint64_t end = site;  // of the instruction looked at
  for (uint64_t back = 1; back < kNearStart; ++back) {
    const uint64_t start = site - back;
    if (!boundaries.Agreed(start)) continue;
    if (end - start >= kJumpSize) return AheadPlan(decoder, code, site, start);
    end = start;
  }
  return std::nullopt;
}

// The syscall and what follows; with `before_start` < site also what leads to it.
std::optional<SitePlan> OverPlan(Disassembler& decoder, const CodeView& code, uint64_t site,
                                 uint64_t before_start) {
  SitePlan plan;
  plan.site = site;
  plan.start = before_start;
  if (!TakeBefore(decoder, code, before_start, plan)) return std::nullopt;
  uint64_t end = site + kSyscallSize;
  bool open = true;  // control still goes on at `end`
  while (end - plan.start < kJumpSize) {
    if (!open) {
      // Behind the end of a function: padding may be overwritten, anything else is someone's code.
      if (!decoder.IsPadding(code, end)) return std::nullopt;
      end += decoder.Length(code, end);
      continue;
    }
    if (plan.after_count == kMaxMoved) return std::nullopt;
    const std::optional<MovedInsn> insn = decoder.Movable(code, end);
    if (!insn) return std::nullopt;
    plan.after[plan.after_count++] = *insn;
    end += insn->size;
    open = insn->FallsThrough();
  }
  if (end - plan.start > kMaxReplaced) return std::nullopt;
  plan.length = static_cast<uint8_t>(end - plan.start);
  plan.resume = end;
  // Every address inside but the first is no longer code of its own.
  for (uint64_t addr = plan.start + 1; addr < end; ++addr) {
    bool boundary = addr == site || addr == site + kSyscallSize;
    for (size_t i = 0; i < plan.before_count; ++i) boundary |= plan.before[i].addr == addr;
    for (size_t i = 0; i < plan.after_count; ++i) boundary |= plan.after[i].addr == addr;
    if (!boundary && (open || addr < plan.after[plan.after_count - 1].addr)) continue;
    if (MayBeTarget(code, addr, decoder, site)) return std::nullopt;
  }
  FinishPlan(code, plan);
  return plan;
}

}  // namespace

std::optional<SitePlan> PlanSite(const CodeView& code, uint64_t site, uint64_t observed_rax) {
  if (!IsSyscall(code, site)) return std::nullopt;
  Disassembler decoder;
  if (auto plan = MovImmediatePlan(decoder, code, site, observed_rax)) return plan;
  const Boundaries boundaries(decoder, code, site);
  if (auto plan = LongInsnPlan(decoder, code, site, boundaries)) return plan;
  if (auto plan = OverPlan(decoder, code, site, site)) return plan;
  for (uint64_t back = 1; back < kJumpSize + 10; ++back) {
    if (!boundaries.Agreed(site - back)) continue;
    if (auto plan = OverPlan(decoder, code, site, site - back)) return plan;
  }
  return std::nullopt;
}

}  // namespace ringwall::systrap
