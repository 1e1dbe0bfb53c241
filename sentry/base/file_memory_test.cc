#include "sentry/base/file_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

constexpr uint64_t kPage = 4096;

class CountingWatcher final : public FileMemory::Watcher {
 public:
  void Start() override { ++starts; }
  int starts = 0;
};

class FileMemoryTest : public testing::Test {
 protected:
  FileMemoryTest() {
    FileMemory::SetWatcher(&watcher_);
    FileMemory::SetLimit(100 * kPage);
  }
  ~FileMemoryTest() override {
    FileMemory::SetLimit(0);
    while (FileMemory::Look().again_ns) {
    }
    FileMemory::SetWatcher(nullptr);
    EXPECT_EQ(FileMemory::used_pages(), 0u);
  }
  static UniqueFd File(uint64_t pages) {
    UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
    EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(pages * kPage)), 0);
    return fd;
  }
  static void Write(int fd, uint64_t pages) {
    void* at = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ASSERT_NE(at, MAP_FAILED);
    for (uint64_t i = 0; i < pages; ++i) static_cast<volatile char*>(at)[i * kPage] = 1;
    munmap(at, pages * kPage);
  }
  CountingWatcher watcher_;
};

TEST_F(FileMemoryTest, RefusesWhatDoesNotFit) {
  EXPECT_TRUE(FileMemory::Charge(60));
  EXPECT_FALSE(FileMemory::Charge(41));
  EXPECT_TRUE(FileMemory::Charge(40));
  FileMemory::Recharge(40, 10);
  EXPECT_TRUE(FileMemory::Charge(30));
  FileMemory::Uncharge(100);
  EXPECT_EQ(watcher_.starts, 0);
}

TEST_F(FileMemoryTest, MappingsThatFitAreNotWatched) {
  const UniqueFd fd = File(90);
  {
    auto mapped = MappedMemory::Create(fd.get(), 90, 0);
    ASSERT_TRUE(mapped.ok());
    EXPECT_EQ(watcher_.starts, 0);
    // Together with what calls write they may be too much.
    EXPECT_TRUE(FileMemory::Charge(20));
    EXPECT_EQ(watcher_.starts, 1);
    FileMemory::Uncharge(20);
    EXPECT_FALSE(FileMemory::Look().again_ns.has_value());
  }
}

TEST_F(FileMemoryTest, SaysWhichMappingsGrowBeyondTheLimit) {
  const UniqueFd first = File(300), second = File(300);
  {
    auto a = MappedMemory::Create(first.get(), 300, 0);
    auto b = MappedMemory::Create(second.get(), 300, 0);
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_EQ(watcher_.starts, 1);
    Write(first.get(), 50);
    FileMemory::Outcome outcome = FileMemory::Look();
    EXPECT_TRUE(outcome.grown.empty());
    EXPECT_TRUE(outcome.again_ns.has_value());
    EXPECT_EQ(FileMemory::used_pages(), 50u);
    Write(second.get(), 80);
    outcome = FileMemory::Look();
    EXPECT_EQ(outcome.grown, std::vector<int>{second.get()});
    // Who stopped is left alone, and nothing more is given.
    EXPECT_TRUE(FileMemory::Look().grown.empty());
    EXPECT_FALSE(FileMemory::Charge(1));
    EXPECT_FALSE(b->MayMap().ok());
    EXPECT_FALSE(MappedMemory::Create(first.get(), 10, 0).ok());
    EXPECT_EQ(ftruncate(second.get(), 0), 0);
    b->Update(0, 0);
    EXPECT_TRUE(FileMemory::Charge(50));
    FileMemory::Uncharge(50);
  }
}

TEST_F(FileMemoryTest, ChargesLookBeforeTheyRefuse) {
  const UniqueFd fd = File(100);
  {
    auto mapped = MappedMemory::Create(fd.get(), 100, 0);
    ASSERT_TRUE(mapped.ok());
    Write(fd.get(), 70);
    static_cast<void>(FileMemory::Look());
    EXPECT_FALSE(FileMemory::Charge(40));
    EXPECT_EQ(ftruncate(fd.get(), 0), 0);
    EXPECT_TRUE(FileMemory::Charge(40));
    FileMemory::Uncharge(40);
  }
}

}  // namespace
}  // namespace ringwall
