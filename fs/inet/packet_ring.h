// PacketRing: the memory that a guest and an AF_PACKET socket share (PACKET_RX_RING, PACKET_TX_RING;
// Documentation/networking/packet_mmap.rst), in the three layouts that there are.
//
// The guest may write anything to it at any time: places and lengths are kept here, a status word is
// all that is read back; of a frame to be sent the length too, once.
#ifndef RINGWALL_FS_INET_PACKET_RING_H_
#define RINGWALL_FS_INET_PACKET_RING_H_

#include <vector>

#include "fs/socket/net_namespace.h"
#include "netstack/link/packet_endpoint.h"
#include "sentry/base/file_memory.h"
#include "sentry/base/unique_fd.h"
#include "sentry/kernel/timer_queue.h"

namespace ringwall {

enum class RingVersion : int32_t { kV1, kV2, kV3 };

// struct tpacket_req3, of which tpacket_req is the first four fields.
struct RingRequest {
  uint32_t block_size = 0, block_count = 0, frame_size = 0, frame_count = 0;
  uint32_t retire_ms = 0, private_size = 0, features = 0;
};
static_assert(sizeof(RingRequest) == 28);

// Memory that is mapped here and can be mapped by the guest.
class RingMemory {
 public:
  // ENOMEM.
  static Result<RingMemory> Create(size_t size);
  RingMemory() = default;
  RingMemory(RingMemory&& o) noexcept
      : fd_(std::move(o.fd_)),
        mapped_(std::move(o.mapped_)),
        at_(std::exchange(o.at_, nullptr)),
        size_(o.size_) {}
  RingMemory& operator=(RingMemory&& o) noexcept;
  ~RingMemory();
  uint8_t* data() const { return at_; }
  size_t size() const { return size_; }
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  MappedMemory mapped_;
  uint8_t* at_ = nullptr;
  size_t size_ = 0;
};

class PacketRing final : public net::PacketSink, private Timer {
 public:
  // What packet_set_ring() checks. EINVAL.
  static Result<void> Check(const RingRequest& request, RingVersion version, uint32_t reserve);
  // `queue` hears when a block is handed over by time; it outlives the ring's Stop.
  PacketRing(Kernel& kernel, const RingRequest& request, RingVersion version, uint32_t reserve,
             WaitQueue& queue);
  ~PacketRing() override;
  // To be called once before the last reference goes, without locks.
  void Stop();

  size_t size() const { return size_; }
  // The ring's part of the memory, before frames come.
  void SetMemory(uint8_t* at) { at_ = at; }
  // What PACKET_TIMESTAMP and SO_TIMESTAMPING make of the status is not told: stamps are software.
  bool Deliver(const net::TappedFrame& frame) override;
  // Whether the guest has something to read.
  bool Readable();
  // Frames that were lost because all blocks were the guest's; counted since the last call.
  uint32_t TakeFreezes();

  // Of a transmit ring: the next frame that is to be sent, copied; null: none. `more` frames follow
  // from the same place on.
  struct Outgoing {
    net::Slice data;
    bool malformed = false;
  };
  std::optional<Outgoing> NextToSend();
  bool CanSend();

 private:
  std::optional<int64_t> OnExpire(int64_t now_ns) override;
  bool DeliverFrame(const net::TappedFrame& f) REQUIRES(mu_);
  bool DeliverToBlock(const net::TappedFrame& f) REQUIRES(mu_);
  void OpenBlock() REQUIRES(mu_);
  void CloseBlock(bool by_time) REQUIRES(mu_);
  uint8_t* Frame(uint32_t index) const;
  uint8_t* Block(uint32_t index) const { return at_ + size_t{request_.block_size} * index; }

  Kernel& kernel_;
  const RingRequest request_;
  const RingVersion version_;
  const uint32_t reserve_;
  WaitQueue& queue_;
  const size_t size_;
  uint8_t* at_ = nullptr;
  Mutex<LockClass::kNetDevice> mu_;
  uint32_t head_ GUARDED_BY(mu_) = 0;  // the frame or block to be filled, or sent, next
  bool lost_ GUARDED_BY(mu_) = false;
  uint32_t freezes_ GUARDED_BY(mu_) = 0;
  // Of the open block.
  bool open_ GUARDED_BY(mu_) = false;
  uint32_t used_ GUARDED_BY(mu_) = 0, packets_ GUARDED_BY(mu_) = 0, last_ GUARDED_BY(mu_) = 0;
  uint64_t serial_ GUARDED_BY(mu_) = 1;
  bool stopped_ GUARDED_BY(mu_) = false;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_PACKET_RING_H_
