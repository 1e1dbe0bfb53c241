// Robust lists: the locks that a task held when it ended. The list is in guest memory and so may say
// anything; it is followed for a bounded while. Compare Linux kernel/futex/core.c:exit_robust_list().
#include <linux/futex.h>

#include "sentry/kernel/futex.h"

namespace ringwall {

namespace {

// struct robust_list_head.
struct RobustListHead {
  uint64_t next;
  int64_t futex_offset;
  uint64_t list_op_pending;
};

// A pointer of the list: its lowest bit says that the lock is a PI one.
struct Entry {
  GuestAddr addr;
  bool pi;
};

Entry Decode(uint64_t raw) { return {GuestAddr(raw & ~uint64_t{1}), (raw & 1) != 0}; }

GuestAddr FutexOf(const Entry& entry, int64_t offset) {
  return GuestAddr(entry.addr.value() + static_cast<uint64_t>(offset));
}

}  // namespace

// handle_futex_death().
bool FutexTable::HandleDeath(MemoryManager& mm, GuestAddr addr, bool pi, bool pending, int tid) {
  if (addr.value() % sizeof(uint32_t) != 0) return false;
  const FutexWord word{mm, addr, true};
  uint32_t seen = 0;
  if (!mm.CopyIn(addr, std::as_writable_bytes(std::span(&seen, 1))).ok()) return false;
  for (;;) {
    const uint32_t owner = seen & FUTEX_TID_MASK;
    if (pending && !pi && owner == 0) {
      // Died between giving the lock back and the wake.
      return Wake(word, 1, FUTEX_BITSET_MATCH_ANY).ok();
    }
    if (owner != static_cast<uint32_t>(tid)) return true;
    const uint32_t dead = (seen & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    const Result<uint32_t> old = mm.address_space().CompareExchange(addr, seen, dead);
    if (!old.ok()) return false;
    if (*old != seen) {
      seen = *old;
      continue;
    }
    // PI waiters are woken by ExitPi.
    if (!pi && (seen & FUTEX_WAITERS) != 0) return Wake(word, 1, FUTEX_BITSET_MATCH_ANY).ok();
    return true;
  }
}

void FutexTable::ExitRobustList(MemoryManager& mm, GuestAddr head_addr, int tid) {
  if (head_addr.IsNull()) return;
  RobustListHead head;
  if (!mm.CopyIn(head_addr, std::as_writable_bytes(std::span(&head, 1))).ok()) return;
  const Entry pending = Decode(head.list_op_pending);
  Entry entry = Decode(head.next);
  for (int left = ROBUST_LIST_LIMIT; left > 0 && entry.addr != head_addr; --left) {
    // The next one first: the entry may be gone once its lock is let go.
    uint64_t raw = 0;
    const bool more = mm.CopyIn(entry.addr, std::as_writable_bytes(std::span(&raw, 1))).ok();
    if (entry.addr != pending.addr &&
        !HandleDeath(mm, FutexOf(entry, head.futex_offset), entry.pi, false, tid)) {
      return;
    }
    if (!more) return;
    entry = Decode(raw);
  }
  if (!pending.addr.IsNull()) {
    HandleDeath(mm, FutexOf(pending, head.futex_offset), pending.pi, true, tid);
  }
}

}  // namespace ringwall
