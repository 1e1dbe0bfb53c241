#include "platform/systrap/file_views.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <utility>

namespace ringwall {

FileViews::~FileViews() {
  MutexLock lock(mu_);
  for (View& view : views_) {
    if (view.file) view.file->RemoveViewer(owner_);
  }
}

std::optional<FileViews::Place> FileViews::Pin(const ViewedFile& file, uint64_t pos, uint64_t n,
                                               uint32_t likely) {
  if (!any_.load(std::memory_order_relaxed)) return std::nullopt;
  const uint64_t first = pos / kSize * kSize;
  if (!ViewedFile::InOnePart(pos, n)) return std::nullopt;
  MutexLock lock(mu_);
  for (size_t k = 0; k < views_.size(); ++k) {
    const size_t i = (likely + k) % kViews;
    View& view = views_[i];
    if (view.state != State::kThere || view.file.get() != &file || view.first != first) continue;
    view.used_at = ++clock_;
    view.pins.fetch_add(1, std::memory_order_relaxed);
    return Place{At(i).value() + (pos - first), static_cast<uint32_t>(i)};
  }
  return std::nullopt;
}

FileViews::View* FileViews::ChooseLocked(const ViewedFile& file, uint64_t first) {
  View* best = nullptr;
  for (View& view : views_) {
    const bool usable = view.state == State::kFree || view.state == State::kThere;
    if (!usable || view.pins.load(std::memory_order_acquire) != 0) continue;
    if (view.state == State::kThere && view.file.get() == &file && view.first == first) return &view;
    const bool free = view.state == State::kFree;
    if (best != nullptr && best->state == State::kFree) continue;
    if (best == nullptr || free || view.used_at < best->used_at) best = &view;
  }
  return best;
}

void FileViews::LeaveLocked(ViewedFile& file, const View* but) {
  const bool others = std::any_of(views_.begin(), views_.end(), [&](const View& v) {
    return &v != but && v.file.get() == &file;
  });
  if (!others) file.RemoveViewer(owner_);
}

Result<void> FileViews::Make(ViewedFile& file, uint64_t pos) {
  RefPtr<ViewedFile> old;  // dropped without the lock
  View* view;
  const uint64_t first = pos / kSize * kSize;
  {
    MutexLock lock(mu_);
    if (forbidden_) return Errno(EPERM);
    for (const View& other : views_) {
      if (other.file.get() == &file && other.first == first) return Errno(EAGAIN);
    }
    view = ChooseLocked(file, file.onward() ? first - kSize : first);
    if (view == nullptr) return Errno(EAGAIN);
    if (view->file) LeaveLocked(*view->file, view);
    old = std::exchange(view->file, RefPtr<ViewedFile>(&file));
    view->state = State::kMaking;
    view->unwanted = false;
    view->first = first;
    view->used_at = ++clock_;
    file.AddViewer(owner_);
    any_.store(true, std::memory_order_relaxed);
  }
  const auto index = static_cast<size_t>(view - views_.data());
  const uint64_t at = At(index).value();
  // Private, so that it never counts as one that could write to the file; it follows the file all the
  // same, since nobody writes to it.
  const StubCall calls[] = {
      {SYS_mmap,
       {at, kSize, PROT_READ, MAP_PRIVATE | MAP_FIXED, static_cast<uint64_t>(file.host_fd()), first},
       0},
      {SYS_madvise, {at, kSize, MADV_DONTFORK, 0, 0, 0}, 0}};
  const Result<uint32_t> made = stub_.Order(calls);
  {
    MutexLock lock(mu_);
    if (made.ok() && !view->unwanted) {
      view->state = State::kThere;
      return {};
    }
    view->state = State::kLeaving;
  }
  Unmap({index});
  if (!made.ok()) return made.error();
  return Errno(EAGAIN);
}

void FileViews::Unmap(const std::vector<size_t>& leaving) {
  for (const size_t i : leaving) {
    const bool gone = stub_.Syscall(SYS_munmap, {At(i).value(), kSize}).ok() || !stub_.alive();
    RefPtr<ViewedFile> file;
    MutexLock lock(mu_);
    View& view = views_[i];
    if (view.file) LeaveLocked(*view.file, &view);
    file = std::move(view.file);
    view.state = gone ? State::kFree : State::kLost;
    lock.Unlock();
  }
}

void FileViews::Drop(const ViewedFile* file) {
  if (!any_.load(std::memory_order_relaxed)) return;
  std::vector<size_t> leaving;
  {
    MutexLock lock(mu_);
    for (size_t i = 0; i < views_.size(); ++i) {
      View& view = views_[i];
      if (!view.file || (file != nullptr && view.file.get() != file)) continue;
      if (view.state == State::kMaking) view.unwanted = true;
      if (view.state != State::kThere) continue;
      view.state = State::kLeaving;
      leaving.push_back(i);
    }
  }
  Unmap(leaving);
}

void FileViews::Forbid() {
  {
    MutexLock lock(mu_);
    forbidden_ = true;
  }
  Drop(nullptr);
}

std::vector<GuestRange> FileViews::TakeAll() {
  std::vector<GuestRange> ranges;
  std::vector<RefPtr<ViewedFile>> files;
  MutexLock lock(mu_);
  for (size_t i = 0; i < views_.size(); ++i) {
    View& view = views_[i];
    if (view.state == State::kFree) continue;
    ranges.push_back({At(i), At(i) + kSize});
    if (view.file) view.file->RemoveViewer(owner_);
    files.push_back(std::move(view.file));
    view.state = State::kFree;
  }
  lock.Unlock();
  return ranges;
}

}  // namespace ringwall
