#include "runsc/spec/spec.h"

#include <gtest/gtest.h>

namespace ringwall {
namespace {

std::string ErrorOf(const std::string& text) {
  std::vector<std::string> warnings;
  HostResult<oci::Spec> spec = ParseSpec(text, "config.json", &warnings);
  return spec.ok() ? "" : spec.error().message();
}

std::string InvalidOf(const std::string& text) {
  std::vector<std::string> warnings;
  HostResult<oci::Spec> spec = ParseSpec(text, "config.json", &warnings);
  if (!spec.ok()) return "parse: " + spec.error().message();
  HostResult<void> valid = ValidateSpec(*spec, &warnings);
  return valid.ok() ? "" : valid.error().message();
}

TEST(SpecTest, ExampleIsValid) {
  for (const bool rootless : {false, true}) {
    std::vector<std::string> warnings;
    HostResult<oci::Spec> spec = ParseSpec(ExampleSpec(rootless), "config.json", &warnings);
    ASSERT_TRUE(spec.ok()) << spec.error().message();
    EXPECT_TRUE(ValidateSpec(*spec, &warnings).ok());
    EXPECT_TRUE(warnings.empty());
    EXPECT_EQ(spec->process().args(0), "sh");
    EXPECT_EQ(spec->linux().masked_paths_size(), 3);
  }
}

TEST(SpecTest, OddlySpelledNamesAreRead) {
  std::vector<std::string> warnings;
  HostResult<oci::Spec> spec = ParseSpec(R"({"process": {"oomScoreAdj": -5, "execCPUAffinity": {}},
    "linux": {"uidMappings": [{"containerID": 1, "hostID": 2, "size": 3}],
    "intelRdt": {"closID": "x", "l3CacheSchema": "y", "enableCMT": true},
    "resources": {"blockIO": {"throttleReadIOPSDevice": []}, "network": {"classID": 7},
    "memory": {"disableOOMKiller": true, "kernelTCP": 1}}}})", "config.json", &warnings);
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_TRUE(warnings.empty()) << warnings[0];
  EXPECT_EQ(spec->process().oom_score_adj(), -5);
  EXPECT_EQ(spec->linux().uid_mappings(0).host_id(), 2u);
  EXPECT_EQ(spec->linux().resources().network().class_id(), 7u);
}

TEST(SpecTest, LargeAndMissingNumbers) {
  std::vector<std::string> warnings;
  HostResult<oci::Spec> spec = ParseSpec(R"({"process": {"rlimits": [{"type": "RLIMIT_CORE",
    "hard": 18446744073709551615, "soft": 0}], "user": {"umask": null}}})", "c", &warnings);
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_EQ(spec->process().rlimits(0).hard(), UINT64_MAX);
  EXPECT_FALSE(spec->process().user().has_umask());
}

TEST(SpecTest, UnknownFieldsAreIgnoredByName) {
  std::vector<std::string> warnings;
  HostResult<oci::Spec> spec = ParseSpec("{\n\"root\": {\"path\": \"r\",\n\"color\": [1, {\"a\": "
                                         "null}]}, \"windows\": {}}", "config.json", &warnings);
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_EQ(warnings[0], "config.json: line 3: root.color is not known and has no effect");
  EXPECT_EQ(spec->root().path(), "r");
}

TEST(SpecTest, ErrorsNameLineFieldAndWhatWasExpected) {
  EXPECT_EQ(ErrorOf("{\n\n\"process\": {\"args\": [\"a\", 3]}}"),
            "config.json: line 3: process.args[1]: expected a string, found a number");
  EXPECT_EQ(ErrorOf(R"({"process": []})"),
            "config.json: line 1: process: expected an object, found a list");
  EXPECT_EQ(ErrorOf(R"({"process": {"user": {"uid": -1}}})"),
            "config.json: line 1: process.user.uid: expected a whole number of 0 or more in 32 "
            "bits, found -1");
  EXPECT_EQ(ErrorOf(R"({"process": {"terminal": "yes"}})"),
            "config.json: line 1: process.terminal: expected true or false, found a string");
  EXPECT_EQ(ErrorOf(R"({"annotations": {"a": 1}})"),
            "config.json: line 1: annotations.a: expected a string, found a number");
}

TEST(SpecTest, BrokenJsonIsRefused) {
  for (const char* text :
       {"", "{", "[]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{'a':1}", "{} x", "{\"a\":01}",
        "{\"a\":1.}", "{\"a\":\"\\x\"}", "{\"a\":\"\\u12\"}", "{\"a\":\"\n\"}", "{\"a\":tru}", "nul"}) {
    EXPECT_NE(ErrorOf(text), "") << text;
  }
  EXPECT_NE(ErrorOf("{\"x\":" + std::string(10'000, '[')).find("too deep"), std::string::npos);
}

TEST(SpecTest, WhatCannotBeIsRefusedByName) {
  const std::string root = R"(,"root":{"path":"r"}})";
  EXPECT_EQ(InvalidOf(R"({"process":{"cwd":"/","args":["a"]})" + root),
            "config.json: ociVersion: is missing");
  const std::string start = R"({"ociVersion":"1.2.0","process":)";
  EXPECT_EQ(InvalidOf(start + R"({"cwd":"/","args":["a"]})" + root), "");
  EXPECT_EQ(InvalidOf(start + R"({"cwd":"/"})" + root),
            "config.json: process.args: a program to run is missing");
  EXPECT_EQ(InvalidOf(start + R"({"cwd":"x","args":["a"]})" + root),
            "config.json: process.cwd: \"x\" is not an absolute path");
  EXPECT_EQ(InvalidOf(start + R"({"cwd":"/","args":["a"],"rlimits":[{"type":"NOFILE"}]})" + root),
            "config.json: process.rlimits[0].type: \"NOFILE\" is not a resource limit");
  EXPECT_EQ(InvalidOf(start + R"({"cwd":"/","args":["a"]})" +
                      R"(,"linux":{"namespaces":[{"type":"net"}]})" + root),
            "config.json: linux.namespaces[0].type: \"net\" is not a kind of namespace");
}

TEST(SpecTest, CapabilitiesHaveNumbers) {
  EXPECT_EQ(CapabilityByName("CAP_CHOWN"), 0);
  EXPECT_EQ(CapabilityByName("sys_admin"), 21);
  EXPECT_EQ(CapabilityByName("CAP_CHECKPOINT_RESTORE"), 40);
  EXPECT_EQ(CapabilityByName("CAP_NOTHING"), -1);
}

}  // namespace
}  // namespace ringwall
