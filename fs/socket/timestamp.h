// When a packet came, as SO_TIMESTAMP, SO_TIMESTAMPNS and SO_TIMESTAMPING tell it.
#ifndef RINGWALL_FS_SOCKET_TIMESTAMP_H_
#define RINGWALL_FS_SOCKET_TIMESTAMP_H_

#include <time.h>

#include "fs/socket/socket.h"

namespace ringwall {

// A moment of CLOCK_MONOTONIC on the wall clock.
timespec WallClock(int64_t monotonic_ns);
// `when` is CLOCK_MONOTONIC. `stamps`: SO_TIMESTAMPING too, for families whose packets have stamps.
void WriteTimestamps(const SocketOptions& options, int64_t when_ns, ControlOut& out,
                     bool stamps = true);
// struct scm_timestamping with a software stamp alone.
void WriteStamps(const SocketOptions& options, int64_t when_ns, ControlOut& out);
// SIOCGSTAMP and SIOCGSTAMPNS, in the forms of old and new programs.
constexpr bool IsStampIoctl(uint32_t cmd) {
  return cmd == 0x8906 || cmd == 0x8907 || cmd == 0x80108906 || cmd == 0x80108907;
}
// SIOCGSTAMP and SIOCGSTAMPNS: when the last packet came, which is `when_ns`. ENOENT for -1; ENOTTY
// for another command.
Result<int64_t> StampIoctl(Task& t, uint32_t cmd, uint64_t arg, int64_t when_ns);

}  // namespace ringwall

#endif  // RINGWALL_FS_SOCKET_TIMESTAMP_H_
