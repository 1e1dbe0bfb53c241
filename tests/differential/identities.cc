// Random calls on identities: users, groups, capabilities, prctl and user namespaces, each in a process of its own
// that begins as root or as a user.
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/securebits.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

constexpr uint64_t kSysResource = uint64_t{1} << CAP_SYS_RESOURCE;

struct Caps {
  uint64_t effective = 0, permitted = 0, inheritable = 0;
};
Caps GetCaps() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct d[2] = {};
  syscall(SYS_capget, &header, d);
  return {d[0].effective | uint64_t{d[1].effective} << 32, d[0].permitted | uint64_t{d[1].permitted} << 32, d[0].inheritable | uint64_t{d[1].inheritable} << 32};
}
long SetCaps(const Caps& c) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct d[2] = {
      {static_cast<uint32_t>(c.effective), static_cast<uint32_t>(c.permitted), static_cast<uint32_t>(c.inheritable)},
      {static_cast<uint32_t>(c.effective >> 32), static_cast<uint32_t>(c.permitted >> 32), static_cast<uint32_t>(c.inheritable >> 32)}};
  return syscall(SYS_capset, &header, d);
}
void TellState() {
  uid_t r, e, s;
  gid_t rg, eg, sg;
  getresuid(&r, &e, &s);
  getresgid(&rg, &eg, &sg);
  const Caps c = GetCaps();
  uint64_t ambient = 0;
  for (int i = 0; i < 41; i++) ambient |= prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1 ? uint64_t{1} << i : 0;
  gid_t groups[40];
  const int n = getgroups(40, groups);
  uint32_t sum = 0;
  for (int i = 0; i < n; i++) sum = sum * 31 + groups[i];
  printf("%d   uid %u %u %u %d gid %u %u %u %d caps %lx %lx %lx ambient %lx secure %d keep %d dump %d groups %d %x\n", step_number, r, e, s, setfsuid(-1u), rg, eg, sg,
         setfsgid(-1u), c.effective & ~kSysResource, c.permitted & ~kSysResource, c.inheritable & ~kSysResource, ambient, prctl(PR_GET_SECUREBITS), prctl(PR_GET_KEEPCAPS), prctl(PR_GET_DUMPABLE), n, sum);
}
unsigned AnyId() { return Pick(0u, 1000u, 1000u, 1001u, 1002u, 5u, ~0u, ~0u, 65534u, 0x7fffffffu); }

void Ids() {
  const unsigned a = AnyId(), b = AnyId(), c = AnyId();
  switch (Below(11)) {
    case 0: Say("setuid(%d)", a); Result(syscall(SYS_setuid, a)); break;
    case 1: Say("setgid(%d)", a); Result(syscall(SYS_setgid, a)); break;
    case 2: Say("setreuid(%d, %d)", a, b); Result(syscall(SYS_setreuid, a, b)); break;
    case 3: Say("setregid(%d, %d)", a, b); Result(syscall(SYS_setregid, a, b)); break;
    case 4: Say("setresuid(%d, %d, %d)", a, b, c); Result(syscall(SYS_setresuid, a, b, c)); break;
    case 5: Say("setresgid(%d, %d, %d)", a, b, c); Result(syscall(SYS_setresgid, a, b, c)); break;
    case 6: Say("setfsuid(%d)", a); Result(syscall(SYS_setfsuid, a)); break;
    case 7: Say("setfsgid(%d)", a); Result(syscall(SYS_setfsgid, a)); break;
    default: {
      const gid_t groups[3] = {a, b, c};
      const int n = Pick(0, 1, 2, 3, 3, -1, 65537);
      Say("setgroups(%d, %d %d %d)", n, a, b, c);
      Result(syscall(SYS_setgroups, n, n > 3 || n < 0 ? nullptr : groups));
      break;
    }
  }
  TellState();
}
void Capabilities() {
  Caps c = GetCaps();
  const auto change = [](uint64_t& set) {
    switch (Below(6)) {
      case 0: set = 0; break;
      case 1: set |= uint64_t{1} << Below(64); break;
      case 2: set &= ~(uint64_t{1} << Below(41)); break;
      case 3: set |= 0xff; break;
      default: break;
    }
  };
  change(c.effective), change(c.permitted), change(c.inheritable);
  if (OneIn(4)) c.effective = c.permitted;
  if (OneIn(6)) c.inheritable = c.permitted;
  Say("capset(%lx, %lx, %lx)", c.effective & ~kSysResource, c.permitted & ~kSysResource, c.inheritable & ~kSysResource);
  Result(SetCaps(c));
  TellState();
}
void Secure() {
  switch (Below(6)) {
    case 0: {
      const unsigned bits = OneIn(4) ? Below(256) : 1u << Below(8);  // newer kernels have more
      Say("PR_SET_SECUREBITS %#x", bits);
      Result(prctl(PR_SET_SECUREBITS, bits));
      break;
    }
    case 1: {
      const int on = Pick(0, 1, 2, -1);
      Say("PR_SET_KEEPCAPS %d", on);
      Result(prctl(PR_SET_KEEPCAPS, on));
      break;
    }
    case 2: {
      const int what = Pick(1, 2, 3, 4, 5, 0), cap = Pick(0, 1, 5, 12, 21, 40, 41, 64, -1), third = OneIn(8) ? 1 : 0;
      Say("PR_CAP_AMBIENT %d %d %d", what, what == 4 && !OneIn(4) ? 0 : cap, third);
      Result(prctl(PR_CAP_AMBIENT, what, cap, third, 0));
      break;
    }
    case 3: {
      const int cap = Pick(0, 1, 5, 21, 40, 41, -1);
      const bool drop = OneIn(3) && cap != CAP_SYS_RESOURCE;
      Say("PR_CAPBSET_%s %d", drop ? "DROP" : "READ", cap);
      Result(prctl(drop ? PR_CAPBSET_DROP : PR_CAPBSET_READ, cap, 0, 0, 0));
      break;
    }
    case 4: {
      const int on = Pick(0, 1, 2, 3, -1);
      Say("PR_SET_DUMPABLE %d", on);
      Result(prctl(PR_SET_DUMPABLE, on));
      break;
    }
    default: {
      if (!OneIn(6)) return;
      const int on = Pick(0, 1, 2), third = OneIn(3) ? 1 : 0;
      Say("PR_SET_NO_NEW_PRIVS %d %d", on, third);
      Result(prctl(PR_SET_NO_NEW_PRIVS, on, third, 0, 0));
      break;
    }
  }
  TellState();
}
// The rest of prctl, with whatever arguments.
void Others() {
  const int option = static_cast<int>(Below(82));
  switch (option) {
    case PR_SET_SECCOMP: case PR_SET_MM: case PR_SET_TSC: case PR_SET_TIMING: case PR_TASK_PERF_EVENTS_DISABLE: case PR_TASK_PERF_EVENTS_ENABLE:
    case PR_GET_SPECULATION_CTRL: case PR_SET_SPECULATION_CTRL: case PR_SET_PDEATHSIG: case 65: case 62 /* core scheduling */: case 63: case 64:
    case 71: case 72: case 73: case 74: case 75: case 76: case 77: case 78: case 79: case 80: case 81:  // other processors' or newer kernels'
    case PR_SET_SYSCALL_USER_DISPATCH: case PR_SET_TIMERSLACK: case PR_SET_SECUREBITS: case PR_CAPBSET_DROP: case PR_SET_NAME: case PR_GET_TID_ADDRESS:
    case PR_SET_NO_NEW_PRIVS: case PR_SET_THP_DISABLE: case PR_GET_THP_DISABLE:
      return;
    default: break;
  }
  static int room[64];
  memset(room, 0, sizeof(room));
  const auto any = [] { return Pick(uintptr_t{0}, uintptr_t{0}, uintptr_t{0}, uintptr_t{1}, uintptr_t{2}, ~uintptr_t{0}, uintptr_t{16}, reinterpret_cast<uintptr_t>(room)); };
  const uintptr_t a = any(), b = OneIn(3) ? any() : 0, c = OneIn(4) ? any() : 0, d = OneIn(6) ? any() : 0;
  const auto text = [](uintptr_t v) { return v == reinterpret_cast<uintptr_t>(room) ? "room" : v == 0 ? "0" : v == 1 ? "1" : v == 2 ? "2" : v == 16 ? "16" : "-1"; };
  Say("prctl(%d, %s, %s, %s, %s)", option, text(a), text(b), text(c), text(d));
  const int r = static_cast<int>(syscall(SYS_prctl, option, a, b, c, d));
  if (r == 0) printf(" room %x", option == PR_GET_NAME ? 0 : room[0]);
  Result(option == PR_GET_TIMERSLACK ? 0 : r);
}
void Personality() {
  const unsigned persona = Pick(0xffffffffu, 0u, 0x0040000u, 8u, 0x0400000u, 0x100u << Below(20));
  if (persona == 8 || (persona & 0x0400000) != 0) return;
  Say("personality(%#x)", persona);
  Result(personality(persona));
}
// Files that belong to somebody, and what may be done with them.
void Files() {
  const char* const name = Pick("f0", "f1", "f2", "f3", "d1", "d1/x");
  struct stat st;
  switch (Below(9)) {
    case 0: {
      const unsigned u = AnyId(), g = AnyId();
      Say("chown(%s, %d, %d)", name, u, g);
      Result(chown(name, u, g));
      break;
    }
    case 1: {
      const unsigned mode = Pick(0u, 0600u, 04755u, 02755u, 02745u, 01777u, 06777u, 0444u);
      Say("chmod(%s, %o)", name, mode);
      Result(chmod(name, mode));
      break;
    }
    case 2: {
      const int flags = Pick(O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_NOATIME, O_WRONLY | O_TRUNC) | O_CLOEXEC | O_NONBLOCK;
      Say("open(%s, %#x)", name, flags);
      const int fd = open(name, flags);
      Outcome(fd);
      if (fd >= 0) (void)!write(fd, "x", 1), close(fd);
      break;
    }
    case 3: Say("access(%s)", name); Result(access(name, static_cast<int>(Below(8)))); break;
    case 4: Say("faccessat2(%s)", name); Result(syscall(SYS_faccessat2, AT_FDCWD, name, Below(8), AT_EACCESS)); break;
    case 5: Say("unlink(%s)", name); Result(OneIn(4) ? unlink(name) : 0); break;
    case 6: Say("utimensat(%s)", name); Result(utimensat(AT_FDCWD, name, nullptr, 0)); break;
    case 7: Say("creat(d1/x)"); {
      const int fd = open("d1/x", O_CREAT | O_RDWR | O_CLOEXEC, Pick(0777, 02777, 06644));
      Outcome(fd);
      if (fd >= 0) close(fd);
      break;
    }
    default: Say("mkdir(d1/y)"); Result(mkdir("d1/y", 0777)); rmdir("d1/y"); break;
  }
  if (stat(name, &st) == 0) printf("%d   %s %o %u:%u\n", step_number, name, st.st_mode, st.st_uid, st.st_gid);
}
// In a child: a namespace of its own, and who one is there.
void Namespace() {
  fflush(stdout);
  const int flags = Pick(CLONE_NEWUSER, CLONE_NEWUSER | CLONE_NEWUTS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID, 1, CLONE_THREAD, CLONE_NEWUSER | CLONE_FS, CLONE_FILES);
  const char* const map = Pick("0 0 1", "0 1000 1", "1000 0 1", "0 1001 1", "0 0 10\n20 1000 1", "0 0 1 1", "x", "0 0 0", "5 1000 1\n");
  const char* const groups = Pick("deny", "allow", "no", "deny\n");
  const bool first = OneIn(2);
  const pid_t child = fork();
  if (child == 0) {
    Say("unshare(%#x)", flags);
    const int r = unshare(flags);
    Result(r);
    if (r == 0 && (flags & CLONE_NEWUSER) != 0) {
      const auto put = [](const char* file, const char* text) {
        const int fd = open(file, O_WRONLY | O_CLOEXEC);
        Say("write(%s, %s)", file, text);
        Result(fd < 0 ? -1 : write(fd, text, strlen(text)));
        if (fd >= 0) close(fd);
      };
      TellState();
      if (first) put("/proc/self/setgroups", groups);
      put("/proc/self/uid_map", map);
      put("/proc/self/gid_map", map);
      put("/proc/self/uid_map", map);
      if (!first) put("/proc/self/setgroups", groups);
      TellState();
      Ids();
      Files();
      Capabilities();
    }
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  printf("%d   status %#x\n", step_number, status);
}
// exec of a file that lends its owner, by oneself: what is left is told by the new program.
void Exec() {
  fflush(stdout);
  // What is left of ids that differed, and of those that may not change, is told differently since Linux 6.16.
  uid_t r, e, s;
  gid_t rg, eg, sg;
  getresuid(&r, &e, &s);
  getresgid(&rg, &eg, &sg);
  if (r != e || e != s || rg != eg || eg != sg || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0) return;
  const char* const name = Pick("suid0", "suid1000", "sgid1000", "both", "plain");
  const pid_t child = fork();
  if (child == 0) {
    // The same holds for AT_SECURE where only the ids for files differ.
    const bool same = static_cast<uid_t>(setfsuid(-1u)) == e && static_cast<gid_t>(setfsgid(-1u)) == eg;
    char* arguments[] = {const_cast<char*>(name), const_cast<char*>(same ? "state" : "quiet"), nullptr};
    execv(name, arguments);
    printf("%d   exec(%s) %s\n", step_number, name, strerrorname_np(errno));
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  printf("%d   exec(%s) status %#x\n", step_number, name, status);
}
void Signals() {
  fflush(stdout);
  // Somebody else's child, and whether it may be reached.
  const unsigned who = Pick(0u, 1000u, 1001u);
  int ready[2], stay[2];
  if (pipe(ready) != 0 || pipe(stay) != 0) return;
  const pid_t child = fork();
  char byte = 0;
  if (child == 0) {
    close(ready[0]), close(stay[1]);
    (void)!syscall(SYS_setresuid, who, who, who);
    close(ready[1]);
    (void)!read(stay[0], &byte, 1);
    _exit(0);
  }
  close(ready[1]), close(stay[0]);
  (void)!read(ready[0], &byte, 1);
  Say("kill(child of %u)", who);
  Result(kill(child, 0));
  Say("setpriority");
  Result(setpriority(PRIO_PROCESS, static_cast<id_t>(getpid()), Pick(1, 0, 5)) == -1 ? -1 : 0);
  close(ready[0]), close(stay[1]);
  waitpid(child, nullptr, 0);
}

constexpr Step kSteps[] = {Ids, Ids, Ids, Capabilities, Capabilities, Secure, Secure, Others, Others, Others, Personality, Files, Files, Files, Files, Namespace, Exec, Exec, Signals};

// Each run of a dozen steps is a child's: rights that are lost do not come back.
void Episode() {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    random_state = (random_state + static_cast<uint64_t>(step_number)) * 0x9e3779b97f4a7c15ull | 1;
    if (OneIn(3)) (void)!syscall(SYS_setresuid, 1000, 1000, OneIn(2) ? 0 : 1000);
    for (int i = 0; i < 14; i++) kSteps[Below(std::size(kSteps))]();
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  printf("%d   episode %#x\n", step_number, status);
}
constexpr Step kEpisodes[] = {Episode};

void CopySelf(const char* name, uid_t uid, gid_t gid, mode_t mode) {
  const int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
  static char room[1 << 16];
  for (ssize_t n; (n = read(from, room, sizeof(room))) > 0;) (void)!write(to, room, static_cast<size_t>(n));
  (void)!fchown(to, uid, gid);
  (void)!fchmod(to, mode);
  close(from), close(to);
}

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  if (argc == 2) {  // as an executed file
    TellState();
    if (strcmp(argv[1], "state") == 0) printf("0   secure %d\n", static_cast<int>(getauxval(AT_SECURE)));
    return 0;
  }
  // Both begin with the same rights.
  Caps c = GetCaps();
  c.effective &= ~kSysResource, c.permitted &= ~kSysResource, c.inheritable = 0;
  SetCaps(c);
  prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0);
  setgroups(0, nullptr);
  umask(0);
  (void)!chmod(".", 0755);
  CopySelf("suid0", 0, 0, 04755), CopySelf("suid1000", 1000, 0, 04755), CopySelf("sgid1000", 0, 1000, 02755), CopySelf("both", 1000, 1000, 06755), CopySelf("plain", 0, 0, 0755);
  for (const char* const name : {"f0", "f1", "f2", "f3"}) close(open(name, O_CREAT | O_RDWR, 0640));
  (void)!chown("f1", 1000, 1000), (void)!chown("f2", 1001, 1000), (void)!chown("f3", 1000, 0);
  (void)!mkdir("d1", 02775), (void)!chown("d1", 1000, 1001), (void)!chmod("d1", 02775);
  char count[] = "20";
  argv[2] = count;
  return RunSteps(argc, argv, kEpisodes);
}
