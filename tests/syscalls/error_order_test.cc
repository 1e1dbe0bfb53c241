// Which of several errors a call reports, and what a descriptor shows of how it was opened.
#include <linux/fs.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr int kClosed = 999;

class ErrorOrderTest : public ::testing::Test {
 protected:
  TempDir dir_;
  std::string path_ = dir_.File("f", "data");
};

TEST_F(ErrorOrderTest, FlockLooksAtTheOperationFirst) {
  EXPECT_FAILS(flock(kClosed, LOCK_NB), EINVAL);
  EXPECT_FAILS(flock(kClosed, LOCK_SH | LOCK_EX), EINVAL);
  EXPECT_FAILS(flock(kClosed, LOCK_SH), EBADF);
}

TEST_F(ErrorOrderTest, OpenLooksAtTheFlagsBeforePathAndDirectory) {
  EXPECT_FAILS(open("", O_CREAT | O_DIRECTORY | O_RDWR, 0600), EINVAL);
  EXPECT_FAILS(openat(kClosed, "x", O_CREAT | O_DIRECTORY, 0600), EINVAL);
  EXPECT_FAILS(openat(kClosed, "x", O_CREAT, 0600), EBADF);
}

TEST_F(ErrorOrderTest, PathDescriptorsIgnoreFlagsThatCannotGoTogether) {
  Fd fd(open(dir_.path().c_str(), O_PATH | O_CREAT | O_DIRECTORY | O_WRONLY, 0600));
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(fcntl(fd.get(), F_GETFL), O_PATH | O_DIRECTORY);
  char c;
  EXPECT_FAILS(pread(fd.get(), &c, 1, 0), EBADF);
  iovec piece = {&c, 1};
  EXPECT_FAILS(preadv2(fd.get(), &piece, 1, 0, 0), EBADF);
}

TEST_F(ErrorOrderTest, TmpfileShowsHowItWasOpened) {
  Fd fd(open(dir_.path().c_str(), O_TMPFILE | O_RDWR, 0600));
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(fcntl(fd.get(), F_GETFL) & O_TMPFILE, O_TMPFILE);
}

TEST_F(ErrorOrderTest, PacketsShowAtTheWritersEndOnly) {
  int ends[2];
  ASSERT_OK(pipe2(ends, O_DIRECT));
  Fd reader(ends[0]), writer(ends[1]);
  EXPECT_EQ(fcntl(reader.get(), F_GETFL) & O_DIRECT, 0);
  EXPECT_EQ(fcntl(writer.get(), F_GETFL) & O_DIRECT, O_DIRECT);
}

TEST_F(ErrorOrderTest, AccessModeThreeNeitherReadsNorWrites) {
  constexpr int kForIoctl = 3;
  Fd fd(open(path_.c_str(), kForIoctl));
  ASSERT_TRUE(fd.ok());
  char c = 0;
  EXPECT_FAILS(read(fd.get(), &c, 1), EBADF);
  EXPECT_FAILS(pread(fd.get(), &c, 1, 0), EBADF);
  EXPECT_FAILS(write(fd.get(), &c, 1), EBADF);
  ASSERT_OK(mkfifo((dir_ / "fifo").c_str(), 0600));
  EXPECT_FAILS(open((dir_ / "fifo").c_str(), kForIoctl | O_NONBLOCK), EINVAL);
}

TEST_F(ErrorOrderTest, SealsAreForWritersOfMemory) {
  Fd reader(open(path_.c_str(), O_RDONLY)), writer(open(path_.c_str(), O_RDWR));
  EXPECT_FAILS(fcntl(reader.get(), F_ADD_SEALS, 0), EPERM);
  int ends[2];
  ASSERT_OK(pipe(ends));
  Fd out(ends[0]), in(ends[1]);
  EXPECT_FAILS(fcntl(out.get(), F_ADD_SEALS, 0), EPERM);
  EXPECT_FAILS(fcntl(in.get(), F_ADD_SEALS, 0), EINVAL);
}

TEST_F(ErrorOrderTest, WriteHintsAreKept) {
  Fd fd(open(path_.c_str(), O_RDWR)), other(open(path_.c_str(), O_RDONLY));
  uint64_t hint = 77;
  ASSERT_OK(fcntl(other.get(), F_GET_RW_HINT, &hint));
  EXPECT_EQ(hint, uint64_t{RWH_WRITE_LIFE_NOT_SET});
  hint = RWH_WRITE_LIFE_LONG;
  ASSERT_OK(fcntl(fd.get(), F_SET_RW_HINT, &hint));
  hint = 0;
  ASSERT_OK(fcntl(other.get(), F_GET_RW_HINT, &hint));
  EXPECT_EQ(hint, uint64_t{RWH_WRITE_LIFE_LONG});
  hint = RWH_WRITE_LIFE_EXTREME + 1;
  EXPECT_FAILS(fcntl(fd.get(), F_SET_RW_HINT, &hint), EINVAL);
  EXPECT_FAILS(fcntl(fd.get(), F_GET_RW_HINT, BadAddress()), EFAULT);
}

TEST_F(ErrorOrderTest, EventsHaveAPositionThatDoesNotMove) {
  Fd event(eventfd(0, 0));
  EXPECT_EQ(lseek(event.get(), 5, SEEK_END), 0);
  EXPECT_EQ(lseek(event.get(), -1, SEEK_CUR), 0);
  char c[8];
  EXPECT_FAILS(pread(event.get(), c, 8, 0), ESPIPE);
  EXPECT_FAILS(lseek(event.get(), 0, 99), EINVAL);
}

TEST_F(ErrorOrderTest, EachFileHasABlockSize) {
  int ends[2], size = 0;
  ASSERT_OK(pipe(ends));
  Fd out(ends[0]), in(ends[1]);
  ASSERT_OK(ioctl(out.get(), FIGETBSZ, &size));
  EXPECT_EQ(size, 4096);
  // A byte cannot be written to an end without a position, whatever the flags.
  iovec piece = {&size, 1};
  EXPECT_FAILS(pwritev2(in.get(), &piece, 1, 0, 0x40000), ESPIPE);
}

TEST_F(ErrorOrderTest, PrlimitLooksForTheProcessFirst) {
  EXPECT_FAILS(syscall(SYS_prlimit64, 999999, RLIM_NLIMITS, nullptr, nullptr), ESRCH);
  EXPECT_FAILS(syscall(SYS_prlimit64, 0, RLIM_NLIMITS, nullptr, nullptr), EINVAL);
}

TEST_F(ErrorOrderTest, QueuedSignalsMustNotClaimToBeTheKernels) {
  siginfo_t info = {};
  info.si_code = SI_USER;
  EXPECT_FAILS(syscall(SYS_rt_sigqueueinfo, getppid(), 65, &info), EPERM);
  info.si_code = SI_QUEUE;
  EXPECT_FAILS(syscall(SYS_rt_sigqueueinfo, getpid(), 65, &info), EINVAL);
}

TEST_F(ErrorOrderTest, ATakenPlaceIsSeenBeforeTheTypeOfTheMapping) {
  void* page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  constexpr int kNoType = MAP_FIXED_NOREPLACE | MAP_ANONYMOUS;
  EXPECT_EQ(mmap(page, 4096, PROT_READ, kNoType, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, EEXIST);
  ASSERT_OK(munmap(page, 4096));
  EXPECT_EQ(mmap(page, 4096, PROT_READ, kNoType, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(ErrorOrderTest, WhatCannotBeResidentCannotBeLocked) {
  void* page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  EXPECT_FAILS(mlock(page, 4096), ENOMEM);
  constexpr int kOnFault = 1;
  EXPECT_OK(syscall(SYS_mlock2, page, 4096, kOnFault));
  ASSERT_OK(munmap(page, 4096));
}

TEST_F(ErrorOrderTest, AnotherFileIdentityEndsDumps) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const pid_t pid = fork();
  if (pid == 0) {
    CHECK_CHILD(prctl(PR_SET_DUMPABLE, 1) == 0);
    setfsuid(0);
    CHECK_CHILD(prctl(PR_GET_DUMPABLE) == 1);
    setfsuid(1000);
    _exit(prctl(PR_GET_DUMPABLE) == 1 ? 1 : 0);
  }
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status, 0)) << status;
}

}  // namespace
}  // namespace ringwall::test
