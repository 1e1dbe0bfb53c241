#include "runsc/spec/spec.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "runsc/sandbox/caller.h"
#include "runsc/spec/json_check.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

constexpr const char* kCapabilities[] = {
    "CHOWN",           "DAC_OVERRIDE",   "DAC_READ_SEARCH", "FOWNER",
    "FSETID",          "KILL",           "SETGID",          "SETUID",
    "SETPCAP",         "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_ADMIN",       "NET_RAW",        "IPC_LOCK",        "IPC_OWNER",
    "SYS_MODULE",      "SYS_RAWIO",      "SYS_CHROOT",      "SYS_PTRACE",
    "SYS_PACCT",       "SYS_ADMIN",      "SYS_BOOT",        "SYS_NICE",
    "SYS_RESOURCE",    "SYS_TIME",       "SYS_TTY_CONFIG",  "MKNOD",
    "LEASE",           "AUDIT_WRITE",    "AUDIT_CONTROL",   "SETFCAP",
    "MAC_OVERRIDE",    "MAC_ADMIN",      "SYSLOG",          "WAKE_ALARM",
    "BLOCK_SUSPEND",   "AUDIT_READ",     "PERFMON",         "BPF",
    "CHECKPOINT_RESTORE"};

template <typename Message>
HostResult<Message> Parse(std::string_view text, const std::string& name,
                          std::vector<std::string>* warnings) {
  HostResult<std::vector<UnknownField>> unknown = CheckJson(text, *Message::descriptor());
  if (!unknown.ok()) return unknown.error().Wrap(name);
  for (const UnknownField& field : *unknown) {
    warnings->push_back(name + ": line " + std::to_string(field.line) + ": " + field.path +
                        " is not known and has no effect");
  }
  Message message;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(text.data(), text.size()), &message, options);
  if (!status.ok()) {
    return HostError::Message(name + ": " + std::string(status.message().data(),
                                                        status.message().size()));
  }
  return message;
}

HostError Bad(const std::string& field, const std::string& what) {
  return HostError::Message("config.json: " + field + ": " + what);
}

bool IsAbsolute(const std::string& path) { return !path.empty() && path[0] == '/'; }

HostResult<void> ValidateLinux(const oci::Linux& config, std::vector<std::string>* warnings) {
  for (int i = 0; i < config.namespaces_size(); i++) {
    static const char* const kTypes[] = {"pid", "network", "mount", "ipc", "uts", "user", "cgroup",
                                         "time"};
    const std::string field = "linux.namespaces[" + std::to_string(i) + "]";
    const oci::Namespace& ns = config.namespaces(i);
    if (std::find(std::begin(kTypes), std::end(kTypes), ns.type()) == std::end(kTypes)) {
      return Bad(field + ".type", "\"" + ns.type() + "\" is not a kind of namespace");
    }
    for (int j = 0; j < i; j++) {
      if (config.namespaces(j).type() == ns.type()) return Bad(field, "given twice");
    }
    if (!ns.path().empty() && !IsAbsolute(ns.path())) {
      return Bad(field + ".path", "\"" + ns.path() + "\" is not an absolute path");
    }
  }
  for (int i = 0; i < config.devices_size(); i++) {
    const oci::Device& device = config.devices(i);
    const std::string field = "linux.devices[" + std::to_string(i) + "]";
    if (!IsAbsolute(device.path())) return Bad(field + ".path", "is not an absolute path");
    if (device.type() != "c" && device.type() != "b" && device.type() != "u" &&
        device.type() != "p") {
      return Bad(field + ".type", "\"" + device.type() + "\" is not c, b, u or p");
    }
  }
  for (const std::string& path : config.masked_paths()) {
    if (!IsAbsolute(path)) return Bad("linux.maskedPaths", "\"" + path + "\" is not absolute");
  }
  for (const std::string& path : config.readonly_paths()) {
    if (!IsAbsolute(path)) return Bad("linux.readonlyPaths", "\"" + path + "\" is not absolute");
  }
  if (!config.seccomp().listener_path().empty()) {
    return Bad("linux.seccomp.listenerPath", "no filter here asks a process outside");
  }
  for (const std::string& name : config.seccomp().architectures()) {
    if (name.rfind("SCMP_ARCH_", 0) != 0) {
      return Bad("linux.seccomp.architectures", "\"" + name + "\" is not an architecture");
    }
  }
  const auto no_effect = [&](bool present, const char* field) {
    if (present) warnings->push_back(std::string("config.json: linux.") + field +
                                     " has no effect in a sandbox");
  };
  no_effect(!config.mount_label().empty(), "mountLabel");
  no_effect(config.has_intel_rdt(), "intelRdt");
  no_effect(config.has_personality() &&
                (config.personality().domain() != "LINUX" || config.personality().flags_size() > 0),
            "personality");
  no_effect(config.time_offsets_size() > 0, "timeOffsets");
  no_effect(!config.seccomp().listener_metadata().empty(), "seccomp.listenerMetadata");
  no_effect(config.uid_mappings_size() > 0, "uidMappings");
  no_effect(config.gid_mappings_size() > 0, "gidMappings");
  return {};
}

}  // namespace

HostResult<oci::Spec> ParseSpec(std::string_view text, const std::string& name,
                                std::vector<std::string>* warnings) {
  return Parse<oci::Spec>(text, name, warnings);
}

HostResult<oci::Process> ParseProcess(std::string_view text, const std::string& name,
                                      std::vector<std::string>* warnings) {
  return Parse<oci::Process>(text, name, warnings);
}

HostResult<oci::Resources> ParseResources(std::string_view text, const std::string& name,
                                          std::vector<std::string>* warnings) {
  return Parse<oci::Resources>(text, name, warnings);
}

int CapabilityByName(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(toupper(c)); });
  if (upper.rfind("CAP_", 0) == 0) upper.erase(0, 4);
  for (size_t i = 0; i < std::size(kCapabilities); i++) {
    if (upper == kCapabilities[i]) return static_cast<int>(i);
  }
  return -1;
}

std::string CapabilityName(int number) {
  return std::string("CAP_") + kCapabilities[static_cast<size_t>(number)];
}

HostResult<void> ValidateProcess(const oci::Process& process, const std::string& path) {
  if (process.args_size() == 0) return Bad(path + "args", "a program to run is missing");
  if (process.args(0).empty()) return Bad(path + "args[0]", "is empty");
  if (!IsAbsolute(process.cwd())) {
    return Bad(path + "cwd", "\"" + process.cwd() + "\" is not an absolute path");
  }
  for (int i = 0; i < process.env_size(); i++) {
    if (process.env(i).find('\0') != std::string::npos) {
      return Bad(path + "env[" + std::to_string(i) + "]", "holds a zero byte");
    }
  }
  for (int i = 0; i < process.args_size(); i++) {
    if (process.args(i).find('\0') != std::string::npos) {
      return Bad(path + "args[" + std::to_string(i) + "]", "holds a zero byte");
    }
  }
  for (int i = 0; i < process.rlimits_size(); i++) {
    const oci::Rlimit& limit = process.rlimits(i);
    const std::string field = path + "rlimits[" + std::to_string(i) + "]";
    if (limit.type().rfind("RLIMIT_", 0) != 0 || RlimitByName(limit.type()) < 0) {
      return Bad(field + ".type", "\"" + limit.type() + "\" is not a resource limit");
    }
    if (limit.soft() > limit.hard()) return Bad(field, "soft is above hard");
    for (int j = 0; j < i; j++) {
      if (process.rlimits(j).type() == limit.type()) return Bad(field, "given twice");
    }
  }
  return {};
}

HostResult<void> ValidateSpec(const oci::Spec& spec, std::vector<std::string>* warnings) {
  if (spec.oci_version().empty()) return Bad("ociVersion", "is missing");
  if (spec.oci_version().rfind("1.", 0) != 0) {
    return Bad("ociVersion", "\"" + spec.oci_version() + "\" is not a version 1 of the "
                             "specification");
  }
  if (!spec.has_process()) return Bad("process", "is missing");
  TRY(ValidateProcess(spec.process(), "process."));
  if (!spec.has_root() || spec.root().path().empty()) return Bad("root.path", "is missing");
  for (int i = 0; i < spec.mounts_size(); i++) {
    const std::string field = "mounts[" + std::to_string(i) + "]";
    const oci::Mount& mount = spec.mounts(i);
    if (mount.destination().empty()) return Bad(field + ".destination", "is missing");
    if (!IsAbsolute(mount.destination())) {
      warnings->push_back("config.json: " + field + ".destination is relative; taken from /");
    }
    if (mount.uid_mappings_size() > 0 || mount.gid_mappings_size() > 0) {
      return Bad(field + ".uidMappings", "id-mapped mounts are not supported");
    }
  }
  if (spec.process().apparmor_profile() != "" || spec.process().selinux_label() != "") {
    warnings->push_back("config.json: process.apparmorProfile and process.selinuxLabel have no "
                        "effect in a sandbox");
  }
  return ValidateLinux(spec.linux(), warnings);
}

HostResult<std::string> ReadFileText(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return HostError::Last("open", path);
  std::string text;
  char buffer[16384];
  while (true) {
    const ssize_t n = RetryEintr([&] { return ::read(fd.get(), buffer, sizeof(buffer)); });
    if (n < 0) return HostError::Last("read", path);
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > 64 << 20) return HostError::Message("read " + path + ": too large");
  }
}

std::string ExampleSpec(bool rootless) {
  std::string caps = R"(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"])";
  std::string text = R"({
  "ociVersion": "1.2.0",
  "process": {
    "terminal": true,
    "user": {"uid": 0, "gid": 0},
    "args": ["sh"],
    "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
    "cwd": "/",
    "capabilities": {
      "bounding": CAPS,
      "effective": CAPS,
      "permitted": CAPS
    },
    "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
    "noNewPrivileges": true
  },
  "root": {"path": "rootfs", "readonly": true},
  "hostname": "runsc",
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
     "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
     "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
     "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs",
     "options": ["nosuid", "noexec", "nodev", "ro"]}
  ],
  "linux": {
    "namespaces": [
      {"type": "pid"}, NETWORK{"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
    ],
    "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/sysrq-trigger"],
    "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]
  }
}
)";
  const auto replace = [&](const std::string& from, const std::string& to) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
      text.replace(at, from.size(), to);
    }
  };
  replace("CAPS", caps);
  replace("NETWORK", rootless ? "" : "{\"type\": \"network\"}, ");
  return text;
}

}  // namespace ringwall
