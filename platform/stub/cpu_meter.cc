#include "platform/stub/cpu_meter.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace ringwall {
namespace {

uint64_t ReadNs(clockid_t clock) {
  timespec t;
  if (::clock_gettime(clock, &t) != 0) return 0;
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

template <typename T>
T LoadHostile(const T* at) {
  return at == nullptr ? 0 : __atomic_load_n(at, __ATOMIC_RELAXED);
}

uint64_t Since(uint64_t from, uint64_t now) { return now > from ? now - from : 0; }

uint64_t Part(uint64_t of, double ratio) { return static_cast<uint64_t>(static_cast<double>(of) * ratio); }

uint64_t MeasureCyclesPerUs() {
  constexpr uint64_t kNs = 50'000;
  const uint64_t from_ns = ReadNs(CLOCK_MONOTONIC), from = __builtin_ia32_rdtsc();
  uint64_t ns;
  while ((ns = ReadNs(CLOCK_MONOTONIC) - from_ns) < kNs) {
  }
  return std::max<uint64_t>(1, (__builtin_ia32_rdtsc() - from) * 1000 / ns);
}

}  // namespace

uint64_t CyclesPerUs() {
  static const uint64_t measured = MeasureCyclesPerUs();
  return measured;
}

CpuMeter::CpuMeter(uint64_t cycles_per_us, HostWaits waits)
    : cycles_per_us_(cycles_per_us), waits_(waits), from_(__builtin_ia32_rdtsc()), taken_waits_(LoadHostile(waits.total)) {}

void CpuMeter::Bind() {
  bound_ = true;
  if (::pthread_getcpuclockid(::pthread_self(), &clock_) != 0) return;
  clock_start_ = ReadNs(clock_);
  has_clock_.store(true, std::memory_order_release);
}

uint64_t CpuMeter::TakeRun(uint64_t now) {
  constexpr auto kGuest = static_cast<uint8_t>(In::kGuest);
  uint64_t run = spent_[kGuest].load(std::memory_order_relaxed) + spun_.load(std::memory_order_relaxed);
  uint64_t waited = LoadHostile(waits_.total);
  if (in_.load(std::memory_order_relaxed) == In::kGuest) {
    run += Since(from(), now);
    if (LoadHostile(waits_.waiting) != 0) waited += Since(LoadHostile(waits_.since), now);
  }
  const uint64_t ran = Since(taken_run_, run), slept = Since(taken_waits_, waited);
  taken_run_ = std::max(taken_run_, run);
  taken_waits_ = waited;
  return Since(slept, ran);
}

CpuTimes CpuMeter::Show(uint64_t now) {
  // Below this a spin of the stub beside it is not told from work.
  constexpr uint64_t kSpinUs = 20;
  // The clock confirms what the time stamps say, which count what others have run meanwhile.
  constexpr uint64_t kUnconfirmedNs = 1'000'000;
  uint64_t sentry = spent_[static_cast<uint8_t>(In::kSentry)].load(std::memory_order_relaxed);
  if (in_.load(std::memory_order_relaxed) == In::kSentry) sentry += Since(kSpinUs * cycles_per_us_, Since(from(), now));
  const uint64_t spins = spun_.load(std::memory_order_relaxed);
  uint64_t sentry_ns = Nanoseconds(Since(seen_sentry_, sentry)), spins_ns = Nanoseconds(Since(seen_spins_, spins));
  if (sentry_ns > kUnconfirmedNs && has_clock_.load(std::memory_order_acquire)) {
    const uint64_t clock = Since(clock_start_, ReadNs(clock_));
    const uint64_t ran = Since(seen_clock_, clock);
    if (ran < sentry_ns) {
      spins_ns = Part(spins_ns, static_cast<double>(ran) / static_cast<double>(sentry_ns));
      sentry_ns = ran;
    }
    sentry_ns_ += std::exchange(sentry_ns, 0), spins_ns_ += std::exchange(spins_ns, 0);
    seen_sentry_ = std::max(seen_sentry_, sentry), seen_spins_ = spins, seen_clock_ = std::max(seen_clock_, clock);
  }
  shown_.user_ns = std::max(shown_.user_ns, Since(spins_ns_ + spins_ns, stub_user_ns_));
  shown_.system_ns = std::max(shown_.system_ns, stub_system_ns_ + sentry_ns_ + sentry_ns);
  return shown_;
}

void CpuShares::Remove(CpuMeter* meter) { std::erase(meters_, meter); }

CpuTimes CpuShares::Read(CpuMeter& meter, const CpuTimes& total, uint64_t now) {
  // Looking at each thread for each reader would make a sum over all of them quadratic.
  constexpr uint64_t kWorthNs = 200;
  const uint64_t user = Since(total_.user_ns, total.user_ns), system = Since(total_.system_ns, total.system_ns);
  if (meters_.size() <= 1 || user + system >= kWorthNs * meters_.size()) {
    Divide(meter, user, system, now);
    total_.user_ns += user, total_.system_ns += system;
  }
  return meter.Show(now);
}

void CpuShares::Divide(CpuMeter& reader, uint64_t user, uint64_t system, uint64_t now) {
  if (meters_.size() <= 1) {
    reader.TakeRun(now);
    reader.stub_user_ns_ += user, reader.stub_system_ns_ += system;
    return;
  }
  std::vector<uint64_t> runs;
  uint64_t all = 0, most = 0;
  CpuMeter* rest = &reader;
  for (CpuMeter* m : meters_) {
    const uint64_t run = m->TakeRun(now);
    runs.push_back(run);
    all += run;
    if (run > most) most = run, rest = m;
  }
  uint64_t user_left = user, system_left = system;
  for (size_t i = 0; i < runs.size() && all != 0; ++i) {
    const double ratio = static_cast<double>(runs[i]) / static_cast<double>(all);
    const uint64_t u = std::min(user_left, Part(user, ratio)), s = std::min(system_left, Part(system, ratio));
    meters_[i]->stub_user_ns_ += u, meters_[i]->stub_system_ns_ += s;
    user_left -= u, system_left -= s;
  }
  rest->stub_user_ns_ += user_left, rest->stub_system_ns_ += system_left;
}

}  // namespace ringwall
