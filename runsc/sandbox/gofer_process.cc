#include "runsc/sandbox/gofer_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "runsc/boot/boot.h"
#include "runsc/sandbox/gofer_entry.h"
#include "runsc/sandbox/namespaces.h"
#include "runsc/sandbox/privileges.h"
#include "sentry/base/log.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

constexpr uint64_t Cap(int number) { return uint64_t{1} << number; }
// What a root gofer needs to act for any user on files, and nothing else.
constexpr uint64_t kReadCaps = Cap(CAP_DAC_READ_SEARCH);
constexpr uint64_t kWriteCaps = kReadCaps | Cap(CAP_DAC_OVERRIDE) | Cap(CAP_CHOWN) |
                                Cap(CAP_FOWNER) | Cap(CAP_FSETID) | Cap(CAP_SETFCAP);

// A tree of the host as a mount that hangs nowhere, so that ".." ends at its root and no later
// mount of the host appears in it. -1 where mounts are not granted.
UniqueFd CloneTree(const char* path, bool recursive, bool read_only) {
  const unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  UniqueFd tree(static_cast<int>(
      syscall(SYS_open_tree, AT_FDCWD, path, flags | (recursive ? AT_RECURSIVE : 0))));
  if (!tree && !recursive && errno == EINVAL) {
    // Mounts below that a less privileged namespace must not uncover: they come along.
    tree.reset(static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, path, flags | AT_RECURSIVE)));
  }
  if (!tree || !read_only) return tree;
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
              sizeof(attributes)) != 0) {
    RW_LOG(kDebug, "gofer: %s is read-only by the gofer's word alone", path);
  }
  return tree;
}

HostResult<std::vector<GoferEntryRoot>> OpenRoots(const GoferProcessOptions& options,
                                                  bool own_mounts) {
  std::vector<GoferEntryRoot> roots;
  for (const GoferRoot& root : options.roots) {
    UniqueFd fd;
    if (own_mounts) fd = CloneTree(root.path.c_str(), root.recursive, root.read_only);
    if (!fd) fd.reset(::open(root.path.c_str(), O_PATH | O_CLOEXEC));
    if (!fd) return HostError::Last("open the files to share at", root.path);
    roots.push_back({std::move(fd), root.read_only, root.nameless, root.access});
  }
  return roots;
}

[[noreturn]] void RunGofer(const GoferProcessOptions& options, UniqueFd connection, int status_fd,
                           Layers layers) {
  DieWithParent();
  prctl(PR_SET_NAME, "runsc-gofer", 0, 0, 0);
  LogConfig logging = GetLogConfig();
  logging.process = "gofer";
  SetLogConfig(logging);
  StatusPipe status(status_fd);

  if (options.own_namespaces) layers.Hold(Layer::kPidNamespace);
  const bool own_mounts = UnshareMounts(layers);
  HostResult<std::vector<GoferEntryRoot>> roots = OpenRoots(options, own_mounts);
  if (!roots.ok()) {
    status.Fail(128, roots.error().message().c_str());
    _exit(1);
  }
  // Bound alone: below /proc/self/fd nothing else of the host's /proc can be named.
  UniqueFd proc;
  if (own_mounts) proc = CloneTree("/proc/self/fd", false, false);
  if (!proc) proc.reset(::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  EnterEmptyRoot(layers);

  const bool writes = std::any_of(options.roots.begin(), options.roots.end(),
                                  [](const GoferRoot& r) { return !r.read_only && !r.nameless; });
  const bool stores = std::any_of(options.roots.begin(), options.roots.end(),
                                  [](const GoferRoot& r) { return r.nameless; });
  uint64_t caps = writes ? kWriteCaps : kReadCaps;
  if (stores) caps |= Cap(CAP_DAC_OVERRIDE);  // the directory may be another user's
  LimitResources(layers, options.max_files);
  GiveUpPrivileges(geteuid() != 0 ? 0 : caps, false, {}, layers);
  // Root of a user namespace is an ordinary user to the host.
  if (layers.held(Layer::kUserNamespace) || geteuid() != 0) {
    layers.Hold(Layer::kUnprivilegedUser);
  } else {
    layers.Miss(Layer::kUnprivilegedUser, EPERM);
  }
  layers.Hold(Layer::kSeccomp);  // GoferMain does not serve without

  std::vector<int> keep = {connection.get(), proc.get(), logging.fd};
  for (const GoferEntryRoot& root : *roots) keep.push_back(root.fd.get());
  if (options.strict && !layers.all_held()) {
    status.Fail(128, ("--strict: the gofer lacks: " + layers.Missing()).c_str());
    _exit(1);
  }
  layers.Log("gofer");
  CloseAllBut(options.null_fd, std::move(keep));
  _exit(GoferEntry({std::move(connection), std::move(*roots), std::move(proc), options.strict}));
}

}  // namespace

HostResult<pid_t> StartGofer(const GoferProcessOptions& options, UniqueFd connection,
                             int status_fd, Layers world) {
  const pid_t pid = CloneProcess(options.own_namespaces ? CLONE_NEWPID : 0);
  if (pid < 0) return HostError::Last("start the gofer");
  if (pid == 0) RunGofer(options, std::move(connection), status_fd, world);
  return pid;
}

}  // namespace ringwall
