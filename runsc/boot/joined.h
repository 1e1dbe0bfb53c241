// Containers that join the sandbox: they have a network namespace in common with the first one, and
// everything else of their own. Each has a gofer and, on the host, a stand-in
// (runsc/sandbox/stand_in.h): a process that ends when the container does, and with which it ends.
#ifndef RINGWALL_RUNSC_BOOT_JOINED_H_
#define RINGWALL_RUNSC_BOOT_JOINED_H_

#include <memory>
#include <vector>

#include "runsc/boot/boot.h"
#include "runsc/boot/container_handler.h"
#include "sentry/base/mutex.h"

namespace ringwall {

class JoinedContainers {
 public:
  // `first`: the sandbox's own; of that, what bounds hold for all.
  JoinedContainers(Kernel& kernel, const BootArgs& first);

  // Makes the container; it starts when Start comes over its own listening socket. On failure
  // reply.exit_code says what the CLI is to end with. ESRCH when the sandbox is about to end.
  // Blocks for its gofer; one at a time.
  Result<void> Join(BootArgs args, control::Response& reply);
  // Kills all of them and lets nobody in from here on. Their ends are not waited for.
  void EndAll();

 private:
  struct Entry {
    std::string id;
    std::shared_ptr<ContainerHandler> handler;
  };
  // When the stand-in has gone.
  void Gone(ContainerHandler& handler);

  Kernel& kernel_;
  const uint64_t memory_limit_;
  const size_t idle_descriptors_;
  const int64_t max_names_;
  Mutex<LockClass::kContainer> mu_;  // held around a Join whole
  bool closed_ GUARDED_BY(mu_) = false;
  std::vector<Entry> entries_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_JOINED_H_
