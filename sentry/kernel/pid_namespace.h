// PidNamespace: process numbers of their own (pid_namespaces(7), kernel/pid_namespace.c). Each task
// has one number on every level from the first namespace down to its own; Pid holds them all. Task's
// and ThreadGroup's plain tid and tgid are those of the first namespace: what a guest passes or reads
// goes through its own (Task::pid_ns).
#ifndef RINGWALL_SENTRY_KERNEL_PID_NAMESPACE_H_
#define RINGWALL_SENTRY_KERNEL_PID_NAMESPACE_H_

#include <atomic>
#include <map>
#include <span>
#include <vector>

#include "sentry/auth/namespace.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

class Task;
class ThreadGroup;
struct ProcessGroup;

class PidNamespace final : public Namespace {
 public:
  // Preconditions: unless it is the first, the owner was charged. Numbers begin above `base`.
  PidNamespace(RefPtr<PidNamespace> parent, RefPtr<UserNamespace> owner, int base = 0);
  ~PidNamespace() override;

  PidNamespace* parent() const { return parent_.get(); }
  int level() const { return level_; }
  int base() const { return base_; }
  // The one that the container's first process was made in (TaskSet::apart).
  PidNamespace& container();
  const PidNamespace& container() const { return const_cast<PidNamespace*>(this)->container(); }
  // vm.memfd_noexec here: what is set here or in a namespace above, whichever forbids more (0 to 2).
  int MemfdNoexec() const;
  // Whether it is `other` or below it.
  bool IsWithin(const PidNamespace& other) const;

  // --- Under the TaskSet's lock.
  Task* FindTask(int tid) const;
  // The process with this number; null for the number of a thread that is no leader.
  ThreadGroup* FindThreadGroup(int tgid) const;
  ProcessGroup* FindGroup(int pgid) const;

  std::map<int, Task*> tasks;                   // by number here
  std::map<int, RefPtr<ProcessGroup>> groups;   // likewise; empty ones are erased
  int last_pid = 0;
  ThreadGroup* init = nullptr;  // who reaps orphans
  bool had_init = false;
  bool dead = false;  // its init is gone: nothing can be made here any more

  std::atomic<int> memfd_noexec{0};  // as set here

  // --- Of a container's.
  std::atomic<bool> paused{false};            // Kernel::Pause
  RefPtr<RefCountedBase> devpts;              // its first devpts, under that one's own lock

  static constexpr int kMaxLevel = 32;

 private:
  const RefPtr<PidNamespace> parent_;
  const int level_, base_;
};

class Pid : public RefCounted<Pid> {
 public:
  Pid(Ref<PidNamespace> ns, std::vector<int> numbers)
      : ns_(std::move(ns)), numbers_(std::move(numbers)) {}
  // The namespace that it was made in, the innermost that sees it.
  PidNamespace& ns() const { return *ns_; }
  int first() const { return numbers_.front(); }
  int own() const { return numbers_.back(); }
  // 0 where it cannot be seen.
  int In(const PidNamespace& ns) const {
    return ns_->IsWithin(ns) ? numbers_[static_cast<size_t>(ns.level())] : 0;
  }
  // From its own namespace up to the first: f(namespace, number).
  template <typename F>
  void ForEach(F f) const {
    for (PidNamespace* ns = ns_.get(); ns != nullptr; ns = ns->parent()) {
      f(*ns, numbers_[static_cast<size_t>(ns->level())]);
    }
  }
  // From the first namespace inwards, as NSpid shows it, for one who sees from `ns` on.
  std::span<const int> From(const PidNamespace& ns) const {
    if (!ns_->IsWithin(ns)) return {};
    return std::span(numbers_).subspan(static_cast<size_t>(ns.level()));
  }

 private:
  const Ref<PidNamespace> ns_;
  const std::vector<int> numbers_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_PID_NAMESPACE_H_
