// Ancillary data (cmsg(3)): a checked walk over what sendmsg was given, and a writer for recvmsg.
#ifndef RINGWALL_FS_SOCKET_CONTROL_H_
#define RINGWALL_FS_SOCKET_CONTROL_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "sentry/base/result.h"

namespace ringwall {

// struct cmsghdr.
struct CmsgHeader {
  uint64_t length = 0;  // with the header
  int32_t level = 0, type = 0;
};
static_assert(sizeof(CmsgHeader) == 16);

constexpr size_t CmsgAlign(size_t n) { return (n + 7) & ~size_t{7}; }

struct ControlMessage {
  int32_t level = 0, type = 0;
  std::span<const std::byte> data;

  // The data as a T; EINVAL when its size is another.
  template <typename T>
  Result<T> Value() const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (data.size() != sizeof(T)) return Errno(EINVAL);
    T v;
    memcpy(&v, data.data(), sizeof(v));
    return v;
  }
};

// Calls fn(ControlMessage) -> Result<void> for each message. EINVAL for a header whose length is
// wrong (CMSG_OK); what is left behind the last whole header is ignored (CMSG_NXTHDR).
template <typename F>
Result<void> ForEachControl(std::span<const std::byte> bytes, F fn) {
  size_t at = 0;
  while (bytes.size() - at >= sizeof(CmsgHeader)) {
    CmsgHeader h;
    memcpy(&h, bytes.data() + at, sizeof(h));
    if (h.length < sizeof(h) || h.length > bytes.size() - at) return Errno(EINVAL);
    TRY(fn(ControlMessage{h.level, h.type,
                          bytes.subspan(at + sizeof(h), h.length - sizeof(h))}));
    const size_t step = CmsgAlign(h.length);
    if (step > bytes.size() - at) break;
    at += step;
  }
  return {};
}

// What recvmsg's msg_control gets, cut as put_cmsg() does.
class ControlOut {
 public:
  explicit ControlOut(size_t room) : room_(room) {}

  void Put(int32_t level, int32_t type, std::span<const std::byte> data) {
    const size_t left = room_ - bytes_.size();
    if (left < sizeof(CmsgHeader)) {
      truncated_ = true;
      return;
    }
    size_t length = sizeof(CmsgHeader) + data.size();
    if (left < length) {
      truncated_ = true;
      length = left;
    }
    const CmsgHeader h = {length, level, type};
    const size_t at = bytes_.size();
    bytes_.resize(at + std::min(CmsgAlign(length), left));
    memcpy(bytes_.data() + at, &h, sizeof(h));
    if (length > sizeof(h)) {
      memcpy(bytes_.data() + at + sizeof(h), data.data(), length - sizeof(h));
    }
  }
  template <typename T>
  void Put(int32_t level, int32_t type, const T& v) {
    static_assert(std::is_trivially_copyable_v<T>);
    Put(level, type, std::as_bytes(std::span(&v, 1)));
  }

  size_t left() const { return room_ - bytes_.size(); }
  bool truncated() const { return truncated_; }  // MSG_CTRUNC
  void set_truncated() { truncated_ = true; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  size_t room_;
  std::vector<std::byte> bytes_;
  bool truncated_ = false;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_SOCKET_CONTROL_H_
