#include "fs/vfs/fd_table.h"

#include <gtest/gtest.h>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"

namespace ringwall {
namespace {

class NullFile final : public File {
 public:
  explicit NullFile(Path path) : File(std::move(path), O_RDWR) {}
};

Ref<File> MakeFile() {
  Ref<Inode> inode = MakeRef<AnonInode>(0600u, Uid{0}, Gid{0});
  return MakeRef<NullFile>(AnonymousPath(std::move(inode), "anon_inode:[test]"));
}

constexpr uint64_t kLimit = 100;

TEST(FdTableTest, GivesTheLowestFreeNumber) {
  FdTable table;
  for (int i = 0; i < 5; i++) EXPECT_EQ(*table.Install(MakeFile(), false, kLimit), i);
  EXPECT_TRUE(table.Remove(3).ok());
  EXPECT_TRUE(table.Remove(1).ok());
  EXPECT_EQ(*table.Install(MakeFile(), false, kLimit), 1);
  EXPECT_EQ(*table.Install(MakeFile(), false, kLimit), 3);
  EXPECT_EQ(*table.Install(MakeFile(), false, kLimit), 5);
  EXPECT_EQ(*table.Install(MakeFile(), false, kLimit, 40), 40);
  EXPECT_EQ(*table.Install(MakeFile(), false, kLimit), 6);
}

TEST(FdTableTest, KeepsToTheLimit) {
  FdTable table;
  EXPECT_EQ(*table.Install(MakeFile(), false, 1), 0);
  EXPECT_EQ(table.Install(MakeFile(), false, 1).error_value(), EMFILE);
  EXPECT_EQ(table.Reserve(1, 1).error_value(), EINVAL);   // F_DUPFD
  EXPECT_EQ(table.Reserve(-1, 1).error_value(), EINVAL);
  EXPECT_EQ(table.InstallAt(1, MakeFile(), false, 1).error_value(), EBADF);
}

TEST(FdTableTest, AReservedNumberIsInvisibleUntilCommitted) {
  FdTable table;
  {
    Result<FdReservation> slot = table.Reserve(0, kLimit);
    ASSERT_TRUE(slot.ok());
    EXPECT_EQ(slot->fd(), 0);
    EXPECT_EQ(table.Get(0).error_value(), EBADF);
    EXPECT_EQ(*table.Install(MakeFile(), false, kLimit), 1);
    EXPECT_EQ(table.InstallAt(0, MakeFile(), false, kLimit).error_value(), EBUSY);
  }
  // Given back.
  EXPECT_EQ(*table.Install(MakeFile(), false, kLimit), 0);
}

TEST(FdTableTest, ExecClosesTheMarkedOnes) {
  FdTable table;
  for (int i = 0; i < 6; i++) EXPECT_TRUE(table.Install(MakeFile(), i % 2 == 0, kLimit).ok());
  EXPECT_EQ(table.RemoveCloexec().size(), 3u);
  EXPECT_EQ(table.List(), (std::vector<int>{1, 3, 5}));
  EXPECT_EQ(table.RemoveRange(2, ~0u).size(), 2u);
  EXPECT_EQ(table.List(), (std::vector<int>{1}));
  EXPECT_EQ(*table.Install(MakeFile(), false, kLimit), 0);
}

TEST(FdTableTest, AForkedTableIsApart) {
  FdTable table;
  for (int i = 0; i < 3; i++) EXPECT_TRUE(table.Install(MakeFile(), i == 1, kLimit).ok());
  EXPECT_TRUE(table.Remove(0).ok());
  Ref<FdTable> copy = table.Fork();
  EXPECT_EQ(copy->List(), (std::vector<int>{1, 2}));
  EXPECT_TRUE(copy->GetEntry(1)->cloexec);
  EXPECT_EQ(copy->Get(2)->get(), table.Get(2)->get());
  EXPECT_EQ(*copy->Install(MakeFile(), false, kLimit), 0);
  EXPECT_EQ(table.Get(0).error_value(), EBADF);
  EXPECT_EQ(table.Get(-1).error_value(), EBADF);
}

}  // namespace
}  // namespace ringwall
