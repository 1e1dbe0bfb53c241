#include "platform/platform.h"

#include "platform/ptrace/ptrace_platform.h"
#include "sentry/base/log.h"

namespace ringwall {

HostResult<std::unique_ptr<Platform>> CreatePlatform(const PlatformOptions& options) {
  if (options.name == "ptrace") return PtracePlatform::Create();
  if (options.name == "auto") {
    RW_LOG(kInfo, "platform: ptrace, the only one of this build");
    return PtracePlatform::Create();
  }
  if (options.name == "systrap") {
    return HostError::Message("the systrap platform is not part of this build");
  }
  return HostError::Message("unknown platform \"" + std::string(options.name) +
                            "\": expected systrap, ptrace or auto");
}

}  // namespace ringwall
