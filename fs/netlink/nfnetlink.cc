#include "fs/netlink/nfnetlink.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>

#include "fs/netlink/ctnetlink.h"
#include "fs/netlink/nftables.h"
#include "fs/netlink/nftables_parse.h"
#include "fs/netlink/route.h"

namespace ringwall::netlink {
namespace {

constexpr int kRestart = 85;  // ERESTART, as nft and iptables-nft look for it

uint8_t SubsystemOf(const Message& m) { return static_cast<uint8_t>(m.header.type >> 8); }

// NFNL_MSG_COMPAT_GET: does the kernel have this revision of an extension?
Result<void> Compat(Context& c) {
  const nfgenmsg g = ReadAs<nfgenmsg>(c.message.payload);
  const NfAttrs a(c.message.payload.subspan(sizeof(nfgenmsg)));
  const Attr* name = a.Get(NFTA_COMPAT_NAME);
  const Attr* revision = a.Get(NFTA_COMPAT_REV);
  const Attr* type = a.Get(NFTA_COMPAT_TYPE);
  if (name == nullptr || revision == nullptr || type == nullptr) return Errno(EINVAL);
  if (g.nfgen_family != AF_INET && g.nfgen_family != AF_INET6) return Errno(EPROTONOSUPPORT);
  const net::Family family = g.nfgen_family == AF_INET ? net::Family::kV4 : net::Family::kV6;
  const bool target = type->Be32() == 1;
  const std::optional<uint8_t> best = target ? net::XtTargetRevision(name->Text(), family)
                                             : net::XtMatchRevision(name->Text(), family);
  if (!best) return Errno(ENOENT);
  if (revision->Be32() > *best) return Errno(EPROTONOSUPPORT);
  c.Answer(NFNL_SUBSYS_NFT_COMPAT << 8 | NFNL_MSG_COMPAT_GET, 0, [&](Builder& b) {
    b.Put(nfgenmsg{g.nfgen_family, NFNETLINK_V0, 0});
    b.Text(NFTA_COMPAT_NAME, name->Text());
    b.Be32(NFTA_COMPAT_REV, *best);
    b.Be32(NFTA_COMPAT_TYPE, type->Be32());
  });
  return {};
}

}  // namespace

Result<void> NetfilterProtocol::Receive(Task& t, NetlinkSocket& s, Bytes datagram) {
  MessageWalk walk(datagram);
  const std::optional<Message> first = walk.Next();
  if (!first) return {};
  if (!t.creds().HasIn(s.net().user_ns(), Capability::kNetAdmin)) {
    ExtAck ack;
    s.Acknowledge(*first, EPERM, ack);
    return {};
  }
  if (first->header.type != NFNL_MSG_BATCH_BEGIN) return Protocol::Receive(t, s, datagram);
  Batch(t, s, *first, walk);
  return {};
}

// nfnetlink_rcv_batch().
void NetfilterProtocol::Batch(Task& t, NetlinkSocket& s, const Message& begin, MessageWalk& walk) {
  ExtAck none;
  if (begin.payload.size() < sizeof(nfgenmsg)) return s.Acknowledge(begin, EINVAL, none);
  const nfgenmsg g = ReadAs<nfgenmsg>(begin.payload);
  if (__builtin_bswap16(g.res_id) != NFNL_SUBSYS_NFTABLES) return s.Acknowledge(begin, EOPNOTSUPP, none);
  const NfAttrs attrs(begin.payload.subspan(sizeof(nfgenmsg)));
  const Attr* wanted = attrs.Get(NFNL_BATCH_GENID);

  struct Answer {
    Message message;
    int error;
    ExtAck ack;
  };
  std::vector<Answer> answers;
  const int restart = s.net().stack().ChangeNft([&](net::NftRuleset& rules, bool* good) {
    if (wanted != nullptr && wanted->Be32() != 0 && wanted->Be32() != rules.generation) return kRestart;
    if ((begin.header.flags & NLM_F_ACK) != 0) answers.push_back({begin, 0, {}});
    NftTransaction transaction(rules, s.net().stack());
    bool failed = false, ended = false;
    while (std::optional<Message> m = walk.Next()) {
      if (m->header.type == NFNL_MSG_BATCH_END) {
        ended = true;
        if ((m->header.flags & NLM_F_ACK) != 0) answers.push_back({*m, 0, {}});
        break;
      }
      ExtAck ack;
      int error = 0;
      if (m->header.type == NFNL_MSG_BATCH_BEGIN || m->payload.size() < sizeof(nfgenmsg) ||
          SubsystemOf(*m) != NFNL_SUBSYS_NFTABLES) {
        error = EINVAL;
      } else if ((m->header.flags & NLM_F_REQUEST) == 0) {
        error = EINVAL;
      } else {
        error = transaction.Apply(*m, ack).error_value();
      }
      failed |= error != 0;
      if (error != 0 || (m->header.flags & NLM_F_ACK) != 0) answers.push_back({*m, error, ack});
    }
    if (!failed && ended) {
      transaction.Finish();
      *good = true;
    }
    return 0;
  });
  if (restart != 0) return s.Acknowledge(begin, restart, none);
  for (const Answer& a : answers) s.Acknowledge(a.message, a.error, a.ack);
  static_cast<void>(t);
  NotifyNftGeneration(s.net(), t);
}

Result<void> NetfilterProtocol::Handle(Context& c) {
  if (c.message.payload.size() < sizeof(nfgenmsg)) return {};
  switch (SubsystemOf(c.message)) {
    case NFNL_SUBSYS_NFTABLES: return NftGet(c);
    case NFNL_SUBSYS_CTNETLINK: return Conntrack(c);
    case NFNL_SUBSYS_NFT_COMPAT:
      if ((c.message.header.type & 0xff) != NFNL_MSG_COMPAT_GET) return Errno(EINVAL);
      return Compat(c);
    default: return Errno(EINVAL);
  }
}

}  // namespace ringwall::netlink
