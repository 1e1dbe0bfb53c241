// Leases (F_SETLEASE, F_GETLEASE), directory notification (F_NOTIFY), ETXTBSY, and the locks that a
// replaced descriptor drops.
#include <sys/file.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

// Blocks a signal, so that it waits to be taken.
class Held {
 public:
  explicit Held(int signo) {
    sigemptyset(&set_);
    sigaddset(&set_, signo);
    sigprocmask(SIG_BLOCK, &set_, &old_);
  }
  ~Held() {
    while (Take(0) != 0) {
    }
    sigprocmask(SIG_SETMASK, &old_, nullptr);
  }
  // The signal, when it comes within so many seconds; 0 otherwise.
  int Take(int seconds, siginfo_t* info = nullptr) {
    const timespec limit = {seconds, 0};
    siginfo_t own;
    const int got = sigtimedwait(&set_, info != nullptr ? info : &own, &limit);
    return got > 0 ? got : 0;
  }
  int TakeAll() {
    int n = 0;
    while (Take(0) != 0) n++;
    return n;
  }

 private:
  sigset_t set_, old_;
};

class LeaseTest : public ::testing::Test {
 protected:
  TempDir dir_;
  const std::string path_ = dir_.File("f", "content");
};

TEST_F(LeaseTest, IsRemembered) {
  Fd fd(open(path_.c_str(), O_RDONLY));
  EXPECT_EQ(fcntl(fd.get(), F_GETLEASE), F_UNLCK);
  EXPECT_FAILS(fcntl(fd.get(), F_SETLEASE, F_UNLCK), EAGAIN);
  EXPECT_OK(fcntl(fd.get(), F_SETLEASE, F_RDLCK));
  EXPECT_EQ(fcntl(fd.get(), F_GETLEASE), F_RDLCK);
  EXPECT_OK(fcntl(fd.get(), F_SETLEASE, F_WRLCK));
  EXPECT_EQ(fcntl(fd.get(), F_GETLEASE), F_WRLCK);
  EXPECT_EQ(fcntl(fd.get(), F_GETOWN), getpid());
  EXPECT_OK(fcntl(fd.get(), F_SETLEASE, F_UNLCK));
  EXPECT_EQ(fcntl(fd.get(), F_GETLEASE), F_UNLCK);
}

TEST_F(LeaseTest, WantsARegularFileAndAKnownType) {
  Fd fd(open(path_.c_str(), O_RDONLY));
  EXPECT_FAILS(fcntl(fd.get(), F_SETLEASE, 7), EINVAL);
  Pipe p;
  EXPECT_FAILS(fcntl(p.reader.get(), F_SETLEASE, F_RDLCK), EINVAL);
  EXPECT_FAILS(fcntl(-1, F_SETLEASE, F_RDLCK), EBADF);
  Fd place(open(path_.c_str(), O_PATH));
  EXPECT_FAILS(fcntl(place.get(), F_SETLEASE, F_RDLCK), EBADF);
}

TEST_F(LeaseTest, IsRefusedWhileOthersHaveTheFileOpen) {
  Fd writer(open(path_.c_str(), O_RDWR));
  EXPECT_FAILS(fcntl(writer.get(), F_SETLEASE, F_RDLCK), EAGAIN);
  {
    Fd reader(open(path_.c_str(), O_RDONLY));
    EXPECT_FAILS(fcntl(reader.get(), F_SETLEASE, F_RDLCK), EAGAIN);
    EXPECT_FAILS(fcntl(writer.get(), F_SETLEASE, F_WRLCK), EAGAIN);
  }
  EXPECT_OK(fcntl(writer.get(), F_SETLEASE, F_WRLCK));
  writer.Reset();
  Fd a(open(path_.c_str(), O_RDONLY)), b(open(path_.c_str(), O_RDONLY));
  EXPECT_OK(fcntl(a.get(), F_SETLEASE, F_RDLCK));
  EXPECT_OK(fcntl(b.get(), F_SETLEASE, F_RDLCK));
  EXPECT_FAILS(fcntl(b.get(), F_SETLEASE, F_WRLCK), EAGAIN);
}

TEST_F(LeaseTest, BelongsToOwnersOnly) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    Fd fd(open(path_.c_str(), O_RDONLY));
    CHECK_CHILD(fd.ok());
    CHECK_CHILD(fcntl(fd.get(), F_SETLEASE, F_RDLCK) == -1 && errno == EACCES);
    return 0;
  })));
}

TEST_F(LeaseTest, AnOpenThatMayNotWaitTellsTheHolder) {
  Held held(SIGIO);
  Fd fd(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(fd.get(), F_SETLEASE, F_RDLCK));
  Fd reader(open(path_.c_str(), O_RDONLY | O_NONBLOCK));
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(held.Take(0), 0);
  EXPECT_FAILS(open(path_.c_str(), O_WRONLY | O_NONBLOCK), EAGAIN);
  EXPECT_EQ(held.Take(0), SIGIO);
  EXPECT_EQ(fcntl(fd.get(), F_GETLEASE), F_UNLCK);
  EXPECT_FAILS(open(path_.c_str(), O_WRONLY | O_NONBLOCK), EAGAIN);
  EXPECT_EQ(held.Take(0), 0);  // it has been told
  EXPECT_OK(fcntl(fd.get(), F_SETLEASE, F_UNLCK));
  Fd writer(open(path_.c_str(), O_WRONLY | O_NONBLOCK));
  EXPECT_TRUE(writer.ok());
}

TEST_F(LeaseTest, SignalSaysWhichDescriptor) {
  const int signo = SIGRTMIN + 4;
  Held held(signo);
  Fd fd(open(path_.c_str(), O_RDWR));
  ASSERT_OK(fcntl(fd.get(), F_SETSIG, signo));
  ASSERT_OK(fcntl(fd.get(), F_SETLEASE, F_WRLCK));
  EXPECT_FAILS(open(path_.c_str(), O_RDONLY | O_NONBLOCK), EAGAIN);
  siginfo_t info = {};
  ASSERT_EQ(held.Take(0, &info), signo);
  EXPECT_EQ(info.si_code, POLL_MSG);
  EXPECT_EQ(info.si_fd, fd.get());
  EXPECT_EQ(fcntl(fd.get(), F_GETLEASE), F_RDLCK);  // what it is to become
}

// Opens or truncates in a child while the parent holds `type`; the parent gives the lease up when told.
template <typename F>
void ExpectWaits(const std::string& path, int open_flags, int type, F breaker) {
  Held held(SIGIO);
  Fd fd(open(path.c_str(), open_flags));
  ASSERT_OK(fcntl(fd.get(), F_SETLEASE, type));
  Pipe p;
  const pid_t child = fork();
  if (child == 0) {
    fd.Reset();
    const int failed = breaker();
    CHECK_CHILD(write(p.writer.get(), "x", 1) == 1);
    _exit(failed);
  }
  EXPECT_EQ(held.Take(20), SIGIO);
  fcntl(p.reader.get(), F_SETFL, O_NONBLOCK);
  char c;
  EXPECT_FAILS(read(p.reader.get(), &c, 1), EAGAIN);
  EXPECT_OK(fcntl(fd.get(), F_SETLEASE, F_UNLCK));
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(Exited(status));
}

TEST_F(LeaseTest, OpensAndTruncationsWaitForTheHolder) {
  ExpectWaits(path_, O_RDWR, F_WRLCK, [&] { return open(path_.c_str(), O_RDONLY) < 0; });
  ExpectWaits(path_, O_RDONLY, F_RDLCK, [&] { return open(path_.c_str(), O_WRONLY) < 0; });
  ExpectWaits(path_, O_RDONLY, F_RDLCK, [&] { return truncate(path_.c_str(), 3); });
  EXPECT_EQ(ReadFile(path_), "con");
  ExpectWaits(path_, O_RDONLY, F_RDLCK,
              [&] { return open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600) < 0; });
  EXPECT_EQ(ReadFile(path_), "");
}

TEST_F(LeaseTest, EndsWithItsDescription) {
  Held held(SIGIO);
  Fd fd(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(fd.get(), F_SETLEASE, F_RDLCK));
  Fd copy(dup(fd.get()));
  fd.Reset();
  EXPECT_FAILS(open(path_.c_str(), O_WRONLY | O_NONBLOCK), EAGAIN);
  copy.Reset();
  Fd writer(open(path_.c_str(), O_WRONLY | O_NONBLOCK));
  EXPECT_TRUE(writer.ok());
}

TEST_F(LeaseTest, AWaitIsInterrupted) {
  Held held(SIGIO);
  Fd fd(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(fd.get(), F_SETLEASE, F_RDLCK));
  EXPECT_TRUE(Exited(InChild([&] {
    fd.Reset();
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGALRM, &action, nullptr);
    ualarm(50'000, 50'000);
    CHECK_CHILD(open(path_.c_str(), O_WRONLY) == -1 && errno == EINTR);
    return 0;
  })));
}

class NotifyTest : public ::testing::Test {
 protected:
  TempDir dir_;
  const std::string file_ = dir_.File("f", "content");
  Fd fd_{open(dir_.path().c_str(), O_RDONLY)};
  Held held_{SIGIO};
};

TEST_F(NotifyTest, TellsOnceUnlessAskedForMore) {
  EXPECT_OK(fcntl(fd_.get(), F_NOTIFY, DN_CREATE));
  EXPECT_EQ(fcntl(fd_.get(), F_GETOWN), getpid());
  dir_.File("one");
  EXPECT_EQ(held_.TakeAll(), 1);
  dir_.File("two");
  EXPECT_EQ(held_.TakeAll(), 0);
  EXPECT_OK(fcntl(fd_.get(), F_NOTIFY, DN_CREATE | DN_MULTISHOT));
  for (const char* name : {"three", "four"}) {
    dir_.File(name);
    EXPECT_EQ(held_.TakeAll(), 1) << name;
  }
  EXPECT_OK(fcntl(fd_.get(), F_NOTIFY, 0));
  dir_.File("five");
  EXPECT_EQ(held_.TakeAll(), 0);
}

TEST_F(NotifyTest, EventsAreKeptApart) {
  TempDir other;
  const std::string there = other / "f", renamed = dir_ / "g";
  const auto set = [&](int events) { EXPECT_OK(fcntl(fd_.get(), F_NOTIFY, events)); };
  set(DN_RENAME | DN_MULTISHOT);
  EXPECT_OK(rename(file_.c_str(), renamed.c_str()));
  EXPECT_EQ(held_.TakeAll(), 1);
  EXPECT_OK(rename(renamed.c_str(), there.c_str()));
  EXPECT_OK(rename(there.c_str(), file_.c_str()));
  EXPECT_EQ(held_.TakeAll(), 0);  // only within the directory
  set(0);
  set(DN_DELETE);
  EXPECT_OK(rename(file_.c_str(), there.c_str()));
  EXPECT_EQ(held_.TakeAll(), 1);
  set(DN_CREATE);
  EXPECT_OK(rename(there.c_str(), file_.c_str()));
  EXPECT_EQ(held_.TakeAll(), 1);
  set(DN_MODIFY);
  Fd fd(open(file_.c_str(), O_RDWR));
  EXPECT_EQ(write(fd.get(), "x", 1), 1);
  EXPECT_EQ(held_.TakeAll(), 1);
  set(DN_ACCESS);
  char c;
  EXPECT_EQ(pread(fd.get(), &c, 1, 0), 1);
  EXPECT_EQ(held_.TakeAll(), 1);
  set(DN_ATTRIB);
  EXPECT_OK(chmod(file_.c_str(), 0600));
  EXPECT_EQ(held_.TakeAll(), 1);
}

TEST_F(NotifyTest, EndsWithAnyDescriptorOfTheProcess) {
  EXPECT_OK(fcntl(fd_.get(), F_NOTIFY, DN_CREATE | DN_MULTISHOT));
  Fd copy(dup(fd_.get()));
  copy.Reset();
  dir_.File("one");
  EXPECT_EQ(held_.TakeAll(), 0);
}

TEST_F(NotifyTest, IsForDirectoriesAndSaysWhichDescriptor) {
  Fd file(open(file_.c_str(), O_RDONLY));
  EXPECT_FAILS(fcntl(file.get(), F_NOTIFY, DN_MODIFY), ENOTDIR);
  EXPECT_OK(fcntl(file.get(), F_NOTIFY, 0));
  const int signo = SIGRTMIN + 4;
  Held held(signo);
  ASSERT_OK(fcntl(fd_.get(), F_SETSIG, signo));
  ASSERT_OK(fcntl(fd_.get(), F_NOTIFY, DN_ATTRIB));
  EXPECT_OK(chmod(dir_.path().c_str(), 0700));  // the directory's own count, too
  siginfo_t info = {};
  ASSERT_EQ(held.Take(0, &info), signo);
  EXPECT_EQ(info.si_code, POLL_MSG);
  EXPECT_EQ(info.si_fd, fd_.get());
}

TEST(TextBusyTest, ARunningProgramIsNotWritten) {
  TempDir dir;
  const std::string copy = dir.File("program", ReadFile("/bin/sleep"), 0755);
  Pipe ready(O_CLOEXEC);
  const pid_t child = fork();
  if (child == 0) {
    execl(copy.c_str(), "sleep", "30", nullptr);
    _exit(1);
  }
  ready.writer.Reset();
  char c;
  EXPECT_EQ(read(ready.reader.get(), &c, 1), 0);  // closed by the exec
  EXPECT_FAILS(open(copy.c_str(), O_WRONLY), ETXTBSY);
  EXPECT_FAILS(open(copy.c_str(), O_RDWR | O_TRUNC), ETXTBSY);
  EXPECT_FAILS(truncate(copy.c_str(), 0), ETXTBSY);
  Fd reader(open(copy.c_str(), O_RDONLY));
  EXPECT_TRUE(reader.ok());
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  Fd writer(open(copy.c_str(), O_WRONLY));
  EXPECT_TRUE(writer.ok());
  EXPECT_FAILS(execl(copy.c_str(), "sleep", "0", nullptr), ETXTBSY);
}

TEST(LockTest, AReplacedDescriptorDropsItsLocks) {
  TempDir dir;
  const std::string path = dir.File("f");
  Fd fd(open(path.c_str(), O_RDWR));
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  ASSERT_OK(fcntl(fd.get(), F_SETLK, &whole));
  Fd other(open(path.c_str(), O_RDONLY));
  Pipe p;
  ASSERT_OK(dup2(p.reader.get(), other.get()));
  EXPECT_TRUE(Exited(InChild([&] {
    struct flock ask = {};
    ask.l_type = F_WRLCK;
    CHECK_CHILD(fcntl(fd.get(), F_GETLK, &ask) == 0);
    CHECK_CHILD(ask.l_type == F_UNLCK);
    return 0;
  })));
}

}  // namespace
}  // namespace ringwall::test
