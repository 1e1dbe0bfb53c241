// Proves the lists of the small processes beside the Sentry: what is not on them ends the process.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <set>

#include "runsc/filter/filter_testing.h"
#include "runsc/sandbox/stand_in.h"
#include "runsc/sandbox/terminal_keeper.h"

namespace ringwall {
namespace {

class SmallFilterTest : public testing::TestWithParam<std::span<const FilterRule> (*)()> {
 protected:
  template <typename F>
  int UnderFilter(F&& f) {
    return UnderFilterOf([] { return InstallFilter(GetParam()(), false); }, f);
  }
};

TEST_P(SmallFilterTest, ListIsShortAndEachCallHasAReason) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(RINGWALL_TSAN)
  EXPECT_LE(GetParam()().size(), 9u);
#endif
  for (const FilterRule& rule : GetParam()()) EXPECT_GT(strlen(rule.reason), 2u) << rule.number;
}

TEST_P(SmallFilterTest, EveryCallThatIsNotListedKills) {
  const std::set<int> listed = NumbersOf(GetParam()());
  for (int number = 0; number <= kLastSyscall; number++) {
    // uretprobe and uprobe: the kernel looks at no filter for them.
    if (listed.count(number) != 0 || number == 335 || number == 336) continue;
    const int status = UnderFilter([&] { syscall(number, -1, -1, -1, -1, -1, -1); });
    EXPECT_TRUE(DiedOfFilter(status)) << "system call " << number << " status " << status;
  }
}

TEST_P(SmallFilterTest, MemoryIsNeverCode) {
  constexpr int kProtRead = 1, kProtExec = 4, kPrivateAnonymous = 0x22;
  EXPECT_TRUE(DiedOfFilter(UnderFilter([&] {
    syscall(SYS_mmap, nullptr, 4096, kProtRead | kProtExec, kPrivateAnonymous, -1, 0);
  })));
}

INSTANTIATE_TEST_SUITE_P(Processes, SmallFilterTest,
                         testing::Values(&StandInFilterRules, &TerminalKeeperFilterRules));

}  // namespace
}  // namespace ringwall
