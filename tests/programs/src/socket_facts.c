// Sockets told line by line: binds of pairs, control messages, errors, buffers, queues, facts of
// TCP_INFO.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOL_TCP 6
#define SOL_UDP 17
#define IP_PROTOCOL 52
typedef union {
  struct sockaddr a;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
  struct sockaddr_storage s;
} Addr;
static char big[1 << 17];
static const char* Err(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }
static socklen_t Make(Addr* a, const char* ip, int port) {
  memset(a, 0, sizeof *a);
  if (strchr(ip, ':')) {
    a->v6.sin6_family = AF_INET6;
    a->v6.sin6_port = htons(port);
    inet_pton(AF_INET6, ip, &a->v6.sin6_addr);
    return sizeof a->v6;
  }
  a->v4.sin_family = AF_INET;
  a->v4.sin_port = htons(port);
  inet_pton(AF_INET, ip, &a->v4.sin_addr);
  return sizeof a->v4;
}
static const char* Show(const Addr* a) {
  static char t[4][64];
  static int k;
  char *o = t[k++ & 3], b[64];
  if (a->a.sa_family == AF_INET)
    snprintf(o, 64, "%s", inet_ntop(AF_INET, &a->v4.sin_addr, b, 64));
  else if (a->a.sa_family == AF_INET6)
    snprintf(o, 64, "%s%%%u", inet_ntop(AF_INET6, &a->v6.sin6_addr, b, 64), a->v6.sin6_scope_id);
  else
    snprintf(o, 64, "family %d", a->a.sa_family);
  return o;
}
static int Int(int s, int l, int n) {
  int v = -1;
  socklen_t z = sizeof v;
  return getsockopt(s, l, n, &v, &z) < 0 ? -errno : v;
}
static int Set(int s, int l, int n, int v) { return setsockopt(s, l, n, &v, sizeof v); }
static int PortOf(int s) {
  Addr a;
  socklen_t n = sizeof a;
  getsockname(s, &a.a, &n);
  return ntohs(a.v4.sin_port);
}
static int Poll(int s) {
  struct pollfd p = {s, 0x3fff & ~(POLLNVAL), 0};
  poll(&p, 1, 0);
  return p.revents;
}
static void Wait(int s, int ev) {
  struct pollfd p = {s, (short)ev, 0};
  poll(&p, 1, 1000);
}

// ---- Binds of two sockets to one port ----
struct B {
  const char* ip;
  int v6only, reuse;
};  // reuse: 1 addr, 2 port, 3 both
static int OpenB(int type, const struct B* b) {
  int s = socket(strchr(b->ip, ':') ? AF_INET6 : AF_INET, type, 0);
  if (strchr(b->ip, ':')) Set(s, IPPROTO_IPV6, IPV6_V6ONLY, b->v6only);
  if (b->reuse & 1) Set(s, SOL_SOCKET, SO_REUSEADDR, 1);
  if (b->reuse & 2) Set(s, SOL_SOCKET, SO_REUSEPORT, 1);
  return s;
}
static void Binds(void) {
  const char* ips[] = {
      "0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"};
  for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++)
    for (int i = 0; i < 8; i++)
      for (int j = 0; j < 8; j++) {
        printf("%s %s%s then %s%s:", type == SOCK_STREAM ? "tcp" : "udp", ips[i],
               i == 4 ? " only" : "", ips[j], j == 4 ? " only" : "");
        for (int r = 0; r < 16; r++)
          for (int listening = 0; listening < (type == SOCK_STREAM ? 3 : 1); listening++) {
            struct B x = {ips[i], i == 4, r & 3}, y = {ips[j], j == 4, r >> 2};
            int a = OpenB(type, &x), b = OpenB(type, &y);
            Addr m;
            socklen_t n = Make(&m, x.ip, 0);
            if (bind(a, &m.a, n) < 0) {
              printf(" !%s", Err(-1));
              close(a);
              close(b);
              continue;
            }
            if (listening >= 1) listen(a, 1);
            n = Make(&m, y.ip, PortOf(a));
            long e = bind(b, &m.a, n);
            if (e == 0 && listening == 2) {
              e = listen(b, 1);
              printf(" %s", e < 0 ? "l" : ".");
            } else
              printf(" %s", e == 0 ? "+" : errno == EADDRINUSE ? "-" : Err(-1));
            close(a);
            close(b);
          }
        printf("\n");
      }
}

// ---- Control messages ----
static void Cmsgs(struct msghdr* m) {
  for (struct cmsghdr* c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
    printf("    level %d type %d len %zu", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
    char t[64];
    unsigned char* d = CMSG_DATA(c);
    if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO) {
      struct in_pktinfo* p = (void*)d;
      printf(" if %d spec %s", p->ipi_ifindex, inet_ntop(AF_INET, &p->ipi_spec_dst, t, 64));
      printf(" addr %s", inet_ntop(AF_INET, &p->ipi_addr, t, 64));
    } else if (c->cmsg_level == SOL_IPV6 &&
               (c->cmsg_type == IPV6_PKTINFO || c->cmsg_type == IPV6_2292PKTINFO)) {
      struct in6_pktinfo* p = (void*)d;
      printf(" if %d addr %s", p->ipi6_ifindex, inet_ntop(AF_INET6, &p->ipi6_addr, t, 64));
    } else if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
               (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
      struct sock_extended_err* e = (void*)d;
      Addr* o = (void*)SO_EE_OFFENDER(e);
      printf(" err %s origin %d type %d code %d info %u data %u offender %s",
             strerrorname_np(e->ee_errno), e->ee_origin, e->ee_type, e->ee_code, e->ee_info,
             e->ee_data, Show(o));
    } else if (c->cmsg_level == SOL_SOCKET &&
               (c->cmsg_type == 29 || c->cmsg_type == 35 || c->cmsg_type == 37 ||
                c->cmsg_type == 63 || c->cmsg_type == 64 || c->cmsg_type == 65)) {
      printf(" a time");
    } else if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_ORIGDSTADDR) {
      printf(" %s", Show((Addr*)d));
    } else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_ORIGDSTADDR) {
      printf(" %s", Show((Addr*)d));
    } else
      for (size_t i = 0; i < c->cmsg_len - sizeof *c && i < 32; i++) printf(" %02x", d[i]);
    printf("\n");
  }
}
static void Read(int s, int flags, size_t control) {
  char b[64], ctl[1024];
  Addr from;
  memset(&from, 0, sizeof from);
  struct iovec v = {b, sizeof b};
  struct msghdr m = {&from, sizeof from, &v, 1, ctl, control, 0};
  long n = recvmsg(s, &m, flags | MSG_DONTWAIT);
  printf("  recvmsg %ld %s flags %x namelen %u from %s controllen %zu\n", n, Err(n),
         n < 0 ? 0 : m.msg_flags, n < 0 ? 0 : m.msg_namelen, n < 0 ? "-" : Show(&from),
         n < 0 ? 0 : (size_t)m.msg_controllen);
  if (n >= 0) Cmsgs(&m);
}
static void All(int s, int on) {
  int ip[] = {IP_PKTINFO, IP_RECVTTL,         IP_RECVTOS,      IP_RECVOPTS,
              IP_RETOPTS, IP_RECVORIGDSTADDR, IP_RECVFRAGSIZE, IP_PASSSEC};
  int v6[] = {IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS,      IPV6_RECVHOPOPTS,
              IPV6_RECVDSTOPTS, IPV6_RECVRTHDR,    IPV6_RECVORIGDSTADDR, IPV6_RECVFRAGSIZE};
  for (unsigned i = 0; i < sizeof ip / 4; i++)
    printf(" %d:%s", ip[i], Err(Set(s, SOL_IP, ip[i], on)));
  for (unsigned i = 0; i < sizeof v6 / 4; i++)
    printf(" %d:%s", v6[i], Err(Set(s, SOL_IPV6, v6[i], on)));
  printf("\n");
}
static void Control(void) {
  struct {
    int family;
    const char *bind, *to;
  } k[] = {{AF_INET, "127.0.0.1", "127.0.0.1"},
           {AF_INET, "0.0.0.0", "127.0.0.3"},
           {AF_INET6, "::1", "::1"},
           {AF_INET6, "::", "::1"},
           {AF_INET6, "::", "::ffff:127.0.0.1"},
           {AF_INET6, "::ffff:127.0.0.1", "::ffff:127.0.0.1"},
           {AF_INET6, "::", "127.0.0.1"}};
  for (int i = 0; i < 7; i++)
    for (int stamp = 0; stamp < 4; stamp++) {
      int r = socket(k[i].family, SOCK_DGRAM, 0),
          s = socket(strchr(k[i].to, ':') ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
      Addr a;
      socklen_t n = Make(&a, k[i].bind, 0);
      printf("control %s to %s stamp %d: bind %s", k[i].bind, k[i].to, stamp,
             Err(bind(r, &a.a, n)));
      All(r, 1);
      if (stamp == 1) Set(r, SOL_SOCKET, SO_TIMESTAMP, 1);
      if (stamp == 2) Set(r, SOL_SOCKET, SO_TIMESTAMPNS, 1);
      if (stamp == 3) {
        Set(r, SOL_SOCKET, SO_TIMESTAMPING, 0x18);
        Set(r, SOL_SOCKET, SO_RXQ_OVFL, 1);
        Set(r, SOL_SOCKET, SO_RCVMARK, 1);
      }
      n = Make(&a, k[i].to, PortOf(r));
      Set(s, SOL_IP, IP_TOS, 0x48);
      Set(s, SOL_IP, IP_TTL, 33);
      Set(s, SOL_IPV6, IPV6_TCLASS, 0x28);
      Set(s, SOL_IPV6, IPV6_UNICAST_HOPS, 44);
      Set(s, SOL_SOCKET, SO_MARK, 5);
      Set(s, SOL_SOCKET, SO_PRIORITY, 3);
      for (int m = 0; m < 4; m++) {
        Addr t = a;
        printf("  sendto %s\n", Err(sendto(s, "x", 1, 0, &t.a, n)));
      }
      Wait(r, POLLIN);
      Read(r, 0, 1024);
      Read(r, MSG_PEEK, 1024);
      Read(r, 0, 40);
      Read(r, 0, 0);
      Read(r, MSG_TRUNC, 64);
      Read(r, 0, 64);
      close(r);
      close(s);
    }
  // Of streams, and what was sent along.
  for (int f = 0; f < 2; f++) {
    int l = socket(f ? AF_INET6 : AF_INET, SOCK_STREAM, 0),
        c = socket(f ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    Addr a;
    socklen_t n = Make(&a, f ? "::1" : "127.0.0.1", 0);
    bind(l, &a.a, n);
    listen(l, 1);
    n = Make(&a, f ? "::1" : "127.0.0.1", PortOf(l));
    printf("stream %d", f);
    All(l, 1);
    connect(c, &a.a, n);
    int s = accept(l, 0, 0);
    Set(s, SOL_SOCKET, SO_TIMESTAMP, 1);
    Set(s, SOL_TCP, TCP_INQ, 1);
    send(c, "hello", 5, 0);
    Wait(s, POLLIN);
    Read(s, MSG_PEEK, 1024);
    Read(s, 0, 1024);
    Read(s, 0, 1024);
    int opt = f ? IPV6_PKTINFO : IP_PKTOPTIONS;
    char o[512];
    socklen_t on = sizeof o;
    long r = f ? getsockopt(s, SOL_IPV6, IPV6_2292PKTOPTIONS, o, &on)
               : getsockopt(s, SOL_IP, opt, o, &on);
    printf("  pktoptions %s %u\n", Err(r), r < 0 ? 0 : on);
    if (r == 0) {
      struct msghdr m = {.msg_control = o, .msg_controllen = on};
      Cmsgs(&m);
    }
    close(c);
    close(s);
    close(l);
  }
}
static void SendControl(int s, const Addr* to, socklen_t n, int level, int type, const void* d,
                        size_t len, const char* what) {
  char ctl[256] = {0};
  struct iovec v = {"x", 1};
  struct msghdr m = {(void*)to, n, &v, 1, ctl, CMSG_SPACE(len), 0};
  struct cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = level;
  c->cmsg_type = type;
  c->cmsg_len = CMSG_LEN(len);
  memcpy(CMSG_DATA(c), d, len);
  printf(" %s len %zu: %s\n", what, len, Err(sendmsg(s, &m, 0)));
}
static void SendControls(void) {
  int r = socket(AF_INET6, SOCK_DGRAM, 0), s4 = socket(AF_INET, SOCK_DGRAM, 0),
      s6 = socket(AF_INET6, SOCK_DGRAM, 0);
  Addr a, m;
  socklen_t n = Make(&a, "::", 0), k;
  bind(r, &a.a, n);
  int port = PortOf(r);
  printf("sending");
  All(r, 1);
  n = Make(&a, "127.0.0.1", port);
  Addr a6;
  socklen_t n6 = Make(&a6, "::1", port);
  k = Make(&m, "::ffff:127.0.0.1", port);
  int v[] = {-2, -1, 0, 1, 64, 255, 256};
  for (int i = 0; i < 7; i++) {
    unsigned char b = (unsigned char)v[i];
    printf("value %d\n", v[i]);
    SendControl(s4, &a, n, SOL_IP, IP_TTL, &v[i], 4, "ttl");
    SendControl(s4, &a, n, SOL_IP, IP_TTL, &b, 1, "ttl");
    SendControl(s4, &a, n, SOL_IP, IP_TOS, &v[i], 4, "tos");
    SendControl(s4, &a, n, SOL_IP, IP_TOS, &b, 1, "tos");
    SendControl(s4, &a, n, SOL_IP, IP_TOS, &v[i], 2, "tos");
    SendControl(s4, &a, n, SOL_IP, IP_PROTOCOL, &v[i], 4, "protocol");
    SendControl(s6, &a6, n6, SOL_IPV6, IPV6_HOPLIMIT, &v[i], 4, "hoplimit");
    SendControl(s6, &a6, n6, SOL_IPV6, IPV6_HOPLIMIT, &b, 1, "hoplimit");
    SendControl(s6, &a6, n6, SOL_IPV6, IPV6_TCLASS, &v[i], 4, "tclass");
    SendControl(s6, &a6, n6, SOL_IPV6, IPV6_DONTFRAG, &v[i], 4, "dontfrag");
    SendControl(s6, &m, k, SOL_IP, IP_TTL, &v[i], 4, "mapped ttl");
    SendControl(s6, &m, k, SOL_IP, IP_TOS, &v[i], 4, "mapped tos");
    SendControl(s6, &m, k, SOL_IPV6, IPV6_HOPLIMIT, &v[i], 4, "mapped hoplimit");
    SendControl(s4, &a, n, SOL_SOCKET, SO_MARK, &v[i], 4, "mark");
    SendControl(s4, &a, n, SOL_SOCKET, SO_TIMESTAMPING, &v[i], 4, "timestamping");
    SendControl(s4, &a, n, SOL_SOCKET, 61, &v[i], 4, "txtime");
    SendControl(s4, &a, n, SOL_UDP, 103, &v[i], 2, "segment");
  }
  const char* from[] = {"127.0.0.1", "127.0.0.9", "10.1.2.3", "0.0.0.0", "224.0.0.1"};
  for (int i = 0; i < 5; i++)
    for (int f = 0; f < 3; f++) {
      struct in_pktinfo p = {f == 2 ? 77 : f, {0}, {0}};
      inet_pton(AF_INET, from[i], &p.ipi_spec_dst);
      printf("pktinfo if %d %s\n", p.ipi_ifindex, from[i]);
      SendControl(s4, &a, n, SOL_IP, IP_PKTINFO, &p, sizeof p, "v4");
      SendControl(s6, &m, k, SOL_IP, IP_PKTINFO, &p, sizeof p, "mapped");
      SendControl(s4, &a, n, SOL_IP, IP_PKTINFO, &p, 8, "short");
      struct in6_pktinfo q = {.ipi6_ifindex = p.ipi_ifindex};
      char t[64];
      const char* f6[] = {"::1", "::2", "::ffff:127.0.0.5", "::", "ff02::1"};
      inet_pton(AF_INET6, f6[i], &q.ipi6_addr);
      (void)t;
      printf("pktinfo if %d %s\n", p.ipi_ifindex, f6[i]);
      SendControl(s6, &a6, n6, SOL_IPV6, IPV6_PKTINFO, &q, sizeof q, "v6");
      SendControl(s6, &m, k, SOL_IPV6, IPV6_PKTINFO, &q, sizeof q, "mapped");
      SendControl(s4, &a, n, SOL_IPV6, IPV6_PKTINFO, &q, sizeof q, "v4");
    }
  for (int i = 0; i < 300; i++) {
    if (Poll(r) & POLLIN)
      Read(r, 0, 1024);
    else
      break;
  }
  close(r);
  close(s4);
  close(s6);
}

// ---- Errors of datagrams ----
static void Errors(void) {
  struct {
    int family;
    const char* to;
  } k[] = {{AF_INET, "127.0.0.1"}, {AF_INET6, "::1"}, {AF_INET6, "::ffff:127.0.0.1"}};
  for (int i = 0; i < 3; i++)
    for (int mode = 0; mode < 8; mode++) {
      int dead = socket(k[i].family, SOCK_DGRAM, 0), s = socket(k[i].family, SOCK_DGRAM, 0);
      Addr a;
      socklen_t n = Make(&a, k[i].to, 0);
      bind(dead, &a.a, n);
      n = Make(&a, k[i].to, PortOf(dead));
      close(dead);
      printf("refused %s mode %d:", k[i].to, mode);
      if (mode & 1) {
        Set(s, SOL_IP, IP_RECVERR, 1);
        Set(s, SOL_IPV6, IPV6_RECVERR, 1);
      }
      if (mode & 2) printf(" connect %s", Err(connect(s, &a.a, n)));
      if (mode & 4)
        All(s, 1);
      else
        printf("\n");
      long e = mode & 2 ? send(s, "abc", 3, 0) : sendto(s, "abc", 3, 0, &a.a, n);
      printf("  send %s poll %x\n", Err(e), Poll(s));
      e = mode & 2 ? send(s, "abcd", 4, 0) : sendto(s, "abcd", 4, 0, &a.a, n);
      printf("  again %s poll %x\n", Err(e), Poll(s));
      Read(s, MSG_ERRQUEUE, 1024);
      printf("  poll %x error %d\n", Poll(s), Int(s, SOL_SOCKET, SO_ERROR));
      Read(s, MSG_ERRQUEUE, 30);
      Read(s, 0, 1024);
      Read(s, MSG_ERRQUEUE, 1024);
      printf("  poll %x\n", Poll(s));
      close(s);
    }
  // Too large, and what may not be sent to.
  for (int f = 0; f < 2; f++) {
    int s = socket(f ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
    Addr a;
    socklen_t n = Make(&a, f ? "::1" : "127.0.0.1", 9);
    if (f)
      Set(s, SOL_IPV6, IPV6_RECVERR, 1);
    else
      Set(s, SOL_IP, IP_RECVERR, 1);
    int z[] = {65507, 65508, 65527, 65528, 65535, 65536, 100000};
    for (int i = 0; i < 7; i++) {
      printf("size %d: %s\n", z[i], Err(sendto(s, big, (size_t)z[i], 0, &a.a, n)));
      Read(s, MSG_ERRQUEUE, 1024);
    }
    for (int d = 0; d < 6; d++) {
      printf("pmtudisc %d: %s", d,
             Err(f ? Set(s, SOL_IPV6, IPV6_MTU_DISCOVER, d) : Set(s, SOL_IP, IP_MTU_DISCOVER, d)));
      printf(" connect %s", Err(connect(s, &a.a, n)));
      printf(" mtu %d", f ? Int(s, SOL_IPV6, IPV6_MTU) : Int(s, SOL_IP, IP_MTU));
      for (int i = 0; i < 6; i++) printf(" %s", Err(send(s, big, (size_t)z[i], 0)));
      printf("\n");
    }
    Read(s, MSG_ERRQUEUE, 1024);
    close(s);
  }
  const char* to[] = {"255.255.255.255", "127.255.255.255", "224.0.0.5", "0.0.0.0",
                      "10.9.9.9",        "240.0.0.1",       "::",        "ff02::1",
                      "2001:db8::1",     "::ffff:10.9.9.9", "fe80::1"};
  for (int i = 0; i < 11; i++)
    for (int b = 0; b < 2; b++) {
      int s = socket(strchr(to[i], ':') ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
      Addr a;
      socklen_t n = Make(&a, to[i], 9);
      if (b) Set(s, SOL_SOCKET, SO_BROADCAST, 1);
      printf("to %s broadcast %d: %s", to[i], b, Err(sendto(s, "x", 1, 0, &a.a, n)));
      printf(" connect %s", Err(connect(s, &a.a, n)));
      Addr l;
      socklen_t ln = sizeof l;
      getsockname(s, &l.a, &ln);
      printf(" local %s", Show(&l));
      int t = socket(strchr(to[i], ':') ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
      printf(" tcp %s\n", Err(connect(t, &a.a, n)));
      close(t);
      close(s);
    }
}

// ---- Groups ----
static void Groups(void) {
  for (int loop = 0; loop < 2; loop++)
    for (int all = 0; all < 2; all++)
      for (int join = 0; join < 3; join++) {
        int r = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_DGRAM, 0);
        Addr a;
        socklen_t n = Make(&a, join == 2 ? "239.1.1.1" : "0.0.0.0", 0);
        printf("group loop %d all %d join %d: %s", loop, all, join, Err(bind(r, &a.a, n)));
        struct ip_mreqn q = {.imr_ifindex = 1};
        inet_pton(AF_INET, "239.1.1.1", &q.imr_multiaddr);
        if (join) printf(" join %s", Err(setsockopt(r, SOL_IP, IP_ADD_MEMBERSHIP, &q, sizeof q)));
        Set(r, SOL_IP, IP_MULTICAST_ALL, all);
        Set(s, SOL_IP, IP_MULTICAST_LOOP, loop);
        q.imr_multiaddr.s_addr = 0;
        printf(" if %s", Err(setsockopt(s, SOL_IP, IP_MULTICAST_IF, &q, sizeof q)));
        n = Make(&a, "239.1.1.1", PortOf(r));
        printf(" send %s", Err(sendto(s, "m", 1, 0, &a.a, n)));
        printf(" poll %x ttl %d\n", Poll(r), Int(s, SOL_IP, IP_MULTICAST_TTL));
        close(r);
        close(s);
        r = socket(AF_INET6, SOCK_DGRAM, 0);
        s = socket(AF_INET6, SOCK_DGRAM, 0);
        n = Make(&a, "::", 0);
        bind(r, &a.a, n);
        struct ipv6_mreq q6 = {.ipv6mr_interface = 1};
        inet_pton(AF_INET6, "ff15::7", &q6.ipv6mr_multiaddr);
        if (join)
          printf(" join %s", Err(setsockopt(r, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &q6, sizeof q6)));
        Set(s, SOL_IPV6, IPV6_MULTICAST_LOOP, loop);
        Set(r, SOL_IPV6, IPV6_MULTICAST_ALL, all);
        printf(" if %s", Err(Set(s, SOL_IPV6, IPV6_MULTICAST_IF, 1)));
        n = Make(&a, "ff15::7", PortOf(r));
        printf(" send %s", Err(sendto(s, "m", 1, 0, &a.a, n)));
        printf(" poll %x hops %d\n", Poll(r), Int(s, SOL_IPV6, IPV6_MULTICAST_HOPS));
        close(r);
        close(s);
      }
}

// ---- Buffers and queues ----
static void Buffers(void) {
  int v[] = {0, 1, 1000, 2303, 2304, 4608, 100000, 212992};
  int ty[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW};
  for (int t = 0; t < 3; t++)
    for (int i = 0; i < 8; i++) {
      int s = socket(AF_INET, ty[t], ty[t] == SOCK_RAW ? 200 : 0);
      printf("buffer %d %d: %s", ty[t], v[i], Err(Set(s, SOL_SOCKET, SO_SNDBUF, v[i])));
      printf(" %d", Int(s, SOL_SOCKET, SO_SNDBUF));
      printf(" %s", Err(Set(s, SOL_SOCKET, SO_RCVBUF, v[i])));
      printf(" %d", Int(s, SOL_SOCKET, SO_RCVBUF));
      printf(" %s", Err(Set(s, SOL_SOCKET, SO_SNDBUFFORCE, v[i] * 3)));
      printf(" %d", Int(s, SOL_SOCKET, SO_SNDBUF));
      printf(" %s", Err(Set(s, SOL_SOCKET, SO_RCVBUFFORCE, v[i] * 3)));
      printf(" %d", Int(s, SOL_SOCKET, SO_RCVBUF));
      printf(" lowat %s", Err(Set(s, SOL_SOCKET, SO_RCVLOWAT, v[i])));
      printf(" %d %d\n", Int(s, SOL_SOCKET, SO_RCVLOWAT), Int(s, SOL_SOCKET, SO_SNDLOWAT));
      close(s);
    }
  int z[] = {0, 1, 100, 500, 1000, 1472, 2000, 4000, 9000, 30000, 65507};
  for (int f = 0; f < 2; f++)
    for (int b = 0; b < 3; b++)
      for (int i = 0; i < 11; i++) {
        int r = socket(f ? AF_INET6 : AF_INET, SOCK_DGRAM, 0),
            s = socket(f ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
        Addr a;
        socklen_t n = Make(&a, f ? "::1" : "127.0.0.1", 0);
        bind(r, &a.a, n);
        if (b) Set(r, SOL_SOCKET, SO_RCVBUF, b == 1 ? 1 : 20000);
        n = Make(&a, f ? "::1" : "127.0.0.1", PortOf(r));
        connect(s, &a.a, n);
        Set(r, SOL_SOCKET, SO_RXQ_OVFL, 1);
        unsigned m[9];
        socklen_t mn = sizeof m;
        int sent = 0;
        for (; sent < 600; sent++) send(s, big, (size_t)z[i], 0);
        getsockopt(r, SOL_SOCKET, SO_MEMINFO, m, &mn);
        int q = -1, o = -1;
        ioctl(r, SIOCINQ, &q);
        ioctl(s, SIOCOUTQ, &o);
        int got = 0;
        long k;
        while ((k = recv(r, big, sizeof big, MSG_DONTWAIT)) >= 0) got++;
        printf("udp %d buffer %d size %d: took %d rmem %u rcvbuf %u drops %u inq %d outq %d\n", f,
               b, z[i], got, m[0], m[1], m[8], q, o);
        close(r);
        close(s);
      }
  // SO_RCVLOWAT and TCP_NOTSENT_LOWAT.
  for (int low = 0; low < 4; low++) {
    int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    Addr a;
    socklen_t n = Make(&a, "127.0.0.1", 0);
    bind(l, &a.a, n);
    listen(l, 1);
    n = Make(&a, "127.0.0.1", PortOf(l));
    connect(c, &a.a, n);
    int s = accept(l, 0, 0);
    int w[] = {1, 2, 1000, 100000};
    printf("lowat %d: %s", w[low], Err(Set(s, SOL_SOCKET, SO_RCVLOWAT, w[low])));
    for (int i = 0; i < 4; i++) {
      send(c, big, i == 0 ? 1 : i == 1 ? 1 : i == 2 ? 998 : 60000, 0);
      usleep(1000);
      printf(" %x", Poll(s));
    }
    shutdown(c, SHUT_WR);
    usleep(1000);
    printf(" eof %x", Poll(s));
    char one[10];
    printf(" recv %ld\n", recv(s, one, 10, 0));
    Set(s, SOL_TCP, TCP_NOTSENT_LOWAT, w[low]);
    printf(" notsent %d", Int(s, SOL_TCP, TCP_NOTSENT_LOWAT));
    for (int i = 0; i < 8; i++) {
      long e = send(s, big, i == 0 ? 1 : 65536, MSG_DONTWAIT);
      usleep(500);
      printf(" %ld:%x", e, Poll(s) & POLLOUT);
    }
    printf("\n");
    close(l);
    close(c);
    close(s);
  }
}

// ---- Queues of listeners ----
static void Backlog(void) {
  for (int f = 0; f < 2; f++)
    for (int b = -1; b < 4; b++) {
      int l = socket(f ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
      Addr a;
      socklen_t n = Make(&a, f ? "::1" : "127.0.0.1", 0);
      bind(l, &a.a, n);
      printf("backlog %d: %s", b, Err(listen(l, b)));
      n = Make(&a, f ? "::1" : "127.0.0.1", PortOf(l));
      int c[8];
      struct tcp_info ti;
      socklen_t z = sizeof ti;
      getsockopt(l, SOL_TCP, TCP_INFO, &ti, &z);
      printf(" limit %u", ti.tcpi_sacked);
      for (int i = 0; i < 8; i++) {
        c[i] = socket(f ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        long e = connect(c[i], &a.a, n);
        const char* t = Err(e);
        printf(" %s:%x", t, Poll(c[i]));
      }
      z = sizeof ti;
      getsockopt(l, SOL_TCP, TCP_INFO, &ti, &z);
      printf(" waiting %u", ti.tcpi_unacked);
      printf(" again %s", Err(listen(l, 7)));
      z = sizeof ti;
      getsockopt(l, SOL_TCP, TCP_INFO, &ti, &z);
      printf(" limit %u waiting %u", ti.tcpi_sacked, ti.tcpi_unacked);
      int got = 0, s;
      fcntl(l, F_SETFL, O_NONBLOCK);
      while ((s = accept(l, 0, 0)) >= 0) {
        got++;
        close(s);
      }
      printf(" accepted %d %s\n", got, Err(-1));
      for (int i = 0; i < 8; i++) close(c[i]);
      close(l);
    }
}

// ---- TCP_INFO: what does not depend on time and on the algorithm ----
static void Info(const char* what, int s) {
  struct tcp_info i;
  memset(&i, 0, sizeof i);
  socklen_t n = sizeof i;
  getsockopt(s, SOL_TCP, TCP_INFO, &i, &n);
  printf("%s: state %u ca %u retransmits %u probes %u backoff %u options %x ato %u rcv_mss %u",
         what, i.tcpi_state, i.tcpi_ca_state, i.tcpi_retransmits, i.tcpi_probes, i.tcpi_backoff,
         i.tcpi_options, i.tcpi_ato, i.tcpi_rcv_mss);
  printf(
      " unacked %u sacked %u lost %u retrans %u pmtu %u cwnd %u reordering %u rcv_rtt %d total %u",
      i.tcpi_unacked, i.tcpi_sacked, i.tcpi_lost, i.tcpi_retrans, i.tcpi_pmtu, i.tcpi_snd_cwnd,
      i.tcpi_reordering, i.tcpi_rcv_rtt != 0, i.tcpi_total_retrans);
  printf(
      " acked %llu received %llu segments %u %u notsent %u data %u %u delivered %u sent %llu again "
      "%llu\n",
      i.tcpi_bytes_acked, i.tcpi_bytes_received, i.tcpi_segs_out, i.tcpi_segs_in,
      i.tcpi_notsent_bytes, i.tcpi_data_segs_in, i.tcpi_data_segs_out, i.tcpi_delivered,
      i.tcpi_bytes_sent, i.tcpi_bytes_retrans);
}
static void Infos(void) {
  for (int f = 0; f < 2; f++) {
    int family = f ? AF_INET6 : AF_INET, l = socket(family, SOCK_STREAM, 0),
        c = socket(family, SOCK_STREAM, 0);
    const char* ip = f ? "::1" : "127.0.0.1";
    Addr a;
    socklen_t n = Make(&a, ip, 0);
    bind(l, &a.a, n);
    setsockopt(c, SOL_TCP, TCP_CONGESTION, "reno", 4);
    setsockopt(l, SOL_TCP, TCP_CONGESTION, "reno", 4);
    Info("fresh", c);
    listen(l, 3);
    Info("listener", l);
    n = Make(&a, ip, PortOf(l));
    connect(c, &a.a, n);
    Info("one waits", l);
    int s = accept(l, 0, 0);
    char b[10];
    Info("client", c);
    Info("server", s);
    send(c, "x", 1, 0);
    Wait(s, POLLIN);
    recv(s, b, 10, 0);
    Info("server read", s);
    send(s, "yz", 2, 0);
    Wait(c, POLLIN);
    recv(c, b, 10, 0);
    Info("client read", c);
    shutdown(c, SHUT_WR);
    Wait(s, POLLIN);
    recv(s, b, 10, 0);
    close(l);
    close(c);
    close(s);
  }
}
// ---- Devices ----
static void Devices(void) {
  const char* names[] = {"lo", "nothing", "", "averyveryverylongname"};
  for (int i = 0; i < 4; i++)
    for (int t = 1; t <= 2; t++) {
      int s = socket(AF_INET, t, 0);
      printf(
          "device '%s': %s", names[i],
          Err(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, names[i], (socklen_t)strlen(names[i]))));
      char o[64];
      socklen_t n = sizeof o;
      printf(" get %s", Err(getsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, o, &n)));
      printf(" %u %d", n, Int(s, SOL_SOCKET, 62));
      Addr a;
      n = Make(&a, "127.0.0.1", 0);
      printf(" bind %s", Err(bind(s, &a.a, n)));
      n = Make(&a, "10.0.0.1", 9);
      printf(" connect %s\n", Err(connect(s, &a.a, n)));
      close(s);
    }
}
int main(int argc, char** argv) {
  static char out[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof out);
  const char* w = argc > 1 ? argv[1] : "";
  if (!*w || *w == 'b') Binds();
  if (!*w || *w == 'c') Control();
  if (!*w || *w == 's') SendControls();
  if (!*w || *w == 'e') Errors();
  if (!*w || *w == 'g') Groups();
  if (!*w || *w == 'u') Buffers();
  if (!*w || *w == 'l') Backlog();
  if (!*w || *w == 'i') Infos();
  if (!*w || *w == 'd') Devices();
  return 0;
}
