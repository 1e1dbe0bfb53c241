#include "fs/proc/nodes.h"

#include <dirent.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "sentry/base/mutex.h"

namespace ringwall {

namespace {

constexpr size_t kMaxWrite = 4096;

class TextFile final : public File {
 public:
  TextFile(const Path& path, uint32_t flags, TextInode& inode, const Credentials& opener)
      : File(path, flags), inode_(inode), opener_(opener) {}
  bool seekable() const override { return true; }

  Result<void> Prepare() {
    if (inode_->ops().watch) {
      watch_ = TRY(inode_->ops().watch());
      seen_ = watch_.generation();
    }
    if (!inode_->ops().at_open || !readable()) return {};
    std::string text = TRY(inode_->ops().read());
    Keep(std::move(text));
    return {};
  }

  WaitQueue* queue() override {
    if (watch_.queue != nullptr) return watch_.queue;
    return inode_->ops().style.readiness == TextStyle::Readiness::kNone ? nullptr : &never_;
  }
  EventMask Poll(EventMask wanted) override {
    EventMask ready = EPOLLIN | EPOLLRDNORM;
    if (watch_.queue == nullptr) {
      const TextStyle::Readiness readiness = inode_->ops().style.readiness;
      if (readiness == TextStyle::Readiness::kReadOnly) return ready & wanted;
      const bool changed = readiness == TextStyle::Readiness::kOnceRead && !Kept();
      return (changed ? kAlwaysReady | EPOLLERR | EPOLLPRI : kAlwaysReady) & (wanted | EPOLLERR);
    }
    const uint64_t now = watch_.generation();
    // Told once.
    if (seen_.exchange(now) != now) ready |= EPOLLERR | EPOLLPRI;
    return ready & (wanted | EPOLLERR);
  }

  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override {
    return inode_->ops().ioctl ? inode_->ops().ioctl(task, cmd, arg) : File::Ioctl(task, cmd, arg);
  }

  // proc_reg_mmap() has an errno of its own.
  Result<HostMapping> Map(uint64_t, uint64_t, int, bool) override {
    return Errno(inode_->ops().style.maps_as_eio ? EIO : ENODEV);
  }

  Result<int64_t> Seek(int64_t offset, int whence) override NO_THREAD_SAFETY_ANALYSIS {
    const TextStyle::Seeks seeks = inode_->ops().style.seeks;
    if (seeks == TextStyle::Seeks::kNowhere) return int64_t{0};
    const bool from_end = whence != SEEK_SET && whence != SEEK_CUR;
    if (from_end && seeks == TextStyle::Seeks::kSeq) return Errno(EINVAL);
    // default_llseek() compares with a sign.
    if (seeks == TextStyle::Seeks::kPlain && from_end && whence != SEEK_END && offset < 0) {
      return whence == SEEK_HOLE ? Result<int64_t>(int64_t{0}) : Errno(EINVAL);
    }
    int64_t sum;
    if (whence == SEEK_CUR && __builtin_add_overflow(this->offset(), offset, &sum)) return Errno(EINVAL);
    const int64_t to = TRY(File::Seek(offset, whence));
    if (to > INT32_MAX && seeks == TextStyle::Seeks::kSmall) return Errno(EINVAL);
    return to;
  }

  Result<size_t> Read(IoDst& dst, uint64_t pos, int) override {
    if (!inode_->ops().read) return Errno(EINVAL);
    std::shared_ptr<const std::string> text = Kept();
    // From the start it is made anew, so that a program may keep the file open and look again.
    if (!text || (pos == 0 && !inode_->ops().at_open)) {
      std::string fresh = TRY(inode_->ops().read());
      text = Keep(std::move(fresh));
    }
    if (pos >= text->size()) return size_t{0};
    // Numbers of sysctls come whole or not (proc_dointvec()).
    const bool numbers = text->find_first_not_of("0123456789-\t\n ") == std::string::npos;
    if (pos != 0 && numbers && inode_->ops().style.binds_root) return size_t{0};
    const size_t n = std::min<size_t>(text->size() - pos, dst.remaining());
    return dst.Put(std::as_bytes(std::span(text->data() + pos, n)));
  }

  Result<size_t> Write(IoSrc& src, uint64_t* pos, int) override {
    const TextOps& ops = inode_->ops();
    if (!ops.write && !ops.write_as) return Errno(ops.style.write_error);
    if (ops.write_as && *pos != 0) return Errno(EINVAL);
    std::string text(std::min(src.remaining(), kMaxWrite), '\0');
    const size_t n = TRY(GetWhole(src, std::as_writable_bytes(std::span(text.data(), text.size()))));
    const std::string_view whole = std::string_view(text).substr(0, n);
    TRY(ops.write_as ? ops.write_as(whole, *opener_) : ops.write(whole));
    *pos += n;
    return n;
  }

 private:
  std::shared_ptr<const std::string> Kept() {
    MutexLock lock(mu_);
    return text_;
  }
  std::shared_ptr<const std::string> Keep(std::string text) {
    auto fresh = std::make_shared<const std::string>(std::move(text));
    MutexLock lock(mu_);
    text_ = fresh;
    return fresh;
  }

  const Ref<TextInode> inode_;
  const Ref<const Credentials> opener_;
  TextOps::Watch watch_;
  WaitQueue never_;  // of a file that can be waited for, and does not change
  std::atomic<uint64_t> seen_{0};
  Mutex<LockClass::kLeaf> mu_;
  std::shared_ptr<const std::string> text_ GUARDED_BY(mu_);
};

class DirectoryFile final : public File {
 public:
  DirectoryFile(const Path& path, uint32_t flags, SyntheticDirectory& dir)
      : File(path, flags), dir_(dir) {}
  bool seekable() const override { return true; }
  Result<int64_t> Seek(int64_t offset, int whence) override NO_THREAD_SAFETY_ANALYSIS {
    const int64_t to = whence == SEEK_SET ? offset : this->offset() + offset;
    if ((whence != SEEK_SET && whence != SEEK_CUR) || to < 0) return Errno(EINVAL);
    return to;
  }

  Result<void> ReadDir(DirSink& sink) override NO_THREAD_SAFETY_ANALYSIS {
    int64_t at = offset();
    if (at == 0 || !listed_) {
      entries_ = TRY(dir_->Entries());
      listed_ = true;
    }
    for (; at < static_cast<int64_t>(entries_.size()) + 2; at++) {
      const DirEntry* e = at < 2 ? nullptr : &entries_[static_cast<size_t>(at) - 2];
      const bool taken =
          e == nullptr ? sink.Add(at == 0 ? "." : "..", at == 0 ? dir_->ino() : ParentIno(),
                                  DT_DIR, at + 1)
                       : sink.Add(e->name, e->ino, e->type, at + 1);
      if (!taken) break;
      set_offset(at + 1);
    }
    return {};
  }

 private:
  uint64_t ParentIno() const { return dir_->ino(); }

  const Ref<SyntheticDirectory> dir_;
  // Under the offset lock.
  std::vector<DirEntry> entries_;
  bool listed_ = false;
};

void AppendV(std::string* out, const char* format, va_list args) {
  char buffer[512];
  va_list again;
  va_copy(again, args);
  const int n = vsnprintf(buffer, sizeof(buffer), format, args);
  if (n >= 0 && static_cast<size_t>(n) < sizeof(buffer)) {
    out->append(buffer, static_cast<size_t>(n));
  } else if (n > 0) {
    const size_t old = out->size();
    out->resize(old + static_cast<size_t>(n) + 1);
    vsnprintf(out->data() + old, static_cast<size_t>(n) + 1, format, again);
    out->pop_back();
  }
  va_end(again);
}

}  // namespace

std::string Format(const char* format, ...) {
  std::string out;
  va_list args;
  va_start(args, format);
  AppendV(&out, format, args);
  va_end(args);
  return out;
}

void AppendFormat(std::string* out, const char* format, ...) {
  va_list args;
  va_start(args, format);
  AppendV(out, format, args);
  va_end(args);
}

uint64_t InoOf(uint64_t parent, std::string_view name) {
  uint64_t h = 0xcbf29ce484222325u ^ (parent * 0x9e3779b97f4a7c15u);
  for (const char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  // 32 bits, as Linux's /proc: old programs read no more.
  return ((h >> 32) ^ h) & 0xffffffffu;
}

Result<Attr> SyntheticInode::GetPermissionAttr() {
  Attr a;
  a.mode = mode_;
  const Owner who = owner();
  a.uid = who.uid;
  a.gid = who.gid;
  return a;
}

Result<Attr> SyntheticInode::GetAttr() {
  Attr a = TRY(GetPermissionAttr());
  a.ino = ino_;
  a.nlink = nlink();
  a.size = size();
  a.blksize = fs().type_name() == "sysfs" ? 4096 : 1024;
  a.atime = a.mtime = a.ctime = made_;
  return a;
}

Result<void> SyntheticInode::Set(const SetAttr& attr) {
  if (attr.mode || attr.uid || attr.gid) return Errno(EPERM);
  return {};
}

Result<Ref<File>> SyntheticDirectory::Open(const Path& path, uint32_t flags, const Credentials&) {
  TRY(CheckOpen());
  return Ref<File>(MakeRef<DirectoryFile>(path, flags, *this));
}

uint32_t SyntheticDirectory::LinksOfEntries() {
  const Result<std::vector<DirEntry>> all = Entries();
  return 2 + (all.ok() ? static_cast<uint32_t>(std::ranges::count(*all, DT_DIR, &DirEntry::type)) : 0);
}

Result<Ref<Inode>> StaticDirectory::Lookup(std::string_view name) {
  const auto it = children_.find(name);
  if (it == children_.end()) return Errno(ENOENT);
  return Ref<Inode>(it->second);
}

Result<std::vector<DirEntry>> StaticDirectory::Entries() {
  std::vector<DirEntry> all;
  for (const auto& [name, child] : children_) {
    all.push_back({name, child->ino(), static_cast<uint8_t>(child->type() >> 12)});
  }
  return all;
}

void StaticDirectory::Add(std::string_view name, Ref<SyntheticInode> child) {
  if (child->is_directory()) directories_++;
  children_.emplace(std::string(name), std::move(child));
}

Ref<StaticDirectory> StaticDirectory::AddDirectory(std::string_view name) {
  Ref<StaticDirectory> dir = MakeRef<StaticDirectory>(fs(), InoOf(ino(), name), style_.directory_mode);
  dir->style_ = style_;
  Add(name, dir);
  return dir;
}

void StaticDirectory::AddLink(std::string_view name, std::string target) {
  LinkInode::Ops ops;
  // proc_symlink() tells how long it is, sysfs_create_link() does not.
  if (fs().type_name() == "proc") ops.size = target.size();
  ops.read = [target = std::move(target)]() -> Result<std::string> { return std::string(target); };
  Add(name, MakeRef<LinkInode>(fs(), InoOf(ino(), name), 0777u, std::move(ops)));
}

void StaticDirectory::AddText(std::string_view name, std::string text, uint32_t permissions) {
  AddFile(
      name, [text = std::move(text)]() -> Result<std::string> { return std::string(text); },
      permissions);
}

void StaticDirectory::AddFile(std::string_view name, std::function<Result<std::string>()> read,
                              uint32_t permissions,
                              std::function<Result<void>(std::string_view)> write) {
  TextOps ops;
  ops.read = std::move(read);
  ops.write = std::move(write);
  ops.style = style_;
  Add(name, MakeRef<TextInode>(fs(), InoOf(ino(), name), permissions, std::move(ops)));
}

Result<Ref<File>> TextInode::Open(const Path& path, uint32_t flags, const Credentials& creds) {
  // Root passes the mode bits, but what cannot be changed says so here, or at the write.
  const bool may_write = ops_.write || ops_.write_as || ops_.style.write_error != 0;
  if ((flags & O_ACCMODE) != O_RDONLY && !may_write) return Errno(EACCES);
  if (ops_.check_open) TRY(ops_.check_open());
  if (ops_.check_write_open && (flags & O_ACCMODE) != O_RDONLY) TRY(ops_.check_write_open());
  Ref<TextFile> file = MakeRef<TextFile>(path, flags, *this, creds);
  TRY(file->Prepare());
  return Ref<File>(std::move(file));
}

}  // namespace ringwall
