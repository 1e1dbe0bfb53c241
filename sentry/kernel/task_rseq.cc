#include "sentry/kernel/task_rseq.h"

#include <sys/mman.h>

namespace ringwall {

namespace {

constexpr uint32_t kOriginalSize = 32;
constexpr uint64_t kCsOffset = 8;  // of rseq_cs in struct rseq

// struct rseq_cs.
struct CriticalSection {
  uint32_t version, flags;
  uint64_t start, length, abort;
};

}  // namespace

void NoteLocalRseq(Task& t) {
  if (!t.rseq_area.IsNull()) return;
  const auto registered = t.context().TakeLocalRseq();
  if (!registered || registered->first >= kTaskSize || registered->first.value() % kRseqAlign != 0) return;
  t.rseq_area = registered->first;
  t.rseq_length = kOriginalSize;
  t.rseq_signature = registered->second;
}

Result<void> RegisterRseq(Task& t, GuestAddr area, uint32_t length, uint32_t signature) {
  NoteLocalRseq(t);
  if (t.kernel().platform().rseq_feature_size() == 0) return Errno(ENOSYS);
  if (!t.rseq_area.IsNull()) {
    if (t.rseq_area != area || t.rseq_length != length) return Errno(EINVAL);
    return Errno(t.rseq_signature != signature ? EPERM : EBUSY);
  }
  if (length < kOriginalSize || area.value() % kRseqAlign != 0) return Errno(EINVAL);
  if (area >= kTaskSize || kTaskSize.value() - area.value() < length) return Errno(EFAULT);
  uint64_t cs = 0;
  TRY(t.CopyIn(area + kCsOffset, std::as_writable_bytes(std::span(&cs, 1))));
  if (cs != 0) {
    cs = 0;
    TRY(t.CopyOut(area + kCsOffset, std::as_bytes(std::span(&cs, 1))));
  }
  const std::optional<Vma> vma = t.mm().Find(area);
  if (!vma || (vma->prot & PROT_WRITE) == 0) {
    // The host would find out when it fills the area in, and end the stub.
    t.ForceSignal(MakeSigInfo(SIGSEGV, SI_KERNEL), true);
    return {};
  }
  TRY(t.context().SetRseq(area, signature));
  t.rseq_area = area;
  t.rseq_length = length;
  t.rseq_signature = signature;
  return {};
}

Result<void> UnregisterRseq(Task& t, GuestAddr area, uint32_t length, uint32_t signature) {
  NoteLocalRseq(t);
  if (t.rseq_area.IsNull() || t.rseq_area != area || t.rseq_length != length) return Errno(EINVAL);
  if (t.rseq_signature != signature) return Errno(EPERM);
  TRY(t.context().SetRseq(GuestAddr(), 0));
  t.rseq_area = GuestAddr();
  return {};
}

void InheritRseq(Task& child, Context& context, Task& parent) {
  NoteLocalRseq(parent);
  if (parent.rseq_area.IsNull()) return;
  if (!context.SetRseq(parent.rseq_area, parent.rseq_signature).ok()) return;
  child.rseq_area = parent.rseq_area;
  child.rseq_length = parent.rseq_length;
  child.rseq_signature = parent.rseq_signature;
}

void LeaveRseq(Task& t, bool in_place) {
  NoteLocalRseq(t);
  if (t.rseq_area.IsNull()) return;
  if (!in_place) {
    // With the last one the address space goes, and the host's thread with it.
    MutexLock lock(t.tg().siglock);
    const size_t ending = t.tg().group_exit ? t.tg().threads.size() : 1;
    if (static_cast<size_t>(t.mm().users.load()) <= ending) return;
  }
  static_cast<void>(t.context().SetRseq(GuestAddr(), 0).ok());
  t.rseq_area = GuestAddr();
}

bool AbortRseq(Task& t) {
  NoteLocalRseq(t);
  if (t.rseq_area.IsNull() || t.context().events_abort_rseq()) return true;
  const GuestAddr at = t.rseq_area + kCsOffset;
  uint64_t pointer = 0;
  if (!t.mm().CopyIn(at, std::as_writable_bytes(std::span(&pointer, 1))).ok()) return false;
  if (pointer == 0) return true;
  CriticalSection cs;
  if (pointer >= kTaskSize.value() ||
      !t.mm().CopyIn(GuestAddr(pointer), std::as_writable_bytes(std::span(&cs, 1))).ok()) {
    return false;
  }
  if (cs.start >= kTaskSize.value() || cs.start + cs.length >= kTaskSize.value() ||
      cs.abort >= kTaskSize.value() || cs.version != 0 || cs.start + cs.length < cs.start ||
      cs.abort - cs.start < cs.length) {
    return false;
  }
  uint32_t signature = 0;
  if (!t.mm().CopyIn(GuestAddr(cs.abort - sizeof(signature)),
                     std::as_writable_bytes(std::span(&signature, 1))).ok() ||
      signature != t.rseq_signature) {
    return false;
  }
  const uint64_t none = 0;
  if (!t.mm().CopyOut(at, std::as_bytes(std::span(&none, 1))).ok()) return false;
  abi::Registers& r = t.regs();
  if (r.rip - cs.start < cs.length) {
    r.rip = cs.abort;
    t.context().RegsChanged();
  }
  return true;
}

}  // namespace ringwall
