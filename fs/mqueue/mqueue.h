// POSIX message queues (ipc/mqueue.c, mq_overview(7)): a file system of queues for each ipc
// namespace, which can be mounted but need not be.
//
// Lock order: the directory's table (kIpcIds), then a queue (kIpcObject).
#ifndef RINGWALL_FS_MQUEUE_MQUEUE_H_
#define RINGWALL_FS_MQUEUE_MQUEUE_H_

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fs/proc/nodes.h"
#include "fs/vfs/file.h"
#include "sentry/ipc/ipc_namespace.h"
#include "sentry/kernel/thread_group.h"

namespace ringwall {

inline constexpr uint32_t kMqPrioMax = 32768;

// What a queue is made with.
struct MqLimits {
  int64_t max_messages = 0, message_size = 0;
};

// mq_notify's request.
struct MqNotify {
  int how = 0;  // SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD
  int signo = 0;
  uint64_t value = 0;
  // SIGEV_THREAD: the netlink socket that the C library's thread reads, and what is sent there.
  RefPtr<File> socket;
  std::vector<std::byte> cookie;
};

// How a datagram gets into a netlink socket; false: the file is none. Set before the first guest.
using MqSocketSend = bool (*)(File& socket, std::span<const std::byte> datagram);
void SetMqSocketSend(MqSocketSend send);
bool CanMqSocketSend(File& socket);

class MqInode final : public Inode {
 public:
  MqInode(FileSystem& fs, uint64_t ino, const NewInode& args, const MqLimits& limits,
          uint64_t bytes, Uid payer);
  ~MqInode() override;

  struct Message {
    uint32_t priority = 0;
    std::vector<std::byte> text;
  };

  // EAGAIN when full. Takes *message only when it goes in. Tells the process that asked for it, which
  // gets the sender's number in its own pid namespace.
  Result<void> Send(Message* message, const ThreadGroup& sender, Uid uid);
  // The oldest of the highest priority. EAGAIN when empty.
  Result<Message> Receive();
  // A receiver sleeps, so nobody is notified.
  void AddWaiter(int n);
  // EBUSY: another process has asked. Null takes back what `owner` asked for.
  Result<void> SetNotify(ThreadGroup& owner, std::optional<MqNotify> notify);
  void DropNotify(const ThreadGroup& owner);

  const MqLimits& limits() const { return limits_; }
  int64_t count() const;
  std::string StatusText() const;
  EventMask Poll(EventMask wanted) const;
  WaitQueue& queue() { return queue_; }
  void Unlinked();

  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
  Result<Attr> GetAttr() override;
  Result<void> Set(const SetAttr& attr) override;
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;

 private:
  struct Owner {
    Ref<ThreadGroup> tg;
    MqNotify notify;
  };
  static void Tell(const Owner& owner, int code, int pid, Uid uid);

  const MqLimits limits_;
  const uint64_t bytes_;
  const Uid payer_;
  mutable Mutex<LockClass::kIpcObject> mu_;
  Attr attr_ GUARDED_BY(mu_);
  std::map<uint32_t, std::deque<Message>, std::greater<>> messages_ GUARDED_BY(mu_);
  int64_t count_ GUARDED_BY(mu_) = 0;
  uint64_t queued_bytes_ GUARDED_BY(mu_) = 0;
  int waiters_ GUARDED_BY(mu_) = 0;
  std::optional<Owner> owner_ GUARDED_BY(mu_);
  WaitQueue queue_;
};

class MqDirectory final : public SyntheticDirectory {
 public:
  MqDirectory(FileSystem& fs, IpcNamespace& ns);
  Caching caching() const override { return Caching::kRevalidate; }
  Result<Ref<Inode>> Lookup(std::string_view name) override;
  Result<Ref<Inode>> Create(std::string_view name, const NewInode& args) override;
  Result<void> Unlink(std::string_view name, Inode& child) override;
  Result<std::vector<DirEntry>> Entries() override;

  Result<Ref<MqInode>> Find(std::string_view name);
  // EEXIST, ENOSPC, EMFILE, EINVAL. limits: as mq_open got them; null for the defaults.
  Result<Ref<MqInode>> Make(std::string_view name, const NewInode& args, const Credentials& creds,
                            const MqLimits* limits, uint64_t byte_limit);
  // ENOENT; EPERM (the directory is sticky).
  Result<void> Remove(std::string_view name, const Credentials& creds);

 private:
  IpcNamespace& ns_;  // which holds the file system; see MqFileSystem::Detach
  mutable Mutex<LockClass::kIpcIds> mu_;
  std::map<std::string, Ref<MqInode>, std::less<>> queues_ GUARDED_BY(mu_);
  bool detached_ GUARDED_BY(mu_) = false;
  friend class MqFileSystem;
};

class MqFileSystem final : public FileSystem, public IpcNamespacePart {
 public:
  explicit MqFileSystem(IpcNamespace& ns);
  // The namespace's own, made on first use.
  static Ref<MqFileSystem> Of(IpcNamespace& ns);

  std::string_view type_name() const override { return "mqueue"; }
  Ref<Inode> root() override;
  Result<StatFs> GetStatFs() override;
  MqDirectory& directory() { return *root_; }

  // IpcNamespacePart: the namespace ends.
  void Detach() override;
  RefCountedBase& counted() override { return *this; }

 private:
  RefPtr<MqDirectory> root_;
};

// What mq_open returns.
class MqFile final : public File {
 public:
  MqFile(Path path, uint32_t flags, Ref<MqInode> queue)
      : File(std::move(path), flags), queue_(std::move(queue)) {}
  // Null when `file` is none.
  static MqFile* From(File& file) {
    return file.kind() == &kKind ? static_cast<MqFile*>(&file) : nullptr;
  }
  const void* kind() const override { return &kKind; }
  MqInode& mq() { return *queue_; }
  bool seekable() const override { return true; }
  Result<size_t> Read(IoDst& dst, uint64_t pos, int rw_flags) override;
  EventMask Poll(EventMask wanted) override { return queue_->Poll(wanted); }
  WaitQueue* queue() override { return &queue_->queue(); }
  Result<void> Flush() override;

 private:
  static constexpr char kKind = 0;
  const Ref<MqInode> queue_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_MQUEUE_MQUEUE_H_
