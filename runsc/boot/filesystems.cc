#include "runsc/boot/filesystems.h"

#include <sys/stat.h>

#include <algorithm>

#include "fs/dev/devtmpfs.h"
#include "fs/dev/mem_devices.h"
#include "fs/devpts/devpts.h"
#include "fs/epoll/epoll.h"
#include "fs/epoll/eventfd.h"
#include "fs/gofer/disk_store.h"
#include "fs/gofer/gofer.h"
#include "fs/inet/inet_socket.h"
#include "fs/mqueue/mqueue.h"
#include "fs/netlink/netlink_socket.h"
#include "fs/overlay/guest_mount.h"
#include "fs/overlay/memory_upper.h"
#include "fs/overlay/overlay.h"
#include "fs/pipe/pipe.h"
#include "fs/proc/proc.h"
#include "fs/sys/sysfs.h"
#include "fs/tmpfs/tmpfs.h"
#include "fs/unix/unix_socket.h"
#include "fs/vfs/dentry.h"
#include "fs/vfs/fs_type.h"
#include "fs/vfs/vfs.h"
#include "gofer/client/client.h"
#include "runsc/boot/furnish.h"
#include "sentry/base/log.h"
#include "sentry/kernel/core_dump.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

Ref<FileSystem> SysFs(Kernel& kernel) {
  return NewSysFs(kernel.cpus(), [&kernel] { return NodeMeminfoText(kernel); });
}

// What a mount's errno becomes for people.
HostError MountError(const BootMount& mount, Errno error) {
  const std::string type = mount.type == "gofer" ? mount.source : mount.type;
  HostError out = HostError::WithErrno(error.value(), "mount " + type + " on", mount.destination);
  if (!error.Is(EROFS)) return out;
  return HostError::Message(out.message() + "; the mount point is missing in a root that cannot be "
                            "written: make it there, or let --overlay2 be other than none");
}

// Access times are relative unless something else is asked for, as mount(2) has it.
uint32_t WithTimes(uint64_t flags) {
  uint32_t own = static_cast<uint32_t>(flags);
  if ((own & MS_STRICTATIME) != 0) {
    return own & ~static_cast<uint32_t>(MS_RELATIME | MS_NOATIME);
  }
  return (own & MS_NOATIME) != 0 ? own : own | MS_RELATIME;
}

class Mounter {
 public:
  Mounter(Kernel& kernel, const GuestContainer& container, BootArgs& args)
      : kernel_(kernel), container_(container), args_(args) {}

  HostResult<Ref<MountNamespace>> Run() {
    RefPtr<MountNamespace> ns;
    std::vector<Ref<Mount>> read_only;
    for (BootMount& mount : args_.mounts) {
      Result<RefPtr<FileSystem>> fs = MakeFileSystem(mount);
      if (!fs.ok()) return MountError(mount, fs.error());
      if (!*fs) return MountError(mount, Errno(ENODEV));
      Ref<FileSystem> made(*fs);
      Ref<Dentry> root = Dentry::MakeRoot(made->root());
      // Writable until all mount points and devices below are made.
      const uint32_t flags = WithTimes(mount.flags);
      Ref<Mount> m = MakeRef<Mount>(made, root, flags & ~uint32_t{MS_RDONLY}, mount.source);
      if ((flags & MS_RDONLY) != 0) read_only.push_back(m);
      if (!ns) {
        ns = MakeRef<MountNamespace>(m);
      } else {
        Result<void> attached = AttachAt(*ns, std::move(m), mount);
        if (!attached.ok()) return MountError(mount, attached.error());
      }
      if (mount.propagation != 0) TRY(Propagate(*ns, mount));
    }
    if (!ns) return HostError::Message("the container has no root");
    TRY(FurnishTree(*ns, args_));
    for (const Ref<Mount>& m : read_only) m->set_flags(m->flags() | MS_RDONLY);
    return Ref<MountNamespace>(ns);
  }

 private:
  // Null when the kernel has no such type.
  Result<RefPtr<FileSystem>> MakeFileSystem(const BootMount& mount) {
    if (mount.type == "gofer") {
      Ref<FileSystem> fs = TRY(MakeGofer(mount));
      return RefPtr<FileSystem>(std::move(fs));
    }
    if (mount.type == "tmpfs") {
      const TmpfsOptions options = TRY(TmpfsOptions::Parse(mount.data, args_.memory_limit));
      return RefPtr<FileSystem>(TmpfsFileSystem::Create(options));
    }
    if (mount.type == "devtmpfs") {
      Ref<FileSystem> fs = TRY(NewDevTmpfs());
      return RefPtr<FileSystem>(std::move(fs));
    }
    if (mount.type == "devpts") {
      Ref<FileSystem> fs = TRY(NewDevPts(kernel_, mount.data, *container_.pid_ns));
      return RefPtr<FileSystem>(std::move(fs));
    }
    if (mount.type == "proc") return RefPtr<FileSystem>(NewProcFs(kernel_, Ref<PidNamespace>(container_.pid_ns)));
    if (mount.type == "mqueue") {
      return RefPtr<FileSystem>(MqFileSystem::Of(static_cast<IpcNamespace&>(*container_.ipc)));
    }
    if (mount.type == "sysfs") return RefPtr<FileSystem>(SysFs(kernel_));
    return RefPtr<FileSystem>();
  }

  // What is kept of files that nobody uses must leave room for those in use: a name may hold a
  // descriptor of the gofer's, a closed file one of ours.
  void BoundCaches() {
    constexpr size_t kNames = 64 << 10;
    size_t names = std::min<size_t>(kNames, client_->max_handles() / 2);
    if (args_.max_names >= 0) names = std::min(names, static_cast<size_t>(args_.max_names));
    Dentry::SetCacheLimit(names);
  }

  Result<Ref<FileSystem>> MakeGofer(const BootMount& mount) {
    if (!client_) {
      Ref<gofer::GoferClient> fresh = TRY(gofer::GoferClient::Create(std::move(args_.gofer)));
      client_ = std::move(fresh);
      BoundCaches();
    }
    GoferFsOptions options;
    options.exclusive = mount.cache_exclusive;
    options.connect_sockets = mount.access.connect_sockets;
    options.bind_sockets = mount.access.bind_sockets;
    options.open_fifos = mount.access.open_fifos;
    options.max_idle_descriptors = std::min(options.max_idle_descriptors, args_.idle_descriptors);
    if ((mount.access.connect_sockets || mount.access.bind_sockets) && !offered_) {
      offered_ = true;
      GoferFileSystem::OfferHostNodes();
      OverlayFileSystem::OfferHostSockets();
    }
    Ref<FileSystem> lower = TRY(GoferFileSystem::Create(
        Ref<gofer::GoferClient>(client_), static_cast<uint32_t>(mount.gofer_root), options));
    if (mount.overlay == OverlayMode::kNone || mount.is_file) return lower;
    TmpfsOptions upper;
    upper.size = args_.memory_limit / 2;
    if (mount.overlay == OverlayMode::kDisk) {
      Ref<TmpfsStore> store = TRY(NewDiskStore(Ref<gofer::GoferClient>(client_),
                                               static_cast<uint32_t>(mount.overlay_root),
                                               &upper.size));
      upper.store = std::move(store);
    }
    if (mount.overlay_size != 0) upper.size = mount.overlay_size;
    return OverlayOnMemory(std::move(lower), upper);
  }

  // Mounts on the destination, making it when it is missing.
  Result<void> AttachAt(MountNamespace& ns, Ref<Mount> m, const BootMount& mount) {
    const Path root = ns.root();
    Ref<const Credentials> creds = Credentials::Root();
    const Walk walk{*creds, ns, root, root};
    Result<Path> at = Vfs::Lookup(walk, mount.destination, {});
    if (!at.ok() && at.error().Is(ENOENT)) {
      TRY(MakeDestination(walk, mount));
      at = Vfs::Lookup(walk, mount.destination, {});
    }
    if (!at.ok()) return at.error();
    return ns.Attach(std::move(m), *at);
  }

  static HostResult<void> Propagate(MountNamespace& ns, const BootMount& mount) {
    const Path root = ns.root();
    Ref<const Credentials> creds = Credentials::Root();
    const Walk walk{*creds, ns, root, root};
    Result<Path> at = Vfs::Lookup(walk, mount.destination, {});
    Result<void> done = at.ok() ? ns.SetPropagation(*at, static_cast<uint32_t>(mount.propagation))
                                : Result<void>(at.error());
    if (!done.ok()) {
      return HostError::WithErrno(done.error().value(), "set the propagation of", mount.destination);
    }
    return {};
  }

  static Result<void> MakeDestination(const Walk& walk, const BootMount& mount) {
    for (size_t at = 1; at != std::string::npos && at < mount.destination.size();) {
      at = mount.destination.find('/', at);
      const bool last = at == std::string::npos;
      const std::string prefix = mount.destination.substr(0, at);
      if (last && mount.is_file) {
        TRY(Vfs::Mknod(walk, prefix, S_IFREG | 0644, 0));
        return {};
      }
      Result<void> made = Vfs::Mkdir(walk, prefix, 0755);
      if (!made.ok() && !made.error().Is(EEXIST)) return made.error();
      if (!last) at++;
    }
    return {};
  }

  Kernel& kernel_;
  const GuestContainer& container_;
  BootArgs& args_;
  bool offered_ = false;  // the host's sockets
  RefPtr<gofer::GoferClient> client_;
};

}  // namespace

void RegisterFileSystems(Kernel& kernel) {
  CoreSettings::Get().make_pipe.store([]() -> Result<CoreSettings::Pipe> {
    PipePair pair = TRY(MakePipe(0, *Credentials::Root()));
    return CoreSettings::Pipe{std::move(pair.reader), std::move(pair.writer)};
  });
  RegisterFsType({.name = "sysfs",
                  .in_user_namespaces = true,
                  .reveals = true,
                  .make = [&kernel](const NewFsArgs&) -> Result<Ref<FileSystem>> {
                    return SysFs(kernel);
                  }});
  RegisterFsType({.name = "tmpfs",
                  .in_user_namespaces = true,
                  .make = [](const NewFsArgs& args) -> Result<Ref<FileSystem>> {
                    const TmpfsOptions options = TRY(TmpfsOptions::Parse(
                        args.data, TmpfsFileSystem::memory(), args.walk.creds));
                    return Ref<FileSystem>(TmpfsFileSystem::Create(options));
                  }});
  RegisterFsType({.name = "proc",
                  .in_user_namespaces = true,
                  .reveals = true,
                  .make = [&kernel](const NewFsArgs& args) -> Result<Ref<FileSystem>> {
                    const Task* t = args.walk.task;
                    RefPtr<PidNamespace> ns =
                        t != nullptr ? t->nsproxy().pid_for_children : kernel.tasks().first;
                    if (t != nullptr && !t->creds().HasIn(ns->user_ns(), Capability::kSysAdmin)) {
                      return Errno(EPERM);
                    }
                    return NewProcFs(kernel, Ref<PidNamespace>(ns));
                  }});
  RegisterFsType({.name = "ramfs",
                  .in_user_namespaces = true,
                  .make = [](const NewFsArgs& args) -> Result<Ref<FileSystem>> {
                    const TmpfsOptions options = TRY(TmpfsOptions::ParseRamfs(
                        args.data, TmpfsFileSystem::memory(), args.walk.creds));
                    return Ref<FileSystem>(TmpfsFileSystem::Create(options));
                  }});
  RegisterFsType({.name = "overlay", .in_user_namespaces = true, .make = MountOverlay});
  RegisterFsType({.name = "mqueue",
                  .in_user_namespaces = true,
                  .make = [](const NewFsArgs& args) -> Result<Ref<FileSystem>> {
                    IpcNamespace& ns = args.walk.task->ipc();
                    if (!args.walk.creds.HasIn(ns.user_ns(), Capability::kSysAdmin)) {
                      return Errno(EPERM);
                    }
                    return Ref<FileSystem>(MqFileSystem::Of(ns));
                  }});
  RegisterFsType({.name = "devtmpfs",
                  .make = [](const NewFsArgs&) -> Result<Ref<FileSystem>> { return NewDevTmpfs(); }});
  RegisterFsType({.name = "devpts",
                  .in_user_namespaces = true,
                  .make = [&kernel](const NewFsArgs& args) -> Result<Ref<FileSystem>> {
                    const Task* t = args.walk.task;
                    PidNamespace& ns = t != nullptr ? t->pid_ns() : *kernel.tasks().first;
                    return NewDevPts(kernel, args.data, ns.container());
                  }});
}

// mq_notify with SIGEV_THREAD: the C library's thread reads a netlink socket.
static bool TellBySocket(File& file, std::span<const std::byte> datagram) {
  Socket* socket = file.AsSocket();
  if (socket == nullptr || socket->family() != AF_NETLINK) return false;
  if (datagram.empty()) return true;
  const auto* bytes = reinterpret_cast<const uint8_t*>(datagram.data());
  static_cast<netlink::NetlinkSocket*>(socket)->Deliver({bytes, bytes + datagram.size()});
  return true;
}

void RegisterDrivers() {
  RegisterMemDevices();
  RegisterFifos();
  RegisterEventFds();
  RegisterEpollCalls();
  RegisterTtyDevices();
  RegisterUnixSockets();
  RegisterInetSockets();
  netlink::Register();
  SetMqSocketSend(&TellBySocket);
}

HostResult<Ref<MountNamespace>> MountAll(Kernel& kernel, const GuestContainer& container, BootArgs& args) {
  return Mounter(kernel, container, args).Run();
}

}  // namespace ringwall
