#include "netstack/buffer.h"

#include <array>
#include <new>

#include "sentry/base/mutex.h"

namespace ringwall::net {

namespace {

// Some blocks of the size that streams are sent and received in are kept: the allocator gives back a heap's end
// and takes it again, and each page's first touch costs more than the bytes that are copied to it.
class Spares {
 public:
  static Spares& Get() {
    static Spares* spares = new Spares;
    return *spares;
  }
  void* Take() {
    MutexLock lock(mu_);
    return count_ == 0 ? nullptr : blocks_[--count_];
  }
  bool Keep(void* block) {
    MutexLock lock(mu_);
    if (count_ == blocks_.size()) return false;
    blocks_[count_++] = block;
    return true;
  }

 private:
  Mutex<LockClass::kLeaf> mu_;
  std::array<void*, 32> blocks_ GUARDED_BY(mu_) = {};
  size_t count_ GUARDED_BY(mu_) = 0;
};

}  // namespace

Ref<Buffer> Buffer::New(size_t capacity) {
  const bool kept = capacity >= kStreamBlock && capacity <= kFrameBlock;
  void* block = kept ? Spares::Get().Take() : nullptr;
  if (block == nullptr) block = ::operator new(sizeof(Buffer) + (kept ? kFrameBlock : capacity));
  return Ref<Buffer>::Adopt(new (block) Buffer(capacity));
}

void Buffer::LastRelease() const {
  Buffer* self = const_cast<Buffer*>(this);
  const bool kept = capacity_ >= kStreamBlock && capacity_ <= kFrameBlock;
  self->~Buffer();
  if (kept && Spares::Get().Keep(self)) return;
  ::operator delete(static_cast<void*>(self));
}

Slice Slice::Copy(ByteSpan bytes) {
  if (bytes.empty()) return Slice();
  Ref<Buffer> b = Buffer::New(bytes.size());
  std::memcpy(b->data(), bytes.data(), bytes.size());
  b->set_used(bytes.size());
  const size_t n = bytes.size();
  return Slice(std::move(b), 0, n);
}

Slice Slice::Compact() const {
  if (!buffer_ || size_ + 512 >= buffer_->capacity() / 2) return *this;
  return Copy(span());
}

Chain Chain::Sub(size_t from, size_t n) const {
  RW_DCHECK(from + n <= size_);
  Chain out;
  for (const Slice& s : slices_) {
    if (n == 0) break;
    if (from >= s.size()) {
      from -= s.size();
      continue;
    }
    const size_t take = std::min(n, s.size() - from);
    out.Append(s.Sub(from, take));
    from = 0;
    n -= take;
  }
  return out;
}

void Chain::CopyTo(uint8_t* out) const {
  for (const Slice& s : slices_) {
    std::memcpy(out, s.data(), s.size());
    out += s.size();
  }
}

Slice Chain::Flatten() const {
  if (slices_.empty()) return Slice();
  if (slices_.size() == 1) return slices_[0];
  Ref<Buffer> b = Buffer::New(size_);
  CopyTo(b->data());
  b->set_used(size_);
  return Slice(std::move(b), 0, size_);
}

Slice Packet::Flatten() const {
  Ref<Buffer> b = Buffer::New(size());
  std::memcpy(b->data(), header().data(), header().size());
  payload.CopyTo(b->data() + header().size());
  b->set_used(size());
  return Slice(std::move(b), 0, size());
}

}  // namespace ringwall::net
