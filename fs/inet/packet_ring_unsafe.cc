#include <linux/if_packet.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "fs/inet/packet_ring.h"
#include "fs/socket/timestamp.h"
#include "sentry/kernel/kernel.h"

namespace ringwall {

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kMostMemory = 256 << 20;
constexpr uint32_t kAlign = 16;         // TPACKET_ALIGNMENT
constexpr uint32_t kLinkAddress = 20;   // sizeof(struct sockaddr_ll)
constexpr uint32_t kBlockHeader = 48;   // sizeof(struct tpacket_block_desc)
constexpr uint32_t kLeastOffset = 16;   // what tpacket_rcv() leaves for a link header at least
constexpr int64_t kDefaultRetireMs = 8;  // DEFAULT_PRB_RETIRE_TOV

constexpr uint32_t Align(uint32_t n, uint32_t to) { return (n + to - 1) & ~(to - 1); }

// TPACKET_HDRLEN and its kin: the header, aligned, and the address behind it.
constexpr uint32_t HeaderSize(RingVersion v) {
  return (v == RingVersion::kV3 ? uint32_t{sizeof(tpacket3_hdr)} : 32u) + kLinkAddress;
}
static_assert(sizeof(tpacket_hdr) == 32 && sizeof(tpacket2_hdr) == 32 && sizeof(tpacket3_hdr) == 48);
static_assert(sizeof(tpacket_block_desc) == kBlockHeader);

// SAFETY: ring memory is mapped here for as long as the ring lives, and every offset that these are
// called with was computed from sizes that Check has seen. The guest may change what is read.
void StoreStatus(uint8_t* at, uint32_t status) {
  __atomic_store_n(reinterpret_cast<uint32_t*>(at), status, __ATOMIC_RELEASE);
}
uint32_t LoadStatus(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(at), __ATOMIC_ACQUIRE);
}
template <typename T>
void Put(uint8_t* at, const T& v) {
  memcpy(at, &v, sizeof(v));
}

sockaddr_ll AddressOf(const net::TappedFrame& f) {
  sockaddr_ll a = {};
  a.sll_family = AF_PACKET;
  a.sll_protocol = __builtin_bswap16(f.ethertype);
  a.sll_ifindex = static_cast<int>(f.iface);
  a.sll_hatype = f.hardware_type;
  a.sll_pkttype = f.packet_type;
  a.sll_halen = 6;
  memcpy(a.sll_addr, f.src.b.data(), 6);
  return a;
}

// Where in a frame the packet and its network header stand.
struct Offsets {
  uint32_t mac, net;
};
Offsets OffsetsOf(RingVersion v, uint32_t reserve, const net::TappedFrame& f) {
  const uint32_t link = static_cast<uint32_t>(f.link_header);
  if (link == 0) {
    const uint32_t at = Align(HeaderSize(v), kAlign) + kLeastOffset + reserve;
    return {at, at};
  }
  const uint32_t net = Align(HeaderSize(v) + std::max(link, kLeastOffset), kAlign) + reserve;
  return {net - link, net};
}

}  // namespace

Result<RingMemory> RingMemory::Create(size_t size) {
  RingMemory m;
  m.fd_ = UniqueFd(::memfd_create("packet", MFD_CLOEXEC));
  if (!m.fd_.valid() || ::ftruncate(m.fd_.get(), static_cast<off_t>(size)) != 0) {
    return Errno(ENOMEM);
  }
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd_.get(), 0);
  if (at == MAP_FAILED) return Errno(ENOMEM);
  m.at_ = static_cast<uint8_t*>(at);
  m.size_ = size;
  m.mapped_ = TRY(MappedMemory::Create(m.fd_.get(), size / kPage, 0));
  return m;
}

RingMemory& RingMemory::operator=(RingMemory&& o) noexcept {
  std::swap(fd_, o.fd_);
  std::swap(at_, o.at_);
  std::swap(size_, o.size_);
  mapped_ = std::move(o.mapped_);
  return *this;
}

RingMemory::~RingMemory() {
  if (at_ != nullptr) ::munmap(at_, size_);
}

Result<void> PacketRing::Check(const RingRequest& r, RingVersion version, uint32_t reserve) {
  if (static_cast<int32_t>(r.block_size) <= 0 || r.block_size % kPage != 0) return Errno(EINVAL);
  const uint64_t least = uint64_t{HeaderSize(version)} + reserve;
  const uint64_t block_least = uint64_t{kBlockHeader} + ((uint64_t{r.private_size} + 7) & ~7ull);
  if (version == RingVersion::kV3 && r.block_size < block_least + least) return Errno(EINVAL);
  if (r.frame_size < least || r.frame_size % kAlign != 0) return Errno(EINVAL);
  const uint32_t per_block = r.block_size / r.frame_size;
  if (per_block == 0) return Errno(EINVAL);
  if (uint64_t{r.block_size} * r.block_count > UINT32_MAX) return Errno(EINVAL);
  if (uint64_t{per_block} * r.block_count != r.frame_count) return Errno(EINVAL);
  if (uint64_t{r.block_size} * r.block_count > kMostMemory) return Errno(ENOMEM);
  return {};
}

PacketRing::PacketRing(Kernel& kernel, const RingRequest& request, RingVersion version,
                       uint32_t reserve, WaitQueue& queue)
    : kernel_(kernel),
      request_(request),
      version_(version),
      reserve_(reserve),
      queue_(queue),
      size_(size_t{request.block_size} * request.block_count) {}

PacketRing::~PacketRing() = default;

void PacketRing::Stop() {
  {
    MutexLock lock(mu_);
    stopped_ = true;
  }
  kernel_.timers().Cancel(*this);
}

uint8_t* PacketRing::Frame(uint32_t index) const {
  const uint32_t per_block = request_.block_size / request_.frame_size;
  return Block(index / per_block) + size_t{request_.frame_size} * (index % per_block);
}

bool PacketRing::Deliver(const net::TappedFrame& frame) {
  MutexLock lock(mu_);
  if (stopped_) return false;
  const bool taken = version_ == RingVersion::kV3 ? DeliverToBlock(frame) : DeliverFrame(frame);
  if (!taken) lost_ = true;
  return taken;
}

bool PacketRing::DeliverFrame(const net::TappedFrame& f) {
  uint8_t* at = Frame(head_);
  if (LoadStatus(at) != TP_STATUS_KERNEL) return false;
  const Offsets o = OffsetsOf(version_, reserve_, f);
  if (o.net > UINT16_MAX) return false;
  const size_t room = request_.frame_size > o.mac ? request_.frame_size - o.mac : 0;
  const size_t kept = std::min(f.data.size(), room);
  if (kept > 0) memcpy(at + o.mac, f.data.data(), kept);
  const timespec when = WallClock(f.when.nanos());
  uint32_t status = TP_STATUS_USER | TP_STATUS_CSUM_VALID;
  if (lost_) status |= TP_STATUS_LOSING;
  if (version_ == RingVersion::kV1) {
    tpacket_hdr h = {};
    h.tp_len = static_cast<unsigned>(f.whole);
    h.tp_snaplen = static_cast<unsigned>(kept);
    h.tp_mac = static_cast<uint16_t>(o.mac);
    h.tp_net = static_cast<uint16_t>(o.net);
    h.tp_sec = static_cast<unsigned>(when.tv_sec);
    h.tp_usec = static_cast<unsigned>(when.tv_nsec / 1000);
    Put(at, h);
  } else {
    tpacket2_hdr h = {};
    h.tp_len = static_cast<uint32_t>(f.whole);
    h.tp_snaplen = static_cast<uint32_t>(kept);
    h.tp_mac = static_cast<uint16_t>(o.mac);
    h.tp_net = static_cast<uint16_t>(o.net);
    h.tp_sec = static_cast<uint32_t>(when.tv_sec);
    h.tp_nsec = static_cast<uint32_t>(when.tv_nsec);
    Put(at, h);
  }
  Put(at + 32, AddressOf(f));
  StoreStatus(at, status);
  head_ = head_ + 1 == request_.frame_count ? 0 : head_ + 1;
  return true;
}

void PacketRing::OpenBlock() {
  const uint32_t first = kBlockHeader + Align(request_.private_size, 8);
  tpacket_block_desc d = {};
  d.version = TPACKET_V3;
  d.offset_to_priv = kBlockHeader;
  d.hdr.bh1.offset_to_first_pkt = first;
  d.hdr.bh1.blk_len = first;
  d.hdr.bh1.seq_num = serial_++;
  Put(Block(head_), d);
  open_ = true;
  used_ = first;
  packets_ = 0;
  last_ = 0;
}

// Hands the block to the guest.
void PacketRing::CloseBlock(bool by_time) {
  uint8_t* block = Block(head_);
  Put<uint32_t>(block + last_ + offsetof(tpacket3_hdr, tp_next_offset), 0);
  uint32_t stamps[2];
  memcpy(stamps, block + last_ + offsetof(tpacket3_hdr, tp_sec), sizeof(stamps));
  Put(block + offsetof(tpacket_block_desc, hdr.bh1.ts_last_pkt), stamps);
  uint32_t status = TP_STATUS_USER;
  if (by_time) status |= TP_STATUS_BLK_TMO;
  if (lost_) status |= TP_STATUS_LOSING;
  StoreStatus(block + offsetof(tpacket_block_desc, hdr.bh1.block_status), status);
  open_ = false;
  head_ = head_ + 1 == request_.block_count ? 0 : head_ + 1;
}

bool PacketRing::DeliverToBlock(const net::TappedFrame& f) {
  constexpr size_t kStatus = offsetof(tpacket_block_desc, hdr.bh1.block_status);
  const Offsets o = OffsetsOf(version_, reserve_, f);
  const uint32_t first = kBlockHeader + Align(request_.private_size, 8);
  const uint32_t most = request_.block_size - first;
  // The packet's bytes, padded, must end in the block, which may have less room than headers take.
  constexpr uint32_t kPadding = 8;
  if (o.net > UINT16_MAX || most < kPadding || o.mac > most - kPadding) return false;
  const uint32_t kept =
      static_cast<uint32_t>(std::min<size_t>(f.data.size(), most - kPadding - o.mac));
  const uint32_t size = Align(o.mac + kept, 8);
  if (open_ && used_ + size >= request_.block_size && packets_ > 0) CloseBlock(false);
  if (!open_) {
    if (LoadStatus(Block(head_) + kStatus) != TP_STATUS_KERNEL) {
      freezes_++;
      return false;
    }
    OpenBlock();
  }
  uint8_t* block = Block(head_);
  uint8_t* at = block + used_;
  const timespec when = WallClock(f.when.nanos());
  tpacket3_hdr h = {};
  h.tp_next_offset = size;
  h.tp_sec = static_cast<uint32_t>(when.tv_sec);
  h.tp_nsec = static_cast<uint32_t>(when.tv_nsec);
  h.tp_snaplen = kept;
  h.tp_len = static_cast<uint32_t>(f.whole);
  h.tp_status = TP_STATUS_USER | TP_STATUS_CSUM_VALID | (lost_ ? TP_STATUS_LOSING : 0u);
  h.tp_mac = static_cast<uint16_t>(o.mac);
  h.tp_net = static_cast<uint16_t>(o.net);
  Put(at, h);
  Put(at + sizeof(h), AddressOf(f));
  if (kept > 0) memcpy(at + o.mac, f.data.data(), kept);
  last_ = used_;
  used_ += size;
  packets_++;
  Put<uint32_t>(block + offsetof(tpacket_block_desc, hdr.bh1.num_pkts), packets_);
  Put<uint32_t>(block + offsetof(tpacket_block_desc, hdr.bh1.blk_len), used_);
  if (packets_ == 1) {
    Put(block + offsetof(tpacket_block_desc, hdr.bh1.ts_first_pkt), h.tp_sec);
    Put(block + offsetof(tpacket_block_desc, hdr.bh1.ts_first_pkt) + 4, h.tp_nsec);
    const int64_t wait = request_.retire_ms != 0 ? int64_t{request_.retire_ms} : kDefaultRetireMs;
    kernel_.timers().Arm(*this, TimerClock::kMonotonic, f.when.nanos() + wait * 1'000'000);
  }
  return true;
}

std::optional<int64_t> PacketRing::OnExpire(int64_t) {
  bool closed = false;
  {
    MutexLock lock(mu_);
    closed = !stopped_ && open_ && packets_ > 0;
    if (closed) CloseBlock(true);
  }
  if (closed) queue_.Notify(EPOLLIN | EPOLLRDNORM);
  return std::nullopt;
}

bool PacketRing::Readable() {
  MutexLock lock(mu_);
  const bool blocks = version_ == RingVersion::kV3;
  const uint32_t count = blocks ? request_.block_count : request_.frame_count;
  const uint32_t before = head_ == 0 ? count - 1 : head_ - 1;
  if (!blocks) return LoadStatus(Frame(before)) != TP_STATUS_KERNEL;
  return LoadStatus(Block(before) + offsetof(tpacket_block_desc, hdr.bh1.block_status)) !=
         TP_STATUS_KERNEL && (!open_ || before != head_);
}

uint32_t PacketRing::TakeFreezes() {
  MutexLock lock(mu_);
  lost_ = false;
  return std::exchange(freezes_, 0);
}

std::optional<PacketRing::Outgoing> PacketRing::NextToSend() {
  MutexLock lock(mu_);
  uint8_t* at = Frame(head_);
  const size_t status_at =
      version_ == RingVersion::kV3 ? offsetof(tpacket3_hdr, tp_status) : size_t{0};
  if (LoadStatus(at + status_at) != TP_STATUS_SEND_REQUEST) return std::nullopt;
  const size_t length_at = version_ == RingVersion::kV1   ? offsetof(tpacket_hdr, tp_len)
                           : version_ == RingVersion::kV2 ? offsetof(tpacket2_hdr, tp_len)
                                                          : offsetof(tpacket3_hdr, tp_len);
  uint32_t length;
  memcpy(&length, at + length_at, sizeof(length));
  const uint32_t data_at = HeaderSize(version_) - kLinkAddress;
  Outgoing out;
  if (length > request_.frame_size - data_at) {
    out.malformed = true;
    StoreStatus(at + status_at, TP_STATUS_WRONG_FORMAT);
  } else {
    out.data = net::Slice::Copy({at + data_at, length});
    StoreStatus(at + status_at, TP_STATUS_AVAILABLE);
  }
  head_ = head_ + 1 == request_.frame_count ? 0 : head_ + 1;
  return out;
}

bool PacketRing::CanSend() {
  MutexLock lock(mu_);
  const size_t status_at =
      version_ == RingVersion::kV3 ? offsetof(tpacket3_hdr, tp_status) : size_t{0};
  return LoadStatus(Frame(head_) + status_at) == TP_STATUS_AVAILABLE;
}

}  // namespace ringwall
