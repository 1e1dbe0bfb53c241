// /proc/sys: the values that programs ask for. Those that are only kept are in sysctl_values.cc.
#include <sys/random.h>

#include <charconv>

#include "fs/pipe/pipe.h"
#include "fs/proc/internal.h"
#include "fs/proc/net_hooks.h"
#include "fs/vfs/dnotify.h"
#include "fs/vfs/inotify.h"
#include "fs/vfs/leases.h"
#include "sentry/kernel/aio.h"
#include "sentry/kernel/sysctl_limits.h"
#include "fs/vfs/permission.h"

namespace ringwall::proc {

namespace {

// fs.overflowuid, of file systems that store 16 bits: there are none, so they are kept alone.
std::atomic<int> overflow_fs_uid{65534}, overflow_fs_gid{65534};

std::string NewUuid() {
  uint8_t b[16] = {};
  // Cannot fail for so few bytes once the host is up.
  (void)!getrandom(b, sizeof(b), 0);
  b[6] = static_cast<uint8_t>((b[6] & 0x0f) | 0x40);
  b[8] = static_cast<uint8_t>((b[8] & 0x3f) | 0x80);
  std::string out;
  for (size_t i = 0; i < sizeof(b); i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    AppendFormat(&out, "%02x", b[i]);
  }
  return out + "\n";
}

void AddNames(StaticDirectory& kernel) {
  kernel.AddText("ostype", "Linux\n");
  kernel.AddText("osrelease", "6.12.0\n");
  kernel.AddText("version", "#1 SMP PREEMPT_DYNAMIC Ringwall\n");
  struct Name {
    const char* file;
    std::string UtsName::*field;
  };
  for (const Name& name : {Name{"hostname", &UtsName::hostname},
                           Name{"domainname", &UtsName::domainname}}) {
    const auto read = [field = name.field]() -> Result<std::string> {
      Task* task = Task::Current();
      if (task == nullptr) return Errno(ESRCH);
      return task->uts().name.With([field](const UtsName& n) { return n.*field + "\n"; });
    };
    const auto write = [field = name.field](std::string_view text) -> Result<void> {
      Task* task = Task::Current();
      if (task == nullptr || !task->creds().Has(Capability::kSysAdmin)) return Errno(EPERM);
      std::string value(text.substr(0, std::min(text.find('\n'), size_t{64})));
      task->uts().name.With([&](UtsName& n) { n.*field = std::move(value); });
      return {};
    };
    kernel.AddFile(name.file, read, 0644, write);
  }
}

// kernel.ns_last_pid: after which number the next task of the reader's namespace gets its own.
void AddLastPid(StaticDirectory& kernel, Kernel& k) {
  kernel.AddFile(
      "ns_last_pid",
      [&k]() -> Result<std::string> {
        const Task* t = Task::Current();
        if (t == nullptr) return Errno(ESRCH);
        MutexLock lock(k.tasks().mu);
        return Format("%d\n", t->pid_ns().last_pid);
      },
      0666,
      [&k](std::string_view text) -> Result<void> {
        const Task* t = Task::Current();
        const auto may = [&](Capability c) { return t->creds().HasIn(t->pid_ns().user_ns(), c); };
        if (t == nullptr || (!may(Capability::kCheckpointRestore) && !may(Capability::kSysAdmin))) {
          return Errno(EPERM);
        }
        const int64_t n = TRY(ParseDecimal(text));
        if (n < 0 || n > PidMax().load()) return Errno(EINVAL);
        MutexLock lock(k.tasks().mu);
        t->pid_ns().last_pid = static_cast<int>(n);
        return {};
      });
}

// kernel/pty and dev/tty.
void AddTerminalLimits(StaticDirectory& kernel, StaticDirectory& tty) {
  Ref<StaticDirectory> pty = kernel.AddDirectory("pty");
  AddNumber(*pty, "max", &pty_limits.max, 0, INT32_MAX);
  AddNumber(*pty, "reserve", &pty_limits.reserve, 0, INT32_MAX);
  pty->AddFile("nr", []() -> Result<std::string> { return Format("%d\n", pty_limits.count.load()); });
  AddNumber(tty, "legacy_tiocsti", &legacy_tiocsti, 0, 1);
}

// A number of the whole sandbox that root may set.
template <typename T>
void AddGlobal(StaticDirectory& dir, const char* name, std::atomic<T>* value) {
  const auto read = [value]() -> Result<std::string> {
    return Format("%llu\n", static_cast<unsigned long long>(value->load()));
  };
  const auto write = [value](std::string_view text) -> Result<void> {
    const Task* task = Task::Current();
    if (task == nullptr || !task->creds().Has(Capability::kSysAdmin)) return Errno(EPERM);
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
    T fresh = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fresh);
    if (error != std::errc() || end != text.data() + text.size() || fresh > INT32_MAX) {
      return Errno(EINVAL);
    }
    value->store(fresh);
    return {};
  };
  dir.AddFile(name, read, 0644, write);
}

}  // namespace

void AddNumber(StaticDirectory& dir, const char* name, std::atomic<int>* value, int low, int high, uint32_t permissions) {
  dir.AddFile(
      name, [value]() -> Result<std::string> { return Format("%d\n", value->load()); }, permissions,
      [value, low, high](std::string_view text) -> Result<void> {
        const int64_t n = TRY(ParseDecimal(text));
        if (n < low || n > high) return Errno(EINVAL);
        value->store(static_cast<int>(n));
        return {};
      });
}

namespace {

// user.max_*_namespaces, of the reader's own namespace.
void AddNamespaceLimits(StaticDirectory& user) {
  for (const auto& [name, kind] : {std::pair{"max_user_namespaces", NamespaceKind::kUser},
                                   {"max_mnt_namespaces", NamespaceKind::kMount},
                                   {"max_uts_namespaces", NamespaceKind::kUts},
                                   {"max_ipc_namespaces", NamespaceKind::kIpc},
                                   {"max_pid_namespaces", NamespaceKind::kPid},
                                   {"max_net_namespaces", NamespaceKind::kNet},
                                   {"max_cgroup_namespaces", NamespaceKind::kCgroup}}) {
    user.AddFile(
        name,
        [kind = kind]() -> Result<std::string> {
          const Task* t = Task::Current();
          if (t == nullptr) return Errno(ESRCH);
          return Format("%lld\n", static_cast<long long>(t->creds().user_ns().limit(kind)));
        },
        0644,
        [kind = kind](std::string_view text) -> Result<void> {
          const Task* t = Task::Current();
          const int64_t n = TRY(ParseDecimal(text));
          if (t == nullptr || !t->creds().HasOwn(Capability::kSysResource)) return Errno(EPERM);
          if (n < 0 || n > INT32_MAX) return Errno(EINVAL);
          t->creds().user_ns().set_limit(kind, n);
          return {};
        });
  }
}

}  // namespace

void AddSysctls(StaticDirectory& sys, Kernel& k) {
  sys.set_style(kSysctlStyle);
  Ref<StaticDirectory> kernel = sys.AddDirectory("kernel");
  AddNames(*kernel);
  kernel->AddText("arch", "x86_64\n");
  Ref<StaticDirectory> seccomp = kernel->AddDirectory("seccomp");
  seccomp->AddText("actions_avail", "kill_process kill_thread trap errno trace log allow\n");
  // From RESERVED_PIDS + 1 to PID_MAX_LIMIT.
  AddNumber(*kernel, "pid_max", &PidMax(), 301, 4194304);
  kernel->AddFile(
      "threads-max",
      [&k]() -> Result<std::string> {
        MutexLock lock(k.tasks().mu);
        return Format("%d\n", k.tasks().max_tasks);
      },
      0644,
      [&k](std::string_view text) -> Result<void> {
        // MIN_THREADS; as many as there can be numbers.
        const int64_t n = TRY(ParseDecimal(text));
        if (n < 20 || n > 4194304) return Errno(EINVAL);
        MutexLock lock(k.tasks().mu);
        k.tasks().max_tasks = static_cast<int>(n);
        return {};
      });
  kernel->AddText("cap_last_cap", "40\n");
  kernel->AddText("ngroups_max", "65536\n");
  AddNumber(*kernel, "overflowuid", &overflow_uid, 0, 65535);
  AddNumber(*kernel, "overflowgid", &overflow_gid, 0, 65535);
  AddNumber(*kernel, "randomize_va_space", &RandomizeVaSpace(), INT32_MIN, INT32_MAX);
  AddLastPid(*kernel, k);
  AddIpcSysctls(*kernel);
  Ref<StaticDirectory> random = kernel->AddDirectory("random");
  random->AddText("boot_id", NewUuid());
  random->AddFile("uuid", []() -> Result<std::string> { return NewUuid(); });
  random->AddText("entropy_avail", "256\n");
  random->AddText("poolsize", "256\n");
  // Linux takes what is written and does nothing with it (drivers/char/random.c).
  for (const auto& [name, value] : {std::pair{"urandom_min_reseed_secs", "60\n"}, {"write_wakeup_threshold", "256\n"}}) {
    random->AddFile(name, [value = value]() -> Result<std::string> { return std::string(value); }, 0644,
                    [](std::string_view) -> Result<void> { return {}; });
  }
  AddTerminalLimits(*kernel, *sys.AddDirectory("dev")->AddDirectory("tty"));

  Ref<StaticDirectory> yama = kernel->AddDirectory("yama");
  yama->AddFile(
      "ptrace_scope",
      [&k]() -> Result<std::string> { return Format("%d\n", k.ptrace_scope()); }, 0644,
      [&k](std::string_view text) -> Result<void> {
        const Task* t = Task::Current();
        if (t == nullptr || !t->creds().Has(Capability::kSysPtrace)) return Errno(EPERM);
        while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
        if (text.size() != 1 || text[0] < '0' || text[0] > '3') return Errno(EINVAL);
        // 3 is for ever.
        if (k.ptrace_scope() == 3 && text[0] != '3') return Errno(EINVAL);
        k.set_ptrace_scope(text[0] - '0');
        return {};
      });

  Ref<StaticDirectory> vm = sys.AddDirectory("vm");
  vm->AddText("mmap_min_addr", Format("%llu\n", static_cast<unsigned long long>(kGuestMinAddr)));
  vm->AddText("nr_hugepages", "0\n");

  Ref<StaticDirectory> fs = sys.AddDirectory("fs");
  fs->AddText("file-max", "9223372036854775807\n");
  fs->AddFile("file-nr", [&k]() -> Result<std::string> {
    // Descriptors of all processes; files that several share count several times.
    std::vector<RefPtr<FdTable>> tables;
    {
      TaskSet& set = k.tasks();
      MutexLock lock(set.mu);
      for (const auto& [tid, task] : set.tasks) {
        if (task->tgid() == tid) tables.push_back(task->fds_ref());
      }
    }
    size_t open = 0;
    for (const RefPtr<FdTable>& table : tables) open += table ? table->List().size() : 0;
    return Format("%zu\t0\t9223372036854775807\n", open);
  });
  // The caches are the host's; these have the shape.
  fs->AddText("dentry-state", "0\t0\t45\t0\t0\t0\n");
  fs->AddText("inode-nr", "0\t0\n");
  fs->AddText("inode-state", "0\t0\t0\t0\t0\t0\t0\n");
  // Not below the bits of a word, nor beyond what a table could have.
  AddNumber(*fs, "nr_open", &NrOpen(), 64, 1073741816);
  AddGlobal(*fs, "pipe-max-size", &pipe_limits().max_size);
  AddGlobal(*fs, "pipe-user-pages-hard", &pipe_limits().user_pages_hard);
  AddGlobal(*fs, "pipe-user-pages-soft", &pipe_limits().user_pages_soft);
  AddGlobal(*fs, "aio-max-nr", &AioMaxNr());
  fs->AddFile("aio-nr", []() -> Result<std::string> {
    return Format("%llu\n", static_cast<unsigned long long>(AioNr().load()));
  });
  LinkProtection& links = Protection();
  AddNumber(*fs, "protected_hardlinks", &links.hardlinks, 0, 1);
  AddNumber(*fs, "protected_symlinks", &links.symlinks, 0, 1);
  AddNumber(*fs, "protected_fifos", &links.fifos, 0, 2);
  AddNumber(*fs, "protected_regular", &links.regular, 0, 2);
  AddNumber(*fs, "overflowuid", &overflow_fs_uid, 0, 65535);
  AddNumber(*fs, "overflowgid", &overflow_fs_gid, 0, 65535);
  AddGlobal(*fs, "lease-break-time", &lease_settings().break_time);
  AddGlobal(*fs, "leases-enable", &lease_settings().enabled);
  AddGlobal(*fs, "dir-notify-enable", &dir_notify_enabled());
  AddNamespaceLimits(*sys.AddDirectory("user"));
  AddSysctlValues(*kernel, *vm, *fs);
  AddMqueueSysctls(*fs);
  Ref<StaticDirectory> inotify = fs->AddDirectory("inotify");
  AddGlobal(*inotify, "max_user_watches", &inotify_limits().watches);
  AddGlobal(*inotify, "max_user_instances", &inotify_limits().instances);
  AddGlobal(*inotify, "max_queued_events", &inotify_limits().events);
  fs->AddDirectory("epoll")->AddFile(
      "max_user_watches",
      []() -> Result<std::string> {
        return Format("%lld\n", static_cast<long long>(max_epoll_watches.load()));
      },
      0644,
      [](std::string_view text) -> Result<void> {
        const int64_t n = TRY(ParseDecimal(text));
        if (n < 0) return Errno(EINVAL);
        max_epoll_watches.store(n);
        return {};
      });

  Ref<StaticDirectory> net = sys.AddDirectory("net");
  if (auto add = GetNetHooks().sysctls) add(*net);
}

}  // namespace ringwall::proc
