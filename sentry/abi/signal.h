// Signals as the x86-64 system-call ABI has them (include/uapi/asm-generic/signal.h, siginfo.h).
// Signal sets are 64-bit masks: bit n-1 is signal n.
#ifndef RINGWALL_SENTRY_ABI_SIGNAL_H_
#define RINGWALL_SENTRY_ABI_SIGNAL_H_

#include <signal.h>

#include <cstdint>
#include <cstring>

namespace ringwall::abi {

using SigSet = uint64_t;
inline constexpr int kSigMax = 64;
inline constexpr int kSigRtMin = 32;

constexpr SigSet SigBit(int signo) { return uint64_t{1} << (signo - 1); }
constexpr bool ValidSignal(int signo) { return signo >= 1 && signo <= kSigMax; }

// Never blocked, caught or ignored.
inline constexpr SigSet kUnblockable = SigBit(SIGKILL) | SigBit(SIGSTOP);
inline constexpr SigSet kStopSignals =
    SigBit(SIGSTOP) | SigBit(SIGTSTP) | SigBit(SIGTTIN) | SigBit(SIGTTOU);
inline constexpr SigSet kIgnoredByDefault =
    SigBit(SIGCONT) | SigBit(SIGCHLD) | SigBit(SIGWINCH) | SigBit(SIGURG);
inline constexpr SigSet kCoreDumps = SigBit(SIGQUIT) | SigBit(SIGILL) | SigBit(SIGTRAP) |
                                     SigBit(SIGABRT) | SigBit(SIGFPE) | SigBit(SIGSEGV) |
                                     SigBit(SIGBUS) | SigBit(SIGSYS) | SigBit(SIGXCPU) |
                                     SigBit(SIGXFSZ);
// Delivered before all others (SYNCHRONOUS_MASK).
inline constexpr SigSet kSynchronous = SigBit(SIGSEGV) | SigBit(SIGBUS) | SigBit(SIGILL) |
                                       SigBit(SIGTRAP) | SigBit(SIGFPE) | SigBit(SIGSYS);

// struct sigaction of rt_sigaction(2).
struct SigAction {
  uint64_t handler = 0;  // SIG_DFL 0, SIG_IGN 1, or an address
  uint64_t flags = 0;
  uint64_t restorer = 0;
  SigSet mask = 0;
};
static_assert(sizeof(SigAction) == 32);
inline constexpr uint64_t kSaRestorer = 0x04000000;

// siginfo_t: 128 bytes; the union is reached by offset.
struct SigInfo {
  int32_t signo = 0;
  int32_t error = 0;
  int32_t code = 0;
  int32_t pad = 0;
  uint8_t fields[112] = {};

  template <typename T>
  T At(size_t offset) const {
    T v;
    memcpy(&v, fields + offset, sizeof(v));
    return v;
  }
  template <typename T>
  void Put(size_t offset, T v) {
    memcpy(fields + offset, &v, sizeof(v));
  }
  // kill, SIGCHLD
  void SetPidUid(int32_t pid, uint32_t uid) { Put(0, pid), Put(4, uid); }
  int32_t pid() const { return At<int32_t>(0); }
  void SetStatus(int32_t status, int64_t utime, int64_t stime) {
    Put(8, status), Put(16, utime), Put(24, stime);
  }
  // queued value: after pid and uid
  void SetValue(uint64_t value) { Put(8, value); }
  // timers: id, overrun, value
  void SetTimer(int32_t id, int32_t overrun, uint64_t value) {
    Put(0, id), Put(4, overrun), Put(8, value);
  }
  // faults
  void SetAddr(uint64_t addr) { Put(0, addr); }
  // SIGSYS: call_addr, syscall, arch
  void SetSyscall(uint64_t addr, int32_t nr, uint32_t arch) {
    Put(0, addr), Put(8, nr), Put(12, arch);
  }
  // SIGPOLL
  void SetPoll(int64_t band, int32_t fd) { Put(0, band), Put(8, fd); }
};
static_assert(sizeof(SigInfo) == 128);

inline constexpr int32_t kSsAutodisarm = INT32_MIN;  // 1U << 31

// stack_t.
struct StackT {
  uint64_t sp = 0;
  int32_t flags = SS_DISABLE;
  int32_t pad = 0;
  uint64_t size = 0;
};
static_assert(sizeof(StackT) == 24);

}  // namespace ringwall::abi

#endif  // RINGWALL_SENTRY_ABI_SIGNAL_H_
