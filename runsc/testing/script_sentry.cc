#include "runsc/testing/script_sentry.h"

#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <mutex>

#include "fs/socket/net_namespace.h"
#include "fs/tmpfs/tmpfs.h"
#include "fs/vfs/io.h"
#include "fs/vfs/vfs.h"
#include "platform/xstate.h"
#include "runsc/boot/filesystems.h"
#include "sentry/base/check.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/testing/fake_address_space.h"
#include "syscalls/table.h"

namespace ringwall::testing {

namespace {

constexpr uint64_t kMemoryLimit = 64 << 20;
constexpr int kAwake = SIGUSR2;  // what ends sleeps
constexpr uint64_t kHandler = kScriptMemory + 64;  // never run: a Context that has no guest code

// Sets the handler of kAwake, then runs the script.
class ScriptContext final : public Context {
 public:
  ScriptContext(AddressSpace& as, std::unique_ptr<Script> script, bool first)
      : as_(as), script_(std::move(script)), start_(first) {}

  Event Switch() override {
    if (interrupt_.exchange(false)) return {.kind = EventKind::kInterrupted};
    sleeps_ = 0;
    const int64_t last = static_cast<int64_t>(regs_.rax);
    ScriptCall call{.nr = SYS_exit_group};
    if (start_) {
      start_ = false;
      const uint64_t action[4] = {kHandler, kRestorer | SA_NODEFER, kHandler, 0};
      RW_CHECK(as_.Write(GuestAddr(kScriptMemory), std::as_bytes(std::span(action))).ok());
      call = {SYS_rt_sigaction, {kAwake, kScriptMemory, 0, 8}};
    } else if (script_ != nullptr) {
      call = script_->Next(as_, last).value_or(call);
    }
    regs_.orig_rax = call.nr;
    regs_.rax = static_cast<uint64_t>(-ENOSYS);
    regs_.rdi = call.args[0], regs_.rsi = call.args[1], regs_.rdx = call.args[2];
    regs_.r10 = call.args[3], regs_.r8 = call.args[4], regs_.r9 = call.args[5];
    regs_.rsp = kScriptStack, regs_.rip = kHandler;
    return {.kind = EventKind::kSyscall};
  }
  abi::Registers& regs() override { return regs_; }
  void RegsChanged() override {}
  size_t xstate_size() const override { return XStateSize(); }
  Result<void> GetXState(std::span<std::byte> out) override {
    InitXState(out);
    return {};
  }
  Result<void> SetXState(std::span<const std::byte> in) override { return CheckXState(in); }
  bool ReadWindow(GuestAddr, std::span<std::byte>) override { return false; }
  bool WriteWindow(GuestAddr, std::span<const std::byte>) override { return false; }
  void Interrupt() override { interrupt_.store(true); }
  void BeforeSleep() override {
    Task* const task = Task::Current();
    if (task == nullptr || &task->context() != this) return;
    // A stop, or a wait that no signal ends: it must not be for ever.
    const bool stuck = ++sleeps_ > kMostSleeps;
    static_cast<void>(task->SendSignal(MakeSigInfo(stuck ? SIGKILL : kAwake, SI_KERNEL), stuck).ok());
  }
  void SetLocalAnswers(const LocalAnswers&) override {}
  uint64_t signal_mask() const override { return mask_.load(); }
  void set_signal_mask(uint64_t mask) override { mask_.store(mask & ~(uint64_t{1} << (kAwake - 1))); }
  void CpuTime(uint64_t* user_ns, uint64_t* system_ns) override { *user_ns = *system_ns = 0; }
  pid_t host_tid() const override { return gettid(); }

  std::unique_ptr<Script> ScriptOfChild() { return script_ ? script_->OfChild() : nullptr; }

 private:
  static constexpr uint64_t kRestorer = 0x04000000;  // SA_RESTORER
  static constexpr int kMostSleeps = 100;            // within one call
  AddressSpace& as_;
  std::unique_ptr<Script> script_;
  bool start_;
  int sleeps_ = 0;
  abi::Registers regs_{};
  std::atomic<uint64_t> mask_{0};
  std::atomic<bool> interrupt_{false};
};

class ScriptPlatform final : public Platform {
 public:
  std::string_view name() const override { return "script"; }
  Result<Ref<AddressSpace>> NewAddressSpace() override { return memories_.NewAddressSpace(); }
  Result<std::unique_ptr<Context>> NewContext(AddressSpace& as, Context* parent) override {
    std::unique_ptr<Script> script =
        parent != nullptr ? static_cast<ScriptContext*>(parent)->ScriptOfChild() : std::move(first);
    auto made = std::make_unique<ScriptContext>(as, std::move(script), parent == nullptr);
    return std::unique_ptr<Context>(std::move(made));
  }
  PlatformStats Stats() const override { return {}; }

  std::unique_ptr<Script> first;  // of the next process

 private:
  FakePlatform memories_;
};

Ref<MountNamespace> Tree(Kernel& kernel) {
  BootArgs args;
  args.memory_limit = kMemoryLimit;
  const char* const mounts[][3] = {{"tmpfs", "/", "size=8m"},     {"proc", "/proc", ""},
                                   {"sysfs", "/sys", ""},         {"devtmpfs", "/dev", ""},
                                   {"devpts", "/dev/pts", ""},    {"tmpfs", "/tmp", "size=8m"},
                                   {"mqueue", "/dev/mqueue", ""}};
  for (const auto& [type, at, data] : mounts) {
    args.mounts.push_back({.type = type, .source = type, .destination = at, .data = data});
  }
  Result<GuestContainer> container = NewContainer(kernel, true);
  RW_CHECK(container.ok());
  HostResult<Ref<MountNamespace>> made = MountAll(kernel, *container, args);
  RW_CHECK(made.ok());
  return std::move(*made);
}

// The smallest program: its header, and memory behind it.
void WriteProgram(const Walk& walk) {
  struct {
    Elf64_Ehdr header;
    Elf64_Phdr load, stack;
  } program{};
  std::memcpy(program.header.e_ident, ELFMAG, SELFMAG);
  program.header.e_ident[EI_CLASS] = ELFCLASS64;
  program.header.e_ident[EI_DATA] = ELFDATA2LSB;
  program.header.e_ident[EI_VERSION] = EV_CURRENT;
  program.header.e_type = ET_EXEC;
  program.header.e_machine = EM_X86_64;
  program.header.e_version = EV_CURRENT;
  program.header.e_entry = kHandler;
  program.header.e_phoff = sizeof(Elf64_Ehdr);
  program.header.e_ehsize = sizeof(Elf64_Ehdr);
  program.header.e_phentsize = sizeof(Elf64_Phdr);
  program.header.e_phnum = 2;
  program.load = {.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X, .p_offset = 0, .p_vaddr = kScriptMemory,
                  .p_paddr = 0, .p_filesz = sizeof(program), .p_memsz = kScriptMemorySize, .p_align = 4096};
  program.stack = {.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W, .p_offset = 0, .p_vaddr = 0,
                   .p_paddr = 0, .p_filesz = 0, .p_memsz = 0, .p_align = 16};
  Result<Ref<File>> file = Vfs::Open(walk, "/script", O_CREAT | O_WRONLY, 0755, nullptr);
  RW_CHECK(file.ok());
  SpanSrc bytes(std::as_bytes(std::span(&program, 1)));
  uint64_t position = 0;
  Result<size_t> written = (*file)->Write(bytes, &position, 0);
  RW_CHECK(written.ok() && *written == sizeof(program));
}

struct World {
  ScriptPlatform* platform = nullptr;
  Kernel* kernel = nullptr;
  RefPtr<MountNamespace> tree;
};

// Never destroyed, as in the Sentry.
World& TheWorld() {
  static World* const world = [] {
    auto platform = std::make_unique<ScriptPlatform>();
    World* const w = new World{.platform = platform.get()};
    KernelOptions options;
    options.platform = std::move(platform);
    options.syscalls = &SyscallsX8664();
    options.memory_limit = kMemoryLimit;
    sched_getaffinity(0, sizeof(options.cpus), &options.cpus);
    w->kernel = new Kernel(std::move(options));
    w->kernel->tasks().max_tasks = 64;
    TmpfsFileSystem::SetMemory(kMemoryLimit);
    RegisterDrivers();
    RegisterFileSystems(*w->kernel);
    w->kernel->set_initial_net(NetNamespace::Create(*w->kernel, true));
    Result<void> made = w->kernel->CreateBareInit({.creds = Credentials::Root(),
                                                   .mounts = Tree(*w->kernel),
                                                   .uts = MakeRef<UtsNamespace>(),
                                                   .rlimits = {}});
    RW_CHECK(made.ok());
    w->tree = Tree(*w->kernel);
    const Path root = w->tree->root();
    WriteProgram({*Credentials::Root(), *w->tree, root, root});
    return w;
  }();
  return *world;
}

// A copy of the tree, since making the thousand files of /proc and /sys is half of a run. A script's own
// files come and go with its /tmp, where it begins.
struct Place {
  Ref<MountNamespace> mounts;
  Path root, tmp;
};
Place FreshPlace(const World& world) {
  Ref<const Credentials> creds = Credentials::Root();
  Result<Ref<MountNamespace>> mounts = world.tree->Clone(Ref<UserNamespace>(creds->user_ns()));
  RW_CHECK(mounts.ok());
  Place p{.mounts = *mounts, .root = (*mounts)->root(), .tmp = {}};
  TmpfsOptions options;
  options.size = 8 << 20;
  const Walk walk{*creds, *p.mounts, p.root, p.root};
  Result<Path> at = Vfs::Lookup(walk, "/tmp", {});
  RW_CHECK(at.ok() && p.mounts->Attach(Mount::Make(TmpfsFileSystem::Create(options), 0, "tmpfs"), *at).ok());
  at = Vfs::Lookup(walk, "/tmp", {});
  RW_CHECK(at.ok());
  p.tmp = *at;
  return p;
}

}  // namespace

int RunScript(std::unique_ptr<Script> script) {
  World& world = TheWorld();
  Kernel& kernel = *world.kernel;
  kernel.set_initial_net(NetNamespace::Create(kernel, true));
  const Place place = FreshPlace(world);
  Kernel::ProcessArgs args{.creds = Credentials::Root(), .mounts = place.mounts};
  args.root = place.root;
  args.cwd = place.tmp;
  args.filename = "/script";
  args.argv = {"script"};
  args.fds = MakeRef<FdTable>();
  args.rlimits.limits[RLIMIT_NOFILE] = {256, 256};
  args.rlimits.limits[RLIMIT_STACK] = {1 << 20, 1 << 20};
  args.from_outside = true;
  world.platform->first = std::move(script);
  Result<Ref<ThreadGroup>> tg = kernel.CreateProcess(args);
  RW_CHECK(tg.ok());
  kernel.Start(**tg);
  const int status = kernel.WaitForExit(**tg);
  kernel.KillAll();
  kernel.WaitForAll();
  return status;
}

}  // namespace ringwall::testing
