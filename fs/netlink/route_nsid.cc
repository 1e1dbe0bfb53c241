// RTM_NEWNSID, RTM_GETNSID (net/core/net_namespace.c): the numbers by which network namespaces know
// each other, which `ip netns` and links that lead elsewhere tell.
#include <linux/net_namespace.h>

#include "fs/netlink/route.h"
#include "fs/socket/net_ids.h"

namespace ringwall::netlink {
namespace {

constexpr size_t kMost = NETNSA_CURRENT_NSID;
constexpr Policy<kMost> kNsidRules = {
    {NETNSA_NSID, {AttrKind::kU32}},
    {NETNSA_PID, {AttrKind::kU32}},
    {NETNSA_FD, {AttrKind::kU32}},
    {NETNSA_TARGET_NSID, {AttrKind::kU32}},
};
using NsidAttrs = Attrs<kMost>;

// rtnl_net_fill().
void Fill(Builder& b, int32_t id, std::optional<int32_t> current) {
  b.Put(rtgenmsg{AF_UNSPEC});
  b.Value(NETNSA_NSID, id);
  if (current) b.Value(NETNSA_CURRENT_NSID, *current);
}

void Tell(const net::Stack& of, uint16_t type, int32_t id, uint32_t sequence, uint32_t port) {
  Builder b;
  b.Begin(type, 0, sequence, port);
  Fill(b, id, std::nullopt);
  b.End();
  Multicast(&of, NETLINK_ROUTE, RTNLGRP_NSID, b.Take());
}

int32_t Number(const Attr& a) { return static_cast<int32_t>(a.U32()); }

// The namespace that a request speaks of, by process, descriptor or (when `by_id`) number.
Result<Ref<NetNamespace>> Peer(Context& c, const NsidAttrs& a, bool by_id) {
  const Attr* at = nullptr;
  Result<Ref<NetNamespace>> peer = Errno(ENOENT);
  if ((at = a.Get(NETNSA_PID)) != nullptr) {
    peer = NamespaceOfPid(c.task, Number(*at));
  } else if ((at = a.Get(NETNSA_FD)) != nullptr) {
    peer = NamespaceOfFd(c.task, Number(*at));
  } else if (by_id && (at = a.Get(NETNSA_NSID)) != nullptr) {
    RefPtr<NetNamespace> found = net_ids::Get(c.stack(), Number(*at));
    if (found) peer = Ref<NetNamespace>(std::move(found));
  } else {
    return c.ack.Fail(EINVAL, "Peer netns reference is missing");
  }
  if (peer.ok()) return peer;
  return c.ack.FailAt(peer.error_value(), "Peer netns reference is invalid", at);
}

// rtnl_get_net_ns_capable(): EINVAL, EACCES.
Result<Ref<NetNamespace>> Target(Context& c, const Attr& a) {
  RefPtr<NetNamespace> found = net_ids::Get(c.stack(), Number(a));
  if (!found) return Errno(EINVAL);
  if (!c.task.creds().HasIn(found->user_ns(), Capability::kNetAdmin)) return Errno(EACCES);
  return Ref<NetNamespace>(std::move(found));
}

}  // namespace

int32_t IdOfPeer(const net::Stack& own, const net::Stack& peer) {
  const net_ids::Given given = net_ids::FindOrGive(own, peer);
  if (given.fresh) Tell(own, RTM_NEWNSID, given.id, 0, 0);
  return given.id;
}

void RouteProtocol::OnPeerGone(const net::Stack& stack, int32_t id) {
  Tell(stack, RTM_DELNSID, id, 0, 0);
}

Result<void> NewNsid(Context& c) {
  const NsidAttrs a =
      TRY(ParseAttrs<kMost>(Tail(c, sizeof(rtgenmsg)), kNsidRules, &c.ack));
  const Attr* wanted = a.Get(NETNSA_NSID);
  if (wanted == nullptr) return c.ack.Fail(EINVAL, "nsid is missing");
  const Ref<NetNamespace> peer = TRY(Peer(c, a, false));
  const Result<int32_t> given = net_ids::Give(c.stack(), peer->stack(), Number(*wanted));
  if (given.ok()) {
    Tell(c.stack(), RTM_NEWNSID, *given, c.message.header.sequence, c.port());
    return {};
  }
  if (given.error().Is(EEXIST)) {
    const Attr* by = a.Has(NETNSA_PID) ? a.Get(NETNSA_PID) : a.Get(NETNSA_FD);
    return c.ack.FailAt(EEXIST, "Peer netns already has a nsid assigned", by);
  }
  return c.ack.FailAt(EEXIST, "The specified nsid is already used", wanted);
}

Result<void> GetNsid(Context& c) {
  const NsidAttrs a = TRY(ParseAsked<kMost>(
      c, sizeof(rtgenmsg), kNsidRules, {NETNSA_PID, NETNSA_FD, NETNSA_NSID, NETNSA_TARGET_NSID},
      "Unsupported attribute in peer netns getid request"));
  const Ref<NetNamespace> peer = TRY(Peer(c, a, true));
  int32_t id = net_ids::Find(c.stack(), peer->stack());
  std::optional<int32_t> current;
  if (const Attr* at = a.Get(NETNSA_TARGET_NSID)) {
    const Result<Ref<NetNamespace>> target = Target(c, *at);
    if (!target.ok()) {
      return c.ack.FailAt(target.error_value(), "Target netns reference is invalid", at);
    }
    current = id;
    id = net_ids::Find((*target)->stack(), peer->stack());
  }
  c.Answer(RTM_NEWNSID, 0, [&](Builder& b) { Fill(b, id, current); });
  return {};
}

Result<void> DumpNsids(Context& c) {
  RefPtr<NetNamespace> target;
  if (c.socket.strict()) {
    const NsidAttrs a =
        TRY(ParseAsked<kMost>(c, sizeof(rtgenmsg), kNsidRules, {NETNSA_TARGET_NSID},
                              "Unsupported attribute in dump request"));
    if (const Attr* at = a.Get(NETNSA_TARGET_NSID)) {
      Result<Ref<NetNamespace>> named = Target(c, *at);
      if (!named.ok()) {
        return c.ack.FailAt(named.error_value(), "Invalid target network namespace id", at);
      }
      target = std::move(*named);
    }
  }
  Builder b;
  for (const auto& [id, seen] : net_ids::List(target ? target->stack() : c.stack(), c.stack())) {
    c.BeginPart(b, RTM_NEWNSID);
    Fill(b, id, target ? std::optional(seen) : std::nullopt);
    b.End();
  }
  return c.Dump(b.Take());
}

}  // namespace ringwall::netlink
