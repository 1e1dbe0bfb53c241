// The file behind a shared anonymous mapping (shmem_zero_setup): a memfd of the Sentry, which the
// stubs map. Named "/dev/zero (deleted)" in /proc/PID/maps, as on Linux.
#ifndef RINGWALL_SENTRY_MM_SHARED_ANON_H_
#define RINGWALL_SENTRY_MM_SHARED_ANON_H_

#include <cstdint>

#include "fs/vfs/file.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"

namespace ringwall {

// size in whole pages; access beyond is SIGBUS. ENOMEM, ENFILE.
Result<Ref<File>> MakeSharedAnonFile(uint64_t size);

// Whether MakeSharedAnonFile made it.
bool IsSharedAnon(const File& file);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_MM_SHARED_ANON_H_
