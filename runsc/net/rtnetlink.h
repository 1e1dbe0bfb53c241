// A small rtnetlink client of the CLI: dumps and single requests in the namespace that the caller is
// in. Speaks to the host's kernel only.
#ifndef RINGWALL_RUNSC_NET_RTNETLINK_H_
#define RINGWALL_RUNSC_NET_RTNETLINK_H_

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "sentry/base/host_error.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// A request being built: a header, a fixed part and attributes.
class NetlinkMessage {
 public:
  template <typename Fixed>
  NetlinkMessage(uint16_t type, uint16_t flags, const Fixed& fixed) {
    nlmsghdr header = {};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    Append(&header, sizeof(header));
    Append(&fixed, sizeof(fixed));
  }
  void Add(uint16_t type, const void* data, size_t size) {
    const rtattr a = {static_cast<uint16_t>(RTA_LENGTH(size)), type};
    Append(&a, sizeof(a));
    Append(data, size);
  }
  void Add(uint16_t type, uint32_t value) { Add(type, &value, sizeof(value)); }
  void Add(uint16_t type, const std::string& text) { Add(type, text.c_str(), text.size() + 1); }
  // A nested attribute: returns what EndNest takes.
  size_t BeginNest(uint16_t type) {
    const size_t at = bytes_.size();
    const rtattr a = {0, type};
    Append(&a, sizeof(a));
    return at;
  }
  template <typename Fixed>
  void AddFixed(const Fixed& fixed) {
    Append(&fixed, sizeof(fixed));
  }
  void EndNest(size_t at) {
    const uint16_t size = static_cast<uint16_t>(bytes_.size() - at);
    std::memcpy(bytes_.data() + at, &size, sizeof(size));
  }
  std::span<const uint8_t> Finish() {
    const uint32_t size = static_cast<uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &size, sizeof(size));
    return bytes_;
  }

 private:
  void Append(const void* data, size_t size) {
    const size_t at = bytes_.size();
    bytes_.resize(at + (size + 3) / 4 * 4);
    std::memcpy(bytes_.data() + at, data, size);
  }
  std::vector<uint8_t> bytes_;
};

// The attributes behind a message's fixed part, by type; the last of a type counts.
class NetlinkAttributes {
 public:
  explicit NetlinkAttributes(std::span<const uint8_t> bytes);
  bool Has(uint16_t type) const { return !Get(type).empty(); }
  std::span<const uint8_t> Get(uint16_t type) const;
  uint32_t U32(uint16_t type, uint32_t otherwise = 0) const;
  std::string Text(uint16_t type) const;

 private:
  std::vector<std::pair<uint16_t, std::span<const uint8_t>>> all_;
};

class RtNetlink {
 public:
  static HostResult<RtNetlink> Open();
  // A request with an acknowledgement; EEXIST and the like are errors.
  HostResult<void> Request(NetlinkMessage& message, const char* what);
  // Calls `each` with every message of the answer: its type, and what follows its header.
  using Each = std::function<void(uint16_t type, std::span<const uint8_t> body)>;
  HostResult<void> Dump(NetlinkMessage& message, const char* what, const Each& each);

 private:
  explicit RtNetlink(UniqueFd fd) : fd_(std::move(fd)) {}
  HostResult<bool> Receive(const char* what, const Each* each);
  UniqueFd fd_;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_RTNETLINK_H_
