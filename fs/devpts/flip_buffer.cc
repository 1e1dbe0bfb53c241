#include "fs/devpts/flip_buffer.h"

#include <algorithm>

namespace ringwall {

namespace {

constexpr size_t kSmallest = 256;  // and what sizes are multiples of
constexpr size_t kLargest = 1792;  // so that a piece with twice as many bytes fits a page

}  // namespace

// Returns how many bytes the last piece takes, at most `want`.
size_t FlipBuffer::RequestRoom(size_t want) {
  const Piece& last = pieces_.back();
  const size_t left = 2 * last.size - last.bytes.size();
  if (left >= want) return want;
  const size_t size = (want + kSmallest - 1) / kSmallest * kSmallest;
  if (size <= kSmallest && spare_ > 0) {
    spare_--;
  } else if (used_ > kLimit) {
    return left;
  }
  used_ += size;
  pieces_.push_back(Piece{.size = size, .bytes = {}});
  return want;
}

size_t FlipBuffer::Insert(std::string_view bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const size_t n = RequestRoom(std::min(bytes.size() - done, kLargest));
    if (n == 0) break;
    pieces_.back().bytes += bytes.substr(done, n);
    done += n;
  }
  return done;
}

void FlipBuffer::FreeFirst() {
  const size_t size = pieces_.front().size;
  used_ -= size;
  if (size == kSmallest) spare_++;
  pieces_.pop_front();
}

std::string_view FlipBuffer::Front() {
  while (pieces_.front().taken == pieces_.front().bytes.size() && pieces_.size() > 1) FreeFirst();
  return std::string_view(pieces_.front().bytes).substr(pieces_.front().taken);
}

std::string FlipBuffer::LookAhead() {
  std::string ahead;
  for (Piece& piece : pieces_) {
    ahead += std::string_view(piece.bytes).substr(std::max(piece.looked, piece.taken));
    piece.looked = piece.bytes.size();
  }
  return ahead;
}

void FlipBuffer::Flush() {
  while (pieces_.size() > 1) FreeFirst();
  pieces_.front().taken = pieces_.front().bytes.size();
}

}  // namespace ringwall
