// /proc/sysvipc and the limits of System V IPC in /proc/sys/kernel, of the reader's ipc namespace.
#include <charconv>

#include "fs/proc/internal.h"
#include "sentry/ipc/ipc_namespace.h"

namespace ringwall::proc {

namespace {

using Ull = unsigned long long;

Result<IpcNamespace*> Current() {
  Task* task = Task::Current();
  if (task == nullptr) return Errno(ESRCH);
  return &task->ipc();
}

// As the reader's namespaces show it.
IpcPermAbi Seen(const IpcPerm& perm) {
  return ToAbi(perm, Task::Current()->creds().user_ns());
}
unsigned Number(const RefPtr<const Pid>& pid) {
  return pid ? static_cast<unsigned>(pid->In(Task::Current()->pid_ns())) : 0;
}

Result<std::string> ShmText() {
  IpcNamespace* ns = TRY(Current());
  std::string out =
      "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid"
      "      atime      dtime      ctime                   rss                  swap\n";
  for (const Ref<ShmSegment>& s : ns->segments.List()) {
    MutexLock lock(s->mu);
    const IpcPermAbi p = Seen(s->perm);
    const ShmSegment::Figures f = s->FiguresLocked();
    AppendFormat(&out,
                 "%10d %10d  %4o %21llu %5u %5u  %5llu %5u %5u %5u %5u %10llu %10llu %10llu %21llu"
                 " %21llu\n",
                 p.key, s->perm.id, p.mode, Ull{s->size()}, Number(f.creator),
                 Number(f.last), Ull{f.attaches}, p.uid, p.gid, p.cuid, p.cgid,
                 static_cast<Ull>(f.atime), static_cast<Ull>(f.dtime), static_cast<Ull>(f.ctime),
                 Ull{s->resident()}, Ull{0});
  }
  return out;
}

Result<std::string> SemText() {
  IpcNamespace* ns = TRY(Current());
  std::string out =
      "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
  for (const Ref<SemSet>& s : ns->sems.List()) {
    MutexLock lock(s->mu);
    const IpcPermAbi p = Seen(s->perm);
    AppendFormat(&out, "%10d %10d  %4o %10llu %5u %5u %5u %5u %10llu %10llu\n", p.key, s->perm.id,
                 p.mode, Ull{s->size()}, p.uid, p.gid, p.cuid, p.cgid,
                 static_cast<Ull>(s->otime_locked()), static_cast<Ull>(s->ctime_locked()));
  }
  return out;
}

Result<std::string> MsgText() {
  IpcNamespace* ns = TRY(Current());
  std::string out =
      "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid"
      "      stime      rtime      ctime\n";
  for (const Ref<MsgQueue>& q : ns->messages.List()) {
    MutexLock lock(q->mu);
    const IpcPermAbi p = Seen(q->perm);
    const MsgQueue::Figures f = q->FiguresLocked();
    AppendFormat(&out,
                 "%10d %10d  %4o  %10llu %10llu %5u %5u %5u %5u %5u %5u %10llu %10llu %10llu\n",
                 p.key, q->perm.id, p.mode, Ull{f.bytes}, Ull{f.count},
                 Number(f.last_sender), Number(f.last_receiver),
                 p.uid, p.gid, p.cuid, p.cgid, static_cast<Ull>(f.stime),
                 static_cast<Ull>(f.rtime), static_cast<Ull>(f.ctime));
  }
  return out;
}

// Numbers separated by blanks. EINVAL.
Result<std::vector<uint64_t>> Numbers(std::string_view text) {
  std::vector<uint64_t> out;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (;;) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n')) at++;
    if (at == end) return out;
    uint64_t value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc()) return Errno(EINVAL);
    if (next < end && *next != ' ' && *next != '\t' && *next != '\n') return Errno(EINVAL);
    out.push_back(value);
    at = next;
  }
}

Result<void> MayWrite() {
  const Task* task = Task::Current();
  if (task == nullptr || !task->creds().HasIn(task->ipc().user_ns(), Capability::kSysAdmin)) {
    return Errno(EPERM);
  }
  return {};
}

template <typename T>
void AddLimit(StaticDirectory& dir, const char* name, std::atomic<T> IpcNamespace::*field,
              uint64_t most, uint64_t least = 0) {
  const auto read = [field]() -> Result<std::string> {
    IpcNamespace* ns = TRY(Current());
    return Format("%llu\n", static_cast<Ull>((ns->*field).load()));
  };
  const auto write = [field, most, least](std::string_view text) -> Result<void> {
    TRY(MayWrite());
    IpcNamespace* ns = TRY(Current());
    const std::vector<uint64_t> n = TRY(Numbers(text));
    if (n.empty()) return {};
    if (n[0] > most || n[0] < least) return Errno(EINVAL);
    (ns->*field).store(static_cast<T>(n[0]));
    return {};
  };
  dir.AddFile(name, read, 0644, write);
}

template <typename T>
void AddNextId(StaticDirectory& dir, const char* name, IpcIds<T> IpcNamespace::*ids) {
  const auto read = [ids]() -> Result<std::string> {
    IpcNamespace* ns = TRY(Current());
    return Format("%d\n", (ns->*ids).next_id.load());
  };
  const auto write = [ids](std::string_view text) -> Result<void> {
    TRY(MayWrite());
    IpcNamespace* ns = TRY(Current());
    const std::vector<uint64_t> n = TRY(Numbers(text));
    if (n.size() != 1 || n[0] > INT32_MAX) return Errno(EINVAL);
    (ns->*ids).next_id.store(static_cast<int>(n[0]));
    return {};
  };
  dir.AddFile(name, read, 0644, write);
}

Result<std::string> ReadSem() {
  IpcNamespace* ns = TRY(Current());
  return Format("%d\t%d\t%d\t%d\n", ns->sem_per_set.load(), ns->sem_total.load(),
                ns->sem_ops.load(), ns->sem_sets.load());
}

Result<void> WriteSem(std::string_view text) {
  TRY(MayWrite());
  IpcNamespace* ns = TRY(Current());
  const std::vector<uint64_t> n = TRY(Numbers(text));
  for (const uint64_t v : n) {
    if (v > INT32_MAX) return Errno(EINVAL);
  }
  if (n.size() > 3 && n[3] > kIpcMaxObjects) return Errno(ERANGE);
  // A larger vector of operations would be memory of the Sentry.
  constexpr uint64_t kMostOps = 1 << 16;
  if (n.size() > 2 && n[2] > kMostOps) return Errno(EINVAL);
  if (!n.empty()) ns->sem_per_set.store(static_cast<int>(n[0]));
  if (n.size() > 1) ns->sem_total.store(static_cast<int>(n[1]));
  if (n.size() > 2) ns->sem_ops.store(static_cast<int>(n[2]));
  if (n.size() > 3) ns->sem_sets.store(static_cast<int>(n[3]));
  return {};
}

}  // namespace

void AddIpcFiles(StaticDirectory& root) {
  Ref<StaticDirectory> dir = root.AddDirectory("sysvipc");
  dir->AddFile("shm", ShmText);
  dir->AddFile("sem", SemText);
  dir->AddFile("msg", MsgText);
}

void AddMqueueSysctls(StaticDirectory& fs) {
  Ref<StaticDirectory> dir = fs.AddDirectory("mqueue");
  AddLimit(*dir, "queues_max", &IpcNamespace::mq_queues, INT32_MAX);
  AddLimit(*dir, "msg_max", &IpcNamespace::mq_max_messages, 65536, 1);
  AddLimit(*dir, "msg_default", &IpcNamespace::mq_default_messages, 65536, 1);
  AddLimit(*dir, "msgsize_max", &IpcNamespace::mq_max_size, 16 << 20, 128);
  AddLimit(*dir, "msgsize_default", &IpcNamespace::mq_default_size, 16 << 20, 128);
}

void AddIpcSysctls(StaticDirectory& kernel) {
  AddLimit(kernel, "shmmax", &IpcNamespace::shm_max, ~uint64_t{0});
  AddLimit(kernel, "shmall", &IpcNamespace::shm_all, ~uint64_t{0});
  AddLimit(kernel, "shmmni", &IpcNamespace::shm_segments, kIpcMaxObjects);
  AddLimit(kernel, "shm_rmid_forced", &IpcNamespace::shm_rmid_forced, 1);
  AddLimit(kernel, "msgmax", &IpcNamespace::msg_max, INT32_MAX);
  AddLimit(kernel, "msgmnb", &IpcNamespace::msg_queue_bytes, INT32_MAX);
  AddLimit(kernel, "msgmni", &IpcNamespace::msg_queues, kIpcMaxObjects);
  AddNextId(kernel, "sem_next_id", &IpcNamespace::sems);
  AddNextId(kernel, "msg_next_id", &IpcNamespace::messages);
  AddNextId(kernel, "shm_next_id", &IpcNamespace::segments);
  kernel.AddFile("sem", ReadSem, 0644, WriteSem);
}

}  // namespace ringwall::proc
