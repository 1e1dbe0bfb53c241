// runsc ps.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <algorithm>

#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/container/json.h"
#include "runsc/spec/spec.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

// What the Sentry calls `inner` is, on the host, a process whose parent is the Sentry and whose last
// number in /proc/PID/status's NSpid is that one.
std::vector<pid_t> HostPids(pid_t sentry, const std::vector<pid_t>& inner) {
  std::vector<pid_t> out;
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return out;
  while (const dirent* entry = readdir(proc)) {
    const pid_t pid = atoi(entry->d_name);
    if (pid <= 0) continue;
    HostResult<std::string> text = ReadFileText("/proc/" + std::to_string(pid) + "/status");
    if (!text.ok()) continue;
    const size_t parent = text->find("\nPPid:"), names = text->find("\nNSpid:");
    if (parent == std::string::npos || names == std::string::npos) continue;
    if (atoi(text->c_str() + parent + 6) != sentry) continue;
    const std::string line = text->substr(names + 1, text->find('\n', names + 1) - names - 1);
    const pid_t last = atoi(line.c_str() + line.find_last_of(" \t") + 1);
    if (std::find(inner.begin(), inner.end(), last) != inner.end()) out.push_back(pid);
  }
  closedir(proc);
  std::sort(out.begin(), out.end());
  return out;
}

class Ps final : public Command {
 public:
  const char* name() const override { return "ps"; }
  const char* summary() const override { return "list the processes of a container"; }
  const char* arguments() const override { return "[flags] ID"; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return SIZE_MAX; }  // runc takes options of ps(1) here
  void AddFlags(FlagSet& flags) override {
    flags.String("format,f", &format_, "table|json", "json: the pids on the host only, as runc prints them");
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
    std::vector<pid_t> inner;
    for (const control::Task& task : response.tasks()) {
      if (task.host_pid() != 0) inner.push_back(task.host_pid());
    }
    if (inner.empty()) {
      for (const control::Task& task : response.tasks()) pids.push_back(std::to_string(task.pid()));
    }
    const container::State& state = container.state();
    const pid_t sentry = state.sandbox().empty() ? state.pid() : state.sandbox_pid();
    for (const pid_t pid : HostPids(sentry, inner)) {
      pids.push_back(std::to_string(pid));
    }
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
