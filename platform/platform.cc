#include "platform/platform.h"

#include <errno.h>

#include "platform/ptrace/ptrace_platform.h"
#include "platform/systrap/systrap_platform.h"
#include "sentry/base/log.h"

namespace ringwall {

HostResult<std::unique_ptr<Platform>> CreatePlatform(const PlatformOptions& options) {
  if (options.name == "ptrace") return PtracePlatform::Create();
  if (options.name == "systrap") return SystrapPlatform::Create();
  if (options.name == "auto") {
    if (const char* missing = SystrapPlatform::Missing()) {
      RW_LOG(kInfo, "platform: ptrace, since systrap needs %s", missing);
      return PtracePlatform::Create();
    }
    RW_LOG(kInfo, "platform: systrap");
    return SystrapPlatform::Create();
  }
  return HostError::Message("unknown platform \"" + std::string(options.name) +
                            "\": expected systrap, ptrace or auto");
}

}  // namespace ringwall
