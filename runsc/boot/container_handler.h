// ContainerHandler: what the control channel's requests do to the running container.
#ifndef RINGWALL_RUNSC_BOOT_CONTAINER_HANDLER_H_
#define RINGWALL_RUNSC_BOOT_CONTAINER_HANDLER_H_

#include <atomic>
#include <map>

#include "fs/vfs/mount.h"
#include "runsc/boot/control.h"
#include "runsc/boot/guest_container.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/kernel/kernel.h"

namespace ringwall {

class JoinedContainers;

// Thread-safe: each connection has its own thread.
class ContainerHandler final : public ControlHandler {
 public:
  // `sysctls`: those that may come to be with the network's interfaces. `joined`: who takes further
  // containers in; null for one of those.
  ContainerHandler(Kernel& kernel, GuestContainer container, ThreadGroup& init,
                   std::vector<BootSysctl> sysctls, JoinedContainers* joined)
      : kernel_(kernel), container_(std::move(container)), init_(init),
        sysctls_(std::move(sysctls)), joined_(joined) {}

  Result<void> Start(NetworkConfig network, const std::string& resolv_conf,
                     control::Response& reply) override;
  Result<void> Exec(BootProcess process, control::Response& reply) override;
  Result<void> Signal(const control::Request::Signal& request) override;
  Result<void> Wait(int32_t pid, control::Response& reply) override;
  Result<void> Ps(control::Response& reply) override;
  Result<void> Pause() override;
  Result<void> Resume() override;
  Result<void> Stats(bool syscalls, control::Response& reply) override;
  Result<void> Strace(const control::Request::Strace& request) override;
  Result<void> SetLogLevel(int level) override;
  Result<void> Stacks(control::Response& reply) override;
  Result<void> State(control::Response& reply) override;
  Result<void> Join(BootArgs args, control::Response& reply) override;

  // The container ends: no process is made from here on.
  void Close();
  // Likewise; all of it is killed, also what was never started. Nobody is waited for.
  void End();
  ThreadGroup& init() const { return *init_; }

 private:
  Kernel& kernel_;
  const GuestContainer container_;
  const Ref<ThreadGroup> init_;
  std::vector<BootSysctl> sysctls_;  // of the one Start that goes on
  JoinedContainers* const joined_;
  std::atomic<bool> started_{false};
  // Making a process and closing exclude each other; held around both whole, so outermost.
  Mutex<LockClass::kContainer> making_;
  bool closed_ GUARDED_BY(making_) = false;
  // What `exec` made, by pid, until someone has asked for its end.
  std::map<int32_t, Ref<ThreadGroup>> made_ GUARDED_BY(making_);
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_CONTAINER_HANDLER_H_
