#include "fs/vfs/dnotify.h"

#include <sys/inotify.h>

#include "fs/vfs/inotify.h"

namespace ringwall {

namespace {

// DN_* of fcntl.h, and the events that they stand for (convert_arg).
struct EventRow {
  uint32_t dn, in;
};
constexpr EventRow kEvents[] = {
    {0x1, IN_ACCESS},
    {0x2, IN_MODIFY},
    {0x4, IN_CREATE | IN_MOVED_TO},
    {0x8, IN_DELETE | IN_MOVED_FROM},
    {0x10, kRenamedEvent},
    {0x20, IN_ATTRIB},
};
constexpr uint32_t kMultishot = 0x80000000;

}  // namespace

std::atomic<int>& dir_notify_enabled() {
  static std::atomic<int> enabled{1};
  return enabled;
}

Result<void> WatchDirectory(const FdTable& table, File& file, int fd, uint32_t dn_events,
                            FileTeller teller) {
  if (dir_notify_enabled().load() == 0) return Errno(EINVAL);
  if ((dn_events & ~kMultishot) == 0) {
    UnwatchDirectory(table, file);
    return {};
  }
  if (!file.inode().is_directory()) return Errno(ENOTDIR);
  uint32_t events = 0;
  for (const EventRow& row : kEvents) {
    if ((dn_events & row.dn) != 0) events |= row.in;
  }
  file.inode().MakeMarks().AddDirectoryWatch(
      {&table, &file, fd, events, (dn_events & kMultishot) == 0, teller});
  return {};
}

void UnwatchDirectory(const FdTable& table, const File& file) {
  if (!file.inode().is_directory()) return;
  if (InotifyMarks* marks = file.inode().marks()) marks->RemoveDirectoryWatch(&table, &file);
}

}  // namespace ringwall
