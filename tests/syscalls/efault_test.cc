// Every pointer argument of many calls, pointed at nothing: EFAULT, and nothing else happens.
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

struct Attempt {
  const char* name;
  long nr;
  int64_t args[6];
};

constexpr int64_t kBad = 0x10;
// Above the user's half, where a careless kernel would read its own memory.
constexpr int64_t kKernel = static_cast<int64_t>(0xffff888000000000ull);
constexpr int64_t kNoncanonical = 0x0001000000000000;
constexpr int64_t kTop = 0x7ffffffff000;

class EfaultTest : public ::testing::TestWithParam<int64_t> {
 protected:
  EfaultTest() {
    file_.Reset(open(dir_.File("f", "content").c_str(), O_RDWR));
    folder_.Reset(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
    epoll_.Reset(epoll_create1(0));
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0) {
      a_.Reset(fds[0]);
      b_.Reset(fds[1]);
    }
    epoll_event e = {EPOLLOUT, {}};
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, a_.get(), &e);
    timer_.Reset(timerfd_create(CLOCK_MONOTONIC, 0));
  }
  void Expect(const std::vector<Attempt>& attempts) {
    for (const Attempt& t : attempts) {
      const auto& a = t.args;
      errno = 0;
      const long r = syscall(t.nr, a[0], a[1], a[2], a[3], a[4], a[5]);
      EXPECT_TRUE(r == -1 && errno == EFAULT)
          << t.name << " returned " << r << " " << ErrnoName(errno);
    }
  }
  TempDir dir_;
  Fd file_, folder_, epoll_, a_, b_, timer_;
  Fd inotify_{inotify_init1(IN_CLOEXEC)};
  int zero_ = 0;
  Pipe pipe_;
};

TEST_P(EfaultTest, Paths) {
  const int64_t bad = GetParam();
  const auto good = reinterpret_cast<int64_t>(dir_.path().c_str());
  const int64_t at = AT_FDCWD;
  Expect({{"open", SYS_open, {bad, O_RDONLY}},
          {"openat", SYS_openat, {at, bad, O_RDONLY}},
          {"creat", SYS_creat, {bad, 0600}},
          {"stat", SYS_stat, {bad, good}},
          {"lstat", SYS_lstat, {bad, good}},
          {"newfstatat", SYS_newfstatat, {at, bad, good, 0}},
          {"statx", SYS_statx, {at, bad, 0, 0x7ff, good}},
          {"access", SYS_access, {bad, 0}},
          {"faccessat", SYS_faccessat, {at, bad, 0}},
          {"mkdir", SYS_mkdir, {bad, 0700}},
          {"rmdir", SYS_rmdir, {bad}},
          {"unlink", SYS_unlink, {bad}},
          {"unlinkat", SYS_unlinkat, {at, bad, 0}},
          {"rename 1", SYS_rename, {bad, good}},
          {"rename 2", SYS_rename, {good, bad}},
          {"link 1", SYS_link, {bad, good}},
          {"link 2", SYS_link, {good, bad}},
          {"symlink 1", SYS_symlink, {bad, good}},
          {"symlink 2", SYS_symlink, {good, bad}},
          {"readlink 1", SYS_readlink, {bad, good, 10}},
          {"chmod", SYS_chmod, {bad, 0600}},
          {"chown", SYS_chown, {bad, -1, -1}},
          {"lchown", SYS_lchown, {bad, -1, -1}},
          {"truncate", SYS_truncate, {bad, 0}},
          {"chdir", SYS_chdir, {bad}},
          {"chroot", SYS_chroot, {bad}},
          {"utimensat", SYS_utimensat, {at, bad, 0, 0}},
          {"statfs", SYS_statfs, {bad, good}},
          {"mknod", SYS_mknod, {bad, S_IFIFO | 0600, 0}},
          {"execve", SYS_execve, {bad, 0, 0}},
          {"getxattr", SYS_getxattr, {bad, good, 0, 0}},
          {"inotify_add_watch", SYS_inotify_add_watch, {inotify_.get(), bad, 1}}});
}

TEST_P(EfaultTest, Results) {
  const int64_t bad = GetParam(), f = file_.get(), d = folder_.get();
  const auto path = reinterpret_cast<int64_t>("/");
  Expect({{"read", SYS_read, {f, bad, 4}},
          {"pread", SYS_pread64, {f, bad, 4, 0}},
          {"readv", SYS_readv, {f, bad, 1}},
          {"fstat", SYS_fstat, {f, bad}},
          {"stat", SYS_stat, {path, bad}},
          {"statx", SYS_statx, {AT_FDCWD, path, 0, 0x7ff, bad}},
          {"statfs", SYS_statfs, {path, bad}},
          {"fstatfs", SYS_fstatfs, {f, bad}},
          {"getdents64", SYS_getdents64, {d, bad, 4096}},
          {"getcwd", SYS_getcwd, {bad, 4096}},
          {"pipe2", SYS_pipe2, {bad, 0}},
          {"getrlimit", SYS_getrlimit, {RLIMIT_NOFILE, bad}},
          {"prlimit old", SYS_prlimit64, {0, RLIMIT_NOFILE, 0, bad}},
          {"getrusage", SYS_getrusage, {0, bad}},
          {"uname", SYS_uname, {bad}},
          {"sysinfo", SYS_sysinfo, {bad}},
          {"times", SYS_times, {bad}},
          {"getresuid", SYS_getresuid, {bad, bad, bad}},
          {"getresgid", SYS_getresgid, {bad, bad, bad}},
          {"clock_gettime", SYS_clock_gettime, {CLOCK_MONOTONIC, bad}},
          {"clock_getres", SYS_clock_getres, {CLOCK_MONOTONIC, bad}},
          {"gettimeofday", SYS_gettimeofday, {bad, 0}},
          {"rt_sigpending", SYS_rt_sigpending, {bad, 8}},
          {"rt_sigprocmask old", SYS_rt_sigprocmask, {SIG_BLOCK, 0, bad, 8}},
          {"rt_sigaction old", SYS_rt_sigaction, {SIGUSR1, 0, bad, 8}},
          {"sigaltstack old", SYS_sigaltstack, {0, bad}},
          {"getitimer", SYS_getitimer, {0, bad}},
          {"sched_getparam", SYS_sched_getparam, {0, bad}},
          {"sched_getaffinity", SYS_sched_getaffinity, {0, 128, bad}},
          {"getrandom", SYS_getrandom, {bad, 8, 0}},
          {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, bad}},
          {"getsockname", SYS_getsockname, {a_.get(), bad, bad}},
          {"getsockopt", SYS_getsockopt, {a_.get(), SOL_SOCKET, SO_TYPE, bad, bad}},
          {"epoll_wait", SYS_epoll_wait, {epoll_.get(), bad, 1, 0}},
          {"timerfd_gettime", SYS_timerfd_gettime, {timer_.get(), bad}},
          {"capget", SYS_capget, {bad, bad}},
          {"prctl name", SYS_prctl, {16, bad}},
          {"get_robust_list", SYS_get_robust_list, {0, bad, bad}}});
}

TEST_P(EfaultTest, Inputs) {
  const int64_t bad = GetParam(), f = file_.get();
  Expect({{"write", SYS_write, {f, bad, 4}},
          {"pwrite", SYS_pwrite64, {f, bad, 4, 0}},
          {"writev", SYS_writev, {f, bad, 1}},
          {"write pipe", SYS_write, {pipe_.writer.get(), bad, 4}},
          {"write socket", SYS_write, {a_.get(), bad, 4}},
          {"sendmsg", SYS_sendmsg, {a_.get(), bad, 0}},
          {"recvmsg", SYS_recvmsg, {a_.get(), bad, MSG_DONTWAIT}},
          {"poll", SYS_poll, {bad, 1, 0}},
          {"ppoll mask", SYS_ppoll, {0, 0, 0, bad, 8}},
          {"ppoll time", SYS_ppoll, {0, 0, bad, 0, 8}},
          {"select", SYS_select, {1, bad, 0, 0, 0}},
          {"select time", SYS_select, {0, 0, 0, 0, bad}},
          {"epoll_ctl", SYS_epoll_ctl, {epoll_.get(), EPOLL_CTL_ADD, b_.get(), bad}},
          {"nanosleep", SYS_nanosleep, {bad, 0}},
          {"clock_nanosleep", SYS_clock_nanosleep, {CLOCK_MONOTONIC, 0, bad, 0}},
          {"rt_sigaction", SYS_rt_sigaction, {SIGUSR1, bad, 0, 8}},
          {"rt_sigprocmask", SYS_rt_sigprocmask, {SIG_BLOCK, bad, 0, 8}},
          {"rt_sigsuspend", SYS_rt_sigsuspend, {bad, 8}},
          {"rt_sigtimedwait", SYS_rt_sigtimedwait, {bad, 0, 0, 8}},
          {"sigaltstack", SYS_sigaltstack, {bad, 0}},
          {"setrlimit", SYS_setrlimit, {RLIMIT_NOFILE, bad}},
          {"setitimer", SYS_setitimer, {0, bad, 0}},
          {"timerfd_settime", SYS_timerfd_settime, {timer_.get(), 0, bad, 0}},
          {"futex time", SYS_futex, {reinterpret_cast<int64_t>(&zero_), 0, 0, bad, 0, 0}},
          {"connect", SYS_connect, {a_.get(), bad, 16}},
          {"bind", SYS_bind, {a_.get(), bad, 16}},
          {"setsockopt", SYS_setsockopt, {a_.get(), SOL_SOCKET, SO_PASSCRED, bad, 4}},
          {"fcntl lock", SYS_fcntl, {f, F_SETLK, bad}},
          {"utimensat times", SYS_utimensat,
           {AT_FDCWD, reinterpret_cast<int64_t>("/"), bad, 0}},
          {"process_vm_readv", SYS_process_vm_readv, {getpid(), bad, 1, bad, 1, 0}},
          {"memfd_create", SYS_memfd_create, {bad, 0}},
          {"clone3", SYS_clone3, {bad, 88}}});
  EXPECT_EQ(ReadFile(dir_ / "f"), "content");
}

INSTANTIATE_TEST_SUITE_P(Addresses, EfaultTest,
                         ::testing::Values(kBad, kKernel, kNoncanonical, kTop));

}  // namespace
}  // namespace ringwall::test
