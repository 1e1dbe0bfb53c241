// AF_NETLINK sockets (net/netlink/af_netlink.c, netlink(7)): datagrams between programs and the
// kernel's own ends, which are Protocols.
//
// One lock (kNetlink) guards all netlink sockets: who is bound where, who is in which group, and
// every receive queue. It comes after the network stack's, so that changes there can be told at
// once.
#ifndef RINGWALL_FS_NETLINK_NETLINK_SOCKET_H_
#define RINGWALL_FS_NETLINK_NETLINK_SOCKET_H_

#include <deque>
#include <set>
#include <vector>

#include "fs/netlink/message.h"
#include "fs/socket/net_namespace.h"
#include "fs/socket/socket.h"
#include "sentry/base/mutex.h"

namespace ringwall::netlink {

class NetlinkSocket;

// A request on its way through a protocol's handlers.
struct Context {
  Task& task;
  NetlinkSocket& socket;
  NetNamespace& net;
  Message message;
  ExtAck& ack;
  bool dumping = false;  // handled by Dump

  net::Stack& stack() const { return net.stack(); }
  // Over the socket's namespace.
  bool Has(Capability c) const { return task.creds().HasIn(net.user_ns(), c); }
  // A user as the sender's user namespace names him.
  uint32_t ShowUid(uint32_t uid) const { return task.creds().user_ns().ShowUid(uid); }
  // One answer: fill(Builder&) writes payload and attributes.
  template <typename F>
  void Answer(uint16_t type, uint16_t flags, F fill) {
    Builder b;
    b.Begin(type, flags, message.header.sequence, port());
    fill(b);
    b.End();
    Send(b.Take());
  }
  void Send(std::vector<uint8_t> datagram);
  uint32_t port() const;
  // Answers with many messages, ended by NLMSG_DONE. EBUSY while one is going on.
  Result<void> Dump(std::vector<uint8_t> messages, int32_t done = 0);
  // What a dump's handler said: its own errors are told by the NLMSG_DONE.
  Result<void> EndDump(Result<void> r);
  // Starts a message of a dump.
  void BeginPart(Builder& b, uint16_t type, uint16_t flags = 0) const {
    b.Begin(type, static_cast<uint16_t>(NLM_F_MULTI | flags), message.header.sequence, port());
  }
};

// The kernel's end of one protocol (NETLINK_ROUTE ...). Lives for ever.
class Protocol {
 public:
  virtual ~Protocol() = default;
  virtual uint32_t groups() const { return 0; }
  // NL_CFG_F_NONROOT_RECV, _SEND.
  virtual bool anyone_receives() const { return false; }
  virtual bool anyone_sends() const { return false; }
  virtual bool has_kernel_end() const { return true; }
  // Joining a group: EPERM, ENOENT.
  virtual Result<void> CheckGroup(Task&, uint32_t) { return {}; }
  // A datagram from a program. The default takes it apart and calls Handle for every message,
  // answering as netlink_rcv_skb() does.
  virtual Result<void> Receive(Task& t, NetlinkSocket& s, Bytes datagram);

 protected:
  // EINTR stands for "a dump answers".
  virtual Result<void> Handle(Context& c) = 0;
};

// EPROTONOSUPPORT for numbers without one.
void RegisterProtocol(int number, Protocol& protocol);
Protocol* FindProtocol(int number);

// Sends to all sockets of a protocol in a group, of the namespace with a stack (null: of all). With
// or without a stack's lock.
void Multicast(const net::Stack* of, int protocol, uint32_t group, std::vector<uint8_t> datagram);
inline void Multicast(NetNamespace* net, int protocol, uint32_t group,
                      std::vector<uint8_t> datagram) {
  Multicast(net == nullptr ? nullptr : &net->stack(), protocol, group, std::move(datagram));
}
// Whether anybody listens; for those who would only make the message.
bool HasListeners(NetNamespace* net, int protocol, uint32_t group);

struct Datagram : RefCounted<Datagram> {
  std::vector<uint8_t> bytes;
  uint32_t from = 0;   // nl_pid
  uint32_t group = 0;
  std::optional<int32_t> net_id;  // from another namespace, which the reader's knows by it
  int32_t pid = 0;
  uint32_t uid = 0, gid = 0;
};

// What /proc/net/netlink and netlink_diag show.
struct NetlinkSocketInfo {
  int protocol = 0;
  int type = 0;
  uint32_t port = 0;
  uint32_t groups = 0;
  uint32_t queued = 0;
  bool dumping = false;
  uint32_t drops = 0;
  uint64_t inode = 0;
  uint32_t destination = 0, destination_group = 0;
  const void* cookie = nullptr;
  std::vector<uint32_t> group_words;
};
std::vector<NetlinkSocketInfo> ListSockets(NetNamespace& net);

class NetlinkSocket final : public Socket {
 public:
  NetlinkSocket(NetNamespace& net, int type, int number, Protocol& protocol, Path path,
                uint32_t flags, uint64_t inode);
  ~NetlinkSocket() override;
  static Result<Ref<Socket>> Create(Task& t, int type, int protocol, uint32_t flags);

  Result<void> Bind(Task& t, const SocketAddress& address) override;
  Result<void> Connect(Task& t, const SocketAddress& address, bool wait) override;
  Result<SocketAddress> LocalName() override;
  Result<SocketAddress> PeerName() override;
  bool KnowsLevel(int level, int) const override { return level == SOL_SOCKET || level == 270 /* SOL_NETLINK */; }
  Result<size_t> SendMsg(Task& t, SendArgs& args) override;
  Result<size_t> RecvMsg(Task& t, ReceiveArgs& args) override;
  EventMask Poll(EventMask wanted) override;
  WaitQueue* queue() override { return &wait_queue_; }

  // For protocols.
  uint32_t port() const;
  bool strict() const { return strict_; }
  bool wants_ext_ack() const;
  // Queues one datagram from the kernel. Lost, with ENOBUFS for the reader, when there is no room.
  void Deliver(std::vector<uint8_t> datagram);
  Result<void> StartDump(std::vector<uint8_t> messages);
  void Acknowledge(const Message& m, int error, const ExtAck& ack);

 private:
  friend void Multicast(const net::Stack*, int, uint32_t, std::vector<uint8_t>);
  friend bool HasListeners(NetNamespace*, int, uint32_t);
  friend std::vector<NetlinkSocketInfo> ListSockets(NetNamespace&);

  Result<void> OnSocketOption(int name, int64_t) override {
    return name == SO_PEEK_OFF ? Result<void>(Errno(EOPNOTSUPP)) : Result<void>();
  }
  Result<void> SetOption(int level, int name, OptionIn& in) override;
  Result<void> GetOption(int level, int name, OptionOut& out) override;
  int TakeSocketError() override;

  Result<void> Autobind(Task& t);
  Result<void> JoinMask(Task& t, uint32_t mask);
  Result<void> SendTo(Task& t, uint32_t port, uint32_t group, Ref<Datagram> d);
  Result<Ref<Datagram>> TakeOne(bool peek, size_t room);
  bool AddLocked(const Ref<Datagram>& d);
  void PackDumpLocked();
  // NETLINK_LISTEN_ALL_NSID: the number under which news of another namespace are heard; kNone: not.
  int32_t HeardAsLocked(const net::Stack& of) const;
  bool InGroupLocked(uint32_t group) const { return groups_.contains(group); }
  uint32_t MaskLocked() const;

  Protocol& proto_;
  const uint64_t inode_;
  WaitQueue wait_queue_;
  std::atomic<bool> strict_{false};
  // Under the lock of all netlink sockets.
  uint32_t port_ = 0;
  bool bound_ = false;
  std::set<uint32_t> groups_;
  bool has_groups_ = false;  // one was asked for: netlink_realloc_groups()
  uint32_t to_port_ = 0, to_group_ = 0;
  bool connected_ = false;
  std::deque<Ref<Datagram>> queue_;
  size_t queued_ = 0;
  int error_ = 0;
  uint32_t drops_ = 0;
  std::vector<uint8_t> dump_;
  size_t dump_at_ = 0;
  size_t largest_read_ = 0;
  bool packet_info_ = false, broadcast_error_ = false, no_enobufs_ = false, all_ids_ = false,
       cap_ack_ = false, ext_ack_ = false;
};

// Registers AF_NETLINK, its protocols, and what else this folder gives to the rest.
void Register();

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_NETLINK_SOCKET_H_
