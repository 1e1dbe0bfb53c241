// What all kinds of namespaces have in common (struct ns_common): a kind, the number that
// /proc/PID/ns shows, and the user namespace whose capabilities count over it.
//
// IPC and network namespaces are made by whoever implements them: see
// Kernel::SetNamespaceMaker (sentry/kernel/nsproxy.h).
#ifndef RINGWALL_SENTRY_AUTH_NAMESPACE_H_
#define RINGWALL_SENTRY_AUTH_NAMESPACE_H_

#include <cstdint>

#include "sentry/base/ref.h"
#include "sentry/base/result.h"

namespace ringwall {

class UserNamespace;

enum class NamespaceKind : uint8_t { kUser, kMount, kUts, kIpc, kPid, kNet, kCgroup };
inline constexpr int kNamespaceKinds = 7;

class Namespace : public RefCounted<Namespace> {
 public:
  NamespaceKind kind() const { return kind_; }
  // Unique in the sandbox; those of Linux's own first namespaces for the first ones.
  uint64_t number() const { return number_; }
  // Capabilities over what this namespace holds are looked up here. For a user namespace: itself.
  UserNamespace& user_ns() const { return *user_ns_; }
  // "mnt", as in "mnt:[4026531841]".
  const char* name() const;
  // CLONE_NEW*.
  uint64_t clone_flag() const;

 protected:
  // A null owner means the namespace itself is the user namespace. Counts against the owner's
  // limit (user.max_*_namespaces) when made by New...().
  Namespace(NamespaceKind kind, RefPtr<UserNamespace> owner, bool first);
  ~Namespace() override;

 private:
  friend class UserNamespace;
  const NamespaceKind kind_;
  const uint64_t number_;
  UserNamespace* user_ns_;
  const RefPtr<UserNamespace> owner_ref_;
};

// One that nothing is kept in: of cgroups, where the root is all that a guest ever sees.
class PlainNamespace final : public Namespace {
 public:
  // Preconditions: the owner was charged unless this is the first one.
  PlainNamespace(NamespaceKind kind, RefPtr<UserNamespace> owner, bool first)
      : Namespace(kind, std::move(owner), first), counted_(!first) {}
  ~PlainNamespace() override;

 private:
  const bool counted_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_AUTH_NAMESPACE_H_
