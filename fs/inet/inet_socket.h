// InetSocket: what the sockets of AF_INET and AF_INET6 share: the endpoint of the stack beneath,
// readiness, addresses, and the options of IPPROTO_IP and IPPROTO_IPV6. TcpSocket, DatagramSocket
// (UDP, raw, ping) derive from it. Errors of the stack become errnos here.
#ifndef RINGWALL_FS_INET_INET_SOCKET_H_
#define RINGWALL_FS_INET_INET_SOCKET_H_

#include <netinet/in.h>
#include <sys/epoll.h>

#include <map>
#include <optional>

#include "fs/inet/address.h"
#include "fs/inet/inet_control.h"
#include "fs/socket/net_namespace.h"
#include "fs/socket/socket.h"
#include "netstack/endpoint.h"

namespace ringwall {

inline Result<void> FromNet(net::NetResult<void> r) {
  if (!r.ok()) return net::ToErrno(r.error());
  return {};
}
template <typename T>
Result<T> FromNet(net::NetResult<T> r) {
  if (!r.ok()) return net::ToErrno(r.error());
  return r.TakeValue();
}

// What a socket waits on; the stack may tell it a last time when the socket is gone.
class SocketEvents final : public net::EndpointObserver {
 public:
  void OnReadiness(uint32_t bits) override { queue.Notify(ToEvents(bits)); }
  // poll(2)'s events of the stack's readiness bits.
  static EventMask ToEvents(uint32_t readiness) {
    EventMask e = readiness;
    if ((readiness & net::kReadable) != 0) e |= EPOLLRDNORM;
    if ((readiness & net::kWritable) != 0) e |= EPOLLWRNORM;
    return e;
  }
  WaitQueue queue;
};

class InetSocket : public Socket {
 public:
  Result<void> Bind(Task& t, const SocketAddress& address) override;
  Result<SocketAddress> LocalName() override;
  Result<SocketAddress> PeerName() override;
  Result<void> Shutdown(Task& t, int how) override;

  EventMask Poll(EventMask wanted) override;
  WaitQueue* queue() override { return &events_->queue; }

 protected:
  InetSocket(NetNamespace& net, int family, int type, int protocol, Path path, uint32_t flags,
             Ref<net::Endpoint> endpoint);
  ~InetSocket() override;

  // The destination of connect, or of a message. Sizes and families as each caller of Linux's
  // checks them.
  Result<net::SockAddr> ParseConnect(const SocketAddress& a);

  bool KnowsLevel(int level, int name) const override;
  Result<void> SetOption(int level, int name, OptionIn& in) override;
  Result<void> GetOption(int level, int name, OptionOut& out) override;
  Result<void> OnSocketOption(int name, int64_t value) override;
  void OnFilter(RefPtr<net::EndpointFilter> filter) override {
    endpoint_->SetFilter(std::move(filter));
  }
  Result<void> OnReusePortFilter(RefPtr<net::EndpointFilter> filter) override;
  std::optional<Result<void>> GetSocketLevel(int name, OptionOut& out) override;
  Result<uint32_t> BufferSize(int name) override;
  int TakeSocketError() override;

  // MSG_ERRQUEUE.
  Result<size_t> ReceiveError(ReceiveArgs& args);
  // Whether NoteSent has something to do for a send with these flags (MSG_*, SOF_*).
  bool WantsNotes(uint32_t flags, uint32_t stamps) const {
    return (stamps & kStampTx) != 0 ||
           ((flags & MSG_ZEROCOPY) != 0 && options_.zerocopy != 0);
  }
  // Puts the completion of MSG_ZEROCOPY (the bytes were copied) and the stamps of SO_TIMESTAMPING
  // into the error queue. `payload`: what was sent.
  void NoteSent(uint32_t flags, uint32_t stamps, size_t bytes, net::Slice payload);
  // A stamp of what the peer will acknowledge; of a stream alone.
  virtual void NoteWhenAcked(net::QueuedError) {}
  static constexpr uint32_t kStampTx = 1 << 1 | 1 << 8 | 1 << 9;  // SOF_TIMESTAMPING_TX_{SOFTWARE,SCHED,ACK}

  // IPPROTO_IP and IPPROTO_IPV6 (inet_options.cc).
  Result<void> SetIpOption(int name, OptionIn& in);
  Result<void> GetIpOption(int name, OptionOut& out);
  Result<void> SetIpv6Option(int name, OptionIn& in);
  Result<void> GetIpv6Option(int name, OptionOut& out);
  // Tells the namespace's PortWatch, if there is one, that the socket is to serve `at`; a port of 0 is not
  // known yet. Retract undoes it, as the socket's end does.
  Result<void> Announce(const net::SockAddr& at);
  void Retract();
  // A numeric option of the stack.
  Result<void> SetNumber(net::Option option, int64_t value);
  Result<int64_t> GetNumber(net::Option option);

  IpFlags& ip_flags() { return ip_flags_; }
  // What a connection has of its listener.
  void InheritInet(const InetSocket& listener);

  bool is_v6() const { return family() == AF_INET6; }
  net::Endpoint& endpoint() { return *endpoint_; }

 private:
  // Values of options that are only kept.
  struct Kept {
    std::atomic<int32_t> min_ttl{0}, min_hops{0}, unicast_if{0}, unicast_if6{0}, addr_prefs{0x500},
        flow_label{0};
  };
  Result<net::IfIndex> FindDevice(const net::IpAddr& address, int32_t index, int missing);
  Result<void> SetMulticastIf(OptionIn& in);
  Result<void> ChangeMembership(int name, OptionIn& in);
  Result<void> ChangeMembership6(int name, OptionIn& in);
  Result<void> JoinAnycast(OptionIn& in);
  Result<void> SetRouterAlert6(int32_t value);
  Result<uint32_t> PeerMtu();
  Result<void> SetAddressForm(int32_t family);
  Result<void> SetAddressPreferences(int32_t value);
  Result<void> SetSticky(int name, OptionIn& in);
  // group_options.cc
  Result<void> ChangeGroup(int level, int name, OptionIn& in);
  Result<void> SetSourceFilter(OptionIn& in);
  Result<void> GetSourceFilter(OptionOut& out);
  Result<void> SetGroupFilter(int level, OptionIn& in);
  Result<void> GetGroupFilter(int level, OptionOut& out);

  const Ref<SocketEvents> events_ = MakeRef<SocketEvents>();
  const Ref<net::Endpoint> endpoint_;
  IpFlags ip_flags_;
  Kept kept_;
  std::atomic<uint32_t> multicast_addr_{0};
  Guarded<std::optional<net::SockAddr>, LockClass::kLeaf> announced_;
  std::atomic<uint32_t> zerocopy_next_{0}, stamp_key_{0};
  Guarded<std::vector<std::byte>, LockClass::kLeaf> ip_options_;
  Guarded<std::map<int, std::vector<std::byte>>, LockClass::kLeaf> sticky_;  // by option
};

void RegisterInetSockets();

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_INET_SOCKET_H_
