// struct ucred as it goes through sockets: held in the numbers of the first namespaces, shown in the
// receiver's.
#ifndef RINGWALL_FS_UNIX_UNIX_CRED_H_
#define RINGWALL_FS_UNIX_UNIX_CRED_H_

#include "fs/unix/unix_endpoint.h"
#include "sentry/kernel/task.h"

namespace ringwall {

// As a receiver's namespaces call them; a process out of sight, or gone, is 0.
UnixCred SeenBy(const Task& t, UnixCred cred);
// What a sender says of itself (scm_check_creds). EINVAL, EPERM, ESRCH.
Result<UnixCred> TakeCred(const Task& t, UnixCred cred);
// A descriptor of the process (by its first namespace's number). EINVAL once it was reaped.
Result<Ref<File>> PidFdOf(const Task& t, int32_t pid);

}  // namespace ringwall

#endif  // RINGWALL_FS_UNIX_UNIX_CRED_H_
