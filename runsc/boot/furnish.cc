#include "runsc/boot/furnish.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/tmpfs/tmpfs.h"
#include "fs/vfs/io.h"
#include "fs/vfs/vfs.h"

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
    if (!args_.network.resolv_conf.empty()) {
      Result<void> shown = ShowResolvConf(ns_, args_.network.resolv_conf);
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

  MountNamespace& ns_;
  const BootArgs& args_;
  const Path root_;
  const Ref<const Credentials> creds_;
};

}  // namespace

// As a file of its own over the image's: that one may be a file of the host.
Result<void> ShowResolvConf(MountNamespace& ns, const std::string& text) {
  const Ref<const Credentials> creds = Credentials::Root();
  const Path root = ns.root();
  Result<Path> at = Vfs::Lookup(Walk{*creds, ns, root, root}, "/etc/resolv.conf", {});
  if (!at.ok() && (at.error().Is(ENOENT) || at.error().Is(ENOTDIR))) return {};
  if (!at.ok()) return at.error();
  TmpfsOptions options;
  options.size = 1 << 20;
  Ref<TmpfsFileSystem> fs = TmpfsFileSystem::Create(options);
  Ref<MountNamespace> stage = MakeRef<MountNamespace>(Mount::Make(fs, 0, "tmpfs"));
  const Walk there{*creds, *stage, stage->root(), stage->root()};
  Ref<File> file = TRY(Vfs::Open(there, "/resolv.conf", O_WRONLY | O_CREAT, 0644, nullptr));
  SpanSrc bytes(std::as_bytes(std::span(text.data(), text.size())));
  uint64_t position = 0;
  TRY(file->Write(bytes, &position, 0));
  const Path made = TRY(Vfs::Lookup(there, "/resolv.conf", {}));
  return ns.Attach(MakeRef<Mount>(fs, Ref<Dentry>(made.dentry()), 0, "tmpfs"), *at);
}

HostResult<void> FurnishTree(MountNamespace& ns, const BootArgs& args) {
  return Furnisher(ns, args).Run();
}

}  // namespace ringwall
