#include "netstack/wire/tcp.h"

#include "netstack/wire/checksum.h"
#include "netstack/wire/ip.h"

namespace ringwall::net {
namespace {

constexpr uint8_t kOptEnd = 0;
constexpr uint8_t kOptNop = 1;
constexpr uint8_t kOptMss = 2;
constexpr uint8_t kOptWindowScale = 3;
constexpr uint8_t kOptSackPermitted = 4;
constexpr uint8_t kOptSack = 5;
constexpr uint8_t kOptTimestamps = 8;
constexpr uint8_t kOptFastOpen = 34;

}  // namespace

TcpOptions TcpOptions::Parse(ByteSpan b) {
  TcpOptions o;
  size_t i = 0;
  while (i < b.size()) {
    const uint8_t kind = b[i];
    if (kind == kOptEnd) break;
    if (kind == kOptNop) {
      i++;
      continue;
    }
    if (i + 2 > b.size()) break;
    const size_t len = b[i + 1];
    if (len < 2 || i + len > b.size()) break;
    const uint8_t* p = b.data() + i + 2;
    switch (kind) {
      case kOptMss:
        if (len == 4) o.mss = Load16(p);
        break;
      case kOptWindowScale:
        if (len == 3) o.window_scale = p[0];
        break;
      case kOptSackPermitted:
        if (len == 2) o.sack_permitted = true;
        break;
      case kOptSack:
        if ((len - 2) % 8 == 0) {
          for (size_t at = 0; at + 8 <= len - 2 && o.sack_count < 4; at += 8) {
            o.sack[o.sack_count++] = {SeqNum(Load32(p + at)), SeqNum(Load32(p + at + 4))};
          }
        }
        break;
      case kOptTimestamps:
        if (len == 10) o.timestamps = TcpTimestamps{Load32(p), Load32(p + 4)};
        break;
      case kOptFastOpen: {
        // RFC 7413 4.1.1: 0 for a request, else 4 to 16 bytes and even.
        const size_t n = len - 2;
        if (n == 0 || (n >= 4 && n <= 16 && n % 2 == 0)) {
          o.fast_open = true;
          o.cookie_size = static_cast<uint8_t>(n);
          std::memcpy(o.cookie.data(), p, n);
        }
        break;
      }
      default:
        break;
    }
    i += len;
  }
  return o;
}

size_t TcpOptions::size() const {
  size_t n = 0;
  if (mss) n += 4;
  if (timestamps) {
    n += sack_permitted ? 10 : 12;  // SACK permitted fills the place of the two NOPs
  }
  if (sack_permitted) n += timestamps ? 2 : 4;
  if (window_scale) n += 4;
  if (fast_open) n += (2u + cookie_size + 3) / 4 * 4;
  if (sack_count != 0) n += 4 + 8u * sack_count;
  return n;
}

void TcpOptions::Write(uint8_t* out) const {
  uint8_t* p = out;
  if (mss) {
    *p++ = kOptMss;
    *p++ = 4;
    Store16(p, *mss);
    p += 2;
  }
  if (sack_permitted) {
    if (!timestamps) {
      *p++ = kOptNop;
      *p++ = kOptNop;
    }
    *p++ = kOptSackPermitted;
    *p++ = 2;
  } else if (timestamps) {
    *p++ = kOptNop;
    *p++ = kOptNop;
  }
  if (timestamps) {
    *p++ = kOptTimestamps;
    *p++ = 10;
    Store32(p, timestamps->value);
    Store32(p + 4, timestamps->echo);
    p += 8;
  }
  if (window_scale) {
    *p++ = kOptNop;
    *p++ = kOptWindowScale;
    *p++ = 3;
    *p++ = *window_scale;
  }
  if (fast_open) {
    const size_t used = 2u + cookie_size;
    *p++ = kOptFastOpen;
    *p++ = static_cast<uint8_t>(used);
    std::memcpy(p, cookie.data(), cookie_size);
    p += cookie_size;
    for (size_t i = used; i % 4 != 0; i++) *p++ = kOptNop;
  }
  if (sack_count != 0) {
    *p++ = kOptNop;
    *p++ = kOptNop;
    *p++ = kOptSack;
    *p++ = static_cast<uint8_t>(2 + 8 * sack_count);
    for (size_t i = 0; i < sack_count; i++) {
      Store32(p, sack[i].start.value());
      Store32(p + 4, sack[i].end.value());
      p += 8;
    }
  }
}

void TcpSegment::Write(uint8_t* out) const {
  Store16(out, src_port);
  Store16(out + 2, dst_port);
  Store32(out + 4, seq.value());
  Store32(out + 8, ack.value());
  out[12] = static_cast<uint8_t>(header_size() / 4 << 4);
  out[13] = flags;
  Store16(out + 14, window);
  Store16(out + 16, 0);
  Store16(out + 18, urgent);
  options.Write(out + kTcpHeader);
}

bool TcpView::ChecksumOk(const IpAddr& src, const IpAddr& dst) const {
  Checksum c;
  c.AddPseudo(src, dst, kProtoTcp, static_cast<uint32_t>(b_.size()));
  c.Add(b_);
  return c.Valid();
}

TcpSegment TcpView::ToSegment() const {
  TcpSegment s;
  s.src_port = src_port();
  s.dst_port = dst_port();
  s.seq = SeqNum(Load32(&b_[4]));
  s.ack = SeqNum(Load32(&b_[8]));
  s.flags = b_[13];
  s.window = Load16(&b_[14]);
  s.urgent = Load16(&b_[18]);
  s.options = TcpOptions::Parse(b_.subspan(kTcpHeader, header_size() - kTcpHeader));
  return s;
}

}  // namespace ringwall::net
