// Waiting, waking and requeueing. Compare Linux kernel/futex/waitwake.c and requeue.c.
#include "sentry/kernel/futex.h"

#include <linux/futex.h>
#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "sentry/base/check.h"
#include "sentry/kernel/late_wakes.h"

namespace ringwall {

FutexWaiter::~FutexWaiter() { RW_CHECK(!queued_); }

FutexTable::FutexTable() : buckets_(new FutexBucket[kBuckets]) {}
FutexTable::~FutexTable() = default;

// get_futex_key().
Result<FutexTable::Located> FutexTable::Locate(const FutexWord& word) {
  if (word.addr.value() % sizeof(uint32_t) != 0) return Errno(EINVAL);
  if (word.addr >= kTaskSize) return Errno(EFAULT);
  if (!word.shared) {
    return Located{{FutexKey::Kind::kPrivate, &word.mm, word.addr.value()},
                   RefPtr<RefCountedBase>(&word.mm)};
  }
  // A shared futex is named by its page, which must be there.
  uint32_t value = 0;
  TRY(word.mm.CopyIn(word.addr, std::as_writable_bytes(std::span(&value, 1))));
  const std::optional<Vma> vma = word.mm.Find(word.addr);
  if (!vma || vma->prot == 0) return Errno(EFAULT);
  // A page of one's own that cannot change makes no sense as a futex.
  if (!vma->shared && !vma->file && (vma->prot & PROT_WRITE) == 0) return Errno(EFAULT);
  if (!vma->shared || !vma->file) {
    return Located{{FutexKey::Kind::kSharedMm, &word.mm, word.addr.value()},
                   RefPtr<RefCountedBase>(&word.mm)};
  }
  Inode& inode = vma->file->inode();
  const uint64_t offset = vma->offset + (word.addr - vma->range.start);
  return Located{{FutexKey::Kind::kSharedFile, &inode, offset}, RefPtr<RefCountedBase>(&inode)};
}

FutexBucket& FutexTable::BucketOf(const FutexKey& key) {
  uint64_t h = std::hash<const void*>{}(key.object) / 16 + key.offset / sizeof(uint32_t);
  h *= 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
  return buckets_[(h >> 32) % kBuckets];
}

Result<uint32_t> FutexTable::Peek(const FutexWord& word) {
  uint32_t value = 0;
  const size_t n = TRY(
      word.mm.address_space().Read(word.addr, std::as_writable_bytes(std::span(&value, 1))));
  if (n != sizeof(value)) return Errno(EFAULT);
  return value;
}

Result<void> FutexTable::FaultIn(const FutexWord& word, int* tries) {
  // Another thread may unmap the word again and again; that is its own loss.
  if (++*tries > kMaxFaults) return Errno(EFAULT);
  uint32_t value = 0;
  return word.mm.CopyIn(word.addr, std::as_writable_bytes(std::span(&value, 1)));
}

void FutexTable::Queue(FutexBucket& b, FutexWaiter& w, const Located& at, uint32_t bitset) {
  RW_DCHECK(!w.queued_);
  w.key_ = at.key;
  w.keeps_ = at.keeps;
  w.bitset_ = bitset;
  w.woken_.store(false, std::memory_order_relaxed);
  w.next_ = nullptr;
  w.prev_ = b.tail;
  (b.tail != nullptr ? b.tail->next_ : b.head) = &w;
  b.tail = &w;
  w.queued_ = true;
  w.bucket_.store(&b, std::memory_order_release);
}

void FutexTable::Unlink(FutexBucket& b, FutexWaiter& w) {
  (w.prev_ != nullptr ? w.prev_->next_ : b.head) = w.next_;
  (w.next_ != nullptr ? w.next_->prev_ : b.tail) = w.prev_;
  w.queued_ = false;
}

void FutexTable::WakeWaiter(FutexBucket& b, FutexWaiter& w) {
  Unlink(b, w);
  if (w.pi_tid_ != 0) pi_waiters_.fetch_sub(1, std::memory_order_relaxed);
  w.woken_.store(true, std::memory_order_release);
  // The waiter cannot go away before this lock is given back: Finish takes it.
  w.OnWake();
}

FutexWaiter* FutexTable::First(FutexBucket& b, const FutexKey& key) {
  FutexWaiter* w = b.head;
  while (w != nullptr && !(w->key_ == key)) w = w->next_;
  return w;
}

Result<void> FutexTable::Wait(FutexWaiter& w, const FutexWord& word, uint32_t expected,
                              uint32_t bitset) {
  if (bitset == 0) return Errno(EINVAL);
  const Located at = TRY(Locate(word));
  FutexBucket& b = BucketOf(at.key);
  for (int tries = 0;;) {
    {
      MutexLock lock(b.mu);
      const Result<uint32_t> value = Peek(word);
      if (value.ok()) {
        if (*value != expected) return Errno(EAGAIN);
        Queue(b, w, at, bitset);
        return {};
      }
    }
    TRY(FaultIn(word, &tries));
  }
}

bool FutexTable::Finish(FutexWaiter& w) {
  RefPtr<RefCountedBase> keeps, pi_keeps;
  RefPtr<MemoryManager> pi_mm;
  for (;;) {
    FutexBucket* b = w.bucket_.load(std::memory_order_acquire);
    if (b == nullptr) return false;
    MutexLock lock(b->mu);
    if (w.bucket_.load(std::memory_order_relaxed) != b) continue;  // moved meanwhile
    if (w.queued_) {
      Unlink(*b, w);
      if (w.pi_tid_ != 0) pi_waiters_.fetch_sub(1, std::memory_order_relaxed);
    }
    w.bucket_.store(nullptr, std::memory_order_relaxed);
    w.pi_tid_ = w.pi_owner_ = 0;
    w.requeue_pi_ = false;
    std::swap(keeps, w.keeps_);
    std::swap(pi_keeps, w.pi_keeps_);
    std::swap(pi_mm, w.pi_mm_);
    return w.woken();
  }
}

Result<int> FutexTable::WaitMultiple(std::span<FutexWaiter* const> waiters,
                                     std::span<const WaitvEntry> entries) {
  RW_CHECK(waiters.size() == entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    const Result<void> queued =
        Wait(*waiters[i], entries[i].word, entries[i].expected, FUTEX_BITSET_MATCH_ANY);
    if (queued.ok()) continue;
    int woken = -1;
    for (size_t k = 0; k < i; ++k) {
      if (Finish(*waiters[k]) && woken < 0) woken = static_cast<int>(k);
    }
    if (woken >= 0) return woken;
    return queued.error();
  }
  return -1;
}

Result<int> FutexTable::WakeIn(FutexBucket& b, const FutexKey& key, int count, uint32_t bitset) {
  int woken = 0;
  FutexWaiter* next = nullptr;
  for (FutexWaiter* w = b.head; w != nullptr; w = next) {
    next = w->next_;
    if (!(w->key_ == key)) continue;
    if (w->pi_tid_ != 0) return Errno(EINVAL);
    if ((w->bitset_ & bitset) == 0) continue;
    WakeWaiter(b, *w);
    if (++woken >= count) break;  // a count of 0 wakes one, as on Linux
  }
  return woken;
}

Result<int> FutexTable::Wake(const FutexWord& word, int count, uint32_t bitset) {
  if (bitset == 0) return Errno(EINVAL);
  const Located at = TRY(Locate(word));
  FutexBucket& b = BucketOf(at.key);
  const LateWakes late;
  MutexLock lock(b.mu);
  return WakeIn(b, at.key, count, bitset);
}

namespace {

int32_t SignExtend12(uint32_t v) { return static_cast<int32_t>(v << 20) >> 20; }

Result<uint32_t> Operate(uint32_t op, uint32_t old, uint32_t arg) {
  switch (op) {
    case FUTEX_OP_SET: return arg;
    case FUTEX_OP_ADD: return old + arg;
    case FUTEX_OP_OR: return old | arg;
    case FUTEX_OP_ANDN: return old & ~arg;
    case FUTEX_OP_XOR: return old ^ arg;
    default: return Errno(ENOSYS);
  }
}

Result<bool> Compare(uint32_t cmp, int32_t old, int32_t arg) {
  switch (cmp) {
    case FUTEX_OP_CMP_EQ: return old == arg;
    case FUTEX_OP_CMP_NE: return old != arg;
    case FUTEX_OP_CMP_LT: return old < arg;
    case FUTEX_OP_CMP_LE: return old <= arg;
    case FUTEX_OP_CMP_GT: return old > arg;
    case FUTEX_OP_CMP_GE: return old >= arg;
    default: return Errno(ENOSYS);
  }
}

// futex_atomic_op_inuser(): changes the word; whether its old value passes the comparison.
Result<bool> AtomicOp(const FutexWord& word, uint32_t encoded) {
  uint32_t arg = static_cast<uint32_t>(SignExtend12((encoded >> 12) & 0xfff));
  if ((encoded & (uint32_t{FUTEX_OP_OPARG_SHIFT} << 28)) != 0) arg = uint32_t{1} << (arg & 31);
  const uint32_t op = (encoded >> 28) & 7;
  uint32_t old = 0;
  for (uint32_t seen = 0;;) {
    const uint32_t desired = TRY(Operate(op, seen, arg));
    old = TRY(word.mm.address_space().CompareExchange(word.addr, seen, desired));
    if (old == seen) break;
    seen = old;
  }
  return Compare((encoded >> 24) & 15, static_cast<int32_t>(old), SignExtend12(encoded & 0xfff));
}

}  // namespace

Result<int> FutexTable::WakeOp(const FutexWord& first, const FutexWord& second, int count,
                               int second_count, uint32_t op) {
  const Located at = TRY(Locate(first));
  const Located second_at = TRY(Locate(second));
  FutexBucket& b1 = BucketOf(at.key);
  FutexBucket& b2 = BucketOf(second_at.key);
  for (int tries = 0;;) {
    {
      const LateWakes late;
      LockBoth lock(b1.mu, b2.mu);
      const Result<bool> passes = AtomicOp(second, op);
      if (passes.ok()) {
        int woken = TRY(WakeIn(b1, at.key, count, FUTEX_BITSET_MATCH_ANY));
        if (*passes) {
          const int more = TRY(WakeIn(b2, second_at.key, second_count, FUTEX_BITSET_MATCH_ANY));
          woken += more;
        }
        return woken;
      }
      if (!passes.error().Is(EFAULT)) return passes.error();
    }
    TRY(FaultIn(second, &tries));
  }
}

void FutexTable::Move(FutexBucket& from, FutexBucket& to, FutexWaiter& w, const Located& at,
                      Dropped* dropped) {
  dropped->push_back(std::exchange(w.keeps_, at.keeps));
  w.key_ = at.key;
  if (&from == &to) return;  // keeps its place
  Unlink(from, w);
  w.next_ = nullptr;
  w.prev_ = to.tail;
  (to.tail != nullptr ? to.tail->next_ : to.head) = &w;
  to.tail = &w;
  w.queued_ = true;
  w.bucket_.store(&to, std::memory_order_release);
}

Result<int> FutexTable::RequeueIn(FutexBucket& from, FutexBucket& to, const FutexKey& key,
                                  const Located& target, int wake, int move, Dropped* dropped) {
  int done = 0;
  FutexWaiter* next = nullptr;
  // Those moved within a bucket are met once only: nobody is put behind the last of now.
  FutexWaiter* const last = from.tail;
  for (FutexWaiter* w = from.head; w != nullptr; w = next) {
    next = w == last ? nullptr : w->next_;
    if (done - wake >= move) break;
    if (!(w->key_ == key)) continue;
    if (w->pi_tid_ != 0) return Errno(EINVAL);
    if (++done <= wake) {
      WakeWaiter(from, *w);
    } else {
      Move(from, to, *w, target, dropped);
    }
  }
  return done;
}

Result<int> FutexTable::Requeue(const FutexWord& from, const FutexWord& to, int wake, int move,
                                std::optional<uint32_t> expected) {
  if (wake < 0 || move < 0) return Errno(EINVAL);
  const Located at = TRY(Locate(from));
  const Located target = TRY(Locate(to));
  FutexBucket& b1 = BucketOf(at.key);
  FutexBucket& b2 = BucketOf(target.key);
  Dropped dropped;
  for (int tries = 0;;) {
    {
      const LateWakes late;
      LockBoth lock(b1.mu, b2.mu);
      const Result<uint32_t> value = expected ? Peek(from) : Result<uint32_t>(0u);
      if (value.ok()) {
        if (expected && *value != *expected) return Errno(EAGAIN);
        return RequeueIn(b1, b2, at.key, target, wake, move, &dropped);
      }
    }
    TRY(FaultIn(from, &tries));
  }
}

}  // namespace ringwall
