#include "fs/pipe/pipe.h"

#include <sys/epoll.h>

#include <algorithm>
#include <bit>
#include <map>

namespace ringwall {

namespace {

constexpr size_t kLeastCapacity = 2 * Pipe::kPage;

// Pages of pipe buffers by user (user_struct.pipe_bufs).
Guarded<std::map<Uid, uint64_t>, LockClass::kLeaf>& UserPages() {
  static auto* pages = new Guarded<std::map<Uid, uint64_t>, LockClass::kLeaf>;
  return *pages;
}

uint64_t PagesOf(Uid owner) {
  return UserPages().With([owner](const std::map<Uid, uint64_t>& m) {
    const auto it = m.find(owner);
    return it == m.end() ? 0 : it->second;
  });
}

void Account(Uid owner, size_t add, size_t remove) {
  UserPages().With([&](std::map<Uid, uint64_t>& m) {
    uint64_t& pages = m[owner];
    pages += add / Pipe::kPage;
    pages -= remove / Pipe::kPage;
    if (pages == 0) m.erase(owner);
  });
}

bool Over(uint64_t limit, uint64_t pages) { return limit != 0 && pages > limit; }

}  // namespace

PipeLimits& pipe_limits() {
  static auto* limits = new PipeLimits;
  return *limits;
}

bool Pipe::MayMake(Uid owner, bool privileged) {
  const uint64_t pages = PagesOf(owner) + kLeastCapacity / kPage;
  return privileged || !Over(pipe_limits().user_pages_hard.load(), pages);
}

Pipe::Pipe(Uid owner, bool privileged) : owner_(owner) {
  const uint64_t pages = PagesOf(owner) + kDefaultCapacity / kPage;
  if (!privileged && Over(pipe_limits().user_pages_soft.load(), pages)) {
    capacity_ = kLeastCapacity;
  }
  Account(owner, capacity_, 0);
}

Pipe::~Pipe() { Account(owner_, 0, capacity_); }

size_t Pipe::RunLocked() const {
  size_t bytes = 0;
  for (size_t i = 0; i < in_use_; ++i) {
    const size_t at = AtLocked(i);
    const Slot& slot = slots_[at];
    if (i != 0 && (at == 0 || slot.offset != 0 || slot.packet)) break;
    bytes += slot.size;
    if (slot.packet || slot.offset + slot.size != kPage) break;
  }
  return bytes;
}

size_t Pipe::FreeRunLocked() const {
  const size_t at = AtLocked(in_use_);
  return std::min(SlotsLocked() - in_use_, SlotsLocked() - at) * kPage;
}

void Pipe::AddLocked(size_t n, bool packet, bool merges) {
  used_ += n;
  while (n > 0) {
    const auto size = static_cast<uint16_t>(std::min(n, kPage));
    slots_[AtLocked(in_use_++)] = {0, size, packet, merges};
    n -= size;
  }
}

size_t Pipe::WholePagesLocked(size_t n) const {
  size_t bytes = 0;
  for (size_t i = 0; i < in_use_; ++i) {
    const size_t size = slots_[AtLocked(i)].size;
    if (size > n - bytes) break;
    bytes += size;
  }
  return bytes;
}

void Pipe::DropFirstLocked() {
  used_ -= slots_[first_].size;
  first_ = AtLocked(1);
  in_use_--;
  // Back to the pages that are warm, unless a filler works on its place in the ring.
  if (in_use_ == 0 && !filling_) first_ = 0;
}

void Pipe::TakeLocked(size_t n) {
  while (n > 0) {
    Slot& slot = slots_[first_];
    if (slot.size <= n) {
      n -= slot.size;
      DropFirstLocked();
      continue;
    }
    slot.offset = static_cast<uint16_t>(slot.offset + n);
    slot.size = static_cast<uint16_t>(slot.size - n);
    used_ -= n;
    return;
  }
}

void Pipe::MakeRingLocked() {
  if (ring_ != nullptr) return;
  ring_ = std::make_unique_for_overwrite<std::byte[]>(capacity_);
  slots_ = std::make_unique_for_overwrite<Slot[]>(SlotsLocked());
}

Result<size_t> Pipe::MergeLocked(IoSrc& src) {
  const size_t odd = src.remaining() % kPage;
  if (odd == 0 || in_use_ == 0) return size_t{0};
  const size_t at = AtLocked(in_use_ - 1);
  Slot& last = slots_[at];
  const size_t end = size_t{last.offset} + last.size;
  if (!last.merges || end + odd > kPage) return size_t{0};
  TRY(GetWhole(src, std::span(PageLocked(at) + end, odd)));
  last.size = static_cast<uint16_t>(last.size + odd);
  used_ += odd;
  return odd;
}

Result<size_t> Pipe::Read(IoDst& dst) {
  if (dst.remaining() == 0) return size_t{0};
  size_t done = 0;
  bool was_full = false;
  {
    MutexLock lock(mu_);
    while (taking_) given_back_.Wait(mu_);
    if (in_use_ == 0) {
      if (writers_ == 0) return size_t{0};
      return Errno(EAGAIN);
    }
    was_full = FullLocked();
    while (in_use_ > 0 && dst.remaining() > 0) {
      const Slot& first = slots_[first_];
      const bool packet = first.packet;
      const size_t want = std::min(RunLocked(), dst.remaining());
      const Result<size_t> put = dst.Put(std::span(PageLocked(first_) + first.offset, want));
      const size_t arrived = put.ok() ? *put : 0;
      const size_t taken = arrived == want ? want : WholePagesLocked(arrived);
      done += taken;
      // What of a packet does not fit is lost, and a read ends with the packet.
      if (packet && taken == want) {
        DropFirstLocked();
        break;
      }
      TakeLocked(taken);
      if (taken < want) {
        if (done == 0) return Errno(EFAULT);
        break;
      }
    }
    was_full = was_full && !FullLocked();
  }
  if (was_full) queue_.Notify(EPOLLOUT | EPOLLWRNORM);
  return done;
}

Result<size_t> Pipe::Write(IoSrc& src, bool packets) {
  const size_t want = src.remaining();
  size_t done = 0;
  {
    MutexLock lock(mu_);
    while (filling_) given_back_.Wait(mu_);
    if (readers_ == 0) return Errno(EPIPE);
    if (want == 0) return size_t{0};
    MakeRingLocked();
    done = TRY(MergeLocked(src));
    while (done < want && !FullLocked()) {
      const size_t part = std::min(want - done, FreeRunLocked());
      const Result<size_t> got = src.Get(std::span(PageLocked(AtLocked(in_use_)), part));
      const size_t here = got.ok() ? *got : 0;
      const size_t added = here == part ? part : here / kPage * kPage;
      AddLocked(added, packets, !packets);
      done += added;
      if (added == part) continue;
      if (done == 0) return Errno(EFAULT);
      break;
    }
    if (done == 0) return Errno(EAGAIN);
  }
  // Edge-triggered listeners hear of every write.
  queue_.Notify(EPOLLIN | EPOLLRDNORM);
  return done;
}

Result<std::span<const std::byte>> Pipe::BeginTake(size_t most) {
  MutexLock lock(mu_);
  while (taking_) given_back_.Wait(mu_);
  if (in_use_ == 0) {
    if (writers_ == 0) return std::span<const std::byte>();
    return Errno(EAGAIN);
  }
  taking_ = true;
  return std::span<const std::byte>(PageLocked(first_) + slots_[first_].offset,
                                    std::min(most, RunLocked()));
}

void Pipe::EndTake(size_t used) {
  bool has_room = false;
  {
    MutexLock lock(mu_);
    taking_ = false;
    TakeLocked(used);
    has_room = used > 0 && !FullLocked();
  }
  given_back_.SignalAll();
  if (has_room) queue_.Notify(EPOLLOUT | EPOLLWRNORM);
}

Result<std::span<std::byte>> Pipe::BeginFill(size_t most) {
  MutexLock lock(mu_);
  while (filling_) given_back_.Wait(mu_);
  if (readers_ == 0) return Errno(EPIPE);
  if (FullLocked()) return Errno(EAGAIN);
  MakeRingLocked();
  filling_ = true;
  return std::span<std::byte>(PageLocked(AtLocked(in_use_)), std::min(most, FreeRunLocked()));
}

void Pipe::EndFill(size_t filled) {
  {
    MutexLock lock(mu_);
    filling_ = false;
    AddLocked(filled, false, false);
  }
  given_back_.SignalAll();
  if (filled > 0) queue_.Notify(EPOLLIN | EPOLLRDNORM);
}

void Pipe::WaitGivenBack() {
  MutexLock lock(mu_);
  while (taking_ || filling_) given_back_.Wait(mu_);
}

Result<size_t> Pipe::Transfer(Pipe& from, Pipe& to, size_t most, bool keep,
                              Pipe** wait) NO_THREAD_SAFETY_ANALYSIS {
  size_t done = 0;
  for (bool lent = true; lent;) {
    from.WaitGivenBack();
    to.WaitGivenBack();
    LockBoth lock(from.mu_, to.mu_);
    lent = from.taking_ || to.filling_;
    if (lent) continue;
    if (from.in_use_ == 0 && from.writers_ > 0) {
      *wait = &from;
      return Errno(EAGAIN);
    }
    if (to.readers_ == 0) return Errno(EPIPE);
    if (from.in_use_ == 0) return size_t{0};
    to.MakeRingLocked();
    // With `keep` the place in `from` moves on without taking.
    for (size_t i = 0; done < most && i < from.in_use_ && !to.FullLocked();) {
      const size_t at = from.AtLocked(i);
      const Slot slot = from.slots_[at];
      const size_t n = std::min<size_t>(most - done, slot.size);
      std::copy_n(from.PageLocked(at) + slot.offset, n, to.PageLocked(to.AtLocked(to.in_use_)));
      to.AddLocked(n, slot.packet, slot.merges && !keep && n == slot.size);
      done += n;
      if (keep) {
        i++;
      } else {
        from.TakeLocked(n);
      }
    }
    if (done == 0) {
      *wait = &to;
      return Errno(EAGAIN);
    }
  }
  to.queue_.Notify(EPOLLIN | EPOLLRDNORM);
  if (!keep) from.queue_.Notify(EPOLLOUT | EPOLLWRNORM);
  return done;
}

EventMask Pipe::Poll(bool reader, bool writer, uint64_t writers_before) const {
  MutexLock lock(mu_);
  EventMask mask = 0;
  if (reader) {
    if (in_use_ > 0) mask |= EPOLLIN | EPOLLRDNORM;
    if (writers_ == 0 && writers_ever_ != writers_before) mask |= EPOLLHUP;
  }
  if (writer) {
    if (!FullLocked()) mask |= EPOLLOUT | EPOLLWRNORM;
    if (readers_ == 0) mask |= EPOLLERR;
  }
  return mask;
}

size_t Pipe::used() const {
  MutexLock lock(mu_);
  return used_;
}

size_t Pipe::capacity() const {
  MutexLock lock(mu_);
  return capacity_;
}

Result<size_t> Pipe::SetCapacity(size_t size, bool privileged) {
  const size_t fresh_size = std::bit_ceil(std::max<size_t>(size, kPage));
  MutexLock lock(mu_);
  while (taking_ || filling_) given_back_.Wait(mu_);
  if (fresh_size > capacity_ && !privileged) {
    if (fresh_size > pipe_limits().max_size.load()) return Errno(EPERM);
    const uint64_t pages = PagesOf(owner_) + (fresh_size - capacity_) / kPage;
    if (Over(pipe_limits().user_pages_soft.load(), pages) ||
        Over(pipe_limits().user_pages_hard.load(), pages)) {
      return Errno(EPERM);
    }
  }
  if (in_use_ * kPage > fresh_size) return Errno(EBUSY);
  std::unique_ptr<std::byte[]> fresh;
  std::unique_ptr<Slot[]> fresh_slots;
  if (in_use_ > 0) {
    fresh = std::make_unique_for_overwrite<std::byte[]>(fresh_size);
    fresh_slots = std::make_unique_for_overwrite<Slot[]>(fresh_size / kPage);
    for (size_t i = 0; i < in_use_; ++i) {
      const size_t at = AtLocked(i);
      fresh_slots[i] = slots_[at];
      std::copy_n(PageLocked(at), kPage, fresh.get() + i * kPage);
    }
  }
  Account(owner_, fresh_size, capacity_);
  ring_ = std::move(fresh);
  slots_ = std::move(fresh_slots);
  first_ = 0;
  capacity_ = fresh_size;
  lock.Unlock();
  queue_.Notify(EPOLLOUT | EPOLLWRNORM);
  return fresh_size;
}

void Pipe::AddEnd(bool reader, bool writer) {
  {
    MutexLock lock(mu_);
    readers_ += reader, readers_ever_ += reader;
    writers_ += writer, writers_ever_ += writer;
  }
  queue_.Notify(EPOLLIN | EPOLLOUT);
}

void Pipe::RemoveEnd(bool reader, bool writer) {
  EventMask events = 0;
  {
    MutexLock lock(mu_);
    readers_ -= reader;
    writers_ -= writer;
    if (reader && readers_ == 0) events |= EPOLLERR | EPOLLOUT;
    if (writer && writers_ == 0) events |= EPOLLHUP | EPOLLIN;
    // What is left in a FIFO goes with its last end. Nobody has it lent: that takes an end.
    if (readers_ == 0 && writers_ == 0) {
      ring_.reset();
      slots_.reset();
      first_ = in_use_ = used_ = 0;
    }
  }
  if (events != 0) queue_.Notify(events);
}

int Pipe::readers() const {
  MutexLock lock(mu_);
  return readers_;
}
int Pipe::writers() const {
  MutexLock lock(mu_);
  return writers_;
}
uint64_t Pipe::readers_ever() const {
  MutexLock lock(mu_);
  return readers_ever_;
}
uint64_t Pipe::writers_ever() const {
  MutexLock lock(mu_);
  return writers_ever_;
}

}  // namespace ringwall
