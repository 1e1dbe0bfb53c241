// The run-time check of the lock order; see lock_class.h.
#include "sentry/base/mutex.h"

#ifdef RINGWALL_LOCKDEP
#include <cstdio>
#include <cstdlib>

namespace ringwall::lockdep {

namespace {
constexpr int kMaxHeld = 32;
thread_local LockClass held[kMaxHeld];
thread_local int depth = 0;
}  // namespace

void BeforeLock(LockClass c, bool same_class_allowed) {
  for (int i = 0; i < depth; i++) {
    if (held[i] < c || (same_class_allowed && held[i] == c)) continue;
    fprintf(stderr, "lock order: taking class %d while holding class %d\n", static_cast<int>(c),
            static_cast<int>(held[i]));
    abort();
  }
  if (depth == kMaxHeld) abort();
  held[depth++] = c;
}

void AfterUnlock(LockClass c) {
  for (int i = depth - 1; i >= 0; i--) {
    if (held[i] != c) continue;
    for (int j = i; j + 1 < depth; j++) held[j] = held[j + 1];
    depth--;
    return;
  }
  abort();
}

}  // namespace ringwall::lockdep
#endif
