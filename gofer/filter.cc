// The gofer's list of host calls. Each is here for a reason that names its user; when the user
// goes, so does the row. main_test.cc proves that the rest are refused and that nothing needed is
// missing.
#include "gofer/filter.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <memory>
#include <utility>

#if defined(RINGWALL_TSAN)
// Read when the program starts. A report must not start a symbolizer, which the filters refuse; threads
// that are still at work when the process ends are meant to be.
extern "C" const char* __tsan_default_options() { return "symbolize=0:report_thread_leaks=0"; }
#endif

namespace ringwall::gofer {

namespace {

// Only the arguments that are told apart here; the kernel checks the rest.
enum class Args {
  kAny,
  kSelf,        // arg 0: 0, the calling thread
  kLogFd,       // arg 0: the log
  kOpenRead,    // arg 2: O_CLOEXEC, neither writing nor creating
  kOpenWrite,   // arg 2: O_CLOEXEC
  kOpenNew,     // arg 2: O_TMPFILE and O_EXCL: a file that never gets a name
  kNotExec,     // arg 2: no PROT_EXEC
  kUnixSocket,  // arg 0: AF_UNIX
  kFcntl,       // arg 1: F_DUPFD_CLOEXEC, F_SETFL, F_ADD_SEALS
  kFutex,       // arg 1: wait and wake
};

// When the row is needed at all.
enum class When { kAlways, kReadOnly, kWritable, kNameless, kConnect, kBind, kSockets };

struct Row {
  int number;
  When when;
  Args args;
  const char* reason;
};

constexpr Row kRows[] = {
    // Requests and replies.
    {SYS_recvmmsg, When::kAlways, Args::kAny, "requests, on the connection and its channels"},
    {SYS_sendmmsg, When::kAlways, Args::kAny, "replies with donated descriptors"},
    {SYS_socketpair, When::kAlways, Args::kUnixSocket, "the socket of a new channel"},
    {SYS_shutdown, When::kAlways, Args::kAny, "ends the channels when the client is gone"},
    {SYS_memfd_create, When::kAlways, Args::kAny, "shared memory of a new channel"},
    {SYS_ftruncate, When::kAlways, Args::kAny, "size of that memory; truncating host files"},
    {SYS_futex, When::kAlways, Args::kFutex, "waiting for requests; locks"},

    // Looking at host files.
    {SYS_openat, When::kReadOnly, Args::kOpenRead, "walking, opening, reading directories"},
    {SYS_openat, When::kWritable, Args::kOpenWrite, "the same, and writing and creating"},
    {SYS_openat, When::kNameless, Args::kOpenNew, "room on disk for a writable layer"},
    {SYS_close, When::kAlways, Args::kAny, "closed handles, donated descriptors"},
    {SYS_statx, When::kAlways, Args::kAny, "attributes"},
    {SYS_readlinkat, When::kAlways, Args::kAny, "symbolic links"},
    {SYS_getdents64, When::kAlways, Args::kAny, "directories"},
    {SYS_lseek, When::kAlways, Args::kAny, "the place in a directory"},
    {SYS_fstatfs, When::kAlways, Args::kAny, "statfs"},
    {SYS_getxattr, When::kAlways, Args::kAny, "extended attributes"},
    {SYS_listxattr, When::kAlways, Args::kAny, "extended attributes"},
    {SYS_fcntl, When::kAlways, Args::kFcntl, "attaching; a donated descriptor's flags; seals"},
    {SYS_fsync, When::kAlways, Args::kAny, "fsync"},
    {SYS_fdatasync, When::kAlways, Args::kAny, "fdatasync"},
    {SYS_syncfs, When::kAlways, Args::kAny, "syncfs"},

    // Changing them.
    {SYS_mkdirat, When::kWritable, Args::kAny, "mkdir"},
    {SYS_mknodat, When::kWritable, Args::kAny, "mknod of FIFOs, sockets, files, whiteouts"},
    {SYS_symlinkat, When::kWritable, Args::kAny, "symlink"},
    {SYS_linkat, When::kWritable, Args::kAny, "link"},
    {SYS_unlinkat, When::kWritable, Args::kAny, "unlink, rmdir"},
    {SYS_renameat2, When::kWritable, Args::kAny, "rename"},
    {SYS_fchownat, When::kWritable, Args::kAny, "chown; the owner of new files"},
    {SYS_fchmodat, When::kWritable, Args::kAny, "chmod through /proc/self/fd"},
    {452 /* fchmodat2 */, When::kWritable, Args::kAny, "chmod without /proc"},
    {SYS_utimensat, When::kWritable, Args::kAny, "times"},
    {SYS_truncate, When::kWritable, Args::kAny, "O_TRUNC of a file opened for reading"},
    {SYS_fallocate, When::kWritable, Args::kAny, "fallocate"},
    {SYS_setxattr, When::kWritable, Args::kAny, "extended attributes"},
    {SYS_removexattr, When::kWritable, Args::kAny, "extended attributes"},
    {SYS_geteuid, When::kWritable, Args::kAny, "is a new file our own?"},

    // Host unix sockets, where a root allows them.
    {SYS_socket, When::kSockets, Args::kUnixSocket, "host unix sockets"},
    {SYS_connect, When::kConnect, Args::kAny, "host unix sockets"},
    {SYS_bind, When::kBind, Args::kAny, "host unix sockets"},
    {SYS_listen, When::kBind, Args::kAny, "host unix sockets"},

    // The process itself.
    {SYS_mmap, When::kAlways, Args::kNotExec, "malloc; a channel's shared memory"},
    {SYS_munmap, When::kAlways, Args::kAny, "malloc; a closed channel"},
    {SYS_mprotect, When::kAlways, Args::kNotExec, "malloc: growing an arena"},
    {SYS_mremap, When::kAlways, Args::kAny, "realloc"},
    {SYS_madvise, When::kAlways, Args::kAny, "malloc; the stack of a thread that ends"},
    {SYS_sched_setaffinity, When::kAlways, Args::kSelf,
     "a channel's thread runs beside its client"},
    {SYS_brk, When::kAlways, Args::kAny, "malloc"},
    {SYS_clock_gettime, When::kAlways, Args::kAny, "bounded spinning, on hosts without the vDSO's"},
    {SYS_rt_sigprocmask, When::kAlways, Args::kAny, "thread identity and the end of a thread"},
    {SYS_rt_sigreturn, When::kAlways, Args::kAny, "after a signal"},
    {SYS_restart_syscall, When::kAlways, Args::kAny, "after SIGSTOP and SIGCONT in a wait"},
    {SYS_write, When::kAlways, Args::kLogFd, "the log"},
#if defined(__SANITIZE_ADDRESS__)
    {SYS_sigaltstack, When::kAlways, Args::kAny, "the sanitizer at the end of a thread"},
    {SYS_sched_yield, When::kAlways, Args::kAny, "the locks of the sanitizer"},
#endif
#if defined(RINGWALL_TSAN)
    {SYS_fstat, When::kAlways, Args::kAny, "the sanitizer looks at descriptors that were received"},
    {SYS_sigaltstack, When::kAlways, Args::kAny, "the sanitizer at the end of a thread"},
    {SYS_sched_yield, When::kAlways, Args::kAny, "the locks of the sanitizer"},
    {SYS_gettimeofday, When::kAlways, Args::kAny, "the sanitizer's own thread"},
    {SYS_nanosleep, When::kAlways, Args::kAny, "the sanitizer's own thread"},
    {SYS_gettid, When::kAlways, Args::kAny, "the sanitizer at the start of a thread"},
    {SYS_getpid, When::kAlways, Args::kAny, "the number before each line of its reports"},
    {SYS_rt_sigaction, When::kAlways, Args::kAny, "the sanitizer at the end"},
#endif
    {SYS_exit, When::kAlways, Args::kAny, "the end of a thread"},
    {SYS_exit_group, When::kAlways, Args::kAny, "the end"},
};

bool Needed(When when, const FilterOptions& options) {
  switch (when) {
    case When::kAlways:
      return true;
    case When::kReadOnly:
      return !options.writable;
    case When::kWritable:
      return options.writable;
    case When::kNameless:
      return options.nameless && !options.writable;
    case When::kConnect:
      return options.connect_sockets;
    case When::kBind:
      return options.bind_sockets;
    case When::kSockets:
      return options.connect_sockets || options.bind_sockets;
  }
  return false;
}

// Adds `row` to the filter; 0 or a negative errno.
int Add(scmp_filter_ctx filter, const Row& row, const FilterOptions& options) {
  auto with = [&](const scmp_arg_cmp& arg) {
    return ::seccomp_rule_add_exact_array(filter, SCMP_ACT_ALLOW, row.number, 1, &arg);
  };
  switch (row.args) {
    case Args::kAny:
      return ::seccomp_rule_add_exact_array(filter, SCMP_ACT_ALLOW, row.number, 0, nullptr);
    case Args::kSelf:
      return with(SCMP_A0(SCMP_CMP_EQ, 0));
    case Args::kLogFd:
      return with(SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(options.log_fd)));
    case Args::kOpenRead:
      return with(SCMP_A2(SCMP_CMP_MASKED_EQ,
                          O_CLOEXEC | O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY),
                          O_CLOEXEC));
    case Args::kOpenWrite:
      return with(SCMP_A2(SCMP_CMP_MASKED_EQ, O_CLOEXEC, O_CLOEXEC));
    case Args::kOpenNew:
      return with(SCMP_A2(SCMP_CMP_MASKED_EQ,
                          O_CLOEXEC | O_ACCMODE | O_CREAT | O_TRUNC | O_EXCL | (O_TMPFILE & ~O_DIRECTORY),
                          O_CLOEXEC | O_RDWR | O_EXCL | (O_TMPFILE & ~O_DIRECTORY)));
    case Args::kNotExec:
      return with(SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    case Args::kUnixSocket:
      return with(SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    case Args::kFcntl:
      for (const int command : {F_DUPFD_CLOEXEC, F_SETFL, F_ADD_SEALS}) {
        const int error = with(SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(command)));
        if (error != 0) return error;
      }
      return 0;
    case Args::kFutex:
      for (const int op : {FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET}) {
        const int error = with(SCMP_A1(SCMP_CMP_MASKED_EQ, FUTEX_CMD_MASK & 0xffffffffu,
                                       static_cast<scmp_datum_t>(op)));
        if (error != 0) return error;
      }
      return 0;
  }
  return -EINVAL;
}

constexpr size_t kRowCount = sizeof(kRows) / sizeof(kRows[0]);

}  // namespace

HostResult<void> InstallFilter(const FilterOptions& options) {
  auto fail = [](int error, const char* what) {
    return HostError::WithErrno(-error, what, "gofer's filter");
  };
  const scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_KILL_PROCESS);
  if (filter == nullptr) return fail(-ENOMEM, "make");
  const std::unique_ptr<void, void (*)(void*)> release(filter,
                                                       [](void* f) { ::seccomp_release(f); });
  for (const auto& [attr, value] :
       {std::pair<scmp_filter_attr, uint32_t>{SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS},
        {SCMP_FLTATR_CTL_NNP, 1},
        {SCMP_FLTATR_CTL_TSYNC, 1},
        {SCMP_FLTATR_CTL_OPTIMIZE, 2}}) {
    if (const int error = ::seccomp_attr_set(filter, attr, value); error != 0) {
      return fail(error, "set up");
    }
  }
  for (const Row& row : kRows) {
    if (!Needed(row.when, options)) continue;
    if (const int error = Add(filter, row, options); error != 0) return fail(error, "fill");
  }
  if (const int error = ::seccomp_load(filter); error != 0) return fail(error, "load");
  return {};
}

std::span<const FilterRow> FilterRows() {
  static const auto rows = [] {
    std::array<FilterRow, kRowCount> list;
    for (size_t i = 0; i < kRowCount; ++i) list[i] = {kRows[i].number, kRows[i].reason};
    return list;
  }();
  return rows;
}

}  // namespace ringwall::gofer
