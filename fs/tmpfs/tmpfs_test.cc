#include "fs/tmpfs/tmpfs.h"

#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include <algorithm>

#include "fs/vfs/vfs.h"

namespace ringwall {
namespace {

class TmpfsTest : public ::testing::Test {
 protected:
  void Mount(const TmpfsOptions& options) {
    fs_ = TmpfsFileSystem::Create(options);
    mounts_ = MakeRef<MountNamespace>(Mount::Make(Ref<FileSystem>(*fs_), 0, "tmpfs"));
    root_ = mounts_->root();
  }
  TmpfsTest() { Mount({}); }
  Walk walk() { return {*creds_, *mounts_, root_, root_}; }
  Ref<File> Open(const std::string& path, uint32_t flags = O_RDWR | O_CREAT) {
    Result<Ref<File>> f = Vfs::Open(walk(), path, flags, 0644, nullptr);
    EXPECT_TRUE(f.ok()) << path << " " << f.error_value();
    return *f;
  }
  Result<size_t> Write(File& file, uint64_t pos, const std::string& data) {
    SpanSrc src(std::as_bytes(std::span(data)));
    return file.Write(src, &pos, 0);
  }
  std::string Read(File& file, uint64_t pos, size_t n) {
    std::string out(n, '?');
    SpanDst dst(std::as_writable_bytes(std::span(out)));
    const Result<size_t> got = file.Read(dst, pos, 0);
    EXPECT_TRUE(got.ok());
    out.resize(*got);
    return out;
  }
  Attr Stat(File& file) { return *file.inode().GetAttr(); }

  Ref<const Credentials> creds_ = Credentials::Root();
  RefPtr<TmpfsFileSystem> fs_;
  RefPtr<MountNamespace> mounts_;
  Path root_;
};

TEST_F(TmpfsTest, ContentsSurviveTheMoveFromHeapToMemfd) {
  Ref<File> f = Open("f");
  std::string all;
  for (int i = 0; i < 300; i++) {
    const std::string piece(1000, static_cast<char>('a' + i % 26));
    ASSERT_EQ(*Write(*f, all.size(), piece), piece.size());
    all += piece;
  }
  EXPECT_EQ(Read(*f, 0, all.size() + 10), all);
  EXPECT_EQ(Stat(*f).size, all.size());
  EXPECT_EQ(Stat(*f).blocks, (all.size() + 4095) / 4096 * 8);
  EXPECT_EQ(fs_->used_pages(), (all.size() + 4095) / 4096);
}

TEST_F(TmpfsTest, HolesTakeNoSpace) {
  Ref<File> f = Open("f");
  ASSERT_TRUE(Write(*f, uint64_t{1} << 40, "end").ok());
  EXPECT_EQ(Stat(*f).size, (uint64_t{1} << 40) + 3);
  EXPECT_EQ(fs_->used_pages(), 1u);
  EXPECT_EQ(Read(*f, 100, 3), std::string(3, '\0'));
  MutexLock lock(f->offset_lock());
  EXPECT_EQ(*f->Seek(0, SEEK_DATA), int64_t{1} << 40);
  EXPECT_EQ(*f->Seek(0, SEEK_HOLE), 0);
  EXPECT_EQ(f->Seek((int64_t{1} << 40) + 3, SEEK_DATA).error_value(), ENXIO);
}

TEST_F(TmpfsTest, TruncationAndPunchingGiveSpaceBack) {
  Ref<File> f = Open("f");
  ASSERT_TRUE(Write(*f, 0, std::string(1 << 20, 'x')).ok());
  EXPECT_EQ(fs_->used_pages(), 256u);
  ASSERT_TRUE(f->Fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192).ok());
  EXPECT_EQ(fs_->used_pages(), 254u);
  EXPECT_EQ(Read(*f, 4095, 3), std::string("x\0\0", 3));
  ASSERT_TRUE(Write(*f, 4096, "y").ok());
  EXPECT_EQ(fs_->used_pages(), 255u);
  ASSERT_TRUE(Vfs::Ftruncate(*creds_, *f, 10).ok());
  EXPECT_EQ(fs_->used_pages(), 1u);
  ASSERT_TRUE(Vfs::Ftruncate(*creds_, *f, 100).ok());
  EXPECT_EQ(Read(*f, 0, 200), std::string(10, 'x') + std::string(90, '\0'));
}

TEST_F(TmpfsTest, TheSizeLimitIsKept) {
  Mount({.size = 64 << 10});
  Ref<File> f = Open("f");
  EXPECT_EQ(*Write(*f, 0, std::string(60 << 10, 'x')), size_t{60} << 10);
  // As much as fits.
  EXPECT_EQ(*Write(*Open("g"), 0, std::string(8 << 10, 'x')), size_t{4} << 10);
  ASSERT_TRUE(Vfs::Unlink(walk(), "g").ok());
  EXPECT_EQ(*Write(*f, 60 << 10, std::string(100 << 10, 'x')), size_t{4} << 10);
  EXPECT_EQ(Write(*f, 64 << 10, "x").error_value(), ENOSPC);
  EXPECT_TRUE(Write(*f, 5, "still").ok());
  EXPECT_EQ(fs_->GetStatFs()->bfree, 0u);
  EXPECT_EQ(Open("h")->Fallocate(0, 0, 4096).error_value(), ENOSPC);
  ASSERT_TRUE(Vfs::Unlink(walk(), "f").ok());
  EXPECT_EQ(Read(*f, 5, 5), "still");
  EXPECT_EQ(fs_->used_pages(), 16u);
  f = Open("g");
  EXPECT_EQ(fs_->used_pages(), 0u);
}

TEST_F(TmpfsTest, TheInodeLimitIsKept) {
  Mount({.nr_inodes = 3});
  Open("a");
  Open("b");
  EXPECT_EQ(Vfs::Open(walk(), "c", O_CREAT | O_WRONLY, 0600, nullptr).error_value(), ENOSPC);
  EXPECT_EQ(Vfs::Mkdir(walk(), "c", 0700).error_value(), ENOSPC);
  const Path b = *Vfs::Lookup(walk(), "b", {});
  EXPECT_EQ(Vfs::Link(b, walk(), "l").error_value(), ENOSPC);
  ASSERT_TRUE(Vfs::Unlink(walk(), "a").ok());
  ASSERT_TRUE(Vfs::Link(b, walk(), "l").ok());
  EXPECT_EQ(Vfs::Mkdir(walk(), "c", 0700).error_value(), ENOSPC);
  ASSERT_TRUE(Vfs::Unlink(walk(), "l").ok());
  EXPECT_TRUE(Vfs::Mkdir(walk(), "c", 0700).ok());
}

TEST_F(TmpfsTest, AMappingAndTheFileAreOne) {
  Ref<File> f = Open("f");
  ASSERT_TRUE(Write(*f, 0, "hello").ok());
  const HostMapping m = *f->Map(0, 4096, PROT_READ | PROT_WRITE, true);
  char* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m.host_fd,
                                    static_cast<off_t>(m.offset)));
  ASSERT_NE(p, MAP_FAILED);
  p[0] = 'J';
  EXPECT_EQ(Read(*f, 0, 5), "Jello");
  ASSERT_TRUE(Write(*f, 4, "y").ok());
  EXPECT_EQ(p[4], 'y');
  munmap(p, 4096);
}

TEST_F(TmpfsTest, AppendGoesToTheEnd) {
  Ref<File> f = Open("f", O_RDWR | O_CREAT | O_APPEND);
  ASSERT_TRUE(Write(*f, 0, "one").ok());
  ASSERT_TRUE(Write(*f, 0, "two").ok());
  EXPECT_EQ(Read(*f, 0, 10), "onetwo");
}

TEST_F(TmpfsTest, AnUnnamedFileCanBeNamedOnce) {
  Ref<File> f = Open(".", O_TMPFILE | O_RDWR);
  ASSERT_TRUE(Write(*f, 0, "x").ok());
  EXPECT_EQ(Stat(*f).nlink, 0u);
  ASSERT_TRUE(Vfs::Link(f->path(), walk(), "named").ok());
  EXPECT_EQ(Stat(*f).nlink, 1u);
  EXPECT_EQ(Read(*Open("named", O_RDONLY), 0, 5), "x");
  Ref<File> never = Open(".", O_TMPFILE | O_RDWR | O_EXCL);
  EXPECT_EQ(Vfs::Link(never->path(), walk(), "no").error_value(), ENOENT);
  Ref<File> gone = Open("gone");
  ASSERT_TRUE(Vfs::Unlink(walk(), "gone").ok());
  EXPECT_EQ(Vfs::Link(gone->path(), walk(), "again").error_value(), ENOENT);
}

TEST_F(TmpfsTest, WhiteoutsAreLeftBehindByRename) {
  Open("f");
  ASSERT_TRUE(Vfs::Rename(walk(), "f", walk(), "g", RENAME_WHITEOUT).ok());
  const Attr a = *Vfs::Stat(*Vfs::Lookup(walk(), "f", {}));
  EXPECT_EQ(a.mode, static_cast<uint32_t>(S_IFCHR));
  EXPECT_EQ(a.rdev, 0u);
}

TEST_F(TmpfsTest, DirectoryPositionsSurviveChanges) {
  for (int i = 0; i < 200; i++) Open("f" + std::to_string(i));
  class Sink final : public DirSink {
   public:
    bool Add(std::string_view name, uint64_t, uint8_t, int64_t) override {
      if (room-- == 0) return false;
      names.emplace_back(name);
      return true;
    }
    int room = 0;
    std::vector<std::string> names;
  } sink;
  Ref<File> dir = Open(".", O_RDONLY | O_DIRECTORY);
  const auto read = [&](int n) {
    sink.room = n;
    MutexLock lock(dir->offset_lock());
    EXPECT_TRUE(dir->ReadDir(sink).ok());
  };
  read(52);
  // What was read goes, so that slots are compacted; the rest is still seen once.
  for (size_t i = 2; i < sink.names.size(); i++) {
    ASSERT_TRUE(Vfs::Unlink(walk(), sink.names[i]).ok());
  }
  for (int i = 100; i < 200; i++) ASSERT_TRUE(Vfs::Unlink(walk(), "f" + std::to_string(i)).ok());
  read(1000);
  EXPECT_EQ(sink.names.size(), 102u);
  std::sort(sink.names.begin(), sink.names.end());
  EXPECT_EQ(std::unique(sink.names.begin(), sink.names.end()), sink.names.end());
}

TEST_F(TmpfsTest, XattrsFollowTheirRules) {
  Open("f");
  const Path f = *Vfs::Lookup(walk(), "f", {});
  EXPECT_EQ(Vfs::GetXattr(*creds_, f, "user.a").error_value(), ENODATA);
  EXPECT_EQ(Vfs::SetXattr(*creds_, f, "user.a", "1", XATTR_REPLACE).error_value(), ENODATA);
  EXPECT_TRUE(Vfs::SetXattr(*creds_, f, "user.a", "1", XATTR_CREATE).ok());
  EXPECT_EQ(Vfs::SetXattr(*creds_, f, "user.a", "2", XATTR_CREATE).error_value(), EEXIST);
  EXPECT_TRUE(Vfs::SetXattr(*creds_, f, "trusted.b", "2", 0).ok());
  EXPECT_EQ(*Vfs::GetXattr(*creds_, f, "user.a"), "1");
  EXPECT_EQ(Vfs::ListXattr(*creds_, f)->size(), 2u);
  Ref<Credentials> user = creds_->Copy();
  user->cap_effective = 0;
  EXPECT_EQ(Vfs::ListXattr(*user, f)->size(), 1u);
  EXPECT_EQ(Vfs::GetXattr(*user, f, "trusted.b").error_value(), ENODATA);
  EXPECT_EQ(Vfs::SetXattr(*user, f, "trusted.b", "", 0).error_value(), EPERM);
  EXPECT_EQ(Vfs::SetXattr(*creds_, f, "other.b", "", 0).error_value(), EOPNOTSUPP);
  EXPECT_TRUE(Vfs::RemoveXattr(*creds_, f, "user.a").ok());
  EXPECT_EQ(Vfs::RemoveXattr(*creds_, f, "user.a").error_value(), ENODATA);
}

TEST(TmpfsOptionsTest, ParsesWhatMountTakes) {
  const Result<TmpfsOptions> o =
      TmpfsOptions::Parse("size=10%,nr_inodes=2k,mode=755,uid=5,gid=6", 1000 << 20);
  ASSERT_TRUE(o.ok());
  EXPECT_EQ(o->size, uint64_t{100} << 20);
  EXPECT_EQ(o->nr_inodes, 2048u);
  EXPECT_EQ(o->mode, 0755u);
  EXPECT_EQ(o->uid, 5u);
  EXPECT_EQ(TmpfsOptions::Parse("", 1 << 20)->size, uint64_t{1} << 19);
  EXPECT_EQ(TmpfsOptions::Parse("size=64m", 0)->size, uint64_t{64} << 20);
  for (const char* bad : {"size=", "size=1x", "mode=9", "uid=a", "what=1", "size=99999999999t"}) {
    EXPECT_EQ(TmpfsOptions::Parse(bad, 1 << 30).error_value(), EINVAL) << bad;
  }
}

}  // namespace
}  // namespace ringwall
