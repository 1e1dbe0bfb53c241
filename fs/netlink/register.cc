// What this folder gives to the rest, told once at start-up.
#include "fs/netlink/generic.h"
#include "fs/netlink/iptables.h"
#include "fs/netlink/netdevice.h"
#include "fs/netlink/nfnetlink.h"
#include "fs/netlink/proc_net.h"
#include "fs/netlink/route.h"
#include "fs/netlink/sock_diag.h"
#include "fs/netlink/tun.h"
#include "fs/proc/net_hooks.h"

namespace ringwall::netlink {
namespace {

class NetlinkFamily final : public SocketFamily {
 public:
  Result<Ref<Socket>> Create(Task& t, int type, int protocol, uint32_t flags) override {
    return NetlinkSocket::Create(t, type, protocol, flags);
  }
};

}  // namespace

void Register() {
  static RouteProtocol* route = new RouteProtocol;
  static DiagProtocol* diag = new DiagProtocol;
  static GenericProtocol* generic = new GenericProtocol;
  static UeventProtocol* uevent = new UeventProtocol;
  static UserProtocol* user = new UserProtocol;
  static NetfilterProtocol* netfilter = new NetfilterProtocol;
  static NetlinkFamily* family = new NetlinkFamily;
  RegisterProtocol(NETLINK_ROUTE, *route);
  RegisterProtocol(NETLINK_SOCK_DIAG, *diag);
  RegisterProtocol(NETLINK_GENERIC, *generic);
  RegisterProtocol(NETLINK_KOBJECT_UEVENT, *uevent);
  RegisterProtocol(NETLINK_USERSOCK, *user);
  RegisterProtocol(NETLINK_NETFILTER, *netfilter);
  RegisterSocketFamily(AF_NETLINK, *family);
  NetNamespace::SetChangeListener(route);
  Socket::SetDeviceIoctl(&DeviceIoctl);
  static constexpr Socket::FilterOptions kFilter = {&SetFilterOption, &GetFilterOption};
  Socket::SetFilterOptions(&kFilter);
  RegisterTun();
  NetHooks hooks;
  hooks.proc_net = [](StaticDirectory& dir,
                      std::function<Result<Ref<NetNamespaceBase>>()> source) {
    AddProcNet(dir, [source = std::move(source)]() -> Result<Ref<NetNamespace>> {
      Ref<NetNamespaceBase> net = TRY(source());
      return Ref<NetNamespace>(static_cast<NetNamespace&>(*net));
    });
  };
  hooks.sysctls = &AddNetSysctls;
  hooks.class_net = &NewSysClassNet;
  SetNetHooks(hooks);
}

}  // namespace ringwall::netlink
