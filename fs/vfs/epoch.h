// Epochs: reading shared structures (the dentry table, the mount table) without locks or counts.
// Inside an EpochGuard nothing that was reachable when it began is freed: writers unlink first, then
// hand the memory to EpochRetire, which ends it once every guard of that time is gone. A guard costs
// one atomic exchange; it must not be held over a call that may block.
#ifndef RINGWALL_FS_VFS_EPOCH_H_
#define RINGWALL_FS_VFS_EPOCH_H_

namespace ringwall {

class EpochGuard {
 public:
  EpochGuard();
  // Ends what was retired meanwhile; so it must go out of scope without locks held.
  ~EpochGuard();
  EpochGuard(const EpochGuard&) = delete;
  EpochGuard& operator=(const EpochGuard&) = delete;
};

// Calls destroy(object) as soon as no guard can see the object: at once when there is none.
// Called, and `destroy` is, without locks held.
void EpochRetire(const void* object, void (*destroy)(const void*));

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_EPOCH_H_
