#include "runsc/container/spec_namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include <algorithm>

#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

struct Kind {
  const char* type;
  int flag;
};
constexpr Kind kKinds[] = {
    {"pid", CLONE_NEWPID},   {"network", CLONE_NEWNET},   {"mount", CLONE_NEWNS},
    {"ipc", CLONE_NEWIPC},   {"uts", CLONE_NEWUTS},       {"user", CLONE_NEWUSER},
    {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME},
};

// ENOTTY and friends: a file of another kind.
HostResult<UniqueFd> OpenNamespace(const oci::Namespace& ns, const std::string& field) {
  UniqueFd fd(::open(ns.path().c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return HostError::Last("config.json: " + field + ".path: open", ns.path());
  const auto* kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                  [&](const Kind& k) { return ns.type() == k.type; });
  if (kind == std::end(kKinds) || ioctl(fd.get(), NS_GET_NSTYPE) != kind->flag) {
    return HostError::Message("config.json: " + field + ".path: " + ns.path() + " is not a " +
                              ns.type() + " namespace");
  }
  return fd;
}

// The names that `fd`'s uts namespace has; the caller's own where it may not be entered.
void TakeNames(int fd, BootArgs* boot) {
  UniqueFd own(::open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC));
  const bool inside = fd >= 0 && own.valid() && setns(fd, CLONE_NEWUTS) == 0;
  utsname names = {};
  const bool known = uname(&names) == 0;
  if (inside) setns(own.get(), CLONE_NEWUTS);
  if (!known) return;
  if (boot->hostname.empty()) boot->hostname = names.nodename;
  const std::string domain = names.domainname;
  if (boot->domainname.empty() && domain != "(none)") boot->domainname = domain;
}

}  // namespace

HostResult<void> ApplyNamespaces(const oci::Spec& spec, BootArgs* boot,
                                 std::vector<std::string>* warnings) {
  bool has_uts = false;
  for (int i = 0; i < spec.linux().namespaces_size(); i++) {
    const oci::Namespace& ns = spec.linux().namespaces(i);
    const std::string field = "linux.namespaces[" + std::to_string(i) + "]";
    has_uts |= ns.type() == "uts";
    if (ns.path().empty()) continue;
    UniqueFd fd = TRY(OpenNamespace(ns, field));
    if (ns.type() == "network") continue;
    if (ns.type() == "uts") {
      TakeNames(fd.get(), boot);
      continue;
    }
    warnings->push_back("config.json: " + field + ".path has no effect: the container has a kernel, "
                        "and so a " + ns.type() + " namespace, of its own");
  }
  if (!has_uts) TakeNames(-1, boot);
  for (const char* type : {"pid", "ipc", "mount"}) {
    const auto& all = spec.linux().namespaces();
    if (std::none_of(all.begin(), all.end(), [&](const auto& ns) { return ns.type() == type; })) {
      warnings->push_back(std::string("config.json: linux.namespaces has no ") + type +
                          " namespace, which asks for the host's; the container has its own");
    }
  }
  return {};
}

}  // namespace ringwall
