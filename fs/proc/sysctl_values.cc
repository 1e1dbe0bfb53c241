// Sysctls that hold a value and, but for a few, nothing else: programs read them, and administrators'
// scripts write them and look whether it took (kernel/sysctl.c).
#include <array>
#include <atomic>
#include <string>

#include "fs/proc/internal.h"
#include "sentry/kernel/core_dump.h"
#include "sentry/kernel/kernel_log.h"
#include "sentry/mm/map_limits.h"

namespace ringwall::proc {

namespace {

enum class Dir : uint8_t { kKernel, kVm, kFs };

struct Value {
  Dir dir;
  const char* name;
  int64_t low, high;
  std::atomic<int64_t> value;
};

constexpr int64_t kAny = INT32_MAX;

// With Linux's ranges and its values at start.
Value g_values[] = {
    {Dir::kKernel, "auto_msgmni", 0, 1, 0},
    {Dir::kKernel, "bpf_stats_enabled", 0, 1, 0},
    {Dir::kKernel, "ctrl-alt-del", 0, kAny, 0},
    {Dir::kKernel, "hung_task_check_count", 0, kAny, 4194304},
    {Dir::kKernel, "hung_task_panic", 0, 1, 0},
    {Dir::kKernel, "hung_task_timeout_secs", 0, kAny, 120},
    {Dir::kKernel, "hung_task_warnings", -1, kAny, 10},
    {Dir::kKernel, "io_uring_disabled", 0, 2, 2},
    {Dir::kKernel, "io_uring_group", -1, kAny, -1},
    {Dir::kKernel, "kptr_restrict", 0, 2, 1},
    {Dir::kKernel, "max_lock_depth", INT32_MIN, kAny, 1024},
    {Dir::kKernel, "numa_balancing", 0, 3, 0},
    {Dir::kKernel, "oops_all_cpu_backtrace", 0, 1, 0},
    {Dir::kKernel, "oops_limit", 0, kAny, 10000},
    {Dir::kKernel, "panic", -kAny, kAny, 0},
    {Dir::kKernel, "panic_on_io_nmi", 0, kAny, 0},
    {Dir::kKernel, "panic_on_oops", 0, 1, 0},
    {Dir::kKernel, "panic_on_rcu_stall", 0, 1, 0},
    {Dir::kKernel, "panic_on_warn", 0, 1, 0},
    {Dir::kKernel, "panic_print", 0, kAny, 0},
    {Dir::kKernel, "perf_cpu_time_max_percent", 0, 100, 25},
    {Dir::kKernel, "perf_event_max_contexts_per_stack", 0, 1000, 8},
    {Dir::kKernel, "perf_event_max_sample_rate", 1, kAny, 100000},
    {Dir::kKernel, "perf_event_max_stack", 0, 640, 127},
    {Dir::kKernel, "perf_event_mlock_kb", 0, kAny, 516},
    {Dir::kKernel, "perf_event_paranoid", -1, 4, 4},
    {Dir::kKernel, "print-fatal-signals", 0, kAny, 0},
    {Dir::kKernel, "printk_delay", 0, 10000, 0},
    {Dir::kKernel, "printk_ratelimit", 0, kAny, 5},
    {Dir::kKernel, "printk_ratelimit_burst", 0, kAny, 10},
    {Dir::kKernel, "sched_autogroup_enabled", 0, 1, 1},
    {Dir::kKernel, "sched_cfs_bandwidth_slice_us", 1, kAny, 5000},
    {Dir::kKernel, "sched_deadline_period_max_us", 1, kAny, 4194304},
    {Dir::kKernel, "sched_deadline_period_min_us", 1, kAny, 100},
    {Dir::kKernel, "sched_rr_timeslice_ms", 0, kAny, 100},
    {Dir::kKernel, "sched_rt_period_us", 1, kAny, 1000000},
    {Dir::kKernel, "sched_rt_runtime_us", -1, kAny, 950000},
    {Dir::kKernel, "soft_watchdog", 0, 1, 1},
    {Dir::kKernel, "softlockup_panic", 0, 1, 0},
    {Dir::kKernel, "split_lock_mitigate", 0, 1, 1},
    {Dir::kKernel, "sysctl_writes_strict", -1, 1, 1},
    {Dir::kKernel, "task_delayacct", 0, 1, 0},
    {Dir::kKernel, "timer_migration", 0, 1, 1},
    {Dir::kKernel, "unknown_nmi_panic", 0, kAny, 0},
    {Dir::kKernel, "unprivileged_bpf_disabled", 0, 2, 2},
    {Dir::kKernel, "warn_limit", 0, kAny, 0},
    {Dir::kKernel, "watchdog", 0, 1, 1},
    {Dir::kKernel, "watchdog_thresh", 0, 60, 10},
    {Dir::kVm, "admin_reserve_kbytes", 0, kAny, 8192},
    {Dir::kVm, "compact_unevictable_allowed", 0, 1, 1},
    {Dir::kVm, "compaction_proactiveness", 0, 100, 20},
    {Dir::kVm, "dirty_background_bytes", 0, kAny, 0},
    {Dir::kVm, "dirty_background_ratio", 0, 100, 10},
    {Dir::kVm, "dirty_bytes", 0, kAny, 0},
    {Dir::kVm, "dirty_expire_centisecs", 0, kAny, 3000},
    {Dir::kVm, "dirty_ratio", 0, 100, 20},
    {Dir::kVm, "dirty_writeback_centisecs", 0, kAny, 500},
    {Dir::kVm, "dirtytime_expire_seconds", 0, kAny, 43200},
    {Dir::kVm, "extfrag_threshold", 0, 1000, 500},
    {Dir::kVm, "hugetlb_shm_group", 0, kAny, 0},
    {Dir::kVm, "laptop_mode", 0, kAny, 0},
    {Dir::kVm, "legacy_va_layout", 0, 1, 0},
    {Dir::kVm, "min_free_kbytes", 0, kAny, 67584},
    {Dir::kVm, "min_slab_ratio", 0, 100, 5},
    {Dir::kVm, "min_unmapped_ratio", 0, 100, 1},
    {Dir::kVm, "numa_stat", 0, 1, 1},
    {Dir::kVm, "oom_dump_tasks", 0, 1, 1},
    {Dir::kVm, "oom_kill_allocating_task", 0, 1, 0},
    {Dir::kVm, "overcommit_kbytes", 0, kAny, 0},
    {Dir::kVm, "overcommit_ratio", 0, kAny, 50},
    {Dir::kVm, "page-cluster", 0, 31, 3},
    {Dir::kVm, "page_lock_unfairness", 0, kAny, 5},
    {Dir::kVm, "panic_on_oom", 0, 2, 0},
    {Dir::kVm, "percpu_pagelist_high_fraction", 0, kAny, 0},
    {Dir::kVm, "stat_interval", 0, kAny, 1},
    {Dir::kVm, "swappiness", 0, 200, 60},
    {Dir::kVm, "unprivileged_userfaultfd", 0, 1, 0},
    {Dir::kVm, "user_reserve_kbytes", 0, kAny, 131072},
    {Dir::kVm, "vfs_cache_pressure", 0, kAny, 100},
    {Dir::kVm, "watermark_boost_factor", 0, kAny, 15000},
    {Dir::kVm, "watermark_scale_factor", 1, 3000, 10},
    {Dir::kVm, "zone_reclaim_mode", 0, kAny, 0},
    {Dir::kFs, "mount-max", 0, kAny, 100000},
};

void AddValue(StaticDirectory& dir, Value& v) {
  dir.AddFile(
      v.name,
      [&v]() -> Result<std::string> {
        return Format("%lld\n", static_cast<long long>(v.value.load()));
      },
      0644,
      [&v](std::string_view text) -> Result<void> {
        const int64_t n = TRY(ParseDecimal(text));
        if (n < v.low || n > v.high) return Errno(EINVAL);
        v.value.store(n);
        return {};
      });
}

// Several numbers in a line, of which a write may give the first few.
template <size_t kCount>
void AddTuple(StaticDirectory& dir, const char* name, std::array<int, kCount> at_start) {
  using Numbers = Guarded<std::array<int, kCount>, LockClass::kLeaf>;
  Numbers& numbers = *new Numbers(at_start);
  dir.AddFile(
      name,
      [&numbers]() -> Result<std::string> {
        std::string text;
        for (const int n : numbers.With([](const auto& all) { return all; })) {
          AppendFormat(&text, text.empty() ? "%d" : "\t%d", n);
        }
        return text + "\n";
      },
      0644,
      [&numbers](std::string_view text) -> Result<void> {
        std::array<int, kCount> fresh = numbers.With([](const auto& all) { return all; });
        size_t count = 0;
        for (size_t at = 0; count < kCount;) {
          at = text.find_first_not_of(" \t\n", at);
          if (at == std::string_view::npos) break;
          const size_t end = std::min(text.find_first_of(" \t\n", at), text.size());
          const int64_t n = TRY(ParseInteger(text.substr(at, end - at), false, INT32_MIN, INT32_MAX));
          fresh[count++] = static_cast<int>(n);
          at = end;
        }
        if (count == 0) return Errno(EINVAL);
        numbers.With([&](auto& all) { all = fresh; });
        return {};
      });
}

// Bits that a write adds: what once was not clean stays so (proc_taint()).
void AddTaint(StaticDirectory& kernel) {
  static std::atomic<int64_t> tainted{0};
  kernel.AddFile(
      "tainted",
      []() -> Result<std::string> { return Format("%lld\n", static_cast<long long>(tainted.load())); }, 0644,
      [](std::string_view text) -> Result<void> {
        const Task* t = Task::Current();
        if (t == nullptr || !t->creds().Has(Capability::kSysAdmin)) return Errno(EPERM);
        const int64_t bits = TRY(ParseDecimal(text));
        tainted.fetch_or(bits & 0x7ffff);
        return {};
      });
}

// vm.memfd_noexec, of the writer's pid namespace, at least what those above it say.
void AddMemfdNoexec(StaticDirectory& vm) {
  vm.AddFile(
      "memfd_noexec",
      []() -> Result<std::string> {
        const Task* t = Task::Current();
        if (t == nullptr) return Errno(ESRCH);
        return Format("%d\n", t->pid_ns().MemfdNoexec());
      },
      0644,
      [](std::string_view text) -> Result<void> {
        const Task* t = Task::Current();
        if (t == nullptr || !t->creds().HasIn(t->pid_ns().user_ns(), Capability::kSysAdmin)) return Errno(EPERM);
        PidNamespace& ns = t->pid_ns();
        const int64_t n = TRY(ParseDecimal(text));
        if (n < (ns.parent() != nullptr ? ns.parent()->MemfdNoexec() : 0) || n > 2) return Errno(EINVAL);
        ns.memfd_noexec.store(static_cast<int>(n));
        return {};
      });
}

}  // namespace

void AddSysctlValues(StaticDirectory& kernel, StaticDirectory& vm, StaticDirectory& fs) {
  for (Value& v : g_values) {
    AddValue(v.dir == Dir::kKernel ? kernel : v.dir == Dir::kVm ? vm : fs, v);
  }
  CoreSettings& core = CoreSettings::Get();
  kernel.AddFile(
      "core_pattern", [&core]() -> Result<std::string> { return core.pattern() + "\n"; }, 0644,
      [&core](std::string_view text) -> Result<void> {
        core.set_pattern(text.substr(0, text.find('\n')));
        return {};
      });
  AddNumber(kernel, "core_pipe_limit", &core.pipe_limit, INT32_MIN, INT32_MAX);
  AddNumber(kernel, "core_uses_pid", &core.uses_pid, INT32_MIN, INT32_MAX);
  AddNumber(fs, "suid_dumpable", &core.suid_dumpable, 0, 2);
  kernel.AddFile(
      "dmesg_restrict",
      []() -> Result<std::string> { return Format("%d\n", KernelLog::Get().restricted.load()); }, 0644,
      [](std::string_view text) -> Result<void> {
        const int64_t n = TRY(ParseDecimal(text));
        const Task* t = Task::Current();
        if (t == nullptr || !t->creds().Has(Capability::kSysAdmin)) return Errno(EPERM);
        if (n != 0 && n != 1) return Errno(EINVAL);
        KernelLog::Get().restricted.store(static_cast<int>(n));
        return {};
      });
  AddNumber(vm, "overcommit_memory", &overcommit_memory, 0, 2);
  AddNumber(vm, "mmap_rnd_bits", &mmap_random_bits, kLeastMmapRandomBits, kMostMmapRandomBits, 0600);
  AddNumber(vm, "max_map_count", &MaxMapCountSetting(), 0, INT32_MAX);
  AddMemfdNoexec(vm);
  AddTuple<4>(kernel, "printk", {4, 4, 1, 7});
  AddTaint(kernel);
  const auto nothing_to_drop = [](std::string_view text) -> Result<void> {
    const int64_t n = TRY(ParseDecimal(text));
    return n >= 1 && n <= 4 ? Result<void>() : Errno(EINVAL);
  };
  vm.AddFile("drop_caches", nullptr, 0200, nothing_to_drop);
  vm.AddFile("compact_memory", nullptr, 0200, nothing_to_drop);
}

}  // namespace ringwall::proc
