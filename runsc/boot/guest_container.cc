#include "runsc/boot/guest_container.h"

#include <signal.h>

#include "runsc/boot/filesystems.h"
#include "runsc/boot/process.h"
#include "runsc/boot/sysctl.h"

namespace ringwall {

namespace {
constexpr int kRefused = 125;  // something in config.json that cannot be
}

Result<GuestContainer> NewContainer(Kernel& kernel, bool first) {
  GuestContainer c;
  const Ref<UserNamespace> owner(UserNamespace::Initial());
  if (first) {
    c.pid_ns = kernel.tasks().first;
    c.uts = MakeRef<UtsNamespace>();
    c.ipc = kernel.FirstNamespace(NamespaceKind::kIpc);
    c.cgroup = kernel.FirstNamespace(NamespaceKind::kCgroup);
    return c;
  }
  TRY(owner->Charge(NamespaceKind::kPid));
  c.pid_ns = MakeRef<PidNamespace>(RefPtr<PidNamespace>(kernel.tasks().apart), owner);
  TRY(owner->Charge(NamespaceKind::kUts));
  c.uts = MakeRef<UtsNamespace>(owner, false);
  c.ipc = TRY(kernel.NewNamespace(NamespaceKind::kIpc, owner));
  c.cgroup = TRY(kernel.NewNamespace(NamespaceKind::kCgroup, owner));
  return c;
}

HostResult<Ref<ThreadGroup>> FillContainer(Kernel& kernel, GuestContainer& container, BootArgs& args,
                                           int* exit_code) {
  *exit_code = kRefused;
  const bool first = container.pid_ns.get() == kernel.tasks().first.get();
  container.mounts = TRY(MountAll(kernel, container, args));
  if (!first) {
    // What is made out of nothing has the number of the sandbox's first.
    Result<Ref<MountNamespace>> own = container.mounts->Clone(Ref<UserNamespace>(UserNamespace::Initial()));
    if (!own.ok()) return HostError::WithErrno(own.error().value(), "make the container's mount namespace");
    container.mounts = *own;
  }
  container.uts->name.With([&](UtsName& n) {
    if (!args.hostname.empty()) n.hostname = args.hostname;
    if (!args.domainname.empty()) n.domainname = args.domainname;
  });
  if (args.beside_init) MakeBareInit(kernel, container, args.process);
  Ref<ThreadGroup> init =
      TRY(MakeProcess(kernel, container, args.process, Origin::kFirst, exit_code));
  *exit_code = kRefused;
  HostResult<void> set = SetSysctls(kernel, *init, &args.sysctls);
  if (set.ok()) return init;
  if (!first) {  // the sandbox goes on without it
    static_cast<void>(kernel.SendSignal(init->tgid(), SIGKILL).ok());
    kernel.Start(*init);
  }
  return set.error();
}

}  // namespace ringwall
