#include "runsc/sandbox/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace ringwall {

namespace {

void BecomeNobody(const IdMaps& maps, Layers& layers) {
  if (geteuid() != 0) {
    layers.Hold(Layer::kUnprivilegedUser);
    return;
  }
  if (!maps.has_nobody) {
    layers.Miss(Layer::kUnprivilegedUser, EINVAL);
    return;
  }
  // The raw calls: this process has one thread, and glibc's would signal others.
  if (syscall(SYS_setgroups, 0, nullptr) == 0 &&
      syscall(SYS_setresgid, kNobody, kNobody, kNobody) == 0 &&
      syscall(SYS_setresuid, kNobody, kNobody, kNobody) == 0) {
    layers.Hold(Layer::kUnprivilegedUser);
  } else {
    layers.Miss(Layer::kUnprivilegedUser, errno);
  }
}

}  // namespace

void GiveUpPrivileges(uint64_t keep, bool become_nobody, const IdMaps& maps, Layers& layers) {
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  for (int cap = 0; cap <= 63; cap++) {
    if ((keep >> cap & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 && errno == EINVAL) {
      break;  // the host's last capability is passed
    }
  }
  if (become_nobody) BecomeNobody(maps, layers);
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  syscall(SYS_capget, &header, data);
  for (int half = 0; half < 2; half++) {
    data[half].permitted &= static_cast<uint32_t>(keep >> (32 * half));
    data[half].effective = data[half].permitted;
    data[half].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, data) == 0) {
    layers.Hold(Layer::kNoCapabilities);
  } else {
    layers.Miss(Layer::kNoCapabilities, errno);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) {
    layers.Hold(Layer::kNoNewPrivs);
  } else {
    layers.Miss(Layer::kNoNewPrivs, errno);
  }
}

void RaiseLimits() {
  for (const __rlimit_resource resource : {RLIMIT_AS, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_MEMLOCK,
                                           RLIMIT_NPROC, RLIMIT_STACK}) {
    rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    // The main thread's stack would only move where mappings go.
    if (resource != RLIMIT_STACK && setrlimit(resource, &limit) == 0) continue;
    if (getrlimit(resource, &limit) != 0) continue;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(resource, &limit);
  }
}

void LimitResources(Layers& layers, int64_t max_files) {
  rlimit files;
  bool ok = getrlimit(RLIMIT_NOFILE, &files) == 0;
  if (max_files >= 0) files.rlim_max = std::min(files.rlim_max, static_cast<rlim_t>(max_files));
  files.rlim_cur = files.rlim_max;
  ok = ok && setrlimit(RLIMIT_NOFILE, &files) == 0;
  // One byte: a limit of 0 does not stop a core_pattern that is a pipe.
  const rlimit no_core = {1, 1}, none = {0, 0};
  // The caller's own hard limit may be 0.
  ok = ok && (setrlimit(RLIMIT_CORE, &no_core) == 0 || setrlimit(RLIMIT_CORE, &none) == 0);
  ok = ok && setrlimit(RLIMIT_MSGQUEUE, &none) == 0;
  if (ok) {
    layers.Hold(Layer::kLimits);
  } else {
    layers.Miss(Layer::kLimits, errno);
  }
}

void DieWithParent() { prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); }

void CloseAllBut(int null, std::vector<int> keep) {
  for (int fd = 0; fd <= 2; fd++) {
    dup2(null, fd);
    keep.push_back(fd);
  }
  std::sort(keep.begin(), keep.end());
  unsigned next = 0;
  for (const int fd : keep) {
    if (fd < 0 || static_cast<unsigned>(fd) < next) continue;
    if (static_cast<unsigned>(fd) > next) {
      syscall(SYS_close_range, next, static_cast<unsigned>(fd) - 1, 0);
    }
    next = static_cast<unsigned>(fd) + 1;
  }
  if (syscall(SYS_close_range, next, ~0U, 0) != 0) {  // Linux before 5.9
    for (unsigned fd = 0; fd < 4096; fd++) {
      if (!std::binary_search(keep.begin(), keep.end(), static_cast<int>(fd))) {
        ::close(static_cast<int>(fd));
      }
    }
  }
}

}  // namespace ringwall
