#include "sentry/mm/memory_manager.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "sentry/mm/testing/fake_address_space.h"
#include "sentry/mm/testing/memory_file.h"

namespace ringwall {
namespace {

using testing::FakeAddressSpace;
using testing::FakePlatform;
using testing::MemoryFile;

constexpr int kRw = PROT_READ | PROT_WRITE;
constexpr int kAnonPrivate = MAP_PRIVATE | MAP_ANONYMOUS;
const MemoryLimits kNoLimits{.locked = ~uint64_t{0}};

class MemoryManagerTest : public ::testing::Test {
 protected:
  MemoryManagerTest() : mm_(std::move(MemoryManager::Create(platform_).value())) {
    as_ = platform_.last;
  }
  Result<GuestAddr> Map(uint64_t addr, uint64_t length, int prot, int flags,
                        RefPtr<File> file = nullptr, uint64_t offset = 0,
                        const MemoryLimits& limits = kNoLimits) {
    return mm_->Mmap(MmapRequest{GuestAddr(addr), length, prot, flags, std::move(file), offset},
                     limits);
  }
  int MapError(uint64_t addr, uint64_t length, int prot, int flags, RefPtr<File> file = nullptr,
               uint64_t offset = 0, const MemoryLimits& limits = kNoLimits) {
    return Map(addr, length, prot, flags, std::move(file), offset, limits).error_value();
  }
  void Put(GuestAddr at, std::string_view text) {
    ASSERT_TRUE(mm_->CopyOut(at, std::as_bytes(std::span(text.data(), text.size()))).ok());
  }

  FakePlatform platform_;
  Ref<MemoryManager> mm_;
  FakeAddressSpace* as_;
};

constexpr uint64_t kAt = 0x2000'0000'0000;

TEST_F(MemoryManagerTest, MappingsGoDownFromTheTop) {
  const GuestAddr a = *Map(0, kPageSize, kRw, kAnonPrivate);
  const GuestAddr b = *Map(0, 3 * kPageSize, kRw, kAnonPrivate);
  EXPECT_EQ(b + 3 * kPageSize, a);
  EXPECT_LT(a.value(), kStubStart);
  EXPECT_EQ(mm_->List().size(), 1u);
  ASSERT_TRUE(mm_->Munmap(a, kPageSize).ok());
  EXPECT_EQ(*Map(0, kPageSize, PROT_READ, kAnonPrivate), a);
}

TEST_F(MemoryManagerTest, HugeMappingsAreAlignedForHugePages) {
  constexpr uint64_t kHuge = 2 << 20;
  const GuestAddr a = *Map(0, 4 * kHuge, kRw, kAnonPrivate);
  EXPECT_EQ(a.value() % kHuge, 0u);
  const GuestAddr b = *Map(0, kHuge, kRw, kAnonPrivate);
  EXPECT_EQ(b + kHuge, a);
}

TEST_F(MemoryManagerTest, TwoSpacesDiffer) {
  const GuestAddr a = *Map(0, kPageSize, kRw, kAnonPrivate);
  auto other = std::move(MemoryManager::Create(platform_).value());
  const Result<GuestAddr> b =
      other->Mmap(MmapRequest{.length = kPageSize, .prot = kRw, .flags = kAnonPrivate}, kNoLimits);
  EXPECT_NE(a, *b);
}

TEST_F(MemoryManagerTest, MmapArgumentsAreCheckedAsOnLinux) {
  EXPECT_EQ(MapError(0, 0, kRw, kAnonPrivate), EINVAL);
  EXPECT_EQ(MapError(0, kPageSize, kRw, MAP_ANONYMOUS), EINVAL);
  EXPECT_EQ(MapError(0, kPageSize, kRw, MAP_ANONYMOUS | MAP_SHARED_VALIDATE), EINVAL);
  EXPECT_EQ(MapError(0, kPageSize, kRw, kAnonPrivate, nullptr, 1), EINVAL);
  EXPECT_EQ(MapError(0, ~uint64_t{0}, kRw, kAnonPrivate), ENOMEM);
  EXPECT_EQ(MapError(0, kStubEnd, kRw, kAnonPrivate), ENOMEM);
  EXPECT_EQ(MapError(kAt + 1, kPageSize, kRw, kAnonPrivate | MAP_FIXED), EINVAL);
  EXPECT_EQ(MapError(0, kPageSize, kRw, kAnonPrivate | MAP_FIXED), EPERM);
  EXPECT_EQ(MapError(kStubStart, kPageSize, kRw, kAnonPrivate | MAP_FIXED), ENOMEM);
  EXPECT_EQ(MapError(kStubStart - kPageSize, 2 * kPageSize, kRw, kAnonPrivate | MAP_FIXED), ENOMEM);
  EXPECT_EQ(MapError(0, 2 << 20, kRw, kAnonPrivate | MAP_HUGETLB), ENOMEM);
  EXPECT_EQ(MapError(0, 2 << 20, kRw, kAnonPrivate | MAP_HUGETLB | (13 << MAP_HUGE_SHIFT)), EINVAL);
  EXPECT_EQ(MapError(0, kPageSize, kRw, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN), EINVAL);
}

TEST_F(MemoryManagerTest, NoReplaceRefusesWhatIsTaken) {
  EXPECT_EQ(*Map(kAt, 2 * kPageSize, kRw, kAnonPrivate | MAP_FIXED), GuestAddr(kAt));
  EXPECT_EQ(MapError(kAt + kPageSize, kPageSize, kRw, kAnonPrivate | MAP_FIXED_NOREPLACE), EEXIST);
  EXPECT_EQ(MapError(kAt + 2 * kPageSize, kPageSize, kRw, kAnonPrivate | MAP_FIXED_NOREPLACE), 0);
}

TEST_F(MemoryManagerTest, AHintIsTakenWhenFree) {
  EXPECT_EQ(*Map(kAt + 5, kPageSize, kRw, kAnonPrivate), GuestAddr(kAt));
  EXPECT_NE(*Map(kAt, kPageSize, kRw, kAnonPrivate), GuestAddr(kAt));
  EXPECT_EQ(*Map(4096, kPageSize, kRw, kAnonPrivate), GuestAddr(kGuestMinAddr));
}

TEST_F(MemoryManagerTest, Map32BitStaysLow) {
  const GuestAddr a = *Map(0, kPageSize, kRw, kAnonPrivate | MAP_32BIT);
  EXPECT_LT(a.value(), 0x8000'0000u);
  EXPECT_GE(a.value(), 0x4000'0000u);
}

TEST_F(MemoryManagerTest, AFileMappingNeedsItsModes) {
  auto read_only = MemoryFile::Create("x", O_RDONLY);
  auto write_only = MemoryFile::Create("x", O_WRONLY);
  EXPECT_EQ(MapError(0, kPageSize, PROT_READ, MAP_PRIVATE, write_only), EACCES);
  EXPECT_EQ(MapError(0, kPageSize, kRw, MAP_SHARED, read_only), EACCES);
  EXPECT_EQ(MapError(0, kPageSize, kRw, MAP_PRIVATE, read_only), 0);
  EXPECT_EQ(MapError(0, kPageSize, PROT_READ, MAP_PRIVATE | MAP_GROWSDOWN, read_only), EINVAL);
  EXPECT_EQ(MapError(0, kPageSize, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, read_only),
            EOPNOTSUPP);
  EXPECT_EQ(MapError(0, kPageSize, PROT_READ, MAP_SHARED, read_only, uint64_t{1} << 63), EOVERFLOW);
  const GuestAddr a = *Map(0, kPageSize, PROT_READ, MAP_SHARED, read_only);
  EXPECT_EQ(mm_->Mprotect(a, kPageSize, kRw).error_value(), EACCES);
}

TEST_F(MemoryManagerTest, ASealedFileCanBeMappedReadOnlyForGood) {
  auto file = MemoryFile::Create("x");
  file->sealed = true;
  EXPECT_EQ(MapError(0, kPageSize, kRw, MAP_SHARED, file), EPERM);
  const GuestAddr a = *Map(0, kPageSize, PROT_READ, MAP_SHARED, file);
  EXPECT_EQ(mm_->Mprotect(a, kPageSize, kRw).error_value(), EACCES);
}

TEST_F(MemoryManagerTest, FileContentIsSeenAndPrivateWritesStay) {
  auto file = MemoryFile::Create("hello");
  const GuestAddr a = *Map(0, kPageSize, kRw, MAP_PRIVATE, file);
  EXPECT_EQ(*mm_->CopyInString(a, 100), "hello");
  Put(a, "J");
  EXPECT_EQ(*mm_->CopyInString(a, 100), "Jello");
  char c = 0;
  ASSERT_EQ(::pread(file->host_fd(), &c, 1, 0), 1);
  EXPECT_EQ(c, 'h');
}

TEST_F(MemoryManagerTest, SharedAnonymousMemoryIsSharedByFork) {
  const GuestAddr a = *Map(0, 2 * kPageSize, kRw, MAP_SHARED | MAP_ANONYMOUS);
  const GuestAddr b = *Map(0, kPageSize, kRw, kAnonPrivate);
  Put(a, "one");
  Put(b, "mine");
  auto child = std::move(mm_->Fork().value());
  Put(a, "two");
  Put(b, "ours");
  EXPECT_EQ(*child->CopyInString(a, 10), "two");
  EXPECT_EQ(*child->CopyInString(b, 10), "mine");
  EXPECT_EQ(child->List().size(), mm_->List().size());
}

TEST_F(MemoryManagerTest, ForkHonoursDontforkAndWipeonfork) {
  const GuestAddr a = *Map(kAt, 3 * kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  Put(a, "a");
  Put(a + 2 * kPageSize, "c");
  ASSERT_TRUE(mm_->Madvise(a + kPageSize, kPageSize, MADV_DONTFORK).ok());
  ASSERT_TRUE(mm_->Madvise(a + 2 * kPageSize, kPageSize, MADV_WIPEONFORK).ok());
  auto child = std::move(mm_->Fork().value());
  EXPECT_EQ(*child->CopyInString(a, 4), "a");
  EXPECT_EQ(child->CopyInString(a + kPageSize, 4).error_value(), EFAULT);
  EXPECT_EQ(*child->CopyInString(a + 2 * kPageSize, 4), "");
  EXPECT_EQ(child->usage(false).size, 2 * kPageSize);
}

TEST_F(MemoryManagerTest, MunmapChecksAndIgnoresHoles) {
  EXPECT_EQ(mm_->Munmap(GuestAddr(kAt + 1), kPageSize).error_value(), EINVAL);
  EXPECT_EQ(mm_->Munmap(GuestAddr(kAt), 0).error_value(), EINVAL);
  // What is the platform's is a hole to the guest, up to where Linux's user memory ends.
  EXPECT_EQ(mm_->Munmap(GuestAddr(kStubStart), kPageSize).error_value(), 0);
  EXPECT_EQ(mm_->Munmap(GuestAddr(uint64_t{1} << 47) - kPageSize, kPageSize).error_value(), EINVAL);
  EXPECT_EQ(mm_->Munmap(GuestAddr(kAt), ~uint64_t{0}).error_value(), EINVAL);
  const int before = as_->calls;
  EXPECT_TRUE(mm_->Munmap(GuestAddr(kAt), kPageSize).ok());
  EXPECT_EQ(as_->calls, before);
}

TEST_F(MemoryManagerTest, MprotectAppliesUpToAHole) {
  *Map(kAt, kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  *Map(kAt + 2 * kPageSize, kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  EXPECT_EQ(mm_->Mprotect(GuestAddr(kAt), 3 * kPageSize, PROT_READ).error_value(), ENOMEM);
  EXPECT_EQ(mm_->Find(GuestAddr(kAt))->prot, PROT_READ);
  EXPECT_EQ(mm_->Find(GuestAddr(kAt + 2 * kPageSize))->prot, kRw);
  EXPECT_EQ(mm_->Mprotect(GuestAddr(kAt + 1), kPageSize, PROT_READ).error_value(), EINVAL);
  EXPECT_EQ(mm_->Mprotect(GuestAddr(kAt), kPageSize, 0x40).error_value(), EINVAL);
  EXPECT_EQ(mm_->Mprotect(GuestAddr(kAt), 0, PROT_READ).error_value(), 0);
  EXPECT_EQ(mm_->Mprotect(GuestAddr(kAt), ~uint64_t{0} - kAt, PROT_READ).error_value(), ENOMEM);
}

TEST_F(MemoryManagerTest, LimitsAreEnforced) {
  MemoryLimits limits{.address_space = 10 * kPageSize};
  EXPECT_EQ(MapError(0, 11 * kPageSize, kRw, kAnonPrivate, nullptr, 0, limits), ENOMEM);
  EXPECT_EQ(MapError(kAt, 10 * kPageSize, kRw, kAnonPrivate | MAP_FIXED, nullptr, 0, limits), 0);
  EXPECT_EQ(MapError(0, kPageSize, kRw, kAnonPrivate, nullptr, 0, limits), ENOMEM);
  // Replacing needs no more room.
  EXPECT_EQ(MapError(kAt, 2 * kPageSize, PROT_READ, kAnonPrivate | MAP_FIXED, nullptr, 0, limits), 0);
  limits = MemoryLimits{.data = 8 * kPageSize};
  EXPECT_EQ(MapError(0, kPageSize, kRw, kAnonPrivate, nullptr, 0, limits), ENOMEM);
  EXPECT_EQ(MapError(0, kPageSize, PROT_READ, kAnonPrivate, nullptr, 0, limits), 0);
  EXPECT_EQ(mm_->Mprotect(GuestAddr(kAt), kPageSize, kRw, limits).error_value(), ENOMEM);
}

TEST_F(MemoryManagerTest, LockedMemoryIsLimited) {
  MemoryLimits limits{.locked = 2 * kPageSize};
  const GuestAddr a = *Map(kAt, 4 * kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  EXPECT_EQ(mm_->Mlock(a, 3 * kPageSize, false, limits).error_value(), ENOMEM);
  EXPECT_TRUE(mm_->Mlock(a + 1, kPageSize, false, limits).ok());
  EXPECT_EQ(mm_->usage(false).locked, 2 * kPageSize);
  EXPECT_TRUE(mm_->Mlock(a, 2 * kPageSize, false, limits).ok());
  EXPECT_EQ(mm_->Madvise(a, kPageSize, MADV_DONTNEED).error_value(), EINVAL);
  EXPECT_EQ(MapError(0, kPageSize, kRw, kAnonPrivate | MAP_LOCKED, nullptr, 0, limits), EAGAIN);
  EXPECT_EQ(mm_->Mlock(a, 1, false, MemoryLimits{.locked = 0}).error_value(), EPERM);
  EXPECT_TRUE(mm_->Munlock(a, kPageSize).ok());
  EXPECT_EQ(mm_->usage(false).locked, kPageSize);
  EXPECT_EQ(mm_->Mlock(a, 5 * kPageSize, false, kNoLimits).error_value(), ENOMEM);
  EXPECT_EQ(mm_->usage(false).locked, 4 * kPageSize);
  EXPECT_TRUE(mm_->Munlockall().ok());
  EXPECT_EQ(mm_->usage(false).locked, 0u);
  EXPECT_TRUE(mm_->Mlockall(MCL_FUTURE, kNoLimits).ok());
  const GuestAddr b = *Map(0, kPageSize, kRw, kAnonPrivate);
  EXPECT_TRUE(mm_->Find(b)->locked);
  EXPECT_FALSE(mm_->Find(a)->locked);
}

TEST_F(MemoryManagerTest, BrkGrowsAndShrinks) {
  mm_->SetBrkStart(GuestAddr(0x60'0000));
  const GuestAddr start = mm_->Brk(GuestAddr(), kNoLimits);
  EXPECT_GE(start.value(), 0x60'0000u);
  EXPECT_EQ(mm_->Brk(start + 10000, kNoLimits), start + 10000);
  Put(start + 9990, "x");
  EXPECT_STREQ(mm_->Find(start)->name, "[heap]");
  EXPECT_EQ(mm_->Brk(start - 1, kNoLimits), start + 10000);
  EXPECT_EQ(mm_->Brk(start + 1, kNoLimits), start + 1);
  EXPECT_EQ(mm_->CopyInString(start + kPageSize, 2).error_value(), EFAULT);
  // A page before the next mapping stays free.
  *Map((start + 8 * kPageSize).value(), kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  EXPECT_EQ(mm_->Brk(start + 8 * kPageSize, kNoLimits), start + 1);
  EXPECT_EQ(mm_->Brk(start + 7 * kPageSize, kNoLimits), start + 7 * kPageSize);
  EXPECT_EQ(mm_->Brk(start + 6 * kPageSize, MemoryLimits{.data = kPageSize}), start + 7 * kPageSize);
}

TEST_F(MemoryManagerTest, MremapGrowsInPlaceOrMoves) {
  const GuestAddr a = *Map(kAt, 2 * kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  Put(a, "kept");
  EXPECT_EQ(*mm_->Mremap(a, 2 * kPageSize, 4 * kPageSize, 0, GuestAddr(), kNoLimits), a);
  *Map(kAt + 4 * kPageSize, kPageSize, PROT_READ, kAnonPrivate | MAP_FIXED);
  EXPECT_EQ(mm_->Mremap(a, 4 * kPageSize, 5 * kPageSize, 0, GuestAddr(), kNoLimits).error_value(),
            ENOMEM);
  const GuestAddr b =
      *mm_->Mremap(a, 4 * kPageSize, 5 * kPageSize, MREMAP_MAYMOVE, GuestAddr(), kNoLimits);
  EXPECT_NE(b, a);
  EXPECT_EQ(*mm_->CopyInString(b, 10), "kept");
  EXPECT_FALSE(mm_->Find(a).has_value());
  EXPECT_EQ(*mm_->Mremap(b, 5 * kPageSize, kPageSize, 0, GuestAddr(), kNoLimits), b);
  EXPECT_FALSE(mm_->Find(b + kPageSize).has_value());
}

TEST_F(MemoryManagerTest, MremapOfNoBytesDuplicatesSharedPages) {
  const GuestAddr a = *Map(0, 2 * kPageSize, kRw, MAP_SHARED | MAP_ANONYMOUS);
  Put(a + kPageSize, "second");
  const GuestAddr b = *mm_->Mremap(a + kPageSize, 0, kPageSize, MREMAP_MAYMOVE, GuestAddr(),
                                   kNoLimits);
  EXPECT_EQ(*mm_->CopyInString(b, 10), "second");
  EXPECT_TRUE(mm_->Find(a).has_value());
  const GuestAddr c = *Map(0, kPageSize, kRw, kAnonPrivate);
  EXPECT_EQ(mm_->Mremap(c, 0, kPageSize, MREMAP_MAYMOVE, GuestAddr(), kNoLimits).error_value(),
            EINVAL);
}

TEST_F(MemoryManagerTest, MremapGrowsAFileMappingByItsOffset) {
  auto file = MemoryFile::Create(std::string(kPageSize, 'a') + std::string(kPageSize, 'b'));
  const GuestAddr a = *Map(0, kPageSize, PROT_READ, MAP_SHARED, file);
  const GuestAddr b =
      *mm_->Mremap(a, kPageSize, 2 * kPageSize, MREMAP_MAYMOVE, GuestAddr(), kNoLimits);
  char c = 0;
  ASSERT_TRUE(mm_->CopyIn(b + kPageSize, std::as_writable_bytes(std::span(&c, 1))).ok());
  EXPECT_EQ(c, 'b');
}

TEST_F(MemoryManagerTest, DontunmapLeavesAnEmptyMappingBehind) {
  const GuestAddr a = *Map(kAt, kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  Put(a, "moved");
  const GuestAddr b = *mm_->Mremap(a, kPageSize, kPageSize, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
                                   GuestAddr(), kNoLimits);
  EXPECT_EQ(*mm_->CopyInString(b, 10), "moved");
  EXPECT_EQ(*mm_->CopyInString(a, 10), "");
}

TEST_F(MemoryManagerTest, SealedMemoryCannotChange) {
  const GuestAddr a = *Map(kAt, 2 * kPageSize, PROT_READ, kAnonPrivate | MAP_FIXED);
  ASSERT_TRUE(mm_->Mseal(a, kPageSize, 0).ok());
  EXPECT_EQ(mm_->Munmap(a, kPageSize).error_value(), EPERM);
  EXPECT_EQ(mm_->Mprotect(a, kPageSize, kRw).error_value(), EPERM);
  EXPECT_EQ(mm_->Madvise(a, kPageSize, MADV_DONTNEED).error_value(), EPERM);
  EXPECT_EQ(MapError(kAt, kPageSize, kRw, kAnonPrivate | MAP_FIXED), EPERM);
  EXPECT_EQ(mm_->Mseal(a, 3 * kPageSize, 0).error_value(), ENOMEM);
  EXPECT_TRUE(mm_->Munmap(a + kPageSize, kPageSize).ok());
}

TEST_F(MemoryManagerTest, TheStackIsShownAsFarAsItWasUsed) {
  const GuestAddr top = mm_->ChooseStackTop(MemoryLimits{});
  const GuestRange stack = *mm_->MapStack(top, kRw, 0, MemoryLimits{});
  EXPECT_EQ(stack.size(), 8u << 20);
  MemoryManager::Layout layout;
  layout.start_stack = top - 64;
  mm_->set_layout(layout);
  EXPECT_EQ(mm_->List().back().range.size(), 33 * kPageSize);
  EXPECT_STREQ(mm_->List().back().name, "[stack]");
  EXPECT_EQ(mm_->usage(false).size, 33 * kPageSize);
  Put(top - (1 << 20), "deep");
  EXPECT_EQ(mm_->List().back().range.size(), 1u << 20);
}

TEST_F(MemoryManagerTest, MappingsEvadeThePlatformsOwnMemory) {
  const GuestAddr top = *Map(0, kPageSize, kRw, kAnonPrivate);
  as_->own = {top - 16 * kPageSize, top - 12 * kPageSize};
  // What fits above it goes there.
  EXPECT_EQ(*Map(0, 12 * kPageSize, kRw, kAnonPrivate), top - 12 * kPageSize);
  EXPECT_EQ(*Map(0, kPageSize, kRw, kAnonPrivate), as_->own.start - kPageSize);
  EXPECT_TRUE(mm_->Munmap(top - 12 * kPageSize, 12 * kPageSize).ok());
  EXPECT_EQ(*Map(0, 13 * kPageSize, kRw, kAnonPrivate), as_->own.start - 14 * kPageSize);
  // Who asks for the place has it.
  EXPECT_EQ(*Map(as_->own.start.value(), kPageSize, kRw, kAnonPrivate), as_->own.start);
  as_->own = {GuestAddr(0), kTaskSize};
  EXPECT_TRUE(Map(0, kPageSize, kRw, kAnonPrivate).ok());
}

TEST_F(MemoryManagerTest, TheStackEvadesTheVdso) {
  MemoryLimits unlimited = kNoLimits;
  unlimited.stack = ~uint64_t{0};
  // One of the places that the host may have chosen, for a random stack and for one at the end.
  for (const uint64_t below : {uint64_t{6} << 30, uint64_t{kPageSize}}) {
    const GuestAddr end = kTaskSize - below;
    platform_.vdso = {end - 2 * kPageSize, end};
    for (int i = 0; i < 300; ++i) {
      const bool randomize = i % 2 == 0;
      const Ref<MemoryManager> mm = *MemoryManager::Create(platform_, unlimited, randomize);
      mm->DeferMappings();
      const GuestAddr top = mm->ChooseStackTop(unlimited);
      const Result<GuestRange> stack = mm->MapStack(top, kRw, 0, unlimited);
      ASSERT_TRUE(stack.ok()) << i << ": " << top.value();
      ASSERT_EQ(stack->size(), 1u << 30);
    }
  }
}

TEST_F(MemoryManagerTest, AGrowingMappingGrowsOnFaultsWithinItsLimit) {
  const GuestAddr a = *Map(kAt, kPageSize, kRw, kAnonPrivate | MAP_FIXED | MAP_GROWSDOWN);
  EXPECT_FALSE(mm_->GrowStack(a, MemoryLimits{}));
  EXPECT_TRUE(mm_->GrowStack(a - 3, MemoryLimits{}));
  EXPECT_TRUE(mm_->Find(a - 3).has_value());
  EXPECT_FALSE(mm_->GrowStack(a - (9 << 20), MemoryLimits{}));
  // A copy grows it, too.
  Put(a - (1 << 20), "x");
  // Another mapping is kept away from.
  *Map(kAt - (4 << 20), kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  EXPECT_FALSE(mm_->GrowStack(GuestAddr(kAt - (4 << 20) + 3 * kPageSize), MemoryLimits{}));
  EXPECT_TRUE(mm_->GrowStack(GuestAddr(kAt - (4 << 20) + 257 * kPageSize), MemoryLimits{}));
}

TEST_F(MemoryManagerTest, DeferredMappingsComeInOneOrder) {
  mm_->DeferMappings();
  const GuestAddr a = *Map(kAt, 2 * kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  *Map(kAt + kPageSize, kPageSize, PROT_READ, kAnonPrivate | MAP_FIXED);
  EXPECT_EQ(as_->calls, 0);
  ASSERT_TRUE(mm_->FinishMappings().ok());
  EXPECT_EQ(as_->pages.at(kAt + kPageSize).prot, PROT_READ);
  Put(a, "x");
}

TEST_F(MemoryManagerTest, TheVdsoIsListed) {
  platform_.vdso = {GuestAddr(kAt), GuestAddr(kAt + 2 * kPageSize)};
  auto mm = std::move(MemoryManager::Create(platform_).value());
  EXPECT_STREQ(mm->List().front().name, "[vdso]");
  EXPECT_EQ(mm->List().front().range, platform_.vdso);
}

TEST_F(MemoryManagerTest, MincoreReportsResidentPages) {
  const GuestAddr a = *Map(kAt, 3 * kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  const GuestAddr vec = *Map(0, kPageSize, kRw, kAnonPrivate);
  Put(a + kPageSize, "x");
  ASSERT_TRUE(mm_->Mincore(a, 3 * kPageSize, vec).ok());
  std::array<uint8_t, 3> got;
  ASSERT_TRUE(mm_->CopyIn(vec, std::as_writable_bytes(std::span(got))).ok());
  EXPECT_EQ(got[0], 0);
  EXPECT_EQ(got[1], 1);
  EXPECT_EQ(mm_->Mincore(a, 4 * kPageSize, vec).error_value(), ENOMEM);
  EXPECT_EQ(mm_->Mincore(a, 3 * kPageSize, GuestAddr(0x5000'0000)).error_value(), EFAULT);
  EXPECT_EQ(mm_->Mincore(a + 1, kPageSize, vec).error_value(), EINVAL);
  EXPECT_EQ(mm_->usage().rss_anon, 2 * kPageSize);
}

TEST_F(MemoryManagerTest, StringsEndAtTheirLimitOrAFault) {
  const GuestAddr a = *Map(kAt, 2 * kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  const std::string text(kPageSize + 100, 'q');
  Put(a + 500, text);
  EXPECT_EQ(*mm_->CopyInString(a + 500, 3 * kPageSize), text);
  EXPECT_EQ(mm_->CopyInString(a + 500, text.size()).error_value(), ENAMETOOLONG);
  Put(a + kPageSize, std::string(kPageSize, 'z'));
  EXPECT_EQ(mm_->CopyInString(a + kPageSize, 2 * kPageSize).error_value(), EFAULT);
}

TEST_F(MemoryManagerTest, AHostFailureLeavesTheMapTrue) {
  const GuestAddr a = *Map(kAt, 2 * kPageSize, kRw, kAnonPrivate | MAP_FIXED);
  as_->fail_next = ENOMEM;
  EXPECT_EQ(mm_->Mprotect(a, kPageSize, PROT_READ).error_value(), ENOMEM);
  EXPECT_EQ(mm_->Find(a)->prot, kRw);
  as_->fail_next = ENOMEM;
  EXPECT_EQ(MapError(kAt, kPageSize, PROT_READ, kAnonPrivate | MAP_FIXED), ENOMEM);
  EXPECT_FALSE(mm_->Find(a).has_value());
  EXPECT_FALSE(as_->pages.contains(kAt));
}

// Random calls: what the manager believes is what the stub has mapped, page by page.
TEST_F(MemoryManagerTest, TheMapAlwaysEqualsTheStubs) {
  std::mt19937 random(42);
  auto file = MemoryFile::Create(std::string(64 * kPageSize, 'f'));
  constexpr uint64_t kTotal = 64;
  for (int step = 0; step < 6000; ++step) {
    const uint64_t n = 1 + random() % 8, first = random() % (kTotal - n);
    const GuestAddr at(kAt + first * kPageSize);
    const int prot = static_cast<int>(random() % 8);
    switch (random() % 8) {
      case 0: (void)Map(at.value(), n * kPageSize, prot, kAnonPrivate | MAP_FIXED).ok(); break;
      case 1: (void)Map(at.value(), n * kPageSize, prot, MAP_SHARED | MAP_FIXED, file,
                        first * kPageSize).ok(); break;
      case 2: (void)mm_->Munmap(at, n * kPageSize).ok(); break;
      case 3: (void)mm_->Mprotect(at, n * kPageSize, prot).ok(); break;
      case 4: {
        const uint64_t to = kAt + random() % (kTotal - 8) * kPageSize;
        const int flags = random() % 2 ? MREMAP_MAYMOVE | MREMAP_FIXED : 0;
        (void)mm_->Mremap(at, n * kPageSize, (1 + random() % 8) * kPageSize, flags, GuestAddr(to),
                          kNoLimits).ok();
        break;
      }
      case 5: (void)mm_->Madvise(at, n * kPageSize, random() % 2 ? MADV_DONTFORK : MADV_DOFORK).ok();
        break;
      case 6: (void)mm_->Mlock(at, n * kPageSize, true, kNoLimits).ok(); break;
      case 7: (void)mm_->Munlock(at, n * kPageSize).ok(); break;
    }
    if (step % 20 != 0) continue;
    std::map<uint64_t, const Vma*> believed;
    const std::vector<Vma> list = mm_->List();
    uint64_t total = 0, locked = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) {
        ASSERT_LE(list[i - 1].range.end, list[i].range.start);
        ASSERT_FALSE(list[i - 1].CanMerge(list[i]));
      }
      total += list[i].range.size();
      if (list[i].locked) locked += list[i].range.size();
      for (GuestAddr p = list[i].range.start; p < list[i].range.end; p = p + kPageSize) {
        believed[p.value()] = &list[i];
      }
    }
    ASSERT_EQ(believed.size(), as_->pages.size());
    for (const auto& [addr, page] : as_->pages) {
      ASSERT_TRUE(believed.contains(addr));
      const Vma& vma = *believed[addr];
      ASSERT_EQ(vma.prot, page.prot);
      ASSERT_EQ(vma.shared, page.shared);
      ASSERT_EQ(vma.dont_fork, page.dont_fork);
      ASSERT_EQ(vma.locked, page.locked);
      if (vma.file) {
        ASSERT_EQ(vma.host.offset + (addr - vma.range.start.value()), page.offset);
      }
    }
    ASSERT_EQ(mm_->usage(false).size, total);
    ASSERT_EQ(mm_->usage(false).locked, locked);
  }
}

}  // namespace
}  // namespace ringwall
