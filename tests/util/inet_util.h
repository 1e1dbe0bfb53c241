// Helpers of the tests of AF_INET and AF_INET6 sockets: loopback addresses and connected pairs.
#ifndef RINGWALL_TESTS_UTIL_INET_UTIL_H_
#define RINGWALL_TESTS_UTIL_INET_UTIL_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "tests/util/test_util.h"

namespace ringwall::test {

// An address of either family.
struct Addr {
  sockaddr_storage storage = {};
  socklen_t size = sizeof(sockaddr_storage);

  sockaddr* ptr() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* ptr() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
  uint16_t port() const {
    // Both families have it in the same place.
    return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
  }
  void set_port(uint16_t port) {
    reinterpret_cast<sockaddr_in*>(&storage)->sin_port = htons(port);
  }

  static Addr V4(uint32_t ip, uint16_t port) {
    Addr a;
    auto* in = reinterpret_cast<sockaddr_in*>(&a.storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    in->sin_addr.s_addr = htonl(ip);
    a.size = sizeof(sockaddr_in);
    return a;
  }
  static Addr V6(const in6_addr& ip, uint16_t port) {
    Addr a;
    auto* in = reinterpret_cast<sockaddr_in6*>(&a.storage);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    in->sin6_addr = ip;
    a.size = sizeof(sockaddr_in6);
    return a;
  }
  static Addr Loopback(int family, uint16_t port = 0) {
    return family == AF_INET ? V4(INADDR_LOOPBACK, port) : V6(in6addr_loopback, port);
  }
  static Addr Any(int family, uint16_t port = 0) {
    return family == AF_INET ? V4(INADDR_ANY, port) : V6(in6addr_any, port);
  }
};

inline Addr LocalOf(int fd) {
  Addr a;
  EXPECT_OK(getsockname(fd, a.ptr(), &a.size));
  return a;
}
inline Addr PeerOf(int fd) {
  Addr a;
  EXPECT_OK(getpeername(fd, a.ptr(), &a.size));
  return a;
}

inline int NoPeer(int fd) {
  Addr a;
  return getpeername(fd, a.ptr(), &a.size);
}

inline int GetInt(int fd, int level, int name) {
  int v = -12345;
  socklen_t size = sizeof(v);
  EXPECT_OK(getsockopt(fd, level, name, &v, &size)) << level << ' ' << name;
  return v;
}
inline int SetInt(int fd, int level, int name, int v) {
  return setsockopt(fd, level, name, &v, sizeof(v));
}

// poll's revents after at most `timeout_ms`.
inline short PollFor(int fd, short events, int timeout_ms = 10000) {
  pollfd p = {fd, events, 0};
  return poll(&p, 1, timeout_ms) < 0 ? -1 : p.revents;
}

inline Fd Listener(int family, int backlog = 16, int flags = 0) {
  Fd fd(socket(family, SOCK_STREAM | flags, 0));
  const Addr a = Addr::Loopback(family);
  EXPECT_OK(bind(fd.get(), a.ptr(), a.size));
  EXPECT_OK(listen(fd.get(), backlog));
  return fd;
}

// A client and the server's side of its connection.
struct TcpPair {
  Fd client, server;
  explicit TcpPair(int family = AF_INET) {
    Fd listener = Listener(family);
    client.Reset(socket(family, SOCK_STREAM, 0));
    const Addr to = LocalOf(listener.get());
    EXPECT_OK(connect(client.get(), to.ptr(), to.size));
    server.Reset(accept(listener.get(), nullptr, nullptr));
    EXPECT_TRUE(server.ok());
  }
};

// Two UDP sockets on the loopback, the first connected to the second.
struct UdpPair {
  Fd a, b;
  explicit UdpPair(int family = AF_INET)
      : a(socket(family, SOCK_DGRAM, 0)), b(socket(family, SOCK_DGRAM, 0)) {
    const Addr here = Addr::Loopback(family);
    EXPECT_OK(bind(a.get(), here.ptr(), here.size));
    EXPECT_OK(bind(b.get(), here.ptr(), here.size));
    const Addr to = LocalOf(b.get());
    EXPECT_OK(connect(a.get(), to.ptr(), to.size));
  }
};

}  // namespace ringwall::test

#endif  // RINGWALL_TESTS_UTIL_INET_UTIL_H_
