#include "sentry/kernel/pidfd.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

class PidFdFile final : public File {
 public:
  PidFdFile(Path path, uint32_t flags, ThreadGroup& tg) : File(std::move(path), flags), tg_(tg) {}
  EventMask Poll(EventMask wanted) override {
    MutexLock lock(tg_->kernel().tasks().mu);
    return tg_->zombie ? (wanted & (EPOLLIN | EPOLLRDNORM)) : 0;
  }
  WaitQueue* queue() override { return &tg_->exit_queue; }
  Result<size_t> Read(IoDst&, uint64_t, int) override { return Errno(EINVAL); }
  Result<size_t> Write(IoSrc&, uint64_t*, int) override { return Errno(EINVAL); }
  ThreadGroup& tg() { return *tg_; }
  std::string FdInfo() override {
    const Task* t = Task::Current();
    MutexLock lock(tg_->kernel().tasks().mu);
    // -1: reaped; 0: out of the reader's sight.
    if (tg_->leader == nullptr) return "Pid:\t-1\nNSpid:\t-1\n";
    const PidNamespace& ns = t != nullptr ? t->pid_ns() : tg_->pid_ns();
    std::string text = "Pid:\t" + std::to_string(tg_->pid->In(ns)) + "\nNSpid:";
    const std::span<const int> numbers = tg_->pid->From(ns);
    if (numbers.empty()) text += "\t0";
    for (const int number : numbers) text += "\t" + std::to_string(number);
    return text + "\n";
  }

 private:
  const Ref<ThreadGroup> tg_;
};

// Marks the inodes of pidfds, so that a File can be told to be one without RTTI.
class PidFdInode final : public AnonInode {
 public:
  PidFdInode() : AnonInode(0700, 0, 0) {}
  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
};

}  // namespace

Ref<File> NewPidFd(ThreadGroup& tg, uint32_t flags) {
  return MakeRef<PidFdFile>(AnonymousPath(MakeRef<PidFdInode>(), "anon_inode:[pidfd]"),
                            O_RDWR | (flags & O_NONBLOCK), tg);
}

RefPtr<ThreadGroup> ThreadGroupOfPidFd(File& file) {
  if (file.inode().kind() != &PidFdInode::kKind || (file.flags() & O_PATH) != 0) return nullptr;
  return RefPtr<ThreadGroup>(&static_cast<PidFdFile&>(file).tg());
}

}  // namespace ringwall
