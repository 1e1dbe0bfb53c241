#include "fs/devpts/line_discipline.h"

#include <errno.h>
#include <signal.h>

#include <algorithm>

namespace ringwall {

namespace {

bool IsContinuation(uint8_t c) { return (c & 0xc0) == 0x80; }
bool IsControl(uint8_t c) { return c < 0x20 || c == 0x7f; }
bool IsWord(uint8_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         c >= 0x80;
}

}  // namespace

void LineDiscipline::SetTermios(const TtyTermios& t) {
  const bool was = canonical();
  t_ = t;
  if (was == canonical()) return;
  // What was typed stays: as bytes, or as one line.
  cooked_ += line_;
  line_.clear();
  lines_.clear();
  if (canonical() && !cooked_.empty()) lines_.push_back(cooked_.size());
}

void LineDiscipline::FlushInput() {
  cooked_.clear();
  lines_.clear();
  line_.clear();
}

void LineDiscipline::Show(uint8_t c) {
  // Echo of a program that never reads its screen does not grow without end.
  if (shown_.size() >= 8 * kOutputRoom) return;
  if (c == '\b') {
    if (column_ > 0) column_--;
  } else if (c == '\r') {
    column_ = 0;
  } else if (c == '\t') {
    column_ = (column_ | 7) + 1;
  } else if (!IsControl(c) && !(I(IUTF8) && IsContinuation(c))) {
    column_++;
  }
  shown_.push_back(static_cast<char>(c));
}

// c_oflag's work on one byte. False: nothing is to be shown.
bool LineDiscipline::ShowTranslated(uint8_t c) {
  if (!O(OPOST)) {
    Show(c);
    return true;
  }
  if (c == '\n') {
    if (O(ONLRET)) column_ = 0;
    if (O(ONLCR)) Show('\r');
  } else if (c == '\r') {
    if (O(ONOCR) && column_ == 0) return false;
    if (O(OCRNL)) {
      c = '\n';
      if (O(ONLRET)) column_ = 0;
    }
  } else if (c == '\t' && (t_.oflag & TABDLY) == TAB3) {
    for (size_t n = 8 - (column_ & 7); n > 0; n--) Show(' ');
    return true;
  } else if (O(OLCUC) && c >= 'a' && c <= 'z') {
    c = static_cast<uint8_t>(c - 'a' + 'A');
  }
  Show(c);
  return true;
}

size_t LineDiscipline::Output(std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size() && OutputHasRoom()) {
    ShowTranslated(static_cast<uint8_t>(bytes[done++]));
  }
  line_column_ = column_;
  return done;
}

void LineDiscipline::EchoControl(uint8_t c) {
  Show('^');
  Show(c ^ 0100);
}

void LineDiscipline::Echo(uint8_t c) {
  if (!L(ECHO)) {
    if (c == '\n' && L(ECHONL) && L(ICANON)) ShowTranslated(c);
    return;
  }
  if (L(ECHOCTL) && IsControl(c) && c != '\t' && c != '\n') {
    EchoControl(c);
  } else {
    ShowTranslated(c);
  }
}

size_t LineDiscipline::ColumnAfter(std::string_view text) const {
  size_t column = line_column_;
  for (const char ch : text) {
    const uint8_t c = static_cast<uint8_t>(ch);
    if (c == '\t') {
      column = (column | 7) + 1;
    } else if (IsControl(c)) {
      column += L(ECHOCTL) ? 2 : 0;
    } else if (!I(IUTF8) || !IsContinuation(c)) {
      column++;
    }
  }
  return column;
}

void LineDiscipline::EraseOne() {
  if (line_.empty()) return;
  const size_t before = ColumnAfter(line_);
  const uint8_t gone = static_cast<uint8_t>(line_.back());
  size_t n = 1;
  if (I(IUTF8)) {
    while (n < line_.size() && IsContinuation(static_cast<uint8_t>(line_[line_.size() - n]))) n++;
  }
  const std::string erased = line_.substr(line_.size() - n);
  line_.resize(line_.size() - n);
  if (!L(ECHO)) return;
  if (L(ECHOPRT)) {
    // As on paper: what is erased is printed again.
    if (!erasing_) ShowTranslated('\\');
    erasing_ = true;
    for (const char ch : erased) Echo(static_cast<uint8_t>(ch));
    return;
  }
  if (!L(ECHOE)) {
    Echo(t_.cc[VERASE]);
    return;
  }
  for (size_t back = before - std::min(before, ColumnAfter(line_)); back > 0; back--) {
    Show('\b');
    if (gone == '\t') continue;
    Show(' ');
    Show('\b');
  }
}

void LineDiscipline::FinishErasing() {
  if (erasing_) ShowTranslated('/');
  erasing_ = false;
}

void LineDiscipline::EraseWord() {
  while (!line_.empty() && !IsWord(static_cast<uint8_t>(line_.back()))) EraseOne();
  while (!line_.empty() && IsWord(static_cast<uint8_t>(line_.back()))) EraseOne();
}

void LineDiscipline::Kill() {
  if (L(ECHO) && L(ECHOKE) && L(ECHOE) && L(ECHOK)) {
    while (!line_.empty()) EraseOne();
    return;
  }
  line_.clear();
  Echo(t_.cc[VKILL]);
  if (L(ECHO) && L(ECHOK)) ShowTranslated('\n');
}

bool LineDiscipline::InputSignal(uint8_t c, std::vector<int>* signals) {
  int signo = 0;
  if (Is(c, VINTR)) signo = SIGINT;
  if (Is(c, VQUIT)) signo = SIGQUIT;
  if (Is(c, VSUSP)) signo = SIGTSTP;
  if (signo == 0) return false;
  signals->push_back(signo);
  if (!L(NOFLSH)) {
    FlushInput();
    FlushOutput();
  }
  if (I(IXON)) stopped_ = false;
  Echo(c);
  return true;
}

void LineDiscipline::Store(uint8_t c) {
  // One place is kept for what ends the line.
  if (input_size() >= kInputRoom) {
    if (I(IMAXBEL)) Show('\a');
    return;
  }
  if (canonical()) {
    FinishErasing();
    if (line_.empty()) line_column_ = column_;
    Echo(c);
    line_.push_back(static_cast<char>(c));
  } else {
    Echo(c);
    cooked_.push_back(static_cast<char>(c));
  }
}

void LineDiscipline::EndLine(bool with_char, uint8_t c) {
  if (with_char) line_.push_back(static_cast<char>(c));
  lines_.push_back(line_.size());
  cooked_ += line_;
  line_.clear();
}

void LineDiscipline::InputCanonical(uint8_t c) {
  if (Is(c, VERASE)) return EraseOne();
  if (Is(c, VKILL)) return Kill();
  if (L(IEXTEN)) {
    if (Is(c, VWERASE)) return EraseWord();
    if (Is(c, VLNEXT)) {
      literal_ = true;
      if (L(ECHO) && L(ECHOCTL)) {
        Show('^');
        Show('\b');
      }
      return;
    }
    if (Is(c, VREPRINT) && L(ECHO)) {
      Echo(c);
      ShowTranslated('\n');
      const std::string line = line_;
      line_column_ = column_;
      for (const char ch : line) Echo(static_cast<uint8_t>(ch));
      return;
    }
  }
  if (c == '\n') {
    FinishErasing();
    Echo(c);
    return EndLine(true, c);
  }
  if (Is(c, VEOF)) return EndLine(false, 0);
  if (Is(c, VEOL) || (L(IEXTEN) && Is(c, VEOL2))) {
    Echo(c);
    return EndLine(true, c);
  }
  Store(c);
}

void LineDiscipline::InputByte(uint8_t c, std::vector<int>* signals) {
  if (I(ISTRIP)) c &= 0x7f;
  if (literal_) {
    literal_ = false;
    return Store(c);
  }
  if (I(IXON)) {
    if (Is(c, VSTART)) {
      stopped_ = false;
      return;
    }
    if (Is(c, VSTOP)) {
      stopped_ = true;
      return;
    }
    if (stopped_ && I(IXANY)) stopped_ = false;
  }
  if (L(ISIG) && InputSignal(c, signals)) return;
  if (c == '\r') {
    if (I(IGNCR)) return;
    if (I(ICRNL)) c = '\n';
  } else if (c == '\n' && I(INLCR)) {
    c = '\r';
  }
  if (I(IUCLC) && L(IEXTEN) && c >= 'A' && c <= 'Z') c = static_cast<uint8_t>(c - 'A' + 'a');
  if (canonical()) {
    InputCanonical(c);
  } else {
    Store(c);
  }
  // So that the byte cannot be taken for the mark of an error.
  if (I(PARMRK) && c == 0xff) Store(c);
}

size_t LineDiscipline::Input(std::span<const std::byte> bytes, std::vector<int>* signals) {
  size_t done = 0;
  while (done < bytes.size() && InputHasRoom()) {
    InputByte(static_cast<uint8_t>(bytes[done++]), signals);
  }
  return done;
}

bool LineDiscipline::InputReady() const {
  if (canonical()) return !lines_.empty();
  const size_t min = t_.cc[VTIME] == 0 && t_.cc[VMIN] != 0 ? t_.cc[VMIN] : 1;
  return cooked_.size() >= min;
}

namespace {

// A read moves pieces of 64 bytes through a buffer (iterate_tty_read); the piece that ran into a fault is
// lost with what of it had not arrived.
size_t TakenByRead(const Result<size_t>& put, size_t want) {
  constexpr size_t kPiece = 64;
  const size_t arrived = put.ok() ? *put : 0;
  return arrived == want ? want : std::min(want, (arrived / kPiece + 1) * kPiece);
}

}  // namespace

size_t LineDiscipline::readable_bytes() const {
  return canonical() && lines_.empty() ? 0 : cooked_.size();
}

Result<size_t> LineDiscipline::Read(IoDst& dst, bool any) {
  size_t want = std::min(dst.remaining(), cooked_.size());
  if (canonical()) {
    if (lines_.empty()) return Errno(EAGAIN);
    want = std::min(want, lines_.front());
  } else if (t_.cc[VMIN] == 0) {
    // With a time, the caller waits that long for a first byte.
    if (want == 0 && t_.cc[VTIME] != 0 && !any) return Errno(EAGAIN);
  } else {
    const size_t min = t_.cc[VTIME] == 0 && !any ? t_.cc[VMIN] : 1;
    if (want < std::min(min, dst.remaining())) return Errno(EAGAIN);
  }
  Result<size_t> put = size_t{0};
  if (want > 0) {
    put = dst.Put(std::as_bytes(std::span(cooked_.data(), want)));
    want = TakenByRead(put, want);
    cooked_.erase(0, want);
  }
  if (canonical()) {
    lines_.front() -= want;
    if (lines_.front() == 0) lines_.pop_front();
  }
  return put;
}

Result<size_t> LineDiscipline::ReadOutput(IoDst& dst) {
  if (shown_.empty()) return Errno(EAGAIN);
  const size_t want = std::min(dst.remaining(), shown_.size());
  Result<size_t> put = dst.Put(std::as_bytes(std::span(shown_.data(), want)));
  shown_.erase(0, TakenByRead(put, want));
  return put;
}

}  // namespace ringwall
