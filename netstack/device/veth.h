// A veth pair: two interfaces, of one stack or of two; what one sends the other receives.
//
// Frames wait in the pair's queues and move in Flush, without any stack's lock. One thread drains
// one direction at a time: an answer that arrives meanwhile is queued and taken by that thread, so
// that two stacks that talk through the pair do not call each other deeper and deeper.
#ifndef RINGWALL_NETSTACK_DEVICE_VETH_H_
#define RINGWALL_NETSTACK_DEVICE_VETH_H_

#include <array>
#include <deque>
#include <utility>

#include "netstack/stack.h"

namespace ringwall::net {

class VethPair;

class VethEnd final : public LinkSink {
 public:
  VethEnd(Ref<VethPair> pair, int side);
  ~VethEnd() override;
  void Transmit(Packet frame) override;
  void Flush() override;
  void OnUp(bool up) override;
  void OnRemoved() override;

  VethPair& pair() { return *pair_; }
  int side() const { return side_; }

 private:
  const Ref<VethPair> pair_;
  const int side_;
};

class VethPair final : public RefCounted<VethPair> {
 public:
  // Makes both ends; the caller adds each to a stack and then says where it is.
  static std::pair<Ref<VethEnd>, Ref<VethEnd>> Create();
  // The end `side` is interface `iface` of `stack` now. Without a stack's lock.
  void Place(int side, RefPtr<Stack> stack, IfIndex iface);
  // Where an end is; no stack once it is gone.
  struct Where {
    RefPtr<Stack> stack;
    IfIndex iface = 0;
  };
  Where Find(int side);
  // The end is being moved to another stack: its removal does not end the pair.
  void SetMoving(int side, bool moving);

 private:
  friend class VethEnd;
  static constexpr size_t kMaxQueue = 4096;
  void Drain(int from);
  void UpdateCarrier();

  mutable Mutex<LockClass::kNetDevice> mu_;
  struct End {
    Where where;
    bool up = false;
    bool moving = false;
    bool removed = false;
    bool told_carrier = false;
    std::deque<Slice> out;  // to the other end
    bool draining = false;
  };
  std::array<End, 2> ends_ GUARDED_BY(mu_);
  bool carrier_stale_ GUARDED_BY(mu_) = false;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_DEVICE_VETH_H_
