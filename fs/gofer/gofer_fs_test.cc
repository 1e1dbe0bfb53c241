// The gofer file system over a real gofer server that serves a directory of the host.
#include "fs/gofer/gofer.h"

#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/mman.h>

#include "fs/overlay/memory_upper.h"
#include "fs/vfs/testing/ops.h"
#include "fs/vfs/vfs.h"
#include "gofer/testing/fixture.h"

namespace ringwall {
namespace {

class GoferFsTest : public gofer::GoferTest {
 protected:
  void SetUp() override {
    GoferTest::SetUp();
    Mount(false, 0);
  }
  void TearDown() override {
    ops_.reset();
    start_ = Path();
    mounts_.reset();
    GoferTest::TearDown();
  }
  void Mount(bool shared, uint32_t root) {
    ops_.reset();
    start_ = Path();
    mounts_.reset();
    Result<Ref<GoferFileSystem>> fs = GoferFileSystem::Create(
        Ref<gofer::GoferClient>(client_), root, {.exclusive = !shared});
    ASSERT_TRUE(fs.ok());
    mounts_ = MakeRef<MountNamespace>(
        ringwall::Mount::Make(*fs, (*fs)->read_only() ? MS_RDONLY : 0, "g"));
    start_ = mounts_->root();
    ops_ = testing::MakeVfsOps(*mounts_, *creds_);
  }
  Walk walk() { return {*creds_, *mounts_, start_, start_}; }
  Ref<File> Open(const std::string& path, uint32_t flags) {
    Result<Ref<File>> f = Vfs::Open(walk(), path, flags, 0644, nullptr);
    EXPECT_TRUE(f.ok()) << path << " " << f.error_value();
    return *f;
  }
  std::string Read(File& f) {
    char buffer[100];
    SpanDst dst(std::as_writable_bytes(std::span(buffer)));
    const Result<size_t> n = f.Read(dst, 0, 0);
    return n.ok() ? std::string(buffer, *n) : "error";
  }

  Ref<const Credentials> creds_ = Credentials::Root();
  RefPtr<MountNamespace> mounts_;
  Path start_;
  std::unique_ptr<testing::Ops> ops_;
};

TEST_P(GoferFsTest, RandomOperationsLeaveTheSameTreeAsOnTheHost) {
  for (const bool shared : {false, true}) {
    for (unsigned seed = 1; seed <= 6; seed++) {
      Mount(shared, 0);
      // Each round in a directory of its own, as the root.
      const std::string sub = std::to_string(seed) + (shared ? "s" : "e");
      ASSERT_EQ(ops_->Mkdir(sub, 0755), "ok");
      const Path top = *Vfs::Lookup(walk(), sub, {});
      Ref<MountNamespace> space = MakeRef<MountNamespace>(MakeRef<ringwall::Mount>(
          Ref<FileSystem>(top.mount().fs()), Ref<Dentry>(top.dentry()), 0u, "sub"));
      const auto ops = testing::MakeVfsOps(*space, *creds_);
      const bool ran = testing::InHostSandbox([&] {
        const auto host = testing::MakeHostOps();
        host->Chmod("/", 0755);
        std::mt19937 random(seed);
        std::string history;
        for (int i = 0; i < 300; i++) {
          const testing::RandomOp op = testing::MakeRandomOp(random);
          const std::string want = op.run(*host), got = op.run(*ops);
          history += op.text + " = " + want + "\n";
          ASSERT_EQ(want, got) << "seed " << seed << "\n" << history;
        }
        EXPECT_EQ(testing::DescribeTree(*host, "", true), testing::DescribeTree(*ops, "", true))
            << "seed " << seed << "\n" << history;
      });
      if (!ran) GTEST_SKIP() << "the host permits no chroot";
      if (HasFailure()) return;
    }
  }
}

TEST_P(GoferFsTest, AnOverlayOnTopLeavesTheHostAlone) {
  const auto fill = [](testing::Ops& o) {
    for (const char* d : {"a", "b", "a/b", "a/b/c", "b/c"}) o.Mkdir(d, 0755);
    for (const char* f : {"c", "a/a", "a/b/a", "b/c/b"}) {
      o.Open(f, O_CREAT | O_WRONLY, 0644, std::string("lower ") + f);
    }
    o.Link("c", "b/a", false);
    o.Symlink("a/b", "l");
  };
  fill(*ops_);
  const std::string before = testing::DescribeTree(*ops_, "", true);
  for (unsigned seed = 1; seed <= 8; seed++) {
    Result<Ref<GoferFileSystem>> lower =
        GoferFileSystem::Create(Ref<gofer::GoferClient>(client_), 1, {});
    ASSERT_TRUE(lower.ok());
    Result<Ref<FileSystem>> fs = OverlayOnMemory(std::move(*lower), {});
    ASSERT_TRUE(fs.ok());
    MountNamespace space(ringwall::Mount::Make(std::move(*fs), 0, "overlay"));
    const auto ops = testing::MakeVfsOps(space, *creds_);
    const bool ran = testing::InHostSandbox([&] {
      const auto host = testing::MakeHostOps();
      host->Chmod("/", 0755);
      ops->Chmod("/", 0755);
      fill(*host);
      std::mt19937 random(seed);
      std::string history;
      for (int i = 0; i < 300; i++) {
        const testing::RandomOp op = testing::MakeRandomOp(random);
        const std::string want = op.run(*host), got = op.run(*ops);
        history += op.text + " = " + want + "\n";
        ASSERT_EQ(want, got) << "seed " << seed << "\n" << history;
      }
      EXPECT_EQ(testing::DescribeTree(*host, "", false), testing::DescribeTree(*ops, "", false))
          << "seed " << seed << "\n" << history;
    });
    if (!ran) GTEST_SKIP() << "the host permits no chroot";
    if (HasFailure()) return;
  }
  Mount(false, 0);
  EXPECT_EQ(before, testing::DescribeTree(*ops_, "", true));
}

TEST_P(GoferFsTest, ManyMissingNamesAreNoneOfTheHostsBusiness) {
  gofer::WriteFile(dir_ / "there", "x");
  for (int i = 0; i < 20; i++) EXPECT_EQ(ops_->Stat("no" + std::to_string(i), true), "ENOENT");
  // By now the directory has been listed; a name that comes later on the host is not seen, one that
  // the guest makes is.
  gofer::WriteFile(dir_ / "late", "");
  EXPECT_EQ(ops_->Stat("late", true), "ENOENT");
  EXPECT_EQ(ops_->Open("there", O_RDONLY, 0, ""), "ok read x");
  EXPECT_EQ(ops_->Open("mine", O_CREAT | O_RDWR, 0600, "y"), "ok wrote 1 read y");
  EXPECT_EQ(ops_->Stat("mine", true).substr(0, 14), "ok mode 100600");
}

TEST_P(GoferFsTest, ReadsAndWritesReachTheHost) {
  gofer::WriteFile(dir_ / "f", "from host");
  EXPECT_EQ(ops_->Open("f", O_RDONLY, 0, ""), "ok read from host");
  EXPECT_EQ(ops_->Open("new", O_CREAT | O_RDWR, 0640, "from guest"), "ok wrote 10 read from guest");
  EXPECT_EQ(HostStat("new").st_size, 10);
  EXPECT_EQ(HostStat("new").st_mode & 07777, 0640u);
  EXPECT_EQ(ops_->Stat("new", true).substr(0, 14), "ok mode 100640");
  Ref<File> f = Open("new", O_RDWR | O_APPEND);
  SpanSrc src(std::as_bytes(std::span("++", 2)));
  uint64_t pos = 0;
  EXPECT_EQ(*f->Write(src, &pos, 0), 2u);
  EXPECT_EQ(pos, 12u);
  EXPECT_EQ(Vfs::Stat(f->path())->size, 12u);
  ASSERT_TRUE(Vfs::Ftruncate(*creds_, *f, 3).ok());
  EXPECT_EQ(Vfs::Stat(f->path())->size, 3u);
  EXPECT_EQ(HostStat("new").st_size, 3);
}

TEST_P(GoferFsTest, ExclusiveModeAsksOnce) {
  ASSERT_EQ(::mkdir((dir_ / "d").c_str(), 0755), 0);
  gofer::WriteFile(dir_ / "d/f", "abc");
  EXPECT_EQ(ops_->Open("d/f", O_RDONLY, 0, ""), "ok read abc");
  EXPECT_EQ(ops_->Stat("d/g", true), "ENOENT");
  ASSERT_EQ(ops_->List("d"), "ok ..:4 .:4 f:8");
  // The host's changes go unnoticed, which shows that nobody asked.
  gofer::WriteFile(dir_ / "d/g", "");
  ASSERT_EQ(::unlink((dir_ / "d/f").c_str()), 0);
  EXPECT_EQ(ops_->Stat("d/g", true), "ENOENT");
  EXPECT_EQ(ops_->Open("d/f", O_RDONLY, 0, ""), "ok read abc");
  EXPECT_EQ(ops_->List("d"), "ok ..:4 .:4 f:8");
}

TEST_P(GoferFsTest, WhoGoesThroughADirectoryIsToldAhead) {
  ASSERT_EQ(::mkdir((dir_ / "d").c_str(), 0755), 0);
  const auto name = [](int i) { return "d/f" + std::to_string(i); };
  for (int i = 0; i < 20; i++) gofer::WriteFile(dir_ / name(i), "abc");
  for (int i = 0; i < 5; i++) EXPECT_EQ(ops_->Stat(name(i), true).substr(0, 2), "ok");
  // The host's change goes unnoticed: it was asked before.
  gofer::WriteFile(dir_ / name(10), "longer");
  const auto size = [&](int i) {
    const std::string stat = ops_->Stat(name(i), true);
    return stat.substr(stat.find("size "));
  };
  EXPECT_EQ(size(10), "size 3");
  // A change by the guest, whatever it is of, and it is asked again.
  gofer::WriteFile(dir_ / name(11), "longer");
  EXPECT_EQ(ops_->Mkdir("other", 0755), "ok");
  EXPECT_EQ(size(11), "size 6");
  // Without handles, but not without any of the operations that need one.
  EXPECT_EQ(ops_->Chmod(name(3), 0600), "ok");
  EXPECT_EQ(HostStat(name(3)).st_mode & 07777, 0600u);
  EXPECT_EQ(ops_->Open(name(4), O_RDWR, 0, "xyz"), "ok wrote 3 read xyz");
  EXPECT_EQ(gofer::ReadFd(UniqueFd(::open((dir_ / name(4)).c_str(), O_RDONLY)).get()), "xyz");
}

TEST_P(GoferFsTest, FilesOpenedInTurnAreOpenedAhead) {
  ASSERT_EQ(::mkdir((dir_ / "d").c_str(), 0755), 0);
  for (int i = 0; i < 60; i++) {
    gofer::WriteFile(dir_ / ("d/f" + std::to_string(i)), std::to_string(i));
  }
  // In the order of the listing.
  std::vector<std::string> names;
  const std::string list = ops_->List("d");
  UniqueFd dir(::open((dir_ / "d").c_str(), O_RDONLY | O_DIRECTORY));
  DIR* stream = ::fdopendir(dir.release());
  while (const dirent* e = ::readdir(stream)) {
    if (e->d_name[0] == 'f') names.emplace_back(e->d_name);
  }
  ::closedir(stream);
  for (int i = 0; i < 30; i++) {
    EXPECT_EQ(ops_->Open("d/" + names[i], O_RDONLY, 0, ""), "ok read " + names[i].substr(1));
  }
  // The next one is open by now, so that the host may take the name away.
  ASSERT_EQ(::unlink((dir_ / ("d/" + names[31])).c_str()), 0);
  EXPECT_EQ(ops_->Open("d/" + names[30], O_RDONLY, 0, ""), "ok read " + names[30].substr(1));
  EXPECT_EQ(ops_->Open("d/" + names[31], O_RDONLY, 0, ""), "ok read " + names[31].substr(1));
  // What the guest writes is there for who has opened the file ahead.
  EXPECT_EQ(ops_->Open("d/" + names[33], O_WRONLY, 0, "written"), "ok wrote 7");
  EXPECT_EQ(ops_->Open("d/" + names[32], O_RDONLY, 0, ""), "ok read " + names[32].substr(1));
  EXPECT_EQ(ops_->Open("d/" + names[33], O_RDONLY, 0, ""), "ok read written");
  // An open file without a handle keeps all its operations when its name goes.
  Ref<File> f = Open("d/" + names[34], O_RDONLY);
  EXPECT_EQ(ops_->Unlink("d/" + names[34]), "ok");
  EXPECT_EQ(Read(*f), names[34].substr(1));
  SetAttr mode;
  mode.mode = 0600;
  EXPECT_TRUE(f->path().dentry().inode()->Set(mode).ok());
  EXPECT_EQ(ops_->Rename("d/" + names[35], "d/renamed", 0), "ok");
  EXPECT_EQ(ops_->Open("d/renamed", O_RDWR, 0, ""), "ok read " + names[35].substr(1));
}

TEST_P(GoferFsTest, SharedModeSeesTheHostsChanges) {
  Mount(true, 0);
  EXPECT_EQ(ops_->Stat("g", true), "ENOENT");
  gofer::WriteFile(dir_ / "g", "1");
  EXPECT_EQ(ops_->Open("g", O_RDONLY, 0, ""), "ok read 1");
  ASSERT_EQ(::rename((dir_ / "g").c_str(), (dir_ / "h").c_str()), 0);
  EXPECT_EQ(ops_->Stat("g", true), "ENOENT");
  gofer::WriteFile(dir_ / "h", "changed");
  EXPECT_EQ(ops_->Stat("h", true).substr(ops_->Stat("h", true).size() - 6), "size 7");
  EXPECT_EQ(ops_->List("/"), "ok ..:4 .:4 h:8");
  // The same name, another file.
  gofer::WriteFile(dir_ / "i", "other");
  ASSERT_EQ(::rename((dir_ / "i").c_str(), (dir_ / "h").c_str()), 0);
  EXPECT_EQ(ops_->Open("h", O_RDONLY, 0, ""), "ok read other");
}

TEST_P(GoferFsTest, HardLinksAreOneInode) {
  gofer::WriteFile(dir_ / "a", "x");
  ASSERT_EQ(::link((dir_ / "a").c_str(), (dir_ / "b").c_str()), 0);
  const Path a = *Vfs::Lookup(walk(), "a", {}), b = *Vfs::Lookup(walk(), "b", {});
  EXPECT_EQ(a.dentry().inode().get(), b.dentry().inode().get());
  EXPECT_EQ(ops_->Unlink("a"), "ok");
  EXPECT_EQ(Vfs::Stat(b)->nlink, 1u);
}

TEST_P(GoferFsTest, AReadOnlyRootIsReadOnly) {
  gofer::WriteFile(dir_ / "f", "abc");
  Mount(false, 1);
  EXPECT_EQ(ops_->Open("f", O_RDONLY, 0, ""), "ok read abc");
  EXPECT_EQ(ops_->Open("f", O_WRONLY, 0, "x"), "EROFS");
  EXPECT_EQ(ops_->Mkdir("d", 0755), "EROFS");
  EXPECT_EQ(ops_->Unlink("f"), "EROFS");
}

TEST_P(GoferFsTest, AnOpenFileOutlivesItsName) {
  Ref<File> f = Open("f", O_CREAT | O_RDWR);
  SpanSrc src(std::as_bytes(std::span("kept", 4)));
  uint64_t pos = 0;
  ASSERT_TRUE(f->Write(src, &pos, 0).ok());
  EXPECT_EQ(ops_->Unlink("f"), "ok");
  EXPECT_EQ(Read(*f), "kept");
  EXPECT_EQ(Vfs::Stat(f->path())->nlink, 0u);
  EXPECT_EQ(ops_->Open("f", O_CREAT | O_RDWR, 0600, "new"), "ok wrote 3 read new");
  EXPECT_EQ(Read(*f), "kept");
}

TEST_P(GoferFsTest, MappingsAreOfTheHostFile) {
  gofer::WriteFile(dir_ / "f", "mapped");
  Ref<File> f = Open("f", O_RDWR);
  const HostMapping m = *f->Map(0, 4096, PROT_READ | PROT_WRITE, true);
  char* p = static_cast<char*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m.host_fd, 0));
  ASSERT_NE(p, MAP_FAILED);
  p[0] = 'M';
  EXPECT_EQ(Read(*f), "Mapped");
  munmap(p, 4096);
}

TEST_P(GoferFsTest, HandlesAndDescriptorsAreGivenBack) {
  const size_t fds = gofer::CountFds();
  for (int i = 0; i < 200; i++) {
    EXPECT_EQ(ops_->Open("f" + std::to_string(i), O_CREAT | O_WRONLY, 0600, "x"), "ok wrote 1");
  }
  for (int i = 0; i < 200; i++) EXPECT_EQ(ops_->Unlink("f" + std::to_string(i)), "ok");
  client_->FlushCloses();
  // Server and client live in this process.
  EXPECT_LE(gofer::CountFds(), fds + 10);
}

TEST_P(GoferFsTest, LargeDirectoriesListCompletely) {
  for (int i = 0; i < 3000; i++) {
    gofer::WriteFile(dir_ / ("a-rather-long-file-name-for-an-entry-" + std::to_string(i)), "");
  }
  const std::string list = ops_->List("/");
  EXPECT_EQ(std::count(list.begin(), list.end(), ' '), 3002);
}

INSTANTIATE_TEST_SUITE_P(SharedMemory, GoferFsTest, ::testing::Values(true));

}  // namespace
}  // namespace ringwall
