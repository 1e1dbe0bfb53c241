#include "fs/vfs/mount.h"

#include <gtest/gtest.h>

#include "fs/tmpfs/tmpfs.h"
#include "fs/vfs/vfs.h"

namespace ringwall {
namespace {

class MountTest : public ::testing::Test {
 protected:
  static Ref<Mount> NewTmpfs(const char* source = "tmpfs") {
    return Mount::Make(TmpfsFileSystem::Create({}), 0, source);
  }
  Path At(const std::string& path) {
    Result<Path> p = Vfs::Lookup(walk_, path, {});
    EXPECT_TRUE(p.ok()) << path << " " << p.error_value();
    return p.ok() ? *p : Path();
  }
  void Mkdir(const std::string& path) { EXPECT_TRUE(Vfs::Mkdir(walk_, path, 0755).ok()) << path; }
  bool Exists(const std::string& path) { return Vfs::Lookup(walk_, path, {}).ok(); }
  std::string Name(const Path& p) { return Vfs::FullName(p, root_, *mounts_); }

  Ref<const Credentials> creds_ = Credentials::Root();
  Ref<MountNamespace> mounts_ = MakeRef<MountNamespace>(NewTmpfs());
  Path root_ = mounts_->root();
  Walk walk_{*creds_, *mounts_, root_, root_};
};

TEST_F(MountTest, AMountCoversAndUncoversADirectory) {
  Mkdir("/m");
  Mkdir("/m/below");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs(), At("/m")).ok());
  EXPECT_FALSE(Exists("/m/below"));
  Mkdir("/m/inside");
  EXPECT_EQ(Name(At("/m/inside/../inside")), "/m/inside");
  EXPECT_EQ(At("/m/.."), root_);
  EXPECT_EQ(Vfs::Rmdir(walk_, "/m").error_value(), EBUSY);
  EXPECT_EQ(Vfs::Rename(walk_, "/m", walk_, "/n", 0).error_value(), EBUSY);
  EXPECT_TRUE(mounts_->Detach(At("/m"), 0).ok());
  EXPECT_TRUE(Exists("/m/below"));
  EXPECT_EQ(mounts_->Detach(At("/m"), 0).error_value(), EINVAL);
}

TEST_F(MountTest, ABusyMountNeedsMntDetach) {
  Mkdir("/m");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs(), At("/m")).ok());
  Mkdir("/m/d");
  const Path inside = At("/m/d");
  EXPECT_EQ(mounts_->Detach(At("/m"), 0).error_value(), EBUSY);
  EXPECT_TRUE(mounts_->Detach(At("/m"), MNT_DETACH).ok());
  EXPECT_FALSE(Exists("/m/d"));
  EXPECT_EQ(Name(inside), "(unreachable)/d");
}

TEST_F(MountTest, MountsStackAndNest) {
  Mkdir("/m");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs("one"), At("/m")).ok());
  Mkdir("/m/one");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs("two"), At("/m")).ok());
  EXPECT_FALSE(Exists("/m/one"));
  Mkdir("/m/two");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs("three"), At("/m/two")).ok());
  EXPECT_EQ(mounts_->Detach(At("/m"), 0).error_value(), EBUSY);
  EXPECT_EQ(mounts_->List().size(), 4u);
  EXPECT_EQ(At("/m/two/../.."), root_);
  EXPECT_TRUE(mounts_->Detach(At("/m"), MNT_DETACH).ok());
  EXPECT_TRUE(Exists("/m/one"));
}

TEST_F(MountTest, BindShowsASubtreeAndRbindItsMounts) {
  Mkdir("/a");
  Mkdir("/a/sub");
  Mkdir("/a/sub/m");
  Mkdir("/b");
  Mkdir("/c");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs(), At("/a/sub/m")).ok());
  Mkdir("/a/sub/m/x");
  EXPECT_TRUE(mounts_->Bind(At("/a/sub"), At("/b"), false).ok());
  EXPECT_TRUE(Exists("/b/m"));
  EXPECT_FALSE(Exists("/b/m/x"));
  EXPECT_EQ(At("/b/.."), root_);
  EXPECT_TRUE(mounts_->Bind(At("/a"), At("/c"), true).ok());
  EXPECT_TRUE(Exists("/c/sub/m/x"));
  EXPECT_EQ(Name(At("/c/sub/m/x")), "/c/sub/m/x");
  EXPECT_TRUE(mounts_->Remount(At("/b"), MS_RDONLY | MS_BIND).ok());
  EXPECT_EQ(Vfs::Mkdir(walk_, "/b/no", 0755).error_value(), EROFS);
  Mkdir("/a/sub/yes");
  EXPECT_TRUE(Exists("/b/yes"));
}

TEST_F(MountTest, MoveAndLoops) {
  Mkdir("/a");
  Mkdir("/b");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs(), At("/a")).ok());
  Mkdir("/a/x");
  EXPECT_EQ(mounts_->Move(At("/a"), At("/a/x")).error_value(), ELOOP);
  EXPECT_TRUE(mounts_->Move(At("/a"), At("/b")).ok());
  EXPECT_TRUE(Exists("/b/x"));
  EXPECT_FALSE(Exists("/a/x"));
}

TEST_F(MountTest, SharedMountsPropagate) {
  Mkdir("/a");
  Mkdir("/b");
  Mkdir("/s");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs(), At("/a")).ok());
  EXPECT_TRUE(mounts_->SetPropagation(At("/a"), MS_SHARED).ok());
  EXPECT_TRUE(mounts_->Bind(At("/a"), At("/b"), false).ok());
  EXPECT_TRUE(mounts_->Bind(At("/a"), At("/s"), false).ok());
  EXPECT_TRUE(mounts_->SetPropagation(At("/s"), MS_SLAVE).ok());
  Mkdir("/a/m");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs(), At("/b/m")).ok());
  Mkdir("/b/m/x");
  EXPECT_TRUE(Exists("/a/m/x"));
  EXPECT_TRUE(Exists("/s/m/x"));
  // A slave's own mounts stay its own.
  Mkdir("/a/n");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs(), At("/s/n")).ok());
  Mkdir("/s/n/y");
  EXPECT_FALSE(Exists("/a/n/y"));
  EXPECT_TRUE(mounts_->Detach(At("/a/m"), MNT_DETACH).ok());
  EXPECT_FALSE(Exists("/b/m/x"));
  EXPECT_FALSE(Exists("/s/m/x"));
}

TEST_F(MountTest, ACopiedNamespaceIsApart) {
  Mkdir("/m");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs(), At("/m")).ok());
  Mkdir("/m/cwd");
  Ref<MountNamespace> copy = *mounts_->Clone(Ref<UserNamespace>(UserNamespace::Initial()));
  const Path root = copy->root();
  const Walk walk{*creds_, *copy, root, root};
  const Path cwd = copy->Translate(At("/m/cwd"));
  ASSERT_TRUE(cwd);
  EXPECT_EQ(Vfs::FullName(cwd, root, *copy), "/m/cwd");
  EXPECT_TRUE(copy->Detach(*Vfs::Lookup(walk, "/m", {}), MNT_DETACH).ok());
  EXPECT_FALSE(Vfs::Lookup(walk, "/m/cwd", {}).ok());
  EXPECT_TRUE(Exists("/m/cwd"));
}

TEST_F(MountTest, PivotRootSwapsTheRoot) {
  Mkdir("/new");
  EXPECT_TRUE(mounts_->Attach(NewTmpfs(), At("/new")).ok());
  Mkdir("/new/old");
  Mkdir("/marker");
  EXPECT_EQ(mounts_->PivotRoot(At("/marker"), At("/new/old"), root_).error_value(), EBUSY);
  EXPECT_TRUE(mounts_->PivotRoot(At("/new"), At("/new/old"), root_).ok());
  root_ = mounts_->root();
  EXPECT_TRUE(Exists("/old/marker"));
  EXPECT_EQ(Name(At("/old/marker")), "/old/marker");
  EXPECT_TRUE(mounts_->Detach(At("/old"), MNT_DETACH).ok());
  EXPECT_FALSE(Exists("/old/marker"));
}

TEST_F(MountTest, AnUnmountedFileSystemEnds) {
  const size_t before = Dentry::CachedCount();
  Mkdir("/m");
  Ref<TmpfsFileSystem> fs = TmpfsFileSystem::Create({});
  EXPECT_TRUE(mounts_->Attach(Mount::Make(fs, 0, "x"), At("/m")).ok());
  for (int i = 0; i < 100; i++) Mkdir("/m/" + std::to_string(i));
  EXPECT_TRUE(mounts_->Detach(At("/m"), 0).ok());
  EXPECT_EQ(fs->ref_count_for_test(), 1u);
  EXPECT_LE(Dentry::CachedCount(), before + 2);
}

}  // namespace
}  // namespace ringwall
