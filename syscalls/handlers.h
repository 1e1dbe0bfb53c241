// The system calls that have a handler, by file. Each is documented by its manual page; what is not as
// on Linux is said in its row of the table (table_x86_64.cc).
#ifndef RINGWALL_SYSCALLS_HANDLERS_H_
#define RINGWALL_SYSCALLS_HANDLERS_H_

#include "syscalls/args.h"

namespace ringwall {

// struct rusage.
struct RusageAbi {
  int64_t utime_sec, utime_usec, stime_sec, stime_usec;
  int64_t maxrss, ixrss, idrss, isrss, minflt, majflt, nswap, inblock, oublock, msgsnd, msgrcv,
      nsignals, nvcsw, nivcsw;
};
static_assert(sizeof(RusageAbi) == 144);
RusageAbi ToAbi(const Rusage& r);
// Of all threads, those gone too. TaskSet's lock held.
Rusage ProcessRusageLocked(const ThreadGroup& tg);
int ProcessGroupOf(Task& t);
// Ids as the task's user namespace shows them, and taken from there: EINVAL when not mapped.
uint32_t ShowUid(const Task& t, Uid uid);
uint32_t ShowGid(const Task& t, Gid gid);
Result<Uid> TakeUid(const Task& t, uint32_t here);
Result<Gid> TakeGid(const Task& t, uint32_t here);
void MoveToGroupLocked(TaskSet& set, ThreadGroup& tg, RefPtr<ProcessGroup> to) REQUIRES(set.mu);
// A relative struct timespec as a point of CLOCK_MONOTONIC. EFAULT, EINVAL.
Result<int64_t> DeadlineFromTimespec(Task& t, GuestAddr addr);
// What limits the memory map of the caller.
MemoryLimits LimitsOf(Task& t);
// RLIMIT_FSIZE was exceeded: SIGXFSZ and EFBIG.
SysResult FileTooBig(Task& t);
SysResult PutWaitInfo(Task& t, const WaitResult& r, GuestAddr infop, GuestAddr rusage);
// fcntl's and flock's locks (sys_lock.cc).
SysResult FcntlLock(Task& t, File& file, int cmd, GuestAddr lock);
// operation was checked: LOCK_SH, LOCK_EX or LOCK_UN, perhaps with LOCK_NB.
SysResult Flock(Task& t, File& file, int operation);
// A terminal that a session leader opens without O_NOCTTY becomes its controlling one.
// FS_IOC_GETFLAGS and the like; nullopt for other commands and files.
std::optional<SysResult> FileBlocksIoctl(Task& t, File& file, uint32_t cmd, uint64_t arg);
std::optional<SysResult> FileFlagsIoctl(Task& t, File& file, uint32_t cmd, uint64_t arg);
void OpenedTerminal(Task& t, File& file, uint32_t flags);
// Sleeps while a lease holds up what Vfs::Open or Truncate was asked for.
Result<void> WaitForLease(Task& t, const LeaseWait& wait);


// sys_dir.cc
SysResult SysGetdents64(Task& t, int fd, GuestAddr buf, uint32_t size);

// sys_futex.cc
SysResult SysFutex(Task& t, GuestAddr addr, int op, uint32_t val, GuestAddr timeout,
                   GuestAddr addr2, uint32_t val3);
SysResult SysFutexWaitv(Task& t, GuestAddr waiters_addr, uint32_t n, uint32_t flags,
                        GuestAddr timeout, int clock);

// sys_ptrace.cc
SysResult SysPtrace(Task& t, int64_t request, int64_t pid, uint64_t addr, uint64_t data);

// sys_seccomp.cc
SysResult SysSeccomp(Task& t, uint32_t op, uint32_t flags, GuestAddr args);
SysResult PrctlSetSeccomp(Task& t, uint64_t mode, GuestAddr filter);

// sys_process_vm.cc
SysResult SysProcessVmReadv(Task& t, int pid, GuestAddr local, uint64_t local_count,
                            GuestAddr remote, uint64_t remote_count, uint64_t flags);
SysResult SysProcessVmWritev(Task& t, int pid, GuestAddr local, uint64_t local_count,
                             GuestAddr remote, uint64_t remote_count, uint64_t flags);
SysResult SysKcmp(Task& t, int pid1, int pid2, int type, uint64_t index1, uint64_t index2);
SysResult SysPidfdGetfd(Task& t, int pidfd, int fd, uint32_t flags);

// sys_ids.cc
SysResult SysGetpid(Task& t);
SysResult SysGettid(Task& t);
SysResult SysGetppid(Task& t);
SysResult SysGetuid(Task& t);
SysResult SysGeteuid(Task& t);
SysResult SysGetgid(Task& t);
SysResult SysGetegid(Task& t);
SysResult SysGetresuid(Task& t, GuestAddr r, GuestAddr e, GuestAddr s);
SysResult SysGetresgid(Task& t, GuestAddr r, GuestAddr e, GuestAddr s);
SysResult SysSetuid(Task& t, uint32_t uid);
SysResult SysSetgid(Task& t, uint32_t gid);
SysResult SysSetreuid(Task& t, uint32_t r, uint32_t e);
SysResult SysSetregid(Task& t, uint32_t r, uint32_t e);
SysResult SysSetresuid(Task& t, uint32_t r, uint32_t e, uint32_t s);
SysResult SysSetresgid(Task& t, uint32_t r, uint32_t e, uint32_t s);
SysResult SysSetfsuid(Task& t, uint32_t uid);
SysResult SysSetfsgid(Task& t, uint32_t gid);
SysResult SysGetgroups(Task& t, int size, GuestAddr list);
SysResult SysSetgroups(Task& t, int size, GuestAddr list);
SysResult SysCapget(Task& t, GuestAddr header, GuestAddr data);
SysResult SysCapset(Task& t, GuestAddr header, GuestAddr data);
SysResult SysGetpgrp(Task& t);
SysResult SysGetpgid(Task& t, int pid);
SysResult SysGetsid(Task& t, int pid);
SysResult SysSetpgid(Task& t, int pid, int pgid);
SysResult SysSetsid(Task& t);

// sys_inotify.cc
SysResult SysInotifyInit(Task& t);
SysResult SysInotifyInit1(Task& t, int flags);
SysResult SysInotifyAddWatch(Task& t, int fd, UserPath path, uint32_t mask);
SysResult SysInotifyRmWatch(Task& t, int fd, int wd);

// sys_misc.cc
SysResult SysUname(Task& t, GuestAddr out);
SysResult SysSethostname(Task& t, GuestAddr name, int length);
SysResult SysSetdomainname(Task& t, GuestAddr name, int length);
SysResult SysSysinfo(Task& t, GuestAddr out);
SysResult SysGetrlimit(Task& t, uint32_t resource, GuestAddr out);
SysResult SysSetrlimit(Task& t, uint32_t resource, GuestAddr in);
SysResult SysPrlimit64(Task& t, int pid, uint32_t resource, GuestAddr in, GuestAddr out);
SysResult SysGetrandom(Task& t, GuestAddr buf, uint64_t size, uint32_t flags);
SysResult SysArchPrctl(Task& t, int code, GuestAddr arg);
SysResult SysSetTidAddress(Task& t, GuestAddr addr);
SysResult SysSetRobustList(Task& t, GuestAddr head, uint64_t size);
SysResult SysGetRobustList(Task& t, int pid, GuestAddr head, GuestAddr size);
SysResult SysPrctl(Task& t, int option, uint64_t arg2, uint64_t arg3, uint64_t arg4,
                   uint64_t arg5);
SysResult SysGetcpu(Task& t, GuestAddr cpu, GuestAddr node, GuestAddr);

// sys_mm.cc
SysResult SysMmap(Task& t, GuestAddr addr, uint64_t length, int prot, int flags, int fd,
                  uint64_t offset);
SysResult SysMunmap(Task& t, GuestAddr addr, uint64_t length);
SysResult SysMprotect(Task& t, GuestAddr addr, uint64_t length, int prot);
SysResult SysMremap(Task& t, GuestAddr old, uint64_t old_size, uint64_t new_size, int flags,
                    GuestAddr new_addr);
SysResult SysBrk(Task& t, GuestAddr addr);
SysResult SysMadvise(Task& t, GuestAddr addr, uint64_t length, int advice);
SysResult SysMsync(Task& t, GuestAddr addr, uint64_t length, int flags);
SysResult SysMincore(Task& t, GuestAddr addr, uint64_t length, GuestAddr vec);
SysResult SysMlock(Task& t, GuestAddr addr, uint64_t length);
SysResult SysMlock2(Task& t, GuestAddr addr, uint64_t length, int flags);
SysResult SysMunlock(Task& t, GuestAddr addr, uint64_t length);
SysResult SysMlockall(Task& t, int flags);
SysResult SysMunlockall(Task& t);
SysResult SysMseal(Task& t, GuestAddr addr, uint64_t length, uint64_t flags);
SysResult SysRemapFilePages(Task& t, GuestAddr addr, uint64_t length, uint64_t prot,
                            uint64_t pgoff, uint64_t flags);

// sys_mount.cc
SysResult SysMount(Task& t, GuestAddr source, UserPath target, GuestAddr type, uint64_t flags,
                   GuestAddr data);
SysResult SysUmount2(Task& t, UserPath target, int flags);
SysResult SysPivotRoot(Task& t, UserPath new_root, UserPath put_old);

// sys_namespace.cc
SysResult SysUnshare(Task& t, uint64_t flags);
SysResult SysSetns(Task& t, int fd, int type);

// sys_open.cc
SysResult SysOpen(Task& t, UserPath path, int flags, uint32_t mode);
SysResult SysCreat(Task& t, UserPath path, uint32_t mode);
SysResult SysOpenat(Task& t, int dirfd, UserPath path, int flags, uint32_t mode);
SysResult SysOpenat2(Task& t, int dirfd, UserPath path, GuestAddr how_addr, uint64_t size);
SysResult SysClose(Task& t, int fd);
SysResult SysCloseRange(Task& t, uint32_t first, uint32_t last, uint32_t flags);
SysResult SysDup(Task& t, int fd);
SysResult SysDup2(Task& t, int oldfd, int newfd);
SysResult SysDup3(Task& t, int oldfd, int newfd, int flags);
SysResult SysFcntl(Task& t, int fd, int cmd, uint64_t arg);
SysResult SysIoctl(Task& t, int fd, uint32_t cmd, uint64_t arg);
SysResult SysFlock(Task& t, int fd, int operation);

// sys_path.cc
SysResult SysMkdir(Task& t, UserPath path, uint32_t mode);
SysResult SysMkdirat(Task& t, int dirfd, UserPath path, uint32_t mode);
SysResult SysMknod(Task& t, UserPath path, uint32_t mode, uint32_t dev);
SysResult SysMknodat(Task& t, int dirfd, UserPath path, uint32_t mode, uint32_t dev);
SysResult SysRmdir(Task& t, UserPath path);
SysResult SysUnlink(Task& t, UserPath path);
SysResult SysUnlinkat(Task& t, int dirfd, UserPath path, int flags);
SysResult SysSymlink(Task& t, UserPath target, UserPath path);
SysResult SysSymlinkat(Task& t, UserPath target, int dirfd, UserPath path);
SysResult SysLink(Task& t, UserPath from, UserPath to);
SysResult SysLinkat(Task& t, int fromfd, UserPath from, int tofd, UserPath to, int flags);
SysResult SysRename(Task& t, UserPath from, UserPath to);
SysResult SysRenameat(Task& t, int fromfd, UserPath from, int tofd, UserPath to);
SysResult SysRenameat2(Task& t, int fromfd, UserPath from, int tofd, UserPath to, uint32_t flags);
SysResult SysReadlink(Task& t, UserPath path, GuestAddr buf, int32_t size);
SysResult SysReadlinkat(Task& t, int dirfd, UserPath path, GuestAddr buf, int32_t size);
SysResult SysChmod(Task& t, UserPath path, uint32_t mode);
SysResult SysFchmodat(Task& t, int dirfd, UserPath path, uint32_t mode);
SysResult SysFchmodat2(Task& t, int dirfd, UserPath path, uint32_t mode, int flags);
SysResult SysFchmod(Task& t, int fd, uint32_t mode);
SysResult SysChown(Task& t, UserPath path, uint32_t uid, uint32_t gid);
SysResult SysLchown(Task& t, UserPath path, uint32_t uid, uint32_t gid);
SysResult SysFchownat(Task& t, int dirfd, UserPath path, uint32_t uid, uint32_t gid, int flags);
SysResult SysFchown(Task& t, int fd, uint32_t uid, uint32_t gid);
SysResult SysTruncate(Task& t, UserPath path, int64_t size);
SysResult SysFtruncate(Task& t, int fd, int64_t size);
SysResult SysUtimensat(Task& t, int dirfd, UserPath path, GuestAddr times_addr, int flags);
SysResult SysFutimesat(Task& t, int dirfd, UserPath path, GuestAddr times_addr);
SysResult SysUtimes(Task& t, UserPath path, GuestAddr times);
SysResult SysUtime(Task& t, UserPath path, GuestAddr times_addr);
SysResult SysUmask(Task& t, uint32_t mask);
SysResult SysGetcwd(Task& t, GuestAddr buf, uint64_t size);
SysResult SysChdir(Task& t, UserPath path);
SysResult SysFchdir(Task& t, int fd);
SysResult SysChroot(Task& t, UserPath path);

// sys_pipe.cc
SysResult SysPipe(Task& t, GuestAddr out);
SysResult SysPipe2(Task& t, GuestAddr out, int flags);

// sys_poll.cc
SysResult SysPoll(Task& t, GuestAddr fds, uint32_t n, int timeout_ms);
SysResult SysPpoll(Task& t, GuestAddr fds, uint32_t n, GuestAddr timeout, GuestAddr mask,
                   uint64_t size);
SysResult SysSelect(Task& t, int n, GuestAddr in, GuestAddr out, GuestAddr except,
                    GuestAddr timeout);
SysResult SysPselect6(Task& t, int n, GuestAddr in, GuestAddr out, GuestAddr except,
                      GuestAddr timeout, GuestAddr mask_and_size);

// sys_process.cc
SysResult SysFork(Task& t);
SysResult SysVfork(Task& t);
SysResult SysClone(Task& t, uint64_t flags, GuestAddr stack, GuestAddr parent_tid,
                   GuestAddr child_tid, uint64_t tls);
SysResult SysClone3(Task& t, GuestAddr addr, uint64_t size);
SysResult SysExecve(Task& t, UserPath path, GuestAddr argv, GuestAddr envp);
SysResult SysExecveat(Task& t, int dirfd, UserPath path, GuestAddr argv, GuestAddr envp,
                      int flags);
SysResult SysExit(Task& t, int status);
SysResult SysExitGroup(Task& t, int status);
SysResult SysWait4(Task& t, int pid, GuestAddr status, int options, GuestAddr rusage);
SysResult SysWaitid(Task& t, int which, int id, GuestAddr infop, int options, GuestAddr rusage);
SysResult SysPidfdOpen(Task& t, int pid, uint32_t flags);

// sys_read_write.cc
SysResult SysRead(Task& t, int fd, GuestAddr buf, uint64_t count);
SysResult SysWrite(Task& t, int fd, GuestAddr buf, uint64_t count);
SysResult SysReadv(Task& t, int fd, GuestAddr iov, uint64_t count);
SysResult SysWritev(Task& t, int fd, GuestAddr iov, uint64_t count);
SysResult SysPread64(Task& t, int fd, GuestAddr buf, uint64_t count, int64_t pos);
SysResult SysPwrite64(Task& t, int fd, GuestAddr buf, uint64_t count, int64_t pos);
SysResult SysPreadv(Task& t, int fd, GuestAddr iov, uint64_t count, int64_t pos);
SysResult SysPwritev(Task& t, int fd, GuestAddr iov, uint64_t count, int64_t pos);
SysResult SysPreadv2(Task& t, int fd, GuestAddr iov, uint64_t count, int64_t pos, uint64_t,
                     int rwf);
SysResult SysPwritev2(Task& t, int fd, GuestAddr iov, uint64_t count, int64_t pos, uint64_t,
                      int rwf);
SysResult SysLseek(Task& t, int fd, int64_t offset, int whence);

// sys_sched.cc
SysResult SysSchedYield(Task&);
SysResult SysSchedGetaffinity(Task& t, int pid, uint32_t size, GuestAddr out);
SysResult SysSchedSetaffinity(Task& t, int pid, uint32_t size, GuestAddr in);
SysResult SysSchedGetscheduler(Task& t, int pid);
SysResult SysSchedSetscheduler(Task& t, int pid, int policy, GuestAddr param);
SysResult SysSchedGetparam(Task& t, int pid, GuestAddr out);
SysResult SysSchedSetparam(Task& t, int pid, GuestAddr in);
SysResult SysSchedGetPriorityMax(Task&, int policy);
SysResult SysSchedGetPriorityMin(Task& t, int policy);
SysResult SysSchedRrGetInterval(Task& t, int pid, GuestAddr out);
SysResult SysGetpriority(Task& t, int which, int who);
SysResult SysSetpriority(Task& t, int which, int who, int value);

// sys_signal.cc
SysResult SysRtSigaction(Task& t, int signo, GuestAddr act, GuestAddr old, uint64_t size);
SysResult SysRtSigprocmask(Task& t, int how, GuestAddr set, GuestAddr old, uint64_t size);
SysResult SysRtSigpending(Task& t, GuestAddr set, uint64_t size);
SysResult SysRtSigsuspend(Task& t, GuestAddr set, uint64_t size);
SysResult SysPause(Task& t);
SysResult SysRtSigtimedwait(Task& t, GuestAddr set, GuestAddr info, GuestAddr timeout,
                            uint64_t size);
SysResult SysRtSigreturn(Task& t);
SysResult SysRestartSyscall(Task& t);
SysResult SysSigaltstack(Task& t, GuestAddr ss, GuestAddr old);
SysResult SysKill(Task& t, int pid, int signo);
SysResult SysTkill(Task& t, int tid, int signo);
SysResult SysTgkill(Task& t, int tgid, int tid, int signo);
SysResult SysRtSigqueueinfo(Task& t, int pid, int signo, GuestAddr addr);
SysResult SysRtTgsigqueueinfo(Task& t, int tgid, int tid, int signo, GuestAddr addr);
SysResult SysPidfdSendSignal(Task& t, int fd, int signo, GuestAddr addr, uint32_t flags);

// sys_stat.cc
SysResult SysStat(Task& t, UserPath path, GuestAddr out);
SysResult SysLstat(Task& t, UserPath path, GuestAddr out);
SysResult SysFstat(Task& t, int fd, GuestAddr out);
SysResult SysNewfstatat(Task& t, int dirfd, UserPath path, GuestAddr out, int flags);
SysResult SysStatx(Task& t, int dirfd, UserPath path, int flags, uint32_t mask, GuestAddr out);
SysResult SysStatfs(Task& t, UserPath path, GuestAddr out);
SysResult SysFstatfs(Task& t, int fd, GuestAddr out);
SysResult SysAccess(Task& t, UserPath path, int mode);
SysResult SysFaccessat(Task& t, int dirfd, UserPath path, int mode);
SysResult SysFaccessat2(Task& t, int dirfd, UserPath path, int mode, int flags);

// sys_time.cc
SysResult SysClockGettime(Task& t, int clock, GuestAddr out);
SysResult SysClockGetres(Task& t, int clock, GuestAddr out);
SysResult SysClockSettime(Task& t, int clock, GuestAddr in);
SysResult SysClockNanosleep(Task& t, int clock, int flags, GuestAddr request, GuestAddr rem);
SysResult SysNanosleep(Task& t, GuestAddr request, GuestAddr rem);
SysResult SysGettimeofday(Task& t, GuestAddr tv, GuestAddr tz);
SysResult SysTime(Task& t, GuestAddr out);
SysResult SysTimes(Task& t, GuestAddr out);
SysResult SysGetrusage(Task& t, int who, GuestAddr out);

// sys_memfd.cc
SysResult SysMemfdCreate(Task& t, GuestAddr name_addr, uint32_t flags);

// sys_timer.cc
SysResult SysGetitimer(Task& t, int which, GuestAddr out);
SysResult SysSetitimer(Task& t, int which, GuestAddr in, GuestAddr out);
SysResult SysAlarm(Task& t, uint32_t seconds);
SysResult SysTimerCreate(Task& t, int clock, GuestAddr event, GuestAddr id);
SysResult SysTimerSettime(Task& t, int id, int flags, GuestAddr in, GuestAddr out);
SysResult SysTimerGettime(Task& t, int id, GuestAddr out);
SysResult SysTimerGetoverrun(Task& t, int id);
SysResult SysTimerDelete(Task& t, int id);
SysResult SysTimerfdCreate(Task& t, int clock, int flags);
SysResult SysTimerfdSettime(Task& t, int fd, int flags, GuestAddr in, GuestAddr out);
SysResult SysTimerfdGettime(Task& t, int fd, GuestAddr out);
SysResult SysSignalfd(Task& t, int fd, GuestAddr mask, uint64_t size);
SysResult SysSignalfd4(Task& t, int fd, GuestAddr mask, uint64_t size, int flags);

// sys_epoll.cc
SysResult SysEpollCreate(Task& t, int size);
SysResult SysEpollCreate1(Task& t, int flags);
SysResult SysEpollCtl(Task& t, int epfd, int op, int fd, GuestAddr addr);
SysResult SysEpollWait(Task& t, int epfd, GuestAddr out, int max, int timeout_ms);
SysResult SysEpollPwait(Task& t, int epfd, GuestAddr out, int max, int timeout_ms, GuestAddr mask,
                        uint64_t size);
SysResult SysEpollPwait2(Task& t, int epfd, GuestAddr out, int max, GuestAddr timeout,
                         GuestAddr mask, uint64_t size);
SysResult SysEventfd(Task& t, uint32_t count);
SysResult SysEventfd2(Task& t, uint32_t count, int flags);

// sys_xattr.cc
SysResult SysSetxattr(Task& t, UserPath path, GuestAddr name, GuestAddr value, uint64_t size,
                      int flags);
SysResult SysLsetxattr(Task& t, UserPath path, GuestAddr name, GuestAddr value, uint64_t size,
                       int flags);
SysResult SysFsetxattr(Task& t, int fd, GuestAddr name, GuestAddr value, uint64_t size,
                       int flags);
SysResult SysGetxattr(Task& t, UserPath path, GuestAddr name, GuestAddr value, uint64_t size);
SysResult SysLgetxattr(Task& t, UserPath path, GuestAddr name, GuestAddr value, uint64_t size);
SysResult SysFgetxattr(Task& t, int fd, GuestAddr name, GuestAddr value, uint64_t size);
SysResult SysListxattr(Task& t, UserPath path, GuestAddr list, uint64_t size);
SysResult SysLlistxattr(Task& t, UserPath path, GuestAddr list, uint64_t size);
SysResult SysFlistxattr(Task& t, int fd, GuestAddr list, uint64_t size);
SysResult SysRemovexattr(Task& t, UserPath path, GuestAddr name);
SysResult SysLremovexattr(Task& t, UserPath path, GuestAddr name);
SysResult SysFremovexattr(Task& t, int fd, GuestAddr name);

// sys_sync.cc
SysResult SysFsync(Task& t, int fd);
SysResult SysFdatasync(Task& t, int fd);
SysResult SysSync(Task& t);
SysResult SysSyncfs(Task& t, int fd);
SysResult SysSyncFileRange(Task& t, int fd, int64_t offset, int64_t size, uint32_t flags);
SysResult SysFallocate(Task& t, int fd, int mode, int64_t offset, int64_t length);
SysResult SysFadvise64(Task& t, int fd, int64_t, int64_t length, int advice);
SysResult SysReadahead(Task& t, int fd, int64_t, uint64_t);
SysResult SysSendfile(Task& t, int out_fd, int in_fd, GuestAddr offset, uint64_t count);
SysResult SysCopyFileRange(Task& t, int in_fd, GuestAddr in_offset, int out_fd,
                           GuestAddr out_offset, uint64_t count, uint32_t flags);

// sys_socket.cc
SysResult SysSocket(Task& t, int domain, int type, int protocol);
SysResult SysSocketpair(Task& t, int domain, int type, int protocol, GuestAddr out);
SysResult SysBind(Task& t, int fd, GuestAddr addr, int length);
SysResult SysListen(Task& t, int fd, int backlog);
SysResult SysConnect(Task& t, int fd, GuestAddr addr, int length);
SysResult SysAccept(Task& t, int fd, GuestAddr addr, GuestAddr length);
SysResult SysAccept4(Task& t, int fd, GuestAddr addr, GuestAddr length, int flags);
SysResult SysGetsockname(Task& t, int fd, GuestAddr addr, GuestAddr length);
SysResult SysGetpeername(Task& t, int fd, GuestAddr addr, GuestAddr length);
SysResult SysSendto(Task& t, int fd, GuestAddr buf, uint64_t size, int flags, GuestAddr addr,
                    int length);
SysResult SysRecvfrom(Task& t, int fd, GuestAddr buf, uint64_t size, int flags, GuestAddr addr,
                      GuestAddr length);
SysResult SysSendmsg(Task& t, int fd, GuestAddr message, int flags);
SysResult SysRecvmsg(Task& t, int fd, GuestAddr message, int flags);
SysResult SysSendmmsg(Task& t, int fd, GuestAddr vector, uint32_t count, int flags);
SysResult SysRecvmmsg(Task& t, int fd, GuestAddr vector, uint32_t count, int flags,
                      GuestAddr timeout);
SysResult SysShutdown(Task& t, int fd, int how);
SysResult SysSetsockopt(Task& t, int fd, int level, int option, GuestAddr value, int length);
SysResult SysGetsockopt(Task& t, int fd, int level, int option, GuestAddr value,
                        GuestAddr length_addr);

// sys_sync.cc


}  // namespace ringwall

#endif  // RINGWALL_SYSCALLS_HANDLERS_H_
