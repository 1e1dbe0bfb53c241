// nftables over netlink (net/netfilter/nf_tables_api.c): changes of a ruleset, message by message, and
// what is asked about it.
#ifndef RINGWALL_FS_NETLINK_NFTABLES_H_
#define RINGWALL_FS_NETLINK_NFTABLES_H_

#include <map>

#include "fs/netlink/netlink_socket.h"
#include "netstack/filter/nft.h"

namespace ringwall::netlink {

class NfAttrs;

// Applies the messages of one batch to a copy of the ruleset. With the stack's lock held.
class NftTransaction {
 public:
  NftTransaction(net::NftRuleset& rules, net::Stack& stack) : rules_(rules), stack_(stack) {}
  Result<void> Apply(const Message& m, ExtAck& ack);
  // Throws anonymous sets away that no rule looks at any more.
  void Finish();

 private:
  struct Request {
    const Message& message;
    ExtAck& ack;
    net::NftFamily family;
    uint16_t flags;
  };
  Result<void> NewTable(const Request& r, const NfAttrs& a);
  Result<void> DelTable(const Request& r, const NfAttrs& a);
  Result<void> NewChain(const Request& r, const NfAttrs& a);
  Result<void> DelChain(const Request& r, const NfAttrs& a);
  Result<void> NewRule(const Request& r, const NfAttrs& a);
  Result<void> DelRule(const Request& r, const NfAttrs& a);
  Result<void> NewSet(const Request& r, const NfAttrs& a);
  Result<void> DelSet(const Request& r, const NfAttrs& a);
  Result<void> NewElements(const Request& r, const NfAttrs& a);
  Result<void> DelElements(const Request& r, const NfAttrs& a);
  Result<void> NewObject(const Request& r, const NfAttrs& a);
  Result<void> DelObject(const Request& r, const NfAttrs& a);

  Result<net::NftTable*> FindTable(const Request& r, const Attr* name);
  Result<net::NftChain*> FindChain(const Request& r, net::NftTable& t, const Attr* name,
                                   const Attr* handle);
  Result<net::NftSet*> FindSet(net::NftTable& t, const Attr* name, const Attr* id);
  Result<void> ReadHook(const Request& r, const Attr& hook, const Attr* type, net::NftChain& c);
  Result<std::vector<Ref<net::NftExpr>>> ReadExprs(net::NftTable& t, const Attr& list);
  Result<Ref<net::NftExpr>> ReadExpr(net::NftTable& t, const Attr& element);
  Result<void> ReadVerdict(net::NftTable& t, const Attr& data, net::NftVerdict* out);
  Result<net::NftElement> ReadElement(net::NftTable& t, const net::NftSet& s, const Attr& element,
                                      bool with_data);

  net::NftRuleset& rules_;
  net::Stack& stack_;
  std::map<uint32_t, std::string> chain_ids_;           // of chains made in this batch
  std::map<uint32_t, Ref<net::NftRule>> rule_ids_;
};

// The GET messages, single and as dumps.
Result<void> NftGet(Context& c);
// Tells of a new generation.
void NotifyNftGeneration(NetNamespace& net, Task& t);

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_NFTABLES_H_
