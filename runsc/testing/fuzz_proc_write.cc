// libFuzzer: writes to the files of /proc that take them, and reads of the same. Input: again and again
// the file, what to do with it, the length of the text, the text.
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>

#include "runsc/testing/call_script.h"

namespace ringwall::testing {
namespace {

constexpr std::array<const char*, 56> kFiles = {
    "self/autogroup", "self/clear_refs", "self/comm", "self/coredump_filter", "self/gid_map", "self/oom_adj",
    "self/oom_score_adj", "self/projid_map", "self/sched", "self/setgroups", "self/timerslack_ns", "self/uid_map",
    "self/mem", "self/attr/current", "self/loginuid", "self/task/self/comm", "self/fdinfo/0", "self/pagemap",
    "sys/kernel/hostname", "sys/kernel/domainname", "sys/kernel/core_pattern", "sys/kernel/pid_max",
    "sys/kernel/sem", "sys/kernel/shmmax", "sys/kernel/shmall", "sys/kernel/shmmni", "sys/kernel/msgmax",
    "sys/kernel/msgmnb", "sys/kernel/msgmni", "sys/kernel/ns_last_pid", "sys/kernel/yama/ptrace_scope",
    "sys/kernel/printk", "sys/kernel/dmesg_restrict", "sys/kernel/randomize_va_space", "sys/kernel/sched_child_runs_first",
    "sys/vm/overcommit_memory", "sys/vm/drop_caches", "sys/vm/max_map_count", "sys/vm/swappiness",
    "sys/fs/file-max", "sys/fs/nr_open", "sys/fs/pipe-max-size", "sys/fs/mqueue/msg_max", "sys/fs/inotify/max_user_watches",
    "sys/user/max_user_namespaces",
    "sys/net/core/somaxconn", "sys/net/core/rmem_max", "sys/net/ipv4/ip_forward", "sys/net/ipv4/ip_local_port_range",
    "sys/net/ipv4/tcp_rmem", "sys/net/ipv4/tcp_congestion_control", "sys/net/ipv4/ping_group_range",
    "sys/net/ipv4/conf/all/forwarding", "sys/net/ipv6/conf/lo/disable_ipv6", "sys/net/ipv4/ip_local_reserved_ports",
    "sys/net/ipv4/tcp_fastopen"};

class ProcWrite final : public CallScript {
 public:
  using CallScript::CallScript;

 protected:
  // In namespaces of its own, whose maps are still to be written.
  std::optional<ScriptCall> SetUp(size_t step) override {
    if (step == 0) return ScriptCall{SYS_unshare, {CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET}};
    return std::nullopt;
  }

  ScriptCall FromInput(FuzzBytes& in) override {
    const uint8_t what = in.Byte();
    if (!open_) {
      open_ = true;
      std::string path = std::string("/proc/") + in.OneOf(kFiles);
      return {SYS_openat, {uint64_t(AT_FDCWD), PutString(path), what % 3u, 0}};
    }
    switch (what % 8) {
      case 0:
        open_ = false;
        return {SYS_close, {0}};
      case 1: return {SYS_pread64, {0, Room(4096), in.Size() % 4096, in.Size()}};
      case 2: return {SYS_lseek, {0, in.Size(), in.Byte() % 5u}};
      default: {
        const std::span<const uint8_t> text = in.Some();
        const uint64_t at = Put(text);
        if ((what & 8) != 0) return {SYS_pwrite64, {0, at, text.size(), in.Size()}};
        return {SYS_write, {0, at, text.size()}};
      }
    }
  }

 private:
  bool open_ = false;
};

}  // namespace
}  // namespace ringwall::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return ringwall::testing::RunInput<ringwall::testing::ProcWrite>(data, size);
}
