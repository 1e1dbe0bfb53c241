// NatUdp: the guest's datagrams, one host socket for each of its ports. Only peers that the guest has
// written to may answer, as Linux's connection tracking has it; a published port hears everybody.
#ifndef RINGWALL_RUNSC_NET_NAT_UDP_H_
#define RINGWALL_RUNSC_NET_NAT_UDP_H_

#include <list>

#include "runsc/net/nat.h"

namespace ringwall {

class NatUdp {
 public:
  explicit NatUdp(Nat& nat);
  ~NatUdp();

  void FrameIn(const net::IpAddr& src, const net::IpAddr& dst, uint8_t ttl,
               net::ByteSpan datagram, net::ByteSpan transport, net::RxFrame& frame);
  void Publish(UniqueFd fd, uint16_t guest_port);
  void Unpublish(int fd);
  void Sweep(net::TimePoint now);
  bool wants_sweep() const { return !by_use_.empty(); }

 private:
  class Flow;
  struct Key {
    net::IpAddr guest;
    uint16_t port = 0;
    net::Family host = net::Family::kV4;  // of the host's socket: a resolver may be of another
    template <typename H>
    friend H AbslHashValue(H h, const Key& k) {
      return H::combine(std::move(h), k.guest, k.port, k.host);
    }
    friend bool operator==(const Key&, const Key&) = default;
  };
  static constexpr size_t kMostFlows = 1024;

  Flow* FindOrOpen(const Key& key);
  void Remove(Flow& flow);

  Nat& nat_;
  absl::flat_hash_map<Key, std::unique_ptr<Flow>> flows_;
  std::list<Flow*> by_use_;  // longest unused first
  std::unique_ptr<uint8_t[]> receive_;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_NAT_UDP_H_
