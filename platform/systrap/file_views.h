// The views of files of one address space: read-only mappings in the stub's own range, from which its
// threads copy what read calls return. ARCHITECTURE.md ("Views of files") says what guards them.
//
// Lock order: mu_ (kPlatform) is not held over an order to the memory thread.
#ifndef RINGWALL_PLATFORM_SYSTRAP_FILE_VIEWS_H_
#define RINGWALL_PLATFORM_SYSTRAP_FILE_VIEWS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "platform/stub/stub_process.h"
#include "sentry/base/mutex.h"
#include "sentry/base/viewed_file.h"

namespace ringwall {

// Thread-safe.
class FileViews {
 public:
  // Beyond the end of the file a view shows nothing, so the file may grow.
  static constexpr uint64_t kSize = ViewedFile::kPart;
  static constexpr size_t kViews = (RW_STUB_VIEWS_END - RW_STUB_VIEWS) / kSize;

  FileViews(StubProcess& stub, FileViewer& owner) : stub_(stub), owner_(owner) {}
  ~FileViews();

  struct Place {
    uint64_t address = 0;
    uint32_t view = 0;
  };
  // Where the stub sees [pos, pos+n) of the file, if it does. Until Unpin(view) nothing else will be there:
  // a copy that is under way finds these bytes or a fault. `likely` is where to look first.
  std::optional<Place> Pin(const ViewedFile& file, uint64_t pos, uint64_t n, uint32_t likely) EXCLUDES(mu_);
  void Unpin(uint32_t view) { views_[view].pins.fetch_sub(1, std::memory_order_release); }

  // AddressSpace::MakeView, DropViews and ForbidViews.
  Result<void> Make(ViewedFile& file, uint64_t pos) EXCLUDES(mu_);
  void Drop(const ViewedFile* file) EXCLUDES(mu_);
  void Forbid() EXCLUDES(mu_);

  // Forgets all views, which the caller unmaps: where they are.
  // Preconditions: nobody else uses the address space.
  std::vector<GuestRange> TakeAll() EXCLUDES(mu_);

 private:
  enum class State : uint8_t {
    kFree,
    kMaking,
    kThere,
    kLeaving,
    kLost,  // could not be unmapped
  };
  struct View {
    State state = State::kFree;
    bool unwanted = false;  // dropped while it was made
    RefPtr<ViewedFile> file;
    uint64_t first = 0;  // byte of the file
    uint64_t used_at = 0;
    std::atomic<uint32_t> pins{0};
  };
  static GuestAddr At(size_t view) { return GuestAddr(RW_STUB_VIEWS + view * kSize); }

  // A view to make anew: this one of the file, if it is there, else a free one, else the one not used for
  // longest.
  View* ChooseLocked(const ViewedFile& file, uint64_t first) REQUIRES(mu_);
  // Before a view of the file goes: the owner is its viewer no more, if that was the last.
  void LeaveLocked(ViewedFile& file, const View* but) REQUIRES(mu_);
  // Of views that are kLeaving.
  void Unmap(const std::vector<size_t>& leaving) EXCLUDES(mu_);

  StubProcess& stub_;
  FileViewer& owner_;
  std::atomic<bool> any_{false};  // once there were views
  Mutex<LockClass::kPlatform> mu_;
  bool forbidden_ GUARDED_BY(mu_) = false;
  uint64_t clock_ GUARDED_BY(mu_) = 0;
  std::array<View, kViews> views_;  // under mu_ but for the pins, which rise under it
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_SYSTRAP_FILE_VIEWS_H_
