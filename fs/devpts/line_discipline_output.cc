// The line discipline's way out: what programs write and what is echoed.
#include <sys/ioctl.h>

#include "fs/devpts/line_discipline.h"
#include "fs/devpts/terminal_characters.h"

namespace ringwall {

namespace {

// Echoes beyond this are lost, the oldest first (ECHO_DISCARD_WATERMARK), and sent in blocks.
constexpr size_t kEchoBlock = 256, kMostEchoes = LineDiscipline::kRoom - (kEchoBlock + 32);

}  // namespace

bool LineDiscipline::IsContinuation(uint8_t c) const { return I(IUTF8) && (c & 0xc0) == 0x80; }

// do_output_char(): c_oflag's work on one byte. False: there is no room.
bool LineDiscipline::ShowTranslated(uint8_t c, size_t* room) {
  if (*room == 0) return false;
  switch (c) {
    case '\n':
      if (O(ONLRET)) column_ = 0;
      if (O(ONLCR)) {
        if (*room < 2) return false;
        column_ = line_column_ = 0;
        Show("\r\n");
        *room -= 2;
        return true;
      }
      line_column_ = column_;
      break;
    case '\r':
      if (O(ONOCR) && column_ == 0) return true;
      if (O(OCRNL)) {
        c = '\n';
        if (O(ONLRET)) line_column_ = column_ = 0;
        break;
      }
      line_column_ = column_ = 0;
      break;
    case '\t': {
      const size_t spaces = 8 - (column_ & 7);
      const bool as_spaces = (t_.oflag & TABDLY) == TAB3;
      if (as_spaces && *room < spaces) return false;
      column_ += spaces;
      if (!as_spaces) break;
      Show(std::string(spaces, ' '));
      *room -= spaces;
      return true;
    }
    case '\b':
      if (column_ > 0) column_--;
      break;
    default:
      if (IsControl(c)) break;
      if (O(OLCUC)) c = ToUpper(c);
      if (!IsContinuation(c)) column_++;
      break;
  }
  ShowByte(c);
  *room -= 1;
  return true;
}

// As much of the text as needs no translation. Returns how much there was room for.
size_t LineDiscipline::ShowPlain(std::string_view text) {
  text = text.substr(0, OutputRoom());
  size_t n = 0;
  for (; n < text.size(); n++) {
    const uint8_t c = static_cast<uint8_t>(text[n]);
    if (c == '\n') {
      if (O(ONLRET)) column_ = 0;
      if (O(ONLCR)) break;
      line_column_ = column_;
    } else if (c == '\r') {
      if ((O(ONOCR) && column_ == 0) || O(OCRNL)) break;
      line_column_ = column_ = 0;
    } else if (c == '\t') {
      break;
    } else if (c == '\b') {
      if (column_ > 0) column_--;
    } else if (!IsControl(c)) {
      if (O(OLCUC)) break;
      if (!IsContinuation(c)) column_++;
    }
  }
  return Show(text.substr(0, n));
}

size_t LineDiscipline::Output(std::span<const std::byte> bytes) {
  RetryEchoes();
  const std::string_view text = AsText(bytes);
  size_t done = 0;
  while (done < text.size()) {
    const size_t n = O(OPOST) ? ShowPlain(text.substr(done)) : Show(text.substr(done));
    done += n;
    if (!O(OPOST) && n == 0) break;
    if (!O(OPOST) || done == text.size()) continue;
    size_t room = OutputRoom();
    if (!ShowTranslated(static_cast<uint8_t>(text[done]), &room)) break;
    done++;
  }
  ReceiveShown();
  return done;
}

// tty_send_xchar()
void LineDiscipline::OutputPastStop(uint8_t c) {
  const bool was_stopped = stopped_;
  if (was_stopped) Start();
  ShowByte(c);
  if (was_stopped) Stop();
  ReceiveShown();
}

void LineDiscipline::ShowAtOnce(uint8_t c) {
  if (shown_.size() < kRoom - 1) shown_.push_back(static_cast<char>(c));
  ReceiveShown();
}

void LineDiscipline::FlushOutput() {
  output_.Flush();
  Tell(TIOCPKT_FLUSHWRITE);
}

void LineDiscipline::FlushShown() {
  output_.Flush();
  shown_.clear();
  shown_tail_ = 0;
}

size_t LineDiscipline::EchoLength(size_t at) const {
  if (EchoAt(at) != kEchoEscape) return 1;
  return EchoAt(at + 1) == kEraseTab ? 3 : 2;
}

// The first echo. False: there is no room for it.
bool LineDiscipline::ProcessEcho(size_t room) {
  const uint8_t c = EchoAt(echo_tail_);
  if (c != kEchoEscape) {
    if (O(OPOST)) return ShowTranslated(c, &room);
    if (room == 0) return false;
    ShowByte(c);
    return true;
  }
  const uint8_t what = EchoAt(echo_tail_ + 1);
  switch (what) {
    case kEraseTab: {
      const uint8_t columns = EchoAt(echo_tail_ + 2);
      const size_t before = (columns & kAfterTab) != 0 ? columns : columns + line_column_;
      const size_t back = 8 - (before & 7);
      if (back > room) return false;
      for (size_t i = 0; i < back; i++) ShowByte('\b');
      column_ -= std::min(column_, back);
      return true;
    }
    case kMarkColumn:
      line_column_ = column_;
      return true;
    case kStepBack:
      if (column_ > 0) column_--;
      return true;
    case kEchoEscape:
      if (room == 0) return false;
      ShowByte(what);
      column_++;
      return true;
    default:
      if (room < 2) return false;
      ShowByte('^');
      ShowByte(what ^ 0100);
      column_ += 2;
      return true;
  }
}

// What is committed, as far as there is room: echoes wait while output is stopped, or the screen is not
// read. What one key adds is not looked at before its end: beyond the ring's size, only the rest counts.
void LineDiscipline::ProcessEchoes() {
  while (EchoPlace(echo_commit_) != EchoPlace(echo_tail_)) {
    const size_t length = EchoLength(echo_tail_);
    for (size_t i = 1; i < length; i++) {
      if (EchoPlace(echo_tail_ + i) == EchoPlace(echo_commit_)) return;
    }
    if (!ProcessEcho(OutputRoom())) break;
    echo_tail_ += length;
  }
  while (echo_commit_ > echo_tail_ && echo_commit_ - echo_tail_ >= kMostEchoes) echo_tail_ += EchoLength(echo_tail_);
}

void LineDiscipline::RetryEchoes() {
  if (echo_mark_ == echo_tail_) return;
  echo_commit_ = echo_mark_;
  ProcessEchoes();
}

// What waits since before is not tried again.
void LineDiscipline::FlushEchoes() {
  if ((!L(ECHO) && !L(ECHONL)) || echo_commit_ == echo_head_) return;
  echo_commit_ = echo_head_;
  ProcessEchoes();
}

void LineDiscipline::CommitEchoes() {
  echo_mark_ = echo_head_;
  const size_t before = echo_commit_ - echo_tail_, all = echo_head_ - echo_tail_;
  if (all < kEchoBlock || all % kEchoBlock > before % kEchoBlock) return;
  echo_commit_ = echo_head_;
  ProcessEchoes();
}

void LineDiscipline::EchoOperation(uint8_t what) {
  AddEcho(kEchoEscape);
  AddEcho(what);
}

void LineDiscipline::EchoRaw(uint8_t c) {
  if (c == kEchoEscape) return EchoOperation(c);
  AddEcho(c);
}

void LineDiscipline::Echo(uint8_t c) {
  L(ECHOCTL) && IsControl(c) && c != '\t' ? EchoOperation(c) : EchoRaw(c);
}

void LineDiscipline::EchoTyped(uint8_t c) {
  FinishErasing();
  if (canonical() && whole_ == typed_.size()) EchoOperation(kMarkColumn);
  Echo(c);
}

void LineDiscipline::FinishErasing() {
  if (erasing_) EchoRaw('/');
  erasing_ = false;
}

// What shows that a tab is gone: how far back it is depends on what is before it.
void LineDiscipline::EchoEraseTab() {
  uint8_t columns = 0, after = 0;
  for (size_t i = typed_.size(); i > whole_; i--) {
    const uint8_t c = static_cast<uint8_t>(typed_[i - 1]);
    if (c == '\t') {
      after = kAfterTab;
      break;
    }
    if (IsControl(c)) {
      if (L(ECHOCTL)) columns = static_cast<uint8_t>(columns + 2);
    } else if (!IsContinuation(c)) {
      columns++;
    }
  }
  EchoOperation(kEraseTab);
  AddEcho(static_cast<uint8_t>((columns & 7) | after));
}

void LineDiscipline::EchoErased(std::string_view erased, bool one) {
  const uint8_t c = static_cast<uint8_t>(erased.front());
  if (L(ECHOPRT)) {
    // As on paper: what is erased is printed again.
    if (!erasing_) EchoRaw('\\');
    erasing_ = true;
    Echo(c);
    for (const char more : erased.substr(1)) {
      EchoRaw(static_cast<uint8_t>(more));
      EchoOperation(kStepBack);
    }
  } else if (one && !L(ECHOE)) {
    Echo(t_.cc[VERASE]);
  } else if (c == '\t') {
    EchoEraseTab();
  } else {
    for (int columns = !IsControl(c) ? 1 : L(ECHOCTL) ? 2 : 0; columns > 0; columns--) {
      for (const uint8_t shown : {'\b', ' ', '\b'}) EchoRaw(shown);
    }
  }
}

}  // namespace ringwall
