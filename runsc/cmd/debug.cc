// runsc debug: looks into a running sandbox.
#include <stdio.h>

#include <algorithm>

#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/sandbox/caller.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class Debug final : public Command {
 public:
  const char* name() const override { return "debug"; }
  const char* summary() const override { return "look into a running sandbox"; }
  const char* arguments() const override { return "[flags] ID"; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 1; }
  void AddFlags(FlagSet& flags) override {
    flags.Bool("stacks", &stacks_, "what every task and thread is at");
    flags.Bool("ps", &ps_, "the tasks");
    flags.Bool("stats", &stats_, "system calls, by how they were handed over");
    flags.String("strace", &strace_, "on|off|LIST", "log system calls: all, none, or these");
    flags.String("log-level", &log_level_, "error|warning|info|debug", "how much the sandbox logs");
    for (const char* ignored : {"signal", "pid", "delay", "duration", "trace", "profile-cpu",
                                "profile-heap", "profile-block", "profile-mutex"}) {
      flags.Ignored(ignored, true);
    }
    flags.Ignored("mount", false);
    flags.Ignored("log-packets", true);
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  bool stacks_ = false, ps_ = false, stats_ = false;
  std::string strace_, log_level_;
};

HostResult<int> Debug::Run(Config& config, const std::vector<std::string>& args) {
  if (!stacks_ && !ps_ && !stats_ && strace_.empty() && log_level_.empty()) {
    return HostError::Message("say what to do: --stacks, --ps, --stats, --strace or --log-level");
  }
  Container container = TRY(Container::Load(config, args[0]));
  if (!strace_.empty()) {
    control::Request request;
    request.mutable_strace()->set_on(strace_ != "off");
    if (strace_ != "on" && strace_ != "off" && strace_ != "all") {
      for (const std::string& name : Split(strace_, ',')) {
        request.mutable_strace()->add_syscalls(name);
      }
    }
    TRY(container.Call(request));
  }
  if (!log_level_.empty()) {
    static constexpr const char* kLevels[] = {"error", "warning", "info", "debug"};
    const auto* const level = std::find(std::begin(kLevels), std::end(kLevels), log_level_);
    if (level == std::end(kLevels)) {
      return HostError::Message("--log-level: \"" + log_level_ + "\" is not one of error, warning, "
                                "info, debug");
    }
    control::Request request;
    request.mutable_log()->set_level(static_cast<int32_t>(level - std::begin(kLevels)));
    TRY(container.Call(request));
  }
  if (stacks_) {
    control::Request request;
    request.mutable_stacks();
    control::Response response = TRY(container.Call(request));
    printf("%s", response.report().c_str());
  }
  if (ps_) {
    control::Request request;
    request.mutable_ps();
    control::Response response = TRY(container.Call(request));
    for (const control::Task& task : response.tasks()) {
      printf("%d %d %s\n", task.pid(), task.ppid(), task.command().c_str());
    }
  }
  if (stats_) {
    control::Request request;
    request.mutable_stats()->set_syscalls(true);
    control::Response response = TRY(container.Call(request));
    printf("%-8s %12s %12s %12s\n", "syscall", "in stub", "patched", "trapped");
    for (const control::SyscallCount& count : response.usage().syscalls()) {
      printf("%-8u %12lu %12lu %12lu\n", count.number(), count.local(), count.patched(),
             count.trapped());
    }
    const control::Usage& usage = response.usage();
    printf("views of files: %lu made, %lu reads copied by stubs, %lu of them done again by calls\n", usage.views(),
           usage.view_copies(), usage.view_faults());
  }
  return 0;
}

}  // namespace

std::unique_ptr<Command> NewDebugCommand() { return std::make_unique<Debug>(); }

}  // namespace ringwall
