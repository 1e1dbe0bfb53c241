#include "sentry/mm/testing/fake_address_space.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "sentry/base/check.h"

namespace ringwall::testing {

void FakeAddressSpace::CheckRange(GuestRange range) {
  RW_CHECK(range.start < range.end);
  RW_CHECK(range.start.IsPageAligned() && range.end.IsPageAligned());
  RW_CHECK(range.end <= GuestAddr(kStubStart));
  RW_CHECK(range.start.value() >= kGuestMinAddr);
}

Result<void> FakeAddressSpace::Map(GuestRange range, int prot, int flags, int host_fd,
                                   uint64_t offset) {
  CheckRange(range);
  MutexLock lock(mu_);
  ++calls;
  RW_CHECK((prot & ~7) == 0);
  const int type = flags & MAP_TYPE;
  RW_CHECK(type == MAP_SHARED || type == MAP_PRIVATE);
  RW_CHECK(((flags & MAP_ANONYMOUS) != 0) == (host_fd < 0));
  RW_CHECK((flags & (MAP_GROWSDOWN | MAP_LOCKED | MAP_HUGETLB | MAP_32BIT)) == 0);
  if (fail_next) return Errno(*std::exchange(fail_next, std::nullopt));
  for (uint64_t at = range.start.value(); at < range.end.value(); at += kPageSize) {
    const uint64_t page_offset = host_fd < 0 ? 0 : offset + (at - range.start.value());
    pages[at] = FakePage{.prot = prot, .shared = type == MAP_SHARED, .fd = host_fd,
                         .offset = page_offset};
  }
  return {};
}

Result<void> FakeAddressSpace::Unmap(GuestRange range) {
  CheckRange(range);
  MutexLock lock(mu_);
  ++calls;
  pages.erase(pages.lower_bound(range.start.value()), pages.lower_bound(range.end.value()));
  return {};
}

Result<void> FakeAddressSpace::Protect(GuestRange range, int prot) {
  CheckRange(range);
  MutexLock lock(mu_);
  ++calls;
  if (fail_next) return Errno(*std::exchange(fail_next, std::nullopt));
  for (uint64_t at = range.start.value(); at < range.end.value(); at += kPageSize) {
    const auto it = pages.find(at);
    if (it == pages.end()) return Errno(ENOMEM);
    it->second.prot = prot;
  }
  return {};
}

Result<void> FakeAddressSpace::Remap(GuestRange from, uint64_t new_size, int flags, GuestAddr to) {
  CheckRange(from);
  CheckRange({to, to + new_size});
  MutexLock lock(mu_);
  ++calls;
  if (fail_next) return Errno(*std::exchange(fail_next, std::nullopt));
  const bool moves = (flags & MREMAP_FIXED) != 0;
  RW_CHECK(moves || to == from.start);
  RW_CHECK(!moves || (flags & MREMAP_MAYMOVE) != 0);
  std::vector<FakePage> moved;
  for (uint64_t at = from.start.value(); at < from.end.value(); at += kPageSize) {
    const auto it = pages.find(at);
    if (it == pages.end()) return Errno(EFAULT);
    // One mapping of the host, as mremap wants it.
    const FakePage& first = pages.at(from.start.value());
    if (it->second.prot != first.prot || it->second.fd != first.fd) return Errno(EFAULT);
    moved.push_back(it->second);
  }
  if (!moves) {
    for (uint64_t at = from.end.value(); at < (to + new_size).value(); at += kPageSize) {
      if (pages.contains(at)) return Errno(ENOMEM);
    }
  }
  if ((flags & MREMAP_DONTUNMAP) != 0) {
    for (uint64_t at = from.start.value(); at < from.end.value(); at += kPageSize) {
      pages[at].bytes = nullptr;
    }
  } else {
    pages.erase(pages.lower_bound(from.start.value()), pages.lower_bound(from.end.value()));
  }
  for (uint64_t i = 0; i < new_size / kPageSize; ++i) {
    FakePage page = i < moved.size() ? moved[i] : moved.front();
    if (i >= moved.size()) {
      page.bytes = nullptr;
      if (page.fd >= 0) page.offset = moved.front().offset + i * kPageSize;
    }
    pages[to.value() + i * kPageSize] = page;
  }
  return {};
}

Result<void> FakeAddressSpace::Advise(int what, GuestRange range, int arg) {
  CheckRange(range);
  MutexLock lock(mu_);
  ++calls;
  bool hole = false;
  for (uint64_t at = range.start.value(); at < range.end.value(); at += kPageSize) {
    const auto it = pages.find(at);
    if (it == pages.end()) {
      hole = true;
      continue;
    }
    FakePage& page = it->second;
    if (what == SYS_mlock2) page.locked = true;
    if (what == SYS_munlock) page.locked = false;
    if (what != SYS_madvise) continue;
    if (arg == MADV_DONTNEED) page.bytes = nullptr;
    if (arg == MADV_DONTFORK) page.dont_fork = true;
    if (arg == MADV_DOFORK) page.dont_fork = false;
    if (arg == MADV_WIPEONFORK) page.wipe_on_fork = true;
    if (arg == MADV_KEEPONFORK) page.wipe_on_fork = false;
  }
  if (hole) return Errno(ENOMEM);
  return {};
}

Result<void> FakeAddressSpace::Mincore(GuestRange range, std::span<uint8_t> out) {
  CheckRange(range);
  MutexLock lock(mu_);
  RW_CHECK(out.size() == range.size() / kPageSize);
  for (size_t i = 0; i < out.size(); ++i) {
    const auto it = pages.find(range.start.value() + i * kPageSize);
    if (it == pages.end()) return Errno(ENOMEM);
    out[i] = it->second.bytes != nullptr || it->second.fd >= 0 ? 1 : 0;
  }
  return {};
}

Result<Ref<AddressSpace>> FakeAddressSpace::Fork() {
  auto child = MakeRef<FakeAddressSpace>();
  child->vdso_ = vdso_;
  MutexLock lock(mu_);
  for (const auto& [at, page] : pages) {
    if (page.dont_fork) continue;
    FakePage copy = page;
    copy.locked = false;
    if (copy.wipe_on_fork) copy.bytes = nullptr;
    if (copy.bytes) copy.bytes = std::make_shared<std::array<std::byte, kPageSize>>(*copy.bytes);
    child->pages[at] = copy;
  }
  return Ref<AddressSpace>(std::move(child));
}

size_t FakeAddressSpace::ReadLocked(GuestAddr from, std::span<std::byte> to) {
  size_t done = 0;
  while (done < to.size()) {
    const GuestAddr at = from + done;
    const auto it = pages.find(at.PageDown().value());
    if (it == pages.end() || (it->second.prot & (PROT_READ | PROT_WRITE)) == 0) break;
    const size_t in_page = at.value() & kPageMask;
    const size_t n = std::min<size_t>(to.size() - done, kPageSize - in_page);
    const FakePage& page = it->second;
    if (page.bytes) {
      memcpy(to.data() + done, page.bytes->data() + in_page, n);
    } else {
      memset(to.data() + done, 0, n);
      if (page.fd >= 0) {
        const ssize_t got = ::pread(page.fd, to.data() + done, n,
                                    static_cast<off_t>(page.offset + in_page));
        if (got < 0) break;
      }
    }
    done += n;
  }
  return done;
}

Result<size_t> FakeAddressSpace::Read(GuestAddr from, std::span<std::byte> to) {
  MutexLock lock(mu_);
  const size_t done = ReadLocked(from, to);
  if (done == 0 && !to.empty()) return Errno(EFAULT);
  return done;
}

size_t FakeAddressSpace::WriteLocked(GuestAddr to, std::span<const std::byte> from) {
  size_t done = 0;
  while (done < from.size()) {
    const GuestAddr at = to + done;
    const auto it = pages.find(at.PageDown().value());
    if (it == pages.end() || (it->second.prot & PROT_WRITE) == 0) break;
    FakePage& page = it->second;
    const size_t in_page = at.value() & kPageMask;
    const size_t n = std::min<size_t>(from.size() - done, kPageSize - in_page);
    if (page.shared) {
      RW_CHECK(::pwrite(page.fd, from.data() + done, n,
                        static_cast<off_t>(page.offset + in_page)) == static_cast<ssize_t>(n));
    } else {
      if (!page.bytes) {
        auto bytes = std::make_shared<std::array<std::byte, kPageSize>>();
        if (page.fd >= 0) {
          RW_CHECK(::pread(page.fd, bytes->data(), kPageSize, static_cast<off_t>(page.offset)) >= 0);
        }
        page.bytes = std::move(bytes);
      }
      memcpy(page.bytes->data() + in_page, from.data() + done, n);
    }
    done += n;
  }
  return done;
}

Result<size_t> FakeAddressSpace::Write(GuestAddr to, std::span<const std::byte> from) {
  MutexLock lock(mu_);
  const size_t done = WriteLocked(to, from);
  if (done == 0 && !from.empty()) return Errno(EFAULT);
  return done;
}

Result<uint32_t> FakeAddressSpace::CompareExchange(GuestAddr addr, uint32_t expected,
                                                   uint32_t desired) {
  if ((addr.value() & 3) != 0) return Errno(EINVAL);
  uint32_t old = 0;
  MutexLock lock(mu_);
  if (ReadLocked(addr, std::as_writable_bytes(std::span(&old, 1))) != sizeof(old)) return Errno(EFAULT);
  if (old == expected &&
      WriteLocked(addr, std::as_bytes(std::span(&desired, 1))) != sizeof(desired)) {
    return Errno(EFAULT);
  }
  return old;
}

Result<Ref<AddressSpace>> FakePlatform::NewAddressSpace() {
  auto as = MakeRef<FakeAddressSpace>();
  as->vdso_ = vdso;
  last = as.get();
  return Ref<AddressSpace>(std::move(as));
}

}  // namespace ringwall::testing
