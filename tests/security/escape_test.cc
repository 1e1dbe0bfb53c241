// Ways out of a root folder by a path: "..", links, mounts, magic links of /proc, descriptors that were
// passed in, and all of them while somebody moves folders about.
#include <grp.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

constexpr uid_t kUser = 61236;
constexpr long kFchmodat2 = 452;  // newer than the headers
constexpr char kMarker[] = "outside";

bool BecomeUser() {
  return geteuid() != 0 || (setgroups(0, nullptr) == 0 && setgid(kUser) == 0 && setuid(kUser) == 0);
}

// outside (a marker) and jail/, in which the hostile program is; all may write there.
class Jail {
 public:
  Jail() {
    chmod(dir_.path().c_str(), 0777);
    dir_.File(kMarker, "marker", 0666);
    mkdir((dir_ / "jail").c_str(), 0777);
    chmod((dir_ / "jail").c_str(), 0777);
  }
  std::string path() const { return dir_ / "jail"; }
  std::string outside() const { return dir_ / kMarker; }
  bool unharmed() const { return ReadFile(outside()) == "marker"; }

 private:
  TempDir dir_;
};

// Whether any of these names is the marker: opened, or made, or changed by its name.
bool Reaches(int dir, const std::string& name) {
  Fd fd(openat(dir, name.c_str(), O_RDONLY | O_NONBLOCK));
  char got[16] = {};
  if (fd.get() >= 0 && read(fd.get(), got, sizeof(got) - 1) > 0 && strcmp(got, "marker") == 0) return true;
  struct stat st;
  return fstatat(dir, name.c_str(), &st, 0) == 0 && st.st_size == 6 && S_ISREG(st.st_mode);
}

std::vector<std::string> WaysUp() {
  std::vector<std::string> ways;
  std::string up;
  for (int i = 0; i < 12; i++) {
    ways.push_back(up + kMarker);
    ways.push_back("/" + up + kMarker);
    ways.push_back("proc/self/root/" + up + kMarker);
    ways.push_back("proc/self/cwd/" + up + kMarker);
    ways.push_back("proc/1/root/" + up + kMarker);
    ways.push_back("up/" + up + kMarker);
    ways.push_back("root/" + up + kMarker);
    up += "../";
  }
  return ways;
}

TEST(EscapeTest, FromAChrootByAnyName) {
  if (geteuid() != 0) GTEST_SKIP() << "takes root to lock somebody in";
  Jail jail;
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    CHECK_CHILD(unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    CHECK_CHILD(chdir(jail.path().c_str()) == 0 && mkdir("proc", 0755) == 0);
    CHECK_CHILD(mount("proc", "proc", "proc", 0, nullptr) == 0 || !Inside());
    CHECK_CHILD(chroot(".") == 0 && chdir("/") == 0 && BecomeUser());
    CHECK_CHILD(symlink("..", "up") == 0 && symlink("/", "root") == 0);
    for (const std::string& way : WaysUp()) {
      if (Reaches(AT_FDCWD, way)) return kReached;
    }
    for (const char* dir : {"/", ".", "proc", "proc/self", "proc/self/task"}) {
      Fd fd(open(dir, O_PATH | O_DIRECTORY));
      if (fd.get() < 0) continue;
      for (const std::string& way : WaysUp()) {
        if (Reaches(fd.get(), way)) return kReached;
      }
      fchdir(fd.get());
      if (Reaches(AT_FDCWD, std::string("../") + kMarker)) return kReached;
      CHECK_CHILD(chdir("/") == 0);
    }
    CHECK_CHILD(chroot(".") < 0 && errno == EPERM);
    CHECK_CHILD(mount("/", "proc", nullptr, MS_BIND, nullptr) < 0 && errno == EPERM);
    return kFailed;
  })));
  EXPECT_TRUE(jail.unharmed());
}

TEST(EscapeTest, FromAPivotedRootEvenAsRoot) {
  if (geteuid() != 0) GTEST_SKIP() << "takes root";
  Jail jail;
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    CHECK_CHILD(unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    const std::string path = jail.path();
    CHECK_CHILD(mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(chdir(path.c_str()) == 0);
    CHECK_CHILD(mkdir("old", 0755) == 0 && mkdir("sub", 0755) == 0);
    CHECK_CHILD(syscall(SYS_pivot_root, ".", "old") == 0 && chdir("/") == 0);
    CHECK_CHILD(umount2("/old", MNT_DETACH) == 0);
    CHECK_CHILD(symlink("..", "up") == 0 && symlink("/", "root") == 0);
    for (const std::string& way : WaysUp()) {
      if (Reaches(AT_FDCWD, way)) return kReached;
    }
    // The classic: a root below the working directory, then upwards.
    CHECK_CHILD(chroot("sub") == 0);
    for (int i = 0; i < 20; i++) CHECK_CHILD(chdir("..") == 0);
    if (Reaches(AT_FDCWD, kMarker)) return kReached;
    CHECK_CHILD(chroot(".") == 0);
    for (const std::string& way : WaysUp()) {
      if (Reaches(AT_FDCWD, way)) return kReached;
    }
    // By binds of "..".
    mkdir("/b", 0755);
    for (const char* from : {"..", "/..", "../..", "/b/../.."}) {
      if (mount(from, "/b", nullptr, MS_BIND | MS_REC, nullptr) != 0) continue;
      if (Reaches(AT_FDCWD, std::string("/b/") + kMarker) || Reaches(AT_FDCWD, std::string("/b/../") + kMarker)) {
        return kReached;
      }
      umount2("/b", MNT_DETACH);
    }
    return kFailed;
  })));
  EXPECT_TRUE(jail.unharmed());
}

// A descriptor from outside is what Linux says it is: a way to what it names, not to what lies above
// when the caller says that nothing above may be reached.
TEST(EscapeTest, ByPassedDescriptorsOnlyAsFarAsTheyGo) {
  if (geteuid() != 0) GTEST_SKIP() << "takes root to lock somebody in";
  Jail jail;
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    Fd given(open(jail.path().c_str(), O_PATH | O_DIRECTORY));
    CHECK_CHILD(mkdir((jail.path() + "/inner").c_str(), 0755) == 0);
    CHECK_CHILD(chroot((jail.path() + "/inner").c_str()) == 0 && chdir("/") == 0 && BecomeUser());
    for (const char* name : {"../outside", "inner/../../outside", "./.././outside"}) {
      for (uint64_t resolve : {RESOLVE_BENEATH, RESOLVE_IN_ROOT}) {
        open_how how = {};
        how.flags = O_RDONLY;
        how.resolve = resolve;
        const long fd = syscall(SYS_openat2, given.get(), name, &how, sizeof(how));
        if (fd >= 0) return kReached;
        CHECK_CHILD(errno == (resolve == RESOLVE_BENEATH ? EXDEV : ENOENT));
      }
    }
    return kFailed;
  })));
  EXPECT_TRUE(jail.unharmed());
}

// Somebody outside moves the folder that the walk is in to somewhere else, all the time.
TEST(EscapeTest, ByFoldersThatMoveDuringTheWalk) {
  Jail jail;
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    CHECK_CHILD(chdir(jail.path().c_str()) == 0);
    CHECK_CHILD(mkdir("root", 0755) == 0 && mkdir("root/a", 0755) == 0 && mkdir("root/a/b", 0755) == 0);
    CHECK_CHILD(mkdir("root/a/b/c", 0755) == 0 && symlink("../../../outside", "root/a/b/c/l") == 0);
    Fd root(open("root", O_PATH | O_DIRECTORY));
    std::atomic<bool> stop{false};
    std::thread mover([&] {
      while (!stop) {
        rename("root/a/b", "b");
        rename("b", "root/a/b");
      }
    });
    int result = kFailed;
    const int64_t end = NowMs() + 700;
    while (result == kFailed && NowMs() < end) {
      for (const char* name : {"a/b/c/../../../../outside", "a/b/../../../outside", "a/b/c/l",
                               "a/b/c/../../../../../outside", "a/b/c/../../outside"}) {
        for (uint64_t resolve : {RESOLVE_BENEATH, RESOLVE_IN_ROOT}) {
          open_how how = {};
          how.flags = O_RDONLY;
          how.resolve = resolve;
          const long fd = syscall(SYS_openat2, root.get(), name, &how, sizeof(how));
          if (fd < 0) continue;
          char got[16] = {};
          if (read(static_cast<int>(fd), got, 15) > 0 && strcmp(got, "marker") == 0) result = kReached;
          close(static_cast<int>(fd));
        }
      }
    }
    stop = true;
    mover.join();
    return result;
  })));
  EXPECT_TRUE(jail.unharmed());
  ExpectWell();
}

TEST(EscapeTest, ByLinksThatProtectedFoldersForbid) {
  if (geteuid() != 0) GTEST_SKIP() << "takes two users";
  TempDir dir;
  chmod(dir.path().c_str(), 0755);
  const std::string secret = dir.File("secret", "marker", 0600);
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    CHECK_CHILD(BecomeUser());
    const std::string mine = "/tmp/ringwall-link-" + std::to_string(getpid());
    if (link(secret.c_str(), mine.c_str()) == 0) {
      // Linux allows it when protected_hardlinks is off; the mode still decides.
      const bool reached = Reaches(AT_FDCWD, mine) && open(mine.c_str(), O_RDONLY) >= 0;
      unlink(mine.c_str());
      return reached ? kReached : kFailed;
    }
    Fd path(open(secret.c_str(), O_PATH));
    CHECK_CHILD(path.get() >= 0);
    const std::string magic = "/proc/self/fd/" + std::to_string(path.get());
    if (open(magic.c_str(), O_RDONLY) >= 0 || open(magic.c_str(), O_WRONLY) >= 0) return kReached;
    if (truncate(magic.c_str(), 0) == 0 || chmod(magic.c_str(), 0777) == 0) return kReached;
    if (linkat(path.get(), "", AT_FDCWD, mine.c_str(), AT_EMPTY_PATH) == 0) return kReached;
    if (syscall(kFchmodat2, path.get(), "", 0777, AT_EMPTY_PATH) == 0) return kReached;
    if (fchownat(path.get(), "", kUser, kUser, AT_EMPTY_PATH) == 0) return kReached;
    char byte;
    if (read(path.get(), &byte, 1) >= 0 || errno != EBADF) return kReached;
    return kFailed;
  })));
  EXPECT_EQ(ReadFile(secret), "marker");
}

// What was opened to read stays so, however it is named again.
TEST(EscapeTest, ReadOnlyDescriptorsStayReadOnly) {
  if (geteuid() != 0) GTEST_SKIP() << "takes two users";
  TempDir dir;
  chmod(dir.path().c_str(), 0755);
  const std::string path = dir.File("f", "marker", 0644);
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    Fd fd(open(path.c_str(), O_RDONLY));
    CHECK_CHILD(BecomeUser());
    const std::string magic = "/proc/self/fd/" + std::to_string(fd.get());
    if (open(magic.c_str(), O_RDWR) >= 0 || open(magic.c_str(), O_WRONLY | O_TRUNC) >= 0) return kReached;
    if (mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0) != MAP_FAILED) return kReached;
    void* const m = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0);
    CHECK_CHILD(m != MAP_FAILED);
    if (mprotect(m, 4096, PROT_READ | PROT_WRITE) == 0) return kReached;
    // A tracer may write there: into a copy, or not at all.
    Fd mem(open("/proc/self/mem", O_RDWR));
    if (mem.get() >= 0) static_cast<void>(pwrite(mem.get(), "harmed", 6, reinterpret_cast<off_t>(m)));
    if (ftruncate(fd.get(), 0) == 0 || fallocate(fd.get(), 0, 0, 10) == 0) return kReached;
    return kFailed;
  })));
  EXPECT_EQ(ReadFile(path), "marker");
}

}  // namespace
}  // namespace ringwall::test
