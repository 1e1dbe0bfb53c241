#include "sentry/base/viewed_file.h"

#include <algorithm>

namespace ringwall {

void ViewedFile::AddViewer(FileViewer& viewer) {
  MutexLock lock(mu_);
  if (std::find(viewers_.begin(), viewers_.end(), &viewer) == viewers_.end()) viewers_.push_back(&viewer);
}

void ViewedFile::RemoveViewer(FileViewer& viewer) {
  MutexLock lock(mu_);
  std::erase(viewers_, &viewer);
}

void ViewedFile::DropViews() {
  std::vector<FileViewer*> held;
  {
    MutexLock lock(mu_);
    for (FileViewer* viewer : viewers_) {
      if (viewer->TryHold()) held.push_back(viewer);
    }
  }
  for (FileViewer* viewer : held) {
    viewer->DropViews(this);
    viewer->LetGo();
  }
}

void ViewedFile::NoteMade() {
  const bool paid = uses_.exchange(0, std::memory_order_relaxed) >= kShortest;
  const uint32_t gap = paid ? kShortest : std::min(2 * gap_.load(std::memory_order_relaxed), kLongest);
  gap_.store(gap, std::memory_order_relaxed);
  wait_.store(gap, std::memory_order_relaxed);
}

bool ViewedFile::MayMakeView() {
  const uint32_t wait = wait_.load(std::memory_order_relaxed);
  if (wait == 0 || (onward() && wait <= gap_.load(std::memory_order_relaxed))) return true;
  wait_.store(wait - 1, std::memory_order_relaxed);
  return false;
}

void ViewCount::Close(bool last) {
  ViewedFile* const file = file_.load(std::memory_order_acquire);
  if (file == nullptr) return;
  if (!last) {
    const uint32_t limit = limit_.load(std::memory_order_relaxed);
    limit_.store(std::min(2 * limit, kOftenAtMost), std::memory_order_relaxed);
    count_.store(0, std::memory_order_relaxed);
  }
  file->DropViews();
  if (last) file->Release();
}

ViewedFile* ViewCount::Set(Ref<ViewedFile> file) {
  ViewedFile* none = nullptr;
  if (!file_.compare_exchange_strong(none, file.get(), std::memory_order_acq_rel)) return none;
  return file.Leak();
}

}  // namespace ringwall
