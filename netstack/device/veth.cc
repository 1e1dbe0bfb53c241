#include "netstack/device/veth.h"

namespace ringwall::net {

VethEnd::VethEnd(Ref<VethPair> pair, int side) : pair_(std::move(pair)), side_(side) {}
VethEnd::~VethEnd() = default;

std::pair<Ref<VethEnd>, Ref<VethEnd>> VethPair::Create() {
  Ref<VethPair> pair = MakeRef<VethPair>();
  return {MakeRef<VethEnd>(pair, 0), MakeRef<VethEnd>(pair, 1)};
}

void VethPair::Place(int side, RefPtr<Stack> stack, IfIndex iface) {
  {
    MutexLock lock(mu_);
    End& e = ends_[static_cast<size_t>(side)];
    e.where = {std::move(stack), iface};
    e.moving = false;
    e.told_carrier = false;
    carrier_stale_ = true;
  }
  UpdateCarrier();
}

VethPair::Where VethPair::Find(int side) {
  MutexLock lock(mu_);
  return ends_[static_cast<size_t>(side)].where;
}

void VethPair::SetMoving(int side, bool moving) {
  MutexLock lock(mu_);
  ends_[static_cast<size_t>(side)].moving = moving;
}

void VethEnd::Transmit(Packet frame) {
  // The checksums are complete: the ends promise no offload.
  Slice flat = frame.Flatten();
  MutexLock lock(pair_->mu_);
  VethPair::End& me = pair_->ends_[static_cast<size_t>(side_)];
  const VethPair::End& peer = pair_->ends_[static_cast<size_t>(1 - side_)];
  if (!peer.up || peer.removed || me.out.size() >= VethPair::kMaxQueue) return;
  me.out.push_back(std::move(flat));
}

void VethEnd::OnUp(bool up) {
  MutexLock lock(pair_->mu_);
  pair_->ends_[static_cast<size_t>(side_)].up = up;
  pair_->carrier_stale_ = true;
}

void VethEnd::OnRemoved() {
  MutexLock lock(pair_->mu_);
  VethPair::End& me = pair_->ends_[static_cast<size_t>(side_)];
  me.up = false;
  pair_->carrier_stale_ = true;
  if (!me.moving) me.removed = true;
}

void VethEnd::Flush() {
  pair_->Drain(side_);
  RefPtr<Stack> peer_stack, own_stack;
  IfIndex peer_iface = 0;
  {
    MutexLock lock(pair_->mu_);
    VethPair::End& me = pair_->ends_[static_cast<size_t>(side_)];
    VethPair::End& peer = pair_->ends_[static_cast<size_t>(1 - side_)];
    if (me.removed) {
      // Both ends go together.
      own_stack = std::move(me.where.stack);
      me.where = {};
      me.out.clear();
      if (!peer.removed) {
        peer_stack = peer.where.stack;
        peer_iface = peer.where.iface;
      }
    }
  }
  if (peer_stack) {
    (void)peer_stack->RemoveInterface(peer_iface);
    return;
  }
  pair_->UpdateCarrier();
}

void VethPair::Drain(int from) {
  End* end = nullptr;
  {
    MutexLock lock(mu_);
    end = &ends_[static_cast<size_t>(from)];
    if (end->draining || end->out.empty()) return;
    end->draining = true;
  }
  for (;;) {
    std::deque<Slice> batch;
    Where to;
    {
      MutexLock lock(mu_);
      to = ends_[static_cast<size_t>(1 - from)].where;
      if (end->out.empty() || !to.stack) {
        end->out.clear();
        end->draining = false;
        return;
      }
      batch.swap(end->out);
    }
    std::vector<RxFrame> frames;
    frames.reserve(batch.size());
    for (Slice& s : batch) frames.push_back({.data = std::move(s)});
    to.stack->InputBatch(to.iface, frames);
  }
}

// An end has a carrier while both are up.
void VethPair::UpdateCarrier() {
  std::array<Where, 2> tell;
  bool carrier = false;
  {
    MutexLock lock(mu_);
    if (!carrier_stale_) return;
    carrier_stale_ = false;
    carrier = ends_[0].up && ends_[1].up;
    for (size_t i = 0; i < 2; i++) {
      if (ends_[i].told_carrier == carrier || !ends_[i].where.stack) continue;
      ends_[i].told_carrier = carrier;
      tell[i] = ends_[i].where;
    }
  }
  for (const Where& w : tell) {
    if (w.stack) (void)w.stack->SetCarrier(w.iface, carrier);
  }
}

}  // namespace ringwall::net
