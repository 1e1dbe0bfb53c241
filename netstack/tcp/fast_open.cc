#include "netstack/tcp/fast_open.h"

namespace ringwall::net {

std::array<uint8_t, kFastOpenCookie> MakeFastOpenCookie(const SipKey& key, const IpAddr& client,
                                                        const IpAddr& server) {
  std::array<uint8_t, 32> in;
  const size_t n = client.size();
  std::memcpy(in.data(), client.data(), n);
  std::memcpy(in.data() + n, server.data(), n);
  const uint64_t hash = SipHash(key, ByteSpan(in.data(), 2 * n));
  std::array<uint8_t, kFastOpenCookie> out;
  std::memcpy(out.data(), &hash, sizeof(hash));
  return out;
}

const FastOpenCache::Entry* FastOpenCache::Find(const IpAddr& local, const IpAddr& remote) const {
  auto it = entries_.find(Key(local, remote));
  return it == entries_.end() ? nullptr : &it->second;
}

bool FastOpenCache::Resting(const Entry& e, TimePoint now) {
  if (e.losses < 2) return false;
  return now < e.last_loss + Duration::Seconds(int64_t{60} << std::min(e.losses, 20));
}

void FastOpenCache::Learn(const IpAddr& local, const IpAddr& remote, const TcpOptions& answer,
                          uint16_t mss, bool lost, TimePoint now) {
  const Key key(local, remote);
  const bool cookie = answer.fast_open && answer.cookie_size != 0;
  auto it = entries_.find(key);
  if (it == entries_.end()) {
    if (!cookie && !lost) return;
    if (entries_.size() >= kMost) {
      entries_.erase(order_.front());
      order_.pop_front();
    }
    it = entries_.try_emplace(key).first;
    order_.push_back(key);
  }
  Entry& e = it->second;
  e.mss = mss;
  if (cookie) {
    e.cookie.ask = true;
    e.cookie.cookie_size = answer.cookie_size;
    e.cookie.cookie = answer.cookie;
  }
  if (lost) {
    e.losses++;
    e.last_loss = now;
  } else {
    e.losses = 0;
  }
}

}  // namespace ringwall::net
