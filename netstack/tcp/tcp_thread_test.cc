// Threads share a stack: writers, readers and the timer thread at once. TSan's meat.
#include <gtest/gtest.h>

#include <atomic>
#include <ctime>
#include <thread>
#include <vector>

#include "netstack/tcp/endpoint.h"
#include "netstack/testing/fake_host.h"

namespace ringwall::net::testing {
namespace {

class RealTimeHost final : public StackHost {
 public:
  TimePoint Now() override {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return TimePoint::FromNanos(t.tv_sec * 1000000000ll + t.tv_nsec);
  }
  void FillRandom(MutableByteSpan out) override { random_.FillRandom(out); }
  void DeadlineChanged(TimePoint) override {}

 private:
  FakeHost random_{99};
};

TEST(TcpThreadTest, StreamsOfManyThreadsArriveWhole) {
  RealTimeHost host;
  Ref<Stack> stack = MakeRef<Stack>(host);
  InterfaceConfig lo;
  lo.name = "lo";
  lo.kind = LinkKind::kLoopback;
  lo.mtu = 65536;
  ASSERT_TRUE(stack->SetUp(*stack->AddInterface(lo, nullptr), true).ok());
  const SockAddr at{IpAddr::Loopback(Family::kV4), 5000};
  Ref<TcpEndpoint> listener = stack->NewTcp(Family::kV4);
  ASSERT_TRUE(listener->Bind(at).ok());
  ASSERT_TRUE(listener->Listen(16).ok());

  std::atomic<bool> stop = false;
  std::thread timers([&] {
    while (!stop) {
      if (stack->NextDeadline() <= host.Now()) stack->OnDeadline();
      std::this_thread::yield();
    }
  });
  constexpr size_t kTotal = 4 << 20;
  std::atomic<size_t> wrong = 0, read = 0;
  std::vector<std::thread> threads;
  std::vector<Ref<TcpEndpoint>> ends;
  for (int i = 0; i < 3; i++) {
    Ref<TcpEndpoint> client = stack->NewTcp(Family::kV4);
    (void)client->Connect(at);
    NetResult<Ref<TcpEndpoint>> server = listener->Accept();
    ASSERT_TRUE(server.ok());
    ends.push_back(client);
    ends.push_back(*server);
    threads.emplace_back([client] {
      size_t sent = 0;
      std::vector<uint8_t> chunk(10000);
      while (sent < kTotal) {
        const size_t n = std::min(chunk.size(), kTotal - sent);
        for (size_t k = 0; k < n; k++) chunk[k] = static_cast<uint8_t>((sent + k) * 7 >> 3);
        NetResult<size_t> r = client->Send(ByteSpan(chunk.data(), n));
        if (r.ok()) {
          sent += *r;
        } else {
          std::this_thread::yield();
        }
      }
      (void)client->Shutdown(false, true);
    });
    threads.emplace_back([&wrong, &read, server = *server] {
      size_t at_byte = 0;
      while (true) {
        NetResult<Chain> c = server->Peek(60000);
        if (!c.ok()) {
          std::this_thread::yield();
          continue;
        }
        if (c->empty()) break;
        for (const Slice& s : c->slices()) {
          for (size_t k = 0; k < s.size(); k++, at_byte++) {
            if (s.data()[k] != static_cast<uint8_t>(at_byte * 7 >> 3)) wrong++;
          }
        }
        server->Consume(c->size());
      }
      read += at_byte;
    });
  }
  for (std::thread& t : threads) t.join();
  stop = true;
  timers.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(read, 3 * kTotal);
  for (auto& e : ends) e->Close();
  listener->Close();
  stack->Shutdown();
}

}  // namespace
}  // namespace ringwall::net::testing
