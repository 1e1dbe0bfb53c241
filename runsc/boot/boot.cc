// Boot: makes the kernel and the container's tree, runs the first process, and answers the control
// channel meanwhile.
#include "runsc/boot/boot.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include <array>

#include "fs/host/host_file.h"
#include "fs/tmpfs/tmpfs.h"
#include "runsc/boot/control.h"
#include "runsc/boot/filesystems.h"
#include "runsc/boot/process.h"
#include "sentry/base/log.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "syscalls/table.h"

namespace ringwall {

namespace {

constexpr int kFailed = 128;

// The container as the control channel sees it.
class Handler final : public ControlHandler {
 public:
  Handler(Kernel& kernel, Ref<MountNamespace> mounts, ThreadGroup& init)
      : kernel_(kernel), mounts_(std::move(mounts)), init_(init) {}

  Result<void> Start(control::Response&) override {
    if (started_.exchange(true)) return Errno(EBUSY);
    kernel_.Start(*init_);
    return {};
  }
  Result<void> Exec(BootProcess, control::Response& reply) override {
    reply.set_text("exec is not there yet");
    return Errno(ENOSYS);
  }
  Result<void> Signal(const control::Request::Signal& request) override {
    return SignalProcess(kernel_, *init_, request);
  }
  Result<void> Wait(int32_t, control::Response& reply) override {
    reply.set_wait_status(kernel_.WaitForExit(*init_));
    return {};
  }
  Result<void> Ps(control::Response& reply) override {
    ListProcesses(kernel_, reply);
    return {};
  }
  Result<void> Pause() override { return Errno(ENOSYS); }
  Result<void> Resume() override { return Errno(ENOSYS); }
  Result<void> Stats(bool syscalls, control::Response& reply) override {
    CountUsage(kernel_, syscalls, reply);
    return {};
  }
  Result<void> Strace(const control::Request::Strace& request) override {
    kernel_.set_strace(request.on());
    return {};
  }
  Result<void> Stacks(control::Response&) override { return Errno(ENOSYS); }
  Result<void> State(control::Response& reply) override {
    reply.set_state(started_ ? control::Response::RUNNING : control::Response::CREATED);
    return {};
  }

 private:
  Kernel& kernel_;
  const Ref<MountNamespace> mounts_;
  const Ref<ThreadGroup> init_;
  std::atomic<bool> started_{false};
};

}  // namespace

namespace {

// The first time that malloc gives memory of a thread's heap back, it reads how the host overcommits.
void* ShrinkHeap(void*) {
  constexpr size_t kSize = 96 << 10;  // below malloc's threshold for mmap
  std::array<void*, 4> pieces;
  for (void*& piece : pieces) piece = malloc(kSize);
  for (void* piece : pieces) free(piece);
  return nullptr;
}

// libc sets up signals for its own use when the first thread starts, by calls that the filter refuses
// later.
HostResult<void> PrepareThreads() {
  pthread_t thread;
  const int error = pthread_create(&thread, nullptr, ShrinkHeap, nullptr);
  if (error != 0) return HostError::WithErrno(error, "start a thread");
  pthread_join(thread, nullptr);
  return {};
}

}  // namespace

HostResult<void> PrepareBoot(BootArgs& args) {
  PlatformOptions options;
  options.name = args.platform_name;
  args.platform = TRY(CreatePlatform(options));
  sched_getaffinity(0, sizeof(args.cpus), &args.cpus);
  // --cpus N: the first N of them.
  int left = args.cpu_count != 0 ? static_cast<int>(args.cpu_count) : CPU_SETSIZE;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &args.cpus) && left-- <= 0) CPU_CLR(cpu, &args.cpus);
  }
  TRY(PrepareThreads());
  // More arenas than the main one would have libc read files: to count the CPUs, and to see whether
  // memory given back may be wanted again.
  mallopt(M_ARENA_MAX, 1);
  struct sysinfo host;
  if (sysinfo(&host) != 0) return HostError::Last("ask for the host's memory");
  const uint64_t memory = host.totalram * host.mem_unit;
  if (args.memory_limit == 0 || args.memory_limit > memory) args.memory_limit = memory;
  return PrepareHostFiles();
}

int Boot(BootArgs&& args) {
  StatusPipe status(args.status_pipe.get());
  KernelOptions options;
  options.platform = std::move(args.platform);
  options.syscalls = &SyscallsX8664();
  options.memory_limit = args.memory_limit;
  options.cpus = args.cpus;
  options.strace = args.strace;
  options.strace_syscalls = args.strace_syscalls;
  // `do` runs its program beside the container's init, as it would run outside.
  const bool is_do = args.container_id.starts_with("do-");
  Kernel& kernel = *new Kernel(std::move(options));  // lives as long as its threads: to the end
  kernel.SetFirstPid(is_do ? 2 : 1);

  TmpfsFileSystem::SetMemory(args.memory_limit);
  RegisterDrivers();
  HostResult<Ref<MountNamespace>> mounts = MountAll(kernel, args);
  if (!mounts.ok()) {
    status.Fail(kFailed, mounts.error().message().c_str());
    return kFailed;
  }
  int exit_code = 127;
  UtsName uts;
  if (!args.hostname.empty()) uts.hostname = args.hostname;
  if (!args.domainname.empty()) uts.domainname = args.domainname;
  HostResult<Ref<ThreadGroup>> init =
      MakeProcess(kernel, **mounts, args.process, uts, &exit_code);
  if (!init.ok()) {
    status.Fail(exit_code, init.error().message().c_str());
    return exit_code;
  }
  Handler& handler = *new Handler(kernel, *mounts, **init);
  ControlServer::Start(std::move(args.control_listen), std::move(args.control_connection), handler);
  status.Ready();
  if (args.start_now) {
    control::Response unused;
    Result<void> started = handler.Start(unused);
    if (started.ok()) status.Started();
  }
  const int wait_status = kernel.WaitForExit(**init);
  kernel.KillAll();
  kernel.WaitForAll();
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

}  // namespace ringwall
