// The table of x86-64 (table_x86_64.cc).
#ifndef RINGWALL_SYSCALLS_TABLE_H_
#define RINGWALL_SYSCALLS_TABLE_H_

#include "sentry/kernel/syscall_table.h"

namespace ringwall {

const SyscallTable& SyscallsX8664();

}  // namespace ringwall

#endif  // RINGWALL_SYSCALLS_TABLE_H_
