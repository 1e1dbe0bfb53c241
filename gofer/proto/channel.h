// The shared memory of a channel: two words that count requests and replies, and the room for one
// of each. The server makes it and seals its size, so that neither side can take a page away under
// the other. Both sides write their own half only, but either could write all of it: each copies
// what it reads before it looks at it.
//
// A request: the client fills the request room, sets `request` to the next number and wakes the
// server if it said that it sleeps. The reply comes the same way back. Descriptors of a reply are
// sent over the channel's socket before the reply is announced.
#ifndef RINGWALL_GOFER_PROTO_CHANNEL_H_
#define RINGWALL_GOFER_PROTO_CHANNEL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "gofer/proto/message.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::gofer {

inline constexpr uint32_t kAnyCpu = ~0u;

struct ChannelWords {
  alignas(64) std::atomic<uint32_t> request;
  std::atomic<uint32_t> cpu;  // where the server had best run: a hint; kAnyCpu
  alignas(64) std::atomic<uint32_t> reply;
  std::atomic<uint32_t> service_us;  // how long the server worked on it: a hint
  alignas(64) std::atomic<uint32_t> server_sleeps;
  alignas(64) std::atomic<uint32_t> client_sleeps;
};
static_assert(sizeof(ChannelWords) <= 4096 && std::atomic<uint32_t>::is_always_lock_free);

inline constexpr size_t kChannelSize = 4096 + 2 * kMaxMessage;
static_assert(kChannelSize % 4096 == 0);

// A mapping of a channel's memory.
class ChannelMemory {
 public:
  // Makes new memory, sealed; `fd` is for the other side.
  static Result<ChannelMemory> Make(UniqueFd* fd);
  // Maps what the other side made; EPERM when its size is not sealed.
  static Result<ChannelMemory> Map(int fd);
  ChannelMemory() = default;
  ChannelMemory(ChannelMemory&& o) noexcept : base_(std::exchange(o.base_, nullptr)) {}
  ChannelMemory& operator=(ChannelMemory&& o) noexcept {
    std::swap(base_, o.base_);
    return *this;
  }
  ~ChannelMemory();

  bool valid() const { return base_ != nullptr; }
  ChannelWords& words() const { return *static_cast<ChannelWords*>(base_); }
  std::span<uint8_t> request_room() const { return {Bytes() + 4096, kMaxMessage}; }
  std::span<uint8_t> reply_room() const { return {Bytes() + 4096 + kMaxMessage, kMaxMessage}; }

 private:
  explicit ChannelMemory(void* base) : base_(base) {}
  uint8_t* Bytes() const { return static_cast<uint8_t*>(base_); }
  void* base_ = nullptr;
};

// Copies a whole message out of a room that the other side can write. Its size is read once; 0
// when that is impossible.
size_t CopyMessage(std::span<const uint8_t> room, std::span<uint8_t> copy);

// Waits while `word` is `value`, for at most `timeout_ms` (-1: for ever); may return early.
void FutexWait(std::atomic<uint32_t>& word, uint32_t value, int timeout_ms);
void FutexWake(std::atomic<uint32_t>& word);

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_PROTO_CHANNEL_H_
