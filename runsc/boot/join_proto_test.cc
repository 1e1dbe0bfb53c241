// A request to join a sandbox: what was sent arrives, and what makes no sense is refused.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "runsc/boot/control.h"

namespace ringwall {
namespace {

UniqueFd Null() { return UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)); }

BootArgs Example() {
  BootArgs args;
  args.container_id = "b";
  args.gofer = Null();
  args.control_listen = Null();
  args.control_connection = Null();
  args.process.argv = {"/bin/sh"};
  args.process.stdio[1] = Null();
  BootMount root;
  root.type = "gofer";
  root.destination = "/";
  root.gofer_root = 0;
  root.overlay = OverlayMode::kDisk;
  root.overlay_root = 1;
  args.mounts.push_back(root);
  args.devices.push_back({"/dev/x", 'b', 7, 3, 0600, 1, 2});
  args.sysctls.push_back({"kernel.x", "1"});
  args.hostname = "host";
  return args;
}

std::vector<UniqueFd> Copies(const std::vector<int>& fds) {
  std::vector<UniqueFd> out;
  for (const int fd : fds) out.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return out;
}

TEST(JoinProto, ArrivesAsItWasSent) {
  BootArgs sent = Example();
  control::Join message;
  std::vector<int> fds;
  ToProto(sent, &message, &fds);
  ASSERT_EQ(fds.size(), 4U);
  Result<BootArgs> got = FromProto(message, Copies(fds));
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->container_id, "b");
  EXPECT_EQ(got->hostname, "host");
  EXPECT_TRUE(got->gofer.valid() && got->control_listen.valid() && got->control_connection.valid());
  EXPECT_FALSE(got->terminal_connection.valid());
  EXPECT_TRUE(!got->process.stdio[0].valid() && got->process.stdio[1].valid());
  ASSERT_EQ(got->mounts.size(), 1U);
  EXPECT_EQ(got->mounts[0].overlay, OverlayMode::kDisk);
  EXPECT_EQ(got->mounts[0].overlay_root, 1);
  EXPECT_EQ(got->devices[0].type, 'b');
  EXPECT_EQ(got->sysctls[0].value, "1");
  EXPECT_FALSE(got->start_now);
}

TEST(JoinProto, RefusesWhatMakesNoSense) {
  const BootArgs sent = Example();
  control::Join good;
  std::vector<int> fds;
  ToProto(sent, &good, &fds);
  const auto refused = [&](auto change, size_t descriptors) {
    control::Join bad = good;
    change(bad);
    std::vector<int> some(fds.begin(), fds.begin() + static_cast<ptrdiff_t>(descriptors));
    return !FromProto(bad, Copies(some)).ok();
  };
  EXPECT_FALSE(refused([](control::Join&) {}, 4));
  for (size_t n = 0; n < 4; n++) EXPECT_TRUE(refused([](control::Join&) {}, n)) << n;
  EXPECT_TRUE(refused([](control::Join& j) { j.set_terminal_connection(true); }, 4));
  EXPECT_TRUE(refused([](control::Join& j) { j.clear_mounts(); }, 4));
  EXPECT_TRUE(refused([](control::Join& j) { j.mutable_mounts(0)->set_destination("x"); }, 4));
  EXPECT_TRUE(refused([](control::Join& j) { j.mutable_mounts(0)->set_gofer_root(-1); }, 4));
  EXPECT_TRUE(refused([](control::Join& j) { j.mutable_mounts(0)->set_overlay(9); }, 4));
  EXPECT_TRUE(refused([](control::Join& j) { j.mutable_mounts(0)->set_overlay_root(-1); }, 4));
  EXPECT_TRUE(refused([](control::Join& j) { j.mutable_devices(0)->set_type(256 + 'c'); }, 4));
  EXPECT_TRUE(refused([](control::Join& j) { j.mutable_devices(0)->clear_path(); }, 4));
  EXPECT_TRUE(refused([](control::Join& j) { j.mutable_process()->clear_argv(); }, 4));
}

}  // namespace
}  // namespace ringwall
