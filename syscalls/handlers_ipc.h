// The handlers of inter-process communication: System V objects, POSIX message queues, splice, aio.
#ifndef RINGWALL_SYSCALLS_HANDLERS_IPC_H_
#define RINGWALL_SYSCALLS_HANDLERS_IPC_H_

#include <fcntl.h>

#include "syscalls/args.h"

namespace ringwall {

// A descriptor that is open for more than naming a place (fdget). EBADF.
inline Result<Ref<File>> GetUsable(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  return file;
}

// A process as the caller's pid namespace knows it; 0 when there is none or it cannot be seen.
inline int NumberOf(const Task& t, const RefPtr<const Pid>& pid) {
  return pid ? pid->In(t.pid_ns()) : 0;
}

// sys_sem.cc
SysResult SysSemget(Task& t, int key, int count, int flags);
SysResult SysSemop(Task& t, int id, GuestAddr ops, uint32_t count);
SysResult SysSemtimedop(Task& t, int id, GuestAddr ops, uint32_t count, GuestAddr timeout);
SysResult SysSemctl(Task& t, int id, int num, int cmd, uint64_t arg);

// sys_msg.cc
SysResult SysMsgget(Task& t, int key, int flags);
SysResult SysMsgsnd(Task& t, int id, GuestAddr message, uint64_t size, int flags);
SysResult SysMsgrcv(Task& t, int id, GuestAddr message, uint64_t size, int64_t type, int flags);
SysResult SysMsgctl(Task& t, int id, int cmd, GuestAddr buf);

// sys_shm.cc
SysResult SysShmget(Task& t, int key, uint64_t size, int flags);
SysResult SysShmat(Task& t, int id, GuestAddr addr, int flags);
SysResult SysShmdt(Task& t, GuestAddr addr);
SysResult SysShmctl(Task& t, int id, int cmd, GuestAddr buf);

// sys_open.cc
SysResult SysVhangup(Task& t);

// sys_futex.cc: the futex2 calls
SysResult SysFutexWake(Task& t, GuestAddr addr, uint64_t mask, int count, uint32_t flags);
SysResult SysFutexWait(Task& t, GuestAddr addr, uint64_t value, uint64_t mask, uint32_t flags,
                       GuestAddr timeout, int clock);
SysResult SysFutexRequeue(Task& t, GuestAddr waiters, uint32_t flags, int wake, int move);

// sys_aio.cc
SysResult SysIoSetup(Task& t, uint32_t events, GuestAddr out);
SysResult SysIoDestroy(Task& t, uint64_t id);
SysResult SysIoSubmit(Task& t, uint64_t id, int64_t count, GuestAddr list);
SysResult SysIoCancel(Task& t, uint64_t id, GuestAddr iocb, GuestAddr result);
SysResult SysIoGetevents(Task& t, uint64_t id, int64_t least, int64_t most, GuestAddr out,
                         GuestAddr timeout);
SysResult SysIoPgetevents(Task& t, uint64_t id, int64_t least, int64_t most, GuestAddr out,
                          GuestAddr timeout, GuestAddr mask_arg);

// sys_mqueue.cc
SysResult SysMqOpen(Task& t, UserPath path, int flags, uint32_t mode, GuestAddr attr_addr);
SysResult SysMqUnlink(Task& t, UserPath path);
SysResult SysMqTimedsend(Task& t, int fd, GuestAddr text, uint64_t size, uint32_t priority,
                         GuestAddr timeout);
SysResult SysMqTimedreceive(Task& t, int fd, GuestAddr text, uint64_t room, GuestAddr priority,
                            GuestAddr timeout);
SysResult SysMqNotify(Task& t, int fd, GuestAddr event_addr);
SysResult SysMqGetsetattr(Task& t, int fd, GuestAddr fresh, GuestAddr old);

// sys_splice.cc; sendfile and copy_file_range are declared with their old kin in handlers.h.
SysResult SysSplice(Task& t, int in_fd, GuestAddr in_offset, int out_fd, GuestAddr out_offset,
                    uint64_t count, uint32_t flags);
SysResult SysTee(Task& t, int in_fd, int out_fd, uint64_t count, uint32_t flags);
SysResult SysVmsplice(Task& t, int fd, GuestAddr iov, uint64_t count, uint32_t flags);

}  // namespace ringwall

#endif  // RINGWALL_SYSCALLS_HANDLERS_IPC_H_
