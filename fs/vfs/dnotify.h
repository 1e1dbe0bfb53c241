// Directory notification (fcntl's F_NOTIFY; fs/notify/dnotify): a signal to the owner of a directory's
// open file when something happens in it.
#ifndef RINGWALL_FS_VFS_DNOTIFY_H_
#define RINGWALL_FS_VFS_DNOTIFY_H_

#include <atomic>
#include <cstdint>

#include "fs/vfs/file.h"
#include "fs/vfs/leases.h"
#include "sentry/base/ref.h"

namespace ringwall {

class FdTable;

// What one descriptor table wants to hear through one open directory.
struct DirectoryWatch {
  const FdTable* table;
  File* file;  // alive: its close takes the watch away
  int fd;
  uint32_t events;  // IN_*
  bool once;
  FileTeller teller;
};

// F_NOTIFY: adds the events (DN_*) to what the table hears already; without any it hears no more.
// ENOTDIR, EINVAL (fs.dir-notify-enable is 0).
Result<void> WatchDirectory(const FdTable& table, File& file, int fd, uint32_t dn_events,
                            FileTeller teller);
// A descriptor of `table` for the file is closed.
void UnwatchDirectory(const FdTable& table, const File& file);

// sysctl fs.dir-notify-enable.
std::atomic<int>& dir_notify_enabled();

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_DNOTIFY_H_
