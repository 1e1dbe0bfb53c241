// TCP Fast Open (RFC 7413): the cookies that servers give and that clients keep.
#ifndef RINGWALL_NETSTACK_TCP_FAST_OPEN_H_
#define RINGWALL_NETSTACK_TCP_FAST_OPEN_H_

#include <deque>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "netstack/siphash.h"
#include "netstack/tcp/types.h"
#include "netstack/wire/address.h"

namespace ringwall::net {

// TFO_*, the bits of net.ipv4.tcp_fastopen.
inline constexpr uint32_t kTfoClient = 1, kTfoServer = 2, kTfoClientNoCookie = 4,
                          kTfoServerNoCookie = 0x200, kTfoServerAll = 0x400;

// The cookie of a client, eight bytes, as Linux makes them: a key's hash of both addresses.
inline constexpr size_t kFastOpenCookie = 8;
std::array<uint8_t, kFastOpenCookie> MakeFastOpenCookie(const SipKey& key, const IpAddr& client,
                                                        const IpAddr& server);

// What servers told a client. Bounded: the oldest goes.
class FastOpenCache {
 public:
  struct Entry {
    TcpFastOpen cookie;  // ask is true
    uint16_t mss = 536;
    int losses = 0;      // SYNs with data that went astray, in a row
    TimePoint last_loss;
  };
  // Null: nothing known of it, ask for a cookie.
  const Entry* Find(const IpAddr& local, const IpAddr& remote) const;
  // Whether too many were lost lately: tcp_connect()'s exponential patience.
  static bool Resting(const Entry& e, TimePoint now);
  void Learn(const IpAddr& local, const IpAddr& remote, const TcpOptions& answer, uint16_t mss,
             bool lost, TimePoint now);

 private:
  static constexpr size_t kMost = 1024;
  using Key = std::pair<IpAddr, IpAddr>;
  absl::flat_hash_map<Key, Entry> entries_;
  std::deque<Key> order_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_FAST_OPEN_H_
