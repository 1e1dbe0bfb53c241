// NETLINK_GENERIC with its controller "nlctrl" (net/netlink/genetlink.c), NETLINK_KOBJECT_UEVENT and
// NETLINK_USERSOCK.
#include "fs/netlink/generic.h"

#include <linux/genetlink.h>

#include "fs/netlink/route.h"

namespace ringwall::netlink {
namespace {

struct Family {
  uint16_t id;
  const char* name;
  uint32_t version, max_attr;
};

// The controller is the only family built in.
constexpr Family kCtrl = {GENL_ID_CTRL, "nlctrl", 2, CTRL_ATTR_MAX};
constexpr uint32_t kNotifyGroup = 0x10;  // "notify": GENL_ID_CTRL, as Linux numbers it

void FillFamily(Builder& b, const Family& f) {
  b.Put(genlmsghdr{CTRL_CMD_NEWFAMILY, 2, 0});
  b.Text(CTRL_ATTR_FAMILY_NAME, f.name);
  b.U16(CTRL_ATTR_FAMILY_ID, f.id);
  b.U32(CTRL_ATTR_VERSION, f.version);
  b.U32(CTRL_ATTR_HDRSIZE, 0);
  b.U32(CTRL_ATTR_MAXATTR, f.max_attr);
  const size_t ops = b.Nest(CTRL_ATTR_OPS);
  uint16_t n = 1;
  for (const auto& [cmd, flags] : {std::pair{CTRL_CMD_GETFAMILY, 0xe}, {CTRL_CMD_GETPOLICY, 0xc}}) {
    const size_t op = b.Nest(n++);
    b.U32(CTRL_ATTR_OP_ID, static_cast<uint32_t>(cmd));
    b.U32(CTRL_ATTR_OP_FLAGS, static_cast<uint32_t>(flags));
    b.Unnest(op);
  }
  b.Unnest(ops);
  const size_t groups = b.Nest(CTRL_ATTR_MCAST_GROUPS);
  const size_t group = b.Nest(1);
  b.U32(CTRL_ATTR_MCAST_GRP_ID, kNotifyGroup);
  b.Text(CTRL_ATTR_MCAST_GRP_NAME, "notify");
  b.Unnest(group);
  b.Unnest(groups);
}

}  // namespace

// genl_bind(): a group of no family is nobody's to refuse.
Result<void> GenericProtocol::CheckGroup(Task&, uint32_t) { return {}; }

Result<void> GenericProtocol::Handle(Context& c) {
  if (c.message.header.type != GENL_ID_CTRL) return Errno(ENOENT);
  if (c.message.payload.size() < sizeof(genlmsghdr)) return Errno(EINVAL);
  const genlmsghdr h = ReadAs<genlmsghdr>(c.message.payload);
  const bool dump = (c.message.header.flags & NLM_F_DUMP) == NLM_F_DUMP;
  if (h.cmd != CTRL_CMD_GETFAMILY) return Errno(EOPNOTSUPP);
  if (dump) {
    Builder b;
    c.BeginPart(b, GENL_ID_CTRL);
    FillFamily(b, kCtrl);
    b.End();
    return c.Dump(b.Take());
  }
  static constexpr Policy<CTRL_ATTR_MAX> kRules = {
      {CTRL_ATTR_FAMILY_ID, {AttrKind::kU16}},
      {CTRL_ATTR_FAMILY_NAME, {AttrKind::kString, 15}},
  };
  const Attrs<CTRL_ATTR_MAX> a =
      TRY(ParseAttrs<CTRL_ATTR_MAX>(Tail(c, sizeof(genlmsghdr)), kRules, &c.ack));
  const Attr* id = a.Get(CTRL_ATTR_FAMILY_ID);
  const Attr* name = a.Get(CTRL_ATTR_FAMILY_NAME);
  if (id == nullptr && name == nullptr) return Errno(EINVAL);
  if ((id != nullptr && id->U16() != GENL_ID_CTRL) ||
      (name != nullptr && name->Text() != kCtrl.name)) {
    return Errno(ENOENT);
  }
  c.Answer(GENL_ID_CTRL, 0, [&](Builder& b) { FillFamily(b, kCtrl); });
  return {};
}

// A program with CAP_SYS_ADMIN may repeat an event to its namespace (uevent_net_rcv_skb()).
Result<void> UeventProtocol::Receive(Task& t, NetlinkSocket& s, Bytes datagram) {
  if (!t.creds().HasIn(s.net().user_ns(), Capability::kSysAdmin)) return Errno(EPERM);
  MessageWalk walk(datagram);
  std::optional<Message> m = walk.Next();
  if (!m) return {};
  Multicast(&s.net(), NETLINK_KOBJECT_UEVENT, 1, {m->payload.begin(), m->payload.end()});
  return {};
}

void SendUevent(NetNamespace& net, const char* action, const std::string& path,
                const std::vector<std::string>& variables) {
  static std::atomic<uint64_t> sequence{1000};
  if (!HasListeners(&net, NETLINK_KOBJECT_UEVENT, 1)) return;
  std::string text = std::string(action) + "@" + path;
  text += '\0';
  const auto add = [&](const std::string& v) {
    text += v;
    text += '\0';
  };
  add(std::string("ACTION=") + action);
  add("DEVPATH=" + path);
  for (const std::string& v : variables) add(v);
  add("SEQNUM=" + std::to_string(sequence.fetch_add(1)));
  Multicast(&net, NETLINK_KOBJECT_UEVENT, 1, {text.begin(), text.end()});
}

}  // namespace ringwall::netlink
