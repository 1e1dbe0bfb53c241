// Endpoint: what a socket is made of. All operations are non-blocking: those that would have to
// wait return kWouldBlock (or kInProgress), and the observer hears when trying again is worth it.
//
// Thread-safe: every public method takes the stack's lock. Close() once when the last descriptor is
// gone; a TCP endpoint then lives on inside the stack until its connection ends.
//
// Addresses: an IPv6 endpoint without kV6Only speaks IPv4 too. Methods take IPv4 addresses plain or
// mapped and return them mapped (::ffff:a.b.c.d), as AF_INET6 sockets do.
#ifndef RINGWALL_NETSTACK_ENDPOINT_H_
#define RINGWALL_NETSTACK_ENDPOINT_H_

#include <array>
#include <atomic>
#include <optional>
#include <vector>

#include "netstack/host.h"
#include "netstack/ip/route.h"
#include "netstack/net_error.h"
#include "netstack/ring.h"
#include "netstack/stack.h"

namespace ringwall::net {

// Numeric options, named after Linux's. Values have the ranges and defaults of Linux; Set returns
// the error that setsockopt would.
enum class Option : uint8_t {
  // SOL_SOCKET
  kReuseAddr, kReusePort, kKeepAlive, kBroadcast, kDontRoute, kSendBuffer, kReceiveBuffer,
  kReceiveLowat, kMark, kPriority, kBindToDevice, kOobInline, kNoCheck,
  // IPPROTO_IP
  kTtl, kTos, kMulticastTtl, kMulticastLoop, kMulticastIf, kFreeBind, kTransparent, kMtuDiscover,
  kRecvErr, kHeaderIncluded, kMulticastAll, kBindNoPort, kPortRange,
  // IPPROTO_IPV6
  kMulticastAll6, kV6Only, kUnicastHops, kMulticastHops, kMulticastLoop6, kMulticastIf6, kTrafficClass,
  kMtuDiscover6, kRecvErr6, kChecksum6,
  // IPPROTO_TCP
  kNoDelay, kCork, kMaxSegment, kKeepIdle, kKeepInterval, kKeepCount, kSynCount, kLinger2,
  kDeferAccept, kWindowClamp, kUserTimeout, kQuickAck, kNotSentLowat, kCongestion, kFastOpen,
  kCount,
};

// Values of kCongestion.
inline constexpr int64_t kCongestionReno = 0;
inline constexpr int64_t kCongestionCubic = 1;
inline constexpr int64_t kCongestionBbr = 2;
// Their names, by number.
inline constexpr const char* kCongestionNames[] = {"reno", "cubic", "bbr"};

// SO_EE_ORIGIN_*: who made an entry of the error queue.
inline constexpr uint8_t kOriginLocal = 1, kOriginIcmp = 2, kOriginIcmp6 = 3, kOriginStamp = 4,
                         kOriginZeroCopy = 5;

// One entry of the error queue (IP_RECVERR): struct sock_extended_err's fields.
struct QueuedError {
  NetError error = NetError::kInvalid;
  uint8_t origin = 0;
  uint8_t type = 0;
  uint8_t code = 0;
  uint32_t info = 0;   // the MTU
  IpAddr offender;
  SockAddr destination;
  Slice payload;
  uint32_t data = 0;
  std::optional<TimePoint> when;  // of a stamp
  // How the packet that told of it came; iface 0: none did.
  IpAddr to;
  IfIndex iface = 0;
  uint8_t ttl = 0, tos = 0;
  template <typename Icmp>
  void NoteArrival(const Icmp& e) {
    to = e.to;
    iface = e.iface;
    ttl = e.ttl;
    tos = e.tos;
  }
};

// One received datagram.
struct Datagram {
  Chain data;
  SockAddr from;
  IpAddr to;
  IpAddr local;  // what an answer would come from, where `to` is a broadcast address
  IfIndex iface = 0;
  uint8_t ttl = 0;
  uint8_t tos = 0;
  TimePoint when;
  uint16_t gso_size = 0;  // UDP_GRO: the datagrams' size when several were merged
  uint16_t ethertype = 0;         // packet endpoints
  uint8_t packet_type = 0;        // packet endpoints: PACKET_HOST ... PACKET_OUTGOING
  MacAddr link_src;               // packet endpoints
  uint32_t original_size = 0;     // packet endpoints, before a snap length
  uint32_t mark = 0;
  uint16_t first_port = 0;  // that it was sent to, when TPROXY gave it to another; else 0
  uint32_t drops = 0;  // that the endpoint had lost until then
};

// A group that an endpoint is a member of, and of whom it wants to hear there.
struct GroupMembership {
  IpAddr group;
  IfIndex iface = 0;
  bool include = false;   // of `sources` only; else of all but them
  bool has_list = false;  // sources were given once, and with them the mode
  std::vector<IpAddr> sources;

  bool Hears(const IpAddr& source) const;
};

class ReuseGroup;

// What a filter on an endpoint sees of one packet (SO_ATTACH_FILTER).
struct FilterInput {
  ByteSpan data;           // from where the socket's data begin: the transport header, say
  ByteSpan network, link;  // from those headers on; empty when not there
  uint16_t ethertype = 0;
  uint8_t packet_type = 0;
  IfIndex iface = 0;
  uint16_t hardware_type = 0;
  uint32_t mark = 0;
};

class EndpointFilter : public RefCounted<EndpointFilter> {
 public:
  // How many bytes to keep; 0 drops the packet. Called with the stack's lock held.
  virtual uint32_t Run(const FilterInput& in) const = 0;
};

class Endpoint : public RefCounted<Endpoint> {
 public:
  Stack& stack() const { return *stack_; }
  Family family() const { return family_; }

  void SetObserver(RefPtr<EndpointObserver> observer);
  // The events that hold now (Readiness bits).
  uint32_t Poll();

  NetResult<void> Bind(const SockAddr& addr);
  // kAddrNotAvail: no address that a socket may be bound to here.
  NetResult<void> CheckLocal(const SockAddr& addr);
  // TCP: kInProgress when started; readiness kWritable, or kError with TakeError, tells the end.
  // An address of family kNone dissolves the association (AF_UNSPEC).
  NetResult<void> Connect(const SockAddr& addr);
  NetResult<void> Shutdown(bool read, bool write);
  void Close();

  // Whether reading was shut: an empty queue is then the end.
  bool ReadShut();

  void SetFilter(RefPtr<EndpointFilter> filter);
  RefPtr<EndpointFilter> Filter();

  NetResult<SockAddr> LocalAddress();
  NetResult<SockAddr> RemoteAddress();
  // SO_ERROR: returns the pending error and clears it.
  std::optional<NetError> TakeError();
  // An entry that the socket's own side makes: completions and stamps of what was sent.
  void QueueNote(QueuedError e);
  // The oldest entry of the error queue.
  std::optional<QueuedError> TakeQueuedError();

  NetResult<void> SetOption(Option option, int64_t value);
  NetResult<int64_t> GetOption(Option option);
  // kSendBuffer or kReceiveBuffer as it is to be: SO_SNDBUFFORCE, and where the caller has doubled.
  void SetBuffer(Option option, size_t size);
  // Group membership on an interface; 0 lets the routes choose. by_source: of no source yet.
  NetResult<void> JoinGroup(const IpAddr& group, IfIndex iface, bool by_source = false);
  NetResult<void> LeaveGroup(const IpAddr& group, IfIndex iface);
  // One source more or less of an including or excluding membership (IP_ADD_SOURCE_MEMBERSHIP,
  // IP_BLOCK_SOURCE ...). kInvalid: no such membership, or of the other kind.
  NetResult<void> ChangeSource(const IpAddr& group, IfIndex iface, const IpAddr& source,
                               bool include, bool add);
  // IP_MSFILTER, MCAST_MSFILTER.
  NetResult<void> SetSources(const IpAddr& group, IfIndex iface, bool include,
                             std::vector<IpAddr> sources);
  NetResult<GroupMembership> Membership(const IpAddr& group, IfIndex iface);
  // SO_ATTACH_REUSEPORT_CBPF; null detaches. kInvalid: not such a socket; kNotFound: none attached.
  NetResult<void> SetReuseProgram(RefPtr<EndpointFilter> program);
  // IPV6_ADDRFORM: an IPv6 endpoint with an IPv4 peer is an IPv4 one from now on.
  void BecomeIpv4();
  // Whose socket this is, for /proc/net and sock_diag: the user and the descriptor's inode.
  void SetOwner(uint32_t uid, uint64_t inode);
  bool IsMember(const IpAddr& group);
  // IP_MTU: of the path to the connected peer. kNotConnected.
  NetResult<uint32_t> PathMtuToPeer();

  // ---- Internal: with the lock held. ----
  int64_t opt(Option o) const { return options_[static_cast<size_t>(o)]; }
  bool flag(Option o) const { return opt(o) != 0; }
  bool MemberOf(const IpAddr& group, IfIndex iface) const;
  // Whether its memberships let a datagram of `source` for the group pass.
  bool HearsSource(const IpAddr& group, IfIndex iface, const IpAddr& source) const;
  ReuseGroup* reuse_group() const { return reuse_group_.get(); }
  // Becomes a member of the group of `other`, or of one of its own.
  void JoinReuseGroup(Endpoint* other);
  void LeaveReuseGroup();
  // The ports that an automatic choice takes: net.ipv4.ip_local_port_range within
  // IP_LOCAL_PORT_RANGE.
  std::pair<uint16_t, uint16_t> PortRange() const;
  bool closed() const { return closed_; }
  SocketInfo Describe();
  // Tells the filter whose packet it is.
  void Own(IpSend& ip) const {
    ip.mark = static_cast<uint32_t>(opt(Option::kMark));
    ip.uid = owner_uid_;
  }

 protected:
  NetResult<void> CheckLocalLocked(const IpAddr& addr) const;
  Endpoint(Ref<Stack> stack, Family family);
  ~Endpoint() override;
  // An endpoint that was never closed leaves the stack's tables first.
  void LastRelease() const override;

  // Ends an endpoint that never had a user, with the lock held.
  void MarkClosed() { closed_ = true; }

  virtual uint32_t DoPoll() = 0;
  virtual NetResult<void> DoBind(const SockAddr& addr) = 0;
  virtual NetResult<void> DoConnect(const SockAddr& addr) = 0;
  virtual NetResult<void> DoShutdown(bool read, bool write) = 0;
  virtual void DoClose() = 0;
  virtual NetResult<SockAddr> DoLocal() = 0;
  virtual NetResult<SockAddr> DoRemote() = 0;
  // Called after a value was checked and stored.
  virtual NetResult<void> OnOption(Option, int64_t) { return {}; }
  virtual NetResult<int64_t> OnGetOption(Option o) { return opt(o); }
  virtual bool is_tcp() const { return false; }
  virtual void DoDescribe(SocketInfo& info) = 0;
  virtual bool DoReadShut() const { return false; }
  virtual bool HasPort() const { return false; }

  // `bits` may hold now.
  void Notify(uint32_t bits) {
    if (observer_) stack_->AddNotice(observer_, bits);
  }
  void SetError(NetError e) { error_ = e; }
  std::optional<NetError> TakeErrorLocked() { return std::exchange(error_, std::nullopt); }
  void QueueError(QueuedError e);
  // Turns what the user gave into the address that the stack works with, or the error for it.
  NetResult<SockAddr> Normalise(const SockAddr& a) const;
  SockAddr ToUser(const SockAddr& a) const;
  uint8_t TtlFor(const IpAddr& dst) const;
  uint8_t TosFor(const IpAddr& dst) const;

  static void Store(std::array<int64_t, static_cast<size_t>(Option::kCount)>& a, Option o,
                    int64_t v) {
    a[static_cast<size_t>(o)] = v;
  }

  const Ref<Stack> stack_;
  std::atomic<Family> family_;
  RefPtr<EndpointObserver> observer_;
  std::array<int64_t, static_cast<size_t>(Option::kCount)> options_ = {};
  std::optional<NetError> error_;
  RefPtr<EndpointFilter> filter_;
  Ring<QueuedError> error_queue_;
  NetResult<IfIndex> GroupInterface(const IpAddr& group, IfIndex iface);
  GroupMembership* FindMembership(const IpAddr& group, IfIndex iface);
  void Leave(GroupMembership* m);
  // Whether an address means something on one link only (__ipv6_addr_needs_scope_id()).
  static bool NeedsScope(const IpAddr& a) {
    return a.is_v6() && (a.IsLinkLocal() || (a.IsMulticast() && (a.byte(1) & 0xf) - 1u < 2u));
  }
  std::vector<GroupMembership> memberships_;
  RefPtr<ReuseGroup> reuse_group_;
  uint32_t drops_ = 0;  // datagrams lost for want of room
  bool closed_ = false;
  uint32_t owner_uid_ = 0;
  uint64_t owner_inode_ = 0;
};

// What an ICMP error means to a socket: the errno, and whether it ends a connection attempt (or,
// for UDP, is told without IP_RECVERR). Compare Linux's icmp_err_convert.
struct IcmpMeaning {
  NetError error;
  bool hard;
};
IcmpMeaning MeaningOf(const IcmpError& e);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_ENDPOINT_H_
