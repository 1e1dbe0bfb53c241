#include "platform/xstate.h"

#include <cpuid.h>
#include <string.h>

#include <algorithm>
#include <cstdint>

#include "platform/xsave_layout.h"
#include "sentry/base/check.h"

namespace ringwall {
namespace {

constexpr size_t kLegacySize = 512;
constexpr size_t kHeaderSize = 64;
constexpr size_t kMxcsr = 24;
constexpr size_t kMxcsrMask = 28;
// Linux keeps its own notes here (struct _fpx_sw_bytes); the processor ignores them.
constexpr uint32_t kDefaultMxcsr = 0x1f80;
constexpr uint16_t kDefaultFcw = 0x37f;

constexpr uint64_t kAmx = uint64_t{3} << 17;

struct HostXState {
  size_t host_size = kLegacySize + kHeaderSize;
  size_t size = kLegacySize + kHeaderSize;  // without AMX
  uint64_t features = 3;  // XCR0
  uint32_t mxcsr_mask = 0xffbf;
  HostXState() {
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid_count(0xd, 0, &eax, &ebx, &ecx, &edx) != 0 && ebx != 0) {
      host_size = ebx;
      features = (uint64_t{edx} << 32 | eax);
      uint32_t low, high;
      // SAFETY: reads XCR0; CPUID leaf 0xd exists only with OSXSAVE in effect on Linux.
      __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
      features &= (uint64_t{high} << 32 | low) & ~kAmx;
      for (unsigned feature = 2; feature < 63; ++feature) {
        if ((features >> feature & 1) == 0) continue;
        __cpuid_count(0xd, feature, eax, ebx, ecx, edx);
        size = std::max<size_t>(size, eax + ebx);
      }
    }
    alignas(16) unsigned char area[kLegacySize] = {};
    // SAFETY: writes 512 bytes to an aligned buffer of that size.
    __asm__ volatile("fxsave %0" : "=m"(area));
    uint32_t mask;
    memcpy(&mask, area + kMxcsrMask, sizeof(mask));
    if (mask != 0) mxcsr_mask = mask;
  }
};

const HostXState& Host() {
  static const HostXState host;
  return host;
}

template <typename T>
T At(std::span<const std::byte> area, size_t offset) {
  T value;
  RW_CHECK(offset + sizeof(value) <= area.size());
  memcpy(&value, area.data() + offset, sizeof(value));
  return value;
}

}  // namespace

size_t XStateSize() { return Host().size; }
size_t HostXStateSize() { return Host().host_size; }
uint64_t XStateFeatures() { return Host().features; }

XStatePart XStatePartOf(uint32_t feature) {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  // SAFETY: CPUID changes nothing but these registers.
  __cpuid_count(0xd, feature, eax, ebx, ecx, edx);
  return {ebx, eax};
}

void InitXState(std::span<std::byte> area) {
  RW_CHECK(area.size() == XStateSize());
  std::fill(area.begin(), area.end(), std::byte{0});
  memcpy(area.data(), &kDefaultFcw, sizeof(kDefaultFcw));
  memcpy(area.data() + kMxcsr, &kDefaultMxcsr, sizeof(kDefaultMxcsr));
}

Result<void> CheckXState(std::span<const std::byte> area) {
  if (area.size() != XStateSize()) return Errno(EINVAL);
  const uint64_t xstate_bv = At<uint64_t>(area, kLegacySize);
  if ((xstate_bv & ~Host().features) != 0) return Errno(EINVAL);
  for (size_t at = kLegacySize + 8; at < kLegacySize + kHeaderSize; at += 8) {
    if (At<uint64_t>(area, at) != 0) return Errno(EINVAL);
  }
  if ((At<uint32_t>(area, kMxcsr) & ~Host().mxcsr_mask) != 0) return Errno(EINVAL);
  return {};
}

}  // namespace ringwall
