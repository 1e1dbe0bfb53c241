// runsc do: a program on a read-only view of the host's files, with a memory layer for what it
// writes. Makes no state on disk: nothing to clean up, whatever ends it, but for a cgroup where limits ask
// for one.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "runsc/cmd/command.h"
#include "runsc/container/cgroup.h"
#include "runsc/container/console.h"
#include "runsc/container/convert.h"
#include "runsc/sandbox/attached.h"
#include "runsc/sandbox/caller.h"
#include "runsc/sandbox/net_helper.h"
#include "sentry/base/log.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class Do final : public Command {
 public:
  const char* name() const override { return "do"; }
  const char* summary() const override { return "run a program on a read-only view of the host"; }
  const char* arguments() const override { return "[flags] PROGRAM [ARGUMENT...]"; }
  const char* details() const override {
    return "The program sees the host's files, its caller's directory, environment and stdin,\n"
           "stdout and stderr. What it writes stays in memory and is gone at the end, but for\n"
           "files shared with --volume. Works as root and as an ordinary user.\n\n";
  }
  bool stops_at_first_argument() const override { return true; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return SIZE_MAX; }

  void AddFlags(FlagSet& flags) override {
    flags.List("volume,v", &volumes_, "SRC[:DST][:ro|rw]",
               "share files of the host; rw: writes reach the host");
    flags.String("root-dir,root", &root_dir_, "DIR", "the root directory to show instead of /");
    flags.String("cwd,w", &cwd_, "DIR", "directory to start in");
    flags.String("uid,u", &uid_, "UID", "user id inside");
    flags.String("gid,g", &gid_, "GID", "group id inside");
    flags.List("env,e", &env_, "NAME[=VALUE]", "set a variable");
    flags.String("hostname", &hostname_, "NAME", "hostname inside");
    flags.String("memory,m", &memory_, "SIZE", "memory that the program may see and use");
    flags.Int("cpus", &cpus_, "N", "CPUs that the program sees and uses");
    flags.Int("pids-limit", &pids_, "N", "threads of the host that it may have, as root only");
    flags.List("ulimit", &ulimits_, "NAME=SOFT[:HARD]", "resource limit, for example nofile=1024");
    flags.List("publish,p", &ports_, "[IP:]PORT:PORT[/udp]",
               "pass a port of the host on to one inside (--network=user)");
    flags.Bool("host-loopback", &host_loopback_,
               "the gateway's address reaches the host's 127.0.0.1 (--network=user)");
    flags.Ignored("quiet", false);
    flags.Ignored("force-overlay", false);
    for (const char* ignored : {"ip", "uid-map", "gid-map"}) flags.Ignored(ignored, true);
    flags.String("erofs", &erofs_, "FILE", "");
  }

  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  HostResult<void> AddVolumes(const Config& config, BootArgs& boot, SandboxOptions& options);
  HostResult<void> FillProcess(const std::vector<std::string>& args, BootProcess& process);

  HostResult<void> SetUpNetwork(const Config& config, BootArgs& boot);
  void MakeCgroup(const Config& config, uint64_t memory);

  std::vector<std::string> volumes_, env_, ulimits_, ports_;
  bool host_loopback_ = false;
  std::string root_dir_ = "/", cwd_, uid_, gid_, hostname_, memory_, erofs_;
  int64_t cpus_ = 0, pids_ = 0;
  std::vector<std::string> cgroups_;
};

BootMount KernelMount(const char* type, const char* destination, uint64_t flags,
                      const char* data = "") {
  BootMount mount;
  mount.type = mount.source = type;
  mount.destination = destination;
  mount.flags = flags;
  mount.data = data;
  return mount;
}

HostResult<void> Do::AddVolumes(const Config& config, BootArgs& boot, SandboxOptions& options) {
  for (const std::string& volume : volumes_) {
    std::vector<std::string> parts = Split(volume, ':');
    bool read_only = true;
    if (parts.size() > 1 && (parts.back() == "ro" || parts.back() == "rw")) {
      read_only = parts.back() == "ro";
      parts.pop_back();
    }
    char real[PATH_MAX];
    if (parts.size() > 2 || parts[0].empty()) {
      return HostError::Message("--volume: \"" + volume + "\" is not SRC[:DST][:ro|rw]");
    }
    if (realpath(parts[0].c_str(), real) == nullptr) return HostError::Last("--volume", parts[0]);
    const std::string destination = parts.size() == 2 ? parts[1] : std::string(real);
    if (destination.empty() || destination[0] != '/') {
      return HostError::Message("--volume: \"" + destination + "\" is not an absolute path");
    }
    struct stat attributes;
    if (stat(real, &attributes) != 0) return HostError::Last("--volume", real);
    BootMount mount;
    mount.type = "gofer";
    mount.source = real;
    mount.destination = destination;
    mount.flags = read_only ? MS_RDONLY : 0;
    mount.is_file = !S_ISDIR(attributes.st_mode);
    mount.cache_exclusive = config.file_access_mounts == "exclusive";
    mount.access = config.host_access;
    mount.gofer_root = static_cast<int>(options.gofer_roots.size());
    options.gofer_roots.push_back({real, read_only, true, false, config.host_access});
    boot.mounts.push_back(std::move(mount));
  }
  return {};
}

HostResult<void> Do::FillProcess(const std::vector<std::string>& args, BootProcess& process) {
  process = TRY(CallersProcess());
  process.argv = args;
  for (const std::string& variable : env_) SetVariable(process.envp, variable);
  if (!cwd_.empty()) process.cwd = cwd_;
  const auto id = [](const char* flag, const std::string& text, uid_t* out) -> HostResult<void> {
    if (text.empty()) return {};
    char* end = nullptr;
    errno = 0;
    const unsigned long value = strtoul(text.c_str(), &end, 10);
    if (*end != '\0' || errno != 0 || value >= UINT32_MAX || text[0] == '-') {
      return HostError::Message(std::string(flag) + ": \"" + text + "\" is not a number of an id");
    }
    *out = static_cast<uid_t>(value);
    return {};
  };
  const uid_t caller = process.uid;
  TRY(id("--uid", uid_, &process.uid));
  TRY(id("--gid", gid_, &process.gid));
  if (process.uid != caller) {
    process.groups.clear();
    process.caps = DefaultCaps(process.uid);
  }
  for (const std::string& ulimit : ulimits_) {
    const BootRlimit limit = TRY(ParseUlimit(ulimit));
    for (BootRlimit& known : process.rlimits) {
      if (known.resource == limit.resource) known = limit;
    }
  }
  return PassStdio(0, {}, &process);
}

HostResult<void> Do::SetUpNetwork(const Config& config, BootArgs& boot) {
  const bool host = config.network_mode == NetworkMode::kHost;
  boot.network.mode = host || config.network_mode == NetworkMode::kSandbox ? NetworkMode::kUser
                                                                           : config.network_mode;
  if (boot.network.mode != NetworkMode::kUser) {
    if (!ports_.empty()) return HostError::Message("--publish needs --network=user");
    return {};
  }
  UserNetworkOptions options;
  options.host_loopback = host_loopback_ || host;
  options.host_ports = host;
  options.privileged = config.privileged;
  options.strict = config.strict;
  for (const std::string& port : ports_) {
    PortMapping mapping = TRY(ParsePortMapping(port));
    options.ports.push_back(std::move(mapping));
  }
  UserNetwork network = TRY(StartUserNetwork(options));
  boot.network.config = std::move(network.config);
  boot.network.resolv_conf = std::move(network.resolv_conf);
  boot.network.ports = std::move(network.ports);
  boot.network.helper = network.helper;
  return {};
}

// What the limits are held by. Without one they bound what the program sees.
void Do::MakeCgroup(const Config& config, uint64_t memory) {
  const bool wanted = memory != 0 || cpus_ != 0 || pids_ != 0;
  if (!wanted || config.ignore_cgroups) return;
  if (!config.privileged) {
    if (pids_ != 0) RW_LOG(kWarning, "--pids-limit has no effect without privilege");
    return;
  }
  constexpr const char* kPrefix = "runsc-do-";
  RemoveStaleCgroups(kPrefix);  // of callers that were killed
  constexpr uint64_t kPeriod = 100'000;
  oci::Resources limits;
  if (memory != 0) limits.mutable_memory()->set_limit(static_cast<int64_t>(memory));
  if (pids_ != 0) limits.mutable_pids()->set_limit(pids_);
  if (cpus_ != 0) {
    limits.mutable_cpu()->set_period(kPeriod);
    limits.mutable_cpu()->set_quota(cpus_ * static_cast<int64_t>(kPeriod));
  }
  const std::string name = kPrefix + std::to_string(getpid());
  std::vector<std::string> warnings;
  HostResult<std::vector<std::string>> made = MakeCgroups("/" + name, name, limits, &warnings);
  for (const std::string& warning : warnings) RW_LOG(kWarning, "%s", warning.c_str());
  if (made.ok()) {
    cgroups_ = made.TakeValue();
  } else {
    RW_LOG(kWarning, "limits: %s; they bound what the program sees only",
           made.error().message().c_str());
  }
}

HostResult<int> Do::Run(Config& config, const std::vector<std::string>& args) {
  if (!erofs_.empty()) return HostError::Message("--erofs is not supported");
  BootArgs boot;
  SandboxOptions options;
  options.privileged = config.privileged;
  options.strict = config.strict;
  options.max_files = config.fd_limit;
  boot.platform_name = config.platform;
  boot.container_id = "do-" + std::to_string(getpid());
  boot.beside_init = true;

  char root[PATH_MAX];
  if (realpath(root_dir_.c_str(), root) == nullptr) return HostError::Last("--root-dir", root_dir_);
  // Without an overlay the host's files are simply read-only, unless --overlay2=none asks for
  // writes through: `do` never gives those for the root.
  options.gofer_roots.push_back({root, true, true, false, config.host_access});
  BootMount top;
  top.type = "gofer";
  top.source = root;
  top.destination = "/";
  top.gofer_root = 0;
  top.cache_exclusive = config.file_access == "exclusive";
  top.access = config.host_access;
  if (config.overlay.root) {
    std::vector<std::string> warnings;
    SetOverlay(config, root, &top, &options, &warnings);
    for (const std::string& warning : warnings) RW_LOG(kWarning, "%s", warning.c_str());
  }
  if (top.overlay == OverlayMode::kNone) top.flags |= MS_RDONLY;
  boot.mounts.push_back(std::move(top));
  constexpr uint64_t kSafe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  boot.mounts.push_back(KernelMount("proc", "/proc", kSafe));
  boot.mounts.push_back(KernelMount("sysfs", "/sys", kSafe | MS_RDONLY));
  boot.mounts.push_back(KernelMount("devtmpfs", "/dev", MS_NOSUID));
  boot.mounts.push_back(
      KernelMount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666"));
  boot.mounts.push_back(KernelMount("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"));
  boot.mounts.push_back(KernelMount("mqueue", "/dev/mqueue", kSafe));
  TRY(AddVolumes(config, boot, options));
  TRY(FillProcess(args, boot.process));

  utsname host;
  uname(&host);
  boot.hostname = hostname_.empty() ? host.nodename : hostname_;
  if (!memory_.empty()) boot.memory_limit = TRY(ParseSize(memory_));
  if (cpus_ < 0 || cpus_ > 4096) return HostError::Message("--cpus: not a number of CPUs");
  if (pids_ < 0) return HostError::Message("--pids-limit: is below 0");
  boot.cpu_count = static_cast<uint32_t>(cpus_);
  TRY(SetUpNetwork(config, boot));
  boot.max_names = config.dcache;
  boot.strace = config.strace;
  boot.file_memory = config.file_memory_bytes;
  if (!config.strace_syscalls.empty()) boot.strace_syscalls = Split(config.strace_syscalls, ',');
  boot.strace_log_size = static_cast<uint32_t>(config.strace_log_size);

  MakeCgroup(config, boot.memory_limit);
  options.cgroups = cgroups_;

  BlockForwardedSignals();
  HostResult<SandboxProcess> sandbox = StartSandbox(options, std::move(boot));
  if (!sandbox.ok()) {
    RemoveCgroups(cgroups_);
    return sandbox.error();
  }
  std::string error;
  const int code = RunAttached(*sandbox, &error);
  RemoveCgroups(cgroups_);
  if (!error.empty()) fprintf(stderr, "runsc: %s\n", error.c_str());
  return code;
}

}  // namespace

std::unique_ptr<Command> NewDoCommand() { return std::make_unique<Do>(); }

}  // namespace ringwall
