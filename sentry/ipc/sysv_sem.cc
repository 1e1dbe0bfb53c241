#include "sentry/ipc/sysv_sem.h"

#include <sys/sem.h>

#include <algorithm>

#include "fs/vfs/inode.h"
#include "sentry/kernel/task.h"

namespace ringwall {

// A task that sleeps in Operate; on its stack. Whoever changes the set does the operations for it.
struct SemSet::Pending {
  std::span<const SemOp> ops;
  RefPtr<SemUndoList> undo;
  Task& task;
  const Pid& pid;
  size_t blocking = 0;
  bool done = false;
  int error = 0;
};

SemSet::SemSet(Ref<IpcUsage> usage, size_t count) : usage_(std::move(usage)), size_(count), sems_(count) {
  usage_->sems.fetch_add(static_cast<int64_t>(count));
  ctime_ = CurrentTime().sec;
}

SemSet::~SemSet() { usage_->sems.fetch_sub(static_cast<int64_t>(size_)); }

void SemSet::TouchLocked() { ctime_ = CurrentTime().sec; }

int SemSet::PerformLocked(std::span<const SemOp> ops, Adjustments* undo,
                          const Pid& pid, size_t* blocking) {
  int error = 0;
  size_t done = 0;
  for (; done < ops.size(); done++) {
    const SemOp& op = ops[done];
    Sem& sem = sems_[op.num];
    const int result = sem.value + op.op;
    if ((op.op == 0 && sem.value != 0) || result < 0) {
      *blocking = done;
      error = (op.flags & IPC_NOWAIT) != 0 ? EAGAIN : kBlocks;
      break;
    }
    if (result > kSemValueMax) {
      error = ERANGE;
      break;
    }
    if ((op.flags & SEM_UNDO) != 0) {
      const int adjust = (*undo)[op.num] - op.op;
      if (adjust < -kSemAdjustMax - 1 || adjust > kSemAdjustMax) {
        error = ERANGE;
        break;
      }
      (*undo)[op.num] = static_cast<int16_t>(adjust);
    }
    sem.value = result;
  }
  if (error == 0) {
    for (const SemOp& op : ops) sems_[op.num].pid = RefPtr<const Pid>(&pid);
    return 0;
  }
  while (done-- > 0) {
    const SemOp& op = ops[done];
    sems_[op.num].value -= op.op;
    if ((op.flags & SEM_UNDO) != 0) {
      (*undo)[op.num] = static_cast<int16_t>((*undo)[op.num] + op.op);
    }
  }
  return error;
}

SemSet::Adjustments& SemSet::UndoLocked(SemUndoList& list) {
  Adjustments& adjustments = undos_[&list];
  if (adjustments.empty()) {
    adjustments.resize(sems_.size());
    list.Add(*this);
  }
  return adjustments;
}

SemSet::Adjustments* SemSet::UndoForLocked(SemUndoList* list, std::span<const SemOp> ops) {
  for (const SemOp& op : ops) {
    if ((op.flags & SEM_UNDO) != 0) return &UndoLocked(*list);
  }
  return nullptr;
}

void SemSet::UpdateLocked() {
  for (auto it = pending_.begin(); it != pending_.end();) {
    Pending& p = **it;
    const int error = PerformLocked(p.ops, UndoForLocked(p.undo.get(), p.ops), p.pid, &p.blocking);
    if (error == kBlocks) {
      ++it;
      continue;
    }
    p.done = true;
    p.error = error;
    it = pending_.erase(it);
    const bool alters = std::any_of(p.ops.begin(), p.ops.end(), [](auto& o) { return o.op != 0; });
    if (error == 0) otime_ = CurrentTime().sec;
    p.task.Wake();
    if (error == 0 && alters) it = pending_.begin();  // those before it may go on now
  }
}

Result<void> SemSet::Operate(Task& t, std::span<const SemOp> ops, int64_t deadline) {
  uint16_t highest = 0;
  bool alters = false, undoes = false;
  for (const SemOp& op : ops) {
    highest = std::max(highest, op.num);
    alters |= op.op != 0;
    undoes |= (op.flags & SEM_UNDO) != 0;
  }
  Pending p{.ops = ops, .undo = nullptr, .task = t, .pid = *t.tg().pid};
  if (undoes) p.undo = RefPtr<SemUndoList>(&t.SemUndo());
  {
    MutexLock lock(mu);
    // Whatever becomes of the call: the end of the process touches the set.
    if (undoes && !removed) UndoLocked(*p.undo);
    if (highest >= sems_.size()) return Errno(EFBIG);
    TRY(CheckIpcAccess(t.creds(), perm, alters ? kIpcWrite : kIpcRead));
    if (removed) return Errno(EIDRM);
    const int error = PerformLocked(ops, UndoForLocked(p.undo.get(), ops), p.pid, &p.blocking);
    if (error == 0) {
      otime_ = CurrentTime().sec;
      if (alters) UpdateLocked();
      return {};
    }
    if (error != kBlocks) return Errno(error);
    pending_.push_back(&p);
  }
  for (;;) {
    const Result<void> slept = t.Block(deadline);
    MutexLock lock(mu);
    if (p.done) {
      if (p.error != 0) return Errno(p.error);
      return {};
    }
    if (slept.ok()) continue;
    pending_.remove(&p);
    // Never restarted, whatever SA_RESTART says.
    return Errno(slept.error().Is(ETIMEDOUT) ? EAGAIN : EINTR);
  }
}

int SemSet::WaitingLocked(size_t num, bool for_zero) const {
  int n = 0;
  for (const Pending* p : pending_) {
    const SemOp& op = p->ops[p->blocking];
    if (op.num == num && (op.op == 0) == for_zero) n++;
  }
  return n;
}

void SemSet::SetLocked(size_t first, std::span<const uint16_t> values, const Pid& pid) {
  for (size_t i = 0; i < values.size(); i++) {
    sems_[first + i] = Sem{values[i], RefPtr<const Pid>(&pid)};
    for (auto& [list, adjustments] : undos_) adjustments[first + i] = 0;
  }
  ctime_ = CurrentTime().sec;
  UpdateLocked();
}

void SemSet::RemoveLocked() {
  removed = true;
  for (auto& [list, adjustments] : undos_) list->Forget(*this);
  undos_.clear();
  for (Pending* p : pending_) {
    p->done = true;
    p->error = EIDRM;
    p->task.Wake();
  }
  pending_.clear();
}

void SemSet::Undo(SemUndoList& list, const Pid* pid) {
  MutexLock lock(mu);
  const auto it = undos_.find(&list);
  if (it == undos_.end()) return;
  const Adjustments adjustments = std::move(it->second);
  undos_.erase(it);
  for (size_t i = 0; i < adjustments.size(); i++) {
    if (adjustments[i] == 0) continue;
    sems_[i].value = std::clamp(sems_[i].value + adjustments[i], 0, kSemValueMax);
    sems_[i].pid = RefPtr<const Pid>(pid);
  }
  UpdateLocked();
  otime_ = CurrentTime().sec;
}

void SemUndoList::Add(SemSet& set) {
  MutexLock lock(mu_);
  sets_.emplace(&set, Ref<SemSet>(set));
}

void SemUndoList::Forget(SemSet& set) {
  // The caller holds a reference of its own.
  MutexLock lock(mu_);
  sets_.erase(&set);
}

void SemUndoList::LastRelease() const {
  auto* self = const_cast<SemUndoList*>(this);
  std::map<SemSet*, Ref<SemSet>> sets;
  {
    MutexLock lock(self->mu_);
    sets.swap(self->sets_);
  }
  const Task* task = Task::Current();
  for (auto& [raw, set] : sets) {
    set->Undo(*self, task != nullptr ? task->tg().pid.get() : nullptr);
  }
  RefCounted::LastRelease();
}

}  // namespace ringwall
