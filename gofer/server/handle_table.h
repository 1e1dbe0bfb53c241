// The host files that one connection holds. A handle is found only by the value that the server
// gave out; a value of a closed handle never finds a later one (each slot counts its uses).
// Thread-safe. Bounded.
#ifndef RINGWALL_GOFER_SERVER_HANDLE_TABLE_H_
#define RINGWALL_GOFER_SERVER_HANDLE_TABLE_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "gofer/proto/message.h"
#include "gofer/server/lock.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::gofer {

struct Root;

// An open host file: an O_PATH descriptor, or the descriptor of a nameless file. The type of an
// inode never changes, so it is kept.
class FileHandle final : public RefCounted<FileHandle> {
 public:
  FileHandle(UniqueFd fd, const Root& root, uint32_t type, uint64_t dev, bool closed)
      : root(root), type(type), dev(dev), closed(closed), fd_(std::move(fd)) {}
  ~FileHandle() override { TakeBound(); }
  int fd() const { return fd_.get(); }
  // The socket that was bound to this name: kept until it listens, and only one caller gets it.
  void KeepBound(UniqueFd socket) { bound_.store(socket.release()); }
  UniqueFd TakeBound() { return UniqueFd(bound_.exchange(-1)); }

  const Root& root;     // outlives the handle
  const uint32_t type;  // S_IFREG, ...
  const uint64_t dev;
  // A directory of the host's kernel (procfs, sysfs and such): it can be looked at, not entered.
  const bool closed;

 private:
  const UniqueFd fd_;
  std::atomic<int> bound_{-1};
};

class HandleTable {
 public:
  explicit HandleTable(uint32_t max_handles) : max_handles_(max_handles) {}

  // ENFILE when the table is full.
  Result<HandleValue> Insert(Ref<FileHandle> handle);
  // EBADF when `value` is not open.
  Result<Ref<FileHandle>> Get(HandleValue value) const;
  bool Remove(HandleValue value);
  uint32_t size() const;

 private:
  struct Slot {
    RefPtr<FileHandle> handle;
    uint32_t generation = 1;
  };
  static uint32_t SlotOf(HandleValue value) { return static_cast<uint32_t>(value); }
  static uint32_t GenerationOf(HandleValue value) { return static_cast<uint32_t>(value >> 32); }

  const uint32_t max_handles_;
  mutable ServerMutex mu_;
  std::vector<Slot> slots_ GUARDED_BY(mu_);
  std::vector<uint32_t> free_ GUARDED_BY(mu_);
  uint32_t used_ GUARDED_BY(mu_) = 0;
};

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_SERVER_HANDLE_TABLE_H_
