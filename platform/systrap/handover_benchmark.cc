// What a system call costs from guest code to the Sentry and back, in time and in CPU time of both
// sides: `platform_handover_benchmark [platform] [calls] [pin]`. The Sentry's answer costs nothing
// here. With `pin` each side keeps to a processor of its own, which shows the hand-over alone.
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "platform/platform.h"

namespace ringwall {
namespace {

constexpr GuestAddr kText(0x400000), kData(0x10000000);
constexpr uint64_t kDataSize = 64 * kPageSize;

bool g_pin = false;

uint64_t Now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

class Code {
 public:
  Code& Bytes(std::initializer_list<int> bytes) {
    for (const int b : bytes) bytes_.push_back(static_cast<std::byte>(b));
    return *this;
  }
  Code& Imm32(int op, uint32_t value) {
    Bytes({op});
    for (int i = 0; i < 4; ++i) Bytes({static_cast<int>(value >> 8 * i & 0xff)});
    return *this;
  }
  // mov $times, %ebx; 1: body; dec %ebx; jnz 1b; mov $60, %eax; syscall
  static Code Loop(uint32_t times, const Code& body) {
    Code code;
    code.Imm32(0xbb, times);
    const size_t start = code.bytes_.size();
    code.bytes_.insert(code.bytes_.end(), body.bytes_.begin(), body.bytes_.end());
    code.Bytes({0xff, 0xcb, 0x0f, 0x85});
    const auto back = static_cast<uint32_t>(start - (code.bytes_.size() + 4));
    for (int i = 0; i < 4; ++i) code.Bytes({static_cast<int>(back >> 8 * i & 0xff)});
    code.Imm32(0xb8, SYS_exit).Bytes({0x0f, 0x05});
    return code;
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

struct Setup {
  const char* name;
  uint32_t nr;
  bool patchable = true;
  bool local = false;
  uint64_t rdi = 0, rsi = 0, rdx = 0;
  uint32_t output = 0;  // bytes that the Sentry returns by the window or, if it will not, by Write
};

struct Sample {
  double wall = 0, sentry = 0, user = 0, system = 0, local = 0, patched = 0;
};

void Run(Platform& platform, const Setup& setup, uint32_t calls, bool print) {
  Result<Ref<AddressSpace>> as = platform.NewAddressSpace();
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
  if (!as.ok() ||
      !(*as)->Map({kText, kText + kPageSize}, PROT_READ | PROT_WRITE, kFlags, -1, 0).ok() ||
      !(*as)->Map({kData, kData + kDataSize}, PROT_READ | PROT_WRITE, kFlags, -1, 0).ok()) {
    abort();
  }
  Code body;
  if (setup.patchable) {
    body.Imm32(0xb8, setup.nr).Bytes({0x0f, 0x05});
  } else {
    // Short instructions, with jumps to each of them.
    body.Bytes({0x31, 0xc0, 0xb0, static_cast<int>(setup.nr), 0xeb, 0x00, 0x0f, 0x05, 0xeb, 0x00,
                0xeb, 0x00, 0x66, 0x90});
  }
  const Code code = Code::Loop(calls, body);
  if (!(*as)->Write(kText, code.bytes()).ok() ||
      !(*as)->Protect({kText, kText + kPageSize}, PROT_READ | PROT_EXEC).ok()) {
    abort();
  }
  Result<std::unique_ptr<Context>> made = platform.NewContext(**as, nullptr);
  if (!made.ok()) abort();
  Context& context = **made;
  abi::Registers& regs = context.regs();
  regs.rip = kText.value();
  regs.rsp = (kData + kDataSize).value();
  regs.rdi = setup.rdi, regs.rsi = setup.rsi, regs.rdx = setup.rdx;
  context.RegsChanged();
  LocalAnswers answers;
  answers.enabled = setup.local;
  context.SetLocalAnswers(answers);
  std::vector<std::byte> output(setup.output);

  if (g_pin) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    CPU_ZERO(&cpus);
    CPU_SET(1, &cpus);
    sched_setaffinity(context.host_tid(), sizeof cpus, &cpus);
  }
  const PlatformStats before = platform.Stats();
  uint64_t user, system, user_after, system_after;
  context.CpuTime(&user, &system);
  const uint64_t from = Now(CLOCK_MONOTONIC), sentry_from = Now(CLOCK_THREAD_CPUTIME_ID);
  for (;;) {
    const Event event = context.Switch();
    if (event.kind != EventKind::kSyscall) abort();
    if (context.syscall_request().nr == SYS_exit) break;
    if (setup.output != 0 && !context.WriteWindow(GuestAddr(setup.rsi), output)) {
      if (!(*as)->Write(GuestAddr(setup.rsi), output).ok()) abort();
    }
    context.set_result(0);
  }
  const uint64_t wall = Now(CLOCK_MONOTONIC) - from;
  const uint64_t sentry = Now(CLOCK_THREAD_CPUTIME_ID) - sentry_from;
  context.CpuTime(&user_after, &system_after);
  const PlatformStats after = platform.Stats();
  const auto share = [&](const uint64_t(&now)[PlatformStats::kSyscalls],
                         const uint64_t(&then)[PlatformStats::kSyscalls]) {
    return 100.0 * double(now[setup.nr] - then[setup.nr]) / calls;
  };
  static Sample best;
  const Sample sample = {double(wall) / calls,
                         double(sentry) / calls,
                         double(user_after - user) / calls,
                         double(system_after - system) / calls,
                         share(after.local, before.local),
                         share(after.patched, before.patched)};
  if (best.wall == 0 || sample.wall < best.wall) best = sample;
  if (!print) return;
  printf("%-34s %8.0f ns  CPU: sentry %6.0f, stub %6.0f + %6.0f  local %3.0f%% patched %3.0f%%\n",
         setup.name, best.wall, best.sentry, best.user, best.system, best.local, best.patched);
  fflush(stdout);
  best = {};
}

void Native(uint32_t calls) {
  uint64_t from = Now(CLOCK_MONOTONIC);
  for (uint32_t i = 0; i < calls; ++i) syscall(SYS_umask, 18);
  printf("%-34s %8.0f ns\n", "native umask", double(Now(CLOCK_MONOTONIC) - from) / calls);
  from = Now(CLOCK_MONOTONIC);
  for (uint32_t i = 0; i < calls; ++i) syscall(SYS_getpid);
  printf("%-34s %8.0f ns\n", "native getpid", double(Now(CLOCK_MONOTONIC) - from) / calls);
}

int Main(int argc, char** argv) {
  const char* name = argc > 1 ? argv[1] : "systrap";
  const uint32_t calls = argc > 2 ? static_cast<uint32_t>(atoi(argv[2])) : 200'000;
  g_pin = argc > 3;
  HostResult<std::unique_ptr<Platform>> platform = CreatePlatform({.name = name});
  if (!platform.ok()) {
    fprintf(stderr, "%s\n", platform.error().message().c_str());
    return 1;
  }
  Native(calls);
  const uint64_t data = kData.value();
  const Setup setups[] = {
      {.name = "umask, site that cannot be patched", .nr = SYS_umask, .patchable = false},
      {.name = "umask", .nr = SYS_umask},
      {.name = "write 1 B", .nr = SYS_write, .rdi = 1, .rsi = data, .rdx = 1},
      {.name = "write 4 KiB", .nr = SYS_write, .rdi = 1, .rsi = data, .rdx = 4096},
      {.name = "read 1 B", .nr = SYS_read, .rdi = 1, .rsi = data, .rdx = 1, .output = 1},
      {.name = "read 4 KiB", .nr = SYS_read, .rdi = 1, .rsi = data, .rdx = 4096, .output = 4096},
      {.name = "read 64 KiB",
       .nr = SYS_read,
       .rdi = 1,
       .rsi = data,
       .rdx = 1 << 16,
       .output = 1 << 16},
      {.name = "getpid, answered in the stub", .nr = SYS_getpid, .local = true},
      {.name = "clock_gettime, in the stub",
       .nr = SYS_clock_gettime,
       .local = true,
       .rdi = 1,
       .rsi = data},
      {.name = "sched_yield, in the stub", .nr = SYS_sched_yield, .local = true},
      {.name = "rt_sigprocmask, in the stub: size 0", .nr = SYS_rt_sigprocmask, .local = true},
  };
  for (const Setup& setup : setups) {
    // The best of several: what else the machine does only ever adds.
    for (int i = 0; i < 5; ++i) Run(**platform, setup, calls / 5, i == 4);
  }
  return 0;
}

}  // namespace
}  // namespace ringwall

int main(int argc, char** argv) { return ringwall::Main(argc, argv); }
