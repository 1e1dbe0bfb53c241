// What a guest's debugger needs of a thread that runs natively: debug registers, which only a tracer
// may set, so the Sentry is one for a moment, and memory that is as the debugger thinks it is.
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/systrap/region_access.h"
#include "platform/systrap/systrap_context.h"

namespace ringwall {
namespace {

// glibc's ptrace() gives words back in a way of its own.
long Ptrace(int request, pid_t tid, uint64_t addr, void* data) {
  return ::syscall(SYS_ptrace, request, tid, addr, data);
}

uint64_t DebugOffset(int n) {
  return offsetof(struct user, u_debugreg) + static_cast<uint64_t>(n) * sizeof(uint64_t);
}

}  // namespace

void SystrapContext::SettleWindow() {
  if (view_queued_) SettleView();
  input_count_ = 0;
  const uint32_t count = std::exchange(output_count_, 0);
  for (uint32_t i = 0; i < count; ++i) {
    // SAFETY: the region is hostile: each field is read once, and checked to lie inside.
    const systrap::RegionCopy& from = region_->output[i];
    const systrap::RegionCopy copy = {Load(from.addr), Load(from.size), Load(from.offset)};
    if (copy.size == 0 || copy.offset > RW_REGION_WINDOW_SIZE ||
        copy.size > RW_REGION_WINDOW_SIZE - copy.offset) {
      continue;
    }
    std::vector<std::byte> bytes(copy.size);
    memcpy(bytes.data(), reinterpret_cast<const std::byte*>(region_) + RW_REGION_WINDOW + copy.offset,
           copy.size);
    static_cast<void>(as_->Write(GuestAddr(copy.addr), bytes).ok());
  }
}

// Debug registers stay when the tracer goes. The thread waits in the stub's code meanwhile.
bool SystrapContext::TraceOnHost(const std::function<bool()>& work) {
  const pid_t tid = thread_.tid;
  if (Ptrace(PTRACE_SEIZE, tid, 0, nullptr) != 0) return false;
  int status = 0;
  bool done = false;
  if (Ptrace(PTRACE_INTERRUPT, tid, 0, nullptr) == 0) {
    pid_t r;
    do {
      r = ::wait4(tid, &status, __WALL, nullptr);
    } while (r == -1 && errno == EINTR);
    if (r == tid && WIFSTOPPED(status)) done = work();
  }
  // A kick may have come first: it is delivered.
  const bool signal_stop = WIFSTOPPED(status) && status >> 16 == 0;
  const int saved = errno;
  const uint64_t signo = signal_stop ? static_cast<uint64_t>(WSTOPSIG(status)) : 0;
  Ptrace(PTRACE_DETACH, tid, 0, reinterpret_cast<void*>(signo));
  errno = saved;
  return done;
}

Result<uint64_t> SystrapContext::GetDebugRegister(int n) {
  if (lost_ || (!ready_ && !Await())) return Errno(ESRCH);
  uint64_t value = 0;
  if (!TraceOnHost([&] { return Ptrace(PTRACE_PEEKUSER, thread_.tid, DebugOffset(n), &value) == 0; })) {
    return Errno(EIO);
  }
  return value;
}

Result<void> SystrapContext::SetDebugRegister(int n, uint64_t value) {
  if (lost_ || (!ready_ && !Await())) return Errno(ESRCH);
  if (n < 4 && value >= kStubStart) return Errno(EINVAL);
  // A breakpoint in a patched site must see the thread come by.
  if (n < 4) as_->patcher().BeforeStep(value);
  errno = EIO;
  if (!TraceOnHost([&] {
        return Ptrace(PTRACE_POKEUSER, thread_.tid, DebugOffset(n), reinterpret_cast<void*>(value)) == 0;
      })) {
    return Errno(errno);
  }
  debug_used_ = true;
  return {};
}

}  // namespace ringwall
