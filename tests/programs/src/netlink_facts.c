// Routing netlink told line by line: requests of every type with every kind of flag, header and attribute, short and
// long and wrong ones, and the socket's own calls; prints the errno of each answer and what is seen afterwards.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int s;
static const char *Err(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }
static const char *Name(int e) { return e == 0 ? "0" : strerrorname_np(e) ? strerrorname_np(e) : "?"; }

// What the socket answers until nothing more comes: types and errors, runs of one type counted.
static void Answers(int limit) {
  static char b[65536];
  int last = -1, run = 0;
  for (int i = 0; i < limit; i++) {
    long n = recv(s, b, sizeof(b), MSG_DONTWAIT);
    if (n < 0) break;
    for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
      if (h->nlmsg_type != NLMSG_ERROR && h->nlmsg_type != NLMSG_DONE) {
        if (h->nlmsg_type == last) { run++; continue; }
        if (run > 1) printf("*%d", run);
        printf(" %d/%x", h->nlmsg_type, h->nlmsg_flags);
        last = h->nlmsg_type, run = 1;
        continue;
      }
      if (run > 1) printf("*%d", run);
      last = -1, run = 0;
      int e = h->nlmsg_len >= NLMSG_LENGTH(4) ? *(int *)NLMSG_DATA(h) : -9999;
      printf(" %s:%s/%x/%s", h->nlmsg_type == NLMSG_ERROR ? "error" : "done", Name(-e), h->nlmsg_flags & ~NLM_F_ACK_TLVS, h->nlmsg_flags & NLM_F_ACK_TLVS ? "tlv" : "");
    }
  }
  if (run > 1) printf("*%d", run);
}

static struct { struct nlmsghdr h; char rest[2048]; } q;
static void Start(int type, int flags, const void *header, size_t size) {
  memset(&q, 0, sizeof(q));
  q.h.nlmsg_type = (uint16_t)type, q.h.nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST), q.h.nlmsg_seq = 7;
  if (size != 0 && header != NULL) memcpy(NLMSG_DATA(&q.h), header, size);
  q.h.nlmsg_len = (uint32_t)NLMSG_LENGTH(size);
}
static void Put(int type, const void *data, size_t size) {
  struct rtattr *a = (void *)((char *)&q + NLMSG_ALIGN(q.h.nlmsg_len));
  a->rta_type = (uint16_t)type, a->rta_len = (uint16_t)RTA_LENGTH(size);
  if (size != 0) memcpy(RTA_DATA(a), data, size);
  q.h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(q.h.nlmsg_len) + RTA_ALIGN(a->rta_len));
}
static void Put32(int type, uint32_t v) { Put(type, &v, 4); }
static void PutIp(int type, const char *ip) {
  unsigned char a[16];
  if (strchr(ip, ':')) inet_pton(AF_INET6, ip, a), Put(type, a, 16);
  else inet_pton(AF_INET, ip, a), Put(type, a, 4);
}
static void Ask(const char *what) {
  printf("%s: %s", what, Err(send(s, &q, q.h.nlmsg_len, 0)));
  Answers(20);
  printf("\n");
}

// Every type with headers of every size, family and flag.
static void Types(void) {
  for (int type = 16; type < 124; type++) {
    if (type >= 64 && type != 80 && type < 108) continue;
    if (type > 110) continue;
    // Rules, queueing and what depends on the kernel's parts are left out.
    if ((type >= 36 && type <= 47) || (type >= 52 && type <= 63) || (type >= 48 && type <= 51) || type >= 80) continue;
    for (int family = 0; family < 12; family += family == 2 ? 8 : family == 10 ? 1 : 2) {
      for (int f = 0; f < 4; f++) {
        static const int flags[] = {NLM_F_ACK, NLM_F_DUMP, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, NLM_F_ACK | NLM_F_REPLACE};
        printf("type %d family %d flags %x:", type, family, flags[f]);
        for (int size = 0; size <= 32; size += 4) {
          unsigned char header[64] = {(unsigned char)family};
          if ((type == 17 || type == 16) && size >= 16) continue;  // changes or makes links
          Start(type, flags[f], header, (size_t)size);
          printf(" |");
          if (send(s, &q, q.h.nlmsg_len, 0) < 0) printf(" %s", Err(-1));
          Answers(30);
        }
        printf("\n");
      }
    }
  }
}

static void Addresses(void) {
  static const struct { const char *what, *ip, *local; int family, prefix, index, flags; } k[] = {
      {"add", "10.5.0.1", "10.5.0.1", AF_INET, 24, 2, NLM_F_CREATE | NLM_F_EXCL}, {"again", "10.5.0.1", "10.5.0.1", AF_INET, 24, 2, NLM_F_CREATE | NLM_F_EXCL},
      {"replace", "10.5.0.1", "10.5.0.1", AF_INET, 24, 2, NLM_F_CREATE | NLM_F_REPLACE}, {"only", "10.5.0.1", "10.5.0.1", AF_INET, 24, 2, 0},
      {"replace-missing", "10.5.0.7", "10.5.0.7", AF_INET, 24, 2, NLM_F_REPLACE}, {"prefix", "10.5.0.1", "10.5.0.1", AF_INET, 33, 2, NLM_F_CREATE},
      {"index", "10.5.0.1", "10.5.0.1", AF_INET, 24, 99, NLM_F_CREATE}, {"index0", "10.5.0.1", "10.5.0.1", AF_INET, 24, 0, NLM_F_CREATE},
      {"peer", "10.5.1.2", "10.5.1.1", AF_INET, 32, 2, NLM_F_CREATE}, {"nolocal", "10.5.2.1", NULL, AF_INET, 24, 2, NLM_F_CREATE},
      {"group", "224.0.0.9", "224.0.0.9", AF_INET, 24, 2, NLM_F_CREATE}, {"any", "0.0.0.0", "0.0.0.0", AF_INET, 24, 2, NLM_F_CREATE}, {"loopback", "127.1.0.1", "127.1.0.1", AF_INET, 8, 2, NLM_F_CREATE},
      {"add6", "2001:db8::1", NULL, AF_INET6, 64, 2, NLM_F_CREATE | NLM_F_EXCL}, {"again6", "2001:db8::1", NULL, AF_INET6, 64, 2, NLM_F_CREATE | NLM_F_EXCL},
      {"replace6", "2001:db8::1", NULL, AF_INET6, 64, 2, NLM_F_REPLACE}, {"prefix6", "2001:db8::1", NULL, AF_INET6, 129, 2, NLM_F_CREATE}, {"group6", "ff02::9", NULL, AF_INET6, 64, 2, NLM_F_CREATE},
      {"any6", "::", NULL, AF_INET6, 64, 2, NLM_F_CREATE}, {"lo6", "::1", NULL, AF_INET6, 128, 2, NLM_F_CREATE}, {"mapped6", "::ffff:10.1.1.1", NULL, AF_INET6, 96, 2, NLM_F_CREATE},
      {"family", "10.5.0.1", "10.5.0.1", AF_UNIX, 24, 2, NLM_F_CREATE}, {"short", "10.5.0.1", "2001:db8::5", AF_INET, 24, 2, NLM_F_CREATE}, {"short6", "10.5.0.1", NULL, AF_INET6, 24, 2, NLM_F_CREATE}};
  for (int del = 0; del < 2; del++) {
    for (unsigned i = 0; i < sizeof(k) / sizeof(*k); i++) {
      for (int shape = 0; shape < 3; shape++) {
        struct ifaddrmsg m = {.ifa_family = (uint8_t)k[i].family, .ifa_prefixlen = (uint8_t)k[i].prefix, .ifa_index = (uint32_t)k[i].index};
        Start(del ? RTM_DELADDR : RTM_NEWADDR, NLM_F_ACK | (del ? 0 : k[i].flags), &m, sizeof(m));
        if (shape != 1) PutIp(IFA_ADDRESS, k[i].ip);
        if (k[i].local) PutIp(IFA_LOCAL, k[i].local);
        if (shape == 2) Put(IFA_LABEL, "d9:way-too-long-a-label", 24);
        char what[64];
        snprintf(what, sizeof(what), "%s address %s shape %d", del ? "del" : "new", k[i].what, shape);
        Ask(what);
      }
    }
  }
}

static void Routes(void) {
  static const struct { const char *what, *dst, *gateway, *source; int family, prefix, oif, table, type, scope; } k[] = {
      {"net", "10.6.0.0", NULL, NULL, AF_INET, 16, 2, RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK}, {"gateway", "10.7.0.0", "10.77.0.9", NULL, AF_INET, 16, 0, RT_TABLE_MAIN, RTN_UNICAST, 0},
      {"default", NULL, "10.77.0.9", NULL, AF_INET, 0, 0, RT_TABLE_MAIN, RTN_UNICAST, 0}, {"unreachable-gateway", "10.8.0.0", "10.99.0.1", NULL, AF_INET, 16, 0, RT_TABLE_MAIN, RTN_UNICAST, 0},
      {"own-gateway", "10.8.0.0", "10.77.0.1", NULL, AF_INET, 16, 0, RT_TABLE_MAIN, RTN_UNICAST, 0}, {"host-bits", "10.6.0.1", NULL, NULL, AF_INET, 16, 2, RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK},
      {"prefix", "10.6.0.0", NULL, NULL, AF_INET, 33, 2, RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK}, {"oif", "10.6.0.0", NULL, NULL, AF_INET, 16, 99, RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK},
      {"nowhere", "10.6.0.0", NULL, NULL, AF_INET, 16, 0, RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK}, {"blackhole", "10.9.0.0", NULL, NULL, AF_INET, 16, 0, RT_TABLE_MAIN, RTN_BLACKHOLE, 0},
      {"unreachable", "10.10.0.0", NULL, NULL, AF_INET, 16, 0, RT_TABLE_MAIN, RTN_UNREACHABLE, 0}, {"prohibit", "10.11.0.0", NULL, NULL, AF_INET, 16, 0, 100, RTN_PROHIBIT, 0},
      {"type", "10.12.0.0", NULL, NULL, AF_INET, 16, 2, RT_TABLE_MAIN, 13, RT_SCOPE_LINK}, {"scope", "10.12.0.0", NULL, NULL, AF_INET, 16, 2, RT_TABLE_MAIN, RTN_UNICAST, 255},
      {"source", "10.13.0.0", NULL, "10.77.0.1", AF_INET, 16, 2, RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK}, {"foreign-source", "10.14.0.0", NULL, "10.99.0.1", AF_INET, 16, 2, RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK},
      {"local", "10.15.0.0", NULL, NULL, AF_INET, 16, 1, RT_TABLE_LOCAL, RTN_LOCAL, RT_SCOPE_HOST}, {"down", "10.16.0.0", NULL, NULL, AF_INET, 16, 4, RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK},
      {"net6", "2001:db8:6::", NULL, NULL, AF_INET6, 48, 2, RT_TABLE_MAIN, RTN_UNICAST, 0}, {"gateway6", "2001:db8:7::", "fe80::9", NULL, AF_INET6, 48, 2, RT_TABLE_MAIN, RTN_UNICAST, 0},
      {"far-gateway6", "2001:db8:8::", "2001:db8:99::1", NULL, AF_INET6, 48, 0, RT_TABLE_MAIN, RTN_UNICAST, 0}, {"prefix6", "2001:db8:6::", NULL, NULL, AF_INET6, 129, 2, RT_TABLE_MAIN, RTN_UNICAST, 0},
      {"nowhere6", "2001:db8:6::", NULL, NULL, AF_INET6, 48, 0, RT_TABLE_MAIN, RTN_UNICAST, 0}, {"blackhole6", "2001:db8:9::", NULL, NULL, AF_INET6, 48, 0, RT_TABLE_MAIN, RTN_BLACKHOLE, 0},
      {"family", "10.6.0.0", NULL, NULL, AF_UNIX, 16, 2, RT_TABLE_MAIN, RTN_UNICAST, 0}};
  static const int flags[] = {NLM_F_CREATE | NLM_F_EXCL, NLM_F_CREATE | NLM_F_EXCL, NLM_F_CREATE | NLM_F_REPLACE, NLM_F_REPLACE, NLM_F_CREATE | NLM_F_APPEND, 0, NLM_F_CREATE};
  for (unsigned i = 0; i < sizeof(k) / sizeof(*k); i++) {
    for (int step = 0; step < 12; step++) {
      struct rtmsg m = {.rtm_family = (uint8_t)k[i].family, .rtm_dst_len = (uint8_t)k[i].prefix, .rtm_table = (uint8_t)k[i].table, .rtm_protocol = RTPROT_STATIC, .rtm_type = (uint8_t)k[i].type, .rtm_scope = (uint8_t)k[i].scope};
      int del = step >= 7;
      Start(del ? RTM_DELROUTE : RTM_NEWROUTE, NLM_F_ACK | (del ? 0 : flags[step]), &m, sizeof(m));
      if (k[i].dst) PutIp(RTA_DST, k[i].dst);
      if (k[i].gateway) PutIp(RTA_GATEWAY, k[i].gateway);
      if (k[i].source) PutIp(RTA_PREFSRC, k[i].source);
      if (k[i].oif) Put32(RTA_OIF, (uint32_t)k[i].oif);
      if (step == 4 || step == 9) Put32(RTA_PRIORITY, 50);
      char what[64];
      snprintf(what, sizeof(what), "route %s step %d", k[i].what, step);
      Ask(what);
    }
  }
}

// Attributes of wrong sizes and of nobody, what strict checking says of them.
static void Attributes(void) {
  for (int strict = 0; strict < 2; strict++) {
    setsockopt(s, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &strict, sizeof(strict));
    static const struct { int type, size; } k[] = {{RTM_GETLINK, 16}, {RTM_GETADDR, 8}, {RTM_GETROUTE, 12}, {RTM_GETNEIGH, 12}, {RTM_GETRULE, 12}};
    for (int t = 0; t < 5; t++) {
      for (int dump = 0; dump < 2; dump++) {
        for (int a = 0; a < 24; a++) {
          char what[64];
          unsigned char header[16] = {k[t].type == RTM_GETLINK ? 0 : AF_INET};
          for (int size = 0; size < 9; size += 4) {
            unsigned char v[16] = {1};
            Start(k[t].type, dump ? NLM_F_DUMP : NLM_F_ACK, header, (size_t)k[t].size);
            Put(a, v, (size_t)size);
            snprintf(what, sizeof(what), "strict %d get %d dump %d attribute %d size %d", strict, k[t].type, dump, a, size);
            Ask(what);
          }
        }
        // A field that has no meaning in a request.
        for (int at = 0; at < k[t].size; at++) {
          unsigned char header[16] = {k[t].type == RTM_GETLINK ? 0 : AF_INET};
          char what[64];
          header[at] = 2;
          Start(k[t].type, dump ? NLM_F_DUMP : NLM_F_ACK, header, (size_t)k[t].size);
          snprintf(what, sizeof(what), "strict %d get %d dump %d byte %d", strict, k[t].type, dump, at);
          Ask(what);
        }
      }
    }
  }
  int none = 0;
  setsockopt(s, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &none, sizeof(none));
}

// The socket's own calls.
static void Sockets(void) {
  for (int protocol = -1; protocol < 34; protocol++) {
    if (protocol == 1 || protocol == 5 || protocol == 6 || protocol == 7 || protocol == 8 || protocol == 10 || protocol == 11 || protocol == 13 || (protocol > 16 && protocol < 32)) continue;
    if (protocol == 2 || protocol == 3 || protocol == 14 || protocol == 18) continue;  // modules
    int n = socket(AF_NETLINK, SOCK_RAW, protocol);
    printf("protocol %d: %s\n", protocol, Err(n));
    if (n >= 0) close(n);
  }
  for (int type = 0; type < 8; type++) {
    int n = socket(AF_NETLINK, type, 0);
    printf("type %d: %s\n", type, Err(n));
    if (n >= 0) close(n);
  }
  int a = socket(AF_NETLINK, SOCK_RAW, 0), b = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 0);
  struct sockaddr_nl n = {.nl_family = AF_NETLINK, .nl_pid = 777};
  printf("bind %s", Err(bind(a, (void *)&n, sizeof(n))));
  printf(" taken %s", Err(bind(b, (void *)&n, sizeof(n))));
  printf(" again %s", Err(bind(a, (void *)&n, sizeof(n))));
  n.nl_pid = 778;
  printf(" other %s", Err(bind(a, (void *)&n, sizeof(n))));
  n.nl_pid = 777, n.nl_groups = 1;
  printf(" groups %s", Err(bind(a, (void *)&n, sizeof(n))));
  printf(" short %s", Err(bind(a, (void *)&n, 8)));
  n.nl_family = AF_INET;
  printf(" family %s\n", Err(bind(a, (void *)&n, sizeof(n))));
  n.nl_family = AF_NETLINK, n.nl_groups = 0, n.nl_pid = 0;
  printf("connect %s", Err(connect(b, (void *)&n, sizeof(n))));
  n.nl_pid = 777;
  printf(" pid %s", Err(connect(b, (void *)&n, sizeof(n))));
  socklen_t z = sizeof(n);
  printf(" peer %s %u/%d\n", Err(getpeername(b, (void *)&n, &z)), z, n.nl_pid);
  n.nl_family = AF_UNSPEC;
  printf("unspec %s", Err(connect(b, (void *)&n, sizeof(n))));
  z = sizeof(n);
  printf(" peer %s", Err(getpeername(b, (void *)&n, &z)));
  printf(" %u/%d\n", z, n.nl_pid);
  // From one to the other.
  memset(&n, 0, sizeof(n));
  n.nl_family = AF_NETLINK, n.nl_pid = 777;
  printf("to another %s", Err(sendto(b, "hello", 5, 0, (void *)&n, sizeof(n))));
  char o[64];
  z = sizeof(n);
  printf(" heard %s", Err(recvfrom(a, o, sizeof(o), MSG_DONTWAIT, (void *)&n, &z)));
  n.nl_pid = 999, n.nl_groups = 0;
  printf(" to nobody %s", Err(sendto(b, "hello", 5, 0, (void *)&n, sizeof(n))));
  n.nl_pid = 0, n.nl_groups = 1;
  printf(" to a group %s", Err(sendto(b, "hello", 5, 0, (void *)&n, sizeof(n))));
  printf(" listen %s accept %s shutdown %s\n", Err(listen(a, 1)), Err(accept(a, NULL, NULL)), Err(shutdown(a, 2)));
  for (int i = 0; i < 20; i++) {
    char short_one[20] = {0};
    struct nlmsghdr *h = (void *)short_one;
    h->nlmsg_len = (uint32_t)i, h->nlmsg_type = RTM_GETLINK, h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    printf("length %d: %s", i, Err(send(s, short_one, 20, 0)));
    Answers(5);
    printf(" size %s", Err(send(s, short_one, (size_t)i, 0)));
    Answers(5);
    printf("\n");
  }
  // Groups by option.
  for (int g = -1; g < 40; g++) {
    printf("group %d: %s", g, Err(setsockopt(b, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &g, sizeof(g))));
    unsigned list[4] = {0};
    z = sizeof(list);
    printf(" list %s", Err(getsockopt(b, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, list, &z)));
    printf(" %u %x %x", z, list[0], list[1]);
    printf(" drop %s\n", Err(setsockopt(b, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &g, sizeof(g))));
  }
  // Reads that are too short.
  unsigned char header[16] = {0};
  for (int size = 0; size < 80; size += 16) {
    Start(RTM_GETLINK, NLM_F_DUMP, header, 16);
    send(s, &q, q.h.nlmsg_len, 0);
    char d[100];
    struct iovec v = {d, (size_t)size};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    long r = recvmsg(s, &m, MSG_PEEK | MSG_DONTWAIT);
    printf("read %d: %s %ld flags %x", size, Err(r), r, m.msg_flags);
    r = recvmsg(s, &m, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    printf(" trunc %s %d", Err(r), r > size);
    r = recvmsg(s, &m, MSG_DONTWAIT);
    printf(" %s %ld flags %x", Err(r), r, m.msg_flags);
    Answers(20);
    printf("\n");
  }
  close(a), close(b);
}

int main(int argc, char **argv) {
  static char out[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof(out));
  for (int tlvs = 0; tlvs < 2; tlvs++) {
    s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    setsockopt(s, SOL_NETLINK, NETLINK_EXT_ACK, &tlvs, sizeof(tlvs));
    setsockopt(s, SOL_NETLINK, NETLINK_CAP_ACK, &tlvs, sizeof(tlvs));
    for (const char *w = argc > 1 ? argv[1] : "starx"; *w; w++) {
      if (*w == 's') Sockets();
      if (*w == 't') Types();
      if (*w == 'a') Addresses();
      if (*w == 'r') Routes();
      if (*w == 'x') Attributes();
    }
    close(s);
  }
  return 0;
}
