// eventfd (fs/eventfd.c): a 64-bit counter that can be waited for.
#ifndef RINGWALL_FS_EPOLL_EVENTFD_H_
#define RINGWALL_FS_EPOLL_EVENTFD_H_

#include "fs/vfs/file.h"

namespace ringwall {

// flags: EFD_NONBLOCK, EFD_SEMAPHORE.
Ref<File> NewEventFd(uint32_t initial, int flags);

// Lets aio count them up.
void RegisterEventFds();

}  // namespace ringwall

#endif  // RINGWALL_FS_EPOLL_EVENTFD_H_
