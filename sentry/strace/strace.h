// --strace: one log line as a call starts and one as it ends, decoded by the table's format letters.
#ifndef RINGWALL_SENTRY_STRACE_STRACE_H_
#define RINGWALL_SENTRY_STRACE_STRACE_H_

#include "sentry/kernel/syscall_table.h"

namespace ringwall {

class Kernel;

bool StraceWanted(Kernel& kernel, uint64_t nr);
void StraceEnter(Task& t, const SyscallRow* row, const RawArgs& args);
void StraceExit(Task& t, const SyscallRow* row, const RawArgs& args, const Result<int64_t>& result);
// A call that has no handler: said once per program and number.
void LogUnsupported(Task& t, const SyscallRow* row, uint64_t nr, const RawArgs& args);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_STRACE_STRACE_H_
