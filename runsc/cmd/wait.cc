// runsc wait.
#include <stdio.h>

#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/container/json.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class Wait final : public Command {
 public:
  const char* name() const override { return "wait"; }
  const char* summary() const override { return "wait for the end of a container"; }
  const char* arguments() const override { return "[flags] ID"; }
  const char* details() const override {
    return "Prints {\"id\":ID,\"exitStatus\":N}.\n\n";
  }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 1; }
  void AddFlags(FlagSet& flags) override {
    flags.Int("pid", &pid_, "PID", "for this process of the container instead");
    flags.Int("rootpid", &pid_, "PID", "");
    for (const char* name : {"checkpoint", "fscheckpoint", "fsrestore", "restore"}) {
      flags.Bool(name, &for_checkpoint_, "");
    }
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override {
    Container container = TRY(Container::Load(config, args[0]));
    if (for_checkpoint_) return HostError::Message("checkpoints are not supported");
    container.Unlock();
    control::Request request;
    request.mutable_wait()->set_pid(static_cast<int32_t>(pid_));
    control::Response response = TRY(container.Call(request));
    JsonObject json;
    json.Add("id", args[0]);
    json.AddNumber("exitStatus", ShellExitCode(response.wait_status()));
    printf("%s\n", json.Text().c_str());
    return 0;
  }

 private:
  int64_t pid_ = 0;
  bool for_checkpoint_ = false;
};

}  // namespace

std::unique_ptr<Command> NewWaitCommand() { return std::make_unique<Wait>(); }

}  // namespace ringwall
