// /proc as programs read it: of themselves, of others, of the system.
#include <dirent.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

std::string Field(const std::string& text, const std::string& name) {
  size_t at = text.rfind(name + ":", 0) == 0 ? 0 : text.find("\n" + name + ":");
  if (at == std::string::npos) return "(none)";
  at = text.find(':', at) + 1;
  at = text.find_first_not_of(" \t", at);
  return text.substr(at, text.find('\n', at) - at);
}

std::set<std::string> List(const std::string& path) {
  std::set<std::string> names;
  DIR* d = opendir(path.c_str());
  if (d == nullptr) return names;
  while (dirent* e = readdir(d)) names.insert(e->d_name);
  closedir(d);
  return names;
}

std::string Link(const std::string& path) {
  char b[4096];
  const ssize_t n = readlink(path.c_str(), b, sizeof(b));
  return n < 0 ? std::string() : std::string(b, n);
}

TEST(ProcSelfTest, LinksLeadToUs) {
  EXPECT_EQ(Link("/proc/self"), std::to_string(getpid()));
  EXPECT_EQ(Link("/proc/thread-self"),
            std::to_string(getpid()) + "/task/" + std::to_string(syscall(SYS_gettid)));
  std::thread([] {
    EXPECT_EQ(Link("/proc/thread-self"),
              std::to_string(getpid()) + "/task/" + std::to_string(syscall(SYS_gettid)));
  }).join();
}

TEST(ProcSelfTest, StatusTellsWhoWeAre) {
  std::string s = ReadFile("/proc/self/status");
  // A thread that was joined is on its way out for a moment.
  for (int i = 0; i < 1000 && Field(s, "Threads") != "1"; ++i) {
    usleep(1000);
    s = ReadFile("/proc/self/status");
  }
  EXPECT_EQ(Field(s, "Pid"), std::to_string(getpid()));
  EXPECT_EQ(Field(s, "Tgid"), std::to_string(getpid()));
  EXPECT_EQ(Field(s, "PPid"), std::to_string(getppid()));
  EXPECT_EQ(Field(s, "TracerPid"), "0");
  EXPECT_EQ(Field(s, "Threads"), "1");
  EXPECT_EQ(Field(s, "State"), "R (running)");
  EXPECT_EQ(Field(s, "Uid").substr(0, Field(s, "Uid").find('\t')), std::to_string(getuid()));
  EXPECT_NE(Field(s, "VmRSS").find(" kB"), std::string::npos);
  EXPECT_NE(Field(s, "SigBlk"), "(none)");
  EXPECT_NE(Field(s, "CapEff"), "(none)");
  EXPECT_NE(Field(s, "Cpus_allowed_list"), "(none)");
}

TEST(ProcSelfTest, StatHasItsFields) {
  const std::string s = ReadFile("/proc/self/stat");
  int pid = 0, ppid = 0, pgrp = 0, session = 0;
  char state = 0;
  const size_t close = s.rfind(')');
  ASSERT_NE(close, std::string::npos);
  ASSERT_EQ(sscanf(s.c_str(), "%d (", &pid), 1);
  ASSERT_EQ(sscanf(s.c_str() + close + 2, "%c %d %d %d", &state, &ppid, &pgrp, &session), 4);
  EXPECT_EQ(pid, getpid());
  EXPECT_EQ(ppid, getppid());
  EXPECT_EQ(pgrp, getpgrp());
  EXPECT_EQ(session, getsid(0));
  EXPECT_EQ(state, 'R');
  EXPECT_EQ(std::count(s.begin() + static_cast<long>(close), s.end(), ' '), 50);
}

TEST(ProcSelfTest, MapsListOurMappings) {
  char* p = static_cast<char*>(
      mmap(nullptr, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_OK(mprotect(p + 4096, 4096, PROT_NONE));
  const std::string maps = ReadFile("/proc/self/maps");
  char want[64];
  snprintf(want, sizeof(want), "%lx-%lx ---p 00000000 00:00 0", reinterpret_cast<long>(p) + 4096,
           reinterpret_cast<long>(p) + 8192);
  EXPECT_NE(maps.find(want), std::string::npos) << maps;
  EXPECT_NE(maps.find("[stack]"), std::string::npos);
  EXPECT_NE(maps.find("[heap]"), std::string::npos);
  EXPECT_NE(maps.find("[vdso]"), std::string::npos);
  munmap(p, 12288);
  TempDir dir;
  Fd fd(open(dir.File("mapped-file", std::string(4096, 'x')).c_str(), O_RDONLY));
  p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0));
  const std::string again = ReadFile("/proc/self/maps");
  snprintf(want, sizeof(want), "%lx-%lx r--s 00000000 ", reinterpret_cast<long>(p),
           reinterpret_cast<long>(p) + 4096);
  const size_t at = again.find(want);
  ASSERT_NE(at, std::string::npos) << again;
  const std::string line = again.substr(at, again.find('\n', at) - at);
  EXPECT_EQ(line.substr(line.rfind(' ') + 1), dir / "mapped-file");
  munmap(p, 4096);
}

TEST(ProcSelfTest, MapsAreSortedAndDoNotOverlap) {
  const std::string maps = ReadFile("/proc/self/maps");
  unsigned long last = 0, from, to;
  for (size_t at = 0; at < maps.size(); at = maps.find('\n', at) + 1) {
    ASSERT_EQ(sscanf(maps.c_str() + at, "%lx-%lx", &from, &to), 2);
    EXPECT_GE(from, last);
    EXPECT_GT(to, from);
    last = to;
  }
}

TEST(ProcSelfTest, MapsEndWithTheVsyscallPage) {
  const std::string line = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
  const std::string maps = ReadFile("/proc/self/maps");
  ASSERT_GT(maps.size(), line.size());
  EXPECT_EQ(maps.substr(maps.size() - line.size()), line);
  const std::string smaps = ReadFile("/proc/self/smaps");
  const size_t at = smaps.find(line);
  ASSERT_NE(at, std::string::npos);
  EXPECT_TRUE(smaps.substr(at + line.size()).starts_with("Size:                  4 kB\n"));
  EXPECT_EQ(smaps.substr(smaps.rfind('\n', smaps.size() - 2) + 1), "VmFlags: ex \n");
}

TEST(ProcSelfTest, NumbersAndRangesHaveOneSpelling) {
  struct stat st;
  ASSERT_OK(lstat("/proc/self/fd/0", &st));
  for (const char* name : {"-0", "00", "+0", " 0", "0 ", "0x0", "4294967296"})
    EXPECT_FAILS(lstat((std::string("/proc/self/fd/") + name).c_str(), &st), ENOENT) << name;
  const std::set<std::string> ranges = List("/proc/self/map_files");
  ASSERT_FALSE(ranges.empty());
  const std::string range = *ranges.begin();
  EXPECT_OK(lstat(("/proc/self/map_files/" + range).c_str(), &st));
  const std::string other = range.substr(0, range.find('-') + 1) + "0" + range.substr(range.find('-') + 1);
  for (const std::string& name : {"0" + range, " " + range, range + " ", other})
    EXPECT_FAILS(lstat(("/proc/self/map_files/" + name).c_str(), &st), ENOENT) << name;
}

TEST(ProcSelfTest, FdsAreLinksThatOpen) {
  TempDir dir;
  const std::string path = dir.File("f", "by fd");
  Fd fd(open(path.c_str(), O_RDONLY));
  const std::string self = "/proc/self/fd/" + std::to_string(fd.get());
  EXPECT_EQ(Link(self), path);
  EXPECT_EQ(ReadFile(self), "by fd");
  EXPECT_EQ(ReadFile("/dev/fd/" + std::to_string(fd.get())), "by fd");
  EXPECT_TRUE(List("/proc/self/fd").count(std::to_string(fd.get())));
  ASSERT_OK(unlink(path.c_str()));
  EXPECT_EQ(Link(self), path + " (deleted)");
  EXPECT_EQ(ReadFile(self), "by fd");
  Pipe p;
  EXPECT_EQ(Link("/proc/self/fd/" + std::to_string(p.reader.get())).substr(0, 6), "pipe:[");
  const int freed = fd.get();
  fd.Reset();
  struct stat st;
  EXPECT_FAILS(lstat(("/proc/self/fd/" + std::to_string(freed)).c_str(), &st), ENOENT);
}

TEST(ProcSelfTest, FdinfoShowsOffsetAndFlags) {
  TempDir dir;
  Fd fd(open(dir.File("f", "0123456789").c_str(), O_RDWR | O_APPEND | O_CLOEXEC));
  ASSERT_EQ(lseek(fd.get(), 4, SEEK_SET), 4);
  const std::string info = ReadFile("/proc/self/fdinfo/" + std::to_string(fd.get()));
  EXPECT_EQ(Field(info, "pos"), "4");
  EXPECT_EQ(strtol(Field(info, "flags").c_str(), nullptr, 8) & (O_ACCMODE | O_APPEND | O_CLOEXEC),
            O_RDWR | O_APPEND | O_CLOEXEC);
}

TEST(ProcSelfTest, ExeCwdRootCmdline) {
  EXPECT_EQ(Link("/proc/self/root"), "/");
  char cwd[4096];
  ASSERT_NE(getcwd(cwd, sizeof(cwd)), nullptr);
  EXPECT_EQ(Link("/proc/self/cwd"), cwd);
  EXPECT_NE(Link("/proc/self/exe").find("syscall_proc_test"), std::string::npos);
  EXPECT_EQ(ReadFile("/proc/self/exe").substr(0, 4), "\177ELF");
  EXPECT_NE(ReadFile("/proc/self/cmdline").find("syscall_proc_test"), std::string::npos);
  EXPECT_EQ(ReadFile("/proc/self/comm"), "syscall_proc_te\n");
}

TEST(ProcSelfTest, EnvironIsTheFirstOne) {
  EXPECT_TRUE(Exited(InChild([] {
    setenv("RINGWALL_LATER", "1", 1);
    return ReadFile("/proc/self/environ").find("RINGWALL_LATER") == std::string::npos ? 0 : 1;
  })));
}

TEST(ProcSelfTest, TasksAreTheThreads) {
  std::atomic<pid_t> tid{0};
  std::atomic<bool> stop{false};
  std::thread t([&] {
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    while (!stop) usleep(500);
  });
  while (tid == 0) usleep(100);
  const auto tasks = List("/proc/self/task");
  EXPECT_EQ(tasks.size(), 4u);
  EXPECT_TRUE(tasks.count(std::to_string(tid)));
  EXPECT_EQ(Field(ReadFile("/proc/self/task/" + std::to_string(tid) + "/status"), "Tgid"),
            std::to_string(getpid()));
  EXPECT_EQ(Field(ReadFile("/proc/self/status"), "Threads"), "2");
  stop = true;
  t.join();
}

TEST(ProcSelfTest, MemReadsAndWrites) {
  volatile int value = 41;
  Fd mem(open("/proc/self/mem", O_RDWR));
  ASSERT_TRUE(mem.ok());
  int got = 0;
  const auto at = reinterpret_cast<off_t>(&value);
  EXPECT_EQ(pread(mem.get(), &got, sizeof(got), at), static_cast<ssize_t>(sizeof(got)));
  EXPECT_EQ(got, 41);
  got = 42;
  EXPECT_EQ(pwrite(mem.get(), &got, sizeof(got), at), static_cast<ssize_t>(sizeof(got)));
  EXPECT_EQ(value, 42);
  EXPECT_FAILS(pread(mem.get(), &got, sizeof(got), 0x10), EIO);
}

TEST(ProcSelfTest, StatmSmapsLimitsMountsAuxv) {
  unsigned long size = 0, resident = 0;
  ASSERT_EQ(sscanf(ReadFile("/proc/self/statm").c_str(), "%lu %lu", &size, &resident), 2);
  EXPECT_GE(size, resident);
  EXPECT_GT(resident, 0u);
  EXPECT_NE(ReadFile("/proc/self/limits").find("Max open files"), std::string::npos);
  EXPECT_NE(ReadFile("/proc/self/mounts").find(" /proc proc "), std::string::npos);
  EXPECT_NE(ReadFile("/proc/self/mountinfo").find(" - proc "), std::string::npos);
  EXPECT_EQ(ReadFile("/proc/self/auxv").size() % 16, 0u);
  EXPECT_NE(ReadFile("/proc/self/smaps").find("Private_Dirty:"), std::string::npos);
  EXPECT_EQ(ReadFile("/proc/self/oom_score_adj").find_first_not_of("-0123456789\n"),
            std::string::npos);
  EXPECT_NE(ReadFile("/proc/self/uid_map"), "");
  EXPECT_NE(ReadFile("/proc/self/cgroup"), "");
}

TEST(ProcSelfTest, NamespacesAreLinks) {
  for (const char* ns : {"pid", "mnt", "net", "uts", "ipc", "user"}) {
    const std::string link = Link(std::string("/proc/self/ns/") + ns);
    EXPECT_EQ(link.substr(0, strlen(ns) + 2), std::string(ns) + ":[") << ns;
  }
}

TEST(ProcSelfTest, FilesHaveSizeZeroAndReadInParts) {
  struct stat st;
  ASSERT_OK(stat("/proc/self/status", &st));
  EXPECT_EQ(st.st_size, 0);
  EXPECT_EQ(st.st_mode, S_IFREG | 0444u);
  Fd fd(open("/proc/self/cmdline", O_RDONLY));
  std::string all;
  char c;
  while (read(fd.get(), &c, 1) == 1) all += c;
  EXPECT_EQ(all, ReadFile("/proc/self/cmdline"));
  EXPECT_FAILS(open("/proc/self/none", O_RDONLY), ENOENT);
  EXPECT_FAILS(open("/proc/self/newfile", O_CREAT | O_RDWR, 0600), ENOENT);
  EXPECT_FAILS(mkdir("/proc/newdir", 0700), ENOENT);
  EXPECT_FAILS(unlink("/proc/self/status"), EPERM);
}

nlink_t Links(const std::string& path) {
  struct stat st = {};
  EXPECT_OK(stat(path.c_str(), &st)) << path;
  return st.st_nlink;
}

// By st_nlink of task/ programs tell whether they have one thread only; find tells leaves by it.
TEST(ProcSelfTest, LinksOfDirectoriesCountThoseBelow) {
  const nlink_t alone = 3;
  // A thread that another test has joined may still be on its way out.
  for (int i = 0; i < 20000 && Links("/proc/self/task") != alone; ++i) usleep(500);
  EXPECT_EQ(Links("/proc/self/task"), alone);
  {
    Pipe p;
    std::thread other([&] {
      char c;
      EXPECT_EQ(read(p.reader.get(), &c, 1), 1);
    });
    EXPECT_EQ(Links("/proc/self/task"), alone + 1);
    EXPECT_EQ(write(p.writer.get(), "x", 1), 1);
    other.join();
  }
  EXPECT_EQ(Links("/proc/self/"), 2u + 7);
  EXPECT_EQ(Links("/proc/thread-self/"), 2u + 5);
  EXPECT_EQ(Links("/proc/self/fd"), 2u);
  EXPECT_EQ(Links("/proc/sys"), 1u);
  EXPECT_EQ(Links("/proc/sys/net/ipv4/conf"), 1u);
  EXPECT_GT(Links("/sys"), 9u);
  for (const char* path : {"/sys/kernel", "/sys/devices/system"}) {
    nlink_t folders = 0;
    for (const std::string& name : List(path)) {
      struct stat st;
      ASSERT_OK(lstat((std::string(path) + "/" + name).c_str(), &st));
      if (S_ISDIR(st.st_mode)) folders++;  // "." and ".." too
    }
    EXPECT_EQ(Links(path), folders) << path;
    struct stat st;
    ASSERT_OK(stat(path, &st));
    EXPECT_EQ(st.st_mode, S_IFDIR | 0755u) << path;
    EXPECT_EQ(st.st_blksize, 4096) << path;
  }
  struct stat st;
  ASSERT_OK(lstat("/proc/mounts", &st));
  EXPECT_EQ(st.st_size, 11);
}

TEST(ProcPidTest, AChildIsThereAndThenAZombieAndThenGone) {
  Pipe p;
  const pid_t pid = fork();
  if (pid == 0) {
    char c;
    p.writer.Reset();
    _exit(static_cast<int>(read(p.reader.get(), &c, 1)));
  }
  const std::string base = "/proc/" + std::to_string(pid);
  EXPECT_EQ(Field(ReadFile(base + "/status"), "PPid"), std::to_string(getpid()));
  EXPECT_TRUE(List("/proc").count(std::to_string(pid)));
  p.writer.Reset();
  siginfo_t info;
  ASSERT_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  EXPECT_EQ(Field(ReadFile(base + "/status"), "State"), "Z (zombie)");
  EXPECT_EQ(ReadFile(base + "/cmdline"), "");
  Fd dir(open(base.c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_OK(waitpid(pid, nullptr, 0));
  struct stat st;
  EXPECT_FAILS(stat(base.c_str(), &st), ENOENT);
  EXPECT_FAILS(openat(dir.get(), "status", O_RDONLY), ESRCH);
}

TEST(ProcPidTest, OthersSecretsAreTheirs) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string us = "/proc/" + std::to_string(getpid());
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(access((us + "/status").c_str(), R_OK) == 0);
    CHECK_CHILD(open((us + "/environ").c_str(), O_RDONLY) == -1 && errno == EACCES);
    CHECK_CHILD(open((us + "/mem").c_str(), O_RDONLY) == -1 && errno == EACCES);
    char b[64];
    CHECK_CHILD(readlink((us + "/exe").c_str(), b, 64) == -1 && errno == EACCES);
    CHECK_CHILD(open((us + "/fd").c_str(), O_RDONLY) == -1 && errno == EACCES);
    return 0;
  })));
}

TEST(ProcSystemTest, FilesThatProgramsParse) {
  EXPECT_EQ(ReadFile("/proc/version").substr(0, 14), "Linux version ");
  double up = 0, idle = 0;
  EXPECT_EQ(sscanf(ReadFile("/proc/uptime").c_str(), "%lf %lf", &up, &idle), 2);
  EXPECT_GT(up, 0);
  const std::string mem = ReadFile("/proc/meminfo");
  EXPECT_GT(atol(Field(mem, "MemTotal").c_str()), 1000);
  EXPECT_GT(atol(Field(mem, "MemAvailable").c_str()), 0);
  const std::string stat = ReadFile("/proc/stat");
  EXPECT_EQ(stat.substr(0, 4), "cpu ");
  EXPECT_NE(stat.find("\nbtime "), std::string::npos);
  EXPECT_NE(ReadFile("/proc/cpuinfo").find("model name"), std::string::npos);
  EXPECT_NE(ReadFile("/proc/filesystems").find("tmpfs"), std::string::npos);
  float load;
  EXPECT_EQ(sscanf(ReadFile("/proc/loadavg").c_str(), "%f", &load), 1);
  EXPECT_NE(ReadFile("/proc/mounts").find(" / "), std::string::npos);
}

TEST(ProcSystemTest, FilesAboutTheKernelsMemory) {
  struct Expected {
    const char* path;
    mode_t mode;
  };
  for (const auto& [path, mode] :
       {Expected{"/proc/slabinfo", S_IFREG | 0400}, {"/proc/vmallocinfo", S_IFREG | 0400},
        {"/proc/kallsyms", S_IFREG | 0444}, {"/proc/iomem", S_IFREG | 0444}, {"/proc/ioports", S_IFREG | 0444},
        {"/proc/bus", S_IFDIR | 0555}, {"/proc/driver", S_IFDIR | 0555}, {"/proc/fs", S_IFDIR | 0555}}) {
    struct stat st;
    ASSERT_EQ(stat(path, &st), 0) << path;
    EXPECT_EQ(st.st_mode, mode) << path;
  }
  EXPECT_NE(ReadFile("/proc/iomem").find(" : System RAM\n"), std::string::npos);
  if (geteuid() != 0) return;
  const std::string slabs = ReadFile("/proc/slabinfo");
  EXPECT_EQ(slabs.substr(0, 26), "slabinfo - version: 2.1\n# ");
  int active = 0, all = 0;
  const size_t row = slabs.find("\ntask_struct ");
  ASSERT_NE(row, std::string::npos);
  EXPECT_EQ(sscanf(slabs.c_str() + row, "%*s %d %d", &active, &all), 2);
  EXPECT_GT(active, 0);
  EXPECT_GE(all, active);
  Fd fd(open("/proc/slabinfo", O_WRONLY));
  EXPECT_FAILS(write(fd.get(), "x", 1), EIO);
  // Addresses are not for everybody.
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    CHECK_CHILD(open("/proc/slabinfo", O_RDONLY) == -1 && errno == EACCES);
    CHECK_CHILD(ReadFile("/proc/iomem").find("00000000-00000000 : System RAM\n") != std::string::npos);
    return 0;
  })));
}

TEST(ProcSystemTest, Sysctls) {
  EXPECT_EQ(ReadFile("/proc/sys/kernel/ostype"), "Linux\n");
  EXPECT_GE(atoi(ReadFile("/proc/sys/kernel/pid_max").c_str()), 300);
  EXPECT_NE(ReadFile("/proc/sys/kernel/hostname"), "");
  EXPECT_NE(ReadFile("/proc/sys/kernel/random/boot_id").size(), 0u);
  EXPECT_NE(ReadFile("/proc/sys/kernel/random/uuid"), ReadFile("/proc/sys/kernel/random/uuid"));
  EXPECT_GT(atol(ReadFile("/proc/sys/fs/file-max").c_str()), 0);
  EXPECT_NE(ReadFile("/proc/sys/vm/overcommit_memory"), "");
}

TEST(ProcSystemTest, SysctlsOfPartsThatAreThere) {
  EXPECT_EQ(ReadFile("/proc/sys/net/nf_conntrack_max"), ReadFile("/proc/sys/net/netfilter/nf_conntrack_max"));
  EXPECT_GT(atoll(ReadFile("/proc/sys/fs/epoll/max_user_watches").c_str()), 1000);
  struct stat st;
  ASSERT_OK(stat("/proc/sys/vm/mmap_rnd_bits", &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0600u);
  ASSERT_OK(stat("/proc/sys/fs/overflowuid", &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0644u);
  EXPECT_NE(ReadFile("/proc/sys/dev/tty/legacy_tiocsti"), "");
  EXPECT_EQ(ReadFile("/proc/sys/kernel/random/urandom_min_reseed_secs"), "60\n");
  EXPECT_EQ(ReadFile("/proc/sys/kernel/random/write_wakeup_threshold"), "256\n");
  // What follows writes, so not to a host.
  if (ReadFile("/proc/version").find("Ringwall") == std::string::npos || geteuid() != 0) return;
  const auto write = [](const char* path, const char* text) {
    Fd fd(open(path, O_WRONLY));
    EXPECT_TRUE(fd.ok()) << path;
    return ::write(fd.get(), text, strlen(text));
  };
  EXPECT_FAILS(write("/proc/sys/vm/mmap_rnd_bits", "27"), EINVAL);
  EXPECT_FAILS(write("/proc/sys/vm/mmap_rnd_bits", "33"), EINVAL);
  EXPECT_FAILS(write("/proc/sys/fs/epoll/max_user_watches", "-1"), EINVAL);
  const std::string was = ReadFile("/proc/sys/fs/epoll/max_user_watches");
  Fd epoll(epoll_create1(0)), one(eventfd(0, 0)), two(eventfd(0, 0));
  epoll_event e = {};
  EXPECT_OK(write("/proc/sys/fs/epoll/max_user_watches", "1"));
  EXPECT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, one.get(), &e));
  EXPECT_FAILS(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, one.get(), &e), EEXIST);
  EXPECT_FAILS(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, two.get(), &e), ENOSPC);
  one.Reset();
  EXPECT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, two.get(), &e));
  EXPECT_OK(write("/proc/sys/fs/epoll/max_user_watches", was.c_str()));
  const std::string most = ReadFile("/proc/sys/kernel/pty/max");
  EXPECT_OK(write("/proc/sys/kernel/pty/max", "1024"));
  EXPECT_FAILS(open("/dev/ptmx", O_RDWR | O_NOCTTY), ENOSPC);
  EXPECT_OK(write("/proc/sys/kernel/pty/max", most.c_str()));
  Fd pty(open("/dev/ptmx", O_RDWR | O_NOCTTY));
  EXPECT_TRUE(pty.ok());
}

TEST(ProcSystemTest, CpuCountsAgree) {
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  const std::string info = ReadFile("/proc/cpuinfo");
  long listed = 0;
  for (size_t at = 0; (at = info.find("processor\t:", at)) != std::string::npos; ++at) ++listed;
  EXPECT_EQ(listed, online);
}

// The configuration is there, compressed, and is that of a kernel with what this one has.
TEST(ProcSystemTest, Config) {
  const std::string packed = ReadFile("/proc/config.gz");
  if (packed.empty()) GTEST_SKIP() << "a kernel without CONFIG_IKCONFIG_PROC";
  ASSERT_GT(packed.size(), 18u);
  EXPECT_EQ(packed.substr(0, 3), "\x1f\x8b\x08");
  FILE* pipe = popen("gzip -dc /proc/config.gz", "r");
  ASSERT_NE(pipe, nullptr);
  std::string text;
  char b[4096];
  for (size_t n; (n = fread(b, 1, sizeof(b), pipe)) > 0;) text.append(b, n);
  EXPECT_EQ(pclose(pipe), 0);
  for (const char* name : {"USER_NS", "PID_NS", "EVENTFD", "AIO", "SECCOMP_FILTER", "TMPFS"}) {
    EXPECT_NE(text.find("\nCONFIG_" + std::string(name) + "=y\n"), std::string::npos) << name;
  }
}

// The sizes are the processor's; a machine that shows none has no directory.
TEST(ProcSystemTest, CachesOfTheProcessors) {
  const std::string cpu = "/sys/devices/system/cpu/cpu" + std::to_string(sched_getcpu()) + "/cache/";
  if (access(cpu.c_str(), F_OK) != 0) GTEST_SKIP() << "no caches";
  std::string levels;
  for (int i = 0; access((cpu + "index" + std::to_string(i)).c_str(), F_OK) == 0; i++) {
    const std::string index = cpu + "index" + std::to_string(i) + "/";
    const auto number = [&](const char* name) { return atol(ReadFile(index + name).c_str()); };
    const long size = number("number_of_sets") * number("ways_of_associativity") *
                      number("coherency_line_size") * number("physical_line_partition");
    EXPECT_EQ(ReadFile(index + "size"), std::to_string(size >> 10) + "K\n");
    EXPECT_GT(size, 0);
    EXPECT_NE(ReadFile(index + "shared_cpu_list"), "");
    levels += ReadFile(index + "level")[0];
    levels += ReadFile(index + "type")[0];
  }
  EXPECT_TRUE(levels.starts_with("1D1I2U")) << levels;
}

TEST(ProcSystemTest, DirectoriesOfDeviceNumbers) {
  EXPECT_EQ(access("/sys/dev/block", R_OK | X_OK), 0);
  EXPECT_EQ(access("/sys/dev/char", R_OK | X_OK), 0);
}

TEST(ProcSystemTest, MemoryOfTheNode) {
  const std::string text = ReadFile("/sys/devices/system/node/node0/meminfo");
  long total = 0;
  ASSERT_EQ(sscanf(text.c_str(), "Node 0 MemTotal: %ld kB", &total), 1) << text;
  EXPECT_GT(total, 0);
  EXPECT_NE(text.find("Node 0 MemFree:"), std::string::npos);
}

}  // namespace
}  // namespace ringwall::test
