// read, write, lseek, pread, pwrite and the vectored ones, on regular files.
#include <limits.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

class ReadWriteTest : public ::testing::Test {
 protected:
  TempDir dir_;
  std::string path_ = dir_.File("f", "0123456789");
  Fd fd_{open(path_.c_str(), O_RDWR)};
};

TEST_F(ReadWriteTest, ReadMovesTheOffsetAndEndsWithZero) {
  char b[16] = {};
  EXPECT_EQ(read(fd_.get(), b, 4), 4);
  EXPECT_EQ(std::string(b, 4), "0123");
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_CUR), 4);
  EXPECT_EQ(read(fd_.get(), b, 16), 6);
  EXPECT_EQ(read(fd_.get(), b, 16), 0);
}

TEST_F(ReadWriteTest, WriteOverwritesAndExtends) {
  EXPECT_EQ(lseek(fd_.get(), 8, SEEK_SET), 8);
  EXPECT_EQ(write(fd_.get(), "abcd", 4), 4);
  EXPECT_EQ(ReadFile(path_), "01234567abcd");
}

TEST_F(ReadWriteTest, AppendWritesAtTheEndWhateverTheOffset) {
  Fd fd(open(path_.c_str(), O_WRONLY | O_APPEND));
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_SET), 0);
  EXPECT_EQ(write(fd.get(), "xy", 2), 2);
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 12);
  // pwrite on O_APPEND also appends on Linux, against POSIX.
  EXPECT_EQ(pwrite(fd.get(), "z", 1, 0), 1);
  EXPECT_EQ(ReadFile(path_), "0123456789xyz");
}

TEST_F(ReadWriteTest, WrongModeIsEbadf) {
  char c;
  Fd ro(open(path_.c_str(), O_RDONLY)), wo(open(path_.c_str(), O_WRONLY));
  EXPECT_FAILS(write(ro.get(), "x", 1), EBADF);
  EXPECT_FAILS(read(wo.get(), &c, 1), EBADF);
  EXPECT_FAILS(read(-1, &c, 1), EBADF);
  EXPECT_FAILS(write(999, &c, 1), EBADF);
}

TEST_F(ReadWriteTest, BadAddressIsEfaultAndMovesNothing) {
  EXPECT_FAILS(read(fd_.get(), BadAddress(), 4), EFAULT);
  EXPECT_FAILS(write(fd_.get(), BadAddress(), 4), EFAULT);
  EXPECT_FAILS(read(fd_.get(), NoAccessPage(), 4), EFAULT);
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_CUR), 0);
}

TEST_F(ReadWriteTest, CountZeroStillChecksTheDescriptor) {
  EXPECT_EQ(read(fd_.get(), nullptr, 0), 0);
  EXPECT_EQ(write(fd_.get(), nullptr, 0), 0);
  EXPECT_FAILS(read(-1, nullptr, 0), EBADF);
}

TEST_F(ReadWriteTest, DirectoryIsEisdir) {
  Fd d(open(dir_.path().c_str(), O_RDONLY));
  char c;
  EXPECT_FAILS(read(d.get(), &c, 1), EISDIR);
  EXPECT_FAILS(pread(d.get(), &c, 1, 0), EISDIR);
}

TEST_F(ReadWriteTest, SeekRules) {
  EXPECT_EQ(lseek(fd_.get(), -3, SEEK_END), 7);
  EXPECT_EQ(lseek(fd_.get(), 100, SEEK_SET), 100);
  EXPECT_FAILS(lseek(fd_.get(), -1, SEEK_SET), EINVAL);
  EXPECT_FAILS(lseek(fd_.get(), -101, SEEK_CUR), EINVAL);
  EXPECT_FAILS(lseek(fd_.get(), 0, 99), EINVAL);
  EXPECT_FAILS(lseek(-1, 0, SEEK_SET), EBADF);
  Pipe p;
  EXPECT_FAILS(lseek(p.reader.get(), 0, SEEK_CUR), ESPIPE);
}

TEST_F(ReadWriteTest, SeekDataAndHole) {
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_DATA), 0);
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_HOLE), 10);
  EXPECT_FAILS(lseek(fd_.get(), 10, SEEK_DATA), ENXIO);
  EXPECT_FAILS(lseek(fd_.get(), 11, SEEK_HOLE), ENXIO);
}

TEST_F(ReadWriteTest, WritePastTheEndLeavesAHoleOfZeros) {
  EXPECT_EQ(pwrite(fd_.get(), "end", 3, 20), 3);
  const std::string all = ReadFile(path_);
  EXPECT_EQ(all, std::string("0123456789") + std::string(10, '\0') + "end");
}

TEST_F(ReadWriteTest, PreadAndPwriteKeepTheOffset) {
  char b[4] = {};
  EXPECT_EQ(pread(fd_.get(), b, 4, 6), 4);
  EXPECT_EQ(std::string(b, 4), "6789");
  EXPECT_EQ(pwrite(fd_.get(), "AB", 2, 1), 2);
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_CUR), 0);
  EXPECT_EQ(pread(fd_.get(), b, 4, 10), 0);
  EXPECT_FAILS(pread(fd_.get(), b, 4, -1), EINVAL);
  EXPECT_FAILS(pwrite(fd_.get(), b, 4, -1), EINVAL);
  Pipe p;
  EXPECT_FAILS(pread(p.reader.get(), b, 1, 0), ESPIPE);
  EXPECT_FAILS(pwrite(p.writer.get(), b, 1, 0), ESPIPE);
}

TEST_F(ReadWriteTest, VectorsGatherAndScatter) {
  char a[3], b[4];
  iovec in[] = {{a, 3}, {nullptr, 0}, {b, 4}};
  EXPECT_EQ(readv(fd_.get(), in, 3), 7);
  EXPECT_EQ(std::string(a, 3) + std::string(b, 4), "0123456");
  char x[] = "xx", y[] = "yyy";
  iovec out[] = {{x, 2}, {y, 3}};
  EXPECT_EQ(writev(fd_.get(), out, 2), 5);
  EXPECT_EQ(ReadFile(path_), "0123456xxyyy");
  EXPECT_EQ(preadv(fd_.get(), in, 3, 2), 7);
  EXPECT_EQ(pwritev(fd_.get(), out, 2, 0), 5);
  EXPECT_EQ(ReadFile(path_), "xxyyy56xxyyy");
}

TEST_F(ReadWriteTest, VectorLimits) {
  char c = 'c';
  std::vector<iovec> many(IOV_MAX + 1, iovec{&c, 1});
  EXPECT_FAILS(writev(fd_.get(), many.data(), IOV_MAX + 1), EINVAL);
  EXPECT_EQ(writev(fd_.get(), many.data(), IOV_MAX), IOV_MAX);
  EXPECT_FAILS(syscall(SYS_readv, fd_.get(), many.data(), -1L), EINVAL);
  EXPECT_EQ(readv(fd_.get(), nullptr, 0), 0);
  EXPECT_FAILS(readv(fd_.get(), static_cast<iovec*>(BadAddress()), 1), EFAULT);
  iovec negative[] = {{&c, 1}, {&c, static_cast<size_t>(-1)}};
  EXPECT_FAILS(readv(fd_.get(), negative, 2), EINVAL);
}

TEST_F(ReadWriteTest, VectorWithABadSecondPartWritesTheFirst) {
  char c[] = "Q";
  iovec parts[] = {{c, 1}, {BadAddress(), 1}};
  EXPECT_EQ(writev(fd_.get(), parts, 2), 1);
  EXPECT_EQ(ReadFile(path_).substr(0, 2), "Q1");
}

TEST_F(ReadWriteTest, BufferThatEndsInABadPageTransfersThePartBefore) {
  char* two = static_cast<char*>(
      mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_OK(mprotect(two + 4096, 4096, PROT_NONE));
  Pipe p;
  ASSERT_OK(write(p.writer.get(), "abcdefgh", 8));
  const ssize_t n = read(fd_.get(), two + 4096 - 3, 8);
  EXPECT_TRUE(n == 3 || (n == -1 && errno == EFAULT)) << n;
  munmap(two, 8192);
}

TEST_F(ReadWriteTest, Preadv2Flags) {
  char c;
  iovec one[] = {{&c, 1}};
  EXPECT_EQ(preadv2(fd_.get(), one, 1, 3, 0), 1);
  EXPECT_EQ(c, '3');
  EXPECT_EQ(preadv2(fd_.get(), one, 1, -1, 0), 1);
  EXPECT_EQ(c, '0');
  EXPECT_FAILS(preadv2(fd_.get(), one, 1, 0, 0x40000000), EOPNOTSUPP);
  EXPECT_EQ(pwritev2(fd_.get(), one, 1, 0, RWF_APPEND), 1);
  EXPECT_EQ(ReadFile(path_), "01234567890");
}

TEST_F(ReadWriteTest, TruncateShortensAndExtends) {
  ASSERT_OK(ftruncate(fd_.get(), 3));
  EXPECT_EQ(ReadFile(path_), "012");
  ASSERT_OK(truncate(path_.c_str(), 5));
  EXPECT_EQ(ReadFile(path_), std::string("012\0\0", 5));
  EXPECT_FAILS(ftruncate(fd_.get(), -1), EINVAL);
  EXPECT_FAILS(truncate(path_.c_str(), -1), EINVAL);
  EXPECT_FAILS(truncate(dir_.path().c_str(), 0), EISDIR);
  EXPECT_FAILS(truncate((dir_ / "none").c_str(), 0), ENOENT);
  Fd ro(open(path_.c_str(), O_RDONLY));
  EXPECT_FAILS(ftruncate(ro.get(), 0), EINVAL);
}

TEST_F(ReadWriteTest, FallocateExtendsAndPunches) {
  ASSERT_OK(fallocate(fd_.get(), 0, 0, 100));
  struct stat st;
  ASSERT_OK(fstat(fd_.get(), &st));
  EXPECT_EQ(st.st_size, 100);
  ASSERT_OK(fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3));
  EXPECT_EQ(ReadFile(path_).substr(0, 10), std::string("01\0\0\0" "56789", 10));
  EXPECT_FAILS(fallocate(fd_.get(), 0, -1, 5), EINVAL);
  EXPECT_FAILS(fallocate(fd_.get(), 0, 0, 0), EINVAL);
  EXPECT_FAILS(fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE, 0, 5), EOPNOTSUPP);
  Fd ro(open(path_.c_str(), O_RDONLY));
  EXPECT_FAILS(fallocate(ro.get(), 0, 0, 5), EBADF);
}

TEST_F(ReadWriteTest, FileSizeLimitSendsSigxfsz) {
  EXPECT_TRUE(Exited(InChild([&] {
    const struct { unsigned long cur, max; } lim = {8, ~0ul};
    CHECK_CHILD(syscall(SYS_setrlimit, 1 /* RLIMIT_FSIZE */, &lim) == 0);
    signal(SIGXFSZ, SIG_IGN);
    CHECK_CHILD(pwrite(fd_.get(), "abcd", 4, 6) == 2);
    CHECK_CHILD(pwrite(fd_.get(), "abcd", 4, 8) == -1 && errno == EFBIG);
    return 0;
  })));
}

TEST_F(ReadWriteTest, BigTransfersArriveWhole) {
  std::string big(3 << 20, 0);
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 7 + (i >> 12));
  EXPECT_EQ(pwrite(fd_.get(), big.data(), big.size(), 5), static_cast<ssize_t>(big.size()));
  std::string back(big.size(), 0);
  EXPECT_EQ(pread(fd_.get(), back.data(), back.size(), 5), static_cast<ssize_t>(back.size()));
  EXPECT_TRUE(big == back);
}

TEST(DevTest, NullZeroFullAndRandom) {
  char b[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  Fd null(open("/dev/null", O_RDWR)), zero(open("/dev/zero", O_RDWR)), full(open("/dev/full", O_RDWR));
  EXPECT_EQ(read(null.get(), b, 8), 0);
  EXPECT_EQ(write(null.get(), b, 8), 8);
  EXPECT_EQ(read(zero.get(), b, 8), 8);
  EXPECT_EQ(b[7], 0);
  EXPECT_FAILS(write(full.get(), b, 8), ENOSPC);
  Fd random(open("/dev/urandom", O_RDONLY));
  int bits = -1;
  EXPECT_OK(ioctl(random.get(), RNDGETENTCNT, &bits));
  EXPECT_GT(bits, 0);
  EXPECT_FAILS(ioctl(zero.get(), RNDGETENTCNT, &bits), ENOTTY);
  EXPECT_EQ(read(random.get(), b, 8), 8);
  EXPECT_EQ(syscall(SYS_getrandom, b, 8, 0), 8);
  EXPECT_FAILS(syscall(SYS_getrandom, b, 8, 0x100), EINVAL);
  EXPECT_FAILS(syscall(SYS_getrandom, BadAddress(), 8, 0), EFAULT);
}

TEST_F(ReadWriteTest, ASingleWriteMayIgnoreAppend) {
  constexpr int kNoAppend = 0x20;  // RWF_NOAPPEND
  TempDir dir;
  Fd fd(open(dir.File("f", "0123").c_str(), O_RDWR | O_APPEND));
  char text[] = "x";
  const iovec v = {text, 1}, none = {text, 0};
  EXPECT_EQ(pwritev2(fd.get(), &v, 1, 1, kNoAppend), 1);
  EXPECT_EQ(pwritev2(fd.get(), &v, 1, 1, 0), 1);
  EXPECT_EQ(ReadFile(dir / "f"), "0x23x");
  EXPECT_FAILS(pwritev2(fd.get(), &v, 1, 1, kNoAppend | RWF_APPEND), EINVAL);
  EXPECT_FAILS(pwritev2(fd.get(), &v, 1, 1, 0x1000), EOPNOTSUPP);
  EXPECT_EQ(pwritev2(fd.get(), &none, 1, 1, 0x1000), 0);  // no bytes, no look at the flags
}

// Often enough that systrap has patched the calls, whose pieces then come in several ways.
TEST_F(ReadWriteTest, PiecesOfAllSizesKeepTheirOrder) {
  const size_t kSizes[] = {1, 0, 4095, 4096, 4097, 100, 32767, 32768, 32769, 7, 65536, 65537, 3};
  std::string data;
  for (size_t i = 0; data.size() < 400'000; i++) data += std::to_string(i);
  for (size_t round = 0; round < 60; round++) {
    std::vector<iovec> out, in;
    size_t total = 0;
    const size_t count = 1 + round % 20;
    for (size_t i = 0; i < count; i++) {
      const size_t size = std::min(kSizes[(round + i) % std::size(kSizes)], data.size() - total);
      out.push_back({data.data() + total, size});
      total += size;
    }
    ASSERT_EQ(pwritev(fd_.get(), out.data(), static_cast<int>(count), 0),
              static_cast<ssize_t>(total));
    std::string back(total, '-');
    size_t at = 0;
    for (size_t i = 0; at < total; i++) {
      const size_t size = std::min(kSizes[(round + 2 * i + 1) % std::size(kSizes)], total - at);
      in.push_back({back.data() + at, size});
      at += size;
    }
    ASSERT_EQ(preadv(fd_.get(), in.data(), static_cast<int>(in.size()), 0),
              static_cast<ssize_t>(total));
    ASSERT_TRUE(back == data.substr(0, total)) << round;
  }
}

}  // namespace
}  // namespace ringwall::test
