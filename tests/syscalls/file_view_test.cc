// Files read so often that a sandbox may answer from views of them: reads must go on as they began,
// whatever happens to file, descriptor, memory and process in between.
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <atomic>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr size_t kSize = 300 << 10;  // not a multiple of a page, below
constexpr size_t kOdd = kSize + 1234;
constexpr int kOften = 600;  // so many reads make a file hot

std::string Pattern(size_t size, uint32_t seed) {
  std::string s(size, 0);
  for (size_t i = 0; i < size; ++i) {
    seed = seed * 1664525 + 1013904223;
    s[i] = static_cast<char>(seed >> 24);
  }
  return s;
}

// Reads at one place until the file is hot; whether all was right.
bool Heat(int fd, const std::string& content, size_t size = 8192, int times = kOften) {
  std::string b(size, 0);
  for (int i = 0; i < times; ++i) {
    const size_t at = static_cast<size_t>(i) % 64 * 4096 % (content.size() - size + 1);
    if (pread(fd, b.data(), size, static_cast<off_t>(at)) != static_cast<ssize_t>(size)) return false;
    if (content.compare(at, size, b) != 0) return false;
  }
  return true;
}

class FileViewTest : public ::testing::Test {
 protected:
  std::string content_ = Pattern(kOdd, 1);
  TempDir dir_;
  std::string path_ = dir_.File("f", content_);
  Fd fd_{open(path_.c_str(), O_RDWR)};
};

TEST_F(FileViewTest, EveryPlaceAndLength) {
  ASSERT_TRUE(Heat(fd_.get(), content_));
  std::string b(kOdd + 100, 0);
  for (size_t at : {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, kSize - 1, kSize, kOdd - 1}) {
    for (size_t n : {size_t{1}, size_t{4096}, size_t{65536}, size_t{70001}, kOdd + 100}) {
      const size_t want = std::min(n, kOdd - at);
      ASSERT_EQ(pread(fd_.get(), b.data(), n, static_cast<off_t>(at)), static_cast<ssize_t>(want)) << at << " " << n;
      ASSERT_EQ(content_.compare(at, want, b, 0, want), 0) << at << " " << n;
    }
  }
  EXPECT_EQ(pread(fd_.get(), b.data(), 1, kOdd), 0);
  EXPECT_EQ(pread(fd_.get(), b.data(), 1, kOdd + 100000), 0);
  EXPECT_EQ(pread(fd_.get(), b.data(), 0, 0), 0);
}

TEST_F(FileViewTest, AFileOfTheHost) {
  Fd fd(open("/proc/self/exe", O_RDONLY));
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  const auto size = static_cast<size_t>(st.st_size);
  auto* map = static_cast<char*>(mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0));
  ASSERT_NE(map, MAP_FAILED);
  std::string b(65536, 0);
  for (int i = 0; i < kOften; ++i) {
    const size_t at = static_cast<size_t>(i) * 40961 % size;
    const size_t want = std::min(b.size(), size - at);
    ASSERT_EQ(pread(fd.get(), b.data(), b.size(), static_cast<off_t>(at)), static_cast<ssize_t>(want));
    ASSERT_EQ(memcmp(b.data(), map + at, want), 0);
  }
  EXPECT_EQ(pread(fd.get(), b.data(), b.size(), st.st_size - 10), 10);
  EXPECT_EQ(pread(fd.get(), b.data(), b.size(), st.st_size), 0);
  munmap(map, size);
}

TEST_F(FileViewTest, ReadAndReadvMoveTheOffset) {
  ASSERT_TRUE(Heat(fd_.get(), content_));
  std::string got, b(5000, 0);
  for (ssize_t n; (n = read(fd_.get(), b.data(), b.size())) > 0;) got.append(b, 0, static_cast<size_t>(n));
  EXPECT_EQ(got, content_);
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_CUR), static_cast<off_t>(kOdd));
  std::string c(3000, 0);
  iovec iov[] = {{b.data(), b.size()}, {c.data(), c.size()}};
  EXPECT_EQ(preadv(fd_.get(), iov, 2, 77), 8000);
  EXPECT_EQ(b + c, content_.substr(77, 8000));
  EXPECT_EQ(preadv(fd_.get(), iov, 1, 77), 5000);
}

TEST_F(FileViewTest, WritesAndTruncationsAreSeenAtOnce) {
  ASSERT_TRUE(Heat(fd_.get(), content_));
  std::string b(kOdd, 0);
  for (int i = 0; i < 20; ++i) {
    const char c = static_cast<char>('a' + i);
    ASSERT_EQ(pwrite(fd_.get(), &c, 1, i * 5000), 1);
    ASSERT_EQ(pread(fd_.get(), b.data(), 4, i * 5000), 4);
    ASSERT_EQ(b[0], c);
  }
  ASSERT_OK(ftruncate(fd_.get(), 10001));
  ASSERT_EQ(pread(fd_.get(), b.data(), 8192, 8192), 10001 - 8192);
  ASSERT_EQ(pread(fd_.get(), b.data(), 8192, 65536), 0);
  ASSERT_OK(ftruncate(fd_.get(), 200000));
  ASSERT_EQ(pread(fd_.get(), b.data(), 8192, 10000), 8192);
  ASSERT_EQ(b.substr(1, 8191), std::string(8191, 0));
  ASSERT_EQ(pwrite(fd_.get(), "end", 3, 500000), 3);
  ASSERT_EQ(pread(fd_.get(), b.data(), 100, 499990), 13);
  ASSERT_EQ(b.substr(10, 3), "end");
}

TEST_F(FileViewTest, ThreadsThatWriteAndTruncateMeanwhile) {
  ASSERT_TRUE(Heat(fd_.get(), content_));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) {
      ftruncate(fd_.get(), 4096);
      pwrite(fd_.get(), content_.data(), content_.size(), 0);
    }
  });
  std::string b(65536, 0);
  int wrong = 0;
  for (int i = 0; i < 400; ++i) {
    const size_t at = static_cast<size_t>(i) % 4 * 65536;
    const ssize_t n = pread(fd_.get(), b.data(), b.size(), static_cast<off_t>(at));
    wrong += n < 0 || n > 65536;
    // What is there is the file's, or not yet written again.
    for (ssize_t k = 0; k < n; k += 509) {
      const char c = b[static_cast<size_t>(k)];
      wrong += c != 0 && c != content_[at + static_cast<size_t>(k)];
    }
  }
  stop = true;
  writer.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(FileViewTest, DescriptorsComeAndGo) {
  ASSERT_TRUE(Heat(fd_.get(), content_));
  Fd copy(dup(fd_.get()));
  ASSERT_TRUE(Heat(copy.get(), content_));
  close(fd_.Release());
  ASSERT_TRUE(Heat(copy.get(), content_));
  // Another file under the same number.
  const std::string other = Pattern(kOdd, 2);
  Fd fresh(open(dir_.File("g", other).c_str(), O_RDONLY));
  ASSERT_OK(dup2(fresh.get(), copy.get()));
  EXPECT_TRUE(Heat(copy.get(), other));
  EXPECT_TRUE(Heat(fresh.get(), other));
}

TEST_F(FileViewTest, ForkAndExecGoOnReading) {
  ASSERT_TRUE(Heat(fd_.get(), content_));
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(Heat(fd_.get(), content_));
    close(fd_.get());
    return 0;
  }), 0));
  EXPECT_TRUE(Heat(fd_.get(), content_));
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(Heat(fd_.get(), content_));
    // A descriptor stays open over exec, of a file whose views are not the new program's.
    dup2(open("/dev/null", O_WRONLY), 1);
    execl("/proc/self/exe", "again", "--gtest_filter=*AFileOfTheHost", nullptr);
    return 1;
  }), 0));
  EXPECT_TRUE(Heat(fd_.get(), content_));
}

TEST_F(FileViewTest, MoreFilesThanViews) {
  constexpr int kFiles = 20;
  std::vector<std::string> contents;
  std::vector<Fd> fds;
  for (int i = 0; i < kFiles; ++i) {
    contents.push_back(Pattern(100000, 100 + static_cast<uint32_t>(i)));
    fds.emplace_back(open(dir_.File("n" + std::to_string(i), contents.back()).c_str(), O_RDONLY));
  }
  for (int round = 0; round < 30; ++round) {
    for (size_t i = 0; i < kFiles; ++i) ASSERT_TRUE(Heat(fds[i].get(), contents[i], 16384, 12)) << i;
  }
}

TEST_F(FileViewTest, ThreadsThatOpenAndCloseTheirOwn) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (uint32_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      const std::string content = Pattern(200000, 50 + t);
      const std::string path = dir_.File("t" + std::to_string(t), content);
      for (int i = 0; i < 6; ++i) {
        Fd fd(open(path.c_str(), O_RDONLY));
        if (!Heat(fd.get(), content, 32768, 100)) ++wrong;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

// One thread reads while another closes the descriptor and opens something else: each read is whole and
// of one of the two, or EBADF.
TEST_F(FileViewTest, ClosedWhileItIsRead) {
  const std::string other = Pattern(kOdd, 7);
  const std::string second = dir_.File("g", other);
  const int fd = fd_.get();
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread reader([&] {
    std::string b(32768, 0);
    while (!stop) {
      const ssize_t n = pread(fd, b.data(), b.size(), 4096);
      if (n == -1 && errno == EBADF) continue;
      if (n != 32768 || (content_.compare(4096, 32768, b) != 0 && other.compare(4096, 32768, b) != 0)) ++wrong;
    }
  });
  for (int i = 0; i < 40; ++i) {
    Fd next(open((i % 2 == 0 ? second : path_).c_str(), O_RDONLY));
    Heat(next.get(), i % 2 == 0 ? other : content_, 32768, 40);
    ASSERT_OK(dup2(next.get(), fd));
    Heat(fd, i % 2 == 0 ? other : content_, 32768, 40);
  }
  stop = true;
  reader.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(FileViewTest, MemoryThatIsNotThere) {
  ASSERT_TRUE(Heat(fd_.get(), content_));
  EXPECT_FAILS(pread(fd_.get(), reinterpret_cast<void*>(8), 4096, 0), EFAULT);
  auto* m = static_cast<char*>(mmap(nullptr, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(m, MAP_FAILED);
  ASSERT_OK(mprotect(m + 8192, 8192, PROT_READ));
  EXPECT_EQ(pread(fd_.get(), m, 4 * 4096, 0), 8192);
  EXPECT_EQ(memcmp(m, content_.data(), 8192), 0);
  EXPECT_FAILS(pread(fd_.get(), m + 8192, 4096, 0), EFAULT);
  munmap(m, 4 * 4096);
  // Mapped for writing, but beyond the end of its file: the copy itself fails.
  Fd small(open(dir_.File("s", std::string(4096, 's')).c_str(), O_RDWR));
  m = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, small.get(), 0));
  ASSERT_NE(m, MAP_FAILED);
  EXPECT_EQ(pread(fd_.get(), m, 8192, 100), 4096);
  EXPECT_EQ(memcmp(m, content_.data() + 100, 4096), 0);
  EXPECT_FAILS(pread(fd_.get(), m + 4096, 4096, 0), EFAULT);
  munmap(m, 8192);
}

TEST_F(FileViewTest, SignalsInBetween) {
  static std::atomic<int> ticks;
  ticks = 0;
  struct sigaction sa = {}, old;
  sa.sa_handler = [](int) { ++ticks; };
  sa.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &sa, &old);
  const itimerval often = {{0, 300}, {0, 300}}, off = {};
  setitimer(ITIMER_REAL, &often, nullptr);
  bool right = true;
  while (ticks < 50 && right) right = Heat(fd_.get(), content_, 65536, 20);
  setitimer(ITIMER_REAL, &off, nullptr);
  sigaction(SIGALRM, &old, nullptr);
  EXPECT_TRUE(right);
}

TEST_F(FileViewTest, ASparseFileBeyondTheFirstMebibytes) {
  Fd fd(open((dir_ / "sparse").c_str(), O_RDWR | O_CREAT, 0600));
  constexpr off_t kFar = off_t{130} << 20;
  ASSERT_EQ(pwrite(fd.get(), content_.data(), content_.size(), kFar), static_cast<ssize_t>(content_.size()));
  std::string b(65536, 0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(pread(fd.get(), b.data(), b.size(), kFar), 65536);
    ASSERT_EQ(content_.compare(0, b.size(), b), 0);
    ASSERT_EQ(pread(fd.get(), b.data(), b.size(), kFar - 1000), 65536);
    ASSERT_EQ(content_.compare(0, b.size() - 1000, b, 1000), 0);
    ASSERT_EQ(pread(fd.get(), b.data(), b.size(), (off_t{64} << 20) - 5), 65536);
    ASSERT_EQ(b, std::string(65536, 0));
  }
}

}  // namespace
}  // namespace ringwall::test
