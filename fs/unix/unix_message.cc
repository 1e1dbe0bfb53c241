// What AF_UNIX sockets send and receive.
#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>

#include "fs/socket/net_namespace.h"
#include "fs/socket/timestamp.h"
#include "fs/unix/unix_address.h"
#include "fs/unix/unix_cred.h"
#include "fs/unix/unix_gc.h"
#include "fs/unix/unix_socket.h"
#include "fs/vfs/host_sockets.h"

namespace ringwall {

namespace {

constexpr size_t kMaxScmRights = 253;
// unix_stream_sendmsg(): the head's page and UNIX_SKB_FRAGS_SZ.
constexpr size_t kStreamChunk = 4096 - 320 + 32768;
constexpr UnixCred kNobody = {0, 65534, 65534};  // nobody said who sent it

// A block with `want` bytes of the guest's.
Result<net::Slice> CopyIn(IoSrc& src, size_t want) {
  if (want == 0) return net::Slice();
  Ref<net::Buffer> buffer = net::Buffer::New(want);
  const size_t got = TRY(GetWhole(src, std::as_writable_bytes(std::span(buffer->data(), want))));
  buffer->set_used(buffer->capacity());
  return net::Slice(std::move(buffer), 0, got);
}

// Two sockets' lists that a sender of datagrams waits on: its own room and the receiver's.
class TwoWaits {
 public:
  TwoWaits(Task& t, UnixEndpoint& own, UnixEndpoint& to)
      : own_(own), to_(to), first_(t), second_(t) {
    own_.queue.Add(first_, EPOLLOUT);
    to_.senders.Add(second_, EPOLLOUT);
  }
  ~TwoWaits() {
    own_.queue.Remove(first_);
    to_.senders.Remove(second_);
  }
  TwoWaits(const TwoWaits&) = delete;
  TwoWaits& operator=(const TwoWaits&) = delete;

 private:
  UnixEndpoint& own_;
  UnixEndpoint& to_;
  TaskWaiter first_, second_;
};

}  // namespace

// SCM_RIGHTS and SCM_CREDENTIALS of a sendmsg (__scm_send()).
Result<void> UnixSocket::ReadControl(Task& t, std::span<const std::byte> control, Outgoing& out) {
  TRY(ForEachControl(control, [&](const ControlMessage& c) -> Result<void> {
    if (c.level != SOL_SOCKET) return {};
    if (c.type == SCM_RIGHTS) {
      const size_t n = c.data.size() / sizeof(int32_t);
      if (n + out.files.size() > kMaxScmRights) return Errno(EINVAL);
      for (size_t i = 0; i < n; i++) {
        int32_t fd;
        memcpy(&fd, c.data.data() + i * sizeof(fd), sizeof(fd));
        Ref<File> file = TRY(t.GetFile(fd));
        out.files.push_back(std::move(file));
      }
      // too_many_unix_fds()
      if (UnixFilesInFlight(t.creds().ruid) > t.tg().limit(RLIMIT_NOFILE) &&
          !t.creds().Has(Capability::kSysResource) && !t.creds().Has(Capability::kSysAdmin)) {
        return Errno(ETOOMANYREFS);
      }
      return {};
    }
    if (c.type != SCM_CREDENTIALS) return Errno(EINVAL);
    const UnixCred cred = TRY(c.Value<UnixCred>());
    out.cred = TRY(TakeCred(t, cred));
    return {};
  }));
  return {};
}

// The parts of a message but for its bytes.
void UnixSocket::FillIn(UnixMessage& m, Task& t, Outgoing& out, UnixEndpoint& to) {
  m.files = PassedFiles(std::move(out.files), t.creds().ruid);
  out.files.clear();
  if (to.stamped) m.when_ns = MonotonicNow();
  m.cred = out.cred;
  // unix_maybe_add_creds(): who sent it is noted when either side asked for it.
  if (!m.cred && (endpoint_->pass_cred || to.pass_cred)) {
    m.cred = UnixCred{t.tgid(), t.creds().ruid, t.creds().rgid};
  }
}

Result<size_t> UnixSocket::SendMsg(Task& t, SendArgs& args) {
  Outgoing out;
  if (endpoint_->on_host.load(std::memory_order_acquire)) {
    const bool named = endpoint_->datagram() && args.to != nullptr && args.to->size != 0;
    if (const RefPtr<HostLink> host = named ? nullptr : HostTarget()) {
      TRY(ReadControl(t, args.control, out));
      return SendToHost(t, args, out, *host);
    }
  }
  if (!endpoint_->stream() && !endpoint_->datagram()) {
    // unix_seqpacket_sendmsg()
    MutexLock lock(endpoint_->mu);
    if (endpoint_->error != 0) return Errno(std::exchange(endpoint_->error, 0));
    if (!endpoint_->connected) return Errno(ENOTCONN);
  }
  TRY(ReadControl(t, args.control, out));
  if ((args.flags & MSG_OOB) != 0 && (!endpoint_->stream() || args.src.remaining() == 0)) {
    return Errno(EOPNOTSUPP);
  }
  return endpoint_->stream() ? SendStream(t, args, out) : SendDatagram(t, args, out);
}

// unix_stream_sendmsg().
Result<size_t> UnixSocket::SendStream(Task& t, SendArgs& args, Outgoing& out) {
  UnixEndpoint& e = *endpoint_;
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(e.mu);
    if (args.to != nullptr && args.to->size != 0) return Errno(e.connected ? EISCONN : EOPNOTSUPP);
    peer = e.peer;
    if (!peer) return Errno(ENOTCONN);
  }
  if (!out.files.empty() && !peer->pass_rights) return Errno(EPERM);
  if (args.src.remaining() == 0) {
    bool shut;
    {
      MutexLock lock(e.mu);
      shut = e.send_shut;
    }
    return shut ? Result<size_t>(BrokenPipe(t, args.flags)) : Result<size_t>(size_t{0});
  }
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  const bool urgent = (args.flags & MSG_OOB) != 0;
  const size_t total = args.src.remaining() - (urgent ? 1 : 0);
  size_t done = 0;
  // An end that comes while the call waits is told without SIGPIPE, and after what else went wrong
  // (sock_alloc_send_pskb()).
  bool begun = false, broken = false;
  while (done < total) {
    Result<void> room = Wait(t, wait, EPOLLOUT, options_.send_timeout_ns, [&]() -> Result<void> {
      {
        MutexLock lock(e.mu);
        broken = !std::exchange(begun, true) && e.send_shut;
        if (broken) return Errno(EPIPE);
        if (e.error != 0) return Errno(std::exchange(e.error, 0));
        if (e.send_shut) return Errno(EPIPE);
      }
      if (!e.HasRoom()) return Errno(EAGAIN);
      return {};
    });
    if (!room.ok()) {
      if (done > 0) break;
      return broken ? BrokenPipe(t, args.flags) : room.error();
    }
    const size_t most = std::max<size_t>(e.send_buffer / 2, 128) - 64;
    Result<net::Slice> data = CopyIn(args.src, std::min({total - done, kStreamChunk, most}));
    if (!data.ok()) {
      if (done > 0) break;
      return data.error();
    }
    const size_t size = data->size();
    UnixMessage message;
    message.data = std::move(*data);
    FillIn(message, t, out, *peer);
    message.charge = SendCharge(endpoint_, size);
    bool gone;
    {
      MutexLock lock(peer->mu);
      gone = peer->closed || peer->receive_shut;
      if (!gone) {
        peer->queued += size;
        peer->messages.push_back(std::move(message));
      }
    }
    if (gone) {
      if (done > 0) break;
      return BrokenPipe(t, args.flags);
    }
    done += size;
    peer->queue.Notify(EPOLLIN | EPOLLRDNORM);
  }
  if (!urgent || done < total) return done;
  Result<void> last = QueueUrgent(t, args, out, *peer);
  if (last.ok()) return done + 1;
  if (done > 0) return done;
  if (last.error().Is(EPIPE)) return BrokenPipe(t, args.flags);
  return last.error();
}

// The last byte of a send with MSG_OOB. An urgent byte that nobody has read becomes an ordinary one.
Result<void> UnixSocket::QueueUrgent(Task& t, SendArgs& args, Outgoing& out, UnixEndpoint& to) {
  UnixEndpoint& e = *endpoint_;
  TRY(Wait(t, (args.flags & MSG_DONTWAIT) == 0, EPOLLOUT, options_.send_timeout_ns,
           [&]() -> Result<void> {
             MutexLock lock(e.mu);
             if (e.send_shut) return Errno(EPIPE);
             return e.HasRoom() ? Result<void>() : Result<void>(Errno(EAGAIN));
           }));
  UnixMessage message;
  message.data = TRY(CopyIn(args.src, 1));
  message.urgent = true;
  FillIn(message, t, out, to);
  message.charge = SendCharge(endpoint_, 1);
  {
    MutexLock lock(to.mu);
    if (to.closed || to.receive_shut) return Errno(EPIPE);
    const size_t before = to.UrgentIndex();
    if (before != to.messages.size()) to.messages[before].urgent = false;
    to.queued += 1;
    to.messages.push_back(std::move(message));
  }
  to.queue.Notify(EPOLLIN | EPOLLRDNORM | EPOLLPRI);
  return {};
}

// Moves *index past the mark and past an urgent byte that a plain read does not give (manage_oob()).
// False: the read, which has `some` already, ends before it.
bool UnixSocket::PastMark(UnixEndpoint& e, bool peek, bool some, size_t* index,
                          std::vector<UnixMessage>* passed) {
  std::deque<UnixMessage>& queue = e.messages;
  const auto pass = [&] {
    e.mu.AssertHeld();
    if (peek) {
      ++*index;
      return;
    }
    e.queued -= queue.front().left();
    passed->push_back(std::move(queue.front()));
    queue.pop_front();
  };
  if (*index < queue.size() && queue[*index].left() == 0) {
    if (some && e.UrgentIndex() == queue.size()) return false;
    pass();
  }
  if (*index >= queue.size() || !queue[*index].urgent) return true;
  if (some) return false;
  if (!peek) queue[*index].urgent = false;
  if (options_.oob_inline == 0) pass();
  return true;
}

// unix_stream_recv_urg().
Result<size_t> UnixSocket::ReceiveUrgent(ReceiveArgs& args) {
  UnixEndpoint& e = *endpoint_;
  const bool peek = (args.flags & MSG_PEEK) != 0;
  OneReader::Turn turn(reader_);
  uint8_t byte = 0;
  {
    MutexLock lock(e.mu);
    if (!e.connected) return Errno(EINVAL);
    const size_t at = e.UrgentIndex();
    if (options_.oob_inline != 0 || at == e.messages.size()) return Errno(EINVAL);
    UnixMessage& m = e.messages[at];
    byte = *m.data.data();
    if (!peek) {
      m.urgent = false;
      m.taken = 1;
      e.queued -= 1;
    }
  }
  args.out_flags |= MSG_OOB;
  if (args.dst.remaining() == 0) return size_t{0};
  const size_t put = TRY(args.dst.Put(std::as_bytes(std::span(&byte, 1))));
  if (put == 0) return Errno(EFAULT);
  return size_t{1};
}

// Puts a datagram into the receiver's queue. EAGAIN: full.
Result<void> UnixSocket::QueueDatagram(UnixEndpoint& to, UnixMessage& message) {
  MutexLock lock(to.mu);
  if (to.closed) return Errno(endpoint_->datagram() ? ECONNREFUSED : EPIPE);
  if (to.peer && to.peer != endpoint_) return Errno(EPERM);
  if (to.receive_shut) return Errno(EPIPE);
  if (message.files.files().size() != 0 && !to.pass_rights) return Errno(EPERM);
  if (&to != endpoint_.get() && to.peer != endpoint_ && to.QueueFull()) return Errno(EAGAIN);
  if (to.filter) {
    // What a filter drops or cuts was sent all the same.
    net::FilterInput in;
    in.data = in.network = in.link = message.data.span();
    const uint32_t keep = to.filter->Run(in);
    if (keep == 0) return {};
    message.data.Truncate(keep);
  }
  to.queued += message.data.size();
  to.messages.push_back(std::move(message));
  return {};
}

// unix_dgram_sendmsg() and unix_seqpacket_sendmsg().
Result<size_t> UnixSocket::SendDatagram(Task& t, SendArgs& args, Outgoing& out) {
  UnixEndpoint& e = *endpoint_;
  const bool named = e.datagram() && args.to != nullptr && args.to->size != 0;
  RefPtr<UnixEndpoint> to;
  std::string path;
  if (named) {
    path = TRY(UnixPathOf(*args.to));
    if (path.empty()) return Errno(EINVAL);
  } else {
    MutexLock lock(e.mu);
    to = e.peer;
    if (!to) return Errno(ENOTCONN);
  }
  TRY(AutobindIfNeeded());
  const size_t size = args.src.remaining();
  if (size + 32 > e.send_buffer) return Errno(EMSGSIZE);
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  TRY(Wait(t, wait, EPOLLOUT, options_.send_timeout_ns, [&]() -> Result<void> {
    MutexLock lock(e.mu);
    if (e.error != 0) return Errno(std::exchange(e.error, 0));
    if (e.send_shut) return Errno(EPIPE);
    return e.HasRoom() ? Result<void>() : Result<void>(Errno(EAGAIN));
  }));
  UnixMessage message;
  message.data = TRY(CopyIn(args.src, size));
  if (named && path[0] != '\0' && HostSocketsOffered()) {
    const Ref<Inode> node = TRY(FindNode(t, path));
    if (auto link = OpenOnHost(t, *node, wait)) {
      const Ref<HostLink> host = TRY(std::move(*link));
      SpanSrc bytes(std::as_bytes(message.data.span()));
      SendArgs once{.src = bytes, .flags = args.flags};
      return SendToHost(t, once, out, *host);
    }
  }
  if (named) {
    Ref<UnixEndpoint> found = TRY(FindTarget(t, path));
    to = std::move(found);
  }
  FillIn(message, t, out, *to);
  message.charge = SendCharge(endpoint_, size);
  Result<void> queued = QueueDatagram(*to, message);
  if (!queued.ok() && queued.error().Is(EAGAIN) && wait && options_.send_timeout_ns != 0) {
    const int64_t deadline = write_deadline();
    TwoWaits waits(t, e, *to);
    for (;;) {
      queued = QueueDatagram(*to, message);
      if (queued.ok() || !queued.error().Is(EAGAIN)) break;
      Result<void> slept = t.Block(deadline);
      if (slept.ok()) continue;
      if (slept.error().Is(ETIMEDOUT)) return Errno(EAGAIN);
      return deadline == kNoDeadline ? slept.error() : Errno(EINTR);
    }
  }
  if (!queued.ok()) {
    // The peer is gone, and said so once.
    if (!named && queued.error().Is(ECONNREFUSED)) {
      std::deque<UnixMessage> dropped;  // unix_dgram_disconnected(): what it had sent goes, too
      MutexLock lock(e.mu);
      if (e.peer == to) e.peer.reset();
      e.connected = false;
      dropped.swap(e.messages);
      e.queued = 0;
    }
    return queued.error();
  }
  to->queue.Notify(EPOLLIN | EPOLLRDNORM);
  return size;
}

void UnixSocket::Deliver(Task& t, ReceiveArgs& args, Incoming& in) {
  if (in.from) {
    MutexLock lock(in.from->mu);
    if (!in.from->address.empty()) args.from = UnixAddressOf(in.from->address);
  }
  if (args.control == nullptr) return;
  if (in.when_ns != 0) WriteTimestamps(options_, in.when_ns, *args.control, false);
  if (options_.pass_pidfd != 0 && in.cred) {
    Result<Ref<File>> file = PidFdOf(t, in.cred->pid);
    if (file.ok()) args.pidfd = RefPtr<File>(*file);
  }
  if (options_.pass_cred != 0) {
    // Without a message they are all zero.
    if (!in.any) in.cred = UnixCred{0, 0, 0};
    args.control->Put(SOL_SOCKET, SCM_CREDENTIALS, in.cred ? SeenBy(t, *in.cred) : kNobody);
  }
  // scm_pidfd_recv() misses the room before it looks whether there is a sender.
  if (options_.pass_pidfd != 0 && args.control->left() < CmsgAlign(sizeof(CmsgHeader)) + sizeof(int32_t)) {
    args.control->set_truncated();
  }
  args.files = std::move(in.files);
}

Result<size_t> UnixSocket::RecvMsg(Task& t, ReceiveArgs& args) {
  if (const RefPtr<HostLink> host = HostEnd()) return ReceiveFromHost(t, args, *host);
  if ((args.flags & MSG_OOB) != 0) {
    if (!endpoint_->stream() && !endpoint_->datagram()) {
      MutexLock lock(endpoint_->mu);
      if (!endpoint_->connected) return Errno(ENOTCONN);
    }
    if (!endpoint_->stream()) return Errno(EOPNOTSUPP);
    return ReceiveUrgent(args);
  }
  return endpoint_->stream() ? ReceiveStream(t, args) : ReceiveDatagram(t, args);
}

// Takes what is there of a stream: up to `want` bytes from `skip` on. *stop: descriptors or another
// sender end the call here. EAGAIN, 0 at the end.
Result<size_t> UnixSocket::TakeStream(IoDst& dst, uint32_t flags, size_t want, size_t skip,
                                      Incoming& in, bool* stop) {
  UnixEndpoint& e = *endpoint_;
  const bool peek = (flags & MSG_PEEK) != 0;
  const bool by_sender = options_.pass_cred != 0 || options_.pass_pidfd != 0;
  OneReader::Turn turn(reader_);
  size_t done = 0;
  size_t beyond = 0;  // the first message that a look has not seen
  do {
    net::Slice part;
    size_t index = 0;  // of the message; what is before it stays, since only readers take any
    std::vector<UnixMessage> passed;  // go without the lock
    {
      MutexLock lock(e.mu);
      size_t rest = peek ? skip + done : 0;
      while (index < e.messages.size() && rest > 0 && rest >= e.messages[index].left()) {
        rest -= e.messages[index++].left();
      }
      if (index < beyond) index = beyond, rest = 0;
      if (!PastMark(e, peek, in.any, &index, &passed)) {
        *stop = true;
        return done;
      }
      if (index >= e.messages.size()) {
        if (done > 0 || beyond > 0) return done;
        if (e.error != 0) return Errno(std::exchange(e.error, 0));
        if (e.receive_shut) return size_t{0};
        return Errno(EAGAIN);
      }
      UnixMessage& m = e.messages[index];
      if (by_sender && in.any && m.cred != in.cred) {
        *stop = true;
        return done;
      }
      if (!in.any) in.cred = m.cred, in.from = m.charge.sender();
      in.any = true;
      const size_t from = m.taken + rest;
      part = m.data.Sub(from, std::min(want - done, m.data.size() - from));
    }
    // A piece that does not arrive whole stays.
    const Result<size_t> put = PutWhole(dst, std::as_bytes(part.span()));
    if (!put.ok()) {
      if (done > 0) return done;
      return put.error();
    }
    done += *put;
    if (peek) beyond = index + 1;
    UnixMessage spent;  // goes without the lock
    PassedFiles files;
    {
      MutexLock lock(e.mu);
      if (index >= e.messages.size()) return done;  // the collector took them
      UnixMessage& m = e.messages[index];
      if (!m.files.empty()) {
        *stop = true;
        if (peek) {
          for (const Ref<File>& f : m.files.files()) in.files.push_back(f);
        } else {
          files = std::move(m.files);
        }
      }
      if (!peek) {
        m.taken += *put;
        e.queued -= *put;
        if (m.left() == 0) {
          spent = std::move(m);
          e.messages.pop_front();
        }
      }
    }
    if (!files.empty()) {
      for (Ref<File>& f : files.Take()) in.files.push_back(std::move(f));
    }
    // Who asks for no bytes gets all else of the first message, and a look goes on to the first descriptors.
  } while ((done < want || peek) && !*stop);
  return done;
}

// unix_stream_read_generic().
Result<size_t> UnixSocket::ReceiveStream(Task& t, ReceiveArgs& args) {
  {
    MutexLock lock(endpoint_->mu);
    if (!endpoint_->connected) return Errno(EINVAL);
  }
  const size_t length = args.dst.remaining();
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  const bool peek = (args.flags & MSG_PEEK) != 0;
  size_t target = length;
  if ((args.flags & MSG_WAITALL) == 0) {
    target = std::min(length, static_cast<size_t>(options_.receive_lowat.load()));
  }
  const int32_t offset = options_.peek_off;
  size_t skip = peek && offset > 0 ? static_cast<size_t>(offset) : 0;
  Incoming in;
  bool stop = false;
  size_t done = 0;
  for (;;) {
    Result<size_t> n = Wait(t, wait, EPOLLIN | EPOLLRDHUP, options_.receive_timeout_ns, [&] {
      return TakeStream(args.dst, args.flags, length - done, skip, in, &stop);
    });
    if (!n.ok()) {
      if (done == 0) return n.error();
      break;
    }
    done += *n;
    if (peek) skip += *n;
    if (*n == 0 || stop || peek || done >= target) break;
  }
  if (peek && offset >= 0) {
    options_.peek_off = static_cast<int32_t>(offset + static_cast<int64_t>(done));
  } else if (!peek && offset > 0) {
    options_.peek_off =
        std::max<int32_t>(0, offset - static_cast<int32_t>(std::min<size_t>(done, INT32_MAX)));
  }
  Deliver(t, args, in);
  return done;
}

// unix_dgram_recvmsg(), and for SOCK_SEQPACKET.
Result<size_t> UnixSocket::ReceiveDatagram(Task& t, ReceiveArgs& args) {
  UnixEndpoint& e = *endpoint_;
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  const bool peek = (args.flags & MSG_PEEK) != 0;
  if (!e.datagram()) {
    MutexLock lock(e.mu);
    if (!e.connected) return Errno(ENOTCONN);
  }
  const int32_t offset = options_.peek_off;
  UnixMessage message;
  Incoming in;
  bool was_full = false;
  size_t skip = 0;
  const bool got = TRY(Wait(
      t, wait, EPOLLIN | EPOLLRDHUP, options_.receive_timeout_ns, [&]() -> Result<bool> {
        MutexLock lock(e.mu);
        if (e.error != 0) return Errno(std::exchange(e.error, 0));
        skip = peek && offset > 0 ? static_cast<size_t>(offset) : 0;
        size_t index = 0;
        while (skip > 0 && index < e.messages.size() && skip >= e.messages[index].data.size()) {
          skip -= e.messages[index++].data.size();
        }
        if (index >= e.messages.size()) {
          if (e.receive_shut && (wait || !e.datagram())) return false;
          return Errno(EAGAIN);
        }
        UnixMessage& m = e.messages[index];
        if (peek) {
          message.data = m.data;
          in.from = m.charge.sender();
          message.cred = m.cred;
          message.when_ns = m.when_ns;
          for (const Ref<File>& f : m.files.files()) in.files.push_back(f);
          return true;
        }
        was_full = e.QueueFull();
        e.queued -= m.data.size();
        message = std::move(m);
        in.from = message.charge.sender();
        e.messages.pop_front();
        return true;
      }));
  if (!got) return size_t{0};
  if (!peek) {
    // Linux wakes one who waits for room after each message.
    e.senders.Notify(EPOLLOUT | EPOLLWRNORM);
    if (was_full) {
      std::vector<Ref<UnixEndpoint>> blocked;
      {
        MutexLock lock(e.mu);
        blocked.swap(e.blocked);
      }
      for (const Ref<UnixEndpoint>& b : blocked) b->queue.Notify(EPOLLOUT | EPOLLWRNORM);
    }
  }
  const size_t size = message.data.size() - skip;
  const size_t want = std::min(size, args.dst.remaining());
  if (want < size) args.out_flags |= MSG_TRUNC;
  if (want > 0) TRY(PutWhole(args.dst, std::as_bytes(message.data.span().subspan(skip, want))));
  in.any = true;
  in.cred = message.cred;
  if (options_.timestamp != 0) in.when_ns = message.when_ns != 0 ? message.when_ns : MonotonicNow();
  if (!peek) in.files = message.files.Take();
  if (peek && offset >= 0) {
    options_.peek_off = static_cast<int32_t>(offset + static_cast<int64_t>(want));
  } else if (!peek && offset > 0) {
    options_.peek_off = std::max<int32_t>(
        0, offset - static_cast<int32_t>(std::min<size_t>(size, INT32_MAX)));
  }
  Deliver(t, args, in);
  return (args.flags & MSG_TRUNC) != 0 ? size : want;
}

}  // namespace ringwall
