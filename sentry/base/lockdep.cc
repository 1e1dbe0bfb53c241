// The run-time check of the lock order; see lock_class.h.
#include "sentry/base/mutex.h"

#ifdef RINGWALL_LOCKDEP
#include <cstdint>
#include <cstdlib>

#include "sentry/base/log.h"

extern "C" const char __executable_start;

namespace ringwall::lockdep {

namespace {

struct Held {
  const void* mutex;
  LockClass lock_class;
  Hold hold;
};

constexpr int kMaxHeld = 32;
thread_local Held held[kMaxHeld];
thread_local int depth = 0;

// Names what was wrong and the callers' addresses in the binary, for addr2line: in the Sentry nothing
// could look up their names.
[[noreturn]] void Breach(const char* what, int a, int b) {
  LogMessage(LogLevel::kError, what, a, b);
  constexpr int kMostFrames = 16;
  constexpr uintptr_t kMostOfAFrame = 1 << 20;
  const uintptr_t* frame = static_cast<const uintptr_t*>(__builtin_frame_address(0));
  for (int i = 0; i < kMostFrames; i++) {
    LogMessage(LogLevel::kError, "  %#lx", frame[1] - reinterpret_cast<uintptr_t>(&__executable_start));
    if (frame[0] - reinterpret_cast<uintptr_t>(frame) > kMostOfAFrame) break;
    frame = reinterpret_cast<const uintptr_t*>(frame[0]);
  }
  abort();
}

}  // namespace

void BeforeLock(const void* mutex, LockClass c, Hold hold, bool same_class_allowed) {
  for (int i = 0; i < depth; i++) {
    if (held[i].mutex == mutex) Breach("lock order: taking a lock of class %d twice", static_cast<int>(c), 0);
    if (held[i].lock_class < c || (same_class_allowed && held[i].lock_class == c)) continue;
    Breach("lock order: taking class %d while holding class %d", static_cast<int>(c),
           static_cast<int>(held[i].lock_class));
  }
  if (depth == kMaxHeld) Breach("lock order: %d locks held at once", depth, 0);
  held[depth++] = {mutex, c, hold};
}

void AfterUnlock(const void* mutex) {
  for (int i = depth - 1; i >= 0; i--) {
    if (held[i].mutex != mutex) continue;
    for (int j = i; j + 1 < depth; j++) held[j] = held[j + 1];
    depth--;
    return;
  }
  Breach("lock order: giving back a lock that is not held (of %d)", depth, 0);
}

void AssertHeld(const void* mutex) {
  for (int i = 0; i < depth; i++) {
    if (held[i].mutex == mutex && held[i].hold == Hold::kExclusive) return;
  }
  Breach("lock order: a lock that must be held is not (of %d)", depth, 0);
}

void BeforeWait(const void* mutex) {
  AssertHeld(mutex);
  if (held[depth - 1].mutex == mutex) return;
  Breach("lock order: waiting with a lock of class %d that was taken inside",
         static_cast<int>(held[depth - 1].lock_class), 0);
}

}  // namespace ringwall::lockdep
#endif
