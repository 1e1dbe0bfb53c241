#include "runsc/sandbox/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

HostResult<std::string> ReadSmallFile(const char* path) {
  UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) return HostError::Last("open", path);
  std::string text(4096, '\0');
  const ssize_t n = RetryEintr([&] { return ::read(fd.get(), text.data(), text.size()); });
  if (n < 0) return HostError::Last("read", path);
  text.resize(static_cast<size_t>(n));
  return text;
}

HostResult<void> WriteSmallFile(const std::string& path, const std::string& text) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return HostError::Last("open", path);
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return HostError::Last("write", path);
  }
  return {};
}

// Turns "inside outside count" lines into "inside inside count": what the parent calls an id, the
// child calls the same.
HostResult<std::string> IdentityOf(const char* path, bool* has_nobody) {
  std::string text = TRY(ReadSmallFile(path));
  std::string out;
  for (const char* line = text.c_str(); *line != '\0';) {
    unsigned long long inside = 0, outside = 0, count = 0;
    int used = 0;
    if (sscanf(line, "%llu %llu %llu %n", &inside, &outside, &count, &used) != 3) break;
    char identity[80];
    snprintf(identity, sizeof(identity), "%llu %llu %llu\n", inside, inside, count);
    out += identity;
    *has_nobody |= inside <= kNobody && kNobody < inside + count;
    line += used;
  }
  return out;
}

// A tmpfs of its own, mounted over "/" and entered; the host's mounts go.
bool PivotToTmpfs() {
  UniqueFd context(static_cast<int>(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)));
  if (!context) return false;
  const auto set = [&](const char* key, const char* value) {
    return syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, key, value, 0) == 0;
  };
  if (!set("mode", "0555") || !set("nr_inodes", "2") || !set("size", "4096")) return false;
  if (syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return false;
  }
  UniqueFd mount(static_cast<int>(
      syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC,
              MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)));
  if (!mount) return false;
  if (syscall(SYS_move_mount, mount.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return false;
  }
  if (fchdir(mount.get()) != 0) return false;
  // pivot_root(2): with both arguments "." the old root ends up on top of the new one.
  if (syscall(SYS_pivot_root, ".", ".") == 0) {
    return umount2(".", MNT_DETACH) == 0 && chdir("/") == 0;
  }
  // The host runs from its initial ramfs, which cannot be pivoted away.
  return chroot(".") == 0 && chdir("/") == 0;
}

// Needs CAP_SYS_CHROOT only. Nothing can be created in a removed directory.
bool ChrootToRemovedDirectory() {
  char path[] = "/tmp/.runsc-root-XXXXXX";
  if (mkdtemp(path) == nullptr) return false;
  UniqueFd directory(::open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
  const bool removed = rmdir(path) == 0;
  return removed && directory.valid() && fchdir(directory.get()) == 0 && chroot(".") == 0 &&
         chdir("/") == 0;
}

}  // namespace

pid_t CloneProcess(uint64_t namespace_flags, int cgroup) {
  const pid_t caller = gettid();
  pid_t pid;
  if (cgroup >= 0) {
    clone_args args = {};
    args.flags = namespace_flags | CLONE_INTO_CGROUP;
    args.exit_signal = SIGCHLD;
    args.cgroup = static_cast<uint64_t>(cgroup);
    pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
  } else {
    pid = static_cast<pid_t>(
        syscall(SYS_clone, namespace_flags | SIGCHLD, nullptr, nullptr, nullptr, 0));
  }
  if (pid == 0) {
    // fork() would tell libc the thread's new number; a bare clone does not, and calls on "this
    // thread" then name one that is not there. glibc keeps the number at this place of its thread
    // block; where the caller's is not found there, nothing is changed.
    constexpr size_t kTidOffset = 0x2d0;
    int* const known =
        reinterpret_cast<int*>(static_cast<char*>(__builtin_thread_pointer()) + kTidOffset);
    if (*known == caller) *known = static_cast<int>(syscall(SYS_gettid));
  }
  return pid;
}

HostResult<IdMaps> IdMaps::Identity(bool privileged) {
  IdMaps maps;
  if (privileged) {
    bool uid_nobody = false, gid_nobody = false;
    maps.uid_map = TRY(IdentityOf("/proc/self/uid_map", &uid_nobody));
    maps.gid_map = TRY(IdentityOf("/proc/self/gid_map", &gid_nobody));
    maps.has_nobody = uid_nobody && gid_nobody;
    return maps;
  }
  const std::string uid = std::to_string(geteuid()), gid = std::to_string(getegid());
  maps.uid_map = uid + " " + uid + " 1\n";
  maps.gid_map = gid + " " + gid + " 1\n";
  maps.deny_setgroups = true;
  return maps;
}

HostResult<void> WriteIdMaps(pid_t child, const IdMaps& maps) {
  const std::string directory = "/proc/" + std::to_string(child) + "/";
  if (maps.deny_setgroups) TRY(WriteSmallFile(directory + "setgroups", "deny"));
  TRY(WriteSmallFile(directory + "uid_map", maps.uid_map));
  TRY(WriteSmallFile(directory + "gid_map", maps.gid_map));
  return {};
}

void UnshareWorld(bool net, Layers& layers) {
  constexpr std::pair<int, Layer> kEach[] = {{CLONE_NEWNET, Layer::kNetNamespace},
                                             {CLONE_NEWIPC, Layer::kIpcNamespace},
                                             {CLONE_NEWUTS, Layer::kUtsNamespace},
                                             {CLONE_NEWCGROUP, Layer::kCgroupNamespace}};
  int all = 0;
  for (const auto& [flag, layer] : kEach) {
    if (net || flag != CLONE_NEWNET) all |= flag;
  }
  const bool at_once = unshare(all) == 0;
  for (const auto& [flag, layer] : kEach) {
    if (at_once || (!net && flag == CLONE_NEWNET) || unshare(flag) == 0) {
      layers.Hold(layer);
    } else {
      layers.Miss(layer, errno);
    }
  }
}

bool UnshareMounts(Layers& layers) {
  if (unshare(CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    layers.Miss(Layer::kMountNamespace, errno);
    return false;
  }
  layers.Hold(Layer::kMountNamespace);
  return true;
}

void EnterEmptyRoot(Layers& layers) {
  if ((layers.held(Layer::kMountNamespace) && PivotToTmpfs()) || ChrootToRemovedDirectory()) {
    layers.Hold(Layer::kEmptyRoot);
  } else {
    layers.Miss(Layer::kEmptyRoot, errno);
  }
}

}  // namespace ringwall
