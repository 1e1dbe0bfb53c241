// The pseudo terminal of a container and the socket over which its engine wants the master.
#ifndef RINGWALL_RUNSC_CONTAINER_CONSOLE_H_
#define RINGWALL_RUNSC_CONTAINER_CONSOLE_H_

#include <string>
#include <vector>

#include "runsc/boot/boot.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// Makes a pty, sends its master over the unix socket `console_socket` and makes its slave the
// process's stdio and terminal.
HostResult<void> SetUpConsole(const std::string& console_socket, BootProcess* process);

// Our own stdio for the process; descriptors 3.. with preserve_fds. `passed` are further ones as
// "OURS:THEIRS" (or one number for both), which must be the next numbers inside.
HostResult<void> PassStdio(int64_t preserve_fds, const std::vector<std::string>& passed,
                           BootProcess* process);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CONTAINER_CONSOLE_H_
