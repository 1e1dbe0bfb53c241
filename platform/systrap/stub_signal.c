// Signal frames, which the stub lays out and reads back where the guest's memory and xstate are. All that
// a frame holds is the guest's own: what it forges there, it could load into its registers itself.
#include "platform/systrap/stub_systrap.h"

// The flags that rt_sigreturn takes from a frame (FIX_EFLAGS), but RF; and those that stay, with the
// ones that are always set.
#define FRAME_FLAGS 0x40dd5
#define KEPT_FLAGS 0x204000
#define FIXED_FLAGS 0x202

// struct rt_sigframe.
struct FrameHead {
  uint64_t restorer;
  struct KernelUcontext uc;
  uint8_t info[128];
};
_Static_assert(sizeof(struct FrameHead) == RW_REGION_FRAME_HEAD, "as the Sentry makes it");

// What an xrstor loads the state of a fresh program from: all components in their initial state, but
// MXCSR, which is always loaded. As large as the largest area: some processors fault where a part that is
// not even to be loaded would lie in a page that is not mapped.
static const struct {
  uint16_t fcw, pad[11];
  uint32_t mxcsr, rest[(RW_REGION_XSTATE_SIZE - 28) / 4];
} kInitial __attribute__((aligned(64))) = {0x37f, {0}, 0x1f80, {0}};
_Static_assert(sizeof kInitial == RW_REGION_XSTATE_SIZE, "the largest area");

static long CopyOut(uint64_t to, const void* from, uint64_t n) {
  return stub_copy((void*)to, from, n);
}

// The xstate to `to`, and the initial one into its place. The header's reserved part is not written by
// xsave and must be 0 for xrstor.
static long MoveXState(const struct Region* region, struct KernelUcontext* frame, uint64_t to) {
  const uint64_t mask = region->xstate_mask, size = region->xstate_size;
  if (frame == 0) {
    const uint8_t* const zeros = (const uint8_t*)&kInitial + XSTATE_LEGACY;
    if (CopyOut(to + XSTATE_LEGACY, zeros, XSTATE_HEADER_SIZE) != 0) return -EFAULT;
    return stub_xsave((void*)to, mask) != 0 ? -EFAULT : 0;
  }
  uint8_t* const from = frame->fpstate;
  struct XStateNotes notes;
  if (from == 0) return -EFAULT;
  __builtin_memcpy(&notes, from + XSTATE_NOTES, sizeof notes);
  if (notes.magic1 != XSTATE_MAGIC1 || notes.size < size) return -EFAULT;
  uint64_t present;
  __builtin_memcpy(&present, from + XSTATE_LEGACY, 8);
  present &= mask;
  if (CopyOut(to, from, XSTATE_NOTES) != 0 ||
      CopyOut(to + XSTATE_LEGACY, from + XSTATE_LEGACY, size - XSTATE_LEGACY) != 0 ||
      CopyOut(to + XSTATE_LEGACY, &present, 8) != 0) {
    return -EFAULT;
  }
  return 0;
}

static void StartAfresh(const struct Region* region, struct KernelUcontext* frame) {
  if (frame == 0) {
    stub_xrstor(&kInitial, region->xstate_mask);
    return;
  }
  const uint64_t none = 0;
  __builtin_memcpy(frame->fpstate, &kInitial.fcw, 2);
  __builtin_memcpy(frame->fpstate + XSTATE_MXCSR, &kInitial.mxcsr, 4);
  __builtin_memcpy(frame->fpstate + XSTATE_LEGACY, &none, 8);
}

long stub_write_frame(struct Region* region, struct KernelUcontext* frame) {
  const uint64_t at = region->frame_at, xstate = region->frame_xstate, size = region->xstate_size;
  const struct XStateNotes notes = {XSTATE_MAGIC1, (uint32_t)size + 4, region->xstate_mask,
                                    (uint32_t)size, {0}};
  const uint32_t magic2 = XSTATE_MAGIC2;
  region->return_rip = 0;
  if (!stub_is_user(at, RW_REGION_FRAME_HEAD) || size < XSTATE_LEGACY + XSTATE_HEADER_SIZE ||
      size > RW_REGION_XSTATE_SIZE || !stub_is_user(xstate, size + 4)) {
    return -EFAULT;
  }
  if (CopyOut(at, region->frame_head, RW_REGION_FRAME_HEAD) != 0 ||
      MoveXState(region, frame, xstate) != 0 ||
      CopyOut(xstate + XSTATE_NOTES, &notes, sizeof notes) != 0 ||
      CopyOut(xstate + size, &magic2, sizeof magic2) != 0) {
    return -EFAULT;
  }
  StartAfresh(region, frame);
  const struct FrameHead* const head = (const struct FrameHead*)region->frame_head;
  region->return_resume = region->frame_resume;
  for (int i = 0; i < 3; ++i) region->return_stack[i] = head->uc.stack[i];
  if (region->return_resume != 0) region->return_rip = head->uc.rip;
  return 0;
}

long stub_load_frame_xstate(const struct Region* region, uint64_t at) {
  const uint64_t mask = region->xstate_mask, size = region->xstate_size;
  struct XStateNotes notes;
  uint32_t magic2;
  if (at % 64 != 0 || !stub_is_user(at, size + 4) ||
      stub_copy(&notes, (const void*)(at + XSTATE_NOTES), sizeof notes) != 0 ||
      stub_copy(&magic2, (const void*)(at + size), sizeof magic2) != 0) {
    return -EFAULT;
  }
  if (notes.magic1 != XSTATE_MAGIC1 || notes.extended_size != size + 4 || notes.features != mask ||
      notes.size != size || magic2 != XSTATE_MAGIC2) {
    return -EFAULT;
  }
  return stub_xrstor((const void*)at, mask) != 0 ? -EFAULT : 0;
}

int stub_sigreturn(struct Region* region) {
  const uint64_t kAlwaysOpen = 1UL << 8 | 1UL << 18;  // SIGKILL, SIGSTOP
  const uint64_t at = region->rsp;                     // behind the restorer's address
  const uint64_t return_rip = region->return_rip;
  struct KernelUcontext uc;
  if (return_rip == 0 || region->signals_pending != 0 || !stub_is_user(at, sizeof uc) ||
      stub_copy(&uc, (const void*)at, sizeof uc) != 0) {
    return 0;
  }
  if (uc.cs != USER_CS || uc.ss != USER_SS) return 0;
  if (uc.rip != return_rip || uc.stack[0] != region->return_stack[0] ||
      uc.stack[1] != region->return_stack[1] || uc.stack[2] != region->return_stack[2]) {
    return 0;
  }
  if (stub_load_frame_xstate(region, (uint64_t)uc.fpstate) != 0) return 0;

  region->rax = uc.rax, region->rdi = uc.rdi, region->rsi = uc.rsi, region->rdx = uc.rdx;
  region->r10 = uc.r10, region->r8 = uc.r8, region->r9 = uc.r9;
  region->rip = uc.rip, region->resume = region->return_resume, region->rsp = uc.rsp;
  region->eflags = (region->eflags & KEPT_FLAGS) | (uc.eflags & FRAME_FLAGS) | FIXED_FLAGS;
  region->rbx = uc.rbx, region->rbp = uc.rbp, region->r12 = uc.r12, region->r13 = uc.r13;
  region->r14 = uc.r14, region->r15 = uc.r15, region->rcx = uc.rcx, region->r11 = uc.r11;
  __atomic_store_n(&region->signal_mask, uc.mask & ~kAlwaysOpen, __ATOMIC_SEQ_CST);
  // A signal that came in between may have seen the old mask: let the Sentry look.
  if (__atomic_load_n(&region->signals_pending, __ATOMIC_SEQ_CST) != 0) region->kick = 1;
  return 1;
}
