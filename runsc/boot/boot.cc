// Boot without a kernel: says so and fails, so that nothing takes it for the real one.
#include "runsc/boot/boot.h"

namespace ringwall {

HostResult<void> PrepareBoot(BootArgs&) { return {}; }

int Boot(BootArgs&& args) {
  StatusPipe status(args.status_pipe.get());
  status.Fail(128, "this runsc was built without a kernel");
  return 128;
}

}  // namespace ringwall
