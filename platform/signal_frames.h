// Signal frames that a guest thread's stub writes, which has the guest's memory and xstate at hand.
#ifndef RINGWALL_PLATFORM_SIGNAL_FRAMES_H_
#define RINGWALL_PLATFORM_SIGNAL_FRAMES_H_

#include <cstddef>
#include <span>

#include "sentry/base/guest_addr.h"
#include "sentry/base/result.h"

namespace ringwall {

struct SignalFrameImage {
  GuestAddr at;                     // of the head
  std::span<const std::byte> head;  // struct rt_sigframe of x86-64, without the xstate
  GuestAddr xstate;                 // aligned to 64; with the kernel's notes in and behind it
  // Whether an rt_sigreturn from this frame concerns the guest alone, as long as the head's
  // instruction pointer and alternative stack are still what they were.
  bool returns_alone = false;
};

// Part of a Context, on platforms that can. Not thread-safe.
class SignalFrames {
 public:
  // Of the context that the calling thread ran last; null: the Sentry writes all frames.
  static SignalFrames* Current() { return current_; }

  // Has the stub write a frame before guest code runs: the head, the xstate as it is, after which the
  // xstate is that of a fresh program. Registers are for the caller to set. False when it cannot, and
  // once after a failure: the caller writes the frame.
  virtual bool Queue(const SignalFrameImage& frame) = 0;
  // From Queue until Switch has given it to the stub.
  virtual bool queued() const = 0;
  // The frame that Switch gave to the stub could not be written. Switch has said kInterrupted, and does
  // so until Settle is called: no guest code has run. The xstate is as it was, the registers are those
  // of the handler.
  virtual bool failed() const = 0;
  // Writes a queued frame now: for who looks at memory or state before the next Switch. EFAULT when
  // that fails, or the last one has failed.
  virtual Result<void> Settle() = 0;
  // rt_sigreturn concerns the Sentry from now on.
  virtual void Forget() = 0;
  // Has the stub load the xstate of a frame at `at`, when that is as Queue lays it out. False: nothing
  // has changed, but for an xstate that a fault cut short.
  virtual bool LoadXState(GuestAddr at) = 0;

 protected:
  ~SignalFrames() {
    if (current_ == this) current_ = nullptr;
  }
  void MakeCurrent() { current_ = this; }

 private:
  inline static thread_local SignalFrames* current_ = nullptr;
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_SIGNAL_FRAMES_H_
