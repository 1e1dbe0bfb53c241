// The line discipline of a terminal (drivers/tty/n_tty.c, termios(3)): what becomes of bytes on their
// way from the keyboard side to the program and back. No locks and no waiting: the Tty has those.
#ifndef RINGWALL_FS_DEVPTS_LINE_DISCIPLINE_H_
#define RINGWALL_FS_DEVPTS_LINE_DISCIPLINE_H_

#include <termios.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/devpts/flip_buffer.h"
#include "fs/vfs/io.h"

namespace ringwall {

// struct termios of the kernel, which is not libc's.
struct TtyTermios {
  uint32_t iflag, oflag, cflag, lflag;
  uint8_t line;
  uint8_t cc[19];
};
static_assert(sizeof(TtyTermios) == 36);

// Both sides: what the program reads goes by termios, what the terminal emulator reads comes as it is.
// Before each of the two lies a flip buffer.
class LineDiscipline {
 public:
  static constexpr size_t kRoom = 4096;  // N_TTY_BUF_SIZE, of which one place stays free

  const TtyTermios& termios() const { return t_; }
  void SetTermios(const TtyTermios& t);

  // Bytes that were typed. Returns how many were taken; *signals gets those that they ask for.
  size_t Input(std::span<const std::byte> bytes, std::vector<int>* signals);
  // TIOCSTI: a byte typed before all that is on its way.
  void InputAtOnce(uint8_t c, std::vector<int>* signals);
  // Bytes that the program writes. Returns how many were taken: none while output is stopped.
  size_t Output(std::span<const std::byte> bytes);
  // tcflow(3), TCIOFF and TCION: a byte that passes output which a key has stopped.
  void OutputPastStop(uint8_t c);
  // TIOCSTI on the emulator's side.
  void ShowAtOnce(uint8_t c);

  // EAGAIN: not enough there yet. any: what is there, even if less than VMIN.
  Result<size_t> Read(IoDst& dst, bool any, std::vector<int>* signals);
  // What is to be shown. EAGAIN.
  Result<size_t> ReadOutput(IoDst& dst);

  bool InputReady() const;
  bool OutputReady() const { return !shown_.empty(); }
  bool InputHasRoom() const { return input_.room() > 0; }
  bool OutputHasRoom() const { return OutputRoom() > 0; }
  size_t readable_bytes() const;
  size_t output_bytes() const { return shown_.size(); }
  // What was typed. on_its_way: also what no line discipline has seen.
  void FlushInput(bool on_its_way, std::vector<int>* signals);
  // What was written and has not come as far as where the emulator reads.
  void FlushOutput();
  // What the emulator could read, and what it wrote and no line discipline has seen.
  void FlushShown();
  void FlushTyped() { input_.Flush(); }
  // vhangup(2): the program's side begins anew, and takes nothing before it is opened again.
  void HangUp();
  void Open() { open_ = true; }
  // tcflow(3): output that it stopped, no key starts.
  void set_held(bool on);
  bool stopped() const { return stopped_; }
  bool canonical() const { return (t_.lflag & ICANON) != 0; }

  // Packet mode (TIOCPKT): what the emulator is told besides data.
  void set_packet(bool on);
  bool packet() const { return packet_; }
  uint8_t packet_status() const { return packet_ ? packet_status_ : uint8_t{0}; }
  uint8_t TakePacketStatus() { return std::exchange(packet_status_, uint8_t{0}); }
  void Tell(uint8_t set, uint8_t clear = 0) {
    if (packet_) packet_status_ = static_cast<uint8_t>((packet_status_ & ~clear) | set);
  }

 private:
  bool L(uint32_t flag) const { return (t_.lflag & flag) != 0; }
  bool I(uint32_t flag) const { return (t_.iflag & flag) != 0; }
  bool O(uint32_t flag) const { return (t_.oflag & flag) != 0; }
  // A control character; 0 switches it off.
  bool Is(uint8_t c, int which) const { return t_.cc[which] != 0 && c == t_.cc[which]; }
  // Input goes by lines: not with EXTPROC, whose lines somebody else makes.
  bool lines() const;
  bool IsContinuation(uint8_t c) const;
  bool IsEndOfFile(size_t i) const;

  // Takes from input_ what there is place for, and Shows from output_.
  void Receive(std::vector<int>* signals);
  size_t ReceiveSome(std::string_view bytes, std::vector<int>* signals);
  void ReceiveBatch(std::string_view bytes, std::vector<int>* signals);
  void ReceiveShown();

  bool InputFlow(uint8_t c, bool done_ahead);
  bool InputSignal(uint8_t c, std::vector<int>* signals);
  void InputByte(uint8_t c, bool done_ahead, std::vector<int>* signals);
  bool InputCanonical(uint8_t c);
  void ResetInput();
  void Start();
  void Stop();
  void Store(uint8_t c);
  void Keep(uint8_t c, bool end);
  void Truncate(size_t n);
  void Erase(uint8_t which);

  // Echoes are committed when a key is done with, and shown by blocks or when all that came at once is.
  void CommitEchoes();
  void FlushEchoes();
  void RetryEchoes();
  void ProcessEchoes();
  bool ProcessEcho(size_t room);
  static size_t EchoPlace(size_t at) { return at % kRoom; }
  uint8_t EchoAt(size_t at) const { return echoes_[EchoPlace(at)]; }
  size_t EchoLength(size_t at) const;
  void AddEcho(uint8_t c) { echoes_[EchoPlace(echo_head_++)] = c; }
  void ClearEchoes() { echo_head_ = echo_mark_ = echo_commit_ = echo_tail_ = 0; }
  void Echo(uint8_t c);
  void EchoTyped(uint8_t c);
  void EchoRaw(uint8_t c);
  void EchoOperation(uint8_t what);
  void EchoEraseTab();
  void EchoErased(std::string_view erased, bool one);
  void FinishErasing();

  size_t OutputRoom() const { return stopped_ ? 0 : output_.room(); }
  // What stopped output loses is lost.
  size_t Show(std::string_view text) { return stopped_ ? 0 : output_.Insert(text); }
  void ShowByte(uint8_t c) {
    const char byte = static_cast<char>(c);
    Show(std::string_view(&byte, 1));
  }
  bool ShowTranslated(uint8_t c, size_t* room);
  size_t ShowPlain(std::string_view text);

  TtyTermios t_ = Defaults();
  static constexpr TtyTermios Defaults() {
    return {ICRNL | IXON,
            OPOST | ONLCR,
            B38400 | CS8 | CREAD,
            ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            0,
            {3, 034, 0177, 025, 4, 0, 1, 0, 021, 023, 032, 0, 022, 017, 027, 026, 0, 0, 0}};
  }
  FlipBuffer input_, output_;
  std::string typed_;        // for the program, the line that is being edited last
  std::string ends_;         // for each byte of typed_ whether it ends a line; VEOF's is a 0
  size_t whole_ = 0;         // canonical: how many bytes whole lines have
  size_t seen_ahead_ = 0;    // how many of the next bytes have had XON and XOFF looked for
  std::array<uint8_t, kRoom> echoes_ = {};  // what waits to be shown, with operations: a ring
  size_t echo_head_ = 0, echo_mark_ = 0, echo_commit_ = 0, echo_tail_ = 0;
  std::string shown_;        // for the screen
  size_t typed_tail_ = 0, shown_tail_ = 0;  // where in a ring of kRoom places the two would begin
  size_t column_ = 0;        // of the cursor
  size_t line_column_ = 0;   // where the edited line began
  bool literal_ = false;     // LNEXT was typed
  bool erasing_ = false;     // ECHOPRT: between a backslash and a slash
  bool stopped_ = false;
  bool held_ = false;        // by tcflow(3)
  bool open_ = true;
  bool packet_ = false;
  uint8_t packet_status_ = 0;  // TIOCPKT_*
};

}  // namespace ringwall

#endif  // RINGWALL_FS_DEVPTS_LINE_DISCIPLINE_H_
