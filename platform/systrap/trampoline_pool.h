// Memory for trampolines: one memfd of the sandbox in chunks. The Sentry writes a chunk through its
// own mapping; stubs map it readable and executable, at an address near the code that it serves. A
// chunk belongs to one address space and its forks, which inherit the mapping.
#ifndef RINGWALL_PLATFORM_SYSTRAP_TRAMPOLINE_POOL_H_
#define RINGWALL_PLATFORM_SYSTRAP_TRAMPOLINE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "platform/systrap/patcher.h"
#include "sentry/base/host_error.h"
#include "sentry/base/mutex.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::systrap {

inline constexpr size_t kChunkSize = 16384;
inline constexpr size_t kMaxChunks = 16384;

class TrampolinePool;

// Thread-safe.
class TrampolineChunk {
 public:
  TrampolineChunk(TrampolinePool& pool, uint32_t index) : pool_(pool), index_(index) {}
  ~TrampolineChunk();
  TrampolineChunk(const TrampolineChunk&) = delete;
  TrampolineChunk& operator=(const TrampolineChunk&) = delete;

  // An unused slot's offset, never given twice; 0 when the chunk is full.
  uint32_t TakeSlot() EXCLUDES(mu_);
  void Write(uint32_t offset, std::span<const uint8_t> bytes);
  uint64_t file_offset() const { return uint64_t{index_} * kChunkSize; }

 private:
  TrampolinePool& pool_;
  const uint32_t index_;
  Mutex<LockClass::kLeaf> mu_;
  uint32_t next_ GUARDED_BY(mu_) = kTrampolineSlot;  // the first slot holds the entry's address
};

// Thread-safe. Outlives its chunks.
class TrampolinePool {
 public:
  TrampolinePool() = default;
  ~TrampolinePool();
  TrampolinePool(const TrampolinePool&) = delete;
  TrampolinePool& operator=(const TrampolinePool&) = delete;

  // `entry`: the address in stubs where trampolines lead; each chunk begins with it.
  HostResult<void> Init(uint64_t entry);
  // Null when all are in use.
  std::shared_ptr<TrampolineChunk> TakeChunk() EXCLUDES(mu_);
  int fd() const { return fd_.get(); }

 private:
  friend class TrampolineChunk;
  std::byte* At(uint32_t index) const { return base_ + size_t{index} * kChunkSize; }
  void GiveBack(uint32_t index) EXCLUDES(mu_);

  UniqueFd fd_;
  std::byte* base_ = nullptr;
  uint64_t entry_ = 0;
  Mutex<LockClass::kLeaf> mu_;
  uint32_t next_ GUARDED_BY(mu_) = 0;
  std::vector<uint32_t> free_ GUARDED_BY(mu_);
};

}  // namespace ringwall::systrap

#endif  // RINGWALL_PLATFORM_SYSTRAP_TRAMPOLINE_POOL_H_
