// Nat: --network=user. Speaks for the guest through ordinary sockets of the host, in a helper process
// of its own that needs no privilege.
//
//   Sentry's Stack <--frames over a SOCK_SEQPACKET pair--> Nat <--sockets--> the host's network
//
// TCP is terminated by a second Stack, which takes every destination for its own: the guest's SYN is
// kept back until connect() of the host has succeeded, so that a refused or unreachable peer looks so
// to the guest as well. UDP and ping need no stack: headers are taken off and put on. Names are
// asked at the gateway's address, port 53, and forwarded to the host's resolvers.
//
// The Sentry is not trusted: frames are checked views, tables are bounded, the host's loopback is out
// of reach unless asked for. One thread, one epoll; nothing runs while nothing happens.
#ifndef RINGWALL_RUNSC_NET_NAT_H_
#define RINGWALL_RUNSC_NET_NAT_H_

#include <sys/socket.h>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "netstack/stack.h"
#include "netstack/tcp/endpoint.h"
#include "runsc/net/frame_link.h"
#include "sentry/base/host_error.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// The network between guest and helper, the same in every sandbox. One kind per process.
class NatAddresses {
 public:
  net::IpAddr guest4, gateway4, guest6, gateway6;
  uint8_t len4 = 24, len6 = 64;
  net::MacAddr guest_mac, gateway_mac;
  // Any IPv4 datagram fits one frame.
  uint32_t mtu = 65535;
  static const NatAddresses& Get() { return current_; }
  // From here on: a link that carries questions for names only, beside the container's own.
  static void UseForNames();

 private:
  static NatAddresses Usual();
  static NatAddresses current_;
};

struct NatPublished {
  UniqueFd fd;  // bound; TCP ones listen
  bool udp = false;
  uint16_t guest_port = 0;
};

struct NatOptions {
  UniqueFd link;  // SOCK_SEQPACKET to the Sentry
  bool host_loopback = false;  // the gateway's address stands for the host's 127.0.0.1 and ::1
  std::vector<net::SockAddr> resolvers;
  std::vector<NatPublished> published;
  UniqueFd ports;  // --network=host: requests of the Sentry (port_message.h)
  bool names_only = false;  // nothing but the gateway's port 53
  // Raw ICMP and ICMPv6 sockets where the caller may open such; else ping sockets are tried.
  UniqueFd ping4, ping6;
};

// What epoll reports to.
class NatWatcher {
 public:
  virtual ~NatWatcher() = default;
  virtual void OnEvents(uint32_t events) = 0;
};

class NatTcp;
class NatUdp;
class NatPing;
class NatPorts;

class Nat final : public net::StackHost, private NatWatcher {
 public:
  explicit Nat(NatOptions options);
  ~Nat() override;
  // Makes the stack; before the filter.
  HostResult<void> Prepare();
  // Serves until the Sentry is gone.
  void Run();
  // One turn of the loop, waiting at most `timeout_ms` (-1: as long as it takes). False at the end.
  bool Turn(int timeout_ms);

  // ---- For the parts below. ----
  net::Stack& stack() { return *stack_; }
  const NatOptions& options() const { return options_; }
  net::TimePoint Now() override;
  bool Watch(int fd, uint32_t events, NatWatcher* watcher);
  void Unwatch(int fd);
  // Keeps a watcher until the events at hand are over.
  void Bury(std::unique_ptr<NatWatcher> watcher) { graveyard_.push_back(std::move(watcher)); }
  // Gives a frame of the guest to the stack, at the end of the turn.
  void ToStack(net::RxFrame frame) { to_stack_.push_back(std::move(frame)); }
  // Sends an IP packet to the guest; `packet` starts with its transport header.
  void ToGuest(const net::IpAddr& src, const net::IpAddr& dst, uint8_t protocol,
               net::Packet packet, uint8_t ttl = 64);
  // An ICMP error about a packet of the guest, quoting its start.
  void ErrorToGuest(const net::IpAddr& from, const net::IpAddr& guest, uint8_t type, uint8_t code,
                    net::ByteSpan about);
  // Where a destination of the guest lies for the host's sockets; nullopt: nowhere.
  enum class Verdict : uint8_t { kHost, kStack, kRefused };
  Verdict Translate(const net::SockAddr& to, net::SockAddr* host) const;

 private:
  void OnEvents(uint32_t events) override;
  void FrameIn(net::RxFrame& frame);
  void FillRandom(net::MutableByteSpan out) override;
  void DeadlineChanged(net::TimePoint next) override { deadline_ = std::min(deadline_, next); }

  NatOptions options_;
  UniqueFd epoll_;
  RefPtr<net::Stack> stack_;
  RefPtr<FrameLink> link_;
  net::IfIndex iface_ = 0;
  net::TimePoint deadline_ = net::TimePoint::Never();
  net::TimePoint next_sweep_ = net::TimePoint::Never();
  bool ended_ = false;
  bool link_ready_ = true;
  bool link_watched_for_write_ = false;
  uint16_t next_id_ = 1;
  std::vector<net::RxFrame> frames_, to_stack_;
  std::vector<std::unique_ptr<NatWatcher>> graveyard_;
  std::unique_ptr<NatTcp> tcp_;
  std::unique_ptr<NatUdp> udp_;
  std::unique_ptr<NatPing> ping_;
  std::unique_ptr<NatPorts> ports_;
};

// sockaddr of the host and back.
struct HostSockAddr {
  sockaddr_storage bytes = {};
  socklen_t size = sizeof(sockaddr_storage);
  HostSockAddr() = default;
  explicit HostSockAddr(const net::SockAddr& from);
  sockaddr* raw() { return reinterpret_cast<sockaddr*>(&bytes); }
  net::SockAddr Get() const;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_NAT_H_
