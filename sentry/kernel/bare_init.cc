// The Sentry's own process 1, for sandboxes whose program is not init (`runsc do`): a task without a
// stub, which nothing can make run code. It is there to be seen, to inherit orphans and to reap them.
// It has no host thread either, until somebody stops or traces it.
#include <errno.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "sentry/base/log.h"
#include "sentry/kernel/host_threads.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr char kName[] = "init";
constexpr char kArguments[] = "/sbin/init";
constexpr uint64_t kStackSize = 132 << 10;  // what a fresh process shows

// Memory whose only bytes that exist are the last page: its arguments. The list of what is mapped is
// the MemoryManager's, and calls that would change it do nothing more.
class BareMemory final : public AddressSpace {
 public:
  explicit BareMemory(GuestAddr top) : page_{top - kPageSize, top} {}

  Result<void> Map(GuestRange, int, int, int, uint64_t) override { return {}; }
  Result<void> Unmap(GuestRange) override { return {}; }
  Result<void> Protect(GuestRange, int) override { return {}; }
  Result<void> Remap(GuestRange, uint64_t, int, GuestAddr) override { return Errno(ENOMEM); }
  Result<void> Advise(int, GuestRange, int) override { return {}; }
  Result<void> Mincore(GuestRange range, std::span<uint8_t> out) override {
    for (size_t i = 0; i < out.size(); i++) out[i] = range.start + i * kPageSize == page_.start ? 1 : 0;
    return {};
  }
  Result<Ref<AddressSpace>> Fork() override { return Errno(ENOMEM); }
  Result<size_t> Read(GuestAddr from, std::span<std::byte> to) override {
    const size_t n = TRY(Inside(from, to.size()));
    std::fill_n(to.begin(), n, std::byte{0});
    const uint64_t at = from - page_.start;
    if (at < sizeof(kArguments)) {
      memcpy(to.data(), kArguments + at, std::min<size_t>(n, sizeof(kArguments) - at));
    }
    return n;
  }
  Result<size_t> Write(GuestAddr, std::span<const std::byte>) override { return Errno(EFAULT); }
  Result<uint32_t> CompareExchange(GuestAddr, uint32_t, uint32_t) override { return Errno(EFAULT); }
  GuestRange vdso() const override { return {}; }
  GuestRange vvar() const override { return {}; }
  pid_t host_pid() const override { return 0; }
  bool alive() const override { return true; }

 private:
  Result<size_t> Inside(GuestAddr at, size_t size) const {
    if (at < page_.start || at >= page_.end) return Errno(EFAULT);
    return std::min<size_t>(size, page_.end - at);
  }
  const GuestRange page_;
};

// Makes BareMemory, for MemoryManager.
class BarePlatform final : public Platform {
 public:
  explicit BarePlatform(GuestAddr top) : top_(top) {}
  std::string_view name() const override { return "bare"; }
  Result<Ref<AddressSpace>> NewAddressSpace() override {
    return Ref<AddressSpace>(MakeRef<BareMemory>(top_));
  }
  Result<std::unique_ptr<Context>> NewContext(AddressSpace&, Context*) override { return Errno(ENOSYS); }
  PlatformStats Stats() const override { return {}; }

 private:
  const GuestAddr top_;
};

// A processor that sleeps for ever. What a tracer writes into its registers is kept and means nothing.
class BareContext final : public Context {
 public:
  using StartThread = bool (*)(void* task);
  BareContext(StartThread start, void* task) : start_(start), task_(task) {}

  Event Switch() override {
    while (interrupts_.exchange(0) == 0) syscall(SYS_futex, &interrupts_, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
    return {};
  }
  void Interrupt() override {
    interrupts_.store(1);
    if (!started_.exchange(true)) {
      if (!start_(task_)) started_.store(false);
      return;
    }
    syscall(SYS_futex, &interrupts_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }

  abi::Registers& regs() override { return regs_; }
  void RegsChanged() override {}
  size_t xstate_size() const override { return kFxSaveSize; }
  Result<void> GetXState(std::span<std::byte> out) override {
    std::fill(out.begin(), out.end(), std::byte{0});
    return {};
  }
  Result<void> SetXState(std::span<const std::byte>) override { return {}; }
  bool ReadWindow(GuestAddr, std::span<std::byte>) override { return false; }
  bool WriteWindow(GuestAddr, std::span<const std::byte>) override { return false; }
  bool SetScheduling(uint32_t, int, uint32_t) override { return true; }
  Result<void> SetAffinity(const cpu_set_t&) override { return {}; }
  void SetLocalAnswers(const LocalAnswers&) override {}
  uint64_t signal_mask() const override { return mask_.load(); }
  void set_signal_mask(uint64_t mask) override { mask_.store(mask); }
  void CpuTime(uint64_t* user_ns, uint64_t* system_ns) override { *user_ns = *system_ns = 0; }
  pid_t host_tid() const override { return 0; }

 private:
  static constexpr size_t kFxSaveSize = 512 + 64;  // with the header of xsave
  const StartThread start_;
  void* const task_;
  abi::Registers regs_ = {};
  std::atomic<uint64_t> mask_{0};
  std::atomic<uint32_t> interrupts_{0};
  std::atomic<bool> started_{false};
};

Result<Ref<MemoryManager>> BareMap() {
  const GuestAddr top(kStubStart - kPageSize);
  // The map keeps its platform to make others from, which this one never does.
  static BarePlatform& platform = *new BarePlatform(top);
  Ref<MemoryManager> mm = TRY(MemoryManager::Create(platform, {}, false));
  TRY(mm->MapStack(top, PROT_READ | PROT_WRITE, kStackSize, {.stack = kStackSize}));
  const GuestAddr arguments = top - kPageSize;
  mm->set_layout({.start_stack = arguments,
                  .arg_start = arguments,
                  .arg_end = arguments + sizeof(kArguments),
                  .env_start = arguments + sizeof(kArguments),
                  .env_end = arguments + sizeof(kArguments)});
  return mm;
}

}  // namespace

Result<void> Kernel::CreateBareInit(const BareInitArgs& args) {
  Ref<SignalActions> actions = MakeRef<SignalActions>();
  abi::SigAction ignore;
  ignore.handler = reinterpret_cast<uint64_t>(SIG_IGN);
  actions->Exchange(SIGCHLD, ignore);  // its children reap themselves
  Ref<ThreadGroup> tg = MakeRef<ThreadGroup>(*this, std::move(actions));
  tg->rlimits.With([&](Rlimits& r) { r = args.rlimits; });
  tg->start_time_ns = start_boottime_ns_;
  tg->did_exec = true;

  Ref<Task> task = Ref<Task>::Adopt(new Task(*this, tg, 0));
  task->mm_ = TRY(BareMap());
  task->mm_->users.fetch_add(1);
  const auto start = [](void* self) {
    Task* const init = static_cast<Task*>(self);
    init->AddRef();
    if (Task* maker = Task::Current(); maker != nullptr && maker->alive()) maker->context().BeforeSleep();
    if (RunOnIdleThread(&Task::ThreadMain, init) || RunOnNewThread(&Task::ThreadMain, init) == 0) return true;
    RW_LOG(kError, "no host thread for process 1");
    init->Release();
    return false;
  };
  task->context_ = std::make_unique<BareContext>(start, task.get());
  task->in_guest_.store(true);  // so that a kick reaches the context
  task->state_.store('S');
  task->fds_ = MakeRef<FdTable>();
  task->fs_ = MakeRef<FsContext>(args.mounts->root(), args.mounts->root(), 022u);
  GiveFirstNamespaces(*task, args.mounts, args.uts);
  task->creds_ = args.creds;
  task->set_comm(kName);
  task->start_time_ns = tg->start_time_ns;

  MutexLock lock(tasks_.mu);
  TRY(AddProcessLocked(*tasks_.first, *tg, std::move(task)));
  RW_CHECK(tg->tgid_ == 1);
  bare_init_ = true;
  // Nobody waits for its end, and nothing has to.
  tasks_.live--;
  return {};
}

}  // namespace ringwall
