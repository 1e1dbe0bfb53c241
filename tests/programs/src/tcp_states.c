// TCP sockets in every state there is, and every call on each of them: prints what the call gave and what can be
// seen of both ends afterwards, so that two kernels can be compared.
//   tcp_states [6] [SEED TURNS]: over IPv6; with a seed, that many random calls on each state instead of one.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
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

#define SOL_TCP 6
static int family = AF_INET;
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

static socklen_t Loop(Addr *a, int port) {
  memset(a, 0, sizeof(*a));
  if (family == AF_INET6) {
    a->v6.sin6_family = AF_INET6, a->v6.sin6_port = htons((uint16_t)port), a->v6.sin6_addr = in6addr_loopback;
    return sizeof(a->v6);
  }
  a->v4.sin_family = AF_INET, a->v4.sin_port = htons((uint16_t)port), a->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return sizeof(a->v4);
}
static const char *Err(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }
static int PortOf(int fd) {
  Addr a;
  socklen_t n = sizeof(a);
  return getsockname(fd, &a.a, &n) == 0 ? ntohs(a.v4.sin_port) : 0;
}
// Small segments do not wait for others to be acknowledged.
static int New(void) {
  int s = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(s, SOL_TCP, TCP_NODELAY, &one, sizeof(one));
  return s;
}
static void Reset(int fd) {
  struct linger l = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}
static int Poll(int fd) {
  struct pollfd p = {fd, 0x3fff & ~POLLNVAL, 0};
  return fd < 0 ? -1 : poll(&p, 1, 0) < 0 ? -2 : p.revents;
}

enum State {
  kFresh, kBound, kListening, kQueued, kConnecting, kRefused, kRefusedUntold, kEstablished, kUnread, kShutRead, kShutReadUnread, kShutWrite,
  kShutBoth, kPeerShut, kPeerShutUnread, kPeerClosed, kPeerClosedUnread, kPeerReset, kPeerResetUnread, kPeerResetTold, kPeerPoisoned,
  kBothShut, kShutThenPeer, kSelf, kDisconnected, kListenerShut, kListenerUnspec, kUrgent, kUrgentInline, kUrgentRead, kFull, kPeerFull,
  kAccepted, kShutFresh, kConnectingShut, kStates
};
static const char *const state_names[] = {
    "fresh", "bound", "listening", "queued", "connecting", "refused", "refused-untold", "established", "unread", "shut-read", "shut-read-unread",
    "shut-write", "shut-both", "peer-shut", "peer-shut-unread", "peer-closed", "peer-closed-unread", "peer-reset", "peer-reset-unread",
    "peer-reset-told", "peer-poisoned", "both-shut", "shut-then-peer", "self", "disconnected", "listener-shut", "listener-unspec", "urgent",
    "urgent-inline", "urgent-read", "full", "peer-full", "accepted", "shut-fresh", "connecting-shut"};

static int fd, peer, listener, spare[8], n_spare, dead_port;
static void CloseAll(void) {
  int all[] = {fd, peer, listener};
  for (int i = 0; i < 3; i++) {
    if (all[i] < 0) continue;
    Reset(all[i]);
    close(all[i]);
  }
  while (n_spare > 0) Reset(spare[--n_spare]), close(spare[n_spare]);
  fd = peer = listener = -1;
}

// A port that nobody serves, and that nobody is given as long as its socket is there.
static int DeadPort(void) {
  static int keep = -1;
  Addr a;
  socklen_t n = Loop(&a, 0);
  if (keep < 0) keep = New(), bind(keep, &a.a, n);
  return PortOf(keep);
}

// With small buffers for who reads, a writer soon finds no window.
static void Pair(int small) {
  Addr a;
  socklen_t n = Loop(&a, 0);
  int size = 2304;
  listener = New();
  if (small) setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
  bind(listener, &a.a, n);
  listen(listener, 4);
  n = Loop(&a, PortOf(listener));
  fd = New();
  if (small) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
  connect(fd, &a.a, n);
  struct pollfd p = {listener, POLLIN, 0};
  poll(&p, 1, 1000);
  peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
}
static void Fill(int from) {
  static char big[1 << 16];
  int size = 4096;
  setsockopt(from, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
  while (send(from, big, sizeof(big), MSG_NOSIGNAL) > 0) {
  }
}

static void Make(enum State s) {
  Addr a;
  socklen_t n = Loop(&a, 0);
  char b[16];
  int one = 1;
  fd = peer = listener = -1;
  switch (s) {
    case kFresh: fd = New(); return;
    case kShutFresh: fd = New(); shutdown(fd, SHUT_RDWR); return;
    case kBound: fd = New(); bind(fd, &a.a, n); return;
    case kListening: case kQueued: case kListenerShut: case kListenerUnspec:
      fd = New();
      bind(fd, &a.a, n);
      listen(fd, 4);
      if (s == kQueued) {
        n = Loop(&a, PortOf(fd));
        peer = New();
        connect(peer, &a.a, n);
      }
      if (s == kListenerShut) shutdown(fd, SHUT_RD);
      if (s == kListenerUnspec) a.a.sa_family = AF_UNSPEC, connect(fd, &a.a, sizeof(a.v4));
      return;
    case kConnecting: case kConnectingShut:
      listener = New();
      bind(listener, &a.a, n);
      listen(listener, 0);
      n = Loop(&a, PortOf(listener));
      for (int i = 0; i < 2; i++) connect(spare[n_spare++] = New(), &a.a, n);
      fd = New();
      connect(fd, &a.a, n);
      if (s == kConnectingShut) shutdown(fd, SHUT_RDWR);
      return;
    case kRefused: case kRefusedUntold:
      n = Loop(&a, dead_port);
      fd = socket(family, SOCK_STREAM | (s == kRefusedUntold ? SOCK_NONBLOCK : 0), 0);
      connect(fd, &a.a, n);
      fcntl(fd, F_SETFL, O_NONBLOCK);
      return;
    case kSelf:
      fd = New();
      bind(fd, &a.a, n);
      n = Loop(&a, PortOf(fd));
      connect(fd, &a.a, n);
      return;
    default: break;
  }
  Pair(s == kFull || s == kPeerFull);
  switch (s) {
    case kUnread: send(peer, "unread", 6, 0); return;
    case kShutRead: shutdown(fd, SHUT_RD); return;
    case kShutReadUnread: send(peer, "unread", 6, 0); shutdown(fd, SHUT_RD); return;
    case kShutWrite: shutdown(fd, SHUT_WR); return;
    case kShutBoth: shutdown(fd, SHUT_RDWR); return;
    case kPeerShut: shutdown(peer, SHUT_WR); return;
    case kPeerShutUnread: send(peer, "unread", 6, 0); shutdown(peer, SHUT_WR); return;
    case kPeerClosedUnread: send(peer, "unread", 6, 0); close(peer); peer = -1; return;
    case kPeerClosed: close(peer); peer = -1; return;
    case kPeerResetUnread: send(peer, "unread", 6, 0); Reset(peer); close(peer); peer = -1; return;
    case kPeerReset: case kPeerResetTold:
      Reset(peer);
      close(peer);
      peer = -1;
      if (s == kPeerResetTold) recv(fd, b, 1, 0);
      return;
    case kPeerPoisoned: close(peer); peer = -1; send(fd, "x", 1, MSG_NOSIGNAL); return;
    case kBothShut: shutdown(peer, SHUT_WR); shutdown(fd, SHUT_WR); return;
    case kShutThenPeer: shutdown(fd, SHUT_WR); shutdown(peer, SHUT_WR); return;
    case kDisconnected: a.a.sa_family = AF_UNSPEC; connect(fd, &a.a, sizeof(a.v4)); return;
    case kUrgentInline: setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)); send(peer, "ab", 2, 0); send(peer, "cU", 2, MSG_OOB); send(peer, "d", 1, 0); return;
    case kUrgent: send(peer, "ab", 2, 0); send(peer, "cU", 2, MSG_OOB); send(peer, "d", 1, 0); return;
    case kUrgentRead: send(peer, "ab", 2, 0); send(peer, "cU", 2, MSG_OOB); recv(fd, b, 1, MSG_OOB); return;
    case kFull: Fill(fd); return;
    case kPeerFull: Fill(peer); return;
    case kAccepted: { int t = fd; fd = peer; peer = t; return; }
    default: return;
  }
}

static void Said(const char *what, long r) { printf(" %s=%s", what, Err(r)); if (r > 0 && r < 1000) printf("/%ld", r); else if (r > 0) printf("/many"); }
static void Recv(int s, const char *what, size_t n, int flags) {
  char b[64] = "";
  long r = recv(s, b, n, flags | MSG_NOSIGNAL);
  Said(what, r);
  if (r > 0 && r < 16 && b[0] != 0) printf("'%.*s'", (int)(r < (long)n ? r : (long)n), b);
}
static int InfoState(int s) {
  struct tcp_info i;
  socklen_t n = sizeof(i);
  memset(&i, 0, sizeof(i));
  return s < 0 ? -1 : getsockopt(s, SOL_TCP, TCP_INFO, &i, &n) < 0 ? -2 : i.tcpi_state == 5 ? 4 : i.tcpi_state;  // FIN_WAIT2 follows FIN_WAIT1 as soon as an ACK comes
}
static int SoError(int s) {
  int e = 0;
  socklen_t n = sizeof(e);
  return getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &n) < 0 ? -1 : e;
}
static void Name(const char *what, int s, int of_peer) {
  Addr a;
  socklen_t n = sizeof(a);
  memset(&a, 0, sizeof(a));
  long r = of_peer ? getpeername(s, &a.a, &n) : getsockname(s, &a.a, &n);
  printf(" %s=%s", what, Err(r));
  if (r == 0) printf("/%u:%u:%d", n, a.a.sa_family, a.v4.sin_port != 0);
  if (r == 0 && family == AF_INET) printf(":%x", ntohl(a.v4.sin_addr.s_addr));
}
static int InfoState(int s);
static void Ioctl(const char *what, unsigned long call) {
  int v = -1, state = InfoState(fd);
  // What was left of the sequence numbers of a connection that is over, and when a FIN is acknowledged.
  if ((call == SIOCOUTQ || call == SIOCOUTQNSD) && (state == 7 || state == 4)) return;
  long r = ioctl(fd, call, &v);
  printf(" %s=%s:%s", what, Err(r), r < 0 ? "" : v > 1000 ? "many" : "");
  if (r == 0 && v < 1000) printf("%d", v);
}

enum { kOps = 66 };
static void Do(int op) {
  Addr a;
  socklen_t n;
  int v = 1;
  struct epoll_event e = {.events = 0x3fffu | EPOLLRDHUP};
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
    case 2: Name("sockname", fd, 0); break;
    case 3: Name("peername", fd, 1); break;
    case 4: printf(" SO_ERROR=%d", SoError(fd)); break;
    case 5: Recv(fd, "recv0", 0, 0); break;
    case 6: Recv(fd, "recv1", 1, 0); break;
    case 7: Recv(fd, "recv", 10, 0); break;
    case 8: Recv(fd, "peek", 10, MSG_PEEK); break;
    case 9: Recv(fd, "trunc", 3, MSG_TRUNC); break;
    case 10: Recv(fd, "peektrunc", 3, MSG_TRUNC | MSG_PEEK); break;
    case 11: Recv(fd, "oob", 3, MSG_OOB); break;
    case 12: Recv(fd, "oobpeek", 3, MSG_OOB | MSG_PEEK); break;
    case 13: Recv(fd, "waitall", 10, MSG_WAITALL); break;
    case 14: Recv(fd, "errqueue", 10, MSG_ERRQUEUE); break;
    case 15: Said("read0", read(fd, &a, 0)); break;
    case 16: Said("send0", send(fd, "", 0, MSG_NOSIGNAL)); break;
    case 17: Said("send1", send(fd, "s", 1, MSG_NOSIGNAL)); break;
    case 18: Said("sendoob", send(fd, "yO", 2, MSG_NOSIGNAL | MSG_OOB)); break;
    case 19: Said("sendmore", send(fd, "more", 4, MSG_NOSIGNAL | MSG_MORE)); break;
    case 20: n = Loop(&a, dead_port); Said("sendto", sendto(fd, "t", 1, MSG_NOSIGNAL, &a.a, n)); break;
    case 21: n = Loop(&a, dead_port); Said("fastopen", sendto(fd, "t", 1, MSG_NOSIGNAL | MSG_FASTOPEN, &a.a, n)); break;
    case 22: Said("write0", write(fd, "", 0)); break;
    case 23: n = Loop(&a, dead_port); Said("connect-dead", connect(fd, &a.a, n)); break;
    case 24: n = Loop(&a, listener < 0 ? dead_port : PortOf(listener)); Said("connect", connect(fd, &a.a, n)); break;
    case 25: n = Loop(&a, 0); a.a.sa_family = AF_UNSPEC; Said("connect-unspec", connect(fd, &a.a, n)); break;
    case 26: n = Loop(&a, dead_port); a.a.sa_family = AF_UNIX; Said("connect-unix", connect(fd, &a.a, n)); break;
    case 27: n = Loop(&a, dead_port); Said("connect-short", connect(fd, &a.a, n - 12)); break;
    case 28: n = Loop(&a, dead_port); Said("connect-1", connect(fd, &a.a, 1)); break;
    case 29: n = Loop(&a, 0); Said("bind0", bind(fd, &a.a, n)); break;
    case 30: n = Loop(&a, dead_port); Said("bind-used", bind(fd, &a.a, n)); break;
    case 31: n = Loop(&a, dead_port); a.a.sa_family = AF_UNIX; Said("bind-unix", bind(fd, &a.a, n)); break;
    case 32: n = Loop(&a, dead_port); Said("bind-short", bind(fd, &a.a, n - 12)); break;
    case 33: n = Loop(&a, 1); memset((char *)&a + 4, 9, 4); memset((char *)&a + 8, 9, n - 8); Said("bind-nonlocal", bind(fd, &a.a, n)); break;
    case 34: Said("listen", listen(fd, 2)); break;
    case 35: Said("listen-1", listen(fd, -1)); break;
    case 36: case 37: {
      n = sizeof(a);
      int t = op == 36 ? accept4(fd, &a.a, &n, SOCK_NONBLOCK) : accept4(fd, NULL, NULL, 0x12345);
      printf(" accept%s=%s", op == 36 ? "" : "-flags", Err(t));
      if (t >= 0) printf("/%u:%u poll %x error %d", n, a.a.sa_family, Poll(t), SoError(t)), spare[n_spare++] = t;
      break;
    }
    case 38: case 39: case 40: case 41: case 42: printf(" shutdown%d=%s", op - 39, Err(shutdown(fd, op - 39))); break;
    case 43: Ioctl("FIONREAD", FIONREAD); break;
    case 44: Ioctl("SIOCATMARK", SIOCATMARK); break;
    case 45: Ioctl("SIOCOUTQ", SIOCOUTQ); break;
    case 46: Ioctl("SIOCOUTQNSD", SIOCOUTQNSD); break;
    case 47: n = sizeof(v), v = 0; printf(" SO_ACCEPTCONN=%s", Err(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &v, &n))), printf(":%d", v); break;
    case 48: {
      struct pollfd p = {fd, 0, 0};
      printf(" poll-none=%d:", poll(&p, 1, 0)), printf("%x", p.revents);
      break;
    }
    case 49: if (peer >= 0) close(peer), peer = -1; printf(" peer-closes"); break;
    case 50: if (peer >= 0) Reset(peer), close(peer), peer = -1; printf(" peer-resets"); break;
    case 51: if (peer >= 0) Said("peer-sends", send(peer, "peer", 4, MSG_NOSIGNAL)); break;
    case 52: if (peer >= 0) Said("peer-sends-oob", send(peer, "pP", 2, MSG_NOSIGNAL | MSG_OOB)); break;
    case 53: if (peer >= 0) Said("peer-shuts", shutdown(peer, SHUT_WR)); break;
    case 54: if (peer >= 0) Said("peer-shuts-reading", shutdown(peer, SHUT_RD)); break;
    case 55: if (peer >= 0) Recv(peer, "peer-receives", 20, 0); break;
    case 56: v = 0; setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &v, sizeof(v)); printf(" not-inline"); break;
    case 57: setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &v, sizeof(v)); printf(" inline"); break;
    case 58: Recv(fd, "rest", 64, 0); break;
    case 59: if (peer >= 0) a.a.sa_family = AF_UNSPEC, Said("peer-disconnects", connect(peer, &a.a, sizeof(a.v4))); break;
    case 60: {
      struct iovec iov[2] = {{"ab", 2}, {"cd", 2}};
      struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2, .msg_name = &a, .msg_namelen = Loop(&a, dead_port)};
      Said("sendmsg-named", sendmsg(fd, &m, MSG_NOSIGNAL));
      break;
    }
    case 61: {
      char b[32];
      struct iovec iov[2] = {{b, 2}, {b + 2, 20}};
      struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2, .msg_name = &a, .msg_namelen = sizeof(a), .msg_control = b, .msg_controllen = 32};
      Said("recvmsg", recvmsg(fd, &m, 0));
      printf(" name %u control %zu flags %x", m.msg_namelen, (size_t)m.msg_controllen, m.msg_flags);
      break;
    }
    case 62: n = Loop(&a, 0); a.a.sa_family = AF_UNSPEC; Said("bind-unspec", bind(fd, &a.a, n)); break;
    case 63: n = Loop(&a, PortOf(fd)); Said("connect-self", connect(fd, &a.a, n)); break;
    case 64: setsockopt(fd, SOL_TCP, TCP_CORK, &v, sizeof(v)); Said("corked", send(fd, "k", 1, MSG_NOSIGNAL)); break;
    default: Recv(fd, "dontwait", 1, MSG_DONTWAIT | MSG_OOB | MSG_WAITALL); break;
  }
}

static void See(void) {
  printf(" | %x state %d", Poll(fd), InfoState(fd));
  printf(" | %x state %d", Poll(peer), InfoState(peer));
}

static void Pipe(int sig) {
  (void)sig;
  printf(" SIGPIPE");
}

int main(int argc, char **argv) {
  signal(SIGPIPE, Pipe);
  static char out[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof(out));
  int at = 1;
  if (at < argc && strcmp(argv[at], "6") == 0) family = AF_INET6, at++;
  dead_port = DeadPort();
  for (; at + 1 < argc; at += 2) {
    chance = (uint64_t)atoi(argv[at]) * 2654435761u + 99;
    int turns = atoi(argv[at + 1]);
    for (int s = 0; s < kStates; s++) {
      if (s == kFull || s == kPeerFull) continue;  // how much fits is each kernel's own
      Make((enum State)s);
      printf("== %s seed %s\n", state_names[s], argv[at]);
      // When small segments that wait are sent depends on when they are acknowledged.
      for (int t = 0, op; t < turns; t++) op = (int)Next(kOps), Do(op == 19 || op == 64 ? 17 : op == 45 ? 43 : op), See(), printf("\n");
      CloseAll();
    }
  }
  if (argc > 2) return 0;
  for (int s = 0; s < kStates; s++) {
    for (int op = 0; op < kOps; op++) {
      if (s == kFull && op >= 51 && op <= 53) continue;  // how much fits is each kernel's own
      Make((enum State)s);
      printf("%s:", state_names[s]);
      Do(op);
      See();
      printf(" | error %d", SoError(fd)), printf(" then %d", SoError(fd));
      if (peer >= 0) printf(" error %d", SoError(peer)), Recv(peer, "peer", 8, 0), See();
      Recv(fd, "then", 8, 0);
      Said("and", send(fd, "z", 1, MSG_NOSIGNAL));
      See();
      printf("\n");
      CloseAll();
    }
  }
  return 0;
}
