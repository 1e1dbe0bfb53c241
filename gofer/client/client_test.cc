// Each operation over a real server, compared with what the host says itself.
#include "gofer/client/client.h"

#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <algorithm>
#include <set>
#include <thread>

#include "gofer/testing/fixture.h"

namespace ringwall::gofer {
namespace {

using Names = std::vector<std::string_view>;

void ExpectSame(const Attr& attr, const struct stat& host) {
  EXPECT_EQ(attr.ino, host.st_ino);
  EXPECT_EQ(attr.dev, host.st_dev);
  EXPECT_EQ(attr.mode, host.st_mode);
  EXPECT_EQ(attr.nlink, host.st_nlink);
  EXPECT_EQ(attr.uid, host.st_uid);
  EXPECT_EQ(attr.gid, host.st_gid);
  EXPECT_EQ(attr.size, static_cast<uint64_t>(host.st_size));
  EXPECT_EQ(attr.blocks, static_cast<uint64_t>(host.st_blocks));
  EXPECT_EQ(attr.mtime.sec, host.st_mtim.tv_sec);
  EXPECT_EQ(attr.mtime.nsec, host.st_mtim.tv_nsec);
  EXPECT_EQ(attr.ctime.sec, host.st_ctim.tv_sec);
  EXPECT_EQ(attr.ctime.nsec, host.st_ctim.tv_nsec);
}

TEST_P(GoferTest, AttachGivesTheRootsAttributes) {
  EXPECT_EQ(client_->root_count(), 3u);
  Result<AttachResult> attached = client_->Attach(0);
  ASSERT_TRUE(attached.ok());
  ExpectSame(attached->node.attr, HostStat("."));
  EXPECT_FALSE(attached->read_only);
  EXPECT_TRUE(client_->Attach(1)->read_only);
  EXPECT_EQ(client_->Attach(3).error_value(), ENOENT);
}

TEST_P(GoferTest, WalkBringsEveryComponentAndOpensTheLast) {
  ::mkdir((dir_ / "a").c_str(), 0755);
  ::mkdir((dir_ / "a/b").c_str(), 0750);
  WriteFile(dir_ / "a/b/file", "contents");
  Result<WalkResult> walk =
      client_->Walk(root_, Names{"a", "b", "file"}, kWalkHandleAll | kWalkOpen, O_RDONLY);
  ASSERT_TRUE(walk.ok());
  EXPECT_EQ(walk->stop, WalkStop::kDone);
  ASSERT_EQ(walk->nodes.size(), 3u);
  ExpectSame(walk->nodes[0].attr, HostStat("a"));
  ExpectSame(walk->nodes[1].attr, HostStat("a/b"));
  ExpectSame(walk->nodes[2].attr, HostStat("a/b/file"));
  for (const GoferNode& node : walk->nodes) EXPECT_TRUE(node.handle.valid());
  EXPECT_EQ(ReadFd(walk->fd.get()), "contents");
  EXPECT_EQ(::fcntl(walk->fd.get(), F_GETFL) & O_NONBLOCK, 0);
  // From a handle on the way, too.
  EXPECT_TRUE(client_->Lookup(walk->nodes[1].handle, "file").ok());
}

TEST_P(GoferTest, WalkWithoutHandlesKeepsNoneAndStillOpens) {
  ::mkdir((dir_ / "a").c_str(), 0755);
  WriteFile(dir_ / "a/file", "x");
  const uint32_t before = server_->handles().size();
  Result<WalkResult> walk = client_->Walk(root_, Names{"a", "file"}, kWalkOpen, O_RDWR);
  ASSERT_TRUE(walk.ok());
  EXPECT_EQ(ReadFd(walk->fd.get()), "x");
  EXPECT_EQ(::pwrite(walk->fd.get(), "y", 1, 0), 1);
  EXPECT_EQ(server_->handles().size(), before);
  EXPECT_EQ(client_->StatAt(root_, "nothing").error_value(), ENOENT);
}

TEST_P(GoferTest, WalkStopsWhereANameIsMissing) {
  ::mkdir((dir_ / "a").c_str(), 0755);
  Result<WalkResult> walk = client_->Walk(root_, Names{"a", "no", "x"}, kWalkHandleAll);
  ASSERT_TRUE(walk.ok());
  EXPECT_EQ(walk->stop, WalkStop::kError);
  EXPECT_EQ(walk->error, ENOENT);
  ASSERT_EQ(walk->nodes.size(), 1u);
  ExpectSame(walk->nodes[0].attr, HostStat("a"));
}

TEST_P(GoferTest, WalkThroughAFileIsNotADirectory) {
  WriteFile(dir_ / "f", "");
  Result<WalkResult> walk = client_->Walk(root_, Names{"f", "x"}, kWalkHandleLast);
  ASSERT_TRUE(walk.ok());
  EXPECT_EQ(walk->error, ENOTDIR);
  EXPECT_EQ(walk->nodes.size(), 1u);
  GoferHandle file = Find("f");
  EXPECT_EQ(client_->Walk(file, Names{"x"}, 0).error_value(), ENOTDIR);
}

TEST_P(GoferTest, WalkStopsAtALinkAndTellsWhereItLeads) {
  ASSERT_EQ(::symlink("/etc", (dir_ / "link").c_str()), 0);
  for (const uint32_t flags : {0u, kWalkHandleAll}) {
    Result<WalkResult> walk = client_->Walk(root_, Names{"link", "passwd"}, flags);
    ASSERT_TRUE(walk.ok());
    EXPECT_EQ(walk->stop, WalkStop::kSymlink);
    EXPECT_EQ(walk->target, "/etc");
    EXPECT_EQ(walk->nodes.size(), 1u);
    walk = client_->Walk(root_, Names{"link"}, flags | kWalkOpen);
    ASSERT_TRUE(walk.ok());
    EXPECT_EQ(walk->stop, WalkStop::kDone);
    EXPECT_EQ(walk->target, "/etc");
    EXPECT_FALSE(walk->fd);
  }
  EXPECT_EQ(*client_->ReadLink(Find("link")), "/etc");
  WriteFile(dir_ / "f", "");
  EXPECT_EQ(client_->ReadLink(Find("f")).error_value(), EINVAL);
}

TEST_P(GoferTest, WalkOpenThatFailsStillTellsWhatIsThere) {
  WriteFile(dir_ / "f", "x");
  GoferHandle read_only = AttachTo(1);
  for (const uint32_t flags : {0u, kWalkHandleLast}) {
    Result<WalkResult> walk =
        client_->Walk(read_only, Names{"f"}, flags | kWalkOpen, O_WRONLY | O_TRUNC);
    ASSERT_TRUE(walk.ok());
    EXPECT_EQ(walk->stop, WalkStop::kOpenFailed);
    EXPECT_EQ(walk->error, EROFS);
    ASSERT_EQ(walk->nodes.size(), 1u);
  }
  EXPECT_EQ(HostStat("f").st_size, 1);
}

TEST_P(GoferTest, LongestWalkFits) {
  std::string path = dir_.path();
  Names names;
  for (size_t i = 0; i < kMaxWalkNames; ++i) {
    path += "/d";
    ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
    names.push_back("d");
  }
  Result<WalkResult> walk = client_->Walk(root_, names, kWalkHandleAll);
  ASSERT_TRUE(walk.ok());
  EXPECT_EQ(walk->nodes.size(), kMaxWalkNames);
  names.push_back("d");
  EXPECT_EQ(client_->Walk(root_, names, 0).error_value(), EINVAL);
  const std::string long_name(255, 'n');
  const Names long_names(kMaxWalkNames, long_name);
  EXPECT_EQ(client_->Walk(root_, long_names, 0)->error, ENOENT);
}

TEST_P(GoferTest, NamesOfEveryByteAndLength) {
  for (int c = 1; c < 256; ++c) {
    if (c == '/' || c == '.') continue;
    const std::string name(1, static_cast<char>(c));
    ASSERT_TRUE(client_->Create(root_, name, O_RDWR | O_EXCL, {.mode = 0600}).ok()) << c;
    ExpectSame(*client_->StatAt(root_, name), HostStat(name));
  }
  for (size_t size = 2; size <= 255; ++size) {
    const std::string name(size, 'n');
    ASSERT_TRUE(client_->Mkdir(root_, name, {.mode = 0700}).ok()) << size;
  }
  for (const std::string_view bad :
       {std::string_view(""), std::string_view("."), std::string_view(".."),
        std::string_view("a/b"), std::string_view("/"), std::string_view("a\0b", 3)}) {
    EXPECT_EQ(client_->Lookup(root_, bad).error_value(), EINVAL);
    EXPECT_EQ(client_->Unlink(root_, bad).error_value(), EINVAL);
  }
  EXPECT_EQ(client_->Lookup(root_, std::string(256, 'n')).error_value(), ENAMETOOLONG);
}

TEST_P(GoferTest, StatSeesWhatTheHostChanges) {
  WriteFile(dir_ / "f", "x");
  GoferHandle file = Find("f");
  WriteFile(dir_ / "f", "longer");
  ::chmod((dir_ / "f").c_str(), 0611);
  ExpectSame(*client_->Stat(file), HostStat("f"));
  // The handle is the file, whatever its name.
  ::rename((dir_ / "f").c_str(), (dir_ / "g").c_str());
  ExpectSame(*client_->Stat(file), HostStat("g"));
  ::unlink((dir_ / "g").c_str());
  EXPECT_EQ(client_->Stat(file)->nlink, 0u);
}

TEST_P(GoferTest, SetAttrChangesEachAttribute) {
  WriteFile(dir_ / "f", "0123456789");
  GoferHandle file = Find("f");
  SetAttrRequest request = {.mask = kSetMode | kSetSize | kSetAtime | kSetMtime,
                            .mode = 04751,
                            .size = 4,
                            .atime = {.sec = 100, .nsec = 7},
                            .mtime = {.sec = -5, .nsec = 999999999}};
  Result<Attr> attr = client_->SetAttr(file, request);
  ASSERT_TRUE(attr.ok()) << attr.error_value();
  ExpectSame(*attr, HostStat("f"));
  EXPECT_EQ(attr->mode & 07777, 04751u);
  EXPECT_EQ(attr->size, 4u);
  EXPECT_EQ(attr->atime.sec, 100);
  EXPECT_EQ(attr->atime.nsec, 7u);
  EXPECT_EQ(attr->mtime.sec, -5);
  attr = client_->SetAttr(file, {.mask = kSetMtimeNow});
  ASSERT_TRUE(attr.ok());
  EXPECT_GT(attr->mtime.sec, 1000000000);
  EXPECT_EQ(attr->atime.sec, 100);
  if (::geteuid() == 0) {
    attr = client_->SetAttr(file, {.mask = kSetUid | kSetGid, .uid = 12, .gid = 34});
    ASSERT_TRUE(attr.ok());
    EXPECT_EQ(attr->uid, 12u);
    EXPECT_EQ(attr->gid, 34u);
  }
  request.atime.nsec = 1000000000;
  EXPECT_EQ(client_->SetAttr(file, request).error_value(), EINVAL);
  EXPECT_EQ(client_->SetAttr(file, {.mask = 1 << 9}).error_value(), EINVAL);
  EXPECT_EQ(client_->SetAttr(root_, {.mask = kSetSize}).error_value(), EISDIR);
}

TEST_P(GoferTest, SetAttrOfALinkIsOfTheLinkItself) {
  WriteFile(dir_ / "f", "x");
  ASSERT_EQ(::symlink("f", (dir_ / "link").c_str()), 0);
  const struct stat before = HostStat("f");
  GoferHandle link = Find("link");
  Result<Attr> attr = client_->SetAttr(link, {.mask = kSetMtime, .mtime = {.sec = 42}});
  ASSERT_TRUE(attr.ok());
  EXPECT_EQ(HostStat("link").st_mtim.tv_sec, 42);
  EXPECT_EQ(HostStat("f").st_mtim.tv_sec, before.st_mtim.tv_sec);
  EXPECT_EQ(client_->SetAttr(link, {.mask = kSetMode, .mode = 0}).error_value(), EOPNOTSUPP);
  EXPECT_EQ(client_->SetAttr(link, {.mask = kSetSize}).error_value(), EINVAL);
}

TEST_P(GoferTest, OpenGivesADescriptorOfTheAccessAskedFor) {
  WriteFile(dir_ / "f", "data");
  GoferHandle file = Find("f");
  Result<OpenResult> open = client_->Open(file, O_RDONLY);
  ASSERT_TRUE(open.ok());
  EXPECT_EQ(ReadFd(open->fd.get()), "data");
  EXPECT_LT(::pwrite(open->fd.get(), "x", 1, 0), 0);
  open = client_->Open(file, O_WRONLY | O_APPEND);
  ASSERT_TRUE(open.ok());
  EXPECT_EQ(::fcntl(open->fd.get(), F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK),
            O_WRONLY | O_APPEND);
  EXPECT_NE(::fcntl(open->fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  open = client_->Open(file, O_RDWR | O_TRUNC);
  ASSERT_TRUE(open.ok());
  EXPECT_EQ(open->attr.size, 0u);
  EXPECT_EQ(client_->Open(file, O_CREAT).error_value(), EINVAL);
  EXPECT_EQ(client_->Open(file, O_PATH).error_value(), EINVAL);
  EXPECT_EQ(client_->Open(file, O_DIRECTORY).error_value(), EINVAL);
  EXPECT_EQ(client_->Open(file, 3).error_value(), EINVAL);
  EXPECT_EQ(client_->Open(root_, O_RDONLY).error_value(), EISDIR);
}

TEST_P(GoferTest, FifosAndDevicesNeverHoldTheGoferUp) {
  ASSERT_EQ(::mkfifo((dir_ / "fifo").c_str(), 0600), 0);
  GoferHandle fifo = Find("fifo");
  EXPECT_EQ(client_->Open(fifo, O_WRONLY).error_value(), ENXIO);  // no reader
  Result<OpenResult> reader = client_->Open(fifo, O_RDONLY);
  ASSERT_TRUE(reader.ok());
  EXPECT_NE(::fcntl(reader->fd.get(), F_GETFL) & O_NONBLOCK, 0);
  Result<OpenResult> writer = client_->Open(fifo, O_WRONLY);
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ(::write(writer->fd.get(), "hi", 2), 2);
  // A walk never opens one.
  Result<WalkResult> walk = client_->Walk(root_, Names{"fifo"}, kWalkOpen, O_RDONLY);
  ASSERT_TRUE(walk.ok());
  EXPECT_FALSE(walk->fd);
  GoferHandle plain = AttachTo(2);
  Result<GoferNode> same = client_->Lookup(plain, "fifo");
  EXPECT_EQ(client_->Open(same->handle, O_RDONLY).error_value(), ENXIO);
  if (::mknod((dir_ / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0) {
    EXPECT_EQ(client_->Open(Find("null"), O_RDONLY).error_value(), EACCES);
    walk = client_->Walk(root_, Names{"null"}, kWalkOpen, O_RDONLY);
    ASSERT_TRUE(walk.ok());
    EXPECT_FALSE(walk->fd);
  }
}

TEST_P(GoferTest, CreateMakesOwnsAndOpens) {
  Result<CreateResult> made = client_->Create(root_, "new", O_RDWR, {.mode = 0640});
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(made->created);
  ExpectSame(made->node.attr, HostStat("new"));
  EXPECT_EQ(made->node.attr.mode, S_IFREG | 0640u);
  EXPECT_EQ(::pwrite(made->fd.get(), "abc", 3, 0), 3);
  EXPECT_EQ(client_->Stat(made->node.handle)->size, 3u);
  made = client_->Create(root_, "new", O_RDONLY, {.mode = 0600});
  ASSERT_TRUE(made.ok());
  EXPECT_FALSE(made->created);
  EXPECT_EQ(ReadFd(made->fd.get()), "abc");
  EXPECT_EQ(client_->Create(root_, "new", O_RDWR | O_EXCL, {}).error_value(), EEXIST);
  made = client_->Create(root_, "new", O_RDONLY | O_TRUNC, {});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(HostStat("new").st_size, 0);
  if (::geteuid() == 0) {
    made = client_->Create(root_, "suid", O_RDWR, {.mode = 06755, .uid = 5, .gid = 6});
    ASSERT_TRUE(made.ok());
    ExpectSame(made->node.attr, HostStat("suid"));
    EXPECT_EQ(HostStat("suid").st_mode, S_IFREG | 06755u);
    EXPECT_EQ(HostStat("suid").st_uid, 5u);
    EXPECT_EQ(HostStat("suid").st_gid, 6u);
  }
}

TEST_P(GoferTest, CreateOverSomethingElseDoesNotFollowOrOpenIt) {
  WriteFile(dir_ / "target", "keep");
  ASSERT_EQ(::symlink("target", (dir_ / "link").c_str()), 0);
  ::mkfifo((dir_ / "fifo").c_str(), 0600);
  EXPECT_EQ(client_->Create(root_, "link", O_RDWR | O_TRUNC, {}).error_value(), EEXIST);
  EXPECT_EQ(client_->Create(root_, "fifo", O_WRONLY, {}).error_value(), EEXIST);
  EXPECT_EQ(HostStat("target").st_size, 4);
}

TEST_P(GoferTest, NamelessFileGetsItsNameByLink) {
  Result<CreateResult> made = client_->CreateNameless(root_, O_RDWR, {.mode = 0600});
  ASSERT_TRUE(made.ok()) << made.error_value();
  EXPECT_EQ(made->node.attr.nlink, 0u);
  ASSERT_EQ(::pwrite(made->fd.get(), "tmp", 3, 0), 3);
  Result<Attr> attr = client_->Link(made->node.handle, root_, "named");
  ASSERT_TRUE(attr.ok());
  EXPECT_EQ(attr->nlink, 1u);
  ExpectSame(*attr, HostStat("named"));
  EXPECT_EQ(client_->CreateNameless(root_, O_RDONLY, {}).error_value(), EINVAL);
}

TEST_P(GoferTest, MkdirMknodSymlinkMakeWhatWasAsked) {
  Result<GoferNode> made = client_->Mkdir(root_, "dir", {.mode = 01751});
  ASSERT_TRUE(made.ok());
  ExpectSame(made->attr, HostStat("dir"));
  EXPECT_EQ(made->attr.mode, S_IFDIR | 01751u);
  EXPECT_EQ(client_->Mkdir(root_, "dir", {.mode = 0700}).error_value(), EEXIST);
  made = client_->Mknod(root_, "fifo", S_IFIFO, {.mode = 0612});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(HostStat("fifo").st_mode, S_IFIFO | 0612u);
  made = client_->Mknod(root_, "sock", S_IFSOCK, {.mode = 0600});
  ASSERT_TRUE(made.ok());
  made = client_->Mknod(root_, "whiteout", S_IFCHR, {.mode = 0});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(HostStat("whiteout").st_rdev, 0u);
  EXPECT_EQ(client_->Mknod(root_, "disk", S_IFBLK, {}).error_value(), EPERM);
  const std::string target(4095, 't');
  made = client_->Symlink(root_, "link", target, kNoId, kNoId);
  ASSERT_TRUE(made.ok()) << made.error_value();
  EXPECT_EQ(*client_->ReadLink(made->handle), target);
  EXPECT_EQ(client_->Symlink(root_, "l2", target + "t", kNoId, kNoId).error_value(), ENAMETOOLONG);
  EXPECT_EQ(client_->Symlink(root_, "l2", "", kNoId, kNoId).error_value(), ENOENT);
  if (::geteuid() == 0) {
    made = client_->Symlink(root_, "owned", "x", 7, 8);
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(HostStat("owned").st_uid, 7u);
    EXPECT_EQ(HostStat("owned").st_gid, 8u);
  }
}

TEST_P(GoferTest, LinkUnlinkRmdirRename) {
  WriteFile(dir_ / "f", "1");
  GoferHandle file = Find("f");
  EXPECT_EQ(client_->Link(file, root_, "g")->nlink, 2u);
  EXPECT_EQ(client_->Link(file, root_, "g").error_value(), EEXIST);
  EXPECT_EQ(client_->Link(root_, root_, "h").error_value(), EPERM);
  ASSERT_TRUE(client_->Unlink(root_, "f").ok());
  EXPECT_EQ(client_->Unlink(root_, "f").error_value(), ENOENT);
  ASSERT_TRUE(client_->Mkdir(root_, "d", {.mode = 0755}).ok());
  EXPECT_EQ(client_->Unlink(root_, "d").error_value(), EISDIR);
  EXPECT_EQ(client_->Rmdir(root_, "g").error_value(), ENOTDIR);
  GoferHandle sub = Find("d");
  ASSERT_TRUE(client_->Rename(root_, "g", sub, "moved", 0).ok());
  EXPECT_EQ(HostStat("d/moved").st_size, 1);
  EXPECT_EQ(client_->Rmdir(root_, "d").error_value(), ENOTEMPTY);
  WriteFile(dir_ / "other", "22");
  EXPECT_EQ(client_->Rename(root_, "other", sub, "moved", RENAME_NOREPLACE).error_value(), EEXIST);
  ASSERT_TRUE(client_->Rename(root_, "other", sub, "moved", RENAME_EXCHANGE).ok());
  EXPECT_EQ(HostStat("d/moved").st_size, 2);
  EXPECT_EQ(client_->Rename(root_, "other", sub, "moved", RENAME_WHITEOUT).error_value(), EINVAL);
  ASSERT_TRUE(client_->Unlink(sub, "moved").ok());
  ASSERT_TRUE(client_->Rmdir(root_, "d").ok());
  GoferHandle elsewhere = AttachTo(2);
  EXPECT_EQ(client_->Rename(root_, "other", elsewhere, "x", 0).error_value(), EXDEV);
}

TEST_P(GoferTest, ReadDirBringsEveryEntryOnceWithItsAttributes) {
  std::set<std::string> expected;
  for (int i = 0; i < 1500; ++i) {
    const std::string name = "entry-" + std::to_string(i) + std::string(i % 40, 'x');
    WriteFile(dir_ / name, name);
    expected.insert(name);
  }
  for (const bool with_attr : {true, false}) {
    for (const uint32_t max_size : {0u, 1u, 5000u}) {
      std::set<std::string> seen;
      uint64_t offset = 0;
      bool end = false;
      while (!end) {
        Result<DirBatch> batch = client_->ReadDir(root_, offset, with_attr, max_size);
        ASSERT_TRUE(batch.ok());
        end = batch->end;
        for (const GoferDirEntry& entry : batch->entries) {
          EXPECT_TRUE(seen.insert(std::string(entry.name)).second) << entry.name;
          offset = entry.next;
          EXPECT_EQ(entry.type, DT_REG);
          EXPECT_EQ(entry.has_attr, with_attr);
          if (with_attr) {
            EXPECT_EQ(entry.attr.size, entry.name.size());
            EXPECT_EQ(entry.attr.ino, entry.ino);
          }
        }
      }
      EXPECT_EQ(seen, expected);
    }
  }
  GoferHandle file = Find(*expected.begin());
  EXPECT_EQ(client_->ReadDir(file, 0, true).error_value(), ENOTDIR);
}

TEST_P(GoferTest, EmptyDirectoryEndsAtOnce) {
  Result<DirBatch> batch = client_->ReadDir(root_, 0, true);
  ASSERT_TRUE(batch.ok());
  EXPECT_TRUE(batch->end);
  EXPECT_TRUE(batch->entries.empty());
}

TEST_P(GoferTest, XattrsOfTheUserGoThroughAndOthersDoNot) {
  WriteFile(dir_ / "f", "");
  GoferHandle file = Find("f");
  Result<void> set = client_->SetXattr(file, "user.a", "value", XATTR_CREATE);
  if (set.error_value() == EOPNOTSUPP) GTEST_SKIP() << "host file system without xattrs";
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(client_->SetXattr(file, "user.a", "v", XATTR_CREATE).error_value(), EEXIST);
  EXPECT_EQ(client_->SetXattr(file, "user.b", "v", XATTR_REPLACE).error_value(), ENODATA);
  EXPECT_EQ(*client_->GetXattr(file, "user.a", 100), "value");
  EXPECT_EQ(*client_->XattrSize(file, "user.a"), 5u);
  EXPECT_EQ(client_->GetXattr(file, "user.a", 2).error_value(), ERANGE);
  EXPECT_EQ(*client_->ListXattr(file), std::string("user.a\0", 7));
  ASSERT_TRUE(client_->RemoveXattr(file, "user.a").ok());
  EXPECT_EQ(client_->GetXattr(file, "user.a", 9).error_value(), ENODATA);
  EXPECT_EQ(*client_->ListXattr(file), "");
  EXPECT_EQ(client_->SetXattr(file, "trusted.overlay.opaque", "y", 0).error_value(), EPERM);
  EXPECT_EQ(client_->GetXattr(file, "trusted.x", 9).error_value(), ENODATA);
  EXPECT_EQ(client_->SetXattr(file, "security.capability", "y", 0).error_value(), EPERM);
  EXPECT_EQ(client_->GetXattr(file, "security.selinux", 9).error_value(), EOPNOTSUPP);
  EXPECT_EQ(client_->SetXattr(file, "nonsense", "y", 0).error_value(), EOPNOTSUPP);
  // What the host set in other namespaces stays out of the list.
  ::setxattr((dir_ / "f").c_str(), "trusted.hidden", "x", 1, 0);
  EXPECT_EQ(*client_->ListXattr(file), "");
}

TEST_P(GoferTest, LargestXattrFits) {
  WriteFile(dir_ / "f", "");
  GoferHandle file = Find("f");
  const std::string value(kMaxXattrValue, 'v');
  Result<void> set = client_->SetXattr(file, "user.big", value, 0);
  const int host =
      ::setxattr((dir_ / "f").c_str(), "user.big2", value.data(), value.size(), 0) == 0 ? 0 : errno;
  if (host != 0) {
    EXPECT_EQ(set.error_value(), host);  // as the host's file system has it (ext4: one block)
  } else {
    ASSERT_TRUE(set.ok()) << set.error_value();
    EXPECT_EQ(*client_->GetXattr(file, "user.big", kMaxXattrValue), value);
  }
  EXPECT_EQ(client_->SetXattr(file, "user.big", value + "v", 0).error_value(), E2BIG);
}

TEST_P(GoferTest, StatFsFsyncFallocate) {
  Result<StatFsReply> statfs = client_->StatFs(root_);
  ASSERT_TRUE(statfs.ok());
  EXPECT_GT(statfs->blocks, 0u);
  EXPECT_EQ(statfs->namelen, 255u);
  EXPECT_NE(client_->StatFs(AttachTo(1))->flags & 1, 0u);  // ST_RDONLY
  WriteFile(dir_ / "f", "x");
  GoferHandle file = Find("f");
  EXPECT_TRUE(client_->Fsync(file, SyncKind::kFile).ok());
  EXPECT_TRUE(client_->Fsync(file, SyncKind::kData).ok());
  EXPECT_TRUE(client_->Fsync(root_, SyncKind::kFileSystem).ok());
  EXPECT_EQ(client_->Fsync(file, static_cast<SyncKind>(9)).error_value(), EINVAL);
  Result<void> allocated = client_->Fallocate(file, 0, 0, 8192);
  if (allocated.ok()) {
    EXPECT_EQ(HostStat("f").st_size, 8192);
  }
  EXPECT_EQ(client_->Fallocate(file, 0, 0, 0).error_value(), EINVAL);
  EXPECT_EQ(client_->Fallocate(file, 0, UINT64_MAX, 1).error_value(), EINVAL);
}

TEST_P(GoferTest, ReadOnlyRootRefusesEveryChange) {
  WriteFile(dir_ / "f", "x");
  ::mkdir((dir_ / "d").c_str(), 0755);
  GoferHandle ro = AttachTo(1);
  Result<GoferNode> file = client_->Lookup(ro, "f");
  ASSERT_TRUE(file.ok());
  const GoferHandle& f = file->handle;
  EXPECT_EQ(client_->Open(f, O_RDWR).error_value(), EROFS);
  EXPECT_EQ(client_->Open(f, O_RDONLY | O_TRUNC).error_value(), EROFS);
  EXPECT_TRUE(client_->Open(f, O_RDONLY).ok());
  EXPECT_EQ(client_->Create(ro, "new", O_RDWR, {}).error_value(), EROFS);
  EXPECT_EQ(client_->CreateNameless(ro, O_RDWR, {}).error_value(), EROFS);
  EXPECT_EQ(client_->Mkdir(ro, "n", {}).error_value(), EROFS);
  EXPECT_EQ(client_->Mknod(ro, "n", S_IFIFO, {}).error_value(), EROFS);
  EXPECT_EQ(client_->Symlink(ro, "n", "t", kNoId, kNoId).error_value(), EROFS);
  EXPECT_EQ(client_->Link(f, ro, "n").error_value(), EROFS);
  EXPECT_EQ(client_->Link(f, root_, "n").error_value(), EROFS);
  EXPECT_EQ(client_->Unlink(ro, "f").error_value(), EROFS);
  EXPECT_EQ(client_->Rmdir(ro, "d").error_value(), EROFS);
  EXPECT_EQ(client_->Rename(ro, "f", ro, "g", 0).error_value(), EROFS);
  EXPECT_EQ(client_->Rename(ro, "f", root_, "g", 0).error_value(), EROFS);
  EXPECT_EQ(client_->SetAttr(f, {.mask = kSetMode, .mode = 0}).error_value(), EROFS);
  EXPECT_EQ(client_->SetAttr(f, {.mask = kSetSize}).error_value(), EROFS);
  EXPECT_EQ(client_->SetXattr(f, "user.a", "b", 0).error_value(), EROFS);
  EXPECT_EQ(client_->RemoveXattr(f, "user.a").error_value(), EROFS);
  EXPECT_EQ(client_->Fallocate(f, 0, 0, 10).error_value(), EROFS);
  EXPECT_EQ(client_->Bind(ro, "s", SOCK_STREAM, {}).error_value(), EROFS);
  EXPECT_EQ(HostStat("f").st_size, 1);
}

TEST_P(GoferTest, HostSocketsOnlyWhereAllowed) {
  Result<NodeAndFd> bound = client_->Bind(root_, "sock", SOCK_STREAM, {.mode = 0701});
  ASSERT_TRUE(bound.ok()) << bound.error_value();
  EXPECT_EQ(HostStat("sock").st_mode, S_IFSOCK | 0701u);
  GoferHandle socket = Find("sock");
  EXPECT_EQ(client_->Connect(socket, SOCK_STREAM).error_value(), ECONNREFUSED);  // not listening
  EXPECT_EQ(client_->Listen(socket, 5).error_value(), EINVAL);  // another handle of the same name
  ASSERT_TRUE(client_->Listen(bound->node.handle, 5).ok());
  EXPECT_EQ(client_->Listen(bound->node.handle, 5).error_value(), EINVAL);
  Result<UniqueFd> connected = client_->Connect(socket, SOCK_STREAM);
  ASSERT_TRUE(connected.ok());
  UniqueFd accepted(::accept(bound->fd.get(), nullptr, nullptr));
  EXPECT_TRUE(accepted);
  EXPECT_EQ(client_->Connect(socket, SOCK_RAW).error_value(), EINVAL);
  bound->fd.reset();  // the gofer holds no copy of a socket that listens
  EXPECT_EQ(client_->Connect(socket, SOCK_STREAM).error_value(), ECONNREFUSED);
  EXPECT_EQ(client_->Open(socket, O_RDWR).error_value(), ENXIO);
  GoferHandle plain = AttachTo(2);
  Result<GoferNode> same = client_->Lookup(plain, "sock");
  EXPECT_EQ(client_->Connect(same->handle, SOCK_STREAM).error_value(), ECONNREFUSED);
  EXPECT_EQ(client_->Bind(plain, "s2", SOCK_STREAM, {}).error_value(), EPERM);
  EXPECT_EQ(client_->Connect(root_, SOCK_STREAM).error_value(), ECONNREFUSED);
}

TEST_P(GoferTest, ClosesGoOutInBatchesAndOnDemand) {
  WriteFile(dir_ / "f", "x");
  const uint32_t before = server_->handles().size();
  for (int i = 0; i < 500; ++i) Find("f");
  EXPECT_LT(server_->handles().size(), before + 100);
  client_->FlushCloses();
  EXPECT_EQ(server_->handles().size(), before);
}

TEST_P(GoferTest, HandlesAreBounded) {
  Connect(2, /*max_handles=*/10);
  WriteFile(dir_ / "f", "x");
  std::vector<GoferHandle> held;
  int error = 0;
  while (error == 0 && held.size() < 100) {
    Result<GoferNode> node = client_->Lookup(root_, "f");
    error = node.error_value();
    if (node.ok()) held.push_back(std::move(node->handle));
  }
  EXPECT_EQ(error, ENFILE);
  EXPECT_EQ(held.size(), 9u);  // and the root
  // A walk that fills the table half way leaves nothing behind.
  held.pop_back();
  client_->FlushCloses();
  ::mkdir((dir_ / "a").c_str(), 0755);
  ::mkdir((dir_ / "a/b").c_str(), 0755);
  EXPECT_EQ(client_->Walk(root_, Names{"a", "b"}, kWalkHandleAll).error_value(), ENFILE);
  EXPECT_EQ(server_->handles().size(), 9u);
  EXPECT_TRUE(client_->Lookup(root_, "f").ok());
  EXPECT_FALSE(client_->broken());
}

TEST_P(GoferTest, PeekTellsOfSeveralEntriesAndOpensTheFiles) {
  ::mkdir((dir_ / "d").c_str(), 0755);
  WriteFile(dir_ / "a", "first");
  WriteFile(dir_ / "b", "second");
  ASSERT_EQ(::symlink("a", (dir_ / "l").c_str()), 0);
  ASSERT_EQ(::mkfifo((dir_ / "p").c_str(), 0644), 0);
  const Names names = {"a", "d", "no", "l", "p", "b"};
  const uint32_t handles = server_->handles().size();
  for (const bool open : {false, true}) {
    Result<std::vector<PeekedNode>> nodes = client_->Peek(root_, names, open);
    ASSERT_TRUE(nodes.ok());
    ASSERT_EQ(nodes->size(), names.size());
    for (size_t i = 0; i < names.size(); ++i) {
      PeekedNode& node = (*nodes)[i];
      const bool file = names[i] == "a" || names[i] == "b";
      EXPECT_EQ(node.error, names[i] == "no" ? ENOENT : 0);
      if (node.error == 0) ExpectSame(node.attr, HostStat(std::string(names[i])));
      EXPECT_EQ(node.fd.valid(), open && file) << names[i];
    }
    if (!open) continue;
    EXPECT_EQ(ReadFd(nodes->front().fd.get()), "first");
    EXPECT_EQ(ReadFd(nodes->back().fd.get()), "second");
    EXPECT_EQ(::fcntl(nodes->back().fd.get(), F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
  }
  EXPECT_EQ(server_->handles().size(), handles);
  EXPECT_EQ(client_->Peek(root_, Names(kMaxDescriptors + 1, "a"), true).error_value(), EINVAL);
  EXPECT_EQ(client_->Peek(root_, Names(kMaxDescriptors, "a"), true)->size(), kMaxDescriptors);
  EXPECT_EQ(client_->Peek(root_, Names(kMaxPeekNames, "a"), false)->size(), kMaxPeekNames);
  EXPECT_EQ(client_->Peek(root_, Names{".."}, false).error_value(), EINVAL);
}

TEST_P(GoferTest, NoDescriptorIsLeakedByAnySideOfACall) {
  Connect(/*channels=*/1);  // another processor would open a channel of its own
  WriteFile(dir_ / "f", "x");
  auto round = [&] {
    client_->Walk(root_, Names{"f"}, kWalkHandleLast | kWalkOpen).ok();
    client_->Create(root_, "g", O_RDWR, {.mode = 0600}).ok();
    client_->Create(root_, "g", O_RDWR | O_EXCL, {}).error_value();
    client_->Unlink(root_, "g").error_value();
    client_->Mkdir(root_, "f", {}).error_value();
    client_->ReadDir(root_, 0, true).ok();
    client_->Peek(root_, Names{"f", "missing", "f"}, true).ok();
    client_->FlushCloses();
  };
  round();
  const size_t before = CountFds();
  for (int i = 0; i < 20; ++i) round();
  EXPECT_LE(CountFds(), before);  // one may have been on its way when they were counted first
}

TEST_P(GoferTest, WorksWithoutProcForWhatIsReachedByName) {
  Connect(2, 1000, /*proc=*/false);
  WriteFile(dir_ / "f", "x");
  Result<WalkResult> walk = client_->Walk(root_, Names{"f"}, kWalkOpen, O_RDWR | O_TRUNC);
  ASSERT_TRUE(walk.ok());
  EXPECT_TRUE(walk->fd);
  Result<CreateResult> made = client_->Create(root_, "g", O_RDWR, {.mode = 0600});
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(client_->Stat(made->node.handle).ok());
  EXPECT_TRUE(client_->ReadDir(root_, 0, true).ok());
  EXPECT_EQ(client_->Open(Find("f"), O_RDONLY).error_value(), EOPNOTSUPP);
}

TEST_P(GoferTest, WorksWithoutAnyChannelButTheFirst) {
  Connect(/*channels=*/0);
  WriteFile(dir_ / "f", "x");
  EXPECT_TRUE(client_->Walk(root_, Names{"f"}, kWalkOpen)->fd);
}

TEST_P(GoferTest, ManyThreadsShareTheChannels) {
  for (int i = 0; i < 8; ++i) WriteFile(dir_ / std::to_string(i), std::string(i + 1, 'x'));
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this, i] {
      for (int round = 0; round < 200; ++round) {
        const std::string name = std::to_string(i);
        Result<WalkResult> walk =
            client_->Walk(root_, Names{name}, kWalkHandleLast | kWalkOpen, O_RDONLY);
        ASSERT_TRUE(walk.ok());
        EXPECT_EQ(ReadFd(walk->fd.get()).size(), static_cast<size_t>(i + 1));
        EXPECT_EQ(client_->Stat(walk->nodes[0].handle)->size, static_cast<uint64_t>(i + 1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(Transport, GoferTest, ::testing::Values(false, true),
                         [](const ::testing::TestParamInfo<bool>& info) {
                           return info.param ? "SharedMemory" : "Socket";
                         });

}  // namespace
}  // namespace ringwall::gofer
