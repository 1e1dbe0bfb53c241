// /proc/PID and /proc/PID/task/TID.
#include <dirent.h>
#include <sys/syscall.h>

#include <charconv>

#include "fs/proc/internal.h"
#include "fs/proc/net_hooks.h"
#include "sentry/kernel/nsproxy.h"
#include "sentry/kernel/rare_settings.h"

namespace ringwall::proc {

namespace {

using TextFn = Result<std::string> (*)(const Subject&, Task&);
using WriteFn = Result<void> (*)(const Subject&, Task&, std::string_view);

Result<std::string> CommText(const Subject&, Task& t) { return t.comm() + "\n"; }

Result<void> WriteComm(const Subject& s, Task& t, std::string_view text) {
  const Task* current = Task::Current();
  if (current == nullptr || &current->tg() != s.tg.get()) return Errno(EINVAL);
  t.set_comm(text.substr(0, text.find('\0')));
  return {};
}

Result<std::string> OomScoreAdjText(const Subject& s, Task&) {
  return Format("%d\n", s.tg->oom_score_adj.load());
}

Result<void> WriteOomScoreAdj(const Subject& s, Task&, std::string_view text) {
  const int64_t value = TRY(ParseInteger(text, true, INT32_MIN, INT32_MAX));
  if (value < -1000 || value > 1000) return Errno(EINVAL);
  const Task* current = Task::Current();
  const bool privileged = current != nullptr && current->creds().Has(Capability::kSysResource);
  if (value < LeastOomScoreAdj(*s.tg) && !privileged) return Errno(EACCES);
  s.tg->oom_score_adj.store(static_cast<int>(value));
  if (privileged) SetLeastOomScoreAdj(*s.tg, static_cast<int>(value));
  return {};
}

// Linux's own formula: the share of memory in thousandths, moved by the adjustment.
Result<std::string> OomScoreText(const Subject& s, Task& t) {
  int64_t points = s.tg->oom_score_adj.load();
  if (RefPtr<MemoryManager> mm = t.mm_ref()) {
    const uint64_t total = s.kernel.options().memory_limit;
    if (total != 0) points += static_cast<int64_t>(mm->usage().rss * 1000 / total);
  }
  if (s.tg->oom_score_adj.load() == -1000) points = -1000;
  return Format("%lld\n", static_cast<long long>((1000 + points) * 2 / 3));
}

Result<std::string> TimerSlackText(const Subject& s, Task& t) {
  TRY(MaySetTimerSlack(s, t));
  return Format("%llu\n", static_cast<unsigned long long>(t.timer_slack_ns.load()));
}

Result<std::string> CgroupText(const Subject&, Task&) { return std::string("0::/\n"); }
Result<std::string> PersonalityText(const Subject&, Task& t) {
  return Format("%08x\n", t.personality.load());
}

// Where a kernel would sleep in such a call.
Result<std::string> WchanText(const Subject&, Task& t) {
  if (t.state() != 'S' || !t.in_syscall() || !MayLook(t).ok()) return std::string("0");
  switch (t.syscall_nr()) {
    case SYS_read:
    case SYS_write:
      return std::string("wait_woken");
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
      return std::string("poll_schedule_timeout.constprop.0");
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
      return std::string("ep_poll");
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
      return std::string("hrtimer_nanosleep");
    case SYS_wait4:
    case SYS_waitid:
      return std::string("do_wait");
    case SYS_futex:
      return std::string("futex_do_wait");
    case SYS_rt_sigsuspend:
      return std::string("sigsuspend");
    case SYS_rt_sigtimedwait:
      return std::string("do_sigtimedwait");
    default:
      return std::string("schedule_timeout");
  }
}
// Pages that were merged with others: the host's business (CONFIG_KSM).
Result<std::string> KsmMergingPagesText(const Subject&, Task& t) { return std::string(t.mm_ref() ? "0\n" : ""); }
Result<std::string> KsmStatText(const Subject&, Task& t) {
  if (!t.mm_ref()) return std::string();
  return std::string("ksm_rmap_items 0\nksm_zero_pages 0\nksm_merging_pages 0\nksm_process_profit 0\n"
                     "ksm_merge_any: no\nksm_mergeable: no\n");
}
Result<std::string> LoginuidText(const Subject&, Task& t) {
  const Login login = LoginOf(t);
  const Task* reader = Task::Current();
  if (login.uid == kNoLogin || reader == nullptr) return Format("%u", kNoLogin);
  return Format("%u", reader->creds().user_ns().ShowUid(login.uid));
}

Result<std::string> SessionidText(const Subject&, Task& t) { return Format("%u", LoginOf(t).session); }

// audit_set_loginuid(): by a task for itself, once without a right to it.
Result<void> WriteLoginuid(const Subject&, Task& t, std::string_view text) {
  if (Task::Current() != &t) return Errno(EPERM);
  const int64_t value = TRY(ParseInteger(text, false, 0, UINT32_MAX, true));
  std::optional<Uid> uid = kNoLogin;
  if (value != kNoLogin) uid = t.creds().user_ns().UidIn(static_cast<Uid>(value));
  if (!uid) return Errno(EINVAL);
  if (LoginOf(t).uid != kNoLogin && !t.creds().Has(Capability::kAuditControl)) return Errno(EPERM);
  static std::atomic<uint32_t> sessions{0};
  SetLogin(t, {*uid, *uid == kNoLogin ? kNoLogin : sessions.fetch_add(1) + 1});
  return {};
}
Result<std::string> MapTextFor(Task& t, bool uids) {
  Ref<const Credentials> creds = t.creds_ref();
  const Task* reader = Task::Current();
  if (reader == nullptr) return Errno(EINVAL);
  return creds->user_ns().MapText(uids, reader->creds().user_ns());
}
Result<std::string> UidMapText(const Subject&, Task& t) { return MapTextFor(t, true); }
Result<std::string> GidMapText(const Subject&, Task& t) { return MapTextFor(t, false); }
// Projects have no users here; the map is the initial one.
Result<std::string> ProjidMapText(const Subject&, Task&) {
  return std::string("         0          0 4294967295\n");
}
Result<std::string> SetgroupsText(const Subject&, Task& t) {
  return std::string(t.creds_ref()->user_ns().setgroups_allowed() ? "allow\n" : "deny\n");
}

Result<void> WriteIdMap(Task& t, bool uids, std::string_view text, const Credentials& opener) {
  const Task* writer = Task::Current();
  if (writer == nullptr) return Errno(EPERM);
  UserNamespace& ns = t.creds_ref()->user_ns();
  TRY(ns.WriteMap(uids, text, opener, writer->creds()));
  // What those in it are called has changed.
  TaskSet& set = t.kernel().tasks();
  MutexLock lock(set.mu);
  for (const auto& [tid, task] : set.tasks) {
    if (task->creds_ref()->user_ns().IsWithin(ns)) task->AnswersChanged();
  }
  return {};
}
Result<void> WriteSetgroups(Task& t, std::string_view text, const Credentials& opener) {
  UserNamespace& ns = t.creds_ref()->user_ns();
  if (!opener.HasIn(ns, Capability::kSysAdmin)) return Errno(EPERM);
  return ns.WriteSetgroups(text);
}
Result<std::string> CpusetText(const Subject&, Task&) { return std::string("/\n"); }
// Time on a CPU; neither the wait for one nor the number of slices is known.
Result<std::string> SchedstatText(const Subject&, Task& t) {
  const Rusage r = t.OwnRusage();
  return Format("%llu 0 0\n", static_cast<unsigned long long>(r.utime_ns + r.stime_ns));
}

struct FileRow {
  const char* name;
  uint32_t permissions;
  TextFn read;
  WriteFn write = nullptr;
  bool private_to_lookers = false;  // needs MayLook to open
  bool at_open = false;
  bool process_only = false;  // not below task/
};

constexpr FileRow kFiles[] = {
    {"arch_status", 0444, ArchStatusText},
    {"autogroup", 0644, AutogroupText, WriteAutogroup, false, false, true},
    {"auxv", 0400, AuxvText, nullptr, true},
    {"cgroup", 0444, CgroupText},
    {"clear_refs", 0200, nullptr, WriteClearRefs},
    {"cmdline", 0444, CmdlineText},
    {"comm", 0644, CommText, WriteComm},
    {"coredump_filter", 0644, CoredumpFilterText, WriteCoredumpFilter, false, false, true},
    {"cpuset", 0444, CpusetText},
    {"environ", 0400, EnvironText, nullptr, true},
    {"gid_map", 0644, GidMapText},
    {"io", 0400, IoText, nullptr, true},
    {"ksm_merging_pages", 0400, KsmMergingPagesText, nullptr, true},
    {"ksm_stat", 0400, KsmStatText, nullptr, true},
    {"limits", 0444, LimitsText},
    {"loginuid", 0644, LoginuidText, WriteLoginuid},
    {"maps", 0444, MapsText, nullptr, true},
    {"mountinfo", 0444, MountinfoText, nullptr, false, true},
    {"mounts", 0444, MountsText, nullptr, false, true},
    {"mountstats", 0400, MountstatsText, nullptr, false, true, true},
    {"numa_maps", 0444, NumaMapsText, nullptr, true},
    {"oom_adj", 0644, OomAdjText, WriteOomAdj},
    {"oom_score", 0444, OomScoreText},
    {"oom_score_adj", 0644, OomScoreAdjText, WriteOomScoreAdj},
    {"personality", 0400, PersonalityText, nullptr, true},
    {"projid_map", 0644, ProjidMapText},
    {"sched", 0644, SchedText},
    {"schedstat", 0444, SchedstatText},
    {"sessionid", 0444, SessionidText},
    {"setgroups", 0644, SetgroupsText},
    {"smaps", 0444, SmapsText, nullptr, true},
    {"smaps_rollup", 0444, SmapsRollupText, nullptr, true},
    {"stack", 0400, StackText, nullptr, true},
    {"stat", 0444, StatText},
    {"statm", 0444, StatmText},
    {"status", 0444, StatusText},
    {"syscall", 0400, SyscallText, nullptr, true},
    {"timers", 0444, TimersText, nullptr, false, false, true},
    {"timerslack_ns", 0666, TimerSlackText, WriteTimerSlack, false, false, true},
    {"uid_map", 0644, UidMapText},
    {"wchan", 0444, WchanText},
};

// Most are seq_files.
TextStyle::Seeks SeeksOf(std::string_view name) {
  for (const char* small : {"auxv", "cmdline", "coredump_filter", "environ", "loginuid", "oom_adj", "sessionid"}) {
    if (name == small) return TextStyle::Seeks::kSmall;
  }
  if (name == "oom_score_adj") return TextStyle::Seeks::kPlain;
  return name == "clear_refs" ? TextStyle::Seeks::kNowhere : TextStyle::Seeks::kSeq;
}

constexpr FileRow kChildren = {"children", 0444, ChildrenText};

constexpr const char* kLinks[] = {"cwd", "exe", "root"};

Result<Path> LinkTarget(const Subject& s, std::string_view name) {
  Ref<Task> task = TRY(s.Get());
  TRY(MayLook(*task));
  if (name == "exe") {
    RefPtr<MemoryManager> mm = task->mm_ref();
    RefPtr<File> file = mm ? mm->executable() : RefPtr<File>();
    if (!file) return Errno(ENOENT);
    return Path(file->path());
  }
  RefPtr<FsContext> context = task->fs_ref();
  if (!context) return Errno(ENOENT);
  return name == "cwd" ? context->cwd() : context->root();
}

Result<std::string> NameFor(Task& looker, const Path& path) {
  RefPtr<FsContext> context = looker.fs_ref();
  if (!context) return Errno(ESRCH);
  return Vfs::FullName(path, context->root(), *looker.mounts_ref());
}

// The links of ns/.
constexpr const char* kNamespaces[] = {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children",
                                       "user", "uts"};

// ENOENT when the task has exited, and for pid_for_children before there is any child in it.
Result<Ref<Namespace>> NamespaceOfTask(Task& task, std::string_view name) {
  if (name == "user") return Ref<Namespace>(task.creds_ref()->user_ns());
  if (name == "pid") return Ref<Namespace>(task.pid_ns());
  const NsProxy ns = task.nsproxy_ref();
  if (!ns.mounts) return Errno(ENOENT);
  if (name == "mnt") return Ref<Namespace>(*ns.mounts);
  if (name == "uts") return Ref<Namespace>(*ns.uts);
  if (name == "ipc") return Ref<Namespace>(ns.ipc);
  if (name == "net") return Ref<Namespace>(ns.net);
  if (name == "cgroup") return Ref<Namespace>(ns.cgroup);
  MutexLock lock(task.kernel().tasks().mu);
  if (ns.pid_for_children->level() != 0 && !ns.pid_for_children->had_init) return Errno(ENOENT);
  return Ref<Namespace>(*ns.pid_for_children);
}

class NsDirectory final : public SyntheticDirectory {
 public:
  NsDirectory(FileSystem& fs, Subject s, uint64_t ino)
      : SyntheticDirectory(fs, S_IFDIR | 0511, ino), s_(std::move(s)) {}
  Caching caching() const override { return Caching::kRevalidate; }
  Owner owner() override { return OwnerOf(s_); }

  Result<Ref<Inode>> Lookup(std::string_view name) override {
    for (const char* row : kNamespaces) {
      if (name != row) continue;
      LinkInode::Ops ops;
      const auto find = [s = s_, row]() -> Result<Ref<Namespace>> {
        Ref<Task> task = TRY(s.Get());
        TRY(MayLook(*task));
        return NamespaceOfTask(*task, row);
      };
      ops.read = [find]() -> Result<std::string> {
        const Ref<Namespace> ns = TRY(find());
        return Format("%s:[%llu]", ns->name(), static_cast<unsigned long long>(ns->number()));
      };
      ops.follow = [find]() -> Result<Path> {
        Ref<Namespace> ns = TRY(find());
        return NamespacePath(std::move(ns));
      };
      ops.owner = [s = s_] { return OwnerOf(s); };
      return Ref<Inode>(MakeRef<LinkInode>(fs(), InoOf(ino(), name), 0777u, std::move(ops)));
    }
    return Errno(ENOENT);
  }

  Result<std::vector<DirEntry>> Entries() override {
    std::vector<DirEntry> all;
    for (const char* row : kNamespaces) {
      all.push_back({row, InoOf(ino(), row), DT_LNK});
    }
    return all;
  }

 private:
  const Subject s_;
};

// task/: the threads.
class ThreadsDirectory final : public SyntheticDirectory {
 public:
  ThreadsDirectory(FileSystem& fs, Subject s, uint64_t ino)
      : SyntheticDirectory(fs, S_IFDIR | 0555, ino), s_(std::move(s)) {}
  Caching caching() const override { return Caching::kRevalidate; }
  Owner owner() override { return OwnerOf(s_); }

  Result<Ref<Inode>> Lookup(std::string_view name) override {
    int tid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), tid);
    if (error != std::errc() || end != name.data() + name.size() || name.front() == '0') {
      return Errno(ENOENT);
    }
    {
      MutexLock lock(s_.kernel.tasks().mu);
      const Task* task = s_.ns->FindTask(tid);
      if (task == nullptr || &task->tg() != s_.tg.get()) return Errno(ENOENT);
      tid = task->tid();
    }
    Subject one{s_.kernel, s_.ns, s_.tg, tid, true};
    return Ref<Inode>(NewTaskDirectory(fs(), std::move(one)));
  }

  Result<std::vector<DirEntry>> Entries() override {
    std::vector<DirEntry> all;
    TaskSet& set = s_.kernel.tasks();
    MutexLock lock(set.mu);
    if (set.FindThreadGroup(s_.tg->tgid()) != s_.tg.get()) return Errno(ENOENT);
    for (const auto& [tid, task] : s_.ns->tasks) {
      if (&task->tg() != s_.tg.get()) continue;
      std::string name = Format("%d", tid);
      const uint64_t ino = InoOf(this->ino(), name);
      all.push_back({std::move(name), ino, DT_DIR});
    }
    return all;
  }

 protected:
  uint32_t nlink() override { return LinksOfEntries(); }

 private:
  const Subject s_;
};

class TaskDirectory final : public SyntheticDirectory {
 public:
  TaskDirectory(FileSystem& fs, Subject s)
      : SyntheticDirectory(fs, S_IFDIR | 0555,
                           InoOf(s.thread ? 2 : 1, Format("%d", s.thread ? s.tid : s.tg->tgid()))),
        s_(std::move(s)) {}

  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
  // Null for a directory below task/.
  RefPtr<ThreadGroup> process() const {
    return s_.thread ? nullptr : RefPtr<ThreadGroup>(s_.tg);
  }

  Caching caching() const override { return Caching::kRevalidate; }
  Owner owner() override {
    Result<Ref<Task>> task = s_.Get();
    if (!task.ok()) return {};
    Ref<const Credentials> creds = (*task)->creds_ref();
    return {creds->euid, creds->egid};
  }
  std::optional<Result<void>> CheckPermission(const Credentials&, uint32_t want) override {
    Result<Ref<Task>> task = s_.Get();
    if (!task.ok()) return Result<void>(task.error());
    // Immutable (S_IMMUTABLE), root's or not. Who makes or removes names asks to search as well, and hears
    // of the names first.
    if ((want & (kMayWrite | kMayExec)) == kMayWrite) return Result<void>(Errno(EPERM));
    return std::nullopt;
  }

  Result<Ref<Inode>> Lookup(std::string_view name) override {
    const uint64_t child = InoOf(ino(), name);
    for (const FileRow& row : kFiles) {
      if (name != row.name || (row.process_only && s_.thread)) continue;
      return Ref<Inode>(MakeFile(row, child));
    }
    for (const char* link : kLinks) {
      if (name == link) return Ref<Inode>(MakeLink(link, child));
    }
    if (name == "fd") return Ref<Inode>(NewFdDirectory(fs(), s_, child));
    if (name == "fdinfo") return Ref<Inode>(NewFdinfoDirectory(fs(), s_, child));
    if (name == "attr") return Ref<Inode>(NewAttrDirectory(fs(), s_, child));
    if (name == "pagemap") return Ref<Inode>(NewPagemapFile(fs(), s_, child));
    if (name == "map_files" && !s_.thread) {
      return Ref<Inode>(NewMapFilesDirectory(fs(), s_, child));
    }
    if (name == "children" && s_.thread) return Ref<Inode>(MakeFile(kChildren, child));
    if (name == "mem") return Ref<Inode>(NewMemFile(fs(), s_, child));
    if (name == "ns") return Ref<Inode>(MakeRef<NsDirectory>(fs(), s_, child));
    if (name == "task" && !s_.thread) {
      return Ref<Inode>(MakeRef<ThreadsDirectory>(fs(), s_, child));
    }
    if (name == "net") {
      // What has ended has none.
      Ref<Task> of = TRY(s_.Get());
      const bool ended = !of->net_ref();
      Ref<StaticDirectory> net = MakeRef<StaticDirectory>(fs(), child);
      net->set_style(kNetStyle);
      net->set_owner([s = s_] { return OwnerOfDirectory(s); });
      if (auto add = GetNetHooks().proc_net; add && !ended) {
        add(*net, [s = s_]() -> Result<Ref<NetNamespaceBase>> {
          Ref<Task> task = TRY(s.Get());
          RefPtr<NetNamespaceBase> n = task->net_ref();
          if (!n) return Errno(EINVAL);
          return Ref<NetNamespaceBase>(std::move(n));
        });
      }
      return Ref<Inode>(std::move(net));
    }
    return Errno(ENOENT);
  }

  Result<std::vector<DirEntry>> Entries() override {
    TRY(s_.Get());
    std::vector<DirEntry> all;
    const auto add = [&](const char* name, uint8_t type) {
      all.push_back({name, InoOf(ino(), name), type});
    };
    for (const FileRow& row : kFiles) {
      if (!row.process_only || !s_.thread) add(row.name, DT_REG);
    }
    for (const char* link : kLinks) add(link, DT_LNK);
    add("mem", DT_REG);
    add("pagemap", DT_REG);
    add("attr", DT_DIR);
    if (s_.thread) add("children", DT_REG);
    if (!s_.thread) add("map_files", DT_DIR);
    for (const char* dir : {"fd", "fdinfo", "net", "ns"}) add(dir, DT_DIR);
    if (!s_.thread) add("task", DT_DIR);
    return all;
  }

 protected:
  // attr, fd, fdinfo, net, ns; map_files, task.
  uint32_t nlink() override { return 2 + (s_.thread ? 5 : 7); }

 private:
  Ref<SyntheticInode> MakeFile(const FileRow& row, uint64_t ino) {
    TextOps ops;
    ops.style = kTaskStyle;
    ops.style.seeks = SeeksOf(row.name);
    if (row.read != nullptr) {
      ops.read = [s = s_, read = row.read]() -> Result<std::string> {
        Ref<Task> task = TRY(s.Get());
        return read(s, *task);
      };
    }
    if (row.write != nullptr) {
      ops.write = [s = s_, write = row.write](std::string_view text) -> Result<void> {
        Ref<Task> task = TRY(s.Get());
        return write(s, *task, text);
      };
    }
    if (std::string_view(row.name).ends_with("id_map") || std::string_view(row.name) == "setgroups") {
      ops.write_as = [s = s_, name = std::string_view(row.name)](
                         std::string_view text, const Credentials& opener) -> Result<void> {
        Ref<Task> task = TRY(s.Get());
        if (name == "setgroups") return WriteSetgroups(*task, text, opener);
        if (name == "projid_map") return Errno(EPERM);
        return WriteIdMap(*task, name == "uid_map", text, opener);
      };
    }
    if (std::string_view(row.name) == "setgroups") {
      // proc_setgroups_open()
      ops.check_write_open = [s = s_]() -> Result<void> {
        Ref<Task> task = TRY(s.Get());
        const Task* current = Task::Current();
        const bool may = current != nullptr &&
                         current->creds().HasIn(task->creds_ref()->user_ns(), Capability::kSysAdmin);
        return may ? Result<void>() : Errno(EACCES);
      };
    }
    if (row.private_to_lookers) {
      ops.check_open = [s = s_]() -> Result<void> {
        Ref<Task> task = TRY(s.Get());
        return MayLook(*task);
      };
    }
    if (row.read == MapsText) {
      ops.ioctl = [s = s_](Task& t, uint32_t cmd, uint64_t arg) { return MapsIoctl(s, t, cmd, arg); };
    }
    ops.owner = [s = s_] { return OwnerOf(s); };
    ops.at_open = row.at_open;
    if (row.at_open && row.read != MountstatsText) {
      // The files about mounts.
      ops.watch = [s = s_]() -> Result<TextOps::Watch> {
        Ref<Task> task = TRY(s.Get());
        RefPtr<MountNamespace> mounts = task->mounts_ref();
        if (!mounts) return Errno(EINVAL);
        MountNamespace* const ns = mounts.get();
        return TextOps::Watch{Ref<MountNamespace>(mounts), &ns->changes(), [ns] { return ns->generation(); }};
      };
    }
    return MakeRef<TextInode>(fs(), ino, row.permissions, std::move(ops));
  }

  Ref<SyntheticInode> MakeLink(const char* name, uint64_t ino) {
    LinkInode::Ops ops;
    ops.read = [s = s_, name]() -> Result<std::string> {
      const Path path = TRY(LinkTarget(s, name));
      Task* current = Task::Current();
      if (current == nullptr) return Errno(ESRCH);
      return NameFor(*current, path);
    };
    ops.follow = [s = s_, name] { return LinkTarget(s, name); };
    ops.owner = [s = s_] { return OwnerOf(s); };
    return MakeRef<LinkInode>(fs(), ino, 0777u, std::move(ops));
  }

  const Subject s_;
};

}  // namespace

Result<void> MayLook(Task& target) {
  const Task* current = Task::Current();
  if (current == nullptr || &current->tg() == &target.tg()) return {};
  const Credentials& mine = current->creds();
  Ref<const Credentials> theirs = target.creds_ref();
  const bool trusted = mine.HasIn(theirs->user_ns(), Capability::kSysPtrace);
  const bool same = mine.fsuid == theirs->euid && mine.fsuid == theirs->suid &&
                    mine.fsuid == theirs->ruid && mine.fsgid == theirs->egid &&
                    mine.fsgid == theirs->sgid && mine.fsgid == theirs->rgid;
  if (!same && !trusted) return Errno(EACCES);
  RefPtr<MemoryManager> mm = target.mm_ref();
  if (mm && mm->dumpable() != 1 && !trusted) return Errno(EACCES);
  if ((theirs->cap_permitted & ~mine.cap_permitted) != 0 && !trusted) return Errno(EACCES);
  return {};
}

Owner OwnerOf(const Subject& subject) {
  Result<Ref<Task>> task = subject.Get();
  if (!task.ok()) return {};
  RefPtr<MemoryManager> mm = (*task)->mm_ref();
  // task_dump_owner(): what may not be dumped, and what has ended, is root's.
  if (!mm || mm->dumpable() != 1) return {};
  return OwnerOfDirectory(subject);
}

Owner OwnerOfDirectory(const Subject& subject) {
  Result<Ref<Task>> task = subject.Get();
  if (!task.ok()) return {};
  Ref<const Credentials> creds = (*task)->creds_ref();
  return {creds->euid, creds->egid};
}

RefPtr<ThreadGroup> ProcessOfDirectory(Inode& inode) {
  if (inode.kind() != &TaskDirectory::kKind) return nullptr;
  return static_cast<TaskDirectory&>(inode).process();
}

Ref<SyntheticInode> NewTaskDirectory(FileSystem& fs, Subject subject) {
  return MakeRef<TaskDirectory>(fs, std::move(subject));
}

}  // namespace ringwall::proc
