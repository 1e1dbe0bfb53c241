// libFuzzer: tables as iptables could give them, and packets through those that are taken. Input: a byte
// that chooses the table, then rules: match, its revision and data, target, its revision and data; or the
// table's bytes as they are.
#include <algorithm>
#include <array>
#include <cstring>

#include "netstack/testing/fake_host.h"
#include "netstack/udp/endpoint.h"
#include "netstack/wire/checksum.h"
#include "sentry/base/check.h"

namespace ringwall::net::testing {
namespace {

constexpr const char* kTables[] = {"filter", "nat", "mangle", "raw"};
constexpr uint32_t kHooksOf[] = {0x0e, 0x1b, 0x1f, 0x09};
constexpr const char* kMatches[] = {"",     "tcp",      "udp",   "icmp",     "icmp6", "state", "conntrack", "multiport",
                                    "mark", "connmark", "owner", "addrtype", "limit", "length", "ttl", "statistic"};
constexpr const char* kTargets[] = {"",     "REJECT", "LOG",        "MARK",     "CONNMARK", "NOTRACK",
                                    "DNAT", "SNAT",   "MASQUERADE", "REDIRECT", "ERROR",    "none"};
constexpr const uint16_t kSizes[] = {0, 2, 4, 5, 8, 10, 12, 16, 20, 24, 32, 36, 40, 44, 48, 152, 156, 164, 256};

class Input {
 public:
  Input(const uint8_t* p, size_t n) : p_(p), n_(n) {}
  bool empty() const { return n_ == 0; }
  uint8_t Byte() { return n_ == 0 ? 0 : (n_--, *p_++); }
  std::vector<uint8_t> Bytes(size_t n) {
    std::vector<uint8_t> out(n);
    for (uint8_t& b : out) b = Byte();
    return out;
  }
  std::vector<uint8_t> Rest() { return Bytes(n_); }

 private:
  const uint8_t* p_;
  size_t n_;
};

void Put16(std::vector<uint8_t>& to, size_t at, size_t value) {
  const uint16_t v = static_cast<uint16_t>(value);
  std::memcpy(to.data() + at, &v, 2);
}

void PutElement(std::vector<uint8_t>& to, const char* name, uint8_t revision, std::vector<uint8_t> data) {
  data.resize(XtAlign(data.size()));
  const size_t at = to.size();
  to.resize(at + 32);
  Put16(to, at, 32 + data.size());
  std::memcpy(&to[at + 2], name, strlen(name));
  to[at + 31] = revision;
  to.insert(to.end(), data.begin(), data.end());
}

void PutRule(std::vector<uint8_t>& blob, const XtLayout& l, const std::vector<uint8_t>& ip,
             const std::vector<uint8_t>& matches, const std::vector<uint8_t>& target) {
  const size_t at = blob.size();
  blob.resize(at + l.entry);
  std::copy_n(ip.begin(), std::min(ip.size(), l.target_offset - 4), &blob[at]);
  Put16(blob, at + l.target_offset, l.entry + matches.size());
  Put16(blob, at + l.target_offset + 2, l.entry + matches.size() + target.size());
  blob.insert(blob.end(), matches.begin(), matches.end());
  blob.insert(blob.end(), target.begin(), target.end());
}

void PutVerdict(std::vector<uint8_t>& to, int32_t verdict) {
  std::vector<uint8_t> data(8);
  std::memcpy(data.data(), &verdict, 4);
  PutElement(to, "", 0, std::move(data));
}

// Rules of the input in front of each hook's policy.
void Build(Input& in, const XtLayout& l, XtInfo* info, std::vector<uint8_t>* blob) {
  for (size_t h = 0; h < kHooks; h++) {
    if ((info->valid_hooks & (1u << h)) == 0) continue;
    info->entries[h] = static_cast<uint32_t>(blob->size());
    for (int rules = in.Byte() % 4; rules > 0; rules--) {
      std::vector<uint8_t> ip(l.target_offset - 4), matches, target;
      if (in.Byte() % 2 != 0) ip[l.v4 ? 80 : 128] = in.Byte() % 2 != 0 ? 17 : 6;
      if (in.Byte() % 8 == 7) ip = in.Bytes(ip.size());
      for (int n = in.Byte() % 3; n > 0; n--) {
        const char* name = kMatches[in.Byte() % std::size(kMatches)];
        const uint8_t revision = in.Byte() % 4;
        PutElement(matches, name, revision, in.Bytes(kSizes[in.Byte() % std::size(kSizes)]));
      }
      const char* name = kTargets[in.Byte() % std::size(kTargets)];
      if (*name == '\0') {
        PutVerdict(target, static_cast<int8_t>(in.Byte()) * (in.Byte() % 2 != 0 ? 8 : 1));
      } else {
        const uint8_t revision = in.Byte() % 3;
        PutElement(target, name, revision, in.Bytes(kSizes[in.Byte() % std::size(kSizes)]));
      }
      PutRule(*blob, l, ip, matches, target);
      info->count++;
    }
    info->underflows[h] = static_cast<uint32_t>(blob->size());
    std::vector<uint8_t> policy;
    PutVerdict(policy, in.Byte() % 2 != 0 ? -1 : -2);
    PutRule(*blob, l, {}, {}, policy);
    info->count++;
  }
  std::vector<uint8_t> end;
  PutElement(end, "ERROR", 0, std::vector<uint8_t>(32));
  PutRule(*blob, l, {}, {}, end);
  info->count++;
}

void Run(Input in) {
  FakeHost host;
  Ref<Stack> stack = MakeRef<Stack>(host);
  InterfaceConfig lo;
  lo.name = "lo";
  lo.kind = LinkKind::kLoopback;
  lo.mtu = 65536;
  RW_CHECK(stack->SetUp(*stack->AddInterface(lo, nullptr), true).ok());
  for (int round = 0; round < 3 && !in.empty(); round++) {
    const uint8_t what = in.Byte();
    const Family family = (what & 4) != 0 ? Family::kV6 : Family::kV4;
    XtInfo info;
    info.valid_hooks = kHooksOf[what & 3];
    std::vector<uint8_t> blob;
    if ((what & 8) == 0) {
      Build(in, family == Family::kV4 ? kXt4 : kXt6, &info, &blob);
    } else {
      for (uint32_t& n : info.entries) n = in.Byte() * 8u;
      for (uint32_t& n : info.underflows) n = in.Byte() * 8u;
      info.count = in.Byte();
      blob = in.Rest();
    }
    info.size = static_cast<uint32_t>(blob.size());
    static_cast<void>(stack->ReplaceFilterTable(family, kTables[what & 3], info, std::move(blob)).ok());
  }
  // Whatever the rules are: datagrams to ourselves go or do not, and the tables can be read.
  for (const Family family : {Family::kV4, Family::kV6}) {
    RefPtr<UdpEndpoint> udp = stack->NewUdp(family);
    const IpAddr self = *IpAddr::Parse(family == Family::kV4 ? "127.0.0.1" : "::1");
    if (udp->Bind({self, 53}).ok()) {
      SendParams to;
      to.to = SockAddr{self, 53};
      static_cast<void>(udp->Send(Chain(Slice::Copy(std::array<uint8_t, 3>{1, 2, 3})), to).ok());
      static_cast<void>(udp->Receive().ok());
    }
    udp->Close();
    for (const char* table : kTables) static_cast<void>(stack->FilterTable(family, table).ok());
  }
  RunUntil(*stack, host, host.now + Duration::Millis(100));
  stack->Shutdown();
}

}  // namespace
}  // namespace ringwall::net::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringwall::net::testing::Run({data, size});
  return 0;
}
