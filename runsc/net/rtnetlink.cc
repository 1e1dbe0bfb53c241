#include "runsc/net/rtnetlink.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sentry/base/result.h"

namespace ringwall {

NetlinkAttributes::NetlinkAttributes(std::span<const uint8_t> bytes) {
  while (bytes.size() >= sizeof(rtattr)) {
    rtattr a;
    std::memcpy(&a, bytes.data(), sizeof(a));
    if (a.rta_len < sizeof(a) || a.rta_len > bytes.size()) return;
    all_.emplace_back(a.rta_type & NLA_TYPE_MASK,
                      bytes.subspan(sizeof(a), a.rta_len - sizeof(a)));
    bytes = bytes.subspan(std::min<size_t>((a.rta_len + 3u) / 4 * 4, bytes.size()));
  }
}

std::span<const uint8_t> NetlinkAttributes::Get(uint16_t type) const {
  for (size_t i = all_.size(); i-- > 0;) {
    if (all_[i].first == type) return all_[i].second;
  }
  return {};
}

uint32_t NetlinkAttributes::U32(uint16_t type, uint32_t otherwise) const {
  const std::span<const uint8_t> value = Get(type);
  if (value.size() != sizeof(uint32_t)) return otherwise;
  uint32_t out = 0;
  std::memcpy(&out, value.data(), sizeof(out));
  return out;
}

std::string NetlinkAttributes::Text(uint16_t type) const {
  const std::span<const uint8_t> value = Get(type);
  std::string text(value.begin(), value.end());
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

HostResult<RtNetlink> RtNetlink::Open() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd) return HostError::Last("open a netlink socket");
  return RtNetlink(std::move(fd));
}

// True: more is to come.
HostResult<bool> RtNetlink::Receive(const char* what, const Each* each) {
  alignas(nlmsghdr) static uint8_t buffer[64 << 10];
  const ssize_t n = RetryEintr([&] { return ::recv(fd_.get(), buffer, sizeof(buffer), 0); });
  if (n < 0) return HostError::Last(what);
  std::span<const uint8_t> left(buffer, static_cast<size_t>(n));
  while (left.size() >= sizeof(nlmsghdr)) {
    nlmsghdr header;
    std::memcpy(&header, left.data(), sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > left.size()) break;
    const std::span<const uint8_t> body =
        left.subspan(sizeof(header), header.nlmsg_len - sizeof(header));
    if (header.nlmsg_type == NLMSG_DONE) return false;
    if (header.nlmsg_type == NLMSG_ERROR) {
      int error = -EPROTO;
      if (body.size() >= sizeof(error)) std::memcpy(&error, body.data(), sizeof(error));
      if (error != 0) return HostError::WithErrno(-error, what);
      return false;
    }
    if (each != nullptr) (*each)(header.nlmsg_type, body);
    left = left.subspan(std::min<size_t>((header.nlmsg_len + 3u) / 4 * 4, left.size()));
  }
  return true;
}

HostResult<void> RtNetlink::Request(NetlinkMessage& message, const char* what) {
  const std::span<const uint8_t> bytes = message.Finish();
  nlmsghdr* header = reinterpret_cast<nlmsghdr*>(const_cast<uint8_t*>(bytes.data()));
  header->nlmsg_flags |= NLM_F_ACK;
  if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return HostError::Last(what);
  bool more = true;
  while (more) more = TRY(Receive(what, nullptr));
  return {};
}

HostResult<void> RtNetlink::Dump(NetlinkMessage& message, const char* what, const Each& each) {
  const std::span<const uint8_t> bytes = message.Finish();
  nlmsghdr* header = reinterpret_cast<nlmsghdr*>(const_cast<uint8_t*>(bytes.data()));
  header->nlmsg_flags |= NLM_F_DUMP;
  if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return HostError::Last(what);
  bool more = true;
  while (more) more = TRY(Receive(what, &each));
  return {};
}

}  // namespace ringwall
