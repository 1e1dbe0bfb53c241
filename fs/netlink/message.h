// Netlink messages (include/uapi/linux/netlink.h): a checked walk over what a program sent, tables of
// attributes, and a builder for answers. Everything that a program sends is read here from a copy;
// no length in it is believed before it is compared with what is left.
#ifndef RINGWALL_FS_NETLINK_MESSAGE_H_
#define RINGWALL_FS_NETLINK_MESSAGE_H_

#include <linux/netlink.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "sentry/base/result.h"

namespace ringwall::netlink {

using Bytes = std::span<const uint8_t>;

constexpr size_t Align4(size_t n) { return (n + 3) & ~size_t{3}; }

// struct nlmsghdr.
struct Header {
  uint32_t length = 0;
  uint16_t type = 0;
  uint16_t flags = 0;
  uint32_t sequence = 0;
  uint32_t port = 0;
};
static_assert(sizeof(Header) == 16);

// A value of bytes that were checked to be long enough; shorter ones read as zero.
template <typename T>
T ReadAs(Bytes b) {
  static_assert(std::is_trivially_copyable_v<T>);
  T v = {};
  memcpy(&v, b.data(), std::min(b.size(), sizeof(T)));
  return v;
}

// One message of a datagram.
struct Message {
  Header header;
  Bytes all;      // with the header, `header.length` bytes
  Bytes payload;  // behind the header
};

// Takes the messages of a datagram one by one, as netlink_rcv_skb() does: it ends silently at a
// length that cannot be.
class MessageWalk {
 public:
  explicit MessageWalk(Bytes datagram) : left_(datagram) {}
  std::optional<Message> Next();

 private:
  Bytes left_;
};

// One attribute (struct nlattr).
struct Attr {
  uint16_t type = 0;  // without the flags
  bool nested = false;
  Bytes data;

  size_t size() const { return data.size(); }
  template <typename T>
  T As() const {
    return ReadAs<T>(data);
  }
  uint8_t U8() const { return As<uint8_t>(); }
  uint16_t U16() const { return As<uint16_t>(); }
  uint32_t U32() const { return As<uint32_t>(); }
  uint64_t U64() const { return As<uint64_t>(); }
  uint16_t Be16() const;
  uint32_t Be32() const;
  uint64_t Be64() const;
  // Up to the first NUL.
  std::string_view Text() const;
};

// Walks attributes; stops at the first whose length cannot be.
class AttrWalk {
 public:
  explicit AttrWalk(Bytes b) : left_(b) {}
  std::optional<Attr> Next();
  // Bytes behind the last attribute.
  Bytes rest() const { return left_; }

 private:
  Bytes left_;
};

// What Linux reports beside an errno when NETLINK_EXT_ACK is on.
struct ExtAck {
  const char* message = nullptr;  // static
  std::string text;               // or one that was made
  const uint8_t* bad_attr = nullptr;  // into the request
  std::optional<uint32_t> missing_type;
  const uint8_t* missing_nest = nullptr;

  Errno Fail(int error, const char* why) {
    message = why;
    return Errno(error);
  }
  Errno FailAt(int error, const char* why, const Attr* at) {
    message = why;
    bad_attr = at == nullptr || at->data.data() == nullptr ? nullptr : at->data.data() - sizeof(nlattr);
    return Errno(error);
  }
};

// The kinds of attributes that a policy checks (NLA_*).
enum class AttrKind : uint8_t { kAny, kU8, kU16, kU32, kU64, kString, kNested, kBinary, kFlag, kExact };

struct AttrRule {
  AttrKind kind = AttrKind::kAny;
  uint16_t size = 0;  // kString, kBinary: at most; kExact, kAny: at least
  bool exact_number = false;  // behind strict_start_type: EINVAL for a number that is too long
};

// A table of rules by type; types that are not named are of any kind.
template <size_t kMax>
struct Policy {
  std::array<AttrRule, kMax + 1> rules = {};
  constexpr Policy(std::initializer_list<std::pair<int, AttrRule>> named) {
    for (const auto& [type, rule] : named) rules[static_cast<size_t>(type)] = rule;
  }
  constexpr operator std::span<const AttrRule>() const { return rules; }  // NOLINT: implicit
};

// The attributes of one level, by type; of repeated ones the last. kMax is the highest type known.
template <size_t kMax>
class Attrs {
 public:
  const Attr* Get(size_t type) const {
    return type <= kMax && have_[type] ? &attrs_[type] : nullptr;
  }
  bool Has(size_t type) const { return Get(type) != nullptr; }
  uint32_t U32(size_t type, uint32_t other = 0) const {
    const Attr* a = Get(type);
    return a == nullptr ? other : a->U32();
  }
  void Set(const Attr& a) {
    if (a.type > kMax) return;
    attrs_[a.type] = a;
    have_[a.type] = true;
  }

 private:
  std::array<Attr, kMax + 1> attrs_ = {};
  std::array<bool, kMax + 1> have_ = {};
};

// Checks one attribute against its rule (validate_nla): ERANGE for a wrong length, EINVAL for a
// string that is not one.
Result<void> CheckAttr(const Attr& a, const AttrRule& rule, ExtAck* ack);

// nlmsg_parse_deprecated(): unknown types are skipped, bytes left over are ignored. Strict
// (nlmsg_parse_deprecated_strict()): both are EINVAL.
template <size_t kMax>
Result<Attrs<kMax>> ParseAttrs(Bytes b, std::span<const AttrRule> rules, ExtAck* ack,
                               bool strict = false) {
  Attrs<kMax> out;
  AttrWalk walk(b);
  while (std::optional<Attr> a = walk.Next()) {
    if (a->type == 0 || a->type > kMax) {
      if (strict) return ack->FailAt(EINVAL, "Unknown attribute type", &*a);
      continue;
    }
    if (a->type < rules.size()) {
      TRY(CheckAttr(*a, rules[a->type], ack));
    }
    out.Set(*a);
  }
  if (!walk.rest().empty()) {
    // Told even where it is no error.
    const Errno left = ack->Fail(EINVAL, "bytes leftover after parsing attributes");
    if (strict) return left;
  }
  return out;
}

// Builds messages one behind the other.
class Builder {
 public:
  // Starts a message; the payload's struct follows with Put.
  void Begin(uint16_t type, uint16_t flags, uint32_t sequence, uint32_t port);
  // Fixes the message's length. Every Begin has its End.
  void End();
  // Gives the message begun up again.
  void Cancel();

  template <typename T>
  void Put(const T& v) {
    static_assert(std::is_trivially_copyable_v<T>);
    Append({reinterpret_cast<const uint8_t*>(&v), sizeof(v)});
    Pad();
  }
  void Append(Bytes b) { bytes_.insert(bytes_.end(), b.begin(), b.end()); }
  void Pad() { bytes_.resize(Align4(bytes_.size())); }

  void Attribute(uint16_t type, Bytes data);
  template <typename T>
  void Value(uint16_t type, const T& v) {
    static_assert(std::is_trivially_copyable_v<T>);
    Attribute(type, {reinterpret_cast<const uint8_t*>(&v), sizeof(v)});
  }
  void U8(uint16_t type, uint8_t v) { Value(type, v); }
  void U16(uint16_t type, uint16_t v) { Value(type, v); }
  void U32(uint16_t type, uint32_t v) { Value(type, v); }
  void U64(uint16_t type, uint64_t v) { Value(type, v); }
  void Be16(uint16_t type, uint16_t v) { Value(type, __builtin_bswap16(v)); }
  void Be32(uint16_t type, uint32_t v) { Value(type, __builtin_bswap32(v)); }
  void Be64(uint16_t type, uint64_t v) { Value(type, __builtin_bswap64(v)); }
  void Flag(uint16_t type) { Attribute(type, {}); }
  // With the NUL.
  void Text(uint16_t type, std::string_view s);
  // Nested attributes: everything until Unnest belongs to it.
  size_t Nest(uint16_t type);
  void Unnest(size_t mark);

  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  std::vector<uint8_t>& bytes() { return bytes_; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  std::vector<uint8_t> bytes_;
  size_t begin_ = 0;
};

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_MESSAGE_H_
