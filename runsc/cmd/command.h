// The commands of runsc: one file and one class each. main.cc holds the table.
#ifndef RINGWALL_RUNSC_CMD_COMMAND_H_
#define RINGWALL_RUNSC_CMD_COMMAND_H_

#include <memory>
#include <string>
#include <vector>

#include "runsc/cli/config.h"
#include "runsc/cli/flags.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// What a command could not do, as the exit code that docker and runc users expect.
inline constexpr int kExitUsage = 125;       // runsc itself was told nonsense or failed
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;
inline constexpr int kExitSandboxDied = 128;

class Command {
 public:
  virtual ~Command() = default;
  virtual const char* name() const = 0;
  virtual const char* summary() const = 0;        // one line
  virtual const char* arguments() const = 0;      // "[flags] ID"
  virtual const char* details() const { return ""; }
  virtual void AddFlags(FlagSet&) {}
  // The rest of the line belongs to a program to run.
  virtual bool stops_at_first_argument() const { return false; }
  // Arguments beyond the flags: at least and at most.
  virtual size_t min_args() const { return 0; }
  virtual size_t max_args() const { return 0; }
  // Hidden commands are not in the help.
  virtual bool hidden() const { return false; }
  // Returns the exit code, or an error that is printed and ends with kExitUsage.
  virtual HostResult<int> Run(Config& config, const std::vector<std::string>& args) = 0;
};

std::vector<std::unique_ptr<Command>> AllCommands();

std::unique_ptr<Command> NewDoCommand();
std::unique_ptr<Command> NewRunCommand();
std::unique_ptr<Command> NewCreateCommand();
std::unique_ptr<Command> NewStartCommand();
std::unique_ptr<Command> NewStateCommand();
std::unique_ptr<Command> NewListCommand();
std::unique_ptr<Command> NewKillCommand();
std::unique_ptr<Command> NewDeleteCommand();
std::unique_ptr<Command> NewExecCommand();
std::unique_ptr<Command> NewPsCommand();
std::unique_ptr<Command> NewEventsCommand();
std::unique_ptr<Command> NewUsageCommand();
std::unique_ptr<Command> NewPauseCommand();
std::unique_ptr<Command> NewResumeCommand();
std::unique_ptr<Command> NewWaitCommand();
std::unique_ptr<Command> NewSpecCommand();
std::unique_ptr<Command> NewFeaturesCommand();
std::unique_ptr<Command> NewSyscallsCommand();
std::unique_ptr<Command> NewDebugCommand();
std::unique_ptr<Command> NewUpdateCommand();
std::unique_ptr<Command> NewInstallCommand();
std::unique_ptr<Command> NewUninstallCommand();

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CMD_COMMAND_H_
