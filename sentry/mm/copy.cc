// Copies between the Sentry and guest memory. No lock: the host checks every address.
#include <algorithm>
#include <cstring>

#include "sentry/mm/memory_manager.h"

namespace ringwall {

namespace {

// Runs a copy to its end: a short one is tried again where it stopped, to learn the error, once the
// stack was grown there, or a file got memory there, if that is the reason.
template <typename Copy, typename Mend>
size_t CopyAll(GuestAddr at, size_t size, Copy&& copy, Mend&& mend) {
  size_t done = 0;
  bool mended = false;
  while (done < size) {
    const Result<size_t> n = copy(done);
    if (n.ok() && *n != 0) {
      done += *n;
      mended = false;
      continue;
    }
    if (mended || !mend(at + done)) break;
    mended = true;
  }
  return done;
}

// Bytes from addr that may be touched at all.
size_t Below(GuestAddr addr, size_t size) {
  if (addr >= kTaskSize) return 0;
  return std::min<uint64_t>(size, kTaskSize - addr);
}

}  // namespace

bool MemoryManager::GrowStackForCopy(GuestAddr addr) {
  MemoryLimits limits;
  {
    ReaderLock lock(mu_);
    limits.stack = stack_limit_;
  }
  return GrowStack(addr, limits);
}

Result<size_t> MemoryManager::CopyInPartial(GuestAddr from, std::span<std::byte> to) {
  if (to.empty()) return size_t{0};
  to = to.first(Below(from, to.size()));
  const size_t done = CopyAll(
      from, to.size(), [&](size_t at) { return as_->Read(from + at, to.subspan(at)); },
      [&](GuestAddr at) { return GrowStackForCopy(at) || ServeFault(at, PROT_READ); });
  if (done == 0) return Errno(EFAULT);
  return done;
}

Result<size_t> MemoryManager::CopyOutPartial(GuestAddr to, std::span<const std::byte> from) {
  if (from.empty()) return size_t{0};
  from = from.first(Below(to, from.size()));
  const size_t done = CopyAll(
      to, from.size(), [&](size_t at) { return as_->Write(to + at, from.subspan(at)); },
      [&](GuestAddr at) { return GrowStackForCopy(at) || ServeFault(at, PROT_WRITE); });
  if (done == 0) return Errno(EFAULT);
  return done;
}

Result<void> MemoryManager::CopyIn(GuestAddr from, std::span<std::byte> to) {
  const size_t n = TRY(CopyInPartial(from, to));
  if (n != to.size()) return Errno(EFAULT);
  return {};
}

Result<void> MemoryManager::CopyOut(GuestAddr to, std::span<const std::byte> from) {
  const size_t n = TRY(CopyOutPartial(to, from));
  if (n != from.size()) return Errno(EFAULT);
  return {};
}

Result<std::string> MemoryManager::CopyInString(GuestAddr from, size_t limit) {
  std::string text;
  // To the end of a page at a time: what lies behind the string may not be mapped.
  while (text.size() < limit) {
    const GuestAddr at = from + text.size();
    if (at < from) return Errno(EFAULT);
    const size_t to_page_end = kPageSize - (at.value() & kPageMask);
    const size_t want = std::min(limit - text.size(), to_page_end);
    const size_t have = text.size();
    text.resize(have + want);
    const Result<size_t> n =
        CopyInPartial(at, std::as_writable_bytes(std::span(text.data() + have, want)));
    if (!n.ok()) return n.error();
    const void* nul = memchr(text.data() + have, 0, *n);
    if (nul != nullptr) {
      text.resize(static_cast<size_t>(static_cast<const char*>(nul) - text.data()));
      return text;
    }
    if (*n != want) return Errno(EFAULT);
  }
  return Errno(ENAMETOOLONG);
}

}  // namespace ringwall
