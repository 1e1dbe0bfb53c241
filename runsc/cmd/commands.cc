// The table of commands, in the order of the help.
#include "runsc/cmd/command.h"

namespace ringwall {

std::vector<std::unique_ptr<Command>> AllCommands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(NewDoCommand());
  commands.push_back(NewRunCommand());
  commands.push_back(NewCreateCommand());
  commands.push_back(NewStartCommand());
  commands.push_back(NewStateCommand());
  commands.push_back(NewListCommand());
  commands.push_back(NewKillCommand());
  commands.push_back(NewDeleteCommand());
  commands.push_back(NewExecCommand());
  commands.push_back(NewPsCommand());
  commands.push_back(NewEventsCommand());
  commands.push_back(NewUsageCommand());
  commands.push_back(NewPauseCommand());
  commands.push_back(NewResumeCommand());
  commands.push_back(NewWaitCommand());
  commands.push_back(NewUpdateCommand());
  commands.push_back(NewSpecCommand());
  commands.push_back(NewFeaturesCommand());
  commands.push_back(NewSyscallsCommand());
  commands.push_back(NewDebugCommand());
  commands.push_back(NewInstallCommand());
  commands.push_back(NewUninstallCommand());
  return commands;
}

}  // namespace ringwall
