#include "netstack/tcp/queues.h"

#include <algorithm>

namespace ringwall::net {
namespace {

constexpr size_t kSmallBuffer = 2048;
constexpr size_t kLargeBuffer = 65536 - 64;

// Appends into the free room behind `tail`, if nobody else has. Returns the bytes taken.
size_t FillTail(Slice& tail, ByteSpan bytes) {
  Buffer* b = tail.buffer();
  if (b == nullptr || b->used() != tail.offset() + tail.size()) return 0;
  const size_t n = std::min(bytes.size(), b->capacity() - b->used());
  std::memcpy(b->data() + b->used(), bytes.data(), n);
  b->set_used(b->used() + n);
  tail.Grow(n);
  return n;
}

Slice NewSlice(ByteSpan bytes, size_t capacity) {
  Ref<Buffer> b = Buffer::New(std::max(capacity, bytes.size()));
  std::memcpy(b->data(), bytes.data(), bytes.size());
  b->set_used(bytes.size());
  return Slice(std::move(b), 0, bytes.size());
}

}  // namespace

void SendQueue::Append(Slice s) {
  if (s.empty()) return;
  if (s.size() < kSmallBuffer) return AppendCopy(s.span());
  const size_t n = s.size();
  pieces_.push_back({end_, std::move(s)});
  end_ += n;
  bytes_ += n;
}

void SendQueue::AppendCopy(ByteSpan bytes) {
  if (bytes.empty()) return;
  bytes_ += bytes.size();
  size_t filled = 0;
  if (!pieces_.empty()) filled = FillTail(pieces_.back().data, bytes);
  end_ += filled;
  bytes = bytes.subspan(filled);
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), kLargeBuffer);
    // A first small write gets a small buffer, a stream of them larger ones.
    const size_t capacity =
        pieces_.empty() ? std::max(n, kSmallBuffer) : std::max(n, size_t{16384});
    pieces_.push_back({end_, NewSlice(bytes.first(n), capacity)});
    end_ += n;
    bytes = bytes.subspan(n);
  }
}

Chain SendQueue::Get(uint64_t from, size_t n) const {
  Chain out;
  auto it = std::upper_bound(pieces_.begin(), pieces_.end(), from,
                             [](uint64_t at, const Piece& p) { return at < p.start; });
  RW_CHECK(it != pieces_.begin());
  --it;
  while (n != 0) {
    RW_CHECK(it != pieces_.end());
    const size_t skip = static_cast<size_t>(from - it->start);
    const size_t take = std::min(n, it->data.size() - skip);
    out.Append(it->data.Sub(skip, take));
    from += take;
    n -= take;
    ++it;
  }
  return out;
}

void SendQueue::Release(uint64_t upto) {
  while (!pieces_.empty() && pieces_.front().start < upto) {
    Piece& p = pieces_.front();
    const uint64_t end = p.start + p.data.size();
    if (end <= upto) {
      bytes_ -= p.data.size();
      pieces_.pop_front();
      continue;
    }
    const size_t n = static_cast<size_t>(upto - p.start);
    p.data.RemovePrefix(n);
    p.start = upto;
    bytes_ -= n;
  }
}

void SendQueue::Clear() {
  pieces_.clear();
  end_ = 1;
  bytes_ = 0;
}

void ReceiveQueue::Append(const Chain& c) {
  for (const Slice& s : c.slices()) {
    bytes_ += s.size();
    // Small pieces are gathered, so that a peer cannot pin a frame's buffer with each byte.
    if (s.size() < kSmallBuffer) {
      size_t filled = own_tail_ ? FillTail(slices_.back(), s.span()) : 0;
      if (filled == s.size()) continue;
      const ByteSpan rest = s.span().subspan(filled);
      slices_.push_back(NewSlice(rest, slices_.empty() ? std::max(rest.size(), size_t{256})
                                                       : size_t{8192}));
      own_tail_ = true;
      continue;
    }
    slices_.push_back(s.Compact());
    own_tail_ = false;
  }
}

Chain ReceiveQueue::Peek(size_t n, size_t skip) const {
  Chain out;
  for (const Slice& s : slices_) {
    if (n == 0) break;
    if (skip >= s.size()) {
      skip -= s.size();
      continue;
    }
    const size_t take = std::min(n, s.size() - skip);
    out.Append(s.Sub(skip, take));
    skip = 0;
    n -= take;
  }
  return out;
}

void ReceiveQueue::Consume(size_t n) {
  n = std::min(n, bytes_);
  bytes_ -= n;
  while (n != 0) {
    Slice& s = slices_.front();
    if (s.size() > n) {
      s.RemovePrefix(n);
      return;
    }
    n -= s.size();
    slices_.pop_front();
  }
  if (slices_.empty()) own_tail_ = false;
}

void ReceiveQueue::Clear() {
  slices_.clear();
  own_tail_ = false;
  bytes_ = 0;
}

OffsetBlock OutOfOrder::Insert(uint64_t start, const Chain& c) {
  const uint64_t end = start + c.size();
  OffsetBlock duplicate;
  auto note = [&](uint64_t from, uint64_t to) {
    if (duplicate.end == 0) {
      duplicate = {from, to};
    } else if (from == duplicate.end) {
      duplicate.end = to;
    }
  };
  uint64_t at = start;
  auto it = pieces_.upper_bound(start);
  if (it != pieces_.begin()) --it;
  while (at < end) {
    while (it != pieces_.end() && it->first + it->second.size() <= at) ++it;
    if (it != pieces_.end() && it->first <= at) {
      const uint64_t to = std::min(end, it->first + it->second.size());
      note(at, to);
      at = to;
      continue;
    }
    const uint64_t to = it == pieces_.end() ? end : std::min(end, it->first);
    Slice s = c.Sub(at - start, to - at).Flatten().Compact();
    bytes_ += s.size();
    bool merged = false;
    if (it != pieces_.begin() && s.size() < kSmallBuffer) {
      auto before = std::prev(it);
      Piece& tail = before->second;
      if (tail.own && before->first + tail.size() == at &&
          tail.data.buffer()->capacity() - tail.data.buffer()->used() >= s.size()) {
        merged = FillTail(tail.data, s.span()) == s.size();
      }
    }
    if (!merged) {
      const bool own = s.size() < kSmallBuffer;
      if (own) s = NewSlice(s.span(), s.size() * 2);
      pieces_.emplace_hint(it, at, Piece{std::move(s), own});
    }
    at = to;
  }
  // The block that now holds these bytes comes first: RFC 2018 4.
  OffsetBlock joined{start, end};
  std::erase_if(blocks_, [&](const OffsetBlock& b) {
    if (b.end < joined.start || b.start > joined.end) return false;
    joined = {std::min(joined.start, b.start), std::max(joined.end, b.end)};
    return true;
  });
  blocks_.insert(blocks_.begin(), joined);
  if (blocks_.size() > kMaxBlocks) blocks_.pop_back();
  return duplicate;
}

Chain OutOfOrder::TakeFrom(uint64_t* next) {
  Chain out;
  while (!pieces_.empty() && pieces_.begin()->first <= *next) {
    auto it = pieces_.begin();
    const uint64_t end = it->first + it->second.size();
    bytes_ -= it->second.size();
    if (end > *next) {
      out.Append(it->second.data.Sub(static_cast<size_t>(*next - it->first)));
      *next = end;
    }
    pieces_.erase(it);
  }
  std::erase_if(blocks_, [&](const OffsetBlock& b) { return b.end <= *next; });
  return out;
}

void OutOfOrder::Prune(size_t limit) {
  while (!pieces_.empty() && cost() > limit) {
    auto last = std::prev(pieces_.end());
    const uint64_t from = last->first;
    bytes_ -= last->second.size();
    pieces_.erase(last);
    for (OffsetBlock& b : blocks_) b.end = std::min(b.end, from);
    std::erase_if(blocks_, [](const OffsetBlock& b) { return b.start >= b.end; });
  }
}

void OutOfOrder::Clear() {
  pieces_.clear();
  blocks_.clear();
  bytes_ = 0;
}

uint64_t OutOfOrder::highest() const {
  if (pieces_.empty()) return 0;
  auto last = std::prev(pieces_.end());
  return last->first + last->second.size();
}

}  // namespace ringwall::net
