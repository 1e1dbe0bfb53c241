// Ancillary data of AF_INET and AF_INET6 datagrams: what a sender may ask for one message, and what
// a receiver asked to be told of each (ip(7), ipv6(7)).
#ifndef RINGWALL_FS_INET_INET_CONTROL_H_
#define RINGWALL_FS_INET_INET_CONTROL_H_

#include "fs/socket/socket.h"
#include "netstack/endpoint.h"
#include "netstack/udp/endpoint.h"

namespace ringwall {

// What recvmsg tells, one bit each; also other flags of IPPROTO_IP and IPPROTO_IPV6 that are kept
// for getsockopt only.
enum class IpFlag : uint8_t {
  kPktInfo, kRecvTtl, kRecvTos, kRecvOpts, kRetOpts, kPassSec, kRecvOrigDst, kChecksum,
  kRecvFragSize, kNoDefrag, kRecvErrRfc4884, kRouterAlert,
  kRecvPktInfo6, kPktInfo2292, kRecvHopLimit6, kHopLimit2292, kRecvTclass6, kRecvHopOpts6,
  kHopOpts2292, kRecvDstOpts6, kDstOpts2292, kRecvRtHdr6, kRtHdr2292, kRecvPathMtu6,
  kRecvOrigDst6, kRecvFragSize6, kRecvFlowInfo6, kDontFrag6, kAutoFlowLabel6, kFlowInfoSend6,
  kRouterAlertIsolate6, kRecvErrRfc4884V6, kFreeBind6, kTransparent6,
  kRouterAlert6, kRouterAlertOn6,
};

class IpFlags {
 public:
  static constexpr uint64_t Bit(IpFlag f) { return uint64_t{1} << static_cast<int>(f); }
  bool Has(IpFlag f) const { return (bits_.load(std::memory_order_relaxed) & Bit(f)) != 0; }
  void Set(IpFlag f, bool on) {
    if (on) {
      bits_.fetch_or(Bit(f));
    } else {
      bits_.fetch_and(~Bit(f));
    }
  }
  // Whether a receiver may want to be told something.
  bool any() const {
    constexpr uint64_t kOwn = Bit(IpFlag::kAutoFlowLabel6);
    return (bits_.load(std::memory_order_relaxed) & ~kOwn) != 0;
  }
  void CopyFrom(const IpFlags& o) { bits_ = o.bits_.load(); }

 private:
  std::atomic<uint64_t> bits_{0};
};

// What the control data of a sendmsg ask for. `v6`: the socket's family. EINVAL, EPERM.
Result<void> ReadInetControl(Task& t, bool v6, std::span<const std::byte> control,
                             net::SendParams* params, bool to_v4 = false);
// The same of a stream, which heeds SOL_SOCKET alone.
Result<void> ReadStreamControl(Task& t, std::span<const std::byte> control,
                               net::SendParams* params);
// What the socket's owner wants to know of a datagram.
void WriteInetControl(bool v6, const IpFlags& wants, const net::Datagram& d, uint16_t local_port,
                      ControlOut& out);

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_INET_CONTROL_H_
