// What the network gives to /proc and /sys. fs/netlink sets it at start-up; without it the
// directories are empty.
#ifndef RINGWALL_FS_PROC_NET_HOOKS_H_
#define RINGWALL_FS_PROC_NET_HOOKS_H_

#include <functional>

#include "fs/proc/nodes.h"
#include "sentry/kernel/net_base.h"

namespace ringwall {

struct NetHooks {
  // The files of /proc/PID/net; the source gives the process's namespace when one is read.
  void (*proc_net)(StaticDirectory& dir,
                   std::function<Result<Ref<NetNamespaceBase>>()> source) = nullptr;
  // Those of /proc/sys/net.
  void (*sysctls)(StaticDirectory& dir) = nullptr;
  // /sys/class/net.
  Ref<SyntheticInode> (*class_net)(FileSystem& fs) = nullptr;
};

void SetNetHooks(const NetHooks& hooks);
const NetHooks& GetNetHooks();

}  // namespace ringwall

#endif  // RINGWALL_FS_PROC_NET_HOOKS_H_
