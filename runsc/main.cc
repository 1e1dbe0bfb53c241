// runsc: finds the command, parses flags, runs it, prints its error. Everything else is in cmd/.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "runsc/cli/report.h"
#include "runsc/cli/stdio.h"
#include "runsc/cmd/command.h"
#include "runsc/version.h"
#include "sentry/base/log.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

void PrintHelp(const std::vector<std::unique_ptr<Command>>& commands, FlagSet& global) {
  printf("runsc runs programs in a sandbox of their own: a userspace kernel answers their system "
         "calls.\n\nusage: runsc [global flags] COMMAND [flags] [arguments]\n\ncommands:\n");
  for (const auto& command : commands) {
    if (!command->hidden()) printf("  %-12s %s\n", command->name(), command->summary());
  }
  printf("\n`runsc COMMAND --help` tells more. First try:\n  runsc do ls -l\n\nglobal flags:\n%s",
         global.Help().c_str());
}

void PrintVersion() {
  printf("runsc version %s\nspec: 1.2.0\n", kVersion);
}

// Where in args the command's name stands; args.size() when there is none.
size_t FindCommand(const std::vector<std::string>& args, const FlagSet& global,
                   const std::vector<std::unique_ptr<Command>>& commands) {
  for (size_t i = 0; i < args.size(); i++) {
    if (args[i].size() < 2 || args[i][0] != '-') return i;
    const std::string name = args[i].substr(args[i][1] == '-' ? 2 : 1);
    if (name.find('=') != std::string::npos) continue;
    bool takes_value = global.TakesValue(name);
    if (!global.Has(name)) {
      // A command's flag before its name.
      for (const auto& command : commands) {
        FlagSet flags;
        command->AddFlags(flags);
        takes_value |= flags.TakesValue(name);
      }
    }
    if (takes_value) i++;
  }
  return args.size();
}

int Main(std::vector<std::string> args) {
  FillStdio();
  std::vector<std::unique_ptr<Command>> commands = AllCommands();
  Config config;
  FlagSet global = config.Flags();

  const size_t at = FindCommand(args, global, commands);
  if (at >= args.size()) {
    if (HostResult<std::vector<std::string>> rest = ParseFlags({&global}, args, false);
        !rest.ok()) {
      ReportError(config, rest.error().message());
      return kExitUsage;
    }
    if (config.version) return PrintVersion(), 0;
    PrintHelp(commands, global);
    return config.help ? 0 : kExitUsage;
  }
  const std::string name = args[at];
  args.erase(args.begin() + static_cast<ptrdiff_t>(at));
  if (name == "help" && at >= args.size()) return PrintHelp(commands, global), 0;
  if (name == "version") return PrintVersion(), 0;
  if (name == "flags") return printf("%s", global.Help().c_str()), 0;
  const std::string wanted = name == "help" ? args[at] : name;
  Command* command = nullptr;
  for (const auto& candidate : commands) {
    if (wanted == candidate->name()) command = candidate.get();
  }
  if (command == nullptr) {
    static constexpr std::string_view kElsewhere[] = {
        "checkpoint", "restore", "fscheckpoint", "mitigate", "nvproxy", "portforward", "trace", "tar",
        "metric-export", "metric-server", "read-control", "write-control", "symbolize"};
    if (std::find(std::begin(kElsewhere), std::end(kElsewhere), wanted) != std::end(kElsewhere)) {
      ReportError(config, "\"" + wanted + "\" of other runtimes is not supported");
      return kExitUsage;
    }
    std::vector<std::string> names;
    for (const auto& candidate : commands) names.push_back(candidate->name());
    const std::string nearest = Nearest(wanted, names);
    ReportError(config, "there is no command \"" + wanted + "\"" +
                            (nearest.empty() ? "; `runsc help` lists them"
                                             : "; did you mean " + nearest + "?"));
    return kExitUsage;
  }

  FlagSet flags;
  command->AddFlags(flags);
  if (name == "help") config.help = true;
  // The part before the name holds flags only; what follows may be a program's own line.
  const auto split = args.begin() + static_cast<ptrdiff_t>(at);
  const std::vector<std::string> before(args.begin(), split), after(split, args.end());
  HostResult<std::vector<std::string>> none = ParseFlags({&global, &flags}, before, false);
  HostResult<std::vector<std::string>> rest =
      ParseFlags({&flags, &global}, after, command->stops_at_first_argument());
  if (!none.ok() || !rest.ok()) {
    ReportError(config, (none.ok() ? rest : none).error().message());
    return kExitUsage;
  }
  if (config.help) {
    printf("%s\n\nusage: runsc %s %s\n\n%s%s", command->summary(), command->name(),
           command->arguments(), command->details(), flags.Help().c_str());
    return 0;
  }
  if (rest->size() < command->min_args() || rest->size() > command->max_args()) {
    ReportError(config, std::string("usage: runsc ") + command->name() + " " +
                            command->arguments());
    return kExitUsage;
  }
  HostResult<void> ready = config.Finish(name == "do");
  const std::string id = command->stops_at_first_argument() && name != "exec" ? ""
                         : rest->empty()                                  ? ""
                                                                          : rest->front();
  if (ready.ok()) ready = config.OpenLogs(name, id);
  if (!ready.ok()) {
    ReportError(config, ready.error().message());
    return kExitUsage;
  }
  for (const std::string& ignored : FlagSet::IgnoredFlagsSeen()) {
    // On stderr it would stand among what the program says.
    if (config.log.empty() && config.debug_log.empty()) {
      RW_LOG(kDebug, "flag --%s has no effect here", ignored.c_str());
    } else {
      RW_LOG(kWarning, "flag --%s has no effect here", ignored.c_str());
    }
  }
  HostResult<int> code = command->Run(config, *rest);
  if (!code.ok()) {
    ReportError(config, code.error().message());
    return kExitUsage;
  }
  return *code;
}

}  // namespace

}  // namespace ringwall

int main(int argc, char** argv) {
  return ringwall::Main(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
