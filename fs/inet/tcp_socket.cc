#include "fs/inet/tcp_socket.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "fs/socket/timestamp.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

// What one buffer of a send holds: large enough that its making does not count.
constexpr size_t kSendChunk = net::Buffer::kStreamBlock;

constexpr int kTcpInq = 36;  // TCP_CM_INQ

EventMask constexpr kReadEvents = EPOLLIN | EPOLLRDHUP | EPOLLPRI;

}  // namespace

TcpSocket::TcpSocket(NetNamespace& net, int family, Path path, uint32_t flags,
                     Ref<net::TcpEndpoint> tcp)
    : InetSocket(net, family, SOCK_STREAM, IPPROTO_TCP, std::move(path), flags, tcp),
      tcp_(std::move(tcp)) {}

Ref<TcpSocket> TcpSocket::Create(Task& t, int family, uint32_t flags) {
  NetNamespace& ns = NetNamespace::Of(t);
  Ref<net::TcpEndpoint> tcp =
      ns.stack().NewTcp(family == AF_INET ? net::Family::kV4 : net::Family::kV6);
  return MakeRef<TcpSocket>(ns, family, NewPath(t), OpenFlags(flags), std::move(tcp));
}

TcpSocket::~TcpSocket() {
  // close(2) waits for what was written to arrive, when it was asked to.
  const int32_t seconds = options_.linger_seconds;
  Task* t = Task::Current();
  if (options_.linger_on == 0 || seconds <= 0 || t == nullptr) return;
  if (!tcp_->Shutdown(false, true).ok()) return;
  Result<void> done = Wait(*t, true, EPOLLOUT | EPOLLIN | EPOLLHUP, int64_t{seconds} * 1'000'000'000,
                           [&]() -> Result<void> {
                             if (tcp_->Lingers()) return Errno(EAGAIN);
                             return {};
                           });
  static_cast<void>(done);
}

// inet_stream_connect().
Result<void> TcpSocket::Connect(Task& t, const SocketAddress& a, bool wait) {
  const bool dissolve = a.size >= sizeof(uint16_t) && a.family() == AF_UNSPEC;
  // Where there is a connection already, the address is not looked at.
  net::SockAddr to = {net::IpAddr::Any(net::Family::kV4), 0, 0};
  if (a.size < sizeof(uint16_t) || dissolve || tcp_->IsFresh()) {
    to = TRY(ParseConnect(a));
  }
  TRY(FinishConnect(t, to, wait));
  return {};
}

Result<int> TcpSocket::FinishConnect(Task& t, const net::SockAddr& to, bool wait) {
  net::NetResult<void> r = tcp_->Connect(to);
  if (r.ok()) return 0;
  const net::NetError first = r.error();
  if (first != net::NetError::kInProgress && first != net::NetError::kAlready) {
    return net::ToErrno(first);
  }
  if (!wait) return net::ToErrno(first);
  Result<void> done = Wait(t, true, EPOLLOUT | EPOLLIN, options_.send_timeout_ns,
                           [&]() -> Result<void> {
                             // Another one's shutdown or connect(AF_UNSPEC) ended the attempt: not begun anew.
                             if (tcp_->IsFresh()) {
                               return net::ToErrno(tcp_->TakeError().value_or(net::NetError::kAborted));
                             }
                             net::NetResult<void> again = tcp_->Connect(to);
                             if (again.ok()) return {};
                             if (again.error() == net::NetError::kAlready) return Errno(EAGAIN);
                             return net::ToErrno(again.error());
                           });
  if (done.ok()) return 0;
  // The time is over: it goes on without the caller.
  if (done.error().Is(EAGAIN)) return net::ToErrno(first);
  return done.error();
}

Result<void> TcpSocket::Listen(Task&, int backlog) {
  const Result<net::SockAddr> local = FromNet(tcp_->LocalAddress());
  if (local.ok()) TRY(Announce(*local));
  Result<void> listens = FromNet(tcp_->Listen(backlog));
  if (!listens.ok()) {
    if (!IsListening()) Retract();
    return listens;
  }
  // listen without bind has a port only now.
  const Result<net::SockAddr> chosen = FromNet(tcp_->LocalAddress());
  if (chosen.ok()) static_cast<void>(Announce(*chosen).ok());
  return {};
}

Result<Ref<Socket>> TcpSocket::Accept(Task& t, bool wait) {
  Ref<net::TcpEndpoint> child = TRY(Wait(t, wait, EPOLLIN, options_.receive_timeout_ns,
                                         [&] { return FromNet(tcp_->Accept()); }));
  Ref<TcpSocket> socket =
      MakeRef<TcpSocket>(net(), family(), NewPath(t), OpenFlags(0), std::move(child));
  socket->options_.InheritFrom(options_);
  socket->InheritInet(*this);
  return Ref<Socket>(std::move(socket));
}

Result<SocketAddress> TcpSocket::AcceptedName() {
  return ToSocketAddress(family(), tcp_->Accepted());
}

Result<size_t> TcpSocket::SendUrgent(Task& t, SendArgs& args) {
  std::byte last;
  TRY(args.src.Get(std::span(&last, 1)));
  Result<void> sent = Wait(t, (args.flags & MSG_DONTWAIT) == 0, EPOLLOUT, options_.send_timeout_ns,
                           [&] { return FromNet(tcp_->SendUrgent(static_cast<uint8_t>(last))); });
  if (!sent.ok()) return sent.error();
  return size_t{1};
}

// tcp_sendmsg_fastopen(): returns what rode on the SYN. Without a cookie, which a first connection
// never has, the data follow the handshake.
Result<size_t> TcpSocket::ConnectFast(Task& t, const net::SockAddr& to, SendArgs& args, bool wait) {
  const size_t want = std::min<size_t>(args.src.remaining(), 65535);
  Ref<net::Buffer> buffer = net::Buffer::New(std::max<size_t>(want, 1));
  const size_t got =
      TRY(PeekWhole(args.src, std::as_writable_bytes(std::span(buffer->data(), want))));
  buffer->set_used(got);
  size_t taken = 0;
  net::NetResult<void> r =
      tcp_->ConnectFast(to, net::Chain(net::Slice(std::move(buffer), 0, got)), &taken);
  args.src.Advance(taken);
  if (!r.ok() && r.error() != net::NetError::kInProgress) {
    if (r.error() == net::NetError::kAlready && wait) {
      TRY(FinishConnect(t, to, wait));
      return size_t{0};
    }
    return net::ToErrno(r.error());
  }
  if (r.ok()) return taken;
  if (!wait) {
    if (taken == 0) return Errno(EINPROGRESS);
    return taken;
  }
  TRY(FinishConnect(t, to, wait));
  return taken;
}

// tcp_sendmsg_locked().
Result<size_t> TcpSocket::SendMsg(Task& t, SendArgs& args) {
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  size_t sent_early = 0;
  net::SendParams params;
  if ((args.flags & MSG_FASTOPEN) != 0) {
    if (args.to != nullptr && args.to->family() == AF_UNSPEC) return Errno(EOPNOTSUPP);
    net::SockAddr to = {net::IpAddr::Any(net::Family::kV4), 0, 0};
    if (tcp_->IsFresh()) {
      if (args.to == nullptr) return Errno(EINVAL);
      to = TRY(ParseConnect(*args.to));
    }
    sent_early = TRY(ConnectFast(t, to, args, wait));
  }
  if (!args.control.empty()) {
    // The connection comes first, then what is wrong with the message.
    Result<void> open = Wait(t, wait, EPOLLOUT, options_.send_timeout_ns,
                             [&] { return FromNet(tcp_->MaySend()); });
    if (!open.ok()) {
      if (open.error().Is(EPIPE)) return BrokenPipe(t, args.flags);
      return open.error();
    }
    TRY(ReadStreamControl(t, args.control, &params));
  }
  const uint32_t have = static_cast<uint32_t>(options_.timestamping.load());
  const uint32_t stamps = params.stamps ? params.stamps.value() : have;
  const bool notes = WantsNotes(args.flags, stamps);
  net::Slice noted;
  const bool urgent = (args.flags & MSG_OOB) != 0 && args.src.remaining() > 0;
  const size_t total = args.src.remaining() + sent_early;
  const size_t plain = urgent ? total - 1 : total;
  const bool more_follows = (args.flags & MSG_MORE) != 0 || urgent;
  size_t done = sent_early;
  net::Chain chain;
  Result<size_t> n = size_t{0};
  // What rode on the SYN of a call that does not wait is all for now.
  if (sent_early != 0 && (!wait || sent_early == total)) return sent_early;
  do {
    if (chain.empty() && plain > done) {
      const size_t want = std::min(plain - done, kSendChunk);
      Ref<net::Buffer> buffer = net::Buffer::New(want);
      Result<size_t> got =
          PeekWhole(args.src, std::as_writable_bytes(std::span(buffer->data(), want)));
      if (!got.ok()) {
        if (done == 0) return got.error();
        tcp_->Push();
        return done;
      }
      buffer->set_used(*got);
      chain = net::Chain(net::Slice(std::move(buffer), 0, *got));
      if (notes) noted = chain.slices().front();
    }
    const bool more = more_follows || done + chain.size() < plain;
    n = Wait(t, wait, EPOLLOUT, options_.send_timeout_ns, [&] {
      Result<size_t> taken = FromNet(tcp_->Send(chain, more));
      // tcp_sendmsg_locked() at wait_for_space: nothing is held back while the writer waits.
      if (!taken.ok() && taken.error().Is(EAGAIN) && done > 0) tcp_->Push();
      return taken;
    });
    if (!n.ok()) break;
    args.src.Advance(*n);
    done += *n;
    chain = chain.Sub(*n);
  } while (done < plain);
  if (n.ok() && urgent) {
    n = SendUrgent(t, args);
    if (n.ok()) done += *n;
  }
  if (notes && done > 0) NoteSent(args.flags, stamps, done, std::move(noted));
  if (done > 0 || n.ok()) return done;
  if (n.error().Is(EPIPE)) return BrokenPipe(t, args.flags);
  return n.error();
}

// tcp_recv_urg().
Result<size_t> TcpSocket::ReceiveUrgent(ReceiveArgs& args) {
  const std::optional<uint8_t> byte =
      TRY(FromNet(tcp_->ReceiveUrgent((args.flags & MSG_PEEK) != 0)));
  if (!byte) return size_t{0};
  args.out_flags |= MSG_OOB;
  if (args.dst.remaining() == 0) {
    args.out_flags |= MSG_TRUNC;
    return size_t{0};
  }
  if ((args.flags & MSG_TRUNC) == 0) TRY(args.dst.Put(std::as_bytes(std::span(&*byte, 1))));
  return size_t{1};
}

Result<size_t> TcpSocket::TakeReadable(IoDst& dst, uint32_t flags, size_t want, size_t skip, bool some) {
  OneReader::Turn turn(reader_);
  const bool keep = (flags & MSG_PEEK) != 0;
  const net::Chain chain = TRY(FromNet(tcp_->Peek(want, skip, some, keep)));
  if (want == 0) return size_t{0};  // but it waits for something all the same
  size_t done = 0;
  if ((flags & MSG_TRUNC) != 0) {
    done = std::min(chain.size(), want);  // thrown away
  } else {
    for (const net::Slice& s : chain.slices()) {
      Result<size_t> put = dst.Put(std::as_bytes(s.span()));
      // A piece that does not arrive whole stays.
      if (!put.ok() || *put < s.size()) {
        if (done == 0) return Errno(EFAULT);
        break;
      }
      done += *put;
    }
  }
  if (!keep && done > 0) tcp_->Consume(done);
  return done;
}

// tcp_recvmsg_locked().
Result<size_t> TcpSocket::RecvMsg(Task& t, ReceiveArgs& args) {
  if ((args.flags & MSG_ERRQUEUE) != 0) return ReceiveError(args);
  if ((args.flags & MSG_OOB) != 0) return ReceiveUrgent(args);
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  const bool peek = (args.flags & MSG_PEEK) != 0;
  const size_t length = args.dst.remaining();
  size_t target = length;
  if ((args.flags & MSG_WAITALL) == 0) {
    target = std::min(length, static_cast<size_t>(options_.receive_lowat.load()));
  }
  int64_t offset = peek ? options_.peek_off.load() : -1;
  size_t skip = offset > 0 ? static_cast<size_t>(offset) : 0;
  size_t done = 0;
  for (;;) {
    Result<size_t> n = Wait(t, wait && done < std::max<size_t>(target, 1), kReadEvents,
                            options_.receive_timeout_ns, [&] {
                              return TakeReadable(args.dst, args.flags, length - done, skip, done > 0);
                            });
    if (!n.ok()) {
      if (done == 0) return n.error();
      break;
    }
    done += *n;
    if (peek) skip += *n;
    if (*n == 0 || done >= target || done >= length) break;
    if (tcp_->AtMark(peek ? skip : 0)) break;  // no read runs across the mark
  }
  if (done > 0 && args.control != nullptr &&
      (options_.timestamp != 0 || options_.timestamping != 0)) {
    // Of what came last, which is what was read unless the reader lags.
    const int64_t ago_ns = tcp_->Info().last_data_received.nanos();
    last_stamp_ns_ = MonotonicNow() - ago_ns;
    WriteTimestamps(options_, last_stamp_ns_, *args.control);
  }
  if (inq_ != 0 && args.control != nullptr) {
    // tcp_inq_hint(): the end of the stream counts for a byte.
    const bool end = (tcp_->Poll() & net::kReadHangup) != 0;
    args.control->Put(IPPROTO_TCP, kTcpInq, static_cast<int32_t>(tcp_->Readable() + (end ? 1 : 0)));
  }
  if (offset >= 0) {
    options_.peek_off = static_cast<int32_t>(offset + static_cast<int64_t>(done));
  } else if (!peek && options_.peek_off > 0) {
    options_.peek_off = std::max<int32_t>(
        0, options_.peek_off - static_cast<int32_t>(std::min<size_t>(done, INT32_MAX)));
  }
  return done;
}

Result<void> TcpSocket::OnSocketOption(int name, int64_t value) {
  if (name == SO_LINGER) {
    if (value < 0) {
      tcp_->SetLinger(std::nullopt);
    } else {
      tcp_->SetLinger(net::Duration::Seconds(value));
    }
    return {};
  }
  return InetSocket::OnSocketOption(name, value);
}

Socket::MemoryUse TcpSocket::MemoryInUse() {
  const auto [receive, send] = tcp_->Charged();
  return {.receive = static_cast<uint32_t>(receive), .queued = static_cast<uint32_t>(send)};
}

// tcp_ioctl().
Result<int64_t> TcpSocket::DoIoctl(Task& t, uint32_t cmd, uint64_t arg) {
  int32_t n = 0;
  switch (cmd) {
    case SIOCINQ:
      if (IsListening()) return Errno(EINVAL);
      n = static_cast<int32_t>(tcp_->Readable());
      break;
    case SIOCATMARK:
      n = tcp_->AtMark();
      break;
    case SIOCOUTQ:
      if (IsListening()) return Errno(EINVAL);
      n = static_cast<int32_t>(tcp_->Unacked());
      break;
    case SIOCOUTQNSD:
      if (IsListening()) return Errno(EINVAL);
      n = static_cast<int32_t>(tcp_->Unsent());
      break;
    default:
      return StampIoctl(t, cmd, arg, last_stamp_ns_);
  }
  TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOutLast(t, n));
  return 0;
}

}  // namespace ringwall
