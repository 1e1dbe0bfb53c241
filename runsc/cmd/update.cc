// runsc update: other limits for a running container.
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "runsc/cmd/command.h"
#include "runsc/container/cgroup.h"
#include "runsc/container/container.h"
#include "runsc/spec/spec.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class Update final : public Command {
 public:
  const char* name() const override { return "update"; }
  const char* summary() const override { return "change the limits of a container"; }
  const char* arguments() const override { return "[flags] ID"; }
  const char* details() const override {
    return "Sizes are bytes or such as 512m; -1 takes a limit away.\n\n";
  }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 1; }
  void AddFlags(FlagSet& flags) override {
    flags.String("resources,r", &file_, "FILE", "linux.resources as JSON; - for stdin");
    for (Limit& limit : limits_) flags.String(limit.flag, &limit.text, "N", limit.help);
    flags.String("cpuset-cpus", &cpus_, "LIST", "CPUs that it may use");
    flags.String("cpuset-mems", &mems_, "LIST", "memory nodes that it may use");
    for (const char* ignored : {"cpu-rt-period", "cpu-rt-runtime", "kernel-memory",
                                "kernel-memory-tcp", "cpu-burst", "cpu-idle", "l3-cache-schema",
                                "mem-bw-schema"}) {
      flags.Ignored(ignored, true);
    }
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  struct Limit {
    const char* flag;
    const char* help;
    void (*set)(oci::Resources&, int64_t);
    std::string text = {};
  };
  HostResult<oci::Resources> Wanted();

  std::string file_, cpus_, mems_;
  std::vector<Limit> limits_ = {
      {"memory", "bytes of memory",
       [](oci::Resources& r, int64_t n) { r.mutable_memory()->set_limit(n); }},
      {"memory-reservation", "bytes that it keeps when memory is short",
       [](oci::Resources& r, int64_t n) { r.mutable_memory()->set_reservation(n); }},
      {"memory-swap", "bytes of memory and swap together",
       [](oci::Resources& r, int64_t n) { r.mutable_memory()->set_swap(n); }},
      {"cpu-share", "its share when CPUs are short",
       [](oci::Resources& r, int64_t n) { r.mutable_cpu()->set_shares(static_cast<uint64_t>(n)); }},
      {"cpu-period", "microseconds of a period of --cpu-quota",
       [](oci::Resources& r, int64_t n) { r.mutable_cpu()->set_period(static_cast<uint64_t>(n)); }},
      {"cpu-quota", "microseconds of CPU time in a period",
       [](oci::Resources& r, int64_t n) { r.mutable_cpu()->set_quota(n); }},
      {"pids-limit", "host threads", [](oci::Resources& r, int64_t n) { r.mutable_pids()->set_limit(n); }},
      {"blkio-weight", "weight of its block IO",
       [](oci::Resources& r, int64_t n) {
         r.mutable_block_io()->set_weight(static_cast<uint32_t>(n));
       }}};
};

HostResult<oci::Resources> Update::Wanted() {
  oci::Resources wanted;
  if (!file_.empty()) {
    const std::string name = file_ == "-" ? "/dev/stdin" : file_;
    const std::string text = TRY(ReadFileText(name));
    std::vector<std::string> warnings;
    wanted = TRY(ParseResources(text, name, &warnings));
  }
  for (const Limit& limit : limits_) {
    if (limit.text.empty()) continue;
    if (limit.text == "-1") {
      limit.set(wanted, -1);
      continue;
    }
    HostResult<uint64_t> number = ParseSize(limit.text);
    if (!number.ok()) return number.error().Wrap(std::string("--") + limit.flag);
    limit.set(wanted, static_cast<int64_t>(*number));
  }
  if (!cpus_.empty()) wanted.mutable_cpu()->set_cpus(cpus_);
  if (!mems_.empty()) wanted.mutable_cpu()->set_mems(mems_);
  return wanted;
}

HostResult<int> Update::Run(Config& config, const std::vector<std::string>& args) {
  Container container = TRY(Container::Load(config, args[0]));
  if (container.Status() == ContainerStatus::kStopped) {
    return HostError::Message("container " + args[0] + " is stopped");
  }
  const oci::Resources wanted = TRY(Wanted());
  const auto& cgroups = container.state().cgroups();
  if (cgroups.empty()) {
    return HostError::Message("container " + args[0] + " has no cgroup that could be changed");
  }
  TRY(UpdateCgroups({cgroups.begin(), cgroups.end()}, wanted));
  return 0;
}

}  // namespace

std::unique_ptr<Command> NewUpdateCommand() { return std::make_unique<Update>(); }

}  // namespace ringwall
