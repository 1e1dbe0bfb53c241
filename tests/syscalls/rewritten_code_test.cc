// Code that has made calls and is then rewritten, unmapped or mapped over while other threads run.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr size_t kPage = 4096;

// mov $39,%eax; syscall; ret
constexpr unsigned char kGetpid[] = {0xb8, 0x27, 0, 0, 0, 0x0f, 0x05, 0xc3};

class RewrittenCodeTest : public ::testing::Test {
 protected:
  // A page of code that asks for the process's number, called often.
  void SetUp() override {
    page_ = static_cast<unsigned char*>(
        mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(page_, MAP_FAILED);
    memcpy(page_, kGetpid, sizeof(kGetpid));
    ASSERT_OK(mprotect(page_, kPage, PROT_READ | PROT_EXEC));
    for (int i = 0; i < 100; ++i) ASSERT_EQ(Call(), getpid());
    // More than there are processors, and all in the program's own code.
    for (int i = 0; i < 80; ++i) {
      others_.emplace_back([this] {
        ++running_;
        while (!done_.load(std::memory_order_relaxed)) asm volatile("pause");
      });
    }
    while (running_.load() != 80) sched_yield();
  }
  void TearDown() override {
    done_ = true;
    for (std::thread& t : others_) t.join();
  }
  long Call() { return reinterpret_cast<long (*)()>(page_)(); }

  unsigned char* page_ = nullptr;

 private:
  std::vector<std::thread> others_;
  std::atomic<int> running_{0};
  std::atomic<bool> done_{false};
};

TEST_F(RewrittenCodeTest, MayBeWrittenWhileManyThreadsRun) {
  ASSERT_OK(mprotect(page_, kPage, PROT_READ | PROT_WRITE));
  EXPECT_EQ(memcmp(page_, kGetpid, sizeof(kGetpid)), 0);
  page_[1] = SYS_getppid;
  ASSERT_OK(mprotect(page_, kPage, PROT_READ | PROT_EXEC));
  EXPECT_EQ(Call(), getppid());
}

TEST_F(RewrittenCodeTest, MayBeMovedWhileManyThreadsRun) {
  void* const to = mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(to, MAP_FAILED);
  void* const moved = mremap(page_, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to);
  ASSERT_EQ(moved, to) << strerror(errno);
  page_ = static_cast<unsigned char*>(moved);
  EXPECT_EQ(memcmp(page_, kGetpid, sizeof(kGetpid)), 0);
  EXPECT_EQ(Call(), getpid());
}

TEST_F(RewrittenCodeTest, MayBeReplacedWhileManyThreadsRun) {
  void* const p = mmap(page_, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  ASSERT_EQ(p, page_) << strerror(errno);
  EXPECT_EQ(page_[0], 0);
  EXPECT_OK(munmap(page_, kPage));
}

// Whatever the sandbox keeps near the code is not in the way of what the program maps.
TEST_F(RewrittenCodeTest, AllAroundItMayBeMapped) {
  constexpr size_t kPiece = 64 << 20;
  std::vector<void*> pieces;
  for (int i = 0; i < 64; ++i) {
    void* const p = mmap(nullptr, kPiece, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(p, MAP_FAILED) << i << ": " << strerror(errno);
    pieces.push_back(p);
  }
  EXPECT_EQ(Call(), getpid());
  // And where it asks for.
  const auto at = reinterpret_cast<uintptr_t>(page_);
  for (void* p : pieces) EXPECT_OK(munmap(p, kPiece));
  for (uintptr_t i = 1; i < 64; ++i) {
    void* const want = reinterpret_cast<void*>((at & ~(kPiece - 1)) - i * kPiece);
    void* const p = mmap(want, kPiece, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) {
      EXPECT_EQ(errno, EEXIST) << i;
    } else {
      EXPECT_OK(munmap(p, kPiece));
    }
  }
  EXPECT_EQ(Call(), getpid());
}

}  // namespace
}  // namespace ringwall::test
