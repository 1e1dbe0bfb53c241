// A packet test as a script: the peer's segments, the stack's answers and the clock, step by step.
// Each case is one rule; its name carries the section that says so. Numbers are relative as in
// tcp_test_base.h; byte i of either stream is kPattern[i % 26].
//
//   config KEY VALUE        before the rest: sack, dsack, timestamps, scaling, ecn, cookies, mtu,
//                           cubic, synack_retries, retries2, overflow_reset, tw_reuse_wait, after_idle
//   listen [BACKLOG]        a listener on port 80
//   accept | noaccept       takes the connection that waits, or says that none does
//   connect | dial          an active open; connect eats its SYN. socket, port N: a fresh one, the
//                           peer's port
//   established [WORD...]   a passive open that is done; connected: an active one. Words: mss N,
//                           nosack, scale N, noscale, ts, win N, rtt MS, ecn, reno, rcvbuf N
//   < FLAGS SEQ[+LEN] ...   the peer's segment: ack N (1), win N, urg N, sack A-B,C-D, mss N, sackok,
//                           scale N, ts V E, ce, ect, data TEXT
//   > FLAGS SEQ[+LEN] ...   exactly this comes out next: ack N, win N, sack A-B,C-D | sack none,
//                           urg N, mss N, scale N, ect, notect, and the words "no" X for options
//   quiet | drain           nothing came out; forget what did
//   sent N                  the bytes of data that came out (with FROM: contiguous from there)
//   segments N              how many segments came out
//   wait MS | waits S       runs the clock
//   write N [more] [= ERROR]   read N   eof   urgent [= ERROR]   take C|ERROR   mark 0|1
//   close | abort | shut r|w|rw | linger MS
//   set OPTION VALUE [= ERROR]
//   state NAME | error NAME|none | poll BITS (in out err hup rdhup pri; exactly)
//   info FIELD OP N | count FIELD OP N      OP: = < > <= >=
//   icmp TYPE CODE SEQ [MTU]
//   fast N M [= ERROR] | fastconnect done|begun | keys K...     Fast Open; "cookie req|any|good|bad|TEXT"
//                           is its option in a segment
//   xN STEP                 the step N times; with data, each time further on
#ifndef RINGWALL_NETSTACK_TESTING_TCP_SCRIPT_H_
#define RINGWALL_NETSTACK_TESTING_TCP_SCRIPT_H_

#include <map>
#include <string>

#include "netstack/testing/rule_files.h"
#include "netstack/testing/tcp_test_base.h"

namespace ringwall::net::testing {

using TcpRule = ScriptedRule;

class TcpRuleTest : public TcpTest {
 public:
  explicit TcpRuleTest(TcpRule rule) : rule_(std::move(rule)) {}
  void TestBody() override { Play(); }

 protected:
  void Play();

 private:
  using Words = std::vector<std::string>;
  void Step(Words words);
  void Configure(const Words& w);
  void Open(const Words& w, bool active);
  Seg ParseSegment(const Words& w);
  void ExpectSegment(const Words& w);
  void ReadExactly(size_t n);
  void CheckState(const std::string& name);
  void CheckError(std::optional<NetError> e, const std::string& name);
  void CheckPoll(const Words& w);
  void CheckNumber(const Words& w, int64_t value);
  int64_t InfoField(const std::string& name);
  int64_t CountField(const std::string& name);
  void Icmp(const Words& w);
  TcpEndpoint& e() {
    RW_CHECK(static_cast<bool>(endpoint_));
    return *endpoint_;
  }

  const TcpRule rule_;
  StackConfig config_;
  uint32_t mtu_ = 1500;
  bool configured_ = false;
  RefPtr<TcpEndpoint> endpoint_;
  size_t written_ = 0;
  size_t read_ = 0;
  std::array<uint8_t, 16> cookie_ = {};  // what the stack gave
  uint8_t cookie_size_ = 0;
  std::map<uint16_t, uint32_t> iss_of_;  // by the peer's port
};

// Makes a test of every rule in the files of `folder`.
void RegisterTcpRules(const std::string& folder);

}  // namespace ringwall::net::testing

#endif  // RINGWALL_NETSTACK_TESTING_TCP_SCRIPT_H_
