// Random file operations under inotify: which events each makes, their order, cookies and names, masks and flags
// of watches, what is merged, and what becomes of a watch when its file goes.
#include <dirent.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <map>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

constexpr int kQueue = kFirstSlot + kSlots;
constexpr int kQueues = 3;
char buffer[65536];

const char* AnyName() {
  return Pick("a", "b", "c", "d", "d/x", "d/y", "e", "e/x", "d/e", "l", "d/l", "f", "d/f", ".", "d/.", "nope/x");
}
int AnyQueue() { return OneIn(40) ? AnyFd() : kQueue + static_cast<int>(Below(kQueues)); }

// All that is queued: wd, mask, which rename it belongs to, name.
std::map<uint32_t, int> cookies;
void Drain(int fd, size_t size) {
  if (fd < kQueue) return;
  const ssize_t n = read(fd, buffer, size);
  int available = 0;
  ioctl(fd, FIONREAD, &available);
  Say("read(%d, %zu) of %zd, then %d", fd, size, n, available);
  Outcome(n);
  for (ssize_t at = 0; at < n;) {
    inotify_event event;
    memcpy(&event, buffer + at, sizeof(event));
    int cookie = 0;
    if (event.cookie != 0) {
      if (!cookies.contains(event.cookie)) cookies.emplace(event.cookie, static_cast<int>(cookies.size()) + 1);
      cookie = cookies[event.cookie];
    }
    printf("%d   wd %d mask %x cookie %d len %u %s\n", step_number, event.wd, event.mask, cookie, event.len, event.len != 0 ? buffer + at + sizeof(event) : "");
    at += static_cast<ssize_t>(sizeof(event) + event.len);
  }
}
void ReadQueue() {
  if (OneIn(4)) {
    Drain(AnyQueue(), Pick<size_t>(0, 1, 15, 16, 17, 31, 32, 33, 48, 64, 100));
  } else {
    for (int i = 0; i < kQueues; i++) Drain(kQueue + i, sizeof(buffer));
  }
}
void Add() {
  const int fd = AnyQueue();
  const char* const name = OneIn(4) ? "." : AnyName();
  uint32_t mask = Pick<uint32_t>(IN_ALL_EVENTS, IN_ALL_EVENTS, IN_ALL_EVENTS, IN_CREATE | IN_DELETE | IN_MOVE, IN_ATTRIB | IN_MODIFY, IN_OPEN | IN_CLOSE,
                                 IN_DELETE_SELF | IN_MOVE_SELF, IN_ACCESS, 0u, IN_ISDIR, IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED, 0x10000000u, 1u << Below(32));
  if (OneIn(5)) mask |= Pick(IN_ONESHOT, IN_MASK_ADD, IN_MASK_CREATE, IN_EXCL_UNLINK, IN_ONLYDIR, IN_DONT_FOLLOW, IN_MASK_ADD | IN_MASK_CREATE);
  Say("inotify_add_watch(%d, %s, %x)", fd, name, mask);
  Result(inotify_add_watch(fd, name, mask));
}
void Remove() {
  const int fd = AnyQueue(), which = static_cast<int>(Below(12)) - 1;
  Say("inotify_rm_watch(%d, %d)", fd, which);
  Result(inotify_rm_watch(fd, which));
}
void NewQueue() {
  if (!OneIn(6)) return;
  const int slot = kQueue + static_cast<int>(Below(kQueues));
  const int fd = inotify_init1(IN_NONBLOCK);
  Say("inotify %d", slot);
  Outcome(dup3(fd, slot, O_CLOEXEC));
  close(fd);
}
void Open() {
  const char* const name = AnyName();
  const int flags = Pick(O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_CREAT, O_WRONLY | O_CREAT | O_EXCL, O_WRONLY | O_CREAT | O_TRUNC, O_RDWR | O_TRUNC, O_PATH,
                         O_RDONLY | O_DIRECTORY, O_RDWR | O_APPEND, O_RDONLY | O_NOFOLLOW, O_RDWR | O_CREAT);
  Say("open(%s, %x)", name, flags);
  const int fd = open(name, flags | O_NONBLOCK, 0644);
  Outcome(fd);
  Keep(fd);
}
void OnFd() {
  const int fd = AnyFd(), other = AnyFd();
  int which = static_cast<int>(Below(28));
  Say("%d on %d, %d", which, fd, other);
  const timespec times[] = {{1000, 0}, {2000, 0}};
  iovec vector[2] = {{buffer, 3}, {buffer, 0}};
  loff_t offset = 0;
  if (TypeOf(fd) == S_IFDIR && (which == 0 || which == 4)) which = 16;  // ext4 has EINVAL at the end of one
  switch (which) {
    case 0: return Outcome(read(fd, buffer, Pick(0, 1, 100)));
    case 1: return Outcome(write(fd, "hello", Pick(0, 1, 5)));
    case 2: return Outcome(pread(fd, buffer, 4, 0));
    case 3: return Outcome(pwrite(fd, "xy", 2, 1));
    case 4: return Outcome(readv(fd, vector, 2));
    case 5: return Outcome(writev(fd, vector, 2));
    case 6: return Outcome(ftruncate(fd, Pick(0, 3, 10)));
    case 7: return Outcome(fchmod(fd, Pick(0644, 0600)));
    case 8: return Outcome(fchown(fd, Pick(0, -1), Pick(0, -1)));
    case 9: return Outcome(futimens(fd, OneIn(2) ? times : nullptr));
    case 10: return Outcome(fallocate(fd, Pick(0, FALLOC_FL_KEEP_SIZE), 0, 20));
    case 11: return Outcome(fsetxattr(fd, "user.a", "v", 1, 0));
    case 12: return Outcome(fremovexattr(fd, "user.a"));
    case 13: return Outcome(syscall(SYS_getdents64, fd, buffer, 4096));
    case 14: return Outcome(sendfile(fd, other, &offset, 4));
    case 15: return Outcome(copy_file_range(other, &offset, fd, nullptr, 4, 0));
    case 16: return Outcome(fsync(fd));
    case 17: return Outcome(lseek(fd, 0, SEEK_SET));
    case 18: {
      void* const m = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      const bool ok = m != MAP_FAILED;
      struct stat st;
      if (ok && fstat(fd, &st) == 0 && st.st_size > 0) *static_cast<volatile char*>(m) = 'm';
      if (ok) munmap(m, 4096);
      errno = 0;
      return Outcome(ok ? 0 : 0);
    }
    case 19: return Outcome(preadv2(fd, vector, 2, 0, 0));
    case 20: return Outcome(pwritev2(fd, vector, 1, 0, 0));
    case 21: {
      int p[2];
      if (pipe(p) != 0) return Outcome(-1);
      const ssize_t n = splice(fd, &offset, p[1], nullptr, 4, SPLICE_F_NONBLOCK);
      if (n > 0) offset = 0, splice(p[0], nullptr, other, &offset, 4, SPLICE_F_NONBLOCK);
      close(p[0]), close(p[1]);
      return Outcome(n);
    }
    case 22: {
      char path[64];
      snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
      return Outcome(linkat(AT_FDCWD, path, AT_FDCWD, AnyName(), AT_SYMLINK_FOLLOW));
    }
    case 23: return Outcome(ioctl(fd, FICLONE, other) == 0 ? 0 : 0);
    case 25: case 26: {
      aio_context_t context = 0;
      const bool reads = OneIn(2);
      iocb block = {};
      block.aio_lio_opcode = reads ? Pick(IOCB_CMD_PREAD, IOCB_CMD_PREADV) : Pick(IOCB_CMD_PWRITE, IOCB_CMD_PWRITEV);
      const bool vectored = block.aio_lio_opcode >= IOCB_CMD_PREADV;
      block.aio_fildes = static_cast<uint32_t>(fd);
      block.aio_buf = reinterpret_cast<uintptr_t>(vectored ? static_cast<void*>(vector) : buffer);
      block.aio_nbytes = vectored ? 2 : 4;
      iocb* all[] = {&block};
      if (syscall(SYS_io_setup, 1, &context) != 0) return Outcome(-1);
      const int64_t r = syscall(SYS_io_submit, context, 1, all);
      io_event event = {};
      if (r == 1) syscall(SYS_io_getevents, context, 1, 1, &event, nullptr);
      Result(r == 1 ? event.res : r);
      syscall(SYS_io_destroy, context);
      return;
    }
    case 24: {
      const int copy = dup(fd);
      Outcome(copy);
      return Keep(copy);
    }
    default: return Outcome(syscall(SYS_readahead, fd, 0, 4096) == 0 ? 0 : 0);
  }
}
void OnName() {
  const char *const name = AnyName(), *const other = AnyName();
  const int which = static_cast<int>(Below(26));
  Say("%d with %s, %s", which, name, other);
  const timespec times[] = {{1000, 0}, {0, Pick(UTIME_OMIT, UTIME_NOW, 0)}};
  switch (which) {
    case 0: case 1: return Outcome(unlink(name));
    case 2: return Outcome(mkdir(name, 0755));
    case 3: return Outcome(rmdir(name));
    case 4: return Outcome(link(name, other));
    case 5: return Outcome(symlink(other, name));
    case 6: case 7: case 8: return Outcome(rename(name, other));
    case 9: return Outcome(renameat2(AT_FDCWD, name, AT_FDCWD, other, Pick(RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE)));
    case 10: return Outcome(chmod(name, Pick(0755, 0700)));
    case 11: return Outcome(chown(name, Pick(0, -1), -1));
    case 12: return Outcome(lchown(name, 0, 0));
    case 13: return Outcome(truncate(name, Pick(0, 5)));
    case 14: return Outcome(utimensat(AT_FDCWD, name, OneIn(2) ? times : nullptr, Pick(0, AT_SYMLINK_NOFOLLOW)));
    case 15: return Outcome(setxattr(name, "user.b", "v", 1, Pick(0, XATTR_CREATE)));
    case 16: return Outcome(removexattr(name, "user.b"));
    case 17: return Outcome(mknod(name, Pick(S_IFREG, S_IFIFO) | 0644, 0));
    case 18: {
      struct stat st;
      return Outcome(stat(name, &st) | access(name, R_OK));
    }
    case 19: return Outcome(readlink(name, buffer, 100) == -1 ? -1 : 0);
    case 20: {
      DIR* const dir = opendir(name);
      if (dir == nullptr) return Outcome(-1);
      while (readdir(dir) != nullptr) {}
      return Outcome(closedir(dir));
    }
    case 21: {
      const int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_un address = {AF_UNIX, {}};
      snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
      Outcome(bind(s, reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
      close(s);
      return;
    }
    case 22: return Outcome(chdir(name) == 0 && fchdir(99) == 0 ? 0 : -1);
    case 23: {
      struct stat st;
      if (stat(name, &st) == 0 && S_ISFIFO(st.st_mode)) return;  // waits for a reader
      FILE* const f = fopen(name, "ae");
      if (f == nullptr) return Outcome(-1);
      fputs("text", f);
      return Outcome(fclose(f));
    }
    default: {
      const int fd = open(name, Pick(O_WRONLY | O_CREAT, O_WRONLY | O_TRUNC | O_CREAT) | O_NONBLOCK, 0644);
      Outcome(fd);
      if (fd >= 0) {
        if (OneIn(2)) Outcome(write(fd, "w", 1));
        close(fd);
      }
      return;
    }
  }
}
void Exec() {
  if (!OneIn(5)) return;
  Say("exec");
  const int fd = open("x", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  if (fd < 0) return Outcome(-1);
  Outcome(write(fd, "#!/bin/false\n", 13));
  close(fd);
  fflush(stdout);
  const pid_t child = vfork();
  if (child == 0) {
    execl("./x", "x", nullptr);
    _exit(99);
  }
  int status = 0;
  waitpid(child, &status, 0);
  Result(status);
}
// Equal events that follow each other are one.
void Many() {
  const int fd = AnyFd();
  if (TypeOf(fd) != S_IFREG) return;
  Say("many(%d)", fd);
  int64_t r = 0;
  for (int i = 0; i < 5; i++) r = pwrite(fd, "x", 1, 0);
  Outcome(r);
}

constexpr Step kSteps[] = {ReadQueue, ReadQueue, ReadQueue, ReadQueue, Add, Add, Add, Add, Remove, NewQueue, Open, Open, Open, Open, Close, OnFd, OnFd, OnFd, OnFd, OnFd,
                           OnName, OnName, OnName, OnName, OnName, OnName, OnName, Many, Exec};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  signal(SIGPIPE, SIG_IGN);
  const int here = open(".", O_PATH);
  dup2(here, 99);
  close(here);
  for (int i = 0; i < kQueues; i++) {
    const int fd = inotify_init1(IN_NONBLOCK);
    dup3(fd, kQueue + i, O_CLOEXEC);
    close(fd);
  }
  mkdir("d", 0755), mkdir("e", 0755);
  close(open("a", O_CREAT | O_WRONLY | O_CLOEXEC, 0644)), close(open("d/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  return RunSteps(argc, argv, kSteps);
}
