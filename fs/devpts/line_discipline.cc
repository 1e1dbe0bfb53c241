#include "fs/devpts/line_discipline.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "fs/devpts/terminal_characters.h"

namespace ringwall {

namespace {

// iterate_tty_read() asks for pieces of this size, which end where the buffer begins anew.
constexpr size_t kPiece = 64;

// How many bytes the piece has that begins `at` bytes after the buffer's place `tail`, of `want`.
size_t PieceLength(size_t at, size_t want, size_t tail) {
  return std::min({kPiece, want - at, LineDiscipline::kRoom - (tail + at) % LineDiscipline::kRoom});
}

// The piece that a fault keeps from arriving is lost.
size_t TakenByRead(const Result<size_t>& put, size_t want, size_t tail) {
  const size_t arrived = put.ok() ? *put : 0;
  if (arrived == want) return want;
  size_t taken = 0;
  while (taken <= arrived && taken < want) taken += PieceLength(taken, want, tail);
  return taken;
}

size_t LastPieceLength(size_t want, size_t tail) {
  size_t at = 0, last = 0;
  for (; at < want; at += last) last = PieceLength(at, want, tail);
  return last;
}

}  // namespace

bool LineDiscipline::lines() const { return canonical() && !L(kExtProc); }

void LineDiscipline::SetTermios(const TtyTermios& t) {
  const TtyTermios old = t_;
  t_ = t;
  // A pseudo-terminal has eight bits and no parity (pty_set_termios).
  t_.cflag = (t_.cflag & ~uint32_t{CSIZE | PARENB}) | CS8 | CREAD;
  if (((old.lflag ^ t.lflag) & (ICANON | kExtProc)) != 0) {
    // What was typed stays: as bytes, or as one line.
    std::fill(ends_.begin(), ends_.end(), '\0');
    whole_ = 0;
    if (canonical() && !typed_.empty()) ends_.back() = 1, whole_ = typed_.size();
    erasing_ = literal_ = false;
  }
  if (!I(IXON) && (old.iflag & IXON) != 0 && !held_) {
    Start();
    RetryEchoes();
    ReceiveShown();
  }
}

void LineDiscipline::ResetInput() {
  typed_.clear();
  ends_.clear();
  whole_ = typed_tail_ = seen_ahead_ = 0;
  erasing_ = false;
}

void LineDiscipline::FlushInput(bool on_its_way, std::vector<int>* signals) {
  if (on_its_way) input_.Flush();
  ResetInput();
  Tell(TIOCPKT_FLUSHREAD);
  Receive(signals);
}

void LineDiscipline::HangUp() {
  ResetInput();
  input_.Flush();
  output_.Flush();
  ClearEchoes();
  t_ = Defaults();
  column_ = line_column_ = packet_status_ = 0;
  literal_ = open_ = false;
}

void LineDiscipline::set_held(bool on) {
  if (held_ == on) return;
  if (!on) held_ = false;
  on ? Stop() : Start();
  held_ = on;
}

void LineDiscipline::set_packet(bool on) {
  if (on && !packet_) packet_status_ = 0;
  packet_ = on;
}

void LineDiscipline::Start() {
  if (!stopped_ || held_) return;
  stopped_ = false;
  Tell(TIOCPKT_START, TIOCPKT_STOP);
}

void LineDiscipline::Stop() {
  if (stopped_) return;
  stopped_ = true;
  Tell(TIOCPKT_STOP, TIOCPKT_START);
}

// eraser(): VERASE, VWERASE or VKILL was typed.
void LineDiscipline::Erase(uint8_t which) {
  if (typed_.size() == whole_) return;
  const bool one = Is(which, VERASE), word = !one && Is(which, VWERASE);
  if (!one && !word && (!L(ECHO) || !L(ECHOK) || !L(ECHOKE) || !L(ECHOE))) {
    Truncate(whole_);
    if (!L(ECHO)) return;
    FinishErasing();
    Echo(t_.cc[VKILL]);
    if (L(ECHOK)) EchoRaw('\n');
    return;
  }
  bool seen = false;
  while (typed_.size() > whole_) {
    size_t head = typed_.size();
    uint8_t c = 0;
    do {
      c = static_cast<uint8_t>(typed_[--head]);
    } while (IsContinuation(c) && head > whole_);
    if (IsContinuation(c)) break;  // no part of a character
    if (word && !IsWord(c) && seen) break;
    seen = seen || IsWord(c);
    const std::string erased = typed_.substr(head);
    Truncate(head);
    if (L(ECHO)) EchoErased(erased, one);
    if (one) break;
  }
  if (typed_.size() == whole_ && L(ECHO)) FinishErasing();
}

bool LineDiscipline::InputSignal(uint8_t c, std::vector<int>* signals) {
  int signo = 0;
  if (Is(c, VINTR)) signo = SIGINT;
  else if (Is(c, VQUIT)) signo = SIGQUIT;
  else if (Is(c, VSUSP)) signo = SIGTSTP;
  if (signo == 0) return false;
  signals->push_back(signo);
  if (!L(NOFLSH)) {
    ClearEchoes();
    FlushOutput();
    ResetInput();
    Tell(TIOCPKT_FLUSHREAD);
  }
  if (I(IXON)) Start();
  if (L(ECHO)) {
    Echo(c);
    CommitEchoes();
  } else {
    RetryEchoes();
  }
  return true;
}

void LineDiscipline::Truncate(size_t n) {
  typed_.resize(n);
  ends_.resize(n);
}

void LineDiscipline::Keep(uint8_t c, bool end) {
  typed_.push_back(static_cast<char>(c));
  ends_.push_back(end ? 1 : 0);
  if (end) whole_ = typed_.size();
}

void LineDiscipline::Store(uint8_t c) {
  // Twice, so that the byte cannot be taken for the mark of an error.
  if (I(PARMRK) && c == 0xff) Keep(c, false);
  Keep(c, false);
}

// n_tty_receive_char_canon(). False: an ordinary byte.
bool LineDiscipline::InputCanonical(uint8_t c) {
  if (Is(c, VERASE) || Is(c, VKILL) || (L(IEXTEN) && Is(c, VWERASE))) {
    Erase(c);
    CommitEchoes();
    return true;
  }
  if (L(IEXTEN) && Is(c, VLNEXT)) {
    literal_ = true;
    if (L(ECHO)) {
      FinishErasing();
      if (L(ECHOCTL)) {
        EchoRaw('^');
        EchoRaw('\b');
        CommitEchoes();
      }
    }
    return true;
  }
  if (L(IEXTEN) && L(ECHO) && Is(c, VREPRINT)) {
    FinishErasing();
    Echo(c);
    EchoRaw('\n');
    for (size_t i = whole_; i < typed_.size(); i++) Echo(static_cast<uint8_t>(typed_[i]));
    CommitEchoes();
    return true;
  }
  if (c == '\n') {
    if (L(ECHO) || L(ECHONL)) {
      EchoRaw('\n');
      CommitEchoes();
    }
    Keep(c, true);
    return true;
  }
  if (Is(c, VEOF)) {
    Keep(0, true);
    return true;
  }
  if (Is(c, VEOL) || (L(IEXTEN) && Is(c, VEOL2))) {
    if (L(ECHO)) {
      if (whole_ == typed_.size()) EchoOperation(kMarkColumn);
      Echo(c);
      CommitEchoes();
    }
    if (I(PARMRK) && c == 0xff) Keep(c, false);
    Keep(c, true);
    return true;
  }
  return false;
}

// XON and XOFF. done_ahead: what they ask for was done when they were seen from afar.
bool LineDiscipline::InputFlow(uint8_t c, bool done_ahead) {
  if (c != t_.cc[VSTART] && c != t_.cc[VSTOP]) return false;
  if (done_ahead) return true;
  if (c == t_.cc[VSTART]) {
    Start();
    RetryEchoes();
  } else {
    Stop();
  }
  return true;
}

// n_tty_receive_char_special() and n_tty_receive_char().
void LineDiscipline::InputByte(uint8_t c, bool done_ahead, std::vector<int>* signals) {
  if (I(ISTRIP)) c &= 0x7f;
  if (I(IUCLC) && L(IEXTEN)) c = ToLower(c);
  const bool literal = std::exchange(literal_, false);
  if (!literal && L(kExtProc)) return Keep(c, false);
  if (!literal && c != 0 && I(IXON) && InputFlow(c, done_ahead)) return;
  if (!literal && L(ISIG) && InputSignal(c, signals)) return;
  if (stopped_ && !held_ && I(IXON) && I(IXANY)) {
    Start();
    RetryEchoes();
  }
  const uint8_t typed = c;
  if (!literal) {
    if (c == '\r') {
      if (I(IGNCR)) return;
      if (I(ICRNL)) c = '\n';
    } else if (c == '\n' && I(INLCR)) {
      c = '\r';
    }
    if (canonical() && InputCanonical(c)) return;
  }
  if (L(ECHO)) {
    // What became a line's end on its way is shown as one, what was one as itself.
    if (c == '\n' && typed == '\r') {
      FinishErasing();
      EchoRaw('\n');
    } else {
      EchoTyped(c);
    }
    CommitEchoes();
  }
  Store(c);
}

// What has passed by stopped input before is not looked at again.
void LineDiscipline::ReceiveBatch(std::string_view bytes, std::vector<int>* signals) {
  for (const char c : bytes) {
    InputByte(static_cast<uint8_t>(c), seen_ahead_ > 0, signals);
    if (seen_ahead_ > 0) seen_ahead_--;
  }
  FlushEchoes();
}

// n_tty_receive_buf_common(). Returns how many bytes were taken.
size_t LineDiscipline::ReceiveSome(std::string_view bytes, std::vector<int>* signals) {
  size_t done = 0;
  for (;;) {
    int room = static_cast<int>(kRoom) - static_cast<int>(typed_.size());
    if (I(PARMRK)) room = (room + 2) / 3;  // a byte may become three
    room--;
    if (room <= 0) {
      // A line that is too long goes on, so that it can be edited, or end: its last byte is not kept.
      if (!canonical() || whole_ != 0) break;
      if (room < 0) Truncate(typed_.size() - 1);
      room = 1;
    }
    const std::string_view batch = bytes.substr(done, static_cast<size_t>(room));
    if (batch.empty()) break;
    ReceiveBatch(batch, signals);
    done += batch.size();
  }
  return done;
}

void LineDiscipline::Receive(std::vector<int>* signals) {
  for (std::string_view front = input_.Front(); open_ && !front.empty(); front = input_.Front()) {
    const size_t n = ReceiveSome(front, signals);
    input_.Consume(n);
    if (n < front.size()) {
      const std::string ahead = input_.LookAhead();
      seen_ahead_ += ahead.size();
      for (const char c : ahead) {
        if (I(IXON)) InputFlow(static_cast<uint8_t>(c), false);
      }
    }
    if (n == 0) break;
  }
  ReceiveShown();
}

void LineDiscipline::ReceiveShown() {
  for (std::string_view front = output_.Front(); !front.empty(); front = output_.Front()) {
    const size_t n = std::min(front.size(), kRoom - 1 - std::min(kRoom - 1, shown_.size()));
    shown_ += front.substr(0, n);
    output_.Consume(n);
    if (n == 0) break;
  }
}

size_t LineDiscipline::Input(std::span<const std::byte> bytes, std::vector<int>* signals) {
  const size_t n = input_.Insert(AsText(bytes));
  Receive(signals);
  return n;
}

void LineDiscipline::InputAtOnce(uint8_t c, std::vector<int>* signals) {
  const char byte = static_cast<char>(c);
  ReceiveSome(std::string_view(&byte, 1), signals);
  Receive(signals);
}

bool LineDiscipline::InputReady() const {
  if (lines()) return whole_ != 0;
  const size_t min = t_.cc[VTIME] == 0 && t_.cc[VMIN] != 0 ? t_.cc[VMIN] : 1;
  return typed_.size() >= min;
}

size_t LineDiscipline::readable_bytes() const {
  if (!lines()) return typed_.size();
  size_t n = whole_;
  // Of a full buffer Linux counts all.
  for (size_t i = 0; i < whole_ && whole_ != kRoom; i++) n -= IsEndOfFile(i) ? 1 : 0;
  return n;
}

// The mark that VEOF leaves.
bool LineDiscipline::IsEndOfFile(size_t i) const { return ends_[i] != 0 && typed_[i] == 0; }

Result<size_t> LineDiscipline::Read(IoDst& dst, bool any, std::vector<int>* signals) {
  size_t want = std::min(dst.remaining(), typed_.size());
  size_t marks = 0;  // taken but not read
  if (lines()) {
    if (whole_ == 0) return Errno(EAGAIN);
    want = std::min(want, whole_);
    const size_t end = ends_.find('\1');
    if (end != std::string::npos && end <= want) {
      marks = IsEndOfFile(end) ? 1 : 0;
      want = std::min(want, end + 1 - marks);
    }
  } else if (canonical()) {
    if (want == 0) return Errno(EAGAIN);
    // EXTPROC: an end of file that comes alone, as what is left, reads as one.
    if (want == typed_.size() && LastPieceLength(want, typed_tail_) == 1 &&
        static_cast<uint8_t>(typed_.back()) == t_.cc[VEOF]) {
      want--, marks = 1;
    }
  } else if (t_.cc[VMIN] == 0) {
    // With a time, the caller waits that long for a first byte.
    if (want == 0 && t_.cc[VTIME] != 0) return Errno(EAGAIN);
  } else {
    // A minimum beyond the first piece is never reached, so that this piece is all.
    const size_t first = std::min(dst.remaining(), kPiece);
    const size_t min = t_.cc[VMIN];
    if (min > first) want = std::min(want, first);
    if (want < (t_.cc[VTIME] == 0 && !any ? std::min(min, first) : 1)) return Errno(EAGAIN);
  }
  Result<size_t> put = size_t{0};
  if (want > 0) {
    put = dst.Put(std::as_bytes(std::span(typed_.data(), want)));
    // Of lines a piece goes on at the buffer's begin.
    const size_t taken = TakenByRead(put, want, lines() ? 0 : typed_tail_);
    if (taken < want) marks = 0;
    want = taken;
  }
  want += marks;
  typed_tail_ = (typed_tail_ + want) % kRoom;
  typed_.erase(0, want);
  ends_.erase(0, want);
  whole_ -= std::min(whole_, want);
  Receive(signals);
  return put;
}

Result<size_t> LineDiscipline::ReadOutput(IoDst& dst) {
  if (shown_.empty()) return Errno(EAGAIN);
  const size_t want = std::min(dst.remaining(), shown_.size());
  Result<size_t> put = dst.Put(std::as_bytes(std::span(shown_.data(), want)));
  const size_t taken = TakenByRead(put, want, shown_tail_);
  shown_.erase(0, taken);
  shown_tail_ = (shown_tail_ + taken) % kRoom;
  ReceiveShown();
  return put;
}

}  // namespace ringwall
