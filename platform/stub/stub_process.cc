#include "platform/stub/stub_process.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "platform/stub/zygote_pid.h"
#include "sentry/base/log.h"

namespace ringwall {
namespace {

// How long to sleep before looking whether the stub still lives, and after a forged hint.
constexpr long kFirstWaitNs = 1'000'000;
constexpr long kLongestWaitNs = 100'000'000;
constexpr long kForgedWaitNs = 50'000;

long Futex(uint32_t* word, int op, uint32_t value, const timespec* timeout) {
  return syscall(SYS_futex, word, op, value, timeout, nullptr, 0);
}

// SAFETY: both words are in shared memory that guest code may be writing; atomic accesses of whole
// words, whose values are only hints (done, sleeping) or our own (seq, waiter).
uint32_t LoadWord(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
void StoreWord(uint32_t* word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }

// How long to look for the reply to an order that a guest thread passes on, in TSC cycles: several times
// what it takes.
constexpr uint64_t kHelpedCycles = 60'000;

struct Helper {
  const StubProcess* stub = nullptr;
  OrderHelper* helper = nullptr;
};
thread_local Helper own_helper;

bool IsReplyTo(uint64_t reply, uint32_t seq) {
  return reply >> 63 == 1 && (reply >> 40 & 0x7fffff) == (seq & 0x7fffff);
}

}  // namespace

StubProcess::StubProcess(StubHost& host, StubSlot slot) : host_(host), slot_(slot) {}

StubProcess::~StubProcess() {
  if (pid() == 0 || pid() == kReaped) {
    if (!disowned_) host_.GiveBackSlot(slot_);
    return;
  }
  if (!killed_) syscall(SYS_tgkill, pid(), pid(), SIGKILL);
  host_.Retire(pid(), slot_);
}

bool StubProcess::alive() const {
  // A thread's word is never 0 after its first reply, and is when the thread exits.
  if (!lost_.load(std::memory_order_relaxed) && KernelReply() == 0) {
    lost_.store(true, std::memory_order_relaxed);
  }
  return !lost_.load(std::memory_order_relaxed);
}

void StubProcess::Kill() {
  lost_.store(true, std::memory_order_relaxed);
  killed_.store(true, std::memory_order_relaxed);
  syscall(SYS_tgkill, pid(), pid(), SIGKILL);
}

int StubProcess::DeathSignal() {
  constexpr int kTurns = 200;
  for (int turn = 0; turn < kTurns && pid() != kReaped; ++turn) {
    int status = 0;
    if (::wait4(pid(), &status, __WALL | WNOHANG, nullptr) == pid()) {
      if (WIFSIGNALED(status)) death_signal_.store(WTERMSIG(status));
      pid_.store(kReaped);
      break;
    }
    if (const int noted = NotedStubDeath(pid()); noted != 0) {
      death_signal_.store(noted);
      break;
    }
    const timespec pause = {0, kForgedWaitNs};
    ppoll(nullptr, 0, &pause, nullptr);  // the filter has no sleep
  }
  return death_signal_.load();
}

uint64_t StubProcess::KernelReply() const {
  uint64_t head = 0;
  size_t length = 0;
  if (syscall(SYS_get_robust_list, pid(), &head, &length) != 0) return 0;
  return head;
}

bool StubProcess::ReapAtStart() {
  if (!StubHost::Reap(pid(), false)) return false;
  pid_ = 0;
  return true;
}

uint64_t StubProcess::AwaitReply(uint32_t seq) {
  uint32_t* const done = &slot_.reply->done;
  uint32_t* const waiter = &slot_.command->waiter;
  uint64_t reply = 0;
  long wait_ns = kFirstWaitNs;
  bool look = false;
  for (;;) {
    StoreWord(waiter, 1);
    const uint32_t seen = LoadWord(done);
    if (seen == seq || look) {
      reply = KernelReply();
      if (IsReplyTo(reply, seq)) {
        started_ = true;
        break;
      }
      if (reply == 0 && (started_ || ReapAtStart())) {
        lost_.store(true, std::memory_order_relaxed);
        break;
      }
    }
    look = true;
    timespec timeout = {0, wait_ns};
    if (seen == seq) {
      timeout.tv_nsec = kForgedWaitNs;
      ppoll(nullptr, 0, &timeout, nullptr);  // the filter has no sleep
    } else if (Futex(done, FUTEX_WAIT, seen, &timeout) != 0 && errno == ETIMEDOUT) {
      // In case a forged hint made us believe that the memory thread was awake.
      Ring();
      wait_ns = std::min(wait_ns * 2, kLongestWaitNs);
    }
  }
  StoreWord(waiter, 0);
  return reply;
}

void StubProcess::SetHelper(const StubProcess* stub, OrderHelper* helper) {
  own_helper = {stub, helper};
}

void StubProcess::ComeToThisCpu() { ComeToCpu(sched_getcpu()); }

void StubProcess::ComeToCpu(int cpu) {
  if (!host_.pin_ || cpu < 0 || cpu == cpu_) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  if (sched_setaffinity(pid(), sizeof(set), &set) == 0) cpu_ = cpu;
}

void StubProcess::Fill(std::span<const StubCall> calls) {
  RW_CHECK(!calls.empty() && calls.size() <= RW_CMD_MAX_CALLS);
  memcpy(slot_.command->calls, calls.data(), calls.size_bytes());
  slot_.command->count = static_cast<uint32_t>(calls.size());
  StoreWord(&slot_.command->seq, ++seq_);
  StoreWord(&slot_.reply->bell, seq_);
}

void StubProcess::Ring() { Futex(&slot_.reply->bell, FUTEX_WAKE, INT32_MAX, nullptr); }

void StubProcess::LeaveCpu() {
  if (!host_.pin_ || cpu_ < 0) return;
  if (sched_setaffinity(pid_, sizeof(host_.all_cpus_), &host_.all_cpus_) == 0) cpu_ = -1;
}

uint32_t StubProcess::Post(std::span<const StubCall> calls) {
  CollectFork();
  Fill(calls);
  // The memory thread sets `sleeping` and then looks at the bell, so one of us sees the other.
  if (LoadWord(&slot_.reply->sleeping) != 0) {
    Ring();
  }
  return seq_;
}

uint32_t StubProcess::PostWithHelp(std::span<const StubCall> calls) {
  OrderHelper* const helper = own_helper.stub == this ? own_helper.helper : nullptr;
  const int cpu = helper != nullptr && calls.back().nr < RW_OP_FIRST ? helper->HelperCpu() : -1;
  if (cpu < 0) {
    ComeToThisCpu();
    return Post(calls);
  }
  CollectFork();
  ComeToCpu(cpu);
  Fill(calls);
  helper->WakeMemoryThread();
  const uint64_t start = __builtin_ia32_rdtsc();
  while (LoadWord(&slot_.reply->done) != seq_) {
    __builtin_ia32_pause();
    if (__builtin_ia32_rdtsc() - start < kHelpedCycles) continue;
    // It is on another processor by now, or the guest does as it likes. AwaitReply sees to the rest.
    Ring();
    break;
  }
  return seq_;
}

Result<uint32_t> StubProcess::ResultOf(uint64_t reply, size_t* failed) {
  if (reply == 0) return Errno(ESRCH);
  const uint32_t result = static_cast<uint32_t>(reply);
  const uint32_t index = reply >> 32 & 0xff;
  if (index == RW_REPLY_ALL_DONE) return result;
  if (failed != nullptr) *failed = index;
  return Errno(-static_cast<int32_t>(result));
}

Result<uint32_t> StubProcess::OrderLocked(std::span<const StubCall> calls, size_t* failed) {
  if (lost_.load(std::memory_order_relaxed)) return Errno(ESRCH);
  const uint32_t seq = PostWithHelp(calls);
  return ResultOf(AwaitReply(seq), failed);
}

Result<uint32_t> StubProcess::Order(std::span<const StubCall> calls, size_t* failed) {
  Result<uint32_t> result = [&] {
    MutexLock lock(mu_);
    return OrderLocked(calls, failed);
  }();
  AfterOrder(calls, result);
  return result;
}

Result<void> StubProcess::Syscall(int nr, std::array<uint64_t, 6> args) {
  StubCall call = {static_cast<uint64_t>(nr), {}, 0};
  std::copy(args.begin(), args.end(), call.arg);
  TRY(Order({&call, 1}));
  return {};
}

Result<void> StubProcess::Mincore(GuestRange range, std::span<uint8_t> out) {
  RW_CHECK(out.size() >= range.size() / kPageSize);
  MutexLock lock(mu_);
  size_t done = 0;
  while (done < range.size() / kPageSize) {
    const size_t pages = std::min<size_t>(range.size() / kPageSize - done, RW_REPLY_BYTES_SIZE);
    const StubCall call = {SYS_mincore,
                           {(range.start + done * kPageSize).value(), pages * kPageSize,
                            RW_STUB_REPLY + RW_REPLY_BYTES, 0, 0, 0},
                           0};
    TRY(OrderLocked({&call, 1}, nullptr));
    memcpy(out.data() + done, slot_.reply->bytes, pages);
    done += pages;
  }
  return {};
}

Result<void> StubProcess::CountResident(std::span<const GuestRange> ranges,
                                        std::span<uint64_t> pages) {
  struct Piece {
    size_t range, count;
  };
  std::ranges::fill(pages, 0);
  std::vector<bool> unmapped(ranges.size());
  MutexLock lock(mu_);
  GuestAddr at;  // how far ranges[next] has been asked for
  for (size_t next = 0; next < ranges.size();) {
    // As many pieces as the answer has room for.
    std::array<StubCall, RW_CMD_MAX_CALLS> calls;
    std::array<Piece, RW_CMD_MAX_CALLS> pieces;
    size_t n = 0, used = 0;
    while (next < ranges.size() && n < calls.size() && used < RW_REPLY_BYTES_SIZE) {
      const GuestRange range = ranges[next];
      if (at.IsNull()) at = range.start;
      const size_t count =
          std::min<size_t>((range.end - at) / kPageSize, RW_REPLY_BYTES_SIZE - used);
      if (count != 0 && !unmapped[next]) {
        calls[n] = {SYS_mincore,
                    {at.value(), count * kPageSize, RW_STUB_REPLY + RW_REPLY_BYTES + used, 0, 0, 0},
                    0};
        pieces[n++] = {next, count};
        used += count;
        at = at + count * kPageSize;
      }
      if (at == range.end || count == 0 || unmapped[next]) {
        ++next;
        at = GuestAddr();
      }
    }
    const uint8_t* answer = slot_.reply->bytes;
    for (size_t first = 0; first < n;) {
      size_t failed = n - first;
      const Result<uint32_t> done =
          OrderLocked(std::span(calls).subspan(first, n - first), &failed);
      if (!done.ok() && !done.error().Is(ENOMEM)) return done.error();
      const size_t good = done.ok() ? n : first + failed;
      for (; first < good; ++first) {
        uint64_t resident = 0;
        for (size_t i = 0; i < pieces[first].count; ++i) resident += answer[i] & 1;
        answer += pieces[first].count;
        pages[pieces[first].range] += resident;
      }
      if (first == n) break;
      unmapped[pieces[first].range] = true;
      answer += pieces[first++].count;
    }
  }
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (unmapped[i]) pages[i] = 0;
  }
  return {};
}

Result<rusage> StubProcess::Usage() {
  const StubCall call = {SYS_getrusage,
                         {static_cast<uint64_t>(RUSAGE_SELF), RW_STUB_REPLY + RW_REPLY_BYTES, 0, 0,
                          0, 0},
                         0};
  rusage r;
  static_assert(sizeof(r) <= RW_REPLY_BYTES_SIZE);
  MutexLock lock(mu_);
  TRY(OrderLocked({&call, 1}, nullptr));
  memcpy(&r, slot_.reply->bytes, sizeof(r));
  return r;
}

Result<pid_t> StubProcess::StartThread(uint64_t entry, std::array<uint64_t, 4> args, uint64_t sp) {
  const StubCall call = {RW_OP_THREAD, {entry, args[0], args[1], args[2], args[3], sp}, 0};
  const uint32_t tid = TRY(Order({&call, 1}));
  return static_cast<pid_t>(tid);
}

StubCall StubProcess::PrepareChild(StubProcess& child, std::span<const StubCall> first) {
  if (!first.empty()) {
    MutexLock lock(child.mu_);
    child.Fill(first);
  }
  return {RW_OP_FORK,
          {static_cast<uint64_t>(host_.slot_fd_.get()),
           uint64_t{child.slot_.index} * RW_STUB_SLOT_SIZE, 0, 0, 0, 0},
          0};
}

Result<std::unique_ptr<StubProcess>> StubProcess::AwaitChild(std::unique_ptr<StubProcess> child,
                                                             const Result<uint32_t>& pid, int cpu,
                                                             bool ordered,
                                                             Result<uint32_t>* first_result) {
  if (!pid.ok()) {
    if (pid.error().Is(ESRCH)) child->Disown();
    return pid.error();
  }
  child->pid_ = static_cast<pid_t>(*pid);
  uint64_t reply;
  std::array<StubCall, 1> last = {};
  {
    MutexLock lock(child->mu_);
    child->cpu_ = cpu;
    reply = child->AwaitReply(child->seq_);
    if (ordered) last[0] = child->slot_.command->calls[child->slot_.command->count - 1];
  }
  if (reply == 0) return Errno(EAGAIN);
  if (ordered) {
    *first_result = ResultOf(reply, nullptr);
    child->AfterOrder(last, *first_result);
  }
  return child;
}

Result<std::unique_ptr<StubProcess>> StubProcess::Fork(std::span<const StubCall> first,
                                                       Result<uint32_t>* first_result) {
  const StubSlot slot = TRY(host_.TakeSlot());
  auto child = std::make_unique<StubProcess>(host_, slot);
  const StubCall call = PrepareChild(*child, first);
  slot.command->waiter = 1;
  int cpu;
  Result<uint32_t> pid = Errno(ESRCH);
  {
    MutexLock lock(mu_);
    if (lost_.load(std::memory_order_relaxed)) return Errno(ESRCH);
    ComeToThisCpu();
    const uint32_t seq = Post({&call, 1});
    // The child is up after its parent has replied, so sleep once, for the child. (If the clone
    // fails, the time limit ends this.)
    const timespec timeout = {0, kFirstWaitNs};
    Futex(&slot.reply->done, FUTEX_WAIT, 0, &timeout);
    pid = ResultOf(AwaitReply(seq), nullptr);
    cpu = cpu_;
  }
  return AwaitChild(std::move(child), pid, cpu, !first.empty(), first_result);
}

Result<std::unique_ptr<StubProcess>> StubProcess::BeginFork(std::span<const StubCall> first) {
  const StubSlot slot = TRY(host_.TakeSlot());
  auto child = std::make_unique<StubProcess>(host_, slot);
  const StubCall call = PrepareChild(*child, first);
  MutexLock lock(mu_);
  if (lost_.load(std::memory_order_relaxed)) return Errno(ESRCH);
  LeaveCpu();
  begun_fork_ = Post({&call, 1});
  return child;
}

void StubProcess::CollectFork() {
  if (begun_fork_ == 0) return;
  begun_pid_ = ResultOf(AwaitReply(begun_fork_), nullptr);
  begun_fork_ = 0;
}

Result<std::unique_ptr<StubProcess>> StubProcess::FinishFork(std::unique_ptr<StubProcess> child,
                                                             Result<uint32_t>* first_result) {
  Result<uint32_t> pid = [&] {
    MutexLock lock(mu_);
    CollectFork();
    return std::move(begun_pid_);
  }();
  const bool ordered = child->slot_.command->count != 0;
  return AwaitChild(std::move(child), pid, -1, ordered, first_result);
}

void StubProcess::Disown() {
  const StubCall exit = {SYS_exit_group, {}, 0};
  MutexLock lock(mu_);
  Fill({&exit, 1});
  Ring();
  disowned_ = true;
}

void StubProcess::AfterOrder(std::span<const StubCall> calls, const Result<uint32_t>& result) {
  if (calls.back().nr == RW_OP_THREAD && result.ok()) {
    host_.FreeThread(static_cast<pid_t>(*result));
  }
}

std::byte* StubProcess::copy_area() const {
  return host_.copies_ + uint64_t{slot_.index} * kCopyAreaSize;
}

Result<size_t> StubProcess::CopyLocked(int nr, GuestAddr at, size_t size) {
  std::array<StubCall, kCopyAreaSize / kPageSize + 1> calls;
  size_t count = 0, done = 0;
  const uint64_t offset = uint64_t{slot_.index} * kCopyAreaSize;
  // A page is copied whole or not at all, so that the first call that fails says how far it got.
  while (done < size) {
    const uint64_t address = at.value() + done;
    const size_t piece = std::min(size - done, kPageSize - address % kPageSize);
    calls[count++] = {static_cast<uint32_t>(nr), {static_cast<uint64_t>(host_.copy_fd_.get()), address,
                                                  piece, offset + done, 0, 0}, 0};
    done += piece;
  }
  size_t failed = 0;
  Result<uint32_t> ordered = OrderLocked({calls.data(), count}, &failed);
  if (ordered.ok()) return done;
  if (ordered.error().Is(ESRCH) || failed == 0) return Errno(EFAULT);
  return static_cast<size_t>(calls[failed].arg[1] - at.value());
}

Result<size_t> StubProcess::Read(GuestAddr from, std::span<std::byte> to) {
  if (to.empty()) return size_t{0};
  if (host_.copies_ != nullptr) {
    size_t done = 0;
    while (done < to.size()) {
      const size_t piece = std::min(to.size() - done, kCopyAreaSize);
      MutexLock lock(mu_);
      Result<size_t> n = CopyLocked(SYS_pwrite64, from + done, piece);
      if (!n.ok() && done == 0) return n.error();
      if (!n.ok()) break;
      memcpy(to.data() + done, copy_area(), *n);
      done += *n;
      if (*n < piece) break;
    }
    return done;
  }
  const iovec local = {to.data(), to.size()};
  const iovec remote = {reinterpret_cast<void*>(from.value()), to.size()};
  const ssize_t n = ::process_vm_readv(pid(), &local, 1, &remote, 1, 0);
  if (n > 0) return static_cast<size_t>(n);
  return Errno(n < 0 && errno == ENOMEM ? ENOMEM : EFAULT);
}

Result<size_t> StubProcess::Write(GuestAddr to, std::span<const std::byte> from) {
  if (from.empty()) return size_t{0};
  if (host_.copies_ != nullptr) {
    size_t done = 0;
    while (done < from.size()) {
      const size_t piece = std::min(from.size() - done, kCopyAreaSize);
      MutexLock lock(mu_);
      memcpy(copy_area(), from.data() + done, piece);
      Result<size_t> n = CopyLocked(SYS_pread64, to + done, piece);
      if (!n.ok() && done == 0) return n.error();
      if (!n.ok()) break;
      done += *n;
      if (*n < piece) break;
    }
    return done;
  }
  const iovec local = {const_cast<std::byte*>(from.data()), from.size()};
  const iovec remote = {reinterpret_cast<void*>(to.value()), from.size()};
  const ssize_t n = ::process_vm_writev(pid(), &local, 1, &remote, 1, 0);
  if (n > 0) return static_cast<size_t>(n);
  return Errno(n < 0 && errno == ENOMEM ? ENOMEM : EFAULT);
}

bool StubHost::BeginSpare(std::span<const StubCall> first, uint32_t tag) {
  {
    MutexLock lock(spare_mu_);
    if (spare_state_ != SpareState::kNone) return false;
    spare_state_ = SpareState::kBusy;
  }
  Result<std::unique_ptr<StubProcess>> stub = zygote_->BeginFork(first);
  MutexLock lock(spare_mu_);
  spare_state_ = stub.ok() ? SpareState::kThere : SpareState::kNone;
  if (stub.ok()) spare_ = {std::move(*stub), tag};
  return stub.ok();
}

std::unique_ptr<StubProcess> StubHost::TakeSpare(Result<uint32_t>* first_result, uint32_t* tag) {
  Spare spare;
  {
    MutexLock lock(spare_mu_);
    if (spare_state_ != SpareState::kThere) return nullptr;
    spare_state_ = SpareState::kBusy;
    spare = std::move(spare_);
  }
  *tag = spare.tag;
  Result<std::unique_ptr<StubProcess>> stub =
      zygote_->FinishFork(std::move(spare.stub), first_result);
  MutexLock lock(spare_mu_);
  spare_state_ = SpareState::kNone;
  return stub.ok() ? std::move(*stub) : nullptr;
}

StubHost::~StubHost() {
  Result<uint32_t> unused = 0U;
  uint32_t tag;
  TakeSpare(&unused, &tag).reset();
  zygote_.reset();
  std::vector<Dying> dying;
  {
    MutexLock lock(mu_);
    dying.swap(dying_);
  }
  for (const Dying& d : dying) Reap(d.pid, true);
  if (copies_ != nullptr) ::munmap(copies_, uint64_t{kMaxStubs} * kCopyAreaSize);
  if (slots_ != nullptr) ::munmap(slots_, uint64_t{kMaxStubs} * RW_STUB_SLOT_SIZE);
}

StubSlot StubHost::SlotAt(uint32_t index) const {
  std::byte* at = slots_ + uint64_t{index} * RW_STUB_SLOT_SIZE;
  return {index, reinterpret_cast<StubCommand*>(at), reinterpret_cast<StubReply*>(at + kPageSize)};
}

Result<StubSlot> StubHost::TakeSlot() {
  uint32_t index;
  {
    MutexLock lock(mu_);
    if (!free_slots_.empty()) {
      index = free_slots_.back();
      free_slots_.pop_back();
    } else if (next_slot_ < kMaxStubs) {
      index = next_slot_++;
    } else {
      return Errno(EAGAIN);
    }
  }
  const StubSlot slot = SlotAt(index);
  memset(slot.command, 0, RW_CMD_CALLS);
  memset(slot.reply, 0, RW_REPLY_BYTES);
  slot.command->seq = RW_FIRST_ORDER;
  slot.reply->bell = RW_FIRST_ORDER;
  slot.command->sentry_pid = static_cast<uint32_t>(sentry_pid_);
  return slot;
}

void StubHost::GiveBackSlot(StubSlot slot) {
  MutexLock lock(mu_);
  free_slots_.push_back(slot.index);
}

bool StubHost::Reap(pid_t pid, bool block) {
  int status = 0;
  const pid_t r =
      RetryEintr([&] { return ::wait4(pid, &status, __WALL | (block ? 0 : WNOHANG), nullptr); });
  return r != 0;  // reaped, or not ours to reap (SIGCHLD ignored)
}

void StubHost::FreeThread(pid_t tid) const {
  if (pin_) sched_setaffinity(tid, sizeof(all_cpus_), &all_cpus_);
  SetSlice(tid, 0);
}

void StubHost::SetSlice(pid_t tid, uint64_t ns) const {
  if (policy_ != SCHED_OTHER) return;
  // struct sched_attr, include/uapi/linux/sched/types.h, first version. Before Linux 6.12 the
  // default policy ignores the runtime.
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attr = {};
  attr.size = sizeof(attr);
  attr.nice = nice_;
  attr.runtime = ns;
  syscall(SYS_sched_setattr, tid, &attr, 0);
}

void StubHost::Retire(pid_t pid, StubSlot slot) {
  MutexLock lock(mu_);
  dying_.push_back({pid, slot});
  size_t kept = 0;
  for (const Dying& d : dying_) {
    if (Reap(d.pid, false)) {
      free_slots_.push_back(d.slot.index);
    } else {
      dying_[kept++] = d;
    }
  }
  dying_.resize(kept);
}

}  // namespace ringwall
