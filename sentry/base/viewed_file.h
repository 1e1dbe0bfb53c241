// Files that guest processes read again and again: their bytes are then copied by the guest's own stub,
// from a mapping of the file that only it has (a *view*), instead of by the Sentry. ARCHITECTURE.md
// ("Views of files") says what a view may show to whom.
//
// Lock order: a ViewedFile's lock is a leaf; viewers are called without it.
#ifndef RINGWALL_SENTRY_BASE_VIEWED_FILE_H_
#define RINGWALL_SENTRY_BASE_VIEWED_FILE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"

namespace ringwall {

class ViewedFile;

// An address space that has views.
class FileViewer {
 public:
  // Unmaps the views of the file, of all files when it is null; blocks until they are gone.
  virtual void DropViews(const ViewedFile* file) = 0;
  // Keeps it alive meanwhile; false when it is on its way out, and its views with it.
  virtual bool TryHold() = 0;
  virtual void LetGo() = 0;

 protected:
  ~FileViewer() = default;
};

// What one open file (not one inode) shows to stubs. Thread-safe.
class ViewedFile : public RefCounted<ViewedFile> {
 public:
  // A descriptor of a regular file of the host that can be read; stays open as long as this lives.
  virtual int host_fd() const = 0;
  // As pread(2), for what a view could not give. The host's errnos.
  virtual Result<size_t> ReadAt(std::span<std::byte> to, uint64_t pos) = 0;

  // A viewer calls these before its first view and after its last.
  void AddViewer(FileViewer& viewer) EXCLUDES(mu_);
  void RemoveViewer(FileViewer& viewer) EXCLUDES(mu_);
  // Ends all views of it.
  void DropViews() EXCLUDES(mu_);

  // What one view shows: a part of the file that begins at a multiple of this.
  static constexpr uint64_t kPart = 16 << 20;
  static bool InOnePart(uint64_t pos, uint64_t n) { return n <= kPart - pos % kPart; }

  // Of each read, before anything else.
  void NoteRead(uint64_t pos, uint64_t n) {
    const bool onward = next_.load(std::memory_order_relaxed) == pos;
    if (onward != this->onward()) onward_.store(onward, std::memory_order_relaxed);
    next_.store(pos + n, std::memory_order_relaxed);
  }
  // Whether the last read went on where the one before ended: a view may then go for that of the next part.
  bool onward() const { return onward_.load(std::memory_order_relaxed); }
  // Of each read that a view answered.
  void NoteUse() { uses_.store(uses_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
  // Of a read that no view could answer: whether to make one. At once for who goes on into the next part;
  // else only now and then, and ever more seldom while views are not used often.
  bool MayMakeView();
  void NoteMade();
  // The file cannot be viewed.
  void NoteRefused() { wait_.store(kLongest, std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kShortest = 32, kLongest = 4096;  // reads

  // Hints: nothing is wrong when threads change them at once.
  std::atomic<uint32_t> wait_{0}, gap_{kShortest}, uses_{kShortest};
  std::atomic<uint64_t> next_{0};
  std::atomic<bool> onward_{false};
  Mutex<LockClass::kLeaf> mu_;
  std::vector<FileViewer*> viewers_ GUARDED_BY(mu_);  // each leaves before it ends
};

// Part of an open file: counts its reads, and has its ViewedFile from when they are many. Thread-safe.
class ViewCount {
 public:
  ViewCount() = default;
  ~ViewCount() { Close(/*last=*/true); }
  ViewCount(const ViewCount&) = delete;
  ViewCount& operator=(const ViewCount&) = delete;

  // A read of so many bytes is asked for: the file to be viewed, or null as long as it is not read often.
  // make() returns a new Ref<ViewedFile>.
  template <typename Make>
  ViewedFile* Find(size_t bytes, Make&& make) {
    if (!Often(bytes)) return nullptr;
    if (ViewedFile* file = file_.load(std::memory_order_acquire)) return file;
    return Set(make());
  }
  // For each close of a descriptor of the open file: its views go, wherever they are, and the next come
  // later. The process that closed it may have no other descriptor of it.
  void Close(bool last = false);

 private:
  // A read counts one, and each page it asks for one more.
  static constexpr uint32_t kOften = 256;
  static constexpr uint32_t kOftenAtMost = kOften << 8;
  bool Often(size_t bytes) {
    const uint32_t count = count_.load(std::memory_order_relaxed);
    const uint32_t limit = limit_.load(std::memory_order_relaxed);
    if (count >= limit) return true;
    // Not exact when threads read at once: it need not be.
    const size_t pages = bytes / 4096 < kOften ? bytes / 4096 : kOften;
    count_.store(count + 1 + static_cast<uint32_t>(pages), std::memory_order_relaxed);
    return false;
  }
  ViewedFile* Set(Ref<ViewedFile> file);

  std::atomic<uint32_t> count_{0}, limit_{kOften};
  std::atomic<ViewedFile*> file_{nullptr};  // with a reference, until the end
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_VIEWED_FILE_H_
