// runsc create and runsc run.
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "runsc/cli/report.h"
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/container/hooks.h"
#include "runsc/sandbox/attached.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class CreateBase : public Command {
 public:
  const char* arguments() const override { return "[flags] ID"; }
  size_t min_args() const override { return 1; }
  size_t max_args() const override { return 1; }
  void AddFlags(FlagSet& flags) override {
    flags.String("bundle,b", &options_.bundle, "DIR", "directory with config.json (default .)");
    flags.String("console-socket", &options_.console_socket, "SOCKET",
                 "unix socket that is to get the terminal's master");
    flags.String("pid-file", &options_.pid_file, "FILE", "where to write the sandbox's pid");
    flags.String("user-log", &options_.user_log, "FILE", "messages for the container's author");
    flags.Int("preserve-fds", &options_.preserve_fds, "N", "pass on descriptors 3 to 2+N");
    flags.List("pass-fd", &options_.passed_fds, "N:M",
               "pass on descriptor N as M, the next after those");
    flags.Ignored("no-pivot", false);
    flags.Ignored("no-new-keyring", false);
    flags.Ignored("no-subreaper", false);
    flags.Ignored("pidfd-socket", true);
    flags.String("fs-restore-image-path", &restored_files_, "DIR", "");
    flags.Ignored("fs-restore-direct", false);
    flags.String("exec-fd", &exec_fd_, "N", "");
  }

 protected:
  // An error that the program itself is to blame for has an exit code of its own.
  HostResult<int> Failed(const Config& config, const HostError& error, int exit_code) {
    if (exit_code == 0) return error;
    ReportError(config, error.message());
    return exit_code;
  }

  // What would do something else than was asked for.
  HostResult<void> RefuseUnsupported() const {
    if (!restored_files_.empty()) {
      return HostError::Message("--fs-restore-image-path is not supported");
    }
    if (!exec_fd_.empty()) return HostError::Message("--exec-fd is not supported");
    return {};
  }

  CreateOptions options_{.bundle = "."};

 private:
  std::string restored_files_, exec_fd_;
};

class Create final : public CreateBase {
 public:
  const char* name() const override { return "create"; }
  const char* summary() const override { return "make a container of a bundle; start runs it"; }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override {
    TRY(RefuseUnsupported());
    options_.id = args[0];
    int exit_code = 0;
    HostResult<Container> container = Container::Create(config, options_, &exit_code);
    if (!container.ok()) return container.error();
    return 0;
  }
};

class RunCommand final : public CreateBase {
 public:
  const char* name() const override { return "run"; }
  const char* summary() const override { return "make a container of a bundle and run it"; }
  void AddFlags(FlagSet& flags) override {
    CreateBase::AddFlags(flags);
    flags.Bool("detach,d", &detach_, "do not wait for its end");
    flags.Bool("keep", &keep_, "leave the stopped container to `delete`");
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  bool detach_ = false, keep_ = false;
};

HostResult<int> RunCommand::Run(Config& config, const std::vector<std::string>& args) {
  TRY(RefuseUnsupported());
  options_.id = args[0];
  options_.start_now = true;
  options_.attached = !detach_;
  if (!detach_) BlockForwardedSignals();
  int exit_code = 0;
  HostResult<Container> created = Container::Create(config, options_, &exit_code);
  if (!created.ok()) return Failed(config, created.error(), exit_code);
  Container& container = *created;
  HostResult<void> hooks = RunHooks(container.Spec().hooks().poststart(), "poststart",
                                    container.StateJson(ContainerStatus::kRunning));
  if (!hooks.ok()) fprintf(stderr, "runsc: %s\n", hooks.error().message().c_str());
  if (detach_) return 0;
  container.Unlock();
  std::string error;
  const int code = RunAttached(container.process(), &error);
  if (!error.empty()) fprintf(stderr, "runsc: %s\n", error.c_str());
  if (!keep_) TRY(container.Destroy());
  return code;
}

}  // namespace

std::unique_ptr<Command> NewCreateCommand() { return std::make_unique<Create>(); }
std::unique_ptr<Command> NewRunCommand() { return std::make_unique<RunCommand>(); }

}  // namespace ringwall
