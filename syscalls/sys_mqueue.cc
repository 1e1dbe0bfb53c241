// POSIX message queues (ipc/mqueue.c).
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

#include "fs/mqueue/mqueue.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

// struct mq_attr.
struct MqAttrAbi {
  int64_t flags, max_messages, message_size, count, reserved[4];
};
static_assert(sizeof(MqAttrAbi) == 64);

// struct sigevent, as far as it is used here.
struct SigeventAbi {
  uint64_t value;
  int32_t signo, notify;
  uint8_t rest[48];
};
static_assert(sizeof(SigeventAbi) == 64);

struct TimespecAbi {
  int64_t sec, nsec;
};

// An absolute time of CLOCK_REALTIME as one of CLOCK_MONOTONIC. EFAULT, EINVAL.
Result<int64_t> Deadline(Task& t, GuestAddr addr) {
  if (addr.IsNull()) return kNoDeadline;
  const TimespecAbi at = TRY(UserIn<TimespecAbi>(addr).CopyIn(t));
  constexpr int64_t kSecond = 1'000'000'000;
  if (at.sec < 0 || at.nsec < 0 || at.nsec >= kSecond) return Errno(EINVAL);
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t seconds = at.sec - int64_t{now.tv_sec};
  if (seconds > INT64_MAX / kSecond / 2) return kNoDeadline;
  if (seconds < 0) return 1;
  const int64_t left = seconds * kSecond + at.nsec - int64_t{now.tv_nsec};
  return left <= 0 ? 1 : MonotonicNow() + left;
}

Result<Ref<File>> GetQueue(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if (MqFile::From(*file) == nullptr) return Errno(EBADF);
  return file;
}

MqInode& QueueOf(File& file) { return MqFile::From(file)->mq(); }

// A queue's name: one component. ENOENT, ENAMETOOLONG, EACCES.
Result<std::string> CopyName(Task& t, UserPath path) {
  std::string name = TRY(path.CopyIn(t));
  if (name == "." || name == ".." || name.find('/') != std::string::npos) return Errno(EACCES);
  if (name.size() > 255) return Errno(ENAMETOOLONG);
  return name;
}

Result<Ref<MqInode>> OpenOrMake(Task& t, MqDirectory& dir, const std::string& name, int flags,
                                uint32_t mode, const MqLimits* limits) {
  for (;;) {
    Result<Ref<MqInode>> there = dir.Find(name);
    if (there.ok()) {
      if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return Errno(EEXIST);
      const int access = flags & O_ACCMODE;
      if (access == O_ACCMODE) return Errno(EINVAL);
      const uint32_t wanted = access == O_RDONLY   ? kMayRead
                              : access == O_WRONLY ? kMayWrite
                                                   : kMayRead | kMayWrite;
      const Attr attr = TRY((*there)->GetAttr());
      if (!MayAccess(t.creds(), attr.mode, attr.uid, attr.gid, wanted)) return Errno(EACCES);
      return there;
    }
    if ((flags & O_CREAT) == 0) return Errno(ENOENT);
    NewInode args;
    args.mode = S_IFREG | (mode & 07777 & ~t.fs().umask());
    args.uid = t.creds().fsuid;
    args.gid = t.creds().fsgid;
    Result<Ref<MqInode>> made =
        dir.Make(name, args, t.creds(), limits, t.tg().limit(RLIMIT_MSGQUEUE));
    if (made.ok() || !made.error().Is(EEXIST)) return made;
  }
}

}  // namespace

SysResult SysMqOpen(Task& t, UserPath path, int flags, uint32_t mode, GuestAddr attr_addr) {
  MqLimits limits;
  if (!attr_addr.IsNull()) {
    const MqAttrAbi attr = TRY(UserIn<MqAttrAbi>(attr_addr).CopyIn(t));
    limits = {attr.max_messages, attr.message_size};
  }
  const std::string name = TRY(CopyName(t, path));
  FdReservation slot = TRY(t.fds().Reserve(0, t.tg().limit(RLIMIT_NOFILE)));
  Ref<MqFileSystem> fs = MqFileSystem::Of(t.ipc());
  Ref<MqInode> queue = TRY(OpenOrMake(t, fs->directory(), name, flags, mode,
                                      attr_addr.IsNull() ? nullptr : &limits));
  const uint32_t kept = static_cast<uint32_t>(flags) & (O_ACCMODE | O_NONBLOCK);
  const Path where = AnonymousPath(queue, "/" + name);
  const int fd = slot.fd();
  slot.Commit(MakeRef<MqFile>(where, kept, std::move(queue)), true);
  return fd;
}

SysResult SysMqUnlink(Task& t, UserPath path) {
  const std::string name = TRY(CopyName(t, path));
  return Zero(MqFileSystem::Of(t.ipc())->directory().Remove(name, t.creds()));
}

SysResult SysMqTimedsend(Task& t, int fd, GuestAddr text, uint64_t size, uint32_t priority,
                         GuestAddr timeout) {
  const int64_t deadline = TRY(Deadline(t, timeout));
  if (priority >= kMqPrioMax) return Errno(EINVAL);
  Ref<File> file = TRY(GetQueue(t, fd));
  if (!file->writable()) return Errno(EBADF);
  MqInode& queue = QueueOf(*file);
  if (size > static_cast<uint64_t>(queue.limits().message_size)) return Errno(EMSGSIZE);
  MqInode::Message message;
  message.priority = priority;
  message.text.resize(size);
  if (size != 0) {
    TRY(t.CopyIn(text, message.text));
  }
  return Zero(t.Retry(file->nonblocking() ? nullptr : &queue.queue(), EPOLLOUT, deadline, [&] {
    return queue.Send(&message, t.tg(), ShowUid(t, t.creds().ruid));
  }));
}

SysResult SysMqTimedreceive(Task& t, int fd, GuestAddr text, uint64_t room, GuestAddr priority,
                            GuestAddr timeout) {
  const int64_t deadline = TRY(Deadline(t, timeout));
  Ref<File> file = TRY(GetQueue(t, fd));
  if (!file->readable()) return Errno(EBADF);
  MqInode& queue = QueueOf(*file);
  if (room < static_cast<uint64_t>(queue.limits().message_size)) return Errno(EMSGSIZE);
  Result<MqInode::Message> got = queue.Receive();
  if (!got.ok() && !file->nonblocking()) {
    queue.AddWaiter(1);
    got = t.Retry(&queue.queue(), EPOLLIN, deadline, [&] { return queue.Receive(); });
    queue.AddWaiter(-1);
  }
  if (!got.ok()) return got.error();
  if (!priority.IsNull()) TRY(UserOut<uint32_t>(priority).CopyOut(t, got->priority));
  if (!got->text.empty()) TRY(t.CopyOut(text, got->text));
  return static_cast<int64_t>(got->text.size());
}

SysResult SysMqNotify(Task& t, int fd, GuestAddr event_addr) {
  std::optional<MqNotify> notify;
  if (!event_addr.IsNull()) {
    const SigeventAbi event = TRY(UserIn<SigeventAbi>(event_addr).CopyIn(t));
    if (event.notify != SIGEV_NONE && event.notify != SIGEV_SIGNAL &&
        event.notify != SIGEV_THREAD) {
      return Errno(EINVAL);
    }
    if (event.notify == SIGEV_SIGNAL && (event.signo < 0 || event.signo > abi::kSigMax)) {
      return Errno(EINVAL);
    }
    notify.emplace();
    notify->how = event.notify;
    notify->signo = event.signo;
    notify->value = event.value;
    if (event.notify == SIGEV_THREAD) {
      notify->cookie.resize(32);
      TRY(t.CopyIn(GuestAddr(event.value), notify->cookie));
      notify->socket = TRY(t.GetFile(event.signo));
      if (notify->socket->inode().type() != S_IFSOCK) return Errno(ENOTSOCK);
      if (!CanMqSocketSend(*notify->socket)) return Errno(EINVAL);
    }
  }
  Ref<File> file = TRY(GetQueue(t, fd));
  return Zero(QueueOf(*file).SetNotify(t.tg(), std::move(notify)));
}

SysResult SysMqGetsetattr(Task& t, int fd, GuestAddr fresh, GuestAddr old) {
  MqAttrAbi set = {};
  if (!fresh.IsNull()) {
    set = TRY(UserIn<MqAttrAbi>(fresh).CopyIn(t));
    if ((set.flags & ~int64_t{O_NONBLOCK}) != 0) return Errno(EINVAL);
  }
  Ref<File> file = TRY(GetQueue(t, fd));
  MqInode& queue = QueueOf(*file);
  MqAttrAbi now = {};
  now.flags = file->flags() & O_NONBLOCK;
  now.max_messages = queue.limits().max_messages;
  now.message_size = queue.limits().message_size;
  now.count = queue.count();
  if (!fresh.IsNull()) {
    const uint32_t flags = file->flags() & ~uint32_t{O_NONBLOCK};
    TRY(file->SetFlags(flags | static_cast<uint32_t>(set.flags)));
  }
  if (!old.IsNull()) TRY(UserOut<MqAttrAbi>(old).CopyOut(t, now));
  return 0;
}

}  // namespace ringwall
