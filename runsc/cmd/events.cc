// runsc events.
#include <stdio.h>
#include <unistd.h>

#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/container/json.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

std::string StatsJson(const std::string& id, const control::Usage& usage) {
  JsonObject cpu_usage, cpu, memory_usage, memory, pids, data, event;
  cpu_usage.AddNumber("total", static_cast<int64_t>(usage.user_ns() + usage.system_ns()));
  cpu_usage.AddNumber("user", static_cast<int64_t>(usage.user_ns()));
  cpu_usage.AddNumber("kernel", static_cast<int64_t>(usage.system_ns()));
  cpu.AddRaw("usage", cpu_usage.Text());
  memory_usage.AddNumber("usage", static_cast<int64_t>(usage.memory_bytes()));
  memory.AddRaw("usage", memory_usage.Text());
  pids.AddNumber("current", static_cast<int64_t>(usage.tasks()));
  data.AddRaw("cpu", cpu.Text());
  data.AddRaw("memory", memory.Text());
  data.AddRaw("pids", pids.Text());
  event.Add("type", "stats");
  event.Add("id", id);
  event.AddRaw("data", data.Text());
  return event.Text();
}

class Events final : public Command {
 public:
  const char* name() const override { return "events"; }
  const char* summary() const override { return "print what a container uses, again and again"; }
  const char* arguments() const override { return "[flags] ID"; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 1; }
  void AddFlags(FlagSet& flags) override {
    flags.Bool("stats", &once_, "once only");
    flags.String("interval", &interval_, "SECONDS", "time between two events (default 5s)");
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  bool once_ = false;
  std::string interval_ = "5s";
};

HostResult<int> Events::Run(Config& config, const std::vector<std::string>& args) {
  unsigned seconds = 0;
  char unit = 's', rest = '\0';
  const int fields = sscanf(interval_.c_str(), "%u%c%c", &seconds, &unit, &rest);
  if (fields < 1 || fields > 2 || seconds == 0 || (unit != 's' && unit != 'm')) {
    return HostError::Message("--interval: \"" + interval_ + "\" is not a time such as 5s");
  }
  if (unit == 'm') seconds *= 60;
  Container container = TRY(Container::Load(config, args[0]));
  container.Unlock();
  while (true) {
    control::Request request;
    request.mutable_stats();
    HostResult<control::Response> response = container.Call(request);
    if (!response.ok()) {
      if (container.Status() == ContainerStatus::kStopped && !once_) return 0;
      return response.error();
    }
    printf("%s\n", StatsJson(args[0], response->usage()).c_str());
    fflush(stdout);
    if (once_) return 0;
    sleep(seconds);
  }
}

}  // namespace

std::unique_ptr<Command> NewEventsCommand() { return std::make_unique<Events>(); }

}  // namespace ringwall
