// seccomp(2) and its older form in prctl(2) (kernel/seccomp.c).
#include <linux/seccomp.h>

#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr uint32_t kFlags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG |
                            SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;

// struct sock_fprog.
struct ProgramAbi {
  uint16_t length, pad[3];
  uint64_t filter;
};

// struct seccomp_notif_sizes.
struct NotifSizes {
  uint16_t notification, response, data;
};

SysResult SetFilter(Task& t, uint32_t flags, GuestAddr addr) {
  if ((flags & ~kFlags) != 0) return Errno(EINVAL);
  const ProgramAbi program = TRY(UserIn<ProgramAbi>(addr).CopyIn(t));
  if (program.length == 0 || program.length > bpf::kMaxInsns) return Errno(EINVAL);
  if (!t.creds().no_new_privs && !t.creds().HasOwn(Capability::kSysAdmin)) return Errno(EACCES);
  if (program.filter == 0) return Errno(EINVAL);
  const std::vector<bpf::Insn> insns =
      TRY(UserIn<bpf::Insn>(GuestAddr(program.filter)).CopyInArray(t, program.length));
  bpf::SeccompFilter filter = TRY(bpf::SeccompFilter::Create(insns));
  return t.SetSeccompFilter(flags, std::move(filter));
}

SysResult ActionAvailable(Task& t, GuestAddr addr) {
  const uint32_t action = TRY(UserIn<uint32_t>(addr).CopyIn(t));
  switch (action) {
    case SECCOMP_RET_KILL_PROCESS:
    case SECCOMP_RET_KILL_THREAD:
    case SECCOMP_RET_TRAP:
    case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ALLOW:
      return 0;
    default:
      return Errno(EOPNOTSUPP);
  }
}

}  // namespace

SysResult SysSeccomp(Task& t, uint32_t op, uint32_t flags, GuestAddr args) {
  switch (op) {
    case SECCOMP_SET_MODE_STRICT:
      if (flags != 0 || !args.IsNull()) return Errno(EINVAL);
      return t.SetSeccompStrict();
    case SECCOMP_SET_MODE_FILTER:
      return SetFilter(t, flags, args);
    case SECCOMP_GET_ACTION_AVAIL:
      if (flags != 0) return Errno(EINVAL);
      return ActionAvailable(t, args);
    case SECCOMP_GET_NOTIF_SIZES: {
      if (flags != 0) return Errno(EINVAL);
      const NotifSizes sizes = {sizeof(seccomp_notif), sizeof(seccomp_notif_resp),
                                sizeof(seccomp_data)};
      return Zero(UserOut<NotifSizes>(args).CopyOut(t, sizes));
    }
    default:
      return Errno(EINVAL);
  }
}

SysResult PrctlSetSeccomp(Task& t, uint64_t mode, GuestAddr filter) {
  switch (mode) {
    case SECCOMP_MODE_STRICT:
      return t.SetSeccompStrict();
    case SECCOMP_MODE_FILTER:
      return SetFilter(t, 0, filter);
    default:
      return Errno(EINVAL);
  }
}

}  // namespace ringwall
