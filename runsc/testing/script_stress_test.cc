// Processes and threads that make random system calls at once, on descriptors, memory and each other:
// what ASan, the lock-order check and TSan are to look at where no stub can run.
#include "runsc/testing/script_sentry.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <cstring>
#include <random>
#include <string>

namespace ringwall::testing {
namespace {

// A call and what its arguments are, one letter each:
//   f descriptor  p path  b buffer  n size of one  x any small number  o open flags  t a task
//   s signal, none that stops  d AT_FDCWD  - zero  a address to map at  w futex word
struct Call {
  uint64_t nr;
  const char* args;
};
constexpr Call kCalls[] = {
    {SYS_openat, "dpo"},        {SYS_openat, "dpo"},       {SYS_close, "f"},           {SYS_read, "fbn"},
    {SYS_write, "fbn"},         {SYS_write, "fbn"},        {SYS_pread64, "fbnx"},      {SYS_pwrite64, "fbnx"},
    {SYS_lseek, "fxx"},         {SYS_fstat, "fb"},         {SYS_newfstatat, "dpb-"},   {SYS_getdents64, "fbn"},
    {SYS_dup, "f"},             {SYS_dup3, "ff-"},         {SYS_pipe2, "b-"},          {SYS_eventfd2, "x-"},
    {SYS_epoll_create1, "-"},   {SYS_epoll_ctl, "fxfb"},   {SYS_epoll_wait, "fbx-"},   {SYS_poll, "bxx"},
    {SYS_mkdirat, "dp-"},       {SYS_unlinkat, "dp-"},     {SYS_unlinkat, "dpU"},      {SYS_renameat2, "dpdp-"},
    {SYS_linkat, "dpdp-"},      {SYS_symlinkat, "pdp"},    {SYS_readlinkat, "dpbn"},   {SYS_ftruncate, "fx"},
    {SYS_fallocate, "f-xx"},    {SYS_flock, "fx"},         {SYS_fcntl, "fxb"},         {SYS_inotify_init1, "-"},
    {SYS_inotify_add_watch, "fpA"}, {SYS_setxattr, "ppbn-"}, {SYS_chdir, "p"},         {SYS_umask, "x"},
    {SYS_socketpair, "1x-b"},   {SYS_socket, "2x-"},       {SYS_bind, "fSn"},          {SYS_listen, "fx"},
    {SYS_connect, "fSn"},       {SYS_accept4, "f--N"},     {SYS_sendto, "fbnMSn"},     {SYS_recvfrom, "fbnM--"},
    {SYS_shutdown, "fx"},       {SYS_getsockname, "fbb"},  {SYS_mmap, "anPGfx"},       {SYS_munmap, "an"},
    {SYS_mprotect, "anP"},      {SYS_madvise, "anx"},      {SYS_brk, "a"},             {SYS_futex, "wxx-w-"},
    {SYS_kill, "ts"},           {SYS_tgkill, "tts"},       {SYS_rt_sigprocmask, "xbb8"}, {SYS_rt_sigpending, "b8"},
    {SYS_wait4, "tbW-"},        {SYS_getpgid, "t"},        {SYS_setpgid, "tt"},        {SYS_setsid, ""},
    {SYS_getpriority, "xt"},    {SYS_prlimit64, "tx-b"},   {SYS_sched_getaffinity, "tnb"}, {SYS_times, "b"},
    {SYS_clock_nanosleep, "1-b-"}, {SYS_timer_create, "1-b"}, {SYS_timerfd_create, "1-"}, {SYS_timerfd_settime, "f-bb"},
    {SYS_setitimer, "xb-"},     {SYS_process_vm_readv, "tbxbx-"}, {SYS_pidfd_open, "t-"}, {SYS_unshare, "F"},
    {SYS_splice, "f-f-n-"},     {SYS_sendfile, "ff-n"},    {SYS_sync, ""},             {SYS_memfd_create, "p-"},
    {SYS_clone, "T"},           {SYS_clone, "T"},          {SYS_clone, "C"},           {SYS_gettid, ""},
    {SYS_mount, "ppp--"},       {SYS_umount2, "p-"},       {SYS_shmget, "xnI"},        {SYS_shmat, "x--"},
    {SYS_semget, "xxI"},        {SYS_semop, "xbx"},        {SYS_msgget, "xI"},         {SYS_msgsnd, "xbn-"},
    {SYS_msgrcv, "xbn--"},      {SYS_prctl, "xxx--"},      {SYS_capget, "bb"},         {SYS_setresuid, "xxx"}};
constexpr std::array<const char*, 24> kPaths = {
    "/tmp/a", "/tmp/b", "/tmp/d", "/tmp/d/c", "/tmp", "/", "/proc/self/status", "/proc/self/maps", "/proc/self/fd",
    "/proc/3/status", "/proc/4/stat", "/proc/5/maps", "/proc", "/proc/net/tcp", "/proc/net/unix", "/proc/meminfo",
    "/proc/sys/kernel/hostname", "/proc/self/task", "/dev/null", "/dev/ptmx", "/proc/self/mountinfo",
    "/sys/class/net", "/proc/self/comm", "/dev/pts"};

class Random final : public Script {
 public:
  Random(uint32_t seed, int calls, int depth) : random_(seed), calls_(calls), depth_(depth) {}

  std::optional<ScriptCall> Next(AddressSpace& memory, int64_t) override {
    if (calls_-- == 0) return std::nullopt;
    const Call& what = kCalls[Below(std::size(kCalls))];
    // Threads share their memory: what one writes another reads, as threads of a guest may.
    at_ = kScriptMemory + 0x1000 + Below(8) * 0x2000;
    std::array<uint8_t, 256> noise;
    for (uint8_t& b : noise) b = static_cast<uint8_t>(Below(4) == 0 ? random_() | 64 : Below(3));
    static_cast<void>(memory.Write(GuestAddr(at_), std::as_bytes(std::span(noise))).ok());
    ScriptCall call{.nr = what.nr};
    for (size_t i = 0; what.args[i] != '\0'; i++) call.args[i] = Argument(memory, what.args[i]);
    return call;
  }
  std::unique_ptr<Script> OfChild() override {
    if (depth_ == 0) return nullptr;
    return std::make_unique<Random>(random_(), calls_ / 2, depth_ - 1);
  }

 private:
  uint64_t Below(size_t n) { return random_() % n; }

  uint64_t Argument(AddressSpace& memory, char letter) {
    switch (letter) {
      case 'f': return Below(24);
      case 'p': {
        const std::string path = kPaths[Below(kPaths.size())];
        const uint64_t at = at_ + 0x1000 + Below(4) * 64;
        static_cast<void>(memory.Write(GuestAddr(at), std::as_bytes(std::span(path.c_str(), path.size() + 1))).ok());
        return at;
      }
      case 'b': return at_ + Below(2) * 128;
      case 'n': return Below(200);
      case 'x': return Below(8);
      case 'o': return std::array<uint64_t, 6>{O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_WRONLY | O_TRUNC, O_DIRECTORY,
                                               O_RDWR | O_NONBLOCK | O_APPEND}[Below(6)];
      case 't': return Below(3) == 0 ? 0 : 2 + Below(20);
      case 's': return std::array<uint64_t, 6>{0, SIGUSR2, SIGCHLD, SIGWINCH, SIGURG, 40}[Below(6)];
      case 'd': return static_cast<uint64_t>(AT_FDCWD);
      case 'a': return 0x2000'0000 + Below(64) * 4096;
      case 'w': return kScriptMemory + 0x800 + Below(4) * 4;
      case 'U': return AT_REMOVEDIR;
      case 'A': return 0xfff;
      case 'P': return Below(4);
      case 'G': return std::array<uint64_t, 4>{MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE,
                                               MAP_SHARED}[Below(4)] | MAP_FIXED;
      case 'S': {
        // Of a family that the first bytes say.
        const uint8_t address[16] = {static_cast<uint8_t>(Below(2) + 1), 0, 0, static_cast<uint8_t>(80 + Below(3)),
                                     127, 0, 0, 1};
        const uint64_t at = at_ + 0x1800;
        static_cast<void>(memory.Write(GuestAddr(at), std::as_bytes(std::span(address))).ok());
        return at;
      }
      case 'M': return MSG_DONTWAIT | MSG_NOSIGNAL;
      case 'N': return SOCK_NONBLOCK;
      case 'W': return 1;  // WNOHANG
      case 'F': return std::array<uint64_t, 4>{CLONE_FILES, CLONE_FS, CLONE_NEWNS, CLONE_NEWNET}[Below(4)];
      case 'T': return CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
      case 'C': return SIGCHLD;
      case 'I': return 01666;  // IPC_CREAT
      case '1': return 1;
      case '2': return 2;
      case '8': return 8;
      default: return 0;
    }
  }

  std::mt19937 random_;
  int calls_;
  const int depth_;
  uint64_t at_ = 0;
};

// The script's own end, or that of a signal it sent to itself.
TEST(ScriptStressTest, RandomCallsOfManyTasks) {
  for (uint32_t seed = 1; seed <= 12; seed++) {
    RunScript(std::make_unique<Random>(seed, 600, 3));
  }
}

class Exits final : public Script {
 public:
  explicit Exits(int code) : code_(code) {}
  std::optional<ScriptCall> Next(AddressSpace&, int64_t) override {
    return ScriptCall{SYS_exit_group, {static_cast<uint64_t>(code_)}};
  }

 private:
  const int code_;
};

TEST(ScriptSentryTest, GivesTheStatus) { EXPECT_EQ(RunScript(std::make_unique<Exits>(5)), 5 << 8); }

// An empty pipe that nobody writes to: the read would sleep for ever.
class Sleeps final : public Script {
 public:
  std::optional<ScriptCall> Next(AddressSpace&, int64_t) override {
    switch (step_++) {
      case 0: return ScriptCall{SYS_pipe2, {kScriptMemory + 0x1000, 0}};
      case 1: return ScriptCall{SYS_read, {0, kScriptMemory + 0x1000, 1}};
      default: return ScriptCall{SYS_exit_group, {4}};
    }
  }

 private:
  int step_ = 0;
};

TEST(ScriptSentryTest, SleepsEndAtOnce) { EXPECT_EQ(RunScript(std::make_unique<Sleeps>()), 4 << 8); }

}  // namespace
}  // namespace ringwall::testing
