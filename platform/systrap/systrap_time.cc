// What a guest thread's time is, in the events of the hand-over.
#include <algorithm>

#include "platform/systrap/systrap_context.h"

namespace ringwall {

void SystrapContext::NoteStubSpin(bool gave_up) {
  const uint64_t since = __builtin_ia32_rdtsc() - meter_.from();
  meter_.NoteSpin(gave_up ? std::min<uint64_t>(since, spin_limit_) : since);
}

void SystrapContext::NoteAsleep(bool asleep) {
  meter_.Enter(asleep ? CpuMeter::In::kAsleep : CpuMeter::In::kSentry, __builtin_ia32_rdtsc());
}

void SystrapContext::CpuTime(uint64_t* user_ns, uint64_t* system_ns) {
  const CpuTimes times = as_->ReadMeter(meter_);
  *user_ns = times.user_ns;
  *system_ns = times.system_ns;
}

}  // namespace ringwall
