// What of the old program is gone after execve, and that nothing of it goes when execve fails. The
// program runs itself as the new one, which then reports what it finds.
#include <asm/prctl.h>
#include <linux/membarrier.h>
#include <sys/auxv.h>
#include <sys/resource.h>

#include <thread>

#include "tests/util/test_util.h"

extern char** environ;

namespace ringwall::test {
namespace {

constexpr uint64_t kOldAddress = 0x10'0000'0000;
constexpr uint64_t kOldGs = 0x1234'5678'9000;
constexpr char kProbe[] = "RINGWALL_EXEC_PROBE";

int64_t Membarrier(int cmd) { return syscall(SYS_membarrier, cmd, 0, 0); }

// Runs again as a new program that is to exec so many more times before it reports.
int ExecProbe(int more) {
  const std::string setting = std::string(kProbe) + "=" + std::to_string(more);
  char name[] = "probe";
  char* const argv[] = {name, nullptr};
  char* const envp[] = {const_cast<char*>(setting.c_str()), nullptr};
  return static_cast<int>(syscall(SYS_execve, "/proc/self/exe", argv, envp));
}

void* MapOld() {
  return mmap(reinterpret_cast<void*>(kOldAddress), 1 << 20, PROT_READ | PROT_WRITE | PROT_EXEC,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

std::string Find(const char* key) {
  std::string all;
  FILE* maps = fopen("/proc/self/maps", "re");
  char line[512];
  while (maps != nullptr && fgets(line, sizeof(line), maps) != nullptr) {
    if (strstr(line, key) != nullptr) all += line;
  }
  if (maps != nullptr) fclose(maps);
  return all;
}

std::string Threads() {
  std::string found = "no line";
  FILE* status = fopen("/proc/self/status", "re");
  char line[512];
  while (status != nullptr && fgets(line, sizeof(line), status) != nullptr) {
    if (strncmp(line, "Threads:", 8) == 0) found = line;
  }
  if (status != nullptr) fclose(status);
  return found;
}

// In the new program, before anything else of it.
void Report(int more) {
  unsigned char in_memory;
  const int mapped = mincore(reinterpret_cast<void*>(kOldAddress), 1, &in_memory);
  CHECK_CHILD(mapped == -1 && errno == ENOMEM);
  CHECK_CHILD(Find("1000000000-").empty());
  unsigned short control = 0;
  unsigned mxcsr = 0;
  __asm__("fnstcw %0\n\tstmxcsr %1" : "=m"(control), "=m"(mxcsr));
  CHECK_CHILD(control == 0x37f && (mxcsr & ~0x3fu) == 0x1f80);
  uint64_t gs = 1;
  CHECK_CHILD(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs) == 0 && gs == 0);
  stack_t alt;
  CHECK_CHILD(sigaltstack(nullptr, &alt) == 0 && (alt.ss_flags & SS_DISABLE) != 0);
  CHECK_CHILD(Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == -1 && errno == EPERM);
  if (const uint64_t vdso = getauxval(AT_SYSINFO_EHDR)) {
    CHECK_CHILD(memcmp(reinterpret_cast<void*>(vdso), "\177ELF", 4) == 0);
    timespec now = {};
    CHECK_CHILD(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && now.tv_sec + now.tv_nsec > 0);
  }
  CHECK_CHILD(Threads() == "Threads:\t1\n");
  void* const old_break = sbrk(8192);
  CHECK_CHILD(old_break != reinterpret_cast<void*>(-1));
  memset(old_break, 1, 8192);
  // Enough calls for a call site to be changed by those who change them.
  for (int i = 0; i < 40; ++i) CHECK_CHILD(getppid() > 0);
  if (more > 0) {
    CHECK_CHILD(MapOld() != MAP_FAILED);
    memset(reinterpret_cast<void*>(kOldAddress), 0x5a, 1 << 20);
    ExecProbe(more - 1);
    CHECK_CHILD(false);
  }
  rusage used;
  CHECK_CHILD(getrusage(RUSAGE_SELF, &used) == 0);
  dprintf(1, "%ld\n", used.ru_minflt);
  _exit(0);
}

__attribute__((constructor)) void BeTheProbe() {
  if (const char* more = getenv(kProbe)) Report(atoi(more));
}

TEST(ExecFreshTest, NothingOfTheOldProgramIsLeft) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(MapOld() != MAP_FAILED);
    memset(reinterpret_cast<void*>(kOldAddress), 1, 1 << 20);
    const unsigned short control = 0x27f;
    const unsigned mxcsr = 0x9fc0;
    __asm__("fldcw %0\n\tldmxcsr %1" : : "m"(control), "m"(mxcsr));
    CHECK_CHILD(syscall(SYS_arch_prctl, ARCH_SET_GS, kOldGs) == 0);
    stack_t alt = {};
    alt.ss_sp = reinterpret_cast<void*>(kOldAddress);
    alt.ss_size = 65536;
    CHECK_CHILD(sigaltstack(&alt, nullptr) == 0);
    return ExecProbe(0);
  })));
}

TEST(ExecFreshTest, RegistrationsWithTheHostAreGone) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0);
    CHECK_CHILD(Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0);
    return ExecProbe(0);
  })));
}

TEST(ExecFreshTest, VdsoIsThereThoughTheOldProgramUnmappedIt) {
  unsigned long start = 0, end = 0;
  if (sscanf(Find("[vdso]").c_str(), "%lx-%lx", &start, &end) != 2) GTEST_SKIP() << "no vDSO";
  EXPECT_TRUE(Exited(InChild([=] {
    CHECK_CHILD(munmap(reinterpret_cast<void*>(start), end - start) == 0);
    return ExecProbe(0);
  })));
  EXPECT_TRUE(Exited(InChild([=] {
    const pid_t child = fork();
    if (child != 0) {
      int status;
      CHECK_CHILD(waitpid(child, &status, 0) == child);
      _exit(WEXITSTATUS(status));
    }
    CHECK_CHILD(mprotect(reinterpret_cast<void*>(start), end - start, PROT_NONE) == 0);
    return ExecProbe(1);
  })));
}

TEST(ExecFreshTest, ProgramsFollowOneAnother) {
  EXPECT_TRUE(Exited(InChild([] { return ExecProbe(25); })));
}

TEST(ExecFreshTest, ThreadsEnd) {
  EXPECT_TRUE(Exited(InChild([] {
    for (int i = 0; i < 3; ++i) std::thread([] { pause(); }).detach();
    return ExecProbe(1);
  })));
  EXPECT_TRUE(Exited(InChild([] {
    std::thread([] { ExecProbe(1); }).join();
    return 1;
  })));
}

TEST(ExecFreshTest, VforkLeavesTheParentsMemory) {
  CHECK_CHILD(MapOld() != MAP_FAILED);
  auto* const memory = reinterpret_cast<unsigned char*>(kOldAddress);
  memset(memory, 0x77, 1 << 20);
  for (int i = 0; i < 3; ++i) {
    const pid_t child = vfork();
    if (child == 0) {
      memory[i] = 0x78;
      ExecProbe(1);
      _exit(1);
    }
    int status = -1;
    ASSERT_OK(waitpid(child, &status, 0));
    EXPECT_TRUE(Exited(status));
    EXPECT_EQ(memory[i], 0x78);
    EXPECT_EQ(memory[(1 << 20) - 1], 0x77);
  }
  munmap(memory, 1 << 20);
}

TEST(ExecFreshTest, FailureLeavesEverything) {
  TempDir dir;
  const std::string text = dir.File("text", "neither a program nor a script", 0755);
  const std::string script = dir.File("script", "#!/no/such/interpreter\n", 0755);
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(MapOld() != MAP_FAILED);
    auto* const memory = reinterpret_cast<unsigned char*>(kOldAddress);
    memset(memory, 0x5a, 1 << 20);
    char name[] = "x";
    char* const argv[] = {name, nullptr};
    for (int i = 0; i < 5; ++i) {
      CHECK_CHILD(execv(text.c_str(), argv) == -1 && errno == ENOEXEC);
      CHECK_CHILD(execv(script.c_str(), argv) == -1 && errno == ENOENT);
      CHECK_CHILD(execv("/no/such/file", argv) == -1 && errno == ENOENT);
      CHECK_CHILD(memory[0] == 0x5a && memory[(1 << 20) - 1] == 0x5a);
    }
    return ExecProbe(0);
  })));
}

TEST(ExecFreshTest, UsageIsCountedOnce) {
  Pipe out;
  const pid_t child = fork();
  if (child == 0) {
    dup2(out.writer.get(), 1);
    CHECK_CHILD(MapOld() != MAP_FAILED);
    memset(reinterpret_cast<void*>(kOldAddress), 1, 1 << 20);
    ExecProbe(3);
    _exit(1);
  }
  int status = -1;
  rusage used = {};
  ASSERT_OK(wait4(child, &status, 0, &used));
  EXPECT_TRUE(Exited(status));
  char text[32] = {};
  ASSERT_GT(read(out.reader.get(), text, sizeof(text) - 1), 0);
  const long inside = atol(text);
  // The 256 pages of the old program are in both.
  EXPECT_GT(inside, 0);
  EXPECT_GE(used.ru_minflt, inside);
  EXPECT_LT(used.ru_minflt, inside + inside / 2 + 100);
}

}  // namespace
}  // namespace ringwall::test
