// IPT_SO_* and IP6T_SO_* (net/ipv4/netfilter/ip_tables.c, net/ipv6/netfilter/ip6_tables.c).
#include "fs/netlink/iptables.h"

#include <netinet/in.h>

#include "fs/netlink/route.h"
#include "fs/socket/net_namespace.h"

namespace ringwall::netlink {
namespace {

constexpr int kBase = 64;  // IPT_BASE_CTL
constexpr int kSetReplace = kBase, kAddCounters = kBase + 1;
constexpr int kGetInfo = kBase, kGetEntries = kBase + 1;
constexpr uint32_t kMostBlob = 16 << 20;

struct GetInfo {  // struct ipt_getinfo
  char name[32];
  uint32_t valid_hooks, hook_entry[5], underflow[5], num_entries, size;
};
static_assert(sizeof(GetInfo) == 84);

struct GetEntries {  // struct ipt_get_entries, without the entries
  char name[32];
  uint32_t size, pad;
};
static_assert(sizeof(GetEntries) == 40);

struct Replace {  // struct ipt_replace, without the entries
  char name[32];
  uint32_t valid_hooks, num_entries, size, hook_entry[5], underflow[5], num_counters;
  uint64_t counters;
};
static_assert(sizeof(Replace) == 96);

struct CountersInfo {  // struct xt_counters_info
  char name[32];
  uint32_t num_counters, pad;
};

struct GetRevision {  // struct xt_get_revision
  char name[29];
  uint8_t revision;
};

template <size_t n>
std::string_view Name(const char (&name)[n]) {
  return {name, strnlen(name, n)};
}

Result<void> NeedAdmin(Task& t, Socket& s) {
  if (!t.creds().HasIn(s.net().user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
  return {};
}

template <typename T>
Result<T> ReadHead(OptionOut& out) {
  T v;
  TRY(out.task().CopyIn(out.addr(), std::as_writable_bytes(std::span(&v, 1))));
  return v;
}

Result<void> Info(Socket& s, net::Family family, OptionOut& out) {
  if (out.room() != sizeof(GetInfo)) return Errno(EINVAL);
  GetInfo g = TRY(ReadHead<GetInfo>(out));
  g.name[31] = 0;
  net::NetResult<net::XtSnapshot> t = s.net().stack().FilterTable(family, Name(g.name));
  if (!t.ok()) return net::ToErrno(t.error());
  g.valid_hooks = t->info.valid_hooks;
  for (size_t h = 0; h < 5; h++) {
    g.hook_entry[h] = t->info.entries[h];
    g.underflow[h] = t->info.underflows[h];
  }
  g.num_entries = t->info.count;
  g.size = t->info.size;
  out.Put(g);
  return {};
}

Result<void> Entries(Socket& s, net::Family family, OptionOut& out) {
  if (out.room() < sizeof(GetEntries)) return Errno(EINVAL);
  GetEntries g = TRY(ReadHead<GetEntries>(out));
  if (out.room() != sizeof(GetEntries) + uint64_t{g.size}) return Errno(EINVAL);
  g.name[31] = 0;
  net::NetResult<net::XtSnapshot> t = s.net().stack().FilterTable(family, Name(g.name));
  if (!t.ok()) return net::ToErrno(t.error());
  if (t->blob.size() != g.size) return Errno(EAGAIN);
  std::vector<std::byte> all(sizeof(g) + t->blob.size());
  memcpy(all.data(), &g, sizeof(g));
  memcpy(all.data() + sizeof(g), t->blob.data(), t->blob.size());
  out.Set(all);
  return {};
}

Result<void> Revision(net::Family family, bool target, OptionOut& out) {
  if (out.room() != sizeof(GetRevision)) return Errno(EINVAL);
  GetRevision g = TRY(ReadHead<GetRevision>(out));
  g.name[28] = 0;
  const std::optional<uint8_t> best = target ? net::XtTargetRevision(Name(g.name), family)
                                             : net::XtMatchRevision(Name(g.name), family);
  if (!best) return Errno(ENOENT);
  if (g.revision > *best) return Errno(EPROTONOSUPPORT);
  out.Put(g);
  return {};
}

Result<void> DoReplace(Socket& s, net::Family family, OptionIn& in) {
  if (in.length() < sizeof(Replace)) return Errno(EINVAL);
  const Replace r = TRY(in.Value<Replace>());
  if (r.num_counters >= UINT32_MAX / sizeof(net::XtCounter)) return Errno(ENOMEM);
  if (r.num_counters == 0) return Errno(EINVAL);
  if (in.length() < sizeof(Replace) + uint64_t{r.size}) return Errno(EINVAL);
  if (r.size > kMostBlob) return Errno(ENOMEM);
  char name[32];
  memcpy(name, r.name, sizeof(name));
  name[31] = 0;
  std::vector<uint8_t> blob(r.size);
  TRY(in.task().CopyIn(GuestAddr(in.addr().value() + sizeof(Replace)),
                       std::as_writable_bytes(std::span(blob))));
  net::XtInfo info;
  info.valid_hooks = r.valid_hooks;
  info.count = r.num_entries;
  for (size_t h = 0; h < 5; h++) {
    info.entries[h] = r.hook_entry[h];
    info.underflows[h] = r.underflow[h];
  }
  net::NetResult<std::vector<net::XtCounter>> old =
      s.net().stack().ReplaceFilterTable(family, Name(name), info, std::move(blob));
  if (!old.ok()) return net::ToErrno(old.error());
  // The table is in place; a bad address for the old counters changes nothing.
  const size_t n = std::min<size_t>(old->size(), r.num_counters);
  return in.task().CopyOut(GuestAddr(r.counters), std::as_bytes(std::span(*old).first(n)));
}

Result<void> AddCounters(Socket& s, net::Family family, OptionIn& in) {
  if (in.length() <= sizeof(CountersInfo)) return Errno(EINVAL);
  const CountersInfo c = TRY(in.Value<CountersInfo>());
  if (in.length() != sizeof(c) + uint64_t{c.num_counters} * sizeof(net::XtCounter)) {
    return Errno(EINVAL);
  }
  if (c.num_counters > (1 << 20)) return Errno(ENOMEM);
  std::vector<net::XtCounter> add(c.num_counters);
  TRY(in.task().CopyIn(GuestAddr(in.addr().value() + sizeof(c)),
                       std::as_writable_bytes(std::span(add))));
  char name[32];
  memcpy(name, c.name, sizeof(name));
  name[31] = 0;
  return FromNet(s.net().stack().AddFilterCounters(family, Name(name), add));
}

std::optional<net::Family> FamilyOfLevel(const Socket& s, int level, int name) {
  if (name < kBase || name > kBase + 5) return std::nullopt;
  // Sockets of IPv6 have the tables of IPv4, too; raw ones their own level only.
  const bool v4 = s.family() == AF_INET || (s.family() == AF_INET6 && s.type() != SOCK_RAW);
  if (v4 && level == IPPROTO_IP) return net::Family::kV4;
  if (s.family() == AF_INET6 && level == IPPROTO_IPV6) return net::Family::kV6;
  return std::nullopt;
}

}  // namespace

std::optional<Result<void>> SetFilterOption(Socket& s, int level, int name, OptionIn& in) {
  const std::optional<net::Family> family = FamilyOfLevel(s, level, name);
  if (!family || name > kAddCounters) return std::nullopt;
  // do_ipv6_setsockopt() has looked for a number by then.
  if (level == IPPROTO_IPV6 && in.length() >= sizeof(int32_t) && !in.addr().IsNull()) {
    if (const Result<int32_t> number = in.Int(); !number.ok()) return Result<void>(number.error());
  }
  Result<void> admin = NeedAdmin(in.task(), s);
  if (!admin.ok()) return admin;
  return name == kSetReplace ? DoReplace(s, *family, in) : AddCounters(s, *family, in);
}

std::optional<Result<void>> GetFilterOption(Socket& s, int level, int name, OptionOut& out) {
  const std::optional<net::Family> family = FamilyOfLevel(s, level, name);
  if (!family) return std::nullopt;
  // IP6T_SO_GET_REVISION_* are two numbers further on.
  const int match = *family == net::Family::kV4 ? kBase + 2 : kBase + 4;
  if (name != kGetInfo && name != kGetEntries && name != match && name != match + 1) {
    return std::nullopt;
  }
  Result<void> admin = NeedAdmin(out.task(), s);
  if (!admin.ok()) return admin;
  if (name == kGetInfo) return Info(s, *family, out);
  if (name == kGetEntries) return Entries(s, *family, out);
  return Revision(*family, name == match + 1, out);
}

}  // namespace ringwall::netlink
