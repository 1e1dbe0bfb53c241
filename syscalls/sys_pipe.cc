// pipe and pipe2 (fs/pipe.c).
#include <fcntl.h>

#include "fs/pipe/pipe.h"
#include "syscalls/handlers.h"

namespace ringwall {

SysResult SysPipe(Task& t, GuestAddr out) { return SysPipe2(t, out, 0); }

SysResult SysPipe2(Task& t, GuestAddr out, int flags) {
  constexpr int kNotificationPipe = O_EXCL;
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT | kNotificationPipe)) != 0) return Errno(EINVAL);
  if ((flags & kNotificationPipe) != 0) return Errno(ENOPKG);
  const uint64_t limit = t.tg().limit(RLIMIT_NOFILE);
  FdReservation reader = TRY(t.fds().Reserve(0, limit));
  FdReservation writer = TRY(t.fds().Reserve(0, limit));
  const int32_t numbers[2] = {reader.fd(), writer.fd()};
  TRY(t.CopyOut(out, std::as_bytes(std::span(numbers))));
  PipePair pair = TRY(MakePipe(static_cast<uint32_t>(flags), t.creds()));
  for (File* end : {pair.reader.get(), pair.writer.get()}) {
    end->set_opener(RefPtr<const Credentials>(&t.creds()));
  }
  const bool cloexec = (flags & O_CLOEXEC) != 0;
  reader.Commit(std::move(pair.reader), cloexec);
  writer.Commit(std::move(pair.writer), cloexec);
  return 0;
}

}  // namespace ringwall
