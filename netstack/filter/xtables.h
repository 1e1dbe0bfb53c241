// The tables of iptables and ip6tables (net/netfilter/x_tables.c, ip_tables.c): rules as the blob that
// the program gave, checked once and then walked for every packet. Matches and targets are in
// xt_match.cc and xt_target.cc. Guarded by the stack's lock.
#ifndef RINGWALL_NETSTACK_FILTER_XTABLES_H_
#define RINGWALL_NETSTACK_FILTER_XTABLES_H_

#include <array>
#include <map>
#include <string>
#include <vector>

#include "netstack/filter/conntrack.h"
#include "netstack/filter/packet.h"
#include "netstack/net_error.h"

namespace ringwall::net {

class Stack;

enum class Verdict : uint8_t { kContinue, kAccept, kDrop, kReturn };

struct XtCounter {
  uint64_t packets = 0, bytes = 0;
};

// struct ipt_getinfo's and ipt_replace's facts.
struct XtInfo {
  uint32_t valid_hooks = 0;
  std::array<uint32_t, kHooks> entries = {}, underflows = {};
  uint32_t count = 0, size = 0;
};

// Reads of a blob; the caller has checked that the bytes are there.
template <typename T>
T XtRead(ByteSpan b, size_t at) {
  T v;
  std::memcpy(&v, b.data() + at, sizeof(v));
  return v;
}

// The parts of ipt_entry and ip6t_entry that differ.
struct XtLayout {
  bool v4;
  size_t entry;           // sizeof
  size_t target_offset;   // where the two offsets lie
  size_t counters;
};
inline constexpr XtLayout kXt4 = {true, 112, 88, 96};
inline constexpr XtLayout kXt6 = {false, 168, 140, 152};

// What a target or match looks at.
struct XtPacket {
  FilterPacket& packet;
  Stack& stack;
  Conntrack& conntrack;
  Hook hook;
  bool nat = false;        // in the table "nat"
  bool translated = false; // out: a NAT target decided
  uint64_t* state = nullptr;  // of a match that remembers (limit)
};

class XtTable {
 public:
  XtTable(std::string name, Family family, uint32_t valid_hooks);

  const std::string& name() const { return name_; }
  const XtLayout& layout() const { return family_ == Family::kV4 ? kXt4 : kXt6; }
  Family family() const { return family_; }
  const XtInfo& info() const { return info_; }
  const std::vector<uint8_t>& blob() const { return blob_; }
  std::vector<XtCounter> Counters() const;
  // Checks everything, then puts the new rules in place. kInvalid, kNotFound (no such match or
  // target), kLoop.
  NetResult<void> Replace(const XtInfo& info, std::vector<uint8_t> blob,
                          const std::vector<XtCounter>* counters);
  NetResult<void> AddCounters(const std::vector<XtCounter>& add);
  // Nothing but policies of ACCEPT.
  bool idle() const { return idle_; }

  Verdict Run(XtPacket& x);

 private:
  NetResult<void> Check(const XtInfo& info, ByteSpan blob) const;
  NetResult<void> CheckEntry(ByteSpan blob, size_t at, uint32_t hooks) const;
  NetResult<void> MarkChains(const XtInfo& info, ByteSpan blob,
                             std::vector<uint32_t>* hooks_of) const;
  bool MatchesIp(ByteSpan e, const FilterPacket& p) const;
  void Initial(uint32_t valid_hooks);

  const std::string name_;
  const Family family_;
  XtInfo info_;
  std::vector<uint8_t> blob_;
  std::map<size_t, uint64_t> states_;  // of matches that remember, by place
  bool idle_ = true;
};

// xt_match.cc. revision: of the match; data: without its header.
struct XtExtension {
  const char* name;
  uint8_t revision;
  size_t size;  // of the data, unaligned
};
// Highest revision of a name, or nothing.
std::optional<uint8_t> XtMatchRevision(std::string_view name, Family family);
std::optional<uint8_t> XtTargetRevision(std::string_view name, Family family);
// kNotFound when there is no such match; kInvalid when its size or values are wrong.
NetResult<void> XtCheckMatch(std::string_view name, uint8_t revision, ByteSpan data, Family family,
                             uint16_t protocol, bool protocol_inverted);
// protocol: that the rule names, 0 for none; nothing where it is not known.
NetResult<void> XtCheckTarget(std::string_view name, uint8_t revision, ByteSpan data,
                              Family family, std::string_view table, uint32_t hooks,
                              std::optional<uint16_t> protocol = std::nullopt);
bool XtMatches(std::string_view name, uint8_t revision, ByteSpan data, XtPacket& x);
Verdict XtTarget(std::string_view name, uint8_t revision, ByteSpan data, XtPacket& x);

constexpr size_t XtAlign(size_t n) { return (n + 7) & ~size_t{7}; }

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_FILTER_XTABLES_H_
