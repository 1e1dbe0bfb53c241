#include "fs/sys/sysfs.h"

#include <linux/magic.h>

#include "fs/proc/cpu_list.h"
#include "fs/proc/net_hooks.h"
#include "fs/proc/nodes.h"
#include "fs/sys/cpu_cache.h"

namespace ringwall {

namespace {

void AddCpus(StaticDirectory& devices, const cpu_set_t& cpus,
             const std::function<std::string()>& meminfo) {
  Ref<StaticDirectory> system = devices.AddDirectory("system");
  // One node with everything, whatever the host has.
  Ref<StaticDirectory> nodes = system->AddDirectory("node");
  for (const char* which : {"online", "possible", "has_cpu", "has_memory", "has_normal_memory"}) {
    nodes->AddText(which, "0\n");
  }
  Ref<StaticDirectory> node = nodes->AddDirectory("node0");
  node->AddText("cpulist", CpuList(cpus) + "\n");
  node->AddText("cpumap", CpuMask(cpus) + "\n");
  node->AddText("distance", "10\n");
  node->AddFile("meminfo", [meminfo]() -> Result<std::string> { return meminfo(); });
  Ref<StaticDirectory> cpu = system->AddDirectory("cpu");
  const std::string list = CpuList(cpus) + "\n";
  cpu->AddText("online", list);
  cpu->AddText("possible", list);
  cpu->AddText("present", list);
  cpu->AddText("offline", "\n");
  cpu->AddText("isolated", "\n");
  cpu->AddText("kernel_max", "8191\n");
  for (int n = 0; n < CPU_SETSIZE; n++) {
    if (!CPU_ISSET(n, &cpus)) continue;
    Ref<StaticDirectory> one = cpu->AddDirectory(Format("cpu%d", n));
    one->AddText("online", "1\n");
    // Each CPU a core of its own: the host's topology is not the guest's business, and what it is
    // shown in /proc/cpuinfo says the same.
    Ref<StaticDirectory> topology = one->AddDirectory("topology");
    const std::string self = Format("%d\n", n);
    cpu_set_t alone;
    CPU_ZERO(&alone);
    CPU_SET(static_cast<size_t>(n), &alone);
    topology->AddText("core_id", self);
    topology->AddText("physical_package_id", "0\n");
    topology->AddText("thread_siblings_list", self);
    topology->AddText("core_cpus_list", self);
    topology->AddText("thread_siblings", CpuMask(alone) + "\n");
    topology->AddText("core_cpus", CpuMask(alone) + "\n");
    topology->AddText("core_siblings_list", list);
    topology->AddText("package_cpus_list", list);
    topology->AddText("core_siblings", CpuMask(cpus) + "\n");
    topology->AddText("package_cpus", CpuMask(cpus) + "\n");
    AddCaches(*one, n, cpus);
  }
}

}  // namespace

Ref<FileSystem> NewSysFs(const cpu_set_t& cpus, std::function<std::string()> meminfo) {
  Ref<SyntheticFs> fs = MakeRef<SyntheticFs>("sysfs", static_cast<uint64_t>(SYSFS_MAGIC));
  Ref<StaticDirectory> root = MakeRef<StaticDirectory>(*fs, uint64_t{1});
  for (const char* name : {"block", "bus", "firmware", "hypervisor", "module", "power"}) {
    root->AddDirectory(name);
  }
  Ref<StaticDirectory> numbers = root->AddDirectory("dev");
  numbers->AddDirectory("block");
  numbers->AddDirectory("char");
  Ref<StaticDirectory> classes = root->AddDirectory("class");
  Ref<StaticDirectory> devices = root->AddDirectory("devices");
  Ref<StaticDirectory> virtuals = devices->AddDirectory("virtual");
  if (auto make = GetNetHooks().class_net) {
    classes->Add("net", make(*fs));
    virtuals->Add("net", make(*fs));
  } else {
    classes->AddDirectory("net");
    virtuals->AddDirectory("net");
  }
  root->AddDirectory("fs")->AddDirectory("cgroup");
  AddCpus(*devices, cpus, meminfo);
  Ref<StaticDirectory> mm = root->AddDirectory("kernel")->AddDirectory("mm");
  Ref<StaticDirectory> thp = mm->AddDirectory("transparent_hugepage");
  // What the host does for a stub's memory when asked by madvise; it may do more.
  thp->AddText("enabled", "always [madvise] never\n");
  thp->AddText("defrag", "always defer defer+madvise [madvise] never\n");
  thp->AddText("shmem_enabled", "always within_size advise [never] deny force\n");
  thp->AddText("hpage_pmd_size", "2097152\n");
  thp->AddText("use_zero_page", "1\n");
  mm->AddDirectory("hugepages");
  // Merging is off, as on a host where nobody has turned it on: MADV_MERGEABLE is taken without effect.
  Ref<StaticDirectory> ksm = mm->AddDirectory("ksm");
  for (const auto& [name, value] : {std::pair{"run", "0\n"}, {"pages_to_scan", "100\n"},
                                    {"sleep_millisecs", "20\n"}, {"merge_across_nodes", "1\n"},
                                    {"use_zero_pages", "0\n"}, {"max_page_sharing", "256\n"},
                                    {"full_scans", "0\n"}, {"pages_shared", "0\n"},
                                    {"pages_sharing", "0\n"}, {"pages_unshared", "0\n"},
                                    {"pages_volatile", "0\n"}}) {
    ksm->AddText(name, value);
  }
  fs->set_root(root);
  return Ref<FileSystem>(std::move(fs));
}

}  // namespace ringwall
