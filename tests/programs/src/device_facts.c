// Devices and packet sockets told line by line: every SIOCGIF... and SIOCSIF... on each device and by each caller,
// SIOCGIFCONF with every size, binds of packet sockets, what they hear of the loopback, filters, raw sockets.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *Err(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }

static const struct { const char *name; unsigned long call; } gets[] = {
    {"GIFFLAGS", SIOCGIFFLAGS}, {"GIFADDR", SIOCGIFADDR}, {"GIFDSTADDR", SIOCGIFDSTADDR}, {"GIFBRDADDR", SIOCGIFBRDADDR}, {"GIFNETMASK", SIOCGIFNETMASK},
    {"GIFMETRIC", SIOCGIFMETRIC}, {"GIFMTU", SIOCGIFMTU}, {"GIFHWADDR", SIOCGIFHWADDR}, {"GIFINDEX", SIOCGIFINDEX}, {"GIFNAME", SIOCGIFNAME},
    {"GIFTXQLEN", SIOCGIFTXQLEN}, {"GIFMAP", SIOCGIFMAP}, {"GIFMEM", 0x891f}, {"GIFSLAVE", SIOCGIFSLAVE}, {"GIFENCAP", SIOCGIFENCAP}, {"GIFPFLAGS", SIOCGIFPFLAGS},
    {"GIFCOUNT", SIOCGIFCOUNT}, {"ETHTOOL", SIOCETHTOOL}, {"GMIIPHY", SIOCGMIIPHY}, {"GHWTSTAMP", SIOCGHWTSTAMP},
    {"BONDINFO", 0x8994}, {"WANDEV", SIOCWANDEV}, {"GIFWIRELESS", 0x8b01}, {"PRIVATE", 0x89f0}, {"OUTQNSD", SIOCOUTQNSD}, {"GSKNS", SIOCGSKNS + 0x40}, {"unknown", 0x89aa}};
static const struct { const char *name; unsigned long call; } sets[] = {
    {"SIFFLAGS", SIOCSIFFLAGS}, {"SIFADDR", SIOCSIFADDR}, {"SIFDSTADDR", SIOCSIFDSTADDR}, {"SIFBRDADDR", SIOCSIFBRDADDR}, {"SIFNETMASK", SIOCSIFNETMASK},
    {"SIFMETRIC", SIOCSIFMETRIC}, {"SIFMTU", SIOCSIFMTU}, {"SIFHWADDR", SIOCSIFHWADDR}, {"SIFNAME", SIOCSIFNAME}, {"SIFTXQLEN", SIOCSIFTXQLEN},
    {"SIFMAP", SIOCSIFMAP}, {"SIFHWBROADCAST", SIOCSIFHWBROADCAST}, {"ADDMULTI", SIOCADDMULTI}, {"DELMULTI", SIOCDELMULTI}, {"SIFPFLAGS", SIOCSIFPFLAGS},
    {"SIFLINK", SIOCSIFLINK}, {"SIFMEM", 0x8920}, {"SIFENCAP", SIOCSIFENCAP}, {"SIFSLAVE", SIOCSIFSLAVE}, {"DIFADDR", SIOCDIFADDR},
    {"ADDRT", SIOCADDRT}, {"DELRT", SIOCDELRT}, {"SARP", SIOCSARP}, {"GARP", SIOCGARP}, {"DARP", SIOCDARP}};

static void Value(const struct ifreq *q, const char *name) {
  if (strstr(name, "ADDR") && !strstr(name, "HW") && q->ifr_addr.sa_family == AF_INET) {
    printf(" %s", inet_ntoa(((struct sockaddr_in *)&q->ifr_addr)->sin_addr));
  } else if (strcmp(name, "GIFNETMASK") == 0) {
    printf(" %d %s", q->ifr_addr.sa_family, inet_ntoa(((struct sockaddr_in *)&q->ifr_addr)->sin_addr));
  } else if (strcmp(name, "GIFHWADDR") == 0) {
    printf(" %d", q->ifr_hwaddr.sa_family);
  } else if (strcmp(name, "GIFNAME") == 0) {
    printf(" '%.16s'", q->ifr_name);
  } else if (strcmp(name, "GIFFLAGS") == 0) {
    printf(" %x", (unsigned short)q->ifr_flags & ~IFF_RUNNING);  // which follows later
  } else {
    printf(" %d", q->ifr_ifindex);
  }
}

static void Ioctls(const char *who) {
  static const struct { const char *what; int family, type, protocol; } kinds[] = {
      {"tcp", AF_INET, SOCK_STREAM, 0}, {"udp", AF_INET, SOCK_DGRAM, 0}, {"udp6", AF_INET6, SOCK_DGRAM, 0}, {"unix", AF_UNIX, SOCK_DGRAM, 0}, {"netlink", AF_NETLINK, SOCK_RAW, 0},
      {"packet", AF_PACKET, SOCK_DGRAM, 0}};
  static const char *const names[] = {"lo", "d0", "d0:1", "down", "none", "", "lo:", "averyveryverylo"};
  for (int k = 0; k < 6; k++) {
    int s = socket(kinds[k].family, kinds[k].type, kinds[k].protocol);
    if (s < 0) { printf("%s %s: %s\n", who, kinds[k].what, Err(-1)); continue; }
    for (unsigned n = 0; n < sizeof(names) / sizeof(*names); n++) {
      if (k > 1 && n > 1) continue;
      printf("%s %s '%s':", who, kinds[k].what, names[n]);
      for (unsigned g = 0; g < sizeof(gets) / sizeof(*gets); g++) {
        struct ifreq q;
        memset(&q, 0, sizeof(q));
        strncpy(q.ifr_name, names[n], IFNAMSIZ - 1);
        if (gets[g].call == SIOCGIFNAME) q.ifr_ifindex = (int)n;
        long r = ioctl(s, gets[g].call, &q);
        printf(" %s=%s", gets[g].name, Err(r));
        if (r == 0) Value(&q, gets[g].name);
      }
      printf(" null:");
      for (unsigned g = 0; g < sizeof(gets) / sizeof(*gets); g++) printf(" %s", Err(ioctl(s, gets[g].call, NULL)));
      printf("\n");
    }
    close(s);
  }
}

// What may be set, and what is seen of it afterwards.
static void Sets(const char *who) {
  static const char *const names[] = {"lo", "d0", "d0:7", "down", "none", "", "d0:1"};
  for (unsigned n = 0; n < sizeof(names) / sizeof(*names); n++) {
    for (unsigned g = 0; g < sizeof(sets) / sizeof(*sets); g++) {
      for (int shape = 0; shape < 4; shape++) {
        int s = socket(AF_INET, SOCK_DGRAM, 0);
        struct ifreq q;
        memset(&q, 0, sizeof(q));
        strncpy(q.ifr_name, names[n], IFNAMSIZ - 1);
        struct sockaddr_in *in = (void *)&q.ifr_addr;
        if (shape == 1) in->sin_family = AF_INET, inet_pton(AF_INET, sets[g].call == SIOCSIFNETMASK ? "255.255.0.0" : "10.77.0.9", &in->sin_addr);
        if (shape == 2) q.ifr_flags = sets[g].call == SIOCSIFMTU || sets[g].call == SIOCSIFTXQLEN ? 1400 : 1;
        if (shape == 3) memset(&q.ifr_addr, 0xff, sizeof(q.ifr_addr));
        if (sets[g].call == SIOCSIFNAME && shape != 0) snprintf(q.ifr_newname, IFNAMSIZ, "%s", shape == 1 ? "lo" : shape == 2 ? "a/b" : "");
        if (n == 0 && (sets[g].call == SIOCSIFFLAGS || sets[g].call == SIOCSIFMTU)) { close(s); continue; }
        printf("%s '%s' %s shape %d: %s", who, names[n], sets[g].name, shape, Err(ioctl(s, sets[g].call, &q)));
        struct ifreq seen;
        for (unsigned i = 0; i < 11; i++) {
          memset(&seen, 0, sizeof(seen));
          strncpy(seen.ifr_name, n == 4 || n == 5 ? "d0" : names[n], IFNAMSIZ - 1);
          if (gets[i].call == SIOCGIFNAME || gets[i].call == SIOCGIFHWADDR) continue;
          long r = ioctl(s, gets[i].call, &seen);
          if (r < 0) printf(" %s", Err(r));
          else Value(&seen, gets[i].name);
        }
        printf("\n");
        close(s);
      }
    }
  }
}

static void Conf(void) {
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  for (int size = -1; size < 200; size++) {
    char b[256];
    memset(b, 0x5a, sizeof(b));
    struct ifconf c = {.ifc_len = size, .ifc_buf = b};
    long r = ioctl(s, SIOCGIFCONF, &c);
    printf("conf %d: %s %d", size, Err(r), c.ifc_len);
    for (int at = 0; r == 0 && at + (int)sizeof(struct ifreq) <= c.ifc_len; at += (int)sizeof(struct ifreq)) {
      struct ifreq *q = (void *)(b + at);
      printf(" %s %d %s", q->ifr_name, q->ifr_addr.sa_family, inet_ntoa(((struct sockaddr_in *)&q->ifr_addr)->sin_addr));
    }
    printf(" %x\n", (unsigned char)b[c.ifc_len > 0 && c.ifc_len < 256 ? c.ifc_len : 0]);
    if (size > 2 && size < 38) size += 5;
  }
  for (int bad = 0; bad < 3; bad++) {
    struct ifconf c = {.ifc_len = bad == 2 ? 1000 : 100, .ifc_buf = bad == 0 ? NULL : (char *)8};
    long r = ioctl(s, SIOCGIFCONF, &c);
    printf("conf bad %d: %s %d\n", bad, Err(r), c.ifc_len);
  }
  printf("conf null: %s\n", Err(ioctl(s, SIOCGIFCONF, NULL)));
  close(s);
}

static void Ll(const char *what, const struct sockaddr_ll *a, socklen_t n) {
  printf(" %s(%u family %d protocol %x ifindex %d hatype %d pkttype %d halen %d)", what, n, a->sll_family, ntohs(a->sll_protocol), a->sll_ifindex, a->sll_hatype, a->sll_pkttype, a->sll_halen);
}

// Makes some traffic on the loopback: a datagram to who listens, of IPv4 and of IPv6.
static void Traffic(void) {
  for (int f = 0; f < 2; f++) {
    int r = socket(f ? AF_INET6 : AF_INET, SOCK_DGRAM, 0), s = socket(f ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in *in = (void *)&a;
    socklen_t n = sizeof(a);
    if (!f) memset(&a, 0, sizeof(a)), in->sin_family = AF_INET, in->sin_addr.s_addr = htonl(INADDR_LOOPBACK), n = sizeof(*in);
    bind(r, (void *)&a, n);
    getsockname(r, (void *)&a, &n);
    sendto(s, "packet", 6, 0, (void *)&a, n);
    close(r), close(s);
  }
}

static void Hear(int s, const char *what) {
  for (int i = 0; i < 10; i++) {
    unsigned char b[256];
    char control[256];
    struct sockaddr_ll from;
    memset(&from, 0, sizeof(from));
    struct iovec v = {b, 100};
    struct msghdr m = {&from, sizeof(from), &v, 1, control, sizeof(control), 0};
    long n = recvmsg(s, &m, MSG_DONTWAIT);
    printf("  %s: %s %ld", what, Err(n), n);
    if (n < 0) { printf("\n"); return; }
    printf(" flags %x first %02x", m.msg_flags, b[0]);  // then a flow label of IPv6
    Ll("from", &from, m.msg_namelen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
      printf(" cmsg %d/%d/%zu", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
      if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA) {
        struct tpacket_auxdata *x = (void *)CMSG_DATA(c);
        printf("[status %x len %u snaplen %u mac %u net %u tci %u tpid %x]", x->tp_status & ~TP_STATUS_CSUM_VALID & ~TP_STATUS_CSUMNOTREADY, x->tp_len, x->tp_snaplen, x->tp_mac, x->tp_net, x->tp_vlan_tci, x->tp_vlan_tpid);
      }
    }
    printf("\n");
  }
}

static void Packets(void) {
  static const int types[] = {SOCK_RAW, SOCK_DGRAM};
  static const int protocols[] = {0, ETH_P_ALL, ETH_P_IP, ETH_P_IPV6};
  for (int t = 0; t < 2; t++) {
    for (unsigned p = 0; p < sizeof(protocols) / sizeof(int); p++) {
      for (int where = 0; where < (t == 0 ? 9 : 2); where++) {
        int s = socket(AF_PACKET, types[t], htons((uint16_t)protocols[p])), one = 1;
        struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocols[p])};
        printf("packet %d protocol %x where %d:", types[t], protocols[p], where);
        setsockopt(s, SOL_PACKET, PACKET_AUXDATA, &one, sizeof(one));
        if (where == 1) a.sll_ifindex = 1;
        if (where == 2) a.sll_ifindex = (int)if_nametoindex("d0");
        if (where == 3) a.sll_ifindex = 999;
        if (where == 4) a.sll_ifindex = -1;
        if (where == 5) a.sll_ifindex = 1, a.sll_protocol = 0;
        if (where == 6) a.sll_ifindex = (int)if_nametoindex("down");
        if (where == 7) a.sll_family = AF_INET;
        if (where != 0) printf(" bind %s", Err(bind(s, (void *)&a, where == 8 ? sizeof(a) - 1 : sizeof(a))));
        struct sockaddr_ll got;
        socklen_t n = sizeof(got);
        memset(&got, 0, sizeof(got));
        printf(" name %s", Err(getsockname(s, (void *)&got, &n)));
        Ll("", &got, n);
        n = sizeof(got);
        printf(" peer %s", Err(getpeername(s, (void *)&got, &n)));
        printf(" connect %s listen %s shutdown %s", Err(connect(s, (void *)&a, sizeof(a))), Err(listen(s, 1)), Err(shutdown(s, SHUT_RD)));
        struct pollfd f = {s, 0x3fff & ~POLLNVAL, 0};
        poll(&f, 1, 0);
        printf(" poll %x", f.revents);
        Traffic();
        poll(&f, 1, 0);
        int q = -1;
        printf(" %x inq %s", f.revents, Err(ioctl(s, FIONREAD, &q)));
        printf(" %d\n", q);
        if (protocols[p] == ETH_P_ALL || protocols[p] == ETH_P_IP || where == 1) Hear(s, "hears");
        close(s);
      }
    }
  }
  // What may be sent.
  for (int t = 0; t < 2; t++) {
    for (int size = 0; size < 40; size += size < 16 ? 1 : 20) {
      int s = socket(AF_PACKET, types[t], 0), r = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL));
      unsigned char b[64] = {0};
      b[12] = 0x12, b[13] = 0x34;
      struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(0x1234), .sll_ifindex = 1, .sll_halen = 6};
      printf("send %d size %d: %s", types[t], size, Err(sendto(s, b, (size_t)size, 0, (void *)&a, sizeof(a))));
      printf(" unbound %s", Err(send(s, b, (size_t)size, 0)));
      a.sll_ifindex = 0;
      printf(" nowhere %s", Err(sendto(s, b, (size_t)size, 0, (void *)&a, sizeof(a))));
      a.sll_ifindex = 999;
      printf(" nobody %s", Err(sendto(s, b, (size_t)size, 0, (void *)&a, sizeof(a))));
      a.sll_ifindex = (int)if_nametoindex("down");
      printf(" down %s", Err(sendto(s, b, (size_t)size, 0, (void *)&a, sizeof(a))));
      a.sll_ifindex = 1, a.sll_halen = 9;
      printf(" halen %s", Err(sendto(s, b, (size_t)size, 0, (void *)&a, sizeof(a))));
      a.sll_halen = 0;
      printf(" halen0 %s", Err(sendto(s, b, (size_t)size, 0, (void *)&a, sizeof(a))));
      printf(" short %s", Err(sendto(s, b, (size_t)size, 0, (void *)&a, 10)));
      a.sll_family = AF_INET;
      printf(" family %s", Err(sendto(s, b, (size_t)size, 0, (void *)&a, sizeof(a))));
      printf("\n");
      Hear(r, "heard");
      close(s), close(r);
    }
  }
}

static void Filters(void) {
  struct sock_filter take[] = {{BPF_RET | BPF_K, 0, 0, 0xffff}}, none[] = {{BPF_RET | BPF_K, 0, 0, 0}}, few[] = {{BPF_RET | BPF_K, 0, 0, 3}}, bad[] = {{0xffff, 0, 0, 0}}, open[] = {{BPF_LD | BPF_IMM, 0, 0, 1}};
  struct { const char *what; struct sock_fprog f; } programs[] = {{"take", {1, take}}, {"none", {1, none}}, {"few", {1, few}}, {"bad", {1, bad}}, {"open", {1, open}}, {"empty", {0, take}}, {"long", {4097, take}}, {"null", {1, NULL}}};
  static const int kinds[][3] = {{AF_INET, SOCK_DGRAM, 0}, {AF_INET, SOCK_STREAM, 0}, {AF_INET6, SOCK_DGRAM, 0}, {AF_INET, SOCK_RAW, 200}, {AF_PACKET, SOCK_DGRAM, 0}, {AF_UNIX, SOCK_DGRAM, 0}, {AF_UNIX, SOCK_STREAM, 0}, {AF_NETLINK, SOCK_RAW, 0}};
  for (unsigned k = 0; k < 8; k++) {
    for (unsigned p = 0; p < 8; p++) {
      int s = socket(kinds[k][0], kinds[k][1], kinds[k][2]), one = 1, zero = 0;
      printf("filter %u %s: detach %s", k, programs[p].what, Err(setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof(one))));
      printf(" attach %s", Err(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &programs[p].f, sizeof(programs[p].f))));
      struct sock_filter got[4];
      socklen_t n = 4;
      printf(" get %s", Err(getsockopt(s, SOL_SOCKET, SO_GET_FILTER, got, &n)));
      printf(" %u", n);
      n = 0;
      printf(" count %s", Err(getsockopt(s, SOL_SOCKET, SO_GET_FILTER, NULL, &n)));
      printf(" %u", n);
      printf(" lock %s", Err(setsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof(one))));
      printf(" unlock %s", Err(setsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &zero, sizeof(zero))));
      printf(" again %s", Err(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &programs[0].f, sizeof(programs[0].f))));
      printf(" detach %s", Err(setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof(one))));
      printf(" short %s\n", Err(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &programs[0].f, 4)));
      close(s);
    }
  }
}

// Raw sockets: who hears what, headers of the sender's own, device binds.
static void Raws(void) {
  static const int protocols[] = {0, IPPROTO_ICMP, IPPROTO_UDP, 200, IPPROTO_RAW, -1};
  for (int f = 0; f < 2; f++) {
    for (unsigned p = 0; p < sizeof(protocols) / sizeof(int); p++) {
      for (int included = 0; included < 2; included++) {
        int family = f ? AF_INET6 : AF_INET, s = socket(family, SOCK_RAW, protocols[p]);
        printf("raw %d %d included %d: %s", f, protocols[p], included, Err(s));
        if (s < 0) { printf("\n"); continue; }
        printf(" set %s", Err(setsockopt(s, f ? IPPROTO_IPV6 : IPPROTO_IP, f ? 36 : IP_HDRINCL, &included, sizeof(included))));
        struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        struct sockaddr_in *in = (void *)&a;
        socklen_t n = sizeof(a);
        if (!f) memset(&a, 0, sizeof(a)), in->sin_family = AF_INET, in->sin_addr.s_addr = htonl(INADDR_LOOPBACK), n = sizeof(*in);
        int r = socket(family, SOCK_RAW, 200);
        unsigned char b[64] = {0};
        struct iphdr *h = (void *)b;
        h->version = 4, h->ihl = 5, h->ttl = 9, h->protocol = 200, h->daddr = htonl(INADDR_LOOPBACK);
        if (f) memset(b, 0, sizeof(b)), b[0] = 0x60, b[5] = 8, b[6] = 200, b[7] = 9, b[23] = 1, b[39] = 1;
        for (int size = 0; size <= 48; size += 4) printf(" %s", Err(sendto(s, b, (size_t)size, 0, (void *)&a, n)));
        h->ihl = 15;
        printf(" ihl %s", Err(sendto(s, b, 48, 0, (void *)&a, n)));
        a.sin6_port = htons(200);
        printf(" port %s", Err(sendto(s, b, 8, 0, (void *)&a, n)));
        a.sin6_port = htons(7);
        printf(" port7 %s bind %s", Err(sendto(s, b, 8, 0, (void *)&a, n)), Err(bind(s, (void *)&a, n)));
        socklen_t got = sizeof(a);
        printf(" name %s", Err(getsockname(s, (void *)&a, &got)));
        printf(" %u %d\n", got, ntohs(a.sin6_port));
        for (int i = 0; i < 20; i++) {
          unsigned char o[100] = {0};
          struct sockaddr_in6 from;
          socklen_t fn = sizeof(from);
          memset(&from, 0, sizeof(from));
          long m = recvfrom(r, o, sizeof(o), MSG_DONTWAIT, (void *)&from, &fn);
          if (m < 0) break;
          printf("  heard %ld from %u port %d first %02x total %d ttl %d protocol %d", m, fn, ntohs(from.sin6_port), o[0], o[2] * 256 + o[3], o[8], o[9]);
          printf(" id %s sum %s\n", o[4] || o[5] ? "some" : "0", o[10] || o[11] ? "some" : "0");
        }
        close(s), close(r);
      }
    }
  }
}

int main(int argc, char **argv) {
  static char out[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof(out));
  const char *w = argc > 1 ? argv[1] : "iscpfr";
  for (; *w; w++) {
    if (*w == 'i') Ioctls("root");
    if (*w == 'c') Conf();
    if (*w == 'p') Packets();
    if (*w == 'f') Filters();
    if (*w == 'r') Raws();
    if (*w == 's') Sets("root");
    if (*w == 'n' && setresuid(65534, 65534, 65534) == 0) Ioctls("nobody"), Sets("nobody");
    fflush(stdout);
  }
  return 0;
}
