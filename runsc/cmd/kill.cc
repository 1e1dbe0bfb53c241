// runsc kill and runsc delete.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/sandbox/signal_name.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class Kill final : public Command {
 public:
  const char* name() const override { return "kill"; }
  const char* summary() const override { return "send a signal to a container"; }
  const char* arguments() const override { return "[flags] ID [SIGNAL]"; }
  const char* details() const override {
    return "SIGNAL is a name or a number; SIGTERM without one.\n\n";
  }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 2; }
  void AddFlags(FlagSet& flags) override {
    flags.Bool("all,a", &all_, "to every process of the container");
    flags.Int("pid", &pid_, "PID", "to this process of the container");
    flags.Int("pgid", &pgid_, "PGID", "to this process group of the container");
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override {
    int signal = SIGTERM;
    if (args.size() == 2) {
      signal = SignalByName(args[1]);
      if (signal < 0) return HostError::Message("\"" + args[1] + "\" is not a signal");
    }
    Container container = TRY(Container::Load(config, args[0]));
    if (pid_ != 0 && pgid_ != 0) return HostError::Message("--pid and --pgid exclude each other");
    if (pid_ == 0 && pgid_ == 0) {
      TRY(container.Signal(signal, all_));
      return 0;
    }
    control::Request request;
    request.mutable_signal()->set_signal(signal);
    request.mutable_signal()->set_pid(static_cast<int32_t>(pid_));
    request.mutable_signal()->set_pgid(static_cast<int32_t>(pgid_));
    TRY(container.Call(request));
    return 0;
  }

 private:
  bool all_ = false;
  int64_t pid_ = 0, pgid_ = 0;
};

class Delete final : public Command {
 public:
  const char* name() const override { return "delete"; }
  const char* summary() const override { return "remove stopped containers"; }
  const char* arguments() const override { return "[flags] ID..."; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return SIZE_MAX; }
  void AddFlags(FlagSet& flags) override {
    flags.Bool("force,f", &force_, "end running ones first; no error when there is none");
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override {
    for (const std::string& id : args) {
      HostResult<Container> container = Container::Load(config, id);
      if (!container.ok()) {
        if (force_ && container.error().error() == ENOENT) continue;
        return container.error();
      }
      TRY(container->Delete(force_));
    }
    return 0;
  }

 private:
  bool force_ = false;
};

}  // namespace

std::unique_ptr<Command> NewKillCommand() { return std::make_unique<Kill>(); }
std::unique_ptr<Command> NewDeleteCommand() { return std::make_unique<Delete>(); }

}  // namespace ringwall
