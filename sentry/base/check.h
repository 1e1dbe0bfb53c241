// RW_CHECK(cond): an invariant of our own code; aborts the process with the place when it does
// not hold. Never for guest input: that gets an errno. RW_DCHECK: debug builds only.
#ifndef RINGWALL_SENTRY_BASE_CHECK_H_
#define RINGWALL_SENTRY_BASE_CHECK_H_

namespace ringwall {

[[noreturn]] void CheckFailed(const char* file, int line, const char* what);

}  // namespace ringwall

#define RW_CHECK(cond)                                                       \
  (__builtin_expect(static_cast<bool>(cond), 1)                              \
       ? static_cast<void>(0)                                                \
       : ::ringwall::CheckFailed(__FILE__, __LINE__, #cond))

#ifdef NDEBUG
#define RW_DCHECK(cond) static_cast<void>(sizeof(!(cond)))
#else
#define RW_DCHECK(cond) RW_CHECK(cond)
#endif

#endif  // RINGWALL_SENTRY_BASE_CHECK_H_
