#include "netstack/endpoint.h"

#include <algorithm>

#include "netstack/reuse_group.h"
#include "netstack/wire/icmp.h"

namespace ringwall::net {
namespace {

constexpr size_t kMaxQueuedErrors = 64;

struct OptionRange {
  Option option;
  int64_t least;
  int64_t most;
};

// Values outside are EINVAL; everything not listed is a flag (any value, kept as 0 or 1) .
constexpr OptionRange kRanges[] = {
    {Option::kReceiveLowat, 0, INT32_MAX},
    {Option::kMark, INT64_MIN, INT64_MAX},
    {Option::kPriority, INT32_MIN, INT32_MAX},
    {Option::kBindToDevice, 0, INT32_MAX},
    {Option::kTtl, -1, 255},
    {Option::kTos, 0, 255},
    {Option::kMulticastTtl, -1, 255},
    {Option::kMulticastIf, 0, INT32_MAX},
    {Option::kMtuDiscover, 0, 5},
    {Option::kPortRange, 0, UINT32_MAX},
    {Option::kUnicastHops, -1, 255},
    {Option::kMulticastHops, -1, 255},
    {Option::kMulticastIf6, 0, INT32_MAX},
    {Option::kTrafficClass, -1, 255},
    {Option::kMtuDiscover6, 0, 5},
    {Option::kChecksum6, -1, INT32_MAX - 1},
    {Option::kMaxSegment, 0, 32767},
    {Option::kKeepIdle, 1, 32767},
    {Option::kKeepInterval, 1, 32767},
    {Option::kKeepCount, 1, 127},
    {Option::kSynCount, 1, 127},
    {Option::kLinger2, INT32_MIN, INT32_MAX},
    {Option::kDeferAccept, INT32_MIN, INT32_MAX},
    {Option::kWindowClamp, 0, INT32_MAX},
    {Option::kUserTimeout, 0, INT32_MAX},
    {Option::kNotSentLowat, 0, INT64_MAX},
    {Option::kCongestion, 0, 2},
    {Option::kFastOpen, 0, INT32_MAX},
};

constexpr int64_t kMinSendBuffer = 4608;     // SOCK_MIN_SNDBUF
constexpr int64_t kMinReceiveBuffer = 2304;  // SOCK_MIN_RCVBUF

}  // namespace

Endpoint::Endpoint(Ref<Stack> stack, Family family) : stack_(std::move(stack)), family_(family) {
  auto set = [this](Option o, int64_t v) { Store(options_, o, v); };
  const StackConfig& c = stack_->config();
  set(Option::kSendBuffer, static_cast<int64_t>(c.wmem_default));
  set(Option::kReceiveBuffer, static_cast<int64_t>(c.rmem_default));
  set(Option::kReceiveLowat, 1);
  set(Option::kTtl, -1);
  set(Option::kMulticastTtl, 1);
  set(Option::kMulticastLoop, 1);
  set(Option::kMulticastAll, family == Family::kV4);  // inet6_create() leaves it out
  set(Option::kMulticastAll6, 1);
  set(Option::kMtuDiscover, 1);
  set(Option::kUnicastHops, -1);
  set(Option::kMulticastHops, 1);
  set(Option::kMulticastLoop6, 1);
  set(Option::kMtuDiscover6, 1);
  set(Option::kChecksum6, -1);
  set(Option::kKeepIdle, c.tcp_keepalive_time);
  set(Option::kKeepInterval, c.tcp_keepalive_intvl);
  set(Option::kKeepCount, c.tcp_keepalive_probes);
  set(Option::kSynCount, c.tcp_syn_retries);
  set(Option::kNotSentLowat, 0);  // 0: the sysctl's
  set(Option::kCongestion, c.tcp_congestion);
}

Endpoint::~Endpoint() = default;

std::pair<uint16_t, uint16_t> Endpoint::PortRange() const {
  uint16_t low = stack_->config().port_min, high = stack_->config().port_max;
  const uint32_t own = static_cast<uint32_t>(opt(Option::kPortRange));
  const uint16_t own_low = static_cast<uint16_t>(own), own_high = static_cast<uint16_t>(own >> 16);
  const auto within = [&](uint16_t p) {
    return stack_->config().port_min <= p && p <= stack_->config().port_max;
  };
  if (own_low != 0 && within(own_low)) low = own_low;
  if (own_high != 0 && within(own_high)) high = own_high;
  return {low, high};
}

void Endpoint::LastRelease() const {
  if (closed_) {
    delete this;
    return;
  }
  Endpoint* self = const_cast<Endpoint*>(this);
  self->AddRef();
  self->Close();
  self->Release();
}

void Endpoint::SetObserver(RefPtr<EndpointObserver> observer) {
  StackEntry entry(*stack_);
  std::swap(observer_, observer);
}

uint32_t Endpoint::Poll() {
  StackEntry entry(*stack_);
  return DoPoll();
}

NetResult<void> Endpoint::Bind(const SockAddr& addr) {
  StackEntry entry(*stack_);
  TRY(DoBind(addr));
  // __inet6_bind(): an IPv6 address leaves no room for IPv4.
  const bool v6 = addr.addr.is_v6() && !addr.addr.IsAny() && !addr.addr.IsV4Mapped();
  if (v6) Store(options_, Option::kV6Only, 1);
  return {};
}

NetResult<void> Endpoint::CheckLocal(const SockAddr& addr) {
  StackEntry entry(*stack_);
  return CheckLocalLocked(addr.addr.Unmapped());
}

NetResult<void> Endpoint::CheckLocalLocked(const IpAddr& addr) const {
  // Linux lets groups and broadcasts be bound, of no use to TCP as they are.
  if (addr.IsAny() || addr.IsMulticast() || stack_->IsBroadcast(addr) || stack_->IsLocal(addr)) {
    return {};
  }
  if (flag(Option::kFreeBind) || flag(Option::kTransparent)) return {};
  return NetError::kAddrNotAvail;
}

NetResult<void> Endpoint::Connect(const SockAddr& addr) {
  StackEntry entry(*stack_);
  return DoConnect(addr);
}

NetResult<void> Endpoint::Shutdown(bool read, bool write) {
  StackEntry entry(*stack_);
  return DoShutdown(read, write);
}

void Endpoint::Close() {
  // Kept over the entry: the stack may drop the last other reference inside it.
  Ref<Endpoint> self(*this);
  StackEntry entry(*stack_);
  if (closed_) return;
  closed_ = true;
  observer_.reset();
  for (const GroupMembership& m : memberships_) stack_->LeaveGroup(m.iface, m.group);
  memberships_.clear();
  DoClose();
}

void Endpoint::SetFilter(RefPtr<EndpointFilter> filter) {
  StackEntry entry(*stack_);
  std::swap(filter_, filter);
}

RefPtr<EndpointFilter> Endpoint::Filter() {
  StackEntry entry(*stack_);
  return filter_;
}

bool Endpoint::ReadShut() {
  StackEntry entry(*stack_);
  return DoReadShut();
}

NetResult<SockAddr> Endpoint::LocalAddress() {
  StackEntry entry(*stack_);
  return DoLocal();
}

NetResult<SockAddr> Endpoint::RemoteAddress() {
  StackEntry entry(*stack_);
  return DoRemote();
}

std::optional<NetError> Endpoint::TakeError() {
  StackEntry entry(*stack_);
  return TakeErrorLocked();
}

std::optional<QueuedError> Endpoint::TakeQueuedError() {
  StackEntry entry(*stack_);
  if (error_queue_.empty()) return std::nullopt;
  QueuedError e = std::move(error_queue_.front());
  error_queue_.pop_front();
  // sock_dequeue_err_skb(): what was told here is not told by SO_ERROR again.
  const auto by_icmp = [](const QueuedError& q) { return q.origin == 2 || q.origin == 3; };
  if (!error_queue_.empty() && by_icmp(error_queue_.front())) {
    SetError(error_queue_.front().error);
  } else if (by_icmp(e)) {
    error_.reset();
  }
  return e;
}

void Endpoint::QueueNote(QueuedError e) {
  StackEntry entry(*stack_);
  // Completions that follow each other are one with a longer range: skb_zerocopy_notify_extend().
  if (e.origin == kOriginZeroCopy && !error_queue_.empty()) {
    QueuedError& last = error_queue_.back();
    if (last.origin == e.origin && last.data + 1 == e.info) {
      last.data = e.data;
      return;
    }
  }
  QueueError(std::move(e));
}

void Endpoint::QueueError(QueuedError e) {
  if (error_queue_.size() >= kMaxQueuedErrors) return;
  error_queue_.push_back(std::move(e));
  Notify(kError);
}

NetResult<void> Endpoint::SetOption(Option o, int64_t value) {
  StackEntry entry(*stack_);
  const OptionRange* range =
      std::find_if(std::begin(kRanges), std::end(kRanges),
                   [&](const OptionRange& r) { return r.option == o; });
  if (o == Option::kSendBuffer || o == Option::kReceiveBuffer) {
    // Linux: capped by the sysctl, then doubled; sock_setsockopt().
    const StackConfig& c = stack_->config();
    const bool send = o == Option::kSendBuffer;
    const int64_t most = static_cast<int64_t>(send ? c.wmem_max : c.rmem_max);
    value = std::min(std::max<int64_t>(value, 0), most) * 2;
    value = std::max(value, send ? kMinSendBuffer : kMinReceiveBuffer);
  } else if (range == std::end(kRanges)) {
    value = value != 0;
  } else if (value < range->least || value > range->most) {
    return NetError::kInvalid;
  }
  switch (o) {
    case Option::kTtl:
      if (value == 0) return NetError::kInvalid;
      break;
    case Option::kMulticastTtl:
      if (value == -1) value = 1;
      break;
    case Option::kMulticastHops:
      if (value == -1) value = 1;
      break;
    case Option::kTrafficClass:
      if (value == -1) value = 0;
      break;
    case Option::kMaxSegment:
      if (value != 0 && value < 88) return NetError::kInvalid;  // TCP_MIN_MSS
      break;
    case Option::kV6Only:
      if (DoLocal().ok() && DoLocal()->port != 0) return NetError::kInvalid;
      break;
    case Option::kBindToDevice:
      if (value != 0 && stack_->FindInterface(static_cast<IfIndex>(value)) == nullptr) {
        return NetError::kNoDevice;
      }
      break;
    case Option::kTos:
      // Linux: the ECN bits of a TCP socket are TCP's own.
      if (is_tcp()) value = (value & ~3) | (opt(o) & 3);
      break;
    default:
      break;
  }
  if ((o == Option::kRecvErr || o == Option::kRecvErr6) && value == 0) {
    error_queue_.EraseIf([](const QueuedError& q) { return q.origin != kOriginZeroCopy; });
  }
  const int64_t before = opt(o);
  Store(options_, o, value);
  NetResult<void> result = OnOption(o, value);
  if (!result.ok()) Store(options_, o, before);
  return result;
}

void Endpoint::SetBuffer(Option o, size_t size) {
  StackEntry entry(*stack_);
  Store(options_, o, static_cast<int64_t>(size));
  NetResult<void> never_fails = OnOption(o, static_cast<int64_t>(size));
  static_cast<void>(never_fails);
}

NetResult<int64_t> Endpoint::GetOption(Option o) {
  StackEntry entry(*stack_);
  return OnGetOption(o);
}

void Endpoint::BecomeIpv4() {
  StackEntry entry(*stack_);
  family_ = Family::kV4;
}

NetResult<uint32_t> Endpoint::PathMtuToPeer() {
  StackEntry entry(*stack_);
  const SockAddr remote = TRY(DoRemote());
  const Route route = TRY(stack_->FindRoute(
      {.dst = remote.addr.Unmapped(), .oif = static_cast<IfIndex>(opt(Option::kBindToDevice))}));
  return stack_->PathMtu(route);
}

NetResult<SockAddr> Endpoint::Normalise(const SockAddr& a) const {
  SockAddr out = a;
  out.addr = a.addr.Unmapped();
  if (family_ == Family::kV4 && !out.addr.is_v4()) return NetError::kAfNoSupport;
  if (family_ == Family::kV4 && !a.addr.is_v4()) return NetError::kAfNoSupport;
  if (family_ == Family::kV6 && out.addr.is_v4() && flag(Option::kV6Only)) {
    return NetError::kNetUnreach;
  }
  return out;
}

SockAddr Endpoint::ToUser(const SockAddr& a) const {
  SockAddr out = a;
  if (family_ == Family::kV6) out.addr = a.addr.Mapped();
  if (out.addr.IsNone()) out.addr = IpAddr::Any(family_);
  if (!out.addr.IsLinkLocal() || out.addr.is_v4()) out.scope = 0;
  return out;
}

uint8_t Endpoint::TtlFor(const IpAddr& dst) const {
  int64_t v = -1;
  if (dst.is_v4()) {
    v = opt(dst.IsMulticast() ? Option::kMulticastTtl : Option::kTtl);
  } else {
    v = opt(dst.IsMulticast() ? Option::kMulticastHops : Option::kUnicastHops);
  }
  return v < 0 ? stack_->config().default_ttl : static_cast<uint8_t>(v);
}

uint8_t Endpoint::TosFor(const IpAddr& dst) const {
  return static_cast<uint8_t>(opt(dst.is_v4() ? Option::kTos : Option::kTrafficClass));
}

IcmpMeaning MeaningOf(const IcmpError& e) {
  if (e.v6) {
    switch (e.type) {
      case kIcmp6Unreachable:
        switch (e.code) {
          case 0: return {NetError::kNetUnreach, false};
          case 1: return {NetError::kAccess, true};
          case 2: return {NetError::kHostUnreach, false};
          case 3: return {NetError::kHostUnreach, false};
          case 4: return {NetError::kRefused, true};
          case 5: return {NetError::kAccess, true};
          case 6: return {NetError::kAccess, true};
          default: return {NetError::kProtocol, false};
        }
      case kIcmp6PacketTooBig: return {NetError::kMessageSize, false};
      case kIcmp6ParamProblem: return {NetError::kProtocol, true};
      default: return {NetError::kHostUnreach, false};
    }
  }
  switch (e.type) {
    case kIcmpUnreachable:
      switch (e.code) {
        case 0: return {NetError::kNetUnreach, false};
        case 1: return {NetError::kHostUnreach, false};
        case 2: return {NetError::kNoProtoOpt, true};
        case 3: return {NetError::kRefused, true};
        case 4: return {NetError::kMessageSize, false};
        case 5: return {NetError::kOpNotSupp, false};
        case 6: return {NetError::kNetUnreach, true};
        case 7: return {NetError::kHostUnreach, true};
        case 9: return {NetError::kNetUnreach, true};
        case 10: return {NetError::kHostUnreach, true};
        case 11: return {NetError::kNetUnreach, false};
        case 12: return {NetError::kHostUnreach, false};
        case 13: case 14: case 15: return {NetError::kHostUnreach, true};
        default: return {NetError::kHostUnreach, true};
      }
    case kIcmpParamProblem: return {NetError::kProtocol, true};
    default: return {NetError::kHostUnreach, false};
  }
}

}  // namespace ringwall::net
