// The files at the top of /proc that describe the sandbox as a system.
#include <time.h>
#include <x86intrin.h>

#include "fs/proc/internal.h"
#include "fs/proc/proc.h"
#include "fs/vfs/fs_type.h"
#include "sentry/kernel/load_average.h"

namespace ringwall::proc {

namespace {

using Ull = unsigned long long;

uint64_t NowNs(clockid_t clock) {
  timespec ts = {};
  clock_gettime(clock, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(ts.tv_nsec);
}

// How fast the time-stamp counter runs, from how far it went since the file system was made.
class TscClock {
 public:
  TscClock() : tsc_(__rdtsc()), ns_(NowNs(CLOCK_MONOTONIC_RAW)) {}
  uint64_t Khz() const {
    const uint64_t ns = NowNs(CLOCK_MONOTONIC_RAW) - ns_;
    if (ns == 0) return 0;
    return static_cast<uint64_t>(static_cast<double>(__rdtsc() - tsc_) * 1e6 /
                                 static_cast<double>(ns));
  }

 private:
  const uint64_t tsc_, ns_;
};

uint64_t UptimeNs(const Kernel& k) { return NowNs(CLOCK_BOOTTIME) - k.start_boottime_ns(); }

struct Totals {
  Rusage usage;  // of all that runs now
  int tasks = 0, running = 0, last_pid = 0;
};

Totals TotalsOf(Kernel& k) {
  Totals t;
  TaskSet& set = k.tasks();
  MutexLock lock(set.mu);
  // A number of the reader's.
  const Task* reader = Task::Current();
  t.last_pid = (reader != nullptr ? reader->pid_ns() : *set.first).last_pid;
  for (const auto& [tid, task] : set.tasks) {
    t.tasks++;
    if (task->state() == 'R') t.running++;
    if (task->tgid() != tid) continue;
    t.usage.Add(ProcessRusageLocked(task->tg()));
    t.usage.Add(task->tg().waited_children);
  }
  return t;
}

struct MemoryFigures {
  uint64_t total = 0, used = 0, anon = 0, mapped = 0, shmem = 0, committed = 0;
};

MemoryFigures MemoryOf(Kernel& k) {
  std::vector<RefPtr<MemoryManager>> maps;
  {
    TaskSet& set = k.tasks();
    MutexLock lock(set.mu);
    for (const auto& [tid, task] : set.tasks) {
      if (task->tgid() != tid) continue;
      if (RefPtr<MemoryManager> mm = task->mm_ref()) maps.push_back(std::move(mm));
    }
  }
  MemoryFigures f;
  f.total = k.options().memory_limit;
  for (const RefPtr<MemoryManager>& mm : maps) {
    const MemoryManager::Usage u = mm->usage();
    f.anon += u.rss_anon;
    f.mapped += u.rss_file;
    f.shmem += u.rss_shmem;
    f.committed += u.data + u.stack;
  }
  f.used = std::min(f.anon + f.mapped + f.shmem, f.total);
  return f;
}

std::string MeminfoText(Kernel& k) {
  const MemoryFigures f = MemoryOf(k);
  const uint64_t free = f.total - f.used;
  // File pages could be dropped.
  const uint64_t cached = std::min(f.mapped + f.shmem, f.used);
  std::string out;
  const auto kb = [&out](const char* name, uint64_t bytes) {
    AppendFormat(&out, "%-16s%8llu kB\n", name, Ull{bytes / 1024});
  };
  kb("MemTotal:", f.total);
  kb("MemFree:", free);
  kb("MemAvailable:", std::min(f.total, free + f.mapped));
  kb("Buffers:", 0);
  kb("Cached:", cached);
  kb("SwapCached:", 0);
  kb("Active:", f.anon + f.mapped);
  kb("Inactive:", f.shmem);
  kb("Active(anon):", f.anon);
  kb("Inactive(anon):", f.shmem);
  kb("Active(file):", f.mapped);
  for (const char* none : {"Inactive(file):", "Unevictable:", "Mlocked:", "SwapTotal:", "SwapFree:",
                           "Dirty:", "Writeback:"}) {
    kb(none, 0);
  }
  kb("AnonPages:", f.anon);
  kb("Mapped:", f.mapped);
  kb("Shmem:", f.shmem);
  for (const char* none :
       {"KReclaimable:", "Slab:", "SReclaimable:", "SUnreclaim:", "KernelStack:", "PageTables:", "SecPageTables:",
        "NFS_Unstable:", "Bounce:", "WritebackTmp:"}) {
    kb(none, 0);
  }
  kb("CommitLimit:", f.total / 2);
  kb("Committed_AS:", f.committed);
  kb("VmallocTotal:", uint64_t{34359738367} * 1024);
  for (const char* none : {"VmallocUsed:", "VmallocChunk:", "Percpu:", "AnonHugePages:",
                           "ShmemHugePages:", "ShmemPmdMapped:", "FileHugePages:",
                           "FilePmdMapped:"}) {
    kb(none, 0);
  }
  out += "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\n";
  out += "HugePages_Surp:        0\n";
  kb("Hugepagesize:", 2 << 20);
  kb("Hugetlb:", 0);
  return out;
}

// Time is known of the sandbox as a whole and shown as spread evenly over its CPUs; what nobody used
// was idle. Interrupts and context switches are the host's and not shown.
std::string StatText(Kernel& k) {
  const Totals t = TotalsOf(k);
  const cpu_set_t& cpus = k.cpus();
  const uint64_t count = static_cast<uint64_t>(std::max(1, CPU_COUNT(&cpus)));
  const uint64_t up = ToTicks(UptimeNs(k)) * count;
  const uint64_t user = ToTicks(t.usage.utime_ns), system = ToTicks(t.usage.stime_ns);
  const uint64_t idle = up > user + system ? up - user - system : 0;
  std::string out = Format("cpu  %llu 0 %llu %llu 0 0 0 0 0 0\n", Ull{user}, Ull{system}, Ull{idle});
  for (size_t n = 0; n < CPU_SETSIZE; n++) {
    if (!CPU_ISSET(n, &cpus)) continue;
    AppendFormat(&out, "cpu%zu %llu 0 %llu %llu 0 0 0 0 0 0\n", n, Ull{user / count},
                 Ull{system / count}, Ull{idle / count});
  }
  const uint64_t boot = NowNs(CLOCK_REALTIME) - UptimeNs(k);
  AppendFormat(&out, "intr 0\nctxt 0\nbtime %llu\nprocesses %d\n", Ull{boot / 1'000'000'000},
               t.last_pid);
  AppendFormat(&out, "procs_running %d\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
               std::max(1, t.running));
  return out;
}

std::string UptimeText(Kernel& k) {
  const Totals t = TotalsOf(k);
  const uint64_t up = UptimeNs(k) / 10'000'000;
  const uint64_t count = static_cast<uint64_t>(std::max(1, CPU_COUNT(&k.cpus())));
  const uint64_t used = ToTicks(t.usage.utime_ns + t.usage.stime_ns);
  const uint64_t idle = up * count > used ? up * count - used : 0;
  return Format("%llu.%02llu %llu.%02llu\n", Ull{up / 100}, Ull{up % 100}, Ull{idle / 100},
                Ull{idle % 100});
}

}  // namespace

void AddSystemFiles(StaticDirectory& root, Kernel& kernel) {
  Kernel* k = &kernel;  // outlives every file system
  const auto add = [&](const char* name, std::string (*text)(Kernel&)) {
    root.AddFile(name, [k, text]() -> Result<std::string> { return text(*k); });
  };
  add("meminfo", MeminfoText);
  add("stat", StatText);
  add("uptime", UptimeText);
  // Averages are not kept: what runs now says more than zeros, but a number of another meaning would
  // be worse.
  add("loadavg", [](Kernel& kern) {
    const Totals t = TotalsOf(kern);
    const LoadAverage::Values load = LoadAverages(kern);
    return Format("%.2f %.2f %.2f %d/%d %d\n", load[0], load[1], load[2], std::max(1, t.running), t.tasks,
                  t.last_pid);
  });
  root.AddFile("cpuinfo", [k, tsc = TscClock()]() -> Result<std::string> {
    return CpuinfoText(k->cpus(), tsc.Khz());
  });
  root.AddText("version",
               "Linux version 6.12.0 (ringwall@ringwall) (gcc, ld) #1 SMP PREEMPT_DYNAMIC Ringwall\n");
  add("filesystems", [](Kernel&) {
    std::string out;
    for (const FsType* type : ListFsTypes()) out += "nodev\t" + type->name + "\n";
    return out + "nodev\tsockfs\nnodev\tpipefs\n";
  });
  root.AddText("cmdline", "\n");
  root.AddFile("locks", []() -> Result<std::string> {
    std::string out;
    int number = 0;
    for (const Ref<Inode>& inode : InodesWithLocks()) {
      const FileLocks* locks = inode->locks_if_any();
      const Result<Attr> attr = inode->GetAttr();
      if (locks == nullptr || !attr.ok()) continue;
      for (const FileLocks::Listed& l : locks->List()) {
        out += LockLine(++number, l, inode->fs().dev(), attr->ino);
      }
    }
    return out;
  });
  root.AddText("devices",
               "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n"
               "136 pts\n\nBlock devices:\n");
  root.AddText("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
  TextOps swaps;
  swaps.read = []() -> Result<std::string> {
    return std::string("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
  };
  swaps.style.readiness = TextStyle::Readiness::kReadOnly;
  root.Add("swaps", MakeRef<TextInode>(root.fs(), InoOf(root.ino(), "swaps"), 0444u, std::move(swaps)));
  root.AddText("partitions", "major minor  #blocks  name\n\n");
  root.AddText("diskstats", "");
  root.AddText("modules", "", 0444);
  AddHardware(root, k->cpus(), [k] {
    const MemoryFigures f = MemoryOf(*k);
    return PageCounts{f.total / kPageSize, (f.total - f.used) / kPageSize, f.anon / kPageSize,
                      (f.mapped + f.shmem) / kPageSize};
  });
  // Of the kernel's objects tasks alone are told (slabinfo_show()), three in a slab.
  root.AddFile("slabinfo", [k]() -> Result<std::string> {
    const int tasks = TotalsOf(*k).tasks, slabs = (tasks + 2) / 3;
    return Format(
        "slabinfo - version: 2.1\n"
        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> "
        "<batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
        "%-17s %6d %6d %6d %4d %4d : tunables %4d %4d %4d : slabdata %6d %6d %6d\n",
        "task_struct", tasks, slabs * 3, 9984, 3, 8, 0, 0, 0, slabs, slabs, 0);
  }, 0400);
  add("vmstat", [](Kernel& kern) {
    const MemoryFigures f = MemoryOf(kern);
    return Format(
        "nr_free_pages %llu\nnr_anon_pages %llu\nnr_mapped %llu\nnr_file_pages %llu\n"
        "nr_shmem %llu\nnr_dirty 0\nnr_writeback 0\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\n"
        "pgfault 0\npgmajfault 0\n",
        Ull{(f.total - f.used) / kPageSize}, Ull{f.anon / kPageSize}, Ull{f.mapped / kPageSize},
        Ull{(f.mapped + f.shmem) / kPageSize}, Ull{f.shmem / kPageSize});
  });
}

}  // namespace ringwall::proc

namespace ringwall {

std::string NodeMeminfoText(Kernel& kernel) {
  const proc::MemoryFigures f = proc::MemoryOf(kernel);
  std::string out;
  const auto kb = [&out](const char* name, uint64_t bytes) {
    AppendFormat(&out, "Node 0 %-15s %8llu kB\n", name,
                       static_cast<unsigned long long>(bytes / 1024));
  };
  kb("MemTotal:", f.total);
  kb("MemFree:", f.total - f.used);
  kb("MemUsed:", f.used);
  kb("Active:", f.anon + f.mapped);
  kb("Inactive:", f.shmem);
  kb("FilePages:", f.mapped + f.shmem);
  kb("Mapped:", f.mapped);
  kb("AnonPages:", f.anon);
  kb("Shmem:", f.shmem);
  return out;
}

}  // namespace ringwall
