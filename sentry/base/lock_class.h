// The lock order of the whole Sentry, outermost first. A thread may take a lock only when its
// class comes after the classes of all locks it holds; two locks of one class only through
// LockBoth, which orders them by address. Builds with RINGWALL_LOCKDEP abort on a breach.
// There is no "none": every lock has its place here.
#ifndef RINGWALL_SENTRY_BASE_LOCK_CLASS_H_
#define RINGWALL_SENTRY_BASE_LOCK_CLASS_H_

#include <cstdint>

namespace ringwall {

enum class LockClass : uint8_t {
  kContainer,        // runsc/boot: the containers of a sandbox
  kExec,             // one exec or de-threading at a time per thread group
  kRename,           // one cross-directory rename at a time per file system
  kMountTable,       // mounts of a mount namespace
  kDirectory,        // a directory inode's entries (i_rwsem)
  kUpperDirectory,   // overlay: a merged directory's entries
  kOverlayCopyUp,    // overlay: copying one file up
  kFileOffset,       // a file description's offset (f_pos_lock)
  kInodeData,        // a regular file's pages and size
  kEpollGraph,       // which epolls watch which: one change at a time
  kEpoll,            // an epoll instance
  kUnixInFlight,     // descriptors of sockets that are on their way through sockets
  kSocket,           // a socket
  kPipe,             // a pipe's buffer
  kTty,              // a terminal's line discipline
  kMm,               // a memory map's list of vmas (mmap_lock)
  kFutex,            // a futex hash bucket; the guest's word is changed under it
  kCodePatches,      // an address space's patched system-call sites
  kAddressSpace,     // one command at a time to a stub's memory thread
  kMemoryFile,       // the pages of a tmpfs file; never held over a copy from the guest
  kTaskSet,          // thread groups, parents, children, sessions (tasklist_lock)
  kSignal,           // a thread group's signal state (siglock)
  kTask,             // one task's own fields
  kFdTable,          // a descriptor table
  kFsContext,        // root, cwd, umask
  kIpcIds,           // one table of System V IPC objects
  kIpcObject,        // a semaphore set, a message queue, a shared segment, a POSIX queue
  kAio,              // an io_setup context
  kFileLocks,        // POSIX, OFD and flock lists of an inode
  kDentry,           // a dentry's children and parent pointer
  kInode,            // an inode's attributes
  kGofer,            // one request at a time on a gofer channel
  kNetstack,         // everything of one network namespace's TCP/IP stack
  kNetDevice,        // the queue of a device that leads to another stack or to a file
  kNetlink,          // netlink sockets of a network namespace and their queues
  kTimer,            // the timer queue
  kWaitQueue,        // a wait queue's list; taken last so that anything can wake
  kPlatform,         // pools of stubs and threads
  kLeaf,             // held over a few instructions, nothing taken inside
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_LOCK_CLASS_H_
