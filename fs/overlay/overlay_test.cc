#include "fs/overlay/overlay.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "fs/overlay/memory_upper.h"
#include "fs/vfs/testing/ops.h"
#include "fs/vfs/vfs.h"

namespace ringwall {
namespace {

class OverlayTest : public ::testing::Test {
 protected:
  // The lower layer as a namespace of its own, to be filled first.
  OverlayTest() { NewLower(); }
  void NewLower() {
    lower_fs_ = TmpfsFileSystem::Create({.mode = 0755});
    lower_mounts_ = MakeRef<MountNamespace>(Mount::Make(Ref<FileSystem>(*lower_fs_), 0, "lower"));
    lower_ = testing::MakeVfsOps(*lower_mounts_, *creds_);
  }
  void MountOverlay() {
    Result<Ref<FileSystem>> fs = OverlayOnMemory(Ref<FileSystem>(*lower_fs_), {});
    ASSERT_TRUE(fs.ok());
    fs_ = RefPtr<FileSystem>(*fs);
    mounts_ = MakeRef<MountNamespace>(Mount::Make(*fs, 0, "overlay"));
    root_ = mounts_->root();
    ops_ = testing::MakeVfsOps(*mounts_, *creds_);
  }
  Walk walk() { return {*creds_, *mounts_, root_, root_}; }
  Attr Stat(const std::string& path) {
    const Result<Path> at = Vfs::Lookup(walk(), path, {.follow_last = false});
    EXPECT_TRUE(at.ok()) << path;
    return at.ok() ? *Vfs::Stat(*at) : Attr();
  }
  std::string Read(File& f) {
    char buffer[100];
    SpanDst dst(std::as_writable_bytes(std::span(buffer)));
    const Result<size_t> n = f.Read(dst, 0, 0);
    return n.ok() ? std::string(buffer, *n) : "error";
  }
  static void Fill(testing::Ops& o) {
    o.Mkdir("a", 0755);
    o.Mkdir("a/b", 0755);
    o.Mkdir("a/b/c", 0700);
    o.Mkdir("c", 0755);
    o.Open("a/d", O_CREAT | O_WRONLY, 0644, "lower a/d");
    o.Open("a/b/a", O_CREAT | O_WRONLY, 0600, "lower a/b/a");
    o.Open("b", O_CREAT | O_WRONLY, 0644, "lower b");
    o.Link("b", "c/a", false);
    o.Link("b", "a/c", false);
    o.Symlink("a/b", "l");
    o.Symlink("../b", "c/m");
    o.Mknod("a/b/m", S_IFSOCK | 0644);
  }

  Ref<const Credentials> creds_ = Credentials::Root();
  RefPtr<TmpfsFileSystem> lower_fs_;
  RefPtr<MountNamespace> lower_mounts_, mounts_;
  RefPtr<FileSystem> fs_;
  Path root_;
  std::unique_ptr<testing::Ops> lower_, ops_;
};

// An overlay has to behave as one file system.
TEST_F(OverlayTest, RandomOperationsLeaveTheSameTreeAsOnTheHost) {
  for (unsigned seed = 1; seed <= 60; seed++) {
    NewLower();
    Fill(*lower_);
    const std::string before = testing::DescribeTree(*lower_, "", true);
    MountOverlay();
    const bool ran = testing::InHostSandbox([&] {
      const auto host = testing::MakeHostOps();
      host->Chmod("/", 0755);
      Fill(*host);
      std::mt19937 random(seed);
      std::string history;
      for (int i = 0; i < 400; i++) {
        const testing::RandomOp op = testing::MakeRandomOp(random);
        const std::string want = op.run(*host), got = op.run(*ops_);
        history += op.text + " = " + want + "\n";
        ASSERT_EQ(want, got) << "seed " << seed << "\n" << history;
        if (seed % 2 == 0 && i % 20 == 0) {
          // Without cached names all comes from the layers again.
          root_.dentry().Prune();
          ASSERT_EQ(testing::DescribeTree(*host, "", false),
                    testing::DescribeTree(*ops_, "", false))
              << "seed " << seed << "\n" << history;
        }
      }
      EXPECT_EQ(testing::DescribeTree(*host, "", false), testing::DescribeTree(*ops_, "", false))
          << "seed " << seed << "\n" << history;
    });
    if (!ran) GTEST_SKIP() << "the host permits no chroot";
    EXPECT_EQ(before, testing::DescribeTree(*lower_, "", true)) << "the lower layer has changed";
    if (HasFailure()) return;
  }
}

TEST_F(OverlayTest, ACopyUpKeepsNumberAndAttributes) {
  lower_->Mkdir("d", 0755);
  lower_->Open("d/f", O_CREAT | O_WRONLY, 04755, "old");
  lower_->SetXattr("d/f", "user.x", "1", 0);
  MountOverlay();
  const Attr before = Stat("d/f"), dir = Stat("d");
  EXPECT_EQ(ops_->Chmod("d/f", 0640), "ok");
  const Attr after = Stat("d/f");
  EXPECT_EQ(after.ino, before.ino);
  EXPECT_EQ(after.dev, before.dev);
  EXPECT_EQ(after.mode, uint32_t{S_IFREG | 0640});
  EXPECT_EQ(after.mtime, before.mtime);
  EXPECT_EQ(Stat("d").ino, dir.ino);
  EXPECT_EQ(ops_->GetXattr("d/f", "user.x"), "ok 1");
  root_.dentry().Prune();
  EXPECT_EQ(Stat("d/f").ino, before.ino);
  EXPECT_EQ(Stat("d").ino, dir.ino);
  EXPECT_EQ(ops_->Open("d/f", O_RDONLY, 0, ""), "ok read old");
}

TEST_F(OverlayTest, AReaderSeesWhatIsWrittenAfterACopyUp) {
  lower_->Open("f", O_CREAT | O_WRONLY, 0644, "old");
  MountOverlay();
  Result<Ref<File>> reader = Vfs::Open(walk(), "f", O_RDONLY, 0, nullptr);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(Read(**reader), "old");
  EXPECT_EQ(ops_->Open("f", O_WRONLY, 0, "new"), "ok wrote 3");
  EXPECT_EQ(Read(**reader), "new");
}

TEST_F(OverlayTest, HardLinksStayTogether) {
  lower_->Open("a", O_CREAT | O_WRONLY, 0644, "old");
  lower_->Link("a", "b", false);
  MountOverlay();
  EXPECT_EQ(Stat("a").nlink, 2u);
  EXPECT_EQ(ops_->Open("b", O_WRONLY, 0, "new"), "ok wrote 3");
  root_.dentry().Prune();
  EXPECT_EQ(ops_->Open("a", O_RDONLY, 0, ""), "ok read new");
  EXPECT_EQ(Stat("a").ino, Stat("b").ino);
  EXPECT_EQ(ops_->Link("a", "c", false), "ok");
  EXPECT_EQ(Stat("b").nlink, 3u);
  EXPECT_EQ(ops_->Unlink("a"), "ok");
  EXPECT_EQ(ops_->Rename("b", "e", 0), "ok");
  root_.dentry().Prune();
  EXPECT_EQ(Stat("e").nlink, 2u);
  EXPECT_EQ(Stat("e").ino, Stat("c").ino);
  EXPECT_EQ(ops_->Stat("b", false), "ENOENT");
}

// A copy-up once went to a name that had been removed, when one other name was left.
TEST_F(OverlayTest, TheLastOfTwoLowerNamesIsCopiedUpAsItself) {
  lower_->Open("a", O_CREAT | O_WRONLY, 0644, "old");
  lower_->Link("a", "b", false);
  MountOverlay();
  EXPECT_EQ(Stat("a").nlink, 2u);
  EXPECT_EQ(ops_->Unlink("a"), "ok");
  EXPECT_EQ(ops_->Open("b", O_WRONLY, 0, "new"), "ok wrote 3");
  root_.dentry().Prune();
  EXPECT_EQ(ops_->Stat("a", false), "ENOENT");
  EXPECT_EQ(ops_->Open("b", O_RDONLY, 0, ""), "ok read new");
  EXPECT_EQ(Stat("b").nlink, 1u);
}

TEST_F(OverlayTest, LowerDirectoriesCanBeMoved) {
  lower_->Mkdir("d", 0755);
  lower_->Mkdir("d/sub", 0755);
  lower_->Open("d/sub/f", O_CREAT | O_WRONLY, 0644, "lower");
  lower_->Mkdir("other", 0755);
  lower_->Open("other/g", O_CREAT | O_WRONLY, 0644, "");
  MountOverlay();
  EXPECT_EQ(ops_->Rename("d", "e", 0), "ok");
  root_.dentry().Prune();
  EXPECT_EQ(ops_->Open("e/sub/f", O_RDONLY, 0, ""), "ok read lower");
  EXPECT_EQ(ops_->Open("e/sub/f", O_WRONLY, 0, "upper"), "ok wrote 5");
  // In the place of one that was there below.
  EXPECT_EQ(ops_->Unlink("other/g"), "ok");
  EXPECT_EQ(ops_->Rename("e", "other", 0), "ok");
  root_.dentry().Prune();
  EXPECT_EQ(ops_->Open("other/sub/f", O_RDONLY, 0, ""), "ok read upper");
  EXPECT_EQ(ops_->List("other"), "ok ..:4 .:4 sub:4");
  EXPECT_EQ(ops_->Stat("e", false), "ENOENT");
  EXPECT_EQ(ops_->Mkdir("d", 0755), "ok");
  EXPECT_EQ(ops_->List("d"), "ok ..:4 .:4");
}

TEST_F(OverlayTest, RemovedNamesStayRemoved) {
  lower_->Mkdir("d", 0755);
  lower_->Open("d/f", O_CREAT | O_WRONLY, 0644, "");
  MountOverlay();
  EXPECT_EQ(ops_->Rmdir("d"), "ENOTEMPTY");
  EXPECT_EQ(ops_->Unlink("d/f"), "ok");
  EXPECT_EQ(ops_->List("d"), "ok ..:4 .:4");
  EXPECT_EQ(ops_->Rmdir("d"), "ok");
  root_.dentry().Prune();
  EXPECT_EQ(ops_->Stat("d", false), "ENOENT");
  EXPECT_EQ(ops_->Mkdir("d", 0755), "ok");
  root_.dentry().Prune();
  EXPECT_EQ(ops_->List("d"), "ok ..:4 .:4");
  EXPECT_EQ(ops_->Mknod("d/w", S_IFCHR), "EPERM");
}

TEST_F(OverlayTest, AnUnlinkedLowerFileCanStillBeChanged) {
  lower_->Open("f", O_CREAT | O_WRONLY, 0644, "old");
  MountOverlay();
  Result<Ref<File>> file = Vfs::Open(walk(), "f", O_RDONLY, 0, nullptr);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(ops_->Unlink("f"), "ok");
  EXPECT_EQ(Vfs::Stat((*file)->path())->nlink, 0u);
  EXPECT_TRUE(Vfs::Chmod(*creds_, (*file)->path(), 0600).ok());
  EXPECT_EQ(Read(**file), "old");
  root_.dentry().Prune();
  EXPECT_EQ(ops_->Stat("f", false), "ENOENT");
}

TEST_F(OverlayTest, LinuxMarksInLayersAreUnderstood) {
  Ref<TmpfsFileSystem> top = TmpfsFileSystem::Create({.mode = 0755});
  MountNamespace top_mounts(Mount::Make(top, 0, "top"));
  const auto upper = testing::MakeVfsOps(top_mounts, *creds_);
  for (const char* d : {"merged", "opaque"}) {
    lower_->Mkdir(d, 0755);
    lower_->Open(std::string(d) + "/lower", O_CREAT | O_WRONLY, 0644, "");
    upper->Mkdir(d, 0755);
    upper->Open(std::string(d) + "/upper", O_CREAT | O_WRONLY, 0644, "");
  }
  lower_->Open("hidden", O_CREAT | O_WRONLY, 0644, "");
  upper->Mknod("hidden", S_IFCHR);
  upper->SetXattr("opaque", "trusted.overlay.opaque", "y", 0);
  std::vector<Ref<Inode>> lowers = {lower_fs_->root()};
  Result<Ref<OverlayFileSystem>> fs =
      OverlayFileSystem::Create(RefPtr<Inode>(top->root()), lowers, {});
  ASSERT_TRUE(fs.ok());
  MountNamespace space(Mount::Make(*fs, 0, "overlay"));
  const auto ops = testing::MakeVfsOps(space, *creds_);
  EXPECT_EQ(ops->List("/"), "ok ..:4 .:4 merged:4 opaque:4");
  EXPECT_EQ(ops->List("merged"), "ok ..:4 .:4 lower:8 upper:8");
  EXPECT_EQ(ops->List("opaque"), "ok ..:4 .:4 upper:8");
  EXPECT_EQ(ops->Stat("hidden", false), "ENOENT");
  EXPECT_EQ(ops->GetXattr("opaque", "trusted.overlay.opaque"), "ENODATA");
}

TEST_F(OverlayTest, WithoutAnUpperLayerItIsReadOnly) {
  lower_->Open("f", O_CREAT | O_WRONLY, 0644, "x");
  Result<Ref<OverlayFileSystem>> fs = OverlayFileSystem::Create(nullptr, {lower_fs_->root()}, {});
  ASSERT_TRUE(fs.ok());
  MountNamespace space(Mount::Make(*fs, 0, "overlay"));
  const auto ops = testing::MakeVfsOps(space, *creds_);
  EXPECT_EQ(ops->Open("f", O_RDONLY, 0, ""), "ok read x");
  EXPECT_EQ(ops->Open("f", O_WRONLY, 0, ""), "EROFS");
  EXPECT_EQ(ops->Mkdir("d", 0755), "EROFS");
  EXPECT_EQ(ops->Unlink("f"), "EROFS");
}

TEST_F(OverlayTest, AnUnmountedOverlayEnds) {
  Fill(*lower_);
  MountOverlay();
  ops_->Rename("a", "moved", 0);
  ops_->Open("b", O_WRONLY, 0, "x");
  ops_.reset();
  root_ = Path();
  mounts_.reset();
  EXPECT_EQ(fs_->ref_count_for_test(), 1u);
}

}  // namespace
}  // namespace ringwall
