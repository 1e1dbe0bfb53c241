#include "fs/netlink/tun.h"

#include <linux/if_tun.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/netlink/route.h"
#include "fs/vfs/special_files.h"
#include "netstack/device/tun.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall::netlink {
namespace {

constexpr uint32_t kMiscMajor = 10, kTunMinor = 200;
constexpr uint32_t kKnownFlags = IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR | IFF_TUN_EXCL;
constexpr size_t kPiSize = 4;       // struct tun_pi
constexpr size_t kMostFrame = 65535 + 14 + kPiSize;
constexpr int32_t kMostVnetHeader = 256;  // what is longer than struct virtio_net_hdr is padding

struct IfReq {
  char name[16];
  uint8_t data[24];
};
static_assert(sizeof(IfReq) == 40);

class TunFile final : public File, private net::TunLink::Observer {
 public:
  TunFile(const Path& path, uint32_t flags, Ref<NetNamespace> net)
      : File(path, flags), net_(std::move(net)) {}
  ~TunFile() override { Leave(); }

  WaitQueue* queue() override { return &queue_; }

  EventMask Poll(EventMask) override {
    const std::optional<At> at = Where();
    if (!at) return EPOLLERR;
    EventMask m = EPOLLOUT | EPOLLWRNORM;
    if (at->link->HasFrames()) m |= EPOLLIN | EPOLLRDNORM;
    if (at->link->removed()) m |= EPOLLERR;
    return m;
  }

  Result<size_t> Read(IoDst& dst, uint64_t, int) override {
    const std::optional<At> at = Where();
    if (!at) return Errno(EBADFD);
    std::optional<net::TunLink::Frame> read = at->link->Read();
    if (!read) return Errno(at->link->removed() ? EIO : EAGAIN);
    const net::Slice* const frame = &read->bytes;
    const size_t vnet = at->vnet ? static_cast<size_t>(vnet_size_.load()) : 0;
    std::vector<std::byte> bytes;
    bytes.reserve(frame->size() + kPiSize + vnet);
    if (!at->no_pi) {
      const bool cut = dst.remaining() < frame->size() + kPiSize + vnet;
      const uint16_t protocol = at->tap ? 0 : frame->data()[0] >> 4 == 6 ? 0xdd86 : 0x0008;
      const uint16_t pi[2] = {static_cast<uint16_t>(cut ? TUN_PKT_STRIP : 0), protocol};
      const auto b = std::as_bytes(std::span(pi));
      bytes.insert(bytes.end(), b.begin(), b.end());
      if (dst.remaining() < kPiSize) return Errno(EINVAL);
    }
    if (vnet != 0) {
      if (dst.remaining() < bytes.size() + vnet) return Errno(EINVAL);
      const auto h = std::as_bytes(std::span(&read->header, 1));
      bytes.insert(bytes.end(), h.begin(), h.end());
      bytes.resize(bytes.size() + vnet - h.size());
    }
    const auto b = std::as_bytes(frame->span());
    bytes.insert(bytes.end(), b.begin(), b.end());
    const size_t n = std::min(bytes.size(), dst.remaining());
    TRY(PutWhole(dst, std::span<const std::byte>(bytes).first(n)));
    return n;
  }

  Result<size_t> Write(IoSrc& src, uint64_t*, int) override {
    const std::optional<At> at = Where();
    if (!at) return Errno(EBADFD);
    const size_t size = src.remaining();
    const size_t before = at->no_pi ? 0 : kPiSize;
    const size_t vnet = at->vnet ? static_cast<size_t>(vnet_size_.load()) : 0;
    const size_t skip = before + vnet;
    if (size < skip || size > kMostFrame + vnet) return Errno(EINVAL);
    if (size - skip < (at->tap ? 14u : 1u)) return Errno(EINVAL);
    Ref<net::Buffer> buffer = net::Buffer::New(size);
    TRY(GetWhole(src, std::as_writable_bytes(std::span(buffer->data(), size))));
    buffer->set_used(buffer->capacity());
    net::Slice whole(RefPtr<net::Buffer>(buffer), 0, size);
    whole.RemovePrefix(skip);
    if (!at->tap && at->no_pi) {
      const int version = whole.data()[0] >> 4;
      if (version != 4 && version != 6) return Errno(EINVAL);
    }
    const std::optional<net::InterfaceInfo> i = net_->stack().FindInterfaceInfo(at->iface);
    if (!i || !i->up) return Errno(EIO);
    if (vnet != 0) {
      net::VnetHeader h;
      memcpy(&h, buffer->data() + before, sizeof(h));
      if (!h.CompleteChecksum({buffer->data() + skip, size - skip})) return Errno(EINVAL);
      if (h.gso_type != 0) return WriteLong(*at, h, whole.span(), size);
    }
    net_->stack().Input(at->iface, {.data = std::move(whole)});
    return size;
  }

  Result<int64_t> Ioctl(Task& t, uint32_t cmd, uint64_t arg) override {
    if (cmd == TUNSETIFF) return SetIff(t, arg);
    if (cmd == TUNGETFEATURES) {
      TRY(UserOut<uint32_t>(GuestAddr(arg)).CopyOut(t, IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR));
      return 0;
    }
    const std::optional<At> at = Where();
    if (!at) return Errno(EBADFD);
    net::TunLink& link = *at->link;
    const uint32_t value = static_cast<uint32_t>(arg);
    switch (cmd) {
      case TUNGETIFF: {
        IfReq r = {};
        const std::string name = net_->stack().NameOf(at->iface);
        memcpy(r.name, name.data(), std::min(name.size(), sizeof(r.name) - 1));
        const uint16_t flags = static_cast<uint16_t>(link.flags);
        memcpy(r.data, &flags, sizeof(flags));
        TRY(t.CopyOut(GuestAddr(arg), std::as_bytes(std::span(&r, 1))));
        return 0;
      }
      case TUNSETNOCSUM: return 0;
      case TUNSETPERSIST: link.persistent = arg != 0; return 0;
      case TUNSETOWNER: link.owner = value; return 0;
      case TUNSETGROUP: link.group = value; return 0;
      case TUNSETLINK: {
        const std::optional<net::InterfaceInfo> i = net_->stack().FindInterfaceInfo(at->iface);
        if (i && i->up) return Errno(EBUSY);
        return 0;
      }
      case TUNSETOFFLOAD: return SetOffload(*at, value);
      case TUNGETSNDBUF:
        TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOut(t, INT32_MAX));
        return 0;
      case TUNSETSNDBUF: {
        const int32_t n = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(t));
        return n <= 0 ? Result<int64_t>(Errno(EINVAL)) : Result<int64_t>(0);
      }
      case TUNGETVNETHDRSZ:
        TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOut(t, vnet_size_.load()));
        return 0;
      case TUNSETVNETHDRSZ: {
        const int32_t n = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(t));
        if (n < int32_t{sizeof(net::VnetHeader)} || n > kMostVnetHeader) return Errno(EINVAL);
        vnet_size_ = n;
        return 0;
      }
      case SIOCGIFHWADDR: {
        IfReq r;
        TRY(t.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&r, 1))));
        const std::optional<net::InterfaceInfo> i = net_->stack().FindInterfaceInfo(at->iface);
        memset(r.data, 0, sizeof(r.data));
        const uint16_t type = at->tap ? 1 : 65534;
        memcpy(r.data, &type, 2);
        if (i) memcpy(r.data + 2, i->mac.b.data(), 6);
        TRY(t.CopyOut(GuestAddr(arg), std::as_bytes(std::span(&r, 1))));
        return 0;
      }
      case SIOCSIFHWADDR: {
        IfReq r;
        TRY(t.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&r, 1))));
        TRY(FromNet(net_->stack().ChangeLink(at->iface,
                                             {.mac = net::MacAddr::From(r.data + 2)})));
        return 0;
      }
      default: return Errno(EINVAL);
    }
  }

 private:
  struct At {
    RefPtr<net::TunLink> link;
    net::IfIndex iface = 0;
    bool tap = false, no_pi = false, vnet = false;
  };
  std::optional<At> Where() const {
    MutexLock lock(mu_);
    return at_;
  }
  // A segment that is longer than one of the wire: goes in as the link would have cut it.
  Result<size_t> WriteLong(const At& at, const net::VnetHeader& h, std::span<const uint8_t> packet, size_t size) {
    const uint8_t type = h.gso_type & static_cast<uint8_t>(~net::VnetHeader::kGsoEcn);
    if (type != net::VnetHeader::kGsoTcp4 && type != net::VnetHeader::kGsoTcp6) return Errno(EINVAL);
    const std::optional<std::vector<net::Slice>> parts = net::SplitTcp(packet, at.tap ? net::kEthHeader : 0, h.gso_size);
    if (!parts) return Errno(EINVAL);
    std::vector<net::RxFrame> frames;
    frames.reserve(parts->size());
    for (const net::Slice& part : *parts) frames.push_back({.data = part, .checksum_valid = true});
    net_->stack().InputBatch(at.iface, frames);
    return size;
  }

  // set_offload() of drivers/net/tun.c: what the reader takes in its header. EINVAL for what is not known.
  Result<int64_t> SetOffload(const At& at, uint32_t asked) {
    constexpr uint32_t kTso = TUN_F_TSO4 | TUN_F_TSO6;
    if ((asked & ~(TUN_F_CSUM | kTso | TUN_F_TSO_ECN | TUN_F_UFO)) != 0) return Errno(EINVAL);
    // Without a header nobody would learn what is left to do.
    const bool checksum = at.vnet && (asked & TUN_F_CSUM) != 0;
    TRY(FromNet(net_->stack().ChangeLink(
        at.iface, {.tx_checksum = checksum, .tx_tso = checksum && (asked & kTso) == kTso})));
    return 0;
  }
  void OnTun() override { queue_.Notify(EPOLLIN | EPOLLRDNORM); }

  Result<int64_t> SetIff(Task& t, uint64_t arg) {
    IfReq r;
    TRY(t.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&r, 1))));
    r.name[sizeof(r.name) - 1] = 0;
    if (Where()) return Errno(EEXIST);
    uint16_t asked;
    memcpy(&asked, r.data, sizeof(asked));
    const uint32_t flags = asked;
    const std::string name(r.name);
    net::Stack& stack = net_->stack();
    At at;
    const std::optional<net::InterfaceInfo> have = stack.FindInterfaceInfo(std::string_view(name));
    if (have) {
      if ((flags & IFF_TUN_EXCL) != 0) return Errno(EBUSY);
      if (have->config.type != "tun") return Errno(EINVAL);
      at.tap = have->kind == net::LinkKind::kEthernet;
      if (((flags & IFF_TAP) != 0) != at.tap || ((flags & IFF_TUN) != 0) == at.tap) {
        return Errno(EINVAL);
      }
      at.link = RefPtr<net::TunLink>(static_cast<net::TunLink*>(have->sink.get()));
      const uint32_t owner = at.link->owner, group = at.link->group;
      const Credentials& creds = t.creds();
      const bool other = (owner != ~0u && owner != creds.euid) ||
                         (group != ~0u && !creds.InGroup(group) && creds.egid != group);
      if (other && !creds.HasIn(net_->user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
      at.iface = have->index;
      if (!at.link->Attach(this)) return Errno(EBUSY);
    } else {
      if (!t.creds().HasIn(net_->user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
      at.tap = (flags & IFF_TAP) != 0;
      if (!at.tap && (flags & IFF_TUN) == 0) return Errno(EINVAL);
      std::string wanted = name.empty() ? (at.tap ? "tap%d" : "tun%d") : name;
      wanted = FreeName(stack, wanted);
      net::InterfaceConfig config;
      config.name = wanted;
      config.type = "tun";
      config.kind = at.tap ? net::LinkKind::kEthernet : net::LinkKind::kIp;
      if (at.tap) config.mac = RandomMac();
      config.tx_queue_len = at.tap ? 1000 : 500;
      config.carrier = false;
      Ref<net::TunLink> link = MakeRef<net::TunLink>();
      at.link = link;
      if (!link->Attach(this)) return Errno(EBUSY);
      net::NetResult<net::IfIndex> made = stack.AddInterface(config, link);
      if (!made.ok()) {
        link->Detach(this);
        return net::ToErrno(made.error());
      }
      at.iface = *made;
    }
    at.no_pi = (flags & IFF_NO_PI) != 0;
    at.vnet = (flags & IFF_VNET_HDR) != 0;
    if (!at.vnet) (void)SetOffload(at, 0);
    at.link->flags = (flags & kKnownFlags & ~static_cast<uint32_t>(IFF_TUN_EXCL));
    (void)stack.SetCarrier(at.iface, true);
    const std::string final_name = stack.NameOf(at.iface);
    memset(r.name, 0, sizeof(r.name));
    memcpy(r.name, final_name.data(), std::min(final_name.size(), sizeof(r.name) - 1));
    {
      MutexLock lock(mu_);
      at_ = at;
    }
    TRY(t.CopyOut(GuestAddr(arg), std::as_bytes(std::span(&r, 1))));
    return 0;
  }

  void Leave() {
    std::optional<At> at;
    {
      MutexLock lock(mu_);
      at = std::move(at_);
      at_.reset();
    }
    if (!at) return;
    at->link->Detach(this);
    if (at->link->removed()) return;
    if (at->link->persistent) {
      (void)net_->stack().SetCarrier(at->iface, false);
    } else {
      (void)net_->stack().RemoveInterface(at->iface);
    }
  }

  const Ref<NetNamespace> net_;
  WaitQueue queue_;
  std::atomic<int32_t> vnet_size_{sizeof(net::VnetHeader)};
  mutable Mutex<LockClass::kSocket> mu_;
  std::optional<At> at_ GUARDED_BY(mu_);
};

Result<Ref<File>> OpenTun(Inode&, const Path& path, uint32_t flags, const Credentials&, uint64_t) {
  Task* t = Task::Current();
  if (t == nullptr) return Errno(ENXIO);
  return Ref<File>(MakeRef<TunFile>(path, flags, Ref<NetNamespace>(NetNamespace::Of(*t))));
}

}  // namespace

void RegisterTun() { RegisterDevice(S_IFCHR, kMiscMajor, kTunMinor, 1, OpenTun); }

}  // namespace ringwall::netlink
