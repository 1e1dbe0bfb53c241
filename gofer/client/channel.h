// ClientChannel: one way to the server, used by one call at a time. Call: one request and its
// reply on a channel that it has to itself.
#ifndef RINGWALL_GOFER_CLIENT_CHANNEL_H_
#define RINGWALL_GOFER_CLIENT_CHANNEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "gofer/client/client.h"
#include "gofer/proto/channel.h"
#include "gofer/proto/codec.h"
#include "gofer/proto/socket.h"

namespace ringwall::gofer {

// The last errno that Linux gives to programs: a gofer cannot send the Sentry's internal ones.
inline constexpr int kMaxErrno = 133;

class ClientChannel {
 public:
  // With or without shared memory.
  explicit ClientChannel(UniqueFd socket, ChannelMemory memory = {});
  ~ClientChannel();

  // Where the next request is written.
  std::span<uint8_t> request_room();
  // Sends the request written there and waits. The reply's bytes are private memory, valid until
  // the next Exchange. An error means that the connection is of no more use.
  Result<std::span<const uint8_t>> Exchange(size_t request_size, Descriptors* fds);
  // Makes an Exchange that waits fail, soon. Any thread.
  void Interrupt();
  // Where the last request came from, and so where the server's thread is; -1 before the first.
  int cpu() const { return cpu_; }

 private:
  const UniqueFd socket_;
  std::atomic<bool> interrupted_ = false;
  Result<size_t> ExchangeShared(Descriptors* fds);
  Result<void> WaitForReply(uint32_t before);
  Result<void> WaitForSocket();
  void NoteWait(int64_t waited);

  const ChannelMemory memory_;
  uint32_t last_ = 0;  // number of the last request in shared memory
  int cpu_ = -1;
  // The server is not bound before this time; for how long the next time; good waits since then.
  int64_t leave_until_ = 0;
  int64_t leave_ = 0;
  uint32_t calm_ = 0;
  const std::unique_ptr<uint8_t[]> request_;  // null with shared memory
  const std::unique_ptr<uint8_t[]> reply_;
};

class Call {
 public:
  // On a channel of the client's pool.
  explicit Call(GoferClient& client);
  // On a given one.
  Call(GoferClient& client, ClientChannel& channel) : client_(client), channel_(&channel) {}
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Starts the request: the caller puts its body into the returned writer.
  Writer& Begin(Op op);
  // Sends it; the errno of the reply, or EIO.
  Result<void> Run();

  // The next part of the reply; EIO and a broken connection when it is not there.
  template <Wire T>
  Result<T> Get() {
    Result<T> value = reply_.Read<T>();
    if (!value.ok()) return Malformed();
    return value;
  }
  Result<std::string_view> GetBytes(size_t size);
  Result<Attr> GetAttr();
  // The reply's only descriptor, which has to be of the given type; fails when there is none. ENFILE when
  // it was promised and did not arrive.
  Result<UniqueFd> GetFd(uint32_t type);
  // The first of several descriptors that are left, checked in the same way. Null when they did not arrive.
  Result<UniqueFd> NextFd(uint32_t type);
  bool HasFd() const { return fds_.count != 0 || lost_fds_; }
  bool lost_fds() const { return lost_fds_; }
  void ForgetLostFds() { lost_fds_ = false; }
  Descriptors& fds() { return fds_; }
  size_t left() const { return reply_.left(); }
  // Nothing may be left, neither bytes nor descriptors.
  Result<void> End();
  Errno Malformed();

 private:
  Result<UniqueFd> Checked(UniqueFd fd, uint32_t type);

  GoferClient& client_;
  ClientChannel* channel_ = nullptr;
  bool pooled_ = false;
  uint64_t seq_ = 0;
  Writer writer_;
  Reader reply_;
  Descriptors fds_;
  uint32_t next_fd_ = 0;
  bool lost_fds_ = false;
};

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_CLIENT_CHANNEL_H_
