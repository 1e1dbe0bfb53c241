// Boot without a kernel: says so and fails, so that nothing takes it for the real one.
#include "runsc/boot/boot.h"

#include "sentry/base/result.h"

namespace ringwall {

HostResult<void> PrepareBoot(BootArgs& args) {
  args.platform = TRY(CreatePlatform({.name = args.platform_name}));
  return {};
}

int Boot(BootArgs&& args) {
  StatusPipe status(args.status_pipe.get());
  status.Fail(128, "this runsc was built without a kernel");
  return 128;
}

}  // namespace ringwall
