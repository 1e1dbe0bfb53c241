// Guest memory as the end of a read or write: IoDst and IoSrc (fs/vfs/io.h) over one buffer or an
// iovec of the calling task. Task thread only; lives for one system call.
#ifndef RINGWALL_SENTRY_KERNEL_GUEST_IO_H_
#define RINGWALL_SENTRY_KERNEL_GUEST_IO_H_

#include <vector>

#include "fs/vfs/io.h"
#include "sentry/base/guest_addr.h"
#include "sentry/kernel/task.h"

namespace ringwall {

// Linux's MAX_RW_COUNT: no call moves more.
inline constexpr uint64_t kMaxRwCount = 0x7ffff000;

// Pieces of guest memory, checked: every piece is user memory, the sum is at most kMaxRwCount.
class GuestBuffers {
 public:
  // One buffer. EFAULT when it is not in user memory. Longer than kMaxRwCount is cut.
  static Result<GuestBuffers> One(GuestAddr addr, uint64_t size);
  // struct iovec[count] at addr, read once. EINVAL (count over 1,024, a negative length or sum),
  // EFAULT.
  static Result<GuestBuffers> Iovec(Task& t, GuestAddr addr, uint64_t count);

  size_t total() const { return total_; }
  // The current piece, cut to `want`; empty at the end.
  GuestRange Current(size_t want) const;
  void Advance(size_t n);
  // Keeps the first n bytes only.
  void Cut(size_t n);

 private:
  GuestRange one_{};
  std::vector<GuestRange> many_;
  size_t index_ = 0;
  size_t total_ = 0;
};

class GuestDst final : public IoDst {
 public:
  // kAtOnce: bytes are in guest memory, or have failed to get there, when Put returns, and not only
  // when the call does.
  // kChecked: the same for memory that is not mapped for writing, so that Put tells how many arrived.
  enum class When { kChecked, kAtOnce };
  GuestDst(Task& t, GuestBuffers buffers, When when = When::kChecked)
      : task_(t), buffers_(std::move(buffers)), when_(when) {}
  size_t remaining() const override { return buffers_.total(); }
  Result<size_t> Put(std::span<const std::byte> bytes) override;
  std::span<std::byte> Reserve(size_t want) override;
  Result<size_t> Commit(size_t n) override;
  size_t PutByView(ViewedFile& file, uint64_t pos, size_t n) override;
  // The bytes are what a system call returns the number of, read by this descriptor: they may come from a
  // view.
  void AllowView(int fd, const File& file) { fd_ = fd, file_ = &file; }

 private:
  bool MayWindow(GuestRange r) const;

  Task& task_;
  GuestBuffers buffers_;
  const When when_;
  GuestRange reserved_;     // what Reserve gave room for, and
  bool in_window_ = false;  // whether that room is in the window
  int fd_ = -1;
  const File* file_ = nullptr;
};

class GuestSrc final : public IoSrc {
 public:
  GuestSrc(Task& t, GuestBuffers buffers) : task_(t), buffers_(std::move(buffers)) {}
  size_t remaining() const override { return buffers_.total(); }
  Result<size_t> Get(std::span<std::byte> bytes) override;
  Result<size_t> Peek(std::span<std::byte> bytes) override;
  void Advance(size_t n) override { buffers_.Advance(n); }
  Result<std::span<const std::byte>> Take(size_t want) override;

 private:
  Task& task_;
  GuestBuffers buffers_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_GUEST_IO_H_
