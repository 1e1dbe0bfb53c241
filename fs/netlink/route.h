// NETLINK_ROUTE (rtnetlink(7)): links, addresses, routes, rules and neighbours of a network
// namespace, one file for each.
#ifndef RINGWALL_FS_NETLINK_ROUTE_H_
#define RINGWALL_FS_NETLINK_ROUTE_H_

#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <algorithm>

#include "fs/netlink/netlink_socket.h"

namespace ringwall::netlink {

class RouteProtocol final : public Protocol, public NetNamespace::ChangeListener {
 public:
  uint32_t groups() const override { return RTNLGRP_MAX; }
  bool anyone_receives() const override { return true; }
  void OnNetChange(NetNamespace& net, const net::StackHost::Change& change) override;
  void OnPeerGone(const net::Stack& stack, int32_t id) override;
  Result<void> CheckGroup(Task& t, uint32_t group) override;

 protected:
  Result<void> Handle(Context& c) override;
};

// Handlers by message type. Dump* answer with NLM_F_DUMP set.
Result<void> GetLink(Context& c);
Result<void> DumpLinks(Context& c);
Result<void> NewLink(Context& c);
Result<void> SetLink(Context& c);
Result<void> DelLink(Context& c);
Result<void> DumpBridgeLinks(Context& c);
Result<void> GetAddr(Context& c);
Result<void> DumpAddrs(Context& c);
Result<void> NewAddr(Context& c);
Result<void> DelAddr(Context& c);
Result<void> GetRoute(Context& c);
Result<void> DumpRoutes(Context& c);
Result<void> NewRoute(Context& c);
Result<void> DelRoute(Context& c);
Result<void> DumpRules(Context& c);
Result<void> NewRule(Context& c);
Result<void> DelRule(Context& c);
Result<void> GetNeigh(Context& c);
Result<void> DumpNeighs(Context& c);
Result<void> NewNeigh(Context& c);
Result<void> DelNeigh(Context& c);
Result<void> DumpNeighTables(Context& c);
Result<void> DumpQdiscs(Context& c);
Result<void> GetNetconf(Context& c);
Result<void> DumpNetconf(Context& c);
Result<void> NewNsid(Context& c);
Result<void> GetNsid(Context& c);
Result<void> DumpNsids(Context& c);
Result<void> GetStats(Context& c);
Result<void> DumpStats(Context& c);

// The body of a message about one object, payload struct and attributes, shared by answers, dumps
// and notifications.
rtnl_link_stats64 Stats64(const net::LinkCounters& c);
void FillLink(Builder& b, const net::InterfaceInfo& i, uint32_t change, uint32_t filter);
void FillAddr(Builder& b, net::IfIndex iface, std::string_view name,
              const net::InterfaceAddress& a, net::TimePoint now);
void FillRoute(Builder& b, const net::RouteEntry& r, uint32_t extra_flags);
void FillRule(Builder& b, const net::RuleEntry& r);
void FillNeigh(Builder& b, net::IfIndex iface, const net::NeighbourInfo& n);

// ---- Helpers ----

net::Family FamilyOf(uint8_t af);
// Whose objects a dump tells: families without a handler of their own have AF_UNSPEC's.
inline uint8_t DumpedFamily(const Context& c) {
  const uint8_t af = c.message.payload[0];
  return FamilyOf(af) == net::Family::kNone ? uint8_t{AF_UNSPEC} : af;
}
inline uint8_t AfOf(net::Family f) { return f == net::Family::kV4 ? AF_INET : AF_INET6; }
// The address in an attribute; EINVAL when its size is not the family's.
Result<net::IpAddr> AddressOf(const Attr& a, net::Family family, ExtAck& ack);
void PutAddress(Builder& b, uint16_t type, const net::IpAddr& a);
// The payload's leading struct; EINVAL in these words when the message is shorter.
template <typename T>
Result<T> Head(Context& c, const char* too_short = "Invalid header length") {
  if (c.message.payload.size() < sizeof(T)) return c.ack.Fail(EINVAL, too_short);
  return ReadAs<T>(c.message.payload);
}
// What follows a leading struct of n bytes.
inline Bytes Tail(Context& c, size_t n) {
  return c.message.payload.size() <= Align4(n) ? Bytes() : c.message.payload.subspan(Align4(n));
}
// What Linux accepts of a request's leading struct under NETLINK_GET_STRICT_CHK.
struct StrictHead {
  size_t size;            // of the struct
  uint32_t zero;          // the bytes of it that must be zero, by bit
  const char* too_short;  // what is said when it is not there whole ("": Head has seen to that),
  const char* values;     // when one of those bytes is set,
  const char* trailing = nullptr;  // and when anything follows; null: attributes may
};
constexpr uint32_t ByteRange(unsigned first, unsigned last) { return (2u << last) - (1u << first); }
// EINVAL with the struct's words; without strict checking everything passes.
Result<void> CheckHead(Context& c, const StrictHead& head);

// The attributes of a request that only asks: strict, those not in `known` are EINVAL with `other`.
// Without it a doit refuses what fits no rule; a dump answers as if nothing were asked for.
template <size_t kMax>
Result<Attrs<kMax>> ParseAsked(Context& c, size_t head, std::span<const AttrRule> rules,
                               std::initializer_list<size_t> known, const char* other) {
  const bool strict = c.socket.strict();
  Result<Attrs<kMax>> got = ParseAttrs<kMax>(Tail(c, head), rules, &c.ack, strict);
  if (!got.ok() && c.dumping && !strict) {
    c.ack = {};
    return Attrs<kMax>();
  }
  if (!got.ok() || !strict) return got;
  for (size_t i = 1; i <= kMax; i++) {
    if (!got->Has(i) || std::find(known.begin(), known.end(), i) != known.end()) continue;
    return c.ack.Fail(EINVAL, other);
  }
  return got;
}
Result<void> FromNet(const net::NetResult<void>& r);
net::RouteAdd HowOf(uint16_t flags);
// The number of another namespace for links of this one that lead there, given now when it has none
// (peernet2id_alloc()); told to RTNLGRP_NSID. With or without a stack's lock.
int32_t IdOfPeer(const net::Stack& own, const net::Stack& peer);
// The network namespace that IFLA_NET_NS_FD or _PID names. EBADF, ESRCH; EINVAL: no such namespace's.
Result<Ref<NetNamespace>> NamespaceOfFd(Task& t, int fd);
Result<Ref<NetNamespace>> NamespaceOfPid(Task& t, int pid);
// Moves an interface to another namespace, with its name or a new one.
Result<void> MoveLink(NetNamespace& from, net::IfIndex iface, NetNamespace& to,
                      const std::string& name);
// Makes a tun or tap interface.
Result<net::IfIndex> MakeTun(net::Stack& stack, const std::string& name, bool tap,
                             RefPtr<net::LinkSink> sink);
// A free name for "veth%d".
std::string FreeName(net::Stack& stack, std::string_view pattern);
net::MacAddr RandomMac();

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_ROUTE_H_
