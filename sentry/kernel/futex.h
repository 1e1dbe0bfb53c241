// The futex table of the sandbox (kernel/futex/). It never blocks: a caller queues a FutexWaiter, waits
// as it likes, and takes the waiter back with Finish, so that every wait can be interrupted and begun
// anew. Private waits and wakes of one process may be answered by its stub alone; the table is for
// all the others, and for all of them when it does not.
//
// A bucket's lock is held while the guest's word is looked at and changed, as on Linux: a wake that
// follows a store cannot miss a waiter that saw the old value. Lock order: kMm, kFutex, kAddressSpace.
#ifndef RINGWALL_SENTRY_KERNEL_FUTEX_H_
#define RINGWALL_SENTRY_KERNEL_FUTEX_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "sentry/base/guest_addr.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/mm/memory_manager.h"

namespace ringwall {

// What two tasks must have in common to meet: the address in one map, or the place in a file.
struct FutexKey {
  enum class Kind : uint8_t { kPrivate, kSharedMm, kSharedFile };
  Kind kind = Kind::kPrivate;
  const void* object = nullptr;  // the MemoryManager or the Inode
  uint64_t offset = 0;           // the address, or the offset in the file
  friend bool operator==(const FutexKey&, const FutexKey&) = default;
};

// A word as a call names it: whose memory, where, and whether other processes may use it (no
// FUTEX_PRIVATE_FLAG).
struct FutexWord {
  MemoryManager& mm;
  GuestAddr addr;
  bool shared = false;
};

class FutexTable;
class FutexWaiter;

struct FutexBucket {
  Mutex<LockClass::kFutex> mu;
  FutexWaiter* head GUARDED_BY(mu) = nullptr;
  FutexWaiter* tail GUARDED_BY(mu) = nullptr;
};

// One wait of one task. Must be out of the table (Finish) before it is destroyed.
class FutexWaiter {
 public:
  FutexWaiter() = default;
  virtual ~FutexWaiter();
  FutexWaiter(const FutexWaiter&) = delete;
  FutexWaiter& operator=(const FutexWaiter&) = delete;
  // Called once, with the bucket's lock held: may only wake a thread.
  virtual void OnWake() = 0;
  // Whether the wait is over. For LockPi: the lock is this waiter's.
  bool woken() const { return woken_.load(std::memory_order_acquire); }
  // Whether a waiter of WaitRequeuePi came to wait for the lock. Preconditions: Finish was called.
  bool moved_to_lock() const { return moved_to_lock_; }

 private:
  friend class FutexTable;
  std::atomic<FutexBucket*> bucket_{nullptr};  // the last one it was in
  // Under the bucket's lock.
  bool queued_ = false;
  FutexWaiter* next_ = nullptr;
  FutexWaiter* prev_ = nullptr;
  FutexKey key_;
  RefPtr<RefCountedBase> keeps_;  // keeps the key's object alive
  uint32_t bitset_ = 0;
  std::atomic<bool> woken_{false};
  // Of waiters for a lock, or that will be moved to one.
  int pi_tid_ = 0;            // who gets the lock; 0: not a PI waiter
  int pi_owner_ = 0;          // who holds it
  bool requeue_pi_ = false;   // FUTEX_WAIT_REQUEUE_PI, not moved yet
  bool moved_to_lock_ = false;  // and moved
  FutexKey pi_key_;           // where it will be moved
  RefPtr<RefCountedBase> pi_keeps_;
  RefPtr<MemoryManager> pi_mm_;
  GuestAddr pi_addr_;
};

// What the owner of a PI lock is, for the one that finds its number in the word.
enum class FutexOwner : uint8_t { kAlive, kExiting, kGone };

class FutexTable {
 public:
  FutexTable();
  ~FutexTable();

  // --- FUTEX_WAIT, WAIT_BITSET. After OK the waiter is queued. EAGAIN when the word is not
  // `expected`; EINVAL for an odd address or an empty bitset; EFAULT.
  Result<void> Wait(FutexWaiter& w, const FutexWord& word, uint32_t expected, uint32_t bitset);
  // Takes the waiter out. True when it was woken before, or has got the lock it waits for: then
  // the wait succeeded whatever else ended it. Does nothing to a waiter that was never queued.
  bool Finish(FutexWaiter& w);

  // futex_waitv: queues all or none. -1, or the index of one that was woken before all were queued:
  // then none is. EAGAIN, EINVAL, EFAULT.
  struct WaitvEntry {
    FutexWord word;
    uint32_t expected = 0;
  };
  Result<int> WaitMultiple(std::span<FutexWaiter* const> waiters,
                           std::span<const WaitvEntry> entries);

  // --- FUTEX_WAKE, WAKE_BITSET: how many were woken. EINVAL when PI waiters are there.
  Result<int> Wake(const FutexWord& word, int count, uint32_t bitset);
  // FUTEX_WAKE_OP: the operation on `second`, wakes on both.
  Result<int> WakeOp(const FutexWord& first, const FutexWord& second, int count, int second_count,
                     uint32_t op);
  // FUTEX_REQUEUE and, with `expected`, CMP_REQUEUE: woken and moved together.
  Result<int> Requeue(const FutexWord& from, const FutexWord& to, int wake, int move,
                      std::optional<uint32_t> expected);

  // --- Priority-inheritance locks (no priority is inherited: guests run at one).
  // Tells what becomes of an owner found in the word. Called with a bucket's lock held.
  using OwnerLook = std::function<FutexOwner(int tid)>;
  // FUTEX_LOCK_PI, TRYLOCK_PI. True: `tid` has the lock. False: queued (never with `try_only`,
  // which says EAGAIN). EDEADLK, ESRCH, EINVAL, EFAULT; kExiting owners: EBUSY, look again later.
  Result<bool> LockPi(FutexWaiter& w, const FutexWord& word, int tid, bool try_only,
                      const OwnerLook& look);
  // FUTEX_UNLOCK_PI. EPERM when tid is not the owner.
  Result<void> UnlockPi(const FutexWord& word, int tid);
  // FUTEX_WAIT_REQUEUE_PI: like Wait on `word`; woken once `tid` has the lock `lock`. EINVAL when
  // they are the same.
  Result<void> WaitRequeuePi(FutexWaiter& w, const FutexWord& word, uint32_t expected,
                             uint32_t bitset, const FutexWord& lock, int tid);
  // FUTEX_CMP_REQUEUE_PI.
  Result<int> RequeuePi(const FutexWord& from, const FutexWord& lock, int wake, int move,
                        uint32_t expected, const OwnerLook& look);

  // --- The end of a task: its robust list, then the PI locks it holds.
  void ExitRobustList(MemoryManager& mm, GuestAddr head, int tid);
  void ExitPi(int tid);

 private:
  struct Located {
    FutexKey key;
    RefPtr<RefCountedBase> keeps;
  };
  // References that must not be dropped with a bucket's lock held.
  using Dropped = std::vector<RefPtr<RefCountedBase>>;
  static constexpr size_t kBuckets = 256;
  // How often a word's page is brought in for one call before EFAULT.
  static constexpr int kMaxFaults = 64;

  static Result<Located> Locate(const FutexWord& word);
  FutexBucket& BucketOf(const FutexKey& key);
  // The word, without bringing its page in: for use under a bucket's lock.
  static Result<uint32_t> Peek(const FutexWord& word);
  // Brings the page in after an EFAULT, as a plain access would. EFAULT when that is no help.
  static Result<void> FaultIn(const FutexWord& word, int* tries);

  static void Queue(FutexBucket& b, FutexWaiter& w, const Located& at, uint32_t bitset)
      REQUIRES(b.mu);
  static void Unlink(FutexBucket& b, FutexWaiter& w) REQUIRES(b.mu);
  void WakeWaiter(FutexBucket& b, FutexWaiter& w) REQUIRES(b.mu);
  Result<int> WakeIn(FutexBucket& b, const FutexKey& key, int count, uint32_t bitset)
      REQUIRES(b.mu);
  static FutexWaiter* First(FutexBucket& b, const FutexKey& key) REQUIRES(b.mu);
  static void Move(FutexBucket& from, FutexBucket& to, FutexWaiter& w, const Located& at,
                   Dropped* dropped) REQUIRES(from.mu, to.mu);
  Result<int> RequeueIn(FutexBucket& from, FutexBucket& to, const FutexKey& key,
                        const Located& target, int wake, int move, Dropped* dropped)
      REQUIRES(from.mu, to.mu);

  // True: the word names `tid` as owner now. False: `*owner` has it, and the word says that somebody
  // waits.
  static Result<bool> TakePi(FutexBucket& b, const FutexKey& key, const FutexWord& word, int tid,
                             bool set_waiters, const OwnerLook& look, int* owner) REQUIRES(b.mu);
  // Makes `next` the owner, whose number the word has by now, and wakes it.
  void HandOver(FutexBucket& b, FutexWaiter& next) REQUIRES(b.mu);
  Result<int> RequeuePiIn(FutexBucket& from, FutexBucket& to, const FutexKey& key,
                          const Located& target, const FutexWord& lock, int move,
                          const OwnerLook& look, Dropped* dropped) REQUIRES(from.mu, to.mu);
  // One entry of a robust list. False: the list is not worth going on with.
  bool HandleDeath(MemoryManager& mm, GuestAddr addr, bool pi, bool pending, int tid);

  const std::unique_ptr<FutexBucket[]> buckets_;
  std::atomic<int> pi_waiters_{0};  // in all buckets
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_FUTEX_H_
