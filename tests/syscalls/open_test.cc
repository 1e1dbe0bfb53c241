// open, openat, creat, close, dup and fcntl on descriptors.
#include <sys/file.h>
#include <sys/ioctl.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

class OpenTest : public ::testing::Test {
 protected:
  TempDir dir_;
  std::string path_ = dir_.File("f", "data");
};

TEST_F(OpenTest, LowestFreeNumberIsGiven) {
  Fd a(open(path_.c_str(), O_RDONLY)), b(open(path_.c_str(), O_RDONLY));
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(b.get(), a.get() + 1);
  const int freed = a.get();
  a.Reset();
  Fd c(open(path_.c_str(), O_RDONLY));
  EXPECT_EQ(c.get(), freed);
}

TEST_F(OpenTest, MissingNameAndMissingFolder) {
  EXPECT_FAILS(open((dir_ / "none").c_str(), O_RDONLY), ENOENT);
  EXPECT_FAILS(open((dir_ / "none/x").c_str(), O_CREAT | O_RDWR, 0644), ENOENT);
  EXPECT_FAILS(open((path_ + "/x").c_str(), O_RDONLY), ENOTDIR);
  EXPECT_FAILS(open("", O_RDONLY), ENOENT);
  EXPECT_FAILS(open((path_ + "/").c_str(), O_RDONLY), ENOTDIR);
}

TEST_F(OpenTest, PathErrors) {
  EXPECT_FAILS(open(static_cast<char*>(BadAddress()), O_RDONLY), EFAULT);
  EXPECT_FAILS(open((dir_ / std::string(256, 'n')).c_str(), O_RDONLY), ENAMETOOLONG);
  EXPECT_FAILS(open((dir_ / std::string(255, 'n')).c_str(), O_RDONLY), ENOENT);
  EXPECT_FAILS(open((std::string(4096, '/') + "tmp").c_str(), O_RDONLY), ENAMETOOLONG);
  const std::string longest = std::string(4092, '/') + "tmp";
  Fd fd(open(longest.c_str(), O_RDONLY));
  EXPECT_TRUE(fd.ok());
}

TEST_F(OpenTest, CreateExclusiveRefusesAnExistingName) {
  EXPECT_FAILS(open(path_.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
  ASSERT_OK(symlink("nowhere", (dir_ / "dangling").c_str()));
  EXPECT_FAILS(open((dir_ / "dangling").c_str(), O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
  Fd made(open((dir_ / "dangling").c_str(), O_CREAT | O_RDWR, 0600));
  EXPECT_TRUE(made.ok());
  struct stat st;
  EXPECT_OK(stat((dir_ / "nowhere").c_str(), &st));
}

TEST_F(OpenTest, CreateAppliesTheUmask) {
  const mode_t old = umask(027);
  Fd fd(open((dir_ / "new").c_str(), O_CREAT | O_WRONLY, 0777));
  umask(old);
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0750u);
  EXPECT_EQ(st.st_uid, geteuid());
}

TEST_F(OpenTest, AFileMadeReadOnlyIsStillWritableThroughItsFirstDescriptor) {
  Fd fd(open((dir_ / "ro").c_str(), O_CREAT | O_RDWR, 0400));
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(write(fd.get(), "x", 1), 1);
}

TEST_F(OpenTest, TruncateEmpties) {
  Fd fd(open(path_.c_str(), O_WRONLY | O_TRUNC));
  EXPECT_EQ(ReadFile(path_), "");
}

TEST_F(OpenTest, DirectoryRules) {
  EXPECT_FAILS(open(dir_.path().c_str(), O_RDWR), EISDIR);
  EXPECT_FAILS(open(dir_.path().c_str(), O_RDONLY | O_CREAT, 0600), EISDIR);
  EXPECT_FAILS(open(path_.c_str(), O_RDONLY | O_DIRECTORY), ENOTDIR);
  Fd d(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_TRUE(d.ok());
  EXPECT_FAILS(open((dir_ / "x/").c_str(), O_CREAT | O_RDWR, 0600), EISDIR);
}

TEST_F(OpenTest, NofollowRefusesALink) {
  ASSERT_OK(symlink("f", (dir_ / "l").c_str()));
  EXPECT_FAILS(open((dir_ / "l").c_str(), O_RDONLY | O_NOFOLLOW), ELOOP);
  Fd fd(open((dir_ / "l").c_str(), O_RDONLY));
  EXPECT_TRUE(fd.ok());
  ASSERT_OK(symlink("loop2", (dir_ / "loop1").c_str()));
  ASSERT_OK(symlink("loop1", (dir_ / "loop2").c_str()));
  EXPECT_FAILS(open((dir_ / "loop1").c_str(), O_RDONLY), ELOOP);
}

TEST_F(OpenTest, FortyLinksResolveAndFortyOneDoNot) {
  std::string target = "f";
  for (int i = 1; i <= 41; ++i) {
    const std::string name = "l" + std::to_string(i);
    ASSERT_OK(symlink(target.c_str(), (dir_ / name).c_str()));
    target = name;
  }
  Fd fd(open((dir_ / "l40").c_str(), O_RDONLY));
  EXPECT_TRUE(fd.ok());
  EXPECT_FAILS(open((dir_ / "l41").c_str(), O_RDONLY), ELOOP);
}

TEST_F(OpenTest, OpenatResolvesFromTheFolder) {
  Fd d(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  Fd f(openat(d.get(), "f", O_RDONLY));
  EXPECT_TRUE(f.ok());
  EXPECT_FAILS(openat(f.get(), "f", O_RDONLY), ENOTDIR);
  EXPECT_FAILS(openat(999, "f", O_RDONLY), EBADF);
  Fd absolute(openat(999, path_.c_str(), O_RDONLY));
  EXPECT_TRUE(absolute.ok());
}

TEST_F(OpenTest, PathDescriptorsOnlyName) {
  Fd fd(open(path_.c_str(), O_PATH));
  ASSERT_TRUE(fd.ok());
  char c;
  EXPECT_FAILS(read(fd.get(), &c, 1), EBADF);
  EXPECT_FAILS(write(fd.get(), &c, 1), EBADF);
  EXPECT_FAILS(fchmod(fd.get(), 0600), EBADF);
  EXPECT_FAILS(lseek(fd.get(), 0, SEEK_SET), EBADF);
  EXPECT_FAILS(ioctl(fd.get(), 0x5401), EBADF);
  struct stat st;
  EXPECT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(fcntl(fd.get(), F_GETFL) & O_PATH, O_PATH);
  ASSERT_OK(symlink("f", (dir_ / "l").c_str()));
  Fd link(open((dir_ / "l").c_str(), O_PATH | O_NOFOLLOW));
  ASSERT_OK(fstat(link.get(), &st));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
}

TEST_F(OpenTest, TmpfileHasNoNameUntilLinked) {
  Fd fd(open(dir_.path().c_str(), O_TMPFILE | O_RDWR, 0600));
  if (!fd.ok() && errno == EOPNOTSUPP) GTEST_SKIP() << "no O_TMPFILE here";
  ASSERT_TRUE(fd.ok());
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_nlink, 0u);
  const std::string self = "/proc/self/fd/" + std::to_string(fd.get());
  EXPECT_OK(linkat(AT_FDCWD, self.c_str(), AT_FDCWD, (dir_ / "named").c_str(), AT_SYMLINK_FOLLOW));
  EXPECT_OK(stat((dir_ / "named").c_str(), &st));
  EXPECT_FAILS(open(dir_.path().c_str(), O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

TEST_F(OpenTest, PermissionsOfAnOrdinaryUser) {
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  dir_.File("secret", "s", 0600);
  const bool ours = geteuid() != 0;
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(open(path_.c_str(), O_RDONLY) >= 0);
    if (ours) return 0;
    CHECK_CHILD(open(path_.c_str(), O_WRONLY) == -1 && errno == EACCES);
    CHECK_CHILD(open((dir_ / "secret").c_str(), O_RDONLY) == -1 && errno == EACCES);
    CHECK_CHILD(open((dir_ / "new").c_str(), O_CREAT | O_RDWR, 0600) == -1 && errno == EACCES);
    CHECK_CHILD(open(path_.c_str(), O_RDONLY | O_NOATIME) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST_F(OpenTest, CloseTwiceIsEbadf) {
  const int fd = open(path_.c_str(), O_RDONLY);
  EXPECT_OK(close(fd));
  EXPECT_FAILS(close(fd), EBADF);
  EXPECT_FAILS(close(-1), EBADF);
}

TEST_F(OpenTest, CloseRange) {
  const int first = open(path_.c_str(), O_RDONLY);
  Fd a(dup(first)), b(dup(first));
  EXPECT_OK(syscall(SYS_close_range, first, b.get(), 4 /* CLOSE_RANGE_CLOEXEC */));
  EXPECT_EQ(fcntl(a.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_OK(syscall(SYS_close_range, first, first, 0));
  EXPECT_FAILS(fcntl(first, F_GETFD), EBADF);
  EXPECT_FAILS(syscall(SYS_close_range, 9, 8, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_close_range, 900, 901, 0x80), EINVAL);
}

TEST_F(OpenTest, DupSharesTheOffset) {
  Fd a(open(path_.c_str(), O_RDONLY));
  Fd b(dup(a.get()));
  char c;
  EXPECT_EQ(read(a.get(), &c, 1), 1);
  EXPECT_EQ(read(b.get(), &c, 1), 1);
  EXPECT_EQ(c, 'a');
  EXPECT_FAILS(dup(999), EBADF);
}

TEST_F(OpenTest, Dup2AndDup3Rules) {
  Fd a(open(path_.c_str(), O_RDONLY));
  EXPECT_EQ(dup2(a.get(), a.get()), a.get());
  EXPECT_FAILS(dup3(a.get(), a.get(), 0), EINVAL);
  Fd b(dup3(a.get(), 50, O_CLOEXEC));
  EXPECT_EQ(b.get(), 50);
  EXPECT_EQ(fcntl(50, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(dup2(a.get(), 50), 50);
  EXPECT_EQ(fcntl(50, F_GETFD), 0);
  EXPECT_FAILS(dup2(a.get(), -1), EBADF);
  EXPECT_FAILS(dup2(999, 51), EBADF);
  EXPECT_FAILS(dup2(a.get(), 1 << 30), EBADF);
  EXPECT_FAILS(dup3(a.get(), 51, 0xffff), EINVAL);
}

TEST_F(OpenTest, FcntlDupfdTakesTheFirstAtOrAbove) {
  Fd a(open(path_.c_str(), O_RDONLY));
  Fd b(fcntl(a.get(), F_DUPFD, 40)), c(fcntl(a.get(), F_DUPFD_CLOEXEC, 40));
  EXPECT_EQ(b.get(), 40);
  EXPECT_EQ(c.get(), 41);
  EXPECT_EQ(fcntl(c.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_FAILS(fcntl(a.get(), F_DUPFD, -1), EINVAL);
  EXPECT_FAILS(fcntl(a.get(), 9999), EINVAL);
  EXPECT_FAILS(fcntl(999, F_GETFD), EBADF);
}

TEST_F(OpenTest, DescriptorLimitIsEmfile) {
  EXPECT_TRUE(Exited(InChild([&] {
    struct { unsigned long cur, max; } lim = {8, 64};
    CHECK_CHILD(syscall(SYS_setrlimit, 7 /* RLIMIT_NOFILE */, &lim) == 0);
    int last = 0;
    while ((last = open(path_.c_str(), O_RDONLY)) >= 0) CHECK_CHILD(last < 8);
    CHECK_CHILD(errno == EMFILE);
    CHECK_CHILD(dup(0) == -1 && errno == EMFILE);
    CHECK_CHILD(fcntl(0, F_DUPFD, 8) == -1 && errno == EINVAL);
    CHECK_CHILD(dup2(0, 8) == -1 && errno == EBADF);
    return 0;
  })));
}

TEST_F(OpenTest, StatusFlagsBelongToTheOpenFile) {
  Fd a(open(path_.c_str(), O_RDWR | O_APPEND));
  Fd b(dup(a.get()));
  EXPECT_EQ(fcntl(a.get(), F_GETFL) & ~O_LARGEFILE & ~0100000, O_RDWR | O_APPEND);
  ASSERT_OK(fcntl(a.get(), F_SETFL, O_NONBLOCK));
  EXPECT_EQ(fcntl(b.get(), F_GETFL) & (O_APPEND | O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDWR);
  ASSERT_OK(fcntl(a.get(), F_SETFD, FD_CLOEXEC));
  EXPECT_EQ(fcntl(b.get(), F_GETFD), 0);
}

TEST_F(OpenTest, PosixLocksConflictBetweenProcessesOnly) {
  Fd a(open(path_.c_str(), O_RDWR));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 0;
  lock.l_len = 2;
  ASSERT_OK(fcntl(a.get(), F_SETLK, &lock));
  EXPECT_OK(fcntl(a.get(), F_SETLK, &lock));
  const pid_t us = getpid();
  EXPECT_TRUE(Exited(InChild([&] {
    struct flock l = lock;
    CHECK_CHILD(fcntl(a.get(), F_SETLK, &l) == -1 && errno == EAGAIN);
    CHECK_CHILD(fcntl(a.get(), F_GETLK, &l) == 0 && l.l_type == F_WRLCK && l.l_pid == us);
    l = lock;
    l.l_start = 2;
    CHECK_CHILD(fcntl(a.get(), F_SETLK, &l) == 0);
    return 0;
  })));
  lock.l_type = 77;
  EXPECT_FAILS(fcntl(a.get(), F_SETLK, &lock), EINVAL);
  EXPECT_FAILS(fcntl(a.get(), F_SETLK, BadAddress()), EFAULT);
}

TEST_F(OpenTest, FlockBelongsToTheOpenFile) {
  Fd a(open(path_.c_str(), O_RDWR)), b(open(path_.c_str(), O_RDWR)), c(dup(a.get()));
  ASSERT_OK(flock(a.get(), LOCK_EX));
  EXPECT_FAILS(flock(b.get(), LOCK_EX | LOCK_NB), EAGAIN);
  EXPECT_OK(flock(c.get(), LOCK_EX | LOCK_NB));
  EXPECT_OK(flock(c.get(), LOCK_UN));
  EXPECT_OK(flock(b.get(), LOCK_SH | LOCK_NB));
  EXPECT_FAILS(flock(a.get(), 77), EINVAL);
  EXPECT_FAILS(flock(999, LOCK_SH), EBADF);
}

TEST_F(OpenTest, OfdLocksConflictBetweenOpenFiles) {
  Fd a(open(path_.c_str(), O_RDWR)), b(open(path_.c_str(), O_RDWR));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  ASSERT_OK(fcntl(a.get(), F_OFD_SETLK, &lock));
  EXPECT_FAILS(fcntl(b.get(), F_OFD_SETLK, &lock), EAGAIN);
  a.Reset();
  EXPECT_OK(fcntl(b.get(), F_OFD_SETLK, &lock));
  lock.l_pid = 5;
  EXPECT_FAILS(fcntl(b.get(), F_OFD_SETLK, &lock), EINVAL);
}

TEST_F(OpenTest, Openat2ResolveFlags) {
  struct { uint64_t flags, mode, resolve; } how = {O_RDONLY, 0, 0x08 /* RESOLVE_BENEATH */};
  Fd d(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  Fd ok(static_cast<int>(syscall(SYS_openat2, d.get(), "f", &how, sizeof(how))));
  EXPECT_TRUE(ok.ok());
  EXPECT_FAILS(syscall(SYS_openat2, d.get(), "../f", &how, sizeof(how)), EXDEV);
  EXPECT_FAILS(syscall(SYS_openat2, d.get(), "/tmp", &how, sizeof(how)), EXDEV);
  ASSERT_OK(symlink("f", (dir_ / "l").c_str()));
  how.resolve = 0x04;  // RESOLVE_NO_SYMLINKS
  EXPECT_FAILS(syscall(SYS_openat2, d.get(), "l", &how, sizeof(how)), ELOOP);
  how.resolve = 0x1000;
  EXPECT_FAILS(syscall(SYS_openat2, d.get(), "f", &how, sizeof(how)), EINVAL);
  how.resolve = 0;
  how.mode = 0600;
  EXPECT_FAILS(syscall(SYS_openat2, d.get(), "f", &how, sizeof(how)), EINVAL);
  EXPECT_FAILS(syscall(SYS_openat2, d.get(), "f", &how, 8), EINVAL);
}

TEST_F(OpenTest, Openat2InRootStartsAtTheDirectory) {
  struct { uint64_t flags, mode, resolve; } how = {O_RDONLY, 0, 0x10 /* RESOLVE_IN_ROOT */};
  Fd d(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  const auto try_open = [&](const char* path) {
    return Fd(static_cast<int>(syscall(SYS_openat2, d.get(), path, &how, sizeof(how))));
  };
  for (const char* path : {"f", "/f", "../f", "/../../f"}) EXPECT_TRUE(try_open(path).ok()) << path;
  EXPECT_FAILS(syscall(SYS_openat2, d.get(), "/proc/version", &how, sizeof(how)), ENOENT);
  ASSERT_OK(symlink("/f", (dir_ / "l").c_str()));
  EXPECT_TRUE(try_open("l").ok());
  how = {O_PATH | O_RDWR, 0, 0};
  EXPECT_FAILS(syscall(SYS_openat2, d.get(), "f", &how, sizeof(how)), EINVAL);
  how = {O_RDWR | O_CREAT, 0600, 0x20 /* RESOLVE_CACHED */};
  EXPECT_FAILS(syscall(SYS_openat2, d.get(), "f", &how, sizeof(how)), EAGAIN);
}

TEST_F(OpenTest, DescriptorsAreCompared) {
  constexpr int kDupfdQuery = 1027, kCreatedQuery = 1028;
  Fd a(open(path_.c_str(), O_RDONLY)), b(open(path_.c_str(), O_RDONLY)), c(dup(a.get()));
  EXPECT_EQ(fcntl(a.get(), kDupfdQuery, c.get()), 1);
  EXPECT_EQ(fcntl(a.get(), kDupfdQuery, b.get()), 0);
  EXPECT_FAILS(fcntl(a.get(), kDupfdQuery, -1), EBADF);
  EXPECT_EQ(fcntl(a.get(), kCreatedQuery, 0), 0);
  Fd fresh(open((dir_ / "fresh").c_str(), O_RDWR | O_CREAT, 0600));
  EXPECT_EQ(fcntl(fresh.get(), kCreatedQuery, 0), 1);
  Fd again(open((dir_ / "fresh").c_str(), O_RDWR | O_CREAT, 0600));
  EXPECT_EQ(fcntl(again.get(), kCreatedQuery, 0), 0);
}

}  // namespace
}  // namespace ringwall::test
