// Small helpers over files and /proc.
#ifndef RINGWALL_RUNSC_CONTAINER_FILES_H_
#define RINGWALL_RUNSC_CONTAINER_FILES_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "sentry/base/host_error.h"

namespace ringwall {

// Like mkdir -p.
HostResult<void> MakeDirectories(const std::string& path, mode_t mode);

// A reader sees the old text or the new, whole.
HostResult<void> WriteFileAtomically(const std::string& path, const std::string& text);

// When the process started, in ticks since boot; nullopt when it is gone or a zombie.
std::optional<uint64_t> ProcessStartTime(pid_t pid);

// RFC 3339 with nanoseconds.
std::string FormatTime(int64_t ns);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CONTAINER_FILES_H_
