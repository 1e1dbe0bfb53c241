// runsc ps.
#include <stdio.h>
#include <time.h>

#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/container/json.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class Ps final : public Command {
 public:
  const char* name() const override { return "ps"; }
  const char* summary() const override { return "list the processes of a container"; }
  const char* arguments() const override { return "[flags] ID"; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return SIZE_MAX; }  // runc takes options of ps(1) here
  void AddFlags(FlagSet& flags) override {
    flags.String("format,f", &format_, "table|json", "json: the pids only, as runc prints them");
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  std::string format_ = "table";
};

HostResult<int> Ps::Run(Config& config, const std::vector<std::string>& args) {
  Container container = TRY(Container::Load(config, args[0]));
  control::Request request;
  request.mutable_ps();
  control::Response response = TRY(container.Call(request));
  if (format_ == "json") {
    std::vector<std::string> pids;
    for (const control::Task& task : response.tasks()) pids.push_back(std::to_string(task.pid()));
    printf("%s\n", JsonList(pids).c_str());
    return 0;
  }
  printf("%-8s %-8s %-8s %-8s %-8s %-10s %s\n", "UID", "PID", "PPID", "TTY", "STIME", "TIME", "CMD");
  for (const control::Task& task : response.tasks()) {
    const time_t start = task.start_time_ms() / 1000;
    tm local;
    localtime_r(&start, &local);
    char when[16];
    strftime(when, sizeof(when), "%H:%M", &local);
    printf("%-8u %-8d %-8d %-8s %-8s %-10.2f %s\n", task.uid(), task.pid(), task.ppid(),
           task.tty().empty() ? "?" : task.tty().c_str(), when,
           static_cast<double>(task.cpu_ns()) / 1e9, task.command().c_str());
  }
  return 0;
}

}  // namespace

std::unique_ptr<Command> NewPsCommand() { return std::make_unique<Ps>(); }

}  // namespace ringwall
