#include "runsc/boot/container_handler.h"

#include "fs/socket/net_namespace.h"
#include "runsc/boot/furnish.h"
#include "runsc/boot/joined.h"
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
    Result<void> shown = ShowResolvConf(*container_.mounts, resolv_conf);
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
      MakeProcess(kernel_, container_, process, Origin::kExec, &exit_code);
  if (!made.ok()) {
    const int error = made.error().error();
    reply.set_text(made.error().message());
    reply.set_exit_code(exit_code);
    return Errno(error != 0 ? error : EINVAL);
  }
  const int32_t pid = (*made)->pid->In(*container_.pid_ns);
  reply.set_pid(pid);
  if (made_.size() >= kMadeMax) ForgetOne(kernel_, made_);
  made_.insert_or_assign(pid, *made);
  kernel_.Start(**made);
  return {};
}

Result<void> ContainerHandler::Signal(const control::Request::Signal& request) {
  TRY(SignalProcess(kernel_, *container_.pid_ns, *init_, request));
  // Killed before its start it ends all the same, and no code of it runs.
  const bool kills = request.signal() == SIGKILL && request.pid() == 0 && request.pgid() == 0;
  if (kills && !started_.exchange(true)) kernel_.Start(*init_);
  return {};
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
    tg = RefPtr<ThreadGroup>(container_.pid_ns->FindThreadGroup(pid));
  }
  if (!tg) return Errno(ESRCH);
  reply.set_wait_status(kernel_.WaitForExit(*tg));
  MutexLock lock(making_);
  const auto it = made_.find(pid);
  if (it != made_.end() && it->second.get() == tg.get()) made_.erase(it);
  return {};
}

Result<void> ContainerHandler::Ps(control::Response& reply) {
  ListProcesses(kernel_, *container_.pid_ns, reply);
  return {};
}

Result<void> ContainerHandler::Pause() {
  kernel_.Pause(*container_.pid_ns);
  return {};
}

Result<void> ContainerHandler::Resume() {
  kernel_.Resume(*container_.pid_ns);
  return {};
}

Result<void> ContainerHandler::Stats(bool syscalls, control::Response& reply) {
  CountUsage(kernel_, *container_.pid_ns, syscalls, reply);
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
  reply.set_report(DescribeTasks(kernel_, *container_.pid_ns));
  return {};
}

Result<void> ContainerHandler::State(control::Response& reply) {
  reply.set_state(!started_           ? control::Response::CREATED
                  : container_.pid_ns->paused.load() ? control::Response::PAUSED
                                     : control::Response::RUNNING);
  return {};
}

Result<void> ContainerHandler::Join(BootArgs args, control::Response& reply) {
  if (joined_ == nullptr) return Errno(EINVAL);
  return joined_->Join(std::move(args), reply);
}

void ContainerHandler::Close() {
  MutexLock lock(making_);
  closed_ = true;
}

void ContainerHandler::End() {
  Close();
  kernel_.Resume(*container_.pid_ns);  // a paused task could not end
  {
    MutexLock lock(kernel_.tasks().mu);
    if (!init_->zombie) static_cast<void>(SendSignalToGroup(*init_, MakeSigInfo(SIGKILL, kFromOutside)).ok());
  }
  if (!started_.exchange(true)) kernel_.Start(*init_);
}

}  // namespace ringwall
