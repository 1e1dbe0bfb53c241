#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "fs/vfs/testing/ops.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::testing {

namespace {

std::string Answer(long r) { return r >= 0 ? "ok" : strerrorname_np(errno); }

class HostOps final : public Ops {
 public:
  std::string Mkdir(const std::string& path, uint32_t mode) override {
    return Answer(mkdir(path.c_str(), mode));
  }
  std::string Rmdir(const std::string& path) override { return Answer(rmdir(path.c_str())); }
  std::string Unlink(const std::string& path) override { return Answer(unlink(path.c_str())); }
  std::string Symlink(const std::string& target, const std::string& path) override {
    return Answer(symlink(target.c_str(), path.c_str()));
  }
  std::string Link(const std::string& from, const std::string& to, bool follow) override {
    return Answer(linkat(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(),
                         follow ? AT_SYMLINK_FOLLOW : 0));
  }
  std::string Rename(const std::string& from, const std::string& to, uint32_t flags) override {
    return Answer(
        syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags));
  }
  std::string Mknod(const std::string& path, uint32_t mode) override {
    return Answer(mknod(path.c_str(), mode, 0));
  }
  std::string Open(const std::string& path, uint32_t flags, uint32_t mode,
                   const std::string& data) override {
    const UniqueFd fd(open(path.c_str(), static_cast<int>(flags), mode));
    if (!fd) return Answer(-1);
    std::string out = "ok";
    const uint32_t access = flags & O_ACCMODE;
    const bool path_only = (flags & O_PATH) != 0;
    if ((access == O_WRONLY || access == O_RDWR) && !path_only && !data.empty()) {
      const ssize_t n = pwrite(fd.get(), data.data(), data.size(), 0);
      out += n >= 0 ? " wrote " + std::to_string(n) : " write " + Answer(-1);
    }
    if ((access == O_RDONLY || access == O_RDWR) && !path_only) {
      char buffer[100];
      const ssize_t n = pread(fd.get(), buffer, sizeof(buffer), 0);
      out += n >= 0 ? " read " + std::string(buffer, static_cast<size_t>(n)) : " read " + Answer(-1);
    }
    return out;
  }
  std::string Stat(const std::string& path, bool follow) override {
    struct stat st;
    const int r = follow ? stat(path.c_str(), &st) : lstat(path.c_str(), &st);
    if (r != 0) return Answer(-1);
    char text[200];
    snprintf(text, sizeof(text), "ok mode %o nlink %lu uid %u size %ld", st.st_mode,
             static_cast<unsigned long>(st.st_nlink), st.st_uid, static_cast<long>(st.st_size));
    return text;
  }
  std::string ReadLink(const std::string& path) override {
    char buffer[4096];
    const ssize_t n = readlink(path.c_str(), buffer, sizeof(buffer));
    return n < 0 ? Answer(-1) : "ok " + std::string(buffer, static_cast<size_t>(n));
  }
  std::string Truncate(const std::string& path, uint64_t size) override {
    return Answer(truncate(path.c_str(), static_cast<off_t>(size)));
  }
  std::string Chmod(const std::string& path, uint32_t mode) override {
    return Answer(chmod(path.c_str(), mode));
  }
  std::string SetXattr(const std::string& path, const std::string& name, const std::string& value,
                       int flags) override {
    return Answer(lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), flags));
  }
  std::string GetXattr(const std::string& path, const std::string& name) override {
    char buffer[1000];
    const ssize_t n = lgetxattr(path.c_str(), name.c_str(), buffer, sizeof(buffer));
    return n < 0 ? Answer(-1) : "ok " + std::string(buffer, static_cast<size_t>(n));
  }
  std::string List(const std::string& path) override {
    DIR* dir = opendir(path.c_str());
    if (dir == nullptr) return Answer(-1);
    std::vector<std::string> names;
    while (const dirent* e = readdir(dir)) {
      names.push_back(std::string(e->d_name) + ":" + std::to_string(e->d_type));
    }
    closedir(dir);
    std::sort(names.begin(), names.end());
    std::string out = "ok";
    for (const std::string& n : names) out += " " + n;
    return out;
  }
};

}  // namespace

std::unique_ptr<Ops> MakeHostOps() { return std::make_unique<HostOps>(); }

bool InHostSandbox(const std::function<void()>& body) {
  bool ran = false;
  std::thread([&] {
    char shm[] = "/dev/shm/ringwall-test-XXXXXX";
    char tmp[] = "/tmp/ringwall-test-XXXXXX";
    const char* dir = mkdtemp(shm);
    if (dir == nullptr) dir = mkdtemp(tmp);
    if (dir == nullptr) return;
    // This thread's root alone.
    if (unshare(CLONE_FS) == 0) {
      const UniqueFd old_root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
      umask(0);
      if (chroot(dir) == 0 && chdir("/") == 0) {
        ran = true;
        body();
        if (fchdir(old_root.get()) != 0 || chroot(".") != 0) return;
      }
    }
    const std::string clean = std::string("rm -rf ") + dir;
    if (system(clean.c_str()) != 0) ran = false;
  }).join();
  return ran;
}

namespace {

std::string RandomPath(std::mt19937& random) {
  static const char* const kNames[] = {"a", "b", "c", "d", "a", "b", "c", ".", "..", "l", "m"};
  const auto pick = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  std::string path;
  if (pick(6) == 0) path += "/";
  const unsigned parts = pick(8) == 0 ? 0 : 1 + pick(3);
  for (unsigned i = 0; i < parts; i++) {
    if (i != 0) path += pick(12) == 0 ? "//" : "/";
    path += kNames[pick(sizeof(kNames) / sizeof(kNames[0]))];
  }
  if (pick(8) == 0) path += "/";
  if (pick(200) == 0) path += "/" + std::string(255 + pick(2), 'x');
  return path;
}

}  // namespace

RandomOp MakeRandomOp(std::mt19937& random) {
  const std::string p = RandomPath(random), q = RandomPath(random);
  const auto pick = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  static constexpr uint32_t kModes[] = {0755, 0700, 0644, 0777, 02755, 01777, 04711};
  const uint32_t mode = kModes[pick(7)];
  switch (pick(14)) {
    case 0:
    case 1:
      return {"mkdir " + p, [=](Ops& o) { return o.Mkdir(p, mode); }};
    case 2:
      return {"rmdir " + p, [=](Ops& o) { return o.Rmdir(p); }};
    case 3:
      return {"unlink " + p, [=](Ops& o) { return o.Unlink(p); }};
    case 4:
      return {"symlink " + q + " <- " + p, [=](Ops& o) { return o.Symlink(q, p); }};
    case 5: {
      const bool follow = pick(2) == 0;
      return {"link " + p + " -> " + q, [=](Ops& o) { return o.Link(p, q, follow); }};
    }
    case 6:
    case 7: {
      static constexpr uint32_t kFlags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, 8};
      const uint32_t flags = kFlags[pick(6)];
      return {"rename " + p + " -> " + q + " flags " + std::to_string(flags),
              [=](Ops& o) { return o.Rename(p, q, flags); }};
    }
    case 8:
    case 9:
    case 10: {
      static constexpr uint32_t kAccess[] = {O_RDONLY, O_WRONLY, O_RDWR};
      static constexpr uint32_t kMore[] = {0, O_CREAT, O_CREAT, O_CREAT | O_EXCL, O_TRUNC,
                                           O_CREAT | O_TRUNC, O_NOFOLLOW, O_DIRECTORY,
                                           O_CREAT | O_NOFOLLOW, O_PATH, O_PATH | O_NOFOLLOW,
                                           O_DIRECTORY | O_NOFOLLOW, O_TMPFILE, O_APPEND};
      // Never waits for a FIFO's peer.
      const uint32_t flags = kAccess[pick(3)] | kMore[pick(14)] | O_NONBLOCK;
      const std::string data(pick(3), static_cast<char>('0' + pick(10)));
      char text[40];
      snprintf(text, sizeof(text), " flags %#x", flags);
      return {"open " + p + text, [=](Ops& o) { return o.Open(p, flags, mode & 0777, data); }};
    }
    case 11: {
      const uint64_t size = pick(20);
      return {"truncate " + p, [=](Ops& o) { return o.Truncate(p, size); }};
    }
    case 12:
      return {"chmod " + p, [=](Ops& o) { return o.Chmod(p, mode); }};
    default: {
      const bool follow = pick(2) == 0;
      return {"stat and readlink " + p, [=](Ops& o) {
                return o.Stat(p, follow).substr(0, 10) + o.ReadLink(p);
              }};
    }
  }
}

std::string DescribeTree(Ops& ops, const std::string& path, bool directory_links) {
  std::string stat = ops.Stat(path, false);
  const bool directory = stat.starts_with("ok mode 4");
  if (directory) stat.resize(stat.find(directory_links ? " size" : " nlink"));
  std::string out = path + ": " + stat;
  if (stat.starts_with("ok mode 12")) out += " -> " + ops.ReadLink(path);
  if (stat.starts_with("ok mode 10")) out += " = " + ops.Open(path, O_RDONLY, 0, "");
  out += "\n";
  if (!directory) return out;
  const std::string list = ops.List(path);
  size_t at = list.find(' ');
  while (at != std::string::npos) {
    const size_t end = list.find(' ', at + 1);
    const std::string entry = list.substr(at + 1, end == std::string::npos ? end : end - at - 1);
    const std::string name = entry.substr(0, entry.rfind(':'));
    if (name != "." && name != "..") {
      out += DescribeTree(ops, path + "/" + name, directory_links);
    }
    at = end;
  }
  return out;
}

}  // namespace ringwall::testing
