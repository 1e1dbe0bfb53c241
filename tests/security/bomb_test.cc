// Programs that want more of everything than they may have: the limit holds, the error is Linux's, and
// the other tasks go on meanwhile.
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <grp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <atomic>
#include <thread>

#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

// Nobody else on the machine has this number, so that limits by user count ours alone; a new one for
// each case, since what the last has left may take a moment to be gone.
uid_t g_user = 61300;

void Limit(int what, rlim_t most) {
  const rlimit limit = {most, most};
  CHECK_CHILD(setrlimit(static_cast<__rlimit_resource>(what), &limit) == 0);
}

bool BecomeUser() {
  if (geteuid() != 0) return true;
  return setgroups(0, nullptr) == 0 && setgid(g_user) == 0 && setuid(g_user) == 0;
}

// A process that does small things all the time and counts them, while `bomb` goes off in another.
template <typename F>
int WhileOthersGoOn(F bomb, int limit_ms = 15000) {
  auto* const beats = static_cast<std::atomic<uint64_t>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const pid_t other = fork();
  if (other == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Pipe p;
    for (;;) {
      char byte = 'b';
      if (write(p.writer.get(), &byte, 1) != 1 || read(p.reader.get(), &byte, 1) != 1) _exit(1);
      if (waitpid(fork() == 0 ? (_exit(0), 0) : -1, nullptr, 0) < 0) _exit(2);
      beats->fetch_add(1);
      usleep(1000);
    }
  }
  while (beats->load() == 0) usleep(1000);
  ++g_user;
  const uint64_t before = beats->load();
  const int status = RunHostile(
      [&] {
        if (!BecomeUser()) return 97;
        return bomb();
      },
      limit_ms);
  const int64_t end = NowMs() + 5000;
  while (beats->load() == before && NowMs() < end) usleep(1000);
  EXPECT_GT(beats->load(), before) << "the other process did not go on";
  EXPECT_EQ(waitpid(other, nullptr, WNOHANG), 0) << "the other process has ended";
  kill(other, SIGKILL);
  waitpid(other, nullptr, 0);
  munmap(beats, 4096);
  return status;
}

TEST(BombTest, OfForks) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_NPROC, 40);
    auto* const made = static_cast<std::atomic<int>*>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    const pid_t first = getpid();
    // Every child goes on forking as well.
    while (fork() >= 0) CHECK_CHILD(made->fetch_add(1) < 1000);
    CHECK_CHILD(errno == EAGAIN);
    if (getpid() != first) return pause();
    // Each fork was counted by both.
    while (made->load() < 78) usleep(1000);
    CHECK_CHILD(made->load() == 78);
    return 7;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfThreads) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_NPROC, 50);
    constexpr unsigned kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    for (int made = 1; made < 1000; made++) {
      char* const stack = static_cast<char*>(
          mmap(nullptr, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      const int tid = clone([](void*) { return pause(); }, stack + 16384, kThread, nullptr);
      if (tid < 0) {
        CHECK_CHILD(errno == EAGAIN);
        CHECK_CHILD(made == 50);
        return 7;
      }
    }
    return 1;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfDescriptors) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_NOFILE, 200);
    int made[2];
    sigset_t none;
    sigemptyset(&none);
    while (open("/dev/null", O_RDONLY) >= 0) {
    }
    CHECK_CHILD(errno == EMFILE);
    CHECK_CHILD(fcntl(199, F_GETFD) == 0 && fcntl(200, F_GETFD) < 0);
    CHECK_CHILD(dup(0) < 0 && errno == EMFILE);
    CHECK_CHILD(fcntl(0, F_DUPFD, 5) < 0 && errno == EMFILE);
    CHECK_CHILD(fcntl(0, F_DUPFD, 200) < 0 && errno == EINVAL);
    CHECK_CHILD(dup2(0, 200) < 0 && errno == EBADF);
    CHECK_CHILD(pipe(made) < 0 && errno == EMFILE);
    CHECK_CHILD(socketpair(AF_UNIX, SOCK_STREAM, 0, made) < 0 && errno == EMFILE);
    CHECK_CHILD(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EMFILE);
    CHECK_CHILD(eventfd(0, 0) < 0 && errno == EMFILE);
    CHECK_CHILD(epoll_create1(0) < 0 && errno == EMFILE);
    CHECK_CHILD(inotify_init() < 0 && errno == EMFILE);
    CHECK_CHILD(memfd_create("x", 0) < 0 && errno == EMFILE);
    close(100);
    CHECK_CHILD(pipe(made) < 0 && errno == EMFILE);  // one is not enough, and none stays open
    CHECK_CHILD(fcntl(100, F_GETFD) < 0);
    return 7;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfPipePages) {
  const std::string soft = ReadFile("/proc/sys/fs/pipe-user-pages-soft");
  const long pages = atol(soft.c_str());
  if (pages <= 0 || pages > 20000) GTEST_SKIP() << "no such limit here: " << soft;
  EXPECT_TRUE(Exited(WhileOthersGoOn([pages] {
    Limit(RLIMIT_NOFILE, 1024);
    long held = 0;
    const std::string full(1 << 16, 'p');
    for (int i = 0; i < 400; i++) {
      int p[2];
      CHECK_CHILD(pipe2(p, O_NONBLOCK) == 0);
      const int size = fcntl(p[0], F_SETPIPE_SZ, 1 << 20);
      if (size < 0) {
        CHECK_CHILD(errno == EPERM);
        CHECK_CHILD(held <= pages + 256);
        // New ones have room for two pages, or for one.
        while (pipe2(p, O_NONBLOCK) == 0) {
        }
        CHECK_CHILD(errno == EMFILE);
        CHECK_CHILD(fcntl(1023, F_GETPIPE_SZ) <= 8192);
        return 7;
      }
      held += size / 4096;
      while (write(p[1], full.data(), full.size()) > 0) {
      }
    }
    return 1;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfInotify) {
  const long most = atol(ReadFile("/proc/sys/fs/inotify/max_user_instances").c_str());
  ASSERT_GT(most, 0);
  EXPECT_TRUE(Exited(WhileOthersGoOn([most] {
    for (long made = 0; made <= most; made++) {
      if (inotify_init() >= 0) continue;
      CHECK_CHILD(errno == EMFILE);
      CHECK_CHILD(made <= most);
      return 7;
    }
    return 1;
  }), 7));
  // Events that nobody reads: the queue ends with one word of what was lost.
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    TempDir dir;
    Fd inotify(inotify_init1(IN_NONBLOCK));
    CHECK_CHILD(inotify_add_watch(inotify.get(), dir.path().c_str(), IN_ALL_EVENTS) > 0);
    const long room = atol(ReadFile("/proc/sys/fs/inotify/max_queued_events").c_str());
    CHECK_CHILD(room > 0 && room <= 100000);
    const std::string one = dir.File("one"), two = dir / "two";
    for (long i = 0; i < room / 4 + 100; i++) {  // four events each
      CHECK_CHILD(rename(one.c_str(), two.c_str()) == 0 && rename(two.c_str(), one.c_str()) == 0);
    }
    long events = 0;
    bool overflow = false;
    alignas(inotify_event) char buffer[65536];
    ssize_t n;
    while ((n = read(inotify.get(), buffer, sizeof(buffer))) > 0) {
      for (ssize_t at = 0; at < n; events++) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
        overflow = overflow || (event->mask & IN_Q_OVERFLOW) != 0;
        at += static_cast<ssize_t>(sizeof(*event) + event->len);
      }
    }
    CHECK_CHILD(overflow && events <= room + 1);
    return 7;
  }, 60000), 7));
  ExpectWell();
}

TEST(BombTest, OfTimers) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_SIGPENDING, 60);
    signal(SIGUSR1, SIG_IGN);
    for (int made = 0; made < 1000; made++) {
      sigevent ev = {};
      ev.sigev_notify = SIGEV_SIGNAL;
      ev.sigev_signo = SIGUSR1;
      timer_t timer;
      if (timer_create(CLOCK_MONOTONIC, &ev, &timer) != 0) {
        CHECK_CHILD(errno == EAGAIN);
        CHECK_CHILD(made > 50 && made <= 60);
        return 7;
      }
      const itimerspec often = {{0, 1}, {0, 1}};
      CHECK_CHILD(timer_settime(timer, 0, &often, nullptr) == 0);
    }
    return 1;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfSignals) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_SIGPENDING, 60);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    for (int queued = 0; queued < 1000; queued++) {
      const sigval value = {queued};
      if (sigqueue(getpid(), SIGRTMIN + queued % 8, value) != 0) {
        CHECK_CHILD(errno == EAGAIN);
        CHECK_CHILD(queued == 60);
        // A plain signal comes through all the same, without a word of who sent it.
        CHECK_CHILD(kill(getpid(), SIGUSR1) == 0);
        siginfo_t info;
        sigset_t usr1;
        sigemptyset(&usr1);
        sigaddset(&usr1, SIGUSR1);
        const timespec none = {};
        CHECK_CHILD(sigtimedwait(&usr1, &info, &none) == SIGUSR1);
        return 7;
      }
    }
    return 1;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfMemory) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_AS, 256 << 20);
    size_t got = 0;
    while (mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
      got++;
    }
    CHECK_CHILD(errno == ENOMEM);
    CHECK_CHILD(got > 100 && got <= 256);
    CHECK_CHILD(mmap(nullptr, 1ul << 45, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK_CHILD(errno == ENOMEM);
    return 7;
  }), 7));
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_DATA, 64 << 20);
    size_t got = 0;
    while (got < 200 && sbrk(1 << 20) != reinterpret_cast<void*>(-1)) got++;
    CHECK_CHILD(errno == ENOMEM);
    CHECK_CHILD(got <= 64);
    return 7;
  }), 7));
  EXPECT_TRUE(KilledBy(WhileOthersGoOn([] {
    Limit(RLIMIT_CORE, 0);
    Limit(RLIMIT_STACK, 1 << 20);
    // As a recursion without an end.
    volatile char* p = static_cast<char*>(__builtin_frame_address(0));
    for (;; p -= 4096) *p = 1;
    return 1;
  }), SIGSEGV));
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_MEMLOCK, 64 << 10);
    void* const m = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_CHILD(mlock(m, 32 << 10) == 0);
    CHECK_CHILD(mlock(m, 1 << 20) < 0 && errno == ENOMEM);
    CHECK_CHILD(mlockall(MCL_CURRENT) < 0 && errno == ENOMEM);
    return 7;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfMappings) {
  const long most = atol(ReadFile("/proc/sys/vm/max_map_count").c_str());
  if (most <= 0 || most > 70000) GTEST_SKIP() << "the limit is too high to reach: " << most;
  EXPECT_TRUE(Exited(WhileOthersGoOn([most] {
    const size_t size = static_cast<size_t>(most + 100) * 4096;
    auto* const area = static_cast<char*>(
        mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    CHECK_CHILD(area != MAP_FAILED);
    for (long page = 1; page < most + 100; page += 2) {
      if (mprotect(area + page * 4096, 4096, PROT_READ) == 0) continue;
      CHECK_CHILD(errno == ENOMEM);
      CHECK_CHILD(munmap(area, size) == 0);
      return 7;
    }
    return 1;
  }, 60000), 7));
  ExpectWell();
}

TEST(BombTest, OfMessageQueues) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_MSGQUEUE, 100000);
    char name[32];
    mq_attr attr = {};
    attr.mq_maxmsg = 10;
    attr.mq_msgsize = 1024;
    int made = 0, error = 0;
    for (; made < 50 && error == 0; made++) {
      snprintf(name, sizeof(name), "/ringwall-bomb-%d", made);
      if (mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr) < 0) error = errno;
    }
    for (int i = 0; i < made; i++) {
      snprintf(name, sizeof(name), "/ringwall-bomb-%d", i);
      mq_unlink(name);
    }
    CHECK_CHILD(error == EMFILE);
    CHECK_CHILD(made < 12);
    return 7;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfPassedDescriptors) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    Limit(RLIMIT_NOFILE, 64);
    int pair[2];
    CHECK_CHILD(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0);
    const int null = open("/dev/null", O_RDONLY);
    for (int sent = 0; sent < 2000; sent++) {
      char byte = 0;
      iovec part = {&byte, 1};
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 20)] = {};
      msghdr message = {};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      cmsghdr* const head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(sizeof(int) * 20);
      for (int i = 0; i < 20; i++) memcpy(CMSG_DATA(head) + i * 4, &null, 4);
      if (sendmsg(pair[0], &message, 0) == 1) continue;
      CHECK_CHILD(errno == ETOOMANYREFS);
      CHECK_CHILD(sent >= 3 && sent <= 5);
      return 7;
    }
    return 1;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfNestedEpolls) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    int inner = epoll_create1(0);
    epoll_event event = {EPOLLIN, {}};
    for (int depth = 0; depth < 20; depth++) {
      const int outer = epoll_create1(0);
      if (epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event) != 0) {
        CHECK_CHILD(errno == ELOOP);
        CHECK_CHILD(depth <= 5);
        return 7;
      }
      inner = outer;
    }
    return 1;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfSocketBuffers) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    const std::string chunk(60000, 'b');
    for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
      int pair[2];
      CHECK_CHILD(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, pair) == 0);
      size_t sent = 0;
      ssize_t n;
      while ((n = send(pair[0], chunk.data(), chunk.size(), 0)) > 0) {
        sent += static_cast<size_t>(n);
        CHECK_CHILD(sent < 16 << 20);
      }
      CHECK_CHILD(errno == EAGAIN);
    }
    return 7;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfConnectionsThatNobodyAccepts) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    TempDir dir;
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    snprintf(name.sun_path, sizeof(name.sun_path), "%s/s", dir.path().c_str());
    Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_CHILD(bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0);
    CHECK_CHILD(listen(listener.get(), 10) == 0);
    for (int made = 0; made < 100; made++) {
      const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
      if (connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0) continue;
      CHECK_CHILD(errno == EAGAIN);
      CHECK_CHILD(made == 11);
      return 7;
    }
    return 1;
  }), 7));
  ExpectWell();
}

TEST(BombTest, OfUserNamespaces) {
  const int status = WhileOthersGoOn([] {
    prctl(PR_SET_DUMPABLE, 1);  // or the files of its own below would be root's
    for (int depth = 0; depth < 50; depth++) {
      const std::string map = "0 " + std::to_string(getuid()) + " 1";
      if (unshare(CLONE_NEWUSER) == 0) {
        // One that is not mapped makes no more of them.
        Fd file(open("/proc/self/uid_map", O_WRONLY));
        CHECK_CHILD(write(file.get(), map.data(), map.size()) == static_cast<ssize_t>(map.size()));
        Fd deny(open("/proc/self/setgroups", O_WRONLY));
        CHECK_CHILD(depth > 0 || write(deny.get(), "deny", 4) == 4);
        const std::string group = "0 " + std::to_string(depth == 0 ? g_user : 0) + " 1";
        Fd groups(open("/proc/self/gid_map", O_WRONLY));
        CHECK_CHILD(write(groups.get(), group.data(), group.size()) == static_cast<ssize_t>(group.size()));
        continue;
      }
      // The host may have a limit of its own, or none of these namespaces at all.
      if (depth == 0 && errno != ENOSPC) return 77;
      CHECK_CHILD(errno == ENOSPC || errno == EUSERS);
      CHECK_CHILD(depth <= 33);
      return 7;
    }
    return 1;
  });
  if (Exited(status, 77)) GTEST_SKIP() << "no user namespaces here";
  EXPECT_TRUE(Exited(status, 7));
  ExpectWell();
}

TEST(BombTest, OfDeepFolders) {
  EXPECT_TRUE(Exited(WhileOthersGoOn([] {
    // Deeper than any path can name, and down again; a recursion would end the kernel's stack.
    TempDir dir;
    constexpr int kDepth = 3000;
    CHECK_CHILD(chdir(dir.path().c_str()) == 0);
    for (int i = 0; i < kDepth; i++) CHECK_CHILD(mkdir("deep", 0700) == 0 && chdir("deep") == 0);
    char path[8192];
    errno = 0;
    CHECK_CHILD(syscall(SYS_getcwd, path, 4096) < 0 && errno == ENAMETOOLONG);
    CHECK_CHILD(syscall(SYS_getcwd, path, 100) < 0 && errno == ENAMETOOLONG);
    for (int i = 0; i < kDepth; i++) CHECK_CHILD(chdir("..") == 0 && rmdir("deep") == 0);
    return 7;
  }), 7));
  ExpectWell();
}

}  // namespace
}  // namespace ringwall::test
