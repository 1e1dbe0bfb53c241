// Host system-call filters as data: each process kind has one list of what it may do, with the
// reason, and all else ends the process. Built with libseccomp.
#ifndef RINGWALL_RUNSC_FILTER_FILTER_H_
#define RINGWALL_RUNSC_FILTER_FILTER_H_

#include <cstdint>
#include <initializer_list>
#include <span>

#include "sentry/base/host_error.h"

namespace ringwall {

// What one argument has to be. kIn: one of `values`. kMaskedIs: (arg & values[0]) == values[1].
struct FilterArg {
  enum class Op : uint8_t { kNone, kIn, kMaskedIs };
  static constexpr size_t kMaxValues = 24;
  Op op = Op::kNone;
  uint8_t index = 0;
  uint8_t count = 0;
  uint64_t values[kMaxValues] = {};
};

constexpr FilterArg ArgIn(uint8_t index, std::initializer_list<uint64_t> values) {
  FilterArg arg{FilterArg::Op::kIn, index, static_cast<uint8_t>(values.size()), {}};
  size_t i = 0;
  for (const uint64_t value : values) arg.values[i++] = value;
  return arg;
}
constexpr FilterArg ArgIs(uint8_t index, uint64_t value) { return ArgIn(index, {value}); }
// All bits outside `allowed` are clear.
constexpr FilterArg ArgWithin(uint8_t index, uint64_t allowed) {
  FilterArg arg{FilterArg::Op::kMaskedIs, index, 2, {}};
  arg.values[0] = ~allowed;
  return arg;
}

struct FilterRule {
  int number = 0;
  FilterArg args[2];
  const char* reason = "";
  int error = 0;  // not 0: the call is answered with this errno instead of being made
};

constexpr FilterRule Allow(int number, const char* reason) { return {number, {}, reason, 0}; }
constexpr FilterRule Allow(int number, FilterArg a, const char* reason) {
  return {number, {a, {}}, reason, 0};
}
constexpr FilterRule Allow(int number, FilterArg a, FilterArg b, const char* reason) {
  return {number, {a, b}, reason, 0};
}
constexpr FilterRule Refuse(int number, int error, const char* reason) {
  return {number, {}, reason, error};
}

// Installs the filter for the calling thread and all it makes. With `trap`, what is not listed
// raises SIGSYS instead of killing, so that --debug can name the call.
HostResult<void> InstallFilter(std::span<const FilterRule> rules, bool trap);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_FILTER_FILTER_H_
