#include "netstack/filter/xtables.h"

#include <algorithm>

#include "netstack/stack.h"

namespace ringwall::net {
namespace {

constexpr size_t kHeader = 32;      // struct xt_entry_match, struct xt_entry_target
constexpr size_t kStandard = 40;    // struct xt_standard_target, aligned
constexpr size_t kErrorTarget = 64; // struct xt_error_target, aligned
constexpr size_t kMostEntries = 1 << 20;
constexpr int32_t kVerdictDrop = -1, kVerdictAccept = -2, kVerdictReturn = -5;
constexpr uint8_t kFlagFragment = 1, kFlagGoto = 2;
constexpr size_t kDepth = 512;      // of jumps
// Rules that one packet may pass: chains that jump to each other in a row reach any number of them.
constexpr size_t kMostSteps = 4 * kMostEntries;

std::string_view NameAt(ByteSpan b, size_t at) {
  const char* s = reinterpret_cast<const char*>(b.data() + at + 2);
  return {s, strnlen(s, 29)};
}

uint16_t SizeAt(ByteSpan b, size_t at) { return XtRead<uint16_t>(b, at); }
uint8_t RevisionAt(ByteSpan b, size_t at) { return b[at + 31]; }

bool IfMatches(const std::string& name, const uint8_t* want, const uint8_t* mask) {
  char have[16] = {};
  std::memcpy(have, name.data(), std::min<size_t>(name.size(), 15));
  for (size_t i = 0; i < 16; i++) {
    if (((static_cast<uint8_t>(have[i]) ^ want[i]) & mask[i]) != 0) return false;
  }
  return true;
}

struct Entry {
  uint16_t target, next;
};

Entry EntryAt(const XtLayout& l, ByteSpan blob, size_t at) {
  return {XtRead<uint16_t>(blob, at + l.target_offset),
          XtRead<uint16_t>(blob, at + l.target_offset + 2)};
}

// No condition at all: the whole ip part is zero and there are no matches.
bool Unconditional(const XtLayout& l, ByteSpan blob, size_t at) {
  const Entry e = EntryAt(l, blob, at);
  if (e.target != l.entry) return false;
  const ByteSpan ip = blob.subspan(at, l.target_offset - 4);
  return std::all_of(ip.begin(), ip.end(), [](uint8_t b) { return b == 0; });
}

int32_t VerdictAt(ByteSpan blob, size_t target) { return XtRead<int32_t>(blob, target + kHeader); }

}  // namespace

XtTable::XtTable(std::string name, Family family, uint32_t valid_hooks)
    : name_(std::move(name)), family_(family) {
  Initial(valid_hooks);
}

// One ACCEPT for each hook, and the entry that ends a table.
void XtTable::Initial(uint32_t valid_hooks) {
  const XtLayout& l = layout();
  info_.valid_hooks = valid_hooks;
  const auto put16 = [&](size_t at, size_t v) {
    const uint16_t n = static_cast<uint16_t>(v);
    std::memcpy(blob_.data() + at, &n, 2);
  };
  for (size_t h = 0; h < kHooks; h++) {
    if ((valid_hooks & (1u << h)) == 0) continue;
    const size_t at = blob_.size();
    info_.entries[h] = info_.underflows[h] = static_cast<uint32_t>(at);
    blob_.resize(at + l.entry + kStandard);
    put16(at + l.target_offset, l.entry);
    put16(at + l.target_offset + 2, l.entry + kStandard);
    put16(at + l.entry, kStandard);
    std::memcpy(blob_.data() + at + l.entry + kHeader, &kVerdictAccept, 4);
    info_.count++;
  }
  const size_t at = blob_.size();
  blob_.resize(at + l.entry + kErrorTarget);
  put16(at + l.target_offset, l.entry);
  put16(at + l.target_offset + 2, l.entry + kErrorTarget);
  put16(at + l.entry, kErrorTarget);
  std::memcpy(blob_.data() + at + l.entry + 2, "ERROR", 5);
  std::memcpy(blob_.data() + at + l.entry + kHeader, "ERROR", 5);
  info_.count++;
  info_.size = static_cast<uint32_t>(blob_.size());
}

std::vector<XtCounter> XtTable::Counters() const {
  std::vector<XtCounter> out;
  for (size_t at = 0; at < blob_.size(); at += EntryAt(layout(), blob_, at).next) {
    out.push_back(XtRead<XtCounter>(blob_, at + layout().counters));
  }
  return out;
}

// ---- Checks (translate_table()) ----

NetResult<void> XtTable::CheckEntry(ByteSpan blob, size_t at, uint32_t hooks) const {
  const XtLayout& l = layout();
  const Entry e = EntryAt(l, blob, at);
  const uint8_t flags = blob[at + (l.v4 ? 82 : 131)];
  const uint8_t invert = blob[at + (l.v4 ? 83 : 132)];
  if (l.v4 ? (flags & ~0x03) != 0 || (invert & ~0x7f) != 0
           : (flags & ~0x07) != 0 || (invert & ~0x7f) != 0) {
    return NetError::kInvalid;
  }
  const uint16_t protocol = XtRead<uint16_t>(blob, at + (l.v4 ? 80 : 128));
  const bool inverted = (invert & 0x40) != 0;
  for (size_t m = l.entry; m < e.target;) {
    if (e.target - m < kHeader) return NetError::kInvalid;
    const uint16_t size = SizeAt(blob, at + m);
    if (size < kHeader || size % 8 != 0 || size > e.target - m) return NetError::kInvalid;
    TRY(XtCheckMatch(NameAt(blob, at + m), RevisionAt(blob, at + m),
                     blob.subspan(at + m + kHeader, size - kHeader), family_, protocol, inverted));
    m += size;
  }
  const size_t t = at + e.target;
  const std::string_view name = NameAt(blob, t);
  const uint16_t size = SizeAt(blob, t);
  const ByteSpan data = blob.subspan(t + kHeader, size - kHeader);
  if (name.empty()) {
    if (size != kStandard) return NetError::kInvalid;
    const int32_t v = VerdictAt(blob, t);
    if (v < 0 && v != kVerdictDrop && v != kVerdictAccept && v != kVerdictReturn && v != -4) {
      return NetError::kInvalid;
    }
    return {};
  }
  if (name == "ERROR") {
    if (size != kErrorTarget) return NetError::kInvalid;
    return {};
  }
  return XtCheckTarget(name, RevisionAt(blob, t), data, family_, name_, hooks,
                       inverted ? uint16_t{0} : protocol);
}

// mark_source_chains(): every jump leads to an entry, none leads back; tells which hooks reach
// which entry.
NetResult<void> XtTable::MarkChains(const XtInfo& info, ByteSpan blob,
                                    std::vector<uint32_t>* hooks_of) const {
  const XtLayout& l = layout();
  std::map<size_t, size_t> number;
  std::vector<size_t> at;
  for (size_t o = 0; o < blob.size(); o += EntryAt(l, blob, o).next) {
    number[o] = at.size();
    at.push_back(o);
  }
  hooks_of->assign(at.size(), 0);
  enum : uint8_t { kUnseen, kOpen, kDone };
  for (size_t h = 0; h < kHooks; h++) {
    if ((info.valid_hooks & (1u << h)) == 0) continue;
    // Depth first over "the next rule" and "the jump's target"; meeting a rule that is still open
    // is a way round.
    std::vector<uint8_t> state(at.size(), kUnseen);
    struct Step {
      size_t rule;
      int stage;
    };
    std::vector<Step> work = {{number[info.entries[h]], 0}};
    while (!work.empty()) {
      const size_t i = work.back().rule;
      const int stage = work.back().stage++;
      const Entry e = EntryAt(l, blob, at[i]);
      const size_t t = at[i] + e.target;
      const bool standard = NameAt(blob, t).empty();
      const int32_t v = standard ? VerdictAt(blob, t) : 0;
      size_t go = at.size();
      if (stage == 0) {
        state[i] = kOpen;
        (*hooks_of)[i] |= 1u << h;
        if (standard && v >= 0 && static_cast<size_t>(v) != at[i] + e.next) {
          auto to = number.find(static_cast<size_t>(v));
          if (to == number.end()) return NetError::kInvalid;
          go = to->second;
        }
      } else if (stage == 1) {
        const bool ends = NameAt(blob, t) == "ERROR" ||
                          (standard && v < 0 && Unconditional(l, blob, at[i]));
        if (!ends) {
          if (i + 1 >= at.size()) return NetError::kInvalid;  // runs off the end
          go = i + 1;
        }
      } else {
        state[i] = kDone;
        work.pop_back();
        continue;
      }
      if (go == at.size() || state[go] == kDone) continue;
      if (state[go] == kOpen) return NetError::kLoop;
      work.push_back({go, 0});
    }
  }
  return {};
}

NetResult<void> XtTable::Check(const XtInfo& info, ByteSpan blob) const {
  const XtLayout& l = layout();
  size_t count = 0;
  uint32_t hooks_found = 0, underflows_found = 0;
  for (size_t at = 0; at < blob.size();) {
    const size_t left = blob.size() - at;
    if (at % 8 != 0 || left < l.entry) return NetError::kInvalid;
    const Entry e = EntryAt(l, blob, at);
    if (e.next < l.entry + kHeader || e.next > left || e.next % 8 != 0) return NetError::kInvalid;
    if (e.target < l.entry || size_t{e.target} + kHeader > e.next || e.target % 8 != 0) {
      return NetError::kInvalid;
    }
    const uint16_t target = SizeAt(blob, at + e.target);
    if (target < kHeader || size_t{e.target} + target != e.next) return NetError::kInvalid;
    for (size_t h = 0; h < kHooks; h++) {
      if ((info.valid_hooks & (1u << h)) == 0) continue;
      if (info.entries[h] == at) hooks_found |= 1u << h;
      if (info.underflows[h] != at) continue;
      // A policy has no conditions and says ACCEPT or DROP.
      if (!Unconditional(l, blob, at) || !NameAt(blob, at + e.target).empty() ||
          target != kStandard) {
        return NetError::kInvalid;
      }
      const int32_t v = VerdictAt(blob, at + e.target);
      if (v != kVerdictAccept && v != kVerdictDrop) return NetError::kInvalid;
      underflows_found |= 1u << h;
    }
    count++;
    if (count > kMostEntries) return NetError::kNoMemory;
    at += e.next;
  }
  if (count != info.count) return NetError::kInvalid;
  if (hooks_found != info.valid_hooks || underflows_found != info.valid_hooks) {
    return NetError::kInvalid;
  }
  std::vector<uint32_t> hooks_of;
  TRY(MarkChains(info, blob, &hooks_of));
  size_t n = 0;
  for (size_t at = 0; at < blob.size(); at += EntryAt(l, blob, at).next) {
    TRY(CheckEntry(blob, at, hooks_of[n++]));
  }
  return {};
}

NetResult<void> XtTable::Replace(const XtInfo& info, std::vector<uint8_t> blob,
                                 const std::vector<XtCounter>*) {
  if (info.valid_hooks != info_.valid_hooks) return NetError::kInvalid;
  TRY(Check(info, blob));
  // ---- No failure below this line. ----
  info_ = info;
  info_.size = static_cast<uint32_t>(blob.size());
  blob_ = std::move(blob);
  states_.clear();
  idle_ = true;
  size_t hooks = 0;
  for (size_t h = 0; h < kHooks; h++) hooks += (info.valid_hooks >> h) & 1;
  if (info.count != hooks + 1) idle_ = false;
  for (size_t at = 0; at < blob_.size(); at += EntryAt(layout(), blob_, at).next) {
    const Entry e = EntryAt(layout(), blob_, at);
    if (NameAt(blob_, at + e.target).empty() && VerdictAt(blob_, at + e.target) != kVerdictAccept) {
      idle_ = false;
    }
    // Counters begin at what the program says afterwards.
    std::memset(blob_.data() + at + layout().counters, 0, sizeof(XtCounter));
  }
  return {};
}

NetResult<void> XtTable::AddCounters(const std::vector<XtCounter>& add) {
  if (add.size() != info_.count) return NetError::kInvalid;
  size_t n = 0;
  for (size_t at = 0; at < blob_.size(); at += EntryAt(layout(), blob_, at).next) {
    XtCounter c = XtRead<XtCounter>(blob_, at + layout().counters);
    c.packets += add[n].packets;
    c.bytes += add[n++].bytes;
    std::memcpy(blob_.data() + at + layout().counters, &c, sizeof(c));
  }
  return {};
}

// ---- Packets (ipt_do_table()) ----

bool XtTable::MatchesIp(ByteSpan e, const FilterPacket& p) const {
  const XtLayout& l = layout();
  const size_t n = l.v4 ? 4 : 16;
  const uint8_t flags = e[l.v4 ? 82 : 131], inv = e[l.v4 ? 83 : 132];
  const auto address = [&](const IpAddr& a, size_t want, size_t mask, uint8_t bit) {
    bool same = true;
    for (size_t i = 0; i < n; i++) same = same && (a.byte(i) & e[mask + i]) == e[want + i];
    return same != ((inv & bit) != 0);
  };
  // struct ipt_ip: src, dst, smsk, dmsk; the interfaces follow.
  if (!address(p.src(), 0, 2 * n, 0x08)) return false;
  if (!address(p.dst(), n, 3 * n, 0x10)) return false;
  const size_t names = 4 * n;
  if (IfMatches(p.in_name, &e[names], &e[names + 32]) == ((inv & 0x01) != 0)) return false;
  if (IfMatches(p.out_name, &e[names + 16], &e[names + 48]) == ((inv & 0x02) != 0)) return false;
  const uint16_t protocol = XtRead<uint16_t>(e, names + 64);
  if (l.v4) {
    if (protocol != 0 && (protocol == p.protocol()) == ((inv & 0x40) != 0)) return false;
    if ((flags & kFlagFragment) != 0 && p.later_fragment() == ((inv & 0x20) != 0)) return false;
  } else if ((flags & 0x01) != 0 && protocol != 0) {
    if ((protocol == p.protocol()) == ((inv & 0x40) != 0)) return false;
  }
  return true;
}

Verdict XtTable::Run(XtPacket& x) {
  const size_t hook = static_cast<size_t>(x.hook);
  if ((info_.valid_hooks & (1u << hook)) == 0) return Verdict::kAccept;
  const XtLayout& l = layout();
  const ByteSpan blob = blob_;
  size_t at = info_.entries[hook];
  std::vector<size_t> stack;
  // Each turn passes a rule or returns; chains have no loops, so this would end, but not soon.
  for (size_t steps = 0; steps < kMostSteps; steps++) {
    const Entry e = EntryAt(l, blob, at);
    const ByteSpan entry = blob.subspan(at, e.next);
    bool match = MatchesIp(entry, x.packet);
    for (size_t m = l.entry; match && m < e.target; m += SizeAt(entry, m)) {
      x.state = &states_[at + m];
      match = XtMatches(NameAt(entry, m), RevisionAt(entry, m),
                        entry.subspan(m + kHeader, SizeAt(entry, m) - kHeader), x);
    }
    if (!match) {
      at += e.next;
      continue;
    }
    XtCounter c = XtRead<XtCounter>(blob, at + l.counters);
    c.packets++;
    c.bytes += x.packet.size();
    std::memcpy(blob_.data() + at + l.counters, &c, sizeof(c));
    const size_t t = e.target;
    const std::string_view name = NameAt(entry, t);
    if (name.empty()) {
      const int32_t v = VerdictAt(entry, t);
      if (v < 0) {
        if (v != kVerdictReturn) return v == kVerdictAccept ? Verdict::kAccept : Verdict::kDrop;
        if (stack.empty()) {
          at = info_.underflows[hook];
        } else {
          at = stack.back();
          stack.pop_back();
        }
        continue;
      }
      const uint8_t flags = entry[l.v4 ? 82 : 131];
      const uint8_t go = l.v4 ? kFlagGoto : 0x04;
      if (static_cast<size_t>(v) != at + e.next && (flags & go) == 0) {
        if (stack.size() >= kDepth) return Verdict::kDrop;
        stack.push_back(at + e.next);
      }
      at = static_cast<size_t>(v);
      continue;
    }
    if (name == "ERROR") return Verdict::kDrop;
    const Verdict v = XtTarget(name, RevisionAt(entry, t),
                               entry.subspan(t + kHeader, SizeAt(entry, t) - kHeader), x);
    if (v == Verdict::kContinue) {
      at += e.next;
      continue;
    }
    return v;
  }
  return Verdict::kDrop;
}

}  // namespace ringwall::net
