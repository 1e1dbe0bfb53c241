// Rules of memory that random calls have found: orders of errors, and what is left when a copy ends early.
#include <signal.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <string>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr size_t kPage = 4096;

char* Map(size_t pages, int prot = PROT_READ | PROT_WRITE, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1, off_t at = 0) {
  return static_cast<char*>(mmap(nullptr, pages * kPage, prot, flags, fd, at));
}
Fd FileOf(size_t size) {
  Fd file(memfd_create("m", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  (void)!ftruncate(file.get(), static_cast<off_t>(size));
  return file;
}
// The line of /proc/self/maps that begins at p.
std::string MapsLine(const void* p) {
  const std::string maps = "\n" + ReadFile("/proc/self/maps");
  char start[32];
  snprintf(start, sizeof(start), "\n%lx-", reinterpret_cast<unsigned long>(p));
  const size_t at = maps.find(start);
  return at == std::string::npos ? "" : maps.substr(at + 1, maps.find('\n', at + 1) - at - 1);
}

TEST(MmapRulesTest, ValidatedFileMappingsKnowNoNoreplace) {
  const Fd file = FileOf(kPage);
  char* const p = Map(1);
  munmap(p, kPage);
  constexpr int kFlags = MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE;
  EXPECT_FAILS(mmap(p, kPage, PROT_READ, kFlags, file.get(), 0), EOPNOTSUPP);
}
TEST(MmapRulesTest, DeviceZeroFollowsTheRulesForFiles) {
  const Fd zero(open("/dev/zero", O_RDWR));
  EXPECT_FAILS(mmap(nullptr, kPage, 3, MAP_PRIVATE | MAP_GROWSDOWN, zero.get(), 0), EINVAL);
  EXPECT_FAILS(mmap(nullptr, kPage, 3, MAP_SHARED_VALIDATE | MAP_SYNC, zero.get(), 0), EOPNOTSUPP);
  EXPECT_FAILS(mmap(nullptr, kPage, 3, 0, zero.get(), 0), EINVAL);
  // A shared mapping keeps its position, in a file that is as long as the mapping.
  char* const p = Map(2, 3, MAP_SHARED, zero.get(), kPage);
  const iovec local = {p, 1};
  char byte;
  iovec to = {&byte, 1}, from = {p + kPage, 1};
  EXPECT_EQ(process_vm_readv(getpid(), &to, 1, &local, 1, 0), 1);
  EXPECT_FAILS(process_vm_readv(getpid(), &to, 1, &from, 1, 0), EFAULT);
  munmap(p, 2 * kPage);
}
TEST(MmapRulesTest, DirectoriesAreNoDeviceBeforeAnyOtherRule) {
  const Fd directory(open("/", O_RDONLY));
  EXPECT_FAILS(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_GROWSDOWN, directory.get(), 0), ENODEV);
}
TEST(MmapRulesTest, LockedMemoryCountsBeforeTheFileIsLookedAt) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    const rlimit none = {0, 0};
    CHECK_CHILD(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
    const int directory = open("/", O_RDONLY);
    CHECK_CHILD(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_LOCKED, directory, 0) == MAP_FAILED && errno == EPERM);
    return 0;
  })));
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    const rlimit one = {kPage, kPage};
    CHECK_CHILD(setrlimit(RLIMIT_MEMLOCK, &one) == 0);
    const int directory = open("/", O_RDONLY);
    CHECK_CHILD(mmap(nullptr, 2 * kPage, PROT_READ, MAP_PRIVATE | MAP_LOCKED, directory, 0) == MAP_FAILED && errno == EAGAIN);
    char* const p = Map(1);
    CHECK_CHILD(mlock(p, ~size_t{0xfff}) == -1 && errno == ENOMEM);
    return 0;
  })));
}
TEST(MmapRulesTest, DataLimitOfZeroIsNone) {
  EXPECT_TRUE(Exited(InChild([] {
    const rlimit none = {0, RLIM_INFINITY};
    CHECK_CHILD(setrlimit(RLIMIT_DATA, &none) == 0);
    CHECK_CHILD(Map(1) != MAP_FAILED);
    const rlimit some = {kPage, RLIM_INFINITY};
    CHECK_CHILD(setrlimit(RLIMIT_DATA, &some) == 0);
    CHECK_CHILD(Map(1) == MAP_FAILED && errno == ENOMEM);
    return 0;
  })));
}
TEST(MmapRulesTest, GrowsDownToThePageThatWasTouched) {
  char* const p = Map(1024);
  munmap(p, 1024 * kPage);
  char* const top = p + 900 * kPage;
  ASSERT_EQ(mmap(top, kPage, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0), top);
  top[-3 * static_cast<ptrdiff_t>(kPage) + 5] = 1;
  EXPECT_NE(MapsLine(top - 3 * kPage), "");
  // Others' copies grow nothing.
  char byte;
  iovec to = {&byte, 1}, from = {top - 9 * kPage, 1};
  EXPECT_FAILS(process_vm_readv(getpid(), &to, 1, &from, 1, 0), EFAULT);
  EXPECT_NE(MapsLine(top - 3 * kPage), "");
  munmap(top - 3 * kPage, 4 * kPage);
}
// Calls grow a stack by what they copy, whoever answers them.
TEST(MmapRulesTest, GrowsDownForTheBuffersOfCalls) {
  sigset_t before, full, original;
  sigfillset(&full);
  sigemptyset(&before);
  sigaddset(&before, SIGUSR2);
  ASSERT_OK(sigprocmask(SIG_SETMASK, &before, &original));
  const std::pair<const char*, std::function<long(char*)>> calls[] = {
      {"clock_gettime", [](char* b) { return syscall(SYS_clock_gettime, CLOCK_MONOTONIC, b); }},
      {"gettimeofday", [](char* b) { return syscall(SYS_gettimeofday, b, nullptr); }},
      {"time", [](char* b) { return syscall(SYS_time, b) > 0 ? 0L : -1L; }},
      {"getcpu", [](char* b) { return syscall(SYS_getcpu, b, b + 4, nullptr); }},
      {"clock_getres", [](char* b) { return syscall(SYS_clock_getres, CLOCK_MONOTONIC, b); }},
      {"uname", [](char* b) { return syscall(SYS_uname, b); }},
      {"stat", [](char* b) { return syscall(SYS_stat, "/", b); }},
      {"getcwd", [](char* b) { return syscall(SYS_getcwd, b, kPage) > 0 ? 0L : -1L; }},
      {"old mask", [&](char* b) {
         const long r = syscall(SYS_rt_sigprocmask, SIG_BLOCK, &full, b, 8);
         EXPECT_EQ(memcmp(b, &before, 8), 0);
         return r;
       }},
      {"new mask", [](char* b) { return syscall(SYS_rt_sigprocmask, SIG_SETMASK, b, nullptr, 8); }},
  };
  for (const auto& [name, call] : calls) {
    char* const p = Map(1024);
    munmap(p, 1024 * kPage);
    char* const top = p + 900 * kPage;
    ASSERT_EQ(mmap(top, kPage, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0), top);
    EXPECT_EQ(call(top - 2 * kPage + 64), 0) << name << ": " << strerror(errno);
    munmap(top - 2 * kPage, 3 * kPage);
  }
  ASSERT_OK(sigprocmask(SIG_SETMASK, &before, nullptr));
  // Where nothing grows it is EFAULT, and the mask has changed all the same.
  char* const none = Map(1, PROT_NONE);
  sigset_t now;
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  EXPECT_FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &usr1, none, 8), EFAULT);
  ASSERT_OK(sigprocmask(SIG_SETMASK, &original, &now));
  EXPECT_EQ(sigismember(&now, SIGUSR1), 1);
  munmap(none, kPage);
}
TEST(MmapRulesTest, LockOnFaultOfTheFutureHoldsForLockedMappings) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
    char* const p = Map(1, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED);
    CHECK_CHILD(p != MAP_FAILED);
    const std::string smaps = ReadFile("/proc/self/smaps");
    char start[32];
    snprintf(start, sizeof(start), "\n%lx-", reinterpret_cast<unsigned long>(p));
    size_t at = smaps.find(start);
    if (at == std::string::npos) return 0;  // joined with a mapping before it
    at = smaps.find("VmFlags:", at);
    CHECK_CHILD(smaps.substr(at, smaps.find('\n', at) - at).find(" lf ") != std::string::npos);
    return 0;
  })));
}
TEST(MprotectRulesTest, KeysAreLookedAtAfterTheRange) {
  EXPECT_FAILS(syscall(SYS_pkey_mprotect, 0x10000, ~size_t{0}, PROT_READ, 16), ENOMEM);
  EXPECT_OK(syscall(SYS_pkey_mprotect, 0x10000, 0, PROT_READ, 16));
  EXPECT_FAILS(syscall(SYS_pkey_mprotect, 0x10001, kPage, PROT_READ, 16), EINVAL);
}
TEST(MremapRulesTest, DontunmapUnlocksAllThatIsLeft) {
  char* const p = Map(3);
  ASSERT_OK(mlock(p, 3 * kPage));
  void* const q = mremap(p, kPage, kPage, MREMAP_MAYMOVE | 4, nullptr);
  ASSERT_NE(q, MAP_FAILED);
  const std::string smaps = "\n" + ReadFile("/proc/self/smaps");
  char start[32];
  snprintf(start, sizeof(start), "\n%lx-", reinterpret_cast<unsigned long>(p));
  size_t at = smaps.find(start);
  if (at != std::string::npos) {
    at = smaps.find("VmFlags:", at);
    EXPECT_EQ(smaps.substr(at, smaps.find('\n', at) - at).find(" lo "), std::string::npos);
  }
  munmap(p, 3 * kPage);
  munmap(q, kPage);
}
TEST(MadviseRulesTest, PopulateReadWantsTheRightToRead) {
  char* const p = Map(1, PROT_WRITE);
  EXPECT_FAILS(madvise(p, kPage, 22), EINVAL);
  munmap(p, kPage);
  const iovec beyond = {reinterpret_cast<void*>(~uintptr_t{0xfff}), kPage};
  const Fd self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  EXPECT_FAILS(syscall(SYS_process_madvise, self.get(), &beyond, 1, 20, 0), EFAULT);
}
TEST(SealRulesTest, SealingExecutionOfAProgramAsksForNoWriters) {
  const Fd file = FileOf(kPage);
  char* const p = Map(1, 3, MAP_SHARED, file.get());
  EXPECT_FAILS(fcntl(file.get(), F_ADD_SEALS, 0x20), EBUSY);
  munmap(p, kPage);
  EXPECT_OK(fcntl(file.get(), F_ADD_SEALS, 0x20));
}
TEST(ShmRulesTest, LockingIsLimited) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    const rlimit one = {kPage, kPage};
    CHECK_CHILD(setrlimit(RLIMIT_MEMLOCK, &one) == 0);
    const int id = shmget(IPC_PRIVATE, 3 * kPage, 0600);
    const int r = shmctl(id, SHM_LOCK, nullptr), e = errno;
    shmctl(id, IPC_RMID, nullptr);
    CHECK_CHILD(r == -1 && e == ENOMEM);
    return 0;
  })));
}
TEST(MempolicyRulesTest, TheModeComesFirstAndAnEmptyRangeLast) {
  unsigned long none = 0;
  EXPECT_FAILS(syscall(SYS_mbind, 0x10000, kPage, 0x2003, &none, 64, 8), EINVAL);
  EXPECT_OK(syscall(SYS_mbind, 0x10000, 0, 2, &none, 64, 0));
  int node;
  char* const p = Map(1, PROT_NONE);
  EXPECT_FAILS(syscall(SYS_get_mempolicy, &node, nullptr, 0, p, 3), EFAULT);
  munmap(p, kPage);
}

// --- Copies that end early.
TEST(PartialCopyTest, AFileIsReadUpToTheEndOfTheMappingOrOfItsFile) {
  const Fd source = FileOf(5 * kPage), mapped = FileOf(3 * kPage);
  char* const p = Map(4, 3, MAP_SHARED, mapped.get());
  EXPECT_EQ(pread(source.get(), p + kPage, 3 * kPage, 0), 2 * static_cast<ssize_t>(kPage));
  EXPECT_EQ(pread(source.get(), p + 2 * kPage + 100, 9000, 0), static_cast<ssize_t>(kPage) - 100);
  EXPECT_FAILS(pread(source.get(), p + 3 * kPage, 100, 0), EFAULT);
  munmap(p, 4 * kPage);
  char* const q = Map(2);
  munmap(q + kPage, kPage);
  EXPECT_EQ(read(source.get(), q + 1, 9000), static_cast<ssize_t>(kPage) - 1);
  EXPECT_EQ(lseek(source.get(), 0, SEEK_CUR), static_cast<off_t>(kPage) - 1);
  munmap(q, kPage);
}
TEST(PartialCopyTest, PipesTakeAndGiveWholePages) {
  Pipe pipe;
  fcntl(pipe.reader.get(), F_SETFL, O_NONBLOCK);
  fcntl(pipe.writer.get(), F_SETFL, O_NONBLOCK);
  char* const p = Map(3);
  munmap(p + 2 * kPage, kPage);
  EXPECT_FAILS(write(pipe.writer.get(), p + kPage + 1, kPage), EFAULT);
  EXPECT_EQ(write(pipe.writer.get(), p + 1, 9000), static_cast<ssize_t>(kPage));
  EXPECT_EQ(write(pipe.writer.get(), p, 2 * kPage), 2 * static_cast<ssize_t>(kPage));
  EXPECT_FAILS(read(pipe.reader.get(), p + kPage + 1, 9000), EFAULT);
  EXPECT_EQ(read(pipe.reader.get(), p + 1, 9000), static_cast<ssize_t>(kPage));
  EXPECT_EQ(read(pipe.reader.get(), p, 2 * kPage), 2 * static_cast<ssize_t>(kPage));
  EXPECT_FAILS(read(pipe.reader.get(), p, 1), EAGAIN);
  // Into a mapping whose file ends.
  const Fd file = FileOf(2 * kPage);
  char* const q = Map(3, 3, MAP_SHARED, file.get());
  EXPECT_EQ(write(pipe.writer.get(), p, 2 * kPage), 2 * static_cast<ssize_t>(kPage));
  EXPECT_EQ(read(pipe.reader.get(), q + kPage, 2 * kPage), static_cast<ssize_t>(kPage));
  EXPECT_EQ(read(pipe.reader.get(), p, 2 * kPage), static_cast<ssize_t>(kPage));
  munmap(p, 2 * kPage);
  munmap(q, 3 * kPage);
}
TEST(PartialCopyTest, WhatMayBeExecutedOrWrittenOnlyIsReadByCalls) {
  const Fd file = FileOf(16 * kPage), out = FileOf(0);
  for (const int prot : {PROT_EXEC, PROT_WRITE}) {
    char* const p = Map(17, prot, MAP_SHARED, file.get());
    EXPECT_EQ(pwrite(out.get(), p, 17 * kPage, 0), 16 * static_cast<ssize_t>(kPage));
    char byte;
    iovec to = {&byte, 1}, from = {p, 1};
    EXPECT_FAILS(process_vm_readv(getpid(), &to, 1, &from, 1, 0), EFAULT);
    munmap(p, 17 * kPage);
  }
}

}  // namespace
}  // namespace ringwall::test
