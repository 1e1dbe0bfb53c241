#include "netstack/ip/reassembly.h"

namespace ringwall::net {
namespace {

constexpr int kLookAhead = 64;

// RFC 3168 5.3: congestion seen by any fragment marks the datagram; not-ECT mixed with ECT makes
// it invalid, which the caller sees as 0xff.
uint8_t CombineEcn(uint8_t bits) {
  const bool not_ect = (bits & 1) != 0;
  const bool ect = (bits & 6) != 0;
  const bool ce = (bits & 8) != 0;
  if (ce) return not_ect ? 0xff : 3;
  if (not_ect) return 0;
  if (ect) return (bits & 4) != 0 ? 2 : 1;
  return 0;
}

}  // namespace

Reassembly::Result Reassembly::Add(const FragmentKey& key, Part part, TimePoint now) {
  const uint32_t start = part.offset;
  const uint32_t end = start + static_cast<uint32_t>(part.data.size());
  const size_t header_size = key.src.is_v4() ? 20 : 0;
  if (end + header_size > 65535) {
    if (table_.contains(key)) Drop(key);
    return {Verdict::kTooLong};
  }

  auto it = table_.find(key);
  if (it == table_.end()) {
    uint32_t& count = per_source_[key.src];
    if (count >= kMaxPerSource) return {Verdict::kNoMemory};
    count++;
    // A flood pushes out the oldest; a legitimate datagram that completes fast survives.
    while (memory_ > kMaxMemory - 65536 && !order_.empty()) Drop(FragmentKey(order_.front()));
    it = table_.try_emplace(key, std::make_unique<Queue>()).first;
    Queue& q = *it->second;
    q.deadline = now + (key.src.is_v4() ? kTimeout : kTimeout6);
    q.order = order_.insert(order_.end(), key);
  }
  Queue& q = *it->second;

  // RFC 8200 4.5 and RFC 5722: overlap throws the whole datagram away, an exact repeat only
  // itself. Linux does the same for IPv4.
  auto next = q.parts.lower_bound(start);
  if (next != q.parts.end() && next->first == start && next->second.size() == part.data.size()) {
    return {Verdict::kDuplicate};
  }
  bool bad = next != q.parts.end() && next->first < end;
  if (next != q.parts.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second.size() > start) bad = true;
  }
  if (q.total && (end > *q.total || (!part.more && end != *q.total))) bad = true;
  if (!part.more && !q.parts.empty()) {
    auto last = std::prev(q.parts.end());
    if (last->first + last->second.size() > end) bad = true;
  }
  // Empty middle fragments would make entries for nothing.
  if (part.data.empty() && part.more) bad = true;
  if (bad) {
    Drop(key);
    return {Verdict::kOverlap};
  }
  if (q.parts.size() >= kMaxFragments || memory_ > kMaxMemory) {
    Drop(key);
    return {Verdict::kNoMemory};
  }

  if (!part.more) q.total = end;
  q.ecn_bits = static_cast<uint8_t>(q.ecn_bits | 1u << (part.ecn & 3));
  Slice data = part.data.Compact();
  size_t cost = kPartCost + (data.buffer() ? data.buffer()->true_size() : 0);
  if (start == 0) {
    q.header = part.header.Compact();
    q.next_header = part.next_header;
    cost += q.header.size();
  }
  q.received += end - start;
  q.cost += cost;
  memory_ += cost;
  q.parts.emplace(start, std::move(data));
  if (q.total && q.received == *q.total) return Finish(key, q);
  return {Verdict::kHeld};
}

Reassembly::Result Reassembly::Finish(const FragmentKey& key, Queue& q) {
  Result r;
  r.verdict = Verdict::kComplete;
  r.header = q.header;
  r.next_header = q.next_header;
  r.ecn = CombineEcn(q.ecn_bits);
  Chain all;
  for (auto& [offset, data] : q.parts) {
    r.largest = std::max(r.largest, static_cast<uint32_t>(data.size()));
    all.Append(std::move(data));
  }
  r.payload = all.Flatten();
  Drop(key);
  return r;
}

std::optional<Reassembly::Expired> Reassembly::TakeExpired(TimePoint now) {
  // Two timeouts exist, so the oldest may not be the first to expire; looking at a few keeps the
  // cost of a flood constant.
  int looked = 0;
  for (const FragmentKey& key : order_) {
    if (++looked > kLookAhead) break;
    Queue& q = *table_.find(key)->second;
    if (q.deadline > now) continue;
    Expired e{key, q.header, Slice()};
    auto first = q.parts.find(0);
    if (first != q.parts.end()) e.first_data = first->second;
    Drop(FragmentKey(key));
    return e;
  }
  return std::nullopt;
}

TimePoint Reassembly::NextDeadline() const {
  TimePoint next = TimePoint::Never();
  int looked = 0;
  for (const FragmentKey& key : order_) {
    next = Min(next, table_.find(key)->second->deadline);
    if (++looked == kLookAhead) break;
  }
  return next;
}

void Reassembly::Drop(const FragmentKey& key) {
  auto it = table_.find(key);
  if (it == table_.end()) return;
  auto source = per_source_.find(key.src);
  if (--source->second == 0) per_source_.erase(source);
  memory_ -= it->second->cost;
  order_.erase(it->second->order);
  table_.erase(it);
}

}  // namespace ringwall::net
