// Proves the network helper's list: what is not on it ends the process.
#include "runsc/filter/netd_filter.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
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
  return UnderFilterOf([] { return InstallNetdFilter(); }, f);
}

std::set<int> Listed() { return NumbersOf(NetdFilterRules()); }

TEST(NetdFilterTest, EachCallHasAReason) {
  for (const FilterRule& rule : NetdFilterRules()) EXPECT_GT(strlen(rule.reason), 2u) << rule.number;
}

TEST(NetdFilterTest, ListOpensNothingAndMakesNoProcess) {
  const std::set<int> listed = Listed();
  for (const int number :
       {SYS_open, SYS_openat, SYS_openat2, SYS_creat, SYS_execve, SYS_execveat, SYS_fork, SYS_vfork,
        SYS_clone, SYS_clone3, SYS_mount, SYS_unshare, SYS_setns, SYS_chroot, SYS_ptrace,
        SYS_process_vm_readv, SYS_process_vm_writev, SYS_kill, SYS_tgkill, SYS_bind, SYS_listen,
        SYS_io_uring_setup, SYS_bpf, SYS_userfaultfd, SYS_keyctl, SYS_memfd_create}) {
    EXPECT_EQ(listed.count(number), 0u) << number;
  }
}

TEST(NetdFilterTest, EveryCallThatIsNotListedKills) {
  const std::set<int> listed = Listed();
  for (int number = 0; number <= kLastSyscall; number++) {
    if (listed.count(number) != 0) continue;
    // uretprobe and uprobe: the kernel looks at no filter for them.
    if (number == 335 || number == 336) continue;
    const int status = UnderFilter([&] { syscall(number, -1, -1, -1, -1, -1, -1); });
    EXPECT_TRUE(DiedOfFilter(status)) << "system call " << number << " status " << status;
  }
}

TEST(NetdFilterTest, ArgumentsAreNarrow) {
  const auto dies = [](auto f) { return DiedOfFilter(UnderFilter(f)); };
  EXPECT_TRUE(dies([] { syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0); }));
  EXPECT_TRUE(dies([] { syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }));
  EXPECT_TRUE(dies([] { syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 0); }));
  EXPECT_TRUE(dies([] {
    syscall(SYS_socket, AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP);
  }));
  EXPECT_TRUE(dies([] {
    int mark = 1;
    syscall(SYS_setsockopt, 0, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
  }));
  EXPECT_TRUE(dies([] {
    syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }));
  EXPECT_TRUE(dies([] { syscall(SYS_accept4, -1, nullptr, nullptr, 0); }));
}

TEST(NetdFilterTest, ListedWorkGoesOn) {
  EXPECT_EQ(UnderFilter([] {
              const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
              if (fd < 0) syscall(SYS_exit_group, 1);
              close(fd);
            }), 0);
}

}  // namespace
}  // namespace ringwall
