// The byte queues of a connection. Positions are 64-bit stream offsets: 0 is the SYN, 1 the first
// byte; the connection turns sequence numbers into them, so no order here is modular.
#ifndef RINGWALL_NETSTACK_TCP_QUEUES_H_
#define RINGWALL_NETSTACK_TCP_QUEUES_H_

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "netstack/buffer.h"
#include "netstack/ring.h"

namespace ringwall::net {

// What the user wrote and the peer has not acknowledged.
class SendQueue {
 public:
  uint64_t end() const { return end_; }
  size_t bytes() const { return bytes_; }
  // Shares the slice's buffer.
  void Append(Slice s);
  // Copies, filling the room behind the last bytes first: many small writes make few buffers.
  void AppendCopy(ByteSpan bytes);
  // Preconditions: [from, from + n) is held.
  Chain Get(uint64_t from, size_t n) const;
  // Drops everything before `upto`.
  void Release(uint64_t upto);
  // As if nothing had ever been written.
  void Clear();

 private:
  struct Piece {
    uint64_t start;
    Slice data;
  };
  Ring<Piece> pieces_;
  uint64_t end_ = 1;
  size_t bytes_ = 0;
};

// In-order bytes that the user has not read.
class ReceiveQueue {
 public:
  size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }
  void Append(const Chain& c);
  // Shares up to n bytes from `skip` on.
  Chain Peek(size_t n, size_t skip = 0) const;
  void Consume(size_t n);
  void Clear();

 private:
  Ring<Slice> slices_;
  size_t bytes_ = 0;
  // The last buffer was made here: a shared one (the sender's, on the loopback) is never filled.
  bool own_tail_ = false;
};

struct OffsetBlock {
  uint64_t start = 0;
  uint64_t end = 0;
  friend bool operator==(const OffsetBlock&, const OffsetBlock&) = default;
};

// Bytes beyond a gap, with the SACK blocks that tell of them. RFC 2018 4.
class OutOfOrder {
 public:
  bool empty() const { return pieces_.empty(); }
  size_t bytes() const { return bytes_; }
  // Memory held, with what each piece costs beyond its bytes.
  size_t cost() const { return bytes_ + pieces_.size() * kPieceCost; }
  // Keeps what is new of [start, start + c.size()). Returns the part that was here before, if
  // any: a D-SACK block. RFC 2883 4.
  OffsetBlock Insert(uint64_t start, const Chain& c);
  // Takes what has become in order at `next` out; advances next.
  Chain TakeFrom(uint64_t* next);
  // Gives up the pieces furthest away until cost() <= limit. RFC 2018 8 allows it.
  void Prune(size_t limit);
  void Clear();
  // Blocks to report, the most recently touched first.
  const std::vector<OffsetBlock>& blocks() const { return blocks_; }
  // One past the last byte held.
  uint64_t highest() const;

 private:
  static constexpr size_t kPieceCost = 256;
  static constexpr size_t kMaxBlocks = 4;
  struct Piece {
    Slice data;
    bool own = false;  // the buffer was made here and may be filled
    size_t size() const { return data.size(); }
  };
  std::map<uint64_t, Piece> pieces_;  // they neither overlap nor are empty
  std::vector<OffsetBlock> blocks_;
  size_t bytes_ = 0;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_QUEUES_H_
