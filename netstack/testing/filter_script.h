// A packet test of the filter as a script: a router between a network inside (in0) and one outside
// (out0), both scripted, with the clock in hand. Steps:
//
//   v6                      everything below by IPv6; first of all
//   config udp|loose|liberal|checksum|max N      net.netfilter.nf_conntrack_*
//   rule TABLE CHAIN [MATCH...] TARGET      CHAIN: pre in forward out post
//     MATCH: out IF, in IF, udp PORT, tcp PORT, proto N, to HOST, state WORD[,WORD] (new est rel inv)
//     TARGET: accept drop notrack masquerade snat dnat redirect (each with HOST[-HOST], ports A-B,
//             random), connmark N, restore, mark N, reject, tproxy PORT
//   > IF PACKET [= CLASS]   it comes in; CLASS: new est rel inv untracked, as the rules see it
//   < IF PACKET             exactly this goes out next there
//   quiet | drain           nothing goes out anywhere; forget what did
//   wait MS | waits S       runs the clock
//   conns N                 how many connections are tracked
//   conn N FIELD VALUE...   of the Nth by age: state NAME, timeout S, mark N, packets A B, bytes A B,
//                           assured|seen|snat|dnat yes|no, reply SRC DST
//   down IF | mtu IF N | deladdr IF
//   bind PORT | got SRC | answer | say DST      a UDP socket of the router's own
//
// PACKET, with HOST by letter (A B C inside, R the router there; X Y outside, P the router there,
// Q and Z spare addresses of its), ends as HOST:PORT:
//   udp SRC DST [len N] [badsum] [nosum] [part A-B]     part: that piece of the datagram's body
//   tcp SRC DST FLAGS SEQ [ack N] [win N] [len N] [scale N] [sack A-B]
//   icmp TYPE CODE HOST HOST [id N] [mtu N] [badsum] [about PACKET]
//   ip PROTOCOL HOST HOST
//   each: [ttl N] [df]
#ifndef RINGWALL_NETSTACK_TESTING_FILTER_SCRIPT_H_
#define RINGWALL_NETSTACK_TESTING_FILTER_SCRIPT_H_

#include <map>
#include <memory>

#include "netstack/testing/fake_host.h"
#include "netstack/testing/rule_files.h"
#include "netstack/testing/xt_rules.h"
#include "netstack/udp/endpoint.h"

namespace ringwall::net::testing {

class FilterRuleTest : public ::testing::Test {
 public:
  explicit FilterRuleTest(ScriptedRule rule) : rule_(std::move(rule)) {}
  ~FilterRuleTest() override;
  void SetUp() override;
  void TestBody() override {
    ForEachStep(rule_, [this](Words w) { Step(std::move(w)); });
  }

 private:
  using Words = std::vector<std::string>;
  struct Port {
    IfIndex index = 0;
    RefPtr<CaptureSink> sink;
  };

  void Step(Words w);
  void AddRule(const Words& w);
  XtRules& Table(const std::string& name);
  void Load();
  void Inject(Words w);
  void Expect(const Words& w);
  void CheckConnection(const Words& w);
  std::string Describe(ByteSpan datagram) const;
  std::string DescribeTransport(uint8_t protocol, ByteSpan b, const IpAddr& src, const IpAddr& dst,
                                bool quoted) const;
  // The datagram from w[at] on.
  Packet Build(const Words& w, size_t at) const;
  IpAddr Host(const std::string& letter) const;
  std::string Name(const IpAddr& a) const;
  SockAddr End(const std::string& s) const;
  Family family() const { return v6_ ? Family::kV6 : Family::kV4; }

  const ScriptedRule rule_;
  FakeHost host_;
  RefPtr<Stack> stack_;
  std::map<std::string, Port> ports_;
  std::map<std::string, std::unique_ptr<XtRules>> tables_;
  RefPtr<UdpEndpoint> socket_;
  SockAddr heard_;
  bool v6_ = false;
};

// Makes a test of every rule in the files of `folder`.
void RegisterFilterRules(const std::string& folder);

}  // namespace ringwall::net::testing

#endif  // RINGWALL_NETSTACK_TESTING_FILTER_SCRIPT_H_
