#include "fs/socket/socket_filter.h"

#include "sentry/bpf/bpf.h"

namespace ringwall {

namespace {

// struct sock_fprog.
struct SockFprogAbi {
  uint16_t length, pad[3];
  uint64_t filter;
};
static_assert(sizeof(SockFprogAbi) == 16);

constexpr int kSoAttachBpf = 50, kSoAttachReuseportCbpf = 51, kSoAttachReuseportEbpf = 52,
              kSoDetachReuseportBpf = 68;

class Filter final : public net::EndpointFilter {
 public:
  explicit Filter(bpf::SocketFilter program) : program_(std::move(program)) {}
  uint32_t Run(const net::FilterInput& in) const override {
    bpf::Packet p;
    p.data = std::as_bytes(in.data);
    p.network = std::as_bytes(in.network);
    p.link = std::as_bytes(in.link);
    p.protocol = in.ethertype;
    p.packet_type = in.packet_type;
    if (in.iface != 0) p.if_index = in.iface;
    if (in.iface != 0) p.hardware_type = in.hardware_type;
    p.mark = in.mark;
    return program_.Run(p);
  }
  std::span<const bpf::Insn> source() const { return program_.source(); }

 private:
  const bpf::SocketFilter program_;
};

}  // namespace

Result<Ref<net::EndpointFilter>> ReadFilter(OptionIn& in, bool locked) {
  if (in.length() != sizeof(SockFprogAbi)) return Errno(EINVAL);
  const SockFprogAbi fprog = TRY(in.Value<SockFprogAbi>());
  if (locked) return Errno(EPERM);
  if (fprog.filter == 0 || fprog.length == 0 || fprog.length > bpf::kMaxInsns) return Errno(EINVAL);
  std::vector<bpf::Insn> program(fprog.length);
  TRY(in.task().CopyIn(GuestAddr(fprog.filter), std::as_writable_bytes(std::span(program))));
  bpf::SocketFilter made = TRY(bpf::SocketFilter::Create(program));
  return Ref<net::EndpointFilter>(MakeRef<Filter>(std::move(made)));
}

std::optional<Result<void>> Socket::SetFilterOption(int name, OptionIn& in) {
  switch (name) {
    case SO_ATTACH_FILTER: {
      if (Result<int32_t> first = in.Int(); !first.ok()) return Result<void>(first.error());
      Result<Ref<net::EndpointFilter>> made = ReadFilter(in, options_.lock_filter != 0);
      if (!made.ok()) return Result<void>(made.error());
      RefPtr<net::EndpointFilter> fresh(*made);
      filter_.With([&](RefPtr<net::EndpointFilter>& f) { f = fresh; });
      OnFilter(std::move(fresh));
      return Result<void>();
    }
    case SO_DETACH_FILTER: {
      // The value is not looked at, but an int must be there.
      Result<int32_t> unused = in.Int();
      if (!unused.ok()) return Result<void>(unused.error());
      if (options_.lock_filter != 0) return Result<void>(Errno(EPERM));
      RefPtr<net::EndpointFilter> old;
      filter_.With([&](RefPtr<net::EndpointFilter>& f) { std::swap(f, old); });
      if (!old) return Result<void>(Errno(ENOENT));
      OnFilter(nullptr);
      return Result<void>();
    }
    case kSoAttachBpf:
    case kSoAttachReuseportEbpf: {
      Result<int32_t> fd = in.Int();
      if (!fd.ok()) return Result<void>(fd.error());
      if (in.length() != sizeof(int32_t)) return Result<void>(Errno(EINVAL));
      if (options_.lock_filter != 0) return Result<void>(Errno(EPERM));
      Result<Ref<File>> file = in.task().GetFile(*fd);
      // A descriptor of a BPF program cannot be: bpf(2) is not there.
      return Result<void>(Errno(file.ok() ? EINVAL : EBADF));
    }
    case kSoAttachReuseportCbpf: {
      if (Result<int32_t> first = in.Int(); !first.ok()) return Result<void>(first.error());
      Result<Ref<net::EndpointFilter>> made = ReadFilter(in, options_.lock_filter != 0);
      if (!made.ok()) return Result<void>(made.error());
      return OnReusePortFilter(RefPtr<net::EndpointFilter>(*made));
    }
    case kSoDetachReuseportBpf: {
      Result<int32_t> unused = in.Int();
      if (!unused.ok()) return Result<void>(unused.error());
      return OnReusePortFilter(nullptr);
    }
    default:
      return std::nullopt;
  }
}

// SO_GET_FILTER counts instructions, not bytes: sk_get_filter().
Result<void> Socket::GetFilterOption(OptionOut& out) {
  const RefPtr<net::EndpointFilter> filter =
      filter_.With([](const RefPtr<net::EndpointFilter>& f) { return f; });
  if (!filter) {
    out.SetLength(0);
    return {};
  }
  const std::span<const bpf::Insn> source = static_cast<const Filter&>(*filter).source();
  if (out.room() == 0) {
    out.SetLength(static_cast<uint32_t>(source.size()));
    return {};
  }
  if (out.room() < source.size()) return Errno(EINVAL);
  out.SetWhole(std::as_bytes(source));
  out.SetLength(static_cast<uint32_t>(source.size()));
  return {};
}

}  // namespace ringwall
