#include "platform/systrap/trampoline_pool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sentry/base/check.h"

namespace ringwall::systrap {

TrampolineChunk::~TrampolineChunk() { pool_.GiveBack(index_); }

uint32_t TrampolineChunk::TakeSlot() {
  MutexLock lock(mu_);
  if (next_ + kTrampolineSlot > kChunkSize) return 0;
  const uint32_t slot = next_;
  next_ += kTrampolineSlot;
  return slot;
}

void TrampolineChunk::Write(uint32_t offset, std::span<const uint8_t> bytes) {
  RW_CHECK(offset + bytes.size() <= kChunkSize);
  memcpy(pool_.At(index_) + offset, bytes.data(), bytes.size());
}

TrampolinePool::~TrampolinePool() {
  if (base_ != nullptr) ::munmap(base_, kMaxChunks * kChunkSize);
}

HostResult<void> TrampolinePool::Init(uint64_t entry) {
  constexpr unsigned kMfdExec = 0x10;
  constexpr size_t kSize = kMaxChunks * kChunkSize;
  entry_ = entry;
  fd_ = UniqueFd(::memfd_create("ringwall-trampolines", MFD_CLOEXEC | kMfdExec));
  if (!fd_ && errno == EINVAL) {  // before Linux 6.3
    fd_ = UniqueFd(::memfd_create("ringwall-trampolines", MFD_CLOEXEC));
  }
  if (!fd_) return HostError::Last("memfd_create", "trampolines");
  if (::ftruncate(fd_.get(), static_cast<off_t>(kSize)) != 0) {
    return HostError::Last("ftruncate", "trampolines");
  }
  void* at =
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_.get(), 0);
  if (at == MAP_FAILED) return HostError::Last("mmap", "trampolines");
  base_ = static_cast<std::byte*>(at);
  return {};
}

std::shared_ptr<TrampolineChunk> TrampolinePool::TakeChunk() {
  uint32_t index;
  {
    MutexLock lock(mu_);
    if (!free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else if (next_ < kMaxChunks) {
      index = next_++;
    } else {
      return nullptr;
    }
  }
  memcpy(At(index), &entry_, sizeof entry_);
  return std::make_shared<TrampolineChunk>(*this, index);
}

void TrampolinePool::GiveBack(uint32_t index) {
  // The next owner must not see where this one's code was.
  ::madvise(At(index), kChunkSize, MADV_REMOVE);
  MutexLock lock(mu_);
  free_.push_back(index);
}

}  // namespace ringwall::systrap
