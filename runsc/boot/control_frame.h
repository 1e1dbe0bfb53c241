// Frames of the control channel, for both of its ends.
#ifndef RINGWALL_RUNSC_BOOT_CONTROL_FRAME_H_
#define RINGWALL_RUNSC_BOOT_CONTROL_FRAME_H_

#include <cstdint>
#include <string>
#include <vector>

#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

inline constexpr uint32_t kControlFrameMax = 8 << 20;  // argv and envp of an exec
inline constexpr size_t kControlFdsMax = 128;

Result<void> SendFrame(int socket, const std::string& bytes, const std::vector<int>& fds);
// ECONNRESET at the end of the stream, EMSGSIZE when the frame is too large.
Result<std::string> ReceiveFrame(int socket, std::vector<UniqueFd>* fds);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_CONTROL_FRAME_H_
