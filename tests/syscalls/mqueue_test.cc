// POSIX message queues. The calls are made directly, so that errors are the kernel's and not the C
// library's.
#include <linux/sched.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include <atomic>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

int Open(const std::string& name, int flags, mode_t mode = 0600, const mq_attr* attr = nullptr) {
  return static_cast<int>(syscall(SYS_mq_open, name.c_str(), flags, mode, attr));
}
int Unlink(const std::string& name) {
  return static_cast<int>(syscall(SYS_mq_unlink, name.c_str()));
}
int Send(int fd, const std::string& text, unsigned prio = 0, const timespec* at = nullptr) {
  return static_cast<int>(syscall(SYS_mq_timedsend, fd, text.data(), text.size(), prio, at));
}
int Notify(int fd, const sigevent* event) {
  return static_cast<int>(syscall(SYS_mq_notify, fd, event));
}
int GetSet(int fd, const mq_attr* fresh, mq_attr* old) {
  return static_cast<int>(syscall(SYS_mq_getsetattr, fd, fresh, old));
}

class MqTest : public ::testing::Test {
 protected:
  MqTest() : name_("ringwall-" + std::to_string(getpid()) + "-" + std::to_string(next_++)) {
    mq_attr attr = {};
    attr.mq_maxmsg = 4;
    attr.mq_msgsize = 64;
    fd_.Reset(Open(name_, O_CREAT | O_EXCL | O_RDWR, 0600, &attr));
  }
  ~MqTest() override { Unlink(name_); }
  std::string Receive(unsigned* prio = nullptr, const timespec* at = nullptr) {
    char buffer[64];
    const ssize_t n =
        syscall(SYS_mq_timedreceive, fd_.get(), buffer, sizeof(buffer), prio, at);
    if (n < 0) return "!" + ErrnoName(errno);
    return std::string(buffer, static_cast<size_t>(n));
  }
  void Nonblock() {
    mq_attr attr = {};
    attr.mq_flags = O_NONBLOCK;
    EXPECT_OK(GetSet(fd_.get(), &attr, nullptr));
  }
  static int next_;
  const std::string name_;
  Fd fd_;
};
int MqTest::next_ = 0;

TEST_F(MqTest, OpenAndUnlink) {
  ASSERT_TRUE(fd_.ok());
  EXPECT_EQ(fcntl(fd_.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_FAILS(Open(name_, O_CREAT | O_EXCL | O_RDWR), EEXIST);
  EXPECT_FAILS(Open(name_ + "x", O_RDWR), ENOENT);
  EXPECT_FAILS(Open(name_, O_ACCMODE), EINVAL);
  EXPECT_FAILS(Open("", O_RDWR), ENOENT);
  EXPECT_FAILS(Open("a/b", O_CREAT | O_RDWR), EACCES);
  EXPECT_FAILS(Open("/a", O_CREAT | O_RDWR), EACCES);
  EXPECT_FAILS(Open(".", O_CREAT | O_RDWR), EACCES);
  EXPECT_FAILS(Open(std::string(256, 'n'), O_CREAT | O_RDWR), ENAMETOOLONG);
  EXPECT_FAILS(syscall(SYS_mq_open, BadAddress(), O_RDWR, 0, nullptr), EFAULT);
  EXPECT_FAILS(syscall(SYS_mq_open, name_.c_str(), O_CREAT | O_RDWR, 0, BadAddress()), EFAULT);
  Fd second(Open(name_, O_CREAT | O_RDWR));
  EXPECT_TRUE(second.ok());
  EXPECT_OK(Unlink(name_));
  EXPECT_FAILS(Unlink(name_), ENOENT);
  EXPECT_FAILS(Open(name_, O_RDWR), ENOENT);
  // It lives on for who has it open.
  EXPECT_OK(Send(second.get(), "still there"));
  EXPECT_EQ(Receive(), "still there");
}

TEST_F(MqTest, AttributesAreChecked) {
  const std::string other = name_ + "-other";
  mq_attr attr = {};
  attr.mq_maxmsg = 0;
  attr.mq_msgsize = 10;
  EXPECT_FAILS(Open(other, O_CREAT | O_RDWR, 0600, &attr), EINVAL);
  attr.mq_maxmsg = 10;
  attr.mq_msgsize = 0;
  EXPECT_FAILS(Open(other, O_CREAT | O_RDWR, 0600, &attr), EINVAL);
  attr.mq_maxmsg = -1;
  attr.mq_msgsize = 10;
  EXPECT_FAILS(Open(other, O_CREAT | O_RDWR, 0600, &attr), EINVAL);
  attr.mq_maxmsg = 65537;
  EXPECT_FAILS(Open(other, O_CREAT | O_RDWR, 0600, &attr), EINVAL);
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    mq_attr own = {};
    own.mq_maxmsg = 11;
    own.mq_msgsize = 10;
    CHECK_CHILD(Open(other, O_CREAT | O_RDWR, 0600, &own) == -1 && errno == EINVAL);
    own.mq_maxmsg = 10;
    own.mq_msgsize = 8193;
    CHECK_CHILD(Open(other, O_CREAT | O_RDWR, 0600, &own) == -1 && errno == EINVAL);
    return 0;
  })));
  Fd plain(Open(other, O_CREAT | O_RDWR));
  ASSERT_OK(GetSet(plain.get(), nullptr, &attr));
  EXPECT_EQ(attr.mq_maxmsg, 10);
  EXPECT_EQ(attr.mq_msgsize, 8192);
  EXPECT_EQ(attr.mq_curmsgs, 0);
  EXPECT_EQ(attr.mq_flags, 0);
  EXPECT_OK(Unlink(other));
}

TEST_F(MqTest, BytesAreLimited) {
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    const rlimit limit = {5000, 5000};
    CHECK_CHILD(setrlimit(RLIMIT_MSGQUEUE, &limit) == 0);
    mq_attr attr = {};
    attr.mq_maxmsg = 10;
    attr.mq_msgsize = 500;
    const std::string other = name_ + "-limited";
    CHECK_CHILD(Open(other, O_CREAT | O_RDWR, 0600, &attr) == -1 && errno == EMFILE);
    attr.mq_msgsize = 400;
    Fd fd(Open(other, O_CREAT | O_RDWR, 0600, &attr));
    CHECK_CHILD(fd.ok());
    CHECK_CHILD(Open(other + "2", O_CREAT | O_RDWR, 0600, &attr) == -1 && errno == EMFILE);
    CHECK_CHILD(Unlink(other) == 0);
    fd.Reset();
    Fd again(Open(other, O_CREAT | O_RDWR, 0600, &attr));
    CHECK_CHILD(again.ok() && Unlink(other) == 0);
    return 0;
  })));
}

TEST_F(MqTest, HighestPriorityFirst) {
  EXPECT_OK(Send(fd_.get(), "low", 1));
  EXPECT_OK(Send(fd_.get(), "high a", 9));
  EXPECT_OK(Send(fd_.get(), "", 5));
  EXPECT_OK(Send(fd_.get(), "high b", 9));
  mq_attr attr = {};
  ASSERT_OK(GetSet(fd_.get(), nullptr, &attr));
  EXPECT_EQ(attr.mq_curmsgs, 4);
  unsigned prio = 0;
  EXPECT_EQ(Receive(&prio), "high a");
  EXPECT_EQ(prio, 9u);
  EXPECT_EQ(Receive(), "high b");
  EXPECT_EQ(Receive(&prio), "");
  EXPECT_EQ(prio, 5u);
  EXPECT_EQ(Receive(), "low");
  EXPECT_OK(Send(fd_.get(), "most", 32767));
  EXPECT_FAILS(Send(fd_.get(), "too much", 32768), EINVAL);
}

TEST_F(MqTest, ArgumentErrors) {
  char buffer[64];
  EXPECT_FAILS(Send(fd_.get(), std::string(65, 'x')), EMSGSIZE);
  EXPECT_FAILS(syscall(SYS_mq_timedreceive, fd_.get(), buffer, 63, nullptr, nullptr), EMSGSIZE);
  EXPECT_FAILS(syscall(SYS_mq_timedsend, fd_.get(), BadAddress(), 1, 0, nullptr), EFAULT);
  EXPECT_FAILS(Send(-1, "x"), EBADF);
  Pipe p;
  EXPECT_FAILS(Send(p.writer.get(), "x"), EBADF);
  EXPECT_FAILS(syscall(SYS_mq_timedreceive, p.reader.get(), buffer, 64, nullptr, nullptr), EBADF);
  EXPECT_FAILS(GetSet(p.reader.get(), nullptr, nullptr), EBADF);
  EXPECT_FAILS(Notify(p.reader.get(), nullptr), EBADF);
  Fd reader(Open(name_, O_RDONLY)), writer(Open(name_, O_WRONLY));
  EXPECT_FAILS(Send(reader.get(), "x"), EBADF);
  EXPECT_FAILS(syscall(SYS_mq_timedreceive, writer.get(), buffer, 64, nullptr, nullptr), EBADF);
  timespec bad = {0, 1000000000};
  EXPECT_FAILS(Send(fd_.get(), "x", 0, &bad), EINVAL);
  EXPECT_FAILS(
      syscall(SYS_mq_timedsend, fd_.get(), buffer, 1, 0, BadAddress()), EFAULT);
  mq_attr attr = {};
  attr.mq_flags = O_APPEND;
  EXPECT_FAILS(GetSet(fd_.get(), &attr, nullptr), EINVAL);
  EXPECT_FAILS(syscall(SYS_mq_getsetattr, fd_.get(), BadAddress(), nullptr), EFAULT);
}

TEST_F(MqTest, FullAndEmpty) {
  Nonblock();
  EXPECT_EQ(Receive(), "!EAGAIN");
  for (int i = 0; i < 4; ++i) EXPECT_OK(Send(fd_.get(), "x"));
  EXPECT_FAILS(Send(fd_.get(), "x"), EAGAIN);
  mq_attr attr = {}, old = {};
  EXPECT_OK(GetSet(fd_.get(), &attr, &old));
  EXPECT_EQ(old.mq_flags, O_NONBLOCK);
  const timespec past = {1, 0};
  EXPECT_FAILS(Send(fd_.get(), "x", 0, &past), ETIMEDOUT);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Receive(nullptr, &past), "x");
  EXPECT_EQ(Receive(nullptr, &past), "!ETIMEDOUT");
  timespec soon;
  clock_gettime(CLOCK_REALTIME, &soon);
  soon.tv_nsec += 2000000;
  if (soon.tv_nsec >= 1000000000) soon.tv_nsec -= 1000000000, soon.tv_sec++;
  EXPECT_EQ(Receive(nullptr, &soon), "!ETIMEDOUT");
}

TEST_F(MqTest, SleepersWake) {
  std::thread sender([&] { EXPECT_OK(Send(fd_.get(), "wake")); });
  EXPECT_EQ(Receive(), "wake");
  sender.join();
  for (int i = 0; i < 4; ++i) EXPECT_OK(Send(fd_.get(), std::to_string(i)));
  std::thread late([&] { EXPECT_OK(Send(fd_.get(), "4")); });
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Receive(), std::to_string(i));
  late.join();
}

TEST_F(MqTest, PollAndEpoll) {
  pollfd p = {fd_.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLOUT);
  for (int i = 0; i < 4; ++i) EXPECT_OK(Send(fd_.get(), "x"));
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN);
  Fd epoll(epoll_create1(0));
  epoll_event event = {EPOLLIN, {}};
  EXPECT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd_.get(), &event));
  EXPECT_EQ(epoll_wait(epoll.get(), &event, 1, 0), 1);
}

// To be told by SIGRTMIN, which is blocked from here on.
sigevent BlockedSignal(sigset_t* set, sigset_t* old) {
  sigemptyset(set);
  sigaddset(set, SIGRTMIN);
  sigprocmask(SIG_BLOCK, set, old);
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN;
  return event;
}

TEST_F(MqTest, NotifyBySignal) {
  sigset_t set, old;
  sigevent event = BlockedSignal(&set, &old);
  event.sigev_value.sival_int = 77;
  EXPECT_OK(Notify(fd_.get(), &event));
  EXPECT_FAILS(Notify(fd_.get(), &event), EBUSY);
  EXPECT_OK(Send(fd_.get(), "one"));
  siginfo_t info = {};
  const timespec none = {};
  EXPECT_EQ(sigtimedwait(&set, &info, &none), SIGRTMIN);
  EXPECT_EQ(info.si_code, SI_MESGQ);
  EXPECT_EQ(info.si_value.sival_int, 77);
  EXPECT_EQ(info.si_pid, getpid());
  EXPECT_EQ(info.si_uid, getuid());
  // Once only, and only when the queue was empty.
  EXPECT_OK(Notify(fd_.get(), &event));
  EXPECT_OK(Send(fd_.get(), "two"));
  EXPECT_EQ(sigtimedwait(&set, &info, &none), -1);
  EXPECT_OK(Notify(fd_.get(), nullptr));
  EXPECT_OK(Notify(fd_.get(), nullptr));
  event.sigev_notify = 12;
  EXPECT_FAILS(Notify(fd_.get(), &event), EINVAL);
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = 65;
  EXPECT_FAILS(Notify(fd_.get(), &event), EINVAL);
  EXPECT_FAILS(syscall(SYS_mq_notify, fd_.get(), BadAddress()), EFAULT);
  event.sigev_notify = SIGEV_NONE;
  EXPECT_OK(Notify(fd_.get(), &event));
  EXPECT_TRUE(Exited(InChild([&] {
    event.sigev_notify = SIGEV_NONE;
    CHECK_CHILD(Notify(fd_.get(), &event) == -1 && errno == EBUSY);
    CHECK_CHILD(Notify(fd_.get(), nullptr) == 0);  // does nothing
    CHECK_CHILD(Notify(fd_.get(), &event) == -1 && errno == EBUSY);
    close(fd_.get());
    return 0;
  })));
  EXPECT_FAILS(Notify(fd_.get(), &event), EBUSY);
  // Closing any descriptor of it forgets the request.
  Fd second(Open(name_, O_RDWR));
  second.Reset();
  EXPECT_OK(Notify(fd_.get(), &event));
  sigprocmask(SIG_SETMASK, &old, nullptr);
}

// Who is told gets the sender's number in its own pid namespace, not in the sender's.
TEST_F(MqTest, NotifyFromAPidNamespaceBelow) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  sigset_t set, old;
  sigevent event = BlockedSignal(&set, &old);
  EXPECT_OK(Notify(fd_.get(), &event));
  clone_args args = {};
  args.flags = CLONE_NEWPID;
  args.exit_signal = SIGCHLD;
  const pid_t child = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
  if (child == 0) _exit(getpid() == 1 && Send(fd_.get(), "x") == 0 ? 0 : 1);
  ASSERT_GT(child, 1);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  siginfo_t info = {};
  const timespec none = {};
  EXPECT_EQ(sigtimedwait(&set, &info, &none), SIGRTMIN);
  EXPECT_EQ(info.si_code, SI_MESGQ);
  EXPECT_EQ(info.si_pid, child);
  sigprocmask(SIG_SETMASK, &old, nullptr);
}

TEST_F(MqTest, NotifyByThread) {
  static std::atomic<int> got;
  got = 0;
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD;
  event.sigev_value.sival_int = 55;
  event.sigev_notify_function = [](sigval v) { got = v.sival_int; };
  ASSERT_OK(mq_notify(fd_.get(), &event));
  EXPECT_OK(Send(fd_.get(), "wake"));
  while (got != 55) sched_yield();
  EXPECT_EQ(Receive(), "wake");
  // Taken back before anything came.
  ASSERT_OK(mq_notify(fd_.get(), &event));
  EXPECT_OK(mq_notify(fd_.get(), nullptr));
}

TEST_F(MqTest, Permissions) {
  if (geteuid() != 0) GTEST_SKIP() << "needs another user";
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(Open(name_, O_RDONLY) == -1 && errno == EACCES);
    CHECK_CHILD(Unlink(name_) == -1 && (errno == EPERM || errno == EACCES));
    return 0;
  })));
  EXPECT_OK(fchmod(fd_.get(), 0604));
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(Open(name_, O_RDONLY) >= 0);
    CHECK_CHILD(Open(name_, O_RDWR) == -1 && errno == EACCES);
    return 0;
  })));
}

TEST_F(MqTest, StatAndRead) {
  struct stat st;
  ASSERT_OK(fstat(fd_.get(), &st));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  EXPECT_EQ(st.st_size, 80);
  EXPECT_OK(Send(fd_.get(), "12345"));
  char text[100] = {};
  EXPECT_OK(read(fd_.get(), text, sizeof(text)));
  EXPECT_STREQ(text, "QSIZE:5          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n");
}

TEST(MqSysctlTest, LimitsAreShown) {
  EXPECT_EQ(ReadFile("/proc/sys/fs/mqueue/msg_default"), "10\n");
  EXPECT_EQ(ReadFile("/proc/sys/fs/mqueue/msgsize_default"), "8192\n");
  EXPECT_EQ(ReadFile("/proc/sys/fs/mqueue/queues_max"), "256\n");
}

TEST_F(MqTest, MountShowsQueues) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(mount("mqueue", dir.path().c_str(), "mqueue", 0, nullptr));
  const std::string path = dir / name_;
  EXPECT_OK(Send(fd_.get(), "abc"));
  EXPECT_EQ(ReadFile(path).substr(0, 8), "QSIZE:3 ");
  EXPECT_OK(unlink(path.c_str()));
  EXPECT_FAILS(Open(name_, O_RDWR), ENOENT);
  {
    // A file made there is a queue.
    Fd made(open(path.c_str(), O_CREAT | O_RDWR, 0600));
    EXPECT_TRUE(made.ok());
    Fd queue(Open(name_, O_RDWR));
    EXPECT_TRUE(queue.ok());
    EXPECT_OK(Send(queue.get(), "x"));
    EXPECT_OK(unlink(path.c_str()));
  }
  EXPECT_OK(umount(dir.path().c_str()));
}

// A mount outlives the namespace whose queues it shows: they stay, but there are no new ones.
TEST(MqMountTest, OutlivesTheNamespace) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(unshare(CLONE_NEWIPC) == 0);
    Fd queue(Open("left", O_CREAT | O_EXCL | O_RDWR));
    CHECK_CHILD(Send(queue.get(), "abc") == 0);
    CHECK_CHILD(mount("mqueue", dir.path().c_str(), "mqueue", 0, nullptr) == 0);
    return 0;
  })));
  const std::string path = dir / "left";
  EXPECT_EQ(ReadFile(path).substr(0, 8), "QSIZE:3 ");
  EXPECT_FAILS(open((dir / "fresh").c_str(), O_CREAT | O_RDWR, 0600), EACCES);
  EXPECT_FAILS(Open("left", O_RDWR), ENOENT);
  EXPECT_OK(unlink(path.c_str()));
  EXPECT_FAILS(access(path.c_str(), F_OK), ENOENT);
  EXPECT_OK(umount(dir.path().c_str()));
}

}  // namespace
}  // namespace ringwall::test
