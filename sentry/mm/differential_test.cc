// The same random calls to the memory manager and to the host's kernel, on the same addresses: each
// result and, at the end of each round, the map must agree.
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cinttypes>
#include <random>
#include <string>
#include <vector>

#include "sentry/mm/memory_manager.h"
#include "sentry/mm/testing/fake_address_space.h"
#include "sentry/mm/testing/memory_file.h"

namespace ringwall {
namespace {

using testing::FakePlatform;
using testing::MemoryFile;

#if defined(RINGWALL_TSAN)
constexpr uint64_t kAt = 0x40'0000'0000;  // the sanitizer has the other
#else
constexpr uint64_t kAt = 0x2000'0000'0000;
#endif
constexpr uint64_t kTotal = 40;
const MemoryLimits kLimits{.locked = 8 << 20};

std::string HostMap() {
  std::string text;
  FILE* maps = fopen("/proc/self/maps", "re");
  char line[512];
  std::vector<std::string> pages(kTotal, "----");
  while (maps != nullptr && fgets(line, sizeof(line), maps) != nullptr) {
    uint64_t start = 0, end = 0;
    char perms[8];
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, perms) != 3) continue;
    for (uint64_t p = 0; p < kTotal; ++p) {
      const uint64_t at = kAt + p * kPageSize;
      if (start <= at && at < end) pages[p] = perms;
    }
  }
  if (maps != nullptr) fclose(maps);
  for (const std::string& page : pages) text += page + " ";
  return text;
}

std::string GuestMap(MemoryManager& mm) {
  std::string text;
  for (uint64_t p = 0; p < kTotal; ++p) {
    const std::optional<Vma> vma = mm.Find(GuestAddr(kAt + p * kPageSize));
    if (!vma) {
      text += "---- ";
      continue;
    }
    text += (vma->prot & PROT_READ) != 0 ? "r" : "-";
    text += (vma->prot & PROT_WRITE) != 0 ? "w" : "-";
    text += (vma->prot & PROT_EXEC) != 0 ? "x" : "-";
    text += vma->shared ? "s " : "p ";
  }
  return text;
}

int64_t Native(long nr, uint64_t a, uint64_t b, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0,
               uint64_t f = 0) {
  const long r = ::syscall(nr, a, b, c, d, e, f);
  return r == -1 ? -errno : r;
}

int64_t Value(const Result<GuestAddr>& r) {
  return r.ok() ? static_cast<int64_t>(r->value()) : -r.error_value();
}
int64_t Value(const Result<void>& r) { return -r.error_value(); }

TEST(MmDifferentialTest, AgreesWithTheHostOnRandomCalls) {
  FakePlatform platform;
  auto mm = std::move(MemoryManager::Create(platform).value());
  auto file = MemoryFile::Create(std::string(kTotal * kPageSize, 'x'));
  auto read_only = MemoryFile::Create("x", O_RDONLY);
  const std::string path = "/proc/self/fd/" + std::to_string(read_only->host_fd());
  UniqueFd read_only_fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(read_only_fd.valid());
  std::mt19937 random(1234);
  const int advices[] = {MADV_NORMAL, MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK,
                         MADV_KEEPONFORK, MADV_FREE, MADV_DONTDUMP, 99};
  for (int step = 0; step < 20000; ++step) {
    const uint64_t n = 1 + random() % 6, first = random() % (kTotal - 8);
    uint64_t at = kAt + first * kPageSize;
    uint64_t length = n * kPageSize;
    const int prot = static_cast<int>(random() % 8);
    if (random() % 30 == 0) length -= 5;
    if (random() % 50 == 0) at += 7;
    int64_t native = 0, ours = 0;
    std::string what;
    switch (random() % 10) {
      case 0:
      case 1: {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS |
                          (random() % 2 ? MAP_FIXED : MAP_FIXED_NOREPLACE) |
                          (random() % 4 == 0 ? MAP_GROWSDOWN : 0);
        native = Native(SYS_mmap, at, length, prot, flags, -1, 0);
        ours = Value(mm->Mmap({GuestAddr(at), length, prot, flags, nullptr, 0}, kLimits));
        what = "mmap";
        break;
      }
      case 2: {
        const bool ro = random() % 2;
        const int flags = (random() % 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED;
        native = Native(SYS_mmap, at, length, prot, flags,
                        ro ? read_only_fd.get() : file->host_fd(), first * kPageSize);
        const RefPtr<File> f = ro ? RefPtr<File>(read_only) : RefPtr<File>(file);
        ours = Value(mm->Mmap({GuestAddr(at), length, prot, flags, f, first * kPageSize}, kLimits));
        what = "mmap of a file";
        break;
      }
      case 3:
        native = Native(SYS_munmap, at, length);
        ours = Value(mm->Munmap(GuestAddr(at), length));
        what = "munmap";
        break;
      case 4:
      case 5: {
        const int p = prot | (random() % 20 == 0 ? PROT_GROWSDOWN : 0);
        native = Native(SYS_mprotect, at, length, p);
        ours = Value(mm->Mprotect(GuestAddr(at), length, p));
        what = "mprotect";
        break;
      }
      case 6: {
        const uint64_t to = kAt + random() % (kTotal - 8) * kPageSize;
        const uint64_t new_length = random() % 7 * kPageSize;
        int flags = random() % 2 ? MREMAP_MAYMOVE | MREMAP_FIXED : 0;
        if (random() % 8 == 0) flags |= MREMAP_DONTUNMAP;
        if ((flags & MREMAP_DONTUNMAP) != 0) flags |= MREMAP_FIXED;
        // Linux 6.17 learned to move several mappings at once; guests see 6.12.
        const std::optional<Vma> vma = mm->Find(GuestAddr(at));
        if (vma && vma->range.end < GuestAddr(at + length) && (flags & MREMAP_FIXED) != 0) continue;
        native = Native(SYS_mremap, at, length, new_length, flags, to);
        ours = Value(mm->Mremap(GuestAddr(at), length, new_length, flags, GuestAddr(to), kLimits));
        what = "mremap";
        break;
      }
      case 7: {
        const int advice = advices[random() % std::size(advices)];
        native = Native(SYS_madvise, at, length, advice);
        ours = Value(mm->Madvise(GuestAddr(at), length, advice));
        what = "madvise " + std::to_string(advice);
        break;
      }
      case 8: {
        const int flags[] = {MS_ASYNC, MS_SYNC, MS_INVALIDATE, MS_SYNC | MS_ASYNC, 8};
        const int flag = flags[random() % std::size(flags)];
        native = Native(SYS_msync, at, length, flag);
        ours = Value(mm->Msync(GuestAddr(at), length, flag));
        what = "msync";
        break;
      }
      case 9:
        if (random() % 2) {
          native = Native(SYS_mlock2, at, length, 1);
          ours = Value(mm->Mlock(GuestAddr(at), length, true, kLimits));
          what = "mlock2";
        } else {
          native = Native(SYS_munlock, at, length);
          ours = Value(mm->Munlock(GuestAddr(at), length));
          what = "munlock";
        }
        break;
    }
    ASSERT_EQ(native, ours) << what << " at page " << (at - kAt) / kPageSize << " length " << length
                            << " step " << step << "\n" << HostMap();
    if (step % 50 == 0) {
      ASSERT_EQ(HostMap(), GuestMap(*mm)) << "after step " << step;
    }
  }
  EXPECT_EQ(Native(SYS_munmap, kAt, kTotal * kPageSize), 0);
}

}  // namespace
}  // namespace ringwall
