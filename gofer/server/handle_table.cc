#include "gofer/server/handle_table.h"

namespace ringwall::gofer {

Result<HandleValue> HandleTable::Insert(Ref<FileHandle> handle) {
  ServerLock lock(mu_);
  if (used_ >= max_handles_) return Errno(ENFILE);
  uint32_t slot;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else {
    slot = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  }
  ++used_;
  slots_[slot].handle = RefPtr<FileHandle>(std::move(handle));
  return static_cast<HandleValue>(slots_[slot].generation) << 32 | slot;
}

Result<Ref<FileHandle>> HandleTable::Get(HandleValue value) const {
  ServerLock lock(mu_);
  const uint32_t slot = SlotOf(value);
  if (slot >= slots_.size() || slots_[slot].generation != GenerationOf(value) ||
      !slots_[slot].handle) {
    return Errno(EBADF);
  }
  return Ref<FileHandle>(*slots_[slot].handle);
}

bool HandleTable::Remove(HandleValue value) {
  RefPtr<FileHandle> gone;  // closes its descriptor after the lock is given back
  ServerLock lock(mu_);
  const uint32_t slot = SlotOf(value);
  if (slot >= slots_.size() || slots_[slot].generation != GenerationOf(value) ||
      !slots_[slot].handle) {
    return false;
  }
  gone = std::move(slots_[slot].handle);
  slots_[slot].handle = nullptr;
  // 0 is left out, so that no value is ever 0.
  if (++slots_[slot].generation == 0) slots_[slot].generation = 1;
  free_.push_back(slot);
  --used_;
  return true;
}

uint32_t HandleTable::size() const {
  ServerLock lock(mu_);
  return used_;
}

}  // namespace ringwall::gofer
