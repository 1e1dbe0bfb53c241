// The small netlink protocols: NETLINK_GENERIC, NETLINK_KOBJECT_UEVENT, NETLINK_USERSOCK.
#ifndef RINGWALL_FS_NETLINK_GENERIC_H_
#define RINGWALL_FS_NETLINK_GENERIC_H_

#include "fs/netlink/netlink_socket.h"

namespace ringwall::netlink {

class GenericProtocol final : public Protocol {
 public:
  uint32_t groups() const override { return 32; }
  bool anyone_receives() const override { return true; }
  Result<void> CheckGroup(Task& t, uint32_t group) override;

 protected:
  Result<void> Handle(Context& c) override;
};

class UeventProtocol final : public Protocol {
 public:
  uint32_t groups() const override { return 1; }
  bool anyone_receives() const override { return true; }
  Result<void> Receive(Task& t, NetlinkSocket& s, Bytes datagram) override;

 protected:
  Result<void> Handle(Context&) override { return {}; }
};

// Programs among themselves.
class UserProtocol final : public Protocol {
 public:
  uint32_t groups() const override { return 32; }
  bool anyone_sends() const override { return true; }
  bool has_kernel_end() const override { return false; }

 protected:
  Result<void> Handle(Context&) override { return {}; }
};

// Tells of a device (lib/kobject_uevent.c).
void SendUevent(NetNamespace& net, const char* action, const std::string& path,
                const std::vector<std::string>& variables);

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_GENERIC_H_
