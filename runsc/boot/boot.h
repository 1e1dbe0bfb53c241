// Boot: the join between runsc (which sets the Sentry's process up) and the kernel (which runs the
// container). Everything the Sentry ever needs of the host is an open descriptor in BootArgs.
//
// The Sentry's process is made in this order (runsc/sandbox/sentry_process.cc):
//   fork by the CLI into new namespaces -> fork of the gofer -> empty root, unprivileged user, no
//   capabilities, no_new_privs, rlimits -> PrepareBoot() -> seccomp filter -> Boot().
// All of it runs on the main thread, and no other thread exists before Boot().
#ifndef RINGWALL_RUNSC_BOOT_BOOT_H_
#define RINGWALL_RUNSC_BOOT_BOOT_H_

#include <sched.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "platform/platform.h"
#include "runsc/net/config.h"
#include "sentry/base/host_error.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// Where the writable layer over a mount of host files lives.
enum class OverlayMode : uint8_t {
  kNone,    // no layer: writes go to the host (or fail with EROFS)
  kMemory,  // memory of the sandbox, bounded by overlay_size
  kDisk,    // nameless files of the host, made by the gofer (--overlay2=...:self and dir=PATH)
};

// What of the host's sockets and FIFOs may be used as such (--host-uds, --host-fifo).
struct HostAccess {
  bool connect_sockets = false, bind_sockets = false, open_fifos = false;
};

// One mount of the container, in the order in which they are to be made. mounts[0] is "/".
struct BootMount {
  // "gofer" for host files, else the Linux type: "tmpfs", "proc", "sysfs", "devtmpfs", "devpts",
  // "mqueue", "cgroup2", "overlay". A type that the kernel lacks is an error naming the mount.
  std::string type;
  std::string source;       // as /proc/mounts shows it
  std::string destination;  // absolute, in the container
  uint64_t flags = 0;       // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, ...
  uint64_t propagation = 0; // MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, perhaps MS_REC; 0: none
  std::string data;         // the remaining options, "size=64k,mode=755"

  // type "gofer" only.
  int gofer_root = -1;          // which of the gofer's roots is mounted (its attach index)
  bool is_file = false;         // that root is not a directory
  bool cache_exclusive = true;  // --file-access: nobody else changes the files
  HostAccess access;
  OverlayMode overlay = OverlayMode::kNone;
  uint64_t overlay_size = 0;    // bytes of the upper layer, 0: half the memory, or what the disk has
  int overlay_root = -1;        // kDisk: which of the gofer's roots the files are made in
};

struct BootRlimit {
  int resource = 0;  // RLIMIT_*
  uint64_t soft = 0, hard = 0;
};

// Capability sets as bit masks, bit n is capability n.
struct BootCaps {
  uint64_t bounding = 0, effective = 0, inheritable = 0, permitted = 0, ambient = 0;
};

struct BootTerminalSize {
  uint16_t rows = 0, cols = 0;
};

// A process to run in the container: its first one, or one of `runsc exec`.
struct BootProcess {
  std::vector<std::string> argv;  // never empty; argv[0] is looked up in envp's PATH
  std::string program;            // run this instead of argv[0], if not empty
  std::vector<std::string> envp;
  std::string cwd = "/";
  bool home_from_passwd = false;  // give it HOME, if envp has none, as /etc/passwd inside says
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  BootCaps caps;
  std::optional<mode_t> umask;
  std::vector<BootRlimit> rlimits;
  bool no_new_privs = false;
  int oom_score_adj = 0;
  int nice = 0;  // what the host's threads have already
  // The classic BPF program of linux.seccomp as struct sock_filter[], to be enforced on the guest
  // by the kernel inside; empty: none.
  std::vector<uint8_t> seccomp_program;
  uint32_t seccomp_flags = 0;

  // stdio[i] is what the process sees as descriptor i: any kind of host file. A stdio[i] that is
  // closed (-1) is closed inside too.
  std::array<UniqueFd, 3> stdio;
  std::vector<UniqueFd> extra_fds;  // 3, 4, ... (--preserve-fds)
  // process.terminal: stdio are one host pty, of which the Sentry makes the process's controlling
  // terminal. For `do` with a tty this is false and host_tty true: the host's terminal passed
  // through, controlling terminal of the container's session.
  bool terminal = false;
  bool host_tty = false;
  BootTerminalSize terminal_size;
  // What the caller of `do` had ignored and blocked, as execve keeps it; bit n-1 is signal n.
  uint64_t ignored_signals = 0, blocked_signals = 0;
};

enum class NetworkMode : uint8_t { kNone, kSandbox, kHost, kUser };

struct BootNetwork {
  NetworkMode mode = NetworkMode::kNone;
  NetworkConfig config;     // kUser; kSandbox's comes with Start over the control channel
  pid_t helper = -1;        // kUser: of the process at the other end
  UniqueFd ports;           // --network=host: over which it opens ports of the host (port_message.h)
  std::string resolv_conf;  // kUser: what /etc/resolv.conf is to say; empty: leave it
};

struct BootSysctl {
  std::string name, value;
};

struct BootDevice {
  std::string path;
  char type = 'c';  // 'c', 'b', 'p'
  int64_t major = 0, minor = 0;
  mode_t mode = 0666;
  uid_t uid = 0;
  gid_t gid = 0;
};

struct BootArgs {
  // Set by PrepareBoot; chosen by platform_name ("systrap", "ptrace", "auto").
  std::string platform_name = "systrap";
  std::unique_ptr<Platform> platform;

  std::string container_id;
  // `runsc do`: the program is not init of its pid namespace but runs beside one, as it does outside.
  bool beside_init = false;
  UniqueFd gofer;  // connection to the gofer (gofer/proto); its end means the gofer died
  std::vector<BootMount> mounts;
  std::vector<BootDevice> devices;  // beyond the default ones of /dev
  std::vector<std::string> masked_paths, readonly_paths;
  BootProcess process;
  std::string hostname, domainname;
  std::vector<BootSysctl> sysctls;
  BootNetwork network;

  // Bounds of the sandbox that the guest is to see and feel; 0: the host's, which PrepareBoot
  // fills in.
  uint64_t memory_limit = 0;
  // Of that, what files and shared memory may take; 0: a share.
  uint64_t file_memory = 0;
  uint32_t cpu_count = 0;
  cpu_set_t cpus = {};  // set by PrepareBoot: the CPUs of this process, at most cpu_count

  // False for `create`: the process starts when Start comes over the control channel.
  bool start_now = true;
  // Listening unix socket for the control channel (control.h), and one connection that exists from
  // the start (`do` and `run` forward signals over it). Either may be -1.
  UniqueFd control_listen;
  UniqueFd control_connection;
  // Connection to the terminal keeper, where process.terminal is set; -1: none.
  UniqueFd terminal_connection;
  // Pipe to the CLI: see StatusPipe. -1: nobody listens any more.
  UniqueFd status_pipe;

  size_t idle_descriptors = SIZE_MAX;  // PrepareBoot: kept of closed files by each mount at most
  int64_t max_names = -1;  // --dcache: names of files kept at most; -1: as many as usual
  bool strace = false;
  std::vector<std::string> strace_syscalls;  // only these; empty: all
  uint32_t strace_log_size = 1024;
  UniqueFd user_log;  // --user-log: messages meant for the container's author
};

// Makes what must be made before the filter goes up: the platform (its zygote) and whatever else
// needs calls that the filter refuses. The root is already empty and the user unprivileged.
HostResult<void> PrepareBoot(BootArgs& args);

// Runs the container. Ends the process with its init's exit code, 128+n when signal n ended it; returns
// 126 or 127 when the program could not be run, after StatusPipe::Fail said why.
int Boot(BootArgs&& args);

// A row of the table of system calls, for who lists it.
struct SyscallSupport {
  unsigned nr;
  const char* name;
  const char* support;  // full, partial, none
  std::string note;     // with "none" the error that it answers
};
std::vector<SyscallSupport> ListSyscalls();

// What the Sentry tells the CLI that waits for it. Each call is one write, async-signal-safe after
// construction; when nobody listens the message goes to the log only.
class StatusPipe {
 public:
  explicit StatusPipe(int fd) : fd_(fd) {}
  // The container is created: mounts made, program found. Sent once.
  void Ready();
  // The program was started (for `run` and `do`; `start` has the control channel's answer).
  void Started();
  // Could not go on. exit_code is what the CLI is to exit with; text says what and what to do.
  void Fail(int exit_code, const char* text);

  struct Message {
    enum class Kind : uint8_t { kReady = 1, kStarted = 2, kFail = 3 };
    Kind kind = Kind::kReady;
    int exit_code = 0;
    std::string text;
  };
  // The CLI's end: blocks for the next message; nullopt at EOF.
  static std::optional<Message> Read(int fd);

 private:
  void Send(Message::Kind kind, int exit_code, const char* text);
  int fd_;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_BOOT_H_
