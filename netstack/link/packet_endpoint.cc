#include "netstack/link/packet_endpoint.h"

namespace ringwall::net {
namespace {

constexpr uint16_t kAll = 3;  // ETH_P_ALL
constexpr size_t kFrameCost = 256;
constexpr uint32_t kMaxFanout = 1 << 16;  // PACKET_FANOUT_MAX
constexpr uint8_t kRolloverFlag = 0x10;  // PACKET_FANOUT_FLAG_ROLLOVER: another one when the chosen is full

}  // namespace

PacketEndpoint::PacketEndpoint(Ref<Stack> stack, bool raw, uint16_t ethertype)
    : Endpoint(std::move(stack), Family::kNone), raw_(raw), ethertype_(ethertype) {}

NetResult<void> PacketEndpoint::BindTo(uint16_t ethertype, IfIndex iface) {
  StackEntry entry(*stack_);
  if (fanout_) return NetError::kInvalid;
  if (iface != 0 && stack_->FindInterface(iface) == nullptr) return NetError::kNoDevice;
  ethertype_ = ethertype;
  iface_ = iface;
  return {};
}

void PacketEndpoint::DoClose() {
  if (fanout_) std::erase(fanout_->members, this);
  fanout_.reset();
  sink_.reset();
  stack_->RemoveTap(this);
  queue_.clear();
}

uint32_t PacketEndpoint::DoPoll() {
  return kWritable | (queue_.empty() ? 0u : kReadable) | (error_ ? kError : 0u);
}

NetResult<size_t> PacketEndpoint::Send(Chain data, IfIndex iface, const MacAddr& dst,
                                       uint16_t ethertype) {
  StackEntry entry(*stack_);
  Interface* i = stack_->FindInterface(iface != 0 ? iface : iface_);
  if (i == nullptr) return NetError::kNoDevice;
  if (!i->up) return NetError::kNetDown;
  const bool ethernet = i->config.kind != LinkKind::kIp;
  const size_t header = ethernet ? kEthHeader : 0;
  const size_t size = data.size();
  if (size > i->config.mtu + (raw_ ? header : 0)) return NetError::kMessageSize;
  if (raw_ && size < header) return NetError::kInvalid;
  Packet p(std::move(data));
  if (!raw_ && ethernet) {
    WriteEthernet(p.Prepend(kEthHeader), dst, i->config.mac,
                  ethertype != 0 ? ethertype : ethertype_);
  }
  if (i->is_loopback()) {
    const Slice flat = p.Flatten();
    const uint16_t type = Load16(flat.data() + 12);
    if (type == kEthIpv4 || type == kEthIpv6) {
      stack_->LoopDatagram(flat.Sub(kEthHeader));
    } else {
      stack_->TransmitRawFrame(*i, Packet(Chain(flat)));
    }
    return size;
  }
  stack_->TransmitRawFrame(*i, std::move(p));
  return size;
}

NetResult<Datagram> PacketEndpoint::Receive(bool peek) {
  StackEntry entry(*stack_);
  if (std::optional<NetError> e = TakeErrorLocked()) return *e;
  if (queue_.empty()) return NetError::kWouldBlock;
  if (peek) return queue_.front();
  Datagram d = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= d.data.size() + kFrameCost;
  return d;
}

size_t PacketEndpoint::NextSize() {
  StackEntry entry(*stack_);
  return queue_.empty() ? 0 : queue_.front().data.size();
}

void PacketEndpoint::SetIgnoreOutgoing(bool ignore) {
  StackEntry entry(*stack_);
  ignore_outgoing_ = ignore;
}

std::pair<uint32_t, uint32_t> PacketEndpoint::TakeStatistics() {
  StackEntry entry(*stack_);
  return {std::exchange(seen_, 0), std::exchange(dropped_, 0)};
}

void PacketEndpoint::SetSink(RefPtr<PacketSink> sink) {
  StackEntry entry(*stack_);
  std::swap(sink_, sink);
}

bool PacketEndpoint::HasRoom() const {
  return queued_bytes_ < static_cast<size_t>(opt(Option::kReceiveBuffer));
}

NetResult<void> PacketEndpoint::JoinFanout(uint16_t id, uint8_t kind, uint8_t flags, uint32_t most) {
  StackEntry entry(*stack_);
  if (kind > static_cast<uint8_t>(FanoutGroup::Kind::kProgram)) return NetError::kInvalid;
  if (static_cast<FanoutGroup::Kind>(kind) == FanoutGroup::Kind::kRollover && (flags & kRolloverFlag) != 0) {
    return NetError::kInvalid;
  }
  if (fanout_) return NetError::kAlready;
  if (ethertype_ == 0) return NetError::kInvalid;  // hears nothing
  if (most > kMaxFanout) return NetError::kInvalid;
  RefPtr<FanoutGroup> group = stack_->FindFanout(id);
  if (group && most != 0 && most != group->most) return NetError::kInvalid;
  if (!group) {
    group = MakeRef<FanoutGroup>(id, static_cast<FanoutGroup::Kind>(kind), flags);
    group->ethertype = ethertype_;
    group->iface = iface_;
    if (most != 0) group->most = most;
  }
  if (static_cast<uint8_t>(group->kind) != kind || group->flags != flags ||
      group->ethertype != ethertype_ || group->iface != iface_) {
    return NetError::kInvalid;
  }
  if (group->members.size() >= group->most) return NetError::kNoSpace;
  group->members.push_back(this);
  fanout_ = std::move(group);
  return {};
}

NetResult<void> PacketEndpoint::SetFanoutProgram(RefPtr<EndpointFilter> program) {
  StackEntry entry(*stack_);
  if (!fanout_ || fanout_->kind != FanoutGroup::Kind::kProgram) return NetError::kInvalid;
  fanout_->program = std::move(program);
  return {};
}

uint32_t PacketEndpoint::Fanout() {
  StackEntry entry(*stack_);
  if (!fanout_) return 0;
  return fanout_->id | static_cast<uint32_t>(fanout_->kind) << 16 |
         static_cast<uint32_t>(fanout_->flags) << 24;
}

PacketEndpoint* FanoutGroup::Choose(Stack& stack, uint64_t serial, ByteSpan frame,
                                    size_t link_header) {
  if (serial == serial_) return chosen_;
  serial_ = serial;
  size_t place = 0;
  switch (kind) {
    case Kind::kHash: {
      // By flow: the addresses, and the ports where they stand without options.
      const ByteSpan ip = frame.subspan(std::min(link_header, frame.size()));
      const bool v6 = !ip.empty() && ip[0] >> 4 == 6;
      const size_t from = v6 ? 8 : 12, size = v6 ? 36 : 12;
      if (ip.size() >= from + size) place = SipHash(stack.key(), ip.subspan(from, size));
      break;
    }
    case Kind::kBalance:
      place = turn_++;
      break;
    case Kind::kRandom:
      place = stack.Random64();
      break;
    case Kind::kRollover:
      while (place + 1 < members.size() && !members[place]->HasRoom()) place++;
      break;
    case Kind::kProgram: {
      FilterInput in;
      in.data = frame;
      if (program) place = program->Run(in);
      break;
    }
    case Kind::kCpu:
    case Kind::kQueue:
      break;  // one queue, as a loopback has
  }
  place %= members.size();
  if ((flags & kRolloverFlag) != 0 && !members[place]->HasRoom()) {
    for (size_t i = 0; i < members.size(); i++) {
      if (members[i]->HasRoom()) place = i;
    }
  }
  chosen_ = members[place];
  return chosen_;
}

void PacketEndpoint::OnFrame(Interface& iface, ByteSpan frame, size_t link_header, bool outgoing,
                             uint64_t serial) {
  if (ethertype_ == 0 || (iface_ != 0 && iface_ != iface.index)) return;
  if (outgoing && (ethertype_ != kAll || ignore_outgoing_)) return;
  uint16_t type = 0;
  MacAddr src, dst;
  if (link_header != 0) {
    std::optional<EthernetView> eth = EthernetView::Parse(frame);
    if (!eth) return;
    type = eth->type();
    src = eth->src();
    dst = eth->dst();
  } else if (!frame.empty()) {
    type = frame[0] >> 4 == 6 ? kEthIpv6 : kEthIpv4;
  }
  if (ethertype_ != kAll && ethertype_ != type) return;
  PacketType t = PacketType::kHost;
  if (outgoing) {
    t = PacketType::kOutgoing;
  } else if (dst.IsBroadcast()) {
    t = PacketType::kBroadcast;
  } else if (dst.IsMulticast()) {
    t = PacketType::kMulticast;
  } else if (iface.config.kind == LinkKind::kEthernet && dst != iface.config.mac) {
    t = PacketType::kOtherHost;
  }
  if (fanout_ && fanout_->Choose(*stack_, serial, frame, link_header) != this) return;
  ByteSpan kept = raw_ ? frame : frame.subspan(link_header);
  const size_t whole = kept.size();
  if (whole == 0) return;  // run_filter() of no filter gives the length
  if (filter_) {
    FilterInput in;
    in.data = kept;
    in.link = frame;
    in.network = frame.subspan(link_header);
    in.ethertype = type;
    in.packet_type = static_cast<uint8_t>(t);
    in.iface = iface.index;
    in.hardware_type = iface.is_loopback() ? 772 : 1;
    const uint32_t keep = filter_->Run(in);
    if (keep == 0) return;
    kept = kept.first(std::min<size_t>(keep, kept.size()));
  }
  seen_++;
  if (sink_) {
    TappedFrame f;
    f.data = kept;
    f.whole = whole;
    f.link_header = raw_ ? link_header : 0;
    f.ethertype = type;
    f.hardware_type = iface.is_loopback() ? 772 : 1;
    f.packet_type = static_cast<uint8_t>(t);
    f.iface = iface.index;
    f.src = src;
    f.when = stack_->now();
    if (!sink_->Deliver(f)) dropped_++;
    Notify(kReadable);
    return;
  }
  const size_t cost = kept.size() + kFrameCost;
  if (queued_bytes_ + cost > static_cast<size_t>(opt(Option::kReceiveBuffer))) {
    dropped_++;
    return;
  }
  Datagram d;
  d.data = Chain(Slice::Copy(kept));
  d.original_size = static_cast<uint32_t>(whole);
  d.iface = iface.index;
  d.ethertype = type;
  d.link_src = src;
  d.when = stack_->now();
  d.packet_type = static_cast<uint8_t>(t);
  queued_bytes_ += cost;
  queue_.push_back(std::move(d));
  Notify(kReadable);
}

}  // namespace ringwall::net
