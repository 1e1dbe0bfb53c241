#include "sentry/auth/credentials.h"

#include <sys/stat.h>

#include <algorithm>

namespace ringwall {

Credentials::Credentials() : user_ns_(UserNamespace::Initial()) {}

// security/commoncap.c:cap_capable.
bool Credentials::HasIn(const UserNamespace& target, Capability c) const {
  for (const UserNamespace* ns = &target;; ns = ns->parent()) {
    if (ns == &user_ns()) return HasOwn(c);
    // Not below us, so no ancestor of it is either.
    if (ns->level() <= user_ns_->level()) return false;
    // Whoever owns a namespace has all capabilities in it.
    if (ns->parent() == &user_ns() && ns->owner() == euid) return true;
  }
}

void Credentials::EnterUserNamespace(Ref<UserNamespace> ns) {
  user_ns_ = std::move(ns);
  securebits = 0;
  cap_inheritable = cap_ambient = 0;
  cap_permitted = cap_effective = cap_bounding = kAllCapabilities;
}

bool Credentials::InGroup(Gid gid) const {
  return fsgid == gid || std::find(groups.begin(), groups.end(), gid) != groups.end();
}

Ref<Credentials> Credentials::Copy() const {
  Ref<Credentials> c = MakeRef<Credentials>();
  c->ruid = ruid, c->euid = euid, c->suid = suid, c->fsuid = fsuid;
  c->rgid = rgid, c->egid = egid, c->sgid = sgid, c->fsgid = fsgid;
  c->groups = groups;
  c->cap_inheritable = cap_inheritable, c->cap_permitted = cap_permitted;
  c->cap_effective = cap_effective, c->cap_bounding = cap_bounding, c->cap_ambient = cap_ambient;
  c->securebits = securebits;
  c->no_new_privs = no_new_privs;
  c->user_ns_ = user_ns_;
  return c;
}

Ref<const Credentials> Credentials::Root() {
  Ref<Credentials> c = MakeRef<Credentials>();
  c->cap_permitted = c->cap_effective = kAllCapabilities;
  return c;
}

bool MayAccess(const Credentials& creds, uint32_t mode, Uid uid, Gid gid, uint32_t want) {
  uint32_t granted;
  if (creds.fsuid == uid) {
    granted = (mode >> 6) & 7;
  } else if (creds.InGroup(gid)) {
    granted = (mode >> 3) & 7;
  } else {
    granted = mode & 7;
  }
  return (want & ~granted) == 0 || MayOverride(creds, mode, uid, gid, want);
}

bool MayOverride(const Credentials& creds, uint32_t mode, Uid uid, Gid gid, uint32_t want) {
  if (S_ISDIR(mode)) {
    if ((want & kMayWrite) == 0 && creds.HasOver(uid, gid, Capability::kDacReadSearch)) return true;
    return creds.HasOver(uid, gid, Capability::kDacOverride);
  }
  if (want == kMayRead && creds.HasOver(uid, gid, Capability::kDacReadSearch)) return true;
  // Root may not execute what nobody may execute.
  if ((want & kMayExec) == 0 || (mode & 0111) != 0) return creds.HasOver(uid, gid, Capability::kDacOverride);
  return false;
}

}  // namespace ringwall
