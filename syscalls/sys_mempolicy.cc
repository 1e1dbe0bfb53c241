// NUMA policies (mm/mempolicy.c, mm/migrate.c). Guests see one node, 0: a policy is checked and
// remembered, and every page is where any policy wants it.
#include <linux/mempolicy.h>

#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

constexpr uint64_t kNodeIds = 1024;  // MAX_NUMNODES of distribution kernels
constexpr uint64_t kAllNodes = 1;    // the nodes that there are, as a mask
constexpr int kWeightedInterleave = 6, kModes = 7;
constexpr int kStaticNodes = 1 << 15, kRelativeNodes = 1 << 14, kNumaBalancing = 1 << 13;
constexpr uint64_t kBitsPerPage = kPageSize * 8;

// A mask of nodes. Only the first word can name one that exists. EINVAL (a node beyond all), EFAULT.
struct Nodes {
  uint64_t first = 0;
  bool beyond = false;  // names nodes that do not exist
  bool empty() const { return first == 0 && !beyond; }
};

Result<Nodes> GetNodes(Task& t, GuestAddr mask, uint64_t max_node) {
  Nodes nodes;
  max_node--;
  if (max_node == 0 || max_node == ~uint64_t{0} || mask.IsNull()) return nodes;
  if (max_node > kBitsPerPage) return Errno(EINVAL);
  const size_t words = (max_node + 63) / 64;
  const std::vector<uint64_t> bits = TRY(UserIn<uint64_t>(mask).CopyInArray(t, words));
  for (size_t i = 0; i < words; i++) {
    uint64_t word = bits[i];
    if (i == words - 1 && max_node % 64 != 0) word &= (uint64_t{1} << (max_node % 64)) - 1;
    if (word == 0) continue;
    if (i * 64 >= kNodeIds) return Errno(EINVAL);
    if (i == 0) {
      nodes.first = word;
    } else {
      nodes.beyond = true;
    }
  }
  return nodes;
}

// sanitize_mpol_flags.
Result<void> CheckMode(int mode) {
  const int flags = mode & (kStaticNodes | kRelativeNodes | kNumaBalancing);
  mode &= ~flags;
  if (mode < 0 || mode >= kModes) return Errno(EINVAL);
  if ((flags & kStaticNodes) != 0 && (flags & kRelativeNodes) != 0) return Errno(EINVAL);
  if ((flags & kNumaBalancing) != 0 && mode != MPOL_BIND && mode != MPOL_PREFERRED_MANY) {
    return Errno(EINVAL);
  }
  return {};
}

// mpol_new and mpol_set_nodemask.
// Preconditions: CheckMode(mode).
Result<MemoryPolicy> MakePolicy(int mode, const Nodes& nodes) {
  const int flags = mode & (kStaticNodes | kRelativeNodes | kNumaBalancing);
  mode &= ~flags;
  const bool placed = (flags & (kStaticNodes | kRelativeNodes)) != 0;
  MemoryPolicy policy;
  policy.mode = static_cast<uint16_t>(mode);
  policy.flags = static_cast<uint16_t>(flags);
  switch (mode) {
    case MPOL_DEFAULT:
      if (!nodes.empty()) return Errno(EINVAL);
      return policy;
    case MPOL_PREFERRED:
      if (nodes.empty()) {
        if (placed) return Errno(EINVAL);
        policy.mode = MPOL_LOCAL;
        return policy;
      }
      break;
    case MPOL_LOCAL:
      if (!nodes.empty() || placed) return Errno(EINVAL);
      return policy;
    default:
      if (nodes.empty()) return Errno(EINVAL);
      break;
  }
  // Relative nodes are folded onto those that exist.
  const uint64_t usable = (flags & kRelativeNodes) != 0 ? kAllNodes : nodes.first & kAllNodes;
  if (usable == 0) return Errno(EINVAL);
  policy.nodes = placed ? nodes.first : usable;
  return policy;
}

Result<void> PutNodes(Task& t, GuestAddr mask, uint64_t max_node, uint64_t nodes) {
  uint64_t bytes = ((max_node - 1 + 63) / 64) * 8;
  if (max_node == 0) bytes = 0;
  if (bytes > kPageSize) return Errno(EINVAL);
  std::vector<std::byte> out(bytes);
  if (bytes >= 8) memcpy(out.data(), &nodes, 8);
  return t.CopyOut(mask, out);
}

// The address space of another process, with the permission that ptrace needs. EPERM, ESRCH.
Result<RefPtr<MemoryManager>> MmOf(Task& t, int pid) {
  if (pid == 0 || pid == t.tid()) return RefPtr<MemoryManager>(&t.mm());
  RefPtr<MemoryManager> mm;
  MutexLock lock(t.kernel().tasks().mu);
  Task* target = t.pid_ns().FindTask(pid);
  if (target == nullptr) return Errno(ESRCH);
  Ref<const Credentials> c = target->creds_ref();
  const Credentials& own = t.creds();
  const bool same = own.ruid == c->euid && own.ruid == c->suid && own.ruid == c->ruid;
  if (!same && !own.Has(Capability::kSysPtrace)) return Errno(EPERM);
  mm = target->mm_ref();
  if (!mm) return Errno(EINVAL);
  return mm;
}

}  // namespace

SysResult SysMbind(Task& t, GuestAddr start, uint64_t length, uint64_t mode, GuestAddr nodes_addr,
                   uint64_t max_node, uint32_t flags) {
  constexpr uint32_t kStrict = 1, kMove = 2, kMoveAll = 4;
  if (mode > UINT16_MAX) return Errno(EINVAL);
  TRY(CheckMode(static_cast<int>(mode)));
  const Nodes nodes = TRY(GetNodes(t, nodes_addr, max_node));
  if ((flags & ~(kStrict | kMove | kMoveAll)) != 0) return Errno(EINVAL);
  if ((flags & kMoveAll) != 0 && !t.creds().Has(Capability::kSysNice)) return Errno(EPERM);
  if (!start.IsPageAligned()) return Errno(EINVAL);
  const std::optional<uint64_t> size = PageUp(length);
  if (!size) return Errno(EINVAL);
  const std::optional<GuestRange> range = GuestRange::Make(start, *size);
  if (!range) return Errno(EINVAL);
  if (range->empty()) return 0;
  const MemoryPolicy policy = TRY(MakePolicy(static_cast<int>(mode), nodes));
  TRY(t.mm().SetPolicy(*range, policy.mode | policy.flags, policy.nodes));
  return 0;
}

SysResult SysSetMempolicy(Task& t, int mode, GuestAddr nodes_addr, uint64_t max_node) {
  TRY(CheckMode(mode));
  const Nodes nodes = TRY(GetNodes(t, nodes_addr, max_node));
  const MemoryPolicy policy = TRY(MakePolicy(mode, nodes));
  t.memory_policy.With([&](MemoryPolicy& p) { p = policy; });
  return 0;
}

SysResult SysGetMempolicy(Task& t, GuestAddr mode_out, GuestAddr nodes, uint64_t max_node,
                          GuestAddr addr, uint64_t flags) {
  constexpr uint64_t kNode = 1, kAddr = 2, kAllowed = 4;
  if ((flags & ~(kNode | kAddr | kAllowed)) != 0) return Errno(EINVAL);
  if (!nodes.IsNull() && max_node < 1) return Errno(EINVAL);
  int32_t mode = 0;
  uint64_t mask = 0;
  if ((flags & kAllowed) != 0) {
    if ((flags & (kNode | kAddr)) != 0) return Errno(EINVAL);
    mask = kAllNodes;
  } else {
    MemoryPolicy policy = t.memory_policy.With([](const MemoryPolicy& p) { return p; });
    if ((flags & kAddr) != 0) {
      const std::optional<Vma> vma = t.mm().Find(addr);
      if (!vma) return Errno(EFAULT);
      constexpr uint16_t kFlags = kStaticNodes | kRelativeNodes | kNumaBalancing;
      // A mapping without one shows the default, not the task's.
      policy = MemoryPolicy{};
      if (vma->policy_mode != 0) {
        policy.mode = vma->policy_mode & static_cast<uint16_t>(~kFlags);
        policy.flags = vma->policy_mode & kFlags;
        policy.nodes = vma->policy_nodes;
      }
    } else if (!addr.IsNull()) {
      return Errno(EINVAL);
    }
    if ((flags & kNode) != 0) {
      // The node of the page, or of the next that interleaving takes: there is one.
      if ((flags & kAddr) == 0 && policy.mode != MPOL_INTERLEAVE &&
          policy.mode != kWeightedInterleave) {
        return Errno(EINVAL);
      }
      if ((flags & kAddr) != 0) {
        // Where the page is can be said of one that a load could have.
        const std::optional<Vma> vma = t.mm().Find(addr);
        std::byte one;
        if (!vma || (vma->prot & PROT_READ) == 0) return Errno(EFAULT);
        TRY(t.CopyIn(addr, std::span(&one, 1)));
      }
      mode = 0;
    } else {
      mode = policy.mode | policy.flags;
    }
    mask = policy.nodes;
  }
  if (!mode_out.IsNull()) {
    TRY(UserOut<int32_t>(mode_out).CopyOut(t, mode));
  }
  if (nodes.IsNull()) return 0;
  return Zero(PutNodes(t, nodes, max_node, mask));
}

SysResult SysMigratePages(Task& t, int pid, uint64_t max_node, GuestAddr from, GuestAddr to) {
  TRY(GetNodes(t, from, max_node));
  const Nodes target = TRY(GetNodes(t, to, max_node));
  TRY(MmOf(t, pid));
  const bool outside = (target.first & ~kAllNodes) != 0 || target.beyond;
  if (outside && !t.creds().Has(Capability::kSysNice)) return Errno(EPERM);
  if ((target.first & kAllNodes) == 0) return Errno(EINVAL);
  return 0;
}

SysResult SysMovePages(Task& t, int pid, uint64_t count, GuestAddr pages, GuestAddr nodes,
                       GuestAddr status, int flags) {
  if ((flags & ~(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL)) != 0) return Errno(EINVAL);
  if ((flags & MPOL_MF_MOVE_ALL) != 0 && !t.creds().Has(Capability::kSysNice)) {
    return Errno(EPERM);
  }
  const RefPtr<MemoryManager> mm = TRY(MmOf(t, pid));
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t page = TRY(UserIn<uint64_t>(pages + i * 8).CopyIn(t));
    int32_t node = 0;
    if (!nodes.IsNull()) {
      node = TRY(UserIn<int32_t>(nodes + i * 4).CopyIn(t));
      if (node != 0) return Errno(ENODEV);
    }
    int32_t answer = -EFAULT;
    if (mm->Find(GuestAddr(page))) {
      const GuestAddr at = GuestAddr(page).PageDown();
      answer = mm->ResidentIn({at, at + kPageSize}) != 0 ? node : -ENOENT;
    }
    TRY(UserOut<int32_t>(status + i * 4).CopyOut(t, answer));
    if ((t.PendingMask() & abi::SigBit(SIGKILL)) != 0 || t.tg().group_exit) break;
  }
  return 0;
}

SysResult SysSetMempolicyHomeNode(Task& t, GuestAddr start, uint64_t length, uint64_t node,
                                  uint64_t flags) {
  if (!start.IsPageAligned() || flags != 0 || node != 0) return Errno(EINVAL);
  const std::optional<uint64_t> size = PageUp(length);
  if (!size) return Errno(EINVAL);
  const std::optional<GuestRange> range = GuestRange::Make(start, *size);
  if (!range) return Errno(EINVAL);
  if (range->empty()) return 0;
  bool any = false;
  for (const Vma& vma : t.mm().List()) {
    if (!vma.range.Overlaps(*range)) continue;
    any = true;
    const int mode = vma.policy_mode & 0xff;
    if (vma.policy_mode != 0 && mode != MPOL_BIND && mode != MPOL_PREFERRED_MANY) {
      return Errno(EOPNOTSUPP);
    }
  }
  return any ? SysResult(0) : Errno(ENOENT);
}

}  // namespace ringwall
