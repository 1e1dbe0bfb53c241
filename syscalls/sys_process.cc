// Making, replacing, ending and waiting for processes (kernel/fork.c, fs/exec.c, kernel/exit.c).
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>

#include <array>
#include <memory>
#include <vector>

#include "sentry/kernel/pidfd.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr uint64_t kSignalMask = 0xff;

// struct clone_args.
struct CloneArgsAbi {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
  uint64_t set_tid, set_tid_size, cgroup;
};
static_assert(sizeof(CloneArgsAbi) == 88);
constexpr uint64_t kCloneArgsSizeVer0 = 64, kCloneArgsSizeVer2 = 88;
constexpr uint64_t kCloneIntoCgroup = 0x200000000ull;

SysResult DoClone(Task& t, const CloneArgs& args) {
  const Ref<const Pid> pid = TRY(t.Clone(args));
  return pid->In(t.pid_ns());
}

// The strings that exec takes lie side by side or, a shell's environment, here and there in a few pages:
// memory is read by the page, and the last few are kept.
class StringReader {
 public:
  explicit StringReader(Task& t) : task_(t) {}

  // E2BIG when it is longer than `limit` bytes with its end.
  Result<std::string> Read(GuestAddr at, size_t limit) {
    std::string text;
    for (;;) {
      const Page* const page = TRY(Load(at.PageDown()));
      const size_t skip = at.value() & kPageMask;
      const size_t most = std::min(page->bytes.size() - skip, limit - text.size());
      const char* const from = page->bytes.data() + skip;
      const size_t n = strnlen(from, most);
      text.append(from, n);
      if (n < most) return text;
      if (text.size() == limit) return Errno(E2BIG);
      at = at + n;
    }
  }

 private:
  static constexpr size_t kPages = 8;
  struct Page {
    GuestAddr at;
    std::array<char, kPageSize> bytes;
  };

  Result<const Page*> Load(GuestAddr at) {
    for (const std::unique_ptr<Page>& page : pages_) {
      if (page->at == at) return page.get();
    }
    auto page = std::make_unique<Page>();
    TRY(task_.mm().CopyIn(at, std::as_writable_bytes(std::span(page->bytes))));
    page->at = at;
    if (pages_.size() == kPages) pages_.erase(pages_.begin());
    pages_.push_back(std::move(page));
    return pages_.back().get();
  }

  Task& task_;
  std::vector<std::unique_ptr<Page>> pages_;
};

// argv or envp: an array of string pointers up to a null one. E2BIG as Linux bounds it.
Result<std::vector<std::string>> CopyInStrings(Task& t, StringReader& reader, GuestAddr array,
                                               uint64_t* budget) {
  std::vector<std::string> strings;
  if (array.IsNull()) return strings;
  constexpr size_t kMaxStringLength = 128 << 10;
  constexpr size_t kChunk = 64;
  for (uint64_t i = 0;;) {
    // Pointers in small batches, but never past the page that holds the terminating null.
    uint64_t pointers[kChunk];
    const uint64_t at = array.value() + i * 8;
    const size_t to_page_end = (kPageSize - (at & kPageMask)) / 8;
    const size_t want = std::clamp<size_t>(to_page_end, 1, kChunk);
    TRY(t.CopyIn(GuestAddr(at), std::as_writable_bytes(std::span(pointers, want))));
    for (size_t k = 0; k < want; k++, i++) {
      if (pointers[k] == 0) return strings;
      std::string s = TRY(reader.Read(GuestAddr(pointers[k]), kMaxStringLength));
      const uint64_t cost = s.size() + 1 + 8;
      if (cost > *budget) return Errno(E2BIG);
      *budget -= cost;
      strings.push_back(std::move(s));
    }
  }
}

SysResult DoExec(Task& t, int dirfd, UserPath path, GuestAddr argv, GuestAddr envp, int flags) {
  if ((flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) != 0) return Errno(EINVAL);
  const std::string name = TRY(t.CopyInPath(path.addr(), (flags & AT_EMPTY_PATH) != 0));
  const Path p = TRY(LookupAt(t, dirfd, name, flags));
  const Attr attr = TRY(Vfs::Stat(p));
  if (S_ISLNK(attr.mode)) return Errno(ELOOP);
  if (!S_ISREG(attr.mode) || (p.mount().flags() & MS_NOEXEC) != 0) return Errno(EACCES);
  TRY(Vfs::CheckAccess(t.creds(), p, kMayExec));
  ExecArgs args;
  AtWalk at = TRY(AtWalk::Make(t, AT_FDCWD, "/"));
  args.file = TRY(Vfs::OpenPath(at.walk(), p, O_RDONLY | kOpenForExec, nullptr));
  // What a script's interpreter is given: the path, or /dev/fd/N for a descriptor.
  args.filename = name;
  if (dirfd != AT_FDCWD && (name.empty() || name[0] != '/')) {
    args.filename = "/dev/fd/" + std::to_string(dirfd) + (name.empty() ? "" : "/" + name);
  }
  // A quarter of the stack limit, at most 6 MiB, at least 128 KiB (fs/exec.c:bprm_stack_limits).
  uint64_t budget = std::min<uint64_t>(t.tg().limit(RLIMIT_STACK) / 4, 6 << 20);
  budget = std::max<uint64_t>(budget, 128 << 10);
  StringReader reader(t);
  args.argv = TRY(CopyInStrings(t, reader, argv, &budget));
  args.envp = TRY(CopyInStrings(t, reader, envp, &budget));
  if (args.argv.empty()) args.argv.push_back("");
  TRY(t.Exec(std::move(args)));
  return 0;
}

Result<void> CopyOutRusage(Task& t, GuestAddr addr, const Rusage& r) {
  if (addr.IsNull()) return {};
  return UserOut<RusageAbi>(addr).CopyOut(t, ToAbi(r));
}

}  // namespace

RusageAbi ToAbi(const Rusage& r) {
  RusageAbi a = {};
  a.utime_sec = static_cast<int64_t>(r.utime_ns / 1'000'000'000);
  a.utime_usec = static_cast<int64_t>(r.utime_ns % 1'000'000'000 / 1000);
  a.stime_sec = static_cast<int64_t>(r.stime_ns / 1'000'000'000);
  a.stime_usec = static_cast<int64_t>(r.stime_ns % 1'000'000'000 / 1000);
  a.maxrss = static_cast<int64_t>(r.maxrss_kib);
  a.minflt = static_cast<int64_t>(r.minor_faults), a.majflt = static_cast<int64_t>(r.major_faults);
  a.inblock = static_cast<int64_t>(r.in_blocks), a.oublock = static_cast<int64_t>(r.out_blocks);
  a.nvcsw = static_cast<int64_t>(r.voluntary), a.nivcsw = static_cast<int64_t>(r.involuntary);
  return a;
}

SysResult SysFork(Task& t) {
  CloneArgs args;
  args.exit_signal = SIGCHLD;
  return DoClone(t, args);
}

SysResult SysVfork(Task& t) {
  CloneArgs args;
  args.flags = CLONE_VFORK | CLONE_VM;
  args.exit_signal = SIGCHLD;
  return DoClone(t, args);
}

SysResult SysClone(Task& t, uint64_t flags, GuestAddr stack, GuestAddr parent_tid,
                   GuestAddr child_tid, uint64_t tls) {
  CloneArgs args;
  args.flags = flags & 0xffffffffull & ~kSignalMask;
  args.exit_signal = static_cast<int>(flags & kSignalMask);
  args.stack = stack;
  args.parent_tid = parent_tid;
  args.child_tid = child_tid;
  args.pidfd = parent_tid;
  args.tls = tls;
  if ((args.flags & CLONE_PIDFD) != 0 && (args.flags & CLONE_PARENT_SETTID) != 0) {
    return Errno(EINVAL);
  }
  return DoClone(t, args);
}

SysResult SysClone3(Task& t, GuestAddr addr, uint64_t size) {
  if (size < kCloneArgsSizeVer0) return Errno(EINVAL);
  if (size > kPageSize) return Errno(E2BIG);
  std::vector<std::byte> bytes(std::max<size_t>(size, sizeof(CloneArgsAbi)));
  TRY(t.CopyIn(addr, std::span(bytes).first(size)));
  for (size_t i = sizeof(CloneArgsAbi); i < size; i++) {
    if (bytes[i] != std::byte{0}) return Errno(E2BIG);
  }
  CloneArgsAbi a;
  memcpy(&a, bytes.data(), sizeof(a));
  constexpr uint64_t kDetached = 0x00400000;
  if ((a.flags & (kDetached | kSignalMask)) != 0 || a.exit_signal > abi::kSigMax) {
    return Errno(EINVAL);
  }
  if ((a.flags & (CLONE_THREAD | CLONE_PARENT)) != 0 && a.exit_signal != 0) return Errno(EINVAL);
  if ((a.stack == 0) != (a.stack_size == 0)) return Errno(EINVAL);
  if (a.stack >= kTaskSize.value() || a.stack_size > kTaskSize.value() - a.stack) return Errno(EINVAL);
  if (a.flags >> 34 != 0) return Errno(EINVAL);
  if ((a.flags & kCloneIntoCgroup) != 0 && (size < kCloneArgsSizeVer2 || a.cgroup > INT_MAX)) return Errno(EINVAL);
  if ((a.set_tid == 0) != (a.set_tid_size == 0)) return Errno(EINVAL);
  if (a.set_tid_size > PidNamespace::kMaxLevel) return Errno(EINVAL);
  CloneArgs args;
  if (a.set_tid_size != 0) {
    const auto tids = TRY(UserIn<int32_t>(GuestAddr(a.set_tid)).CopyInArray(t, a.set_tid_size));
    args.set_tid.assign(tids.begin(), tids.end());
  }
  args.flags = a.flags;
  args.exit_signal = static_cast<int>(a.exit_signal);
  if (a.stack != 0) args.stack = GuestAddr(a.stack + a.stack_size);
  args.parent_tid = GuestAddr(a.parent_tid);
  args.child_tid = GuestAddr(a.child_tid);
  args.pidfd = GuestAddr(a.pidfd);
  args.tls = a.tls;
  return DoClone(t, args);
}

SysResult SysExecve(Task& t, UserPath path, GuestAddr argv, GuestAddr envp) {
  return DoExec(t, AT_FDCWD, path, argv, envp, 0);
}

SysResult SysExecveat(Task& t, int dirfd, UserPath path, GuestAddr argv, GuestAddr envp,
                      int flags) {
  return DoExec(t, dirfd, path, argv, envp, flags);
}

SysResult SysExit(Task& t, int status) {
  t.ExitThread(status);
  return 0;
}

SysResult SysExitGroup(Task& t, int status) {
  t.ExitGroup((status & 0xff) << 8);
  return 0;
}

SysResult SysWait4(Task& t, int pid, GuestAddr status, int options, GuestAddr rusage) {
  constexpr int kKnown = WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL;
  if ((options & ~kKnown) != 0) return Errno(EINVAL);
  if (pid == INT_MIN) return Errno(ESRCH);
  WaitArgs args;
  args.options = options | WEXITED;
  if (pid > 0) {
    args.which = WaitArgs::Which::kPid;
    args.id = pid;
  } else if (pid != -1) {
    args.which = WaitArgs::Which::kPgrp;
    args.id = pid == 0 ? ProcessGroupOf(t) : -pid;
  }
  const WaitResult r = TRY(WaitForChild(t, args));
  if (r.pid == 0) return 0;
  if (!status.IsNull()) {
    TRY(UserOut<int32_t>(status).CopyOut(t, r.status));
  }
  TRY(CopyOutRusage(t, rusage, r.rusage));
  return r.pid;
}

namespace {

SysResult DoWaitid(Task& t, int which, int id, GuestAddr infop, int options, GuestAddr rusage) {
  constexpr int kKnown =
      WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL;
  if ((options & ~kKnown) != 0 || (options & (WEXITED | WSTOPPED | WCONTINUED)) == 0) {
    return Errno(EINVAL);
  }
  WaitArgs args;
  args.options = options;
  switch (which) {
    case P_ALL:
      break;
    case P_PID:
      if (id <= 0) return Errno(EINVAL);
      args.which = WaitArgs::Which::kPid;
      args.id = id;
      break;
    case P_PGID:
      if (id < 0) return Errno(EINVAL);
      args.which = WaitArgs::Which::kPgrp;
      args.id = id == 0 ? ProcessGroupOf(t) : id;
      break;
    case P_PIDFD: {
      if (id < 0) return Errno(EINVAL);
      Ref<File> file = TRY(t.GetFile(id));
      RefPtr<ThreadGroup> tg = ThreadGroupOfPidFd(*file);
      if (!tg) return Errno(EBADF);
      if (file->nonblocking()) args.options |= WNOHANG;
      args.which = WaitArgs::Which::kPidfd;
      args.id = tg->pid->In(t.pid_ns());
      if (file->nonblocking() && (options & WNOHANG) == 0) {
        const WaitResult r = TRY(WaitForChild(t, args));
        if (r.pid == 0) return Errno(EAGAIN);
        return PutWaitInfo(t, r, infop, rusage);
      }
      break;
    }
    default:
      return Errno(EINVAL);
  }
  const WaitResult r = TRY(WaitForChild(t, args));
  return PutWaitInfo(t, r, infop, rusage);
}

}  // namespace

// Whatever came of it, the siginfo is written: zeros then.
SysResult SysWaitid(Task& t, int which, int id, GuestAddr infop, int options, GuestAddr rusage) {
  SysResult result = DoWaitid(t, which, id, infop, options, rusage);
  if (result.ok() || infop.IsNull() || result.error().Is(EFAULT)) return result;
  TRY(PutWaitInfo(t, WaitResult{}, infop, GuestAddr()));
  return result;
}

SysResult PutWaitInfo(Task& t, const WaitResult& r, GuestAddr infop, GuestAddr rusage) {
  if (r.pid != 0) {
    TRY(CopyOutRusage(t, rusage, r.rusage));
  }
  if (infop.IsNull()) return 0;
  // Only the fields that waitid fills: the first 28 bytes.
  abi::SigInfo info;
  if (r.pid != 0) {
    info.signo = SIGCHLD;
    info.code = r.code;
    info.SetPidUid(r.pid, r.uid);
    info.Put<int32_t>(8, r.child_status);
  }
  return Zero(t.CopyOut(infop, std::as_bytes(std::span(&info, 1)).first(28)));
}

SysResult SysPidfdOpen(Task& t, int pid, uint32_t flags) {
  constexpr uint32_t kThread = O_EXCL;
  if ((flags & ~(O_NONBLOCK | kThread)) != 0 || pid <= 0) return Errno(EINVAL);
  RefPtr<ThreadGroup> tg;
  RefPtr<Task> thread;
  {
    MutexLock lock(t.kernel().tasks().mu);
    Task* target = t.pid_ns().FindTask(pid);
    if (target == nullptr) return Errno(ESRCH);
    if ((flags & kThread) != 0) {
      thread = RefPtr<Task>(target);
    } else if (target->tid() != target->tgid()) {
      return Errno(EINVAL);
    }
    tg = RefPtr<ThreadGroup>(&target->tg());
  }
  const int fd = TRY(t.fds().Install(NewPidFd(*tg, flags, std::move(thread)), true, t.tg().limit(RLIMIT_NOFILE)));
  return fd;
}

}  // namespace ringwall
