#include "runsc/boot/process.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "fs/devpts/devpts.h"
#include "fs/host/host_file.h"
#include "fs/vfs/fd_table.h"
#include "fs/vfs/io.h"
#include "fs/vfs/vfs.h"
#include "sentry/base/log.h"
#include "sentry/bpf/bpf.h"
#include "sentry/kernel/syscall_table.h"
#include "sentry/kernel/rare_settings.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr int kNotFound = 127, kNotExecutable = 126;

std::string PathVariable(const std::vector<std::string>& envp) {
  for (const std::string& e : envp) {
    if (e.starts_with("PATH=")) return e.substr(5);
  }
  return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

// In the words that engines look for to tell a program that is not there from one that cannot run.
HostError ProgramError(Errno error, const BootProcess& process, bool searched) {
  const std::string& name = process.program.empty() ? process.argv[0] : process.program;
  const char* known = strerrordesc_np(error.value());
  std::string why = known != nullptr ? known : "error";
  if (searched && error.Is(ENOENT)) {
    why = "executable file not found in $PATH";
  } else if (!why.empty()) {
    why[0] = static_cast<char>(tolower(static_cast<unsigned char>(why[0])));
  }
  return HostError::Message("exec: \"" + name + "\": " + why);
}

// Where argv[0] is, as execvp looks for it. ENOENT, EACCES.
Result<std::string> FindProgram(const Walk& walk, const BootProcess& process) {
  const std::string& name = process.program.empty() ? process.argv[0] : process.program;
  if (name.find('/') != std::string::npos) return name;
  const std::string path = PathVariable(process.envp);
  int error = ENOENT;
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find(':', at), path.size());
    std::string dir = path.substr(at, end - at);
    if (dir.empty()) dir = ".";
    std::string candidate = std::move(dir);
    candidate += "/";
    candidate += name;
    Result<Path> found = Vfs::Lookup(walk, candidate, {});
    if (found.ok() && found->dentry().inode()->is_regular()) {
      if (Vfs::CheckAccess(walk.creds, *found, kMayExec).ok()) return candidate;
      error = EACCES;
    } else if (!found.ok()) {
      const Errno why = found.error();
      if (why.Is(EACCES)) error = EACCES;
      if (!why.Is(ENOENT) && !why.Is(ENOTDIR) && !why.Is(EACCES)) return why;
    }
    at = end + 1;
  }
  return Errno(error);
}

// The sixth field of the line of /etc/passwd that has `uid` as its third; "/" when there is none.
std::string HomeOf(const Walk& walk, uid_t uid) {
  constexpr size_t kPasswdMax = 1 << 20;
  Result<Ref<File>> file = Vfs::Open(walk, "/etc/passwd", O_RDONLY | O_NONBLOCK, 0, nullptr);
  if (!file.ok() || !(*file)->inode().is_regular()) return "/";
  std::string text;
  std::array<std::byte, 16384> buffer;
  while (text.size() < kPasswdMax) {
    SpanDst into(buffer);
    Result<size_t> n = (*file)->Read(into, text.size(), 0);
    if (!n.ok() || *n == 0) break;
    text.append(reinterpret_cast<const char*>(buffer.data()), *n);
  }
  const std::string wanted = std::to_string(uid);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::array<std::string_view, 7> fields;
    std::string_view line(text.data() + at, end - at);
    for (std::string_view& field : fields) {
      field = line.substr(0, line.find(':'));
      line.remove_prefix(std::min(field.size() + 1, line.size()));
    }
    if (fields[2] == wanted && !fields[5].empty()) return std::string(fields[5]);
    at = end + 1;
  }
  return "/";
}

bool HasVariable(const BootProcess& process, std::string_view name) {
  return std::any_of(process.envp.begin(), process.envp.end(), [&](const std::string& e) {
    return e.starts_with(name) && e.size() > name.size() && e[name.size()] == '=';
  });
}

Ref<const Credentials> CredentialsOf(const BootProcess& p) {
  Ref<Credentials> c = MakeRef<Credentials>();
  c->ruid = c->euid = c->suid = c->fsuid = p.uid;
  c->rgid = c->egid = c->sgid = c->fsgid = p.gid;
  c->groups.assign(p.groups.begin(), p.groups.end());
  c->cap_bounding = p.caps.bounding, c->cap_effective = p.caps.effective;
  c->cap_permitted = p.caps.permitted, c->cap_inheritable = p.caps.inheritable;
  c->cap_ambient = p.caps.ambient;
  c->no_new_privs = p.no_new_privs;
  return Ref<const Credentials>(std::move(c));
}

// Linux's defaults for what the caller does not say (include/asm-generic/resource.h).
Rlimits LimitsOf(const BootProcess& p) {
  Rlimits r;
  const auto set = [&](int resource, uint64_t soft, uint64_t hard) {
    r.limits[static_cast<size_t>(resource)] = {soft, hard};
  };
  set(RLIMIT_STACK, 8 << 20, RLIM_INFINITY);
  set(RLIMIT_CORE, 0, RLIM_INFINITY);
  set(RLIMIT_NOFILE, 1024, 4096);
  set(RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
  set(RLIMIT_MSGQUEUE, 819200, 819200);
  set(RLIMIT_NICE, 0, 0);
  set(RLIMIT_RTPRIO, 0, 0);
  set(RLIMIT_SIGPENDING, 16384, 16384);
  for (const BootRlimit& l : p.rlimits) set(l.resource, l.soft, l.hard);
  return r;
}

// The descriptors of a process to be. A host terminal that becomes its controlling one gets a name in
// /dev/pts, by which ttyname(3) finds it.
class FileMaker {
 public:
  FileMaker(const Walk& walk, PidNamespace& container, BootProcess& process)
      : walk_(walk), container_(container), process_(process) {}

  HostResult<Ref<FdTable>> Make() {
    for (UniqueFd& fd : process_.stdio) TRY(Install(fd));
    for (UniqueFd& fd : process_.extra_fds) TRY(Install(fd));
    return fds_;
  }
  // The first of them that is a terminal, if any.
  const RefPtr<File>& tty() const { return tty_; }
  // Where that is in /dev/pts; empty when it has no name.
  const std::string& tty_name() const { return name_; }

 private:
  HostResult<void> Install(UniqueFd& fd) {
    const int at = number_++;
    if (!fd.valid()) return {};
    const bool named = (process_.terminal || process_.host_tty) && IsTerminal(fd.get());
    const uint64_t device = named ? DeviceOf(fd.get()) : 0;
    RefPtr<File> file;
    if (named) file = Named(fd, device);
    if (!file) {
      Result<Ref<File>> made = NewHostFile(std::move(fd));
      if (!made.ok()) {
        return HostError::WithErrno(made.error().value(), "take descriptor", std::to_string(at));
      }
      file = std::move(*made);
      if (!tty_ && IsHostTty(*file)) tty_ = file;
    } else if (!tty_) {
      tty_ = file;
    }
    Result<void> installed = fds_->InstallAt(at, Ref<File>(*file), false, 1 << 20);
    if (!installed.ok()) {
      return HostError::WithErrno(installed.error().value(), "install descriptor");
    }
    return {};
  }

  static uint64_t DeviceOf(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_rdev : 0;
  }

  // Null when there is no devpts to name it in; `fd` is used up otherwise. Only one terminal gets a
  // name: the one that the first descriptor of them shows.
  RefPtr<File> Named(UniqueFd& fd, uint64_t device) {
    if (place_ && device != device_) return {};
    if (!place_) {
      UniqueFd copy(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
      if (!copy) return {};
      Result<Ref<Inode>> host = NewHostInode(std::move(copy));
      if (!host.ok()) return {};
      Result<HostTerminal> terminal = AddHostTerminal(container_, std::move(*host), process_.uid);
      if (!terminal.ok()) return {};
      place_ = terminal->place;
      device_ = device;
      name_ = "/dev/pts/" + std::to_string(terminal->number);
    }
    Result<Path> path = Vfs::Lookup(walk_, name_, {});
    if (!path.ok() || !S_ISCHR(path->dentry().inode()->type())) return {};
    Result<Ref<Inode>> host = NewHostInode(std::move(fd));
    if (!host.ok()) return {};
    Result<Ref<File>> file = NewNamedTerminal(std::move(*host), *path, Ref<RefCountedBase>(*place_));
    if (!file.ok()) return {};
    return RefPtr<File>(std::move(*file));
  }

  const Walk& walk_;
  PidNamespace& container_;
  BootProcess& process_;
  Ref<FdTable> fds_ = MakeRef<FdTable>();
  int number_ = 0;
  RefPtr<File> tty_;
  RefPtr<RefCountedBase> place_;
  uint64_t device_ = 0;
  std::string name_;
};

// /dev/console is the container's own terminal, where it has one. What stands in the way is left out.
void MakeConsole(const Walk& walk, const std::string& tty_name) {
  if (tty_name.empty()) return;
  Result<Path> made = Vfs::Mknod(walk, "/dev/console", S_IFREG | 0600, 0);
  Result<Path> at = Vfs::Lookup(walk, "/dev/console", {});
  Result<Path> tty = Vfs::Lookup(walk, tty_name, {});
  if (!at.ok() || !tty.ok()) return;
  Result<void> bound = walk.mounts.Bind(*tty, *at, false);
  if (!bound.ok()) RW_LOG(kInfo, "no /dev/console: errno %d", bound.error().value());
}

// linux.seccomp, if there is one.
HostResult<std::optional<bpf::SeccompFilter>> SeccompOf(const BootProcess& process) {
  const std::vector<uint8_t>& bytes = process.seccomp_program;
  if (bytes.empty()) return std::optional<bpf::SeccompFilter>();
  std::vector<bpf::Insn> program(bytes.size() / sizeof(bpf::Insn));
  memcpy(program.data(), bytes.data(), program.size() * sizeof(bpf::Insn));
  Result<bpf::SeccompFilter> filter = bpf::SeccompFilter::Create(program);
  if (filter.ok()) return std::optional<bpf::SeccompFilter>(filter.TakeValue());
  return HostError::WithErrno(filter.error().value(), "config.json: linux.seccomp: check the program of",
                              std::to_string(program.size()) + " instructions");
}

}  // namespace

void MakeBareInit(Kernel& kernel, const GuestContainer& container, const BootProcess& process) {
  Ref<Credentials> creds = Credentials::Root()->Copy();
  creds->cap_bounding = creds->cap_permitted = creds->cap_effective = process.caps.bounding;
  creds->cap_inheritable = creds->cap_ambient = 0;
  Result<void> made = kernel.CreateBareInit({.creds = Ref<const Credentials>(std::move(creds)),
                                             .mounts = Ref<MountNamespace>(container.mounts),
                                             .uts = container.uts,
                                             .rlimits = LimitsOf(process)});
  if (!made.ok()) RW_LOG(kWarning, "no process 1: errno %d", made.error().value());
}

HostResult<Ref<ThreadGroup>> MakeProcess(Kernel& kernel, const GuestContainer& container,
                                         BootProcess& process, Origin origin, int* exit_code) {
  *exit_code = kNotExecutable;
  MountNamespace& mounts = *container.mounts;
  const bool first = container.pid_ns.get() == kernel.tasks().first.get();
  Kernel::ProcessArgs args{.creds = CredentialsOf(process),
                           .mounts = Ref<MountNamespace>(mounts)};
  args.root = mounts.root();
  args.cwd = args.root;
  const Walk at_root{*args.creds, mounts, args.root, args.root};
  Result<Path> cwd = Vfs::Lookup(at_root, process.cwd, {.directory = true});
  if (!cwd.ok()) {
    return HostError::WithErrno(cwd.error().value(), "change to the working directory", process.cwd);
  }
  args.cwd = *cwd;
  const Walk walk{*args.creds, mounts, args.root, args.cwd};
  Result<std::string> program = FindProgram(walk, process);
  if (!program.ok()) {
    *exit_code = program.error().Is(ENOENT) ? kNotFound : kNotExecutable;
    return ProgramError(program.error(), process, true);
  }
  FileMaker files(at_root, *container.pid_ns, process);
  args.fds = TRY(files.Make());
  const RefPtr<File>& tty = files.tty();
  if (origin == Origin::kFirst && process.terminal) {
    Ref<const Credentials> root = Credentials::Root();
    MakeConsole(Walk{*root, mounts, args.root, args.root}, files.tty_name());
  }
  std::optional<bpf::SeccompFilter> filter = TRY(SeccompOf(process));
  args.filename = *program;
  args.argv = process.argv;
  if (process.home_from_passwd && !HasVariable(process, "HOME")) {
    process.envp.push_back("HOME=" + HomeOf(at_root, process.uid));
  }
  args.envp = process.envp;
  args.rlimits = LimitsOf(process);
  args.umask = process.umask.value_or(022);
  args.uts = container.uts;
  args.pid_ns = container.pid_ns;
  args.ipc = container.ipc;
  args.cgroup = container.cgroup;
  // A further container's init is nobody's child either, and the sandbox does not begin with it.
  args.from_outside = origin == Origin::kExec || !first;
  args.ignored_signals = process.ignored_signals;
  args.blocked_signals = process.blocked_signals;
  Result<Ref<ThreadGroup>> tg = kernel.CreateProcess(args);
  if (!tg.ok()) {
    *exit_code = tg.error().Is(ENOENT) ? kNotFound : kNotExecutable;
    return ProgramError(tg.error(), process, false);
  }
  (*tg)->oom_score_adj = process.oom_score_adj;
  SetLeastOomScoreAdj(**tg, process.oom_score_adj);
  Task* leader;
  {
    MutexLock lock(kernel.tasks().mu);
    leader = (*tg)->leader;
    leader->nice = process.nice;
  }
  // The last thing before the program runs, as runc has it where no_new_privs is set: capabilities
  // and ids are what they will be, and no call of the runtime's own has to pass.
  if (filter) {
    RW_CHECK(leader->SetSeccompFilter(process.seccomp_flags, std::move(*filter)).ok());
  }
  if (tty && (process.host_tty || process.terminal)) {
    SetControllingTty(*tty, **tg);
  }
  return std::move(*tg);
}

Result<void> SignalProcess(Kernel& kernel, PidNamespace& ns, ThreadGroup& init,
                           const control::Request::Signal& request) {
  const int signo = request.signal();
  if (!abi::ValidSignal(signo)) return Errno(EINVAL);
  TaskSet& set = kernel.tasks();
  const abi::SigInfo info = MakeSigInfo(signo, kFromOutside);
  MutexLock lock(set.mu);
  if (request.all()) {
    for (const auto& [tid, task] : ns.tasks) {
      if (task->tgid() == task->tid()) TRY(SendSignalToGroup(task->tg(), info));
    }
    return {};
  }
  if (request.pgid() != 0) {
    ProcessGroup* group = ns.FindGroup(request.pgid());
    if (group == nullptr) return Errno(ESRCH);
    SendSignalToProcessGroupLocked(*group, info);
    return {};
  }
  ThreadGroup* tg = request.pid() == 0 ? &init : ns.FindThreadGroup(request.pid());
  if (tg == nullptr || tg->zombie) return Errno(ESRCH);
  if (request.foreground() && tg->pgrp && tg->pgrp->session->foreground_pgid != 0) {
    const auto it = set.groups.find(tg->pgrp->session->foreground_pgid);
    if (it != set.groups.end()) {
      SendSignalToProcessGroupLocked(*it->second, info);
      return {};
    }
  }
  return SendSignalToGroup(*tg, info);
}

std::string DescribeTasks(Kernel& kernel, const PidNamespace& ns) {
  std::string out;
  TaskSet& set = kernel.tasks();
  MutexLock lock(set.mu);
  for (const auto& [tid, task] : ns.tasks) {
    char line[160];
    snprintf(line, sizeof(line), "task %d (process %d) \"%s\" state %c", tid, task->tg().pid->In(ns),
             task->comm().c_str(), task->state());
    out += line;
    if (task->in_syscall()) {
      const int64_t nr = task->syscall_nr();
      const SyscallRow* row = kernel.syscalls().Find(static_cast<uint64_t>(nr));
      snprintf(line, sizeof(line), ": in system call %ld %s", nr, row != nullptr ? row->name : "?");
      out += line;
    } else if (task->state() == 'R') {
      out += ": in guest code";
    }
    if (kernel.Pauses(*task)) out += ", paused";
    out += '\n';
  }
  return out;
}

void ListProcesses(Kernel& kernel, const PidNamespace& ns, control::Response& reply) {
  TaskSet& set = kernel.tasks();
  timespec real, boot;
  clock_gettime(CLOCK_REALTIME, &real);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  const int64_t boot_ms =
      (real.tv_sec - boot.tv_sec) * 1000 + (real.tv_nsec - boot.tv_nsec) / 1'000'000;
  std::vector<Ref<MemoryManager>> mms;  // the last to let go of one must hold no lock
  MutexLock lock(set.mu);
  for (const auto& [tid, task] : ns.tasks) {
    if (task->tgid() != task->tid()) continue;
    ThreadGroup& tg = task->tg();
    control::Task* out = reply.add_tasks();
    out->set_pid(tid);
    out->set_ppid(ParentPidLocked(tg, ns));
    out->set_uid(task->creds_ref()->ruid);
    out->set_start_time_ms(boot_ms + static_cast<int64_t>(tg.start_time_ns.load() / 1'000'000));
    Rusage r = tg.exited_threads;
    for (Task* t : tg.threads) r.Add(t->OwnRusage());
    out->set_cpu_ns(r.utime_ns + r.stime_ns);
    out->set_tty(HasTerminalLocked(tg) ? "tty" : "?");
    out->set_command(task->comm());
    if (RefPtr<MemoryManager> mm = task->mm_ref()) {
      out->set_host_pid(mm->address_space().host_pid());
      mms.emplace_back(*mm);
    }
  }
}

void CountUsage(Kernel& kernel, const PidNamespace& ns, bool syscalls, control::Response& reply) {
  control::Usage* usage = reply.mutable_usage();
  std::vector<Ref<MemoryManager>> mms;  // looked at, and let go of, without the lock
  {
    TaskSet& set = kernel.tasks();
    MutexLock lock(set.mu);
    Rusage sum;
    uint64_t live = 0;
    for (const auto& [tid, task] : ns.tasks) {
      sum.Add(task->OwnRusage());
      if (task->exit_state == ExitState::kAlive && !kernel.IsBareInit(task->tg())) live++;
      if (task->tgid() != task->tid()) continue;
      if (RefPtr<MemoryManager> mm = task->mm_ref()) mms.emplace_back(*mm);
    }
    usage->set_user_ns(sum.utime_ns);
    usage->set_system_ns(sum.stime_ns);
    usage->set_tasks(live);
  }
  uint64_t memory = 0;
  for (const Ref<MemoryManager>& mm : mms) memory += mm->usage().rss;
  usage->set_memory_bytes(memory);
  if (!syscalls) return;
  const PlatformStats stats = kernel.platform().Stats();
  for (size_t nr = 0; nr < PlatformStats::kSyscalls; nr++) {
    if (stats.local[nr] + stats.patched[nr] + stats.trapped[nr] == 0) continue;
    control::SyscallCount* count = usage->add_syscalls();
    count->set_number(static_cast<uint32_t>(nr));
    count->set_local(stats.local[nr]);
    count->set_patched(stats.patched[nr]);
    count->set_trapped(stats.trapped[nr]);
  }
  usage->set_views(stats.views);
  usage->set_view_copies(stats.view_copies);
  usage->set_view_faults(stats.view_faults);
}

}  // namespace ringwall
