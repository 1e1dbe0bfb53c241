#include "sentry/ipc/ipc_ids.h"

#include "sentry/ipc/ipc_namespace.h"

namespace ringwall {

IpcPermAbi ToAbi(const IpcPerm& perm, const UserNamespace& viewer) {
  IpcPermAbi abi = {};
  abi.key = perm.key;
  abi.uid = viewer.ShowUid(perm.uid);
  abi.gid = viewer.ShowGid(perm.gid);
  abi.cuid = viewer.ShowUid(perm.cuid);
  abi.cgid = viewer.ShowGid(perm.cgid);
  abi.mode = perm.mode;
  abi.seq = static_cast<uint16_t>(perm.id >> kIpcIdShift);
  return abi;
}

Result<void> CheckIpcAccess(const Credentials& creds, const IpcPerm& perm, uint32_t flag) {
  const uint32_t wanted = (flag >> 6 | flag >> 3 | flag) & 7;
  uint32_t granted = perm.mode;
  if (creds.euid == perm.cuid || creds.euid == perm.uid) {
    granted >>= 6;
  } else if (creds.InGroup(perm.cgid) || creds.InGroup(perm.gid)) {
    granted >>= 3;
  }
  if ((wanted & ~granted & 7) != 0 && !creds.HasIn(*perm.user_ns, Capability::kIpcOwner)) {
    return Errno(EACCES);
  }
  return {};
}

Result<void> CheckIpcOwner(const Credentials& creds, const IpcPerm& perm) {
  if (creds.euid == perm.cuid || creds.euid == perm.uid ||
      creds.HasIn(*perm.user_ns, Capability::kSysAdmin)) {
    return {};
  }
  return Errno(EPERM);
}

Result<void> SetIpcOwner(IpcPerm* perm, const IpcPermAbi& from, const UserNamespace& setter) {
  const std::optional<Uid> uid = setter.UidIn(from.uid);
  const std::optional<Gid> gid = setter.GidIn(from.gid);
  if (!uid || !gid) return Errno(EINVAL);
  perm->uid = *uid;
  perm->gid = *gid;
  perm->mode = (perm->mode & ~0777u) | (from.mode & 0777);
  return {};
}

Result<Ref<Namespace>> IpcNamespace::Make(Kernel&, Ref<UserNamespace> owner, bool first) {
  return Ref<Namespace>(MakeRef<IpcNamespace>(std::move(owner), first));
}

IpcNamespace::IpcNamespace(Ref<UserNamespace> owner, bool first)
    : Namespace(NamespaceKind::kIpc, std::move(owner), first), usage(MakeRef<IpcUsage>()) {}

IpcNamespace::~IpcNamespace() {
  for (const Ref<SemSet>& set : sems.List()) {
    MutexLock lock(set->mu);
    set->RemoveLocked();
  }
  for (const Ref<ShmSegment>& segment : segments.List()) segment->Orphan();
  IpcNamespacePart* mqueue = nullptr;
  {
    MutexLock lock(mu_);
    mqueue = std::exchange(mqueue_, nullptr);
  }
  if (mqueue == nullptr) return;
  mqueue->Detach();
  mqueue->counted().Release();
}

}  // namespace ringwall
