// The table of system calls: one row per number, with name, handler, support level and note.
// strace, `runsc syscalls` and docs/syscalls.md are made from the rows, so that they cannot disagree
// with the code. The rows are in syscalls/; this is only the shape.
#ifndef RINGWALL_SENTRY_KERNEL_SYSCALL_TABLE_H_
#define RINGWALL_SENTRY_KERNEL_SYSCALL_TABLE_H_

#include <array>
#include <cstdint>
#include <span>

#include "sentry/base/result.h"

namespace ringwall {

class Task;

struct RawArgs {
  std::array<uint64_t, 6> v;
  uint64_t operator[](size_t i) const { return v[i]; }
};

using SyscallFn = Result<int64_t> (*)(Task&, const RawArgs&);

enum class Support : uint8_t {
  kFull,     // as Linux documents it
  kPartial,  // the note says what is missing
  kNone,     // the errno that Linux gives without the feature
};

struct SyscallRow {
  uint16_t nr;
  const char* name;
  SyscallFn fn;  // null with kNone
  Support support;
  const char* note = "";
  uint16_t error = 38;         // kNone: ENOSYS unless said otherwise
  // How strace shows the arguments, one letter each: d int, u unsigned, x hex, p address, s string,
  // f descriptor, o open flags, m mode, S signal, ...; see sentry/strace.
  const char* format = "xxxxxx";
};

class SyscallTable {
 public:
  static constexpr size_t kSize = 512;
  // Preconditions: rows are sorted by number and below kSize.
  explicit SyscallTable(std::span<const SyscallRow> rows);
  const SyscallRow* Find(uint64_t nr) const { return nr < kSize ? by_nr_[nr] : nullptr; }
  std::span<const SyscallRow> rows() const { return rows_; }

 private:
  std::span<const SyscallRow> rows_;
  std::array<const SyscallRow*, kSize> by_nr_{};
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_SYSCALL_TABLE_H_
