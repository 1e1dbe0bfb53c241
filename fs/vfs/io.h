// Where a read puts its bytes and a write takes them from: guest memory (sentry/kernel/guest_io.h)
// or the Sentry's own (SpanDst, SpanSrc). File systems use only these two interfaces, so they never
// see a guest address.
#ifndef RINGWALL_FS_VFS_IO_H_
#define RINGWALL_FS_VFS_IO_H_

#include <errno.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "sentry/base/result.h"

namespace ringwall {

class ViewedFile;

class IoDst {
 public:
  virtual ~IoDst() = default;
  virtual size_t remaining() const = 0;
  // Copies all of `bytes` (at most remaining()). Returns how many arrived before a fault; EFAULT
  // when none did.
  virtual Result<size_t> Put(std::span<const std::byte> bytes) = 0;
  // A buffer to fill in place (by pread on a host descriptor, say), at most `want` long, maybe
  // shorter, never empty when remaining() > 0 and want > 0. Commit(n) delivers its first n bytes.
  // Nothing else may be called in between.
  virtual std::span<std::byte> Reserve(size_t want) = 0;
  virtual Result<size_t> Commit(size_t n) = 0;
  // Has the reader itself fetch [pos, pos+n) of the file, all of which is there, from a view of its own:
  // n, or 0 when the bytes must be delivered in another way. May make the view.
  virtual size_t PutByView(ViewedFile& file, uint64_t pos, size_t n) {
    static_cast<void>(file), static_cast<void>(pos), static_cast<void>(n);
    return 0;
  }
};

class IoSrc {
 public:
  virtual ~IoSrc() = default;
  virtual size_t remaining() const = 0;
  // Fills `bytes` (at most remaining()); the same rules as Put.
  virtual Result<size_t> Get(std::span<std::byte> bytes) = 0;
  // Get without consuming, for a write that may have to wait.
  virtual Result<size_t> Peek(std::span<std::byte> bytes) = 0;
  // Consumes n bytes (at most remaining()) that a Peek has shown.
  virtual void Advance(size_t n) = 0;
  // A readable view of the next bytes, at most `want` long, consumed by the call; maybe shorter.
  // EFAULT.
  virtual Result<std::span<const std::byte>> Take(size_t want) = 0;
};

// For what moves whole or not at all, as a record and a packet do: EFAULT when a part found no memory.
inline Result<size_t> PutWhole(IoDst& dst, std::span<const std::byte> bytes) {
  const size_t n = TRY(dst.Put(bytes));
  if (n < bytes.size()) return Errno(EFAULT);
  return n;
}
inline Result<size_t> GetWhole(IoSrc& src, std::span<std::byte> bytes) {
  const size_t n = TRY(src.Get(bytes));
  if (n < bytes.size()) return Errno(EFAULT);
  return n;
}
inline Result<size_t> PeekWhole(IoSrc& src, std::span<std::byte> bytes) {
  const size_t n = TRY(src.Peek(bytes));
  if (n < bytes.size()) return Errno(EFAULT);
  return n;
}

// The Sentry's own memory as either end.
class SpanDst final : public IoDst {
 public:
  explicit SpanDst(std::span<std::byte> s) : left_(s) {}
  size_t remaining() const override { return left_.size(); }
  Result<size_t> Put(std::span<const std::byte> bytes) override {
    const size_t n = bytes.size() < left_.size() ? bytes.size() : left_.size();
    if (n != 0) memcpy(left_.data(), bytes.data(), n);
    left_ = left_.subspan(n);
    return n;
  }
  std::span<std::byte> Reserve(size_t want) override {
    return left_.first(want < left_.size() ? want : left_.size());
  }
  Result<size_t> Commit(size_t n) override {
    left_ = left_.subspan(n);
    return n;
  }

 private:
  std::span<std::byte> left_;
};

class SpanSrc final : public IoSrc {
 public:
  explicit SpanSrc(std::span<const std::byte> s) : left_(s) {}
  size_t remaining() const override { return left_.size(); }
  Result<size_t> Get(std::span<std::byte> bytes) override {
    const size_t n = bytes.size() < left_.size() ? bytes.size() : left_.size();
    if (n != 0) memcpy(bytes.data(), left_.data(), n);
    left_ = left_.subspan(n);
    return n;
  }
  Result<size_t> Peek(std::span<std::byte> bytes) override {
    const size_t n = bytes.size() < left_.size() ? bytes.size() : left_.size();
    if (n != 0) memcpy(bytes.data(), left_.data(), n);
    return n;
  }
  void Advance(size_t n) override { left_ = left_.subspan(n); }
  Result<std::span<const std::byte>> Take(size_t want) override {
    const std::span<const std::byte> s = left_.first(want < left_.size() ? want : left_.size());
    left_ = left_.subspan(s.size());
    return s;
  }

 private:
  std::span<const std::byte> left_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_IO_H_
