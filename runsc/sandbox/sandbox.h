// StartSandbox: makes the processes of a sandbox (the Sentry and its gofer) around BootArgs.
//
//   CLI --clone(user, pid ns)--> Sentry, pid 1 of its namespace --clone--> gofer, its own namespace
//
// The kernel ends everything in a pid namespace with its pid 1, so a killed Sentry leaves neither
// gofer nor stub behind; where pid namespaces are not granted each dies with its parent. None of
// the processes executes a program: they are forks of the CLI, so a start costs no exec.
#ifndef RINGWALL_RUNSC_SANDBOX_SANDBOX_H_
#define RINGWALL_RUNSC_SANDBOX_SANDBOX_H_

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runsc/boot/boot.h"
#include "runsc/sandbox/gofer_process.h"
#include "runsc/sandbox/layers.h"
#include "sentry/base/host_error.h"

namespace ringwall {

struct SandboxOptions {
  std::vector<GoferRoot> gofer_roots;
  bool privileged = false;  // may use what root has
  // The container's network namespace, which the Sentry is to be in: a path, or "" for a new one.
  std::optional<std::string> container_net;
  bool strict = false;
  int64_t max_files = -1;  // descriptors of the Sentry and of the gofer each; -1: what the host grants
  bool die_with_caller = true;
  std::vector<std::string> cgroups;  // directories of those that the sandbox is to be in
  // Called in the CLI with the Sentry's pid, in its cgroups, before that runs anything: hooks.
  std::function<HostResult<void>(pid_t)> before_boot;
  // For `runsc features`: set up all layers, report them on the status pipe and end.
  bool only_report_layers = false;
  bool skip_platform = false;
};

struct SandboxProcess {
  pid_t pid = -1;         // of the Sentry, as the CLI sees it
  UniqueFd status;        // StatusPipe's read end
  UniqueFd control;       // one connection to the control server
  pid_t net_helper = -1;  // ends after the Sentry; the caller's to wait for
};

// Preconditions: one thread; the signals that the caller waits for are blocked (the Sentry starts
// with an empty mask).
HostResult<SandboxProcess> StartSandbox(const SandboxOptions& options, BootArgs&& boot);

// Waits for the Sentry's end. Returns what the CLI is to exit with and prints, when that was not
// the container's own doing, which part died and why.
int ExitCodeOf(int wait_status, std::string* message);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_SANDBOX_H_
