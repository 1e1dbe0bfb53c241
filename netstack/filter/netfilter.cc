#include "netstack/filter/netfilter.h"

#include "netstack/stack.h"

namespace ringwall::net {
namespace {

constexpr uint32_t kAll = 0x1f, kFilterHooks = 0x0e, kNatHooks = 0x1b, kRawHooks = 0x09;

}  // namespace

Netfilter::Netfilter(Stack& stack) : stack_(stack) {
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

void Netfilter::Changed() {
  active_ = false;
  for (const std::unique_ptr<XtTable>& t : tables_) active_ = active_ || !t->idle();
  // Connections that are translated need it to the end.
  active_ = active_ || conntrack_.size() != 0;
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
    if (!x.translated && !conntrack_.SetUp(*c, {}, source, stack_.Random64())) return false;
  }
  conntrack_.Translate(p, source);
  return true;
}

bool Netfilter::Run(Hook hook, FilterPacket& p) {
  const TimePoint now = stack_.now();
  switch (hook) {
    case Hook::kPreRouting:
      if (!RunTable("raw", hook, p)) return false;
      conntrack_.In(p, now, 0);
      return RunTable("mangle", hook, p) && RunNat(hook, p);
    case Hook::kLocalIn:
      return RunTable("mangle", hook, p) && RunTable("filter", hook, p) &&
             RunTable("security", hook, p) && RunNat(hook, p) && conntrack_.Confirm(p, now);
    case Hook::kForward:
      return RunTable("mangle", hook, p) && RunTable("filter", hook, p) &&
             RunTable("security", hook, p);
    case Hook::kLocalOut:
      if (!RunTable("raw", hook, p)) return false;
      conntrack_.In(p, now, 0);
      return RunTable("mangle", hook, p) && RunNat(hook, p) && RunTable("filter", hook, p) &&
             RunTable("security", hook, p);
    case Hook::kPostRouting:
      return RunTable("mangle", hook, p) && RunNat(hook, p) && conntrack_.Confirm(p, now);
  }
  return true;
}

}  // namespace ringwall::net
