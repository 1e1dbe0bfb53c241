// The options of IPPROTO_TCP (net/ipv4/tcp.c: do_tcp_setsockopt, do_tcp_getsockopt).
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "fs/inet/tcp_socket.h"

namespace ringwall {

namespace {

using net::Option;

struct NumberRow {
  int name;
  Option option;
};

constexpr NumberRow kNumbers[] = {
    {TCP_NODELAY, Option::kNoDelay},
    {TCP_MAXSEG, Option::kMaxSegment},
    {TCP_CORK, Option::kCork},
    {TCP_KEEPIDLE, Option::kKeepIdle},
    {TCP_KEEPINTVL, Option::kKeepInterval},
    {TCP_KEEPCNT, Option::kKeepCount},
    {TCP_SYNCNT, Option::kSynCount},
    {TCP_LINGER2, Option::kLinger2},
    {TCP_DEFER_ACCEPT, Option::kDeferAccept},
    {TCP_WINDOW_CLAMP, Option::kWindowClamp},
    {TCP_QUICKACK, Option::kQuickAck},
    {TCP_USER_TIMEOUT, Option::kUserTimeout},
    {TCP_FASTOPEN, Option::kFastOpen},
    {TCP_NOTSENT_LOWAT, Option::kNotSentLowat},
};

const NumberRow* Find(int name) {
  for (const NumberRow& r : kNumbers) {
    if (r.name == name) return &r;
  }
  return nullptr;
}

}  // namespace

Result<void> TcpSocket::SetOption(int level, int name, OptionIn& in) {
  return level == IPPROTO_TCP ? SetTcpOption(name, in) : InetSocket::SetOption(level, name, in);
}

Result<void> TcpSocket::GetOption(int level, int name, OptionOut& out) {
  return level == IPPROTO_TCP ? GetTcpOption(name, out) : InetSocket::GetOption(level, name, out);
}

Result<void> TcpSocket::SetTcpOption(int name, OptionIn& in) {
  const NumberRow* row = Find(name);
  const int32_t value = TRY(in.Int());
  if (row == nullptr) return Errno(ENOPROTOOPT);
  return SetNumber(row->option, value);
}

Result<void> TcpSocket::GetTcpOption(int name, OptionOut& out) {
  const NumberRow* row = Find(name);
  if (row == nullptr) return Errno(ENOPROTOOPT);
  const int64_t v = TRY(GetNumber(row->option));
  out.Int(v);
  return {};
}

}  // namespace ringwall
