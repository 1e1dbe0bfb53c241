// Boot: makes the kernel and the container's tree, runs the first process, and answers the control
// channel meanwhile.
#include "runsc/boot/boot.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <thread>

#include "fs/host/host_file.h"
#include "fs/socket/net_namespace.h"
#include "fs/tmpfs/tmpfs.h"
#include "runsc/boot/child_watch.h"
#include "runsc/boot/container_handler.h"
#include "runsc/boot/control.h"
#include "runsc/boot/filesystems.h"
#include "runsc/boot/guest_container.h"
#include "runsc/boot/joined.h"
#include "runsc/boot/port_client.h"
#include "runsc/net/attach.h"
#include "sentry/base/file_memory.h"
#include "sentry/base/log.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/oom.h"
#include "sentry/kernel/task.h"
#include "syscalls/table.h"

namespace ringwall {

namespace {

constexpr int kFailed = 128;

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

// At most cpu_count of the processors that this process may use, and then no others: a program is
// told by the host's rseq where it runs, and that must be one that it is shown. Sandboxes begin at
// different ones.
void ChooseCpus(BootArgs& args) {
  sched_getaffinity(0, sizeof(args.cpus), &args.cpus);
  const int all = CPU_COUNT(&args.cpus);
  const int wanted = static_cast<int>(args.cpu_count);
  if (wanted == 0 || wanted >= all) return;
  uint32_t random = 0;
  (void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
  const int first = static_cast<int>(random % static_cast<uint32_t>(all));
  for (int cpu = 0, n = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &args.cpus)) continue;
    const int after_first = (n++ - first + all) % all;
    if (after_first >= wanted) CPU_CLR(cpu, &args.cpus);
  }
  sched_setaffinity(0, sizeof(args.cpus), &args.cpus);
}

// Waits for the end of the container's first process and then ends the sandbox.
[[noreturn]] void EndWithInit(Kernel& kernel, ContainerHandler& handler, JoinedContainers& joined) {
  const int wait_status = kernel.WaitForExit(handler.init());
  handler.Close();
  kernel.Resume(*kernel.tasks().first);  // a paused task could not end
  joined.EndAll();
  kernel.KillAll();
  kernel.WaitForAll();
  ControlServer::Drain();
  _exit(WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
}

}  // namespace

HostResult<void> PrepareBoot(BootArgs& args) {
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) args.idle_descriptors = files.rlim_cur / 8;
  ChooseCpus(args);
  // More arenas than the main one would have libc read files: to count the CPUs, and to see whether
  // memory given back may be wanted again. Ahead of the first thread: one that allocates leaves its arena
  // to a later one, and those grow by an mprotect for each page.
  mallopt(M_ARENA_MAX, 1);
  PlatformOptions options;
  options.name = args.platform_name;
  args.platform = TRY(CreatePlatform(options));
  TRY(PrepareThreads());
  struct sysinfo host;
  if (sysinfo(&host) != 0) return HostError::Last("ask for the host's memory");
  const uint64_t memory = host.totalram * host.mem_unit;
  // With a limit of its own the container may have all of that as files; the host's memory is also
  // others'.
  const bool limited = args.memory_limit != 0 && args.memory_limit <= memory;
  if (!limited) args.memory_limit = memory;
  if (args.file_memory == 0) args.file_memory = limited ? args.memory_limit : memory / 2;
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
  Kernel& kernel = *new Kernel(std::move(options));  // lives as long as its threads: to the end
  ListenForLostStubs(kernel, status);

  TmpfsFileSystem::SetMemory(args.memory_limit);
  FileMemory::SetLimit(args.file_memory);
  FileMemory::SetWatcher(new FileMemoryWatch(kernel));
  RegisterDrivers();
  RegisterFileSystems(kernel);
  Ref<NetNamespace> net = NetNamespace::Create(kernel, true);
  kernel.set_initial_net(net);
  if (HostResult<void> attached = AttachNetwork(net->stack(), std::move(args.network.config));
      !attached.ok()) {
    status.Fail(kFailed, attached.error().message().c_str());
    return kFailed;
  }
  if (args.network.ports) SetPortWatch(*net, *new PortClient(std::move(args.network.ports)));
  int exit_code = 0;
  GuestContainer container = NewContainer(kernel, true).TakeValue();
  HostResult<Ref<ThreadGroup>> init = FillContainer(kernel, container, args, &exit_code);
  if (!init.ok()) {
    status.Fail(exit_code, init.error().message().c_str());
    return exit_code;
  }
  JoinedContainers& joined = *new JoinedContainers(kernel, args);
  // Both live as long as the threads that use them: to the end.
  ContainerHandler& handler = *new ContainerHandler(kernel, std::move(container), **init,
                                                    std::move(args.sysctls), &joined);
  const std::shared_ptr<ControlHandler> unowned(std::shared_ptr<void>(), &handler);
  ControlServer::Start(std::move(args.control_listen), std::move(args.control_connection), unowned);
  if (args.terminal_connection) {
    ControlServer::AddConnection(std::move(args.terminal_connection), unowned);
  }
  status.Ready();
  if (args.start_now) {
    control::Response unused;
    Result<void> started = handler.Start({}, "", unused);
    if (started.ok()) status.Started();
  }
  // The main thread is the parent of every stub.
  std::thread(EndWithInit, std::ref(kernel), std::ref(handler), std::ref(joined)).detach();
  WatchChildren(kernel, status);
}

}  // namespace ringwall
