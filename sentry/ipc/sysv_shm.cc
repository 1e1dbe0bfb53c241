#include "sentry/ipc/sysv_shm.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"
#include "sentry/ipc/ipc_namespace.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

class ShmInode final : public AnonInode {
 public:
  ShmInode(int id, uint64_t size, uint32_t mode, Uid uid, Gid gid)
      : AnonInode(S_IFREG | mode, uid, gid), id_(id), size_(size) {}
  Result<Attr> GetAttr() override {
    Attr attr = TRY(AnonInode::GetAttr());
    attr.ino = static_cast<uint64_t>(id_);
    attr.size = size_;
    attr.nlink = 0;
    return attr;
  }
  Result<Ref<File>> Open(const Path&, uint32_t, const Credentials&) override {
    return Errno(EPERM);
  }

 private:
  const int id_;
  const uint64_t size_;
};

RefPtr<const Pid> CurrentPid() {
  const Task* task = Task::Current();
  return task != nullptr ? task->tg().pid : nullptr;
}

}  // namespace

ShmSegment::ShmSegment(IpcNamespace& ns, uint64_t size, UniqueFd memory,
                       MappedMemory mapped, const Pid& pid)
    : usage_(ns.usage),
      size_(size),
      memory_(std::move(memory)),
      mapped_(std::move(mapped)),
      ns_(&ns) {
  usage_->shm_pages.fetch_add(pages());
  figures_.creator = RefPtr<const Pid>(&pid);
  figures_.ctime = CurrentTime().sec;
}

ShmSegment::~ShmSegment() { usage_->shm_pages.fetch_sub(pages()); }

Result<Ref<ShmSegment>> ShmSegment::Create(IpcNamespace& ns, int32_t key, uint64_t size,
                                           const Pid& pid) {
  const uint64_t rounded = (size + 4095) & ~uint64_t{4095};
  if (rounded == 0 || rounded > static_cast<uint64_t>(INT64_MAX)) return Errno(ENOMEM);
  UniqueFd memory(::memfd_create("SYSV", MFD_CLOEXEC));
  if (!memory.valid()) return Errno(ENOMEM);
  if (::ftruncate(memory.get(), static_cast<off_t>(rounded)) != 0) return Errno(ENOMEM);
  MappedMemory mapped = TRY(MappedMemory::Create(memory.get(), rounded / 4096, 0));
  Ref<ShmSegment> segment =
      MakeRef<ShmSegment>(ns, size, std::move(memory), std::move(mapped), pid);
  segment->name_key_ = key;
  return segment;
}

Result<Ref<File>> ShmSegment::Attach(uint32_t flags, const Pid& pid) {
  IpcPerm owner;
  {
    MutexLock lock(mu);
    if (removed) return Errno(EIDRM);
    owner = perm;
    if (!inode_) {
      inode_ = MakeRef<ShmInode>(perm.id, size_, perm.mode & 0777, perm.uid, perm.gid);
    }
  }
  OpenedBy(RefPtr<const Pid>(&pid));
  char name[32];
  snprintf(name, sizeof(name), "/SYSV%08x (deleted)", static_cast<uint32_t>(name_key_));
  static std::atomic<uint64_t> attaches{0};
  return Ref<File>(MakeRef<ShmFile>(AnonymousPath(Ref<Inode>(inode_), name), flags,
                                    Ref<ShmSegment>(*this), attaches.fetch_add(1)));
}

void ShmSegment::OpenedBy(RefPtr<const Pid> pid) {
  MutexLock lock(mu);
  figures_.atime = CurrentTime().sec;
  figures_.last = std::move(pid);
}

void ShmSegment::AddFile(ShmFile& file) {
  MutexLock lock(mu);
  files_.insert(&file);
}

void ShmSegment::RemoveFile(ShmFile& file) {
  IpcPerm gone;
  RefPtr<IpcNamespace> ns;
  {
    MutexLock lock(mu);
    files_.erase(&file);
    figures_.dtime = CurrentTime().sec;
    figures_.last = CurrentPid();
    if (!files_.empty() || removed || ns_ == nullptr || !ns_->TryAddRef()) return;
    ns = RefPtr<IpcNamespace>::Adopt(ns_);
    if ((perm.mode & kShmDest) == 0 && ns->shm_rmid_forced.load() == 0) return;
    removed = true;
    gone = perm;
  }
  ns->segments.Erase(*this, gone);
}

void ShmSegment::Remove() {
  IpcPerm gone;
  RefPtr<IpcNamespace> ns;
  bool busy = false;
  {
    MutexLock lock(mu);
    if (removed || ns_ == nullptr || !ns_->TryAddRef()) return;
    ns = RefPtr<IpcNamespace>::Adopt(ns_);
    gone = perm;
    busy = !files_.empty();
    removed = !busy;
    perm.mode |= kShmDest;
    perm.key = IPC_PRIVATE;
  }
  if (busy) {
    ns->segments.EraseKey(gone);
  } else {
    ns->segments.Erase(*this, gone);
  }
}

void ShmSegment::Orphan() {
  MutexLock lock(mu);
  ns_ = nullptr;
  removed = true;
}

ShmSegment::Figures ShmSegment::FiguresLocked() const {
  Figures f = figures_;
  f.attaches = files_.size();
  return f;
}

void ShmSegment::TouchLocked() { figures_.ctime = CurrentTime().sec; }

uint64_t ShmSegment::resident() const {
  struct stat st = {};
  if (::fstat(memory_.get(), &st) != 0) return 0;
  return static_cast<uint64_t>(st.st_blocks) * 512;
}

ShmFile::ShmFile(Path path, uint32_t flags, Ref<ShmSegment> segment, uint64_t attach)
    : File(std::move(path), flags), segment_(std::move(segment)), attach_(attach) {
  segment_->AddFile(*this);
}

ShmFile::~ShmFile() { segment_->RemoveFile(*this); }

Result<HostMapping> ShmFile::Map(uint64_t offset, uint64_t, int, bool) {
  return HostMapping{segment_->memory(), offset};
}

// A fork's by the parent, whose number it leaves.
RefPtr<File> ShmFile::AnotherMapping() {
  segment_->OpenedBy(CurrentPid());
  return MakeRef<ShmFile>(path(), flags(), segment_, attach_);
}

}  // namespace ringwall
