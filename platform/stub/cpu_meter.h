// Whose the processor time of a stub is, and how much of it the kernel's.
//
// The host tells of another process's time as a whole only. A meter notes when its guest thread ran, and
// the time that the host tells is divided in proportion. What the Sentry does for the thread is the
// thread's system time; what the stub spins while it waits for the Sentry is nobody's.
#ifndef RINGWALL_PLATFORM_STUB_CPU_METER_H_
#define RINGWALL_PLATFORM_STUB_CPU_METER_H_

#include <time.h>

#include <atomic>
#include <cstdint>
#include <vector>

namespace ringwall {

// Of the time stamp counter; measured once, for 50 us.
uint64_t CyclesPerUs();

struct CpuTimes {
  uint64_t user_ns = 0, system_ns = 0;
};

// Waits that a stub makes on the host by itself, as it notes them in hostile memory.
struct HostWaits {
  const uint32_t* waiting = nullptr;
  const uint64_t* since = nullptr;
  const uint64_t* total = nullptr;
};

// The events of one guest thread, told by the Sentry's thread that serves it. Moments are of the
// processor's time stamp counter.
class CpuMeter {
 public:
  enum class In : uint8_t { kGuest, kSentry, kAsleep };

  explicit CpuMeter(uint64_t cycles_per_us, HostWaits waits = {});

  // From now on the guest runs, or the Sentry for it, or neither.
  void Enter(In next, uint64_t now) {
    const In last = in_.load(std::memory_order_relaxed);
    std::atomic<uint64_t>& spent = spent_[static_cast<uint8_t>(last)];
    const uint64_t from = from_.load(std::memory_order_relaxed);
    if (now > from) spent.store(spent.load(std::memory_order_relaxed) + (now - from), std::memory_order_relaxed);
    from_.store(now, std::memory_order_relaxed);
    in_.store(next, std::memory_order_relaxed);
  }
  // When the last Enter was.
  uint64_t from() const { return from_.load(std::memory_order_relaxed); }
  // The stub has spun for so long until the Sentry's answer came.
  void NoteSpin(uint64_t cycles) {
    spun_.store(spun_.load(std::memory_order_relaxed) + cycles, std::memory_order_relaxed);
  }
  // The calling thread serves the guest thread from now on, and has not spent anything on it.
  void Bind();
  bool bound() const { return bound_; }

 private:
  friend class CpuShares;

  uint64_t Nanoseconds(uint64_t cycles) const { return cycles * 1000 / cycles_per_us_; }
  // Cycles that the stub's thread has run since the last call of this, as far as is known.
  uint64_t TakeRun(uint64_t now);
  // The shown times from what the stub has used, and the Sentry.
  CpuTimes Show(uint64_t now);

  const uint64_t cycles_per_us_;
  const HostWaits waits_;
  std::atomic<In> in_{In::kSentry};
  std::atomic<uint64_t> from_;
  std::atomic<uint64_t> spent_[3] = {};
  std::atomic<uint64_t> spun_{0};
  bool bound_ = false;  // the task's own thread
  std::atomic<bool> has_clock_{false};
  clockid_t clock_ = 0;        // processor time of the Sentry's thread
  uint64_t clock_start_ = 0;

  // CpuShares', under its user's lock. Counted so far: of the guest's cycles and spins, of its waits, ...
  uint64_t taken_run_ = 0, taken_waits_;
  uint64_t stub_user_ns_ = 0, stub_system_ns_ = 0;  // shares
  // ... of the Sentry's cycles and the spins, which its thread's clock has confirmed, in nanoseconds.
  uint64_t seen_sentry_ = 0, seen_spins_ = 0, seen_clock_ = 0;
  uint64_t sentry_ns_ = 0, spins_ns_ = 0;
  CpuTimes shown_;
};

// The meters of a stub's threads. Its user locks.
class CpuShares {
 public:
  void Add(CpuMeter* meter) { meters_.push_back(meter); }
  void Remove(CpuMeter* meter);
  // `total`: what the host says the stub has used. The times of one thread never go back; with the
  // stub's last thread all that is left is its own.
  CpuTimes Read(CpuMeter& meter, const CpuTimes& total, uint64_t now);

 private:
  void Divide(CpuMeter& reader, uint64_t user, uint64_t system, uint64_t now);

  std::vector<CpuMeter*> meters_;
  CpuTimes total_;
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_STUB_CPU_METER_H_
