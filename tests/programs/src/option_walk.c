// Every socket option there is, and those that there are not: prints what getsockopt and setsockopt give for all
// numbers of every level, on every type of socket in every state, with short, long and wrong values, so that two
// kernels can be compared. What depends on time, chance or the kernel's version is masked or left out.
//   option_walk [nobody] KIND...: sockets of these names; "list" names them. nobody: without rights.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum State { kFresh, kBound, kListening, kConnected, kMapped, kAccepted, kShut, kPeerGone, kRefused, kPair };

static const struct Kind {
  const char *name;
  int family, type, protocol;
  enum State state;
} kinds[] = {
    {"tcp", AF_INET, SOCK_STREAM, 0, kFresh},
    {"tcp-bound", AF_INET, SOCK_STREAM, 0, kBound},
    {"tcp-listening", AF_INET, SOCK_STREAM, 0, kListening},
    {"tcp-connected", AF_INET, SOCK_STREAM, 0, kConnected},
    {"tcp-accepted", AF_INET, SOCK_STREAM, 0, kAccepted},
    {"tcp-shut", AF_INET, SOCK_STREAM, 0, kShut},
    {"tcp-peer-gone", AF_INET, SOCK_STREAM, 0, kPeerGone},
    {"tcp-refused", AF_INET, SOCK_STREAM, 0, kRefused},
    {"tcp6", AF_INET6, SOCK_STREAM, 0, kFresh},
    {"tcp6-listening", AF_INET6, SOCK_STREAM, 0, kListening},
    {"tcp6-connected", AF_INET6, SOCK_STREAM, 0, kConnected},
    {"tcp6-mapped", AF_INET6, SOCK_STREAM, 0, kMapped},
    {"tcp6-accepted", AF_INET6, SOCK_STREAM, 0, kAccepted},
    {"udp", AF_INET, SOCK_DGRAM, 0, kFresh},
    {"udp-bound", AF_INET, SOCK_DGRAM, 0, kBound},
    {"udp-connected", AF_INET, SOCK_DGRAM, 0, kConnected},
    {"udp6", AF_INET6, SOCK_DGRAM, 0, kFresh},
    {"udp6-bound", AF_INET6, SOCK_DGRAM, 0, kBound},
    {"udp6-connected", AF_INET6, SOCK_DGRAM, 0, kConnected},
    {"udp6-mapped", AF_INET6, SOCK_DGRAM, 0, kMapped},
    {"raw", AF_INET, SOCK_RAW, 200, kFresh},
    {"raw-connected", AF_INET, SOCK_RAW, 200, kConnected},
    {"raw-raw", AF_INET, SOCK_RAW, IPPROTO_RAW, kFresh},
    {"raw-icmp", AF_INET, SOCK_RAW, IPPROTO_ICMP, kFresh},
    {"raw6", AF_INET6, SOCK_RAW, 200, kFresh},
    {"raw6-connected", AF_INET6, SOCK_RAW, 200, kConnected},
    {"raw6-raw", AF_INET6, SOCK_RAW, IPPROTO_RAW, kFresh},
    {"raw6-icmp", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, kFresh},
    {"ping", AF_INET, SOCK_DGRAM, IPPROTO_ICMP, kFresh},
    {"ping6", AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6, kFresh},
    {"packet", AF_PACKET, SOCK_RAW, 0, kFresh},
    {"packet-bound", AF_PACKET, SOCK_RAW, 0, kBound},
    {"packet-dgram", AF_PACKET, SOCK_DGRAM, 0, kFresh},
    {"unix", AF_UNIX, SOCK_STREAM, 0, kFresh},
    {"unix-listening", AF_UNIX, SOCK_STREAM, 0, kListening},
    {"unix-pair", AF_UNIX, SOCK_STREAM, 0, kPair},
    {"unix-dgram", AF_UNIX, SOCK_DGRAM, 0, kFresh},
    {"unix-dgram-pair", AF_UNIX, SOCK_DGRAM, 0, kPair},
    {"unix-seqpacket", AF_UNIX, SOCK_SEQPACKET, 0, kFresh},
    {"netlink", AF_NETLINK, SOCK_RAW, 0, kFresh},
};

static int opened[8], n_opened;
static int Keep(int fd) {
  if (fd >= 0) opened[n_opened++] = fd;
  return fd;
}
static void CloseAll(void) {
  struct linger now = {1, 0};
  // Connections leave nothing behind that a later one would meet.
  for (int i = 0; i < n_opened; i++) setsockopt(opened[i], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  while (n_opened > 0) close(opened[--n_opened]);
}

static socklen_t Local(const struct Kind *k, struct sockaddr_storage *a) {
  memset(a, 0, sizeof(*a));
  if (k->family == AF_INET) {
    struct sockaddr_in *in = (void *)a;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof(*in);
  }
  if (k->family == AF_INET6) {
    struct sockaddr_in6 *in = (void *)a;
    in->sin6_family = AF_INET6;
    inet_pton(AF_INET6, k->state == kMapped ? "::ffff:127.0.0.1" : "::1", &in->sin6_addr);
    return sizeof(*in);
  }
  if (k->family == AF_PACKET) {
    struct sockaddr_ll *ll = (void *)a;
    ll->sll_family = AF_PACKET;
    ll->sll_ifindex = 1;
    return sizeof(*ll);
  }
  a->ss_family = (sa_family_t)k->family;
  return sizeof(sa_family_t);
}

static int Open(const struct Kind *k) {
  struct sockaddr_storage a;
  socklen_t n = Local(k, &a);
  if (k->state == kPair) {
    int pair[2];
    if (socketpair(k->family, k->type, k->protocol, pair) != 0) return -1;
    Keep(pair[1]);
    return Keep(pair[0]);
  }
  int fd = Keep(socket(k->family, k->type, k->protocol));
  if (fd < 0 || k->state == kFresh) return fd;
  if (k->type != SOCK_STREAM && k->state != kBound) {
    int to = k->type == SOCK_RAW ? -1 : Keep(socket(k->family, k->type, k->protocol));
    if (to >= 0) {
      bind(to, (void *)&a, n);
      n = sizeof(a);
      getsockname(to, (void *)&a, &n);
    }
    if (connect(fd, (void *)&a, n) != 0) return -1;
    return fd;
  }
  if (k->state == kBound || k->state == kListening) {
    if (bind(fd, (void *)&a, n) != 0) return -1;
    if (k->state == kListening && listen(fd, 4) != 0) return -1;
    return fd;
  }
  int listener = Keep(socket(k->family, k->type, k->protocol));
  bind(listener, (void *)&a, n);
  if (k->state != kRefused) listen(listener, 4);
  n = sizeof(a);
  getsockname(listener, (void *)&a, &n);
  int c = connect(fd, (void *)&a, n);
  if (k->state == kRefused) return fd;
  if (c != 0) return -1;
  int peer = accept(listener, NULL, NULL);
  if (k->state == kPeerGone) {
    close(peer);
    return fd;
  }
  Keep(peer);
  if (k->state == kShut) shutdown(fd, SHUT_RDWR);
  return k->state == kAccepted ? peer : fd;
}

static const char *Name(int e) { return e == 0 ? "ok" : strerrorname_np(e) == NULL ? "?" : strerrorname_np(e); }

// Those whose value depends on the machine, on time or chance: the errno and the length are told.
static int of_stream;
static int Masked(int level, int name) {
  if (level == SOL_SOCKET) {
    return name == SO_COOKIE || name == SO_NETNS_COOKIE || name == SO_INCOMING_CPU || name == SO_PEERNAME || name == SO_MEMINFO ||
           name == SO_PEERCRED || name == SO_RCVLOWAT || name == SO_INCOMING_NAPI_ID || name == 77 /* SO_PEERPIDFD */ || name == SO_PEERGROUPS;
  }
  if (level == IPPROTO_TCP) {
    return name == TCP_INFO || name == TCP_MAXSEG || name == TCP_WINDOW_CLAMP || name == TCP_CONGESTION || name == TCP_TIMESTAMP || name == TCP_CC_INFO || name == TCP_FASTOPEN_KEY ||
           name == TCP_QUICKACK;
  }
  if ((level == IPPROTO_IP && name == IP_MULTICAST_TTL) || (level == IPPROTO_IPV6 && (name == IPV6_MULTICAST_IF || name == IPV6_MULTICAST_HOPS))) return of_stream;
  return level == SOL_PACKET && (name == PACKET_STATISTICS || name == PACKET_ROLLOVER_STATS || name == PACKET_FANOUT);
}

// Those that kernels of the last years differ in, or that this kernel was built without.
static int Skipped(int level, int name) {
  switch (level) {
    case SOL_SOCKET:
      return name == SO_PEERSEC || name == SO_PEERGROUPS || name == SO_ATTACH_BPF || name == SO_ATTACH_REUSEPORT_EBPF || name == SO_ATTACH_FILTER || name > 77;
    case IPPROTO_IP:  // IPsec, IP_PROTOCOL (a port), ip_set, arptables
      return name == 16 || name == 17 || name == 52 || name == 83 || (name >= 96 && name <= 99);
    case IPPROTO_IPV6:  // IPsec, multicast routing of the one socket that could
      return name == 34 || name == 35 || (name >= 200 && name <= 212);
    case IPPROTO_TCP:  // MD5, repair, what is younger than 6.12, what depends on the congestion control
      return name == TCP_MD5SIG || name == TCP_REPAIR || name == 32 || name > 37 || name == TCP_CC_INFO || name == TCP_FASTOPEN_KEY;
    case IPPROTO_UDP: case 136:
      return name == 100;  // UDP_ENCAP
    default:
      return level == SOL_PACKET && name > 24;
  }
}

static void Get(int fd, int level, int name) {
  static const int sizes[] = {0, 1, 2, 3, 4, 5, 8, 12, 16, 20, 64, 300, -1, INT_MIN};
  char last[400] = "";
  printf(" get");
  if (of_stream && level == SOL_SOCKET && name == SO_SNDBUF) return;  // grows with the connection
  for (size_t i = 0; i < sizeof(sizes) / sizeof(int); i++) {
    unsigned char v[304];
    memset(v, 0xa5, sizeof(v));
    socklen_t n = (socklen_t)sizes[i];
    char text[400];
    if (getsockopt(fd, level, name, v, &n) != 0) {
      snprintf(text, sizeof(text), "%s", Name(errno));
    } else {
      int at = snprintf(text, sizeof(text), "%d", Masked(level, name) && n > 4 ? 0 : (int)n);
      if (level == SOL_SOCKET && name == 77) close(*(int *)v);
      if (!Masked(level, name)) {
        for (int b = 0; b < 24 && b < (int)n; b++) at += snprintf(text + at, sizeof(text) - (size_t)at, b == 0 ? "/%02x" : "%02x", v[b]);
      }
    }
    if (strcmp(text, last) != 0) printf(" %d:%s", sizes[i], text);
    strcpy(last, text);
  }
  socklen_t four = 4;
  printf(" bad:%s", getsockopt(fd, level, name, (void *)8, &four) == 0 ? "ok" : Name(errno));
  printf(" badlen:%s", getsockopt(fd, level, name, NULL, (void *)8) == 0 ? "ok" : Name(errno));
}

static void After(int fd, int level, int name, char *text, size_t room) {
  unsigned char v[64];
  socklen_t n = sizeof(int);
  if (Masked(level, name) || getsockopt(fd, level, name, v, &n) != 0) return;
  int value = 0;
  memcpy(&value, v, n < 4 ? n : 4);
  snprintf(text, room, "=%d", value);
}

static void Set(int fd, int level, int name) {
  static const int values[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 31, 32, 40, 63, 64, 87, 88, 100, 127, 128, 255, 256, 511, 536, 1000, 1279,
                               1280, 1500, 32767, 32768, 65534, 65535, 65536, 131072, 1 << 20, INT_MAX - 1, INT_MAX, INT_MIN, -1000, -3, -2, -1};
  static const int sizes[] = {0, 1, 2, 3, 5, 8, 12, 16, 20, 28, 40, 64, 136, 140, 144, 264, 300, -1, INT_MIN};
  char last[64] = "";
  printf(" set");
  for (size_t i = 0; i < sizeof(values) / sizeof(int); i++) {
    char text[64] = "";
    // How large a buffer may be is the administrator's choice.
    if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_RCVBUF) && (values[i] > 65536 || values[i] < 0)) continue;
    if (setsockopt(fd, level, name, &values[i], sizeof(int)) != 0) snprintf(text, sizeof(text), "%s", Name(errno));
    else strcpy(text, "ok"), After(fd, level, name, text + 2, sizeof(text) - 2);
    char same[16];
    snprintf(same, sizeof(same), "ok=%d", values[i]);
    if (strcmp(text, same) == 0) strcpy(text, "ok=v");
    snprintf(same, sizeof(same), "ok=%d", values[i] * 2);
    if (values[i] != 0 && strcmp(text, same) == 0) strcpy(text, "ok=2v");
    if (strcmp(text, last) != 0) printf(" %d:%s", values[i], text);
    strcpy(last, text);
  }
  printf(" sizes");
  last[0] = 0;
  // A number and nothing; all ones; a group of IPv4, of IPv6, a group_req of each.
  for (int shape = 0; shape < 6; shape++) {
    unsigned char v[304];
    memset(v, shape == 1 ? 0xff : 0, sizeof(v));
    if (shape == 0) v[0] = 1;
    if (shape == 2) memcpy(v, "\xe0\1\2\3\x7f\0\0\1\1\0\0\0", 12);
    if (shape == 3) v[0] = 0xff, v[1] = 2, v[15] = 5, v[16] = 1;
    if (shape >= 4) {
      v[0] = 1;
      for (int at = 8; at <= 136; at += 128) {
        v[at] = shape == 4 ? AF_INET : AF_INET6;
        if (shape == 4) memcpy(v + at + 4, at == 8 ? "\xe0\1\2\3" : "\x0a\0\0\1", 4);
        else v[at + 8] = 0xff, v[at + 9] = at == 8 ? 2 : 0, v[at + 23] = 5;
      }
    }
    if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_RCVBUF) && (shape == 1 || shape == 2)) continue;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(int); i++) {
      char text[64] = "";
      if (setsockopt(fd, level, name, v, (socklen_t)sizes[i]) != 0) snprintf(text, sizeof(text), "%s", Name(errno));
      else strcpy(text, "ok"), After(fd, level, name, text + 2, sizeof(text) - 2);
      if (strcmp(text, last) != 0) printf(" %d/%d:%s", shape, sizes[i], text);
      strcpy(last, text);
    }
  }
  printf(" bad:%s", setsockopt(fd, level, name, (void *)8, 4) == 0 ? "ok" : Name(errno));
  printf(" null:%s", setsockopt(fd, level, name, NULL, 4) == 0 ? "ok" : Name(errno));
  printf(" none:%s", setsockopt(fd, level, name, NULL, 0) == 0 ? "ok" : Name(errno));
}

// What both calls give for some sizes and values, in short: a number that gives what kNobodys does is nobody's, too.
enum { kNobodys = 250, kTried = 12 };
static void Short(int fd, int level, int name, int *errors) {
  static const int sizes[] = {0, 3, 4, 304};
  int n = 0;
  for (int i = 0; i < 4; i++) {
    int v[76] = {0};
    socklen_t size = (socklen_t)sizes[i];
    errors[n++] = getsockopt(fd, level, name, v, &size) == 0 ? -1 : errno;
    for (v[0] = 0; v[0] < 2; v[0]++) errors[n++] = setsockopt(fd, level, name, v, (socklen_t)sizes[i]) == 0 ? -1 : errno;
  }
}

static const int levels[] = {SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, SOL_RAW, IPPROTO_ICMPV6, SOL_PACKET, 270, 136, 132, 284, 999, -1};

static void Walk(const struct Kind *k, const char *who) {
  of_stream = k->type == SOCK_STREAM;
  for (size_t l = 0; l < sizeof(levels) / sizeof(int); l++) {
    int level = levels[l];
    // Each of these waits at its end until no processor can see it any more.
    if (k->family == AF_PACKET && level != SOL_PACKET && (level != SOL_SOCKET || k->type != SOCK_DGRAM)) continue;
    // One for many numbers that are nobody's; a number that is somebody's gets a socket of its own.
    int fd = Open(k);
    if (fd < 0) {
      printf("%s%s: %s\n", who, k->name, Name(errno));
      CloseAll();
      return;
    }
    int nobodys[kTried], tried[kTried];
    Short(fd, level, kNobodys, nobodys);
    for (int name = -1; name < 256; name++) {
      if (l >= 10 && name == 5) name = kNobodys;  // levels of nobody here
      if (Skipped(level, name)) continue;
      Short(fd, level, name, tried);
      if (name != kNobodys && memcmp(tried, nobodys, sizeof(tried)) == 0) continue;
      CloseAll();
      fd = Open(k);
      printf("%s%s %d %d:", who, k->name, level, name);
      Get(fd, level, name);
      Set(fd, level, name);
      printf("\n");
      CloseAll();
      fd = Open(k);
    }
    CloseAll();
  }
}

int main(int argc, char **argv) {
  static char buffer[1 << 16];
  setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
  const char *who = "";
  int first = 1;
  if (argc > 1 && strcmp(argv[1], "nobody") == 0) {
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) return 1;
    who = "nobody ";
    first = 2;
  }
  for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
    for (int a = first; a < argc; a++) {
      if (strcmp(argv[a], "list") == 0) printf("%s\n", kinds[i].name);
      if (strcmp(argv[a], kinds[i].name) == 0) Walk(&kinds[i], who);
    }
  }
  return 0;
}
