#include "gofer/main.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "gofer/filter.h"
#include "gofer/server/server.h"
#include "sentry/base/log.h"
#include "sentry/base/resident.h"

namespace ringwall::gofer {

namespace {

#ifndef OPEN_TREE_CLONE
constexpr unsigned OPEN_TREE_CLONE = 1;
#endif
#ifndef SYS_close_range
constexpr long SYS_close_range = 436;
#endif

// For files of any owner, as the root of a container may have them. None makes a device node or
// mounts anything.
constexpr uint64_t kKeptCapabilities = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE |
                                       1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER |
                                       1u << CAP_FSETID;

// Descriptors that are not handles: the connection, the roots, channels, and those open for the
// length of a request.
constexpr uint32_t kOtherDescriptors = 64;
constexpr uint32_t kMostHandles = 1 << 20;

void CloseOthers(std::vector<int> keep) {
  keep.insert(keep.end(), {0, 1, 2, GetLogConfig().fd});
  std::sort(keep.begin(), keep.end());
  unsigned first = 0;
  auto close_up_to = [&](unsigned last) {
    if (first > last) return;
    if (::syscall(SYS_close_range, first, last, 0) == 0) return;
    rlimit limit = {};  // before Linux 5.9
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const unsigned end = static_cast<unsigned>(std::min<rlim_t>(limit.rlim_cur, 1 << 16));
    for (unsigned fd = first; fd <= last && fd < end; ++fd) ::close(static_cast<int>(fd));
  };
  for (const int fd : keep) {
    if (fd < 0) continue;
    if (fd > 0) close_up_to(static_cast<unsigned>(fd) - 1);
    first = static_cast<unsigned>(fd) + 1;
  }
  close_up_to(~0u);
}

// Makes /proc/self/fd the working directory, if it can as a mount of its own: then not even ".."
// leads from it to the rest of /proc.
bool EnterProcSelfFd(int proc) {
  const int at = proc >= 0 ? proc : AT_FDCWD;
  const char* path = proc >= 0 ? "self/fd" : "/proc/self/fd";
  UniqueFd dir(static_cast<int>(
      ::syscall(SYS_open_tree, at, path, OPEN_TREE_CLONE | static_cast<unsigned>(O_CLOEXEC))));
  if (!dir) dir = UniqueFd(::openat(at, path, O_PATH | O_DIRECTORY | O_CLOEXEC));
  return dir && ::fchdir(dir.get()) == 0;
}

bool DropCapabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  for (int cap = 0; cap <= CAP_LAST_CAP; ++cap) {
    // Fails without CAP_SETPCAP, where there is little to drop.
    if ((kKeptCapabilities >> cap & 1) == 0) ::prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
  }
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  for (int word = 0; word < 2; ++word) {
    data[word].permitted &= static_cast<uint32_t>(kKeptCapabilities >> (32 * word));
    data[word].effective = data[word].permitted;
    data[word].inheritable = 0;
  }
  return ::syscall(SYS_capset, &header, data) == 0;
}

// Raises the limit on descriptors as far as it goes; returns how many handles that leaves.
uint32_t HandleLimit(uint32_t wanted) {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t most = std::min<rlim_t>(limit.rlim_cur, kMostHandles + kOtherDescriptors);
  const uint32_t room =
      static_cast<uint32_t>(std::max<rlim_t>(most, 2 * kOtherDescriptors)) - kOtherDescriptors;
  return wanted == 0 ? room : std::min(wanted, room);
}

}  // namespace

int GoferMain(GoferOptions options) {
  auto fail = [](const HostError& error) {
    RW_LOG(kError, "gofer: %s", error.message().c_str());
    return 1;
  };
  ::mallopt(M_ARENA_MAX, 1);  // its threads hardly allocate
  ::umask(0);
  SessionOptions session;
  const bool entered = options.proc_self_fd ? ::fchdir(options.proc_self_fd.get()) == 0
                                            : EnterProcSelfFd(options.proc.get());
  session.proc = {.prefix = "", .available = entered};
  if (!session.proc.available) {
    if (options.strict) return fail(HostError::Last("enter", "/proc/self/fd"));
    RW_LOG(kWarning, "gofer: no /proc; modes and xattrs of host files cannot be changed");
    if (::chdir("/") != 0) return fail(HostError::Last("enter", "/"));
  }
  options.proc.reset();
  options.proc_self_fd.reset();

  std::vector<int> keep = std::move(options.keep_fds);
  keep.push_back(options.socket.get());
  FilterOptions filter = {.log_fd = GetLogConfig().fd};
  for (const Root& root : options.roots) {
    keep.push_back(root.fd.get());
    filter.writable |= !root.read_only && !root.nameless;
    filter.nameless |= root.nameless;
    filter.connect_sockets |= root.connect_sockets;
    filter.bind_sockets |= root.bind_sockets;
  }
  CloseOthers(std::move(keep));
  session.max_handles = HandleLimit(options.max_handles);
  session.max_channels = options.channels;
  session.roots = std::move(options.roots);

  const rlimit no_core = {};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !DropCapabilities()) {
    const HostError error = HostError::Last("give up", "capabilities");
    if (options.strict) return fail(error);
    RW_LOG(kWarning, "gofer: %s", error.message().c_str());
  }

  HostResult<std::unique_ptr<Server>> server =
      Server::Create(std::move(options.socket), std::move(session));
  if (!server.ok()) return fail(server.error());
  if (HostResult<void> installed = InstallFilter(filter); !installed.ok()) {
    if (options.strict) return fail(installed.error());
    RW_LOG(kWarning, "gofer: %s", installed.error().message().c_str());
  }
  ForgetCode();  // what built the filter, too: its tables are most of the program's constants
  (*server)->Serve();
  // Ends with the process, not before: a hostile client could keep a channel's thread from waking.
  (void)server->release();
  return 0;
}

}  // namespace ringwall::gofer
