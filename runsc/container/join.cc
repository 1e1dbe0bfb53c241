// Containers that join the sandbox of another one: those whose network namespace is that one's, as
// docker run --network=container:X and pods have it.
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runsc/container/container.h"
#include "runsc/net/host_network.h"
#include "runsc/sandbox/stand_in.h"
#include "sentry/base/log.h"
#include "sentry/base/result.h"

namespace ringwall {

HostResult<std::optional<Container>> Container::FindHost(const Config& config, const oci::Spec& spec) {
  std::optional<Container> none;
  std::string path;
  for (const oci::Namespace& n : spec.linux().namespaces()) {
    if (n.type() == "network") path = n.path();
  }
  struct stat wanted, own;
  // --network=none asks for no more than a loopback of its own.
  if (path.empty() || config.network_mode == NetworkMode::kNone || stat(path.c_str(), &wanted) != 0 ||
      stat("/proc/self/ns/net", &own) != 0) {
    return none;
  }
  if (wanted.st_dev == own.st_dev && wanted.st_ino == own.st_ino) return none;  // no sandbox has the caller's
  const std::vector<std::string> ids = TRY(List(config));
  for (const std::string& id : ids) {
    HostResult<Container> other = Look(config, id);
    if (!other.ok() || !other->state_.sandbox().empty() || !other->Alive()) continue;
    struct stat its;
    const std::string net = "/proc/" + std::to_string(other->state_.pid()) + "/ns/net";
    if (stat(net.c_str(), &its) != 0 || its.st_dev != wanted.st_dev || its.st_ino != wanted.st_ino) continue;
    return std::optional<Container>(other.TakeValue());
  }
  return none;
}

HostResult<void> Container::JoinSandbox(const Container& host, const SandboxOptions& options, BootArgs boot,
                                        int* exit_code) {
  state_.set_sandbox(host.state_.id());
  state_.set_sandbox_pid(host.state_.pid());
  ControlClient client = TRY(host.Connect());
  SandboxOptions stand_in = options;
  const std::string net = "/proc/" + std::to_string(host.state_.pid()) + "/ns/net";
  // Others find the sandbox by the pid's namespace, where the host lets us in.
  if (NetNamespaceScope::Enter(net).ok()) stand_in.container_net = net;
  process_ = TRY(StartStandIn(stand_in, &boot));
  TRY(AwaitReady(exit_code));
  control::Request request;
  std::vector<int> fds;
  ToProto(boot, request.mutable_join(), &fds);
  HostResult<control::Response> made = client.Call(request, fds);
  boot = BootArgs();  // our copies of its descriptors
  const bool joined = made.ok() && made->error() == 0;
  HostResult<ControlClient> control = Connect();
  if (joined && control.ok()) {
    process_.control.reset(dup(control->fd()));
    return {};
  }
  kill(process_.pid, SIGKILL);
  RetryEintr([&] { return waitpid(process_.pid, nullptr, 0); });
  if (!made.ok()) return made.error().Wrap("join the sandbox of " + host.state_.id());
  if (made->error() == 0) return control.error();
  *exit_code = made->exit_code();
  if (!made->text().empty()) return HostError::Message(made->text());
  return HostError::WithErrno(made->error(), "join the sandbox of", host.state_.id());
}

std::string Container::SandboxResolvConf() const {
  HostResult<std::string> text =
      ReadFileText(directory_.substr(0, directory_.rfind('/') + 1) + state_.sandbox() + "/state");
  container::State host;
  return text.ok() && host.ParseFromString(*text) ? host.resolv_conf() : "";
}

void Container::EndJoined() {
  control::Request request;
  request.mutable_signal()->set_signal(SIGKILL);
  if (!Call(request).ok()) return;
  // The stand-in ends with the last process; whoever called us waits for it, and ends what is left.
  UniqueFd handle(static_cast<int>(syscall(SYS_pidfd_open, state_.pid(), 0)));
  pollfd wait = {handle.get(), POLLIN, 0};
  if (handle) RetryEintr([&] { return poll(&wait, 1, 10'000); });
}

}  // namespace ringwall
