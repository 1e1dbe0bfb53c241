// Every command of fcntl and every common number of ioctl on every kind of descriptor, by a seed's choice of
// commands and arguments: what is told is mostly which error comes first.
#include <dirent.h>
#include <linux/fs.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <termios.h>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

constexpr int kFirst = 40;
struct Kind {
  const char* name;
  int fd;
};
Kind kinds[48];
uint32_t count;

void Add(const char* name, int fd) {
  if (fd < 0) {
    printf("%s: %s\n", name, strerrorname_np(errno));
    return;
  }
  const int to = kFirst + static_cast<int>(count);
  dup3(fd, to, O_CLOEXEC);
  close(fd);
  kinds[count++] = {name, to};
}
void AddBoth(const char* one, const char* other, const int (&fds)[2]) {
  Add(one, fds[0]);
  Add(other, fds[1]);
}
void MakeAll() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  int two[2];
  Add("file", open("f", O_RDWR | O_CREAT, 0644));
  Add("read-only file", open("f", O_RDONLY));
  Add("path", open("f", O_PATH));
  Add("directory", open(".", O_RDONLY));
  if (pipe2(two, O_NONBLOCK) == 0) AddBoth("pipe reader", "pipe writer", two);
  mkfifo("p", 0600);
  Add("fifo", open("p", O_RDWR | O_NONBLOCK));
  Add("eventfd", eventfd(0, EFD_NONBLOCK));
  Add("timerfd", timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  Add("signalfd", signalfd(-1, &signals, SFD_NONBLOCK));
  Add("inotify", inotify_init1(IN_NONBLOCK));
  Add("epoll", epoll_create1(0));
  Add("memfd", memfd_create("m", MFD_ALLOW_SEALING));
  Add("sealed memfd", memfd_create("s", 0));
  Add("pidfd", static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, two) == 0) AddBoth("unix stream", "its peer", two);
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, two) == 0) AddBoth("unix datagram", "its peer", two);
  if (openpty(&two[0], &two[1], nullptr, nullptr, nullptr) == 0) {
    fcntl(two[0], F_SETFL, O_RDWR | O_NONBLOCK), fcntl(two[1], F_SETFL, O_RDWR | O_NONBLOCK);
    AddBoth("master", "slave", two);
  }
  Add("null", open("/dev/null", O_RDWR));
  Add("zero", open("/dev/zero", O_RDWR));
  Add("full", open("/dev/full", O_RDWR));
  Add("urandom", open("/dev/urandom", O_RDONLY));
  Add("proc stat", open("/proc/self/stat", O_RDONLY));
  Add("proc maps", open("/proc/self/maps", O_RDONLY));
  Add("proc directory", open("/proc/self", O_RDONLY));
  Add("proc mem", open("/proc/self/mem", O_RDWR));
  Add("mount namespace", open("/proc/self/ns/mnt", O_RDONLY));
  Add("user namespace", open("/proc/self/ns/user", O_RDONLY));
  Add("pid namespace", open("/proc/self/ns/pid", O_RDONLY));
}
const Kind& Any() { return kinds[Below(count)]; }

// Room for what is written, filled with a byte.
alignas(16) char room[65536];
struct Argument {
  const char* name;
  uintptr_t value;
};
Argument AnyArgument() {
  memset(room, Pick(0, 0, 0, 1, 0xff), sizeof(room));
  switch (Below(6)) {
    case 0: return {"0", 0};
    case 1: return {"1", 1};
    case 2: return {"-1", ~uintptr_t{0}};
    case 3: return {"bad", 16};
    default: return {"room", reinterpret_cast<uintptr_t>(room)};
  }
}

void Control() {
  const Kind& kind = Any();
  int command = static_cast<int>(Below(45)) - 1;
  if (OneIn(2)) command = 1024 + static_cast<int>(Below(20));
  Argument argument = AnyArgument();
  int small = Pick(0, 1, 2, 3, 9, 64, 65, 4096, 65536, -1);
  switch (command) {
    case F_DUPFD: case F_DUPFD_CLOEXEC: case 1027: {  // F_CREATED_QUERY is 1028
      const int from = Pick(200, 300, -1, 1 << 30);
      Say("fcntl(%s, %d, %d)", kind.name, command, from);
      const int fd = fcntl(kind.fd, command, from);
      Result(fd);
      if (fd >= 200) close(fd);
      return;
    }
    case F_SETOWN:
    case F_SETFL:
      return;  // others have these
    case F_SETLKW: case 38: return;  // waits
    case F_SETLEASE:
      if (strcmp(kind.name, "pidfd") == 0 || strstr(kind.name, "namespace") != nullptr) return;  // a regular file to newer kernels
      break;
    case F_GETPIPE_SZ: case F_SETPIPE_SZ:
      Say("fcntl(%s, %d, %d)", kind.name, command, small);
      return Result(fcntl(kind.fd, command, small));
    default: break;
  }
  const bool number = command == F_SETFD || command == F_SETSIG || command == F_SETLEASE || command == F_NOTIFY || command == F_ADD_SEALS;
  if (command == F_NOTIFY || command == F_SETSIG) small = Pick(0, 65, -1);
  if (command == F_SETLEASE) small = Pick(0, 1, 2, 3, -1);
  if (command == F_ADD_SEALS) small = Pick(0, 64, -1, 1 << 10);
  if (number) argument = {"number", static_cast<uintptr_t>(static_cast<intptr_t>(small))};
  Say("fcntl(%s, %d, %s %d)", kind.name, command, argument.name, number ? small : room[0]);
  const int r = fcntl(kind.fd, command, argument.value);
  Result(command == F_GETOWN && r != -1 ? 0 : r);
}

void Io() {
  const Kind& kind = Any();
  static const unsigned fixed[] = {
      FIONREAD, FIONBIO, FIOASYNC, FIOCLEX, FIONCLEX, FIOQSIZE, TCGETS, TCSETS, TCSBRK, TIOCGWINSZ, TIOCGPGRP, TIOCGSID, TIOCOUTQ, TIOCGETD, TIOCEXCL,
      TIOCNXCL, TIOCPKT, TIOCGPTN, TIOCSPTLCK, TIOCGPTLCK, TIOCMGET, TIOCGSERIAL, TIOCNOTTY, TCFLSH, TCXONC, TIOCGEXCL, TIOCGPKT,
      FIBMAP, FIGETBSZ, FS_IOC_GETFLAGS, FITRIM, FIFREEZE, FITHAW, FICLONE, FICLONERANGE, FIDEDUPERANGE,
      0x5411, SIOCATMARK, SIOCGPGRP, 0x8933 /* SIOCGIFINDEX */, 0x8910, 0x8912, 0x8913, 0x8906, 0x8907, 0x89ff,
      BLKGETSIZE, BLKROGET, BLKFLSBUF, BLKSSZGET, 0xb701, 0xb702, 0xb703, 0xb704, 0xb705, 0xb708, 0xff01, 0xff0a, 0xff0b, 0x40045400u, 0x80085400u,
      0x5200, 0x5201, 0x12345678, 0, 1, 2, 0xffffffff, 0x40049409, 0xc0686611, 0x401c5820, 0x801c581f, 0x5450, 0x5451, 0x5452, 0x5460,
  };
  const unsigned number = fixed[Below(sizeof(fixed) / sizeof(fixed[0]))];
  // What would change the system, wait, or tell of the machine.
  if (number == FIFREEZE || number == FITHAW || number == FITRIM || number == BLKFLSBUF) return;
  Argument argument = AnyArgument();
  // Newer kernels have another errno for flags that a file system does not keep.
  if ((number == FS_IOC_GETFLAGS || number == 0x40086602 || number == 0x801c581f || number == 0x401c5820) && argument.value > 16) return;
  const bool named = strstr(kind.name, "file") != nullptr || strcmp(kind.name, "directory") == 0;
  if (number == FIOASYNC && strcmp(kind.name, "urandom") == 0) return;  // who may be told is nobody
  if (strcmp(kind.name, "pidfd") == 0 && (number == FIBMAP || number == FIDEDUPERANGE)) return;
  if (number == FIBMAP && named) return;  // a matter of the disk's file system
  if (number == FICLONERANGE) {
    const int64_t from = kinds[0].fd;  // nameless files share one file system inside
    memcpy(room, &from, sizeof(from));
  }
  if (number == TCSETS || (number == TCXONC && argument.value < 4)) return;
  if (number == TCSBRK || number == 0x5409) argument = {"1", 1};
  if (number == FICLONE) argument = {"-1", ~uintptr_t{0}};
  Say("ioctl(%s, %#x, %s %d)", kind.name, number, argument.name, room[0]);
  const int r = ioctl(kind.fd, number, argument.value);
  Result(r > 0 ? 1 : r);
  if (r > 0 && (number >> 8) == 0xb7) close(r);
  if (number == FIONBIO) fcntl(kind.fd, F_SETFL, fcntl(kind.fd, F_GETFL) | O_NONBLOCK);
}

// Calls that only some kinds take, on all.
void Others() {
  const Kind& kind = Any();
  struct stat st;
  struct statfs sf;
  struct pollfd p = {kind.fd, static_cast<short>(Pick(0, POLLIN | POLLOUT, 0x7fff, POLLPRI, POLLRDHUP)), 0};
  switch (Below(20)) {
    case 0: {
      if (strstr(kind.name, "directory") != nullptr) return;  // each file system has its own ends
      const int offset = Pick(0, 1, -1), whence = Pick(SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 5);
      Say("lseek(%s, %d, %d)", kind.name, offset, whence);
      return Outcome(lseek(kind.fd, offset, whence));
    }
    case 1: if (strcmp(kind.name, "pidfd") == 0) return; Say("ftruncate(%s)", kind.name); return Result(ftruncate(kind.fd, Pick(0, 0, -1)));
    case 2: if (strcmp(kind.name, "pidfd") == 0) return; Say("fallocate(%s)", kind.name); return Result(fallocate(kind.fd, Pick(0, 1, 3), 0, Pick(0, 100, -1)));
    case 3: Say("fsync(%s)", kind.name); return Result(fsync(kind.fd));
    case 4: Say("fdatasync(%s)", kind.name); return Result(fdatasync(kind.fd));
    // pidfds are regular files to newer kernels.
    case 5: if (strcmp(kind.name, "pidfd") == 0) return; Say("sync_file_range(%s)", kind.name); return Result(sync_file_range(kind.fd, Pick(0, -1), 100, Pick(0u, 7u, 8u)));
    case 6: Say("fadvise(%s)", kind.name); return Result(posix_fadvise(kind.fd, 0, Pick(0, -1), Pick(0, 3, 4, 9)));
    case 7: Say("readahead(%s)", kind.name); return Result(readahead(kind.fd, 0, 100));
    case 8:  // all nameless files of the machine share one inode natively
      if (strstr(kind.name, "file") == nullptr && strncmp(kind.name, "pipe", 4) != 0 && strcmp(kind.name, "directory") != 0) return;
      Say("flock(%s)", kind.name); return Result(flock(kind.fd, Pick(LOCK_SH, LOCK_EX, LOCK_UN, 0, 16) | LOCK_NB));
    case 9: Say("fchmod(%s)", kind.name); return Result(strstr(kind.name, "file") != nullptr ? fchmod(kind.fd, 0644) : 0);
    case 10: Say("getdents(%s)", kind.name); return Outcome(syscall(SYS_getdents64, kind.fd, room, Pick(4096, 4, 0)));
    case 11: Say("epoll_ctl(%s)", kind.name); {
      epoll_event event = {EPOLLIN, {}};
      const int e = epoll_create1(EPOLL_CLOEXEC);
      Result(epoll_ctl(e, EPOLL_CTL_ADD, kind.fd, &event));
      close(e);
      return;
    }
    case 12: Say("splice(%s)", kind.name); {
      int two[2];
      if (pipe2(two, O_NONBLOCK | O_CLOEXEC) != 0) return;
      Result(strncmp(kind.name, "proc", 4) == 0 || strcmp(kind.name, "urandom") == 0 ? 0 : splice(kind.fd, nullptr, two[1], nullptr, 10, SPLICE_F_NONBLOCK));
      close(two[0]), close(two[1]);
      return;
    }
    case 13: {
      const Kind& to = Any();
      if (strcmp(kind.name, "pidfd") == 0 || strcmp(to.name, "pidfd") == 0) return;
      Say("copy_file_range(%s, %s)", kind.name, to.name);
      return Result(copy_file_range(kind.fd, nullptr, to.fd, nullptr, Pick(0, 10), Pick(0u, 1u)));
    }
    case 14: Say("getsockopt(%s)", kind.name); {
      socklen_t n = 4;
      int v;
      return Result(getsockopt(kind.fd, SOL_SOCKET, SO_TYPE, &v, &n));
    }
    case 15: if (strcmp(kind.name, "slave") == 0) return; Say("fstat(%s)", kind.name); {
      const int r = fstat(kind.fd, &st);
      if (r == 0) printf(" %o size %ld", strncmp(kind.name, "memfd", 5) == 0 ? 0 : st.st_mode & (S_IFMT | 0777), S_ISDIR(st.st_mode) || S_ISREG(st.st_mode) ? 0 : static_cast<long>(st.st_size));
      return Result(r);
    }
    case 16: Say("fstatfs(%s)", kind.name); {
      const int r = fstatfs(kind.fd, &sf);
      if (r == 0 && strstr(kind.name, "file") == nullptr && strcmp(kind.name, "path") != 0 && strcmp(kind.name, "directory") != 0 && strcmp(kind.name, "fifo") != 0 && strncmp(kind.name, "m", 1) != 0 && strlen(kind.name) > 5)
        printf(" %lx", static_cast<unsigned long>(sf.f_type));
      return Result(r);
    }
    case 17: Say("mmap(%s)", kind.name); {
      const int flags = Pick(MAP_SHARED, MAP_PRIVATE);
      void* const m = mmap(nullptr, 4096, PROT_READ, flags, kind.fd, 0);
      Outcome(m == MAP_FAILED ? -1 : 0);
      if (m != MAP_FAILED) munmap(m, 4096);
      return;
    }
    case 18: Say("read(%s, 0)", kind.name); return Result(read(kind.fd, room, 0));
    default:
      Say("poll(%s, %#x)", kind.name, p.events);
      poll(&p, 1, 0);
      printf(" %#x", p.revents);
      return Result(0);
  }
}
void Write() {
  const Kind& kind = Any();
  switch (Below(6)) {
    case 0: Say("write(%s, 0)", kind.name); return Result(write(kind.fd, room, 0));
    case 1: Say("pread(%s)", kind.name); return Outcome(strstr(kind.name, "mem") != nullptr ? 0 : pread(kind.fd, room, Pick(0, 4), Pick(0, -1)));
    case 2: Say("pwrite(%s)", kind.name); return Outcome(strstr(kind.name, "mem") != nullptr || strncmp(kind.name, "proc", 4) == 0 ? 0 : pwrite(kind.fd, room, 0, Pick(0, -1)));
    case 3: Say("setns(%s)", kind.name); return Result(strstr(kind.name, "namespace") != nullptr || strcmp(kind.name, "pidfd") == 0 ? 0 : syscall(SYS_setns, kind.fd, Pick(0, CLONE_NEWNS, CLONE_NEWUSER, 7)));
    case 4: Say("fchdir(%s)", kind.name); return Result(strcmp(kind.name, "proc directory") == 0 ? 0 : fchdir(kind.fd));
    default: Say("openat(%s)", kind.name); {
      const int fd = openat(kind.fd, "no", O_RDONLY | O_CLOEXEC);
      return Outcome(fd);
    }
  }
}

constexpr Step kSteps[] = {Control, Control, Control, Io, Io, Io, Io, Others, Others, Others, Write};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  signal(SIGPIPE, SIG_IGN);
  signal(SIGIO, SIG_IGN);
  signal(SIGURG, SIG_IGN);
  MakeAll();
  return RunSteps(argc, argv, kSteps);
}
