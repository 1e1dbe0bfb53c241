// System V semaphores (ipc/sem.c).
#ifndef RINGWALL_SENTRY_IPC_SYSV_SEM_H_
#define RINGWALL_SENTRY_IPC_SYSV_SEM_H_

#include <list>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "sentry/ipc/ipc_ids.h"
#include "sentry/kernel/pid_namespace.h"

namespace ringwall {

class SemSet;
class SemUndoList;
class Task;

inline constexpr int kSemValueMax = 32767;
inline constexpr int kSemAdjustMax = 32767;

// struct sembuf.
struct SemOp {
  uint16_t num;
  int16_t op, flags;
};
static_assert(sizeof(SemOp) == 6);

class SemSet final : public IpcObject {
 public:
  SemSet(Ref<IpcUsage> usage, size_t count);
  ~SemSet() override;

  // semtimedop: all operations at once, or sleeps until they can be done. EAGAIN, EFBIG, ERANGE,
  // EACCES, EIDRM, EINTR.
  Result<void> Operate(Task& t, std::span<const SemOp> ops, int64_t deadline);

  size_t size() const { return size_; }
  // What semctl shows and sets; all with the lock held, `num` below size().
  int ValueLocked(size_t num) const REQUIRES(mu) { return sems_[num].value; }
  RefPtr<const Pid> PidLocked(size_t num) const REQUIRES(mu) { return sems_[num].pid; }
  // How many tasks wait for it to grow, or to become zero.
  int WaitingLocked(size_t num, bool for_zero) const REQUIRES(mu);
  // SETVAL and SETALL, from `first` on: adjustments are forgotten, waiting tasks look again.
  void SetLocked(size_t first, std::span<const uint16_t> values, const Pid& pid) REQUIRES(mu);
  // IPC_RMID: every waiting task gets EIDRM.
  void RemoveLocked() REQUIRES(mu);
  int64_t otime_locked() const REQUIRES(mu) { return otime_; }
  int64_t ctime_locked() const REQUIRES(mu) { return ctime_; }
  void TouchLocked() REQUIRES(mu);

 private:
  friend class SemUndoList;
  struct Sem {
    int32_t value = 0;
    RefPtr<const Pid> pid;  // of the last change
  };
  struct Pending;
  using Adjustments = std::vector<int16_t>;

  // Does all of `ops` or nothing. kBlocks with *blocking set; EAGAIN, ERANGE.
  static constexpr int kBlocks = -1;
  int PerformLocked(std::span<const SemOp> ops, Adjustments* undo, const Pid& pid,
                    size_t* blocking)
      REQUIRES(mu);
  Adjustments& UndoLocked(SemUndoList& list) REQUIRES(mu);
  Adjustments* UndoForLocked(SemUndoList* list, std::span<const SemOp> ops) REQUIRES(mu);
  // Lets go on whoever can now.
  void UpdateLocked() REQUIRES(mu);
  // A process ends: its adjustments are done.
  void Undo(SemUndoList& list, const Pid* pid);

  const Ref<IpcUsage> usage_;
  const size_t size_;
  std::vector<Sem> sems_ GUARDED_BY(mu);
  std::list<Pending*> pending_ GUARDED_BY(mu);
  std::map<SemUndoList*, Adjustments> undos_ GUARDED_BY(mu);
  int64_t otime_ GUARDED_BY(mu) = 0, ctime_ GUARDED_BY(mu) = 0;
};

// What SEM_UNDO will give back when the last task that shares the list (CLONE_SYSVSEM) ends.
class SemUndoList final : public RefCounted<SemUndoList> {
 public:
  void Add(SemSet& set);
  void Forget(SemSet& set);

 protected:
  void LastRelease() const override;

 private:
  mutable Mutex<LockClass::kLeaf> mu_;
  std::map<SemSet*, Ref<SemSet>> sets_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_IPC_SYSV_SEM_H_
