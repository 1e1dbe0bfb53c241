// Netfilter: the hooks of one stack, with their tables in Linux's order and connection tracking in
// between. Costs nothing while no table has a rule. Guarded by the stack's lock.
#ifndef RINGWALL_NETSTACK_FILTER_NETFILTER_H_
#define RINGWALL_NETSTACK_FILTER_NETFILTER_H_

#include <memory>

#include "netstack/filter/nft.h"
#include "netstack/filter/xtables.h"

namespace ringwall::net {

class Netfilter {
 public:
  explicit Netfilter(Stack& stack);

  bool active() const { return active_; }
  // True: goes on; the packet may have changed. False: dropped.
  bool Run(Hook hook, FilterPacket& p);

  // nftables' chains over frames: of arp, bridge or netdev, by the hook's number there.
  bool RunLink(NftFamily layer, uint32_t number, FilterPacket& p);

  // Null when there is no such table. Use: for a program, as of which it is in use.
  XtTable* Find(Family family, std::string_view name);
  XtTable* Use(Family family, std::string_view name);
  std::vector<std::string> TablesInUse(Family family) const;
  // After a table changed.
  void Changed();
  Conntrack& conntrack() { return conntrack_; }
  Nft& nft() { return nft_; }

 private:
  bool RunTable(const char* name, Hook hook, FilterPacket& p);
  bool RunNat(Hook hook, FilterPacket& p);
  // nftables' chains with a priority above `from`, up to `to`.
  uint64_t WallSeconds() const;
  bool RunNft(Hook hook, FilterPacket& p, int32_t from, int32_t to);

  Stack& stack_;
  Conntrack conntrack_;
  Nft nft_;
  std::vector<std::unique_ptr<XtTable>> tables_;
  std::vector<const XtTable*> in_use_;  // each once, in order
  bool active_ = false;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_FILTER_NETFILTER_H_
