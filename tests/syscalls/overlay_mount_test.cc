// overlayfs as a guest mounts it, in a child with a user and a mount namespace of its own.
#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <set>

#include "tests/util/namespace_util.h"
#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

bool Put(const std::string& path, const std::string& text) { return Write(path, text, O_CREAT); }

// Runs body in a tmpfs with the directories lower, lower2, upper, work and merged.
template <typename F>
int InLayers(F body) {
  return InTmpfs("", [&] {
    for (const char* name : {"lower", "lower2", "upper", "work", "merged", "lower/d"}) {
      CHECK_CHILD(mkdir(name, 0755) == 0);
    }
    CHECK_CHILD(Put("lower/a", "lower a") && Put("lower/b", "lower b") && Put("lower/d/x", "x"));
    CHECK_CHILD(Put("lower2/b", "lower2 b") && Put("lower2/c", "lower2 c"));
    return body();
  });
}

constexpr char kOptions[] = "lowerdir=lower,upperdir=upper,workdir=work,userxattr";

int Mount(const char* options) { return mount("overlay", "merged", "overlay", 0, options); }

std::set<std::string> List(const char* path) {
  std::set<std::string> names;
  DIR* dir = opendir(path);
  CHECK_CHILD(dir != nullptr);
  while (const dirent* e = readdir(dir)) {
    if (e->d_name[0] != '.') names.insert(e->d_name);
  }
  closedir(dir);
  return names;
}

TEST(OverlayMountTest, ShowsTheLowerAndWritesToTheUpper) {
  EXPECT_TRUE(Exited(InLayers([] {
    CHECK_CHILD(Mount(kOptions) == 0);
    CHECK_CHILD(ReadFile("merged/a") == "lower a");
    CHECK_CHILD(Put("merged/a", "CHANGE"));
    CHECK_CHILD(ReadFile("merged/a") == "CHANGEa");
    CHECK_CHILD(ReadFile("lower/a") == "lower a");
    CHECK_CHILD(ReadFile("upper/a") == "CHANGEa");
    CHECK_CHILD(Put("merged/new", "new") && ReadFile("upper/new") == "new");
    struct statfs fs;
    CHECK_CHILD(statfs("merged", &fs) == 0 && fs.f_type == 0x794c7630);
    const std::string mounts = ReadFile("/proc/self/mounts");
    CHECK_CHILD(mounts.find("/merged overlay rw,") != std::string::npos);
    CHECK_CHILD(mounts.find("lowerdir=lower,upperdir=upper,workdir=work") != std::string::npos);
    return 0;
  })));
}

TEST(OverlayMountTest, RemovedNamesAreWhiteouts) {
  EXPECT_TRUE(Exited(InLayers([] {
    CHECK_CHILD(Mount(kOptions) == 0);
    CHECK_CHILD(unlink("merged/a") == 0 && unlink("merged/b") == 0);
    CHECK_CHILD(access("merged/a", F_OK) == -1 && errno == ENOENT);
    struct stat st;
    CHECK_CHILD(stat("upper/b", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0);
    CHECK_CHILD(access("lower/a", F_OK) == 0);
    CHECK_CHILD((List("merged") == std::set<std::string>{"d"}));
    CHECK_CHILD(Put("merged/a", "again") && ReadFile("upper/a") == "again");
    CHECK_CHILD(mknod("merged/w", S_IFCHR | 0600, 0) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST(OverlayMountTest, ADirectoryMadeAnewHidesTheOldOne) {
  EXPECT_TRUE(Exited(InLayers([] {
    CHECK_CHILD(Mount(kOptions) == 0);
    CHECK_CHILD(rmdir("merged/d") == -1 && errno == ENOTEMPTY);
    CHECK_CHILD(unlink("merged/d/x") == 0 && rmdir("merged/d") == 0);
    CHECK_CHILD(mkdir("merged/d", 0755) == 0);
    CHECK_CHILD(List("merged/d").empty());
    return 0;
  })));
}

TEST(OverlayMountTest, SeveralLowersWithoutAnUpperAreReadOnly) {
  EXPECT_TRUE(Exited(InLayers([] {
    CHECK_CHILD(Mount("lowerdir=lower:lower2,userxattr") == 0);
    CHECK_CHILD((List("merged") == std::set<std::string>{"a", "b", "c", "d"}));
    CHECK_CHILD(ReadFile("merged/b") == "lower b" && ReadFile("merged/c") == "lower2 c");
    CHECK_CHILD(open("merged/new", O_CREAT | O_WRONLY, 0600) == -1 && errno == EROFS);
    CHECK_CHILD(unlink("merged/a") == -1 && errno == EROFS);
    return 0;
  })));
}

TEST(OverlayMountTest, BadOptions) {
  EXPECT_TRUE(Exited(InLayers([] {
    const struct {
      const char* options;
      int error;
    } cases[] = {{"", EINVAL},
                 {"lowerdir=lower,userxattr", EINVAL},
                 {"upperdir=upper,workdir=work,userxattr", EINVAL},
                 {"lowerdir=lower,upperdir=upper,userxattr", EINVAL},
                 {"lowerdir=missing,upperdir=upper,workdir=work,userxattr", ENOENT},
                 {"lowerdir=lower,upperdir=missing,workdir=work,userxattr", ENOENT},
                 {"lowerdir=lower,upperdir=upper,workdir=upper,userxattr", EINVAL},
                 {"lowerdir=lower,upperdir=upper,workdir=work,nonsense=1", EINVAL}};
    for (const auto& c : cases) {
      errno = 0;
      if (Mount(c.options) != -1 || errno != c.error) {
        dprintf(2, "%s: %s\n", c.options, ErrnoName(errno).c_str());
        return 1;
      }
    }
    return 0;
  })));
}

// Another overlay may be a lower layer, not the upper one.
TEST(OverlayMountTest, OverlaysAreLowerLayersOnly) {
  EXPECT_TRUE(Exited(InLayers([] {
    CHECK_CHILD(Mount(kOptions) == 0);
    CHECK_CHILD(mkdir("merged/up", 0755) == 0 && mkdir("merged/wk", 0755) == 0);
    CHECK_CHILD(mkdir("top", 0755) == 0 && mkdir("up2", 0755) == 0 && mkdir("wk2", 0755) == 0);
    CHECK_CHILD(mount("o", "top", "overlay", 0,
                      "lowerdir=lower2,upperdir=merged/up,workdir=merged/wk,userxattr") == -1);
    CHECK_CHILD(errno == EINVAL);
    CHECK_CHILD(mount("o", "top", "overlay", 0,
                      "lowerdir=merged,upperdir=up2,workdir=wk2,userxattr") == 0);
    CHECK_CHILD(unlink("top/a") == 0 && ReadFile("merged/a") == "lower a");
    CHECK_CHILD(Put("top/b", "top b") && ReadFile("merged/b") == "lower b");
    return 0;
  })));
}

TEST(OverlayMountTest, LayersMayBeUnmountedUnderIt) {
  EXPECT_TRUE(Exited(InLayers([] {
    CHECK_CHILD(mount("none", "lower2", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(Put("lower2/c", "c"));
    CHECK_CHILD(Mount("lowerdir=lower:lower2,userxattr") == 0);
    CHECK_CHILD(umount("lower2") == 0);
    CHECK_CHILD(ReadFile("merged/c") == "c");
    CHECK_CHILD(umount("merged") == 0);
    return 0;
  })));
}

TEST(OverlayMountTest, RenamesOfFiles) {
  EXPECT_TRUE(Exited(InLayers([] {
    CHECK_CHILD(Mount(kOptions) == 0);
    CHECK_CHILD(rename("merged/a", "merged/z") == 0);
    CHECK_CHILD(ReadFile("merged/z") == "lower a");
    CHECK_CHILD((List("merged") == std::set<std::string>{"b", "d", "z"}));
    CHECK_CHILD(link("merged/b", "merged/b2") == 0);
    CHECK_CHILD(ReadFile("merged/b2") == "lower b");
    CHECK_CHILD(Put("merged/b", "LOWER") && ReadFile("merged/b2") == "LOWER b");
    return 0;
  })));
}

}  // namespace
}  // namespace ringwall::test
