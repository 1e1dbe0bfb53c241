// Credentials: who a task is (include/linux/cred.h). Immutable and shared; a change makes a copy.
#ifndef RINGWALL_SENTRY_AUTH_CREDENTIALS_H_
#define RINGWALL_SENTRY_AUTH_CREDENTIALS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "sentry/auth/user_namespace.h"
#include "sentry/base/ref.h"

namespace ringwall {

// capabilities(7), by number.
enum class Capability : uint8_t {
  kChown = 0, kDacOverride = 1, kDacReadSearch = 2, kFowner = 3, kFsetid = 4, kKill = 5,
  kSetgid = 6, kSetuid = 7, kSetpcap = 8, kLinuxImmutable = 9, kNetBindService = 10,
  kNetBroadcast = 11, kNetAdmin = 12, kNetRaw = 13, kIpcLock = 14, kIpcOwner = 15,
  kSysModule = 16, kSysRawio = 17, kSysChroot = 18, kSysPtrace = 19, kSysPacct = 20,
  kSysAdmin = 21, kSysBoot = 22, kSysNice = 23, kSysResource = 24, kSysTime = 25,
  kSysTtyConfig = 26, kMknod = 27, kLease = 28, kAuditWrite = 29, kAuditControl = 30,
  kSetfcap = 31, kMacOverride = 32, kMacAdmin = 33, kSyslog = 34, kWakeAlarm = 35,
  kBlockSuspend = 36, kAuditRead = 37, kPerfmon = 38, kBpf = 39, kCheckpointRestore = 40,
};
inline constexpr uint64_t kAllCapabilities = (uint64_t{1} << 41) - 1;

constexpr uint64_t CapBit(Capability c) { return uint64_t{1} << static_cast<int>(c); }

class Credentials : public RefCounted<Credentials> {
 public:
  Uid ruid = 0, euid = 0, suid = 0, fsuid = 0;
  Gid rgid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<Gid> groups;
  uint64_t cap_inheritable = 0, cap_permitted = 0, cap_effective = 0;
  uint64_t cap_bounding = kAllCapabilities, cap_ambient = 0;
  uint32_t securebits = 0;
  bool no_new_privs = false;

  // All ids above are those of the first user namespace.
  UserNamespace& user_ns() const { return *user_ns_; }
  void set_user_ns(Ref<UserNamespace> ns) { user_ns_ = std::move(ns); }

  // Over the whole sandbox (capable()): what a namespace of one's own does not give.
  bool Has(Capability c) const {
    return (cap_effective & CapBit(c)) != 0 && user_ns_->parent() == nullptr;
  }
  // Over one's own user namespace (ns_capable(current_user_ns())).
  bool HasOwn(Capability c) const { return (cap_effective & CapBit(c)) != 0; }
  // Over another user namespace (ns_capable()): there, or as the owner of one on the way down to it.
  bool HasIn(const UserNamespace& ns, Capability c) const;
  // Over an object with these owners (capable_wrt_inode_uidgid()): both must be mapped.
  bool HasOver(Uid uid, Gid gid, Capability c) const {
    return HasOwn(c) &&
           (user_ns_->parent() == nullptr || (user_ns_->UidOut(uid) && user_ns_->GidOut(gid)));
  }
  bool InGroup(Gid gid) const;
  // A copy that may be changed before anyone else sees it.
  Ref<Credentials> Copy() const;

  // uid and gid 0 with all capabilities.
  static Ref<const Credentials> Root();

  // For a task that enters `ns`: all capabilities there, none that its old namespace gave.
  void EnterUserNamespace(Ref<UserNamespace> ns);

  Credentials();

 private:
  Ref<UserNamespace> user_ns_;
};

// Linux's generic permission check on an inode (fs/namei.c:generic_permission without ACLs):
// 0 or EACCES. `want` is MAY_READ 4, MAY_WRITE 2, MAY_EXEC 1.
inline constexpr uint32_t kMayExec = 1, kMayWrite = 2, kMayRead = 4;
bool MayAccess(const Credentials& creds, uint32_t mode, Uid uid, Gid gid, uint32_t want);
// The part of it that capabilities alone decide.
bool MayOverride(const Credentials& creds, uint32_t mode, Uid uid, Gid gid, uint32_t want);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_AUTH_CREDENTIALS_H_
