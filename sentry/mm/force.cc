// Copies for a debugger (FOLL_FORCE of mm/gup.c): what a program's own protection forbids it may do
// all the same, where the mapping could be given that protection.
#include <sys/mman.h>

#include "sentry/mm/memory_manager.h"

namespace ringwall {

namespace {
// Another thread may change the protection in between.
constexpr int kTries = 3;
}  // namespace

// Opens the page at `addr` for `access`; false when Linux would not.
bool MemoryManager::OpenPage(GuestAddr addr, int access) {
  MutexLock lock(mu_);
  const Vma* vma = vmas_.Find(addr);
  if (vma == nullptr || (vma->prot & access) == access) return false;
  // A shared mapping's pages are everybody's: the force of a debugger ends there.
  if ((access & PROT_WRITE) != 0 && vma->shared) return false;
  if ((access & PROT_WRITE) == 0 && (vma->max_prot & access) != access) return false;
  const GuestRange page = {addr.PageDown(), addr.PageDown() + kPageSize};
  return as_->Protect(page, vma->prot | PROT_READ | access).ok();
}

// No lock was held during the copy, so what is there may have changed: its own protection counts.
void MemoryManager::ClosePage(GuestAddr addr) {
  MutexLock lock(mu_);
  const Vma* vma = vmas_.Find(addr);
  if (vma == nullptr) return;
  const GuestRange page = {addr.PageDown(), addr.PageDown() + kPageSize};
  Result<void> ignored = as_->Protect(page, vma->prot);
  static_cast<void>(ignored);
}

size_t MemoryManager::ForceRead(GuestAddr from, std::span<std::byte> to) {
  size_t done = 0;
  int tries = 0;
  while (done < to.size()) {
    const GuestAddr at = from + done;
    if (at < from) break;
    const size_t want = std::min<size_t>(to.size() - done, kPageSize - (at.value() & kPageMask));
    Result<size_t> n = CopyInPartial(at, to.subspan(done, want));
    if (!n.ok()) {
      if (++tries > kTries || !OpenPage(at, PROT_READ)) break;
      static_cast<void>(ServeFault(at, 0));
      n = CopyInPartial(at, to.subspan(done, want));
      ClosePage(at);
      if (!n.ok()) continue;
    }
    done += *n;
    tries = 0;
  }
  return done;
}

size_t MemoryManager::ForceWrite(GuestAddr to, std::span<const std::byte> from) {
  size_t done = 0;
  int tries = 0;
  while (done < from.size()) {
    const GuestAddr at = to + done;
    if (at < to) break;
    const size_t want = std::min<size_t>(from.size() - done, kPageSize - (at.value() & kPageMask));
    Result<size_t> n = CopyOutPartial(at, from.subspan(done, want));
    if (!n.ok()) {
      if (++tries > kTries || !OpenPage(at, PROT_WRITE)) break;
      static_cast<void>(ServeFault(at, 0));
      n = CopyOutPartial(at, from.subspan(done, want));
      ClosePage(at);
      if (!n.ok()) continue;
    }
    done += *n;
    tries = 0;
  }
  return done;
}

}  // namespace ringwall
