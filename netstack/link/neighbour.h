// Neighbours of one interface: who has which link address, with the states of RFC 4861 7.3.2,
// used for ARP and NDP alike, as Linux does (NUD_*).
#ifndef RINGWALL_NETSTACK_LINK_NEIGHBOUR_H_
#define RINGWALL_NETSTACK_LINK_NEIGHBOUR_H_

#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "netstack/buffer.h"
#include "netstack/time.h"
#include "netstack/timer_queue.h"
#include "netstack/wire/address.h"

namespace ringwall::net {

// The values are Linux's NUD_*.
enum class Nud : uint8_t {
  kNone = 0,
  kIncomplete = 0x01,
  kReachable = 0x02,
  kStale = 0x04,
  kDelay = 0x08,
  kProbe = 0x10,
  kFailed = 0x20,
  kNoArp = 0x40,
  kPermanent = 0x80,
};

struct NeighbourInfo {
  IpAddr addr;
  MacAddr mac;
  Nud state = Nud::kNone;
  bool router = false;
  uint8_t protocol = 0;  // NDA_PROTOCOL
  uint32_t probes = 0;
};

class NeighbourTable {
 public:
  static constexpr size_t kMaxEntries = 1024;            // gc_thresh3
  static constexpr size_t kMaxPending = 64;              // packets per unresolved neighbour
  static constexpr size_t kMaxPendingBytes = 212992;     // unres_qlen_bytes
  static constexpr int kProbes = 3;                      // mcast_solicit and ucast_solicit
  static constexpr Duration kRetrans = Duration::Seconds(1);
  static constexpr Duration kReachable = Duration::Seconds(30);
  static constexpr Duration kDelayFirstProbe = Duration::Seconds(5);

  // The interface's side: sends what the table decides on.
  class Owner {
   public:
    virtual ~Owner() = default;
    // Asks for addr: by multicast or broadcast, or to `unicast` alone.
    virtual void SendSolicit(const IpAddr& addr, std::optional<MacAddr> unicast) = 0;
    // `packet` starts with its IP header.
    virtual void SendResolved(Packet packet, const IpAddr& addr, const MacAddr& mac) = 0;
    // Nobody answered.
    virtual void OnUnreachable(const IpAddr& addr, Packet packet) = 0;
    virtual void OnNeighbourChange(const NeighbourInfo& info, bool removed) = 0;
  };

  NeighbourTable(Owner& owner, TimerQueue& timers) : owner_(owner), timers_(timers) {}

  // Sends packet to addr, now or when it is resolved.
  void Send(const IpAddr& addr, Packet packet, TimePoint now);
  // A link address was heard: unsolicited evidence (a request, a solicitation's source).
  void Learn(const IpAddr& addr, const MacAddr& mac, TimePoint now, bool create);
  // An answer: RFC 4861 7.2.5.
  void OnAdvert(const IpAddr& addr, std::optional<MacAddr> mac, bool solicited, bool override_,
                bool router, TimePoint now);
  // An upper layer saw progress: RFC 4861 7.3.1.
  void Confirm(const IpAddr& addr, TimePoint now);
  void SetPermanent(const IpAddr& addr, const MacAddr& mac);
  // By the user's hand. False when the table is full.
  bool Set(const NeighbourInfo& info, TimePoint now);
  bool Remove(const IpAddr& addr);
  void Flush(bool permanent_too);
  std::vector<NeighbourInfo> List() const;
  std::optional<NeighbourInfo> Find(const IpAddr& addr) const;
  size_t size() const { return table_.size(); }

 private:
  struct Entry {
    Entry(NeighbourTable& t, const IpAddr& a)
        : table(t), addr(a), timer([](void* e, TimePoint now) {
            static_cast<Entry*>(e)->table.OnTimer(*static_cast<Entry*>(e), now);
          }, this) {}
    NeighbourTable& table;
    IpAddr addr;
    MacAddr mac;
    Nud state = Nud::kNone;
    bool router = false;
    uint8_t protocol = 0;
    int probes = 0;
    TimePoint used;
    std::vector<Packet> pending;
    size_t pending_bytes = 0;
    Timer timer;
  };
  Entry* FindOrCreate(const IpAddr& addr, TimePoint now);
  void OnTimer(Entry& e, TimePoint now);
  void SetState(Entry& e, Nud state, TimePoint now);
  void SetMac(Entry& e, const MacAddr& mac, Nud state, TimePoint now);
  void Fail(Entry& e);
  static NeighbourInfo InfoOf(const Entry& e) {
    return {e.addr, e.mac, e.state, e.router, e.protocol, static_cast<uint32_t>(e.probes)};
  }
  bool MakeRoom(TimePoint now);

  Owner& owner_;
  TimerQueue& timers_;
  absl::flat_hash_map<IpAddr, std::unique_ptr<Entry>> table_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_LINK_NEIGHBOUR_H_
