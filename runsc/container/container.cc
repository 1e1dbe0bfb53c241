#include "runsc/container/container.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "runsc/container/cgroup.h"
#include "runsc/container/console.h"
#include "runsc/container/convert.h"
#include "runsc/container/files.h"
#include "runsc/container/hooks.h"
#include "runsc/container/json.h"
#include "runsc/net/host_network.h"
#include "runsc/sandbox/caller.h"
#include "runsc/sandbox/net_helper.h"
#include "sentry/base/log.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

constexpr const char* kStateFile = "state";
constexpr const char* kSocketFile = "control.sock";

HostResult<void> CheckId(const std::string& id) {
  const bool ok = !id.empty() && id.size() <= 255 && id != "." && id != ".." &&
                  std::all_of(id.begin(), id.end(), [](unsigned char c) {
                    return isalnum(c) != 0 || strchr("_+-.", c) != nullptr;
                  });
  if (ok) return {};
  return HostError::Message("\"" + id + "\" cannot be a container's name: letters, digits and _+-. "
                            "only, at most 255");
}

// The directory itself is what is locked: a lock of its own in it could be made anew by the next
// command while this one removes the directory. ENOENT when it was removed meanwhile.
HostResult<UniqueFd> TakeLock(int directory) {
  UniqueFd lock(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock) return HostError::Last("open the container's directory");
  if (RetryEintr([&] { return flock(lock.get(), LOCK_EX); }) != 0) {
    return HostError::Last("lock the container");
  }
  struct stat attributes;
  if (fstat(lock.get(), &attributes) != 0) return HostError::Last("look at the container's directory");
  if (attributes.st_nlink == 0) return HostError::WithErrno(ENOENT, "lock the container");
  return lock;
}

HostError NoSuchContainer(const Config& config, const std::string& id) {
  return HostError::WithErrno(ENOENT, "there is no container " + id + " in " + config.root +
                                          " (container does not exist)");
}

}  // namespace

const char* ContainerStatusName(ContainerStatus status) {
  static constexpr const char* kNames[] = {"creating", "created", "running", "paused",
                                           "stopped"};
  return kNames[static_cast<size_t>(status)];
}

int ShellExitCode(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

HostResult<Container> Container::Create(const Config& config, const CreateOptions& options,
                                        int* exit_code) {
  TRY(CheckId(options.id));
  TRY(MakeDirectories(config.root, 0711));
  const std::string directory = config.root + "/" + options.id;
  if (mkdir(directory.c_str(), 0700) != 0) {
    if (errno == EEXIST) {
      return HostError::Message("there is a container " + options.id + " already; `runsc delete " +
                                options.id + "` removes it once it is stopped");
    }
    return HostError::Last("make", directory);
  }
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd && errno != ENOENT) return HostError::Last("open", directory);
  HostResult<UniqueFd> lock =
      fd ? TakeLock(fd.get()) : HostResult<UniqueFd>(HostError::WithErrno(ENOENT, "open", directory));
  if (!lock.ok() && lock.error().error() == ENOENT) {
    return HostError::Message("container " + options.id + " was deleted while it was made");
  }
  if (!lock.ok()) return lock.error();
  Container container(directory, std::move(fd), std::move(*lock));
  if (HostResult<void> filled = container.Fill(config, options, exit_code); !filled.ok()) {
    [[maybe_unused]] const HostResult<void> destroyed = container.Destroy();
    return filled.error();
  }
  return container;
}

HostResult<void> Container::Fill(const Config& config, const CreateOptions& options,
                                 int* exit_code) {
  char bundle[PATH_MAX];
  if (realpath(options.bundle.c_str(), bundle) == nullptr) {
    return HostError::Last("find the bundle", options.bundle);
  }
  const std::string config_path = std::string(bundle) + "/config.json";
  HostResult<std::string> text = ReadFileText(config_path);
  if (!text.ok()) {
    if (text.error().error() != ENOENT) return text.error();
    return HostError::Message(std::string(bundle) + " is no bundle: it has no config.json; `runsc "
                              "spec --bundle " + bundle + "` writes one");
  }
  std::vector<std::string> warnings;
  const oci::Spec spec = TRY(ParseSpec(*text, config_path, &warnings));
  TRY(ValidateSpec(spec, &warnings));

  BootArgs boot;
  SandboxOptions sandbox;
  sandbox.max_files = config.fd_limit;
  TRY(FillFromSpec(spec, bundle, config, &boot, &sandbox, &warnings));
  boot.container_id = options.id;
  // Hooks of the start run inside, beside a program that has not begun.
  const bool start_hooks = spec.hooks().start_container_size() > 0;
  const std::optional<Container> host = TRY(FindHost(config, spec));
  if (!host) TRY(SetUpNetwork(spec, config, &boot, &sandbox));
  const bool starts_later = start_hooks || state_.takes_network() || host.has_value();
  boot.start_now = options.start_now && !starts_later;
  boot.control_listen = TRY(ListenControl(fd_.get(), kSocketFile));
  if (!options.user_log.empty()) {
    boot.user_log.reset(
        ::open(options.user_log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (!boot.user_log) return HostError::Last("open --user-log", options.user_log);
  }
  if (spec.process().terminal() && !options.console_socket.empty()) {
    TRY(SetUpConsole(options.console_socket, &boot.process));
  } else if (spec.process().terminal() && !options.attached) {
    return HostError::Message("config.json: process.terminal is true; a container that is not "
                              "attached then needs --console-socket");
  } else {
    TRY(PassStdio(options.preserve_fds, options.passed_fds, &boot.process));
  }

  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  state_.set_id(options.id);
  state_.set_bundle(bundle);
  state_.set_rootfs(sandbox.gofer_roots[0].path);
  state_.set_created_ns(now.tv_sec * 1'000'000'000L + now.tv_nsec);
  state_.set_owner(getuid());
  state_.set_oci_version(spec.oci_version());
  *state_.mutable_annotations() = {spec.annotations().begin(), spec.annotations().end()};
  state_.set_spec(spec.SerializeAsString());
  TRY(Save());  // from here on there is something to clean up
  if (!config.ignore_cgroups && config.privileged) {
    std::vector<std::string> groups =
        TRY(MakeCgroups(spec.linux().cgroups_path(), options.id, spec.linux().resources(),
                        &warnings));
    for (const std::string& group : groups) state_.add_cgroups(group);
    TRY(Save());
  } else if (spec.linux().has_resources() && !config.ignore_cgroups) {
    warnings.push_back("config.json: linux.resources: without privilege no cgroup is made; memory.limit "
                       "and cpu.quota bound what the container sees, the rest has no effect");
  }
  for (const std::string& warning : warnings) RW_LOG(kWarning, "%s", warning.c_str());

  sandbox.die_with_caller = options.attached;
  sandbox.cgroups = {state_.cgroups().begin(), state_.cgroups().end()};
  sandbox.before_boot = [&](pid_t pid) -> HostResult<void> {
    state_.set_pid(pid);
    state_.set_pid_start(ProcessStartTime(pid).value_or(0));
    if (spec.process().has_oom_score_adj()) {
      // Also for the host's choice, when it runs out of memory; an ordinary user may not lower it.
      const std::string path = "/proc/" + std::to_string(pid) + "/oom_score_adj";
      UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
      const std::string value = std::to_string(spec.process().oom_score_adj());
      if (!fd || ::write(fd.get(), value.data(), value.size()) < 0) {
        RW_LOG(kWarning, "config.json: process.oomScoreAdj holds inside only: %m");
      }
    }
    // For a command that comes between our own death and the end of this one.
    TRY(Save());
    const std::string json = StateJson(ContainerStatus::kCreating);
    TRY(RunHooks(spec.hooks().prestart(), "prestart", json));
    TRY(RunHooks(spec.hooks().create_runtime(), "createRuntime", json));
    TRY(RunHooks(spec.hooks().create_container(), "createContainer", json));
    return {};
  };
  const bool boot_started = boot.start_now;
  if (host) {
    TRY(JoinSandbox(*host, sandbox, std::move(boot), exit_code));
  } else {
    process_ = TRY(StartSandbox(sandbox, std::move(boot)));
    TRY(AwaitReady(exit_code));
  }
  state_.set_started(boot_started);
  TRY(Save());
  if (!options.pid_file.empty()) {
    TRY(WriteFileAtomically(options.pid_file, std::to_string(state_.pid())));
  }
  if (options.start_now && starts_later) {
    if (HostResult<void> started = Begin(); !started.ok()) {
      kill(process_.pid, SIGKILL);
      RetryEintr([&] { return waitpid(process_.pid, nullptr, 0); });
      return started.error();
    }
  }
  return {};
}

HostResult<void> Container::AwaitReady(int* exit_code) {
  const std::optional<StatusPipe::Message> message = StatusPipe::Read(process_.status.get());
  if (!message || message->kind == StatusPipe::Message::Kind::kFail) {
    int status = 0;
    if (!message) kill(process_.pid, SIGKILL);  // it lives on after closing the pipe: never
    RetryEintr([&] { return waitpid(process_.pid, &status, 0); });
    std::string death = "the Sentry ended before the container was made";
    const int code = ExitCodeOf(status, &death);
    *exit_code = message ? message->exit_code : std::max(code, 128);
    return HostError::Message(message ? message->text : death);
  }
  return {};
}

HostResult<Container> Container::Load(const Config& config, const std::string& id) {
  TRY(CheckId(id));
  const std::string directory = config.root + "/" + id;
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) {
      return NoSuchContainer(config, id);
    }
    return HostError::Last("open", directory);
  }
  HostResult<UniqueFd> lock = TakeLock(fd.get());
  // Deleted while we waited for the lock.
  if (!lock.ok() && lock.error().error() == ENOENT) return NoSuchContainer(config, id);
  if (!lock.ok()) return lock.error();
  Container container(directory, std::move(fd), std::move(*lock));
  container.state_.set_id(id);
  TRY(container.ReadState());
  return container;
}

HostResult<Container> Container::Look(const Config& config, const std::string& id) {
  TRY(CheckId(id));
  const std::string directory = config.root + "/" + id;
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return NoSuchContainer(config, id);
  if (!fd) return HostError::Last("open", directory);
  Container container(directory, std::move(fd), UniqueFd());
  container.state_.set_id(id);
  TRY(container.ReadState());
  return container;
}

void Container::Unlock() {
  // Said, not left to the close: a process of the sandbox may have a copy for a moment yet.
  if (lock_) flock(lock_.get(), LOCK_UN);
  lock_.reset();
}

HostResult<void> Container::ReadState() {
  HostResult<std::string> text = ReadFileText(directory_ + "/" + kStateFile);
  if (!text.ok()) {
    // Without a state the creation was cut off: nothing runs.
    if (text.error().error() == ENOENT) return {};
    return text.error();
  }
  const std::string id = state_.id();
  if (!state_.ParseFromString(*text)) {
    return HostError::Message(directory_ + "/" + kStateFile + " is damaged; `runsc delete --force " +
                              id + "` removes the container");
  }
  state_.set_id(id);
  return {};
}

HostResult<std::vector<std::string>> Container::List(const Config& config) {
  std::vector<std::string> ids;
  DIR* root = opendir(config.root.c_str());
  if (root == nullptr) {
    if (errno == ENOENT) return ids;
    return HostError::Last("read", config.root);
  }
  while (const dirent* entry = readdir(root)) {
    if (entry->d_name[0] != '.' && CheckId(entry->d_name).ok() && entry->d_type == DT_DIR) {
      ids.push_back(entry->d_name);
    }
  }
  closedir(root);
  std::sort(ids.begin(), ids.end());
  return ids;
}

HostResult<void> Container::Save() const {
  return WriteFileAtomically(directory_ + "/" + kStateFile, state_.SerializeAsString());
}

bool Container::Alive() const {
  return state_.pid() > 0 && ProcessStartTime(state_.pid()) == state_.pid_start();
}

ContainerStatus Container::Status() const {
  if (!Alive()) {
    // Seen by one who only looks, while another makes it.
    return !lock_ && state_.pid() == 0 ? ContainerStatus::kCreating : ContainerStatus::kStopped;
  }
  if (!state_.started()) return ContainerStatus::kCreated;
  return state_.paused() ? ContainerStatus::kPaused : ContainerStatus::kRunning;
}

std::string Container::StateJson(ContainerStatus status) const {
  JsonObject annotations;
  for (const auto& [name, value] : state_.annotations()) annotations.Add(name, value);
  JsonObject json;
  json.Add("ociVersion", state_.oci_version());
  json.Add("id", state_.id());
  json.Add("status", std::string(ContainerStatusName(status)));
  json.AddNumber("pid", status == ContainerStatus::kStopped ? 0 : state_.pid());
  json.Add("bundle", state_.bundle());
  json.Add("rootfs", state_.rootfs());
  json.Add("created", FormatTime(state_.created_ns()));
  if (state_.annotations_size() > 0) json.AddRaw("annotations", annotations.Text());
  return json.Text();
}

oci::Spec Container::Spec() const {
  oci::Spec spec;
  if (!spec.ParseFromString(state_.spec())) spec.Clear();
  return spec;
}

HostResult<ControlClient> Container::Connect() const {
  HostResult<ControlClient> client = ControlClient::Connect(fd_.get(), kSocketFile);
  if (!client.ok()) return client.error().Wrap("container " + state_.id());
  return client;
}

HostResult<control::Response> Container::Call(const control::Request& request,
                                              const std::vector<int>& fds) const {
  ControlClient client = TRY(Connect());
  control::Response response = TRY(client.Call(request, fds));
  if (response.error() != 0) {
    const std::string what = "container " + state_.id();
    if (!response.text().empty()) return HostError::Message(what + ": " + response.text());
    return HostError::WithErrno(response.error(), what + ": the sandbox answered");
  }
  return response;
}

HostResult<void> Container::RunStartHooks() {
  const oci::Spec spec = Spec();
  for (const oci::Hook& hook : spec.hooks().start_container()) {
    const std::string what = "the startContainer hook " + hook.path();
    BootProcess process;
    process.argv.assign(hook.args().begin(), hook.args().end());
    if (process.argv.empty()) process.argv.push_back(hook.path());
    process.program = hook.path();
    process.envp.assign(hook.env().begin(), hook.env().end());
    process.caps.bounding = process.caps.effective = process.caps.permitted = kAllCaps;
    for (UniqueFd& fd : process.stdio) fd.reset(memfd_create("hook", MFD_CLOEXEC));
    const std::string json = StateJson(ContainerStatus::kCreated);
    if (!process.stdio[2] || ::pwrite(process.stdio[0].get(), json.data(), json.size(), 0) < 0) {
      return HostError::Last(what + ": make its input");
    }
    ControlClient client = TRY(Connect());
    control::Request request;
    std::vector<int> fds;
    ToProto(process, request.mutable_exec()->mutable_process(), &fds);
    control::Response made = TRY(client.Call(request, fds));
    if (made.error() != 0) return HostError::Message(what + ": " + made.text());
    request.Clear();
    request.mutable_wait()->set_pid(made.pid());
    TRY(client.Send(request));
    pollfd wait = {client.fd(), POLLIN, 0};
    if (hook.has_timeout() &&
        RetryEintr([&] { return poll(&wait, 1, hook.timeout() * 1000); }) == 0) {
      return HostError::Message(what + " took longer than " + std::to_string(hook.timeout()) +
                                " seconds");
    }
    control::Response ended = TRY(client.Receive());
    const int code = ShellExitCode(ended.wait_status());
    if (code != 0) return HostError::Message(what + " failed with exit code " + std::to_string(code));
  }
  return {};
}

namespace {

// Whether `path` is the network namespace that this process is in.
bool IsOwnNetwork(const std::string& path) {
  struct stat own, other;
  return stat("/proc/self/ns/net", &own) == 0 && stat(path.c_str(), &other) == 0 &&
         own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

}  // namespace

HostResult<void> Container::SetUpNetwork(const oci::Spec& spec, const Config& config,
                                         BootArgs* boot, SandboxOptions* sandbox) {
  boot->network.mode = config.network_mode;
  const oci::Namespace* given = nullptr;
  for (const oci::Namespace& n : spec.linux().namespaces()) {
    if (n.type() == "network") given = &n;
  }
  if (config.network_mode == NetworkMode::kSandbox &&
      (given == nullptr || (!given->path().empty() && IsOwnNetwork(given->path())))) {
    // The engine means the host's network, whose interfaces must never be taken over.
    boot->network.mode = NetworkMode::kHost;
  }
  if (boot->network.mode == NetworkMode::kSandbox) {
    sandbox->container_net = given->path();
    state_.set_takes_network(true);
  }
  const bool host = boot->network.mode == NetworkMode::kHost;
  if (host) boot->network.mode = NetworkMode::kUser;
  if (boot->network.mode == NetworkMode::kUser) {
    UserNetworkOptions options;
    options.host_ports = options.host_loopback = host;
    options.privileged = config.privileged;
    options.strict = config.strict;
    UserNetwork network = TRY(StartUserNetwork(options));
    boot->network.config = std::move(network.config);
    boot->network.resolv_conf = std::move(network.resolv_conf);
    state_.set_resolv_conf(boot->network.resolv_conf);
    boot->network.ports = std::move(network.ports);
    boot->network.helper = network.helper;
  }
  return {};
}

namespace {

// What the container's /etc/resolv.conf is to say where it names a resolver in the network namespace that
// only the host's kernel reaches; *resolver gets that one's address, or nothing. An engine may write
// the file as late as in a hook of the creation.
std::string ResolvConfOf(const oci::Spec& spec, std::string* resolver) {
  for (const oci::Mount& mount : spec.mounts()) {
    if (mount.destination() != "/etc/resolv.conf") continue;
    HostResult<std::string> text = ReadFileText(mount.source());
    std::optional<std::string> relayed;
    if (text.ok()) relayed = RelayedResolvConf(*text, resolver);
    if (relayed) return *relayed;
  }
  return {};
}

}  // namespace

bool Container::CanEnterNetwork() const {
  HostResult<NetNamespaceScope> inside =
      NetNamespaceScope::Enter("/proc/" + std::to_string(state_.pid()) + "/ns/net");
  return inside.ok() || inside.error().error() != EPERM;
}

HostResult<void> Container::Begin() {
  TRY(RunStartHooks());
  control::Request request;
  request.mutable_start();
  NetworkConfig network;
  std::vector<int> fds;
  if (state_.takes_network() && !CanEnterNetwork()) {
    RW_LOG(kWarning, "network: the host does not let runsc into the container's namespace; the "
                     "container has a loopback only");
  } else if (state_.takes_network()) {
    const std::string path = "/proc/" + std::to_string(state_.pid()) + "/ns/net";
    if (IsOwnNetwork(path)) return HostError::Message("network: the container is in the host's namespace");
    // Only now: some engines furnish the namespace between create and start.
    const NetNamespaceScope inside =
        TRY(NetNamespaceScope::Enter(path));
    network = TRY(TakeOverNetwork({.pid = state_.pid(), .id = state_.id()}));
    std::string resolver;
    const std::string resolv_conf = ResolvConfOf(Spec(), &resolver);
    if (!resolver.empty()) {
      UserNetworkOptions options;
      options.privileged = true;
      UserNetwork relay = TRY(StartNameRelay(resolver, options));
      process_.net_helper = relay.helper;
      network.links.push_back(std::move(relay.config.links[0]));
      request.mutable_start()->set_resolv_conf(resolv_conf);
      state_.set_resolv_conf(resolv_conf);
    }
    ToProto(network, request.mutable_start()->mutable_network(), &fds);
  }
  if (!state_.sandbox().empty()) request.mutable_start()->set_resolv_conf(SandboxResolvConf());
  TRY(Call(request, fds));
  state_.set_started(true);
  return Save();
}

HostResult<void> Container::Start() {
  const ContainerStatus status = Status();
  if (status != ContainerStatus::kCreated) {
    return HostError::Message("container " + state_.id() + " cannot be started: it is " +
                              ContainerStatusName(status));
  }
  TRY(Begin());
  return RunHooks(Spec().hooks().poststart(), "poststart", StateJson(ContainerStatus::kRunning));
}

HostResult<void> Container::Signal(int signal, bool all) {
  const ContainerStatus status = Status();
  if (status == ContainerStatus::kStopped) {
    return HostError::WithErrno(ESRCH, "container " + state_.id() + " is not running");
  }
  control::Request request;
  request.mutable_signal()->set_signal(signal);
  request.mutable_signal()->set_all(all);
  HostResult<control::Response> sent = Call(request);
  if (sent.ok()) return {};
  // A Sentry that does not answer is ended from outside.
  if (signal == SIGKILL && kill(state_.pid(), SIGKILL) == 0) return {};
  return sent.error();
}

HostResult<void> Container::SetPaused(bool paused) {
  const ContainerStatus wanted = paused ? ContainerStatus::kRunning : ContainerStatus::kPaused;
  if (Status() != wanted) {
    return HostError::Message("container " + state_.id() + " is " + ContainerStatusName(Status()) +
                              ", not " + ContainerStatusName(wanted));
  }
  control::Request request;
  if (paused) {
    request.mutable_pause();
  } else {
    request.mutable_resume();
  }
  TRY(Call(request));
  state_.set_paused(paused);
  return Save();
}

HostResult<void> Container::Delete(bool force) {
  if (Alive()) {
    if (!force && Status() != ContainerStatus::kCreated) {
      return HostError::Message("container " + state_.id() + " is " +
                                ContainerStatusName(Status()) + "; stop it first, or use --force");
    }
    if (!state_.sandbox().empty()) EndJoined();
    UniqueFd handle(static_cast<int>(syscall(SYS_pidfd_open, state_.pid(), 0)));
    // Asked again now that the process is held: its number may have gone to another meanwhile.
    if (handle && Alive()) {
      syscall(SYS_pidfd_send_signal, handle.get(), SIGKILL, nullptr, 0);
    } else if (!handle) {
      kill(state_.pid(), SIGKILL);
    }
    if (handle) {
      pollfd wait = {handle.get(), POLLIN, 0};
      RetryEintr([&] { return poll(&wait, 1, 10'000); });
    } else {
      const timespec pause = {0, 5'000'000};
      for (int tries = 0; Alive() && tries < 2000; tries++) nanosleep(&pause, nullptr);
    }
  }
  return Destroy();
}

HostResult<void> Container::Destroy() {
  RemoveCgroups({state_.cgroups().begin(), state_.cgroups().end()});
  HostResult<void> hooks =
      RunHooks(Spec().hooks().poststop(), "poststop", StateJson(ContainerStatus::kStopped));
  if (!hooks.ok()) RW_LOG(kWarning, "%s", hooks.error().message().c_str());
  for (const char* name : {kSocketFile, kStateFile, "state.new"}) {
    unlinkat(fd_.get(), name, 0);
  }
  if (rmdir(directory_.c_str()) != 0 && errno != ENOENT) {
    return HostError::Last("remove", directory_);
  }
  return {};
}

}  // namespace ringwall
