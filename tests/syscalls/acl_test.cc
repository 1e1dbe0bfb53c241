// POSIX access control lists (acl(5)) by their extended attributes: form, checks, modes, inheritance.
#include <grp.h>
#include <sys/xattr.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr char kAccess[] = "system.posix_acl_access", kDefault[] = "system.posix_acl_default";
constexpr uint16_t kUserObj = 1, kUser = 2, kGroupObj = 4, kGroup = 8, kMask = 16, kOther = 32;

struct Entry {
  uint16_t tag, perm;
  uint32_t id;
};

std::string Acl(std::initializer_list<Entry> entries, uint32_t version = 2) {
  std::string out(reinterpret_cast<const char*>(&version), 4);
  for (const Entry& e : entries) out.append(reinterpret_cast<const char*>(&e), sizeof(e));
  return out;
}

int Set(const std::string& path, const char* name, const std::string& value, int flags = 0) {
  return setxattr(path.c_str(), name, value.data(), value.size(), flags);
}

std::string Get(const std::string& path, const char* name) {
  char buf[1024];
  const ssize_t n = getxattr(path.c_str(), name, buf, sizeof(buf));
  return n < 0 ? "" : std::string(buf, n);
}

mode_t ModeOf(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 ? st.st_mode & 07777 : 0;
}

constexpr uint32_t kNone = ~0u;

class AclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    chmod(dir_.path().c_str(), 0777);
    file_ = dir_.File("f", "x", 0640);
    folder_ = dir_ / "d";
    ASSERT_OK(mkdir(folder_.c_str(), 0755));
    const std::string acl = Acl({{kUserObj, 6, kNone}, {kUser, 4, 1234}, {kGroupObj, 4, kNone},
                                 {kMask, 4, kNone}, {kOther, 0, kNone}});
    if (Set(file_, kAccess, acl) != 0 && errno == EOPNOTSUPP) GTEST_SKIP() << "no ACLs here";
    ASSERT_OK(removexattr(file_.c_str(), kAccess));
  }
  TempDir dir_;
  std::string file_, folder_;
};

TEST_F(AclTest, NoneIsNoData) {
  EXPECT_FAILS(getxattr(file_.c_str(), kAccess, nullptr, 0), ENODATA);
  EXPECT_FAILS(getxattr(file_.c_str(), kDefault, nullptr, 0), ENODATA);
  EXPECT_FAILS(getxattr(folder_.c_str(), kDefault, nullptr, 0), ENODATA);
  EXPECT_OK(removexattr(file_.c_str(), kAccess));
  EXPECT_OK(removexattr(folder_.c_str(), kDefault));
}

TEST_F(AclTest, BadFormsAreRefused) {
  EXPECT_FAILS(Set(file_, kAccess, "xx"), EINVAL);
  EXPECT_FAILS(Set(file_, kAccess, Acl({{kUserObj, 6, kNone}}, 1)), EOPNOTSUPP);
  EXPECT_FAILS(Set(file_, kAccess, Acl({{kUserObj, 6, kNone}})), EINVAL);
  EXPECT_FAILS(Set(file_, kAccess, Acl({{kUserObj, 6, kNone}, {kGroupObj, 4, kNone}, {kOther, 0, kNone}}) + "x"),
               EINVAL);
  // Named entries need a mask; the order counts; so do the permission bits.
  EXPECT_FAILS(Set(file_, kAccess, Acl({{kUserObj, 6, kNone}, {kUser, 4, 1}, {kGroupObj, 4, kNone}, {kOther, 0, kNone}})),
               EINVAL);
  EXPECT_FAILS(Set(file_, kAccess, Acl({{kGroupObj, 4, kNone}, {kUserObj, 6, kNone}, {kOther, 0, kNone}})), EINVAL);
  EXPECT_FAILS(Set(file_, kAccess, Acl({{kUserObj, 8, kNone}, {kGroupObj, 4, kNone}, {kOther, 0, kNone}})), EINVAL);
  EXPECT_FAILS(Set(file_, kAccess, Acl({{0x40, 6, kNone}, {kGroupObj, 4, kNone}, {kOther, 0, kNone}})), EINVAL);
  // No entries: no list.
  EXPECT_OK(Set(file_, kAccess, Acl({})));
  EXPECT_OK(Set(file_, kAccess, ""));
}

TEST_F(AclTest, AMinimalListBecomesTheMode) {
  EXPECT_OK(Set(file_, kAccess, Acl({{kUserObj, 7, kNone}, {kGroupObj, 5, kNone}, {kOther, 1, kNone}})));
  EXPECT_EQ(ModeOf(file_), 0751u);
  EXPECT_FAILS(getxattr(file_.c_str(), kAccess, nullptr, 0), ENODATA);
}

TEST_F(AclTest, TheMaskIsTheGroupsBits) {
  const std::string acl = Acl({{kUserObj, 6, kNone}, {kUser, 6, 1234}, {kGroupObj, 4, kNone},
                               {kMask, 6, kNone}, {kOther, 0, kNone}});
  EXPECT_OK(Set(file_, kAccess, acl));
  EXPECT_EQ(ModeOf(file_), 0660u);
  EXPECT_EQ(Get(file_, kAccess), acl);
  // chmod changes the mask, not the group's entry.
  EXPECT_OK(chmod(file_.c_str(), 0640));
  EXPECT_EQ(Get(file_, kAccess),
            Acl({{kUserObj, 6, kNone}, {kUser, 6, 1234}, {kGroupObj, 4, kNone}, {kMask, 4, kNone},
                 {kOther, 0, kNone}}));
  char names[256];
  const ssize_t n = listxattr(file_.c_str(), names, sizeof(names));
  EXPECT_EQ(std::string(names, n > 0 ? n : 0), std::string(kAccess) + '\0');
  EXPECT_OK(removexattr(file_.c_str(), kAccess));
  EXPECT_FAILS(getxattr(file_.c_str(), kAccess, nullptr, 0), ENODATA);
  EXPECT_EQ(ModeOf(file_), 0640u);
}

TEST_F(AclTest, SizesOfReads) {
  const std::string acl = Acl({{kUserObj, 6, kNone}, {kUser, 6, 1234}, {kGroupObj, 4, kNone},
                               {kMask, 6, kNone}, {kOther, 0, kNone}});
  EXPECT_OK(Set(file_, kAccess, acl));
  EXPECT_EQ(getxattr(file_.c_str(), kAccess, nullptr, 0), static_cast<ssize_t>(acl.size()));
  char small[8];
  EXPECT_FAILS(getxattr(file_.c_str(), kAccess, small, sizeof(small)), ERANGE);
}

TEST_F(AclTest, DefaultsAreForDirectories) {
  const std::string acl = Acl({{kUserObj, 7, kNone}, {kGroupObj, 5, kNone}, {kOther, 0, kNone}});
  EXPECT_FAILS(Set(file_, kDefault, acl), EACCES);
  EXPECT_OK(Set(folder_, kDefault, acl));
  EXPECT_EQ(Get(folder_, kDefault), acl);
  EXPECT_EQ(ModeOf(folder_), 0755u);
  ASSERT_OK(symlink("f", (dir_ / "link").c_str()));
  EXPECT_FAILS(lsetxattr((dir_ / "link").c_str(), kAccess, acl.data(), acl.size(), 0), EOPNOTSUPP);
  EXPECT_FAILS(lgetxattr((dir_ / "link").c_str(), kAccess, nullptr, 0), EOPNOTSUPP);
}

TEST_F(AclTest, NewObjectsInherit) {
  const std::string acl = Acl({{kUserObj, 7, kNone}, {kUser, 7, 1234}, {kGroupObj, 5, kNone},
                               {kMask, 7, kNone}, {kOther, 1, kNone}});
  ASSERT_OK(Set(folder_, kDefault, acl));
  const mode_t old = umask(077);
  // The list replaces the umask; the mode asked for still bounds it.
  Fd fd(open((folder_ + "/f").c_str(), O_CREAT | O_WRONLY, 0666));
  EXPECT_TRUE(fd.ok());
  EXPECT_OK(mkdir((folder_ + "/d").c_str(), 0777));
  EXPECT_OK(mkfifo((folder_ + "/p").c_str(), 0644));
  umask(old);
  EXPECT_EQ(ModeOf(folder_ + "/f"), 0660u);
  EXPECT_EQ(Get(folder_ + "/f", kAccess),
            Acl({{kUserObj, 6, kNone}, {kUser, 7, 1234}, {kGroupObj, 5, kNone}, {kMask, 6, kNone},
                 {kOther, 0, kNone}}));
  EXPECT_EQ(ModeOf(folder_ + "/d"), 0771u);
  EXPECT_EQ(Get(folder_ + "/d", kAccess), acl);
  EXPECT_EQ(Get(folder_ + "/d", kDefault), acl);
  EXPECT_EQ(ModeOf(folder_ + "/p"), 0640u);
  EXPECT_EQ(Get(folder_ + "/f", kDefault), "");
}

TEST_F(AclTest, ListsDecide) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const struct {
    uid_t uid;
    gid_t gid;
    int read, write;  // errno
  } cases[] = {{1234, 1, 0, EACCES}, {1235, 1, EACCES, EACCES}, {1, 55, 0, 0}, {1, 56, EACCES, EACCES},
               {1, 1, EACCES, EACCES}, {0, 0, 0, 0}};
  ASSERT_OK(Set(file_, kAccess, Acl({{kUserObj, 6, kNone}, {kUser, 4, 1234}, {kUser, 0, 1235},
                                     {kGroupObj, 0, kNone}, {kGroup, 6, 55}, {kGroup, 0, 56},
                                     {kMask, 6, kNone}, {kOther, 0, kNone}})));
  for (const auto& c : cases) {
    EXPECT_TRUE(Exited(InChild([&] {
      CHECK_CHILD(setgroups(0, nullptr) == 0);
      CHECK_CHILD(setresgid(c.gid, c.gid, c.gid) == 0 && setresuid(c.uid, c.uid, c.uid) == 0);
      const int r = open(file_.c_str(), O_RDONLY) < 0 ? errno : 0;
      const int w = open(file_.c_str(), O_WRONLY) < 0 ? errno : 0;
      const int a = access(file_.c_str(), R_OK) < 0 ? errno : 0;
      if (r != c.read || w != c.write || a != c.read) {
        dprintf(2, "uid %d gid %d: %d %d %d\n", c.uid, c.gid, r, w, a);
        return 1;
      }
      return 0;
    })));
  }
  // The mask bounds all but the owner and others.
  ASSERT_OK(chmod(file_.c_str(), 0600));
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(setgroups(0, nullptr) == 0);
    CHECK_CHILD(setresgid(1, 1, 1) == 0 && setresuid(1234, 1234, 1234) == 0);
    CHECK_CHILD(open(file_.c_str(), O_RDONLY) == -1 && errno == EACCES);
    return 0;
  })));
}

TEST_F(AclTest, OnlyTheOwnerMaySetThem) {
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    const std::string acl = Acl({{kUserObj, 7, kNone}, {kGroupObj, 7, kNone}, {kOther, 7, kNone}});
    struct stat st;
    CHECK_CHILD(stat(file_.c_str(), &st) == 0);
    if (st.st_uid == geteuid()) return 0;
    CHECK_CHILD(Set(file_, kAccess, acl) == -1 && errno == EPERM);
    CHECK_CHILD(removexattr(file_.c_str(), kAccess) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST_F(AclTest, OtherSystemNamesAreNotSupported) {
  EXPECT_FAILS(getxattr(file_.c_str(), "system.nothing", nullptr, 0), EOPNOTSUPP);
  EXPECT_FAILS(setxattr(file_.c_str(), "system.nothing", "x", 1, 0), EOPNOTSUPP);
}

}  // namespace
}  // namespace ringwall::test
