// What calls say of descriptors that they are not meant for, and which of several errors they say
// first. Each case was found by random calls that native Linux answered otherwise.
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <mqueue.h>
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr uid_t kSomeone = 1000;

class DescriptorRulesTest : public ::testing::Test {
 protected:
  TempDir dir_;
  std::string Path(const char* name) const { return dir_.path() + "/" + name; }
};

TEST_F(DescriptorRulesTest, FionreadOfAFileIsWhatIsLeft) {
  const Fd fd(open(Path("f").c_str(), O_RDWR | O_CREAT, 0600));
  const Fd memory(memfd_create("m", 0));
  for (const int file : {fd.get(), memory.get()}) {
    ASSERT_EQ(write(file, "0123456789", 10), 10);
    int n = -1;
    EXPECT_EQ(ioctl(file, FIONREAD, &n), 0);
    EXPECT_EQ(n, 0);
    ASSERT_EQ(lseek(file, 3, SEEK_SET), 3);
    EXPECT_EQ(ioctl(file, FIONREAD, &n), 0);
    EXPECT_EQ(n, 7);
  }
}

TEST_F(DescriptorRulesTest, IoctlsOfFileSystemsKnowWhatTheyAreAskedOf) {
  const Fd fd(open(Path("f").c_str(), O_RDWR | O_CREAT, 0600));
  const Fd memory(memfd_create("m", 0));
  const Fd event(eventfd(0, 0));
  EXPECT_FAILS(ioctl(memory.get(), FICLONE, -1), EBADF);
  EXPECT_FAILS(ioctl(memory.get(), FICLONE, fd.get()), EXDEV);
  EXPECT_FAILS(ioctl(memory.get(), FICLONE, memory.get()), EOPNOTSUPP);
  const Fd folder(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_FAILS(ioctl(fd.get(), FICLONE, folder.get()), EISDIR);
  fiemap map = {};
  EXPECT_FAILS(ioctl(event.get(), FS_IOC_FIEMAP, &map), EOPNOTSUPP);
  int64_t size = -1;
  EXPECT_EQ(ioctl(fd.get(), FIOQSIZE, &size), 0);
  EXPECT_EQ(size, 0);
  EXPECT_FAILS(ioctl(event.get(), FIOQSIZE, &size), ENOTTY);
}

TEST_F(DescriptorRulesTest, IoctlsThatAreNotKnown) {
  termios unused;
  const Fd epoll(epoll_create1(0));
  EXPECT_FAILS(ioctl(epoll.get(), TCGETS, &unused), EINVAL);
  struct {
    uint32_t usecs;
    uint16_t budget;
    uint8_t prefer, pad;
  } params = {100, 8, 1, 0}, back = {};
  constexpr unsigned long kSet = 0x40088a01, kGet = 0x80088a02;  // EPIOCSPARAMS, EPIOCGPARAMS
  EXPECT_EQ(ioctl(epoll.get(), kSet, &params), 0);
  EXPECT_EQ(ioctl(epoll.get(), kGet, &back), 0);
  EXPECT_EQ(back.usecs, 100u);
  EXPECT_EQ(back.budget, 8u);
  params.prefer = 2;
  EXPECT_FAILS(ioctl(epoll.get(), kSet, &params), EINVAL);
  EXPECT_FAILS(ioctl(Fd(open("/dev/urandom", O_RDONLY)).get(), TCGETS, &unused), EINVAL);
  EXPECT_FAILS(ioctl(Fd(open("/dev/null", O_RDONLY)).get(), TCGETS, &unused), ENOTTY);
  int on = 1;
  EXPECT_EQ(ioctl(Fd(inotify_init1(0)).get(), FIOASYNC, &on), 0);
}

TEST_F(DescriptorRulesTest, AFileOpenForNothingTakesNoFlock) {
  const Fd fd(open(Path("f").c_str(), O_ACCMODE | O_CREAT, 0600));
  ASSERT_GE(fd.get(), 0);
  EXPECT_FAILS(flock(fd.get(), LOCK_SH), EBADF);
  EXPECT_EQ(flock(fd.get(), LOCK_UN), 0);
}

TEST_F(DescriptorRulesTest, NothingToReadOrWriteIsDoneAtOnce) {
  iovec none = {nullptr, 0};
  const Fd folder(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_EQ(readv(folder.get(), &none, 1), 0);
  char byte;
  iovec one = {&byte, 1};
  EXPECT_FAILS(readv(folder.get(), &one, 1), EISDIR);
  EXPECT_FAILS(preadv2(folder.get(), &one, 1, -1, RWF_DSYNC), EOPNOTSUPP);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[0]);
  const Fd alone(ends[1]);
  EXPECT_EQ(writev(alone.get(), &none, 1), 0);
  EXPECT_EQ(write(alone.get(), &byte, 0), 0);
  EXPECT_FAILS(preadv2(alone.get(), &one, 1, -1, 0x40000), EBADF);
  const Fd event(eventfd(0, 0));
  uint64_t value = 1;
  iovec eight = {&value, sizeof(value)};
  EXPECT_FAILS(pwritev2(event.get(), &eight, 1, -1, RWF_APPEND), EOPNOTSUPP);
  EXPECT_EQ(pwritev2(event.get(), &eight, 1, -1, 0), 8);
}

TEST_F(DescriptorRulesTest, APidfdHasAPositionAndNothingAtIt) {
  const Fd fd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  char byte;
  EXPECT_FAILS(pread(fd.get(), &byte, 1, 0), EINVAL);
  const Fd ns(open("/proc/self/ns/uts", O_RDONLY));
  EXPECT_FAILS(pread(ns.get(), &byte, 1, 0), EINVAL);
  EXPECT_FAILS(pread(Fd(eventfd(0, 0)).get(), &byte, 1, 0), ESPIPE);
}

TEST_F(DescriptorRulesTest, FilesWithoutAnythingToFlushSaySo) {
  for (const char* name : {"/proc", "/proc/self/stat", "/proc/version", "/sys"}) {
    EXPECT_FAILS(fsync(Fd(open(name, O_RDONLY)).get()), EINVAL) << name;
  }
  EXPECT_EQ(fsync(Fd(open(dir_.path().c_str(), O_RDONLY)).get()), 0);
}

TEST_F(DescriptorRulesTest, AMessageQueueIsNoLargeFile) {
  const std::string name = "/rules" + std::to_string(getpid());
  const Fd queue(mq_open(name.c_str(), O_RDWR | O_CREAT | O_NONBLOCK, 0600, nullptr));
  ASSERT_GE(queue.get(), 0);
  mq_unlink(name.c_str());
  EXPECT_EQ(fcntl(queue.get(), F_GETFL), O_RDWR | O_NONBLOCK);
  EXPECT_FAILS(fsync(queue.get()), EINVAL);
}

TEST_F(DescriptorRulesTest, RootOpensProcFilesForWritingInVain) {
  if (geteuid() != 0) GTEST_SKIP() << "needs to pass mode bits";
  const Fd fd(open("/proc/self/stat", O_RDWR));
  ASSERT_GE(fd.get(), 0);
  EXPECT_FAILS(write(fd.get(), "x", 1), EINVAL);
  EXPECT_FAILS(open("/proc/sys/kernel/osrelease", O_RDWR), EACCES);
}

TEST_F(DescriptorRulesTest, AOneshotWatchWithoutEventsStillTellsOfErrors) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const Fd writer(ends[1]);
  const Fd epoll(epoll_create1(0));
  epoll_event watch = {EPOLLONESHOT, {.u64 = 7}}, got = {};
  ASSERT_EQ(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, writer.get(), &watch), 0);
  close(ends[0]);
  EXPECT_EQ(epoll_wait(epoll.get(), &got, 1, 0), 1);
  EXPECT_EQ(got.events, static_cast<uint32_t>(EPOLLERR));
  EXPECT_EQ(epoll_wait(epoll.get(), &got, 1, 0), 0);
}

TEST_F(DescriptorRulesTest, AWatchForNoEventIsOne) {
  const Fd fd(inotify_init1(0));
  for (const uint32_t mask : {uint32_t{IN_MASK_CREATE}, uint32_t{IN_ONLYDIR}, uint32_t{IN_ISDIR}, uint32_t{IN_Q_OVERFLOW}}) {
    const Fd fresh(inotify_init1(0));
    EXPECT_EQ(inotify_add_watch(fresh.get(), dir_.path().c_str(), mask), 1);
  }
  EXPECT_FAILS(inotify_add_watch(fd.get(), dir_.path().c_str(), 0x10000), EINVAL);
}

TEST_F(DescriptorRulesTest, ATerminalTakesMoreThanOneTurn) {
  int master, slave;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  const Fd m(master), s(slave);
  termios raw;
  ASSERT_EQ(tcgetattr(slave, &raw), 0);
  cfmakeraw(&raw);
  ASSERT_EQ(tcsetattr(slave, TCSANOW, &raw), 0);
  fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK);
  const std::string text(3000, 'x');
  EXPECT_EQ(write(master, text.data(), text.size()), 3000);
}

TEST_F(DescriptorRulesTest, CopiesStayInTheirFileSystem) {
  const Fd fd(open(Path("f").c_str(), O_RDWR | O_CREAT, 0600));
  const Fd memory(memfd_create("m", 0));
  ASSERT_EQ(write(fd.get(), "abc", 3), 3);
  ASSERT_EQ(lseek(fd.get(), 0, SEEK_SET), 0);
  EXPECT_FAILS(copy_file_range(fd.get(), nullptr, memory.get(), nullptr, 3, 0), EXDEV);
}

TEST_F(DescriptorRulesTest, DirectoriesOfTmpfsHaveNoEnd) {
  const Fd fd(open("/dev/shm", O_RDONLY | O_DIRECTORY));
  if (fd.get() < 0) GTEST_SKIP() << "no /dev/shm";
  for (const int whence : {SEEK_END, SEEK_DATA, SEEK_HOLE}) EXPECT_FAILS(lseek(fd.get(), 0, whence), EINVAL);
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 0);
}

TEST_F(DescriptorRulesTest, ANameOfOnlyAPrefixIsInvalid) {
  const Fd fd(open(Path("f").c_str(), O_RDWR | O_CREAT, 0600));
  char value[10];
  EXPECT_FAILS(fgetxattr(fd.get(), "user.", value, sizeof(value)), EINVAL);
  EXPECT_FAILS(fgetxattr(fd.get(), "system.", value, sizeof(value)), EOPNOTSUPP);
  EXPECT_FAILS(lseek(Fd(open("/proc/self/stat", O_RDONLY)).get(), 0, SEEK_END), EINVAL);
}

TEST_F(DescriptorRulesTest, RenameSaysFirstWhatIsWrongWithTheOldName) {
  EXPECT_FAILS(syscall(SYS_renameat2, -1, "a", AT_FDCWD, "", 0), EBADF);
  EXPECT_FAILS(syscall(SYS_renameat2, AT_FDCWD, Path("no/a").c_str(), -1, "b", 0), ENOENT);
  EXPECT_FAILS(syscall(SYS_renameat2, AT_FDCWD, Path("a").c_str(), -1, "b", 0), EBADF);
  EXPECT_FAILS(syscall(SYS_renameat2, AT_FDCWD, Path("a").c_str(), AT_FDCWD, "", 0), ENOENT);
}

TEST_F(DescriptorRulesTest, WhatTheOwnerAloneMay) {
  if (geteuid() != 0) GTEST_SKIP() << "needs a second user";
  const Fd fd(open(Path("f").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_OK(chmod(dir_.path().c_str(), 0777));
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(setresgid(kSomeone, kSomeone, kSomeone) == 0);
    CHECK_CHILD(setresuid(kSomeone, kSomeone, kSomeone) == 0);
    CHECK_CHILD(fcntl(fd.get(), F_SETFL, O_NOATIME) == -1 && errno == EPERM);
    // The permission is asked for before the name is understood.
    CHECK_CHILD(setxattr(Path("f").c_str(), "nope", "1", 1, 0) == -1 && errno == EACCES);
    // Ids that stay as they are leave the process the one that opened the file.
    const Fd nameless(open(dir_.path().c_str(), O_RDWR | O_TMPFILE, 0600));
    if (nameless.get() < 0) return 0;
    CHECK_CHILD(syscall(SYS_setresuid, -1, kSomeone, -1) == 0 && syscall(SYS_setresgid, -1, -1, kSomeone) == 0);
    CHECK_CHILD(linkat(nameless.get(), "", AT_FDCWD, Path("named").c_str(), AT_EMPTY_PATH) == 0);
    return 0;
  })));
}

TEST(ProcessRulesTest, CapgetWithoutDataOnlyChecksTheVersion) {
  uint32_t header[2] = {0x20080522, 0};
  EXPECT_EQ(syscall(SYS_capget, header, nullptr), 0);
  header[0] = 0;
  EXPECT_EQ(syscall(SYS_capget, header, nullptr), 0);
  EXPECT_EQ(header[0], 0x20080522u);
}

TEST(ProcessRulesTest, TimersOfCpuTimeKeepTheirIntervalWhileOff) {
  const itimerval off = {{1000, 5}, {0, 0}};
  itimerval now;
  for (const auto which : {ITIMER_VIRTUAL, ITIMER_PROF, ITIMER_REAL}) {
    ASSERT_EQ(setitimer(which, &off, nullptr), 0);
    ASSERT_EQ(getitimer(which, &now), 0);
    EXPECT_EQ(now.it_interval.tv_sec, which == ITIMER_REAL ? 0 : 1000);
    const itimerval none = {};
    ASSERT_EQ(setitimer(which, &none, nullptr), 0);
  }
}

// A zombie that comes to a parent who ignores SIGCHLD goes at once (reparent_leader).
TEST(ProcessRulesTest, InheritedZombiesAreToldOf) {
  EXPECT_TRUE(Exited(InChild([] {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGCHLD, SIG_IGN);
    int ends[2];
    CHECK_CHILD(pipe(ends) == 0);
    if (fork() == 0) {
      signal(SIGCHLD, SIG_DFL);
      const pid_t dies = fork();
      if (dies == 0) _exit(3);
      siginfo_t info;
      waitid(P_PID, static_cast<id_t>(dies), &info, WEXITED | WNOWAIT);
      (void)!write(ends[1], &dies, sizeof(dies));
      _exit(0);
    }
    pid_t zombie = 0;
    CHECK_CHILD(read(ends[0], &zombie, sizeof(zombie)) == sizeof(zombie));
    CHECK_CHILD(wait(nullptr) == -1 && errno == ECHILD);  // once both are gone
    CHECK_CHILD(kill(zombie, 0) == -1 && errno == ESRCH);
    return 0;
  })));
}

// What counts is whether the file could be written through the mapping, not its protection now.
TEST(MemoryRulesTest, HolesAreMadeThroughMappingsThatMayWrite) {
  const Fd fd(memfd_create("m", 0));
  ASSERT_EQ(ftruncate(fd.get(), 4096), 0);
  void* const shared = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(shared, MAP_FAILED);
  EXPECT_EQ(madvise(shared, 4096, MADV_REMOVE), 0);
  void* const own = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get(), 0);
  ASSERT_NE(own, MAP_FAILED);
  EXPECT_FAILS(madvise(own, 4096, MADV_REMOVE), EACCES);
  munmap(shared, 4096);
  munmap(own, 4096);
}

TEST(ProcessRulesTest, WhichErrorComesFirst) {
  EXPECT_FAILS(syscall(SYS_tgkill, getpid(), 999999, -1), ESRCH);
  EXPECT_FAILS(syscall(SYS_tgkill, getpid(), getpid(), -1), EINVAL);
  EXPECT_FAILS(syscall(SYS_tgkill, 0, getpid(), -1), EINVAL);
  EXPECT_FAILS(kill(999999, 65), ESRCH);
  EXPECT_FAILS(kill(getpid(), 65), EINVAL);
  EXPECT_FAILS(kill(-999999, 65), ESRCH);
  EXPECT_FAILS(kill(INT32_MIN, 0), ESRCH);
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    constexpr int kNewTime = 0x80;  // CLONE_NEWTIME
    CHECK_CHILD(unshare(kNewTime) == -1 && errno == EPERM);
    CHECK_CHILD(syscall(SYS_syslog, 0, nullptr, 0) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST(ProcessRulesTest, KeptParametersAreThoseOfThePolicy) {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } a = {48, SCHED_BATCH, 0x10 /* SCHED_FLAG_KEEP_PARAMS */, 30, 100, 0, 0, 0};
  EXPECT_FAILS(syscall(SYS_sched_setattr, 0, &a, 0), EINVAL);
  a.priority = 0;
  EXPECT_TRUE(Exited(InChild([&] { return syscall(SYS_sched_setattr, 0, &a, 0) == 0 ? 0 : 1; })));
}

}  // namespace
}  // namespace ringwall::test
