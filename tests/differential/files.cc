// Random calls on names, files and directories below the working directory.
#include <dirent.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

char buffer[70000], pattern[70000];

// No name begins with "..": natively all this happens in a folder of the real machine.
std::string Name() {
  if (OneIn(20)) return Pick("", ".");
  std::string path;
  for (uint32_t deeper = OneIn(2) ? Below(3) : 0; deeper > 0; deeper--) {
    path += !path.empty() && OneIn(10) ? ".." : Pick("d1", "d2");
    path += OneIn(20) ? "//" : "/";
  }
  path += Pick("a", "b", "c", "e", "d1", "d2", "s1", "s2", "p1", "x");
  if (OneIn(15)) path += "/";
  if (OneIn(60)) path += std::string(Pick(250, 256), 'n');
  return path;
}

int OpenFlags() {
  if (OneIn(20)) return Pick(O_RDWR, O_WRONLY) | O_TMPFILE | O_NONBLOCK | Pick(0, O_EXCL);
  int flags = Pick(O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_ACCMODE) | O_NONBLOCK;
  for (const int maybe : {O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_PATH}) flags |= OneIn(8) ? maybe : 0;
  return flags | Pick(0, O_CREAT);
}
int Mode() { return Pick(0, 0644, 0600, 0755, 0777, 0444, 0222, 0111, 01777); }
size_t Size() { return Pick(0, 1, 7, 100, 511, 4095, 4096, 4097, 20000, 65536); }
off_t Offset() { return Pick(0, 0, 1, 100, 4096, 10000, 65536, -1); }

void TellStat(const struct stat& st) {
  const bool directory = S_ISDIR(st.st_mode);
  printf("%d   mode %o links %ld owner %d:%d size %ld\n", step_number, st.st_mode,
         directory ? -1 : static_cast<long>(st.st_nlink), st.st_uid, st.st_gid,
         directory ? -1 : static_cast<long>(st.st_size));
}

void Open() {
  const std::string name = Name();
  const int flags = OpenFlags(), mode = Mode();
  Say("open(%s, %#x, %o)", name.c_str(), flags, mode);
  const int fd = open(name.c_str(), flags, mode);
  Outcome(fd);
  Keep(fd);
}
void OpenBeneath() {
  const int at = OneIn(2) ? AT_FDCWD : AnyFd();
  const std::string name = Name();
  open_how how = {};
  how.flags = static_cast<uint64_t>(OpenFlags());
  if ((how.flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) != 0) how.mode = static_cast<uint64_t>(Mode());
  how.resolve = uint64_t{1} << Below(5);
  Say("openat2(%d, %s, %#llx, %llo, %#llx)", at, name.c_str(), how.flags, how.mode, how.resolve);
  const int fd = static_cast<int>(syscall(SYS_openat2, at, name.c_str(), &how, sizeof(how)));
  Outcome(fd);
  Keep(fd);
}
void Read() {
  const int fd = AnyFd();
  if (TypeOf(fd) == S_IFDIR) return;  // whose position some file systems make large
  const size_t size = Size();
  Say("read(%d, %zu)", fd, size);
  const ssize_t n = read(fd, buffer, size);
  if (n > 0) printf(" {%x}", Checksum({buffer, static_cast<size_t>(n)}));
  Result(n);
}
void Write() {
  const int fd = AnyFd();
  const size_t size = Size();
  Say("write(%d, %zu)", fd, size);
  Result(write(fd, pattern + Below(100), size));
}
void ReadAt() {
  const int fd = AnyFd();
  const size_t size = Size();
  const off_t at = Offset();
  Say("pread(%d, %zu, %ld)", fd, size, at);
  const ssize_t n = pread(fd, buffer, size, at);
  if (n > 0) printf(" {%x}", Checksum({buffer, static_cast<size_t>(n)}));
  Result(n);
}
void VectorsAt() {
  const int fd = AnyFd(), flags = Pick(0, 0, RWF_HIPRI, RWF_DSYNC, 0x40000);
  const bool write = OneIn(2);
  iovec vectors[3];
  for (iovec& v : vectors) v = {(write ? pattern : buffer) + 20000 * (&v - vectors), Size() % 20000};
  const int count = static_cast<int>(Below(4));
  const off_t at = OneIn(3) ? -1 : Offset();
  Say("%s(%d, %d, %ld, %#x)", write ? "pwritev2" : "preadv2", fd, count, at, flags);
  Result(write ? pwritev2(fd, vectors, count, at, flags) : preadv2(fd, vectors, count, at, flags));
}
void Seek() {
  const int fd = AnyFd(), whence = static_cast<int>(Below(4));
  if (TypeOf(fd) == S_IFDIR) return;
  const off_t at = Offset();
  Say("lseek(%d, %ld, %d)", fd, at, whence);
  Result(lseek(fd, at, whence));
}
void Truncate() {
  const int fd = AnyFd();
  const off_t size = Offset();
  Say("ftruncate(%d, %ld)", fd, size);
  Result(ftruncate(fd, size));
  const std::string name = Name();
  Say("truncate(%s, %ld)", name.c_str(), size);
  Result(truncate(name.c_str(), size));
}
void Allocate() {
  const int fd = AnyFd(), mode = Pick(0, 1, 2, 3, 5);
  const off_t at = Offset(), size = static_cast<off_t>(Size());
  Say("fallocate(%d, %d, %ld, %ld)", fd, mode, at, size);
  Result(fallocate(fd, mode, at, size));
}
void Stat() {
  const std::string name = Name();
  const int at = OneIn(2) ? AT_FDCWD : AnyFd();
  const int flags = Pick(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 0x10000);
  struct stat st;
  Say("fstatat(%d, %s, %#x)", at, name.c_str(), flags);
  const int r = fstatat(at, name.c_str(), &st, flags);
  Result(r);
  if (r == 0) TellStat(st);
}
void MakeOrRemoveDirectory() {
  const std::string name = Name();
  const int mode = Mode();
  if (OneIn(3)) {
    Say("rmdir(%s)", name.c_str());
    Result(rmdir(name.c_str()));
  } else {
    Say("mkdir(%s, %o)", name.c_str(), mode);
    Result(mkdir(name.c_str(), static_cast<mode_t>(mode)));
  }
}
void Unlink() {
  const std::string name = Name();
  const int at = OneIn(2) ? AT_FDCWD : AnyFd(), flags = Pick(0, 0, AT_REMOVEDIR, 0x100);
  Say("unlinkat(%d, %s, %#x)", at, name.c_str(), flags);
  Result(unlinkat(at, name.c_str(), flags));
}
void Link() {
  const std::string from = Name(), to = Name();
  const int at = OneIn(2) ? AT_FDCWD : AnyFd(), flags = Pick(0, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, 1);
  Say("linkat(%d, %s, %s, %#x)", at, from.c_str(), to.c_str(), flags);
  Result(linkat(at, from.c_str(), AT_FDCWD, to.c_str(), flags));
}
void Symlink() {
  const std::string target = Name(), name = Name();
  Say("symlink(%s, %s)", target.c_str(), name.c_str());
  Result(symlink(target.c_str(), name.c_str()));
  Say("readlink(%s)", name.c_str());
  const ssize_t n = readlink(name.c_str(), buffer, Pick(1, 3, 100));
  if (n > 0) printf(" %.*s", static_cast<int>(n), buffer);
  Result(n);
}
void Rename() {
  const std::string from = Name(), to = Name();
  const int at = OneIn(2) ? AT_FDCWD : AnyFd();
  const unsigned flags = Pick(0u, 0u, 1u, 2u, 3u, 8u);
  Say("renameat2(%d, %s, %s, %u)", at, from.c_str(), to.c_str(), flags);
  Result(renameat2(at, from.c_str(), AT_FDCWD, to.c_str(), flags));
}
void Change() {
  const std::string name = Name();
  const int mode = Mode(), fd = AnyFd();
  Say("chmod(%s, %o)", name.c_str(), mode);
  Result(chmod(name.c_str(), static_cast<mode_t>(mode)));
  Say("fchmod(%d, %o)", fd, mode);
  Result(fchmod(fd, static_cast<mode_t>(mode)));
  const timespec times[2] = {{Pick(0, 1000), UTIME_OMIT}, {Pick(5, 77777), Pick(0, 999999999, 1000000000)}};
  const int flags = Pick(0, AT_SYMLINK_NOFOLLOW, 2);
  Say("utimensat(%s, %ld.%ld, %#x)", name.c_str(), times[1].tv_sec, times[1].tv_nsec, flags);
  const int r = utimensat(AT_FDCWD, name.c_str(), times, flags);
  Result(r);
}
void Access() {
  const std::string name = Name();
  const int mode = static_cast<int>(Below(9)), flags = Pick(0, AT_EACCESS, AT_SYMLINK_NOFOLLOW, 1);
  Say("faccessat2(%s, %d, %#x)", name.c_str(), mode, flags);
  Result(syscall(SYS_faccessat2, AT_FDCWD, name.c_str(), mode, flags));
}
void List() {
  const int fd = AnyFd();
  if (OneIn(2)) lseek(fd, 0, SEEK_SET);
  Say("getdents(%d)", fd);
  std::vector<std::string> names;
  long n;
  while ((n = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0) {
    for (long at = 0; at < n;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      names.push_back(std::string(entry->d_name).substr(0, 20) + ":" + std::to_string(entry->d_type));
      at += entry->d_reclen;
    }
  }
  const int error = errno;
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) printf(" %s", name.c_str());
  errno = error;
  Result(n);
}
void Flags() {
  const int fd = AnyFd(), command = Pick(F_GETFL, F_SETFL, F_GETFD, F_GETPIPE_SZ, F_GETOWN, F_GETLEASE, 9999);
  const int to = Pick(O_NONBLOCK, O_APPEND | O_NONBLOCK, O_NOATIME | O_NONBLOCK);
  Say("fcntl(%d, %d, %#x)", fd, command, to);
  Result(fcntl(fd, command, to));
}
void Lock() {
  const int fd = AnyFd(), operation = Pick(LOCK_SH, LOCK_EX, LOCK_UN, 0, 5, 9) | LOCK_NB;
  Say("flock(%d, %d)", fd, operation);
  Result(flock(fd, operation));
  struct flock range = {};
  range.l_type = static_cast<short>(Below(4)), range.l_whence = static_cast<short>(Below(4));
  range.l_start = Offset(), range.l_len = Offset();
  const int command = Pick(F_SETLK, F_GETLK, F_OFD_SETLK, F_OFD_GETLK);
  Say("fcntl(%d, %d, {%d %d %ld %ld})", fd, command, range.l_type, range.l_whence, range.l_start, range.l_len);
  Result(fcntl(fd, command, &range));
}
void CopyBetween() {
  const int from = AnyFd(), to = AnyFd();
  if (TypeOf(from) == S_IFDIR || from == to) return;
  const size_t size = Size();
  off_t at = Offset();
  Say("sendfile(%d, %d, %ld, %zu)", to, from, at, size);
  Result(sendfile(to, from, &at, size));
  Say("copy_file_range(%d, %d, %zu)", from, to, size);
  Result(copy_file_range(from, nullptr, to, nullptr, size, static_cast<unsigned>(Pick(0, 0, 0, 1))));
}
void Map() {
  const int fd = AnyFd(), protection = static_cast<int>(Below(4)), flags = Pick(MAP_SHARED, MAP_PRIVATE, 0);
  const size_t size = Size();
  const off_t at = Pick(0, 4096, 1);
  Say("mmap(%d, %zu, %d, %d, %ld)", fd, size, protection, flags, at);
  char* const map = static_cast<char*>(mmap(nullptr, size, protection, flags, fd, at));
  Outcome(map == MAP_FAILED ? -1 : 0);
  if (map == MAP_FAILED) return;
  struct stat st;
  const bool readable = (protection & PROT_READ) != 0 && fstat(fd, &st) == 0 && st.st_size > at;
  const size_t there = readable ? std::min<size_t>(size, static_cast<size_t>(st.st_size - at)) : 0;
  printf("%d   {%x}\n", step_number, Checksum({map, there}));
  if (there != 0 && (protection & PROT_WRITE) != 0) map[0] = static_cast<char>(step_number);
  munmap(map, size);
}
void Attributes() {
  const std::string name = Name();
  const char* const key = Pick("user.a", "user.b", "user.", "nope", "system.y");
  const size_t size = Pick(0, 1, 10, 300);
  const int flags = static_cast<int>(Below(4));
  Say("lsetxattr(%s, %s, %zu, %d)", name.c_str(), key, size, flags);
  Result(lsetxattr(name.c_str(), key, pattern, size, flags));
  Say("getxattr(%s, %s, %zu)", name.c_str(), key, size);
  Result(getxattr(name.c_str(), key, buffer, size));
  Say("removexattr(%s, %s)", name.c_str(), key);
  Result(OneIn(2) ? removexattr(name.c_str(), key) : 0);
}
void Special() {
  const std::string name = Name();
  const int mode = Pick(S_IFREG, S_IFIFO, S_IFSOCK, S_IFDIR, S_IFLNK, 0) | 0644;
  Say("mknod(%s, %o)", name.c_str(), mode);
  Result(mknod(name.c_str(), static_cast<mode_t>(mode), 0));
}
void Pipe() {
  int ends[2];
  const int flags = Pick(0, O_CLOEXEC, O_DIRECT, 1) | O_NONBLOCK;
  Say("pipe2(%#x)", flags);
  const int r = pipe2(ends, flags);
  Result(r);
  if (r != 0) return;
  Keep(ends[0]);
  Keep(ends[1]);
}
void Sync() {
  const int fd = AnyFd();
  Say("fsync(%d)", fd);
  Result(fsync(fd));
  Say("sync_file_range(%d)", fd);
  Result(sync_file_range(fd, 0, 100, Below(9)));
  int left = -1;
  Say("ioctl(%d, FIONREAD)", fd);
  const int r = ioctl(fd, FIONREAD, &left);
  if (TypeOf(fd) == S_IFREG) printf(" %d", left);
  Result(r);
}
// Another user for a while: root passes most checks.
void Become() {
  if (getuid() != 0) return;
  const uid_t who = Pick(0u, 0u, 1000u);
  (void)!seteuid(0);
  Say("seteuid(%u)", who);
  Result(seteuid(who));
}

constexpr Step kSteps[] = {
    Open, Open, Open, Open, Open, OpenBeneath, Close, Read, Read, Write, Write, ReadAt, VectorsAt, Seek,
    Truncate, Allocate, Stat, Stat, Stat, MakeOrRemoveDirectory, MakeOrRemoveDirectory, Unlink, Unlink, Link,
    Symlink, Rename, Rename, Rename, Change, Access, List, List, Flags, Lock, CopyBetween, Map, Attributes,
    Special, Pipe, Sync, Become,
};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  signal(SIGPIPE, SIG_IGN);
  umask(022);
  for (size_t i = 0; i < sizeof(pattern); i++) pattern[i] = static_cast<char>(i * 31 + i / 257);
  (void)!mkdir("d1", 0755), (void)!mkdir("d2", 0777), (void)!mkdir("d1/d2", 0755);
  (void)!symlink("d1", "s1"), (void)!symlink("a", "d2/s2"), (void)!symlink("s2", "s2");
  (void)!mkfifo("p1", 0666);
  return RunSteps(argc, argv, kSteps);
}
