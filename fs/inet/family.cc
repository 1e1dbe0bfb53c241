// socket(AF_INET | AF_INET6, ...): which type and protocol is which socket (inet_create()).
#include <netinet/in.h>

#include "fs/inet/inet_socket.h"
#include "fs/inet/tcp_socket.h"

namespace ringwall {

namespace {

class InetFamily final : public SocketFamily {
 public:
  explicit InetFamily(int family) : family_(family) {}
  Result<Ref<Socket>> Create(Task& t, int type, int protocol, uint32_t flags) override {
    if (protocol < 0 || protocol >= IPPROTO_MAX) return Errno(EINVAL);
    switch (type) {
      case SOCK_STREAM:
        if (protocol != 0 && protocol != IPPROTO_TCP) return Errno(EPROTONOSUPPORT);
        return Ref<Socket>(TcpSocket::Create(t, family_, flags));
      default:
        return Errno(ESOCKTNOSUPPORT);
    }
  }

 private:
  const int family_;
};

}  // namespace

void RegisterInetSockets() {
  static InetFamily* v4 = new InetFamily(AF_INET);
  static InetFamily* v6 = new InetFamily(AF_INET6);
  RegisterSocketFamily(AF_INET, *v4);
  RegisterSocketFamily(AF_INET6, *v6);
}

}  // namespace ringwall
