// A FIFO of the host's, in a file system of host files (--host-fifo=open).
#ifndef RINGWALL_FS_HOST_HOST_FIFO_H_
#define RINGWALL_FS_HOST_HOST_FIFO_H_

#include <functional>

#include "fs/vfs/file.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// `open` makes a non-blocking descriptor with the access of `flags`, each time it is called; ENXIO for a
// writer without a reader. Without O_NONBLOCK it waits for the other end as fifo(7) says: a writer looks
// every few milliseconds whether there is a reader, since the host tells nobody.
// Blocks; the task's own thread. EINTR by a signal.
Result<Ref<File>> OpenHostFifo(const Path& path, uint32_t flags,
                               const std::function<Result<UniqueFd>()>& open);

}  // namespace ringwall

#endif  // RINGWALL_FS_HOST_HOST_FIFO_H_
