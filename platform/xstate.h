// The xsave area in its standard format, as signal frames and PTRACE_GETREGSET have it.
#ifndef RINGWALL_PLATFORM_XSTATE_H_
#define RINGWALL_PLATFORM_XSTATE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "sentry/base/result.h"

namespace ringwall {

// Bytes of an area with every feature that guests may use: all that the host has enabled for user
// code but AMX's tiles, which a program must ask the kernel for. A signal frame of a program that has
// not asked is as small on Linux.
size_t XStateSize();
// Bytes of the host's area with all of its features, as PTRACE_SETREGSET wants it.
size_t HostXStateSize();
// These features, as bits of XCR0.
uint64_t XStateFeatures();

// The state of a fresh program. Preconditions: area.size() == XStateSize().
void InitXState(std::span<std::byte> area);

// EINVAL when the host would refuse to load the area: its size, features that are not enabled,
// reserved bits, the compacted format.
Result<void> CheckXState(std::span<const std::byte> area);

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_XSTATE_H_
