// The table of commands, in the order of the help.
#include "runsc/cmd/command.h"

namespace ringwall {

std::vector<std::unique_ptr<Command>> AllCommands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(NewDoCommand());
  return commands;
}

}  // namespace ringwall
