// Plans and trampolines for real code of libc, musl and Go, read and (where the CPU lets user code
// read GS) run: a patched site must do what the original did.
#include "platform/systrap/patcher.h"

#include <gtest/gtest.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

// The stub's entry as the tests have it (patcher_test_entry.S): makes the system call and goes on
// behind it.
extern "C" void TestPatchedEntry();

namespace ringwall::systrap {
namespace {

constexpr uint64_t kBase = 0x555555554000;
constexpr uint8_t kRet = 0xc3;  // as filler: nothing ahead of the code can be moved

// `prefix` nops (or other one-byte instructions), the code, int3 behind it, so that decoding has
// something to fall into step with.
struct Text {
  explicit Text(std::initializer_list<uint8_t> code, size_t prefix = 96, uint8_t fill = 0x90)
      : code_at(prefix) {
    bytes.assign(prefix, fill);
    bytes.insert(bytes.end(), code.begin(), code.end());
    bytes.insert(bytes.end(), 64, 0xcc);
  }
  CodeView view(uint64_t base = kBase) const { return {base, bytes}; }
  uint64_t at(size_t offset, uint64_t base = kBase) const { return base + code_at + offset; }
  std::vector<uint8_t> bytes;
  size_t code_at;
};

// __close_nocancel and most others.
const Text kGlibcPlain({0xb8, 0x03, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff,
                        0xff, 0x77, 0x01, 0xc3, 0xc3});
// read(): a flag tested, a branch to the cancellable way, a two-byte number.
const Text kGlibcRead({0x80, 0x3d, 0x31, 0x33, 0x0e, 0x00, 0x00, 0x74, 0x0d, 0x31, 0xc0, 0x0f,
                       0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x01, 0xc3, 0xc3});
// syscall().
const Text kGlibcSyscall({0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6, 0x48, 0x89, 0xca,
                          0x4d, 0x89, 0xc2, 0x4d, 0x89, 0xc8, 0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f,
                          0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x01, 0xc3, 0xc3});
// Go's Syscall6: three-byte moves only.
const Text kGoSyscall6({0x49, 0x89, 0xf2, 0x48, 0x89, 0xfa, 0x48, 0x89, 0xce, 0x48,
                        0x89, 0xdf, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff,
                        0x76, 0x04, 0x48, 0xf7, 0xd8, 0xc3, 0x48, 0x89, 0xd3, 0xc3});
// musl, inlined: the number comes from a register.
const Text kMuslInline({0x41, 0xb8, 0xca, 0x00, 0x00, 0x00, 0xba, 0xff, 0xff,
                        0xff, 0x7f, 0xbe, 0x81, 0x00, 0x00, 0x00, 0x4c, 0x89,
                        0xc0, 0x0f, 0x05, 0x48, 0x83, 0xf8, 0xda, 0xc3});

const StubGates kGates = {0x7fff, kBase + 0x10000};

TEST(PatcherTest, MovImmediateIsReplacedAlone) {
  const uint64_t site = kGlibcPlain.at(5);
  const auto plan = PlanSite(kGlibcPlain.view(), site, 3);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->start, site - 5);
  EXPECT_EQ(plan->length, 5);
  EXPECT_EQ(plan->before_count, 1);
  EXPECT_EQ(plan->resume, site + 2);
}

TEST(PatcherTest, MovOfAnotherRegisterIsNotTakenForTheNumber) {
  // mov $3, %r8d: the five bytes before the site look like mov $3, %eax.
  const Text text({0x41, 0xb8, 0x03, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xc3});
  const uint64_t site = text.at(6);
  const auto plan = PlanSite(text.view(), site, 3);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->start, site - 6);
  EXPECT_EQ(plan->before[0].size, 6);
}

TEST(PatcherTest, LongInstructionAheadIsReplacedWithTheBranchBehindItCopied) {
  const uint64_t site = kGlibcRead.at(11);
  const auto plan = PlanSite(kGlibcRead.view(), site, 0);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->start, kGlibcRead.at(0));
  EXPECT_EQ(plan->length, 7);
  ASSERT_EQ(plan->before_count, 3);
  EXPECT_EQ(plan->before[0].kind, MovedInsn::Kind::kRipRelative);
  EXPECT_EQ(plan->before[1].kind, MovedInsn::Kind::kJcc);
  EXPECT_EQ(plan->before[1].target, kGlibcRead.at(22));
}

TEST(PatcherTest, GlibcSyscallFunctionUsesItsStackLoad) {
  const auto plan = PlanSite(kGlibcSyscall.view(), kGlibcSyscall.at(23), 39);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->start, kGlibcSyscall.at(18));
  EXPECT_EQ(plan->length, 5);
}

TEST(PatcherTest, GoSiteIsReplacedWithItsCompare) {
  // Kept short of long instructions ahead by a run of short ones.
  const auto plan = PlanSite(kGoSyscall6.view(), kGoSyscall6.at(12), 39);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->start, kGoSyscall6.at(12));
  EXPECT_EQ(plan->length, 8);
  EXPECT_EQ(plan->after_count, 1);
  EXPECT_EQ(plan->resume, kGoSyscall6.at(20));
}

TEST(PatcherTest, MuslSiteTakesTheLastLongInstruction) {
  const auto plan = PlanSite(kMuslInline.view(), kMuslInline.at(19), 202);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->start, kMuslInline.at(11));
  EXPECT_EQ(plan->before_count, 2);
}

TEST(PatcherTest, BranchIntoTheReplacedBytesPreventsIt) {
  // 0: syscall; 2: cmp; 8: jmp 2.
  const Text text({0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xeb, 0xf8}, 96, kRet);
  EXPECT_FALSE(PlanSite(text.view(), text.at(0), 39));
  // A jump to the syscall itself is welcome.
  const Text loop({0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xeb, 0xf6}, 96, kRet);
  EXPECT_TRUE(PlanSite(loop.view(), loop.at(0), 39));
}

TEST(PatcherTest, CodeBehindAReturnIsNotOverwritten) {
  // syscall; ret; then another function at once.
  const Text text({0x0f, 0x05, 0xc3, 0x31, 0xc0, 0xc3}, 96, kRet);
  EXPECT_FALSE(PlanSite(text.view(), text.at(0), 39));
  const Text padded({0x0f, 0x05, 0xc3, 0x66, 0x90, 0xc3}, 96, kRet);
  const auto plan = PlanSite(padded.view(), padded.at(0), 39);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->length, 5);
}

TEST(PatcherTest, CallsAndSystemCallsAreNotMoved) {
  const Text call({0x0f, 0x05, 0xe8, 0x00, 0x01, 0x00, 0x00, 0xc3}, 96, kRet);
  EXPECT_FALSE(PlanSite(call.view(), call.at(0), 39));
  const Text twice({0x0f, 0x05, 0x0f, 0x05, 0x0f, 0x05, 0xe8, 0, 1, 0, 0}, 96, kRet);
  EXPECT_FALSE(PlanSite(twice.view(), twice.at(0), 39));
}

TEST(PatcherTest, NotASyscallInstructionIsRefused) {
  EXPECT_FALSE(PlanSite(kGlibcPlain.view(), kGlibcPlain.at(0), 3));
  EXPECT_FALSE(PlanSite(kGlibcPlain.view(), kBase - 1, 3));
  EXPECT_FALSE(PlanSite(kGlibcPlain.view(), kBase + kGlibcPlain.bytes.size() - 1, 3));
  EXPECT_FALSE(PlanSite(kGlibcPlain.view(), ~uint64_t{0}, 3));
}

TEST(PatcherTest, TextAtTheEdgeOfItsMappingIsHandled) {
  const std::vector<uint8_t> bytes = {0x0f, 0x05};
  EXPECT_FALSE(PlanSite({0, bytes}, 0, 0));
  EXPECT_FALSE(PlanSite({~uint64_t{0} - 1, bytes}, ~uint64_t{0} - 1, 0));
  const Text short_text({0xb8, 3, 0, 0, 0, 0x0f, 0x05, 0xc3}, 1);
  EXPECT_TRUE(PlanSite(short_text.view(), short_text.at(5), 3));
}

TEST(PatcherTest, TrampolineOutOfReachIsRefused) {
  const auto plan = PlanSite(kGlibcRead.view(), kGlibcRead.at(11), 0);
  ASSERT_TRUE(plan);
  EXPECT_TRUE(BuildTrampoline(*plan, kBase + 0x10000, kGates));
  EXPECT_FALSE(BuildTrampoline(*plan, kBase + 0x100000000, kGates));
  EXPECT_FALSE(JumpBytes(*plan, kBase + 0x100000000));
}

TEST(PatcherTest, AddressesTranslateBothWays) {
  const auto plan = PlanSite(kGoSyscall6.view(), kGoSyscall6.at(12), 39);
  ASSERT_TRUE(plan);
  const auto trampoline = BuildTrampoline(*plan, kBase + 0x10100, kGates);
  ASSERT_TRUE(trampoline);
  EXPECT_EQ(OriginalAt(trampoline->Points(), 0), plan->site);
  EXPECT_EQ(OriginalAt(trampoline->Points(), trampoline->size - 5), plan->resume);
  const auto behind = OffsetForOriginal(trampoline->Points(), plan->site, plan->site + 2);
  ASSERT_TRUE(behind);
  EXPECT_EQ(OriginalAt(trampoline->Points(), *behind), plan->site + 2);
  EXPECT_EQ(trampoline->bytes[*behind], 0x48);  // the compare
  EXPECT_EQ(OffsetForOriginal(trampoline->Points(), plan->site, plan->site), 0);
  EXPECT_FALSE(OffsetForOriginal(trampoline->Points(), plan->site, plan->site + 3));
}

TEST(PatcherTest, InstructionBehindAnAheadPatchStaysInPlace) {
  const auto plan = PlanSite(kGlibcRead.view(), kGlibcRead.at(11), 0);
  ASSERT_TRUE(plan);
  const auto jump = JumpBytes(*plan, kBase + 0x10000);
  ASSERT_TRUE(jump);
  EXPECT_EQ((*jump)[0], 0xe9);
  EXPECT_FALSE(plan->Covers(plan->site));
}

// Every plan for random bytes around a syscall must be in itself sound.
TEST(PatcherTest, RandomBytesNeverBreakIt) {
  std::mt19937_64 random(1);
  int planned = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> bytes(200);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    const uint64_t site = kBase + 100;
    bytes[100] = 0x0f;
    bytes[101] = 0x05;
    const CodeView view = {kBase, bytes};
    const auto plan = PlanSite(view, site, random());
    if (!plan) continue;
    ++planned;
    EXPECT_TRUE(view.Contains(plan->start, plan->length));
    EXPECT_GE(plan->length, kJumpSize);
    EXPECT_LE(plan->start, site);
    const auto trampoline = BuildTrampoline(*plan, kBase + 0x10000, kGates);
    if (!trampoline) continue;
    for (size_t i = 1; i < trampoline->point_count; ++i) {
      EXPECT_GT(trampoline->points[i].offset, trampoline->points[i - 1].offset);
    }
  }
  EXPECT_GT(planned, 0);
}

// A page of code that can be run, patched and run again.
class RunnableText {
 public:
  explicit RunnableText(const Text& text) {
    memory_ = static_cast<uint8_t*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE | PROT_EXEC,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memcpy(memory_, text.bytes.data(), text.bytes.size());
    size_ = text.bytes.size();
  }
  ~RunnableText() { munmap(memory_, kSize); }
  uint64_t base() const { return reinterpret_cast<uint64_t>(memory_); }
  CodeView view() const { return {base(), {memory_, size_}}; }
  bool Patch(uint64_t site, uint64_t rax) {
    const auto plan = PlanSite(view(), site, rax);
    if (!plan) return false;
    const uint64_t entry = reinterpret_cast<uint64_t>(&TestPatchedEntry);
    std::memcpy(memory_ + 8192, &entry, sizeof entry);
    const auto trampoline = BuildTrampoline(*plan, base() + 8256, {0, base() + 8192});
    if (!trampoline) return false;
    const auto jump = JumpBytes(*plan, base() + 8256);
    if (!jump) return false;
    std::memcpy(memory_ + 8256, trampoline->bytes.data(), trampoline->size);
    std::memcpy(memory_ + (plan->start - base()), jump->data(), plan->length);
    return true;
  }

 private:
  static constexpr size_t kSize = 16384;
  uint8_t* memory_;
  size_t size_;
};

class PatchedRunTest : public testing::Test {
 protected:
  void SetUp() override {
    if ((getauxval(AT_HWCAP2) & 2) == 0) GTEST_SKIP() << "no FSGSBASE";
    // A page below 4 GiB, so that GS's upper half is the regions_high of 0 that Patch() gives.
    page_ =
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    ASSERT_NE(page_, MAP_FAILED);
    syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, page_);
  }
  void TearDown() override {
    if (page_ == nullptr) return;
    syscall(SYS_arch_prctl, 0x1001, 0);
    munmap(page_, 4096);
  }
  void* page_ = nullptr;
};

TEST_F(PatchedRunTest, GlibcSyscallReturnsTheSame) {
  RunnableText text(kGlibcSyscall);
  auto call = reinterpret_cast<long (*)(long, ...)>(text.base() + kGlibcSyscall.code_at);
  const long before = call(SYS_getpid, 0, 0, 0, 0, 0, 0);
  ASSERT_TRUE(text.Patch(text.base() + kGlibcSyscall.code_at + 23, SYS_getpid));
  EXPECT_EQ(call(SYS_getpid, 0, 0, 0, 0, 0, 0), before);
  EXPECT_EQ(call(SYS_close, -1, 0, 0, 0, 0, 0), -EBADF);
}

TEST_F(PatchedRunTest, ConditionalBranchesInMovedCodeAreTaken) {
  // cmp $0, %edi (long form); je L; mov $39, %eax; syscall; ret; L: mov $7, %eax; ret
  const Text text({0x81, 0xff, 0x00, 0x00, 0x00, 0x00, 0x74, 0x05, 0x6a, 0x27, 0x58,
                   0x0f, 0x05, 0xc3, 0x90, 0xb8, 0x07, 0x00, 0x00, 0x00, 0xc3});
  Text fixed = text;
  fixed.bytes[fixed.code_at + 7] = 0x07;
  RunnableText code(fixed);
  auto call = reinterpret_cast<long (*)(int)>(code.base() + fixed.code_at);
  EXPECT_EQ(call(0), 7);
  EXPECT_EQ(call(1), getpid());
  ASSERT_TRUE(code.Patch(code.base() + fixed.code_at + 11, SYS_getpid));
  EXPECT_EQ(call(0), 7);
  EXPECT_EQ(call(1), getpid());
}

TEST_F(PatchedRunTest, GoSiteRunsItsMovedCompare) {
  const Text text({0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x0f, 0x05, 0x48, 0x3d,
                   0x01, 0xf0, 0xff, 0xff, 0x72, 0x03, 0x48, 0x31, 0xc0, 0xc3});
  RunnableText code(text);
  auto call = reinterpret_cast<long (*)(long, long)>(code.base() + text.code_at);
  ASSERT_TRUE(code.Patch(code.base() + text.code_at + 6, SYS_getpid));
  EXPECT_EQ(call(SYS_getpid, 0), getpid());
  EXPECT_EQ(call(SYS_close, -1), 0);
}

}  // namespace
}  // namespace ringwall::systrap
