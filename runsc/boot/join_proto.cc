// A container that joins a sandbox, over the control channel.
#include <sys/mount.h>

#include <algorithm>

#include "runsc/boot/control.h"

namespace ringwall {
namespace {

void ToProto(const BootMount& mount, control::Join::Mount* out) {
  out->set_type(mount.type);
  out->set_source(mount.source);
  out->set_destination(mount.destination);
  out->set_flags(mount.flags);
  out->set_propagation(mount.propagation);
  out->set_data(mount.data);
  out->set_gofer_root(mount.gofer_root);
  out->set_is_file(mount.is_file);
  out->set_cache_exclusive(mount.cache_exclusive);
  out->set_connect_sockets(mount.access.connect_sockets);
  out->set_bind_sockets(mount.access.bind_sockets);
  out->set_open_fifos(mount.access.open_fifos);
  out->set_overlay(static_cast<uint32_t>(mount.overlay));
  out->set_overlay_size(mount.overlay_size);
  out->set_overlay_root(mount.overlay_root);
}

Result<BootMount> MountOf(const control::Join::Mount& in) {
  if (in.destination().empty() || in.destination()[0] != '/') return Errno(EINVAL);
  if (in.overlay() > static_cast<uint32_t>(OverlayMode::kDisk)) return Errno(EINVAL);
  if (in.type() == "gofer" && in.gofer_root() < 0) return Errno(EINVAL);
  const auto overlay = static_cast<OverlayMode>(in.overlay());
  if (overlay == OverlayMode::kDisk && in.overlay_root() < 0) return Errno(EINVAL);
  BootMount mount;
  mount.type = in.type();
  mount.source = in.source();
  mount.destination = in.destination();
  mount.flags = in.flags();
  mount.propagation = in.propagation();
  mount.data = in.data();
  mount.gofer_root = in.gofer_root();
  mount.is_file = in.is_file();
  mount.cache_exclusive = in.cache_exclusive();
  mount.access = {in.connect_sockets(), in.bind_sockets(), in.open_fifos()};
  mount.overlay = overlay;
  mount.overlay_size = in.overlay_size();
  mount.overlay_root = in.overlay_root();
  return mount;
}

Result<BootDevice> DeviceOf(const control::Join::Device& in) {
  const char type = static_cast<char>(in.type());
  if (in.path().empty() || in.path()[0] != '/') return Errno(EINVAL);
  if (in.type() != static_cast<uint32_t>(type) || (type != 'c' && type != 'b' && type != 'p')) {
    return Errno(EINVAL);
  }
  return BootDevice{in.path(), type, in.major(), in.minor(), in.mode() & 07777, in.uid(), in.gid()};
}

}  // namespace

void ToProto(const BootArgs& args, control::Join* out, std::vector<int>* fds) {
  fds->push_back(args.gofer.get());
  fds->push_back(args.control_listen.get());
  fds->push_back(args.control_connection.get());
  out->set_terminal_connection(args.terminal_connection.valid());
  if (args.terminal_connection) fds->push_back(args.terminal_connection.get());
  out->set_id(args.container_id);
  ToProto(args.process, out->mutable_process(), fds);
  for (const BootMount& mount : args.mounts) ToProto(mount, out->add_mounts());
  for (const BootDevice& device : args.devices) {
    control::Join::Device* d = out->add_devices();
    d->set_path(device.path);
    d->set_type(static_cast<uint8_t>(device.type));
    d->set_major(device.major);
    d->set_minor(device.minor);
    d->set_mode(device.mode);
    d->set_uid(device.uid);
    d->set_gid(device.gid);
  }
  for (const std::string& path : args.masked_paths) out->add_masked_paths(path);
  for (const std::string& path : args.readonly_paths) out->add_readonly_paths(path);
  out->set_hostname(args.hostname);
  out->set_domainname(args.domainname);
  for (const BootSysctl& sysctl : args.sysctls) {
    control::Join::Sysctl* s = out->add_sysctls();
    s->set_name(sysctl.name);
    s->set_value(sysctl.value);
  }
}

Result<BootArgs> FromProto(const control::Join& in, std::vector<UniqueFd> fds) {
  BootArgs args;
  const size_t own = in.terminal_connection() ? 4 : 3;
  if (fds.size() < own) return Errno(EINVAL);
  args.gofer = std::move(fds[0]);
  args.control_listen = std::move(fds[1]);
  args.control_connection = std::move(fds[2]);
  if (in.terminal_connection()) args.terminal_connection = std::move(fds[3]);
  fds.erase(fds.begin(), fds.begin() + static_cast<ptrdiff_t>(own));
  args.container_id = in.id();
  args.process = TRY(FromProto(in.process(), std::move(fds)));
  for (const control::Join::Mount& mount : in.mounts()) {
    BootMount made = TRY(MountOf(mount));
    args.mounts.push_back(std::move(made));
  }
  if (args.mounts.empty() || args.mounts[0].destination != "/") return Errno(EINVAL);
  for (const control::Join::Device& device : in.devices()) {
    BootDevice made = TRY(DeviceOf(device));
    args.devices.push_back(std::move(made));
  }
  args.masked_paths.assign(in.masked_paths().begin(), in.masked_paths().end());
  args.readonly_paths.assign(in.readonly_paths().begin(), in.readonly_paths().end());
  args.hostname = in.hostname();
  args.domainname = in.domainname();
  for (const control::Join::Sysctl& s : in.sysctls()) args.sysctls.push_back({s.name(), s.value()});
  args.start_now = false;
  return args;
}

}  // namespace ringwall
