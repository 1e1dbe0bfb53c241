// The stack's endpoints as /proc/net and sock_diag show them.
#include "netstack/ip/raw_endpoint.h"
#include "netstack/link/packet_endpoint.h"
#include "netstack/stack.h"
#include "netstack/tcp/listen.h"
#include "netstack/tcp/protocol.h"
#include "netstack/udp/endpoint.h"

namespace ringwall::net {

void Endpoint::SetOwner(uint32_t uid, uint64_t inode) {
  StackEntry entry(*stack_);
  owner_uid_ = uid;
  owner_inode_ = inode;
}

SocketInfo Endpoint::Describe() {
  SocketInfo info;
  info.family = family_;
  info.uid = owner_uid_;
  // A descriptor is gone with Close; what lives on has no inode.
  info.inode = closed_ ? 0 : owner_inode_;
  info.device = static_cast<IfIndex>(opt(Option::kBindToDevice));
  info.mark = static_cast<uint32_t>(opt(Option::kMark));
  info.v6_only = flag(Option::kV6Only);
  info.reuse = flag(Option::kReuseAddr);
  info.reuse_port = flag(Option::kReusePort);
  info.tos = static_cast<uint8_t>(opt(Option::kTos));
  const int64_t tclass = opt(Option::kTrafficClass);
  info.traffic_class = tclass < 0 ? 0 : static_cast<uint8_t>(tclass);
  info.receive_buffer = static_cast<uint32_t>(opt(Option::kReceiveBuffer));
  info.send_buffer = static_cast<uint32_t>(opt(Option::kSendBuffer));
  info.congestion = static_cast<uint8_t>(opt(Option::kCongestion));
  info.cookie = this;
  info.local.addr = IpAddr::Any(family_);
  info.remote.addr = IpAddr::Any(family_);
  if (NetResult<SockAddr> a = DoLocal(); a.ok() && !a->addr.IsNone()) info.local = *a;
  if (NetResult<SockAddr> a = DoRemote(); a.ok() && !a->addr.IsNone()) info.remote = *a;
  DoDescribe(info);
  return info;
}

void TcpEndpoint::DoDescribe(SocketInfo& info) {
  info.kind = SocketInfo::Kind::kTcp;
  info.protocol = 6;
  info.bound = bound_.has_value();
  if (listener_) {
    info.state = static_cast<uint8_t>(TcpState::kListen);
    info.waiting = static_cast<uint32_t>(listener_->waiting());
    info.backlog = static_cast<uint32_t>(backlog_);
    info.receive_queue = info.waiting;
    info.send_queue = info.backlog;
    return;
  }
  if (!connection_) return;
  info.state = static_cast<uint8_t>(connection_->state());
  info.receive_queue = static_cast<uint32_t>(connection_->Readable());
  info.send_queue = static_cast<uint32_t>(connection_->unacked());
  info.write_shut = connection_->write_shut();
  info.read_shut = connection_->read_shut();
  info.tcp = connection_->Info(stack_->now());
  connection_->DescribeTimer(info, stack_->now());
  info.retransmits = info.tcp->retransmits;
  info.probes = info.tcp->probes;
}

// Which timer /proc/net/tcp tells of, in tcp_diag's order.
void TcpConnection::DescribeTimer(SocketInfo& info, TimePoint now) const {
  const auto set = [&](uint8_t kind, TimePoint at) {
    info.timer = kind;
    info.expires = at > now ? at - now : Duration();
  };
  if (!rto_at_.IsNever() || !tlp_at_.IsNever() || !reo_at_.IsNever()) {
    set(1, Min(rto_at_, Min(tlp_at_, reo_at_)));
  } else if (!persist_at_.IsNever()) {
    set(4, persist_at_);
  } else if (!keep_at_.IsNever()) {
    set(2, keep_at_);
  } else if (!fin_wait_at_.IsNever()) {
    set(2, fin_wait_at_);
  }
}

void TcpListener::Describe(std::vector<SocketInfo>& out) {
  const SocketInfo parent = endpoint_.Describe();
  for (const auto& [tuple, r] : requests_) {
    SocketInfo info;
    info.kind = SocketInfo::Kind::kTcp;
    info.protocol = 6;
    info.family = parent.family;
    info.state = static_cast<uint8_t>(TcpState::kSynReceived);
    info.local = {tuple.local, tuple.local_port, 0};
    info.remote = {tuple.remote, tuple.remote_port, 0};
    if (info.family == Family::kV6) {
      info.local.addr = info.local.addr.Mapped();
      info.remote.addr = info.remote.addr.Mapped();
    }
    info.uid = parent.uid;
    info.timer = 1;
    const TimePoint now = stack().now();
    info.expires = r->timer.at() > now && !r->timer.at().IsNever() ? r->timer.at() - now
                                                                   : Duration();
    info.retransmits = static_cast<uint8_t>(r->retries);
    info.cookie = r.get();
    out.push_back(std::move(info));
  }
}

void TcpProtocol::Describe(std::vector<SocketInfo>& out) {
  for (auto& [port, list] : listeners_) {
    for (TcpEndpoint* e : list) {
      out.push_back(e->Describe());
      if (e->listener() != nullptr) e->listener()->Describe(out);
    }
  }
  for (auto& [tuple, e] : connections_) {
    if (e) out.push_back(e->Describe());
  }
  for (auto& [tuple, tw] : time_wait_) {
    SocketInfo info;
    info.kind = SocketInfo::Kind::kTcp;
    info.protocol = 6;
    info.family = tuple.local.family();
    info.state = static_cast<uint8_t>(TcpState::kTimeWait);
    info.local = {tuple.local, tuple.local_port, 0};
    info.remote = {tuple.remote, tuple.remote_port, 0};
    info.timer = 3;
    info.expires = tw->expires > stack_.now() ? tw->expires - stack_.now() : Duration();
    info.cookie = tw.get();
    out.push_back(std::move(info));
  }
}

void UdpEndpoint::DoDescribe(SocketInfo& info) {
  info.kind = SocketInfo::Kind::kUdp;
  info.protocol = 17;
  info.state = remote_ ? 1 : 7;
  info.receive_queue = static_cast<uint32_t>(queued_bytes_);
  info.read_shut = read_shut_;
  info.write_shut = write_shut_;
  info.bound = bound_.has_value();
}

void UdpProtocol::Describe(std::vector<SocketInfo>& out) {
  for (auto& [port, list] : by_port_) {
    for (UdpEndpoint* e : list) out.push_back(e->Describe());
  }
}

void RawEndpoint::DoDescribe(SocketInfo& info) {
  info.kind = ping_ ? SocketInfo::Kind::kPing : SocketInfo::Kind::kRaw;
  info.protocol = protocol_;
  info.state = remote_ ? 1 : 7;
  info.receive_queue = static_cast<uint32_t>(queued_bytes_);
  // Raw sockets show their protocol where others have a port, ping sockets their identifier.
  info.local.port = ping_ ? ident_ : protocol_;
  info.bound = ping_ ? ident_ != 0 : true;
}

void RawProtocol::Describe(std::vector<SocketInfo>& out) {
  for (RawEndpoint* e : endpoints_) out.push_back(e->Describe());
}

void PacketEndpoint::DoDescribe(SocketInfo& info) {
  info.kind = SocketInfo::Kind::kPacket;
  info.device = iface_;
  info.ethertype = ethertype_;
  info.raw = raw_;
  info.receive_queue = static_cast<uint32_t>(queued_bytes_);
  info.drops = dropped_;
}

std::vector<SocketInfo> Stack::Sockets(SocketInfo::Kind kind) {
  StackEntry entry(*this);
  std::vector<SocketInfo> out;
  switch (kind) {
    case SocketInfo::Kind::kTcp:
      tcp_->Describe(out);
      break;
    case SocketInfo::Kind::kUdp:
      udp_->Describe(out);
      break;
    case SocketInfo::Kind::kRaw:
    case SocketInfo::Kind::kPing:
      raw_->Describe(out);
      std::erase_if(out, [&](const SocketInfo& s) { return s.kind != kind; });
      break;
    case SocketInfo::Kind::kPacket:
      for (PacketEndpoint* e : taps_) out.push_back(e->Describe());
      break;
  }
  return out;
}

}  // namespace ringwall::net
