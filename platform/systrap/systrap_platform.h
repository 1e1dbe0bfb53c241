// The fast platform: guest threads run natively, their system calls are caught by seccomp (SIGSYS)
// or arrive by patched call sites, and are handed to the Sentry through shared memory. README.md
// here tells how.
#ifndef RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_PLATFORM_H_
#define RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_PLATFORM_H_

#include <memory>

#include "platform/platform.h"
#include "platform/systrap/systrap_core.h"

namespace ringwall {

class SystrapPlatform final : public Platform {
 public:
  // Fails where the host lacks what it needs (SupportedHere).
  static HostResult<std::unique_ptr<Platform>> Create();
  // Null, or what this host lacks.
  static const char* Missing();

  std::string_view name() const override { return "systrap"; }
  Result<Ref<AddressSpace>> NewAddressSpace() override;
  Result<std::unique_ptr<Context>> NewContext(AddressSpace& as, Context* parent) override;
  PlatformStats Stats() const override { return core_->Stats(); }
  uint32_t rseq_feature_size() const override { return core_->host().rseq_feature_size(); }

 private:
  explicit SystrapPlatform(Ref<SystrapCore> core) : core_(std::move(core)) {}
  const Ref<SystrapCore> core_;
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_PLATFORM_H_
