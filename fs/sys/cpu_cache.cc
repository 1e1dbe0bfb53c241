#include "fs/sys/cpu_cache.h"

#include <cpuid.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "fs/proc/cpu_list.h"

namespace ringwall {

namespace {

struct Cache {
  uint32_t type, level, line, partitions, ways, sets;
};

// The deterministic cache parameters: leaf 4, and AMD's leaf of the same form.
std::vector<Cache> ReadCaches() {
  constexpr uint32_t kIntel = 4, kAmd = 0x8000001d, kMost = 8;
  uint32_t a = 0, b = 0, c = 0, d = 0;
  uint32_t leaf = kIntel;
  if (__get_cpuid(0, &a, &b, &c, &d) != 0) {
    char vendor[12];
    memcpy(vendor, &b, 4);
    memcpy(vendor + 4, &d, 4);
    memcpy(vendor + 8, &c, 4);
    const std::string_view name(vendor, sizeof(vendor));
    if (name == "AuthenticAMD" || name == "HygonGenuine") leaf = kAmd;
  }
  std::vector<Cache> caches;
  for (uint32_t i = 0; i < kMost && __get_cpuid_count(leaf, i, &a, &b, &c, &d) != 0; i++) {
    if ((a & 0x1f) == 0) break;
    caches.push_back({a & 0x1f, a >> 5 & 7, (b & 0xfff) + 1, (b >> 12 & 0x3ff) + 1, (b >> 22) + 1, c + 1});
  }
  return caches;
}

}  // namespace

void AddCaches(StaticDirectory& cpu, int number, const cpu_set_t& cpus) {
  static const std::vector<Cache> caches = ReadCaches();
  if (caches.empty()) return;
  Ref<StaticDirectory> all = cpu.AddDirectory("cache");
  cpu_set_t alone;
  CPU_ZERO(&alone);
  CPU_SET(static_cast<size_t>(number), &alone);
  for (size_t i = 0; i < caches.size(); i++) {
    const Cache& c = caches[i];
    const cpu_set_t& sharers = c.level > 2 ? cpus : alone;
    Ref<StaticDirectory> index = all->AddDirectory(Format("index%zu", i));
    const uint64_t size = uint64_t{c.line} * c.partitions * c.ways * c.sets;
    index->AddText("level", Format("%u\n", c.level));
    index->AddText("type", c.type == 1 ? "Data\n" : c.type == 2 ? "Instruction\n" : "Unified\n");
    index->AddText("size", Format("%luK\n", static_cast<unsigned long>(size >> 10)));
    index->AddText("coherency_line_size", Format("%u\n", c.line));
    index->AddText("physical_line_partition", Format("%u\n", c.partitions));
    index->AddText("ways_of_associativity", Format("%u\n", c.ways));
    index->AddText("number_of_sets", Format("%u\n", c.sets));
    index->AddText("shared_cpu_list", CpuList(sharers) + "\n");
    index->AddText("shared_cpu_map", CpuMask(sharers) + "\n");
    index->AddText("id", Format("%d\n", c.level > 2 ? 0 : number));
  }
}

}  // namespace ringwall
