#include "netstack/testing/tcp_script.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

namespace ringwall::net::testing {
namespace {

char PatternAt(int64_t offset) { return static_cast<char>('a' + (offset % 26 + 26) % 26); }

int64_t Number(const std::string& s) {
  int64_t v = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v);
  EXPECT_TRUE(error == std::errc() && end == s.data() + s.size()) << "not a number: " << s;
  return v;
}

// S F R P . U E W; "-" is none.
uint8_t Flags(const std::string& s) {
  uint8_t f = 0;
  for (char c : s) {
    switch (c) {
      case 'S': f |= kSyn; break;
      case 'F': f |= kFin; break;
      case 'R': f |= kRst; break;
      case 'P': f |= kPsh; break;
      case '.': f |= kAck; break;
      case 'U': f |= kUrg; break;
      case 'E': f |= kEce; break;
      case 'W': f |= kCwr; break;
      case '-': break;
      default: ADD_FAILURE() << "flag " << c;
    }
  }
  return f;
}

std::string FlagNames(uint8_t f) {
  std::string s;
  const std::pair<uint8_t, char> all[] = {{kSyn, 'S'}, {kFin, 'F'}, {kRst, 'R'}, {kPsh, 'P'},
                                          {kAck, '.'}, {kUrg, 'U'}, {kEce, 'E'}, {kCwr, 'W'}};
  for (auto [bit, c] : all) {
    if ((f & bit) != 0) s += c;
  }
  return s.empty() ? "-" : s;
}

struct Place {
  int64_t seq = 0;
  int64_t length = 0;
};

Place ParsePlace(const std::string& s) {
  const size_t plus = s.find('+', 1);
  if (plus == std::string::npos) return {Number(s), 0};
  return {Number(s.substr(0, plus)), Number(s.substr(plus + 1))};
}

std::vector<std::pair<int64_t, int64_t>> ParseBlocks(const std::string& s) {
  std::vector<std::pair<int64_t, int64_t>> out;
  if (s == "none") return out;
  std::stringstream in(s);
  std::string part;
  while (std::getline(in, part, ',')) {
    const size_t dash = part.find('-', 1);
    out.emplace_back(Number(part.substr(0, dash)), Number(part.substr(dash + 1)));
  }
  return out;
}

const std::map<std::string, NetError>& Errors() {
  static const std::map<std::string, NetError> kAll = {
      {"opnotsupp", NetError::kOpNotSupp}, {"wouldblock", NetError::kWouldBlock}, {"inprogress", NetError::kInProgress},
      {"already", NetError::kAlready},       {"isconn", NetError::kIsConnected},
      {"notconn", NetError::kNotConnected},  {"refused", NetError::kRefused},
      {"reset", NetError::kReset},           {"pipe", NetError::kPipe},
      {"timedout", NetError::kTimedOut},     {"hostunreach", NetError::kHostUnreach},
      {"netunreach", NetError::kNetUnreach}, {"invalid", NetError::kInvalid},
      {"protocol", NetError::kProtocol},     {"noprotoopt", NetError::kNoProtoOpt}};
  return kAll;
}

const std::map<std::string, Option>& Options() {
  static const std::map<std::string, Option> kAll = {
      {"nodelay", Option::kNoDelay},         {"cork", Option::kCork},
      {"maxseg", Option::kMaxSegment},       {"keepalive", Option::kKeepAlive},
      {"keepidle", Option::kKeepIdle},       {"keepintvl", Option::kKeepInterval},
      {"keepcnt", Option::kKeepCount},       {"syncnt", Option::kSynCount},
      {"linger2", Option::kLinger2},         {"defer", Option::kDeferAccept},
      {"clamp", Option::kWindowClamp},       {"usertimeout", Option::kUserTimeout},
      {"quickack", Option::kQuickAck},       {"lowat", Option::kNotSentLowat},
      {"congestion", Option::kCongestion},   {"oobinline", Option::kOobInline},
      {"sndbuf", Option::kSendBuffer},       {"rcvbuf", Option::kReceiveBuffer},
      {"rcvlowat", Option::kReceiveLowat},   {"ttl", Option::kTtl},
      {"tos", Option::kTos},                 {"mtudiscover", Option::kMtuDiscover},
      {"fastopen", Option::kFastOpen}};
  return kAll;
}

}  // namespace

void RegisterTcpRules(const std::string& folder) {
  ReadRules(folder, [](const std::string& suite, const std::string& test, const std::string& file,
                       int line, const TcpRule& rule) {
    ::testing::RegisterTest(suite.c_str(), test.c_str(), nullptr, nullptr, file.c_str(), line,
                            [rule]() -> TcpTest* { return new TcpRuleTest(rule); });
  });
}

void TcpRuleTest::Play() {
  ForEachStep(rule_, [this](Words words) {
    int64_t times = 1;
    if (words[0].size() > 1 && words[0][0] == 'x' && std::isdigit(words[0][1])) {
      times = Number(words[0].substr(1));
      words.erase(words.begin());
    }
    for (int64_t i = 0; i < times; i++) {
      Step(words);
      if (times > 1 && (words[0] == "<" || words[0] == ">")) {
        const Place p = ParsePlace(words[2]);
        if (p.length != 0) {
          words[2] = std::to_string(p.seq + p.length) + "+" + std::to_string(p.length);
        }
      }
    }
  });
}

void TcpRuleTest::Step(Words w) {
  const std::string& verb = w[0];
  if (verb == "config") return Configure(w);
  if (!configured_) {
    configured_ = true;
    Start(config_, mtu_);
  }
  if (verb == "<") return Send(ParseSegment(w));
  if (verb == ">") return ExpectSegment(w);
  if (verb == "quiet") return ExpectSilence();
  if (verb == "drain") return static_cast<void>(Drain());
  if (verb == "wait") return AdvanceMs(Number(w.at(1)));
  if (verb == "waits") return Advance(Duration::Seconds(Number(w.at(1))));
  if (verb == "established") return Open(w, false);
  if (verb == "connected") return Open(w, true);
  if (verb == "listen") {
    listener_ = Listener(w.size() > 1 ? static_cast<int>(Number(w[1])) : 16);
    endpoint_ = listener_;
  } else if (verb == "connect") {
    if (!endpoint_) endpoint_ = NewEndpoint();
    Connect(Ref<TcpEndpoint>(*endpoint_));
  } else if (verb == "socket") {
    endpoint_ = NewEndpoint();
  } else if (verb == "dial") {
    if (!endpoint_) endpoint_ = NewEndpoint();
    EXPECT_EQ(e().Connect({peer_, kPeerPort}).error(), NetError::kInProgress);
  } else if (verb == "fast") {
    // MSG_FASTOPEN with N bytes, of which the SYN takes M: fast N M [= ERROR]
    if (!endpoint_) endpoint_ = NewEndpoint();
    std::string data(static_cast<size_t>(Number(w.at(1))), 0);
    for (size_t i = 0; i < data.size(); i++) data[i] = PatternAt(static_cast<int64_t>(i) + 1);
    size_t taken = 0;
    NetResult<void> r = e().ConnectFast({peer_, kPeerPort}, Chain(Slice::Copy({reinterpret_cast<const uint8_t*>(data.data()), data.size()})), &taken);
    CheckError(r.ok() ? std::optional<NetError>() : r.error(), w.size() > 4 ? w[4] : "inprogress");
    EXPECT_EQ(static_cast<int64_t>(taken), Number(w.at(2)));
    written_ = taken;
  } else if (verb == "fastconnect") {
    // TCP_FASTOPEN_CONNECT, then connect, which ends at once: done, or not.
    if (!endpoint_) endpoint_ = NewEndpoint();
    e().SetFastOpenConnect(true);
    NetResult<void> r = e().Connect({peer_, kPeerPort});
    EXPECT_EQ(r.ok(), w.at(1) == "done");
    written_ = 0;
  } else if (verb == "keys") {
    std::vector<SipKey> keys;
    for (size_t i = 1; i < w.size(); i++) {
      keys.push_back({static_cast<uint64_t>(Number(w[i])), static_cast<uint64_t>(Number(w[i]))});
    }
    stack_->SetFastOpenKeys(keys);
  } else if (verb == "accept") {
    NetResult<Ref<TcpEndpoint>> child = listener_->Accept();
    ASSERT_TRUE(child.ok());
    kept_.push_back(*child);
    endpoint_ = *child;
    written_ = read_ = 0;
  } else if (verb == "noaccept") {
    EXPECT_FALSE(listener_->Accept().ok());
  } else if (verb == "sent") {
    size_t n = 0;
    std::optional<int64_t> from;
    if (w.size() > 2) from = Number(w[2]);
    for (const Got& g : Drain()) {
      if (g.data.empty()) continue;
      if (from) {
        EXPECT_EQ(RelSeq(g), *from + static_cast<int64_t>(n));
      }
      n += g.data.size();
    }
    EXPECT_EQ(static_cast<int64_t>(n), Number(w.at(1)));
  } else if (verb == "segments") {
    EXPECT_EQ(static_cast<int64_t>(Drain().size()), Number(w.at(1)));
  } else if (verb == "write") {
    std::string data(static_cast<size_t>(Number(w.at(1))), 0);
    for (size_t i = 0; i < data.size(); i++) data[i] = PatternAt(static_cast<int64_t>(written_ + i) + 1);
    const bool more = w.size() > 2 && w[2] == "more";
    NetResult<size_t> n = Write(e(), data, more);
    if (w.size() > 3 && w[w.size() - 2] == "=") {
      ASSERT_FALSE(n.ok()) << "wrote " << *n;
      return CheckError(n.error(), w.back());
    }
    ASSERT_TRUE(n.ok());
    EXPECT_EQ(*n, data.size());
    written_ += *n;
  } else if (verb == "read") {
    ReadExactly(static_cast<size_t>(Number(w.at(1))));
  } else if (verb == "eof") {
    NetResult<Chain> c = e().Peek(1);
    ASSERT_TRUE(c.ok());
    EXPECT_TRUE(c->empty());
  } else if (verb == "urgent") {
    EXPECT_TRUE(e().SendUrgent(static_cast<uint8_t>(PatternAt(static_cast<int64_t>(written_) + 1))).ok());
    written_++;
  } else if (verb == "take") {
    NetResult<std::optional<uint8_t>> byte = e().ReceiveUrgent(false);
    if (w.at(1).size() > 1) {
      ASSERT_FALSE(byte.ok());
      return CheckError(byte.error(), w[1]);
    }
    ASSERT_TRUE(byte.ok());
    EXPECT_EQ(*byte, static_cast<uint8_t>(w[1][0]));
    read_++;
  } else if (verb == "mark") {
    EXPECT_EQ(e().AtMark(), Number(w.at(1)) != 0);
  } else if (verb == "close") {
    e().Close();
  } else if (verb == "abort") {
    e().SetLinger(Duration());
    e().Close();
  } else if (verb == "shut") {
    EXPECT_TRUE(e().Shutdown(w.at(1).find('r') != std::string::npos,
                             w.at(1).find('w') != std::string::npos).ok());
  } else if (verb == "set") {
    NetResult<void> r = e().SetOption(Options().at(w.at(1)), Number(w.at(2)));
    if (w.size() > 4) {
      ASSERT_FALSE(r.ok());
      return CheckError(r.error(), w[4]);
    }
    EXPECT_TRUE(r.ok());
  } else if (verb == "get") {
    NetResult<int64_t> v = e().GetOption(Options().at(w.at(1)));
    ASSERT_TRUE(v.ok());
    CheckNumber({w[0], w[1], w.at(2), w.at(3)}, *v);
  } else if (verb == "state") {
    CheckState(w.at(1));
  } else if (verb == "error") {
    CheckError(e().TakeError(), w.at(1));
  } else if (verb == "poll") {
    CheckPoll(w);
  } else if (verb == "info") {
    CheckNumber(w, InfoField(w.at(1)));
  } else if (verb == "count") {
    CheckNumber(w, CountField(w.at(1)));
  } else if (verb == "icmp") {
    Icmp(w);
  } else if (verb == "port") {
    iss_of_[peer_port_] = our_iss_;
    peer_port_ = static_cast<uint16_t>(Number(w.at(1)));
    our_iss_ = iss_of_[peer_port_];
  } else {
    FAIL() << "no such step: " << verb;
  }
}

void TcpRuleTest::Configure(const Words& w) {
  const int64_t v = Number(w.at(2));
  const std::string& key = w[1];
  if (key == "sack") config_.tcp_sack = v != 0;
  else if (key == "dsack") config_.tcp_dsack = v != 0;
  else if (key == "timestamps") config_.tcp_timestamps = v != 0;
  else if (key == "scaling") config_.tcp_window_scaling = v != 0;
  else if (key == "ecn") config_.tcp_ecn = static_cast<int>(v);
  else if (key == "cookies") config_.tcp_syncookies = static_cast<int>(v);
  else if (key == "mtu") mtu_ = static_cast<uint32_t>(v);
  else if (key == "cubic") config_.tcp_congestion = static_cast<uint8_t>(v);
  else if (key == "fastopen") config_.tcp_fastopen = static_cast<uint32_t>(v);
  else if (key == "probing") config_.tcp_mtu_probing = static_cast<int>(v);
  else if (key == "synack_retries") config_.tcp_synack_retries = static_cast<int>(v);
  else if (key == "retries2") config_.tcp_retries2 = static_cast<int>(v);
  else if (key == "orphan_retries") config_.tcp_orphan_retries = static_cast<int>(v);
  else if (key == "overflow_reset") config_.tcp_abort_on_overflow = v != 0;
  else if (key == "max_syn_backlog") config_.tcp_max_syn_backlog = static_cast<size_t>(v);
  else if (key == "rmem") config_.tcp_rmem_default = static_cast<size_t>(v);
  else if (key == "rmem_max") config_.tcp_rmem_max = static_cast<size_t>(v);
  else if (key == "fin_timeout") config_.tcp_fin_timeout = Duration::Seconds(v);
  else if (key == "tw_buckets") config_.tcp_max_tw_buckets = static_cast<size_t>(v);
  else if (key == "orphans") config_.tcp_max_orphans = static_cast<size_t>(v);
  else if (key == "after_idle") config_.tcp_slow_start_after_idle = v != 0;
  else if (key == "iss") peer_iss_ = static_cast<uint32_t>(v);
  else {
    FAIL() << "no such setting: " << key;
  }
}

void TcpRuleTest::Open(const Words& w, bool active) {
  TcpOptions options = SynOptions();
  uint16_t window = 65535;
  int64_t rtt = 0, receive_buffer = 0;
  bool ecn = false, reno = false;
  for (size_t i = 1; i < w.size(); i++) {
    auto next = [&] { return Number(w.at(++i)); };
    if (w[i] == "mss") options.mss = static_cast<uint16_t>(next());
    else if (w[i] == "nomss") options.mss.reset();
    else if (w[i] == "nosack") options.sack_permitted = false;
    else if (w[i] == "scale") options.window_scale = static_cast<uint8_t>(next());
    else if (w[i] == "noscale") options.window_scale.reset();
    else if (w[i] == "ts") timestamps_ = true;
    else if (w[i] == "win") window = static_cast<uint16_t>(next());
    else if (w[i] == "rtt") rtt = next();
    else if (w[i] == "ecn") ecn = true;
    else if (w[i] == "reno") reno = true;
    else if (w[i] == "rcvbuf") receive_buffer = next();
    else {
      FAIL() << "no such word: " << w[i];
    }
  }
  RefPtr<TcpEndpoint> first;
  if (active) {
    first = NewEndpoint();
  } else {
    listener_ = first = Listener();
  }
  if (receive_buffer != 0) {
    EXPECT_TRUE(first->SetOption(Option::kReceiveBuffer, receive_buffer).ok());
  }
  if (reno) {
    EXPECT_TRUE(first->SetOption(Option::kCongestion, kCongestionReno).ok());
  }
  if (active) {
    Connect(Ref<TcpEndpoint>(*first));
    AdvanceMs(rtt);
    Seg s{.flags = kSyn | kAck, .seq = 0, .ack = 1, .window = window, .options = options};
    if (ecn) s.flags |= kEce;
    Send(s);
    ExpectAck(1);
    endpoint_ = first;
    return;
  }
  Seg syn{.flags = kSyn, .seq = 0, .window = window, .options = options};
  if (ecn) syn.flags |= kEce | kCwr;
  Send(syn);
  std::optional<Got> synack = Next();
  ASSERT_TRUE(synack.has_value());
  our_iss_ = synack->segment.seq.value();
  AdvanceMs(rtt);
  Send({.flags = kAck, .seq = 1, .ack = 1, .window = window});
  NetResult<Ref<TcpEndpoint>> child = listener_->Accept();
  ASSERT_TRUE(child.ok());
  kept_.push_back(*child);
  endpoint_ = *child;
  ExpectSilence();
}

Seg TcpRuleTest::ParseSegment(const Words& w) {
  Seg s;
  s.flags = Flags(w.at(1));
  const Place p = ParsePlace(w.at(2));
  s.seq = p.seq;
  s.ack = 1;
  const int64_t first = p.seq + ((s.flags & kSyn) != 0 ? 1 : 0);  // the SYN itself is one
  for (int64_t i = 0; i < p.length; i++) s.data += PatternAt(first + i);
  for (size_t i = 3; i < w.size(); i++) {
    auto next = [&] { return Number(w.at(++i)); };
    if (w[i] == "ack") s.ack = next();
    else if (w[i] == "win") s.window = static_cast<uint16_t>(next());
    else if (w[i] == "urg") s.urgent = static_cast<uint16_t>(next());
    else if (w[i] == "mss") s.options.mss = static_cast<uint16_t>(next());
    else if (w[i] == "scale") s.options.window_scale = static_cast<uint8_t>(next());
    else if (w[i] == "sackok") s.options.sack_permitted = true;
    else if (w[i] == "cookie") {
      s.options.fast_open = true;
      const std::string& what = w.at(++i);
      if (what == "good") {
        s.options.cookie = cookie_;
        s.options.cookie_size = cookie_size_;
      } else if (what == "bad") {
        s.options.cookie_size = 8;
      } else if (what != "req") {
        s.options.cookie_size = static_cast<uint8_t>(what.size());
        std::memcpy(s.options.cookie.data(), what.data(), what.size());
      }
    } else if (w[i] == "ce") s.tos = 3;
    else if (w[i] == "ect") s.tos = 2;
    else if (w[i] == "bad") s.data = std::string(static_cast<size_t>(p.length), '!');
    else if (w[i] == "ts") {
      const int64_t v = next();
      s.options.timestamps = TcpTimestamps{PeerTs() + static_cast<uint32_t>(v), last_ts_};
    } else if (w[i] == "tsv") {
      const int64_t v = next();
      const int64_t echo = next();
      s.options.timestamps = TcpTimestamps{static_cast<uint32_t>(v), static_cast<uint32_t>(echo)};
    } else if (w[i] == "echo") {
      s.options.timestamps = TcpTimestamps{PeerTs(), last_ts_ + static_cast<uint32_t>(next())};
    } else if (w[i] == "sack") {
      for (auto [from, to] : ParseBlocks(w.at(++i))) {
        s.options.sack[s.options.sack_count++] = {SeqNum(our_iss_ + static_cast<uint32_t>(from)),
                                                  SeqNum(our_iss_ + static_cast<uint32_t>(to))};
      }
    } else {
      ADD_FAILURE() << "no such word: " << w[i];
    }
  }
  return s;
}

void TcpRuleTest::ExpectSegment(const Words& w) {
  std::optional<Got> g = Next();
  ASSERT_TRUE(g.has_value()) << "silence";
  // A handshake's answer tells our number.
  if (g->Has(kSyn) && w.at(1).find('S') != std::string::npos) {
    our_iss_ = g->segment.seq.value();
    local_port_ = g->segment.src_port;
  }
  EXPECT_EQ(FlagNames(g->segment.flags), FlagNames(Flags(w.at(1))));
  const TcpOptions& o = g->segment.options;
  if (w.at(2) != "*") {
    const Place p = ParsePlace(w.at(2));
    EXPECT_EQ(RelSeq(*g), p.seq);
    EXPECT_EQ(static_cast<int64_t>(g->data.size()), p.length);
    for (size_t i = 0; i < g->data.size(); i++) {
      ASSERT_EQ(g->data[i], PatternAt(RelSeq(*g) + g->Has(kSyn) + static_cast<int64_t>(i)));
    }
  }
  for (size_t i = 3; i < w.size(); i++) {
    auto next = [&] { return Number(w.at(++i)); };
    if (w[i] == "ack") {
      EXPECT_EQ(RelAck(*g), next());
    } else if (w[i] == "win") {
      EXPECT_EQ(g->segment.window, next());
    } else if (w[i] == "urg") {
      EXPECT_EQ(g->segment.urgent, next());
    } else if (w[i] == "mss") {
      EXPECT_EQ(o.mss.value_or(0), next());
    } else if (w[i] == "scale") {
      EXPECT_EQ(o.window_scale.value_or(99), next());
    } else if (w[i] == "ect") {
      EXPECT_EQ(g->tos & 3, 2);
    } else if (w[i] == "notect") {
      EXPECT_EQ(g->tos & 3, 0);
    } else if (w[i] == "df") {
      EXPECT_TRUE(g->dont_fragment);
    } else if (w[i] == "nodf") {
      EXPECT_FALSE(g->dont_fragment);
    } else if (w[i] == "ttl") {
      EXPECT_EQ(g->ttl, next());
    } else if (w[i] == "tos") {
      EXPECT_EQ(g->tos, next());
    } else if (w[i] == "cookie") {
      const std::string& what = w.at(++i);
      ASSERT_TRUE(o.fast_open);
      if (what == "any") {
        EXPECT_EQ(o.cookie_size, 8);
        cookie_ = o.cookie;
        cookie_size_ = o.cookie_size;
      } else {
        EXPECT_EQ(std::string(reinterpret_cast<const char*>(o.cookie.data()), o.cookie_size),
                  what == "req" ? "" : what);
      }
    } else if (w[i] == "sackok") {
      EXPECT_TRUE(o.sack_permitted);
    } else if (w[i] == "ts") {
      EXPECT_TRUE(o.timestamps.has_value());
    } else if (w[i] == "echo") {
      const int64_t back = next();
      ASSERT_TRUE(o.timestamps.has_value());
      EXPECT_EQ(o.timestamps->echo, PeerTs() + static_cast<uint32_t>(back));
    } else if (w[i] == "no") {
      const std::string& what = w.at(++i);
      if (what == "mss") {
        EXPECT_FALSE(o.mss.has_value());
      } else if (what == "scale") {
        EXPECT_FALSE(o.window_scale.has_value());
      } else if (what == "cookie") {
        EXPECT_FALSE(o.fast_open);
      } else if (what == "sackok") {
        EXPECT_FALSE(o.sack_permitted);
      } else if (what == "ts") {
        EXPECT_FALSE(o.timestamps.has_value());
      } else {
        ADD_FAILURE() << "no such option: " << what;
      }
    } else if (w[i] == "sack") {
      std::vector<std::pair<int64_t, int64_t>> blocks;
      for (int b = 0; b < o.sack_count; b++) {
        const SackBlock& block = o.sack[static_cast<size_t>(b)];
        blocks.emplace_back(static_cast<int32_t>(block.start.value() - peer_iss_),
                            static_cast<int32_t>(block.end.value() - peer_iss_));
      }
      EXPECT_EQ(blocks, ParseBlocks(w.at(++i)));
    } else {
      ADD_FAILURE() << "no such word: " << w[i];
    }
  }
}

void TcpRuleTest::ReadExactly(size_t n) {
  const std::string got = Read(e());
  EXPECT_EQ(got.size(), n);
  for (size_t i = 0; i < got.size(); i++) {
    ASSERT_EQ(got[i], PatternAt(static_cast<int64_t>(read_ + i) + 1)) << "at " << read_ + i;
  }
  read_ += got.size();
}

void TcpRuleTest::CheckState(const std::string& name) {
  static const std::map<std::string, TcpState> kAll = {
      {"established", TcpState::kEstablished}, {"synsent", TcpState::kSynSent},
      {"synreceived", TcpState::kSynReceived}, {"finwait1", TcpState::kFinWait1},
      {"finwait2", TcpState::kFinWait2},       {"timewait", TcpState::kTimeWait},
      {"closed", TcpState::kClosed},           {"closewait", TcpState::kCloseWait},
      {"lastack", TcpState::kLastAck},         {"listen", TcpState::kListen},
      {"closing", TcpState::kClosing}};
  EXPECT_EQ(static_cast<int>(e().State()), static_cast<int>(kAll.at(name)));
}

void TcpRuleTest::CheckError(std::optional<NetError> got, const std::string& name) {
  if (name == "none") {
    EXPECT_FALSE(got.has_value()) << static_cast<int>(*got);
    return;
  }
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(static_cast<int>(*got), static_cast<int>(Errors().at(name)));
}

void TcpRuleTest::CheckPoll(const Words& w) {
  static const std::map<std::string, uint32_t> kAll = {
      {"in", kReadable}, {"pri", kUrgent}, {"out", kWritable},
      {"err", kError},   {"hup", kHangup}, {"rdhup", kReadHangup}};
  uint32_t bits = 0;
  for (size_t i = 1; i < w.size(); i++) {
    if (w[i] != "none") bits |= kAll.at(w[i]);
  }
  EXPECT_EQ(e().Poll(), bits);
}

void TcpRuleTest::CheckNumber(const Words& w, int64_t value) {
  const std::string& op = w.at(2);
  const int64_t want = Number(w.at(3));
  if (op == "=") {
    EXPECT_EQ(value, want);
  } else if (op == "<") {
    EXPECT_LT(value, want);
  } else if (op == ">") {
    EXPECT_GT(value, want);
  } else if (op == "<=") {
    EXPECT_LE(value, want);
  } else if (op == ">=") {
    EXPECT_GE(value, want);
  } else {
    ADD_FAILURE() << "no such comparison: " << op;
  }
}

int64_t TcpRuleTest::InfoField(const std::string& f) {
  const TcpInfo i = e().Info();
  const std::map<std::string, int64_t> all = {
      {"cwnd", i.cwnd}, {"ssthresh", i.ssthresh}, {"rtt_us", i.rtt.micros()},
      {"rttvar_us", i.rttvar.micros()}, {"rto_ms", i.rto.millis()}, {"ca", i.ca_state},
      {"unacked", i.unacked}, {"sacked", i.sacked}, {"lost", i.lost}, {"retrans", i.retrans},
      {"total_retrans", i.total_retrans}, {"retransmits", i.retransmits}, {"probes", i.probes},
      {"backoff", i.backoff}, {"mss", i.send_mss}, {"rcv_mss", i.receive_mss},
      {"min_rtt_us", i.min_rtt.micros()}, {"snd_wnd", i.send_window}, {"rcv_wnd", i.receive_window},
      {"acked", static_cast<int64_t>(i.bytes_acked)},
      {"received", static_cast<int64_t>(i.bytes_received)},
      {"bytes_retrans", static_cast<int64_t>(i.bytes_retrans)},
      {"bytes_sent", static_cast<int64_t>(i.bytes_sent)},
      {"notsent", i.notsent_bytes}, {"dsack_dups", i.dsack_dups}, {"reord_seen", i.reord_seen},
      {"ooopack", i.receive_ooopack}, {"delivered", i.delivered}, {"snd_scale", i.send_scale},
      {"rcv_scale", i.receive_scale}, {"sack", i.sack}, {"ts", i.timestamps}, {"ecn", i.ecn},
      {"scaling", i.window_scaling}, {"segs_in", i.segs_in}, {"segs_out", i.segs_out},
      {"data_in", i.data_segs_in}, {"data_out", i.data_segs_out}, {"pmtu", i.path_mtu}, {"syn_data", i.syn_data}};
  return all.at(f);
}

int64_t TcpRuleTest::CountField(const std::string& f) {
  const TcpCounters c = stack_->GetCounters().tcp;
  const std::map<std::string, uint64_t> all = {
      {"cookies_sent", c.syn_cookies_sent}, {"cookies_recv", c.syn_cookies_recv},
      {"cookies_failed", c.syn_cookies_failed}, {"overflows", c.listen_overflows},
      {"listen_drops", c.listen_drops}, {"paws", c.paws_estab_rejected},
      {"challenges", c.challenge_acks}, {"time_waited", c.time_waited}, {"pruned", c.ofo_pruned},
      {"reneging", c.sack_reneging}, {"probes", c.loss_probes}, {"timeouts", c.timeouts},
      {"spurious", c.spurious_rtos}, {"fast", c.fast_retrans}, {"dsack_sent", c.dsack_sent},
      {"dsack_recv", c.dsack_recv}, {"abort_timeout", c.abort_on_timeout},
      {"abort_data", c.abort_on_data}, {"retrans", c.retrans_segs}, {"resets_out", c.out_rsts},
      {"estab_resets", c.estab_resets}, {"attempt_fails", c.attempt_fails},
      {"active", c.active_opens}, {"passive", c.passive_opens}, {"ofo", c.ofo_queued},
      {"req_q_full", c.req_q_full_drop}, {"fast_active", c.fast_open_active},
      {"fast_active_fail", c.fast_open_active_fail}, {"fast_passive", c.fast_open_passive},
      {"fast_passive_fail", c.fast_open_passive_fail}, {"fast_overflow", c.fast_open_overflow},
      {"fast_asked", c.fast_open_asked}};
  return static_cast<int64_t>(all.at(f));
}

void TcpRuleTest::Icmp(const Words& w) {
  Packet p;
  uint8_t* t = p.Prepend(8);
  Store16(t, local_port_);
  Store16(t + 2, peer_port_);
  Store32(t + 4, our_iss_ + static_cast<uint32_t>(Number(w.at(3))));
  IpHeader inner;
  inner.src = our_;
  inner.dst = peer_;
  inner.protocol = kProtoTcp;
  inner.Write(p.Prepend(inner.size()), 1480);
  uint8_t* i = p.Prepend(8);
  std::memset(i, 0, 8);
  i[0] = static_cast<uint8_t>(Number(w.at(1)));
  i[1] = static_cast<uint8_t>(Number(w.at(2)));
  if (w.size() > 4) Store32(i + 4, static_cast<uint32_t>(Number(w[4])));
  Store16(i + 2, ChecksumOf(p.header()));
  IpHeader h;
  h.src = IpAddr::V4(10, 0, 0, 254);
  h.dst = our_;
  h.protocol = kProtoIcmp;
  const size_t n = p.size();
  h.Write(p.Prepend(h.size()), n);
  stack_->Input(tun_, {p.Flatten()});
}

}  // namespace ringwall::net::testing
