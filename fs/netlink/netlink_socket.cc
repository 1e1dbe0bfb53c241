#include "fs/netlink/netlink_socket.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>

#include "fs/socket/net_ids.h"

namespace ringwall::netlink {
namespace {

constexpr int kMaxProtocols = 32;  // MAX_LINKS
constexpr size_t kDatagramCost = 768;  // sizeof(struct sk_buff) and its shared info
constexpr size_t kDumpLeast = 3776, kDumpMost = 32768;

// struct sockaddr_nl.
struct SockaddrNl {
  uint16_t family = AF_NETLINK, pad = 0;
  uint32_t pid = 0, groups = 0;
};
static_assert(sizeof(SockaddrNl) == 12);

std::array<Protocol*, kMaxProtocols> protocols = {};

struct Table {
  Mutex<LockClass::kNetlink> mu;
  std::vector<NetlinkSocket*> sockets GUARDED_BY(mu);
  uint32_t rover GUARDED_BY(mu) = 0;
};

Table& All() {
  static Table* table = new Table;  // sockets may outlive static destruction
  return *table;
}

uint32_t GroupMask(uint32_t group) { return group == 0 || group > 32 ? 0 : 1u << (group - 1); }

}  // namespace

void RegisterProtocol(int number, Protocol& protocol) {
  protocols[static_cast<size_t>(number)] = &protocol;
}

Protocol* FindProtocol(int number) {
  return number < 0 || number >= kMaxProtocols ? nullptr : protocols[static_cast<size_t>(number)];
}

// ---- Requests ----

void Context::Send(std::vector<uint8_t> datagram) { socket.Deliver(std::move(datagram)); }
uint32_t Context::port() const { return socket.port(); }

Result<void> Context::Dump(std::vector<uint8_t> messages, int32_t done) {
  Builder b;
  b.bytes() = std::move(messages);
  BeginPart(b, NLMSG_DONE);
  b.Put(done);
  b.End();
  TRY(socket.StartDump(b.Take()));
  return Errno(EINTR);
}

Result<void> Context::EndDump(Result<void> r) {
  if (r.ok() || r.error().Is(EINTR) || r.error().Is(EBUSY)) return r;
  Builder b;
  const char* text = ack.text.empty() ? ack.message : ack.text.c_str();
  const bool tlvs = text != nullptr && socket.wants_ext_ack();
  BeginPart(b, NLMSG_DONE, tlvs ? NLM_F_ACK_TLVS : 0);
  b.Put(static_cast<int32_t>(-r.error().value()));
  if (tlvs) b.Text(NLMSGERR_ATTR_MSG, text);
  b.End();
  TRY(socket.StartDump(b.Take()));
  return Errno(EINTR);
}

Result<void> Protocol::Receive(Task& t, NetlinkSocket& s, Bytes datagram) {
  MessageWalk walk(datagram);
  while (std::optional<Message> m = walk.Next()) {
    ExtAck ack;
    int error = 0;
    if ((m->header.flags & NLM_F_REQUEST) != 0 && m->header.type >= NLMSG_MIN_TYPE) {
      Context c{t, s, s.net(), *m, ack};
      Result<void> r = Handle(c);
      error = r.error_value();
      if (error == EINTR) continue;
    }
    if ((m->header.flags & NLM_F_ACK) != 0 || error != 0) s.Acknowledge(*m, error, ack);
  }
  return {};
}

void NetlinkSocket::Acknowledge(const Message& m, int error, const ExtAck& ack) {
  bool ext, cap;
  uint32_t port;
  {
    MutexLock lock(All().mu);
    ext = ext_ack_;
    cap = cap_ack_;
    port = port_;
  }
  uint16_t flags = 0;
  const bool whole = error != 0 && !cap;
  if (!whole) flags |= NLM_F_CAPPED;
  const char* text = ack.text.empty() ? ack.message : ack.text.c_str();
  const bool where = error != 0 && ack.bad_attr != nullptr && ack.bad_attr >= m.all.data() &&
                     ack.bad_attr < m.all.data() + m.all.size();
  const bool tlvs = ext && (text != nullptr || where ||
                            (error != 0 && (ack.missing_type || ack.missing_nest != nullptr)));
  if (tlvs) flags |= NLM_F_ACK_TLVS;
  Builder b;
  b.Begin(NLMSG_ERROR, flags, m.header.sequence, port);
  b.Put(static_cast<int32_t>(-error));
  b.Put(m.header);
  if (whole) {
    b.Append(m.payload);
    b.Pad();
  }
  if (tlvs) {
    if (text != nullptr) b.Text(NLMSGERR_ATTR_MSG, text);
    if (where) {
      b.U32(NLMSGERR_ATTR_OFFS, static_cast<uint32_t>(ack.bad_attr - m.all.data()));
    }
    if (error != 0 && ack.missing_type) b.U32(NLMSGERR_ATTR_MISS_TYPE, *ack.missing_type);
    if (error != 0 && ack.missing_nest != nullptr && ack.missing_nest >= m.all.data()) {
      b.U32(NLMSGERR_ATTR_MISS_NEST, static_cast<uint32_t>(ack.missing_nest - m.all.data()));
    }
  }
  b.End();
  Deliver(b.Take());
}

// ---- Queues ----

bool NetlinkSocket::AddLocked(const Ref<Datagram>& d) {
  const size_t limit = static_cast<size_t>(options_.receive_buffer.load());
  const size_t cost = d->bytes.size() + kDatagramCost;
  if (queued_ != 0 && queued_ + cost > limit) {
    drops_++;
    if (!no_enobufs_) {
      error_ = ENOBUFS;
      wait_queue_.Notify(EPOLLERR);
    }
    return false;
  }
  queued_ += cost;
  queue_.push_back(d);
  wait_queue_.Notify(EPOLLIN | EPOLLRDNORM);
  return true;
}

void NetlinkSocket::Deliver(std::vector<uint8_t> datagram) {
  Ref<Datagram> d = MakeRef<Datagram>();
  d->bytes = std::move(datagram);
  MutexLock lock(All().mu);
  static_cast<void>(AddLocked(d));
}

Result<void> NetlinkSocket::StartDump(std::vector<uint8_t> messages) {
  MutexLock lock(All().mu);
  if (dump_at_ < dump_.size()) return Errno(EBUSY);
  dump_ = std::move(messages);
  dump_at_ = 0;
  PackDumpLocked();
  return {};
}

// The next datagram of a dump: as many messages as a read of the reader's size takes.
void NetlinkSocket::PackDumpLocked() {
  if (dump_at_ >= dump_.size()) return;
  const size_t room = std::clamp(largest_read_, kDumpLeast, kDumpMost);
  Ref<Datagram> d = MakeRef<Datagram>();
  while (dump_at_ < dump_.size()) {
    const Bytes left = Bytes(dump_).subspan(dump_at_);
    const Header h = ReadAs<Header>(left);
    const size_t size = std::min(Align4(h.length), left.size());
    if (!d->bytes.empty() && d->bytes.size() + size > room) break;
    d->bytes.insert(d->bytes.end(), left.begin(), left.begin() + static_cast<ptrdiff_t>(size));
    dump_at_ += size;
  }
  if (dump_at_ >= dump_.size()) {
    dump_ = {};
    dump_at_ = 0;
  }
  queued_ += d->bytes.size() + kDatagramCost;
  queue_.push_back(std::move(d));
  wait_queue_.Notify(EPOLLIN | EPOLLRDNORM);
}

int32_t NetlinkSocket::HeardAsLocked(const net::Stack& of) const {
  return all_ids_ ? net_ids::Find(net().stack(), of) : net_ids::kNone;
}

void Multicast(const net::Stack* of, int protocol, uint32_t group, std::vector<uint8_t> datagram) {
  Ref<Datagram> d = MakeRef<Datagram>();
  d->bytes = std::move(datagram);
  d->group = group;
  MutexLock lock(All().mu);
  for (NetlinkSocket* s : All().sockets) {
    if (s->protocol() != protocol || !s->InGroupLocked(group)) continue;
    if (of == nullptr || &s->net().stack() == of) {
      static_cast<void>(s->AddLocked(d));
    } else if (const int32_t id = s->HeardAsLocked(*of); id != net_ids::kNone) {
      Ref<Datagram> other = MakeRef<Datagram>();
      other->bytes = d->bytes;
      other->group = group;
      other->net_id = id;
      static_cast<void>(s->AddLocked(other));
    }
  }
}

bool HasListeners(NetNamespace* net, int protocol, uint32_t group) {
  MutexLock lock(All().mu);
  for (NetlinkSocket* s : All().sockets) {
    if (s->protocol() == protocol && s->InGroupLocked(group) &&
        (net == nullptr || &s->net() == net ||
         s->HeardAsLocked(net->stack()) != net_ids::kNone)) {
      return true;
    }
  }
  return false;
}

std::vector<NetlinkSocketInfo> ListSockets(NetNamespace& net) {
  MutexLock lock(All().mu);
  std::vector<NetlinkSocketInfo> out;
  for (const NetlinkSocket* s : All().sockets) {
    if (&s->net() != &net) continue;
    NetlinkSocketInfo i;
    i.protocol = s->protocol();
    i.type = s->type();
    i.port = s->port_;
    i.groups = s->MaskLocked();
    i.queued = static_cast<uint32_t>(s->queued_);
    i.dumping = s->dump_at_ < s->dump_.size();
    i.drops = s->drops_;
    i.inode = s->inode_;
    i.destination = s->to_port_;
    i.destination_group = s->to_group_;
    i.cookie = s;
    i.group_words.resize((s->proto_.groups() + 31) / 32);
    for (uint32_t g : s->groups_) {
      if ((g - 1) / 32 < i.group_words.size()) i.group_words[(g - 1) / 32] |= 1u << ((g - 1) % 32);
    }
    out.push_back(std::move(i));
  }
  return out;
}

// ---- Life ----

NetlinkSocket::NetlinkSocket(NetNamespace& net, int type, int number, Protocol& protocol, Path path,
                             uint32_t flags, uint64_t inode)
    : Socket(net, AF_NETLINK, type, number, std::move(path), flags),
      proto_(protocol),
      inode_(inode) {
  MutexLock lock(All().mu);
  All().sockets.push_back(this);
}

NetlinkSocket::~NetlinkSocket() {
  MutexLock lock(All().mu);
  std::erase(All().sockets, this);
}

Result<Ref<Socket>> NetlinkSocket::Create(Task& t, int type, int protocol, uint32_t flags) {
  if (type != SOCK_RAW && type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
  Protocol* p = FindProtocol(protocol);
  if (p == nullptr) return Errno(EPROTONOSUPPORT);
  Path path = NewPath(t);
  uint64_t inode = 0;
  if (Result<ringwall::Attr> attr = path.dentry().inode()->GetAttr(); attr.ok()) inode = attr->ino;
  return Ref<Socket>(MakeRef<NetlinkSocket>(NetNamespace::Of(t), type, protocol, *p,
                                            std::move(path), OpenFlags(flags), inode));
}

bool NetlinkSocket::wants_ext_ack() const {
  MutexLock lock(All().mu);
  return ext_ack_;
}

uint32_t NetlinkSocket::port() const {
  MutexLock lock(All().mu);
  return port_;
}

uint32_t NetlinkSocket::MaskLocked() const {
  uint32_t mask = 0;
  for (uint32_t g : groups_) mask |= GroupMask(g);
  return mask;
}

// ---- Names ----

Result<void> NetlinkSocket::Autobind(Task& t) {
  MutexLock lock(All().mu);
  if (bound_) return {};
  const auto taken = [&](uint32_t port) NO_THREAD_SAFETY_ANALYSIS {
    return std::any_of(All().sockets.begin(), All().sockets.end(), [&](const NetlinkSocket* s) {
      return s != this && s->bound_ && s->port_ == port && s->protocol() == protocol() &&
             &s->net() == &net();
    });
  };
  uint32_t port = static_cast<uint32_t>(t.tgid());
  while (taken(port)) port = static_cast<uint32_t>(-4096) - ++All().rover % 0x7fff0000u;
  port_ = port;
  bound_ = true;
  return {};
}

Result<void> NetlinkSocket::JoinMask(Task& t, uint32_t mask) {
  for (uint32_t g = 1; g <= 32; g++) {
    if ((mask & GroupMask(g)) == 0) continue;
    TRY(proto_.CheckGroup(t, g));
  }
  return {};
}

Result<void> NetlinkSocket::Bind(Task& t, const SocketAddress& address) {
  if (address.size < sizeof(SockaddrNl)) return Errno(EINVAL);
  const SockaddrNl a = address.As<SockaddrNl>();
  if (a.family != AF_NETLINK) return Errno(EINVAL);
  const uint32_t most = std::max(proto_.groups(), 32u);
  const uint32_t known = most >= 32 ? ~0u : (1u << most) - 1;
  const uint32_t mask = a.groups & known;
  if (mask != 0) {
    if (!proto_.anyone_receives() && !t.creds().HasIn(net().user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
    TRY(JoinMask(t, mask));
  }
  {
    MutexLock lock(All().mu);
    if (bound_ && a.pid != port_) return Errno(EINVAL);
    if (!bound_ && a.pid != 0) {
      for (const NetlinkSocket* s : All().sockets) {
        if (s != this && s->bound_ && s->port_ == a.pid && s->protocol() == protocol() &&
            &s->net() == &net()) {
          return Errno(EADDRINUSE);
        }
      }
      port_ = a.pid;
      bound_ = true;
    }
  }
  TRY(Autobind(t));
  MutexLock lock(All().mu);
  std::erase_if(groups_, [](uint32_t g) { return g <= 32; });
  for (uint32_t g = 1; g <= 32; g++) {
    if ((mask & GroupMask(g)) != 0) groups_.insert(g), has_groups_ = true;
  }
  return {};
}

Result<void> NetlinkSocket::Connect(Task& t, const SocketAddress& address, bool) {
  if (address.size < sizeof(uint16_t)) return Errno(EINVAL);
  if (address.family() == AF_UNSPEC) {
    MutexLock lock(All().mu);
    connected_ = false;
    to_port_ = to_group_ = 0;
    return {};
  }
  if (address.family() != AF_NETLINK) return Errno(EINVAL);
  if (address.size < sizeof(SockaddrNl)) return Errno(EINVAL);
  const SockaddrNl a = address.As<SockaddrNl>();
  if ((a.groups != 0 || a.pid != 0) && !proto_.anyone_sends() &&
      !t.creds().HasIn(net().user_ns(), Capability::kNetAdmin)) {
    return Errno(EPERM);
  }
  TRY(Autobind(t));
  MutexLock lock(All().mu);
  connected_ = true;
  to_port_ = a.pid;
  to_group_ = static_cast<uint32_t>(__builtin_ffs(static_cast<int>(a.groups)));
  return {};
}

Result<SocketAddress> NetlinkSocket::LocalName() {
  MutexLock lock(All().mu);
  return SocketAddress::Of(SockaddrNl{AF_NETLINK, 0, port_, MaskLocked()});
}

Result<SocketAddress> NetlinkSocket::PeerName() {
  MutexLock lock(All().mu);
  return SocketAddress::Of(SockaddrNl{AF_NETLINK, 0, to_port_, GroupMask(to_group_)});
}

// ---- Sending ----

namespace {

// Credentials of the sender, or those that SCM_CREDENTIALS names, when it may.
Result<void> ReadCredentials(Task& t, std::span<const std::byte> control, Datagram& d) {
  d.pid = t.tgid();
  d.uid = t.creds().ruid;
  d.gid = t.creds().rgid;
  return ForEachControl(control, [&](const ControlMessage& m) -> Result<void> {
    if (m.level != SOL_SOCKET) return {};
    if (m.type != SCM_CREDENTIALS) return Errno(EINVAL);
    struct Cred {
      int32_t pid;
      uint32_t uid, gid;
    };
    const Cred c = TRY(m.Value<Cred>());
    const Credentials& own = t.creds();
    const bool uid_ok = c.uid == own.ruid || c.uid == own.euid || c.uid == own.suid ||
                        own.Has(Capability::kSetuid);
    const bool gid_ok = c.gid == own.rgid || c.gid == own.egid || c.gid == own.sgid ||
                        own.Has(Capability::kSetgid);
    if ((c.pid != t.tgid() && !own.Has(Capability::kSysAdmin)) || !uid_ok || !gid_ok) {
      return Errno(EPERM);
    }
    d.pid = c.pid;
    d.uid = c.uid;
    d.gid = c.gid;
    return {};
  });
}

}  // namespace

Result<size_t> NetlinkSocket::SendMsg(Task& t, SendArgs& args) {
  if ((args.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  const size_t size = args.src.remaining();
  if (size == 0) return Errno(ENODATA);
  Ref<Datagram> d = MakeRef<Datagram>();
  TRY(ReadCredentials(t, args.control, *d));
  uint32_t port, group;
  if (args.to != nullptr && args.to->size != 0) {
    if (args.to->size < sizeof(SockaddrNl)) return Errno(EINVAL);
    const SockaddrNl a = args.to->As<SockaddrNl>();
    if (a.family != AF_NETLINK) return Errno(EINVAL);
    port = a.pid;
    group = static_cast<uint32_t>(__builtin_ffs(static_cast<int>(a.groups)));
    if ((group != 0 || port != 0) && !proto_.anyone_sends() &&
        !t.creds().HasIn(net().user_ns(), Capability::kNetAdmin)) {
      return Errno(EPERM);
    }
  } else {
    MutexLock lock(All().mu);
    port = to_port_;
    group = to_group_;
  }
  TRY(Autobind(t));
  if (size > static_cast<size_t>(options_.send_buffer.load()) - 32) return Errno(EMSGSIZE);
  d->bytes.resize(size);
  TRY(GetWhole(args.src, std::as_writable_bytes(std::span(d->bytes))));
  TRY(SendTo(t, port, group, std::move(d)));
  return size;
}

Result<void> NetlinkSocket::SendTo(Task& t, uint32_t port, uint32_t group, Ref<Datagram> d) {
  {
    MutexLock lock(All().mu);
    d->from = port_;
    if (group != 0) {
      Ref<Datagram> copy = MakeRef<Datagram>();
      copy->bytes = d->bytes;
      copy->from = d->from;
      copy->pid = d->pid;
      copy->uid = d->uid;
      copy->gid = d->gid;
      copy->group = group;
      for (NetlinkSocket* s : All().sockets) {
        if (s == this || s->protocol() != protocol() || !s->InGroupLocked(group)) continue;
        if (&s->net() != &net()) continue;
        static_cast<void>(s->AddLocked(copy));
      }
      if (port == 0 && !proto_.has_kernel_end()) return {};
    }
    if (port != 0) {
      for (NetlinkSocket* s : All().sockets) {
        if (!s->bound_ || s->port_ != port || s->protocol() != protocol()) continue;
        if (&s->net() != &net()) continue;
        // A socket that talks to the kernel or to someone else is not for strangers.
        if (s->connected_ && s->to_port_ != port_) return Errno(ECONNREFUSED);
        if (!s->AddLocked(d)) return Errno(EAGAIN);
        return {};
      }
      return Errno(ECONNREFUSED);
    }
  }
  if (!proto_.has_kernel_end()) return Errno(ECONNREFUSED);
  return proto_.Receive(t, *this, d->bytes);
}

// ---- Receiving ----

Result<Ref<Datagram>> NetlinkSocket::TakeOne(bool peek, size_t room) {
  MutexLock lock(All().mu);
  if (error_ != 0) {
    const int e = error_;
    error_ = 0;
    return Errno(e);
  }
  if (queue_.empty()) return Errno(EAGAIN);
  Ref<Datagram> d = queue_.front();
  if (peek) return d;
  largest_read_ = std::max(largest_read_, room);
  queue_.pop_front();
  queued_ -= d->bytes.size() + kDatagramCost;
  if (queued_ <= static_cast<size_t>(options_.receive_buffer.load()) / 2) PackDumpLocked();
  return d;
}

Result<size_t> NetlinkSocket::RecvMsg(Task& t, ReceiveArgs& args) {
  if ((args.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  const bool peek = (args.flags & MSG_PEEK) != 0;
  const size_t room = args.dst.remaining();
  Ref<Datagram> d = TRY(Wait(t, wait, EPOLLIN | EPOLLERR, options_.receive_timeout_ns,
                             [&] { return TakeOne(peek, room); }));
  const size_t size = d->bytes.size();
  const size_t n = std::min(size, room);
  if (n < size) args.out_flags |= MSG_TRUNC;
  if (n != 0) TRY(PutWhole(args.dst, std::as_bytes(std::span(d->bytes)).first(n)));
  args.from = SocketAddress::Of(SockaddrNl{AF_NETLINK, 0, d->from, GroupMask(d->group)});
  if (args.control != nullptr) {
    bool info, all_ids;
    {
      MutexLock lock(All().mu);
      info = packet_info_;
      all_ids = all_ids_;
    }
    if (info) args.control->Put(SOL_NETLINK, NETLINK_PKTINFO, d->group);
    if (all_ids && d->net_id) args.control->Put(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, *d->net_id);
    if (options_.pass_cred) {
      const uint32_t cred[3] = {static_cast<uint32_t>(d->pid), d->uid, d->gid};
      args.control->Put(SOL_SOCKET, SCM_CREDENTIALS,
                        std::span<const std::byte>(std::as_bytes(std::span(cred))));
    }
  }
  return (args.flags & MSG_TRUNC) != 0 ? size : n;
}

EventMask NetlinkSocket::Poll(EventMask) {
  MutexLock lock(All().mu);
  EventMask m = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
  if (!queue_.empty()) m |= EPOLLIN | EPOLLRDNORM;
  if (error_ != 0) m |= EPOLLERR;
  return m;
}

int NetlinkSocket::TakeSocketError() {
  MutexLock lock(All().mu);
  return std::exchange(error_, 0);
}

// ---- Options ----

Result<void> NetlinkSocket::SetOption(int level, int name, OptionIn& in) {
  if (level != SOL_NETLINK) return Errno(ENOPROTOOPT);
  uint32_t value = 0;
  if (in.length() >= sizeof(int32_t)) {
    value = TRY(in.Value<uint32_t>());
  }
  bool* flag = nullptr;
  switch (name) {
    case NETLINK_ADD_MEMBERSHIP:
    case NETLINK_DROP_MEMBERSHIP: {
      if (!proto_.anyone_receives() && !in.task().creds().HasIn(net().user_ns(), Capability::kNetAdmin)) {
        return Errno(EPERM);
      }
      if (value == 0 || value - 1 >= std::max(proto_.groups(), 32u)) return Errno(EINVAL);
      if (name == NETLINK_ADD_MEMBERSHIP) {
        TRY(proto_.CheckGroup(in.task(), value));
      }
      MutexLock lock(All().mu);
      has_groups_ = true;
      if (name == NETLINK_ADD_MEMBERSHIP) {
        groups_.insert(value);
      } else {
        groups_.erase(value);
      }
      return {};
    }
    case NETLINK_PKTINFO: flag = &packet_info_; break;
    case NETLINK_BROADCAST_ERROR: flag = &broadcast_error_; break;
    case NETLINK_NO_ENOBUFS: flag = &no_enobufs_; break;
    case NETLINK_LISTEN_ALL_NSID:
      if (!in.task().creds().HasIn(net().user_ns(), Capability::kNetBroadcast)) return Errno(EPERM);
      flag = &all_ids_;
      break;
    case NETLINK_CAP_ACK: flag = &cap_ack_; break;
    case NETLINK_EXT_ACK: flag = &ext_ack_; break;
    case NETLINK_GET_STRICT_CHK:
      strict_ = value != 0;
      return {};
    default:
      return Errno(ENOPROTOOPT);
  }
  MutexLock lock(All().mu);
  *flag = value != 0;
  if (name == NETLINK_NO_ENOBUFS && value != 0) error_ = 0;
  return {};
}

Result<void> NetlinkSocket::GetOption(int level, int name, OptionOut& out) {
  if (level != SOL_NETLINK) return Errno(ENOPROTOOPT);
  if (name == NETLINK_LIST_MEMBERSHIPS) {
    MutexLock lock(All().mu);
    if (!has_groups_) return {};  // none was ever asked for: a length of 0
    std::vector<uint32_t> words((std::max(proto_.groups(), 32u) + 31) / 32);
    for (uint32_t g : groups_) words[(g - 1) / 32] |= 1u << ((g - 1) % 32);
    out.Set(std::as_bytes(std::span(words)));
    return {};
  }
  bool value;
  {
    MutexLock lock(All().mu);
    switch (name) {
      case NETLINK_PKTINFO: value = packet_info_; break;
      case NETLINK_BROADCAST_ERROR: value = broadcast_error_; break;
      case NETLINK_NO_ENOBUFS: value = no_enobufs_; break;
      case NETLINK_LISTEN_ALL_NSID: value = all_ids_; break;
      case NETLINK_CAP_ACK: value = cap_ack_; break;
      case NETLINK_EXT_ACK: value = ext_ack_; break;
      case NETLINK_GET_STRICT_CHK: value = strict_; break;
      default: return Errno(ENOPROTOOPT);
    }
  }
  if (out.room() < sizeof(int32_t)) return Errno(EINVAL);
  out.Int(value);
  return {};
}

}  // namespace ringwall::netlink
