// The links behind virtual interfaces that lead out of a stack: dummy, veth and tun/tap.
#ifndef RINGWALL_NETSTACK_DEVICE_DUMMY_H_
#define RINGWALL_NETSTACK_DEVICE_DUMMY_H_

#include "netstack/host.h"

namespace ringwall::net {

// Takes every frame and keeps none.
class DummySink final : public LinkSink {
 public:
  void Transmit(Packet) override {}
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_DEVICE_DUMMY_H_
