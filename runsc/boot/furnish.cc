#include "runsc/boot/furnish.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/tmpfs/tmpfs.h"
#include "fs/vfs/io.h"
#include "fs/vfs/vfs.h"
#include "sentry/base/log.h"

namespace ringwall {

namespace {

class Furnisher {
 public:
  Furnisher(MountNamespace& ns, const BootArgs& args)
      : ns_(ns), args_(args), root_(ns.root()), creds_(Credentials::Root()) {}

  HostResult<void> Run() {
    for (const BootDevice& device : args_.devices) {
      Result<void> made = MakeDevice(device);
      if (!made.ok()) return Error(made.error(), "linux.devices: make", device.path);
    }
    for (const BootSysctl& sysctl : args_.sysctls) TRY(SetSysctl(sysctl));
    if (!args_.network.resolv_conf.empty()) {
      Result<void> shown = ShowResolvConf();
      if (!shown.ok()) return Error(shown.error(), "show", "/etc/resolv.conf");
    }
    for (const std::string& path : args_.masked_paths) {
      Result<void> masked = Mask(path);
      if (!masked.ok()) return Error(masked.error(), "linux.maskedPaths: mask", path);
    }
    for (const std::string& path : args_.readonly_paths) {
      Result<void> done = MakeReadOnly(path);
      if (!done.ok()) return Error(done.error(), "linux.readonlyPaths: protect", path);
    }
    return {};
  }

 private:
  static HostError Error(Errno error, const char* operation, const std::string& object) {
    return HostError::WithErrno(error.value(), operation, object);
  }
  Walk walk() const { return Walk{*creds_, ns_, root_, root_}; }

  // Null when nothing is there: what does not exist needs no mask.
  Result<Path> Find(const std::string& path) const {
    Result<Path> at = Vfs::Lookup(walk(), path, {});
    if (!at.ok() && (at.error().Is(ENOENT) || at.error().Is(ENOTDIR))) return Path();
    return at;
  }

  Result<void> MakeDevice(const BootDevice& device) {
    for (size_t at = device.path.find('/', 1); at != std::string::npos;
         at = device.path.find('/', at + 1)) {
      Result<void> made = Vfs::Mkdir(walk(), device.path.substr(0, at), 0755);
      if (!made.ok() && !made.error().Is(EEXIST)) return made.error();
    }
    // What /dev or the image has of that name gives way.
    Result<void> gone = Vfs::Unlink(walk(), device.path);
    if (!gone.ok() && !gone.error().Is(ENOENT)) return gone.error();
    const uint32_t type = device.type == 'b' ? S_IFBLK : device.type == 'p' ? S_IFIFO : S_IFCHR;
    const Path at = TRY(Vfs::Mknod(walk(), device.path, type | device.mode,
                                   makedev(static_cast<unsigned>(device.major),
                                           static_cast<unsigned>(device.minor))));
    return Vfs::Chown(*creds_, at, device.uid, device.gid);
  }

  // As a file of its own over the image's: that one may be a file of the host.
  Result<void> ShowResolvConf() {
    const Path at = TRY(Find("/etc/resolv.conf"));
    if (!at) return {};
    TmpfsOptions options;
    options.size = 1 << 20;
    Ref<TmpfsFileSystem> fs = TmpfsFileSystem::Create(options);
    Ref<MountNamespace> stage = MakeRef<MountNamespace>(Mount::Make(fs, 0, "tmpfs"));
    const Walk there{*creds_, *stage, stage->root(), stage->root()};
    Ref<File> file = TRY(Vfs::Open(there, "/resolv.conf", O_WRONLY | O_CREAT, 0644, nullptr));
    const std::string& text = args_.network.resolv_conf;
    SpanSrc bytes(std::as_bytes(std::span(text.data(), text.size())));
    uint64_t position = 0;
    TRY(file->Write(bytes, &position, 0));
    const Path made = TRY(Vfs::Lookup(there, "/resolv.conf", {}));
    return ns_.Attach(MakeRef<Mount>(fs, Ref<Dentry>(made.dentry()), 0, "tmpfs"), at);
  }

  Result<void> Mask(const std::string& path) {
    const Path at = TRY(Find(path));
    if (!at) return {};
    if (!at.dentry().is_directory()) {
      const Path null = TRY(Find("/dev/null"));
      if (!null) return Errno(ENOENT);
      return ns_.Bind(null, at, false);
    }
    TmpfsOptions options;
    options.mode = 0755;
    options.size = 4096;
    return ns_.Attach(Mount::Make(TmpfsFileSystem::Create(options), MS_RDONLY, "tmpfs"), at);
  }

  Result<void> MakeReadOnly(const std::string& path) {
    const Path at = TRY(Find(path));
    if (!at) return {};
    TRY(ns_.Bind(at, at, true));
    const Path top = TRY(Find(path));
    if (!top) return Errno(ENOENT);
    return ns_.Remount(top, top.mount().flags() | MS_RDONLY);
  }

  // "kernel.shm_rmid_forced" or "net/ipv4/conf/eth0.1/...": the first separator decides, as for
  // sysctl(8).
  static std::string SysctlPath(const std::string& name) {
    std::string path = name;
    if (const size_t first = path.find_first_of("./"); first != std::string::npos && path[first] == '.') {
      for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
    }
    return "/proc/sys/" + path;
  }

  HostResult<void> SetSysctl(const BootSysctl& sysctl) {
    Result<Ref<File>> file =
        Vfs::Open(walk(), SysctlPath(sysctl.name), O_WRONLY, 0, nullptr);
    if (!file.ok()) {
      // Engines set some by default, whatever the kernel has.
      RW_LOG(kWarning, "config.json: linux.sysctl: %s is not there and has no effect",
             sysctl.name.c_str());
      return {};
    }
    SpanSrc bytes(std::as_bytes(std::span(sysctl.value.data(), sysctl.value.size())));
    uint64_t position = 0;
    Result<size_t> written = (*file)->Write(bytes, &position, 0);
    if (!written.ok() && written.error().Is(ESRCH)) {
      // It belongs to a process's namespaces, and there is no process yet.
      RW_LOG(kWarning, "config.json: linux.sysctl: %s has no effect", sysctl.name.c_str());
      return {};
    }
    if (!written.ok()) {
      return Error(written.error(), "linux.sysctl: write", sysctl.name + "=" + sysctl.value);
    }
    return {};
  }

  MountNamespace& ns_;
  const BootArgs& args_;
  const Path root_;
  const Ref<const Credentials> creds_;
};

}  // namespace

HostResult<void> FurnishTree(MountNamespace& ns, const BootArgs& args) {
  return Furnisher(ns, args).Run();
}

}  // namespace ringwall
