// The less common files of /proc/PID, and /proc/locks.
#include <linux/sched.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>

#include <sstream>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

int WriteError(const std::string& path, const std::string& text) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.ok()) return errno;
  return write(fd.get(), text.data(), text.size()) < 0 ? errno : 0;
}

std::string FdInfo(int fd) { return ReadFile("/proc/self/fdinfo/" + std::to_string(fd)); }

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// What a sanitizer's shadow or a database's address room looks like: terabytes, all but empty. Counting
// them page by page would take minutes.
TEST(ProcPidTest, TerabytesOfRoomAreSeenAtOnceInStatAndSmaps) {
  constexpr size_t kHuge = size_t{8} << 40;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* none = mmap(nullptr, kHuge, PROT_NONE, flags, -1, 0);
  ASSERT_NE(none, MAP_FAILED);
  char* shadow = static_cast<char*>(mmap(nullptr, kHuge, PROT_READ | PROT_WRITE, flags, -1, 0));
  ASSERT_NE(shadow, MAP_FAILED);
  for (int i = 0; i < 64; ++i) shadow[(size_t{100} << 30) * (i % 64) + 4096 * i] = 1;
  std::istringstream statm(ReadFile("/proc/self/statm"));
  uint64_t size = 0, resident = 0;
  statm >> size >> resident;
  EXPECT_GE(size, 2 * kHuge / 4096);
  EXPECT_GE(resident, 64u);
  EXPECT_LT(resident, (uint64_t{1} << 30) / 4096);
  EXPECT_TRUE(Has(ReadFile("/proc/self/status"), "VmRSS:"));
  EXPECT_TRUE(Has(ReadFile("/proc/self/smaps"), "Rss:"));
  EXPECT_TRUE(Has(ReadFile("/proc/self/smaps_rollup"), "Rss:"));
  EXPECT_EQ(munmap(none, kHuge), 0);
  EXPECT_EQ(munmap(shadow, kHuge), 0);
}

TEST(ProcPidTest, IoCountsWhatIsReadAndWritten) {
  const auto field = [](const char* name) {
    const std::string text = ReadFile("/proc/self/io");
    const size_t at = text.find(std::string(name) + ": ");
    return at == std::string::npos ? -1 : atoll(text.c_str() + at + strlen(name) + 2);
  };
  const long long read_before = field("rchar"), written_before = field("wchar");
  const long long calls_before = field("syscw");
  Pipe p;
  char buf[1000] = {};
  for (int i = 0; i < 10; i++) {
    ASSERT_EQ(write(p.writer.get(), buf, sizeof(buf)), 1000);
    ASSERT_EQ(read(p.reader.get(), buf, sizeof(buf)), 1000);
  }
  EXPECT_GE(field("rchar") - read_before, 10000);
  EXPECT_GE(field("wchar") - written_before, 10000);
  EXPECT_GE(field("syscw") - calls_before, 10);
  EXPECT_GE(field("read_bytes"), 0);
}

TEST(ProcPidTest, CoredumpFilterIsKeptAndInherited) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(ReadFile("/proc/self/coredump_filter") == "00000033\n");
    CHECK_CHILD(WriteError("/proc/self/coredump_filter", "0x7f") == 0);
    CHECK_CHILD(ReadFile("/proc/self/coredump_filter") == "0000007f\n");
    CHECK_CHILD(WriteError("/proc/self/coredump_filter", "1") == 0);
    CHECK_CHILD(ReadFile("/proc/self/coredump_filter") == "00000001\n");
    CHECK_CHILD(WriteError("/proc/self/coredump_filter", "x") == EINVAL);
    return WEXITSTATUS(InChild([] {
      return ReadFile("/proc/self/coredump_filter") == "00000001\n" ? 0 : 1;
    }));
  })));
}

TEST(ProcPidTest, OomAdjIsTheOldScale) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(WriteError("/proc/self/oom_score_adj", "500") == 0);
    CHECK_CHILD(ReadFile("/proc/self/oom_adj") == "8\n");
    CHECK_CHILD(WriteError("/proc/self/oom_adj", "15") == 0);
    CHECK_CHILD(ReadFile("/proc/self/oom_score_adj") == "1000\n");
    CHECK_CHILD(ReadFile("/proc/self/oom_adj") == "15\n");
    CHECK_CHILD(WriteError("/proc/self/oom_adj", "16") == EINVAL);
    CHECK_CHILD(WriteError("/proc/self/oom_adj", "-18") == EINVAL);
    CHECK_CHILD(WriteError("/proc/self/oom_score_adj", "1001") == EINVAL);
    CHECK_CHILD(WriteError("/proc/self/oom_score_adj", "x") == EINVAL);
    return 0;
  })));
}

TEST(ProcPidTest, TimerSlackCanBeSet) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(WriteError("/proc/self/timerslack_ns", "70000") == 0);
    CHECK_CHILD(prctl(PR_GET_TIMERSLACK) == 70000);
    CHECK_CHILD(ReadFile("/proc/self/timerslack_ns") == "70000\n");
    CHECK_CHILD(WriteError("/proc/self/timerslack_ns", "x") == EINVAL);
    return 0;
  })));
}

TEST(ProcPidTest, ClearRefsTakesFiveNumbers) {
  for (const char* ok : {"1", "2", "3", "4"}) EXPECT_EQ(WriteError("/proc/self/clear_refs", ok), 0);
  for (const char* bad : {"0", "6", "x"}) EXPECT_EQ(WriteError("/proc/self/clear_refs", bad), EINVAL);
}

TEST(ProcPidTest, PagemapTellsWhatIsPresent) {
  constexpr size_t kPage = 4096;
  char* p = static_cast<char*>(
      mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(p, MAP_FAILED);
  p[kPage] = 1;
  Fd fd(open("/proc/self/pagemap", O_RDONLY));
  ASSERT_TRUE(fd.ok());
  uint64_t words[3];
  ASSERT_EQ(pread(fd.get(), words, sizeof(words), reinterpret_cast<uint64_t>(p) / kPage * 8),
            static_cast<ssize_t>(sizeof(words)));
  EXPECT_EQ(words[0] >> 63, 0u);
  EXPECT_EQ(words[1] >> 63, 1u);
  EXPECT_EQ(words[2] >> 63, 0u);
  char byte;
  EXPECT_FAILS(pread(fd.get(), &byte, 1, 0), EINVAL);
  EXPECT_FAILS(pread(fd.get(), words, 8, 4), EINVAL);
  Fd writer(open("/proc/self/pagemap", O_WRONLY));
  if (geteuid() == 0) {
    EXPECT_FAILS(write(writer.get(), words, 8), EINVAL);
  }
  munmap(p, 3 * kPage);
}

// Many words at once, holes and terabytes of nothing among them, are what each says alone.
TEST(ProcPidTest, PagemapAcrossHoles) {
  constexpr size_t kPage = 4096, kPages = 2000;
  char* p = static_cast<char*>(
      mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(p, MAP_FAILED);
  ASSERT_EQ(madvise(p, kPages * kPage, MADV_NOHUGEPAGE), 0);
  for (const size_t touched : {0, 3, 4, 700, 1500, 1999}) p[touched * kPage] = 1;
  memset(p + 800 * kPage, 1, 600 * kPage);
  ASSERT_EQ(munmap(p + 2 * kPage, kPage), 0);
  ASSERT_EQ(munmap(p + 100 * kPage, 555 * kPage), 0);
  Fd fd(open("/proc/self/pagemap", O_RDONLY));
  ASSERT_TRUE(fd.ok());
  const off_t first = static_cast<off_t>(reinterpret_cast<uint64_t>(p) / kPage * 8);
  std::vector<uint64_t> words(kPages);
  ASSERT_EQ(pread(fd.get(), words.data(), kPages * 8, first), static_cast<ssize_t>(kPages * 8));
  for (size_t i = 0; i < kPages; i++) {
    const bool present = i == 0 || i == 3 || i == 4 || i == 700 || i == 1500 || i == 1999 ||
                         (i >= 800 && i < 1400);
    EXPECT_EQ(words[i] >> 63, present ? 1u : 0u) << i;
    uint64_t alone = 0;
    ASSERT_EQ(pread(fd.get(), &alone, 8, first + static_cast<off_t>(i * 8)), 8);
    EXPECT_EQ(alone >> 63, words[i] >> 63) << i;
  }
  // The lowest pages are nobody's; the file ends with the address space.
  uint64_t low[16];
  memset(low, 1, sizeof(low));
  ASSERT_EQ(pread(fd.get(), low, sizeof(low), 0), static_cast<ssize_t>(sizeof(low)));
  EXPECT_TRUE(std::all_of(std::begin(low), std::end(low), [](uint64_t w) { return w == 0; }));
  EXPECT_EQ(pread(fd.get(), low, 8, off_t{8} << 40), 0);
  munmap(p, kPages * kPage);
}

TEST(ProcPidTest, MapFilesNameTheMappings) {
  const TempDir dir;
  const std::string path = dir.File("f", std::string(8192, 'x'));
  Fd fd(open(path.c_str(), O_RDONLY));
  void* p = mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  char name[64], target[4096];
  snprintf(name, sizeof(name), "/proc/self/map_files/%lx-%lx", reinterpret_cast<unsigned long>(p),
           reinterpret_cast<unsigned long>(p) + 8192);
  const ssize_t n = readlink(name, target, sizeof(target));
  ASSERT_GT(n, 0);
  EXPECT_EQ(std::string(target, n), path);
  EXPECT_FAILS(readlink("/proc/self/map_files/1000-2000", target, sizeof(target)), ENOENT);
  EXPECT_FAILS(readlink("/proc/self/map_files/x", target, sizeof(target)), ENOENT);
  munmap(p, 8192);
}

// struct procmap_query of Linux 6.11.
struct MapQuery {
  uint64_t size = 0, flags = 0, addr = 0, start = 0, end = 0, vma_flags = 0, page_size = 0,
           offset = 0, inode = 0;
  uint32_t dev_major = 0, dev_minor = 0, name_size = 0, build_id_size = 0;
  uint64_t name_addr = 0, build_id_addr = 0;
};
constexpr unsigned long kQuery = 0xc0686611;
constexpr uint64_t kRead = 1, kWrite = 2, kExec = 4, kShared = 8, kOrNext = 0x10, kFile = 0x20;

TEST(ProcPidTest, MapsAnswersQuestions) {
  TempDir dir;
  const std::string path = dir.path() + "/mapped";
  Fd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(ftruncate(file.get(), 4 * 4096), 0);
  struct stat st;
  ASSERT_EQ(fstat(file.get(), &st), 0);
  // A hole, two pages of a file that can only be read, and anonymous memory that can be written.
  char* const base = static_cast<char*>(mmap(nullptr, 8 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(base, MAP_FAILED);
  ASSERT_EQ(munmap(base, 4096), 0);
  ASSERT_NE(mmap(base + 4096, 2 * 4096, PROT_READ, MAP_SHARED | MAP_FIXED, file.get(), 4096), MAP_FAILED);
  ASSERT_EQ(mprotect(base + 3 * 4096, 4096, PROT_READ | PROT_WRITE), 0);
  Fd maps(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(maps.ok());
  const uint64_t at = reinterpret_cast<uint64_t>(base);
  char name[256];
  const auto ask = [&](uint64_t addr, uint64_t flags) {
    MapQuery q = {};
    q.size = sizeof(q), q.flags = flags, q.addr = addr;
    q.name_size = sizeof(name), q.name_addr = reinterpret_cast<uint64_t>(name);
    return ioctl(maps.get(), kQuery, &q) == 0 ? q : MapQuery{};
  };
  MapQuery q = ask(at + 4096 + 5000, 0);
  EXPECT_EQ(q.start, at + 4096);
  EXPECT_EQ(q.end, at + 3 * 4096);
  EXPECT_EQ(q.vma_flags, kRead | kShared);
  EXPECT_EQ(q.page_size, 4096u);
  EXPECT_EQ(q.offset, 4096u);
  EXPECT_EQ(q.inode, st.st_ino);
  EXPECT_EQ(makedev(q.dev_major, q.dev_minor), st.st_dev);
  EXPECT_EQ(q.name_size, path.size() + 1);
  EXPECT_EQ(std::string(name), path);
  q = ask(at + 3 * 4096, kRead | kWrite);
  EXPECT_EQ(q.start, at + 3 * 4096);
  EXPECT_EQ(q.inode, 0u);
  EXPECT_EQ(q.name_size, 0u);
  // What holds the address decides, unless the next will do.
  EXPECT_EQ(ask(at, 0).size, 0u);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(ask(at + 4096, kWrite).size, 0u);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(ask(at + 3 * 4096, kFile).size, 0u);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(ask(at, kOrNext).start, at + 4096);
  EXPECT_EQ(ask(at, kOrNext | kWrite).start, at + 3 * 4096);
  EXPECT_EQ(ask(at, 0x40).size, 0u);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_NE(ask(reinterpret_cast<uint64_t>(&FdInfo), kExec).vma_flags & kExec, 0u);

  const auto raw = [&](MapQuery query) { return ioctl(maps.get(), kQuery, &query); };
  EXPECT_FAILS(raw({.size = 16}), EINVAL);
  EXPECT_FAILS(raw({.size = 5000}), E2BIG);
  EXPECT_FAILS(raw({.size = sizeof(MapQuery), .addr = at + 4096, .name_size = 10}), EINVAL);
  EXPECT_FAILS(raw({.size = sizeof(MapQuery), .addr = at + 4096, .build_id_addr = at}), EINVAL);
  EXPECT_FAILS(raw({.size = sizeof(MapQuery), .addr = at + 4096, .name_size = 4,
                    .name_addr = reinterpret_cast<uint64_t>(name)}), ENAMETOOLONG);
  EXPECT_FAILS(ioctl(maps.get(), kQuery, nullptr), EFAULT);
  // One that knows less gets less.
  struct {
    MapQuery q;
    uint64_t more;
  } longer = {};
  longer.q.size = sizeof(longer);
  longer.q.addr = at + 4096;
  longer.more = 0;
  EXPECT_OK(ioctl(maps.get(), kQuery, &longer));
  EXPECT_EQ(longer.q.start, at + 4096);
  longer.more = 1;
  EXPECT_FAILS(ioctl(maps.get(), kQuery, &longer), E2BIG);
  MapQuery shorter = {.size = 32, .addr = at + 4096, .end = 77};
  EXPECT_OK(ioctl(maps.get(), kQuery, &shorter));
  EXPECT_EQ(shorter.start, at + 4096);
  EXPECT_EQ(shorter.end, 77u);
  munmap(base + 4096, 7 * 4096);
}

TEST(ProcPidTest, SyscallIsTheOneThatReads) {
  const std::string text = ReadFile("/proc/self/syscall");
  EXPECT_EQ(atoi(text.c_str()), SYS_read);
  EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 8);
}

TEST(ProcPidTest, AttrHasNobodyToAnswer) {
  for (const char* name : {"current", "exec", "fscreate", "keycreate", "sockcreate", "prev"}) {
    Fd fd(open((std::string("/proc/self/attr/") + name).c_str(), O_RDONLY));
    ASSERT_TRUE(fd.ok()) << name;
    char c;
    EXPECT_FAILS(read(fd.get(), &c, 1), EINVAL);
  }
}

TEST(ProcPidTest, ChildrenOfEachThread) {
  Pipe hold;
  const pid_t child = fork();
  if (child == 0) {
    hold.writer.Reset();
    char c;
    _exit(read(hold.reader.get(), &c, 1) == 0 ? 0 : 1);
  }
  const std::string tid = std::to_string(syscall(SYS_gettid));
  const std::string path = "/proc/self/task/" + tid + "/children";
  if (access(path.c_str(), F_OK) == 0) {
    EXPECT_TRUE(Has(" " + ReadFile(path), " " + std::to_string(child) + " "));
  }
  hold.writer.Reset();
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
}

TEST(ProcPidTest, SchedAndNumaMaps) {
  EXPECT_TRUE(Has(ReadFile("/proc/self/sched"), "se.sum_exec_runtime"));
  EXPECT_TRUE(Has(ReadFile("/proc/self/sched"), "#threads: 1)"));
  EXPECT_TRUE(Has(ReadFile("/proc/self/numa_maps"), " stack"));
  EXPECT_TRUE(Has(ReadFile("/proc/self/autogroup"), "/autogroup-"));
}

// --- fdinfo

TEST(FdInfoTest, Eventfd) {
  Fd fd(eventfd(7, EFD_SEMAPHORE));
  const std::string text = FdInfo(fd.get());
  EXPECT_TRUE(Has(text, "eventfd-count:                7\n")) << text;
  EXPECT_TRUE(Has(text, "eventfd-semaphore: 1\n")) << text;
}

TEST(FdInfoTest, Signalfd) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGHUP);
  Fd fd(signalfd(-1, &set, 0));
  EXPECT_TRUE(Has(FdInfo(fd.get()), "sigmask:\t0000000000000201\n")) << FdInfo(fd.get());
}

TEST(FdInfoTest, Timerfd) {
  Fd fd(timerfd_create(CLOCK_MONOTONIC, 0));
  const itimerspec spec = {{5, 250}, {1000, 0}};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &spec, nullptr));
  const std::string text = FdInfo(fd.get());
  EXPECT_TRUE(Has(text, "clockid: 1\nticks: 0\nsettime flags: 00\nit_value: (999, ")) << text;
  EXPECT_TRUE(Has(text, "it_interval: (5, 250)\n")) << text;
}

TEST(FdInfoTest, Pidfd) {
  Fd fd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  const std::string text = FdInfo(fd.get());
  EXPECT_TRUE(Has(text, "Pid:\t" + std::to_string(getpid()) + "\n")) << text;
  EXPECT_TRUE(Has(text, "NSpid:\t")) << text;
}

TEST(FdInfoTest, FlagsAndPosition) {
  const TempDir dir;
  Fd fd(open(dir.File("f", "content").c_str(), O_RDWR | O_APPEND | O_CLOEXEC));
  ASSERT_EQ(lseek(fd.get(), 3, SEEK_SET), 3);
  const std::string text = FdInfo(fd.get());
  EXPECT_TRUE(text.starts_with("pos:\t3\nflags:\t02102002\nmnt_id:\t")) << text;
}

// --- locks

class LocksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = dir_.File("f", std::string(100, 'x'));
    fd_.Reset(open(path_.c_str(), O_RDWR));
    struct stat st;
    ASSERT_OK(fstat(fd_.get(), &st));
    char place[64];
    snprintf(place, sizeof(place), "%02x:%02x:%lu", major(st.st_dev), minor(st.st_dev),
             static_cast<unsigned long>(st.st_ino));
    place_ = place;
  }
  TempDir dir_;
  std::string path_, place_;
  Fd fd_;
};

TEST_F(LocksTest, PosixLocksShow) {
  struct flock l = {F_WRLCK, SEEK_SET, 10, 5, 0};
  ASSERT_OK(fcntl(fd_.get(), F_SETLK, &l));
  const std::string line =
      "POSIX  ADVISORY  WRITE " + std::to_string(getpid()) + " " + place_ + " 10 14\n";
  EXPECT_TRUE(Has(ReadFile("/proc/locks"), line)) << ReadFile("/proc/locks") << line;
  EXPECT_TRUE(Has(FdInfo(fd_.get()), "lock:\t1: " + line)) << FdInfo(fd_.get());
  l.l_type = F_UNLCK;
  ASSERT_OK(fcntl(fd_.get(), F_SETLK, &l));
  EXPECT_FALSE(Has(ReadFile("/proc/locks"), line));
}

TEST_F(LocksTest, FlocksAndDescriptionLocksShow) {
  ASSERT_OK(flock(fd_.get(), LOCK_SH));
  const std::string line =
      "FLOCK  ADVISORY  READ " + std::to_string(getpid()) + " " + place_ + " 0 EOF\n";
  EXPECT_TRUE(Has(ReadFile("/proc/locks"), line)) << ReadFile("/proc/locks") << line;
  EXPECT_TRUE(Has(FdInfo(fd_.get()), line));
  struct flock l = {F_RDLCK, SEEK_SET, 0, 0, 0};
  ASSERT_OK(fcntl(fd_.get(), F_OFD_SETLK, &l));
  EXPECT_TRUE(Has(ReadFile("/proc/locks"), "OFDLCK ADVISORY  READ -1 " + place_ + " 0 EOF\n"));
  Fd other(open(path_.c_str(), O_RDONLY));
  EXPECT_FALSE(Has(FdInfo(other.get()), "lock:"));
}

TEST(ProcPidTest, DirectoriesOfTasksAreImmutableAndThoseOfSysctlsNobodysToWrite) {
  const std::string self = "/proc/" + std::to_string(getpid());
  EXPECT_FAILS(access(self.c_str(), W_OK), EPERM);
  EXPECT_FAILS(access((self + "/task/" + std::to_string(getpid())).c_str(), W_OK), EPERM);
  EXPECT_OK(access(self.c_str(), R_OK | X_OK));
  EXPECT_FAILS(mkdir((self + "/new").c_str(), 0700), ENOENT);
  EXPECT_FAILS(unlink((self + "/status").c_str()), EPERM);
  EXPECT_FAILS(rename((self + "/status").c_str(), (self + "/new").c_str()), ENOENT);
  EXPECT_FAILS(access("/proc/sys", W_OK), EACCES);
  EXPECT_FAILS(access("/proc/sys/kernel", W_OK), EACCES);
  EXPECT_FAILS(mkdir("/proc/sys/new", 0700), ENOENT);
}

// With the files of its own although it has changed its ids.
void BecomeNobody() {
  CHECK_CHILD(setgid(65534) == 0);
  CHECK_CHILD(setuid(65534) == 0);
  CHECK_CHILD(prctl(PR_SET_DUMPABLE, 1) == 0);
}

TEST(ProcPidTest, WhoMayNotLowersItsOomScoreAdjToWhereOneWhoMayHasSetIt) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  // Root without CAP_SYS_RESOURCE sets nothing but the value.
  const std::string status = ReadFile("/proc/self/status");
  const uint64_t effective = strtoull(status.c_str() + status.find("CapEff:") + 7, nullptr, 16);
  const int least = (effective >> 24 & 1) != 0 ? 100 : 0;
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(WriteError("/proc/self/oom_score_adj", "100") == 0);
    BecomeNobody();
    CHECK_CHILD(WriteError("/proc/self/oom_score_adj", "500") == 0);
    CHECK_CHILD(WriteError("/proc/self/oom_score_adj", std::to_string(least)) == 0);
    CHECK_CHILD(WriteError("/proc/self/oom_score_adj", std::to_string(least - 1)) == EACCES);
    CHECK_CHILD(WriteError("/proc/self/oom_score_adj", "300") == 0);
    // A child begins with both.
    const int child = InChild([&] {
      CHECK_CHILD(ReadFile("/proc/self/oom_score_adj") == "300\n");
      CHECK_CHILD(WriteError("/proc/self/oom_score_adj", std::to_string(least)) == 0);
      CHECK_CHILD(WriteError("/proc/self/oom_score_adj", std::to_string(least - 1)) == EACCES);
      return 0;
    });
    CHECK_CHILD(Exited(child));
    return 0;
  })));
}

TEST(ProcPidTest, LoginUidIsSetOnceByWhoMayNot) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string mine = ReadFile("/proc/self/loginuid");
  EXPECT_TRUE(Exited(InChild([] {
    const std::string parent = "/proc/" + std::to_string(getppid());
    CHECK_CHILD(WriteError("/proc/self/loginuid", "4294967295") == 0);
    CHECK_CHILD(ReadFile("/proc/self/sessionid") == "4294967295");
    CHECK_CHILD(WriteError(parent + "/loginuid", "1") == EPERM);
    CHECK_CHILD(WriteError("/proc/self/loginuid", "x") == EINVAL);
    CHECK_CHILD(WriteError("/proc/self/loginuid", "-1") == EINVAL);
    BecomeNobody();
    CHECK_CHILD(WriteError("/proc/self/loginuid", "1234") == 0);
    CHECK_CHILD(ReadFile("/proc/self/loginuid") == "1234");
    const std::string session = ReadFile("/proc/self/sessionid");
    CHECK_CHILD(session != "4294967295");
    CHECK_CHILD(WriteError("/proc/self/loginuid", "1235") == EPERM);
    CHECK_CHILD(WriteError("/proc/self/loginuid", "4294967295") == EPERM);
    // Children have the same, and a thread's is its own.
    CHECK_CHILD(Exited(InChild([&] {
      CHECK_CHILD(ReadFile("/proc/self/loginuid") == "1234");
      CHECK_CHILD(ReadFile("/proc/self/sessionid") == session);
      return 0;
    })));
    return 0;
  })));
  EXPECT_EQ(ReadFile("/proc/self/loginuid"), mine);
}

}  // namespace
}  // namespace ringwall::test
