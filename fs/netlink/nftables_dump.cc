// What is asked about nftables: one thing, or all of a kind.
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>

#include "fs/netlink/nftables.h"
#include "fs/netlink/nftables_parse.h"
#include "netstack/stack.h"

namespace ringwall::netlink {
namespace {

using net::NftChain;
using net::NftElement;
using net::NftFamily;
using net::NftObject;
using net::NftRule;
using net::NftRuleset;
using net::NftSet;
using net::NftTable;

constexpr uint16_t Type(int message) { return static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message); }
constexpr uint16_t Nested(int type) { return static_cast<uint16_t>(type | NLA_F_NESTED); }
constexpr size_t kElementsAtOnce = 24 << 10;  // bytes of one message

void Head(Builder& b, NftFamily family, uint32_t generation) {
  b.Put(nfgenmsg{static_cast<uint8_t>(family), NFNETLINK_V0,
                 __builtin_bswap16(static_cast<uint16_t>(generation))});
}

void PutContents(Builder& b, int type, const std::vector<uint8_t>& v) {
  if (!v.empty()) b.Attribute(static_cast<uint16_t>(type), v);
}

void PutExpr(Builder& b, int type, const net::NftExpr& e) {
  const size_t element = b.Nest(Nested(type));
  b.Text(NFTA_EXPR_NAME, e.name);
  const std::vector<uint8_t> data = e.Attributes();
  if (!data.empty()) b.Attribute(Nested(NFTA_EXPR_DATA), data);
  b.Unnest(element);
}

void PutTable(Builder& b, const NftTable& t) {
  b.Text(NFTA_TABLE_NAME, t.name);
  b.Be32(NFTA_TABLE_FLAGS, t.flags);
  b.Be32(NFTA_TABLE_USE, static_cast<uint32_t>(t.chains.size() + t.sets.size() + t.objects.size()));
  b.Be64(NFTA_TABLE_HANDLE, t.handle);
  PutContents(b, NFTA_TABLE_USERDATA, t.userdata);
}

void PutChain(Builder& b, const NftTable& t, const NftChain& c) {
  b.Text(NFTA_CHAIN_TABLE, t.name);
  b.Be64(NFTA_CHAIN_HANDLE, c.handle);
  b.Text(NFTA_CHAIN_NAME, c.name);
  if (c.base) {
    const size_t hook = b.Nest(Nested(NFTA_CHAIN_HOOK));
    b.Be32(NFTA_HOOK_HOOKNUM, c.base->number);
    b.Be32(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(c.base->priority));
    if (!c.base->devices.empty()) {
      const size_t devices = b.Nest(Nested(NFTA_HOOK_DEVS));
      for (const std::string& name : c.base->devices) b.Text(NFTA_DEVICE_NAME, name);
      b.Unnest(devices);
      if (c.base->devices.size() == 1) b.Text(NFTA_HOOK_DEV, c.base->devices[0]);
    }
    b.Unnest(hook);
    b.Be32(NFTA_CHAIN_POLICY, static_cast<uint32_t>(c.policy));
    b.Text(NFTA_CHAIN_TYPE, c.type);
    if (c.counted) {
      const size_t counters = b.Nest(Nested(NFTA_CHAIN_COUNTERS));
      b.Be64(NFTA_COUNTER_BYTES, c.bytes);
      b.Be64(NFTA_COUNTER_PACKETS, c.packets);
      b.Unnest(counters);
    }
  }
  if (c.flags != 0) b.Be32(NFTA_CHAIN_FLAGS, c.flags);
  b.Be32(NFTA_CHAIN_USE, static_cast<uint32_t>(t.ChainUses(c)));
  PutContents(b, NFTA_CHAIN_USERDATA, c.userdata);
}

void PutRule(Builder& b, const NftTable& t, const NftChain& c, const NftRule& r, const NftRule* before) {
  b.Text(NFTA_RULE_TABLE, t.name);
  b.Text(NFTA_RULE_CHAIN, c.name);
  b.Be64(NFTA_RULE_HANDLE, r.handle);
  if (before != nullptr) b.Be64(NFTA_RULE_POSITION, before->handle);
  const size_t list = b.Nest(Nested(NFTA_RULE_EXPRESSIONS));
  for (const Ref<net::NftExpr>& e : r.exprs) PutExpr(b, NFTA_LIST_ELEM, *e);
  b.Unnest(list);
  PutContents(b, NFTA_RULE_COMPAT | NLA_F_NESTED, r.compat);
  PutContents(b, NFTA_RULE_USERDATA, r.userdata);
}

void PutSet(Builder& b, const NftTable& t, const NftSet& s) {
  b.Text(NFTA_SET_TABLE, t.name);
  b.Text(NFTA_SET_NAME, s.name);
  b.Be64(NFTA_SET_HANDLE, s.handle);
  if (s.flags != 0) b.Be32(NFTA_SET_FLAGS, s.flags);
  b.Be32(NFTA_SET_KEY_TYPE, s.key_type);
  b.Be32(NFTA_SET_KEY_LEN, s.key_size);
  if ((s.flags & net::kNftSetMap) != 0) {
    b.Be32(NFTA_SET_DATA_TYPE, s.data_type);
    b.Be32(NFTA_SET_DATA_LEN, s.data_size);
  }
  if ((s.flags & net::kNftSetObject) != 0) b.Be32(NFTA_SET_OBJ_TYPE, s.object_type);
  if (s.timeout_ms != 0) b.Be64(NFTA_SET_TIMEOUT, s.timeout_ms);
  if (s.gc_interval != 0) b.Be32(NFTA_SET_GC_INTERVAL, s.gc_interval);
  if (s.policy != 0) b.Be32(NFTA_SET_POLICY, s.policy);
  PutContents(b, NFTA_SET_USERDATA, s.userdata);
  const size_t desc = b.Nest(Nested(NFTA_SET_DESC));
  if (s.limit != 0) b.Be32(NFTA_SET_DESC_SIZE, s.limit);
  if (s.fields.size() > 1) {
    const size_t concat = b.Nest(Nested(NFTA_SET_DESC_CONCAT));
    for (const uint8_t n : s.fields) {
      const size_t field = b.Nest(Nested(NFTA_LIST_ELEM));
      b.Be32(NFTA_SET_FIELD_LEN, n);
      b.Unnest(field);
    }
    b.Unnest(concat);
  }
  b.Unnest(desc);
  if (s.exprs.size() == 1) {
    PutExpr(b, NFTA_SET_EXPR, *s.exprs[0]);
  } else if (!s.exprs.empty()) {
    const size_t list = b.Nest(Nested(NFTA_SET_EXPRESSIONS));
    for (const Ref<net::NftExpr>& e : s.exprs) PutExpr(b, NFTA_LIST_ELEM, *e);
    b.Unnest(list);
  }
}

void PutKey(Builder& b, int type, const std::vector<uint8_t>& key) {
  const size_t nest = b.Nest(Nested(type));
  b.Attribute(NFTA_DATA_VALUE, key);
  b.Unnest(nest);
}

void PutElement(Builder& b, const NftSet& s, const NftElement& e, net::TimePoint now) {
  const size_t element = b.Nest(Nested(NFTA_LIST_ELEM));
  if ((e.flags & net::kNftElemCatchall) == 0) PutKey(b, NFTA_SET_ELEM_KEY, e.key);
  if (!e.key_end.empty()) PutKey(b, NFTA_SET_ELEM_KEY_END, e.key_end);
  const bool ends = (e.flags & net::kNftElemIntervalEnd) != 0;
  if ((s.flags & net::kNftSetMap) != 0 && !ends) {
    const size_t data = b.Nest(Nested(NFTA_SET_ELEM_DATA));
    if (s.verdicts()) {
      const size_t verdict = b.Nest(Nested(NFTA_DATA_VERDICT));
      b.Be32(NFTA_VERDICT_CODE, static_cast<uint32_t>(e.verdict.code));
      if (!e.verdict.chain.empty()) b.Text(NFTA_VERDICT_CHAIN, e.verdict.chain);
      b.Unnest(verdict);
    } else {
      b.Attribute(NFTA_DATA_VALUE, e.data);
    }
    b.Unnest(data);
  }
  if (!e.object.empty()) b.Text(NFTA_SET_ELEM_OBJREF, e.object);
  if (e.exprs.size() == 1) {
    PutExpr(b, NFTA_SET_ELEM_EXPR, *e.exprs[0]);
  } else if (!e.exprs.empty()) {
    const size_t list = b.Nest(Nested(NFTA_SET_ELEM_EXPRESSIONS));
    for (const Ref<net::NftExpr>& x : e.exprs) PutExpr(b, NFTA_LIST_ELEM, *x);
    b.Unnest(list);
  }
  if (e.flags != 0) b.Be32(NFTA_SET_ELEM_FLAGS, e.flags);
  if (!e.timeout.IsZero()) {
    const uint64_t timeout = static_cast<uint64_t>(e.timeout.millis());
    if (timeout != s.timeout_ms) b.Be64(NFTA_SET_ELEM_TIMEOUT, timeout);
    b.Be64(NFTA_SET_ELEM_EXPIRATION, static_cast<uint64_t>(std::max<int64_t>((e.expires - now).millis(), 0)));
  }
  PutContents(b, NFTA_SET_ELEM_USERDATA, e.userdata);
  b.Unnest(element);
}

void PutObject(Builder& b, const NftTable& t, const NftObject& o) {
  b.Text(NFTA_OBJ_TABLE, t.name);
  b.Text(NFTA_OBJ_NAME, o.name);
  b.Be32(NFTA_OBJ_TYPE, o.type);
  b.Be32(NFTA_OBJ_USE, static_cast<uint32_t>(t.ObjectUses(o.name)));
  const std::vector<uint8_t> data = o.expr->Attributes();
  b.Attribute(Nested(NFTA_OBJ_DATA), data);
  b.Be64(NFTA_OBJ_HANDLE, o.handle);
  PutContents(b, NFTA_OBJ_USERDATA, o.userdata);
}

// Everything that the answer to one GET is made of. `part` begins a message of the right kind.
class Answers {
 public:
  Answers(Context& c, const NftRuleset& rules, net::TimePoint now, bool dump)
      : c_(c), rules_(rules), now_(now), dump_(dump) {}
  template <typename F>
  void One(int message, NftFamily family, F fill) {
    b_.Begin(Type(message), dump_ ? NLM_F_MULTI : 0, c_.message.header.sequence, port_);
    Head(b_, family, rules_.generation);
    fill(b_);
    b_.End();
    any_ = true;
  }
  // A set's elements, in as many messages as they need.
  void Elements(const NftTable& t, const NftSet& s) {
    auto it = s.elements.begin();
    bool catchall = s.catchall.has_value() && s.catchall->expires > now_;
    do {
      One(NFT_MSG_NEWSETELEM, t.family, [&](Builder& b) {
        b.Text(NFTA_SET_ELEM_LIST_TABLE, t.name);
        b.Text(NFTA_SET_ELEM_LIST_SET, s.name);
        const size_t list = b.Nest(Nested(NFTA_SET_ELEM_LIST_ELEMENTS));
        for (; it != s.elements.end() && b.size() - list < kElementsAtOnce; ++it) {
          if (it->second.expires > now_) PutElement(b, s, it->second, now_);
        }
        if (it == s.elements.end() && catchall) {
          PutElement(b, s, *s.catchall, now_);
          catchall = false;
        }
        b.Unnest(list);
      });
    } while (it != s.elements.end());
  }
  bool any() const { return any_; }
  std::vector<uint8_t> Take() { return b_.Take(); }
  net::TimePoint now() const { return now_; }
  void SetPort(uint32_t port) { port_ = port; }

 private:
  Context& c_;
  const NftRuleset& rules_;
  const net::TimePoint now_;
  const bool dump_;
  uint32_t port_ = 0;
  bool any_ = false;
  Builder b_;
};

bool Named(const Attr* a, const std::string& name) { return a == nullptr || a->Text() == name; }

// For a table: whatever the request asks for of it. `exact`: one thing, by name or handle.
void FromTable(Answers& out, int message, const NftTable& t, const NfAttrs& a, bool exact) {
  switch (message) {
    case NFT_MSG_GETTABLE:
      out.One(NFT_MSG_NEWTABLE, t.family, [&](Builder& b) { PutTable(b, t); });
      return;
    case NFT_MSG_GETCHAIN:
      for (const std::string& name : t.chain_order) {
        const NftChain& c = t.chains.find(name)->second;
        if (exact && !Named(a.Get(NFTA_CHAIN_NAME), c.name)) continue;
        out.One(NFT_MSG_NEWCHAIN, t.family, [&](Builder& b) { PutChain(b, t, c); });
      }
      return;
    case NFT_MSG_GETRULE:
      for (const std::string& name : t.chain_order) {
        const NftChain& c = t.chains.find(name)->second;
        if (!Named(a.Get(NFTA_RULE_CHAIN), c.name)) continue;
        const NftRule* before = nullptr;
        for (const Ref<NftRule>& r : c.rules) {
          if (!exact || r->handle == a.Be64(NFTA_RULE_HANDLE)) {
            out.One(NFT_MSG_NEWRULE, t.family, [&](Builder& b) { PutRule(b, t, c, *r, before); });
          }
          before = &*r;
        }
      }
      return;
    case NFT_MSG_GETSET:
      for (const std::string& name : t.set_order) {
        const NftSet& s = t.sets.find(name)->second;
        if (!Named(a.Get(NFTA_SET_NAME), s.name)) continue;
        out.One(NFT_MSG_NEWSET, t.family, [&](Builder& b) { PutSet(b, t, s); });
      }
      return;
    case NFT_MSG_GETOBJ:
    case NFT_MSG_GETOBJ_RESET: {
      std::vector<const NftObject*> objects;
      for (const auto& [name, o] : t.objects) objects.push_back(&o);
      // In the order that they were made in.
      std::sort(objects.begin(), objects.end(),
                [](const NftObject* x, const NftObject* y) { return x->handle < y->handle; });
      const uint32_t type = a.Be32(NFTA_OBJ_TYPE);
      for (const NftObject* o : objects) {
        if (!Named(a.Get(NFTA_OBJ_NAME), o->name) || (type != 0 && type != o->type)) continue;
        out.One(NFT_MSG_NEWOBJ, t.family, [&](Builder& b) { PutObject(b, t, *o); });
      }
      return;
    }
    default:
      return;
  }
}

size_t TableAttr(int message) {
  switch (message) {
    case NFT_MSG_GETTABLE: return NFTA_TABLE_NAME;
    case NFT_MSG_GETCHAIN: return NFTA_CHAIN_TABLE;
    case NFT_MSG_GETRULE: return NFTA_RULE_TABLE;
    case NFT_MSG_GETSET: return NFTA_SET_TABLE;
    case NFT_MSG_GETSETELEM: return NFTA_SET_ELEM_LIST_TABLE;
    default: return NFTA_OBJ_TABLE;
  }
}

// The elements of a set: all, or those that the request names.
int Elements(Answers& out, NftRuleset& rules, NftFamily family, const NfAttrs& a) {
  const Attr* table = a.Get(NFTA_SET_ELEM_LIST_TABLE);
  const Attr* set = a.Get(NFTA_SET_ELEM_LIST_SET);
  if (table == nullptr || set == nullptr) return EINVAL;
  NftTable* t = rules.Find(family, table->Text());
  NftSet* s = t == nullptr ? nullptr : t->FindSet(set->Text());
  if (s == nullptr) return ENOENT;
  const Attr* list = a.Get(NFTA_SET_ELEM_LIST_ELEMENTS);
  if (list == nullptr) {
    out.Elements(*t, *s);
    return 0;
  }
  AttrWalk walk(list->data);
  while (std::optional<Attr> element = walk.Next()) {
    const NfAttrs e(element->data);
    const Attr* key = e.Get(NFTA_SET_ELEM_KEY);
    if (key == nullptr) return EINVAL;
    const NfAttrs value(key->data);
    const Attr* v = value.Get(NFTA_DATA_VALUE);
    if (v == nullptr || v->size() != s->key_size) return EINVAL;
    const bool end = (e.Be32(NFTA_SET_ELEM_FLAGS) & net::kNftElemIntervalEnd) != 0;
    const NftElement* found = end ? s->FindEnd(v->data) : s->Find(v->data, out.now());
    if (found == nullptr) return ENOENT;
    out.One(NFT_MSG_NEWSETELEM, family, [&](Builder& b) {
      b.Text(NFTA_SET_ELEM_LIST_TABLE, t->name);
      b.Text(NFTA_SET_ELEM_LIST_SET, s->name);
      const size_t nest = b.Nest(Nested(NFTA_SET_ELEM_LIST_ELEMENTS));
      PutElement(b, *s, *found, out.now());
      b.Unnest(nest);
    });
  }
  return 0;
}

void PutGeneration(Builder& b, uint32_t generation, Task& t) {
  b.Put(nfgenmsg{AF_UNSPEC, NFNETLINK_V0, __builtin_bswap16(static_cast<uint16_t>(generation))});
  b.Be32(NFTA_GEN_ID, generation);
  b.Be32(NFTA_GEN_PROC_PID, static_cast<uint32_t>(t.tgid()));
  b.Text(NFTA_GEN_PROC_NAME, t.comm());
}

}  // namespace

Result<void> NftGet(Context& c) {
  const nfgenmsg g = ReadAs<nfgenmsg>(c.message.payload);
  const NftFamily family = static_cast<NftFamily>(g.nfgen_family);
  const NfAttrs a(c.message.payload.subspan(sizeof(nfgenmsg)));
  const int message = c.message.header.type & 0xff;
  const bool dump = (c.message.header.flags & NLM_F_DUMP) == NLM_F_DUMP;
  if (message == NFT_MSG_GETGEN) {
    const uint32_t generation = c.stack().LookAtNft([](NftRuleset& r) { return r.generation; });
    c.Answer(Type(NFT_MSG_NEWGEN), 0, [&](Builder& b) { PutGeneration(b, generation, c.task); });
    return {};
  }
  switch (message) {
    case NFT_MSG_GETTABLE: case NFT_MSG_GETCHAIN: case NFT_MSG_GETRULE: case NFT_MSG_GETSET:
    case NFT_MSG_GETSETELEM: case NFT_MSG_GETOBJ: case NFT_MSG_GETOBJ_RESET: case NFT_MSG_GETFLOWTABLE: break;
    default: return Errno(EINVAL);
  }
  const net::TimePoint now = c.stack().Now();
  const uint32_t port = c.port();
  int error = 0;
  std::vector<uint8_t> bytes = c.stack().LookAtNft([&](NftRuleset& rules) {
    Answers out(c, rules, now, dump);
    out.SetPort(port);
    if (message == NFT_MSG_GETSETELEM) {
      error = Elements(out, rules, family, a);
      return out.Take();
    }
    const Attr* table = a.Get(TableAttr(message));
    if (!dump && table == nullptr) {
      error = EINVAL;
      return out.Take();
    }
    for (const NftTable& t : rules.tables) {
      if (family != NftFamily::kUnspec && t.family != family) continue;
      if (Named(table, t.name)) FromTable(out, message, t, a, !dump);
    }
    if (!dump && !out.any()) error = ENOENT;
    return out.Take();
  });
  if (dump) {
    if (error != 0) return Errno(error);
    return c.Dump(std::move(bytes));
  }
  if (error != 0) return Errno(error);
  c.Send(std::move(bytes));
  return {};
}

void NotifyNftGeneration(NetNamespace& net, Task& t) {
  if (!HasListeners(&net, NETLINK_NETFILTER, NFNLGRP_NFTABLES)) return;
  const uint32_t generation = net.stack().LookAtNft([](NftRuleset& r) { return r.generation; });
  Builder b;
  b.Begin(Type(NFT_MSG_NEWGEN), 0, 0, 0);
  PutGeneration(b, generation, t);
  b.End();
  Multicast(&net, NETLINK_NETFILTER, NFNLGRP_NFTABLES, b.Take());
}

}  // namespace ringwall::netlink
