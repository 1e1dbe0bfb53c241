#include "fs/vfs/fd_table.h"

#include <algorithm>

namespace ringwall {

FdReservation::FdReservation(FdReservation&& o) noexcept
    : table_(std::exchange(o.table_, nullptr)), fd_(o.fd_) {}

FdReservation::~FdReservation() {
  if (table_ == nullptr) return;
  MutexLock lock(table_->mu_);
  table_->slots_[static_cast<size_t>(fd_)].reserved = false;
  table_->lowest_free_ = std::min(table_->lowest_free_, static_cast<size_t>(fd_));
}

void FdReservation::Commit(Ref<File> file, bool cloexec) {
  RW_CHECK(table_ != nullptr);
  FdTable& table = *std::exchange(table_, nullptr);
  MutexLock lock(table.mu_);
  FdTable::Slot& slot = table.slots_[static_cast<size_t>(fd_)];
  slot.file = std::move(file);
  slot.cloexec = cloexec;
  slot.reserved = false;
}

Result<Ref<File>> FdTable::Get(int fd) const {
  MutexLock lock(mu_);
  const size_t i = static_cast<size_t>(fd);  // a negative one is far beyond the end
  if (i >= slots_.size() || !slots_[i].file) return Errno(EBADF);
  return Ref<File>(*slots_[i].file);
}

Result<FdTable::Entry> FdTable::GetEntry(int fd) const {
  MutexLock lock(mu_);
  const size_t i = static_cast<size_t>(fd);
  if (i >= slots_.size() || !slots_[i].file) return Errno(EBADF);
  return Entry{Ref<File>(*slots_[i].file), slots_[i].cloexec};
}

Result<FdReservation> FdTable::Reserve(int from, uint64_t limit) {
  if (from < 0 || static_cast<uint64_t>(from) >= limit) return Errno(from == 0 ? EMFILE : EINVAL);
  MutexLock lock(mu_);
  size_t i = std::max(static_cast<size_t>(from), lowest_free_);
  while (i < slots_.size() && (slots_[i].file || slots_[i].reserved)) i++;
  if (i >= limit) return Errno(EMFILE);
  if (i >= slots_.size()) slots_.resize(std::max(i + 1, size_t{16}));
  slots_[i].reserved = true;
  slots_[i].cloexec = false;
  if (static_cast<size_t>(from) <= lowest_free_) lowest_free_ = i + 1;
  return FdReservation(*this, static_cast<int>(i));
}

Result<int> FdTable::Install(Ref<File> file, bool cloexec, uint64_t limit, int from) {
  FdReservation slot = TRY(Reserve(from, limit));
  const int fd = slot.fd();
  slot.Commit(std::move(file), cloexec);
  return fd;
}

Result<Ref<File>> FdTable::Exchange(int fd, Ref<File> file, bool cloexec, uint64_t limit,
                                    RefPtr<File>* old) {
  if (fd < 0 || static_cast<uint64_t>(fd) >= limit) return Errno(EBADF);
  const size_t i = static_cast<size_t>(fd);
  MutexLock lock(mu_);
  if (i >= slots_.size()) slots_.resize(i + 1);
  // Another thread's open is about to use the number: Linux says so, too.
  if (slots_[i].reserved) return Errno(EBUSY);
  *old = std::exchange(slots_[i].file, file);
  slots_[i].cloexec = cloexec;
  return file;
}

Result<void> FdTable::InstallAt(int fd, Ref<File> file, bool cloexec, uint64_t limit) {
  RefPtr<File> old;  // dropped after the lock
  TRY(Exchange(fd, std::move(file), cloexec, limit, &old));
  return {};
}

Result<Ref<File>> FdTable::Remove(int fd) {
  MutexLock lock(mu_);
  const size_t i = static_cast<size_t>(fd);
  if (i >= slots_.size() || !slots_[i].file) return Errno(EBADF);
  lowest_free_ = std::min(lowest_free_, i);
  return Ref<File>(std::exchange(slots_[i].file, nullptr));
}

Result<void> FdTable::SetCloexec(int fd, bool cloexec) {
  MutexLock lock(mu_);
  const size_t i = static_cast<size_t>(fd);
  if (i >= slots_.size() || !slots_[i].file) return Errno(EBADF);
  slots_[i].cloexec = cloexec;
  return {};
}

std::vector<Ref<File>> FdTable::RemoveRange(uint32_t first, uint32_t last) {
  std::vector<Ref<File>> out;
  MutexLock lock(mu_);
  for (size_t i = first; i <= last && i < slots_.size(); i++) {
    if (!slots_[i].file) continue;
    out.push_back(Ref<File>(std::exchange(slots_[i].file, nullptr)));
    lowest_free_ = std::min(lowest_free_, i);
  }
  return out;
}

void FdTable::SetCloexecRange(uint32_t first, uint32_t last) {
  MutexLock lock(mu_);
  for (size_t i = first; i <= last && i < slots_.size(); i++) {
    if (slots_[i].file) slots_[i].cloexec = true;
  }
}

std::vector<Ref<File>> FdTable::RemoveCloexec() {
  std::vector<Ref<File>> out;
  MutexLock lock(mu_);
  for (size_t i = 0; i < slots_.size(); i++) {
    if (!slots_[i].file || !slots_[i].cloexec) continue;
    out.push_back(Ref<File>(std::exchange(slots_[i].file, nullptr)));
    lowest_free_ = std::min(lowest_free_, i);
  }
  return out;
}

Ref<FdTable> FdTable::Fork() const {
  Ref<FdTable> copy = MakeRef<FdTable>();
  MutexLock lock(mu_);
  copy->Fill(slots_);
  return copy;
}

// Reserved numbers are free in the copy.
void FdTable::Fill(const std::vector<Slot>& from) NO_THREAD_SAFETY_ANALYSIS {
  size_t end = from.size();
  while (end > 0 && !from[end - 1].file) end--;
  slots_.reserve(std::max(end, size_t{16}));
  lowest_free_ = end;
  for (size_t i = 0; i < end; i++) {
    slots_.push_back({from[i].file, from[i].cloexec, false});
    if (!from[i].file && i < lowest_free_) lowest_free_ = i;
  }
}

std::vector<int> FdTable::List() const {
  std::vector<int> out;
  MutexLock lock(mu_);
  for (size_t i = 0; i < slots_.size(); i++) {
    if (slots_[i].file) out.push_back(static_cast<int>(i));
  }
  return out;
}

int FdTable::size_hint() const {
  MutexLock lock(mu_);
  size_t size = 64;
  while (size < slots_.size()) size *= 2;
  return static_cast<int>(size);
}

}  // namespace ringwall
