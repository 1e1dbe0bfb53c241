#include "fs/netlink/nftables.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>

#include "fs/netlink/nftables_parse.h"
#include "netstack/stack.h"

namespace ringwall::netlink {
namespace {

using net::NftChain;
using net::NftFamily;
using net::NftRule;
using net::NftTable;

constexpr size_t kMostTables = 1024, kMostChains = 65536, kMostRules = 1 << 17, kMostExprs = 128,
                 kMostDevices = 256;  // NFT_NETDEVICE_MAX

bool Known(NftFamily f) {
  return f == NftFamily::kInet || f == NftFamily::kIp || f == NftFamily::kIp6 || f == NftFamily::kArp ||
         f == NftFamily::kBridge || f == NftFamily::kNetdev;
}

std::vector<uint8_t> Contents(const Attr* a) {
  return a == nullptr ? std::vector<uint8_t>() : std::vector<uint8_t>(a->data.begin(), a->data.end());
}

void Forget(std::vector<std::string>& order, const std::string& name) { std::erase(order, name); }

}  // namespace

Result<void> NftTransaction::Apply(const Message& m, ExtAck& ack) {
  const nfgenmsg g = ReadAs<nfgenmsg>(m.payload);
  const NfAttrs a(m.payload.subspan(sizeof(nfgenmsg)));
  const Request r{m, ack, static_cast<NftFamily>(g.nfgen_family), m.header.flags};
  switch (m.header.type & 0xff) {
    case NFT_MSG_NEWTABLE: return NewTable(r, a);
    case NFT_MSG_DELTABLE: return DelTable(r, a);
    case NFT_MSG_NEWCHAIN: return NewChain(r, a);
    case NFT_MSG_DELCHAIN: return DelChain(r, a);
    case NFT_MSG_NEWRULE: return NewRule(r, a);
    case NFT_MSG_DELRULE: return DelRule(r, a);
    case NFT_MSG_NEWSET: return NewSet(r, a);
    case NFT_MSG_DELSET: return DelSet(r, a);
    case NFT_MSG_NEWSETELEM: return NewElements(r, a);
    case NFT_MSG_DELSETELEM: return DelElements(r, a);
    case NFT_MSG_NEWOBJ: return NewObject(r, a);
    case NFT_MSG_DELOBJ: return DelObject(r, a);
    case NFT_MSG_NEWFLOWTABLE:
    case NFT_MSG_DELFLOWTABLE: return Errno(EOPNOTSUPP);
    default: return Errno(EINVAL);
  }
}

void NftTransaction::Finish() {
  for (NftTable& t : rules_.tables) {
    std::vector<std::string> gone;
    for (const auto& [name, s] : t.sets) {
      if ((s.flags & net::kNftSetAnonymous) != 0 && t.SetUses(name) == 0) gone.push_back(name);
    }
    for (const std::string& name : gone) {
      t.sets.erase(name);
      Forget(t.set_order, name);
    }
  }
}

Result<NftTable*> NftTransaction::FindTable(const Request& r, const Attr* name) {
  if (name == nullptr) return Errno(EINVAL);
  NftTable* t = rules_.Find(r.family, name->Text());
  if (t == nullptr) return r.ack.FailAt(ENOENT, nullptr, name);
  return t;
}

Result<NftChain*> NftTransaction::FindChain(const Request& r, NftTable& t, const Attr* name,
                                            const Attr* handle) {
  if (handle != nullptr && handle->size() >= 8) {
    for (auto& [n, c] : t.chains) {
      if (c.handle == handle->Be64()) return &c;
    }
    return r.ack.FailAt(ENOENT, nullptr, handle);
  }
  if (name == nullptr) return Errno(EINVAL);
  NftChain* c = t.FindChain(name->Text());
  if (c == nullptr) return r.ack.FailAt(ENOENT, nullptr, name);
  return c;
}

// ---- Tables ----

Result<void> NftTransaction::NewTable(const Request& r, const NfAttrs& a) {
  if (!Known(r.family)) return Errno(EOPNOTSUPP);
  const Attr* name = a.Get(NFTA_TABLE_NAME);
  if (name == nullptr || name->Text().empty()) return Errno(EINVAL);
  const uint32_t flags = a.Be32(NFTA_TABLE_FLAGS);
  if ((flags & ~uint32_t{NFT_TABLE_F_DORMANT}) != 0) return Errno(EOPNOTSUPP);
  if (NftTable* t = rules_.Find(r.family, name->Text())) {
    if ((r.flags & NLM_F_EXCL) != 0) return r.ack.FailAt(EEXIST, nullptr, name);
    if ((r.flags & NLM_F_REPLACE) != 0) return Errno(EOPNOTSUPP);
    if (a.Get(NFTA_TABLE_FLAGS) != nullptr) t->flags = flags;
    return {};
  }
  if (rules_.tables.size() >= kMostTables) return Errno(ENOMEM);
  NftTable t;
  t.family = r.family;
  t.name = name->Text();
  t.handle = rules_.next_handle++;
  t.flags = flags;
  t.userdata = Contents(a.Get(NFTA_TABLE_USERDATA));
  rules_.tables.push_back(std::move(t));
  return {};
}

Result<void> NftTransaction::DelTable(const Request& r, const NfAttrs& a) {
  const Attr* name = a.Get(NFTA_TABLE_NAME);
  const Attr* handle = a.Get(NFTA_TABLE_HANDLE);
  if (r.family == NftFamily::kUnspec || (name == nullptr && handle == nullptr)) {
    std::erase_if(rules_.tables, [&](const NftTable& t) {
      return (r.family == NftFamily::kUnspec || t.family == r.family) &&
             (name == nullptr || t.name == name->Text());
    });
    return {};
  }
  const auto it = std::find_if(rules_.tables.begin(), rules_.tables.end(), [&](const NftTable& t) {
    if (t.family != r.family) return false;
    return handle != nullptr ? t.handle == handle->Be64() : t.name == name->Text();
  });
  if (it == rules_.tables.end()) return r.ack.FailAt(ENOENT, nullptr, handle != nullptr ? handle : name);
  if ((r.flags & NLM_F_NONREC) != 0 && !(it->chains.empty() && it->sets.empty() && it->objects.empty())) {
    return Errno(EBUSY);
  }
  rules_.tables.erase(it);
  return {};
}

// ---- Chains ----

// nft_chain_parse_hook()
Result<void> NftTransaction::ReadHook(const Request& r, const Attr& hook, const Attr* type, NftChain& c) {
  const NftFamily family = r.family;
  const NfAttrs h(hook.data);
  if (h.Get(NFTA_HOOK_HOOKNUM) == nullptr) return Errno(EINVAL);
  const uint32_t number = h.Be32(NFTA_HOOK_HOOKNUM);
  c.type = type == nullptr ? "filter" : std::string(type->Text());
  const bool ip = family == NftFamily::kIp || family == NftFamily::kIp6 || family == NftFamily::kInet;
  if (c.type != "filter" && (!ip || (c.type != "nat" && c.type != "route"))) {
    return r.ack.FailAt(ENOENT, nullptr, type);
  }
  if (type != nullptr && h.Get(NFTA_HOOK_PRIORITY) == nullptr) return Errno(EINVAL);
  uint32_t hooks = net::kHooks;
  if (family == NftFamily::kInet && c.type == "filter") hooks = net::kNftInetIngress + 1;
  if (family == NftFamily::kArp || family == NftFamily::kNetdev) hooks = 2;
  if (number >= hooks) return Errno(EOPNOTSUPP);
  const int32_t priority = static_cast<int32_t>(h.Be32(NFTA_HOOK_PRIORITY));
  if (c.type == "nat" && (number == 2 || priority <= -200)) return Errno(EOPNOTSUPP);
  if (c.type == "route" && number != 3) return Errno(EOPNOTSUPP);
  c.base = net::NftHook{static_cast<net::Hook>(number), number, priority, {}};
  const bool devices = family == NftFamily::kNetdev || (family == NftFamily::kInet && number == net::kNftInetIngress);
  const Attr* one = h.Get(NFTA_HOOK_DEV);
  const Attr* list = h.Get(NFTA_HOOK_DEVS);
  if (!devices) return one != nullptr || list != nullptr ? Result<void>(Errno(EOPNOTSUPP)) : Result<void>();
  std::vector<std::string>& names = c.base->devices;
  const auto add = [&](const Attr& a) -> Result<void> {
    if (stack_.FindInterface(a.Text()) == nullptr) return r.ack.FailAt(ENOENT, nullptr, &a);
    if (std::find(names.begin(), names.end(), a.Text()) != names.end()) return Errno(EEXIST);
    if (names.size() >= kMostDevices) return Errno(EFBIG);
    names.emplace_back(a.Text());
    return {};
  };
  if (one != nullptr) return add(*one);
  if (list == nullptr) return Errno(EINVAL);
  AttrWalk walk(list->data);
  while (std::optional<Attr> a = walk.Next()) {
    if (a->type != NFTA_DEVICE_NAME) return Errno(EINVAL);
    TRY(add(*a));
  }
  return names.empty() ? Result<void>(Errno(EINVAL)) : Result<void>();
}

Result<void> NftTransaction::NewChain(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_CHAIN_TABLE)));
  const Attr* name = a.Get(NFTA_CHAIN_NAME);
  const Attr* handle = a.Get(NFTA_CHAIN_HANDLE);
  const Attr* id = a.Get(NFTA_CHAIN_ID);
  NftChain* c = nullptr;
  if (handle != nullptr) {
    c = TRY(FindChain(r, *t, nullptr, handle));
  } else if (name != nullptr) {
    if (name->Text().empty()) return Errno(EINVAL);
    c = t->FindChain(name->Text());
  } else if (id == nullptr) {
    return Errno(EINVAL);
  }
  const Attr* policy = a.Get(NFTA_CHAIN_POLICY);
  const Attr* hook = a.Get(NFTA_CHAIN_HOOK);
  if (policy != nullptr) {
    if (policy->size() < 4 || policy->Be32() > 1) return Errno(EINVAL);
    if (c != nullptr ? !c->base : hook == nullptr) return Errno(EOPNOTSUPP);
  }
  if (c != nullptr) {
    if ((r.flags & NLM_F_EXCL) != 0) return r.ack.FailAt(EEXIST, nullptr, name);
    if ((r.flags & NLM_F_REPLACE) != 0) return Errno(EOPNOTSUPP);
    if (hook != nullptr) {
      if (!c->base) return Errno(EEXIST);
      NftChain asked;
      TRY(ReadHook(r, *hook, a.Get(NFTA_CHAIN_TYPE), asked));
      if (asked.type != c->type || asked.base->number != c->base->number ||
          asked.base->priority != c->base->priority) {
        return Errno(EEXIST);
      }
      // More devices for a chain that has some.
      for (std::string& name : asked.base->devices) {
        std::vector<std::string>& have = c->base->devices;
        if (std::find(have.begin(), have.end(), name) == have.end()) have.push_back(std::move(name));
      }
    }
    if (policy != nullptr) c->policy = static_cast<int32_t>(policy->Be32());
    if (handle != nullptr && name != nullptr && c->name != name->Text()) {
      if (c->base) return Errno(EOPNOTSUPP);
      if (t->FindChain(name->Text()) != nullptr) return Errno(EEXIST);
      if (t->ChainUses(*c) != c->rules.size()) return Errno(EBUSY);  // jumps name it
      NftChain moved = std::move(*c);
      const std::string before = moved.name;
      t->chains.erase(before);
      moved.name = name->Text();
      std::replace(t->chain_order.begin(), t->chain_order.end(), before, moved.name);
      t->chains.emplace(moved.name, std::move(moved));
    }
    return {};
  }
  if (t->chains.size() >= kMostChains) return Errno(EMFILE);
  NftChain fresh;
  fresh.handle = t->next_handle++;
  fresh.name = name != nullptr ? std::string(name->Text()) : "__chain" + std::to_string(fresh.handle);
  fresh.flags = a.Be32(NFTA_CHAIN_FLAGS);
  fresh.userdata = Contents(a.Get(NFTA_CHAIN_USERDATA));
  if (hook != nullptr) {
    TRY(ReadHook(r, *hook, a.Get(NFTA_CHAIN_TYPE), fresh));
    fresh.flags |= NFT_CHAIN_BASE;
  }
  if (policy != nullptr) fresh.policy = static_cast<int32_t>(policy->Be32());
  if (const Attr* counters = a.Get(NFTA_CHAIN_COUNTERS)) {
    const NfAttrs n(counters->data);
    fresh.counted = true;
    fresh.packets = n.Be64(NFTA_COUNTER_PACKETS);
    fresh.bytes = n.Be64(NFTA_COUNTER_BYTES);
  }
  if (id != nullptr) chain_ids_[id->Be32()] = fresh.name;
  t->chain_order.push_back(fresh.name);
  const std::string key = fresh.name;
  t->chains.emplace(key, std::move(fresh));
  return {};
}

Result<void> NftTransaction::DelChain(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_CHAIN_TABLE)));
  NftChain* c = TRY(FindChain(r, *t, a.Get(NFTA_CHAIN_NAME), a.Get(NFTA_CHAIN_HANDLE)));
  if ((r.flags & NLM_F_NONREC) != 0 && !c->rules.empty()) return Errno(EBUSY);
  std::vector<Ref<NftRule>> rules = std::move(c->rules);
  c->rules.clear();
  if (t->ChainUses(*c) != 0) {
    c->rules = std::move(rules);
    return r.ack.FailAt(EBUSY, nullptr, a.Get(a.Get(NFTA_CHAIN_HANDLE) != nullptr ? NFTA_CHAIN_HANDLE : NFTA_CHAIN_NAME));
  }
  const std::string name = c->name;
  t->chains.erase(name);
  Forget(t->chain_order, name);
  return {};
}

// ---- Rules ----

Result<std::vector<Ref<net::NftExpr>>> NftTransaction::ReadExprs(NftTable& t, const Attr& list) {
  std::vector<Ref<net::NftExpr>> out;
  AttrWalk walk(list.data);
  while (std::optional<Attr> element = walk.Next()) {
    if (element->type != NFTA_LIST_ELEM || out.size() >= kMostExprs) return Errno(EINVAL);
    Ref<net::NftExpr> e = TRY(ReadExpr(t, *element));
    out.push_back(std::move(e));
  }
  return out;
}

Result<void> NftTransaction::NewRule(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_RULE_TABLE)));
  NftChain* c = nullptr;
  if (const Attr* id = a.Get(NFTA_RULE_CHAIN_ID); id != nullptr && a.Get(NFTA_RULE_CHAIN) == nullptr) {
    const auto named = chain_ids_.find(id->Be32());
    c = named == chain_ids_.end() ? nullptr : t->FindChain(named->second);
    if (c == nullptr) return r.ack.FailAt(ENOENT, nullptr, id);
  } else {
    c = TRY(FindChain(r, *t, a.Get(NFTA_RULE_CHAIN), nullptr));
  }
  const auto find = [&](uint64_t handle) {
    return std::find_if(c->rules.begin(), c->rules.end(),
                        [&](const Ref<NftRule>& x) { return x->handle == handle; });
  };
  auto at = c->rules.end();
  bool replace = false;
  if (const Attr* handle = a.Get(NFTA_RULE_HANDLE)) {
    at = find(handle->Be64());
    if (at == c->rules.end()) return r.ack.FailAt(ENOENT, nullptr, handle);
    if ((r.flags & NLM_F_EXCL) != 0) return r.ack.FailAt(EEXIST, nullptr, handle);
    if ((r.flags & NLM_F_REPLACE) == 0) return Errno(EOPNOTSUPP);
    replace = true;
  } else {
    if ((r.flags & NLM_F_CREATE) == 0 || (r.flags & NLM_F_REPLACE) != 0) return Errno(EINVAL);
    if (c->rules.size() >= kMostRules) return Errno(EMFILE);
    const bool append = (r.flags & NLM_F_APPEND) != 0;
    const Attr* position = a.Get(NFTA_RULE_POSITION);
    const Attr* position_id = a.Get(NFTA_RULE_POSITION_ID);
    if (position != nullptr) {
      at = find(position->Be64());
      if (at == c->rules.end()) return r.ack.FailAt(ENOENT, nullptr, position);
      if (append) ++at;
    } else if (position_id != nullptr) {
      const auto known = rule_ids_.find(position_id->Be32());
      if (known != rule_ids_.end()) at = find(known->second->handle);
      if (at == c->rules.end()) return r.ack.FailAt(ENOENT, nullptr, position_id);
      if (append) ++at;
    } else {
      at = append ? c->rules.end() : c->rules.begin();
    }
  }
  Ref<NftRule> rule = MakeRef<NftRule>();
  if (const Attr* exprs = a.Get(NFTA_RULE_EXPRESSIONS)) {
    rule->exprs = TRY(ReadExprs(*t, *exprs));
  }
  rule->compat = Contents(a.Get(NFTA_RULE_COMPAT));
  rule->userdata = Contents(a.Get(NFTA_RULE_USERDATA));
  if (rule->userdata.size() > NFT_USERDATA_MAXLEN) return Errno(EINVAL);
  // Translation is for chains of type nat at hooks where it can be.
  bool jumps = false;
  for (const Ref<net::NftExpr>& e : rule->exprs) {
    const bool nat = e->name == "nat" || e->name == "masq" || e->name == "redir";
    if (nat && c->base && c->type != "nat") return Errno(EOPNOTSUPP);
    if (e->name == "masq" && c->base && c->base->number != 4) return Errno(EOPNOTSUPP);
    if (e->name == "redir" && c->base && c->base->number != 0 && c->base->number != 3) return Errno(EOPNOTSUPP);
    const bool egress = r.family == NftFamily::kNetdev && c->base && c->base->number == net::kNftEgress;
    if (e->name == "reject" && egress) return Errno(EOPNOTSUPP);
    if (e->name == "tproxy" && c->base && c->base->number != 0) return Errno(EOPNOTSUPP);
    std::vector<const net::NftVerdict*> to;
    e->Chains(&to);
    jumps |= !to.empty() || !e->SetName().empty();
  }
  rule->handle = t->next_handle++;
  if (const Attr* id = a.Get(NFTA_RULE_ID)) rule_ids_.insert_or_assign(id->Be32(), rule);
  if (replace) {
    *at = std::move(rule);
  } else {
    c->rules.insert(at, std::move(rule));
  }
  if (jumps) {
    net::NetResult<void> valid = rules_.Validate();
    if (!valid.ok()) return net::ToErrno(valid.error());
  }
  return {};
}

Result<void> NftTransaction::DelRule(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_RULE_TABLE)));
  const Attr* name = a.Get(NFTA_RULE_CHAIN);
  if (name == nullptr) {
    for (auto& [n, c] : t->chains) c.rules.clear();
    return {};
  }
  NftChain* c = TRY(FindChain(r, *t, name, nullptr));
  const Attr* handle = a.Get(NFTA_RULE_HANDLE);
  const Attr* id = a.Get(NFTA_RULE_ID);
  if (handle == nullptr && id == nullptr) {
    c->rules.clear();
    return {};
  }
  uint64_t which = 0;
  if (handle != nullptr) {
    which = handle->Be64();
  } else if (auto known = rule_ids_.find(id->Be32()); known != rule_ids_.end()) {
    which = known->second->handle;
  }
  const size_t n = std::erase_if(c->rules, [&](const Ref<NftRule>& x) { return x->handle == which; });
  if (n == 0) return r.ack.FailAt(ENOENT, nullptr, handle != nullptr ? handle : id);
  return {};
}

}  // namespace ringwall::netlink
