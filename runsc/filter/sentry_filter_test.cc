// Proves the Sentry's list: what is not on it ends the process.
#include "runsc/filter/sentry_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <set>

#include "runsc/filter/filter_testing.h"

namespace ringwall {
namespace {

template <typename F>
int UnderFilter(F&& f) {
  return UnderFilterOf([] { return InstallSentryFilter(); }, f);
}

std::set<int> Listed() { return NumbersOf(SentryFilterRules()); }

std::set<int> Allowed() {
  std::set<int> allowed;
  for (const FilterRule& rule : SentryFilterRules()) {
    if (rule.error == 0) allowed.insert(rule.number);
  }
  return allowed;
}

TEST(SentryFilterTest, ListIsShortAndEachCallHasAReason) {
  for (const FilterRule& rule : SentryFilterRules()) {
    EXPECT_GT(strlen(rule.reason), 3u) << rule.number;
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(RINGWALL_TSAN)
  EXPECT_LE(Allowed().size(), kSentryFilterMaxCalls);
#endif
}

TEST(SentryFilterTest, ListOpensNothingAndMakesNoProcess) {
  const std::set<int> listed = Allowed();
  for (const int number : {SYS_open, SYS_openat, SYS_openat2, SYS_creat, SYS_open_by_handle_at,
                           SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_socket,
                           SYS_connect, SYS_bind, SYS_mount, SYS_unshare, SYS_setns, SYS_chroot,
                           SYS_io_uring_setup, SYS_bpf, SYS_userfaultfd, SYS_keyctl}) {
    EXPECT_EQ(listed.count(number), 0u) << number;
  }
}

TEST(SentryFilterTest, EveryCallThatIsNotListedKills) {
  const std::set<int> listed = Listed();
  for (int number = 0; number <= kLastSyscall; number++) {
    if (listed.count(number) != 0) continue;
    // uretprobe and uprobe: the kernel looks at no filter for them, and does nothing outside a
    // probe's own trampoline.
    if (number == 335 || number == 336) continue;
    const int status = UnderFilter([&] { syscall(number, -1, -1, -1, -1, -1, -1); });
    EXPECT_TRUE(DiedOfFilter(status)) << "system call " << number << " status " << status;
  }
}

TEST(SentryFilterTest, ForeignEntriesKill) {
  EXPECT_TRUE(DiedOfFilter(UnderFilter([] { syscall(0x40000000 | SYS_write, 1, "", 0); })));
#ifdef __x86_64__
  const int status = UnderFilter([] { __asm__ volatile("int $0x80" ::"a"(20) : "memory"); });
  EXPECT_TRUE(DiedOfFilter(status) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
#endif
}

TEST(SentryFilterTest, ArgumentsAreNarrow) {
  EXPECT_TRUE(DiedOfFilter(UnderFilter([] {
    syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  })));
  EXPECT_TRUE(DiedOfFilter(UnderFilter([] { syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); })));
  EXPECT_TRUE(DiedOfFilter(UnderFilter([] { syscall(SYS_newfstatat, AT_FDCWD, "/", nullptr, 0); })));
  EXPECT_TRUE(DiedOfFilter(UnderFilter([] { syscall(SYS_fcntl, 0, F_SETOWN, 1); })));
  EXPECT_TRUE(DiedOfFilter(UnderFilter([] { syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, ""); })));
  static char page[8192];
  EXPECT_TRUE(DiedOfFilter(UnderFilter([] {
    void* at = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(page) + 4095) & ~4095ul);
    syscall(SYS_mprotect, at, 4096, PROT_READ | PROT_EXEC);
  })));
}

TEST(SentryFilterTest, RefusedCallsGetTheirErrno) {
  EXPECT_EQ(UnderFilter([] {
              if (syscall(SYS_clone3, nullptr, 0) != -1 || errno != ENOSYS) {
                syscall(SYS_exit_group, 1);
              }
            }), 0);
}

TEST(SentryFilterTest, ListedWorkGoesOn) {
  EXPECT_EQ(UnderFilter([] {
              void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              if (memory == MAP_FAILED) syscall(SYS_exit_group, 1);
              munmap(memory, 4096);
            }), 0);
}

}  // namespace
}  // namespace ringwall
