// Mapping, protecting and touching memory.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "benchmarks/micro/bench.h"

namespace ringwall::bench {
namespace {

constexpr size_t kPage = 4096;

char* Map(size_t size, int prot, int flags, int fd = -1) {
  void* p = mmap(nullptr, size, prot, flags, fd, 0);
  Need(p != MAP_FAILED, "mmap");
  return static_cast<char*>(p);
}

BENCH(mmap_munmap_64k) {
  while (n--) {
    char* p = Map(65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    munmap(p, 65536);
  }
}

// Turns are regions of 1024 pages; small enough a region that huge pages do not answer it.
constexpr size_t kRegion = 1024;

BENCH_PER(fault_private_anonymous, kRegion) {
  while (n--) {
    char* p = Map(kRegion * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    madvise(p, kRegion * kPage, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < kRegion; ++i) p[i * kPage] = 1;
    munmap(p, kRegion * kPage);
  }
}

BENCH_PER(fault_shared_file, kRegion) {
  static const int fd = [] {
    const int f = open((Dir() + "/mapped").c_str(), O_CREAT | O_RDWR, 0600);
    static char chunk[65536];
    memset(chunk, 'x', sizeof(chunk));
    for (size_t i = 0; i < kRegion * kPage; i += sizeof(chunk)) {
      Need(write(f, chunk, sizeof(chunk)) == sizeof(chunk), "write");
    }
    return f;
  }();
  while (n--) {
    char* p = Map(kRegion * kPage, PROT_READ, MAP_SHARED, fd);
    unsigned sum = 0;
    for (size_t i = 0; i < kRegion; ++i) sum += *const_cast<volatile char*>(p + i * kPage);
    Need(sum == kRegion * 'x', "contents");
    munmap(p, kRegion * kPage);
  }
}

BENCH(mprotect_pair) {
  static char* const p = Map(16 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  while (n--) {
    p[0] = 1;
    mprotect(p, 16 * kPage, PROT_READ);
    mprotect(p, 16 * kPage, PROT_READ | PROT_WRITE);
  }
}

char* g_guard;

BENCH(sigsegv_handler) {
  // The handler opens the page and the code shuts it again: a fault, a frame and two mprotects.
  if (g_guard == nullptr) {
    g_guard = Map(kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
    struct sigaction sa = {};
    sa.sa_handler = [](int) { mprotect(g_guard, kPage, PROT_READ | PROT_WRITE); };
    sigaction(SIGSEGV, &sa, nullptr);
  }
  while (n--) {
    *const_cast<volatile char*>(g_guard) = 1;
    mprotect(g_guard, kPage, PROT_READ);
  }
}

}  // namespace
}  // namespace ringwall::bench
