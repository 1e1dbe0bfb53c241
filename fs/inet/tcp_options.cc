// The options of IPPROTO_TCP (net/ipv4/tcp.c: do_tcp_setsockopt, do_tcp_getsockopt).
#include <netinet/in.h>

#include <algorithm>
#include <string_view>

#include "fs/inet/tcp_socket.h"
#include "fs/socket/tcp_info.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

using net::Option;

// linux/tcp.h, in part too new for the C library's header.
enum : int {
  kNodelay = 1, kMaxseg = 2, kCork = 3, kKeepidle = 4, kKeepintvl = 5, kKeepcnt = 6, kSyncnt = 7,
  kLinger2 = 8, kDeferAccept = 9, kWindowClamp = 10, kInfo = 11, kQuickack = 12, kCongestion = 13,
  kMd5sig = 14, kThinLinear = 16, kThinDupack = 17, kUserTimeout = 18, kRepair = 19,
  kRepairQueue = 20, kQueueSeq = 21, kRepairOptions = 22, kFastopen = 23, kTimestamp = 24,
  kNotsentLowat = 25, kCcInfo = 26, kSaveSyn = 27, kSavedSyn = 28, kRepairWindow = 29,
  kFastopenConnect = 30, kUlp = 31, kMd5sigExt = 32, kFastopenKey = 33, kFastopenNoCookie = 34,
  kZerocopyReceive = 35, kInq = 36, kTxDelay = 37, kIsMptcp = 43, kRtoMaxMs = 44, kRtoMinUs = 45,
  kDelackMaxUs = 46,
};

struct NumberRow {
  int name;
  Option option;
};

constexpr NumberRow kNumbers[] = {
    {kNodelay, Option::kNoDelay},
    {kMaxseg, Option::kMaxSegment},
    {kCork, Option::kCork},
    {kKeepidle, Option::kKeepIdle},
    {kKeepintvl, Option::kKeepInterval},
    {kKeepcnt, Option::kKeepCount},
    {kSyncnt, Option::kSynCount},
    {kUserTimeout, Option::kUserTimeout},
};

const NumberRow* Find(int name) {
  const NumberRow* r = std::find_if(std::begin(kNumbers), std::end(kNumbers),
                                    [&](const NumberRow& x) { return x.name == name; });
  return r == std::end(kNumbers) ? nullptr : r;
}

constexpr int kOriginalDst = 80;  // SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST
constexpr int32_t kMinClamp = 1152;  // half of SOCK_MIN_RCVBUF
constexpr int64_t kFirstTimeout = 1, kMaxTimeout = 120;  // seconds

// TCP_DEFER_ACCEPT is kept as a number of retransmissions: secs_to_retrans(), retrans_to_secs().
int64_t RoundToRetransmits(int64_t seconds) {
  if (seconds <= 0) return 0;
  int64_t period = kFirstTimeout, timeout = kFirstTimeout;
  for (int n = 1; period < seconds && n < 255; n++) {
    timeout = std::min(timeout * 2, kMaxTimeout);
    period += timeout;
  }
  return period;
}

constexpr size_t kMaxName = 16;  // TCP_CA_NAME_MAX

Result<std::string> NameOf(OptionIn& in) {
  if (in.length() < 1) return Errno(EINVAL);
  const std::vector<std::byte> bytes = TRY(in.Bytes(kMaxName - 1));
  std::string name(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  name.resize(strnlen(name.data(), name.size()));
  return name;
}

}  // namespace

Result<void> TcpSocket::SetOption(int level, int name, OptionIn& in) {
  return level == IPPROTO_TCP ? SetTcpOption(name, in) : InetSocket::SetOption(level, name, in);
}

Result<void> TcpSocket::GetOption(int level, int name, OptionOut& out) {
  if (level == IPPROTO_TCP) return GetTcpOption(name, out);
  if (name == kOriginalDst && (level == IPPROTO_IP || (level == IPPROTO_IPV6 && is_v6()))) {
    return GetOriginalDestination(level, out);
  }
  return InetSocket::GetOption(level, name, out);
}

// getorigdst() and ipv6_getorigdst(): where a redirected connection was meant to go.
Result<void> TcpSocket::GetOriginalDestination(int level, OptionOut& out) {
  const bool v6 = level == IPPROTO_IPV6;
  if (out.room() == INT32_MAX) return Errno(EINVAL);  // a negative length
  if (out.room() < (v6 ? sizeof(SockAddrIn6Abi) : sizeof(SockAddrInAbi))) return Errno(EINVAL);
  net::NetResult<net::SockAddr> local = tcp_->LocalAddress(), remote = tcp_->RemoteAddress();
  if (!local.ok() || !remote.ok()) return Errno(ENOENT);
  // An IPv6 socket with an IPv4 peer finds it by the level of the packets.
  if (remote->addr.Unmapped().is_v4() == v6) return Errno(ENOENT);
  const net::SockAddr first = TRY(FromNet(net().stack().OriginalDestination(*local, *remote)));
  const SocketAddress name = ToSocketAddress(v6 ? AF_INET6 : AF_INET, {first.addr.Unmapped(), first.port, 0});
  out.Set(std::span(name.bytes).first(name.size));
  return {};
}

Result<void> TcpSocket::SetTcpOption(int name, OptionIn& in) {
  switch (name) {
    case kCongestion: {
      const std::string wanted = TRY(NameOf(in));
      for (size_t i = 0; i < std::size(net::kCongestionNames); i++) {
        if (wanted == net::kCongestionNames[i]) {
          return SetNumber(Option::kCongestion, static_cast<int64_t>(i));
        }
      }
      return Errno(ENOENT);
    }
    case kUlp:
      TRY(NameOf(in));
      return Errno(ENOENT);  // as without the tls module
    case kFastopenKey: {
      if (in.length() != 16 && in.length() != 32) return Errno(EINVAL);
      const std::vector<std::byte> bytes = TRY(in.Bytes(32));
      std::vector<net::SipKey> keys(bytes.size() / 16);
      std::memcpy(keys.data(), bytes.data(), keys.size() * 16);
      tcp_->SetFastOpenKeys(std::move(keys));
      return {};
    }
    default:
      break;
  }
  const int32_t value = TRY(in.Int());
  if (const NumberRow* row = Find(name)) return SetNumber(row->option, value);
  const net::TcpState state = tcp_->State();
  const bool fresh = state == net::TcpState::kClosed || state == net::TcpState::kListen;
  const auto flag = [&](std::atomic<int32_t>& to, int32_t most) -> Result<void> {
    if (value < 0 || value > most) return Errno(EINVAL);
    to = value;
    return {};
  };
  switch (name) {
    case kWindowClamp:
      if (value == 0 && state != net::TcpState::kClosed) return Errno(EINVAL);
      if (value == 0) return SetNumber(Option::kWindowClamp, 0);
      return SetNumber(Option::kWindowClamp, std::max(value, kMinClamp));
    case kQuickack:
      quickack_ = value != 0;
      return SetNumber(Option::kQuickAck, value);
    case kLinger2:
      return SetNumber(Option::kLinger2, value < 0 ? -1 : std::min<int64_t>(value, kMaxTimeout));
    case kDeferAccept:
      return SetNumber(Option::kDeferAccept, RoundToRetransmits(value));
    case kNotsentLowat:
      notsent_lowat_ = value;
      return SetNumber(Option::kNotSentLowat, static_cast<uint32_t>(value));
    case kFastopen:
      if (value < 0 || !fresh) return Errno(EINVAL);
      return SetNumber(
          Option::kFastOpen,
          std::min<int64_t>(value, static_cast<int64_t>(net().stack().Config().somaxconn)));
    case kFastopenConnect:
      if (value < 0 || value > 1) return Errno(EINVAL);
      if ((net().stack().Config().tcp_fastopen & 1) == 0) return Errno(EOPNOTSUPP);
      if (state != net::TcpState::kClosed) return Errno(EINVAL);
      fastopen_connect_ = value;
      tcp_->SetFastOpenConnect(value != 0);
      return {};
    case kFastopenNoCookie:
      if (value < 0 || value > 1 || !fresh) return Errno(EINVAL);
      fastopen_no_cookie_ = value;
      tcp_->SetFastOpenNoCookie(value != 0);
      return {};
    case kThinLinear:
      return flag(thin_linear_, 1);
    case kThinDupack:
      return value < 0 || value > 1 ? Result<void>(Errno(EINVAL)) : Result<void>();
    case kSaveSyn:
      return flag(save_syn_, 2);
    case kInq:
      return flag(inq_, 1);
    case kRtoMaxMs:
      if (value < 1000 || value > 120000) return Errno(EINVAL);
      rto_max_ms_ = value;
      return {};
    case kTimestamp:
    case kRepairWindow:
    case kRepairQueue:
      return Errno(EPERM);  // only while repairing
    case kQueueSeq:
      return Errno(state == net::TcpState::kClosed ? EINVAL : EPERM);
    case kRepairOptions:
      return Errno(EINVAL);
    case kRepair:
      return Errno(EPERM);
    case kTxDelay:
      // Whole microseconds times eight must fit. Only the fq scheduler, which no link here has, keeps the
      // departure times that Linux makes of it.
      if (value < 0 || value >= 1 << 28) return Errno(EINVAL);
      tx_delay_us_ = value;
      return {};
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<void> TcpSocket::GetTcpOption(int name, OptionOut& out) {
  if (const NumberRow* row = Find(name)) {
    const int64_t v = TRY(GetNumber(row->option));
    out.Int(v);
    return {};
  }
  switch (name) {
    case kLinger2: {
      const int64_t v = TRY(GetNumber(Option::kLinger2));
      out.Int(v == 0 ? net().stack().Config().tcp_fin_timeout.seconds() : v);
      return {};
    }
    case kDeferAccept: {
      const int64_t v = TRY(GetNumber(Option::kDeferAccept));
      out.Int(v);
      return {};
    }
    case kNotsentLowat: {
      out.Int(notsent_lowat_);
      return {};
    }
    case kFastopen: {
      const int64_t v = TRY(GetNumber(Option::kFastOpen));
      out.Int(v);
      return {};
    }
    case kInfo:
      out.Put(ToTcpInfoAbi(tcp_->Info(), options_.max_pacing_rate));
      return {};
    case kCongestion: {
      const int64_t v = TRY(GetNumber(Option::kCongestion));
      std::array<char, kMaxName> text = {};
      const std::string_view kind = net::kCongestionNames[v];
      std::copy(kind.begin(), kind.end(), text.begin());
      out.Put(text);
      return {};
    }
    case kUlp:
    case kCcInfo:
    case kSavedSyn:
      return {};  // none: a length of 0
    case kFastopenKey: {
      std::vector<net::SipKey> keys = tcp_->OwnFastOpenKeys();
      if (keys.empty()) keys = net().stack().FastOpenKeys();
      std::vector<std::byte> bytes(keys.size() * 16);
      std::memcpy(bytes.data(), keys.data(), bytes.size());
      out.Set(std::span<const std::byte>(bytes));
      return {};
    }
    case kWindowClamp: {
      const int64_t v = TRY(GetNumber(Option::kWindowClamp));
      out.Int(v);
      return {};
    }
    case kQuickack: out.Int(quickack_); return {};
    case kThinLinear: out.Int(thin_linear_); return {};
    case kThinDupack: out.Int(0); return {};
    case kSaveSyn: out.Int(save_syn_); return {};
    case kInq: out.Int(inq_); return {};
    case kFastopenConnect: out.Int(fastopen_connect_); return {};
    case kFastopenNoCookie: out.Int(fastopen_no_cookie_); return {};
    case kRtoMaxMs: out.Int(rto_max_ms_); return {};
    case kTxDelay: out.Int(tx_delay_us_); return {};
    case kIsMptcp: out.Int(0); return {};
    case kRepair: out.Int(0); return {};
    case kRepairWindow: return Errno(out.room() == 20 ? EPERM : EINVAL);
    case kRepairQueue:
    case kQueueSeq:
    case kZerocopyReceive:
      return Errno(EINVAL);
    case kTimestamp: out.Int(MonotonicNow() / 1'000'000); return {};
    default:
      return Errno(ENOPROTOOPT);
  }
}

}  // namespace ringwall
