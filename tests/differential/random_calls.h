// What the programs of random system calls share: random numbers that a seed decides, and an account
// of every call with its result that is the same wherever Linux runs it. compare.py runs one natively
// and inside and compares the accounts.
//
// A program is a table of steps; each draws its own arguments, makes one call or a few, and tells.
// Nothing that depends on addresses, times or process numbers may be told, and nothing may be called
// that changes the machine: natively it is the real one.
#ifndef RINGWALL_TESTS_DIFFERENTIAL_RANDOM_CALLS_H_
#define RINGWALL_TESTS_DIFFERENTIAL_RANDOM_CALLS_H_

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>
#include <span>
#include <type_traits>

namespace ringwall::test {

inline uint64_t random_state = 1;
inline int step_number = 0;

// From 0 to n-1 (xorshift64).
inline uint32_t Below(uint32_t n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<uint32_t>(random_state >> 11) % n;
}
inline bool OneIn(uint32_t n) { return Below(n) == 0; }

template <typename... T>
auto Pick(T... choices) {
  using Common = std::common_type_t<T...>;
  const Common all[] = {static_cast<Common>(choices)...};
  return all[Below(sizeof...(choices))];
}

// The call that is about to be made.
[[gnu::format(printf, 1, 2)]] inline void Say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("%d ", step_number);
  vprintf(format, arguments);
  va_end(arguments);
}
// Its result, or only whether it succeeded.
inline void Result(int64_t value) {
  if (value == -1) {
    printf(" = %s\n", strerrorname_np(errno));
  } else {
    printf(" = %ld\n", static_cast<long>(value));
  }
}
inline void Outcome(int64_t value) { Result(value == -1 ? -1 : 0); }

inline uint32_t Checksum(std::span<const char> bytes) {
  uint32_t sum = 2166136261u;  // FNV-1a
  for (const char c : bytes) sum = (sum ^ static_cast<uint8_t>(c)) * 16777619u;
  return sum;
}

// Descriptors live in these slots, so that their numbers say nothing.
inline constexpr int kFirstSlot = 100, kSlots = 16;
inline int AnyFd() { return OneIn(25) ? -1 : kFirstSlot + static_cast<int>(Below(kSlots)); }
inline void Keep(int fd) {
  if (fd < 0) return;
  const int slot = kFirstSlot + static_cast<int>(Below(kSlots));
  dup3(fd, slot, O_CLOEXEC);
  close(fd);
  printf("%d   in slot %d\n", step_number, slot);
}
// What a call that makes two descriptors or one has given.
inline void KeepBoth(const char* what, int result, const int (&fds)[2]) {
  Say("%s", what);
  Outcome(result);
  if (result == 0) Keep(fds[0]), Keep(fds[1]);
}
inline void MakeOne(const char* what, int fd) {
  Say("%s", what);
  Outcome(fd);
  Keep(fd);
}
// Steps that several programs have.
inline void Close() {
  const int fd = AnyFd();
  Say("close(%d)", fd);
  Result(close(fd));
}
inline void Dup() {
  const int fd = AnyFd();
  Say("dup(%d)", fd);
  const int copy = dup(fd);
  Outcome(copy);
  Keep(copy);
}
// The type bits of an open descriptor; 0 when it is none, or anonymous.
inline uint32_t TypeOf(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 ? st.st_mode & S_IFMT : 0;
}

// Some who run the programs have the right to pass limits and others lack it: those that ask for more drop it.
inline void DropRightToLimits() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  syscall(SYS_capget, &header, data);
  for (auto* set : {&data[0].effective, &data[0].permitted, &data[0].inheritable}) *set &= ~(1u << CAP_SYS_RESOURCE);
  syscall(SYS_capset, &header, data);
  prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE);
}

using Step = void (*)();

// main of each program: PROGRAM SEED COUNT.
inline int RunSteps(int argc, char** argv, std::span<const Step> steps) {
  if (argc != 3) return 2;
  random_state = strtoull(argv[1], nullptr, 0) * 0x9e3779b97f4a7c15ull + 1;
  for (int i = 0; i < 10; i++) Below(2);
  const int count = atoi(argv[2]);
  for (step_number = 0; step_number < count; step_number++) steps[Below(static_cast<uint32_t>(steps.size()))]();
  fflush(stdout);
  return 0;
}

}  // namespace ringwall::test

#endif  // RINGWALL_TESTS_DIFFERENTIAL_RANDOM_CALLS_H_
