// FrameLink: an interface of a Stack over a host descriptor that carries one Ethernet frame per
// message, each behind a virtio-net header: a packet socket of the container's interface, or a
// SOCK_SEQPACKET pair to the network helper. Segments of up to 64 KiB go both ways unsplit.
//
// Frames out are written by whoever caused them, after the stack's lock was dropped, so a send
// costs no switch of threads; one writer at a time, so that they stay in order. Frames in are read
// in batches by one thread (Run) or by the caller's own loop (Receive). Nothing spins: with nothing
// to do Run sleeps in one ppoll without a timeout.
//
// What arrives is hostile: a length is all that is trusted of a message, the rest is the stack's to
// check.
#ifndef RINGWALL_RUNSC_NET_FRAME_LINK_H_
#define RINGWALL_RUNSC_NET_FRAME_LINK_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <atomic>
#include <deque>
#include <vector>

#include "netstack/device/vnet_header.h"
#include "netstack/stack.h"
#include "sentry/base/mutex.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

using net::VnetHeader;

class FrameLink final : public net::LinkSink {
 public:
  // `fd` is non-blocking or not, both serve. `wake` is an eventfd for Run's thread; -1 where the
  // owner has a loop of its own and looks at blocked().
  FrameLink(UniqueFd fd, UniqueFd wake);
  ~FrameLink() override;

  // Before the first frame.
  void Attach(net::Stack& stack, net::IfIndex iface);

  void Transmit(net::Packet frame) override;
  void Flush() override;

  // kSome: fewer than one batch holds, so that no more were there.
  enum class Got : uint8_t { kFrames, kSome, kNothing, kEnd };
  // Reads one batch, if there is any, and hands it to the stack. kEnd: the peer is gone.
  Got Receive();
  // The same, giving the frames to `out` instead.
  Got ReceiveInto(std::vector<net::RxFrame>* out);
  // Frames wait until the descriptor can be written.
  bool blocked() const { return blocked_.load(std::memory_order_relaxed); }
  // Serves the link until its peer is gone. Signals are blocked by the caller.
  void Run();
  int fd() const { return fd_.get(); }
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kBatch = 32;
  static constexpr size_t kLargest = 65536 + 18;  // a merged segment with its link header
  static_assert(kLargest <= net::Buffer::kFrameBlock);
  static constexpr size_t kCopyBelow = 2048;      // shorter ones get a buffer of their own size
  static constexpr size_t kMostQueued = 1024;     // frames, as txqueuelen
  static constexpr size_t kMostSlices = 20;       // of one frame; more are copied together

  struct Outgoing {
    VnetHeader vnet;
    net::Packet packet;
  };
  bool Drain();
  bool WriteSome();
  void Prepare(size_t slot);
  void DropIdleBuffers();

  const UniqueFd fd_;
  const UniqueFd wake_;
  RefPtr<net::Stack> stack_;
  net::IfIndex iface_ = 0;

  Mutex<LockClass::kLeaf> mu_;
  std::deque<Outgoing> queue_ GUARDED_BY(mu_);
  bool writing_ GUARDED_BY(mu_) = false;
  std::atomic<bool> blocked_{false};
  std::atomic<uint64_t> dropped_{0};

  // Of the one writer.
  std::vector<Outgoing> sending_;
  size_t sent_ = 0;
  // Of the one reader.
  std::array<RefPtr<net::Buffer>, kBatch> buffers_;
  std::array<VnetHeader, kBatch> headers_;
  std::array<std::array<iovec, 2>, kBatch> vectors_;
  std::array<mmsghdr, kBatch> messages_;
  std::vector<net::RxFrame> frames_;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_FRAME_LINK_H_
