// Names: getcwd, chdir, mkdir, rmdir, unlink, rename, link, symlink, readlink, mknod, getdents64.
#include <dirent.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <set>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

class DirectoryTest : public ::testing::Test {
 protected:
  std::string P(const std::string& name) const { return dir_ / name; }
  bool Exists(const std::string& name) const {
    struct stat st;
    return lstat(P(name).c_str(), &st) == 0;
  }
  int MakeDir(const std::string& name, mode_t mode = 0755) { return mkdir(P(name).c_str(), mode); }
  TempDir dir_;
};

class CwdTest : public DirectoryTest {
 protected:
  void SetUp() override { old_.Reset(open(".", O_PATH | O_DIRECTORY)); }
  void TearDown() override { EXPECT_OK(fchdir(old_.get())); }
  Fd old_;
};

TEST_F(CwdTest, ChdirAndGetcwdAgree) {
  ASSERT_OK(MakeDir("a"));
  ASSERT_OK(chdir(P("a").c_str()));
  char buf[4096];
  ASSERT_NE(getcwd(buf, sizeof(buf)), nullptr);
  EXPECT_EQ(buf, P("a"));
  EXPECT_EQ(syscall(SYS_getcwd, buf, sizeof(buf)), static_cast<long>(P("a").size() + 1));
  ASSERT_OK(chdir(".."));
  ASSERT_NE(getcwd(buf, sizeof(buf)), nullptr);
  EXPECT_EQ(buf, dir_.path());
}

TEST_F(CwdTest, GetcwdErrors) {
  ASSERT_OK(chdir(dir_.path().c_str()));
  char buf[4096];
  EXPECT_FAILS(syscall(SYS_getcwd, buf, 3), ERANGE);
  EXPECT_FAILS(syscall(SYS_getcwd, buf, dir_.path().size()), ERANGE);
  EXPECT_FAILS(syscall(SYS_getcwd, BadAddress(), 4096), EFAULT);
  ASSERT_OK(MakeDir("gone"));
  ASSERT_OK(chdir("gone"));
  ASSERT_OK(rmdir(P("gone").c_str()));
  EXPECT_FAILS(syscall(SYS_getcwd, buf, sizeof(buf)), ENOENT);
  EXPECT_FAILS(open("x", O_CREAT | O_RDWR, 0600), ENOENT);
  EXPECT_FAILS(mkdir("x", 0700), ENOENT);
}

TEST_F(CwdTest, ChdirErrors) {
  dir_.File("f");
  EXPECT_FAILS(chdir(P("f").c_str()), ENOTDIR);
  EXPECT_FAILS(chdir(P("none").c_str()), ENOENT);
  EXPECT_FAILS(chdir(static_cast<char*>(BadAddress())), EFAULT);
  EXPECT_FAILS(fchdir(-1), EBADF);
  Fd f(open(P("f").c_str(), O_RDONLY));
  EXPECT_FAILS(fchdir(f.get()), ENOTDIR);
}

TEST_F(CwdTest, ChildInheritsItAndKeepsItsOwn) {
  ASSERT_OK(chdir(dir_.path().c_str()));
  dir_.File("here");
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(access("here", F_OK) == 0);
    return chdir("/");
  })));
  EXPECT_OK(access("here", F_OK));
}

TEST_F(DirectoryTest, MkdirAppliesUmaskAndRefusesExisting) {
  const mode_t old = umask(022);
  ASSERT_OK(MakeDir("d", 0777));
  umask(old);
  struct stat st;
  ASSERT_OK(stat(P("d").c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFDIR | 0755u);
  EXPECT_FAILS(MakeDir("d"), EEXIST);
  EXPECT_FAILS(MakeDir("none/d"), ENOENT);
  dir_.File("f");
  EXPECT_FAILS(MakeDir("f"), EEXIST);
  EXPECT_FAILS(MakeDir("f/d"), ENOTDIR);
  EXPECT_OK(MakeDir("slash/"));
  EXPECT_FAILS(mkdir("/", 0755), EEXIST);
}

TEST_F(DirectoryTest, RmdirRules) {
  ASSERT_OK(MakeDir("d"));
  dir_.File("d/f");
  EXPECT_FAILS(rmdir(P("d").c_str()), ENOTEMPTY);
  EXPECT_FAILS(rmdir(P("d/f").c_str()), ENOTDIR);
  EXPECT_FAILS(rmdir(P("d/.").c_str()), EINVAL);
  EXPECT_FAILS(rmdir(P("d/..").c_str()), ENOTEMPTY);
  EXPECT_FAILS(rmdir(P("none").c_str()), ENOENT);
  ASSERT_OK(unlink(P("d/f").c_str()));
  EXPECT_OK(rmdir(P("d").c_str()));
  EXPECT_FALSE(Exists("d"));
}

TEST_F(DirectoryTest, UnlinkRules) {
  const std::string f = dir_.File("f", "alive");
  Fd fd(open(f.c_str(), O_RDONLY));
  ASSERT_OK(MakeDir("d"));
  EXPECT_FAILS(unlink(P("d").c_str()), EISDIR);
  EXPECT_FAILS(unlink(P("none").c_str()), ENOENT);
  EXPECT_FAILS(unlink((f + "/").c_str()), ENOTDIR);
  EXPECT_OK(unlink(f.c_str()));
  char b[5];
  EXPECT_EQ(read(fd.get(), b, 5), 5);
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_nlink, 0u);
  EXPECT_FAILS(unlinkat(AT_FDCWD, P("d").c_str(), 0x4), EINVAL);
  EXPECT_OK(unlinkat(AT_FDCWD, P("d").c_str(), AT_REMOVEDIR));
}

TEST_F(DirectoryTest, LinkSharesTheInode) {
  dir_.File("f", "one");
  ASSERT_OK(link(P("f").c_str(), P("g").c_str()));
  struct stat a, b;
  ASSERT_OK(stat(P("f").c_str(), &a));
  ASSERT_OK(stat(P("g").c_str(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(a.st_nlink, 2u);
  EXPECT_FAILS(link(P("f").c_str(), P("g").c_str()), EEXIST);
  EXPECT_FAILS(link(P("none").c_str(), P("h").c_str()), ENOENT);
  ASSERT_OK(MakeDir("d"));
  EXPECT_FAILS(link(P("d").c_str(), P("e").c_str()), EPERM);
  dir_.File("g", "two");
  EXPECT_EQ(ReadFile(P("f")), "two");
  ASSERT_OK(unlink(P("f").c_str()));
  ASSERT_OK(stat(P("g").c_str(), &b));
  EXPECT_EQ(b.st_nlink, 1u);
}

TEST_F(DirectoryTest, LinkatFollowsOnlyWhenAsked) {
  dir_.File("f");
  ASSERT_OK(symlink("f", P("l").c_str()));
  ASSERT_OK(linkat(AT_FDCWD, P("l").c_str(), AT_FDCWD, P("hard").c_str(), 0));
  struct stat st;
  ASSERT_OK(lstat(P("hard").c_str(), &st));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  ASSERT_OK(linkat(AT_FDCWD, P("l").c_str(), AT_FDCWD, P("hard2").c_str(), AT_SYMLINK_FOLLOW));
  ASSERT_OK(lstat(P("hard2").c_str(), &st));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  EXPECT_FAILS(linkat(AT_FDCWD, P("l").c_str(), AT_FDCWD, P("x").c_str(), 1), EINVAL);
}

TEST_F(DirectoryTest, SymlinkAndReadlink) {
  ASSERT_OK(symlink("some/where", P("l").c_str()));
  char b[64];
  EXPECT_EQ(readlink(P("l").c_str(), b, sizeof(b)), 10);
  EXPECT_EQ(std::string(b, 10), "some/where");
  EXPECT_EQ(readlink(P("l").c_str(), b, 4), 4);
  EXPECT_FAILS(syscall(SYS_readlink, P("l").c_str(), b, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_readlink, P("l").c_str(), b, -1), EINVAL);
  EXPECT_FAILS(syscall(SYS_readlink, P("l").c_str(), BadAddress(), 64), EFAULT);
  EXPECT_FAILS(readlink(dir_.File("f").c_str(), b, 64), EINVAL);
  EXPECT_FAILS(readlink(P("none").c_str(), b, 64), ENOENT);
  EXPECT_FAILS(symlink("x", P("l").c_str()), EEXIST);
  EXPECT_FAILS(symlink("", P("m").c_str()), ENOENT);
  Fd d(open(dir_.path().c_str(), O_RDONLY));
  EXPECT_EQ(readlinkat(d.get(), "l", b, 64), 10);
  Fd l(open(P("l").c_str(), O_PATH | O_NOFOLLOW));
  EXPECT_EQ(readlinkat(l.get(), "", b, 64), 10);
}

TEST_F(DirectoryTest, LinkedFoldersResolveAndDotDotIsPhysical) {
  ASSERT_OK(MakeDir("a"));
  ASSERT_OK(MakeDir("a/b"));
  dir_.File("a/f", "x");
  ASSERT_OK(symlink("a/b", P("l").c_str()));
  EXPECT_EQ(ReadFile(P("l/../f")), "x");
}

TEST_F(DirectoryTest, RenameReplacesFilesAndEmptyFolders) {
  dir_.File("f", "new");
  dir_.File("g", "old");
  ASSERT_OK(rename(P("f").c_str(), P("g").c_str()));
  EXPECT_EQ(ReadFile(P("g")), "new");
  EXPECT_FALSE(Exists("f"));
  ASSERT_OK(MakeDir("d"));
  ASSERT_OK(MakeDir("e"));
  dir_.File("d/x");
  ASSERT_OK(rename(P("d").c_str(), P("e").c_str()));
  EXPECT_TRUE(Exists("e/x"));
  ASSERT_OK(MakeDir("d"));
  EXPECT_FAILS(rename(P("d").c_str(), P("e").c_str()), ENOTEMPTY);
}

TEST_F(DirectoryTest, RenameErrors) {
  dir_.File("f");
  ASSERT_OK(MakeDir("d"));
  EXPECT_FAILS(rename(P("f").c_str(), P("d").c_str()), EISDIR);
  EXPECT_FAILS(rename(P("d").c_str(), P("f").c_str()), ENOTDIR);
  EXPECT_FAILS(rename(P("d").c_str(), P("d/sub").c_str()), EINVAL);
  EXPECT_FAILS(rename(P("none").c_str(), P("x").c_str()), ENOENT);
  EXPECT_FAILS(rename(P("f").c_str(), P("none/x").c_str()), ENOENT);
  EXPECT_FAILS(rename(P("d/.").c_str(), P("x").c_str()), EBUSY);
  ASSERT_OK(MakeDir("d/e"));
  EXPECT_FAILS(rename(P("d/e").c_str(), P("d").c_str()), ENOTEMPTY);
  EXPECT_FAILS(rename(P("f").c_str(), "/proc/x"), EXDEV);
}

TEST_F(DirectoryTest, RenameOntoAHardLinkOfItselfDoesNothing) {
  dir_.File("f", "x");
  ASSERT_OK(link(P("f").c_str(), P("g").c_str()));
  EXPECT_OK(rename(P("f").c_str(), P("g").c_str()));
  EXPECT_TRUE(Exists("f"));
  EXPECT_TRUE(Exists("g"));
}

TEST_F(DirectoryTest, Renameat2Flags) {
  dir_.File("f", "F");
  dir_.File("g", "G");
  EXPECT_FAILS(renameat2(AT_FDCWD, P("f").c_str(), AT_FDCWD, P("g").c_str(), RENAME_NOREPLACE),
               EEXIST);
  ASSERT_OK(renameat2(AT_FDCWD, P("f").c_str(), AT_FDCWD, P("g").c_str(), RENAME_EXCHANGE));
  EXPECT_EQ(ReadFile(P("f")), "G");
  EXPECT_EQ(ReadFile(P("g")), "F");
  EXPECT_FAILS(renameat2(AT_FDCWD, P("f").c_str(), AT_FDCWD, P("no").c_str(), RENAME_EXCHANGE),
               ENOENT);
  EXPECT_FAILS(renameat2(AT_FDCWD, P("f").c_str(), AT_FDCWD, P("g").c_str(),
                         RENAME_EXCHANGE | RENAME_NOREPLACE),
               EINVAL);
  EXPECT_FAILS(renameat2(AT_FDCWD, P("f").c_str(), AT_FDCWD, P("g").c_str(), 0x100), EINVAL);
}

TEST_F(DirectoryTest, StickyFolderProtectsOthersFiles) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_OK(chmod(dir_.path().c_str(), 01777));
  dir_.File("f");
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(unlink(P("f").c_str()) == -1 && errno == EPERM);
    CHECK_CHILD(rename(P("f").c_str(), P("g").c_str()) == -1 && errno == EPERM);
    CHECK_CHILD(close(open(P("mine").c_str(), O_CREAT | O_RDWR, 0600)) == 0);
    CHECK_CHILD(unlink(P("mine").c_str()) == 0);
    return 0;
  })));
}

TEST_F(DirectoryTest, SetgidFolderHandsItsGroupDown) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_OK(chown(dir_.path().c_str(), -1, 555));
  ASSERT_OK(chmod(dir_.path().c_str(), 02755));
  struct stat st;
  ASSERT_OK(stat(dir_.File("f").c_str(), &st));
  EXPECT_EQ(st.st_gid, 555u);
  ASSERT_OK(MakeDir("d"));
  ASSERT_OK(stat(P("d").c_str(), &st));
  EXPECT_EQ(st.st_gid, 555u);
  EXPECT_EQ(st.st_mode & S_ISGID, static_cast<unsigned>(S_ISGID));
}

TEST_F(DirectoryTest, MknodMakesFifosAndFiles) {
  ASSERT_OK(mknod(P("fifo").c_str(), S_IFIFO | 0600, 0));
  ASSERT_OK(mknod(P("file").c_str(), S_IFREG | 0600, 0));
  struct stat st;
  ASSERT_OK(stat(P("fifo").c_str(), &st));
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
  EXPECT_FAILS(mknod(P("fifo").c_str(), S_IFIFO | 0600, 0), EEXIST);
  EXPECT_FAILS(mknod(P("bad").c_str(), S_IFDIR | 0600, 0), EPERM);
  EXPECT_FAILS(mknod(P("bad").c_str(), 0170000, 0), EINVAL);
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(mknod("/tmp/never", S_IFCHR | 0600, makedev(1, 3)) == -1 && errno == EPERM);
    return 0;
  })));
}

std::multiset<std::string> List(const std::string& path) {
  std::multiset<std::string> names;
  DIR* d = opendir(path.c_str());
  if (d == nullptr) return names;
  while (dirent* e = readdir(d)) names.insert(e->d_name);
  closedir(d);
  return names;
}

TEST_F(DirectoryTest, ListingHasEachNameOnce) {
  std::multiset<std::string> want = {".", ".."};
  for (int i = 0; i < 500; ++i) {
    const std::string name = "file-with-a-name-" + std::to_string(i);
    dir_.File(name);
    want.insert(name);
  }
  EXPECT_EQ(List(dir_.path()), want);
}

TEST_F(DirectoryTest, ListingWhileRemovingMissesNothingThatStays) {
  for (int i = 0; i < 300; ++i) dir_.File("n" + std::to_string(i));
  DIR* d = opendir(dir_.path().c_str());
  int removed = 0;
  while (dirent* e = readdir(d)) {
    if (e->d_name[0] == 'n') {
      EXPECT_OK(unlinkat(dirfd(d), e->d_name, 0));
      ++removed;
    }
  }
  closedir(d);
  EXPECT_EQ(removed, 300);
}

TEST_F(DirectoryTest, SeekdirReturnsToAPlace) {
  for (int i = 0; i < 20; ++i) dir_.File("n" + std::to_string(i));
  DIR* d = opendir(dir_.path().c_str());
  for (int i = 0; i < 7; ++i) ASSERT_NE(readdir(d), nullptr);
  const long place = telldir(d);
  std::vector<std::string> once, again;
  while (dirent* e = readdir(d)) once.push_back(e->d_name);
  seekdir(d, place);
  while (dirent* e = readdir(d)) again.push_back(e->d_name);
  EXPECT_EQ(once, again);
  EXPECT_EQ(once.size(), 15u);
  rewinddir(d);
  int n = 0;
  while (readdir(d) != nullptr) ++n;
  EXPECT_EQ(n, 22);
  closedir(d);
}

TEST_F(DirectoryTest, EntriesCarryTypeAndInode) {
  dir_.File("f");
  ASSERT_OK(MakeDir("d"));
  ASSERT_OK(symlink("f", P("l").c_str()));
  DIR* d = opendir(dir_.path().c_str());
  while (dirent* e = readdir(d)) {
    struct stat st;
    ASSERT_OK(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW));
    if (std::string(e->d_name) == "..") continue;
    EXPECT_EQ(e->d_ino, st.st_ino) << e->d_name;
    EXPECT_EQ(e->d_type, IFTODT(st.st_mode)) << e->d_name;
  }
  closedir(d);
}

TEST_F(DirectoryTest, GetdentsErrors) {
  char b[1024];
  Fd f(open(dir_.File("f").c_str(), O_RDONLY)), d(open(dir_.path().c_str(), O_RDONLY));
  EXPECT_FAILS(syscall(SYS_getdents64, f.get(), b, sizeof(b)), ENOTDIR);
  EXPECT_FAILS(syscall(SYS_getdents64, -1, b, sizeof(b)), EBADF);
  EXPECT_FAILS(syscall(SYS_getdents64, d.get(), b, 3), EINVAL);
  EXPECT_FAILS(syscall(SYS_getdents64, d.get(), BadAddress(), sizeof(b)), EFAULT);
  EXPECT_GT(syscall(SYS_getdents64, d.get(), b, sizeof(b)), 0);
  EXPECT_EQ(syscall(SYS_getdents64, d.get(), b, sizeof(b)), 0);
}

TEST_F(DirectoryTest, RootHoldsItself) {
  struct stat a, b;
  ASSERT_OK(stat("/", &a));
  ASSERT_OK(stat("/..", &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  const auto names = List("/");
  EXPECT_TRUE(names.count("proc") && names.count("dev") && names.count("tmp"));
}

}  // namespace
}  // namespace ringwall::test
