// Requests to routing netlink told line by line: every type, family and attribute number with sizes that are right
// and wrong, with and without NETLINK_GET_STRICT_CHK, and headers that are short or hold values. A line says the
// error, the text and offset of the extended acknowledgement, and of which type the answers are (not how many:
// what there is depends on the host's modules).
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int plain, strict;
static unsigned sequence;

static int Open(int is_strict) {
  const int one = 1;
  int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (s < 0) exit(2);
  setsockopt(s, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  if (is_strict) setsockopt(s, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one);
  const struct timeval t = {20, 0};
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
  return s;
}

static void Texts(const struct nlmsghdr* h, size_t at) {
  if (!(h->nlmsg_flags & NLM_F_ACK_TLVS)) return;
  const char* b = (const char*)h;
  while (at + sizeof(struct nlattr) <= h->nlmsg_len) {
    const struct nlattr* a = (const struct nlattr*)(b + at);
    if (a->nla_len < sizeof *a || at + a->nla_len > h->nlmsg_len) return;
    if (a->nla_type == NLMSGERR_ATTR_MSG) printf(" \"%s\"", (const char*)(a + 1));
    // The end of a dump tells only the text before Linux 6.13.
    if (h->nlmsg_type == NLMSG_DONE) {
      at += NLA_ALIGN(a->nla_len);
      continue;
    }
    if (a->nla_type == NLMSGERR_ATTR_OFFS) printf(" @%u", *(const unsigned*)(a + 1));
    if (a->nla_type == NLMSGERR_ATTR_MISS_TYPE) printf(" missing %u", *(const unsigned*)(a + 1));
    if (a->nla_type == NLMSGERR_ATTR_MISS_NEST) printf(" in %u", *(const unsigned*)(a + 1));
    at += NLA_ALIGN(a->nla_len);
  }
}

// Sends one request, reads until its end and tells it.
static void Ask(int s, int type, int flags, const void* body, size_t n) {
  static char in[1 << 17] __attribute__((aligned(8)));
  char out[4096] __attribute__((aligned(8))) = {0};
  struct nlmsghdr* h = (struct nlmsghdr*)out;
  h->nlmsg_len = NLMSG_HDRLEN + n;
  h->nlmsg_type = type;
  h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
  h->nlmsg_seq = ++sequence;
  memcpy(out + NLMSG_HDRLEN, body, n);
  if (send(s, out, NLMSG_ALIGN(h->nlmsg_len), 0) < 0) {
    printf(" send %s\n", strerrorname_np(errno));
    return;
  }
  int count = 0, kind = 0;
  for (;;) {
    ssize_t r = recv(s, in, sizeof in, 0);
    if (r < 0) {
      printf(" recv %s\n", strerrorname_np(errno));
      return;
    }
    for (struct nlmsghdr* m = (struct nlmsghdr*)in; NLMSG_OK(m, r); m = NLMSG_NEXT(m, r)) {
      if (m->nlmsg_seq != sequence) continue;
      const int* error = NLMSG_DATA(m);
      if (m->nlmsg_type == NLMSG_DONE || m->nlmsg_type == NLMSG_ERROR) {
        printf(" %s %s", m->nlmsg_type == NLMSG_DONE ? "done" : "ack", *error < 0 ? strerrorname_np(-*error) : "ok");
        if (m->nlmsg_type == NLMSG_DONE) {
          Texts(m, NLMSG_LENGTH(sizeof(int)));
        } else {
          const int whole = *error != 0 && !(m->nlmsg_flags & NLM_F_CAPPED);
          Texts(m, NLMSG_LENGTH(sizeof(int)) + (whole ? NLMSG_ALIGN(h->nlmsg_len) : sizeof *m));
        }
        if (count) printf(", answers of type %d", kind);
        printf("\n");
        return;
      }
      count++;
      kind = m->nlmsg_type;
    }
  }
}

struct Object {
  const char* name;
  int base;    // RTM_NEW*
  int header;  // its size
  int index;   // where the interface's number is, or -1
  int known;   // the highest attribute of both kernels that this is held against
};
static const struct Object objects[] = {
    {"link", RTM_NEWLINK, 16, 4, 43},     {"addr", RTM_NEWADDR, 8, 4, 10},     {"route", RTM_NEWROUTE, 12, -1, 30},
    {"neigh", RTM_NEWNEIGH, 12, 4, 12},   {"rule", RTM_NEWRULE, 12, -1, 24},   {"neightbl", RTM_NEWNEIGHTBL, 4, -1, 9},
    {"netconf", RTM_NEWNETCONF, 1, -1, 8}, {"nsid", RTM_NEWNSID, 1, -1, 5},    {"stats", RTM_NEWSTATS, 12, 4, 5},
    {"addrlabel", RTM_NEWADDRLABEL, 12, 8, 2}, {"qdisc", RTM_NEWQDISC, 20, 4, 16},
};
enum { kObjects = sizeof objects / sizeof *objects };
static const char* const kinds[] = {"new", "del", "get", "set"};
static const int families[] = {0, AF_INET, AF_INET6, AF_BRIDGE, 44};
static const int sizes[] = {0, 1, 2, 3, 4, 5, 8, 16, 17, 40, 300};
enum { kFamilies = sizeof families / sizeof *families, kSizes = sizeof sizes / sizeof *sizes };

// What another kernel than this program's yardstick, or one configured otherwise, answers in another way: the least
// IFLA_GSO_MAX_SIZE is a length of headers that the configuration gives; since 6.13 a change looks at the namespaces
// that it names (IFLA_NET_NS_PID, _FD, IFLA_LINK_NETNSID) before the interface; and the end of a dump that holds no
// error may say why attributes were not heeded.
static int Differs(const struct Object* o, int kind, int family, int is_strict, int type) {
  if (o->base != RTM_NEWLINK) return 0;
  if (type == IFLA_GSO_MAX_SIZE) return 1;
  if (kind == 2) return family == AF_BRIDGE && !is_strict;
  return type == IFLA_NET_NS_PID || type == IFLA_NET_NS_FD || type == IFLA_LINK_NETNSID;
}

static size_t Fill(char* b, const struct Object* o, int family, int index) {
  memset(b, 0, 1024);
  b[0] = family;
  if (index != 0 && o->index >= 0) memcpy(b + o->index, &index, 4);
  return NLMSG_ALIGN(o->header);
}

static void Attributes(const struct Object* o, int kind, int flags, int index) {
  char b[1024];
  for (int f = 0; f < kFamilies; f++)
    for (int k = 0; k < 2; k++) {
      for (int a = 0; a <= o->known + 1; a++) {
        const int type = a == o->known + 1 ? 200 : a;
        if (Differs(o, kind, families[f], k, type)) continue;
        for (int z = 0; z < kSizes; z++) {
          size_t n = Fill(b, o, families[f], index);
          struct nlattr* at = (struct nlattr*)(b + n);
          at->nla_type = type;
          at->nla_len = sizeof *at + sizes[z];
          n += NLA_ALIGN(at->nla_len);
          printf("%s %s%s family %d%s attribute %d of %d:", kinds[kind], o->name, kind == 2 && flags & NLM_F_DUMP ? " dump" : "",
                 families[f], k ? " strict" : "", type, sizes[z]);
          Ask(k ? strict : plain, o->base + kind, flags, b, n);
        }
      }
    }
}

static void Headers(const struct Object* o, int kind, int flags, int index) {
  char b[1024];
  for (int f = 0; f < kFamilies; f++)
    for (int k = 0; k < 2; k++) {
      for (int n = 1; n <= o->header + 3; n++) {
        Fill(b, o, families[f], index);
        printf("%s %s%s family %d%s with %d bytes:", kinds[kind], o->name, kind == 2 && flags & NLM_F_DUMP ? " dump" : "",
               families[f], k ? " strict" : "", n);
        Ask(k ? strict : plain, o->base + kind, flags, b, n);
      }
      if (kind != 2 || (flags & NLM_F_DUMP) == 0) continue;
      for (int at = 1; at < o->header; at++) {
        const size_t n = Fill(b, o, families[f], 0);
        b[at] = 77;
        printf("%s %s dump family %d%s byte %d set:", kinds[kind], o->name, families[f], k ? " strict" : "", at);
        Ask(k ? strict : plain, o->base + kind, flags, b, n);
      }
    }
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  plain = Open(0);
  strict = Open(1);
  const char* part = argv[1];
  for (int i = 0; i < kObjects; i++) {
    const struct Object* o = &objects[i];
    if (strcmp(argv[2], o->name) != 0) continue;
    // Changes name an interface that is not there, so that none is made.
    if (*part == 'd') Attributes(o, 2, NLM_F_DUMP, 0);
    if (*part == 'h') Headers(o, 2, NLM_F_DUMP, 0);
    if (*part == 'g') Attributes(o, 2, 0, 99), Headers(o, 2, 0, 99);
    if (*part == 'n') Attributes(o, 0, NLM_F_CREATE | NLM_F_EXCL, 99), Headers(o, 0, NLM_F_CREATE | NLM_F_EXCL, 99);
    if (*part == 'x') Attributes(o, 1, 0, 99), Headers(o, 1, 0, 99);
    if (*part == 's') Attributes(o, 3, 0, 99), Headers(o, 3, 0, 99);
  }
  return 0;
}
