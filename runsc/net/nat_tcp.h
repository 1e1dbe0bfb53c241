// NatTcp: the guest's TCP connections, each between an endpoint of the helper's stack and a socket of
// the host.
#ifndef RINGWALL_RUNSC_NET_NAT_TCP_H_
#define RINGWALL_RUNSC_NET_NAT_TCP_H_

#include "runsc/net/nat.h"

namespace ringwall {

class NatTcp {
 public:
  explicit NatTcp(Nat& nat);
  ~NatTcp();

  // A segment of the guest with these TCP flags.
  void FrameIn(const net::SockAddr& guest, const net::SockAddr& to, uint8_t flags,
               net::ByteSpan datagram, net::RxFrame frame);
  void Publish(UniqueFd listener, uint16_t guest_port);
  void Unpublish(int listener);
  // Moves bytes wherever there are some and room for them.
  void Work();
  bool busy() const { return !ready_.empty(); }
  void Sweep(net::TimePoint now);
  bool wants_sweep() const { return opening_ > 0; }

 private:
  class Flow;
  class Listener;
  class Published;
  struct Key {
    net::SockAddr guest, peer;
    template <typename H>
    friend H AbslHashValue(H h, const Key& k) {
      return H::combine(std::move(h), k.guest.addr, k.guest.port, k.peer.addr, k.peer.port);
    }
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct AddressOrder {
    bool operator()(const net::SockAddr& a, const net::SockAddr& b) const {
      return a.port != b.port ? a.port < b.port : a.addr < b.addr;
    }
  };
  static constexpr size_t kMostFlows = 4096;

  void Open(const Key& key, const net::SockAddr& host, net::ByteSpan datagram,
            net::RxFrame frame);
  void Incoming(UniqueFd fd, const net::SockAddr& peer, uint16_t guest_port);
  bool Listen(Flow& flow);
  void Unlisten(const net::SockAddr& at);
  void Remove(Flow& flow);

  Nat& nat_;
  absl::flat_hash_map<Key, std::unique_ptr<Flow>> flows_;
  std::map<net::SockAddr, std::unique_ptr<Listener>, AddressOrder> listeners_;
  std::vector<std::unique_ptr<Published>> published_;
  std::deque<Flow*> ready_;
  std::vector<Listener*> accepting_;
  size_t opening_ = 0;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_NAT_TCP_H_
