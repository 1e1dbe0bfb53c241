// What the memory calls of a guest cost the Sentry: book-keeping and one order to the stub each.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <utility>

#include "platform/platform.h"
#include "sentry/mm/memory_manager.h"

namespace ringwall {
namespace {

constexpr int kRw = PROT_READ | PROT_WRITE;
constexpr int kAnon = MAP_PRIVATE | MAP_ANONYMOUS;

Platform& ThePlatform() {
  static Platform* const platform =
      CreatePlatform({.name = "ptrace"}).TakeValue().release();
  return *platform;
}

Ref<MemoryManager> NewMm(int vmas) {
  Ref<MemoryManager> mm = std::move(MemoryManager::Create(ThePlatform()).value());
  for (int i = 0; i < vmas; ++i) {
    MmapRequest request{.length = kPageSize, .prot = i % 2 ? PROT_READ : kRw, .flags = kAnon};
    RW_CHECK(mm->Mmap(request, {}).ok());
  }
  return mm;
}

void BM_MmapMunmap(benchmark::State& state) {
  Ref<MemoryManager> mm = NewMm(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    const Result<GuestAddr> at =
        mm->Mmap({.length = 64 << 10, .prot = kRw, .flags = kAnon}, {});
    RW_CHECK(mm->Munmap(*at, 64 << 10).ok());
  }
}
BENCHMARK(BM_MmapMunmap)->Arg(10)->Arg(10000);

void BM_MprotectPair(benchmark::State& state) {
  Ref<MemoryManager> mm = NewMm(10);
  const GuestAddr at = *mm->Mmap({.length = 64 << 10, .prot = kRw, .flags = kAnon}, {});
  for (auto _ : state) {
    RW_CHECK(mm->Mprotect(at, kPageSize, PROT_READ).ok());
    RW_CHECK(mm->Mprotect(at, kPageSize, kRw).ok());
  }
}
BENCHMARK(BM_MprotectPair);

void BM_Fork(benchmark::State& state) {
  Ref<MemoryManager> mm = NewMm(static_cast<int>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(mm->Fork().value().get());
}
BENCHMARK(BM_Fork)->Arg(10)->Arg(200);

void BM_FreshMap(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(NewMm(0).get());
}
BENCHMARK(BM_FreshMap);

void BM_CopyInString(benchmark::State& state) {
  Ref<MemoryManager> mm = NewMm(10);
  const GuestAddr at = *mm->Mmap({.length = kPageSize, .prot = kRw, .flags = kAnon}, {});
  RW_CHECK(mm->CopyOut(at, std::as_bytes(std::span("/usr/bin/true", 14))).ok());
  for (auto _ : state) benchmark::DoNotOptimize(mm->CopyInString(at, 4096).value().size());
}
BENCHMARK(BM_CopyInString);

}  // namespace
}  // namespace ringwall

BENCHMARK_MAIN();
