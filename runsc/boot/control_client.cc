#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runsc/boot/control.h"
#include "runsc/boot/control_frame.h"

namespace ringwall {
namespace {

// Through the descriptor, since a socket's path is limited to 107 bytes.
sockaddr_un AddressIn(int directory, const std::string& name) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", directory,
           name.c_str());
  return address;
}

}  // namespace

HostResult<UniqueFd> ListenControl(int directory, const std::string& name) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return HostError::Last("make the control socket");
  const sockaddr_un address = AddressIn(directory, name);
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return HostError::Last("bind the control socket");
  }
  if (listen(socket.get(), 16) != 0) return HostError::Last("listen on the control socket");
  return socket;
}

HostResult<ControlClient> ControlClient::Connect(int directory, const std::string& name) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return HostError::Last("make a socket");
  const sockaddr_un address = AddressIn(directory, name);
  if (RetryEintr([&] {
        return connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
      }) != 0) {
    return HostError::Last("talk to the sandbox");
  }
  return ControlClient(std::move(socket));
}

HostResult<void> ControlClient::Send(const control::Request& request,
                                     const std::vector<int>& fds) {
  const Result<void> sent = SendFrame(socket_.get(), request.SerializeAsString(), fds);
  if (!sent.ok()) return HostError::WithErrno(sent.error().value(), "talk to the sandbox");
  return {};
}

HostResult<control::Response> ControlClient::Receive() {
  std::vector<UniqueFd> fds;
  Result<std::string> frame = ReceiveFrame(socket_.get(), &fds);
  if (!frame.ok()) return HostError::WithErrno(frame.error().value(), "hear from the sandbox");
  control::Response response;
  if (!response.ParseFromString(*frame)) {
    return HostError::WithErrno(EPROTO, "hear from the sandbox");
  }
  return response;
}

HostResult<control::Response> ControlClient::Call(const control::Request& request,
                                                  const std::vector<int>& fds) {
  TRY(Send(request, fds));
  return Receive();
}

void SendForwardedSignal(int socket, int signal, int32_t pid) {
  control::Request request;
  request.set_no_reply(true);
  request.mutable_signal()->set_signal(signal);
  request.mutable_signal()->set_pid(pid);
  request.mutable_signal()->set_foreground(true);
  // When the Sentry is gone its end tells more than this error.
  [[maybe_unused]] const Result<void> sent =
      SendFrame(socket, request.SerializeAsString(), {});
}

void ToProto(const BootProcess& process, control::Process* out, std::vector<int>* fds) {
  for (const std::string& arg : process.argv) out->add_argv(arg);
  for (const std::string& variable : process.envp) out->add_envp(variable);
  out->set_cwd(process.cwd);
  out->set_program(process.program);
  out->set_home_from_passwd(process.home_from_passwd);
  out->set_uid(process.uid);
  out->set_gid(process.gid);
  for (const gid_t group : process.groups) out->add_groups(group);
  out->set_cap_bounding(process.caps.bounding);
  out->set_cap_effective(process.caps.effective);
  out->set_cap_inheritable(process.caps.inheritable);
  out->set_cap_permitted(process.caps.permitted);
  out->set_cap_ambient(process.caps.ambient);
  if (process.umask) out->set_umask(*process.umask);
  for (const BootRlimit& limit : process.rlimits) {
    control::Rlimit* rlimit = out->add_rlimits();
    rlimit->set_resource(limit.resource);
    rlimit->set_soft(limit.soft);
    rlimit->set_hard(limit.hard);
  }
  out->set_no_new_privs(process.no_new_privs);
  out->set_oom_score_adj(process.oom_score_adj);
  out->set_seccomp_program(process.seccomp_program.data(), process.seccomp_program.size());
  out->set_seccomp_flags(process.seccomp_flags);
  uint32_t open = 0;
  for (size_t i = 0; i < process.stdio.size(); i++) {
    if (!process.stdio[i]) continue;
    open |= 1u << i;
    fds->push_back(process.stdio[i].get());
  }
  out->set_stdio_open(open);
  out->set_extra_fds(static_cast<uint32_t>(process.extra_fds.size()));
  for (const UniqueFd& fd : process.extra_fds) fds->push_back(fd.get());
  out->set_terminal(process.terminal);
  out->set_host_tty(process.host_tty);
  out->set_rows(process.terminal_size.rows);
  out->set_cols(process.terminal_size.cols);
  out->set_ignored_signals(process.ignored_signals);
  out->set_blocked_signals(process.blocked_signals);
}

Result<BootProcess> FromProto(const control::Process& in, std::vector<UniqueFd> fds) {
  BootProcess process;
  if (in.argv_size() == 0) return Errno(EINVAL);
  process.argv.assign(in.argv().begin(), in.argv().end());
  process.envp.assign(in.envp().begin(), in.envp().end());
  process.cwd = in.cwd();
  process.program = in.program();
  process.home_from_passwd = in.home_from_passwd();
  process.uid = in.uid();
  process.gid = in.gid();
  process.groups.assign(in.groups().begin(), in.groups().end());
  process.caps = {in.cap_bounding(), in.cap_effective(), in.cap_inheritable(),
                  in.cap_permitted(), in.cap_ambient()};
  if (in.has_umask()) process.umask = in.umask() & 0777;
  for (const control::Rlimit& limit : in.rlimits()) {
    if (limit.resource() < 0 || limit.resource() >= static_cast<int>(RLIM_NLIMITS)) {
      return Errno(EINVAL);
    }
    process.rlimits.push_back({limit.resource(), limit.soft(), limit.hard()});
  }
  process.no_new_privs = in.no_new_privs();
  process.oom_score_adj = in.oom_score_adj();
  process.seccomp_program.assign(in.seccomp_program().begin(), in.seccomp_program().end());
  process.seccomp_flags = in.seccomp_flags();
  size_t next = 0;
  for (size_t i = 0; i < process.stdio.size(); i++) {
    if ((in.stdio_open() >> i & 1) == 0) continue;
    if (next == fds.size()) return Errno(EINVAL);
    process.stdio[i] = std::move(fds[next++]);
  }
  if (fds.size() - next != in.extra_fds()) return Errno(EINVAL);
  for (; next < fds.size(); next++) process.extra_fds.push_back(std::move(fds[next]));
  process.terminal = in.terminal();
  process.host_tty = in.host_tty();
  process.terminal_size = {static_cast<uint16_t>(in.rows()), static_cast<uint16_t>(in.cols())};
  process.ignored_signals = in.ignored_signals();
  process.blocked_signals = in.blocked_signals();
  return process;
}

}  // namespace ringwall
