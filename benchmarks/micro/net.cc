// Sockets over the loopback interface.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "benchmarks/micro/bench.h"

namespace ringwall::bench {
namespace {

struct Listener {
  int fd;
  sockaddr_in address;
};

Listener Listen(int type) {
  Listener l = {socket(AF_INET, type, 0), {}};
  l.address.sin_family = AF_INET;
  l.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(l.address);
  auto* any = reinterpret_cast<sockaddr*>(&l.address);
  Need(l.fd >= 0 && bind(l.fd, any, size) == 0, "bind");
  Need(type != SOCK_STREAM || listen(l.fd, 128) == 0, "listen");
  Need(getsockname(l.fd, any, &size) == 0, "getsockname");
  return l;
}

int Connect(const sockaddr_in& to) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  Need(fd >= 0 && connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0, "connect");
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  return fd;
}

char g_chunk[65536];

BENCH(tcp_pingpong) {
  static const int fd = [] {
    const Listener l = Listen(SOCK_STREAM);
    if (fork() == 0) {
      PinTo(1);
      const int peer = accept(l.fd, nullptr, nullptr);
      const int one = 1;
      setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
      char c;
      while (read(peer, &c, 1) == 1 && write(peer, &c, 1) == 1) {
      }
      _exit(0);
    }
    PinTo(0);
    return Connect(l.address);
  }();
  char c = 'x';
  while (n--) Need(write(fd, &c, 1) == 1 && read(fd, &c, 1) == 1, "round trip");
}

BENCH(tcp_stream_mib) {
  static const int fd = [] {
    const Listener l = Listen(SOCK_STREAM);
    if (fork() == 0) {
      const int peer = accept(l.fd, nullptr, nullptr);
      size_t left = 1 << 20;
      ssize_t got;
      while ((got = read(peer, g_chunk, std::min(left, sizeof(g_chunk)))) > 0) {
        left -= got;
        if (left == 0) {
          left = 1 << 20;
          if (write(peer, "k", 1) != 1) break;
        }
      }
      _exit(0);
    }
    return Connect(l.address);
  }();
  while (n--) {
    for (size_t left = 1 << 20; left > 0;) {
      const ssize_t put = write(fd, g_chunk, std::min(left, sizeof(g_chunk)));
      Need(put > 0, "write");
      left -= put;
    }
    char c;
    Need(read(fd, &c, 1) == 1, "read");
  }
}

BENCH(tcp_connect_accept_close) {
  static const Listener l = Listen(SOCK_STREAM);
  while (n--) {
    const int client = Connect(l.address);
    const int server = accept(l.fd, nullptr, nullptr);
    Need(server >= 0, "accept");
    // The client resets, so that no port stays in TIME_WAIT.
    const linger now = {1, 0};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(client);
    close(server);
  }
}

BENCH(udp_512) {
  static const Listener l = Listen(SOCK_DGRAM);
  static const int fd = [] {
    const int s = socket(AF_INET, SOCK_DGRAM, 0);
    Need(connect(s, reinterpret_cast<const sockaddr*>(&l.address), sizeof(l.address)) == 0,
         "connect");
    return s;
  }();
  while (n--) {
    Need(send(fd, g_chunk, 512, 0) == 512 && recv(l.fd, g_chunk, 512, 0) == 512, "datagram");
  }
}

}  // namespace

void HoldConnections(int count) {
  const rlimit files = {static_cast<rlim_t>(2 * count + 100), static_cast<rlim_t>(2 * count + 100)};
  if (setrlimit(RLIMIT_NOFILE, &files) != 0) printf("setrlimit: %m\n");
  const Listener l = Listen(SOCK_STREAM);
  for (int i = 0; i < count; ++i) {
    Connect(l.address);
    if (accept(l.fd, nullptr, nullptr) < 0) printf("connection %d: %m\n", i);
  }
  printf("held\n");
  fflush(stdout);
  for (;;) pause();
}

}  // namespace ringwall::bench
