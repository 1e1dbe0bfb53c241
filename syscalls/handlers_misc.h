// The system calls around the edges of the kernel: settings, policies, administration. As handlers.h,
// which has the rest.
#ifndef RINGWALL_SYSCALLS_HANDLERS_MISC_H_
#define RINGWALL_SYSCALLS_HANDLERS_MISC_H_

#include "syscalls/args.h"

namespace ringwall {

// A call that is there for whoever holds `kCap` only, and of which this kernel has no more than that
// check: EPERM without the capability, `kError` with it.
template <Capability kCap, int kError>
SysResult Privileged(Task& t, const RawArgs&) {
  return Errno(t.creds().Has(kCap) ? kError : EPERM);
}

// sys_admin.cc
SysResult SysPersonality(Task& t, uint32_t persona);
SysResult SysMembarrier(Task& t, int cmd, uint32_t flags, int cpu);
SysResult SysSyslog(Task& t, int type, GuestAddr buf, int length);
SysResult SysReboot(Task& t, uint32_t magic1, uint32_t magic2, uint32_t cmd, GuestAddr arg);
SysResult SysSysfs(Task& t, int option, uint64_t arg1, uint64_t arg2);
SysResult SysUstat(Task& t, uint32_t dev, GuestAddr out);
SysResult SysSettimeofday(Task& t, GuestAddr tv, GuestAddr tz);
SysResult SysAdjtimex(Task& t, GuestAddr timex);
SysResult SysClockAdjtime(Task& t, int clock, GuestAddr timex);
SysResult SysUretprobe(Task& t);
SysResult SysAcct(Task& t, UserPath path);
SysResult SysQuotactl(Task& t, uint32_t cmd, UserPath special, int id, GuestAddr addr);

// sys_dir.cc
SysResult SysGetdents(Task& t, int fd, GuestAddr buf, uint32_t size);

// sys_handle.cc
SysResult SysNameToHandleAt(Task& t, int dirfd, UserPath path, GuestAddr handle, GuestAddr mount_id,
                            int flags);
SysResult SysOpenByHandleAt(Task& t, int mount_fd, GuestAddr handle, int flags);

// sys_ioprio.cc
SysResult SysIoprioSet(Task& t, int which, int who, int ioprio);
SysResult SysIoprioGet(Task& t, int which, int who);

// sys_mempolicy.cc
SysResult SysMbind(Task& t, GuestAddr start, uint64_t length, uint64_t mode, GuestAddr nodes,
                   uint64_t max_node, uint32_t flags);
SysResult SysSetMempolicy(Task& t, int mode, GuestAddr nodes, uint64_t max_node);
SysResult SysGetMempolicy(Task& t, GuestAddr mode, GuestAddr nodes, uint64_t max_node,
                          GuestAddr addr, uint64_t flags);
SysResult SysMigratePages(Task& t, int pid, uint64_t max_node, GuestAddr from, GuestAddr to);
SysResult SysMovePages(Task& t, int pid, uint64_t count, GuestAddr pages, GuestAddr nodes,
                       GuestAddr status, int flags);
SysResult SysSetMempolicyHomeNode(Task& t, GuestAddr start, uint64_t length, uint64_t node,
                                  uint64_t flags);

// sys_mm_more.cc
SysResult SysPkeyMprotect(Task& t, GuestAddr addr, uint64_t length, int prot, int pkey);
SysResult SysPkeyAlloc(Task& t, uint64_t flags, uint64_t rights);
SysResult SysPkeyFree(Task& t, int pkey);
SysResult SysProcessMadvise(Task& t, int pidfd, GuestAddr iov, uint64_t count, int advice,
                            uint32_t flags);
SysResult SysProcessMrelease(Task& t, int pidfd, uint32_t flags);
SysResult SysCachestat(Task& t, int fd, GuestAddr range, GuestAddr out, uint32_t flags);

// sys_prctl.cc: the options that sys_misc.cc does not know.
// PR_SET_SYSCALL_USER_DISPATCH, also for a tracer's stopped tracee. EINVAL, EFAULT.
Result<void> SetSyscallDispatch(Task& target, uint64_t mode, uint64_t offset, uint64_t length,
                                uint64_t selector);
SysResult PrctlMore(Task& t, int option, uint64_t arg2, uint64_t arg3, uint64_t arg4,
                    uint64_t arg5);

// sys_rseq.cc
SysResult SysRseq(Task& t, GuestAddr area, uint32_t length, int flags, uint32_t signature);

// sys_sched.cc
SysResult SysSchedSetattr(Task& t, int pid, GuestAddr attr, uint32_t flags);
SysResult SysSchedGetattr(Task& t, int pid, GuestAddr attr, uint32_t size, uint32_t flags);

}  // namespace ringwall

#endif  // RINGWALL_SYSCALLS_HANDLERS_MISC_H_
