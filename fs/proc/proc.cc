#include "fs/proc/proc.h"

#include <dirent.h>
#include <linux/magic.h>

#include <charconv>

#include "fs/proc/internal.h"

namespace ringwall {

namespace proc {

namespace {

// The root: fixed names, then a directory for each process.
class RootDirectory final : public SyntheticDirectory {
 public:
  RootDirectory(FileSystem& fs, Kernel& kernel)
      : SyntheticDirectory(fs, S_IFDIR | 0555, 1), kernel_(kernel),
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
      Task* task = set.FindTask(pid);
      if (task == nullptr) return Errno(ENOENT);
      tg = RefPtr<ThreadGroup>(&task->tg());
      tid = task->tid();
      if (tid == task->tgid()) tid = tg->tgid();
    }
    Subject subject{kernel_, Ref<ThreadGroup>(tg), tid, tid != tg->tgid()};
    return Ref<Inode>(NewTaskDirectory(fs(), std::move(subject)));
  }

  Result<std::vector<DirEntry>> Entries() override {
    std::vector<DirEntry> all = TRY(fixed_->Entries());
    TaskSet& set = kernel_.tasks();
    MutexLock lock(set.mu);
    for (const auto& [tid, task] : set.tasks) {
      if (task->tgid() != tid) continue;
      std::string name = Format("%d", tid);
      const uint64_t ino = InoOf(1, name);
      all.push_back({std::move(name), ino, DT_DIR});
    }
    return all;
  }

 private:
  Kernel& kernel_;
  const Ref<StaticDirectory> fixed_;
};

void AddSelfLink(StaticDirectory& root, std::string_view name, bool thread) {
  LinkInode::Ops ops;
  ops.read = [thread]() -> Result<std::string> {
    const Task* task = Task::Current();
    if (task == nullptr) return Errno(ENOENT);
    if (!thread) return Format("%d", task->tgid());
    return Format("%d/task/%d", task->tgid(), task->tid());
  };
  root.Add(name, MakeRef<LinkInode>(root.fs(), InoOf(1, name), 0777u, std::move(ops)));
}

}  // namespace

Result<Ref<Task>> Subject::Get() const {
  TaskSet& set = kernel.tasks();
  MutexLock lock(set.mu);
  Task* task = set.FindTask(thread ? tid : tg->tgid());
  if (task == nullptr || &task->tg() != tg.get()) return Errno(ESRCH);
  return Ref<Task>(*task);
}

}  // namespace proc

Ref<FileSystem> NewProcFs(Kernel& kernel) {
  Ref<SyntheticFs> fs = MakeRef<SyntheticFs>("proc", static_cast<uint64_t>(PROC_SUPER_MAGIC));
  Ref<proc::RootDirectory> root = MakeRef<proc::RootDirectory>(*fs, kernel);
  StaticDirectory& fixed = root->fixed();
  proc::AddSelfLink(fixed, "self", false);
  proc::AddSelfLink(fixed, "thread-self", true);
  fixed.AddLink("mounts", "self/mounts");
  fixed.AddLink("net", "self/net");
  proc::AddSystemFiles(fixed, kernel);
  proc::AddSysctls(*fixed.AddDirectory("sys"), kernel);
  fs->set_root(root);
  return Ref<FileSystem>(std::move(fs));
}

}  // namespace ringwall
