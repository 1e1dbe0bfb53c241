#include "fs/socket/timestamp.h"

#include <linux/sockios.h>

#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr int kSoTimestampNew = 63, kSoTimestampNsNew = 64, kSoTimestampingNew = 65;
// SOF_TIMESTAMPING_*.
constexpr int32_t kRxSoftware = 1 << 3, kSoftware = 1 << 4, kOptRxFilter = 1 << 17;

}  // namespace

timespec WallClock(int64_t monotonic_ns) {
  timespec wall, mono;
  clock_gettime(CLOCK_REALTIME, &wall);
  clock_gettime(CLOCK_MONOTONIC, &mono);
  const int64_t now = int64_t{mono.tv_sec} * 1'000'000'000 + mono.tv_nsec;
  const int64_t then = int64_t{wall.tv_sec} * 1'000'000'000 + wall.tv_nsec - (now - monotonic_ns);
  return {then / 1'000'000'000, then % 1'000'000'000};
}

void WriteStamps(const SocketOptions& o, int64_t when_ns, ControlOut& out) {
  const timespec at = WallClock(when_ns);
  // Software, unused, hardware.
  out.Put(SOL_SOCKET, o.timestamping_new != 0 ? kSoTimestampingNew : SO_TIMESTAMPING,
          std::array<int64_t, 6>{at.tv_sec, at.tv_nsec, 0, 0, 0, 0});
}

void WriteTimestamps(const SocketOptions& o, int64_t when_ns, ControlOut& out, bool stamps) {
  const int32_t mode = o.timestamp;
  // What others asked for shows too, unless it is filtered: here those others are the socket's own stamps.
  const bool taken = (o.timestamping & kRxSoftware) != 0 || (mode != 0 && (o.timestamping & kOptRxFilter) == 0);
  const bool stamping = stamps && (o.timestamping & kSoftware) != 0 && taken;
  if (mode == 0 && !stamping) return;
  if (mode != 0) {
    const timespec at = WallClock(when_ns);
    const bool fresh = (mode & kTimestampNew) != 0;
    if ((mode & kTimestampMicros) != 0) {
      out.Put(SOL_SOCKET, fresh ? kSoTimestampNew : SO_TIMESTAMP,
              std::array<int64_t, 2>{at.tv_sec, at.tv_nsec / 1000});
    } else {
      out.Put(SOL_SOCKET, fresh ? kSoTimestampNsNew : SO_TIMESTAMPNS,
              std::array<int64_t, 2>{at.tv_sec, at.tv_nsec});
    }
  }
  if (stamping) WriteStamps(o, when_ns, out);
}

Result<int64_t> StampIoctl(Task& t, uint32_t cmd, uint64_t arg, int64_t when_ns) {
  if (!IsStampIoctl(cmd)) return Errno(ENOTTY);
  if (when_ns == -1) return Errno(ENOENT);
  const timespec at = WallClock(when_ns);
  struct TimeAbi {
    int64_t seconds, fraction;
  };
  const bool nanos = (cmd & 0xff) == 7;
  TRY(UserOut<TimeAbi>(GuestAddr(arg))
          .CopyOut(t, TimeAbi{at.tv_sec, nanos ? at.tv_nsec : at.tv_nsec / 1000}));
  return 0;
}

}  // namespace ringwall
