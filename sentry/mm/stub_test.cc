// The memory manager over real stubs: what it believes is what the host has mapped there.
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cinttypes>
#include <random>
#include <string>

#include "platform/platform.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/testing/memory_file.h"

namespace ringwall {
namespace {

using testing::MemoryFile;

constexpr uint64_t kAt = 0x2000'0000'0000;
constexpr int kRw = PROT_READ | PROT_WRITE;
constexpr int kAnon = MAP_PRIVATE | MAP_ANONYMOUS;
const MemoryLimits kLimits{};

class MmStubTest : public ::testing::Test {
 protected:
  MmStubTest()
      : platform_(std::move(CreatePlatform({.name = "ptrace"}).value())),
        mm_(std::move(MemoryManager::Create(*platform_).value())) {}

  GuestAddr Map(uint64_t at, uint64_t pages, int prot, int flags, RefPtr<File> file = nullptr) {
    return *mm_->Mmap({GuestAddr(at), pages * kPageSize, prot, flags, std::move(file), 0}, kLimits);
  }
  static void Put(MemoryManager& mm, GuestAddr at, std::string_view text) {
    EXPECT_TRUE(mm.CopyOut(at, std::as_bytes(std::span(text.data(), text.size()))).ok());
  }
  // "start-end perms" of each mapping below the stub's range, neighbours that are alike joined.
  static std::string Join(const std::vector<std::pair<GuestRange, std::string>>& list) {
    std::string text;
    for (size_t i = 0; i < list.size(); ++i) {
      GuestRange range = list[i].first;
      while (i + 1 < list.size() && list[i + 1].first.start == range.end &&
             list[i + 1].second == list[i].second) {
        range.end = list[++i].first.end;
      }
      char line[80];
      snprintf(line, sizeof(line), "%" PRIx64 "-%" PRIx64 " %s\n", range.start.value(),
               range.end.value(), list[i].second.c_str());
      text += line;
    }
    return text;
  }
  static std::string HostMap(MemoryManager& mm) {
    std::vector<std::pair<GuestRange, std::string>> list;
    const std::string path = "/proc/" + std::to_string(mm.address_space().host_pid()) + "/maps";
    FILE* maps = fopen(path.c_str(), "re");
    EXPECT_NE(maps, nullptr);
    char line[512];
    while (maps != nullptr && fgets(line, sizeof(line), maps) != nullptr) {
      uint64_t start = 0, end = 0;
      char perms[8];
      if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, perms) != 3) continue;
      if (start < kStubStart) list.push_back({{GuestAddr(start), GuestAddr(end)}, perms});
    }
    if (maps != nullptr) fclose(maps);
    return Join(list);
  }
  static std::string GuestMap(MemoryManager& mm) {
    std::vector<std::pair<GuestRange, std::string>> list;
    for (const Vma& vma : mm.List()) {
      std::string perms;
      perms += vma.prot != PROT_NONE ? 'r' : '-';  // as the processor has it
      perms += (vma.prot & PROT_WRITE) != 0 ? 'w' : '-';
      perms += (vma.prot & PROT_EXEC) != 0 ? 'x' : '-';
      perms += vma.shared ? 's' : 'p';
      list.push_back({vma.range, perms});
    }
    return Join(list);
  }

  std::unique_ptr<Platform> platform_;
  Ref<MemoryManager> mm_;
};

TEST_F(MmStubTest, AFreshMapHasOnlyTheVdso) {
  EXPECT_EQ(HostMap(*mm_), GuestMap(*mm_));
  EXPECT_FALSE(mm_->address_space().vdso().empty());
}

TEST_F(MmStubTest, RandomCallsLeaveTheHostAsBelieved) {
  std::mt19937 random(99);
  auto file = MemoryFile::Create(std::string(48 * kPageSize, 'f'));
  constexpr uint64_t kTotal = 40;
  int failed = 0;
  for (int step = 0; step < 3000; ++step) {
    const uint64_t n = 1 + random() % 6, first = random() % (kTotal - n);
    const GuestAddr at(kAt + first * kPageSize);
    const int prot = static_cast<int>(random() % 8);
    Result<void> done;
    switch (random() % 8) {
      case 0:
        Map(at.value(), n, prot, kAnon | MAP_FIXED);
        break;
      case 1:
        Map(at.value(), n, prot, (random() % 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, file);
        break;
      case 2:
        done = mm_->Munmap(at, n * kPageSize);
        break;
      case 3:
      case 4:
        done = mm_->Mprotect(at, n * kPageSize, prot);
        break;
      case 5: {
        const GuestAddr to(kAt + random() % (kTotal - 8) * kPageSize);
        const int flags = random() % 2 ? MREMAP_MAYMOVE | MREMAP_FIXED : 0;
        const Result<GuestAddr> moved = mm_->Mremap(
            at, n * kPageSize, (1 + random() % 6) * kPageSize, flags, to, kLimits);
        if (!moved.ok()) done = moved.error();
        break;
      }
      case 6:
        done = mm_->Madvise(at, n * kPageSize, random() % 2 ? MADV_DONTNEED : MADV_COLD);
        break;
      case 7:
        // Touched pages: the host's mappings then merge and move by other rules.
        (void)mm_->CopyOut(at, std::as_bytes(std::span("touch", 5))).ok();
        break;
    }
    failed += done.ok() ? 0 : 1;
    if (step % 10 == 0) {
      ASSERT_EQ(HostMap(*mm_), GuestMap(*mm_)) << "after step " << step;
    }
  }
  EXPECT_LT(failed, 2500);
}

TEST_F(MmStubTest, ForksShareWhatIsSharedAndCopyTheRest) {
  const GuestAddr a = Map(0, 2, kRw, MAP_SHARED | MAP_ANONYMOUS), b = Map(0, 3, kRw, kAnon);
  Put(*mm_, a, "one");
  Put(*mm_, b, "mine");
  ASSERT_TRUE(mm_->Madvise(b + 2 * kPageSize, kPageSize, MADV_DONTFORK).ok());
  auto child = std::move(mm_->Fork().value());
  Put(*mm_, a, "two");
  Put(*mm_, b, "ours");
  EXPECT_EQ(*child->CopyInString(a, 10), "two");
  EXPECT_EQ(*child->CopyInString(b, 10), "mine");
  EXPECT_EQ(HostMap(*child), GuestMap(*child));
}

TEST_F(MmStubTest, TheStackIsSparse) {
  const GuestAddr top = mm_->ChooseStackTop(MemoryLimits{});
  ASSERT_TRUE(mm_->MapStack(top, kRw, 0, kLimits).ok());
  Put(*mm_, top - 64, "top");
  EXPECT_EQ(mm_->usage().rss_anon, kPageSize);
  Put(*mm_, top - (1 << 20), "deep");
  EXPECT_EQ(mm_->List().back().range.size(), 1u << 20);
  EXPECT_EQ(mm_->usage().rss_anon, 2 * kPageSize);
}

TEST_F(MmStubTest, AGrowingMappingGrowsUnderACopy) {
  const GuestAddr a = Map(kAt, 1, kRw, kAnon | MAP_FIXED | MAP_GROWSDOWN);
  Put(*mm_, a - 100, std::string(200, 'g'));
  EXPECT_EQ(HostMap(*mm_), GuestMap(*mm_));
}

TEST_F(MmStubTest, MincoreAndDontneedAreTheHosts) {
  const GuestAddr a = Map(0, 3, kRw, kAnon), vec = Map(0, 1, kRw, kAnon);
  Put(*mm_, a + kPageSize, "x");
  std::array<std::byte, 3> got;
  ASSERT_TRUE(mm_->Mincore(a, 3 * kPageSize, vec).ok());
  ASSERT_TRUE(mm_->CopyIn(vec, got).ok());
  EXPECT_EQ(got[0], std::byte{0});
  EXPECT_EQ(got[1], std::byte{1});
  ASSERT_TRUE(mm_->Madvise(a, 3 * kPageSize, MADV_DONTNEED).ok());
  EXPECT_EQ(*mm_->CopyInString(a + kPageSize, 4), "");
}

}  // namespace
}  // namespace ringwall
