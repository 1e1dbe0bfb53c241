// The options of IPPROTO_IP and IPPROTO_IPV6 (net/ipv4/ip_sockglue.c, net/ipv6/ipv6_sockglue.c).
#include <linux/in6.h>
#include <netinet/in.h>

#include "fs/inet/inet_socket.h"

namespace ringwall {

namespace {

using net::Option;

struct NumberRow {
  int name;
  Option option;
};

// Those whose value is a number that the stack keeps and checks.
constexpr NumberRow kIpNumbers[] = {
    {IP_TOS, Option::kTos},
    {IP_TTL, Option::kTtl},
    {IP_MTU_DISCOVER, Option::kMtuDiscover},
    {IP_RECVERR, Option::kRecvErr},
    {IP_MULTICAST_TTL, Option::kMulticastTtl},
    {IP_MULTICAST_LOOP, Option::kMulticastLoop},
    {IP_MULTICAST_ALL, Option::kMulticastAll},
    {IP_FREEBIND, Option::kFreeBind},
    {IP_TRANSPARENT, Option::kTransparent},
};
constexpr NumberRow kIpv6Numbers[] = {
    {IPV6_V6ONLY, Option::kV6Only},
    {IPV6_UNICAST_HOPS, Option::kUnicastHops},
    {IPV6_MULTICAST_HOPS, Option::kMulticastHops},
    {IPV6_MULTICAST_LOOP, Option::kMulticastLoop6},
    {IPV6_TCLASS, Option::kTrafficClass},
    {IPV6_MTU_DISCOVER, Option::kMtuDiscover6},
    {IPV6_RECVERR, Option::kRecvErr6},
};

const NumberRow* Find(std::span<const NumberRow> rows, int name) {
  for (const NumberRow& r : rows) {
    if (r.name == name) return &r;
  }
  return nullptr;
}

// An int, or one byte where that is all there is.
Result<int32_t> IntOrByte(const OptionIn& in) {
  if (in.length() >= sizeof(int32_t)) return in.Int();
  if (in.length() == 0) return 0;
  const uint8_t byte = TRY(in.Value<uint8_t>());
  return int32_t{byte};
}

}  // namespace

Result<void> InetSocket::SetIpOption(int name, OptionIn& in) {
  const int32_t value = TRY(IntOrByte(in));
  if (const NumberRow* row = Find(kIpNumbers, name)) return SetNumber(row->option, value);
  return Errno(ENOPROTOOPT);
}

Result<void> InetSocket::GetIpOption(int name, OptionOut& out) {
  if (const NumberRow* row = Find(kIpNumbers, name)) {
    const int64_t v = TRY(GetNumber(row->option));
    out.IntOrByte(v);
    return {};
  }
  return Errno(ENOPROTOOPT);
}

Result<void> InetSocket::SetIpv6Option(int name, OptionIn& in) {
  if (const NumberRow* row = Find(kIpv6Numbers, name)) {
    const int32_t value = TRY(in.Int());
    return SetNumber(row->option, value);
  }
  return Errno(ENOPROTOOPT);
}

Result<void> InetSocket::GetIpv6Option(int name, OptionOut& out) {
  if (const NumberRow* row = Find(kIpv6Numbers, name)) {
    const int64_t v = TRY(GetNumber(row->option));
    out.Int(v);
    return {};
  }
  return Errno(ENOPROTOOPT);
}

}  // namespace ringwall
