// Files: of the host's root (this program's own file and its neighbours) and of a writable folder.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "benchmarks/micro/bench.h"

namespace ringwall::bench {
namespace {

const std::string& OwnFile() {
  static const std::string path = [] {
    char buf[PATH_MAX];
    const ssize_t len = readlink("/proc/self/exe", buf, sizeof(buf));
    Need(len > 0, "readlink");
    return std::string(buf, len);
  }();
  return path;
}

int OwnFd() {
  static const int fd = open(OwnFile().c_str(), O_RDONLY);
  Need(fd >= 0, "open own file");
  return fd;
}

char g_buffer[65536];

void Pread(int64_t n, size_t size) {
  const int fd = OwnFd();
  while (n--) Need(pread(fd, g_buffer, size, 0) == static_cast<ssize_t>(size), "pread");
}

BENCH(pread_1) { Pread(n, 1); }
BENCH(pread_4k) { Pread(n, 4096); }
BENCH(pread_64k) { Pread(n, 65536); }

std::string MakeFile(const char* name) {
  const std::string path = Dir() + "/" + name;
  const int fd = open(path.c_str(), O_CREAT | O_RDWR, 0644);
  Need(fd >= 0 && write(fd, g_buffer, sizeof(g_buffer)) == sizeof(g_buffer), "make file");
  close(fd);
  return path;
}

BENCH(pread_4k_writable) {
  static const int fd = open(MakeFile("pread").c_str(), O_RDWR);
  while (n--) Need(pread(fd, g_buffer, 4096, 0) == 4096, "pread");
}

BENCH(pwrite_4k_writable) {
  static const int fd = open(MakeFile("pwrite").c_str(), O_RDWR);
  while (n--) Need(pwrite(fd, g_buffer, 4096, 0) == 4096, "pwrite");
}

void Stat(int64_t n, const std::string& path) {
  struct stat st;
  while (n--) Need(stat(path.c_str(), &st) == 0, "stat");
}

BENCH(stat_writable) {
  static const std::string path = MakeFile("stat");
  Stat(n, path);
}

BENCH(open_close_writable) {
  static const std::string path = MakeFile("open");
  while (n--) Need(close(open(path.c_str(), O_RDONLY)) == 0, "open");
}

BENCH(create_unlink_writable) {
  static const std::string path = Dir() + "/create";
  while (n--) {
    Need(close(open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600)) == 0, "create");
    Need(unlink(path.c_str()) == 0, "unlink");
  }
}

BENCH(stat_host) { Stat(n, OwnFile()); }

BENCH(missing_host) {
  static const std::string path = "/usr/lib/ringwall-no-such-file";
  struct stat st;
  while (n--) Need(stat(path.c_str(), &st) == -1, "stat of nothing");
}

BENCH(open_read_close_host) {
  const char* path = OwnFile().c_str();
  while (n--) {
    const int fd = open(path, O_RDONLY);
    Need(fd >= 0 && read(fd, g_buffer, 512) == 512, "open and read");
    close(fd);
  }
}

BENCH(readdir_1700) {
  static const std::string folder = [] {
    const std::string path = Dir() + "/many";
    Need(mkdir(path.c_str(), 0755) == 0, "mkdir");
    for (int i = 0; i < 1698; ++i) {
      const std::string name = path + "/a-file-name-" + std::to_string(i);
      Need(close(open(name.c_str(), O_CREAT | O_WRONLY, 0644)) == 0, "create");
    }
    return path;
  }();
  while (n--) {
    DIR* d = opendir(folder.c_str());
    int count = 0;
    while (readdir(d) != nullptr) ++count;
    closedir(d);
    Need(count == 1700, "readdir");
  }
}

BENCH(proc_self_status) {
  while (n--) {
    const int fd = open("/proc/self/status", O_RDONLY);
    Need(fd >= 0 && read(fd, g_buffer, 8192) > 300, "read status");
    close(fd);
  }
}

}  // namespace
}  // namespace ringwall::bench
