#include "sentry/ipc/sysv_msg.h"

#include <sys/epoll.h>
#include <sys/msg.h>

#include "fs/vfs/inode.h"

namespace ringwall {

MsgQueue::MsgQueue(uint64_t max_bytes) {
  figures_.ctime = CurrentTime().sec;
  figures_.max_bytes = max_bytes;
}

Result<void> MsgQueue::Send(const Credentials& creds, Message* message, const Pid& pid) {
  {
    MutexLock lock(mu);
    if (removed) return Errno(EIDRM);
    TRY(CheckIpcAccess(creds, perm, kIpcWrite));
    const uint64_t size = message->text.size();
    // Empty messages count too, or a queue could grow without end.
    if (size + figures_.bytes > figures_.max_bytes || 1 + figures_.count > figures_.max_bytes) {
      return Errno(EAGAIN);
    }
    figures_.bytes += size;
    figures_.count++;
    figures_.last_sender = RefPtr<const Pid>(&pid);
    figures_.stime = CurrentTime().sec;
    messages_.push_back(std::move(*message));
  }
  queue_.Notify(EPOLLIN);
  return {};
}

std::list<MsgQueue::Message>::iterator MsgQueue::FindLocked(const Wanted& wanted) {
  if ((wanted.flags & MSG_COPY) != 0) {
    if (wanted.type < 0 || static_cast<uint64_t>(wanted.type) >= messages_.size()) {
      return messages_.end();
    }
    return std::next(messages_.begin(), wanted.type);
  }
  if (wanted.type == 0) return messages_.begin();
  if (wanted.type > 0) {
    const bool except = (wanted.flags & MSG_EXCEPT) != 0;
    for (auto it = messages_.begin(); it != messages_.end(); ++it) {
      if ((it->type == wanted.type) != except) return it;
    }
    return messages_.end();
  }
  // The first of the lowest type up to |type|.
  int64_t most = wanted.type == INT64_MIN ? INT64_MAX : -wanted.type;
  auto best = messages_.end();
  for (auto it = messages_.begin(); it != messages_.end(); ++it) {
    if (it->type > most || (best != messages_.end() && it->type >= best->type)) continue;
    best = it;
  }
  return best;
}

Result<MsgQueue::Message> MsgQueue::Receive(const Credentials& creds, const Wanted& wanted,
                                            const Pid& pid) {
  Message out;
  {
    MutexLock lock(mu);
    if (removed) return Errno(EIDRM);
    TRY(CheckIpcAccess(creds, perm, kIpcRead));
    const auto it = FindLocked(wanted);
    if (it == messages_.end()) return Errno(EAGAIN);
    if (it->text.size() > wanted.room && (wanted.flags & MSG_NOERROR) == 0) return Errno(E2BIG);
    if ((wanted.flags & MSG_COPY) != 0) {
      if (it->text.size() > wanted.room) return Errno(EINVAL);  // a copy is whole
      out = *it;
      return out;
    }
    out = std::move(*it);
    messages_.erase(it);
    figures_.bytes -= out.text.size();
    figures_.count--;
    figures_.last_receiver = RefPtr<const Pid>(&pid);
    figures_.rtime = CurrentTime().sec;
  }
  queue_.Notify(EPOLLOUT);
  return out;
}

void MsgQueue::Remove() {
  std::list<Message> gone;
  {
    MutexLock lock(mu);
    removed = true;
    gone.swap(messages_);
  }
  queue_.Notify(EPOLLIN | EPOLLOUT);
}

MsgQueue::Figures MsgQueue::FiguresLocked() const { return figures_; }

void MsgQueue::SetMaxBytesLocked(uint64_t max_bytes) {
  figures_.max_bytes = max_bytes;
  figures_.ctime = CurrentTime().sec;
}

}  // namespace ringwall
