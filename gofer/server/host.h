// Host calls that several operations share.
#ifndef RINGWALL_GOFER_SERVER_HOST_H_
#define RINGWALL_GOFER_SERVER_HOST_H_

#include <sys/types.h>

#include <cstdint>

#include "gofer/proto/message.h"
#include "gofer/server/session.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::gofer {

// The attributes of an open file (O_PATH will do), or of dir/name without following a link.
Result<Attr> StatFd(int fd);
Result<Attr> StatAt(int dir, const char* name);

// Whether `fd` is on a file system by which the host's kernel is seen and steered (procfs, sysfs and their
// like): nothing there is the container's, whatever is mounted where.
bool IsKernelFs(int fd);

// O_PATH descriptor of dir/name itself; a link is not followed.
Result<UniqueFd> OpenPath(int dir, const char* name);

// A path that names `fd` to calls without a descriptor argument. Empty text when there is no
// /proc to do it with.
class FdPath {
 public:
  FdPath(const ProcAccess& proc, int fd);
  const char* c_str() const { return text_; }
  bool available() const { return text_[0] != '\0'; }

 private:
  char text_[40];
};

// EOPNOTSUPP for a symbolic link, as chmod(2) through lchmod has it.
Result<void> ChmodFd(const ProcAccess& proc, int fd, uint32_t type, uint32_t mode);

// What of a client's open flags the host sees; EINVAL for any other.
Result<int> HostOpenFlags(uint32_t flags);
// Opening with `flags` can change the file.
bool WantsWrite(uint32_t flags);

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_SERVER_HOST_H_
