// Tables of iptables as blobs, for tests: chains of rules for the hooks, each ended by its policy.
#ifndef RINGWALL_NETSTACK_TESTING_XT_RULES_H_
#define RINGWALL_NETSTACK_TESTING_XT_RULES_H_

#include <cstring>
#include <vector>

#include "netstack/stack.h"

namespace ringwall::net::testing {

inline constexpr int32_t kXtAccept = -2, kXtDrop = -1, kXtReturn = -5;
inline constexpr uint32_t kXtFilterHooks = 0x0e, kXtNatHooks = 0x1b, kXtAllHooks = 0x1f,
                          kXtRawHooks = 0x09;

class XtRules {
 public:
  explicit XtRules(uint32_t hooks, int32_t policy = kXtAccept) : hooks_(hooks), policy_(policy) {}

  struct Rule {
    explicit Rule(Family f = Family::kV4) : v6(f == Family::kV6), ip(v6 ? 136 : 84) {}
    bool v6;
    std::vector<uint8_t> ip;
    std::vector<uint8_t> matches;
    std::vector<uint8_t> target;

    Rule& Protocol(uint16_t p) {
      std::memcpy(&ip[v6 ? 128 : 80], &p, 2);
      if (v6) ip[131] = 1;  // IP6T_F_PROTO
      return *this;
    }
    Rule& Dst(const IpAddr& a) {
      const size_t n = a.size();
      std::memcpy(&ip[n], a.data(), n);
      std::memset(&ip[3 * n], 0xff, n);
      return *this;
    }
    Rule& In(const char* name) { return Interface(name, v6 ? 64 : 16); }
    Rule& Out(const char* name) { return Interface(name, v6 ? 80 : 32); }
    Rule& Interface(const char* name, size_t at) {
      std::memcpy(&ip[at], name, strlen(name));
      std::memset(&ip[at + 32], 0xff, strlen(name) + 1);
      return *this;
    }
    Rule& Match(const char* name, uint8_t revision, std::vector<uint8_t> data) {
      Element(matches, name, revision, std::move(data));
      return *this;
    }
    Rule& Jump(int32_t verdict) {
      std::vector<uint8_t> data(8);
      std::memcpy(data.data(), &verdict, 4);
      Element(target, "", 0, std::move(data));
      return *this;
    }
    Rule& Target(const char* name, uint8_t revision, std::vector<uint8_t> data) {
      Element(target, name, revision, std::move(data));
      return *this;
    }
    static void Element(std::vector<uint8_t>& to, const char* name, uint8_t revision,
                        std::vector<uint8_t> data) {
      data.resize(XtAlign(data.size()));
      const size_t at = to.size();
      to.resize(at + 32);
      const uint16_t size = static_cast<uint16_t>(32 + data.size());
      std::memcpy(&to[at], &size, 2);
      std::memcpy(&to[at + 2], name, strlen(name));
      to[at + 31] = revision;
      to.insert(to.end(), data.begin(), data.end());
    }
    size_t head() const { return v6 ? 168 : 112; }
    size_t size() const { return head() + matches.size() + target.size(); }
  };

  void Add(Hook hook, Rule rule) { rules_[static_cast<size_t>(hook)].push_back(std::move(rule)); }

  NetResult<std::vector<XtCounter>> Load(Stack& stack, const char* table,
                                         Family family = Family::kV4) {
    family_ = family;
    XtInfo info;
    std::vector<uint8_t> blob;
    Build(&info, &blob);
    return stack.ReplaceFilterTable(family, table, info, std::move(blob));
  }

  void Build(XtInfo* info, std::vector<uint8_t>* blob) {
    info->valid_hooks = hooks_;
    for (size_t h = 0; h < kHooks; h++) {
      if ((hooks_ & (1u << h)) == 0) continue;
      info->entries[h] = static_cast<uint32_t>(blob->size());
      for (const Rule& r : rules_[h]) Put(info, blob, r);
      info->underflows[h] = static_cast<uint32_t>(blob->size());
      Put(info, blob, Rule(family_).Jump(policy_));
    }
    std::vector<uint8_t> name(32);
    std::memcpy(name.data(), "ERROR", 5);
    Put(info, blob, Rule(family_).Target("ERROR", 0, name));
    info->size = static_cast<uint32_t>(blob->size());
  }

 private:
  static void Put(XtInfo* info, std::vector<uint8_t>* blob, const Rule& r) {
    const size_t at = blob->size();
    blob->resize(at + r.head());
    std::memcpy(blob->data() + at, r.ip.data(), r.ip.size());
    const uint16_t offsets[2] = {static_cast<uint16_t>(r.head() + r.matches.size()),
                                 static_cast<uint16_t>(r.size())};
    std::memcpy(blob->data() + at + (r.v6 ? 140 : 88), offsets, 4);
    blob->insert(blob->end(), r.matches.begin(), r.matches.end());
    blob->insert(blob->end(), r.target.begin(), r.target.end());
    info->count++;
  }
  uint32_t hooks_;
  int32_t policy_;
  Family family_ = Family::kV4;
  std::array<std::vector<Rule>, kHooks> rules_;
};

inline std::vector<uint8_t> XtUdpPort(uint16_t port) {
  std::vector<uint8_t> d(10);
  const uint16_t v[4] = {0, 65535, port, port};
  std::memcpy(d.data(), v, sizeof(v));
  return d;
}

// struct nf_nat_ipv4_multi_range_compat.
inline std::vector<uint8_t> XtRange(const IpAddr& a, uint16_t port) {
  std::vector<uint8_t> d(24);
  const uint32_t head[2] = {1, (a.IsNone() ? 0u : 1u) | (port != 0 ? 2u : 0u)};
  std::memcpy(d.data(), head, 8);
  if (!a.IsNone()) {
    std::memcpy(&d[8], a.data(), 4);
    std::memcpy(&d[12], a.data(), 4);
  }
  Store16(&d[16], port);
  Store16(&d[18], port);
  return d;
}

inline std::vector<uint8_t> XtState(uint32_t mask) {
  std::vector<uint8_t> d(4);
  std::memcpy(d.data(), &mask, 4);
  return d;
}

// struct nf_nat_range, which IPv6 takes and revision 1 of SNAT and DNAT.
inline std::vector<uint8_t> XtNewRange(const IpAddr& low, const IpAddr& high, uint16_t min_port,
                                       uint16_t max_port, bool random = false) {
  std::vector<uint8_t> d(40);
  const uint32_t flags = (low.IsNone() ? 0u : 1u) | (min_port != 0 ? 2u : 0u) | (random ? 4u : 0u);
  std::memcpy(d.data(), &flags, 4);
  if (!low.IsNone()) {
    std::memcpy(&d[4], low.data(), low.size());
    std::memcpy(&d[20], high.data(), high.size());
  }
  Store16(&d[36], min_port);
  Store16(&d[38], max_port);
  return d;
}

}  // namespace ringwall::net::testing

#endif  // RINGWALL_NETSTACK_TESTING_XT_RULES_H_
