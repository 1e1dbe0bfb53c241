// Packet memory. A Buffer is a counted block of bytes; a Slice is a counted part of one; a Chain
// is a sequence of slices; a Packet is a header being built in front of a chain. Bytes that a
// slice covers never change once it was handed over, so slices may be shared by queues, by the
// retransmission buffer of one connection and the receive queue of another.
#ifndef RINGWALL_NETSTACK_BUFFER_H_
#define RINGWALL_NETSTACK_BUFFER_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "netstack/wire/bytes.h"
#include "sentry/base/check.h"
#include "sentry/base/ref.h"

namespace ringwall::net {

class Buffer final : public RefCounted<Buffer> {
 public:
  // Blocks of these capacities are kept for the next use: what streams are sent in, and frames that
  // hold as much behind their headers.
  static constexpr size_t kStreamBlock = 64 << 10, kFrameBlock = kStreamBlock + 128;
  // The block is not cleared.
  static Ref<Buffer> New(size_t capacity);
  uint8_t* data() { return reinterpret_cast<uint8_t*>(this + 1); }
  size_t capacity() const { return capacity_; }
  // What one buffer costs, for accounting.
  size_t true_size() const { return capacity_ + sizeof(Buffer); }
  // Bytes at the front that were handed out. Only the owner of the tail appends behind it.
  size_t used() const { return used_; }
  void set_used(size_t n) { used_ = static_cast<uint32_t>(n); }

 protected:
  void LastRelease() const override;

 private:
  explicit Buffer(size_t capacity) : capacity_(static_cast<uint32_t>(capacity)) {}
  ~Buffer() override = default;
  uint32_t capacity_;
  uint32_t used_ = 0;
};

class Slice {
 public:
  Slice() = default;
  Slice(RefPtr<Buffer> buffer, size_t offset, size_t size)
      : buffer_(std::move(buffer)),
        offset_(static_cast<uint32_t>(offset)),
        size_(static_cast<uint32_t>(size)) {
    RW_DCHECK(size == 0 || offset + size <= buffer_->capacity());
  }
  // A copy in a buffer of its own.
  static Slice Copy(ByteSpan bytes);

  const uint8_t* data() const { return buffer_ ? buffer_->data() + offset_ : nullptr; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  ByteSpan span() const { return {data(), size_}; }
  size_t offset() const { return offset_; }
  Buffer* buffer() const { return buffer_.get(); }
  // Preconditions: from + n <= size().
  Slice Sub(size_t from, size_t n) const {
    RW_DCHECK(from + n <= size_);
    return Slice(buffer_, offset_ + from, n);
  }
  Slice Sub(size_t from) const { return Sub(from, size_ - from); }
  void RemovePrefix(size_t n) {
    RW_DCHECK(n <= size_);
    offset_ += static_cast<uint32_t>(n);
    size_ -= static_cast<uint32_t>(n);
  }
  void Truncate(size_t n) { size_ = static_cast<uint32_t>(std::min<size_t>(n, size_)); }
  // Makes the slice longer over bytes just appended behind it.
  void Grow(size_t n) { size_ += static_cast<uint32_t>(n); }
  // A slice that pins a much larger buffer, as a copy of its own; else itself. Queues call it so
  // that a peer cannot pin 64 KiB with one byte.
  Slice Compact() const;

 private:
  RefPtr<Buffer> buffer_;
  uint32_t offset_ = 0;
  uint32_t size_ = 0;
};

class Chain {
 public:
  Chain() = default;
  explicit Chain(Slice s) { Append(std::move(s)); }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  void Append(Slice s) {
    if (s.empty()) return;
    size_ += s.size();
    slices_.push_back(std::move(s));
  }
  void Append(const Chain& c) {
    for (const Slice& s : c.slices_) Append(s);
  }
  const auto& slices() const { return slices_; }
  // Preconditions: from + n <= size().
  Chain Sub(size_t from, size_t n) const;
  Chain Sub(size_t from) const { return Sub(from, size_ - from); }
  void Truncate(size_t n) {
    if (n < size_) *this = Sub(0, n);
  }
  // Copies all bytes out. Preconditions: out.size() >= size().
  void CopyTo(uint8_t* out) const;
  // One slice with all bytes; copies only when there is more than one.
  Slice Flatten() const;

 private:
  absl::InlinedVector<Slice, 2> slices_;
  size_t size_ = 0;
};

// What the link (or a host kernel behind it) is left to do to an outgoing frame.
struct Offload {
  bool needs_checksum = false;   // the field holds the pseudo header's sum
  uint16_t checksum_start = 0;   // from the start of the frame
  uint16_t checksum_offset = 0;  // from checksum_start
  enum class Gso : uint8_t { kNone, kTcp4, kTcp6, kUdp } gso = Gso::kNone;
  uint16_t gso_size = 0;         // payload bytes per segment
};

class Packet {
 public:
  static constexpr size_t kRoom = 176;

  Packet() = default;
  explicit Packet(Chain body) : payload(std::move(body)) {}
  // Makes room for n bytes in front of the header and returns them.
  uint8_t* Prepend(size_t n) {
    RW_CHECK(n <= start_);
    start_ = static_cast<uint16_t>(start_ - n);
    return room_.data() + start_;
  }
  void RemoveHeader(size_t n) { start_ = static_cast<uint16_t>(start_ + n); }
  uint8_t* header_data() { return room_.data() + start_; }
  ByteSpan header() const { return {room_.data() + start_, kRoom - start_}; }
  size_t size() const { return kRoom - start_ + payload.size(); }
  Slice Flatten() const;

  Chain payload;
  Offload offload;
  uint16_t transport_size = 0;  // header bytes from the transport header on

 private:
  uint16_t start_ = kRoom;
  std::array<uint8_t, kRoom> room_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_BUFFER_H_
