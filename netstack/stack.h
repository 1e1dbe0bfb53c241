// Stack: the TCP/IP stack of one network namespace. Read netstack/README.md first.
//
// Thread-safe: one lock per Stack, taken inside by every public method here and by every public
// method of the endpoints (StackEntry). Everything in the "internal" part and every class below
// (Interface, TcpConnection, tables) is guarded by that lock. Whoever calls in holds a reference.
#ifndef RINGWALL_NETSTACK_STACK_H_
#define RINGWALL_NETSTACK_STACK_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "netstack/counters.h"
#include "netstack/filter/netfilter.h"
#include "netstack/host.h"
#include "netstack/icmp/rate_limit.h"
#include "netstack/ip/reassembly.h"
#include "netstack/ip/route.h"
#include "netstack/link/interface.h"
#include "netstack/net_error.h"
#include "netstack/siphash.h"
#include "netstack/tcp/types.h"
#include "netstack/timer_queue.h"
#include "netstack/wire/ip.h"
#include "netstack/wire/tcp.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall::net {

class IcmpView;
class FanoutGroup;
class PacketEndpoint;
class RawEndpoint;
class RawProtocol;
class TcpEndpoint;
class TcpProtocol;
class UdpEndpoint;
class UdpProtocol;

// The sysctls under net.ipv4, net.ipv6 and net.core that change what the stack does.
struct StackConfig {
  bool forwarding4 = false;
  bool forwarding6 = false;
  uint8_t default_ttl = 64;
  uint16_t port_min = 32768;  // ip_local_port_range
  uint16_t port_max = 60999;
  uint16_t unprivileged_port_start = 1024;               // ip_unprivileged_port_start
  uint32_t ping_group_min = 1, ping_group_max = 0;  // ping_group_range: nobody's
  bool icmp_echo_ignore_all = false;
  bool icmp_echo_ignore_broadcasts = true;
  bool accept_ra = true;
  bool disable_ipv6_default = false;  // of interfaces to come
  bool dad = true;
  size_t rmem_default = 212992, rmem_max = 212992, wmem_default = 212992, wmem_max = 212992;
  size_t tcp_rmem_default = 131072, tcp_rmem_max = 6 << 20;
  size_t tcp_wmem_default = 16384, tcp_wmem_max = 4 << 20;
  int tcp_syncookies = 1;  // 0 never, 1 when the queue is full, 2 always
  size_t tcp_max_syn_backlog = 512;
  size_t somaxconn = 4096;
  bool tcp_sack = true, tcp_timestamps = true, tcp_window_scaling = true, tcp_dsack = true;
  int tcp_ecn = 2;  // 0 off, 1 ask, 2 answer
  int tcp_syn_retries = 6, tcp_synack_retries = 5, tcp_retries2 = 15, tcp_orphan_retries = 0;
  Duration tcp_fin_timeout = Duration::Seconds(60);
  Duration tcp_time_wait = Duration::Seconds(60);
  int tcp_keepalive_time = 7200, tcp_keepalive_intvl = 75, tcp_keepalive_probes = 9;
  size_t tcp_max_tw_buckets = 32768, tcp_max_orphans = 8192;
  int tcp_challenge_ack_limit = 1000;
  uint8_t tcp_congestion = 1;  // the default's kind: kCongestionCubic
  uint32_t tcp_fastopen = 1;   // TFO_*: 1 client, 2 server, 4 and 0x200 without cookies, 0x400 all
  int tcp_mtu_probing = 0;     // 1: after a black hole, 2: from the start
  uint32_t tcp_base_mss = 1024;
  bool tcp_abort_on_overflow = false, tcp_slow_start_after_idle = true;
  uint32_t tcp_notsent_lowat = UINT32_MAX;
  CtSettings ct;
};

// What a transport asks of the IP layer for one packet.
struct IpSend {
  IpAddr src;
  IpAddr dst;
  uint8_t protocol = 0;
  uint8_t ttl = 64;
  uint8_t tos = 0;
  bool dont_fragment = false;  // IPv4: DF; IPv6: no fragments made here
  uint32_t flow_label = 0;
  ByteSpan options = {};  // IPv4
  uint32_t mark = 0;             // SO_MARK
  std::optional<uint32_t> uid = {};  // of the socket's owner, for the filter
};

// What the IP layer tells a transport about one packet.
struct IpReceived {
  IpAddr src;
  IpAddr dst;
  IfIndex iface = 0;
  uint8_t protocol = 0;
  uint8_t ttl = 0;
  uint8_t tos = 0;
  bool checksum_valid = false;
  bool dst_is_group = false;  // multicast or broadcast
  bool dst_is_broadcast = false;
  uint16_t gso_size = 0;
  uint32_t largest_part = 0;  // of a datagram put together for the filter: its longest fragment
  Slice header;               // the IP header with its options
  PacketMeta meta = {};       // the filter's
};

// An ICMP error about a packet that we sent, or the local equivalent.
struct IcmpError {
  bool v6 = false;
  uint8_t type = 0;
  uint8_t code = 0;
  uint32_t mtu = 0;      // of "too big"
  IpAddr reporter;
  IpAddr to;             // where the message went, on which interface, with what header
  IfIndex iface = 0;
  uint8_t ttl = 0, tos = 0;
  IpAddr local;          // the packet's source
  IpAddr remote;
  uint8_t protocol = 0;
  Slice transport;       // the quoted transport header, at least 8 bytes for TCP and UDP
};

// What to change of a link; the rest stays. Flags: of kIffSettable and kIffUp.
struct LinkChange {
  std::string name;  // empty: as it is
  std::optional<std::string> alias;
  std::optional<uint32_t> mtu, tx_queue_len, group;
  std::optional<MacAddr> mac, broadcast;
  std::optional<IfIndex> master;  // 0: of none
  uint32_t flags = 0, flags_mask = 0;
  std::optional<bool> tx_checksum, tx_tso;
};

// An interface taken out of a stack, to be put into another.
struct DetachedInterface {
  InterfaceConfig config;
  RefPtr<LinkSink> sink;
  uint32_t user_flags = 0;
  std::string alias;
};

// One transport or raw endpoint, as /proc/net and sock_diag show it.
struct SocketInfo {
  enum class Kind : uint8_t { kTcp, kUdp, kRaw, kPing, kPacket } kind = Kind::kTcp;
  Family family = Family::kV4;
  uint8_t state = 7;  // TCP_*
  uint8_t protocol = 0;
  SockAddr local, remote;
  IfIndex device = 0;
  uint32_t receive_queue = 0, send_queue = 0;
  uint8_t timer = 0;  // 0 none, 1 retransmit, 2 keepalive, 3 TIME-WAIT, 4 window probe
  Duration expires;
  uint8_t retransmits = 0, probes = 0;
  uint32_t uid = 0;
  uint64_t inode = 0;
  uint32_t mark = 0;
  bool v6_only = false;
  bool reuse = false, reuse_port = false;
  bool read_shut = false, write_shut = false;
  bool bound = false;
  uint8_t tos = 0, traffic_class = 0;
  uint32_t drops = 0;
  uint32_t receive_buffer = 0, send_buffer = 0;
  uint32_t backlog = 0, waiting = 0;  // of a listener
  uint16_t ethertype = 0;             // of a packet endpoint
  bool raw = false;                   // likewise: SOCK_RAW
  const void* cookie = nullptr;       // identity, never followed
  std::optional<TcpInfo> tcp;
  uint8_t congestion = 1;
};

// A filter table as iptables reads it.
struct XtSnapshot {
  XtInfo info;
  std::vector<uint8_t> blob;
};

class Stack final : public RefCounted<Stack> {
 public:
  // `host` outlives the stack. Makes no interface.
  explicit Stack(StackHost& host, const StackConfig& config = {});
  ~Stack() override;

  // Links. A loopback interface takes no sink and has 127.0.0.1/8 and ::1/128 once up.
  NetResult<IfIndex> AddInterface(const InterfaceConfig& config, RefPtr<LinkSink> sink);
  NetResult<void> RemoveInterface(IfIndex iface);
  NetResult<void> SetUp(IfIndex iface, bool up);
  NetResult<void> SetMtu(IfIndex iface, uint32_t mtu);
  NetResult<void> Rename(IfIndex iface, std::string_view name);
  NetResult<void> SetCarrier(IfIndex iface, bool carrier);
  // Everything or nothing. kInvalid, kExists (name), kNoDevice (master), kBusy (a master already).
  NetResult<void> ChangeLink(IfIndex iface, const LinkChange& change);
  NetResult<DetachedInterface> DetachInterface(IfIndex iface);
  std::vector<InterfaceInfo> Interfaces();
  std::optional<InterfaceInfo> FindInterfaceInfo(IfIndex iface);
  std::optional<InterfaceInfo> FindInterfaceInfo(std::string_view name);
  IfIndex IndexOf(std::string_view name);
  std::string NameOf(IfIndex iface);
  void SetIpv6Disabled(IfIndex iface, bool disabled);
  // A bridge's forwarding database.
  std::vector<FdbEntry> ForwardingDatabase(IfIndex bridge);
  NetResult<void> SetForwarding(IfIndex port, const MacAddr& mac, bool add);

  // Addresses bring their on-link route along. no_dad: an IPv6 address is usable at once.
  NetResult<void> AddAddress(IfIndex iface, const IpPrefix& prefix, bool no_dad = false);
  NetResult<void> PutAddress(IfIndex iface, const InterfaceAddress& address, bool replace);
  NetResult<void> RemoveAddress(IfIndex iface, const IpPrefix& prefix);
  NetResult<void> AddRoute(const RouteEntry& route, bool replace = false);
  NetResult<void> AddRoute(const RouteEntry& route, const RouteAdd& how);
  NetResult<void> RemoveRoute(const RouteEntry& route);
  std::vector<RouteEntry> Routes();
  // What the addresses make of the table "local": local, broadcast, multicast.
  std::vector<RouteEntry> LocalRoutes();
  void AddRule(const RuleEntry& rule);
  NetResult<void> RemoveRule(const RuleEntry& rule);
  std::vector<RuleEntry> Rules();
  NetResult<void> SetNeighbour(IfIndex iface, const IpAddr& addr, const MacAddr& mac);
  // state: kPermanent, kReachable, kStale, kNoArp, kFailed ... With `replace` an entry gives way.
  NetResult<void> SetNeighbour(IfIndex iface, const NeighbourInfo& info, const RouteAdd& how);
  NetResult<void> RemoveNeighbour(IfIndex iface, const IpAddr& addr);
  std::vector<NeighbourInfo> Neighbours(IfIndex iface);
  NetResult<Route> LookupRoute(const RouteQuery& query);
  // The same with the entry that decided; none for a local address.
  NetResult<Route> LookupRoute(const RouteQuery& query, std::optional<RouteEntry>* entry);
  std::vector<SocketInfo> Sockets(SocketInfo::Kind kind);
  TimePoint Now();
  // iptables. kNotFound (no such table or extension), kInvalid, kLoop.
  // SO_ORIGINAL_DST: where a TCP connection was to go before it was translated. kNotFound.
  NetResult<SockAddr> OriginalDestination(const SockAddr& local, const SockAddr& remote);
  NetResult<XtSnapshot> FilterTable(Family family, std::string_view name);
  // Gives the old counters.
  NetResult<std::vector<XtCounter>> ReplaceFilterTable(Family family, std::string_view name,
                                                       const XtInfo& info,
                                                       std::vector<uint8_t> blob);
  // Names of the tables that somebody has asked for, the last one first: the others are only made then.
  std::vector<std::string> FilterTablesInUse(Family family);
  NetResult<void> AddFilterCounters(Family family, std::string_view name,
                                    const std::vector<XtCounter>& add);
  // nftables: `change` works on a copy of the ruleset, under the stack's lock; a copy that it calls
  // good takes the old one's place. `look` only reads, now or at this moment.
  template <typename F>
  auto ChangeNft(F change);
  template <typename F>
  auto LookAtNft(F look);
  // Tracked connections, copied.
  std::vector<Ref<Connection>> Connections();
  // Takes one away, by the tuple of either direction; false: there is none.
  bool ForgetConnection(const CtTuple& tuple);
  void FlushConnections();
  // dst, src: what is to be translated, which changes the second tuple first.
  NetResult<void> AddConnection(Ref<Connection> c, const std::optional<NatRange>& dst = {},
                                const std::optional<NatRange>& src = {});
  // The change sees the connection itself; false: there is none.
  bool ChangeConnection(const CtTuple& tuple, const std::function<void(Connection&)>& change);
  // The keys of Fast Open's cookies; the second is of those that are still good.
  void SetFastOpenKeys(std::vector<SipKey> keys);
  std::vector<SipKey> FastOpenKeys();

  // Frames from a link. The batch form takes the lock once.
  void Input(IfIndex iface, RxFrame frame);
  void InputBatch(IfIndex iface, std::span<RxFrame> frames);

  TimePoint NextDeadline();
  void OnDeadline();

  Ref<TcpEndpoint> NewTcp(Family family);
  Ref<UdpEndpoint> NewUdp(Family family);
  // Raw IP (SOCK_RAW) of a protocol, or with `ping` an ICMP echo socket.
  Ref<RawEndpoint> NewRaw(Family family, uint8_t protocol, bool ping = false);
  // AF_PACKET: frames with (raw) or without link headers; ethertype 0 hears nothing, 3 all.
  Ref<PacketEndpoint> NewPacket(bool raw, uint16_t ethertype);

  StackConfig Config();
  void SetConfig(const StackConfig& config);
  Counters GetCounters();
  // Ends all connections without a word and drops all interfaces. The host is not called again: it
  // may go while others still hold the stack (the far end of a veth pair).
  void Shutdown();

  // ---- Internal: with the lock held. ----
  TimePoint now() const { return now_; }
  TimerQueue& timers() { return timers_; }
  const StackConfig& config() const { return config_; }
  Counters& counters() { return counters_; }
  const SipKey& key() const { return key_; }
  uint32_t route_generation() const { return route_generation_; }
  TcpProtocol& tcp() { return *tcp_; }
  UdpProtocol& udp() { return *udp_; }
  RawProtocol& raw() { return *raw_; }
  uint64_t Random64();
  void FillRandom(MutableByteSpan out) {
    if (!shut_down_) host_.FillRandom(out);
  }
  Interface* FindInterface(std::string_view name) {
    for (auto& [index, i] : interfaces_) {
      if (i->config.name == name) return i.get();
    }
    return nullptr;
  }
  Interface* FindInterface(IfIndex i) {
    auto it = interfaces_.find(i);
    return it == interfaces_.end() ? nullptr : it->second.get();
  }
  std::map<IfIndex, std::unique_ptr<Interface>>& interfaces() { return interfaces_; }
  // The interface that owns a, or null.
  Interface* OwnerOf(const IpAddr& a);
  bool IsLocal(const IpAddr& a) { return OwnerOf(a) != nullptr; }
  // Whether a is a broadcast address of an interface (or the limited one).
  bool IsBroadcast(const IpAddr& a);
  void Notify(const StackHost::Change& change);
  void NotifyLink(Interface& i);
  void NotifyAddress(Interface& i, const InterfaceAddress& a, bool removed);
  void NotifyRoute(const RouteEntry& r, bool removed);
  void Log(uint8_t level, std::string_view text) {
    if (!shut_down_) host_.OnLog(level, text);
  }

  NetResult<Route> FindRoute(const RouteQuery& q, const RouteEntry** entry = nullptr);
  // Whether a route of type local takes what came in, though its destination is no address of ours.
  bool RoutedHere(const IpReceived& rx);
  void ChooseNextHop(const RouteEntry& route, const RouteQuery& q, IpAddr* gateway, IfIndex* oif);
  IpAddr SelectSource(const IpAddr& dst, IfIndex oif);
  // The path's MTU to dst: the route's, lowered by what ICMP told.
  uint32_t PathMtu(const Route& route);
  void LearnPathMtu(const IpAddr& dst, uint32_t mtu);

  // `packet` starts with its transport header.
  NetResult<void> SendIp(const Route& route, const IpSend& ip, Packet packet);
  // The same with the IP header in place (raw sockets, forwarding).
  NetResult<void> SendRawIp(const Route& route, Packet packet);
  // Fills in the transport checksum at `field` of the header, or leaves it to the link.
  void FinishChecksum(const Route& route, const IpSend& ip, Packet& packet, size_t field);
  // Whether packets over `route` need no headers: handed to the transport as they are.
  bool ShortWay(const Route& route) const;
  void LoopTcp(const IpAddr& src, const IpAddr& dst, uint8_t tos, const TcpSegment& seg,
               Chain payload);
  struct LoopedUdp {
    IpAddr src, dst;
    uint16_t sport = 0, dport = 0;
    uint8_t ttl = 64, tos = 0;
    uint16_t gso_size = 0;
    IfIndex iface = 0;  // 0: the loopback
    uint32_t mark = 0;
  };
  void LoopUdp(const LoopedUdp& header, Chain payload);
  void LoopDatagram(Slice datagram, PacketMeta meta = {});

  void TransmitFrame(Interface& iface, const MacAddr& dst, uint16_t type, Packet packet);
  void TransmitRawFrame(Interface& iface, Packet frame);
  // What a rule sends out by another device; at most a few from one frame.
  void SendFrameCopy(IfIndex oif, const FilterPacket& p);
  void SendToNextHop(const Route& route, Packet packet);

  // rx: the packet that provoked the error, from its IP header on. Rate limited; sends nothing
  // about what RFC 1122 3.2.2 and RFC 4443 2.4(e) forbid.
  // What is sent until it is taken back belongs to the same connection as the packet that this is
  // of, the other way (nf_ct_attach()). Null: none.
  void AttachTo(const PacketMeta* meta) { attach_ = meta; }
  void SendIcmpError(const IpReceived& about, const Slice& datagram, uint8_t type, uint8_t code,
                     uint32_t rest);
  void SendNeighbourSolicit(Interface& iface, const IpAddr& target, std::optional<MacAddr> unicast,
                            const IpAddr& src);
  void SendNeighbourAdvert(Interface& iface, const IpAddr& target, const IpAddr& to, bool solicited,
                           std::optional<MacAddr> mac);
  void SendArp(Interface& iface, const ArpPacket& arp, const MacAddr& to);
  void OnInterfaceTimer(Interface& iface);
  void ReportUnreachable(Packet packet);

  NetResult<void> JoinGroup(IfIndex iface, const IpAddr& group);
  void LeaveGroup(IfIndex iface, const IpAddr& group);

  // To be told when this entry ends.
  void AddNotice(const RefPtr<EndpointObserver>& observer, uint32_t bits) {
    for (Notice& n : notices_) {
      if (n.observer == observer) {
        n.bits |= bits;
        return;
      }
    }
    notices_.push_back({observer, bits});
  }
  void AddTap(PacketEndpoint* tap) { taps_.push_back(tap); }
  void RemoveTap(PacketEndpoint* tap) { std::erase(taps_, tap); }
  RefPtr<FanoutGroup> FindFanout(uint16_t id);

 private:
  friend class StackEntry;
  struct LoopItem {
    enum class Kind : uint8_t { kTcp, kUdp, kDatagram } kind;
    IpAddr src, dst;
    uint8_t ttl = 64, tos = 0;
    uint16_t sport = 0, dport = 0;
    TcpSegment segment;
    Chain payload;  // kDatagram: one slice
    PacketMeta meta;
    uint16_t gso_size = 0;
    IfIndex iface = 0;
  };
  // filter/hooks.cc. False: dropped; else the datagram may be another one.
  bool FilterIn(Hook hook, IpReceived& rx, Slice& datagram);
  // filter/link_hooks.cc: a frame at a hook of arp's, bridge's or netdev's, in by one interface or out by one
  // (or both). False: dropped; else the frame may be another one.
  bool FilterFrame(NftFamily layer, uint32_t hook, const Interface* in, const Interface* out,
                   FilterPacket::Sum sum, Slice& frame);
  bool Egress(Interface& iface, Packet& frame);
  bool FilterLoop(Interface& lo, Slice& datagram, PacketMeta& meta);
  bool FilterForward(const IpReceived& rx, const Route& route, Slice& datagram);
  NetResult<void> SendFiltered(const Route& route, Packet packet, const PacketMeta& meta,
                               bool dont_fragment);
  void DrainLoop();
  void DeliverLoop(LoopItem& item);

  void FrameIn(Interface& iface, RxFrame& frame);
  void ArpIn(Interface& iface, ByteSpan b);
  void Ipv4In(Interface& iface, Slice datagram, const RxFrame& frame, bool link_group);
  void Ipv6In(Interface& iface, Slice datagram, const RxFrame& frame);
  void Ipv6Continue(Interface& iface, const Slice& datagram, IpReceived& rx, const Ipv6Walk& from);
  // A fragment: the datagram once it is whole.
  std::optional<Slice> Reassemble4(Interface& iface, const Slice& datagram, IpReceived& rx);
  std::optional<Slice> Reassemble6(Interface& iface, const Slice& datagram, IpReceived& rx,
                                   const Ipv6Walk& walk);
  void ForwardInParts(const Route& route, const IpReceived& rx, const Slice& datagram, uint32_t mtu);
  void Deliver(IpReceived& rx, Slice transport, const Slice& datagram);
  void Forward(Interface& iface, const IpReceived& rx, const Slice& datagram);
  void IcmpIn(const IpReceived& rx, const Slice& message);
  void Icmp6In(const IpReceived& rx, const Slice& message);
  void IcmpErrorIn(const IpReceived& rx, bool v6, const Slice& message);
  void NdpIn(const IpReceived& rx, const IcmpView& view);
  void RouterAdvertIn(Interface& iface, const IpReceived& rx, const IcmpView& view);
  void IgmpIn(const IpReceived& rx, const Slice& message);
  void GroupQueryIn(Interface& iface, const struct GroupQuery& query, Family family);
  void SendGroupReport(Interface& iface, const IpAddr& group, bool leave);
  void OnReassemblyTimer();
  void ArmReassembly();
  void ArmInterface(Interface& iface);
  NetResult<void> SendFragments(const Route& route, const IpSend& ip, Packet packet, uint32_t mtu);
  void AddAddressLocked(Interface& iface, const InterfaceAddress& a, bool dad);
  void RemoveAddressLocked(Interface& iface, const IpPrefix& prefix);
  void RemovePrefixRoute(Interface& iface, const InterfaceAddress& a);
  void InterfaceUp(Interface& iface);
  void InterfaceUpV6(Interface& iface);
  void SetUpLocked(Interface& iface, bool up);
  void SetCarrierLocked(Interface& iface, bool carrier);
  void RemoveInterfaceLocked(Interface& iface);
  void RemoveRoutesThrough(IfIndex iface);
  NetResult<void> CheckLinkChange(Interface& iface, const LinkChange& change);
  NetResult<void> CheckNextHop(RouteEntry& route, IpAddr& gateway, IfIndex& oif, bool onlink);
  void WantFlush(Interface& iface);
  // link/switching.cc
  void SetMaster(Interface& iface, IfIndex master);
  void BridgeChanged(Interface& bridge);
  void DependentsChanged(Interface& lower);
  void BridgeIn(Interface& port, RxFrame& frame);
  void BridgeOut(Interface& bridge, Packet frame, IfIndex from);
  void TransmitFlat(Interface& port, Packet frame, uint16_t checksum_start);
  void VlanOut(Interface& vlan, Packet frame);
  void VlanIn(Interface& vlan, RxFrame& frame);
  Interface* FindVlan(IfIndex lower, uint16_t id);
  void TapFrame(Interface& iface, ByteSpan frame, size_t link_header, bool outgoing);

  Mutex<LockClass::kNetstack> mu_;
  StackHost& host_;
  bool shut_down_ = false;
  StackConfig config_;
  TimePoint now_;
  TimerQueue timers_;
  TimePoint told_deadline_ = TimePoint::Never();
  SipKey key_;
  uint64_t random_state_ = 0;
  Counters counters_;
  std::map<IfIndex, std::unique_ptr<Interface>> interfaces_;
  IfIndex next_iface_ = 1;
  IfIndex loopback_ = 0;
  absl::flat_hash_map<IpAddr, IfIndex> local_;
  RouteTable routes_;
  uint32_t route_generation_ = 1;
  struct PathMtuEntry {
    uint32_t mtu;
    TimePoint expires;
  };
  absl::flat_hash_map<IpAddr, PathMtuEntry> path_mtu_;
  Reassembly reassembly_;
  Timer reassembly_timer_;
  IcmpRateLimit icmp_limit_;
  uint32_t fragment_id_ = 0;
  std::deque<LoopItem> loop_;
  struct Notice {
    RefPtr<EndpointObserver> observer;
    uint32_t bits;
  };
  absl::InlinedVector<Notice, 4> notices_;
  std::vector<RefPtr<LinkSink>> flush_;
  std::vector<PacketEndpoint*> taps_;
  uint64_t tapped_ = 0;  // frames that taps have seen
  std::unique_ptr<TcpProtocol> tcp_;
  std::unique_ptr<UdpProtocol> udp_;
  std::unique_ptr<RawProtocol> raw_;
  std::unique_ptr<Netfilter> filter_;
  const PacketMeta* attach_ = nullptr;
  PacketMeta incoming_meta_;  // of a datagram that comes round the loopback
  uint32_t frame_mark_ = 0;   // of the frame that is on its way in or through a bridge
  int frame_depth_ = 0;
};

// One entry into the stack: takes the lock and the time; on the way out it runs what was queued on
// the loopback, tells the host about an earlier deadline, drops the lock and flushes the links.
class StackEntry {
 public:
  explicit StackEntry(Stack& stack);
  ~StackEntry();
  StackEntry(const StackEntry&) = delete;
  StackEntry& operator=(const StackEntry&) = delete;

 private:
  Stack& stack_;
  std::optional<MutexLock<LockClass::kNetstack>> lock_;
};

// change(NftRuleset& copy, bool* good).
template <typename F>
auto Stack::ChangeNft(F change) {
  StackEntry entry(*this);
  NftRuleset copy = filter_->nft().ruleset();
  bool good = false;
  auto result = change(copy, &good);
  if (good) {
    filter_->nft().Commit(std::move(copy));
    filter_->Changed();
  }
  return result;
}

template <typename F>
auto Stack::LookAtNft(F look) {
  StackEntry entry(*this);
  return look(filter_->nft().ruleset());
}

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_STACK_H_
