#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "fs/tmpfs/inodes.h"
#include "sentry/base/viewed_file.h"

namespace ringwall {

namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMaxSize = INT64_MAX;
constexpr uint32_t kSealFutureWrite = 0x10, kSealExec = 0x20;
constexpr uint32_t kSealsWrites = F_SEAL_WRITE | kSealFutureWrite;

uint64_t Pages(uint64_t bytes) { return (bytes + kPage - 1) / kPage; }

class TmpfsView final : public ViewedFile {
 public:
  TmpfsView(TmpfsRegular& inode, int fd) : inode_(inode), fd_(fd) {}
  int host_fd() const override { return fd_; }
  Result<size_t> ReadAt(std::span<std::byte> to, uint64_t pos) override {
    SpanDst dst(to);
    return inode_->Read(dst, pos);
  }

 private:
  const Ref<TmpfsRegular> inode_;  // its descriptor stays
  const int fd_;
};

class TmpfsFile final : public File {
 public:
  // The path may be an overlay's: its inode is another.
  TmpfsFile(const Path& path, uint32_t flags, TmpfsRegular& inode)
      : File(path, flags), inode_(inode) {}
  bool seekable() const override { return true; }
  Result<size_t> Read(IoDst& dst, uint64_t pos, int) override {
    size_t n = ReadByView(dst, pos);
    if (n == 0) n = TRY(regular().Read(dst, pos));
    regular().Accessed(*this);
    return n;
  }
  Result<void> Flush() override {
    views_.Close();
    return {};
  }
  Result<size_t> Write(IoSrc& src, uint64_t* pos, int rw_flags) override {
    return regular().Write(src, pos, AppendsWith(rw_flags));
  }
  Result<int64_t> Seek(int64_t offset, int whence) override NO_THREAD_SAFETY_ANALYSIS {
    if (whence == SEEK_DATA || whence == SEEK_HOLE) return regular().SeekHole(offset, whence);
    return File::Seek(offset, whence);
  }
  Result<HostMapping> Map(uint64_t offset, uint64_t, int prot, bool shared) override {
    HostMapping mapping = TRY(regular().Map(shared && (prot & PROT_WRITE)));
    mapping.offset = offset;
    regular().Accessed(*this);
    return mapping;
  }
  bool Fault(const HostMapping& byte) override { return regular().Fault(byte); }
  bool LacksMemory() const override { return regular().LacksMemory(); }
  Result<void> Fallocate(int mode, uint64_t offset, uint64_t length) override {
    return regular().Fallocate(mode, offset, length);
  }
  Result<int64_t> Fcntl(Task& task, int cmd, uint64_t arg) override {
    // The writable layer of an overlay has no seals to show.
    const bool own = &inode() == inode_.get();
    if (!own) return File::Fcntl(task, cmd, arg);
    if (cmd == F_GET_SEALS) return int64_t{regular().seals()};
    if (cmd != F_ADD_SEALS) return File::Fcntl(task, cmd, arg);
    if (!writable()) return Errno(EPERM);
    if (arg > UINT32_MAX) return Errno(EINVAL);
    TRY(regular().AddSeals(static_cast<uint32_t>(arg)));
    return 0;
  }

 private:
  TmpfsRegular& regular() const { return *inode_; }
  size_t ReadByView(IoDst& dst, uint64_t pos) {
    const int fd = regular().host_fd();
    if (fd < 0) return 0;
    ViewedFile* const file = views_.Find(dst.remaining(), [&] { return MakeRef<TmpfsView>(*inode_, fd); });
    if (file == nullptr) return 0;
    const uint64_t n = regular().DenseFrom(pos, dst.remaining());
    return n == 0 ? 0 : dst.PutByView(*file, pos, n);
  }
  const Ref<TmpfsRegular> inode_;
  ViewCount views_;
};

}  // namespace

Result<Ref<File>> TmpfsRegular::Open(const Path& path, uint32_t flags, const Credentials&) {
  return Ref<File>(MakeRef<TmpfsFile>(path, flags, *this));
}

TmpfsRegular::~TmpfsRegular() {
  MutexLock lock(data_mu_);
  tmpfs().Uncharge(charged_);
}

// What the host has allocated for the memfd is what is used.
void TmpfsRegular::LookLocked(bool ours) {
  struct stat st;
  if (fstat(memfd_.get(), &st) != 0) return;
  const Timespec mtime{st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
  if (!ours && mtime != host_mtime_) SetMtime(mtime);
  host_mtime_ = mtime;
  const uint64_t pages = static_cast<uint64_t>(st.st_blocks) * 512 / kPage;
  tmpfs().Recharge(charged_, pages);
  charged_ = pages;
  NoteMappedLocked();
}

void TmpfsRegular::NoteMappedLocked() {
  if (!mapped_.valid()) return;
  mapped_.Update(Pages(host_size_.load()), charged_);
}

void TmpfsRegular::FillSize(Attr* attr) {
  MutexLock lock(data_mu_);
  if (written_by_mapping_) LookLocked(false);
  attr->size = size_.load(std::memory_order_relaxed);
  attr->blocks = charged_ * (kPage / 512);
}

Result<void> TmpfsRegular::ToMemfdLocked() {
  if (memfd_.valid()) return {};
  UniqueFd fd;
  if (tmpfs().store()) {
    fd = TRY(tmpfs().store()->NewFile());
  } else {
    fd.reset(memfd_create("tmpfs", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd.valid()) return Errno(errno == EMFILE ? ENFILE : errno);
  }
  size_t done = 0;
  while (done < heap_.size()) {
    const ssize_t n = pwrite(fd.get(), heap_.data() + done, heap_.size() - done,
                             static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Errno(ENOSPC);
    done += static_cast<size_t>(n);
  }
  memfd_ = std::move(fd);
  host_size_ = done;
  fd_.store(memfd_.get(), std::memory_order_release);
  std::string().swap(heap_);
  dense_ = granted_ = charged_;
  return {};
}

Result<void> TmpfsRegular::GrantLocked(uint64_t end_page) {
  if (end_page <= granted_) return {};
  granted_ = end_page;
  const uint64_t size = HostSizeLocked(size_.load(std::memory_order_relaxed));
  if (size <= host_size_) return {};
  if (ftruncate(memfd_.get(), static_cast<off_t>(size)) != 0) return Errno(errno);
  host_size_ = size;
  NoteMappedLocked();
  return {};
}

uint64_t TmpfsRegular::ReachLocked(uint64_t first, uint64_t end, uint64_t* fresh) const {
  const int fd = memfd_.get();
  const auto seek = [&](uint64_t page, int whence) {
    const off_t at = lseek(fd, static_cast<off_t>(page * kPage), whence);
    return at < 0 ? end : std::min(end, Pages(static_cast<uint64_t>(at)));
  };
  const uint64_t present = std::clamp(PresentLocked(), first, end);
  for (uint64_t at = present; at < end;) {
    const uint64_t data = seek(at, SEEK_DATA);
    if (data - at > *fresh) return at + std::exchange(*fresh, 0);
    *fresh -= data - at;
    at = data < end ? seek(data, SEEK_HOLE) : end;
  }
  return end;
}

uint64_t TmpfsRegular::PresentLocked() const {
  if (!written_by_mapping_) return dense_;
  // MADV_REMOVE makes holes anywhere.
  const uint64_t pages = Pages(size_.load(std::memory_order_relaxed));
  return charged_ >= pages ? pages : 0;
}

bool TmpfsRegular::Fault(const HostMapping& byte) {
  constexpr uint64_t kShare = 64;  // of what is left goes unseen
  MutexLock lock(data_mu_);
  const uint64_t page = byte.offset / kPage;
  if (!memfd_.valid() || byte.host_fd != memfd_.get() || page >= Pages(size_.load(std::memory_order_relaxed))) return false;
  LookLocked(false);
  if (page >= granted_) {
    if (!tmpfs().Charge(1)) return false;
    charged_++;
    const uint64_t ahead = tmpfs().bounded() ? tmpfs().LeftPages() / kShare : UINT64_MAX / kPage - page - 1;
    if (!GrantLocked(page + 1 + ahead).ok()) return false;
  }
  // Another thread may have been here first: then this changes nothing.
  const int fd = memfd_.get();
  const int r = RetryEintr([&] {
    return fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(page * kPage), kPage);
  });
  RechargeLocked();
  return r == 0 && page * kPage < host_size_;
}

size_t TmpfsRegular::ReadPiece(std::span<std::byte> buffer, uint64_t pos) {
  int fd = fd_.load(std::memory_order_acquire);
  if (fd < 0) {
    ReaderLock lock(data_mu_);
    if (!memfd_.valid()) {
      if (pos >= heap_.size()) return 0;
      const size_t n = std::min(heap_.size() - pos, buffer.size());
      std::ranges::copy(std::as_bytes(std::span(heap_)).subspan(pos, n), buffer.begin());
      return n;
    }
    fd = memfd_.get();
  }
  const ssize_t n =
      RetryEintr([&] { return pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(pos)); });
  if (n < 0) return 0;
  const size_t got = static_cast<size_t>(n);
  // The host's file may end before this one, and this one may have become shorter.
  const uint64_t end = size_.load(std::memory_order_acquire), at = pos + got;
  const size_t zeros = end > at ? std::min<uint64_t>(end - at, buffer.size() - got) : 0;
  std::ranges::fill(buffer.subspan(got, zeros), std::byte{});
  return got + zeros;
}

Result<size_t> TmpfsRegular::Read(IoDst& dst, uint64_t pos) {
  size_t done = 0;
  while (dst.remaining() != 0) {
    const uint64_t size = size_.load(std::memory_order_acquire);
    if (pos + done >= size) break;
    const size_t got =
        ReadPiece(dst.Reserve(std::min<uint64_t>(size - pos - done, dst.remaining())), pos + done);
    const Result<size_t> moved = dst.Commit(got);
    if (!moved.ok()) {
      if (done != 0) break;
      return moved.error();
    }
    done += *moved;
    if (got == 0 || *moved < got) break;
  }
  return done;
}

uint64_t TmpfsRegular::DenseFrom(uint64_t pos, uint64_t want) const {
  ReaderLock lock(data_mu_);
  const uint64_t size = size_.load(std::memory_order_relaxed);
  if (!memfd_.valid() || pos >= size) return 0;
  const uint64_t n = std::min(want, size - pos);
  return pos + n <= dense_ * kPage ? n : 0;
}

Result<size_t> TmpfsRegular::WriteHeapLocked(std::span<const std::byte> bytes, uint64_t pos) {
  size_t count = bytes.size();
  if (pos + count > heap_.size()) {
    const uint64_t pages = Pages(pos + count);
    if (pages > charged_) charged_ += tmpfs().ChargeUpTo(pages - charged_);
    if (pages > charged_) {
      if (charged_ * kPage <= pos) return Errno(ENOSPC);
      count = charged_ * kPage - pos;
    }
    // Grows in steps, so that a file written byte by byte is not copied byte by byte.
    if (pos + count > heap_.capacity()) {
      heap_.reserve(std::min<size_t>(std::max<size_t>(pos + count, 2 * heap_.capacity()), kHeapMax));
    }
    heap_.resize(pos + count);
  }
  memcpy(heap_.data() + pos, bytes.data(), count);
  size_.store(heap_.size(), std::memory_order_release);
  return count;
}

Result<size_t> TmpfsRegular::WriteMemfdLocked(std::span<const std::byte> bytes, uint64_t pos) {
  uint64_t count = bytes.size();
  const uint64_t first = pos / kPage, end_page = Pages(pos + count);
  // Charged before they are written, so that the limit holds. Outside the dense part some may be
  // there already: the host's count corrects that afterwards.
  const bool dense = first <= dense_ && !written_by_mapping_ && charged_ == dense_;
  const uint64_t present = std::max(first, PresentLocked());
  uint64_t extra = end_page > present ? end_page - present : 0;
  if (!tmpfs().Charge(extra)) {
    // As much as fits.
    if (!dense) RechargeLocked();
    uint64_t missing = UINT64_MAX;
    ReachLocked(first, end_page, &missing);
    uint64_t fresh = extra = tmpfs().ChargeUpTo(UINT64_MAX - missing);
    const uint64_t room = ReachLocked(first, end_page, &fresh) * kPage;
    count = room > pos ? std::min(count, room - pos) : 0;
  }
  charged_ += extra;
  if (count == 0) {
    RechargeLocked();
    return Errno(ENOSPC);
  }
  TRY(GrantLocked(Pages(pos + count)));
  const int fd = memfd_.get();
  size_t done = 0;
  int error = 0;
  while (done < count) {
    const ssize_t n = RetryEintr([&] {
      return pwrite(fd, bytes.data() + done, count - done, static_cast<off_t>(pos + done));
    });
    if (n < 0) error = errno;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  const uint64_t size = size_.load(std::memory_order_relaxed);
  if (done != 0) host_size_ = std::max(host_size_.load(), pos + done);
  if (done != 0 && pos + done > size) {
    size_.store(pos + done, std::memory_order_release);
    NoteMappedLocked();
  }
  if (dense && done == count) {
    dense_ = std::max(dense_, Pages(pos + done));
  } else {
    RechargeLocked();
  }
  if (done == 0 && error != 0) return Errno(error);
  return done;
}

Result<void> TmpfsRegular::BeginWrite(uint64_t count, uint64_t* pos, bool append) {
  MutexLock lock(data_mu_);
  const uint64_t size = size_.load(std::memory_order_relaxed);
  if (append) *pos = size;
  if ((seals_ & kSealsWrites) != 0) return Errno(EPERM);
  if ((seals_ & F_SEAL_GROW) != 0 && *pos + count > size) return Errno(EPERM);
  if (*pos >= kMaxSize || count > kMaxSize - *pos) return Errno(EFBIG);
  const bool hole = *pos > Pages(size) * kPage;
  if (memfd_.valid() || !(hole || *pos + count > heap_max())) return {};
  const Result<void> moved = ToMemfdLocked();
  // Without descriptors a file may grow on the heap, within reason.
  if (!moved.ok() && (hole || *pos + count > 64 * kHeapMax)) return moved.error();
  return {};
}

Result<size_t> TmpfsRegular::Write(IoSrc& src, uint64_t* pos, bool append) {
  if (src.remaining() == 0) return size_t{0};
  size_t done = 0;
  {
    MutexLock writing(write_mu_);
    TRY(BeginWrite(src.remaining(), pos, append));
    while (src.remaining() != 0) {
      const Result<std::span<const std::byte>> bytes = src.Take(src.remaining());
      Result<size_t> n = bytes.ok() ? Result<size_t>(bytes->size()) : bytes.error();
      if (n.ok()) {
        MutexLock lock(data_mu_);
        const uint64_t at = *pos + done;
        n = memfd_.valid() ? WriteMemfdLocked(*bytes, at) : WriteHeapLocked(*bytes, at);
      }
      if (!n.ok() && done == 0) return n.error();
      if (n.ok()) done += *n;
      if (!n.ok() || *n < bytes->size()) break;
    }
  }
  *pos += done;
  TouchMtime();
  return done;
}

Result<void> TmpfsRegular::Resize(uint64_t size) {
  if (size > kMaxSize) return Errno(EINVAL);
  MutexLock writing(write_mu_);
  MutexLock lock(data_mu_);
  const uint64_t old_size = size_.load(std::memory_order_relaxed);
  if (size < old_size && (seals_ & F_SEAL_SHRINK) != 0) return Errno(EPERM);
  if (size > old_size && (seals_ & F_SEAL_GROW) != 0) return Errno(EPERM);
  if (!memfd_.valid() && Pages(size) > Pages(old_size)) TRY(ToMemfdLocked());
  if (memfd_.valid()) {
    granted_ = std::min(granted_, Pages(size));
    // What mappings have written while there was no limit stays.
    const uint64_t host_size = std::max(HostSizeLocked(size), std::min(host_size_.load(), size));
    if (ftruncate(memfd_.get(), static_cast<off_t>(host_size)) != 0) return Errno(errno);
    host_size_ = host_size;
    size_.store(size, std::memory_order_release);
    dense_ = std::min(dense_, Pages(size));
    if (size < old_size || written_by_mapping_) RechargeLocked();
    NoteMappedLocked();
    return {};
  }
  heap_.resize(size);
  if (size == 0) std::string().swap(heap_);
  tmpfs().Recharge(charged_, Pages(size));
  charged_ = Pages(size);
  size_.store(size, std::memory_order_release);
  return {};
}

Result<int64_t> TmpfsRegular::SeekHole(int64_t offset, int whence) {
  MutexLock lock(data_mu_);
  const auto size = static_cast<int64_t>(size_.load(std::memory_order_relaxed));
  if (offset < 0 || offset >= size) return Errno(ENXIO);
  if (!memfd_.valid()) return whence == SEEK_DATA ? offset : size;
  const off_t at = lseek(memfd_.get(), offset, whence);
  if (at >= 0) return int64_t{at};
  // Behind the host's end of file is nothing but a hole.
  if (errno == ENXIO && whence == SEEK_HOLE) return offset;
  return Errno(errno);
}

Result<HostMapping> TmpfsRegular::Map(bool may_write) {
  MutexLock lock(data_mu_);
  if (may_write && (seals_ & kSealsWrites) != 0) return Errno(EPERM);
  TRY(ToMemfdLocked());
  // The file may lie past the end of the heap's last write only by what ftruncate made.
  // Holes that are looked at are filled, too, so those who only read count where there is a limit.
  if (may_write || tmpfs().bounded()) {
    if (!written_by_mapping_) RechargeLocked();
    written_by_mapping_ = true;
    if (mapped_.valid()) {
      TRY(mapped_.MayMap());
    } else if (!tmpfs().store()) {
      mapped_ = TRY(MappedMemory::Create(memfd_.get(), Pages(host_size_.load()), charged_, tmpfs().mapped_group()));
    }
  }
  return HostMapping{memfd_.get(), 0};
}

Result<void> TmpfsRegular::Set(const SetAttr& set) {
  if (set.mode && (seals() & kSealExec) != 0) {
    const Attr attr = TRY(GetAttr());
    if (((attr.mode ^ *set.mode) & 0111) != 0) return Errno(EPERM);
  }
  {
    // What mappings wrote came before this.
    MutexLock lock(data_mu_);
    if (written_by_mapping_) LookLocked(false);
  }
  return TmpfsInode::Set(set);
}

void TmpfsRegular::AllowSeals(uint32_t first) {
  MutexLock lock(data_mu_);
  seals_ = first;
}

uint32_t TmpfsRegular::seals() const {
  MutexLock lock(data_mu_);
  return seals_;
}

Result<void> TmpfsRegular::AddSeals(uint32_t seals) {
  constexpr uint32_t kAll = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | kSealsWrites | kSealExec;
  if ((seals & ~kAll) != 0) return Errno(EINVAL);
  const Attr attr = TRY(GetAttr());
  MutexLock writing(write_mu_);  // one that began before the seal ends before it
  MutexLock lock(data_mu_);
  if ((seals_ & F_SEAL_SEAL) != 0) return Errno(EPERM);
  // What may be executed may then not be written either.
  if ((seals & kSealExec) != 0 && (attr.mode & 0111) != 0) {
    seals |= F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | kSealFutureWrite;
  }
  // The host knows whether a mapping that can write is left.
  if ((seals & ~seals_ & F_SEAL_WRITE) != 0 && memfd_.valid() &&
      fcntl(memfd_.get(), F_ADD_SEALS, F_SEAL_WRITE) != 0) {
    return Errno(errno);
  }
  seals_ |= seals;
  return {};
}

Result<void> TmpfsRegular::Fallocate(int mode, uint64_t offset, uint64_t length) {
  if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) return Errno(EOPNOTSUPP);
  if (length == 0 || offset > kMaxSize || length > kMaxSize - offset) return Errno(EFBIG);
  {
    MutexLock writing(write_mu_);
    MutexLock lock(data_mu_);
    TRY(ToMemfdLocked());
    if (mode & FALLOC_FL_PUNCH_HOLE) {
      if ((seals_ & kSealsWrites) != 0) return Errno(EPERM);
      dense_ = std::min(dense_, offset / kPage);
    } else {
      if ((seals_ & F_SEAL_GROW) != 0 &&
          offset + length > size_.load(std::memory_order_relaxed)) {
        return Errno(EPERM);
      }
      // Refused before the host's memory is taken.
      RechargeLocked();
      uint64_t missing = UINT64_MAX;
      ReachLocked(offset / kPage, Pages(offset + length), &missing);
      const uint64_t fresh = UINT64_MAX - missing;
      if (!tmpfs().Charge(fresh)) return Errno(ENOSPC);
      charged_ += fresh;
      TRY(GrantLocked(Pages(offset + length)));
    }
    const int fd = memfd_.get();
    const int r = RetryEintr([&] {
      return fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length));
    });
    const int error = r != 0 ? errno : 0;
    RechargeLocked();
    if (error != 0) return Errno(error);
    if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 && offset / kPage <= dense_) {
      dense_ = std::max(dense_, Pages(offset + length));
    }
    if (!(mode & (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) &&
        offset + length > size_.load(std::memory_order_relaxed)) {
      size_.store(offset + length, std::memory_order_release);
      host_size_ = offset + length;
      NoteMappedLocked();
    }
  }
  TouchMtime();
  return {};
}

}  // namespace ringwall
