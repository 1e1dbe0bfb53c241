// What the platform costs, without the rest of the Sentry. Compare with the native figures that the
// benchmarks of the same name without a platform give.
#include <benchmark/benchmark.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "platform/platform.h"

namespace ringwall {
namespace {

constexpr GuestAddr kText(0x400000), kData(0x10000000);
constexpr GuestRange kTextRange{kText, kText + kPageSize};
constexpr GuestRange kDataRange{kData, kData + (64 << 10)};
constexpr int kAnon = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int kReadWrite = PROT_READ | PROT_WRITE;

Platform& ThePlatform() {
  static const std::unique_ptr<Platform> platform = [] {
    const char* name = getenv("RINGWALL_PLATFORM");
    auto made = CreatePlatform({.name = name != nullptr ? name : "ptrace"});
    if (!made.ok()) {
      fprintf(stderr, "%s\n", made.error().message().c_str());
      exit(1);
    }
    return made.TakeValue();
  }();
  return *platform;
}

Ref<AddressSpace> NewSpace() { return ThePlatform().NewAddressSpace().TakeValue(); }

void BM_CreatePlatform(benchmark::State& state) {
  const std::string name(ThePlatform().name());
  for (auto _ : state) benchmark::DoNotOptimize(CreatePlatform({.name = name}).ok());
}
BENCHMARK(BM_CreatePlatform);

void BM_NewAddressSpace(benchmark::State& state) {
  for (auto _ : state) NewSpace();
}
BENCHMARK(BM_NewAddressSpace)->UseRealTime();

// Of a space with so many KiB touched.
void BM_Fork(benchmark::State& state) {
  Ref<AddressSpace> as = NewSpace();
  const uint64_t size = static_cast<uint64_t>(state.range(0)) << 10;
  if (!as->Map({kData, kData + size}, kReadWrite, kAnon, -1, 0).ok()) abort();
  std::vector<std::byte> bytes(size, std::byte{1});
  if (!as->Write(kData, bytes).ok()) abort();
  for (auto _ : state) {
    Result<Ref<AddressSpace>> child = as->Fork();
    if (!child.ok()) state.SkipWithError("fork failed");
  }
}
BENCHMARK(BM_Fork)->Arg(4)->Arg(4096)->UseRealTime();

void BM_ForkNative(benchmark::State& state) {
  const size_t size = static_cast<size_t>(state.range(0)) << 10;
  void* at = mmap(nullptr, size, kReadWrite, kAnon | MAP_POPULATE, -1, 0);
  for (auto _ : state) {
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    waitpid(pid, nullptr, 0);
  }
  munmap(at, size);
}
BENCHMARK(BM_ForkNative)->Arg(4)->Arg(4096)->UseRealTime();

void BM_MapUnmap(benchmark::State& state) {
  Ref<AddressSpace> as = NewSpace();
  for (auto _ : state) {
    if (!as->Map(kDataRange, kReadWrite, kAnon, -1, 0).ok()) abort();
    if (!as->Unmap(kDataRange).ok()) abort();
  }
}
BENCHMARK(BM_MapUnmap)->UseRealTime();

void BM_MapUnmapNative(benchmark::State& state) {
  for (auto _ : state) {
    void* at = mmap(nullptr, kDataRange.size(), kReadWrite, kAnon, -1, 0);
    munmap(at, kDataRange.size());
  }
}
BENCHMARK(BM_MapUnmapNative)->UseRealTime();

void BM_Read(benchmark::State& state) {
  Ref<AddressSpace> as = NewSpace();
  if (!as->Map(kDataRange, kReadWrite, kAnon, -1, 0).ok()) abort();
  std::vector<std::byte> bytes(static_cast<size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(as->Read(kData, bytes).ok());
}
BENCHMARK(BM_Read)->Arg(8)->Arg(4096)->Arg(65536);

std::unique_ptr<Context> GuestLoop(AddressSpace& as) {
  if (!as.Map(kTextRange, kReadWrite | PROT_EXEC, kAnon, -1, 0).ok()) abort();
  // mov $39, %eax; syscall; jmp
  const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7};
  if (!as.Write(kText, std::as_bytes(std::span(code))).ok()) abort();
  std::unique_ptr<Context> c = ThePlatform().NewContext(as, nullptr).TakeValue();
  c->regs().rip = kText.value();
  c->RegsChanged();
  return c;
}

// Makes, runs to the first call, and destroys a context, whose thread is then used again.
void BM_NewContext(benchmark::State& state) {
  Ref<AddressSpace> as = NewSpace();
  for (auto _ : state) {
    std::unique_ptr<Context> c = GuestLoop(*as);
    if (c->Switch().kind != EventKind::kSyscall) abort();
  }
}
BENCHMARK(BM_NewContext)->UseRealTime();

// A forked space with its first guest thread, up to its first call.
void BM_ForkAndRun(benchmark::State& state) {
  Ref<AddressSpace> as = NewSpace();
  std::unique_ptr<Context> parent = GuestLoop(*as);
  if (parent->Switch().kind != EventKind::kSyscall) abort();
  for (auto _ : state) {
    Ref<AddressSpace> child = as->Fork().TakeValue();
    std::unique_ptr<Context> c = ThePlatform().NewContext(*child, parent.get()).TakeValue();
    if (c->Switch().kind != EventKind::kSyscall) abort();
  }
}
BENCHMARK(BM_ForkAndRun)->UseRealTime();

void BM_Getpid(benchmark::State& state) {
  Ref<AddressSpace> as = NewSpace();
  std::unique_ptr<Context> c = GuestLoop(*as);
  for (auto _ : state) {
    if (c->Switch().kind != EventKind::kSyscall) abort();
    c->regs().rax = 1;
  }
}
BENCHMARK(BM_Getpid)->UseRealTime();

}  // namespace
}  // namespace ringwall

BENCHMARK_MAIN();
