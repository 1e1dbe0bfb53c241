// libFuzzer: what a guest writes to /proc/PID/uid_map. No range of a map that is taken is empty, wraps
// or overlaps another.
#include "sentry/auth/user_namespace.h"
#include "sentry/base/check.h"

using namespace ringwall;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Result<IdMap> map = ParseIdMap({reinterpret_cast<const char*>(data), size});
  if (!map.ok()) return 0;
  const auto apart = [](uint64_t a, uint64_t b, uint64_t a_count, uint64_t b_count) {
    return a + a_count <= b || b + b_count <= a;
  };
  for (const IdExtent& e : *map) {
    RW_CHECK(e.count != 0 && e.first + uint64_t{e.count} <= kInvalidId && e.lower + uint64_t{e.count} <= kInvalidId);
    for (const IdExtent& o : *map) {
      if (&e == &o) continue;
      RW_CHECK(apart(e.first, o.first, e.count, o.count) && apart(e.lower, o.lower, e.count, o.count));
    }
  }
  return 0;
}
