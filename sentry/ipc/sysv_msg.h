// System V message queues (ipc/msg.c).
#ifndef RINGWALL_SENTRY_IPC_SYSV_MSG_H_
#define RINGWALL_SENTRY_IPC_SYSV_MSG_H_

#include <list>
#include <vector>

#include "sentry/base/wait_queue.h"
#include "sentry/ipc/ipc_ids.h"
#include "sentry/kernel/pid_namespace.h"

namespace ringwall {

class MsgQueue final : public IpcObject {
 public:
  explicit MsgQueue(uint64_t max_bytes);

  struct Message {
    int64_t type = 0;
    std::vector<std::byte> text;
  };
  // Which message msgrcv wants.
  struct Wanted {
    int64_t type = 0;
    size_t room = 0;   // of the caller's buffer
    int flags = 0;     // MSG_NOERROR, MSG_EXCEPT, MSG_COPY
  };

  // EAGAIN when it is full. EACCES, EIDRM. Takes *message only when it goes in.
  Result<void> Send(const Credentials& creds, Message* message, const Pid& pid);
  // EAGAIN when no such message is there. E2BIG, EACCES, EIDRM.
  Result<Message> Receive(const Credentials& creds, const Wanted& wanted,
                          const Pid& pid);
  WaitQueue& queue() { return queue_; }
  // IPC_RMID.
  void Remove();

  struct Figures {
    int64_t stime = 0, rtime = 0, ctime = 0;
    uint64_t bytes = 0, count = 0, max_bytes = 0;
    RefPtr<const Pid> last_sender, last_receiver;
  };
  Figures FiguresLocked() const REQUIRES(mu);
  // IPC_SET; the caller notifies queue() afterwards.
  void SetMaxBytesLocked(uint64_t max_bytes) REQUIRES(mu);

 private:
  std::list<Message>::iterator FindLocked(const Wanted& wanted) REQUIRES(mu);

  std::list<Message> messages_ GUARDED_BY(mu);
  Figures figures_ GUARDED_BY(mu);
  WaitQueue queue_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_IPC_SYSV_MSG_H_
