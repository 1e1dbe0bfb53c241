// What AF_PACKET sockets do beyond single frames: rings, fanout, memberships (net/packet/af_packet.c).
#include <linux/if_packet.h>

#include <algorithm>

#include "fs/inet/packet_socket.h"

namespace ringwall {

namespace {

// struct packet_mreq_max, of which packet_mreq has eight bytes of address.
struct PacketMreqAbi {
  int32_t index;
  uint16_t type, length;
  std::array<uint8_t, 32> address;
};
constexpr size_t kShortMreq = 16;
static_assert(sizeof(PacketMreqAbi) == 40);

}  // namespace

// packet_set_ring()
Result<void> PacketSocket::SetRing(OptionIn& in, bool transmit) {
  const RingVersion version = static_cast<RingVersion>(version_.load());
  const size_t size = version == RingVersion::kV3 ? sizeof(RingRequest) : 16;
  if (in.length() < size) return Errno(EINVAL);
  RingRequest request;
  const std::vector<std::byte> bytes = TRY(in.Bytes(size));
  memcpy(&request, bytes.data(), size);
  const uint32_t reserve = static_cast<uint32_t>(reserve_.load());
  RefPtr<PacketRing> fresh, old;
  {
    MutexLock lock(rings_mu_);
    if (rings_.mapped) return Errno(EBUSY);
    RefPtr<PacketRing>& here = transmit ? rings_.transmit : rings_.receive;
    if (request.block_count != 0) {
      if (here) return Errno(EBUSY);
      TRY(PacketRing::Check(request, version, reserve));
      if (transmit && version == RingVersion::kV3 &&
          (request.retire_ms != 0 || request.private_size != 0 || request.features != 0)) {
        return Errno(EINVAL);
      }
      fresh = MakeRef<PacketRing>(net().kernel(), request, version, reserve, events_->queue);
    } else if (request.frame_count != 0) {
      return Errno(EINVAL);
    }
    const PacketRing* other = transmit ? rings_.receive.get() : rings_.transmit.get();
    const size_t whole = (fresh ? fresh->size() : 0) + (other != nullptr ? other->size() : 0);
    RingMemory memory;
    if (whole != 0) memory = TRY(RingMemory::Create(whole));
    // ---- No failure below this line. ----
    old = std::move(here);
    here = fresh;
    rings_.memory = std::move(memory);
    uint8_t* at = rings_.memory.data();
    if (rings_.receive) {
      rings_.receive->SetMemory(at);
      at += rings_.receive->size();
    }
    if (rings_.transmit) rings_.transmit->SetMemory(at);
  }
  if (!transmit) endpoint_->SetSink(fresh ? RefPtr<net::PacketSink>(fresh.get()) : nullptr);
  if (old) old->Stop();
  return {};
}

// packet_mmap()
Result<HostMapping> PacketSocket::Map(uint64_t offset, uint64_t length, int, bool) {
  MutexLock lock(rings_mu_);
  const size_t size = rings_.memory.size();
  if (size == 0 || offset >= size || length > size - offset) return Errno(EINVAL);
  rings_.mapped = true;
  return HostMapping{rings_.memory.fd(), offset};
}

// tpacket_snd()
Result<size_t> PacketSocket::SendRing(PacketRing& ring, net::IfIndex device,
                                      const net::MacAddr& to, uint16_t type) {
  size_t sent = 0;
  while (std::optional<PacketRing::Outgoing> next = ring.NextToSend()) {
    if (next->malformed) {
      if (loss_ != 0) continue;
      return sent > 0 ? Result<size_t>(sent) : Result<size_t>(Errno(EINVAL));
    }
    net::NetResult<size_t> n = endpoint_->Send(net::Chain(next->data), device, to, type);
    if (!n.ok()) {
      if (loss_ != 0) continue;
      return sent > 0 ? Result<size_t>(sent) : Result<size_t>(net::ToErrno(n.error()));
    }
    sent += *n;
  }
  return sent;
}

// Every frame that reaches the interface is seen anyway: memberships are counted, no more.
Result<void> PacketSocket::ChangeMembership(OptionIn& in, bool add) {
  if (in.length() < kShortMreq) return Errno(EINVAL);
  const std::vector<std::byte> bytes = TRY(in.Bytes(sizeof(PacketMreqAbi)));
  PacketMreqAbi m = {};
  memcpy(&m, bytes.data(), bytes.size());
  if (bytes.size() < offsetof(PacketMreqAbi, address) + m.length) return Errno(EINVAL);
  if (add) {
    if (!net().stack().FindInterfaceInfo(static_cast<net::IfIndex>(m.index))) return Errno(ENODEV);
    if (m.length > 6) return Errno(EINVAL);
    // packet_dev_mc()
    const bool whole = m.type == PACKET_MR_MULTICAST || m.type == PACKET_MR_UNICAST;
    if (whole && m.length != 6) return Errno(EINVAL);
  }
  return memberships_.With([&](std::vector<Membership>& all) -> Result<void> {
    auto it = std::find_if(all.begin(), all.end(), [&](const Membership& x) {
      return x.index == m.index && x.type == m.type && x.length == m.length &&
             x.address == m.address;
    });
    if (add) {
      if (it == all.end()) {
        all.push_back({m.index, m.type, m.length, m.address, 1});
      } else {
        it->users++;
      }
    } else if (it != all.end() && --it->users == 0) {
      all.erase(it);
    }
    return {};
  });
}

// fanout_add(). The value is an identifier and a kind with flags; in struct fanout_args the most members
// follow.
Result<void> PacketSocket::SetFanout(OptionIn& in) {
  if (in.length() != sizeof(uint32_t) && in.length() != sizeof(uint64_t)) return Errno(EINVAL);
  uint32_t v, most = 0;
  if (in.length() == sizeof(uint64_t)) {
    const uint64_t both = TRY(in.Value<uint64_t>());
    v = static_cast<uint32_t>(both);
    most = static_cast<uint32_t>(both >> 32);
  } else {
    v = TRY(in.Value<uint32_t>());
  }
  const uint32_t flags = v >> 24;
  constexpr uint32_t kUnique = PACKET_FANOUT_FLAG_UNIQUEID >> 8;
  uint32_t id = v & 0xffff;
  if ((flags & kUnique) != 0) {
    if (id != 0) return Errno(EINVAL);
    static std::atomic<uint32_t> next{1};
    id = next.fetch_add(1) & 0xffff;
  }
  return FromNet(endpoint_->JoinFanout(static_cast<uint16_t>(id), static_cast<uint8_t>(v >> 16),
                                       static_cast<uint8_t>(flags & ~kUnique), most));
}

}  // namespace ringwall
