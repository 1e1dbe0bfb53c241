// vm.max_map_count: how many mappings a process may have. Any thread.
#ifndef RINGWALL_SENTRY_MM_MAP_LIMITS_H_
#define RINGWALL_SENTRY_MM_MAP_LIMITS_H_

#include <atomic>
#include <cstddef>

namespace ringwall {

std::atomic<int>& MaxMapCountSetting();
inline size_t MaxMapCount() { return static_cast<size_t>(MaxMapCountSetting().load(std::memory_order_relaxed)); }

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_MM_MAP_LIMITS_H_
