// runsc usage: what memory a container's programs hold, as one JSON object.
#include <stdio.h>

#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/container/json.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class UsageCommand final : public Command {
 public:
  const char* name() const override { return "usage"; }
  const char* summary() const override { return "print how much memory a container uses"; }
  const char* arguments() const override { return "ID"; }
  const char* details() const override {
    return "Prints {\"Total\":BYTES}: the resident memory of the container's programs. `events --stats`\n"
           "says what else they use.\n\n";
  }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 1; }
  void AddFlags(FlagSet& flags) override {
    // Other kinds of the same number in gVisor; there is one here.
    flags.Ignored("fd", false);
    flags.Ignored("full", false);
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override {
    Container container = TRY(Container::Load(config, args[0]));
    control::Request request;
    request.mutable_stats();
    control::Response response = TRY(container.Call(request));
    JsonObject json;
    json.AddNumber("Total", static_cast<int64_t>(response.usage().memory_bytes()));
    printf("%s\n", json.Text().c_str());
    return 0;
  }
};

}  // namespace

std::unique_ptr<Command> NewUsageCommand() { return std::make_unique<UsageCommand>(); }

}  // namespace ringwall
