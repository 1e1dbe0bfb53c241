#include "runsc/sandbox/net_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runsc/filter/netd_filter.h"
#include "runsc/net/nat.h"
#include "runsc/sandbox/layers.h"
#include "runsc/sandbox/namespaces.h"
#include "runsc/sandbox/privileges.h"
#include "sentry/base/log.h"
#include "sentry/base/resident.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

constexpr int kLinkBuffer = 4 << 20;
constexpr size_t kMostResolvConf = 64 << 10;

HostResult<std::string> ReadResolvConf() {
  std::string text;
  UniqueFd fd(::open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC));
  if (!fd) return text;  // the guest then has no names, as the host has none
  text.resize(kMostResolvConf);
  const ssize_t n = RetryEintr([&] { return ::read(fd.get(), text.data(), text.size()); });
  text.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return text;
}

// Takes the name servers out and leaves the rest, with the gateway as the server.
std::string SplitResolvConf(const std::string& text, std::vector<net::SockAddr>* resolvers) {
  std::string out = "nameserver " + NatAddresses::Get().gateway4.ToString() + "\n";
  size_t at = 0;
  while (at < text.size()) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    const size_t space = line.find_first_of(" \t");
    const std::string key = line.substr(0, space);
    if (key != "nameserver") {
      if (key == "search" || key == "domain" || key == "options") out += line + "\n";
      continue;
    }
    if (space == std::string::npos) continue;
    const size_t from = line.find_first_not_of(" \t", space);
    if (from == std::string::npos) continue;
    const std::string address = line.substr(from, line.find_first_of(" \t%\r", from) - from);
    if (std::optional<net::IpAddr> parsed = net::IpAddr::Parse(address)) {
      resolvers->push_back({*parsed, 53, 0});
    }
  }
  // resolv.conf(5): without a server, the one on this host.
  if (resolvers->empty()) resolvers->push_back({net::IpAddr::Loopback(net::Family::kV4), 53, 0});
  return out;
}

HostResult<UniqueFd> BindPort(const PortMapping& port) {
  net::IpAddr at = net::IpAddr::Any(net::Family::kV4);
  if (!port.host_ip.empty()) {
    const std::optional<net::IpAddr> parsed = net::IpAddr::Parse(port.host_ip);
    if (!parsed) return HostError::Message("--publish: \"" + port.host_ip + "\" is no address");
    at = *parsed;
  }
  const std::string what = "publish port " + std::to_string(port.host_port);
  UniqueFd fd(::socket(at.is_v4() ? AF_INET : AF_INET6,
                       (port.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return HostError::Last(what);
  const int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (at.is_v6()) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
  HostSockAddr address(net::SockAddr{at, port.host_port, 0});
  if (bind(fd.get(), address.raw(), address.size) != 0) return HostError::Last(what);
  if (!port.udp && listen(fd.get(), 1024) != 0) return HostError::Last(what);
  return fd;
}

// A user namespace of the helper's own, in which it is one ordinary user. `made`: the clone gave it.
void EnterUserNamespace(bool made, uid_t user, gid_t group, Layers& layers) {
  const std::string uid = std::to_string(user), gid = std::to_string(group);
  if (!made && unshare(CLONE_NEWUSER) != 0) return layers.Miss(Layer::kUserNamespace, errno);
  const auto write_file = [](const char* path, const std::string& text) {
    const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
    return fd.valid() && ::write(fd.get(), text.data(), text.size()) ==
                             static_cast<ssize_t>(text.size());
  };
  write_file("/proc/self/setgroups", "deny");
  if (write_file("/proc/self/uid_map", uid + " " + uid + " 1\n") &&
      write_file("/proc/self/gid_map", gid + " " + gid + " 1\n")) {
    layers.Hold(Layer::kUserNamespace);
  } else {
    layers.Miss(Layer::kUserNamespace, errno);
  }
}

void BecomeOrdinary(uid_t* user, gid_t* group, Layers& layers) {
  if (*user != 0) return layers.Hold(Layer::kUnprivilegedUser);
  // The raw calls: this process has one thread, and glibc's would signal others.
  if (syscall(SYS_setgroups, 0, nullptr) == 0 &&
      syscall(SYS_setresgid, kNobody, kNobody, kNobody) == 0 &&
      syscall(SYS_setresuid, kNobody, kNobody, kNobody) == 0) {
    layers.Hold(Layer::kUnprivilegedUser);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // else its own maps are not its own to write
    *user = *group = kNobody;
  } else {
    layers.Miss(Layer::kUnprivilegedUser, errno);
  }
}

// A change of user leaves them permitted (PR_SET_KEEPCAPS), without effect.
void RaiseCapabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  syscall(SYS_capget, &header, data);
  for (__user_cap_data_struct& half : data) half.effective = half.permitted;
  syscall(SYS_capset, &header, data);
}

struct HelperStart {
  uid_t user = 0;
  gid_t group = 0;
  bool own_user = false, own_pids = false;  // namespaces that the clone gave
  bool strict = false;
  bool host_ports = false;
  int null = -1;
  int ready = -1;  // strict: told that all layers hold; a closed pipe says that one does not
};

[[noreturn]] void RunHelper(NatOptions nat, HelperStart start) {
  prctl(PR_SET_NAME, "runsc-netd", 0, 0, 0);
  setsid();
  for (int signal = 1; signal < SIGRTMIN; signal++) {
    struct sigaction action = {};
    action.sa_handler = signal == SIGPIPE ? SIG_IGN : SIG_DFL;
    if (signal != SIGKILL && signal != SIGSTOP) sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  LogConfig logging = GetLogConfig();
  logging.process = "netd";
  SetLogConfig(logging);

  Layers layers;
  if (start.own_pids) {
    layers.Hold(Layer::kPidNamespace);
  } else {
    layers.Miss(Layer::kPidNamespace, EPERM);
  }
  // What opens the host's ports below 1024 counts in the host's own user namespace only.
  const bool keeps_ports = start.host_ports && start.user == 0;
  if (keeps_ports) prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
  BecomeOrdinary(&start.user, &start.group, layers);
  if (keeps_ports) {
    RaiseCapabilities();
    layers.Miss(Layer::kUserNamespace, EPERM);
  } else {
    EnterUserNamespace(start.own_user, start.user, start.group, layers);
  }
  constexpr std::pair<int, Layer> kEach[] = {{CLONE_NEWIPC, Layer::kIpcNamespace},
                                             {CLONE_NEWUTS, Layer::kUtsNamespace},
                                             {CLONE_NEWCGROUP, Layer::kCgroupNamespace}};
  for (const auto& [flag, layer] : kEach) {
    unshare(flag) == 0 ? layers.Hold(layer) : layers.Miss(layer, errno);
  }
  layers.Hold(Layer::kNetNamespace);  // to be in the caller's is its work
  UnshareMounts(layers);
  EnterEmptyRoot(layers);
  LimitResources(layers);
  GiveUpPrivileges(keeps_ports ? uint64_t{1} << CAP_NET_BIND_SERVICE : 0, false, {}, layers);
  mallopt(M_ARENA_MAX, 1);
  std::vector<int> keep = {start.ready,     nat.link.get(),  nat.ports.get(),
                           nat.ping4.get(), nat.ping6.get(), logging.fd};
  for (const NatPublished& p : nat.published) keep.push_back(p.fd.get());
  CloseAllBut(start.null, std::move(keep));

  Nat& helper = *new Nat(std::move(nat));
  HostResult<void> prepared = helper.Prepare();
  if (!prepared.ok()) {
    RW_LOG(kError, "%s", prepared.error().message().c_str());
    _exit(1);
  }
  HostResult<void> filter = InstallNetdFilter(start.host_ports);
  filter.ok() ? layers.Hold(Layer::kSeccomp) : layers.Miss(Layer::kSeccomp, filter.error().error());
  layers.Log("netd");
  if (start.strict && !layers.all_held()) {
    RW_LOG(kError, "--strict: the network helper lacks: %s", layers.Missing().c_str());
    _exit(1);
  }
  if (start.ready >= 0) {
    if (::write(start.ready, "r", 1) != 1) _exit(1);
    ::close(start.ready);
  }
  ForgetCode();
  helper.Run();
  _exit(0);
}

// Whether the host has a way to the IPv6 internet: asks for a route, sends nothing.
bool HostHasIpv6() {
  const UniqueFd fd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return false;
  HostSockAddr somewhere(net::SockAddr{*net::IpAddr::Parse("2000::1"), 9, 0});
  return connect(fd.get(), somewhere.raw(), somewhere.size) == 0;
}

NetworkConfig GuestConfig(UniqueFd link, UniqueFd wake, bool names_only) {
  const NatAddresses& a = NatAddresses::Get();
  NetworkConfig config;
  LinkConfig& eth0 = config.links.emplace_back();
  eth0.name = "eth0";
  eth0.mac = a.guest_mac;
  eth0.mtu = a.mtu;
  eth0.offload = eth0.rx_checked = true;
  eth0.addresses = {{a.guest4, a.len4}, {a.guest6, a.len6}};
  eth0.neighbours = {{a.gateway4, a.gateway_mac}, {a.gateway6, a.gateway_mac}};
  eth0.fd = std::move(link);
  eth0.wake = std::move(wake);
  if (names_only) {
    eth0.name = "dns0";
    eth0.addresses.resize(1);
    return config;
  }
  RouteConfig route;
  route.link = 0;
  route.dst = {net::IpAddr::Any(net::Family::kV4), 0};
  route.gateway = a.gateway4;
  config.routes.push_back(route);
  if (HostHasIpv6()) {
    route.dst = {net::IpAddr::Any(net::Family::kV6), 0};
    route.gateway = a.gateway6;
    config.routes.push_back(route);
  }
  return config;
}

}  // namespace

HostResult<PortMapping> ParsePortMapping(const std::string& text) {
  const HostError bad = HostError::Message("--publish: \"" + text +
                                           "\" is not [IP:]HOSTPORT:PORT[/tcp|udp]");
  PortMapping out;
  std::string rest = text;
  if (const size_t slash = rest.find('/'); slash != std::string::npos) {
    const std::string protocol = rest.substr(slash + 1);
    if (protocol != "tcp" && protocol != "udp") return bad;
    out.udp = protocol == "udp";
    rest.resize(slash);
  }
  const auto port = [](const std::string& digits) -> int {
    if (digits.empty() || digits.size() > 5) return -1;
    int value = 0;
    for (const char c : digits) {
      if (c < '0' || c > '9') return -1;
      value = value * 10 + (c - '0');
    }
    return value == 0 || value > 65535 ? -1 : value;
  };
  const size_t last = rest.rfind(':');
  const std::string guest = last == std::string::npos ? rest : rest.substr(last + 1);
  std::string host = last == std::string::npos ? guest : rest.substr(0, last);
  if (const size_t colon = host.rfind(':'); colon != std::string::npos) {
    out.host_ip = host.substr(0, colon);
    host.erase(0, colon + 1);
    if (out.host_ip.size() >= 2 && out.host_ip.front() == '[' && out.host_ip.back() == ']') {
      out.host_ip = out.host_ip.substr(1, out.host_ip.size() - 2);
    }
    if (!net::IpAddr::Parse(out.host_ip)) return bad;
  }
  if (port(guest) < 0 || port(host) < 0) return bad;
  out.guest_port = static_cast<uint16_t>(port(guest));
  out.host_port = static_cast<uint16_t>(port(host));
  return out;
}

namespace {

// `out` has the Sentry's end of the link afterwards.
HostResult<void> Launch(NatOptions nat, const UserNetworkOptions& options, UserNetwork* out) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
    return HostError::Last("make a socket pair");
  }
  UniqueFd sentry(pair[0]);
  nat.link.reset(pair[1]);
  for (const int fd : pair) {
    // Beyond wmem_max for root; what is granted otherwise holds a few full frames.
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kLinkBuffer, sizeof(kLinkBuffer)) != 0) {
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kLinkBuffer, sizeof(kLinkBuffer));
    }
  }
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return HostError::Last("make an eventfd");
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return HostError::Last("open", "/dev/null");
  if (options.host_ports) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
      return HostError::Last("make a socket pair");
    }
    out->ports.reset(ends[0]);
    nat.ports.reset(ends[1]);
  }
  out->config = GuestConfig(std::move(sentry), std::move(wake), nat.names_only);
  const LinkConfig& link = out->config.links[0];
  HelperStart start{geteuid(), getegid(), !options.privileged, true, options.strict,
                    options.host_ports, null.get()};
  UniqueFd ready_read, ready_write;
  if (options.strict) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return HostError::Last("make a pipe");
    ready_read.reset(ends[0]);
    ready_write.reset(ends[1]);
    start.ready = ends[1];
  }
  out->helper = CloneProcess(options.privileged ? CLONE_NEWPID : CLONE_NEWUSER | CLONE_NEWPID);
  if (out->helper < 0) {
    start.own_user = start.own_pids = false;
    out->helper = CloneProcess(0);
  }
  if (out->helper < 0) return HostError::Last("start the network helper");
  if (out->helper == 0) {
    ::close(link.fd.get());  // the end of the Sentry is to be seen
    ::close(link.wake.get());
    out->ports.reset();
    RunHelper(std::move(nat), start);
  }
  if (options.strict) {
    ready_write.reset();
    char ready = 0;
    if (RetryEintr([&] { return ::read(ready_read.get(), &ready, 1); }) != 1) {
      return HostError::Message("--strict: the network helper lacks a layer of isolation; --debug "
                                "names it");
    }
  }
  return {};
}

}  // namespace

HostResult<UserNetwork> StartUserNetwork(const UserNetworkOptions& options) {
  UserNetwork out;
  NatOptions nat;
  const std::string resolv_conf = TRY(ReadResolvConf());
  out.resolv_conf = SplitResolvConf(resolv_conf, &nat.resolvers);
  nat.host_loopback = options.host_loopback;
  for (const PortMapping& port : options.ports) {
    NatPublished& p = nat.published.emplace_back();
    p.fd = TRY(BindPort(port));
    p.udp = port.udp;
    p.guest_port = port.guest_port;
  }
  if (options.privileged) {
    // Where they are refused, ping sockets serve.
    nat.ping4.reset(::socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP));
    nat.ping6.reset(::socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMPV6));
  }
  TRY(Launch(std::move(nat), options, &out));
  return out;
}

std::optional<std::string> RelayedResolvConf(const std::string& text, std::string* resolver) {
  std::vector<net::SockAddr> servers;
  // SplitResolvConf names the gateway of this process's kind of network.
  NatAddresses::UseForNames();
  std::string out = SplitResolvConf(text, &servers);
  if (text.find("nameserver") == std::string::npos || !servers[0].addr.is_v4() ||
      !servers[0].addr.IsLoopback()) {
    return std::nullopt;
  }
  *resolver = servers[0].addr.ToString();
  // Names that the resolver itself would have to ask for outside: it cannot, since the host's kernel
  // has no address in the container's namespace any more. The host's servers can, over the guest's
  // own stack.
  std::vector<net::SockAddr> outside;
  HostResult<std::string> host = ReadResolvConf();
  if (host.ok()) SplitResolvConf(*host, &outside);
  for (const net::SockAddr& server : outside) {
    if (!server.addr.IsLoopback()) out += "nameserver " + server.addr.ToString() + "\n";
  }
  return out;
}

HostResult<UserNetwork> StartNameRelay(const std::string& resolver,
                                       const UserNetworkOptions& options) {
  const std::optional<net::IpAddr> at = net::IpAddr::Parse(resolver);
  if (!at) return HostError::Message("\"" + resolver + "\" is no resolver's address");
  NatAddresses::UseForNames();
  UserNetwork out;
  NatOptions nat;
  nat.names_only = true;
  nat.resolvers.push_back({*at, 53, 0});
  TRY(Launch(std::move(nat), options, &out));
  return out;
}

void AwaitNetHelper(pid_t helper) {
  if (helper <= 0) return;
  constexpr int kMostMs = 2000;
  const UniqueFd handle(static_cast<int>(syscall(SYS_pidfd_open, helper, 0)));
  if (handle) {
    pollfd wait = {handle.get(), POLLIN, 0};
    if (RetryEintr([&] { return poll(&wait, 1, kMostMs); }) != 1) kill(helper, SIGKILL);
  }
  RetryEintr([&] { return waitpid(helper, nullptr, 0); });
}

}  // namespace ringwall
