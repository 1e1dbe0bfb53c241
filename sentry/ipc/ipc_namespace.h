// IpcNamespace (struct ipc_namespace): the System V objects that a group of processes sees, their
// limits (sysctl kernel.sem, msgmax ...), and the file system of its POSIX message queues.
#ifndef RINGWALL_SENTRY_IPC_IPC_NAMESPACE_H_
#define RINGWALL_SENTRY_IPC_IPC_NAMESPACE_H_

#include <atomic>

#include "sentry/auth/namespace.h"
#include "sentry/ipc/ipc_ids.h"
#include "sentry/ipc/sysv_msg.h"
#include "sentry/ipc/sysv_sem.h"
#include "sentry/ipc/sysv_shm.h"

namespace ringwall {

class Kernel;

// What the namespace holds without knowing it: the mqueue file system (fs/mqueue).
class IpcNamespacePart {
 public:
  virtual ~IpcNamespacePart() = default;
  // The namespace ends.
  virtual void Detach() = 0;
  virtual RefCountedBase& counted() = 0;
};

class IpcNamespace final : public Namespace {
 public:
  // For Kernel::SetNamespaceMaker.
  static Result<Ref<Namespace>> Make(Kernel& kernel, Ref<UserNamespace> owner, bool first);
  IpcNamespace(Ref<UserNamespace> owner, bool first);

  IpcIds<SemSet> sems;
  IpcIds<MsgQueue> messages;
  IpcIds<ShmSegment> segments;

  // sysctl kernel.sem: SEMMSL, SEMMNS, SEMOPM, SEMMNI.
  std::atomic<int> sem_per_set{32000}, sem_total{1024000000}, sem_ops{500}, sem_sets{32000};
  std::atomic<int> msg_max{8192}, msg_queue_bytes{16384}, msg_queues{32000};
  std::atomic<uint64_t> shm_max{~uint64_t{0} - (uint64_t{1} << 24)};
  std::atomic<uint64_t> shm_all{~uint64_t{0} - (uint64_t{1} << 24)};  // pages
  std::atomic<int> shm_segments{4096};
  std::atomic<int> shm_rmid_forced{0};

  // What is there now.
  const Ref<IpcUsage> usage;

  // sysctl fs.mqueue.*.
  std::atomic<int> mq_queues{256}, mq_max_messages{10}, mq_default_messages{10};
  std::atomic<int> mq_max_size{8192}, mq_default_size{8192};

  // The mqueue file system; `make` gives it, with a reference, the first time.
  template <typename F>
  IpcNamespacePart& AttachMqueue(F make) {
    MutexLock lock(mu_);
    if (mqueue_ == nullptr) mqueue_ = make();
    return *mqueue_;
  }

 protected:
  ~IpcNamespace() override;

 private:
  mutable Mutex<LockClass::kIpcIds> mu_;
  IpcNamespacePart* mqueue_ GUARDED_BY(mu_) = nullptr;  // with a reference
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_IPC_IPC_NAMESPACE_H_
