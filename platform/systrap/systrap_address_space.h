// What systrap keeps for one address space: its idle guest threads and its contexts.
#ifndef RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_ADDRESS_SPACE_H_
#define RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_ADDRESS_SPACE_H_

#include <atomic>
#include <memory>
#include <vector>

#include "platform/stub/address_space.h"
#include "platform/systrap/systrap_core.h"

namespace ringwall {

// A thread of the stub with its region.
struct GuestThread {
  uint32_t region = 0;
  pid_t tid = 0;
  bool used = false;  // it has run before, and waits
};

// Thread-safe.
class SystrapAddressSpace final : public StubAddressSpace {
 public:
  SystrapAddressSpace(Ref<SystrapCore> core, std::unique_ptr<StubProcess> stub);
  ~SystrapAddressSpace() override;

  SystrapCore& core() { return *core_; }

  // A thread that waits for the Sentry or is on its way there.
  Result<GuestThread> TakeThread() EXCLUDES(mu_);
  // Preconditions: it waits for the Sentry.
  void GiveBackThread(GuestThread thread) EXCLUDES(mu_);

 private:
  Result<Ref<AddressSpace>> Adopt(std::unique_ptr<StubProcess> child) override;

  const Ref<SystrapCore> core_;
  Mutex<LockClass::kPlatform> mu_;
  std::vector<GuestThread> idle_ GUARDED_BY(mu_);
  std::vector<uint32_t> regions_ GUARDED_BY(mu_);  // all that this stub has mapped
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_ADDRESS_SPACE_H_
