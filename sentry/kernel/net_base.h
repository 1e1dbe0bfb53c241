// NetNamespaceBase: what a task knows of its network namespace. fs/socket/net_namespace.h has the
// real thing; the kernel's core only hands it on.
#ifndef RINGWALL_SENTRY_KERNEL_NET_BASE_H_
#define RINGWALL_SENTRY_KERNEL_NET_BASE_H_

#include "sentry/auth/user_namespace.h"

namespace ringwall {

class NetNamespaceBase : public Namespace {
 public:
  // CLONE_NEWNET: a fresh namespace, whose loopback is down.
  virtual Ref<NetNamespaceBase> NewNamespace(Ref<UserNamespace> owner) = 0;

 protected:
  // Preconditions: unless it is the first, the owner was charged.
  NetNamespaceBase(Ref<UserNamespace> owner, bool first)
      : Namespace(NamespaceKind::kNet, std::move(owner), first), counted_(!first) {}
  ~NetNamespaceBase() override {
    if (counted_) user_ns().Uncharge(NamespaceKind::kNet);
  }

 private:
  const bool counted_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_NET_BASE_H_
