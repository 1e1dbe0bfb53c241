// The limit of one tmpfs (size=, nr_blocks=) for what mappings, write(2) and fallocate(2) take, how its
// blocks are counted, and when a mapping's writes move a file's times. Each case works in a child with
// a user and a mount namespace of its own.
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "tests/util/namespace_util.h"
#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr size_t kPage = 4096;
constexpr int kPopulateRead = 22, kPopulateWrite = 23;

sigjmp_buf g_back;
siginfo_t g_info;

void JumpBack(int, siginfo_t* info, void*) {
  g_info = *info;
  siglongjmp(g_back, 1);
}

// Whether the byte can be written (or read); else what the signal said must be of a page without memory.
bool Touch(char* at, bool write = true) {
  volatile char* p = at;
  if (sigsetjmp(g_back, 1) != 0) {
    CHECK_CHILD(g_info.si_signo == SIGBUS && g_info.si_code == BUS_ADRERR && g_info.si_addr == at);
    return false;
  }
  if (write) *p = 1;
  if (!write) static_cast<void>(*p);
  return true;
}

// A child whose working directory is a tmpfs of `pages` pages; below zero, of what nobody has said.
template <typename F>
int InTmpfs(int pages, F body) {
  return test::InTmpfs(pages < 0 ? "" : "nr_blocks=" + std::to_string(pages), [&] {
    struct sigaction action = {};
    action.sa_sigaction = JumpBack;
    action.sa_flags = SA_SIGINFO;
    CHECK_CHILD(sigaction(SIGBUS, &action, nullptr) == 0);
    return body();
  });
}

struct Mapped {
  Fd fd;
  char* at;
  char* page(size_t n) const { return at + n * kPage; }
};

Mapped MapNew(const char* name, size_t pages, int prot = PROT_READ | PROT_WRITE, int flags = MAP_SHARED) {
  Fd fd(open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  CHECK_CHILD(fd.ok() && ftruncate(fd.get(), static_cast<off_t>(pages * kPage)) == 0);
  void* at = mmap(nullptr, pages * kPage, prot, flags, fd.get(), 0);
  CHECK_CHILD(at != MAP_FAILED);
  return {std::move(fd), static_cast<char*>(at)};
}

uint64_t Free() {
  struct statfs fs;
  CHECK_CHILD(statfs(".", &fs) == 0);
  return fs.f_bfree;
}

uint64_t PagesOf(const Fd& fd) {
  struct stat st;
  CHECK_CHILD(fstat(fd.get(), &st) == 0);
  return static_cast<uint64_t>(st.st_blocks) / 8;
}

// How many pages from `first` on can be touched.
size_t Fill(const Mapped& m, size_t first, size_t end) {
  size_t n = first;
  while (n < end && Touch(m.page(n))) ++n;
  return n - first;
}

TEST(TmpfsLimitTest, AWriteThroughAMappingBeyondItIsSigbus) {
  EXPECT_TRUE(Exited(InTmpfs(16, [] {
    const Mapped m = MapNew("f", 40);
    CHECK_CHILD(Free() == 16);
    CHECK_CHILD(Fill(m, 0, 40) == 16);
    CHECK_CHILD(Free() == 0 && PagesOf(m.fd) == 16);
    CHECK_CHILD(Touch(m.page(3)) && !Touch(m.page(16)) && !Touch(m.page(39)));
    return 0;
  })));
}

TEST(TmpfsLimitTest, ALookAtAHoleTakesAPageToo) {
  EXPECT_TRUE(Exited(InTmpfs(16, [] {
    const Mapped m = MapNew("f", 40, PROT_READ, MAP_PRIVATE);
    for (size_t n = 0; n < 16; ++n) CHECK_CHILD(Touch(m.page(n), false));
    CHECK_CHILD(Free() == 0 && !Touch(m.page(16), false));
    return 0;
  })));
}

TEST(TmpfsLimitTest, WhatIsFreedCanBeTouchedAgain) {
  EXPECT_TRUE(Exited(InTmpfs(16, [] {
    const Mapped m = MapNew("f", 40);
    CHECK_CHILD(Fill(m, 0, 40) == 16);
    CHECK_CHILD(fallocate(m.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * kPage) == 0);
    CHECK_CHILD(Free() == 2 && Fill(m, 20, 40) == 2 && Free() == 0);
    CHECK_CHILD(madvise(m.page(20), 2 * kPage, MADV_REMOVE) == 0);
    CHECK_CHILD(Free() == 2 && Fill(m, 30, 40) == 2 && PagesOf(m.fd) == 16);
    CHECK_CHILD(ftruncate(m.fd.get(), 8 * kPage) == 0);
    CHECK_CHILD(Free() == 10 && PagesOf(m.fd) == 6 && !Touch(m.page(8)));
    CHECK_CHILD(ftruncate(m.fd.get(), 40 * kPage) == 0 && Fill(m, 8, 40) == 10);
    return 0;
  })));
}

TEST(TmpfsLimitTest, FilesAndMappingsShareIt) {
  EXPECT_TRUE(Exited(InTmpfs(16, [] {
    const Mapped m = MapNew("f", 40);
    CHECK_CHILD(Touch(m.page(0)));
    Fd other(open("g", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    const std::string bytes(100 * kPage, 'x');
    // What fits, to the page.
    CHECK_CHILD(write(other.get(), bytes.data(), bytes.size()) == 15 * kPage);
    CHECK_CHILD((write(other.get(), bytes.data(), 1)) < 0 && errno == ENOSPC);
    CHECK_CHILD(Touch(m.page(0)) && !Touch(m.page(1)));
    CHECK_CHILD(ftruncate(other.get(), 13 * kPage + 1) == 0 && Fill(m, 1, 40) == 1);
    CHECK_CHILD((fallocate(m.fd.get(), 0, 0, 3 * kPage)) < 0 && errno == ENOSPC);
    CHECK_CHILD(fallocate(m.fd.get(), 0, 0, 2 * kPage) == 0);
    // Pages that are there take nothing.
    CHECK_CHILD(pwrite(other.get(), bytes.data(), bytes.size(), 100) == 14 * kPage - 100);
    CHECK_CHILD(unlink("g") == 0);
    other.Reset();
    CHECK_CHILD(Free() == 14 && Fill(m, 2, 40) == 14);
    return 0;
  })));
}

TEST(TmpfsLimitTest, ARemountMovesIt) {
  EXPECT_TRUE(Exited(InTmpfs(16, [] {
    const Mapped m = MapNew("f", 40);
    CHECK_CHILD(Fill(m, 0, 40) == 16);
    CHECK_CHILD((mount(nullptr, ".", nullptr, MS_REMOUNT, "size=32k")) < 0 && errno == EINVAL);
    CHECK_CHILD(mount(nullptr, ".", nullptr, MS_REMOUNT, "nr_blocks=20") == 0);
    CHECK_CHILD(Free() == 4 && Fill(m, 16, 40) == 4);
    CHECK_CHILD(mount(nullptr, ".", nullptr, MS_REMOUNT, "size=0") == 0);
    CHECK_CHILD(Fill(m, 20, 40) == 20 && PagesOf(m.fd) == 40);
    return 0;
  })));
}

TEST(TmpfsLimitTest, CallsThatCopyGetPagesOrEfault) {
  EXPECT_TRUE(Exited(InTmpfs(16, [] {
    const Mapped m = MapNew("f", 40);
    Fd zero(open("/dev/zero", O_RDONLY | O_CLOEXEC));
    CHECK_CHILD(read(zero.get(), m.page(5) - 10, 20) == 20);
    CHECK_CHILD(Free() == 14);
    // A partial count is up to the page that cannot be had.
    CHECK_CHILD(read(zero.get(), m.page(6), 30 * kPage) == 14 * kPage);
    CHECK_CHILD((read(zero.get(), m.page(20), 1)) < 0 && errno == EFAULT);
    int ends[2];
    CHECK_CHILD(pipe(ends) == 0);
    CHECK_CHILD((write(ends[1], m.page(30), 10)) < 0 && errno == EFAULT);
    CHECK_CHILD(write(ends[1], m.page(4), 10) == 10);
    return 0;
  })));
}

// The write has the file's lock while it copies, and the fault wants to give the same file a page.
TEST(TmpfsLimitTest, AWriteTakesFromAHoleOfItsOwnFile) {
  EXPECT_TRUE(Exited(InTmpfs(256, [] {
    const Mapped m = MapNew("f", 100);
    for (const size_t pages : {size_t{1}, size_t{40}}) {
      const auto bytes = static_cast<ssize_t>(pages * kPage);
      CHECK_CHILD(pwrite(m.fd.get(), m.page(50), pages * kPage, 0) == bytes);
      CHECK_CHILD(pwrite(m.fd.get(), m.page(20), pages * kPage, 20 * kPage) == bytes);
    }
    CHECK_CHILD(pread(m.fd.get(), m.page(90), kPage, 95 * kPage) == static_cast<ssize_t>(kPage));
    CHECK_CHILD(ftruncate(m.fd.get(), 0) == 0 && Free() == 256);
    CHECK_CHILD(write(m.fd.get(), m.page(0), 1) == -1 && errno == EFAULT);
    return 0;
  })));
}

// Two files, each written from holes of the other.
TEST(TmpfsLimitTest, WritesTakeFromHolesOfEachOthersFiles) {
  EXPECT_TRUE(Exited(InTmpfs(256, [] {
    const Mapped a = MapNew("a", 100), b = MapNew("b", 100);
    const auto exchange = [](const Mapped& to, const Mapped& from) {
      for (size_t n = 0; n < 50; ++n) {
        CHECK_CHILD(pwrite(to.fd.get(), from.page(50 + n), kPage, static_cast<off_t>(n * kPage)) ==
                    static_cast<ssize_t>(kPage));
      }
    };
    const pid_t other = fork();
    if (other == 0) {
      exchange(b, a);
      _exit(0);
    }
    exchange(a, b);
    int status;
    CHECK_CHILD(waitpid(other, &status, 0) == other && status == 0);
    CHECK_CHILD(PagesOf(a.fd) == 100 && PagesOf(b.fd) == 100);
    return 0;
  })));
}

// Calls that put little into a page that nobody has touched yet, in shared and in private mappings.
TEST(TmpfsLimitTest, SmallResultsGetPagesToo) {
  for (const int flags : {MAP_SHARED, MAP_PRIVATE}) {
    EXPECT_TRUE(Exited(InTmpfs(16, [flags] {
      const Mapped m = MapNew("f", 40, PROT_READ | PROT_WRITE, flags);
      const auto at = [&](size_t n) { return static_cast<void*>(m.page(n)); };
      struct timespec* const time = static_cast<struct timespec*>(at(0));
      CHECK_CHILD(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, time) == 0 && time->tv_sec + time->tv_nsec != 0);
      CHECK_CHILD(syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, at(1), 8) == 0);
      CHECK_CHILD(syscall(SYS_uname, at(2)) == 0 && *static_cast<char*>(at(2)) == 'L');
      CHECK_CHILD(fstat(m.fd.get(), static_cast<struct stat*>(at(3))) == 0);
      CHECK_CHILD(static_cast<struct stat*>(at(3))->st_size == 40 * kPage);
      CHECK_CHILD(getcwd(m.page(4), kPage) == at(4));
      CHECK_CHILD(pipe(static_cast<int*>(at(5))) == 0);
      const int* const ends = static_cast<int*>(at(5));
      CHECK_CHILD(write(ends[1], m.page(6), 100) == 100 && read(ends[0], m.page(7), 100) == 100);
      CHECK_CHILD(syscall(SYS_futex, at(8), 1 /* FUTEX_WAKE */, 1, nullptr, nullptr, 0) == 0);
      CHECK_CHILD((syscall(SYS_futex, at(9), 0x80 /* FUTEX_WAIT_PRIVATE */, 1, nullptr, nullptr, 0)) < 0 && errno == EAGAIN);
      CHECK_CHILD(Free() == 6);
      CHECK_CHILD(Fill(m, 10, 40) == 6);
      // None is left.
      CHECK_CHILD((syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, at(20), 8)) < 0 && errno == EFAULT);
      CHECK_CHILD((syscall(SYS_uname, at(20))) < 0 && errno == EFAULT);
      CHECK_CHILD((syscall(SYS_fstat, m.fd.get(), at(20))) < 0 && errno == EFAULT);
      CHECK_CHILD((syscall(SYS_futex, at(20), 0, 1, nullptr, nullptr, 0)) < 0 && errno == EFAULT);
      CHECK_CHILD((syscall(SYS_futex, at(20), 0x80, 1, nullptr, nullptr, 0)) < 0 && errno == EFAULT);
      return 0;
    }))) << flags;
  }
}

TEST(TmpfsLimitTest, ALimitThatIsSaidLaterTakesNothing) {
  EXPECT_TRUE(Exited(InTmpfs(-1, [] {
    const Mapped m = MapNew("f", 40);
    CHECK_CHILD(Touch(m.page(30)));
    CHECK_CHILD(mount(nullptr, ".", nullptr, MS_REMOUNT, "nr_blocks=16") == 0);
    CHECK_CHILD(ftruncate(m.fd.get(), 36 * kPage) == 0 && m.page(30)[0] == 1);
    CHECK_CHILD(ftruncate(m.fd.get(), 40 * kPage) == 0 && m.page(30)[0] == 1);
    CHECK_CHILD(PagesOf(m.fd) == 1 && Free() == 15);
    return 0;
  })));
}

TEST(TmpfsLimitTest, PopulatingStopsAtIt) {
  EXPECT_TRUE(Exited(InTmpfs(16, [] {
    const Mapped m = MapNew("f", 40);
    CHECK_CHILD(madvise(m.at, 6 * kPage, kPopulateWrite) == 0 && Free() == 10);
    CHECK_CHILD(madvise(m.page(6), 2 * kPage, kPopulateRead) == 0 && Free() == 8);
    CHECK_CHILD((madvise(m.at, 40 * kPage, kPopulateWrite)) < 0 && errno == EFAULT);
    CHECK_CHILD(Free() == 0 && PagesOf(m.fd) == 16);
    return 0;
  })));
}

TEST(TmpfsLimitTest, ProcessesThatRaceGetAllOfIt) {
  EXPECT_TRUE(Exited(InTmpfs(64, [] {
    const Mapped m = MapNew("f", 256);
    const pid_t child = fork();
    CHECK_CHILD(child >= 0);
    const size_t got = Fill(m, 0, 256);
    if (child == 0) _exit(got == 64 ? 0 : 1);
    int status = 0;
    CHECK_CHILD(got == 64 && waitpid(child, &status, 0) == child && status == 0);
    CHECK_CHILD(Free() == 0);
    return 0;
  })));
}

TEST(TmpfsLimitTest, HolesBehindWhatWasTouchedReadAsZero) {
  EXPECT_TRUE(Exited(InTmpfs(16, [] {
    const Mapped m = MapNew("f", 40);
    CHECK_CHILD(Touch(m.page(2)));
    std::string bytes(40 * kPage, 'x');
    CHECK_CHILD(pread(m.fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    for (size_t i = 0; i < bytes.size(); ++i) CHECK_CHILD(bytes[i] == (i == 2 * kPage ? 1 : 0));
    CHECK_CHILD(pread(m.fd.get(), bytes.data(), 100, 40 * kPage - 10) == 10);
    CHECK_CHILD(lseek(m.fd.get(), 0, SEEK_DATA) == 2 * kPage);
    CHECK_CHILD(lseek(m.fd.get(), 2 * kPage, SEEK_HOLE) == 3 * kPage);
    CHECK_CHILD(lseek(m.fd.get(), 7 * kPage, SEEK_HOLE) == 7 * kPage);
    CHECK_CHILD((lseek(m.fd.get(), 7 * kPage, SEEK_DATA)) < 0 && errno == ENXIO);
    // Nor is more of a page than the file has shown after it grew.
    CHECK_CHILD(ftruncate(m.fd.get(), 2 * kPage + 100) == 0 && ftruncate(m.fd.get(), 40 * kPage) == 0);
    CHECK_CHILD(m.page(2)[0] == 1 && m.page(2)[100] == 0);
    return 0;
  })));
}

TEST(TmpfsLimitTest, OtherSharedMemoryIsNotItsMatter) {
  EXPECT_TRUE(Exited(InTmpfs(4, [] {
    char* anonymous = static_cast<char*>(
        mmap(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    Fd memory(static_cast<int>(syscall(SYS_memfd_create, "m", 0)));
    CHECK_CHILD(ftruncate(memory.get(), 8 * kPage) == 0);
    char* file = static_cast<char*>(mmap(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0));
    const int id = shmget(IPC_PRIVATE, 8 * kPage, 0600);
    char* segment = static_cast<char*>(shmat(id, nullptr, 0));
    CHECK_CHILD(shmctl(id, IPC_RMID, nullptr) == 0);
    for (char* at : {anonymous, file, segment}) {
      for (size_t n = 0; n < 8; ++n) CHECK_CHILD(Touch(at + n * kPage));
    }
    CHECK_CHILD(Free() == 4);
    return 0;
  })));
}

struct timespec Mtime(const Fd& fd) {
  struct stat st;
  CHECK_CHILD(fstat(fd.get(), &st) == 0);
  CHECK_CHILD(st.st_mtim.tv_sec == st.st_ctim.tv_sec && st.st_mtim.tv_nsec == st.st_ctim.tv_nsec);
  return st.st_mtim;
}

bool Same(struct timespec a, struct timespec b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

// Until the clock that files are stamped with has moved.
void NextTick() {
  struct timespec first, now;
  clock_gettime(CLOCK_REALTIME_COARSE, &first);
  do {
    usleep(1000);
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (Same(first, now));
}

// tmpfs moves the times at the fault of a page that is written first, and at no other moment.
TEST(TmpfsTimesTest, TheFirstWriteOfAPageMovesThem) {
  for (const int pages : {0, 64}) {
    EXPECT_TRUE(Exited(InTmpfs(pages, [] {
      const Mapped m = MapNew("f", 4);
      struct timespec last = Mtime(m.fd);
      const auto moved = [&](bool expected) {
        const struct timespec now = Mtime(m.fd);
        const bool is = !Same(now, last);
        last = now;
        NextTick();
        CHECK_CHILD(is == expected);
      };
      NextTick();
      CHECK_CHILD(Touch(m.page(0), false));
      moved(false);
      CHECK_CHILD(Touch(m.page(1)));
      moved(true);
      CHECK_CHILD(Touch(m.page(1)));
      moved(false);
      CHECK_CHILD(msync(m.at, 4 * kPage, MS_SYNC) == 0 && fsync(m.fd.get()) == 0);
      moved(false);
      CHECK_CHILD(Touch(m.page(2)));
      CHECK_CHILD(munmap(m.at, 4 * kPage) == 0);
      moved(true);
      moved(false);
      return 0;
    }))) << pages;
  }
}

TEST(TmpfsTimesTest, TimesThatAreSetOutliveEarlierWrites) {
  EXPECT_TRUE(Exited(InTmpfs(64, [] {
    const Mapped m = MapNew("f", 4);
    CHECK_CHILD(Touch(m.page(1)));
    const struct timespec times[2] = {{.tv_sec = 5, .tv_nsec = 6}, {.tv_sec = 7, .tv_nsec = 8}};
    CHECK_CHILD(futimens(m.fd.get(), times) == 0);
    struct stat st;
    CHECK_CHILD(fstat(m.fd.get(), &st) == 0 && st.st_mtim.tv_sec == 7 && st.st_mtim.tv_nsec == 8);
    CHECK_CHILD(Touch(m.page(2)));
    CHECK_CHILD(fstat(m.fd.get(), &st) == 0 && st.st_mtim.tv_sec > 7);
    return 0;
  })));
}

// The default root has a limit, too, below another file system's names.
TEST(TmpfsLimitTest, SmallResultsGetPagesInTheRoot) {
  const Fd zero(open("/dev/zero", O_RDONLY));
  char name[] = "/tmp/limit-XXXXXX";
  const Fd fd(mkstemp(name));
  ASSERT_TRUE(fd.ok());
  EXPECT_OK(unlink(name));
  ASSERT_OK(ftruncate(fd.get(), 32 * kPage));
  for (const int flags : {MAP_PRIVATE, MAP_SHARED}) {
    char* const p = static_cast<char*>(mmap(nullptr, 32 * kPage, PROT_READ | PROT_WRITE, flags, fd.get(), 0));
    ASSERT_NE(p, MAP_FAILED);
    EXPECT_EQ(read(zero.get(), p + 100, 5000), 5000);
    EXPECT_EQ(read(zero.get(), p + 5 * kPage, 10), 10);
    EXPECT_OK(munmap(p, 32 * kPage));
  }
}

// What was written behind the end of a file lies in its last page and stays there.
TEST(TmpfsTimesTest, BytesBehindTheEndStay) {
  EXPECT_TRUE(Exited(InTmpfs(64, [] {
    const Mapped m = MapNew("f", 1);
    CHECK_CHILD(ftruncate(m.fd.get(), 100) == 0);
    m.at[200] = 7;
    CHECK_CHILD(msync(m.at, kPage, MS_SYNC) == 0 && m.at[200] == 7);
    char byte = 0;
    CHECK_CHILD(pread(m.fd.get(), &byte, 1, 200) == 0);
    CHECK_CHILD(ftruncate(m.fd.get(), 300) == 0 && m.at[200] == 7);
    CHECK_CHILD(pread(m.fd.get(), &byte, 1, 200) == 1 && byte == 7);
    return 0;
  })));
}

}  // namespace
}  // namespace ringwall::test
