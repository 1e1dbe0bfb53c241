// FileMemory: one budget for the memory of the sandbox's files: tmpfs, the overlay's upper layer,
// memfds, shared anonymous memory, System V segments. Without it a guest could fill the host.
//
// What calls write is charged before it is written (ENOSPC, ENOMEM). What guests write through
// mappings is there before anybody hears of it. As long as all that they could still write fits, nobody
// looks; once it does not, a watcher looks at the host's count, the more often the less is left, and
// ends the processes that go on beyond the limit, as Linux's OOM killer does.
//
// Thread-safe. Its lock is a leaf; the watcher is started with whatever locks the caller holds.
#ifndef RINGWALL_SENTRY_BASE_FILE_MEMORY_H_
#define RINGWALL_SENTRY_BASE_FILE_MEMORY_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "sentry/base/result.h"

namespace ringwall {

class FileMemory {
 public:
  // Starts a timer whose expiry calls Look(). Only kTimer and later locks may be taken.
  class Watcher {
   public:
    virtual void Start() = 0;

   protected:
    ~Watcher() = default;
  };

  // Bytes; 0, as before the first call: no limit.
  static void SetLimit(uint64_t bytes);
  // Before the first guest runs. It is never taken back.
  static void SetWatcher(Watcher* watcher);
  static uint64_t limit_pages();
  static uint64_t used_pages();

  // Mapped files that share a limit of their own as well (a tmpfs with size=). In pages.
  struct Group {
    std::atomic<uint64_t> files{0};
    std::atomic<uint64_t> room{0};  // what mappings may still write unseen
    // What was there beyond the owners' charges at the last look; below zero (it wraps) after MADV_REMOVE.
    std::atomic<uint64_t> seen{0};
  };
  // Asks the host for what is there, and returns group.seen.
  static uint64_t LookAt(const Group& group);

  // Pages that are about to be written. False when they do not fit.
  static bool Charge(uint64_t pages);
  static void Uncharge(uint64_t pages);
  // Corrects a charge to what the host says is there; may go beyond the limit.
  static void Recharge(uint64_t was, uint64_t is);

  struct Outcome {
    std::optional<uint64_t> again_ns;  // when to look again; nullopt: the watch is over
    std::vector<int> grown;            // beyond the limit: the descriptors behind what still grows
  };
  static Outcome Look();
};

// A file of the host's memory that guests may map for writing.
class MappedMemory {
 public:
  // ENOMEM when the budget is used up. `charged` pages of it the owner has charged itself. `fd` is the
  // owner's and stays open as long as this exists, as does the group.
  static Result<MappedMemory> Create(int fd, uint64_t size_pages, uint64_t charged,
                                     FileMemory::Group* group = nullptr);
  MappedMemory() = default;
  MappedMemory(MappedMemory&& other) noexcept;
  MappedMemory& operator=(MappedMemory&& other) noexcept;
  ~MappedMemory();

  bool valid() const { return entry_ != nullptr; }
  // ENOMEM when the budget is used up and this could grow.
  Result<void> MayMap() const;
  // The file has another size, or the owner has charged all that is there.
  void Update(uint64_t size_pages, uint64_t charged);

  struct Entry;

 private:
  Entry* entry_ = nullptr;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_FILE_MEMORY_H_
