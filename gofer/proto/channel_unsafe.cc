// The mapping and the futexes of a channel.
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "gofer/proto/channel.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

namespace ringwall::gofer {

namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

Result<void*> MapShared(int fd) {
  void* base = ::mmap(nullptr, kChannelSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return Errno(errno);
  return base;
}

}  // namespace

Result<ChannelMemory> ChannelMemory::Make(UniqueFd* fd) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  fd->reset(::memfd_create("gofer-channel", kFlags | MFD_NOEXEC_SEAL));
  if (!*fd) fd->reset(::memfd_create("gofer-channel", kFlags));  // before Linux 6.3
  if (!*fd) return Errno(errno);
  TRY(FromHost(::ftruncate(fd->get(), kChannelSize)));
  TRY(FromHost(::fcntl(fd->get(), F_ADD_SEALS, kSeals)));
  void* base = TRY(MapShared(fd->get()));
  return ChannelMemory(base);
}

Result<ChannelMemory> ChannelMemory::Map(int fd) {
  const int seals = TRY(FromHost(::fcntl(fd, F_GET_SEALS)));
  struct stat buf;
  TRY(FromHost(::fstat(fd, &buf)));
  if ((seals & F_SEAL_SHRINK) == 0 || buf.st_size != static_cast<off_t>(kChannelSize)) {
    return Errno(EPERM);
  }
  void* base = TRY(MapShared(fd));
  return ChannelMemory(base);
}

ChannelMemory::~ChannelMemory() {
  if (base_ != nullptr) ::munmap(base_, kChannelSize);
}

size_t CopyMessage(std::span<const uint8_t> room, std::span<uint8_t> copy) {
  // SAFETY: both rooms begin on a page, and a message begins with its size.
  const uint32_t size =
      __atomic_load_n(reinterpret_cast<const uint32_t*>(room.data()), __ATOMIC_RELAXED);
  if (size < sizeof(uint32_t) || size > std::min(room.size(), copy.size())) return 0;
  std::memcpy(copy.data(), room.data(), size);
  // The size that was used is the one that counts, should the other side have changed it since.
  std::memcpy(copy.data(), &size, sizeof(size));
  return size;
}

void FutexWait(std::atomic<uint32_t>& word, uint32_t value, int timeout_ms) {
  const timespec timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
  // SAFETY: an atomic<uint32_t> is its value; the kernel reads it only.
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, value,
            timeout_ms < 0 ? nullptr : &timeout, nullptr, 0);
}

void FutexWake(std::atomic<uint32_t>& word) {
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

}  // namespace ringwall::gofer
