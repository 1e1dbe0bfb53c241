// POSIX access control lists (acl(5), fs/posix_acl.c): parsing, checking and how they follow modes.
// Inodes keep them as the extended attributes system.posix_acl_access and _default with ids of the
// first user namespace; the VFS translates what guests pass and read.
#ifndef RINGWALL_FS_VFS_ACL_H_
#define RINGWALL_FS_VFS_ACL_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/vfs/inode.h"
#include "sentry/auth/credentials.h"

namespace ringwall {

inline constexpr std::string_view kAclAccess = "system.posix_acl_access";
inline constexpr std::string_view kAclDefault = "system.posix_acl_default";
inline bool IsAclName(std::string_view name) { return name == kAclAccess || name == kAclDefault; }

class PosixAcl {
 public:
  // The bytes of the extended attribute with ids of `ns`; nullopt for a list without entries.
  // EINVAL (not well formed, or an id that is not mapped), EOPNOTSUPP (another version).
  static Result<std::optional<PosixAcl>> Parse(std::string_view bytes, const UserNamespace& ns);
  std::string Serialize(const UserNamespace& ns) const;

  // Whether the ids of `creds` may, by a list on an object of this owner. Capabilities aside.
  bool Allows(const Credentials& creds, Uid uid, Gid gid, uint32_t want) const;
  // Sets the permission bits that the list says in *mode; true when they say all of it.
  bool ToMode(uint32_t* mode) const;
  // After a chmod.
  void TakeMode(uint32_t mode);
  // For a new object that inherits the list: takes off what *mode does not grant, and the reverse.
  // True when the mode says all of it.
  bool Mask(uint32_t* mode);

 private:
  struct Entry {
    uint16_t tag, perm;
    uint32_t id;
  };
  Entry* Find(uint16_t tag);
  bool Valid() const;
  std::vector<Entry> entries_;
};

// The list of an inode, if it has one. Lists that do not parse count as none.
std::optional<PosixAcl> AclOf(Inode& inode, std::string_view name);

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_ACL_H_
