// Linux aio: io_setup and its relatives, called directly.
#include <linux/aio_abi.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>

#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

int IoSetup(unsigned n, aio_context_t* ctx) {
  return static_cast<int>(syscall(SYS_io_setup, n, ctx));
}
int Destroy(aio_context_t ctx) { return static_cast<int>(syscall(SYS_io_destroy, ctx)); }
int Submit(aio_context_t ctx, std::vector<iocb*> list) {
  return static_cast<int>(syscall(SYS_io_submit, ctx, list.size(), list.data()));
}
int GetEvents(aio_context_t ctx, long least, long most, io_event* events,
              const timespec* timeout = nullptr) {
  return static_cast<int>(syscall(SYS_io_getevents, ctx, least, most, events, timeout));
}

class AioTest : public ::testing::Test {
 protected:
  AioTest() {
    EXPECT_OK(IoSetup(16, &ctx_));
    file_.Reset(open(dir_.File("file", "0123456789").c_str(), O_RDWR));
  }
  ~AioTest() override {
    if (ctx_ != 0) Destroy(ctx_);
  }
  static iocb Make(int opcode, int fd, const void* buf, size_t size, int64_t at = 0) {
    iocb cb = {};
    cb.aio_data = 0x1234;
    cb.aio_lio_opcode = static_cast<uint16_t>(opcode);
    cb.aio_fildes = static_cast<uint32_t>(fd);
    cb.aio_buf = reinterpret_cast<uint64_t>(buf);
    cb.aio_nbytes = size;
    cb.aio_offset = at;
    return cb;
  }
  // The result of one request.
  int64_t Run(iocb cb) {
    if (Submit(ctx_, {&cb}) != 1) return -1000 - errno;
    io_event e = {};
    if (GetEvents(ctx_, 1, 1, &e) != 1) return -2000 - errno;
    EXPECT_EQ(e.data, 0x1234u);
    EXPECT_EQ(e.obj, reinterpret_cast<uint64_t>(&cb));
    EXPECT_EQ(e.res2, 0);
    return e.res;
  }
  TempDir dir_;
  aio_context_t ctx_ = 0;
  Fd file_;
};

TEST_F(AioTest, SetupErrors) {
  aio_context_t other = 0;
  EXPECT_FAILS(IoSetup(0, &other), EINVAL);
  other = 1;
  EXPECT_FAILS(IoSetup(1, &other), EINVAL);
  EXPECT_FAILS(syscall(SYS_io_setup, 1, BadAddress()), EFAULT);
  other = 0;
  EXPECT_FAILS(IoSetup(0x7fffffff, &other), EINVAL);
  EXPECT_FAILS(Destroy(0), EINVAL);
  EXPECT_FAILS(Destroy(4096), EINVAL);
  EXPECT_OK(IoSetup(1, &other));
  EXPECT_NE(other, ctx_);
  EXPECT_OK(Destroy(other));
  EXPECT_FAILS(Destroy(other), EINVAL);
}

TEST_F(AioTest, ReadsAndWrites) {
  char buffer[16] = {};
  EXPECT_EQ(Run(Make(IOCB_CMD_PREAD, file_.get(), buffer, 4, 3)), 4);
  EXPECT_EQ(std::string(buffer, 4), "3456");
  EXPECT_EQ(Run(Make(IOCB_CMD_PREAD, file_.get(), buffer, 16, 8)), 2);
  EXPECT_EQ(Run(Make(IOCB_CMD_PREAD, file_.get(), buffer, 16, 10)), 0);
  EXPECT_EQ(Run(Make(IOCB_CMD_PWRITE, file_.get(), "xyz", 3, 9)), 3);
  EXPECT_EQ(ReadFile(dir_ / "file"), "012345678xyz");
  EXPECT_EQ(lseek(file_.get(), 0, SEEK_CUR), 0);
  char a[2], b[3];
  iovec iov[2] = {{a, 2}, {b, 3}};
  EXPECT_EQ(Run(Make(IOCB_CMD_PREADV, file_.get(), iov, 2, 1)), 5);
  EXPECT_EQ(std::string(b, 3), "345");
  EXPECT_EQ(Run(Make(IOCB_CMD_PWRITEV, file_.get(), iov, 2, 0)), 5);
  EXPECT_EQ(ReadFile(dir_ / "file").substr(0, 6), "123455");
  EXPECT_EQ(Run(Make(IOCB_CMD_FSYNC, file_.get(), nullptr, 0)), 0);
  EXPECT_EQ(Run(Make(IOCB_CMD_FDSYNC, file_.get(), nullptr, 0)), 0);
}

TEST_F(AioTest, ErrorsOfSubmission) {
  char buffer[16];
  const int fd = file_.get();
  iocb cb = Make(IOCB_CMD_PREAD, -1, buffer, 1);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EBADF);
  cb = Make(IOCB_CMD_NOOP, fd, buffer, 1);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EINVAL);
  cb = Make(100, fd, buffer, 1);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EINVAL);
  cb = Make(IOCB_CMD_PREAD, fd, buffer, 1, -1);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EINVAL);
  cb = Make(IOCB_CMD_PREAD, fd, buffer, static_cast<size_t>(-1));
  EXPECT_FAILS(Submit(ctx_, {&cb}), EINVAL);
  cb = Make(IOCB_CMD_PREAD, fd, buffer, 1);
  cb.aio_reserved2 = 1;
  EXPECT_FAILS(Submit(ctx_, {&cb}), EINVAL);
  cb = Make(IOCB_CMD_PREAD, fd, buffer, 1);
  cb.aio_rw_flags = 0x40000000;
  EXPECT_FAILS(Submit(ctx_, {&cb}), EOPNOTSUPP);
  cb = Make(IOCB_CMD_PREAD, fd, buffer, 1);
  cb.aio_flags = IOCB_FLAG_RESFD;
  cb.aio_resfd = static_cast<uint32_t>(-1);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EBADF);
  cb.aio_resfd = static_cast<uint32_t>(fd);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EINVAL);
  cb = Make(IOCB_CMD_PREADV, fd, nullptr, 1025);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EINVAL);
  cb = Make(IOCB_CMD_FSYNC, fd, buffer, 1);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EINVAL);
  Fd read_only(open((dir_ / "file").c_str(), O_RDONLY));
  Fd write_only(open((dir_ / "file").c_str(), O_WRONLY));
  cb = Make(IOCB_CMD_PWRITE, read_only.get(), buffer, 1);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EBADF);
  cb = Make(IOCB_CMD_PREAD, write_only.get(), buffer, 1);
  EXPECT_FAILS(Submit(ctx_, {&cb}), EBADF);
  EXPECT_FAILS(syscall(SYS_io_submit, ctx_, 1, BadAddress()), EFAULT);
  EXPECT_FAILS(syscall(SYS_io_submit, ctx_, -1L, nullptr), EINVAL);
  EXPECT_EQ(syscall(SYS_io_submit, ctx_, 0, nullptr), 0);
  EXPECT_FAILS(syscall(SYS_io_submit, 0, 0, nullptr), EINVAL);
  EXPECT_FAILS(Submit(ctx_, {static_cast<iocb*>(BadAddress())}), EFAULT);
  // Those before a wrong one count.
  iocb good = Make(IOCB_CMD_PREAD, fd, buffer, 1);
  EXPECT_EQ(Submit(ctx_, {&good, &cb, &good}), 1);
  io_event e;
  EXPECT_EQ(GetEvents(ctx_, 1, 1, &e), 1);
}

TEST_F(AioTest, FaultsAreInTheEvent) {
  EXPECT_EQ(Run(Make(IOCB_CMD_PREAD, file_.get(), NoAccessPage(), 4)), -EFAULT);
  EXPECT_EQ(Run(Make(IOCB_CMD_PWRITE, file_.get(), NoAccessPage(), 4)), -EFAULT);
}

TEST_F(AioTest, GetEventsCountsAndTimes) {
  char buffer[4];
  io_event e[8];
  timespec none = {0, 0}, some = {0, 2000000};
  EXPECT_EQ(GetEvents(ctx_, 0, 8, e, &none), 0);
  EXPECT_EQ(GetEvents(ctx_, 1, 8, e, &none), 0);
  EXPECT_EQ(GetEvents(ctx_, 1, 8, e, &some), 0);
  EXPECT_EQ(GetEvents(ctx_, 0, 8, e), 0);
  EXPECT_FAILS(GetEvents(ctx_, 2, 1, e, &none), EINVAL);
  EXPECT_FAILS(GetEvents(ctx_, -1, 1, e, &none), EINVAL);
  EXPECT_FAILS(GetEvents(0, 1, 1, e, &none), EINVAL);
  EXPECT_FAILS(syscall(SYS_io_getevents, ctx_, 1, 1, e, BadAddress()), EFAULT);
  iocb cb = Make(IOCB_CMD_PREAD, file_.get(), buffer, 4);
  EXPECT_EQ(Submit(ctx_, {&cb, &cb, &cb}), 3);
  EXPECT_EQ(GetEvents(ctx_, 1, 2, e), 2);
  EXPECT_EQ(GetEvents(ctx_, 1, 8, e), 1);
}

TEST_F(AioTest, EventfdIsTold) {
  Fd event(eventfd(0, EFD_NONBLOCK));
  char buffer[4];
  iocb cb = Make(IOCB_CMD_PREAD, file_.get(), buffer, 4);
  cb.aio_flags = IOCB_FLAG_RESFD;
  cb.aio_resfd = static_cast<uint32_t>(event.get());
  EXPECT_EQ(Submit(ctx_, {&cb, &cb}), 2);
  io_event e[2];
  EXPECT_EQ(GetEvents(ctx_, 2, 2, e), 2);
  uint64_t n = 0;
  EXPECT_EQ(read(event.get(), &n, sizeof(n)), 8);
  EXPECT_EQ(n, 2u);
}

TEST_F(AioTest, PollCompletesWhenReady) {
  Pipe p;
  Fd event(eventfd(0, 0));
  iocb cb = {};
  cb.aio_data = 7;
  cb.aio_lio_opcode = IOCB_CMD_POLL;
  cb.aio_fildes = static_cast<uint32_t>(p.reader.get());
  cb.aio_buf = POLLIN;
  cb.aio_flags = IOCB_FLAG_RESFD;
  cb.aio_resfd = static_cast<uint32_t>(event.get());
  EXPECT_EQ(Submit(ctx_, {&cb}), 1);
  io_event e = {};
  timespec none = {0, 0};
  EXPECT_EQ(GetEvents(ctx_, 1, 1, &e, &none), 0);
  EXPECT_EQ(write(p.writer.get(), "x", 1), 1);
  EXPECT_EQ(GetEvents(ctx_, 1, 1, &e), 1);
  EXPECT_EQ(e.data, 7u);
  EXPECT_EQ(e.res & POLLIN, POLLIN);
  uint64_t n = 0;
  EXPECT_EQ(read(event.get(), &n, sizeof(n)), 8);
  // Ready from the start.
  EXPECT_EQ(Submit(ctx_, {&cb}), 1);
  EXPECT_EQ(GetEvents(ctx_, 1, 1, &e), 1);
  cb.aio_nbytes = 1;
  EXPECT_FAILS(Submit(ctx_, {&cb}), EINVAL);
}

TEST_F(AioTest, PollFromAnotherThread) {
  Pipe p;
  iocb cb = {};
  cb.aio_lio_opcode = IOCB_CMD_POLL;
  cb.aio_fildes = static_cast<uint32_t>(p.reader.get());
  cb.aio_buf = POLLIN;
  EXPECT_EQ(Submit(ctx_, {&cb}), 1);
  std::thread writer([&] { EXPECT_EQ(write(p.writer.get(), "x", 1), 1); });
  io_event e = {};
  EXPECT_EQ(GetEvents(ctx_, 1, 1, &e), 1);
  writer.join();
}

TEST_F(AioTest, CancelOfAPoll) {
  Pipe p;
  iocb cb = {};
  cb.aio_lio_opcode = IOCB_CMD_POLL;
  cb.aio_fildes = static_cast<uint32_t>(p.reader.get());
  cb.aio_buf = POLLIN;
  io_event e = {};
  EXPECT_FAILS(syscall(SYS_io_cancel, ctx_, &cb, &e), EINVAL);
  EXPECT_EQ(Submit(ctx_, {&cb}), 1);
  EXPECT_FAILS(syscall(SYS_io_cancel, ctx_, &cb, &e), EINPROGRESS);
  EXPECT_EQ(GetEvents(ctx_, 1, 1, &e), 1);
  EXPECT_FAILS(syscall(SYS_io_cancel, ctx_, &cb, &e), EINVAL);
  EXPECT_FAILS(syscall(SYS_io_cancel, ctx_, BadAddress(), &e), EFAULT);
}

TEST_F(AioTest, OneIocbTwice) {
  aio_context_t own = 0;
  ASSERT_OK(IoSetup(8, &own));
  Pipe p;
  iocb cb = {};
  cb.aio_lio_opcode = IOCB_CMD_POLL;
  cb.aio_fildes = static_cast<uint32_t>(p.reader.get());
  cb.aio_buf = POLLIN;
  EXPECT_EQ(Submit(own, {&cb, &cb}), 2);
  EXPECT_EQ(write(p.writer.get(), "x", 1), 1);
  io_event e[2];
  EXPECT_EQ(GetEvents(own, 2, 2, e), 2);
  char c;
  EXPECT_EQ(read(p.reader.get(), &c, 1), 1);
  // Left behind when the context goes.
  EXPECT_EQ(Submit(own, {&cb, &cb}), 2);
  EXPECT_OK(Destroy(own));
  EXPECT_EQ(write(p.writer.get(), "x", 1), 1);
}

TEST_F(AioTest, TooManyRequests) {
  aio_context_t small = 0;
  ASSERT_OK(IoSetup(1, &small));
  char c;
  iocb cb = Make(IOCB_CMD_PREAD, file_.get(), &c, 1);
  int submitted = 0;
  while (submitted < 100000 && Submit(small, {&cb}) == 1) submitted++;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(submitted, 1);
  EXPECT_OK(Destroy(small));
}

TEST_F(AioTest, SignalEndsTheWait) {
  EXPECT_TRUE(Exited(InChild([&] {
    aio_context_t own = 0;
    CHECK_CHILD(IoSetup(4, &own) == 0);
    struct sigaction sa = {};
    sa.sa_handler = [](int) {};
    sigaction(SIGALRM, &sa, nullptr);
    itimerval timer = {{0, 5000}, {0, 5000}};
    setitimer(ITIMER_REAL, &timer, nullptr);
    io_event e;
    CHECK_CHILD(GetEvents(own, 1, 1, &e) == -1 && errno == EINTR);
    return 0;
  })));
}

TEST_F(AioTest, ChildHasNoContexts) {
  EXPECT_TRUE(Exited(InChild([&] {
    io_event e;
    timespec none = {0, 0};
    CHECK_CHILD(GetEvents(ctx_, 0, 1, &e, &none) == -1 && errno == EINVAL);
    return 0;
  })));
}

TEST_F(AioTest, PgeteventsTakesAMask) {
  char c;
  iocb cb = Make(IOCB_CMD_PREAD, file_.get(), &c, 1);
  EXPECT_EQ(Submit(ctx_, {&cb}), 1);
  sigset_t mask;
  sigfillset(&mask);
  struct {
    const sigset_t* mask;
    size_t size;
  } arg = {&mask, 8};
  io_event e;
  EXPECT_EQ(syscall(SYS_io_pgetevents, ctx_, 1, 1, &e, nullptr, &arg), 1);
  arg.size = 4;
  EXPECT_FAILS(syscall(SYS_io_pgetevents, ctx_, 1, 1, &e, nullptr, &arg), EINVAL);
  EXPECT_FAILS(syscall(SYS_io_pgetevents, ctx_, 1, 1, &e, nullptr, BadAddress()), EFAULT);
}

}  // namespace
}  // namespace ringwall::test
