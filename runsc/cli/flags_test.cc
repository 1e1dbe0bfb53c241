#include "runsc/cli/flags.h"

#include <gtest/gtest.h>

#include "runsc/cli/config.h"

namespace ringwall {
namespace {

class FlagsTest : public testing::Test {
 protected:
  FlagsTest() {
    flags_.Bool("detach,d", &detach_, "a bool");
    flags_.String("bundle,b", &bundle_, "DIR", "a string");
    flags_.List("env,e", &env_, "NAME=VALUE", "a list");
    flags_.Int("count", &count_, "N", "a number");
    flags_.Ignored("no-pivot", false);
    flags_.Ignored("criu", true);
  }
  HostResult<std::vector<std::string>> Parse(const std::vector<std::string>& args,
                                             bool stop = false) {
    return ParseFlags({&flags_}, args, stop);
  }
  FlagSet flags_;
  bool detach_ = false;
  std::string bundle_;
  std::vector<std::string> env_;
  int64_t count_ = 0;
};

TEST_F(FlagsTest, OneDashOrTwoAndBothFormsOfValue) {
  auto rest = Parse({"-bundle", "a", "--detach", "-e=X=1", "--env", "Y=2", "--count=0x10", "id"});
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(*rest, std::vector<std::string>{"id"});
  EXPECT_EQ(bundle_, "a");
  EXPECT_TRUE(detach_);
  EXPECT_EQ(env_, (std::vector<std::string>{"X=1", "Y=2"}));
  EXPECT_EQ(count_, 16);
}

TEST_F(FlagsTest, BoolTakesItsValueOnlyAfterEquals) {
  auto rest = Parse({"--detach", "false"});
  ASSERT_TRUE(rest.ok());
  EXPECT_TRUE(detach_);
  EXPECT_EQ(rest->size(), 1u);
  ASSERT_TRUE(Parse({"--detach=false"}).ok());
  EXPECT_FALSE(detach_);
  EXPECT_FALSE(Parse({"--detach=perhaps"}).ok());
}

TEST_F(FlagsTest, StopsAtTheProgramAndAtTwoDashes) {
  auto rest = Parse({"-d", "prog", "-d", "--unknown"}, true);
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(*rest, (std::vector<std::string>{"prog", "-d", "--unknown"}));
  rest = Parse({"--", "-d"}, false);
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(*rest, std::vector<std::string>{"-d"});
}

TEST_F(FlagsTest, ErrorsNameTheFlag) {
  EXPECT_NE(Parse({"--bundle"}).error().message().find("--bundle needs a value"),
            std::string::npos);
  EXPECT_NE(Parse({"--bundel", "x"}).error().message().find("did you mean --bundle"),
            std::string::npos);
  EXPECT_NE(Parse({"--count", "many"}).error().message().find("whole number"), std::string::npos);
  EXPECT_FALSE(Parse({"--count="}).ok());
}

TEST_F(FlagsTest, FlagsOfOtherRuntimesAreTakenAndNoted) {
  FlagSet::IgnoredFlagsSeen().clear();
  auto rest = Parse({"--no-pivot", "--criu", "/bin/criu", "id"});
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(*rest, std::vector<std::string>{"id"});
  EXPECT_EQ(FlagSet::IgnoredFlagsSeen().size(), 2u);
  EXPECT_EQ(flags_.Help().find("criu"), std::string::npos);
}

TEST_F(FlagsTest, DashAloneIsAnArgument) {
  auto rest = Parse({"-", ""});
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(rest->size(), 2u);
}

TEST(NearestTest, FindsSlipsAndNothingFar) {
  EXPECT_EQ(Nearest("strat", {"start", "state", "delete"}), "start");
  EXPECT_EQ(Nearest("xyzzy", {"start", "state"}), "");
}

TEST(ConfigTest, SizesHaveUnitsAndLimits) {
  EXPECT_EQ(*ParseSize("4096"), 4096u);
  EXPECT_EQ(*ParseSize("64k"), 65536u);
  EXPECT_EQ(*ParseSize("2g"), 2ull << 30);
  for (const char* bad : {"", "k", "-1", "1q", "99999999999g", "0x10"}) {
    EXPECT_FALSE(ParseSize(bad).ok()) << bad;
  }
}

TEST(ConfigTest, OverlayGrammar) {
  EXPECT_FALSE(ParseOverlay2("none")->root);
  const OverlayConfig root = *ParseOverlay2("root:memory,size=2g");
  EXPECT_TRUE(root.root);
  EXPECT_FALSE(root.all);
  EXPECT_EQ(root.mode, OverlayMode::kMemory);
  EXPECT_EQ(root.size, 2ull << 30);
  const OverlayConfig all = *ParseOverlay2("all:dir=/var/tmp");
  EXPECT_TRUE(all.all);
  EXPECT_EQ(all.mode, OverlayMode::kDisk);
  EXPECT_EQ(all.dir, "/var/tmp");
  for (const char* bad : {"", "root", "root:", "all:dir=relative", "some:memory", "root:memory,x=1"}) {
    EXPECT_FALSE(ParseOverlay2(bad).ok()) << bad;
  }
}

TEST(ConfigTest, UnknownChoicesAreNamed) {
  Config config;
  config.platform = "kvm";
  EXPECT_NE(config.Finish(true).error().message().find("systrap, ptrace, auto"), std::string::npos);
}

// Every one of gVisor's flags of 2026 is taken, with one dash and two.
TEST(ConfigFlagsTest, TakesTheFlagsOfOtherRuntimes) {
  for (const char* dashes : {"-", "--"}) {
    for (const char* flag :
         {"allow-packet-socket-write", "allow-suid=true", "fdlimit=100", "net-raw=false",
          "host-uds=all", "host-fifo=open", "watchdog-action=panic", "TESTONLY-nftables",
          "TESTONLY-test-name-env=X", "TESTONLY-of-tomorrow=x", "iouring", "dcache=-1",
          "systrap-disable-syscall-patching", "buffer-pooling=false", "panic-log-fd=3",
          "platform_device_path=/dev/kvm", "traceback=all", "profile-gc-interval=5s",
          "EXPERIMENTAL-xdp=off", "directfs=false", "overlay", "cgroupfs", "log-packets"}) {
      Config config;
      const FlagSet flags = config.Flags();
      auto rest = ParseFlags({&flags}, {std::string(dashes) + flag, "list"}, false);
      ASSERT_TRUE(rest.ok()) << flag;
      EXPECT_EQ(*rest, std::vector<std::string>{"list"}) << flag;
    }
  }
}

TEST(ConfigFlagsTest, DebugCommandsMayBeListedOrExcepted) {
  Config config;
  EXPECT_TRUE(config.DebugsCommand("run"));
  config.debug_command = "create,start";
  EXPECT_TRUE(config.DebugsCommand("start"));
  EXPECT_FALSE(config.DebugsCommand("run"));
  config.debug_command = "!run,events";
  EXPECT_TRUE(config.DebugsCommand("start"));
  EXPECT_FALSE(config.DebugsCommand("run"));
}

}  // namespace
}  // namespace ringwall
