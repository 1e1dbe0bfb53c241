// nftables (net/netfilter/nf_tables_api.c, nf_tables_core.c): tables, chains, rules and sets of one
// stack, and the walk over them. What netlink said is turned into these by fs/netlink/nftables.
//
// A change is a transaction: it is made on a copy of the Ruleset, which takes the old one's place
// when every step of the batch was possible. Rules, and with them their counters, are shared between
// the copies; what must differ is copied. Guarded by the stack's lock.
#ifndef RINGWALL_NETSTACK_FILTER_NFT_H_
#define RINGWALL_NETSTACK_FILTER_NFT_H_

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "netstack/filter/conntrack.h"
#include "netstack/filter/packet.h"
#include "netstack/filter/xtables.h"
#include "netstack/net_error.h"
#include "sentry/base/ref.h"

namespace ringwall::net {

// NFPROTO_*.
enum class NftFamily : uint8_t { kUnspec = 0, kInet = 1, kIp = 2, kArp = 3, kNetdev = 5, kBridge = 7, kIp6 = 10 };

// NF_* and NFT_* verdicts.
inline constexpr int32_t kNftDrop = 0, kNftAccept = 1, kNftContinue = -1, kNftBreak = -2,
                         kNftJump = -3, kNftGoto = -4, kNftReturn = -5;
inline constexpr size_t kNftRegBytes = 64;

struct NftChain;
struct NftRuleset;
struct NftTable;

struct NftVerdict {
  int32_t code = kNftContinue;
  std::string chain;  // of a jump
};

// The registers of one walk: 64 bytes, and the verdict.
struct NftRegs {
  std::array<uint8_t, kNftRegBytes> bytes = {};
  const NftVerdict* verdict = nullptr;  // set by an expression that decides
  NftVerdict own;                       // where the decision has no home
  void Decide(int32_t code) {
    own = {code, {}};
    verdict = &own;
  }
};

// A register's place: NFT_REG_1..4 are 16 bytes, NFT_REG32_00..15 are 4. nullopt: no such, or too
// short for n bytes.
std::optional<uint8_t> NftRegister(uint32_t number, size_t n);

struct NftPacket {
  FilterPacket& packet;
  Stack& stack;
  Conntrack& conntrack;
  Hook hook;
  NftTable& table;
  uint64_t time;  // seconds of the day's clock; for meta hour and the like
  bool nat = false;
  bool translated = false;
  // Whose chains are asked: kInet for the hooks of IP, else the family of a link's; with `device` for kNetdev.
  NftFamily layer = NftFamily::kInet;
  std::string_view device = {};
};

class NftExpr : public RefCounted<NftExpr> {
 public:
  // False: the rule does not match.
  virtual bool Eval(NftRegs& r, NftPacket& p) = 0;
  // The attributes of NFTA_EXPR_DATA, as they came or as they are now.
  virtual std::vector<uint8_t> Attributes() const { return raw; }
  // The chains that it may jump to, and the sets and objects that it looks at.
  virtual void Chains(std::vector<const NftVerdict*>*) const {}
  virtual std::string SetName() const { return {}; }
  virtual std::string ObjectName() const { return {}; }
  // Whether it begins anew in a copy for another element of a set.
  virtual RefPtr<NftExpr> Clone() const { return nullptr; }

  std::string name;
  std::vector<uint8_t> raw;
};

struct NftRule : RefCounted<NftRule> {
  uint64_t handle = 0;
  std::vector<Ref<NftExpr>> exprs;
  std::vector<uint8_t> compat, userdata;  // attributes' contents
};

// A base chain's hook.
struct NftHook {
  Hook hook = Hook::kPreRouting;
  uint32_t number = 0;
  int32_t priority = 0;
  std::vector<std::string> devices;  // of netdev's chains and inet's ingress
};
// NF_INET_INGRESS, NF_NETDEV_*, NF_ARP_*; those of bridges have IP's numbers.
inline constexpr uint32_t kNftInetIngress = 5, kNftIngress = 0, kNftEgress = 1, kNftArpIn = 0, kNftArpOut = 1;

struct NftChain {
  std::string name;
  uint64_t handle = 0;
  uint32_t flags = 0;
  std::optional<NftHook> base;
  std::string type;  // filter, nat, route
  int32_t policy = kNftAccept;
  bool counted = false;
  uint64_t packets = 0, bytes = 0;
  std::vector<Ref<NftRule>> rules;
  std::vector<uint8_t> userdata;
};

// NFT_SET_*.
inline constexpr uint32_t kNftSetAnonymous = 1, kNftSetConstant = 2, kNftSetInterval = 4,
                          kNftSetMap = 8, kNftSetTimeout = 0x10, kNftSetEval = 0x20,
                          kNftSetObject = 0x40, kNftSetConcat = 0x80;
inline constexpr uint32_t kNftElemIntervalEnd = 1, kNftElemCatchall = 2;

struct NftElement {
  std::vector<uint8_t> key, key_end;
  uint32_t flags = 0;
  std::vector<uint8_t> data;
  NftVerdict verdict;
  std::string object;
  Duration timeout;       // zero: none
  TimePoint expires = TimePoint::Never();
  std::vector<uint8_t> userdata;
  std::vector<Ref<NftExpr>> exprs;
};

struct NftSet {
  // By key, an interval's end before a start at the same place.
  using Key = std::pair<std::vector<uint8_t>, bool>;
  std::string name;
  uint64_t handle = 0;
  uint32_t id = 0;  // within a batch
  uint32_t flags = 0, key_type = 0, key_size = 0, data_type = 0, data_size = 0, object_type = 0;
  uint32_t limit = 0;  // of elements; 0: none
  uint64_t timeout_ms = 0;
  uint32_t gc_interval = 0, policy = 0;
  std::vector<uint8_t> desc, userdata, key_extra;
  std::vector<uint8_t> fields;  // of a concatenation: bytes of each
  std::map<Key, NftElement> elements;
  std::optional<NftElement> catchall;
  std::vector<Ref<NftExpr>> exprs;  // for new elements

  bool verdicts() const { return data_type == 0xffffff00; }
  // The element that a key falls on, or null.
  NftElement* Find(ByteSpan key, TimePoint now);
  // The end of the interval that a key falls on, or null.
  const NftElement* FindEnd(ByteSpan key) const;
  void Expire(TimePoint now);
  size_t size() const { return elements.size() + (catchall ? 1 : 0); }
};

// A named counter, quota or limit.
struct NftObject {
  std::string name;
  uint64_t handle = 0;
  uint32_t type = 0;
  RefPtr<NftExpr> expr;
  std::vector<uint8_t> userdata;
};

struct NftTable {
  NftFamily family = NftFamily::kInet;
  std::string name;
  uint64_t handle = 0;
  uint32_t flags = 0;  // 1: dormant
  std::vector<uint8_t> userdata;
  std::map<std::string, NftChain, std::less<>> chains;
  std::map<std::string, NftSet, std::less<>> sets;
  std::map<std::string, NftObject, std::less<>> objects;
  std::vector<std::string> chain_order, set_order;
  uint64_t next_handle = 1;

  bool Sees(bool v4) const {
    return family == NftFamily::kInet || family == (v4 ? NftFamily::kIp : NftFamily::kIp6);
  }
  NftChain* FindChain(std::string_view n) {
    auto it = chains.find(n);
    return it == chains.end() ? nullptr : &it->second;
  }
  NftSet* FindSet(std::string_view n) {
    auto it = sets.find(n);
    return it == sets.end() ? nullptr : &it->second;
  }
  NftObject* FindObject(std::string_view n) {
    auto it = objects.find(n);
    return it == objects.end() ? nullptr : &it->second;
  }
  size_t ChainUses(const NftChain& c) const;
  size_t SetUses(std::string_view set) const;
  size_t ObjectUses(std::string_view object) const;
};

struct NftRuleset {
  std::vector<NftTable> tables;
  uint32_t generation = 1;
  uint64_t next_handle = 1;
  uint32_t next_anonymous = 0;

  NftTable* Find(NftFamily family, std::string_view name);
  // From the base chains on, every jump leads to a chain of its table that is none of them, none leads
  // back, and the depth is bounded. kNotFound, kLoop, kOpNotSupp.
  NetResult<void> Validate();
};

class Nft {
 public:
  NftRuleset& ruleset() { return ruleset_; }
  // Whether IP's hooks have a chain.
  bool active() const { return layers_[static_cast<size_t>(NftFamily::kInet)]; }
  // Whether a link's hooks have one: kArp, kBridge, kNetdev.
  bool Sees(NftFamily layer) const { return layers_[static_cast<size_t>(layer)]; }
  bool SeesDevice(std::string_view name) const;
  void Commit(NftRuleset fresh);
  // The base chains of a hook with from < priority <= to, but those of type nat.
  bool Run(NftPacket& p, int32_t from, int32_t to);
  // Those of type nat; ends once one has decided on a translation.
  bool RunNat(NftPacket& p);
  // The chains of p.layer at a hook of that number, in their order.
  bool RunLink(NftPacket& p, uint32_t number);
  static constexpr int32_t kFirst = INT32_MIN, kLast = INT32_MAX;

 private:
  struct Base {
    size_t table;
    std::string chain;
    NftHook hook;
    bool nat;
    NftFamily layer;
  };
  bool RunBase(const Base& b, NftPacket& p);
  void Collect();

  NftRuleset ruleset_;
  std::vector<Base> base_chains_;  // by priority
  std::array<bool, 11> layers_ = {};
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_FILTER_NFT_H_
