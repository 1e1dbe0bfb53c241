// runsc state and runsc list.
#include <stdio.h>

#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/container/files.h"
#include "runsc/container/json.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class State final : public Command {
 public:
  const char* name() const override { return "state"; }
  const char* summary() const override { return "print a container's state as JSON"; }
  const char* arguments() const override { return "ID"; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 1; }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override {
    Container container = TRY(Container::Look(config, args[0]));
    printf("%s\n", container.StateJson(container.Status()).c_str());
    return 0;
  }
};

class List final : public Command {
 public:
  const char* name() const override { return "list"; }
  const char* summary() const override { return "list the containers"; }
  const char* arguments() const override { return "[flags]"; }
  void AddFlags(FlagSet& flags) override {
    flags.String("format,f", &format_, "table|json", "how to print them (text: as table)");
    flags.Bool("quiet,q", &quiet_, "names only");
    flags.Ignored("sandbox", false);  // each container is one
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  std::string format_ = "table";
  bool quiet_ = false;
};

HostResult<int> List::Run(Config& config, const std::vector<std::string>&) {
  if (format_ == "text") format_ = "table";  // gVisor's name for it
  if (format_ != "table" && format_ != "json") {
    return HostError::Message("--format: \"" + format_ + "\" is not table or json");
  }
  const std::vector<std::string> ids = TRY(Container::List(config));
  std::vector<std::string> json;
  if (!quiet_ && format_ == "table") {
    printf("%-24s %-8s %-8s %-32s %-24s %s\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER");
  }
  for (const std::string& id : ids) {
    if (quiet_) {
      printf("%s\n", id.c_str());
      continue;
    }
    HostResult<Container> container = Container::Look(config, id);
    if (!container.ok()) continue;  // deleted meanwhile
    const ContainerStatus status = container->Status();
    if (format_ == "json") {
      json.push_back(container->StateJson(status));
      continue;
    }
    const container::State& state = container->state();
    printf("%-24s %-8d %-8s %-32s %-24.19s #%u\n", id.c_str(),
           status == ContainerStatus::kStopped ? 0 : state.pid(), ContainerStatusName(status),
           state.bundle().c_str(), FormatTime(state.created_ns()).c_str(), state.owner());
  }
  if (!quiet_ && format_ == "json") printf("%s\n", JsonList(json).c_str());
  return 0;
}

}  // namespace

std::unique_ptr<Command> NewStateCommand() { return std::make_unique<State>(); }
std::unique_ptr<Command> NewListCommand() { return std::make_unique<List>(); }

}  // namespace ringwall
