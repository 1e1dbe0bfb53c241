// What the processes that the CLI clones around a container have in common (sandbox.cc, stand_in.cc).
#ifndef RINGWALL_RUNSC_SANDBOX_SANDBOX_MAIN_H_
#define RINGWALL_RUNSC_SANDBOX_SANDBOX_MAIN_H_

#include "runsc/sandbox/namespaces.h"
#include "runsc/sandbox/sandbox.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// Which namespaces the clone itself gave.
struct Granted {
  bool user = false;
  bool pid = false;
  bool net = false;  // the process is in the container's
  int user_error = 0, pid_error = 0;
};

struct Channels {
  UniqueFd go_read, go_write;  // the CLI's word that maps and cgroups are done
  UniqueFd status_read, status_write;
  UniqueFd control_cli, control_sentry;
  UniqueFd gofer_client, gofer_server;
  UniqueFd terminal_sentry, terminal_keeper;
  UniqueFd null;
};

// What the new process does; it has both ends of all channels.
using SandboxMain = void(const SandboxOptions& options, const IdMaps& maps, const Granted& granted,
                         Channels channels, BootArgs boot);

// Clones a process into namespaces of its own, as far as the host grants them, and into its cgroups, and
// lets it go on once its ids are mapped and options.before_boot is done. *left: our ends, and theirs.
HostResult<SandboxProcess> CloneSandbox(const SandboxOptions& options, BootArgs& boot,
                                        SandboxMain* run, Channels* left);

// The first steps of such a process, called `name` in its title and the log: a session of its own, default
// signals, what namespaces the clone did not give; returns when the CLI says so, or ends with it.
void BeginMain(const char* name, const SandboxOptions& options, const Granted& granted, Channels& channels,
               Layers& layers);
// Makes its gofer, or ends and says why on the status pipe.
pid_t StartOwnGofer(const SandboxOptions& options, const Granted& granted, Channels& channels, Layers& layers);
// Ends with the caller, which keeps the other end of `status` open as long as it lives. It may have ended
// before we asked for its signal, and a change of user takes the signal back: so look afterwards.
void DieWithCaller(int status);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_SANDBOX_MAIN_H_
