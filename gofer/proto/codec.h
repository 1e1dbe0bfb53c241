// Reader and Writer: the only way into and out of a message. A Reader works on a private copy of
// the bytes (never on shared memory), gives out nothing that was not checked against the end, and
// answers EINVAL past it. A Writer never passes the end of its room; it remembers that it would
// have.
#ifndef RINGWALL_GOFER_PROTO_CODEC_H_
#define RINGWALL_GOFER_PROTO_CODEC_H_

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "gofer/proto/message.h"
#include "sentry/base/result.h"

namespace ringwall::gofer {

// Bytes as text, for host calls that fill or read a char buffer.
inline char* AsChars(std::span<uint8_t> bytes) {
  return static_cast<char*>(static_cast<void*>(bytes.data()));
}
inline const char* AsChars(std::span<const uint8_t> bytes) {
  return static_cast<const char*>(static_cast<const void*>(bytes.data()));
}

// One component of a path: 1 to 255 bytes, no '/', no NUL, not "." nor "..". Ends in a NUL, for
// host calls.
class Name {
 public:
  // EINVAL, or ENAMETOOLONG.
  static Result<Name> Make(std::string_view text);
  const char* c_str() const { return text_; }
  std::string_view view() const { return {text_, size_}; }

 private:
  Name() = default;
  char text_[kMaxNameLength + 1];
  uint16_t size_;
};

// 0, or why `text` is no name.
int CheckName(std::string_view text);
// True when every field of `attr` can be relied on: a known type, nanoseconds below a second,
// sizes that fit an off_t.
bool AttrIsSane(const Attr& attr);

class Reader {
 public:
  Reader() = default;
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  template <Wire T>
  Result<T> Read() {
    T value;
    if (bytes_.size() < sizeof(T)) return Errno(EINVAL);
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_ = bytes_.subspan(sizeof(T));
    return value;
  }
  // The view lives as long as the reader's bytes.
  Result<std::string_view> ReadBytes(size_t size) {
    if (bytes_.size() < size) return Errno(EINVAL);
    const std::string_view view(AsChars(bytes_), size);
    bytes_ = bytes_.subspan(size);
    return view;
  }
  Result<Name> ReadName(size_t size);
  // EINVAL when bytes are left: a message says exactly what it says.
  Result<void> End() const {
    if (!bytes_.empty()) return Errno(EINVAL);
    return {};
  }
  size_t left() const { return bytes_.size(); }

 private:
  std::span<const uint8_t> bytes_;
};

class Writer {
 public:
  Writer() = default;
  // The room may be shared with the peer: it is written only, never read back.
  explicit Writer(std::span<uint8_t> room) : room_(room) {}

  template <Wire T>
  void Put(const T& value) {
    PutRaw(&value, sizeof(T));
  }
  void PutBytes(std::string_view bytes) { PutRaw(bytes.data(), bytes.size()); }
  // Writes over what was put before at `offset`.
  template <Wire T>
  void Patch(size_t offset, const T& value) {
    if (offset + sizeof(T) <= used_) std::memcpy(room_.data() + offset, &value, sizeof(T));
  }
  // Room for the caller to fill itself, empty when there is none; Advance says how much it did.
  std::span<uint8_t> Rest() { return overflow_ ? std::span<uint8_t>() : room_.subspan(used_); }
  void Advance(size_t size) { used_ += size; }
  void Truncate(size_t size) {
    used_ = size;
    overflow_ = false;
  }
  size_t used() const { return used_; }
  size_t left() const { return room_.size() - used_; }
  bool overflow() const { return overflow_; }

 private:
  void PutRaw(const void* data, size_t size) {
    if (overflow_ || size > room_.size() - used_) {
      overflow_ = true;
      return;
    }
    if (size != 0) std::memcpy(room_.data() + used_, data, size);
    used_ += size;
  }

  std::span<uint8_t> room_;
  size_t used_ = 0;
  bool overflow_ = false;
};

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_PROTO_CODEC_H_
