// The walk against the host kernel's, and what the comparison cannot reach.
#include <gtest/gtest.h>
#include <linux/openat2.h>

#include "fs/tmpfs/tmpfs.h"
#include "fs/vfs/testing/ops.h"
#include "fs/vfs/vfs.h"

namespace ringwall {
namespace {

class WalkTest : public ::testing::Test {
 protected:
  void Do(const char* want, const std::string& got) { EXPECT_EQ(want, got); }
  Result<Path> Lookup(const std::string& path, uint64_t resolve = 0) {
    return Vfs::Lookup({*creds_, *mounts_, root_, root_, nullptr, resolve}, path, {});
  }

  Ref<const Credentials> creds_ = Credentials::Root();
  Ref<MountNamespace> mounts_ = MakeRef<MountNamespace>(
      Mount::Make(TmpfsFileSystem::Create({.mode = 0755}), 0, "tmpfs"));
  Path root_ = mounts_->root();
  std::unique_ptr<testing::Ops> ops_ = testing::MakeVfsOps(*mounts_, *creds_);
};

// One line each: the answer of every operation on awkward paths has to be the host's.
TEST_F(WalkTest, AnswersAsTheHostOnAwkwardPaths) {
  const bool ran = testing::InHostSandbox([&] {
    const auto host = testing::MakeHostOps();
    for (testing::Ops* o : {host.get(), ops_.get()}) {
      EXPECT_EQ(o->Chmod("/", 0755), "ok");
      EXPECT_EQ(o->Mkdir("d", 0755), "ok");
      EXPECT_EQ(o->Mkdir("d/e", 0755), "ok");
      EXPECT_EQ(o->Open("f", O_CREAT | O_RDWR, 0644, "data"), "ok wrote 4 read data");
      EXPECT_EQ(o->Symlink("d", "ld"), "ok");
      EXPECT_EQ(o->Symlink("f", "lf"), "ok");
      EXPECT_EQ(o->Symlink("/d/e", "la"), "ok");
      EXPECT_EQ(o->Symlink("loop", "loop"), "ok");
      EXPECT_EQ(o->Symlink("nowhere", "dangling"), "ok");
      EXPECT_EQ(o->Symlink("nowhere/", "slashed"), "ok");
      EXPECT_EQ(o->Symlink("..", "up"), "ok");
      std::string target = "d";
      for (int i = 0; i < 42; i++) {
        const std::string name = "chain" + std::to_string(i);
        EXPECT_EQ(o->Symlink(target, name), "ok");
        target = name;
      }
    }
    const std::string long_name(255, 'n'), too_long(256, 'n');
    std::string paths[] = {
        "", "/", "//", ".", "..", "/..", "../..", "d", "d/", "d/.", "d/..", "d//e", "d/e/../..",
        "f", "f/", "f/.", "f/x", "f/..", "lf", "lf/", "lf/x", "ld", "ld/", "ld/e", "ld/..", "la",
        "la/", "la/..", "loop", "loop/", "loop/x", "dangling", "dangling/", "dangling/x",
        "slashed", "slashed/", "up", "up/d", "missing", "missing/", "missing/x", "missing/..",
        "d/missing", "chain38", "chain39", "chain40", "chain41", "chain39/e", "chain40/e",
        long_name, too_long, "d/" + too_long, "f/" + too_long, "missing/" + too_long,
        std::string(2047, '/') + "d", "d/" + std::string(4090, '/') + "e"};
    for (const std::string& p : paths) {
      const std::string shown = p.size() < 40 ? p : p.substr(0, 10) + "...";
      const auto same = [&](const char* what, auto run) {
        EXPECT_EQ(run(*host), run(*ops_)) << what << " '" << shown << "'";
      };
      using O = testing::Ops;
      same("stat", [&](O& o) { return o.Stat(p, true); });
      same("lstat", [&](O& o) { return o.Stat(p, false); });
      same("readlink", [&](O& o) { return o.ReadLink(p); });
      same("open", [&](O& o) { return o.Open(p, O_RDONLY, 0, ""); });
      same("open rw", [&](O& o) { return o.Open(p, O_RDWR, 0, ""); });
      same("open O_NOFOLLOW", [&](O& o) { return o.Open(p, O_RDONLY | O_NOFOLLOW, 0, ""); });
      same("open O_DIRECTORY", [&](O& o) { return o.Open(p, O_DIRECTORY, 0, ""); });
      same("open O_DIRECTORY O_NOFOLLOW",
           [&](O& o) { return o.Open(p, O_DIRECTORY | O_NOFOLLOW, 0, ""); });
      same("open O_PATH", [&](O& o) { return o.Open(p, O_PATH, 0, ""); });
      same("open O_PATH O_NOFOLLOW", [&](O& o) { return o.Open(p, O_PATH | O_NOFOLLOW, 0, ""); });
      same("open O_TMPFILE", [&](O& o) { return o.Open(p, O_TMPFILE | O_RDWR, 0600, "t"); });
      same("open O_TMPFILE ro", [&](O& o) { return o.Open(p, O_TMPFILE, 0600, ""); });
      same("open O_CREAT O_DIRECTORY",
           [&](O& o) { return o.Open(p, O_CREAT | O_DIRECTORY, 0600, ""); });
      same("mkdir", [&](O& o) {
        const std::string r = o.Mkdir(p, 0755);
        return r + (r == "ok" ? o.Rmdir(p) : "");
      });
      same("mknod", [&](O& o) {
        const std::string r = o.Mknod(p, S_IFIFO | 0600);
        return r + (r == "ok" ? o.Unlink(p) : "");
      });
      same("symlink", [&](O& o) {
        const std::string r = o.Symlink("x", p);
        return r + (r == "ok" ? o.Unlink(p) : "");
      });
      same("O_CREAT O_EXCL", [&](O& o) {
        const std::string r = o.Open(p, O_CREAT | O_EXCL | O_WRONLY, 0600, "");
        return r + (r == "ok" ? o.Unlink(p) : "");
      });
      same("link", [&](O& o) {
        const std::string r = o.Link("f", p, false);
        return r + (r == "ok" ? o.Unlink(p) : "");
      });
      same("link from", [&](O& o) {
        const std::string r = o.Link(p, "new", false);
        return r + (r == "ok" ? o.Unlink("new") : "");
      });
      same("link from followed", [&](O& o) {
        const std::string r = o.Link(p, "new", true);
        return r + (r == "ok" ? o.Unlink("new") : "");
      });
      same("truncate", [&](O& o) { return o.Truncate(p, 4); });
      same("rename to itself", [&](O& o) { return o.Rename(p, p, 0); });
      same("rename to missing", [&](O& o) {
        const std::string r = o.Rename(p, "elsewhere", 0);
        return r + (r == "ok" ? o.Rename("elsewhere", p, 0) : "");
      });
      same("rename d/e to", [&](O& o) {
        const std::string r = o.Rename("d/e", p, 0);
        return r + (r == "ok" ? o.Rename(p, "d/e", 0) : "");
      });
      same("rename noreplace to", [&](O& o) {
        const std::string r = o.Rename("f", p, 1);
        return r + (r == "ok" ? o.Rename(p, "f", 1) : "");
      });
      same("rename exchange", [&](O& o) {
        const std::string r = o.Rename("f", p, 2);
        return r + (r == "ok" ? o.Rename("f", p, 2) : "");
      });
      // Not where it would succeed: the rest needs the directories.
      if (ops_->Stat(p, false).starts_with("ok mode 4")) continue;
      same("rmdir", [&](O& o) { return o.Rmdir(p); });
      same("unlink of a directory", [&](O& o) { return o.Unlink(p + "/"); });
    }
    EXPECT_EQ(testing::DescribeTree(*host, "", true), testing::DescribeTree(*ops_, "", true));
  });
  if (!ran) GTEST_SKIP() << "the host permits no chroot";
}

TEST_F(WalkTest, RandomOperationsLeaveTheSameTreeAsOnTheHost) {
  constexpr int kRounds = 60, kSteps = 400;
  for (unsigned seed = 1; seed <= kRounds; seed++) {
    mounts_ = MakeRef<MountNamespace>(
        Mount::Make(TmpfsFileSystem::Create({.mode = 0755}), 0, "tmpfs"));
    ops_ = testing::MakeVfsOps(*mounts_, *creds_);
    const bool ran = testing::InHostSandbox([&] {
      const auto host = testing::MakeHostOps();
      host->Chmod("/", 0755);
      std::mt19937 random(seed);
      std::string history;
      for (int i = 0; i < kSteps; i++) {
        const testing::RandomOp op = testing::MakeRandomOp(random);
        const std::string want = op.run(*host), got = op.run(*ops_);
        history += op.text + " = " + want + "\n";
        ASSERT_EQ(want, got) << "seed " << seed << "\n" << history;
      }
      EXPECT_EQ(testing::DescribeTree(*host, "", true), testing::DescribeTree(*ops_, "", true))
          << "seed " << seed << "\n" << history;
    });
    if (!ran) GTEST_SKIP() << "the host permits no chroot";
    if (HasFatalFailure() || HasFailure()) return;
  }
}

TEST_F(WalkTest, ResolveFlagsConfineTheWalk) {
  ops_->Mkdir("d", 0755);
  ops_->Mkdir("d/e", 0755);
  ops_->Symlink("/d", "d/abs");
  ops_->Symlink("e", "d/rel");
  ops_->Symlink("../..", "d/out");
  const Path d = *Lookup("d");
  const auto in_d = [&](const char* path, uint64_t resolve) {
    return Vfs::Lookup({*creds_, *mounts_, root_, d, nullptr, resolve}, path, {}).error_value();
  };
  EXPECT_EQ(in_d("rel", RESOLVE_NO_SYMLINKS), ELOOP);
  EXPECT_EQ(in_d("e", RESOLVE_NO_SYMLINKS), 0);
  EXPECT_EQ(in_d("rel", RESOLVE_BENEATH), 0);
  EXPECT_EQ(in_d("e/..", RESOLVE_BENEATH), 0);
  EXPECT_EQ(in_d("..", RESOLVE_BENEATH), EXDEV);
  EXPECT_EQ(in_d("abs", RESOLVE_BENEATH), EXDEV);
  EXPECT_EQ(in_d("out", RESOLVE_BENEATH), EXDEV);
  EXPECT_EQ(in_d("/e", RESOLVE_BENEATH), EXDEV);
  EXPECT_EQ(in_d("/e", RESOLVE_IN_ROOT), 0);
  EXPECT_EQ(in_d("../../e", RESOLVE_IN_ROOT), 0);
  EXPECT_EQ(in_d("abs", RESOLVE_IN_ROOT), ENOENT);
  EXPECT_TRUE(mounts_->Attach(Mount::Make(TmpfsFileSystem::Create({}), 0, "t"), *Lookup("d/e")).ok());
  EXPECT_EQ(in_d("e", RESOLVE_NO_XDEV), EXDEV);
  EXPECT_EQ(in_d("e", 0), 0);
}

TEST_F(WalkTest, DeletedPlacesSayso) {
  ops_->Mkdir("d", 0755);
  ops_->Mkdir("d/e", 0755);
  const Path e = *Lookup("d/e");
  EXPECT_EQ(Vfs::FullName(e, root_, *mounts_), "/d/e");
  EXPECT_EQ(ops_->Rename("d", "moved", 0), "ok");
  EXPECT_EQ(Vfs::FullName(e, root_, *mounts_), "/moved/e");
  EXPECT_EQ(ops_->Rmdir("moved/e"), "ok");
  EXPECT_EQ(Vfs::FullName(e, root_, *mounts_), "/moved/e (deleted)");
  const Walk inside{*creds_, *mounts_, root_, e};
  EXPECT_EQ(Vfs::Mkdir(inside, "x", 0755).error_value(), ENOENT);
  EXPECT_EQ(Vfs::Lookup(inside, "x", {}).error_value(), ENOENT);
  EXPECT_TRUE(Vfs::Lookup(inside, "..", {}).ok());
}

TEST_F(WalkTest, PermissionsFollowTheFsuid) {
  Ref<Credentials> user = creds_->Copy();
  user->fsuid = 1000;
  user->fsgid = 1000;
  user->cap_effective = 0;
  const Walk walk{*user, *mounts_, root_, root_};
  ops_->Mkdir("private", 0700);
  ops_->Mkdir("shared", 01777);
  ops_->Open("shared/root", O_CREAT | O_WRONLY, 0600, "");
  ops_->Open("setgid", O_CREAT | O_WRONLY, 0755, "");
  EXPECT_EQ(Vfs::Lookup(walk, "private/x", {}).error_value(), EACCES);
  EXPECT_EQ(Vfs::Lookup(walk, "private/../shared", {}).error_value(), EACCES);
  EXPECT_EQ(Vfs::Mkdir(walk, "new", 0755).error_value(), EACCES);
  EXPECT_EQ(Vfs::Mkdir(walk, "private", 0755).error_value(), EEXIST);
  EXPECT_TRUE(Vfs::Mkdir(walk, "shared/mine", 0755).ok());
  EXPECT_EQ(Vfs::Unlink(walk, "shared/root").error_value(), EPERM);
  EXPECT_TRUE(Vfs::Rmdir(walk, "shared/mine").ok());
  EXPECT_EQ(Vfs::Open(walk, "shared/root", O_RDONLY, 0, nullptr).error_value(), EACCES);
  EXPECT_EQ(Vfs::Chmod(*user, *Lookup("setgid"), 0777).error_value(), EPERM);
  EXPECT_EQ(Vfs::Chown(*user, *Lookup("setgid"), 1000, std::nullopt).error_value(), EPERM);
  // A created file may be opened for writing though its mode says no.
  EXPECT_TRUE(Vfs::Open(walk, "shared/ro", O_CREAT | O_WRONLY, 0400, nullptr).ok());
  EXPECT_EQ(Vfs::Open(walk, "shared/ro", O_WRONLY, 0, nullptr).error_value(), EACCES);
}

TEST_F(WalkTest, NewFilesInheritTheGroupOfASetGidDirectory) {
  ops_->Mkdir("d", 0755);
  EXPECT_TRUE(Vfs::Chown(*creds_, *Lookup("d"), std::nullopt, 77).ok());
  EXPECT_TRUE(Vfs::Chmod(*creds_, *Lookup("d"), 02777).ok());
  ops_->Mkdir("d/sub", 0755);
  const Attr sub = *Vfs::Stat(*Lookup("d/sub"));
  EXPECT_EQ(sub.gid, 77u);
  EXPECT_EQ(sub.mode & 07777, 02755u);
  ops_->Open("d/file", O_CREAT | O_WRONLY, 02755, "");
  EXPECT_EQ(Vfs::Stat(*Lookup("d/file"))->gid, 77u);
}

TEST_F(WalkTest, ReadOnlyMountsRefuseInLinuxOrder) {
  ops_->Mkdir("m", 0755);
  Ref<Mount> m = Mount::Make(TmpfsFileSystem::Create({.mode = 0755}), 0, "t");
  EXPECT_TRUE(mounts_->Attach(m, *Lookup("m")).ok());
  ops_->Mkdir("m/d", 0755);
  ops_->Open("m/f", O_CREAT | O_WRONLY, 0644, "");
  m->set_flags(MS_RDONLY);
  EXPECT_EQ(ops_->Mkdir("m/d", 0755), "EEXIST");
  EXPECT_EQ(ops_->Mkdir("m/x", 0755), "EROFS");
  EXPECT_EQ(ops_->Unlink("m/missing"), "EROFS");
  EXPECT_EQ(ops_->Open("m/missing", O_CREAT | O_WRONLY, 0644, ""), "EROFS");
  EXPECT_EQ(ops_->Open("m/missing", O_WRONLY, 0644, ""), "ENOENT");
  EXPECT_EQ(ops_->Open("m/f", O_CREAT | O_RDONLY, 0644, ""), "ok read ");
  EXPECT_EQ(ops_->Open("m/f", O_WRONLY, 0644, ""), "EROFS");
  EXPECT_EQ(ops_->Chmod("m/f", 0600), "EROFS");
  EXPECT_EQ(ops_->Rename("m/f", "m/g", 0), "EROFS");
  EXPECT_EQ(ops_->Rename("m/f", "g", 0), "EXDEV");
}

TEST_F(WalkTest, TheCacheStaysWithinItsBound) {
  Dentry::SetCacheLimit(100);
  for (int i = 0; i < 1000; i++) {
    EXPECT_EQ(ops_->Mkdir("n" + std::to_string(i), 0755), "ok");
  }
  EXPECT_LE(Dentry::CachedCount(), 100u + 40u);
  for (int i = 0; i < 1000; i++) EXPECT_TRUE(Lookup("n" + std::to_string(i)).ok());
  EXPECT_LE(Dentry::CachedCount(), 100u + 40u);
  Dentry::SetCacheLimit(64 << 10);
}

}  // namespace
}  // namespace ringwall
