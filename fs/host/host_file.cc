#include "fs/host/host_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <termios.h>

#include <algorithm>

#include "fs/host/notifier.h"
#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr size_t kChunk = 128 << 10;

// Owns the descriptor; the File it came with and the mappings use it as long as they hold the inode.
class HostInode final : public AnonInode {
 public:
  HostInode(UniqueFd fd, const struct stat& st)
      : AnonInode(st.st_mode, 0, 0), fd_(std::move(fd)) {}
  int fd() const { return fd_.get(); }
  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
  Result<Attr> GetAttr() override {
    struct stat st;
    if (fstat(fd_.get(), &st) != 0) return Errno(errno);
    Attr a;
    a.ino = st.st_ino, a.mode = st.st_mode, a.nlink = static_cast<uint32_t>(st.st_nlink);
    a.uid = st.st_uid, a.gid = st.st_gid, a.rdev = st.st_rdev;
    a.size = static_cast<uint64_t>(st.st_size), a.blocks = static_cast<uint64_t>(st.st_blocks);
    a.blksize = static_cast<uint32_t>(st.st_blksize);
    a.atime = {st.st_atim.tv_sec, st.st_atim.tv_nsec};
    a.mtime = {st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
    a.ctime = {st.st_ctim.tv_sec, st.st_ctim.tv_nsec};
    return a;
  }
  Result<void> Set(const SetAttr& attr) override {
    if (attr.size && is_regular()) {
      TRY(FromHost(ftruncate(fd_.get(), static_cast<off_t>(*attr.size))));
      return {};
    }
    // The host file's owner and mode are not the guest's to change.
    return Errno(EPERM);
  }
  // Through /proc/PID/fd (and so /dev/stdout): the same host description, for no more than it was
  // opened for. EACCES.
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;

 private:
  const UniqueFd fd_;
};

class HostFile final : public File {
 public:
  // own_offset: the position is kept on the host, not in this File.
  HostFile(Path path, uint32_t flags, int fd, bool seekable, bool tty, bool own_offset = true,
           RefPtr<RefCountedBase> place = {}, RefPtr<Inode> host = {})
      : File(std::move(path), flags), fd_(fd), seekable_(seekable), tty_(tty),
        own_offset_(own_offset), place_(std::move(place)), host_(std::move(host)) {
    has_events_ = !seekable_ && HostNotifier::Add(fd_, queue_);
  }
  ~HostFile() override {
    if (has_events_) HostNotifier::Remove(fd_, queue_);
  }

  bool seekable() const override { return seekable_; }
  bool keeps_own_offset() const override { return own_offset_; }
  bool tty() const { return tty_; }

  // Regular files keep their position on the host, where others may share it: a shell's redirection
  // that several commands append to.
  Result<int64_t> Seek(int64_t offset, int whence) override NO_THREAD_SAFETY_ANALYSIS {
    if (!own_offset_) return File::Seek(offset, whence);
    return FromHost(int64_t{lseek(fd_, offset, whence)});
  }

  Result<size_t> Read(IoDst& dst, uint64_t pos, int) override {
    if (dst.remaining() == 0) return size_t{0};
    if (tty_) {
      TRY(CheckBackground(SIGTTIN));
    }
    std::span<std::byte> room = dst.Reserve(std::min(dst.remaining(), kChunk));
    const iovec v = {room.data(), room.size()};
    ssize_t n;
    if (seekable_) {
      n = preadv2(fd_, &v, 1, static_cast<off_t>(pos), 0);
    } else {
      n = preadv2(fd_, &v, 1, -1, RWF_NOWAIT);
      if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        if (!HostReady(POLLIN)) return Errno(EAGAIN);
        n = preadv2(fd_, &v, 1, -1, 0);
      }
    }
    if (n < 0) return Errno(errno);
    return dst.Commit(static_cast<size_t>(n));
  }

  Result<size_t> Write(IoSrc& src, uint64_t* pos, int) override {
    size_t want = std::min(src.remaining(), kChunk);
    if (want == 0) return size_t{0};
    if (!seekable_) {
      // Before the bytes are taken from the guest: they must not be lost.
      if (!HostReady(POLLOUT)) return Errno(EAGAIN);
      want = std::min<size_t>(want, PIPE_BUF);
    }
    const std::span<const std::byte> bytes = TRY(src.Take(want));
    const iovec v = {const_cast<std::byte*>(bytes.data()), bytes.size()};
    ssize_t n;
    if (!seekable_) {
      n = pwritev2(fd_, &v, 1, -1, 0);
    } else {
      // kOwnOffset is -1: at the host's position, which moves.
      const int flag = (flags() & O_APPEND) != 0 ? RWF_APPEND : 0;
      n = pwritev2(fd_, &v, 1, static_cast<off_t>(*pos), flag);
      if (n > 0 && *pos != kOwnOffset) *pos += static_cast<uint64_t>(n);
    }
    if (n < 0) return Errno(errno);
    return static_cast<size_t>(n);
  }

  EventMask Poll(EventMask wanted) override {
    pollfd p = {fd_, static_cast<int16_t>(wanted), 0};
    constexpr timespec kNow = {0, 0};
    if (ppoll(&p, 1, &kNow, nullptr) <= 0) return 0;
    return static_cast<uint16_t>(p.revents);
  }
  WaitQueue* queue() override { return has_events_ ? &queue_ : nullptr; }

  Result<HostMapping> Map(uint64_t offset, uint64_t, int, bool) override {
    if (!inode().is_regular()) return Errno(ENODEV);
    return HostMapping{fd_, offset};
  }

  Result<void> Fsync(bool) override {
    TRY(FromHost(fsync(fd_)));
    return {};
  }

  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override;

  void Hold(UniqueFd fd) { held_ = std::move(fd); }
  void SetSession(Session& session) { session_ = RefPtr<Session>(&session); }

 private:
  bool HostReady(int16_t events) const {
    pollfd p = {fd_, events, 0};
    constexpr timespec kNow = {0, 0};
    return ppoll(&p, 1, &kNow, nullptr) > 0;
  }

  bool IsTerminalOfLocked(const ThreadGroup& tg) const {
    return session_ && session_->tty.get() == this && tg.pgrp->session == session_ && HasTerminalLocked(tg);
  }

  // A process in the background of this terminal is stopped rather than answered. EIO for an orphan.
  Result<void> CheckBackground(int signo) {
    Task* t = Task::Current();
    if (t == nullptr || !session_) return {};
    MutexLock lock(t->kernel().tasks().mu);
    ProcessGroup& pg = *t->tg().pgrp;
    if (!IsTerminalOfLocked(t->tg()) || session_->foreground_pgid == 0 || pg.pgid == session_->foreground_pgid) return {};
    const bool ignored = t->tg().actions().Get(signo).handler == 1 ||
                         (t->signal_mask() & abi::SigBit(signo)) != 0;
    if (signo == SIGTTOU && ignored) return {};
    if (ignored || IsOrphanedLocked(t->tg())) return Errno(EIO);
    SendSignalToProcessGroupLocked(pg, MakeSigInfo(signo, SI_KERNEL));
    return Errno(kErestartSys);
  }

  template <typename T>
  Result<int64_t> PassOut(Task& task, uint32_t cmd, uint64_t arg) {
    T value;
    TRY(FromHost(ioctl(fd_, cmd, &value)));
    TRY(UserOut<T>(GuestAddr(arg)).CopyOut(task, value));
    return 0;
  }
  template <typename T>
  Result<int64_t> PassIn(Task& task, uint32_t cmd, uint64_t arg) {
    T value = TRY(UserIn<T>(GuestAddr(arg)).CopyIn(task));
    const int r = TRY(FromHost(ioctl(fd_, cmd, &value)));
    return r;
  }

  const int fd_;  // the inode's, or held_
  const bool seekable_, tty_, own_offset_;
  const RefPtr<RefCountedBase> place_;  // of a terminal under a name of the guest's, and
  const RefPtr<Inode> host_;            // the inode that has its descriptor
  UniqueFd held_;  // of a file that was opened again
  bool has_events_ = false;
  WaitQueue queue_;
  RefPtr<Session> session_;  // of which it is the controlling terminal; under the TaskSet's lock
};

// struct termios of the kernel, which is not libc's.
struct KernelTermios {
  uint32_t iflag, oflag, cflag, lflag;
  uint8_t line;
  uint8_t cc[19];
};
static_assert(sizeof(KernelTermios) == 36);
struct WinSize {
  uint16_t row, col, xpixel, ypixel;
};

Result<int64_t> HostFile::Ioctl(Task& task, uint32_t cmd, uint64_t arg) {
  if (cmd == FIONREAD) return PassOut<int32_t>(task, cmd, arg);
  if (!tty_) return Errno(ENOTTY);
  TaskSet& set = task.kernel().tasks();
  switch (cmd) {
    case TCGETS:
      return PassOut<KernelTermios>(task, cmd, arg);
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
      TRY(CheckBackground(SIGTTOU));
      return PassIn<KernelTermios>(task, cmd, arg);
    case TIOCGWINSZ:
      return PassOut<WinSize>(task, cmd, arg);
    case TIOCSWINSZ:
      return PassIn<WinSize>(task, cmd, arg);
    case TCSBRK:
    case TCXONC:
    case TCFLSH: {
      const int r = TRY(FromHost(ioctl(fd_, cmd, static_cast<int>(arg))));
      return r;
    }
    case TIOCGPGRP: {
      int32_t pgid;
      {
        MutexLock lock(set.mu);
        if (!IsTerminalOfLocked(task.tg())) return Errno(ENOTTY);
        pgid = ForegroundGroupLocked(*session_, task.pid_ns());
      }
      TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOut(task, pgid));
      return 0;
    }
    case TIOCSPGRP: {
      const int32_t pgid = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(task));
      TRY(CheckBackground(SIGTTOU));
      MutexLock lock(set.mu);
      if (!IsTerminalOfLocked(task.tg())) return Errno(ENOTTY);
      if (pgid < 0) return Errno(EINVAL);
      const ProcessGroup* pg = task.pid_ns().FindGroup(pgid);
      if (pg == nullptr) return Errno(ESRCH);
      if (pg->session != session_) return Errno(EPERM);
      session_->foreground_pgid = pg->pgid;
      return 0;
    }
    case TIOCGSID: {
      int32_t sid;
      {
        MutexLock lock(set.mu);
        if (!IsTerminalOfLocked(task.tg())) return Errno(ENOTTY);
        sid = session_->pid->In(task.pid_ns());
      }
      TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOut(task, sid));
      return 0;
    }
    case TIOCSCTTY: {
      const Result<Attr> attr = inode().GetAttr();
      const uint64_t rdev = attr.ok() ? attr->rdev : 0;
      MutexLock lock(set.mu);
      Session& own = *task.tg().pgrp->session;
      if (own.leader == &task.tg() && session_.get() == &own && IsTerminalOfLocked(task.tg())) return 0;
      if (own.leader != &task.tg() || own.tty || session_) return Errno(EPERM);
      TakeTerminalLocked(task.tg(), RefPtr<RefCountedBase>(this), rdev);
      session_ = RefPtr<Session>(&own);
      return 0;
    }
    case TIOCNOTTY: {
      MutexLock lock(set.mu);
      if (!IsTerminalOfLocked(task.tg())) return Errno(ENOTTY);
      if (session_->leader == &task.tg()) {
        LoseTerminalLocked(task.kernel(), *session_, {SIGHUP, SIGCONT});
        session_.reset();
      }
      task.tg().terminal = 0;
      return 0;
    }
    default:
      return Errno(ENOTTY);
  }
}

Result<Ref<File>> HostInode::Open(const Path& path, uint32_t flags, const Credentials&) {
  const int host_flags = TRY(FromHost(fcntl(fd_.get(), F_GETFL)));
  const uint32_t have = static_cast<uint32_t>(host_flags) & O_ACCMODE, want = flags & O_ACCMODE;
  if (have != O_RDWR && want != have) return Errno(EACCES);
  // The notifier knows files by their descriptors: a number of its own for each.
  const int number = TRY(FromHost(fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0)));
  UniqueFd copy(number);
  KernelTermios unused;
  const bool tty = type() == S_IFCHR && ioctl(copy.get(), TCGETS, &unused) == 0;
  const bool seekable = is_regular() || type() == S_IFBLK;
  Ref<HostFile> file = MakeRef<HostFile>(path, flags, copy.get(), seekable, tty, !seekable);
  file->Hold(std::move(copy));
  return Ref<File>(std::move(file));
}

}  // namespace

HostResult<void> PrepareHostFiles() { return HostNotifier::Prepare(); }

bool IsTerminal(int fd) {
  KernelTermios unused;
  return ioctl(fd, TCGETS, &unused) == 0;
}

Result<Ref<Inode>> NewHostInode(UniqueFd fd) {
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return Errno(errno);
  return Ref<Inode>(MakeRef<HostInode>(std::move(fd), st));
}

Result<Ref<File>> NewNamedTerminal(Ref<Inode> host, const Path& path, Ref<RefCountedBase> place) {
  const int fd = static_cast<HostInode&>(*host).fd();
  const int host_flags = TRY(FromHost(fcntl(fd, F_GETFL)));
  const uint32_t flags = static_cast<uint32_t>(host_flags) & (O_ACCMODE | O_NONBLOCK);
  return Ref<File>(MakeRef<HostFile>(path, flags, fd, false, true, true, std::move(place),
                                     std::move(host)));
}

Result<Ref<File>> NewHostFile(UniqueFd fd) {
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return Errno(errno);
  const int host_flags = fcntl(fd.get(), F_GETFL);
  if (host_flags < 0) return Errno(errno);
  KernelTermios unused;
  const bool tty = S_ISCHR(st.st_mode) && ioctl(fd.get(), TCGETS, &unused) == 0;
  const bool seekable = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
  const int number = fd.get();
  Ref<HostInode> inode = MakeRef<HostInode>(std::move(fd), st);
  const uint32_t flags =
      static_cast<uint32_t>(host_flags) & (O_ACCMODE | O_APPEND | O_NONBLOCK);
  const char* kind = tty                    ? "host:tty"
                     : S_ISFIFO(st.st_mode) ? "pipe"
                     : S_ISSOCK(st.st_mode) ? "socket"
                                            : "host:file";
  const std::string name = std::string(kind) + ":[" + std::to_string(inode->ino()) + "]";
  return Ref<File>(MakeRef<HostFile>(AnonymousPath(inode, name), flags, number, seekable, tty));
}

bool IsHostTty(File& file) {
  return file.inode().kind() == &HostInode::kKind && (file.flags() & O_PATH) == 0 &&
         static_cast<HostFile&>(file).tty();
}

Ref<File> HostTtyFile(RefCountedBase& tty) { return Ref<File>(static_cast<HostFile&>(tty)); }

void SetControllingTty(File& file, ThreadGroup& leader) {
  HostFile& tty = static_cast<HostFile&>(file);
  const Result<Attr> attr = tty.inode().GetAttr();
  MutexLock lock(leader.kernel().tasks().mu);
  TakeTerminalLocked(leader, RefPtr<RefCountedBase>(&tty), attr.ok() ? attr->rdev : 0);
  tty.SetSession(*leader.pgrp->session);
}

}  // namespace ringwall
