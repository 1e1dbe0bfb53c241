#include "runsc/boot/joined.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>

#include "runsc/boot/guest_container.h"
#include "sentry/base/log.h"
#include "sentry/kernel/task.h"

namespace ringwall {

JoinedContainers::JoinedContainers(Kernel& kernel, const BootArgs& first)
    : kernel_(kernel),
      memory_limit_(first.memory_limit),
      idle_descriptors_(first.idle_descriptors),
      max_names_(first.max_names) {}

Result<void> JoinedContainers::Join(BootArgs args, control::Response& reply) {
  MutexLock lock(mu_);
  if (closed_) {
    reply.set_text("the sandbox has ended");
    return Errno(ESRCH);
  }
  args.memory_limit = memory_limit_;
  args.idle_descriptors = idle_descriptors_;
  args.max_names = max_names_;
  // One copy to serve requests by, one to hear of its end.
  UniqueFd life(fcntl(args.control_connection.get(), F_DUPFD_CLOEXEC, 0));
  if (!life) return Errno(errno);
  GuestContainer container = TRY(NewContainer(kernel_, false));
  int exit_code = 0;
  HostResult<Ref<ThreadGroup>> init = FillContainer(kernel_, container, args, &exit_code);
  if (!init.ok()) {
    reply.set_text(init.error().message());
    reply.set_exit_code(exit_code);
    return Errno(init.error().error() != 0 ? init.error().error() : EINVAL);
  }
  RW_LOG(kInfo, "container %s has joined the sandbox", args.container_id.c_str());
  auto handler = std::make_shared<ContainerHandler>(kernel_, std::move(container), **init,
                                                    std::move(args.sysctls), nullptr);
  entries_.push_back({args.container_id, handler});
  ControlServer::AddConnection(std::move(args.control_connection), handler);
  if (args.terminal_connection) {
    ControlServer::AddConnection(std::move(args.terminal_connection), handler);
  }
  ControlServer::ServeUntil(std::move(args.control_listen), std::move(life), handler,
                            [this, handler] { Gone(*handler); });
  return {};
}

void JoinedContainers::Gone(ContainerHandler& handler) {
  handler.End();
  kernel_.WaitForExit(handler.init());
  MutexLock lock(mu_);
  std::erase_if(entries_, [&](const Entry& e) { return e.handler.get() == &handler; });
}

void JoinedContainers::EndAll() {
  std::vector<Entry> all;
  {
    MutexLock lock(mu_);
    closed_ = true;
    all = entries_;
  }
  for (const Entry& e : all) {
    RW_LOG(kWarning, "container %s ends by SIGKILL with the one whose network it has joined", e.id.c_str());
    e.handler->End();
  }
}

}  // namespace ringwall
