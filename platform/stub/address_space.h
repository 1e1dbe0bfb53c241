// StubAddressSpace: the AddressSpace of both platforms, on a stub process. A platform derives from
// it for what it keeps per address space (idle guest threads, trampolines), and forks.
#ifndef RINGWALL_PLATFORM_STUB_ADDRESS_SPACE_H_
#define RINGWALL_PLATFORM_STUB_ADDRESS_SPACE_H_

#include <sys/resource.h>

#include <atomic>
#include <memory>
#include <utility>

#include "platform/platform.h"
#include "platform/stub/cpu_meter.h"
#include "platform/stub/stub_process.h"

namespace ringwall {

// Counts below zero, which only a forger sends, become zero.
AddressSpace::HostUsage ToHostUsage(const rusage& r);

class StubAddressSpace : public AddressSpace {
 public:
  Result<void> Map(GuestRange range, int prot, int flags, int host_fd, uint64_t offset) override;
  Result<void> MapAll(std::span<const Mapping> mappings) override;
  Result<void> Replace(std::span<const Mapping> mappings) override {
    return ReplaceAnd(mappings, {});
  }
  Result<void> Unmap(GuestRange range) override;
  Result<void> Protect(GuestRange range, int prot) override;
  Result<void> Remap(GuestRange from, uint64_t new_size, int flags, GuestAddr to) override;
  Result<void> Advise(int what, GuestRange range, int arg) override;
  Result<void> Mincore(GuestRange range, std::span<uint8_t> out) override;
  Result<void> CountResident(std::span<const GuestRange> ranges,
                             std::span<uint64_t> pages) override;
  Result<size_t> Read(GuestAddr from, std::span<std::byte> to) override;
  Result<size_t> Write(GuestAddr to, std::span<const std::byte> from) override;
  Result<uint32_t> CompareExchange(GuestAddr addr, uint32_t expected, uint32_t desired) override;
  Result<uint32_t> Membarrier(int cmd, uint32_t flags, int cpu) override;
  Result<HostUsage> Usage() override;
  GuestRange vdso() const override { return host_->vdso(); }
  GuestRange vvar() const override { return host_->vvar(); }
  pid_t host_pid() const override { return stub_->pid(); }
  bool alive() const override { return stub_->alive(); }

  StubProcess& stub() { return *stub_; }

  // Every guest thread's meter is added before it runs, and read once more before it is removed.
  void AddMeter(CpuMeter& meter) EXCLUDES(time_mu_);
  void RemoveMeter(CpuMeter& meter) EXCLUDES(time_mu_);
  CpuTimes ReadMeter(CpuMeter& meter) EXCLUDES(time_mu_);

 protected:
  StubAddressSpace(Ref<StubHost> host, std::unique_ptr<StubProcess> stub);

  StubHost& host() { return *host_; }

  // Replace(), and unmaps these parts of the stub's own range, too.
  Result<void> ReplaceAnd(std::span<const Mapping> mappings, std::span<const GuestRange> others);
  // Whether the stub is but for its memory as it was made: the vDSO lies where it was, and the host
  // has no settings of its address space.
  bool pristine() const { return !changed_.load(std::memory_order_relaxed); }
  // For the copy that fork makes.
  void InheritChanges(const StubAddressSpace& parent) { changed_.store(!parent.pristine()); }

 private:
  void NoteChange(GuestRange range);

  const Ref<StubHost> host_;
  const std::unique_ptr<StubProcess> stub_;
  std::atomic<bool> changed_{false};
  Mutex<LockClass::kLeaf> time_mu_;
  CpuTimes host_times_ GUARDED_BY(time_mu_);
  CpuShares shares_ GUARDED_BY(time_mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_STUB_ADDRESS_SPACE_H_
