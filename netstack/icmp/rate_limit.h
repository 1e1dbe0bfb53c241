// How many ICMP errors may be sent: a bucket for all (icmp_msgs_per_sec, icmp_msgs_burst) and one
// per destination (icmp_ratelimit: one a second, a burst of 6). RFC 4443 2.4(f), RFC 1812 4.3.2.8.
#ifndef RINGWALL_NETSTACK_ICMP_RATE_LIMIT_H_
#define RINGWALL_NETSTACK_ICMP_RATE_LIMIT_H_

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "netstack/time.h"
#include "netstack/wire/address.h"

namespace ringwall::net {

class TokenBucket {
 public:
  TokenBucket(int64_t per_second, int64_t burst)
      : per_second_(per_second), burst_(burst), tokens_ns_(burst * 1000000000) {}
  bool Take(TimePoint now) {
    const int64_t gained = std::min<int64_t>((now - last_).nanos(), 1000000000ll * burst_);
    last_ = now;
    tokens_ns_ = std::min(tokens_ns_ + std::max<int64_t>(gained, 0) * per_second_,
                          burst_ * 1000000000);
    if (tokens_ns_ < 1000000000) return false;
    tokens_ns_ -= 1000000000;
    return true;
  }

 private:
  int64_t per_second_;
  int64_t burst_;
  int64_t tokens_ns_;  // tokens times a billion
  TimePoint last_;
};

class IcmpRateLimit {
 public:
  bool Allow(const IpAddr& to, TimePoint now) {
    if (!all_.Take(now)) return false;
    if (to.IsLoopback()) return true;
    // Spoofed sources cannot grow it: the table starts afresh when it is full.
    if (per_peer_.size() >= 4096) per_peer_.clear();
    return per_peer_.try_emplace(to, TokenBucket(1, 6)).first->second.Take(now);
  }

 private:
  TokenBucket all_{1000, 50};
  absl::flat_hash_map<IpAddr, TokenBucket> per_peer_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_ICMP_RATE_LIMIT_H_
