// runsc features: what this runtime and this host can do, as OCI's features document, with the
// layers of isolation that hold here.
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runsc/cmd/command.h"
#include "runsc/container/json.h"
#include "runsc/sandbox/sandbox.h"
#include "runsc/spec/spec.h"
#include "runsc/version.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

std::string Strings(std::initializer_list<const char*> values) {
  std::vector<std::string> quoted;
  for (const char* value : values) quoted.push_back(JsonString(value));
  return JsonList(quoted);
}

class Features final : public Command {
 public:
  const char* name() const override { return "features"; }
  const char* summary() const override { return "what this runtime and this host can do"; }
  const char* arguments() const override { return ""; }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;
};

// Sets a Sentry up to the filter and asks it what held.
HostResult<Layers> ProbeLayers(const Config& config, std::string* platform_error) {
  for (const bool with_platform : {true, false}) {
    SandboxOptions options;
    options.privileged = config.privileged;
    options.only_report_layers = true;
    options.skip_platform = !with_platform;
    BootArgs boot;
    boot.platform_name = config.platform;
    SandboxProcess process = TRY(StartSandbox(options, std::move(boot)));
    std::optional<StatusPipe::Message> message = StatusPipe::Read(process.status.get());
    RetryEintr([&] { return waitpid(process.pid, nullptr, 0); });
    if (message && message->exit_code == 0) return Layers::FromText(message->text);
    *platform_error = message ? message->text : "the process that tried died";
  }
  return HostError::Message("try a sandbox: " + *platform_error);
}

HostResult<int> Features::Run(Config& config, const std::vector<std::string>&) {
  std::string platform_error;
  const Layers layers = TRY(ProbeLayers(config, &platform_error));
  JsonObject layer_json;
  for (size_t i = 0; i < kLayerCount; i++) {
    layer_json.AddBool(LayerName(static_cast<Layer>(i)), layers.held(static_cast<Layer>(i)));
  }
  JsonObject annotations;
  annotations.Add("org.ringwall.version", kVersion);
  annotations.Add("org.ringwall.platform", config.platform);
  if (!platform_error.empty()) annotations.Add("org.ringwall.platform.error", platform_error);
  annotations.AddRaw("org.ringwall.layers", JsonString(layer_json.Text()));

  JsonObject seccomp;
  seccomp.AddBool("enabled", true);
  seccomp.AddRaw("actions", Strings({"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",
                                     "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                                     "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"}));
  seccomp.AddRaw("archs", Strings({"SCMP_ARCH_X86_64"}));
  JsonObject cgroup;
  cgroup.AddBool("v1", true);
  cgroup.AddBool("v2", true);
  cgroup.AddBool("systemd", false);
  JsonObject off;
  off.AddBool("enabled", false);
  std::vector<std::string> caps;
  for (int cap = 0; cap <= 40; cap++) caps.push_back(JsonString(CapabilityName(cap)));
  JsonObject linux_json;
  linux_json.AddRaw("namespaces", Strings({"cgroup", "ipc", "mount", "network", "pid", "user",
                                           "uts"}));
  linux_json.AddRaw("capabilities", JsonList(caps));
  linux_json.AddRaw("cgroup", cgroup.Text());
  linux_json.AddRaw("seccomp", seccomp.Text());
  linux_json.AddRaw("apparmor", off.Text());
  linux_json.AddRaw("selinux", off.Text());

  JsonObject json;
  json.Add("ociVersionMin", "1.0.0");
  json.Add("ociVersionMax", "1.2.0");
  json.AddRaw("hooks", Strings({"prestart", "createRuntime", "createContainer", "poststart",
                                "poststop"}));
  json.AddRaw("mountOptions",
              Strings({"async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec",
                       "lazytime", "noatime", "nodev", "nodiratime", "noexec", "nolazytime",
                       "norelatime", "nosuid", "private", "rbind", "relatime", "ro", "rprivate",
                       "rshared", "rslave", "runbindable", "rw", "shared", "slave", "strictatime",
                       "suid", "sync", "unbindable"}));
  json.AddRaw("linux", linux_json.Text());
  json.AddRaw("annotations", annotations.Text());
  printf("%s\n", json.Text().c_str());
  return 0;
}

}  // namespace

std::unique_ptr<Command> NewFeaturesCommand() { return std::make_unique<Features>(); }

}  // namespace ringwall
