#include "fs/inet/packet_socket.h"

#include <linux/sockios.h>
#include <net/if_arp.h>
#include <sys/epoll.h>

#include "fs/inet/inet_control.h"
#include "fs/inet/inet_socket.h"
#include "fs/socket/socket_filter.h"
#include "fs/socket/timestamp.h"
#include "netstack/device/vnet_header.h"
#include "netstack/wire/checksum.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr int kSolPacket = 263;
constexpr int kAddMembership = 1, kDropMembership = 2, kRxRing = 5, kStatistics = 6,
              kCopyThresh = 7, kAuxdata = 8, kOrigdev = 9, kVersion = 10, kHdrLen = 11,
              kReserve = 12, kTxRing = 13, kLoss = 14, kVnetHdr = 15,
              kTimestamp = 17, kFanout = 18, kTxHasOff = 19, kQdiscBypass = 20,
              kRolloverStats = 21, kFanoutData = 22, kIgnoreOutgoing = 23,
              kVnetHdrSize = 24;

// struct sockaddr_ll.
struct SockAddrLlAbi {
  uint16_t family = AF_PACKET;
  uint16_t protocol = 0;  // network order
  int32_t index = 0;
  uint16_t hatype = 0;
  uint8_t packet_type = 0, halen = 0;
  uint8_t addr[8] = {};
};
static_assert(sizeof(SockAddrLlAbi) == 20);

// struct tpacket_auxdata.
struct AuxdataAbi {
  uint32_t status, length, snaplen;
  uint16_t mac, net, vlan_tci, vlan_tpid;
};
static_assert(sizeof(AuxdataAbi) == 20);

// struct packet_mreq.
struct PacketMreqAbi {
  int32_t index;
  uint16_t type, length;
  uint8_t address[8];
};

using net::VnetHeader;
constexpr int32_t kMergedVnetHeader = 12;  // struct virtio_net_hdr_mrg_rxbuf

uint16_t Swap(uint16_t v) { return static_cast<uint16_t>(v << 8 | v >> 8); }

std::optional<net::InterfaceInfo> FindInterface(NetNamespace& ns, net::IfIndex index) {
  for (net::InterfaceInfo& i : ns.stack().Interfaces()) {
    if (i.index == index) return std::move(i);
  }
  return std::nullopt;
}

uint16_t HardwareType(const net::InterfaceInfo& i) {
  switch (i.kind) {
    case net::LinkKind::kLoopback: return ARPHRD_LOOPBACK;
    case net::LinkKind::kEthernet: return ARPHRD_ETHER;
    default: return ARPHRD_NONE;
  }
}

}  // namespace

PacketSocket::PacketSocket(NetNamespace& net, int type, int protocol, Path path, uint32_t flags,
                           Ref<net::PacketEndpoint> endpoint)
    : Socket(net, AF_PACKET, type, protocol, std::move(path), flags),
      endpoint_(std::move(endpoint)) {
  endpoint_->SetObserver(events_);
  const Result<Attr> attr = inode().GetAttr();
  if (attr.ok()) endpoint_->SetOwner(attr->uid, attr->ino);
}

PacketSocket::~PacketSocket() {
  endpoint_->SetObserver(nullptr);
  endpoint_->Close();
  for (const bool transmit : {false, true}) {
    if (RefPtr<PacketRing> r = ring(transmit)) r->Stop();
  }
}

Ref<PacketSocket> PacketSocket::Create(Task& t, int type, int protocol, uint32_t flags) {
  NetNamespace& ns = NetNamespace::Of(t);
  Ref<net::PacketEndpoint> e =
      ns.stack().NewPacket(type == SOCK_RAW, Swap(static_cast<uint16_t>(protocol)));
  return MakeRef<PacketSocket>(ns, type, protocol, NewPath(t), OpenFlags(flags), std::move(e));
}

EventMask PacketSocket::Poll(EventMask wanted) {
  EventMask now = SocketEvents::ToEvents(endpoint_->Poll());
  if (RefPtr<PacketRing> r = ring(false); r && r->Readable()) now |= EPOLLIN | EPOLLRDNORM;
  if (RefPtr<PacketRing> r = ring(true); r && !r->CanSend()) now &= ~EventMask{EPOLLOUT | EPOLLWRNORM};
  if ((now & EPOLLOUT) != 0) now |= EPOLLWRBAND;
  return now & (wanted | EPOLLERR | EPOLLHUP);
}

Result<void> PacketSocket::Bind(Task&, const SocketAddress& a) {
  if (a.size < sizeof(SockAddrLlAbi) || a.family() != AF_PACKET) return Errno(EINVAL);
  const SockAddrLlAbi ll = a.As<SockAddrLlAbi>();
  uint16_t type = Swap(ll.protocol);
  if (type == 0) type = Swap(static_cast<uint16_t>(protocol()));
  return FromNet(endpoint_->BindTo(type, static_cast<net::IfIndex>(ll.index)));
}

Result<SocketAddress> PacketSocket::LocalName() {
  const net::SockAddr bound = TRY(FromNet(endpoint_->LocalAddress()));
  SockAddrLlAbi ll;
  ll.protocol = Swap(bound.port);
  ll.index = static_cast<int32_t>(bound.scope);
  if (std::optional<net::InterfaceInfo> i = FindInterface(net(), bound.scope)) {
    ll.hatype = HardwareType(*i);
    ll.halen = 6;
    memcpy(ll.addr, i->mac.b.data(), 6);
  }
  SocketAddress a = SocketAddress::Of(ll);
  // Without an interface there is no hardware address, and the name is shorter.
  a.size = static_cast<uint32_t>(offsetof(SockAddrLlAbi, addr) + ll.halen);
  return a;
}

Result<size_t> PacketSocket::SendMsg(Task&, SendArgs& args) {
  net::IfIndex device = 0;
  net::MacAddr to;
  uint16_t type = 0;
  if (args.to != nullptr) {
    if (args.to->size < sizeof(SockAddrLlAbi)) return Errno(EINVAL);
    const SockAddrLlAbi ll = args.to->As<SockAddrLlAbi>();
    if (args.to->size < offsetof(SockAddrLlAbi, addr) + ll.halen) return Errno(EINVAL);
    device = static_cast<net::IfIndex>(ll.index);
    type = Swap(ll.protocol);
    to = net::MacAddr::From(ll.addr);
  }
  if (RefPtr<PacketRing> r = ring(true)) return SendRing(*r, device, to, type);
  VnetHeader vnet = {};
  const size_t header = static_cast<size_t>(vnet_header_.load());
  if (header != 0) {
    if (args.src.remaining() < header) return Errno(EINVAL);
    std::array<std::byte, kMergedVnetHeader> bytes;
    TRY(GetWhole(args.src, std::span(bytes).first(header)));
    memcpy(&vnet, bytes.data(), sizeof(vnet));
  }
  const size_t size = args.src.remaining();
  if (size > 65550) {
    net::NetResult<net::SockAddr> bound = endpoint_->LocalAddress();
    const net::IfIndex out = device != 0 || !bound.ok() ? device : bound->scope;
    return Errno(FindInterface(net(), out) ? EMSGSIZE : ENXIO);
  }
  Ref<net::Buffer> buffer = net::Buffer::New(std::max<size_t>(size, 1));
  if (size > 0) TRY(GetWhole(args.src, std::as_writable_bytes(std::span(buffer->data(), size))));
  if (header != 0) {
    // virtio_net_hdr_to_skb(). Segments are not made here.
    if (vnet.gso_type != 0 || !vnet.CompleteChecksum({buffer->data(), size})) return Errno(EINVAL);
  }
  buffer->set_used(buffer->capacity());
  net::NetResult<size_t> sent =
      endpoint_->Send(net::Chain(net::Slice(std::move(buffer), 0, size)), device, to, type);
  if (sent.ok()) return *sent + header;
  if (sent.error() == net::NetError::kNoDevice) return Errno(ENXIO);
  return net::ToErrno(sent.error());
}

Result<size_t> PacketSocket::RecvMsg(Task& t, ReceiveArgs& args) {
  constexpr uint32_t kKnown =
      MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_ERRQUEUE;
  if ((args.flags & ~kKnown) != 0) return Errno(EINVAL);
  if ((args.flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
  const bool peek = (args.flags & MSG_PEEK) != 0;
  net::Datagram d =
      TRY(Wait(t, (args.flags & MSG_DONTWAIT) == 0, EPOLLIN | EPOLLERR,
               options_.receive_timeout_ns, [&] { return FromNet(endpoint_->Receive(peek)); }));
  const size_t size = d.data.size();
  const size_t header = static_cast<size_t>(vnet_header_.load());
  if (header != 0) {
    // Frames have whole checksums and are no longer than the interface's MTU.
    if (args.dst.remaining() < header) return Errno(EINVAL);
    const std::array<std::byte, kMergedVnetHeader> none = {};
    TRY(args.dst.Put(std::span(none).first(header)));
  }
  size_t left = std::min(size, args.dst.remaining());
  if (left < size) args.out_flags |= MSG_TRUNC;
  const size_t copied = left;
  for (const net::Slice& s : d.data.slices()) {
    if (left == 0) break;
    const size_t n = std::min(s.size(), left);
    TRY(PutWhole(args.dst, std::as_bytes(s.span()).first(n)));
    left -= n;
  }
  SockAddrLlAbi ll;
  ll.protocol = Swap(d.ethertype);
  ll.index = static_cast<int32_t>(d.iface);
  ll.packet_type = d.packet_type;
  ll.halen = 6;
  memcpy(ll.addr, d.link_src.b.data(), 6);
  if (std::optional<net::InterfaceInfo> i = FindInterface(net(), d.iface)) {
    ll.hatype = HardwareType(*i);
  }
  args.from = SocketAddress::Of(ll);
  // A six-byte hardware address leaves the name two bytes short of the structure.
  args.from.size = static_cast<uint32_t>(offsetof(SockAddrLlAbi, addr) + 6);
  args.from.size = std::max<uint32_t>(args.from.size, sizeof(SockAddrLlAbi));
  last_stamp_ns_ = d.when.nanos();
  if (args.control != nullptr) {
    WriteTimestamps(options_, d.when.nanos(), *args.control);
    if (auxdata_ != 0) {
      const uint16_t link = type() == SOCK_RAW ? 14 : 0;
      args.control->Put(kSolPacket, kAuxdata,
                        AuxdataAbi{1 /* TP_STATUS_USER */, d.original_size,
                                   static_cast<uint32_t>(size), 0, link, 0, 0});
    }
  }
  return header + ((args.flags & MSG_TRUNC) != 0 ? size : copied);
}

Result<void> PacketSocket::SetOption(int level, int name, OptionIn& in) {
  if (level != kSolPacket) return Errno(ENOPROTOOPT);
  // These take an int and nothing longer.
  for (const int exact : {kVersion, kCopyThresh, kReserve, kLoss, kTimestamp, kTxHasOff, kQdiscBypass,
                          kIgnoreOutgoing}) {
    if (name == exact && in.length() != sizeof(int32_t)) return Errno(EINVAL);
  }
  switch (name) {
    case kAddMembership:
    case kDropMembership:
      return ChangeMembership(in, name == kAddMembership);
    case kRxRing:
    case kTxRing:
      return SetRing(in, name == kTxRing);
    case kFanout:
      return SetFanout(in);
    case kFanoutData: {
      if (endpoint_->Fanout() == 0) return Errno(EINVAL);
      Ref<net::EndpointFilter> program = TRY(ReadFilter(in, options_.lock_filter != 0));
      return FromNet(endpoint_->SetFanoutProgram(std::move(program)));
    }
    case kVnetHdr:
      if (type() != SOCK_RAW) return Errno(EINVAL);
      {
        const int32_t v = TRY(in.Int());
        if (HasRings()) return Errno(EBUSY);
        vnet_header_ = v != 0 ? int32_t{sizeof(VnetHeader)} : 0;
      }
      return {};
    case kVnetHdrSize: {
      if (type() != SOCK_RAW) return Errno(EINVAL);
      const int32_t v = TRY(in.Int());
      if (HasRings()) return Errno(EBUSY);
      if (v != 0 && v != int32_t{sizeof(VnetHeader)} && v != kMergedVnetHeader) return Errno(EINVAL);
      vnet_header_ = v;
      return {};
    }
    case kTxHasOff: {
      const int32_t v = TRY(in.Int());
      if (!HasRings()) tx_has_off_ = v != 0;
      return {};
    }
    case kCopyThresh: {
      copy_thresh_ = TRY(in.Int());
      return {};
    }
    case kAuxdata: {
      const int32_t v = TRY(in.Int());
      auxdata_ = v != 0;
      return {};
    }
    case kOrigdev: {
      const int32_t v = TRY(in.Int());
      origdev_ = v != 0;
      return {};
    }
    case kVersion: {
      const int32_t v = TRY(in.Int());
      if (v < 0 || v > 2) return Errno(EINVAL);
      if (HasRings()) return Errno(EBUSY);
      version_ = v;
      return {};
    }
    case kReserve: {
      const int32_t v = TRY(in.Int());
      if (v < 0) return Errno(EINVAL);
      if (HasRings()) return Errno(EBUSY);
      reserve_ = v;
      return {};
    }
    case kLoss: {
      const int32_t v = TRY(in.Int());
      if (HasRings()) return Errno(EBUSY);
      loss_ = v != 0;
      return {};
    }
    case kTimestamp: {
      timestamp_ = TRY(in.Int());
      return {};
    }
    case kQdiscBypass: {
      const int32_t v = TRY(in.Int());
      qdisc_bypass_ = v != 0;
      return {};
    }
    case kIgnoreOutgoing: {
      const int32_t v = TRY(in.Int());
      if (v < 0 || v > 1) return Errno(EINVAL);
      ignore_outgoing_ = v;
      endpoint_->SetIgnoreOutgoing(v != 0);
      return {};
    }
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<void> PacketSocket::GetOption(int level, int name, OptionOut& out) {
  if (level != kSolPacket) return Errno(ENOPROTOOPT);
  switch (name) {
    case kStatistics: {
      const auto [seen, dropped] = endpoint_->TakeStatistics();
      const RefPtr<PacketRing> r = ring(false);
      const uint32_t freezes = r ? r->TakeFreezes() : 0;
      if (version_ == static_cast<int32_t>(RingVersion::kV3)) {
        out.Put(std::array<uint32_t, 3>{seen, dropped, freezes});
      } else {
        out.Put(std::array<uint32_t, 2>{seen, dropped});
      }
      return {};
    }
    case kAuxdata: out.Int(auxdata_); return {};
    case kOrigdev: out.Int(origdev_); return {};
    case kVnetHdr: out.Int(vnet_header_ != 0); return {};
    case kVnetHdrSize: out.Int(vnet_header_); return {};
    case kVersion: out.Int(version_); return {};
    case kHdrLen: {
      if (out.room() < sizeof(int32_t)) return Errno(EINVAL);
      const int32_t v = TRY(UserIn<int32_t>(out.addr()).CopyIn(out.task()));
      if (v < 0 || v > 2) return Errno(EINVAL);
      constexpr int32_t kSizes[] = {32, 32, 48};  // struct tpacket_hdr, tpacket2_hdr, tpacket3_hdr
      out.Int(kSizes[v]);
      return {};
    }
    case kCopyThresh: out.Int(copy_thresh_); return {};
    case kReserve: out.Int(reserve_); return {};
    case kLoss: out.Int(loss_); return {};
    case kTimestamp: out.Int(timestamp_); return {};
    case kFanout: out.Int(endpoint_->Fanout()); return {};
    case kTxHasOff: out.Int(tx_has_off_); return {};
    case kRolloverStats: return Errno(EINVAL);  // not of a group that rolls over
    case kQdiscBypass: out.Int(qdisc_bypass_); return {};
    case kIgnoreOutgoing: out.Int(ignore_outgoing_); return {};
    default: return Errno(ENOPROTOOPT);
  }
}

Result<void> PacketSocket::OnSocketOption(int name, int64_t value) {
  switch (name) {
    case SO_RCVBUF:
      endpoint_->SetBuffer(net::Option::kReceiveBuffer, static_cast<size_t>(value));
      return {};
    case SO_SNDBUF:
      endpoint_->SetBuffer(net::Option::kSendBuffer, static_cast<size_t>(value));
      return {};
    case SO_PEEK_OFF:
      return Errno(EOPNOTSUPP);
    default:
      return {};
  }
}

int PacketSocket::TakeSocketError() {
  const std::optional<net::NetError> e = endpoint_->TakeError();
  return e ? net::ToErrno(*e).value() : 0;
}

Result<int64_t> PacketSocket::DoIoctl(Task& t, uint32_t cmd, uint64_t arg) {
  int32_t n = 0;
  if (cmd == SIOCINQ) {
    n = static_cast<int32_t>(endpoint_->NextSize());
  } else if (cmd != SIOCOUTQ) {
    return StampIoctl(t, cmd, arg, last_stamp_ns_);
  }
  TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOut(t, n));
  return 0;
}

}  // namespace ringwall
