// Any bytes as guest text: no plan may reach outside them, no trampoline outside its slot.
#include <cstdint>
#include <cstring>
#include <optional>

#include "platform/systrap/patcher.h"
#include "sentry/base/check.h"

using namespace ringwall::systrap;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4 || size > 4096) return 0;
  uint16_t at = 0;
  std::memcpy(&at, data, 2);
  const uint64_t base = (data[2] & 1) != 0 ? 0x400000 : 0xffff'ffff'ffff'f000;
  const CodeView view = {base, {data + 3, size - 3}};
  const uint64_t site = base + at % view.bytes.size();
  const std::optional<SitePlan> plan = PlanSite(view, site, data[2]);
  if (!plan) return 0;
  RW_CHECK(view.Contains(plan->start, plan->length) && plan->length >= kJumpSize);
  RW_CHECK(plan->start <= site && plan->length <= kMaxReplaced);
  const uint64_t slot = base + 0x10000;
  const std::optional<Trampoline> trampoline = BuildTrampoline(*plan, slot, {0x7fff, base});
  if (!trampoline) return 0;
  RW_CHECK(trampoline->size <= kTrampolineSlot);
  for (uint64_t rip = plan->start; rip < plan->start + plan->length; ++rip) {
    const auto offset = OffsetForOriginal(trampoline->Points(), plan->site, rip);
    if (offset) RW_CHECK(OriginalAt(trampoline->Points(), *offset) == rip);
  }
  return 0;
}
