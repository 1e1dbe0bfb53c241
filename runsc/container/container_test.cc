// The parts of runsc/container that need no sandbox.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>

#include "runsc/container/cgroup.h"
#include "runsc/container/convert.h"
#include "runsc/container/files.h"
#include "runsc/container/json.h"
#include "runsc/sandbox/caller.h"
#include "runsc/sandbox/signal_name.h"

namespace ringwall {
namespace {

TEST(MountOptionsTest, FlagsDataAndPropagationAreTakenApart) {
  const MountOptions options =
      ParseMountOptions({"nosuid", "noexec", "suid", "rbind", "rslave", "mode=755", "size=64k"});
  EXPECT_EQ(options.flags, static_cast<uint64_t>(MS_NOEXEC));
  EXPECT_EQ(options.propagation, static_cast<uint64_t>(MS_SLAVE | MS_REC));
  EXPECT_TRUE(options.bind && options.recursive);
  EXPECT_EQ(options.data, "mode=755,size=64k");
}

TEST(JsonTest, EscapesWhatMustBe) {
  EXPECT_EQ(JsonString("a\"\\\n\x01z"), "\"a\\\"\\\\\\u000a\\u0001z\"");
  JsonObject object;
  object.Add("a", "b");
  object.AddNumber("n", -1);
  EXPECT_EQ(object.Text(), "{\"a\":\"b\",\"n\":-1}");
}

TEST(FilesTest, AtomicWriteReplaces) {
  char directory[] = "/tmp/runsc-files-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string deep = std::string(directory) + "/a/b";
  ASSERT_TRUE(MakeDirectories(deep, 0755).ok());
  ASSERT_TRUE(WriteFileAtomically(deep + "/f", "one").ok());
  ASSERT_TRUE(WriteFileAtomically(deep + "/f", "two").ok());
  EXPECT_EQ(*ReadFileText(deep + "/f"), "two");
  EXPECT_FALSE(std::filesystem::exists(deep + "/f.new"));
  std::filesystem::remove_all(directory);
}

TEST(FilesTest, ProcessStartTimeTellsProcessesApart) {
  EXPECT_TRUE(ProcessStartTime(getpid()).has_value());
  EXPECT_EQ(ProcessStartTime(getpid()), ProcessStartTime(getpid()));
  EXPECT_FALSE(ProcessStartTime(1 << 30).has_value());
}

TEST(FilesTest, TimesAreRfc3339) {
  EXPECT_EQ(FormatTime(1'700'000'000'123'456'789), "2023-11-14T22:13:20.123456789Z");
}

TEST(CgroupTest, PathsStayBelowTheTop) {
  EXPECT_EQ(CgroupPath("", "id"), "/id");
  EXPECT_EQ(CgroupPath("/a//b/", "id"), "/a/b");
  EXPECT_EQ(CgroupPath("../../x", "id"), "/x");
  EXPECT_EQ(CgroupPath("system.slice:docker:abc", "id"), "/system.slice/docker-abc.scope");
}

TEST(SignalNameTest, NamesAndNumbers) {
  for (const char* name : {"TERM", "SIGTERM", "sigterm", "15"}) EXPECT_EQ(SignalByName(name), 15);
  EXPECT_EQ(SignalByName("RTMIN"), 34);
  EXPECT_EQ(SignalByName("SIGRTMAX-1"), 63);
  EXPECT_EQ(SignalByName("0"), 0);
  for (const char* bad : {"", "65", "-1", "SIGNOTHING", "RTMIN+x", "15x"}) {
    EXPECT_EQ(SignalByName(bad), -1) << bad;
  }
}

TEST(CallerTest, UlimitsAndVariables) {
  const BootRlimit limit = *ParseUlimit("nofile=10:20");
  EXPECT_EQ(limit.soft, 10u);
  EXPECT_EQ(limit.hard, 20u);
  EXPECT_EQ(ParseUlimit("core=unlimited")->hard, UINT64_MAX);
  for (const char* bad : {"nofile", "nofile=", "what=1", "nofile=20:10", "nofile=1:2:3"}) {
    EXPECT_FALSE(ParseUlimit(bad).ok()) << bad;
  }
  std::vector<std::string> envp = {"A=1", "AB=2"};
  SetVariable(envp, "A=3");
  SetVariable(envp, "C=4");
  EXPECT_EQ(envp, (std::vector<std::string>{"A=3", "AB=2", "C=4"}));
}

TEST(SeccompTest, CompilesToClassicBpf) {
  oci::Seccomp seccomp;
  seccomp.set_default_action("SCMP_ACT_ERRNO");
  oci::SeccompCall* call = seccomp.add_syscalls();
  call->set_action("SCMP_ACT_ALLOW");
  call->add_names("read");
  call->add_names("no_such_call");
  BootProcess process;
  std::vector<std::string> warnings;
  ASSERT_TRUE(CompileSeccomp(seccomp, &process, &warnings).ok());
  EXPECT_GT(process.seccomp_program.size(), 4 * sizeof(sock_filter));
  EXPECT_EQ(process.seccomp_program.size() % sizeof(sock_filter), 0u);
}

TEST(SeccompTest, WhatCannotBeIsAnErrorByName) {
  oci::Seccomp seccomp;
  seccomp.set_default_action("SCMP_ACT_ALLOW");
  oci::SeccompCall* call = seccomp.add_syscalls();
  call->set_action("SCMP_ACT_NOTIFY");
  call->add_names("read");
  BootProcess process;
  std::vector<std::string> warnings;
  HostResult<void> result = CompileSeccomp(seccomp, &process, &warnings);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("linux.seccomp.syscalls[0].action"), std::string::npos);
}

}  // namespace
}  // namespace ringwall
