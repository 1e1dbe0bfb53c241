// What the stack asks of the world around it: the time, randomness, a wake-up when a deadline
// moves closer, and links that carry frames.
#ifndef RINGWALL_NETSTACK_HOST_H_
#define RINGWALL_NETSTACK_HOST_H_

#include <string_view>
#include <cstdint>
#include <string>

#include "netstack/buffer.h"
#include "netstack/time.h"
#include "netstack/wire/address.h"
#include "sentry/base/ref.h"

namespace ringwall::net {

using IfIndex = uint32_t;  // 0: none or any

struct InterfaceAddress;
struct InterfaceInfo;
struct NeighbourInfo;
struct RouteEntry;
struct RuleEntry;
class Connection;

// All methods may be called from any thread that enters the stack, with the stack's lock held.
// They must not call back into the stack.
class StackHost {
 public:
  virtual ~StackHost() = default;
  // Monotonic. Asked once per entry into the stack.
  virtual TimePoint Now() = 0;
  // Unpredictable bytes.
  virtual void FillRandom(MutableByteSpan out) = 0;
  // The next deadline is now earlier than any told before: arrange for Stack::OnDeadline at or
  // after it.
  virtual void DeadlineChanged(TimePoint next) = 0;
  // Links, addresses, routes or neighbours changed: netlink's multicast groups are fed from it.
  struct Change {
    enum class Kind : uint8_t { kLink, kAddress, kRoute, kNeighbour, kRule, kConnection } kind;
    bool removed = false;
    IfIndex iface = 0;
    // What changed, as it is now or was until now; null where the kind differs or when so much
    // changed that no one thing can be named. Valid during the call.
    const InterfaceInfo* link = nullptr;
    const InterfaceAddress* address = nullptr;
    const RouteEntry* route = nullptr;
    const NeighbourInfo* neighbour = nullptr;
    const RuleEntry* rule = nullptr;
    const Connection* connection = nullptr;  // tracked
    bool fresh = false;                      // it is new; else it changed or was removed
  };
  virtual void OnChange(const Change&) {}
  // A line for the kernel's log (iptables' LOG, nftables' log); level as syslog's.
  virtual void OnLog(uint8_t level, std::string_view text) { (void)level, (void)text; }
};

// The outgoing side of a link. Counted: the stack keeps it until the interface is removed.
class LinkSink : public RefCounted<LinkSink> {
 public:
  // Takes one frame (or one IP packet, on links without link headers). Called with the stack's
  // lock held: queue it, do no I/O here.
  virtual void Transmit(Packet frame) = 0;
  // Called after the lock was dropped when frames were transmitted or one of the two below was
  // called: write out, tell the other end.
  virtual void Flush() {}
  // The interface was set up or down; it is gone. With the lock held, as Transmit.
  virtual void OnUp(bool up) { (void)up; }
  virtual void OnRemoved() {}
};

// A frame that arrived. `data` is shared, not copied: give each frame a buffer of its own or of a
// batch.
struct RxFrame {
  Slice data;
  bool checksum_valid = false;  // the transport checksum was verified, or need not be (GRO, veth)
  uint16_t gso_size = 0;        // a merged segment's original size; 0 when not merged
};

// Incoming events that an endpoint's user waits for; the values are poll(2)'s.
enum Readiness : uint32_t {
  kReadable = 0x001,     // POLLIN
  kUrgent = 0x002,       // POLLPRI
  kWritable = 0x004,     // POLLOUT
  kError = 0x008,        // POLLERR
  kHangup = 0x010,       // POLLHUP
  kReadHangup = 0x2000,  // POLLRDHUP
};

// Told when readiness may have changed, after the entry into the stack that changed it, without the
// stack's lock: who is woken finds it free. A last call may come after SetObserver(nullptr).
class EndpointObserver : public RefCounted<EndpointObserver> {
 public:
  virtual void OnReadiness(uint32_t bits) = 0;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_HOST_H_
