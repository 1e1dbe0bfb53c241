// Random calls on memory: mappings of every kind in one arena, whose maps, contents and faults are told.
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <string>
#include <vector>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

constexpr uintptr_t kArena = 0x100000000000;  // far below what Linux chooses by itself
constexpr size_t kPage = 4096, kPages = 48;
constexpr int kFiles = 8, kSegments = 3;

int files[kFiles], segments[kSegments];
std::string last_maps;
bool locks = false;  // something was locked

char* At(uint32_t page) { return reinterpret_cast<char*>(kArena + page * kPage); }
uint32_t AnyPage() { return Below(kPages); }
// Mostly whole pages inside the arena; sometimes what no call takes.
uintptr_t AnyAddress() {
  if (OneIn(30)) return Pick(uintptr_t{0}, kArena + 1, kArena + 100, uintptr_t{0x7ffffffff000}, uintptr_t{0x800000000000}, ~uintptr_t{0xfff});
  return kArena + AnyPage() * kPage;
}
size_t AnyLength() {
  if (OneIn(25)) return Pick(size_t{0}, size_t{1}, size_t{4095}, size_t{4097}, ~size_t{0}, ~size_t{0xfff});
  return kPage * (1 + Below(OneIn(6) ? kPages : 6));
}
const char* Where(const void* p) {
  static char text[40];
  const auto at = reinterpret_cast<uintptr_t>(p);
  if (at >= kArena && at < kArena + 2 * kPages * kPage) snprintf(text, sizeof(text), "+%#lx", at - kArena);
  else snprintf(text, sizeof(text), "elsewhere");
  return text;
}
const char* Arg(uintptr_t at) {
  static char text[4][40];
  static int turn;
  char* const t = text[turn++ % 4];
  if (at >= kArena && at < kArena + 2 * kPages * kPage) snprintf(t, sizeof(text[0]), "+%#lx", at - kArena);
  else snprintf(t, sizeof(text[0]), "%#lx", at);
  return t;
}
void Address(const void* p) {
  if (p == MAP_FAILED) printf(" = %s\n", strerrorname_np(errno));
  else printf(" = %s\n", Where(p));
}

// One field of /proc/self/maps or smaps of the arena.
bool InArena(const char* line, uintptr_t* from, uintptr_t* to) {
  return sscanf(line, "%lx-%lx", from, to) == 2 && *from >= kArena && *from < kArena + 2 * kPages * kPage;
}
// Mappings as /proc/self/maps shows them, those that continue each other as one: whether Linux joins them
// depends on which pages were written.
struct Mapping {
  uintptr_t from, to, offset;
  std::string what, name;
};
bool Continues(const Mapping& a, const Mapping& b) {
  return a.to == b.from && a.what == b.what && a.name == b.name && (a.name.empty() || a.offset + (a.to - a.from) == b.offset);
}
Mapping FromLine(const char* line) {
  Mapping m = {};
  char perms[8], name[300] = "";
  long inode = 0;
  sscanf(line, "%lx-%lx %7s %lx %*s %ld %299[^\n]", &m.from, &m.to, perms, &m.offset, &inode, name);
  m.what = perms;
  m.name = strrchr(name, '/') != nullptr ? strrchr(name, '/') + 1 : name;
  if (m.name.starts_with("zero")) {  // which keeps its name when private
    if (perms[3] != 's') m.offset = 0, m.name = "";
  }
  return m;
}
std::string Text(const std::vector<Mapping>& all) {
  std::string text;
  for (size_t i = 0; i < all.size(); i++) {
    Mapping m = all[i];
    while (i + 1 < all.size() && Continues(m, all[i + 1])) m.to = all[++i].to;
    char one[700];
    snprintf(one, sizeof(one), " %lx-%lx%s", (m.from - kArena) / kPage, (m.to - kArena) / kPage, m.what.c_str());
    text += one;
    if (!m.name.empty()) snprintf(one, sizeof(one), "@%lx:%s", m.offset / kPage, m.name.c_str()), text += one;
  }
  return text;
}
std::string Maps() {
  std::vector<Mapping> all;
  FILE* const f = fopen("/proc/self/maps", "re");
  if (f == nullptr) return "(none)";
  char line[600];
  uintptr_t from, to;
  while (fgets(line, sizeof(line), f) != nullptr) {
    if (InArena(line, &from, &to)) all.push_back(FromLine(line));
  }
  fclose(f);
  return Text(all);
}
void TellMaps() {
  const std::string now = Maps();
  if (now != last_maps) printf("%d   maps%s\n", step_number, now.c_str());
  last_maps = now;
}
// The same with what smaps says besides: the sizes of pages and those flags that tell of a mapping's rights
// (advice and accounting are left out: sd ac nr sr rr hg nh mg sf dp).
void Smaps() {
  std::vector<Mapping> all;
  FILE* const f = fopen("/proc/self/smaps", "re");
  if (f == nullptr) return;
  char line[600];
  bool in = false;
  while (fgets(line, sizeof(line), f) != nullptr) {
    uintptr_t from, to;
    if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, ':') > line + 10) {
      in = InArena(line, &from, &to);
      if (in) all.push_back(FromLine(line));
      continue;
    }
    if (!in) continue;
    char key[40];
    long value;
    if (strncmp(line, "VmFlags:", 8) == 0) {
      for (const char* flag = line + 9; flag[0] > ' ' && flag[1] != 0; flag += 3) {
        const std::string one(flag, 2);
        if (std::string("rd wr ex sh mr mw me ms gd lo dc lf wf dd sl").find(one) != std::string::npos) all.back().what += " " + one;
      }
    } else if (sscanf(line, "%39[^:]: %ld kB", key, &value) == 2) {
      for (const char* const told : {"KernelPageSize", "MMUPageSize", "ProtectionKey"})
        if (strcmp(key, told) == 0) all.back().what += " " + std::to_string(value);
    }
  }
  fclose(f);
  printf("%d   smaps%s\n", step_number, Text(all).c_str());
}

sigjmp_buf back;
int fault_signal, fault_code;
void* fault_address;
void OnFault(int signal, siginfo_t* info, void*) {
  fault_signal = signal, fault_code = info->si_code, fault_address = info->si_addr;
  siglongjmp(back, 1);
}
// What a load, or a store of value, meets.
void Touch(volatile char* p, int value) {
  if (sigsetjmp(back, 1) == 0) {
    if (value < 0) {
      printf(" = %d\n", *p);
    } else {
      *p = static_cast<char>(value);
      printf(" = stored\n");
    }
  } else {
    printf(" = signal %d code %d at %s\n", fault_signal, fault_code, Where(fault_address));
  }
}
void Load() {
  char* const p = At(AnyPage()) + Pick(0, 0, 8, 4095);
  Say("load %s", Where(p));
  Touch(p, -1);
}
void Store() {
  char* const p = At(AnyPage()) + Pick(0, 0, 8, 4095);
  Say("store %s", Where(p));
  Touch(p, static_cast<int>(Below(100)));
}
void Execute() {
  auto* const p = At(AnyPage());
  Say("execute %s", Where(p));
  if (sigsetjmp(back, 1) == 0) {
    *p = static_cast<char>(0xc3);  // ret
    reinterpret_cast<void (*)()>(reinterpret_cast<uintptr_t>(p))();
    printf(" = back\n");
  } else {
    printf(" = signal %d code %d at %s\n", fault_signal, fault_code, Where(fault_address));
  }
}
// All bytes that can be read, by a system call, which is told of faults without a signal.
void Contents() {
  Say("contents");
  char one;
  for (uint32_t i = 0; i < kPages; i++) {
    iovec to = {&one, 1}, from = {At(i), 1};
    const ssize_t n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    if (n == 1) printf(" %d", one);
    else printf(" %s", errno == EFAULT ? "-" : strerrorname_np(errno));
  }
  printf("\n");
}

int Protection() {
  if (OneIn(25)) return Pick(8, 0x10, PROT_GROWSDOWN, PROT_GROWSUP, -1, PROT_READ | PROT_GROWSDOWN);
  return static_cast<int>(Pick(3, 3, 3, 3, 1, 0, 2, 4, 5, 6, 7));
}
void Map() {
  const uintptr_t at = AnyAddress();
  const size_t length = AnyLength();
  const int protection = Protection();
  int flags = Pick(MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED, MAP_SHARED_VALIDATE);
  if (OneIn(25)) flags = Pick(0, 0x4, 0xf, 0x5);
  if (!OneIn(4)) flags |= Pick(MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE);
  if (OneIn(2)) flags |= MAP_ANONYMOUS;
  for (const int bit : {MAP_GROWSDOWN, MAP_POPULATE, MAP_NONBLOCK, MAP_LOCKED, MAP_NORESERVE, MAP_STACK, MAP_DENYWRITE,
                        MAP_EXECUTABLE, MAP_SYNC, 0x4000000, 0x10000000})
    if (OneIn(16)) flags |= bit;
  locks |= (flags & MAP_LOCKED) != 0;
  if (OneIn(60)) flags |= MAP_32BIT;
  int which = static_cast<int>(Below(kFiles + 1)) - 1;
  if (which == 6 && (flags & MAP_TYPE) == MAP_PRIVATE) which = 3;  // is anonymous inside, but keeps its file natively
  const int fd = which < 0 ? -1 : files[which];
  const off_t offset = OneIn(20) ? Pick<off_t>(1, 100, -4096, 0x7ffffffffffff000, 0x1000000) : static_cast<off_t>(kPage * (OneIn(2) ? 0 : Below(6)));
  if (which >= 3) flags &= ~MAP_SYNC;  // each file system says of it what it likes
  if (at == 0) flags &= ~(MAP_FIXED | MAP_FIXED_NOREPLACE);  // root may have page 0 natively
  Say("mmap(%s, %#zx, %d, %#x, %d, %#lx)", Arg(at), length, protection, flags, which, offset);
  void* const p = mmap(reinterpret_cast<void*>(at), length, protection, flags, fd, offset);
  Address(p);
  if (p != MAP_FAILED && strcmp(Where(p), "elsewhere") == 0) munmap(p, length);
}
void Unmap() {
  const uintptr_t at = AnyAddress();
  size_t length = AnyLength();
  // Never what lies outside the arena.
  if (at < kArena || at > kArena + kPages * kPage || length > (size_t{1} << 47)) length = Pick(size_t{0}, ~size_t{0});
  if (length < ~size_t{0xfff} && length > kPages * kPage) length = kPage;
  Say("munmap(%s, %#zx)", Arg(at), length);
  Result(munmap(reinterpret_cast<void*>(at), length));
}
bool sealed = false;  // the newest kernels look for seals later
bool IsMapped(uintptr_t at) {
  unsigned char page;
  return mincore(reinterpret_cast<void*>(at), kPage, &page) == 0;
}
void Remap() {
  const uintptr_t at = AnyAddress(), to = kArena + AnyPage() * kPage + (OneIn(30) ? 1 : 0);
  size_t old_size = OneIn(10) ? 0 : AnyLength(), new_size = AnyLength();
  const int flags = Pick(0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED,
                         MREMAP_MAYMOVE | MREMAP_DONTUNMAP, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED, MREMAP_FIXED, MREMAP_DONTUNMAP, 8, 9);
  // Linux 6.17 moves several mappings at once, and leaves the target alone when a move then fails.
  if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0) {
    old_size = kPage;
    if ((flags & MREMAP_DONTUNMAP) != 0) new_size = kPage;
    if (!IsMapped(at) || sealed) return;
    if ((flags & MREMAP_DONTUNMAP) != 0 && locks) return;  // what was locked goes on to count
  }
  if (new_size > kPages * kPage) new_size = kPage;
  Say("mremap(%s, %#zx, %#zx, %#x, %s)", Arg(at), old_size, new_size, flags, Arg(to));
  void* const p = mremap(reinterpret_cast<void*>(at), old_size, new_size, flags, to);
  Address(p);
  if (p != MAP_FAILED && strcmp(Where(p), "elsewhere") == 0) munmap(p, new_size);
  if (p == MAP_FAILED && (flags & MREMAP_FIXED) != 0 && to % kPage == 0) munmap(reinterpret_cast<void*>(to), new_size);
}
void Protect() {
  const uintptr_t at = AnyAddress();
  const size_t length = AnyLength();
  const int protection = Protection();
  if (OneIn(4)) {
    const int key = Pick(-1, 16);  // guests have no keys
    Say("pkey_mprotect(%s, %#zx, %d, %d)", Arg(at), length, protection, key);
    Result(syscall(SYS_pkey_mprotect, at, length, protection, key));
    return;
  }
  Say("mprotect(%s, %#zx, %d)", Arg(at), length, protection);
  Result(mprotect(reinterpret_cast<void*>(at), length, protection));
}
void Advise() {
  const uintptr_t at = AnyAddress();
  const size_t length = AnyLength();
  int advice = OneIn(3) ? static_cast<int>(Below(32)) - 1 : Pick(MADV_DONTNEED, MADV_REMOVE, MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_FREE, MADV_POPULATE_READ, MADV_POPULATE_WRITE, 24, MADV_DONTDUMP, MADV_DODUMP);
  if (advice == MADV_HWPOISON || advice == 101) return;
  // What MADV_FREE drops is a matter of chance; guard pages came after 6.12.
  if (advice == MADV_FREE || advice == 102 || advice == 103) return;
  Say("madvise(%s, %#zx, %d)", Arg(at), length, advice);
  Result(madvise(reinterpret_cast<void*>(at), length, advice));
}
void Incore() {
  const uintptr_t at = AnyAddress();
  const size_t length = AnyLength();
  unsigned char pages[2 * kPages] = {};
  if (length > sizeof(pages) * kPage && length < (size_t{1} << 48)) return;
  Say("mincore(%s, %#zx)", Arg(at), length);
  const int r = mincore(reinterpret_cast<void*>(at), length, pages);
  Result(r);
}
void Lock() {
  locks = true;
  const uintptr_t at = AnyAddress();
  const size_t length = AnyLength();
  switch (Below(6)) {
    case 0:
      Say("munlock(%s, %#zx)", Arg(at), length);
      return Result(munlock(reinterpret_cast<void*>(at), length));
    case 1: {
      const int flags = Pick(0, 1, 2, 3);
      Say("mlock2(%s, %#zx, %d)", Arg(at), length, flags);
      return Result(mlock2(reinterpret_cast<void*>(at), length, static_cast<unsigned>(flags)));
    }
    case 2: {
      const int flags = Pick(0, MCL_ONFAULT, MCL_FUTURE, MCL_FUTURE | MCL_ONFAULT, 8, -1);  // what lies outside the arena differs
      Say("mlockall(%d)", flags);
      return Result(mlockall(flags));
    }
    case 3:
      Say("munlockall()");
      return Result(munlockall());
    default:
      Say("mlock(%s, %#zx)", Arg(at), length);
      return Result(mlock(reinterpret_cast<void*>(at), length));
  }
}
void Sync() {
  const uintptr_t at = AnyAddress();
  const size_t length = AnyLength();
  const int flags = static_cast<int>(Below(9));
  Say("msync(%s, %#zx, %d)", Arg(at), length, flags);
  Result(msync(reinterpret_cast<void*>(at), length, flags));
}
void Segment() {
  const int which = static_cast<int>(Below(kSegments)), id = OneIn(20) ? -1 : segments[which];
  switch (Below(6)) {
    case 0: {
      char* const p = At(AnyPage()) + (OneIn(10) ? 5 : 0);
      Say("shmdt(%s)", Where(p));
      return Result(shmdt(p));
    }
    case 1: {
      shmid_ds ds = {};
      Say("shmctl(%d, IPC_STAT)", which);
      const int r = shmctl(id, IPC_STAT, &ds);
      if (r == 0) printf(" size %zu mode %o", ds.shm_segsz, ds.shm_perm.mode);  // parts of mappings count as attached
      return Result(r);
    }
    case 2: {
      const int command = SHM_UNLOCK;  // what may be locked is a matter of all processes of the user
      Say("shmctl(%d, %d)", which, command);
      return Result(shmctl(id, command, nullptr));
    }
    case 3:
      if (!OneIn(5)) return;
      Say("shmctl(%d, IPC_RMID)", which);
      return Result(shmctl(id, IPC_RMID, nullptr));
    default: {
      const uintptr_t at = OneIn(10) ? AnyAddress() : kArena + AnyPage() * kPage + (OneIn(5) ? 9 : 0);
      const int flags = Pick(0, SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_EXEC, SHM_REMAP | SHM_RND, SHM_RND | SHM_RDONLY, 1);
      Say("shmat(%d, %s, %#x)", which, Arg(at), flags);
      void* const p = shmat(id, reinterpret_cast<void*>(at), flags);
      Address(p);
      if (p != MAP_FAILED && strcmp(Where(p), "elsewhere") == 0) shmdt(p);
      return;
    }
  }
}
void Seal() {
  const int which = static_cast<int>(Below(kFiles));
  if (OneIn(2)) {
    Say("F_GET_SEALS %d", which);
    return Result(fcntl(files[which], F_GET_SEALS));
  }
  const int seals = static_cast<int>(1u << Below(6));
  Say("F_ADD_SEALS %d %#x", which, seals);
  Result(fcntl(files[which], F_ADD_SEALS, seals));
}
void Truncate() {
  const int which = static_cast<int>(Below(kFiles));
  const off_t size = Pick<off_t>(0, 1, 4096, 8192, 10000, 5 * 4096, 4 * 4096);
  switch (Below(4)) {
    case 0: {
      const int mode = Pick(0, 1, 2, 3);
      Say("fallocate(%d, %d, 4096, %ld)", which, mode, size);
      return Result(fallocate(files[which], mode, 4096, size));
    }
    case 1: {
      const char text[3] = {9, 8, 7};
      Say("pwrite(%d, 3, %ld)", which, size);
      return Result(pwrite(files[which], text, 3, size));
    }
    case 2: {
      char text[5000];
      Say("pread(%d, 5000, %ld)", which, size);
      const ssize_t n = pread(files[which], text, sizeof(text), size);
      if (n > 0) printf(" {%x}", Checksum({text, static_cast<size_t>(n)}));
      return Result(n);
    }
    default:
      Say("ftruncate(%d, %ld)", which, size);
      return Result(ftruncate(files[which], size));
  }
}
// A call that reads or writes across a border in the arena.
void Copy() {
  static int ends[2] = {-1, -1};
  if (ends[0] < 0 && pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return;
  char* const p = At(AnyPage()) + Pick(0, 4090, 1, 2048);
  const size_t n = Pick(1u, 10u, 4096u, 5000u, 9000u);
  Say("write(pipe, %s, %zu)", Where(p), n);
  Result(write(ends[1], p, n));
  char* const q = At(AnyPage()) + Pick(0, 4090, 1, 2048);
  Say("read(pipe, %s, %zu)", Where(q), n);
  Result(read(ends[0], q, n));
  while (read(ends[0], last_maps.data(), 0) > 0) {}
  close(ends[0]), close(ends[1]);
  ends[0] = -1;
}
// What a child finds.
void Fork() {
  fflush(stdout);
  Say("fork\n");
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    Contents();
    const std::string now = Maps();
    printf("%d   in the child%s\n", step_number, now.c_str());
    if (OneIn(3)) Smaps();
    fflush(stdout);
    _exit(0);
  }
  int status = 0;
  if (child < 0) printf("  %s\n", strerrorname_np(errno));
  else waitpid(child, &status, 0), printf("%d   status %#x\n", step_number, status);
}
void Limit() {
  const int what = Pick(RLIMIT_MEMLOCK, RLIMIT_MEMLOCK, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_DATA);
  rlimit now;
  getrlimit(static_cast<__rlimit_resource>(what), &now);
  // Sizes of the whole process differ between two loaders; what is left of them is not to be told.
  now.rlim_cur = what == RLIMIT_MEMLOCK ? kPage * Below(12) : Pick(0ul, 1ul << 20, RLIM_INFINITY);
  if (what == RLIMIT_MEMLOCK && OneIn(3)) now.rlim_cur = 8 << 20;
  Say("setrlimit(%d, %#lx)", what, now.rlim_cur);
  if (now.rlim_cur > now.rlim_max) now.rlim_cur = now.rlim_max;
  Result(setrlimit(static_cast<__rlimit_resource>(what), &now));
  if (what == RLIMIT_MEMLOCK) return;
  char* const p = At(kPages + 4);
  Say("mmap under it");
  void* const q = mmap(p, kPage, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  Address(q);
  Say("shared mmap under it");
  Address(mmap(p, kPage, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  Say("mprotect under it");
  Result(mprotect(At(AnyPage()), kPage, 3));
  Say("brk under it");
  void* const end = sbrk(0);
  Outcome(brk(static_cast<char*>(end) + kPage) == 0 ? 0 : -1);
  brk(end);
  now.rlim_cur = now.rlim_max;
  setrlimit(static_cast<__rlimit_resource>(what), &now);
  munmap(p, kPage);
}
// The newer calls.
void Rare() {
  const uintptr_t at = AnyAddress();
  const size_t length = AnyLength();
  switch (Below(9)) {
    case 0: {
      const int protection = Pick(0, 0, 0, 1), flags = Pick(0, MAP_NONBLOCK, MAP_POPULATE);
      const size_t page = Below(6);
      Say("remap_file_pages(%s, %#zx, %d, %zu, %#x)", Arg(at), length, protection, page, flags);
      return Result(remap_file_pages(reinterpret_cast<void*>(at), length, protection, page, flags));
    }
    case 1: {
      int mode = -1;
      const int flags = Pick(MPOL_F_ADDR, MPOL_F_ADDR | MPOL_F_NODE, 0, 4, 8, MPOL_F_NODE);
      unsigned long nodes[16] = {};
      Say("get_mempolicy(%s, %d)", Arg(at), flags);
      const long r = syscall(SYS_get_mempolicy, &mode, nodes, 1024, at, flags);
      if (r == 0 && (flags & MPOL_F_NODE) == 0) printf(" mode %d nodes %lx", mode, nodes[0]);
      return Result(r);
    }
    case 2: {
      const int mode = static_cast<int>(Below(9)) | (OneIn(5) ? Pick(0x8000, 0x4000, 0x2000) : 0);
      const unsigned long nodes[16] = {Pick(0ul, 1ul, 1ul, 2ul, 3ul)};
      const unsigned flags = Pick(0u, 0u, 1u, 2u, 4u, 8u);
      Say("mbind(%s, %#zx, %#x, %#lx, %u)", Arg(at), length, mode, nodes[0], flags);
      return Result(syscall(SYS_mbind, at, length, mode, nodes, 1024, flags));
    }
    case 3: {
      const int mode = static_cast<int>(Below(9)) | (OneIn(5) ? Pick(0x8000, 0x4000, 0x2000) : 0);
      const unsigned long nodes[16] = {Pick(0ul, 1ul, 1ul, 2ul, 3ul)};
      Say("set_mempolicy(%#x, %#lx)", mode, nodes[0]);
      Result(syscall(SYS_set_mempolicy, mode, nodes, 1024));
      syscall(SYS_set_mempolicy, 0, nullptr, 0);
      return;
    }
    case 4: {
      void* page = reinterpret_cast<void*>(at);
      int node = Pick(0, 0, 1, -1), status = 99;
      const int flags = Pick(0, 2, 4, 1);
      const bool ask = OneIn(2);
      Say("move_pages(%s, %d, %d)", Arg(at), ask ? -9 : node, flags);
      const long r = syscall(SYS_move_pages, 0, 1, &page, ask ? nullptr : &node, &status, flags);
      return Result(r);  // the status of pages that were only read is the host's zero page's
    }
    case 5: {
      const int advice = Pick(MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, 25);  // newer kernels let a process advise itself more
      iovec v = {reinterpret_cast<void*>(at), length};
      const int self = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
      const int flags = OneIn(9) ? 1 : 0;
      Say("process_madvise(%s, %#zx, %d, %d)", Arg(at), length, advice, flags);
      Result(syscall(SYS_process_madvise, self, &v, 1, advice, flags));
      close(self);
      return;
    }
    case 6: {
      const unsigned long flags = OneIn(5) ? 1 : 0;
      if (!OneIn(12)) return;  // cannot be undone
      Say("mseal(%s, %#zx, %lu)", Arg(at), length, flags);
      const long r = syscall(462, at, length, flags);
      sealed |= r == 0;
      return Result(r);
    }
    case 7: {
      const int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
      char text[5000] = "";
      const size_t n = Pick(1u, 100u, 5000u);
      const bool store = OneIn(2);
      memset(text, 55, sizeof(text));
      Say("%s(mem, %zu, %s)", store ? "pwrite" : "pread", n, Arg(at));
      const ssize_t r = store ? pwrite(fd, text, n, static_cast<off_t>(at)) : pread(fd, text, n, static_cast<off_t>(at));
      Result(r);
      close(fd);
      return;
    }
    default: {
      const int flags = Pick(1, 2, 4), rights = Pick(0, 1, 2, 3, 4);  // guests have no keys
      Say("pkey_alloc(%d, %d)", flags, rights);
      const long key = syscall(SYS_pkey_alloc, flags, rights);
      Result(key);
      const long other = OneIn(2) ? key : Pick(0, 1, 3, 16, -1);
      Say("pkey_free(%ld)", other);
      Result(syscall(SYS_pkey_free, other));
      if (key > 0) syscall(SYS_pkey_free, key);
      return;
    }
  }
}
void Name() {
  const uintptr_t at = AnyAddress();
  const size_t length = AnyLength();
  const char* const name = Pick("one", "two", "", "with [bracket", "anon", static_cast<const char*>(nullptr));
  Say("prctl(SET_VMA_NAME, %s, %#zx, %s)", Arg(at), length, name == nullptr ? "null" : name);
  Result(syscall(SYS_prctl, 0x53564d41, OneIn(20) ? 1 : 0, at, length, name));
}

// What a process may lose: the right to lock, or all.
void DropCapabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  syscall(SYS_capget, &header, data);
  data[0].effective &= ~(1u << CAP_SYS_RESOURCE);
  if (OneIn(2)) data[0].effective &= ~(1u << CAP_IPC_LOCK);
  if (OneIn(4)) data[0].effective = data[1].effective = 0;
  data[0].permitted = data[0].effective, data[1].permitted = data[1].effective;
  syscall(SYS_capset, &header, data);
}

template <Step step>
void AndMaps() {
  step();
  TellMaps();
}
constexpr Step kSteps[] = {
    AndMaps<Map>, AndMaps<Map>, AndMaps<Map>, AndMaps<Map>, AndMaps<Unmap>, AndMaps<Remap>, AndMaps<Remap>, AndMaps<Protect>, AndMaps<Protect>, AndMaps<Advise>,
    AndMaps<Advise>, Incore, AndMaps<Lock>, Sync, AndMaps<Segment>, AndMaps<Segment>, Seal, Truncate, Truncate, Copy, Fork, AndMaps<Limit>,
    AndMaps<Rare>, AndMaps<Rare>, AndMaps<Name>, Load, Load, Load, Store, Store, Store, Execute, Contents, Smaps,
};

void Prepare() {
  for (int i = 0; i < 3; i++) {
    const char name[] = {'m', static_cast<char>('0' + i), 0};
    files[i] = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    (void)!ftruncate(files[i], 4 * 4096 + 100 * i);
  }
  files[3] = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  char page[4096];
  for (int i = 0; i < 4; i++) memset(page, 'a' + i, sizeof(page)), (void)!write(files[3], page, i == 3 ? 1000 : 4096);
  files[4] = open("f", O_RDONLY | O_CLOEXEC);
  files[5] = open("f", O_WRONLY | O_CLOEXEC);
  files[6] = open("/dev/zero", O_RDWR | O_CLOEXEC);
  files[7] = open(".", O_RDONLY | O_CLOEXEC);
  for (int i = 0; i < kSegments; i++) segments[i] = shmget(IPC_PRIVATE, kPage * (1 + 2 * static_cast<size_t>(i)) - (i == 1 ? 50 : 0), 0600);
  static char stack[65536];
  const stack_t other = {stack, 0, sizeof(stack)};
  sigaltstack(&other, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
  sigaction(SIGILL, &action, nullptr);
}

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  static char out[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof(out));  // nothing is allocated while limits are low
  Prepare();
  random_state = strtoull(argv[1], nullptr, 0) * 77 + 5;
  DropCapabilities();
  const int r = RunSteps(argc, argv, kSteps);
  for (const int id : segments) shmctl(id, IPC_RMID, nullptr);
  return r;
}
