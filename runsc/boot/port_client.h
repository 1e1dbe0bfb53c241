// PortClient: has the network helper open and close the host's ports that the guest's sockets serve.
#ifndef RINGWALL_RUNSC_BOOT_PORT_CLIENT_H_
#define RINGWALL_RUNSC_BOOT_PORT_CLIENT_H_

#include "fs/inet/port_watch.h"
#include "runsc/net/port_message.h"
#include "sentry/base/mutex.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

class PortClient final : public PortWatch {
 public:
  explicit PortClient(UniqueFd socket) : socket_(std::move(socket)) {}
  Result<void> Open(const net::SockAddr& at, bool udp, bool v6_only) override;
  void Close(const net::SockAddr& at, bool udp) override;

 private:
  Result<void> Ask(const PortRequest& request);
  Mutex<LockClass::kGofer> mu_;  // one request at a time
  const UniqueFd socket_;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_PORT_CLIENT_H_
