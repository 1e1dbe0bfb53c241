// libFuzzer: socket options of every level, set and asked for, on every kind of socket, some connected.
// Input: again and again the socket, the level, the option, the length of the value, the value.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runsc/testing/call_script.h"

namespace ringwall::testing {
namespace {

struct Kind {
  int family, type, protocol;
};
constexpr std::array<Kind, 13> kKinds = {{{AF_INET, SOCK_STREAM, 0},
                                          {AF_INET6, SOCK_STREAM, 0},
                                          {AF_INET, SOCK_DGRAM, 0},
                                          {AF_INET6, SOCK_DGRAM, 0},
                                          {AF_INET, SOCK_RAW, IPPROTO_ICMP},
                                          {AF_INET6, SOCK_RAW, IPPROTO_ICMPV6},
                                          {AF_INET, SOCK_RAW, IPPROTO_RAW},
                                          {AF_PACKET, SOCK_RAW, 0x300},
                                          {AF_PACKET, SOCK_DGRAM, 0x300},
                                          {AF_UNIX, SOCK_STREAM, 0},
                                          {AF_UNIX, SOCK_DGRAM, 0},
                                          {AF_NETLINK, SOCK_RAW, 0},
                                          {AF_NETLINK, SOCK_RAW, 12}}};
constexpr std::array<int, 16> kLevels = {SOL_SOCKET, SOL_SOCKET, IPPROTO_IP, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_IPV6,
                                         IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_RAW, IPPROTO_ICMPV6,
                                         263 /* SOL_PACKET */, 263, 270 /* SOL_NETLINK */, 255, 41};

class Sockopt final : public CallScript {
 public:
  using CallScript::CallScript;

 protected:
  std::optional<ScriptCall> SetUp(size_t step) override {
    if (step >= kKinds.size()) return std::nullopt;
    const Kind& k = kKinds[step];
    return ScriptCall{SYS_socket, {uint64_t(k.family), uint64_t(k.type) | SOCK_NONBLOCK, uint64_t(k.protocol)}};
  }

  ScriptCall FromInput(FuzzBytes& in) override {
    const uint8_t what = in.Byte();
    const uint64_t fd = (what & 15) % kKinds.size();
    switch (what >> 4) {
      case 0: {
        // To itself or to a listener: what options do to a socket in use.
        sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(80 + in.Byte() % 2), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
        const uint64_t at = PutValue(to);
        return {in.Byte() % 2 != 0 ? uint64_t{SYS_connect} : uint64_t{SYS_bind}, {fd, at, sizeof(to)}};
      }
      case 1: return {SYS_listen, {fd, in.Byte() % 4u}};
      case 2: {
        const std::span<const uint8_t> data = in.Some();
        return {SYS_sendto, {fd, Put(data), data.size(), in.Byte() | uint64_t{MSG_DONTWAIT | MSG_NOSIGNAL}, 0, 0}};
      }
      case 3: return {SYS_recvfrom, {fd, Room(512), 512, (in.Byte() & 0x62u) | MSG_DONTWAIT, 0, 0}};
      case 4:
      case 5:
      case 6: {
        const uint64_t level = static_cast<uint64_t>(in.OneOf(kLevels)), name = in.Byte();
        const uint64_t length = PutValue(static_cast<uint32_t>(in.Size()));
        return {SYS_getsockopt, {fd, level, name, Room(1024), length}};
      }
      default: {
        const uint64_t level = static_cast<uint64_t>(in.OneOf(kLevels)), name = in.Byte();
        const std::span<const uint8_t> value = in.Some();
        const uint64_t length = in.Byte() > 0xf0 ? in.Size() : value.size();
        return {SYS_setsockopt, {fd, level, name, Put(value), length}};
      }
    }
  }
};

}  // namespace
}  // namespace ringwall::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return ringwall::testing::RunInput<ringwall::testing::Sockopt>(data, size);
}
