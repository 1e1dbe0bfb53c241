// Sets, their elements, named objects, and what expressions say of them by name or number.
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>

#include "fs/netlink/nftables.h"
#include "fs/netlink/nftables_parse.h"
#include "netstack/stack.h"

namespace ringwall::netlink {
namespace {

using net::NftElement;
using net::NftObject;
using net::NftSet;
using net::NftTable;

constexpr size_t kMostSets = 65536, kMostElements = 1 << 20;

std::vector<uint8_t> Contents(const Attr* a) {
  return a == nullptr ? std::vector<uint8_t>() : std::vector<uint8_t>(a->data.begin(), a->data.end());
}

// NFT_OBJECT_* by the expression that does its work.
const char* ObjectKind(uint32_t type) {
  switch (type) {
    case NFT_OBJECT_COUNTER: return "counter";
    case NFT_OBJECT_QUOTA: return "quota";
    case NFT_OBJECT_LIMIT: return "limit";
    default: return nullptr;
  }
}

}  // namespace

Result<NftSet*> NftTransaction::FindSet(NftTable& t, const Attr* name, const Attr* id) {
  if (name == nullptr && id == nullptr) return Errno(EINVAL);
  NftSet* s = name == nullptr ? nullptr : t.FindSet(name->Text());
  if (s == nullptr && id != nullptr) {
    for (auto& [n, set] : t.sets) {
      if (set.id != 0 && set.id == id->Be32()) s = &set;
    }
  }
  if (s == nullptr) return Errno(ENOENT);
  return s;
}

Result<void> NftTransaction::ReadVerdict(NftTable& t, const Attr& data, net::NftVerdict* out) {
  const NfAttrs outer(data.data);
  const Attr* verdict = outer.Get(NFTA_DATA_VERDICT);
  if (verdict == nullptr) return Errno(EINVAL);
  const NfAttrs v(verdict->data);
  if (v.Get(NFTA_VERDICT_CODE) == nullptr) return Errno(EINVAL);
  out->code = static_cast<int32_t>(v.Be32(NFTA_VERDICT_CODE));
  switch (out->code) {
    case net::kNftAccept:
    case net::kNftDrop:
    case net::kNftContinue:
    case net::kNftBreak:
    case net::kNftReturn: return {};
    case net::kNftJump:
    case net::kNftGoto: break;
    default:
      if ((out->code & 0xff) == 3) return {};  // NF_QUEUE, which nobody reads
      return Errno(EINVAL);
  }
  if (const Attr* chain = v.Get(NFTA_VERDICT_CHAIN)) {
    out->chain = chain->Text();
  } else if (const Attr* id = v.Get(NFTA_VERDICT_CHAIN_ID)) {
    const auto named = chain_ids_.find(id->Be32());
    if (named == chain_ids_.end()) return Errno(ENOENT);
    out->chain = named->second;
  } else {
    return Errno(EINVAL);
  }
  const net::NftChain* to = t.FindChain(out->chain);
  if (to == nullptr) return Errno(ENOENT);
  if (to->base) return Errno(EOPNOTSUPP);
  return {};
}

Result<Ref<net::NftExpr>> NftTransaction::ReadExpr(NftTable& t, const Attr& element) {
  const NfAttrs a(element.data);
  const Attr* kind = a.Get(NFTA_EXPR_NAME);
  if (kind == nullptr) return Errno(EINVAL);
  const Attr* data = a.Get(NFTA_EXPR_DATA);
  class Names final : public NftNames {
   public:
    Names(NftTransaction& owner, NftTable& table) : owner_(owner), t_(table) {}
    Result<const NftSet*> Set(const Attr* name, const Attr* id) override {
      const NftSet* s = TRY(owner_.FindSet(t_, name, id));
      return s;
    }
    Result<void> Verdict(const Attr& d, net::NftVerdict* out) override { return owner_.ReadVerdict(t_, d, out); }
    Result<Ref<net::NftExpr>> Expr(const Attr& e) override { return owner_.ReadExpr(t_, e); }
    bool HasObject(std::string_view name) override { return t_.FindObject(name) != nullptr; }

   private:
    NftTransaction& owner_;
    NftTable& t_;
  };
  Names names(*this, t);
  Ref<net::NftExpr> e = TRY(ParseNftExpr(kind->Text(), data == nullptr ? Bytes() : data->data, t.family, names));
  if (e->name == "dynset") {
    // What packets may fill has a bound.
    NftSet* s = t.FindSet(e->SetName());
    if (s != nullptr && s->limit == 0) s->limit = 65535;
  }
  return e;
}

Result<void> NftTransaction::NewSet(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_SET_TABLE)));
  const Attr* name = a.Get(NFTA_SET_NAME);
  const Attr* id = a.Get(NFTA_SET_ID);
  if (name == nullptr || a.Get(NFTA_SET_KEY_LEN) == nullptr || id == nullptr) return Errno(EINVAL);
  NftSet s;
  s.flags = a.Be32(NFTA_SET_FLAGS);
  if ((s.flags & ~0x1ffu) != 0) return Errno(EOPNOTSUPP);
  s.id = id->Be32();
  s.key_type = a.Be32(NFTA_SET_KEY_TYPE);
  s.key_size = a.Be32(NFTA_SET_KEY_LEN);
  if (s.key_size == 0 || s.key_size > net::kNftRegBytes) return Errno(EINVAL);
  const bool map = (s.flags & net::kNftSetMap) != 0, object = (s.flags & net::kNftSetObject) != 0;
  if (map && object) return Errno(EOPNOTSUPP);
  if (map) {
    if (a.Get(NFTA_SET_DATA_TYPE) == nullptr) return Errno(EINVAL);
    s.data_type = a.Be32(NFTA_SET_DATA_TYPE);
    s.data_size = s.verdicts() ? 16 : a.Be32(NFTA_SET_DATA_LEN);
    if (s.data_size == 0 || s.data_size > net::kNftRegBytes) return Errno(EINVAL);
  } else if (a.Get(NFTA_SET_DATA_TYPE) != nullptr && !object) {
    return Errno(EINVAL);
  }
  if (object) {
    s.object_type = a.Be32(NFTA_SET_OBJ_TYPE);
    if (s.object_type == 0) return Errno(EINVAL);
  }
  s.timeout_ms = a.Be64(NFTA_SET_TIMEOUT);
  if (s.timeout_ms != 0 && (s.flags & net::kNftSetTimeout) == 0) return Errno(EINVAL);
  s.gc_interval = a.Be32(NFTA_SET_GC_INTERVAL);
  s.policy = a.Be32(NFTA_SET_POLICY);
  s.userdata = Contents(a.Get(NFTA_SET_USERDATA));
  if (const Attr* desc = a.Get(NFTA_SET_DESC)) {
    s.desc = Contents(desc);
    const NfAttrs d(desc->data);
    s.limit = d.Be32(NFTA_SET_DESC_SIZE);
    if (const Attr* concat = d.Get(NFTA_SET_DESC_CONCAT)) {
      AttrWalk walk(concat->data);
      size_t total = 0;
      while (std::optional<Attr> field = walk.Next()) {
        const uint32_t n = NfAttrs(field->data).Be32(NFTA_SET_FIELD_LEN);
        if (n == 0 || n > 16) return Errno(EINVAL);
        s.fields.push_back(static_cast<uint8_t>(n));
        total += (n + 3) & ~3u;
      }
      if (s.fields.size() > 1 && total != s.key_size) return Errno(EINVAL);
    }
  }
  if (const Attr* one = a.Get(NFTA_SET_EXPR)) {
    Ref<net::NftExpr> e = TRY(ReadExpr(*t, *one));
    s.exprs.push_back(std::move(e));
  } else if (const Attr* list = a.Get(NFTA_SET_EXPRESSIONS)) {
    s.exprs = TRY(ReadExprs(*t, *list));
  }
  s.name = name->Text();
  if (NftSet* have = t->FindSet(s.name)) {
    if ((r.flags & NLM_F_EXCL) != 0) return r.ack.FailAt(EEXIST, nullptr, name);
    if ((r.flags & NLM_F_REPLACE) != 0) return Errno(EOPNOTSUPP);
    have->id = s.id;
    return {};
  }
  if ((r.flags & NLM_F_CREATE) == 0) return Errno(ENOENT);
  if (t->sets.size() >= kMostSets) return Errno(EMFILE);
  // "__set%d" is for the kernel to number.
  if (const size_t at = s.name.find("%d"); at != std::string::npos) {
    const std::string before = s.name.substr(0, at), after = s.name.substr(at + 2);
    for (uint32_t n = 0;; n++) {
      s.name = before + std::to_string(n) + after;
      if (t->FindSet(s.name) == nullptr) break;
    }
  }
  s.handle = t->next_handle++;
  t->set_order.push_back(s.name);
  const std::string key = s.name;
  t->sets.emplace(key, std::move(s));
  return {};
}

Result<void> NftTransaction::DelSet(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_SET_TABLE)));
  NftSet* s = nullptr;
  if (const Attr* handle = a.Get(NFTA_SET_HANDLE)) {
    for (auto& [n, set] : t->sets) {
      if (set.handle == handle->Be64()) s = &set;
    }
    if (s == nullptr) return Errno(ENOENT);
  } else {
    s = TRY(FindSet(*t, a.Get(NFTA_SET_NAME), nullptr));
  }
  if (t->SetUses(s->name) != 0) return Errno(EBUSY);
  if ((r.flags & NLM_F_NONREC) != 0 && s->size() != 0) return Errno(EBUSY);
  const std::string name = s->name;
  t->sets.erase(name);
  std::erase(t->set_order, name);
  return {};
}

// ---- Elements ----

Result<NftElement> NftTransaction::ReadElement(NftTable& t, const NftSet& s, const Attr& element,
                                               bool with_data) {
  const NfAttrs a(element.data);
  NftElement e;
  e.flags = a.Be32(NFTA_SET_ELEM_FLAGS);
  if ((e.flags & ~3u) != 0) return Errno(EOPNOTSUPP);
  const auto key = [&](const Attr& from, std::vector<uint8_t>* to) -> Result<void> {
    const NfAttrs d(from.data);
    const Attr* v = d.Get(NFTA_DATA_VALUE);
    if (v == nullptr || v->size() != s.key_size) return Errno(EINVAL);
    to->assign(v->data.begin(), v->data.end());
    return {};
  };
  if ((e.flags & net::kNftElemCatchall) == 0) {
    const Attr* k = a.Get(NFTA_SET_ELEM_KEY);
    if (k == nullptr) return Errno(EINVAL);
    TRY(key(*k, &e.key));
  } else if (a.Get(NFTA_SET_ELEM_KEY) != nullptr) {
    return Errno(EINVAL);
  }
  if ((e.flags & net::kNftElemIntervalEnd) != 0 && (s.flags & net::kNftSetInterval) == 0) return Errno(EINVAL);
  if (const Attr* end = a.Get(NFTA_SET_ELEM_KEY_END)) {
    TRY(key(*end, &e.key_end));
  }
  if (!with_data) return e;
  const Attr* data = a.Get(NFTA_SET_ELEM_DATA);
  const bool ends = (e.flags & net::kNftElemIntervalEnd) != 0;
  if ((s.flags & net::kNftSetMap) != 0) {
    if ((data == nullptr) != ends) return Errno(EINVAL);
  } else if (data != nullptr) {
    return Errno(EINVAL);
  }
  if (data != nullptr) {
    if (s.verdicts()) {
      TRY(ReadVerdict(t, *data, &e.verdict));
    } else {
      const NfAttrs d(data->data);
      const Attr* v = d.Get(NFTA_DATA_VALUE);
      if (v == nullptr || v->size() != s.data_size) return Errno(EINVAL);
      e.data.assign(v->data.begin(), v->data.end());
    }
  }
  if ((s.flags & net::kNftSetObject) != 0 && !ends) {
    const Attr* object = a.Get(NFTA_SET_ELEM_OBJREF);
    if (object == nullptr) return Errno(EINVAL);
    const NftObject* o = t.FindObject(object->Text());
    if (o == nullptr || o->type != s.object_type) return Errno(ENOENT);
    e.object = o->name;
  }
  uint64_t timeout = s.timeout_ms;
  if (a.Get(NFTA_SET_ELEM_TIMEOUT) != nullptr) {
    if ((s.flags & net::kNftSetTimeout) == 0) return Errno(EINVAL);
    timeout = a.Be64(NFTA_SET_ELEM_TIMEOUT);
  }
  if (timeout > (uint64_t{1} << 40)) return Errno(ERANGE);
  if (timeout != 0 && !ends) {
    e.timeout = net::Duration::Millis(static_cast<int64_t>(timeout));
    const uint64_t left = std::min(a.Be64(NFTA_SET_ELEM_EXPIRATION, timeout), timeout);
    e.expires = stack_.now() + net::Duration::Millis(static_cast<int64_t>(left));
  }
  e.userdata = Contents(a.Get(NFTA_SET_ELEM_USERDATA));
  if (const Attr* one = a.Get(NFTA_SET_ELEM_EXPR)) {
    Ref<net::NftExpr> x = TRY(ReadExpr(t, *one));
    e.exprs.push_back(std::move(x));
  } else if (const Attr* list = a.Get(NFTA_SET_ELEM_EXPRESSIONS)) {
    e.exprs = TRY(ReadExprs(t, *list));
  } else if (!ends) {
    for (const Ref<net::NftExpr>& x : s.exprs) {
      if (RefPtr<net::NftExpr> copy = x->Clone()) e.exprs.push_back(Ref<net::NftExpr>(*copy));
    }
  }
  return e;
}

Result<void> NftTransaction::NewElements(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_SET_ELEM_LIST_TABLE)));
  NftSet* s = TRY(FindSet(*t, a.Get(NFTA_SET_ELEM_LIST_SET), a.Get(NFTA_SET_ELEM_LIST_SET_ID)));
  const Attr* list = a.Get(NFTA_SET_ELEM_LIST_ELEMENTS);
  if (list == nullptr) return Errno(EINVAL);
  // A constant set is filled in the batch that makes it.
  if ((s->flags & net::kNftSetConstant) != 0 && t->SetUses(s->name) != 0) return Errno(EBUSY);
  bool verdicts = false;
  AttrWalk walk(list->data);
  while (std::optional<Attr> element = walk.Next()) {
    NftElement e = TRY(ReadElement(*t, *s, *element, true));
    verdicts |= !e.verdict.chain.empty();
    const bool counts = (e.flags & net::kNftElemIntervalEnd) == 0;
    if (counts && s->limit != 0 && s->size() >= s->limit + ((s->flags & net::kNftSetInterval) != 0 ? s->limit : 0)) {
      return Errno(ENFILE);
    }
    if (s->size() >= kMostElements) return Errno(ENFILE);
    if ((e.flags & net::kNftElemCatchall) != 0) {
      if (s->catchall && (r.flags & NLM_F_EXCL) != 0) return r.ack.FailAt(EEXIST, nullptr, &*element);
      if (!s->catchall) s->catchall = std::move(e);
      continue;
    }
    const NftSet::Key key{e.key, counts};
    const auto have = s->elements.find(key);
    if (have != s->elements.end() && have->second.expires > stack_.now()) {
      const bool same = have->second.data == e.data && have->second.verdict.code == e.verdict.code &&
                        have->second.verdict.chain == e.verdict.chain && have->second.object == e.object &&
                        have->second.key_end == e.key_end;
      if (!same || (r.flags & NLM_F_EXCL) != 0) return r.ack.FailAt(EEXIST, nullptr, &*element);
      continue;
    }
    s->elements.insert_or_assign(key, std::move(e));
  }
  if (verdicts) {
    net::NetResult<void> valid = rules_.Validate();
    if (!valid.ok()) return net::ToErrno(valid.error());
  }
  return {};
}

Result<void> NftTransaction::DelElements(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_SET_ELEM_LIST_TABLE)));
  NftSet* s = TRY(FindSet(*t, a.Get(NFTA_SET_ELEM_LIST_SET), nullptr));
  if ((s->flags & net::kNftSetConstant) != 0) return Errno(EBUSY);
  const Attr* list = a.Get(NFTA_SET_ELEM_LIST_ELEMENTS);
  if (list == nullptr) {
    s->elements.clear();
    s->catchall.reset();
    return {};
  }
  AttrWalk walk(list->data);
  while (std::optional<Attr> element = walk.Next()) {
    NftElement e = TRY(ReadElement(*t, *s, *element, false));
    if ((e.flags & net::kNftElemCatchall) != 0) {
      if (!s->catchall) return r.ack.FailAt(ENOENT, nullptr, &*element);
      s->catchall.reset();
      continue;
    }
    if (s->elements.erase({e.key, (e.flags & net::kNftElemIntervalEnd) == 0}) == 0) {
      return r.ack.FailAt(ENOENT, nullptr, &*element);
    }
  }
  return {};
}

// ---- Objects ----

Result<void> NftTransaction::NewObject(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_OBJ_TABLE)));
  const Attr* name = a.Get(NFTA_OBJ_NAME);
  const Attr* data = a.Get(NFTA_OBJ_DATA);
  if (name == nullptr || data == nullptr || a.Get(NFTA_OBJ_TYPE) == nullptr) return Errno(EINVAL);
  NftObject o;
  o.type = a.Be32(NFTA_OBJ_TYPE);
  const char* kind = ObjectKind(o.type);
  if (kind == nullptr) return Errno(EOPNOTSUPP);
  o.name = name->Text();
  if (t->FindObject(o.name) != nullptr) {
    if ((r.flags & NLM_F_EXCL) != 0) return r.ack.FailAt(EEXIST, nullptr, name);
    if ((r.flags & NLM_F_REPLACE) != 0) return Errno(EOPNOTSUPP);
    return {};
  }
  Builder element;
  element.Text(NFTA_EXPR_NAME, kind);
  element.Attribute(NFTA_EXPR_DATA, data->data);
  Attr wrapped;
  wrapped.data = element.bytes();
  Ref<net::NftExpr> e = TRY(ReadExpr(*t, wrapped));
  o.expr = std::move(e);
  o.userdata = Contents(a.Get(NFTA_OBJ_USERDATA));
  o.handle = t->next_handle++;
  const std::string key = o.name;
  t->objects.emplace(key, std::move(o));
  return {};
}

Result<void> NftTransaction::DelObject(const Request& r, const NfAttrs& a) {
  NftTable* t = TRY(FindTable(r, a.Get(NFTA_OBJ_TABLE)));
  const Attr* name = a.Get(NFTA_OBJ_NAME);
  const Attr* handle = a.Get(NFTA_OBJ_HANDLE);
  if (name == nullptr && handle == nullptr) return Errno(EINVAL);
  const auto it = std::find_if(t->objects.begin(), t->objects.end(), [&](const auto& kv) {
    return handle != nullptr ? kv.second.handle == handle->Be64() : kv.first == name->Text();
  });
  if (it == t->objects.end()) return Errno(ENOENT);
  if (t->ObjectUses(it->first) != 0) return Errno(EBUSY);
  t->objects.erase(it);
  return {};
}

}  // namespace ringwall::netlink
