#include "runsc/container/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>

#include "runsc/container/spec_namespaces.h"
#include "runsc/sandbox/caller.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

template <typename Names>
uint64_t CapMask(const Names& names, const char* set, std::vector<std::string>* warnings) {
  uint64_t mask = 0;
  for (const std::string& name : names) {
    const int cap = CapabilityByName(name);
    if (cap < 0) {
      warnings->push_back(std::string("config.json: process.capabilities.") + set + ": " + name +
                          " is not known and has no effect");
    } else {
      mask |= uint64_t{1} << cap;
    }
  }
  return mask;
}

// Whether nameless files can be made in `directory`, as the gofer will.
bool TakesNamelessFiles(const std::string& directory) {
  return UniqueFd(::open(directory.c_str(), O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600)).valid();
}

std::string Normalize(const std::string& destination) {
  std::string path = destination.empty() || destination[0] != '/' ? "/" + destination : destination;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

HostResult<void> AddBind(const oci::Mount& mount, const MountOptions& parsed,
                         const std::string& bundle, const Config& config, BootMount* out,
                         SandboxOptions* options, std::vector<std::string>* warnings) {
  const std::string source =
      mount.source().empty() || mount.source()[0] != '/' ? bundle + "/" + mount.source()
                                                         : mount.source();
  char real[PATH_MAX];
  struct stat attributes;
  if (realpath(source.c_str(), real) == nullptr || stat(real, &attributes) != 0) {
    return HostError::Last("mount " + mount.destination() + ": find", source);
  }
  out->type = "gofer";
  out->source = real;
  out->is_file = !S_ISDIR(attributes.st_mode);
  out->cache_exclusive = config.file_access_mounts == "exclusive";
  out->access = config.host_access;
  bool read_only = (parsed.flags & MS_RDONLY) != 0;
  if (config.overlay.all && !out->is_file && !read_only) {
    SetOverlay(config, real, out, options, warnings);
    read_only = true;
  }
  out->gofer_root = static_cast<int>(options->gofer_roots.size());
  options->gofer_roots.push_back({real, read_only, parsed.recursive, false, config.host_access});
  return {};
}

bool IsMountable(const std::string& type) {
  constexpr const char* kTypes[] = {"proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue"};
  return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

// What engines ask for by default, and what a Linux has that is built otherwise.
bool IsAbsent(const std::string& type) {
  constexpr const char* kTypes[] = {"cgroup",  "cgroup2", "securityfs", "debugfs",     "tracefs",
                                    "bpf",     "pstore",  "configfs",   "binfmt_misc", "fusectl",
                                    "efivarfs", "hugetlbfs"};
  return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

// Takes one word out of a list by commas; whether it was there.
bool DropOption(std::string* data, const std::string& word) {
  std::string kept;
  bool found = false;
  for (const std::string& option : Split(*data, ',')) {
    found |= option == word;
    if (option == word || option.empty()) continue;
    if (!kept.empty()) kept += ',';
    kept += option;
  }
  if (found) *data = kept;
  return found;
}

HostResult<void> AddMounts(const oci::Spec& spec, const std::string& bundle, const Config& config,
                           BootArgs* boot, SandboxOptions* options,
                           std::vector<std::string>* warnings) {
  for (const oci::Mount& mount : spec.mounts()) {
    const MountOptions parsed =
        ParseMountOptions({mount.options().begin(), mount.options().end()});
    BootMount out;
    out.type = mount.type();
    out.source = mount.source();
    out.destination = Normalize(mount.destination());
    if (parsed.id_mapped) {
      return HostError::Message("config.json: the mount of " + mount.destination() +
                                ": id-mapped mounts are not supported");
    }
    out.flags = parsed.flags;
    out.propagation = parsed.propagation;
    out.data = parsed.data;
    if (parsed.bind || mount.type() == "bind" || mount.type() == "none") {
      TRY(AddBind(mount, parsed, bundle, config, &out, options, warnings));
      if (!parsed.data.empty()) {
        warnings->push_back("config.json: the mount of " + mount.destination() + ": option " +
                            parsed.data + " has no effect");
      }
    } else if (mount.type().empty()) {
      return HostError::Message("config.json: the mount of " + mount.destination() +
                                " has no type");
    } else if (IsAbsent(mount.type())) {
      warnings->push_back("config.json: the mount of " + mount.destination() + " is left out: there "
                          "is no file system " + mount.type());
      continue;
    } else if (!IsMountable(mount.type())) {
      return HostError::WithErrno(ENODEV, "config.json: the mount of " + mount.destination() +
                                              ": type", mount.type());
    } else if (mount.type() == "tmpfs" && DropOption(&out.data, "tmpcopyup")) {
      warnings->push_back("config.json: the mount of " + mount.destination() +
                          ": option tmpcopyup has no effect");
    } else if (out.destination == "/dev" && mount.type() == "tmpfs") {
      // Engines ask for an empty tmpfs and expect the runtime to fill it.
      out.type = "devtmpfs";
    }
    boot->mounts.push_back(std::move(out));
  }
  return {};
}

// "rslave" and friends; what a container's root is without: private.
HostResult<uint64_t> RootPropagation(const std::string& name) {
  if (name.empty()) return uint64_t{0};
  const MountOptions parsed = ParseMountOptions({name});
  if (parsed.propagation != 0) return parsed.propagation;
  return HostError::Message("config.json: linux.rootfsPropagation: \"" + name +
                            "\" is not shared, slave, private, unbindable or one of these with an r "
                            "in front");
}

HostResult<void> AddRoot(const oci::Spec& spec, const std::string& bundle, const Config& config,
                         BootArgs* boot, SandboxOptions* options,
                         std::vector<std::string>* warnings) {
  const std::string path =
      spec.root().path()[0] == '/' ? spec.root().path() : bundle + "/" + spec.root().path();
  char real[PATH_MAX];
  struct stat attributes;
  if (realpath(path.c_str(), real) == nullptr || stat(real, &attributes) != 0) {
    return HostError::Last("config.json: root.path: find", path);
  }
  if (!S_ISDIR(attributes.st_mode)) {
    return HostError::WithErrno(ENOTDIR, "config.json: root.path:", path);
  }
  BootMount root;
  root.type = "gofer";
  root.source = real;
  root.destination = "/";
  root.gofer_root = 0;
  root.cache_exclusive = config.file_access == "exclusive";
  root.access = config.host_access;
  root.propagation = TRY(RootPropagation(spec.linux().rootfs_propagation()));
  bool read_only = spec.root().readonly();
  if (read_only) {
    root.flags |= MS_RDONLY;
  }
  // Also over a read-only root: mount points may have to be made in it.
  read_only |= config.overlay.root;
  options->gofer_roots.push_back({real, read_only, true, false, config.host_access});
  if (config.overlay.root) SetOverlay(config, real, &root, options, warnings);
  boot->mounts.push_back(std::move(root));
  return {};
}

void AddLinux(const oci::Linux& config, BootArgs* boot) {
  boot->masked_paths.assign(config.masked_paths().begin(), config.masked_paths().end());
  boot->readonly_paths.assign(config.readonly_paths().begin(), config.readonly_paths().end());
  for (const oci::Device& device : config.devices()) {
    BootDevice out;
    out.path = device.path();
    out.type = device.type() == "u" ? 'c' : device.type()[0];
    out.major = device.major();
    out.minor = device.minor();
    if (device.has_file_mode()) out.mode = device.file_mode() & 07777;
    out.uid = device.uid();
    out.gid = device.gid();
    boot->devices.push_back(out);
  }
  std::vector<std::pair<std::string, std::string>> sysctls(config.sysctl().begin(),
                                                           config.sysctl().end());
  std::sort(sysctls.begin(), sysctls.end());
  for (auto& [name, value] : sysctls) {
    if (name == "kernel.domainname") {
      boot->domainname = value;
    } else {
      boot->sysctls.push_back({name, value});
    }
  }
  const oci::Resources& resources = config.resources();
  if (resources.memory().limit() > 0) {
    boot->memory_limit = static_cast<uint64_t>(resources.memory().limit());
  }
  const oci::Cpu& cpu = resources.cpu();
  if (cpu.quota() > 0 && cpu.period() > 0) {
    const uint64_t quota = static_cast<uint64_t>(cpu.quota());
    boot->cpu_count = static_cast<uint32_t>(
        std::max<uint64_t>(1, (quota + cpu.period() - 1) / cpu.period()));
  }
}

}  // namespace

void SetOverlay(const Config& config, const std::string& source, BootMount* mount,
                SandboxOptions* options, std::vector<std::string>* warnings) {
  mount->overlay = config.overlay.mode;
  mount->overlay_size = config.overlay.size;
  if (mount->overlay != OverlayMode::kDisk) return;
  const std::string& directory = config.overlay.dir.empty() ? source : config.overlay.dir;
  if (TakesNamelessFiles(directory)) {
    mount->overlay_root = static_cast<int>(options->gofer_roots.size());
    options->gofer_roots.push_back({directory, false, false, true});
    return;
  }
  warnings->push_back("no nameless file can be made in " + directory +
                      " for the writable layer; it stays in memory");
  mount->overlay = OverlayMode::kMemory;
}

HostResult<BootProcess> ToBootProcess(const oci::Process& process,
                                      std::vector<std::string>* warnings) {
  BootProcess out;
  out.argv.assign(process.args().begin(), process.args().end());
  out.envp.assign(process.env().begin(), process.env().end());
  out.cwd = process.cwd();
  out.home_from_passwd = true;
  out.uid = process.user().uid();
  out.gid = process.user().gid();
  out.groups.assign(process.user().additional_gids().begin(),
                    process.user().additional_gids().end());
  if (process.user().has_umask()) out.umask = process.user().umask() & 0777;
  if (process.has_capabilities()) {
    const oci::Capabilities& caps = process.capabilities();
    out.caps.bounding = CapMask(caps.bounding(), "bounding", warnings);
    out.caps.effective = CapMask(caps.effective(), "effective", warnings);
    out.caps.inheritable = CapMask(caps.inheritable(), "inheritable", warnings);
    out.caps.permitted = CapMask(caps.permitted(), "permitted", warnings);
    out.caps.ambient = CapMask(caps.ambient(), "ambient", warnings);
  }
  for (const oci::Rlimit& limit : process.rlimits()) {
    out.rlimits.push_back({RlimitByName(limit.type()), limit.soft(), limit.hard()});
  }
  out.no_new_privs = process.no_new_privileges();
  out.oom_score_adj = process.oom_score_adj();
  out.terminal_size = {static_cast<uint16_t>(process.console_size().height()),
                       static_cast<uint16_t>(process.console_size().width())};
  if (process.has_scheduler()) {
    warnings->push_back("config.json: process.scheduler has no effect in a sandbox");
  }
  if (process.has_io_priority()) {
    warnings->push_back("config.json: process.ioPriority has no effect in a sandbox");
  }
  if (process.has_exec_cpu_affinity()) {
    warnings->push_back("config.json: process.execCPUAffinity has no effect in a sandbox");
  }
  return out;
}

HostResult<void> FillFromSpec(const oci::Spec& spec, const std::string& bundle,
                              const Config& config, BootArgs* boot, SandboxOptions* options,
                              std::vector<std::string>* warnings) {
  TRY(AddRoot(spec, bundle, config, boot, options, warnings));
  TRY(AddMounts(spec, bundle, config, boot, options, warnings));
  boot->process = TRY(ToBootProcess(spec.process(), warnings));
  if (spec.linux().has_seccomp()) {
    TRY(CompileSeccomp(spec.linux().seccomp(), &boot->process, warnings));
  }
  boot->hostname = spec.hostname();
  boot->domainname = spec.domainname();
  TRY(ApplyNamespaces(spec, boot, warnings));
  AddLinux(spec.linux(), boot);
  boot->platform_name = config.platform;
  boot->network.mode = config.network_mode;
  boot->max_names = config.dcache;
  boot->strace = config.strace;
  boot->file_memory = config.file_memory_bytes;
  if (!config.strace_syscalls.empty()) boot->strace_syscalls = Split(config.strace_syscalls, ',');
  boot->strace_log_size = static_cast<uint32_t>(config.strace_log_size);
  options->privileged = config.privileged;
  options->strict = config.strict;
  return {};
}

}  // namespace ringwall
