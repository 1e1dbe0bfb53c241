// inotify and extended attributes.
#include <poll.h>
#include <sys/inotify.h>
#include <sys/xattr.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

struct Event {
  int wd;
  uint32_t mask;
  std::string name;
};

class InotifyTest : public ::testing::Test {
 protected:
  std::vector<Event> Events() {
    std::vector<Event> events;
    alignas(inotify_event) char b[4096];
    const ssize_t n = read(in_.get(), b, sizeof(b));
    for (ssize_t at = 0; at < n;) {
      auto* e = reinterpret_cast<inotify_event*>(b + at);
      events.push_back({e->wd, e->mask, e->len != 0 ? std::string(e->name) : std::string()});
      at += static_cast<ssize_t>(sizeof(*e) + e->len);
    }
    return events;
  }
  TempDir dir_;
  Fd in_{inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
};

TEST_F(InotifyTest, LifeOfAFile) {
  const int wd = inotify_add_watch(in_.get(), dir_.path().c_str(), IN_ALL_EVENTS & ~IN_ACCESS);
  ASSERT_OK(wd);
  dir_.File("f", "x");
  ASSERT_OK(rename((dir_ / "f").c_str(), (dir_ / "g").c_str()));
  ASSERT_OK(unlink((dir_ / "g").c_str()));
  const auto e = Events();
  ASSERT_EQ(e.size(), 7u);
  const uint32_t want[] = {IN_CREATE, IN_OPEN, IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO,
                           IN_DELETE};
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(e[i].mask, want[i]) << i;
    EXPECT_EQ(e[i].wd, wd);
    EXPECT_EQ(e[i].name, i < 5 ? "f" : "g");
  }
}

TEST_F(InotifyTest, FoldersAreMarked) {
  ASSERT_OK(inotify_add_watch(in_.get(), dir_.path().c_str(), IN_CREATE | IN_DELETE));
  ASSERT_OK(mkdir((dir_ / "d").c_str(), 0755));
  const auto e = Events();
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(e[0].mask, IN_CREATE | IN_ISDIR);
}

TEST_F(InotifyTest, WatchOfTheFileItself) {
  const std::string f = dir_.File("f");
  ASSERT_OK(inotify_add_watch(in_.get(), f.c_str(), IN_ATTRIB | IN_DELETE_SELF));
  ASSERT_OK(chmod(f.c_str(), 0600));
  ASSERT_OK(unlink(f.c_str()));
  const auto e = Events();
  ASSERT_EQ(e.size(), 3u);
  EXPECT_EQ(e[0].mask, static_cast<uint32_t>(IN_ATTRIB));  // chmod, and merged with it the link count
  EXPECT_EQ(e[1].mask, static_cast<uint32_t>(IN_DELETE_SELF));
  EXPECT_EQ(e[2].mask, static_cast<uint32_t>(IN_IGNORED));
}

TEST_F(InotifyTest, RemovalAndErrors) {
  const int wd = inotify_add_watch(in_.get(), dir_.path().c_str(), IN_CREATE);
  ASSERT_OK(inotify_rm_watch(in_.get(), wd));
  const auto e = Events();
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(e[0].mask, static_cast<uint32_t>(IN_IGNORED));
  EXPECT_FAILS(inotify_rm_watch(in_.get(), wd), EINVAL);
  EXPECT_FAILS(inotify_rm_watch(0, wd), EINVAL);
  EXPECT_FAILS(inotify_add_watch(in_.get(), (dir_ / "none").c_str(), IN_CREATE), ENOENT);
  EXPECT_FAILS(inotify_add_watch(in_.get(), dir_.path().c_str(), 0), EINVAL);
  EXPECT_FAILS(inotify_add_watch(999, dir_.path().c_str(), IN_CREATE), EBADF);
  EXPECT_FAILS(inotify_init1(0x1), EINVAL);
  char small[4];
  ASSERT_OK(inotify_add_watch(in_.get(), dir_.path().c_str(), IN_CREATE));
  EXPECT_FAILS(read(in_.get(), small, sizeof(small)), EAGAIN);
  dir_.File("x");
  EXPECT_FAILS(read(in_.get(), small, sizeof(small)), EINVAL);
  pollfd p = {in_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
}

TEST_F(InotifyTest, SameEventsInARowMerge) {
  const std::string f = dir_.File("f");
  Fd fd(open(f.c_str(), O_WRONLY));
  ASSERT_OK(inotify_add_watch(in_.get(), f.c_str(), IN_MODIFY));
  for (int i = 0; i < 5; ++i) ASSERT_EQ(write(fd.get(), "x", 1), 1);
  EXPECT_EQ(Events().size(), 1u);
}

TEST_F(InotifyTest, OneWatchPerInodeAndMaskAdd) {
  const int a = inotify_add_watch(in_.get(), dir_.path().c_str(), IN_CREATE);
  EXPECT_EQ(inotify_add_watch(in_.get(), (dir_ / ".").c_str(), IN_DELETE), a);
  EXPECT_EQ(inotify_add_watch(in_.get(), dir_.path().c_str(), IN_CREATE | IN_MASK_ADD), a);
  const std::string f = dir_.File("f");
  ASSERT_OK(unlink(f.c_str()));
  EXPECT_EQ(Events().size(), 2u);
  EXPECT_FAILS(inotify_add_watch(in_.get(), dir_.path().c_str(), IN_CREATE | IN_MASK_CREATE), EEXIST);
}

class XattrTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (setxattr(path_.c_str(), "user.probe", "1", 1, 0) != 0 && errno == EOPNOTSUPP) {
      GTEST_SKIP() << "no user attributes on this file system";
    }
    removexattr(path_.c_str(), "user.probe");
  }
  TempDir dir_;
  std::string path_ = dir_.File("f");
};

TEST_F(XattrTest, SetGetListRemove) {
  const char* p = path_.c_str();
  char b[64] = {};
  ASSERT_OK(setxattr(p, "user.a", "value", 5, 0));
  EXPECT_EQ(getxattr(p, "user.a", b, sizeof(b)), 5);
  EXPECT_STREQ(b, "value");
  EXPECT_EQ(getxattr(p, "user.a", nullptr, 0), 5);
  EXPECT_FAILS(getxattr(p, "user.a", b, 2), ERANGE);
  ASSERT_OK(setxattr(p, "user.b", "", 0, 0));
  const ssize_t n = listxattr(p, b, sizeof(b));
  ASSERT_OK(n);
  const std::string all(b, n);
  EXPECT_NE(all.find("user.a"), std::string::npos);
  EXPECT_NE(all.find("user.b"), std::string::npos);
  ASSERT_OK(removexattr(p, "user.a"));
  EXPECT_FAILS(getxattr(p, "user.a", b, 2), ENODATA);
  EXPECT_FAILS(removexattr(p, "user.a"), ENODATA);
}

TEST_F(XattrTest, CreateAndReplace) {
  const char* p = path_.c_str();
  EXPECT_FAILS(setxattr(p, "user.x", "1", 1, XATTR_REPLACE), ENODATA);
  ASSERT_OK(setxattr(p, "user.x", "1", 1, XATTR_CREATE));
  EXPECT_FAILS(setxattr(p, "user.x", "1", 1, XATTR_CREATE), EEXIST);
  EXPECT_FAILS(setxattr(p, "user.x", "1", 1, 0x10), EINVAL);
}

TEST_F(XattrTest, Errors) {
  const char* p = path_.c_str();
  char b[8];
  EXPECT_FAILS(setxattr(p, "nospace.x", "1", 1, 0), EOPNOTSUPP);
  EXPECT_FAILS(setxattr(p, "user.", "1", 1, 0), EINVAL);
  EXPECT_FAILS(setxattr(p, "", "1", 1, 0), ERANGE);
  EXPECT_FAILS(setxattr(p, ("user." + std::string(260, 'x')).c_str(), "1", 1, 0), ERANGE);
  EXPECT_FAILS(setxattr(p, "user.x", b, 65537, 0), E2BIG);
  EXPECT_FAILS(getxattr((dir_ / "none").c_str(), "user.x", b, 8), ENOENT);
  EXPECT_FAILS(fgetxattr(-1, "user.x", b, 8), EBADF);
  ASSERT_OK(symlink("f", (dir_ / "l").c_str()));
  EXPECT_FAILS(lsetxattr((dir_ / "l").c_str(), "user.x", "1", 1, 0), EPERM);
}

}  // namespace
}  // namespace ringwall::test
