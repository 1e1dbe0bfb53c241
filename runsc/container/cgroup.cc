#include "runsc/container/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "runsc/sandbox/caller.h"
#include "sentry/base/log.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

constexpr const char* kBase = "/sys/fs/cgroup";
constexpr const char* kControllersV1[] = {"memory", "cpu",     "cpuacct", "cpuset",  "pids",
                                          "blkio",  "freezer", "devices", "hugetlb", "systemd"};

HostResult<void> Write(const std::string& path, const std::string& value) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return HostError::Last("open", path);
  if (::write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return HostError::Last("write \"" + value + "\" to", path);
  }
  return {};
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

// Makes `path` below `top` component by component; `made` gets the last directory if it is new.
HostResult<void> MakeBelow(const std::string& top, const std::string& path, bool unified,
                           std::vector<std::string>* made) {
  std::string directory = top;
  for (const std::string& name : Split(path, '/')) {
    if (name.empty()) continue;
    if (unified && directory != top) {
      // Children get the controllers only when the parent says so. One that the host does not
      // offer is missed when its limit is set.
      for (const char* controller : {"+cpu", "+memory", "+pids", "+cpuset", "+io"}) {
        [[maybe_unused]] const HostResult<void> on =
            Write(directory + "/cgroup.subtree_control", controller);
      }
    }
    const std::string parent = directory;
    directory += "/" + name;
    if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
      return HostError::Last("make the cgroup", directory);
    }
    if (!unified) {
      // A fresh v1 cpuset lets nobody in until these are set.
      for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
        HostResult<std::string> own = ReadFileText(directory + file);
        if (!own.ok() || own->size() > 1) continue;
        HostResult<std::string> above = ReadFileText(parent + file);
        if (above.ok()) TRY(Write(directory + file, *above));
      }
    }
  }
  made->push_back(directory);
  return {};
}

struct Setting {
  const char* controller;  // v1
  std::string file;
  std::string value;
};

std::string Device(const oci::ThrottleDevice& device) {
  return std::to_string(device.major()) + ":" + std::to_string(device.minor());
}

std::vector<Setting> SettingsV1(const oci::Resources& r) {
  std::vector<Setting> out;
  const auto add = [&](bool present, const char* controller, const char* file, auto value) {
    if (present) out.push_back({controller, file, std::to_string(value)});
  };
  add(r.memory().limit() != 0, "memory", "memory.limit_in_bytes", r.memory().limit());
  add(r.memory().reservation() != 0, "memory", "memory.soft_limit_in_bytes",
      r.memory().reservation());
  add(r.memory().swap() != 0, "memory", "memory.memsw.limit_in_bytes", r.memory().swap());
  add(r.memory().has_swappiness(), "memory", "memory.swappiness", r.memory().swappiness());
  add(r.cpu().shares() != 0, "cpu", "cpu.shares", r.cpu().shares());
  add(r.cpu().period() != 0, "cpu", "cpu.cfs_period_us", r.cpu().period());
  add(r.cpu().quota() != 0, "cpu", "cpu.cfs_quota_us", r.cpu().quota());
  add(r.pids().has_limit() && r.pids().limit() > 0, "pids", "pids.max", r.pids().limit());
  add(r.cpu().has_burst(), "cpu", "cpu.cfs_burst_us", r.cpu().burst());
  add(r.cpu().has_idle(), "cpu", "cpu.idle", r.cpu().idle());
  add(r.cpu().realtime_period() != 0, "cpu", "cpu.rt_period_us", r.cpu().realtime_period());
  add(r.cpu().realtime_runtime() != 0, "cpu", "cpu.rt_runtime_us", r.cpu().realtime_runtime());
  add(r.memory().disable_oom_killer(), "memory", "memory.oom_control", 1);
  add(r.memory().has_kernel_tcp(), "memory", "memory.kmem.tcp.limit_in_bytes",
      r.memory().kernel_tcp());
  add(r.block_io().weight() != 0, "blkio", "blkio.weight", r.block_io().weight());
  const auto throttle = [&](const auto& devices, const char* file) {
    for (const oci::ThrottleDevice& d : devices) {
      out.push_back({"blkio", file, Device(d) + " " + std::to_string(d.rate())});
    }
  };
  throttle(r.block_io().throttle_read_bps_device(), "blkio.throttle.read_bps_device");
  throttle(r.block_io().throttle_write_bps_device(), "blkio.throttle.write_bps_device");
  throttle(r.block_io().throttle_read_iops_device(), "blkio.throttle.read_iops_device");
  throttle(r.block_io().throttle_write_iops_device(), "blkio.throttle.write_iops_device");
  for (const oci::HugepageLimit& h : r.hugepage_limits()) {
    out.push_back({"hugetlb", "hugetlb." + h.page_size() + ".limit_in_bytes",
                   std::to_string(h.limit())});
  }
  if (!r.cpu().cpus().empty()) out.push_back({"cpuset", "cpuset.cpus", r.cpu().cpus()});
  if (!r.cpu().mems().empty()) out.push_back({"cpuset", "cpuset.mems", r.cpu().mems()});
  return out;
}

std::vector<Setting> SettingsV2(const oci::Resources& r) {
  std::vector<Setting> out;
  const auto limit = [](int64_t value) { return value < 0 ? "max" : std::to_string(value); };
  const auto add = [&](bool present, const char* file, const std::string& value) {
    if (present) out.push_back({"", file, value});
  };
  const oci::Memory& memory = r.memory();
  add(memory.has_limit(), "memory.max", limit(memory.limit()));
  add(memory.has_reservation(), "memory.low", limit(memory.reservation()));
  if (memory.has_swap()) {
    // The specification counts memory and swap together.
    const int64_t swap = memory.swap() < 0 ? -1 : memory.swap() - std::max<int64_t>(0, memory.limit());
    add(true, "memory.swap.max", limit(swap));
  }
  if (r.cpu().has_shares() && r.cpu().shares() != 0) {
    // 2..262144 onto 1..10000, as the kernel's documentation suggests.
    const uint64_t shares = std::max<uint64_t>(2, std::min<uint64_t>(262144, r.cpu().shares()));
    add(true, "cpu.weight", std::to_string(1 + (shares - 2) * 9999 / 262142));
  }
  if (r.cpu().has_quota() || r.cpu().has_period()) {
    const std::string quota = r.cpu().quota() > 0 ? std::to_string(r.cpu().quota()) : "max";
    const uint64_t period = r.cpu().period() != 0 ? r.cpu().period() : 100000;
    add(true, "cpu.max", quota + " " + std::to_string(period));
  }
  add(r.pids().has_limit() && r.pids().limit() != 0, "pids.max", limit(r.pids().limit()));
  add(!r.cpu().cpus().empty(), "cpuset.cpus", r.cpu().cpus());
  add(!r.cpu().mems().empty(), "cpuset.mems", r.cpu().mems());
  add(r.cpu().has_burst(), "cpu.max.burst", std::to_string(r.cpu().burst()));
  add(r.cpu().has_idle(), "cpu.idle", std::to_string(r.cpu().idle()));
  add(r.block_io().weight() != 0, "io.weight", std::to_string(r.block_io().weight()));
  const auto throttle = [&](const auto& devices, const char* key) {
    for (const oci::ThrottleDevice& d : devices) {
      out.push_back({"", "io.max", Device(d) + " " + key + "=" + std::to_string(d.rate())});
    }
  };
  throttle(r.block_io().throttle_read_bps_device(), "rbps");
  throttle(r.block_io().throttle_write_bps_device(), "wbps");
  throttle(r.block_io().throttle_read_iops_device(), "riops");
  throttle(r.block_io().throttle_write_iops_device(), "wiops");
  for (const oci::HugepageLimit& h : r.hugepage_limits()) {
    out.push_back({"", "hugetlb." + h.page_size() + ".max", std::to_string(h.limit())});
  }
  for (const auto& [file, value] : r.unified()) {
    if (file.find('/') == std::string::npos) out.push_back({"", file, value});
  }
  return out;
}

// Names what the host's version of cgroups has no file for.
void WarnOfTheRest(const oci::Resources& r, bool unified, std::vector<std::string>* warnings) {
  const auto no_effect = [&](bool present, const char* field) {
    if (present) warnings->push_back(std::string("config.json: linux.resources.") + field + " has no effect");
  };
  no_effect(r.has_network(), "network");
  no_effect(r.rdma_size() > 0, "rdma");
  no_effect(r.memory().has_kernel(), "memory.kernel");
  no_effect(r.block_io().weight_device_size() > 0, "blockIO.weightDevice");
  no_effect(r.block_io().has_leaf_weight(), "blockIO.leafWeight");
  no_effect(r.memory().use_hierarchy(), "memory.useHierarchy");
  no_effect(!unified && r.unified_size() > 0, "unified");
  if (!unified) return;
  no_effect(r.memory().has_kernel_tcp(), "memory.kernelTCP");
  no_effect(r.memory().has_swappiness(), "memory.swappiness");
  no_effect(r.memory().disable_oom_killer(), "memory.disableOOMKiller");
  no_effect(r.cpu().realtime_runtime() != 0, "cpu.realtimeRuntime");
  no_effect(r.cpu().realtime_period() != 0, "cpu.realtimePeriod");
}

bool IsUnified() { return Exists(std::string(kBase) + "/cgroup.controllers"); }

// memory.checkBeforeUpdate: a limit below what is used now would have something killed.
HostResult<void> CheckUsage(const std::vector<std::string>& directories,
                            const oci::Resources& resources) {
  if (!resources.memory().check_before_update() || resources.memory().limit() <= 0) return {};
  for (const std::string& directory : directories) {
    for (const char* file : {"/memory.current", "/memory.usage_in_bytes"}) {
      HostResult<std::string> text = ReadFileText(directory + file);
      if (!text.ok()) continue;
      const uint64_t used = strtoull(text->c_str(), nullptr, 10);
      if (used <= static_cast<uint64_t>(resources.memory().limit())) continue;
      return HostError::Message("memory.checkBeforeUpdate: " + std::to_string(used) +
                                " bytes are in use, more than the new limit");
    }
  }
  return {};
}

HostResult<void> MakeAll(const std::string& path, const oci::Resources& resources,
                         std::vector<std::string>* made, std::vector<std::string>* warnings) {
  if (IsUnified()) {
    TRY(MakeBelow(kBase, path, true, made));
    for (const Setting& setting : SettingsV2(resources)) {
      TRY(Write(made->back() + "/" + setting.file, setting.value));
    }
    return {};
  }
  for (const char* controller : kControllersV1) {
    const std::string top = std::string(kBase) + "/" + controller;
    if (Exists(top + "/cgroup.procs")) TRY(MakeBelow(top, path, false, made));
  }
  for (const Setting& setting : SettingsV1(resources)) {
    const std::string file = std::string(kBase) + "/" + setting.controller + path + "/" +
                             setting.file;
    if (!Exists(file)) {
      warnings->push_back(std::string("the host has no ") + setting.file +
                          "; that limit has no effect");
      continue;
    }
    TRY(Write(file, setting.value));
  }
  return {};
}

}  // namespace

HostResult<void> UpdateCgroups(const std::vector<std::string>& directories,
                               const oci::Resources& resources) {
  const bool unified = IsUnified();
  TRY(CheckUsage(directories, resources));
  std::vector<std::pair<std::string, std::string>> left;
  for (const Setting& setting : unified ? SettingsV2(resources) : SettingsV1(resources)) {
    const std::string top = std::string(kBase) + "/" + setting.controller + "/";
    for (const std::string& directory : directories) {
      if (!unified && directory.compare(0, top.size(), top) != 0) continue;
      left.emplace_back(directory + "/" + setting.file, setting.value);
    }
  }
  // A limit may have to wait for another one: memory may not pass memory and swap together.
  for (int round = 0; !left.empty(); round++) {
    std::vector<std::pair<std::string, std::string>> failed;
    for (auto& [file, value] : left) {
      HostResult<void> written = Write(file, value);
      if (written.ok()) continue;
      if (round > 0) return written.error();
      failed.emplace_back(file, value);
    }
    left = std::move(failed);
  }
  return {};
}

std::string CgroupPath(const std::string& path, const std::string& id) {
  std::string wanted = path.empty() ? "/" + id : path;
  const std::vector<std::string> parts = Split(path, ':');
  if (parts.size() == 3) {
    const std::string slice = parts[0].empty() ? "system.slice" : parts[0];
    wanted = "/" + slice + "/" + (parts[1].empty() ? "" : parts[1] + "-") + parts[2] + ".scope";
  }
  std::string out;
  for (const std::string& name : Split(wanted, '/')) {
    if (name.empty() || name == "." || name == "..") continue;
    out += "/" + name;
  }
  return out;
}

HostResult<std::vector<std::string>> MakeCgroups(const std::string& path, const std::string& id,
                                                 const oci::Resources& resources,
                                                 std::vector<std::string>* warnings) {
  std::vector<std::string> made;
  WarnOfTheRest(resources, IsUnified(), warnings);
  const HostResult<void> done = MakeAll(CgroupPath(path, id), resources, &made, warnings);
  if (done.ok()) return made;
  RemoveCgroups(made);
  return done.error();
}

void RemoveStaleCgroups(const std::string& prefix) {
  std::vector<std::string> tops = {kBase};
  if (!IsUnified()) {
    tops.clear();
    for (const char* controller : kControllersV1) tops.push_back(std::string(kBase) + "/" + controller);
  }
  for (const std::string& top : tops) {
    DIR* directory = opendir(top.c_str());
    if (directory == nullptr) continue;
    while (const dirent* entry = readdir(directory)) {
      const std::string name = entry->d_name;
      if (name.rfind(prefix, 0) != 0) continue;
      const int pid = atoi(name.c_str() + prefix.size());
      if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) rmdir((top + "/" + name).c_str());
    }
    closedir(directory);
  }
}

void RemoveCgroups(const std::vector<std::string>& directories) {
  for (const std::string& directory : directories) {
    const timespec pause = {0, 10'000'000};
    for (int tries = 0; rmdir(directory.c_str()) != 0 && errno == EBUSY && tries < 100; tries++) {
      nanosleep(&pause, nullptr);
    }
  }
}

}  // namespace ringwall
