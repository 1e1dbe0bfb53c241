#include "sentry/base/viewed_file.h"

#include <gtest/gtest.h>

namespace ringwall {
namespace {

class NoFile final : public ViewedFile {
 public:
  int host_fd() const override { return -1; }
  Result<size_t> ReadAt(std::span<std::byte>, uint64_t) override { return size_t{0}; }
};

class CountingViewer final : public FileViewer {
 public:
  void DropViews(const ViewedFile* file) override { dropped = file; }
  bool TryHold() override { return alive; }
  void LetGo() override { ++let_go; }
  const ViewedFile* dropped = nullptr;
  bool alive = true;
  int let_go = 0;
};

// How many reads of so many bytes it takes.
int ReadsUntilOffered(ViewCount& count, size_t bytes) {
  int reads = 0;
  while (count.Find(bytes, [] { return Ref<ViewedFile>(MakeRef<NoFile>()); }) == nullptr) ++reads;
  return reads;
}

TEST(ViewCountTest, ManySmallOrFewLargeReadsMakeAFileHot) {
  ViewCount small, large;
  EXPECT_GT(ReadsUntilOffered(small, 1), 100);
  const int reads = ReadsUntilOffered(large, 65536);
  EXPECT_GT(reads, 2);
  EXPECT_LT(reads, 40);
  EXPECT_EQ(ReadsUntilOffered(large, 1), 0);
}

TEST(ViewCountTest, EachCloseDropsTheViewsAndMakesTheNextComeLater) {
  ViewCount count;
  CountingViewer viewer, gone;
  gone.alive = false;
  const int first = ReadsUntilOffered(count, 4096);
  ViewedFile* const file = count.Find(1, [] { return Ref<ViewedFile>(MakeRef<NoFile>()); });
  file->AddViewer(viewer);
  file->AddViewer(gone);
  count.Close();
  EXPECT_EQ(viewer.dropped, file);
  EXPECT_EQ(viewer.let_go, 1);
  EXPECT_EQ(gone.dropped, nullptr);
  EXPECT_GT(ReadsUntilOffered(count, 4096), first);
  EXPECT_EQ(count.Find(1, [] { return Ref<ViewedFile>(MakeRef<NoFile>()); }), file);
  file->RemoveViewer(viewer);
  file->RemoveViewer(gone);
  viewer.dropped = nullptr;
  count.Close();
  EXPECT_EQ(viewer.dropped, nullptr);
}

TEST(ViewedFileTest, ViewsThatAreSeldomUsedAreMadeEverMoreSeldom) {
  Ref<ViewedFile> file = MakeRef<NoFile>();
  const auto misses = [&] {
    int n = 0;
    while (!file->MayMakeView()) ++n;
    return n;
  };
  EXPECT_EQ(misses(), 0);
  file->NoteMade();
  const int first = misses();
  EXPECT_GT(first, 0);
  file->NoteMade();  // none used in between
  EXPECT_GT(misses(), first);
  for (int i = 0; i < 1000; ++i) file->NoteUse();
  file->NoteMade();
  EXPECT_EQ(misses(), first);
  // Who reads on into the next part need not wait, unless the file was refused.
  file->NoteMade();
  file->NoteRead(0, 10);
  file->NoteRead(10, 10);
  EXPECT_TRUE(file->MayMakeView());
  file->NoteRefused();
  EXPECT_FALSE(file->MayMakeView());
}

TEST(ViewedFileTest, PartsAndReadsThatGoOn) {
  Ref<ViewedFile> file = MakeRef<NoFile>();
  EXPECT_TRUE(ViewedFile::InOnePart(ViewedFile::kPart - 1, 1));
  EXPECT_FALSE(ViewedFile::InOnePart(ViewedFile::kPart - 1, 2));
  file->NoteRead(7, 3);
  EXPECT_FALSE(file->onward());
  file->NoteRead(10, 5);
  EXPECT_TRUE(file->onward());
  file->NoteRead(10, 5);
  EXPECT_FALSE(file->onward());
}

}  // namespace
}  // namespace ringwall
