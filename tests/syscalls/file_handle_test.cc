// name_to_handle_at and open_by_handle_at.
#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

class Handle {
 public:
  explicit Handle(unsigned size = MAX_HANDLE_SZ) { get()->handle_bytes = size; }
  file_handle* get() { return reinterpret_cast<file_handle*>(words_); }
  std::string bytes() {
    return std::string(reinterpret_cast<char*>(get()->f_handle), get()->handle_bytes);
  }

 private:
  alignas(8) char words_[sizeof(file_handle) + MAX_HANDLE_SZ] = {};
};

class HandleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
  TempDir dir_;
  const std::string file_ = dir_.File("f", "content");
  Handle handle_;
  int mount_ = -1;
};

TEST_F(HandleTest, LeadsToTheFileUnderAnyName) {
  ASSERT_OK(name_to_handle_at(AT_FDCWD, file_.c_str(), handle_.get(), &mount_, 0));
  const std::string moved = dir_ / "g";
  ASSERT_OK(rename(file_.c_str(), moved.c_str()));
  Fd place(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  Fd fd(open_by_handle_at(place.get(), handle_.get(), O_RDWR));
  ASSERT_TRUE(fd.ok());
  char text[8] = {};
  EXPECT_EQ(read(fd.get(), text, 7), 7);
  EXPECT_STREQ(text, "content");
  Handle again;
  ASSERT_OK(name_to_handle_at(fd.get(), "", again.get(), &mount_, AT_EMPTY_PATH));
  EXPECT_EQ(again.bytes(), handle_.bytes());
  EXPECT_EQ(again.get()->handle_type, handle_.get()->handle_type);
}

TEST_F(HandleTest, SaysHowMuchRoomItNeeds) {
  Handle none(0);
  EXPECT_FAILS(name_to_handle_at(AT_FDCWD, file_.c_str(), none.get(), &mount_, 0), EOVERFLOW);
  EXPECT_GT(none.get()->handle_bytes, 0u);
  EXPECT_LE(none.get()->handle_bytes, unsigned{MAX_HANDLE_SZ});
  EXPECT_OK(name_to_handle_at(AT_FDCWD, file_.c_str(), none.get(), &mount_, 0));
}

TEST_F(HandleTest, SymlinksAreFollowedWhenAsked) {
  const std::string link = dir_ / "link";
  ASSERT_OK(symlink("f", link.c_str()));
  Handle of_link, followed;
  ASSERT_OK(name_to_handle_at(AT_FDCWD, file_.c_str(), handle_.get(), &mount_, 0));
  ASSERT_OK(name_to_handle_at(AT_FDCWD, link.c_str(), of_link.get(), &mount_, 0));
  ASSERT_OK(name_to_handle_at(AT_FDCWD, link.c_str(), followed.get(), &mount_, AT_SYMLINK_FOLLOW));
  EXPECT_NE(of_link.bytes(), handle_.bytes());
  EXPECT_EQ(followed.bytes(), handle_.bytes());
  Fd place(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_FAILS(open_by_handle_at(place.get(), of_link.get(), O_RDONLY), ELOOP);
}

TEST_F(HandleTest, Refusals) {
  ASSERT_OK(name_to_handle_at(AT_FDCWD, file_.c_str(), handle_.get(), &mount_, 0));
  Handle large(MAX_HANDLE_SZ + 1), empty(0);
  const std::string missing = dir_ / "missing";
  EXPECT_FAILS(name_to_handle_at(AT_FDCWD, file_.c_str(), large.get(), &mount_, 0), EINVAL);
  EXPECT_FAILS(name_to_handle_at(AT_FDCWD, file_.c_str(), handle_.get(), &mount_, 0x40), EINVAL);
  EXPECT_FAILS(name_to_handle_at(AT_FDCWD, missing.c_str(), handle_.get(), &mount_, 0), ENOENT);
  EXPECT_FAILS(name_to_handle_at(-1, "f", handle_.get(), &mount_, 0), EBADF);
  EXPECT_FAILS(name_to_handle_at(AT_FDCWD, "/proc/version", handle_.get(), &mount_, 0), EOPNOTSUPP);
  EXPECT_FAILS(open_by_handle_at(-1, handle_.get(), O_RDONLY), EBADF);
  EXPECT_FAILS(open_by_handle_at(AT_FDCWD, large.get(), O_RDONLY), EINVAL);
  EXPECT_FAILS(open_by_handle_at(AT_FDCWD, empty.get(), O_RDONLY), EINVAL);
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    Fd place(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
    CHECK_CHILD(open_by_handle_at(place.get(), handle_.get(), O_RDONLY) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST_F(HandleTest, IsStaleOnceTheFileIsGone) {
  ASSERT_OK(name_to_handle_at(AT_FDCWD, file_.c_str(), handle_.get(), &mount_, 0));
  Fd place(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_OK(unlink(file_.c_str()));
  EXPECT_FAILS(open_by_handle_at(place.get(), handle_.get(), O_RDONLY), ESTALE);
}

}  // namespace
}  // namespace ringwall::test
