#include "sentry/kernel/guest_io.h"

#include <algorithm>
#include <array>

#include "sentry/base/viewed_file.h"

namespace ringwall {

namespace {

constexpr uint64_t kUserEnd = 0x7fff'ffff'f000;
constexpr size_t kMaxIov = 1024;
constexpr size_t kScratchSize = 128 << 10;

struct IovecAbi {
  uint64_t base, len;
};

// One scratch buffer a host thread: a task has one call under way at a time.
std::span<std::byte> Scratch(size_t want) {
  thread_local std::vector<std::byte> scratch;
  const size_t size = std::min(want, kScratchSize);
  if (scratch.size() < size) scratch.resize(std::max<size_t>(size, 4096));
  return std::span(scratch).first(size);
}

}  // namespace

Result<GuestBuffers> GuestBuffers::One(GuestAddr addr, uint64_t size) {
  GuestBuffers b;
  const std::optional<GuestRange> range = GuestRange::Make(addr, size);
  if (!range || range->end.value() > kUserEnd) return Errno(EFAULT);
  b.total_ = std::min(size, kMaxRwCount);
  b.one_ = GuestRange{addr, addr + b.total_};
  return b;
}

Result<GuestBuffers> GuestBuffers::Iovec(Task& t, GuestAddr addr, uint64_t count) {
  if (count > kMaxIov) return Errno(EINVAL);
  GuestBuffers b;
  std::vector<IovecAbi> iov(count);
  TRY(t.CopyIn(addr, std::as_writable_bytes(std::span(iov))));
  for (const IovecAbi& v : iov) {
    if (static_cast<int64_t>(v.len) < 0) return Errno(EINVAL);
    const uint64_t len = std::min(v.len, kMaxRwCount - b.total_);
    const std::optional<GuestRange> range = GuestRange::Make(GuestAddr(v.base), v.len);
    if (!range || range->end.value() > kUserEnd) return Errno(EFAULT);
    if (len == 0) continue;
    b.many_.push_back({GuestAddr(v.base), GuestAddr(v.base + len)});
    b.total_ += len;
  }
  return b;
}

GuestRange GuestBuffers::Current(size_t want) const {
  GuestRange r = many_.empty() ? one_ : index_ < many_.size() ? many_[index_] : GuestRange{};
  if (r.size() > want) r.end = r.start + want;
  return r;
}

void GuestBuffers::Advance(size_t n) {
  total_ -= n;
  if (many_.empty()) {
    one_.start = one_.start + n;
    return;
  }
  while (n > 0) {
    GuestRange& r = many_[index_];
    const size_t step = std::min<size_t>(n, r.size());
    r.start = r.start + step;
    n -= step;
    if (r.empty()) index_++;
  }
}

void GuestBuffers::Cut(size_t n) {
  if (n >= total_) return;
  total_ = n;
  if (many_.empty()) {
    one_.end = one_.start + n;
    return;
  }
  size_t left = n;
  for (size_t i = index_; i < many_.size(); i++) {
    if (many_[i].size() < left) {
      left -= many_[i].size();
      continue;
    }
    many_[i].end = many_[i].start + left;
    many_.resize(left == 0 ? i : i + 1);
    return;
  }
}

namespace {

// More than this goes straight to guest memory: one copy by the host costs less than two, the second of
// them from another processor's cache. The stub has the same limit for input.
constexpr size_t kMostByWindow = 32 << 10;
// The stub is not interrupted in between.
constexpr size_t kMostByView = 4 << 20;

}  // namespace

// Whether bytes for r may go by the stub, which tells of a fault when it is too late to keep them.
bool GuestDst::MayWindow(GuestRange r) const {
  if (when_ == When::kAtOnce || r.size() > kMostByWindow) return false;
  return task_.mm().MayWrite(r);
}

Result<size_t> GuestDst::Put(std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size() && remaining() > 0) {
    const GuestRange r = buffers_.Current(bytes.size() - done);
    const auto piece = bytes.subspan(done, r.size());
    size_t n = r.size();
    if (!MayWindow(r) || !task_.context().WriteWindow(r.start, piece)) {
      Result<size_t> copied = task_.mm().CopyOutPartial(r.start, piece);
      if (!copied.ok()) {
        if (done > 0) break;
        return copied.error();
      }
      n = *copied;
    }
    buffers_.Advance(n);
    done += n;
    if (n < piece.size()) break;
  }
  return done;
}

std::span<std::byte> GuestDst::Reserve(size_t want) {
  want = std::min(want, remaining());
  reserved_ = buffers_.Current(want);
  // Many short pieces are better filled by one read, and dealt out.
  std::span<std::byte> window;
  if (reserved_.size() == want && MayWindow(reserved_)) window = task_.context().ReserveWindow(want);
  in_window_ = window.data() != nullptr;
  return in_window_ ? window : Scratch(want);
}

Result<size_t> GuestDst::Commit(size_t n) {
  if (!in_window_) return Put(Scratch(n));
  if (n == 0) return size_t{0};
  task_.context().QueueReserved(reserved_.start, n);
  buffers_.Advance(n);
  return n;
}

size_t GuestDst::PutByView(ViewedFile& file, uint64_t pos, size_t n) {
  const GuestRange r = buffers_.Current(n);
  if (file_ == nullptr || when_ == When::kAtOnce || n == 0) return 0;
  file.NoteRead(pos, n);
  if (n > kMostByView || !ViewedFile::InOnePart(pos, n) || r.size() != n || !task_.mm().MayWrite(r)) return 0;
  if (!task_.context().QueueFromView(r.start, file, pos, n)) {
    if (!file.MayMakeView()) return 0;
    AddressSpace& as = task_.mm().address_space();
    const Result<void> made = as.MakeView(file, pos);
    // A descriptor that was closed before the view was there could not take it away.
    const Result<Ref<File>> open = task_.GetFile(fd_);
    const bool there = open.ok() && open->get() == file_;
    if (!there) as.DropViews(&file);
    if (!there || !made.ok() || !task_.context().QueueFromView(r.start, file, pos, n)) {
      if (made.ok() || made.error().Is(EAGAIN)) {
        file.NoteMade();  // for others, perhaps
      } else {
        file.NoteRefused();
      }
      return 0;
    }
    file.NoteMade();
  }
  file.NoteUse();
  buffers_.Advance(n);
  return n;
}

Result<size_t> GuestSrc::Get(std::span<std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size() && remaining() > 0) {
    const GuestRange r = buffers_.Current(bytes.size() - done);
    const auto piece = bytes.subspan(done, r.size());
    size_t n = r.size();
    if (!task_.context().ReadWindow(r.start, piece)) {
      Result<size_t> copied = task_.mm().CopyInPartial(r.start, piece);
      if (!copied.ok()) {
        if (done > 0) break;
        return copied.error();
      }
      n = *copied;
    }
    buffers_.Advance(n);
    done += n;
    if (n < piece.size()) break;
  }
  return done;
}

Result<size_t> GuestSrc::Peek(std::span<std::byte> bytes) {
  const GuestBuffers before = buffers_;
  Result<size_t> n = Get(bytes);
  buffers_ = before;
  return n;
}

Result<std::span<const std::byte>> GuestSrc::Take(size_t want) {
  std::span<std::byte> s = Scratch(std::min(want, remaining()));
  const size_t n = TRY(Get(s));
  return std::span<const std::byte>(s.first(n));
}

}  // namespace ringwall
