// InotifyMarks: the inotify watches on one inode. Nobody can set one yet; the class holds the place.
#ifndef RINGWALL_FS_VFS_INOTIFY_H_
#define RINGWALL_FS_VFS_INOTIFY_H_

namespace ringwall {

class InotifyMarks {};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_INOTIFY_H_
