#include "sentry/kernel/file_async.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "fs/vfs/inotify.h"
#include "sentry/base/log.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr int kSiSigio = -5;  // SI_SIGIO

// Who gets the signals: a Task, ThreadGroup or ProcessGroup by `type`, or nobody.
struct AsyncOwner {
  int type = F_OWNER_PID;
  RefPtr<RefCountedBase> object;
  Uid uid = 0, euid = 0;
};

class FileAsync final : public RefCounted<FileAsync>, public Waiter {
 public:
  explicit FileAsync(Kernel& k) : kernel(k) {}
  bool OnEvent(EventMask events) override;

  // Hears of urgent bytes on sockets with an owner, O_ASYNC or not (send_sigurg()).
  class Urgent final : public Waiter {
   public:
    explicit Urgent(FileAsync& async) : async_(async) {}
    bool OnEvent(EventMask events) override;

   private:
    FileAsync& async_;
  };

  Kernel& kernel;
  Urgent urgent{*this};
  // What the fcntls set.
  struct State {
    AsyncOwner owner;
    int signal = 0;
    int fd = -1;
  };
  Guarded<State, LockClass::kLeaf> state;
  Mutex<LockClass::kEpoll> registration;
};

struct Notice {
  Ref<FileAsync> async;
  int reason;   // POLL_IN ...
  int fd = -1;  // instead of the one that O_ASYNC was set on
};

constexpr int kUrgent = -1;  // a reason of our own

thread_local std::vector<Notice> pending_notices;
thread_local std::vector<std::function<void()>> pending_work;

int64_t BandOf(int reason) {
  switch (reason) {
    case POLL_IN:
      return EPOLLIN | EPOLLRDNORM;
    case POLL_OUT:
      return EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
    case POLL_PRI:
      return EPOLLPRI | EPOLLRDBAND;
    case POLL_MSG:
      return EPOLLIN | EPOLLRDNORM | EPOLLMSG;
    default:
      return EPOLLHUP | EPOLLERR;
  }
}

bool HasOwnCodes(int signo) {
  switch (signo) {
    case SIGILL:
    case SIGFPE:
    case SIGSEGV:
    case SIGBUS:
    case SIGTRAP:
    case SIGCHLD:
    case SIGSYS:
      return true;
    default:
      return false;
  }
}

void SendTo(Task& to, const FileAsync::State& state, int reason) {
  const Ref<const Credentials> creds = to.creds_ref();
  const AsyncOwner& owner = state.owner;
  if (owner.euid != 0 && owner.euid != creds->suid && owner.euid != creds->ruid &&
      owner.uid != creds->suid && owner.uid != creds->ruid) {
    return;
  }
  const bool group = owner.type != F_OWNER_TID;
  if (reason == kUrgent) {
    Result<void> ignored = to.SendSignal(MakeSigInfo(SIGURG, SI_KERNEL), group);
    static_cast<void>(ignored);
    return;
  }
  if (state.signal != 0) {
    abi::SigInfo info =
        MakeSigInfo(state.signal, HasOwnCodes(state.signal) ? kSiSigio : reason);
    info.Put<int64_t>(0, BandOf(reason));
    info.Put<int32_t>(8, state.fd);
    if (to.SendSignal(info, group).ok()) return;
  }
  Result<void> ignored = to.SendSignal(MakeSigInfo(SIGIO, SI_KERNEL), group);
  static_cast<void>(ignored);
}

// The number of the owner in a pid namespace, 0 when it is gone. TaskSet's lock held.
int OwnerNumberLocked(const AsyncOwner& owner, const PidNamespace& ns) {
  if (!owner.object) return 0;
  switch (owner.type) {
    case F_OWNER_PGRP: {
      const auto& pg = static_cast<const ProcessGroup&>(*owner.object);
      return pg.members.empty() ? 0 : pg.pid->In(ns);
    }
    case F_OWNER_TID: {
      const auto& task = static_cast<const Task&>(*owner.object);
      return ns.FindTask(task.pid().In(ns)) == &task ? task.pid().In(ns) : 0;
    }
    default: {
      const auto& tg = static_cast<const ThreadGroup&>(*owner.object);
      return tg.leader == nullptr ? 0 : tg.pid->In(ns);
    }
  }
}

std::vector<Ref<Task>> OwnersLocked(const AsyncOwner& owner) {
  std::vector<Ref<Task>> out;
  if (!owner.object) return out;
  const auto add = [&out](const ThreadGroup& tg) {
    if (!tg.zombie && tg.leader != nullptr) out.emplace_back(*tg.leader);
  };
  if (owner.type == F_OWNER_PGRP) {
    for (ThreadGroup* m : static_cast<ProcessGroup&>(*owner.object).members) add(*m);
  } else if (owner.type == F_OWNER_TID) {
    auto& task = static_cast<Task&>(*owner.object);
    if (task.state() != 'Z') out.emplace_back(task);
  } else {
    add(static_cast<ThreadGroup&>(*owner.object));
  }
  return out;
}

void Send(const Notice& notice) {
  FileAsync& async = *notice.async;
  FileAsync::State state = async.state.With([](const FileAsync::State& s) { return s; });
  if (!state.owner.object) return;
  if (notice.fd >= 0) state.fd = notice.fd;
  std::vector<Ref<Task>> owners;
  {
    TaskSet& set = async.kernel.tasks();
    MutexLock lock(set.mu);
    owners = OwnersLocked(state.owner);
  }
  for (const Ref<Task>& to : owners) SendTo(*to, state, notice.reason);
}

// Works for events of host threads that run no task.
class Worker {
 public:
  static Worker& Get() {
    static auto* worker = new Worker;
    return *worker;
  }
  void Post(Notice notice) {
    MutexLock lock(mu_);
    // One of a kind at a time is enough: the signal is pending or about to be.
    for (const Notice& n : queue_) {
      if (n.async == notice.async && n.reason == notice.reason) return;
    }
    queue_.push_back(std::move(notice));
    changed_.Signal();
  }
  void Post(std::function<void()> work) {
    MutexLock lock(mu_);
    work_.push_back(std::move(work));
    changed_.Signal();
  }
  void Start() {
    MutexLock lock(mu_);
    if (started_) return;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 256 << 10);
    pthread_t thread;
    started_ = pthread_create(&thread, &attr, &Worker::Main, this) == 0;
    pthread_attr_destroy(&attr);
    if (!started_) RW_LOG(kWarning, "no thread for SIGIO");
  }

 private:
  static void* Main(void* self) {
    static_cast<Worker*>(self)->Run();
    return nullptr;
  }
  void Run() {
    for (;;) {
      std::vector<Notice> notices;
      std::vector<std::function<void()>> work;
      {
        MutexLock lock(mu_);
        while (queue_.empty() && work_.empty()) changed_.Wait(mu_);
        notices.swap(queue_);
        work.swap(work_);
      }
      for (const Notice& n : notices) Send(n);
      for (const std::function<void()>& f : work) f();
    }
  }

  Mutex<LockClass::kLeaf> mu_;
  CondVar changed_;
  std::vector<Notice> queue_ GUARDED_BY(mu_);
  std::vector<std::function<void()>> work_ GUARDED_BY(mu_);
  bool started_ GUARDED_BY(mu_) = false;
};

void Post(Notice notice) {
  if (Task::Current() != nullptr) {
    pending_notices.push_back(std::move(notice));
  } else {
    Worker::Get().Post(std::move(notice));
  }
}

bool FileAsync::Urgent::OnEvent(EventMask events) {
  if ((events & EPOLLPRI) != 0) Post({Ref<FileAsync>(async_), kUrgent});
  return false;
}

bool FileAsync::OnEvent(EventMask events) {
  int reason = POLL_HUP;
  if ((events & EPOLLIN) != 0) {
    reason = POLL_IN;
  } else if ((events & EPOLLOUT) != 0) {
    reason = POLL_OUT;
  } else if ((events & EPOLLPRI) != 0) {
    reason = POLL_PRI;
  }
  Post({Ref<FileAsync>(*this), reason});
  return false;
}

FileAsync* StateOf(const File& file) {
  return static_cast<FileAsync*>(file.async_state.load(std::memory_order_acquire));
}

void OnRelease(const File& file) {
  FileAsync* async = StateOf(file);
  if (async == nullptr) return;
  if (WaitQueue* queue = const_cast<File&>(file).queue()) {
    queue->Remove(*async);
    queue->Remove(async->urgent);
  }
  async->Release();
}

FileAsync& MakeState(Task& t, File& file) {
  if (FileAsync* there = StateOf(file)) return *there;
  Ref<FileAsync> fresh = MakeRef<FileAsync>(t.kernel());
  RefCountedBase* expected = nullptr;
  if (file.async_state.compare_exchange_strong(expected, fresh.get())) {
    file.set_async_release_hook(&OnRelease);
    return *fresh.Leak();
  }
  return *StateOf(file);
}

struct OwnerAbi {
  int32_t type, pid;
};

Result<void> SetOwner(Task& t, File& file, int type, int id) {
  AsyncOwner owner;
  owner.type = type;
  owner.uid = t.creds().ruid;
  owner.euid = t.creds().euid;
  if (id != 0) {
    MutexLock lock(t.kernel().tasks().mu);
    if (type == F_OWNER_PGRP) {
      owner.object = RefPtr<RefCountedBase>(t.pid_ns().FindGroup(id));
    } else if (Task* task = t.pid_ns().FindTask(id); task != nullptr) {
      if (type == F_OWNER_TID) {
        owner.object = RefPtr<RefCountedBase>(task);
      } else {
        owner.object = RefPtr<RefCountedBase>(&task->tg());
      }
    }
    if (!owner.object) return Errno(ESRCH);
  }
  RefPtr<RefCountedBase> old;  // dropped without the lock
  FileAsync& async = MakeState(t, file);
  async.state.With([&](FileAsync::State& s) {
    old = std::move(s.owner.object);
    s.owner = std::move(owner);
  });
  if (file.AsSocket() == nullptr || file.queue() == nullptr) return {};
  Worker::Get().Start();
  MutexLock lock(async.registration);
  if (!async.urgent.registered()) file.queue()->Add(async.urgent, EPOLLPRI);
  return {};
}

// The owner's number, 0 when there is none any more.
OwnerAbi GetOwner(Task& t, File& file) {
  FileAsync* async = StateOf(file);
  if (async == nullptr) return {F_OWNER_TID, 0};
  const AsyncOwner owner = async->state.With([](const FileAsync::State& s) { return s.owner; });
  MutexLock lock(t.kernel().tasks().mu);
  return {owner.type, OwnerNumberLocked(owner, t.pid_ns())};
}

}  // namespace

Result<int64_t> FcntlAsync(Task& t, File& file, int cmd, uint64_t arg) {
  constexpr int kGetOwnerUids = 17;
  switch (cmd) {
    case F_SETOWN: {
      const int who = static_cast<int>(arg);
      if (who == INT32_MIN) return Errno(EINVAL);
      TRY(SetOwner(t, file, who < 0 ? F_OWNER_PGRP : F_OWNER_PID, who < 0 ? -who : who));
      return 0;
    }
    case F_GETOWN: {
      const OwnerAbi owner = GetOwner(t, file);
      return owner.type == F_OWNER_PGRP ? -owner.pid : owner.pid;
    }
    case F_SETOWN_EX: {
      const OwnerAbi owner = TRY(UserIn<OwnerAbi>(GuestAddr(arg)).CopyIn(t));
      if (owner.type < F_OWNER_TID || owner.type > F_OWNER_PGRP) return Errno(EINVAL);
      TRY(SetOwner(t, file, owner.type, owner.pid));
      return 0;
    }
    case F_GETOWN_EX:
      TRY(UserOut<OwnerAbi>(GuestAddr(arg)).CopyOut(t, GetOwner(t, file)));
      return 0;
    case F_SETSIG: {
      if (arg > static_cast<uint64_t>(abi::kSigMax)) return Errno(EINVAL);
      MakeState(t, file).state.With(
          [&](FileAsync::State& s) { s.signal = static_cast<int>(arg); });
      return 0;
    }
    case F_GETSIG: {
      FileAsync* async = StateOf(file);
      if (async == nullptr) return 0;
      return async->state.With([](const FileAsync::State& s) { return s.signal; });
    }
    case kGetOwnerUids: {
      struct UidsAbi {
        uint32_t uid, euid;
      } uids = {};
      if (FileAsync* async = StateOf(file)) {
        async->state.With([&](const FileAsync::State& s) {
          uids = {s.owner.uid, s.owner.euid};
        });
      }
      TRY(UserOut<UidsAbi>(GuestAddr(arg)).CopyOut(t, uids));
      return 0;
    }
    default:
      return Errno(EINVAL);
  }
}

void TellOwner(File& file, int fd) {
  FileAsync* async = StateOf(file);
  if (async != nullptr) Post(Notice{Ref<FileAsync>(*async), POLL_MSG, fd});
}

void OwnIfNobody(Task& t, File& file) {
  const bool owned = MakeState(t, file).state.With(
      [](const FileAsync::State& s) { return static_cast<bool>(s.owner.object); });
  if (owned) return;
  Result<void> found = SetOwner(t, file, F_OWNER_PID, t.vtgid());
  static_cast<void>(found);
  Worker::Get().Start();
}

bool SupportsAsync(File& file) {
  const uint32_t type = file.inode().type();
  if (InotifyGroupOf(file) != nullptr) return true;
  return file.queue() != nullptr && (type == S_IFIFO || type == S_IFSOCK || type == S_IFCHR);
}

void SetAsync(Task& t, File& file, int fd, bool on) {
  FileAsync& async = MakeState(t, file);
  if (on) Worker::Get().Start();
  MutexLock lock(async.registration);
  if (!on) {
    file.queue()->Remove(async);
    return;
  }
  async.state.With([&](FileAsync::State& s) { s.fd = fd; });
  if (async.registered()) return;
  EventMask mask = EPOLLERR | EPOLLHUP | EPOLLPRI;
  if (file.readable()) mask |= EPOLLIN | EPOLLRDHUP;
  if (file.writable()) mask |= EPOLLOUT;
  file.queue()->Add(async, mask);
}

void RunLater(std::function<void()> work) {
  if (Task::Current() != nullptr) {
    pending_work.push_back(std::move(work));
  } else {
    Worker::Get().Post(std::move(work));
  }
}

void StartLateWork() { Worker::Get().Start(); }

void SendPendingAsync() {
  if (pending_notices.empty() && pending_work.empty()) [[likely]] return;
  // What is done now may cause more.
  while (!pending_notices.empty() || !pending_work.empty()) {
    std::vector<Notice> notices;
    std::vector<std::function<void()>> work;
    notices.swap(pending_notices);
    work.swap(pending_work);
    for (const Notice& n : notices) Send(n);
    for (const std::function<void()>& f : work) f();
  }
}

}  // namespace ringwall
