#include "netstack/filter/netfilter.h"

#include <algorithm>

#include "netstack/stack.h"

namespace ringwall::net {
namespace {

// NF_IP_PRI_*.
constexpr int32_t kTrack = -200, kMangle = -150, kDstNat = -100, kFilter = 0,
                  kSecurity = 50, kSrcNat = 100;
constexpr uint32_t kAll = 0x1f, kFilterHooks = 0x0e, kNatHooks = 0x1b, kRawHooks = 0x09;

}  // namespace

Netfilter::Netfilter(Stack& stack) : stack_(stack), conntrack_(stack.config().ct) {
  conntrack_.SetObserver([](void* s, const Connection& c, Conntrack::Event event) {
    StackHost::Change change{StackHost::Change::Kind::kConnection};
    change.removed = event == Conntrack::Event::kDestroy;
    change.fresh = event == Conntrack::Event::kNew;
    change.connection = &c;
    static_cast<Stack*>(s)->Notify(change);
  }, &stack);
  for (Family f : {Family::kV4, Family::kV6}) {
    tables_.push_back(std::make_unique<XtTable>("raw", f, kRawHooks));
    tables_.push_back(std::make_unique<XtTable>("mangle", f, kAll));
    tables_.push_back(std::make_unique<XtTable>("nat", f, kNatHooks));
    tables_.push_back(std::make_unique<XtTable>("filter", f, kFilterHooks));
    tables_.push_back(std::make_unique<XtTable>("security", f, kFilterHooks));
  }
}

XtTable* Netfilter::Find(Family family, std::string_view name) {
  for (std::unique_ptr<XtTable>& t : tables_) {
    if (t->family() == family && t->name() == name) return t.get();
  }
  return nullptr;
}

XtTable* Netfilter::Use(Family family, std::string_view name) {
  XtTable* const t = Find(family, name);
  if (t != nullptr && std::find(in_use_.begin(), in_use_.end(), t) == in_use_.end()) in_use_.push_back(t);
  return t;
}

std::vector<std::string> Netfilter::TablesInUse(Family family) const {
  std::vector<std::string> names;
  for (const XtTable* t : in_use_) {
    if (t->family() == family) names.insert(names.begin(), t->name());
  }
  return names;
}

void Netfilter::Changed() {
  active_ = false;
  for (const std::unique_ptr<XtTable>& t : tables_) active_ = active_ || !t->idle();
  // Connections that are translated need it to the end.
  active_ = active_ || conntrack_.size() != 0 || nft_.active() || nft_.SeesDevice("lo");
}

bool Netfilter::RunTable(const char* name, Hook hook, FilterPacket& p) {
  XtTable* t = Find(p.is_v4() ? Family::kV4 : Family::kV6, name);
  if (t->idle()) return true;
  XtPacket x{p, stack_, conntrack_, hook};
  return t->Run(x) == Verdict::kAccept;
}

// nf_nat_inet_fn(): the table is asked once for a connection, then every packet is rewritten.
bool Netfilter::RunNat(Hook hook, FilterPacket& p) {
  Connection* c = p.meta.connection.get();
  if (c == nullptr) return true;
  const bool source = hook == Hook::kPostRouting || hook == Hook::kLocalIn;
  const uint32_t done = source ? kCtSrcNatDone : kCtDstNatDone;
  if (p.meta.info == CtInfo::kNew && (c->status & (done | kCtConfirmed)) == 0) {
    XtTable* t = Find(p.is_v4() ? Family::kV4 : Family::kV6, "nat");
    XtPacket x{p, stack_, conntrack_, hook, true};
    if (!t->idle() && t->Run(x) != Verdict::kAccept) return false;
    if (!x.translated && nft_.active()) {
      NftTable none;
      NftPacket n{p, stack_, conntrack_, hook, none, WallSeconds()};
      if (!nft_.RunNat(n)) return false;
      x.translated = n.translated;
    }
    if (!x.translated && !conntrack_.SetUp(*c, {}, source, stack_.Random64())) return false;
  }
  conntrack_.Translate(p, source);
  return true;
}

bool Netfilter::RunNft(Hook hook, FilterPacket& p, int32_t from, int32_t to) {
  if (!nft_.active()) return true;
  NftTable none;
  NftPacket n{p, stack_, conntrack_, hook, none, WallSeconds()};
  return nft_.Run(n, from, to);
}

bool Netfilter::RunLink(NftFamily layer, uint32_t number, FilterPacket& p) {
  NftTable none;
  NftPacket n{p, stack_, conntrack_, static_cast<Hook>(number), none, WallSeconds()};
  n.layer = layer;
  n.device = p.in != 0 ? p.in_name : p.out_name;
  return nft_.RunLink(n, number);
}

uint64_t Netfilter::WallSeconds() const {
  // The stack knows no calendar; what nftables calls the hour is counted from its own beginning.
  return static_cast<uint64_t>(stack_.now().nanos()) / 1'000'000'000;
}

bool Netfilter::Run(Hook hook, FilterPacket& p) {
  const TimePoint now = stack_.now();
  switch (hook) {
    case Hook::kPreRouting:
      if (!RunTable("raw", hook, p) || !RunNft(hook, p, Nft::kFirst, kTrack)) return false;
      conntrack_.In(p, now, 0);
      return RunNft(hook, p, kTrack, kMangle - 1) && RunTable("mangle", hook, p) &&
             RunNft(hook, p, kMangle - 1, kDstNat - 1) && RunNat(hook, p) &&
             RunNft(hook, p, kDstNat - 1, Nft::kLast);
    case Hook::kLocalIn:
      return RunNft(hook, p, Nft::kFirst, kMangle - 1) && RunTable("mangle", hook, p) &&
             RunNft(hook, p, kMangle - 1, kFilter - 1) && RunTable("filter", hook, p) &&
             RunNft(hook, p, kFilter - 1, kSecurity - 1) && RunTable("security", hook, p) &&
             RunNft(hook, p, kSecurity - 1, kSrcNat - 1) && RunNat(hook, p) &&
             RunNft(hook, p, kSrcNat - 1, Nft::kLast) && conntrack_.Confirm(p, now);
    case Hook::kForward:
      return RunNft(hook, p, Nft::kFirst, kMangle - 1) && RunTable("mangle", hook, p) &&
             RunNft(hook, p, kMangle - 1, kFilter - 1) && RunTable("filter", hook, p) &&
             RunNft(hook, p, kFilter - 1, kSecurity - 1) && RunTable("security", hook, p) &&
             RunNft(hook, p, kSecurity - 1, Nft::kLast);
    case Hook::kLocalOut:
      if (!RunTable("raw", hook, p) || !RunNft(hook, p, Nft::kFirst, kTrack)) return false;
      conntrack_.In(p, now, 0);
      return RunNft(hook, p, kTrack, kMangle - 1) && RunTable("mangle", hook, p) &&
             RunNft(hook, p, kMangle - 1, kDstNat - 1) && RunNat(hook, p) &&
             RunNft(hook, p, kDstNat - 1, kFilter - 1) && RunTable("filter", hook, p) &&
             RunNft(hook, p, kFilter - 1, kSecurity - 1) && RunTable("security", hook, p) &&
             RunNft(hook, p, kSecurity - 1, Nft::kLast);
    case Hook::kPostRouting:
      return RunNft(hook, p, Nft::kFirst, kMangle - 1) && RunTable("mangle", hook, p) &&
             RunNft(hook, p, kMangle - 1, kSrcNat - 1) && RunNat(hook, p) &&
             RunNft(hook, p, kSrcNat - 1, Nft::kLast) && conntrack_.Confirm(p, now);
  }
  return true;
}

}  // namespace ringwall::net
