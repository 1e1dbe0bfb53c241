#include "sentry/kernel/signal_frame.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <vector>

#include "platform/signal_frames.h"
#include "platform/xstate.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr uint64_t kRedZone = 128;
constexpr uint64_t kMinAltStack = 2048;
constexpr size_t kFrameSlack = 128;  // at most, between a frame and its xstate
// AC, TF, DF, OF, SF, ZF, AF, PF, CF, RF and ID-less: what FIX_EFLAGS of Linux lets through.
constexpr uint64_t kFixEflags = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800 | 0x10000 | 0x40000;
constexpr uint64_t kEflagsForHandler = ~uint64_t{0x100 | 0x400 | 0x10000};  // no TF, DF, RF

bool OnAltStack(const abi::StackT& s, uint64_t sp) {
  return (s.flags & abi::kSsAutodisarm) == 0 && sp > s.sp && sp - s.sp <= s.size;
}

// An xsave image in its initial state, as a handler starts with.
std::vector<std::byte> InitialXState(size_t size) {
  std::vector<std::byte> x(size);
  const uint16_t fcw = 0x37f;
  const uint32_t mxcsr = 0x1f80;
  memcpy(x.data(), &fcw, sizeof(fcw));
  memcpy(x.data() + 24, &mxcsr, sizeof(mxcsr));
  return x;
}

// Selectors that a frame may name: others are a fault on the way out, which tells the index of the first. Code
// segments of compatibility mode are not there.
std::optional<uint64_t> BadSelector(const UContext& uc) {
  constexpr uint16_t kRpl = 3;
  const uint16_t cs = uc.mcontext.cs | kRpl, ss = uc.mcontext.ss | kRpl;
  if (cs != abi::kUserCs) return cs & ~kRpl;
  // Without the flag a program of old gets the stack segment that there is.
  if (ss != abi::kUserSs && (uc.flags & kUcStrictRestoreSs) != 0) return ss & ~kRpl;
  return std::nullopt;
}

// Copies guest memory at an address; false where it cannot.
using FrameReader = std::function<bool(uint64_t, std::span<std::byte>)>;

// Bytes `from` to `to` of an area as they are at first; nothing where it is shorter.
void Restart(std::span<std::byte> area, std::span<const std::byte> initial, size_t from, size_t to) {
  if (to <= area.size()) std::copy_n(initial.data() + from, to - from, area.data() + from);
}

// The xstate of a frame as fpu__restore_sig takes it; false where that is a fault.
bool RestoreXState(Context& context, uint64_t fp, const FrameReader& read) {
  constexpr uint64_t kXsaveAlignment = 64, kFxsaveAlignment = 16;
  constexpr uint64_t kX87 = 1, kSse = 2, kAvx = 4;
  const std::vector<std::byte> initial = InitialXState(context.xstate_size());
  std::vector<std::byte> x = initial;
  if (fp == 0) return context.SetXState(x).ok();
  if (!read(fp, std::span(x).first(kFxsaveSize))) return false;
  FpxSwBytes sw;
  memcpy(&sw, x.data() + kFpxSwOffset, sizeof(sw));
  uint32_t magic2 = 0;
  bool extended = sw.magic1 == kFpXstateMagic1 && sw.xstate_size >= kXsaveHeaderEnd &&
                  sw.xstate_size <= x.size() && sw.xstate_size <= sw.extended_size;
  if (extended && !read(fp + sw.xstate_size, std::as_writable_bytes(std::span(&magic2, 1)))) return false;
  extended = extended && magic2 == kFpXstateMagic2;
  if (fp % (extended ? kXsaveAlignment : kFxsaveAlignment) != 0) return false;
  uint64_t features = kX87 | kSse;
  if (extended) {
    if (!read(fp + kFxsaveSize, std::span(x).subspan(kFxsaveSize, sw.xstate_size - kFxsaveSize))) {
      return false;
    }
    // MXCSR goes with the vector registers.
    if ((sw.xfeatures & (kSse | kAvx)) == 0) Restart(x, initial, 24, 32);
    if (!CheckXState(x).ok()) return false;
    memcpy(&features, x.data() + kFxsaveSize, sizeof(features));
    features &= sw.xfeatures;  // what the program has not asked for begins anew
    if ((features & kX87) == 0) Restart(x, initial, 0, 24), Restart(x, initial, 32, 160);
    if ((features & kSse) == 0) Restart(x, initial, 160, 416);
    if ((features & kAvx) == 0) Restart(x, initial, kXsaveHeaderEnd, kXsaveHeaderEnd + 256);
  }
  memcpy(x.data() + kFxsaveSize, &features, sizeof(features));
  memset(x.data() + kFpxSwOffset, 0, sizeof(sw));
  return context.SetXState(x).ok();
}

}  // namespace

void SigContext::From(const abi::Registers& r) {
  r8 = r.r8, r9 = r.r9, r10 = r.r10, r11 = r.r11, r12 = r.r12, r13 = r.r13, r14 = r.r14;
  r15 = r.r15, rdi = r.rdi, rsi = r.rsi, rbp = r.rbp, rbx = r.rbx, rdx = r.rdx, rax = r.rax;
  rcx = r.rcx, rsp = r.rsp, rip = r.rip, eflags = r.eflags;
  cs = abi::kUserCs, gs = 0, fs = 0, ss = abi::kUserSs;
}

void SigContext::To(abi::Registers& r) const {
  r.r8 = r8, r.r9 = r9, r.r10 = r10, r.r11 = r11, r.r12 = r12, r.r13 = r13, r.r14 = r14;
  r.r15 = r15, r.rdi = rdi, r.rsi = rsi, r.rbp = rbp, r.rbx = rbx, r.rdx = rdx, r.rax = rax;
  r.rcx = rcx, r.rsp = rsp, r.rip = rip;
  r.eflags = (r.eflags & ~kFixEflags) | (eflags & kFixEflags);
  r.orig_rax = ~uint64_t{0};
}

bool Task::SetUpFrame(const abi::SigInfo& info, const abi::SigAction& action,
                      abi::SigSet old_mask) {
  if ((action.flags & abi::kSaRestorer) == 0) return false;
  abi::Registers& r = regs();
  const bool nested = OnAltStack(alt_stack, r.rsp);
  uint64_t sp = r.rsp - kRedZone;
  bool entering = false;
  if ((action.flags & SA_ONSTACK) != 0 && !nested && alt_stack.size != 0) {
    sp = alt_stack.sp + alt_stack.size;
    entering = true;
  }
  const size_t xsize = context_->xstate_size();
  const uint64_t fp = (sp - xsize - sizeof(kFpXstateMagic2)) & ~uint64_t{63};
  const uint64_t frame = ((fp - sizeof(RtSigFrame)) & ~uint64_t{15}) - 8;
  // A frame that does not fit the alternative stack is a fault, as on Linux.
  if ((entering || nested) && frame < alt_stack.sp) return false;

  RtSigFrame f = {};
  f.pretcode = action.restorer;
  f.uc.flags = kUcFpXstate | kUcSigcontextSs | kUcStrictRestoreSs;
  f.uc.stack = alt_stack;
  // As it was set; whether this runs on it is not said here (save_altstack).
  if (alt_stack.size == 0) f.uc.stack.flags = (alt_stack.flags & abi::kSsAutodisarm) | SS_DISABLE;
  f.uc.mcontext.From(r);
  f.uc.mcontext.oldmask = old_mask;
  f.uc.mcontext.fpstate = fp;
  f.uc.mcontext.err = fault_error_code_;
  f.uc.mcontext.trapno = fault_trap_no_;
  f.uc.mcontext.cr2 = fault_addr_;
  f.uc.sigmask = old_mask;
  f.info = info;

  // Whether or not the handler runs there.
  const bool disarms = (alt_stack.flags & abi::kSsAutodisarm) != 0;
  SignalFrames* const frames = SignalFrames::Current();
  const bool queued = frames != nullptr && !traced() &&
                      frames->Queue({.at = GuestAddr(frame),
                                     .head = std::as_bytes(std::span(&f, 1)),
                                     .xstate = GuestAddr(fp),
                                     .returns_alone = !disarms});
  if (!queued) {
    std::vector<std::byte> image(fp + xsize + sizeof(kFpXstateMagic2) - frame);
    memcpy(image.data(), &f, sizeof(f));
    const std::span<std::byte> x(image.data() + (fp - frame), xsize);
    if (!context_->GetXState(x).ok()) return false;
    const FpxSwBytes sw = {kFpXstateMagic1, static_cast<uint32_t>(xsize + sizeof(kFpXstateMagic2)),
                           XStateFeatures(), static_cast<uint32_t>(xsize), {}};
    memcpy(x.data() + kFpxSwOffset, &sw, sizeof(sw));
    memcpy(x.data() + xsize, &kFpXstateMagic2, sizeof(kFpXstateMagic2));
    if (!mm().CopyOut(GuestAddr(frame), image).ok()) return false;
    if (!context_->SetXState(InitialXState(xsize)).ok()) return false;
    if (frames != nullptr) frames->Forget();
  }

  // ---- No failure below this line. ----
  if (disarms) alt_stack = abi::StackT{};
  r.rsp = frame;
  r.rip = action.handler;
  r.rdi = static_cast<uint64_t>(info.signo);
  r.rsi = frame + offsetof(RtSigFrame, info);
  r.rdx = frame + offsetof(RtSigFrame, uc);
  r.rax = 0;
  r.eflags &= kEflagsForHandler;
  r.orig_rax = ~uint64_t{0};
  context_->RegsChanged();
  return true;
}

// A frame that is no good is a fault; what was read of it by then holds, as on Linux: the general registers
// and the mask when the xstate is at fault.
Result<int64_t> Task::SigReturn() {
  abi::Registers& r = regs();
  RtSigFrame f;
  const GuestAddr at(r.rsp - 8);
  KeepRegisters();
  const auto fail = [&]() -> Result<int64_t> {
    r.rax = 0;
    context_->RegsChanged();
    ForceSignal(MakeSigInfo(SIGSEGV, SI_KERNEL));
    return 0;
  };
  const auto take = [&] {
    f.uc.mcontext.To(r);
    context_->RegsChanged();
    SetSignalMask(f.uc.sigmask & ~abi::kUnblockable);
  };
  const auto finish = [&]() -> Result<int64_t> {
    // restore_altstack: errors are ignored, as on Linux.
    const int32_t mode = f.uc.stack.flags & ~abi::kSsAutodisarm;
    if (OnAltStack(alt_stack, r.rsp)) {
      // EPERM
    } else if (mode == SS_DISABLE) {
      alt_stack = abi::StackT{};
      alt_stack.flags = f.uc.stack.flags & abi::kSsAutodisarm;
    } else if ((mode == 0 || mode == SS_ONSTACK) && f.uc.stack.size >= kMinAltStack) {
      alt_stack = f.uc.stack;
    }
    if (const std::optional<uint64_t> selector = BadSelector(f.uc)) {
      constexpr uint64_t kGeneralProtection = 13;
      fault_error_code_ = *selector;
      fault_trap_no_ = kGeneralProtection;
      ForceSignal(MakeSigInfo(SIGSEGV, SI_KERNEL));
    }
    return static_cast<int64_t>(r.rax);
  };
  // The stub has the frame at hand, and loads the xstate from one that is as the kernel makes it.
  if (SignalFrames* const frames = SignalFrames::Current(); frames != nullptr) {
    frames->Forget();
    if (context_->ReadWindow(at, std::as_writable_bytes(std::span(&f, 1))) &&
        frames->LoadXState(GuestAddr(f.uc.mcontext.fpstate))) {
      take();
      return finish();
    }
  }
  // The frame and the xstate behind it with one copy, where they are as the kernel puts them.
  std::vector<std::byte> all(sizeof(RtSigFrame) + kFrameSlack + context_->xstate_size() +
                             sizeof(kFpXstateMagic2));
  const Result<size_t> arrived = mm().CopyInPartial(at, all);
  if (!arrived.ok() || *arrived < sizeof(f)) return fail();
  memcpy(&f, all.data(), sizeof(f));
  take();
  const auto read = [&](uint64_t from, std::span<std::byte> to) {
    const uint64_t skip = from - at.value();
    if (from < at.value() || skip > *arrived || to.size() > *arrived - skip) {
      return mm().CopyIn(GuestAddr(from), to).ok();
    }
    memcpy(to.data(), all.data() + skip, to.size());
    return true;
  };
  return RestoreXState(*context_, f.uc.mcontext.fpstate, read) ? finish() : fail();
}

}  // namespace ringwall
