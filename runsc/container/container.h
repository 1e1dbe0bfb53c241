// Container: one container's state directory and what the commands do with it.
//
//   ROOT/ID/state         ringwall.container.State
//   ROOT/ID/control.sock  the Sentry listens there
//
// A command holds ROOT/ID itself locked (flock) while it works on the container.
#ifndef RINGWALL_RUNSC_CONTAINER_CONTAINER_H_
#define RINGWALL_RUNSC_CONTAINER_CONTAINER_H_

#include <optional>
#include <string>
#include <vector>

#include "runsc/boot/control.h"
#include "runsc/cli/config.h"
#include "runsc/container/state.pb.h"
#include "runsc/sandbox/sandbox.h"
#include "runsc/spec/spec.h"
#include "sentry/base/host_error.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

struct CreateOptions {
  std::string id, bundle, console_socket, pid_file, user_log;
  int64_t preserve_fds = 0;
  std::vector<std::string> passed_fds;  // --pass-fd
  bool start_now = false;
  bool attached = false;  // dies with the caller
};

enum class ContainerStatus : uint8_t { kCreating, kCreated, kRunning, kPaused, kStopped };
const char* ContainerStatusName(ContainerStatus status);

class Container {
 public:
  // Makes the sandbox and waits until its program is found. On failure nothing is left and, when
  // the program was at fault, *exit_code is 126 or 127.
  static HostResult<Container> Create(const Config& config, const CreateOptions& options,
                                      int* exit_code);
  // The error says that there is no such container. Waits until no other command works on it.
  static HostResult<Container> Load(const Config& config, const std::string& id);
  // To look only, also while another command works on it: a hook may ask for the state.
  static HostResult<Container> Look(const Config& config, const std::string& id);
  static HostResult<std::vector<std::string>> List(const Config& config);

  const container::State& state() const { return state_; }
  ContainerStatus Status() const;
  // The OCI state, as `runsc state` and hooks have it.
  std::string StateJson(ContainerStatus status) const;
  oci::Spec Spec() const;

  HostResult<void> Start();
  HostResult<void> Signal(int signal, bool all);
  HostResult<void> SetPaused(bool paused);
  // Containers that do not run (created ones are ended, as other runtimes do), unless forced.
  HostResult<void> Delete(bool force);
  HostResult<ControlClient> Connect() const;
  // Connect and one request; a Response with an error becomes a HostError.
  HostResult<control::Response> Call(const control::Request& request,
                                     const std::vector<int>& fds = {}) const;

  // Of Create only: the Sentry's process and channels.
  SandboxProcess& process() { return process_; }
  // Lets other commands at the container; before waiting for anything long.
  void Unlock();
  // For a sandbox whose end was seen: removes all that is left.
  HostResult<void> Destroy();

 private:
  Container(std::string directory, UniqueFd fd, UniqueFd lock)
      : directory_(std::move(directory)), fd_(std::move(fd)), lock_(std::move(lock)) {}
  HostResult<void> Fill(const Config& config, const CreateOptions& options, int* exit_code);
  // Waits until the Sentry, or the stand-in, is up. On failure it is gone.
  HostResult<void> AwaitReady(int* exit_code);
  HostResult<void> ReadState();
  HostResult<void> Save() const;
  // hooks.startContainer: programs of the container, run inside it before its own.
  HostResult<void> RunStartHooks();
  // Those, then the program.
  HostResult<void> Begin();
  bool CanEnterNetwork() const;
  HostResult<void> SetUpNetwork(const oci::Spec& spec, const Config& config, BootArgs* boot,
                                SandboxOptions* sandbox);
  bool Alive() const;
  // --- join.cc: containers that live in another one's sandbox.
  // The running container whose sandbox has the network namespace that `spec` names, if there is one.
  static HostResult<std::optional<Container>> FindHost(const Config& config, const oci::Spec& spec);
  // Starts the stand-in and has the host's Sentry make the container. As StartSandbox and its Ready.
  HostResult<void> JoinSandbox(const Container& host, const SandboxOptions& options, BootArgs boot,
                               int* exit_code);
  // What the sandbox's /etc/resolv.conf is, where it is not the bundle's.
  std::string SandboxResolvConf() const;
  // Ends the processes of such a container and waits for it, if the Sentry answers.
  void EndJoined();

  std::string directory_;
  UniqueFd fd_, lock_;
  container::State state_;
  SandboxProcess process_;
};

// Exit code of a wait(2) status as a shell sees it.
int ShellExitCode(int wait_status);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CONTAINER_CONTAINER_H_
