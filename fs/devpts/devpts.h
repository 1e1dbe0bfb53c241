// devpts (fs/devpts/inode.c): /dev/pts with its ptmx and the terminals that it has made.
#ifndef RINGWALL_FS_DEVPTS_DEVPTS_H_
#define RINGWALL_FS_DEVPTS_DEVPTS_H_

#include <string_view>

#include "fs/vfs/file.h"

namespace ringwall {

class Kernel;
class PidNamespace;
class Task;

// For a container (PidNamespace::container). data: mode=, ptmxmode= (octal), gid=, uid=, max=; others are let pass. EINVAL.
Result<Ref<FileSystem>> NewDevPts(Kernel& kernel, std::string_view data, PidNamespace& container);
// Nodes elsewhere: /dev/tty (5, 0), which is the caller's controlling terminal, and a ptmx (5, 2)
// outside of a devpts, which makes terminals in the container's first one.
void RegisterTtyDevices();

// After an open without O_NOCTTY: a session leader without a terminal takes this one.
void OfferControllingTty(Task& task, File& file);
// vhangup(2).
void HangUpControllingTty(Task& task);

// A terminal of the host among those of a container's first devpts, under the lowest free number, as long as the Place is
// there. `host` is what opens it (NewHostInode); the node belongs to `uid`.
struct HostTerminal {
  uint32_t number = 0;
  Ref<RefCountedBase> place;
};
// ENODEV without a devpts, ENOSPC.
Result<HostTerminal> AddHostTerminal(PidNamespace& container, Ref<Inode> host, Uid uid);

}  // namespace ringwall

#endif  // RINGWALL_FS_DEVPTS_DEVPTS_H_
