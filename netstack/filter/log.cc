// What LOG and nftables' log write of a packet (net/netfilter/nf_log_syslog.c).
#include <cstdarg>
#include <cstdio>

#include "netstack/filter/xt_actions.h"
#include "netstack/stack.h"
#include "netstack/wire/ethernet.h"
#include "netstack/wire/ip.h"

namespace ringwall::net {
namespace {

constexpr uint8_t kTcpSequence = 1, kTcpOptions = 2, kIpOptions = 4, kUid = 8;
constexpr size_t kMostLines = 20;  // a second; a flood must not push everything else out

class Line {
 public:
  __attribute__((format(printf, 2, 3))) void Add(const char* format, ...) {
    char out[128];
    va_list args;
    va_start(args, format);
    const int n = std::vsnprintf(out, sizeof(out), format, args);
    va_end(args);
    text_.append(out, std::min<size_t>(static_cast<size_t>(std::max(n, 0)), sizeof(out) - 1));
  }
  // Linux writes IPv6 addresses in full.
  void Address(const char* name, const IpAddr& a) {
    if (a.is_v4()) return Add("%s=%s ", name, a.ToString().c_str());
    Add("%s=", name);
    for (size_t i = 0; i < 16; i += 2) Add(i == 0 ? "%04x" : ":%04x", Load16(a.data() + i));
    Add(" ");
  }
  void Hex(ByteSpan b) {
    for (uint8_t x : b) Add("%02X", x);
  }
  std::string& text() { return text_; }

 private:
  std::string text_;
};

void Transport(Line& l, const FilterPacket& p, uint8_t flags) {
  const ByteSpan b = p.bytes().subspan(std::min(p.transport(), p.size()));
  if (p.later_fragment()) return;
  switch (p.protocol()) {
    case kProtoTcp:
      l.Add("PROTO=TCP ");
      if (b.size() < 20) return l.Add("INCOMPLETE [%zu bytes] ", b.size());
      l.Add("SPT=%u DPT=%u ", Load16(&b[0]), Load16(&b[2]));
      if ((flags & kTcpSequence) != 0) l.Add("SEQ=%u ACK=%u ", Load32(&b[4]), Load32(&b[8]));
      l.Add("WINDOW=%u RES=0x%02x ", Load16(&b[14]), (b[12] & 0xf) << 2 | b[13] >> 6);
      for (const auto& [bit, name] : {std::pair<int, const char*>{0x80, "CWR "}, {0x40, "ECE "}, {0x20, "URG "},
                                      {0x10, "ACK "}, {0x08, "PSH "}, {0x04, "RST "}, {0x02, "SYN "}, {0x01, "FIN "}}) {
        if ((b[13] & bit) != 0) l.Add("%s", name);
      }
      l.Add("URGP=%u ", Load16(&b[18]));
      if ((flags & kTcpOptions) != 0 && (b[12] >> 4) > 5) {
        l.Add("OPT (");
        l.Hex(b.subspan(20, std::min<size_t>((b[12] >> 4) * 4u - 20, b.size() - 20)));
        l.Add(") ");
      }
      return;
    case kProtoUdp:
      l.Add("PROTO=UDP ");
      if (b.size() < 8) return l.Add("INCOMPLETE [%zu bytes] ", b.size());
      return l.Add("SPT=%u DPT=%u LEN=%u ", Load16(&b[0]), Load16(&b[2]), Load16(&b[4]));
    case kProtoIcmp:
    case kProtoIcmpv6:
      l.Add("PROTO=%s ", p.is_v4() ? "ICMP" : "ICMPv6");
      if (b.size() < 8) return l.Add("INCOMPLETE [%zu bytes] ", b.size());
      l.Add("TYPE=%u CODE=%u ", b[0], b[1]);
      if (p.echo_id()) l.Add("ID=%u SEQ=%u ", Load16(&b[4]), Load16(&b[6]));
      return;
    default:
      return l.Add("PROTO=%u ", p.protocol());
  }
}

// dump_arp_packet()
void Arp(Line& l, const FilterPacket& p) {
  const ByteSpan b = p.bytes();
  if (b.size() < 8) return l.Add("TRUNCATED");
  l.Add("ARP HTYPE=%u PTYPE=0x%04x OPCODE=%u", Load16(&b[0]), Load16(&b[2]), Load16(&b[6]));
  if (Load16(&b[0]) != 1 || b[4] != 6 || b[5] != 4) return;
  if (b.size() < 28) return l.Add(" INCOMPLETE [%zu bytes]", b.size() - 8);
  const auto half = [&](const char* which, size_t at) {
    l.Add(" MAC%s=", which);
    for (size_t i = 0; i < 6; i++) l.Add(i == 0 ? "%02x" : ":%02x", b[at + i]);
    l.Add(" IP%s=%u.%u.%u.%u", which, b[at + 6], b[at + 7], b[at + 8], b[at + 9]);
  };
  half("SRC", 8);
  half("DST", 18);
}

}  // namespace

void FilterLog(XtPacket& x, uint8_t level, uint8_t flags, std::string_view prefix) {
  if (!x.conntrack.MayLog(x.stack.now(), kMostLines)) return;
  const FilterPacket& p = x.packet;
  Line l;
  l.text().assign(prefix.substr(0, 127));
  l.Add("IN=%s OUT=%s ", p.in_name.c_str(), p.out_name.c_str());
  if (p.ethertype() == kEthArp) {
    Arp(l, p);
    return x.stack.Log(level, l.text());
  }
  if (!p.link().empty()) {
    l.Add("MAC=");
    for (size_t i = 0; i < p.link().size(); i++) l.Add(i == 0 ? "%02x" : ":%02x", p.link()[i]);
    l.Add(" ");
  } else if (!p.in_name.empty() && p.out_name.empty()) {
    l.Add(p.in_name == "lo" ? "MAC=00:00:00:00:00:00:00:00:00:00:00:00:08:00 " : "MAC= ");
  }
  if (!p.is_ip()) return x.stack.Log(level, l.text());
  l.Address("SRC", p.src());
  l.Address("DST", p.dst());
  const ByteSpan b = p.bytes();
  if (p.is_v4()) {
    const uint16_t parts = Load16(&b[6]);
    l.Add("LEN=%u TOS=0x%02X PREC=0x%02X TTL=%u ID=%u ", Load16(&b[2]), p.tos() & 0x1e, p.tos() & 0xe0, p.ttl(),
          Load16(&b[4]));
    if ((parts & 0x8000) != 0) l.Add("CE ");
    if ((parts & 0x4000) != 0) l.Add("DF ");
    if ((parts & 0x2000) != 0) l.Add("MF ");
    if ((parts & 0x1fff) != 0) l.Add("FRAG:%u ", parts & 0x1fffu);
    if ((flags & kIpOptions) != 0 && p.transport() > kIpv4Header) {
      l.Add("OPT (");
      l.Hex(b.subspan(kIpv4Header, p.transport() - kIpv4Header));
      l.Add(") ");
    }
  } else {
    l.Add("LEN=%zu TC=%u HOPLIMIT=%u FLOWLBL=%u ", p.size(), p.tos(), p.ttl(), Load32(&b[0]) & 0xfffff);
  }
  Transport(l, p, flags);
  if ((flags & kUid) != 0 && p.meta.uid) l.Add("UID=%u GID=%u ", *p.meta.uid, *p.meta.uid);
  if (p.meta.mark != 0) l.Add("MARK=0x%x ", p.meta.mark);
  x.stack.Log(level, l.text());
}

}  // namespace ringwall::net
