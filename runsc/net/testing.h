// A Stack in real time, and pairs of network namespaces joined by a veth pair, for tests against the
// host's own stack.
#ifndef RINGWALL_RUNSC_NET_TESTING_H_
#define RINGWALL_RUNSC_NET_TESTING_H_

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "netstack/stack.h"
#include "runsc/net/rtnetlink.h"
#include "sentry/base/result.h"

namespace ringwall::testing {

// Whether it holds within ten seconds.
template <typename F>
bool Eventually(F&& holds) {
  for (int i = 0; i < 10'000; i++) {
    if (holds()) return true;
    const timespec pause = {0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
  return false;
}

class RealTimeHost final : public net::StackHost {
 public:
  net::TimePoint Now() override {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return net::TimePoint::FromNanos(now.tv_sec * 1'000'000'000L + now.tv_nsec);
  }
  void FillRandom(net::MutableByteSpan out) override {
    RW_CHECK(getrandom(out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));
  }
  void DeadlineChanged(net::TimePoint next) override {
    std::lock_guard<std::mutex> lock(mu_);
    next_ = std::min(next_, next);
    changed_.notify_one();
  }
  void Start(net::Stack& stack) {
    thread_ = std::thread([this, &stack] {
      std::unique_lock<std::mutex> lock(mu_);
      while (!stop_) {
        const int64_t wait = next_.IsNever() ? 1'000'000'000 : (next_ - Now()).nanos();
        if (wait > 0) changed_.wait_for(lock, std::chrono::nanoseconds(wait));
        if (stop_ || next_ > Now()) continue;
        next_ = net::TimePoint::Never();
        lock.unlock();
        stack.OnDeadline();
        lock.lock();
      }
    });
  }
  void Stop() {
    {
      std::lock_guard<std::mutex> lock(mu_);
      stop_ = true;
      changed_.notify_one();
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  net::TimePoint next_ = net::TimePoint::Never();
  bool stop_ = false;
  std::thread thread_;
};

inline UniqueFd CurrentNamespace() {
  return UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
}

inline HostResult<void> SetAddress(RtNetlink& netlink, unsigned interface, int family,
                                   const net::IpAddr& addr, uint8_t len) {
  ifaddrmsg info = {};
  info.ifa_family = static_cast<uint8_t>(family);
  info.ifa_prefixlen = len;
  info.ifa_flags = IFA_F_NODAD;
  info.ifa_index = interface;
  NetlinkMessage m(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, info);
  m.Add(IFA_LOCAL, addr.data(), addr.size());
  m.Add(IFA_ADDRESS, addr.data(), addr.size());
  return netlink.Request(m, "add an address");
}

inline HostResult<void> SetUp(RtNetlink& netlink, unsigned interface, uint32_t mtu = 0) {
  ifinfomsg info = {};
  info.ifi_index = static_cast<int>(interface);
  info.ifi_flags = info.ifi_change = IFF_UP;
  NetlinkMessage m(RTM_NEWLINK, 0, info);
  if (mtu != 0) m.Add(IFLA_MTU, mtu);
  return netlink.Request(m, "set an interface up");
}

// `name` here, `peer` in the namespace `other`.
inline HostResult<void> MakeVeth(RtNetlink& netlink, const std::string& name,
                                 const std::string& peer, int other) {
  NetlinkMessage m(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  m.Add(IFLA_IFNAME, name);
  const size_t info = m.BeginNest(IFLA_LINKINFO);
  m.Add(IFLA_INFO_KIND, std::string("veth"));
  const size_t data = m.BeginNest(IFLA_INFO_DATA);
  const size_t end = m.BeginNest(VETH_INFO_PEER);
  m.AddFixed(ifinfomsg{});
  m.Add(IFLA_IFNAME, peer);
  m.Add(IFLA_NET_NS_FD, static_cast<uint32_t>(other));
  m.EndNest(end);
  m.EndNest(data);
  m.EndNest(info);
  return netlink.Request(m, "make a veth pair");
}

}  // namespace ringwall::testing

#endif  // RINGWALL_RUNSC_NET_TESTING_H_
