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

size_t Pipe::PacketRoomLocked() const {
  size_t pages = 0;
  for (const Piece& p : pieces_) pages += (p.size + kPage - 1) / kPage;
  if (pieces_.empty()) pages = (used_ + kPage - 1) / kPage;
  const size_t all = capacity_ / kPage;
  return pages >= all ? 0 : (all - pages) * kPage;
}

size_t Pipe::RoomLocked() const {
  if (pieces_.empty()) return capacity_ - used_;
  return std::min(capacity_ - used_, PacketRoomLocked());
}

bool Pipe::MergesLocked(size_t n) const {
  if (used_ == 0 || (!pieces_.empty() && pieces_.back().packet)) return false;
  const size_t last = (pieces_.empty() ? used_ : pieces_.back().size) % kPage;
  return n != 0 && last != 0 && last + n <= kPage;
}

void Pipe::NoteAddedLocked(size_t n, bool packet) {
  if (n == 0) return;
  if (pieces_.empty() && !packet) {
    used_ += n;
    return;
  }
  if (pieces_.empty() && used_ > 0) pieces_.push_back({used_, false});
  used_ += n;
  if (!packet && !pieces_.empty() && !pieces_.back().packet) {
    pieces_.back().size += n;
  } else {
    pieces_.push_back({n, packet});
  }
}

void Pipe::NoteTakenLocked(size_t n) {
  start_ = (start_ + n) & (capacity_ - 1);
  used_ -= n;
  while (n > 0 && !pieces_.empty()) {
    const size_t step = std::min(n, pieces_.front().size);
    pieces_.front().size -= step;
    n -= step;
    if (pieces_.front().size == 0) pieces_.pop_front();
  }
  // Back to the pages that are warm, unless a filler works on its place in the ring.
  if (used_ == 0 && !filling_) start_ = 0;
}

void Pipe::MakeRingLocked() {
  if (ring_ == nullptr) ring_ = std::make_unique_for_overwrite<std::byte[]>(capacity_);
}

Result<size_t> Pipe::PutLocked(IoDst& dst, size_t n) {
  size_t done = 0;
  while (done < n) {
    const size_t at = (start_ + done) & (capacity_ - 1);
    const size_t part = std::min(n - done, capacity_ - at);
    Result<size_t> put = dst.Put(std::span(ring_.get() + at, part));
    if (!put.ok()) {
      if (done > 0) break;
      return put.error();
    }
    done += *put;
    if (*put < part) break;
  }
  return done;
}

Result<size_t> Pipe::GetLocked(IoSrc& src, size_t n) {
  size_t done = 0;
  while (done < n) {
    const size_t at = (start_ + used_ + done) & (capacity_ - 1);
    const size_t part = std::min(n - done, capacity_ - at);
    Result<size_t> got = src.Get(std::span(ring_.get() + at, part));
    if (!got.ok()) {
      if (done > 0) break;
      return got.error();
    }
    done += *got;
    if (*got < part) break;
  }
  return done;
}

Result<size_t> Pipe::Read(IoDst& dst) {
  if (dst.remaining() == 0) return size_t{0};
  size_t done = 0;
  bool was_full = false;
  {
    MutexLock lock(mu_);
    while (taking_) given_back_.Wait(mu_);
    if (used_ == 0) {
      if (writers_ == 0) return size_t{0};
      return Errno(EAGAIN);
    }
    was_full = RoomLocked() < PIPE_BUF;
    while (used_ > 0 && dst.remaining() > 0) {
      const bool packet = !pieces_.empty() && pieces_.front().packet;
      const size_t there = pieces_.empty() ? used_ : pieces_.front().size;
      const size_t want = std::min(there, dst.remaining());
      Result<size_t> n = PutLocked(dst, want);
      if (!n.ok()) {
        if (done > 0) break;
        return n.error();
      }
      // Of bytes for a place that ends too early whole pages count, and the rest stays.
      const size_t whole = *n < want ? *n - *n % kPage : *n;
      if (whole == 0 && done == 0) return Errno(EFAULT);
      done += whole;
      // What of a packet does not fit is lost, and a read ends with the packet.
      if (whole != 0) NoteTakenLocked(packet && whole == want ? there : whole);
      if (packet || *n < want) break;
    }
    was_full = was_full && RoomLocked() >= PIPE_BUF;
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
    const size_t room = packets ? PacketRoomLocked() : RoomLocked();
    if (room == 0 || (want <= PIPE_BUF && room < want)) return Errno(EAGAIN);
    MakeRingLocked();
    // What does not fill a page goes to the last one first, if that is no packet's.
    const size_t odd = packets && MergesLocked(want % kPage) ? want % kPage : 0;
    while (src.remaining() > 0) {
      const bool packet = packets && done >= odd;
      const size_t left = packet ? PacketRoomLocked() : RoomLocked();
      size_t part = std::min({left, src.remaining(), packet ? kPage : left});
      if (done < odd) part = odd - done;
      if (part == 0) break;
      Result<size_t> n = GetLocked(src, part);
      if (!n.ok()) {
        if (done > 0) break;
        return n.error();
      }
      // Of bytes that end where nothing can be read, whole pages count.
      const size_t whole = *n < part ? *n - *n % kPage : *n;
      if (whole == 0 && done == 0) return Errno(EFAULT);
      if (whole != 0) NoteAddedLocked(whole, packet);
      done += whole;
      if (*n < part) break;
    }
  }
  // Edge-triggered listeners hear of every write.
  queue_.Notify(EPOLLIN | EPOLLRDNORM);
  return done;
}

Result<std::span<const std::byte>> Pipe::BeginTake(size_t most) {
  MutexLock lock(mu_);
  while (taking_) given_back_.Wait(mu_);
  if (used_ == 0) {
    if (writers_ == 0) return std::span<const std::byte>();
    return Errno(EAGAIN);
  }
  taking_ = true;
  const size_t there = pieces_.empty() ? used_ : pieces_.front().size;
  return std::span<const std::byte>(ring_.get() + start_,
                                    std::min({most, there, capacity_ - start_}));
}

void Pipe::EndTake(size_t used) {
  bool has_room = false;
  {
    MutexLock lock(mu_);
    taking_ = false;
    NoteTakenLocked(used);
    has_room = used > 0 && RoomLocked() >= PIPE_BUF;
  }
  given_back_.SignalAll();
  if (has_room) queue_.Notify(EPOLLOUT | EPOLLWRNORM);
}

Result<std::span<std::byte>> Pipe::BeginFill(size_t most) {
  MutexLock lock(mu_);
  while (filling_) given_back_.Wait(mu_);
  if (readers_ == 0) return Errno(EPIPE);
  const size_t room = RoomLocked();
  if (room == 0) return Errno(EAGAIN);
  MakeRingLocked();
  filling_ = true;
  const size_t at = (start_ + used_) & (capacity_ - 1);
  return std::span<std::byte>(ring_.get() + at, std::min({most, room, capacity_ - at}));
}

void Pipe::EndFill(size_t filled) {
  {
    MutexLock lock(mu_);
    filling_ = false;
    NoteAddedLocked(filled, false);
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
    if (from.used_ == 0 && from.writers_ > 0) {
      *wait = &from;
      return Errno(EAGAIN);
    }
    if (to.readers_ == 0) return Errno(EPIPE);
    if (from.used_ == 0) return size_t{0};
    to.MakeRingLocked();
    // With `keep` the place in `from` moves on without taking.
    size_t skipped = 0, piece = 0;
    while (done < most && skipped < from.used_) {
      const bool cut = piece < from.pieces_.size();
      const bool packet = cut && from.pieces_[piece].packet;
      const size_t there = cut ? from.pieces_[piece].size : from.used_ - skipped;
      const size_t room = packet ? to.PacketRoomLocked() : to.RoomLocked();
      const size_t n = std::min({most - done, there, room});
      if (n == 0) break;
      for (size_t i = 0; i < n;) {
        const size_t a = (from.start_ + skipped + i) & (from.capacity_ - 1);
        const size_t b = (to.start_ + to.used_ + i) & (to.capacity_ - 1);
        const size_t part = std::min({n - i, from.capacity_ - a, to.capacity_ - b});
        std::copy_n(from.ring_.get() + a, part, to.ring_.get() + b);
        i += part;
      }
      to.NoteAddedLocked(n, packet);
      done += n;
      if (keep) {
        skipped += n;
        piece++;
        if (n < there) break;
      } else {
        from.NoteTakenLocked(n);
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
    if (used_ > 0) mask |= EPOLLIN | EPOLLRDNORM;
    if (writers_ == 0 && writers_ever_ != writers_before) mask |= EPOLLHUP;
  }
  if (writer) {
    if (RoomLocked() >= PIPE_BUF) mask |= EPOLLOUT | EPOLLWRNORM;
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
  size_t needed = used_;
  if (!pieces_.empty()) needed = capacity_ - PacketRoomLocked();
  if (needed > fresh_size) return Errno(EBUSY);
  std::unique_ptr<std::byte[]> fresh;
  if (used_ > 0) {
    fresh = std::make_unique_for_overwrite<std::byte[]>(fresh_size);
    const size_t first = std::min(used_, capacity_ - start_);
    std::copy_n(ring_.get() + start_, first, fresh.get());
    std::copy_n(ring_.get(), used_ - first, fresh.get() + first);
  }
  Account(owner_, fresh_size, capacity_);
  ring_ = std::move(fresh);
  start_ = 0;
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
      pieces_.clear();
      start_ = used_ = 0;
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
