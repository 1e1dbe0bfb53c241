// A Platform for unit tests whose address spaces are tables of pages in this process. Each call is
// checked against what the real one demands (whole pages, not empty, outside the stub's range).
// Files are read and written through their host descriptors; there are no Contexts. Thread-safe, but
// for the members that tests look at.
#ifndef RINGWALL_SENTRY_MM_TESTING_FAKE_ADDRESS_SPACE_H_
#define RINGWALL_SENTRY_MM_TESTING_FAKE_ADDRESS_SPACE_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "platform/platform.h"
#include "sentry/base/mutex.h"

namespace ringwall::testing {

struct FakePage {
  int prot = 0;
  bool shared = false;
  int fd = -1;
  uint64_t offset = 0;
  bool dont_fork = false, wipe_on_fork = false, locked = false;
  // Private bytes, when written.
  std::shared_ptr<std::array<std::byte, kPageSize>> bytes;
};

class FakeAddressSpace final : public AddressSpace {
 public:
  Result<void> Map(GuestRange range, int prot, int flags, int host_fd, uint64_t offset) override;
  Result<void> Unmap(GuestRange range) override;
  Result<void> Protect(GuestRange range, int prot) override;
  Result<void> Remap(GuestRange from, uint64_t new_size, int flags, GuestAddr to) override;
  Result<void> Advise(int what, GuestRange range, int arg) override;
  Result<void> Mincore(GuestRange range, std::span<uint8_t> out) override;
  Result<Ref<AddressSpace>> Fork() override;
  Result<size_t> Read(GuestAddr from, std::span<std::byte> to) override;
  Result<size_t> Write(GuestAddr to, std::span<const std::byte> from) override;
  Result<uint32_t> CompareExchange(GuestAddr addr, uint32_t expected, uint32_t desired) override;
  GuestRange vdso() const override { return vdso_; }
  GuestRange vvar() const override { return {}; }
  GuestAddr OwnMemoryIn(GuestRange range) const override {
    return own.Overlaps(range) ? own.start : GuestAddr();
  }
  pid_t host_pid() const override { return 0; }
  bool alive() const override { return true; }

  // --- For tests.
  std::map<uint64_t, FakePage> pages;  // by address
  int calls = 0;                       // that changed something
  std::optional<int> fail_next;        // errno of the next Map, Protect or Remap
  GuestRange own;                      // OwnMemoryIn tells of it

 private:
  friend class FakePlatform;
  static void CheckRange(GuestRange range);
  size_t ReadLocked(GuestAddr from, std::span<std::byte> to);
  size_t WriteLocked(GuestAddr to, std::span<const std::byte> from);
  // As the real one's: of what is held around a call, nothing may come behind it.
  Mutex<LockClass::kAddressSpace> mu_;
  GuestRange vdso_;
};

class FakePlatform final : public Platform {
 public:
  std::string_view name() const override { return "fake"; }
  Result<Ref<AddressSpace>> NewAddressSpace() override;
  Result<std::unique_ptr<Context>> NewContext(AddressSpace&, Context*) override {
    return Errno(ENOSYS);
  }
  PlatformStats Stats() const override { return {}; }

  // The address space made last, and where the next ones have a vDSO.
  FakeAddressSpace* last = nullptr;
  GuestRange vdso;
};

}  // namespace ringwall::testing

#endif  // RINGWALL_SENTRY_MM_TESTING_FAKE_ADDRESS_SPACE_H_
