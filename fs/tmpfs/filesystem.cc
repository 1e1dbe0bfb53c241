#include <linux/fs.h>
#include <sys/xattr.h>

#include <bit>
#include <charconv>

#include "fs/tmpfs/inodes.h"
#include "fs/vfs/acl.h"
#include "fs/vfs/mount.h"
#include "fs/vfs/special_files.h"
#include "sentry/base/file_memory.h"

namespace ringwall {

namespace {

constexpr uint64_t kTmpfsMagic = 0x01021994;
constexpr uint64_t kRamfsMagic = 0x858458f6;
constexpr uint32_t kRamfsMode = 0755;
constexpr uint64_t kPage = 4096;
// All names and values of one inode; Linux counts them against the inode limit.
constexpr size_t kMaxXattrBytes = 1 << 20;

std::atomic<uint64_t> physical_memory{uint64_t{1} << 32};

// memparse(): a number in any base with k, m, g, t behind it.
bool ParseSize(std::string_view text, uint64_t memory, uint64_t* out) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  }
  const char* const end = text.data() + text.size();
  const auto [p, error] = std::from_chars(text.data(), end, *out, base);
  if (error != std::errc()) return false;
  const std::string_view unit(p, static_cast<size_t>(end - p));
  if (unit.empty()) return true;
  if (unit == "%") {
    *out = memory / 100 * *out;
    return true;
  }
  static constexpr std::string_view kUnits = "kmgtpe";
  const size_t power = kUnits.find(static_cast<char>(unit[0] | 0x20));
  if (unit.size() != 1 || power == std::string_view::npos) return false;
  const int shift = 10 * static_cast<int>(power + 1);
  if (*out > UINT64_MAX >> shift) return false;
  *out <<= shift;
  return true;
}

template <typename T>
bool ParseNumber(std::string_view text, int base, T* out) {
  const char* const end = text.data() + text.size();
  const auto [p, error] = std::from_chars(text.data(), end, *out, base);
  return error == std::errc() && p == end;
}

Result<void> ParseInto(std::string_view data, uint64_t memory, TmpfsOptions* out) {
  TmpfsOptions& o = *out;
  while (!data.empty()) {
    const size_t comma = std::min(data.find(','), data.size());
    const std::string_view option = data.substr(0, comma);
    data.remove_prefix(std::min(comma + 1, data.size()));
    if (option.empty()) continue;
    const size_t equals = option.find('=');
    const std::string_view key = option.substr(0, equals);
    const std::string_view value =
        equals == std::string_view::npos ? std::string_view() : option.substr(equals + 1);
    bool ok = true;
    if (key == "size") {
      ok = ParseSize(value, memory, &o.size);
      o.size = (o.size + kPage - 1) / kPage * kPage;
    } else if (key == "nr_blocks") {
      ok = ParseSize(value, memory / kPage, &o.size) && o.size <= UINT64_MAX / kPage;
      o.size *= kPage;
    } else if (key == "nr_inodes") {
      ok = ParseSize(value, memory, &o.nr_inodes);
    } else if (key == "mode") {
      ok = ParseNumber(value, 8, &o.mode);
      o.mode &= 07777;
    } else if (key == "uid") {
      ok = ParseNumber(value, 10, &o.uid);
    } else if (key == "gid") {
      ok = ParseNumber(value, 10, &o.gid);
    } else {
      // Memory policy, huge pages and inode numbers make no difference here.
      ok = key == "huge" || key == "mpol" || key == "inode32" || key == "inode64" ||
           key == "noswap";
    }
    if (!ok) return Errno(EINVAL);
  }
  return {};
}

// ramfs_parse_param.
Result<void> ParseRamfsInto(std::string_view data, uint32_t* mode) {
  for (size_t comma = 0; !data.empty(); data.remove_prefix(std::min(comma + 1, data.size()))) {
    comma = std::min(data.find(','), data.size());
    constexpr std::string_view kMode = "mode";
    const std::string_view option = data.substr(0, comma);
    if (option.substr(0, option.find('=')) != kMode) continue;
    if (option == kMode || !ParseNumber(option.substr(kMode.size() + 1), 8, mode)) return Errno(EINVAL);
    *mode &= 07777;
  }
  return {};
}

}  // namespace

Result<TmpfsOptions> TmpfsOptions::ParseRamfs(std::string_view data, uint64_t memory,
                                              const Credentials& creds) {
  TmpfsOptions o;
  o.ramfs = true;
  o.mode = kRamfsMode;
  o.nr_inodes = memory / kPage / 2;  // Linux has no limit
  o.uid = creds.fsuid;
  o.gid = creds.fsgid;
  TRY(ParseRamfsInto(data, &o.mode));
  return o;
}

Result<TmpfsOptions> TmpfsOptions::Parse(std::string_view data, uint64_t memory) {
  TmpfsOptions o;
  o.size = memory / 2;
  TRY(ParseInto(data, memory, &o));
  return o;
}

Result<TmpfsOptions> TmpfsOptions::Parse(std::string_view data, uint64_t memory,
                                         const Credentials& creds) {
  const UserNamespace& ns = creds.user_ns();
  TmpfsOptions o;
  o.size = memory / 2;
  o.nr_inodes = memory / kPage / 2;
  o.uid = o.gid = kInvalidId;
  TRY(ParseInto(data, memory, &o));
  const std::optional<Uid> uid = ns.UidIn(o.uid);
  const std::optional<Gid> gid = ns.GidIn(o.gid);
  if ((o.uid != kInvalidId && !uid) || (o.gid != kInvalidId && !gid)) return Errno(EINVAL);
  o.uid = uid.value_or(creds.fsuid);
  o.gid = gid.value_or(creds.fsgid);
  return o;
}


TmpfsFileSystem::TmpfsFileSystem(const TmpfsOptions& options) : options_(options), size_(options.size), nr_inodes_(options.nr_inodes) {}

void TmpfsFileSystem::SetMemory(uint64_t bytes) { physical_memory.store(bytes); }
uint64_t TmpfsFileSystem::memory() { return physical_memory.load(); }

// What a remount does not name stays.
Result<void> TmpfsFileSystem::Reconfigure(std::string_view data) {
  TmpfsOptions o = options_;
  if (o.ramfs) return ParseRamfsInto(data, &o.mode);
  o.size = size_.load();
  o.nr_inodes = nr_inodes_.load();
  TRY(ParseInto(data, physical_memory.load(), &o));
  // Limits cannot come, nor go below what is there.
  if (o.size / kPage < used_pages() && o.size != 0) return Errno(EINVAL);
  if (o.nr_inodes != 0 && o.nr_inodes < inodes_.load(std::memory_order_relaxed)) return Errno(EINVAL);
  size_.store(o.size);
  nr_inodes_.store(o.nr_inodes);
  return {};
}

Ref<TmpfsFileSystem> TmpfsFileSystem::Create(const TmpfsOptions& options) {
  return MakeRef<TmpfsFileSystem>(options);
}

// Made on first use: it holds the file system, which therefore must not hold it from the start.
Ref<Inode> TmpfsFileSystem::root() {
  MutexLock lock(tree_mu_);
  if (!root_) {
    const NewInode args{S_IFDIR | options_.mode, options_.uid, options_.gid, 0};
    inodes_.fetch_add(1, std::memory_order_relaxed);
    root_ = MakeRef<TmpfsDirectory>(*this, args, uint64_t{0});
  }
  return Ref<Inode>(*root_);
}

void TmpfsFileSystem::OnLastUnmount() {
  RefPtr<Inode> root;
  MutexLock lock(tree_mu_);
  std::swap(root, root_);
  lock.Unlock();
}

bool TmpfsFileSystem::Charge(uint64_t pages) {
  const uint64_t limit = size_.load() / kPage;
  const uint64_t used = used_pages_.fetch_add(pages, std::memory_order_relaxed) + pages;
  // Mappings are looked at only where all that they may have written would not fit.
  const bool fits = limit == 0 || pages == 0 || used + mapped_.seen.load() + mapped_.room.load() <= limit ||
                    used + FileMemory::LookAt(mapped_) <= limit;
  if (fits && (options_.store || FileMemory::Charge(pages))) return true;
  used_pages_.fetch_sub(pages, std::memory_order_relaxed);
  return false;
}

uint64_t TmpfsFileSystem::ChargeUpTo(uint64_t pages) {
  if (pages == 0 || Charge(pages)) return pages;
  uint64_t got = 0;
  for (uint64_t step = std::bit_floor(pages); step != 0; step /= 2) {
    if (got + step <= pages && Charge(step)) got += step;
  }
  return got;
}

uint64_t TmpfsFileSystem::LeftPages() const {
  const uint64_t limit = size_.load() / kPage, used = used_pages();
  return used < limit ? limit - used : 0;
}

void TmpfsFileSystem::Uncharge(uint64_t pages) {
  used_pages_.fetch_sub(pages, std::memory_order_relaxed);
  if (!options_.store) FileMemory::Uncharge(pages);
}

void TmpfsFileSystem::Recharge(uint64_t was, uint64_t is) {
  used_pages_.fetch_add(is - was, std::memory_order_relaxed);
  if (!options_.store) FileMemory::Recharge(was, is);
}

bool TmpfsFileSystem::ChargeInode() {
  const uint64_t used = inodes_.fetch_add(1, std::memory_order_relaxed);
  if (nr_inodes_.load() == 0 || used < nr_inodes_.load()) return true;
  inodes_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

Result<StatFs> TmpfsFileSystem::GetStatFs() {
  StatFs s;
  s.type = options_.ramfs ? kRamfsMagic : kTmpfsMagic;
  if (options_.ramfs) return s;
  const uint64_t memory = physical_memory.load();
  const uint64_t used = used_pages();
  s.blocks = (size_.load() != 0 ? size_.load() : memory) / kPage;
  s.bfree = s.bavail = used < s.blocks ? s.blocks - used : 0;
  const uint64_t inodes = inodes_.load(std::memory_order_relaxed);
  s.files = nr_inodes_.load() != 0 ? nr_inodes_.load() : memory / kPage / 2;
  s.ffree = inodes < s.files ? s.files - inodes : 0;
  return s;
}

std::string TmpfsFileSystem::mount_options() const {
  std::string out;
  const auto add = [&](std::string text) {
    if (!out.empty()) out += ',';
    out += text;
  };
  const bool sized = !options_.ramfs;
  if (sized && size_.load() != 0 && size_.load() != memory() / 2) add("size=" + std::to_string(size_.load() >> 10) + "k");
  if (sized && nr_inodes_.load() != 0 && nr_inodes_.load() != memory() / kPage / 2) add("nr_inodes=" + std::to_string(nr_inodes_.load()));
  if (options_.mode != (options_.ramfs ? kRamfsMode : 01777)) {
    char mode[16];
    snprintf(mode, sizeof(mode), options_.ramfs ? "mode=%o" : "mode=%03o", options_.mode);
    add(mode);
  }
  if (options_.ramfs) return out;
  if (options_.uid != 0) add("uid=" + std::to_string(options_.uid));
  if (options_.gid != 0) add("gid=" + std::to_string(options_.gid));
  return out;
}

TmpfsInode::TmpfsInode(TmpfsFileSystem& fs, const NewInode& args)
    : Inode(fs, args.mode),
      tmpfs_(fs),
      ino_(fs.NextIno()),
      rdev_(args.rdev),
      btime_(CurrentTime()),
      mode_(args.mode),
      uid_(args.uid),
      gid_(args.gid),
      atime_(btime_),
      mtime_(btime_),
      ctime_(btime_) {
  PublishPermission(args.mode, args.uid, args.gid);
}

TmpfsInode::~TmpfsInode() { tmpfs_.UnchargeInode(); }

Result<Attr> TmpfsInode::GetPermissionAttr() {
  Attr a;
  MutexLock lock(attr_mu_);
  a.mode = mode_;
  a.uid = uid_;
  a.gid = gid_;
  return a;
}

Result<Attr> TmpfsInode::GetAttr() {
  Attr a;
  a.ino = ino_;
  a.nlink = nlink();
  a.rdev = rdev_;
  a.btime = btime_;
  FillSize(&a);  // and learns of mappings' writes
  {
    MutexLock lock(attr_mu_);
    a.mode = mode_;
    a.uid = uid_;
    a.gid = gid_;
    a.atime = atime_;
    a.mtime = mtime_;
    a.ctime = ctime_;
  }
  return a;
}

Result<void> TmpfsInode::Resize(uint64_t) { return Errno(is_directory() ? EISDIR : EINVAL); }

Result<void> TmpfsInode::Set(const SetAttr& set) {
  if (set.size) TRY(Resize(*set.size));
  const Timespec now = CurrentTime();
  MutexLock lock(attr_mu_);
  if (set.mode) mode_ = type() | (*set.mode & 07777);
  if (set.uid) uid_ = *set.uid;
  if (set.gid) gid_ = *set.gid;
  if (set.atime) atime_ = set.atime->now ? now : set.atime->time;
  if (set.mtime) mtime_ = set.mtime->now ? now : set.mtime->time;
  if (set.size && !set.mtime) mtime_ = now;
  ctime_ = now;
  PublishPermission(mode_, uid_, gid_);
  return {};
}

void TmpfsInode::TouchCtime() {
  const Timespec now = CurrentTime();
  MutexLock lock(attr_mu_);
  ctime_ = now;
}

void TmpfsInode::TouchMtime() { SetMtime(CurrentTime()); }

void TmpfsInode::SetMtime(Timespec time) {
  MutexLock lock(attr_mu_);
  mtime_ = ctime_ = time;
}

void TmpfsInode::Accessed(const File& file) {
  if ((file.flags() & O_NOATIME) || !file.path() || (file_flags() & FS_NOATIME_FL)) return;
  const uint32_t mount_flags = file.path().mount().flags();
  if (mount_flags & (MS_NOATIME | (is_directory() ? MS_NODIRATIME : 0))) return;
  const Timespec now = CurrentTime();
  MutexLock lock(attr_mu_);
  if (!(mount_flags & MS_STRICTATIME) && !AtimeIsStale(atime_, mtime_, ctime_, now)) return;
  atime_ = now;
}

Result<Ref<File>> TmpfsInode::Open(const Path& path, uint32_t flags, const Credentials& creds) {
  return OpenSpecial(*this, path, flags, creds, rdev_);
}

Result<std::string> TmpfsInode::GetXattr(std::string_view name) {
  if (!tmpfs_.has_xattrs()) return Errno(EOPNOTSUPP);
  MutexLock lock(attr_mu_);
  if (xattrs_ == nullptr) return Errno(ENODATA);
  const auto it = xattrs_->find(name);
  if (it == xattrs_->end()) return Errno(ENODATA);
  return it->second;
}

Result<void> TmpfsInode::SetXattr(std::string_view name, std::string_view value, int flags) {
  if (!tmpfs_.has_xattrs()) return Errno(EOPNOTSUPP);
  if (flags & ~(XATTR_CREATE | XATTR_REPLACE)) return Errno(EINVAL);
  const Timespec now = CurrentTime();
  MutexLock lock(attr_mu_);
  if (xattrs_ == nullptr) {
    if (flags & XATTR_REPLACE) return Errno(ENODATA);
    xattrs_ = std::make_unique<std::map<std::string, std::string, std::less<>>>();
  }
  const auto it = xattrs_->find(name);
  if (it != xattrs_->end() && (flags & XATTR_CREATE)) return Errno(EEXIST);
  if (it == xattrs_->end() && (flags & XATTR_REPLACE)) return Errno(ENODATA);
  const size_t old = it != xattrs_->end() ? name.size() + it->second.size() : 0;
  const size_t bytes = xattr_bytes_ - old + name.size() + value.size();
  if (bytes > kMaxXattrBytes) return Errno(ENOSPC);
  if (it != xattrs_->end()) {
    it->second = value;
  } else {
    xattrs_->emplace(name, value);
  }
  xattr_bytes_ = bytes;
  ctime_ = now;
  if (IsAclName(name)) set_has_acl(true);
  return {};
}

Result<std::vector<std::string>> TmpfsInode::ListXattr() {
  std::vector<std::string> names;
  MutexLock lock(attr_mu_);
  if (xattrs_ == nullptr) return names;
  for (const auto& [name, value] : *xattrs_) names.push_back(name);
  return names;
}

Result<void> TmpfsInode::RemoveXattr(std::string_view name) {
  if (!tmpfs_.has_xattrs()) return Errno(EOPNOTSUPP);
  const Timespec now = CurrentTime();
  MutexLock lock(attr_mu_);
  if (xattrs_ == nullptr) return Errno(ENODATA);
  const auto it = xattrs_->find(name);
  if (it == xattrs_->end()) return Errno(ENODATA);
  xattr_bytes_ -= name.size() + it->second.size();
  xattrs_->erase(it);
  ctime_ = now;
  if (IsAclName(name) && !xattrs_->contains(kAclAccess) && !xattrs_->contains(kAclDefault)) {
    set_has_acl(false);
    PublishPermission(mode_, uid_, gid_);
  }
  return {};
}

Result<void> TmpfsInode::SetFileFlags(uint32_t flags) {
  constexpr uint32_t kKept = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL;
  if (flags & ~kKept) return Errno(EOPNOTSUPP);
  set_file_flags(flags);
  TouchCtime();
  return {};
}

Result<Ref<Inode>> MakeTmpfsRegular(TmpfsFileSystem& fs, const NewInode& args) {
  if (!fs.ChargeInode()) return Errno(ENOSPC);
  Ref<TmpfsRegular> inode = MakeRef<TmpfsRegular>(fs, args);
  inode->set_nlink(0);
  return Ref<Inode>(std::move(inode));
}

}  // namespace ringwall
