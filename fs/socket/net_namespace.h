// NetNamespace: a network namespace (struct net): its TCP/IP stack and the world around that: the
// clock, randomness, and a timer of the kernel's queue that runs the stack's deadlines.
//
// Counted by tasks and sockets. The stack's lock is LockClass::kNetstack.
#ifndef RINGWALL_FS_SOCKET_NET_NAMESPACE_H_
#define RINGWALL_FS_SOCKET_NET_NAMESPACE_H_

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <string>

#include "netstack/host.h"
#include "netstack/stack.h"
#include "sentry/kernel/net_base.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/timer_queue.h"

namespace ringwall {

class NetNamespace final : public NetNamespaceBase, private net::StackHost, private Timer {
 public:
  // loopback_up: the initial namespace's `lo` works from the start; a new one's must be set up.
  static Ref<NetNamespace> Create(Kernel& kernel, bool loopback_up);
  static Ref<NetNamespace> Create(Kernel& kernel, bool loopback_up, Ref<UserNamespace> owner,
                                  bool first);
  static NetNamespace& Of(Task& t) { return static_cast<NetNamespace&>(t.net()); }

  Ref<NetNamespaceBase> NewNamespace(Ref<UserNamespace> owner) override;

  net::Stack& stack() { return *stack_; }
  Kernel& kernel() { return kernel_; }
  // The inode number of /proc/PID/ns/net.
  uint64_t ino() const { return number(); }
  // /proc/sys/net's values that are only kept, by path.
  Guarded<std::map<std::string, std::string, std::less<>>, LockClass::kLeaf> sysctls;
  // net.unix.max_dgram_qlen: of sockets made from now on. A negative one is no limit.
  std::atomic<int> max_dgram_qlen{10};

  // Hears of changes of links, addresses, routes and neighbours, with the stack's lock held: only
  // note it, call nothing of the stack. One, set before the namespace is used by guests.
  class ChangeListener {
   public:
    virtual ~ChangeListener() = default;
    virtual void OnNetChange(NetNamespace& net, const net::StackHost::Change& change) = 0;
    // Another namespace ended, which the one of this stack knew by a number. Without locks.
    virtual void OnPeerGone(const net::Stack& stack, int32_t id) = 0;
  };
  static void SetChangeListener(ChangeListener* listener);

 private:
  template <typename T, typename... Args>
  friend Ref<T> ringwall::MakeRef(Args&&... args);
  NetNamespace(Kernel& kernel, Ref<UserNamespace> owner, bool first);
  ~NetNamespace() override;

  net::TimePoint Now() override;
  void FillRandom(net::MutableByteSpan out) override;
  void DeadlineChanged(net::TimePoint next) override;
  void OnChange(const Change& change) override;
  void OnLog(uint8_t level, std::string_view text) override;
  std::optional<int64_t> OnExpire(int64_t now_ns) override;

  Kernel& kernel_;
  const bool first_;
  RefPtr<net::Stack> stack_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_SOCKET_NET_NAMESPACE_H_
