// NetNamespaceBase: what a task knows of its network namespace. fs/socket/net_namespace.h has the
// real thing; the kernel's core only hands it on.
#ifndef RINGWALL_SENTRY_KERNEL_NET_BASE_H_
#define RINGWALL_SENTRY_KERNEL_NET_BASE_H_

#include "sentry/base/ref.h"

namespace ringwall {

class NetNamespaceBase : public RefCounted<NetNamespaceBase> {
 public:
  // CLONE_NEWNET: a fresh namespace, whose loopback is down.
  virtual Ref<NetNamespaceBase> NewNamespace() = 0;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_NET_BASE_H_
