// NsProxy: the namespaces of a task but for its user namespace, which is in its credentials, and its
// own pid namespace, which is in its Pid (struct nsproxy). clone, unshare and setns make a new one.
#ifndef RINGWALL_SENTRY_KERNEL_NSPROXY_H_
#define RINGWALL_SENTRY_KERNEL_NSPROXY_H_

#include <sched.h>

#include "fs/vfs/mount.h"
#include "sentry/auth/credentials.h"
#include "sentry/kernel/fs_context.h"
#include "sentry/kernel/pid_namespace.h"

namespace ringwall {

class File;
class Kernel;
class UtsNamespace;

inline constexpr uint64_t kCloneNamespaces =
    CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
    CLONE_NEWCGROUP;
// That of a kernel that has it; here it is refused with EINVAL.
inline constexpr uint64_t kCloneMissingNamespaces = 0x80;  // CLONE_NEWTIME

struct NsProxy {
  RefPtr<MountNamespace> mounts;
  RefPtr<UtsNamespace> uts;
  RefPtr<Namespace> ipc, net;  // static_cast to what the maker made
  RefPtr<Namespace> cgroup;    // a PlainNamespace
  RefPtr<PidNamespace> pid_for_children;

  // With fresh ones for the bits of `flags` (CLONE_NEW*, user not among them). When the mount
  // namespace is one of them, root and cwd of `fs` move into it. EPERM, ENOSPC.
  Result<NsProxy> Copy(Kernel& kernel, uint64_t flags, const Credentials& creds,
                       FsContext& fs) const;
};

// The file that /proc/PID/ns/* leads to.
Path NamespacePath(Ref<Namespace> ns);
// The namespace of such a file, or null.
RefPtr<Namespace> NamespaceOf(File& file);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_NSPROXY_H_
