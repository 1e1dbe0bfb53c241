#include "runsc/boot/container_handler.h"

#include "fs/socket/net_namespace.h"
#include "runsc/boot/furnish.h"
#include "runsc/boot/process.h"
#include "runsc/boot/sysctl.h"
#include "runsc/net/attach.h"
#include "sentry/base/log.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

// Ends that nobody asks for are forgotten beyond this.
constexpr size_t kMadeMax = 4096;

// What to forget: the oldest that has ended.
template <typename Map>
void ForgetOne(Kernel& kernel, Map& made) {
  MutexLock lock(kernel.tasks().mu);
  for (auto it = made.begin(); it != made.end(); ++it) {
    if (!it->second->zombie) continue;
    made.erase(it);
    return;
  }
}

}  // namespace

Result<void> ContainerHandler::Start(NetworkConfig network, const std::string& resolv_conf,
                                     control::Response& reply) {
  if (started_.exchange(true)) return Errno(EBUSY);
  if (!network.links.empty() || !network.routes.empty()) {
    NetNamespace& net = static_cast<NetNamespace&>(*kernel_.initial_net());
    HostResult<void> attached = AttachNetwork(net.stack(), std::move(network));
    if (!attached.ok()) {
      reply.set_text(attached.error().message());
      return Errno(attached.error().error());
    }
  }
  if (!resolv_conf.empty()) {
    Result<void> shown = ShowResolvConf(*mounts_, resolv_conf);
    if (!shown.ok()) RW_LOG(kWarning, "network: /etc/resolv.conf: errno %d", shown.error().value());
  }
  if (HostResult<void> set = SetSysctls(kernel_, *init_, &sysctls_); !set.ok()) {
    reply.set_text(set.error().message());
    return Errno(set.error().error() != 0 ? set.error().error() : EINVAL);
  }
  WarnOfSysctls(sysctls_);
  kernel_.Start(*init_);
  return {};
}

Result<void> ContainerHandler::Exec(BootProcess process, control::Response& reply) {
  MutexLock lock(making_);
  if (closed_) {
    reply.set_text("the container has ended");
    return Errno(ESRCH);
  }
  int exit_code = 0;
  HostResult<Ref<ThreadGroup>> made =
      MakeProcess(kernel_, *mounts_, process, Ref<UtsNamespace>(uts_), Origin::kExec, &exit_code);
  if (!made.ok()) {
    const int error = made.error().error();
    reply.set_text(made.error().message());
    reply.set_exit_code(exit_code);
    return Errno(error != 0 ? error : EINVAL);
  }
  const int32_t pid = (*made)->tgid_;
  reply.set_pid(pid);
  if (made_.size() >= kMadeMax) ForgetOne(kernel_, made_);
  made_.insert_or_assign(pid, *made);
  kernel_.Start(**made);
  return {};
}

Result<void> ContainerHandler::Signal(const control::Request::Signal& request) {
  return SignalProcess(kernel_, *init_, request);
}

Result<void> ContainerHandler::Wait(int32_t pid, control::Response& reply) {
  RefPtr<ThreadGroup> tg;
  if (pid == 0) tg = init_;
  if (!tg) {
    MutexLock lock(making_);
    const auto it = made_.find(pid);
    if (it != made_.end()) tg = it->second;
  }
  if (!tg) {
    MutexLock lock(kernel_.tasks().mu);
    tg = RefPtr<ThreadGroup>(kernel_.tasks().FindThreadGroup(pid));
  }
  if (!tg) return Errno(ESRCH);
  reply.set_wait_status(kernel_.WaitForExit(*tg));
  MutexLock lock(making_);
  const auto it = made_.find(pid);
  if (it != made_.end() && it->second.get() == tg.get()) made_.erase(it);
  return {};
}

Result<void> ContainerHandler::Ps(control::Response& reply) {
  ListProcesses(kernel_, reply);
  return {};
}

Result<void> ContainerHandler::Pause() {
  kernel_.Pause();
  return {};
}

Result<void> ContainerHandler::Resume() {
  kernel_.Resume();
  return {};
}

Result<void> ContainerHandler::Stats(bool syscalls, control::Response& reply) {
  CountUsage(kernel_, syscalls, reply);
  return {};
}

Result<void> ContainerHandler::Strace(const control::Request::Strace& request) {
  kernel_.SetStrace(request.on(), {request.syscalls().begin(), request.syscalls().end()});
  return {};
}

Result<void> ContainerHandler::SetLogLevel(int level) {
  if (level < 0 || level > static_cast<int>(LogLevel::kDebug)) return Errno(EINVAL);
  log_level_internal.store(level);
  return {};
}

Result<void> ContainerHandler::Stacks(control::Response& reply) {
  reply.set_report(DescribeTasks(kernel_));
  return {};
}

Result<void> ContainerHandler::State(control::Response& reply) {
  reply.set_state(!started_           ? control::Response::CREATED
                  : kernel_.paused() ? control::Response::PAUSED
                                     : control::Response::RUNNING);
  return {};
}

void ContainerHandler::Close() {
  MutexLock lock(making_);
  closed_ = true;
}

}  // namespace ringwall
