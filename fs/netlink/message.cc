#include "fs/netlink/message.h"

#include <algorithm>

namespace ringwall::netlink {

std::optional<Message> MessageWalk::Next() {
  if (left_.size() < sizeof(Header)) return std::nullopt;
  Message m;
  m.header = ReadAs<Header>(left_);
  if (m.header.length < sizeof(Header) || m.header.length > left_.size()) {
    left_ = {};
    return std::nullopt;
  }
  m.all = left_.first(m.header.length);
  m.payload = m.all.subspan(sizeof(Header));
  left_ = left_.subspan(std::min(Align4(m.header.length), left_.size()));
  return m;
}

std::optional<Attr> AttrWalk::Next() {
  if (left_.size() < sizeof(nlattr)) return std::nullopt;
  const nlattr h = ReadAs<nlattr>(left_);
  if (h.nla_len < sizeof(nlattr) || h.nla_len > left_.size()) return std::nullopt;
  Attr a;
  a.type = h.nla_type & NLA_TYPE_MASK;
  a.nested = (h.nla_type & NLA_F_NESTED) != 0;
  a.data = left_.subspan(sizeof(nlattr), h.nla_len - sizeof(nlattr));
  left_ = left_.subspan(std::min(Align4(h.nla_len), left_.size()));
  return a;
}

uint16_t Attr::Be16() const { return __builtin_bswap16(U16()); }
uint32_t Attr::Be32() const { return __builtin_bswap32(U32()); }
uint64_t Attr::Be64() const { return __builtin_bswap64(U64()); }

std::string_view Attr::Text() const {
  const char* s = reinterpret_cast<const char*>(data.data());
  return {s, data.empty() ? 0 : strnlen(s, data.size())};
}

Result<void> CheckAttr(const Attr& a, const AttrRule& rule, ExtAck* ack) {
  const size_t n = a.size();
  const auto wrong = [&] {
    return ack->FailAt(ERANGE, "Attribute failed policy validation", &a);
  };
  const auto number = [&](size_t want) -> Result<void> {
    // A longer number only earns a warning on Linux.
    if (rule.exact_number && n != want) return ack->FailAt(EINVAL, "invalid attribute length", &a);
    if (n < want) return wrong();
    return {};
  };
  switch (rule.kind) {
    case AttrKind::kAny:
      if (n < rule.size) return wrong();
      return {};
    case AttrKind::kU8: return number(1);
    case AttrKind::kU16: return number(2);
    case AttrKind::kU32: return number(4);
    case AttrKind::kU64: return number(8);
    case AttrKind::kString: {
      if (n == 0) return wrong();
      size_t length = n;
      if (a.data[n - 1] == 0) length--;
      if (rule.size != 0 && length > rule.size) return wrong();
      return {};
    }
    case AttrKind::kNested:
      // An empty nest is one without attributes.
      if (n != 0 && n < sizeof(nlattr)) return wrong();
      return {};
    case AttrKind::kBinary:
      if (rule.size != 0 && n > rule.size) return wrong();
      return {};
    case AttrKind::kFlag:
      if (n > 0) return wrong();
      return {};
    case AttrKind::kExact:
      if (n != rule.size) return wrong();
      return {};
  }
  return {};
}

void Builder::Begin(uint16_t type, uint16_t flags, uint32_t sequence, uint32_t port) {
  begin_ = bytes_.size();
  Put(Header{0, type, flags, sequence, port});
}

void Builder::End() {
  const uint32_t length = static_cast<uint32_t>(bytes_.size() - begin_);
  memcpy(bytes_.data() + begin_, &length, sizeof(length));
  Pad();
}

void Builder::Cancel() { bytes_.resize(begin_); }

void Builder::Attribute(uint16_t type, Bytes data) {
  const nlattr h = {static_cast<uint16_t>(sizeof(nlattr) + data.size()), type};
  Append({reinterpret_cast<const uint8_t*>(&h), sizeof(h)});
  Append(data);
  Pad();
}

void Builder::Text(uint16_t type, std::string_view s) {
  const nlattr h = {static_cast<uint16_t>(sizeof(nlattr) + s.size() + 1), type};
  Append({reinterpret_cast<const uint8_t*>(&h), sizeof(h)});
  Append({reinterpret_cast<const uint8_t*>(s.data()), s.size()});
  bytes_.push_back(0);
  Pad();
}

size_t Builder::Nest(uint16_t type) {
  const size_t mark = bytes_.size();
  const nlattr h = {0, type};
  Append({reinterpret_cast<const uint8_t*>(&h), sizeof(h)});
  return mark;
}

void Builder::Unnest(size_t mark) {
  const uint16_t length = static_cast<uint16_t>(bytes_.size() - mark);
  memcpy(bytes_.data() + mark, &length, sizeof(length));
}

}  // namespace ringwall::netlink
