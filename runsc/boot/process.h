// Processes as the runtime sees them: making one out of a BootProcess, signals, lists and figures for
// the control channel.
#ifndef RINGWALL_RUNSC_BOOT_PROCESS_H_
#define RINGWALL_RUNSC_BOOT_PROCESS_H_

#include "runsc/boot/boot.h"
#include "runsc/boot/control.h"
#include "runsc/boot/guest_container.h"
#include "sentry/kernel/kernel.h"

namespace ringwall {

// Process 1 beside which `process` will run, with all that it could ever get. Without it (the host
// gives no memory) that is init itself.
void MakeBareInit(Kernel& kernel, const GuestContainer& container, const BootProcess& process);

enum class Origin : uint8_t { kFirst, kExec };

// Loads the program; nothing runs yet. On failure *exit_code is 126 or 127 as a shell has it, and the
// error says which file.
HostResult<Ref<ThreadGroup>> MakeProcess(Kernel& kernel, const GuestContainer& container,
                                         BootProcess& process, Origin origin, int* exit_code);

// Numbers are those of the container's pid namespace, `ns`.
Result<void> SignalProcess(Kernel& kernel, PidNamespace& ns, ThreadGroup& init,
                           const control::Request::Signal& request);
void ListProcesses(Kernel& kernel, const PidNamespace& ns, control::Response& reply);
void CountUsage(Kernel& kernel, const PidNamespace& ns, bool syscalls, control::Response& reply);
// What every task is at: its state and, while the Sentry answers it, its system call.
std::string DescribeTasks(Kernel& kernel, const PidNamespace& ns);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_PROCESS_H_
