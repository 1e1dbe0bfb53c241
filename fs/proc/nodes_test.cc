#include "fs/proc/nodes.h"

#include <gtest/gtest.h>
#include <linux/magic.h>

#include "fs/proc/cpu_list.h"
#include "fs/sys/sysfs.h"
#include "fs/vfs/vfs.h"

namespace ringwall {
namespace {

cpu_set_t Set(std::initializer_list<int> cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int n : cpus) CPU_SET(static_cast<size_t>(n), &set);
  return set;
}

TEST(CpuListTest, RunsAreRanges) {
  EXPECT_EQ(CpuList(Set({0, 1, 2, 5, 7, 8})), "0-2,5,7-8");
  EXPECT_EQ(CpuList(Set({3})), "3");
  EXPECT_EQ(CpuList(Set({})), "");
  EXPECT_EQ(CpuList(Set({1022, 1023})), "1022-1023");
}

TEST(CpuListTest, MasksAreInGroupsOf32Bits) {
  EXPECT_EQ(CpuMask(Set({0, 1})), "3");
  EXPECT_EQ(CpuMask(Set({0, 32})), "1,00000001");
  EXPECT_EQ(CpuMask(Set({63})), "80000000,00000000");
  EXPECT_EQ(CpuMask(Set({})), "0");
}

TEST(FormatTest, LongTextIsWhole) {
  const std::string word(2000, 'x');
  EXPECT_EQ(Format("<%s>", word.c_str()), "<" + word + ">");
  std::string out = "a";
  AppendFormat(&out, "%d", 7);
  EXPECT_EQ(out, "a7");
}

class TreeTest : public testing::Test {
 protected:
  TreeTest() {
    fs_ = MakeRef<SyntheticFs>("proc", static_cast<uint64_t>(PROC_SUPER_MAGIC));
    root_ = MakeRef<StaticDirectory>(*fs_, uint64_t{1});
    fs_->set_root(Ref<Inode>(*root_));
  }
  ~TreeTest() override { fs_->OnLastUnmount(); }

  Ref<File> Open(std::string_view name, uint32_t flags = O_RDONLY) {
    Result<Ref<Inode>> inode = root_->Lookup(name);
    RW_CHECK(inode.ok());
    Result<Ref<File>> file =
        (*inode)->Open(AnonymousPath(*inode, std::string(name)), flags, *Credentials::Root());
    RW_CHECK(file.ok());
    return std::move(*file);
  }
  static std::string Read(File& file, uint64_t pos, size_t size) {
    std::string out(size, '\0');
    SpanDst dst(std::as_writable_bytes(std::span(out)));
    Result<size_t> n = file.Read(dst, pos, 0);
    RW_CHECK(n.ok());
    out.resize(*n);
    return out;
  }

  RefPtr<SyntheticFs> fs_;
  RefPtr<StaticDirectory> root_;
};

TEST_F(TreeTest, PartsComeFromOneTextAndTheStartFromAFreshOne) {
  int asked = 0;
  root_->AddFile("count", [&]() -> Result<std::string> { return Format("%d-text", ++asked); });
  Ref<File> file = Open("count");
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(Read(*file, 0, 3), "1-t");
  EXPECT_EQ(Read(*file, 3, 100), "ext");
  EXPECT_EQ(Read(*file, 6, 100), "");
  EXPECT_EQ(Read(*file, ~uint64_t{0}, 100), "");
  EXPECT_EQ(Read(*file, 0, 100), "2-text");
}

TEST_F(TreeTest, TextMadeAtOpenStays) {
  int asked = 0;
  TextOps ops;
  ops.read = [&]() -> Result<std::string> { return Format("%d", ++asked); };
  ops.at_open = true;
  root_->Add("once", MakeRef<TextInode>(*fs_, uint64_t{9}, 0444u, std::move(ops)));
  Ref<File> file = Open("once");
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(Read(*file, 0, 9), "1");
  EXPECT_EQ(Read(*file, 0, 9), "1");
}

TEST_F(TreeTest, WritesReachTheWriterAndNobodyElse) {
  std::string got;
  root_->AddFile(
      "rw", [&]() -> Result<std::string> { return std::string(got); }, 0644,
      [&](std::string_view text) -> Result<void> {
        got = std::string(text);
        return {};
      });
  root_->AddText("ro", "fixed\n");
  Ref<File> file = Open("rw", O_RDWR);
  const std::string_view text = "hello";
  SpanSrc src(std::as_bytes(std::span(text.data(), text.size())));
  uint64_t pos = 0;
  Result<size_t> n = file->Write(src, &pos, 0);
  ASSERT_TRUE(n.ok());
  EXPECT_EQ(*n, 5u);
  EXPECT_EQ(got, "hello");
  // Root passes mode bits; what cannot be written refuses all the same, some of it at the open.
  SpanSrc more(std::as_bytes(std::span(text.data(), text.size())));
  EXPECT_EQ(Open("ro", O_WRONLY)->Write(more, &pos, 0).error_value(), EIO);
  root_->set_style(kSysctlStyle);
  root_->AddText("number", "1\n");
  Result<Ref<Inode>> inode = root_->Lookup("number");
  ASSERT_TRUE(inode.ok());
  EXPECT_EQ((*inode)->Open(AnonymousPath(*inode, "number"), O_WRONLY, *Credentials::Root())
                .error_value(),
            EACCES);
}

TEST_F(TreeTest, NothingCanBeMadeOrRemoved) {
  EXPECT_EQ(root_->Mkdir("new", NewInode{}).error_value(), ENOENT);
  EXPECT_EQ(root_->Create("new", NewInode{}).error_value(), ENOENT);
  EXPECT_EQ(root_->Lookup("new").error_value(), ENOENT);
  root_->AddLink("link", "self/mounts");
  Result<Ref<Inode>> link = root_->Lookup("link");
  ASSERT_TRUE(link.ok());
  Result<std::string> target = (*link)->ReadLink();
  ASSERT_TRUE(target.ok());
  EXPECT_EQ(*target, "self/mounts");
  EXPECT_FALSE((*link)->FollowMagic(nullptr).has_value());
}

TEST(SysFsTest, ShowsTheCpusOfTheSandbox) {
  Ref<FileSystem> fs = NewSysFs(Set({0, 2}), [] { return std::string(); });
  RefPtr<Inode> at(fs->root());
  for (const char* name : {"devices", "system", "cpu"}) {
    Result<Ref<Inode>> next = at->Lookup(name);
    ASSERT_TRUE(next.ok()) << name;
    at = RefPtr<Inode>(std::move(*next));
  }
  EXPECT_TRUE(at->Lookup("cpu2").ok());
  EXPECT_EQ(at->Lookup("cpu1").error_value(), ENOENT);
  at.reset();
  fs->OnLastUnmount();
}

}  // namespace
}  // namespace ringwall
