#include "fs/vfs/epoch.h"

#include <atomic>
#include <cstdint>
#include <vector>

#include "sentry/base/mutex.h"

namespace ringwall {

namespace {

// One per thread that ever held a guard; reused by later threads, never freed.
struct alignas(64) Slot {
  std::atomic<uint64_t> epoch{0};  // 0: no guard held
  std::atomic<bool> used{true};
  int depth = 0;  // of nested guards; the owner's
  Slot* next = nullptr;
};

struct Retired {
  const void* object;
  void (*destroy)(const void*);
  uint64_t epoch;
};

struct State {
  std::atomic<uint64_t> epoch{1};
  std::atomic<Slot*> slots{nullptr};
  std::atomic<size_t> waiting{0};
  Mutex<LockClass::kLeaf> mu;
  std::vector<Retired> retired GUARDED_BY(mu);
};

State& state() {
  static State* s = new State;
  return *s;
}

class ThreadSlot {
 public:
  ThreadSlot() {
    State& s = state();
    for (Slot* slot = s.slots.load(std::memory_order_acquire); slot != nullptr; slot = slot->next) {
      bool free = false;
      if (slot->used.compare_exchange_strong(free, true)) {
        slot_ = slot;
        return;
      }
    }
    slot_ = new Slot;
    slot_->next = s.slots.load(std::memory_order_relaxed);
    while (!s.slots.compare_exchange_weak(slot_->next, slot_, std::memory_order_acq_rel)) {
    }
  }
  ~ThreadSlot() { slot_->used.store(false, std::memory_order_release); }
  Slot* get() const { return slot_; }

 private:
  Slot* slot_;
};

// A plain pointer first: a thread_local with a constructor is checked at each use.
thread_local Slot* my_slot = nullptr;
thread_local bool reclaiming = false;

Slot* FindSlot() {
  thread_local ThreadSlot owner;
  my_slot = owner.get();
  return my_slot;
}

void Reclaim() {
  if (reclaiming) return;  // the outer call takes it
  reclaiming = true;
  State& s = state();
  for (;;) {
    uint64_t oldest = UINT64_MAX;
    std::vector<Retired> ready;
    {
      MutexLock lock(s.mu);
      for (Slot* slot = s.slots.load(std::memory_order_acquire); slot != nullptr;
           slot = slot->next) {
        const uint64_t e = slot->epoch.load(std::memory_order_seq_cst);
        if (e != 0 && e < oldest) oldest = e;
      }
      size_t kept = 0;
      for (const Retired& r : s.retired) {
        if (r.epoch < oldest) {
          ready.push_back(r);
        } else {
          s.retired[kept++] = r;
        }
      }
      s.retired.resize(kept);
      s.waiting.store(kept, std::memory_order_relaxed);
    }
    if (ready.empty()) break;
    for (const Retired& r : ready) r.destroy(r.object);
  }
  reclaiming = false;
}

}  // namespace

EpochGuard::EpochGuard() {
  Slot* slot = my_slot != nullptr ? my_slot : FindSlot();
  if (slot->depth++ != 0) return;
  // A full barrier: the reads that follow may not move before it.
  slot->epoch.exchange(state().epoch.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
}

EpochGuard::~EpochGuard() {
  Slot* slot = my_slot;
  if (--slot->depth != 0) return;
  slot->epoch.store(0, std::memory_order_release);
  if (__builtin_expect(state().waiting.load(std::memory_order_relaxed) != 0, 0)) Reclaim();
}

void EpochRetire(const void* object, void (*destroy)(const void*)) {
  State& s = state();
  {
    MutexLock lock(s.mu);
    s.retired.push_back({object, destroy, s.epoch.fetch_add(1, std::memory_order_seq_cst)});
    s.waiting.store(s.retired.size(), std::memory_order_relaxed);
  }
  Reclaim();
}

}  // namespace ringwall
