// runsc start.
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class Start final : public Command {
 public:
  const char* name() const override { return "start"; }
  const char* summary() const override { return "run the program of a created container"; }
  const char* arguments() const override { return "ID"; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 1; }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override {
    Container container = TRY(Container::Load(config, args[0]));
    TRY(container.Start());
    return 0;
  }
};

}  // namespace

std::unique_ptr<Command> NewStartCommand() { return std::make_unique<Start>(); }

}  // namespace ringwall
