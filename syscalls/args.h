// From registers to typed arguments, in one place: a handler's C++ signature is its ABI. A 64-bit
// register given to a 32-bit parameter is cut as the kernel's own wrappers do (SYSCALL_DEFINE).
#ifndef RINGWALL_SYSCALLS_ARGS_H_
#define RINGWALL_SYSCALLS_ARGS_H_

#include <tuple>
#include <type_traits>
#include <utility>

#include "sentry/kernel/syscall_table.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

using SysResult = Result<int64_t>;

template <typename A>
A FromRegister(uint64_t raw) {
  if constexpr (std::is_integral_v<A>) {
    return static_cast<A>(raw);
  } else {
    return A(GuestAddr(raw));
  }
}

template <>
inline GuestAddr FromRegister<GuestAddr>(uint64_t raw) {
  return GuestAddr(raw);
}

namespace internal {

template <typename... A, size_t... I>
SysResult Call(Task& t, const RawArgs& raw, SysResult (*fn)(Task&, A...), std::index_sequence<I...>) {
  static_assert(sizeof...(A) <= 6);
  return fn(t, FromRegister<A>(raw[I])...);
}

template <typename... A>
SysResult Call(Task& t, const RawArgs& raw, SysResult (*fn)(Task&, A...)) {
  return Call(t, raw, fn, std::index_sequence_for<A...>{});
}

}  // namespace internal

// The handler of a table row: Adapt<&SysRead>.
template <auto kFn>
SysResult Adapt(Task& t, const RawArgs& raw) {
  return internal::Call(t, raw, kFn);
}

// A Result<void> as the 0 of a system call.
inline SysResult Zero(Result<void> r) {
  if (!r.ok()) return r.error();
  return 0;
}

// The walk of an *at() call. Keeps what Walk borrows.
class AtWalk {
 public:
  // EBADF, ENOTDIR (a relative path from a file).
  static Result<AtWalk> Make(Task& t, int dirfd, std::string_view path);
  Walk walk() const { return Walk{*creds_, *mounts_, root_, start_, task_, resolve, task_->fs().umask()}; }
  const Path& start() const { return start_; }
  uint64_t resolve = 0;

 private:
  AtWalk(Task& t, Path root, Path start);
  Task* task_;
  const Credentials* creds_;
  MountNamespace* mounts_;
  Path root_, start_;
};

// The object that (dirfd, path, AT_* flags) names, with AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW.
Result<Path> LookupAt(Task& t, int dirfd, std::string_view path, int at_flags);
Result<Path> LookupAt(Task& t, int dirfd, UserPath path, int at_flags);

}  // namespace ringwall

#endif  // RINGWALL_SYSCALLS_ARGS_H_
