// The link behind a tun or tap interface: frames out wait in a bounded queue until the file's owner
// reads them; what it writes comes in. The file itself is fs/netlink/tun.cc.
#ifndef RINGWALL_NETSTACK_DEVICE_TUN_H_
#define RINGWALL_NETSTACK_DEVICE_TUN_H_

#include <atomic>
#include <deque>
#include <optional>

#include "netstack/device/vnet_header.h"
#include "netstack/host.h"
#include "sentry/base/mutex.h"

namespace ringwall::net {

class TunLink final : public LinkSink {
 public:
  // Called after a frame was queued or the interface is gone, with the link's lock held: wake, no
  // more.
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void OnTun() = 0;
  };

  void Transmit(Packet frame) override;
  void Flush() override;
  void OnRemoved() override;

  // At most one file at a time; null: none. False when there is one.
  bool Attach(Observer* observer);
  void Detach(Observer* observer);
  bool attached() const;
  struct Frame {
    VnetHeader header;  // what the reader is left to do, where the interface offloads
    Slice bytes;
  };
  std::optional<Frame> Read();
  bool HasFrames() const;
  bool removed() const;
  void set_queue_length(size_t n);

  // TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP, and the flags of TUNSETIFF; ~0: no owner.
  std::atomic<bool> persistent{false};
  std::atomic<uint32_t> owner{~0u}, group{~0u}, flags{0};

 private:
  mutable Mutex<LockClass::kNetDevice> mu_;
  std::deque<Frame> queue_ GUARDED_BY(mu_);
  size_t limit_ GUARDED_BY(mu_) = 500;
  Observer* observer_ GUARDED_BY(mu_) = nullptr;
  bool removed_ GUARDED_BY(mu_) = false;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_DEVICE_TUN_H_
