// mmap, munmap, mprotect, mremap, madvise, brk, msync, mincore, memfd and mlock.
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr size_t kPage = 4096;
sigjmp_buf g_jump;
void Jump(int) { siglongjmp(g_jump, 1); }

// Whether a byte can be read or written, by trying.
bool Faults(volatile char* p, bool write) {
  struct sigaction sa = {}, old_segv, old_bus;
  sa.sa_handler = Jump;
  sigaction(SIGSEGV, &sa, &old_segv);
  sigaction(SIGBUS, &sa, &old_bus);
  bool faulted = true;
  if (sigsetjmp(g_jump, 1) == 0) {
    if (write) {
      *p = *p;
    } else {
      (void)*p;
    }
    faulted = false;
  }
  sigaction(SIGSEGV, &old_segv, nullptr);
  sigaction(SIGBUS, &old_bus, nullptr);
  return faulted;
}

char* Map(size_t pages, int prot = PROT_READ | PROT_WRITE, int flags = MAP_PRIVATE | MAP_ANONYMOUS,
          int fd = -1, off_t at = 0, void* where = nullptr) {
  return static_cast<char*>(mmap(where, pages * kPage, prot, flags, fd, at));
}

TEST(MmapTest, FreshMemoryIsZeroAndWritable) {
  char* p = Map(16);
  for (size_t i = 0; i < 16 * kPage; i += 511) ASSERT_EQ(p[i], 0);
  p[0] = p[16 * kPage - 1] = 1;
  EXPECT_OK(munmap(p, 16 * kPage));
  EXPECT_TRUE(Faults(p, false));
}

TEST(MmapTest, Errors) {
  EXPECT_FAILS(mmap(nullptr, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
  EXPECT_FAILS(mmap(nullptr, kPage, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
  EXPECT_FAILS(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
  EXPECT_FAILS(syscall(SYS_mmap, 0, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 5), EINVAL);
  EXPECT_FAILS(mmap(nullptr, ~0ul - kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
  EXPECT_FAILS(mmap(reinterpret_cast<void*>(5), kPage, PROT_READ,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
               EINVAL);
  EXPECT_FAILS(mmap(reinterpret_cast<void*>(0x800000000000), kPage, PROT_READ,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
               ENOMEM);
  TempDir dir;
  Fd wo(open((dir / "wo").c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_FAILS(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, wo.get(), 0), EACCES);
  Fd ro(open((dir / "wo").c_str(), O_RDONLY));
  EXPECT_FAILS(mmap(nullptr, kPage, PROT_WRITE, MAP_SHARED, ro.get(), 0), EACCES);
  Pipe p;
  EXPECT_FAILS(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, p.reader.get(), 0), ENODEV);
  Fd d(open(dir.path().c_str(), O_RDONLY));
  EXPECT_FAILS(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, d.get(), 0), ENODEV);
}

TEST(MmapTest, HintIsTakenWhenFree) {
  char* p = Map(4);
  munmap(p, 4 * kPage);
  EXPECT_EQ(Map(4, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, p), p);
  char* other = Map(4, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, p);
  EXPECT_NE(other, p);
  munmap(other, 4 * kPage);
  munmap(p, 4 * kPage);
}

TEST(MmapTest, FixedReplacesAndNoreplaceRefuses) {
  char* p = Map(3);
  p[kPage] = 'x';
  EXPECT_EQ(Map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0, p + kPage),
            p + kPage);
  EXPECT_EQ(p[kPage], 0);
  EXPECT_FAILS(Map(1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0, p), EEXIST);
  munmap(p, 3 * kPage);
}

TEST(MmapTest, PrivateFileMappingKeepsItsWritesToItself) {
  TempDir dir;
  const std::string path = dir.File("f", std::string(2 * kPage, 'a'));
  Fd fd(open(path.c_str(), O_RDONLY));
  char* p = Map(2, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get());
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_EQ(p[kPage], 'a');
  p[0] = 'b';
  EXPECT_EQ(ReadFile(path)[0], 'a');
  munmap(p, 2 * kPage);
}

TEST(MmapTest, SharedFileMappingAndTheFileAreOne) {
  TempDir dir;
  const std::string path = dir.File("f", std::string(2 * kPage, 'a'));
  Fd fd(open(path.c_str(), O_RDWR));
  char* p = Map(2, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  ASSERT_NE(p, MAP_FAILED);
  p[1] = 'b';
  EXPECT_EQ(ReadFile(path).substr(0, 3), "aba");
  ASSERT_EQ(pwrite(fd.get(), "c", 1, kPage), 1);
  EXPECT_EQ(p[kPage], 'c');
  fd.Reset();  // the mapping outlives the descriptor
  p[2] = 'd';
  EXPECT_OK(msync(p, 2 * kPage, MS_SYNC));
  EXPECT_EQ(ReadFile(path)[2], 'd');
  munmap(p, 2 * kPage);
}

// As a read does; the rules of the file system and its mount are the same for both.
TEST(MmapTest, MappingMovesTheAccessTimeAsReadingDoes) {
  TempDir dir;
  const auto accessed = [&](const std::string& name, bool maps) {
    const std::string path = dir.File(name, "content");
    const timespec times[] = {{1000, 0}, {2000, 0}};
    EXPECT_OK(utimensat(AT_FDCWD, path.c_str(), times, 0));
    Fd fd(open(path.c_str(), O_RDONLY));
    char c;
    if (maps) {
      char* p = Map(1, PROT_READ, MAP_PRIVATE, fd.get());
      EXPECT_EQ(p[0], 'c');
      munmap(p, kPage);
    } else {
      EXPECT_EQ(read(fd.get(), &c, 1), 1);
    }
    struct stat st;
    EXPECT_OK(stat(path.c_str(), &st));
    return st.st_atim.tv_sec != 1000;
  };
  EXPECT_EQ(accessed("mapped", true), accessed("read", false));
}

TEST(MmapTest, SharedFileMappingIsOneAcrossAFork) {
  TempDir dir;
  Fd fd(open(dir.File("f", std::string(kPage, 'a')).c_str(), O_RDWR));
  char* p = Map(1, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  EXPECT_TRUE(Exited(InChild([&] {
    p[7] = 'z';
    return 0;
  })));
  EXPECT_EQ(p[7], 'z');
  munmap(p, kPage);
}

TEST(MmapTest, OffsetMustBePageAlignedAndIsHonoured) {
  TempDir dir;
  std::string text(3 * kPage, 'a');
  text[kPage] = 'B';
  Fd fd(open(dir.File("f", text).c_str(), O_RDONLY));
  char* p = Map(1, PROT_READ, MAP_PRIVATE, fd.get(), kPage);
  EXPECT_EQ(p[0], 'B');
  munmap(p, kPage);
}

TEST(MmapTest, TailOfTheLastPageIsZeroAndBeyondItIsSigbus) {
  TempDir dir;
  Fd fd(open(dir.File("f", "abc").c_str(), O_RDONLY));
  char* p = Map(2, PROT_READ, MAP_PRIVATE, fd.get());
  EXPECT_EQ(p[2], 'c');
  EXPECT_EQ(p[3], 0);
  EXPECT_TRUE(Faults(p + kPage, false));
  munmap(p, 2 * kPage);
}

TEST(MmapTest, TruncatedFileLosesItsPages) {
  TempDir dir;
  Fd fd(open(dir.File("f", std::string(2 * kPage, 'a')).c_str(), O_RDWR));
  char* p = Map(2, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  EXPECT_FALSE(Faults(p + kPage, true));
  ASSERT_OK(ftruncate(fd.get(), kPage));
  EXPECT_TRUE(Faults(p + kPage, false));
  ASSERT_OK(ftruncate(fd.get(), 2 * kPage));
  EXPECT_FALSE(Faults(p + kPage, false));
  EXPECT_EQ(p[kPage], 0);
  munmap(p, 2 * kPage);
}

TEST(MmapTest, SharedAnonymousMemoryIsSharedWithChildren) {
  char* p = Map(1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_TRUE(Exited(InChild([&] {
    p[0] = 9;
    return 0;
  })));
  EXPECT_EQ(p[0], 9);
  munmap(p, kPage);
}

TEST(MmapTest, DevZeroIsAnonymous) {
  Fd fd(open("/dev/zero", O_RDWR));
  char* p = Map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get());
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_EQ(p[5], 0);
  p[5] = 1;
  munmap(p, kPage);
}

TEST(MmapTest, DevZeroKeepsTheDescriptorsRights) {
  Fd reader(open("/dev/zero", O_RDONLY | O_CLOEXEC)), writer(open("/dev/zero", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(reader.ok() && writer.ok());
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, reader.get(), 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, writer.get(), 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  void* const shared = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, reader.get(), 0);
  ASSERT_NE(shared, MAP_FAILED);
  EXPECT_FAILS(mprotect(shared, 4096, PROT_READ | PROT_WRITE), EACCES);
  void* const own = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, reader.get(), 0);
  ASSERT_NE(own, MAP_FAILED);
  EXPECT_OK(mprotect(own, 4096, PROT_READ | PROT_WRITE));
  munmap(shared, 4096);
  munmap(own, 4096);
}

TEST(MmapTest, ReadingIntoAMappedFileWorks) {
  TempDir dir;
  Fd in(open(dir.File("in", "from file").c_str(), O_RDONLY));
  Fd out(open(dir.File("out", std::string(kPage, '-')).c_str(), O_RDWR));
  char* p = Map(1, PROT_READ | PROT_WRITE, MAP_SHARED, out.get());
  EXPECT_EQ(read(in.get(), p + 10, 9), 9);
  EXPECT_EQ(ReadFile(dir / "out").substr(8, 11), "--from file");
  munmap(p, kPage);
}

TEST(MmapTest, AddressSpaceLimit) {
  EXPECT_TRUE(Exited(InChild([] {
    const struct rlimit lim = {512 << 20, 512 << 20};
    CHECK_CHILD(setrlimit(RLIMIT_AS, &lim) == 0);
    CHECK_CHILD(mmap(nullptr, 1ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK_CHILD(errno == ENOMEM);
    return 0;
  })));
}

// All above the last mapping, up to where Linux's user memory ends.
TEST(MunmapTest, ReachesToTheEndOfUserMemory) {
  const std::string maps = ReadFile("/proc/self/maps");
  constexpr uint64_t kEnd = (uint64_t{1} << 47) - 4096;
  uint64_t last = 0, from = 0, to = 0;
  for (size_t at = 0; at < maps.size(); at = maps.find('\n', at) + 1) {
    ASSERT_EQ(sscanf(maps.c_str() + at, "%lx-%lx", &from, &to), 2);
    if (to <= kEnd) last = to;
  }
  ASSERT_LT(last, kEnd);
  EXPECT_OK(munmap(reinterpret_cast<void*>(last), kEnd - last));
  EXPECT_FAILS(munmap(reinterpret_cast<void*>(last), kEnd - last + 4096), EINVAL);
  void* page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  EXPECT_OK(munmap(reinterpret_cast<void*>(last), kEnd - last));
}

TEST(MunmapTest, HolesAndErrors) {
  char* p = Map(3);
  EXPECT_OK(munmap(p + kPage, kPage));
  EXPECT_FALSE(Faults(p, true));
  EXPECT_TRUE(Faults(p + kPage, false));
  EXPECT_FALSE(Faults(p + 2 * kPage, true));
  EXPECT_OK(munmap(p, 3 * kPage));  // over the hole
  EXPECT_OK(munmap(p, 3 * kPage));  // nothing there is no error
  EXPECT_FAILS(munmap(p + 1, kPage), EINVAL);
  EXPECT_FAILS(munmap(p, 0), EINVAL);
  EXPECT_FAILS(munmap(p, ~0ul - kPage), EINVAL);
}

TEST(MprotectTest, TakesAndGivesBack) {
  char* p = Map(3);
  p[kPage] = 'k';
  ASSERT_OK(mprotect(p + kPage, kPage, PROT_READ));
  EXPECT_TRUE(Faults(p + kPage, true));
  EXPECT_FALSE(Faults(p + kPage, false));
  EXPECT_FALSE(Faults(p, true));
  ASSERT_OK(mprotect(p, 3 * kPage, PROT_NONE));
  EXPECT_TRUE(Faults(p, false));
  ASSERT_OK(mprotect(p, 3 * kPage, PROT_READ | PROT_WRITE));
  EXPECT_EQ(p[kPage], 'k');
  munmap(p, 3 * kPage);
}

TEST(MprotectTest, Errors) {
  char* p = Map(2);
  munmap(p + kPage, kPage);
  EXPECT_FAILS(mprotect(p, 2 * kPage, PROT_READ), ENOMEM);
  EXPECT_FAILS(mprotect(p + 1, kPage, PROT_READ), EINVAL);
  EXPECT_FAILS(mprotect(p, kPage, 0x80), EINVAL);
  EXPECT_OK(mprotect(p, 0, PROT_READ));
  TempDir dir;
  Fd ro(open(dir.File("f", "x").c_str(), O_RDONLY));
  char* q = Map(1, PROT_READ, MAP_SHARED, ro.get());
  EXPECT_FAILS(mprotect(q, kPage, PROT_READ | PROT_WRITE), EACCES);
  munmap(q, kPage);
  munmap(p, kPage);
}

TEST(MprotectTest, FreshCodeRuns) {
  char* p = Map(1);
  const unsigned char code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3};  // mov $42,%eax; ret
  memcpy(p, code, sizeof(code));
  ASSERT_OK(mprotect(p, kPage, PROT_READ | PROT_EXEC));
  EXPECT_EQ(reinterpret_cast<int (*)()>(p)(), 42);
  munmap(p, kPage);
}

TEST(MprotectTest, SystemCallInFreshCodeAndAfterARewrite) {
  char* p = Map(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};  // mov $nr,%eax; syscall; ret
  memcpy(p, code, sizeof(code));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(reinterpret_cast<int (*)()>(p)(), getpid());
  code[1] = 110;
  memcpy(p, code, sizeof(code));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(reinterpret_cast<int (*)()>(p)(), getppid());
  munmap(p, kPage);
  // Another program text at the same address must not find remains of the first.
  char* q = Map(1, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0, p);
  ASSERT_EQ(q, p);
  const unsigned char other[] = {0xb8, 7, 0, 0, 0, 0x90, 0x90, 0xc3};
  memcpy(q, other, sizeof(other));
  EXPECT_EQ(reinterpret_cast<int (*)()>(q)(), 7);
  munmap(q, kPage);
}

TEST(MprotectTest, CallsFromFreshCodeKeepTheirResults) {
  // Many sites, each called often enough to be worth rewriting, by calls that have quick answers.
  constexpr int kSites = 600, kCalls = 40, kDistance = 64;
  const struct {
    unsigned char nr;
    long result;
  } calls[] = {{228 /* clock_gettime */, 0}, {39 /* getpid */, getpid()}, {110 /* getppid */, getppid()}};
  char* p = Map(kSites * kDistance / kPage + 1);
  for (int i = 0; i < kSites; ++i) {
    const unsigned char code[] = {0xb8, calls[i % 3].nr, 0, 0, 0, 0x0f, 0x05, 0xc3};
    memcpy(p + i * kDistance, code, sizeof(code));
  }
  ASSERT_OK(mprotect(p, (kSites * kDistance / kPage + 1) * kPage, PROT_READ | PROT_EXEC));
  timespec now;
  for (int i = 0; i < kSites; ++i) {
    const auto call = reinterpret_cast<long (*)(long, timespec*)>(p + i * kDistance);
    for (int k = 0; k < kCalls; ++k) {
      ASSERT_EQ(call(CLOCK_MONOTONIC, &now), calls[i % 3].result) << "call " << k << " of site " << i;
    }
  }
  munmap(p, (kSites * kDistance / kPage + 1) * kPage);
}

TEST(MprotectTest, BadAddressForACallIsEfaultAfterProtection) {
  char* p = Map(1);
  ASSERT_OK(mprotect(p, kPage, PROT_READ));
  Fd zero(open("/dev/zero", O_RDONLY));
  EXPECT_FAILS(read(zero.get(), p, 10), EFAULT);
  munmap(p, kPage);
}

TEST(MremapTest, GrowsShrinksAndMoves) {
  char* p = Map(2);
  p[0] = 'a';
  p[kPage] = 'b';
  char* q = static_cast<char*>(mremap(p, 2 * kPage, 50 * kPage, MREMAP_MAYMOVE));
  ASSERT_NE(q, MAP_FAILED);
  EXPECT_EQ(q[0], 'a');
  EXPECT_EQ(q[kPage], 'b');
  EXPECT_EQ(q[49 * kPage], 0);
  EXPECT_EQ(mremap(q, 50 * kPage, kPage, 0), q);
  EXPECT_TRUE(Faults(q + kPage, false));
  char* target = Map(1);
  EXPECT_EQ(mremap(q, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, target), target);
  EXPECT_EQ(target[0], 'a');
  EXPECT_TRUE(Faults(q, false));
  munmap(target, kPage);
}

TEST(MremapTest, Errors) {
  char* p = Map(3);
  EXPECT_FAILS(mremap(p, kPage, 2 * kPage, 0), ENOMEM);
  EXPECT_FAILS(mremap(p + 1, kPage, kPage, 0), EINVAL);
  EXPECT_FAILS(mremap(p, kPage, 0, 0), EINVAL);
  EXPECT_FAILS(mremap(p, kPage, kPage, 0x80), EINVAL);
  EXPECT_FAILS(mremap(p, kPage, kPage, MREMAP_FIXED, p), EINVAL);
  EXPECT_FAILS(mremap(p, 2 * kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, p + kPage), EINVAL);
  munmap(p, 3 * kPage);
  EXPECT_FAILS(mremap(p, kPage, 2 * kPage, MREMAP_MAYMOVE), EFAULT);
}

TEST(MremapTest, OldSizeZeroDuplicatesASharedMapping) {
  char* p = Map(1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  char* q = static_cast<char*>(mremap(p, 0, kPage, MREMAP_MAYMOVE));
  ASSERT_NE(q, MAP_FAILED);
  p[3] = 'd';
  EXPECT_EQ(q[3], 'd');
  munmap(q, kPage);
  munmap(p, kPage);
}

TEST(MadviseTest, DontneedZeroesPrivateMemory) {
  char* p = Map(2);
  p[0] = p[kPage] = 'x';
  ASSERT_OK(madvise(p, kPage, MADV_DONTNEED));
  EXPECT_EQ(p[0], 0);
  EXPECT_EQ(p[kPage], 'x');
  munmap(p, 2 * kPage);
}

TEST(MadviseTest, Errors) {
  char* p = Map(2);
  EXPECT_FAILS(madvise(p, kPage, 9999), EINVAL);
  EXPECT_FAILS(madvise(p + 1, kPage, MADV_DONTNEED), EINVAL);
  munmap(p + kPage, kPage);
  EXPECT_FAILS(madvise(p, 2 * kPage, MADV_WILLNEED), ENOMEM);
  EXPECT_OK(madvise(p, kPage, MADV_HUGEPAGE));
  EXPECT_OK(madvise(p, 0, MADV_DONTNEED));
  munmap(p, kPage);
}

TEST(MadviseTest, MergingIsTakenWhereTheSystemShowsIt) {
  char* p = Map(2);
  const bool shown = access("/sys/kernel/mm/ksm/run", F_OK) == 0;
  for (const int advice : {MADV_MERGEABLE, MADV_UNMERGEABLE}) {
    EXPECT_EQ(madvise(p, 2 * kPage, advice), shown ? 0 : -1);
  }
  munmap(p, 2 * kPage);
}

TEST(MadviseTest, DontforkAndWipeonfork) {
  char* p = Map(2);
  p[0] = p[kPage] = 'x';
  ASSERT_OK(madvise(p, kPage, MADV_DONTFORK));
  ASSERT_OK(madvise(p + kPage, kPage, MADV_WIPEONFORK));
  EXPECT_TRUE(Exited(InChild([&] { return Faults(p, false) && p[kPage] == 0 ? 0 : 1; })));
  EXPECT_EQ(p[0], 'x');
  munmap(p, 2 * kPage);
}

TEST(BrkTest, GrowsZeroedAndShrinks) {
  EXPECT_TRUE(Exited(InChild([] {
    const auto start = static_cast<uintptr_t>(syscall(SYS_brk, 0));
    CHECK_CHILD(syscall(SYS_brk, start + 10 * kPage) == static_cast<long>(start + 10 * kPage));
    char* p = reinterpret_cast<char*>((start + kPage - 1) & ~(kPage - 1));
    CHECK_CHILD(p[0] == 0);
    p[5 * kPage] = 1;
    CHECK_CHILD(syscall(SYS_brk, start) == static_cast<long>(start));
    CHECK_CHILD(Faults(p + 5 * kPage, false));
    CHECK_CHILD(syscall(SYS_brk, start + 10 * kPage) == static_cast<long>(start + 10 * kPage));
    CHECK_CHILD(p[5 * kPage] == 0);
    CHECK_CHILD(syscall(SYS_brk, 1) == static_cast<long>(start + 10 * kPage));  // refused: unchanged
    return 0;
  })));
}

TEST(MincoreTest, SaysWhatIsThere) {
  char* p = Map(3);
  p[kPage] = 1;
  unsigned char v[3] = {9, 9, 9};
  ASSERT_OK(mincore(p, 3 * kPage, v));
  EXPECT_EQ(v[0] & 1, 0);
  EXPECT_EQ(v[1] & 1, 1);
  EXPECT_EQ(v[2] & 1, 0);
  EXPECT_FAILS(mincore(p + 1, kPage, v), EINVAL);
  EXPECT_FAILS(syscall(SYS_mincore, p, kPage, BadAddress()), EFAULT);
  munmap(p + kPage, kPage);
  EXPECT_FAILS(mincore(p, 3 * kPage, v), ENOMEM);
  munmap(p, 3 * kPage);
}

TEST(MsyncTest, Errors) {
  char* p = Map(2);
  EXPECT_OK(msync(p, 2 * kPage, MS_ASYNC));
  EXPECT_FAILS(msync(p, kPage, MS_ASYNC | MS_SYNC), EINVAL);
  EXPECT_FAILS(msync(p, kPage, 0x80), EINVAL);
  EXPECT_FAILS(msync(p + 1, kPage, MS_SYNC), EINVAL);
  munmap(p + kPage, kPage);
  EXPECT_FAILS(msync(p, 2 * kPage, MS_SYNC), ENOMEM);
  munmap(p, kPage);
}

TEST(MlockTest, LocksAndChecks) {
  char* p = Map(2);
  EXPECT_OK(mlock(p, kPage));
  EXPECT_OK(munlock(p, kPage));
  EXPECT_OK(mlock2(p, kPage, MLOCK_ONFAULT));
  EXPECT_FAILS(mlock2(p, kPage, 8), EINVAL);
  munmap(p, 2 * kPage);
  EXPECT_FAILS(mlock(p, kPage), ENOMEM);
  EXPECT_FAILS(mlockall(0), EINVAL);
}

TEST(MemfdTest, IsAFileWithoutAName) {
  Fd fd(memfd_create("thing", MFD_CLOEXEC));
  ASSERT_TRUE(fd.ok());
  ASSERT_EQ(write(fd.get(), "abc", 3), 3);
  char* p = Map(1, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  EXPECT_EQ(p[1], 'b');
  p[1] = 'X';
  char b[3];
  EXPECT_EQ(pread(fd.get(), b, 3, 0), 3);
  EXPECT_EQ(b[1], 'X');
  munmap(p, kPage);
  char link[64] = {};
  EXPECT_GT(readlink(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), link, 63), 0);
  EXPECT_STREQ(link, "/memfd:thing (deleted)");
  EXPECT_FAILS(memfd_create("x", 0x8000u), EINVAL);
  EXPECT_FAILS(memfd_create(std::string(250, 'x').c_str(), 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_memfd_create, BadAddress(), 0), EFAULT);
}

TEST(MemfdTest, SealsHold) {
  Fd fd(memfd_create("s", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(fd.get(), kPage));
  ASSERT_OK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
  EXPECT_FAILS(ftruncate(fd.get(), 0), EPERM);
  EXPECT_FAILS(ftruncate(fd.get(), 2 * kPage), EPERM);
  char* p = Map(1, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  EXPECT_FAILS(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
  munmap(p, kPage);
  ASSERT_OK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL));
  EXPECT_FAILS(write(fd.get(), "x", 1), EPERM);
  EXPECT_FAILS(Map(1, PROT_WRITE, MAP_SHARED, fd.get()), EPERM);
  EXPECT_FAILS(fcntl(fd.get(), F_ADD_SEALS, 0), EPERM);
  EXPECT_EQ(fcntl(fd.get(), F_GET_SEALS),
            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
  Fd plain(memfd_create("p", 0));
  EXPECT_EQ(fcntl(plain.get(), F_GET_SEALS), F_SEAL_SEAL);
}

TEST(StackTest, GrowsOnTouch) {
  EXPECT_TRUE(Exited(InChild([] {
    // Four megabytes down in one go, far below what is mapped at start.
    volatile char* p = static_cast<char*>(__builtin_alloca(4 << 20));
    p[0] = 1;
    return p[0] - 1;
  })));
}

TEST(StackTest, OverflowIsSigsegv) {
  EXPECT_TRUE(KilledBy(InChild([] {
    const struct rlimit lim = {256 << 10, 256 << 10};
    setrlimit(RLIMIT_STACK, &lim);
    volatile char* p = static_cast<char*>(__builtin_alloca(1 << 20));
    p[0] = 1;
    return 0;
  }), SIGSEGV));
}

TEST(ThreadedMemoryTest, ThreadsMapAndUnmapAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 200; ++i) {
        char* p = Map(4);
        p[0] = static_cast<char>(t);
        p[3 * kPage] = static_cast<char>(i);
        if (p[0] != t || p[3 * kPage] != static_cast<char>(i)) abort();
        mprotect(p, kPage, PROT_READ);
        munmap(p, 4 * kPage);
      }
    });
  }
  for (auto& t : threads) t.join();
}

TEST(ProcessVmTest, ReadsAndWritesAChild) {
  char* p = Map(1);
  strcpy(p, "parent");
  Pipe ready, done;
  const pid_t pid = fork();
  if (pid == 0) {
    strcpy(p, "child!");
    char c;
    if (write(ready.writer.get(), "x", 1) != 1 || read(done.reader.get(), &c, 1) != 1) _exit(2);
    _exit(strcmp(p, "poked!") == 0 ? 0 : 1);
  }
  char c, b[8] = {};
  ASSERT_EQ(read(ready.reader.get(), &c, 1), 1);
  iovec local = {b, 7}, remote = {p, 7};
  EXPECT_EQ(syscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0), 7);
  EXPECT_STREQ(b, "child!");
  strcpy(b, "poked!");
  EXPECT_EQ(syscall(SYS_process_vm_writev, pid, &local, 1, &remote, 1, 0), 7);
  EXPECT_FAILS(syscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 1), EINVAL);
  ASSERT_EQ(write(done.writer.get(), "x", 1), 1);
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
  munmap(p, kPage);
}

// Where the main stack may still grow to nothing is mapped, and it keeps away from what comes there.
TEST(StackTest, RoomToGrowIsFreeAndTheGapIsKept) {
  EXPECT_TRUE(Exited(InChild([] {
    char here;
    char* const stack = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(&here) & ~(kPage - 1));
    char* const p = stack - (4 << 20);
    CHECK_CHILD(munmap(p - (1 << 20), 16 * kPage) == 0);
    CHECK_CHILD(mprotect(p, kPage, PROT_READ) != 0 && errno == ENOMEM);
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    CHECK_CHILD(mmap(p, kPage, PROT_READ | PROT_WRITE, kFlags, -1, 0) == p);
    stack_t alternative = {malloc(65536), 0, 65536};
    sigaltstack(&alternative, nullptr);
    struct sigaction sa = {};
    sa.sa_handler = Jump;
    sa.sa_flags = SA_ONSTACK;
    sigaction(SIGSEGV, &sa, nullptr);
    const auto touch = [](volatile char* at) {
      if (sigsetjmp(g_jump, 1) != 0) return false;
      *at = 1;
      return true;
    };
    CHECK_CHILD(!touch(p + kPage));
    CHECK_CHILD(!touch(p + 256 * kPage));
    CHECK_CHILD(touch(p + 300 * kPage));
    CHECK_CHILD(touch(p + 257 * kPage));
    CHECK_CHILD(!touch(p + 256 * kPage));
    CHECK_CHILD(!touch(p - kPage));
    // When it is gone the stack grows on.
    CHECK_CHILD(munmap(p, kPage) == 0);
    CHECK_CHILD(touch(p - (1 << 20)));
    return 0;
  })));
}

}  // namespace
}  // namespace ringwall::test
