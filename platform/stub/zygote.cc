// Starting the zygote: the fork of the Sentry from which all stubs descend.
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "platform/platform.h"
#include "platform/stub/stub_process.h"
#include "platform/stub/vdso.h"
#include "platform/stub/zygote_pid.h"
#include "sentry/base/log.h"

extern "C" {
extern const char ringwall_stub_blob[];
extern const char ringwall_stub_blob_end[];
long ringwall_clone_zygote(uint64_t flags, void* stack, void* boot, void* plan, void* header);
// glibc 2.35 and later; absent elsewhere.
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));
}

namespace ringwall {
namespace {

static_assert(kStubStart == RW_STUB_START && kStubEnd == RW_STUB_END);

constexpr size_t kBootStackSize = 16 * kPageSize;
// Where the boot's memory goes unless something of the Sentry is there.
constexpr uint64_t kBootAddr = 0x1000'0000'0000;

size_t BlobSize() { return static_cast<size_t>(ringwall_stub_blob_end - ringwall_stub_blob); }

// A sealed memfd of the blob.
HostResult<UniqueFd> MakeTextFile() {
  constexpr unsigned kMfdExec = 0x10;
  UniqueFd fd(::memfd_create("ringwall-stub", MFD_CLOEXEC | MFD_ALLOW_SEALING | kMfdExec));
  if (!fd && errno == EINVAL) {  // before Linux 6.3
    fd = UniqueFd(::memfd_create("ringwall-stub", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  }
  if (!fd) return HostError::Last("memfd_create", "stub text");
  if (::write(fd.get(), ringwall_stub_blob, BlobSize()) != static_cast<ssize_t>(BlobSize())) {
    return HostError::Last("write", "stub text");
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    return HostError::Last("seal", "stub text");
  }
  return fd;
}

// The mappings of the vDSO and its data pages, as RememberVdso() has seen them.
struct VdsoParts {
  struct Part {
    unsigned long start, end;
    bool is_vdso;
  };
  Part parts[8];
  size_t count = 0;
};
VdsoParts g_vdso;
std::atomic<pid_t> g_zygote_pid{0};
std::array<std::atomic<uint64_t>, 64> g_deaths{};

}  // namespace

pid_t ZygotePid() { return g_zygote_pid.load(); }

void NoteStubDeath(pid_t pid, int signo) {
  g_deaths[static_cast<size_t>(pid) % g_deaths.size()].store(static_cast<uint64_t>(pid) << 32 |
                                                             static_cast<uint64_t>(signo));
}

int NotedStubDeath(pid_t pid) {
  const uint64_t noted = g_deaths[static_cast<size_t>(pid) % g_deaths.size()].load();
  return noted >> 32 == static_cast<uint64_t>(pid) ? static_cast<int>(noted & 0xff) : 0;
}

void RememberVdso() {
  if (g_vdso.count != 0) return;
  FILE* maps = ::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return;
  char line[512];
  while (::fgets(line, sizeof(line), maps) != nullptr) {
    unsigned long start, end;
    char name[32] = "";
    if (::sscanf(line, "%lx-%lx %*s %*s %*s %*s %31s", &start, &end, name) != 3) continue;
    const bool is_vdso = strcmp(name, "[vdso]") == 0;
    const bool is_vvar = strncmp(name, "[vvar", 5) == 0;
    if ((!is_vdso && !is_vvar) || g_vdso.count == std::size(g_vdso.parts)) continue;
    g_vdso.parts[g_vdso.count++] = {start, end, is_vdso};
  }
  ::fclose(maps);
}

namespace {

// Without /proc there is none to keep.
void FindVdso(StubBootPlan& plan, GuestRange& vdso, GuestRange& vvar) {
  RememberVdso();
  for (size_t i = 0; i < g_vdso.count && plan.kept < std::size(plan.keep); i++) {
    const VdsoParts::Part& part = g_vdso.parts[i];
    plan.keep[plan.kept++] = {part.start, part.end, 0};
    GuestRange& range = part.is_vdso ? vdso : vvar;
    if (range.empty()) range.start = GuestAddr(part.start);
    range.end = GuestAddr(part.end);
  }
  if (vdso.empty() || vvar.empty() || vvar.end != vdso.start) {
    // Not the shape that this code knows; guests do without.
    plan.kept = 0;
    vdso = vvar = {};
  }
}

// Plans to move the vDSO out of the stub's own range, where old kernels put it (it lies above the
// stack). The distance between its parts must stay.
void MoveVdsoAway(StubBootPlan& plan, GuestRange& vdso, GuestRange& vvar) {
  if (vdso.empty() || vdso.end.value() <= kStubStart) return;
  const uint64_t down = vdso.end.value() - kStubStart;
  for (uint32_t i = 0; i < plan.kept; ++i) plan.keep[i].move_to = plan.keep[i].start - down;
  vdso = {vdso.start - down, vdso.end - down};
  vvar = {vvar.start - down, vvar.end - down};
}

uint64_t RseqAddr() {
  if (&__rseq_size == nullptr || __rseq_size == 0) return 0;
  return reinterpret_cast<uint64_t>(__builtin_thread_pointer()) +
         static_cast<uint64_t>(__rseq_offset);
}

}  // namespace

HostResult<void> StubHost::MapSlots() {
  slot_fd_ = UniqueFd(::memfd_create("ringwall-orders", MFD_CLOEXEC));
  if (!slot_fd_) return HostError::Last("memfd_create", "stub orders");
  const size_t size = size_t{kMaxStubs} * RW_STUB_SLOT_SIZE;
  if (::ftruncate(slot_fd_.get(), static_cast<off_t>(size)) != 0) {
    return HostError::Last("ftruncate", "stub orders");
  }
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                    slot_fd_.get(), 0);
  if (at == MAP_FAILED) return HostError::Last("mmap", "stub orders");
  slots_ = static_cast<std::byte*>(at);
  return {};
}

HostResult<void> StubHost::PrepareCopies() {
  uint64_t word = 0;
  const iovec local = {&word, sizeof(word)};
  const iovec remote = {reinterpret_cast<void*>(RW_STUB_TEXT), sizeof(word)};
  const bool refused = ::getenv("RINGWALL_COPY_BY_ORDER") != nullptr;  // for tests
  if (!refused && ::process_vm_readv(zygote_->pid(), &local, 1, &remote, 1, 0) == sizeof(word)) return {};
  RW_LOG(kInfo, "platform: the host refuses process_vm_readv; memory threads copy instead");
  copy_fd_ = UniqueFd(::memfd_create("ringwall-copies", MFD_CLOEXEC));
  const size_t size = size_t{kMaxStubs} * kCopyAreaSize;
  if (!copy_fd_ || ::ftruncate(copy_fd_.get(), static_cast<off_t>(size)) != 0) {
    return HostError::Last("memfd_create", "copies");
  }
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                    copy_fd_.get(), 0);
  if (at == MAP_FAILED) return HostError::Last("mmap", "copies");
  copies_ = static_cast<std::byte*>(at);
  return {};
}

HostResult<void> StubHost::StartZygote(GuestSignals signals) {
  const UniqueFd text = TRY(MakeTextFile());
  const size_t text_size = (BlobSize() + kPageMask) & ~kPageMask;
  RW_CHECK(text_size <= RW_STUB_TEXT_MAX);
  memcpy(&header_, ringwall_stub_blob, sizeof(header_));
  RW_CHECK(header_.magic == RW_STUB_MAGIC);

  // Blob, plan and stack, in this order.
  const size_t boot_size = text_size + kPageSize + kBootStackSize;
  char* const boot = static_cast<char*>(::mmap(reinterpret_cast<void*>(kBootAddr), boot_size,
                                               PROT_READ | PROT_WRITE,
                                               MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (boot == MAP_FAILED) return HostError::Last("mmap", "stub boot");
  const auto unmap = [&] { ::munmap(boot, boot_size); };
  if (::mmap(boot, text_size, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, text.get(), 0) ==
      MAP_FAILED) {
    HostError error = HostError::Last("mmap", "stub text");
    unmap();
    return error;
  }

  auto& plan = *reinterpret_cast<StubBootPlan*>(boot + text_size);
  plan.temp_start = reinterpret_cast<uint64_t>(boot);
  plan.temp_end = plan.temp_start + boot_size;
  plan.text_size = text_size;
  plan.text_fd = text.get();
  plan.slot_fd = slot_fd_.get();
  plan.sentry_pid = static_cast<uint32_t>(sentry_pid_);
  plan.guest_handlers = signals == GuestSignals::kStub;
  plan.rseq = RseqAddr();
  plan.rseq_size = 32;
  if (plan.rseq != 0) {
    constexpr unsigned long kAtRseqFeatureSize = 27;
    constexpr uint32_t kBeforeItWasTold = 20;
    const auto told = static_cast<uint32_t>(::getauxval(kAtRseqFeatureSize));
    rseq_feature_size_ = told != 0 ? told : kBeforeItWasTold;
  }
  FindVdso(plan, vdso_, vvar_);
  MoveVdsoAway(plan, vdso_, vvar_);
  Result<StubSlot> slot = TakeSlot();
  RW_CHECK(slot.ok());
  plan.slot_offset = uint64_t{slot->index} * RW_STUB_SLOT_SIZE;

  // No handler of the Sentry may run in the child.
  sigset_t all, old;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &old);
  const long pid = ringwall_clone_zygote(
      CLONE_FILES, boot + boot_size, boot + (header_.boot - RW_STUB_TEXT), &plan, boot);
  const int clone_errno = static_cast<int>(-pid);
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (pid < 0) {
    unmap();
    return HostError::WithErrno(clone_errno, "clone", "stub zygote");
  }

  SetSlice(static_cast<pid_t>(pid), kMemoryThreadSliceNs);
  zygote_ = std::make_unique<StubProcess>(*this, *slot);
  zygote_->pid_ = static_cast<pid_t>(pid);
  g_zygote_pid.store(zygote_->pid_);
  bool up;
  {
    MutexLock lock(zygote_->mu_);
    up = zygote_->AwaitReply(RW_FIRST_ORDER) != 0;
  }
  const int step = plan.failed_step, error = plan.failed_errno;
  unmap();
  if (up) return {};
  if (step == 0) return HostError::Message("the stub zygote died while it started");
  char what[48];
  snprintf(what, sizeof(what), "stub zygote, step %d", step);
  return HostError::WithErrno(error, "start", what);
}

HostResult<Ref<StubHost>> StubHost::Create(GuestSignals signals) {
  Ref<StubHost> host = MakeRef<StubHost>();
  host->sentry_pid_ = ::getpid();
  host->policy_ = ::sched_getscheduler(0);
  host->nice_ = ::getpriority(PRIO_PROCESS, 0);
  // On hosts with more CPUs than the set holds, threads stay where the host puts them.
  host->pin_ = sched_getaffinity(0, sizeof(host->all_cpus_), &host->all_cpus_) == 0;
  TRY(host->MapSlots());
  TRY(host->StartZygote(signals));
  TRY(host->PrepareCopies());
  return host;
}

}  // namespace ringwall
