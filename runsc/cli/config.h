// Config: the global flags, which every command takes before or after its name.
#ifndef RINGWALL_RUNSC_CLI_CONFIG_H_
#define RINGWALL_RUNSC_CLI_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "runsc/boot/boot.h"
#include "runsc/cli/flags.h"
#include "sentry/base/host_error.h"
#include "sentry/base/log.h"

namespace ringwall {

// --overlay2={none|root:|all:}{memory|self|dir=PATH}[,size=N]
struct OverlayConfig {
  bool root = false;        // over the root mount
  bool all = false;         // over bind mounts too
  OverlayMode mode = OverlayMode::kNone;
  std::string dir;          // kDisk: where its files lie; empty: in the mount itself
  uint64_t size = 0;
};

struct Config {
  std::string root;
  std::string log, log_format = "text";
  bool debug = false;
  std::string debug_log, debug_log_format = "text", debug_command;
  int64_t log_file = -1, debug_log_file = -1;  // descriptors that the caller gave
  std::string test_name_variable;              // for %TEST% in --debug-log
  bool old_host_uds = false;                   // --fsgofer-host-uds: --host-uds=all
  bool old_overlay = false;                    // --overlay: --overlay2=all:memory
  std::string platform = "auto";
  std::string network;  // empty: the command's default
  std::string overlay2;
  std::string file_access = "exclusive", file_access_mounts = "shared";
  std::string file_memory;
  std::string host_uds = "none", host_fifo = "none";
  int64_t fd_limit = -1, dcache = -1;
  bool strace = false;
  std::string strace_syscalls;
  int64_t strace_log_size = 1024;
  bool rootless = false;
  bool strict = false;
  bool systemd_cgroup = false;
  bool ignore_cgroups = false;
  bool help = false, version = false;

  // Derived by Finish().
  OverlayConfig overlay;
  HostAccess host_access;
  uint64_t file_memory_bytes = 0;  // 0: the default
  NetworkMode network_mode = NetworkMode::kNone;
  bool privileged = false;  // effective uid 0

  FlagSet Flags();
  // Checks the values, fills defaults and the derived fields; `do_command` picks do's defaults.
  HostResult<void> Finish(bool do_command);
  // Opens --log or --debug-log and points the logger at it. `id` is the container's, perhaps empty.
  HostResult<void> OpenLogs(const std::string& command, const std::string& id);

  // By --debug-command.
  bool DebugsCommand(const std::string& command) const;

  UniqueFd log_fd;  // --debug-log, or --log when that is absent
};

LogFormat LogFormatByName(const std::string& name);
HostResult<OverlayConfig> ParseOverlay2(const std::string& text);
// "64k", "2g", "1048576".
HostResult<uint64_t> ParseSize(const std::string& text);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CLI_CONFIG_H_
