// NETLINK_SOCK_DIAG (sock_diag(7)): the sockets of a namespace, as ss(8) lists them. Compare Linux's
// net/core/sock_diag.c, net/ipv4/inet_diag.c, net/netlink/diag.c and net/packet/diag.c.
#include "fs/netlink/sock_diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink_diag.h>
#include <linux/packet_diag.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>

#include "fs/netlink/route.h"
#include "fs/socket/tcp_info.h"
#include "netstack/endpoint.h"

namespace ringwall::netlink {
namespace {

constexpr uint32_t kTcpListen = 10, kTcpClose = 7, kTcpTimeWait = 6;

// A socket without a connection has its state only; a listener's queue and its limit stand in two
// fields that it has no other use for.
TcpInfoAbi MakeTcpInfo(const net::SocketInfo& s) {
  TcpInfoAbi o = s.tcp ? ToTcpInfoAbi(*s.tcp, ~uint64_t{0}) : TcpInfoAbi{};
  o.state = s.state;
  if (!s.tcp && s.state == kTcpListen) {
    o.unacked = s.waiting;
    o.sacked = s.backlog;
  }
  return o;
}

struct Filter {
  uint32_t states = ~0u;
  uint8_t ext = 0;
  Bytes code;
};

bool Shows(const Filter& f, int what) { return (f.ext & (1 << (what - 1))) != 0; }

// An inet_diag_hostcond's address: `bits` of it, port -1 for any.
struct HostCond {
  uint8_t family = 0, bits = 0;
  int32_t port = -1;
  Bytes addr;
};

std::optional<HostCond> ReadHostCond(Bytes b) {
  if (b.size() < 8) return std::nullopt;
  HostCond c;
  c.family = b[0];
  c.bits = b[1];
  c.port = ReadAs<int32_t>(b.subspan(4));
  const size_t n = (c.bits + 7u) / 8;
  if (c.bits > 128 || b.size() < 8 + n) return std::nullopt;
  c.addr = b.subspan(8, n);
  return c;
}

bool MatchesHost(const HostCond& c, const net::SockAddr& a, net::Family family) {
  if (c.port != -1 && c.port != a.port) return false;
  if (c.family != AF_UNSPEC && FamilyOf(c.family) != family) {
    // An IPv4 condition holds for a mapped address, too.
    if (!(c.family == AF_INET && a.addr.IsV4Mapped())) return false;
  }
  if (c.bits == 0) return true;
  const net::IpAddr addr = c.family == AF_INET ? a.addr.Unmapped() : a.addr;
  if (addr.size() * 8 < c.bits) return false;
  const size_t whole = c.bits / 8u;
  if (memcmp(addr.data(), c.addr.data(), whole) != 0) return false;
  const unsigned rest = c.bits % 8u;
  if (rest == 0) return true;
  const unsigned mask = 0xffu << (8 - rest);
  return (addr.byte(whole) & mask) == (c.addr[whole] & mask);
}

struct Op {
  uint8_t code = 0, yes = 0;
  uint16_t no = 0;
};

// inet_diag_bc_run(): the little program that ss makes of an expression. Checked by CheckCode.
bool Accepts(Bytes code, const net::SocketInfo& s) {
  size_t at = 0;
  while (code.size() - at >= sizeof(Op)) {
    const Op op = ReadAs<Op>(code.subspan(at));
    const Bytes rest = code.subspan(at + sizeof(Op));
    bool yes = true;
    const auto port = [&] { return ReadAs<Op>(rest).no; };  // the operand's place
    switch (op.code) {
      case INET_DIAG_BC_NOP: break;
      case INET_DIAG_BC_JMP: yes = false; break;
      case INET_DIAG_BC_S_EQ: yes = s.local.port == port(); break;
      case INET_DIAG_BC_S_GE: yes = s.local.port >= port(); break;
      case INET_DIAG_BC_S_LE: yes = s.local.port <= port(); break;
      case INET_DIAG_BC_D_EQ: yes = s.remote.port == port(); break;
      case INET_DIAG_BC_D_GE: yes = s.remote.port >= port(); break;
      case INET_DIAG_BC_D_LE: yes = s.remote.port <= port(); break;
      case INET_DIAG_BC_AUTO: yes = !s.bound; break;
      case INET_DIAG_BC_S_COND:
      case INET_DIAG_BC_D_COND: {
        const std::optional<HostCond> c = ReadHostCond(rest);
        yes = c && MatchesHost(*c, op.code == INET_DIAG_BC_S_COND ? s.local : s.remote, s.family);
        break;
      }
      case INET_DIAG_BC_DEV_COND: yes = ReadAs<uint32_t>(rest) == s.device; break;
      case INET_DIAG_BC_MARK_COND:
        yes = (s.mark & ReadAs<uint32_t>(rest.subspan(std::min<size_t>(4, rest.size())))) ==
              ReadAs<uint32_t>(rest);
        break;
      default: yes = false; break;
    }
    at += yes ? op.yes : op.no;
    if (at > code.size()) return false;
  }
  return at == code.size();
}

// inet_diag_bc_audit(): jumps forward only, to the program's end at most four bytes behind it.
bool CheckCode(Bytes code) {
  size_t at = 0;
  while (at < code.size()) {
    const Bytes left = code.subspan(at);
    if (left.size() < sizeof(Op)) return false;
    const Op op = ReadAs<Op>(left);
    size_t least = sizeof(Op);
    switch (op.code) {
      case INET_DIAG_BC_S_COND:
      case INET_DIAG_BC_D_COND: {
        const std::optional<HostCond> c = ReadHostCond(left.subspan(sizeof(Op)));
        if (!c) return false;
        least += 8 + c->addr.size();
        break;
      }
      case INET_DIAG_BC_DEV_COND: least += 4; break;
      case INET_DIAG_BC_S_EQ:
      case INET_DIAG_BC_S_GE:
      case INET_DIAG_BC_S_LE:
      case INET_DIAG_BC_D_EQ:
      case INET_DIAG_BC_D_GE:
      case INET_DIAG_BC_D_LE: least += sizeof(Op); break;
      case INET_DIAG_BC_MARK_COND: least += 8; break;
      case INET_DIAG_BC_AUTO:
      case INET_DIAG_BC_JMP:
      case INET_DIAG_BC_NOP: break;
      default: return false;
    }
    if (op.code != INET_DIAG_BC_NOP) {
      if (op.no < least || op.no > left.size() + 4 || (op.no & 3) != 0) return false;
    }
    if (op.yes < least || op.yes > left.size() + 4 || (op.yes & 3) != 0) return false;
    at += op.yes;
  }
  return true;
}

inet_diag_sockid IdOf(const net::SocketInfo& s) {
  inet_diag_sockid id = {};
  id.idiag_sport = __builtin_bswap16(s.local.port);
  id.idiag_dport = __builtin_bswap16(s.remote.port);
  memcpy(id.idiag_src, s.local.addr.data(), s.local.addr.size());
  memcpy(id.idiag_dst, s.remote.addr.data(), s.remote.addr.size());
  id.idiag_if = s.device;
  const uint64_t cookie = CookieOf(s.inode, s.cookie);
  id.idiag_cookie[0] = static_cast<uint32_t>(cookie);
  id.idiag_cookie[1] = static_cast<uint32_t>(cookie >> 32);
  return id;
}

void FillInet(const Context& c, Builder& b, const net::SocketInfo& s, const Filter& f, bool admin) {
  inet_diag_msg m = {};
  m.idiag_family = AfOf(s.family);
  m.idiag_state = s.state;
  m.idiag_timer = s.timer;
  m.idiag_retrans = s.timer == 4 ? s.probes : s.retransmits;
  m.id = IdOf(s);
  m.idiag_expires = static_cast<uint32_t>(std::max<int64_t>(s.expires.millis(), 0));
  m.idiag_rqueue = s.receive_queue;
  m.idiag_wqueue = s.send_queue;
  m.idiag_uid = c.ShowUid(s.uid);
  m.idiag_inode = static_cast<uint32_t>(s.inode);
  b.Put(m);
  const bool whole = s.state != kTcpTimeWait && s.state != 3;  // a socket, not a remainder
  if (!whole) return;
  b.U8(INET_DIAG_SHUTDOWN, static_cast<uint8_t>((s.read_shut ? 1 : 0) | (s.write_shut ? 2 : 0)));
  if (Shows(f, INET_DIAG_TOS)) b.U8(INET_DIAG_TOS, s.tos);
  if (s.family == net::Family::kV6) {
    if (Shows(f, INET_DIAG_TCLASS)) b.U8(INET_DIAG_TCLASS, s.traffic_class);
    if (s.state == kTcpListen || s.state == kTcpClose) b.U8(INET_DIAG_SKV6ONLY, s.v6_only);
  }
  if (admin) b.U32(INET_DIAG_MARK, s.mark);
  if (Shows(f, INET_DIAG_CLASS_ID) || Shows(f, INET_DIAG_TCLASS)) b.U32(INET_DIAG_CLASS_ID, 0);
  b.U64(INET_DIAG_CGROUP_ID, 1);
  inet_diag_sockopt options = {};
  b.Value(INET_DIAG_SOCKOPT, options);
  if (Shows(f, INET_DIAG_MEMINFO)) {
    const uint32_t mem[4] = {s.receive_queue, s.send_queue, 0, s.send_queue};
    b.Value(INET_DIAG_MEMINFO, mem);
  }
  if (Shows(f, INET_DIAG_SKMEMINFO)) {
    const uint32_t mem[9] = {s.receive_queue, s.receive_buffer, 0, s.send_buffer, 0,
                             s.send_queue,    0,                s.state == kTcpListen ? s.waiting : 0,
                             s.drops};
    b.Value(INET_DIAG_SKMEMINFO, mem);
  }
  if (s.kind != net::SocketInfo::Kind::kTcp) return;
  if (Shows(f, INET_DIAG_INFO)) {
    const TcpInfoAbi info = MakeTcpInfo(s);
    b.Value(INET_DIAG_INFO, info);
  }
  if (Shows(f, INET_DIAG_CONG)) b.Text(INET_DIAG_CONG, net::kCongestionNames[s.congestion]);
}

Result<net::SocketInfo::Kind> KindOf(uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP: return net::SocketInfo::Kind::kTcp;
    case IPPROTO_UDP: return net::SocketInfo::Kind::kUdp;
    case IPPROTO_RAW: return net::SocketInfo::Kind::kRaw;
    default: return Errno(ENOENT);  // no handler for it
  }
}

Result<void> DumpInet(Context& c, uint8_t family, uint8_t protocol, const Filter& f,
                      const inet_diag_sockid& id) {
  Result<net::SocketInfo::Kind> kind = KindOf(protocol);
  if (!kind.ok()) return c.EndDump(kind.error());
  Builder b;
  const bool admin = c.Has(Capability::kNetAdmin);
  for (const net::SocketInfo& s : c.stack().Sockets(*kind)) {
    if (family != AF_UNSPEC && AfOf(s.family) != family) continue;
    if ((f.states & (1u << s.state)) == 0) continue;
    if (id.idiag_sport != 0 && __builtin_bswap16(id.idiag_sport) != s.local.port) continue;
    if (id.idiag_dport != 0 && __builtin_bswap16(id.idiag_dport) != s.remote.port) continue;
    if (!f.code.empty() && !Accepts(f.code, s)) continue;
    c.BeginPart(b, c.message.header.type);
    FillInet(c, b, s, f, admin);
    b.End();
  }
  return c.Dump(b.Take());
}

Result<void> GetInet(Context& c, uint8_t family, uint8_t protocol, const Filter& f,
                     const inet_diag_sockid& id) {
  const net::SocketInfo::Kind kind = TRY(KindOf(protocol));
  const uint64_t cookie = id.idiag_cookie[0] | static_cast<uint64_t>(id.idiag_cookie[1]) << 32;
  const bool admin = c.Has(Capability::kNetAdmin);
  for (const net::SocketInfo& s : c.stack().Sockets(kind)) {
    if (AfOf(s.family) != family) continue;
    const inet_diag_sockid own = IdOf(s);
    if (own.idiag_sport != id.idiag_sport) continue;
    const bool listening = s.state == kTcpListen;
    if (!listening && own.idiag_dport != id.idiag_dport) continue;
    const size_t n = s.local.addr.size();
    if (!s.local.addr.IsAny() && memcmp(own.idiag_src, id.idiag_src, n) != 0) continue;
    if (!listening && memcmp(own.idiag_dst, id.idiag_dst, n) != 0) continue;
    if (cookie != ~uint64_t{0} && cookie != CookieOf(s.inode, s.cookie)) return Errno(ENOENT);
    c.Answer(c.message.header.type, 0, [&](Builder& b) { FillInet(c, b, s, f, admin); });
    return {};
  }
  return Errno(ENOENT);
}

Result<void> Inet(Context& c) {
  if (c.message.payload.size() < sizeof(inet_diag_req_v2)) return Errno(EINVAL);
  const inet_diag_req_v2 req = ReadAs<inet_diag_req_v2>(c.message.payload);
  Filter f;
  f.states = req.idiag_states;
  f.ext = req.idiag_ext;
  uint8_t protocol = req.sdiag_protocol;
  const Attrs<INET_DIAG_REQ_PROTOCOL> a =
      TRY(ParseAttrs<INET_DIAG_REQ_PROTOCOL>(Tail(c, sizeof(req)), {}, &c.ack));
  if (const Attr* x = a.Get(INET_DIAG_REQ_PROTOCOL)) protocol = static_cast<uint8_t>(x->U32());
  if (c.message.header.type == SOCK_DESTROY) {
    if (!c.Has(Capability::kNetAdmin)) return Errno(EPERM);
    return Errno(EOPNOTSUPP);  // as without CONFIG_INET_DIAG_DESTROY
  }
  if ((c.message.header.flags & NLM_F_DUMP) != 0) {
    if (const Attr* code = a.Get(INET_DIAG_REQ_BYTECODE)) {
      if (!CheckCode(code->data)) return Errno(EINVAL);
      f.code = code->data;
    }
    return DumpInet(c, req.sdiag_family, protocol, f, req.id);
  }
  return GetInet(c, req.sdiag_family, protocol, f, req.id);
}

// TCPDIAG_GETSOCK, the form before sock_diag.
Result<void> InetOld(Context& c) {
  if (c.message.payload.size() < sizeof(inet_diag_req)) return Errno(EINVAL);
  const inet_diag_req req = ReadAs<inet_diag_req>(c.message.payload);
  Filter f;
  f.states = req.idiag_states;
  f.ext = req.idiag_ext;
  const uint8_t protocol = c.message.header.type == TCPDIAG_GETSOCK ? IPPROTO_TCP : IPPROTO_DCCP;
  if ((c.message.header.flags & NLM_F_DUMP) == 0) {
    return GetInet(c, req.idiag_family, protocol, f, req.id);
  }
  const Attrs<1> a = TRY(ParseAttrs<1>(Tail(c, sizeof(req)), {}, &c.ack));
  if (const Attr* code = a.Get(INET_DIAG_REQ_BYTECODE)) {
    if (!CheckCode(code->data)) return Errno(EINVAL);
    f.code = code->data;
  }
  return DumpInet(c, AF_UNSPEC, protocol, f, {});
}

Result<void> Netlink(Context& c) {
  if (c.message.payload.size() < sizeof(netlink_diag_req)) return Errno(EINVAL);
  if ((c.message.header.flags & NLM_F_DUMP) == 0) return Errno(EOPNOTSUPP);
  const netlink_diag_req req = ReadAs<netlink_diag_req>(c.message.payload);
  Builder b;
  for (const NetlinkSocketInfo& s : ListSockets(c.net)) {
    if (req.sdiag_protocol != NDIAG_PROTO_ALL && req.sdiag_protocol != s.protocol) continue;
    c.BeginPart(b, SOCK_DIAG_BY_FAMILY);
    netlink_diag_msg m = {};
    m.ndiag_family = AF_NETLINK;
    m.ndiag_type = static_cast<uint8_t>(s.type);
    m.ndiag_protocol = static_cast<uint8_t>(s.protocol);
    m.ndiag_state = 0;  // NETLINK_UNCONNECTED
    m.ndiag_portid = s.port;
    m.ndiag_dst_portid = s.destination;
    m.ndiag_dst_group = s.destination_group;
    m.ndiag_ino = static_cast<uint32_t>(s.inode);
    const uint64_t cookie = CookieOf(s.inode, s.cookie);
    m.ndiag_cookie[0] = static_cast<uint32_t>(cookie);
    m.ndiag_cookie[1] = static_cast<uint32_t>(cookie >> 32);
    b.Put(m);
    if ((req.ndiag_show & NDIAG_SHOW_GROUPS) != 0 && !s.group_words.empty()) {
      b.Attribute(NETLINK_DIAG_GROUPS,
                  {reinterpret_cast<const uint8_t*>(s.group_words.data()), s.group_words.size() * 4});
    }
    if ((req.ndiag_show & NDIAG_SHOW_MEMINFO) != 0) {
      const uint32_t mem[9] = {s.queued, 212992, 0, 212992, 0, 0, 0, 0, s.drops};
      b.Value(NETLINK_DIAG_MEMINFO, mem);
    }
    b.End();
  }
  return c.Dump(b.Take());
}

Result<void> Packet(Context& c) {
  if (c.message.payload.size() < sizeof(packet_diag_req)) return Errno(EINVAL);
  if ((c.message.header.flags & NLM_F_DUMP) == 0) return Errno(EOPNOTSUPP);
  const packet_diag_req req = ReadAs<packet_diag_req>(c.message.payload);
  if (req.sdiag_protocol != 0) return Errno(EINVAL);
  Builder b;
  for (const net::SocketInfo& s : c.stack().Sockets(net::SocketInfo::Kind::kPacket)) {
    c.BeginPart(b, SOCK_DIAG_BY_FAMILY);
    packet_diag_msg m = {};
    m.pdiag_family = AF_PACKET;
    m.pdiag_type = s.raw ? SOCK_RAW : SOCK_DGRAM;
    m.pdiag_num = s.ethertype;
    m.pdiag_ino = static_cast<uint32_t>(s.inode);
    const uint64_t cookie = CookieOf(s.inode, s.cookie);
    m.pdiag_cookie[0] = static_cast<uint32_t>(cookie);
    m.pdiag_cookie[1] = static_cast<uint32_t>(cookie >> 32);
    b.Put(m);
    if ((req.pdiag_show & PACKET_SHOW_INFO) != 0) {
      packet_diag_info info = {};
      info.pdi_index = s.device;
      b.Value(PACKET_DIAG_INFO, info);
      b.U32(PACKET_DIAG_UID, c.ShowUid(s.uid));
    }
    b.End();
  }
  return c.Dump(b.Take());
}

}  // namespace

// Identities go out scrambled: an address of the Sentry is nobody's business.
uint64_t CookieOf(const void* p) {
  uint64_t x = reinterpret_cast<uintptr_t>(p) * 0x9e3779b97f4a7c15u;
  x ^= x >> 29;
  return (x * 0xbf58476d1ce4e5b9u) >> 16;
}

Result<void> DiagProtocol::CheckGroup(Task&, uint32_t) { return {}; }

Result<void> DiagProtocol::Handle(Context& c) {
  switch (c.message.header.type) {
    case TCPDIAG_GETSOCK:
    case DCCPDIAG_GETSOCK:
      return InetOld(c);
    case SOCK_DIAG_BY_FAMILY:
    case SOCK_DESTROY: {
      if (c.message.payload.size() < 2) return Errno(EINVAL);
      switch (c.message.payload[0]) {
        case AF_INET:
        case AF_INET6: return Inet(c);
        case AF_UNIX: return UnixDiag(c);
        case AF_NETLINK: return Netlink(c);
        case AF_PACKET: return Packet(c);
        default: return Errno(c.message.payload[0] >= AF_MAX ? EINVAL : ENOENT);
      }
    }
    default:
      return Errno(EINVAL);
  }
}

}  // namespace ringwall::netlink
