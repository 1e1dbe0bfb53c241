// System V message queues (ipc/msg.c).
#include <sys/epoll.h>
#include <sys/msg.h>

#include "sentry/ipc/ipc_namespace.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

constexpr int kMsgStatAny = 13;
constexpr int kIpc64 = 0x100;

// struct msqid64_ds.
struct MsqidAbi {
  IpcPermAbi perm;
  int64_t stime, rtime, ctime;
  uint64_t cbytes, qnum, qbytes;
  int32_t lspid, lrpid;
  uint64_t unused4, unused5;
};
static_assert(sizeof(MsqidAbi) == 120);

// struct msginfo.
struct MsgInfoAbi {
  int32_t msgpool, msgmap, msgmax, msgmnb, msgmni, msgssz, msgtql;
  uint16_t msgseg, pad;
};

SysResult Info(Task& t, int cmd, GuestAddr out) {
  IpcNamespace& ns = t.ipc();
  MsgInfoAbi info = {};
  info.msgmni = ns.msg_queues;
  info.msgmax = ns.msg_max;
  info.msgmnb = ns.msg_queue_bytes;
  constexpr int kSegmentSize = 16;
  info.msgssz = kSegmentSize;
  info.msgseg = 0xffff;
  const int highest = ns.messages.max_index();
  if (cmd == MSG_INFO) {
    info.msgpool = ns.messages.count();
    for (const Ref<MsgQueue>& q : ns.messages.List()) {
      MutexLock lock(q->mu);
      const MsgQueue::Figures f = q->FiguresLocked();
      info.msgmap += static_cast<int32_t>(f.count);
      info.msgtql += static_cast<int32_t>(f.bytes);
    }
  } else {
    info.msgmap = info.msgmnb;
    info.msgpool = static_cast<int32_t>(int64_t{info.msgmni} * info.msgmnb / 1024);
    info.msgtql = info.msgmnb;
  }
  TRY(UserOut<MsgInfoAbi>(out).CopyOut(t, info));
  return highest;
}

SysResult Stat(Task& t, int id, int cmd, GuestAddr out) {
  IpcNamespace& ns = t.ipc();
  Ref<MsgQueue> q = TRY(cmd == IPC_STAT ? ns.messages.Find(id) : ns.messages.FindIndex(id));
  MsqidAbi abi = {};
  int found = 0;
  {
    MutexLock lock(q->mu);
    if (cmd != kMsgStatAny) TRY(CheckIpcAccess(t.creds(), q->perm, kIpcRead));
    if (q->removed) return Errno(EIDRM);
    const MsgQueue::Figures f = q->FiguresLocked();
    abi.perm = ToAbi(q->perm, t.creds().user_ns());
    abi.stime = f.stime;
    abi.rtime = f.rtime;
    abi.ctime = f.ctime;
    abi.cbytes = f.bytes;
    abi.qnum = f.count;
    abi.qbytes = f.max_bytes;
    abi.lspid = NumberOf(t, f.last_sender);
    abi.lrpid = NumberOf(t, f.last_receiver);
    found = q->perm.id;
  }
  TRY(UserOut<MsqidAbi>(out).CopyOut(t, abi));
  return cmd == IPC_STAT ? 0 : found;
}

SysResult Set(Task& t, int id, GuestAddr in) {
  const MsqidAbi abi = TRY(UserIn<MsqidAbi>(in).CopyIn(t));
  Ref<MsgQueue> q = TRY(t.ipc().messages.Find(id));
  {
    MutexLock lock(q->mu);
    TRY(CheckIpcOwner(t.creds(), q->perm));
    if (q->removed) return Errno(EIDRM);
    if (abi.qbytes > static_cast<uint64_t>(t.ipc().msg_queue_bytes.load()) &&
        !t.creds().Has(Capability::kSysResource)) {
      return Errno(EPERM);
    }
    TRY(SetIpcOwner(&q->perm, abi.perm, t.creds().user_ns()));
    q->SetMaxBytesLocked(abi.qbytes);
  }
  // Who waits may go on, or has lost the right to.
  q->queue().Notify(EPOLLIN | EPOLLOUT);
  return 0;
}

SysResult Remove(Task& t, int id) {
  Ref<MsgQueue> q = TRY(t.ipc().messages.Find(id));
  IpcPerm perm;
  {
    MutexLock lock(q->mu);
    TRY(CheckIpcOwner(t.creds(), q->perm));
    if (q->removed) return Errno(EIDRM);
    perm = q->perm;
  }
  t.ipc().messages.Erase(*q, perm);
  q->Remove();
  return 0;
}

}  // namespace

SysResult SysMsgget(Task& t, int key, int flags) {
  IpcNamespace& ns = t.ipc();
  const int id = TRY(ns.messages.Get(
      ns.user_ns(), t.creds(), key, flags, ns.msg_queues,
      [&]() -> Result<Ref<MsgQueue>> {
        return MakeRef<MsgQueue>(static_cast<uint64_t>(ns.msg_queue_bytes.load()));
      },
      [](MsgQueue&) -> Result<void> { return {}; }));
  return id;
}

SysResult SysMsgsnd(Task& t, int id, GuestAddr addr, uint64_t size, int flags) {
  MsgQueue::Message message;
  message.type = TRY(UserIn<int64_t>(addr).CopyIn(t));
  if (size > static_cast<uint64_t>(t.ipc().msg_max.load()) || id < 0) return Errno(EINVAL);
  if (message.type < 1) return Errno(EINVAL);
  message.text.resize(size);
  if (size != 0) {
    TRY(t.CopyIn(addr + sizeof(int64_t), message.text));
  }
  Ref<MsgQueue> q = TRY(t.ipc().messages.Find(id));
  Result<void> sent =
      t.Retry((flags & IPC_NOWAIT) != 0 ? nullptr : &q->queue(), EPOLLOUT, kNoDeadline,
              [&] { return q->Send(t.creds(), &message, *t.tg().pid); });
  if (!sent.ok() && sent.error().Is(kErestartSys)) return Errno(kErestartNoHand);
  return Zero(std::move(sent));
}

SysResult SysMsgrcv(Task& t, int id, GuestAddr addr, uint64_t size, int64_t type, int flags) {
  if (id < 0 || static_cast<int64_t>(size) < 0) return Errno(EINVAL);
  if ((flags & MSG_COPY) != 0 && ((flags & MSG_EXCEPT) != 0 || (flags & IPC_NOWAIT) == 0)) {
    return Errno(EINVAL);
  }
  if ((flags & MSG_COPY) != 0) {
    // Linux fills the message that will be the copy with what the buffer holds, and so needs to read it.
    std::vector<std::byte> room(std::min<uint64_t>(size, static_cast<uint64_t>(t.ipc().msg_max.load())));
    TRY(t.CopyIn(addr + 8, room));
  }
  Ref<MsgQueue> q = TRY(t.ipc().messages.Find(id));
  const MsgQueue::Wanted wanted{.type = type, .room = size, .flags = flags};
  const bool wait = (flags & IPC_NOWAIT) == 0;
  Result<MsgQueue::Message> got =
      t.Retry(wait ? &q->queue() : nullptr, EPOLLIN, kNoDeadline,
              [&] { return q->Receive(t.creds(), wanted, *t.tg().pid); });
  if (!got.ok()) {
    if (got.error().Is(EAGAIN)) return Errno(ENOMSG);
    if (got.error().Is(kErestartSys)) return Errno(kErestartNoHand);
    return got.error();
  }
  TRY(UserOut<int64_t>(addr).CopyOut(t, got->type));
  const size_t n = std::min<size_t>(size, got->text.size());
  if (n != 0) {
    TRY(t.CopyOut(addr + sizeof(int64_t), std::span<const std::byte>(got->text).first(n)));
  }
  return static_cast<int64_t>(n);
}

SysResult SysMsgctl(Task& t, int id, int cmd, GuestAddr buf) {
  cmd &= ~kIpc64;
  if (id < 0 || cmd < 0) return Errno(EINVAL);
  switch (cmd) {
    case IPC_INFO:
    case MSG_INFO:
      return Info(t, cmd, buf);
    case IPC_STAT:
    case MSG_STAT:
    case kMsgStatAny:
      return Stat(t, id, cmd, buf);
    case IPC_SET:
      return Set(t, id, buf);
    case IPC_RMID:
      return Remove(t, id);
    default:
      return Errno(EINVAL);
  }
}

}  // namespace ringwall
