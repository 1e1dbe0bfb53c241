// Reads and writes of fields of a region by the Sentry.
#ifndef RINGWALL_PLATFORM_SYSTRAP_REGION_ACCESS_H_
#define RINGWALL_PLATFORM_SYSTRAP_REGION_ACCESS_H_

namespace ringwall {

// SAFETY: a region is shared with guest code, so every field is read once, whole, into a copy.
template <typename T>
T Load(const T& field) {
  return __atomic_load_n(&field, __ATOMIC_RELAXED);
}
template <typename T>
void Store(T& field, T value) {
  __atomic_store_n(&field, value, __ATOMIC_RELAXED);
}

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_SYSTRAP_REGION_ACCESS_H_
