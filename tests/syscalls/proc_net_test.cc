// /proc/net, /proc/sys/net and /sys/class/net, line by line as Linux writes them.
#include <linux/sockios.h>
#include <netinet/in.h>
#include <regex.h>
#include <sys/un.h>

#include <sstream>

#include "tests/util/netlink.h"

namespace ringwall::test {
namespace {

std::vector<std::string> Lines(const std::string& path) {
  std::vector<std::string> out;
  std::istringstream in(ReadFile(path));
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

::testing::AssertionResult Matches(const std::string& text, const char* pattern) {
  regex_t re;
  if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0) {
    return ::testing::AssertionFailure() << "bad pattern " << pattern;
  }
  const bool ok = regexec(&re, text.c_str(), 0, nullptr, 0) == 0;
  regfree(&re);
  if (ok) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "\"" << text << "\" is not like " << pattern;
}

std::string Write(const std::string& path, const std::string& text) {
  Fd fd(open(path.c_str(), O_WRONLY));
  if (!fd.ok()) return ErrnoName(errno);
  if (write(fd.get(), text.data(), text.size()) < 0) return ErrnoName(errno);
  return "";
}

uint64_t InodeOf(int fd) {
  struct stat st;
  EXPECT_OK(fstat(fd, &st));
  return st.st_ino;
}

class ProcNetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterOwnNet()) GTEST_SKIP() << "no right to make a network namespace";
  }
};

TEST_F(ProcNetTest, Dev) {
  const std::vector<std::string> lines = Lines("/proc/net/dev");
  ASSERT_GE(lines.size(), 3u);
  EXPECT_EQ(lines[0], "Inter-|   Receive                                                |  Transmit");
  EXPECT_EQ(lines[1],
            " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
            "drop fifo colls carrier compressed");
  bool lo = false;
  for (size_t i = 2; i < lines.size(); i++) {
    EXPECT_TRUE(Matches(lines[i], "^ *[^ ]+:( +[0-9]+){16}$"));
    lo = lo || lines[i].rfind("    lo: ", 0) == 0;
  }
  EXPECT_TRUE(lo);
}

TEST_F(ProcNetTest, LoopbackCountsHeadersToo) {
  const auto bytes = [] {
    const std::string dev = ReadFile("/proc/net/dev");
    return atoll(dev.c_str() + dev.find("lo:") + 3);
  };
  Fd to(socket(AF_INET, SOCK_DGRAM, 0)), from(socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in a = {};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t n = sizeof(a);
  ASSERT_OK(bind(to.get(), reinterpret_cast<sockaddr*>(&a), n));
  ASSERT_OK(getsockname(to.get(), reinterpret_cast<sockaddr*>(&a), &n));
  const long long before = bytes();
  const char data[100] = {};
  EXPECT_EQ(sendto(from.get(), data, sizeof(data), 0, reinterpret_cast<sockaddr*>(&a), n), 100);
  EXPECT_EQ(bytes() - before, 128);
  Fd refused(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_FAILS(connect(refused.get(), reinterpret_cast<sockaddr*>(&a), n), ECONNREFUSED);
  EXPECT_EQ(bytes() - before, 128 + 60 + 40);
}

TEST_F(ProcNetTest, GroupsOfTheLoopback) {
  EXPECT_EQ(ReadFile("/proc/net/igmp6"),
            "1    lo              ff020000000000000000000000000001     1 0000000C 0\n"
            "1    lo              ff010000000000000000000000000001     1 00000008 0\n");
}

TEST_F(ProcNetTest, QueuesOfDatagramsAreAsLongAsTheSysctl) {
  const std::string path = "/proc/sys/net/unix/max_dgram_qlen";
  EXPECT_EQ(ReadFile(path), "10\n");
  EXPECT_EQ(Write(path, "3"), "");
  EXPECT_EQ(Write(path, "x"), "EINVAL");
  Fd to(socket(AF_UNIX, SOCK_DGRAM, 0)), from(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
  EXPECT_EQ(Write(path, "10"), "");
  sockaddr_un a = {};
  a.sun_family = AF_UNIX;
  ASSERT_OK(bind(to.get(), reinterpret_cast<sockaddr*>(&a), sizeof(sa_family_t)));
  socklen_t n = sizeof(a);
  ASSERT_OK(getsockname(to.get(), reinterpret_cast<sockaddr*>(&a), &n));
  for (int i = 0; i < 4; i++) EXPECT_EQ(sendto(from.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&a), n), 1);
  EXPECT_FAILS(sendto(from.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&a), n), EAGAIN);
}

TEST_F(ProcNetTest, TcpListener) {
  Fd s(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in a = {};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
  ASSERT_OK(listen(s.get(), 1));
  socklen_t n = sizeof(a);
  ASSERT_OK(getsockname(s.get(), reinterpret_cast<sockaddr*>(&a), &n));
  const std::vector<std::string> lines = Lines("/proc/net/tcp");
  ASSERT_GE(lines.size(), 2u);
  EXPECT_EQ(lines[0].size(), 149u);
  EXPECT_TRUE(Matches(lines[0], "^  sl  local_address rem_address   st tx_queue rx_queue tr tm->when "
                                "retrnsmt   uid  timeout inode +$"));
  char want[64];
  snprintf(want, sizeof(want), "0100007F:%04X 00000000:0000 0A", ntohs(a.sin_port));
  bool found = false;
  for (const std::string& line : lines) {
    if (line.find(want) == std::string::npos) continue;
    found = true;
    EXPECT_EQ(line.size(), 149u);
    EXPECT_TRUE(Matches(line,
                        "^ *[0-9]+: [0-9A-F]{8}:[0-9A-F]{4} [0-9A-F]{8}:[0-9A-F]{4} 0A "
                        "00000000:00000000 00:00000000 00000000 +[0-9]+ +[0-9]+ [0-9]+ [0-9]+ "
                        "[0-9a-f]+ 100 0 0 10 [0-9]+ +$"));
    EXPECT_NE(line.find(" " + std::to_string(InodeOf(s.get())) + " "), std::string::npos);
  }
  EXPECT_TRUE(found);
}

TEST_F(ProcNetTest, Tcp6Listener) {
  Fd s(socket(AF_INET6, SOCK_STREAM, 0));
  ASSERT_TRUE(s.ok());
  ASSERT_OK(listen(s.get(), 1));
  bool found = false;
  for (const std::string& line : Lines("/proc/net/tcp6")) {
    found = found || Matches(line, "^ *[0-9]+: 0{32}:[0-9A-F]{4} 0{32}:0000 0A 00000000:00000000 ");
  }
  EXPECT_TRUE(found);
}

TEST_F(ProcNetTest, HeadersOfSocketTables) {
  const auto first = [](const char* path) {
    const std::vector<std::string> l = Lines(path);
    return l.empty() ? std::string() : l[0];
  };
  EXPECT_EQ(first("/proc/net/udp").size(), 127u);
  EXPECT_TRUE(Matches(first("/proc/net/udp"), "^   sl  local_address rem_address   st tx_queue "
                                              "rx_queue tr tm->when retrnsmt   uid  timeout inode "
                                              "ref pointer drops +$"));
  const std::string six =
      "  sl  local_address                         remote_address                        st "
      "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
  EXPECT_EQ(first("/proc/net/tcp6"), six);
  EXPECT_EQ(first("/proc/net/udp6"), six + " ref pointer drops");
  EXPECT_EQ(first("/proc/net/raw6"), six + " ref pointer drops");
  EXPECT_EQ(first("/proc/net/raw"),
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
            "timeout inode ref pointer drops");
  EXPECT_EQ(first("/proc/net/unix"), "Num       RefCount Protocol Flags    Type St Inode Path");
  EXPECT_EQ(first("/proc/net/netlink"),
            "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    "
            "Inode");
  EXPECT_EQ(first("/proc/net/packet"),
            "sk               RefCnt Type Proto  Iface R Rmem   User   Inode");
  EXPECT_EQ(first("/proc/net/arp"),
            "IP address       HW type     Flags       HW address            Mask     Device");
  EXPECT_EQ(first("/proc/net/route").size(), 127u);
  EXPECT_EQ(first("/proc/net/igmp"), "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter");
  EXPECT_EQ(first("/proc/net/ptype"), "Type Device      Function");
  EXPECT_TRUE(Matches(first("/proc/net/protocols"),
                      "^protocol  size sockets  memory press maxhdr  slab module     cl co di ac "));
}

TEST_F(ProcNetTest, ProtocolsCountUnixStreamsApart) {
  const auto count = [](const std::string& name) {
    for (const std::string& line : Lines("/proc/net/protocols")) {
      int sockets = -1;
      if (line.starts_with(name + " ") && sscanf(line.c_str(), "%*s %*d %d", &sockets) == 1) return sockets;
    }
    return -1;
  };
  const int streams = count("UNIX-STREAM"), others = count("UNIX");
  ASSERT_GE(streams, 0);
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0)), d(socket(AF_UNIX, SOCK_DGRAM, 0)), p(socket(AF_UNIX, SOCK_SEQPACKET, 0));
  EXPECT_EQ(count("UNIX-STREAM"), streams + 1);
  EXPECT_EQ(count("UNIX"), others + 2);
}

TEST_F(ProcNetTest, UnixSockets) {
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un a = {};
  a.sun_family = AF_UNIX;
  memcpy(a.sun_path + 1, "ringwall-proc", 13);
  ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&a), 2 + 14));
  ASSERT_OK(listen(s.get(), 1));
  const std::string inode = std::to_string(InodeOf(s.get()));
  bool found = false;
  for (const std::string& line : Lines("/proc/net/unix")) {
    if (line.find("@ringwall-proc") == std::string::npos) continue;
    found = true;
    EXPECT_TRUE(Matches(line, "^[0-9a-f]{16}: [0-9A-F]{8} 00000000 00010000 0001 01 +[0-9]+ "
                              "@ringwall-proc$"));
    EXPECT_NE(line.find(" " + inode + " "), std::string::npos);
  }
  EXPECT_TRUE(found);
}

TEST_F(ProcNetTest, NetlinkSockets) {
  Netlink nl;
  const std::string inode = std::to_string(InodeOf(nl.fd()));
  bool found = false;
  for (const std::string& line : Lines("/proc/net/netlink")) {
    // The last column; a number of eight digits fills it.
    const std::string bare = line.substr(0, line.find_last_not_of(' ') + 1);
    if (!bare.ends_with(" " + inode)) continue;
    found = true;
    EXPECT_TRUE(Matches(line, "^[0-9a-f]{16} 0   [0-9]+ +00000000 0        0        0     [0-9]+ +0 "));
  }
  EXPECT_TRUE(found);
}

// Who may open them for writing, past their modes, learns at the write that there is none.
TEST_F(ProcNetTest, FilesThatRefuseEachWrite) {
  for (const auto& [name, error] :
       {std::pair{"snmp", EACCES}, {"snmp6", EACCES}, {"netstat", EACCES}, {"sockstat", EACCES},
        {"sockstat6", EACCES}, {"rt6_stats", EACCES}, {"psched", EIO}, {"rt_cache", EIO}, {"softnet_stat", EIO}}) {
    Fd fd(open((std::string("/proc/net/") + name).c_str(), O_WRONLY));
    EXPECT_TRUE(fd.ok()) << name;
    EXPECT_FAILS(write(fd.get(), "x", 1), error) << name;
  }
  for (const char* name : {"dev", "tcp", "unix", "route", "arp", "packet"}) {
    EXPECT_FAILS(open((std::string("/proc/net/") + name).c_str(), O_WRONLY), EACCES) << name;
  }
}

TEST_F(ProcNetTest, TablesOfCounters) {
  const std::vector<std::string> snmp = Lines("/proc/net/snmp");
  ASSERT_GE(snmp.size(), 8u);
  ASSERT_EQ(snmp.size() % 2, 0u);
  for (const char* path : {"/proc/net/snmp", "/proc/net/netstat"}) {
    const std::vector<std::string> lines = Lines(path);
    for (size_t i = 0; i + 1 < lines.size(); i += 2) {
      std::istringstream names(lines[i]), values(lines[i + 1]);
      std::string a, b;
      names >> a;
      values >> b;
      EXPECT_EQ(a, b);
      size_t n = 0, v = 0;
      while (names >> a) n++;
      while (values >> b) {
        v++;
        EXPECT_TRUE(Matches(b, "^-?[0-9]+$"));
      }
      EXPECT_EQ(n, v) << lines[i];
    }
  }
  EXPECT_TRUE(Matches(snmp[0], "^Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors "
                               "ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests "));
  EXPECT_TRUE(Matches(snmp[1], "^Ip: [12] 64 "));
  for (const std::string& line : Lines("/proc/net/snmp6")) {
    EXPECT_TRUE(Matches(line, "^[A-Za-z0-9]+ +\t-?[0-9]+$"));
  }
  const std::vector<std::string> used = Lines("/proc/net/sockstat");
  ASSERT_EQ(used.size(), 6u);
  EXPECT_TRUE(Matches(used[0], "^sockets: used [0-9]+$"));
  EXPECT_TRUE(Matches(used[1], "^TCP: inuse [0-9]+ orphan [0-9]+ tw [0-9]+ alloc [0-9]+ mem [0-9]+$"));
  EXPECT_TRUE(Matches(used[2], "^UDP: inuse [0-9]+ mem [0-9]+$"));
  EXPECT_EQ(used[5], "FRAG: inuse 0 memory 0");
}

TEST_F(ProcNetTest, RoutesAndAddresses) {
  Veth v;
  v.Up();
  Netlink nl;
  ifaddrmsg m = {};
  m.ifa_family = AF_INET;
  m.ifa_prefixlen = 24;
  m.ifa_index = static_cast<uint32_t>(v.index);
  Request add(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  ASSERT_EQ(nl.Ask(add.Put(m).Ip(IFA_LOCAL, "10.55.0.1").Ip(IFA_ADDRESS, "10.55.0.1")), 0);
  bool route = false;
  for (const std::string& line : Lines("/proc/net/route")) {
    if (line.rfind("rwa\t", 0) != 0) continue;
    route = true;
    EXPECT_EQ(line.size(), 127u);
    EXPECT_TRUE(Matches(line, "^rwa\t0000370A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0 +$"));
  }
  EXPECT_TRUE(route);
  bool lo6 = false;
  for (const std::string& line : Lines("/proc/net/if_inet6")) {
    lo6 = lo6 || Matches(line, "^0{31}1 [0-9a-f]{2} 80 10 80       lo$");
    EXPECT_TRUE(Matches(line, "^[0-9a-f]{32} [0-9a-f]{2} [0-9a-f]{2} [0-9a-f]{2} [0-9a-f]{2} +[^ ]+$"));
  }
  EXPECT_TRUE(lo6);
  for (const std::string& line : Lines("/proc/net/ipv6_route")) {
    EXPECT_TRUE(Matches(line, "^[0-9a-f]{32} [0-9a-f]{2} [0-9a-f]{32} [0-9a-f]{2} [0-9a-f]{32} "
                              "[0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{8} +[^ ]+$"));
  }
  const std::string trie = ReadFile("/proc/net/fib_trie");
  const size_t leaf = trie.find("|-- 10.55.0.1\n");
  ASSERT_NE(leaf, std::string::npos);
  EXPECT_EQ(trie.substr(leaf + 14, 60).find("/32 host LOCAL"),
            trie.substr(leaf + 14, 60).find_first_not_of(' '));
  bool group = false;
  for (const std::string& line : Lines("/proc/net/igmp")) {
    group = group || Matches(line, "^\t\t\t\t010000E0     [0-9] 0:00000000\t\t0$");
  }
  EXPECT_TRUE(group);
}

TEST_F(ProcNetTest, FollowsTheProcess) {
  EXPECT_EQ(Lines("/proc/self/net/dev").size(), Lines("/proc/net/dev").size());
  const std::string pid = "/proc/" + std::to_string(getpid());
  EXPECT_EQ(Lines(pid + "/net/dev").size(), Lines("/proc/net/dev").size());
  char link[64] = {};
  ASSERT_GT(readlink("/proc/net", link, sizeof(link)), 0);
  EXPECT_STREQ(link, "self/net");
}

TEST_F(ProcNetTest, SysctlsReadAndWrite) {
  const std::string v4 = "/proc/sys/net/ipv4/", core = "/proc/sys/net/core/";
  EXPECT_EQ(ReadFile(v4 + "ip_local_port_range"), "32768\t60999\n");
  EXPECT_EQ(Write(v4 + "ip_local_port_range", "40000 41000\n"), "");
  EXPECT_EQ(ReadFile(v4 + "ip_local_port_range"), "40000\t41000\n");
  Fd s(socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_OK(listen(s.get(), 1));
  sockaddr_in a = {};
  socklen_t n = sizeof(a);
  ASSERT_OK(getsockname(s.get(), reinterpret_cast<sockaddr*>(&a), &n));
  EXPECT_GE(ntohs(a.sin_port), 40000);
  EXPECT_LE(ntohs(a.sin_port), 41000);
  EXPECT_EQ(Write(v4 + "ip_local_port_range", "41000 40000\n"), "EINVAL");
  EXPECT_EQ(Write(v4 + "ip_local_port_range", "32768 60999\n"), "");
  EXPECT_EQ(ReadFile(v4 + "ip_default_ttl"), "64\n");
  EXPECT_EQ(Write(v4 + "ip_default_ttl", "0"), "EINVAL");
  EXPECT_EQ(Write(v4 + "ip_default_ttl", "256"), "EINVAL");
  EXPECT_EQ(Write(v4 + "ip_default_ttl", "abc"), "EINVAL");
  EXPECT_EQ(Write(v4 + "ip_default_ttl", "70"), "");
  EXPECT_EQ(ReadFile(v4 + "ip_default_ttl"), "70\n");
  // proc_dointvec() takes C's bases, a minus and no plus.
  EXPECT_EQ(Write(v4 + "ip_default_ttl", "0x10"), "");
  EXPECT_EQ(ReadFile(v4 + "ip_default_ttl"), "16\n");
  EXPECT_EQ(Write(v4 + "ip_default_ttl", "010"), "");
  EXPECT_EQ(ReadFile(v4 + "ip_default_ttl"), "8\n");
  for (const char* bad : {"0x", "08", "+5", "-3"}) EXPECT_EQ(Write(v4 + "ip_default_ttl", bad), "EINVAL") << bad;
  EXPECT_EQ(Write(v4 + "ip_default_ttl", "64"), "");
  EXPECT_EQ(Write(v4 + "tcp_fin_timeout", "30"), "");
  EXPECT_EQ(ReadFile(v4 + "tcp_fin_timeout"), "30\n");
  EXPECT_EQ(Write(v4 + "tcp_fin_timeout", "60"), "");
  EXPECT_EQ(Write(v4 + "conf/lo/rp_filter", "2"), "");
  EXPECT_EQ(ReadFile(v4 + "conf/lo/rp_filter"), "2\n");
  EXPECT_EQ(Write(v4 + "conf/lo/rp_filter", "0"), "");
  EXPECT_EQ(Write(core + "somaxconn", "128"), "");
  EXPECT_EQ(ReadFile(core + "somaxconn"), "128\n");
  EXPECT_EQ(Write(core + "somaxconn", "4096"), "");
  EXPECT_EQ(Write(v4 + "ip_forward", "1"), "");
  EXPECT_EQ(ReadFile(v4 + "conf/all/forwarding"), "1\n");
  EXPECT_EQ(Write(v4 + "ip_forward", "0"), "");
  EXPECT_EQ(ReadFile(v4 + "conf/all/forwarding"), "0\n");
  EXPECT_EQ(Write(v4 + "tcp_congestion_control", "nosuch"), "ENOENT");
  EXPECT_EQ(access((v4 + "conf/default").c_str(), F_OK), 0);
  EXPECT_FAILS(access((v4 + "conf/nosuch0").c_str(), F_OK), ENOENT);
}

TEST_F(ProcNetTest, DisablingIpv6TakesAddressesAway) {
  const std::string path = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";
  EXPECT_EQ(ReadFile(path), "0\n");
  ASSERT_EQ(Write(path, "1"), "");
  EXPECT_EQ(ReadFile(path), "1\n");
  EXPECT_EQ(ReadFile("/proc/net/if_inet6").find(" lo\n"), std::string::npos);
  ASSERT_EQ(Write(path, "0"), "");
  EXPECT_NE(ReadFile("/proc/net/if_inet6").find(" lo\n"), std::string::npos);
}

TEST_F(ProcNetTest, SysClassNet) {
  // A sysfs shows the namespace that mounted it, so only what every namespace has is looked at.
  const std::string lo = "/sys/class/net/lo/";
  EXPECT_EQ(ReadFile(lo + "address"), "00:00:00:00:00:00\n");
  EXPECT_EQ(ReadFile(lo + "mtu"), "65536\n");
  EXPECT_EQ(ReadFile(lo + "type"), "772\n");
  EXPECT_EQ(ReadFile(lo + "ifindex"), "1\n");
  EXPECT_EQ(ReadFile(lo + "iflink"), "1\n");
  EXPECT_EQ(ReadFile(lo + "addr_len"), "6\n");
  EXPECT_EQ(ReadFile(lo + "operstate"), "unknown\n");
  EXPECT_EQ(ReadFile(lo + "carrier"), "1\n");
  EXPECT_EQ(ReadFile(lo + "flags"), "0x9\n");
  EXPECT_EQ(ReadFile(lo + "tx_queue_len"), "1000\n");
  EXPECT_EQ(ReadFile(lo + "uevent"), "INTERFACE=lo\nIFINDEX=1\n");
  EXPECT_TRUE(Matches(ReadFile(lo + "statistics/rx_bytes"), "^[0-9]+\n$"));
  Fd speed(open((lo + "speed").c_str(), O_RDONLY));
  char b[16];
  EXPECT_FAILS(read(speed.get(), b, sizeof(b)), EINVAL);
}

}  // namespace
}  // namespace ringwall::test
