// What the three kinds of System V IPC objects have in common (ipc/util.c): permissions, and tables
// that know an object by its identifier and by its key.
//
// Lock order: IpcIds (kIpcIds), then the object (kIpcObject).
#ifndef RINGWALL_SENTRY_IPC_IPC_IDS_H_
#define RINGWALL_SENTRY_IPC_IPC_IDS_H_

#include <sys/ipc.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <vector>

#include "sentry/auth/credentials.h"
#include "sentry/auth/user_namespace.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"

namespace ringwall {

// struct kern_ipc_perm.
struct IpcPerm {
  int32_t key = 0;
  Uid uid = 0, cuid = 0;
  Gid gid = 0, cgid = 0;
  uint32_t mode = 0;
  int id = -1;
  // That of the ipc namespace: whose capabilities count. As long as the object can be found.
  const UserNamespace* user_ns = nullptr;
};

// struct ipc64_perm.
struct IpcPermAbi {
  int32_t key;
  uint32_t uid, gid, cuid, cgid, mode;
  uint16_t seq, pad0;
  uint32_t pad1;
  uint64_t unused1, unused2;
};
static_assert(sizeof(IpcPermAbi) == 48);
// With the ids that `viewer` knows.
IpcPermAbi ToAbi(const IpcPerm& perm, const UserNamespace& viewer);

inline constexpr uint32_t kIpcRead = 0444, kIpcWrite = 0222;

// ipcperms(): whether all of what `flag` asks for (S_IRUGO, S_IWUGO, or the mode of a get) is
// granted. EACCES.
Result<void> CheckIpcAccess(const Credentials& creds, const IpcPerm& perm, uint32_t flag);
// The owner, the creator or CAP_SYS_ADMIN: IPC_SET and IPC_RMID. EPERM.
Result<void> CheckIpcOwner(const Credentials& creds, const IpcPerm& perm);
// IPC_SET's part of the permissions, in the ids of `setter`. EINVAL.
Result<void> SetIpcOwner(IpcPerm* perm, const IpcPermAbi& from, const UserNamespace& setter);

// How much the objects of a namespace take; they may outlive it.
struct IpcUsage : RefCounted<IpcUsage> {
  std::atomic<int64_t> sems{0};
  std::atomic<uint64_t> shm_pages{0};
};

class IpcObject : public RefCounted<IpcObject> {
 public:
  mutable Mutex<LockClass::kIpcObject> mu;
  IpcPerm perm GUARDED_BY(mu);
  bool removed GUARDED_BY(mu) = false;
};

inline constexpr int kIpcIdShift = 15;
inline constexpr int kIpcMaxObjects = 1 << kIpcIdShift;

// The numbers of one table; how Linux hands them out (ipc_idr_alloc).
class IpcNumbers {
 public:
  // Preconditions: fewer than `max` are in use.
  template <typename Taken>
  int Next(size_t in_use, int max, int wanted, Taken taken) {
    if (wanted >= 0) {
      // What a checkpoint asks for (kernel.*_next_id): that number, or the next index that is free.
      int index = wanted % kIpcMaxObjects;
      while (taken(index)) index = (index + 1) % kIpcMaxObjects;
      return (wanted >> kIpcIdShift) << kIpcIdShift | index;
    }
    const int cycle =
        std::min(max, std::max<int>(static_cast<int>(in_use) * 3 / 2, kMinimalCycle));
    int index = last_ + 1;
    for (int tries = 0; tries < max; tries++, index++) {
      if (index >= cycle) index = 0;
      if (!taken(index)) break;
    }
    if (index <= last_ && ++sequence_ >= (INT32_MAX >> kIpcIdShift)) sequence_ = 0;
    last_ = index;
    return sequence_ << kIpcIdShift | index;
  }

 private:
  static constexpr int kMinimalCycle = 64;
  int last_ = -1, sequence_ = 0;
};

template <typename T>
class IpcIds {
 public:
  // sysctl kernel.*_next_id: the number that the next object gets; -1 leaves it to the table.
  std::atomic<int> next_id{-1};

  // ipcget(): the object with that key, or a new one of `make()` (Result<Ref<T>>), which has its own
  // checks. `fits(T&)` judges one that is there, with its lock held. ENOENT, EEXIST, ENOSPC, EACCES.
  template <typename Make, typename Fits>
  Result<int> Get(const UserNamespace& user_ns, const Credentials& creds, int32_t key, int flags, int max, Make make,
                  Fits fits) {
    MutexLock lock(mu_);
    if (key != IPC_PRIVATE) {
      if (const auto it = by_key_.find(key); it != by_key_.end()) {
        if ((flags & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL)) return Errno(EEXIST);
        return NumberOf(*by_index_.find(it->second)->second, creds, flags, fits);
      }
      if ((flags & IPC_CREAT) == 0) return Errno(ENOENT);
    }
    max = std::min(max, kIpcMaxObjects);
    Ref<T> fresh = TRY(make());
    if (static_cast<int>(by_index_.size()) >= max) return Errno(ENOSPC);
    const int id = numbers_.Next(by_index_.size(), max, next_id.exchange(-1),
                                 [this](int index) NO_THREAD_SAFETY_ANALYSIS {  // under mu_
                                   return by_index_.contains(index);
                                 });
    {
      MutexLock object_lock(fresh->mu);
      fresh->perm = IpcPerm{.key = key,
                            .uid = creds.euid,
                            .cuid = creds.euid,
                            .gid = creds.egid,
                            .cgid = creds.egid,
                            .mode = static_cast<uint32_t>(flags) & 0777,
                            .id = id,
                            .user_ns = &user_ns};
    }
    if (key != IPC_PRIVATE) by_key_[key] = id % kIpcMaxObjects;
    by_index_.emplace(id % kIpcMaxObjects, std::move(fresh));
    return id;
  }

  // EINVAL.
  Result<Ref<T>> Find(int id) const {
    if (id < 0) return Errno(EINVAL);
    Ref<T> found = TRY(FindIndex(id % kIpcMaxObjects));
    MutexLock lock(found->mu);
    if (found->perm.id != id) return Errno(EINVAL);
    return found;
  }
  // The *_STAT commands go by index.
  Result<Ref<T>> FindIndex(int index) const {
    MutexLock lock(mu_);
    const auto it = by_index_.find(index);
    if (index < 0 || it == by_index_.end()) return Errno(EINVAL);
    return it->second;
  }
  // Takes it out of the table if it is still there. Without the object's lock.
  void Erase(const T& object, const IpcPerm& perm) {
    RefPtr<T> gone;  // dropped after the lock
    MutexLock lock(mu_);
    const auto it = by_index_.find(perm.id % kIpcMaxObjects);
    if (it == by_index_.end() || it->second.get() != &object) return;
    gone = it->second;
    EraseKeyLocked(perm);
    by_index_.erase(it);
  }
  // shm: nobody finds it by its key any more.
  void EraseKey(const IpcPerm& perm) {
    MutexLock lock(mu_);
    EraseKeyLocked(perm);
  }
  int count() const {
    MutexLock lock(mu_);
    return static_cast<int>(by_index_.size());
  }
  // The highest index in use, 0 when there is none: what the *_INFO commands return.
  int max_index() const {
    MutexLock lock(mu_);
    return by_index_.empty() ? 0 : by_index_.rbegin()->first;
  }
  std::vector<Ref<T>> List() const {
    std::vector<Ref<T>> all;
    MutexLock lock(mu_);
    all.reserve(by_index_.size());
    for (const auto& [index, object] : by_index_) all.push_back(object);
    return all;
  }

 private:
  // The number of one that is there, for who may have it.
  template <typename Fits>
  static Result<int> NumberOf(T& there, const Credentials& creds, int flags, Fits& fits) {
    MutexLock lock(there.mu);
    TRY(fits(there));
    TRY(CheckIpcAccess(creds, there.perm, static_cast<uint32_t>(flags)));
    return there.perm.id;
  }

  void EraseKeyLocked(const IpcPerm& perm) REQUIRES(mu_) {
    const auto it = by_key_.find(perm.key);
    if (it != by_key_.end() && it->second == perm.id % kIpcMaxObjects) by_key_.erase(it);
  }

  mutable Mutex<LockClass::kIpcIds> mu_;
  std::map<int, Ref<T>> by_index_ GUARDED_BY(mu_);
  std::map<int32_t, int> by_key_ GUARDED_BY(mu_);
  IpcNumbers numbers_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_IPC_IPC_IDS_H_
