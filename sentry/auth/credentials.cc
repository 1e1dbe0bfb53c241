#include "sentry/auth/credentials.h"

#include <sys/stat.h>

#include <algorithm>

namespace ringwall {

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
  if ((want & ~granted) == 0) return true;
  if (S_ISDIR(mode)) {
    if ((want & kMayWrite) == 0 && creds.Has(Capability::kDacReadSearch)) return true;
    return creds.Has(Capability::kDacOverride);
  }
  if (want == kMayRead && creds.Has(Capability::kDacReadSearch)) return true;
  // Root may not execute what nobody may execute.
  if ((want & kMayExec) == 0 || (mode & 0111) != 0) return creds.Has(Capability::kDacOverride);
  return false;
}

}  // namespace ringwall
