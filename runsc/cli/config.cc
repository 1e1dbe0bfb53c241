#include "runsc/cli/config.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "sentry/base/log.h"
#include "sentry/base/result.h"

namespace ringwall {

namespace {

// What other runtimes have and what has no meaning here or is always so.
void AddForeignFlags(FlagSet& flags) {
  for (const char* name :
       {"allow-connected-on-save", "allow-flag-override", "allow-live-tcp-migration",
        "allow-packet-socket-write", "allow-rootfs-tar-annotation", "allow-suid",
        "alsologtostderr", "app-huge-pages", "buffer-pooling", "cgroup-manager-systemd",
        "cgroupfs", "cpu-num-from-quota", "criu-manage", "debug-to-user-log", "directfs",
        "enable-core-tags", "enable-raw-sockets", "fuse", "gso", "gvisor-gro",
        "gvisor-marker-file", "host-settings-adjust", "iouring", "kvm-use-cpu-nums", "lisafs",
        "log-packets", "mount-cgroup-v2", "net-disconnect-ok", "net-raw", "no-pivot-root",
        "nvproxy", "nvproxy-allow-unsupported-driver", "nvproxy-docker", "oci-seccomp",
        "overlayfs-stale-read", "pause-external-networking", "profile", "profiling-enable",
        "rdmaproxy", "reproduce-nat", "reproduce-nftables", "rootless-cgroups",
        "rx-checksum-offload", "save-restore-netstack", "software-gso", "strace-event",
        "systrap-disable-fast-path", "systrap-disable-syscall-patching", "tpuproxy",
        "tx-checksum-offload", "vfs2", "EXPERIMENTAL-xdp-need-wakeup",
        "TESTONLY-afs-syscall-panic", "TESTONLY-autosave-resume", "TESTONLY-nftables",
        "TESTONLY-unsafe-nonroot"}) {
    flags.Ignored(name, false);
  }
  for (const char* name :
       {"character-device-policy", "control-rpc-stop-timeout", "coverage-fd", "coverage-report",
        "criu", "final-metrics-log", "gofer-network-namespace", "host-settings", "metric-server",
        "network-processors-per-channel", "num-network-channels",
        "nvproxy-allowed-driver-capabilities", "nvproxy-driver-version", "override-procs",
        "panic-log", "panic-log-fd", "panic-signal", "pcap-log", "platform_device_path",
        "pod-init-config", "profile-block", "profile-cpu", "profile-gc-interval", "profile-heap",
        "profile-mutex", "profiling-metrics", "profiling-metrics-log", "profiling-metrics-rate-us",
        "qdisc", "qdisc-tbf-burst", "qdisc-tbf-rate", "ref-leak-mode", "restore-spec-validation",
        "shared-root", "sidecar-release-enforcement-policy", "sink", "trace", "traceback",
        "watchdog-action", "EXPERIMENTAL-xdp", "TESTONLY-autosave-image-path"}) {
    flags.Ignored(name, true);
  }
  // Of any version of theirs: they change, and tests set them.
  flags.IgnoredPrefix("TESTONLY-");
  flags.IgnoredPrefix("EXPERIMENTAL-");
}

// The directories of a log's path, as far as they are missing; what fails shows when it is opened.
void MakeParents(const std::string& path) {
  for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
    ::mkdir(path.substr(0, at).c_str(), 0775);
  }
}

}  // namespace

FlagSet Config::Flags() {
  FlagSet flags;
  flags.String("root", &root, "DIR", "where the state of containers lies");
  flags.String("log", &log, "FILE", "append errors and warnings to FILE (for engines)");
  flags.String("log-format", &log_format, "text|json|json-k8s", "format of --log");
  flags.Bool("debug", &debug, "log what the sandbox does");
  flags.String("debug-log", &debug_log, "FILE", "debug log; a directory (\"/\" at the end) or "
               "%ID%, %COMMAND%, %TIMESTAMP%, %PID%, %TEST% in the name");
  flags.String("debug-log-format", &debug_log_format, "text|json|json-k8s",
               "format of --debug-log");
  flags.String("platform", &platform, "NAME", "systrap, ptrace or auto");
  flags.String("network", &network, "MODE", "sandbox, user, host or none");
  flags.String("overlay2", &overlay2, "SPEC",
               "writable layer: none, or root|all:memory|self|dir=PATH[,size=N]");
  flags.String("file-access", &file_access, "exclusive|shared",
               "whether others change the files of the root meanwhile");
  flags.String("file-access-mounts", &file_access_mounts, "exclusive|shared",
               "the same for bind mounts");
  flags.String("file-memory", &file_memory, "SIZE",
               "memory for tmpfs, shared memory and memory overlays (default: the container's limit, "
               "else half of the host's)");
  flags.String("host-uds", &host_uds, "none|open|create|all",
               "unix sockets of the host in shared folders: connect to them, make them");
  flags.Bool("fsgofer-host-uds", &old_host_uds, "");
  flags.String("host-fifo", &host_fifo, "none|open", "FIFOs of the host in shared folders");
  flags.Int("fdlimit", &fd_limit, "N", "descriptors of the Sentry and of the gofer at most");
  flags.Int("dcache", &dcache, "N", "names of files that are kept in memory at most");
  flags.Bool("strace", &strace, "log every system call of the guest");
  flags.String("strace-syscalls", &strace_syscalls, "LIST", "only these, by commas");
  flags.Int("strace-log-size", &strace_log_size, "N", "bytes of a buffer to show");
  flags.Bool("rootless", &rootless, "use nothing that needs root, even as root");
  flags.Bool("strict", &strict, "refuse to start when a layer of isolation is missing");
  flags.Bool("systemd-cgroup", &systemd_cgroup,
             "taken for engines; cgroups are made through cgroupfs");
  flags.Bool("ignore-cgroups", &ignore_cgroups, "make no cgroups");
  flags.Bool("help,h", &help, "this text");
  flags.Bool("version,v", &version, "print the version");
  flags.String("debug-command", &debug_command, "LIST",
               "keep --debug-log for these commands only, by commas; all but these after \"!\"");
  flags.Int("log-fd", &log_file, "N", "descriptor to log to instead of --log");
  flags.Int("debug-log-fd", &debug_log_file, "N", "the same for --debug-log");
  flags.String("TESTONLY-test-name-env", &test_name_variable, "NAME", "");
  flags.Bool("overlay", &old_overlay, "");
  AddForeignFlags(flags);
  return flags;
}

HostResult<uint64_t> ParseSize(const std::string& text) {
  char* end = nullptr;
  errno = 0;
  const uint64_t number = strtoull(text.c_str(), &end, 10);
  unsigned shift = 0;
  const std::string unit(end);
  if (unit == "k" || unit == "K" || unit == "kb") {
    shift = 10;
  } else if (unit == "m" || unit == "M" || unit == "mb") {
    shift = 20;
  } else if (unit == "g" || unit == "G" || unit == "gb") {
    shift = 30;
  } else if (!unit.empty()) {
    end = nullptr;
  }
  if (end == nullptr || end == text.c_str() || text[0] == '-' || errno != 0 ||
      number > (UINT64_MAX >> shift)) {
    return HostError::Message("\"" + text + "\" is not a size such as 65536, 64k, 512m or 2g");
  }
  return number << shift;
}

HostResult<OverlayConfig> ParseOverlay2(const std::string& text) {
  OverlayConfig out;
  if (text == "none") return out;
  const HostError bad = HostError::Message(
      "--overlay2: \"" + text + "\" is not none, root:MEDIUM or all:MEDIUM, where MEDIUM is memory, "
      "self or dir=PATH, perhaps with ,size=N");
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return bad;
  const std::string where = text.substr(0, colon);
  if (where != "root" && where != "all") return bad;
  out.root = true;
  out.all = where == "all";
  std::string medium = text.substr(colon + 1);
  if (const size_t comma = medium.find(','); comma != std::string::npos) {
    const std::string option = medium.substr(comma + 1);
    if (option.rfind("size=", 0) != 0) return bad;
    out.size = TRY(ParseSize(option.substr(5)));
    medium.resize(comma);
  }
  if (medium == "memory") {
    out.mode = OverlayMode::kMemory;
  } else if (medium == "self") {
    out.mode = OverlayMode::kDisk;
  } else if (medium.rfind("dir=/", 0) == 0) {
    out.mode = OverlayMode::kDisk;
    out.dir = medium.substr(4);
  } else {
    return bad;
  }
  return out;
}

HostResult<void> Config::Finish(bool do_command) {
  privileged = geteuid() == 0 && !rootless;
  if (root.empty()) {
    const char* runtime_dir = getenv("XDG_RUNTIME_DIR");
    if (privileged) {
      root = "/var/run/runsc";
    } else if (runtime_dir != nullptr && runtime_dir[0] == '/') {
      root = std::string(runtime_dir) + "/runsc";
    } else {
      root = "/tmp/runsc-" + std::to_string(geteuid());
    }
  }
  const auto one_of = [](const char* flag, const std::string& value,
                         std::initializer_list<const char*> choices) -> HostResult<void> {
    std::string all;
    for (const char* choice : choices) {
      if (value == choice) return {};
      all += (all.empty() ? "" : ", ") + std::string(choice);
    }
    return HostError::Message(std::string("--") + flag + ": \"" + value + "\" is not one of " +
                              all);
  };
  if (network.empty()) network = do_command || !privileged ? "user" : "sandbox";
  TRY(one_of("network", network, {"sandbox", "user", "host", "none"}));
  TRY(one_of("platform", platform, {"systrap", "ptrace", "auto"}));
  TRY(one_of("file-access", file_access, {"exclusive", "shared"}));
  TRY(one_of("file-access-mounts", file_access_mounts, {"exclusive", "shared"}));
  if (old_host_uds && host_uds == "none") host_uds = "all";
  TRY(one_of("host-uds", host_uds, {"none", "open", "create", "all"}));
  TRY(one_of("host-fifo", host_fifo, {"none", "open"}));
  host_access.connect_sockets = host_uds == "open" || host_uds == "all";
  host_access.bind_sockets = host_uds == "create" || host_uds == "all";
  host_access.open_fifos = host_fifo == "open";
  constexpr int64_t kFewestDescriptors = 64;
  if (fd_limit >= 0 && fd_limit < kFewestDescriptors) {
    return HostError::Message("--fdlimit: a sandbox needs " + std::to_string(kFewestDescriptors) +
                              " descriptors, without a file open");
  }
  TRY(one_of("log-format", log_format, {"text", "json", "json-k8s"}));
  TRY(one_of("debug-log-format", debug_log_format, {"text", "json", "json-k8s"}));
  if (overlay2.empty() && old_overlay) overlay2 = "all:memory";
  if (overlay2.empty()) overlay2 = do_command ? "root:memory" : "root:self";
  overlay = TRY(ParseOverlay2(overlay2));
  if (!file_memory.empty()) {
    HostResult<uint64_t> size = ParseSize(file_memory);
    if (!size.ok()) return size.error().Wrap("--file-memory");
    file_memory_bytes = *size;
  }
  network_mode = network == "sandbox" ? NetworkMode::kSandbox
                 : network == "host"  ? NetworkMode::kHost
                 : network == "user"  ? NetworkMode::kUser
                                      : NetworkMode::kNone;
  if (strace) debug = true;
  return {};
}

LogFormat LogFormatByName(const std::string& name) {
  if (name == "json") return LogFormat::kJson;
  if (name == "json-k8s") return LogFormat::kJsonK8s;
  return LogFormat::kText;
}

bool Config::DebugsCommand(const std::string& command) const {
  if (debug_command.empty()) return true;
  const bool except = debug_command[0] == '!';
  const std::string list = "," + debug_command.substr(except ? 1 : 0) + ",";
  return (list.find("," + command + ",") != std::string::npos) != except;
}

HostResult<void> Config::OpenLogs(const std::string& command, const std::string& id) {
  const bool debugs = DebugsCommand(command) && (!debug_log.empty() || debug_log_file >= 0);
  std::string path = debugs ? debug_log : log;
  const int64_t given = debugs ? debug_log_file : log_file;
  LogConfig logging;
  logging.level = debug ? LogLevel::kDebug : LogLevel::kWarning;
  const std::string& format = debugs ? debug_log_format : log_format;
  logging.format = LogFormatByName(format);
  if (given >= 0) {
    log_fd.reset(fcntl(static_cast<int>(std::min<int64_t>(given, INT_MAX)), F_DUPFD_CLOEXEC, 3));
    if (!log_fd) return HostError::Last("log to descriptor", std::to_string(given));
    logging.fd = log_fd.get();
  } else if (!path.empty()) {
    if (path.back() == '/') path += "runsc.log.%TIMESTAMP%.%COMMAND%.txt";
    char when[32];
    const time_t now = time(nullptr);
    tm local;
    localtime_r(&now, &local);
    strftime(when, sizeof(when), "%Y%m%d-%H%M%S", &local);
    const char* test = test_name_variable.empty() ? nullptr : getenv(test_name_variable.c_str());
    const std::pair<const char*, std::string> patterns[] = {
        {"%TIMESTAMP%", when},
        {"%COMMAND%", command},
        {"%PID%", std::to_string(getpid())},
        {"%ID%", id.empty() ? "runsc-" + std::to_string(getpid()) : id},
        {"%TEST%", test != nullptr ? test : ""}};
    for (const auto& [pattern, text] : patterns) {
      size_t at = 0;
      while ((at = path.find(pattern, at)) != std::string::npos) {
        path.replace(at, strlen(pattern), text);
        at += text.size();
      }
    }
    if (debugs) MakeParents(path);
    log_fd.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!log_fd) return HostError::Last("open the log", path);
    logging.fd = log_fd.get();
  } else if (debug) {
    // A copy: the sandbox's processes have no stderr of their own.
    log_fd.reset(fcntl(2, F_DUPFD_CLOEXEC, 3));
    logging.fd = log_fd.get();
  }
  SetLogConfig(logging);
  return {};
}

}  // namespace ringwall
