// Core files (core(5)): when there is one, under which name, and what is in it.
#include <elf.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/procfs.h>
#include <sys/resource.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "tests/util/test_util.h"

namespace {

using namespace ringwall::test;

constexpr uint32_t kSigInfo = 0x53494749, kFiles = 0x46494c45, kXState = 0x202;
constexpr size_t kPage = 4096;

// In their own pages of the program's data.
char g_witness[2 * kPage] = "to be found in the core";

struct Core {
  Elf64_Ehdr header = {};
  std::vector<Elf64_Phdr> segments;
  struct Note {
    uint32_t type;
    std::string data;
  };
  std::vector<Note> notes;
  std::string bytes;

  std::vector<uint32_t> NoteTypes() const {
    std::vector<uint32_t> types;
    for (const Note& n : notes) types.push_back(n.type);
    return types;
  }
  const Note* Find(uint32_t type) const {
    const auto it = std::find_if(notes.begin(), notes.end(), [&](const Note& n) { return n.type == type; });
    return it == notes.end() ? nullptr : &*it;
  }
  const Elf64_Phdr* SegmentOf(const void* p) const {
    const auto at = reinterpret_cast<uint64_t>(p);
    for (const Elf64_Phdr& s : segments) {
      if (s.p_type == PT_LOAD && s.p_vaddr <= at && at - s.p_vaddr < s.p_memsz) return &s;
    }
    return nullptr;
  }
  // What it says was at an address; empty when it does not say.
  std::string At(const void* p, size_t n) const {
    const Elf64_Phdr* s = SegmentOf(p);
    if (s == nullptr) return {};
    const uint64_t in = reinterpret_cast<uint64_t>(p) - s->p_vaddr;
    if (in + n > s->p_filesz || s->p_offset + in + n > bytes.size()) return {};
    return bytes.substr(s->p_offset + in, n);
  }
};

std::optional<Core> Parse(const std::string& path) {
  Core core;
  core.bytes = ReadFile(path);
  const std::string& b = core.bytes;
  if (b.size() < sizeof(core.header)) return std::nullopt;
  memcpy(&core.header, b.data(), sizeof(core.header));
  core.segments.resize(core.header.e_phnum);
  if (b.size() < core.header.e_phoff + core.segments.size() * sizeof(Elf64_Phdr)) return std::nullopt;
  memcpy(core.segments.data(), b.data() + core.header.e_phoff, core.segments.size() * sizeof(Elf64_Phdr));
  for (const Elf64_Phdr& s : core.segments) {
    if (s.p_type != PT_NOTE) continue;
    for (uint64_t at = s.p_offset; at + sizeof(Elf64_Nhdr) <= std::min(b.size(), s.p_offset + s.p_filesz);) {
      Elf64_Nhdr n;
      memcpy(&n, b.data() + at, sizeof(n));
      at += sizeof(n) + (n.n_namesz + 3) / 4 * 4;
      core.notes.push_back({n.n_type, b.substr(at, n.n_descsz)});
      at += (n.n_descsz + 3) / 4 * 4;
    }
  }
  return core;
}

// Not by a null pointer of the language, of which the compiler may think what it likes.
void Crash() { __asm__ volatile("movl $1, (%0)" : : "r"(uint64_t{0}) : "memory"); }

void SetLimit(rlim_t limit) {
  const rlimit core = {limit, RLIM_INFINITY};
  CHECK_CHILD(setrlimit(RLIMIT_CORE, &core) == 0);
}

// A file called "core" in the working directory is what most hosts make, and the sandbox does at first, which
// tests/runtime/core_test.py holds it to.
class CoreDumpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    rlimit most;
    ASSERT_OK(getrlimit(RLIMIT_CORE, &most));
    if (ReadFile("/proc/sys/kernel/core_pattern") != "core\n" || most.rlim_max != RLIM_INFINITY) {
      GTEST_SKIP() << "cores go elsewhere or are limited here";
    }
  }
  // Lets a child crash in the folder.
  int CrashAfter(const std::function<void()>& before, rlim_t limit = RLIM_INFINITY) {
    return InChild([&] {
      CHECK_CHILD(chdir(dir_.path().c_str()) == 0);
      SetLimit(limit);
      before();
      Crash();
      return 0;
    });
  }
  bool Exists(const std::string& name) { return access((dir_ / name).c_str(), F_OK) == 0; }
  TempDir dir_;
};

TEST_F(CoreDumpTest, HoldsNotesMemoryAndTheSignal) {
  pid_t* const pid = static_cast<pid_t*>(
      mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const int status = CrashAfter([&] { *pid = getpid(); });
  EXPECT_TRUE(KilledBy(status, SIGSEGV));
  EXPECT_TRUE(WCOREDUMP(status));
  struct stat st;
  ASSERT_OK(stat((dir_ / "core").c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0600u);
  EXPECT_EQ(st.st_uid, geteuid());
  const std::optional<Core> core = Parse(dir_ / "core");
  ASSERT_TRUE(core);
  EXPECT_EQ(core->header.e_type, ET_CORE);
  EXPECT_EQ(core->header.e_machine, EM_X86_64);
  std::vector<uint32_t> types = core->NoteTypes();
  ASSERT_GE(types.size(), 7u);
  types.resize(7);  // newer kernels add the layout of the xsave area
  EXPECT_EQ(types, (std::vector<uint32_t>{NT_PRSTATUS, NT_PRPSINFO, kSigInfo, NT_AUXV, kFiles, NT_PRFPREG, kXState}));
  elf_prstatus s;
  ASSERT_EQ(core->Find(NT_PRSTATUS)->data.size(), sizeof(s));
  memcpy(&s, core->Find(NT_PRSTATUS)->data.data(), sizeof(s));
  EXPECT_EQ(s.pr_cursig, SIGSEGV);
  EXPECT_EQ(s.pr_pid, *pid);
  EXPECT_EQ(s.pr_ppid, getpid());
  EXPECT_EQ(s.pr_pgrp, getpgrp());
  EXPECT_EQ(s.pr_sid, getsid(0));
  EXPECT_EQ(s.pr_fpvalid, 1);
  elf_prpsinfo p;
  ASSERT_EQ(core->Find(NT_PRPSINFO)->data.size(), sizeof(p));
  memcpy(&p, core->Find(NT_PRPSINFO)->data.data(), sizeof(p));
  EXPECT_EQ(p.pr_pid, *pid);
  EXPECT_EQ(p.pr_uid, getuid());
  EXPECT_EQ(p.pr_sname, 'R');
  siginfo_t info;
  ASSERT_EQ(core->Find(kSigInfo)->data.size(), sizeof(info));
  memcpy(&info, core->Find(kSigInfo)->data.data(), sizeof(info));
  EXPECT_EQ(info.si_signo, SIGSEGV);
  EXPECT_EQ(info.si_code, SEGV_MAPERR);
  EXPECT_EQ(info.si_addr, nullptr);
  EXPECT_EQ(core->Find(NT_PRFPREG)->data.size(), 512u);
  EXPECT_EQ(core->At(g_witness, strlen(g_witness)), g_witness);
  // Of the program's text the first page at most, which tells what it was.
  const Elf64_Phdr* text = core->SegmentOf(reinterpret_cast<const void*>(&Crash));
  ASSERT_NE(text, nullptr);
  EXPECT_LE(text->p_filesz, kPage);
  EXPECT_EQ(text->p_flags, uint32_t{PF_R | PF_X});
  munmap(pid, kPage);
}

TEST_F(CoreDumpTest, LimitDecides) {
  EXPECT_FALSE(WCOREDUMP(CrashAfter([] {}, 0)));
  EXPECT_FALSE(Exists("core"));
  EXPECT_FALSE(WCOREDUMP(CrashAfter([] {}, kPage - 1)));
  EXPECT_FALSE(Exists("core"));
  // It is cut where the next piece would go beyond.
  EXPECT_TRUE(WCOREDUMP(CrashAfter([] {}, 4 * kPage)));
  struct stat st;
  ASSERT_OK(stat((dir_ / "core").c_str(), &st));
  EXPECT_LE(st.st_blocks * 512, static_cast<blkcnt_t>(8 * kPage));
  const std::string cut = ReadFile(dir_ / "core");
  EXPECT_EQ(cut.compare(0, SELFMAG, ELFMAG), 0);
}

TEST_F(CoreDumpTest, OnlySignalsThatDump) {
  for (const auto& [number, dumps] : std::map<int, bool>{
           {SIGQUIT, true}, {SIGILL, true}, {SIGTRAP, true}, {SIGABRT, true}, {SIGBUS, true}, {SIGFPE, true},
           {SIGSYS, true}, {SIGXCPU, true}, {SIGXFSZ, true}, {SIGTERM, false}, {SIGKILL, false},
           {SIGUSR1, false}, {SIGALRM, false}, {SIGRTMIN, false}}) {
    const int signo = number;
    const int status = InChild([&] {
      CHECK_CHILD(chdir(dir_.path().c_str()) == 0);
      SetLimit(RLIM_INFINITY);
      kill(getpid(), signo);
      return 0;
    });
    EXPECT_TRUE(KilledBy(status, signo));
    EXPECT_EQ(WCOREDUMP(status) != 0, dumps) << signo;
    EXPECT_EQ(Exists("core"), dumps) << signo;
    if (!dumps) continue;
    const std::optional<Core> core = Parse(dir_ / "core");
    ASSERT_TRUE(core && core->Find(kSigInfo) != nullptr);
    siginfo_t info;
    memcpy(&info, core->Find(kSigInfo)->data.data(), sizeof(info));
    EXPECT_EQ(info.si_signo, signo);
    EXPECT_EQ(info.si_code, SI_USER);
    ASSERT_OK(unlink((dir_ / "core").c_str()));
  }
}

TEST_F(CoreDumpTest, EveryThreadHasItsStatus) {
  // One waits in a call, one computes.
  const int status = CrashAfter([] {
    static std::atomic<int> ready{0};
    for (const bool computes : {false, true}) {
      pthread_t t;
      CHECK_CHILD(pthread_create(&t, nullptr, [](void* arg) -> void* {
                    ready++;
                    while (arg != nullptr) {
                    }
                    pause();
                    return nullptr;
                  }, computes ? &ready : nullptr) == 0);
    }
    while (ready != 2) {
    }
  });
  EXPECT_TRUE(KilledBy(status, SIGSEGV));
  EXPECT_TRUE(WCOREDUMP(status));
  const std::optional<Core> core = Parse(dir_ / "core");
  ASSERT_TRUE(core);
  std::vector<pid_t> tids;
  size_t xstates = 0;
  for (const Core::Note& n : core->notes) {
    if (n.type == kXState) xstates++;
    if (n.type != NT_PRSTATUS) continue;
    elf_prstatus s;
    memcpy(&s, n.data.data(), sizeof(s));
    tids.push_back(s.pr_pid);
    EXPECT_NE(s.pr_reg[16], 0u) << "rip";
  }
  EXPECT_EQ(tids.size(), 3u);
  EXPECT_EQ(xstates, 3u);
  std::sort(tids.begin(), tids.end());
  EXPECT_EQ(std::unique(tids.begin(), tids.end()), tids.end());
}

TEST_F(CoreDumpTest, AThreadOtherThanTheLeaderIsFirst) {
  pid_t* const tid = static_cast<pid_t*>(
      mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const int status = CrashAfter([&] {
    pthread_t t;
    CHECK_CHILD(pthread_create(&t, nullptr, [](void* arg) -> void* {
                  *static_cast<pid_t*>(arg) = static_cast<pid_t>(syscall(SYS_gettid));
                  Crash();
                  return nullptr;
                }, tid) == 0);
    pthread_join(t, nullptr);
  });
  EXPECT_TRUE(WCOREDUMP(status));
  const std::optional<Core> core = Parse(dir_ / "core");
  ASSERT_TRUE(core && core->Find(NT_PRSTATUS) != nullptr);
  elf_prstatus s;
  memcpy(&s, core->Find(NT_PRSTATUS)->data.data(), sizeof(s));
  EXPECT_EQ(s.pr_pid, *tid);
  munmap(tid, kPage);
}

TEST_F(CoreDumpTest, ProcessesThatMayNotBeLookedAtHaveNone) {
  EXPECT_FALSE(WCOREDUMP(CrashAfter([] { CHECK_CHILD(prctl(PR_SET_DUMPABLE, 0) == 0); })));
  EXPECT_FALSE(Exists("core"));
  if (geteuid() != 0) return;
  // A change of ids is enough while fs.suid_dumpable is 0.
  ASSERT_EQ(ReadFile("/proc/sys/fs/suid_dumpable"), "0\n");
  ASSERT_OK(chmod(dir_.path().c_str(), 0777));
  EXPECT_FALSE(WCOREDUMP(CrashAfter([] { CHECK_CHILD(setuid(65534) == 0); })));
  EXPECT_FALSE(Exists("core"));
  // Who declares itself dumpable again is.
  EXPECT_TRUE(WCOREDUMP(CrashAfter([] {
    CHECK_CHILD(setuid(65534) == 0);
    CHECK_CHILD(prctl(PR_SET_DUMPABLE, 1) == 0);
  })));
  struct stat st;
  ASSERT_OK(stat((dir_ / "core").c_str(), &st));
  EXPECT_EQ(st.st_uid, 65534u);
}

TEST_F(CoreDumpTest, WhatMadviseAndTheFilterLeaveOut) {
  char* const map = static_cast<char*>(
      mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  char* const shared = static_cast<char*>(
      mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  memset(map, 'm', 4 * kPage);
  memset(shared, 's', kPage);
  CrashAfter([&] {
    CHECK_CHILD(madvise(map, 3 * kPage, MADV_DONTDUMP) == 0);
    CHECK_CHILD(madvise(map + kPage, kPage, MADV_DODUMP) == 0);
  });
  std::optional<Core> core = Parse(dir_ / "core");
  ASSERT_TRUE(core);
  EXPECT_EQ(core->At(map, 1), "");
  EXPECT_EQ(core->At(map + kPage, 1), "m");
  EXPECT_EQ(core->At(map + 2 * kPage, 1), "");
  EXPECT_EQ(core->At(map + 3 * kPage, 1), "m");
  EXPECT_EQ(core->At(shared, 1), "s");
  // The mapping is listed all the same.
  ASSERT_NE(core->SegmentOf(map), nullptr);
  EXPECT_EQ(core->SegmentOf(map)->p_filesz, 0u);

  const auto filter = [](const char* bits) {
    Fd fd(open("/proc/self/coredump_filter", O_WRONLY));
    CHECK_CHILD(write(fd.get(), bits, strlen(bits)) == static_cast<ssize_t>(strlen(bits)));
  };
  CrashAfter([&] { filter("0x1"); });
  core = Parse(dir_ / "core");
  ASSERT_TRUE(core);
  EXPECT_EQ(core->At(map, 1), "m");
  EXPECT_EQ(core->At(shared, 1), "");
  CrashAfter([&] { filter("0x2"); });
  core = Parse(dir_ / "core");
  ASSERT_TRUE(core);
  EXPECT_EQ(core->At(map, 1), "");
  EXPECT_EQ(core->At(shared, 1), "s");
  munmap(map, 4 * kPage);
  munmap(shared, kPage);
}

TEST_F(CoreDumpTest, MemoryWithoutAnyAccessIsThere) {
  char* const map = static_cast<char*>(
      mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  map[kPage] = 'h';
  CrashAfter([&] { CHECK_CHILD(mprotect(map, 3 * kPage, PROT_NONE) == 0); });
  const std::optional<Core> core = Parse(dir_ / "core");
  ASSERT_TRUE(core);
  EXPECT_EQ(core->At(map + kPage, 1), "h");
  EXPECT_EQ(core->At(map, 1), std::string(1, '\0'));
  munmap(map, 3 * kPage);
}

TEST_F(CoreDumpTest, ReplacesWhatIsThereButFollowsNothing) {
  // A link goes, what it names stays.
  const std::string other = dir_.File("other", "precious");
  ASSERT_OK(symlink(other.c_str(), (dir_ / "core").c_str()));
  EXPECT_TRUE(WCOREDUMP(CrashAfter([] {})));
  EXPECT_EQ(ReadFile(other), "precious");
  struct stat st;
  ASSERT_OK(lstat((dir_ / "core").c_str(), &st));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  // Another name of an older core keeps that.
  ASSERT_OK(unlink((dir_ / "core").c_str()));
  ASSERT_OK(link(other.c_str(), (dir_ / "core").c_str()));
  EXPECT_TRUE(WCOREDUMP(CrashAfter([] {})));
  EXPECT_EQ(ReadFile(other), "precious");
  // What cannot be removed is in the way.
  ASSERT_OK(unlink((dir_ / "core").c_str()));
  ASSERT_OK(mkdir((dir_ / "core").c_str(), 0700));
  EXPECT_FALSE(WCOREDUMP(CrashAfter([] {})));
}

TEST_F(CoreDumpTest, NotIntoAFolderThatMayNotBeWritten) {
  if (geteuid() != 0) return;
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  EXPECT_FALSE(WCOREDUMP(CrashAfter([] {
    CHECK_CHILD(setuid(65534) == 0);
    CHECK_CHILD(prctl(PR_SET_DUMPABLE, 1) == 0);
  })));
  EXPECT_FALSE(Exists("core"));
}

TEST_F(CoreDumpTest, TheParentIsTold) {
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    CHECK_CHILD(chdir(dir_.path().c_str()) == 0);
    SetLimit(RLIM_INFINITY);
    abort();
  }
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED));
  EXPECT_EQ(info.si_code, CLD_DUMPED);
  EXPECT_EQ(info.si_status, SIGABRT);
}

}  // namespace
