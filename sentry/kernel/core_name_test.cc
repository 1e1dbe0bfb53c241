#include <gtest/gtest.h>

#include "sentry/kernel/core_dump.h"

namespace ringwall {
namespace {

CoreNameFacts Facts() {
  CoreNameFacts f;
  f.pid = 7, f.tid = 8, f.first_pid = 70, f.first_tid = 80;
  f.uid = 1000, f.gid = 100;
  f.signo = 11, f.time = 123456, f.limit = 4096;
  f.hostname = "box/1";
  f.comm = "a b";
  f.executable = "/usr/bin/prog";
  return f;
}

std::string FileOf(std::string_view pattern, bool uses_pid = false) {
  const std::optional<CoreName> name = FormatCoreName(pattern, uses_pid, Facts());
  return name && !name->pipe ? name->file : "none";
}

TEST(CoreNameTest, FillsInWhatPercentSignsMean) {
  EXPECT_EQ(FileOf("core"), "core");
  EXPECT_EQ(FileOf("/var/%p.%i.%P.%I"), "/var/7.8.70.80");
  EXPECT_EQ(FileOf("%u-%g-%d-%s-%t-%c"), "1000-100-1-11-123456-4096");
  EXPECT_EQ(FileOf("%e,%f,%E,%h"), "a b,prog,!usr!bin!prog,box!1");
  EXPECT_EQ(FileOf("100%%"), "100%");
}

TEST(CoreNameTest, DropsWhatMeansNothing) {
  EXPECT_EQ(FileOf("a%Qb"), "ab");
  EXPECT_EQ(FileOf("core%"), "core");
  EXPECT_EQ(FileOf(""), "");
}

TEST(CoreNameTest, AddsThePidOnceWhereAskedTo) {
  EXPECT_EQ(FileOf("core", true), "core.7");
  EXPECT_EQ(FileOf("core.%p", true), "core.7");
  EXPECT_EQ(FileOf("core.%i", true), "core.8.7");
}

TEST(CoreNameTest, NamesOfProcessesLeadNowhere) {
  CoreNameFacts f = Facts();
  f.comm = "..";
  EXPECT_EQ(FormatCoreName("%e/x", false, f)->file, "!./x");
  f.comm = "";
  EXPECT_EQ(FormatCoreName("/a/%e/b", false, f)->file, "/a/!/b");
  f.comm = ".";
  EXPECT_EQ(FormatCoreName("%e", false, f)->file, "!");
  f.comm = "../../etc/passwd";
  EXPECT_EQ(FormatCoreName("%e", false, f)->file, "..!..!etc!passwd");
  f.executable.reset();
  f.comm = "gone";
  EXPECT_EQ(FormatCoreName("%E", false, f)->file, "gone (path unknown)");
}

TEST(CoreNameTest, WordsOfAProgramAreThePatterns) {
  const std::optional<CoreName> name = FormatCoreName("|/bin/handler  -p %p\t%e", true, Facts());
  ASSERT_TRUE(name && name->pipe);
  EXPECT_EQ(name->argv, (std::vector<std::string>{"/bin/handler", "-p", "7", "a b"}));
  EXPECT_FALSE(FormatCoreName("|", false, Facts()));
  EXPECT_FALSE(FormatCoreName("|  ", false, Facts()));
}

}  // namespace
}  // namespace ringwall
