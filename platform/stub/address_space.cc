#include "platform/stub/address_space.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <vector>

namespace ringwall {
namespace {

// Page-aligned, not empty, and nothing of the stub's range.
bool MayChange(GuestRange r) {
  return r.start < r.end && r.start.IsPageAligned() && r.end.IsPageAligned() &&
         r.end.value() <= kStubStart;
}

// The part of [addr, addr+size) that is guest memory.
size_t GuestPart(GuestAddr addr, size_t size) {
  if (addr.value() >= kStubStart) return 0;
  return std::min<uint64_t>(size, kStubStart - addr.value());
}

uint64_t ProcessClock(pid_t pid, unsigned which) {
  // MAKE_PROCESS_CPUCLOCK of include/linux/posix-timers_types.h.
  const auto clock = static_cast<clockid_t>(~static_cast<unsigned>(pid) << 3 | which);
  timespec t;
  if (::clock_gettime(clock, &t) != 0) return 0;
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

// The processor lets code read what it may write or execute, but process_vm_readv() goes by the flags.
int Readable(int prot) {
  return (prot & (PROT_WRITE | PROT_EXEC)) != 0 ? prot | PROT_READ : prot;
}

StubCall MapCall(const AddressSpace::Mapping& m) {
  // NOREPLACE would be refused for what is there; here the Sentry has decided.
  const int flags = (m.flags & ~MAP_FIXED_NOREPLACE) | MAP_FIXED;
  const uint64_t fd =
      (flags & MAP_ANONYMOUS) != 0 ? ~uint64_t{0} : static_cast<uint64_t>(m.host_fd);
  return {SYS_mmap,
          {m.range.start.value(), m.range.size(), static_cast<uint64_t>(Readable(m.prot)),
           static_cast<uint64_t>(flags), fd, m.offset},
          0};
}

}  // namespace

StubAddressSpace::StubAddressSpace(Ref<StubHost> host, std::unique_ptr<StubProcess> stub)
    : host_(std::move(host)), stub_(std::move(stub)) {}

Result<void> StubAddressSpace::Map(GuestRange range, int prot, int flags, int host_fd,
                                   uint64_t offset) {
  if (!MayChange(range)) return Errno(EINVAL);
  NoteChange(range);
  const StubCall call = MapCall({range, prot, flags, host_fd, offset});
  TRY(stub_->Order({&call, 1}));
  return {};
}

Result<void> StubAddressSpace::MapAll(std::span<const Mapping> mappings) {
  std::array<StubCall, RW_CMD_MAX_CALLS> calls;
  while (!mappings.empty()) {
    const size_t n = std::min(mappings.size(), calls.size());
    for (size_t i = 0; i < n; ++i) {
      if (!MayChange(mappings[i].range)) return Errno(EINVAL);
      NoteChange(mappings[i].range);
      calls[i] = MapCall(mappings[i]);
    }
    TRY(stub_->Order(std::span(calls).first(n)));
    mappings = mappings.subspan(n);
  }
  return {};
}

// A guest may unmap, move or cover the vDSO.
void StubAddressSpace::NoteChange(GuestRange range) {
  if (range.Overlaps(vdso()) || range.Overlaps(vvar())) changed_.store(true);
}

Result<void> StubAddressSpace::ReplaceAnd(std::span<const Mapping> mappings,
                                          std::span<const GuestRange> others) {
  std::vector<StubCall> calls;
  const auto unmap = [&](GuestAddr start, GuestAddr end) {
    if (start < end) calls.push_back({SYS_munmap, {start.value(), end - start, 0, 0, 0, 0}, 0});
  };
  const GuestAddr end(kStubStart);
  unmap(GuestAddr(0), vdso().empty() ? end : vvar().start);
  if (!vdso().empty()) unmap(vdso().end, end);
  for (const GuestRange range : others) unmap(range.start, range.end);
  for (const Mapping& m : mappings) {
    if (!MayChange(m.range)) return Errno(EINVAL);
    calls.push_back(MapCall(m));
  }
  for (std::span<const StubCall> left(calls); !left.empty();) {
    const size_t n = std::min<size_t>(left.size(), RW_CMD_MAX_CALLS);
    TRY(stub_->Order(left.first(n)));
    left = left.subspan(n);
  }
  return {};
}

Result<void> StubAddressSpace::Unmap(GuestRange range) {
  if (!MayChange(range)) return Errno(EINVAL);
  NoteChange(range);
  return stub_->Syscall(SYS_munmap, {range.start.value(), range.size()});
}

Result<void> StubAddressSpace::Protect(GuestRange range, int prot) {
  // PROT_GROWSDOWN and PROT_GROWSUP would reach beyond the range.
  if (!MayChange(range) || (prot & (PROT_GROWSDOWN | PROT_GROWSUP)) != 0) return Errno(EINVAL);
  NoteChange(range);
  return stub_->Syscall(SYS_mprotect,
                        {range.start.value(), range.size(), static_cast<uint64_t>(Readable(prot))});
}

Result<void> StubAddressSpace::Remap(GuestRange from, uint64_t new_size, int flags, GuestAddr to) {
  // An empty `from` stands for the duplication of a shared mapping (old size 0).
  const GuestRange old = from.empty() ? GuestRange{from.start, from.start + kPageSize} : from;
  const std::optional<GuestRange> target = GuestRange::Make(to, new_size);
  if (!MayChange(old) || !target || !MayChange(*target)) return Errno(EINVAL);
  // Without a target the host would choose one.
  const bool fixed = (flags & MREMAP_FIXED) != 0;
  if (!fixed && (to != from.start || (flags & MREMAP_MAYMOVE) != 0)) return Errno(EINVAL);
  NoteChange(old);
  NoteChange(*target);
  return stub_->Syscall(SYS_mremap, {from.start.value(), from.size(), new_size,
                                     static_cast<uint64_t>(flags), to.value()});
}

Result<void> StubAddressSpace::Advise(int what, GuestRange range, int arg) {
  if (!MayChange(range)) return Errno(EINVAL);
  switch (what) {
    case SYS_madvise:
    case SYS_msync:
    case SYS_mlock2:
    case SYS_munlock:
      return stub_->Syscall(what,
                            {range.start.value(), range.size(), static_cast<uint64_t>(arg)});
    default:
      return Errno(EINVAL);
  }
}

Result<void> StubAddressSpace::Mincore(GuestRange range, std::span<uint8_t> out) {
  if (!MayChange(range) || out.size() < range.size() / kPageSize) return Errno(EINVAL);
  return stub_->Mincore(range, out);
}

Result<void> StubAddressSpace::CountResident(std::span<const GuestRange> ranges,
                                             std::span<uint64_t> pages) {
  for (const GuestRange range : ranges) {
    if (!MayChange(range)) return Errno(EINVAL);
  }
  return stub_->CountResident(ranges, pages);
}

Result<size_t> StubAddressSpace::Read(GuestAddr from, std::span<std::byte> to) {
  if (to.empty()) return size_t{0};
  const size_t size = GuestPart(from, to.size());
  if (size == 0) return Errno(EFAULT);
  return stub_->Read(from, to.first(size));
}

Result<size_t> StubAddressSpace::Write(GuestAddr to, std::span<const std::byte> from) {
  if (from.empty()) return size_t{0};
  const size_t size = GuestPart(to, from.size());
  if (size == 0) return Errno(EFAULT);
  return stub_->Write(to, from.first(size));
}

Result<uint32_t> StubAddressSpace::CompareExchange(GuestAddr addr, uint32_t expected,
                                                   uint32_t desired) {
  if (addr.value() % 4 != 0) return Errno(EINVAL);
  if (addr.value() >= kStubStart) return Errno(EFAULT);
  const StubCall call = {RW_OP_CMPXCHG, {addr.value(), expected, desired, 0, 0, 0}, 0};
  return stub_->Order({&call, 1});
}

Result<uint32_t> StubAddressSpace::Membarrier(int cmd, uint32_t flags, int cpu) {
  changed_.store(true);  // the host remembers who has registered
  const StubCall call = {SYS_membarrier,
                         {static_cast<uint64_t>(cmd), flags, static_cast<uint64_t>(cpu), 0, 0, 0},
                         0};
  return stub_->Order({&call, 1});
}

Result<AddressSpace::HostUsage> StubAddressSpace::Usage() {
  const rusage used = TRY(stub_->Usage());
  return ToHostUsage(used);
}

AddressSpace::HostUsage ToHostUsage(const rusage& r) {
  const auto count = [](long n) { return static_cast<uint64_t>(std::max<long>(n, 0)); };
  return {.maxrss_kib = count(r.ru_maxrss),
          .minor_faults = count(r.ru_minflt),
          .major_faults = count(r.ru_majflt),
          .voluntary = count(r.ru_nvcsw),
          .involuntary = count(r.ru_nivcsw)};
}

void StubAddressSpace::AddMeter(CpuMeter& meter) {
  MutexLock lock(time_mu_);
  shares_.Add(&meter);
}

void StubAddressSpace::RemoveMeter(CpuMeter& meter) {
  MutexLock lock(time_mu_);
  shares_.Remove(&meter);
}

CpuTimes StubAddressSpace::ReadMeter(CpuMeter& meter) {
  constexpr unsigned kVirt = 1, kSched = 2;  // CPUCLOCK_*
  MutexLock lock(time_mu_);
  auto& [user, system] = host_times_;
  const uint64_t total = std::max(ProcessClock(host_pid(), kSched), user + system);
  // Ticks, which may run ahead of the exact total.
  user = std::clamp(ProcessClock(host_pid(), kVirt), user, total - system);
  system = total - user;
  return shares_.Read(meter, host_times_, __builtin_ia32_rdtsc());
}

}  // namespace ringwall
