// runsc pause and runsc resume.
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class Pause final : public Command {
 public:
  explicit Pause(bool pause) : pause_(pause) {}
  const char* name() const override { return pause_ ? "pause" : "resume"; }
  const char* summary() const override {
    return pause_ ? "stop all tasks of a container" : "let a paused container go on";
  }
  const char* arguments() const override { return "ID"; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 1; }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override {
    Container container = TRY(Container::Load(config, args[0]));
    TRY(container.SetPaused(pause_));
    return 0;
  }

 private:
  const bool pause_;
};

}  // namespace

std::unique_ptr<Command> NewPauseCommand() { return std::make_unique<Pause>(true); }
std::unique_ptr<Command> NewResumeCommand() { return std::make_unique<Pause>(false); }

}  // namespace ringwall
