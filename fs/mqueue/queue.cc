// One queue: its messages, who waits for them, who is told.
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <algorithm>

#include "fs/mqueue/mqueue.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr uint64_t kFileSize = 80;      // FILENT_SIZE
constexpr int kSiMesgq = -3;            // SI_MESGQ
constexpr int kWoken = 1, kRemoved = 2;  // NOTIFY_WOKENUP, NOTIFY_REMOVED
constexpr size_t kCookieSize = 32;

MqSocketSend socket_send = nullptr;

}  // namespace

void SetMqSocketSend(MqSocketSend send) { socket_send = send; }

bool CanMqSocketSend(File& socket) { return socket_send != nullptr && socket_send(socket, {}); }

MqInode::MqInode(FileSystem& fs, uint64_t ino, const NewInode& args, const MqLimits& limits,
                 uint64_t bytes, Uid payer)
    : Inode(fs, S_IFREG), limits_(limits), bytes_(bytes), payer_(payer) {
  attr_.ino = ino;
  attr_.mode = S_IFREG | (args.mode & 07777);
  attr_.uid = args.uid;
  attr_.gid = args.gid;
  attr_.size = kFileSize;
  attr_.atime = attr_.mtime = attr_.ctime = CurrentTime();
}

Result<void> MqInode::Send(Message* message, const ThreadGroup& sender, Uid uid) {
  std::optional<Owner> told;
  {
    MutexLock lock(mu_);
    if (count_ >= limits_.max_messages) return Errno(EAGAIN);
    queued_bytes_ += message->text.size();
    const uint32_t priority = message->priority;
    messages_[priority].push_back(std::move(*message));
    count_++;
    attr_.atime = attr_.mtime = attr_.ctime = CurrentTime();
    if (count_ == 1 && waiters_ == 0) {
      told = std::move(owner_);
      owner_.reset();
    }
  }
  queue_.Notify(EPOLLIN | EPOLLRDNORM);
  if (told) Tell(*told, kWoken, sender.pid->In(told->tg->pid_ns()), uid);
  return {};
}

Result<MqInode::Message> MqInode::Receive() {
  Message out;
  {
    MutexLock lock(mu_);
    if (count_ == 0) return Errno(EAGAIN);
    const auto highest = messages_.begin();
    out = std::move(highest->second.front());
    highest->second.pop_front();
    if (highest->second.empty()) messages_.erase(highest);
    count_--;
    queued_bytes_ -= out.text.size();
    attr_.atime = attr_.mtime = attr_.ctime = CurrentTime();
  }
  queue_.Notify(EPOLLOUT | EPOLLWRNORM);
  return out;
}

void MqInode::AddWaiter(int n) {
  MutexLock lock(mu_);
  waiters_ += n;
}

void MqInode::Tell(const Owner& owner, int code, int pid, Uid uid) {
  const MqNotify& n = owner.notify;
  if (n.how == SIGEV_SIGNAL && code == kWoken && n.signo != 0) {
    abi::SigInfo info = MakeSigInfo(n.signo, kSiMesgq);
    info.SetPidUid(pid, uid);
    info.Put<uint64_t>(8, n.value);
    Result<void> ignored = SendSignalToGroup(*owner.tg, info);
    static_cast<void>(ignored);
  }
  if (n.how == SIGEV_THREAD && socket_send != nullptr) {
    std::vector<std::byte> cookie = n.cookie;
    cookie.resize(kCookieSize);
    cookie.back() = static_cast<std::byte>(code);
    socket_send(*n.socket, cookie);
  }
}

Result<void> MqInode::SetNotify(ThreadGroup& owner, std::optional<MqNotify> notify) {
  if (!notify) {
    DropNotify(owner);
    return {};
  }
  MutexLock lock(mu_);
  if (owner_) return Errno(EBUSY);
  owner_ = Owner{Ref<ThreadGroup>(owner), std::move(*notify)};
  attr_.atime = attr_.ctime = CurrentTime();
  return {};
}

void MqInode::DropNotify(const ThreadGroup& owner) {
  std::optional<Owner> gone;
  {
    MutexLock lock(mu_);
    if (!owner_ || owner_->tg.get() != &owner) return;
    gone = std::move(owner_);
    owner_.reset();
  }
  Tell(*gone, kRemoved, 0, 0);
}

int64_t MqInode::count() const {
  MutexLock lock(mu_);
  return count_;
}

std::string MqInode::StatusText() const {
  const Task* reader = Task::Current();
  MutexLock lock(mu_);
  char text[kFileSize];
  const int pid = owner_ && reader != nullptr ? owner_->tg->pid->In(reader->pid_ns()) : 0;
  const bool signal = owner_ && owner_->notify.how == SIGEV_SIGNAL;
  const int n = snprintf(text, sizeof(text), "QSIZE:%-10llu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n",
                         static_cast<unsigned long long>(queued_bytes_),
                         owner_ ? owner_->notify.how : 0, signal ? owner_->notify.signo : 0,
                         pid);
  return std::string(text, std::min(static_cast<size_t>(n), sizeof(text) - 1));
}

EventMask MqInode::Poll(EventMask wanted) const {
  MutexLock lock(mu_);
  EventMask mask = 0;
  if (count_ > 0) mask |= EPOLLIN | EPOLLRDNORM;
  if (count_ < limits_.max_messages) mask |= EPOLLOUT | EPOLLWRNORM;
  return mask & wanted;
}

void MqInode::Unlinked() {
  MutexLock lock(mu_);
  attr_.nlink = 0;
  attr_.ctime = CurrentTime();
}

Result<Attr> MqInode::GetAttr() {
  MutexLock lock(mu_);
  return attr_;
}

Result<void> MqInode::Set(const SetAttr& set) {
  MutexLock lock(mu_);
  if (set.mode) attr_.mode = S_IFREG | (*set.mode & 07777);
  if (set.uid) attr_.uid = *set.uid;
  if (set.gid) attr_.gid = *set.gid;
  if (set.atime) attr_.atime = set.atime->now ? CurrentTime() : set.atime->time;
  if (set.mtime) attr_.mtime = set.mtime->now ? CurrentTime() : set.mtime->time;
  attr_.ctime = CurrentTime();
  return {};
}

Result<Ref<File>> MqInode::Open(const Path& path, uint32_t flags, const Credentials&) {
  return Ref<File>(MakeRef<MqFile>(path, flags, Ref<MqInode>(*this)));
}

Result<size_t> MqFile::Read(IoDst& dst, uint64_t pos, int) {
  const std::string text = queue_->StatusText();
  if (pos >= text.size()) return size_t{0};
  const size_t n = std::min<size_t>(text.size() - pos, dst.remaining());
  return dst.Put(std::as_bytes(std::span(text.data() + pos, n)));
}

// The process that asked to be told closes a descriptor of it: forgotten.
Result<void> MqFile::Flush() {
  if (Task* task = Task::Current()) queue_->DropNotify(task->tg());
  return {};
}

}  // namespace ringwall
