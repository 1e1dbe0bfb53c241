#include "fs/devpts/line_discipline.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <string>

namespace ringwall {
namespace {

class LineDisciplineTest : public ::testing::Test {
 protected:
  void Type(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    EXPECT_EQ(line_.Input(bytes, &signals_), text.size());
  }
  void Print(std::string_view text) { line_.Output(std::as_bytes(std::span(text))); }
  std::string Read(size_t most = 4096) {
    std::string s(most, '\0');
    SpanDst dst(std::as_writable_bytes(std::span(s)));
    const Result<size_t> n = line_.Read(dst, false, &signals_);
    if (!n.ok()) return "!";
    s.resize(*n);
    return s;
  }
  std::string Screen() {
    std::string s(8192, '\0');
    SpanDst dst(std::as_writable_bytes(std::span(s)));
    const Result<size_t> n = line_.ReadOutput(dst);
    if (!n.ok()) return "";
    s.resize(*n);
    return s;
  }
  void Change(uint32_t lflag_on, uint32_t lflag_off) {
    TtyTermios t = line_.termios();
    t.lflag = (t.lflag | lflag_on) & ~lflag_off;
    line_.SetTermios(t);
  }
  LineDiscipline line_;
  std::vector<int> signals_;
};

TEST_F(LineDisciplineTest, LinesComeWhole) {
  Type("one\ntw");
  EXPECT_TRUE(line_.InputReady());
  EXPECT_EQ(line_.readable_bytes(), 4u);
  EXPECT_EQ(Read(2), "on");
  EXPECT_EQ(Read(), "e\n");
  EXPECT_FALSE(line_.InputReady());
  EXPECT_EQ(Read(), "!");
  Type("o\r");
  EXPECT_EQ(Read(), "two\n");
  EXPECT_EQ(Screen(), "one\r\ntwo\r\n");
}

TEST_F(LineDisciplineTest, EndOfFileIsAnEmptyRead) {
  Type("\004");
  EXPECT_EQ(Read(), "");
  EXPECT_EQ(Read(), "!");
}

TEST_F(LineDisciplineTest, SignalsFlushUnlessToldNotTo) {
  Type("abc\003");
  EXPECT_EQ(signals_, std::vector<int>{SIGINT});
  Type("d\n");
  EXPECT_EQ(Read(), "d\n");
  Change(NOFLSH, 0);
  Type("ab\032c\n");
  EXPECT_EQ(signals_.back(), SIGTSTP);
  EXPECT_EQ(Read(), "abc\n");
}

TEST_F(LineDisciplineTest, ErasePrintsOnPaper) {
  Change(ECHOPRT, 0);
  Type("ab\177\177c\n");
  EXPECT_EQ(Screen(), "ab\\ba/c\r\n");
  EXPECT_EQ(Read(), "c\n");
}

TEST_F(LineDisciplineTest, EraseTakesAWholeCharacterOfUtf8) {
  TtyTermios t = line_.termios();
  t.iflag |= IUTF8;
  line_.SetTermios(t);
  Type("a\xc3\xa4\177\n");
  EXPECT_EQ(Read(), "a\n");
}

TEST_F(LineDisciplineTest, InputIsBounded) {
  const std::string much(3 * LineDiscipline::kRoom, 'x');
  // A line that is too long goes on, and only what ends it is kept.
  for (int i = 0; i < 10; i++) Type(std::string(1000, 'x'));
  EXPECT_EQ(line_.readable_bytes(), 0u);
  Type("\n");
  EXPECT_EQ(Read(2 * LineDiscipline::kRoom).size(), LineDiscipline::kRoom);
  Change(0, ICANON | ECHO);
  size_t taken = 0, all = 0;
  do {
    taken = line_.Input(std::as_bytes(std::span(much).first(2048)), &signals_);
    all += taken;
  } while (taken != 0);
  EXPECT_FALSE(line_.InputHasRoom());
  EXPECT_EQ(line_.readable_bytes(), LineDiscipline::kRoom - 1);
  // What lies before the line discipline comes as soon as there is room.
  EXPECT_GT(all, LineDiscipline::kRoom + FlipBuffer::kLimit);
  size_t got = 0;
  while (line_.InputReady()) got += Read(1000).size();
  EXPECT_EQ(got, all);
  EXPECT_TRUE(line_.InputHasRoom());
}

TEST_F(LineDisciplineTest, EchoWaitsWhileOutputIsStopped) {
  Type("\023a\377\001\177");
  EXPECT_EQ(Screen(), "");
  Type("\021");
  EXPECT_EQ(Screen(), "a\377^A\b \b\b \b");
}

TEST_F(LineDisciplineTest, StopIsSeenAheadOfWhatHasNoRoom) {
  Change(0, ICANON | ECHO);
  for (int i = 0; i < 5; i++) Type(std::string(1000, 'x'));
  Type("\023");
  EXPECT_TRUE(line_.stopped());
  while (line_.InputReady()) EXPECT_EQ(Read(1000).find('\023'), std::string::npos);
  EXPECT_TRUE(line_.stopped());
}

TEST_F(LineDisciplineTest, PacketModeTellsOfStopsAndFlushes) {
  line_.set_packet(true);
  Type("\023");
  EXPECT_EQ(line_.TakePacketStatus(), TIOCPKT_STOP);
  Type("\003");
  EXPECT_EQ(line_.TakePacketStatus(), TIOCPKT_START | TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE);
  EXPECT_EQ(line_.packet_status(), 0);
}

TEST_F(LineDisciplineTest, StoppedOutputWaits) {
  Type("\023");
  EXPECT_TRUE(line_.stopped());
  EXPECT_FALSE(line_.OutputHasRoom());
  Print("x");
  EXPECT_EQ(Screen(), "");
  Type("\021");
  Print("x");
  EXPECT_EQ(Screen(), "x");
}

}  // namespace
}  // namespace ringwall
