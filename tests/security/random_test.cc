// Random system calls with random arguments from many threads. Whatever they bring about, the kernel
// lives, ends the callers when told to, and serves the others.
//
// Options, by environment: RINGWALL_RANDOM_SECONDS (3 for each case), RINGWALL_RANDOM_SEED (that of a
// round that failed is printed), RINGWALL_RANDOM_ONLY (numbers of calls, separated by commas).
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <thread>

#include "tests/security/hostile.h"
#include "tests/security/random_table.h"

namespace ringwall::test {
namespace {

constexpr int kThreads = 4;
constexpr int kRoundMs = 300;
constexpr int kSlowStartMs = 10000;
constexpr size_t kPage = 4096;
constexpr size_t kArenaPages = 96;
constexpr int kFdLimit = 96;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  uint64_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545f4914f6cdd1d;
  }
  uint64_t Below(uint64_t n) { return Next() % n; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }
  template <typename T, size_t kCount>
  T Of(const T (&list)[kCount]) {
    return list[Below(kCount)];
  }

 private:
  uint64_t state_;
};

constexpr uint64_t kInteresting[] = {
    0,          1,          2,          3,          4,           7,           8,
    16,         24,         31,         32,         63,          64,          100,
    128,        255,        256,        511,        1000,        1024,        4095,
    4096,       4097,       8192,       65535,      65536,       1 << 20,     0x7fffffff,
    0x80000000, 0xffffffff, 1ull << 32, 1ull << 40, 1ull << 47,  1ull << 62,  0x7fffffffffffffff,
    1ull << 63, ~0ull,      ~0ull - 1,  ~0ull - 99, ~0ull - 4095};

constexpr const char* kPaths[] = {
    "",           ".",          "..",       "/",          "f",          "g",
    "d",          "d/f",        "l",        "loop",       "fifo",       "sock",
    "d/../f",     "none",       "none/x",   "f/x",        "h",          "m",
    "../../..",   "/tmp",       "/dev/null", "/dev/zero",  "/dev/full",  "/dev/tty",
    "/dev/ptmx",  "/dev/random", "/dev/fd",  "/dev/shm/x", "/proc",      "/proc/self",
    "/proc/self/mem",           "/proc/self/maps",        "/proc/self/fd/5",
    "/proc/self/root",          "/proc/self/cwd",         "/proc/self/exe",
    "/proc/self/status",        "/proc/self/stat",        "/proc/self/environ",
    "/proc/self/oom_score_adj", "/proc/self/uid_map",     "/proc/self/setgroups",
    "/proc/self/attr/current",  "/proc/self/comm",        "/proc/self/ns/net",
    "/proc/self/ns/user",       "/proc/self/task",        "/proc/self/limits",
    "/proc/self/mountinfo",     "/proc/self/pagemap",     "/proc/self/clear_refs",
    "/proc/1/mem",              "/proc/1/root",           "/proc/2/maps",
    "/proc/thread-self/stat",   "/proc/sys/kernel/hostname",
    "/proc/sys/vm/overcommit_memory",                     "/proc/sys/fs/pipe-max-size",
    "/proc/net/tcp",            "/proc/net/unix",         "/proc/meminfo",
    "/proc/stat",               "/proc/sysvipc/shm",      "/sys",
    "/sys/devices/system/cpu/online",                     "/dev/pts/0", "/dev/mqueue"};

constexpr const char* kNames[] = {"user.a",  "user.b", "trusted.x", "security.capability", "q",
                                  "/q",      "tmpfs",  "proc",      "overlay",  "bind", "sysfs",
                                  "system.posix_acl_access", "system.posix_acl_default", "user."};

constexpr uint64_t kIoctls[] = {
    0x5401, 0x5402, 0x5403, 0x5404, 0x540b, 0x540e, 0x540f, 0x5410, 0x5411, 0x5413, 0x5414, 0x541b,
    0x5420, 0x5421, 0x5422, 0x5424, 0x5429, 0x5450, 0x5451, 0x5452, 0x5460, 0x80045430, 0x40045431,
    0x5441, 0x8905, 0x8912, 0x8913, 0x8914, 0x8915, 0x8916, 0x891b, 0x8927, 0x8933, 0x8940,
    0x8906, 0x89a0, 0x89a1, 0x89a2, 0x8946, 0x400454ca, 0x800454cf, 0x40087602, 0x80086601, 0x40086602,
    0x80047601, 0xc020660b, 0x40049409, 0x4020940d, 0x5380, 0x1, 0x2, 0x2285};

// Memory that all threads of a round scribble over: everything a call may point to.
struct Arena {
  std::byte* base;
  uint64_t At(Random& r, size_t align = 8) {
    return reinterpret_cast<uint64_t>(base) + r.Below(kArenaPages * kPage) / align * align;
  }
};

// Words that look like what structures hold.
void Scribble(Arena arena, Random& r, uint64_t at, size_t words) {
  const uint64_t end = reinterpret_cast<uint64_t>(arena.base) + (kArenaPages - 8) * kPage;
  for (size_t i = 0; i < words && at + 8 <= end; i++, at += 8) {
    uint64_t value = 0;
    switch (r.Below(8)) {
      case 0: value = r.Next(); break;
      case 1: value = arena.At(r); break;
      case 2: value = r.Below(kFdLimit); break;
      case 3: value = r.Below(64) | r.Below(64) << 32; break;
      case 4: value = r.Below(kFdLimit) | r.Of(kInteresting) << 32; break;
      default: value = r.Of(kInteresting); break;
    }
    // SAFETY: inside the arena; a call may have taken the page away, so the kernel writes it.
    const iovec from = {&value, 8}, to = {reinterpret_cast<void*>(at), 8};
    if (process_vm_writev(getpid(), &from, 1, &to, 1, 0) != 8) return;
  }
}

void Put(uint64_t at, const void* data, size_t size) {
  const iovec from = {const_cast<void*>(data), size}, to = {reinterpret_cast<void*>(at), size};
  static_cast<void>(process_vm_writev(getpid(), &from, 1, &to, 1, 0) != 0);
}

uint64_t BadAddressOf(Random& r) {
  const uint64_t places[] = {0,
                             1,
                             16,
                             RW_STUB_TEXT,
                             RW_STUB_COMMAND,
                             RW_STUB_REGIONS,
                             RW_STUB_END - 8,
                             0x7ffffffff000,
                             0x800000000000,
                             0xffffffff81000000,
                             0xffffffffff600000,
                             ~0ull - 7};
  return r.Of(places) + (r.OneIn(4) ? r.Below(kPage) : 0);
}

uint64_t Structure(Arena arena, Random& r, size_t words = 16) {
  const uint64_t at = arena.At(r);
  Scribble(arena, r, at, words);
  return at;
}

uint64_t Text(Arena arena, Random& r, const char* text) {
  const uint64_t at = arena.At(r);
  Put(at, text, strlen(text) + 1);
  return at;
}

uint64_t SocketAddress(Arena arena, Random& r) {
  const uint64_t at = arena.At(r);
  sockaddr_storage s = {};
  constexpr int kFamilies[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNSPEC, 99};
  s.ss_family = static_cast<sa_family_t>(r.Of(kFamilies));
  if (s.ss_family == AF_UNIX) {
    char* path = reinterpret_cast<sockaddr_un*>(&s)->sun_path;
    strcpy(path + (r.OneIn(2) ? 1 : 0), "sock");
  } else if (s.ss_family == AF_INET) {
    auto* in = reinterpret_cast<sockaddr_in*>(&s);
    in->sin_port = htons(static_cast<uint16_t>(r.Below(8) + (r.OneIn(2) ? 2000 : 0)));
    in->sin_addr.s_addr = htonl(r.OneIn(4) ? static_cast<uint32_t>(r.Next()) : INADDR_LOOPBACK);
  } else {
    for (size_t i = 2; i < 28; i++) {
      reinterpret_cast<char*>(&s)[i] = static_cast<char>(r.OneIn(2) ? r.Next() : 0);
    }
  }
  Put(at, &s, sizeof(s));
  return at;
}

uint64_t Vectors(Arena arena, Random& r) {
  iovec v[8];
  for (iovec& part : v) {
    part.iov_base = reinterpret_cast<void*>(r.OneIn(10) ? BadAddressOf(r) : arena.At(r, 1));
    part.iov_len = r.OneIn(8) ? r.Of(kInteresting) : r.Below(3000);
  }
  const uint64_t at = arena.At(r);
  Put(at, v, sizeof(v));
  return at;
}

uint64_t Message(Arena arena, Random& r) {
  int control[10] = {};  // struct cmsghdr, then its data
  const uint64_t length = r.OneIn(4) ? r.Of(kInteresting) : sizeof(cmsghdr) + r.Below(25);
  memcpy(control, &length, sizeof(length));
  control[2] = r.OneIn(4) ? static_cast<int>(r.Below(60)) : SOL_SOCKET;
  control[3] = static_cast<int>(r.Below(4));
  for (int i = 4; i < 10; i++) control[i] = static_cast<int>(r.Below(40));
  const uint64_t at_control = arena.At(r);
  Put(at_control, control, sizeof(control));
  msghdr message = {};
  if (r.OneIn(2)) message.msg_name = reinterpret_cast<void*>(SocketAddress(arena, r));
  message.msg_namelen = static_cast<socklen_t>(r.OneIn(8) ? r.Of(kInteresting) : 16);
  message.msg_iov = reinterpret_cast<iovec*>(Vectors(arena, r));
  message.msg_iovlen = r.OneIn(10) ? r.Of(kInteresting) : r.Below(9);
  if (r.OneIn(2)) message.msg_control = reinterpret_cast<void*>(at_control);
  message.msg_controllen = r.OneIn(8) ? r.Of(kInteresting) : r.Below(sizeof(control) + 1);
  const uint64_t at = arena.At(r);
  Put(at, &message, sizeof(message));
  return at;
}

uint64_t Value(char letter, int number, Arena arena, Random& r) {
  if (r.OneIn(40)) return r.OneIn(2) ? r.Of(kInteresting) : r.Next();
  const bool pointer = strchr("pbvaTnkPMAWE", letter) != nullptr;
  if (pointer && r.OneIn(16)) return BadAddressOf(r);
  switch (letter) {
    case 'f': return r.Below(r.OneIn(3) ? kFdLimit : 48);
    case 'd': return r.OneIn(2) ? static_cast<uint64_t>(AT_FDCWD) : r.Below(48);
    case 'p': return Text(arena, r, r.Of(kPaths));
    case 'n': return Text(arena, r, r.Of(kNames));
    case 'b': return r.OneIn(6) ? 0 : arena.At(r, r.OneIn(4) ? 1 : 8);
    case 'E': return r.OneIn(12) ? 0 : Structure(arena, r);
    case 'l': return r.OneIn(3) ? r.Of(kInteresting) : r.Below(6000);
    case 'v': return Vectors(arena, r);
    case 'c': return r.Below(r.OneIn(3) ? 64 : 8);
    case 'a': return arena.At(r, kPage);
    case 'L': return r.OneIn(6) ? r.Of(kInteresting) : r.Below(6) * kPage;
    case 'x': return r.OneIn(3) ? 0 : 1ull << r.Below(32) | (r.OneIn(2) ? 1ull << r.Below(24) : 0);
    case 'm': return r.Below(010000);
    case 'o': return r.OneIn(2) ? r.Of(kInteresting) : r.Below(20000);
    case 's': return r.Below(66);
    case 't': return r.OneIn(3) ? static_cast<uint64_t>(gettid()) : r.Below(12) - 2;
    case 'u': return r.OneIn(2) ? r.Below(4) : 65534;
    case 'z': return r.OneIn(4) ? r.Of(kInteresting) : r.Below(12);
    case 'T': {
      if (r.OneIn(8)) return r.OneIn(2) ? 0 : Structure(arena, r);
      const timespec soon = {0, static_cast<long>(r.Below(3'000'000))};
      const uint64_t at = arena.At(r);
      Put(at, &soon, sizeof(soon));
      return at;
    }
    case 'k': return SocketAddress(arena, r);
    case 'K': return r.OneIn(3) ? r.Below(130) : 16;
    case 'P': {
      const uint64_t at = arena.At(r);
      const int size = static_cast<int>(r.OneIn(4) ? r.Next() : r.Below(200));
      Put(at, &size, sizeof(size));
      return at;
    }
    case 'M': return Message(arena, r);
    case 'W': return arena.At(r, 4);
    case 'A': {
      const uint64_t list[3] = {Text(arena, r, "a"), r.OneIn(2) ? Text(arena, r, "b") : 0, 0};
      const uint64_t at = arena.At(r);
      Put(at, list, sizeof(list));
      return at;
    }
    case 'C':
      if (number == SYS_ioctl) return r.OneIn(4) ? r.Next() : r.Of(kIoctls);
      if (number == SYS_fcntl) return r.OneIn(2) ? r.Below(17) : 1024 + r.Below(16);
      if (number == SYS_ptrace) return r.OneIn(2) ? r.Below(34) : 0x4200 + r.Below(20);
      return r.Below(80);
    default: return r.Of(kInteresting);
  }
}

// A call whose child, if it makes one, ends at once and touches no stack.
long Raw(int number, const uint64_t a[6]) {
  register uint64_t r10 asm("r10") = a[3];
  register uint64_t r8 asm("r8") = a[4];
  register uint64_t r9 asm("r9") = a[5];
  long result;
  asm volatile(
      "mov %%rbx, %%r12\n"
      "syscall\n"
      "test %%rax, %%rax\n"
      "jnz 1f\n"
      "cmp $0, %%r12\n"
      "je 1f\n"
      "mov $60, %%eax\n"
      "xor %%edi, %%edi\n"
      "syscall\n"
      "1:\n"
      : "=a"(result)
      : "a"(static_cast<long>(number)), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9),
        "b"(number == SYS_fork || number == SYS_vfork || number == SYS_clone || number == SYS_clone3 ? 1L
                                                                                                      : 0L)
      : "rcx", "r11", "r12", "memory");
  return result;
}

// All kinds of descriptors, from 3 on.
void OpenAll() {
  for (const char* path : {"f", "d", "/proc/self/mem", "/proc/self/maps", "/proc/self/status", "/dev/null",
                           "/dev/zero", "/dev/ptmx", "/dev/full", "/dev/random", "/proc/self/task",
                           "/proc/sys/kernel/hostname", "/proc/meminfo", "/sys", "/"}) {
    const int fd = open(path, O_RDWR | O_NOCTTY);
    if (fd < 0) static_cast<void>(open(path, O_RDONLY | O_NOCTTY));
  }
  static_cast<void>(open("fifo", O_RDWR));
  static_cast<void>(open("f", O_PATH));
  static_cast<void>(open(".", O_TMPFILE | O_RDWR, 0600));
  int pair[2];
  static_cast<void>(pipe2(pair, O_NONBLOCK));
  static_cast<void>(pipe2(pair, O_DIRECT));
  for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    static_cast<void>(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, pair));
    static_cast<void>(socket(AF_UNIX, type, 0));
    for (int family : {AF_INET, AF_INET6}) static_cast<void>(socket(family, type | SOCK_NONBLOCK, 0));
  }
  static_cast<void>(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP));
  static_cast<void>(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(3)));
  for (int protocol : {0, 4}) static_cast<void>(socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, protocol));
  static_cast<void>(epoll_create1(0));
  static_cast<void>(eventfd(0, EFD_NONBLOCK));
  static_cast<void>(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  sigset_t usr;
  sigemptyset(&usr);
  sigaddset(&usr, SIGUSR2);
  static_cast<void>(signalfd(-1, &usr, SFD_NONBLOCK));
  static_cast<void>(inotify_init1(IN_NONBLOCK));
  static_cast<void>(memfd_create("m", MFD_ALLOW_SEALING));
  static_cast<void>(syscall(SYS_pidfd_open, getpid(), 0));
  static_cast<void>(mq_open("/q", O_RDWR | O_CREAT | O_NONBLOCK, 0600, nullptr));
}

void MakeFiles() {
  close(open("f", O_CREAT | O_RDWR, 0666));
  static_cast<void>(truncate("f", 9000));
  mkdir("d", 0777);
  close(open("d/f", O_CREAT | O_RDWR, 0666));
  static_cast<void>(symlink("f", "l"));
  static_cast<void>(symlink("loop", "loop"));
  mkfifo("fifo", 0666);
  mknod("sock", S_IFSOCK | 0666, 0);
  static_cast<void>(link("f", "h"));
}

Arena MakeArena() {
  void* const at = mmap(nullptr, kArenaPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  auto* const base = static_cast<std::byte*>(at);
  // At the end: shared memory, a file's, pages to read only, pages without any access.
  const auto tail = [&](size_t page) { return base + (kArenaPages - page) * kPage; };
  mmap(tail(8), 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  Fd file(open("f", O_RDWR));
  mmap(tail(6), 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.get(), 0);
  mprotect(tail(4), 2 * kPage, PROT_READ);
  mprotect(tail(2), 2 * kPage, PROT_NONE);
  return {base};
}

void Limit(int what, rlim_t most) {
  const rlimit limit = {most, most};
  setrlimit(static_cast<__rlimit_resource>(what), &limit);
}

struct Shared {
  std::atomic<uint64_t> calls, succeeded;
};

std::vector<RandomCall> Chosen() {
  std::vector<RandomCall> calls(std::begin(kRandomCalls), std::end(kRandomCalls));
  const char* only = getenv("RINGWALL_RANDOM_ONLY");
  if (only == nullptr) return calls;
  std::vector<RandomCall> chosen;
  for (const char* at = only; *at != '\0'; at += strcspn(at, ","), at += *at == ',' ? 1 : 0) {
    const int number = atoi(at);
    for (const RandomCall& call : calls) {
      if (call.number == number) chosen.push_back(call);
    }
  }
  return chosen;
}

void Work(const std::vector<RandomCall>& calls, Arena arena, uint64_t seed, Shared* shared) {
  Random r(seed);
  for (;;) {
    const RandomCall& call = calls[r.Below(calls.size())];
    uint64_t a[6] = {};
    for (int i = 0; call.arguments[i] != '\0'; i++) a[i] = Value(call.arguments[i], call.number, arena, r);
    // What ends the round too often or fills the host.
    if (call.number == SYS_mmap) a[3] = (a[3] & ~0x8000ull) | (r.OneIn(2) ? MAP_FIXED : 0) | MAP_ANONYMOUS;
    // A file system that is mounted outside as well would be read-only there, too (as by umount of /).
    if (call.number == SYS_mount) a[3] &= ~static_cast<uint64_t>(MS_REMOUNT);
    if (call.number == SYS_umount2) a[1] |= MNT_DETACH;
    const long result = Raw(call.number, a);
    shared->calls.fetch_add(1, std::memory_order_relaxed);
    if (result >= 0) shared->succeeded.fetch_add(1, std::memory_order_relaxed);
    if (r.OneIn(8)) Scribble(arena, r, arena.At(r), 4);
  }
}

// The first process of its namespaces; never returns.
[[noreturn]] void Round(const std::vector<RandomCall>& calls, uint64_t seed, bool as_root, Shared* shared) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setsid();  // signals to our group are to stay in here
  umask(0);
  static_cast<void>(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  if (mount("tmpfs", "/tmp", "tmpfs", 0, "size=16m,mode=1777") != 0 || chdir("/tmp") != 0) _exit(2);
  static_cast<void>(mount("proc", "/proc", "proc", 0, nullptr));
  const int null = open("/dev/null", O_RDWR);
  dup2(null, 1);
  dup2(null, 2);
  close(null);
  Limit(RLIMIT_AS, 256 << 20);
  Limit(RLIMIT_FSIZE, 8 << 20);
  Limit(RLIMIT_NOFILE, kFdLimit);
  Limit(RLIMIT_NPROC, 64);
  Limit(RLIMIT_CORE, 0);
  MakeFiles();
  if (!as_root && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(2);
  OpenAll();
  for (int sig = 1; sig < 32; sig++) {
    struct sigaction sa = {};
    sa.sa_handler = sig == SIGXFSZ || sig == SIGPIPE ? SIG_IGN : sig == SIGSEGV ? SIG_DFL : [](int) {};
    sigaction(sig, &sa, nullptr);
  }
  const Arena arena = MakeArena();
  for (size_t page = 0; page < kArenaPages; page += 4) {
    Random r(seed + page);
    Scribble(arena, r, reinterpret_cast<uint64_t>(arena.base) + page * kPage, 32);
  }
  for (int i = 1; i < kThreads; i++) {
    std::thread([&calls, arena, seed, i, shared] { Work(calls, arena, seed * 64 + static_cast<uint64_t>(i), shared); })
        .detach();
  }
  // What blocks is woken now and then.
  std::thread([] {
    for (;;) {
      usleep(5000);
      for (int tid = 1; tid < kThreads + 8; tid++) syscall(SYS_tkill, tid, SIGUSR1);
    }
  }).detach();
  Work(calls, arena, seed * 64, shared);
  _exit(0);
}

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text != nullptr ? strtoull(text, nullptr, 0) : otherwise;
}

void RunRandom(bool as_root) {
  if (!Inside()) GTEST_SKIP() << "natively it would be the host that gets the calls";
  const int64_t end = NowMs() + static_cast<int64_t>(FromEnvironment("RINGWALL_RANDOM_SECONDS", 3)) * 1000;
  uint64_t seed = FromEnvironment("RINGWALL_RANDOM_SEED", static_cast<uint64_t>(NowMs()));
  const std::vector<RandomCall> calls = Chosen();
  // Far from all that the calls write to by mistake.
  void* const memory = mmap(reinterpret_cast<void*>(0x100000000000), kPage, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const shared = new (memory) Shared();
  int rounds = 0;
  do {
    const long pid = syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD,
                             nullptr, nullptr, nullptr, nullptr);
    ASSERT_GE(pid, 0) << ErrnoName(errno);
    if (pid == 0) Round(calls, seed, as_root, shared);
    printf("seed %lu\n", seed);
    const uint64_t before = shared->calls.load();
    int status = -1;
    pid_t got = 0;
    // Its threads may have made us their tracer: then each has to be waited for.
    const auto ended = [&] {
      do {
        got = waitpid(-1, &status, WNOHANG | __WALL);
      } while (got > 0 && (got != pid || WIFSTOPPED(status)));
      return got == pid;
    };
    // From its first call on, however slow the machine is.
    const int64_t last = NowMs() + kSlowStartMs;
    while (!ended() && shared->calls.load() == before && NowMs() < last) usleep(1000);
    const int64_t stop = NowMs() + kRoundMs;
    while (got != pid && !ended() && NowMs() < stop) usleep(1000);
    if (got != pid) {
      kill(static_cast<pid_t>(pid), SIGKILL);
      const int64_t patience = NowMs() + 10000;
      while (!ended() && NowMs() < patience) usleep(1000);
    }
    ASSERT_EQ(got, pid) << "cannot be killed: seed " << seed;
    ASSERT_TRUE(Exited(InChild([] { return 7; }), 7)) << "seed " << seed;
    ++rounds;
    ++seed;
  } while (NowMs() < end);
  ExpectWell();
  printf("%d rounds, %lu calls, %lu of them without an error\n", rounds, shared->calls.load(),
         shared->succeeded.load());
  EXPECT_GT(shared->succeeded.load(), 0u);
  munmap(memory, kPage);
}

TEST(RandomCallTest, OfRootInNamespacesOfItsOwn) { RunRandom(true); }
TEST(RandomCallTest, OfAnOrdinaryUser) { RunRandom(false); }

}  // namespace
}  // namespace ringwall::test
