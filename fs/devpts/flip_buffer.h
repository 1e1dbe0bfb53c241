// What one end of a pseudo-terminal wrote and the other's line discipline has not taken yet
// (drivers/tty/tty_buffer.c). How much fits depends on how the bytes came, since room is given out in
// pieces: programs see that in what write and poll answer. No locks and no waiting.
#ifndef RINGWALL_FS_DEVPTS_FLIP_BUFFER_H_
#define RINGWALL_FS_DEVPTS_FLIP_BUFFER_H_

#include <cstddef>
#include <deque>
#include <span>
#include <string>
#include <string_view>

namespace ringwall {

class FlipBuffer {
 public:
  static constexpr size_t kLimit = 8192;

  // Returns how many of them there was place for: somewhat more than room().
  size_t Insert(std::string_view bytes);
  // What a writer is told of the room.
  size_t room() const { return used_ < kLimit ? kLimit - used_ : 0; }
  // The bytes to be taken next, not all of them; none when there are none.
  std::string_view Front();
  void Consume(size_t n) { pieces_.front().taken += n; }
  // All bytes that this has not been called for yet: XON and XOFF are looked for ahead.
  std::string LookAhead();
  void Flush();

 private:
  struct Piece {
    size_t size;       // as it counts; it holds twice as many bytes
    size_t taken = 0;  // of bytes, by the other side
    size_t looked = 0;
    std::string bytes;
  };
  size_t RequestRoom(size_t want);
  void FreeFirst();

  std::deque<Piece> pieces_ = {Piece{.size = 0, .bytes = {}}};  // never empty
  size_t used_ = 0;                                             // sizes of all pieces
  size_t spare_ = 0;  // pieces of the smallest size that were freed and can be had beyond the limit
};

}  // namespace ringwall

#endif  // RINGWALL_FS_DEVPTS_FLIP_BUFFER_H_
