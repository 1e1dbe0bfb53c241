// Streams between two stacks over bad links arrive whole and in order, by many seeds. And how fast:
// virtual-time throughput against what the link could carry.
#include <gtest/gtest.h>

#include <cstdlib>

#include "netstack/tcp/endpoint.h"
#include "netstack/testing/lossy_link.h"

namespace ringwall::net::testing {
namespace {

struct Pair {
  RefPtr<TcpEndpoint> client, server, listener;
};

bool Join(TwoStacks& net, Family f, Pair& p, bool cubic = true) {
  p.listener = net.stack(1).NewTcp(f);
  EXPECT_TRUE(p.listener->SetOption(Option::kCongestion, cubic).ok());
  EXPECT_TRUE(p.listener->Bind({TwoStacks::Addr(1, f), 80}).ok());
  EXPECT_TRUE(p.listener->Listen(5).ok());
  p.client = net.stack(0).NewTcp(f);
  EXPECT_TRUE(p.client->SetOption(Option::kCongestion, cubic).ok());
  NetResult<void> r = p.client->Connect({TwoStacks::Addr(1, f), 80});
  EXPECT_EQ(r.error(), NetError::kInProgress);
  return net.Run(
      [&] {
        if (!p.server) {
          NetResult<Ref<TcpEndpoint>> s = p.listener->Accept();
          if (s.ok()) p.server = *s;
        }
        return static_cast<bool>(p.server) && p.client->State() == TcpState::kEstablished;
      },
      Duration::Seconds(300));
}

void Close(Pair& p) {
  for (RefPtr<TcpEndpoint>* e : {&p.client, &p.server, &p.listener}) {
    if (*e) (*e)->Close();
  }
}

TEST(LossyLinkTest, StreamsBothWaysArriveWholeBySeeds) {
  const char* many = std::getenv("RINGWALL_SEEDS");
  const uint64_t seeds = many != nullptr ? std::strtoull(many, nullptr, 10) : 300;
  for (uint64_t seed = 1; seed <= seeds; seed++) {
    FakeHost choose(seed);
    LinkModel m;
    m.delay = Duration::Micros(static_cast<int64_t>(choose.Next() % 60000));
    if (choose.Next() % 2) m.jitter = Duration::Micros(static_cast<int64_t>(choose.Next() % 30000));
    m.loss = static_cast<double>(choose.Next() % 12) / 100;
    m.repeat = static_cast<double>(choose.Next() % 10) / 100;
    m.corrupt = static_cast<double>(choose.Next() % 5) / 100;
    if (choose.Next() % 2) m.bits_per_second = 100000 << choose.Next() % 12;
    StackConfig c;
    c.tcp_sack = choose.Next() % 4 != 0;
    c.tcp_timestamps = choose.Next() % 4 != 0;
    c.tcp_ecn = choose.Next() % 2 ? 1 : 2;
    c.tcp_window_scaling = choose.Next() % 8 != 0;
    TwoStacks net(seed, m, c, choose.Next() % 4 == 0 ? 600 : 1500);
    Pair p;
    const Family f = choose.Next() % 2 && choose.Next() % 4 ? Family::kV6 : Family::kV4;


    if (!Join(net, f, p, choose.Next() % 2)) {
      // Seven lost SYNs in a row are possible; then the error is honest.
      EXPECT_EQ(p.client->State() == TcpState::kClosed || p.client->State() == TcpState::kSynSent ||
                p.client->State() == TcpState::kEstablished, true);
      Close(p);
      continue;
    }
    const size_t total = 20000 + choose.Next() % 200000;
    Stream there(Ref(p.client), Ref(p.server), total, seed);
    Stream back(Ref(p.server), Ref(p.client), total / 2, seed + 1);
    bool a = false, b = false;
    const bool done = net.Run(
        [&] {
          a = there.Step();
          b = back.Step();
          return a && b;
        },
        Duration::Seconds(4000));
    EXPECT_TRUE(done) << "seed " << seed << " there " << there.read() << " back " << back.read()
                      << " of " << total;
    EXPECT_TRUE(there.Whole() && back.Whole())
        << "seed " << seed << " wrong " << there.wrong << back.wrong << " failed " << there.failed
        << back.failed << " read " << there.read() << "/" << total << " " << back.read() << "/"
        << total / 2;
    Close(p);
    if (::testing::Test::HasFailure()) break;
  }
}

struct Rate {
  double fraction;  // of the link's rate
  TcpInfo info;
};

Rate Throughput(uint64_t seed, int64_t bps, Duration one_way, double loss, bool cubic,
                size_t bytes, size_t queue) {
  LinkModel m;
  m.delay = one_way;
  m.bits_per_second = bps;
  m.queue_bytes = queue;
  TwoStacks net(seed, m);
  Pair p;
  EXPECT_TRUE(Join(net, Family::kV4, p, cubic));
  net.model().loss = loss;
  const TimePoint start = net.now();
  Stream s(Ref(p.client), Ref(p.server), bytes, seed);
  EXPECT_TRUE(net.Run([&] { return s.Step(); }, Duration::Seconds(10000)));
  EXPECT_TRUE(s.Whole());
  const double seconds = static_cast<double>((net.now() - start).nanos()) / 1e9;
  if (std::getenv("RINGWALL_RATES") != nullptr) {
    const TcpInfo i = p.client->Info();
    std::printf("%lld b/s %lld us loss %g: %.3f; retrans %u cwnd %u ssthresh %u rtt %lld us "
                "lost %llu overflow %llu timeouts %llu snd_wnd %u reord %u\n",
                static_cast<long long>(bps), static_cast<long long>(one_way.micros()), loss,
                static_cast<double>(bytes) * 8 / seconds / static_cast<double>(bps),
                i.total_retrans, i.cwnd, i.ssthresh, static_cast<long long>(i.rtt.micros()),
                static_cast<unsigned long long>(net.lost),
                static_cast<unsigned long long>(net.overflowed),
                static_cast<unsigned long long>(net.stack(0).GetCounters().tcp.timeouts),
                i.send_window, i.reord_seen);
  }
  Rate r{static_cast<double>(bytes) * 8 / seconds / static_cast<double>(bps), p.client->Info()};
  Close(p);
  return r;
}

TEST(ThroughputTest, CleanLinkIsFilled) {  // RFC 5681, RFC 7323
  EXPECT_GT(Throughput(1, 10000000, Duration::Millis(10), 0, true, 8 << 20, 64000).fraction, 0.85);
  EXPECT_GT(Throughput(2, 100000000, Duration::Millis(10), 0, true, 40 << 20, 256000).fraction,
            0.7);
  EXPECT_GT(Throughput(3, 10000000, Duration::Millis(10), 0, false, 8 << 20, 64000).fraction, 0.85);
}

TEST(ThroughputTest, LittleLossCostsLittle) {  // RFC 6675, RFC 8985, RFC 9438
  EXPECT_GT(Throughput(4, 10000000, Duration::Millis(5), 0.001, true, 8 << 20, 64000).fraction,
            0.75);
  EXPECT_GT(Throughput(5, 10000000, Duration::Millis(5), 0.01, true, 4 << 20, 64000).fraction, 0.4);
  EXPECT_GT(Throughput(6, 10000000, Duration::Millis(5), 0.01, false, 4 << 20, 64000).fraction,
            0.3);
}

}  // namespace
}  // namespace ringwall::net::testing
