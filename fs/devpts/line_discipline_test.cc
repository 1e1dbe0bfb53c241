#include "fs/devpts/line_discipline.h"

#include <gtest/gtest.h>
#include <signal.h>

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
    const Result<size_t> n = line_.Read(dst, false);
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
  const std::string much(3 * LineDiscipline::kInputRoom, 'x');
  size_t taken = line_.Input(std::as_bytes(std::span(much)), &signals_);
  EXPECT_LE(taken, much.size());
  Type("\n");
  EXPECT_EQ(Read(2 * LineDiscipline::kInputRoom).size(), LineDiscipline::kInputRoom + 1);
  Change(0, ICANON);
  taken = line_.Input(std::as_bytes(std::span(much)), &signals_);
  EXPECT_EQ(taken, LineDiscipline::kInputRoom);
  EXPECT_FALSE(line_.InputHasRoom());
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
