// Channel: a thread of the server that answers on one channel at a time, and sleeps while none is
// assigned to it.
#ifndef RINGWALL_GOFER_SERVER_CHANNEL_H_
#define RINGWALL_GOFER_SERVER_CHANNEL_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "gofer/proto/channel.h"
#include "gofer/server/lock.h"
#include "gofer/server/session.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::gofer {

// What one serving thread works with: requests are copied here before they are looked at.
class Buffers {
 public:
  Buffers() : memory_(new uint8_t[2 * kMaxMessage + kScratchSize]) {}
  std::span<uint8_t> request() { return {memory_.get(), kMaxMessage}; }
  std::span<uint8_t> reply() { return {memory_.get() + kMaxMessage, kMaxMessage}; }
  std::span<uint8_t> scratch() { return {memory_.get() + 2 * kMaxMessage, kScratchSize}; }

 private:
  std::unique_ptr<uint8_t[]> memory_;  // not zeroed: pages never used are never there
};

// Answers requests that come over `socket` until the peer is gone or misbehaves.
void ServeSocket(Session& session, int socket, Buffers& buffers);

class Channel {
 public:
  explicit Channel(Session& session) : session_(session) {}
  ~Channel();

  // Starts the thread. Returns an errno or 0. Preconditions: called once.
  int Start();
  // Waits until it is up: it makes no call afterwards that belongs to starting.
  void AwaitUp();
  // False when the thread is busy with another channel.
  bool Assign(UniqueFd* socket, ChannelMemory* memory);
  // Ends what is being served, and the thread.
  void Stop();

 private:
  static void* Main(void* self);
  void Run();

  Session& session_;
  pthread_t thread_ = {};
  bool started_ = false;
  ServerMutex mu_;
  std::condition_variable changed_;
  UniqueFd socket_ GUARDED_BY(mu_);       // valid while a channel is assigned
  ChannelMemory memory_ GUARDED_BY(mu_);  // valid if it has shared memory
  std::atomic<bool> stop_serving_ = false;
  bool up_ GUARDED_BY(mu_) = false;
  bool stop_ GUARDED_BY(mu_) = false;
};

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_SERVER_CHANNEL_H_
