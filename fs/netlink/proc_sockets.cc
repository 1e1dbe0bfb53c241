// /proc/net: the sockets (tcp4_seq_show() and its kin).
#include <arpa/inet.h>

#include <algorithm>

#include "fs/netlink/netlink_socket.h"
#include "fs/netlink/proc_net.h"
#include "fs/netlink/sock_diag.h"
#include "fs/unix/socket_list.h"

namespace ringwall::netlink {
namespace {

constexpr uint8_t kListen = 10, kTimeWait = 6, kSynRecv = 3;

std::string HexAddr(const net::SockAddr& a) {
  std::string out;
  const size_t words = a.addr.is_v6() ? 4 : 1;
  for (size_t i = 0; i < words; i++) {
    uint32_t w;
    memcpy(&w, a.addr.data() + 4 * i, 4);
    AppendFormat(&out, "%08X", w);
  }
  AppendFormat(&out, ":%04X", a.port);
  return out;
}

std::string Padded(std::string line, size_t width) {
  if (line.size() < width) line.append(width - line.size(), ' ');
  return line + "\n";
}

// %pK: as a program without the right to see addresses gets it.
std::string Pointer(const void* p) {
  return Format("%016llx", static_cast<unsigned long long>(CookieOf(p) & 0xffffffff));
}

unsigned long Clock(net::Duration d) {
  return static_cast<unsigned long>(std::max<int64_t>(d.millis(), 0) / 10);
}

std::string Common(const net::SocketInfo& s, uint32_t tx, uint32_t rx) {
  return Format("%s %s %02X %08X:%08X %02X:%08lX %08X", HexAddr(s.local).c_str(),
                HexAddr(s.remote).c_str(), s.state, tx, rx, s.timer,
                s.timer != 0 ? Clock(s.expires) : 0, s.retransmits);
}

}  // namespace

std::string TcpText(net::Stack& stack, net::Family family) {
  const bool v4 = family == net::Family::kV4;
  std::string out =
      v4 ? Padded("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
                  "timeout inode", 149)
         : "  sl  local_address                         remote_address                        st "
           "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
  std::vector<net::SocketInfo> all = stack.Sockets(net::SocketInfo::Kind::kTcp);
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return (a.state == kListen) > (b.state == kListen);
  });
  int n = 0;
  for (const net::SocketInfo& s : all) {
    if (s.family != family) continue;
    std::string line = Format("%4d: ", n++);
    if (s.state == kTimeWait || s.state == kSynRecv) {
      line += Common(s, 0, 0);
      AppendFormat(&line, " %5u %8d %d %d %s", s.state == kSynRecv ? s.uid : 0, 0, 0,
                   s.state == kTimeWait ? 3 : 0, Pointer(s.cookie).c_str());
    } else {
      line += Common(s, s.state == kListen ? 0 : s.send_queue, s.receive_queue);
      AppendFormat(&line, " %5u %8d %llu %d %s", s.uid, s.probes,
                   static_cast<unsigned long long>(s.inode), s.timer != 0 ? 2 : 1,
                   Pointer(s.cookie).c_str());
      const net::TcpInfo info = s.tcp.value_or(net::TcpInfo());
      const bool slow = info.ssthresh >= 0x7fffffff || info.ssthresh == 0;
      const unsigned long rto = s.tcp ? Clock(info.rto) : 100;
      AppendFormat(&line, " %lu %lu %u %u %d", rto, Clock(info.ato), 0u, s.tcp ? info.cwnd : 10u,
                   s.state == kListen ? 0 : slow ? -1 : static_cast<int>(info.ssthresh));
    }
    out += v4 ? Padded(std::move(line), 149) : line + "\n";
  }
  return out;
}

std::string UdpText(net::Stack& stack, net::Family family, net::SocketInfo::Kind kind) {
  const bool v4 = family == net::Family::kV4;
  const bool ping = kind == net::SocketInfo::Kind::kPing;
  std::string out =
      v4 ? Padded(std::string(ping ? "" : " ") +
                  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
                  "timeout inode ref pointer drops", 127)
         : "  sl  local_address                         remote_address                        st "
           "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
  int n = 0;
  for (const net::SocketInfo& s : stack.Sockets(kind)) {
    if (s.family != family) continue;
    // The number is the hash bucket.
    std::string line = Format("%5d: ", s.local.port != 0 ? s.local.port % 4096 : n);
    n++;
    line += Common(s, 0, s.receive_queue);
    AppendFormat(&line, " %5u %8d %llu %d %s %u", s.uid, 0,
                 static_cast<unsigned long long>(s.inode), 2, Pointer(s.cookie).c_str(), s.drops);
    out += v4 ? Padded(std::move(line), 127) : line + "\n";
  }
  return out;
}

std::string RawText(net::Stack& stack, net::Family family) {
  std::string out =
      family == net::Family::kV4
          ? "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
            "timeout inode ref pointer drops\n"
          : "  sl  local_address                         remote_address                        st "
            "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
  for (const net::SocketInfo& s : stack.Sockets(net::SocketInfo::Kind::kRaw)) {
    if (s.family != family) continue;
    out += family == net::Family::kV4 ? Format("%4d: ", s.protocol) : Format("%5d: ", s.protocol);
    out += Common(s, 0, s.receive_queue);
    AppendFormat(&out, " %5u %8d %llu %d %s %u\n", s.uid, 0,
                 static_cast<unsigned long long>(s.inode), 2, Pointer(s.cookie).c_str(), s.drops);
  }
  return out;
}

std::string PacketText(net::Stack& stack) {
  std::string out = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";
  for (const net::SocketInfo& s : stack.Sockets(net::SocketInfo::Kind::kPacket)) {
    AppendFormat(&out, "%s %-6d %-4d %04x   %-5u %1d %-6u %-6u %-6llu\n", Pointer(s.cookie).c_str(),
                 3, s.raw ? SOCK_RAW : SOCK_DGRAM, s.ethertype, s.device, 1, s.receive_queue, s.uid,
                 static_cast<unsigned long long>(s.inode));
  }
  return out;
}

std::string NetlinkText(NetNamespace& net) {
  std::string out =
      "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n";
  const auto line = [&](const std::string& sk, int protocol, const NetlinkSocketInfo& s) {
    AppendFormat(&out, "%s %-3d %-10u %08x %-8u %-8d %-5d %-8d %-8u %-8llu\n", sk.c_str(), protocol,
                 s.port, s.groups, s.queued, 0, s.dumping, 2, s.drops,
                 static_cast<unsigned long long>(s.inode));
  };
  const std::vector<NetlinkSocketInfo> all = ListSockets(net);
  for (int p = 0; p < 32; p++) {
    Protocol* protocol = FindProtocol(p);
    if (protocol == nullptr) continue;
    for (const NetlinkSocketInfo& s : all) {
      if (s.protocol == p) line(Pointer(s.cookie), p, s);
    }
    if (protocol->has_kernel_end()) line(Pointer(protocol), p, {});
  }
  return out;
}

std::string UnixText(NetNamespace& net) {
  std::string out = "Num       RefCount Protocol Flags    Type St Inode Path\n";
  for (const UnixSocketInfo& s : ListUnixSockets(net)) {
    AppendFormat(&out, "%s: %08X %08X %08X %04X %02X %5llu", Pointer(s.cookie).c_str(), s.refs, 0,
                 s.listening ? 0x10000 : 0, s.type, s.connected ? 3 : 1,
                 static_cast<unsigned long long>(s.inode));
    if (!s.address.empty()) {
      std::string path = s.address;
      // An abstract name begins with @, and NULs in it are shown so.
      if (path[0] == '\0') std::replace(path.begin(), path.end(), '\0', '@');
      out += " " + path;
    }
    out += '\n';
  }
  return out;
}

std::string SockstatText(NetNamespace& net) {
  net::Stack& stack = net.stack();
  size_t inuse = 0, orphan = 0, tw = 0, alloc = 0, udp = 0, raw = 0;
  size_t used = ListSockets(net).size() + ListUnixSockets(net).size();
  for (const net::SocketInfo& s : stack.Sockets(net::SocketInfo::Kind::kTcp)) {
    used += s.inode != 0;
    if (s.state == kTimeWait) tw++;
    if (s.state == kTimeWait || s.state == kSynRecv) continue;
    alloc++;
    if (s.inode == 0) orphan++;
    if (s.family == net::Family::kV4) inuse++;
  }
  for (const net::SocketInfo& s : stack.Sockets(net::SocketInfo::Kind::kUdp)) {
    used++;
    udp += s.family == net::Family::kV4;
  }
  for (const net::SocketInfo& s : stack.Sockets(net::SocketInfo::Kind::kRaw)) {
    used++;
    raw += s.family == net::Family::kV4;
  }
  return Format("sockets: used %zu\nTCP: inuse %zu orphan %zu tw %zu alloc %zu mem 0\n"
                "UDP: inuse %zu mem 0\nUDPLITE: inuse 0\nRAW: inuse %zu\nFRAG: inuse 0 memory 0\n",
                used, inuse, orphan, tw, alloc, udp, raw);
}

std::string Sockstat6Text(net::Stack& stack) {
  size_t n[3] = {};
  const net::SocketInfo::Kind kinds[] = {net::SocketInfo::Kind::kTcp, net::SocketInfo::Kind::kUdp,
                                         net::SocketInfo::Kind::kRaw};
  for (size_t k = 0; k < 3; k++) {
    for (const net::SocketInfo& s : stack.Sockets(kinds[k])) {
      n[k] += s.family == net::Family::kV6 && s.state != kTimeWait && s.state != kSynRecv;
    }
  }
  return Format("TCP6: inuse %zu\nUDP6: inuse %zu\nUDPLITE6: inuse 0\nRAW6: inuse %zu\n"
                "FRAG6: inuse 0 memory 0\n", n[0], n[1], n[2]);
}

std::string ProtocolsText(NetNamespace& net) {
  struct Row {
    const char* name;
    unsigned size;
    net::SocketInfo::Kind kind;
    net::Family family;
    const char* flags;
  };
  using K = net::SocketInfo::Kind;
  using F = net::Family;
  static constexpr Row kRows[] = {
      {"PACKET", 1600, K::kPacket, F::kNone, "n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n"},
      {"PINGv6", 1344, K::kPing, F::kV6, "y  y  y  n  n  y  n  n  y  y  y  y  y  y  n  y  y  n"},
      {"RAWv6", 1344, K::kRaw, F::kV6, "y  y  y  n  y  y  y  n  y  y  y  y  y  y  y  y  n  n"},
      {"UDPv6", 1472, K::kUdp, F::kV6, "y  y  y  n  y  y  y  n  y  y  y  y  n  n  y  y  y  n"},
      {"TCPv6", 2432, K::kTcp, F::kV6, "y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y"},
      {"PING", 1016, K::kPing, F::kV4, "y  y  y  n  n  y  n  n  y  y  y  y  y  y  n  y  y  n"},
      {"RAW", 1152, K::kRaw, F::kV4, "y  y  y  n  y  y  y  n  y  y  y  y  y  y  y  y  n  n"},
      {"UDP", 1344, K::kUdp, F::kV4, "y  y  y  n  y  y  y  n  y  y  y  y  n  n  y  y  y  n"},
      {"TCP", 2304, K::kTcp, F::kV4, "y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y"},
  };
  std::string out =
      "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se "
      "re bi br ha uh gp em\n";
  const auto row = [&](const char* name, unsigned size, size_t sockets, bool tcp,
                       const char* flags) {
    AppendFormat(&out, "%-9s %4u %6zu  %6d   %-3s %6u   %-3s  %-10s  %s\n", name, size, sockets,
                 tcp ? 0 : -1, tcp ? "no" : "NI", tcp ? 192 : 0, "yes", "kernel",
                 std::string(flags).substr(0, 52).c_str());
  };
  for (const Row& r : kRows) {
    size_t n = 0;
    for (const net::SocketInfo& s : net.stack().Sockets(r.kind)) {
      n += r.family == F::kNone || s.family == r.family;
    }
    row(r.name, r.size, n, r.kind == K::kTcp, r.flags);
  }
  size_t streams = 0, others = 0;
  for (const UnixSocketInfo& s : ListUnixSockets(net)) (s.type == SOCK_STREAM ? streams : others)++;
  constexpr const char* kUnixFlags = "y  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n";
  row("UNIX-STREAM", 1152, streams, false, kUnixFlags);
  row("UNIX", 1152, others, false, kUnixFlags);
  row("NETLINK", 1096, ListSockets(net).size(), false,
      "n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n");
  return out;
}

}  // namespace ringwall::netlink
