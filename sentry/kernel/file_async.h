// O_ASYNC: signals about a file's readiness (fs/fcntl.c: fasync, send_sigio).
//
// A wait queue calls its waiters under locks that forbid sending a signal there. So an event of a call
// is noted and sent when that call ends (SendPendingAsync); one of another host thread goes to a
// thread of this module.
#ifndef RINGWALL_SENTRY_KERNEL_FILE_ASYNC_H_
#define RINGWALL_SENTRY_KERNEL_FILE_ASYNC_H_

#include <functional>

#include "fs/vfs/file.h"
#include "sentry/base/result.h"

namespace ringwall {

class Task;

// F_SETOWN, F_GETOWN, their _EX forms, F_SETSIG, F_GETSIG, F_GETOWNER_UIDS. EINVAL, ESRCH, EFAULT.
Result<int64_t> FcntlAsync(Task& t, File& file, int cmd, uint64_t arg);
// F_SETFL and FIOASYNC: starts and stops the signals. False: the file knows no such thing.
bool SupportsAsync(File& file);
void SetAsync(Task& t, File& file, int fd, bool on);
// A lease is being broken, or something happened in a watched directory: POLL_MSG to the file's
// owner, which OwnIfNobody makes the caller's process when there is none.
void TellOwner(File& file, int fd);
void OwnIfNobody(Task& t, File& file);
// For a Waiter's OnEvent: does `work` where no lock is held, at the end of the current call or on a
// thread of this module. StartLateWork first, once, outside of OnEvent.
void RunLater(std::function<void()> work);
void StartLateWork();
// Sends what the call that ends has caused. Task thread only.
void SendPendingAsync();

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_FILE_ASYNC_H_
