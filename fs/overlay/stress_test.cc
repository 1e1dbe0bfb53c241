// Many threads on one tree, with a cache too small for it: nothing may break, whatever the order.
// Meant for the sanitizers and the lock-order check; afterwards the tree has to be consistent.
#include <gtest/gtest.h>

#include <thread>

#include "fs/overlay/memory_upper.h"
#include "fs/vfs/testing/ops.h"
#include "fs/vfs/vfs.h"

namespace ringwall {
namespace {

void Hammer(Ref<FileSystem> fs) {
  const Ref<const Credentials> creds = Credentials::Root();
  {
    MountNamespace mounts(Mount::Make(fs, 0, "t"));
    const Path root = mounts.root();
    Dentry::SetCacheLimit(8);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; t++) {
      threads.emplace_back([&, t] {
        const auto ops = testing::MakeVfsOps(mounts, *creds);
        std::mt19937 random(t + 1);
        for (int i = 0; i < 10000; i++) {
          testing::MakeRandomOp(random).run(*ops);
          if (i % 50 == 0) (void)ops->List("/");
        }
      });
    }
    threads.emplace_back([&] {
      const Walk walk{*creds, mounts, root, root};
      for (int i = 0; i < 200; i++) {
        const Result<Path> at = Vfs::Lookup(walk, i % 2 == 0 ? "a" : "b/c", {.directory = true});
        if (!at.ok()) continue;
        (void)mounts.Attach(Mount::Make(TmpfsFileSystem::Create({}), 0, "m"), *at).ok();
        const Result<Path> top = Vfs::Lookup(walk, i % 2 == 0 ? "a" : "b/c", {.directory = true});
        if (top.ok()) {
          (void)Vfs::FullName(*top, root, mounts);
          (void)mounts.Detach(*top, MNT_DETACH).ok();
        }
      }
    });
    for (std::thread& t : threads) t.join();
    Dentry::SetCacheLimit(64 << 10);
    // The same seen with and without the cache.
    const auto ops = testing::MakeVfsOps(mounts, *creds);
    const std::string cached = testing::DescribeTree(*ops, "", true);
    for (const MountNamespace::Info& info : mounts.List()) info.mount->root().Prune();
    EXPECT_EQ(cached, testing::DescribeTree(*ops, "", true));
  }
  EXPECT_EQ(fs->ref_count_for_test(), 1u);
}

TEST(StressTest, Tmpfs) { Hammer(TmpfsFileSystem::Create({.mode = 0755})); }

TEST(StressTest, Overlay) {
  const Ref<const Credentials> creds = Credentials::Root();
  Ref<TmpfsFileSystem> lower = TmpfsFileSystem::Create({.mode = 0755});
  {
    // Keeps the file system mounted while it is filled, and until the overlay holds it.
    MountNamespace mounts(Mount::Make(lower, 0, "lower"));
    const auto ops = testing::MakeVfsOps(mounts, *creds);
    for (const char* d : {"a", "b", "a/b", "a/b/c", "b/c"}) ops->Mkdir(d, 0755);
    for (const char* f : {"c", "a/a", "a/b/a", "b/c/b"}) {
      ops->Open(f, O_CREAT | O_WRONLY, 0644, "lower");
    }
    ops->Link("c", "b/a", false);
    Result<Ref<FileSystem>> fs = OverlayOnMemory(lower, {});
    ASSERT_TRUE(fs.ok());
    Hammer(std::move(*fs));
  }
}

}  // namespace
}  // namespace ringwall
