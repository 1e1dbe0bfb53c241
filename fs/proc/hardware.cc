// The files at the top of /proc about what a kernel has of a machine: interrupts, the zones of its memory and
// their free pages, drivers. A sandbox has one zone and no devices but its terminals.
#include "fs/proc/internal.h"

namespace ringwall::proc {

namespace {

// A line for each, a column for each CPU.
std::string PerCpu(const cpu_set_t& cpus, int width, std::initializer_list<const char*> rows) {
  std::string out(static_cast<size_t>(width), ' ');
  for (int n = 0; n < CPU_SETSIZE; n++) {
    if (CPU_ISSET(n, &cpus)) out += Format("CPU%-8d", n);
  }
  out += '\n';
  for (const char* row : rows) {
    AppendFormat(&out, "%12s:", row);
    for (int n = 0; n < CPU_SETSIZE; n++) {
      if (CPU_ISSET(n, &cpus)) AppendFormat(&out, " %10u", 0u);
    }
    out += '\n';
  }
  return out;
}

// frag_show_print(): as few blocks as hold all of it.
std::string BuddyText(uint64_t pages) {
  constexpr int kOrders = 11;
  std::string out = "Node 0, zone   Normal ";
  for (int order = 0; order < kOrders; order++) {
    const uint64_t blocks = pages >> order;
    AppendFormat(&out, "%6llu ",
                 static_cast<unsigned long long>(order == kOrders - 1 ? blocks : blocks & 1));
  }
  return out + "\n";
}

// zoneinfo_show_print(), with the counts that are known.
std::string ZoneText(uint64_t total, uint64_t free, uint64_t anon, uint64_t file) {
  using Ull = unsigned long long;
  std::string out = "Node 0, zone   Normal\n  per-node stats\n";
  for (const auto& [name, pages] : {std::pair{"nr_anon_pages", anon}, {"nr_mapped", file},
                                    {"nr_file_pages", file}, {"nr_dirty", uint64_t{0}}}) {
    AppendFormat(&out, "      %-12s %llu\n", name, Ull{pages});
  }
  AppendFormat(&out, "  pages free     %llu\n", Ull{free});
  for (const char* mark : {"boost", "min", "low", "high", "promo"}) AppendFormat(&out, "        %-8s 0\n", mark);
  for (const char* size : {"spanned", "present", "managed"}) AppendFormat(&out, "        %-8s %llu\n", size, Ull{total});
  return out + "        cma      0\n        protection: (0, 0)\n";
}

// What lies where in the memory of a machine that has as much; for root alone, others see zeros.
std::string IomemText(uint64_t pages) {
  const Task* const reader = Task::Current();
  const bool shown = reader != nullptr && reader->creds().Has(Capability::kSysAdmin);
  return Format("00000000-%08llx : System RAM\n",
                shown ? static_cast<unsigned long long>(pages * kPageSize - 1) : 0);
}

}  // namespace

void AddHardware(StaticDirectory& root, const cpu_set_t& cpus, std::function<PageCounts()> pages) {
  root.AddText("interrupts", PerCpu(cpus, 11, {}));
  root.AddText("softirqs", PerCpu(cpus, 20, {"HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL",
                                             "TASKLET", "SCHED", "HRTIMER", "RCU"}));
  root.AddFile("buddyinfo", [pages]() -> Result<std::string> { return BuddyText(pages().free); });
  root.AddFile("zoneinfo", [pages]() -> Result<std::string> {
    const PageCounts p = pages();
    return ZoneText(p.total, p.free, p.anon, p.file);
  });
  // The kernel's own memory is the Sentry's: no addresses, no symbols.
  root.AddText("vmallocinfo", "", 0400);
  root.AddText("kallsyms", "");
  root.AddFile("iomem", [pages]() -> Result<std::string> { return IomemText(pages().total); });
  root.AddText("ioports", "");
  for (const char* empty : {"bus", "driver", "fs"}) root.AddDirectory(empty);
  root.AddText("consoles", "");
  root.AddText("misc", "");
  root.AddText("execdomains", "0-0\tLinux           \t[kernel]\n");
  Ref<StaticDirectory> tty = root.AddDirectory("tty");
  tty->AddText("drivers",
               "/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
               "/dev/console         /dev/console    5       1 system:console\n"
               "/dev/ptmx            /dev/ptmx       5       2 system\n"
               "pty_slave            /dev/pts      136 0-1048575 pty:slave\n"
               "pty_master           /dev/ptm      128 0-1048575 pty:master\n");
  tty->AddText("ldiscs", "n_tty       0\n");
}

}  // namespace ringwall::proc
