// SystrapContext's copies from views of files.
#include <errno.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "platform/systrap/region_access.h"
#include "platform/systrap/systrap_context.h"

namespace ringwall {

// A task whose calls must all be seen (it is traced, or has a seccomp filter) gets its bytes by calls too.
bool SystrapContext::QueueFromView(GuestAddr to, ViewedFile& file, uint64_t pos, size_t n) {
  if (!local_answers_ || (message_ & RW_EVENT_MASK) != RW_EVENT_SYSCALL) return false;
  if (output_count_ != 0 || view_queued_ || view_copy_.file) return false;
  const std::optional<FileViews::Place> place = as_->views().Pin(file, pos, n, view_copy_.view);
  if (!place) return false;
  view_copy_ = {RefPtr<ViewedFile>(&file), place->view, to, pos, n};
  Store(region_->view_to, to.value());
  Store(region_->view_from, place->address);
  Store(region_->view_size, uint64_t{n});
  view_queued_ = true;
  view_copies_.store(view_copies_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return true;
}

void SystrapContext::LetGoOfView() {
  as_->views().Unpin(view_copy_.view);
  view_copy_.file.reset();
  view_queued_ = false;
}

bool SystrapContext::ViewFailed() const {
  constexpr uint32_t kFailed = RW_EVENT_DONE | RW_FLAG_VIEW_FAILED;
  return (Load(region_->message) & (RW_EVENT_MASK | RW_FLAG_VIEW_FAILED)) == kFailed;
}

// For who looks at registers or memory before the next Switch: the call's result may yet become another.
void SystrapContext::SettleView() {
  view_queued_ = false;
  if (!Command(RW_CMD_VIEW | RW_CMD_STAY)) return;  // Switch will find out
  if (ViewFailed()) {
    CopyInsteadOfView();
  } else {
    LetGoOfView();
  }
}

void SystrapContext::CopyInsteadOfView() {
  constexpr uint64_t kPiece = 64 << 10;
  const ViewCopy copy = view_copy_;
  LetGoOfView();
  view_faults_.store(view_faults_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  std::vector<std::byte> bytes(std::min(copy.size, kPiece));
  uint64_t done = 0;
  int error = 0;
  while (done < copy.size) {
    const std::span<std::byte> piece = std::span(bytes).first(std::min(copy.size - done, kPiece));
    const Result<size_t> got = copy.file->ReadAt(piece, copy.pos + done);
    if (!got.ok()) error = got.error_value();
    if (!got.ok() || *got == 0) break;
    const Result<size_t> put = as_->Write(copy.to + done, piece.first(*got));
    if (!put.ok()) error = EFAULT;
    if (!put.ok()) break;
    done += *put;
    if (*put < piece.size()) break;
  }
  regs_.rax = done != 0 || error == 0 ? done : static_cast<uint64_t>(-static_cast<int64_t>(error));
}

}  // namespace ringwall
