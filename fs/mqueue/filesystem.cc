// The directory of a namespace's queues, their limits and what users pay for them.
#include <sys/stat.h>

#include <algorithm>

#include "fs/mqueue/mqueue.h"
#include "fs/vfs/anon_inode.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr uint64_t kMqueueMagic = 0x19800202;
constexpr int64_t kHardMaxMessages = 65536;       // HARD_MSGMAX
constexpr int64_t kHardMessageSize = 16 << 20;    // HARD_MSGSIZEMAX
// What Linux counts besides the text: struct msg_msg and struct posix_msg_tree_node.
constexpr uint64_t kPerMessage = 48, kPerPriority = 48;

// Bytes of queues by user (UCOUNT_RLIMIT_MSGQUEUE).
Guarded<std::map<Uid, uint64_t>, LockClass::kLeaf>& UserBytes() {
  static auto* bytes = new Guarded<std::map<Uid, uint64_t>, LockClass::kLeaf>;
  return *bytes;
}

bool Charge(Uid user, uint64_t bytes, uint64_t limit) {
  return UserBytes().With([&](std::map<Uid, uint64_t>& m) {
    uint64_t& used = m[user];
    if (bytes > limit || used > limit - bytes) {
      if (used == 0) m.erase(user);
      return false;
    }
    used += bytes;
    return true;
  });
}

void Uncharge(Uid user, uint64_t bytes) {
  UserBytes().With([&](std::map<Uid, uint64_t>& m) {
    const auto it = m.find(user);
    if (it == m.end()) return;
    it->second -= std::min(bytes, it->second);
    if (it->second == 0) m.erase(it);
  });
}

}  // namespace

MqInode::~MqInode() { Uncharge(payer_, bytes_); }

MqDirectory::MqDirectory(FileSystem& fs, IpcNamespace& ns)
    : SyntheticDirectory(fs, S_IFDIR | 01777, NextAnonymousIno()), ns_(ns) {}

Result<Ref<MqInode>> MqDirectory::Find(std::string_view name) {
  MutexLock lock(mu_);
  const auto it = queues_.find(name);
  if (it == queues_.end()) return Errno(ENOENT);
  return it->second;
}

Result<Ref<Inode>> MqDirectory::Lookup(std::string_view name) {
  Ref<MqInode> found = TRY(Find(name));
  return Ref<Inode>(std::move(found));
}

Result<Ref<Inode>> MqDirectory::Create(std::string_view name, const NewInode& args) {
  const Task* task = Task::Current();
  if (task == nullptr) return Errno(ESRCH);
  Ref<MqInode> made =
      TRY(Make(name, args, task->creds(), nullptr, task->tg().limit(RLIMIT_MSGQUEUE)));
  return Ref<Inode>(std::move(made));
}

Result<Ref<MqInode>> MqDirectory::Make(std::string_view name, const NewInode& args,
                                       const Credentials& creds, const MqLimits* limits,
                                       uint64_t byte_limit) {
  MutexLock lock(mu_);
  if (queues_.contains(name)) return Errno(EEXIST);
  if (detached_) return Errno(EACCES);
  const bool privileged = creds.Has(Capability::kSysResource);
  if (static_cast<int64_t>(queues_.size()) >= ns_.mq_queues.load() && !privileged) {
    return Errno(ENOSPC);
  }
  MqLimits l;
  l.max_messages = std::min(ns_.mq_max_messages.load(), ns_.mq_default_messages.load());
  l.message_size = std::min(ns_.mq_max_size.load(), ns_.mq_default_size.load());
  if (limits != nullptr) l = *limits;
  const int64_t most = privileged ? kHardMaxMessages : ns_.mq_max_messages.load();
  const int64_t largest = privileged ? kHardMessageSize : ns_.mq_max_size.load();
  if (l.max_messages <= 0 || l.message_size <= 0 || l.max_messages > most ||
      l.message_size > largest) {
    return Errno(EINVAL);
  }
  const uint64_t n = static_cast<uint64_t>(l.max_messages);
  const uint64_t bytes = n * static_cast<uint64_t>(l.message_size) + n * kPerMessage +
                         std::min<uint64_t>(n, kMqPrioMax) * kPerPriority;
  if (!Charge(creds.ruid, bytes, byte_limit)) return Errno(EMFILE);
  Ref<MqInode> made = MakeRef<MqInode>(fs(), NextAnonymousIno(), args, l, bytes, creds.ruid);
  queues_.emplace(std::string(name), made);
  return made;
}

Result<void> MqDirectory::Unlink(std::string_view name, Inode& child) {
  RefPtr<MqInode> gone;  // dropped after the lock
  MutexLock lock(mu_);
  const auto it = queues_.find(name);
  if (it == queues_.end() || it->second.get() != &child) return Errno(ENOENT);
  gone = it->second;
  queues_.erase(it);
  gone->Unlinked();
  return {};
}

Result<void> MqDirectory::Remove(std::string_view name, const Credentials& creds) {
  Ref<MqInode> queue = TRY(Find(name));
  const Attr attr = TRY(queue->GetAttr());
  // The directory is root's and sticky.
  if (creds.fsuid != attr.uid && creds.fsuid != 0 && !creds.Has(Capability::kFowner)) {
    return Errno(EPERM);
  }
  return Unlink(name, *queue);
}

Result<std::vector<DirEntry>> MqDirectory::Entries() {
  std::vector<DirEntry> all;
  MutexLock lock(mu_);
  for (const auto& [name, queue] : queues_) {
    const Result<Attr> attr = queue->GetAttr();
    all.push_back({name, attr.ok() ? attr->ino : 0, static_cast<uint8_t>(S_IFREG >> 12)});
  }
  return all;
}

MqFileSystem::MqFileSystem(IpcNamespace& ns) : root_(MakeRef<MqDirectory>(*this, ns)) {}

Ref<MqFileSystem> MqFileSystem::Of(IpcNamespace& ns) {
  // The namespace holds only one of these.
  IpcNamespacePart& part =
      ns.AttachMqueue([&ns]() -> IpcNamespacePart* { return MakeRef<MqFileSystem>(ns).Leak(); });
  return Ref<MqFileSystem>(static_cast<MqFileSystem&>(part));
}

Ref<Inode> MqFileSystem::root() { return Ref<Inode>(Ref<MqDirectory>(root_)); }

Result<StatFs> MqFileSystem::GetStatFs() {
  StatFs s;
  s.type = kMqueueMagic;
  return s;
}

void MqFileSystem::Detach() {
  {
    MutexLock lock(root_->mu_);
    root_->detached_ = true;
  }
  // Where it is still mounted, the mount's dentry keeps the directory, and that its queues.
  root_.reset();
}

}  // namespace ringwall
