// The line discipline of a terminal (drivers/tty/n_tty.c, termios(3)): what becomes of bytes on their
// way from the keyboard side to the program and back. No locks and no waiting: the Tty has those.
#ifndef RINGWALL_FS_DEVPTS_LINE_DISCIPLINE_H_
#define RINGWALL_FS_DEVPTS_LINE_DISCIPLINE_H_

#include <termios.h>

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "fs/vfs/io.h"

namespace ringwall {

// struct termios of the kernel, which is not libc's.
struct TtyTermios {
  uint32_t iflag, oflag, cflag, lflag;
  uint8_t line;
  uint8_t cc[19];
};
static_assert(sizeof(TtyTermios) == 36);

class LineDiscipline {
 public:
  static constexpr size_t kInputRoom = 4095;
  static constexpr size_t kOutputRoom = 8192;

  const TtyTermios& termios() const { return t_; }
  void SetTermios(const TtyTermios& t);

  // Bytes that were typed. Returns how many were taken; *signals gets those that they ask for.
  size_t Input(std::span<const std::byte> bytes, std::vector<int>* signals);
  // Bytes that the program writes. Returns how many were taken: none while output is stopped.
  size_t Output(std::span<const std::byte> bytes);

  // EAGAIN: not enough there yet. any: what is there, even if less than VMIN.
  Result<size_t> Read(IoDst& dst, bool any);
  // What is to be shown. EAGAIN.
  Result<size_t> ReadOutput(IoDst& dst);

  bool InputReady() const;
  bool OutputReady() const { return !shown_.empty(); }
  bool InputHasRoom() const { return input_size() < kInputRoom || (canonical() && lines_.empty()); }
  bool OutputHasRoom() const { return !stopped_ && shown_.size() < kOutputRoom; }
  size_t readable_bytes() const;
  size_t output_bytes() const { return shown_.size(); }
  void FlushInput();
  void FlushOutput() { shown_.clear(); }
  void set_stopped(bool on) { stopped_ = on; }
  bool stopped() const { return stopped_; }
  // What TIOCSTI on the master side does: a byte to be shown as it is.
  void ShowRaw(uint8_t c) { Show(c); }
  bool canonical() const { return (t_.lflag & ICANON) != 0; }

 private:
  bool L(uint32_t flag) const { return (t_.lflag & flag) != 0; }
  bool I(uint32_t flag) const { return (t_.iflag & flag) != 0; }
  bool O(uint32_t flag) const { return (t_.oflag & flag) != 0; }
  // A control character; 0 switches it off.
  bool Is(uint8_t c, int which) const { return t_.cc[which] != 0 && c == t_.cc[which]; }
  size_t input_size() const { return cooked_.size() + line_.size(); }

  bool InputSignal(uint8_t c, std::vector<int>* signals);
  void InputByte(uint8_t c, std::vector<int>* signals);
  void InputCanonical(uint8_t c);
  void Store(uint8_t c);
  void EndLine(bool with_char, uint8_t c);
  void EraseOne();
  void FinishErasing();
  void EraseWord();
  void Kill();
  void Echo(uint8_t c);
  void EchoControl(uint8_t c);
  void Show(uint8_t c);
  bool ShowTranslated(uint8_t c);
  size_t ColumnAfter(std::string_view text) const;

  TtyTermios t_ = {ICRNL | IXON,
                   OPOST | ONLCR,
                   B38400 | CS8 | CREAD,
                   ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
                   0,
                   {3, 034, 0177, 025, 4, 0, 1, 0, 021, 023, 032, 0, 022, 017, 027, 026, 0, 0, 0}};
  std::string cooked_;         // for the program
  std::deque<size_t> lines_;   // canonical: the lengths of the lines in cooked_; 0 is an end of file
  std::string line_;           // canonical: the line that is being edited
  std::string shown_;          // for the screen
  size_t column_ = 0;          // of the cursor
  size_t line_column_ = 0;     // where the edited line began
  bool literal_ = false;       // LNEXT was typed
  bool erasing_ = false;       // ECHOPRT: between a backslash and a slash
  bool stopped_ = false;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_DEVPTS_LINE_DISCIPLINE_H_
