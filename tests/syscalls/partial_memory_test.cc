// Buffers that end in memory which is not there: what arrives, what is answered, and what is left.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <termios.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr size_t kPage = 4096;

// 16 pages, and nothing behind them.
class Border {
 public:
  explicit Border(int behind = PROT_NONE) {
    base_ = static_cast<char*>(mmap(nullptr, kSize + kPage, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    memset(base_, 'x', kSize);
    mprotect(base_ + kSize, kPage, behind);
  }
  ~Border() { munmap(base_, kSize + kPage); }
  Border(const Border&) = delete;
  Border& operator=(const Border&) = delete;
  // Where a buffer of `good` bytes ends in nothing.
  char* At(size_t good) const { return base_ + kSize - good; }

 private:
  static constexpr size_t kSize = 16 * kPage;
  char* base_;
};

std::string Text(size_t size) {
  std::string s(size, ' ');
  for (size_t i = 0; i < size; ++i) s[i] = static_cast<char>('a' + i % 26);
  return s;
}

// What a descriptor still gives without waiting.
size_t Left(int fd) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  std::string buffer(1 << 20, ' ');
  size_t total = 0;
  for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) > 0;) total += static_cast<size_t>(n);
  return total;
}

struct Ends {
  Fd reader, writer;
};

Ends UnixStream() {
  int fds[2] = {-1, -1};
  EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
  return {Fd(fds[0]), Fd(fds[1])};
}

Ends Tcp() {
  Ends ends;
  const Fd listener(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in a = {};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(a);
  EXPECT_OK(bind(listener.get(), reinterpret_cast<sockaddr*>(&a), size));
  EXPECT_OK(listen(listener.get(), 1));
  EXPECT_OK(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&a), &size));
  ends.writer.Reset(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_OK(connect(ends.writer.get(), reinterpret_cast<sockaddr*>(&a), size));
  ends.reader.Reset(accept(listener.get(), nullptr, nullptr));
  return ends;
}

void AwaitInput(int fd) {
  pollfd p = {fd, POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 10000), 1);
}

constexpr size_t kSizes[] = {8, 100, kPage, 3 * kPage, 40000};

TEST(PartialMemoryTest, AFileGivesWhatFits) {
  const TempDir dir;
  const Border border;
  const std::string path = dir.File("f", Text(50000));
  for (const char* name : {path.c_str(), "/dev/zero", "/proc/self/status"}) {
    const Fd fd(open(name, O_RDONLY));
    const std::string there = ReadFile("/proc/self/status");
    for (const size_t size : kSizes) {
      if (name[1] == 'p' && size > there.size() / 2) continue;
      for (const size_t good : {size_t{1}, size / 2, size - 1}) {
        SCOPED_TRACE(std::string(name) + " " + std::to_string(size) + " " + std::to_string(good));
        ASSERT_EQ(lseek(fd.get(), 0, SEEK_SET), 0);
        EXPECT_EQ(read(fd.get(), border.At(good), size), static_cast<ssize_t>(good));
        const off_t pos = name[1] == 'd' ? 0 : static_cast<off_t>(good);
        EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), pos);
        EXPECT_EQ(pread(fd.get(), border.At(good), size, 3), static_cast<ssize_t>(good));
        const iovec v[2] = {{border.At(good), good}, {border.At(0), size - good}};
        EXPECT_EQ(preadv(fd.get(), v, 2, 3), static_cast<ssize_t>(good));
      }
      ASSERT_EQ(lseek(fd.get(), 0, SEEK_SET), 0);
      EXPECT_FAILS(read(fd.get(), border.At(0), size), EFAULT);
      EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 0);
    }
  }
}

TEST(PartialMemoryTest, AReadIntoReadOnlyMemoryStopsThereToo) {
  const TempDir dir;
  const Border border(PROT_READ);
  const Fd fd(open(dir.File("f", Text(50000)).c_str(), O_RDONLY));
  EXPECT_EQ(read(fd.get(), border.At(10), 20), 10);
  EXPECT_EQ(std::string(border.At(10), 10), Text(10));
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 10);
}

TEST(PartialMemoryTest, AFileTakesWhatIsThere) {
  const TempDir dir;
  const Border border;
  for (const size_t size : kSizes) {
    for (const size_t good : {size_t{1}, size / 2, size - 1}) {
      const Fd fd(open(dir.File("w", "").c_str(), O_RDWR | O_TRUNC));
      EXPECT_EQ(write(fd.get(), border.At(good), size), static_cast<ssize_t>(good));
      EXPECT_EQ(lseek(fd.get(), 0, SEEK_END), static_cast<off_t>(good));
    }
  }
}

TEST(PartialMemoryTest, APageOfAPipeThatDoesNotArriveStays) {
  const Border border;
  for (const size_t size : kSizes) {
    for (const size_t good : {size_t{0}, size_t{1}, size / 2, size - 1}) {
      SCOPED_TRACE(std::to_string(size) + " " + std::to_string(good));
      Pipe p(O_NONBLOCK);
      ASSERT_EQ(write(p.writer.get(), Text(size).data(), size), static_cast<ssize_t>(size));
      const size_t whole = good / kPage * kPage;
      if (whole == 0) {
        EXPECT_FAILS(read(p.reader.get(), border.At(good), size), EFAULT);
      } else {
        EXPECT_EQ(read(p.reader.get(), border.At(good), size), static_cast<ssize_t>(whole));
      }
      EXPECT_EQ(Left(p.reader.get()), size - whole);
      if (whole == 0) {
        EXPECT_FAILS(write(p.writer.get(), border.At(good), size), EFAULT);
      } else {
        EXPECT_EQ(write(p.writer.get(), border.At(good), size), static_cast<ssize_t>(whole));
      }
      EXPECT_EQ(Left(p.reader.get()), whole);
    }
  }
}

class StreamMemoryTest : public ::testing::TestWithParam<Ends (*)()> {};

TEST_P(StreamMemoryTest, APieceMovesWholeOrNotAtAll) {
  const Border border;
  const Ends ends = GetParam()();
  for (const size_t size : {size_t{8}, size_t{100}, kPage, 3 * kPage}) {
    for (const size_t good : {size_t{0}, size_t{1}, size / 2, size - 1}) {
      SCOPED_TRACE(std::to_string(size) + " " + std::to_string(good));
      EXPECT_FAILS(send(ends.writer.get(), border.At(good), size, 0), EFAULT);
      iovec v[2] = {{border.At(good), good}, {border.At(0), size - good}};
      EXPECT_FAILS(writev(ends.writer.get(), v, 2), EFAULT);
      EXPECT_FAILS(recv(ends.reader.get(), v, sizeof(v), MSG_DONTWAIT), EAGAIN);
      ASSERT_EQ(write(ends.writer.get(), Text(size).data(), size), static_cast<ssize_t>(size));
      AwaitInput(ends.reader.get());
      EXPECT_FAILS(read(ends.reader.get(), border.At(good), size), EFAULT);
      EXPECT_FAILS(readv(ends.reader.get(), v, 2), EFAULT);
      EXPECT_FAILS(recv(ends.reader.get(), border.At(good), size, MSG_PEEK), EFAULT);
      EXPECT_EQ(read(ends.reader.get(), border.At(0), 0), 0);
      EXPECT_EQ(recv(ends.reader.get(), border.At(0), 0, MSG_PEEK), 0);
      std::string got(size, ' ');
      EXPECT_EQ(recv(ends.reader.get(), got.data(), size, MSG_WAITALL), static_cast<ssize_t>(size));
      EXPECT_EQ(got, Text(size));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, StreamMemoryTest, ::testing::Values(&UnixStream, &Tcp));

TEST(PartialMemoryTest, ACounterIsGoneWithItsRecord) {
  const Border border;
  const Fd fd(eventfd(7, EFD_NONBLOCK));
  EXPECT_FAILS(read(fd.get(), border.At(4), 8), EFAULT);
  EXPECT_EQ(Left(fd.get()), 0u);
  EXPECT_FAILS(write(fd.get(), border.At(4), 8), EFAULT);
  EXPECT_EQ(Left(fd.get()), 0u);
}

TEST(PartialMemoryTest, EventsOfAReadThatFailsAreLost) {
  const TempDir dir;
  const Border border;
  const Fd fd(inotify_init1(IN_NONBLOCK));
  ASSERT_GE(inotify_add_watch(fd.get(), dir.path().c_str(), IN_CREATE), 0);
  for (const char* name : {"a", "b", "c"}) dir.File(name, "");
  // The second of three events of 32 bytes has no room: the first is not told of either.
  EXPECT_FAILS(read(fd.get(), border.At(40), 200), EFAULT);
  EXPECT_EQ(Left(fd.get()), 32u);
}

TEST(PartialMemoryTest, ASignalOfAReadThatFailsIsLost) {
  const Border border;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  ASSERT_OK(sigprocmask(SIG_BLOCK, &set, nullptr));
  const Fd fd(signalfd(-1, &set, SFD_NONBLOCK));
  raise(SIGUSR1);
  EXPECT_FAILS(read(fd.get(), border.At(100), sizeof(signalfd_siginfo)), EFAULT);
  EXPECT_EQ(Left(fd.get()), 0u);
  raise(SIGUSR1);
  raise(SIGUSR2);
  EXPECT_EQ(read(fd.get(), border.At(200), 2 * sizeof(signalfd_siginfo)),
            static_cast<ssize_t>(sizeof(signalfd_siginfo)));
  ASSERT_OK(sigprocmask(SIG_UNBLOCK, &set, nullptr));
}

TEST(PartialMemoryTest, ATerminalLosesThePieceThatFaulted) {
  const Border border;
  int master = -1, slave = -1;
  ASSERT_OK(openpty(&master, &slave, nullptr, nullptr, nullptr));
  const Fd m(master), s(slave);
  termios t;
  ASSERT_OK(tcgetattr(slave, &t));
  cfmakeraw(&t);
  ASSERT_OK(tcsetattr(slave, TCSANOW, &t));
  for (const auto& [from, to] : {std::pair(master, slave), std::pair(slave, master)}) {
    ASSERT_EQ(write(from, Text(100).data(), 100), 100);
    AwaitInput(to);
    EXPECT_EQ(read(to, border.At(10), 100), 10);
    EXPECT_EQ(Left(to), 36u);
    EXPECT_FAILS(write(from, border.At(10), 100), EFAULT);
    EXPECT_EQ(Left(to), 0u);
  }
}

TEST(PartialMemoryTest, NamesWithoutRoomComeNextTime) {
  const TempDir dir;
  const Border border;
  for (const char* name : {"a", "b", "c"}) dir.File(name, "");
  const Fd fd(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  // Five records of 24 bytes.
  EXPECT_FAILS(syscall(SYS_getdents64, fd.get(), border.At(10), 4096), EFAULT);
  EXPECT_EQ(syscall(SYS_getdents64, fd.get(), border.At(60), 4096), 48);
  char buffer[4096];
  EXPECT_EQ(syscall(SYS_getdents64, fd.get(), buffer, sizeof(buffer)), 72);
}

TEST(PartialMemoryTest, EventsWithoutRoomStayReady) {
  const Border border;
  const Fd epoll(epoll_create1(0));
  const Fd counter(eventfd(1, 0));
  std::vector<Fd> copies;
  for (uint64_t i = 0; i < 5; ++i) {
    copies.emplace_back(dup(counter.get()));
    epoll_event e = {EPOLLIN | EPOLLET, {.u64 = i}};
    ASSERT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, copies.back().get(), &e));
  }
  EXPECT_FAILS(epoll_wait(epoll.get(), reinterpret_cast<epoll_event*>(border.At(0)), 5, 0), EFAULT);
  EXPECT_EQ(epoll_wait(epoll.get(), reinterpret_cast<epoll_event*>(border.At(30)), 5, 0), 2);
  epoll_event events[8];
  EXPECT_EQ(epoll_wait(epoll.get(), events, 8, 0), 3);
}

}  // namespace
}  // namespace ringwall::test
