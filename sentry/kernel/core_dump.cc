// Core dumps: stopping the threads, naming and opening the file (fs/coredump.c:do_coredump()).
#include "sentry/kernel/core_dump.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <array>

#include "sentry/base/log.h"
#include "sentry/kernel/core_elf.h"
#include "sentry/kernel/kernel_log.h"
#include "sentry/kernel/late_wakes.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/task_life.h"

namespace ringwall {

namespace {

constexpr int kAsRoot = 2;  // SUID_DUMP_ROOT
constexpr uint64_t kSmallestCore = 4096;

// What administrators look for in dmesg.
void Note(Task& t, const std::string& what) {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  const uint64_t ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  KernelLog::Get().Append(KernelLog::kInfo, ns - t.kernel().start_boottime_ns(),
                          "Pid " + std::to_string(t.vtgid()) + "(" + t.comm() + ") " + what);
}

CoreNameFacts FactsOf(Task& t, int signo) {
  CoreNameFacts f;
  f.pid = t.vtgid();
  f.tid = t.vtid();
  f.first_pid = t.tgid();
  f.first_tid = t.tid();
  f.uid = t.creds().ruid;
  f.gid = t.creds().rgid;
  f.dumpable = t.mm().dumpable();
  f.signo = signo;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  f.time = now.tv_sec;
  f.limit = t.tg().limit(RLIMIT_CORE);
  f.hostname = t.uts().name.With([](const UtsName& n) { return n.hostname; });
  f.comm = t.comm();
  if (RefPtr<File> program = t.mm().executable()) {
    f.executable = Vfs::FullName(program->path(), t.fs().root(), t.mounts());
  }
  return f;
}

// Where init lives, for dumps that the process itself must not place. Without an init's files: where the
// process does.
RefPtr<FsContext> InitFiles(Task& t, RefPtr<MountNamespace>* mounts, RefPtr<const Credentials>* creds,
                            RefPtr<UtsNamespace>* uts) {
  RefPtr<Task> leader;
  {
    MutexLock lock(t.kernel().tasks().mu);
    ThreadGroup* init = t.kernel().init();
    leader = RefPtr<Task>(init == nullptr ? nullptr : init->leader);
  }
  if (!leader) return nullptr;
  *mounts = leader->mounts_ref();
  if (!*mounts) return nullptr;
  if (creds != nullptr) *creds = leader->creds_ref();
  if (uts != nullptr) *uts = leader->nsproxy_ref().uts;
  RefPtr<FsContext> fs = leader->fs_ref();
  if (!fs) fs = MakeRef<FsContext>((*mounts)->root(), (*mounts)->root(), 022);
  return fs;
}

Result<Ref<File>> OpenCoreFile(Task& t, const std::string& name) {
  constexpr uint32_t kFlags = O_CREAT | O_WRONLY | O_NOFOLLOW | O_EXCL;
  const bool as_root = t.mm().dumpable() == kAsRoot;
  Ref<Credentials> creds = t.creds().Copy();
  Path root = t.fs().root(), start = t.fs().cwd();
  RefPtr<MountNamespace> mounts(&t.mounts());
  if (as_root) {
    // Nobody knows who has had a hand in it: only to where an administrator said, and as root.
    if (!name.starts_with('/')) {
      Note(t, "can only dump core to fully qualified path/pipe destination!");
      return Errno(EPERM);
    }
    creds->fsuid = 0;
    if (RefPtr<FsContext> fs = InitFiles(t, &mounts, nullptr, nullptr)) start = root = fs->root();
    if (!mounts) mounts = RefPtr<MountNamespace>(&t.mounts());
  }
  const Walk walk{.creds = *creds, .mounts = *mounts, .root = root, .start = start, .umask = t.fs().umask()};
  // One that is not there is fine; whatever else is wrong shows when it is opened. Another user's stays.
  if (!as_root) static_cast<void>(Vfs::Unlink(walk, name).ok());
  Ref<File> file = TRY(Vfs::Open(walk, name, kFlags, 0600, nullptr));
  const Attr attr = TRY(file->inode().GetAttr());
  if (!S_ISREG(attr.mode) || attr.nlink != 1) return Errno(EPERM);
  // A file system that makes files of another owner, or for all to read, gets no secrets.
  if (attr.uid != creds->fsuid || (attr.mode & 0677) != 0600) return Errno(EPERM);
  return file;
}

// The program runs as root where init does, with no right that init's descendants could not have.
Result<Ref<File>> StartCoreProgram(Task& t, const CoreName& name) {
  const CoreSettings::PipeMaker make = CoreSettings::Get().make_pipe.load();
  if (make == nullptr) return Errno(ENOSYS);
  RefPtr<MountNamespace> mounts;
  RefPtr<const Credentials> init;
  RefPtr<UtsNamespace> uts;
  RefPtr<FsContext> fs = InitFiles(t, &mounts, &init, &uts);
  if (!fs || !init) return Errno(ESRCH);
  CoreSettings::Pipe pipe = TRY(make());
  Ref<Credentials> creds = Credentials::Root()->Copy();
  creds->cap_bounding = init->cap_bounding;
  creds->cap_permitted = creds->cap_effective = init->cap_bounding;
  creds->no_new_privs = init->no_new_privs;
  Ref<FdTable> fds = MakeRef<FdTable>();
  TRY(fds->InstallAt(0, std::move(pipe.reader), false, 1));
  Kernel::ProcessArgs args{.creds = Ref<const Credentials>(std::move(creds)),
                           .mounts = Ref<MountNamespace>(std::move(mounts))};
  args.filename = name.argv.front();
  args.argv = name.argv;
  args.envp = {"HOME=/", "TERM=linux", "PATH=/sbin:/usr/sbin:/bin:/usr/bin"};
  args.root = args.cwd = fs->root();
  args.fds = fds;
  args.uts = uts;
  args.rlimits.limits[RLIMIT_CORE] = {1, RLIM_INFINITY};  // its own crash starts no other
  args.rlimits.limits[RLIMIT_NOFILE] = {1024, 4096};
  args.rlimits.limits[RLIMIT_STACK] = {8 << 20, RLIM_INFINITY};
  args.from_outside = true;
  Ref<ThreadGroup> tg = TRY(t.kernel().CreateProcess(args));
  t.kernel().Start(*tg);
  return std::move(pipe.writer);
}

struct OpenedCore {
  RefPtr<File> file;
  uint64_t limit = 0;
  bool pipe = false;
};

OpenedCore OpenCore(Task& t, int signo) {
  CoreSettings& settings = CoreSettings::Get();
  OpenedCore core;
  core.limit = t.tg().limit(RLIMIT_CORE);
  const std::optional<CoreName> name =
      FormatCoreName(settings.pattern(), settings.uses_pid.load() != 0, FactsOf(t, signo));
  if (!name) {
    Note(t, "format_corename failed. Aborting core");
    return core;
  }
  if (!name->pipe) {
    if (core.limit < kSmallestCore) return core;
    Result<Ref<File>> file = OpenCoreFile(t, name->file);
    if (file.ok()) core.file = std::move(*file);
    return core;
  }
  // The limit of a program that handles cores: else its crash would start another, and so on.
  if (core.limit == 1) {
    Note(t, "RLIMIT_CORE is set to 1, aborting core");
    return core;
  }
  const int most = settings.pipe_limit.load();
  if (settings.pipes.fetch_add(1) >= most && most != 0) {
    settings.pipes.fetch_sub(1);
    Note(t, "over core_pipe_limit, skipping core dump");
    return core;
  }
  core.limit = RLIM_INFINITY;
  Result<Ref<File>> file = StartCoreProgram(t, *name);
  if (file.ok()) {
    core.file = std::move(*file);
    core.pipe = true;
  } else {
    settings.pipes.fetch_sub(1);
    Note(t, "core dump to |" + name->argv.front() + " pipe failed");
  }
  return core;
}

// The longest zeros written at once where there can be no hole.
constexpr std::array<std::byte, 4096> kZeros{};

}  // namespace

bool CoreSink::Write(std::span<const std::byte> bytes) {
  SpanSrc src(bytes);
  while (src.remaining() != 0) {
    const Result<size_t> n = task_.Retry(file_.queue(), EPOLLOUT, kNoDeadline, [&]() -> Result<size_t> {
      if (dump_.killed.load()) return Errno(EINTR);
      return file_.Write(src, &pos_, 0);
    });
    if (!n.ok() || *n == 0) return false;
  }
  written_ += bytes.size();
  return true;
}

bool CoreSink::Put(std::span<const std::byte> bytes) {
  if (skipped_ != 0) {
    const uint64_t skip = std::exchange(skipped_, 0);
    if (file_.seekable()) {
      pos_ += skip;
    } else {
      for (uint64_t done = 0; done < skip; done += std::min<uint64_t>(skip - done, kZeros.size())) {
        const size_t n = std::min<uint64_t>(skip - done, kZeros.size());
        if (!Write(std::span(kZeros).first(n))) return false;
      }
    }
  }
  if (limit_ - written_ < bytes.size()) return false;
  if (file_.seekable() && (size_limit_ < pos_ || size_limit_ - pos_ < bytes.size())) return false;
  return Write(bytes);
}

bool CoreSink::Skip(uint64_t n) {
  skipped_ += n;
  return !dump_.killed.load();
}

bool CoreSink::Finish() {
  if (skipped_ == 0) return true;
  skipped_--;
  return Put(std::span(kZeros).first(1));
}

namespace {

void WriteCore(Task& t, const CoreDump& dump, const OpenedCore& core, const abi::SigInfo& info) {
  const std::vector<CoreSegment> segments = ChooseCoreSegments(t, t.tg().coredump_filter.load());
  const std::string notes = CoreNotes(t, dump, info, segments);
  const std::string headers = CoreHeaders(segments, notes.size());
  CoreSink sink(t, dump, *core.file, core.limit, t.tg().limit(RLIMIT_FSIZE));
  const uint64_t used = headers.size() + notes.size();
  if (sink.Put(std::as_bytes(std::span(headers))) && sink.Put(std::as_bytes(std::span(notes))) &&
      sink.Skip((kPageSize - used % kPageSize) % kPageSize) && PutCoreMemory(t.mm(), segments, sink)) {
    sink.Finish();
  }
}

CoreThread ShowThread(Context& context) {
  context.SettleWindow();
  CoreThread thread;
  thread.regs = context.regs();
  thread.xstate.resize(context.xstate_size());
  if (!context.GetXState(thread.xstate).ok()) thread.xstate.clear();
  return thread;
}

// The dumps under way, by process. Entered and left with the process's siglock held.
class CoreDumps {
 public:
  static CoreDump* Find(const ThreadGroup& tg) {
    if (Count().load() == 0) return nullptr;
    return Map().With([&](const auto& map) {
      const auto it = map.find(&tg);
      return it == map.end() ? nullptr : it->second;
    });
  }
  static void Enter(const ThreadGroup& tg, CoreDump& dump) {
    Count().fetch_add(1);
    Map().With([&](auto& map) { map[&tg] = &dump; });
  }
  static void Leave(const ThreadGroup& tg) {
    Map().With([&](auto& map) { map.erase(&tg); });
    Count().fetch_sub(1);
  }

 private:
  using Dumps = Guarded<std::map<const ThreadGroup*, CoreDump*>, LockClass::kLeaf>;
  static std::atomic<int>& Count() {
    static std::atomic<int> count{0};
    return count;
  }
  static Dumps& Map() {
    static auto& dumps = *new Dumps;
    return dumps;
  }
};

// A task that ends, and that no dump waits for any more: beside the bits of trace.h.
constexpr uint32_t kJobPastCoreDump = 1u << 31;

}  // namespace

void StopCoreDump(const ThreadGroup& tg) {
  CoreDump* const dump = CoreDumps::Find(tg);
  if (dump == nullptr) return;
  dump->killed.store(true);
  dump->dumper.Wake();
}

bool IsDumpingCore(const ThreadGroup& tg) { return CoreDumps::Find(tg) != nullptr; }

// zap_threads(): every other thread ends, and on its way out waits. False: the process ends already.
bool TaskLife::StopForCoreDump(Task& self, CoreDump& dump) {
  ThreadGroup& tg = self.tg();
  {
    const LateWakes late;
    MutexLock lock(tg.siglock);
    if (tg.group_exit || tg.exec_task != nullptr) return false;
    tg.group_exit = true;
    tg.group_exit_status = dump.signo;
    tg.group_stop_count = 0;
    CoreDumps::Enter(tg, dump);
    for (Task* t : tg.threads) {
      if (t == &self || (t->jobctl_ & kJobPastCoreDump) != 0) continue;
      dump.awaited++;
      t->kill_pending_ = true;
      t->interrupted_.store(true);
      t->KickToEnd();
    }
  }
  for (;;) {
    {
      MutexLock lock(tg.siglock);
      if (dump.awaited == 0) break;
    }
    self.SleepUninterrupted();
  }
  // Only SIGKILL counts from here on, which StopCoreDump tells of.
  self.interrupted_.store(false);
  return true;
}

void TaskLife::JoinCoreDump(Task& t) {
  ThreadGroup& tg = t.tg();
  CoreDump* dump = nullptr;
  {
    MutexLock lock(tg.siglock);
    t.jobctl_ |= kJobPastCoreDump;
    dump = CoreDumps::Find(tg);
    if (dump == nullptr || &dump->dumper == &t) return;
  }
  CoreThread shown;
  const bool runs = Task::Current() == &t;
  const bool has = runs && t.alive();
  if (has) shown = ShowThread(t.context());
  {
    MutexLock lock(tg.siglock);
    if (has) dump->threads[&t] = std::move(shown);
    dump->awaited--;
    dump->dumper.Wake();
  }
  if (!runs) return;
  for (;;) {
    {
      MutexLock lock(tg.siglock);
      if (CoreDumps::Find(tg) != dump) return;
    }
    t.SleepUninterrupted();
  }
}

int TaskLife::DumpCore(Task& t, const abi::SigInfo& info) {
  if (t.CoreFlag(info.signo) == 0) return 0;
  ThreadGroup& tg = t.tg();
  // Most processes want none: then nobody needs to be stopped.
  if (tg.limit(RLIMIT_CORE) < kSmallestCore && !CoreSettings::Get().pattern().starts_with('|')) return 0;
  CoreDump dump{.dumper = t, .signo = info.signo};
  if (!StopForCoreDump(t, dump)) return 0;
  dump.threads[&t] = ShowThread(t.context());
  int flag = 0;
  OpenedCore core = OpenCore(t, info.signo);
  if (core.file && !dump.killed.load()) {
    WriteCore(t, dump, core, info);
    flag = WCOREFLAG;
  }
  if (core.pipe) CoreSettings::Get().pipes.fetch_sub(1);
  core.file.reset();
  const LateWakes late;
  MutexLock lock(tg.siglock);
  if (dump.killed.load()) flag = 0;
  tg.group_exit_status = info.signo | flag;
  CoreDumps::Leave(tg);
  for (Task* other : tg.threads) {
    if (other != &t) other->Wake();
  }
  return flag;
}

}  // namespace ringwall
