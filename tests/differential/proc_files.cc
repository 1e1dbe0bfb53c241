// What the files of /proc say, and how: which there are, who may open them how, what lseek, poll and reads at
// any place do, and the shape of their text; of oneself, of another process, of a zombie and of one that is
// gone, as root (even seeds) and as nobody (odd ones).
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

struct Subject {
  const char* name;
  pid_t pid;
};
Subject subjects[4];
bool root;

constexpr const char* kTaskFiles[] = {
    "auxv", "cgroup", "cmdline", "comm", "coredump_filter", "cpuset", "environ", "io", "limits", "maps", "mountinfo", "mounts", "mountstats", "numa_maps",
    "oom_adj", "oom_score", "oom_score_adj", "personality", "projid_map", "schedstat", "sessionid", "setgroups", "smaps", "smaps_rollup", "stack",
    "stat", "statm", "status", "syscall", "timers", "timerslack_ns", "uid_map", "gid_map", "wchan", "autogroup", "arch_status", "attr/current", "attr/prev",
    "clear_refs", "mem", "pagemap", "ksm_stat", "ksm_merging_pages", "net/dev", "net/unix", "net/tcp", "net/route", "net/snmp", "net/netstat", "net/sockstat", "fdinfo/0",
    "fdinfo/777", "fdinfo/00", "fd/x", "nothing", "task/nothing", "task/1",
};
constexpr const char* kDirectories[] = {"", "task", "fd", "fdinfo", "ns", "attr", "map_files", "net"};
constexpr const char* kLinks[] = {"exe", "cwd", "root", "ns/mnt", "ns/user", "ns/pid", "ns/pid_for_children", "ns/net", "fd/0", "fd/777"};
constexpr const char* kSystemFiles[] = {
    "/proc/stat", "/proc/meminfo", "/proc/cpuinfo", "/proc/uptime", "/proc/loadavg", "/proc/version", "/proc/filesystems", "/proc/locks", "/proc/devices", "/proc/cgroups",
    "/proc/swaps", "/proc/partitions", "/proc/diskstats", "/proc/interrupts", "/proc/softirqs", "/proc/vmstat", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/execdomains",
    "/proc/tty/ldiscs", "/proc/tty/drivers", "/proc/consoles", "/proc/misc", "/proc/sysvipc/msg", "/proc/sysvipc/sem", "/proc/sysvipc/shm", "/proc/nothing", "/proc/sys/kernel/hostname", "/proc/sys/kernel/ostype",
    "/proc/sys/kernel/random/uuid", "/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/cap_last_cap", "/proc/sys/fs/file-nr", "/proc/sys/fs/pipe-max-size",
    "/proc/sys/fs/inotify/max_user_watches", "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/swappiness", "/proc/sys/kernel/nothing", "/proc/sys/vm/max_map_count", "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/seccomp/actions_avail", "/proc/sys/kernel/arch", "/proc/sys/fs/dentry-state",
    "/proc/sys/fs/inode-nr", "/proc/sys/fs/aio-nr", "/proc/config.gz",
};

template <typename T, size_t N>
T AnyOf(const T (&all)[N]) {
  return all[Below(N)];
}

struct Name {
  std::string told, path;
};
Name AnyTask(const char* file) {
  const Subject& s = AnyOf(subjects);
  const std::string slash = *file == '\0' ? "" : "/";
  return {std::string(s.name) + slash + file, "/proc/" + std::to_string(s.pid) + slash + file};
}
Name AnyFile() {
  if (OneIn(4)) {
    const char* const file = AnyOf(kSystemFiles);
    return {file, file};
  }
  return AnyTask(AnyOf(kTaskFiles));
}
// What is the machine's, and not /proc's.
bool OfTheMachine(std::string_view name) {
  for (const char* end : {"cgroup", "mountinfo", "mounts", "mountstats", "maps", "smaps", "map_files", "sockstat", "net/dev", "net/route", "net/tcp", "net/unix"}) {
    if (name.ends_with(end)) return true;
  }
  return false;
}

void Stat() {
  const Name name = OneIn(4) ? AnyTask(OneIn(2) ? AnyOf(kDirectories) : AnyOf(kLinks)) : AnyFile();
  struct stat st = {};
  if (!root && name.told.find("/attr/") != std::string::npos) return;  // whose they are: root's inside
  Say("lstat(%s)", name.told.c_str());
  const int r = lstat(name.path.c_str(), &st);
  // How many descriptors there are, and links to its own kind of file: not these.
  const bool size = !S_ISLNK(st.st_mode) && !name.told.ends_with("/fd") && name.told != "/proc/config.gz";
  if (r == 0) printf(" %o %u %u size %ld", st.st_mode & (name.told.find("/fd/") != std::string::npos ? ~0700u : ~0u), st.st_uid, st.st_gid, size ? static_cast<long>(st.st_size) : 0);
  Result(r);
}
// Newer kernels look at the opener once more, and what a process without memory says has changed.
int Open(const Name& name, int flags) {
  Say("open(%s, %x)", name.told.c_str(), flags);
  const int fd = open(name.path.c_str(), flags | O_NONBLOCK | O_CLOEXEC);
  Outcome(fd);
  return fd;
}
void OpenAndLook() {
  const Name name = AnyFile();
  const int flags = Pick(O_RDONLY, O_RDONLY, O_RDONLY, O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_DIRECTORY, O_PATH, O_RDWR | O_TRUNC, O_RDONLY | O_CREAT, O_RDONLY | O_CREAT | O_EXCL, O_RDONLY | O_NOFOLLOW, O_RDONLY | O_APPEND);
  // Of those that take writes none may be emptied or opened by root: natively it is the machine's.
  // Some of net/ are opened for writing that then refuse it, and a table's limits are for who has the right; newer
  // kernels refuse the files of memory that has gone.
  if ((flags & O_ACCMODE) != O_RDONLY && (name.told.find("/net/") != std::string::npos || name.told.starts_with("/proc/sys/user"))) return;
  // Where nothing can be made, Linux does not look whether one may; and newer ones do not show timers to all.
  if (!root && ((flags & O_CREAT) != 0 || name.told.ends_with("timers"))) return;
  if (name.told.starts_with("zombie")) {
    for (const char* of : {"environ", "auxv", "maps", "smaps", "smaps_rollup", "mem", "pagemap", "numa_maps"}) {
      if (name.told.ends_with(of)) return;
    }
  }
  const int fd = Open(name, flags);
  if (fd < 0) return;
  // Empty where there is nothing; and seq_lseek() reads, which those that ask who reads refuse.
  bool machine = false;
  for (const char* of : {"stack", "misc", "consoles", "partitions", "diskstats", "locks", "swaps", "wchan", "cpuset", "timerslack_ns"}) machine = machine || name.told.ends_with(of);
  const bool memory = name.told.ends_with("/mem") || name.told.ends_with("pagemap");
  static char text[200000];
  for (uint32_t n = 1 + Below(4); n > 0; n--) {
    switch (Below(7)) {
      case 0: case 1: {
        const int whence = static_cast<int>(Below(6));
        const off_t to = Pick<off_t>(0, 1, 5, -1, 1 << 20, off_t{1} << 40, INT64_MAX);
        if (memory || machine || name.told == "/proc/config.gz") break;
        Say("  lseek(%ld, %d)", to, whence);
        Result(lseek(fd, to, whence));
        break;
      }
      case 2: {
        if (memory || machine) break;
        const size_t size = Pick<size_t>(0, 1, 2);
        Say("  read(%zu)", size);
        Result(read(fd, text, size));
        break;
      }
      case 3: {
        if (memory || machine) break;
        const off_t at = Pick<off_t>(0, 0, 1 << 20, -1);
        Say("  pread(1, %ld)", at);
        Result(pread(fd, text, 1, at));
        break;
      }
      case 4: {
        epoll_event event = {0x7ff, {}};
        const int epoll = epoll_create1(EPOLL_CLOEXEC);
        Say("  epoll");
        const int r = epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        if (r == 0 && epoll_wait(epoll, &event, 1, 0) == 1) printf(" %x", event.events);
        Result(r);
        close(epoll);
        break;
      }
      case 5: {
        int number = 0;
        Say("  FIONREAD");
        Result(ioctl(fd, FIONREAD, &number));
        Say("  mmap");
        void* const m = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
        Outcome(m == MAP_FAILED ? -1 : 0);
        if (m != MAP_FAILED) munmap(m, 4096);
        break;
      }
      default: {
        Say("  fgetxattr");
        Result(fgetxattr(fd, "user.a", text, 10));
        if ((flags & O_ACCMODE) == O_RDONLY) Say("  write"), Result(write(fd, "x", 1));
        break;
      }
    }
  }
  close(fd);
}
std::string ReadAll(const Name& name, size_t piece) {
  const int fd = open(name.path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return strerrorname_np(errno);
  std::string all;
  static char text[65536];
  ssize_t n = 0;
  for (int turns = 0; turns < 2000 && (n = read(fd, text, piece)) > 0; turns++) all.append(text, static_cast<size_t>(n));
  if (n < 0) all += strerrorname_np(errno);
  close(fd);
  return all;
}
// A text in pieces is the same text; and the shape of it: the first word of each line and how many there are.
void Shape() {
  const Name name = AnyFile();
  if (OfTheMachine(name.told) || name.told.ends_with("/mem") || name.told.ends_with("pagemap") || name.told.starts_with("/proc/s") || name.told.starts_with("/proc/cpuinfo")) return;
  for (const char* of : {"autogroup", "auxv", "environ", "stack", "syscall", "wchan", "interrupts", "softirqs", "zoneinfo", "buddyinfo", "drivers", "misc", "consoles", "diskstats", "partitions", "devices", "vmstat", "filesystems", "actions_avail",
                         "cgroups", "meminfo", "locks", "config.gz", "swaps", "snmp", "netstat", "numa_maps", "ldiscs", "status", "fdinfo/0", "version"}) {
    if (name.told.ends_with(of)) return;
  }
  Say("shape of %s:", name.told.c_str());
  const std::string text = ReadAll(name, Pick<size_t>(1, 3, 100, 4096, 65536));
  std::string shape;
  bool in_number = false;
  for (const char c : text) {
    const bool digit = (c >= '0' && c <= '9') || ((c >= 'a' && c <= 'f') && in_number);
    if (digit && !in_number) shape += 'N';
    if (!digit && !(c == ' ' && !shape.empty() && shape.back() == ' ')) shape += c == '\n' ? '|' : c == '\0' ? '~' : c;
    in_number = digit;
  }
  if (name.told.ends_with("cmdline")) shape = shape.empty() ? "" : "something";
  if (name.told.ends_with("/stat")) shape = std::to_string(std::count(text.begin(), text.end(), ' '));
  if (shape.size() > 400) shape.resize(400);
  printf(" %s\n", shape.c_str());
}
// The names in front of the colons.
void Keys() {
  const Name name = OneIn(3) ? Name{"meminfo", "/proc/meminfo"} : AnyTask(Pick("status", "io", "limits", "smaps_rollup", "fdinfo/0"));
  Say("keys of %s:", name.told.c_str());
  const std::string text = ReadAll(name, 65536);
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    const std::string key = line.substr(0, line.find(':'));
    // Of the processor, the configuration, and newer kernels.
    static const std::set<std::string> kNot = {"x86_Thread_features", "x86_Thread_features_locked", "HugetlbPages", "untag_mask", "THP_enabled", "Speculation_Store_Bypass", "SpeculationIndirectBranch",
                                               "CmaTotal", "CmaFree", "Unaccepted", "Balloon", "HardwareCorrupted", "DirectMap4k", "DirectMap2M", "DirectMap1G", "Zswap", "Zswapped", "GPUActive", "GPUReclaim"};
    if (key.find("---p") == std::string::npos && !kNot.contains(key) && !key.starts_with("5")) printf(" %s", key.substr(0, 30).c_str());
    at = end + 1;
  }
  printf("\n");
}
void Directory() {
  const Name name = AnyTask(AnyOf(kDirectories));
  if (name.told == "zombie/net") return;
  Say("readdir(%s)", name.told.c_str());
  DIR* const dir = opendir(name.path.c_str());
  if (dir == nullptr) return Result(-1);
  std::set<std::string> names;
  errno = 0;
  while (const dirent* e = readdir(dir)) {
    const std::string entry = e->d_name;
    const bool number = entry.find_first_not_of("0123456789abcdef-") == std::string::npos && entry != "fd";
    // Of configurations: tests of faults, security modules, time namespaces, live patches, tables that nobody asks for.
    static const std::set<std::string> kNot = {"time", "time_for_children", "timens_offsets", "patch_state", "seccomp_cache", "sched", "latency", "make-it-fail", "fail-nth", "apparmor", "smack"};
    if (number || kNot.contains(entry) || name.told.ends_with("net")) continue;
    names.insert(entry + ":" + std::to_string(e->d_type));
  }
  const int error = errno;
  for (const std::string& n : names) printf(" %s", n.c_str());
  errno = error;
  Result(error != 0 ? -1 : 0);
  closedir(dir);
}
void Link() {
  const Name name = AnyTask(AnyOf(kLinks));
  char text[4096];
  Say("readlink(%s)", name.told.c_str());
  const ssize_t n = readlink(name.path.c_str(), text, sizeof(text));
  Outcome(n);
  struct stat st;
  Say("stat(%s)", name.told.c_str());
  Result(stat(name.path.c_str(), &st));
}
bool OfTheTask(const std::string& name) { return name.find('/') == std::string::npos; }
void Access() {
  const Name name = OneIn(3) ? AnyTask(AnyOf(kDirectories)) : AnyFile();
  int what = static_cast<int>(Below(8));
  if (OfTheTask(name.told)) what &= ~W_OK;  // that these never change is an error of its own
  Say("access(%s, %d)", name.told.c_str(), what);
  Result(access(name.path.c_str(), what));
}
// Good and bad values, to the files of a process of our own.
void Write() {
  const char* const file = Pick("comm", "oom_score_adj", "oom_adj", "coredump_filter", "clear_refs", "timerslack_ns", "uid_map", "gid_map", "setgroups", "attr/current", "stat", "environ", "projid_map", "attr/exec");
  const Subject& s = subjects[Below(2)];
  // A word of their own, and signs.
  const char* const text = Pick("", "0", "1", "5", "-1", "-5", "1000", "1001", "-1001", "x", "1x", "0x10", " 7", "7 ", "7\n", "\n", "0 0 1", "0 0 1\n", "allow", "deny", "name", "a name that is too long for it", "33", "4294967296", "99999999999999999999", "6", "+3", "010");
  // Not autogroup, which is of the whole session natively. What may be lowered again depends on who raised it.
  if (strncmp(file, "oom", 3) == 0 && strcmp(text, "x") != 0 && strcmp(text, "1x") != 0 && strlen(text) < 20 && strcmp(text, "-1001") != 0) return;
  Say("write(%s/%s, %s)", s.name, file, std::string(text, strcspn(text, "\n")).c_str());
  const std::string path = "/proc/" + std::to_string(s.pid) + "/" + file;
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return Result(-1);
  Result(write(fd, text, strlen(text)));
  close(fd);
  if (strcmp(file, "comm") == 0 || strncmp(file, "oom", 3) == 0 || strcmp(file, "coredump_filter") == 0 || strcmp(file, "timerslack_ns") == 0) {
    std::string now = ReadAll({"", path}, 4096);
    std::replace(now.begin(), now.end(), '\n', '|');
    Say("  now %s\n", now.c_str());
  }
}

constexpr Step kSteps[] = {Stat, Stat, OpenAndLook, OpenAndLook, OpenAndLook, OpenAndLook, OpenAndLook, OpenAndLook, Shape, Shape, Shape, Keys, Directory, Link, Access, Write, Write, Write};

// Draws of its own for each step: how many there are depends on what succeeds.
uint64_t seed;
void One() {
  random_state = (seed * 1000003 + static_cast<uint64_t>(step_number)) * 0x9e3779b97f4a7c15ull + 1;
  for (int i = 0; i < 10; i++) Below(2);
  AnyOf(kSteps)();
}
constexpr Step kOne[] = {One};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  if (argc != 3) return 2;
  seed = strtoull(argv[1], nullptr, 0);
  root = seed % 2 == 0;
  prctl(PR_SET_NAME, "walk");
  // They end when this program has: nobody may not kill what is root's.
  int alive[2];
  if (pipe(alive) != 0) return 1;
  const auto start = [&alive](auto body) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    close(alive[1]);
    body();
    _exit(0);
  };
  const auto sleep = [&alive] {
    char byte;
    while (read(alive[0], &byte, 1) < 0) {}
  };
  const pid_t of_root = start(sleep);
  if (!root) {
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) return 1;
    prctl(PR_SET_DUMPABLE, 1);
  }
  const pid_t other = root ? of_root : start(sleep);
  const pid_t zombie = start([] {});
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(zombie), &info, WEXITED | WNOWAIT);
  subjects[0] = {"self", getpid()};
  subjects[1] = {"other", other};
  subjects[2] = {"zombie", zombie};
  subjects[3] = {"root's", of_root};
  return RunSteps(argc, argv, kOne);
}
