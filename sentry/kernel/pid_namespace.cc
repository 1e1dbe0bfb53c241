#include "sentry/kernel/pid_namespace.h"

#include <algorithm>

#include "sentry/auth/user_namespace.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace ringwall {

PidNamespace::PidNamespace(RefPtr<PidNamespace> parent, RefPtr<UserNamespace> owner, int base)
    : Namespace(NamespaceKind::kPid, std::move(owner), !parent),
      parent_(std::move(parent)),
      level_(parent_ ? parent_->level_ + 1 : 0),
      base_(base) {
  last_pid = base;
}

int PidNamespace::MemfdNoexec() const {
  int most = 0;
  for (const PidNamespace* ns = this; ns != nullptr; ns = ns->parent()) {
    most = std::max(most, ns->memfd_noexec.load(std::memory_order_relaxed));
  }
  return most;
}

PidNamespace& PidNamespace::container() {
  PidNamespace* at = this;
  while (at->parent_ && at->parent_->base_ == 0) at = at->parent_.get();
  return *at;
}

PidNamespace::~PidNamespace() {
  if (parent_) user_ns().Uncharge(NamespaceKind::kPid);
}

bool PidNamespace::IsWithin(const PidNamespace& other) const {
  const PidNamespace* at = this;
  while (at->level_ > other.level_) at = at->parent_.get();
  return at == &other;
}

Task* PidNamespace::FindTask(int tid) const {
  const auto it = tasks.find(tid);
  return it == tasks.end() ? nullptr : it->second;
}

ThreadGroup* PidNamespace::FindThreadGroup(int tgid) const {
  Task* t = FindTask(tgid);
  return t != nullptr && t->tid() == t->tgid() ? &t->tg() : nullptr;
}

ProcessGroup* PidNamespace::FindGroup(int pgid) const {
  const auto it = groups.find(pgid);
  return it == groups.end() ? nullptr : it->second.get();
}

}  // namespace ringwall
