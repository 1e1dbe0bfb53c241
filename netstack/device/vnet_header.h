// The header of virtio-net in front of a frame: what is left to do to it. Tun devices, packet sockets and
// the container's own link speak it. See include/uapi/linux/virtio_net.h.
#ifndef RINGWALL_NETSTACK_DEVICE_VNET_HEADER_H_
#define RINGWALL_NETSTACK_DEVICE_VNET_HEADER_H_

#include <optional>
#include <vector>

#include "netstack/buffer.h"
#include "netstack/wire/bytes.h"

namespace ringwall::net {

// struct virtio_net_hdr, fields in the machine's order.
struct VnetHeader {
  static constexpr uint8_t kNeedsChecksum = 1, kDataValid = 2;                      // VIRTIO_NET_HDR_F_*
  static constexpr uint8_t kGsoTcp4 = 1, kGsoUdp = 3, kGsoTcp6 = 4, kGsoUdpL4 = 5;  // VIRTIO_NET_HDR_GSO_*
  static constexpr uint8_t kGsoEcn = 0x80;

  uint8_t flags = 0;
  uint8_t gso_type = 0;
  uint16_t header_size = 0;
  uint16_t gso_size = 0;
  uint16_t checksum_start = 0;
  uint16_t checksum_offset = 0;

  // Of a frame on its way out.
  static VnetHeader Of(const Packet& packet);
  // Completes the checksum that a sender left to be done; false when its place lies outside of the frame.
  bool CompleteChecksum(MutableByteSpan frame) const;
};
static_assert(sizeof(VnetHeader) == 10);

// Cuts a TCP segment that is longer than `mss` as a link with TSO does: `packet` begins with `link_header` bytes and
// an IP header. Checksums are made anew. None when it is no such packet.
std::optional<std::vector<Slice>> SplitTcp(ByteSpan packet, size_t link_header, size_t mss);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_DEVICE_VNET_HEADER_H_
