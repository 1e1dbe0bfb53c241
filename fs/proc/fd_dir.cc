// /proc/PID/fd, fdinfo.
#include <dirent.h>
#include <sys/sysmacros.h>

#include <charconv>

#include "fs/proc/internal.h"
#include "fs/vfs/anon_inode.h"
#include "fs/vfs/locks.h"

namespace ringwall::proc {

std::string LockLine(int number, const FileLocks::Listed& l, uint64_t dev, uint64_t ino) {
  const bool write = l.flock ? l.type == FlockType::kExclusive : l.range.write;
  const char* const kind = l.lease ? "LEASE " : l.flock ? "FLOCK " : l.range.ofd ? "OFDLCK" : "POSIX ";
  const char* const how = !l.lease ? "ADVISORY " : l.breaking ? "BREAKING " : "ACTIVE   ";
  std::string out = Format("%d: %s %s %s %d %02x:%02x:%llu ", number, kind, how,
                           write ? "WRITE" : "READ", l.range.pid, major(dev), minor(dev),
                           static_cast<unsigned long long>(ino));
  const RangeLock all;
  const RangeLock& r = l.flock ? all : l.range;
  AppendFormat(&out, "%llu ", static_cast<unsigned long long>(r.start));
  if (r.last == RangeLock::kEnd) return out + "EOF\n";
  return out + Format("%llu\n", static_cast<unsigned long long>(r.last));
}

namespace {

Result<FdTable::Entry> FindEntry(const Subject& s, int fd) {
  Ref<Task> task = TRY(s.Get());
  RefPtr<FdTable> table = task->fds_ref();
  if (!table) return Errno(ENOENT);
  Result<FdTable::Entry> entry = table->GetEntry(fd);
  if (!entry.ok()) return Errno(ENOENT);
  return entry;
}

Result<std::string> InfoText(const Subject& s, int fd) {
  const FdTable::Entry entry = TRY(FindEntry(s, fd));
  File& file = *entry.file;
  long long pos = 0;
  {
    MutexLock lock(file.offset_lock());
    pos = file.offset();
  }
  // What 64-bit programs open is a large file, whatever they asked for.
  uint32_t flags = file.flags() | LargeFileFlag(file);
  if (entry.cloexec) flags |= O_CLOEXEC;
  std::string text = Format("pos:\t%lli\nflags:\t0%o\nmnt_id:\t%i\n", pos, flags,
                            file.path().mount().id());
  Result<Attr> attr = file.inode().GetAttr();
  if (attr.ok()) AppendFormat(&text, "ino:\t%llu\n", static_cast<unsigned long long>(attr->ino));
  if (FileLocks* locks = file.inode().locks_if_any()) {
    RefPtr<FdTable> table;
    if (Result<Ref<Task>> task = s.Get(); task.ok()) table = (*task)->fds_ref();
    int number = 0;
    for (const FileLocks::Listed& l : locks->List()) {
      // Those that this descriptor holds.
      const bool own = l.flock || l.lease ? l.file == &file
                               : l.range.owner == (l.range.ofd ? static_cast<const void*>(&file)
                                                               : static_cast<const void*>(table.get()));
      if (own && attr.ok()) text += "lock:\t" + LockLine(++number, l, file.inode().fs().dev(), attr->ino);
    }
  }
  text += file.FdInfo();
  return text;
}

class DescriptorDirectory final : public SyntheticDirectory {
 public:
  DescriptorDirectory(FileSystem& fs, Subject s, uint64_t ino, bool info)
      : SyntheticDirectory(fs, S_IFDIR | (info ? 0555 : 0500), ino), s_(std::move(s)),
        info_(info) {}

  Caching caching() const override { return Caching::kRevalidate; }
  Owner owner() override { return info_ ? OwnerOfDirectory(s_) : OwnerOf(s_); }
  Result<void> CheckOpen() override {
    Ref<Task> task = TRY(s_.Get());
    return MayLook(*task);
  }
  // A process may look at its own descriptors whatever user it has become (proc_fd_permission()); what is
  // known of another's is not for everybody (proc_fdinfo_permission()).
  std::optional<Result<void>> CheckPermission(const Credentials&, uint32_t) override {
    const Task* current = Task::Current();
    if (!info_ && current != nullptr && &current->tg() == s_.tg.get()) return Result<void>();
    if (!info_) return std::nullopt;
    Result<Ref<Task>> task = s_.Get();
    if (!task.ok()) return Result<void>(task.error());
    const Result<void> may = MayLook(**task);
    if (!may.ok()) return Result<void>(may.error());
    return std::nullopt;
  }

  Result<Ref<Inode>> Lookup(std::string_view name) override {
    int fd = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), fd);
    if (error != std::errc() || end != name.data() + name.size() || name.front() == '-' ||
        (name.size() > 1 && name.front() == '0')) {
      return Errno(ENOENT);
    }
    const FdTable::Entry entry = TRY(FindEntry(s_, fd));
    const uint64_t child = InoOf(ino(), name);
    if (info_) {
      TextOps ops;
      ops.read = [s = s_, fd] { return InfoText(s, fd); };
      ops.owner = [s = s_] { return OwnerOf(s); };
      ops.at_open = true;
      ops.style = kTaskStyle;
      return Ref<Inode>(MakeRef<TextInode>(fs(), child, 0444u, std::move(ops)));
    }
    LinkInode::Ops ops;
    ops.follow = [s = s_, fd]() -> Result<Path> {
      Ref<Task> task = TRY(s.Get());
      TRY(MayLook(*task));
      const FdTable::Entry e = TRY(FindEntry(s, fd));
      return Path(e.file->path());
    };
    ops.read = [follow = ops.follow]() -> Result<std::string> {
      const Path path = TRY(follow());
      Task* current = Task::Current();
      RefPtr<FsContext> context = current == nullptr ? nullptr : current->fs_ref();
      if (!context) return Errno(ESRCH);
      return Vfs::FullName(path, context->root(), *current->mounts_ref());
    };
    ops.owner = [s = s_] { return OwnerOf(s); };
    const bool is_path = (entry.file->flags() & O_PATH) != 0;
    uint32_t permissions = 0100;
    if (entry.file->readable() || is_path) permissions |= 0400;
    if (entry.file->writable()) permissions |= 0200;
    return Ref<Inode>(MakeRef<LinkInode>(fs(), child, permissions, std::move(ops)));
  }

  Result<std::vector<DirEntry>> Entries() override {
    Ref<Task> task = TRY(s_.Get());
    std::vector<DirEntry> all;
    RefPtr<FdTable> table = task->fds_ref();
    if (!table) return all;
    for (const int fd : table->List()) {
      std::string name = Format("%d", fd);
      const uint64_t child = InoOf(ino(), name);
      all.push_back({std::move(name), child, static_cast<uint8_t>(info_ ? DT_REG : DT_LNK)});
    }
    return all;
  }

 protected:
  uint64_t size() override {
    Result<std::vector<DirEntry>> entries = Entries();
    return info_ || !entries.ok() ? 0 : entries->size();
  }

 private:
  const Subject s_;
  const bool info_;
};

}  // namespace

Ref<SyntheticInode> NewFdDirectory(FileSystem& fs, Subject subject, uint64_t ino) {
  return MakeRef<DescriptorDirectory>(fs, std::move(subject), ino, false);
}

Ref<SyntheticInode> NewFdinfoDirectory(FileSystem& fs, Subject subject, uint64_t ino) {
  return MakeRef<DescriptorDirectory>(fs, std::move(subject), ino, true);
}

}  // namespace ringwall::proc
