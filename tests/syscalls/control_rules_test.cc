// Rules of fcntl, ioctl and statfs on all kinds of descriptors that random calls have found.
#include <linux/fs.h>
#include <pty.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/statfs.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

void* const kBad = reinterpret_cast<void*>(16);

unsigned long FsType(int fd) {
  struct statfs s = {};
  return fstatfs(fd, &s) == 0 ? static_cast<unsigned long>(s.f_type) : 0;
}

TEST(FileIoctlRulesTest, CloneAndDedupeReadTheirArgumentForEveryKind) {
  const Fd event(eventfd(0, 0)), directory(open("/", O_RDONLY)), memory(memfd_create("m", 0));
  for (const int fd : {event.get(), directory.get(), memory.get()}) {
    EXPECT_FAILS(ioctl(fd, FICLONERANGE, kBad), EFAULT);
    EXPECT_FAILS(ioctl(fd, FIDEDUPERANGE, kBad), EFAULT);
    EXPECT_FAILS(ioctl(fd, FS_IOC_FSSETXATTR, kBad), EFAULT);
  }
  file_clone_range clone = {-1, 0, 0, 0};
  EXPECT_FAILS(ioctl(event.get(), FICLONERANGE, &clone), EBADF);
  clone.src_fd = directory.get();
  EXPECT_FAILS(ioctl(event.get(), FICLONERANGE, &clone), EXDEV);
  alignas(8) char room[4096] = {};
  auto* const dedupe = reinterpret_cast<file_dedupe_range*>(room);
  EXPECT_FAILS(ioctl(directory.get(), FIDEDUPERANGE, dedupe), EISDIR);
  EXPECT_FAILS(ioctl(event.get(), FIDEDUPERANGE, dedupe), EINVAL);
  EXPECT_FAILS(ioctl(memory.get(), FIDEDUPERANGE, dedupe), EOPNOTSUPP);
  dedupe->dest_count = 1000;
  EXPECT_FAILS(ioctl(memory.get(), FIDEDUPERANGE, dedupe), ENOMEM);
  int block = 1;
  EXPECT_FAILS(ioctl(memory.get(), FIBMAP, &block), EINVAL);
  EXPECT_FAILS(ioctl(memory.get(), FIBMAP, kBad), EFAULT);
  EXPECT_FAILS(ioctl(event.get(), FIBMAP, &block), ENOTTY);
  EXPECT_TRUE(Exited(InChildAsNobody([&] { return ioctl(memory.get(), FIBMAP, kBad) == -1 && errno == EPERM ? 0 : 1; })));
}
TEST(StatfsRulesTest, EachKindOfNamelessFileHasItsFileSystem) {
  Pipe pipe;
  int two[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, two));
  const Fd one(two[0]), other(two[1]), memory(memfd_create("m", 0)), event(eventfd(0, 0));
  const Fd self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  EXPECT_EQ(FsType(pipe.reader.get()), 0x50495045u);
  EXPECT_EQ(FsType(one.get()), 0x534f434bu);
  EXPECT_EQ(FsType(memory.get()), 0x01021994u);
  EXPECT_EQ(FsType(event.get()), 0x09041934u);
  EXPECT_EQ(FsType(self.get()), 0x50494446u);
}
TEST(NamespaceFileRulesTest, HasNothingToFlushAndIsNotWritten) {
  const Fd ns(open("/proc/self/ns/uts", O_RDONLY));
  EXPECT_FAILS(fsync(ns.get()), EINVAL);
  EXPECT_FAILS(pwrite(ns.get(), "", 0, 0), EBADF);
}
TEST(MemFileRulesTest, NothingIsReadAndWrittenAnywhere) {
  const Fd mem(open("/proc/self/mem", O_RDWR));
  EXPECT_EQ(pread(mem.get(), nullptr, 0, 0), 0);
  EXPECT_EQ(pwrite(mem.get(), nullptr, 0, 0), 0);
}
TEST(FcntlRulesTest, PathDescriptorsAreAskedWhetherTheyMadeTheirFile) {
  const Fd path(open("/", O_PATH));
  EXPECT_EQ(fcntl(path.get(), 1028), 0);
}
TEST(FcntlRulesTest, TerminalsPeersAreNoLargeFiles) {
  int master, slave;
  ASSERT_OK(openpty(&master, &slave, nullptr, nullptr, nullptr));
  const Fd one(master), other(slave);
  EXPECT_EQ(fcntl(slave, F_GETFL) & 0100000, 0);
}
TEST(PidfdRulesTest, OpensTheNamespacesOfAProcess) {
  const Fd self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  constexpr const char* kNames[] = {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", nullptr, nullptr, "user", "uts"};
  for (unsigned i = 0; i < std::size(kNames); i++) {
    if (kNames[i] == nullptr) continue;
    const Fd ns(ioctl(self.get(), 0xff01 + i, 0));
    ASSERT_GE(ns.get(), 0) << kNames[i];
    struct stat got = {}, want = {};
    ASSERT_OK(fstat(ns.get(), &got));
    ASSERT_OK(stat((std::string("/proc/self/ns/") + kNames[i]).c_str(), &want));
    EXPECT_EQ(got.st_ino, want.st_ino) << kNames[i];
    EXPECT_EQ(fcntl(ns.get(), F_GETFD), FD_CLOEXEC);
  }
  EXPECT_FAILS(ioctl(self.get(), 0xff01, 1), EINVAL);
  const pid_t child = fork();
  if (child == 0) _exit(0);
  const Fd ended(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  waitpid(child, nullptr, 0);
  EXPECT_FAILS(ioctl(ended.get(), 0xff01, 0), ESRCH);
}

}  // namespace
}  // namespace ringwall::test
