// splice, tee, vmsplice, sendfile and copy_file_range.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

std::string ReadAll(int fd, size_t most) {
  std::string s(most, '\0');
  const ssize_t n = read(fd, s.data(), most);
  s.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return s;
}

struct SocketPair {
  SocketPair() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0) {
      a.Reset(fds[0]);
      b.Reset(fds[1]);
    }
  }
  Fd a, b;
};

TEST(SpliceTest, ChecksItsArguments) {
  TempDir dir;
  Fd file(open(dir.File("f", "text").c_str(), O_RDWR));
  Pipe p;
  loff_t at = 0;
  EXPECT_EQ(splice(-1, nullptr, -1, nullptr, 0, ~0u), 0);
  EXPECT_FAILS(splice(file.get(), nullptr, p.writer.get(), nullptr, 1, 0x10), EINVAL);
  EXPECT_FAILS(splice(-1, nullptr, p.writer.get(), nullptr, 1, 0), EBADF);
  EXPECT_FAILS(splice(file.get(), nullptr, -1, nullptr, 1, 0), EBADF);
  EXPECT_FAILS(splice(p.writer.get(), nullptr, file.get(), nullptr, 1, 0), EBADF);
  EXPECT_FAILS(splice(file.get(), nullptr, p.reader.get(), nullptr, 1, 0), EBADF);
  EXPECT_FAILS(splice(p.reader.get(), &at, file.get(), nullptr, 1, 0), ESPIPE);
  EXPECT_FAILS(splice(file.get(), nullptr, p.writer.get(), &at, 1, 0), ESPIPE);
  EXPECT_FAILS(splice(file.get(), nullptr, file.get(), nullptr, 1, 0), EINVAL);
  EXPECT_FAILS(splice(p.reader.get(), nullptr, p.writer.get(), nullptr, 1, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_splice, file.get(), BadAddress(), p.writer.get(), nullptr, 1, 0),
               EFAULT);
  at = -1;
  EXPECT_FAILS(splice(file.get(), &at, p.writer.get(), nullptr, 1, 0), EINVAL);
  Fd read_only(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_FAILS(splice(p.reader.get(), nullptr, read_only.get(), nullptr, 1, 0), EBADF);
  Fd append(open((dir / "f").c_str(), O_WRONLY | O_APPEND));
  ASSERT_EQ(write(p.writer.get(), "x", 1), 1);
  EXPECT_FAILS(splice(p.reader.get(), nullptr, append.get(), nullptr, 1, 0), EINVAL);
}

TEST(SpliceTest, FilesWithoutSplice) {
  Pipe p;
  ASSERT_EQ(write(p.writer.get(), "12345678", 8), 8);
  Fd event(eventfd(1, 0));
  Fd epoll(epoll_create1(0));
  Fd folder(open("/", O_RDONLY | O_DIRECTORY));
  EXPECT_FAILS(splice(event.get(), nullptr, p.writer.get(), nullptr, 8, 0), EINVAL);
  EXPECT_FAILS(splice(epoll.get(), nullptr, p.writer.get(), nullptr, 8, 0), EINVAL);
  EXPECT_FAILS(splice(folder.get(), nullptr, p.writer.get(), nullptr, 8, 0), EINVAL);
}

TEST(SpliceTest, PositionsMove) {
  TempDir dir;
  Fd in(open(dir.File("in", "0123456789").c_str(), O_RDONLY));
  Fd out(open((dir / "out").c_str(), O_CREAT | O_RDWR, 0600));
  Pipe p;
  loff_t from = 2;
  EXPECT_EQ(splice(in.get(), &from, p.writer.get(), nullptr, 3, 0), 3);
  EXPECT_EQ(from, 5);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 0);
  EXPECT_EQ(splice(in.get(), nullptr, p.writer.get(), nullptr, 2, 0), 2);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 2);
  loff_t to = 4;
  EXPECT_EQ(splice(p.reader.get(), nullptr, out.get(), &to, 4, 0), 4);
  EXPECT_EQ(to, 8);
  EXPECT_EQ(lseek(out.get(), 0, SEEK_CUR), 0);
  EXPECT_EQ(splice(p.reader.get(), nullptr, out.get(), nullptr, 100, 0), 1);
  EXPECT_EQ(lseek(out.get(), 0, SEEK_CUR), 1);
  EXPECT_EQ(ReadFile(dir / "out"), std::string("1\0\0\0" "2340", 8));
  // The end of the file.
  from = 10;
  EXPECT_EQ(splice(in.get(), &from, p.writer.get(), nullptr, 3, 0), 0);
  from = 100;
  EXPECT_EQ(splice(in.get(), &from, p.writer.get(), nullptr, 3, 0), 0);
}

TEST(SpliceTest, EmptyAndFullPipes) {
  TempDir dir;
  Fd file(open(dir.File("f", std::string(200000, 'f')).c_str(), O_RDWR));
  Pipe p;
  EXPECT_FAILS(splice(p.reader.get(), nullptr, file.get(), nullptr, 1, SPLICE_F_NONBLOCK), EAGAIN);
  EXPECT_EQ(splice(file.get(), nullptr, p.writer.get(), nullptr, 200000, 0), 65536);
  EXPECT_FAILS(splice(file.get(), nullptr, p.writer.get(), nullptr, 1, SPLICE_F_NONBLOCK), EAGAIN);
  fcntl(p.writer.get(), F_SETFL, O_NONBLOCK);
  EXPECT_FAILS(splice(file.get(), nullptr, p.writer.get(), nullptr, 1, 0), EAGAIN);
  EXPECT_EQ(ReadAll(p.reader.get(), 65536).size(), 65536u);
  fcntl(p.reader.get(), F_SETFL, O_NONBLOCK);
  EXPECT_FAILS(splice(p.reader.get(), nullptr, file.get(), nullptr, 1, 0), EAGAIN);
  p.writer.Reset();
  EXPECT_EQ(splice(p.reader.get(), nullptr, file.get(), nullptr, 1, 0), 0);
}

TEST(SpliceTest, NoReaderIsSigpipe) {
  TempDir dir;
  Fd file(open(dir.File("f", "text").c_str(), O_RDONLY));
  Pipe p;
  p.reader.Reset();
  EXPECT_TRUE(KilledBy(InChild([&] {
    return static_cast<int>(splice(file.get(), nullptr, p.writer.get(), nullptr, 1, 0));
  }), SIGPIPE));
  signal(SIGPIPE, SIG_IGN);
  EXPECT_FAILS(splice(file.get(), nullptr, p.writer.get(), nullptr, 1, 0), EPIPE);
  Pipe q;
  ASSERT_EQ(write(q.writer.get(), "x", 1), 1);
  EXPECT_FAILS(splice(q.reader.get(), nullptr, p.writer.get(), nullptr, 1, 0), EPIPE);
  EXPECT_FAILS(tee(q.reader.get(), p.writer.get(), 1, 0), EPIPE);
  signal(SIGPIPE, SIG_DFL);
}

TEST(SpliceTest, WaitsForDataAndRoom) {
  TempDir dir;
  Fd file(open((dir / "f").c_str(), O_CREAT | O_RDWR, 0600));
  Pipe p;
  std::thread writer([&] {
    usleep(2000);
    EXPECT_EQ(write(p.writer.get(), "late", 4), 4);
  });
  EXPECT_EQ(splice(p.reader.get(), nullptr, file.get(), nullptr, 10, 0), 4);
  writer.join();
  Pipe q;
  ASSERT_EQ(write(q.writer.get(), std::string(65536, 'q').data(), 65536), 65536);
  std::thread reader([&] {
    usleep(2000);
    EXPECT_EQ(ReadAll(q.reader.get(), 65536).size(), 65536u);
  });
  loff_t start = 0;
  EXPECT_EQ(splice(file.get(), &start, q.writer.get(), nullptr, 10, 0), 4);
  reader.join();
}

TEST(SpliceTest, BetweenPipes) {
  Pipe a, b;
  ASSERT_EQ(write(a.writer.get(), "abcdef", 6), 6);
  EXPECT_EQ(splice(a.reader.get(), nullptr, b.writer.get(), nullptr, 4, 0), 4);
  EXPECT_EQ(ReadAll(b.reader.get(), 10), "abcd");
  EXPECT_EQ(splice(a.reader.get(), nullptr, b.writer.get(), nullptr, 4, SPLICE_F_NONBLOCK), 2);
  EXPECT_FAILS(splice(a.reader.get(), nullptr, b.writer.get(), nullptr, 4, SPLICE_F_NONBLOCK),
               EAGAIN);
  a.writer.Reset();
  EXPECT_EQ(splice(a.reader.get(), nullptr, b.writer.get(), nullptr, 4, 0), 0);
}

TEST(SpliceTest, SocketsAtEitherEnd) {
  SocketPair s;
  Pipe p;
  ASSERT_EQ(write(s.a.get(), "socket", 6), 6);
  EXPECT_EQ(splice(s.b.get(), nullptr, p.writer.get(), nullptr, 100, 0), 6);
  EXPECT_EQ(splice(p.reader.get(), nullptr, s.b.get(), nullptr, 100, 0), 6);
  EXPECT_EQ(ReadAll(s.a.get(), 100), "socket");
  EXPECT_FAILS(splice(s.b.get(), nullptr, p.writer.get(), nullptr, 1, SPLICE_F_NONBLOCK), EAGAIN);
  loff_t at = 0;
  EXPECT_FAILS(splice(s.b.get(), &at, p.writer.get(), nullptr, 1, 0), EINVAL);
  EXPECT_FAILS(splice(p.reader.get(), nullptr, s.b.get(), &at, 1, 0), EINVAL);
  s.a.Reset();
  EXPECT_EQ(splice(s.b.get(), nullptr, p.writer.get(), nullptr, 1, 0), 0);
}

TEST(SpliceTest, CharacterDevices) {
  Pipe p;
  Fd zero(open("/dev/zero", O_RDONLY)), null(open("/dev/null", O_RDWR));
  EXPECT_EQ(splice(zero.get(), nullptr, p.writer.get(), nullptr, 100, 0), 100);
  EXPECT_EQ(ReadAll(p.reader.get(), 200), std::string(100, '\0'));
  ASSERT_EQ(write(p.writer.get(), "gone", 4), 4);
  EXPECT_EQ(splice(p.reader.get(), nullptr, null.get(), nullptr, 100, 0), 4);
  EXPECT_FAILS(splice(null.get(), nullptr, p.writer.get(), nullptr, 100, 0), EINVAL);
}

TEST(TeeTest, CopiesWithoutTaking) {
  Pipe a, b;
  Fd file(open("/dev/zero", O_RDWR));
  EXPECT_FAILS(tee(a.reader.get(), file.get(), 1, 0), EINVAL);
  EXPECT_FAILS(tee(file.get(), b.writer.get(), 1, 0), EINVAL);
  EXPECT_FAILS(tee(a.reader.get(), a.writer.get(), 1, 0), EINVAL);
  EXPECT_FAILS(tee(a.writer.get(), b.writer.get(), 1, 0), EBADF);
  EXPECT_FAILS(tee(-1, b.writer.get(), 1, 0), EBADF);
  EXPECT_FAILS(tee(a.reader.get(), b.writer.get(), 1, 0x10), EINVAL);
  EXPECT_EQ(tee(a.reader.get(), b.writer.get(), 0, 0), 0);
  EXPECT_FAILS(tee(a.reader.get(), b.writer.get(), 1, SPLICE_F_NONBLOCK), EAGAIN);
  ASSERT_EQ(write(a.writer.get(), "letter", 6), 6);
  EXPECT_EQ(tee(a.reader.get(), b.writer.get(), 3, 0), 3);
  EXPECT_EQ(tee(a.reader.get(), b.writer.get(), 100, 0), 6);
  EXPECT_EQ(ReadAll(b.reader.get(), 100), "letletter");
  EXPECT_EQ(ReadAll(a.reader.get(), 100), "letter");
  a.writer.Reset();
  EXPECT_EQ(tee(a.reader.get(), b.writer.get(), 1, 0), 0);
}

TEST(VmspliceTest, BothWays) {
  Pipe p;
  char text[] = "hello";
  char more[] = " world";
  iovec out[2] = {{text, 5}, {more, 6}};
  EXPECT_EQ(vmsplice(p.writer.get(), out, 2, 0), 11);
  char got[20] = {};
  iovec in[2] = {{got, 3}, {got + 10, 5}};
  EXPECT_EQ(vmsplice(p.reader.get(), in, 2, 0), 8);
  EXPECT_EQ(std::string(got, 3), "hel");
  EXPECT_EQ(std::string(got + 10, 5), "lo wo");
  EXPECT_EQ(ReadAll(p.reader.get(), 10), "rld");
  EXPECT_FAILS(vmsplice(p.reader.get(), in, 1, SPLICE_F_NONBLOCK), EAGAIN);
  EXPECT_FAILS(vmsplice(p.writer.get(), out, 1, 0x10), EINVAL);
  EXPECT_FAILS(vmsplice(-1, out, 1, 0), EBADF);
  EXPECT_FAILS(vmsplice(p.writer.get(), out, 1025, 0), EINVAL);
  EXPECT_EQ(vmsplice(p.writer.get(), out, 0, 0), 0);
  EXPECT_FAILS(syscall(SYS_vmsplice, p.writer.get(), BadAddress(), 1, 0), EFAULT);
  Fd zero(open("/dev/zero", O_RDWR));
  EXPECT_FAILS(vmsplice(zero.get(), out, 1, 0), EBADF);
  void* big = mmap(nullptr, 1 << 17, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  iovec large = {big, 1 << 17};
  EXPECT_EQ(vmsplice(p.writer.get(), &large, 1, SPLICE_F_NONBLOCK), 65536);
}

TEST(SendfileTest, FileToFileAndErrors) {
  TempDir dir;
  Fd in(open(dir.File("in", "0123456789").c_str(), O_RDWR));
  Fd out(open((dir / "out").c_str(), O_CREAT | O_RDWR, 0600));
  Pipe p;
  off_t at = 8;
  EXPECT_EQ(sendfile(out.get(), in.get(), &at, 100), 2);
  EXPECT_EQ(at, 10);
  EXPECT_EQ(sendfile(out.get(), in.get(), &at, 100), 0);
  EXPECT_EQ(sendfile(out.get(), in.get(), nullptr, 0), 0);
  at = -1;
  EXPECT_FAILS(sendfile(out.get(), in.get(), &at, 1), EINVAL);
  EXPECT_FAILS(syscall(SYS_sendfile, out.get(), in.get(), BadAddress(), 1), EFAULT);
  EXPECT_FAILS(sendfile(-1, in.get(), nullptr, 1), EBADF);
  EXPECT_FAILS(sendfile(out.get(), -1, nullptr, 1), EBADF);
  EXPECT_FAILS(sendfile(out.get(), p.reader.get(), nullptr, 1), EINVAL);
  at = 0;
  EXPECT_FAILS(sendfile(out.get(), p.reader.get(), &at, 1), ESPIPE);
  Fd append(open((dir / "out").c_str(), O_WRONLY | O_APPEND));
  EXPECT_FAILS(sendfile(append.get(), in.get(), nullptr, 1), EINVAL);
  Fd write_only(open((dir / "in").c_str(), O_WRONLY));
  EXPECT_FAILS(sendfile(out.get(), write_only.get(), nullptr, 1), EBADF);
  Fd event(eventfd(1, 0));
  EXPECT_FAILS(sendfile(out.get(), event.get(), nullptr, 8), EINVAL);
}

TEST(SendfileTest, ToAPipe) {
  TempDir dir;
  Fd in(open(dir.File("in", std::string(100000, 'p')).c_str(), O_RDONLY));
  Pipe p(O_NONBLOCK);
  EXPECT_EQ(sendfile(p.writer.get(), in.get(), nullptr, 100000), 65536);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 65536);
  EXPECT_FAILS(sendfile(p.writer.get(), in.get(), nullptr, 1), EAGAIN);
  EXPECT_EQ(ReadAll(p.reader.get(), 65536), std::string(65536, 'p'));
}

TEST(SendfileTest, ToASocketAllOfIt) {
  TempDir dir;
  const std::string text(1 << 20, 's');
  Fd in(open(dir.File("in", text).c_str(), O_RDONLY));
  SocketPair s;
  std::thread reader([&] {
    size_t total = 0;
    for (;;) {
      const size_t n = ReadAll(s.b.get(), 65536).size();
      if (n == 0) break;
      total += n;
    }
    EXPECT_EQ(total, text.size());
  });
  EXPECT_EQ(sendfile(s.a.get(), in.get(), nullptr, text.size()), static_cast<ssize_t>(text.size()));
  s.a.Reset();
  reader.join();
}

TEST(CopyFileRangeTest, CopiesAndChecks) {
  TempDir dir;
  Fd in(open(dir.File("in", "0123456789").c_str(), O_RDWR));
  Fd out(open((dir / "out").c_str(), O_CREAT | O_RDWR, 0600));
  EXPECT_EQ(copy_file_range(in.get(), nullptr, out.get(), nullptr, 4, 0), 4);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 4);
  EXPECT_EQ(lseek(out.get(), 0, SEEK_CUR), 4);
  loff_t a = 9, b = 6;
  EXPECT_EQ(copy_file_range(in.get(), &a, out.get(), &b, 4, 0), 1);
  EXPECT_EQ(a, 10);
  EXPECT_EQ(b, 7);
  EXPECT_EQ(ReadFile(dir / "out"), std::string("0123\0\0" "9", 7));
  EXPECT_EQ(copy_file_range(in.get(), &a, out.get(), &b, 4, 0), 0);
  // Within one file, apart from each other and not.
  a = 0;
  b = 5;
  EXPECT_EQ(copy_file_range(in.get(), &a, in.get(), &b, 5, 0), 5);
  EXPECT_EQ(ReadFile(dir / "in"), "0123401234");
  a = 0;
  b = 3;
  EXPECT_FAILS(copy_file_range(in.get(), &a, in.get(), &b, 5, 0), EINVAL);
  a = -1;
  EXPECT_FAILS(copy_file_range(in.get(), &a, out.get(), nullptr, 1, 0), EOVERFLOW);
  a = -2;
  EXPECT_FAILS(copy_file_range(in.get(), &a, out.get(), nullptr, 1, 0), EINVAL);
  EXPECT_FAILS(copy_file_range(in.get(), nullptr, out.get(), nullptr, 1, 1), EINVAL);
  EXPECT_FAILS(syscall(SYS_copy_file_range, in.get(), BadAddress(), out.get(), nullptr, 1, 0),
               EFAULT);
  Fd folder(open("/", O_RDONLY | O_DIRECTORY));
  EXPECT_FAILS(copy_file_range(folder.get(), nullptr, out.get(), nullptr, 1, 0), EISDIR);
  Fd null(open("/dev/null", O_RDWR));
  EXPECT_FAILS(copy_file_range(in.get(), nullptr, null.get(), nullptr, 1, 0), EINVAL);
  Fd read_only(open((dir / "out").c_str(), O_RDONLY));
  EXPECT_FAILS(copy_file_range(in.get(), nullptr, read_only.get(), nullptr, 1, 0), EBADF);
  Fd write_only(open((dir / "in").c_str(), O_WRONLY));
  EXPECT_FAILS(copy_file_range(write_only.get(), nullptr, out.get(), nullptr, 1, 0), EBADF);
  Fd append(open((dir / "out").c_str(), O_WRONLY | O_APPEND));
  EXPECT_FAILS(copy_file_range(in.get(), nullptr, append.get(), nullptr, 1, 0), EBADF);
  EXPECT_FAILS(copy_file_range(-1, nullptr, out.get(), nullptr, 1, 0), EBADF);
}

}  // namespace
}  // namespace ringwall::test
