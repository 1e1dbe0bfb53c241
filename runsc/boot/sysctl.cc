#include "runsc/boot/sysctl.h"

#include <fcntl.h>

#include "fs/proc/proc.h"
#include "fs/vfs/io.h"
#include "fs/vfs/vfs.h"
#include "sentry/base/log.h"
#include "sentry/kernel/acting_task.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

// "kernel.shm_rmid_forced" or "net/ipv4/conf/eth0.1/...": the first separator decides, as for
// sysctl(8).
std::string SysctlPath(const std::string& name) {
  std::string path = name;
  const size_t first = path.find_first_of("./");
  if (first != std::string::npos && path[first] == '.') {
    for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  }
  return "/sys/" + path;
}

bool IsMissing(Errno error) { return error.Is(ENOENT) || error.Is(ENOTDIR); }

Result<void> SetOne(const Walk& walk, const BootSysctl& sysctl) {
  Ref<File> file = TRY(Vfs::Open(walk, SysctlPath(sysctl.name), O_WRONLY, 0, nullptr));
  SpanSrc bytes(std::as_bytes(std::span(sysctl.value.data(), sysctl.value.size())));
  uint64_t position = 0;
  TRY(file->Write(bytes, &position, 0));
  return {};
}

}  // namespace

HostResult<void> SetSysctls(Kernel& kernel, ThreadGroup& init, std::vector<BootSysctl>* sysctls) {
  if (sysctls->empty()) return {};
  Task* leader;
  {
    MutexLock lock(kernel.tasks().mu);
    leader = init.leader;
  }
  const ActingTask acting(*leader);
  // A /proc of our own: the container's may be read-only, masked or not there.
  Ref<MountNamespace> stage =
      MakeRef<MountNamespace>(Mount::Make(NewProcFs(kernel, Ref<PidNamespace>(leader->pid_ns())), 0, "proc"));
  Ref<const Credentials> creds = leader->creds_ref();
  const Walk walk{*creds, *stage, stage->root(), stage->root(), leader};
  std::vector<BootSysctl> left;
  for (BootSysctl& sysctl : *sysctls) {
    Result<void> set = SetOne(walk, sysctl);
    if (set.ok()) continue;
    if (!IsMissing(set.error())) {
      return HostError::WithErrno(set.error().value(), "config.json: linux.sysctl: set",
                                  sysctl.name + " to \"" + sysctl.value + "\"");
    }
    left.push_back(std::move(sysctl));
  }
  *sysctls = std::move(left);
  return {};
}

void WarnOfSysctls(const std::vector<BootSysctl>& sysctls) {
  // Engines set some by default, whatever the kernel has.
  for (const BootSysctl& sysctl : sysctls) {
    RW_LOG(kWarning, "config.json: linux.sysctl: %s is not there and has no effect",
           sysctl.name.c_str());
  }
}

}  // namespace ringwall
