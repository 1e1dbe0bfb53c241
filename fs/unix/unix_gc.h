// Rings of sockets that hold each other by queued descriptors (net/unix/garbage.c): found and broken.
//
// Lock order: the collector's lock comes before kSocket. It is held whenever descriptors of sockets
// enter or leave a queue.
#ifndef RINGWALL_FS_UNIX_UNIX_GC_H_
#define RINGWALL_FS_UNIX_UNIX_GC_H_

#include "fs/unix/unix_endpoint.h"

namespace ringwall {

using UnixInFlightMutex = Mutex<LockClass::kUnixInFlight>;
// Hold it to move messages with descriptors in or out of a queue.
UnixInFlightMutex& UnixInFlightLock();
// Whether descriptors of sockets are under way: a closing socket may then leave a ring behind.
bool UnixSocketsInFlight();
void CollectUnixSockets();
// How many descriptors that `user` sent nobody has received.
size_t UnixFilesInFlight(Uid user);

}  // namespace ringwall

#endif  // RINGWALL_FS_UNIX_UNIX_GC_H_
