#include "sentry/auth/namespace.h"

#include <sched.h>

#include "sentry/auth/user_namespace.h"
#include "sentry/base/check.h"

namespace ringwall {

namespace {

std::atomic<uint64_t> next_number{4026532177};

struct KindRow {
  const char* name;
  uint64_t clone_flag;
  uint64_t first_number;  // include/linux/proc_ns.h; the mount namespace's is the next after them
};
constexpr KindRow kKinds[kNamespaceKinds] = {
    {"user", CLONE_NEWUSER, 4026531837}, {"mnt", CLONE_NEWNS, 4026531841},
    {"uts", CLONE_NEWUTS, 4026531838},   {"ipc", CLONE_NEWIPC, 4026531839},
    {"pid", CLONE_NEWPID, 4026531836},   {"net", CLONE_NEWNET, 4026531840},
    {"cgroup", CLONE_NEWCGROUP, 4026531835},
};

const KindRow& RowOf(NamespaceKind kind) { return kKinds[static_cast<size_t>(kind)]; }

}  // namespace

Namespace::Namespace(NamespaceKind kind, RefPtr<UserNamespace> owner, bool first)
    : kind_(kind),
      number_(first ? RowOf(kind).first_number : next_number.fetch_add(1)),
      user_ns_(owner.get()),
      owner_ref_(std::move(owner)) {}

Namespace::~Namespace() = default;

const char* Namespace::name() const { return RowOf(kind_).name; }
uint64_t Namespace::clone_flag() const { return RowOf(kind_).clone_flag; }

PlainNamespace::~PlainNamespace() {
  if (counted_) user_ns().Uncharge(kind());
}

}  // namespace ringwall
