// What one process may do to another's memory, registers and descriptors: nothing that Linux would not
// let it, and never anything to the kernel's own parts that live in every process.
#include <dirent.h>
#include <elf.h>
#include <grp.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include <functional>

#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

constexpr char kSecret[] = "the secret of another user's process";
constexpr uid_t kUser = 61235;

std::vector<pid_t> Visible() {
  std::vector<pid_t> pids;
  DIR* const dir = opendir("/proc");
  while (const dirent* entry = readdir(dir)) {
    const pid_t pid = atoi(entry->d_name);
    if (pid > 0) pids.push_back(pid);
  }
  closedir(dir);
  return pids;
}

bool BecomeUser() {
  return geteuid() != 0 || (setgroups(0, nullptr) == 0 && setgid(kUser) == 0 && setuid(kUser) == 0);
}

std::string FileOf(pid_t pid, const char* name) { return "/proc/" + std::to_string(pid) + "/" + name; }

// A child that holds the secret, sits still, and dies with us.
class Holder {
 public:
  Holder() {
    memory_ = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      strcpy(memory_, kSecret);
      for (;;) usleep(10000);
    }
    usleep(20000);
  }
  ~Holder() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    munmap(memory_, 4096);
  }
  pid_t pid() const { return pid_; }
  char* memory() const { return memory_; }
  bool unharmed() const {
    char now[sizeof(kSecret)] = {};
    const iovec to = {now, sizeof(now)}, from = {memory_, sizeof(now)};
    return process_vm_readv(pid_, &to, 1, &from, 1, 0) == sizeof(now) && strcmp(now, kSecret) == 0;
  }

 private:
  char* memory_;
  pid_t pid_;
};

TEST(PryingTest, AnotherUsersProcessesStayClosed) {
  if (geteuid() != 0) GTEST_SKIP() << "takes two users";
  Holder holder;
  EXPECT_TRUE(Exited(RunHostile([&] {
    CHECK_CHILD(BecomeUser());
    for (pid_t pid : {holder.pid(), getppid()}) {
      char got[64] = {};
      const iovec to = {got, sizeof(got)}, from = {holder.memory(), sizeof(got)};
      CHECK_CHILD(process_vm_readv(pid, &to, 1, &from, 1, 0) < 0 && errno == EPERM);
      CHECK_CHILD(process_vm_writev(pid, &to, 1, &from, 1, 0) < 0 && errno == EPERM);
      CHECK_CHILD(ptrace(PTRACE_ATTACH, pid, 0, 0) < 0 && errno == EPERM);
      CHECK_CHILD(ptrace(PTRACE_SEIZE, pid, 0, 0) < 0 && errno == EPERM);
      for (const char* name : {"mem", "maps", "environ", "auxv", "pagemap", "syscall", "smaps", "numa_maps"}) {
        const int fd = open(FileOf(pid, name).c_str(), O_RDONLY);
        CHECK_CHILD(fd < 0 || read(fd, got, 1) <= 0);
      }
      CHECK_CHILD(open(FileOf(pid, "mem").c_str(), O_RDWR) < 0 && errno == EACCES);
      for (const char* link : {"cwd", "root", "exe", "ns/mnt"}) {
        CHECK_CHILD(readlink(FileOf(pid, link).c_str(), got, sizeof(got)) < 0 && errno == EACCES);
      }
      CHECK_CHILD(open(FileOf(pid, "fd/0").c_str(), O_RDONLY) < 0 && errno == EACCES);
      CHECK_CHILD(open(FileOf(pid, "root/etc").c_str(), O_RDONLY) < 0 && errno == EACCES);
      CHECK_CHILD(kill(pid, SIGTERM) < 0 && errno == EPERM);
      const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
      CHECK_CHILD(pidfd >= 0);
      CHECK_CHILD(syscall(SYS_pidfd_getfd, pidfd, 0, 0) < 0 && errno == EPERM);
      CHECK_CHILD(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, nullptr, 0) < 0 && errno == EPERM);
      CHECK_CHILD(syscall(SYS_kcmp, pid, getpid(), 0, 0, 0) < 0 && errno == EPERM);
      CHECK_CHILD(syscall(SYS_get_robust_list, pid, got, got + 8) < 0 && errno == EPERM);
      CHECK_CHILD(syscall(SYS_process_madvise, pidfd, nullptr, 0, MADV_COLD, 0) != 1);
      CHECK_CHILD(syscall(SYS_move_pages, pid, 0, nullptr, nullptr, nullptr, 0) < 0 && errno == EPERM);
    }
    return 7;
  }), 7));
  EXPECT_TRUE(holder.unharmed());
  ExpectWell();
}

TEST(PryingTest, AProcessThatGaveItsDumpabilityUpStaysClosed) {
  if (geteuid() != 0) GTEST_SKIP() << "takes two users";
  // A process of the same user that came from another: its memory may still hold that one's secrets.
  EXPECT_TRUE(Exited(RunHostile([] {
    int ready[2];
    CHECK_CHILD(pipe(ready) == 0);
    const pid_t other = fork();
    if (other == 0) {
      CHECK_CHILD(BecomeUser());
      CHECK_CHILD(write(ready[1], "r", 1) == 1);
      for (;;) pause();
    }
    char byte;
    CHECK_CHILD(read(ready[0], &byte, 1) == 1);
    CHECK_CHILD(BecomeUser());
    char got[8];
    const iovec to = {got, sizeof(got)}, from = {&byte, sizeof(got)};
    CHECK_CHILD(process_vm_readv(other, &to, 1, &from, 1, 0) < 0 && errno == EPERM);
    CHECK_CHILD(ptrace(PTRACE_ATTACH, other, 0, 0) < 0 && errno == EPERM);
    CHECK_CHILD(open(FileOf(other, "mem").c_str(), O_RDWR) < 0 && errno == EACCES);
    kill(other, SIGKILL);
    return 7;
  }), 7));
}

// The kernel's own range, by all ways that there are into another's memory.
TEST(PryingTest, TheStubsRangeIsNobodysMemory) {
  for (uint64_t place : SafePlaces()) {
    const int status = RunHostile([place] {
      const pid_t other = fork();
      if (other == 0) {
        for (;;) pause();
      }
      uint64_t word = 0;
      const iovec ours = {&word, 8}, theirs = {reinterpret_cast<void*>(place), 8};
      for (pid_t pid : {getpid(), other}) {
        if (process_vm_readv(pid, &ours, 1, &theirs, 1, 0) >= 0) return kReached;
        if (process_vm_writev(pid, &ours, 1, &theirs, 1, 0) >= 0) return kReached;
        const int mem = open(FileOf(pid, "mem").c_str(), O_RDWR);
        CHECK_CHILD(mem >= 0);
        if (pread(mem, &word, 8, static_cast<off_t>(place)) > 0) return kReached;
        if (pwrite(mem, &word, 8, static_cast<off_t>(place)) > 0) return kReached;
        close(mem);
      }
      CHECK_CHILD(ptrace(PTRACE_ATTACH, other, 0, 0) == 0);
      CHECK_CHILD(waitpid(other, nullptr, 0) == other);
      errno = 0;
      if (ptrace(PTRACE_PEEKDATA, other, place, 0) != -1 || errno == 0) return kReached;
      if (ptrace(PTRACE_POKEDATA, other, place, 0) == 0) return kReached;
      for (int n = 0; n < 4; n++) {
        if (ptrace(PTRACE_POKEUSER, other, offsetof(struct user, u_debugreg) + static_cast<size_t>(n) * 8,
                   Inside() ? place : 0xffff800000000000) == 0) {
          return kReached;
        }
      }
      // Not set, so of no use: what is set is told apart by reading it.
      ptrace(PTRACE_KILL, other, 0, 0);
      return kFailed;
    });
    EXPECT_TRUE(AimFailed(status)) << std::hex << place;
  }
  // A range that begins in the guest's memory and runs into it is cut short, not carried out.
  EXPECT_TRUE(AimFailed(RunHostile([] {
    static char buffer[16384];
    const iovec ours = {buffer, sizeof(buffer)}, theirs = {reinterpret_cast<void*>(RW_STUB_START - 4096), 16384};
    return process_vm_readv(getpid(), &ours, 1, &theirs, 1, 0) > 4096 ? kReached : kFailed;
  })));
  ExpectWell();
}

// A tracee with registers of the tracer's choice.
int WithRegisters(const std::function<void(user_regs_struct&)>& change) {
  return RunHostile([&] {
    const pid_t other = fork();
    if (other == 0) {
      ptrace(PTRACE_TRACEME, 0, 0, 0);
      raise(SIGSTOP);
      for (int i = 0; i < 3; i++) syscall(SYS_getppid);
      _exit(0);
    }
    int status;
    CHECK_CHILD(waitpid(other, &status, 0) == other && WIFSTOPPED(status));
    user_regs_struct regs;
    CHECK_CHILD(ptrace(PTRACE_GETREGS, other, 0, &regs) == 0);
    change(regs);
    if (ptrace(PTRACE_SETREGS, other, 0, &regs) != 0) {
      CHECK_CHILD(errno == EIO);
      kill(other, SIGKILL);
      return kFailed;
    }
    for (int i = 0; i < 50; i++) {
      CHECK_CHILD(ptrace(i % 2 == 0 ? PTRACE_SINGLESTEP : PTRACE_SYSCALL, other, 0, 0) == 0 || errno == ESRCH);
      if (waitpid(other, &status, 0) != other || !WIFSTOPPED(status)) return kFailed;
      // A fault that would repeat for ever ends it.
      if (WSTOPSIG(status) == SIGSEGV || WSTOPSIG(status) == SIGBUS) {
        kill(other, SIGKILL);
        return kFailed;
      }
    }
    kill(other, SIGKILL);
    return kFailed;
  });
}

TEST(PryingTest, RegistersOfATraceeLeadNowhere) {
  using Regs = user_regs_struct;
  const std::vector<std::function<void(Regs&)>> changes = {
      [](Regs& r) { r.cs = 0x10; },
      [](Regs& r) { r.cs = 0x23; },
      [](Regs& r) { r.cs = 0; },
      [](Regs& r) { r.ss = 0x18; },
      [](Regs& r) { r.ss = 0; },
      [](Regs& r) { r.ds = r.es = 0x10; },
      [](Regs& r) { r.fs = r.gs = 0x2b; },
      [](Regs& r) { r.eflags = ~0ull; },
      [](Regs& r) { r.eflags = 0; },
      [](Regs& r) { r.eflags |= 0x100; },
      [](Regs& r) { r.fs_base = 0x800000000000; },
      [](Regs& r) { r.gs_base = ~0ull; },
      [](Regs& r) { r.fs_base = RW_STUB_REGIONS; },
      [](Regs& r) { r.gs_base = RW_STUB_REGIONS; },
      [](Regs& r) { r.gs_base = RW_STUB_REGIONS + 8; },
      [](Regs& r) { r.rip = 0x800000000000; },
      [](Regs& r) { r.rip = 0xffffffff81000000; },
      [](Regs& r) { r.rip = RW_STUB_TEXT; },
      [](Regs& r) { r.rip = RW_STUB_TEXT + 0x100; },
      [](Regs& r) { r.rip = RW_STUB_TRAMPOLINES; },
      [](Regs& r) { r.rip = RW_STUB_REGIONS; },
      [](Regs& r) { r.rsp = RW_STUB_REGIONS + RW_REGION_STACK_TOP; },
      [](Regs& r) { r.rsp = RW_STUB_ALTSTACK + 0x800; },
      [](Regs& r) { r.rsp = ~0ull; },
      [](Regs& r) { r.rsp = 0; },
      [](Regs& r) { r.orig_rax = 15; },
      [](Regs& r) { r.orig_rax = ~0ull; },
      [](Regs& r) { r.rax = static_cast<uint64_t>(-512), r.orig_rax = 35; },
      [](Regs& r) { r.rax = static_cast<uint64_t>(-516), r.orig_rax = 1000; }};
  for (size_t i = 0; i < changes.size(); i++) {
    EXPECT_TRUE(AimFailed(WithRegisters(changes[i]))) << "change " << i;
  }
  ExpectWell();
}

TEST(PryingTest, ExtendedStateOfATraceeIsCheckedOrHarmless) {
  EXPECT_TRUE(Exited(RunHostile([] {
    for (int turn = 0; turn < 40; turn++) {
      const pid_t other = fork();
      if (other == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        volatile double x = 1.5;
        x = x * 2;
        _exit(0);
      }
      int status;
      CHECK_CHILD(waitpid(other, &status, 0) == other && WIFSTOPPED(status));
      static unsigned char state[16384];
      iovec io = {state, sizeof(state)};
      CHECK_CHILD(ptrace(PTRACE_GETREGSET, other, NT_X86_XSTATE, &io) == 0);
      srand(static_cast<unsigned>(turn));
      for (int i = 0; i < 1 + turn; i++) state[static_cast<size_t>(rand()) % io.iov_len] = static_cast<unsigned char>(rand());
      if (turn % 4 == 0) memset(state + 512, 0xff, 64);  // the header
      if (turn % 5 == 0) memset(state + 24, 0xff, 4);    // MXCSR
      if (turn % 7 == 0) io.iov_len = static_cast<size_t>(rand()) % io.iov_len;
      const bool set = ptrace(PTRACE_SETREGSET, other, NT_X86_XSTATE, &io) == 0;
      CHECK_CHILD(set || errno == EINVAL || errno == EFAULT || errno == EIO);
      ptrace(PTRACE_CONT, other, 0, 0);
      CHECK_CHILD(waitpid(other, &status, 0) == other);
      kill(other, SIGKILL);
      if (WIFSTOPPED(status)) waitpid(other, nullptr, 0);
    }
    return 7;
  }), 7));
  ExpectWell();
}

// Root may trace what it sees; whatever it does to it, the kernel and the others are well.
TEST(PryingTest, EverythingVisibleIsOnlyAGuest) {
  if (!Inside()) GTEST_SKIP() << "natively these are the host's processes";
  EXPECT_TRUE(Exited(RunHostile([] {
    const pid_t self = getpid(), parent = getppid();
    for (pid_t pid : Visible()) {
      for (const char* name : {"mem", "maps", "smaps", "environ", "auxv", "syscall", "stat", "wchan", "stack"}) {
        Fd fd(open(FileOf(pid, name).c_str(), O_RDONLY));
        char buffer[4096];
        for (int i = 0; i < 4 && read(fd.get(), buffer, sizeof(buffer)) > 0; i++) {
        }
      }
      // Nothing here is a process of the host: all names are known by the pid namespace.
      CHECK_CHILD(kill(pid, 0) == 0);
      if (pid == self || pid == parent || pid == 1) continue;
      if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) ptrace(PTRACE_DETACH, pid, 0, 0);
    }
    return 7;
  }), 7));
  ExpectWell();
}

TEST(PryingTest, NumbersOfTheHostsProcessesMeanNothing) {
  if (!Inside()) GTEST_SKIP() << "natively these are the host's processes";
  EXPECT_TRUE(Exited(RunHostile([] {
    const std::vector<pid_t> seen = Visible();
    int found = 0;
    for (pid_t pid = 1; pid < 70000; pid += pid < 3000 ? 1 : 7) {
      const bool listed = std::find(seen.begin(), seen.end(), pid) != seen.end();
      if (kill(pid, 0) == 0 && !listed) {
        // A thread's number, or one that is new since.
        if (access(FileOf(pid, "stat").c_str(), F_OK) != 0) found++;
      }
    }
    CHECK_CHILD(found == 0);
    return 7;
  }, 20000), 7));
}

}  // namespace
}  // namespace ringwall::test
