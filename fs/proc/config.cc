// /proc/config.gz: what this kernel has and has not, as a Linux configuration would say it. Programs
// look here before they try (container checks, LTP).
#include <array>
#include <cstdint>
#include <string_view>

#include "fs/proc/internal.h"

namespace ringwall::proc {

namespace {

// Names without CONFIG_.
constexpr const char* kHas[] = {
    "64BIT", "X86_64", "X86", "MMU", "SMP", "NUMA", "IKCONFIG", "IKCONFIG_PROC",
    // processes
    "MULTIUSER", "NAMESPACES", "UTS_NS", "IPC_NS", "USER_NS", "PID_NS", "NET_NS", "SYSVIPC",
    "SYSVIPC_SYSCTL", "POSIX_MQUEUE", "POSIX_MQUEUE_SYSCTL", "CROSS_MEMORY_ATTACH",
    "CHECKPOINT_RESTORE", "KCMP", "SECCOMP", "SECCOMP_FILTER", "HIGH_RES_TIMERS", "POSIX_TIMERS",
    "FUTEX", "FUTEX_PI", "MEMBARRIER", "PRINTK", "SYSFS_SYSCALL", "BINFMT_ELF", "BINFMT_SCRIPT",
    // files
    "EPOLL", "SIGNALFD", "TIMERFD", "EVENTFD", "AIO", "FHANDLE", "FILE_LOCKING", "DNOTIFY",
    "INOTIFY_USER", "FS_POSIX_ACL", "PROC_FS", "PROC_SYSCTL", "SYSFS", "TMPFS", "TMPFS_XATTR",
    "TMPFS_POSIX_ACL", "MEMFD_CREATE", "DEVTMPFS", "OVERLAY_FS", "ADVISE_SYSCALLS", "UNIX98_PTYS",
    "TTY", "SHMEM", "KSM",
    // network
    "NET", "PACKET", "UNIX", "INET", "IPV6", "NETFILTER", "NETFILTER_XTABLES", "IP_NF_IPTABLES",
    "IP6_NF_IPTABLES", "VETH", "BRIDGE", "VLAN_8021Q", "TUN", "INET_DIAG", "UNIX_DIAG",
    "NETLINK_DIAG"};
constexpr const char* kHasNot[] = {
    "SWAP", "MODULES", "CGROUPS", "TIME_NS", "IO_URING", "USERFAULTFD", "FANOTIFY", "KEYS",
    "BPF_SYSCALL", "PERF_EVENTS", "SECURITY_LANDLOCK", "FUSE_FS", "QUOTA", "BSD_PROCESS_ACCT",
    "HUGETLBFS", "BLK_DEV_LOOP", "BLK_DEV_RAM", "EXT4_FS", "XFS_FS", "BTRFS_FS", "KVM", "PREEMPT_RT",
    "RT_GROUP_SCHED", "MEMORY_FAILURE", "IP_SCTP", "TLS", "RDS", "CRYPTO_USER", "KEXEC",
    "MODIFY_LDT_SYSCALL", "X86_IOPL_IOPERM"};

std::string ConfigText() {
  std::string text = "#\n# Ringwall 6.12.0: what a Linux built like this would have\n#\n";
  for (const char* name : kHas) text += Format("CONFIG_%s=y\n", name);
  text += "CONFIG_PGTABLE_LEVELS=4\nCONFIG_HZ=100\nCONFIG_NODES_SHIFT=10\n";
  text += "CONFIG_DEFAULT_HOSTNAME=\"(none)\"\n";
  for (const char* name : kHasNot) text += Format("# CONFIG_%s is not set\n", name);
  return text;
}

uint32_t Crc32(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

void PutLe(std::string* out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) out->push_back(static_cast<char>(value >> (8 * i)));
}

// RFC 1952 with one stored block (RFC 1951, 3.2.4).
std::string Gzip(const std::string& text) {
  constexpr std::array<unsigned char, 10> kHeader = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3};
  RW_CHECK(text.size() <= UINT16_MAX);
  std::string out(kHeader.begin(), kHeader.end());
  out.push_back(1);  // the last block, stored
  PutLe(&out, text.size(), 2);
  PutLe(&out, ~text.size(), 2);
  out += text;
  PutLe(&out, Crc32(text), 4);
  PutLe(&out, text.size(), 4);
  return out;
}

}  // namespace

void AddConfig(StaticDirectory& root) {
  const std::string text = Gzip(ConfigText());
  TextOps ops;
  ops.read = [text]() -> Result<std::string> { return std::string(text); };
  ops.style.seeks = TextStyle::Seeks::kPlain;
  ops.style.size = text.size();
  root.Add("config.gz", MakeRef<TextInode>(root.fs(), InoOf(root.ino(), "config.gz"), 0444u, std::move(ops)));
}

}  // namespace ringwall::proc
