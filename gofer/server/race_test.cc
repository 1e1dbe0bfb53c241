// Somebody on the host swaps files for links to the outside while requests for them run. Whatever a
// request hits, it never reaches the outside.
#include <stdio.h>
#include <sys/stat.h>

#include <atomic>

#include "gofer/testing/fixture.h"

namespace ringwall::gofer {
namespace {

using Names = std::vector<std::string_view>;

class SwapTest : public GoferTest {
 protected:
  void SetUp() override {
    GoferTest::SetUp();
    WriteFile(outside_ / "file", "outside");
    ::mkdir((dir_ / "real").c_str(), 0755);
    WriteFile(dir_ / "real/file", "inside");
    ASSERT_EQ(::symlink(outside_.path().c_str(), (dir_ / "to_dir").c_str()), 0);
    WriteFile(dir_ / "plain", "inside");
    ASSERT_EQ(::symlink((outside_ / "file").c_str(), (dir_ / "to_file").c_str()), 0);
    ASSERT_EQ(::stat((outside_ / "file").c_str(), &before_), 0);
    swapper_ = std::thread([this] {
      // "real" and "plain" are now the file, now the link.
      while (!stop_.load()) {
        Exchange("real", "to_dir");
        Exchange("plain", "to_file");
      }
    });
  }
  void TearDown() override {
    stop_.store(true);
    swapper_.join();
    struct stat after;
    ASSERT_EQ(::stat((outside_ / "file").c_str(), &after), 0);
    EXPECT_EQ(after.st_size, before_.st_size);
    EXPECT_EQ(after.st_mode, before_.st_mode);
    EXPECT_EQ(after.st_uid, before_.st_uid);
    EXPECT_EQ(after.st_nlink, before_.st_nlink);
    EXPECT_EQ(after.st_mtim.tv_nsec, before_.st_mtim.tv_nsec);
    struct stat made;
    EXPECT_NE(::lstat((outside_ / "new").c_str(), &made), 0);
    GoferTest::TearDown();
  }
  void Exchange(std::string_view a, std::string_view b) {
    ::renameat2(AT_FDCWD, (dir_ / a).c_str(), AT_FDCWD, (dir_ / b).c_str(), RENAME_EXCHANGE);
  }
  void ExpectInside(const Attr& attr) {
    EXPECT_FALSE(attr.ino == before_.st_ino && attr.dev == before_.st_dev);
  }

  TempDir outside_;
  struct stat before_;
  std::atomic<bool> stop_ = false;
  std::thread swapper_;
};

TEST_P(SwapTest, WalksNeverPassALinkThatComesAndGoes) {
  int links = 0;
  int files = 0;
  for (int i = 0; i < 6000; ++i) {
    const uint32_t flags = i % 2 == 0 ? kWalkOpen : kWalkOpen | kWalkHandleAll;
    Result<WalkResult> walk = client_->Walk(root_, Names{"real", "file"}, flags, O_RDWR);
    ASSERT_TRUE(walk.ok());
    if (walk->stop == WalkStop::kSymlink) {
      EXPECT_EQ(walk->target, outside_.path());
      ++links;
    } else if (walk->fd) {
      EXPECT_EQ(ReadFd(walk->fd.get()), "inside");
      ++files;
    }
    walk = client_->Walk(root_, Names{"plain"}, flags, O_RDWR | O_TRUNC);
    ASSERT_TRUE(walk.ok());
    for (const GoferNode& node : walk->nodes) ExpectInside(node.attr);
    if (walk->fd) {
      struct stat buf;
      ASSERT_EQ(::fstat(walk->fd.get(), &buf), 0);
      EXPECT_FALSE(buf.st_ino == before_.st_ino && buf.st_dev == before_.st_dev);
    }
  }
  EXPECT_GT(links + files, 0);
}

TEST_P(SwapTest, ChangesNeverReachThroughALink) {
  for (int i = 0; i < 2000; ++i) {
    Result<GoferNode> node = client_->Lookup(root_, "plain");
    if (node.ok()) {
      client_->SetAttr(node->handle, {.mask = kSetMode | kSetMtimeNow, .mode = 0600}).error_value();
      client_->SetAttr(node->handle, {.mask = kSetSize, .size = 1}).error_value();
      client_->Open(node->handle, O_RDWR | O_TRUNC).error_value();
      client_->Link(node->handle, root_, "hard").error_value();
      client_->Unlink(root_, "hard").error_value();
    }
    Result<CreateResult> made = client_->Create(root_, "plain", O_RDWR | O_TRUNC, {.mode = 0600});
    if (made.ok()) ExpectInside(made->node.attr);
    Result<GoferNode> dir = client_->Lookup(root_, "real");
    if (dir.ok() && S_ISDIR(dir->attr.mode)) {
      client_->Create(dir->handle, "new", O_RDWR, {.mode = 0600}).error_value();
      client_->Unlink(dir->handle, "new").error_value();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Transport, SwapTest, ::testing::Values(true));

// A file that replaces a new one before its owner is set is not given away.
TEST_P(SwapTest, NewFilesAreGivenAwayOnlyIfTheyAreNew) {
  if (::geteuid() != 0) return;  // owners do not change at all
  std::atomic<bool> stop = false;
  WriteFile(dir_ / "victim", "root's");
  std::thread attacker([&] {
    while (!stop.load()) {
      if (::link((dir_ / "victim").c_str(), (dir_ / "bait").c_str()) != 0) continue;
      ::rename((dir_ / "bait").c_str(), (dir_ / "made").c_str());
      ::unlink((dir_ / "made").c_str());
    }
  });
  for (int i = 0; i < 3000; ++i) {
    client_
        ->Mknod(root_, "made", i % 2 == 0 ? S_IFREG : S_IFIFO,
                {.mode = 0600, .uid = 1234, .gid = 1234})
        .error_value();
    client_->Unlink(root_, "made").error_value();
  }
  stop.store(true);
  attacker.join();
  EXPECT_EQ(HostStat("victim").st_uid, 0u);
}

}  // namespace
}  // namespace ringwall::gofer
