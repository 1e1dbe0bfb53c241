// System V shared memory (ipc/shm.c). A segment's bytes are a memory file that stubs map; each mapping
// has a File of its own, as each counts in shm_nattch and tells the segment when it comes and goes.
#ifndef RINGWALL_SENTRY_IPC_SYSV_SHM_H_
#define RINGWALL_SENTRY_IPC_SYSV_SHM_H_

#include <set>

#include "fs/vfs/file.h"
#include "sentry/base/file_memory.h"
#include "sentry/base/unique_fd.h"
#include "sentry/ipc/ipc_ids.h"
#include "sentry/kernel/pid_namespace.h"

namespace ringwall {

class IpcNamespace;
class ShmFile;

// Bits of shm_perm.mode above the permissions.
inline constexpr uint32_t kShmDest = 01000, kShmLocked = 02000;

class ShmSegment final : public IpcObject {
 public:
  // ENOMEM. size: as asked for; the memory is in whole pages.
  static Result<Ref<ShmSegment>> Create(IpcNamespace& ns, int32_t key, uint64_t size,
                                        const Pid& pid);
  ~ShmSegment() override;

  uint64_t size() const { return size_; }
  uint64_t pages() const { return (size_ + 4095) / 4096; }
  int memory() const { return memory_.get(); }

  // A fresh File to map; flags: O_RDONLY or O_RDWR. EIDRM when it is gone.
  Result<Ref<File>> Attach(uint32_t flags, const Pid& pid);
  // IPC_RMID: at once when nothing maps it, else when the last mapping goes.
  void Remove();
  // The namespace ends: it lives on for its mappings only.
  void Orphan();

  struct Figures {
    int64_t atime = 0, dtime = 0, ctime = 0;
    RefPtr<const Pid> creator, last;
    uint64_t attaches = 0;
  };
  Figures FiguresLocked() const REQUIRES(mu);
  void TouchLocked() REQUIRES(mu);
  // Bytes that the host has allocated.
  uint64_t resident() const;

 private:
  friend class ShmFile;
  ShmSegment(IpcNamespace& ns, uint64_t size, UniqueFd memory, MappedMemory mapped, const Pid& pid);
  template <typename T, typename... Args>
  friend Ref<T> MakeRef(Args&&... args);

  // Somebody maps it (shm_open() of Linux): shm_atime and shm_lpid.
  void OpenedBy(RefPtr<const Pid> pid);
  void AddFile(ShmFile& file);
  void RemoveFile(ShmFile& file);

  const Ref<IpcUsage> usage_;
  const uint64_t size_;
  const UniqueFd memory_;
  const MappedMemory mapped_;  // gone before its descriptor
  RefPtr<Inode> inode_;  // set once, before anyone attaches; see Attach
  int32_t name_key_ = 0;
  IpcNamespace* ns_ GUARDED_BY(mu);  // null once that is gone
  Figures figures_ GUARDED_BY(mu);
  std::set<ShmFile*> files_ GUARDED_BY(mu);
};

// What a mapping made by shmat, or a piece of one, holds.
class ShmFile final : public File {
 public:
  ShmFile(Path path, uint32_t flags, Ref<ShmSegment> segment, uint64_t attach);
  ~ShmFile() override;
  // Null when `file` is none.
  static ShmFile* From(File& file) {
    return file.kind() == &kKind ? static_cast<ShmFile*>(&file) : nullptr;
  }
  const void* kind() const override { return &kKind; }
  Result<HostMapping> Map(uint64_t offset, uint64_t length, int prot, bool shared) override;
  RefPtr<File> AnotherMapping() override;
  // Whether one shmat made both.
  bool IsOfAttachOf(const ShmFile& other) const { return attach_ == other.attach_; }

 private:
  static constexpr char kKind = 0;
  const Ref<ShmSegment> segment_;
  const uint64_t attach_;  // a number of the shmat that it is of
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_IPC_SYSV_SHM_H_
