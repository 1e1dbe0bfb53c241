// stat and its kin, access, chmod, chown, utimens, statfs.
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

class StatTest : public ::testing::Test {
 protected:
  TempDir dir_;
  std::string path_ = dir_.File("f", "12345");
};

TEST_F(StatTest, RegularFile) {
  struct stat st;
  ASSERT_OK(stat(path_.c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0644u);
  EXPECT_EQ(st.st_size, 5);
  EXPECT_EQ(st.st_nlink, 1u);
  EXPECT_EQ(st.st_uid, geteuid());
  EXPECT_GT(st.st_blksize, 0);
  EXPECT_NE(st.st_ino, 0u);
}

TEST_F(StatTest, FstatAndStatSayTheSame) {
  struct stat a, b, c;
  Fd fd(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(stat(path_.c_str(), &a));
  ASSERT_OK(fstat(fd.get(), &b));
  ASSERT_OK(fstatat(fd.get(), "", &c, AT_EMPTY_PATH));
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(a.st_dev, b.st_dev);
  EXPECT_EQ(a.st_mtim.tv_nsec, b.st_mtim.tv_nsec);
  EXPECT_EQ(a.st_ino, c.st_ino);
}

TEST_F(StatTest, TwoFilesHaveTwoInodes) {
  struct stat a, b;
  ASSERT_OK(stat(path_.c_str(), &a));
  ASSERT_OK(stat(dir_.File("g").c_str(), &b));
  EXPECT_NE(a.st_ino, b.st_ino);
  EXPECT_EQ(a.st_dev, b.st_dev);
}

TEST_F(StatTest, LinkIsFollowedUnlessAsked) {
  const std::string link = dir_ / "l";
  ASSERT_OK(symlink("f", link.c_str()));
  struct stat st;
  ASSERT_OK(stat(link.c_str(), &st));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  ASSERT_OK(lstat(link.c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFLNK | 0777u);
  EXPECT_EQ(st.st_size, 1);
  ASSERT_OK(fstatat(AT_FDCWD, link.c_str(), &st, AT_SYMLINK_NOFOLLOW));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
}

TEST_F(StatTest, DirectoryLinkCountCountsSubfolders) {
  struct stat st;
  ASSERT_OK(mkdir((dir_ / "a").c_str(), 0755));
  ASSERT_OK(stat((dir_ / "a").c_str(), &st));
  EXPECT_TRUE(S_ISDIR(st.st_mode));
  EXPECT_TRUE(st.st_nlink == 2 || st.st_nlink == 1) << st.st_nlink;
}

TEST_F(StatTest, Errors) {
  struct stat st;
  EXPECT_FAILS(stat((dir_ / "none").c_str(), &st), ENOENT);
  EXPECT_FAILS(stat((path_ + "/x").c_str(), &st), ENOTDIR);
  EXPECT_FAILS(stat("", &st), ENOENT);
  EXPECT_FAILS(fstat(-1, &st), EBADF);
  EXPECT_FAILS(syscall(SYS_fstat, 0, BadAddress()), EFAULT);
  EXPECT_FAILS(syscall(SYS_stat, path_.c_str(), BadAddress()), EFAULT);
  EXPECT_FAILS(syscall(SYS_stat, BadAddress(), &st), EFAULT);
  EXPECT_FAILS(fstatat(AT_FDCWD, path_.c_str(), &st, 0x40000), EINVAL);
  EXPECT_FAILS(fstatat(AT_FDCWD, "", &st, 0), ENOENT);
}

TEST_F(StatTest, StatxSaysWhatStatSays) {
  struct statx x;
  struct stat st;
  ASSERT_OK(stat(path_.c_str(), &st));
  ASSERT_OK(statx(AT_FDCWD, path_.c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &x));
  EXPECT_EQ(x.stx_mask & STATX_BASIC_STATS, static_cast<unsigned>(STATX_BASIC_STATS));
  EXPECT_EQ(x.stx_ino, st.st_ino);
  EXPECT_EQ(x.stx_size, 5u);
  EXPECT_EQ(x.stx_mode, st.st_mode);
  EXPECT_EQ(x.stx_mtime.tv_sec, st.st_mtim.tv_sec);
  EXPECT_EQ(makedev(x.stx_dev_major, x.stx_dev_minor), st.st_dev);
  EXPECT_FAILS(statx(AT_FDCWD, path_.c_str(), 0, 0x80000000u, &x), EINVAL);
  EXPECT_FAILS(statx(AT_FDCWD, path_.c_str(), 0x6000, STATX_BASIC_STATS, &x), EINVAL);
  EXPECT_FAILS(syscall(SYS_statx, AT_FDCWD, path_.c_str(), 0, STATX_BASIC_STATS, BadAddress()),
               EFAULT);
}

TEST_F(StatTest, DevicesShowTheirNumbers) {
  struct stat st;
  ASSERT_OK(stat("/dev/null", &st));
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(st.st_rdev, makedev(1, 3));
}

TEST_F(StatTest, WriteMovesMtimeAndChmodMovesCtimeOnly) {
  const timespec old[2] = {{1000, 0}, {1000, 0}};
  ASSERT_OK(utimensat(AT_FDCWD, path_.c_str(), old, 0));
  struct stat before, after;
  ASSERT_OK(stat(path_.c_str(), &before));
  EXPECT_EQ(before.st_mtim.tv_sec, 1000);
  EXPECT_GT(before.st_ctim.tv_sec, 1000);
  ASSERT_OK(chmod(path_.c_str(), 0600));
  ASSERT_OK(stat(path_.c_str(), &after));
  EXPECT_EQ(after.st_mtim.tv_sec, 1000);
  Fd fd(open(path_.c_str(), O_WRONLY));
  ASSERT_EQ(write(fd.get(), "x", 1), 1);
  ASSERT_OK(stat(path_.c_str(), &after));
  EXPECT_GT(after.st_mtim.tv_sec, 1000);
}

TEST_F(StatTest, UtimensatOmitAndErrors) {
  const timespec set[2] = {{0, UTIME_OMIT}, {2000, 5}};
  const timespec base[2] = {{7, 8}, {9, 10}};
  ASSERT_OK(utimensat(AT_FDCWD, path_.c_str(), base, 0));
  ASSERT_OK(utimensat(AT_FDCWD, path_.c_str(), set, 0));
  struct stat st;
  ASSERT_OK(stat(path_.c_str(), &st));
  EXPECT_EQ(st.st_atim.tv_sec, 7);
  EXPECT_EQ(st.st_mtim.tv_sec, 2000);
  EXPECT_EQ(st.st_mtim.tv_nsec, 5);
  const timespec bad[2] = {{0, 1000000000}, {0, 0}};
  EXPECT_FAILS(utimensat(AT_FDCWD, path_.c_str(), bad, 0), EINVAL);
  EXPECT_FAILS(utimensat(AT_FDCWD, (dir_ / "no").c_str(), base, 0), ENOENT);
  Fd fd(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(futimens(fd.get(), base));
  ASSERT_OK(stat(path_.c_str(), &st));
  EXPECT_EQ(st.st_mtim.tv_sec, 9);
}

TEST_F(StatTest, ChmodKeepsTwelveBits) {
  struct stat st;
  ASSERT_OK(chmod(path_.c_str(), 07777));
  ASSERT_OK(stat(path_.c_str(), &st));
  EXPECT_EQ(st.st_mode & 07777, 07777u);
  Fd fd(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fchmod(fd.get(), 0));
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_mode & 07777, 0u);
  EXPECT_FAILS(chmod((dir_ / "none").c_str(), 0), ENOENT);
  EXPECT_FAILS(fchmod(-1, 0), EBADF);
}

TEST_F(StatTest, ChownByRootClearsSetIdBits) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  struct stat st;
  ASSERT_OK(chmod(path_.c_str(), 06755));
  ASSERT_OK(chown(path_.c_str(), 123, 456));
  ASSERT_OK(stat(path_.c_str(), &st));
  EXPECT_EQ(st.st_uid, 123u);
  EXPECT_EQ(st.st_gid, 456u);
  EXPECT_EQ(st.st_mode & 07777, 0755u);
  ASSERT_OK(chown(path_.c_str(), -1, 7));
  ASSERT_OK(stat(path_.c_str(), &st));
  EXPECT_EQ(st.st_uid, 123u);
  EXPECT_EQ(st.st_gid, 7u);
  ASSERT_OK(symlink("f", (dir_ / "l").c_str()));
  ASSERT_OK(lchown((dir_ / "l").c_str(), 9, 9));
  ASSERT_OK(stat(path_.c_str(), &st));
  EXPECT_EQ(st.st_uid, 123u);
  ASSERT_OK(lstat((dir_ / "l").c_str(), &st));
  EXPECT_EQ(st.st_uid, 9u);
}

TEST_F(StatTest, AnOrdinaryUserMayNotChangeOthersFiles) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(chmod(path_.c_str(), 0777) == -1 && errno == EPERM);
    CHECK_CHILD(chown(path_.c_str(), getuid(), -1) == -1 && errno == EPERM);
    const timespec t[2] = {{1, 0}, {1, 0}};
    CHECK_CHILD(utimensat(AT_FDCWD, path_.c_str(), t, 0) == -1 && errno == EPERM);
    CHECK_CHILD(utimensat(AT_FDCWD, path_.c_str(), nullptr, 0) == -1 && errno == EACCES);
    return 0;
  })));
}

TEST_F(StatTest, AccessAsksForTheRealUser) {
  EXPECT_OK(access(path_.c_str(), F_OK));
  EXPECT_OK(access(path_.c_str(), R_OK | W_OK));
  EXPECT_FAILS(access(path_.c_str(), X_OK), EACCES);
  EXPECT_FAILS(access((dir_ / "none").c_str(), F_OK), ENOENT);
  EXPECT_FAILS(access(path_.c_str(), 8), EINVAL);
  EXPECT_FAILS(access(static_cast<char*>(BadAddress()), F_OK), EFAULT);
  EXPECT_FAILS(syscall(SYS_faccessat2, AT_FDCWD, path_.c_str(), F_OK, 0x10), EINVAL);
  if (geteuid() != 0) return;
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  ASSERT_OK(chmod(path_.c_str(), 0600));
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(setresuid(65534, 0, 0) == 0);
    CHECK_CHILD(access(path_.c_str(), R_OK) == -1 && errno == EACCES);
    CHECK_CHILD(syscall(SYS_faccessat2, AT_FDCWD, path_.c_str(), R_OK, AT_EACCESS) == 0);
    return 0;
  })));
}

TEST_F(StatTest, SearchPermissionIsNeededOnTheWay) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  ASSERT_OK(mkdir((dir_ / "shut").c_str(), 0700));
  dir_.File("shut/x");
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    struct stat st;
    CHECK_CHILD(stat((dir_ / "shut").c_str(), &st) == 0);
    CHECK_CHILD(stat((dir_ / "shut/x").c_str(), &st) == -1 && errno == EACCES);
    CHECK_CHILD(stat((dir_ / "shut/none").c_str(), &st) == -1 && errno == EACCES);
    return 0;
  })));
}

TEST_F(StatTest, StatfsAnswersForPathAndDescriptor) {
  struct statfs a, b;
  ASSERT_OK(statfs(dir_.path().c_str(), &a));
  Fd fd(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fstatfs(fd.get(), &b));
  EXPECT_EQ(a.f_type, b.f_type);
  EXPECT_GT(a.f_bsize, 0);
  EXPECT_EQ(a.f_namelen, 255);
  EXPECT_FAILS(statfs((dir_ / "none").c_str(), &a), ENOENT);
  EXPECT_FAILS(fstatfs(-1, &a), EBADF);
  ASSERT_OK(statfs("/proc", &a));
  EXPECT_EQ(a.f_type, 0x9fa0);
}

TEST_F(StatTest, ADescriptorNeedsNoPath) {
  Fd fd(open(path_.c_str(), O_RDONLY));
  struct stat st;
  EXPECT_OK(syscall(SYS_newfstatat, fd.get(), nullptr, &st, AT_EMPTY_PATH));
  EXPECT_FAILS(syscall(SYS_newfstatat, fd.get(), nullptr, &st, 0), EFAULT);
  struct statx sx;
  EXPECT_OK(syscall(SYS_statx, fd.get(), nullptr, AT_EMPTY_PATH, STATX_BASIC_STATS, &sx));
  EXPECT_EQ(sx.stx_ino, st.st_ino);
}

TEST_F(StatTest, TimesThatStayAreNotLookedAt) {
  const timespec stay[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  EXPECT_OK(syscall(SYS_utimensat, -1, (dir_ / "none").c_str(), stay, 0x8000));
  const timespec now[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  EXPECT_FAILS(syscall(SYS_utimensat, AT_FDCWD, (dir_ / "none").c_str(), now, 0), ENOENT);
  EXPECT_FAILS(syscall(SYS_utimensat, AT_FDCWD, path_.c_str(), now, 0x8000), EINVAL);
}

}  // namespace
}  // namespace ringwall::test
