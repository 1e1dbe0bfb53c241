#include "platform/systrap/systrap_core.h"

#include <elf.h>
#include <sched.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include <algorithm>

#include "platform/systrap/systrap_context.h"
#include "sentry/base/bulk_work.h"

namespace ringwall {
namespace {

// Looks a function up in this process's vDSO, which is the same image as the stubs': its offset.
uint64_t VdsoOffset(const char* name) {
  const uint64_t base = ::getauxval(AT_SYSINFO_EHDR);
  if (base == 0) return 0;
  // SAFETY: the host kernel's own image, mapped for as long as the process lives; guests never see
  // this mapping.
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
  const auto* segments = reinterpret_cast<const Elf64_Phdr*>(base + header->e_phoff);
  const Elf64_Dyn* dynamic = nullptr;
  uint64_t bias = base;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == PT_LOAD) bias = base + segments[i].p_offset - segments[i].p_vaddr;
    if (segments[i].p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const Elf64_Dyn*>(base + segments[i].p_offset);
    }
  }
  const Elf64_Sym* symbols = nullptr;
  const char* names = nullptr;
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
    if (dynamic->d_tag == DT_SYMTAB) {
      symbols = reinterpret_cast<const Elf64_Sym*>(bias + dynamic->d_un.d_ptr);
    }
    if (dynamic->d_tag == DT_STRTAB) {
      names = reinterpret_cast<const char*>(bias + dynamic->d_un.d_ptr);
    }
  }
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(base + header->e_shoff);
  if (symbols == nullptr || names == nullptr || header->e_shoff == 0) return 0;
  uint64_t count = 0;
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type == SHT_DYNSYM) count = sections[i].sh_size / sizeof(Elf64_Sym);
  }
  for (uint64_t i = 0; i < count; ++i) {
    if (strcmp(names + symbols[i].st_name, name) == 0) {
      return symbols[i].st_value + bias - base;
    }
  }
  return 0;
}

}  // namespace

SystrapCore::SystrapCore(Ref<StubHost> host) : host_(std::move(host)) {}

HostResult<void> SystrapCore::Init() {
  TRY(regions_.Init());
  TRY(trampolines_.Init(host_->header().systrap_patched));
  cycles_per_us_ = CyclesPerUs();
  if (::sched_getaffinity(0, sizeof all_cpus_, &all_cpus_) == 0) {
    cpus_ = static_cast<uint32_t>(CPU_COUNT(&all_cpus_));
  }
  const GuestRange vdso = host_->vdso();
  const auto address = [&](const char* name) -> uint64_t {
    const uint64_t offset = vdso.empty() ? 0 : VdsoOffset(name);
    return offset == 0 || offset >= vdso.size() ? 0 : vdso.start.value() + offset;
  };
  vdso_ = {address("__vdso_clock_gettime"), address("__vdso_gettimeofday"), address("__vdso_time")};
  return {};
}

void SystrapCore::Add(SystrapContext* context) {
  MutexLock lock(mu_);
  contexts_.insert(context);
}

void SystrapCore::Remove(SystrapContext* context) {
  MutexLock lock(mu_);
  contexts_.erase(context);
  context->AddTo(ended_);
}

void SystrapCore::NoteEnding(const SystrapContext& context, uint64_t age_tsc) {
  constexpr uint64_t kSoonUs = 1'000;
  MutexLock lock(mu_);
  const bool alone = age_tsc <= kSoonUs * cycles_per_us_ && contexts_.size() <= 4 * cpus_ &&
                     std::none_of(contexts_.begin(), contexts_.end(), [&](const SystrapContext* other) {
                       return other != &context && other->active();
                     });
  turns_.store(alone ? std::min(turns_.load() + 1, kTurns) : 0);
}

PlatformStats SystrapCore::Stats() const {
  MutexLock lock(mu_);
  PlatformStats stats = ended_;
  stats.views = views_.load(std::memory_order_relaxed);
  for (const SystrapContext* context : contexts_) context->AddTo(stats);
  return stats;
}

bool SystrapCore::MaySpin(uint64_t now_tsc, const SystrapContext& asks, bool at_once) {
  uint64_t next = next_look_.load(std::memory_order_relaxed);
  if (now_tsc < next && !at_once) return may_spin();
  const uint64_t interval = 200 * cycles_per_us_;
  if (!next_look_.compare_exchange_strong(next, now_tsc + interval)) return may_spin();
  MutexLock lock(mu_);
  constexpr uint64_t kBulkUs = 500;
  uint32_t active = BulkWork::Since(now_tsc - kBulkUs * cycles_per_us_) ? 1 : 0;
  const auto count = [&](const SystrapContext* c) { active += c == &asks || c->active() ? 1 : 0; };
  if (contexts_.size() <= 4 * cpus_) {
    for (const SystrapContext* context : contexts_) count(context);
  } else {
    // Counting many would cost more than it brings.
    if (now_tsc < many_until_) return may_spin();
    for (const SystrapContext* context : contexts_) {
      count(context);
      if (active > cpus_) break;
    }
    many_until_ = now_tsc + contexts_.size() * 10 * cycles_per_us_;
  }
  crowded_.store(active > cpus_, std::memory_order_relaxed);
  may_spin_.store(2 * active <= cpus_, std::memory_order_relaxed);
  return may_spin();
}

}  // namespace ringwall
