// What systrap keeps for one address space: its idle guest threads, its contexts, and the patches
// of its code.
#ifndef RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_ADDRESS_SPACE_H_
#define RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_ADDRESS_SPACE_H_

#include <atomic>
#include <memory>
#include <vector>

#include "platform/stub/address_space.h"
#include "platform/systrap/code_patcher.h"
#include "platform/systrap/file_views.h"
#include "platform/systrap/systrap_core.h"

namespace ringwall {

// A thread of the stub with its region.
struct GuestThread {
  uint32_t region = 0;
  pid_t tid = 0;
  bool used = false;  // it has run before, and waits
  bool plain = true;  // has the scheduling that it began with
  int held_on = -1;  // the processor to which its last task bound it
  bool narrowed = false;  // its last task had not all processors
};

// Thread-safe.
class SystrapAddressSpace final : public StubAddressSpace, private systrap::World, private FileViewer {
 public:
  SystrapAddressSpace(Ref<SystrapCore> core, std::unique_ptr<StubProcess> stub);
  ~SystrapAddressSpace() override;
  // On a fresh stub.
  static Result<Ref<AddressSpace>> Create(Ref<SystrapCore> core);

  Result<void> Map(GuestRange range, int prot, int flags, int host_fd, uint64_t offset) override;
  Result<void> MapAll(std::span<const Mapping> mappings) override;
  bool MayReplace() override EXCLUDES(mu_);
  Result<void> Replace(std::span<const Mapping> mappings) override EXCLUDES(contexts_mu_);
  Result<void> Unmap(GuestRange range) override;
  Result<void> Protect(GuestRange range, int prot) override;
  Result<void> Remap(GuestRange from, uint64_t new_size, int flags, GuestAddr to) override;
  Result<void> Advise(int what, GuestRange range, int arg) override;
  Result<Ref<AddressSpace>> Fork() override;
  Result<size_t> Read(GuestAddr from, std::span<std::byte> to) override;
  Result<size_t> Write(GuestAddr to, std::span<const std::byte> from) override;
  Result<void> MakeView(ViewedFile& file, uint64_t pos) override;
  void DropViews(const ViewedFile* file) override { views_.Drop(file); }  // FileViewer's, too
  void ForbidViews() override { views_.Forbid(); }

  GuestAddr OwnMemoryIn(GuestRange range) const override { return patcher_.LowestAreaIn(range); }

  FileViews& views() { return views_; }
  SystrapCore& core() { return *core_; }
  systrap::CodePatcher& patcher() { return patcher_; }

  void Add(SystrapContext* context) EXCLUDES(contexts_mu_);
  void Remove(SystrapContext* context) EXCLUDES(contexts_mu_);
  // While true no context may let guest code run.
  bool stopped() const { return stopped_.load() != 0; }
  void AwaitStart() const { stopped_.wait(1); }

  // A thread that waits for the Sentry or is on its way there.
  Result<GuestThread> TakeThread() EXCLUDES(mu_);
  // Preconditions: it waits for the Sentry.
  void GiveBackThread(GuestThread thread) EXCLUDES(mu_);

 private:
  // systrap::World
  bool Stop(Patience patience) override EXCLUDES(contexts_mu_);
  void Start() override;
  // FileViewer
  bool TryHold() override { return TryAddRef(); }
  void LetGo() override { Release(); }

  // A new region, and the calls that map it and start a guest thread on it.
  static Result<uint32_t> StartCalls(SystrapCore& core, std::span<StubCall> calls);
  // Has a stub made for the next Create.
  static void BeginSpare(SystrapCore& core);
  // A stub could not be made; its calls were those for this region.
  static void GiveBack(SystrapCore& core, uint32_t region, Errno error);
  // On a stub that has made the calls, with what came of them.
  static Ref<SystrapAddressSpace> Make(Ref<SystrapCore> core, std::unique_ptr<StubProcess> stub,
                                       uint32_t region, const Result<uint32_t>& thread);

  const Ref<SystrapCore> core_;
  systrap::CodePatcher patcher_;
  FileViews views_;
  std::atomic<uint32_t> stopped_{0};
  Mutex<LockClass::kPlatform> contexts_mu_;
  std::vector<SystrapContext*> contexts_ GUARDED_BY(contexts_mu_);
  Mutex<LockClass::kPlatform> mu_;
  std::vector<GuestThread> idle_ GUARDED_BY(mu_);
  std::vector<uint32_t> regions_ GUARDED_BY(mu_);  // all that this stub has mapped
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_ADDRESS_SPACE_H_
