// The terminal keeper: a small process that leads the session of a container's host terminal, so that
// what is typed there (interrupt, quit, stop), a change of its size and its hang-up reach the
// foreground processes inside. The Sentry cannot be it: its filter lets it take no signal.
#ifndef RINGWALL_RUNSC_SANDBOX_TERMINAL_KEEPER_H_
#define RINGWALL_RUNSC_SANDBOX_TERMINAL_KEEPER_H_

#include <span>

#include "runsc/filter/filter.h"
#include "runsc/sandbox/namespaces.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// Makes the calling process the keeper of `terminal`: it leaves its session for one that the terminal
// controls, and sends on the control channel `socket` which signals come. Ends with that channel.
// Call in a fresh child; the caller's signals are blocked from here on.
[[noreturn]] void KeepTerminal(int terminal, int socket);

// Starts the keeper as a child of the process that will be the Sentry, while that still has what it
// was born with. `socket`: its end of its control channel. Where the host grants no process nobody
// inside hears of the terminal's signals.
void StartTerminalKeeper(int terminal, UniqueFd socket, int null, const IdMaps& maps);

// The calls that it makes once it keeps the terminal, each with its reason.
std::span<const FilterRule> TerminalKeeperFilterRules();

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_TERMINAL_KEEPER_H_
