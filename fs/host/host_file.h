// Host descriptors that the sandbox was started with (stdin, stdout, stderr, --preserve-fds), as
// files of the guest: regular files, pipes, sockets, terminals, devices. The Sentry reads and writes
// them, it never opens one.
#ifndef RINGWALL_FS_HOST_HOST_FILE_H_
#define RINGWALL_FS_HOST_HOST_FILE_H_

#include "fs/vfs/file.h"
#include "sentry/base/host_error.h"
#include "sentry/base/unique_fd.h"
#include "sentry/kernel/thread_group.h"

namespace ringwall {

// Makes the notifier's epoll descriptor; before the filter goes up. Once.
HostResult<void> PrepareHostFiles();

// Takes the descriptor over. EBADF and the like when it is none.
Result<Ref<File>> NewHostFile(UniqueFd fd);

// Whether a descriptor is a terminal of the host.
bool IsTerminal(int fd);
// The inode behind NewHostFile's file, and such a file under a name of the guest's (/dev/pts/N): `host`
// is the former, `place` is kept as long as the file is.
Result<Ref<Inode>> NewHostInode(UniqueFd fd);
Result<Ref<File>> NewNamedTerminal(Ref<Inode> host, const Path& path, Ref<RefCountedBase> place);

// Whether `file` is a host terminal, and making it the controlling one of `session`.
bool IsHostTty(File& file);
void SetControllingTty(File& file, ThreadGroup& leader);
// Session::tty of such a session, as a file. The descriptor is the container's only way to the
// terminal: opening it anew is to share it.
Ref<File> HostTtyFile(RefCountedBase& tty);

}  // namespace ringwall

#endif  // RINGWALL_FS_HOST_HOST_FILE_H_
