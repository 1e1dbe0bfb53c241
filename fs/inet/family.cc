// socket(AF_INET | AF_INET6 | AF_PACKET, ...): which type and protocol is which socket
// (inet_create(), inet6_create(), packet_create()).
#include <netinet/in.h>

#include <algorithm>

#include "fs/inet/datagram_socket.h"
#include "fs/inet/inet_socket.h"
#include "fs/inet/packet_socket.h"
#include "fs/inet/tcp_socket.h"

namespace ringwall {

namespace {

// ping_init_sock(): one of the caller's groups is in net.ipv4.ping_group_range.
bool MayPing(Task& t) {
  const net::StackConfig c = NetNamespace::Of(t).stack().Config();
  const auto within = [&](Gid g) { return c.ping_group_min <= g && g <= c.ping_group_max; };
  const Credentials& creds = t.creds();
  return within(creds.egid) || std::any_of(creds.groups.begin(), creds.groups.end(), within);
}

class InetFamily final : public SocketFamily {
 public:
  explicit InetFamily(int family) : family_(family) {}
  Result<Ref<Socket>> Create(Task& t, int type, int protocol, uint32_t flags) override {
    if (protocol < 0 || protocol > IPPROTO_MPTCP) return Errno(EINVAL);
    switch (type) {
      case SOCK_STREAM:
        if (protocol != 0 && protocol != IPPROTO_TCP) return Errno(EPROTONOSUPPORT);
        return Ref<Socket>(TcpSocket::Create(t, family_, flags));
      case SOCK_DGRAM:
        if (protocol == 0 || protocol == IPPROTO_UDP) {
          return Ref<Socket>(DatagramSocket::CreateUdp(t, family_, flags));
        }
        if (protocol != (family_ == AF_INET ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6})) {
          return Errno(EPROTONOSUPPORT);
        }
        if (!MayPing(t)) return Errno(EACCES);
        return Ref<Socket>(DatagramSocket::CreateRaw(t, family_, type, protocol, flags));
      case SOCK_RAW:
        if (protocol == 0) return Errno(EPROTONOSUPPORT);
        if (!t.creds().HasIn(t.net().user_ns(), Capability::kNetRaw)) return Errno(EPERM);
        if (protocol > IPPROTO_RAW) return Errno(EPROTONOSUPPORT);
        return Ref<Socket>(DatagramSocket::CreateRaw(t, family_, type, protocol, flags));
      default:
        return Errno(ESOCKTNOSUPPORT);
    }
  }

 private:
  const int family_;
};

class PacketFamily final : public SocketFamily {
 public:
  Result<Ref<Socket>> Create(Task& t, int type, int protocol, uint32_t flags) override {
    if (!t.creds().HasIn(t.net().user_ns(), Capability::kNetRaw)) return Errno(EPERM);
    if (type != SOCK_DGRAM && type != SOCK_RAW) return Errno(ESOCKTNOSUPPORT);
    return Ref<Socket>(PacketSocket::Create(t, type, protocol, flags));
  }
};

}  // namespace

void RegisterInetSockets() {
  static InetFamily* v4 = new InetFamily(AF_INET);
  static InetFamily* v6 = new InetFamily(AF_INET6);
  static PacketFamily* packet = new PacketFamily;
  RegisterSocketFamily(AF_INET, *v4);
  RegisterSocketFamily(AF_INET6, *v6);
  RegisterSocketFamily(AF_PACKET, *packet);
}

}  // namespace ringwall
