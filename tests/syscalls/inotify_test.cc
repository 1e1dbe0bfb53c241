// inotify: which events come of which calls, in which order.
#include <dirent.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

struct Event {
  int wd;
  uint32_t mask, cookie;
  std::string name;
};

class InotifyEventTest : public ::testing::Test {
 protected:
  InotifyEventTest() : fd_(inotify_init1(IN_NONBLOCK)) {}
  int Watch(const std::string& path, uint32_t mask = IN_ALL_EVENTS) {
    return inotify_add_watch(fd_.get(), path.c_str(), mask);
  }
  std::vector<Event> Take() {
    std::vector<Event> out;
    alignas(inotify_event) char buffer[8192];
    ssize_t n;
    while ((n = read(fd_.get(), buffer, sizeof(buffer))) > 0) {
      for (char* p = buffer; p < buffer + n;) {
        const auto* e = reinterpret_cast<const inotify_event*>(p);
        out.push_back({e->wd, e->mask, e->cookie, e->len != 0 ? e->name : ""});
        p += sizeof(inotify_event) + e->len;
      }
    }
    return out;
  }
  static std::string Name(uint32_t mask) {
    static constexpr std::pair<uint32_t, const char*> kNames[] = {
        {IN_ACCESS, "ACCESS"},           {IN_MODIFY, "MODIFY"},
        {IN_ATTRIB, "ATTRIB"},           {IN_CLOSE_WRITE, "CLOSE_WRITE"},
        {IN_CLOSE_NOWRITE, "CLOSE"},     {IN_OPEN, "OPEN"},
        {IN_MOVED_FROM, "MOVED_FROM"},   {IN_MOVED_TO, "MOVED_TO"},
        {IN_CREATE, "CREATE"},           {IN_DELETE, "DELETE"},
        {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
        {IN_IGNORED, "IGNORED"},         {IN_Q_OVERFLOW, "OVERFLOW"},
        {IN_UNMOUNT, "UNMOUNT"},         {IN_ISDIR, "/"}};
    std::string out;
    for (const auto& [bit, name] : kNames) {
      if ((mask & bit) != 0) out += name;
    }
    return out;
  }
  // "OPEN file, CLOSE file"
  std::string Events() {
    std::string out;
    for (const Event& e : Take()) {
      if (!out.empty()) out += ", ";
      out += Name(e.mask);
      if (!e.name.empty()) out += " " + e.name;
    }
    return out;
  }
  TempDir dir_;
  Fd fd_;
};

TEST_F(InotifyEventTest, Errors) {
  EXPECT_FAILS(inotify_init1(1), EINVAL);
  EXPECT_FAILS(Watch(dir_ / "none"), ENOENT);
  EXPECT_FAILS(Watch(dir_.path(), 0), EINVAL);
  EXPECT_FAILS(Watch(dir_.path(), IN_MASK_ADD | IN_MASK_CREATE | IN_OPEN), EINVAL);
  EXPECT_FAILS(inotify_add_watch(-1, "/", IN_OPEN), EBADF);
  Pipe p;
  EXPECT_FAILS(inotify_add_watch(p.reader.get(), "/", IN_OPEN), EINVAL);
  EXPECT_FAILS(inotify_rm_watch(p.reader.get(), 1), EINVAL);
  EXPECT_FAILS(inotify_rm_watch(fd_.get(), 1), EINVAL);
  EXPECT_FAILS(syscall(SYS_inotify_add_watch, fd_.get(), BadAddress(), IN_OPEN), EFAULT);
  EXPECT_FAILS(Watch(dir_.File("f"), IN_ONLYDIR | IN_OPEN), ENOTDIR);
  EXPECT_FAILS(write(fd_.get(), "x", 1), EBADF);
  char small[4];
  EXPECT_FAILS(read(fd_.get(), small, 4), EAGAIN);
  EXPECT_OK(Watch(dir_.path()));
  EXPECT_FAILS(Watch(dir_.path(), IN_OPEN | IN_MASK_CREATE), EEXIST);
  dir_.File("g");
  EXPECT_FAILS(read(fd_.get(), small, 4), EINVAL);
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    return Watch("/root/.") == -1 && errno == EACCES ? 0 : geteuid() == 0 ? 0 : 1;
  })));
}

TEST_F(InotifyEventTest, FionreadCountsBytes) {
  int n = -1;
  EXPECT_OK(ioctl(fd_.get(), FIONREAD, &n));
  EXPECT_EQ(n, 0);
  Watch(dir_.path(), IN_CREATE);
  dir_.File("f");
  EXPECT_OK(ioctl(fd_.get(), FIONREAD, &n));
  EXPECT_EQ(n, static_cast<int>(sizeof(inotify_event)) + 16);
  pollfd p = {fd_.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN);
}

TEST_F(InotifyEventTest, FileInAWatchedFolder) {
  Watch(dir_.path());
  Fd f(open((dir_ / "f").c_str(), O_CREAT | O_RDWR, 0600));
  EXPECT_EQ(Events(), "CREATE f, OPEN f");
  EXPECT_EQ(write(f.get(), "abc", 3), 3);
  EXPECT_EQ(Events(), "MODIFY f");
  char c;
  EXPECT_EQ(pread(f.get(), &c, 1, 0), 1);
  EXPECT_EQ(Events(), "ACCESS f");
  EXPECT_EQ(pread(f.get(), &c, 0, 0), 0);
  EXPECT_EQ(pread(f.get(), &c, 1, 100), 0);
  EXPECT_EQ(write(f.get(), &c, 0), 0);
  EXPECT_EQ(Events(), "");
  EXPECT_OK(ftruncate(f.get(), 1));
  EXPECT_EQ(Events(), "MODIFY f");
  EXPECT_OK(fchmod(f.get(), 0644));
  EXPECT_EQ(Events(), "ATTRIB f");
  f.Reset();
  EXPECT_EQ(Events(), "CLOSE_WRITE f");
  f.Reset(open((dir_ / "f").c_str(), O_RDONLY));
  f.Reset();
  EXPECT_EQ(Events(), "OPEN f, CLOSE f");
  f.Reset(open((dir_ / "f").c_str(), O_WRONLY | O_TRUNC));
  EXPECT_EQ(Events(), "OPEN f, MODIFY f");
  f.Reset();
  Take();
  EXPECT_OK(unlink((dir_ / "f").c_str()));
  EXPECT_EQ(Events(), "DELETE f");
}

TEST_F(InotifyEventTest, PathCalls) {
  const std::string f = dir_.File("f", "text");
  Watch(dir_.path());
  EXPECT_OK(chmod(f.c_str(), 0600));
  EXPECT_OK(chown(f.c_str(), geteuid(), getegid()));
  EXPECT_EQ(Events(), "ATTRIB f");  // two of the same merge
  EXPECT_OK(truncate(f.c_str(), 2));
  EXPECT_EQ(Events(), "MODIFY f");
  const timespec times[2] = {{1, 0}, {2, 0}};
  EXPECT_OK(utimensat(AT_FDCWD, f.c_str(), times, 0));
  EXPECT_EQ(Events(), "ATTRIB f");
  const timespec only_atime[2] = {{1, 0}, {0, UTIME_OMIT}};
  EXPECT_OK(utimensat(AT_FDCWD, f.c_str(), only_atime, 0));
  EXPECT_EQ(Events(), "ACCESS f");
  const timespec only_mtime[2] = {{0, UTIME_OMIT}, {1, 0}};
  EXPECT_OK(utimensat(AT_FDCWD, f.c_str(), only_mtime, 0));
  EXPECT_EQ(Events(), "MODIFY f");
  if (setxattr(f.c_str(), "user.x", "1", 1, 0) == 0) {
    EXPECT_EQ(Events(), "ATTRIB f");
  }
  EXPECT_OK(link(f.c_str(), (dir_ / "hard").c_str()));
  EXPECT_EQ(Events(), "CREATE hard");
  EXPECT_OK(symlink("f", (dir_ / "soft").c_str()));
  EXPECT_EQ(Events(), "CREATE soft");
  EXPECT_OK(mkdir((dir_ / "d").c_str(), 0700));
  EXPECT_EQ(Events(), "CREATE/ d");
  EXPECT_OK(rmdir((dir_ / "d").c_str()));
  EXPECT_EQ(Events(), "DELETE/ d");
  EXPECT_OK(mknod((dir_ / "fifo").c_str(), S_IFIFO | 0600, 0));
  EXPECT_EQ(Events(), "CREATE fifo");
  EXPECT_OK(access(f.c_str(), R_OK));
  struct stat st;
  EXPECT_OK(stat(f.c_str(), &st));
  EXPECT_EQ(Events(), "");
  Fd path_only(open(f.c_str(), O_PATH));
  path_only.Reset();
  EXPECT_EQ(Events(), "");
}

TEST_F(InotifyEventTest, FallocateAndSplice) {
  Fd f(open(dir_.File("f", "text").c_str(), O_RDWR));
  Watch(dir_ / "f", IN_MODIFY | IN_ACCESS);
  EXPECT_OK(fallocate(f.get(), 0, 0, 100));
  EXPECT_EQ(Events(), "MODIFY");
  Pipe p;
  EXPECT_EQ(splice(f.get(), nullptr, p.writer.get(), nullptr, 2, 0), 2);
  EXPECT_EQ(Events(), "ACCESS");
  EXPECT_EQ(splice(p.reader.get(), nullptr, f.get(), nullptr, 2, 0), 2);
  EXPECT_EQ(Events(), "MODIFY");
}

TEST_F(InotifyEventTest, FolderItself) {
  const std::string d = dir_ / "d";
  ASSERT_OK(mkdir(d.c_str(), 0700));
  Watch(d);
  DIR* folder = opendir(d.c_str());
  while (readdir(folder) != nullptr) {
  }
  closedir(folder);
  EXPECT_EQ(Events(), "OPEN/, ACCESS/, CLOSE/");
  EXPECT_OK(chmod(d.c_str(), 0755));
  EXPECT_EQ(Events(), "ATTRIB/");
  EXPECT_OK(rename(d.c_str(), (dir_ / "e").c_str()));
  EXPECT_EQ(Events(), "MOVE_SELF");
  EXPECT_OK(rmdir((dir_ / "e").c_str()));
  EXPECT_EQ(Events(), "DELETE_SELF, IGNORED");
}

TEST_F(InotifyEventTest, RenamesShareACookie) {
  ASSERT_OK(mkdir((dir_ / "a").c_str(), 0700));
  ASSERT_OK(mkdir((dir_ / "b").c_str(), 0700));
  dir_.File("a/f");
  dir_.File("b/old");
  const int a = Watch(dir_ / "a"), b = Watch(dir_ / "b");
  const int f = Watch(dir_ / "a/f"), old = Watch(dir_ / "b/old");
  Take();
  EXPECT_OK(rename((dir_ / "a/f").c_str(), (dir_ / "b/old").c_str()));
  const std::vector<Event> e = Take();
  std::string order;
  uint32_t from = 0, to = 1;
  for (const Event& one : e) {
    order += Name(one.mask) + std::string(one.wd == a ? "@a " : one.wd == b ? "@b " : one.wd == f ? "@f " : one.wd == old ? "@old " : "@? ");
    if ((one.mask & IN_MOVED_FROM) != 0) from = one.cookie;
    if ((one.mask & IN_MOVED_TO) != 0) to = one.cookie;
  }
  EXPECT_EQ(order, "MOVED_FROM@a MOVED_TO@b ATTRIB@old MOVE_SELF@f DELETE_SELF@old IGNORED@old ");
  EXPECT_EQ(from, to);
  EXPECT_NE(from, 0u);
}

TEST_F(InotifyEventTest, UnlinkOfAWatchedFile) {
  const std::string f = dir_.File("f", "x");
  Watch(f);
  Fd open_file(open(f.c_str(), O_RDONLY));
  EXPECT_EQ(Events(), "OPEN");
  EXPECT_OK(unlink(f.c_str()));
  EXPECT_EQ(Events(), "ATTRIB");
  open_file.Reset();
  EXPECT_EQ(Events(), "CLOSE, DELETE_SELF, IGNORED");
}

TEST_F(InotifyEventTest, LastLinkCounts) {
  const std::string f = dir_.File("f", "x");
  ASSERT_OK(link(f.c_str(), (dir_ / "g").c_str()));
  const int wd = Watch(f);
  EXPECT_EQ(Watch(dir_ / "g"), wd);  // the same inode
  EXPECT_OK(unlink(f.c_str()));
  EXPECT_EQ(Events(), "ATTRIB");
  EXPECT_OK(unlink((dir_ / "g").c_str()));
  EXPECT_EQ(Events(), "ATTRIB, DELETE_SELF, IGNORED");
  EXPECT_FAILS(inotify_rm_watch(fd_.get(), wd), EINVAL);
}

TEST_F(InotifyEventTest, OneshotAndRemoval) {
  const std::string f = dir_.File("f", "x");
  Watch(f, IN_MODIFY | IN_ONESHOT);
  EXPECT_OK(truncate(f.c_str(), 0));
  EXPECT_OK(truncate(f.c_str(), 5));
  EXPECT_EQ(Events(), "MODIFY, IGNORED");
  const int wd = Watch(f);
  EXPECT_OK(inotify_rm_watch(fd_.get(), wd));
  EXPECT_EQ(Events(), "IGNORED");
  EXPECT_FAILS(inotify_rm_watch(fd_.get(), wd), EINVAL);
  EXPECT_NE(Watch(f), wd);  // numbers are not used again
}

TEST_F(InotifyEventTest, MaskIsReplacedOrAddedTo) {
  const std::string f = dir_.File("f", "x");
  const int wd = Watch(f, IN_MODIFY);
  EXPECT_EQ(Watch(f, IN_ATTRIB), wd);
  EXPECT_OK(truncate(f.c_str(), 0));
  EXPECT_OK(chmod(f.c_str(), 0600));
  EXPECT_EQ(Events(), "ATTRIB");
  EXPECT_EQ(Watch(f, IN_MODIFY | IN_MASK_ADD), wd);
  EXPECT_OK(truncate(f.c_str(), 2));
  EXPECT_OK(chmod(f.c_str(), 0644));
  EXPECT_EQ(Events(), "MODIFY, ATTRIB");
}

TEST_F(InotifyEventTest, SymlinksAreFollowedUnlessAskedNot) {
  const std::string f = dir_.File("f", "x");
  const std::string link = dir_ / "link";
  ASSERT_OK(symlink("f", link.c_str()));
  const int wd = Watch(f);
  EXPECT_EQ(Watch(link), wd);
  const int of_link = Watch(link, IN_ALL_EVENTS | IN_DONT_FOLLOW);
  EXPECT_NE(of_link, wd);
  EXPECT_OK(chmod(link.c_str(), 0600));
  const std::vector<Event> e = Take();
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(e[0].wd, wd);
}

TEST_F(InotifyEventTest, UnlinkedChildrenMayBeLeftOut) {
  Fd f(open(dir_.File("f", "x").c_str(), O_RDWR));
  Watch(dir_.path(), IN_ALL_EVENTS);
  EXPECT_OK(unlink((dir_ / "f").c_str()));
  EXPECT_EQ(write(f.get(), "y", 1), 1);
  EXPECT_EQ(Events(), "DELETE f, MODIFY f");
  Fd g(open(dir_.File("g", "x").c_str(), O_RDWR));
  Take();
  Watch(dir_.path(), IN_ALL_EVENTS | IN_EXCL_UNLINK);
  EXPECT_OK(unlink((dir_ / "g").c_str()));
  EXPECT_EQ(write(g.get(), "y", 1), 1);
  g.Reset();
  EXPECT_EQ(Events(), "DELETE g");
}

TEST_F(InotifyEventTest, EqualEventsInARowAreOne) {
  Fd f(open(dir_.File("f", "x").c_str(), O_RDWR));
  Watch(dir_ / "f", IN_MODIFY | IN_ACCESS);
  char c;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(write(f.get(), "y", 1), 1);
  EXPECT_EQ(pread(f.get(), &c, 1, 0), 1);
  EXPECT_EQ(write(f.get(), "y", 1), 1);
  EXPECT_EQ(Events(), "MODIFY, ACCESS, MODIFY");
}

TEST_F(InotifyEventTest, QueueOverflows) {
  Fd a(open(dir_.File("a", "x").c_str(), O_RDWR)), b(open(dir_.File("b", "x").c_str(), O_RDWR));
  Watch(dir_ / "a", IN_MODIFY);
  Watch(dir_ / "b", IN_MODIFY);
  int most = 0;
  EXPECT_EQ(sscanf(ReadFile("/proc/sys/fs/inotify/max_queued_events").c_str(), "%d", &most), 1);
  for (int i = 0; i < most / 2 + 10; ++i) {
    EXPECT_EQ(write(a.get(), "y", 1), 1);
    EXPECT_EQ(write(b.get(), "y", 1), 1);
  }
  const std::vector<Event> e = Take();
  EXPECT_EQ(e.size(), static_cast<size_t>(most) + 1);
  EXPECT_EQ(e.back().mask, static_cast<uint32_t>(IN_Q_OVERFLOW));
  EXPECT_EQ(e.back().wd, -1);
}

TEST_F(InotifyEventTest, ExecOpensAndReads) {
  Watch("/bin/true", IN_OPEN | IN_ACCESS | IN_CLOSE);
  EXPECT_TRUE(Exited(InChild([] {
    execl("/bin/true", "true", nullptr);
    return 1;
  })));
  const std::string events = Events();
  EXPECT_EQ(events.substr(0, 4), "OPEN") << events;
  EXPECT_NE(events.find("CLOSE"), std::string::npos) << events;
}

TEST_F(InotifyEventTest, InstancesAreLimited) {
  int most = 0;
  EXPECT_EQ(sscanf(ReadFile("/proc/sys/fs/inotify/max_user_instances").c_str(), "%d", &most), 1);
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    int n = 0;
    while (n <= most && inotify_init1(0) >= 0) n++;
    CHECK_CHILD(errno == EMFILE);
    CHECK_CHILD(n <= most);
    return 0;
  })));
}

}  // namespace
}  // namespace ringwall::test
