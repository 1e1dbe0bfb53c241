// RunAttached: the CLI's part while a sandbox runs in its foreground (`do`, `run`): forwards
// signals, keeps the terminal, and turns the end of the Sentry into an exit code.
#ifndef RINGWALL_RUNSC_SANDBOX_ATTACHED_H_
#define RINGWALL_RUNSC_SANDBOX_ATTACHED_H_

#include "runsc/sandbox/sandbox.h"

namespace ringwall {

// The signals that go to the program inside instead of us, and SIGCHLD. To be blocked before
// StartSandbox.
void BlockForwardedSignals();

// Returns the exit code; what went wrong outside the program is in *error, if anything.
int RunAttached(SandboxProcess& sandbox, std::string* error);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_ATTACHED_H_
