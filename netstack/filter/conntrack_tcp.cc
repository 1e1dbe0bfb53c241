// TCP as connection tracking sees it from outside: the state that both ends must be in, and whether a
// segment can belong to the connection by its numbers. Compare Linux's
// net/netfilter/nf_conntrack_proto_tcp.c and "Real Stateful TCP Packet Filtering in IP Filter".
#include <algorithm>

#include "netstack/filter/conntrack.h"
#include "netstack/wire/seq_num.h"
#include "netstack/wire/tcp.h"

namespace ringwall::net {
namespace {

enum Kind : uint8_t { kKindSyn, kKindSynAck, kKindFin, kKindAck, kKindRst, kKindNone };

// One letter a state: - NONE, s SYN_SENT, r SYN_RECV, E ESTABLISHED, f FIN_WAIT, c CLOSE_WAIT,
// l LAST_ACK, t TIME_WAIT, x CLOSE, 2 SYN_SENT2 (both ends opened).
constexpr char kStateLetters[] = "-srEfcltx2";
constexpr char kStays = '.';    // the segment passes and changes nothing
constexpr char kNever = '!';

// Rows: the kind of a segment. Columns: the state before, in the order of the letters.
constexpr const char* kNext[2][5] = {
    // -srEfcltx2       from the side that began
    {"ss.....ss2",   // SYN
     "!!r!!!!!!r",   // SYN and ACK: half of a simultaneous open
     "!!ffllltx!",   // FIN
     "E!EEccttx!",   // ACK; the first may open a connection in its middle (tcp_loose)
     "!xxxxxxxxx"},  // RST
    // -srEfcltx2       from the other
    {"!2!!!!!s!2",
     "!r.......r",
     "!!ffllltx!",
     "!.rEccttx.",
     "!xxxxxxxxx"},
};

constexpr uint32_t kMaxAckWindow = 66000;

bool After(uint32_t a, uint32_t b) { return SeqNum(b).Before(SeqNum(a)); }
bool Before(uint32_t a, uint32_t b) { return SeqNum(a).Before(SeqNum(b)); }

struct Segment {
  uint8_t flags = 0;
  uint32_t seq = 0, ack = 0, sack = 0, end = 0;
  uint32_t window = 0;
  TcpOptions options;
  Kind kind = kKindNone;
};

Kind KindOf(uint8_t flags) {
  if ((flags & kRst) != 0) return kKindRst;
  if ((flags & kSyn) != 0) return (flags & kAck) != 0 ? kKindSynAck : kKindSyn;
  if ((flags & kFin) != 0) return kKindFin;
  return (flags & kAck) != 0 ? kKindAck : kKindNone;
}

// Combinations that a stack sends; PSH, ECE and CWR go with any.
bool LegalFlags(uint8_t flags) {
  switch (flags & (kFin | kSyn | kRst | kAck | kUrg)) {
    case kSyn:
    case kSyn | kUrg:
    case kSyn | kAck:
    case kRst:
    case kRst | kAck:
    case kFin | kAck:
    case kFin | kAck | kUrg:
    case kAck:
    case kAck | kUrg:
      return true;
    default:
      return false;
  }
}

void TakeScale(CtTcp::Side& side, const Segment& s) {
  side.has_scale = s.options.window_scale.has_value();
  side.scale = side.has_scale ? std::min<uint8_t>(*s.options.window_scale, 14) : 0;
}

void Begin(CtTcp::Side& side, const Segment& s) {
  side.end = side.max_end = s.end;
  side.max_win = std::max<uint32_t>(s.window, 1);
  TakeScale(side, s);
}

// Whether the numbers fit; then both sides' limits move on.
bool InWindow(Connection& c, Segment& s, bool reply) {
  CtTcp::Side& sender = c.tcp.side[reply];
  CtTcp::Side& receiver = c.tcp.side[!reply];
  const bool syn = (s.flags & kSyn) != 0;
  if (sender.max_win == 0) {
    if (syn) {
      // The answer of a handshake, or the other half of a simultaneous open.
      Begin(sender, s);
      if (!sender.has_scale || !receiver.has_scale) sender.scale = receiver.scale = 0;
      if ((s.flags & kAck) == 0) return true;
    } else {
      // Seen from its middle on: this segment is where we know it from.
      sender.end = s.end;
      sender.max_win = std::max<uint32_t>(s.window << sender.scale, 1);
      sender.max_end = s.end + sender.max_win;
      if (receiver.max_win == 0) {
        receiver.end = receiver.max_end = s.sack;
      } else if (s.sack == receiver.end + 1) {
        receiver.end++;  // a probe of a byte that was never there
      }
    }
  } else if (syn && After(s.end, sender.end) &&
             ((c.tcp_state == kCtTcpSynSent && !reply) || (c.tcp_state == kCtTcpSynRecv && reply))) {
    Begin(sender, s);  // another try with other numbers
  }
  if ((s.flags & kAck) == 0 || ((s.flags & kRst) != 0 && s.ack == 0)) s.ack = s.sack = receiver.end;
  if ((s.flags & kRst) != 0 && s.seq == 0 && c.tcp_state == kCtTcpSynSent) s.seq = s.end = sender.end;

  const bool beyond = !Before(s.seq, sender.max_end + 1);
  const bool old = receiver.max_win != 0 && !After(s.end, sender.end - receiver.max_win - 1);
  const bool acks_unsent = !Before(s.sack, receiver.end + 1);
  const bool acks_old = !After(s.sack, receiver.end - std::max(sender.max_win, kMaxAckWindow) - 1);
  // Of a connection that was picked up in its middle the windows' scales are not known.
  if (beyond || old || acks_unsent || acks_old) return c.tcp.liberal;

  uint32_t window = s.window;
  if (!syn) window <<= sender.scale;
  sender.max_win = std::max(sender.max_win, window + (s.sack - s.ack));
  if (After(s.end, sender.end)) {
    sender.end = s.end;
    sender.unacked = true;
  }
  if ((s.flags & kAck) != 0) {
    if (!sender.ack_seen || After(s.ack, sender.max_ack)) sender.max_ack = s.ack;
    sender.ack_seen = true;
  }
  if (receiver.max_win != 0 && After(s.end, sender.max_end)) receiver.max_win += s.end - sender.max_end;
  if (After(s.sack + window, receiver.max_end - 1)) {
    receiver.max_end = s.sack + window + (window == 0 ? 1 : 0);
  }
  if (s.ack == receiver.end) receiver.unacked = false;
  if (s.kind == kKindAck) {
    CtTcp& t = c.tcp;
    const uint16_t raw = static_cast<uint16_t>(s.window);
    if (t.last_reply == reply && t.last_kind == kKindAck && t.last_seq == s.seq &&
        t.last_ack == s.ack && t.last_end == s.end && t.last_win == raw) {
      if (t.retrans < 255) t.retrans++;
    } else {
      t.last_seq = s.seq;
      t.last_ack = s.ack;
      t.last_end = s.end;
      t.last_win = raw;
      t.retrans = 0;
    }
  }
  return true;
}

Duration TimeoutOf(const Connection& c, const Segment& s, bool answered, const CtSettings& set) {
  const CtTcp& t = c.tcp;
  int64_t seconds = set.tcp[c.tcp_state];
  if (t.retrans >= set.tcp_max_retrans) {
    seconds = std::min(seconds, set.tcp_retrans);
  } else if (s.kind == kKindRst) {
    seconds = set.tcp[kCtTcpClose];
  } else if (t.side[0].unacked || t.side[1].unacked) {
    seconds = std::min(seconds, set.tcp_unacknowledged);
  } else if (t.last_win == 0 && s.kind == kKindAck) {
    seconds = std::min(seconds, set.tcp_retrans);
  }
  if (!answered && c.tcp_state == kCtTcpEstablished) seconds = std::min(seconds, set.tcp_unacknowledged);
  return Duration::Seconds(seconds);
}

std::optional<Segment> Read(const FilterPacket& p) {
  std::optional<TcpView> view = TcpView::Parse(p.bytes().subspan(p.transport()));
  if (!view) return std::nullopt;
  const TcpSegment t = view->ToSegment();
  if (!LegalFlags(t.flags)) return std::nullopt;
  Segment s;
  s.flags = t.flags;
  s.kind = KindOf(t.flags);
  s.seq = t.seq.value();
  s.ack = s.sack = t.ack.value();
  const size_t text = p.size() - p.transport() - view->header_size();
  s.end = s.seq + static_cast<uint32_t>(text) + t.Has(kSyn) + t.Has(kFin);
  s.window = t.window;
  s.options = t.options;
  for (size_t i = 0; i < t.options.sack_count; i++) {
    const uint32_t right = t.options.sack[i].end.value();
    if (t.Has(kAck) && After(right, s.sack)) s.sack = right;
  }
  return s;
}

}  // namespace

CtVerdict CtTcpUpdate(Connection& c, const FilterPacket& p, bool reply, TimePoint now,
                      const CtSettings& settings) {
  std::optional<Segment> s = Read(p);
  if (!s || s->kind == kKindNone) return CtVerdict::kInvalid;
  CtTcp& t = c.tcp;
  const uint8_t before = c.tcp_state;
  const char next = kNext[reply][s->kind][before];
  if (next == kNever) return CtVerdict::kInvalid;
  const bool answered = reply || (c.status & kCtSeenReply) != 0;
  const bool ends = s->kind == kKindRst;
  if (next == kStays) {
    // Not for us to judge: the receiver will answer it, and from that we learn.
    t.last_kind = s->kind;
    t.last_reply = reply;
    return CtVerdict::kOk;
  }
  uint8_t after = static_cast<uint8_t>(std::string_view(kStateLetters).find(next));
  if (before == kCtTcpNone) {
    if (after == kCtTcpSynSent) {
      Begin(t.side[0], *s);
    } else if (!settings.tcp_loose) {
      return CtVerdict::kInvalid;
    } else {
      t.liberal = true;
      t.side[0].end = s->end;
      t.side[0].max_win = std::max<uint32_t>(s->window, 1);
      t.side[0].max_end = s->end + t.side[0].max_win;
    }
  } else if (after == kCtTcpSynSent && before >= kCtTcpTimeWait && before != kCtTcpSynSent2) {
    const bool closed = t.side[0].closed_first || t.side[1].closed_first;
    const bool aborted = t.last_kind == kKindRst && t.last_reply == reply;
    if (closed || aborted || before == kCtTcpClose) return CtVerdict::kAgain;
  } else if (ends && t.side[!reply].ack_seen) {
    // RFC 5961 3.2 from outside: one from behind is nobody's, and of an established connection only
    // the one at the exact number ends it; others are answered by a challenge.
    const uint32_t exact = t.side[!reply].max_ack;
    const bool established = before == kCtTcpEstablished && (c.status & kCtAssured) != 0;
    if (established || s->seq != 0) {
      if (Before(s->seq, exact)) return CtVerdict::kInvalid;
      const bool train = t.last_kind == kKindAck && t.last_reply == reply && s->seq == t.last_end;
      if (established && s->seq != exact && !train) after = before;
    }
  }
  if (!InWindow(c, *s, reply) && !settings.tcp_be_liberal) return CtVerdict::kInvalid;
  t.last_kind = s->kind;
  t.last_reply = reply;
  c.tcp_state = after;
  if (before != after && after == kCtTcpFinWait) t.side[reply].closed_first = true;
  c.expires = now + TimeoutOf(c, *s, answered, settings);
  if (!answered && ends && before != kCtTcpNone) return CtVerdict::kGone;
  if ((c.status & kCtSeenReply) != 0 && after == kCtTcpEstablished &&
      (before == kCtTcpSynRecv || before == kCtTcpEstablished)) {
    c.status |= kCtAssured;
  }
  return CtVerdict::kOk;
}

}  // namespace ringwall::net
