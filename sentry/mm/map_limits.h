// Sysctls about mappings. Any thread.
#ifndef RINGWALL_SENTRY_MM_MAP_LIMITS_H_
#define RINGWALL_SENTRY_MM_MAP_LIMITS_H_

#include <atomic>
#include <cstddef>

namespace ringwall {

// vm.max_map_count: how many a process may have.
std::atomic<int>& MaxMapCountSetting();
inline size_t MaxMapCount() { return static_cast<size_t>(MaxMapCountSetting().load(std::memory_order_relaxed)); }

// vm.mmap_rnd_bits: by how many bits of pages the places of mappings and programs move.
inline constexpr int kLeastMmapRandomBits = 28, kMostMmapRandomBits = 32;
inline std::atomic<int> mmap_random_bits{kLeastMmapRandomBits};

// vm.overcommit_memory: with 1 no mapping is refused for its size, else the host's own rule decides.
inline std::atomic<int> overcommit_memory{0};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_MM_MAP_LIMITS_H_
