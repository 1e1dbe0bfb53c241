// What the gofer has told ahead of being asked. A program that goes through a directory asks for one
// entry after the other; one request brings what it will ask for next (gofer::GoferClient::Peek), and
// this keeps it until then. Exclusive mode only.
//
// What is kept is bounded: the last few answers, for a second, and only while nothing has changed in
// the file system. How many entries a request brings follows from how many of the last ones were used:
// in the same directory for attributes, which are asked for in any order; in all of them for
// descriptors, since what opens the files of one directory mostly does so in the next.
#ifndef RINGWALL_FS_GOFER_LOOK_AHEAD_H_
#define RINGWALL_FS_GOFER_LOOK_AHEAD_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gofer/client/client.h"
#include "sentry/base/mutex.h"

namespace ringwall {

class LookAhead {
 public:
  enum Kind { kAttributes, kDescriptors };
  using FileId = std::pair<uint64_t, uint64_t>;  // host device and inode number
  struct Entry {
    std::string name;
    gofer::PeekedNode node;
  };

  // What became of the entries kept of a directory before.
  enum Verdict { kNoneBefore, kUsed, kUnused };

  // How many files the next request should open; 1: it is not worth while.
  uint32_t OpenWindow() const { return open_window_.load(std::memory_order_relaxed); }
  // A program opened file after file with nothing kept: it is worth trying.
  void TryOpening();

  // Whether to ask for attributes of several files: not while most of those told of needed a handle soon
  // after, for extended attributes perhaps, which costs a request of its own then.
  bool AttributesPay();
  // Most of many were made use of: the first entry of a directory that has just been listed is reason enough.
  bool AttributesSurelyPay() const {
    const uint32_t given = given_.load(std::memory_order_relaxed);
    return given >= kEvidence && 4 * needed_handle_.load(std::memory_order_relaxed) < given;
  }
  void NeededHandle() { needed_handle_.fetch_add(1, std::memory_order_relaxed); }

  // Something of the file system changed, or is about to: attributes, names, contents.
  void Changed() { epoch_.fetch_add(1); }
  // To be read before what is kept is asked for.
  uint64_t epoch() const { return epoch_.load(); }

  // Keeps entries of `dir`, as of `epoch`.
  Verdict Keep(FileId dir, Kind kind, uint64_t epoch, std::vector<Entry> entries);
  // Gives what is kept for `name` in `dir`. One that has a descriptor serves those who want attributes,
  // and then stays for who opens the file.
  std::optional<gofer::PeekedNode> Take(FileId dir, std::string_view name, Kind kind);

 private:
  static constexpr uint32_t kEvidence = 32;
  // Of each kind; four of descriptors are 60 of them.
  static constexpr size_t kBatches[] = {8, 4};
  static constexpr size_t kMostKept = 512;  // of one directory
  static constexpr int64_t kLifetimeNs = 1'000'000'000;

  struct Batch {
    FileId dir;
    Kind kind = kAttributes;
    uint64_t epoch = 0;
    int64_t until = 0;
    size_t brought = 0;  // 0: none is here
    size_t used = 0;
    absl::flat_hash_map<std::string, gofer::PeekedNode> entries;
  };

  static bool MostlyUsed(const Batch& batch) { return 2 * batch.used >= batch.brought; }
  // What became of opened files decides on how many are opened next.
  void Judge(const Batch& batch);

  std::atomic<uint64_t> epoch_ = 0;
  std::atomic<uint32_t> open_window_ = 2;
  // Attributes given of late, how many of the files needed a handle, how often nothing was asked for.
  std::atomic<uint32_t> given_ = 0, needed_handle_ = 0, waived_ = 0;
  Mutex<LockClass::kLeaf> mu_;
  std::array<Batch, kBatches[kAttributes] + kBatches[kDescriptors]> batches_ GUARDED_BY(mu_);
  size_t next_[2] GUARDED_BY(mu_) = {0, 0};
};

}  // namespace ringwall

#endif  // RINGWALL_FS_GOFER_LOOK_AHEAD_H_
