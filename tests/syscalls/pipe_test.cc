// Pipes and FIFOs.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

TEST(PipeTest, BytesComeOutInOrder) {
  Pipe p;
  EXPECT_EQ(write(p.writer.get(), "abc", 3), 3);
  EXPECT_EQ(write(p.writer.get(), "def", 3), 3);
  char b[8];
  EXPECT_EQ(read(p.reader.get(), b, 4), 4);
  EXPECT_EQ(std::string(b, 4), "abcd");
  EXPECT_EQ(read(p.reader.get(), b, 8), 2);
}

TEST(PipeTest, FlagsApplyToBothEnds) {
  Pipe p(O_CLOEXEC | O_NONBLOCK);
  EXPECT_EQ(fcntl(p.reader.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(p.writer.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(p.reader.get(), F_GETFL), O_RDONLY | O_NONBLOCK);
  EXPECT_EQ(fcntl(p.writer.get(), F_GETFL), O_WRONLY | O_NONBLOCK);
  int fds[2];
  EXPECT_FAILS(pipe2(fds, O_CREAT), EINVAL);
}

TEST(PipeTest, BadAddressLeaksNoDescriptor) {
  const int before = CountOpenFds();
  EXPECT_FAILS(syscall(SYS_pipe2, BadAddress(), 0), EFAULT);
  EXPECT_FAILS(syscall(SYS_pipe, BadAddress()), EFAULT);
  EXPECT_EQ(CountOpenFds(), before);
}

TEST(PipeTest, EndOfFileWhenTheLastWriterGoes) {
  Pipe p;
  Fd second(dup(p.writer.get()));
  ASSERT_EQ(write(p.writer.get(), "x", 1), 1);
  p.writer.Reset();
  second.Reset();
  char c;
  EXPECT_EQ(read(p.reader.get(), &c, 1), 1);
  EXPECT_EQ(read(p.reader.get(), &c, 1), 0);
}

TEST(PipeTest, WriteWithoutReaderIsEpipeAndSigpipe) {
  Pipe p;
  p.reader.Reset();
  EXPECT_TRUE(KilledBy(InChild([&] {
    ssize_t n = write(p.writer.get(), "x", 1);
    return static_cast<int>(n);
  }), SIGPIPE));
  signal(SIGPIPE, SIG_IGN);
  EXPECT_FAILS(write(p.writer.get(), "x", 1), EPIPE);
  signal(SIGPIPE, SIG_DFL);
}

TEST(PipeTest, WrongEndIsEbadf) {
  Pipe p;
  char c = 0;
  EXPECT_FAILS(read(p.writer.get(), &c, 1), EBADF);
  EXPECT_FAILS(write(p.reader.get(), &c, 1), EBADF);
}

TEST(PipeTest, NonblockingFillsToItsCapacity) {
  Pipe p(O_NONBLOCK);
  char c;
  EXPECT_FAILS(read(p.reader.get(), &c, 1), EAGAIN);
  std::string chunk(4096, 'x');
  size_t total = 0;
  ssize_t n;
  while ((n = write(p.writer.get(), chunk.data(), chunk.size())) > 0) total += n;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(total, 65536u);
  EXPECT_EQ(fcntl(p.reader.get(), F_GETPIPE_SZ), 65536);
}

TEST(PipeTest, SizeCanBeChangedAndIsRoundedUp) {
  Pipe p;
  EXPECT_EQ(fcntl(p.writer.get(), F_SETPIPE_SZ, 5000), 8192);
  EXPECT_EQ(fcntl(p.writer.get(), F_GETPIPE_SZ), 8192);
  EXPECT_EQ(fcntl(p.writer.get(), F_SETPIPE_SZ, 1), 4096);
  std::string full(4096, 'x');
  ASSERT_EQ(fcntl(p.writer.get(), F_SETPIPE_SZ, 8192), 8192);
  ASSERT_EQ(write(p.writer.get(), full.data(), 4096), 4096);
  ASSERT_EQ(write(p.writer.get(), full.data(), 4096), 4096);
  EXPECT_FAILS(fcntl(p.writer.get(), F_SETPIPE_SZ, 4096), EBUSY);
}

TEST(PipeTest, FionreadCountsWhatWaits) {
  Pipe p;
  ASSERT_EQ(write(p.writer.get(), "hello", 5), 5);
  int n = -1;
  EXPECT_OK(ioctl(p.reader.get(), FIONREAD, &n));
  EXPECT_EQ(n, 5);
  EXPECT_FAILS(ioctl(p.reader.get(), FIONREAD, BadAddress()), EFAULT);
  EXPECT_FAILS(ioctl(p.reader.get(), 0x5401 /* TCGETS */, &n), ENOTTY);
}

TEST(PipeTest, SmallWritesAreWhole) {
  // Two writers of PIPE_BUF-sized records; each record must arrive unmixed.
  Pipe p;
  constexpr int kRecords = 200, kSize = 1000;
  auto writer = [&](char tag) {
    const std::string record(kSize, tag);
    for (int i = 0; i < kRecords; ++i) {
      if (write(p.writer.get(), record.data(), kSize) != kSize) abort();
    }
  };
  std::thread a(writer, 'a'), b(writer, 'b');
  std::string all;
  char chunk[kSize];
  while (all.size() < 2 * kRecords * kSize) {
    const ssize_t n = read(p.reader.get(), chunk, sizeof(chunk));
    ASSERT_GT(n, 0);
    all.append(chunk, n);
  }
  a.join();
  b.join();
  for (size_t i = 0; i < all.size(); i += kSize) {
    const size_t end = all.find_first_not_of(all[i], i);
    EXPECT_TRUE(end == std::string::npos || end % kSize == 0);
  }
}

TEST(PipeTest, BlockedReaderWakesOnWrite) {
  Pipe p;
  std::thread writer([&] { EXPECT_EQ(write(p.writer.get(), "z", 1), 1); });
  char c = 0;
  EXPECT_EQ(read(p.reader.get(), &c, 1), 1);
  EXPECT_EQ(c, 'z');
  writer.join();
}

TEST(PipeTest, BlockedBigWriteGoesThroughInParts) {
  Pipe p;
  constexpr size_t kSize = 1 << 20;
  std::thread writer([&] {
    const std::string big(kSize, 'w');
    EXPECT_EQ(write(p.writer.get(), big.data(), big.size()), static_cast<ssize_t>(kSize));
    p.writer.Reset();
  });
  size_t total = 0;
  char chunk[10000];
  ssize_t n;
  while ((n = read(p.reader.get(), chunk, sizeof(chunk))) > 0) total += n;
  EXPECT_EQ(total, kSize);
  writer.join();
}

TEST(PipeTest, PacketModeKeepsBorders) {
  Pipe p(O_DIRECT);
  ASSERT_TRUE(p.reader.ok());
  ASSERT_EQ(write(p.writer.get(), "one", 3), 3);
  ASSERT_EQ(write(p.writer.get(), "three", 5), 5);
  char b[10];
  EXPECT_EQ(read(p.reader.get(), b, 2), 2);  // the rest of the packet is dropped
  EXPECT_EQ(read(p.reader.get(), b, 10), 5);
}

TEST(PipeTest, PacketsAndStreamsMix) {
  Pipe p(O_NONBLOCK);
  ASSERT_EQ(write(p.writer.get(), "stream", 6), 6);
  ASSERT_OK(fcntl(p.writer.get(), F_SETFL, O_DIRECT | O_NONBLOCK));
  EXPECT_EQ(fcntl(p.writer.get(), F_GETFL), O_WRONLY | O_DIRECT | O_NONBLOCK);
  ASSERT_EQ(write(p.writer.get(), "packet", 6), 6);
  int n = 0;
  EXPECT_OK(ioctl(p.reader.get(), FIONREAD, &n));
  EXPECT_EQ(n, 12);
  char b[32];
  // It has gone to the stream's page.
  EXPECT_EQ(read(p.reader.get(), b, 10), 10);
  EXPECT_EQ(read(p.reader.get(), b, 10), 2);
  EXPECT_EQ(std::string(b, 2), "et");
  EXPECT_FAILS(read(p.reader.get(), b, 10), EAGAIN);
  EXPECT_EQ(write(p.writer.get(), "", 0), 0);
  EXPECT_FAILS(read(p.reader.get(), b, 10), EAGAIN);
  // A packet is at most PIPE_BUF long, and takes a page.
  const std::string big(10000, 'x');
  EXPECT_EQ(write(p.writer.get(), big.data(), big.size()), 10000);
  std::string got(20000, '\0');
  EXPECT_EQ(read(p.reader.get(), got.data(), got.size()), 4096);
  EXPECT_EQ(read(p.reader.get(), got.data(), got.size()), 4096);
  EXPECT_EQ(read(p.reader.get(), got.data(), got.size()), 1808);
  int packets = 0;
  while (write(p.writer.get(), "x", 1) == 1) packets++;
  EXPECT_EQ(packets, 16);
  pollfd w = {p.writer.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&w, 1, 0), 0);
  EXPECT_FAILS(fcntl(p.writer.get(), F_SETPIPE_SZ, 4096), EBUSY);
  EXPECT_EQ(read(p.reader.get(), b, 10), 1);
  EXPECT_EQ(poll(&w, 1, 0), 1);
}

TEST(PipeTest, OpensAgainThroughProc) {
  Pipe p;
  const std::string path = "/proc/self/fd/" + std::to_string(p.reader.get());
  // Neither end waits for the other.
  Fd writer(open(path.c_str(), O_WRONLY));
  ASSERT_TRUE(writer.ok());
  Fd reader(open(path.c_str(), O_RDONLY));
  ASSERT_TRUE(reader.ok());
  Fd both(open(path.c_str(), O_RDWR | O_NONBLOCK));
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(write(writer.get(), "a", 1), 1);
  EXPECT_EQ(write(both.get(), "b", 1), 1);
  char b[4];
  EXPECT_EQ(read(reader.get(), b, 4), 2);
  EXPECT_FAILS(read(both.get(), b, 4), EAGAIN);
  writer.Reset();
  p.writer.Reset();
  both.Reset();
  EXPECT_EQ(read(p.reader.get(), b, 4), 0);
  // With the last writer gone it can still be opened.
  Fd late(open(path.c_str(), O_WRONLY));
  EXPECT_TRUE(late.ok());
  EXPECT_EQ(write(late.get(), "z", 1), 1);
  EXPECT_EQ(read(reader.get(), b, 4), 1);
}

TEST(PipeTest, SizeLimits) {
  Pipe p;
  EXPECT_EQ(fcntl(p.reader.get(), F_SETPIPE_SZ, 0), 4096);
  EXPECT_EQ(fcntl(p.reader.get(), F_SETPIPE_SZ, 1 << 20), 1 << 20);
  EXPECT_FAILS(fcntl(p.reader.get(), F_SETPIPE_SZ, 0x80000001u), EINVAL);
  EXPECT_FAILS(fcntl(p.reader.get(), F_SETPIPE_SZ, -1), EINVAL);
  Fd file(open("/dev/null", O_RDWR));
  EXPECT_FAILS(fcntl(file.get(), F_GETPIPE_SZ), EBADF);
  EXPECT_FAILS(fcntl(file.get(), F_SETPIPE_SZ, 4096), EBADF);
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    Pipe own;
    CHECK_CHILD(fcntl(own.reader.get(), F_SETPIPE_SZ, (1 << 20) + 1) == -1 && errno == EPERM);
    CHECK_CHILD(fcntl(own.reader.get(), F_SETPIPE_SZ, 1 << 20) == 1 << 20);
    return 0;
  })));
}

TEST(PipeTest, PollSeesEnds) {
  Pipe p;
  pollfd r = {p.reader.get(), POLLIN | POLLOUT, 0}, w = {p.writer.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&r, 1, 0), 0);
  EXPECT_EQ(poll(&w, 1, 0), 1);
  EXPECT_EQ(w.revents, POLLOUT);
  ASSERT_EQ(write(p.writer.get(), "x", 1), 1);
  EXPECT_EQ(poll(&r, 1, 0), 1);
  EXPECT_EQ(r.revents, POLLIN);
  p.writer.Reset();
  EXPECT_EQ(poll(&r, 1, 0), 1);
  EXPECT_EQ(r.revents, POLLIN | POLLHUP);
  char c;
  EXPECT_EQ(read(p.reader.get(), &c, 1), 1);
  EXPECT_EQ(poll(&r, 1, 0), 1);
  EXPECT_EQ(r.revents, POLLHUP);
  Pipe q;
  q.reader.Reset();
  w = {q.writer.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&w, 1, 0), 1);
  EXPECT_EQ(w.revents, POLLOUT | POLLERR);
}

TEST(PipeTest, SeekAndPositionsAreEspipe) {
  Pipe p;
  char c;
  EXPECT_FAILS(lseek(p.reader.get(), 0, SEEK_CUR), ESPIPE);
  EXPECT_FAILS(pread(p.reader.get(), &c, 1, 0), ESPIPE);
  EXPECT_FAILS(pwrite(p.writer.get(), &c, 1, 0), ESPIPE);
  EXPECT_FAILS(ftruncate(p.writer.get(), 0), EINVAL);
  EXPECT_FAILS(fsync(p.writer.get()), EINVAL);
}

TEST(FifoTest, WriterThatWasThereFirstHangsUp) {
  TempDir dir;
  const std::string path = dir / "fifo";
  ASSERT_OK(mkfifo(path.c_str(), 0600));
  Fd keep(open(path.c_str(), O_RDWR));
  Fd r(open(path.c_str(), O_RDONLY));
  pollfd in = {r.get(), POLLIN, 0};
  EXPECT_EQ(poll(&in, 1, 0), 0);
  keep.Reset();
  EXPECT_EQ(poll(&in, 1, 0), 1);
  EXPECT_EQ(in.revents, POLLHUP);
  // One that never had a writer does not.
  Fd fresh(open(path.c_str(), O_RDONLY | O_NONBLOCK));
  in.fd = fresh.get();
  EXPECT_EQ(poll(&in, 1, 0), 0);
}

TEST(PipeTest, StatSaysFifo) {
  Pipe p;
  struct stat st;
  ASSERT_OK(fstat(p.reader.get(), &st));
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST(FifoTest, OpenersMeet) {
  TempDir dir;
  const std::string path = dir / "fifo";
  ASSERT_OK(mkfifo(path.c_str(), 0600));
  EXPECT_FAILS(open(path.c_str(), O_WRONLY | O_NONBLOCK), ENXIO);
  std::thread writer([&] {
    Fd w(open(path.c_str(), O_WRONLY));
    EXPECT_EQ(write(w.get(), "hi", 2), 2);
  });
  Fd r(open(path.c_str(), O_RDONLY));
  char b[4];
  EXPECT_EQ(read(r.get(), b, 4), 2);
  writer.join();
  EXPECT_EQ(read(r.get(), b, 4), 0);
}

TEST(FifoTest, NonblockingReaderNeedsNoWriter) {
  TempDir dir;
  const std::string path = dir / "fifo";
  ASSERT_OK(mkfifo(path.c_str(), 0600));
  Fd r(open(path.c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_TRUE(r.ok());
  char c;
  EXPECT_EQ(read(r.get(), &c, 1), 0);
  Fd w(open(path.c_str(), O_WRONLY | O_NONBLOCK));
  ASSERT_TRUE(w.ok());
  EXPECT_FAILS(read(r.get(), &c, 1), EAGAIN);
}

TEST(SpliceTest, MovesBetweenFileAndPipe) {
  TempDir dir;
  Fd in(open(dir.File("in", "splice me").c_str(), O_RDONLY));
  Fd out(open((dir / "out").c_str(), O_CREAT | O_RDWR, 0600));
  Pipe p;
  loff_t from = 7;
  EXPECT_EQ(splice(in.get(), &from, p.writer.get(), nullptr, 100, 0), 2);
  EXPECT_EQ(from, 9);
  EXPECT_EQ(splice(p.reader.get(), nullptr, out.get(), nullptr, 100, 0), 2);
  EXPECT_EQ(ReadFile(dir / "out"), "me");
  EXPECT_FAILS(splice(in.get(), nullptr, out.get(), nullptr, 1, 0), EINVAL);
  EXPECT_FAILS(splice(in.get(), nullptr, p.writer.get(), &from, 1, 0), ESPIPE);
}

TEST(SpliceTest, TeeDuplicatesWithoutConsuming) {
  Pipe a(O_NONBLOCK), b(O_NONBLOCK);
  ASSERT_EQ(write(a.writer.get(), "tee", 3), 3);
  EXPECT_EQ(tee(a.reader.get(), b.writer.get(), 10, 0), 3);
  char x[4], y[4];
  EXPECT_EQ(read(a.reader.get(), x, 4), 3);
  EXPECT_EQ(read(b.reader.get(), y, 4), 3);
  EXPECT_EQ(memcmp(x, y, 3), 0);
}

TEST(SpliceTest, VmspliceTakesUserMemory) {
  Pipe p;
  char text[] = "vm";
  iovec v = {text, 2};
  EXPECT_EQ(vmsplice(p.writer.get(), &v, 1, 0), 2);
  char b[4];
  EXPECT_EQ(read(p.reader.get(), b, 4), 2);
}

TEST(SpliceTest, SendfileAndCopyFileRange) {
  TempDir dir;
  Fd in(open(dir.File("in", "0123456789").c_str(), O_RDONLY));
  Fd out(open((dir / "out").c_str(), O_CREAT | O_RDWR, 0600));
  off_t at = 2;
  EXPECT_EQ(syscall(SYS_sendfile, out.get(), in.get(), &at, 3), 3);
  EXPECT_EQ(at, 5);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 0);
  EXPECT_EQ(syscall(SYS_sendfile, out.get(), in.get(), nullptr, 2), 2);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 2);
  EXPECT_EQ(ReadFile(dir / "out"), "23401");
  loff_t a = 5, b = 0;
  EXPECT_EQ(copy_file_range(in.get(), &a, out.get(), &b, 100, 0), 5);
  EXPECT_EQ(ReadFile(dir / "out"), "56789");
  EXPECT_FAILS(copy_file_range(in.get(), &a, out.get(), &b, 1, 1), EINVAL);
  Pipe p;
  EXPECT_FAILS(copy_file_range(in.get(), nullptr, p.writer.get(), nullptr, 1, 0), EINVAL);
  Fd ro(open((dir / "out").c_str(), O_RDONLY));
  EXPECT_FAILS(syscall(SYS_sendfile, ro.get(), in.get(), nullptr, 1), EBADF);
}

// A pipe counts pages: writes whose odd part does not fit behind the last one begin a new page.
TEST(PipeTest, PagesCountNotBytes) {
  Pipe p(O_NONBLOCK);
  const std::string piece(3000, 'x');
  int written = 0;
  while (write(p.writer.get(), piece.data(), piece.size()) > 0) written++;
  EXPECT_EQ(written, 16);
  pollfd out = {p.writer.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&out, 1, 0), 0);
  // What fits behind the last one is still taken.
  EXPECT_EQ(write(p.writer.get(), piece.data(), 1000), 1000);
  EXPECT_FAILS(write(p.writer.get(), piece.data(), 97), EAGAIN);
  EXPECT_EQ(write(p.writer.get(), piece.data(), 96), 96);
  // A page is free when all of it has been read.
  std::string buffer(8192, ' ');
  EXPECT_EQ(read(p.reader.get(), buffer.data(), 2999), 2999);
  EXPECT_EQ(poll(&out, 1, 0), 0);
  EXPECT_FAILS(write(p.writer.get(), piece.data(), 1), EAGAIN);
  EXPECT_EQ(read(p.reader.get(), buffer.data(), 1), 1);
  EXPECT_EQ(poll(&out, 1, 0), 1);
  EXPECT_EQ(write(p.writer.get(), piece.data(), 1), 1);
  // More than a page goes in by pages.
  EXPECT_EQ(read(p.reader.get(), buffer.data(), 6000), 6000);
  EXPECT_EQ(write(p.writer.get(), std::string(12000, 'y').data(), 12000), 12000 / 4096 * 4096);
}

TEST(PipeTest, FullPagesDecideWhatAPipeMayShrinkTo) {
  Pipe p(O_NONBLOCK);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(write(p.writer.get(), std::string(3000, 'x').data(), 3000), 3000);
  EXPECT_FAILS(fcntl(p.writer.get(), F_SETPIPE_SZ, 8192), EBUSY);
  EXPECT_EQ(fcntl(p.writer.get(), F_SETPIPE_SZ, 16384), 16384);
  std::string buffer(20000, ' ');
  EXPECT_EQ(read(p.reader.get(), buffer.data(), buffer.size()), 9000);
}

}  // namespace
}  // namespace ringwall::test
