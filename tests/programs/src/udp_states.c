// UDP, ping and raw sockets in every state, and every call on each of them: prints what the call gave and what can
// be seen afterwards, so that two kernels can be compared.
//   udp_states [4|6|m] [SEED TURNS]...: IPv4, IPv6, or IPv4 by IPv6 sockets; with seeds, that many random calls on each state.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static int family = AF_INET, mapped;
static uint64_t chance;
static uint32_t Next(uint32_t n) {
  chance = chance * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(chance >> 33) % n;
}

typedef union {
  struct sockaddr a;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
} Addr;

static socklen_t To(Addr *a, const char *v4, const char *v6, int port) {
  memset(a, 0, sizeof(*a));
  if (family == AF_INET6) {
    char text[64];
    a->v6.sin6_family = AF_INET6, a->v6.sin6_port = htons((uint16_t)port);
    snprintf(text, sizeof(text), "::ffff:%s", v4);
    inet_pton(AF_INET6, mapped ? text : v6, &a->v6.sin6_addr);
    return sizeof(a->v6);
  }
  a->v4.sin_family = AF_INET, a->v4.sin_port = htons((uint16_t)port);
  inet_pton(AF_INET, v4, &a->v4.sin_addr);
  return sizeof(a->v4);
}
static socklen_t Loop(Addr *a, int port) { return To(a, "127.0.0.1", "::1", port); }
static const char *Err(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }
static int PortOf(int fd) {
  Addr a;
  socklen_t n = sizeof(a);
  return getsockname(fd, &a.a, &n) == 0 ? ntohs(a.v4.sin_port) : 0;
}
static int Poll(int fd) {
  struct pollfd p = {fd, 0x3fff & ~POLLNVAL, 0};
  return fd < 0 ? -1 : poll(&p, 1, 0) < 0 ? -2 : p.revents;
}

enum State {
  kFresh, kBound, kAny, kConnected, kBoundConnected, kQueued, kQueuedMany, kQueuedEmpty, kShutRead, kShutWrite, kShutBoth, kShutReadQueued, kUnconnectedShut,
  kRefused, kRefusedRecverr, kUnconnectedRefused, kUnconnectedRecverr, kDisconnected, kBoundDisconnected, kCorked, kConnectedAny, kPeerFiltered, kStates
};
static const char *const state_names[] = {
    "fresh", "bound", "any", "connected", "bound-connected", "queued", "queued-many", "queued-empty", "shut-read", "shut-write", "shut-both", "shut-read-queued",
    "unconnected-shut", "refused", "refused-recverr", "unconnected-refused", "unconnected-recverr", "disconnected", "bound-disconnected", "corked",
    "connected-any", "peer-filtered"};

enum { dead_port = 9 };  // that nobody serves in a network namespace of its own
static int fd, peer;
static int New(void) { return socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0); }
static void RecvErr(int s, int on) {
  setsockopt(s, IPPROTO_IP, IP_RECVERR, &on, sizeof(on));
  if (family == AF_INET6) setsockopt(s, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on));
}

static void Make(enum State s) {
  Addr a;
  int one = 1;
  socklen_t n = Loop(&a, 0);
  fd = New();
  peer = New();
  bind(peer, &a.a, n);
  if (s == kFresh) return;
  if (s == kUnconnectedShut) { shutdown(fd, SHUT_RDWR); return; }
  if (s == kAny) { n = To(&a, "0.0.0.0", "::", 0); bind(fd, &a.a, n); return; }
  if (s != kConnected && s != kDisconnected && s != kRefused && s != kRefusedRecverr) bind(fd, &a.a, n);
  if (s == kBound) return;
  if (s == kUnconnectedRecverr || s == kRefusedRecverr) RecvErr(fd, 1);
  n = Loop(&a, dead_port);
  if (s == kUnconnectedRefused || s == kUnconnectedRecverr) { sendto(fd, "dead", 4, 0, &a.a, n); return; }
  if (s == kRefused || s == kRefusedRecverr) { connect(fd, &a.a, n), send(fd, "dead", 4, 0); return; }
  if (s == kConnectedAny) { n = To(&a, "0.0.0.0", "::", PortOf(peer)); connect(fd, &a.a, n); return; }
  n = Loop(&a, PortOf(peer));
  if (s == kPeerFiltered) {
    int other = New();
    n = Loop(&a, PortOf(fd));
    sendto(other, "before", 6, 0, &a.a, n);
    sendto(peer, "mine", 4, 0, &a.a, n);
    n = Loop(&a, PortOf(peer));
    connect(fd, &a.a, n);
    n = Loop(&a, PortOf(fd));
    sendto(other, "after", 5, 0, &a.a, n);
    close(other);
    return;
  }
  connect(fd, &a.a, n);
  n = Loop(&a, PortOf(fd));
  switch (s) {
    case kQueued: case kShutReadQueued: sendto(peer, "queued", 6, 0, &a.a, n); break;
    case kQueuedMany: for (int i = 0; i < 3; i++) sendto(peer, "many", (size_t)i + 2, 0, &a.a, n); break;
    case kQueuedEmpty: sendto(peer, "", 0, 0, &a.a, n), sendto(peer, "x", 1, 0, &a.a, n); break;
    case kCorked: send(fd, "cork", 4, MSG_MORE); break;
    default: break;
  }
  if (s == kShutRead || s == kShutReadQueued) shutdown(fd, SHUT_RD);
  if (s == kShutWrite) shutdown(fd, SHUT_WR);
  if (s == kShutBoth) shutdown(fd, SHUT_RDWR);
  if (s == kDisconnected || s == kBoundDisconnected) a.a.sa_family = AF_UNSPEC, connect(fd, &a.a, sizeof(a.v4));
  (void)one;
}

static void Said(const char *what, long r) {
  printf(" %s=%s", what, Err(r));
  if (r > 0) printf("/%ld", r);
}
static void Show(const Addr *a, socklen_t n) {
  char text[64] = "-";
  if (n >= 8 && a->a.sa_family == AF_INET) inet_ntop(AF_INET, &a->v4.sin_addr, text, sizeof(text));
  if (n >= 24 && a->a.sa_family == AF_INET6) inet_ntop(AF_INET6, &a->v6.sin6_addr, text, sizeof(text));
  int port = n >= 4 ? ntohs(a->v4.sin_port) : 0;
  printf("(%u %d %s %s)", n, n >= 2 ? a->a.sa_family : -1, text, port == 0 ? "0" : port == dead_port ? "dead" : port == PortOf(peer) ? "peer" : port == PortOf(fd) ? "own" : "other");
}
static void Recv(int s, const char *what, size_t size, int flags, int named) {
  char b[64] = "", control[256];
  Addr a;
  memset(&a, 0, sizeof(a));
  struct iovec v = {b, size};
  struct msghdr m = {.msg_name = named ? &a : NULL, .msg_namelen = named ? sizeof(a) : 0, .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  long r = recvmsg(s, &m, flags);
  Said(what, r);
  if (r < 0) return;
  printf("'%.*s' flags %x", (int)(r < (long)size ? r : (long)size), b, m.msg_flags);
  if (named) Show(&a, m.msg_namelen);
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    printf(" cmsg %d/%d/%zu", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
    if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) || (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
      struct sock_extended_err *e = (void *)CMSG_DATA(c);
      printf("[%s %d %d %d %u %u ", e->ee_errno ? strerrorname_np((int)e->ee_errno) : "0", e->ee_origin, e->ee_type, e->ee_code, e->ee_info, e->ee_data);
      Show((Addr *)SO_EE_OFFENDER(e), (socklen_t)(c->cmsg_len - CMSG_LEN(sizeof(*e))));
      printf("]");
    }
  }
}
static int SoError(int s) {
  int e = 0;
  socklen_t n = sizeof(e);
  return getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &n) < 0 ? -1 : e;
}
static void Name(const char *what, int of_peer) {
  Addr a;
  socklen_t n = sizeof(a);
  memset(&a, 0, sizeof(a));
  long r = of_peer ? getpeername(fd, &a.a, &n) : getsockname(fd, &a.a, &n);
  printf(" %s=%s", what, Err(r));
  if (r == 0) Show(&a, n);
}
static void Ioctl(const char *what, unsigned long call) {
  int v = -1;
  long r = ioctl(fd, call, &v);
  if (call == SIOCOUTQ) v = -1;  // what waits in buffers of each kernel's own size
  printf(" %s=%s:%d", what, Err(r), v);
}
static void SendTo(const char *what, const char *v4, const char *v6, int port, const char *text, size_t size, int flags) {
  Addr a;
  socklen_t n = To(&a, v4, v6, port);
  Said(what, sendto(fd, text, size, flags | MSG_NOSIGNAL, &a.a, n));
}
static void Connect(const char *what, const char *v4, const char *v6, int port) {
  Addr a;
  socklen_t n = To(&a, v4, v6, port);
  Said(what, connect(fd, &a.a, n));
}
static void Bind(const char *what, const char *v4, const char *v6, int port) {
  Addr a;
  socklen_t n = To(&a, v4, v6, port);
  Said(what, bind(fd, &a.a, n));
}

enum { kOps = 80 };
static char big[70000];
static void Do(int op) {
  Addr a;
  socklen_t n;
  int v = 1;
  struct epoll_event e = {.events = 0x3fffu | EPOLLRDHUP};
  int to = PortOf(peer);
  switch (op) {
    case 0: printf(" look"); break;
    case 1: {
      int ep = epoll_create1(0);
      long r = epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
      e.events = 0;
      r = r < 0 ? r : epoll_wait(ep, &e, 1, 0);
      printf(" epoll=%ld:%x", r, e.events);
      close(ep);
      break;
    }
    case 2: Name("sockname", 0); break;
    case 3: Name("peername", 1); break;
    case 4: printf(" SO_ERROR=%d", SoError(fd)); break;
    case 5: Recv(fd, "recv0", 0, 0, 1); break;
    case 6: Recv(fd, "recv1", 1, 0, 1); break;
    case 7: Recv(fd, "recv", 20, 0, 1); break;
    case 8: Recv(fd, "peek", 20, MSG_PEEK, 1); break;
    case 9: Recv(fd, "trunc", 3, MSG_TRUNC, 1); break;
    case 10: Recv(fd, "peektrunc", 2, MSG_TRUNC | MSG_PEEK, 0); break;
    case 11: Recv(fd, "oob", 3, MSG_OOB, 1); break;
    case 12: Recv(fd, "errqueue", 20, MSG_ERRQUEUE, 1); break;
    case 13: Recv(fd, "waitall", 20, MSG_WAITALL, 0); break;
    case 14: Recv(fd, "errpeek", 2, MSG_ERRQUEUE | MSG_PEEK, 1); break;
    case 15: Said("read0", read(fd, big, 0)); break;
    case 16: Said("read", read(fd, big, 100)); break;
    case 17: Said("send0", send(fd, "", 0, MSG_NOSIGNAL)); break;
    case 18: Said("send1", send(fd, "s", 1, MSG_NOSIGNAL)); break;
    case 19: Said("sendoob", send(fd, "so", 2, MSG_NOSIGNAL | MSG_OOB)); break;
    case 20: Said("sendmore", send(fd, "more", 4, MSG_NOSIGNAL | MSG_MORE)); break;
    case 21: SendTo("sendto", "127.0.0.1", "::1", to, "to", 2, 0); break;
    case 22: SendTo("sendto-dead", "127.0.0.1", "::1", dead_port, "to", 2, 0); break;
    case 23: SendTo("sendto-0", "127.0.0.1", "::1", 0, "to", 2, 0); break;
    case 24: SendTo("sendto-more", "127.0.0.1", "::1", to, "to", 2, MSG_MORE); break;
    case 25: SendTo("sendto-any", "0.0.0.0", "::", to, "any", 3, 0); break;
    case 26: SendTo("sendto-broadcast", "255.255.255.255", "ff02::1", to, "all", 3, 0); break;
    case 27: SendTo("sendto-lo-broadcast", "127.255.255.255", "ff01::1", to, "all", 3, 0); break;
    case 28: SendTo("sendto-away", "10.9.8.7", "2001:db8::1", to, "away", 4, 0); break;
    case 29: SendTo("sendto-group", "224.1.2.3", "ff15::1", to, "group", 5, 0); break;
    case 30: SendTo("sendto-big", "127.0.0.1", "::1", to, big, 65535, 0); break;
    case 31: SendTo("sendto-huge", "127.0.0.1", "::1", to, big, 65536, 0); break;
    case 32: n = Loop(&a, to); a.a.sa_family = AF_UNSPEC; Said("sendto-unspec", sendto(fd, "u", 1, 0, &a.a, n)); break;
    case 33: n = Loop(&a, to); a.a.sa_family = AF_UNIX; Said("sendto-unix", sendto(fd, "u", 1, 0, &a.a, n)); break;
    case 34: n = Loop(&a, to); Said("sendto-short", sendto(fd, "u", 1, 0, &a.a, n - 10)); break;
    case 35: n = Loop(&a, to); Said("sendto-1", sendto(fd, "u", 1, 0, &a.a, 1)); break;
    case 36: Said("write0", write(fd, "", 0)); break;
    case 37: Connect("connect", "127.0.0.1", "::1", to); break;
    case 38: Connect("connect-dead", "127.0.0.1", "::1", dead_port); break;
    case 39: Connect("connect-0", "127.0.0.1", "::1", 0); break;
    case 40: Connect("connect-any", "0.0.0.0", "::", to); break;
    case 41: Connect("connect-broadcast", "255.255.255.255", "ff02::1", to); break;
    case 42: Connect("connect-away", "10.9.8.7", "2001:db8::1", to); break;
    case 43: Connect("connect-group", "224.1.2.3", "ff15::1", to); break;
    case 44: n = Loop(&a, 0); a.a.sa_family = AF_UNSPEC; Said("connect-unspec", connect(fd, &a.a, n)); break;
    case 45: n = Loop(&a, to); a.a.sa_family = AF_UNIX; Said("connect-unix", connect(fd, &a.a, n)); break;
    case 46: n = Loop(&a, to); Said("connect-short", connect(fd, &a.a, n - 10)); break;
    case 47: n = Loop(&a, to); Said("connect-1", connect(fd, &a.a, 1)); break;
    case 48: Bind("bind0", "127.0.0.1", "::1", 0); break;
    case 49: Bind("bind-used", "127.0.0.1", "::1", to); break;
    case 50: Bind("bind-any", "0.0.0.0", "::", 0); break;
    case 51: Bind("bind-nonlocal", "10.9.8.7", "2001:db8::1", 0); break;
    case 52: Bind("bind-group", "224.1.2.3", "ff15::1", 0); break;
    case 53: n = Loop(&a, 0); a.a.sa_family = AF_UNIX; Said("bind-unix", bind(fd, &a.a, n)); break;
    case 54: n = Loop(&a, 0); Said("bind-short", bind(fd, &a.a, n - 10)); break;
    case 55: n = Loop(&a, 0); a.a.sa_family = AF_UNSPEC; Said("bind-unspec", bind(fd, &a.a, n)); break;
    case 56: Said("listen", listen(fd, 1)); break;
    case 57: Said("accept", accept(fd, NULL, NULL)); break;
    case 58: case 59: case 60: case 61: case 62: printf(" shutdown%d=%s", op - 59, Err(shutdown(fd, op - 59))); break;
    case 63: Ioctl("FIONREAD", FIONREAD); break;
    case 64: Ioctl("SIOCATMARK", SIOCATMARK); break;
    case 65: Ioctl("SIOCOUTQ", SIOCOUTQ); break;
    case 66: {
      struct pollfd p = {fd, 0, 0};
      int r = poll(&p, 1, 0);
      printf(" poll-none=%d:%x", r, p.revents);
      break;
    }
    case 67: n = Loop(&a, PortOf(fd)); Said("peer-sends", sendto(peer, "peer", 4, 0, &a.a, n)); break;
    case 68: n = Loop(&a, PortOf(fd)); Said("peer-sends-nothing", sendto(peer, "", 0, 0, &a.a, n)); break;
    case 69: Recv(peer, "peer-receives", 20, 0, 1); break;
    case 70: {
      int other = New();
      n = Loop(&a, PortOf(fd));
      Said("other-sends", sendto(other, "other", 5, 0, &a.a, n));
      close(other);
      break;
    }
    case 71: RecvErr(fd, 1); printf(" recverr"); break;
    case 72: RecvErr(fd, 0); printf(" no-recverr"); break;
    case 73: setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &v, sizeof(v)); printf(" broadcast"); break;
    case 74: close(peer), peer = New(), n = Loop(&a, 0), bind(peer, &a.a, n); printf(" other-peer"); break;
    case 75: {
      struct iovec iov[2] = {{"ab", 2}, {"cd", 2}};
      struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
      Said("sendmsg", sendmsg(fd, &m, MSG_NOSIGNAL));
      break;
    }
    case 76: SendTo("sendto-confirm", "127.0.0.1", "::1", to, "c", 1, MSG_CONFIRM); break;
    case 77: SendTo("sendto-probe", "127.0.0.1", "::1", to, "c", 1, 0x10 /* MSG_PROBE */); break;
    case 78: SendTo("sendto-dontroute", "10.9.8.7", "2001:db8::1", to, "c", 1, MSG_DONTROUTE); break;
    default: Connect("connect-self", "127.0.0.1", "::1", PortOf(fd)); break;
  }
}

int main(int argc, char **argv) {
  static char out[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof(out));
  int at = 1;
  if (at < argc && argv[at][0] == '6') family = AF_INET6, at++;
  else if (at < argc && argv[at][0] == 'm') family = AF_INET6, mapped = 1, at++;
  else if (at < argc && argv[at][0] == '4' && argc % 2 == 0) at++;
  int walks = at + 1 < argc;
  for (; at + 1 < argc; at += 2) {
    chance = (uint64_t)atoi(argv[at]) * 2654435761u + 99;
    int turns = atoi(argv[at + 1]);
    for (int s = 0; s < kStates; s++) {
      if (s == kCorked) continue;
      Make((enum State)s);
      printf("== %s seed %s\n", state_names[s], argv[at]);
      // Once corked, always corked is a matter of its own.
      for (int t = 0, op; t < turns; t++) op = (int)Next(kOps), Do(op == 20 || op == 24 ? 18 : op), printf(" | %x %x\n", Poll(fd), Poll(peer));
      close(fd), close(peer);
    }
  }
  if (walks) return 0;
  for (int s = 0; s < kStates; s++) {
    for (int op = 0; op < kOps; op++) {
      if ((s == kRefused || s == kRefusedRecverr) && op == 24) continue;  // Linux loses the next datagram
      if (s == kCorked && (op == 39 || op == 61 || op == 60 || op == 77)) continue;
      Make((enum State)s);
      printf("%s:", state_names[s]);
      Do(op);
      printf(" | %x", Poll(fd));
      Name("", 0), Name("", 1);
      printf(" error %d", SoError(fd)), printf(" %d", SoError(fd));
      Recv(peer, "peer", 8, 0, 1);
      Recv(fd, "then", 8, 0, 1);
      Said("and", send(fd, "z", 1, MSG_NOSIGNAL));
      printf(" | %x", Poll(fd));
      Recv(fd, "queue", 8, MSG_ERRQUEUE, 1);
      printf(" | %x\n", Poll(fd));
      close(fd), close(peer);
    }
  }
  return 0;
}
