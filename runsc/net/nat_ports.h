// NatPorts: --network=host. Opens the host's ports that the guest's sockets serve, at the Sentry's word,
// and has NatTcp and NatUdp pass on what comes.
#ifndef RINGWALL_RUNSC_NET_NAT_PORTS_H_
#define RINGWALL_RUNSC_NET_NAT_PORTS_H_

#include <map>

#include "runsc/net/nat.h"
#include "runsc/net/port_message.h"

namespace ringwall {

class NatPorts final : public NatWatcher {
 public:
  NatPorts(Nat& nat, NatTcp& tcp, NatUdp& udp, UniqueFd socket);
  void OnEvents(uint32_t events) override;
  int fd() const { return socket_.get(); }

 private:
  struct Key {
    net::SockAddr at;
    bool udp = false;
    bool operator<(const Key& o) const {
      if (udp != o.udp) return udp < o.udp;
      return at.port != o.at.port ? at.port < o.at.port : at.addr < o.at.addr;
    }
  };
  struct Port {
    size_t users = 0;      // sockets that share it
    std::vector<int> fds;  // of the host's sockets, which NatTcp and NatUdp own
  };
  static constexpr size_t kMostPorts = 4096;

  int Handle(const PortRequest& request);
  int Open(const net::SockAddr& at, bool udp, bool v6_only);
  int Close(const net::SockAddr& at, bool udp);

  Nat& nat_;
  NatTcp& tcp_;
  NatUdp& udp_;
  const UniqueFd socket_;
  std::map<Key, Port> ports_;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_NAT_PORTS_H_
