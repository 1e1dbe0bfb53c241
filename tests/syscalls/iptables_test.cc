// iptables' socket options, and packets that meet the rules, in a namespace of the test's own.
#include <netinet/in.h>
#include <poll.h>

#include "tests/util/netlink.h"
// Behind netinet/in.h: the kernel's headers make room for it.
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

namespace ringwall::test {
namespace {

constexpr uint32_t kHookIn = 1, kHookOut = 3;

class IptablesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterOwnNet()) GTEST_SKIP() << "no right to make a network namespace";
    s_.Reset(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
    if (!s_.ok()) s_.Reset(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_TRUE(s_.ok());
    ipt_getinfo i = Named<ipt_getinfo>("filter");
    socklen_t n = sizeof(i);
    if (getsockopt(s_.get(), SOL_IP, IPT_SO_GET_INFO, &i, &n) != 0 && errno == ENOPROTOOPT) {
      GTEST_SKIP() << "a kernel without iptables";
    }
  }
  template <typename T>
  static T Named(const char* name) {
    T t = {};
    strcpy(t.name, name);
    return t;
  }
  int Info(const char* table, ipt_getinfo* i) {
    *i = Named<ipt_getinfo>(table);
    socklen_t n = sizeof(*i);
    return getsockopt(s_.get(), SOL_IP, IPT_SO_GET_INFO, i, &n);
  }
  std::vector<char> Entries(const ipt_getinfo& i) {
    std::vector<char> all(sizeof(ipt_get_entries) + i.size);
    ipt_get_entries head = {};
    strcpy(head.name, i.name);
    head.size = i.size;
    memcpy(all.data(), &head, sizeof(head));
    socklen_t n = static_cast<socklen_t>(all.size());
    EXPECT_OK(getsockopt(s_.get(), SOL_IP, IPT_SO_GET_ENTRIES, all.data(), &n));
    return {all.begin() + static_cast<long>(sizeof(head)), all.end()};
  }
  // Puts `rule` before the policy of one hook of a table that has no rules.
  int Load(const char* table, uint32_t hook, const std::vector<char>& rule) {
    ipt_getinfo i;
    if (Info(table, &i) != 0) return errno;
    std::vector<char> blob = Entries(i);
    ipt_replace r = {};
    strcpy(r.name, table);
    r.valid_hooks = i.valid_hooks;
    r.num_entries = i.num_entries + (rule.empty() ? 0 : 1);
    const uint32_t at = i.hook_entry[hook];
    blob.insert(blob.begin() + at, rule.begin(), rule.end());
    for (uint32_t h = 0; h < 5; h++) {
      r.hook_entry[h] = i.hook_entry[h];
      r.underflow[h] = i.underflow[h];
      if (i.hook_entry[h] > at) r.hook_entry[h] += static_cast<uint32_t>(rule.size());
      if (i.underflow[h] >= at) r.underflow[h] += static_cast<uint32_t>(rule.size());
    }
    r.size = static_cast<uint32_t>(blob.size());
    std::vector<xt_counters> old(i.num_entries);
    r.num_counters = i.num_entries;
    r.counters = old.data();
    std::vector<char> all(sizeof(r) + blob.size());
    memcpy(all.data(), &r, sizeof(r));
    memcpy(all.data() + sizeof(r), blob.data(), blob.size());
    if (setsockopt(s_.get(), SOL_IP, IPT_SO_SET_REPLACE, all.data(),
                   static_cast<socklen_t>(all.size())) != 0) {
      return errno;
    }
    return 0;
  }
  // Takes the first rule of a hook out again.
  void Unload(const char* table, uint32_t hook) {
    ipt_getinfo i;
    ASSERT_OK(Info(table, &i));
    std::vector<char> blob = Entries(i);
    const uint32_t at = i.hook_entry[hook];
    ipt_entry e;
    memcpy(&e, blob.data() + at, sizeof(e));
    blob.erase(blob.begin() + at, blob.begin() + at + e.next_offset);
    ipt_replace r = {};
    strcpy(r.name, table);
    r.valid_hooks = i.valid_hooks;
    r.num_entries = i.num_entries - 1;
    for (uint32_t h = 0; h < 5; h++) {
      r.hook_entry[h] = i.hook_entry[h] - (i.hook_entry[h] > at ? e.next_offset : 0);
      r.underflow[h] = i.underflow[h] - (i.underflow[h] > at ? e.next_offset : 0);
    }
    r.size = static_cast<uint32_t>(blob.size());
    std::vector<xt_counters> old(i.num_entries);
    r.num_counters = i.num_entries;
    r.counters = old.data();
    std::vector<char> all(sizeof(r) + blob.size());
    memcpy(all.data(), &r, sizeof(r));
    memcpy(all.data() + sizeof(r), blob.data(), blob.size());
    EXPECT_OK(setsockopt(s_.get(), SOL_IP, IPT_SO_SET_REPLACE, all.data(),
                         static_cast<socklen_t>(all.size())));
  }
  // A rule about TCP to a port.
  static std::vector<char> TcpRule(uint16_t port, const std::vector<char>& target) {
    ipt_entry e = {};
    e.ip.proto = IPPROTO_TCP;
    std::vector<char> match(48);
    xt_entry_match m = {};
    m.u.user.match_size = static_cast<uint16_t>(match.size());
    strcpy(m.u.user.name, "tcp");
    memcpy(match.data(), &m, 32);
    const uint16_t ports[4] = {0, 65535, port, port};
    memcpy(match.data() + 32, ports, sizeof(ports));
    e.target_offset = static_cast<uint16_t>(sizeof(e) + match.size());
    e.next_offset = static_cast<uint16_t>(e.target_offset + target.size());
    std::vector<char> out(e.next_offset);
    memcpy(out.data(), &e, sizeof(e));
    memcpy(out.data() + sizeof(e), match.data(), match.size());
    memcpy(out.data() + e.target_offset, target.data(), target.size());
    return out;
  }
  static std::vector<char> Verdict(int verdict) {
    xt_standard_target t = {};
    t.target.u.user.target_size = XT_ALIGN(sizeof(t));
    t.verdict = verdict;
    std::vector<char> out(XT_ALIGN(sizeof(t)));
    memcpy(out.data(), &t, sizeof(t));
    return out;
  }
  static std::vector<char> Target(const char* name, const void* data, size_t size) {
    std::vector<char> out(XT_ALIGN(32 + size));
    xt_entry_target t = {};
    t.u.user.target_size = static_cast<uint16_t>(out.size());
    strcpy(t.u.user.name, name);
    memcpy(out.data(), &t, 32);
    memcpy(out.data() + 32, data, size);
    return out;
  }
  static Fd Listener(uint16_t* port) {
    Fd s(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in a = {};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
    EXPECT_OK(listen(s.get(), 4));
    socklen_t n = sizeof(a);
    EXPECT_OK(getsockname(s.get(), reinterpret_cast<sockaddr*>(&a), &n));
    *port = ntohs(a.sin_port);
    return s;
  }
  static int Connect(Fd& s, uint16_t port) {
    s.Reset(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    sockaddr_in a = {};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port);
    return connect(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)) == 0 ? 0 : errno;
  }
  Fd s_;
};

TEST_F(IptablesTest, TablesTellTheirShape) {
  struct Table {
    const char* name;
    uint32_t hooks, entries, size;
  };
  for (const Table& t : {Table{"filter", 0x0e, 4, 632}, Table{"nat", 0x1b, 5, 784},
                         Table{"mangle", 0x1f, 6, 936}, Table{"raw", 0x09, 3, 480}}) {
    ipt_getinfo i;
    ASSERT_OK(Info(t.name, &i)) << t.name;
    EXPECT_EQ(i.valid_hooks, t.hooks) << t.name;
    EXPECT_EQ(i.num_entries, t.entries) << t.name;
    EXPECT_EQ(i.size, t.size) << t.name;
  }
}

TEST_F(IptablesTest, NamesAreThoseThatSomebodyAskedFor) {
  EXPECT_EQ(InChild([] {
    CHECK_CHILD(unshare(CLONE_NEWNET) == 0);
    Fd s(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
    CHECK_CHILD(ReadFile("/proc/net/ip_tables_names") == "");
    for (const char* name : {"filter", "nat", "filter"}) {
      ipt_getinfo i = Named<ipt_getinfo>(name);
      socklen_t n = sizeof(i);
      CHECK_CHILD(getsockopt(s.get(), SOL_IP, IPT_SO_GET_INFO, &i, &n) == 0);
    }
    CHECK_CHILD(ReadFile("/proc/net/ip_tables_names") == "nat\nfilter\n");
    CHECK_CHILD(ReadFile("/proc/net/ip6_tables_names") == "");
    return 0;
  }), 0);
}

TEST_F(IptablesTest, InfoRefusals) {
  ipt_getinfo i;
  EXPECT_FAILS(Info("nosuchtable", &i), ENOENT);
  i = Named<ipt_getinfo>("filter");
  socklen_t n = sizeof(i) - 1;
  EXPECT_FAILS(getsockopt(s_.get(), SOL_IP, IPT_SO_GET_INFO, &i, &n), EINVAL);
  n = sizeof(i) + 1;
  std::vector<char> large(n);
  EXPECT_FAILS(getsockopt(s_.get(), SOL_IP, IPT_SO_GET_INFO, large.data(), &n), EINVAL);
  n = sizeof(i);
  EXPECT_FAILS(getsockopt(s_.get(), SOL_IP, IPT_SO_GET_INFO, BadAddress(), &n), EFAULT);
}

TEST_F(IptablesTest, EntriesAreCheckedAgainstTheirSize) {
  ipt_getinfo i;
  ASSERT_OK(Info("filter", &i));
  const std::vector<char> blob = Entries(i);
  ASSERT_EQ(blob.size(), i.size);
  ipt_entry e;
  memcpy(&e, blob.data() + i.hook_entry[kHookIn], sizeof(e));
  EXPECT_EQ(e.target_offset, sizeof(ipt_entry));
  EXPECT_EQ(e.next_offset, 152);
  std::vector<char> all(sizeof(ipt_get_entries) + i.size + 8);
  ipt_get_entries head = {};
  strcpy(head.name, "filter");
  head.size = i.size + 8;
  memcpy(all.data(), &head, sizeof(head));
  socklen_t n = static_cast<socklen_t>(all.size());
  EXPECT_FAILS(getsockopt(s_.get(), SOL_IP, IPT_SO_GET_ENTRIES, all.data(), &n), EAGAIN);
  n = 10;
  EXPECT_FAILS(getsockopt(s_.get(), SOL_IP, IPT_SO_GET_ENTRIES, all.data(), &n), EINVAL);
  n = static_cast<socklen_t>(all.size() - 1);
  EXPECT_FAILS(getsockopt(s_.get(), SOL_IP, IPT_SO_GET_ENTRIES, all.data(), &n), EINVAL);
}

TEST_F(IptablesTest, Revisions) {
  const auto ask = [&](int option, const char* name, uint8_t revision) {
    xt_get_revision r = {};
    strcpy(r.name, name);
    r.revision = revision;
    socklen_t n = sizeof(r);
    return getsockopt(s_.get(), SOL_IP, option, &r, &n) == 0 ? 0 : errno;
  };
  EXPECT_EQ(ask(IPT_SO_GET_REVISION_MATCH, "tcp", 0), 0);
  EXPECT_EQ(ask(IPT_SO_GET_REVISION_MATCH, "tcp", 9), EPROTONOSUPPORT);
  EXPECT_EQ(ask(IPT_SO_GET_REVISION_MATCH, "nosuchmatch", 0), ENOENT);
  EXPECT_EQ(ask(IPT_SO_GET_REVISION_TARGET, "REDIRECT", 0), 0);
  EXPECT_EQ(ask(IPT_SO_GET_REVISION_TARGET, "nosuchtarget", 0), ENOENT);
  xt_get_revision r = {};
  socklen_t n = sizeof(r) - 1;
  EXPECT_FAILS(getsockopt(s_.get(), SOL_IP, IPT_SO_GET_REVISION_MATCH, &r, &n), EINVAL);
}

TEST_F(IptablesTest, ReplaceRefusals) {
  ipt_replace r = Named<ipt_replace>("filter");
  EXPECT_FAILS(setsockopt(s_.get(), SOL_IP, IPT_SO_SET_REPLACE, &r, sizeof(r)), EINVAL);
  r.num_counters = 1;
  r.size = 8;
  EXPECT_FAILS(setsockopt(s_.get(), SOL_IP, IPT_SO_SET_REPLACE, &r, sizeof(r)), EINVAL);
  EXPECT_EQ(Load("filter", kHookIn, TcpRule(1, Target("NOSUCH", "", 0))), ENOENT);
  std::vector<char> jump = TcpRule(1, Verdict(8));  // into the middle of an entry
  EXPECT_NE(Load("filter", kHookIn, jump), 0);
  jump = TcpRule(1, Verdict(0x7ffffff0));
  EXPECT_NE(Load("filter", kHookIn, jump), 0);
  const nf_nat_ipv4_multi_range_compat range = {1, {}};
  EXPECT_EQ(Load("filter", kHookIn, TcpRule(1, Target("REDIRECT", &range, sizeof(range)))),
            EINVAL);  // belongs to nat
}

TEST_F(IptablesTest, DroppedConnectionsHang) {
  uint16_t port;
  Fd listener = Listener(&port), client;
  ASSERT_EQ(Load("filter", kHookIn, TcpRule(port, Verdict(-NF_DROP - 1))), 0);
  EXPECT_EQ(Connect(client, port), EINPROGRESS);
  pollfd p = {client.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 50), 0);
  ipt_getinfo i;
  ASSERT_OK(Info("filter", &i));
  const std::vector<char> blob = Entries(i);
  ipt_entry e;
  memcpy(&e, blob.data() + i.hook_entry[kHookIn], sizeof(e));
  EXPECT_GE(e.counters.pcnt, 1u);
  Unload("filter", kHookIn);
}

TEST_F(IptablesTest, RejectedConnectionsAreRefused) {
  uint16_t port;
  Fd listener = Listener(&port), client;
  const int with = 7;  // IPT_TCP_RESET
  ASSERT_EQ(Load("filter", kHookIn, TcpRule(port, Target("REJECT", &with, sizeof(with)))), 0);
  int error = Connect(client, port);
  if (error == EINPROGRESS) {
    pollfd p = {client.get(), POLLOUT, 0};
    EXPECT_EQ(poll(&p, 1, 2000), 1);
    socklen_t n = sizeof(error);
    ASSERT_OK(getsockopt(client.get(), SOL_SOCKET, SO_ERROR, &error, &n));
  }
  EXPECT_EQ(error, ECONNREFUSED);
  Unload("filter", kHookIn);
}

TEST_F(IptablesTest, RedirectedConnectionsArrive) {
  uint16_t port;
  Fd listener = Listener(&port), client;
  nf_nat_ipv4_multi_range_compat range = {};
  range.rangesize = 1;
  range.range[0].flags = NF_NAT_RANGE_PROTO_SPECIFIED;
  range.range[0].min.all = range.range[0].max.all = htons(port);
  ASSERT_EQ(Load("nat", kHookOut, TcpRule(9999, Target("REDIRECT", &range, sizeof(range)))), 0);
  const int error = Connect(client, 9999);
  EXPECT_TRUE(error == 0 || error == EINPROGRESS);
  pollfd p = {client.get(), POLLOUT, 0};
  ASSERT_EQ(poll(&p, 1, 2000), 1);
  Fd accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(accepted.ok());
  ASSERT_EQ(send(client.get(), "through", 7, 0), 7);
  char b[16];
  EXPECT_EQ(recv(accepted.get(), b, sizeof(b), 0), 7);
  sockaddr_in peer = {};
  socklen_t n = sizeof(peer);
  ASSERT_OK(getpeername(client.get(), reinterpret_cast<sockaddr*>(&peer), &n));
  EXPECT_EQ(ntohs(peer.sin_port), 9999);
  Unload("nat", kHookOut);
}

TEST_F(IptablesTest, OrdinaryUsersAreRefused) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    Fd s(socket(AF_INET, SOCK_STREAM, 0));
    ipt_getinfo i = Named<ipt_getinfo>("filter");
    socklen_t n = sizeof(i);
    CHECK_CHILD(getsockopt(s.get(), SOL_IP, IPT_SO_GET_INFO, &i, &n) == -1 && errno == EPERM);
    ipt_replace r = {};
    CHECK_CHILD(setsockopt(s.get(), SOL_IP, IPT_SO_SET_REPLACE, &r, sizeof(r)) == -1);
    CHECK_CHILD(errno == EPERM);
    return 0;
  })));
}

TEST_F(IptablesTest, Ip6TablesToo) {
  Fd s(socket(AF_INET6, SOCK_STREAM, 0));
  ASSERT_TRUE(s.ok());
  ip6t_getinfo i = Named<ip6t_getinfo>("filter");
  socklen_t n = sizeof(i);
  ASSERT_OK(getsockopt(s.get(), SOL_IPV6, IP6T_SO_GET_INFO, &i, &n));
  EXPECT_EQ(i.num_entries, 4u);
  EXPECT_EQ(i.size, 856u);
  xt_get_revision r = {};
  strcpy(r.name, "tcp");
  n = sizeof(r);
  EXPECT_OK(getsockopt(s.get(), SOL_IPV6, IP6T_SO_GET_REVISION_MATCH, &r, &n));
}

}  // namespace
}  // namespace ringwall::test
