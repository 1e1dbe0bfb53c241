// Random socket calls by a seed: prints what each gave, so that two kernels can be compared. Everything
// is non-blocking and on the loopback; what depends on time, chance or the kernel's version is not printed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static uint64_t state;
static uint32_t Next(uint32_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33) % n;
}

enum { kMost = 8 };
static struct { int fd, family, type, protocol; } s[kMost];

static void Close(int i) {
  if (s[i].fd >= 0) close(s[i].fd);
  s[i].fd = -1;
}

// "inet 1/0", as every line about a socket says.
static const char *Kind(int i) {
  static char text[48];
  snprintf(text, sizeof(text), "[%d %d %d]", s[i].family, s[i].type, s[i].protocol);
  return text;
}

static char to[64];  // the address that was made last

static const char *Name(int e) { return e == 0 ? "ok" : strerrorname_np(e); }

static void Say(const char *what, int i, long r) {
  int e = errno;
  if (r < 0) printf("%s %d %s: %s\n", what, i, Kind(i), Name(e));
  else printf("%s %d %s: %ld\n", what, i, Kind(i), r);
}

static int Open(int i) {
  static const int families[] = {AF_INET, AF_INET, AF_INET6, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET, 99, 99};
  static const int types[] = {SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM, 0, 7};
  static const int protocols[] = {0, 0, 0, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_RAW, 200, 300, -1};
  Close(i);
  int f = families[Next(sizeof(families) / sizeof(int))], t = types[Next(sizeof(types) / sizeof(int))];
  int p = protocols[Next(sizeof(protocols) / sizeof(int))];
  if (f == AF_NETLINK) p = 0;
  // What a raw socket hears of these depends on the rate of errors.
  if (t == SOCK_RAW && (p == IPPROTO_ICMP || p == IPPROTO_ICMPV6 || p == IPPROTO_UDP || p == IPPROTO_TCP)) p = 200;
  s[i].family = f, s[i].type = t, s[i].protocol = p;
  s[i].fd = socket(f, t | SOCK_NONBLOCK | SOCK_CLOEXEC, p);
  printf("socket %d (%d %d %d): %s\n", i, f, t, p, s[i].fd < 0 ? Name(errno) : "made");
  return s[i].fd;
}

static socklen_t Address(struct sockaddr_storage *a);
static socklen_t Target(struct sockaddr_storage *a) {
  socklen_t n = Address(a);
  char host[48] = "";
  if (a->ss_family == AF_INET) inet_ntop(AF_INET, &((struct sockaddr_in *)a)->sin_addr, host, sizeof(host));
  if (a->ss_family == AF_INET6) inet_ntop(AF_INET6, &((struct sockaddr_in6 *)a)->sin6_addr, host, sizeof(host));
  snprintf(to, sizeof(to), "%d %s %u size %u", a->ss_family, host, ntohs(((struct sockaddr_in *)a)->sin_port), n);
  return n;
}
static socklen_t Address(struct sockaddr_storage *a) {
  memset(a, 0, sizeof(*a));
  uint16_t port = htons((uint16_t)(4000 + Next(3)));
  switch (Next(9)) {
    case 0: case 1: case 2: {
      struct sockaddr_in *in = (void *)a;
      static const uint32_t hosts[] = {0x7f000001, 0x7f000001, 0x7f000002, 0, 0x0a090807, 0xffffffff, 0xe0000001};
      in->sin_family = AF_INET;
      in->sin_port = port;
      in->sin_addr.s_addr = htonl(hosts[Next(7)]);
      return Next(10) == 0 ? Next(20) : sizeof(*in);
    }
    case 3: case 4: case 5: {
      struct sockaddr_in6 *in = (void *)a;
      static const char *const hosts[] = {"::1", "::1", "::", "::ffff:127.0.0.1", "fe80::1", "ff02::1", "2001:db8::1"};
      in->sin6_family = AF_INET6;
      in->sin6_port = port;
      inet_pton(AF_INET6, hosts[Next(7)], &in->sin6_addr);
      return Next(10) == 0 ? Next(30) : sizeof(*in);
    }
    case 6:
      return sizeof(struct sockaddr_in);  // AF_UNSPEC
    case 7: {
      struct sockaddr_un *un = (void *)a;
      un->sun_family = AF_UNIX;
      snprintf(un->sun_path + 1, 20, "walk%u", Next(3));
      return offsetof(struct sockaddr_un, sun_path) + 6;
    }
    default:
      a->ss_family = (sa_family_t)Next(20);
      return Next(30);
  }
}

// Options whose values depend on the machine, on time or on the kernel's version, or that change what
// later calls may do by chance.
static int Skipped(int level, int name) {
  if (level == SOL_SOCKET) {
    switch (name) {
      case SO_ERROR: case SO_LINGER: case SO_ATTACH_FILTER: case SO_DETACH_FILTER: case SO_ATTACH_BPF: case 51: case 52:
      case SO_INCOMING_CPU: case SO_COOKIE: case SO_MEMINFO: case SO_INCOMING_NAPI_ID: case SO_PEERSEC: case SO_PASSSEC:
      case SO_BUSY_POLL: case SO_PREFER_BUSY_POLL: case SO_BUSY_POLL_BUDGET: case SO_NETNS_COOKIE: case SO_PEERCRED:
      case 77: case SO_PEERGROUPS: case SO_SNDBUF: case SO_RCVBUF: case SO_SNDBUFFORCE: case SO_RCVBUFFORCE:
      case SO_MARK: case SO_TXTIME: case SO_DEBUG:
        return 1;
      default: return name > 76 || name < 0;
    }
  }
  if (level == IPPROTO_TCP) {
    return name == TCP_INFO || name == TCP_TIMESTAMP || name > 36 || name == TCP_MD5SIG || name == TCP_ULP || name == TCP_CC_INFO ||
           name == TCP_ZEROCOPY_RECEIVE || name == TCP_FASTOPEN_KEY || name == TCP_CONGESTION || name == 32 || name == TCP_MAXSEG ||
           name == TCP_REPAIR || name == TCP_WINDOW_CLAMP;
  }
  if (level == IPPROTO_IP) return name >= 64 || name == 16 || name == 17 || name == 41 || name == 48;
  if (level == IPPROTO_IPV6) return name >= 64 || name == 34 || name == 35 || name == 68;
  return 0;
}

static const int levels[] = {SOL_SOCKET, SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_RAW, 263, 999};

static void SetOption(int i) {
  static const int values[] = {0, 0, 1, 1, 1, -1, 2, 3, 5, 6, 64, 255, 256, 65535, 65536, 0x7fffffff};
  static const int sizes[] = {4, 4, 4, 4, 4, 0, 1, 2, 3, 5, 8, 16, -1};
  int level = levels[Next(9)], name = (int)Next(80), size = sizes[Next(13)];
  char v[64] = {0};
  int n = values[Next(16)];
  memcpy(v, &n, 4);
  if (Skipped(level, name)) return;
  long r = setsockopt(s[i].fd, level, name, v, (socklen_t)size);
  int e = errno;
  printf("setsockopt %d %s (%d %d value %d size %d): %s\n", i, Kind(i), level, name, n, size, r < 0 ? Name(e) : "ok");
}

static void GetOption(int i) {
  static const int sizes[] = {4, 4, 4, 4, 64, 0, 1, 2, 3, 8, 16, -1};
  int level = levels[Next(9)], name = (int)Next(80), size = sizes[Next(12)];
  char v[64] = {0};
  socklen_t n = (socklen_t)size;
  if (Skipped(level, name)) return;
  long r = getsockopt(s[i].fd, level, name, v, &n);
  int e = errno;
  printf("getsockopt %d %s (%d %d size %d): ", i, Kind(i), level, name, size);
  if (r < 0) {
    printf("%s\n", Name(e));
    return;
  }
  int value = 0;
  memcpy(&value, v, n < 4 ? n : 4);
  printf("%d bytes, %d\n", (int)n, n <= 8 ? value : 0);
}

static void Names(int i) {
  struct sockaddr_storage a;
  socklen_t n = (socklen_t)(Next(4) == 0 ? Next(20) : sizeof(a));
  int peer = (int)Next(2);
  memset(&a, 0, sizeof(a));
  long r = peer ? getpeername(s[i].fd, (void *)&a, &n) : getsockname(s[i].fd, (void *)&a, &n);
  int e = errno;
  printf("%s %d %s: ", peer ? "getpeername" : "getsockname", i, Kind(i));
  if (r < 0) {
    printf("%s\n", Name(e));
    return;
  }
  char text[64] = "";
  unsigned port = ntohs(((struct sockaddr_in *)&a)->sin_port);
  if (a.ss_family == AF_INET) inet_ntop(AF_INET, &((struct sockaddr_in *)&a)->sin_addr, text, sizeof(text));
  if (a.ss_family == AF_INET6) inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a)->sin6_addr, text, sizeof(text));
  int inet = a.ss_family == AF_INET || a.ss_family == AF_INET6;
  // A port that the kernel chose is anything from 32768 on.
  printf("%u bytes, family %d %s %s%u\n", n, a.ss_family, text, inet && port >= 32768 ? "high " : "", inet ? (port >= 32768 ? 0 : port) : 0);
}

static void Poll(int i) {
  struct pollfd p = {s[i].fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
  long r = poll(&p, 1, 0);
  printf("poll %d %s: %ld %x\n", i, Kind(i), r, (unsigned)p.revents);
}

static void SendMsg(int i) {
  static const int flags[] = {0, 0, 0, MSG_OOB, MSG_MORE, MSG_DONTROUTE, MSG_EOR, MSG_CONFIRM, MSG_ERRQUEUE, MSG_TRUNC, MSG_PEEK, 1 << 30};
  struct sockaddr_storage a;
  char data[64];
  memset(data, 'd', sizeof(data));
  struct iovec v = {data, Next(40)};
  struct msghdr m = {0};
  if (Next(2)) {
    m.msg_name = &a;
    m.msg_namelen = Target(&a);
  }
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  union { char bytes[CMSG_SPACE(8)]; struct cmsghdr align; } control = {{0}};
  if (Next(4) == 0) {
    struct cmsghdr *c = &control.align;
    static const int kinds[][2] = {{IPPROTO_IP, IP_TTL}, {IPPROTO_IP, IP_TOS}, {IPPROTO_IPV6, IPV6_HOPLIMIT}, {IPPROTO_IPV6, IPV6_TCLASS}, {SOL_SOCKET, 99}, {IPPROTO_IP, 99}};
    int k = (int)Next(6), value = (int)Next(300) - 2;
    c->cmsg_level = kinds[k][0];
    c->cmsg_type = kinds[k][1];
    c->cmsg_len = Next(8) == 0 ? Next(20) : CMSG_LEN(4);
    memcpy(CMSG_DATA(c), &value, 4);
    m.msg_control = control.bytes;
    m.msg_controllen = CMSG_SPACE(4);
    printf("(control %d %d %d len %zu) ", c->cmsg_level, c->cmsg_type, value, (size_t)c->cmsg_len);
  }
  int f = flags[Next(12)];
  printf("(%s bytes %zu flags %x) ", m.msg_name ? to : "", v.iov_len, f);
  Say("sendmsg", i, sendmsg(s[i].fd, &m, f | MSG_NOSIGNAL | MSG_DONTWAIT));
}

static void Receive(int i) {
  static const int flags[] = {0, 0, 0, MSG_PEEK, MSG_OOB, MSG_TRUNC, MSG_ERRQUEUE, MSG_WAITALL};
  char data[64];
  struct sockaddr_storage a;
  struct iovec v = {data, Next(64)};
  struct msghdr m = {&a, sizeof(a), &v, 1, 0, 0, 0};
  int f = flags[Next(8)];
  long r = recvmsg(s[i].fd, &m, f | MSG_DONTWAIT);
  int e = errno;
  if (r < 0) printf("recvmsg %d %s (flags %x size %zu): %s\n", i, Kind(i), f, v.iov_len, Name(e));
  else printf("recvmsg %d %s (flags %x size %zu): %ld, flags %x, name %u\n", i, Kind(i), f, v.iov_len, r, (unsigned)m.msg_flags, m.msg_namelen);
}

static void Ioctl(int i) {
  static const unsigned long calls[] = {0x541b /* FIONREAD */, 0x5411 /* TIOCOUTQ */, 0x8905 /* SIOCATMARK */, 0x8904 /* SIOCGPGRP */, 0x5421, 0x1234};
  unsigned long c = calls[Next(6)];
  int n = 1;
  if (c == 0x5411) return;  // of a closed stream: what was left of its numbers
  long r = ioctl(s[i].fd, c, &n);
  int e = errno;
  printf("ioctl %d %s %lx: ", i, Kind(i), c);
  if (r < 0) printf("%s\n", Name(e));
  else printf("%ld %d\n", r, n);
}

// A network namespace of its own, so that no seed meets what another left.
static void Fresh(void) {
  struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  int fd = unshare(CLONE_NEWNET) == 0 ? socket(AF_INET, SOCK_DGRAM, 0) : -1;
  if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) != 0) {
    perror("a network namespace");
    exit(1);
  }
  close(fd);
}

// walk TURNS SEED...
int main(int argc, char **argv) {
  int turns = argc > 1 ? atoi(argv[1]) : 200;
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  for (int k = 2; k < argc; k++) {
    unsigned seed = (unsigned)atoi(argv[k]);
    state = seed * 2654435761u + 12345;
    for (int n = 0; n < 20; n++) Next(2);
    for (int i = 0; i < kMost; i++) s[i].fd = -1;
    Fresh();
    printf("== seed %u\n", seed);
    for (int turn = 0; turn < turns; turn++) {
      int i = (int)Next(kMost);
      struct sockaddr_storage a;
      socklen_t n;
      if (s[i].fd < 0) {
        Open(i);
        continue;
      }
      switch (Next(22)) {
        case 0: if (Next(3) == 0) { Close(i); printf("close %d\n", i); } break;
        case 1: case 2: n = Target(&a); printf("(%s) ", to); Say("bind", i, bind(s[i].fd, (void *)&a, n)); break;
        case 3: case 4: case 5: n = Target(&a); printf("(%s) ", to); Say("connect", i, connect(s[i].fd, (void *)&a, n)); break;
        case 6: case 7: Say("listen", i, listen(s[i].fd, (int)Next(5) - 1)); break;
        case 8: case 9: {
          int j = (int)Next(kMost);
          n = sizeof(a);
          int fd = accept4(s[i].fd, (void *)&a, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
          int e = errno;
          printf("accept %d %s: %s\n", i, Kind(i), fd < 0 ? Name(e) : "made");
          if (fd >= 0) {
            Close(j);
            s[j] = s[i];
            s[j].fd = fd;
          }
          break;
        }
        case 10: case 11: SendMsg(i); break;
        case 12: case 13: Receive(i); break;
        case 14: if (s[i].family == AF_UNIX) break; Say("shutdown", i, shutdown(s[i].fd, (int)Next(5) - 1)); break;
        case 15: case 16: Poll(i); break;
        case 17: SetOption(i); break;
        case 18: GetOption(i); break;
        case 19: Names(i); break;
        case 20: Ioctl(i); break;
        default: Next(2) ? SetOption(i) : GetOption(i); break;
      }
    }
    for (int i = 0; i < kMost; i++) Close(i);
  }
  return 0;
}
