#include "fs/proc/proc.h"

#include <dirent.h>
#include <linux/magic.h>

#include <charconv>

#include "fs/proc/internal.h"
#include "sentry/kernel/pidfd.h"

namespace ringwall {

namespace proc {

namespace {

// The root: fixed names, then a directory for each process.
class RootDirectory final : public SyntheticDirectory {
 public:
  RootDirectory(FileSystem& fs, Kernel& kernel, Ref<PidNamespace> ns)
      : SyntheticDirectory(fs, S_IFDIR | 0555, 1), kernel_(kernel), ns_(std::move(ns)),
        fixed_(MakeRef<StaticDirectory>(fs, uint64_t{1})) {}

  Caching caching() const override { return Caching::kRevalidate; }
  StaticDirectory& fixed() { return *fixed_; }

  // The process with that thread, as on Linux: threads are found but not listed.
  Result<Ref<Inode>> Lookup(std::string_view name) override {
    int pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || end != name.data() + name.size() || name.front() == '0' ||
        name.front() == '-') {
      return fixed_->Lookup(name);
    }
    RefPtr<ThreadGroup> tg;
    int tid = 0;
    {
      TaskSet& set = kernel_.tasks();
      MutexLock lock(set.mu);
      Task* task = ns_->FindTask(pid);
      if (task == nullptr) return Errno(ENOENT);
      tg = RefPtr<ThreadGroup>(&task->tg());
      tid = task->tid();
      if (tid == task->tgid()) tid = tg->tgid();
    }
    Subject subject{kernel_, ns_, Ref<ThreadGroup>(tg), tid, tid != tg->tgid()};
    return Ref<Inode>(NewTaskDirectory(fs(), std::move(subject)));
  }

  Result<std::vector<DirEntry>> Entries() override {
    std::vector<DirEntry> all = TRY(fixed_->Entries());
    TaskSet& set = kernel_.tasks();
    MutexLock lock(set.mu);
    for (const auto& [tid, task] : ns_->tasks) {
      if (task->tgid() != task->tid()) continue;
      std::string name = Format("%d", tid);
      const uint64_t ino = InoOf(1, name);
      all.push_back({std::move(name), ino, DT_DIR});
    }
    return all;
  }

 protected:
  uint32_t nlink() override { return LinksOfEntries(); }

 private:
  Kernel& kernel_;
  const Ref<PidNamespace> ns_;
  const Ref<StaticDirectory> fixed_;
};

void AddSelfLink(StaticDirectory& root, const Ref<PidNamespace>& ns, std::string_view name,
                 bool thread) {
  LinkInode::Ops ops;
  ops.read = [ns, thread]() -> Result<std::string> {
    const Task* task = Task::Current();
    const int tgid = task == nullptr ? 0 : task->tg().pid->In(*ns);
    if (tgid == 0) return Errno(ENOENT);
    if (!thread) return Format("%d", tgid);
    return Format("%d/task/%d", tgid, task->pid().In(*ns));
  };
  root.Add(name, MakeRef<LinkInode>(root.fs(), InoOf(1, name), 0777u, std::move(ops)));
}

}  // namespace

Uid ShownUid(Uid uid) {
  const Task* t = Task::Current();
  return t == nullptr ? uid : t->creds_ref()->user_ns().ShowUid(uid);
}
Gid ShownGid(Gid gid) {
  const Task* t = Task::Current();
  return t == nullptr ? gid : t->creds_ref()->user_ns().ShowGid(gid);
}

Result<Ref<Task>> Subject::Get() const {
  TaskSet& set = kernel.tasks();
  MutexLock lock(set.mu);
  Task* task = set.FindTask(thread ? tid : tg->tgid());
  if (task == nullptr || &task->tg() != tg.get()) return Errno(ESRCH);
  return Ref<Task>(*task);
}

}  // namespace proc

Ref<FileSystem> NewProcFs(Kernel& kernel, const Ref<PidNamespace>& ns) {
  SetProcDirectoryLookup(&proc::ProcessOfDirectory);
  Ref<SyntheticFs> fs = MakeRef<SyntheticFs>("proc", static_cast<uint64_t>(PROC_SUPER_MAGIC));
  Ref<proc::RootDirectory> root = MakeRef<proc::RootDirectory>(*fs, kernel, ns);
  StaticDirectory& fixed = root->fixed();
  proc::AddSelfLink(fixed, ns, "self", false);
  proc::AddSelfLink(fixed, ns, "thread-self", true);
  fixed.AddLink("mounts", "self/mounts");
  fixed.AddLink("net", "self/net");
  proc::AddSystemFiles(fixed, kernel);
  proc::AddConfig(fixed);
  proc::AddIpcFiles(fixed);
  proc::AddSysctls(*fixed.AddDirectory("sys"), kernel);
  fs->set_root(root);
  return Ref<FileSystem>(std::move(fs));
}

}  // namespace ringwall
