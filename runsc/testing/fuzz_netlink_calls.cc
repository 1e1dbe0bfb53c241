// libFuzzer: requests to netlink's families as a privileged program sends them: routes and links,
// nftables and conntrack, socket diagnosis, generic netlink. Input: again and again the family, type,
// flags, then a program that builds the body: raw bytes, attributes, nests; the rest is raw. Two bits of
// the first byte choose a batch of nftables, or a request about connections or expected ones.
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "runsc/testing/call_script.h"

namespace ringwall::testing {
namespace {

constexpr std::array<int, 6> kFamilies = {NETLINK_ROUTE, NETLINK_NETFILTER, NETLINK_SOCK_DIAG, NETLINK_GENERIC,
                                          NETLINK_KOBJECT_UEVENT, NETLINK_USERSOCK};
// Of the first byte: a batch of nftables; a message of ctnetlink, its header made ready.
constexpr uint8_t kBatch = 0x80, kConntrack = 0x40;
constexpr std::array<uint8_t, 4> kProtocols = {AF_INET, AF_INET6, AF_UNSPEC, AF_UNIX};

class NetlinkCalls final : public CallScript {
 public:
  using CallScript::CallScript;

 protected:
  std::optional<ScriptCall> SetUp(size_t step) override {
    if (step >= kFamilies.size()) return std::nullopt;
    return ScriptCall{SYS_socket, {AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, uint64_t(kFamilies[step])}};
  }

  ScriptCall FromInput(FuzzBytes& in) override {
    if (receive_ > 0) {
      receive_--;
      return {SYS_recvfrom, {fd_, Room(8192), 8192, MSG_DONTWAIT, 0, 0}};
    }
    const uint8_t what = in.Byte();
    receive_ = 2;
    std::vector<uint8_t> bytes;
    fd_ = what % kFamilies.size();
    if ((what & (kBatch | kConntrack)) == kConntrack) {
      fd_ = 1;
      const uint16_t subsystem = what % 2 != 0 ? NFNL_SUBSYS_CTNETLINK_EXP : NFNL_SUBSYS_CTNETLINK;
      const uint16_t type = static_cast<uint16_t>(subsystem << 8 | in.Byte() % 9);
      Message(in, bytes, type, &in.OneOf(kProtocols));
      return Send(bytes);
    }
    if ((what & kBatch) == 0) {
      Message(in, bytes, in.U16());
      return Send(bytes);
    }
    fd_ = 1;
    Begin(bytes, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST);
    Raw(bytes, {AF_UNSPEC, NFNETLINK_V0, 0, NFNL_SUBSYS_NFTABLES});
    End(bytes);
    for (int left = what % 8; left >= 0; left--) Message(in, bytes, static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | in.Byte() % NFT_MSG_MAX));
    Begin(bytes, NFNL_MSG_BATCH_END, NLM_F_REQUEST);
    Raw(bytes, {AF_UNSPEC, NFNETLINK_V0, 0, NFNL_SUBSYS_NFTABLES});
    End(bytes);
    return Send(bytes);
  }

 private:
  static constexpr size_t kMostBytes = 16384;

  ScriptCall Send(const std::vector<uint8_t>& bytes) { return {SYS_sendto, {fd_, Put(bytes), bytes.size(), 0, 0, 0}}; }

  static void Raw(std::vector<uint8_t>& to, std::span<const uint8_t> bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }
  static void Raw(std::vector<uint8_t>& to, std::initializer_list<uint8_t> bytes) { to.insert(to.end(), bytes); }
  static void Pad(std::vector<uint8_t>& to) { to.resize((to.size() + 3) & ~size_t{3}); }

  void Begin(std::vector<uint8_t>& to, uint16_t type, uint16_t flags) {
    start_ = to.size();
    nlmsghdr h{.nlmsg_len = 0, .nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = ++sequence_, .nlmsg_pid = 0};
    Raw(to, {reinterpret_cast<const uint8_t*>(&h), sizeof(h)});
  }
  void End(std::vector<uint8_t>& to) {
    const uint32_t length = static_cast<uint32_t>(to.size() - start_);
    std::memcpy(&to[start_], &length, 4);
    Pad(to);
  }

  static void Attribute(std::vector<uint8_t>& to, size_t at, uint16_t type) {
    const uint16_t head[2] = {static_cast<uint16_t>(to.size() - at), type};
    std::memcpy(&to[at], head, 4);
    Pad(to);
  }

  // With `protocol`, behind a netfilter header of that protocol family.
  void Message(FuzzBytes& in, std::vector<uint8_t>& to, uint16_t type, const uint8_t* protocol = nullptr) {
    Begin(to, type, in.U16() | NLM_F_REQUEST);
    if (protocol != nullptr) Raw(to, {*protocol, NFNETLINK_V0, 0, 0});
    std::vector<std::pair<size_t, uint16_t>> open;
    for (bool more = true; more && !in.empty() && to.size() < kMostBytes;) {
      const uint8_t op = in.Byte();
      switch (op >> 6) {
        case 0:  // the family's header, or anything
          Raw(to, in.Some());
          Pad(to);
          break;
        case 1: {
          const size_t at = to.size();
          to.resize(at + 4);
          Raw(to, in.Some());
          Attribute(to, at, op & 0x3f);
          break;
        }
        case 2:
          open.emplace_back(to.size(), static_cast<uint16_t>((op & 0x3f) | NLA_F_NESTED));
          to.resize(to.size() + 4);
          break;
        default:
          if (open.empty()) {
            more = false;
            break;
          }
          Attribute(to, open.back().first, open.back().second);
          open.pop_back();
          break;
      }
    }
    for (; !open.empty(); open.pop_back()) Attribute(to, open.back().first, open.back().second);
    End(to);
  }

  uint64_t fd_ = 0;
  int receive_ = 0;
  uint32_t sequence_ = 0;
  size_t start_ = 0;
};

}  // namespace
}  // namespace ringwall::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return ringwall::testing::RunInput<ringwall::testing::NetlinkCalls>(data, size);
}
