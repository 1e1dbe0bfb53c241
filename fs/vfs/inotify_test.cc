// Events against the host's inotify, operation by operation.
#include "fs/vfs/inotify.h"

#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cstring>
#include <functional>

#include "fs/tmpfs/tmpfs.h"
#include "fs/vfs/testing/ops.h"
#include "fs/vfs/vfs.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

// "wd mask cookie? name;" each; cookies differ, so only whether there is one.
std::string Describe(const char* bytes, size_t size) {
  std::string out;
  for (size_t at = 0; at + sizeof(inotify_event) <= size;) {
    inotify_event e;
    memcpy(&e, bytes + at, sizeof(e));
    char text[100];
    snprintf(text, sizeof(text), "wd%d %#x%s len%u ", e.wd, e.mask, e.cookie != 0 ? " cookie" : "",
             e.len);
    out += text;
    if (e.len != 0) out += bytes + at + sizeof(e);
    out += "; ";
    at += sizeof(e) + e.len;
  }
  return out;
}

class InotifyTest : public ::testing::Test {
 protected:
  std::string Ours(InotifyGroup& group) {
    char buffer[8192];
    SpanDst dst(std::as_writable_bytes(std::span(buffer)));
    const Result<size_t> n = group.Read(dst);
    return n.ok() ? Describe(buffer, *n) : "";
  }
  Inode& At(const char* path) {
    const Result<Path> p =
        Vfs::Lookup({*creds_, *mounts_, root_, root_}, path, {.follow_last = false});
    RW_CHECK(p.ok());
    return *p->dentry().inode();
  }

  Ref<const Credentials> creds_ = Credentials::Root();
  Ref<MountNamespace> mounts_ = MakeRef<MountNamespace>(
      Mount::Make(TmpfsFileSystem::Create({.mode = 0755}), 0, "tmpfs"));
  Path root_ = mounts_->root();
  std::unique_ptr<testing::Ops> ops_ = testing::MakeVfsOps(*mounts_, *creds_);
};

TEST_F(InotifyTest, TellsWhatTheHostTells) {
  using O = testing::Ops;
  const std::pair<const char*, std::function<std::string(O&)>> steps[] = {
      {"create", [](O& o) { return o.Open("d/f", O_CREAT | O_WRONLY, 0644, ""); }},
      {"open for reading", [](O& o) { return o.Open("d/g", O_PATH, 0, ""); }},
      {"truncating open", [](O& o) { return o.Open("d/f", O_TRUNC | O_WRONLY, 0, ""); }},
      {"chmod", [](O& o) { return o.Chmod("d/g", 0600); }},
      {"truncate", [](O& o) { return o.Truncate("d/g", 5); }},
      {"xattr", [](O& o) { return o.SetXattr("d/g", "trusted.a", "1", 0); }},
      {"mkdir", [](O& o) { return o.Mkdir("d/sub", 0755); }},
      {"chmod of a directory", [](O& o) { return o.Chmod("d/sub", 0700); }},
      {"symlink", [](O& o) { return o.Symlink("f", "d/l"); }},
      {"mknod", [](O& o) { return o.Mknod("d/s", S_IFSOCK | 0600); }},
      {"link", [](O& o) { return o.Link("d/g", "d/h", false); }},
      {"rename", [](O& o) { return o.Rename("d/f", "d/k", 0); }},
      {"rename away", [](O& o) { return o.Rename("d/k", "k", 0); }},
      {"rename in, over another", [](O& o) { return o.Rename("k", "d/h", 0); }},
      {"exchange", [](O& o) { return o.Rename("d/h", "d/sub", RENAME_EXCHANGE); }},
      {"rename of the watched", [](O& o) { return o.Rename("d/g", "d/gg", 0); }},
      {"rmdir", [](O& o) { return o.Rmdir("d/h"); }},
      {"unlink of one of two", [](O& o) { return o.Link("d/gg", "x", false) + o.Unlink("x"); }},
      {"unlink of the watched", [](O& o) { return o.Unlink("d/gg"); }},
      {"unlink", [](O& o) { return o.Unlink("d/l") + o.Unlink("d/s") + o.Unlink("d/sub"); }},
      {"rmdir of the watched", [](O& o) { return o.Rmdir("d"); }},
  };
  const bool ran = testing::InHostSandbox([&] {
    const auto host = testing::MakeHostOps();
    const UniqueFd fd(inotify_init1(IN_NONBLOCK));
    Ref<File> file = std::move(*MakeInotifyFile(O_NONBLOCK, 0));
    InotifyGroup* group = InotifyGroupOf(*file);
    ASSERT_NE(group, nullptr);
    for (O* o : {host.get(), ops_.get()}) {
      o->Mkdir("d", 0755);
      o->Open("d/g", O_CREAT | O_WRONLY, 0644, "");
    }
    EXPECT_EQ(inotify_add_watch(fd.get(), "d", IN_ALL_EVENTS), *group->AddWatch(At("d"), IN_ALL_EVENTS));
    EXPECT_EQ(inotify_add_watch(fd.get(), "d/g", IN_ALL_EVENTS),
              *group->AddWatch(At("d/g"), IN_ALL_EVENTS));
    for (const auto& [what, step] : steps) {
      EXPECT_EQ(step(*host), step(*ops_)) << what;
      char buffer[8192];
      const ssize_t n = read(fd.get(), buffer, sizeof(buffer));
      EXPECT_EQ(n > 0 ? Describe(buffer, static_cast<size_t>(n)) : "", Ours(*group)) << what;
    }
  });
  if (!ran) GTEST_SKIP() << "the host permits no chroot";
}

TEST_F(InotifyTest, WatchesFollowTheirFlags) {
  ops_->Mkdir("d", 0755);
  ops_->Open("f", O_CREAT | O_WRONLY, 0644, "");
  Ref<File> file = std::move(*MakeInotifyFile(0, 0));
  InotifyGroup& group = *InotifyGroupOf(*file);
  EXPECT_EQ(group.AddWatch(At("f"), 0).error_value(), EINVAL);
  EXPECT_EQ(group.AddWatch(At("f"), IN_OPEN | IN_ONLYDIR).error_value(), ENOTDIR);
  const int32_t wd = *group.AddWatch(At("d"), IN_CREATE);
  EXPECT_EQ(group.AddWatch(At("d"), IN_OPEN | IN_MASK_CREATE).error_value(), EEXIST);
  EXPECT_EQ(*group.AddWatch(At("d"), IN_DELETE | IN_MASK_ADD), wd);
  ops_->Mkdir("d/x", 0755);
  ops_->Rmdir("d/x");
  EXPECT_EQ(Ours(group), "wd1 0x40000100 len16 x; wd1 0x40000200 len16 x; ");
  EXPECT_EQ(*group.AddWatch(At("f"), IN_ATTRIB | IN_ONESHOT), 2);
  ops_->Chmod("f", 0600);
  ops_->Chmod("f", 0644);
  EXPECT_EQ(Ours(group), "wd2 0x4 len0 ; wd2 0x8000 len0 ; ");
  EXPECT_TRUE(group.RemoveWatch(wd).ok());
  EXPECT_EQ(group.RemoveWatch(wd).error_value(), EINVAL);
  EXPECT_EQ(Ours(group), "wd1 0x8000 len0 ; ");
  EXPECT_EQ(file->Poll(~0u), 0u);
}

TEST_F(InotifyTest, TheQueueIsBounded) {
  ops_->Open("f", O_CREAT | O_WRONLY, 0644, "");
  ops_->Open("g", O_CREAT | O_WRONLY, 0644, "");
  Ref<File> file = std::move(*MakeInotifyFile(0, 0));
  InotifyGroup& group = *InotifyGroupOf(*file);
  EXPECT_TRUE(group.AddWatch(At("f"), IN_ATTRIB).ok());
  EXPECT_TRUE(group.AddWatch(At("g"), IN_ATTRIB).ok());
  for (size_t i = 0; i < static_cast<size_t>(inotify_limits().events.load()); i++) {
    ops_->Chmod("f", 0600);
    ops_->Chmod("g", 0600);
  }
  EXPECT_EQ(group.pending_bytes(), (static_cast<size_t>(inotify_limits().events.load()) + 1) * sizeof(inotify_event));
}

}  // namespace
}  // namespace ringwall
